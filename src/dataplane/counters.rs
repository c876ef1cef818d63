//! Counters, the same at ports and networks.

use std::ops::{Index, IndexMut};

use super::outcome::DropReason;

/// Frames in one direction. A super-frame is one frame of `segments` frames on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Frames as read or written.
    pub frames: u64,
    /// Bytes, Ethernet headers included, offload headers not.
    pub bytes: u64,
    /// Frames on the wire that they stand for.
    pub segments: u64,
}

impl Traffic {
    /// Counts one frame.
    #[inline]
    pub fn count(&mut self, len: usize, segments: u32) {
        self.frames += 1;
        self.bytes += len as u64;
        self.segments += u64::from(segments);
    }

    /// Takes one frame back that was counted and then not delivered.
    pub fn take_back(&mut self, len: usize, segments: u32) {
        self.frames -= 1;
        self.bytes -= len as u64;
        self.segments -= u64::from(segments);
    }

    /// Counts frames that were counted elsewhere.
    pub fn add(&mut self, other: &Self) {
        self.frames += other.frames;
        self.bytes += other.bytes;
        self.segments += other.segments;
    }

    /// Takes back frames that were counted and then not delivered.
    pub fn subtract(&mut self, lost: &Self) {
        self.frames -= lost.frames;
        self.bytes -= lost.bytes;
        self.segments -= lost.segments;
    }
}

/// Dropped frames by [`DropReason::index`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drops([u64; DropReason::COUNT]);

impl Default for Drops {
    fn default() -> Self {
        Self([0; DropReason::COUNT])
    }
}

impl Index<DropReason> for Drops {
    type Output = u64;

    #[inline]
    fn index(&self, reason: DropReason) -> &u64 {
        &self.0[reason.index()]
    }
}

impl IndexMut<DropReason> for Drops {
    #[inline]
    fn index_mut(&mut self, reason: DropReason) -> &mut u64 {
        &mut self.0[reason.index()]
    }
}

impl Drops {
    /// Frames dropped for any reason.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The reasons that occurred, with their counts.
    pub fn reasons(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().zip(self.0).filter(|(_, count)| *count > 0).map(|(r, count)| (*r, count))
    }
}

/// What a port or a network has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Into the switch.
    pub rx: Traffic,
    /// Out of the switch.
    pub tx: Traffic,
    /// Dropped, by reason: by verdict, at the port it came from; by a device
    /// that could not send it, at the port it should have left by.
    pub drops: Drops,
}

impl Counters {
    /// Frames dropped for any reason.
    pub fn dropped(&self) -> u64 {
        self.drops.total()
    }

    /// The reasons that occurred, with their counts.
    pub fn reasons(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        self.drops.reasons()
    }

    /// Adds another set, as a network adds up its ports.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in [(&mut self.rx, &other.rx), (&mut self.tx, &other.tx)] {
            mine.frames += theirs.frames;
            mine.bytes += theirs.bytes;
            mine.segments += theirs.segments;
        }
        for (mine, theirs) in self.drops.0.iter_mut().zip(other.drops.0) {
            *mine += theirs;
        }
    }
}
