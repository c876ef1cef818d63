//! What a TCP connection is doing, seen from between its ends.
//!
//! Theory of operation. The states are those of Linux's `nf_conntrack`: the handshake, the two closings,
//! and what remains. They follow from *facts*, not from flags alone: a side is established when it has
//! acknowledged the other's SYN; a FIN counts as acknowledged when an acknowledgement covers it, not when
//! any ACK goes by. So a retransmitted FIN does not look like the other side's.
//!
//! *Why windows are tracked.* Whoever knows a connection's addresses and ports can send packets in its
//! name. Without sequence numbers such a packet would end the flow (RST), shorten its life (FIN) or prolong
//! it. So of each side it is known how far it has sent (`end`), how far it may send (`limit`), how far it
//! has acknowledged (`acked`) and its largest window. A segment belongs to the connection when
//!
//! 1. it begins at or before `limit`: the receiver has offered so much;
//! 2. it ends no further behind `end` than the receiver's largest window: a retransmission, a keepalive;
//! 3. it acknowledges nothing that was not sent;
//! 4. nor less than could have been sent since the sender's latest acknowledgement.
//!
//! The lower bounds have a slack of one super-frame ([`SLACK`]), because what begins within the window may
//! end that far beyond it. Therefore a forged segment *inside* the window cannot move the bounds so that
//! the true ones fail, and a forged FIN is forgotten when its sender sends on behind it.
//!
//! *Resets* (RFC 5961 §3). One outside the window is invalid. One at exactly the next sequence number, by
//! what its sender sent or by what its receiver acknowledged, closes the flow. One elsewhere in the window
//! goes on but changes nothing: its receiver will ask by a challenge ACK, and the answer to that is exact.
//!
//! *Half-open connections.* A SYN from the original side always goes on: the other side answers to an
//! unexpected one by an ACK, which makes the first one send an exact RST (RFC 9293 §3.5.1). That is why ACKs
//! and RSTs that look strange pass in SYN_SENT. Where both sides have forgotten and only the flow remembers, the
//! SYN is answered: what acknowledges exactly that SYN begins the connection anew, as in Linux, and the rest as
//! picked up. Otherwise nobody could connect by these ports for as long as the flow lives.
//!
//! *Loose pickup.* A connection that is older than the table (the switch was restarted) begins with any
//! ACK. Its window scales are not known: the largest are assumed, and acknowledgements of what was not seen
//! are believed. The same holds after a fragment, of which only the beginning was seen.
//!
//! *Not tracked:* SACK blocks, timestamps (PAWS), urgent data, checksums. The ends check them.

use super::timeouts::Timeouts;
use super::tuple::Direction;
use crate::wire::tcp::{ACK, FIN, RST, SYN, Tcp, URG};

/// Bytes that a window's bounds are laxer by: as much as one super-frame can reach beyond a window.
const SLACK: u32 = 1 << 17;
/// The largest window there is: 64 KiB, scaled.
const LARGEST_WINDOW: u32 = 1 << 30;
/// The largest shift (RFC 7323 §2.3).
const LARGEST_SCALE: u8 = 14;
/// The side has not offered to scale.
const NO_SCALE: u8 = u8::MAX;

/// The states of Linux's `nf_conntrack_tcp.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// One SYN was seen.
    SynSent,
    /// The SYN was answered by a SYN: simultaneous open.
    SynSent2,
    /// One side has acknowledged the other's SYN.
    SynRecv,
    /// Both have.
    Established,
    /// One side sent FIN.
    FinWait,
    /// The other one acknowledged it, and may send on.
    CloseWait,
    /// Both sent FIN.
    LastAck,
    /// Both FINs are acknowledged.
    TimeWait,
    /// Reset.
    Close,
}

/// A segment that is not this connection's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invalid;

