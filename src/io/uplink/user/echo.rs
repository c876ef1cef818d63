//! ICMP echo: each address and identifier of the switch's side has a "ping socket" of the host (icmp(7)).
//!
//! Theory of operation. Such a socket sends requests and receives their answers, with an identifier that is the
//! kernel's; the messages here have the one of the switch's side. Who may have one is said by the host's
//! `net.ipv4.ping_group_range`. Pings to the far end itself are answered here.

use std::io;
use std::os::fd::AsFd;

use mio::event::Event;
use nix::errno::Errno;

use super::Shared;
use super::host_socket::{Carries, HostSocket, Received, Treatment};
use super::mapped::{self, Sockets};
use super::policy::Policy;
use crate::dataplane::{Frame, Instant};
use crate::flows::mappings::Key;
use crate::flows::segment::{Ends, Link, icmp_message};
use crate::io::device::DeviceError;
use crate::wire::icmp::{self, HEADER_LEN, ID, v4, v6};
use crate::wire::ip::{Version, protocol};
use crate::wire::packet::Packet;

/// Bytes of a message that an ICMP error quotes, with its header.
const QUOTED: usize = 128;

/// What echo messages are called in a version of IP.
struct Names {
    request: u8,
    reply: u8,
    protocol: u8,
}

impl Names {
    const fn of(version: Version) -> Self {
        match version {
            Version::V4 => Self { request: v4::ECHO, reply: v4::ECHO_REPLY, protocol: protocol::ICMP },
            Version::V6 => {
                Self { request: v6::ECHO_REQUEST, reply: v6::ECHO_REPLY, protocol: protocol::ICMPV6 }
            }
        }
    }
}

/// All mappings.
#[derive(Debug)]
pub(super) struct Flows {
    pub(super) sockets: Sockets,
}

impl Flows {
    pub(super) fn new(seed: u64) -> Self {
        Self { sockets: Sockets::new(Carries::Echo, seed) }
    }

    /// An ICMP query out of the switch, with this identifier.
    pub(super) fn on_query(
        &mut self,
        now: Instant,
        bytes: &[u8],
        packet: &Packet,
        id: u16,
        shared: &mut Shared,
    ) -> Result<(), DeviceError> {
        let message = bytes.get(packet.transport..packet.end).unwrap_or_default();
        let Names { request, protocol, .. } = Names::of(packet.version);
        let sum = icmp::sum(message, packet.version, packet.source, packet.destination);
        if !message.starts_with(&[request, 0]) || sum.finish() != [0, 0] {
            return Err(DeviceError::Unsupported);
        }
        let ends = mapped::ends_of(packet, 0, id);
        if shared.policy.far_end.contains(&packet.destination) {
            answer(&ends, message, shared);
            return Ok(());
        }
        let quoted = &message[..message.len().min(QUOTED)];
        let (key, to) = mapped::way(&ends, protocol, quoted, shared)?;
        let slot = match self.sockets.of(now, key, to, shared) {
            Ok(slot) => slot?,
            Err(error) if is_forbidden(&error) => {
                mapped::refuse(&ends, protocol, Errno::EACCES, quoted, shared);
                return Err(DeviceError::NoPing);
            }
            Err(error) => return mapped::unsent(&ends, protocol, quoted, &error, shared),
        };
        let mapping = self.sockets.sends(now, slot).ok_or(DeviceError::Limit)?;
        match mapping.socket.socket.send(message, None, to, Treatment::of(packet)) {
            Ok(()) => Ok(()),
            Err(error) => mapped::unsent(&ends, protocol, quoted, &error, shared),
        }
    }

    /// A socket has something to say.
    pub(super) fn on_event(&mut self, event: &Event, shared: &mut Shared) {
        let Some(mapping) = self.sockets.on_event(event) else { return };
        let key = mapping.key;
        let Names { request, protocol, .. } = Names::of(key.address.version());
        let mut space = [0; QUOTED];
        while let Some(error) = super::errors::next(mapping.socket.socket.as_fd(), &mut space) {
            // Of a request that the host itself refused nothing is kept.
            space[error.len.min(QUOTED)..].fill(0);
            if error.len < HEADER_LEN {
                space[0] = request;
            }
            space[ID..ID + 2].copy_from_slice(&key.port.to_be_bytes());
            let quoted = &space[..error.len.clamp(HEADER_LEN, QUOTED)];
            mapped::tell(&key, &error, protocol, quoted, shared);
        }
    }

    /// The next frame of a socket that has something to say; whether there is one.
    pub(super) fn next_frame(&mut self, now: Instant, frame: &mut Frame, shared: &Shared) -> bool {
        self.sockets.next(now, |mapping| {
            let (key, socket) = (&mapping.key, &mapping.socket.socket);
            receive(socket, key, &shared.link, &shared.policy, frame)
        })
    }
}

/// Takes the next answer out of a socket; whether there was one.
fn receive(
    socket: &HostSocket,
    key: &Key,
    link: &Link,
    policy: &Policy,
    frame: &mut Frame,
) -> io::Result<bool> {
    let version = key.address.version();
    let start = Ends::network_len_of(version);
    loop {
        let space = frame.space().get_mut(start..).unwrap_or_default();
        let Some(Received { len, from, .. }) = socket.receive(space)? else { return Ok(false) };
        let message = space.get_mut(..len).unwrap_or_default();
        if len < HEADER_LEN || message[0] != Names::of(version).reply {
            continue;
        }
        message[ID..ID + 2].copy_from_slice(&key.port.to_be_bytes());
        let source = mapped::called(from.ip(), key.reach, policy);
        let ends = Ends { source, source_port: 0, destination: key.address, destination_port: key.port };
        if let Some(len) = icmp_message(frame.space(), link, &ends, len) {
            frame.filled(len);
            return Ok(true);
        }
    }
}

/// The far end answers a ping to itself.
fn answer(ends: &Ends, request: &[u8], shared: &mut Shared) {
    let (link, start) = (shared.link, ends.network_len());
    shared.reply(|frame| {
        frame.resize(start, 0);
        frame.extend_from_slice(request);
        frame[start] = Names::of(ends.source.version()).reply;
        let len = icmp_message(frame, &link, ends, request.len()).unwrap_or_default();
        frame.truncate(len);
    });
}

/// The host lets its users not ping, or cannot.
fn is_forbidden(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EACCES | Errno::EPERM | Errno::EPROTONOSUPPORT))
}
