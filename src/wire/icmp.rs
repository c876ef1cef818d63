//! ICMP (RFC 792) and ICMPv6 (RFC 4443) messages, as far as a router has to understand them.

use super::checksum::Sum;
use super::ip::{Addr, Version, protocol};
use super::ipv4;
use super::ipv6;
use super::packet::Transport;

/// Bytes of a message's header.
pub const HEADER_LEN: usize = 8;
/// Where the checksum lies in the header.
pub const CHECKSUM: usize = 2;
/// Where a query's identifier lies in the header.
pub const ID: usize = 4;

/// Message types (IANA "ICMP Type Numbers").
pub mod v4 {
    #![allow(missing_docs)] // the registry's names
    pub const ECHO_REPLY: u8 = 0;
    pub const DESTINATION_UNREACHABLE: u8 = 3;
    pub const SOURCE_QUENCH: u8 = 4;
    pub const REDIRECT: u8 = 5;
    pub const ECHO: u8 = 8;
    pub const TIME_EXCEEDED: u8 = 11;
    pub const PARAMETER_PROBLEM: u8 = 12;
    pub const TIMESTAMP: u8 = 13;
    pub const TIMESTAMP_REPLY: u8 = 14;
    pub const INFORMATION: u8 = 15;
    pub const INFORMATION_REPLY: u8 = 16;
    pub const ADDRESS_MASK: u8 = 17;
    pub const ADDRESS_MASK_REPLY: u8 = 18;
    /// The code of "destination unreachable" that carries an MTU (RFC 1191).
    pub const FRAGMENTATION_NEEDED: u8 = 4;
}

/// Message types (IANA "ICMPv6 Type Numbers").
pub mod v6 {
    #![allow(missing_docs)] // the registry's names
    pub const DESTINATION_UNREACHABLE: u8 = 1;
    pub const PACKET_TOO_BIG: u8 = 2;
    pub const TIME_EXCEEDED: u8 = 3;
    pub const PARAMETER_PROBLEM: u8 = 4;
    pub const ECHO_REQUEST: u8 = 128;
    pub const ECHO_REPLY: u8 = 129;
}

/// The packet that an ICMP error is about, as far as it is quoted. It names the flow in the direction of
/// the packet that went wrong. Positions are bytes from the start of the frame, and inside it.
///
/// Nothing in it is to be trusted: whoever sends the error writes what he likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quote {
    /// Source address.
    pub source: Addr,
    /// Destination address.
    pub destination: Addr,
    /// Source and destination port, an ICMP query's identifier twice, or zeros when the protocol has no
    /// ports. `None` when the quoted packet can be of no flow (it is an ICMP error itself, or another
    /// message without an identifier) or does not say of which one (it is a later fragment).
    pub ports: Option<(u16, u16)>,
    /// The sequence number that a quoted TCP header begins with, if it reaches so far.
    pub seq: Option<u32>,
    /// The protocol behind all extension headers.
    pub protocol: u8,
    /// Whether the quoted ICMP query asks.
    pub is_request: bool,
    /// Where the quoted IP header is.
    pub start: usize,
    /// Where the quoted transport header is.
    pub transport: usize,
    /// Where the quoted packet ends, or the quote does.
    pub end: usize,
}

/// What kind of message a type is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Query { is_request: bool },
    Error,
    Else,
}

const fn class(kind: u8, version: Version) -> Class {
    match version {
        Version::V4 => match kind {
            v4::ECHO | v4::TIMESTAMP | v4::INFORMATION | v4::ADDRESS_MASK => {
                Class::Query { is_request: true }
            }
            v4::ECHO_REPLY | v4::TIMESTAMP_REPLY | v4::INFORMATION_REPLY | v4::ADDRESS_MASK_REPLY => {
                Class::Query { is_request: false }
            }
            v4::DESTINATION_UNREACHABLE
            | v4::SOURCE_QUENCH
            | v4::REDIRECT
            | v4::TIME_EXCEEDED
            | v4::PARAMETER_PROBLEM => Class::Error,
            _ => Class::Else,
        },
        Version::V6 => match kind {
            v6::ECHO_REQUEST => Class::Query { is_request: true },
            v6::ECHO_REPLY => Class::Query { is_request: false },
            // RFC 4443 §2.1: all of them, those not yet defined too.
            0..128 => Class::Error,
            _ => Class::Else,
        },
    }
}

/// Whether a type is an error's; no error is ever sent about an error (RFC 1122 §3.2.2, RFC 4443 §2.4 e).
pub const fn is_error(kind: u8, version: Version) -> bool {
    matches!(class(kind, version), Class::Error)
}

