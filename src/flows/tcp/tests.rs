use proptest::prelude::*;

use super::*;

const ISS: u32 = 0xffff_fff0;
const PEER: u32 = 5_000;

fn segment(flags: u8, seq: u32, ack: u32, window: u16, payload: u32) -> Segment {
    Segment {
        source: 1,
        destination: 2,
        seq,
        ack,
        flags,
        header_len: 20,
        window,
        window_scale: None,
        sack_permitted: false,
        payload,
    }
}

fn syn(window: u16, scale: Option<u8>) -> Segment {
    Segment { window_scale: scale, ..segment(SYN, PEER, 0, window, 0) }
}

fn at(milliseconds: u64) -> Instant {
    Instant(milliseconds * 1_000_000)
}

/// A connection that the peer opened, without window scaling.
fn open(window: u16) -> Tcp {
    let mut tcp = Tcp::accepting(at(0), &syn(window, None), Some(1000), ISS);
    tcp.connected();
    let greeting = tcp.header(at(0), 0, false, 65_535);
    assert_eq!((greeting.flags, greeting.seq, greeting.ack), (SYN | ACK, ISS, PEER + 1));
    let received = tcp.on_segment(at(1), &segment(ACK, PEER + 1, ISS.wrapping_add(1), window, 0), None);
    assert_eq!(received, Received { opened: true, ..Received::default() });
    assert!(!tcp.is_half_open());
    tcp
}

#[test]
fn a_syn_is_answered_when_the_host_is_connected() {
    let mut tcp = Tcp::accepting(at(0), &syn(100, Some(7)), Some(1460), ISS);
    assert_eq!((tcp.wants(true), tcp.deadline()), (Wants::Nothing, None));
    // It asks again meanwhile.
    assert_eq!(tcp.on_segment(at(900), &syn(100, Some(7)), Some(1460)), Received::default());
    let refusal = tcp.reset();
    assert_eq!((refusal.flags, refusal.seq, refusal.ack), (RST | ACK, 0, PEER + 1));
    tcp.connected();
    assert_eq!(tcp.wants(false), Wants::Control);
    let answer = tcp.header(at(1000), 0, false, 300_000);
    assert_eq!(answer.offer, Some((65_475, Some(SHIFT))));
    assert_eq!(answer.window, 65_535, "a SYN's window is not scaled");
    assert_eq!(tcp.wants(false), Wants::Nothing);
    // The answer gets lost.
    let again = tcp.deadline().unwrap();
    assert_eq!(again, at(2000));
    assert_eq!(tcp.on_timeout(again), Timeout::Goes);
    assert_eq!(tcp.wants(false), Wants::Control);
    assert_eq!(tcp.header(again, 0, false, 300_000).seq, ISS);
    tcp.on_segment(again, &segment(ACK, PEER + 1, ISS.wrapping_add(1), 100, 0), None);
    assert_eq!(tcp.window, 100 << 7);
    assert_eq!(tcp.header(again, 0, false, 300_000).window, (300_000 >> SHIFT) as u16);
}

#[test]
fn a_connection_that_the_host_accepted() {
    let mut tcp = Tcp::calling(at(0), ISS);
    assert_eq!(tcp.wants(true), Wants::Control);
    let call = tcp.header(at(0), 0, false, 65_535);
    assert_eq!((call.flags, call.seq, call.ack), (SYN, ISS, 0));
    // Somebody else's answer.
    let wrong = segment(SYN | ACK, PEER, ISS, 100, 0);
    assert_eq!(tcp.on_segment(at(1), &wrong, None), Received { stray: true, ..Received::default() });
    let refusal = segment(RST | ACK, 0, ISS.wrapping_add(1), 0, 0);
    assert!(tcp.clone().on_segment(at(1), &refusal, None).reset);
    let answer = segment(SYN | ACK, PEER, ISS.wrapping_add(1), 100, 0);
    assert!(tcp.on_segment(at(1), &answer, Some(500)).opened);
    assert_eq!((tcp.wants(false), tcp.mss()), (Wants::Control, 500));
    let done = tcp.header(at(1), 0, false, 65_535);
    assert_eq!((done.flags, done.seq, done.ack), (ACK, ISS.wrapping_add(1), PEER + 1));
    assert_eq!(tcp.wants(true), Wants::Data { offset: 0, room: 100 });
}

