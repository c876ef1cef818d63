//! The control plane's own poll loop: connections, pidfds, signals, reports.

use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

use anyhow::Context;
use crossbeam_channel::{Receiver, TryRecvError};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use super::runtime::Runtime;
use super::{Answer, Daemon, Handled};
use crate::control::requests::{Envelope, OLDEST, Reply, VERSION};
use crate::control::{Id, Kind, Refused};
use crate::io::control_socket::{Connection, Message, ProtocolError};
use crate::io::descriptors::{self, Room};
use crate::io::event_loop::Event;

const LISTENER: Token = Token(usize::MAX);
const SIGNALS: Token = Token(usize::MAX - 1);
const REPORTS: Token = Token(usize::MAX - 2);
const RESOLV_CONF: Token = Token(usize::MAX - 3);
/// Tokens below are connections (even), pidfds and monitors (odd).
const MAX_CONNECTIONS: usize = 8192;

/// The loop's state; the daemon proper is handed to [`ControlLoop::run`].
pub(super) struct ControlLoop {
    poll: Poll,
    listener: UnixListener,
    /// Connections wait that were not accepted for want of descriptors; no edge will tell again.
    starved: bool,
    signals: SignalFd,
    connections: BTreeMap<usize, Connection>,
    next_token: usize,
    /// Pidfds in the poll set, and whose end they tell.
    pidfds: BTreeMap<usize, (OwnedFd, Id)>,
    /// Monitors in the poll set, and whose interface they tell of.
    monitors: BTreeMap<usize, (OwnedFd, Id)>,
    /// Connections that wait for a container's end.
    waiting: Vec<(usize, Id)>,
}

/// Blocks the signals that end the daemon in this thread and all it starts, and hands back
/// the descriptor that tells of them.
pub(super) fn block_signals() -> anyhow::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

