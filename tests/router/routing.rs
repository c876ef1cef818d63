//! Packets that are routed, and what their senders are told when they are not (RFC 1812 §4.3, §5.2, §5.3).

use tapswitch::dataplane::{
    Change, DropReason, Frame, Interface, NetworkConfig, PortId, Route, Settings, Verdict,
};
use tapswitch::wire::Offload;
use tapswitch::wire::ip::{Prefix, Version};

use crate::common::lab::Count::{Drop, Flow, Rx};
use crate::common::lab::{Lab, dropped};
use crate::errors::{Says, about};
use crate::packets::{Packet, SYN, echo, fragments, other, tcp, udp};
use crate::world::{
    ALICE, BOB, BOTH, CAROL, GATEWAY1, NET1, OUTSIDE, SERVER, WAN, interface1, open, world, world_of,
};

fn routed(port: u32) -> Verdict {
    Verdict::Routed(PortId(port))
}

/// The world without rules.
fn plain() -> Lab {
    world(&open())
}

/// The world without rules, with this MTU outside.
fn narrow(mtu: u32) -> Lab {
    let wan = NetworkConfig { mtu, ..NetworkConfig::default() };
    world_of(&open(), [NetworkConfig::default(), NetworkConfig::default(), wan])
}

/// Asserts that a packet is dropped, its sender told by the gateway, and that this is all.
fn is_told(lab: &mut Lab, packet: &Packet, reason: DropReason, says: Says) {
    let error = about(packet, says, GATEWAY1);
    let counts = [Rx(1), Drop(1, reason)];
    lab.send(1, &packet.frame()).sends(dropped(reason), &[error.by(1)], &counts);
}

/// Asserts that a packet of Alice's is dropped and nobody told.
fn is_dropped(lab: &mut Lab, packet: &Packet, reason: DropReason) {
    lab.send(1, &packet.frame()).was_dropped(1, reason);
}

#[test]
fn packets_are_routed_between_networks_both_ways() {
    for version in BOTH {
        let mut lab = plain();
        let there = [
            udp(version, ALICE, CAROL, (5000, 53)),
            tcp(version, ALICE, CAROL, (5000, 80), SYN, (1, 0)),
            echo(version, ALICE, CAROL, 9, true),
            other(version, ALICE, CAROL, 47),
        ];
        for packet in &there {
            let leaves = packet.clone().routed(CAROL);
            assert_eq!(leaves.ttl, 63);
            lab.send(1, &packet.frame()).sends(routed(3), &[leaves.by(3)], &[Rx(1), Flow]);
            // The flow is known now, and remembers its way.
            lab.send(1, &packet.frame()).sends(routed(3), &[leaves.by(3)], &[Rx(1)]);
        }
        let back = [
            udp(version, CAROL, ALICE, (53, 5000)),
            echo(version, CAROL, ALICE, 9, false),
            other(version, CAROL, ALICE, 47),
        ];
        for packet in &back {
            let leaves = packet.clone().routed(ALICE);
            lab.send(3, &packet.frame()).sends(routed(1), &[leaves.by(1)], &[Rx(3)]);
        }
        assert_eq!(lab.flows().len(), 4);
    }
}

#[test]
fn who_sends_to_his_own_network_by_the_gateway_is_served() {
    for version in BOTH {
        let mut lab = plain();
        let packet = udp(version, ALICE, BOB, (5000, 53));
        let leaves = packet.clone().routed(BOB);
        lab.send(1, &packet.frame()).sends(routed(2), &[leaves.by(2)], &[Rx(1), Flow]);
    }
}

#[test]
fn padding_is_cut_off() {
    let mut lab = plain();
    let mut short = udp(Version::V4, ALICE, CAROL, (5000, 53)).with_payload(1);
    short.id = 9;
    let mut padded = short.bytes();
    padded.resize(60, 0xaa);
    let leaves = short.routed(CAROL);
    lab.send(1, &Frame::from_bytes(&padded)).sends(routed(3), &[leaves.by(3)], &[Rx(1), Flow]);
}

#[test]
fn time_runs_out_at_the_gateway() {
    for (version, ttl) in BOTH.into_iter().flat_map(|version| [(version, 0), (version, 1)]) {
        let mut lab = plain();
        for packet in [
            udp(version, ALICE, CAROL, (5000, 33434)),
            tcp(version, ALICE, SERVER, (5000, 80), SYN, (1, 0)),
            echo(version, ALICE, CAROL, 9, true),
            udp(version, ALICE, CAROL, (5000, 33434)).with_payload(1400),
        ] {
            is_told(&mut lab, &packet.with_ttl(ttl), DropReason::TtlExceeded, Says::TimeExceeded);
        }
        assert_eq!(lab.flows(), [], "what is dropped leaves no trace");
    }
}

