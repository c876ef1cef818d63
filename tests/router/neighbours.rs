//! Packets for neighbours whose MAC address is not known yet, or no more.

use std::time::Duration;

use tapswitch::dataplane::neighbour::State;
use tapswitch::dataplane::{DropReason, Egress, Frame, NetworkConfig, PortId, Verdict};
use tapswitch::wire::arp::Operation;
use tapswitch::wire::ip::Version;
use tapswitch::wire::ndp::{self, Advertisement, Envelope};
use tapswitch::wire::{MacAddr, Offload};

use crate::common::lab::Count::{Flow, Learned, Mapped, Neighbour, Rx, Walk};
use crate::common::lab::{Lab, Sent, dropped};
use crate::errors::{Says, about};
use crate::packets::{fragments, udp};
use crate::world::{
    ALICE, BOTH, CAROL, GATEWAY1, GATEWAY2, NET2, OURS, OUT_NEW, OUTSIDE, Party, SERVER, addr, arp,
    introduce, open, policy, solicitation, strangers,
};

const SECOND: Duration = Duration::from_secs(1);

fn routed(port: u32) -> Verdict {
    Verdict::Routed(PortId(port))
}

/// The world where only alice is known.
fn with_alice(is_open: bool) -> Lab {
    let mut lab = strangers(&if is_open { open() } else { policy() }, [NetworkConfig::default(); 3]);
    introduce(&mut lab, ALICE);
    lab
}

/// A gateway's question to all who has an address.
fn question(of: Party, target: Party, version: Version, ports: &[u32]) -> Vec<Sent> {
    let bytes = match version {
        Version::V4 => arp(of.mac, of.v4, MacAddr::ZERO, target.v4, Operation::Request, MacAddr::BROADCAST),
        Version::V6 => solicitation(of, target.v6).bytes().to_vec(),
    };
    ports.iter().map(|port| (*port, bytes.clone(), Offload::NONE)).collect()
}

/// The answer to it.
pub(crate) fn answer(of: Party, to: Party, version: Version) -> Frame {
    Frame::from_bytes(&match version {
        Version::V4 => arp(of.mac, of.v4, to.mac, to.v4, Operation::Reply, to.mac),
        Version::V6 => {
            let (source, destination) = (addr(of.v6), addr(to.v6));
            let envelope = Envelope { source_mac: of.mac, destination_mac: to.mac, source, destination };
            let message = Advertisement {
                target: source,
                mac: Some(of.mac),
                router: false,
                solicited: true,
                overrides: true,
            };
            let mut bytes = Vec::new();
            ndp::neighbour_advertisement(&mut bytes, &envelope, &message);
            bytes
        }
    })
}

fn state(lab: &Lab, of: Party, version: Version) -> Option<State> {
    let rows = lab.switch.neighbours().page(lab.now, 0, usize::MAX).0;
    rows.iter().find(|row| row.address == of.addr(version)).map(|row| row.state)
}

#[test]
fn a_packet_waits_until_its_next_hop_has_answered() {
    for version in BOTH {
        let mut lab = with_alice(false);
        let first = udp(version, ALICE, SERVER, (5000, 53));
        let asked = question(OURS, OUTSIDE, version, &[9]);
        let waits = [Neighbour("entries", 1), Neighbour("solicited", 1)];
        let counts = [&[Rx(1), Flow, Mapped, Walk(OUT_NEW)][..], &waits].concat();
        lab.send(1, &first.frame()).sends(Verdict::Held, &asked, &counts);
        let second = udp(version, ALICE, SERVER, (5000, 54));
        lab.send(1, &second.frame()).sends(Verdict::Held, &[], &[Rx(1), Flow, Walk(OUT_NEW)]);
        assert_eq!(state(&lab, OUTSIDE, version), Some(State::Incomplete));
        // The answer lets both go, in order.
        let sent = [first, second].map(|packet| packet.from(OURS).routed(OUTSIDE).by(9));
        let counts = [Rx(9), Learned(2), Neighbour("resolved", 1)];
        lab.send(9, &answer(OUTSIDE, OURS, version)).sends(Verdict::Local, &sent, &counts);
        assert_eq!(state(&lab, OUTSIDE, version), Some(State::Reachable));
        let third = udp(version, ALICE, SERVER, (5000, 55));
        let leaves = third.clone().from(OURS).routed(OUTSIDE);
        let counts = [Rx(1), Flow, Walk(OUT_NEW)];
        lab.send(1, &third.frame()).sends(routed(9), &[leaves.by(9)], &counts);
    }
}

