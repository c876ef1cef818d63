//! When which flow wants to be woken.
//!
//! Theory of operation. A flow's deadline moves with every segment, mostly away. So each flow has one entry, the
//! earliest that it asked for; when that comes and the flow wants to wait longer, it is put in anew. An entry goes
//! with its flow, so there are never more of them than flows.

use std::collections::BTreeSet;

use crate::dataplane::Instant;

/// Deadlines of flows, which are known by their slots.
#[derive(Debug, Default)]
pub struct Timers(BTreeSet<(Instant, usize)>);

/// The entry of one flow among all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Armed(Option<Instant>);

impl Timers {
    /// The flow in `slot` wants to be woken then, or earlier if it asked for that before; `armed` is its entry.
    pub fn arm(&mut self, slot: usize, armed: &mut Armed, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return };
        if armed.0.is_none_or(|at| deadline < at) {
            self.disarm(slot, armed);
            armed.0 = Some(deadline);
            self.0.insert((deadline, slot));
        }
    }

    /// The flow is over.
    pub fn disarm(&mut self, slot: usize, armed: &mut Armed) {
        if let Some(at) = armed.0.take() {
            self.0.remove(&(at, slot));
        }
    }

    /// When the next entry is due.
    pub fn next(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Takes out the next entry that is due: when it was for, and whose. The flow has none then:
    /// [`Armed::fired`] is to be said.
    pub fn pop(&mut self, now: Instant) -> Option<(Instant, usize)> {
        if self.next()? > now {
            return None;
        }
        self.0.pop_first()
    }
}

impl Armed {
    /// The entry was taken out.
    pub const fn fired(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_counts_and_goes_with_its_flow() {
        let (mut timers, mut armed, mut other) = (Timers::default(), Armed::default(), Armed::default());
        timers.arm(7, &mut armed, Some(Instant(50)));
        timers.arm(8, &mut other, Some(Instant(50)));
        timers.arm(7, &mut armed, Some(Instant(80)));
        timers.arm(7, &mut armed, None);
        assert_eq!(timers.next(), Some(Instant(50)));
        timers.arm(7, &mut armed, Some(Instant(30)));
        assert_eq!((timers.pop(Instant(29)), timers.pop(Instant(60))), (None, Some((Instant(30), 7))));
        armed.fired();
        assert_eq!(timers.pop(Instant(60)), Some((Instant(50), 8)), "one each");
        other.fired();
        timers.arm(7, &mut armed, Some(Instant(90)));
        timers.disarm(7, &mut armed);
        timers.disarm(8, &mut other);
        assert_eq!(timers.next(), None);
    }
}
