//! What the protocol of a flow remembers.
//!
//! TCP has a state machine of its own (`tcp.rs`). Everything else is a conversation, known only by
//! who has spoken: asked, answered, and a stream once there was a packet after the answer. The last step
//! keeps one question and its answer (DNS) from looking like something that both sides want to keep.

pub use super::tcp::Invalid;
use super::tcp::{Connection, Phase};
use super::timeouts::Timeouts;
use super::tuple::Direction;
use crate::wire::packet::{Fragment, Packet, Transport};

/// A protocol's memory of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A TCP connection.
    Tcp(Connection),
    /// UDP.
    Udp(Talk),
    /// A question of ICMP, and its answers.
    Icmp,
    /// Any other protocol, known by its addresses.
    Generic(Talk),
}

/// How far a conversation without connections has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Talk {
    /// Only the original side spoke.
    Asked,
    /// The other one, too.
    Answered,
    /// And then again one of them.
    Stream,
}

impl Talk {
    #[inline]
    const fn next(self, direction: Direction) -> Self {
        match (self, direction) {
            (Self::Asked, Direction::Original) => Self::Asked,
            (Self::Asked, Direction::Reply) => Self::Answered,
            (Self::Answered | Self::Stream, _) => Self::Stream,
        }
    }
}

/// Whether the packet is the first fragment of one, so that its length is not known.
#[inline]
const fn is_cut(packet: &Packet) -> bool {
    matches!(packet.fragment, Some(Fragment { more: true, .. }))
}

impl State {
    /// The state of the flow that this packet begins; `None` when it cannot begin one: answers, resets,
    /// ICMP errors and whatever else makes sense only to a flow that is there.
    #[inline]
    pub fn first(packet: &Packet) -> Option<Self> {
        match &packet.payload {
            Transport::Tcp(tcp) => Connection::first(tcp, is_cut(packet)).map(Self::Tcp),
            Transport::Udp(_) => Some(Self::Udp(Talk::Asked)),
            Transport::Query { is_request: true, .. } => Some(Self::Icmp),
            Transport::Other => Some(Self::Generic(Talk::Asked)),
            Transport::Query { .. }
            | Transport::Error { .. }
            | Transport::Icmp { .. }
            | Transport::LaterFragment => None,
        }
    }

    /// The state after one more packet of the flow.
    ///
    /// # Errors
    /// [`Invalid`]: the packet has the flow's tuple but cannot be its; it shall neither pass nor change anything.
    #[inline]
    pub fn next(mut self, direction: Direction, packet: &Packet) -> Result<Self, Invalid> {
        self.advance(direction, packet)?;
        Ok(self)
    }

    /// The same in its place, which saves a move. When it fails, the state is as it was.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    #[inline]
    pub fn advance(&mut self, direction: Direction, packet: &Packet) -> Result<(), Invalid> {
        match (self, &packet.payload) {
            (Self::Tcp(connection), Transport::Tcp(tcp)) => {
                *connection = connection.next(direction, tcp, is_cut(packet))?;
            }
            (Self::Udp(talk), Transport::Udp(_)) => *talk = talk.next(direction),
            // Both sides may use the same identifier, but then only one flow has the tuple.
            (Self::Icmp, Transport::Query { is_request, .. })
                if *is_request == (direction == Direction::Original) => {}
            (Self::Generic(talk), Transport::Other) => *talk = talk.next(direction),
            (_, Transport::LaterFragment) => {}
            _ => return Err(Invalid),
        }
        Ok(())
    }

    /// Whether this packet begins a new connection in a flow that has ended, so that it should be judged
    /// as a flow's first packet is; [`next`](Self::next) begins anew, too.
    #[inline]
    pub const fn is_reopened_by(&self, direction: Direction, packet: &Packet) -> bool {
        match (self, &packet.payload) {
            (Self::Tcp(connection), Transport::Tcp(tcp)) => connection.is_reopened_by(direction, tcp),
            _ => false,
        }
    }

    /// Seconds that the flow lives without another packet.
    #[inline]
    pub const fn timeout(&self, timeouts: &Timeouts) -> u32 {
        match self {
            Self::Tcp(connection) => connection.timeout(timeouts),
            Self::Udp(Talk::Stream) => timeouts.udp_stream,
            Self::Udp(_) => timeouts.udp,
            Self::Icmp => timeouts.icmp,
            Self::Generic(_) => timeouts.generic,
        }
    }

    /// Whether both sides mean it: `[ASSURED]`.
    #[inline]
    pub const fn is_assured(&self) -> bool {
        match self {
            Self::Tcp(connection) => connection.has_both_sides(),
            Self::Udp(talk) | Self::Generic(talk) => matches!(talk, Talk::Stream),
            Self::Icmp => false,
        }
    }

    /// Whether it may be evicted to make room: nobody would miss it, or it is about to end
    /// (`nf_conntrack`'s early drop).
    #[inline]
    pub const fn is_droppable(&self) -> bool {
        match self {
            Self::Tcp(connection) => {
                !connection.has_both_sides()
                    || !matches!(connection.phase(), Phase::SynRecv | Phase::Established)
            }
            _ => !self.is_assured(),
        }
    }

    /// As `conntrack -L` names it; empty where it names none.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Tcp(connection) => connection.phase().name(),
            Self::Udp(_) | Self::Icmp | Self::Generic(_) => "",
        }
    }
}

#[cfg(test)]
mod tests;
