//! Packets that nobody should send, into everything that reads, translates, cuts and answers them; and what
//! must be true of those that are let in.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;

use common::blows::{ENOUGH, Random, bend, iterations, seeds};
use tapswitch::dataplane::conntrack::Tuple;
use tapswitch::dataplane::icmp_error::{self, ErrorKind};
use tapswitch::dataplane::{fragmenting, rewrite};
use tapswitch::wire::checksum::Sum;
use tapswitch::wire::ethernet::{self, Header};
use tapswitch::wire::icmp::Quote;
use tapswitch::wire::ip::{Addr, Version};
use tapswitch::wire::{IpError, MacAddr, Offload, Packet, Transport};

/// A frame with its offload header, and the packet in it.
struct Subject {
    bytes: Vec<u8>,
    offload: Offload,
    header: Header,
    packet: Packet,
}

/// Puts the checksums right that would hide what is behind them: of the IPv4 header, and of ICMP.
fn mend(bytes: &mut [u8], header: &Header) {
    let Some(ip) = bytes.get_mut(header.payload..) else { return };
    if ip.len() < 20 || header.ethertype != ethernet::IPV4 {
        return;
    }
    let (len, total) = (usize::from(ip[0] & 0xf) * 4, usize::from(u16::from_be_bytes([ip[2], ip[3]])));
    let is_icmp = ip[9] == 1;
    if let Some(header) = ip.get_mut(..len).filter(|header| header.len() >= 20) {
        header[10..12].fill(0);
        let sum = Sum::default().add(header).finish();
        header[10..12].copy_from_slice(&sum);
    }
    if let Some(message) = ip.get_mut(len..total).filter(|message| is_icmp && message.len() >= 8) {
        message[2..4].fill(0);
        let sum = Sum::default().add(message).finish();
        message[2..4].copy_from_slice(&sum);
    }
}

fn version(header: &Header) -> Option<Version> {
    match header.ethertype {
        ethernet::IPV4 => Some(Version::V4),
        ethernet::IPV6 => Some(Version::V6),
        _ => None,
    }
}

impl Subject {
    fn parse(bytes: Vec<u8>, offload: Offload) -> Option<Result<Self, IpError>> {
        let header = Header::parse(&bytes).ok()?;
        let packet = Packet::parse(&bytes, header.payload, version(&header)?, &offload);
        Some(packet.map(|packet| Self { bytes, offload, header, packet }))
    }

    /// The same frame after a change in place, which must still be a good one.
    fn changed(&self, change: impl FnOnce(&mut [u8])) -> Self {
        let mut bytes = self.bytes.clone();
        change(&mut bytes);
        match Self::parse(bytes, self.offload) {
            Some(Ok(changed)) => changed,
            Some(Err(error)) => panic!("{error} after a change of {:02x?}: {:?}", self.bytes, self.packet),
            None => panic!("the Ethernet header changed"),
        }
    }
}

fn random_tuple(random: &mut Random, version: Version, protocol: u8, is_query: bool) -> Tuple {
    let mut address = || match version {
        Version::V4 => Addr::v4((random.next() as u32).to_be_bytes()),
        Version::V6 => Addr::from_bits(u128::from(random.next()) << 64 | 0xfd << 120 | 1),
    };
    let (source, destination) = (address(), address());
    let (source_port, other) = (random.next() as u16, random.next() as u16);
    let destination_port = if is_query { source_port } else { other };
    Tuple { source, destination, source_port, destination_port, protocol }
}

fn check_positions(subject: &Subject) {
    let Subject { packet, bytes, .. } = subject;
    assert!(packet.start + 20 <= packet.transport, "{packet:?}");
    assert!(packet.transport <= packet.end && packet.end <= bytes.len(), "{packet:?}");
    assert_eq!([packet.source, packet.destination].map(Addr::version), [packet.version; 2]);
    assert!(packet.longest(&subject.offload) <= packet.end - packet.start);
    assert!(!packet.partial_checksum || packet.end == bytes.len() && packet.fragment.is_none());
    if let Transport::Error { quote, .. } = packet.payload {
        assert!(packet.transport < quote.start && quote.start < quote.transport, "{packet:?}");
        assert!(quote.transport <= quote.end && quote.end <= packet.end, "{packet:?}");
    }
}

