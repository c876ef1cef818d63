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
#[path = "../src/dataplane/dns/samples.rs"]
mod samples;
#[allow(dead_code)]
#[path = "router/world.rs"]
mod world;

use std::time::Duration;

use common::blows::{ENOUGH, Random, Seed, bend, iterations};
use common::lab::{Lab, Recorder, Sent};
use errors::{Says, told};
use packets::{ACK, FIN, PSH, RST, SYN, echo, fragments, icmp, other, super_frame, tcp, udp};
use tapswitch::control::docker_rules::{self, Action, Policy, UserRule};
use tapswitch::dataplane::conntrack::Limits;
use tapswitch::dataplane::dns::{self, Outcome};
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

/// Questions about names, and what others may say of them.
fn questions() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let (ours, others) = (samples::ask_edns(7, "alice", 1, 4096), samples::ask(8, "example.com", 28));
    let answer = samples::reply(&others, &[60, 30], Some((10, 20)), true);
    for (version, (from, to)) in
        BOTH.into_iter().flat_map(|version| [(ALICE, GATEWAY1), (CAROL, GATEWAY2)].map(|way| (version, way)))
    {
        for message in [&ours, &others, &answer] {
            seeds.push(udp(version, from, to, (5000, 53)).with_data(message));
            let framed = [&(message.len() as u16).to_be_bytes()[..], message].concat();
            seeds.push(tcp(version, from, to, (5000, 53), PSH | ACK, (101, 1)).with_data(&framed));
            seeds.push(udp(version, SERVER, OURS, (53, 5000)).with_data(message));
        }
        seeds.push(tcp(version, from, to, (5000, 53), SYN, (100, 0)));
        seeds.push(tcp(version, from, to, (5000, 53), FIN | ACK, (101, 1)));
    }
    seeds.iter().map(|packet| (packet.bytes(), Offload::NONE)).collect()
}

/// The gateways answer questions about names.
fn set_names(lab: &mut Lab, on: bool) {
    for (network, party) in [(NET1, ALICE), (NET2, CAROL)] {
        let name = |version| dns::Name {
            name: "alice".into(),
            address: party.addr(version),
            reverse: true,
            known_to: None,
        };
        let upstreams = BOTH.map(|version| (SERVER.ip(version), 53).into()).to_vec();
        let config = dns::Config { names: BOTH.map(name).to_vec(), upstreams, upstreams_of: Vec::new() };
        lab.apply(Change::SetDns(network, on.then_some(config)));
    }
}

