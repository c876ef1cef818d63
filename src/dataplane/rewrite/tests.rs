use etherparse::{Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, PacketBuilder};
use proptest::prelude::*;

use super::*;
use crate::wire::Offload;
use crate::wire::checksum::Sum;

const MACS: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
    Echo,
}

fn version(tuple: &Tuple) -> Version {
    tuple.source.version()
}

fn builder(tuple: &Tuple, ttl: u8) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    let ethernet = PacketBuilder::ethernet2(MACS.0, MACS.1);
    match version(tuple) {
        Version::V4 => ethernet.ipv4(tuple.source.v4_bytes(), tuple.destination.v4_bytes(), ttl),
        Version::V6 => ethernet.ipv6(tuple.source.v6_bytes(), tuple.destination.v6_bytes(), ttl),
    }
}

/// A packet of a tuple, as etherparse writes it, checksums and all.
fn build(kind: Kind, tuple: &Tuple, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let (source, destination) = (tuple.source_port, tuple.destination_port);
    let builder = builder(tuple, ttl);
    match (kind, version(tuple)) {
        (Kind::Tcp, _) => builder.tcp(source, destination, 7, 500).ack(9).write(&mut frame, payload),
        (Kind::Udp, _) => builder.udp(source, destination).write(&mut frame, payload),
        (Kind::Echo, Version::V4) => builder.icmpv4_echo_request(source, 1).write(&mut frame, payload),
        (Kind::Echo, Version::V6) => builder.icmpv6_echo_request(source, 1).write(&mut frame, payload),
    }
    .unwrap();
    frame
}

fn parse(frame: &[u8]) -> Packet {
    parse_offloaded(frame, &Offload::NONE)
}

fn parse_offloaded(frame: &[u8], offload: &Offload) -> Packet {
    let version = if frame[12] == 8 { Version::V4 } else { Version::V6 };
    Packet::parse(frame, 14, version, offload).unwrap()
}

fn addr(is_v6: bool, seed: u64) -> Addr {
    match is_v6 {
        false => Addr::v4((seed as u32).to_be_bytes()),
        // Never a mapped address.
        true => Addr::from_bits(u128::from(seed) << 70 | 0xfd << 120 | u128::from(seed)),
    }
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Tcp), Just(Kind::Udp), Just(Kind::Echo)]
}

/// A kind and two tuples of one version.
fn two_tuples() -> impl Strategy<Value = (Kind, Tuple, Tuple)> {
    (kinds(), any::<bool>(), any::<[u64; 4]>(), any::<[u16; 4]>()).prop_map(
        |(kind, is_v6, addresses, ports)| {
            let tuple = |at: usize| {
                let is_echo = kind == Kind::Echo;
                Tuple {
                    source: addr(is_v6, addresses[at]),
                    destination: addr(is_v6, addresses[at + 1]),
                    source_port: ports[at],
                    destination_port: ports[if is_echo { at } else { at + 1 }],
                    protocol: match (kind, is_v6) {
                        (Kind::Tcp, _) => protocol::TCP,
                        (Kind::Udp, _) => protocol::UDP,
                        (Kind::Echo, false) => protocol::ICMP,
                        (Kind::Echo, true) => protocol::ICMPV6,
                    },
                }
            };
            (kind, tuple(0), tuple(2))
        },
    )
}

fn payloads() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..200)
}

/// An ICMP error from `outer.0` to `outer.1` that quotes `quoted`.
fn error(outer: (Addr, Addr), quoted: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let ethernet = PacketBuilder::ethernet2(MACS.0, MACS.1);
    match outer.0.version() {
        Version::V4 => ethernet
            .ipv4(outer.0.v4_bytes(), outer.1.v4_bytes(), 64)
            .icmpv4_raw(3, 4, [0, 0, 5, 0])
            .write(&mut frame, quoted),
        Version::V6 => ethernet
            .ipv6(outer.0.v6_bytes(), outer.1.v6_bytes(), 64)
            .icmpv6_raw(2, 0, [0, 0, 5, 0])
            .write(&mut frame, quoted),
    }
    .unwrap();
    frame
}

