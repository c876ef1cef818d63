//! What a capture keeps of one frame.

use std::sync::Arc;

/// Where a frame was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// As it was read from a port.
    In,
    /// As it was written to a port.
    Out,
    /// Where it ended.
    Drop,
}

/// One frame, at one point of its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When it was seen, in nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// The port's name; empty when the file does not tell.
    pub interface: Arc<str>,
    /// Where it was seen; `None` when the file does not tell.
    pub point: Option<Point>,
    /// Bytes the frame had on its way, Ethernet header included; never less than `data` holds.
    pub wire_len: u32,
    /// The same for all sightings of one frame.
    pub packet_id: Option<u64>,
    /// For a [`Point::Drop`] the reason; else what the file remarks.
    pub comment: Option<String>,
    /// The frame from its destination address on, as far as it was kept.
    pub data: Vec<u8>,
}