/// Whether the checksum of a whole message is right. Only errors are looked at: they act upon other flows.
#[inline]
pub(super) fn has_right_checksum(bytes: &[u8], version: Version, source: Addr, destination: Addr) -> bool {
    let is_error = bytes.first().is_some_and(|kind| is_error(*kind, version));
    !is_error || sum(bytes, version, source, destination).finish() == [0, 0]
}

/// The sum over a message of the given addresses; of IPv6's, with the pseudo header.
pub(crate) fn sum(bytes: &[u8], version: Version, source: Addr, destination: Addr) -> Sum {
    match version {
        Version::V4 => Sum::default().add(bytes),
        Version::V6 => {
            let (source, destination) = (source.v6_bytes().into(), destination.v6_bytes().into());
            // An IP packet has less than 2^17 bytes.
            Sum::default().add_ipv6(source, destination, protocol::ICMPV6, bytes.len() as u32).add(bytes)
        }
    }
}

/// Reads a message, which is all of `bytes` and lies at `start` in the frame.
#[inline]
pub(super) fn parse(bytes: &[u8], start: usize, version: Version) -> Option<Transport> {
    let (header, quoted) = bytes.split_first_chunk::<HEADER_LEN>()?;
    let [kind, code, _, _, i0, i1, m0, m1] = *header;
    Some(match class(kind, version) {
        Class::Query { is_request } => {
            Transport::Query { kind, id: u16::from_be_bytes([i0, i1]), is_request }
        }
        Class::Else => Transport::Icmp { kind, code },
        Class::Error => {
            let mtu = match (version, kind, code) {
                (Version::V4, v4::DESTINATION_UNREACHABLE, v4::FRAGMENTATION_NEEDED) => {
                    u32::from(u16::from_be_bytes([m0, m1]))
                }
                (Version::V6, v6::PACKET_TOO_BIG, _) => u32::from_be_bytes([i0, i1, m0, m1]),
                _ => 0,
            };
            let quote = match version {
                Version::V4 => quote_v4(quoted, start + HEADER_LEN),
                Version::V6 => quote_v6(quoted, start + HEADER_LEN),
            };
            Transport::Error { kind, code, mtu, quote: quote? }
        }
    })
}