impl ControlLoop {
    /// Listens on the runtime's socket. The waker is for reports from the switch loop.
    pub(super) fn listen(runtime: &Runtime, signals: SignalFd) -> anyhow::Result<(Self, Arc<Waker>)> {
        let path = runtime.socket();
        let listener =
            UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let poll = Poll::new()?;
        register(poll.registry(), &listener, LISTENER, Interest::READABLE)?;
        register(poll.registry(), &signals, SIGNALS, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), REPORTS)?);
        let inner = Self {
            poll,
            listener,
            starved: false,
            signals,
            connections: BTreeMap::new(),
            next_token: 0,
            pidfds: BTreeMap::new(),
            monitors: BTreeMap::new(),
            waiting: Vec::new(),
        };
        Ok((inner, waker))
    }

    /// Runs until the daemon is done, then ends its containers unless they are to outlive it.
    pub(super) fn run(mut self, mut daemon: Daemon, reports: &Receiver<Event>) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(128);
        let mut again = None;
        if let Some(watch) = &daemon.resolv_conf {
            register(self.poll.registry(), watch, RESOLV_CONF, Interest::READABLE)?;
        }
        while !daemon.is_done(self.connections.keys().copied()) {
            match self.poll.poll(&mut events, again) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other.context("the control loop cannot poll")?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(&mut daemon),
                    SIGNALS => daemon.stopping |= matches!(self.signals.read_signal(), Ok(Some(_))),
                    RESOLV_CONF => daemon.resolv_conf_ready(),
                    REPORTS => take_reports(&mut daemon, reports),
                    Token(token) if token % 2 == 1 => self.other_ready(&mut daemon, token),
                    Token(token) => self.serve_connection(&mut daemon, token, event.is_writable()),
                }
            }
            self.watch_new_processes(&mut daemon);
            again = daemon.save_changes();
            self.answer_waiting(&mut daemon);
            self.tell_supervisors(&mut daemon, None);
            if self.starved {
                // This turn may have closed something.
                self.accept(&mut daemon);
            }
        }
        // Supervisors see their connections close after that, and find their containers' directories, or not.
        daemon.finish();
        Ok(())
    }

    /// Hands out notices, but for those to `asking`, who waits for an answer first.
    fn tell_supervisors(&mut self, daemon: &mut Daemon, asking: Option<usize>) {
        for (token, notice, descriptor) in daemon.notices.extract_if(.., |(token, ..)| Some(*token) != asking)
        {
            if let (Some(connection), Ok(text)) =
                (self.connections.get_mut(&token), serde_json::to_vec(&notice))
            {
                // One that does not listen holds nothing, and loses it with us.
                let _ = connection.send_with(&text, &[descriptor.as_fd()]);
            }
        }
    }

    fn accept(&mut self, daemon: &mut Daemon) {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    if self.connections.len() >= MAX_CONNECTIONS || !is_allowed(&stream) {
                        continue;
                    }
                    if descriptors::room(stream.as_fd()) == Room::Last {
                        turn_away(stream, daemon.too_few_descriptors());
                        continue;
                    }
                    // A client that cannot be registered is closed, and sees that.
                    let _ = self.admit(stream);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.starved = error.kind() != ErrorKind::WouldBlock;
                    return;
                }
            }
        }
    }

    fn admit(&mut self, stream: UnixStream) -> anyhow::Result<()> {
        let connection = Connection::new(stream)?;
        let token = self.new_token(0);
        register(self.poll.registry(), &connection, Token(token), Interest::READABLE | Interest::WRITABLE)?;
        self.connections.insert(token, connection);
        Ok(())
    }

    /// A token that was never used: even for connections, odd for pidfds and monitors.
    fn new_token(&mut self, parity: usize) -> usize {
        self.next_token += 2;
        self.next_token + parity
    }

    fn serve_connection(&mut self, daemon: &mut Daemon, token: usize, writable: bool) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let flushed = if writable { connection.flush() } else { Ok(()) };
        let received = flushed.and_then(|()| connection.receive());
        let closed = match received {
            Ok((messages, closed)) => {
                let alive = messages.into_iter().all(|message| self.answer(daemon, token, message));
                closed || !alive
            }
            Err(error) => {
                // The peer may be gone already; if not, it learns why it is closed.
                let refused = match &error {
                    ProtocolError::Io(error) if error.raw_os_error() == Some(nix::libc::EMFILE) => {
                        daemon.too_few_descriptors()
                    }
                    _ => Refused::new(Kind::BadRequest, error.to_string()),
                };
                let _ = self.reply(token, Err(refused));
                true
            }
        };
        if closed {
            self.connections.remove(&token);
            self.waiting.retain(|(waiting, _)| *waiting != token);
            daemon.connection_closed(token);
        }
    }

    /// Answers one message; false when the connection is to be closed.
    fn answer(&mut self, daemon: &mut Daemon, token: usize, message: Message) -> bool {
        let handled =
            parse(&message.text).and_then(|envelope| daemon.handle(token, envelope.request, message));
        // What is answered outlives us.
        let noted = daemon.note_changes();
        self.tell_supervisors(daemon, Some(token));
        match (handled, noted) {
            (Ok(Answer::WhenEnded(id)), _) => {
                self.waiting.push((token, id));
                true
            }
            (Ok(Answer::Now(value)), Ok(())) => self.reply(token, Ok(value)),
            (Ok(Answer::Now(value)), Err(why)) => self.send(token, &Reply::Remarked(value, why)),
            (Err(refused), _) => self.reply(token, Err(refused)),
        }
    }

    fn reply(&mut self, token: usize, result: Result<serde_json::Value, Refused>) -> bool {
        let reply = match result {
            Ok(value) => Reply::Ok(value),
            Err(refused) => Reply::Error(refused),
        };
        self.send(token, &reply)
    }

    fn send(&mut self, token: usize, reply: &Reply) -> bool {
        let Some(connection) = self.connections.get_mut(&token) else { return false };
        serde_json::to_vec(reply).is_ok_and(|text| connection.send(&text).is_ok())
    }

    /// Containers that were started since the last turn: watch for their end.
    fn watch_new_processes(&mut self, daemon: &mut Daemon) {
        let fresh = daemon.take_new_pidfds();
        if !fresh.is_empty() {
            // A process may well outlive what it was plugged in as.
            self.pidfds.retain(|_, (_, id)| daemon.watches(*id));
        }
        for (id, pidfd) in fresh {
            let token = self.new_token(1);
            // Without the watch its supervisor's word still tells of its end.
            if register(self.poll.registry(), &pidfd, Token(token), Interest::READABLE).is_ok() {
                self.pidfds.insert(token, (pidfd, id));
            }
        }
        // A monitor's descriptor keeps the namespace alive.
        self.monitors.retain(|_, (_, id)| daemon.follows(*id));
        for (id, monitor) in daemon.take_new_monitors() {
            let token = self.new_token(1);
            // Without the watch its state is still true when somebody asks for it.
            if register(self.poll.registry(), &monitor, Token(token), Interest::READABLE).is_ok() {
                self.monitors.insert(token, (monitor, id));
            }
        }
    }

    fn other_ready(&mut self, daemon: &mut Daemon, token: usize) {
        if let Some((_, id)) = self.pidfds.remove(&token) {
            daemon.process_ended(id);
        }
        if let Some((_, id)) = self.monitors.get(&token)
            && !daemon.parent_changed(*id)
        {
            self.monitors.remove(&token);
        }
    }

    fn answer_waiting(&mut self, daemon: &mut Daemon) {
        let ended: HashMap<Id, Handled> = daemon.take_ended().into_iter().collect();
        if ended.is_empty() {
            return;
        }
        for (token, id) in std::mem::take(&mut self.waiting) {
            match ended.get(&id) {
                Some(Ok(Answer::Now(code))) => drop(self.reply(token, Ok(code.clone()))),
                Some(_) | None => self.waiting.push((token, id)),
            }
        }
    }
}

