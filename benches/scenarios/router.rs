//! What the router is measured with: a network that is masqueraded, one that is not, the outside, and as
//! many flows as one likes, whose packets come in an order that looks random.
#![allow(dead_code)] // who measures uses a part of it

use std::hint::black_box;

use tapswitch::control::docker_rules::{
    Action, Party, Policy, PolicyNetwork, PolicyPublish, UserRule, rulesets,
};
use tapswitch::dataplane::conntrack::{Limits, Timeouts, Tuple};
use tapswitch::dataplane::{
    Change, Egress, Frame, Instant, Interface, InterfaceAddress, MssClamp, NetworkConfig, NetworkId, PortId,
    Role, Route, Settings, Switch, Verdict,
};
use tapswitch::wire::arp::{Arp, Operation};
use tapswitch::wire::ip::{Addr, Prefix, Version, protocol};
use tapswitch::wire::{MacAddr, Offload, checksum};

/// Frames that come in one go.
pub(crate) const BURST: usize = 32;
/// The smallest frame.
const LEN: usize = 64;
/// Nanoseconds between two frames.
const PACE: u64 = 10;
/// Senders of a network: so many addresses, with so many ports each.
const HOSTS: u32 = 128;
const PORTS_EACH: u32 = 256;
/// Nanoseconds in a second.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// 172.19.0.0/16, masqueraded: senders on port 1, servers on port 2.
const NET1: NetworkId = NetworkId(0);
/// 172.20.0.0/16, routed as it is: senders on port 3.
const NET2: NetworkId = NetworkId(1);
/// 198.51.100.0/24, the outside, on port 9.
const WAN: NetworkId = NetworkId(2);
const OURS: u32 = 0xc633_6401;
const NEXT_ROUTER: u32 = 0xc633_6402;
/// Whose port is published.
const SERVER: u32 = 0xac13_ff02;
/// Published ports: these, for the server's from 80 on.
const PUBLISHED: (u16, u16) = (8000, 8031);

/// What becomes of the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// To the server on the same network: what a frame costs without the router.
    Bridged,
    /// From the network that is not masqueraded to the outside.
    Routed,
    /// The same, every packet to another address.
    Far,
    /// From the network that is masqueraded to the outside.
    Masqueraded,
    /// The same, in TCP.
    MasqueradedTcp,
    /// From outside to a published port.
    Published,
    /// From the server's own network to its published port.
    Hairpin,
}

/// What differs between the packets of a scenario.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    source: u32,
    destination: u32,
    source_port: u16,
    destination_port: u16,
    /// Of the IP header.
    checksum: u16,
}

/// Counts what leaves the switch.
#[derive(Default)]
pub(crate) struct Sink(u64);

impl Egress for Sink {
    #[inline]
    fn send(&mut self, to: PortId, frame: &Frame) {
        black_box((to, frame.bytes().as_ptr()));
        self.0 += 1;
    }

    #[inline]
    fn emit(&mut self, to: PortId, bytes: &[u8], _: Offload) {
        black_box((to, bytes.as_ptr()));
        self.0 += 1;
    }
}

/// Keeps the last frame that left, and by which port it did.
struct Last(PortId, Vec<u8>);

impl Egress for Last {
    fn send(&mut self, to: PortId, frame: &Frame) {
        self.emit(to, frame.bytes(), frame.offload);
    }

    fn emit(&mut self, to: PortId, bytes: &[u8], _: Offload) {
        *self = Self(to, bytes.to_vec());
    }
}

/// How the world is made.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Setting {
    /// User rules, none of which matches.
    pub(crate) user_rules: u32,
    /// Routes besides the default route.
    pub(crate) routes: u32,
}

/// A stream of packets through a switch of its own.
pub(crate) struct World {
    pub(crate) switch: Switch,
    pub(crate) now: Instant,
    kind: Kind,
    template: [u8; LEN],
    /// In the order in which they come.
    samples: Vec<Sample>,
    next: usize,
    frames: Vec<Frame>,
    out: Sink,
}

