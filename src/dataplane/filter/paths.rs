//! Paths: traces that packets of established flows take again and again, counted as one.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::{Count, PathId, Trace};

/// How many paths there may be: 128 bytes each.
const MAX_PATHS: usize = 16_384;

/// The paths of one ruleset. A number is an index.
#[derive(Debug, Default)]
pub(super) struct Paths {
    counts: Vec<Count>,
    traces: Vec<Trace>,
    numbers: HashTable<u32>,
}

impl Paths {
    /// The number of a trace, a new one if need be; `None` when there are too many.
    pub(super) fn intern(&mut self, trace: &Trace) -> Option<PathId> {
        let hasher = FixedState::default();
        let hash = hasher.hash_one(trace);
        let traces = &self.traces;
        let same = |number: &u32| traces.get(*number as usize) == Some(trace);
        if let Some(number) = self.numbers.find(hash, same) {
            return Some(PathId(*number));
        }
        if traces.len() >= MAX_PATHS {
            return None;
        }
        let number = traces.len() as u32;
        self.numbers.insert_unique(hash, number, |number| {
            traces.get(*number as usize).map_or(0, |trace| hasher.hash_one(trace))
        });
        self.traces.push(*trace);
        self.counts.push(Count::default());
        Some(PathId(number))
    }

    pub(super) fn trace(&self, path: PathId) -> Option<&Trace> {
        self.traces.get(path.0 as usize)
    }

    #[inline]
    pub(super) fn count(&mut self, path: PathId, packets: u64, bytes: u64) {
        if let Some(count) = self.counts.get_mut(path.0 as usize) {
            count.add(packets, bytes);
        }
    }

    pub(super) fn counts(&self) -> impl Iterator<Item = (&Trace, Count)> {
        self.traces.iter().zip(self.counts.iter().copied())
    }

    pub(super) fn into_counts(self) -> impl Iterator<Item = (Trace, Count)> {
        self.traces.into_iter().zip(self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_has_one_number_and_there_is_an_end_to_them() {
        let trace = |rule: usize| {
            let mut trace = Trace::default();
            trace.push(rule as u32);
            trace
        };
        let mut paths = Paths::default();
        for rule in 0..MAX_PATHS {
            assert_eq!(paths.intern(&trace(rule)), Some(PathId(rule as u32)));
        }
        assert_eq!(paths.intern(&trace(MAX_PATHS)), None);
        assert_eq!(paths.intern(&trace(77)), Some(PathId(77)));
        paths.count(PathId(77), 2, 120);
        paths.count(PathId(u32::MAX), 1, 1);
        let counted: Vec<_> = paths.counts().filter(|(_, count)| count.packets > 0).collect();
        assert_eq!(counted, [(&trace(77), Count { packets: 2, bytes: 120 })]);
    }
}
