//! TCP that ends at a socket of the host: one connection's machine.
//!
//! Theory of operation. The machine is spliced between two ends: the *peer*, whose segments come out of the
//! switch, and a socket of the host. It has no buffers. What the peer sends goes into the socket at once, and
//! is acknowledged when the socket has taken it. What the socket has received stays there: it is looked at
//! (`MSG_PEEK`) when it is sent to the peer, and taken out when the peer has acknowledged it; so the socket is
//! the retransmission queue, the windows of both sides hold end to end, and an idle connection costs its entry.
//!
//! Between us and the peer nothing is lost but what rules, impairments or a full queue take away, so the
//! sender is simple: slow start and congestion avoidance (RFC 5681), a fast retransmission after three
//! duplicate acknowledgements and a time-out (RFC 6298), both of which go back to the first byte that was not
//! acknowledged. Segments that come out of order are not kept.
//!
//! A connection that the peer opens is answered when the host's own has succeeded ([`Tcp::connected`]); one that
//! the host accepted is opened towards the peer ([`Tcp::calling`]).

use std::time::Duration;

use super::segment::Header;
use crate::dataplane::Instant;
use crate::wire::tcp::{ACK, FIN, PSH, RST, SYN, Tcp as Segment};

/// The shift of the windows that we announce: up to 16 MiB.
const SHIFT: u8 = 8;
/// The maximum segment size of a peer that does not say (RFC 9293 §3.7.1).
const DEFAULT_MSS: u16 = 536;
/// Below this no peer's segments are made smaller (IPv6's minimum MTU would be 1,220).
const MIN_MSS: u16 = 64;
/// What may be sent before the first acknowledgement: the link is ours, and 10 segments (RFC 6928) are few.
const INITIAL_WINDOW: u32 = 64 * 1024;
/// RFC 6298 §2.4 has a second; Linux has this.
const MIN_RTO: Duration = Duration::from_millis(200);
const FIRST_RTO: Duration = Duration::from_secs(1);
const MAX_RTO: Duration = Duration::from_secs(60);
/// Time-outs in a row after which the peer is given up.
const MAX_RETRIES: u8 = 8;
/// A peer that says nothing is asked whether it is still there: its container may have been killed.
const KEEP_ALIVE: Duration = Duration::from_secs(300);
const DUPLICATES: u8 = 3;
/// How long a few bytes of the peer's may wait for data of ours to be acknowledged by (RFC 9293 §3.8.6.3 allows
/// half a second). An answer of a server nearby comes within it; a peer that holds its next bytes back until
/// then (Nagle's algorithm) does not feel it.
const DELAY: Duration = Duration::from_millis(2);

/// How far the connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The peer's SYN is here, and the host's socket is not connected yet.
    Connecting,
    /// Our SYN and acknowledgement is under way to the peer.
    Answering,
    /// Our SYN is under way to the peer.
    Calling,
    /// Both sides know of it.
    Open,
}

/// What became of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Received {
    /// Bytes at the start of its payload that are here already.
    pub skip: usize,
    /// Bytes of payload behind them that the socket may have: say with [`Tcp::took`] how many it took.
    pub take: usize,
    /// Bytes that the peer has acknowledged now: they are to be taken out of the socket.
    pub acknowledged: u32,
    /// The peer has reset the connection.
    pub reset: bool,
    /// It belongs to an earlier connection, which the peer takes for alive: it is to be answered with a reset.
    pub stray: bool,
    /// The connection is open now.
    pub opened: bool,
}

/// What a deadline brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// Nothing, or something to send: see [`Tcp::wants`].
    Goes,
    /// The peer is given up.
    Over,
}

/// What there is to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    /// Nothing.
    Nothing,
    /// A segment without payload, now.
    Control,
    /// Up to `room` bytes of what the socket holds behind its first `offset` bytes.
    Data {
        /// Bytes that are under way.
        offset: u32,
        /// Bytes that may follow.
        room: u32,
    },
}