proptest! {
    #[test]
    fn a_translated_packet_is_the_packet_of_the_new_tuple(
        (kind, from, to) in two_tuples(), payload in payloads(), ttl in 1u8..,
    ) {
        let original = build(kind, &from, ttl, &payload);
        let mut frame = original.clone();
        let packet = parse(&frame);
        translate(&mut frame, &packet, &to);
        prop_assert_eq!(&frame, &build(kind, &to, ttl, &payload));
        translate(&mut frame, &packet, &from);
        prop_assert_eq!(&frame, &original, "and back");
        decrement_ttl(&mut frame, &packet);
        prop_assert_eq!(&frame, &build(kind, &from, ttl - 1, &payload));
    }

    #[test]
    fn a_translated_error_quotes_the_packet_of_the_new_tuple(
        (kind, from, to) in two_tuples(), payload in payloads(), outer: [u64; 4], cut in 8usize..,
    ) {
        let is_v6 = version(&from) == Version::V6;
        let [a, b, c, d] = outer.map(|seed| addr(is_v6, seed));
        let headers = if is_v6 { 40 } else { 20 };
        let quoted = build(kind, &from, 1, &payload);
        let cut = 14 + headers + cut % (quoted.len() - 14 - headers + 1).max(9);
        let cut = cut.clamp(14 + headers + 8, quoted.len());
        let mut frame = error((a, b), &quoted[14..cut]);
        let packet = parse(&frame);
        let Transport::Error { quote, mtu, .. } = packet.payload else { panic!("{packet:?}") };
        prop_assert_eq!(mtu, 1280);
        prop_assert_eq!((quote.source, quote.destination, quote.protocol), (from.source, from.destination, from.protocol));
        prop_assert_eq!(quote.ports, Some((from.source_port, from.destination_port)));
        prop_assert_eq!((quote.is_request, quote.seq), (kind == Kind::Echo, (kind == Kind::Tcp).then_some(7)));
        let original = frame.clone();
        translate_error(&mut frame, &packet, &quote, (c, d), &to);
        let mut new = build(kind, &to, 1, &payload);
        let checksum = 14 + headers + if kind == Kind::Tcp { 16 } else { 6 };
        if cut == checksum + 1 && kind != Kind::Echo {
            // Of half a checksum nothing can be computed: it stays.
            new[checksum] = quoted[checksum];
        }
        prop_assert_eq!(&frame, &error((c, d), &new[14..cut]));
        translate_error(&mut frame, &packet, &quote, (a, b), &from);
        prop_assert_eq!(&frame, &original, "and back");
    }

    /// What a device completes after the translation is what it would have completed for the new tuple.
    #[test]
    fn a_partial_checksum_covers_addresses_only(
        (kind, from, to) in two_tuples(), payload in payloads(),
    ) {
        prop_assume!(kind != Kind::Echo);
        let make = |tuple: &Tuple| {
            let mut frame = build(kind, tuple, 64, &payload);
            let (start, offset) = (parse(&frame).transport, if kind == Kind::Tcp { 16 } else { 6 });
            let len = frame.len() - start;
            let sum = match version(tuple) {
                Version::V4 => Sum::default().add_ipv4(
                    tuple.source.v4_bytes().into(), tuple.destination.v4_bytes().into(), tuple.protocol, len as u16),
                Version::V6 => Sum::default().add_ipv6(
                    tuple.source.v6_bytes().into(), tuple.destination.v6_bytes().into(), tuple.protocol, len as u32),
            };
            frame[start + offset..start + offset + 2].copy_from_slice(&sum.partial());
            let offload = Offload { flags: 1, csum_start: start as u16, csum_offset: offset as u16, ..Offload::NONE };
            (frame, offload)
        };
        let (mut frame, offload) = make(&from);
        let packet = parse_offloaded(&frame, &offload);
        translate(&mut frame, &packet, &to);
        prop_assert_eq!(frame, make(&to).0);
    }

    #[test]
    fn a_clamped_segment_announces_at_most_the_maximum(
        odd: bool, mss: u16, max: u16, payload in payloads(), is_v6: bool,
    ) {
        use etherparse::TcpOptionElement::{MaximumSegmentSize, Noop, WindowScale};
        let tuple = Tuple { source: addr(is_v6, 1), destination: addr(is_v6, 2), source_port: 3,
            destination_port: 4, protocol: protocol::TCP };
        let build = |mss| {
            let first = if odd { WindowScale(7) } else { Noop };
            let mut frame = Vec::new();
            let options = [Noop, first, MaximumSegmentSize(mss), WindowScale(9)];
            builder(&tuple, 64).tcp(3, 4, 5, 6).syn().options(&options).unwrap().write(&mut frame, &payload).unwrap();
            frame
        };
        let mut frame = build(mss);
        let packet = parse(&frame);
        prop_assert_eq!(clamp_mss(&mut frame, &packet, max), (mss > max).then_some(mss));
        prop_assert_eq!(frame, build(mss.min(max)));
    }
}

