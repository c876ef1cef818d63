//! A set of numbers that finds its lowest missing member quickly.

use std::collections::BTreeMap;

/// A set of numbers kept as its maximal runs, first member → last member: sixty thousand leased
/// addresses in a row are one entry, and each operation is logarithmic in the number of runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Runs(BTreeMap<u128, u128>);

impl Runs {
    /// Whether `number` is a member.
    pub fn contains(&self, number: u128) -> bool {
        self.run_of(number).is_some()
    }

    /// The lowest number that is not a member and not below `from`; `None` when there is none.
    pub fn first_missing(&self, from: u128) -> Option<u128> {
        match self.run_of(from) {
            Some((_, last)) => last.checked_add(1),
            None => Some(from),
        }
    }

    /// Adds `number`; false if it was a member.
    pub fn insert(&mut self, number: u128) -> bool {
        if self.contains(number) {
            return false;
        }
        let before = number.checked_sub(1).and_then(|left| self.run_of(left));
        let after = number.checked_add(1).and_then(|right| self.0.remove(&right));
        self.0.insert(before.map_or(number, |(first, _)| first), after.unwrap_or(number));
        true
    }

    /// Takes `number` out; false if it was no member.
    pub fn remove(&mut self, number: u128) -> bool {
        let Some((first, last)) = self.run_of(number) else { return false };
        self.0.remove(&first);
        if first < number {
            self.0.insert(first, number - 1);
        }
        if number < last {
            self.0.insert(number + 1, last);
        }
        true
    }

    /// The run that holds `number`.
    fn run_of(&self, number: u128) -> Option<(u128, u128)> {
        let (first, last) = self.0.range(..=number).next_back()?;
        (number <= *last).then_some((*first, *last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn ends_of_the_number_range() {
        let mut runs = Runs::default();
        assert!(runs.insert(u128::MAX) && runs.insert(0) && !runs.insert(0));
        assert_eq!(runs.first_missing(u128::MAX), None);
        assert_eq!(runs.first_missing(0), Some(1));
        assert!(runs.remove(u128::MAX) && runs.remove(0) && !runs.remove(0));
        assert_eq!(runs, Runs::default());
    }

    proptest! {
        #[test]
        fn equals_a_plain_set(steps in proptest::collection::vec((any::<bool>(), 0u128..24), 0..200)) {
            let (mut runs, mut plain) = (Runs::default(), BTreeSet::new());
            for (add, number) in steps {
                if add {
                    prop_assert_eq!(runs.insert(number), plain.insert(number));
                } else {
                    prop_assert_eq!(runs.remove(number), plain.remove(&number));
                }
                for from in 0..26 {
                    let missing = (from..).find(|number| !plain.contains(number));
                    prop_assert_eq!(runs.first_missing(from), missing);
                }
                let touching = runs.0.iter().zip(runs.0.iter().skip(1)).any(|((_, last), (first, _))| last + 1 == *first);
                prop_assert!(!touching, "runs are maximal: {:?}", runs);
            }
        }
    }
}
