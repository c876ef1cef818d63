//! The last frame that each port dropped, for `explain --last-drop`.
//!
//! Theory of operation. A drop is counted by reason, but who asks why wants the frame. So the last one of
//! each port is kept: its first [`KEPT`] bytes, in memory that is reused, which is all that a flood of
//! drops costs. The rest of a longer frame is payload that no stage looks at; [`LastDrop::frame`] puts
//! zeros there.

use crate::dataplane::frame::MAX_LEN;
use crate::dataplane::table::Table;
use crate::dataplane::{DropReason, Frame, Instant, PortId};
use crate::wire::Offload;

/// Bytes of a frame that are kept.
pub const KEPT: usize = 2048;

/// On which side of a port a frame was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The switch did not take it, or had held it back in vain.
    Ingress,
    /// The device did not take it.
    Egress,
}

/// A frame that was dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastDrop {
    /// Where it is counted.
    pub port: PortId,
    /// Whether it came in or should have gone out there.
    pub side: Side,
    /// Why.
    pub reason: DropReason,
    /// When.
    pub at: Instant,
    /// Bytes that it had.
    pub len: usize,
    /// Its offload state.
    pub offload: Offload,
    /// Its first bytes, [`KEPT`] at most.
    pub bytes: Vec<u8>,
}

impl LastDrop {
    /// The frame in its full length.
    pub fn frame(&self) -> Frame {
        let mut bytes = self.bytes.clone();
        bytes.resize(self.len.min(MAX_LEN), 0);
        let mut frame = Frame::new();
        frame.set(&bytes, self.offload);
        frame
    }
}

/// The last drop of each port.
#[derive(Debug, Default)]
pub struct LastDrops(Table<LastDrop>);

impl LastDrops {
    /// Keeps a frame that was dropped, in place of the one before.
    pub fn remember(&mut self, at: Instant, port: PortId, side: Side, reason: DropReason, frame: &Frame) {
        let (all, offload) = (frame.bytes(), frame.offload);
        let kept = &all[..all.len().min(KEPT)];
        let len = all.len();
        if let Some(last) = self.0.get_mut(port.0) {
            last.bytes.clear();
            last.bytes.extend_from_slice(kept);
            let bytes = std::mem::take(&mut last.bytes);
            *last = LastDrop { port, side, reason, at, len, offload, bytes };
        } else {
            let mut bytes = Vec::with_capacity(KEPT);
            bytes.extend_from_slice(kept);
            self.0.insert(port.0, LastDrop { port, side, reason, at, len, offload, bytes });
        }
    }

    /// The last drop of a port, or of all.
    pub fn get(&self, port: Option<PortId>) -> Option<&LastDrop> {
        match port {
            Some(port) => self.0.get(port.0),
            None => self.0.iter().map(|(_, last)| last).max_by_key(|last| last.at),
        }
    }

    /// The port is another one from now on.
    pub fn forget(&mut self, port: PortId) {
        self.0.remove(port.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GSO: Offload =
        Offload { flags: 1, gso_type: 1, hdr_len: 54, gso_size: 1448, csum_start: 34, csum_offset: 16 };

    #[test]
    fn the_last_of_each_port_is_kept_and_found() {
        let mut drops = LastDrops::default();
        assert_eq!(drops.get(None), None);
        let remember = |drops: &mut LastDrops, at, port, reason, bytes: &[u8]| {
            drops.remember(Instant(at), PortId(port), Side::Ingress, reason, &Frame::from_bytes(bytes));
        };
        remember(&mut drops, 1, 3, DropReason::Runt, b"first");
        remember(&mut drops, 2, 3, DropReason::Icc, b"second");
        remember(&mut drops, 3, 1, DropReason::NoListener, b"other");
        let last = drops.get(Some(PortId(3))).unwrap();
        assert_eq!((last.reason, last.at, &last.bytes[..]), (DropReason::Icc, Instant(2), &b"second"[..]));
        assert_eq!(drops.get(None).unwrap().port, PortId(1), "the newest");
        assert_eq!(drops.get(Some(PortId(2))), None);
        drops.forget(PortId(1));
        assert_eq!(drops.get(None).unwrap().port, PortId(3));
    }

    #[test]
    fn a_long_frame_has_its_headers_and_its_length() {
        let mut frame = Frame::new();
        frame.set(&[7; 60_000], GSO);
        let mut drops = LastDrops::default();
        drops.remember(Instant(1), PortId(1), Side::Egress, DropReason::EgressRefused, &frame);
        let last = drops.get(None).unwrap();
        assert_eq!((last.bytes.len(), last.len, last.side), (KEPT, 60_000, Side::Egress));
        let whole = last.frame();
        assert_eq!((whole.bytes().len(), whole.offload), (60_000, GSO));
        assert_eq!((whole.bytes()[KEPT - 1], whole.bytes()[KEPT]), (7, 0));
    }
}
