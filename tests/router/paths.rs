//! Which way packets take, and what stays in them on it: routes, uplinks, stations that move, headers.

use tapswitch::dataplane::{
    Change, DropReason, Frame, Interface, NetworkConfig, NetworkId, PortId, Role, Route, Verdict,
};
use tapswitch::wire::arp::Operation;
use tapswitch::wire::ip::{Prefix, Version};
use tapswitch::wire::{MacAddr, Offload};

use crate::common::lab::Count::{Drop, Flow, Learned, Mapped, Moved, Neighbour, Rx, Tx, Walk};
use crate::common::lab::{Lab, dropped, flood};
use crate::errors::{Says, about, told};
use crate::packets::{SYN, echo, icmp, super_frame, tcp, udp};
use crate::world::{
    ALICE, BACK, BOB, BOTH, CAROL, DAVE, GATEWAY1, NET1, NET2, OURS, OUT, OUT_NEW, OUTSIDE, Party, SERVER,
    WAN, addr, arp, interface, interface2, introduce, open, policy, prefix, world,
};

fn routed(port: u32) -> Verdict {
    Verdict::Routed(PortId(port))
}

fn route(to: &str, via: Party, interface: NetworkId, metric: u32) -> Route {
    let prefix = prefix(to);
    Route { prefix, via: Some(via.addr(prefix.version())), interface, metric }
}

/// Behind a container that routes: networks that only it knows.
const FAR: Party = Party { v4: "10.9.8.7", v6: "fd00:9:8::7", ..DAVE };

#[test]
fn the_longest_prefix_wins_then_the_lower_metric() {
    for (version, [short, long]) in
        BOTH.into_iter().zip([["10.0.0.0/8", "10.9.8.0/24"], ["fd00:9::/32", "fd00:9:8::/48"]])
    {
        let mut lab = world(&open());
        let packet = udp(version, ALICE, FAR, (5000, 53));
        let goes = |lab: &mut Lab, to: Party| {
            let leaves = packet.clone().routed(to);
            let passage = lab.send(1, &packet.frame());
            assert_eq!((passage.verdict, passage.sent), (routed(to.port), vec![leaves.by(to.port)]));
        };
        goes(&mut lab, OUTSIDE);
        lab.apply(Change::AddRoute(route(short, CAROL, NET2, 5)));
        goes(&mut lab, CAROL);
        lab.apply(Change::AddRoute(route(short, BOB, NET1, 3)));
        goes(&mut lab, BOB);
        lab.apply(Change::AddRoute(route(long, DAVE, NET2, 100)));
        goes(&mut lab, DAVE);
        lab.apply(Change::RemoveRoute(route(long, DAVE, NET2, 100)));
        goes(&mut lab, BOB);
    }
}

/// A router container on a network works as on a real LAN: each hop takes one from the TTL and can be seen.
#[test]
fn a_traceroute_shows_both_routers() {
    for (version, behind) in BOTH.into_iter().zip(["10.9.8.0/24", "fd00:9:8::/48"]) {
        let mut lab = world(&open());
        lab.apply(Change::AddRoute(route(behind, DAVE, NET2, 0)));
        let probe = udp(version, ALICE, FAR, (5000, 33434));
        let first = probe.clone().with_ttl(1);
        let error = about(&first, Says::TimeExceeded, GATEWAY1);
        let counts = [Rx(1), Drop(1, DropReason::TtlExceeded)];
        lab.send(1, &first.frame()).sends(dropped(DropReason::TtlExceeded), &[error.by(1)], &counts);
        let second = probe.with_ttl(2);
        let leaves = second.clone().routed(DAVE);
        assert_eq!(leaves.ttl, 1);
        lab.send(1, &second.frame()).sends(routed(4), &[leaves.by(4)], &[Rx(1), Flow]);
        let error = told(DAVE, ALICE, Says::TimeExceeded, &leaves);
        let sent = [error.clone().routed(ALICE).by(1)];
        lab.send(4, &error.frame()).sends(routed(1), &sent, &[Rx(4)]);
    }
}

const SECOND_UPLINK: Party = Party {
    port: u32::MAX,
    mac: MacAddr([2, 0x42, 192, 0, 2, 1]),
    gateway: MacAddr([2, 0x42, 192, 0, 2, 1]),
    v4: "192.0.2.1",
    v6: "2001:db8:2::1",
};
const SECOND_ROUTER: Party = Party {
    port: 8,
    mac: MacAddr([2, 0x42, 192, 0, 2, 2]),
    gateway: SECOND_UPLINK.mac,
    v4: "192.0.2.2",
    v6: "2001:db8:2::2",
};