/// What is known of one side. Sequence numbers are compared modulo 2^32 (RFC 9293 §3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Side {
    /// Behind the last byte it sent.
    end: u32,
    /// Behind the last byte that the other side will take.
    limit: u32,
    /// The highest acknowledgement it sent.
    acked: u32,
    /// The largest window it offered, in bytes.
    window: u32,
}

/// A connection. See the module's theory of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// By direction.
    sides: [Side; 2],
    /// By direction: shifts of the windows; until both sides sent SYN, what was offered.
    scales: [u8; 2],
    /// [`spoke`], [`finished`] of either direction, [`LOOSE`], and [`ASKED_ANEW`].
    facts: u8,
    /// Behind the last SYN of the original side in a connection that was open.
    asked_anew: u32,
    phase: Phase,
}

/// The fact that this side has acknowledged the other's SYN.
const fn spoke(direction: Direction) -> u8 {
    1 << direction.index()
}

/// The fact that this side sent FIN as the last thing.
const fn finished(direction: Direction) -> u8 {
    4 << direction.index()
}

/// The fact that not everything was seen.
const LOOSE: u8 = 16;
/// There was such a SYN.
const ASKED_ANEW: u8 = 32;
/// Both sides mean it.
const BOTH_SPOKE: u8 = spoke(Direction::Original) | spoke(Direction::Reply);

/// What a segment is for, by its flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Syn,
    SynAck,
    /// With FIN or without.
    Ack,
    Rst,
}

impl Kind {
    /// `None` for combinations that no TCP sends (PSH, ECN and accurate ECN aside).
    #[inline]
    const fn of(tcp: &Tcp) -> Option<Self> {
        const SYN_ACK: u8 = SYN | ACK;
        const FIN_ACK: u8 = FIN | ACK;
        const RST_ACK: u8 = RST | ACK;
        match tcp.flags & (SYN | ACK | FIN | RST) {
            ACK | FIN_ACK => Some(Self::Ack),
            SYN => Some(Self::Syn),
            SYN_ACK if tcp.flags & URG == 0 => Some(Self::SynAck),
            RST | RST_ACK if tcp.flags & URG == 0 => Some(Self::Rst),
            _ => None,
        }
    }
}

/// Whether `a` lies behind `b`.
#[inline]
const fn after(a: u32, b: u32) -> bool {
    (b.wrapping_sub(a) as i32) < 0
}

/// The later one.
#[inline]
const fn later(a: u32, b: u32) -> u32 {
    if after(a, b) { a } else { b }
}

/// Behind a segment's last byte; SYN and FIN count as one.
#[inline]
fn end_of(tcp: &Tcp) -> u32 {
    let flags = u32::from(tcp.flags & SYN != 0) + u32::from(tcp.flags & FIN != 0);
    tcp.seq.wrapping_add(tcp.payload).wrapping_add(flags)
}

impl Connection {
    /// A connection whose first packet this is. `is_cut`: it is the first fragment of one.
    pub(super) fn first(tcp: &Tcp, is_cut: bool) -> Option<Self> {
        match Kind::of(tcp)? {
            Kind::Syn => Some(Self::asked(tcp, is_cut)),
            Kind::Ack => Some(Self::picked_up(tcp)),
            Kind::SynAck | Kind::Rst => None,
        }
    }

    /// After the original side's SYN.
    fn asked(tcp: &Tcp, is_cut: bool) -> Self {
        let end = end_of(tcp);
        let first = Side { end, limit: end, acked: 0, window: u32::from(tcp.window).max(1) };
        // What the answer has to acknowledge at least: it need not take data that came with the SYN.
        let second = Side { acked: tcp.seq.wrapping_add(1), ..Side::default() };
        Self {
            sides: [first, second],
            scales: [tcp.window_scale.unwrap_or(NO_SCALE), NO_SCALE],
            facts: if is_cut { LOOSE } else { 0 },
            asked_anew: 0,
            phase: Phase::SynSent,
        }
    }

