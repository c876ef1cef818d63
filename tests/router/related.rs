//! ICMP errors about flows that are translated: both headers are (RFC 5508 §4).

use tapswitch::dataplane::{DropReason, Frame, NetworkConfig, PortId, Verdict};
use tapswitch::wire::ip::Version;

use crate::common::lab::Count::{Ct, Drop, Rx, Walk, WalkOf};
use crate::common::lab::dropped;
use crate::errors::{Says, about, told};
use crate::packets::{ACK, Body, Packet, SYN, echo, other, tcp, udp};
use crate::world::{
    ALICE, BACK, BOB, BOTH, CAROL, DAVE, GATEWAY1, GATEWAY2, OURS, OUT, OUTSIDE, SERVER, open, policy, world,
    world_of,
};

fn routed(port: u32) -> Verdict {
    Verdict::Routed(PortId(port))
}

/// What alice asks, one of each kind.
fn questions(version: Version) -> [Packet; 4] {
    [
        udp(version, ALICE, SERVER, (5000, 53)),
        tcp(version, ALICE, SERVER, (5000, 80), SYN, (1, 0)),
        echo(version, ALICE, SERVER, 77, true),
        other(version, ALICE, SERVER, 47),
    ]
}

/// Quotes no more than this of a packet.
fn cut_quote(mut error: Packet, len: usize) -> Packet {
    let Body::Icmp { data, .. } = &mut error.body else { panic!() };
    data.truncate(len);
    error
}

#[test]
fn errors_from_outside_reach_who_asked() {
    for version in BOTH {
        for (says, whole) in
            [Says::HostUnreachable, Says::TimeExceeded, Says::TooBig(1280), Says::PortUnreachable]
                .into_iter()
                .flat_map(|says| [(says, true), (says, false)])
        {
            let mut lab = world(&policy());
            for question in questions(version) {
                let _ = lab.send(1, &question.frame());
                // A router on the way, or the server itself, gets it with our address.
                let translated = question.clone().from(OURS).routed(OUTSIDE);
                let header = if version == Version::V4 { 20 } else { 40 };
                let quoted = if whole { usize::MAX } else { header + 8 };
                for teller in [OUTSIDE, SERVER] {
                    let error = cut_quote(told(teller, OURS, says, &translated), quoted);
                    // To alice it is about what she sent.
                    let mut about = question.clone();
                    about.ttl -= 1;
                    let leaves = cut_quote(told(teller, OURS, says, &about).to(ALICE).routed(ALICE), quoted);
                    let counts = [Rx(9), Walk(BACK)];
                    lab.send(9, &error.frame()).sends(routed(1), &[leaves.by(1)], &counts);
                }
            }
            assert_eq!(lab.flows().len(), 4, "errors are no flows");
        }
    }
}

#[test]
fn errors_find_the_right_one_of_two_hosts_with_one_port() {
    for version in BOTH {
        let mut lab = world(&policy());
        for (party, question) in
            [(ALICE, udp(version, ALICE, SERVER, (5000, 53))), (BOB, udp(version, BOB, SERVER, (5000, 53)))]
        {
            let _ = lab.send(party.port, &question.frame());
            let port = crate::masquerade::outside_port(&lab, party, 5000, SERVER);
            let translated = question.clone().from((OURS, port)).routed(OUTSIDE);
            let error = told(SERVER, OURS, Says::PortUnreachable, &translated);
            let mut about = question;
            about.ttl -= 1;
            let leaves = told(SERVER, OURS, Says::PortUnreachable, &about).to(party).routed(party);
            lab.send(9, &error.frame()).sends(
                routed(party.port),
                &[leaves.by(party.port)],
                &[Rx(9), Walk(BACK)],
            );
        }
    }
}

#[test]
fn errors_from_inside_tell_the_outside_about_our_address() {
    for version in BOTH {
        let mut lab = world(&policy());
        let _ = lab.send(1, &udp(version, ALICE, SERVER, (5000, 53)).frame());
        let answer = udp(version, SERVER, OURS, (53, 5000));
        assert_eq!(lab.send(9, &answer.frame()).verdict, routed(1));
        // Alice has closed her port.
        let mut delivered = answer.clone().to(ALICE);
        delivered.ttl -= 1;
        let error = told(ALICE, SERVER, Says::PortUnreachable, &delivered);
        let mut about = answer;
        about.ttl -= 1;
        let leaves = told(ALICE, SERVER, Says::PortUnreachable, &about).from(OURS).routed(OUTSIDE);
        lab.send(1, &error.frame()).sends(routed(9), &[leaves.by(9)], &[Rx(1), Walk(OUT)]);
    }
}

#[test]
fn errors_of_a_routed_flow_are_routed() {
    for version in BOTH {
        let mut lab = world(&open());
        let question = udp(version, ALICE, CAROL, (5000, 53));
        let _ = lab.send(1, &question.frame());
        let error = told(CAROL, ALICE, Says::PortUnreachable, &question.with_ttl(63));
        let leaves = error.clone().routed(ALICE);
        lab.send(3, &error.frame()).sends(routed(1), &[leaves.by(1)], &[Rx(3)]);
    }
}

