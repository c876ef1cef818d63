//! Packets that come in pieces, that leave in pieces, and that stand for many.

use std::time::Duration;

use tapswitch::dataplane::{Change, DropReason, Frame, Interface, MssClamp, NetworkConfig, PortId, Verdict};
use tapswitch::wire::Offload;
use tapswitch::wire::ip::Version;

use crate::common::lab::Count::{Drop, Flow, Mapped, Rx, Walk};
use crate::common::lab::{Lab, Sent, dropped};
use crate::errors::{Says, about};
use crate::neighbours::answer;
use crate::packets::{ACK, Body, Packet, SYN, echo, fragments, super_frame, tcp, udp};
use crate::world::{
    ALICE, BACK, BOB, BOTH, GATEWAY1, NET1, OURS, OUT, OUT_NEW, OUTSIDE, SERVER, WAN, interface1, introduce,
    open, policy, strangers, uplink, world, world_of,
};

fn routed(port: u32) -> Verdict {
    Verdict::Routed(PortId(port))
}

/// A frame with work left to do.
fn frame_of(made: &(Vec<u8>, Offload)) -> Frame {
    let mut frame = Frame::new();
    frame.set(&made.0, made.1);
    frame
}

fn by(port: u32, pieces: Vec<Vec<u8>>) -> Vec<Sent> {
    pieces.into_iter().map(|piece| (port, piece, Offload::NONE)).collect()
}

/// The counters of a rule's packets have the length of the whole packet, which no frame has.
fn rule(lab: &mut Lab, port: u32, piece: &[u8]) -> Vec<Sent> {
    let passage = lab.send(port, &Frame::from_bytes(piece));
    assert_eq!(passage.verdict, Verdict::Held);
    passage.sent
}

#[test]
fn fragments_are_followed_through_nat_in_and_out_of_order() {
    for (version, kind) in BOTH.into_iter().flat_map(|version| [(version, 0), (version, 1), (version, 2)]) {
        let mut lab = world(&policy());
        let packet = match kind {
            0 => udp(version, ALICE, SERVER, (5000, 53)),
            1 => tcp(version, ALICE, SERVER, (5000, 53), SYN, (1, 0)),
            _ => echo(version, ALICE, SERVER, 5000, true),
        };
        let packet = packet.with_payload(3000).may_be_cut();
        let leaves = packet.clone().from((OURS, 5000)).routed(OUTSIDE);
        let leaves = by(9, fragments(&leaves, 1400));
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]] {
            let pieces = fragments(&packet, 1400);
            let sent = order.map(|at| rule(&mut lab, 1, &pieces[at]));
            assert_eq!(sent[..2], [vec![], vec![]], "nothing leaves before all is there");
            assert_eq!(sent[2], leaves, "{order:?}");
        }
        assert_eq!(lab.flows().len(), 1);
    }
}

#[test]
fn the_rules_count_a_fragmented_packet_once() {
    let mut lab = world(&policy());
    let packet = udp(Version::V4, ALICE, SERVER, (5000, 53)).with_payload(2000).may_be_cut();
    let pieces = fragments(&packet, 1400);
    let changes = lab.changes(|lab| pieces.iter().for_each(|piece| drop(rule(lab, 1, piece))));
    let count = |table, number, chain, what| changes.get(&(table, number, chain, what)).copied();
    assert_eq!(count("v4 filter", 4, "FORWARD", "packets"), Some(1));
    assert_eq!(count("v4 filter", 4, "FORWARD", "bytes"), Some(2028));
    assert_eq!(count("v4 nat", 2, "POSTROUTING", "packets"), Some(1));
    assert_eq!(count("port", 1, "rx", "frames"), Some(2));
    assert_eq!(count("port", 9, "tx", "frames"), Some(2));
    assert_eq!(changes.iter().filter(|((kind, ..), _)| *kind == "port").count(), 6, "no drop is counted");
}

