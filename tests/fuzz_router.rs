//! Bytes that nobody should send, into a router with everything on: rules, translation, published ports, few
//! places in its tables. No panic, and counters add up. `TAPSWITCH_FUZZ_ITERATIONS` says how many
//! (default: a few seconds' worth).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[allow(dead_code)]
#[path = "router/errors.rs"]
mod errors;
#[allow(dead_code)]
#[path = "router/packets.rs"]
mod packets;
#[allow(dead_code)]
#[path = "router/world.rs"]
mod world;

use std::time::Duration;

use common::blows::{ENOUGH, Random, Seed, bend, iterations};
use common::lab::{Lab, Recorder};
use errors::{Says, told};
use packets::{ACK, FIN, RST, SYN, echo, fragments, icmp, other, super_frame, tcp, udp};
use tapswitch::control::docker_rules::{self, Action, Policy, UserRule};
use tapswitch::dataplane::conntrack::Limits;
use tapswitch::dataplane::frame::MAX_LEN;
use tapswitch::dataplane::{
    Change, Counters, DropReason, Frame, Interface, MssClamp, NetworkConfig, PortId, Settings, Verdict, fdb,
};
use tapswitch::wire::ip::Version;
use tapswitch::wire::{MacAddr, Offload};
use world::{
    ALICE, BOB, BOTH, CAROL, DAVE, GATEWAY1, GATEWAY2, NET1, NET2, OURS, OUTSIDE, Party, SERVER, arp_request,
    interface1, interface2, introduce, open, policy, publish, set_rules, solicitation, strangers,
};

const FLOWS: u32 = 300;
const ADDRESSES: u32 = 64;
const PORTS: [u32; 5] = [1, 2, 3, 4, 9];

/// Frames that make sense, of every kind that the router looks at.
fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for version in BOTH {
        let ports = (5000, 53);
        for (from, to) in
            [(ALICE, SERVER), (ALICE, CAROL), (BOB, OURS), (CAROL, GATEWAY2), (SERVER, CAROL), (DAVE, BOB)]
        {
            let packets = [
                udp(version, from, to, ports),
                tcp(version, from, to, ports, SYN, (100, 0)),
                echo(version, from, to, 7, true),
                other(version, from, to, 47),
                udp(version, from, to, ports).with_ttl(1),
                icmp(version, from, to, (5, 1), [0; 4], vec![0; 40]),
            ];
            seeds.extend(packets.iter().map(|packet| (packet.bytes(), Offload::NONE)));
            let large = udp(version, from, to, ports).with_payload(2000).may_be_cut();
            seeds.extend(fragments(&large, 1000).into_iter().map(|piece| (piece, Offload::NONE)));
            seeds.push(super_frame(&tcp(version, from, to, ports, ACK, (101, 1)).with_payload(4000), 1400));
            seeds.push(super_frame(&large, 1400));
        }
        for port in [8000, 9000, 9002] {
            for flags in [SYN, ACK, RST, FIN | ACK] {
                let packet = tcp(version, SERVER, OURS, (6000, port), flags, (100, 1));
                seeds.push((packet.bytes(), Offload::NONE));
                seeds.push((packet.from(DAVE).bytes(), Offload::NONE));
            }
            seeds.push((udp(version, SERVER, OURS, (6000, port)).bytes(), Offload::NONE));
        }
        let translated = udp(version, ALICE, SERVER, ports).from(OURS).routed(OUTSIDE);
        for says in [Says::TimeExceeded, Says::TooBig(1280), Says::PortUnreachable] {
            seeds.push((told(OUTSIDE, OURS, says, &translated).bytes(), Offload::NONE));
        }
        seeds.push((udp(version, SERVER, OURS, (53, 5000)).bytes(), Offload::NONE));
        seeds.push((tcp(version, SERVER, OURS, (53, 5000), SYN | ACK, (9, 101)).bytes(), Offload::NONE));
    }
    let mut routed = udp(Version::V4, ALICE, SERVER, (5000, 53));
    routed.options = vec![131, 7, 4, 172, 20, 0, 2, 0];
    let mut neighbours = udp(Version::V4, CAROL, DAVE, (5000, 53));
    neighbours.macs.1 = DAVE.mac;
    let mut reserved = neighbours.clone();
    reserved.macs.1 = MacAddr([1, 0x80, 0xc2, 0, 0, 3]);
    let forbidden = udp(Version::V4, BOB, SERVER, (5000, 666));
    let unwanted = tcp(Version::V4, BOB, SERVER, (5000, 667), SYN, (1, 0));
    let more = [routed, neighbours, reserved, forbidden, unwanted];
    seeds.extend(more.iter().map(|packet| (packet.bytes(), Offload::NONE)));
    for party in [ALICE, CAROL, OUTSIDE] {
        let gateway = world::gateway_of(party);
        for frame in
            [arp_request(party, gateway.v4), solicitation(party, gateway.v6), arp_request(gateway, party.v4)]
        {
            seeds.push((frame.bytes().to_vec(), Offload::NONE));
        }
    }
    seeds
}

