//! IPv6 headers and extension headers (RFC 8200).

use super::ip::{Addr, Version};
use super::packet::{Fragment, Headers, IpError};

/// Bytes of the header without extension headers.
pub const HEADER_LEN: usize = 40;

/// Extension headers (IANA "IPv6 Extension Header Types") that we look behind. AH and ESP are not
/// among them: what is behind those can be neither judged nor translated.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
pub(crate) const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// The longest chain that is walked. RFC 8200 §4.1 recommends each header at most once, destination
/// options twice: five. A longer one only keeps routers busy.
const MAX_EXTENSION_HEADERS: usize = 8;

/// The longest payload that all fragments together can have.
const MAX_PAYLOAD: usize = 65_535;

/// Reads and checks the header at `start` and the extension headers behind it.
#[inline]
pub(super) fn read(frame: &[u8], start: usize) -> Result<Headers, IpError> {
    let bytes = frame.get(start..).ok_or(IpError::Header)?;
    let (header, rest) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(IpError::Header)?;
    let [first, second, _, _, l0, l1, next, ttl, addresses @ ..] = header;
    if first >> 4 != 6 {
        return Err(IpError::Header);
    }
    let payload = usize::from(u16::from_be_bytes([*l0, *l1]));
    let payload = rest.get(..payload).ok_or(IpError::Header)?;
    let (source, destination) = split_addresses(addresses);
    // Mapped addresses stay inside nodes; on a wire they would be taken for IPv4's (RFC 4942 §2.2).
    if source.version() == Version::V4 || destination.version() == Version::V4 {
        return Err(IpError::Header);
    }
    let chain = if matches!(*next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS) {
        walk(payload, *next, false)?
    } else {
        Chain { protocol: *next, transport: 0, fragment: None }
    };
    let payload_start = start + HEADER_LEN;
    Ok(Headers {
        source,
        destination,
        protocol: chain.protocol,
        ttl: *ttl,
        tos: first << 4 | second >> 4,
        dont_fragment: true,
        // A fragment that is the whole packet is none (RFC 6946).
        fragment: chain.fragment.filter(|fragment| fragment.more || fragment.offset != 0),
        transport: payload_start + chain.transport,
        end: payload_start + payload.len(),
    })
}

/// The two addresses, as they lie in the header.
#[inline]
pub(super) fn split_addresses(bytes: &[u8; 32]) -> (Addr, Addr) {
    let (mut source, mut destination) = ([0; 16], [0; 16]);
    source.copy_from_slice(&bytes[..16]);
    destination.copy_from_slice(&bytes[16..]);
    (Addr::v6(source), Addr::v6(destination))
}

/// What a chain of extension headers leads to.
pub(super) struct Chain {
    pub(super) protocol: u8,
    /// From the end of the IPv6 header.
    pub(super) transport: usize,
    /// The fragment header, if there is one; also an atomic fragment's.
    pub(super) fragment: Option<Fragment>,
}

/// Walks the chain of extension headers at the start of `payload`, the first of which is of type `next`.
/// In a quoted packet, whose end may be missing, the lengths of fragments are not looked at.
#[cold]
pub(super) fn walk(payload: &[u8], next: u8, is_quoted: bool) -> Result<Chain, IpError> {
    let mut chain = Chain { protocol: next, transport: 0, fragment: None };
    for count in 0..=MAX_EXTENSION_HEADERS {
        let bytes = payload.get(chain.transport..).unwrap_or_default();
        match chain.protocol {
            // Only the first may be hop-by-hop options (RFC 8200 §4.1).
            HOP_BY_HOP if count != 0 => return Err(IpError::Options),
            FRAGMENT if chain.fragment.is_some() => return Err(IpError::Options),
            FRAGMENT => {
                let (fragment, next) = read_fragment(bytes, is_quoted)?;
                chain.fragment = Some(fragment);
                (chain.protocol, chain.transport) = (next, chain.transport + 8);
                if fragment.offset != 0 {
                    return Ok(chain);
                }
            }
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                let [next, len, kind, left, ..] = *bytes else { return Err(cut(chain.fragment)) };
                // Type 0 is dead (RFC 5095); another one with nothing left has done its work.
                if chain.protocol == ROUTING && (kind == 0 || left != 0) {
                    return Err(IpError::SourceRoute);
                }
                let len = (usize::from(len) + 1) * 8;
                if len > bytes.len() {
                    return Err(cut(chain.fragment));
                }
                (chain.protocol, chain.transport) = (next, chain.transport + len);
            }
            _ => return Ok(chain),
        }
    }
    Err(IpError::Options)
}

/// Where the protocol of a packet is named: the "next header" field of the last header before `transport`,
/// both in bytes from the start of the IPv6 header. For a packet whose chain of headers was walked before.
#[cold]
pub fn next_header_field(packet: &[u8], transport: usize) -> usize {
    let (mut field, mut at) = (6, HEADER_LEN);
    while at < transport {
        let len = match (packet.get(field), packet.get(at + 1)) {
            (Some(&FRAGMENT), _) => 8,
            (_, Some(len)) => (usize::from(*len) + 1) * 8,
            _ => break,
        };
        (field, at) = (at, at + len);
    }
    field
}

/// What a header that is cut off means: that the packet is short, or the chain was cut into fragments
/// (RFC 7112).
const fn cut(fragment: Option<Fragment>) -> IpError {
    match fragment {
        Some(Fragment { more: true, .. }) => IpError::Overlap,
        _ => IpError::Options,
    }
}

/// The fragment header at the start of `bytes`, which end with the packet, and the type of the next one.
fn read_fragment(bytes: &[u8], is_quoted: bool) -> Result<(Fragment, u8), IpError> {
    let ([next, _, o0, o1, id @ ..], data) = bytes.split_first_chunk::<8>().ok_or(IpError::Options)?;
    let (more, offset) = (o1 & 1 != 0, u16::from_be_bytes([*o0, o1 & !7]));
    // RFC 8200 §4.5; an empty piece has no use.
    let is_empty = data.is_empty() && (more || offset != 0);
    let is_odd = more && !data.len().is_multiple_of(8);
    if !is_quoted && (is_empty || is_odd || usize::from(offset) + data.len() > MAX_PAYLOAD) {
        return Err(IpError::Header);
    }
    Ok((Fragment { id: u32::from_be_bytes(*id), offset, more }, *next))
}
