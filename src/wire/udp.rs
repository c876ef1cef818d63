//! UDP headers (RFC 768).

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;
/// Where the checksum lies in the header.
pub const CHECKSUM: usize = 6;

/// What a UDP header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Udp {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Bytes of header and payload, at least 8; in a fragment, of the whole datagram.
    pub length: u16,
    /// Whether it has a checksum: zero means none.
    pub checksum: bool,
}

impl Udp {
    /// Reads the header at the start of `bytes`.
    #[inline]
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let [s0, s1, d0, d1, l0, l1, c0, c1] = *bytes.first_chunk::<HEADER_LEN>()?;
        let length = u16::from_be_bytes([l0, l1]);
        (usize::from(length) >= HEADER_LEN).then_some(Self {
            source: u16::from_be_bytes([s0, s1]),
            destination: u16::from_be_bytes([d0, d1]),
            length,
            checksum: c0 | c1 != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header() {
        let udp = Udp::parse(&[0, 53, 1, 0, 0, 9, 0, 1, b'x']).unwrap();
        assert_eq!(udp, Udp { source: 53, destination: 256, length: 9, checksum: true });
        assert!(!Udp::parse(&[0, 53, 1, 0, 0, 8, 0, 0]).unwrap().checksum);
        assert_eq!(Udp::parse(&[0, 53, 1, 0, 0, 7, 0, 1]), None);
        assert_eq!(Udp::parse(&[0, 53, 1, 0, 0, 8, 0]), None);
    }
}