#[test]
fn a_known_flow_also_runs_out_of_time() {
    for version in BOTH {
        let mut lab = plain();
        let packet = udp(version, ALICE, CAROL, (5000, 33434));
        let _ = lab.send(1, &packet.frame());
        is_told(&mut lab, &packet.with_ttl(1), DropReason::TtlExceeded, Says::TimeExceeded);
    }
}

#[test]
fn without_a_route_the_network_is_unreachable() {
    for (version, prefix) in BOTH.into_iter().zip([Prefix::ALL_V4, Prefix::ALL_V6]) {
        let mut lab = plain();
        let via = Some(OUTSIDE.addr(version));
        lab.apply(Change::RemoveRoute(Route { prefix, via, interface: WAN, metric: 0 }));
        let packet = udp(version, ALICE, SERVER, (5000, 53));
        is_told(&mut lab, &packet, DropReason::NoRoute, Says::NetUnreachable);
    }
}

#[test]
fn what_must_not_be_cut_is_too_big_and_its_sender_learns_the_mtu() {
    for version in BOTH {
        let mut lab = narrow(1300);
        let headers = if version == Version::V4 { 28 } else { 48 };
        let fits = udp(version, ALICE, SERVER, (5000, 53)).with_payload(1300 - headers);
        let leaves = fits.clone().routed(OUTSIDE);
        lab.send(1, &fits.frame()).sends(routed(9), &[leaves.by(9)], &[Rx(1), Flow]);
        let packet = udp(version, ALICE, SERVER, (5000, 53)).with_payload(1301 - headers);
        is_told(&mut lab, &packet, DropReason::TooBig, Says::TooBig(1300));
        let mut forgiving = packet;
        forgiving.body = match forgiving.body {
            crate::packets::Body::Udp { data, checksum, .. } => {
                crate::packets::Body::Udp { ports: (6000, 53), data, checksum }
            }
            body => body,
        };
        is_told(&mut lab, &forgiving, DropReason::TooBig, Says::TooBig(1300));
        assert_eq!(lab.flows().len(), 1);
    }
}

#[test]
fn ipv4_packets_are_cut_when_they_may_be() {
    let mut lab = narrow(600);
    for len in [573, 1000, 1472] {
        let packet = udp(Version::V4, ALICE, SERVER, (len, 53)).with_payload(len.into()).may_be_cut();
        let leaves = fragments(&packet.clone().routed(OUTSIDE), 600);
        assert!(leaves.len() > 1 && leaves.iter().all(|piece| piece.len() <= 614));
        let leaves: Vec<_> = leaves.into_iter().map(|piece| (9, piece, Offload::NONE)).collect();
        lab.send(1, &packet.frame()).sends(routed(9), &leaves, &[Rx(1), Flow]);
    }
}

#[test]
fn forwarding_can_be_switched_off_for_all_and_per_network() {
    for version in BOTH {
        let mut lab = plain();
        let packet = udp(version, ALICE, CAROL, (5000, 53));
        let mut settings = Settings::default();
        match version {
            Version::V4 => settings.forward_v4 = false,
            Version::V6 => settings.forward_v6 = false,
        }
        lab.apply(Change::Set(settings));
        is_dropped(&mut lab, &packet, DropReason::ForwardingOff);
        // Its own addresses answer.
        let ping = echo(version, ALICE, GATEWAY1, 1, true);
        assert_eq!(lab.send(1, &ping.frame()).verdict, Verdict::Local);
        lab.apply(Change::Set(Settings::default()));
        for network in [NET1, crate::world::NET2] {
            let mut lab = plain();
            let on = lab.switch.interface(network).unwrap().clone();
            lab.apply(Change::SetInterface(network, Some(Interface { forward: false, ..on })));
            is_dropped(&mut lab, &packet, DropReason::ForwardingOff);
        }
    }
}

#[test]
fn a_flow_that_is_known_stops_when_forwarding_does() {
    for version in BOTH {
        let mut lab = plain();
        let packet = udp(version, ALICE, CAROL, (5000, 53));
        let _ = lab.send(1, &packet.frame());
        lab.apply(Change::SetInterface(NET1, Some(Interface { forward: false, ..interface1() })));
        is_dropped(&mut lab, &packet, DropReason::ForwardingOff);
    }
}
