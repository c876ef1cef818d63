//! What is foretold of a frame is what happens to it: verdict, steps, and every byte that leaves. And
//! foretelling changes nothing.
//!
//! Frames come at random into a router between two networks and the outside: packets of all protocols and
//! sizes, answers to what has left before, ARP and neighbour discovery, and all of these bent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::IpAddr;
use std::time::Duration;

use common::lab::{Lab, Recorder, Sent};
use etherparse::PacketBuilder;
use proptest::prelude::*;
use tapswitch::control::docker_rules::{Policy, PolicyNetwork, PolicyPublish, rulesets};
use tapswitch::dataplane::preview::Preview;
use tapswitch::dataplane::{
    Change, Frame, Interface, InterfaceAddress, MssClamp, NetworkConfig, NetworkId, PortId, Role, Route,
    Step, Verdict,
};
use tapswitch::wire::arp::{Arp, Operation};
use tapswitch::wire::checksum::Sum;
use tapswitch::wire::ip::{Addr, Prefix, Version};
use tapswitch::wire::ndp::{self, Envelope};
use tapswitch::wire::{MacAddr, Offload};

/// A network: its number, gateway and hosts.
const NETWORKS: [(u32, Role, &str, &str, &[Host]); 3] = [
    (0, Role::Network, "172.19.0.1/16", "fd00:19::1/64", &[ALICE, BOB]),
    (1, Role::Network, "172.20.0.1/16", "fd00:20::1/64", &[CAROL]),
    (2, Role::Uplink, "198.51.100.1/24", "2001:db8::1/64", &[OUTSIDE]),
];

/// Somebody who sends frames.
#[derive(Debug, Clone, Copy)]
struct Host {
    port: u32,
    network: u32,
    v4: &'static str,
    v6: &'static str,
}

const ALICE: Host = Host { port: 1, network: 0, v4: "172.19.0.2", v6: "fd00:19::2" };
const BOB: Host = Host { port: 2, network: 0, v4: "172.19.0.3", v6: "fd00:19::3" };
const CAROL: Host = Host { port: 3, network: 1, v4: "172.20.0.2", v6: "fd00:20::2" };
const OUTSIDE: Host = Host { port: 9, network: 2, v4: "198.51.100.2", v6: "2001:db8::2" };
const HOSTS: [Host; 4] = [ALICE, BOB, CAROL, OUTSIDE];

/// Where packets go: hosts, nobody, gateways, the outside, what no router takes.
const TARGETS: [(&str, &str); 10] = [
    ("172.19.0.2", "fd00:19::2"),
    ("172.19.0.3", "fd00:19::3"),
    ("172.20.0.2", "fd00:20::2"),
    ("172.20.0.99", "fd00:20::99"),
    ("198.51.100.2", "2001:db8::2"),
    ("203.0.113.80", "2001:db8:80::80"),
    ("172.19.0.1", "fd00:19::1"),
    ("172.20.0.1", "fd00:20::1"),
    ("198.51.100.1", "2001:db8::1"),
    ("224.0.0.9", "ff02::9"),
];

fn addr(text: &str) -> Addr {
    text.parse::<IpAddr>().unwrap().into()
}

fn own(text: &str) -> InterfaceAddress {
    let (address, len) = text.split_once('/').unwrap();
    InterfaceAddress { address: addr(address), prefix: Prefix::new(addr(address), len.parse().unwrap()) }
}

impl Host {
    fn mac(self) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, self.port as u8])
    }

    fn address(self, v6: bool) -> Addr {
        addr(if v6 { self.v6 } else { self.v4 })
    }
}

fn gateway_mac(network: u32) -> MacAddr {
    MacAddr([2, 0, 0, 0, 1, network as u8])
}

fn gateway(network: u32, v6: bool) -> Addr {
    let (_, _, v4_own, v6_own, _) = NETWORKS[network as usize];
    own(if v6 { v6_own } else { v4_own }).address
}