/// Numbers that look random, the same on every run.
pub(crate) fn numbers() -> impl FnMut() -> u32 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u32
    }
}

fn address(bits: u32) -> Addr {
    Addr::v4(bits.to_be_bytes())
}

fn prefix(bits: u32, len: u8) -> Prefix {
    Prefix::new(address(bits), len)
}

/// The MAC address of whoever is on a port.
fn station(port: u32) -> MacAddr {
    MacAddr([2, 0x42, 0, 0, 0, port as u8])
}

/// The MAC address of a network's gateway.
fn gateway(network: NetworkId) -> MacAddr {
    MacAddr([2, 0x42, 0, 0, 1, network.0 as u8])
}

/// The network that a port is on, our address there, and what is reached there directly.
fn around(port: u32) -> (NetworkId, u32, u8) {
    match port {
        1 | 2 => (NET1, 0xac13_0001, 16),
        3 => (NET2, 0xac14_0001, 16),
        _ => (WAN, OURS, 24),
    }
}

impl Kind {
    /// The port by which the packets come.
    const fn port(self) -> u32 {
        match self {
            Self::Bridged | Self::Masqueraded | Self::MasqueradedTcp | Self::Hairpin => 1,
            Self::Routed | Self::Far => 3,
            Self::Published => 9,
        }
    }

    /// The packet of the flow with this number. No two flows of a kind have the same.
    fn sample(self, flow: u32) -> Sample {
        let (host, rest) = (flow % HOSTS, flow / HOSTS);
        let (port, peer) = (rest % PORTS_EACH, rest / PORTS_EACH);
        let inside = |network: u32| network + 0x100 + host;
        let (source, destination, destination_port) = match self {
            Self::Bridged => (inside(0xac13_0000), SERVER, 53),
            Self::Routed => (inside(0xac14_0000), 0xcb00_7100 + peer, 53),
            // Anywhere from 16.0.0.0 to 111.255.255.255.
            Self::Far => {
                (inside(0xac14_0000), 0x1000_0000 + flow.wrapping_mul(0x9e37_79b1) % 0x6000_0000, 53)
            }
            Self::Masqueraded | Self::MasqueradedTcp => (inside(0xac13_0000), 0xcb00_7100 + peer, 53),
            Self::Published => (0xcb00_0000 + flow % 4096, OURS, PUBLISHED.0),
            Self::Hairpin => (inside(0xac13_0000), OURS, PUBLISHED.0 + peer as u16),
        };
        let source_port = 20_000 + if self == Self::Published { flow / 4096 } else { port };
        let mut sample =
            Sample { source, destination, source_port: source_port as u16, destination_port, checksum: 0 };
        let mut bytes = template(self);
        sample.write(&mut bytes);
        sample.checksum = u16::from_be_bytes(checksum_of(&bytes));
        sample
    }

    const fn is_tcp(self) -> bool {
        matches!(self, Self::MasqueradedTcp)
    }
}

impl Sample {
    /// Makes the packet this one.
    #[inline]
    fn write(&self, bytes: &mut [u8; LEN]) {
        bytes[24..26].copy_from_slice(&self.checksum.to_be_bytes());
        bytes[26..30].copy_from_slice(&self.source.to_be_bytes());
        bytes[30..34].copy_from_slice(&self.destination.to_be_bytes());
        bytes[34..36].copy_from_slice(&self.source_port.to_be_bytes());
        bytes[36..38].copy_from_slice(&self.destination_port.to_be_bytes());
    }

    fn tuple(&self, kind: Kind) -> Tuple {
        Tuple {
            source: address(self.source),
            destination: address(self.destination),
            source_port: self.source_port,
            destination_port: self.destination_port,
            protocol: if kind.is_tcp() { protocol::TCP } else { protocol::UDP },
        }
    }
}

