//! Containers that speak to the outside with our address.

use tapswitch::control::docker_rules::Policy;
use tapswitch::dataplane::conntrack::Status;
use tapswitch::dataplane::{DropReason, PortId, Verdict};
use tapswitch::wire::ip::Version;

use crate::common::lab::Count::{Ct, Drop, Flow, Mapped, Rx, Walk, WalkOf};
use crate::common::lab::{Lab, dropped};
use crate::errors::{Says, about};
use crate::packets::{ACK, Body, FIN, Packet, RST, SYN, echo, other, tcp, udp};
use crate::world::{
    ALICE, BACK, BOB, BOTH, CAROL, GATEWAY1, OTHER_SERVER, OURS, OUT, OUT_NEW, OUTSIDE, Party, SERVER, addr,
    policy, set_rules, world,
};

fn routed(port: u32) -> Verdict {
    Verdict::Routed(PortId(port))
}

/// A packet of a container's goes out as one of ours, from this port; the first one of a flow.
fn goes_out(lab: &mut Lab, packet: &Packet, port: u16, is_mapped: bool) {
    let leaves = packet.clone().from((OURS, port)).routed(OUTSIDE);
    let from = if packet.macs.0 == BOB.mac { 2 } else { 1 };
    let mut counts = vec![Rx(from), Flow, Walk(OUT_NEW)];
    counts.extend(is_mapped.then_some(Mapped));
    lab.send(from, &packet.frame()).sends(routed(9), &[leaves.by(9)], &counts);
}

/// An answer to one of our ports comes back to a container.
fn comes_back(lab: &mut Lab, packet: &Packet, to: Party, port: u16) {
    let leaves = packet.clone().to((to, port)).routed(to);
    lab.send(9, &packet.frame()).sends(routed(to.port), &[leaves.by(to.port)], &[Rx(9), Walk(BACK)]);
}

/// The outside port of a container's flow with a source port to a server.
pub(crate) fn outside_port(lab: &Lab, inside: Party, port: u16, to: Party) -> u16 {
    let flows = lab.flows();
    let version = flows[0].original.source.version();
    let (source, destination) = (inside.addr(version), to.addr(version));
    let found = flows.iter().find(|flow| {
        (flow.original.source, flow.original.source_port) == (source, port)
            && flow.original.destination == destination
    });
    found.unwrap().reply.destination_port
}

#[test]
fn datagrams_go_out_and_back() {
    for version in BOTH {
        let mut lab = world(&policy());
        let packet = udp(version, ALICE, SERVER, (5000, 53));
        goes_out(&mut lab, &packet, 5000, true);
        let answer = udp(version, SERVER, OURS, (53, 5000));
        comes_back(&mut lab, &answer, ALICE, 5000);
        let leaves = packet.clone().from(OURS).routed(OUTSIDE);
        for _ in 0..3 {
            lab.send(1, &packet.frame()).sends(routed(9), &[leaves.by(9)], &[Rx(1), Walk(OUT)]);
            comes_back(&mut lab, &answer, ALICE, 5000);
        }
        let [flow] = lab.flows()[..] else { panic!() };
        assert!(flow.status.has(Status::ASSURED.with(Status::SNAT).with(Status::SEEN_REPLY)));
        assert_eq!(flow.traffic.map(|traffic| traffic.packets), [4, 4]);
    }
}

#[test]
fn a_tcp_connection_is_opened_used_and_closed() {
    for version in BOTH {
        let mut lab = world(&policy());
        let state = |lab: &Lab| lab.flows()[0].state.name();
        let mine = |flags, numbers| tcp(version, ALICE, SERVER, (5000, 80), flags, numbers);
        let theirs = |flags, numbers| tcp(version, SERVER, OURS, (80, 5000), flags, numbers);
        goes_out(&mut lab, &mine(SYN, (100, 0)), 5000, true);
        assert_eq!(state(&lab), "SYN_SENT");
        comes_back(&mut lab, &theirs(SYN | ACK, (900, 101)), ALICE, 5000);
        assert_eq!(state(&lab), "SYN_RECV");
        let out = |lab: &mut Lab, packet: Packet| {
            let leaves = packet.clone().from(OURS).routed(OUTSIDE);
            lab.send(1, &packet.frame()).sends(routed(9), &[leaves.by(9)], &[Rx(1), Walk(OUT)]);
        };
        out(&mut lab, mine(ACK, (101, 901)));
        assert_eq!(state(&lab), "ESTABLISHED");
        out(&mut lab, mine(ACK, (101, 901)).with_payload(1000));
        comes_back(&mut lab, &theirs(ACK, (901, 1101)).with_payload(700), ALICE, 5000);
        out(&mut lab, mine(ACK | FIN, (1101, 1601)));
        assert_eq!(state(&lab), "FIN_WAIT");
        comes_back(&mut lab, &theirs(ACK, (1601, 1102)), ALICE, 5000);
        assert_eq!(state(&lab), "CLOSE_WAIT");
        comes_back(&mut lab, &theirs(ACK | FIN, (1601, 1102)), ALICE, 5000);
        assert_eq!(state(&lab), "LAST_ACK");
        out(&mut lab, mine(ACK, (1102, 1602)));
        assert_eq!(state(&lab), "TIME_WAIT");
    }
}

