//! Published ports: sockets of the host whose callers are let into the switch.
//!
//! Theory of operation. The control plane binds the sockets, so that it can refuse what the host refuses, and hands
//! them over. What arrives becomes packets from the caller to the host's own address, as they would come by an
//! interface: so the switch's rules translate them, and the container sees who calls. A connection is then a flow
//! like those that go out; a datagram is a packet, and an answer finds its socket by the address it comes from,
//! which no outgoing flow has.
//!
//! A caller whom the switch could not answer (the host's loopback, an address that is also one inside) is given the
//! far end's address, and its own port if that is free. Of a connection its socket remembers who it is; of datagrams
//! a table of the latest such callers does.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use mio::Interest;
use mio::event::Event;
use nix::errno::Errno;
use nix::libc::{SOCK_CLOEXEC, SOCK_NONBLOCK};
use nix::sys::socket::{setsockopt, sockopt};
use slab::Slab;
use socket2::{Domain, Protocol as Transport, SockAddr, Socket, Type};

use super::datagram;
use super::half_open::Opener;
use super::policy::Policy;
use super::{Kind, Shared, slot_of, tcp, token};
use crate::control::compile::Listener;
use crate::control::ports::Protocol;
use crate::dataplane::{Frame, Instant};
use crate::flows::segment::{Ends, udp_datagram};
use crate::io::descriptors::with_room;
use crate::wire::ip::{Addr, Version};
use crate::wire::udp::HEADER_LEN;

/// Connections that the kernel keeps for us; it takes its own limit if that is lower.
const BACKLOG: i32 = 4096;
/// Connections accepted before somebody else has a turn: each is a frame or two.
const TURN: usize = 4;
/// Callers by datagrams that are known by another address.
const MAX_CALLERS: usize = 4096;
/// Ports tried for a caller who is known by another address.
const PORTS: u16 = 64;
/// When it is tried again to accept, after there was no room for more.
const PATIENCE: Duration = Duration::from_millis(50);

/// Binds a listener's socket on the host.
///
/// # Errors
/// What the host refuses: EADDRINUSE, EACCES, EADDRNOTAVAIL, EMFILE.
pub fn bind(listener: &Listener) -> io::Result<Socket> {
    let address = SocketAddr::new(listener.address, listener.port);
    let (kind, protocol) = match listener.protocol {
        Protocol::Tcp => (Type::STREAM, Transport::TCP),
        Protocol::Udp => (Type::DGRAM, Transport::UDP),
    };
    let socket = Socket::new(Domain::for_address(address), kind.nonblocking().cloexec(), Some(protocol))?;
    let socket = with_room(socket)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    match (listener.protocol, address.is_ipv4()) {
        // Of UDP it would let two have the same port.
        (Protocol::Tcp, _) => socket.set_reuse_address(true)?,
        (Protocol::Udp, true) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
        (Protocol::Udp, false) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
    }
    socket.bind(&SockAddr::from(address))?;
    if listener.protocol == Protocol::Tcp {
        socket.listen(BACKLOG)?;
    }
    Ok(socket)
}

/// All listeners of the device.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    entries: Slab<Entry>,
    index: HashMap<Listener, usize>,
    ready: VecDeque<usize>,
    /// Those that have callers for whom there was no room, and when they are asked again.
    starved: Vec<usize>,
    retry: Option<Instant>,
    generation: u32,
    callers: Callers,
}

#[derive(Debug)]
struct Entry {
    listener: Listener,
    socket: Socket,
    generation: u32,
    queued: bool,
}

/// What a turn of a listener came to.
enum Turn {
    /// Nobody calls any more.
    Done,
    /// There may be more.
    More,
    /// There is no room for more.
    Starved,
    /// It has filled the frame.
    Frame,
}

impl Listeners {
    pub(super) fn has_frames(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) const fn next_deadline(&self) -> Option<Instant> {
        self.retry
    }

    /// Begins to serve a socket.
    pub(super) fn add(&mut self, listener: Listener, socket: Socket, shared: &Shared) {
        self.generation = self.generation.wrapping_add(1) & 0x0fff_ffff;
        let (entry, generation) = (self.entries.vacant_entry(), self.generation);
        let slot = entry.key();
        // Only for want of memory; the port is then bound and nobody answers.
        let _ = shared.register(&socket, token(Kind::Listener, slot, generation), Interest::READABLE);
        entry.insert(Entry { listener, socket, generation, queued: false });
        // Who came before the registration is told of by it.
        self.index.insert(listener, slot);
    }

    /// Closes a listener; connections that were accepted go on.
    pub(super) fn remove(&mut self, listener: &Listener) {
        if let Some(slot) = self.index.remove(listener) {
            self.ready.retain(|ready| *ready != slot);
            self.starved.retain(|starved| *starved != slot);
            let _ = self.entries.try_remove(slot);
        }
    }

    fn queue(&mut self, slot: usize) {
        if let Some(entry) = self.entries.get_mut(slot)
            && !entry.queued
        {
            entry.queued = true;
            self.ready.push_back(slot);
        }
    }

