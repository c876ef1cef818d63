//! Sockets of flows without connections: how UDP and ICMP echo get theirs, and lose them.
//!
//! Theory of operation. `flows::mappings` knows whose socket is which, and how long; here are the sockets and the
//! calls. A mapping that was given up, because it is over or its descriptor is needed, costs nobody a datagram but
//! those that were on their way to it: the next one makes it anew.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::Interest;
use mio::event::Event;
use nix::errno::Errno;

use super::errors::HostError;
use super::host_socket::{Carries, HostSocket};
use super::policy::{Fate, Policy};
use super::{Kind, Share, Shared, link, slot_of, token};
use crate::dataplane::Instant;
use crate::flows::mappings::{Key, Lifetimes, Mapping, Mappings, Reach};
use crate::flows::segment::Ends;
use crate::io::descriptors;
use crate::io::device::DeviceError;
use crate::wire::icmp::{v4, v6};
use crate::wire::ip::{Addr, Version};
use crate::wire::packet::Packet;

/// Mappings at a time; the one that would end first goes.
const MAX_MAPPINGS: usize = 1 << 18;
/// Descriptors that are left for others, an eighth at most.
const RESERVED: u64 = 64;
/// How often a socket is asked again that answers with an error of what was sent.
const TRIES: usize = 4;
/// When it is asked again after that: what it holds already brings no edge of its own any more.
const RETRY: Duration = Duration::from_millis(50);

/// A mapping's socket, and whose share of the descriptors it is of.
#[derive(Debug)]
pub(super) struct Mapped {
    pub(super) socket: HostSocket,
    share: Share,
}

/// All sockets of one protocol.
#[derive(Debug)]
pub(super) struct Sockets {
    mappings: Mappings<Mapped>,
    carries: Carries,
    kind: Kind,
    /// Those that answered with errors only, and when they are asked again.
    failing: BTreeSet<usize>,
    retry: Option<Instant>,
}

impl Sockets {
    pub(super) fn new(carries: Carries, seed: u64) -> Self {
        let (kind, lifetimes) = match carries {
            Carries::Udp => (Kind::Udp, Lifetimes::UDP),
            Carries::Echo => (Kind::Echo, Lifetimes::ECHO),
        };
        let mappings = Mappings::new(seed, lifetimes);
        Self { mappings, carries, kind, failing: BTreeSet::new(), retry: None }
    }

    /// The host's address that datagrams leave by.
    pub(super) fn host_socket(&self, ends: &Ends) -> Option<SocketAddr> {
        let (address, port) = (ends.destination, ends.destination_port);
        let of = |reach| self.mappings.find(&Key { address, port, reach });
        let slot = [Reach::Outside, Reach::FarEnd, Reach::Loopback].into_iter().find_map(of)?;
        self.mappings.get(slot)?.socket.socket.local_addr()
    }

    /// Whose each socket is.
    #[cfg(test)]
    pub(super) fn owners(&self) -> Vec<Option<crate::dataplane::PortId>> {
        let mappings = (0..0x1_0000).filter_map(|slot| self.mappings.get(slot));
        let mappings = mappings.take(self.mappings.len());
        let owners: Vec<_> = mappings.map(|mapping| mapping.socket.share.owner()).collect();
        assert_eq!(owners.len(), self.mappings.len());
        owners
    }

    pub(super) fn has_frames(&self) -> bool {
        self.mappings.has_ready()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.mappings.deadline().into_iter().chain(self.retry).min()
    }

    /// Time has passed.
    pub(super) fn on_time(&mut self, now: Instant, shared: &mut Shared) {
        while let Some(mapped) = self.mappings.expire(now) {
            shared.give_back(mapped.share);
        }
        if self.retry.is_some_and(|at| at <= now) {
            self.retry = None;
            // Who has a slot anew by now is asked once for nothing.
            std::mem::take(&mut self.failing).into_iter().for_each(|slot| self.mappings.queue(slot));
        }
    }

    /// A socket has something to say; its mapping, if that is an error of what was sent.
    pub(super) fn on_event(&mut self, event: &Event) -> Option<&mut Mapping<Mapped>> {
        let (slot, generation) = slot_of(event.token());
        if !self.mappings.is_current(slot, generation) {
            return None;
        }
        self.mappings.queue(slot);
        self.mappings.get_mut(slot).filter(|_| event.is_error())
    }