#[test]
fn fragments_are_cut_again_for_a_narrower_network() {
    let wan = NetworkConfig { mtu: 576, ..NetworkConfig::default() };
    let configs = [NetworkConfig::default(), NetworkConfig::default(), wan];
    let mut lab = world_of(&policy(), configs);
    let packet = udp(Version::V4, ALICE, SERVER, (5000, 53)).with_payload(3000).may_be_cut();
    let leaves = by(9, fragments(&packet.clone().from(OURS).routed(OUTSIDE), 576));
    let sent: Vec<_> = fragments(&packet, 1400).iter().map(|piece| rule(&mut lab, 1, piece)).collect();
    assert_eq!(sent.concat(), leaves);
    // IPv6 is cut by its sender alone, who learns of it.
    let mut lab = world_of(&policy(), [configs[0], configs[0], NetworkConfig { mtu: 1280, ..wan }]);
    let packet = udp(Version::V6, ALICE, SERVER, (5000, 53)).with_payload(3000);
    let mut sent = Vec::new();
    for piece in fragments(&packet, 1400) {
        sent.extend(lab.send(1, &Frame::from_bytes(&piece)).sent);
    }
    assert_eq!(sent, [about(&packet, Says::TooBig(1280), GATEWAY1).by(1)]);
}

/// An uplink whose far end is a host's sockets.
fn to_sockets(mtu: u32) -> Lab {
    let wan = NetworkConfig { mtu, ..NetworkConfig::default() };
    let mut lab = world_of(&open(), [NetworkConfig::default(), NetworkConfig::default(), wan]);
    lab.apply(Change::SetInterface(WAN, Some(Interface { sockets: true, ..uplink() })));
    introduce(&mut lab, OUTSIDE);
    lab
}

#[test]
fn packets_leave_by_sockets_uncut() {
    for version in BOTH {
        let mut lab = to_sockets(1280);
        let packet = udp(version, ALICE, SERVER, (5000, 53)).with_payload(65_507).may_be_cut();
        let sent: Vec<_> =
            fragments(&packet, 1500).iter().flat_map(|piece| rule(&mut lab, 1, piece)).collect();
        assert_eq!(sent, [packet.routed(OUTSIDE).by(9)]);
    }
}

#[test]
fn what_came_by_sockets_is_cut_as_by_its_source() {
    let mut lab = to_sockets(1280);
    let packet = |len| udp(Version::V6, SERVER, ALICE, (53, 5000)).with_payload(len);
    // Only what was asked for goes on from there.
    let _ = lab.send(1, &udp(Version::V6, ALICE, SERVER, (5000, 53)).frame());
    for len in [1452, 1453, 9000, 65_527] {
        let mut sent = lab.send(9, &packet(len).frame()).sent;
        assert_eq!(sent.len(), if len == 1452 { 1 } else { (8 + len).div_ceil(1448) }, "{len}");
        let id = |frame: &[u8]| (frame[20] == 44).then(|| [58, 59, 60, 61].map(|at| frame[at]));
        let first = id(&sent[0].1);
        let seen: Vec<_> =
            sent.iter().map(|(port, frame, _)| (*port, id(frame), frame.len() <= 1514)).collect();
        assert!(seen.iter().all(|seen| *seen == (1, first, true)), "{len}: {seen:?}");
        // Put together again they are what was sent.
        let headers = if len == 1452 { 54 } else { 62 };
        let body: Vec<u8> = sent.iter_mut().flat_map(|(_, frame, _)| frame.split_off(headers)).collect();
        assert_eq!(body, packet(len).bytes()[54..]);
    }
    // A burst's datagrams are packets each.
    let config = NetworkConfig { mtu: 1280, ..NetworkConfig::default() };
    lab.apply(Change::SetNetwork(NET1, config));
    let (bytes, offload) = super_frame(&packet(3000), 1400);
    let mut frame = Frame::new();
    frame.set(&bytes, offload);
    let sent = lab.send(9, &frame).sent;
    assert_eq!(sent.iter().map(|(_, frame, _)| frame.len()).collect::<Vec<_>>(), [1294, 238, 1294, 238, 262]);
}

#[test]
fn fragments_of_a_packet_that_must_not_be_cut_stay_as_they_are() {
    // Linux's path MTU probes: fragments with DF.
    let mut lab = world(&policy());
    let packet = udp(Version::V4, ALICE, SERVER, (5000, 53)).with_payload(2000);
    let leaves = by(9, fragments(&packet.clone().from(OURS).routed(OUTSIDE), 1400));
    let sent: Vec<_> = fragments(&packet, 1400).iter().map(|piece| rule(&mut lab, 1, piece)).collect();
    assert_eq!(sent.concat(), leaves);
    // Where they do not fit, their sender learns it.
    let wan = NetworkConfig { mtu: 1000, ..NetworkConfig::default() };
    let mut lab = world_of(&open(), [NetworkConfig::default(), NetworkConfig::default(), wan]);
    let sent: Vec<_> = fragments(&packet, 1400).iter().map(|piece| rule(&mut lab, 1, piece)).collect();
    assert_eq!(sent.concat(), [about(&packet, Says::TooBig(1000), GATEWAY1).by(1)]);
}

