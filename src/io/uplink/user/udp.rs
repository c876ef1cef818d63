//! UDP: each address and port of the switch's side has a socket of the host.
//!
//! Theory of operation. The socket is connected to nobody: it carries the datagrams to every destination
//! (RFC 4787 REQ-1), and whoever answers is named by the packet that the answer becomes. Bursts travel whole in both
//! directions where the kernel can (`UDP_SEGMENT`, `UDP_GRO`): one call for up to 64 datagrams, which burst.rs gathers.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use mio::event::Event;
use nix::errno::Errno;
use socket2::Socket;

use super::Shared;
use super::burst::{Burst, QUOTED, Way};
use super::datagram;
use super::host_socket::{Carries, HostSocket, Received, Treatment};
use super::mapped::{self, Sockets};
use super::policy::Policy;
use crate::dataplane::{Frame, Instant, Traffic};
use crate::flows::mappings::Key;
use crate::flows::segment::{Ends, Link, udp_datagram};
use crate::io::device::DeviceError;
use crate::wire::Offload;
use crate::wire::emit::pseudo_header;
use crate::wire::ip::protocol;
use crate::wire::packet::Packet;
use crate::wire::udp::{HEADER_LEN, Udp};

/// All mappings.
#[derive(Debug)]
pub(super) struct Flows {
    pub(super) sockets: Sockets,
    /// What is kept to go together, and the memory of what went before.
    burst: Option<Burst>,
    sent: Option<Burst>,
    /// Frames that were taken, and for which there was no room.
    lost: Traffic,
}

impl Flows {
    pub(super) fn new(seed: u64) -> Self {
        Self { sockets: Sockets::new(Carries::Udp, seed), burst: None, sent: None, lost: Traffic::default() }
    }

    /// A datagram out of the switch, or a burst of them.
    pub(super) fn on_datagram(
        &mut self,
        now: Instant,
        bytes: &[u8],
        offload: &Offload,
        packet: &Packet,
        datagram: &Udp,
        shared: &mut Shared,
    ) -> Result<(), DeviceError> {
        let whole = sound(bytes, packet, datagram)?;
        let ends = mapped::ends_of(packet, datagram.destination, datagram.source);
        let way = Way { ends, treatment: Treatment::of(packet) };
        let payload = whole.get(HEADER_LEN..).unwrap_or_default();
        let size = offload.gso().map(|_| offload.gso_size);
        if size.is_none() && self.burst.as_mut().is_some_and(|burst| burst.takes(&way, payload, bytes.len()))
        {
            return Ok(());
        }
        self.send_burst(now, shared);
        let quoted = &whole[..whole.len().min(QUOTED)];
        let (key, to) = mapped::way(&ends, protocol::UDP, quoted, shared)?;
        let slot = match self.sockets.of(now, key, to, shared) {
            Ok(slot) => slot?,
            Err(error) => return mapped::unsent(&ends, protocol::UDP, quoted, &error, shared),
        };
        if size.is_none() {
            let burst = Burst::begin(self.sent.take(), (way, slot, to), payload, quoted, bytes.len());
            self.burst = Some(burst);
            return Ok(());
        }
        let mapping = self.sockets.sends(now, slot).ok_or(DeviceError::Limit)?;
        match mapping.socket.socket.send(payload, size, to, way.treatment) {
            Ok(()) => Ok(()),
            Err(error) => mapped::unsent(&ends, protocol::UDP, quoted, &error, shared),
        }
    }

    /// What was kept goes. Frames that were taken, and for which there was no room since this was asked last.
    pub(super) fn flush(&mut self, now: Instant, shared: &mut Shared) -> Traffic {
        self.send_burst(now, shared);
        std::mem::take(&mut self.lost)
    }

