//! What a gateway says of its own: ARP, neighbour discovery, pings, advertisements.

use std::time::Duration;

use tapswitch::dataplane::{Change, DropReason, Frame, Interface, NetworkConfig, Verdict};
use tapswitch::wire::arp::Operation;
use tapswitch::wire::ip::{Addr, Version};
use tapswitch::wire::ndp::{self, ALL_NODES, Advertisement, Envelope};
use tapswitch::wire::{MacAddr, Offload};

use crate::common::lab::Count::{Ct, Drop, Flow, Learned, Neighbour, Rx, Tx, Walk, WalkOf};
use crate::common::lab::{Lab, Sent, dropped, flood};
use crate::errors::{Says, about};
use crate::packets::{ACK, Body, Packet, RST, SYN, echo, icmp, other, tcp, udp};
use crate::world::{
    ALICE, BOB, BOTH, CAROL, GATEWAY1, GATEWAY2, NET1, OURS, OUTSIDE, Party, SERVER, addr, arp, arp_request,
    interface1, policy, prefix, solicitation, strangers, world,
};

/// What the first packet from net1 to an address of ours meets.
const TO_US: &str = "INPUT 0, nat PREROUTING 1 2 0, nat DOCKER 1";

fn default() -> [NetworkConfig; 3] {
    [NetworkConfig::default(); 3]
}

/// The answer of a gateway to a ping.
fn pong(from: Party, to: Party, id: u16, version: Version) -> Packet {
    Packet { macs: (to.gateway, to.mac), ..echo(version, from, to, id, false) }
}

/// A frame of our own.
fn own(port: u32, bytes: Vec<u8>) -> Sent {
    (port, bytes, Offload::NONE)
}

/// `mac` has the address.
fn arp_reply(of: Party, address: &str, to: Party) -> Sent {
    own(to.port, arp(of.mac, address, to.mac, to.v4, Operation::Reply, to.mac))
}

fn advertisement(envelope: Envelope, of: Party, target: Addr, flags: [bool; 3]) -> Vec<u8> {
    let [router, solicited, overrides] = flags;
    let message = Advertisement { target, mac: Some(of.mac), router, solicited, overrides };
    let mut bytes = Vec::new();
    ndp::neighbour_advertisement(&mut bytes, &envelope, &message);
    bytes
}

/// The answer to a neighbour solicitation.
fn ndp_reply(of: Party, to: Party) -> Sent {
    let (source, destination) = (addr(of.v6), addr(to.v6));
    let envelope = Envelope { source_mac: of.mac, destination_mac: to.mac, source, destination };
    own(to.port, advertisement(envelope, of, source, [true; 3]))
}

/// What a gateway says to all when it comes: a gratuitous ARP request, and advertisements.
fn announcements(of: Party, ports: &[u32]) -> Vec<Sent> {
    let gratuitous = arp(of.mac, of.v4, MacAddr::ZERO, of.v4, Operation::Request, MacAddr::BROADCAST);
    let unsolicited = |address| {
        let envelope = Envelope::multicast(of.mac, address, ALL_NODES);
        advertisement(envelope, of, address, [true, false, true])
    };
    let frames = [gratuitous, unsolicited(addr(of.v6)), unsolicited(ndp::link_local(of.mac))];
    frames.iter().flat_map(|frame| ports.iter().map(|port| own(*port, frame.clone()))).collect()
}

#[test]
fn a_gateway_answers_pings_to_all_its_addresses() {
    for version in BOTH {
        for gateway in [GATEWAY1, GATEWAY2, OURS] {
            let mut lab = world(&policy());
            let ping = echo(version, ALICE, gateway, 5, true);
            let reply = pong(gateway, ALICE, 5, version);
            let counts = [Rx(1), Flow, Walk(TO_US), WalkOf(0, "OUTPUT 0")];
            lab.send(1, &ping.frame()).sends(Verdict::Local, &[reply.by(1)], &counts);
            // A ping with the same identifier is the same flow.
            let counts = [Rx(1), Walk("INPUT 0"), WalkOf(0, "OUTPUT 0")];
            lab.send(1, &ping.with_ttl(1).frame()).sends(Verdict::Local, &[reply.by(1)], &counts);
        }
    }
}