#[test]
fn errors_about_no_flow_are_dropped() {
    for version in BOTH {
        let mut lab = world(&policy());
        let question = udp(version, ALICE, SERVER, (5000, 53));
        let _ = lab.send(1, &question.frame());
        let another = question.clone().from((OURS, 5001)).routed(OUTSIDE);
        // About a packet that was not sent, about an answer as if it were the question,
        let backwards = udp(version, SERVER, OURS, (53, 5000));
        for about in [another, backwards] {
            let error = told(OUTSIDE, OURS, Says::HostUnreachable, &about);
            let counts = [Rx(9), Drop(9, DropReason::CtInvalid), Ct("invalid", 1)];
            lab.send(9, &error.frame()).sends(dropped(DropReason::CtInvalid), &[], &counts);
        }
        // and with a wrong checksum.
        let translated = question.from(OURS).routed(OUTSIDE);
        let mut bytes = told(OUTSIDE, OURS, Says::HostUnreachable, &translated).bytes();
        *bytes.last_mut().unwrap() ^= 1;
        lab.send(9, &Frame::from_bytes(&bytes)).was_dropped(9, DropReason::BadTransport);
    }
}

#[test]
fn errors_change_nothing_about_the_flow() {
    let mut lab = world(&policy());
    let mine = |flags, numbers| tcp(Version::V4, ALICE, SERVER, (5000, 80), flags, numbers);
    let _ = lab.send(1, &mine(SYN, (100, 0)).frame());
    let _ = lab.send(9, &tcp(Version::V4, SERVER, OURS, (80, 5000), SYN | ACK, (900, 101)).frame());
    let before = lab.flows();
    let translated = mine(ACK, (101, 901)).from(OURS).routed(OUTSIDE);
    let _ = lab.send(9, &told(OUTSIDE, OURS, Says::HostUnreachable, &translated).frame());
    assert_eq!(lab.flows(), before);
}

/// RFC 5508 REQ-7 and what makes path MTU discovery work.
#[test]
fn our_own_errors_about_translated_packets_reach_both_sides() {
    for version in BOTH {
        let narrow = NetworkConfig { mtu: 1280, ..Default::default() };
        let wide = NetworkConfig::default();
        // Outwards: before the translation.
        let mut lab = world_of(&policy(), [wide, wide, narrow]);
        let large = udp(version, ALICE, SERVER, (5000, 53)).with_payload(1400);
        let error = about(&large, Says::TooBig(1280), GATEWAY1);
        let counts = [Rx(1), Drop(1, DropReason::TooBig), WalkOf(0, "OUTPUT 0")];
        lab.send(1, &large.frame()).sends(dropped(DropReason::TooBig), &[error.by(1)], &counts);
        // Inwards: the packet as it came, from our address.
        let mut lab = world_of(&policy(), [narrow, wide, wide]);
        let _ = lab.send(1, &udp(version, ALICE, SERVER, (5000, 53)).frame());
        let large = udp(version, SERVER, OURS, (53, 5000)).with_payload(1400);
        let error = about(&large, Says::TooBig(1280), OURS);
        let counts = [Rx(9), Drop(9, DropReason::TooBig), WalkOf(0, "OUTPUT 0")];
        lab.send(9, &large.frame()).sends(dropped(DropReason::TooBig), &[error.by(9)], &counts);
    }
}

/// Both sides of a hairpin are translated, and so are errors about it, both ways.
#[test]
fn errors_about_hairpins_are_translated_on_both_sides() {
    for version in BOTH {
        let mut lab = world(&policy());
        let question = tcp(version, DAVE, OURS, (5000, 8000), SYN, (1, 0));
        let seen = question.clone().from((GATEWAY2, 5000)).to((CAROL, 80)).routed(CAROL);
        assert_eq!(lab.send(4, &question.frame()).sent, [seen.by(3)]);
        let mut about = question.clone();
        about.ttl -= 1;
        let error = told(CAROL, GATEWAY2, Says::PortUnreachable, &seen);
        let leaves = told(CAROL, CAROL, Says::PortUnreachable, &about).from(OURS).to(DAVE).routed(DAVE);
        let walk = Walk("FORWARD 1 6, DOCKER-ISOLATION 1");
        lab.send(3, &error.frame()).sends(routed(4), &[leaves.by(4)], &[Rx(3), walk]);
        // The answer came, and dave does not want it.
        let answer = tcp(version, CAROL, GATEWAY2, (80, 5000), SYN | ACK, (1, 2));
        let seen = answer.clone().from((OURS, 8000)).to((DAVE, 5000)).routed(DAVE);
        assert_eq!(lab.send(3, &answer.frame()).sent, [seen.by(4)]);
        let error = told(DAVE, OURS, Says::PortUnreachable, &seen);
        let leaves = told(DAVE, DAVE, Says::PortUnreachable, &answer.with_ttl(63))
            .from(GATEWAY2)
            .to(CAROL)
            .routed(CAROL);
        lab.send(4, &error.frame()).sends(routed(3), &[leaves.by(3)], &[Rx(4), walk]);
    }
}