#[test]
fn pings_go_out_and_back() {
    for version in BOTH {
        let mut lab = world(&policy());
        goes_out(&mut lab, &echo(version, ALICE, SERVER, 77, true), 77, true);
        comes_back(&mut lab, &echo(version, SERVER, OURS, 77, false), ALICE, 77);
        // Bob's ping of the same identifier to the same server gets another one.
        let packet = echo(version, BOB, SERVER, 77, true);
        assert_eq!(lab.send(2, &packet.frame()).verdict, routed(9));
        let id = outside_port(&lab, BOB, 77, SERVER);
        assert_ne!(id, 77);
        comes_back(&mut lab, &echo(version, SERVER, OURS, id, false), BOB, 77);
        comes_back(&mut lab, &echo(version, SERVER, OURS, 77, false), ALICE, 77);
    }
}

#[test]
fn other_protocols_are_known_by_their_addresses() {
    for version in BOTH {
        let mut lab = world(&policy());
        goes_out(&mut lab, &other(version, ALICE, SERVER, 47), 0, false);
        comes_back(&mut lab, &other(version, SERVER, OURS, 47), ALICE, 0);
        // Bob's cannot be told from alice's.
        let counts = [Rx(2), Drop(2, DropReason::NatExhausted), Walk(OUT), WalkOf(0, "OUTPUT 0")];
        let packet = other(version, BOB, SERVER, 47);
        let error = about(&packet, Says::Prohibited, GATEWAY1);
        lab.send(2, &packet.frame()).sends(dropped(DropReason::NatExhausted), &[error.by(2)], &counts);
        goes_out(&mut lab, &other(version, BOB, OTHER_SERVER, 47), 0, false);
    }
}

#[test]
fn two_hosts_with_the_same_source_port_are_told_apart() {
    for version in BOTH {
        type Make = fn(Version, Party, Party, (u16, u16)) -> Packet;
        let make: [Make; 2] = [udp, |version, from, to, ports| tcp(version, from, to, ports, SYN, (1, 0))];
        for (make, port) in make.into_iter().flat_map(|make| [(make, 5000), (make, 500)]) {
            let mut lab = world(&policy());
            goes_out(&mut lab, &make(version, ALICE, SERVER, (port, 53)), port, true);
            let packet = make(version, BOB, SERVER, (port, 53));
            assert_eq!(lab.send(2, &packet.frame()).verdict, routed(9));
            let bobs = outside_port(&lab, BOB, port, SERVER);
            assert_ne!(bobs, port);
            assert_eq!(bobs < 1024, port < 1024, "RFC 4787 REQ-3");
            // Each has the same outside port for everybody (RFC 4787 REQ-1, RFC 5382 REQ-1).
            let second = make(version, BOB, OTHER_SERVER, (port, 99));
            goes_out(&mut lab, &second, bobs, false);
            goes_out(&mut lab, &make(version, ALICE, OTHER_SERVER, (port, 99)), port, false);
            if port == 5000 && matches!(packet.body, Body::Udp { .. }) {
                comes_back(&mut lab, &udp(version, SERVER, OURS, (53, bobs)), BOB, port);
                comes_back(&mut lab, &udp(version, SERVER, OURS, (53, port)), ALICE, port);
                comes_back(&mut lab, &udp(version, OTHER_SERVER, OURS, (99, bobs)), BOB, port);
            }
        }
    }
}

#[test]
fn ports_of_different_protocols_do_not_collide() {
    for version in BOTH {
        let mut lab = world(&policy());
        goes_out(&mut lab, &udp(version, ALICE, SERVER, (5000, 53)), 5000, true);
        goes_out(&mut lab, &tcp(version, BOB, SERVER, (5000, 53), SYN, (1, 0)), 5000, true);
    }
}

