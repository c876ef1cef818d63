//! The switch from outside: bytes in, bytes out. Each scenario states what becomes of a frame entirely: the
//! verdict, who gets which bytes, and every counter that changes; all others must stay as they are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::frames::{ethernet, mac, plain, super_frame, tagged};
use common::lab::Count::{Drop, Evicted, Learned, Moved, Rx, Tx};
use common::lab::{Lab, Recorder, dropped, flood, to};
use tapswitch::dataplane::fdb::Limits;
use tapswitch::dataplane::{
    Change, DropReason, Frame, Instant, Learned as Lesson, NetworkConfig, NetworkId, PortId, Rejected, Step,
};
use tapswitch::wire::ethernet::{ARP, IPV4, IPV6, QINQ};
use tapswitch::wire::{MacAddr, Offload};

const NET: NetworkId = NetworkId(0);

fn default() -> NetworkConfig {
    NetworkConfig::default()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A lab with network 0 in which station N is known behind port N.
fn acquainted(config: NetworkConfig, ports: &[u32]) -> Lab {
    let mut lab = Lab::with(config, ports);
    for port in ports {
        // Sent to itself: learned, and nobody else hears of it.
        let own = mac(*port as u8);
        let _ = lab.send(*port, &plain(own, own));
    }
    lab
}

//  1 ── net 0 ── 2
//         └───── 3

#[test]
fn a_known_destination_gets_the_frame_alone() {
    let mut lab = acquainted(default(), &[1, 2, 3]);
    let steps = lab.send(1, &plain(mac(2), mac(1))).is(to(2), &[2], &[Rx(1), Tx(2)]);
    let expected = [
        Step::Received { port: PortId(1), len: 64, segments: 1 },
        Step::Parsed { source: mac(1), destination: mac(2), ethertype: IPV4, tags: 0 },
        Step::Learn(Lesson::Known),
        Step::Lookup(mac(2), Some(PortId(2))),
        Step::Verdict(to(2)),
    ];
    assert_eq!(steps, expected);
}

#[test]
fn an_unknown_destination_is_flooded() {
    let mut lab = Lab::with(default(), &[1, 2, 3]);
    let frame = plain(mac(9), mac(1));
    let steps = lab.send(1, &frame).is(flood(0), &[2, 3], &[Rx(1), Tx(2), Tx(3), Learned(0)]);
    assert_eq!(steps[2..4], [Step::Learn(Lesson::New), Step::Lookup(mac(9), None)]);
}

#[test]
fn broadcast_and_multicast_go_to_everybody_else() {
    let mut lab = acquainted(default(), &[1, 2, 3]);
    for group in [MacAddr::BROADCAST, MacAddr([0x01, 0, 0x5e, 0, 0, 251]), MacAddr([0x33, 0x33, 0, 0, 0, 1])]
    {
        let steps = lab.send(2, &plain(group, mac(2))).is(flood(0), &[1, 3], &[Rx(2), Tx(1), Tx(3)]);
        assert!(!steps.iter().any(|step| matches!(step, Step::Lookup(..))), "groups are not looked up");
    }
}

#[test]
fn a_super_frame_travels_whole_and_counts_its_segments() {
    let mut lab = acquainted(default(), &[1, 2]);
    let frame = super_frame(mac(2), mac(1), 1448, 1448 * 3 + 1);
    let steps = lab.send(1, &frame).is(to(2), &[2], &[Rx(1), Tx(2)]);
    assert_eq!(steps[0], Step::Received { port: PortId(1), len: 54 + 1448 * 3 + 1, segments: 4 });
}

#[test]
fn vlan_tags_are_carried_and_share_one_fdb() {
    let mut lab = acquainted(default(), &[1, 2, 3]);
    let once = tagged(ethernet(mac(2), mac(1), IPV6, 50), 5);
    let twice = tagged(once.clone(), 6);
    for (bytes, tags) in [(once, 1), (twice, 2)] {
        let steps = lab.send(1, &Frame::from_bytes(&bytes)).is(to(2), &[2], &[Rx(1), Tx(2)]);
        let parsed = Step::Parsed { source: mac(1), destination: mac(2), ethertype: IPV6, tags };
        assert_eq!(steps[1], parsed);
    }
}

// Learning.

#[test]
fn a_station_is_learned_moves_and_ages_out() {
    let mut lab = Lab::with(default(), &[1, 2, 3]);
    let hello = plain(MacAddr::BROADCAST, mac(9));
    lab.send(1, &hello).is(flood(0), &[2, 3], &[Rx(1), Tx(2), Tx(3), Learned(0)]);
    lab.send(2, &hello).is(flood(0), &[1, 3], &[Rx(2), Tx(1), Tx(3), Moved(0)]);
    assert_eq!(lab.fdb(0).iter().map(|e| (e.mac, e.port)).collect::<Vec<_>>(), [(mac(9), PortId(2))]);

    lab.wait(Duration::from_nanos(seconds(300).as_nanos() as u64 - 1));
    // Learned too, but a second later.
    lab.send(3, &plain(mac(9), mac(3))).is(to(2), &[2], &[Rx(3), Tx(2), Learned(0)]);
    lab.wait(Duration::from_nanos(1));
    assert_eq!(lab.fdb(0).len(), 1, "station 3 alone");
    lab.send(3, &plain(mac(9), mac(3))).is(flood(0), &[1, 2], &[Rx(3), Tx(1), Tx(2)]);
    assert_eq!(
        lab.changes(|lab| assert_eq!(lab.wait(seconds(300)), [])).into_iter().collect::<Vec<_>>(),
        [(("network", 0, "fdb", "aged"), 1)]
    );
    assert!(lab.fdb(0).is_empty());
}

#[test]
fn a_station_that_speaks_stays_known() {
    let mut lab = acquainted(default(), &[1, 2]);
    for _ in 0..10 {
        lab.wait(seconds(299));
        let steps = lab.send(1, &plain(mac(2), mac(1)));
        assert_eq!(steps.is(to(2), &[2], &[Rx(1), Tx(2)])[2], Step::Learn(Lesson::Refreshed));
        let steps = lab.send(2, &plain(mac(1), mac(2))).is(to(1), &[1], &[Rx(2), Tx(1)]);
        assert_eq!(steps[2], Step::Learn(Lesson::Refreshed));
    }
}

#[test]
fn a_static_entry_wins_over_what_frames_say() {
    let mut lab = Lab::with(default(), &[1, 2, 3]);
    lab.apply(Change::AddFdb(NET, mac(9), PortId(1)));
    let liar = plain(MacAddr::BROADCAST, mac(9));
    let steps = lab.send(2, &liar).is(flood(0), &[1, 3], &[Rx(2), Tx(1), Tx(3)]);
    assert_eq!(steps[2], Step::Learn(Lesson::Static));
    lab.wait(seconds(100_000));
    lab.send(2, &plain(mac(9), mac(2))).is(to(1), &[1], &[Rx(2), Tx(1), Learned(0)]);
    lab.apply(Change::RemoveFdb(NET, mac(9)));
    lab.send(2, &plain(mac(9), mac(2))).is(flood(0), &[1, 3], &[Rx(2), Tx(1), Tx(3)]);
}

#[test]
fn without_ageing_time_nothing_is_learned() {
    let config = NetworkConfig { fdb: Limits { ageing: Duration::ZERO, ..default().fdb }, ..default() };
    let mut lab = Lab::with(config, &[1, 2]);
    let steps = lab.send(1, &plain(mac(1), mac(2))).is(flood(0), &[2], &[Rx(1), Tx(2)]);
    assert_eq!(steps[2], Step::Learn(Lesson::Off));
    assert_eq!(lab.switch.poll_timeout(), None);
}

#[test]
fn a_port_over_its_limit_evicts_its_own() {
    let config = NetworkConfig { fdb: Limits { port: 2, ..default().fdb }, ..default() };
    let mut lab = acquainted(config, &[1, 2]);
    lab.send(1, &plain(mac(2), mac(11))).is(to(2), &[2], &[Rx(1), Tx(2), Learned(0)]);
    lab.send(1, &plain(mac(2), mac(12))).is(to(2), &[2], &[Rx(1), Tx(2), Learned(0), Evicted(0)]);
    lab.send(2, &plain(mac(1), mac(2))).is(flood(0), &[1], &[Rx(2), Tx(1)]);
}

// Frames that do not enter.

#[test]
fn runts() {
    let mut lab = Lab::with(default(), &[1, 2]);
    let whole = tagged(ethernet(mac(2), mac(1), IPV4, 0), 5);
    for len in 0..whole.len() {
        let steps = lab.send(1, &Frame::from_bytes(&whole[..len])).was_dropped(1, DropReason::Runt);
        assert_eq!(steps.len(), 2, "received and dropped, never parsed");
    }
    lab.send(1, &Frame::from_bytes(&whole)).is(flood(0), &[2], &[Rx(1), Tx(2), Learned(0)]);
}

#[test]
fn group_and_zero_sources_are_neither_learned_nor_forwarded() {
    let mut lab = acquainted(default(), &[1, 2]);
    for source in [MacAddr::ZERO, MacAddr::BROADCAST, MacAddr([0x03, 0, 0, 0, 0, 1])] {
        let steps = lab.send(1, &plain(mac(2), source)).was_dropped(1, DropReason::BadSource);
        assert_eq!(steps.len(), 2);
    }
    assert_eq!(lab.fdb(0).len(), 2);
}

#[test]
fn link_local_groups_stay_but_their_sender_is_learned() {
    let mut lab = Lab::with(default(), &[1, 2]);
    let group = |last| MacAddr([0x01, 0x80, 0xc2, 0, 0, last]);
    let counts = [Rx(1), Drop(1, DropReason::LinkLocal), Learned(0)];
    lab.send(1, &plain(group(0), mac(1))).is(dropped(DropReason::LinkLocal), &[], &counts);
    (1..=0x0f).for_each(|last| {
        lab.send(1, &plain(group(last), mac(1))).was_dropped(1, DropReason::LinkLocal);
    });
    lab.send(1, &plain(group(0x10), mac(1))).is(flood(0), &[2], &[Rx(1), Tx(2)]);
}

#[test]
fn the_mtu_is_that_of_the_packet_behind_all_tags() {
    let mut lab = acquainted(NetworkConfig { mtu: 1000, ..default() }, &[1, 2]);
    let fits = ethernet(mac(2), mac(1), IPV4, 1000);
    let too_long = ethernet(mac(2), mac(1), IPV4, 1001);
    for (fits, too_long) in [
        (fits.clone(), too_long.clone()),
        (tagged(fits.clone(), 1), tagged(too_long.clone(), 1)),
        (tagged(tagged(fits, 1), 2), tagged(tagged(too_long, 1), 2)),
    ] {
        lab.send(1, &Frame::from_bytes(&fits)).is(to(2), &[2], &[Rx(1), Tx(2)]);
        lab.send(1, &Frame::from_bytes(&too_long)).was_dropped(1, DropReason::Oversize);
    }
}

#[test]
fn the_segments_of_a_super_frame_must_fit_not_the_whole() {
    // 40 bytes of IP and TCP headers.
    let mut lab = acquainted(NetworkConfig { mtu: 1000, ..default() }, &[1, 2]);
    lab.send(1, &super_frame(mac(2), mac(1), 960, 60_000)).is(to(2), &[2], &[Rx(1), Tx(2)]);
    lab.send(1, &super_frame(mac(2), mac(1), 961, 60_000)).was_dropped(1, DropReason::Oversize);
    lab.send(1, &super_frame(mac(2), mac(1), 961, 961)).was_dropped(1, DropReason::Oversize);
    // A piece is never longer than what there is to cut.
    lab.send(1, &super_frame(mac(2), mac(1), 60_000, 960)).is(to(2), &[2], &[Rx(1), Tx(2)]);
}

#[test]
fn an_offload_header_that_contradicts_its_frame() {
    let mut lab = acquainted(default(), &[1, 2]);
    let truth = super_frame(mac(2), mac(1), 1000, 3000);
    let offload = truth.offload;
    let lies = [
        Offload { gso_type: 2, ..offload },
        Offload { flags: 0, ..offload },
        Offload { gso_size: 0, ..offload },
        Offload { hdr_len: 4000, ..offload },
        Offload { csum_start: 3050, ..offload },
        Offload { csum_offset: 60_000, ..offload },
        Offload { gso_type: 0, csum_start: 3053, csum_offset: 0, ..offload },
        // The TCP header, read from the payload, would have no bytes.
        Offload { csum_start: 3030, csum_offset: 2, ..offload },
        // The headers would end before the packet begins.
        Offload { gso_type: 5, csum_start: 2, ..offload },
    ];
    for lie in lies {
        let mut frame = Frame::new();
        frame.set(truth.bytes(), lie);
        let _ = lab.send(1, &frame).was_dropped(1, DropReason::BadOffload);
    }
}

// Frames that enter and go nowhere.

#[test]
fn a_destination_behind_its_own_port() {
    let mut lab = acquainted(default(), &[1, 2]);
    lab.send(1, &plain(mac(1), mac(7))).is(
        dropped(DropReason::SamePort),
        &[],
        &[Rx(1), Drop(1, DropReason::SamePort), Learned(0)],
    );
}

#[test]
fn a_station_that_writes_to_itself_is_heard_by_nobody() {
    let mut lab = Lab::with(default(), &[1, 2]);
    let frame = plain(mac(9), mac(9));
    let counts = |learned, port| [Rx(port), Drop(port, DropReason::SamePort), learned];
    lab.send(1, &frame).is(dropped(DropReason::SamePort), &[], &counts(Learned(0), 1));
    lab.send(2, &frame).is(dropped(DropReason::SamePort), &[], &counts(Moved(0), 2));
    lab.apply(Change::AddFdb(NET, mac(9), PortId(1)));
    lab.send(2, &frame).is(to(1), &[1], &[Rx(2), Tx(1)]);
}

#[test]
fn a_flooded_frame_that_nobody_can_hear() {
    let mut lab = Lab::with(default(), &[1, 2]);
    lab.apply(Change::SetPort(PortId(2), false));
    let lonely = plain(MacAddr::BROADCAST, mac(1));
    lab.send(1, &lonely).is(
        dropped(DropReason::NoListener),
        &[],
        &[Rx(1), Drop(1, DropReason::NoListener), Learned(0)],
    );
    lab.apply(Change::RemovePort(PortId(2)));
    lab.send(1, &lonely).was_dropped(1, DropReason::NoListener);
    lab.apply(Change::AddPort(PortId(2), NET));
    lab.send(1, &lonely).is(flood(0), &[2], &[Rx(1), Tx(2)]);
}

#[test]
fn a_port_that_is_down_neither_receives_nor_sends_and_forgets() {
    let mut lab = acquainted(default(), &[1, 2, 3]);
    lab.apply(Change::AddFdb(NET, mac(9), PortId(2)));
    lab.apply(Change::SetPort(PortId(2), false));
    lab.send(2, &plain(mac(1), mac(2))).was_dropped(2, DropReason::PortDown);
    lab.send(1, &plain(mac(2), mac(1))).is(flood(0), &[3], &[Rx(1), Tx(3)]);
    lab.send(1, &plain(mac(9), mac(1))).was_dropped(1, DropReason::EgressDown);
    lab.apply(Change::SetPort(PortId(2), true));
    lab.send(1, &plain(mac(9), mac(1))).is(to(2), &[2], &[Rx(1), Tx(2)]);
}

#[test]
fn a_port_that_does_not_exist_is_not_counted() {
    let mut lab = Lab::with(default(), &[1]);
    lab.send(77, &plain(mac(1), mac(2))).is(dropped(DropReason::PortDown), &[], &[]);
}

#[test]
fn without_icc_only_plain_arp_passes() {
    let mut lab = acquainted(NetworkConfig { icc: false, ..default() }, &[1, 2, 3]);
    let send =
        |lab: &mut Lab, to, ethertype| lab.send(1, &Frame::from_bytes(&ethernet(to, mac(1), ethertype, 46)));
    send(&mut lab, mac(2), ARP).is(to(2), &[2], &[Rx(1), Tx(2)]);
    send(&mut lab, MacAddr::BROADCAST, ARP).is(flood(0), &[2, 3], &[Rx(1), Tx(2), Tx(3)]);
    for ethertype in [IPV4, IPV6, 0x88cc, 0x8864, 0x0026] {
        for destination in [mac(2), mac(99), MacAddr::BROADCAST] {
            send(&mut lab, destination, ethertype).was_dropped(1, DropReason::Icc);
        }
    }
    let arp = tagged(ethernet(mac(2), mac(1), ARP, 46), 0);
    lab.send(1, &Frame::from_bytes(&arp)).was_dropped(1, DropReason::Icc);
    let mut service_tagged = arp;
    service_tagged[12..14].copy_from_slice(&QINQ.to_be_bytes());
    lab.send(1, &Frame::from_bytes(&service_tagged)).was_dropped(1, DropReason::Icc);
}

#[test]
fn flooding_is_limited_per_port_and_recovers() {
    let mut lab = acquainted(NetworkConfig { flood_limit: 10, ..default() }, &[1, 2]);
    let shout = plain(MacAddr::BROADCAST, mac(1));
    for _ in 0..10 {
        lab.send(1, &shout).is(flood(0), &[2], &[Rx(1), Tx(2)]);
    }
    lab.send(1, &shout).was_dropped(1, DropReason::FloodLimit);
    lab.send(1, &plain(mac(77), mac(1))).was_dropped(1, DropReason::FloodLimit);
    // What is not flooded, and other ports, do not feel it.
    lab.send(1, &plain(mac(2), mac(1))).is(to(2), &[2], &[Rx(1), Tx(2)]);
    lab.send(2, &plain(mac(77), mac(2))).is(flood(0), &[1], &[Rx(2), Tx(1)]);
    lab.wait(Duration::from_millis(100));
    lab.send(1, &shout).is(flood(0), &[2], &[Rx(1), Tx(2)]);
    lab.send(1, &shout).was_dropped(1, DropReason::FloodLimit);
}

//  1 ── net 0 ── 2        3 ── net 1 ── 4        (the same stations on both)

#[test]
fn networks_know_nothing_of_each_other() {
    let mut lab = Lab::new(&[(0, default(), &[1, 2]), (1, default(), &[3, 4])]);
    let (a, b) = (plain(mac(2), mac(1)), plain(mac(1), mac(2)));
    lab.send(1, &a).is(flood(0), &[2], &[Rx(1), Tx(2), Learned(0)]);
    lab.send(4, &a).is(flood(1), &[3], &[Rx(4), Tx(3), Learned(1)]);
    lab.send(2, &b).is(to(1), &[1], &[Rx(2), Tx(1), Learned(0)]);
    lab.send(3, &b).is(to(4), &[4], &[Rx(3), Tx(4), Learned(1)]);
    lab.send(3, &plain(MacAddr::BROADCAST, mac(2))).is(flood(1), &[4], &[Rx(3), Tx(4)]);
    lab.apply(Change::SetPort(PortId(1), false));
    lab.send(3, &b).is(to(4), &[4], &[Rx(3), Tx(4)]);
}

// Beside the way of a frame.

#[test]
fn what_a_device_could_not_send_is_taken_back() {
    let mut lab = acquainted(default(), &[1, 2]);
    let frame = super_frame(mac(2), mac(1), 1000, 3000);
    let changes = lab.changes(|lab| {
        lab.send(1, &frame).is(to(2), &[2], &[Rx(1), Tx(2)]);
        lab.switch.undelivered(PortId(2), &frame, DropReason::EgressFull);
        lab.switch.undelivered(PortId(77), &frame, DropReason::EgressFull);
    });
    let expected = [
        (("port", 1, "rx", "bytes"), 3054),
        (("port", 1, "rx", "frames"), 1),
        (("port", 1, "rx", "segments"), 3),
        (("port", 2, "drop", "egress_full"), 1),
    ];
    assert_eq!(changes.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn removing_a_port_flushes_its_addresses_and_keeps_its_counts() {
    let mut lab = acquainted(default(), &[1, 2, 3]);
    lab.apply(Change::AddFdb(NET, mac(9), PortId(2)));
    lab.send(1, &plain(mac(2), mac(1))).is(to(2), &[2], &[Rx(1), Tx(2)]);
    let before = lab.switch.network_counters(NET).unwrap();
    lab.apply(Change::RemovePort(PortId(2)));
    assert_eq!(lab.switch.network_counters(NET), Some(before));
    assert_eq!(before.tx.frames, 1);
    assert_eq!(lab.fdb(0).iter().map(|entry| entry.mac).collect::<Vec<_>>(), [mac(1), mac(3)]);
    // Its number serves again, and starts from nothing.
    lab.apply(Change::AddPort(PortId(2), NET));
    assert_eq!(lab.switch.port(PortId(2)).unwrap().counters, Default::default());
    lab.send(1, &plain(mac(9), mac(1))).is(flood(0), &[2, 3], &[Rx(1), Tx(2), Tx(3)]);
}

#[test]
fn new_settings_keep_what_is_known() {
    let mut lab = acquainted(default(), &[1, 2]);
    lab.apply(Change::SetNetwork(NET, NetworkConfig { mtu: 40, ..default() }));
    lab.send(1, &plain(mac(2), mac(1))).was_dropped(1, DropReason::Oversize);
    lab.apply(Change::SetNetwork(NET, default()));
    lab.send(1, &plain(mac(2), mac(1))).is(to(2), &[2], &[Rx(1), Tx(2)]);
    let short = Limits { ageing: seconds(10), ..default().fdb };
    lab.wait(seconds(9));
    lab.apply(Change::SetNetwork(NET, NetworkConfig { fdb: short, ..default() }));
    assert_eq!(lab.switch.poll_timeout(), Some(Instant(10_000_000_000)));
    lab.wait(seconds(1));
    assert!(lab.fdb(0).is_empty());
}

#[test]
fn the_switch_asks_to_be_woken_when_the_next_entry_dies() {
    let mut lab = Lab::with(default(), &[1, 2]);
    assert_eq!(lab.switch.poll_timeout(), None);
    lab.wait(seconds(5));
    let _ = lab.send(1, &plain(mac(2), mac(1)));
    lab.wait(seconds(5));
    let _ = lab.send(2, &plain(mac(1), mac(2)));
    assert_eq!(lab.switch.poll_timeout(), Some(Instant(305_000_000_000)));
    let mut silent = Recorder::default();
    let early = lab.changes(|lab| lab.switch.handle_timeout(Instant(304_999_999_999), &mut silent));
    assert!(early.is_empty(), "too early is harmless");
    lab.switch.handle_timeout(Instant(305_000_000_000), &mut silent);
    assert_eq!(lab.switch.poll_timeout(), Some(Instant(310_000_000_000)));
    lab.switch.handle_timeout(Instant(u64::MAX), &mut silent);
    assert_eq!(silent.0, []);
    assert_eq!((lab.switch.poll_timeout(), lab.fdb(0).len()), (None, 0));
}

#[test]
fn nobody_has_to_wake_the_switch_for_its_answers_to_be_right() {
    let mut lab = acquainted(default(), &[1, 2]);
    lab.now = lab.now + seconds(300);
    assert!(lab.fdb(0).is_empty(), "not swept yet, but dead");
    let unknown = Rejected::UnknownAddress(mac(1));
    assert_eq!(lab.switch.apply(lab.now, Change::RemoveFdb(NET, mac(1))), Err(unknown));
    lab.send(2, &plain(mac(1), mac(2))).is(flood(0), &[1], &[Rx(2), Tx(1), Learned(0)]);
}

#[test]
fn changes_that_are_refused_change_nothing() {
    let mut lab = Lab::new(&[(0, default(), &[1, 2]), (1, default(), &[3])]);
    let (none, other, nobody, one) = (NetworkId(7), NetworkId(1), PortId(77), PortId(1));
    let group = MacAddr::BROADCAST;
    let refused = [
        (Change::AddNetwork(NET, default()), Rejected::NetworkExists(NET)),
        (Change::SetNetwork(none, default()), Rejected::UnknownNetwork(none)),
        (Change::RemoveNetwork(none), Rejected::UnknownNetwork(none)),
        (Change::RemoveNetwork(NET), Rejected::NetworkInUse(NET)),
        (Change::AddPort(one, NET), Rejected::PortExists(one)),
        (Change::AddPort(nobody, none), Rejected::UnknownNetwork(none)),
        (Change::RemovePort(nobody), Rejected::UnknownPort(nobody)),
        (Change::SetPort(nobody, false), Rejected::UnknownPort(nobody)),
        (Change::AddFdb(none, mac(9), one), Rejected::UnknownNetwork(none)),
        (Change::AddFdb(NET, group, one), Rejected::BadAddress(group)),
        (Change::AddFdb(NET, MacAddr::ZERO, one), Rejected::BadAddress(MacAddr::ZERO)),
        (Change::AddFdb(NET, mac(9), nobody), Rejected::UnknownPort(nobody)),
        (Change::AddFdb(other, mac(9), one), Rejected::NotOnNetwork(one, other)),
        (Change::RemoveFdb(none, mac(9)), Rejected::UnknownNetwork(none)),
        (Change::RemoveFdb(NET, mac(9)), Rejected::UnknownAddress(mac(9))),
    ];
    refused.into_iter().for_each(|(change, why)| lab.rejects(change, why));
}
