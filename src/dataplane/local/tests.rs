use std::net::IpAddr;

use super::ndp::Sender;
use super::*;
use crate::dataplane::neighbour::Conflict;
use crate::dataplane::{InterfaceAddress, MssClamp, NetworkId, Role};
use crate::wire::ip::Prefix;
use crate::wire::ndp::{Advertisement, Message};

const OURS: MacAddr = MacAddr([2, 0x42, 0, 0, 0, 1]);
const HOST: MacAddr = MacAddr([2, 0x42, 0, 0, 0, 2]);

fn addr(text: &str) -> Addr {
    text.parse::<IpAddr>().unwrap().into()
}

fn interface(addresses: &[(&str, u8)]) -> Interface {
    let address = |(text, len): &(&str, u8)| InterfaceAddress {
        address: addr(text),
        prefix: Prefix::new(addr(text), *len),
    };
    Interface {
        role: Role::Network,
        mac: OURS,
        addresses: addresses.iter().map(address).collect(),
        forward: true,
        internal: false,
        advertise: true,
        mss_clamp: MssClamp::Off,
        uplink: None,
        filter_bridged: false,
        sockets: false,
    }
}

fn gateway() -> Interface {
    interface(&[("172.17.0.1", 16), ("10.1.0.1", 24), ("fd00:17::1", 64)])
}

fn arp(operation: Operation, sender: &str, target: &str) -> Arp {
    let target_mac = if operation == Operation::Reply { OURS } else { MacAddr::ZERO };
    Arp { operation, sender_mac: HOST, sender: addr(sender), target_mac, target: addr(target) }
}

#[test]
fn arp_is_answered_for_our_addresses_only() {
    use Operation::{Reply, Request};
    // sender, target, operation, to us alone? → answered, creates, confirms, replaces
    let rows = [
        ("172.17.0.2", "172.17.0.1", Request, false, Some((true, true, false, Conflict::Replace))),
        ("172.17.0.2", "10.1.0.1", Request, true, Some((true, true, false, Conflict::Replace))),
        ("172.17.0.2", "172.17.0.9", Request, false, Some((false, false, false, Conflict::ReplaceOld))),
        ("172.17.0.2", "172.18.0.1", Request, false, Some((false, false, false, Conflict::ReplaceOld))),
        ("172.17.0.2", "172.17.0.2", Request, false, Some((false, false, false, Conflict::Replace))),
        ("172.17.0.2", "172.17.0.1", Reply, true, Some((false, false, true, Conflict::ReplaceOld))),
        ("172.17.0.2", "172.17.0.1", Reply, false, Some((false, false, false, Conflict::ReplaceOld))),
        ("172.17.0.2", "172.17.0.9", Reply, true, Some((false, false, false, Conflict::ReplaceOld))),
        // Who is not on the link is answered and not learned; neither are broadcast addresses.
        ("192.168.9.9", "172.17.0.1", Request, false, None),
        ("172.17.255.255", "172.17.0.1", Request, false, None),
        ("172.17.0.0", "172.17.0.1", Request, false, None),
        ("224.0.0.1", "172.17.0.1", Request, false, None),
        ("127.0.0.1", "172.17.0.1", Request, false, None),
        // A probe (RFC 5227 §2.1.1) is answered: the address is taken.
        ("0.0.0.0", "172.17.0.1", Request, false, None),
    ];
    for (sender, target, operation, to_us, expected) in rows {
        let packet = arp(operation, sender, target);
        let heard = super::arp::hear(&gateway(), if to_us { OURS } else { MacAddr::BROADCAST }, &packet);
        let what = format!("{sender} {operation:?} {target}");
        let claim = heard.claim.map(|c| (heard.answer.is_some(), c.creates, c.confirms, c.conflict));
        assert_eq!(claim, expected, "{what}");
        assert_eq!(heard.conflict, None, "{what}");
        if expected.is_none() {
            assert!(heard.answer.is_some(), "{what}");
        }
    }
}

#[test]
fn the_arp_reply_byte_by_byte() {
    let packet = arp(Operation::Request, "172.17.0.2", "172.17.0.1");
    let heard = super::arp::hear(&gateway(), MacAddr::BROADCAST, &packet);
    let mut frame = vec![9; 100];
    heard.answer.unwrap().build(&mut frame);
    #[rustfmt::skip]
    let expected = [
        2, 0x42, 0, 0, 0, 2, 2, 0x42, 0, 0, 0, 1, 8, 6,
        0, 1, 8, 0, 6, 4, 0, 2,
        2, 0x42, 0, 0, 0, 1, 172, 17, 0, 1,
        2, 0x42, 0, 0, 0, 2, 172, 17, 0, 2,
    ];
    assert_eq!(frame, expected);
}

