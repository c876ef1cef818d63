//! Where the sequence numbers of TCP connections began.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

/// How many connections are remembered; the oldest is forgotten for a new one.
const MAX: usize = 4096;

/// One direction of a connection: addresses and ports of sender and receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Direction {
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
}

/// The sequence numbers that a connection's two directions are counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Origin {
    /// That of the segment's sender.
    pub(super) sequence: u32,
    /// That of its receiver: what the sender acknowledges.
    pub(super) acknowledgment: u32,
}

/// The connections seen lately.
#[derive(Debug, Default)]
pub(super) struct Flows {
    /// By the direction whose ports, then addresses, are in ascending order; so is the origin.
    origins: BTreeMap<Direction, Origin>,
    by_age: VecDeque<Direction>,
}

impl Flows {
    /// The origin of a segment's connection, and whether the connection was known before. An unknown
    /// one, or one that begins anew, is remembered with `first` as its origin.
    pub(super) fn origin(&mut self, segment: Direction, begins: bool, first: Origin) -> (Origin, bool) {
        let (key, turned) = segment.ordered();
        if let Some(known) = self.origins.get(&key)
            && !begins
        {
            return (if turned { known.turned() } else { *known }, true);
        }
        if self.origins.insert(key, if turned { first.turned() } else { first }).is_none() {
            self.by_age.push_back(key);
            if self.by_age.len() > MAX
                && let Some(oldest) = self.by_age.pop_front()
            {
                self.origins.remove(&oldest);
            }
        }
        (first, false)
    }
}

impl Direction {
    /// The direction that stands for both, and whether it is the other one.
    pub(super) fn ordered(self) -> (Self, bool) {
        let other = Self {
            source_port: self.destination_port,
            destination_port: self.source_port,
            source: self.destination,
            destination: self.source,
        };
        let turned = (self.source_port, self.source) > (other.source_port, other.source);
        (if turned { other } else { self }, turned)
    }
}

impl Origin {
    const fn turned(self) -> Self {
        Self { sequence: self.acknowledgment, acknowledgment: self.sequence }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direction(source_port: u16, destination_port: u16) -> Direction {
        let address = IpAddr::from([10, 0, 0, 1]);
        Direction { source_port, destination_port, source: address, destination: address }
    }

    #[test]
    fn both_directions_share_an_origin() {
        let mut flows = Flows::default();
        let first = Origin { sequence: 100, acknowledgment: 200 };
        assert_eq!(flows.origin(direction(80, 5000), false, first), (first, false));
        assert_eq!(flows.origin(direction(80, 5000), false, Origin::default()), (first, true));
        let back = Origin { sequence: 200, acknowledgment: 100 };
        assert_eq!(flows.origin(direction(5000, 80), false, Origin::default()), (back, true));
    }

    #[test]
    fn a_connection_that_begins_anew_counts_anew() {
        let mut flows = Flows::default();
        flows.origin(direction(80, 5000), true, Origin { sequence: 1, acknowledgment: 2 });
        let again = Origin { sequence: 7, acknowledgment: 8 };
        assert_eq!(flows.origin(direction(80, 5000), true, again), (again, false));
        assert_eq!(flows.origin(direction(80, 5000), false, Origin::default()), (again, true));
    }

    #[test]
    fn the_oldest_connection_goes_first() {
        let mut flows = Flows::default();
        let first = Origin { sequence: 1, acknowledgment: 2 };
        for port in 0..=4096 {
            flows.origin(direction(port, 5000), false, first);
        }
        assert_eq!(flows.origins.len(), MAX);
        assert!(flows.origin(direction(1, 5000), false, first).1);
        assert!(!flows.origin(direction(0, 5000), false, first).1);
        assert_eq!((flows.origins.len(), flows.by_age.len()), (MAX, MAX));
    }
}
