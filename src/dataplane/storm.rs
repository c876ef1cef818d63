//! Storm control: how many frames a second a port may have flooded.
//!
//! Theory of operation. A token bucket per port: it holds one second's worth of
//! frames, fills at the network's `flood_limit`, and each flooded frame takes one
//! token, however many ports it goes to. A loop through a container with two legs
//! multiplies frames at the speed of the host; this bounds what it can take from
//! the other ports. [`Bucket::has_token`] looks, [`Bucket::take`] takes, so that a
//! decision can be made without changing anything.

use super::time::Instant;

/// Nanoseconds per second.
const SECOND: u64 = 1_000_000_000;

/// One port's allowance, as the virtual-scheduling form of a token bucket keeps it
/// (GCRA, ITU-T I.371 annex A): one number instead of a level and a stamp.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bucket {
    /// When the next frame would be due if frames came exactly at the allowed rate, in nanoseconds.
    due: u64,
}

impl Bucket {
    /// Whether a frame may be flooded now. `per_second` = 0 means no limit.
    #[inline]
    pub fn has_token(&self, now: Instant, per_second: u32) -> bool {
        per_second == 0 || self.due_after_one(now, per_second) <= now.0 + SECOND
    }

    /// Takes the token that [`has_token`](Self::has_token) saw.
    #[inline]
    pub fn take(&mut self, now: Instant, per_second: u32) {
        if per_second != 0 {
            self.due = self.due_after_one(now, per_second);
        }
    }

    fn due_after_one(&self, now: Instant, per_second: u32) -> u64 {
        self.due.max(now.0) + SECOND / u64::from(per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// How many of `tries` frames at `now` pass.
    fn burst(bucket: &mut Bucket, now: Instant, rate: u32, tries: u32) -> u32 {
        (0..tries)
            .filter(|_| {
                let pass = bucket.has_token(now, rate);
                if pass {
                    bucket.take(now, rate);
                }
                pass
            })
            .count() as u32
    }

    #[test]
    fn a_full_second_at_once_then_the_rate() {
        let mut bucket = Bucket::default();
        let start = Instant(0);
        assert_eq!(burst(&mut bucket, start, 100, 1000), 100);
        assert_eq!(burst(&mut bucket, start, 100, 1000), 0);
        assert_eq!(burst(&mut bucket, start + Duration::from_millis(50), 100, 1000), 5);
        assert_eq!(burst(&mut bucket, start + Duration::from_secs(60), 100, 1000), 100);
    }

    #[test]
    fn zero_means_no_limit() {
        let mut bucket = Bucket::default();
        assert_eq!(burst(&mut bucket, Instant(0), 0, 10_000), 10_000);
    }
}