fn check_translation(subject: &Subject, random: &mut Random) {
    let packet = &subject.packet;
    let is_query = matches!(packet.payload, Transport::Query { .. });
    let to = random_tuple(random, packet.version, packet.protocol, is_query);
    let changed = subject.changed(|bytes| rewrite::translate(bytes, packet, &to)).packet;
    assert_eq!((changed.source, changed.destination), (to.source, to.destination));
    assert_eq!(changed.ports(), packet.ports().map(|_| (to.source_port, to.destination_port)));
    if packet.ttl > 0 {
        let changed = subject.changed(|bytes| rewrite::decrement_ttl(bytes, packet)).packet;
        assert_eq!(changed, Packet { ttl: packet.ttl - 1, ..*packet });
    }
    subject.changed(|bytes| assert!(rewrite::clamp_mss(bytes, packet, 1000).is_none_or(|mss| mss > 1000)));
    if let Transport::Error { quote, .. } = packet.payload {
        check_error_translation(subject, &quote, random);
    }
}

/// Whole errors have a right checksum before, and are let in with a right one only.
fn check_error_translation(subject: &Subject, quote: &Quote, random: &mut Random) {
    let packet = &subject.packet;
    let is_query = matches!(quote.protocol, 1 | 58);
    let to = random_tuple(random, packet.version, quote.protocol, is_query);
    let outer = random_tuple(random, packet.version, 0, false);
    let outer = (outer.source, outer.destination);
    let translate = |bytes: &mut [u8]| rewrite::translate_error(bytes, packet, quote, outer, &to);
    let changed = subject.changed(translate).packet;
    let Transport::Error { quote: new, .. } = changed.payload else { panic!("{changed:?}") };
    assert_eq!((changed.source, changed.destination), outer);
    let has_ports = quote.ports.is_some_and(|_| matches!(quote.protocol, 1 | 6 | 17 | 58));
    let ports = if has_ports { Some((to.source_port, to.destination_port)) } else { quote.ports };
    assert_eq!(new, Quote { source: to.source, destination: to.destination, ports, ..*quote });
}

/// What is told about a packet, we would understand.
fn check_answers(subject: &Subject, buffer: &mut Vec<u8>) {
    let Subject { packet, bytes, header, .. } = subject;
    let (macs, kind) = ([MacAddr([2; 6]), MacAddr([4; 6])], ErrorKind::PortUnreachable);
    if icmp_error::reset(header, packet, macs[0], macs[1], buffer) {
        let Some(Ok(reset)) = Subject::parse(buffer.clone(), Offload::NONE) else { panic!("{buffer:02x?}") };
        assert_eq!((reset.packet.source, reset.packet.destination), (packet.destination, packet.source));
    }
    if !icmp_error::may_answer(header, packet, kind) {
        return;
    }
    icmp_error::build(kind, bytes, packet, packet.destination, macs[0], macs[1], buffer);
    // Of a long chain of headers, only the beginning is quoted.
    if packet.transport - packet.start > 1000 {
        return;
    }
    let Some(Ok(error)) = Subject::parse(buffer.clone(), Offload::NONE) else { panic!("{buffer:02x?}") };
    let Transport::Error { quote, .. } = error.packet.payload else { panic!("{:?}", error.packet) };
    assert_eq!((quote.source, quote.destination), (packet.source, packet.destination));
    assert!(packet.ports().is_none() || quote.ports == packet.ports(), "{packet:?} {quote:?}");
    assert!(!icmp_error::may_answer(header, &error.packet, kind));
}