/// The router, which knows nobody yet.
fn lab(filter_bridged: bool, published: bool) -> Lab {
    let small = NetworkConfig { mtu: 1400, ..NetworkConfig::default() };
    let mut lab = Lab::new(&[(0, NetworkConfig::default(), &[1, 2]), (1, small, &[3]), (2, small, &[9])]);
    for (network, role, v4, v6, _) in NETWORKS {
        let interface = Interface {
            role,
            mac: gateway_mac(network),
            addresses: vec![own(v4), own(v6)],
            forward: true,
            internal: false,
            advertise: network == 0,
            mss_clamp: if network == 1 { MssClamp::PathMtu } else { MssClamp::Off },
            uplink: None,
            filter_bridged: filter_bridged && network == 0,
            sockets: false,
        };
        lab.apply(Change::SetInterface(NetworkId(network), Some(interface)));
    }
    for (prefix, via) in [(Prefix::ALL_V4, OUTSIDE.v4), (Prefix::ALL_V6, OUTSIDE.v6)] {
        lab.apply(Change::AddRoute(Route {
            prefix,
            via: Some(addr(via)),
            interface: NetworkId(2),
            metric: 0,
        }));
    }
    let [v4, v6] = rulesets(&policy(published));
    lab.apply(Change::SetRules(Version::V4, v4));
    lab.apply(Change::SetRules(Version::V6, v6));
    lab.wait(Duration::from_secs(1));
    lab
}

/// Docker's rules; carol's port 80 is published as 8000.
fn policy(published: bool) -> Policy {
    let network = |(id, _, v4, v6, _): &(u32, Role, &str, &str, &[Host])| PolicyNetwork {
        id: NetworkId(*id),
        subnets: vec![own(v4).prefix, own(v6).prefix],
        internal: false,
        icc: true,
        masquerade: true,
        masquerade_v6: true,
        masquerade_ports: None,
        masquerade_to: Vec::new(),
    };
    let publish = |protocol, v6| PolicyPublish {
        network: NetworkId(1),
        address: CAROL.address(v6),
        protocol,
        host: None,
        host_ports: (8000, 8000),
        container_ports: (80, 80),
        from: Vec::new(),
        beside: Vec::new(),
    };
    Policy {
        iptables: true,
        masquerade: true,
        networks: NETWORKS[..2].iter().map(network).collect(),
        publishes: if published {
            [6, 17].map(|it| [publish(it, false), publish(it, true)]).concat()
        } else {
            Vec::new()
        },
        ..Policy::default()
    }
}

/// What comes next.
#[derive(Debug, Clone)]
enum Move {
    /// A packet: from, to, what, TTL, bytes of payload, whether it may be cut, to the gateway's MAC address.
    Packet { from: usize, to: usize, what: What, v6: bool, ttl: u8, len: usize, cut: bool, gateway: bool },
    /// An answer to what has left, counted from the last.
    Answer { back: usize, len: usize },
    /// An ICMP error about what has left.
    Error { back: usize },
    /// ARP or neighbour discovery: who, about what address, whether it asks.
    Speak { from: usize, to: usize, v6: bool, asks: bool },
    /// The frame before once more, with a byte changed.
    Bend { at: usize, to: u8 },
    /// The first or a later part of the packet before.
    Fragment { later: bool },
    /// The frame before as a super-frame, its checksum still to be done.
    Offloaded,
    /// Time passes, in milliseconds.
    Wait(u64),
}

#[derive(Debug, Clone, Copy)]
enum What {
    Echo,
    Udp(u16),
    Tcp(u16, u8),
    Other,
}

fn what() -> impl Strategy<Value = What> {
    let ports = prop_oneof![Just(80), Just(8000), Just(9)];
    let flags = prop_oneof![4 => Just(2u8), 1 => Just(0x10), 1 => Just(4), 1 => Just(0x12)];
    prop_oneof![
        2 => Just(What::Echo),
        2 => ports.clone().prop_map(What::Udp),
        3 => (ports, flags).prop_map(|(port, flags)| What::Tcp(port, flags)),
        1 => Just(What::Other),
    ]
}