/// One connection.
#[derive(Debug, Clone)]
pub struct Tcp {
    phase: Phase,
    /// The first byte that the peer has not acknowledged.
    una: u32,
    /// The next byte to send.
    nxt: u32,
    /// Behind the last byte that was ever sent.
    max: u32,
    /// Until this is acknowledged, duplicates tell nothing new (RFC 6582).
    recover: u32,
    /// The peer's window from `una` on, in bytes.
    window: u32,
    /// The largest that it ever was.
    max_window: u32,
    shift: u8,
    mss: u16,
    cwnd: u32,
    ssthresh: u32,
    duplicates: u8,
    retries: u8,
    /// What we expect next of the peer.
    rcv_nxt: u32,
    /// The end of the window that the peer was told.
    rcv_edge: u32,
    /// Whether the peer scales windows, and so we.
    scales: bool,
    /// An acknowledgement is due.
    ack_due: bool,
    /// Bytes of the peer's that it does not know to be here, and when it must be told at the latest.
    untold: u32,
    tell_at: Option<Instant>,
    /// The peer is to be asked whether it is there.
    probes: bool,
    /// The host's socket will bring nothing more.
    ended: bool,
    /// Our FIN is sent; after going back, not yet again.
    fin_sent: bool,
    /// Behind our FIN, once it was sent.
    fin_end: Option<u32>,
    fin_acknowledged: bool,
    /// The peer will send nothing more.
    finished: bool,
    srtt: Option<Duration>,
    rttvar: Duration,
    /// A byte whose acknowledgement is being timed.
    timed: Option<(u32, Instant)>,
    deadline: Option<Instant>,
    /// When the peer was heard last.
    heard: Instant,
}

/// `a` is before `b` in the circle of sequence numbers.
const fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

impl Tcp {
    fn new(now: Instant, phase: Phase, iss: u32) -> Self {
        Self {
            phase,
            una: iss,
            nxt: iss,
            max: iss,
            recover: iss,
            window: 0,
            max_window: 0,
            shift: 0,
            mss: DEFAULT_MSS,
            cwnd: INITIAL_WINDOW,
            ssthresh: u32::MAX,
            duplicates: 0,
            retries: 0,
            rcv_nxt: 0,
            rcv_edge: 0,
            scales: true,
            ack_due: false,
            untold: 0,
            tell_at: None,
            probes: false,
            ended: false,
            fin_sent: false,
            fin_end: None,
            fin_acknowledged: false,
            finished: false,
            srtt: None,
            rttvar: Duration::ZERO,
            timed: None,
            deadline: None,
            heard: now,
        }
    }

    /// A connection that the peer opens with this SYN, and the maximum segment size that it offers. It is
    /// answered, beginning with `iss`, when the host's is [`connected`](Self::connected).
    pub fn accepting(now: Instant, syn: &Segment, mss: Option<u16>, iss: u32) -> Self {
        let mut this = Self::new(now, Phase::Connecting, iss);
        this.greet(syn, mss);
        this
    }

    /// A connection that the host has accepted, and that is opened towards the peer beginning with `iss`.
    pub fn calling(now: Instant, iss: u32) -> Self {
        Self::new(now, Phase::Calling, iss)
    }

    /// Takes in what the peer's SYN says.
    fn greet(&mut self, syn: &Segment, mss: Option<u16>) {
        self.rcv_nxt = syn.seq.wrapping_add(1);
        self.rcv_edge = self.rcv_nxt;
        self.mss = mss.unwrap_or(DEFAULT_MSS).max(MIN_MSS);
        self.scales = syn.window_scale.is_some();
        // RFC 7323 §2.3: more than 14 counts as 14.
        self.shift = syn.window_scale.unwrap_or(0).min(14);
        self.offer(syn.window.into());
    }

    /// The peer takes so many bytes from `una` on; what it took before.
    fn offer(&mut self, window: u32) -> u32 {
        self.max_window = self.max_window.max(window);
        std::mem::replace(&mut self.window, window)
    }

