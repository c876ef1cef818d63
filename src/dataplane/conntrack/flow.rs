//! A flow, and the words of the table's API.

use super::list::Link;
use super::owners::Source;
use super::slab::Chained;
use super::state::State;
use super::tuple::{Direction, Tuple};
use crate::dataplane::filter::PathId;
use crate::dataplane::neighbour::NeighbourId;
use crate::dataplane::{Instant, NetworkId, PortId};

/// A flow's place in the table, and which of the flows that were ever there it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowId {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// A packet's flow, and which way the packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The flow.
    pub id: FlowId,
    /// The direction whose tuple the packet has.
    pub direction: Direction,
}

/// What is known of a flow, as `IPS_*` bits in Linux's `nf_conntrack_common.h` (values are ours).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status(pub u8);

impl Status {
    /// A packet was seen in the reply direction.
    pub const SEEN_REPLY: Self = Self(1);
    /// Both sides mean it; shown as `[ASSURED]`.
    pub const ASSURED: Self = Self(2);
    /// The destination of the original direction is translated.
    pub const DNAT: Self = Self(4);
    /// The source of the original direction is translated.
    pub const SNAT: Self = Self(8);
    /// It may be evicted to make room.
    pub(super) const DROPPABLE: Self = Self(16);
    /// The slot is in use.
    pub(super) const USED: Self = Self(32);
    /// It has acquired a mapping.
    pub(super) const MAPPED: Self = Self(64);
    /// Those that a watcher is told of.
    pub(super) const SHOWN: Self = Self(15);

    /// Whether all bits of `other` are set.
    #[inline]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether one side or both are translated.
    #[inline]
    pub const fn is_translated(self) -> bool {
        self.0 & (Self::DNAT.0 | Self::SNAT.0) != 0
    }

    /// The bits of both.
    #[must_use]
    #[inline]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The bits of the one that are not the other's.
    #[must_use]
    #[inline]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The bits that both have.
    #[must_use]
    #[inline]
    pub const fn only(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// With `bit` set, or not.
    #[must_use]
    #[inline]
    pub(super) const fn set(self, bit: Self, on: bool) -> Self {
        if on { self.with(bit) } else { self.without(bit) }
    }
}

/// The way that packets of one direction took last, so that the next one need not ask again.
/// The table only keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// The switch's generation when it was found; another one makes it void.
    pub generation: u32,
    /// The network it comes by: what comes by another one is not the flow's, whatever its addresses say.
    pub from: NetworkId,
    /// The interface it leaves by.
    pub interface: NetworkId,
    /// The next hop.
    pub neighbour: NeighbourId,
    /// The rules it passed.
    pub path: PathId,
}

impl Way {
    /// Not known. No switch has this generation.
    pub const NONE: Self = Self {
        generation: u32::MAX,
        from: NetworkId(u32::MAX),
        interface: NetworkId(u32::MAX),
        neighbour: NeighbourId::NONE,
        path: PathId(u32::MAX),
    };
}

/// A flow that shall enter the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewFlow {
    /// The first packet's tuple, as it came.
    pub original: Tuple,
    /// The tuple that its answer will have when it comes.
    pub reply: Tuple,
    /// Which side is translated.
    pub status: Status,
    /// The port the first packet came by: the flow goes when the port goes.
    pub owner: PortId,
    /// Whose limit it counts against.
    pub source: Source,
    /// What the first packet makes of it.
    pub first: Update,
    /// The flow that had these addresses and ports before, has ended, and goes now.
    pub replaces: Option<FlowId>,
}

/// What a packet makes of its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update {
    /// The protocol's state after it.
    pub state: State,
    /// Seconds that the flow lives without another packet.
    pub timeout: u32,
    /// Whether both sides mean it.
    pub assured: bool,
    /// Whether the flow may be evicted for the sake of others.
    pub droppable: bool,
    /// Bytes of the packet, IP header included.
    pub bytes: u32,
}

/// Packets and bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Packets; a super-frame counts as one.
    pub packets: u64,
    /// Bytes, IP headers included.
    pub bytes: u64,
}

/// A flow in the table. What every packet reads or writes comes first and together, in as few cache lines
/// as can be.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct Flow {
    pub(super) tuples: [Tuple; 2],
    pub(super) ways: [Way; 2],
    pub(super) traffic: [Traffic; 2],
    pub(super) state: State,
    pub(super) generation: u32,
    /// It is dead from here on.
    pub(super) deadline: Instant,
    pub(super) status: Status,
    /// The bucket of the timer wheel it lies in.
    pub(super) bucket: u8,
    /// What a bare packet does not touch: the homes of the ports on both sides, the source's slot,
    /// and the neighbours on the lists, by `Chain`.
    pub(super) homes: [u32; 2],
    pub(super) source: u32,
    pub(super) links: [Link; 3],
}

impl Flow {
    /// The tuple of the packets that come in in this direction.
    #[inline]
    pub const fn tuple(&self, direction: Direction) -> &Tuple {
        &self.tuples[direction.index()]
    }

    /// What a packet of this direction has to become.
    #[inline]
    pub const fn translated(&self, direction: Direction) -> Tuple {
        self.tuples[direction.opposite().index()].invert()
    }

    /// The way of the packets of this direction, if it is known.
    #[inline]
    pub const fn way(&self, direction: Direction) -> &Way {
        &self.ways[direction.index()]
    }

    /// The protocol's state.
    #[inline]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// What is known of it.
    #[inline]
    pub const fn status(&self) -> Status {
        self.status.only(Status::SHOWN)
    }

    /// Packets and bytes of a direction.
    pub const fn traffic(&self, direction: Direction) -> Traffic {
        self.traffic[direction.index()]
    }

    /// When it dies without another packet.
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    #[inline]
    pub(super) const fn is_used(&self) -> bool {
        self.status.has(Status::USED)
    }
}

impl Chained for Flow {
    fn next_free(&mut self) -> &mut u32 {
        &mut self.links[0].next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_small() {
        assert!(size_of::<Flow>() <= 256, "{}", size_of::<Flow>());
        assert_eq!(size_of::<Way>(), 24);
        assert!(size_of::<State>() <= 40);
    }
}
