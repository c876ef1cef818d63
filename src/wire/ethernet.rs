//! Ethernet II headers with any number of VLAN tags (IEEE 802.3 §3.2, IEEE 802.1Q §9.6).

use super::ip::Version;
use super::{MacAddr, Malformed};

/// Bytes of an untagged header.
pub const HEADER_LEN: usize = 14;
/// Bytes of a VLAN tag.
pub const TAG_LEN: usize = 4;

/// EtherType of ARP (RFC 826).
pub const ARP: u16 = 0x0806;
/// EtherType of IPv4 (RFC 894).
pub const IPV4: u16 = 0x0800;
/// EtherType of IPv6 (RFC 2464).
pub const IPV6: u16 = 0x86dd;
/// EtherType of a customer VLAN tag (IEEE 802.1Q).
pub const VLAN: u16 = 0x8100;
/// EtherType of a service VLAN tag (IEEE 802.1ad).
pub const QINQ: u16 = 0x88a8;

/// What an Ethernet header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Destination address.
    pub destination: MacAddr,
    /// Source address.
    pub source: MacAddr,
    /// The type behind all VLAN tags; below 0x600 a length (IEEE 802.3 §3.2.6).
    pub ethertype: u16,
    /// How many VLAN tags there are.
    pub tags: u8,
    /// Where the payload begins, in bytes from the start of the frame.
    pub payload: usize,
}

impl Header {
    /// Whether an untagged IP packet follows, and of which version.
    #[inline]
    pub const fn ip_version(&self) -> Option<Version> {
        match (self.tags, self.ethertype) {
            (0, IPV4) => Some(Version::V4),
            (0, IPV6) => Some(Version::V6),
            _ => None,
        }
    }

    /// Reads the header of a frame.
    ///
    /// # Errors
    /// [`Malformed`] when the frame ends before its header does.
    #[inline]
    pub fn parse(frame: &[u8]) -> Result<Self, Malformed> {
        const SHORT: Malformed = Malformed("ethernet");
        let (destination, rest) = frame.split_first_chunk().ok_or(SHORT)?;
        let (source, rest) = rest.split_first_chunk().ok_or(SHORT)?;
        let (ethertype, _) = rest.split_first_chunk().ok_or(SHORT)?;
        let mut header = Self {
            destination: MacAddr(*destination),
            source: MacAddr(*source),
            ethertype: u16::from_be_bytes(*ethertype),
            tags: 0,
            payload: HEADER_LEN,
        };
        while matches!(header.ethertype, VLAN | QINQ) && header.tags < u8::MAX {
            let Some([_, _, t0, t1]) = frame.get(header.payload..header.payload + TAG_LEN) else {
                return Err(SHORT);
            };
            header.ethertype = u16::from_be_bytes([*t0, *t1]);
            header.payload += TAG_LEN;
            header.tags += 1;
        }
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: [u8; 14] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0x42, 172, 17, 0, 2, 8, 6];

    #[test]
    fn an_untagged_header() {
        let header = Header::parse(&PLAIN).unwrap();
        assert_eq!(
            (header.destination, header.source),
            (MacAddr::BROADCAST, MacAddr([2, 0x42, 172, 17, 0, 2]))
        );
        assert_eq!((header.ethertype, header.tags, header.payload), (ARP, 0, 14));
        assert!((0..14).all(|len| Header::parse(&PLAIN[..len]).is_err()));
    }

    #[test]
    fn tags_are_looked_through() {
        let mut frame = PLAIN[..12].to_vec();
        frame.extend([0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 8, 0]);
        let header = Header::parse(&frame).unwrap();
        assert_eq!((header.ethertype, header.tags, header.payload), (IPV4, 2, 22));
        assert!((14..22).all(|len| Header::parse(&frame[..len]).is_err()));
    }

    #[test]
    fn a_frame_that_is_nothing_but_tags_is_short() {
        let mut frame = PLAIN[..12].to_vec();
        frame.extend([0x81, 0, 0, 1].repeat(400));
        let header = Header::parse(&frame).unwrap();
        assert_eq!(header.tags, u8::MAX);
        frame.truncate(12 + 4 * 100);
        assert!(Header::parse(&frame).is_err());
    }
}
