//! A frame in its buffer.

use std::alloc::{Layout, handle_alloc_error};

use memmap2::MmapMut;

use crate::wire::Offload;
use crate::wire::virtio;

/// Free bytes before the frame: for the virtio-net header that a TAP puts there, and for
/// outer headers to come.
pub const HEADROOM: usize = 64;
/// The longest frame: a 64 KiB packet, its Ethernet header and a few VLAN tags.
pub const MAX_LEN: usize = 65_536 + 64;

const CAPACITY: usize = HEADROOM + MAX_LEN;

/// A reusable buffer with one frame in it, and the frame's offload state.
///
/// The bytes before the frame are writable too, so that a device reads and writes the
/// offload header and the frame with one system call and nothing is copied. The buffer
/// is mapped memory of its own: pages that no frame ever reached cost nothing, whereas the
/// heap below malloc's mmap threshold is cleared by writing to it.
#[derive(Debug)]
pub struct Frame {
    buffer: MmapMut,
    len: usize,
    /// What is still to be done to the frame: checksum, segmentation.
    pub offload: Offload,
}

impl Default for Frame {
    fn default() -> Self {
        let layout = Layout::new::<[u8; CAPACITY]>();
        let buffer = MmapMut::map_anon(CAPACITY).unwrap_or_else(|_| handle_alloc_error(layout));
        Self { buffer, len: 0, offload: Offload::NONE }
    }
}

impl Frame {
    /// An empty frame.
    pub fn new() -> Self {
        Self::default()
    }

    /// A frame of the given bytes, cut at [`MAX_LEN`].
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut frame = Self::new();
        frame.set(bytes, Offload::NONE);
        frame
    }

    /// The frame, from its destination address on.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[HEADROOM..HEADROOM + self.len]
    }

    /// The frame, to be rewritten in place.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[HEADROOM..HEADROOM + self.len]
    }

    /// Cuts off what is behind the first `len` bytes.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Puts a copy of `bytes` in, cut at [`MAX_LEN`].
    pub fn set(&mut self, bytes: &[u8], offload: Offload) {
        self.len = bytes.len().min(MAX_LEN);
        self.buffer[HEADROOM..HEADROOM + self.len].copy_from_slice(&bytes[..self.len]);
        self.offload = offload;
    }

    /// Where a device reads a bare frame into; [`filled`](Self::filled) says how much came.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.buffer[HEADROOM..]
    }

    /// `len` bytes were read into [`space`](Self::space), and they are a complete frame.
    pub fn filled(&mut self, len: usize) {
        self.len = len.min(MAX_LEN);
        self.offload = Offload::NONE;
    }

    /// Where a device reads a virtio-net header and the frame into.
    #[inline]
    pub fn space_with_header(&mut self) -> &mut [u8] {
        &mut self.buffer[HEADROOM - virtio::HEADER_LEN..]
    }

    /// `len` bytes were read into [`space_with_header`](Self::space_with_header). A read
    /// shorter than the header leaves an empty frame.
    #[inline]
    pub fn filled_with_header(&mut self, len: usize) {
        self.len = len.saturating_sub(virtio::HEADER_LEN).min(MAX_LEN);
        let header = self.buffer[HEADROOM - virtio::HEADER_LEN..].first_chunk();
        self.offload = header.map_or(Offload::NONE, Offload::decode);
    }

    /// The frame with its virtio-net header before it, as a device writes it.
    #[inline]
    pub fn bytes_with_header(&mut self) -> &[u8] {
        let header = self.offload.encode();
        let start = HEADROOM - virtio::HEADER_LEN;
        self.buffer[start..HEADROOM].copy_from_slice(&header);
        &self.buffer[start..HEADROOM + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_lies_directly_before_the_frame() {
        let offload = Offload { flags: 1, csum_start: 34, csum_offset: 16, ..Offload::NONE };
        let mut frame = Frame::new();
        let mut wire = offload.encode().to_vec();
        wire.extend([1, 2, 3]);
        frame.space_with_header()[..wire.len()].copy_from_slice(&wire);
        frame.filled_with_header(wire.len());
        assert_eq!((frame.bytes(), frame.offload), (&[1, 2, 3][..], offload));
        assert_eq!(frame.bytes_with_header(), wire);
        frame.bytes_mut()[1] = 9;
        wire[virtio::HEADER_LEN + 1] = 9;
        assert_eq!(frame.bytes(), [1, 9, 3]);
        assert_eq!(frame.bytes_with_header(), wire);
        frame.filled_with_header(4);
        assert_eq!(frame.bytes(), b"");
    }

    #[test]
    fn too_much_is_cut() {
        let frame = Frame::from_bytes(&vec![7; MAX_LEN + 1000]);
        assert_eq!(frame.bytes().len(), MAX_LEN);
    }

    /// Kilobytes of anonymous memory that the process really has (proc_pid_status(5)).
    fn resident() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn idle_frames_cost_no_memory() {
        let before = resident();
        let frames: Vec<_> = (0..1000).map(|_| Frame::new()).collect();
        let grown = resident().saturating_sub(before);
        // 64 MiB are mapped; other tests of this process may take a little meanwhile.
        assert!(grown < 32 * 1024, "{} frames took {grown} KiB", frames.len());
    }
}