    fn send_burst(&mut self, now: Instant, shared: &mut Shared) {
        let Some(burst) = self.burst.take() else { return };
        let (way, (payload, size)) = (&burst.way, burst.payload());
        let sent = match self.sockets.sends(now, burst.slot) {
            Some(mapping) => mapping.socket.socket.send(payload, size, burst.to, way.treatment),
            None => Err(Errno::ENOBUFS.into()),
        };
        if let Err(error) = sent
            && mapped::unsent(&way.ends, protocol::UDP, burst.quoted(), &error, shared).is_err()
        {
            self.lost.add(&burst.traffic);
        }
        self.sent = Some(burst);
    }

    /// A socket has something to say.
    pub(super) fn on_event(&mut self, event: &Event, shared: &mut Shared) {
        let Some(mapping) = self.sockets.on_event(event) else { return };
        let key = mapping.key;
        let mut space = [0; QUOTED];
        while let Some(error) = super::errors::next(mapping.socket.socket.as_fd(), &mut space[HEADER_LEN..]) {
            // Of a datagram that the host itself refused nothing is kept.
            let len = HEADER_LEN + error.len.min(QUOTED - HEADER_LEN);
            space[0..2].copy_from_slice(&key.port.to_be_bytes());
            space[2..4].copy_from_slice(&error.to.port().to_be_bytes());
            // At most QUOTED.
            space[4..6].copy_from_slice(&(len as u16).to_be_bytes());
            mapped::tell(&key, &error, protocol::UDP, &space[..len], shared);
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

/// Takes the next datagram, or burst of them, out of a socket; whether there was one.
fn receive(
    socket: &HostSocket,
    key: &Key,
    link: &Link,
    policy: &Policy,
    frame: &mut Frame,
) -> io::Result<bool> {
    loop {
        let start = Ends::network_len_of(key.address.version()) + HEADER_LEN;
        let space = frame.space().get_mut(start..).unwrap_or_default();
        let Some(Received { len, from, size }) = socket.receive(space)? else { return Ok(false) };
        let ends = Ends {
            source: mapped::called(from.ip(), key.reach, policy),
            source_port: from.port(),
            destination: key.address,
            destination_port: key.port,
        };
        // What is too long for a packet cannot have been one.
        if let Some((len, offload)) = udp_datagram(frame.space(), link, &ends, len, size) {
            frame.filled(len);
            frame.offload = offload;
            return Ok(true);
        }
    }
}

/// Sends the answer to a caller of a published port, or a burst of them, by the socket that was called.
pub(super) fn answer(
    bytes: &[u8],
    offload: &Offload,
    packet: &Packet,
    datagram: &Udp,
    (socket, caller): (&Socket, SocketAddr),
) -> Result<(), DeviceError> {
    let payload = sound(bytes, packet, datagram)?.get(HEADER_LEN..).unwrap_or_default();
    let size = offload.gso().map_or(usize::MAX, |_| usize::from(offload.gso_size).max(1));
    let from = packet.source.into();
    let send = |piece: &[u8]| datagram::send(socket.as_fd(), piece, from, caller);
    let sent = if payload.is_empty() { send(payload) } else { payload.chunks(size).try_for_each(send) };
    sent.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => DeviceError::Full,
        _ => DeviceError::Refused,
    })
}

/// A whole datagram, with its header, if it is sound.
fn sound<'a>(bytes: &'a [u8], packet: &Packet, datagram: &Udp) -> Result<&'a [u8], DeviceError> {
    let end = packet.transport + usize::from(datagram.length);
    let whole = bytes.get(packet.transport..end).ok_or(DeviceError::Unsupported)?;
    if datagram.checksum && !packet.partial_checksum && !is_sound(packet, whole) {
        return Err(DeviceError::Unsupported);
    }
    Ok(whole)
}

/// Whether the checksum of a whole datagram is right: behind a socket nobody could tell any more.
fn is_sound(packet: &Packet, datagram: &[u8]) -> bool {
    let sum = pseudo_header(packet.source, packet.destination, protocol::UDP, datagram.len());
    sum.add(datagram).finish() == [0, 0]
}