/// A router with little room.
fn cramped() -> Lab {
    let limits = fdb::Limits { table: ADDRESSES, port: 16, ageing: Duration::from_secs(30) };
    let config = NetworkConfig { fdb: limits, flood_limit: 20, ..NetworkConfig::default() };
    let narrow = NetworkConfig { mtu: 1300, ..config };
    let mut lab = strangers(&rules(), [config, config, narrow]);
    lab.apply(Change::Set(settings(true)));
    let interfaces = [
        (NET1, Interface { mss_clamp: MssClamp::PathMtu, advertise: true, ..interface1() }),
        (NET2, Interface { filter_bridged: true, ..interface2() }),
    ];
    for (network, interface) in interfaces {
        lab.apply(Change::SetInterface(network, Some(interface)));
    }
    lab
}

fn settings(forward_v4: bool) -> Settings {
    let conntrack = Limits { table: FLOWS, source: 100 };
    Settings { conntrack, icmp_errors: 50, forward_v4, ..Settings::default() }
}

fn rules() -> Policy {
    let mut policy = policy();
    policy.networks[1].icc = false;
    policy.user_rules.extend([(666, Action::Drop), (667, Action::Reject)].map(|(port, action)| UserRule {
        from: docker_rules::Party::Any,
        to: docker_rules::Party::Any,
        protocol: None,
        ports: Some((port, port)),
        states: None,
        action,
    }));
    policy.publishes.extend(BOTH.map(|version| publish(DAVE, version, 17, (9000, 9003), 53)));
    policy
}

/// Makes the header of an IPv4 packet agree with itself again, or blows would seldom get past it.
fn mend(random: &mut Random, bytes: &mut [u8]) {
    if bytes.len() < 34 || bytes[12..15] != [8, 0, 0x45] || random.below(8) == 0 {
        return;
    }
    if random.below(2) == 0 {
        let length = (bytes.len() - 14) as u16;
        bytes[16..18].copy_from_slice(&length.to_be_bytes());
    }
    let header = etherparse::Ipv4Header::from_slice(&bytes[14..34]).map(|(header, _)| header);
    if let Ok(header) = header {
        bytes[24..26].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
    }
}

/// What has been seen to go in and out.
#[derive(Default)]
struct Sums {
    all: Counters,
    verdicts: u64,
}

impl Sums {
    fn sent(&mut self, out: Recorder) {
        for (_, bytes, offload) in out.0 {
            self.all.tx.count(bytes.len(), offload.segments(&bytes));
            let is_v4 = bytes.len() >= 34 && bytes[12..15] == [8, 0, 0x45];
            // What is bridged leaves as it came; what was routed was right.
            let is_ours = [GATEWAY1, GATEWAY2, OURS].iter().any(|gateway| bytes[6..12] == gateway.mac.0);
            if is_v4 && is_ours {
                let (header, _) = etherparse::Ipv4Header::from_slice(&bytes[14..]).unwrap();
                assert_eq!(header.header_checksum, header.calc_header_checksum());
            }
        }
    }
}