#[test]
fn nobody_takes_over_the_gateways_address() {
    for operation in [Operation::Request, Operation::Reply] {
        for target in ["172.17.0.1", "172.17.0.9", "0.0.0.0"] {
            let heard =
                super::arp::hear(&gateway(), MacAddr::BROADCAST, &arp(operation, "172.17.0.1", target));
            assert_eq!(heard, Heard { conflict: Some(addr("172.17.0.1")), ..Heard::default() });
        }
    }
    for ours in ["fd00:17::1", "fe80::42:ff:fe00:1"].map(addr) {
        let (mac, router, solicited, overrides) = (Some(HOST), false, false, true);
        let said = Advertisement { target: ours, mac, router, solicited, overrides };
        let sender = Sender { mac: HOST, address: addr("fe80::2") };
        let heard = super::ndp::hear(&gateway(), sender, &Message::NeighbourAdvertisement(said), true);
        assert_eq!(heard, Heard { conflict: Some(ours), ..Heard::default() });
        let asked = Message::NeighbourSolicitation { target: addr("fd00:17::9"), mac: Some(HOST) };
        let heard = super::ndp::hear(&gateway(), Sender { mac: HOST, address: ours }, &asked, true);
        assert_eq!(heard, Heard { conflict: Some(ours), ..Heard::default() });
    }
    let mut state = Gateway::default();
    let times = [0, 1, 9, 10, 11, 25].map(|s| state.conflict(Instant(s * 1_000_000_000)));
    assert_eq!(times, [true, false, false, true, false, true], "defended every ten seconds at most");
    assert_eq!(state.conflicts, 6);
}

#[test]
fn macs_of_nobody_and_of_the_gateway_are_not_heard() {
    for mac in [OURS, MacAddr::BROADCAST, MacAddr::ZERO, MacAddr([1, 0, 0x5e, 0, 0, 1])] {
        let packet = Arp { sender_mac: mac, ..arp(Operation::Request, "172.17.0.2", "172.17.0.1") };
        assert_eq!(super::arp::hear(&gateway(), OURS, &packet), Heard::default());
        let asked = Message::NeighbourSolicitation { target: addr("fd00:17::1"), mac: Some(mac) };
        let sender = Sender { mac: HOST, address: addr("fd00:17::2") };
        assert_eq!(super::ndp::hear(&gateway(), sender, &asked, true).claim, None);
    }
}

#[test]
fn solicitations_are_answered_for_our_addresses_only() {
    let ask = |address: &str, target: &str, mac| {
        let sender = Sender { mac: HOST, address: addr(address) };
        super::ndp::hear(
            &gateway(),
            sender,
            &Message::NeighbourSolicitation { target: addr(target), mac },
            true,
        )
    };
    let heard = ask("fd00:17::2", "fd00:17::1", Some(HOST));
    let envelope = |to_mac, from: &str, to: &str| Envelope {
        source_mac: OURS,
        destination_mac: to_mac,
        source: addr(from),
        destination: addr(to),
    };
    let says = |target: &str, solicited| Advertisement {
        target: addr(target),
        mac: Some(OURS),
        router: true,
        solicited,
        overrides: true,
    };
    let answer = |envelope, target, solicited| Some(Answer::Neighbour(envelope, says(target, solicited)));
    assert_eq!(heard.answer, answer(envelope(HOST, "fd00:17::1", "fd00:17::2"), "fd00:17::1", true));
    assert!(heard.claim.is_some_and(|claim| claim.creates && !claim.confirms && claim.router.is_none()));
    // Without the option, the frame says where the answer goes; nothing is learned.
    let heard = ask("fd00:17::2", "fe80::42:ff:fe00:1", None);
    let local = "fe80::42:ff:fe00:1";
    assert_eq!(heard.answer, answer(envelope(HOST, local, "fd00:17::2"), local, true));
    assert_eq!(heard.claim, None);
    // A probe for duplicates is answered to all.
    let heard = ask("::", "fd00:17::1", None);
    let to_all = envelope(MacAddr([0x33, 0x33, 0, 0, 0, 1]), "fd00:17::1", "ff02::1");
    assert_eq!(heard, Heard { answer: answer(to_all, "fd00:17::1", false), ..Heard::default() });
    for other in ["fd00:17::9", "fd00:18::1", "fe80::1"] {
        assert_eq!(ask("fd00:17::2", other, Some(HOST)), Heard::default());
    }
    assert_eq!(ask("fd99::2", "fd00:17::1", Some(HOST)).claim, None, "not on the link");
}

