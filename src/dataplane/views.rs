//! A switch's tables, to be shown. Nothing here is on a frame's way.

use super::Switch;
use super::conntrack::{Conntrack, Event, FlowRow};
use super::filter::Rules;
use super::neighbour::Neighbours;
use super::routes::Routes;
use super::time::Instant;
use crate::wire::ip::Version;

impl Switch {
    /// The flows.
    pub const fn conntrack(&self) -> &Conntrack {
        &self.conntrack
    }

    /// The neighbours of all gateways.
    pub const fn neighbours(&self) -> &Neighbours {
        &self.neighbours
    }

    /// The routes.
    pub const fn routes(&self) -> &Routes {
        &self.routes
    }

    /// The rules of an IP version, and what they have counted.
    pub fn rules(&self, version: Version) -> &Rules {
        self.rules_of(version)
    }

    /// Deletes the flows that `which` picks among so many places of the table: see
    /// [`Conntrack::delete_matching`].
    pub fn delete_flows(
        &mut self,
        now: Instant,
        cursor: u32,
        max: u32,
        which: impl FnMut(&FlowRow) -> bool,
    ) -> (u32, Option<u32>) {
        self.conntrack.delete_matching(now, cursor, max, which)
    }

    /// Starts or stops to keep what happens to flows: see [`Conntrack::watch`].
    pub fn watch_flows(&mut self, on: bool) {
        self.conntrack.watch(on);
    }

    /// What happened to flows since this was last asked, `max` events at most, and how many were lost.
    pub fn flow_events(&mut self, max: usize) -> (Vec<Event>, u64) {
        (self.conntrack.events(max).collect(), self.conntrack.lost_events())
    }
}
