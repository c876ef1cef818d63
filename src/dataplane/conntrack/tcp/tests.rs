use super::*;
use crate::wire::tcp::PSH;

/// Initial sequence numbers; the first one's wraps after 300 bytes.
const FIRST: [u32; 2] = [u32::MAX - 300, 5000];
const WINDOW: u16 = 1000;

/// A segment: who sends which flags (">SA": the original side, SYN and ACK), its sequence number and its
/// acknowledgement, both counted from the sides' initial ones, and bytes of payload. Then the state it
/// leads to; "invalid" if it must not pass.
type Step = (&'static str, i64, i64, u32, &'static str);

fn segment(what: &str, seq: i64, ack: i64, payload: u32) -> (Direction, Tcp) {
    let direction = if what.starts_with('>') { Direction::Original } else { Direction::Reply };
    let flag = |c| match c {
        'S' => SYN,
        'A' => ACK,
        'F' => FIN,
        'R' => RST,
        'P' => PSH,
        'U' => URG,
        _ => panic!("{c}"),
    };
    let from = |direction: Direction, by: i64| (i64::from(FIRST[direction.index()]) + by) as u32;
    let tcp = Tcp {
        source: 1,
        destination: 2,
        seq: from(direction, seq),
        ack: from(direction.opposite(), ack),
        flags: what[1..].chars().fold(0, |flags, c| flags | flag(c)),
        header_len: 20,
        window: WINDOW,
        window_scale: None,
        sack_permitted: false,
        payload,
    };
    (direction, tcp)
}

fn next(connection: Option<Connection>, direction: Direction, tcp: &Tcp) -> Option<Connection> {
    match connection {
        None => Connection::first(tcp, false),
        Some(connection) => connection.next(direction, tcp, false).ok(),
    }
}

/// Plays steps on from a connection, checks the state after each, and gives the last one.
#[track_caller]
fn play_on(mut connection: Option<Connection>, steps: &[Step]) -> Option<Connection> {
    for step in steps {
        let (direction, tcp) = segment(step.0, step.1, step.2, step.3);
        let after = next(connection, direction, &tcp);
        assert_eq!(
            after.map_or("invalid", |after| after.phase().name()),
            step.4,
            "{step:?} in {connection:?}"
        );
        connection = after.or(connection);
    }
    connection
}

#[track_caller]
fn play(steps: &[Step]) -> Option<Connection> {
    play_on(None, steps)
}

const HANDSHAKE: [Step; 3] =
    [(">S", 0, 0, 0, "SYN_SENT"), ("<SA", 0, 1, 0, "SYN_RECV"), (">A", 1, 1, 0, "ESTABLISHED")];

fn established() -> Option<Connection> {
    play(&HANDSHAKE)
}

/// Established, and 100 bytes were sent and acknowledged in either direction.
fn busy() -> Option<Connection> {
    play_on(
        established(),
        &[
            (">AP", 1, 1, 100, "ESTABLISHED"),
            ("<AP", 1, 101, 100, "ESTABLISHED"),
            (">A", 101, 101, 0, "ESTABLISHED"),
        ],
    )
}

#[test]
fn what_can_be_a_first_packet() {
    for (what, state) in [
        (">S", "SYN_SENT"),
        (">A", "ESTABLISHED"),
        (">AP", "ESTABLISHED"),
        (">AU", "ESTABLISHED"),
        (">AF", "FIN_WAIT"),
        (">SA", "invalid"),
        (">R", "invalid"),
        (">RA", "invalid"),
        (">F", "invalid"),
        (">", "invalid"),
        (">P", "invalid"),
        (">SF", "invalid"),
        (">SR", "invalid"),
        (">FPU", "invalid"),
        (">SAFRPU", "invalid"),
    ] {
        play(&[(what, 0, 0, 0, state)]);
    }
}

#[test]
fn senseless_flags_are_never_valid() {
    for what in [">", ">F", ">P", ">SF", ">SR", ">SAF", ">FR", ">RU", "<", "<F", "<SF", "<SAR", "<SAU"] {
        play_on(busy(), &[(what, 101, 101, 0, "invalid")]);
    }
}