/// Reads a quoted IPv4 packet. Its header must be whole; its checksum is not looked at, for routers on the
/// way may have spoilt it before they quoted it.
#[cold]
fn quote_v4(quoted: &[u8], start: usize) -> Option<Quote> {
    let header = quoted.first_chunk::<{ ipv4::HEADER_LEN }>()?;
    let [first, _, l0, l1, _, _, f0, f1, _, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = *header;
    let header_len = usize::from(first & 0xf) * 4;
    let total = usize::from(u16::from_be_bytes([l0, l1]));
    if first >> 4 != 4 || header_len < ipv4::HEADER_LEN || total < header_len {
        return None;
    }
    let end = total.min(quoted.len());
    let transport = quoted.get(header_len..end)?;
    let mut quote = Quote {
        source: Addr::v4([s0, s1, s2, s3]),
        destination: Addr::v4([d0, d1, d2, d3]),
        protocol,
        ports: None,
        seq: None,
        is_request: false,
        start,
        transport: start + header_len,
        end: start + end,
    };
    if (f0 & 0x1f) | f1 == 0 {
        quote.read_transport(transport, Version::V4);
    }
    Some(quote)
}

/// Reads a quoted IPv6 packet, whose headers must be whole.
#[cold]
fn quote_v6(quoted: &[u8], start: usize) -> Option<Quote> {
    let ([first, _, _, _, l0, l1, next, _, addresses @ ..], rest) =
        quoted.split_first_chunk::<{ ipv6::HEADER_LEN }>()?;
    let (source, destination) = ipv6::split_addresses(addresses);
    let is_mapped = source.version() == Version::V4 || destination.version() == Version::V4;
    if first >> 4 != 6 || is_mapped {
        return None;
    }
    let len = usize::from(u16::from_be_bytes([*l0, *l1])).min(rest.len());
    let chain = ipv6::walk(&rest[..len], *next, true).ok()?;
    let payload = start + ipv6::HEADER_LEN;
    let mut quote = Quote {
        source,
        destination,
        protocol: chain.protocol,
        ports: None,
        seq: None,
        is_request: false,
        start,
        transport: payload + chain.transport,
        end: payload + len,
    };
    if chain.fragment.is_none_or(|fragment| fragment.offset == 0) {
        quote.read_transport(&rest[chain.transport..len], Version::V6);
    }
    Some(quote)
}

impl Quote {
    /// Reads what names a flow from the quoted transport header, of which RFC 792 promises 8 bytes.
    fn read_transport(&mut self, bytes: &[u8], version: Version) {
        match (self.protocol, version) {
            (protocol::TCP | protocol::UDP, _) => {
                let Some([s0, s1, d0, d1]) = bytes.first_chunk().copied() else { return };
                self.ports = Some((u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])));
                if self.protocol == protocol::TCP {
                    self.seq =
                        bytes.get(4..).and_then(<[u8]>::first_chunk).map(|seq| u32::from_be_bytes(*seq));
                }
            }
            (protocol::ICMP, Version::V4) | (protocol::ICMPV6, Version::V6) => {
                let Some([kind, _, _, _, i0, i1]) = bytes.first_chunk().copied() else { return };
                if let Class::Query { is_request } = class(kind, version) {
                    let id = u16::from_be_bytes([i0, i1]);
                    (self.ports, self.is_request) = (Some((id, id)), is_request);
                }
            }
            _ => self.ports = Some((0, 0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{IpError, Offload, Packet};
    use etherparse::PacketBuilder;

    const A6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    const B6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

    /// A frame with an ICMP message: its type and code, the rest of its header, what follows.
    fn message(version: Version, kind: [u8; 2], rest: [u8; 4], body: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
        match version {
            Version::V4 => ethernet
                .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
                .icmpv4_raw(kind[0], kind[1], rest)
                .write(&mut frame, body),
            Version::V6 => {
                ethernet.ipv6(A6, B6, 64).icmpv6_raw(kind[0], kind[1], rest).write(&mut frame, body)
            }
        }
        .unwrap();
        frame
    }

    /// A packet to be quoted, from its IP header on, with this protocol and what is behind the header.
    fn quotable(version: Version, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        let number = etherparse::IpNumber(protocol);
        match version {
            Version::V4 => PacketBuilder::ipv4([1; 4], [2; 4], 1).write(&mut packet, number, payload),
            Version::V6 => PacketBuilder::ipv6([0xfe; 16], [0xfc; 16], 1).write(&mut packet, number, payload),
        }
        .unwrap();
        packet
    }

    fn parse(version: Version, frame: &[u8]) -> Result<Transport, IpError> {
        Packet::parse(frame, 14, version, &Offload::NONE).map(|packet| packet.payload)
    }

    fn quote(version: Version, quoted: &[u8]) -> Result<Quote, IpError> {
        let unreachable = if version == Version::V4 { 3 } else { 1 };
        match parse(version, &message(version, [unreachable, 1], [0; 4], quoted))? {
            Transport::Error { quote, mtu: 0, code: 1, .. } => Ok(quote),
            other => panic!("{other:?}"),
        }
    }

    const TCP: [u8; 20] = [0, 80, 1, 2, 0, 0, 0, 7, 0, 0, 0, 0, 5 << 4, 16, 0, 0, 0, 0, 0, 0];

    #[test]
    fn a_quote_may_be_cut_anywhere() {
        for (version, header, start) in [(Version::V4, 20, 42), (Version::V6, 40, 62)] {
            let whole = quotable(version, 6, &TCP);
            for len in 0..=whole.len() {
                let quote = quote(version, &whole[..len]);
                let Some(transport) = len.checked_sub(header) else {
                    assert_eq!(quote, Err(IpError::Transport), "{len}: the header must be whole");
                    continue;
                };
                let quote = quote.unwrap();
                assert_eq!(quote.ports, (transport >= 4).then_some((80, 258)));
                assert_eq!(quote.seq, (transport >= 8).then_some(7));
                let positions = (quote.start, quote.transport, quote.end);
                assert_eq!(positions, (start, start + header, start + len));
            }
        }
    }

    /// RFC 4884 puts extensions behind a quote that is filled up: they are no part of the quoted packet.
    #[test]
    fn a_quote_ends_with_its_packet() {
        for version in [Version::V4, Version::V6] {
            let packet = quotable(version, 6, &TCP);
            let quote = quote(version, &[&packet[..], &[0; 100]].concat()).unwrap();
            assert_eq!(quote.end - quote.start, packet.len());
        }
    }

    #[test]
    fn what_is_of_no_flow_has_no_ports() {
        for (version, icmp, query, error, later) in
            [(Version::V4, 1, 8, 11, None), (Version::V6, 58, 128, 3, Some([6, 0, 0, 8, 0, 0, 0, 1]))]
        {
            let asked =
                quote(version, &quotable(version, icmp, &[query, 0, 0, 0, 0x12, 0x34, 0, 0])).unwrap();
            assert_eq!((asked.ports, asked.is_request), (Some((0x1234, 0x1234)), true));
            let nested = quote(version, &quotable(version, icmp, &[error, 0, 0, 0, 0x12, 0x34, 0, 0]));
            assert_eq!(nested.unwrap().ports, None);
            assert_eq!(quote(version, &quotable(version, 47, &[0; 8])).unwrap().ports, Some((0, 0)));
            let fragment = match later {
                Some(header) => quotable(version, 44, &[&header[..], &TCP].concat()),
                None => {
                    let mut packet = quotable(version, 6, &TCP);
                    packet[7] = 1;
                    packet
                }
            };
            assert_eq!(quote(version, &fragment).unwrap().ports, None);
        }
    }

    #[test]
    fn quoted_extension_headers_are_walked() {
        let first = [6, 0, 0, 1, 0, 0, 0, 1];
        let options = [44, 0, 1, 4, 0, 0, 0, 0];
        let packet = quotable(Version::V6, 60, &[&options[..], &first, &TCP].concat());
        let quote = quote(Version::V6, &packet).unwrap();
        assert_eq!((quote.protocol, quote.ports, quote.transport), (6, Some((80, 258)), 62 + 40 + 16));
    }

    #[test]
    fn a_quote_that_is_no_packet_is_refused() {
        for (version, other) in [(Version::V4, Version::V6), (Version::V6, Version::V4)] {
            assert_eq!(quote(version, &quotable(other, 6, &TCP)), Err(IpError::Transport));
            assert_eq!(quote(version, &[0; 60]), Err(IpError::Transport));
        }
        let mut short = quotable(Version::V4, 6, &TCP);
        short[3] = 19;
        assert_eq!(quote(Version::V4, &short), Err(IpError::Transport));
        let mut mapped = quotable(Version::V6, 6, &TCP);
        mapped[8..24].copy_from_slice(&Addr::v4([1; 4]).v6_bytes());
        assert_eq!(quote(Version::V6, &mapped), Err(IpError::Transport));
    }

    #[test]
    fn an_error_with_a_wrong_checksum_is_refused() {
        for version in [Version::V4, Version::V6] {
            let mut frame = message(version, [3, 1], [0; 4], &quotable(version, 6, &TCP));
            assert!(parse(version, &frame).is_ok());
            *frame.last_mut().unwrap() ^= 1;
            assert_eq!(parse(version, &frame), Err(IpError::Transport));
        }
    }

    #[test]
    fn only_too_big_has_an_mtu() {
        let cases = [
            (Version::V4, [3, 4], [0, 0, 5, 0x78], 1400),
            (Version::V4, [3, 3], [0, 0, 5, 0x78], 0),
            (Version::V4, [11, 0], [0, 0, 5, 0x78], 0),
            (Version::V6, [2, 0], [0, 1, 5, 0x78], 66936),
            (Version::V6, [1, 0], [0, 1, 5, 0x78], 0),
        ];
        for (version, kind, rest, expected) in cases {
            let frame = message(version, kind, rest, &quotable(version, 6, &TCP));
            let Ok(Transport::Error { mtu, kind: read, code, .. }) = parse(version, &frame) else { panic!() };
            assert_eq!((mtu, [read, code]), (expected, kind));
        }
    }

    #[test]
    fn classes_of_types() {
        let of =
            |version, wanted| (0..=255).filter(|kind| class(*kind, version) == wanted).collect::<Vec<u8>>();
        assert_eq!(of(Version::V4, Class::Query { is_request: true }), [8, 13, 15, 17]);
        assert_eq!(of(Version::V4, Class::Query { is_request: false }), [0, 14, 16, 18]);
        assert_eq!(of(Version::V4, Class::Error), [3, 4, 5, 11, 12]);
        assert_eq!(of(Version::V6, Class::Query { is_request: true }), [128]);
        assert_eq!(of(Version::V6, Class::Query { is_request: false }), [129]);
        assert_eq!(of(Version::V6, Class::Error), (0..128).collect::<Vec<u8>>());
    }

    #[test]
    fn short_messages_are_refused() {
        let frame = message(Version::V4, [8, 0], [0; 4], b"");
        let mut short = frame[..frame.len() - 1].to_vec();
        short[17] -= 1;
        short[24..26].fill(0);
        let sum = Sum::default().add(&short[14..34]).finish();
        short[24..26].copy_from_slice(&sum);
        assert_eq!(parse(Version::V4, &short), Err(IpError::Transport));
    }
}
