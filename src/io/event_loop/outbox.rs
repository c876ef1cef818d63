//! What one turn of the loop sends.
//!
//! Theory of operation. The switch calls [`Egress`] while it works; nothing is written before it has
//! returned. What is noted is the order: a frame that was read stays in its buffer and is noted by
//! its place in the burst, a frame that the switch made is copied behind those before it. Both kinds
//! leave in the order of the calls. The memory is kept from turn to turn, so that in a steady state
//! nothing is allocated. What would go beyond the bounds is not kept but counted, by port, so that
//! the switch can be told.

use crate::dataplane::{DropReason, Egress, Frame, PortId, Traffic};
use crate::wire::Offload;

/// Frames that the switch may make in one turn.
const MADE_FRAMES: usize = 4096;
/// Bytes of the frames that the switch may make in one turn.
const MADE_BYTES: usize = 16 << 20;
/// Bytes of memory that a turn leaves to the next; a turn that needs more is rare.
const KEPT_BYTES: usize = 1 << 20;

/// A frame to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outgoing {
    /// The frame with this place in the burst.
    Read(usize),
    /// The frame with this number among those that the switch made: see [`Outbox::fetch`].
    Made(usize),
    /// The same, but it is not sent: it had been held back and was dropped, for this reason.
    Discarded(usize, DropReason),
}

/// Where a frame lies that the switch made.
#[derive(Debug)]
struct Made {
    start: usize,
    len: usize,
    offload: Offload,
}

/// Collects what one turn sends.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// The place in the burst of the frame that the switch is working on.
    pub(super) current: usize,
    sends: Vec<(Outgoing, PortId)>,
    made: Vec<Made>,
    bytes: Vec<u8>,
    overflow: Vec<(PortId, Traffic)>,
}

impl Egress for Outbox {
    #[inline]
    fn send(&mut self, to: PortId, _: &Frame) {
        self.sends.push((Outgoing::Read(self.current), to));
    }

    fn emit(&mut self, to: PortId, bytes: &[u8], offload: Offload) {
        match self.keep(bytes, offload) {
            Some(number) => self.sends.push((Outgoing::Made(number), to)),
            None => self.count_overflow(to, bytes.len(), offload.segments(bytes)),
        }
    }

    fn discard(&mut self, from: PortId, bytes: &[u8], offload: Offload, reason: DropReason) {
        // It is counted already; without room it is only not seen.
        if let Some(number) = self.keep(bytes, offload) {
            self.sends.push((Outgoing::Discarded(number, reason), from));
        }
    }
}

impl Outbox {
    /// Copies a frame; its number, if there is room.
    fn keep(&mut self, bytes: &[u8], offload: Offload) -> Option<usize> {
        if self.made.len() >= MADE_FRAMES || self.bytes.len() + bytes.len() > MADE_BYTES {
            return None;
        }
        self.made.push(Made { start: self.bytes.len(), len: bytes.len(), offload });
        self.bytes.extend_from_slice(bytes);
        Some(self.made.len() - 1)
    }

    fn count_overflow(&mut self, to: PortId, len: usize, segments: u32) {
        let known = self.overflow.iter().position(|(port, _)| *port == to);
        let at = known.unwrap_or_else(|| {
            self.overflow.push((to, Traffic::default()));
            self.overflow.len() - 1
        });
        self.overflow[at].1.count(len, segments);
    }

    /// What is to be sent, or was discarded, in order, and the port.
    #[inline]
    pub(super) fn sends(&self) -> &[(Outgoing, PortId)] {
        &self.sends
    }

    /// Copies a frame that the switch made into a buffer that a device can write.
    pub(super) fn fetch(&self, number: usize, into: &mut Frame) {
        let Made { start, len, offload } = self.made[number];
        into.set(&self.bytes[start..start + len], offload);
    }

    /// Per port, the frames that the bounds left no room for.
    pub(super) fn overflow(&self) -> &[(PortId, Traffic)] {
        &self.overflow
    }

    /// Everything is sent: room for the next turn.
    #[inline]
    pub(super) fn clear(&mut self) {
        self.sends.clear();
        if !self.made.is_empty() {
            self.made.clear();
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_BYTES);
        }
        self.overflow.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECKSUM: Offload = Offload { flags: 1, csum_start: 34, csum_offset: 16, ..Offload::NONE };

    #[test]
    fn frames_that_were_read_and_made_leave_in_the_order_of_the_calls() {
        let (mut outbox, mut frame) = (Outbox::default(), Frame::from_bytes(b"read"));
        outbox.current = 5;
        outbox.emit(PortId(1), b"one", CHECKSUM);
        outbox.send(PortId(2), &frame);
        outbox.emit(PortId(3), b"second", Offload::NONE);
        let expected =
            [(Outgoing::Made(0), PortId(1)), (Outgoing::Read(5), PortId(2)), (Outgoing::Made(1), PortId(3))];
        assert_eq!(outbox.sends(), expected);
        for (number, bytes, offload) in [(0, &b"one"[..], CHECKSUM), (1, b"second", Offload::NONE)] {
            outbox.fetch(number, &mut frame);
            assert_eq!((frame.bytes(), frame.offload), (bytes, offload));
        }
        outbox.clear();
        assert_eq!(outbox.sends(), []);
        outbox.emit(PortId(1), b"anew", CHECKSUM);
        outbox.fetch(0, &mut frame);
        assert_eq!(frame.bytes(), b"anew");
    }

    #[test]
    fn what_is_beyond_the_bounds_is_counted_by_port() {
        let mut outbox = Outbox::default();
        (0..MADE_FRAMES).for_each(|_| outbox.emit(PortId(1), &[0; 60], Offload::NONE));
        assert_eq!(outbox.overflow(), []);
        for port in [2, 1, 2] {
            outbox.emit(PortId(port), &[0; 60], Offload::NONE);
        }
        let lost = |frames| Traffic { frames, bytes: frames * 60, segments: frames };
        assert_eq!(outbox.overflow(), [(PortId(2), lost(2)), (PortId(1), lost(1))]);
        assert_eq!(outbox.sends().len(), MADE_FRAMES);
        outbox.clear();
        assert_eq!(outbox.overflow(), []);

        let huge = vec![0; 1 << 20];
        (0..16).for_each(|_| outbox.emit(PortId(1), &huge, Offload::NONE));
        outbox.emit(PortId(3), &[0; 60], Offload::NONE);
        assert_eq!(outbox.overflow(), [(PortId(3), lost(1))]);
        outbox.clear();
        assert!(outbox.bytes.capacity() <= KEPT_BYTES);
    }
}
