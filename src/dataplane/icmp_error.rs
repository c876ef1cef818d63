//! What the gateway tells a packet's sender: ICMP errors (RFC 792, RFC 1812 §4.3, RFC 4443) and TCP resets.
//!
//! All is built from the frame as it came in, before any translation: its sender knows no other, so that
//! nothing has to be translated back. An error says who found out (`from`), so that traceroute shows the
//! gateway's address on the sender's own network. How many errors there are at most is not decided here.

use crate::wire::checksum::Sum;
use crate::wire::ethernet;
use crate::wire::icmp::{self, v4, v6};
use crate::wire::ip::{Addr, Version};
use crate::wire::ndp::Envelope;
use crate::wire::packet::{Packet, Transport};
use crate::wire::{MacAddr, emit, ipv6, tcp, udp};

/// An IPv4 error quotes as much as fits this length (RFC 1812 §4.3.2.3), an IPv6 one as fits the smallest
/// MTU there is (RFC 4443 §2.4 c).
const LONGEST_V4: usize = 576;
const LONGEST_V6: usize = 1280;
const HEADERS_V4: usize = 20 + icmp::HEADER_LEN;
const HEADERS_V6: usize = 40 + icmp::HEADER_LEN;

/// Precedence of errors, "internetwork control" (RFC 1812 §4.3.2.5).
const TOS_V4: u8 = 0xc0;

/// ICMPv6's redirect, which like an error gets no answer (RFC 4443 §2.4 e 2).
const REDIRECT_V6: u8 = 137;

/// What went wrong with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Its TTL or hop limit ran out.
    TimeExceeded,
    /// A fragment of it never came.
    ReassemblyTimeout,
    /// No route leads to its destination.
    NetUnreachable,
    /// The next hop does not answer, or its destination does not.
    HostUnreachable,
    /// Nobody there speaks its protocol.
    ProtocolUnreachable,
    /// Nobody listens at its port; also what a rule answers with by default.
    PortUnreachable,
    /// A rule forbids it.
    AdminProhibited,
    /// It is longer than the next hop's MTU and must not be fragmented.
    FragmentationNeeded {
        /// That MTU, in bytes of an IP packet.
        mtu: u32,
    },
    /// A header field is wrong.
    ParameterProblem {
        /// The bad byte, from the start of the IP header.
        pointer: u32,
    },
}

impl ErrorKind {
    /// Type, code, and the second half of the header.
    fn encode(self, version: Version) -> ([u8; 2], [u8; 4]) {
        match version {
            Version::V4 => self.encode_v4(),
            Version::V6 => self.encode_v6(),
        }
    }

    /// RFC 792, RFC 1122 §3.2.2.1, RFC 1812 §5.2.7.1.
    fn encode_v4(self) -> ([u8; 2], [u8; 4]) {
        let unreachable = |code| ([v4::DESTINATION_UNREACHABLE, code], [0; 4]);
        match self {
            Self::TimeExceeded => ([v4::TIME_EXCEEDED, 0], [0; 4]),
            Self::ReassemblyTimeout => ([v4::TIME_EXCEEDED, 1], [0; 4]),
            Self::NetUnreachable => unreachable(0),
            Self::HostUnreachable => unreachable(1),
            Self::ProtocolUnreachable => unreachable(2),
            Self::PortUnreachable => unreachable(3),
            Self::AdminProhibited => unreachable(13),
            Self::FragmentationNeeded { mtu } => {
                // RFC 1191 §4. An IPv4 packet that did not fit is shorter than 2^16.
                let [high, low] = u16::try_from(mtu).unwrap_or(u16::MAX).to_be_bytes();
                ([v4::DESTINATION_UNREACHABLE, v4::FRAGMENTATION_NEEDED], [0, 0, high, low])
            }
            Self::ParameterProblem { pointer } => {
                // A header has at most 60 bytes.
                ([v4::PARAMETER_PROBLEM, 0], [u8::try_from(pointer).unwrap_or(u8::MAX), 0, 0, 0])
            }
        }
    }