fn moves() -> impl Strategy<Value = Move> {
    let hosts = || 0..HOSTS.len();
    let ttl = prop_oneof![6 => Just(64u8), 1 => Just(1), 1 => Just(2)];
    let len = || prop_oneof![4 => Just(20usize), 1 => Just(1372), 1 => Just(1440), 1 => 0..200usize];
    let packet = (hosts(), 0..TARGETS.len(), what(), any::<bool>(), ttl, len(), any::<bool>(), 0..8u8);
    let packet = packet.prop_map(|(from, to, what, v6, ttl, len, cut, gateway)| Move::Packet {
        from,
        to,
        what,
        v6,
        ttl,
        len,
        cut,
        gateway: gateway > 0,
    });
    prop_oneof![
        10 => packet,
        6 => (0..4usize, len()).prop_map(|(back, len)| Move::Answer { back, len }),
        2 => (0..3usize).prop_map(|back| Move::Error { back }),
        4 => (hosts(), 0..TARGETS.len(), any::<bool>(), any::<bool>())
            .prop_map(|(from, to, v6, asks)| Move::Speak { from, to, v6, asks }),
        2 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, to)| Move::Bend { at: at.index(80), to }),
        1 => any::<bool>().prop_map(|later| Move::Fragment { later }),
        1 => Just(Move::Offloaded),
        2 => prop_oneof![Just(1u64), Just(1500), Just(40_000), Just(200_000)].prop_map(Move::Wait),
    ]
}

/// Sums the IPv4 header anew.
fn sum_header(bytes: &mut [u8]) {
    if bytes.len() >= 34 && bytes[12..14] == [8, 0] {
        bytes[24..26].fill(0);
        let sum = Sum::default().add(&bytes[14..34]).finish();
        bytes[24..26].copy_from_slice(&sum);
    }
}

fn packet(
    source: (MacAddr, Addr),
    to: (MacAddr, Addr),
    what: What,
    ttl: u8,
    len: usize,
    cut: bool,
) -> Vec<u8> {
    let link = PacketBuilder::ethernet2(source.0.0, to.0.0);
    let is_v6 = source.1.version() == Version::V6;
    let network = match is_v6 {
        true => link.ipv6(source.1.v6_bytes(), to.1.v6_bytes(), ttl),
        false => link.ipv4(source.1.v4_bytes(), to.1.v4_bytes(), ttl),
    };
    let (payload, mut bytes) = (vec![7; len], Vec::new());
    match what {
        What::Echo if is_v6 => network.icmpv6_echo_request(77, 1).write(&mut bytes, &payload),
        What::Echo => network.icmpv4_echo_request(77, 1).write(&mut bytes, &payload),
        What::Udp(port) => network.udp(40_000, port).write(&mut bytes, &payload),
        What::Tcp(port, flags) => {
            let mut tcp = etherparse::TcpHeader::new(40_000, port, 1000, 65_535);
            (tcp.syn, tcp.ack, tcp.rst) = (flags & 2 != 0, flags & 0x10 != 0, flags & 4 != 0);
            if tcp.syn {
                tcp.set_options(&[etherparse::TcpOptionElement::MaximumSegmentSize(1460)]).unwrap();
            }
            network.tcp_header(tcp).write(&mut bytes, &payload)
        }
        What::Other => network.write(&mut bytes, 89.into(), &payload),
    }
    .unwrap();
    if !is_v6 && cut {
        bytes[20] = 0;
        sum_header(&mut bytes);
    }
    bytes
}