/// The checksum of an IPv4 header whose own is zero.
fn checksum_of(bytes: &[u8; LEN]) -> [u8; 2] {
    checksum::Sum::default().add(&bytes[14..34]).finish()
}

/// A datagram, or the segment of an established connection. The transport's checksum is wrong, which is
/// for its receiver to see.
fn template(kind: Kind) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    let port = kind.port();
    let to = if kind == Kind::Bridged { station(2) } else { gateway(around(port).0) };
    bytes[..6].copy_from_slice(&to.0);
    bytes[6..12].copy_from_slice(&station(port).0);
    bytes[12..16].copy_from_slice(&[0x08, 0x00, 0x45, 0]);
    bytes[17] = (LEN - 14) as u8;
    bytes[20] = 0x40;
    bytes[22] = 64;
    if kind.is_tcp() {
        bytes[23] = protocol::TCP;
        segment(&mut bytes, 1001, 2001, 0x10);
    } else {
        bytes[23] = protocol::UDP;
        bytes[39] = (LEN - 34) as u8;
        bytes[40..42].copy_from_slice(&[0x12, 0x34]);
    }
    bytes
}

/// Writes a TCP header, but for its ports.
fn segment(bytes: &mut [u8], seq: u32, ack: u32, flags: u8) {
    bytes[38..42].copy_from_slice(&seq.to_be_bytes());
    bytes[42..46].copy_from_slice(&ack.to_be_bytes());
    bytes[46..52].copy_from_slice(&[0x50, flags, 0x7f, 0xff, 0x12, 0x34]);
}

/// Turns a packet around as its receiver would.
fn turn_around(bytes: &mut [u8]) {
    let (to, from) = bytes.split_at_mut(6);
    to.swap_with_slice(&mut from[..6]);
    let (source, destination) = bytes[26..34].split_at_mut(4);
    source.swap_with_slice(destination);
    let (source, destination) = bytes[34..38].split_at_mut(2);
    source.swap_with_slice(destination);
    bytes[22] = 64;
    bytes[24..26].fill(0);
    let sum = checksum::Sum::default().add(&bytes[14..34]).finish();
    bytes[24..26].copy_from_slice(&sum);
}

fn policy(user_rules: u32) -> Policy {
    let network = |id, subnet, masquerade| PolicyNetwork {
        id,
        subnets: vec![prefix(subnet, 16)],
        internal: false,
        icc: true,
        masquerade,
        masquerade_v6: false,
        masquerade_ports: None,
        masquerade_to: Vec::new(),
    };
    let user_rule = |number: u32| UserRule {
        from: Party::Prefixes(vec![prefix(0x0a00_0000 + number, 32)]),
        to: Party::Any,
        protocol: Some(protocol::UDP),
        ports: Some((53, 53)),
        states: None,
        action: Action::Drop,
    };
    Policy {
        iptables: true,
        masquerade: true,
        networks: vec![network(NET1, 0xac13_0000, true), network(NET2, 0xac14_0000, false)],
        publishes: vec![PolicyPublish {
            network: NET1,
            address: address(SERVER),
            protocol: protocol::UDP,
            host: None,
            host_ports: PUBLISHED,
            container_ports: (80, 80 + PUBLISHED.1 - PUBLISHED.0),
            from: Vec::new(),
            beside: Vec::new(),
        }],
        links: Vec::new(),
        proxies: Vec::new(),
        user_rules: (0..user_rules).map(user_rule).collect(),
    }
}

