//! IPv6 (RFC 8200) and its extension headers.

use std::net::IpAddr;

use super::bytes::{Bytes, Printed, Truncated};
use super::ip::{self, Datagram, PROTOCOLS, protocol};
use super::line::{Line, put};
use super::text::{V6, name_or};

pub(super) const HEADER_LEN: usize = 40;

/// An IPv6 datagram in `length` bytes.
pub(super) fn datagram(line: &mut Line<'_>, bytes: Bytes<'_>, length: usize) -> Printed {
    if !line.nest() {
        return Ok(());
    }
    if !bytes.holds(HEADER_LEN) {
        line.cut(bytes.truncated());
        return Ok(());
    }
    if length < HEADER_LEN {
        put!(line, "truncated-ip6 {length}");
        return Ok(());
    }
    if !line.options.link {
        put!(line, "IP6 ");
    }
    let version = bytes.u8(0)? >> 4;
    if version != 6 {
        put!(line, "version error: {version} != 6");
        return Ok(());
    }
    let payload_len = usize::from(bytes.u16(4)?);
    let mut total = length + HEADER_LEN;
    if payload_len != 0 {
        total = payload_len + HEADER_LEN;
        if length < total {
            put!(line, "truncated-ip6 - {} bytes missing!", total - length);
        }
    }
    let next = bytes.u8(6)?;
    if line.options.verbose {
        verbose(line, bytes, next)?;
    }
    let bytes = bytes.upto(total);
    let destination: IpAddr = bytes.ipv6(24)?.into();
    let datagram = Datagram {
        header: bytes,
        source: bytes.ipv6(8)?.into(),
        destination,
        last: last(bytes, next).unwrap_or(destination),
        protocol: next,
        fragmented: false,
    };
    if !matches!(next, protocol::TCP | protocol::UDP | protocol::SCTP | protocol::DCCP)
        && bytes.len() >= HEADER_LEN
    {
        put!(line, "{}: ", datagram.addresses());
    }
    Headers { datagram, at: HEADER_LEN, left: total - HEADER_LEN, next, payload_len, jumbo: false }
        .walk(line, length)
}

/// The fields of the header.
fn verbose(line: &mut Line<'_>, bytes: Bytes<'_>, next: u8) -> Printed {
    let word = bytes.u32(0)?;
    put!(line, "(");
    if word & 0x0ff0_0000 != 0 {
        put!(line, "class 0x{:02x}, ", word >> 20 & 0xff);
    }
    if word & 0x000f_ffff != 0 {
        put!(line, "flowlabel 0x{:05x}, ", word & 0x000f_ffff);
    }
    let name = name_or(PROTOCOLS, next, format_args!("unknown"));
    let (hops, length) = (bytes.u8(7)?, bytes.u16(4)?);
    put!(line, "hlim {hops}, next-header {name} ({next}) payload length: {length}) ");
    Ok(())
}

/// Where a datagram goes in the end: the last stop of its routing header, if it has one.
fn last(bytes: Bytes<'_>, mut next: u8) -> Option<IpAddr> {
    let mut at = HEADER_LEN;
    loop {
        let header = bytes.from(at);
        match next {
            protocol::HOP_BY_HOP | protocol::DESTINATION => at += header_len(header).ok()?,
            protocol::FRAGMENT => at += FRAGMENT_LEN,
            protocol::ROUTING => {
                let stops = usize::from(header.u8(1).ok()?) / 2;
                let stop = match header.u8(2).ok()? {
                    0 | 2 => stops.checked_sub(1)?,
                    4 => 0,
                    _ => return None,
                };
                return header.ipv6(8 + stop * 16).ok().map(IpAddr::V6);
            }
            _ => return None,
        }
        next = header.u8(0).ok()?;
    }
}

const FRAGMENT_LEN: usize = 8;

/// The length that an extension header gives itself (RFC 8200 §4.3).
pub(super) fn header_len(header: Bytes<'_>) -> Result<usize, Truncated> {
    Ok((usize::from(header.u8(1)?) + 1) * 8)
}

/// On the way from header to header.
struct Headers<'a> {
    datagram: Datagram<'a>,
    /// Where the header `next` begins.
    at: usize,
    /// How many bytes there are from there on, as far as the lengths go.
    left: usize,
    next: u8,
    payload_len: usize,
    jumbo: bool,
}

