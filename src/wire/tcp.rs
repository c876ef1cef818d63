//! TCP headers (RFC 9293 §3.1).

/// The finish flag.
pub const FIN: u8 = 0x01;
/// The synchronise flag.
pub const SYN: u8 = 0x02;
/// The reset flag.
pub const RST: u8 = 0x04;
/// The push flag.
pub const PSH: u8 = 0x08;
/// The acknowledgement flag.
pub const ACK: u8 = 0x10;
/// The urgent flag.
pub const URG: u8 = 0x20;

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;
/// Where the checksum lies in the header.
pub const CHECKSUM: usize = 16;

/// What a TCP header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tcp {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Sequence number of the first byte of payload, or of SYN.
    pub seq: u32,
    /// The next sequence number that is expected of the other side, if [`ACK`] is set.
    pub ack: u32,
    /// [`FIN`], [`SYN`] and so on.
    pub flags: u8,
    /// Bytes of the header, options included; 20 to 60.
    pub header_len: u8,
    /// The window as it stands in the header, not scaled.
    pub window: u16,
    /// Of a segment with [`SYN`]: the shift of its later windows (RFC 7323 §2.2), if it offers one.
    pub window_scale: Option<u8>,
    /// Of a segment with [`SYN`]: whether it permits selective acknowledgements (RFC 2018 §2).
    pub sack_permitted: bool,
    /// Bytes of payload; of a super-frame, of all its segments.
    pub payload: u32,
}

impl Tcp {
    /// Reads the header of a segment, which is all of `bytes`.
    #[inline]
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let [s0, s1, d0, d1, q0, q1, q2, q3, a0, a1, a2, a3, offset, flags, w0, w1, ..] =
            *bytes.first_chunk::<HEADER_LEN>()?;
        let header_len = (offset >> 4) * 4;
        if usize::from(header_len) < HEADER_LEN || usize::from(header_len) > bytes.len() {
            return None;
        }
        let (window_scale, sack_permitted) =
            if flags & SYN == 0 { (None, false) } else { syn_options(bytes, usize::from(header_len)) };
        Some(Self {
            source: u16::from_be_bytes([s0, s1]),
            destination: u16::from_be_bytes([d0, d1]),
            seq: u32::from_be_bytes([q0, q1, q2, q3]),
            ack: u32::from_be_bytes([a0, a1, a2, a3]),
            flags,
            header_len,
            window: u16::from_be_bytes([w0, w1]),
            window_scale,
            sack_permitted,
            // An IP packet has less than 2^17 bytes.
            payload: (bytes.len() - usize::from(header_len)) as u32,
        })
    }
}

/// The window's shift that a segment with SYN offers, and whether it permits selective acknowledgements.
#[cold]
fn syn_options(segment: &[u8], header_len: usize) -> (Option<u8>, bool) {
    let (mut window_scale, mut sack_permitted) = (None, false);
    for (_, option) in Options(segment.get(HEADER_LEN..header_len).unwrap_or_default(), HEADER_LEN) {
        match option {
            [3, 3, shift] => window_scale = Some(*shift),
            [4, 2] => sack_permitted = true,
            _ => {}
        }
    }
    (window_scale, sack_permitted)
}

/// The maximum segment size that a segment announces, and where in the segment the number is.
pub fn mss(segment: &[u8], header: &Tcp) -> Option<(usize, u16)> {
    let options = segment.get(HEADER_LEN..usize::from(header.header_len))?;
    Options(options, HEADER_LEN).find_map(|(at, option)| match option {
        [2, 4, high, low] => Some((at + 2, u16::from_be_bytes([*high, *low]))),
        _ => None,
    })
}

/// A header's options but for padding, each with its position in the header. Ends at the first malformed one.
struct Options<'a>(&'a [u8], usize);

impl<'a> Iterator for Options<'a> {
    type Item = (usize, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (len, is_padding) = match self.0 {
                [] | [0, ..] => return None,
                [1, ..] => (1, true),
                [_, len @ 2..=255, ..] => (usize::from(*len), false),
                _ => return None,
            };
            let (option, rest) = self.0.split_at_checked(len)?;
            let at = self.1;
            (self.0, self.1) = (rest, at + len);
            if !is_padding {
                return Some((at, option));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(flags: u8, options: &[u8], payload: usize) -> Vec<u8> {
        let words = 5 + options.len().div_ceil(4) as u8;
        let mut bytes =
            vec![0, 80, 0x30, 0x39, 0, 0, 0, 7, 0, 0, 0, 9, words << 4, flags, 0xfa, 0xf0, 0, 0, 0, 0];
        bytes.extend(options);
        bytes.resize(usize::from(words) * 4 + payload, 0);
        bytes
    }

    #[test]
    fn a_header() {
        let tcp = Tcp::parse(&segment(ACK | PSH, &[], 5)).unwrap();
        assert_eq!((tcp.source, tcp.destination, tcp.seq, tcp.ack), (80, 12345, 7, 9));
        assert_eq!((tcp.flags, tcp.window, tcp.payload, tcp.header_len), (0x18, 64240, 5, 20));
    }

    #[test]
    fn options_of_syn() {
        // As Linux: MSS, SACK permitted, timestamps, NOP, window scale.
        let options = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
        let tcp = Tcp::parse(&segment(SYN, &options, 0)).unwrap();
        assert_eq!((tcp.window_scale, tcp.sack_permitted, tcp.payload), (Some(7), true, 0));
        let tcp = Tcp::parse(&segment(ACK, &options, 0)).unwrap();
        assert_eq!((tcp.window_scale, tcp.sack_permitted), (None, false));
    }

    #[test]
    fn malformed_options_end_the_list() {
        for options in [&[3, 0, 7, 0][..], &[3, 1, 7, 0], &[3, 5, 7, 0], &[0, 0, 3, 3, 7, 0], &[1, 1, 1, 3]] {
            assert_eq!(Tcp::parse(&segment(SYN, options, 0)).unwrap().window_scale, None, "{options:?}");
        }
    }

    #[test]
    fn short_headers_are_refused() {
        let bytes = segment(SYN, &[1; 8], 0);
        assert!((0..28).all(|len| Tcp::parse(&bytes[..len]).is_none()));
        let mut bytes = segment(SYN, &[], 40);
        bytes[12] = 4 << 4;
        assert_eq!(Tcp::parse(&bytes), None);
    }
}
