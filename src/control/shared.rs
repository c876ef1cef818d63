//! A map whose copies share what has not changed since.
//!
//! Theory of operation. The control plane keeps copies of its whole model: one until a change is known to be
//! possible, one of what the switch was told, one of what was saved. So entries stand in `PARTS` parts, by a
//! byte of their key. A copy is one reference, a change copies the one part that it is in, and what
//! differs between two copies is found by looking only into parts that are not the same memory.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::Id;

/// One for each value of a byte: of four thousand entries sixteen are copied with each change.
const PARTS: usize = 256;

/// What stands in a [`Shared`] map under its own value.
pub trait Key: Ord {
    /// The part that it is in.
    fn part(&self) -> u8;
}

impl Key for Id {
    /// In order of parts is in order of ids.
    fn part(&self) -> u8 {
        let [first, ..] = *self.bytes();
        first
    }
}

impl Key for str {
    fn part(&self) -> u8 {
        self.bytes().fold(0, |part, byte| part.wrapping_mul(31).wrapping_add(byte))
    }
}

impl Key for String {
    fn part(&self) -> u8 {
        self.as_str().part()
    }
}

type Part<K, V> = Arc<BTreeMap<K, V>>;

/// See the module's documentation. What is compared is the same at once where it is the same memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared<K, V>(Arc<Vec<Part<K, V>>>);

impl<K, V> Default for Shared<K, V> {
    fn default() -> Self {
        Self(Arc::new(vec![Part::default(); PARTS]))
    }
}

impl<K: Key + Clone, V: Clone> Shared<K, V> {
    /// What stands under a key.
    pub fn get<Q: Key + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.0.get(usize::from(key.part()))?.get(key)
    }

    /// The same, to be changed.
    pub fn get_mut<Q: Key + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        // What is not there costs no copy.
        self.get(key)?;
        self.part_mut(key.part())?.get_mut(key)
    }

    /// Puts a value under a key; what stood there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.part_mut(key.part())?.insert(key, value)
    }

    /// Takes out what stands under a key.
    pub fn remove<Q: Key + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.get(key)?;
        self.part_mut(key.part())?.remove(key)
    }

    /// All entries, in order of parts and then of keys.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> + Clone {
        self.0.iter().flat_map(|part| part.iter())
    }

    /// All values, in the same order.
    pub fn values(&self) -> impl Iterator<Item = &V> + Clone {
        self.iter().map(|(_, value)| value)
    }

    fn part_mut(&mut self, part: u8) -> Option<&mut BTreeMap<K, V>> {
        Arc::make_mut(&mut self.0).get_mut(usize::from(part)).map(Arc::make_mut)
    }
}

impl<K: Key + Clone, V: Clone + PartialEq> Shared<K, V> {
    /// What differs from a `later` copy: each value before and after, where there is one.
    pub fn changes<'a>(&'a self, later: &'a Self) -> Vec<(Option<&'a V>, Option<&'a V>)> {
        let mut changes = Vec::new();
        if Arc::ptr_eq(&self.0, &later.0) {
            return changes;
        }
        for (before, after) in self.0.iter().zip(later.0.iter()).filter(|(one, two)| !Arc::ptr_eq(one, two)) {
            let left = before.iter().map(|(key, value)| (Some(value), after.get(key)));
            let came = after.iter().filter(|(key, _)| !before.contains_key(*key));
            let all = left.chain(came.map(|(_, value)| (None, Some(value))));
            changes.extend(all.filter(|(before, after)| before != after));
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn id(number: u8) -> Id {
        // Several in a part, and several parts.
        Id::new(std::array::from_fn(|at| if at == 0 { number % 4 } else { number }))
    }

    #[test]
    fn a_copy_stays_as_it_was() {
        let mut map: Shared<Id, u8> = Shared::default();
        assert_eq!(map.insert(id(1), 1), None);
        let before = map.clone();
        assert_eq!((map.insert(id(1), 2), map.insert(id(5), 5)), (Some(1), None));
        *map.get_mut(&id(5)).unwrap() = 6;
        assert!(map.get_mut(&id(9)).is_none() && map.remove(&id(9)).is_none());
        assert_eq!((before.get(&id(1)), before.get(&id(5))), (Some(&1), None));
        assert_eq!(before.changes(&map), [(Some(&1), Some(&2)), (None, Some(&6))]);
        assert_eq!(map.changes(&before), [(Some(&2), Some(&1)), (Some(&6), None)]);
        let mut names: Shared<String, u8> = Shared::default();
        names.insert("web".to_owned(), 1);
        assert_eq!((names.get("web"), names.get("bew")), (Some(&1), None));
    }

    proptest! {
        #[test]
        fn equals_a_plain_map(steps in proptest::collection::vec((any::<bool>(), 0u8..24, 0u8..3), 0..100)) {
            let (mut map, mut plain): (Shared<Id, u8>, BTreeMap<Id, u8>) = Default::default();
            let mut copies = vec![(map.clone(), plain.clone())];
            for (add, key, value) in steps {
                let key = id(key);
                if add {
                    prop_assert_eq!(map.insert(key, value), plain.insert(key, value));
                } else {
                    prop_assert_eq!(map.remove(&key), plain.remove(&key));
                }
                copies.push((map.clone(), plain.clone()));
            }
            prop_assert!(map.iter().eq(&plain));
            for (at, (map, plain)) in copies.iter().enumerate() {
                prop_assert!(map.iter().eq(plain) && map.values().eq(plain.values()));
                // Soon after, and in the end.
                for (later, plain_later) in copies.iter().skip(at).take(3).chain(copies.last()) {
                    let keys: BTreeSet<&Id> = plain.keys().chain(plain_later.keys()).collect();
                    let both = keys.into_iter().map(|key| (plain.get(key), plain_later.get(key)));
                    let mut expected: Vec<_> = both.filter(|(before, after)| before != after).collect();
                    let mut changes = map.changes(later);
                    expected.sort();
                    changes.sort();
                    prop_assert_eq!(changes, expected);
                    prop_assert_eq!(map == later, plain == plain_later);
                }
            }
        }
    }
}
