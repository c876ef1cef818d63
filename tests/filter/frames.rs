//! The frames that filters are tried on: each protocol, each kind of fragment and tag, and frames cut off
//! in every header.

/// A frame as captured, and how long it was on the wire.
pub(crate) struct Frame {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) wire_len: usize,
}

const MAC1: [u8; 6] = [2, 0, 0, 0, 0, 1];
const MAC2: [u8; 6] = [2, 0, 0, 0, 0, 2];
const BROADCAST: [u8; 6] = [0xff; 6];

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];
const C: [u8; 4] = [10, 0, 0, 3];
const D: [u8; 4] = [192, 168, 1, 9];

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

fn concat(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn ether(dst: [u8; 6], ether_type: u16, payload: &[u8]) -> Vec<u8> {
    concat(&[&dst, &MAC1, &ether_type.to_be_bytes(), payload])
}

/// A tag and what it carries, to stand behind an EtherType of a tag.
fn tag(id: u16, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    concat(&[&(0x2000 | id).to_be_bytes(), &ether_type.to_be_bytes(), payload])
}

fn v4_with(
    protocol: u8,
    src: [u8; 4],
    dst: [u8; 4],
    fragment: u16,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let header = 20 + options.len();
    let total = (header + payload.len()) as u16;
    let first = 0x40 | (header / 4) as u8;
    let mut packet = vec![first, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0, 7]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(src);
    packet.extend(dst);
    concat(&[&packet, options, payload])
}

fn v4(protocol: u8, src: [u8; 4], dst: [u8; 4], payload: &[u8]) -> Vec<u8> {
    v4_with(protocol, src, dst, 0, &[], payload)
}

fn v6(next: u8, dst_last: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, dst_last]);
    concat(&[&packet, payload])
}

fn tcp(src: u16, dst: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = concat(&[&src.to_be_bytes(), &dst.to_be_bytes()]);
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    concat(&[&segment, payload])
}

fn udp(src: u16, dst: u16, payload: &[u8]) -> Vec<u8> {
    let length = 8 + payload.len() as u16;
    concat(&[&src.to_be_bytes(), &dst.to_be_bytes(), &length.to_be_bytes(), &[0, 0], payload])
}

fn sctp(src: u16, dst: u16) -> Vec<u8> {
    concat(&[&src.to_be_bytes(), &dst.to_be_bytes(), &[0; 8], &[1, 0, 0, 20]])
}

fn icmp(kind: u8, code: u8) -> Vec<u8> {
    concat(&[&[kind, code, 0, 0, 0, 1, 0, 1], &[0x61; 32]])
}

fn arp(operation: u8, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    concat(&[&[0, 1, 8, 0, 6, 4, 0, operation], &MAC1, &sender, &MAC2, &target])
}

/// A fragment header before `next`.
fn v6_fragment(next: u8, offset_and_more: u16, payload: &[u8]) -> Vec<u8> {
    concat(&[&[next, 0], &offset_and_more.to_be_bytes(), &[0, 0, 0, 9], payload])
}

/// All frames, in an order that the committed verdicts rely on: append only.
pub(crate) fn all() -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>| {
        frames.push(Frame { name: name.to_owned(), wire_len: bytes.len(), bytes });
    };
    add_v4(&mut add);
    add_v6(&mut add);
    add_others(&mut add);
    add_tagged(&mut add);
    add_cut(&mut frames);
    frames
}

