//! Questions that wait for an upstream's answer.
//!
//! Theory of operation. A question is a [`Query`] until it is answered: whom it is asked for, the message as
//! it came, and the *leg* it is on: the upstream that is being asked, and from which address, port and id of
//! ours. An answer counts only if it comes by that way, from that upstream, with that id, to that question
//! (RFC 5452 §9). An upstream that is silent for [`PATIENCE`] or says that it cannot help is followed by the
//! next one, and that is done twice over (`ROUNDS`), but for those that refused. When all have failed, who
//! asked is told so.
//!
//! Who asks what is being asked already, byte for byte but for the id, waits for the same answer. So does a
//! question that is repeated, which waits but once.
//!
//! *Limits.* Who waits is counted, in all, per port and per question; a few of each port may always wait. Each leg has an end, so each question
//! has one, and what is kept for an upstream's counters is no more than is configured.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::cache::{Key, Scope};
use super::message::Question;
use super::sessions::SessionId;
use crate::dataplane::{Instant, NetworkId, PortId};
use crate::wire::MacAddr;
use crate::wire::ip::Addr;

/// How long an upstream may think.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// How often each upstream is asked.
const ROUNDS: u32 = 2;
/// Upstreams that are asked about one question, at most.
pub const MAX_UPSTREAMS: usize = 8;

/// How many may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In all.
    pub askers: usize,
    /// Of one port.
    pub port: usize,
    /// Of each port, however many wait in all: nobody can take the others' place.
    pub reserved: usize,
    /// For one answer.
    pub query: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { askers: 2048, port: 128, reserved: 4, query: 32 }
    }
}

/// A question's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueryId(u64);

/// By which way an answer goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// By UDP.
    Udp {
        /// The MAC address that the question came from.
        mac: MacAddr,
        /// The address and port that it came from.
        source: (Addr, u16),
        /// The gateway's address that it was sent to.
        gateway: Addr,
    },
    /// By a TCP connection.
    Tcp(SessionId),
}

/// Somebody who waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    /// The port that he is behind.
    pub port: PortId,
    /// What names the question to him.
    pub id: u16,
    /// How the answer reaches him.
    pub via: Via,
}

/// The upstream that is being asked, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leg {
    /// Its place among the question's upstreams.
    pub place: usize,
    /// Its address and port.
    pub upstream: SocketAddr,
    /// The network that leads to it.
    pub egress: NetworkId,
    /// The next hop there.
    pub hop: Addr,
    /// Our address and port.
    pub local: (Addr, u16),
    /// What names the question to it.
    pub id: u16,
    /// The connection to it; none by UDP.
    pub stream: Option<SessionId>,
}

/// What is to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Whose upstreams are asked.
    pub scope: Scope,
    /// What the answer will be known by.
    pub key: Key,
    /// The upstreams, in order.
    pub upstreams: Vec<SocketAddr>,
    /// Whether who asks takes an answer of any length.
    pub whole: bool,
    /// The message as it came.
    pub message: Box<[u8]>,
}

/// What makes two questions the same.
type Sameness = (Scope, bool, Box<[u8]>);

/// A question that waits for its answer.
#[derive(Debug)]
pub struct Query {
    /// What is asked.
    pub request: Request,
    /// Who waits; the first one is whose question it is.
    pub askers: Vec<Asker>,
    /// Who is being asked.
    pub leg: Option<Leg>,
    /// How many legs there were.
    tried: u32,
    /// The upstreams that need not be asked again.
    refused: u8,
    deadline: Instant,
    /// Whether other upstreams are asked by now: its answer is for who waits, and for nobody else.
    pub outdated: bool,
}

impl Query {
    /// How far it has come: see [`Request::next`].
    pub const fn progress(&self) -> (u32, u8) {
        (self.tried, self.refused)
    }

    /// The port whose question it is.
    pub fn owner(&self) -> Option<PortId> {
        self.askers.first().map(|asker| asker.port)
    }

    fn sameness(&self) -> Sameness {
        sameness(&self.request)
    }
}

fn sameness(request: &Request) -> Sameness {
    (request.scope, request.whole, request.message.get(2..).unwrap_or_default().into())
}