/// The world with a second uplink, which net2 prefers.
fn with_two_uplinks() -> Lab {
    const SECOND: NetworkId = NetworkId(3);
    let mut lab = world(&policy());
    lab.apply(Change::AddNetwork(SECOND, NetworkConfig::default()));
    lab.apply(Change::AddPort(PortId(8), SECOND));
    lab.apply(Change::SetInterface(SECOND, Some(interface(Role::Uplink, SECOND_UPLINK, 24))));
    for all in [Prefix::ALL_V4, Prefix::ALL_V6] {
        let via = Some(SECOND_ROUTER.addr(all.version()));
        lab.apply(Change::AddRoute(Route { prefix: all, via, interface: SECOND, metric: 10 }));
    }
    lab.apply(Change::SetInterface(NET2, Some(Interface { uplink: Some(SECOND), ..interface2() })));
    lab.settle();
    let questions = [
        crate::world::arp_request(SECOND_ROUTER, SECOND_UPLINK.v4),
        crate::world::solicitation(SECOND_ROUTER, SECOND_UPLINK.v6),
    ];
    questions.iter().for_each(|question| drop(lab.send(8, question)));
    [CAROL, DAVE].into_iter().for_each(|party| introduce(&mut lab, party));
    lab
}

#[test]
fn each_network_prefers_its_own_uplink() {
    for version in BOTH {
        let mut lab = with_two_uplinks();
        let packet = udp(version, ALICE, SERVER, (5000, 53));
        let leaves = packet.clone().from(OURS).routed(OUTSIDE);
        lab.send(1, &packet.frame()).sends(routed(9), &[leaves.by(9)], &[Rx(1), Flow, Mapped, Walk(OUT_NEW)]);
        let packet = udp(version, CAROL, SERVER, (5000, 53));
        let leaves = packet.clone().from(SECOND_UPLINK).routed(SECOND_ROUTER);
        let passage = lab.send(3, &packet.frame());
        assert_eq!((passage.verdict, passage.sent), (routed(8), vec![leaves.by(8)]));
        let answer = udp(version, SERVER, SECOND_UPLINK, (53, 5000));
        let answer = crate::packets::Packet { macs: (SECOND_ROUTER.mac, SECOND_UPLINK.mac), ..answer };
        let leaves = answer.clone().to(CAROL).routed(CAROL);
        let passage = lab.send(8, &answer.frame());
        assert_eq!((passage.verdict, passage.sent), (routed(3), vec![leaves.by(3)]));
    }
}

#[test]
fn who_comes_by_one_uplink_is_answered_by_it() {
    for version in BOTH {
        let mut lab = with_two_uplinks();
        // By the first one, to carol, whose own traffic takes the second.
        let packet = tcp(version, SERVER, OURS, (6000, 8000), SYN, (1, 0));
        assert_eq!(lab.send(9, &packet.frame()).verdict, routed(3));
        let ping = echo(version, SERVER, SECOND_UPLINK, 1, true);
        let ping = crate::packets::Packet { macs: (SECOND_ROUTER.mac, SECOND_UPLINK.mac), ..ping };
        let passage = lab.send(8, &ping.frame());
        assert_eq!(passage.verdict, Verdict::Local);
        assert_eq!(passage.sent.len(), 1);
    }
}

#[test]
fn a_station_that_moves_keeps_its_flows() {
    for version in BOTH {
        let mut lab = world(&policy());
        let there = udp(version, ALICE, SERVER, (5000, 53));
        let back = udp(version, SERVER, OURS, (53, 5000));
        let _ = lab.send(1, &there.frame());
        let leaves = back.clone().to(ALICE).routed(ALICE);
        lab.send(9, &back.frame()).sends(routed(1), &[leaves.by(1)], &[Rx(9), Walk(BACK)]);
        // To another port, ...
        let hello = crate::packets::Packet { macs: (ALICE.mac, MacAddr::BROADCAST), ..there.clone() };
        lab.send(2, &hello.frame()).is(flood(0), &[1], &[Rx(2), Tx(1), Moved(0)]);
        lab.send(9, &back.frame()).sends(routed(2), &[leaves.by(2)], &[Rx(9), Walk(BACK)]);
        // ... and to another MAC address.
        if version == Version::V4 {
            let mac = MacAddr([2, 0, 0, 0, 0, 5]);
            let gratuitous =
                arp(mac, ALICE.v4, MacAddr::ZERO, ALICE.v4, Operation::Request, MacAddr::BROADCAST);
            let counts = [Rx(1), Tx(2), Learned(0), Neighbour("moved", 1)];
            lab.send(1, &Frame::from_bytes(&gratuitous)).is(flood(0), &[2], &counts);
            let leaves = back.clone().to(ALICE).routed(Party { mac, ..ALICE });
            lab.send(9, &back.frame()).sends(routed(1), &[leaves.by(1)], &[Rx(9), Walk(BACK)]);
        }
    }
}

