//! The switch against a bridge so simple that it can be checked by reading: one list of all that is known,
//! searched from front to back. Random topologies, frames, changes and waits must give the same answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod reference;

use std::time::Duration;

use common::frames::{ethernet, mac, super_frame, tagged};
use common::lab::{Lab, Recorder, Sent};
use proptest::collection::vec;
use proptest::prelude::*;
use reference::{Bridge, Truth};
use tapswitch::dataplane::fdb::{FdbEntry, Limits};
use tapswitch::dataplane::{
    Change, Frame, Instant, NetworkConfig, NetworkId, PortId, Rejected, Step, Switch, Verdict,
};
use tapswitch::wire::ethernet::{ARP, IPV4};
use tapswitch::wire::{MacAddr, Offload};

/// Networks and ports have numbers below these; ports 5 and up exist only if a change adds them.
const NETWORKS: u32 = 3;
const PORTS: u32 = 7;
const STATIONS: u8 = 6;

#[derive(Debug, Clone)]
enum Event {
    Frame { from: u32, to: MacAddr, source: MacAddr, shape: Shape },
    Wait(Duration),
    Change(Change),
}

/// What a frame looks like beside its addresses.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// A packet of so many bytes behind so many tags.
    Packet { ethertype: u16, tags: usize, len: usize },
    /// A super-frame: payload per segment, and payload.
    Super { gso_size: u16, payload: usize },
    /// Cut off after so many bytes (fewer than 14).
    Runt(usize),
    /// With an offload header that points behind its end.
    Lying,
}

impl Shape {
    /// The frame, and what it is by construction.
    fn build(self, to: MacAddr, source: MacAddr) -> (Frame, Truth) {
        let truth = Truth { to, source, packet: 50, is_arp: false, is_runt: false, is_lying: false };
        match self {
            Self::Packet { ethertype, tags, len } => {
                let bytes = ethernet(to, source, ethertype, len);
                let bytes = (0..tags).fold(bytes, |bytes, tag| tagged(bytes, tag as u16));
                let is_arp = ethertype == ARP && tags == 0;
                (Frame::from_bytes(&bytes), Truth { packet: len, is_arp, ..truth })
            }
            Self::Super { gso_size, payload } => {
                let packet = 40 + payload.min(usize::from(gso_size));
                (super_frame(to, source, gso_size, payload), Truth { packet, ..truth })
            }
            Self::Runt(len) => {
                let bytes = ethernet(to, source, IPV4, 0);
                (Frame::from_bytes(&bytes[..len]), Truth { is_runt: true, ..truth })
            }
            Self::Lying => {
                let mut frame = Frame::new();
                let offload = Offload { flags: 1, csum_start: 63, ..Offload::NONE };
                frame.set(&ethernet(to, source, IPV4, 50), offload);
                (frame, Truth { is_lying: true, ..truth })
            }
        }
    }
}

fn address() -> impl Strategy<Value = MacAddr> {
    prop_oneof![
        20 => (1..=STATIONS).prop_map(mac),
        2 => Just(MacAddr::BROADCAST),
        1 => Just(MacAddr([0x33, 0x33, 0, 0, 0, 1])),
        1 => Just(MacAddr([0x01, 0x80, 0xc2, 0, 0, 0x0e])),
        1 => Just(MacAddr::ZERO),
    ]
}

fn shape() -> impl Strategy<Value = Shape> {
    let ethertype = prop_oneof![3 => Just(IPV4), 1 => Just(ARP), 1 => Just(0x88cc)];
    prop_oneof![
        12 => (ethertype, 0usize..3, prop_oneof![8 => 0usize..120, 1 => 995usize..1505])
            .prop_map(|(ethertype, tags, len)| Shape::Packet { ethertype, tags, len }),
        2 => (900u16..1500, 1usize..5000).prop_map(|(gso_size, payload)| Shape::Super { gso_size, payload }),
        1 => (0usize..14).prop_map(Shape::Runt),
        1 => Just(Shape::Lying),
    ]
}

