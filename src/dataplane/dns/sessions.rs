//! TCP connections with containers that ask, and with upstreams that are asked.
//!
//! Theory of operation. A session is known by the tuple of the packets that come. What happens to one may make
//! others *ready*: an answer for it has come, or its time; who has changed something runs the ready ones until
//! there are none. A session with a container ends ten seconds after the last message (RFC 7766 §6.2.3), one
//! with an upstream with the question's leg.
//!
//! *Limits.* Sessions are counted in all and per port; one that is too many is refused by a reset, so that who
//! holds many waits for his own. A session reads no more questions than may wait.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::forward::QueryId;
use super::stream::Stream;
use crate::dataplane::conntrack::Tuple;
use crate::dataplane::originate::Departure;
use crate::dataplane::{Instant, NetworkId, PortId};
use crate::wire::MacAddr;

/// How long a container may be silent.
pub const IDLE: Duration = Duration::from_secs(10);
/// Questions of one session that wait for answers.
pub const PIPELINE: usize = 4;

/// How many there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In all.
    pub sessions: usize,
    /// Of one port, or because of its questions.
    pub port: usize,
    /// Of each port, however many there are in all: nobody can take the others' place.
    pub reserved: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { sessions: 512, port: 16, reserved: 2 }
    }
}

/// A session's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(u64);

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::dataplane) enum Purpose {
    /// A container asks: its MAC address.
    Serves(MacAddr),
    /// An upstream is asked, by this way.
    Asks(QueryId, Departure),
}

/// One connection.
#[derive(Debug)]
pub(in crate::dataplane) struct Session {
    pub(in crate::dataplane) purpose: Purpose,
    /// The port that asks, or for which is asked.
    pub(in crate::dataplane) port: PortId,
    /// The network that its packets come by.
    pub(in crate::dataplane) network: NetworkId,
    /// Of the packets that come.
    tuple: Tuple,
    pub(in crate::dataplane) stream: Stream,
    /// Questions that wait for answers.
    pub(in crate::dataplane) waiting: usize,
    /// When it is closed, if nothing happens before; of a closed one, when it is forgotten.
    pub(in crate::dataplane) deadline: Option<Instant>,
    pub(in crate::dataplane) is_closing: bool,
    /// When it is due.
    due: Option<Instant>,
}

impl Session {
    pub(in crate::dataplane) const fn new(
        purpose: Purpose,
        port: PortId,
        network: NetworkId,
        tuple: Tuple,
        stream: Stream,
    ) -> Self {
        let (waiting, deadline, is_closing, due) = (0, None, false, None);
        Self { purpose, port, network, tuple, stream, waiting, deadline, is_closing, due }
    }
}

/// See the module's theory of operation.
#[derive(Debug, Default)]
pub struct Sessions {
    limits: Limits,
    sessions: BTreeMap<SessionId, Session>,
    last: u64,
    tuples: BTreeMap<Tuple, SessionId>,
    ports: BTreeMap<PortId, usize>,
    timers: BTreeSet<(Instant, SessionId)>,
    ready: BTreeSet<SessionId>,
}

impl Sessions {
    /// Whether there may be one more because of a port.
    pub fn has_room(&self, port: PortId) -> bool {
        let of_port = self.ports.get(&port).copied().unwrap_or_default();
        let Limits { sessions, port, reserved } = self.limits;
        of_port < reserved || self.sessions.len() < sessions && of_port < port
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// The session of packets with this tuple that come by a network.
    pub fn find(&self, network: NetworkId, tuple: &Tuple) -> Option<SessionId> {
        let id = *self.tuples.get(tuple)?;
        (self.sessions.get(&id)?.network == network).then_some(id)
    }

    /// Whether packets with this tuple are some session's.
    pub fn is_taken(&self, tuple: &Tuple) -> bool {
        self.tuples.contains_key(tuple)
    }

    pub(in crate::dataplane) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.sessions.get_mut(&id)
    }

    /// Begins a session, which is ready.
    pub(in crate::dataplane) fn open(&mut self, session: Session) -> SessionId {
        self.last += 1;
        let id = SessionId(self.last);
        self.tuples.insert(session.tuple, id);
        *self.ports.entry(session.port).or_default() += 1;
        self.sessions.insert(id, session);
        self.ready.insert(id);
        id
    }

    /// Ends a session; nothing is sent.
    pub fn remove(&mut self, id: SessionId) {
        let Some(session) = self.sessions.remove(&id) else { return };
        self.tuples.remove(&session.tuple);
        self.ready.remove(&id);
        if let Some(due) = session.due {
            self.timers.remove(&(due, id));
        }
        if let Some(count) = self.ports.get_mut(&session.port) {
            *count -= 1;
            if *count == 0 {
                self.ports.remove(&session.port);
            }
        }
    }

    /// There is something to be done about a session.
    pub fn wake(&mut self, id: SessionId) {
        if self.sessions.contains_key(&id) {
            self.ready.insert(id);
        }
    }

    /// An answer to a question that waited; none if there will be none.
    pub fn answer(&mut self, now: Instant, id: SessionId, answer: Option<&[u8]>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.waiting = session.waiting.saturating_sub(1);
        session.deadline = Some(now + IDLE);
        if let Some(answer) = answer {
            session.stream.send(answer);
        }
        self.ready.insert(id);
    }

    /// A session with something to be done.
    pub fn next_ready(&mut self) -> Option<SessionId> {
        self.ready.pop_first()
    }

    /// Those whose time has come are ready.
    pub fn expire(&mut self, now: Instant) {
        while let Some((due, id)) = self.timers.first().filter(|(due, _)| *due <= now).copied() {
            self.timers.remove(&(due, id));
            if let Some(session) = self.sessions.get_mut(&id) {
                session.due = None;
                self.ready.insert(id);
            }
        }
    }

    /// Sets a session's timer.
    pub fn plan(&mut self, now: Instant, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if let Some(due) = session.due.take() {
            self.timers.remove(&(due, id));
        }
        session.due = session.stream.next_timeout(now).into_iter().chain(session.deadline).min();
        self.timers.extend(session.due.map(|due| (due, id)));
    }

    /// When a session is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        match self.ready.is_empty() {
            true => self.timers.first().map(|(due, _)| *due),
            false => Some(Instant::default()),
        }
    }

    /// Nobody behind a port has a connection any more.
    pub fn forget_port(&mut self, port: PortId) {
        self.forget(|session| session.port == port);
    }

    /// Nobody on a network has a connection any more.
    pub fn forget_network(&mut self, network: NetworkId) {
        self.forget(|session| session.network == network);
    }

    fn forget(&mut self, which: impl Fn(&Session) -> bool) {
        let gone = self.sessions.iter().filter(|(_, session)| which(session)).map(|(id, _)| *id);
        gone.collect::<Vec<_>>().into_iter().for_each(|id| self.remove(id));
    }
}