    /// The host's socket is connected.
    pub fn connected(&mut self) {
        if self.phase == Phase::Connecting {
            self.phase = Phase::Answering;
        }
    }

    /// Whether the host's socket is not connected yet.
    pub fn is_connecting(&self) -> bool {
        self.phase == Phase::Connecting
    }

    /// Whether the peer does not know yet that there is a connection.
    pub fn is_half_open(&self) -> bool {
        self.phase != Phase::Open
    }

    /// Whether everything of both directions has been said and heard.
    pub fn is_over(&self) -> bool {
        self.fin_acknowledged && self.finished && !self.ack_due
    }

    /// Whether the peer has said that it will send nothing more, and all before that is here.
    pub fn has_finished(&self) -> bool {
        self.finished
    }

    /// The largest payload of one segment to the peer.
    pub fn mss(&self) -> u16 {
        self.mss
    }

    /// The path takes no more than this.
    pub fn lower_mss(&mut self, mss: u16) {
        self.mss = self.mss.min(mss.max(MIN_MSS));
    }

    /// The socket has come to its end: what it holds now is all.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Whether the socket has come to its end.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// A segment of the peer's. `mss` is what a SYN offers.
    pub fn on_segment(&mut self, now: Instant, segment: &Segment, mss: Option<u16>) -> Received {
        self.heard = now;
        match self.phase {
            Phase::Connecting => Received {
                reset: segment.flags & RST != 0 && segment.seq == self.rcv_nxt,
                ..Received::default()
            },
            Phase::Calling => self.on_answer(now, segment, mss),
            Phase::Answering | Phase::Open => self.on_ordinary(now, segment),
        }
    }

    /// The answer to our SYN (RFC 9293 §3.10.7.3).
    fn on_answer(&mut self, now: Instant, segment: &Segment, mss: Option<u16>) -> Received {
        let nothing = Received::default();
        let acknowledges = segment.flags & ACK != 0;
        let is_ours = acknowledges && segment.ack == self.una.wrapping_add(1);
        if !is_ours || self.max == self.una {
            return Received { stray: acknowledges && segment.flags & RST == 0, ..nothing };
        }
        if segment.flags & RST != 0 {
            return Received { reset: true, ..nothing };
        }
        if segment.flags & SYN == 0 {
            return nothing;
        }
        self.greet(segment, mss);
        self.open(now, segment.ack);
        self.ack_due = true;
        Received { opened: true, ..nothing }
    }

    fn open(&mut self, now: Instant, ack: u32) {
        self.phase = Phase::Open;
        self.sample(now, ack);
        (self.una, self.nxt, self.max, self.recover) = (ack, ack, ack, ack);
        (self.deadline, self.retries) = (None, 0);
    }

    /// RFC 9293 §3.10.7.4, in its order.
    fn on_ordinary(&mut self, now: Instant, segment: &Segment) -> Received {
        let mut received = Received::default();
        if segment.flags & RST != 0 {
            // RFC 5961 §3.2: what is not exactly next might be a guess.
            received.reset = segment.seq == self.rcv_nxt;
            self.ack_due |=
                !received.reset && !before(segment.seq, self.rcv_nxt) && before(segment.seq, self.rcv_edge);
            return received;
        }
        if segment.flags & SYN != 0 {
            // Ours got lost, or it is a guess (RFC 5961 §4.2).
            if self.phase == Phase::Answering {
                self.nxt = self.una;
            } else {
                self.ack_due = true;
            }
            return received;
        }
        if segment.flags & ACK == 0 {
            return received;
        }
        // RFC 5961 §5.2: what acknowledges nothing that can be under way is a guess; the peer is told where we are.
        if before(self.max, segment.ack) || before(segment.ack, self.una.wrapping_sub(self.max_window)) {
            self.ack_due = true;
            return received;
        }
        if self.phase == Phase::Answering {
            if segment.ack != self.una.wrapping_add(1) {
                return received;
            }
            self.open(now, segment.ack);
            self.offer(u32::from(segment.window) << self.shift);
            received.opened = true;
        } else {
            received.acknowledged = self.on_acknowledgement(now, segment);
        }
        self.on_payload(segment, &mut received);
        received
    }

