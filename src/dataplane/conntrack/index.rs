//! From a hash to a slot.
//!
//! Theory of operation. [`PARTS`] hash tables share the entries by some bits of the hash; each grows by
//! itself. At a million flows a part holds 31,250 entries, so that the insertion that makes one
//! double moves that many entries of eight bytes, a fraction of a millisecond, and the parts do not
//! all come to it at once. An entry keeps its hash: growth reads no flow, and a look-up reads
//! (almost) no flow but the right one.
//!
//! Of the 64 bits of a hash 32 are kept. The hash table uses the upper seven bits and as many of the lower
//! ones as it has buckets; the part is chosen by six bits in between.

use hashbrown::HashTable;

/// How many hash tables there are.
const PARTS: usize = 64;
/// The part's bits are above this one; below are the hash table's own: half a million buckets.
const PART_SHIFT: u32 = 19;

/// A hash, cut to what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hash(u32);

impl Hash {
    #[inline]
    pub(super) const fn new(hash: u64) -> Self {
        Self((hash ^ hash >> 32) as u32)
    }

    /// As the hash table wants it: the kept bits at both ends.
    #[inline]
    const fn spread(self) -> u64 {
        (self.0 as u64) << 32 | self.0 as u64
    }

    #[inline]
    const fn part(self) -> usize {
        (self.0 >> PART_SHIFT) as usize % PARTS
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: Hash,
    value: u32,
}

/// See the module's theory of operation. Equal keys may be there more than once.
#[derive(Debug)]
pub(super) struct Index {
    parts: [HashTable<Entry>; PARTS],
}

impl Default for Index {
    fn default() -> Self {
        Self { parts: std::array::from_fn(|_| HashTable::new()) }
    }
}

impl Index {
    /// A value with this hash that is the right one.
    #[inline]
    pub(super) fn find(&self, hash: Hash, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let part = &self.parts[hash.part()];
        // Not by the table's own `find`, which calls back for each entry.
        let mut entries = part.iter_hash(hash.spread());
        entries.find(|entry| entry.hash == hash && is_it(entry.value)).map(|entry| entry.value)
    }

    pub(super) fn insert(&mut self, hash: Hash, value: u32) {
        let part = &mut self.parts[hash.part()];
        part.insert_unique(hash.spread(), Entry { hash, value }, |entry| entry.hash.spread());
    }

    /// Removes the value with this hash, if it is there.
    pub(super) fn remove(&mut self, hash: Hash, value: u32) {
        let part = &mut self.parts[hash.part()];
        if let Ok(entry) = part.find_entry(hash.spread(), |entry| entry.value == value) {
            entry.remove();
        }
    }

    /// How many entries there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(HashTable::len).sum()
    }

    /// How many entries the largest part holds.
    #[cfg(test)]
    pub(super) fn largest_part(&self) -> usize {
        self.parts.iter().map(HashTable::len).max().unwrap_or(0)
    }

    /// Bytes that the tables take, control bytes included.
    pub(super) fn memory(&self) -> usize {
        self.parts.iter().map(HashTable::allocation_size).sum()
    }
}