#[test]
fn fragments_that_contradict_each_other_are_dropped_together() {
    for version in BOTH {
        let mut lab = world(&policy());
        let packet = udp(version, ALICE, SERVER, (5000, 53)).with_payload(3000).may_be_cut();
        let others = udp(version, ALICE, SERVER, (5000, 53)).with_payload(3000).may_be_cut();
        let first = &fragments(&packet, 1400)[0];
        let overlapping = &fragments(&others, 1000)[1];
        let _ = lab.send(1, &Frame::from_bytes(first));
        let changes = lab.changes(|lab| {
            let passage = lab.send(1, &Frame::from_bytes(overlapping));
            assert_eq!((passage.verdict, passage.sent), (dropped(DropReason::FragmentOverlap), vec![]));
        });
        assert_eq!(changes[&("port", 1, "drop", "fragment_overlap")], 2, "both pieces");
    }
}

#[test]
fn fragments_whose_packet_never_comes_are_dropped_in_time_and_its_sender_told() {
    for version in BOTH {
        let mut lab = world(&open());
        let packet = udp(version, ALICE, SERVER, (5000, 53)).with_payload(3000).may_be_cut();
        let pieces = fragments(&packet, 1400);
        let _ = rule(&mut lab, 1, &pieces[0]);
        let _ = rule(&mut lab, 1, &pieces[2]);
        assert_eq!(lab.wait(Duration::from_secs(59)), []);
        let mut told = Vec::new();
        let changes = lab.changes(|lab| told = lab.wait(Duration::from_secs(1)));
        assert_eq!(changes[&("port", 1, "drop", "fragment_timeout")], 2);
        // The first fragment is quoted.
        let quoted = &pieces[0][14..];
        let mut error = about(&packet, Says::ReassemblyTimeout, GATEWAY1);
        let room = if version == Version::V4 { 548 } else { 1232 };
        if let Body::Icmp { data, .. } = &mut error.body {
            *data = quoted[..room].to_vec();
        }
        assert_eq!(told, [error.by(1)]);
        // Without the first there is nobody to tell.
        let _ = rule(&mut lab, 1, &pieces[1]);
        assert_eq!(lab.wait(Duration::from_secs(61)), []);
    }
}

#[test]
fn super_frames_are_routed_and_translated_whole() {
    for version in BOTH {
        for (packet, piece) in [
            (tcp(version, ALICE, SERVER, (5000, 80), ACK, (1, 1)).with_payload(9000), 1400),
            (udp(version, ALICE, SERVER, (5000, 53)).with_payload(9000), 1400),
            (tcp(version, ALICE, SERVER, (5001, 80), ACK, (1, 1)).with_payload(1000), 0),
            (udp(version, ALICE, SERVER, (5001, 53)).with_payload(1000), 0),
        ] {
            let came = super_frame(&packet, piece);
            // Routed.
            let leaves = super_frame(&packet.clone().routed(OUTSIDE), piece);
            let sent = [(9, leaves.0, leaves.1)];
            let counts = [Rx(1), Flow];
            world(&open()).send(1, &frame_of(&came)).sends(routed(9), &sent, &counts);
            // And translated, twice: with all stages and without.
            let mut lab = world(&policy());
            let leaves = super_frame(&packet.clone().from(OURS).routed(OUTSIDE), piece);
            let sent = [(9, leaves.0, leaves.1)];
            let counts = [Rx(1), Flow, Mapped, Walk(OUT_NEW)];
            lab.send(1, &frame_of(&came)).sends(routed(9), &sent, &counts);
            lab.send(1, &frame_of(&came)).sends(routed(9), &sent, &[Rx(1), Walk(OUT)]);
            // The way back.
            let (there, here) = match packet.body {
                Body::Tcp { ports, .. } | Body::Udp { ports, .. } => (ports.1, ports.0),
                _ => continue,
            };
            let answer = match packet.body {
                Body::Tcp { .. } => {
                    tcp(version, SERVER, OURS, (there, here), ACK, (1, 9001)).with_payload(8000)
                }
                _ => udp(version, SERVER, OURS, (there, here)).with_payload(8000),
            };
            let leaves = super_frame(&answer.clone().to(ALICE).routed(ALICE), 1200);
            let sent = [(1, leaves.0, leaves.1)];
            lab.send(9, &frame_of(&super_frame(&answer, 1200))).sends(routed(1), &sent, &[Rx(9), Walk(BACK)]);
        }
    }
}

