//! Translation of a packet in place, with incremental checksums (RFC 1624).
//!
//! All functions take the frame that the [`Packet`] was parsed from, whose positions they trust only in so
//! far that a wrong one does nothing. They change no length, so that the positions stay right; what else
//! the `Packet` says, such as its addresses, is what it was before.
//!
//! | checksum | covers | what happens to it |
//! |---|---|---|
//! | IPv4 header | addresses, TTL | adjusted |
//! | TCP, UDP, DCCP, UDP-Lite | pseudo header (addresses), ports | adjusted |
//! | the same, partial | pseudo header only: the device adds the rest | the addresses' part is adjusted, not complemented |
//! | UDP, zero | nothing: there is none (RFC 768) | stays zero; and one that becomes zero is written as ffff |
//! | ICMP | the message | adjusted by identifier, and by what changes in a quoted packet |
//! | ICMPv6 | pseudo header (addresses) and message | likewise |
//! | in a quoted packet | likewise, as far as it is quoted | adjusted if it is quoted |

use super::conntrack::Tuple;
use crate::wire::checksum::Change;
use crate::wire::icmp::{self, Quote};
use crate::wire::ip::{Addr, Version, protocol};
use crate::wire::packet::{Packet, Transport};
use crate::wire::{MacAddr, tcp, udp};

/// Where UDP-Lite (RFC 3828) and DCCP (RFC 4340 §5.1) have their checksums: both at the same place.
const OTHER_CHECKSUM: usize = 6;
const DCCP: u8 = 33;
const UDP_LITE: u8 = 136;

/// The `N` bytes at a position, to be changed.
#[inline]
fn bytes_at<const N: usize>(frame: &mut [u8], at: usize) -> Option<&mut [u8; N]> {
    frame.get_mut(at..)?.first_chunk_mut()
}

/// Writes new bytes; what that changes for a checksum over them.
#[inline]
fn put<const N: usize>(bytes: &mut [u8; N], new: [u8; N]) -> Change {
    let change = Change::default().replace(bytes, &new);
    *bytes = new;
    change
}

/// Gives a packet the addresses, ports or ICMP identifier of a tuple of its version and protocol.
///
/// Of a later fragment only the addresses change. Of an ICMP error neither does what it quotes:
/// that is [`translate_error`]'s.
#[inline]
pub fn translate(frame: &mut [u8], packet: &Packet, to: &Tuple) {
    let Some(addresses) = translate_addresses(frame, packet.start, packet.version, to.source, to.destination)
    else {
        return;
    };
    let Some(transport) = frame.get_mut(packet.transport..packet.end) else { return };
    let is_partial = packet.partial_checksum;
    match packet.payload {
        Transport::Tcp(_) => translate_ports(transport, to, addresses.pseudo, tcp::CHECKSUM, is_partial),
        Transport::Udp(_) => translate_ports(transport, to, addresses.pseudo, udp::CHECKSUM, is_partial),
        Transport::Query { .. } => translate_id(transport, to, icmp_base(packet.version, addresses.pseudo)),
        Transport::Error { .. } | Transport::Icmp { .. } => {
            adjust(transport, icmp::CHECKSUM, icmp_base(packet.version, addresses.pseudo))
        }
        Transport::Other => translate_other(transport, packet.protocol, addresses.pseudo),
        Transport::LaterFragment => Change::default(),
    };
}