#[test]
fn a_ping_from_outside_is_answered_to_the_next_router() {
    for version in BOTH {
        let mut lab = world(&policy());
        let reply = pong(OURS, SERVER, 5, version);
        let counts = [Rx(9), Flow, Walk("INPUT 0, nat PREROUTING 1 2 0"), WalkOf(0, "OUTPUT 0")];
        let ping = echo(version, SERVER, OURS, 5, true);
        lab.send(9, &ping.frame()).sends(Verdict::Local, &[reply.by(9)], &counts);
    }
}

#[test]
fn a_ping_with_a_wrong_checksum_is_dropped() {
    for version in BOTH {
        let mut lab = world(&policy());
        let mut bytes = echo(version, ALICE, GATEWAY1, 5, true).bytes();
        *bytes.last_mut().unwrap() ^= 1;
        lab.send(1, &Frame::from_bytes(&bytes)).was_dropped(1, DropReason::BadTransport);
    }
}

#[test]
fn what_nobody_answers_is_dropped() {
    for version in BOTH {
        let mut lab = world(&policy());
        // An echo reply that answers nothing begins no flow.
        let reply = echo(version, ALICE, GATEWAY1, 5, false);
        let counts = [Rx(1), Drop(1, DropReason::CtInvalid), Ct("invalid", 1)];
        lab.send(1, &reply.frame()).sends(dropped(DropReason::CtInvalid), &[], &counts);
        let gre = other(version, ALICE, GATEWAY1, 47);
        let passage = lab.send(1, &gre.frame());
        assert_eq!((passage.verdict, passage.sent.len()), (dropped(DropReason::NotAnswered), 0));
    }
}

#[test]
fn arp_and_solicitations_are_answered_and_teach() {
    let mut lab = strangers(&policy(), default());
    let learned = [Learned(0), Neighbour("entries", 1), Neighbour("resolved", 1)];
    let question = arp_request(ALICE, GATEWAY1.v4);
    let bytes = question.bytes().to_vec();
    let sent = [own(2, bytes), arp_reply(GATEWAY1, GATEWAY1.v4, ALICE)];
    lab.send(1, &question).sends(flood(0), &sent, &[&[Rx(1)], &learned[..]].concat());

    let question = solicitation(ALICE, GATEWAY1.v6);
    let sent = [own(2, question.bytes().to_vec()), ndp_reply(GATEWAY1, ALICE)];
    lab.send(1, &question).sends(flood(0), &sent, &[&[Rx(1)], &learned[1..]].concat());
    // A neighbour that is known teaches nothing new.
    let question = arp_request(ALICE, GATEWAY1.v4);
    let sent = [own(2, question.bytes().to_vec()), arp_reply(GATEWAY1, GATEWAY1.v4, ALICE)];
    lab.send(1, &question).sends(flood(0), &sent, &[Rx(1)]);
    // To the gateway alone: nobody else hears it.
    let mut probe = question.bytes().to_vec();
    probe[..6].copy_from_slice(&GATEWAY1.mac.0);
    lab.send(1, &Frame::from_bytes(&probe)).sends(
        Verdict::Local,
        &[arp_reply(GATEWAY1, GATEWAY1.v4, ALICE)],
        &[Rx(1)],
    );
}

#[test]
fn addresses_that_are_not_the_gateways_get_no_answer() {
    let mut lab = world(&policy());
    for address in ["172.19.0.3", "172.19.0.200", "172.20.0.1", "198.51.100.1", "203.0.113.80"] {
        lab.send(1, &arp_request(ALICE, address)).is(flood(0), &[2], &[Rx(1), Tx(2)]);
    }
    for address in ["fd00:19::3", "fd00:20::1", "2001:db8::1"] {
        lab.send(1, &solicitation(ALICE, address)).is(flood(0), &[2], &[Rx(1), Tx(2)]);
    }
}