#[test]
fn a_port_that_is_down_takes_nothing() {
    for version in BOTH {
        let mut lab = world(&open());
        let packet = udp(version, ALICE, CAROL, (5000, 53));
        let _ = lab.send(1, &packet.frame());
        lab.apply(Change::SetPort(PortId(3), false));
        // Whoever was behind it is no more known to be.
        let passage = lab.send(1, &packet.frame());
        assert!(passage.sent.iter().all(|(port, ..)| *port == 4), "{:?}", passage.sent);
        lab.apply(Change::SetPort(PortId(3), true));
        introduce(&mut lab, CAROL);
        let leaves = packet.clone().routed(CAROL);
        lab.send(1, &packet.frame()).sends(routed(3), &[leaves.by(3)], &[Rx(1)]);
    }
}

#[test]
fn what_routers_do_not_care_about_stays() {
    for version in BOTH {
        let mut lab = world(&policy());
        let mut packet = udp(version, ALICE, SERVER, (5000, 53)).with_ttl(255);
        packet.tos = 0xb9;
        if version == Version::V4 {
            // Router alert (RFC 2113), and padding.
            packet.options = vec![148, 4, 0, 0, 1, 1, 1, 0];
        }
        let leaves = packet.clone().from(OURS).routed(OUTSIDE);
        assert_eq!((leaves.ttl, leaves.tos), (254, 0xb9));
        lab.send(1, &packet.frame()).sends(routed(9), &[leaves.by(9)], &[Rx(1), Flow, Mapped, Walk(OUT_NEW)]);
        lab.send(1, &packet.frame()).sends(routed(9), &[leaves.by(9)], &[Rx(1), Walk(OUT)]);
    }
}

#[test]
fn extension_headers_are_passed_on_and_looked_behind() {
    let with_options = |bytes: Vec<u8>| {
        // Destination options: PadN of six bytes in all.
        let mut bytes = bytes;
        let next = std::mem::replace(&mut bytes[20], 60);
        bytes.splice(54..54, [next, 0, 1, 4, 0, 0, 0, 0]);
        let length = (bytes.len() - 54) as u16;
        bytes[18..20].copy_from_slice(&length.to_be_bytes());
        bytes
    };
    let mut lab = world(&policy());
    let packet = udp(Version::V6, ALICE, SERVER, (5000, 53));
    let leaves = with_options(packet.clone().from(OURS).routed(OUTSIDE).bytes());
    let counts = [Rx(1), Flow, Mapped, Walk(OUT_NEW)];
    let frame = Frame::from_bytes(&with_options(packet.bytes()));
    lab.send(1, &frame).sends(routed(9), &[(9, leaves, Offload::NONE)], &counts);
    let answer = udp(Version::V6, SERVER, OURS, (53, 5000));
    let leaves = answer.clone().to(ALICE).routed(ALICE);
    lab.send(9, &answer.frame()).sends(routed(1), &[leaves.by(1)], &[Rx(9), Walk(BACK)]);
}

#[test]
fn timestamps_are_queries_like_pings() {
    let mut lab = world(&policy());
    let query = |from, to, kind| icmp(Version::V4, from, to, (kind, 0), [0, 9, 0, 1], vec![0; 12]);
    let packet = query(ALICE, SERVER, 13);
    let leaves = packet.clone().from((OURS, 9)).routed(OUTSIDE);
    lab.send(1, &packet.frame()).sends(routed(9), &[leaves.by(9)], &[Rx(1), Flow, Mapped, Walk(OUT_NEW)]);
    let answer = query(SERVER, OURS, 14);
    let leaves = answer.clone().to((ALICE, 9)).routed(ALICE);
    lab.send(9, &answer.frame()).sends(routed(1), &[leaves.by(1)], &[Rx(9), Walk(BACK)]);
}

/// What its device was to complete, an error quotes completed.
#[test]
fn an_error_about_a_packet_without_its_checksum_quotes_it_with() {
    for version in BOTH {
        let mut lab = world(&open());
        for packet in [
            udp(version, ALICE, GATEWAY1, (5000, 53)),
            udp(version, ALICE, GATEWAY1, (5000, 53)).with_payload(400),
        ] {
            let (bytes, offload) = super_frame(&packet, 0);
            let mut frame = Frame::new();
            frame.set(&bytes, offload);
            let error = about(&packet, Says::PortUnreachable, GATEWAY1);
            lab.send(1, &frame).sends(Verdict::Local, &[error.by(1)], &[Rx(1)]);
        }
    }
}

#[test]
fn an_address_of_ours_is_ours_by_every_network() {
    for version in BOTH {
        let mut lab = world(&open());
        let away = Party { v4: "172.19.0.77", v6: "fd00:19::77", ..CAROL };
        let ping = echo(version, away, GATEWAY1, 1, true);
        let passage = lab.send(3, &ping.frame());
        // An address of net1 on net2: the answer goes where net1 is, if to anybody.
        assert_eq!(passage.verdict, Verdict::Local);
        assert!(passage.sent.iter().all(|(port, ..)| [1, 2].contains(port)), "{:?}", passage.sent);
        assert_eq!(addr(GATEWAY1.v4), GATEWAY1.addr(Version::V4));
        assert!(lab.switch.network(WAN).is_some());
    }
}
