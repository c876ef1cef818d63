//! The options of neighbor discovery (RFC 4861 §4.6, RFC 4191, RFC 8106).

use std::net::Ipv6Addr;

use super::bytes::{Bytes, Printed, Truncated};
use super::dns;
use super::line::{Line, put};
use super::text::{Colons, Names, V6, flags, name_or};

const KINDS: Names = &[
    (1, "source link-address"),
    (2, "destination link-address"),
    (3, "prefix info"),
    (4, "redirected header"),
    (5, "mtu"),
    (25, "rdnss"),
    (31, "dnssl"),
    (7, "advertisement interval"),
    (8, "homeagent information"),
    (24, "route info"),
];

const PREFIX_FLAGS: Names = &[(0x80, "onlink"), (0x40, "auto"), (0x20, "router")];

/// `left` bytes of options. False when one is cut or malformed.
pub(super) fn options(line: &mut Line<'_>, mut bytes: Bytes<'_>, mut left: usize) -> Result<bool, Truncated> {
    let first = bytes;
    while bytes.len() > 0 {
        let Ok(units) = bytes.u8(1) else { return Ok(false) };
        if left == 0 {
            return Ok(true);
        }
        let len = usize::from(units) * 8;
        if len == 0 || !bytes.holds(len) {
            return Ok(false);
        }
        let kind = bytes.u8(0)?;
        let name = name_or(KINDS, kind, format_args!("unknown"));
        put!(line, "\n\t  {name} option ({kind}), length {len} ({units}): ");
        let option = bytes.upto(len);
        match kind {
            1 | 2 => put!(line, "{}", Colons(option.from(2).all())),
            3 => prefix(line, bytes, len)?,
            // tcpdump dumps as many bytes, but from the first option on.
            4 => line.dump(first.upto(len).all(), "\n\t    ", false),
            5 => put!(line, " {}{}", bytes.u32(4)?, if len == 8 { "" } else { "bad option length" }),
            7 => put!(line, " {}ms", bytes.u32(4)?),
            8 => put!(line, " preference {}, lifetime {}", bytes.u16(4)?, bytes.u16(6)?),
            24 if len > 24 => return Ok(false),
            24 => route(line, option)?,
            25 => {
                put!(line, " lifetime {}s,", bytes.u32(4)?);
                for at in (8..len - 8).step_by(16) {
                    put!(line, " addr: {}", V6(bytes.ipv6(at)?));
                }
            }
            31 if !search_list(line, option)? => return Ok(false),
            31 => {}
            _ => {
                line.dump(option.from(2).all(), "\n\t  ", false);
                return Ok(true);
            }
        }
        bytes = bytes.from(len);
        left = left.saturating_sub(len);
    }
    Ok(true)
}

/// A prefix of the link.
fn prefix(line: &mut Line<'_>, bytes: Bytes<'_>, len: usize) -> Printed {
    let bad = if len == 32 { "" } else { "badlen" };
    put!(line, "{}/{}{bad}", V6(bytes.ipv6(16)?), bytes.u8(2)?);
    put!(line, ", Flags [{}]", flags(PREFIX_FLAGS, bytes.u8(3)?.into(), ", "));
    put!(line, ", valid time {}, pref. time {}", lifetime(bytes.u32(4)?), lifetime(bytes.u32(8)?));
    Ok(())
}

/// A route to a prefix, of which only as many bytes are told as matter.
fn route(line: &mut Line<'_>, option: Bytes<'_>) -> Printed {
    let mut address = [0; 16];
    for (byte, told) in address.iter_mut().zip(option.from(8).all()) {
        *byte = *told;
    }
    put!(line, " {}/{}", V6(Ipv6Addr::from(address)), option.u8(2)?);
    put!(line, ", pref={}, lifetime={}", preference(option.u8(3)?), lifetime(option.u32(4)?));
    Ok(())
}

/// Domains to search names in. False when a name is malformed.
fn search_list(line: &mut Line<'_>, option: Bytes<'_>) -> Result<bool, Truncated> {
    put!(line, " lifetime {}s, domain(s):", option.u32(4)?);
    let mut at = 8;
    while at < option.len() && option.u8(at)? != 0 {
        put!(line, " ");
        let Some(next) = dns::name(line, option, at) else { return Ok(false) };
        at = next;
    }
    Ok(true)
}

/// Seconds.
fn lifetime(seconds: u32) -> String {
    if seconds == u32::MAX { "infinity".into() } else { format!("{seconds}s") }
}

/// How much a router is to be preferred (RFC 4191 §2.1), from its byte of flags.
pub(super) fn preference(flags: u8) -> &'static str {
    ["medium", "high", "rsv", "low"][usize::from(flags >> 3 & 3)]
}