impl Headers<'_> {
    fn walk(mut self, line: &mut Line<'_>, length: usize) -> Printed {
        while self.at == HEADER_LEN || self.datagram.header.holds(self.at - 1) {
            let header = self.datagram.header.from(self.at);
            let len = match self.next {
                protocol::HOP_BY_HOP => {
                    if self.at != HEADER_LEN {
                        let again = self.datagram.is(protocol::HOP_BY_HOP);
                        let why = if again { "was already found" } else { "don't follow the IPv6 header" };
                        put!(line, "[The Hop-by-Hop Options header {why}]");
                        line.invalid();
                        return Ok(());
                    }
                    self.hop_by_hop(line, header.of("hbhopt"))?
                }
                protocol::DESTINATION => options(line, header.of("dstopt"), "DSTOPT", None)?,
                protocol::FRAGMENT => self.fragment(line, header.of("frag6"))?,
                protocol::ROUTING if header.len() == 0 => {
                    line.cut(header.truncated());
                    return Ok(());
                }
                protocol::ROUTING => routing(line, header.of("rt6"))?,
                _ => return self.payload(line, length),
            };
            let Some(len) = len else { return Ok(()) };
            self.next = header.u8(0)?;
            if self.left < len {
                line.cut(self.datagram.header.truncated());
                return Ok(());
            }
            self.at += len;
            self.left -= len;
            if !self.datagram.header.holds(self.at - len + 1) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The hop-by-hop options, which may tell the length of a jumbogram (RFC 2675).
    fn hop_by_hop(&mut self, line: &mut Line<'_>, header: Bytes<'_>) -> Result<Option<usize>, Truncated> {
        let mut jumbo = None;
        let len = options(line, header, "HBH", (self.payload_len == 0).then_some(&mut jumbo))?;
        if let Some(jumbo) = jumbo {
            (self.payload_len, self.jumbo) = (jumbo, true);
        }
        if self.payload_len == 0 && !self.jumbo {
            put!(line, "[No valid Jumbo Payload Hop-by-Hop option found]");
            line.invalid();
            return Ok(None);
        }
        Ok(len)
    }

    fn fragment(&mut self, line: &mut Line<'_>, header: Bytes<'_>) -> Result<Option<usize>, Truncated> {
        let offset = header.u16(2)? & 0xfff8;
        // 64-bit and without a sign, as in tcpdump.
        let len = (HEADER_LEN + usize::from(self.datagram.header.u16(4)?)) as u64;
        let len = len.wrapping_sub((self.at + FRAGMENT_LEN) as u64);
        if line.options.verbose {
            put!(line, "frag (0x{:08x}:{offset}|{len})", header.u32(4)?);
        } else {
            put!(line, "frag ({offset}|{len})");
        }
        self.datagram.fragmented = true;
        if offset != 0 {
            return Ok(None);
        }
        put!(line, " ");
        Ok((header.len() > FRAGMENT_LEN).then_some(FRAGMENT_LEN))
    }

    /// What stands behind all extension headers.
    fn payload(self, line: &mut Line<'_>, length: usize) -> Printed {
        let mut bytes = self.datagram.header;
        let mut left = self.left;
        if self.jumbo {
            let total = self.payload_len + HEADER_LEN;
            if total < self.at {
                line.cut(bytes.truncated());
                return Ok(());
            }
            if length < total {
                put!(line, "truncated-ip6 - {} bytes missing!", total - length);
            }
            bytes = bytes.upto(total);
            left = total - self.at;
        } else if self.payload_len == 0 {
            if self.at != HEADER_LEN {
                line.cut(bytes.truncated());
                return Ok(());
            }
            bytes = bytes.upto(HEADER_LEN);
            left = 0;
        }
        ip::payload(line, &self.datagram, self.next, bytes.from(self.at), left)
    }
}

/// A header full of options: its length, or `None` when it ends the line. A valid jumbo payload length
/// goes to `jumbo`, which is `None` where none is valid.
fn options(
    line: &mut Line<'_>,
    header: Bytes<'_>,
    name: &str,
    jumbo: Option<&mut Option<usize>>,
) -> Result<Option<usize>, Truncated> {
    let len = header_len(header)?;
    if !header.holds(len) {
        line.cut(header.truncated());
        return Ok(None);
    }
    put!(line, "{name} ");
    if name == "DSTOPT" && !line.options.verbose {
        return Ok(Some(len));
    }
    if each_option(line, header.upto(len).from(2), name == "HBH", jumbo)?.is_none() {
        line.cut(header.truncated());
        return Ok(None);
    }
    Ok(Some(len))
}

const PAD1: u8 = 0;
const PADN: u8 = 1;
const ROUTER_ALERT: u8 = 5;
const JUMBO: u8 = 0xc2;
const HOME_ADDRESS: u8 = 0xc9;

/// `None` when an option reaches past the header.
fn each_option(
    line: &mut Line<'_>,
    mut bytes: Bytes<'_>,
    hop_by_hop: bool,
    mut jumbo: Option<&mut Option<usize>>,
) -> Result<Option<()>, Truncated> {
    let verbose = line.options.verbose;
    let mut jumbo_seen = false;
    while bytes.len() > 0 {
        let kind = bytes.u8(0)?;
        if kind == PAD1 {
            if verbose {
                put!(line, "(pad1)");
            }
            bytes = bytes.from(1);
            continue;
        }
        let Ok(said) = bytes.u8(1) else { return Ok(None) };
        let len = usize::from(said) + 2;
        if !bytes.holds(len) {
            return Ok(None);
        }
        match (kind, said) {
            (ROUTER_ALERT, 2) if verbose => put!(line, "(rtalert: 0x{:04x}) ", bytes.u16(2)?),
            (ROUTER_ALERT, 2) => {}
            (ROUTER_ALERT, _) => return wrong(line, "rtalert", bytes.holds(4), said),
            (JUMBO, 4) => {
                let payload = bytes.u32(2)?;
                let found = jumbo_note(payload, hop_by_hop, jumbo_seen, jumbo.as_deref_mut());
                jumbo_seen = true;
                if verbose {
                    put!(line, "(jumbo: {payload}{found}) ");
                }
            }
            (JUMBO, _) => return wrong(line, "jumbo", bytes.holds(6), said),
            (HOME_ADDRESS, 16..) if verbose => put!(line, "(homeaddr: {})", V6(bytes.ipv6(2)?)),
            (HOME_ADDRESS, 16..) => {}
            (HOME_ADDRESS, _) => return wrong(line, "homeaddr", bytes.holds(18), said),
            (PADN, _) if verbose => put!(line, "(padn)"),
            _ if verbose => put!(line, "(opt_type 0x{kind:02x}: len={said})"),
            _ => {}
        }
        bytes = bytes.from(len);
    }
    if verbose {
        put!(line, " ");
    }
    Ok(Some(()))
}

/// Says that an option's length is wrong, though there is room for a right one; or that there is not.
fn wrong(line: &mut Line<'_>, name: &str, room: bool, said: u8) -> Result<Option<()>, Truncated> {
    if room {
        put!(line, "({name}: invalid len {said})");
    } else {
        put!(line, "({name}: trunc)");
    }
    Ok(None)
}

/// Takes a jumbo payload length for what it is worth; the words say why it is worth nothing.
fn jumbo_note(payload: u32, hop_by_hop: bool, seen: bool, jumbo: Option<&mut Option<usize>>) -> &'static str {
    match (seen, jumbo) {
        (true, _) => " - already seen",
        (false, None) if hop_by_hop => " - payload len != 0",
        (false, None) => " - not a hop-by-hop option",
        (false, Some(_)) if payload < 65536 => " - < 65536",
        (false, Some(jumbo)) => {
            *jumbo = usize::try_from(payload).ok();
            ""
        }
    }
}