    /// Somebody calls.
    pub(super) fn on_event(&mut self, event: &Event) {
        let (slot, generation) = slot_of(event.token());
        if self.entries.get(slot).is_some_and(|entry| entry.generation == generation) {
            self.queue(slot);
        }
    }

    /// Time has passed.
    pub(super) fn on_time(&mut self, now: Instant) {
        if self.retry.is_some_and(|at| at <= now) {
            self.retry = None;
            self.ready.extend(self.starved.drain(..));
        }
    }

    /// Lets callers in; whether one has filled the frame.
    pub(super) fn next_frame(
        &mut self,
        now: Instant,
        frame: &mut Frame,
        flows: &mut tcp::Flows,
        shared: &mut Shared,
    ) -> bool {
        for _ in 0..TURN {
            let Some(slot) = self.ready.pop_front() else { return false };
            let Some(entry) = self.entries.get_mut(slot) else { continue };
            let turn = match entry.listener.protocol {
                Protocol::Tcp => accept(entry, now, flows, shared),
                Protocol::Udp => receive(entry, frame, &mut self.callers, shared),
            };
            match turn {
                Turn::Done => entry.queued = false,
                Turn::Starved => {
                    self.starved.push(slot);
                    self.retry.get_or_insert(now + PATIENCE);
                }
                Turn::More | Turn::Frame => self.ready.push_back(slot),
            }
            if matches!(turn, Turn::Frame) {
                return true;
            }
        }
        false
    }

    /// The socket that answers with these ends are sent by, if they are answers to a caller, and the caller.
    pub(super) fn answered(&self, ends: &Ends, policy: &Policy) -> Option<(&Socket, SocketAddr)> {
        if self.index.is_empty() || policy.is_inside(ends.destination) {
            return None;
        }
        let any = match ends.destination.version() {
            Version::V4 => Addr::UNSPECIFIED_V4,
            Version::V6 => Addr::UNSPECIFIED_V6,
        };
        let (protocol, port) = (Protocol::Udp, ends.destination_port);
        let key = |address: Addr| Listener { protocol, address: address.into(), port };
        let slot = self.index.get(&key(ends.destination)).or_else(|| self.index.get(&key(any)))?;
        let caller = match self.callers.known.get(ends) {
            Some(caller) => *caller,
            None => SocketAddr::new(ends.source.into(), ends.source_port),
        };
        Some((&self.entries.get(*slot)?.socket, caller))
    }
}

/// Accepts one connection.
fn accept(entry: &Entry, now: Instant, flows: &mut tcp::Flows, shared: &mut Shared) -> Turn {
    if !flows.has_room(Opener::Outside(entry.listener.port)) {
        return Turn::Starved;
    }
    let accepted = entry.socket.accept4(SOCK_NONBLOCK | SOCK_CLOEXEC);
    let (accepted, caller) = match accepted.and_then(|(new, caller)| Ok((with_room(new)?, caller))) {
        Ok(accepted) => accepted,
        Err(error) => {
            return match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EAGAIN) => Turn::Done,
                // Of the connection, which has ended before it was accepted (accept(2)).
                Some(Errno::ECONNABORTED | Errno::EINTR) => Turn::More,
                // There is no descriptor or memory left for one more; what else there may be passes.
                _ => Turn::Starved,
            };
        }
    };
    let called = accepted.local_addr().ok().and_then(|called| called.as_socket());
    let ends = match (caller.as_socket(), called) {
        (Some(caller), Some(called)) => {
            let called = (Addr::from(called.ip()), called.port());
            enter(caller, called, &shared.policy, |ends| !flows.has(ends))
        }
        _ => None,
    };
    match ends {
        // Without memory for one more it sees its connection end.
        Some(ends) => drop(flows.accept(now, ends, accepted, shared)),
        // A reset, as if nobody were there.
        None => drop(accepted.set_linger(Some(Duration::ZERO))),
    }
    Turn::More
}

/// The ends of a caller's packets, as the switch is to see them: with the far end's address if it could not answer
/// the caller's own, and a port that is `free` with it. `None` when there are none.
fn enter(
    caller: SocketAddr,
    called: (Addr, u16),
    policy: &Policy,
    mut free: impl FnMut(&Ends) -> bool,
) -> Option<Ends> {
    let source = policy.caller(caller.ip().into())?;
    let with = |source_port| Ends { source, source_port, destination: called.0, destination_port: called.1 };
    let tries = if source == Addr::from(caller.ip()) { 1 } else { PORTS };
    let mut ports = (0..tries).map(|step| caller.port().wrapping_add(step).max(1));
    ports.find_map(|port| Some(with(port)).filter(|ends| free(ends)))
}

/// Callers by datagrams who are known by another address: the latest.
#[derive(Debug, Default)]
struct Callers {
    known: HashMap<Ends, SocketAddr>,
    order: VecDeque<Ends>,
}