#[test]
fn what_is_in_order_is_taken_and_the_rest_is_not() {
    let mut tcp = open(1000);
    let next = PEER + 1;
    let data = |seq: u32, len| segment(ACK, seq, ISS.wrapping_add(1), 1000, len);
    let table = [
        (next, 0, 10),
        (next.wrapping_sub(4), 4, 6),
        (next.wrapping_sub(10), 10, 0),
        (next + 1, 0, 0),
        (next - 11, 0, 0),
    ];
    for (seq, skip, take) in table {
        let mut tcp = tcp.clone();
        let received = tcp.on_segment(at(2), &data(seq, 10), None);
        assert_eq!((received.skip, received.take), (skip, take), "{seq}");
        let waits = if take == 10 { Wants::Nothing } else { Wants::Control };
        assert_eq!(tcp.wants(false), waits, "what is not all new is acknowledged at once: {seq}");
    }
    // The socket takes a part.
    let whole = segment(ACK | FIN, next, ISS.wrapping_add(1), 1000, 10);
    tcp.on_segment(at(2), &whole, None);
    tcp.took(4, false, &whole);
    assert_eq!((tcp.header(at(2), 0, false, 0).ack, tcp.has_finished()), (next + 4, false));
    tcp.on_segment(at(3), &whole, None);
    tcp.took(6, true, &whole);
    assert_eq!((tcp.header(at(3), 0, false, 0).ack, tcp.has_finished()), (next + 11, true));
}

#[test]
fn a_few_bytes_are_acknowledged_by_the_answer_or_a_little_later() {
    let request = |tcp: &mut Tcp, now, len| {
        let data = segment(ACK, tcp.rcv_nxt, ISS.wrapping_add(1), 1000, len);
        assert_eq!(tcp.on_segment(now, &data, None).take, len as usize);
        tcp.took(len as usize, true, &data);
    };
    let mut tcp = open(1000);
    request(&mut tcp, at(2), 10);
    assert_eq!((tcp.wants(false), tcp.deadline()), (Wants::Nothing, Some(at(2) + DELAY)));
    assert_eq!(tcp.clone().header(at(3), 5, false, 0).ack, PEER + 11, "the answer");
    // The answer takes its time; what comes meanwhile does not put it off.
    request(&mut tcp, at(3), 10);
    assert_eq!((tcp.wants(false), tcp.deadline()), (Wants::Nothing, Some(at(2) + DELAY)));
    assert_eq!(tcp.on_timeout(at(2) + DELAY), Timeout::Goes);
    assert_eq!(tcp.wants(false), Wants::Control);
    assert_eq!(tcp.header(at(4), 0, false, 0).ack, PEER + 21);
    assert_eq!((tcp.wants(false), tcp.deadline()), (Wants::Nothing, Some(at(3) + KEEP_ALIVE)));
    // The maximum segment size is 1,000.
    request(&mut tcp, at(5), 1999);
    assert_eq!(tcp.wants(false), Wants::Nothing);
    request(&mut tcp, at(5), 1);
    assert_eq!(tcp.wants(false), Wants::Control);
}

#[test]
fn both_ends_close() {
    let mut tcp = open(1000);
    tcp.end();
    assert_eq!(tcp.wants(true), Wants::Data { offset: 0, room: 1000 });
    let fin = tcp.header(at(2), 3, true, 65_535);
    assert_eq!((fin.flags, fin.seq), (ACK | PSH | FIN, ISS.wrapping_add(1)));
    let acknowledged = segment(ACK, PEER + 1, fin.seq.wrapping_add(4), 1000, 0);
    assert_eq!(
        tcp.on_segment(at(3), &acknowledged, None).acknowledged,
        3,
        "the FIN is no byte of the socket's"
    );
    assert!(!tcp.is_over());
    let last = segment(ACK | FIN, PEER + 1, fin.seq.wrapping_add(4), 1000, 0);
    tcp.on_segment(at(4), &last, None);
    assert!(tcp.has_finished() && !tcp.is_over(), "the peer has to know");
    assert_eq!(tcp.header(at(4), 0, false, 65_535).ack, PEER + 2);
    assert!(tcp.is_over());
}

