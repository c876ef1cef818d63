//! Connections that one side does not know of yet, and how many of them there may be.
//!
//! They are counted by who opens them: so neither a container that calls too many, nor one that answers none of its
//! callers, keeps others from being served.

use std::collections::HashMap;

use crate::dataplane::PortId;
use crate::flows::Ends;

/// Such connections of one opener.
const MAX_HALF_OPEN: u32 = 1024;

/// To whom a connection counts until it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Opener {
    /// A port of the switch.
    Inside(PortId),
    /// Callers from outside, all who want this port.
    Outside(u16),
}

impl Opener {
    /// Of a connection with these ends by a port of the switch, or from outside.
    pub(super) const fn of(port: Option<PortId>, ends: &Ends) -> Self {
        match port {
            Some(port) => Self::Inside(port),
            None => Self::Outside(ends.destination_port),
        }
    }
}

/// How many there are of each opener that has any.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct HalfOpen(HashMap<Opener, u32, foldhash::fast::FixedState>);

impl HalfOpen {
    /// Whether an opener may have one more.
    pub(super) fn has_room(&self, opener: Opener) -> bool {
        self.0.get(&opener).is_none_or(|count| *count < MAX_HALF_OPEN)
    }

    /// One more.
    pub(super) fn add(&mut self, opener: Opener) {
        *self.0.entry(opener).or_default() += 1;
    }

    /// One less: it is open, or over.
    pub(super) fn remove(&mut self, opener: Opener) {
        if let Some(count) = self.0.get_mut(&opener) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&opener);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_answers_no_caller_keeps_no_other_from_being_called() {
        let mut half_open = HalfOpen::default();
        let (silent, other) = (Opener::Outside(8000), Opener::Outside(8001));
        (0..MAX_HALF_OPEN).for_each(|_| half_open.add(silent));
        assert!(!half_open.has_room(silent));
        assert!(half_open.has_room(other) && half_open.has_room(Opener::Inside(PortId(1))));
        half_open.remove(silent);
        assert!(half_open.has_room(silent));
        (1..MAX_HALF_OPEN).for_each(|_| half_open.remove(silent));
        assert_eq!(half_open, HalfOpen::default(), "nothing is kept of who has none");
    }
}