fn v4_tuple(protocol: u8, ports: (u16, u16)) -> Tuple {
    let (source, destination) = (Addr::v4([10, 0, 0, 1]), Addr::v4([192, 168, 0, 1]));
    Tuple { source, destination, source_port: ports.0, destination_port: ports.1, protocol }
}

#[test]
fn udp_without_a_checksum_stays_so() {
    let (from, to) = (v4_tuple(17, (53, 5353)), v4_tuple(17, (99, 1)).invert());
    let [mut frame, mut expected] = [from, to].map(|tuple| build(Kind::Udp, &tuple, 64, b"hello"));
    frame[40..42].fill(0);
    expected[40..42].fill(0);
    let packet = parse(&frame);
    translate(&mut frame, &packet, &to);
    assert_eq!(frame, expected);
    let mut quoting = error((to.source, from.source), &frame[14..]);
    let packet = parse(&quoting);
    let Transport::Error { quote, .. } = packet.payload else { panic!() };
    translate_error(&mut quoting, &packet, &quote, (from.source, to.source), &from);
    frame = build(Kind::Udp, &from, 64, b"hello");
    frame[40..42].fill(0);
    assert_eq!(quoting, error((from.source, to.source), &frame[14..]));
}

#[test]
fn a_udp_checksum_that_becomes_zero_is_written_as_ones() {
    let (from, to) = (v4_tuple(17, (53, 5353)), v4_tuple(17, (53, 5354)));
    // The payload that brings the sum to zero is the checksum without it.
    let payload: [u8; 2] = build(Kind::Udp, &to, 64, &[0, 0])[40..42].try_into().unwrap();
    let mut frame = build(Kind::Udp, &from, 64, &payload);
    assert_ne!(frame[40..42], [0xff, 0xff]);
    let packet = parse(&frame);
    translate(&mut frame, &packet, &to);
    assert_eq!(frame[40..42], [0xff, 0xff]);
    assert_eq!(frame, build(Kind::Udp, &to, 64, &payload));
}

#[test]
fn a_wrong_checksum_stays_wrong() {
    let (from, to) = (v4_tuple(6, (1, 2)), v4_tuple(6, (3, 4)));
    let mut frame = build(Kind::Tcp, &from, 64, b"hello");
    *frame.last_mut().unwrap() ^= 1;
    let mut expected = build(Kind::Tcp, &to, 64, b"hello");
    *expected.last_mut().unwrap() ^= 1;
    let packet = parse(&frame);
    translate(&mut frame, &packet, &to);
    assert_eq!(frame, expected);
}

