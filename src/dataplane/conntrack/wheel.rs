//! Which flows expire next.
//!
//! Theory of operation. A hierarchical timer wheel (Varghese and Lauck, 1987) of [`LEVELS`] levels with 64
//! buckets each. A tick is a second; a bucket of level 0 stands for one tick, of level 1 for 64, of level 2
//! for 4096, of level 3 for three days. A bucket is *due* at its first tick: of level 0, its flows
//! expire then; of a higher level, they are placed anew, nearer.
//!
//! *Lazy.* A packet that prolongs its flow's life only writes the new deadline; the flow stays in its
//! bucket, and when that is due it is found alive and placed by its deadline. So a bucket may be
//! due long before a flow's end, never after it. Only a deadline that was moved before its bucket's
//! tick needs the flow moved at once ([`Wheel::must_move`]).
//!
//! Beside each level is a word with a bit for each bucket that holds flows, so that empty ticks cost nothing
//! however long the wheel slept. Distances are counted in buckets of a level from the one in which the
//! position lies, and are never 64: a bucket can mean one tick only.

use super::flow::Flow;
use super::list::{Chain, List};
use super::slab::Slab;
use crate::dataplane::Instant;

const LEVELS: usize = 4;
/// Buckets per level, and the bits that number them.
const SPAN: u64 = 64;
const BITS: u32 = 6;
/// Nanoseconds in a tick.
const TICK: u64 = 1_000_000_000;

/// The first tick at or after an instant: who dies then is dead by that tick.
#[inline]
pub(super) const fn tick_after(at: Instant) -> u64 {
    at.0.div_ceil(TICK)
}

/// The last tick at or before an instant.
pub(super) const fn tick_before(at: Instant) -> u64 {
    at.0 / TICK
}

/// See the module's theory of operation.
#[derive(Debug)]
pub(super) struct Wheel {
    /// No bucket that is due before this tick holds anything.
    position: u64,
    occupied: [u64; LEVELS],
    buckets: [List; LEVELS * SPAN as usize],
}

impl Default for Wheel {
    fn default() -> Self {
        Self { position: 0, occupied: [0; LEVELS], buckets: [List::EMPTY; LEVELS * SPAN as usize] }
    }
}

impl Wheel {
    /// Places a flow that is on no bucket's list so that it is due at a tick, or before that.
    /// A tick that is past means now.
    pub(super) fn place(&mut self, flows: &mut Slab<Flow>, slot: u32, tick: u64) {
        let bucket = self.bucket_for(tick);
        let Some(flow) = flows.get_mut(slot) else { return };
        flow.bucket = bucket;
        self.buckets[bucket as usize].push(flows, Chain::Wheel, slot);
        self.occupied[bucket as usize >> BITS] |= 1 << (bucket & 63);
    }

    /// Takes a flow off.
    pub(super) fn take(&mut self, flows: &mut Slab<Flow>, slot: u32) {
        let Some(bucket) = flows.get(slot).map(|flow| flow.bucket) else { return };
        let list = &mut self.buckets[bucket as usize];
        list.unlink(flows, Chain::Wheel, slot);
        if list.is_empty() {
            self.occupied[bucket as usize >> BITS] &= !(1 << (bucket & 63));
        }
    }

    /// Whether a flow of this bucket has to be placed anew to be due at a tick or before.
    pub(super) const fn must_move(&self, bucket: u8, tick: u64) -> bool {
        self.due(bucket) > tick
    }

    /// A flow of a bucket that is due at the tick `until` or before: it is to be taken off, and placed anew or
    /// not. When there is none left, the wheel stands at `until`.
    pub(super) fn advance(&mut self, until: u64) -> Option<u32> {
        match self.next() {
            Some((due, bucket)) if due <= until => {
                self.position = due;
                Some(self.buckets[bucket as usize].oldest)
            }
            _ => {
                self.position = self.position.max(until);
                None
            }
        }
    }

    /// When the next bucket is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.next().map(|(due, _)| Instant(due.saturating_mul(TICK)))
    }

    /// The next bucket that is due, and when.
    fn next(&self) -> Option<(u64, u8)> {
        (0..LEVELS)
            .filter(|level| self.occupied[*level] != 0)
            .map(|level| {
                let here = self.position >> (BITS * level as u32);
                let ahead = self.occupied[level].rotate_right((here % SPAN) as u32).trailing_zeros();
                // Below LEVELS * SPAN.
                let bucket = (level as u64 * SPAN + (here + u64::from(ahead)) % SPAN) as u8;
                (self.due(bucket), bucket)
            })
            .min()
    }

    const fn due(&self, bucket: u8) -> u64 {
        let shift = BITS * (bucket as u32 >> BITS);
        let here = self.position >> shift;
        let ahead = (bucket as u64).wrapping_sub(here) % SPAN;
        // A bucket at no distance is due at the position: flows are placed ahead of it, on level 0 at it.
        (here + ahead) << shift
    }

    fn bucket_for(&self, tick: u64) -> u8 {
        let tick = tick.max(self.position);
        for level in 0..LEVELS {
            let shift = BITS * level as u32;
            let (here, there) = (self.position >> shift, tick >> shift);
            if there - here < SPAN {
                return (level as u64 * SPAN + there % SPAN) as u8;
            }
        }
        // Farther than the wheel reaches: as far as it does.
        let here = self.position >> (BITS * (LEVELS as u32 - 1));
        ((LEVELS as u64 - 1) * SPAN + (here + SPAN - 1) % SPAN) as u8
    }
}
