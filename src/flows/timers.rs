//! When which flow wants to be woken.
//!
//! Theory of operation. A flow's deadline moves with every segment, mostly away. So the heap holds at most one
//! entry a flow that counts, the earliest asked for; when that comes and the flow wants to wait longer, it is
//! put in anew. What is gone or has another entry by now is passed over.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::dataplane::Instant;

/// Deadlines of flows, which are known by a key of their own.
#[derive(Debug, Default)]
pub struct Timers(BinaryHeap<Reverse<(Instant, u64)>>);

/// The entry of one flow among all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Armed(Option<Instant>);

impl Timers {
    /// The flow `key` wants to be woken then; `armed` is its entry.
    pub fn arm(&mut self, key: u64, armed: &mut Armed, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return };
        if armed.0.is_none_or(|at| deadline < at) {
            armed.0 = Some(deadline);
            self.0.push(Reverse((deadline, key)));
        }
    }

    /// When the next entry is due.
    pub fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// The next entry that is due: when it was for, and whose. Whether it counts, [`Armed::fired`] tells.
    pub fn pop(&mut self, now: Instant) -> Option<(Instant, u64)> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse(entry)| entry)
    }
}

impl Armed {
    /// An entry for `at` came: whether it is the one that counts, which is gone now.
    pub fn fired(&mut self, at: Instant) -> bool {
        let counts = self.0 == Some(at);
        if counts {
            self.0 = None;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_counts_and_is_asked_for_again() {
        let (mut timers, mut armed) = (Timers::default(), Armed::default());
        timers.arm(7, &mut armed, Some(Instant(50)));
        timers.arm(7, &mut armed, Some(Instant(80)));
        timers.arm(7, &mut armed, None);
        assert_eq!(timers.next(), Some(Instant(50)));
        timers.arm(7, &mut armed, Some(Instant(30)));
        assert_eq!(timers.pop(Instant(29)), None);
        assert_eq!(timers.pop(Instant(60)), Some((Instant(30), 7)));
        assert!(armed.fired(Instant(30)));
        assert_eq!(timers.pop(Instant(60)), Some((Instant(50), 7)));
        assert!(!armed.fired(Instant(50)), "it was replaced");
        assert_eq!(timers.pop(Instant(60)), None);
    }
}