/// All that makes the world's switch.
fn changes(setting: Setting) -> Vec<Change> {
    let interface = |port: u32| {
        let (network, own, len) = around(port);
        Interface {
            role: if network == WAN { Role::Uplink } else { Role::Network },
            mac: gateway(network),
            addresses: vec![InterfaceAddress { address: address(own), prefix: prefix(own, len) }],
            forward: true,
            internal: false,
            advertise: false,
            mss_clamp: MssClamp::Off,
            uplink: None,
            filter_bridged: false,
            sockets: false,
        }
    };
    let most = 1 << 22;
    // A new flow's answer takes no minute here: see `World::forget_fresh`.
    let timeouts = Timeouts { udp: 1, ..Timeouts::default() };
    let limits = Limits { table: most, source: most };
    let mut all = vec![Change::Set(Settings { conntrack: limits, timeouts, ..Settings::default() })];
    all.extend([NET1, NET2, WAN].map(|id| Change::AddNetwork(id, NetworkConfig::default())));
    for port in [1, 2, 3, 9] {
        let network = around(port).0;
        all.push(Change::AddPort(PortId(port), network));
        all.push(Change::AddFdb(network, station(port), PortId(port)));
    }
    all.extend([1, 3, 9].map(|port| Change::SetInterface(around(port).0, Some(interface(port)))));
    let via = Some(address(NEXT_ROUTER));
    let mut number = numbers();
    let mut far = || {
        let len = if number() % 5 < 3 { 24 } else { 9 + (number() % 16) as u8 };
        prefix(0x1000_0000 + number() % 0x6000_0000, len)
    };
    let mut prefixes = std::collections::BTreeSet::from([Prefix::ALL_V4]);
    while prefixes.len() <= setting.routes as usize {
        prefixes.insert(far());
    }
    let route = |prefix| Change::AddRoute(Route { prefix, via, interface: WAN, metric: 0 });
    all.extend(prefixes.into_iter().map(route));
    let [v4, _] = rulesets(&policy(setting.user_rules));
    all.push(Change::SetRules(Version::V4, v4));
    all
}

impl World {
    /// A world whose packets all belong to flows that are not there yet.
    pub(crate) fn new(kind: Kind, setting: Setting) -> Self {
        let mut switch = Switch::new(7);
        for change in changes(setting) {
            switch.apply(Instant(0), change).unwrap();
        }
        let frames = (0..BURST).map(|_| Frame::new()).collect();
        let (template, out) = (template(kind), Sink::default());
        let mut world =
            Self { switch, now: Instant(0), kind, template, samples: Vec::new(), next: 0, frames, out };
        world.introduce();
        world
    }

    /// The same with so many established flows, to which the packets belong.
    pub(crate) fn established(kind: Kind, flows: u32, setting: Setting) -> Self {
        let mut world = Self::new(kind, setting);
        for flow in 0..flows {
            let sample = kind.sample(flow);
            match kind {
                Kind::Bridged => {}
                Kind::MasqueradedTcp => world.shake_hands(&sample),
                _ => world.talk(&sample),
            }
            world.samples.push(sample);
        }
        world.shuffle();
        world
    }

    /// Makes all neighbours known: they ask for their gateways.
    fn introduce(&mut self) {
        let hosts = |network: u32| (0..HOSTS).map(move |host| network + 0x100 + host);
        let all = [(1, hosts(0xac13_0000).collect()), (2, vec![SERVER]), (3, hosts(0xac14_0000).collect())];
        let all: [(u32, Vec<u32>); 3] = all;
        for (port, sender) in all
            .into_iter()
            .chain([(9, vec![NEXT_ROUTER])])
            .flat_map(|(port, all)| all.into_iter().map(move |sender| (port, sender)))
        {
            let arp = Arp {
                operation: Operation::Request,
                sender_mac: station(port),
                sender: address(sender),
                target_mac: MacAddr::ZERO,
                target: address(around(port).1),
            };
            self.send(port, &arp.frame(MacAddr::BROADCAST));
        }
    }

    /// Sends one frame, and gives what left by which port.
    fn send(&mut self, port: u32, bytes: &[u8]) -> (PortId, Vec<u8>) {
        let mut last = Last(PortId(u32::MAX), Vec::new());
        let frame = &mut self.frames[0];
        frame.set(bytes, Offload::NONE);
        let verdict = self.switch.input(self.now, PortId(port), frame, &mut last, &mut ());
        assert!(!last.1.is_empty(), "{:?}: {verdict:?}", self.kind);
        (last.0, last.1)
    }