#[test]
fn guesses_do_not_reset() {
    let mut tcp = open(1000);
    tcp.header(at(2), 0, false, 10_000);
    for (seq, reset, answered) in [
        (PEER + 1, true, false),
        (PEER + 2, false, true),
        (PEER + 70_000, false, false),
        (PEER, false, false),
    ] {
        let mut tcp = tcp.clone();
        assert_eq!(tcp.on_segment(at(3), &segment(RST, seq, 0, 0, 0), None).reset, reset, "{seq}");
        assert_eq!(tcp.wants(false) == Wants::Control, answered, "{seq}");
    }
    tcp.on_segment(at(3), &syn(1000, None), None);
    assert_eq!(tcp.wants(false), Wants::Control, "a challenge (RFC 5961 §4.2)");
    // Who acknowledges what was never sent is told what was.
    let mut tcp = open(1000);
    let received = tcp.on_segment(at(3), &segment(ACK, PEER + 1, ISS.wrapping_add(500), 1000, 5), None);
    assert_eq!((received, tcp.wants(false)), (Received::default(), Wants::Control));
}

#[test]
fn data_with_an_old_acknowledgement_may_be_a_guess() {
    const UNA: u32 = ISS.wrapping_add(601);
    let mut tcp = open(1000);
    // 700 bytes are under way, 600 of them are acknowledged, and the window shrinks: 1000 was the largest.
    tcp.header(at(2), 700, false, 60_000);
    tcp.on_segment(at(3), &segment(ACK, PEER + 1, UNA, 200, 0), None);
    tcp.header(at(3), 0, false, 60_000);
    let table = [
        (UNA.wrapping_add(101), false, "what was never sent"),
        (UNA.wrapping_add(100), true, "all that was sent"),
        (UNA, true, "nothing new"),
        (UNA.wrapping_sub(1), true, "overtaken by a later one"),
        (UNA.wrapping_sub(1000), true, "the oldest that may be under way"),
        (UNA.wrapping_sub(1001), false, "older"),
        (UNA.wrapping_add(1 << 31), false, "half around the circle"),
        (UNA.wrapping_add(1 << 30), false, "a quarter ahead"),
        (UNA.wrapping_sub(1 << 30), false, "a quarter behind"),
    ];
    for (ack, is_taken, what) in table {
        let mut tcp = tcp.clone();
        let received = tcp.on_segment(at(4), &segment(ACK, PEER + 1, ack, 200, 10), None);
        assert_eq!(received.take, if is_taken { 10 } else { 0 }, "{what}");
        if is_taken {
            continue;
        }
        assert_eq!((received, tcp.window), (Received::default(), 200), "{what}: nothing of it counts");
        assert_eq!(tcp.wants(false), Wants::Control, "{what}: a challenge (RFC 5961 §5.2)");
        let challenge = tcp.header(at(4), 0, false, 60_000);
        assert_eq!((challenge.flags, challenge.seq, challenge.ack), (ACK, ISS.wrapping_add(701), PEER + 1));
        assert_eq!(tcp.wants(false), Wants::Nothing, "{what}: one");
    }
}