/// The answer to a packet that left: everything that has two ends the other way round.
fn answer(sent: &[u8], len: usize) -> Option<Vec<u8>> {
    let to = |bytes: &[u8]| MacAddr(bytes.try_into().unwrap());
    let (destination, source) = (to(sent.get(..6)?), to(sent.get(6..12)?));
    let is_v6 = sent[12..14] == [0x86, 0xdd];
    let (addresses, transport, protocol) = match (is_v6, &sent[12..14]) {
        (true, _) => (
            (Addr::v6(sent.get(22..38)?.try_into().ok()?), Addr::v6(sent.get(38..54)?.try_into().ok()?)),
            54,
            sent[20],
        ),
        (_, [8, 0]) => (
            (Addr::v4(sent.get(26..30)?.try_into().ok()?), Addr::v4(sent.get(30..34)?.try_into().ok()?)),
            34,
            sent[23],
        ),
        _ => return None,
    };
    let what = match protocol {
        1 | 58 => What::Echo,
        17 => What::Udp(0),
        6 => What::Tcp(0, 0x12),
        _ => What::Other,
    };
    let mut bytes = packet((destination, addresses.1), (source, addresses.0), what, 64, len, false);
    match what {
        What::Echo => {
            bytes[transport] = if is_v6 { 129 } else { 0 };
            bytes[transport + 4..transport + 6].copy_from_slice(sent.get(transport + 4..transport + 6)?);
        }
        What::Udp(_) | What::Tcp(..) => {
            let ports: [u8; 4] = sent.get(transport..transport + 4)?.try_into().ok()?;
            bytes[transport..transport + 2].copy_from_slice(&ports[2..]);
            bytes[transport + 2..transport + 4].copy_from_slice(&ports[..2]);
            if protocol == 6 {
                let seq = u32::from_be_bytes(sent.get(transport + 4..transport + 8)?.try_into().ok()?);
                bytes[transport + 8..transport + 12].copy_from_slice(&seq.wrapping_add(1).to_be_bytes());
            }
        }
        What::Other => {}
    }
    Some(bytes)
}

/// An ICMP error about an IPv4 packet that left: its destination says that nobody listens.
fn error(sent: &[u8]) -> Option<Vec<u8>> {
    let quoted = sent.get(14..42).filter(|_| sent[12..14] == [8, 0])?;
    let source = (MacAddr(sent[..6].try_into().ok()?), Addr::v4(sent[30..34].try_into().ok()?));
    let to = (MacAddr(sent[6..12].try_into().ok()?), Addr::v4(sent[26..30].try_into().ok()?));
    let mut bytes = packet(source, to, What::Echo, 64, quoted.len(), false);
    bytes[34..36].copy_from_slice(&[3, 3]);
    bytes[36..42].fill(0);
    bytes[42..].copy_from_slice(quoted);
    let sum = Sum::default().add(&bytes[34..]).finish();
    bytes[36..38].copy_from_slice(&sum);
    Some(bytes)
}

fn speech(from: Host, about: Addr, asks: bool) -> Vec<u8> {
    let (mac, gateway_mac) = (from.mac(), gateway_mac(from.network));
    let v6 = about.version() == Version::V6;
    let own = from.address(v6);
    if !v6 {
        let (operation, target_mac) =
            if asks { (Operation::Request, MacAddr::ZERO) } else { (Operation::Reply, gateway_mac) };
        let target = if asks { about } else { gateway(from.network, false) };
        let arp = Arp { operation, sender_mac: mac, sender: own, target_mac, target };
        return arp.frame(if asks { MacAddr::BROADCAST } else { gateway_mac }).to_vec();
    }
    let mut frame = Vec::new();
    if asks {
        let envelope = Envelope::multicast(mac, own, ndp::solicited_node(about));
        ndp::neighbour_solicitation(&mut frame, &envelope, about);
    } else {
        let envelope = Envelope {
            source_mac: mac,
            destination_mac: gateway_mac,
            source: own,
            destination: gateway(from.network, true),
        };
        let message = ndp::Advertisement {
            target: own,
            mac: Some(mac),
            router: false,
            solicited: true,
            overrides: true,
        };
        ndp::neighbour_advertisement(&mut frame, &envelope, &message);
    }
    frame
}

