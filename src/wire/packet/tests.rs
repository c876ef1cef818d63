use etherparse::{IpFragOffset, IpNumber, Ipv4Header, PacketBuilder};

use super::*;
use crate::wire::checksum::Sum;

const A: Addr = Addr::v4([10, 0, 0, 1]);
const B: Addr = Addr::v4([10, 0, 0, 2]);
const A6: Addr = Addr::v6([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
const B6: Addr = Addr::v6([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);

fn builder(version: Version) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    match version {
        Version::V4 => ethernet.ipv4(A.v4_bytes(), B.v4_bytes(), 64),
        Version::V6 => ethernet.ipv6(A6.v6_bytes(), B6.v6_bytes(), 64),
    }
}

fn tcp(version: Version, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    builder(version).tcp(1234, 80, 7, 501).ack(9).psh().write(&mut frame, payload).unwrap();
    frame
}

fn udp(version: Version, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    builder(version).udp(53, 5353).write(&mut frame, payload).unwrap();
    frame
}

fn parse(frame: &[u8], version: Version) -> Result<Packet, IpError> {
    Packet::parse(frame, 14, version, &Offload::NONE)
}

/// An IPv4 frame with these flags and offset (as they lie in the header), options and payload.
fn ipv4(fragment: u16, protocol: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut header =
        Ipv4Header::new(payload.len() as u16, 64, IpNumber(protocol), A.v4_bytes(), B.v4_bytes()).unwrap();
    header.options = options.try_into().unwrap();
    header.set_payload_len(payload.len()).unwrap();
    header.identification = 0xabcd;
    header.dont_fragment = fragment & 0x4000 != 0;
    header.more_fragments = fragment & 0x2000 != 0;
    header.fragment_offset = IpFragOffset::try_new(fragment & 0x1fff).unwrap();
    header.header_checksum = header.calc_header_checksum();
    let mut frame = vec![0; 14];
    header.write(&mut frame).unwrap();
    frame.extend(payload);
    frame
}

/// An IPv6 frame whose payload begins with a header of type `next`.
fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 14];
    frame.extend([0x6a, 0xb0, 0, 0]);
    frame.extend((payload.len() as u16).to_be_bytes());
    frame.extend([next, 64]);
    frame.extend(A6.v6_bytes());
    frame.extend(B6.v6_bytes());
    frame.extend(payload);
    frame
}

fn fix_ipv4_checksum(frame: &mut [u8]) {
    let end = 14 + usize::from(frame[14] & 0xf) * 4;
    frame[24..26].fill(0);
    let sum = Sum::default().add(&frame[14..end]).finish();
    frame[24..26].copy_from_slice(&sum);
}

#[test]
fn tcp_of_both_versions() {
    for (version, source, destination, transport) in [(Version::V4, A, B, 34), (Version::V6, A6, B6, 54)] {
        let mut frame = tcp(version, b"hello");
        let end = frame.len();
        frame.extend([0; 9]); // padding
        let packet = parse(&frame, version).unwrap();
        assert_eq!((packet.source, packet.destination), (source, destination));
        assert_eq!((packet.start, packet.transport, packet.end), (14, transport, end));
        assert_eq!((packet.protocol, packet.ttl, packet.fragment), (6, 64, None));
        assert_eq!(packet.ports(), Some((1234, 80)));
        let Transport::Tcp(tcp) = packet.payload else { panic!("{packet:?}") };
        assert_eq!((tcp.seq, tcp.ack, tcp.flags, tcp.payload), (7, 9, tcp::ACK | tcp::PSH, 5));
        assert_eq!(packet.longest(&Offload::NONE), end - 14);
    }
}