#[test]
fn the_original_side_closes() {
    play_on(
        busy(),
        &[
            (">AF", 101, 101, 0, "FIN_WAIT"),
            (">AF", 101, 101, 0, "FIN_WAIT"), // again: not the other side's
            ("<A", 101, 101, 0, "FIN_WAIT"),  // does not cover the FIN
            ("<A", 101, 102, 0, "CLOSE_WAIT"),
            ("<AP", 101, 102, 500, "CLOSE_WAIT"), // half closed
            (">A", 102, 601, 0, "CLOSE_WAIT"),
            ("<AF", 601, 102, 0, "LAST_ACK"),
            (">A", 102, 602, 0, "TIME_WAIT"),
            ("<AF", 601, 102, 0, "TIME_WAIT"),
        ],
    );
}

#[test]
fn the_reply_side_closes_and_fin_carries_data() {
    play_on(
        busy(),
        &[
            ("<AF", 101, 101, 50, "FIN_WAIT"),
            (">AF", 101, 152, 0, "LAST_ACK"),
            ("<A", 152, 102, 0, "TIME_WAIT"),
        ],
    );
}

#[test]
fn both_close_at_once() {
    play_on(
        busy(),
        &[
            (">AF", 101, 101, 0, "FIN_WAIT"),
            ("<AF", 101, 101, 0, "LAST_ACK"),
            (">A", 102, 102, 0, "LAST_ACK"),
            ("<A", 102, 102, 0, "TIME_WAIT"),
        ],
    );
}

#[test]
fn simultaneous_open() {
    let with_syn_ack = [
        (">S", 0, 0, 0, "SYN_SENT"),
        ("<S", 0, 0, 0, "SYN_SENT2"),
        (">S", 0, 0, 0, "SYN_SENT2"),
        ("<SA", 0, 1, 0, "SYN_RECV"),
        ("<SA", 0, 1, 0, "SYN_RECV"),
        (">SA", 0, 1, 0, "ESTABLISHED"),
        (">AP", 1, 1, 10, "ESTABLISHED"),
    ];
    assert!(play(&with_syn_ack).unwrap().has_both_sides());
    play(&[
        (">S", 0, 0, 0, "SYN_SENT"),
        ("<S", 0, 0, 0, "SYN_SENT2"),
        (">SA", 0, 1, 0, "SYN_RECV"),
        ("<A", 1, 2, 0, "invalid"),
        ("<A", 1, 1, 0, "ESTABLISHED"),
    ]);
}

#[test]
fn handshakes_with_losses() {
    play(&[
        (">S", 0, 0, 0, "SYN_SENT"),
        (">S", 0, 0, 0, "SYN_SENT"),
        (">S", 70_000, 0, 0, "SYN_SENT"), // another attempt
        ("<SA", 0, 70_001, 0, "SYN_RECV"),
        (">S", 70_000, 0, 0, "SYN_RECV"),
        ("<SA", 0, 70_001, 0, "SYN_RECV"),
        (">AP", 70_001, 1, 100, "ESTABLISHED"), // the bare ACK was lost
        ("<SA", 0, 70_001, 0, "ESTABLISHED"),
    ]);
}

#[test]
fn syn_is_answered_by_what_acknowledges_it() {
    let syn = play(&[(">S", 0, 0, 0, "SYN_SENT")]);
    for (what, ack, state) in [
        ("<SA", 0, "invalid"),
        ("<SA", 2, "invalid"),
        ("<SA", 1, "SYN_RECV"),
        ("<RA", 0, "invalid"),
        ("<RA", 2, "invalid"),
        ("<R", 1, "invalid"),
        ("<RA", 1, "CLOSE"),
        ("<AF", 1, "invalid"),
        (">A", 1, "invalid"),
        (">SA", 1, "invalid"),
    ] {
        play_on(syn, &[(what, 0, ack, 0, state)]);
    }
}

#[test]
fn data_with_syn_may_be_taken_or_not() {
    let syn = play(&[(">S", 0, 0, 40, "SYN_SENT")]);
    for (ack, state) in [(0, "invalid"), (1, "SYN_RECV"), (41, "SYN_RECV"), (42, "invalid")] {
        play_on(syn, &[("<SA", 0, ack, 0, state)]);
    }
    play_on(
        syn,
        &[("<SA", 0, 1, 0, "SYN_RECV"), (">AP", 1, 1, 40, "ESTABLISHED"), ("<A", 1, 41, 0, "ESTABLISHED")],
    );
}