#[test]
fn three_duplicates_send_again_and_a_timeout_does() {
    let mut tcp = open(60_000);
    for _ in 0..4 {
        tcp.header(at(10), 1000, false, 65_535);
    }
    let duplicate = segment(ACK, PEER + 1, ISS.wrapping_add(1), 60_000, 0);
    for _ in 0..2 {
        tcp.on_segment(at(11), &duplicate, None);
        assert_eq!(tcp.wants(false), Wants::Nothing);
    }
    tcp.on_segment(at(11), &duplicate, None);
    assert_eq!(tcp.wants(false), Wants::Data { offset: 0, room: 2000 }, "half of what was under way");
    assert_eq!(tcp.header(at(11), 1000, false, 65_535).seq, ISS.wrapping_add(1));
    // More of them tell nothing new.
    for _ in 0..5 {
        tcp.on_segment(at(12), &duplicate, None);
    }
    assert_eq!(tcp.wants(false), Wants::Data { offset: 1000, room: 1000 });
    let due = tcp.deadline().unwrap();
    assert_eq!(tcp.on_timeout(due), Timeout::Goes);
    assert_eq!(tcp.wants(false), Wants::Data { offset: 0, room: 1000 });
    // All of it has arrived in the end.
    let all = segment(ACK, PEER + 1, ISS.wrapping_add(4001), 60_000, 0);
    assert_eq!(tcp.on_segment(due, &all, None).acknowledged, 4000);
    assert_eq!(tcp.deadline(), Some(due + KEEP_ALIVE));
}

#[test]
fn a_peer_that_is_gone_is_given_up() {
    let mut tcp = open(60_000);
    tcp.header(at(10), 1000, false, 65_535);
    let mut waits = 0;
    let now = loop {
        let now = tcp.deadline().unwrap();
        if tcp.on_timeout(now) == Timeout::Over {
            break now;
        }
        tcp.header(now, 1000, false, 65_535);
        waits += 1;
    };
    assert_eq!(waits, MAX_RETRIES);
    assert!(now.since(at(10)) > Duration::from_secs(30));

    // An idle one is asked, and lives on when it answers.
    let mut tcp = open(60_000);
    let idle = tcp.deadline().unwrap();
    assert_eq!(idle, at(1) + KEEP_ALIVE);
    assert_eq!(tcp.on_timeout(idle), Timeout::Goes);
    assert_eq!(tcp.wants(false), Wants::Control);
    assert_eq!(tcp.header(idle, 0, false, 65_535).seq, ISS, "what it has already");
    let answer = segment(ACK, PEER + 1, ISS.wrapping_add(1), 60_000, 0);
    tcp.on_segment(idle, &answer, None);
    assert_eq!(tcp.deadline(), Some(idle + KEEP_ALIVE));
}

#[test]
fn a_window_that_stays_shut_is_asked_for_again_and_again() {
    let mut tcp = open(0);
    assert_eq!(tcp.wants(true), Wants::Nothing);
    tcp.blocked(at(2));
    for _ in 0..50 {
        let now = tcp.deadline().unwrap();
        assert_eq!(tcp.on_timeout(now), Timeout::Goes, "it answers, so it is there");
        assert_eq!(tcp.wants(true), Wants::Data { offset: 0, room: 1 });
        assert_eq!(tcp.header(now, 1, false, 65_535).seq, ISS.wrapping_add(1));
        tcp.on_segment(now, &segment(ACK, PEER + 1, ISS.wrapping_add(1), 0, 0), None);
    }
    let now = at(100_000_000);
    tcp.on_segment(now, &segment(ACK, PEER + 1, ISS.wrapping_add(1), 5000, 0), None);
    assert_eq!(tcp.wants(true), Wants::Data { offset: 0, room: 5000 }, "the probe was not taken");
}

#[test]
fn an_idle_peer_with_a_shut_window_is_asked_before_it_is_given_up() {
    let mut tcp = open(0);
    for _ in 0..20 {
        let now = tcp.deadline().unwrap();
        assert_eq!(tcp.on_timeout(now), Timeout::Goes);
        assert_eq!(tcp.wants(false), Wants::Control);
        assert_eq!(tcp.header(now, 0, false, 65_535).seq, ISS);
        tcp.on_segment(now, &segment(ACK, PEER + 1, ISS.wrapping_add(1), 0, 0), None);
    }
}