    /// In the middle.
    fn picked_up(tcp: &Tcp) -> Self {
        let side = |end: u32, acked| Side {
            end,
            limit: end.wrapping_add(LARGEST_WINDOW),
            acked,
            window: LARGEST_WINDOW,
        };
        let is_end = if tcp.flags & FIN != 0 { finished(Direction::Original) } else { 0 };
        Self {
            sides: [side(end_of(tcp), tcp.ack), side(tcp.ack, tcp.seq)],
            scales: [LARGEST_SCALE; 2],
            facts: LOOSE | spoke(Direction::Original) | is_end,
            asked_anew: 0,
            phase: if is_end == 0 { Phase::Established } else { Phase::FinWait },
        }
    }

    /// After the reply side's answer to a SYN that was not believed: both have forgotten the connection before.
    #[cold]
    fn answered_anew(tcp: &Tcp) -> Self {
        let [original, reply] = Self::picked_up(tcp).sides;
        Self {
            sides: [reply, original],
            scales: [LARGEST_SCALE; 2],
            facts: LOOSE | spoke(Direction::Reply),
            asked_anew: 0,
            phase: Phase::SynRecv,
        }
    }

    /// The connection after one more segment.
    #[inline]
    pub(super) fn next(mut self, direction: Direction, tcp: &Tcp, is_cut: bool) -> Result<Self, Invalid> {
        match (self.phase, Kind::of(tcp).ok_or(Invalid)?) {
            (Phase::SynSent, Kind::SynAck) if direction == Direction::Reply => {
                self.must_acknowledge_syn(tcp)?;
                self.open(tcp, is_cut);
                Ok(self.with_facts(spoke(direction), Phase::SynRecv))
            }
            // An answer to a connection that is long gone; see the theory.
            (Phase::SynSent, Kind::Ack) if direction == Direction::Reply && tcp.flags & FIN == 0 => Ok(self),
            (Phase::SynSent, Kind::SynAck | Kind::Ack) => Err(Invalid),
            (_, Kind::Syn) => self.syn(direction, tcp, is_cut),
            (_, Kind::Rst) => self.reset(direction, tcp),
            (_, Kind::Ack) => self.segment(direction, tcp, is_cut),
            (_, Kind::SynAck) => {
                let answers = direction == Direction::Reply
                    && self.facts & ASKED_ANEW != 0
                    && tcp.ack == self.asked_anew;
                let ordinary = self.segment(direction, tcp, is_cut);
                if answers { ordinary.or(Ok(Self::answered_anew(tcp))) } else { ordinary }
            }
        }
    }

    /// A SYN alone. The original side's always goes on; another one only as the answer to the first.
    #[cold]
    fn syn(mut self, direction: Direction, tcp: &Tcp, is_cut: bool) -> Result<Self, Invalid> {
        let is_original = direction == Direction::Original;
        match self.phase {
            // A retransmission, or an attempt with another initial sequence number.
            Phase::SynSent if is_original => Ok(Self::asked(tcp, is_cut)),
            Phase::SynSent => {
                self.open(tcp, is_cut);
                self.phase = Phase::SynSent2;
                Ok(self)
            }
            Phase::SynSent2 => self.segment(direction, tcp, is_cut),
            Phase::TimeWait | Phase::Close if is_original => Ok(Self::asked(tcp, is_cut)),
            _ if is_original => {
                self.asked_anew = tcp.seq.wrapping_add(1);
                Ok(self.with_facts(ASKED_ANEW, self.phase))
            }
            _ => Err(Invalid),
        }
    }

    /// Whether a segment acknowledges the original side's SYN (RFC 9293 §3.10.7.3).
    fn must_acknowledge_syn(&self, tcp: &Tcp) -> Result<(), Invalid> {
        let [first, second] = &self.sides;
        let is_within = !after(second.acked, tcp.ack) && !after(tcp.ack, first.end);
        if tcp.flags & ACK != 0 && is_within { Ok(()) } else { Err(Invalid) }
    }

