use super::*;
use crate::wire::ip::{Addr, Version};
use crate::wire::tcp::{ACK, SYN, Tcp};
use crate::wire::udp::Udp;

use Direction::{Original, Reply};

fn packet(payload: Transport) -> Packet {
    Packet {
        source: Addr::UNSPECIFIED_V4,
        destination: Addr::UNSPECIFIED_V4,
        start: 14,
        transport: 34,
        end: 100,
        fragment: None,
        version: Version::V4,
        protocol: 0,
        ttl: 64,
        tos: 0,
        dont_fragment: false,
        partial_checksum: false,
        payload,
    }
}

fn udp() -> Packet {
    packet(Transport::Udp(Udp { source: 1, destination: 2, length: 8, checksum: true }))
}

fn query(is_request: bool) -> Packet {
    packet(Transport::Query { kind: if is_request { 8 } else { 0 }, id: 7, is_request })
}

fn tcp(flags: u8, seq: u32, ack: u32) -> Packet {
    packet(Transport::Tcp(Tcp {
        source: 1,
        destination: 2,
        seq,
        ack,
        flags,
        header_len: 20,
        window: 1000,
        window_scale: None,
        sack_permitted: false,
        payload: 0,
    }))
}

/// A flow's states, packet by packet.
fn walk(packets: &[(Direction, Packet)]) -> State {
    let [(_, first), others @ ..] = packets else { panic!() };
    let first = State::first(first).unwrap();
    others.iter().fold(first, |state, (direction, packet)| state.next(*direction, packet).unwrap())
}

#[test]
fn what_can_begin_a_flow() {
    for (payload, begins) in [
        (udp().payload, true),
        (Transport::Other, true),
        (query(true).payload, true),
        (query(false).payload, false),
        (Transport::Icmp { kind: 9, code: 0 }, false),
        (Transport::LaterFragment, false),
        (tcp(SYN, 0, 0).payload, true),
        (tcp(SYN | ACK, 0, 0).payload, false),
    ] {
        assert_eq!(State::first(&packet(payload)).is_some(), begins, "{payload:?}");
    }
}

#[test]
fn a_conversation_is_a_stream_from_the_third_packet() {
    for (payload, wrap) in
        [(udp().payload, State::Udp as fn(Talk) -> State), (Transport::Other, State::Generic)]
    {
        let mut state = State::first(&packet(payload)).unwrap();
        for (direction, talk, assured) in [
            (Original, Talk::Asked, false),
            (Reply, Talk::Answered, false),
            (Reply, Talk::Stream, true),
            (Original, Talk::Stream, true),
        ] {
            state = state.next(direction, &packet(payload)).unwrap();
            assert_eq!(state, wrap(talk));
            assert_eq!((state.is_assured(), state.is_droppable()), (assured, !assured));
        }
    }
}

#[test]
fn icmp_answers_go_back_and_questions_do_not() {
    let asked = State::first(&query(true)).unwrap();
    for (direction, is_request, is_valid) in
        [(Original, true, true), (Original, false, false), (Reply, true, false), (Reply, false, true)]
    {
        assert_eq!(asked.next(direction, &query(is_request)).is_ok(), is_valid);
    }
    assert!(!asked.is_assured() && asked.is_droppable());
}

#[test]
fn another_protocols_packet_is_invalid_and_a_fragment_changes_nothing() {
    let state = walk(&[(Original, udp())]);
    assert_eq!(state.next(Original, &query(true)), Err(Invalid));
    assert_eq!(state.next(Original, &tcp(SYN, 0, 0)), Err(Invalid));
    assert_eq!(state.next(Reply, &packet(Transport::LaterFragment)), Ok(state));
}

#[test]
fn tcp_is_assured_when_open_and_droppable_when_not() {
    use crate::wire::tcp::{FIN, RST};
    let packets = [
        (Original, tcp(SYN, 0, 0), "SYN_SENT", false, true),
        (Reply, tcp(SYN | ACK, 0, 1), "SYN_RECV", false, true),
        (Original, tcp(ACK, 1, 1), "ESTABLISHED", true, false),
        (Original, tcp(FIN | ACK, 1, 1), "FIN_WAIT", true, true),
        (Reply, tcp(FIN | ACK, 1, 2), "LAST_ACK", true, true),
        (Original, tcp(ACK, 2, 2), "TIME_WAIT", true, true),
        (Reply, tcp(RST, 2, 0), "CLOSE", true, true),
        (Original, tcp(SYN, 9, 0), "SYN_SENT", false, true),
    ];
    for len in 1..=packets.len() {
        let walked: Vec<_> = packets[..len].iter().map(|step| (step.0, step.1)).collect();
        let (state, (.., name, assured, droppable)) = (walk(&walked), packets[len - 1]);
        assert_eq!((state.name(), state.is_assured(), state.is_droppable()), (name, assured, droppable));
    }
}

#[test]
fn timeouts_by_protocol() {
    let timeouts = Timeouts { udp: 1, udp_stream: 2, icmp: 3, generic: 4, ..Timeouts::default() };
    let other = packet(Transport::Other);
    for (packets, timeout, name) in [
        (&[(Original, udp())][..], 1, ""),
        (&[(Original, udp()), (Reply, udp())], 1, ""),
        (&[(Original, udp()), (Reply, udp()), (Original, udp())], 2, ""),
        (&[(Original, query(true)), (Reply, query(false))], 3, ""),
        (&[(Original, other), (Reply, other), (Reply, other)], 4, ""),
    ] {
        let state = walk(packets);
        assert_eq!((state.timeout(&timeouts), state.name()), (timeout, name));
    }
}