#[test]
fn a_probe_for_duplicates_is_answered() {
    let mut lab = world(&policy());
    // RFC 5227 §2.1.1: no sender address yet.
    let probe = arp(ALICE.mac, "0.0.0.0", MacAddr::ZERO, GATEWAY1.v4, Operation::Request, MacAddr::BROADCAST);
    let reply = arp(GATEWAY1.mac, GATEWAY1.v4, ALICE.mac, "0.0.0.0", Operation::Reply, ALICE.mac);
    lab.send(1, &Frame::from_bytes(&probe)).sends(flood(0), &[own(2, probe), own(1, reply)], &[Rx(1)]);
    // RFC 4862 §5.4: from the unspecified address, without a MAC address; the answer is for all.
    let nobody = Party { v6: "::", ..ALICE };
    let probe = without_option(&solicitation(nobody, GATEWAY1.v6));
    let envelope = Envelope::multicast(GATEWAY1.mac, addr(GATEWAY1.v6), ALL_NODES);
    let reply = advertisement(envelope, GATEWAY1, addr(GATEWAY1.v6), [true, false, true]);
    lab.send(1, &Frame::from_bytes(&probe)).sends(flood(0), &[own(2, probe), own(1, reply)], &[Rx(1)]);
}

/// A solicitation without its sender's MAC address.
fn without_option(frame: &Frame) -> Vec<u8> {
    let bytes = frame.bytes();
    let data = bytes[62..78].to_vec();
    let group = "ff02::1:ff00:1";
    let mut message = icmp(Version::V6, ALICE, ALICE, (135, 0), [0; 4], data).from("::").to(group);
    message.macs = (ALICE.mac, ndp::multicast_mac(addr(group)));
    message.with_ttl(255).bytes()
}

#[test]
fn a_new_gateway_announces_itself_once() {
    let mut lab = strangers(&policy(), default());
    assert_eq!(lab.settle(), [], "it did when it came");
    let moved = Interface { mac: MacAddr([2, 0, 0, 0, 0, 77]), ..interface1() };
    lab.apply(Change::SetInterface(NET1, Some(moved)));
    let there = Party { mac: MacAddr([2, 0, 0, 0, 0, 77]), ..GATEWAY1 };
    assert_eq!(lab.settle(), announcements(there, &[1, 2]));
    assert_eq!(lab.wait(Duration::from_secs(1000)), []);
    // The same again is no news.
    let moved = Interface { mac: there.mac, ..interface1() };
    lab.apply(Change::SetInterface(NET1, Some(moved)));
    assert_eq!(lab.settle(), []);
}

#[test]
fn who_speaks_in_the_gateways_name_is_contradicted_and_not_heard() {
    let mut lab = world(&policy());
    let martian = DropReason::MartianSource;
    let conflict = |lab: &Lab| lab.switch.network(NET1).unwrap().gateway.conflicts;
    let lies = [
        arp(ALICE.mac, GATEWAY1.v4, MacAddr::ZERO, GATEWAY1.v4, Operation::Request, MacAddr::BROADCAST),
        arp(ALICE.mac, GATEWAY1.v4, BOB.mac, BOB.v4, Operation::Reply, BOB.mac),
        arp(ALICE.mac, GATEWAY1.v4, GATEWAY1.mac, GATEWAY1.v4, Operation::Reply, GATEWAY1.mac),
        {
            let envelope = Envelope::multicast(ALICE.mac, addr(ALICE.v6), ALL_NODES);
            advertisement(envelope, ALICE, addr(GATEWAY1.v6), [false, false, true])
        },
    ];
    for (told, lie) in lies.into_iter().enumerate() {
        let protest = lab.send(1, &Frame::from_bytes(&lie));
        assert_eq!(protest.verdict, dropped(martian), "{told}");
        let all = announcements(GATEWAY1, &[1, 2]);
        // At most one protest in ten seconds (RFC 5227 §2.4 b).
        let expected = if told == 0 { &all[..2] } else { &[] };
        assert_eq!(protest.sent, expected);
        assert_eq!(conflict(&lab), told as u64 + 1);
    }
    lab.wait(Duration::from_secs(10));
    let lie = arp(BOB.mac, GATEWAY1.v4, MacAddr::ZERO, GATEWAY1.v4, Operation::Request, MacAddr::BROADCAST);
    assert_eq!(lab.send(2, &Frame::from_bytes(&lie)).sent, announcements(GATEWAY1, &[1, 2])[..2]);
}