/// An upstream answers what it is asked now and then.
fn upstream_says(random: &mut Random, lab: &mut Lab, sums: &mut Sums, sent: &[Sent]) {
    for (port, bytes, _) in sent {
        let asks = *port == 9 && bytes.len() > 54 && bytes[12..14] == [8, 0] && bytes[23] == 17;
        if !asks || bytes[36..38] != [0, 53] || random.below(4) == 0 {
            continue;
        }
        let source_port = u16::from_be_bytes([bytes[34], bytes[35]]);
        let mut answer = bytes[42..].to_vec();
        answer[2] |= 0x80;
        answer[3] |= if random.below(4) == 0 { 2 } else { 0 };
        answer[2] |= if random.below(4) == 0 { 2 } else { 0 };
        if random.below(4) == 0 {
            let at = random.below(answer.len());
            answer[at] ^= 1 << random.below(8);
        }
        let packet = udp(Version::V4, SERVER, OURS, (53, source_port)).with_data(&answer);
        let mut out = Recorder::default();
        let verdict = lab.switch.input(lab.now, PortId(9), &mut packet.frame(), &mut out, &mut ());
        sums.all.rx.count(packet.bytes().len(), 1);
        sums.verdicts += u64::from(matches!(verdict, Verdict::Drop(_)));
        sums.sent(out);
    }
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
    set_names(&mut lab, true);
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

/// Bytes to the name server, by UDP and TCP, and from its upstreams.
#[test]
fn the_name_server() {
    let (seeds, mut random, mut lab, mut frame) = (questions(), Random(7), cramped(), Frame::new());
    lab.apply(Change::Set(Settings::default()));
    [ALICE, CAROL, OUTSIDE].into_iter().for_each(|party| introduce(&mut lab, party));
    set_names(&mut lab, true);
    let mut sums = Sums { all: total(&lab), verdicts: total(&lab).dropped() };
    for _ in 0..iterations() / 20 {
        let (mut bytes, offload) = bend(&mut random, &seeds);
        mend(&mut random, &mut bytes);
        // Without a checksum, what was bent is read (RFC 768).
        if bytes.len() > 42 && bytes[12..15] == [8, 0, 0x45] && bytes[23] == 17 {
            bytes[40..42].fill(0);
        }
        frame.set(&bytes, offload);
        let from = PortId([1, 3, 9][random.below(3)]);
        sums.all.rx.count(bytes.len().min(MAX_LEN), offload.segments(frame.bytes()));
        let mut out = Recorder::default();
        let verdict = lab.switch.input(lab.now, from, &mut frame, &mut out, &mut ());
        sums.verdicts += u64::from(matches!(verdict, Verdict::Drop(_)));
        let sent = out.0.clone();
        sums.sent(out);
        upstream_says(&mut random, &mut lab, &mut sums, &sent);
        match random.below(1000) {
            0 => sums.sent(Recorder(lab.wait(Duration::from_secs(random.below(12) as u64)))),
            1 => set_names(&mut lab, random.below(8) > 0),
            2 => set_names(&mut lab, true),
            3..20 => {
                let before = total(&lab);
                [ALICE, CAROL, OUTSIDE].into_iter().for_each(|party| introduce(&mut lab, party));
                take_over(&mut sums, &before, &total(&lab));
            }
            _ => lab.now = lab.now + Duration::from_micros(random.below(1000) as u64),
        }
        let names = lab.switch.dns_view();
        assert!(names.waiting <= 2 * 128 && names.connections <= 2 * 16, "{names:?}");
    }
    let (seen, names) = (total(&lab), lab.switch.dns_view());
    assert_eq!((seen.rx, seen.tx), (sums.all.rx, sums.all.tx));
    println!("{names:?}\n{:?}", seen.reasons().collect::<Vec<_>>());
    let sum = |outcome| names.networks.iter().map(|network| network.outcomes[outcome]).sum::<u64>();
    let heard = names.upstreams[0].1;
    let reached = Outcome::ALL[..4].iter().chain(&[Outcome::FormErr, Outcome::NotImp, Outcome::Failed]);
    let reached = reached.filter(|outcome| **outcome != Outcome::Cached).all(|outcome| sum(*outcome) > 0);
    assert!(iterations() < ENOUGH || reached && heard.answers.min(heard.mismatched) > 0, "{names:?}");
    set_names(&mut lab, true);
    lab.wait(Duration::from_secs(60));
    let rest = lab.switch.dns_view();
    assert_eq!((rest.waiting, rest.connections), (0, 0), "everything ends");
}

/// What bytes alone cannot bring about here: there is always a route, and no device; to fill a table with what
/// may not be evicted takes whole connections.
const NOT_REACHED: [&str; 14] = [
    "no_route",
    "neighbour_limit",
    "ct_full",
    "ct_source_limit",
    "fragment_limit",
    "egress_lost",
    "egress_full",
    "egress_refused",
    "host_denied",
    "host_unsupported",
    "host_no_descriptor",
    "host_no_ping",
    "host_untold",
    "host_limit",
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
    let seeds = [seeds(), questions()].concat();
    let (mut random, mut lab) = (Random(6), cramped());
    set_names(&mut lab, true);
    [ALICE, CAROL, OUTSIDE].into_iter().for_each(|party| introduce(&mut lab, party));
    for _ in 0..iterations() / 100 {
        let (mut bytes, offload) = bend(&mut random, &seeds);
        mend(&mut random, &mut bytes);
        let mut frame = Frame::new();
        frame.set(&bytes, offload);
        // What a connection says depends on all that it has heard, and is not foreseen.
        if lab.switch.dns_view().connections > 0 {
            set_names(&mut lab, false);
            set_names(&mut lab, true);
        }
        // The lab compares.
        let _ = lab.send(PORTS[random.below(PORTS.len())], &frame);
        lab.now = lab.now + Duration::from_micros(random.below(3000) as u64);
    }
    assert!(lab.switch.rules(Version::V4).translates());
}
