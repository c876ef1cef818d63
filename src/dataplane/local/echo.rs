//! Ping (RFC 792, RFC 1812 §4.3.3.6, RFC 4443 §4.1): the gateway answers.
//!
//! A reply carries everything back that the request brought: identifier, number, data, type of service,
//! and in IPv4 identification and "don't fragment". That keeps the identification of the replies as unique
//! as that of the requests (RFC 6864), without a counter that could be probed. Options and extension
//! headers of the request are not returned.

use super::{Interface, source_for};
use crate::wire::checksum::Sum;
use crate::wire::ethernet;
use crate::wire::icmp::{self, v4, v6};
use crate::wire::ip::{Addr, Version, protocol};
use crate::wire::ndp::{ALL_NODES, ALL_ROUTERS, Envelope, solicited_node};
use crate::wire::packet::{Packet, Transport};

/// TTL of what the gateway sends (RFC 1700, and what people look for).
const TTL: u8 = 64;
/// Bytes of an IPv6 header and of a fragment header.
const V6_HEADER: usize = 40;
const FRAGMENT_HEADER: usize = 8;
const FRAGMENT: u8 = 44;

/// The ICMP type of an echo request.
pub const fn request_kind(version: Version) -> u8 {
    match version {
        Version::V4 => v4::ECHO,
        Version::V6 => v6::ECHO_REQUEST,
    }
}

/// Whether a packet is an echo request that is to be answered: whole, and with the right checksum.
pub fn is_request(frame: &[u8], packet: &Packet) -> bool {
    let kind = request_kind(packet.version);
    let asks = matches!(packet.payload, Transport::Query { kind: asked, .. } if asked == kind);
    let message = frame.get(packet.transport..packet.end).unwrap_or_default();
    // The code is zero; hosts ignore it, and so does Linux.
    asks && packet.fragment.is_none()
        && icmp::sum(message, packet.version, packet.source, packet.destination).finish() == [0, 0]
}

/// The address that answers a request to `asked`: that address itself, if it is one host's; of the
/// multicast groups that a router listens to, one of the interface's (RFC 4443 §4.2). IPv4 leaves the choice
/// (RFC 1122 §3.2.2.6), and a broadcast has no answer, as with Linux: one question would bring many.
pub fn source(interface: &Interface, asked: Addr, asker: Addr) -> Option<Addr> {
    if !asked.is_multicast() {
        return Some(asked);
    }
    let own = interface.addresses.iter().map(|own| own.address).chain(super::link_local(interface));
    let mut own = own.filter(|own| own.version() == Version::V6);
    let listens = asked == ALL_NODES || asked == ALL_ROUTERS || own.any(|own| solicited_node(own) == asked);
    source_for(interface, asker).filter(|_| listens && asked.version() == Version::V6)
}

/// Replaces what is in `answer` by the answer to a request that was sent to one address and MAC address
/// of the gateway: it goes back where it came from. Whether there is one ([`is_request`]).
pub fn reply(frame: &[u8], packet: &Packet, answer: &mut Vec<u8>) -> bool {
    let Ok(header) = ethernet::Header::parse(frame) else { return false };
    if !is_request(frame, packet) {
        return false;
    }
    let envelope = Envelope {
        source_mac: header.destination,
        destination_mac: header.source,
        source: packet.destination,
        destination: packet.source,
    };
    reply_as(frame, packet, &envelope, answer);
    true
}