#[test]
fn who_does_not_answer_three_questions_is_unreachable() {
    for version in BOTH {
        let mut lab = with_alice(true);
        let packet = udp(version, ALICE, CAROL, (5000, 53));
        let asked = question(GATEWAY2, CAROL, version, &[3, 4]);
        let counts = [Rx(1), Flow, Neighbour("entries", 1), Neighbour("solicited", 1)];
        lab.send(1, &packet.frame()).sends(Verdict::Held, &asked, &counts);
        for _ in 0..2 {
            assert_eq!(lab.wait(SECOND), asked);
        }
        let mut told = Vec::new();
        let changes = lab.changes(|lab| told = lab.wait(SECOND));
        assert_eq!(told, [about(&packet, Says::HostUnreachable, GATEWAY1).by(1)]);
        assert_eq!(changes[&("port", 1, "drop", "neighbour_failed")], 1);
        assert_eq!(changes[&("neighbours", 0, "", "failed")], 1);
        assert_eq!(state(&lab, CAROL, version), Some(State::Failed));
        // The next packet asks anew.
        assert_eq!(lab.send(1, &packet.frame()).sent, asked);
        let leaves = packet.clone().routed(CAROL);
        assert_eq!(lab.send(3, &answer(CAROL, GATEWAY2, version)).sent, [leaves.by(3)]);
    }
}

#[test]
fn the_queue_of_a_neighbour_is_bounded_and_the_oldest_goes() {
    for version in BOTH {
        let mut lab = with_alice(true);
        let packet = |port| udp(version, ALICE, CAROL, (port, 53));
        (1..=100).for_each(|port| drop(lab.send(1, &packet(port).frame())));
        assert_eq!(lab.switch.port(PortId(1)).unwrap().counters.drops[DropReason::NeighbourQueue], 36);
        let sent = lab.send(3, &answer(CAROL, GATEWAY2, version)).sent;
        let expected: Vec<_> = (37..=100).map(|port| packet(port).routed(CAROL).by(3)).collect();
        assert_eq!(sent, expected);
    }
}

#[test]
fn who_scans_a_network_is_bounded_and_others_are_served() {
    let mut lab = with_alice(true);
    for number in 0..2000u32 {
        let target = format!("172.20.{}.{}", 1 + number / 250, 1 + number % 250);
        let packet = udp(Version::V4, ALICE, CAROL, (5000, 53)).to(target.as_str());
        let _ = lab.send(1, &packet.frame());
    }
    assert!(lab.switch.neighbours().len() <= 300, "{}", lab.switch.neighbours().len());
    let drops = lab.switch.port(PortId(1)).unwrap().counters.drops;
    assert_eq!(drops[DropReason::NeighbourLimit], 2000 - 256);
    // Bob's question is asked and answered as ever.
    let packet = udp(Version::V4, crate::world::BOB, CAROL, (5000, 53));
    assert_eq!(lab.send(2, &packet.frame()).sent, question(GATEWAY2, CAROL, Version::V4, &[3, 4]));
    let leaves = packet.routed(CAROL);
    assert_eq!(lab.send(3, &answer(CAROL, GATEWAY2, Version::V4)).sent, [leaves.by(3)]);
    // And those that scan is told of are limited, too.
    assert!(lab.wait(10 * SECOND).len() < 4000);
}

#[test]
fn fragments_wait_together_and_fail_with_one_error() {
    for version in BOTH {
        let mut lab = with_alice(true);
        let packet = udp(version, ALICE, CAROL, (5000, 53)).with_payload(3000).may_be_cut();
        let pieces = fragments(&packet, 1400);
        for piece in &pieces {
            let _ = lab.send(1, &Frame::from_bytes(piece));
        }
        let leaves: Vec<Sent> = fragments(&packet.clone().routed(CAROL), 1400)
            .into_iter()
            .map(|piece| (3, piece, Offload::NONE))
            .collect();
        assert_eq!(lab.send(3, &answer(CAROL, GATEWAY2, version)).sent, leaves);

        let mut lab = with_alice(true);
        for piece in &pieces {
            let _ = lab.send(1, &Frame::from_bytes(piece));
        }
        let told: Vec<_> = lab.wait(4 * SECOND).into_iter().filter(|(port, ..)| *port == 1).collect();
        assert_eq!(told, [about(&packet, Says::HostUnreachable, GATEWAY1).by(1)]);
    }
}