#[test]
fn udp_of_both_versions() {
    for version in [Version::V4, Version::V6] {
        let packet = parse(&udp(version, b"x"), version).unwrap();
        let udp = Udp { source: 53, destination: 5353, length: 9, checksum: true };
        assert_eq!(packet.payload, Transport::Udp(udp));
    }
    let mut frame = udp(Version::V4, b"x");
    frame[39] = 10;
    assert_eq!(parse(&frame, Version::V4), Err(IpError::Transport), "longer than its packet");
    frame[39] = 8;
    assert!(parse(&frame, Version::V4).is_ok(), "RFC 768 lets a packet have more than its datagram");
}

#[test]
fn echo_of_both_versions() {
    for (version, request, reply) in [(Version::V4, 8, 0), (Version::V6, 128, 129)] {
        let (mut ask, mut answer) = (Vec::new(), Vec::new());
        match version {
            Version::V4 => {
                builder(version).icmpv4_echo_request(7, 1).write(&mut ask, b"abc").unwrap();
                builder(version).icmpv4_echo_reply(7, 1).write(&mut answer, b"abc").unwrap();
            }
            Version::V6 => {
                builder(version).icmpv6_echo_request(7, 1).write(&mut ask, b"abc").unwrap();
                builder(version).icmpv6_echo_reply(7, 1).write(&mut answer, b"abc").unwrap();
            }
        }
        let expected = Transport::Query { kind: request, id: 7, is_request: true };
        assert_eq!(parse(&ask, version).unwrap().payload, expected);
        let packet = parse(&answer, version).unwrap();
        assert_eq!(packet.payload, Transport::Query { kind: reply, id: 7, is_request: false });
        assert_eq!(packet.ports(), Some((7, 7)));
    }
}

#[test]
fn ipv4_headers_that_lie() {
    let good = tcp(Version::V4, b"hello");
    assert_eq!(parse(&good, Version::V6), Err(IpError::Header));
    // Version, header length (twice), total length (twice).
    for (at, value) in [(14, 0x55), (14, 0x44), (14, 0x4f), (17, 19), (17, 255)] {
        let mut frame = good.clone();
        frame[at] = value;
        if frame[14] != 0x4f {
            fix_ipv4_checksum(&mut frame);
        }
        let refused = parse(&frame, Version::V4).unwrap_err();
        assert!(matches!(refused, IpError::Header | IpError::Checksum), "{at}: {refused}");
    }
    let mut frame = good.clone();
    frame[22] = 63;
    assert_eq!(parse(&frame, Version::V4), Err(IpError::Checksum));
    assert!((0..good.len()).all(|len| parse(&good[..len], Version::V4).is_err()));
}

#[test]
fn ipv4_options() {
    let payload = &udp(Version::V4, b"x")[34..];
    let cases: [(&[u8], Result<(), IpError>); 8] = [
        (&[1, 1, 1, 0], Ok(())),
        (&[7, 7, 4, 0, 0, 0, 0, 0], Ok(())), // record route
        (&[148, 4, 0, 0], Ok(())),           // router alert
        (&[131, 7, 4, 1, 2, 3, 4, 0], Err(IpError::SourceRoute)),
        (&[1, 137, 7, 4, 1, 2, 3, 4], Err(IpError::SourceRoute)),
        (&[7, 9, 4, 0, 0, 0, 0, 0], Err(IpError::Options)),
        (&[7, 0, 4, 0], Err(IpError::Options)),
        (&[1, 1, 1, 7], Err(IpError::Options)),
    ];
    for (options, expected) in cases {
        let packet = parse(&ipv4(0, 17, options, payload), Version::V4);
        assert_eq!(packet.map(drop), expected, "{options:?}");
    }
    let packet = parse(&ipv4(0, 17, &[1; 8], payload), Version::V4).unwrap();
    assert_eq!((packet.transport, packet.ports()), (42, Some((53, 5353))));
}

