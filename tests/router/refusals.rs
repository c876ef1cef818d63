//! What is not routed: addresses that no packet may have, isolation; and what nobody is told about.

use std::time::Duration;

use tapswitch::dataplane::Change;
use tapswitch::dataplane::{DropReason, Frame, Settings, Verdict};
use tapswitch::wire::ip::Version;

use crate::common::lab::Count::{Drop, Rx, Walk, WalkOf};
use crate::common::lab::{Lab, dropped};
use crate::errors::{Says, about, told};
use crate::packets::{Packet, SYN, echo, fragments, icmp, tcp, udp};
use crate::world::{ALICE, BOTH, CAROL, GATEWAY1, GATEWAY2, OUTSIDE, SERVER, open, policy, world};

fn question(version: Version) -> Packet {
    udp(version, ALICE, SERVER, (5000, 53))
}

#[test]
fn sources_that_can_be_nobodys_are_martian() {
    let mut lab = world(&open());
    for source in [
        "0.0.0.0",
        "127.0.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "172.19.0.1",
        "172.20.0.1",
        "198.51.100.1",
        "172.19.255.255",
        "172.19.0.0",
        "172.20.255.255",
        "169.254.1.1",
    ] {
        let packet = question(Version::V4).from(source);
        lab.send(1, &packet.frame()).was_dropped(1, DropReason::MartianSource);
    }
    for source in ["::", "::1", "ff02::1", "fd00:19::1", "fd00:20::1", "2001:db8::1", "fe80::5"] {
        let packet = question(Version::V6).from(source);
        lab.send(1, &packet.frame()).was_dropped(1, DropReason::MartianSource);
    }
}

#[test]
fn the_outside_cannot_speak_in_the_name_of_our_networks() {
    for version in BOTH {
        for policy in [open(), policy()] {
            let mut lab = world(&policy);
            let packet = udp(version, OUTSIDE, CAROL, (5000, 53)).from(ALICE);
            lab.send(9, &packet.frame()).was_dropped(9, DropReason::MartianSource);
        }
    }
}

#[test]
fn destinations_that_are_not_a_hosts_are_not_routed() {
    let mut lab = world(&open());
    let cases = [
        ("224.0.0.5", DropReason::Multicast),
        ("239.1.2.3", DropReason::Multicast),
        ("255.255.255.255", DropReason::Multicast),
        ("127.0.0.1", DropReason::MartianDestination),
        ("0.0.0.0", DropReason::MartianDestination),
        ("169.254.169.254", DropReason::MartianDestination),
        ("172.20.255.255", DropReason::DirectedBroadcast),
        ("172.20.0.0", DropReason::DirectedBroadcast),
        ("172.19.255.255", DropReason::DirectedBroadcast),
        ("198.51.100.255", DropReason::DirectedBroadcast),
    ];
    for (destination, reason) in cases {
        let packet = question(Version::V4).to(destination);
        lab.send(1, &packet.frame()).was_dropped(1, reason);
    }
    let cases = [
        ("ff05::2", DropReason::Multicast),
        ("::1", DropReason::MartianDestination),
        ("::", DropReason::MartianDestination),
        ("fe80::99", DropReason::MartianDestination),
    ];
    for (destination, reason) in cases {
        let packet = question(Version::V6).to(destination);
        lab.send(1, &packet.frame()).was_dropped(1, reason);
    }
    // A version's addresses in the other's packets (RFC 4942 §2.2).
    for packet in
        [question(Version::V6).to("::ffff:172.20.0.2"), question(Version::V6).from("::ffff:172.19.0.2")]
    {
        lab.send(1, &packet.frame()).was_dropped(1, DropReason::BadIpHeader);
    }
}

#[test]
fn source_routes_are_refused() {
    let mut lab = world(&open());
    for kind in [131, 137] {
        let mut packet = question(Version::V4);
        packet.options = vec![kind, 7, 4, 172, 20, 0, 2, 0];
        lab.send(1, &packet.frame()).was_dropped(1, DropReason::SourceRoute);
    }
    // RFC 5095: a routing header of type 0 with a segment left.
    let mut bytes = question(Version::V6).bytes();
    let header = [&[17, 2, 0, 1, 0, 0, 0, 0][..], &[0xfd; 16]].concat();
    bytes[20] = 43;
    bytes.splice(54..54, header);
    let length = (bytes.len() - 54) as u16;
    bytes[18..20].copy_from_slice(&length.to_be_bytes());
    lab.send(1, &Frame::from_bytes(&bytes)).was_dropped(1, DropReason::SourceRoute);
}