    /// RFC 4443 §3.
    fn encode_v6(self) -> ([u8; 2], [u8; 4]) {
        let unreachable = |code| ([v6::DESTINATION_UNREACHABLE, code], [0; 4]);
        match self {
            Self::TimeExceeded => ([v6::TIME_EXCEEDED, 0], [0; 4]),
            Self::ReassemblyTimeout => ([v6::TIME_EXCEEDED, 1], [0; 4]),
            Self::NetUnreachable => unreachable(0),
            Self::AdminProhibited => unreachable(1),
            Self::HostUnreachable => unreachable(3),
            Self::PortUnreachable => unreachable(4),
            Self::FragmentationNeeded { mtu } => ([v6::PACKET_TOO_BIG, 0], mtu.to_be_bytes()),
            Self::ParameterProblem { pointer } => ([v6::PARAMETER_PROBLEM, 0], pointer.to_be_bytes()),
            // "Unrecognised next header"; where it is, the builder says.
            Self::ProtocolUnreachable => ([v6::PARAMETER_PROBLEM, 1], [0; 4]),
        }
    }
}

/// Whether a packet's sender may be told that something went wrong with it: never about an error, never
/// about what others were sent too, never about a later fragment, and never to an address that is not one
/// host's (RFC 1122 §3.2.2, RFC 1812 §4.3.2.7, RFC 4443 §2.4 e). A network's own broadcast addresses only
/// its router knows.
pub fn may_answer(header: &ethernet::Header, packet: &Packet, kind: ErrorKind) -> bool {
    let is_about_error = match (packet.payload, packet.version) {
        (Transport::Error { .. }, _) | (Transport::LaterFragment, _) => true,
        (Transport::Icmp { kind, .. }, Version::V6) => {
            kind == REDIRECT_V6 || icmp::is_error(kind, Version::V6)
        }
        // Of types that nobody knows it is not known that they are no errors.
        (Transport::Icmp { kind, .. }, Version::V4) => kind > v4::ADDRESS_MASK_REPLY,
        _ => false,
    };
    // Multicast needs path MTU discovery too (RFC 4443 §2.4 e 3).
    let is_for_groups =
        matches!(kind, ErrorKind::FragmentationNeeded { .. }) && packet.version == Version::V6;
    // What was sent to the host's loopback, and came in by its sockets, was for one.
    let is_for_one = is_a_hosts(packet.destination) || packet.destination.is_loopback();
    let is_for_many = header.destination.is_group() || !is_for_one;
    !is_about_error && (!is_for_many || is_for_groups) && is_a_hosts(packet.source)
}

/// Whether an address can be a single host's.
fn is_a_hosts(address: Addr) -> bool {
    let is_reserved = address.version() == Version::V4 && {
        // 0.0.0.0/8 is "this network", 240.0.0.0/4 reserved, with the broadcast address (RFC 1122 §3.2.1.3).
        let [first, ..] = address.v4_bytes();
        first == 0 || first >= 240
    };
    !(address.is_unspecified() || address.is_multicast() || address.is_loopback() || is_reserved)
}