#[test]
fn ipv4_fragments() {
    let first = Fragment { id: 0xabcd, offset: 0, more: true };
    let segment = &tcp(Version::V4, b"twelve bytes")[34..];
    let packet = parse(&ipv4(0x2000, 6, &[], segment), Version::V4).unwrap();
    assert_eq!((packet.fragment, packet.ports()), (Some(first), Some((1234, 80))));
    // A datagram is longer than its first fragment.
    let datagram = &udp(Version::V4, &[0; 100])[34..];
    let packet = parse(&ipv4(0x2000, 17, &[], &datagram[..8]), Version::V4).unwrap();
    assert_eq!((packet.fragment, packet.ports()), (Some(first), Some((53, 5353))));
    let packet = parse(&ipv4(3, 6, &[], b"abc"), Version::V4).unwrap();
    assert_eq!(packet.fragment, Some(Fragment { offset: 24, more: false, ..first }));
    assert_eq!((packet.payload, packet.ports()), (Transport::LaterFragment, None));
    let refused: [(u16, u8, &[u8], IpError); 6] = [
        (0x2000, 6, &segment[..16], IpError::Overlap), // RFC 1858: tiny
        (0x2000, 6, &segment[..8], IpError::Overlap),
        (0x2001, 6, &[0; 16], IpError::Overlap), // would overwrite the flags
        (0x2002, 17, &[0; 12], IpError::Header), // no multiple of 8
        (0x1fff, 17, &[0; 16], IpError::Header), // beyond 65,535: "ping of death"
        (0x0005, 17, &[], IpError::Header),
    ];
    for (fragment, protocol, payload, expected) in refused {
        let packet = parse(&ipv4(fragment, protocol, &[], payload), Version::V4);
        assert_eq!(packet, Err(expected), "{fragment:x} {}", payload.len());
    }
    let packet = parse(&ipv4(0x4000, 17, &[], datagram), Version::V4).unwrap();
    assert!(packet.dont_fragment && packet.fragment.is_none());
}