/// What an upstream has been asked, and has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UpstreamCounters {
    /// Questions that it was asked.
    pub queries: u64,
    /// Answers that it gave.
    pub answers: u64,
    /// Questions that it did not answer in time.
    pub timeouts: u64,
    /// Questions that it could not answer, or that could not be sent to it.
    pub failures: u64,
    /// Answers from its address that were to no question of ours.
    pub mismatched: u64,
}

/// See the module's theory of operation.
#[derive(Debug, Default)]
pub struct Forwarder {
    limits: Limits,
    queries: BTreeMap<QueryId, Query>,
    last: u64,
    same: BTreeMap<Sameness, QueryId>,
    /// By our address and port.
    legs: BTreeMap<(Addr, u16), QueryId>,
    deadlines: BTreeSet<(Instant, QueryId)>,
    /// How many wait, by port.
    waiting: BTreeMap<PortId, usize>,
    /// Connections of legs that have ended.
    ended: Vec<SessionId>,
    askers: usize,
    /// What became of the upstreams that are configured.
    pub upstreams: BTreeMap<SocketAddr, UpstreamCounters>,
}

impl Forwarder {
    /// Nobody waits yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Whether one more of a port may wait.
    pub fn has_room(&self, port: PortId) -> bool {
        let of_port = self.waiting.get(&port).copied().unwrap_or_default();
        let Limits { askers, port, reserved, .. } = self.limits;
        of_port < reserved || self.askers < askers && of_port < port
    }

    /// The query that asks the same already, if there is room to wait for it.
    pub fn same(&self, request: &Request) -> Option<QueryId> {
        let id = *self.same.get(&sameness(request))?;
        let query = self.queries.get(&id)?;
        (query.askers.len() < self.limits.query).then_some(id)
    }

    /// A query.
    pub fn get(&self, id: QueryId) -> Option<&Query> {
        self.queries.get(&id)
    }

    /// How many wait.
    pub const fn waiting(&self) -> usize {
        self.askers
    }

    /// Begins to ask. The first leg is to be [set](Self::set_leg), or the query closed.
    pub fn open(&mut self, request: Request, asker: Asker) -> QueryId {
        self.last += 1;
        let id = QueryId(self.last);
        let (askers, deadline) = (vec![asker], Instant::default());
        self.count(asker.port);
        let query = Query { request, askers, leg: None, tried: 0, refused: 0, deadline, outdated: false };
        self.same.insert(query.sameness(), id);
        self.queries.insert(id, query);
        id
    }

    /// Somebody else waits for the same answer, if he does not do so already.
    pub fn join(&mut self, id: QueryId, asker: Asker) -> bool {
        let Some(query) = self.queries.get_mut(&id).filter(|query| !query.askers.contains(&asker)) else {
            return false;
        };
        query.askers.push(asker);
        self.count(asker.port);
        true
    }

    fn count(&mut self, port: PortId) {
        self.askers += 1;
        *self.waiting.entry(port).or_default() += 1;
    }

    fn uncount(&mut self, port: PortId) {
        self.askers -= 1;
        if let Some(count) = self.waiting.get_mut(&port) {
            *count -= 1;
            if *count == 0 {
                self.waiting.remove(&port);
            }
        }
    }

    /// Goes on to the next upstream: its place.
    pub fn advance(&mut self, id: QueryId) -> Option<usize> {
        self.end_leg(id);
        let query = self.queries.get_mut(&id)?;
        let (place, tried) = query.request.next(query.tried, query.refused)?;
        query.tried = tried;
        Some(place)
    }

    /// The upstream in this place need not be asked again.
    pub fn refuse(&mut self, id: QueryId, place: usize) {
        let Some(query) = self.queries.get_mut(&id) else { return };
        query.refused |= 1u8.checked_shl(place as u32).unwrap_or_default();
        if let Some(upstream) = query.request.upstreams.get(place).copied() {
            self.counters(upstream, |counters| counters.failures += 1);
        }
    }

    /// An upstream was asked.
    pub fn set_leg(&mut self, now: Instant, id: QueryId, leg: Leg) {
        self.end_leg(id);
        let Some(query) = self.queries.get_mut(&id) else { return };
        query.leg = Some(leg);
        query.deadline = now + PATIENCE;
        self.deadlines.insert((query.deadline, id));
        if leg.stream.is_none() {
            self.legs.insert(leg.local, id);
        }
        self.counters(leg.upstream, |counters| counters.queries += 1);
    }

