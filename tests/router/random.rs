//! Random packets from random parties, against rules so simple that they cannot be wrong:
//!
//! - an answer undoes the translation: who asked gets exactly his question turned around;
//! - what reaches another network, or comes from outside, was published, or answers something that was asked;
//! - but for addresses, ports, the TTL and checksums, what leaves is what came, and every checksum is right;
//! - counters are what verdicts and frames add up to.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use tapswitch::control::docker_rules::Policy;
use tapswitch::dataplane::{Counters, DropReason, Instant, PortId, Verdict};
use tapswitch::wire::Offload;

use crate::common::blows::Random;
use crate::common::lab::{Lab, Recorder, Sent};
use crate::neighbours::answer;
use crate::packets::{ACK, Body, Packet, RST, SYN, echo, other, tcp, udp};
use crate::world::{
    ALICE, BOB, BOTH, CAROL, DAVE, GATEWAY1, GATEWAY2, OTHER_SERVER, OURS, OUTSIDE, Party, SERVER,
    gateway_of, introduce, policy, publish, world,
};

const STEPS: usize = 6000;
const INSIDE: [Party; 4] = [ALICE, BOB, CAROL, DAVE];
const SPEAKERS: [Party; 7] = [ALICE, BOB, CAROL, DAVE, SERVER, OTHER_SERVER, OUTSIDE];
const GATEWAYS: [Party; 3] = [GATEWAY1, GATEWAY2, OURS];

/// Addresses and ports of a packet, by the names that it had somewhere.
type Name = (IpAddr, IpAddr, u8, u16, u16);

fn turned((source, destination, protocol, from, to): Name) -> Name {
    (destination, source, protocol, to, from)
}

/// Carol's port 80 as 8000, and dave's ports from 53 as 9000 to 9003.
fn published() -> Policy {
    let mut policy = policy();
    policy.publishes.extend(BOTH.map(|version| publish(DAVE, version, 17, (9000, 9003), 53)));
    policy
}

/// What etherparse reads in a frame, without its Ethernet header.
fn read(bytes: &[u8]) -> Name {
    let sliced = SlicedPacket::from_ethernet(bytes).unwrap();
    let (source, destination): (IpAddr, IpAddr) = match sliced.net.unwrap() {
        NetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        NetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        NetSlice::Arp(_) => panic!("{bytes:02x?}"),
    };
    let id = |at: usize| u16::from_be_bytes([bytes[at + 4], bytes[at + 5]]);
    let at = if source.is_ipv4() { 34 } else { 54 };
    let (protocol, from, to) = match sliced.transport {
        Some(TransportSlice::Udp(udp)) => (17, udp.source_port(), udp.destination_port()),
        Some(TransportSlice::Tcp(tcp)) => (6, tcp.source_port(), tcp.destination_port()),
        // Both ports of a query are its identifier.
        Some(TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_)) => (1, id(at), id(at)),
        _ => (47, 0, 0),
    };
    (source, destination, protocol, from, to)
}

/// What is known of the past.
struct Town {
    lab: Lab,
    random: Random,
    /// What was delivered, by the port and the name of its answer; and when.
    asked: BTreeMap<(u32, Name), Instant>,
    /// What the ports' counters should be.
    counters: [Counters; 10],
    delivered: usize,
}