#[test]
fn ipv6_extension_headers() {
    let datagram = udp(Version::V6, &[0; 16])[54..].to_vec();
    let with = |headers: &[&[u8]]| [headers.concat(), datagram.clone()].concat();
    let padding = [60, 0, 1, 4, 0, 0, 0, 0];
    let last = [17, 0, 1, 4, 0, 0, 0, 0];
    let long = [17, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let good: [(u8, Vec<u8>, usize); 5] = [
        (17, with(&[]), 0),
        (0, with(&[&padding, &last]), 16),
        (60, with(&[&long]), 16),
        (43, with(&[&[17, 0, 2, 0, 0, 0, 0, 0]]), 8), // nothing left to visit
        (60, with(&[&padding, &padding, &padding, &padding, &padding, &padding, &padding, &last]), 64),
    ];
    for (next, payload, transport) in good {
        let packet = parse(&ipv6(next, &payload), Version::V6).unwrap();
        assert_eq!((packet.protocol, packet.transport - 54, packet.tos), (17, transport, 0xab));
        assert_eq!(packet.ports(), Some((53, 5353)));
    }
    let bad: [(u8, Vec<u8>, IpError); 7] = [
        (60, with(&[&[0, 0, 1, 4, 0, 0, 0, 0], &last]), IpError::Options), // hop-by-hop is not the first
        (43, with(&[&[17, 0, 0, 0, 0, 0, 0, 0]]), IpError::SourceRoute),
        (43, with(&[&[17, 0, 4, 1, 0, 0, 0, 0]]), IpError::SourceRoute),
        (60, with(&[&padding[..]; 9]), IpError::Options),
        (60, vec![17, 9, 0, 0, 0, 0, 0, 0], IpError::Options),
        (60, vec![17, 0, 0], IpError::Options),
        (60, vec![], IpError::Options),
    ];
    for (next, payload, expected) in bad {
        assert_eq!(parse(&ipv6(next, &payload), Version::V6), Err(expected), "{next} {payload:?}");
    }
}

#[test]
fn ipv6_fragments() {
    let datagram = udp(Version::V6, &[0; 16])[54..].to_vec();
    let piece = |offset: u16, more: u8, data: &[u8]| {
        let [high, low] = offset.to_be_bytes();
        ipv6(44, &[&[17, 0, high, low | more, 0, 1, 0, 2][..], data].concat())
    };
    let packet = parse(&piece(0, 1, &datagram), Version::V6).unwrap();
    let first = Fragment { id: 0x1_0002, offset: 0, more: true };
    assert_eq!((packet.fragment, packet.ports(), packet.transport), (Some(first), Some((53, 5353)), 62));
    let packet = parse(&piece(24, 0, b"x"), Version::V6).unwrap();
    assert_eq!(packet.fragment, Some(Fragment { offset: 24, more: false, ..first }));
    assert_eq!((packet.payload, packet.transport), (Transport::LaterFragment, 62));
    let packet = parse(&piece(0, 0, &datagram), Version::V6).unwrap();
    assert_eq!((packet.fragment, packet.ports()), (None, Some((53, 5353))), "atomic: RFC 6946");
    assert_eq!(parse(&piece(0, 1, &[]), Version::V6), Err(IpError::Header));
    assert_eq!(parse(&piece(8, 1, &[0; 9]), Version::V6), Err(IpError::Header));
    assert_eq!(parse(&piece(65528, 0, &[0; 8]), Version::V6), Err(IpError::Header));
    // RFC 7112: the chain goes on behind the first fragment.
    let cut = ipv6(44, &[60, 0, 0, 1, 0, 0, 0, 1, 17, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(parse(&cut, Version::V6), Err(IpError::Overlap));
}

#[test]
fn mapped_addresses_are_refused_on_the_wire() {
    for at in [14 + 8, 14 + 24] {
        let mut frame = udp(Version::V6, b"x");
        frame[at..at + 16].copy_from_slice(&A.v6_bytes());
        assert_eq!(parse(&frame, Version::V6), Err(IpError::Header));
    }
}

#[test]
fn an_offload_header_must_be_about_the_packet() {
    let partial = |csum_start, csum_offset| Offload { flags: 1, csum_start, csum_offset, ..Offload::NONE };
    let gso = |gso_type| Offload { gso_type, gso_size: 100, ..partial(34, 16) };
    let frame = tcp(Version::V4, &[7; 250]);
    let with = |frame: &[u8], offload| Packet::parse(frame, 14, Version::V4, &offload);
    assert!(with(&frame, partial(34, 16)).unwrap().partial_checksum);
    let packet = with(&frame, gso(1)).unwrap();
    assert!(packet.partial_checksum);
    assert_eq!((packet.longest(&gso(1)), packet.longest(&gso(0))), (140, 290));
    let lies = [partial(34, 6), partial(14, 16), partial(35, 16), partial(54, 16), gso(4), gso(5), gso(0x80)];
    for lie in lies {
        assert_eq!(with(&frame, lie), Err(IpError::Offload), "{lie:?}");
    }
    assert_eq!(with(&frame, Offload { flags: 0, ..gso(1) }), Err(IpError::Offload));
    // Padding would be summed up by whoever completes the checksum.
    assert_eq!(with(&[&frame[..], &[1]].concat(), partial(34, 16)), Err(IpError::Offload));
    let first = ipv4(0x2000, 6, &[], &frame[34..74]);
    assert_eq!(with(&first, partial(34, 16)), Err(IpError::Offload));
    let mut echo = Vec::new();
    builder(Version::V4).icmpv4_echo_request(7, 1).write(&mut echo, &[0; 32]).unwrap();
    assert_eq!(with(&echo, partial(34, 2)), Err(IpError::Offload));
    let mut datagram = udp(Version::V4, b"abc");
    assert!(with(&datagram, partial(34, 6)).is_ok());
    datagram[39] -= 1;
    assert_eq!(with(&datagram, partial(34, 6)), Err(IpError::Offload));
}