#[test]
fn of_a_later_fragment_only_addresses_change() {
    let (from, to) = (v4_tuple(17, (53, 5353)), v4_tuple(17, (99, 1)).invert());
    let as_fragment = |tuple: &Tuple| {
        let mut frame = build(Kind::Udp, tuple, 64, b"hello");
        let udp = build(Kind::Udp, &from, 64, b"hello")[34..].to_vec();
        frame[34..].copy_from_slice(&udp);
        frame[20..22].copy_from_slice(&[0, 9]);
        frame[24..26].fill(0);
        let sum = Sum::default().add(&frame[14..34]).finish();
        frame[24..26].copy_from_slice(&sum);
        frame
    };
    let mut frame = as_fragment(&from);
    let packet = parse(&frame);
    assert_eq!(packet.payload, Transport::LaterFragment);
    translate(&mut frame, &packet, &to);
    assert_eq!(frame, as_fragment(&to));
}

/// DCCP's and UDP-Lite's checksums cover a pseudo header too; other protocols' do not.
#[test]
fn other_protocols_checksums() {
    let payload = [0, 1, 0, 2, 0, 8, 0x12, 0x34, 0, 0, 0, 0];
    for (number, is_covered) in [(33, true), (136, true), (132, false), (47, false)] {
        let (from, to) = (v4_tuple(number, (0, 0)), v4_tuple(number, (0, 0)).invert());
        let make = |tuple: &Tuple| {
            let mut frame = Vec::new();
            builder(tuple, 64).write(&mut frame, etherparse::IpNumber(number), &payload).unwrap();
            frame
        };
        let mut frame = make(&from);
        let packet = parse(&frame);
        let to = Tuple { source: Addr::v4([1, 2, 3, 4]), ..to };
        translate(&mut frame, &packet, &to);
        let mut expected = make(&to);
        if is_covered {
            let change = |from: &Tuple, to: &Tuple| {
                Change::default()
                    .replace(&from.source.v4_bytes(), &to.source.v4_bytes())
                    .replace(&from.destination.v4_bytes(), &to.destination.v4_bytes())
            };
            let sum = change(&from, &to).apply([0x12, 0x34]);
            assert_ne!(sum, [0x12, 0x34]);
            expected[40..42].copy_from_slice(&sum);
        }
        assert_eq!(frame, expected, "{number}");
    }
}

/// Any other ICMPv6 message is covered by its pseudo header too.
#[test]
fn icmp_without_identifier() {
    let tuple = |last| Tuple { source: addr(true, last), destination: addr(true, 2), ..v4_tuple(58, (0, 0)) };
    let make = |tuple: &Tuple| {
        let mut frame = Vec::new();
        builder(tuple, 64).icmpv6_raw(200, 0, [1, 2, 3, 4]).write(&mut frame, b"abc").unwrap();
        frame
    };
    let mut frame = make(&tuple(1));
    let packet = parse(&frame);
    assert_eq!(packet.payload, Transport::Icmp { kind: 200, code: 0 });
    translate(&mut frame, &packet, &tuple(3));
    assert_eq!(frame, make(&tuple(3)));
}

#[test]
fn macs() {
    let mut frame = build(Kind::Udp, &v4_tuple(17, (1, 2)), 64, b"");
    set_macs(&mut frame, MacAddr([1; 6]), MacAddr([3; 6]));
    assert_eq!((&frame[..6], &frame[6..12], &frame[12..14]), (&[3; 6][..], &[1; 6][..], &[8, 0][..]));
}

#[test]
fn nothing_but_syn_is_clamped() {
    let mut frame = build(Kind::Tcp, &v4_tuple(6, (1, 2)), 64, b"");
    let packet = parse(&frame);
    assert_eq!(clamp_mss(&mut frame, &packet, 100), None);
}

/// Headers that etherparse can make are checked against it, so that the tests above rest on it.
#[test]
fn the_oracle_computes_checksums() {
    let header = Icmpv4Header::with_checksum(
        Icmpv4Type::Unknown { type_u8: 3, code_u8: 4, bytes5to8: [0; 4] },
        b"abc",
    );
    assert_ne!(header.checksum, 0);
    let unknown = Icmpv6Type::Unknown { type_u8: 2, code_u8: 0, bytes5to8: [0; 4] };
    assert_ne!(Icmpv6Header::with_checksum(unknown, [1; 16], [2; 16], b"abc").unwrap().checksum, 0);
}