/// The policy with this range of outside ports for net1.
fn ranged(first: u16, last: u16) -> Policy {
    let mut policy = policy();
    policy.networks[0].masquerade_ports = Some((first, last));
    policy
}

#[test]
fn a_port_range_is_kept_and_when_it_is_full_ports_are_shared_and_then_exhausted() {
    for version in BOTH {
        let mut lab = world(&ranged(20_000, 20_001));
        for source in [5000, 5001] {
            assert_eq!(lab.send(1, &udp(version, ALICE, SERVER, (source, 53)).frame()).verdict, routed(9));
        }
        let ports = [5000, 5001].map(|source| outside_port(&lab, ALICE, source, SERVER));
        assert!(ports == [20_000, 20_001] || ports == [20_001, 20_000], "{ports:?}");
        // There is no port left for the same server, ...
        let third = udp(version, ALICE, SERVER, (5002, 53));
        let counts = [Rx(1), Drop(1, DropReason::NatExhausted), Walk(OUT), WalkOf(0, "OUTPUT 0")];
        let error = about(&third, Says::Prohibited, GATEWAY1);
        lab.send(1, &third.frame()).sends(dropped(DropReason::NatExhausted), &[error.by(1)], &counts);
        // but another server tells shared ports apart.
        let elsewhere = udp(version, ALICE, OTHER_SERVER, (5002, 53));
        let passage = lab.send(1, &elsewhere.frame());
        assert_eq!(passage.verdict, routed(9));
        assert_eq!(passage.changes.get(&("conntrack", 0, "", "mappings")), None);
        let shared = outside_port(&lab, ALICE, 5002, OTHER_SERVER);
        assert!((20_000..=20_001).contains(&shared));
        comes_back(&mut lab, &udp(version, OTHER_SERVER, OURS, (53, shared)), ALICE, 5002);
    }
}

#[test]
fn a_chosen_address_is_given_instead_of_ours() {
    let mut chosen = policy();
    chosen.networks[0].masquerade_to = vec![addr("198.51.100.7"), addr("2001:db8::7")];
    for (version, address) in BOTH.into_iter().zip(["198.51.100.7", "2001:db8::7"]) {
        let mut lab = world(&chosen);
        let packet = udp(version, ALICE, SERVER, (5000, 53));
        let leaves = packet.clone().from(address).routed(OUTSIDE);
        let counts = [Rx(1), Flow, Mapped, Walk(OUT_NEW)];
        lab.send(1, &packet.frame()).sends(routed(9), &[leaves.by(9)], &counts);
        let answer = udp(version, SERVER, OURS, (53, 5000)).to(address);
        comes_back(&mut lab, &answer, ALICE, 5000);
    }
}

#[test]
fn without_masquerade_inside_addresses_go_out() {
    let mut policy = policy();
    (policy.networks[0].masquerade, policy.networks[0].masquerade_v6) = (false, false);
    for version in BOTH {
        let mut lab = world(&policy);
        let packet = udp(version, ALICE, SERVER, (5000, 53));
        let leaves = packet.clone().routed(OUTSIDE);
        let walk = Walk("FORWARD 1 4, DOCKER-ISOLATION 4, nat PREROUTING 0, nat POSTROUTING 0");
        lab.send(1, &packet.frame()).sends(routed(9), &[leaves.by(9)], &[Rx(1), Flow, walk]);
        let answer = udp(version, SERVER, ALICE, (53, 5000));
        let answer = Packet { macs: (SERVER.mac, OURS.mac), ..answer };
        comes_back(&mut lab, &answer, ALICE, 5000);
    }
}

#[test]
fn a_datagram_without_a_checksum_stays_without() {
    let mut lab = world(&policy());
    let mut packet = udp(Version::V4, ALICE, SERVER, (5000, 53));
    let Body::Udp { checksum, .. } = &mut packet.body else { panic!() };
    *checksum = false;
    goes_out(&mut lab, &packet, 5000, true);
    let mut answer = udp(Version::V4, SERVER, OURS, (53, 5000));
    let Body::Udp { checksum, .. } = &mut answer.body else { panic!() };
    *checksum = false;
    comes_back(&mut lab, &answer, ALICE, 5000);
}

