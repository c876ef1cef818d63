use etherparse::{IpNumber, Ipv4Header, PacketBuilder, PacketHeaders, TransportHeader};
use proptest::prelude::*;

use super::*;
use crate::wire::{IpError, Offload};

const HOST: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const GATEWAY: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const V4: [[u8; 4]; 2] = [[10, 0, 0, 2], [192, 0, 2, 1]];
const V6: [[u8; 16]; 2] = [
    [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
    [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
];
const VERSIONS: [Version; 2] = [Version::V4, Version::V6];

fn builder(version: Version) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    let ethernet = PacketBuilder::ethernet2(HOST.0, GATEWAY.0);
    match version {
        Version::V4 => ethernet.ipv4(V4[0], V4[1], 1),
        Version::V6 => ethernet.ipv6(V6[0], V6[1], 1),
    }
}

fn udp(version: Version, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    builder(version).udp(40000, 33434).write(&mut frame, payload).unwrap();
    frame
}

fn parse(frame: &[u8]) -> Packet {
    let version = if frame[12] == 8 { Version::V4 } else { Version::V6 };
    Packet::parse(frame, 14, version, &Offload::NONE).unwrap()
}

fn own(version: Version) -> Addr {
    match version {
        Version::V4 => Addr::v4([10, 0, 0, 1]),
        Version::V6 => Addr::v6([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
    }
}

fn error(kind: ErrorKind, frame: &[u8], packet: &Packet) -> Vec<u8> {
    let mut out = b"from before".to_vec();
    build(kind, frame, packet, own(packet.version), GATEWAY, HOST, &mut out);
    out
}

#[test]
fn types_and_codes() {
    use ErrorKind::*;
    let too_big = FragmentationNeeded { mtu: 1400 };
    let pointer = ParameterProblem { pointer: 21 };
    // Type, code and the rest of the header: RFC 792 and RFC 1812 §5.2.7, RFC 4443 §3.
    let cases: [(ErrorKind, [u8; 6], [u8; 6]); 9] = [
        (TimeExceeded, [11, 0, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0]),
        (ReassemblyTimeout, [11, 1, 0, 0, 0, 0], [3, 1, 0, 0, 0, 0]),
        (NetUnreachable, [3, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]),
        (HostUnreachable, [3, 1, 0, 0, 0, 0], [1, 3, 0, 0, 0, 0]),
        (ProtocolUnreachable, [3, 2, 0, 0, 0, 0], [4, 1, 0, 0, 0, 6]),
        (PortUnreachable, [3, 3, 0, 0, 0, 0], [1, 4, 0, 0, 0, 0]),
        (AdminProhibited, [3, 13, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0]),
        (too_big, [3, 4, 0, 0, 5, 0x78], [2, 0, 0, 0, 5, 0x78]),
        (pointer, [12, 0, 21, 0, 0, 0], [4, 0, 0, 0, 0, 21]),
    ];
    for (kind, v4, v6) in cases {
        for (version, expected) in [(Version::V4, v4), (Version::V6, v6)] {
            let frame = udp(version, b"hello");
            let out = error(kind, &frame, &parse(&frame));
            let packet = parse(&out);
            let at = packet.transport;
            let header = [&out[at..at + 2], &out[at + 4..at + 8]].concat();
            assert_eq!(header, expected, "{kind:?}");
            assert_eq!(&out[at + 8..], &frame[14..], "a short packet is quoted whole");
            assert_eq!((packet.source, packet.destination), (own(version), parse(&frame).source));
            assert_eq!(packet.ttl, 64);
            assert_eq!(packet.tos, if version == Version::V4 { 0xc0 } else { 0 });
            assert_eq!((&out[..6], &out[6..12]), (&HOST.0[..], &GATEWAY.0[..]));
        }
    }
}

#[test]
fn a_long_packet_is_quoted_as_far_as_allowed() {
    for (version, longest) in [(Version::V4, 576), (Version::V6, 1280)] {
        let frame = udp(version, &[7; 3000]);
        let out = error(ErrorKind::TimeExceeded, &frame, &parse(&frame));
        let packet = parse(&out);
        assert_eq!((out.len(), packet.end), (14 + longest, 14 + longest));
        let quoted = &out[packet.transport + 8..];
        assert_eq!(quoted, &frame[14..14 + quoted.len()]);
    }
}

/// The sender of a frame with a partial checksum never saw the whole one; on a wire it would have been there.
#[test]
fn a_partial_checksum_is_completed_in_the_quote() {
    for version in VERSIONS {
        let complete = udp(version, b"hello");
        let packet = parse(&complete);
        let mut frame = complete.clone();
        let len = packet.end - packet.transport;
        let sum = emit::pseudo_header(packet.source, packet.destination, 17, len).partial();
        frame[packet.transport + 6..packet.transport + 8].copy_from_slice(&sum);
        let offload =
            Offload { flags: 1, csum_start: packet.transport as u16, csum_offset: 6, ..Offload::NONE };
        let packet = Packet::parse(&frame, 14, version, &offload).unwrap();
        let out = error(ErrorKind::TimeExceeded, &frame, &packet);
        assert_eq!(&out[parse(&out).transport + 8..], &complete[14..]);
    }
}

#[test]
fn behind_extension_headers_the_last_one_names_the_protocol() {
    let mut frame = vec![0; 14];
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    frame.extend([0x60, 0, 0, 0, 0, 24, 0, 64]);
    frame.extend(V6.concat());
    frame.extend([60, 0, 1, 4, 0, 0, 0, 0]);
    frame.extend([200, 0, 1, 4, 0, 0, 0, 0]);
    frame.extend([0; 8]);
    let out = error(ErrorKind::ProtocolUnreachable, &frame, &parse(&frame));
    assert_eq!(out[58..62], [0, 0, 0, 48]);
}

#[test]
fn malformed_options_are_answered_with_where_they_are() {
    let datagram = &udp(Version::V4, b"x")[34..];
    // Router alert, then a record route of no length.
    let options = [148, 4, 0, 0, 7, 0, 4, 0];
    let mut header = Ipv4Header::new(0, 64, IpNumber::UDP, V4[0], V4[1]).unwrap();
    header.options = options[..].try_into().unwrap();
    header.set_payload_len(datagram.len()).unwrap();
    header.header_checksum = header.calc_header_checksum();
    let mut frame = [&HOST.0[..], &GATEWAY.0, &[8, 0]].concat();
    header.write(&mut frame).unwrap();
    frame.extend(datagram);
    assert_eq!(Packet::parse(&frame, 14, Version::V4, &Offload::NONE), Err(IpError::Options));
    let (packet, pointer) = Packet::parse_despite_options(&frame, 14, &Offload::NONE).unwrap();
    assert_eq!((packet.transport, packet.ports(), pointer), (42, Some((40000, 33434)), 25));
    let out = error(ErrorKind::ParameterProblem { pointer }, &frame, &packet);
    assert_eq!((out[34], out[38]), (12, 25));
    assert!(Packet::parse_despite_options(&udp(Version::V4, b""), 14, &Offload::NONE).is_none());
}

#[test]
fn who_gets_no_answer() {
    let header = |frame: &[u8]| ethernet::Header::parse(frame).unwrap();
    let kind = ErrorKind::TimeExceeded;
    for version in VERSIONS {
        let frame = udp(version, b"");
        let (good, packet) = (header(&frame), parse(&frame));
        assert!(may_answer(&good, &packet, kind));
        let to_group = ethernet::Header { destination: MacAddr([1, 0, 0x5e, 0, 0, 1]), ..good };
        assert!(!may_answer(&to_group, &packet, kind));
        assert!(!may_answer(&good, &Packet { payload: Transport::LaterFragment, ..packet }, kind));
        let out = error(kind, &frame, &packet);
        assert!(!may_answer(&good, &parse(&out), kind), "no errors about errors");
        let unknown = Transport::Icmp { kind: if version == Version::V4 { 19 } else { 137 }, code: 0 };
        assert!(!may_answer(&good, &Packet { payload: unknown, ..packet }, kind));
        let known = Transport::Icmp { kind: if version == Version::V4 { 10 } else { 133 }, code: 0 };
        assert!(may_answer(&good, &Packet { payload: known, ..packet }, kind));
    }
    let (frame, frame6) = (udp(Version::V4, b""), udp(Version::V6, b""));
    let (good, packet, packet6) = (header(&frame), parse(&frame), parse(&frame6));
    for bad in [[0, 0, 0, 0], [0, 1, 2, 3], [127, 0, 0, 1], [224, 0, 0, 1], [240, 0, 0, 1], [255; 4]] {
        let (source, destination) = (Addr::v4(bad), Addr::v4(bad));
        assert!(!may_answer(&good, &Packet { source, ..packet }, kind), "from {source}");
        let to = Packet { destination, ..packet };
        assert_eq!(may_answer(&good, &to, kind), destination.is_loopback(), "to {destination}");
    }
    let (mut group, mut loopback) = ([0; 16], [0; 16]);
    (group[0], loopback[15]) = (0xff, 1);
    for bad in [[0; 16], loopback, group] {
        assert!(!may_answer(&good, &Packet { source: Addr::v6(bad), ..packet6 }, kind));
    }
    let to_group = Packet { destination: Addr::v6(group), ..packet6 };
    assert!(!may_answer(&good, &to_group, kind));
    assert!(may_answer(&good, &to_group, ErrorKind::FragmentationNeeded { mtu: 1280 }));
}

/// A segment with these flags, and what is left of the frame after the Ethernet header's parse.
fn segment(version: Version, flags: &[u8], ack: Option<u32>, payload: &[u8]) -> Vec<u8> {
    let mut builder = builder(version).tcp(40000, 80, 0xffff_fffe, 1000);
    for flag in flags {
        builder = match *flag {
            tcp::SYN => builder.syn(),
            tcp::FIN => builder.fin(),
            _ => builder.rst(),
        };
    }
    if let Some(ack) = ack {
        builder = builder.ack(ack);
    }
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).unwrap();
    frame
}

#[test]
fn resets() {
    type Case = (&'static [u8], Option<u32>, &'static [u8], Option<(u32, Option<u32>)>);
    // Flags, acknowledgement, payload; sequence number and acknowledgement of the reset.
    let cases: [Case; 6] = [
        (&[tcp::SYN], None, b"", Some((0, Some(0xffff_ffff)))),
        (&[tcp::SYN, tcp::FIN], None, b"abc", Some((0, Some(3)))),
        (&[], Some(77), b"abc", Some((77, None))),
        (&[tcp::SYN], Some(77), b"", Some((77, None))),
        (&[tcp::RST], None, b"", None),
        (&[tcp::RST], Some(77), b"", None),
    ];
    for version in VERSIONS {
        for (flags, ack, payload, expected) in cases {
            let frame = segment(version, flags, ack, payload);
            let (header, packet) = (ethernet::Header::parse(&frame).unwrap(), parse(&frame));
            let mut out = Vec::new();
            assert_eq!(reset(&header, &packet, GATEWAY, HOST, &mut out), expected.is_some());
            let Some((seq, ack)) = expected else { continue };
            let headers = PacketHeaders::from_ethernet_slice(&out).unwrap();
            let Some(TransportHeader::Tcp(answer)) = headers.transport else { panic!("{headers:?}") };
            assert_eq!((answer.source_port, answer.destination_port, answer.rst), (80, 40000, true));
            assert_eq!((answer.sequence_number, answer.syn, answer.fin), (seq, false, false));
            assert_eq!(answer.ack.then_some(answer.acknowledgment_number), ack);
            let answer = parse(&out);
            assert_eq!((answer.source, answer.destination), (packet.destination, packet.source));
            let sum =
                emit::pseudo_header(answer.source, answer.destination, 6, 20).add(&out[answer.transport..]);
            assert_eq!(sum.finish(), [0, 0]);
        }
    }
    let frame = segment(Version::V4, &[tcp::SYN], None, b"");
    let header = ethernet::Header::parse(&frame).unwrap();
    let first = crate::wire::packet::Fragment { id: 1, offset: 0, more: true };
    let packet = Packet { fragment: Some(first), ..parse(&frame) };
    assert!(!reset(&header, &packet, GATEWAY, HOST, &mut Vec::new()));
    assert!(!reset(&header, &parse(&udp(Version::V4, b"")), GATEWAY, HOST, &mut Vec::new()));
}

proptest! {
    /// What we send, we would accept, and it leads back to the flow.
    #[test]
    fn an_error_quotes_the_flow(is_v6: bool, payload in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let version = if is_v6 { Version::V6 } else { Version::V4 };
        let frame = udp(version, &payload);
        let packet = parse(&frame);
        let out = error(ErrorKind::PortUnreachable, &frame, &packet);
        let Transport::Error { quote, .. } = parse(&out).payload else { panic!() };
        prop_assert_eq!((quote.source, quote.destination), (packet.source, packet.destination));
        prop_assert_eq!((quote.ports, quote.protocol), (packet.ports(), packet.protocol));
    }
}