/// Handles what the switch loop reported; without a switch loop there is nothing to go on for.
pub(super) fn take_reports(daemon: &mut Daemon, reports: &Receiver<Event>) {
    loop {
        match reports.try_recv() {
            Ok(report) => daemon.on_event(report),
            Err(TryRecvError::Empty) => return,
            Err(TryRecvError::Disconnected) => {
                daemon.stopping = true;
                return;
            }
        }
    }
}

fn parse(text: &[u8]) -> Result<Envelope, Refused> {
    #[derive(serde::Deserialize)]
    struct Version {
        version: u32,
    }
    let bad =
        |error: serde_json::Error| Refused::new(Kind::BadRequest, format!("this is not a request: {error}"));
    let Version { version } = serde_json::from_slice(text).map_err(bad)?;
    if !(OLDEST..=VERSION).contains(&version) {
        let (pid, newer) = (std::process::id(), if version > VERSION { "client's" } else { "daemon's" });
        return Err(Refused::new(
            Kind::BadRequest,
            format!(
                "the client speaks version {version} of the control protocol and the daemon (pid {pid}) versions \
                 {OLDEST} to {VERSION}: use the {newer} tapswitch for both; to replace the daemon: kill {pid}, \
                 and 'tapswitch daemon -d' (containers go on)"
            ),
        ));
    }
    serde_json::from_slice(text).map_err(bad)
}

fn register(
    registry: &Registry,
    source: &impl AsFd,
    token: Token,
    interest: Interest,
) -> std::io::Result<()> {
    registry.register(&mut SourceFd(&source.as_fd().as_raw_fd()), token, interest)
}

/// Tells a client why it cannot stay.
fn turn_away(stream: UnixStream, refused: Refused) {
    // It may be gone already.
    if let (Ok(mut connection), Ok(text)) =
        (Connection::new(stream), serde_json::to_vec(&Reply::Error(refused)))
    {
        let _ = connection.send(&text);
    }
}

/// Only the daemon's own user and root may ask it for anything.
fn is_allowed(stream: &UnixStream) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    getsockopt(stream, PeerCredentials).is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_clients_are_understood_and_newer_ones_are_told() {
        let asked = |version: u32| parse(format!("{{\"version\":{version},\"op\":\"status\"}}").as_bytes());
        assert!((OLDEST..=VERSION).all(|version| asked(version).is_ok()));
        // One that has a word which we do not know is told about its version, not about the word.
        let text = format!("{{\"version\":{},\"op\":\"of the future\"}}", VERSION + 1);
        let said = parse(text.as_bytes()).unwrap_err().message;
        let own = std::process::id();
        assert!(said.contains("the client's tapswitch") && said.contains(&format!("kill {own}")), "{said}");
        assert!(asked(OLDEST - 1).unwrap_err().message.contains("the daemon's tapswitch"));
    }
}