    /// Bytes of the socket's that the peer has acknowledged now.
    fn on_acknowledgement(&mut self, now: Instant, segment: &Segment) -> u32 {
        let window = u32::from(segment.window) << self.shift;
        if before(segment.ack, self.una) {
            return 0;
        }
        let acknowledged = segment.ack.wrapping_sub(self.una);
        if acknowledged == 0 {
            let is_duplicate = segment.payload == 0
                && segment.flags & FIN == 0
                && window == self.window
                && self.una != self.max;
            let was_shut = self.offer(window) == 0;
            if self.una == self.max {
                // It is there; and if its window is open, there is nothing to ask.
                (self.retries, self.deadline) = (0, None);
            } else if was_shut && window != 0 {
                // What was sent as a probe was not taken.
                self.go_back();
            } else if is_duplicate {
                self.on_duplicate();
            }
            return 0;
        }
        self.offer(window);
        self.sample(now, segment.ack);
        let was_fin = self.fin_end == Some(segment.ack) && !self.fin_acknowledged;
        self.fin_acknowledged |= was_fin;
        self.fin_sent |= was_fin;
        (self.una, self.duplicates, self.retries) = (segment.ack, 0, 0);
        if before(self.nxt, self.una) {
            self.nxt = self.una;
        }
        self.deadline = (self.una != self.max).then(|| now + self.rto());
        self.grow(acknowledged);
        acknowledged - u32::from(was_fin)
    }

    /// RFC 5681 §3.1.
    fn grow(&mut self, acknowledged: u32) {
        let by = if self.cwnd < self.ssthresh {
            acknowledged
        } else {
            (u64::from(self.mss) * u64::from(acknowledged) / u64::from(self.cwnd.max(1))) as u32
        };
        self.cwnd = self.cwnd.saturating_add(by).min(1 << 30);
    }

    fn on_duplicate(&mut self) {
        self.duplicates = self.duplicates.saturating_add(1);
        if self.duplicates == DUPLICATES && !before(self.una, self.recover) {
            self.cwnd = self.slow_down();
            self.go_back();
        }
    }

    /// RFC 5681 §3.1, equation 4.
    fn slow_down(&mut self) -> u32 {
        self.ssthresh = (self.max.wrapping_sub(self.una) / 2).max(2 * u32::from(self.mss));
        self.ssthresh
    }

    /// Everything that was not acknowledged is sent again.
    fn go_back(&mut self) {
        (self.recover, self.nxt, self.fin_sent, self.timed) = (self.max, self.una, false, None);
    }

    /// What of the payload is new and in order; and whether the peer's end comes with it.
    fn on_payload(&mut self, segment: &Segment, received: &mut Received) {
        let has_fin = segment.flags & FIN != 0;
        if segment.payload == 0 && !has_fin {
            // A probe of a peer that keeps alive lies just before what we expect (RFC 9293 §3.8.4).
            self.ack_due |= before(segment.seq, self.rcv_nxt);
            return;
        }
        let known = self.rcv_nxt.wrapping_sub(segment.seq);
        // What is not all new and in order is acknowledged at once (RFC 5681 §4.2), and so is an end.
        self.ack_due |= known != 0 || has_fin || self.finished;
        if before(self.rcv_nxt, segment.seq) || known > segment.payload || self.finished {
            return;
        }
        received.skip = known as usize;
        received.take = (segment.payload - known) as usize;
        if has_fin && received.take == 0 {
            self.finish();
        }
    }

    /// The socket took so many of the bytes that a segment brought, which was the segment's last with `fin`.
    pub fn took(&mut self, len: usize, all: bool, segment: &Segment) {
        // No more than a segment carries.
        self.rcv_nxt = self.rcv_nxt.wrapping_add(len as u32);
        self.untold += len as u32;
        // Two full segments are acknowledged at once, and what was not taken lets the window shrink.
        self.ack_due |= !all || self.untold >= 2 * u32::from(self.mss);
        self.tell_at = self.tell_at.or(Some(self.heard + DELAY));
        if all && segment.flags & FIN != 0 && !self.finished {
            self.finish();
        }
    }