/// Replaces what is in `reply` by the answer to a request, from and to these addresses: for requests to a
/// group, whose answer needs a [`source`].
pub fn reply_as(frame: &[u8], packet: &Packet, envelope: &Envelope, reply: &mut Vec<u8>) {
    let message = frame.get(packet.transport..packet.end).unwrap_or_default();
    reply.clear();
    reply.extend_from_slice(&envelope.destination_mac.0);
    reply.extend_from_slice(&envelope.source_mac.0);
    let kind = match packet.version {
        Version::V4 => {
            reply.extend_from_slice(&ethernet::IPV4.to_be_bytes());
            ipv4_header(frame, packet, envelope, message.len(), reply);
            v4::ECHO_REPLY
        }
        Version::V6 => {
            reply.extend_from_slice(&ethernet::IPV6.to_be_bytes());
            // A payload is no longer than 65,535 bytes, and this one was part of one.
            let [l0, l1] = (message.len() as u16).to_be_bytes();
            let (class_high, class_low) = (packet.tos >> 4, packet.tos << 4);
            reply.extend_from_slice(&[0x60 | class_high, class_low, 0, 0, l0, l1, protocol::ICMPV6, TTL]);
            reply.extend_from_slice(&envelope.source.v6_bytes());
            reply.extend_from_slice(&envelope.destination.v6_bytes());
            v6::ECHO_REPLY
        }
    };
    let start = reply.len();
    reply.extend_from_slice(message);
    if let Some([to_kind, code, c0, c1, ..]) = reply.get_mut(start..) {
        [*to_kind, *code, *c0, *c1] = [kind, 0, 0, 0];
    }
    let sum = icmp::sum(&reply[start..], packet.version, envelope.source, envelope.destination).finish();
    if let Some(checksum) = reply.get_mut(start + icmp::CHECKSUM..start + icmp::CHECKSUM + 2) {
        checksum.copy_from_slice(&sum);
    }
}

fn ipv4_header(frame: &[u8], packet: &Packet, envelope: &Envelope, payload: usize, reply: &mut Vec<u8>) {
    let start = reply.len();
    // A packet is no longer than 65,535 bytes, and the request's header was no shorter.
    let [l0, l1] = ((payload + 20) as u16).to_be_bytes();
    let id = frame.get(packet.start + 4..packet.start + 6).unwrap_or(&[0, 0]);
    let flags = if packet.dont_fragment { 0x40 } else { 0 };
    reply.extend_from_slice(&[0x45, packet.tos, l0, l1]);
    reply.extend_from_slice(id);
    reply.extend_from_slice(&[flags, 0, TTL, protocol::ICMP, 0, 0]);
    reply.extend_from_slice(&envelope.source.v4_bytes());
    reply.extend_from_slice(&envelope.destination.v4_bytes());
    let sum = Sum::default().add(&reply[start..]).finish();
    reply[start + 10..start + 12].copy_from_slice(&sum);
}