/// What has happened so far.
struct Session {
    lab: Lab,
    /// The frame before, and where it came in.
    last: Option<(u32, Vec<u8>)>,
    sent: Vec<Sent>,
    /// How often each end was seen.
    seen: Seen,
}

#[derive(Debug, Default)]
struct Seen {
    routed: usize,
    remembered: usize,
    held: usize,
    local: usize,
    told: usize,
    cut: usize,
    released: usize,
}

impl Session {
    fn new(filter_bridged: bool, published: bool) -> Self {
        let lab = lab(filter_bridged, published);
        Self { lab, last: None, sent: Vec::new(), seen: Seen::default() }
    }

    fn play(&mut self, next: &Move) {
        let offload = Offload::NONE;
        match next {
            Move::Wait(ms) => {
                let sent = self.lab.wait(Duration::from_millis(*ms));
                self.sent.extend(sent);
            }
            Move::Packet { from, to, what, v6, ttl, len, cut, gateway } => {
                let (host, target) = (HOSTS[*from], TARGETS[*to]);
                let target = addr(if *v6 { target.1 } else { target.0 });
                let direct = HOSTS.iter().find(|host| host.address(*v6) == target).map(|host| host.mac());
                let mac = direct.filter(|_| !gateway).unwrap_or(gateway_mac(host.network));
                let source = (host.mac(), host.address(*v6));
                let bytes = packet(source, (mac, target), *what, *ttl, *len, *cut);
                self.enter(host.port, bytes, offload);
            }
            Move::Answer { back, len } => {
                let picked = self.sent.iter().rev().nth(*back).cloned();
                if let Some((port, bytes)) =
                    picked.and_then(|(port, sent, _)| Some((port, answer(&sent, *len)?)))
                {
                    self.enter(port, bytes, offload);
                }
            }
            Move::Error { back } => {
                let picked = self.sent.iter().rev().nth(*back).cloned();
                if let Some((port, bytes)) = picked.and_then(|(port, sent, _)| Some((port, error(&sent)?))) {
                    self.enter(port, bytes, offload);
                }
            }
            Move::Speak { from, to, v6, asks } => {
                let target = TARGETS[*to];
                let about = addr(if *v6 { target.1 } else { target.0 });
                self.enter(HOSTS[*from].port, speech(HOSTS[*from], about, *asks), offload);
            }
            Move::Bend { at, to } => {
                let Some((port, mut bytes)) = self.last.clone() else { return };
                let at = at % bytes.len();
                bytes[at] = *to;
                if !(24..26).contains(&at) {
                    sum_header(&mut bytes);
                }
                self.enter(port, bytes, offload);
            }
            Move::Fragment { later } => {
                let Some((port, mut bytes)) = self.last.clone().filter(|(_, bytes)| bytes.len() > 60) else {
                    return;
                };
                bytes[20..22].copy_from_slice(if *later { &[0, 4] } else { &[0x20, 0] });
                sum_header(&mut bytes);
                self.enter(port, bytes, offload);
            }
            Move::Offloaded => {
                let Some((port, bytes)) = self.last.clone() else { return };
                let is_tcp = bytes.len() > 60 && bytes[12..14] == [8, 0] && bytes[23] == 6;
                let offload = Offload { flags: 1, csum_start: 34, csum_offset: 16, ..Offload::NONE };
                self.enter(port, bytes, if is_tcp { offload } else { Offload::NONE });
            }
        }
    }