/// One end of a connection: the machine, what its socket received and was given, and what is to be.
struct End {
    tcp: Tcp,
    received: Vec<u8>,
    at: usize,
    given: Vec<u8>,
    closed: bool,
}

impl End {
    fn new(tcp: Tcp, received: Vec<u8>) -> Self {
        Self { tcp, received, at: 0, given: Vec::new(), closed: false }
    }

    /// The next segment, with its payload.
    fn say(&mut self, now: Instant) -> Option<(Header, Vec<u8>)> {
        let has_data = !self.tcp.has_ended() || !self.tcp.is_over();
        let (data, last) = match self.tcp.wants(has_data) {
            Wants::Nothing => {
                self.tcp.blocked(now);
                return None;
            }
            Wants::Control => (Vec::new(), false),
            Wants::Data { offset, room } => {
                let from = self.at + offset as usize;
                let data = &self.received[from..(from + room as usize).min(self.received.len())];
                if data.is_empty() {
                    self.tcp.end();
                }
                (data.to_vec(), data.is_empty())
            }
        };
        let header = self.tcp.header(now, data.len(), last, 40_000);
        Some((header, data))
    }

    fn hear(&mut self, now: Instant, header: &Header, data: &[u8]) {
        let segment = Segment {
            window_scale: header.offer.and_then(|(_, shift)| shift),
            // Never more than a window.
            ..segment(header.flags, header.seq, header.ack, header.window, data.len() as u32)
        };
        let received = self.tcp.on_segment(now, &segment, header.offer.map(|(mss, _)| mss.min(1400)));
        assert!(!received.reset);
        self.at += received.acknowledged as usize;
        let new = &data[received.skip..received.skip + received.take];
        if !new.is_empty() {
            self.given.extend_from_slice(new);
            self.tcp.took(new.len(), true, &segment);
        }
        self.closed |= self.tcp.has_finished();
    }
}

/// What may happen to a machine.
#[derive(Debug, Clone)]
enum Blow {
    Segment { flags: u8, seq: i32, ack: i32, window: u16, payload: u16, scale: Option<u8>, mss: Option<u16> },
    Says { data: u16, last: bool, window: u32 },
    Waits(u32),
    Connected,
    Ended,
    Narrower(u16),
}

fn blow() -> impl Strategy<Value = Blow> {
    let near = || prop_oneof![-3i32..3, -70_000i32..70_000, any::<i32>()];
    let segment =
        (any::<u8>(), near(), near(), any::<u16>(), any::<u16>(), any::<(Option<u8>, Option<u16>)>());
    prop_oneof![
        6 => segment.prop_map(|(flags, seq, ack, window, payload, (scale, mss))| Blow::Segment {
            flags, seq, ack, window, payload, scale, mss
        }),
        4 => (any::<u16>(), any::<bool>(), any::<u32>())
            .prop_map(|(data, last, window)| Blow::Says { data, last, window }),
        2 => any::<u32>().prop_map(Blow::Waits),
        1 => Just(Blow::Connected),
        1 => Just(Blow::Ended),
        1 => any::<u16>().prop_map(Blow::Narrower),
    ]
}