    /// The mapping of an end inside, for a packet to this address of the host's side.
    pub(super) fn of(
        &mut self,
        now: Instant,
        key: Key,
        to: SocketAddr,
        shared: &mut Shared,
    ) -> io::Result<Result<usize, DeviceError>> {
        match self.mappings.find(&key) {
            Some(slot) => Ok(Ok(slot)),
            None => self.open(now, key, to, shared),
        }
    }

    /// A mapping, which has sent something by now.
    pub(super) fn sends(&mut self, now: Instant, slot: usize) -> Option<&mut Mapping<Mapped>> {
        let mapping = self.mappings.get_mut(slot)?;
        mapping.sent(now);
        Some(mapping)
    }

    fn open(
        &mut self,
        now: Instant,
        key: Key,
        to: SocketAddr,
        shared: &mut Shared,
    ) -> io::Result<Result<usize, DeviceError>> {
        if self.mappings.len() >= MAX_MAPPINGS {
            self.give_up(shared);
        }
        // Who has as many as it may have gives up one of its own.
        let mut share = shared.take_share();
        if share.is_err()
            && let Some(mapped) = self.mappings.give_up_one(|mapped| mapped.share.0 == shared.from)
        {
            shared.give_back(mapped.share);
            share = shared.take_share();
        }
        let share = match share {
            Ok(share) => share,
            Err(error) => return Ok(Err(error)),
        };
        let mut opened = open_unreserved(self.carries, to, shared);
        if opened.as_ref().is_err_and(is_out_of_descriptors) && self.give_up(shared) {
            opened = open_unreserved(self.carries, to, shared);
        }
        let socket = match opened {
            Ok(socket) => socket,
            Err(error) => {
                shared.give_back(share);
                return if is_out_of_descriptors(&error) {
                    Ok(Err(DeviceError::NoDescriptor))
                } else {
                    Err(error)
                };
            }
        };
        let (slot, generation) = self.mappings.vacant();
        if shared.register(&socket, token(self.kind, slot, generation), Interest::READABLE).is_err() {
            shared.give_back(share);
            return Ok(Err(DeviceError::NoDescriptor));
        }
        Ok(Ok(self.mappings.insert(now, key, Mapped { socket, share })))
    }

    /// Closes the socket that would be closed first anyway; whether there was one.
    fn give_up(&mut self, shared: &mut Shared) -> bool {
        let given_up = self.mappings.give_up();
        let is_one = given_up.is_some();
        if let Some(mapped) = given_up {
            shared.give_back(mapped.share);
        }
        is_one
    }

    /// Lets the sockets that have something to say `say` it by turns, until one has; whether one has.
    pub(super) fn next(
        &mut self,
        now: Instant,
        mut say: impl FnMut(&Mapping<Mapped>) -> io::Result<bool>,
    ) -> bool {
        while let Some(slot) = self.mappings.next_ready() {
            let Some(mapping) = self.mappings.get_mut(slot) else { continue };
            // An error of what was sent comes before what was received; the error queue tells it, too.
            match (0..TRIES).find_map(|_| say(mapping).ok()) {
                Some(true) => {
                    mapping.received(now);
                    self.mappings.queue(slot);
                    return true;
                }
                Some(false) => {}
                None => {
                    self.failing.insert(slot);
                    self.retry.get_or_insert(now + RETRY);
                }
            }
        }
        false
    }
}

/// A socket, if it leaves some descriptors for others: who commands the daemon needs one, too.
fn open_unreserved(carries: Carries, to: SocketAddr, shared: &Shared) -> io::Result<HostSocket> {
    let socket = HostSocket::open(carries, to, shared)?;
    let limit = descriptors::limit();
    let free = limit - (limit / 8).min(RESERVED);
    // The kernel gives out the lowest first.
    match u64::try_from(socket.as_fd().as_raw_fd()) {
        Ok(number) if number >= free => Err(Errno::EMFILE.into()),
        _ => Ok(socket),
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM))
}

/// Where a packet is to go, and by whose socket; an ICMP error has told its sender if nowhere.
pub(super) fn way(
    ends: &Ends,
    protocol: u8,
    quoted: &[u8],
    shared: &mut Shared,
) -> Result<(Key, SocketAddr), DeviceError> {
    let to = match shared.policy.fate(ends.source, ends.source_port) {
        Fate::Goes(to) => to,
        Fate::Refused => {
            refuse(ends, protocol, Errno::ECONNREFUSED, quoted, shared);
            return Err(DeviceError::Denied);
        }
        Fate::Denied => {
            refuse(ends, protocol, Errno::EACCES, quoted, shared);
            return Err(DeviceError::Denied);
        }
    };
    let reach = match to.ip().is_loopback() {
        false => Reach::Outside,
        true if shared.policy.far_end.contains(&ends.source) => Reach::FarEnd,
        true => Reach::Loopback,
    };
    Ok((Key { address: ends.destination, port: ends.destination_port, reach }, to))
}