#[test]
fn a_super_frame_is_too_big_when_its_pieces_are() {
    for version in BOTH {
        let wan = NetworkConfig { mtu: 1300, ..NetworkConfig::default() };
        let mut lab = world_of(&open(), [NetworkConfig::default(), NetworkConfig::default(), wan]);
        let headers = if version == Version::V4 { 40 } else { 60 };
        let packet = tcp(version, ALICE, SERVER, (5000, 80), ACK, (1, 1)).with_payload(9000);
        let leaves = super_frame(&packet.clone().routed(OUTSIDE), 1300 - headers);
        let fits = frame_of(&super_frame(&packet, 1300 - headers));
        lab.send(1, &fits).sends(routed(9), &[(9, leaves.0, leaves.1)], &[Rx(1), Flow]);
        let error = about(&packet, Says::TooBig(1300), GATEWAY1);
        let counts = [Rx(1), Drop(1, DropReason::TooBig)];
        let larger = frame_of(&super_frame(&packet, 1301 - headers));
        lab.send(1, &larger).sends(dropped(DropReason::TooBig), &[error.by(1)], &counts);
    }
}

#[test]
fn the_offload_header_must_be_about_the_packet() {
    let packet = tcp(Version::V4, ALICE, SERVER, (5000, 80), ACK, (1, 1)).with_payload(9000);
    let (bytes, offload) = super_frame(&packet, 1400);
    for lie in [
        Offload { csum_offset: 6, ..offload },
        Offload { csum_start: 14, csum_offset: 10, ..offload },
        Offload { gso_type: 4, ..offload },
    ] {
        let mut lab = world(&policy());
        lab.send(1, &frame_of(&(bytes.clone(), lie))).was_dropped(1, DropReason::BadOffload);
    }
}

/// A SYN that offers this maximum segment size, at an even place or an odd one.
fn syn(version: Version, mss: u16, is_odd: bool) -> Packet {
    let mut packet = tcp(version, ALICE, SERVER, (5000, 80), SYN, (1, 0));
    let [high, low] = mss.to_be_bytes();
    if let Body::Tcp { options, .. } = &mut packet.body {
        *options = if is_odd { vec![1, 2, 4, high, low, 1, 1, 0] } else { vec![2, 4, high, low] };
    }
    packet
}

#[test]
fn the_maximum_segment_size_is_clamped() {
    for (version, is_odd) in BOTH.into_iter().flat_map(|version| [(version, true), (version, false)]) {
        let wan = NetworkConfig { mtu: 1300, ..NetworkConfig::default() };
        let headers = if version == Version::V4 { 40 } else { 60 };
        let cases = [
            (MssClamp::Off, 1460, 1460),
            (MssClamp::PathMtu, 1460, 1300 - headers),
            (MssClamp::PathMtu, 1000, 1000),
            (MssClamp::At(900), 1460, 900),
        ];
        for (mss_clamp, offered, left) in cases {
            let mut lab = world_of(&policy(), [NetworkConfig::default(), NetworkConfig::default(), wan]);
            lab.apply(Change::SetInterface(NET1, Some(Interface { mss_clamp, ..interface1() })));
            let leaves = syn(version, left, is_odd).from(OURS).routed(OUTSIDE);
            let counts = [Rx(1), Flow, Mapped, Walk(OUT_NEW)];
            let packet = syn(version, offered, is_odd);
            lab.send(1, &packet.frame()).sends(routed(9), &[leaves.by(9)], &counts);
            // And in the answer.
            let mut answer = syn(version, offered, is_odd);
            answer.macs = (SERVER.mac, OURS.mac);
            let mut answer = answer.from((SERVER, 80)).to((OURS, 5000));
            if let Body::Tcp { flags, ack, .. } = &mut answer.body {
                (*flags, *ack) = (SYN | ACK, 2);
            }
            let mut leaves = answer.clone().to(ALICE).routed(ALICE);
            if let (Body::Tcp { options, .. }, Body::Tcp { options: clamped, .. }) =
                (&mut leaves.body, &syn(version, left, is_odd).body)
            {
                options.clone_from(clamped);
            }
            lab.send(9, &answer.frame()).sends(routed(1), &[leaves.by(1)], &[Rx(9), Walk(BACK)]);
        }
    }
}