/// Translates an ICMP error that is about a translated packet: the addresses of its own header become
/// `outer`, source and destination, and the packet it quotes becomes one of the tuple `inner`, whose
/// direction is the quoted packet's. The checksums of both headers, the quoted transport's as far as it is
/// quoted, and the error's own follow.
///
/// A host may quote a packet whose checksum its device was still to complete; that sum is of no use to
/// anyone, before and after.
pub fn translate_error(frame: &mut [u8], packet: &Packet, quote: &Quote, outer: (Addr, Addr), inner: &Tuple) {
    let version = packet.version;
    let Some(own) = translate_addresses(frame, packet.start, version, outer.0, outer.1) else { return };
    let quoted = translate_addresses(frame, quote.start, version, inner.source, inner.destination);
    let Some(quoted) = quoted else { return };
    let mut change = icmp_base(version, own.pseudo).and(quoted.header);
    if let (Some(transport), Some(_)) = (frame.get_mut(quote.transport..quote.end), quote.ports) {
        change = change.and(match (quote.protocol, version) {
            (protocol::TCP, _) => translate_ports(transport, inner, quoted.pseudo, tcp::CHECKSUM, false),
            (protocol::UDP, _) => translate_ports(transport, inner, quoted.pseudo, udp::CHECKSUM, false),
            (protocol::ICMP, Version::V4) | (protocol::ICMPV6, Version::V6) => {
                translate_id(transport, inner, icmp_base(version, quoted.pseudo))
            }
            _ => translate_other(transport, quote.protocol, quoted.pseudo),
        });
    }
    if let Some(message) = frame.get_mut(packet.transport..packet.end) {
        adjust(message, icmp::CHECKSUM, change);
    }
}

/// What new addresses change.
struct Addresses {
    /// For a checksum with a pseudo header.
    pseudo: Change,
    /// For a checksum over the IP header: addresses, and in IPv4 the header's own checksum.
    header: Change,
}

/// Writes the addresses of the IP header at `start`.
#[inline]
fn translate_addresses(
    frame: &mut [u8],
    start: usize,
    version: Version,
    source: Addr,
    destination: Addr,
) -> Option<Addresses> {
    Some(match version {
        Version::V4 => {
            let header: &mut [u8; 20] = bytes_at(frame, start)?;
            let ([s0, s1, s2, s3], [d0, d1, d2, d3]) = (source.v4_bytes(), destination.v4_bytes());
            let pseudo = put(bytes_at(header, 12)?, [s0, s1, s2, s3, d0, d1, d2, d3]);
            Addresses { pseudo, header: pseudo.and(adjust(header, 10, pseudo)) }
        }
        Version::V6 => {
            let addresses: &mut [u8; 32] = bytes_at(frame, start + 8)?;
            let mut new = [0; 32];
            new[..16].copy_from_slice(&source.v6_bytes());
            new[16..].copy_from_slice(&destination.v6_bytes());
            let pseudo = put(addresses, new);
            Addresses { pseudo, header: pseudo }
        }
    })
}

/// Writes TCP's or UDP's ports and adjusts the checksum, as far as the bytes reach. This, like the following
/// ones, says what it changed in them.
#[inline]
fn translate_ports(
    bytes: &mut [u8],
    to: &Tuple,
    pseudo: Change,
    checksum: usize,
    is_partial: bool,
) -> Change {
    let ([s0, s1], [d0, d1]) = (to.source_port.to_be_bytes(), to.destination_port.to_be_bytes());
    let Some(ports) = bytes_at(bytes, 0) else { return Change::default() };
    let ports = put(ports, [s0, s1, d0, d1]);
    let Some(sum) = bytes_at::<2>(bytes, checksum) else { return ports };
    let is_udp = checksum == udp::CHECKSUM;
    let new = if is_partial {
        pseudo.apply_partial(*sum)
    } else if is_udp && *sum == [0, 0] {
        return ports;
    } else if is_udp {
        nonzero(pseudo.and(ports).apply(*sum))
    } else {
        pseudo.and(ports).apply(*sum)
    };
    ports.and(put(sum, new))
}

/// Writes an ICMP query's identifier and adjusts its checksum.
#[inline]
fn translate_id(bytes: &mut [u8], to: &Tuple, pseudo: Change) -> Change {
    let Some(id) = bytes_at(bytes, icmp::ID) else { return Change::default() };
    let id = put(id, to.source_port.to_be_bytes());
    id.and(adjust(bytes, icmp::CHECKSUM, pseudo.and(id)))
}