fn add_v4(add: &mut impl FnMut(&str, Vec<u8>)) {
    let ip = |packet: Vec<u8>| ether(MAC2, 0x0800, &packet);
    add("tcp syn", ip(v4(TCP, A, B, &tcp(1000, 80, 0x02, b""))));
    add("tcp syn+ack", ip(v4(TCP, B, A, &tcp(80, 1000, 0x12, b""))));
    add("tcp ack, GET", ip(v4(TCP, A, B, &tcp(1000, 80, 0x18, b"GET / HTTP/1.0\r\n\r\n"))));
    add("tcp fin", ip(v4(TCP, A, C, &tcp(1001, 443, 0x11, b""))));
    add("tcp rst", ip(v4(TCP, C, D, &tcp(22, 50000, 0x04, b""))));
    add("tcp no flags", ip(v4(TCP, D, A, &tcp(80, 80, 0, b"x"))));
    add("tcp with ip options", ip(v4_with(TCP, A, B, 0, &[1; 8], &tcp(1000, 80, 0x02, b""))));
    add("tcp with all ip options", ip(v4_with(TCP, A, B, 0, &[0; 40], &tcp(53, 53, 0x02, b""))));
    add("tcp first fragment", ip(v4_with(TCP, A, B, 0x2000, &[], &tcp(1000, 80, 0x02, &[0; 40]))));
    add("tcp last fragment", ip(v4_with(TCP, A, B, 0x0005, &[], &tcp(1000, 80, 0x02, &[0; 40]))));
    add("tcp, don't fragment", ip(v4_with(TCP, A, B, 0x4000, &[], &tcp(1000, 80, 0x10, b""))));
    add("udp dns", ip(v4(UDP, A, D, &udp(40000, 53, &[0, 1, 0x80, 0]))));
    add("udp dns reply", ip(v4(UDP, D, A, &udp(53, 40000, &[0; 60]))));
    add("udp both 53", ip(v4(UDP, A, B, &udp(53, 53, b""))));
    add("udp 80", ip(v4(UDP, A, B, &udp(80, 1001, b"hello"))));
    add("udp middle fragment", ip(v4_with(UDP, A, B, 0x2010, &[], &udp(53, 53, &[1; 20]))));
    add("udp dhcp", ether(BROADCAST, 0x0800, &v4(UDP, [0; 4], [255; 4], &udp(68, 67, &[1; 240]))));
    add("sctp", ip(v4(SCTP, A, B, &sctp(1000, 80))));
    add("icmp echo", ip(v4(1, A, B, &icmp(8, 0))));
    add("icmp echo reply", ip(v4(1, B, A, &icmp(0, 0))));
    add("icmp unreachable", ip(v4(1, D, A, &icmp(3, 4))));
    add("icmp unreachable port", ip(v4(1, D, A, &icmp(3, 3))));
    add("icmp fragment", ip(v4_with(1, A, B, 0x00b9, &[], &icmp(8, 0))));
    let group = [0x01, 0, 0x5e, 0, 0, 0x16];
    add("igmp", ether(group, 0x0800, &v4_with(2, A, [224, 0, 0, 22], 0, &[0x94, 4, 0, 0], &[0x22, 0, 0, 0])));
    add("udp multicast", ether(group, 0x0800, &v4(UDP, A, [239, 1, 2, 3], &udp(1000, 1000, b"m"))));
    for (name, protocol) in [("esp", 50), ("ah", 51), ("ospf", 89), ("pim", 103), ("vrrp", 112), ("igrp", 9)]
    {
        add(name, ip(v4(protocol, A, B, &[0; 24])));
    }
    add("ip header length 0", ip(concat(&[&[0x40], &v4(TCP, A, B, &tcp(1000, 80, 2, b""))[1..]])));
    add("ip odd bytes", ip(v4(TCP, [1, 2, 3, 4], [0, 0, 0, 10], &tcp(0, 65535, 0xff, &[0; 3]))));
}

fn add_v6(add: &mut impl FnMut(&str, Vec<u8>)) {
    let ip6 = |packet: Vec<u8>| ether(MAC2, 0x86dd, &packet);
    add("v6 tcp", ip6(v6(TCP, 2, &tcp(1000, 80, 0x02, b""))));
    add("v6 tcp reply", ip6(v6(TCP, 2, &tcp(443, 1001, 0x12, b""))));
    add("v6 udp", ip6(v6(UDP, 2, &udp(53, 53, b"abc"))));
    add("v6 sctp", ip6(v6(SCTP, 3, &sctp(80, 80))));
    add("v6 icmp echo", ip6(v6(58, 2, &icmp(128, 0))));
    add("v6 neighbour solicitation", ether([0x33, 0x33, 0xff, 0, 0, 2], 0x86dd, &v6(58, 2, &icmp(135, 0))));
    add("v6 first fragment", ip6(v6(44, 2, &v6_fragment(TCP, 1, &tcp(1000, 80, 2, b"")))));
    add("v6 last fragment", ip6(v6(44, 2, &v6_fragment(UDP, 0x0100, &[0, 80, 0, 80, 0, 0, 0, 0]))));
    let hop_by_hop = |next: u8| concat(&[&[next, 0, 1, 4, 0, 0, 0, 0], &tcp(1000, 80, 2, b"")]);
    add("v6 hop-by-hop, tcp", ip6(v6(0, 2, &hop_by_hop(TCP))));
    add("v6 hop-by-hop, icmp", ip6(v6(0, 2, &hop_by_hop(58))));
    let mut multicast = v6(UDP, 1, &udp(5353, 5353, b""));
    multicast[24..26].copy_from_slice(&[0xff, 0x02]);
    add("v6 multicast", ether([0x33, 0x33, 0, 0, 0, 1], 0x86dd, &multicast));
}