/// Replaces what is in `out` by an ICMP error about the packet in `frame`, to its sender.
///
/// `from` is an address of the gateway, of the packet's version. The quoted packet is the one that came in,
/// a partial checksum completed, as it would be on a wire; a super-frame is quoted as the single packet it
/// was sent as.
pub fn build(
    kind: ErrorKind,
    frame: &[u8],
    packet: &Packet,
    from: Addr,
    source_mac: MacAddr,
    destination_mac: MacAddr,
    out: &mut Vec<u8>,
) {
    let (longest, headers, tos) = match packet.version {
        // Internetwork control, with the packet's own wishes for delay, throughput and reliability (RFC 1812
        // §4.3.2.5), as Linux has it.
        Version::V4 => (LONGEST_V4, HEADERS_V4, TOS_V4 | packet.tos & 0x1e),
        Version::V6 => (LONGEST_V6, HEADERS_V6, 0),
    };
    let whole = frame.get(packet.start..packet.end).unwrap_or_default();
    let quoted = &whole[..whole.len().min(longest - headers)];
    let envelope = Envelope { source_mac, destination_mac, source: from, destination: packet.source };
    let (kind_and_code, mut rest) = kind.encode(packet.version);
    if kind == ErrorKind::ProtocolUnreachable && packet.version == Version::V6 {
        let field = ipv6::next_header_field(whole, packet.transport - packet.start);
        // Within the packet's headers.
        rest = (field as u32).to_be_bytes();
    }
    let checksum = completed(whole, packet);
    let body = match &checksum {
        Some((at, checksum)) if at + 2 <= quoted.len() => [&quoted[..*at], &checksum[..], &quoted[at + 2..]],
        _ => [quoted, &[], &[]],
    };
    emit::icmp(out, &envelope, tos, kind_and_code, rest, &body);
}

/// The checksum of a packet whose sender left it to its device, and where it belongs, from the IP header.
fn completed(whole: &[u8], packet: &Packet) -> Option<(usize, [u8; 2])> {
    if !packet.partial_checksum {
        return None;
    }
    let transport = packet.transport - packet.start;
    let sum = Sum::default().add(whole.get(transport..)?).finish();
    Some(match packet.payload {
        // A computed zero is sent as all ones (RFC 768).
        Transport::Udp(_) => (transport + udp::CHECKSUM, if sum == [0, 0] { [0xff; 2] } else { sum }),
        _ => (transport + tcp::CHECKSUM, sum),
    })
}

/// Whether a packet is a TCP segment that may be answered by a reset: see [`reset`].
pub fn may_reset(header: &ethernet::Header, packet: &Packet) -> bool {
    let is_segment = matches!(packet.payload, Transport::Tcp(segment) if segment.flags & tcp::RST == 0);
    is_segment && packet.fragment.is_none() && may_answer(header, packet, ErrorKind::PortUnreachable)
}

/// Replaces what is in `out` by the reset that answers a TCP segment at a port where nobody listens
/// (RFC 9293 §3.10.7.1), to its sender and as if from its receiver. Says whether there is one: a reset gets
/// none, nor do fragments, whose length nobody knows, nor what was sent to many.
pub fn reset(
    header: &ethernet::Header,
    packet: &Packet,
    source_mac: MacAddr,
    destination_mac: MacAddr,
    out: &mut Vec<u8>,
) -> bool {
    let Transport::Tcp(segment) = packet.payload else { return false };
    if !may_reset(header, packet) {
        return false;
    }
    let (seq, ack, flags) = if segment.flags & tcp::ACK != 0 {
        (segment.ack, 0, tcp::RST)
    } else {
        let one_if = |flag: u8| u32::from(segment.flags & flag != 0);
        let len = segment.payload.wrapping_add(one_if(tcp::SYN)).wrapping_add(one_if(tcp::FIN));
        (0, segment.seq.wrapping_add(len), tcp::RST | tcp::ACK)
    };
    let mut answer = [0; tcp::HEADER_LEN];
    answer[..2].copy_from_slice(&segment.destination.to_be_bytes());
    answer[2..4].copy_from_slice(&segment.source.to_be_bytes());
    answer[4..8].copy_from_slice(&seq.to_be_bytes());
    answer[8..12].copy_from_slice(&ack.to_be_bytes());
    answer[12..14].copy_from_slice(&[5 << 4, flags]);
    let (source, destination) = (packet.destination, packet.source);
    let envelope = Envelope { source_mac, destination_mac, source, destination };
    emit::tcp(out, &envelope, answer);
    true
}

#[cfg(test)]
mod tests;