/// Makes the header say that the packet is a byte longer.
fn lengthen(bytes: &mut [u8]) {
    bytes[17] += 1;
    // Which takes one from the checksum.
    let sum = u16::from_be_bytes([bytes[24], bytes[25]]) - 1;
    bytes[24..26].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn who_sends_malformed_options_is_told_where() {
    let mut lab = world(&open());
    let mut packet = question(Version::V4);
    // A timestamp option that claims more bytes than there are.
    packet.options = vec![1, 68, 40, 5];
    let error = about(&packet, Says::BadOption(22), GATEWAY1);
    let counts = [Rx(1), Drop(1, DropReason::BadIpOptions)];
    lab.send(1, &packet.frame()).sends(dropped(DropReason::BadIpOptions), &[error.by(1)], &counts);
    // Nobody is told about what comes from nobody.
    let counts = [Rx(1), Drop(1, DropReason::MartianSource)];
    let packet = packet.from("127.0.0.1");
    lab.send(1, &packet.frame()).sends(dropped(DropReason::MartianSource), &[], &counts);
}

#[test]
fn headers_that_lie_are_refused() {
    type Bend = fn(&mut Vec<u8>);
    let v4: [(Bend, DropReason); 7] = [
        (|b| b[14] = 0x65, DropReason::BadIpHeader),
        (|b| b[14] = 0x44, DropReason::BadIpHeader),
        (|b| b[14] = 0x4f, DropReason::BadIpHeader),
        (|b| lengthen(b), DropReason::BadIpHeader),
        (|b| b[24] ^= 1, DropReason::BadIpChecksum),
        (|b| b.truncate(30), DropReason::BadIpHeader),
        (|b| b.truncate(40), DropReason::BadIpHeader),
    ];
    let v6: [(Bend, DropReason); 3] = [
        (|b| b[14] = 0x45, DropReason::BadIpHeader),
        (|b| b[19] += 1, DropReason::BadIpHeader),
        (|b| b.truncate(50), DropReason::BadIpHeader),
    ];
    let cases = v4.map(|case| (Version::V4, case)).into_iter().chain(v6.map(|case| (Version::V6, case)));
    for (version, (bend, reason)) in cases {
        let mut lab = world(&open());
        let mut bytes = question(version).bytes();
        bend(&mut bytes);
        lab.send(1, &Frame::from_bytes(&bytes)).was_dropped(1, reason);
    }
    for version in BOTH {
        let mut lab = world(&open());
        let mut bytes = question(version).bytes();
        let at = bytes.len() - 5 - 8;
        // UDP's length is longer than the packet.
        bytes[at + 5] += 1;
        lab.send(1, &Frame::from_bytes(&bytes)).was_dropped(1, DropReason::BadTransport);
    }
}

#[test]
fn isolated_networks_are_silent_behind_their_own_gateway() {
    for version in BOTH {
        let mut lab = world(&policy());
        let probe = udp(version, ALICE, CAROL, (5000, 33434));
        // The first hop of a traceroute is the own gateway, ...
        let first = probe.clone().with_ttl(1);
        let error = about(&first, Says::TimeExceeded, GATEWAY1);
        let counts = [Rx(1), Drop(1, DropReason::TtlExceeded), WalkOf(0, "OUTPUT 0")];
        lab.send(1, &first.frame()).sends(dropped(DropReason::TtlExceeded), &[error.by(1)], &counts);
        // ... and then there is nothing,
        for ttl in [2, 64] {
            let counts = [
                Rx(1),
                Drop(1, DropReason::Isolated),
                Walk("FORWARD 1, DOCKER-ISOLATION 2, nat PREROUTING 0"),
            ];
            let packet = probe.clone().with_ttl(ttl);
            lab.send(1, &packet.frame()).sends(dropped(DropReason::Isolated), &[], &counts);
        }
        let back = tcp(version, CAROL, ALICE, (5000, 80), SYN, (1, 0));
        let counts =
            [Rx(3), Drop(3, DropReason::Isolated), Walk("FORWARD 1, DOCKER-ISOLATION 3, nat PREROUTING 0")];
        lab.send(3, &back.frame()).sends(dropped(DropReason::Isolated), &[], &counts);
        assert_eq!(lab.flows(), []);
        // but the other network's gateway answers, as Docker's does.
        let ping = echo(version, ALICE, GATEWAY2, 1, true);
        assert_eq!(lab.send(1, &ping.frame()).verdict, Verdict::Local);
    }
}

#[test]
fn nobody_is_told_about_an_error() {
    for version in BOTH {
        let mut lab = world(&open());
        let question = udp(version, SERVER, ALICE, (53, 5000));
        let error = told(ALICE, SERVER, Says::PortUnreachable, &question).with_ttl(1);
        lab.send(1, &error.frame()).was_dropped(1, DropReason::TtlExceeded);
        // Nor about messages that nobody knows not to be errors.
        let kind = if version == Version::V4 { 42 } else { 100 };
        let unknown = icmp(version, ALICE, SERVER, (kind, 0), [0; 4], question.ip()).with_ttl(1);
        lab.send(1, &unknown.frame()).was_dropped(1, DropReason::TtlExceeded);
    }
}

#[test]
fn fragments_bring_one_error_at_most() {
    for version in BOTH {
        let mut lab = world(&open());
        let packet = question(version).with_payload(2000).with_ttl(1).may_be_cut();
        let error = about(&packet, Says::TimeExceeded, GATEWAY1);
        let pieces = fragments(&packet, 1000);
        let (last, first) = pieces.split_last().unwrap();
        for piece in first {
            lab.send(1, &Frame::from_bytes(piece)).sends(Verdict::Held, &[], &[Rx(1)]);
        }
        let counts = [Rx(1), Drop(1, DropReason::TtlExceeded)];
        lab.send(1, &Frame::from_bytes(last)).sends(Verdict::Held, &[error.by(1)], &counts);
    }
}

#[test]
fn errors_are_limited_for_each_network() {
    for version in BOTH {
        let mut lab = world(&open());
        lab.apply(Change::Set(Settings { icmp_errors: 5, ..Settings::default() }));
        let late = question(version).with_ttl(1);
        let told = |lab: &mut Lab, port: u32, packet: &Packet, tries| -> usize {
            (0..tries).map(|_| lab.send(port, &packet.frame()).sent.len()).sum()
        };
        assert_eq!(told(&mut lab, 1, &late, 20), 5);
        let carols = udp(version, CAROL, SERVER, (1, 2)).with_ttl(1);
        assert_eq!(told(&mut lab, 3, &carols, 20), 5, "another network has its own allowance");
        lab.wait(Duration::from_millis(400));
        assert_eq!(told(&mut lab, 1, &late, 20), 2);
        lab.wait(Duration::from_secs(100));
        assert_eq!(told(&mut lab, 1, &late, 20), 5);
    }
}