#[test]
fn what_can_begin_no_flow_does_not_go_out() {
    for version in BOTH {
        let mut lab = world(&policy());
        let ports = (5000, 80);
        for packet in [
            tcp(version, ALICE, SERVER, ports, SYN | ACK, (1, 1)),
            tcp(version, ALICE, SERVER, ports, RST, (1, 0)),
            tcp(version, ALICE, SERVER, ports, SYN | FIN, (1, 0)),
            tcp(version, ALICE, SERVER, ports, 0, (1, 0)),
            tcp(version, ALICE, SERVER, ports, FIN, (1, 0)),
            echo(version, ALICE, SERVER, 1, false),
        ] {
            let counts = [Rx(1), Drop(1, DropReason::CtInvalid), Ct("invalid", 1)];
            lab.send(1, &packet.frame()).sends(dropped(DropReason::CtInvalid), &[], &counts);
        }
    }
}

#[test]
fn forged_segments_do_not_reach_a_connection() {
    for version in BOTH {
        let mut lab = world(&policy());
        let mine = |flags, numbers| tcp(version, ALICE, SERVER, (5000, 80), flags, numbers);
        let theirs = |flags, numbers| tcp(version, SERVER, OURS, (80, 5000), flags, numbers);
        let _ = lab.send(1, &mine(SYN, (100, 0)).frame());
        let _ = lab.send(9, &theirs(SYN | ACK, (900, 101)).frame());
        let _ = lab.send(1, &mine(ACK, (101, 901)).frame());
        for forged in [
            theirs(RST, (900_000_000, 0)),
            theirs(ACK, (900_000_000, 101)).with_payload(9),
            theirs(SYN, (5, 0)),
        ] {
            let counts = [Rx(9), Drop(9, DropReason::CtInvalid), Ct("invalid", 1)];
            lab.send(9, &forged.frame()).sends(dropped(DropReason::CtInvalid), &[], &counts);
        }
        assert_eq!(lab.flows()[0].state.name(), "ESTABLISHED");
        comes_back(&mut lab, &theirs(RST, (901, 0)), ALICE, 5000);
        assert_eq!(lab.flows()[0].state.name(), "CLOSE");
    }
}

#[test]
fn flows_survive_new_rules() {
    for version in BOTH {
        let mut lab = world(&policy());
        let packet = udp(version, ALICE, SERVER, (5000, 53));
        goes_out(&mut lab, &packet, 5000, true);
        comes_back(&mut lab, &udp(version, SERVER, OURS, (53, 5000)), ALICE, 5000);
        // Even when new flows are no longer translated.
        let mut unmasked = policy();
        (unmasked.networks[0].masquerade, unmasked.networks[0].masquerade_v6) = (false, false);
        let leaves = packet.clone().from(OURS).routed(OUTSIDE);
        for policy in [policy(), unmasked] {
            set_rules(&mut lab, &policy);
            for _ in 0..2 {
                lab.send(1, &packet.frame()).sends(routed(9), &[leaves.by(9)], &[Rx(1), Walk(OUT)]);
                comes_back(&mut lab, &udp(version, SERVER, OURS, (53, 5000)), ALICE, 5000);
            }
        }
        let new = udp(version, ALICE, SERVER, (5001, 53));
        let leaves = new.clone().routed(OUTSIDE);
        assert_eq!(lab.send(1, &new.frame()).sent, [leaves.by(9)]);
    }
}

#[test]
fn the_outside_cannot_begin() {
    for version in BOTH {
        let mut lab = world(&policy());
        // Not even if it knows inside addresses: the policy of FORWARD drops it.
        for (inside, rules) in [
            (ALICE, "FORWARD 1 3 0, DOCKER-ISOLATION 4, nat PREROUTING 0"),
            (CAROL, "FORWARD 1 7 0, DOCKER-ISOLATION 4, nat PREROUTING 0"),
        ] {
            let packet = udp(version, SERVER, inside, (53, 5000));
            let counts = [Rx(9), Drop(9, DropReason::Policy), Walk(rules)];
            lab.send(9, &packet.frame()).sends(dropped(DropReason::Policy), &[], &counts);
        }
        // What answers nothing that was asked is for us, and nobody listens here.
        let stray = tcp(version, SERVER, OURS, (80, 5000), ACK, (900, 101));
        let mut reset = tcp(version, OURS, SERVER, (5000, 80), RST, (101, 0));
        (reset.macs, reset.id) = ((OURS.mac, SERVER.mac), 0);
        let Body::Tcp { window, .. } = &mut reset.body else { panic!() };
        *window = 0;
        let counts = [Rx(9), Walk("INPUT 0, nat PREROUTING 1 2 0"), WalkOf(0, "OUTPUT 0")];
        lab.send(9, &stray.frame()).sends(Verdict::Local, &[reset.by(9)], &counts);
    }
}