    fn finish(&mut self) {
        self.finished = true;
        self.rcv_nxt = self.rcv_nxt.wrapping_add(1);
    }

    /// The peer should know that there is room again.
    pub fn window_opened(&mut self) {
        self.ack_due |= self.phase == Phase::Open;
    }

    /// The window that the peer has left, in bytes.
    pub fn told(&self) -> u32 {
        self.rcv_edge.wrapping_sub(self.rcv_nxt)
    }

    /// What there is to send. `has_data` says whether the socket might hold something that was not sent yet.
    pub fn wants(&self, has_data: bool) -> Wants {
        match self.phase {
            Phase::Connecting => Wants::Nothing,
            Phase::Answering | Phase::Calling if self.nxt == self.una => Wants::Control,
            Phase::Answering | Phase::Calling => Wants::Nothing,
            Phase::Open => {
                let offset = self.nxt.wrapping_sub(self.una);
                let is_behind = self.nxt != self.max;
                if (has_data || is_behind) && !self.fin_sent {
                    let room = self.room(offset);
                    if room > 0 {
                        return Wants::Data { offset, room };
                    }
                }
                if self.ack_due || self.probes { Wants::Control } else { Wants::Nothing }
            }
        }
    }

    /// Bytes that may follow those under way.
    fn room(&self, flight: u32) -> u32 {
        let room = self.window.min(self.cwnd).saturating_sub(flight);
        let mss = u32::from(self.mss);
        // RFC 9293 §3.8.6.2.1: no small segments because of a window that opens slowly.
        if flight > 0 && room < mss.min(self.window / 2) {
            return 0;
        }
        // A probe of a window that stays shut; see `on_timeout`.
        if room == 0 && flight == 0 && self.retries > 0 && self.window == 0 {
            return 1;
        }
        if room > mss { room - room % mss } else { room }
    }

    /// The socket has more than the peer takes: its window is shut, and must be asked for again and again.
    pub fn blocked(&mut self, now: Instant) {
        if self.phase == Phase::Open && self.window == 0 && self.una == self.nxt && self.deadline.is_none() {
            self.deadline = Some(now + self.rto());
        }
    }

    /// The header of the next segment, with `len` bytes of the socket's, or none: SYN, acknowledgement, or FIN
    /// when the socket has ended and these are its last bytes (`last`). `window` is what the socket takes.
    pub fn header(&mut self, now: Instant, len: usize, last: bool, window: u32) -> Header {
        let is_open = self.phase == Phase::Open;
        let mut flags = if self.phase == Phase::Calling { SYN } else { ACK };
        if self.phase == Phase::Answering {
            flags |= SYN;
        }
        // What lies before that which it expects makes a peer answer (RFC 9293 §3.8.4).
        let is_probe = std::mem::take(&mut self.probes) && len == 0 && !last && is_open;
        let seq = if is_probe { self.una.wrapping_sub(1) } else { self.nxt };
        // A segment's payload is below 2^16.
        let mut count = len as u32;
        if len > 0 {
            flags |= PSH;
        }
        if is_open && last && self.ended && !self.fin_sent {
            flags |= FIN;
            self.fin_sent = true;
            count += 1;
            self.fin_end = Some(self.nxt.wrapping_add(count));
        }
        count += u32::from(!is_open);
        if count > 0 {
            self.sent(now, count);
        }
        (self.ack_due, self.untold, self.tell_at) = (false, 0, None);
        let offer = (!is_open).then(|| (u16::MAX - 60, self.scales.then_some(SHIFT)));
        Header {
            seq,
            ack: if flags & ACK != 0 { self.rcv_nxt } else { 0 },
            flags,
            window: self.tell(window),
            offer,
        }
    }