#[test]
fn a_super_frame_that_may_be_cut_leaves_in_fragments_of_its_segments() {
    let wan = NetworkConfig { mtu: 1000, ..NetworkConfig::default() };
    let mut lab = world_of(&open(), [NetworkConfig::default(), NetworkConfig::default(), wan]);
    let packet = tcp(Version::V4, ALICE, SERVER, (5000, 80), ACK, (1, 1)).with_payload(3000).may_be_cut();
    let Body::Tcp { data: all, .. } = packet.body.clone() else { panic!() };
    let mut leaves = Vec::new();
    for (number, piece) in all.chunks(1400).enumerate() {
        let mut segment = packet.clone().routed(OUTSIDE);
        segment.id += number as u16;
        let Body::Tcp { seq, data, .. } = &mut segment.body else { panic!() };
        (*seq, *data) = (1 + 1400 * number as u32, piece.to_vec());
        match piece.len() + 40 {
            0..=1000 => leaves.push(segment.bytes()),
            _ => leaves.extend(fragments(&segment, 1000)),
        }
    }
    assert_eq!(leaves.len(), 5);
    let frame = frame_of(&super_frame(&packet, 1400));
    lab.send(1, &frame).sends(routed(9), &by(9, leaves), &[Rx(1), Flow]);
}

#[test]
fn a_super_frame_waits_whole_for_its_next_hop() {
    for version in BOTH {
        let mut lab = strangers(&policy(), [NetworkConfig::default(); 3]);
        introduce(&mut lab, ALICE);
        let packet = tcp(version, ALICE, SERVER, (5000, 80), ACK, (1, 1)).with_payload(9000);
        let frame = frame_of(&super_frame(&packet, 1400));
        assert_eq!(lab.send(1, &frame).verdict, Verdict::Held);
        let (bytes, offload) = super_frame(&packet.from(OURS).routed(OUTSIDE), 1400);
        let sent = lab.send(9, &answer(OUTSIDE, OURS, version)).sent;
        assert_eq!(sent, [(9, bytes, offload)]);
    }
}

#[test]
fn a_long_ping_to_a_gateway_is_answered_in_fragments() {
    for version in BOTH {
        let mut lab = world(&policy());
        let ping = echo(version, ALICE, GATEWAY1, 5, true).with_payload(4000).may_be_cut();
        let mut sent = Vec::new();
        for piece in fragments(&ping, 1500) {
            sent.extend(rule(&mut lab, 1, &piece));
        }
        let mut pong = echo(version, GATEWAY1, ALICE, 5, false).with_payload(4000).may_be_cut();
        pong.macs = (GATEWAY1.mac, ALICE.mac);
        let whole: usize = sent.iter().map(|(_, bytes, _)| bytes.len()).sum();
        let expected = fragments(&pong, 1500);
        assert_eq!(whole, expected.iter().map(Vec::len).sum::<usize>());
        // Who sent it cares about what is in it, not about the name of the fragments.
        let start = if version == Version::V4 { 34 } else { 62 };
        let bodies = |frames: Vec<Vec<u8>>| {
            frames.iter().flat_map(|frame| frame[start..].to_vec()).collect::<Vec<u8>>()
        };
        let sent = sent.into_iter().map(|(port, bytes, _)| {
            assert_eq!(port, 1);
            bytes
        });
        assert_eq!(bodies(sent.collect()), bodies(expected));
    }
}

/// As many packets as one port may have under way, and then some: the oldest go, and nothing grows.
#[test]
fn a_flood_of_first_fragments_takes_only_its_own_sender_down() {
    for version in BOTH {
        let mut lab = world(&open());
        let bobs = udp(version, BOB, SERVER, (5000, 53)).with_payload(3000).may_be_cut();
        let pieces = fragments(&bobs, 1400);
        let _ = rule(&mut lab, 2, &pieces[0]);
        for id in 0..2000 {
            let mut flood = udp(version, ALICE, SERVER, (5000, 53)).with_payload(3000).may_be_cut();
            flood.id = id;
            let _ = lab.send(1, &Frame::from_bytes(&fragments(&flood, 1400)[0]));
        }
        let drops = lab.switch.port(PortId(1)).unwrap().counters.drops[DropReason::FragmentLimit];
        assert!((1000..2000).contains(&drops), "{drops}");
        let sent: Vec<_> = pieces[1..].iter().flat_map(|piece| rule(&mut lab, 2, piece)).collect();
        assert_eq!(sent, by(9, fragments(&bobs.routed(OUTSIDE), 1400)));
    }
}
