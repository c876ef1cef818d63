//! What the rules forbid and allow: internal networks, icc=false with links, rules of the user's.

use tapswitch::control::docker_rules::{Action, Party as Who, Policy, PolicyLink, UserRule};
use tapswitch::dataplane::rules::States;
use tapswitch::dataplane::{Change, DropReason, Frame, Interface, PortId, Verdict};
use tapswitch::wire::ip::Version;
use tapswitch::wire::{MacAddr, Offload};

use crate::common::lab::Count::{Drop, Flow, Mapped, Rx, Tx, Walk, WalkOf};
use crate::common::lab::{Lab, Sent, dropped, to};
use crate::errors::{Says, about};
use crate::packets::{ACK, Packet, SYN, echo, fragments, icmp, tcp, udp};
use crate::world::{
    ALICE, BOB, BOTH, CAROL, GATEWAY1, NET1, NET2, OURS, OUTSIDE, SERVER, arp_request, interface1, policy,
    solicitation, world,
};

fn routed(port: u32) -> Verdict {
    Verdict::Routed(PortId(port))
}

#[test]
fn an_internal_network_has_no_outside() {
    let mut closed = policy();
    closed.networks[0].internal = true;
    for version in BOTH {
        let mut lab = world(&closed);
        // From and to elsewhere: the chain's rules are two for the internal network, then those as ever.
        let out = udp(version, ALICE, SERVER, (5000, 53));
        let isolated = DropReason::Isolated;
        let counts = [Rx(1), Drop(1, isolated), Walk("FORWARD 1, DOCKER-ISOLATION 2, nat PREROUTING 0")];
        lab.send(1, &out.frame()).sends(dropped(isolated), &[], &counts);
        let across = udp(version, ALICE, CAROL, (5000, 53));
        lab.send(1, &across.frame()).sends(dropped(isolated), &[], &counts);
        let inwards = udp(version, SERVER, ALICE, (53, 5000));
        let counts = [Rx(9), Drop(9, isolated), Walk("FORWARD 1, DOCKER-ISOLATION 1, nat PREROUTING 0")];
        lab.send(9, &inwards.frame()).sends(dropped(isolated), &[], &counts);
        assert_eq!(lab.send(1, &echo(version, ALICE, GATEWAY1, 1, true).frame()).verdict, Verdict::Local);
    }
}

/// Net1's containers may not talk, but alice to bob's port 80.
fn linked() -> Policy {
    let mut policy = policy();
    policy.networks[0].icc = false;
    policy.links = BOTH
        .map(|version| PolicyLink {
            network: NET1,
            from: ALICE.addr(version),
            to: BOB.addr(version),
            protocol: 6,
            port: 80,
        })
        .to_vec();
    policy
}

fn bridge_filtered(policy: &Policy) -> Lab {
    let mut lab = world(policy);
    lab.apply(Change::SetInterface(NET1, Some(Interface { filter_bridged: true, ..interface1() })));
    lab
}

/// A packet that stays on its network.
fn bridged(mut packet: Packet, to: crate::world::Party) -> Packet {
    packet.macs.1 = to.mac;
    packet
}

/// What is for a whole group carries as much as anything else.
#[test]
fn a_ping_to_all_does_not_cross_icc_false_nor_does_another_routers_advertisement() {
    let mut lab = bridge_filtered(&linked());
    for packet in [
        echo(Version::V6, ALICE, GATEWAY1, 1, true).to("ff02::1"),
        icmp(Version::V6, ALICE, GATEWAY1, (134, 0), [64, 0, 7, 8], vec![0; 8]).to("ff02::1"),
        icmp(Version::V6, ALICE, GATEWAY1, (137, 0), [0; 4], vec![0; 32]).to("ff02::1"),
    ] {
        let mut packet = packet;
        packet.macs.1 = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
        let passage = lab.send(1, &packet.frame());
        assert!(
            matches!(passage.verdict, Verdict::Drop(DropReason::Icc | DropReason::CtInvalid)),
            "{:?}",
            passage.verdict
        );
        assert_eq!(passage.sent, []);
    }
}