#[test]
fn a_half_open_connection_is_found_out() {
    // The original side has forgotten, and begins anew.
    play_on(
        busy(),
        &[
            (">S", 900_000, 0, 0, "ESTABLISHED"),
            ("<A", 101, 101, 0, "ESTABLISHED"), // "this is where we are"
            (">R", 101, 0, 0, "CLOSE"),
            (">S", 900_000, 0, 0, "SYN_SENT"),
            ("<SA", 70_000, 900_001, 0, "SYN_RECV"),
        ],
    );
    // Only the reply side remembers: the flow is new.
    play(&[
        (">S", 900_000, 0, 0, "SYN_SENT"),
        ("<A", 101, 101, 0, "SYN_SENT"),
        (">R", 101, 0, 0, "SYN_SENT"),
        (">S", 900_000, 0, 0, "SYN_SENT"),
        ("<SA", 70_000, 900_001, 0, "SYN_RECV"),
    ]);
}

#[test]
fn a_connection_that_both_sides_have_forgotten_hangs_nobody() {
    // A late acknowledgement of the last connection was picked up; or the table alone remembers a connection.
    let late = play(&[(">A", 4000, 7000, 0, "ESTABLISHED")]);
    let closing = play(&[(">AF", 4000, 7000, 0, "FIN_WAIT")]);
    for (stale, state) in [(late, "ESTABLISHED"), (closing, "FIN_WAIT"), (busy(), "ESTABLISHED")] {
        let asked = play_on(
            stale,
            &[
                ("<SA", -2_000_000_000, 900_001, 0, "invalid"), // nobody has asked
                (">S", 900_000, 0, 0, state),
                (">S", 900_000, 0, 0, state), // and again after a second
                ("<SA", -2_000_000_000, 900_002, 0, "invalid"),
            ],
        );
        let open = play_on(
            asked,
            &[
                ("<SA", -2_000_000_000, 900_001, 0, "SYN_RECV"),
                ("<SA", -2_000_000_000, 900_001, 0, "SYN_RECV"), // it was lost, and comes again
                (">A", 900_001, -1_999_999_999, 0, "ESTABLISHED"),
                (">AP", 900_001, -1_999_999_999, 100, "ESTABLISHED"),
                ("<AP", -1_999_999_999, 900_101, 100, "ESTABLISHED"),
            ],
        );
        assert!(open.unwrap().has_both_sides());
        play_on(
            open,
            &[(">AF", 900_101, -1_999_999_899, 0, "FIN_WAIT"), ("<R", -1_999_999_899, 0, 0, "CLOSE")],
        );
    }
    // A forged SYN alone changes nothing.
    let forged = play_on(busy(), &[(">S", 900_000, 0, 0, "ESTABLISHED")]);
    play_on(forged, &[(">AP", 101, 101, 50, "ESTABLISHED"), ("<A", 101, 151, 0, "ESTABLISHED")]);
}

#[test]
fn only_the_original_side_reopens() {
    let closed = play_on(busy(), &[(">R", 101, 0, 0, "CLOSE")]);
    let waiting = play_on(
        busy(),
        &[
            (">AF", 101, 101, 0, "FIN_WAIT"),
            ("<AF", 101, 102, 0, "LAST_ACK"),
            (">A", 102, 102, 0, "TIME_WAIT"),
        ],
    );
    for connection in [closed, waiting] {
        play_on(connection, &[("<S", 9000, 0, 0, "invalid")]);
        let state = connection.unwrap().phase().name();
        play_on(connection, &[(">A", 101, 101, 0, state)]);
        play_on(connection, &[(">S", 9000, 0, 0, "SYN_SENT"), ("<SA", 0, 9001, 0, "SYN_RECV")]);
        for (what, reopens) in [(">S", true), (">SA", false), (">A", false), ("<S", false)] {
            let (direction, tcp) = segment(what, 9000, 0, 0);
            assert_eq!(connection.unwrap().is_reopened_by(direction, &tcp), reopens, "{what}");
        }
    }
    let (direction, tcp) = segment(">S", 9000, 0, 0);
    assert!(!busy().unwrap().is_reopened_by(direction, &tcp));
}

#[test]
fn the_reply_sides_syn_is_not_part_of_a_connection() {
    play_on(established(), &[("<S", 1, 0, 0, "invalid")]);
}

#[test]
fn resets_need_the_right_sequence_number() {
    // Both sides sent 100 bytes; the window ends at 1101.
    for (what, seq, state) in [
        ("<R", 101, "CLOSE"),
        ("<RA", 101, "CLOSE"),
        (">R", 101, "CLOSE"),
        ("<R", 102, "ESTABLISHED"), // its receiver asks whether that is so
        (">R", 1101, "ESTABLISHED"),
        ("<R", 1102, "invalid"),
        ("<R", 100, "invalid"),
        ("<R", 0, "invalid"),
        (">R", 1_000_000, "invalid"),
        (">R", -2_000_000_000, "invalid"),
    ] {
        play_on(busy(), &[(what, seq, 101, 0, state)]);
    }
}