/// Cuts an IPv6 packet of ours into fragments for an MTU (RFC 8200 §4.5) and hands each to `emit` as a
/// frame; one that fits goes as it is. The packet has no extension headers.
pub fn fragment_v6(frame: &[u8], mtu: usize, id: u32, mut emit: impl FnMut(&[u8])) {
    let headers = ethernet::HEADER_LEN + V6_HEADER;
    let Some((head, payload)) = frame.split_at_checked(headers) else { return };
    // An IPv6 link carries 1280 bytes at least (RFC 8200 §5).
    let mtu = mtu.max(1280);
    if V6_HEADER + payload.len() <= mtu {
        return emit(frame);
    }
    let room = (mtu - V6_HEADER - FRAGMENT_HEADER) & !7;
    let next = head[ethernet::HEADER_LEN + 6];
    let mut out = Vec::with_capacity(headers + FRAGMENT_HEADER + room);
    for (at, piece) in payload.chunks(room).enumerate() {
        let more = at * room + piece.len() < payload.len();
        // Within a payload of 65,535 bytes.
        let offset = (at * room) as u16 | u16::from(more);
        out.clear();
        out.extend_from_slice(head);
        out[ethernet::HEADER_LEN + 4..ethernet::HEADER_LEN + 6]
            .copy_from_slice(&((FRAGMENT_HEADER + piece.len()) as u16).to_be_bytes());
        out[ethernet::HEADER_LEN + 6] = FRAGMENT;
        out.extend_from_slice(&[next, 0]);
        out.extend_from_slice(&offset.to_be_bytes());
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(piece);
        emit(&out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{MacAddr, Offload};
    use etherparse::{Icmpv4Type, Icmpv6Type, NetHeaders, PacketBuilder, PacketHeaders, TransportHeader};
    use proptest::prelude::*;

    const OURS: MacAddr = MacAddr([2, 0x42, 0, 0, 0, 1]);
    const HOST: MacAddr = MacAddr([2, 0x42, 0, 0, 0, 2]);
    const V4: [[u8; 4]; 2] = [[172, 17, 0, 2], [172, 17, 0, 1]];
    const V6: [[u8; 16]; 2] = [
        [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
        [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    ];

    /// A ping of the host to the gateway.
    fn ping(version: Version, data: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2(HOST.0, OURS.0);
        match version {
            Version::V4 => builder.ipv4(V4[0], V4[1], 63).icmpv4_echo_request(77, 5).write(&mut frame, data),
            Version::V6 => builder.ipv6(V6[0], V6[1], 63).icmpv6_echo_request(77, 5).write(&mut frame, data),
        }
        .unwrap();
        frame
    }

    fn parse(frame: &[u8], version: Version) -> Packet {
        Packet::parse(frame, 14, version, &Offload::NONE).unwrap()
    }

    fn answer(frame: &[u8], version: Version) -> Vec<u8> {
        let packet = parse(frame, version);
        let mut out = vec![7; 9];
        assert!(reply(frame, &packet, &mut out));
        out
    }

    #[test]
    fn a_reply_byte_by_byte() {
        #[rustfmt::skip]
        let request = [
            2, 0x42, 0, 0, 0, 1, 2, 0x42, 0, 0, 0, 2, 8, 0,
            0x45, 0xb8, 0, 30, 0x12, 0x34, 0x40, 0, 63, 1, 0xd0, 0xcd, 172, 17, 0, 2, 172, 17, 0, 1,
            8, 0, 0x58, 0xad, 0, 77, 0, 5, 0x9f, 0x00,
        ];
        #[rustfmt::skip]
        let expected = [
            2, 0x42, 0, 0, 0, 2, 2, 0x42, 0, 0, 0, 1, 8, 0,
            0x45, 0xb8, 0, 30, 0x12, 0x34, 0x40, 0, 64, 1, 0xcf, 0xcd, 172, 17, 0, 1, 172, 17, 0, 2,
            0, 0, 0x60, 0xad, 0, 77, 0, 5, 0x9f, 0x00,
        ];
        assert_eq!(answer(&request, Version::V4), expected);
    }

    #[test]
    fn only_echo_requests_with_a_right_checksum_are_answered() {
        for version in [Version::V4, Version::V6] {
            let mut frame = ping(version, b"abcd");
            assert!(is_request(&frame, &parse(&frame, version)));
            let pong = answer(&frame, version);
            assert!(!reply(&pong, &parse(&pong, version), &mut Vec::new()), "a reply is no request");
            *frame.last_mut().unwrap() ^= 1;
            assert!(!reply(&frame, &parse(&frame, version), &mut Vec::new()), "wrong checksum");
        }
        let mut frame = Vec::new();
        let message = etherparse::icmpv4::TimestampMessage {
            id: 1,
            seq: 2,
            originate_timestamp: 3,
            receive_timestamp: 4,
            transmit_timestamp: 5,
        };
        let builder = PacketBuilder::ethernet2(HOST.0, OURS.0).ipv4(V4[0], V4[1], 63);
        builder.icmpv4(Icmpv4Type::TimestampRequest(message)).write(&mut frame, &[]).unwrap();
        assert!(!is_request(&frame, &parse(&frame, Version::V4)));
    }

    #[test]
    fn who_answers_which_address() {
        let addresses = ["172.17.0.1/16", "fd00::1/64"].map(|text| {
            let (address, len) = text.split_once('/').unwrap();
            let address = address.parse::<std::net::IpAddr>().unwrap().into();
            let prefix = crate::wire::ip::Prefix::new(address, len.parse().unwrap());
            crate::dataplane::InterfaceAddress { address, prefix }
        });
        let interface = Interface {
            role: crate::dataplane::Role::Network,
            mac: OURS,
            addresses: addresses.to_vec(),
            forward: true,
            internal: false,
            advertise: false,
            mss_clamp: crate::dataplane::MssClamp::Off,
            uplink: None,
            filter_bridged: false,
            sockets: false,
        };
        let addr = |text: &str| Addr::from(text.parse::<std::net::IpAddr>().unwrap());
        let rows = [
            ("172.17.0.1", "172.17.0.2", Some("172.17.0.1")),
            ("224.0.0.1", "172.17.0.2", None),
            ("ff02::1", "fd00::2", Some("fd00::1")),
            ("ff02::1", "fe80::2", Some("fe80::42:ff:fe00:1")),
            ("ff02::2", "fd00::2", Some("fd00::1")),
            ("ff02::1:ff00:1", "fd00::2", Some("fd00::1")),
            ("ff02::1:ff00:2", "fd00::2", None),
            ("ff05::1", "fd00::2", None),
        ];
        for (asked, asker, expected) in rows {
            assert_eq!(source(&interface, addr(asked), addr(asker)), expected.map(addr), "{asked}");
        }
    }

    proptest! {
        #[test]
        fn etherparse_reads_the_reply(data in proptest::collection::vec(any::<u8>(), 0..1400), is_v4: bool) {
            let version = if is_v4 { Version::V4 } else { Version::V6 };
            let out = answer(&ping(version, &data), version);
            let headers = PacketHeaders::from_ethernet_slice(&out).unwrap();
            prop_assert_eq!(headers.payload.slice(), &data[..]);
            match (headers.net.unwrap(), headers.transport.unwrap()) {
                (NetHeaders::Ipv4(ip, _), TransportHeader::Icmpv4(icmp)) => {
                    prop_assert_eq!((ip.source, ip.destination, ip.time_to_live), (V4[1], V4[0], 64));
                    prop_assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                    prop_assert_eq!(icmp.checksum, icmp.icmp_type.calc_checksum(&data));
                    let echo = etherparse::IcmpEchoHeader { id: 77, seq: 5 };
                    prop_assert_eq!(icmp.icmp_type, Icmpv4Type::EchoReply(echo));
                }
                (NetHeaders::Ipv6(ip, _), TransportHeader::Icmpv6(icmp)) => {
                    prop_assert_eq!((ip.source, ip.destination, ip.hop_limit), (V6[1], V6[0], 64));
                    let sum = icmp.icmp_type.calc_checksum(V6[1], V6[0], &data).unwrap();
                    prop_assert_eq!(icmp.checksum, sum);
                    let echo = etherparse::IcmpEchoHeader { id: 77, seq: 5 };
                    prop_assert_eq!(icmp.icmp_type, Icmpv6Type::EchoReply(echo));
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }

        #[test]
        fn fragments_fit_and_cover_the_packet(len in 0usize..20_000, mtu in 1280usize..3000) {
            let data: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let whole = ping(Version::V6, &data);
            let mut payload = Vec::new();
            let mut count = 0;
            fragment_v6(&whole, mtu, 99, |frame| {
                count += 1;
                assert!(frame.len() - 14 <= mtu);
                let packet = parse(frame, Version::V6);
                match packet.fragment {
                    None => assert_eq!(frame, whole),
                    Some(fragment) => {
                        assert_eq!((fragment.id, usize::from(fragment.offset)), (99, payload.len()));
                        payload.extend_from_slice(&frame[62..]);
                        assert_eq!(fragment.more, payload.len() < whole.len() - 54);
                    }
                }
            });
            if count > 1 {
                prop_assert_eq!(&payload[..], &whole[54..]);
                prop_assert_eq!(count, (whole.len() - 54).div_ceil((mtu - 48) & !7));
            } else {
                prop_assert!(whole.len() - 14 <= mtu);
            }
        }
    }
}