#[test]
fn advertisements_and_router_solicitations() {
    let sender = Sender { mac: HOST, address: addr("fe80::2") };
    let hear = |message| super::ndp::hear(&gateway(), sender, &message, true);
    for bits in 0..8u8 {
        let (router, solicited, overrides) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
        let target = addr("fd00:17::2");
        let said = Advertisement { target, mac: Some(HOST), router, solicited, overrides };
        let claim = hear(Message::NeighbourAdvertisement(said)).claim.unwrap();
        assert_eq!((claim.address, claim.mac, claim.creates), (target, Some(HOST), false));
        assert_eq!((claim.confirms, claim.router), (solicited, Some(router)));
        assert_eq!(claim.conflict == Conflict::Replace, overrides);
    }
    let heard = hear(Message::RouterSolicitation { mac: Some(HOST) });
    assert!(heard.wants_router && heard.answer.is_none());
    assert!(heard.claim.is_some_and(|claim| claim.address == sender.address && claim.router == Some(false)));
    assert_eq!(hear(Message::Other), Heard::default());
}

#[test]
fn an_interface_without_ipv6_has_no_link_local_address() {
    let v4 = interface(&[("172.17.0.1", 16)]);
    assert!(!owns(&v4, addr("fe80::42:ff:fe00:1")) && owns(&gateway(), addr("fe80::42:ff:fe00:1")));
    assert!(!is_on_link(&v4, addr("fe80::2")) && is_on_link(&gateway(), addr("fe80::2")));
    assert_eq!(source_for(&v4, addr("fd00::1")), None);
    assert_eq!(announced(&v4).count(), 1);
}

#[test]
fn the_source_is_of_the_targets_prefix() {
    let rows = [
        ("172.17.3.4", "172.17.0.1"),
        ("10.1.0.77", "10.1.0.1"),
        ("8.8.8.8", "172.17.0.1"),
        ("fd00:17::77", "fd00:17::1"),
        ("fe80::77", "fe80::42:ff:fe00:1"),
    ];
    for (target, source) in rows {
        assert_eq!(source_for(&gateway(), addr(target)), Some(addr(source)), "{target}");
    }
}

#[test]
fn questions_go_to_all_or_to_one() {
    let mut frame = Vec::new();
    let ask = |target: &str, to| Solicitation { network: NetworkId(1), target: addr(target), to };
    assert!(solicit(&gateway(), &ask("172.17.0.2", None), &mut frame));
    let packet = Arp::parse(&frame[14..]).unwrap();
    assert_eq!(packet, Arp { sender_mac: OURS, ..arp(Operation::Request, "172.17.0.1", "172.17.0.2") });
    assert_eq!(frame[..6], [0xff; 6]);
    assert!(solicit(&gateway(), &ask("172.17.0.2", Some(HOST)), &mut frame));
    assert_eq!(frame[..6], HOST.0);
    assert!(solicit(&gateway(), &ask("fd00:17::2", None), &mut frame));
    assert_eq!(
        (&frame[..6], &frame[38..54]),
        (&[0x33, 0x33, 0xff, 0, 0, 2][..], &addr("ff02::1:ff00:2").v6_bytes()[..])
    );
    assert!(solicit(&gateway(), &ask("fd00:17::2", Some(HOST)), &mut frame));
    assert_eq!((&frame[..6], &frame[38..54]), (&HOST.0[..], &addr("fd00:17::2").v6_bytes()[..]));
    assert!(!solicit(&interface(&[]), &ask("172.17.0.2", None), &mut frame));
}