/// A routing header (RFC 8200 §4.4, RFC 6275 §6.4, RFC 8754): its length, or `None` when it ends the line.
fn routing(line: &mut Line<'_>, header: Bytes<'_>) -> Result<Option<usize>, Truncated> {
    put!(line, "RT6");
    let units = header.u8(1)?;
    put!(line, " (len={units}");
    let kind = header.u8(2)?;
    put!(line, ", type={kind}{}", if kind == 0 { " [Deprecated]" } else { "" });
    put!(line, ", segleft={}", header.u8(3)?);
    match kind {
        0 | 2 => {
            let reserved = header.u32(4)?;
            if reserved != 0 || line.options.verbose {
                put!(line, ", rsv=0x{reserved:x}");
            }
        }
        4 => {
            put!(line, ", last-entry={}", header.u8(4)?);
            let flags = header.u8(5)?;
            if flags != 0 || line.options.verbose {
                put!(line, ", flags=0x{flags:x}");
            }
            put!(line, ", tag={:x}", header.u16(6)?);
        }
        _ => {
            put!(line, " (unknown type)");
            line.invalid();
            return Ok(None);
        }
    }
    if units % 2 == 1 {
        put!(line, " (invalid length {units})");
        line.invalid();
        return Ok(None);
    }
    for stop in 0..usize::from(units / 2) {
        put!(line, ", [{stop}]{}", V6(header.ipv6(8 + stop * 16)?));
    }
    put!(line, ") ");
    header_len(header).map(Some)
}
