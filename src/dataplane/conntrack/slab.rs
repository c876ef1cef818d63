//! Slots for things that must stay where they are, however many more come.
//!
//! Theory of operation. Slots lie in chunks of [`CHUNK`]; a full slab gets one more chunk, and nothing that
//! is there moves, so growth costs the same at a million entries as at none. A chunk's memory is reserved
//! at once but first touched slot by slot. Free slots are chained through the things themselves
//! ([`Chained`]): a list of them on the side would have to grow too. Slots are never given back.

/// No slot.
pub(super) const NIL: u32 = u32::MAX;

/// Slots per chunk.
const CHUNK: usize = 1 << BITS;
const BITS: u32 = 12;

/// Something that has room for a slot number while it is not in use.
pub(super) trait Chained {
    /// That room.
    fn next_free(&mut self) -> &mut u32;
}

/// See the module's theory of operation.
#[derive(Debug)]
pub(super) struct Slab<T> {
    chunks: Vec<Vec<T>>,
    free: u32,
    /// Slots in use.
    used: u32,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), free: NIL, used: 0 }
    }
}

impl<T> Slab<T> {
    /// How many slots are in use.
    pub(super) const fn used(&self) -> u32 {
        self.used
    }

    /// How many slots there are; slot numbers are below this.
    pub(super) fn slots(&self) -> u32 {
        // Every chunk but the last is full. Slot numbers fit in 31 bits (see `add`).
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len()) as u32
    }

    /// Bytes that the slots take.
    pub(super) fn memory(&self) -> usize {
        self.slots() as usize * size_of::<T>()
    }

    /// What is in a slot, be it in use or not.
    #[inline]
    pub(super) fn get(&self, slot: u32) -> Option<&T> {
        self.chunks.get((slot >> BITS) as usize)?.get(slot as usize & (CHUNK - 1))
    }

    /// What is in a slot, to change it.
    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.chunks.get_mut((slot >> BITS) as usize)?.get_mut(slot as usize & (CHUNK - 1))
    }
}

impl<T: Chained> Slab<T> {
    /// A slot to be used: a free one with what was last in it, or a new one with `fresh`.
    /// `None` when the numbers run out, at half of what 32 bits hold.
    pub(super) fn add(&mut self, fresh: impl FnOnce() -> T) -> Option<u32> {
        let slot = self.free;
        if let Some(thing) = self.get_mut(slot) {
            self.free = *thing.next_free();
            self.used += 1;
            return Some(slot);
        }
        let slot = self.slots();
        if slot > u32::MAX / 2 {
            return None;
        }
        if self.chunks.last().is_none_or(|last| last.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        self.chunks.last_mut()?.push(fresh());
        self.used += 1;
        Some(slot)
    }

    /// Frees a slot that is in use.
    pub(super) fn free(&mut self, slot: u32) {
        let next = self.free;
        if let Some(thing) = self.get_mut(slot) {
            *thing.next_free() = next;
            self.free = slot;
            self.used -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Chained for u32 {
        fn next_free(&mut self) -> &mut u32 {
            self
        }
    }

    #[test]
    fn slots_are_used_again_and_nothing_moves() {
        let mut slab = Slab::default();
        let all: Vec<_> = (0..3 * CHUNK as u32 / 2).filter_map(|n| slab.add(|| n)).collect();
        assert_eq!((all.len(), slab.used(), slab.slots()), (3 * CHUNK / 2, 6144, 6144));
        let first: *const u32 = slab.get(0).unwrap();
        slab.free(7);
        slab.free(4100);
        assert_eq!((slab.add(|| 0), slab.add(|| 0), slab.add(|| 9)), (Some(4100), Some(7), Some(6144)));
        assert_eq!(slab.get(6144), Some(&9));
        assert_eq!(slab.get(6145), None);
        assert_eq!(slab.get(NIL), None);
        assert!(std::ptr::eq(first, slab.get(0).unwrap()));
    }
}
