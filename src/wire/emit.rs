//! Packets of our own, as whole frames.

use super::checksum::Sum;
use super::ip::{Addr, Version, protocol};
use super::ndp::Envelope;
use super::{ethernet, icmp};

/// TTL of what we send (RFC 1700, and what people look for).
const TTL: u8 = 64;

/// Replaces what is in `frame` by an ICMP message, of the version that the addresses have: the first four
/// bytes of its header but for the checksum, the other four, and the pieces of its body. All together must
/// fit a packet.
pub fn icmp(frame: &mut Vec<u8>, envelope: &Envelope, tos: u8, kind: [u8; 2], rest: [u8; 4], body: &[&[u8]]) {
    let Envelope { source, destination, .. } = *envelope;
    let version = source.version();
    let protocol = match version {
        Version::V4 => protocol::ICMP,
        Version::V6 => protocol::ICMPV6,
    };
    headers(
        frame,
        envelope,
        tos,
        protocol,
        icmp::HEADER_LEN + body.iter().map(|piece| piece.len()).sum::<usize>(),
    );
    let start = frame.len();
    let [kind, code] = kind;
    frame.extend_from_slice(&[kind, code, 0, 0]);
    frame.extend_from_slice(&rest);
    body.iter().for_each(|piece| frame.extend_from_slice(piece));
    let sum = icmp::sum(&frame[start..], version, source, destination).finish();
    frame[start + icmp::CHECKSUM..start + icmp::CHECKSUM + 2].copy_from_slice(&sum);
}

/// Replaces what is in `frame` by a TCP segment that is nothing but a header, whose checksum field is zero.
pub fn tcp(frame: &mut Vec<u8>, envelope: &Envelope, mut header: [u8; super::tcp::HEADER_LEN]) {
    let sum = pseudo_header(envelope.source, envelope.destination, protocol::TCP, header.len());
    let sum = sum.add(&header).finish();
    header[super::tcp::CHECKSUM..super::tcp::CHECKSUM + 2].copy_from_slice(&sum);
    headers(frame, envelope, 0, protocol::TCP, header.len());
    frame.extend_from_slice(&header);
}

/// Replaces what is in `frame` by a UDP datagram, whose payload must fit a packet.
pub fn udp(frame: &mut Vec<u8>, envelope: &Envelope, ports: (u16, u16), payload: &[u8]) {
    let len = super::udp::HEADER_LEN + payload.len();
    let mut header = [0; super::udp::HEADER_LEN];
    header[0..2].copy_from_slice(&ports.0.to_be_bytes());
    header[2..4].copy_from_slice(&ports.1.to_be_bytes());
    header[4..6].copy_from_slice(&(len as u16).to_be_bytes());
    let sum = pseudo_header(envelope.source, envelope.destination, protocol::UDP, len);
    let sum = match sum.add(&header).add(payload).finish() {
        // Zero would mean that there is none (RFC 768).
        [0, 0] => [0xff, 0xff],
        sum => sum,
    };
    header[6..8].copy_from_slice(&sum);
    headers(frame, envelope, 0, protocol::UDP, len);
    frame.extend_from_slice(&header);
    frame.extend_from_slice(payload);
}

/// The sum over the pseudo header of a packet whose payload has so many bytes.
pub fn pseudo_header(source: Addr, destination: Addr, protocol: u8, len: usize) -> Sum {
    match source.version() {
        // An IPv4 packet has less than 2^16 bytes, one of IPv6 less than 2^17.
        Version::V4 => {
            let (source, destination) = (source.v4_bytes().into(), destination.v4_bytes().into());
            Sum::default().add_ipv4(source, destination, protocol, len as u16)
        }
        Version::V6 => {
            let (source, destination) = (source.v6_bytes().into(), destination.v6_bytes().into());
            Sum::default().add_ipv6(source, destination, protocol, len as u32)
        }
    }
}

/// Replaces what is in `frame` by the headers of a packet with a payload of `len` bytes, which must fit.
///
/// IPv4 packets must not be fragmented, so that they need no identification (RFC 6864 §4.1).
fn headers(frame: &mut Vec<u8>, envelope: &Envelope, tos: u8, protocol: u8, len: usize) {
    let Envelope { source, destination, .. } = *envelope;
    frame.clear();
    frame.extend_from_slice(&envelope.destination_mac.0);
    frame.extend_from_slice(&envelope.source_mac.0);
    match source.version() {
        Version::V4 => {
            frame.extend_from_slice(&ethernet::IPV4.to_be_bytes());
            let [l0, l1] = ((20 + len) as u16).to_be_bytes();
            let mut header = [0x45, tos, l0, l1, 0, 0, 0x40, 0, TTL, protocol, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            header[12..16].copy_from_slice(&source.v4_bytes());
            header[16..20].copy_from_slice(&destination.v4_bytes());
            let sum = Sum::default().add(&header).finish();
            header[10..12].copy_from_slice(&sum);
            frame.extend_from_slice(&header);
        }
        Version::V6 => {
            frame.extend_from_slice(&ethernet::IPV6.to_be_bytes());
            let [l0, l1] = (len as u16).to_be_bytes();
            frame.extend_from_slice(&[0x60 | tos >> 4, tos << 4, 0, 0, l0, l1, protocol, TTL]);
            frame.extend_from_slice(&source.v6_bytes());
            frame.extend_from_slice(&destination.v6_bytes());
        }
    }
}