fn config() -> impl Strategy<Value = NetworkConfig> {
    let mtu = prop_oneof![Just(1500), Just(1000)];
    let ageing = prop_oneof![4 => Just(300_000), 2 => Just(7_000), 1 => Just(0)];
    let flood_limit = prop_oneof![4 => Just(100_000u32), 1 => Just(0), 2 => Just(3), 1 => Just(7)];
    (mtu, proptest::bool::weighted(0.8), ageing, flood_limit).prop_map(|(mtu, icc, ageing, flood_limit)| {
        let fdb = Limits { ageing: Duration::from_millis(ageing), ..NetworkConfig::default().fdb };
        NetworkConfig { mtu, icc, fdb, flood_limit }
    })
}

fn change() -> impl Strategy<Value = Change> {
    let network = || (0..NETWORKS).prop_map(NetworkId);
    let port = || (0..PORTS).prop_map(PortId);
    prop_oneof![
        1 => (network(), config()).prop_map(|(id, config)| Change::AddNetwork(id, config)),
        2 => (network(), config()).prop_map(|(id, config)| Change::SetNetwork(id, config)),
        1 => network().prop_map(Change::RemoveNetwork),
        4 => (port(), network()).prop_map(|(id, on)| Change::AddPort(id, on)),
        2 => port().prop_map(Change::RemovePort),
        4 => (port(), any::<bool>()).prop_map(|(id, up)| Change::SetPort(id, up)),
        3 => (network(), address(), port()).prop_map(|(id, mac, port)| Change::AddFdb(id, mac, port)),
        2 => (network(), address()).prop_map(|(id, mac)| Change::RemoveFdb(id, mac)),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let wait = prop_oneof![
        6 => 0u64..500,
        3 => 500u64..10_000,
        1 => 10_000u64..400_000,
        // To the millisecond when an entry dies or a breath is drawn.
        2 => prop_oneof![Just(1_000), Just(7_000), Just(300_000)],
    ];
    prop_oneof![
        20 => (0..PORTS, address(), address(), shape())
            .prop_map(|(from, to, source, shape)| Event::Frame { from, to, source, shape }),
        5 => wait.prop_map(|ms| Event::Wait(Duration::from_millis(ms))),
        3 => change().prop_map(Event::Change),
    ]
}

/// Two networks, and ports 0 to 4 spread over them: what most events need.
fn start(configs: &[NetworkConfig; 2], spread: u32) -> Vec<Change> {
    let networks = (0..).zip(configs).map(|(id, config)| Change::AddNetwork(NetworkId(id), *config));
    let ports = (0..5).map(|port| Change::AddPort(PortId(port), NetworkId(spread >> port & 1)));
    networks.chain(ports).collect()
}

proptest! {
    // The failing input is printed whole; no file is needed to find it again.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// `punctual`: whether the switch is woken when it asks to be. What it answers may not depend on that,
    /// only when it counts an address as aged.
    #[test]
    fn the_switch_is_a_bridge(
        configs in [config(), config()], spread: u32, punctual: bool, events in vec(event(), 1..120),
    ) {
        let mut lab = Lab::new(&[]);
        let mut bridge = Bridge::default();
        let changes = start(&configs, spread).into_iter().map(Event::Change);
        for event in changes.chain(events) {
            match event {
                Event::Frame { from, to, source, shape } => {
                    let (frame, truth) = shape.build(to, source);
                    let passage = lab.send(from, &frame);
                    let (verdict, reached) = bridge.input(from, &truth);
                    let copies: Vec<Sent> =
                        reached.iter().map(|port| (*port, frame.bytes().to_vec(), frame.offload)).collect();
                    prop_assert_eq!((passage.verdict, passage.sent), (verdict, copies));
                }
                Event::Wait(time) if punctual => {
                    lab.wait(time);
                    bridge.wait(time);
                }
                Event::Wait(time) => {
                    lab.now = lab.now + time;
                    bridge.wait(time);
                }
                Event::Change(change) => {
                    let answer = lab.switch.apply(lab.now, change.clone());
                    prop_assert_eq!(answer, bridge.apply(change));
                }
            }
            for network in (0..NETWORKS).filter(|id| lab.switch.network(NetworkId(*id)).is_some()) {
                prop_assert_eq!(lab.fdb(network), bridge.fdb(network));
                if punctual {
                    let counters = lab.switch.network(NetworkId(network)).unwrap().fdb.counters;
                    prop_assert_eq!(counters, bridge.counters(network));
                }
            }
        }
    }

    /// Tiny tables, one address a station, many stations: who loses what to whom?
    #[test]
    fn limits_hold_and_nobody_is_pushed_below_an_equal_share(
        table in 1u32..24, port in 1u32..24,
        frames in vec((0u32..4, 0u8..40), 1..300),
    ) {
        let config = with_limits(table, port);
        let mut lab = Lab::with(config, &[0, 1, 2, 3]);
        let fixed = MacAddr([2, 0, 0, 0, 0, 1]);
        lab.apply(Change::AddFdb(NetworkId(0), fixed, PortId(1)));
        for (from, station) in frames {
            lab.now.0 += 1_000_000;
            let before = owned(&lab.fdb(0));
            // Each port has stations of its own: nothing moves.
            let source = MacAddr([2, 1, 0, 0, from as u8, station]);
            let _ = lab.send(from, &Frame::from_bytes(&ethernet(fixed, source, IPV4, 50)));
            let entries = lab.fdb(0);
            let after = owned(&entries);
            let knows = |mac, port| entries.iter().any(|entry| (entry.mac, entry.port) == (mac, port));
            prop_assert!(knows(fixed, PortId(1)) && knows(source, PortId(from)));
            prop_assert!(after.iter().sum::<u32>() <= table && after.iter().all(|own| *own <= port));
            // Equal shares of all who had something, and of who comes now.
            let owners = (0..4).filter(|port| before[*port] > 0 || *port == from as usize).count() as u32;
            let share = table / owners;
            for other in (0..4).filter(|other| *other != from as usize) {
                prop_assert!(after[other] >= before[other].min(share), "{before:?} {after:?} by {from}");
            }
        }
    }

    /// The seed keys hash tables; nothing that can be seen may depend on it, not even the order of a dump.
    #[test]
    fn the_same_inputs_give_the_same_outputs_whatever_the_seed(
        table in 1u32..8, port in 1u32..8, spread: u32, events in vec(event(), 1..80),
    ) {
        let runs = [1, 1, 2].map(|seed| run(seed, &start(&[with_limits(table, port); 2], spread), &events));
        prop_assert_eq!(&runs[0], &runs[1]);
        prop_assert_eq!(&runs[0], &runs[2]);
    }
}

fn with_limits(table: u32, port: u32) -> NetworkConfig {
    let fdb = Limits { table, port, ..NetworkConfig::default().fdb };
    NetworkConfig { fdb, ..NetworkConfig::default() }
}

/// Learned entries of each of four ports.
fn owned(entries: &[FdbEntry]) -> [u32; 4] {
    let mut owned = [0; 4];
    let learned = entries.iter().filter(|entry| !entry.is_static);
    learned.for_each(|entry| owned[entry.port.0 as usize] += 1);
    owned
}

/// All that can be seen of a switch while these events happen to it.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    sent: Vec<Sent>,
    steps: Vec<Step>,
    answers: Vec<Result<(), Rejected>>,
    wakes: Vec<Option<Instant>>,
    dumps: Vec<Vec<FdbEntry>>,
}

fn run(seed: u64, start: &[Change], events: &[Event]) -> Seen {
    let mut switch = Switch::new(seed);
    let (mut now, mut seen, mut out) = (Instant(0), Seen::default(), Recorder::default());
    let start = start.iter().cloned().map(Event::Change);
    for event in start.chain(events.iter().cloned()) {
        match event {
            Event::Frame { from, to, source, shape } => {
                let (mut frame, _) = shape.build(to, source);
                let _: Verdict = switch.input(now, PortId(from), &mut frame, &mut out, &mut seen.steps);
            }
            Event::Wait(time) => {
                now = now + time;
                switch.handle_timeout(now, &mut out);
            }
            Event::Change(change) => seen.answers.push(switch.apply(now, change)),
        }
        seen.wakes.push(switch.poll_timeout());
        let networks = (0..NETWORKS).filter_map(|id| switch.network(NetworkId(id)));
        seen.dumps.extend(networks.map(|network| network.fdb.page(now, 0, usize::MAX).0));
    }
    seen.sent = out.0;
    seen
}