impl Callers {
    /// Remembers who is known by these ends; false when somebody else is.
    fn remember(&mut self, ends: &Ends, caller: SocketAddr) -> bool {
        if let Some(known) = self.known.get(ends) {
            return *known == caller;
        }
        if self.known.len() >= MAX_CALLERS
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.known.insert(*ends, caller);
        self.order.push_back(*ends);
        true
    }
}

/// Takes the next datagram in.
fn receive(entry: &Entry, frame: &mut Frame, callers: &mut Callers, shared: &Shared) -> Turn {
    let version = if entry.listener.address.is_ipv4() { Version::V4 } else { Version::V6 };
    let start = Ends::network_len_of(version) + HEADER_LEN;
    let space = frame.space().get_mut(start..).unwrap_or_default();
    let (len, caller, called) = match datagram::receive(entry.socket.as_fd(), space) {
        Ok(Some(received)) => received,
        Ok(None) => return Turn::Done,
        Err(_) => return Turn::Starved,
    };
    let called = (Addr::from(called), entry.listener.port);
    let ends = enter(caller, called, &shared.policy, |ends| {
        ends.source == Addr::from(caller.ip()) || callers.remember(ends, caller)
    });
    let datagram = ends.and_then(|ends| udp_datagram(frame.space(), &shared.link, &ends, len, None));
    let Some((len, offload)) = datagram else { return Turn::More };
    frame.filled(len);
    frame.offload = offload;
    Turn::Frame
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::wire::ip::Prefix;

    fn policy() -> Policy {
        let addr = |text: &str| Addr::from(text.parse::<IpAddr>().unwrap());
        Policy {
            far_end: vec![addr("192.0.0.2"), addr("fd00::2")],
            inside: vec![Prefix::new(addr("172.17.0.0"), 16), Prefix::new(addr("192.0.0.0"), 29)],
            ..Policy::default()
        }
    }

    #[test]
    fn callers_keep_their_address_where_they_can_be_answered() {
        let called = (Addr::v4([10, 0, 0, 1]), 8000);
        let table = [
            ("203.0.113.9:5555", "203.0.113.9", 5555),
            ("10.0.0.1:5555", "10.0.0.1", 5555),
            ("127.0.0.1:5555", "192.0.0.2", 5555),
            ("172.17.3.4:5555", "192.0.0.2", 5555),
            ("192.0.0.1:5555", "192.0.0.2", 5555),
            ("169.254.1.1:5555", "192.0.0.2", 5555),
            ("[2001:db8::9]:80", "2001:db8::9", 80),
            ("[::1]:80", "fd00::2", 80),
            ("[fe80::1]:80", "fd00::2", 80),
        ];
        for (caller, source, port) in table {
            let ends = enter(caller.parse().unwrap(), called, &policy(), |_| true).unwrap();
            let expected = (source.parse::<IpAddr>().unwrap().into(), port);
            assert_eq!((ends.source, ends.source_port), expected, "{caller}");
        }
        let none = Policy { far_end: Vec::new(), ..policy() };
        assert_eq!(enter("127.0.0.1:80".parse().unwrap(), called, &none, |_| true), None);
    }

    #[test]
    fn another_port_where_it_is_taken() {
        let called = (Addr::v4([127, 0, 0, 1]), 8000);
        let enter = |caller: &str, taken: &[u16]| {
            let ends =
                enter(caller.parse().unwrap(), called, &policy(), |it| !taken.contains(&it.source_port));
            ends.map(|ends| ends.source_port)
        };
        assert_eq!(enter("127.0.0.1:5555", &[5555, 5556]), Some(5557));
        assert_eq!(enter("127.0.0.1:65535", &[65535]), Some(1), "there is no port 0");
        assert_eq!(enter("203.0.113.9:5555", &[5555]), None, "its address stays, so its port does");
    }

    #[test]
    fn the_latest_callers_are_remembered() {
        let mut callers = Callers::default();
        let ends = |port: u16| Ends {
            source: Addr::v4([192, 0, 0, 2]),
            source_port: port,
            destination: Addr::v4([127, 0, 0, 1]),
            destination_port: 53,
        };
        let caller = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(callers.remember(&ends(1), caller("127.0.0.1:1")));
        assert!(callers.remember(&ends(1), caller("127.0.0.1:1")));
        assert!(!callers.remember(&ends(1), caller("127.0.0.2:1")));
        for port in 2..=u16::try_from(MAX_CALLERS).unwrap() + 1 {
            assert!(callers.remember(&ends(port), caller("127.0.0.1:1")));
        }
        assert_eq!((callers.known.len(), callers.order.len()), (MAX_CALLERS, MAX_CALLERS));
        assert!(!callers.known.contains_key(&ends(1)), "the oldest went");
    }

    #[test]
    fn what_is_bound_twice_is_refused() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let any = Listener { protocol, address: [127, 0, 0, 1].into(), port: 0 };
            let first = bind(&any).unwrap();
            let port = first.local_addr().unwrap().as_socket().unwrap().port();
            let again = bind(&Listener { port, ..any }).unwrap_err();
            assert_eq!(again.kind(), io::ErrorKind::AddrInUse, "{protocol:?}");
        }
    }
}
