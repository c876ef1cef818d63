//! Numbers that an outsider cannot guess: source ports and ids of questions (RFC 5452 §4, §10).
//!
//! They are the switch's seed and a counter, hashed, so that a recording replays. Looking at the next ones
//! draws none: who only asks what would happen sees the numbers that will be used.

#[allow(deprecated)] // the only hasher of std whose algorithm (SipHash-2-4) stays what it is
use std::hash::{Hasher, SipHasher};

/// A source of numbers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Draws {
    seed: u64,
    count: u64,
}

impl Draws {
    /// Numbers of a seed.
    pub(super) const fn new(seed: u64) -> Self {
        Self { seed, count: 0 }
    }

    /// The number in this place of the next draw.
    #[allow(deprecated)]
    pub(super) fn peek(&self, place: u32) -> u64 {
        let mut hasher = SipHasher::new_with_keys(self.seed, 0x646e_7364_7261_7773);
        hasher.write_u64(self.count);
        hasher.write_u32(place);
        hasher.finish()
    }

    /// The next draw begins.
    pub(super) fn advance(&mut self) {
        self.count = self.count.wrapping_add(1);
    }
}