#[test]
fn a_reset_may_answer_data_that_was_lost() {
    // 100 bytes are on their way; the other side has not seen them when it asks for the reset, or has.
    let sent = play_on(busy(), &[(">AP", 101, 101, 100, "ESTABLISHED")]);
    for (seq, state) in [(101, "CLOSE"), (150, "ESTABLISHED"), (201, "CLOSE")] {
        play_on(sent, &[(">R", seq, 0, 0, state)]);
    }
}

#[test]
fn a_half_open_handshake_is_reset_by_either_side() {
    let opening = play(&HANDSHAKE[..2]);
    for (what, seq, state) in
        [(">R", 1, "CLOSE"), ("<R", 1, "CLOSE"), ("<R", 5000, "invalid"), (">R", 5000, "invalid")]
    {
        play_on(opening, &[(what, seq, 1, 0, state)]);
    }
}

#[test]
fn what_follows_a_refused_handshake_is_no_danger() {
    play(&[(">S", 0, 0, 0, "SYN_SENT"), ("<RA", 0, 1, 0, "CLOSE"), (">A", 1, -5000, 0, "CLOSE")]);
}

#[test]
fn data_belongs_into_the_window() {
    for (what, seq, ack, payload, state) in [
        (">AP", 101, 101, 1000, "ESTABLISHED"),
        (">AP", 1101, 101, 1, "ESTABLISHED"), // a probe of a full window
        (">AP", 101, 101, 65_000, "ESTABLISHED"), // a super-frame begins within
        (">AP", 1102, 101, 1, "invalid"),
        (">AP", 2_000_000, 101, 1, "invalid"),
        (">A", 100, 101, 0, "ESTABLISHED"),  // keepalive
        (">A", 100, 101, 1, "ESTABLISHED"),  // keepalive with the old byte
        (">AP", 1, 101, 100, "ESTABLISHED"), // retransmission
        (">AP", -140_000, 101, 100, "invalid"),
        (">AP", -1_000_000, 101, 100, "invalid"),
        (">AP", 101, 102, 10, "invalid"),  // acknowledges what was not sent
        (">A", 101, 50, 0, "ESTABLISHED"), // overtaken by a later one
        (">A", 101, -140_000, 0, "invalid"),
        (">A", 101, 2_000_000_000, 0, "invalid"),
    ] {
        play_on(busy(), &[(what, seq, ack, payload, state)]);
    }
}

#[test]
fn invalid_segments_change_nothing() {
    let connection = busy();
    for (what, seq, ack) in [(">AF", 5000, 101), ("<R", 99, 101), ("<S", 101, 0), ("<AF", 101, 102)] {
        let (direction, tcp) = segment(what, seq, ack, 0);
        if let Some(after) = next(connection, direction, &tcp) {
            assert_eq!(Some(after), connection, "{what} {seq}");
        }
    }
}

#[test]
fn a_forged_segment_within_the_window_does_not_lock_the_true_ones_out() {
    let forged = play_on(
        busy(),
        &[
            ("<AP", 1101, 101, 65_535, "ESTABLISHED"), // as far as can be
            (">A", 101, 66_636, 0, "ESTABLISHED"),     // and acknowledged, as if it were true
        ],
    );
    play_on(forged, &[("<AP", 101, 101, 10, "ESTABLISHED"), (">A", 101, 111, 0, "ESTABLISHED")]);
}

#[test]
fn a_forged_fin_is_forgotten_when_its_sender_sends_on() {
    play_on(
        busy(),
        &[
            ("<AF", 301, 101, 0, "FIN_WAIT"),
            ("<AP", 101, 101, 150, "FIN_WAIT"),
            (">A", 101, 251, 0, "FIN_WAIT"),
            ("<AP", 251, 101, 150, "ESTABLISHED"),
        ],
    );
}