fn check_fragments(subject: &Subject, random: &mut Random, buffers: &mut fragmenting::Buffers) -> bool {
    let Subject { packet, bytes, offload, .. } = subject;
    let (mtu, mut count, mut carried) = (68 + random.below(1500), 0, 0);
    let result = fragmenting::fragment(bytes, packet, offload, mtu, buffers, |frame| {
        assert!(frame.len() <= packet.start + mtu);
        let header = usize::from(frame[packet.start] & 0xf) * 4;
        (count, carried) = (count + 1, carried + frame.len() - packet.start - header);
    });
    if result.is_ok() && offload.is_complete() {
        assert_eq!(carried, packet.end - packet.transport);
    }
    result.is_ok() && count > 1
}

fn name(subject: &Subject) -> &'static str {
    match subject.packet.payload {
        Transport::Tcp(_) if subject.packet.partial_checksum => "partial TCP",
        Transport::Tcp(_) => "TCP",
        Transport::Udp(_) if subject.packet.partial_checksum => "partial UDP",
        Transport::Udp(_) => "UDP",
        Transport::Query { .. } => "query",
        Transport::Error { .. } => "error",
        Transport::Icmp { .. } => "ICMP",
        Transport::Other => "other",
        Transport::LaterFragment => "later fragment",
    }
}

/// What the captures lack: source routes, and an error in a fragment.
fn forms() -> Vec<(Vec<u8>, Offload)> {
    let v4 = |words: u8, fragment: u8, protocol: u8, rest: &[u8]| {
        let total = 20 + rest.len() as u8;
        let mut frame = vec![2; 12];
        frame.extend([8, 0, 0x40 | words, 0, 0, total, 0, 1, fragment, 0, 64, protocol, 0, 0]);
        frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend(rest);
        let header = Header::parse(&frame).unwrap();
        mend(&mut frame, &header);
        (frame, Offload::NONE)
    };
    let source_route = v4(7, 0, 17, &[131, 7, 4, 1, 2, 3, 4, 0, 0, 53, 0, 54, 0, 8, 0, 0]);
    let udp = &v4(5, 0, 17, &[0, 53, 0, 54, 0, 8, 0, 0]).0[14..];
    let error = v4(5, 0x20, 1, &[&[3, 3, 0, 0, 0, 0, 0, 0][..], udp, &[0; 4]].concat());
    let mut routing = vec![2; 12];
    routing.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 16, 43, 64]);
    routing.extend([[0xfd; 16], [0xfe; 16]].concat());
    routing.extend([17, 0, 3, 1, 0, 0, 0, 0, 0, 53, 0, 54, 0, 8, 1, 1]);
    vec![source_route, error, (routing, Offload::NONE)]
}

#[test]
fn packets() {
    let (mut seeds, mut random) = (seeds(), Random(5));
    seeds.extend(forms().into_iter().cycle().take(30));
    let (mut buffer, mut buffers) = (Vec::new(), fragmenting::Buffers::default());
    let (mut seen, mut cut) = (BTreeSet::new(), 0);
    for _ in 0..iterations() {
        let (mut bytes, offload) = bend(&mut random, &seeds);
        let Ok(header) = Header::parse(&bytes) else { continue };
        if random.below(4) != 0 {
            mend(&mut bytes, &header);
        }
        let _ = Packet::parse_despite_options(&bytes, header.payload, &offload);
        match Subject::parse(bytes, offload) {
            None => {}
            Some(Err(error)) => drop(seen.insert(format!("{error:?}"))),
            Some(Ok(subject)) => {
                seen.insert(name(&subject).to_owned());
                check_positions(&subject);
                check_translation(&subject, &mut random);
                check_answers(&subject, &mut buffer);
                cut += u32::from(check_fragments(&subject, &mut random, &mut buffers));
            }
        }
    }
    println!("{cut} fragmented; {seen:?}");
    assert!(iterations() < ENOUGH || seen.len() == 7 + 9 && cut > 0, "the blows do not reach all: {seen:?}");
}