    /// So many sequence numbers are on their way.
    fn sent(&mut self, now: Instant, count: u32) {
        let end = self.nxt.wrapping_add(count);
        if self.timed.is_none() && self.nxt == self.max {
            self.timed = Some((end, now));
        }
        self.nxt = end;
        if before(self.max, end) {
            self.max = end;
        }
        if self.deadline.is_none() {
            self.deadline = Some(now + self.rto());
        }
    }

    /// The window as it stands in the header. What was promised once is never taken back.
    fn tell(&mut self, window: u32) -> u16 {
        let is_open = self.phase == Phase::Open;
        let shift = if is_open && self.scales { SHIFT } else { 0 };
        let window = if self.phase == Phase::Calling { window } else { window.max(self.told()) };
        let field = (window >> shift).min(u16::MAX.into());
        let edge = self.rcv_nxt.wrapping_add(field << shift);
        if before(self.rcv_edge, edge) {
            self.rcv_edge = edge;
        }
        // At most 65,535.
        field as u16
    }

    /// The segment that tells the peer that the connection is no more.
    pub fn reset(&self) -> Header {
        let (flags, ack) = match self.phase {
            Phase::Calling => (RST, 0),
            _ => (RST | ACK, self.rcv_nxt),
        };
        // To a SYN that was never answered, zero is the number that it expects (RFC 9293 §3.10.7.1).
        let seq = if self.phase == Phase::Connecting { 0 } else { self.nxt };
        Header { seq, ack, flags, window: 0, offer: None }
    }

    /// RFC 6298 §2 with Linux's lower bound.
    fn rto(&self) -> Duration {
        let base = self.srtt.map_or(FIRST_RTO, |srtt| (srtt + 4 * self.rttvar).max(MIN_RTO));
        (base * (1 << self.retries.min(6))).min(MAX_RTO)
    }

    fn sample(&mut self, now: Instant, ack: u32) {
        let Some((end, at)) = self.timed.filter(|(end, _)| !before(ack, *end)) else { return };
        debug_assert!(!before(ack, end));
        self.timed = None;
        let rtt = now.since(at);
        match self.srtt {
            None => (self.srtt, self.rttvar) = (Some(rtt), rtt / 2),
            Some(srtt) => {
                self.rttvar = (3 * self.rttvar + srtt.abs_diff(rtt)) / 4;
                self.srtt = Some((7 * srtt + rtt) / 8);
            }
        }
    }

    /// When [`on_timeout`](Self::on_timeout) is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.tell_at.into_iter().chain(self.other_deadline()).min()
    }

    /// The same without that of an acknowledgement.
    fn other_deadline(&self) -> Option<Instant> {
        match (self.deadline, self.phase) {
            (None, Phase::Open) => Some(self.heard + KEEP_ALIVE),
            (deadline, _) => deadline,
        }
    }

    /// Time has passed. The earliest thing that was not acknowledged is sent again.
    pub fn on_timeout(&mut self, now: Instant) -> Timeout {
        if self.tell_at.is_some_and(|at| at <= now) {
            (self.ack_due, self.tell_at) = (true, None);
        }
        if self.other_deadline().is_none_or(|at| now < at) {
            return Timeout::Goes;
        }
        self.retries += 1;
        let is_probe = self.una == self.max;
        // A peer whose window stays shut answers, and may go on so for ever (RFC 9293 §3.8.6.1).
        let answers = now.since(self.heard) < MAX_RTO * 2;
        if self.retries > MAX_RETRIES && !(answers && self.window == 0) {
            return Timeout::Over;
        }
        self.retries = self.retries.min(MAX_RETRIES + 1);
        if self.phase == Phase::Open && is_probe {
            // Also when its window is shut: if the socket holds something, a byte of that goes instead.
            self.probes = true;
        } else {
            if self.window != 0 {
                self.slow_down();
                self.cwnd = self.mss.into();
            }
            self.duplicates = 0;
            self.go_back();
        }
        self.deadline = Some(now + self.rto());
        Timeout::Goes
    }
}

#[cfg(test)]
mod tests;