#[test]
fn frames_from_the_gateways_mac_address_do_not_enter() {
    let mut lab = world(&policy());
    let mut forged = echo(Version::V4, ALICE, BOB, 1, true);
    forged.macs = (GATEWAY1.mac, BOB.mac);
    lab.send(1, &forged.frame()).was_dropped(1, DropReason::BadSource);
    assert!(lab.fdb(0).iter().all(|entry| entry.mac != GATEWAY1.mac));
}

#[test]
fn gratuitous_arp_updates_who_is_known_and_creates_nobody() {
    let mut lab = world(&policy());
    let moved = MacAddr([2, 0, 0, 0, 0, 9]);
    let gratuitous =
        |address| arp(moved, address, MacAddr::ZERO, address, Operation::Request, MacAddr::BROADCAST);
    let frame = Frame::from_bytes(&gratuitous(ALICE.v4));
    lab.send(1, &frame).is(flood(0), &[2], &[Rx(1), Tx(2), Learned(0), Neighbour("moved", 1)]);
    let frame = Frame::from_bytes(&gratuitous("172.19.0.99"));
    lab.send(1, &frame).is(flood(0), &[2], &[Rx(1), Tx(2)]);
    // An address that is not on the link is nobody's here.
    let frame = Frame::from_bytes(&gratuitous(CAROL.v4));
    lab.send(1, &frame).is(flood(0), &[2], &[Rx(1), Tx(2)]);
    let neighbours = lab.switch.neighbours().page(lab.now, 0, usize::MAX).0;
    let known = |address: &str| neighbours.iter().find(|row| row.address == addr(address)).map(|row| row.mac);
    assert_eq!(known(ALICE.v4), Some(Some(moved)));
    assert_eq!(known("172.19.0.99"), None);
    assert_eq!(known(OUTSIDE.v4), Some(Some(OUTSIDE.mac)));
}

// Router advertisements.

/// What a router advertises of net1, or nothing at all but that it is no default router.
fn router_advertisement(lifetime: u16) -> Vec<u8> {
    let prefixes = [prefix("fd00:19::/64")];
    let envelope = Envelope::multicast(GATEWAY1.mac, ndp::link_local(GATEWAY1.mac), ALL_NODES);
    let mut bytes = Vec::new();
    let router = ndp::Router { lifetime, mtu: 1500, prefixes: &prefixes, autonomous: false };
    ndp::router_advertisement(&mut bytes, &envelope, &router);
    bytes
}

fn advertising(lab: &mut Lab, advertise: bool) {
    lab.apply(Change::SetInterface(NET1, Some(Interface { advertise, ..interface1() })));
}

fn to_both(bytes: Vec<u8>) -> Vec<Sent> {
    vec![own(1, bytes.clone()), own(2, bytes)]
}

#[test]
fn a_network_that_asks_for_it_is_advertised_by_time_and_at_last_no_more() {
    let mut lab = world(&policy());
    assert_eq!(lab.wait(Duration::from_secs(3600)), [], "nobody asked");
    advertising(&mut lab, true);
    assert_eq!(lab.settle(), to_both(router_advertisement(1800)));
    // Two more at most 16 s apart (RFC 4861 §6.2.4), then one in 200 to 600 s.
    assert_eq!(lab.wait(Duration::from_secs(32)).len(), 4);
    assert_eq!(lab.wait(Duration::from_secs(168)).len(), 0);
    let hour = lab.wait(Duration::from_secs(3600)).len() / 2;
    assert!((6..=18).contains(&hour), "{hour} in an hour");
    advertising(&mut lab, false);
    assert_eq!(lab.settle(), to_both(router_advertisement(0)));
    assert_eq!(lab.wait(Duration::from_secs(3600)), []);
}