    /// A question, its answer, and another question.
    fn talk(&mut self, sample: &Sample) {
        let mut question = self.template;
        sample.write(&mut question);
        let port = self.kind.port();
        let (to, mut answer) = self.send(port, &question);
        turn_around(&mut answer);
        let (back, _) = self.send(to.0, &answer);
        assert_eq!(back, PortId(port));
        self.send(port, &question);
    }

    /// A connection is opened.
    fn shake_hands(&mut self, sample: &Sample) {
        let mut bytes = self.template;
        sample.write(&mut bytes);
        let port = self.kind.port();
        segment(&mut bytes, 1000, 0, 2);
        let (to, mut answer) = self.send(port, &bytes);
        turn_around(&mut answer);
        segment(&mut answer, 2000, 1001, 0x12);
        assert_eq!(self.send(to.0, &answer).0, PortId(port));
        segment(&mut bytes, 1001, 2001, 0x10);
        self.send(port, &bytes);
    }

    /// Puts the packets into an order that looks random.
    fn shuffle(&mut self) {
        let mut number = numbers();
        for last in (1..self.samples.len()).rev() {
            self.samples.swap(last, number() as usize % (last + 1));
        }
    }

    /// From now on packets of so many flows that are not there: those behind the established ones.
    pub(crate) fn begin_fresh(&mut self, kind: Kind, count: u32) {
        let first = self.samples.len() as u32;
        (self.kind, self.template) = (kind, template(kind));
        self.samples = (first..first + count).map(|flow| kind.sample(flow)).collect();
        self.next = 0;
        self.shuffle();
    }

    /// Lets the fresh flows expire, so that their packets begin flows again.
    pub(crate) fn forget_fresh(&mut self, established: u32) {
        self.now.0 += 2 * SECOND;
        while self.switch.conntrack().len() > established {
            self.switch.handle_timeout(self.now, &mut self.out);
        }
        self.next = 0;
        self.introduce();
    }

    /// Makes the next frames ready.
    #[inline]
    pub(crate) fn prepare(&mut self) {
        for frame in &mut self.frames {
            let mut bytes = self.template;
            self.samples[self.next].write(&mut bytes);
            self.next = if self.next + 1 == self.samples.len() { 0 } else { self.next + 1 };
            frame.set(&bytes, Offload::NONE);
        }
    }

    /// What is measured: as many frames as there are in a burst. Says what became of the last one.
    #[inline]
    pub(crate) fn burst(&mut self) -> Verdict {
        let from = PortId(self.kind.port());
        let mut verdict = None;
        self.switch.look_ahead(&self.frames);
        for frame in &mut self.frames {
            self.now.0 += PACE;
            let frame = black_box(frame);
            verdict = Some(self.switch.input(self.now, from, frame, &mut self.out, &mut ()));
        }
        verdict.unwrap()
    }

    /// Makes one frame ready.
    pub(crate) fn prepare_one(&mut self) {
        let mut bytes = self.template;
        self.samples[self.next].write(&mut bytes);
        self.next += 1;
        self.frames[0].set(&bytes, Offload::NONE);
    }

    /// Sends it.
    pub(crate) fn one(&mut self) -> Verdict {
        let from = PortId(self.kind.port());
        self.switch.input(self.now, from, &mut self.frames[0], &mut self.out, &mut ())
    }

    /// The tuples of the next packets.
    pub(crate) fn tuples(&mut self) -> [Tuple; BURST] {
        std::array::from_fn(|_| {
            let sample = self.samples[self.next];
            self.next = if self.next + 1 == self.samples.len() { 0 } else { self.next + 1 };
            sample.tuple(self.kind)
        })
    }

    /// Whether all fresh packets were sent.
    pub(crate) const fn is_round(&self) -> bool {
        self.next == 0
    }

    /// Frames that left the switch so far.
    pub(crate) const fn sent(&self) -> u64 {
        self.out.0
    }
}