    /// The reply side sent its SYN, with ACK or without: from here on both sides are known.
    #[cold]
    fn open(&mut self, tcp: &Tcp, is_cut: bool) {
        let [first, second] = &mut self.sides;
        let window = u32::from(tcp.window).max(1);
        let end = end_of(tcp);
        let acked = if tcp.flags & ACK != 0 { tcp.ack } else { second.acked };
        *second = Side {
            end,
            limit: later(end, tcp.seq.wrapping_add(1).wrapping_add(first.window)),
            acked,
            window,
        };
        first.acked = tcp.seq.wrapping_add(1);
        first.limit = later(first.limit, acked.wrapping_add(window));
        let offered = [self.scales[0], tcp.window_scale.unwrap_or(NO_SCALE)];
        // Either both scale or none does (RFC 7323 §2.2).
        self.scales =
            if offered.contains(&NO_SCALE) { [0; 2] } else { offered.map(|scale| scale.min(LARGEST_SCALE)) };
        if is_cut {
            self.facts |= LOOSE;
        }
    }

    /// RST. See the module's theory of operation.
    #[cold]
    fn reset(mut self, direction: Direction, tcp: &Tcp) -> Result<Self, Invalid> {
        let (sender, receiver) = self.ends(direction);
        let is_exact = tcp.seq == sender.end || tcp.seq == receiver.acked;
        let is_within = !after(receiver.acked, tcp.seq) && !after(tcp.seq, sender.limit);
        match (self.phase, direction) {
            (Phase::SynSent, Direction::Reply) => self.must_acknowledge_syn(tcp)?,
            // The answer to a strange ACK: exact for the one who sent that.
            (Phase::SynSent, Direction::Original) if !is_exact => return Ok(self),
            (Phase::SynSent, Direction::Original) => {}
            _ if is_exact => {}
            _ if is_within => return Ok(self),
            _ => return Err(Invalid),
        }
        if self.phase == Phase::SynSent {
            // Nobody will answer what was offered.
            self.scales = [0; 2];
        }
        self.phase = Phase::Close;
        Ok(self)
    }

    /// Anything between two sides that are both known.
    #[inline]
    fn segment(mut self, direction: Direction, tcp: &Tcp, is_cut: bool) -> Result<Self, Invalid> {
        let end = end_of(tcp);
        self.must_be_within(direction, tcp, end)?;
        if is_cut {
            self.facts |= LOOSE;
        }
        let scale = if tcp.flags & SYN == 0 { self.scales[direction.index()] } else { 0 };
        let window = u32::from(tcp.window) << scale;
        let sender = &mut self.sides[direction.index()];
        if after(end, sender.end) {
            sender.end = end;
            self.facts &= !finished(direction);
        }
        if tcp.flags & FIN != 0 && end == sender.end {
            self.facts |= finished(direction);
        }
        sender.window = sender.window.max(window);
        if tcp.flags & ACK != 0 {
            sender.acked = later(sender.acked, tcp.ack);
            let receiver = &mut self.sides[direction.opposite().index()];
            receiver.limit = later(receiver.limit, tcp.ack.wrapping_add(window));
            if self.facts & LOOSE != 0 {
                receiver.end = later(receiver.end, tcp.ack);
            }
            self.facts |= spoke(direction);
        }
        self.phase = self.phase_now();
        Ok(self)
    }

    /// The four rules of the module's theory of operation.
    #[inline]
    fn must_be_within(&self, direction: Direction, tcp: &Tcp, end: u32) -> Result<(), Invalid> {
        let (sender, receiver) = self.ends(direction);
        let unseen = if self.facts & LOOSE == 0 { 0 } else { LARGEST_WINDOW };
        let is_data_within =
            !after(tcp.seq, sender.limit) && !after(sender.end.wrapping_sub(receiver.window + SLACK), end);
        let is_ack_within = tcp.flags & ACK == 0
            || !after(tcp.ack, receiver.end.wrapping_add(unseen))
                && !after(sender.acked.wrapping_sub(sender.window + SLACK), tcp.ack);
        if is_data_within && is_ack_within { Ok(()) } else { Err(Invalid) }
    }