fn add_others(add: &mut impl FnMut(&str, Vec<u8>)) {
    add("arp request", ether(BROADCAST, 0x0806, &arp(1, A, B)));
    add("arp reply", ether(MAC2, 0x0806, &arp(2, B, A)));
    add("arp other net", ether(BROADCAST, 0x0806, &arp(1, D, [192, 168, 1, 1])));
    add("rarp", ether(BROADCAST, 0x8035, &arp(3, A, A)));
    add("lldp", ether([0x01, 0x80, 0xc2, 0, 0, 0x0e], 0x88cc, &[2, 7, 4, 2, 0, 0, 0, 0, 1, 0, 0]));
    add("802.3 stp", ether([0x01, 0x80, 0xc2, 0, 0, 0], 38, &concat(&[&[0x42, 0x42, 3], &[0; 43]])));
    let snap = concat(&[&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], &v4(TCP, A, B, &tcp(1000, 80, 2, b""))]);
    add("802.3 snap ip", ether(MAC2, snap.len() as u16, &snap));
    add("length 1500", ether(MAC2, 1500, &[6; 46]));
    add("to itself", concat(&[&MAC1, &MAC1, &[0x08, 0], &v4(1, A, A, &icmp(8, 0))]));
    add("zeros", vec![0; 60]);
    add("ones", vec![0xff; 60]);
}

fn add_tagged(add: &mut impl FnMut(&str, Vec<u8>)) {
    let syn = v4(TCP, A, B, &tcp(1000, 80, 0x02, b""));
    let dns = v4(UDP, A, D, &udp(53, 53, b""));
    add("vlan 5 tcp", ether(MAC2, 0x8100, &tag(5, 0x0800, &syn)));
    add("vlan 6 udp", ether(MAC2, 0x8100, &tag(6, 0x0800, &dns)));
    add("vlan 0", ether(MAC2, 0x8100, &tag(0, 0x0800, &syn)));
    add("vlan 5 arp", ether(BROADCAST, 0x8100, &tag(5, 0x0806, &arp(1, A, B))));
    add("vlan 5 v6 icmp", ether(MAC2, 0x8100, &tag(5, 0x86dd, &v6(58, 2, &icmp(128, 0)))));
    add("vlan 5 in 5", ether(MAC2, 0x8100, &tag(5, 0x8100, &tag(5, 0x0800, &syn))));
    add("802.1ad 5, 802.1Q 6", ether(MAC2, 0x88a8, &tag(5, 0x8100, &tag(6, 0x0800, &dns))));
    add(
        "old QinQ",
        ether(MAC2, 0x9100, &tag(4095, 0x8100, &tag(6, 0x86dd, &v6(TCP, 2, &tcp(80, 80, 2, b""))))),
    );
    add("three tags", ether(MAC2, 0x8100, &tag(1, 0x8100, &tag(2, 0x8100, &tag(3, 0x0800, &syn)))));
}

/// Frames cut off in each header; some say on the wire they were longer, as a snapshot length leaves them.
fn add_cut(frames: &mut Vec<Frame>) {
    let syn = ether(MAC2, 0x0800, &v4(TCP, A, B, &tcp(1000, 80, 0x02, b"")));
    let dns = ether(MAC2, 0x0800, &v4(UDP, A, D, &udp(53, 1001, b"")));
    let request = ether(BROADCAST, 0x0806, &arp(1, A, B));
    let six = ether(MAC2, 0x86dd, &v6(TCP, 2, &tcp(1000, 80, 0x02, b"")));
    let tagged = ether(MAC2, 0x8100, &tag(5, 0x0800, &v4(TCP, A, B, &tcp(1000, 80, 0x02, b""))));
    let ping = ether(MAC2, 0x0800, &v4(1, A, B, &icmp(8, 0)));
    let cuts: [(&str, &[u8], &[usize]); 6] = [
        (
            "tcp",
            &syn,
            &[0, 1, 5, 6, 11, 12, 13, 14, 15, 20, 22, 23, 24, 29, 30, 33, 34, 35, 36, 37, 38, 47, 48],
        ),
        ("udp", &dns, &[35, 36, 37, 38, 39]),
        ("arp", &request, &[14, 21, 22, 31, 32, 41]),
        ("v6", &six, &[14, 20, 21, 25, 26, 38, 53, 54, 55, 56, 57, 58]),
        ("vlan", &tagged, &[14, 15, 16, 17, 18, 28, 39, 40, 41, 42]),
        ("icmp", &ping, &[23, 34, 35]),
    ];
    for (name, frame, lengths) in cuts {
        for (index, &length) in lengths.iter().enumerate() {
            let wire_len = if index % 2 == 0 { length } else { frame.len() };
            let name = format!("{name} cut at {length}, {wire_len} on the wire");
            frames.push(Frame { name, bytes: frame[..length].to_vec(), wire_len });
        }
    }
}
