//! The virtio-net header that a TAP with `IFF_VNET_HDR` puts before each frame.
//!
//! Layout and meaning: virtio 1.2 §5.1.6, Linux `include/uapi/linux/virtio_net.h`
//! (`struct virtio_net_hdr`, 10 bytes, host byte order as set by the default of
//! `TUNSETVNETLE`, i.e. native).

use super::Malformed;

/// The header's length in bytes.
pub const HEADER_LEN: usize = 10;

/// The checksum at `csum_start + csum_offset` covers only the pseudo header so far.
const F_NEEDS_CSUM: u8 = 1;
/// The sender's congestion-window-reduced flag belongs to the first segment only.
const GSO_ECN: u8 = 0x80;

/// What kind of super-frame this is (`gso_type` without the ECN bit).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GsoKind {
    /// TCP over IPv4 (TSO4).
    TcpV4,
    /// TCP over IPv6 (TSO6).
    TcpV6,
    /// UDP datagrams of equal size, over IPv4 or IPv6 (USO).
    Udp,
}

/// The offload state of a frame: partial checksum and segmentation, as the header carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offload {
    /// `VIRTIO_NET_HDR_F_*`.
    pub flags: u8,
    /// `VIRTIO_NET_HDR_GSO_*`.
    pub gso_type: u8,
    /// Bytes from the start of the frame to the end of the TCP or UDP header (a hint, checked).
    pub hdr_len: u16,
    /// Payload bytes per segment.
    pub gso_size: u16,
    /// Where the checksummed range begins, from the start of the frame.
    pub csum_start: u16,
    /// Where the checksum lies, from `csum_start`.
    pub csum_offset: u16,
}

impl Offload {
    /// A complete frame: nothing left to do.
    pub const NONE: Self =
        Self { flags: 0, gso_type: 0, hdr_len: 0, gso_size: 0, csum_start: 0, csum_offset: 0 };

    /// Reads the header as the kernel wrote it.
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Self {
        let [flags, gso_type, h0, h1, g0, g1, s0, s1, o0, o1] = *bytes;
        Self {
            flags,
            gso_type,
            hdr_len: u16::from_ne_bytes([h0, h1]),
            gso_size: u16::from_ne_bytes([g0, g1]),
            csum_start: u16::from_ne_bytes([s0, s1]),
            csum_offset: u16::from_ne_bytes([o0, o1]),
        }
    }

    /// The header as the kernel reads it.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let [h0, h1] = self.hdr_len.to_ne_bytes();
        let [g0, g1] = self.gso_size.to_ne_bytes();
        let [s0, s1] = self.csum_start.to_ne_bytes();
        let [o0, o1] = self.csum_offset.to_ne_bytes();
        [self.flags, self.gso_type, h0, h1, g0, g1, s0, s1, o0, o1]
    }

    /// Whether the transport checksum is still to be completed.
    pub const fn needs_checksum(&self) -> bool {
        self.flags & F_NEEDS_CSUM != 0
    }

    /// Whether the frame is as it would be on a wire: no checksum and no cutting left to do.
    pub const fn is_complete(&self) -> bool {
        !self.needs_checksum() && self.gso_type == 0
    }

    /// The kind of super-frame; `None` for an ordinary frame or an unknown kind.
    pub const fn gso(&self) -> Option<GsoKind> {
        match self.gso_type & !GSO_ECN {
            1 => Some(GsoKind::TcpV4),
            4 => Some(GsoKind::TcpV6),
            5 => Some(GsoKind::Udp),
            _ => None,
        }
    }

    /// Checks the header against the frame it came with; an untrusted sender may lie in every field.
    ///
    /// # Errors
    /// [`Malformed`] when a field points outside the frame or names a kind that is not offered.
    #[inline]
    pub fn check(&self, frame_len: usize) -> Result<(), Malformed> {
        const BAD: Malformed = Malformed("virtio-net header");
        if self.needs_checksum() {
            let end = usize::from(self.csum_start) + usize::from(self.csum_offset) + 2;
            if end > frame_len {
                return Err(BAD);
            }
        }
        if self.gso_type != 0 {
            let known = self.gso().is_some() && self.needs_checksum();
            if !known || self.gso_size == 0 || usize::from(self.hdr_len) > frame_len {
                return Err(BAD);
            }
        }
        Ok(())
    }

    /// Bytes from the start of the frame to the end of the TCP or UDP header of a super-frame.
    /// Computed, because Linux fills `hdr_len` with whatever lies in the skb's linear part.
    pub fn header_end(&self, frame: &[u8]) -> Option<usize> {
        let start = usize::from(self.csum_start);
        let transport = match self.gso()? {
            GsoKind::TcpV4 | GsoKind::TcpV6 => {
                Some(usize::from(frame.get(start + 12)? >> 4) * 4).filter(|len| *len >= 20)?
            }
            GsoKind::Udp => 8,
        };
        Some(start + transport).filter(|end| *end <= frame.len())
    }

    /// How many frames on the wire this stands for: the payload cut into pieces of `gso_size` (at least 1).
    #[inline]
    pub fn segments(&self, frame: &[u8]) -> u32 {
        if self.gso_type == 0 {
            return 1;
        }
        match self.header_end(frame) {
            Some(end) if self.gso_size != 0 => {
                let pieces = (frame.len() - end).div_ceil(usize::from(self.gso_size));
                u32::try_from(pieces).unwrap_or(u32::MAX).max(1)
            }
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TSO: Offload =
        Offload { flags: 1, gso_type: 1, hdr_len: 66, gso_size: 1448, csum_start: 34, csum_offset: 16 };

    #[test]
    fn encode_is_the_inverse_of_decode() {
        assert_eq!(Offload::decode(&TSO.encode()), TSO);
        assert_eq!(Offload::NONE.encode(), [0; HEADER_LEN]);
    }

    #[test]
    fn segments_of_a_super_frame() {
        let mut frame = vec![0; 66 + 1448 * 3 + 1];
        frame[34 + 12] = 8 << 4; // a TCP header of 32 bytes
        assert_eq!(TSO.header_end(&frame), Some(66));
        assert_eq!(TSO.segments(&frame), 4);
        assert_eq!(TSO.segments(&frame[..66]), 1);
        assert_eq!(TSO.segments(&frame[..40]), 1);
        assert_eq!(Offload::NONE.segments(&frame), 1);
    }

    #[test]
    fn lying_headers_are_refused() {
        assert_eq!(TSO.check(1500), Ok(()));
        assert!(TSO.check(51).is_err());
        assert!(!Offload { gso_type: 3, ..Offload::NONE }.is_complete());
        assert!(Offload { gso_size: 0, ..TSO }.check(1500).is_err());
        assert!(Offload { gso_type: 3, ..TSO }.check(1500).is_err());
        assert!(Offload { flags: 0, ..TSO }.check(1500).is_err());
        assert!(Offload { hdr_len: 2000, ..TSO }.check(1500).is_err());
    }
}
