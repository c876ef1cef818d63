//! IPv4 headers (RFC 791 §3.1).

use super::checksum::Sum;
use super::ip::Addr;
use super::packet::{Fragment, Headers, IpError};

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;

/// "Don't fragment", in the first of the two bytes with the fragment's offset.
pub(crate) const DONT_FRAGMENT: u8 = 0x40;
/// "More fragments", in the same byte.
pub(crate) const MORE_FRAGMENTS: u8 = 0x20;

/// Options' types (IANA "IP Option Numbers"): end of list, padding, and the two source routes.
pub(crate) const END: u8 = 0;
pub(crate) const NOP: u8 = 1;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

/// The longest payload that all fragments together can have.
const MAX_PAYLOAD: usize = 65_535 - HEADER_LEN;

/// Reads and checks the header at `start` (RFC 1812 §5.2.2).
#[inline]
pub(super) fn read(frame: &[u8], start: usize) -> Result<Headers, IpError> {
    let bytes = frame.get(start..).ok_or(IpError::Header)?;
    let header: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(IpError::Header)?;
    let header_len = if header[0] == 0x45 {
        if Sum::default().add(header).finish() != [0, 0] {
            return Err(IpError::Checksum);
        }
        HEADER_LEN
    } else {
        check_options(with_options(bytes)?)?
    };
    read_fields(bytes, start, header, header_len)
}

/// Reads a header whose options are malformed; and where they are, from the start of the header. Its
/// sender is to be told so (RFC 1812 §4.3.3.5).
#[cold]
pub(super) fn read_despite_options(frame: &[u8], start: usize) -> Option<(Headers, usize)> {
    let bytes = frame.get(start..)?;
    let header = with_options(bytes).ok()?;
    let (at, _) = Options::of(header).find(|(_, option)| option.is_err())?;
    // What is wrong is the option's length, unless that is missing.
    let pointer = (at + 1).min(header.len() - 1);
    Some((read_fields(bytes, start, header.first_chunk()?, header.len()).ok()?, pointer))
}

/// Reads the fields of a header whose length and checksum are right.
#[inline]
fn read_fields(
    bytes: &[u8],
    start: usize,
    header: &[u8; HEADER_LEN],
    header_len: usize,
) -> Result<Headers, IpError> {
    let [_, tos, l0, l1, i0, i1, f0, f1, ttl, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = *header;
    let total = usize::from(u16::from_be_bytes([l0, l1]));
    if total < header_len || total > bytes.len() {
        return Err(IpError::Header);
    }
    let fragment = if (f0 & !DONT_FRAGMENT) | f1 == 0 {
        None
    } else {
        read_fragment([i0, i1], [f0, f1], total - header_len)?
    };
    Ok(Headers {
        source: Addr::v4([s0, s1, s2, s3]),
        destination: Addr::v4([d0, d1, d2, d3]),
        protocol,
        ttl,
        tos,
        dont_fragment: f0 & DONT_FRAGMENT != 0,
        fragment,
        transport: start + header_len,
        end: start + total,
    })
}

/// A header that is not the usual one of 20 bytes, if its version, length and checksum are right.
#[cold]
fn with_options(bytes: &[u8]) -> Result<&[u8], IpError> {
    let first = bytes.first().ok_or(IpError::Header)?;
    let len = usize::from(first & 0xf) * 4;
    if first >> 4 != 4 || len < HEADER_LEN {
        return Err(IpError::Header);
    }
    let header = bytes.get(..len).ok_or(IpError::Header)?;
    if Sum::default().add(header).finish() != [0, 0] {
        return Err(IpError::Checksum);
    }
    Ok(header)
}

/// Checks the options of a whole header; its length.
#[cold]
fn check_options(header: &[u8]) -> Result<usize, IpError> {
    for (_, option) in Options::of(header) {
        if matches!(option?.first(), Some(&(LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE))) {
            return Err(IpError::SourceRoute);
        }
    }
    Ok(header.len())
}

/// A header's options but for padding, each with its position in the header; an error at the first
/// malformed one.
pub struct Options<'a>(&'a [u8], usize);

impl<'a> Options<'a> {
    /// The options of a whole header.
    pub fn of(header: &'a [u8]) -> Self {
        Self(header.get(HEADER_LEN..).unwrap_or_default(), HEADER_LEN)
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = (usize, Result<&'a [u8], IpError>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let at = self.1;
            match self.0 {
                [] | [END, ..] => return None,
                [NOP, rest @ ..] => (self.0, self.1) = (rest, at + 1),
                [_, len @ 2..=255, ..] if usize::from(*len) <= self.0.len() => {
                    let (option, rest) = self.0.split_at(usize::from(*len));
                    (self.0, self.1) = (rest, at + option.len());
                    return Some((at, Ok(option)));
                }
                _ => {
                    self.0 = &[];
                    return Some((at, Err(IpError::Options)));
                }
            }
        }
    }
}

/// What the fields about fragmentation say. The reserved bit alone ("evil", RFC 3514) means nothing.
#[cold]
fn read_fragment(id: [u8; 2], flags: [u8; 2], payload: usize) -> Result<Option<Fragment>, IpError> {
    let more = flags[0] & MORE_FRAGMENTS != 0;
    let offset = u16::from_be_bytes([flags[0] & 0x1f, flags[1]]) * 8;
    if !more && offset == 0 {
        return Ok(None);
    }
    // Pieces but the last are multiples of 8 bytes, none is empty, and the whole must fit an IP packet.
    if payload == 0 || more && !payload.is_multiple_of(8) || usize::from(offset) + payload > MAX_PAYLOAD {
        return Err(IpError::Header);
    }
    Ok(Some(Fragment { id: u32::from(u16::from_be_bytes(id)), offset, more }))
}
