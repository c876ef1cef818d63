//! Connection tracking: which packets belong together, and what becomes of them.
//!
//! Theory of operation. A *flow* is known by two [`Tuple`]s: that of its first packet (the original
//! direction) and that of the answers (the reply direction). Without translation one is the other turned
//! around; translation is nothing but a reply tuple that differs. Both are in the table, so that one
//! look-up finds the flow, the direction, and what the packet must be rewritten to.
//!
//! *Looking and changing are apart.* [`Conntrack::lookup`] and [`Conntrack::room`] change nothing; a flow
//! enters the table by [`Conntrack::insert`] when its first packet has survived every stage, so that a
//! packet that is dropped leaves no trace. [`Conntrack::update`] is the whole work for later packets.
//!
//! *Parts.* [`table`] is the table of flows, [`state`] what their protocols remember; `slab` keeps them where they are and `index` finds
//! them; `wheel` knows who expires next; `owners` counts them by port and by source and says who must go
//! when there is no room; [`mappings`] which outside ports are whose; `dump` shows and deletes in pages; [`events`] tells a watcher.
//!
//! *Nothing takes long.* Work that grows with the table is cut into slices whose size the caller gives:
//! [`Conntrack::expire`], [`Conntrack::page`], [`Conntrack::delete_matching`]. What is waiting for its
//! slice is already dead for look-ups.

mod dump;
pub mod events;
pub mod flow;
mod index;
mod list;
pub mod mappings;
mod owners;
mod slab;
pub mod state;
pub mod table;
mod tcp;
#[cfg(test)]
mod tests;
pub mod timeouts;
pub mod tuple;
mod wheel;

pub use dump::FlowRow;
pub use events::{Event, EventKind};
pub use flow::{Flow, FlowId, Found, NewFlow, Status, Update, Way};
pub use owners::Source;
pub use state::State;
pub use table::{Conntrack, ConntrackCounters, Room};
pub use timeouts::Timeouts;
pub use tuple::{Direction, Tuple};

/// How many flows there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In the whole table (`nf_conntrack_max`).
    pub table: u32,
    /// Of one source: a container's port, or an address outside.
    pub source: u32,
}

impl Default for Limits {
    /// Linux's limit on a machine of 4 GiB and more; a quarter of it for one source.
    fn default() -> Self {
        Self { table: 262_144, source: 65_536 }
    }
}