#[test]
fn scaled_windows_count_if_both_sides_scale() {
    for (offers, at, state) in [
        ([Some(7), Some(4)], 16_001, "ESTABLISHED"),
        ([Some(7), Some(4)], 16_002, "invalid"),
        ([Some(7), None], 1001, "ESTABLISHED"),
        ([Some(7), None], 1002, "invalid"),
        ([None, Some(4)], 1002, "invalid"),
        ([Some(99), Some(99)], 16_384_001, "ESTABLISHED"), // 14 (RFC 7323 §2.3)
        ([Some(99), Some(99)], 16_384_002, "invalid"),
    ] {
        let mut connection = None;
        for ((what, seq, ack, payload, _), scale) in HANDSHAKE.iter().zip([offers[0], offers[1], None]) {
            let (direction, mut tcp) = segment(what, *seq, *ack, *payload);
            tcp.window_scale = scale;
            connection = next(connection, direction, &tcp);
        }
        let connection = play_on(connection, &[("<A", 1, 1, 0, "ESTABLISHED")]);
        play_on(connection, &[(">AP", at, 1, 1, state)]);
    }
}

#[test]
fn a_zero_window_stops_nothing_that_tcp_sends() {
    let (direction, mut tcp) = segment("<A", 101, 1101, 0);
    tcp.window = 0;
    let full = play_on(busy(), &[(">AP", 101, 101, 1000, "ESTABLISHED")]);
    let closed = next(full, direction, &tcp);
    play_on(
        closed,
        &[
            (">A", 1100, 101, 0, "ESTABLISHED"),  // Linux's probe
            (">AP", 1101, 101, 1, "ESTABLISHED"), // BSD's
            ("<A", 101, 1102, 0, "ESTABLISHED"),  // which was taken
            (">AP", 2102, 101, 1, "ESTABLISHED"),
            (">AP", 2103, 101, 1, "invalid"),
        ],
    );
}

#[test]
fn a_connection_is_picked_up_in_the_middle() {
    let picked = play(&[(">AP", 5000, 7000, 100, "ESTABLISHED")]);
    assert!(!picked.unwrap().has_both_sides());
    let both = play_on(
        picked,
        &[
            ("<A", 7000, 5100, 0, "ESTABLISHED"),
            ("<A", 7000, 900_000, 0, "ESTABLISHED"), // what was sent before it was seen
            (">AP", 900_000, 30_000, 1000, "ESTABLISHED"),
        ],
    );
    assert!(both.unwrap().has_both_sides());
    play_on(
        both,
        &[("<R", 8000, 0, 0, "invalid"), ("<R", 30_001, 0, 0, "ESTABLISHED"), ("<R", 30_000, 0, 0, "CLOSE")],
    );
    play_on(
        both,
        &[
            (">AF", 901_000, 30_000, 0, "FIN_WAIT"),
            ("<AF", 30_000, 901_001, 0, "LAST_ACK"),
            (">A", 901_001, 30_001, 0, "TIME_WAIT"),
        ],
    );
    play_on(both, &[(">A", 2_100_000_000, 30_000, 0, "invalid")]);
}

#[test]
fn a_fragments_end_is_not_known() {
    let (direction, tcp) = segment(">AP", 101, 101, 16);
    let whole = busy().unwrap().next(direction, &tcp, false).ok();
    let cut = busy().unwrap().next(direction, &tcp, true).ok();
    play_on(whole, &[("<A", 101, 901, 0, "invalid")]);
    play_on(cut, &[("<A", 101, 901, 0, "ESTABLISHED"), ("<R", 1102, 0, 0, "invalid")]);
}

#[test]
fn timeouts_by_state() {
    let timeouts = Timeouts {
        tcp_syn_sent: 1,
        tcp_syn_recv: 2,
        tcp_established: 3,
        tcp_fin_wait: 4,
        tcp_close_wait: 5,
        tcp_last_ack: 6,
        tcp_time_wait: 7,
        tcp_close: 8,
        ..Timeouts::default()
    };
    let of = |connection: Option<Connection>| connection.unwrap().timeout(&timeouts);
    let mut connection = None;
    for (step, timeout) in [
        (HANDSHAKE[0], 1),
        (HANDSHAKE[1], 2),
        (HANDSHAKE[2], 3),
        ((">AF", 1, 1, 0, "FIN_WAIT"), 4),
        (("<A", 1, 2, 0, "CLOSE_WAIT"), 5),
        (("<AF", 1, 2, 0, "LAST_ACK"), 6),
        ((">A", 2, 2, 0, "TIME_WAIT"), 7),
        (("<R", 2, 0, 0, "CLOSE"), 8),
    ] {
        connection = play_on(connection, &[step]);
        assert_eq!(of(connection), timeout, "{step:?}");
    }
    let picked = play(&[(">A", 0, 0, 0, "ESTABLISHED")]);
    assert_eq!(of(picked), 1);
    assert_eq!(of(play_on(picked, &[("<A", 0, 0, 0, "ESTABLISHED")])), 3);
}