    /// A frame comes in: what is foretold must be what happens.
    fn enter(&mut self, port: u32, bytes: Vec<u8>, offload: Offload) {
        let (mut frame, now, from) = (Frame::new(), self.lab.now, PortId(port));
        frame.set(&bytes, offload);
        // All that it holds.
        let before = format!("{:?}", self.lab.switch);
        let mut foreseen = Vec::new();
        let preview = self.lab.switch.preview(now, from, &frame, &mut foreseen);
        assert_eq!(format!("{:?}", self.lab.switch), before, "looking changes nothing");
        assert_eq!(frame.bytes(), bytes);
        let (mut out, mut steps) = (Recorder::default(), Vec::new());
        let verdict = self.lab.switch.input(now, from, &mut frame, &mut out, &mut steps);
        assert_eq!((preview.verdict, &foreseen), (verdict, &steps));
        let is_fragment =
            steps.iter().any(|step| matches!(step, Step::Packet(packet) if packet.fragment.is_some()));
        if !is_fragment {
            let foretold: Vec<Sent> = preview
                .sent
                .iter()
                .map(|leaving| (leaving.to.0, leaving.bytes.clone(), leaving.offload))
                .collect();
            assert_eq!(foretold, out.0, "{verdict:?} of {bytes:02x?} by {port}");
        }
        self.count(&preview, &steps);
        self.last = Some((port, bytes));
        self.sent.extend(out.0);
    }

    fn count(&mut self, preview: &Preview, steps: &[Step]) {
        let seen = &mut self.seen;
        let count = |counter: &mut usize, is: bool| *counter += usize::from(is);
        let told = steps.iter().any(|step| matches!(step, Step::Tell(_)));
        let is_routed = matches!(preview.verdict, Verdict::Routed(_));
        count(&mut seen.routed, is_routed);
        count(&mut seen.held, !preview.waiting.is_empty());
        count(&mut seen.local, preview.verdict == Verdict::Local);
        count(&mut seen.remembered, preview.path.is_some());
        count(&mut seen.told, told && !preview.sent.is_empty());
        count(&mut seen.cut, is_routed && preview.sent.len() > 1);
        let was_heard = !steps.iter().any(|step| matches!(step, Step::Packet(_)));
        let waited = preview.sent.iter().any(|leaving| leaving.bytes[12..14] == [8, 0]);
        count(&mut seen.released, preview.verdict == Verdict::Local && was_heard && waited);
    }
}

/// Plays in a world where bridged packets are filtered, ports are published, everybody is known; or not.
fn play(moves: &[Move], [filter_bridged, published, known]: [bool; 3]) -> Seen {
    let mut session = Session::new(filter_bridged, published);
    let hosts = HOSTS.into_iter().filter(|_| known);
    for (host, v6) in hosts.flat_map(|host| [(host, false), (host, true)]) {
        session.enter(host.port, speech(host, gateway(host.network, v6), true), Offload::NONE);
    }
    session.seen = Seen::default();
    moves.iter().for_each(|next| session.play(next));
    session.seen
}

proptest! {
    #[test]
    fn what_is_foretold_happens(
        moves in prop::collection::vec(moves(), 1..60),
        world in any::<[bool; 3]>(),
    ) {
        play(&moves, world);
    }
}

/// Every kind of end is met: a table of moves that leads there.
#[test]
fn each_end_is_met() {
    let packet = |from, to, what, len| Move::Packet {
        from,
        to,
        what,
        v6: false,
        ttl: 64,
        len,
        cut: true,
        gateway: true,
    };
    let mut moves = vec![packet(0, 5, What::Udp(9), 20)];
    moves.extend([
        Move::Speak { from: 3, to: 8, v6: false, asks: false },
        packet(0, 5, What::Udp(9), 20),
        packet(0, 5, What::Udp(9), 20),
        packet(0, 5, What::Udp(9), 1440),
        packet(0, 6, What::Echo, 20),
        packet(0, 6, What::Udp(9), 20),
        packet(3, 8, What::Tcp(8000, 2), 0),
        Move::Packet {
            from: 0,
            to: 5,
            what: What::Echo,
            v6: false,
            ttl: 1,
            len: 20,
            cut: true,
            gateway: true,
        },
    ]);
    let seen = play(&moves, [false, true, false]);
    let Seen { routed, remembered, held, local, told, cut, released } = seen;
    let counts = [routed, remembered, held, local, told, cut, released];
    assert!(counts.iter().all(|count| *count > 0), "{seen:?}");
}