#[test]
fn the_router() {
    let (seeds, mut random, mut lab, mut frame) = (seeds(), Random(5), cramped(), Frame::new());
    let mut sums = Sums { all: total(&lab), verdicts: total(&lab).dropped() };
    for _ in 0..iterations() / 5 {
        let (mut bytes, offload) = bend(&mut random, &seeds);
        mend(&mut random, &mut bytes);
        frame.set(&bytes, offload);
        let from = PortId(PORTS[random.below(PORTS.len())]);
        if lab.switch.port(from).is_some() {
            sums.all.rx.count(bytes.len().min(MAX_LEN), offload.segments(frame.bytes()));
        }
        let mut out = Recorder::default();
        let verdict = lab.switch.input(lab.now, from, &mut frame, &mut out, &mut ());
        sums.verdicts += u64::from(matches!(verdict, Verdict::Drop(_)));
        sums.sent(out);
        something_else(&mut random, &mut lab, &mut sums, from);
        assert!(lab.switch.conntrack().len() <= FLOWS);
        assert!(
            [NET1, NET2].iter().all(|net| lab.switch.network(*net).unwrap().fdb.len() <= ADDRESSES as usize)
        );
    }
    let seen = total(&lab);
    assert_eq!((seen.rx, seen.tx), (sums.all.rx, sums.all.tx));
    assert!(seen.dropped() >= sums.verdicts, "what waits may be dropped later");
    assert!(lab.switch.neighbours().len() < 3000, "{}", lab.switch.neighbours().len());
    assert!(lab.switch.conntrack().memory() < 8 << 20, "{}", lab.switch.conntrack().memory());
    let reached = |reason: &&DropReason| seen.drops[**reason] > 0;
    let missed: Vec<_> =
        DropReason::ALL.iter().filter(|reason| !reached(reason)).map(|reason| reason.name()).collect();
    println!("{:?}", seen.reasons().collect::<Vec<_>>());
    assert!(
        iterations() < ENOUGH || missed == NOT_REACHED,
        "{missed:?}: the blows do not reach every verdict"
    );
}

/// What bytes alone cannot bring about here: there is always a route, and no device; to fill a table with what
/// may not be evicted takes whole connections.
const NOT_REACHED: [&str; 8] = [
    "no_route",
    "neighbour_limit",
    "ct_full",
    "ct_source_limit",
    "fragment_limit",
    "egress_lost",
    "egress_full",
    "egress_refused",
];

fn total(lab: &Lab) -> Counters {
    let mut total = Counters::default();
    for network in 0..3 {
        let counters = lab.switch.network_counters(tapswitch::dataplane::NetworkId(network)).unwrap();
        total.add(&counters);
    }
    total
}

/// Now and then time passes, or something is configured.
fn something_else(random: &mut Random, lab: &mut Lab, sums: &mut Sums, port: PortId) {
    let now = lab.now;
    match random.below(400) {
        0 => sums.sent(Recorder(lab.wait(Duration::from_millis(random.below(30_000) as u64)))),
        1 => lab.apply(Change::SetPort(port, false)),
        2..20 => lab.apply(Change::SetPort(port, true)),
        20 => set_rules(lab, &if random.below(4) == 0 { open() } else { rules() }),
        21..24 => {
            let party: Party = [ALICE, BOB, CAROL, DAVE, OUTSIDE][random.below(5)];
            let before = total(lab);
            introduce(lab, party);
            take_over(sums, &before, &total(lab));
        }
        24 => {
            let network = match port.0 {
                1 | 2 => NET1,
                3 | 4 => NET2,
                _ => return,
            };
            lab.apply(Change::RemovePort(port));
            lab.apply(Change::AddPort(port, network));
        }
        25 => lab.apply(Change::Set(settings(false))),
        26..30 => lab.apply(Change::Set(settings(true))),
        _ => lab.now = now + Duration::from_micros(random.below(1000) as u64),
    }
}

/// What an introduction counts is not what is tested here.
fn take_over(sums: &mut Sums, before: &Counters, after: &Counters) {
    for (mine, before, after) in
        [(&mut sums.all.rx, before.rx, after.rx), (&mut sums.all.tx, before.tx, after.tx)]
    {
        mine.frames += after.frames - before.frames;
        mine.bytes += after.bytes - before.bytes;
        mine.segments += after.segments - before.segments;
    }
    sums.verdicts += after.dropped() - before.dropped();
}

/// What was foreseen happens, whatever the bytes.
#[test]
fn previews() {
    let (seeds, mut random, mut lab) = (seeds(), Random(6), cramped());
    [ALICE, CAROL, OUTSIDE].into_iter().for_each(|party| introduce(&mut lab, party));
    for _ in 0..iterations() / 100 {
        let (mut bytes, offload) = bend(&mut random, &seeds);
        mend(&mut random, &mut bytes);
        let mut frame = Frame::new();
        frame.set(&bytes, offload);
        // The lab compares.
        let _ = lab.send(PORTS[random.below(PORTS.len())], &frame);
        lab.now = lab.now + Duration::from_micros(random.below(3000) as u64);
    }
    assert!(lab.switch.rules(Version::V4).translates());
}