    fn end_leg(&mut self, id: QueryId) {
        let Some(query) = self.queries.get_mut(&id) else { return };
        match query.leg.take() {
            Some(Leg { stream: Some(session), .. }) => self.ended.push(session),
            Some(leg) => _ = self.legs.remove(&leg.local),
            None => {}
        }
        self.deadlines.remove(&(query.deadline, id));
    }

    /// The query whose leg a packet comes back on: by this network, from an upstream's address and port to
    /// one of ours.
    pub fn on_leg(&self, network: NetworkId, from: (Addr, u16), to: (Addr, u16)) -> Option<QueryId> {
        let id = *self.legs.get(&to)?;
        let leg = self.queries.get(&id)?.leg?;
        let upstream = (Addr::from(leg.upstream.ip()), leg.upstream.port());
        (leg.egress == network && upstream == from).then_some(id)
    }

    /// A connection whose leg has ended.
    pub fn ended_stream(&mut self) -> Option<SessionId> {
        self.ended.pop()
    }

    /// Whether one of our addresses and ports is in use.
    pub fn is_taken(&self, local: (Addr, u16)) -> bool {
        self.legs.contains_key(&local)
    }

    /// A query has come to its end.
    pub fn close(&mut self, id: QueryId) -> Option<Query> {
        self.end_leg(id);
        let query = self.queries.remove(&id)?;
        let sameness = query.sameness();
        if self.same.get(&sameness) == Some(&id) {
            self.same.remove(&sameness);
        }
        query.askers.iter().for_each(|asker| self.uncount(asker.port));
        Some(query)
    }

    /// A query whose upstream was silent for too long.
    pub fn expired(&mut self, now: Instant) -> Option<QueryId> {
        let (_, id) = self.deadlines.first().filter(|(deadline, _)| *deadline <= now).copied()?;
        if let Some(leg) = self.queries.get(&id).and_then(|query| query.leg) {
            self.counters(leg.upstream, |counters| counters.timeouts += 1);
        }
        Some(id)
    }

    /// When the next upstream has been silent for too long.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Counts at an upstream that is configured.
    pub fn counters(&mut self, upstream: SocketAddr, count: impl FnOnce(&mut UpstreamCounters)) {
        if let Some(counters) = self.upstreams.get_mut(&upstream) {
            count(counters);
        }
    }

    /// Nobody behind a port waits any more.
    pub fn forget_port(&mut self, port: PortId) {
        self.forget(|asker, _| asker.port == port);
    }

    /// A network has other upstreams from now on.
    pub fn outdate(&mut self, network: NetworkId) {
        self.same.retain(|(scope, ..), _| scope.network != network);
        let queries = self.queries.values_mut();
        queries
            .filter(|query| query.request.scope.network == network)
            .for_each(|query| query.outdated = true);
    }

    /// Nobody on a network waits any more.
    pub fn forget_network(&mut self, network: NetworkId) {
        self.forget(|_, request| request.scope.network == network);
    }

    fn forget(&mut self, which: impl Fn(&Asker, &Request) -> bool) {
        let (mut gone, mut empty) = (Vec::new(), Vec::new());
        for (id, query) in &mut self.queries {
            let request = &query.request;
            query.askers.retain(|asker| {
                let goes = which(asker, request);
                gone.extend(goes.then_some(asker.port));
                !goes
            });
            empty.extend(query.askers.is_empty().then_some(*id));
        }
        gone.into_iter().for_each(|port| self.uncount(port));
        empty.into_iter().for_each(|id| _ = self.close(id));
    }
}

impl Request {
    /// The next upstream to be asked from a try on: which one, and the number of the try after it.
    pub fn next(&self, mut tried: u32, refused: u8) -> Option<(usize, u32)> {
        let upstreams = self.upstreams.len().min(MAX_UPSTREAMS);
        let tries = ROUNDS * upstreams as u32;
        while tried < tries {
            let place = tried as usize % upstreams;
            tried += 1;
            if refused & 1 << place == 0 {
                return Some((place, tried));
            }
        }
        None
    }

    /// The question.
    pub fn question(&self) -> Option<Question<'_>> {
        Question::parse(&self.message).ok()
    }
}

#[cfg(test)]
mod tests;