#[test]
fn links_open_just_the_exposed_port() {
    for version in BOTH {
        let mut lab = bridge_filtered(&linked());
        let open = |flags, numbers| bridged(tcp(version, ALICE, BOB, (5000, 80), flags, numbers), BOB);
        let back = |flags, numbers| bridged(tcp(version, BOB, ALICE, (80, 5000), flags, numbers), ALICE);
        // The link's line for the way there is the second in DOCKER, that for the way back the third.
        let there = "FORWARD 1 3, DOCKER-ISOLATION 4, DOCKER 2";
        let counts = [Rx(1), Tx(2), Flow, Walk(there)];
        lab.send(1, &open(SYN, (1, 0)).frame()).is(to(2), &[2], &counts);
        let established = "FORWARD 1 2, DOCKER-ISOLATION 4";
        let counts = [Rx(2), Tx(1), Walk(established)];
        lab.send(2, &back(SYN | ACK, (9, 2)).frame()).is(to(1), &[1], &counts);
        let counts = [Rx(1), Tx(2), Walk(established)];
        lab.send(1, &open(ACK, (2, 10)).frame()).is(to(2), &[2], &counts);
        // Nothing else is open.
        for packet in [
            tcp(version, ALICE, BOB, (5000, 81), SYN, (1, 0)),
            udp(version, ALICE, BOB, (5000, 80)),
            echo(version, ALICE, BOB, 1, true),
        ] {
            let counts = [Rx(1), Drop(1, DropReason::Icc), Walk("FORWARD 1 3 5, DOCKER-ISOLATION 4")];
            let packet = bridged(packet, BOB);
            lab.send(1, &packet.frame()).sends(dropped(DropReason::Icc), &[], &counts);
        }
        let packet = bridged(tcp(version, BOB, ALICE, (5000, 80), SYN, (1, 0)), ALICE);
        assert_eq!(lab.send(2, &packet.frame()).verdict, dropped(DropReason::Icc));
        // Who may not talk may still be asked for, and go out.
        let _ = lab.send(1, &solicitation(ALICE, BOB.v6)).is(Verdict::Flood(NET1), &[2], &[Rx(1), Tx(2)]);
        let _ = lab.send(1, &arp_request(ALICE, BOB.v4)).is(Verdict::Flood(NET1), &[2], &[Rx(1), Tx(2)]);
        let packet = udp(version, ALICE, SERVER, (5000, 53));
        assert_eq!(lab.send(1, &packet.frame()).verdict, routed(9));
    }
}

#[test]
fn bridged_fragments_are_judged_together_and_go_on_as_they_came() {
    for version in BOTH {
        let mut lab = bridge_filtered(&policy());
        let packet = bridged(udp(version, ALICE, BOB, (5000, 53)).with_payload(3000).may_be_cut(), BOB);
        let pieces = fragments(&packet, 1400);
        let mut sent = Vec::new();
        for at in [1, 2, 0] {
            let passage = lab.send(1, &Frame::from_bytes(&pieces[at]));
            assert_eq!(passage.verdict, Verdict::Held);
            sent.extend(passage.sent);
        }
        let expected: Vec<Sent> = pieces.into_iter().map(|piece| (2, piece, Offload::NONE)).collect();
        assert_eq!(sent, expected);
        // And dropped together.
        let mut lab = bridge_filtered(&linked());
        let changes = lab.changes(|lab| {
            for piece in fragments(&packet, 1400) {
                let _ = lab.send(1, &Frame::from_bytes(&piece));
            }
        });
        assert_eq!(changes.get(&("port", 1, "drop", "icc")), Some(&1));
        assert_eq!(changes.get(&("port", 2, "tx", "frames")), None);
    }
}

fn user_rule(from: Who, to: Who, ports: Option<u16>, action: Action) -> UserRule {
    UserRule {
        from,
        to,
        protocol: ports.map(|_| 6),
        ports: ports.map(|port| (port, port)),
        states: None,
        action,
    }
}

fn with_user_rules(user_rules: Vec<UserRule>) -> Policy {
    Policy { user_rules, ..policy() }
}

#[test]
fn the_users_rules_come_before_isolation() {
    let allow = user_rule(Who::Network(NET1), Who::Network(NET2), Some(80), Action::Allow);
    for version in BOTH {
        let mut lab = world(&with_user_rules(vec![allow.clone()]));
        let packet = tcp(version, ALICE, CAROL, (5000, 80), SYN, (100, 0));
        // As with Docker, who leaves his network is masqueraded.
        let leaves = packet.clone().routed(CAROL);
        let passage = lab.send(1, &packet.frame());
        assert_eq!(passage.verdict, routed(3));
        let seen = crate::world::GATEWAY2;
        assert_eq!(passage.sent, [leaves.from(seen).by(3)]);
        let walked = |chain, number| passage.changes.get(&(table(version), number, chain, "packets"));
        assert_eq!((walked("DOCKER-USER", 1), walked("DOCKER-ISOLATION", 1)), (Some(&1), None));
        // The answer passes by the line for answers.
        let answer = tcp(version, CAROL, seen, (80, 5000), SYN | ACK, (1, 101));
        let leaves = answer.clone().from(CAROL).to(ALICE).routed(ALICE);
        let passage = lab.send(3, &answer.frame());
        assert_eq!((passage.verdict, passage.sent), (routed(1), vec![leaves.by(1)]));
        assert_eq!(passage.changes.get(&(table(version), 2, "DOCKER-USER", "packets")), Some(&1));
        // Anything else stays apart.
        let packet = tcp(version, ALICE, CAROL, (5000, 81), SYN, (100, 0));
        assert_eq!(lab.send(1, &packet.frame()).verdict, dropped(DropReason::Isolated));
    }
}