#[test]
fn a_used_neighbour_is_asked_again_and_an_unused_one_is_left_alone() {
    for version in BOTH {
        let mut lab = with_alice(true);
        introduce(&mut lab, CAROL);
        assert_eq!(lab.wait(100 * SECOND), [], "nobody uses it");
        assert_eq!(state(&lab, CAROL, version), Some(State::Stale));
        introduce(&mut lab, ALICE);
        let packet = udp(version, ALICE, CAROL, (5000, 53));
        let leaves = packet.clone().routed(CAROL);
        lab.send(1, &packet.frame()).sends(routed(3), &[leaves.by(3)], &[Rx(1), Flow]);
        assert_eq!(state(&lab, CAROL, version), Some(State::Delay));
        assert_eq!(lab.wait(4 * SECOND), []);
        // It is asked itself, at first.
        let [(3, ref bytes, _)] = lab.wait(SECOND)[..] else { panic!() };
        assert_eq!(bytes[..6], CAROL.mac.0);
        let reply = answer(CAROL, GATEWAY2, version);
        lab.send(3, &reply).sends(Verdict::Local, &[], &[Rx(3)]);
        assert_eq!(state(&lab, CAROL, version), Some(State::Reachable));
        // Without an answer it is gone.
        lab.wait(60 * SECOND);
        let _ = lab.send(1, &packet.frame());
        lab.wait(9 * SECOND);
        assert_eq!(state(&lab, CAROL, version), Some(State::Failed));
    }
}

#[test]
fn an_answer_that_nobody_asked_for_teaches_nothing() {
    for version in BOTH {
        let mut lab = with_alice(true);
        let counts = [Rx(3), Learned(1)];
        lab.send(3, &answer(CAROL, GATEWAY2, version)).sends(Verdict::Local, &[], &counts);
        assert_eq!(state(&lab, CAROL, version), None);
        // Nor is anybody believed about an address of another network.
        let liar = Party { v4: ALICE.v4, v6: ALICE.v6, ..CAROL };
        let _ = lab.send(3, &answer(liar, GATEWAY2, version));
        let packet = udp(version, CAROL, ALICE, (5000, 53));
        let leaves = packet.clone().routed(ALICE);
        lab.send(3, &packet.frame()).sends(routed(1), &[leaves.by(1)], &[Rx(3), Flow]);
    }
}

#[test]
fn a_neighbour_goes_with_its_port() {
    for version in BOTH {
        let mut lab = with_alice(true);
        introduce(&mut lab, CAROL);
        let packet = udp(version, ALICE, CAROL, (5000, 53));
        assert_eq!(lab.send(1, &packet.frame()).verdict, routed(3));
        lab.apply(tapswitch::dataplane::Change::RemovePort(PortId(3)));
        assert_eq!(state(&lab, CAROL, version), None);
        let asked = question(GATEWAY2, CAROL, version, &[4]);
        let passage = lab.send(1, &packet.frame());
        assert_eq!((passage.verdict, passage.sent), (Verdict::Held, asked));
        // A port that is down is nobody's way out.
        introduce(&mut lab, crate::world::DAVE);
        lab.apply(tapswitch::dataplane::Change::SetPort(PortId(4), false));
        let packet = udp(version, ALICE, crate::world::DAVE, (5000, 53));
        let passage = lab.send(1, &packet.frame());
        assert!(passage.sent.is_empty(), "{:?}", passage.verdict);
        assert_ne!(passage.verdict, dropped(DropReason::NoRoute));
        assert!(lab.switch.network(NET2).is_some());
    }
}

/// Keeps what is shown when it is dropped after it had waited.
#[derive(Default)]
struct Watcher(Vec<(PortId, Vec<u8>, DropReason)>);

impl Egress for Watcher {
    fn send(&mut self, _: PortId, _: &Frame) {}

    fn emit(&mut self, _: PortId, _: &[u8], _: Offload) {}

    fn discard(&mut self, from: PortId, bytes: &[u8], _: Offload, reason: DropReason) {
        self.0.push((from, bytes.to_vec(), reason));
    }
}

#[test]
fn what_waited_in_vain_is_shown() {
    for version in BOTH {
        let mut lab = with_alice(true);
        let packet = udp(version, ALICE, CAROL, (5000, 53));
        let _ = lab.send(1, &packet.frame());
        let lonely = fragments(&packet.clone().with_payload(3000).may_be_cut(), 1400).swap_remove(0);
        let _ = lab.send(1, &Frame::from_bytes(&lonely));
        let mut watcher = Watcher::default();
        for seconds in 1..100 {
            lab.switch.handle_timeout(lab.now + seconds * SECOND, &mut watcher);
        }
        let mut waited = packet.routed(CAROL);
        waited.macs.1 = MacAddr::ZERO;
        let expected = [
            (PortId(1), waited.bytes(), DropReason::NeighbourFailed),
            (PortId(1), lonely, DropReason::FragmentTimeout),
        ];
        assert_eq!(watcher.0, expected);
    }
}