/// The host's side of a mapping, as the switch's side calls it.
pub(super) fn called(address: IpAddr, reach: Reach, policy: &Policy) -> Addr {
    let version = if address.is_ipv4() { Version::V4 } else { Version::V6 };
    let mut own = policy.far_end.iter().filter(|own| own.version() == version);
    match own.next() {
        Some(own) if reach == Reach::FarEnd && address.is_loopback() => *own,
        _ => address.into(),
    }
}

/// The ends of an answer to a packet.
pub(super) fn ends_of(packet: &Packet, source_port: u16, destination_port: u16) -> Ends {
    let (source, destination) = (packet.destination, packet.source);
    Ends { source, destination, source_port, destination_port }
}

/// What the kernel said of a datagram that it did not send: the sender is told, or the datagram counts as dropped.
pub(super) fn unsent(
    ends: &Ends,
    protocol: u8,
    quoted: &[u8],
    error: &io::Error,
    shared: &mut Shared,
) -> Result<(), DeviceError> {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM) | None => Err(DeviceError::Full),
        // The error queue knows how much is allowed.
        Some(Errno::EMSGSIZE) => Ok(()),
        Some(errno) => {
            refuse(ends, protocol, errno, quoted, shared);
            Ok(())
        }
    }
}

/// Tells the sender what the network said of its packet, of which `quoted` is what is left.
pub(super) fn tell(key: &Key, error: &HostError, protocol: u8, quoted: &[u8], shared: &mut Shared) {
    let ends = Ends {
        source: called(error.to.ip(), key.reach, &shared.policy),
        source_port: error.to.port(),
        destination: key.address,
        destination_port: key.port,
    };
    let from = error.from.map(|from| called(from, key.reach, &shared.policy));
    let from = from.unwrap_or_else(|| shared.policy.speaker(&ends));
    if from.version() == ends.source.version() {
        link::tell(&ends, protocol, error.kind, error.rest, quoted, from, shared);
    }
}

/// Tells the sender that its packet went no further, and why.
pub(super) fn refuse(ends: &Ends, protocol: u8, errno: Errno, quoted: &[u8], shared: &mut Shared) {
    let kind = unreachable(ends.source.version(), errno);
    let from = shared.policy.speaker(ends);
    link::tell(ends, protocol, kind, [0; 4], quoted, from, shared);
}

/// Type and code of the ICMP error for an error of the host's (RFC 792, RFC 1812 §5.2.7.1; RFC 4443 §3.1).
pub(super) const fn unreachable(version: Version, errno: Errno) -> [u8; 2] {
    let (code4, code6) = match errno {
        Errno::ENETUNREACH => (0, 0),
        Errno::ECONNREFUSED => (3, 4),
        Errno::EACCES | Errno::EPERM => (13, 1),
        _ => (1, 3),
    };
    match version {
        Version::V4 => [v4::DESTINATION_UNREACHABLE, code4],
        Version::V6 => [v6::DESTINATION_UNREACHABLE, code6],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_small() {
        // With its entries of the index (at a load of a half, at worst) and of the timers.
        let index = 2 * (size_of::<(Key, u32)>() + 1);
        let all = size_of::<Mapping<Mapped>>() + index + size_of::<(Instant, u64)>();
        assert!(all <= 256, "{all} bytes");
    }

    #[test]
    fn the_far_end_speaks_for_the_hosts_loopback() {
        let own = |text: &str| Addr::from(text.parse::<IpAddr>().unwrap());
        let policy = Policy { far_end: vec![own("192.0.0.2"), own("fd00::2")], ..Policy::default() };
        let table = [
            ("127.0.0.1", Reach::FarEnd, "192.0.0.2"),
            ("::1", Reach::FarEnd, "fd00::2"),
            ("127.0.0.53", Reach::Loopback, "127.0.0.53"),
            ("198.51.100.1", Reach::FarEnd, "198.51.100.1"),
            ("198.51.100.1", Reach::Outside, "198.51.100.1"),
        ];
        for (address, reach, expected) in table {
            assert_eq!(called(address.parse().unwrap(), reach, &policy), own(expected), "{address}");
        }
    }
}
