//! Lists of flows, linked through the flows themselves.

use super::flow::Flow;
use super::slab::{NIL, Slab};

/// Neighbours on a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) prev: u32,
    pub(super) next: u32,
}

impl Link {
    pub(super) const NONE: Self = Self { prev: NIL, next: NIL };
}

/// Which of a flow's links a list goes by.
#[derive(Debug, Clone, Copy)]
pub(super) enum Chain {
    /// Flows in one bucket of the timer wheel.
    Wheel,
    /// Droppable flows of one port.
    Owner,
    /// Droppable flows of one source.
    Source,
}

/// A list in the order of joining.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct List {
    /// Its head; `NIL` when the list is empty.
    pub(super) oldest: u32,
    newest: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self { oldest: NIL, newest: NIL };

    pub(super) const fn is_empty(&self) -> bool {
        self.oldest == NIL
    }

    /// Puts a flow, which is on no list of this chain, at the end.
    pub(super) fn push(&mut self, flows: &mut Slab<Flow>, chain: Chain, slot: u32) {
        let prev = self.newest;
        let Some(flow) = flows.get_mut(slot) else { return };
        flow.links[chain as usize] = Link { prev, next: NIL };
        match flows.get_mut(prev) {
            Some(before) => before.links[chain as usize].next = slot,
            None => self.oldest = slot,
        }
        self.newest = slot;
    }

    /// Takes a flow off this list, which it must be on.
    pub(super) fn unlink(&mut self, flows: &mut Slab<Flow>, chain: Chain, slot: u32) {
        let Some(flow) = flows.get_mut(slot) else { return };
        let Link { prev, next } = std::mem::replace(&mut flow.links[chain as usize], Link::NONE);
        match flows.get_mut(prev) {
            Some(before) => before.links[chain as usize].next = next,
            None => self.oldest = next,
        }
        match flows.get_mut(next) {
            Some(after) => after.links[chain as usize].prev = prev,
            None => self.newest = prev,
        }
    }
}