impl Town {
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.random.below(from.len())]
    }

    /// A packet that somebody might send, and who does.
    fn packet(&mut self) -> (Party, Packet) {
        let (version, from) = (self.pick(&BOTH), self.pick(&SPEAKERS));
        let to = match self.random.below(3) {
            0 => self.pick(&GATEWAYS),
            _ => self.pick(&SPEAKERS),
        };
        // Who writes to himself needs no router.
        let to = if to.v4 == from.v4 { OURS } else { to };
        // Outside, most know only our address.
        let to = if from.port == 9 && self.random.below(4) > 0 { OURS } else { to };
        let ports = [53, 54, 80, 500, 501, 5000, 5001, 8000, 9000, 9003];
        let ports = (self.pick(&ports), self.pick(&ports));
        let packet = match self.random.below(8) {
            0..4 => udp(version, from, to, ports),
            4..6 => tcp(version, from, to, ports, SYN, (100, 0)),
            6 => echo(version, from, to, ports.0, true),
            _ => other(version, from, to, 47),
        };
        (from, packet)
    }

    /// Sends it; what left, all but ARP and neighbour discovery.
    fn send(&mut self, port: u32, packet: &Packet) -> (Verdict, Vec<Sent>) {
        let (bytes, mut frame, mut out) = (packet.bytes(), packet.frame(), Recorder::default());
        let verdict = self.lab.switch.input(self.lab.now, PortId(port), &mut frame, &mut out, &mut ());
        self.counters[port as usize].rx.count(bytes.len(), 1);
        if let Verdict::Drop(reason) = verdict {
            self.counters[port as usize].drops[reason] += 1;
        }
        self.count_sent(&out.0);
        (verdict, out.0)
    }

    fn count_sent(&mut self, sent: &[Sent]) {
        for (port, bytes, _) in sent {
            self.counters[*port as usize].tx.count(bytes.len(), 1);
        }
    }

    /// Something is sent, and if it is delivered, answered.
    fn step(&mut self) {
        let (from, packet) = self.packet();
        let (verdict, sent) = self.send(from.port, &packet);
        let Verdict::Routed(PortId(to)) = verdict else {
            assert!(matches!(verdict, Verdict::Drop(_) | Verdict::Local), "{verdict:?} {packet:?}");
            assert!(sent.len() <= 1 && sent.iter().all(|(port, ..)| *port == from.port), "{packet:?}");
            // What was asked before is answered by whatever is sent the other way.
            let reason = matches!(verdict, Verdict::Drop(DropReason::CtInvalid | DropReason::NatExhausted));
            let asked = self.asked.get(&(from.port, read(&packet.bytes())));
            // The shortest timeout of what was answered is that of pings.
            let is_fresh = asked.is_some_and(|at| self.lab.now < *at + Duration::from_secs(60));
            assert!(!is_fresh || reason || packet.protocol() == 6, "{verdict:?} {packet:?}");
            return;
        };
        let [(port, bytes, Offload::NONE)] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!(*port, to);
        let (original, seen) = (read(&packet.bytes()), read(bytes));
        self.is_translated(&packet, bytes, seen);
        self.may_reach(from, original, to, seen);
        self.delivered += 1;
        self.asked.insert((to, turned(seen)), self.lab.now);
        self.is_answered(from, original, to, seen, &packet);
    }

    /// Nothing but names, TTL and checksums has changed.
    fn is_translated(&self, packet: &Packet, bytes: &[u8], (source, destination, _, from, to): Name) {
        let mut expected = packet.clone();
        (expected.source, expected.destination) = (source, destination);
        expected.ttl -= 1;
        let mac = |at: usize| tapswitch::wire::MacAddr(bytes[at..at + 6].try_into().unwrap());
        expected.macs = (mac(6), mac(0));
        match &mut expected.body {
            Body::Udp { ports, .. } | Body::Tcp { ports, .. } => *ports = (from, to),
            Body::Icmp { rest, .. } => rest[..2].copy_from_slice(&from.to_be_bytes()),
            Body::Other { .. } => {}
        }
        assert!(expected.bytes() == bytes, "{packet:?}\nleft as {bytes:02x?}\nnot as {expected:?}");
    }

    /// Was it published, asked for, or is it going outside or staying where it is?
    fn may_reach(&self, from: Party, original: Name, to: u32, seen: Name) {
        let network = |port| match port {
            1 | 2 => 1,
            3 | 4 => 2,
            _ => 9,
        };
        let stays = network(from.port) == network(to);
        let goes_out = to == 9;
        let (_, destination, protocol, _, port) = original;
        let is_ours = BOTH.iter().any(|version| GATEWAYS.iter().any(|own| own.ip(*version) == destination));
        let of_carol = |_: &_| BOTH.iter().any(|version| CAROL.ip(*version) == destination);
        let is_published = is_ours && matches!((protocol, port), (6, 8000) | (17, 9000..=9003));
        // As with Docker, who knows a published container's address may use that.
        let of_dave = BOTH.iter().any(|version| DAVE.ip(*version) == destination);
        let is_direct = from.port == 9
            && ((of_carol(&()) && (protocol, port) == (6, 80))
                || (of_dave && protocol == 17 && (53..=56).contains(&port)));
        let is_answer = self.asked.contains_key(&(from.port, original));
        assert!(
            stays || goes_out || is_published || is_direct || is_answer,
            "{original:?} from port {} reached port {to} as {seen:?}",
            from.port
        );
    }

    /// The receiver answers, and who asked gets his question turned around.
    fn is_answered(&mut self, from: Party, original: Name, to: u32, seen: Name, asked: &Packet) {
        let receiver = INSIDE.into_iter().find(|party| party.port == to).unwrap_or(OUTSIDE);
        let version = asked.version();
        let (source, destination, _, from_port, to_port) = turned(seen);
        let mut answer = match &asked.body {
            Body::Udp { .. } => udp(version, receiver, receiver, (from_port, to_port)),
            Body::Tcp { .. } => tcp(version, receiver, receiver, (from_port, to_port), RST | ACK, (0, 101)),
            Body::Icmp { .. } => echo(version, receiver, receiver, from_port, false),
            Body::Other { .. } => other(version, receiver, receiver, 47),
        };
        (answer.source, answer.destination) = (source, destination);
        let (verdict, sent) = self.send(to, &answer);
        let context = format!("{original:?} was seen as {seen:?}; answered by {answer:?}");
        assert_eq!(verdict, Verdict::Routed(PortId(from.port)), "{context}");
        let [(port, bytes, _)] = &sent[..] else { panic!("{context}") };
        let back = read(bytes);
        assert_eq!((*port, back), (from.port, turned(original)), "{context}");
        self.is_translated(&answer, bytes, back);
        self.asked.insert((from.port, original), self.lab.now);
    }

    /// Time passes, and neighbours say that they are there.
    fn rest(&mut self) {
        let pause = Duration::from_millis(self.random.below(4000) as u64);
        let sent = self.lab.wait(pause);
        self.count_sent(&sent);
        for party in [ALICE, BOB, CAROL, DAVE, OUTSIDE] {
            for version in BOTH {
                let frame = answer(party, gateway_of(party), version);
                let passage = self.lab.send(party.port, &frame);
                self.counters[party.port as usize].rx.count(frame.bytes().len(), 1);
                self.count_sent(&passage.sent);
            }
        }
        if self.random.below(50) == 0 {
            // Long enough for some flows to end, and short enough for the fdb.
            let sent = self.lab.wait(Duration::from_secs(100));
            self.count_sent(&sent);
            self.asked.clear();
            self.forget();
        }
    }

    /// Everything begins anew, but for what was counted.
    fn forget(&mut self) {
        let now = self.lab.now;
        let mut cursor = Some(0);
        while let Some(at) = cursor {
            cursor = self.lab.switch.delete_flows(now, at, 1000, |_| true).1;
        }
        for party in [ALICE, BOB, CAROL, DAVE, OUTSIDE] {
            let before = self.lab.switch.ports().map(|(id, port)| (id, port.counters)).collect::<Vec<_>>();
            introduce(&mut self.lab, party);
            for (id, counters) in before {
                // An introduction is not what is tested here.
                let now = self.lab.switch.port(id).unwrap().counters;
                let mine = &mut self.counters[id.0 as usize];
                for (mine, now, before) in
                    [(&mut mine.rx, now.rx, counters.rx), (&mut mine.tx, now.tx, counters.tx)]
                {
                    mine.frames += now.frames - before.frames;
                    mine.bytes += now.bytes - before.bytes;
                    mine.segments += now.segments - before.segments;
                }
            }
        }
    }
}

#[test]
fn answers_undo_translation_and_networks_keep_apart() {
    let lab = world(&published());
    let counters = std::array::from_fn(|port| {
        lab.switch.port(PortId(port as u32)).map_or(Counters::default(), |port| port.counters)
    });
    let mut town = Town { lab, random: Random(11), asked: BTreeMap::new(), counters, delivered: 0 };
    for step in 0..STEPS {
        if step % 50 == 0 {
            town.rest();
        }
        town.step();
    }
    assert!(town.delivered > STEPS / 5, "{} of {STEPS}", town.delivered);
    for (id, port) in town.lab.switch.ports() {
        assert_eq!(port.counters, town.counters[id.0 as usize], "port {}", id.0);
    }
    let flows = town.lab.switch.conntrack();
    assert_eq!(
        u64::from(flows.len()),
        flows.counters.inserted - flows.counters.expired - flows.counters.deleted
    );
}