/// Adjusts the checksum of another protocol, if it covers the addresses.
#[cold]
fn translate_other(bytes: &mut [u8], protocol: u8, pseudo: Change) -> Change {
    match (protocol, bytes_at::<2>(bytes, OTHER_CHECKSUM)) {
        // UDP-Lite forbids zero; to DCCP both writings of zero are the same.
        (DCCP | UDP_LITE, Some(sum)) => put(sum, nonzero(pseudo.apply(*sum))),
        _ => Change::default(),
    }
}

/// Adjusts the checksum at a position.
#[inline]
fn adjust(bytes: &mut [u8], at: usize, change: Change) -> Change {
    bytes_at::<2>(bytes, at).map_or(Change::default(), |sum| put(sum, change.apply(*sum)))
}

/// A computed UDP checksum of zero is sent as all ones, for zero means "none" (RFC 768).
#[inline]
const fn nonzero(sum: [u8; 2]) -> [u8; 2] {
    if sum[0] | sum[1] == 0 { [0xff, 0xff] } else { sum }
}

/// What changed addresses mean to an ICMP checksum: only ICMPv6 has a pseudo header.
#[inline]
fn icmp_base(version: Version, pseudo: Change) -> Change {
    match version {
        Version::V4 => Change::default(),
        Version::V6 => pseudo,
    }
}

/// Takes one from the TTL or hop limit, which must not be zero.
#[inline]
pub fn decrement_ttl(frame: &mut [u8], packet: &Packet) {
    match packet.version {
        Version::V4 => {
            let Some(header) = bytes_at::<12>(frame, packet.start) else { return };
            let [.., ttl, protocol, c0, c1] = header;
            let change = Change::default().replace(&[*ttl, *protocol], &[ttl.wrapping_sub(1), *protocol]);
            *ttl = ttl.wrapping_sub(1);
            [*c0, *c1] = change.apply([*c0, *c1]);
        }
        Version::V6 => {
            if let Some(hop_limit) = frame.get_mut(packet.start + 7) {
                *hop_limit = hop_limit.wrapping_sub(1);
            }
        }
    }
}

/// Writes the Ethernet addresses.
#[inline]
pub fn set_macs(frame: &mut [u8], source: MacAddr, destination: MacAddr) {
    if let Some([d @ .., s0, s1, s2, s3, s4, s5]) = frame.first_chunk_mut::<12>() {
        *d = destination.0;
        [*s0, *s1, *s2, *s3, *s4, *s5] = source.0;
    }
}

/// Lowers the maximum segment size that a TCP segment with SYN announces (RFC 9293 §3.7.1) to `max`; says
/// from what, if it did. A SYN without the option announces so little (536 or 1220 bytes) that it stays.
pub fn clamp_mss(frame: &mut [u8], packet: &Packet, max: u16) -> Option<u16> {
    let Transport::Tcp(header) = packet.payload else { return None };
    if header.flags & tcp::SYN == 0 {
        return None;
    }
    let segment = frame.get_mut(packet.transport..packet.end)?;
    let (at, old) = tcp::mss(segment, &header)?;
    if old <= max {
        return None;
    }
    segment.get_mut(at..at + 2)?.copy_from_slice(&max.to_be_bytes());
    // Options lie at any byte; a word that begins at an odd one is summed up with its bytes swapped.
    let (old_bytes, new_bytes) = match at % 2 {
        0 => (old.to_be_bytes(), max.to_be_bytes()),
        _ => (old.to_le_bytes(), max.to_le_bytes()),
    };
    if !packet.partial_checksum {
        adjust(segment, tcp::CHECKSUM, Change::default().replace(&old_bytes, &new_bytes));
    }
    Some(old)
}

#[cfg(test)]
mod tests;
