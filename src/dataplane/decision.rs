//! What was decided about a frame, for `commit` to carry out.
//!
//! A decision may be large, with a new flow and all rules that it met, and that of most frames is small. So
//! the stages write what they find into the [`Decision`] itself, each its own part, and hand back only where
//! the frame goes: a large value that is handed from stage to stage costs more than the stages do.

use super::conntrack::{Found, NewFlow, Room, State, Tuple};
use super::cutting::Cut;
use super::dns::serve::Service;
use super::fdb::Lesson;
use super::filter::{PathId, Trace};
use super::icmp_error::ErrorKind;
use super::local::Heard;
use super::neighbour::Resolution;
use super::network::NetworkId;
use super::outcome::{DropReason, Verdict};
use crate::wire::MacAddr;
use crate::wire::icmp::Quote;
use crate::wire::ip::Addr;
use crate::wire::packet::Packet;

/// What will be done with a frame; see [`Switch::decide`](super::Switch::decide).
#[derive(Debug, Clone)]
pub struct Decision {
    /// Where it goes.
    pub verdict: Verdict,
    /// Its source address and what that teaches; `None` when it was not admitted.
    pub(super) lesson: Option<(MacAddr, Lesson)>,
    /// Bytes of the frame.
    pub(super) len: usize,
    /// Frames on the wire that it stands for.
    pub(super) segments: u32,
    /// The packet in it, where somebody has looked at that.
    pub(super) packet: Option<Packet>,
    /// What is to be done besides, or before it leaves.
    pub(super) plan: Plan,
}

impl Default for Decision {
    /// Nothing is decided yet.
    #[inline]
    fn default() -> Self {
        let verdict = Verdict::Drop(DropReason::PortDown);
        Self { verdict, lesson: None, len: 0, segments: 0, packet: None, plan: Plan::default() }
    }
}

/// What a frame makes the switch do, but for bridging it. The parts besides `action` are what a packet
/// that passes means for conntrack and rules, and how it changes.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    pub(super) action: Action,
    pub(super) tracking: Tracking,
    pub(super) passage: Passage,
    pub(super) translation: Translation,
}

/// What is done.
#[derive(Debug, Clone, Copy, Default)]
#[allow(clippy::large_enum_variant)] // one for each frame, none kept
pub(super) enum Action {
    /// Nothing.
    #[default]
    None,
    /// It is bridged, and the rules were asked.
    Filtered,
    /// It is routed.
    Forward(Forward),
    /// It is for the gateway.
    Deliver,
    /// It is for the gateway, and about names.
    Names(Service),
    /// An echo request to all of a group, which the gateway answers from this address.
    Echo(Addr),
    /// A fragment: the router and the rules look at whole packets.
    Collect,
    /// It is dropped by a rule, and counted there.
    Refused,
    /// It is dropped, and its sender told.
    Tell(Tell),
    /// The gateway hears what it says of addresses, and may answer.
    Hear(Heard),
}

/// Where a routed packet goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Forward {
    /// The network it leaves by.
    pub(super) egress: NetworkId,
    /// The next hop.
    pub(super) hop: Addr,
    /// Its MAC address, if that is known.
    pub(super) resolution: Resolution,
    /// How it has to be cut, if it has to be.
    pub(super) cut: Option<Cut>,
}

/// What conntrack is told once the packet has passed.
#[derive(Debug, Clone, Copy, Default)]
#[allow(clippy::large_enum_variant)] // one for each packet, none kept
pub(super) enum Tracking {
    /// Nothing: it belongs to no flow, or is an ICMP error about one.
    #[default]
    None,
    /// A packet of a known flow, and the flow's state after it.
    Known(Found, State),
    /// A new flow, who makes room for it, and the nat rules that its first packet met.
    New(NewFlow, Room, [Trace; 2]),
    /// The first packet of a flow that is not kept, for it is refused: the nat rules that it met.
    Unkept([Trace; 2]),
}

/// The filter rules that let it pass.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Passage {
    /// None was asked.
    #[default]
    None,
    /// Found out now.
    Traced(Trace),
    /// Remembered by its flow.
    Remembered(PathId),
}

/// How the packet's addresses and ports change.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Translation {
    /// Not at all.
    #[default]
    None,
    /// To these.
    Packet(Tuple),
    /// An ICMP error: source and destination of its own header, and those of the packet it quotes.
    Error(Quote, (Addr, Addr), Tuple),
}

/// What the sender of a refused packet is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tell {
    /// By an ICMP error.
    Error(ErrorKind),
    /// By a TCP reset.
    Reset,
}

/// A packet that goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: DropReason,
    pub(super) tell: Option<Tell>,
}

impl From<DropReason> for Refusal {
    fn from(reason: DropReason) -> Self {
        Self { reason, tell: None }
    }
}

impl Refusal {
    pub(super) const fn telling(reason: DropReason, kind: ErrorKind) -> Self {
        Self { reason, tell: Some(Tell::Error(kind)) }
    }
}
