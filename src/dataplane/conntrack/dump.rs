//! Showing and deleting flows, a page at a time.
//!
//! A cursor is a slot's number: a page is what lies in the next so many slots. Flows that come and go between
//! two pages may be missed or not; those that stay are seen exactly once.

use std::time::Duration;

use super::flow::{Flow, Status, Traffic};
use super::state::State;
use super::table::{Cause, Conntrack};
use super::{Direction, Tuple};
use crate::dataplane::{Instant, PortId};

/// A flow, as shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowRow {
    /// The first packet's tuple.
    pub original: Tuple,
    /// Its answer's.
    pub reply: Tuple,
    /// What is known of it.
    pub status: Status,
    /// The protocol's state.
    pub state: State,
    /// How long it lives without another packet.
    pub timeout: Duration,
    /// Packets and bytes by direction.
    pub traffic: [Traffic; 2],
    /// The port its first packet came by.
    pub owner: Option<PortId>,
    /// The port its packets leave by, if that is known.
    pub peer: Option<PortId>,
}

impl Conntrack {
    /// The living flows among the next `max` slots from `cursor` (0 at first), and where the next page starts
    /// (`None` at the end).
    pub fn page(&self, now: Instant, cursor: u32, max: u32) -> (Vec<FlowRow>, Option<u32>) {
        let end = cursor.saturating_add(max.max(1)).min(self.flows.slots());
        let rows = (cursor..end).filter_map(|slot| self.living(slot, now)).map(|flow| self.row(flow, now));
        (rows.collect(), self.rest(end))
    }

    /// Deletes those among the next `max` slots' living flows that `which` picks.
    /// Gives how many they were, and where to go on.
    pub fn delete_matching(
        &mut self,
        now: Instant,
        cursor: u32,
        max: u32,
        mut which: impl FnMut(&FlowRow) -> bool,
    ) -> (u32, Option<u32>) {
        let end = cursor.saturating_add(max.max(1)).min(self.flows.slots());
        let mut deleted = 0;
        for slot in cursor..end {
            if self.living(slot, now).is_some_and(|flow| which(&self.row(flow, now))) {
                self.take_out(slot, now, Cause::Deleted);
                deleted += 1;
            }
        }
        (deleted, self.rest(end))
    }

    /// How a flow is shown.
    pub fn row(&self, flow: &Flow, now: Instant) -> FlowRow {
        let (owner, peer) = self.ports(flow);
        FlowRow {
            original: *flow.tuple(Direction::Original),
            reply: *flow.tuple(Direction::Reply),
            status: flow.status(),
            state: *flow.state(),
            timeout: flow.deadline().since(now),
            traffic: flow.traffic,
            owner,
            peer,
        }
    }

    fn living(&self, slot: u32, now: Instant) -> Option<&Flow> {
        self.flows.get(slot).filter(|flow| flow.is_used() && self.is_alive(flow, now))
    }

    fn rest(&self, end: u32) -> Option<u32> {
        (end < self.flows.slots()).then_some(end)
    }
}
