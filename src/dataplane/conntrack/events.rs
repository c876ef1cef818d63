//! What happens to flows, for somebody who watches (`conntrack -E`).
//!
//! Theory of operation. Nothing is kept while nobody watches. While somebody does, events queue up until
//! they are fetched, [`CAPACITY`] at most; what comes when the queue is full is lost and counted, as
//! netlink does it to a listener who is too slow.

use std::collections::VecDeque;

use super::dump::FlowRow;
use super::table::Conntrack;

/// Events that wait at most.
pub const CAPACITY: usize = 4096;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// A flow entered the table.
    New,
    /// Its status or the name of its state changed.
    Update,
    /// It left the table.
    Destroy,
}

/// Something that happened to a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// The flow as it was then.
    pub flow: FlowRow,
}

/// See the module's theory of operation.
#[derive(Debug, Default)]
pub(super) struct Events {
    queue: Option<VecDeque<Event>>,
    lost: u64,
}

impl Events {
    #[inline]
    pub(super) const fn is_watched(&self) -> bool {
        self.queue.is_some()
    }

    pub(super) fn push(&mut self, kind: EventKind, flow: FlowRow) {
        match &mut self.queue {
            Some(queue) if queue.len() < CAPACITY => queue.push_back(Event { kind, flow }),
            Some(_) => self.lost += 1,
            None => {}
        }
    }
}

impl Conntrack {
    /// Starts to keep events, or stops and forgets those that wait.
    pub fn watch(&mut self, on: bool) {
        match (&self.events.queue, on) {
            (None, true) => self.events = Events { queue: Some(VecDeque::with_capacity(CAPACITY)), lost: 0 },
            (Some(_), false) => self.events = Events::default(),
            _ => {}
        }
    }

    /// Whether any event waits.
    #[inline]
    pub fn has_events(&self) -> bool {
        self.events.queue.as_ref().is_some_and(|queue| !queue.is_empty())
    }

    /// The events that wait, the oldest first, at most `max` of them.
    pub fn events(&mut self, max: usize) -> impl Iterator<Item = Event> + '_ {
        self.events.queue.iter_mut().flat_map(move |queue| {
            let count = queue.len().min(max);
            queue.drain(..count)
        })
    }

    /// How many events were lost since this was last asked.
    pub const fn lost_events(&mut self) -> u64 {
        std::mem::replace(&mut self.events.lost, 0)
    }
}