const fn table(version: Version) -> &'static str {
    match version {
        Version::V4 => "v4 filter",
        Version::V6 => "v6 filter",
    }
}

#[test]
fn the_user_drops_in_silence_and_rejects_aloud() {
    let alice = || {
        Who::Prefixes(
            BOTH.map(|version| tapswitch::wire::ip::Prefix::new(ALICE.addr(version), u8::MAX)).to_vec(),
        )
    };
    let rules = vec![
        user_rule(alice(), Who::Any, Some(25), Action::Drop),
        user_rule(alice(), Who::Any, Some(26), Action::Reject),
    ];
    for version in BOTH {
        let mut lab = world(&with_user_rules(rules.clone()));
        let syn = |from, port| tcp(version, from, SERVER, (5000, port), SYN, (100, 0));
        let counts = [Rx(1), Drop(1, DropReason::Rule), Walk("FORWARD 1, DOCKER-USER 1, nat PREROUTING 0")];
        lab.send(1, &syn(ALICE, 25).frame()).sends(dropped(DropReason::Rule), &[], &counts);
        let packet = syn(ALICE, 26);
        let error = about(&packet, Says::PortUnreachable, GATEWAY1);
        let counts = [
            Rx(1),
            Drop(1, DropReason::Rejected),
            Walk("FORWARD 1, DOCKER-USER 2, nat PREROUTING 0"),
            WalkOf(0, "OUTPUT 0"),
        ];
        lab.send(1, &packet.frame()).sends(dropped(DropReason::Rejected), &[error.by(1)], &counts);
        // Others are not meant.
        let packet = syn(BOB, 25);
        let leaves = packet.clone().from(OURS).routed(OUTSIDE);
        let walk = "FORWARD 1 2 5, DOCKER-USER 3, DOCKER-ISOLATION 4, nat PREROUTING 0, nat POSTROUTING 2";
        lab.send(2, &packet.frame()).sends(routed(9), &[leaves.by(9)], &[Rx(2), Flow, Mapped, Walk(walk)]);
    }
}

#[test]
fn a_rule_about_new_flows_leaves_established_ones_alone() {
    for version in BOTH {
        let mut lab = world(&policy());
        let there = udp(version, ALICE, SERVER, (5000, 53));
        let back = udp(version, SERVER, OURS, (53, 5000));
        assert_eq!(lab.send(1, &there.frame()).verdict, routed(9));
        assert_eq!(lab.send(9, &back.frame()).verdict, routed(1));
        let rule = UserRule {
            states: Some(States::NEW),
            ..user_rule(Who::Network(NET1), Who::Any, None, Action::Drop)
        };
        crate::world::set_rules(&mut lab, &with_user_rules(vec![rule]));
        assert_eq!(lab.send(1, &there.frame()).verdict, routed(9));
        assert_eq!(lab.send(9, &back.frame()).verdict, routed(1));
        let new = udp(version, ALICE, SERVER, (5001, 53));
        assert_eq!(lab.send(1, &new.frame()).verdict, dropped(DropReason::Rule));
        // A rule about all of them ends them, too.
        let rule = user_rule(Who::Network(NET1), Who::Any, None, Action::Drop);
        crate::world::set_rules(&mut lab, &with_user_rules(vec![rule]));
        assert_eq!(lab.send(1, &there.frame()).verdict, dropped(DropReason::Rule));
    }
}

#[test]
fn rules_that_stay_keep_their_counters() {
    let mut lab = world(&policy());
    let packet = udp(Version::V4, ALICE, SERVER, (5000, 53));
    for _ in 0..3 {
        let _ = lab.send(1, &packet.frame());
    }
    let count = |lab: &Lab, number| lab.values()[&("v4 filter", number, "FORWARD", "packets")];
    assert_eq!(count(&lab, 4), 3);
    crate::world::set_rules(
        &mut lab,
        &with_user_rules(vec![user_rule(Who::Any, Who::Any, Some(25), Action::Drop)]),
    );
    assert_eq!(count(&lab, 5), 3, "the same rule, one line further down");
    assert_eq!(count(&lab, 1), 0);
    let _ = lab.send(1, &packet.frame());
    assert_eq!(count(&lab, 5), 4);
}