#[test]
fn an_announcement_names_the_gateway_twice() {
    let mut frame = Vec::new();
    announce(&gateway(), addr("172.17.0.1"), true, &mut frame);
    assert!(Arp::parse(&frame[14..]).unwrap().is_announcement());
    announce(&gateway(), addr("fd00:17::1"), false, &mut frame);
    let message = crate::wire::ndp::parse(addr("fd00:17::1"), message::ALL_NODES, 255, &frame[54..]);
    let (router, solicited, overrides) = (false, false, true);
    let expected =
        Advertisement { target: addr("fd00:17::1"), mac: Some(OURS), router, solicited, overrides };
    assert_eq!(message, Ok(Message::NeighbourAdvertisement(expected)));
    let ours: Vec<_> = announced(&gateway()).map(|own| own.to_string()).collect();
    assert_eq!(ours, ["172.17.0.1", "10.1.0.1", "fd00:17::1", "fe80::42:ff:fe00:1"]);
}

/// Runs an advertiser until a time, and lists when it sends, in milliseconds.
fn sent(advertiser: &mut Advertiser, until: u64) -> Vec<u64> {
    let mut times = Vec::new();
    while let Some(due) = advertiser.next_timeout().filter(|due| due.0 <= until * 1_000_000) {
        assert!(advertiser.poll(due) && !advertiser.poll(due));
        times.push(due.0 / 1_000_000);
    }
    times
}

#[test]
fn advertisements_come_often_at_first_and_then_seldom() {
    let mut advertiser = Advertiser::start(Instant(0), 7);
    let times = sent(&mut advertiser, 100_000_000);
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(gaps[..2], [16_000, 16_000]);
    assert!(gaps[2..].iter().all(|gap| (200_000..600_000).contains(gap)) && gaps.len() > 160);
    let mean = gaps[2..].iter().sum::<u64>() / (gaps.len() as u64 - 2);
    assert!((370_000..430_000).contains(&mean), "they are spread: {mean}");
    assert_eq!(sent(&mut Advertiser::start(Instant(0), 7), 100_000_000), times, "the same on every run");
    assert!(sent(&mut Advertiser::default(), 100_000_000).is_empty());
}

#[test]
fn a_flood_of_solicitations_brings_an_advertisement_every_three_seconds() {
    let mut advertiser = Advertiser::start(Instant(0), 7);
    sent(&mut advertiser, 100_000);
    let mut times = Vec::new();
    for millisecond in 100_000..130_000 {
        advertiser.solicited(Instant(millisecond * 1_000_000));
        times.extend(sent(&mut advertiser, millisecond));
    }
    assert!(times[0] < 100_500);
    assert!(times.windows(2).all(|pair| (3000..3500).contains(&(pair[1] - pair[0]))), "{times:?}");
    let mut silent = Advertiser::default();
    silent.solicited(Instant(0));
    assert_eq!(silent.next_timeout(), None);
}

#[test]
fn a_router_that_stops_says_so_once() {
    let mut advertiser = Advertiser::start(Instant(0), 7);
    sent(&mut advertiser, 1000);
    advertiser.stop(Instant(5_000_000_000));
    assert!(advertiser.is_retired());
    assert_eq!(sent(&mut advertiser, 100_000_000), [5000]);
    advertiser.solicited(Instant(6_000_000_000));
    assert_eq!(advertiser.next_timeout(), None);
    let mut unheard = Advertiser::start(Instant(0), 7);
    unheard.stop(Instant(0));
    assert_eq!(unheard.next_timeout(), None, "who never spoke need not take leave");
}

#[test]
fn what_is_advertised() {
    let options = advertiser::Options { mtu: 1400, default_router: true, autonomous: true };
    let mut frame = Vec::new();
    let with_local =
        interface(&[("172.17.0.1", 16), ("fe80::1", 64), ("fd00:17::1", 64), ("fd00:18::1", 80)]);
    assert!(advertiser::build(&with_local, &options, &mut frame));
    let flags: Vec<_> = frame[86..].chunks(32).map(|option| (option[2], option[3])).collect();
    assert_eq!(flags, [(64, 0xc0), (80, 0x80)], "no prefix of IPv4, none that is link-local");
    assert_eq!((&frame[60..62], &frame[82..86]), (&[7, 8][..], &1400u32.to_be_bytes()[..]));
    let options = advertiser::Options { default_router: false, autonomous: false, ..options };
    assert!(advertiser::build(&with_local, &options, &mut frame));
    assert_eq!((&frame[60..62], frame[89]), (&[0, 0][..], 0x80));
    assert!(!advertiser::build(&interface(&[("172.17.0.1", 16)]), &options, &mut frame));
}