#[test]
fn a_router_solicitation_is_answered_soon_and_a_flood_of_them_seldom() {
    let mut lab = world(&policy());
    advertising(&mut lab, true);
    lab.wait(Duration::from_secs(100));
    let solicit = {
        let mut message = icmp(Version::V6, ALICE, ALICE, (133, 0), [0; 4], Vec::new());
        message = message.to("ff02::2").with_ttl(255);
        message.macs.1 = ndp::multicast_mac(addr("ff02::2"));
        message.frame()
    };
    lab.send(1, &solicit).is(flood(0), &[2], &[Rx(1), Tx(2)]);
    assert_eq!(lab.wait(Duration::from_millis(500)), to_both(router_advertisement(1800)));
    for _ in 0..20 {
        let _ = lab.send(1, &solicit);
    }
    assert_eq!(lab.wait(Duration::from_millis(2400)), []);
    assert_eq!(lab.wait(Duration::from_millis(1100)), to_both(router_advertisement(1800)));
}

#[test]
fn an_internal_network_gets_no_default_router() {
    let mut lab = world(&policy());
    let interface = Interface { advertise: true, internal: true, ..interface1() };
    lab.apply(Change::SetInterface(NET1, Some(interface)));
    assert_eq!(lab.settle(), to_both(router_advertisement(0)));
}

// Ports of ours, where nobody listens.

#[test]
fn closed_ports_are_refused_from_the_address_that_was_asked() {
    for (version, asked) in BOTH.into_iter().flat_map(|v| [(v, GATEWAY1), (v, GATEWAY2), (v, OURS)]) {
        let mut lab = world(&policy());
        let datagram = udp(version, ALICE, asked, (5000, 53));
        let error = about(&datagram, Says::PortUnreachable, asked);
        // What is refused is no flow.
        let counts = [Rx(1), Walk(TO_US), WalkOf(0, "OUTPUT 0")];
        lab.send(1, &datagram.frame()).sends(Verdict::Local, &[error.by(1)], &counts);

        let syn = tcp(version, ALICE, asked, (5000, 22), SYN, (100, 0));
        let mut reset = tcp(version, asked, ALICE, (22, 5000), RST | ACK, (0, 101));
        (reset.macs, reset.id) = ((GATEWAY1.mac, ALICE.mac), 0);
        if let Body::Tcp { window, .. } = &mut reset.body {
            *window = 0;
        }
        lab.send(1, &syn.frame()).sends(Verdict::Local, &[reset.by(1)], &counts);
    }
}

/// RFC 4861 §7.1: what came from afar says nothing about neighbours.
#[test]
fn solicitations_from_beyond_the_link_are_not_answered() {
    let mut lab = world(&policy());
    let mut bytes = solicitation(ALICE, GATEWAY1.v6).bytes().to_vec();
    bytes[21] = 254;
    lab.send(1, &Frame::from_bytes(&bytes)).is(flood(0), &[2], &[Rx(1), Tx(2)]);
    bytes[..6].copy_from_slice(&GATEWAY1.mac.0);
    lab.send(1, &Frame::from_bytes(&bytes)).was_dropped(1, DropReason::NotAnswered);
}

#[test]
fn pings_to_all_are_not_answered() {
    let mut lab = world(&policy());
    for destination in ["172.19.255.255", "255.255.255.255", "224.0.0.1"] {
        let mut ping = echo(Version::V4, ALICE, GATEWAY1, 1, true).to(destination);
        ping.macs.1 = MacAddr::BROADCAST;
        lab.send(1, &ping.frame()).is(flood(0), &[2], &[Rx(1), Tx(2)]);
    }
}

/// RFC 4443 §4.2, unlike RFC 1122 §3.2.2.6.
#[test]
fn pings_to_a_group_of_ipv6_are_answered() {
    let mut lab = world(&policy());
    for group in ["ff02::1", "ff02::2"] {
        let mut ping = echo(Version::V6, ALICE, GATEWAY1, 1, true).to(group);
        ping.macs.1 = ndp::multicast_mac(addr(group));
        let sent = [ping.by(2), pong(GATEWAY1, ALICE, 1, Version::V6).by(1)];
        lab.send(1, &ping.frame()).sends(flood(0), &sent, &[Rx(1), WalkOf(1, "OUTPUT 0")]);
    }
}