    /// What the facts amount to.
    #[inline]
    fn phase_now(&self) -> Phase {
        const BOTH_FINISHED: u8 = finished(Direction::Original) | finished(Direction::Reply);
        let is_acked = |direction: Direction| {
            let (sender, receiver) = self.ends(direction);
            receiver.acked == sender.end
        };
        match (self.phase, self.facts & BOTH_FINISHED) {
            (phase @ (Phase::TimeWait | Phase::Close), _) => phase,
            (Phase::SynSent2, 0) if self.facts & BOTH_SPOKE == 0 => Phase::SynSent2,
            (Phase::SynSent2 | Phase::SynRecv, 0) if self.facts & BOTH_SPOKE != BOTH_SPOKE => Phase::SynRecv,
            (_, 0) => Phase::Established,
            (_, BOTH_FINISHED) if is_acked(Direction::Original) && is_acked(Direction::Reply) => {
                Phase::TimeWait
            }
            (_, BOTH_FINISHED) => Phase::LastAck,
            (_, finished) => {
                let who = if finished == self::finished(Direction::Original) {
                    Direction::Original
                } else {
                    Direction::Reply
                };
                if is_acked(who) { Phase::CloseWait } else { Phase::FinWait }
            }
        }
    }

    /// The side that a segment comes from, and the one it goes to.
    #[inline]
    const fn ends(&self, direction: Direction) -> (&Side, &Side) {
        let [first, second] = &self.sides;
        match direction {
            Direction::Original => (first, second),
            Direction::Reply => (second, first),
        }
    }

    const fn with_facts(mut self, facts: u8, phase: Phase) -> Self {
        self.facts |= facts;
        self.phase = phase;
        self
    }

    /// Seconds it lives without another segment.
    #[inline]
    pub(super) const fn timeout(&self, timeouts: &Timeouts) -> u32 {
        match self.phase {
            Phase::SynSent | Phase::SynSent2 => timeouts.tcp_syn_sent,
            Phase::SynRecv => timeouts.tcp_syn_recv,
            Phase::Established if self.has_both_sides() => timeouts.tcp_established,
            // Picked up, and nobody has answered.
            Phase::Established => timeouts.tcp_syn_sent,
            Phase::FinWait => timeouts.tcp_fin_wait,
            Phase::CloseWait => timeouts.tcp_close_wait,
            Phase::LastAck => timeouts.tcp_last_ack,
            Phase::TimeWait => timeouts.tcp_time_wait,
            Phase::Close => timeouts.tcp_close,
        }
    }

    /// Whether this is the SYN of the next connection.
    #[inline]
    pub(super) const fn is_reopened_by(&self, direction: Direction, tcp: &Tcp) -> bool {
        matches!(self.phase, Phase::TimeWait | Phase::Close)
            && matches!(direction, Direction::Original)
            && matches!(Kind::of(tcp), Some(Kind::Syn))
    }

    /// Whether both sides have proved that they get the other's packets.
    #[inline]
    pub(super) const fn has_both_sides(&self) -> bool {
        self.facts & BOTH_SPOKE == BOTH_SPOKE
    }

    /// Where it stands.
    #[inline]
    pub(super) const fn phase(&self) -> Phase {
        self.phase
    }
}

impl Phase {
    /// Linux's name for it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::SynSent => "SYN_SENT",
            Self::SynSent2 => "SYN_SENT2",
            Self::SynRecv => "SYN_RECV",
            Self::Established => "ESTABLISHED",
            Self::FinWait => "FIN_WAIT",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
        }
    }
}

#[cfg(test)]
mod tests;