proptest! {
    /// Whatever a peer sends, and when: nothing is sent that it has no window for, nothing is taken twice, what
    /// it has acknowledged was sent, and there is always an end.
    #[test]
    fn any_segments_are_borne(calls in any::<bool>(), blows in proptest::collection::vec(blow(), 0..200)) {
        let first = syn(1000, Some(3));
        let mut tcp =
            if calls { Tcp::calling(at(0), ISS) } else { Tcp::accepting(at(0), &first, Some(1000), ISS) };
        let (mut now, mut sent, mut acknowledged, mut taken) = (at(0), 0u64, 0u64, 0u64);
        // Where the socket's stream ends, once it was said.
        let mut end = None;
        for blow in blows {
            match blow {
                Blow::Segment { flags, seq, ack, window, payload, scale, mss } => {
                    let (seq, ack) = (tcp.rcv_nxt.wrapping_add_signed(seq), tcp.nxt.wrapping_add_signed(ack));
                    let segment =
                        Segment { window_scale: scale, ..segment(flags, seq, ack, window, payload.into()) };
                    let before = tcp.rcv_nxt;
                    let received = tcp.on_segment(now, &segment, mss);
                    prop_assert!(received.skip + received.take <= usize::from(payload));
                    acknowledged += u64::from(received.acknowledged);
                    if received.take > 0 {
                        prop_assert_eq!(tcp.rcv_nxt, before);
                        tcp.took(received.take / 2, false, &segment);
                        taken += received.take as u64 / 2;
                    }
                }
                Blow::Says { data, last, window } => {
                    if let Wants::Data { offset, room } = tcp.wants(true) {
                        let start = acknowledged + u64::from(offset);
                        prop_assert!(start <= sent);
                        let rest = end.map_or(u64::MAX, |end: u64| end - start);
                        let len = u64::from(data).min(room.into()).min(rest);
                        if last && tcp.has_ended() && start + len >= sent {
                            end = end.or(Some(start + len));
                        }
                        sent = sent.max(start + len);
                        tcp.header(now, len as usize, end == Some(start + len), window);
                    } else if tcp.wants(false) == Wants::Control {
                        tcp.header(now, 0, false, window);
                    }
                }
                Blow::Waits(time) => {
                    now = now + Duration::from_micros(time.into());
                    tcp.on_timeout(now);
                }
                Blow::Connected => tcp.connected(),
                Blow::Ended => tcp.end(),
                Blow::Narrower(mss) => tcp.lower_mss(mss),
            }
            prop_assert!(acknowledged <= sent, "{acknowledged} of {sent}");
            prop_assert!(tcp.mss() >= MIN_MSS);
            prop_assert!(tcp.is_half_open() || !before(tcp.nxt, tcp.una) && !before(tcp.max, tcp.nxt));
        }
        prop_assert!(taken < 1 << 32);
    }

    /// Whatever is lost, both streams arrive whole and both ends close; and time ends.
    #[test]
    fn streams_arrive_whole_through_loss(
        one in proptest::collection::vec(any::<u8>(), 0..40_000),
        other in proptest::collection::vec(any::<u8>(), 0..40_000),
        loss in proptest::collection::vec(any::<bool>(), 0..60),
    ) {
        let mut caller = Tcp::calling(at(0), ISS);
        let call = caller.header(at(0), 0, false, 65_535);
        let syn = Segment { window_scale: Some(SHIFT), ..segment(SYN, call.seq, 0, call.window, 0) };
        let mut answerer = Tcp::accepting(at(0), &syn, Some(1400), PEER);
        answerer.connected();
        let mut ends = [End::new(caller, one.clone()), End::new(answerer, other.clone())];
        let (mut now, mut lost) = (at(1), loss.into_iter());
        // Who is not heard at all is given up.
        let mut may_lose = MAX_RETRIES;
        for _ in 0..20_000 {
            let mut said = false;
            for talker in 0..2 {
                while let Some((header, data)) = ends[talker].say(now) {
                    said = true;
                    if lost.next().unwrap_or(false) && may_lose > 0 {
                        may_lose -= 1;
                    } else {
                        ends[1 - talker].hear(now, &header, &data);
                    }
                }
            }
            if ends.iter().all(|end| end.tcp.is_over()) {
                break;
            }
            now = now + Duration::from_micros(100);
            if !said {
                now = ends.iter().filter_map(|end| end.tcp.deadline()).min().unwrap().max(now);
                for end in &mut ends {
                    if end.tcp.deadline().is_some_and(|due| due <= now) {
                        prop_assert_eq!(end.tcp.on_timeout(now), Timeout::Goes);
                    }
                }
            }
        }
        prop_assert_eq!(&ends[1].given, &one);
        prop_assert_eq!(&ends[0].given, &other);
        prop_assert!(ends.iter().all(|end| end.closed));
    }
}
