//! How a peer inside is told that its TCP connection does not come about.

use std::io;

use nix::errno::Errno;

use super::Shared;
use crate::flows::segment::{Ends, Header};
use crate::io::device::DeviceError;
use crate::wire::icmp::{v4, v6};
use crate::wire::ip::{Version, protocol};
use crate::wire::tcp::{ACK, RST, SYN, Tcp as Segment};
use crate::wire::{emit, tcp};

/// There is no socket for a connection.
pub(super) fn unopened(
    ends: &Ends,
    syn: &Segment,
    error: &io::Error,
    shared: &mut Shared,
) -> Result<(), DeviceError> {
    match error.raw_os_error().map(Errno::from_raw) {
        // It will ask again.
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) | None => {
            return Err(DeviceError::NoDescriptor);
        }
        Some(Errno::ECONNREFUSED) => refuse(ends, syn, shared),
        Some(errno) => unreachable(ends, syn, errno, shared),
    }
    Ok(())
}

/// The host could not connect: `reset` is the refusal.
pub(super) fn unconnected(ends: &Ends, reset: &Header, error: &io::Error, shared: &mut Shared) {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ECONNREFUSED | Errno::ECONNRESET) | None => send_bare(ends, reset, shared),
        // The peer has given up by itself, or will.
        Some(Errno::ETIMEDOUT) => {}
        Some(errno) => tell_unreachable(ends, reset.ack.wrapping_sub(1), errno, shared),
    }
}

/// RFC 9293 §3.10.7.1: the answer to a segment of no connection.
pub(super) fn refuse(ends: &Ends, segment: &Segment, shared: &mut Shared) {
    let count =
        segment.payload + u32::from(segment.flags & SYN != 0) + u32::from(segment.flags & tcp::FIN != 0);
    let header = if segment.flags & ACK != 0 {
        Header { seq: segment.ack, ack: 0, flags: RST, window: 0, offer: None }
    } else {
        Header { seq: 0, ack: segment.seq.wrapping_add(count), flags: RST | ACK, window: 0, offer: None }
    };
    send_bare(ends, &header, shared);
}

/// Sends a segment without payload.
pub(super) fn send_bare(ends: &Ends, header: &Header, shared: &mut Shared) {
    let link = shared.link;
    let mut bytes = [0; tcp::HEADER_LEN];
    bytes[0..2].copy_from_slice(&ends.source_port.to_be_bytes());
    bytes[2..4].copy_from_slice(&ends.destination_port.to_be_bytes());
    bytes[4..8].copy_from_slice(&header.seq.to_be_bytes());
    bytes[8..12].copy_from_slice(&header.ack.to_be_bytes());
    (bytes[12], bytes[13]) = (0x50, header.flags);
    shared.reply(|frame| emit::tcp(frame, &ends.envelope(&link), bytes));
}

/// Tells a peer that the host cannot get there.
pub(super) fn unreachable(ends: &Ends, syn: &Segment, errno: Errno, shared: &mut Shared) {
    tell_unreachable(ends, syn.seq, errno, shared);
}

/// Tells a peer why its SYN went no further: an ICMP error that quotes it.
fn tell_unreachable(ends: &Ends, seq: u32, errno: Errno, shared: &mut Shared) {
    // RFC 792, RFC 1812 §5.2.7.1; RFC 4443 §3.1.
    let (code4, code6) = match errno {
        Errno::ENETUNREACH => (0, 0),
        Errno::EHOSTUNREACH | Errno::EHOSTDOWN => (1, 3),
        Errno::EACCES | Errno::EPERM => (13, 1),
        _ => (1, 3),
    };
    let mut quoted = [0; 8];
    quoted[0..2].copy_from_slice(&ends.destination_port.to_be_bytes());
    quoted[2..4].copy_from_slice(&ends.source_port.to_be_bytes());
    quoted[4..8].copy_from_slice(&seq.to_be_bytes());
    let kind = match ends.source.version() {
        Version::V4 => [v4::DESTINATION_UNREACHABLE, code4],
        Version::V6 => [v6::DESTINATION_UNREACHABLE, code6],
    };
    super::link::tell(ends, protocol::TCP, kind, [0; 4], &quoted, shared.policy.speaker(ends), shared);
}
