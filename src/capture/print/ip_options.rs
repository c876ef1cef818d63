//! The options of IPv4 headers (RFC 791 §3.1, RFC 2113).

use std::net::Ipv4Addr;

use super::bytes::{Bytes, Printed, Truncated};
use super::line::{Line, put};
use super::text::{Names, name_or};

const END: u8 = 0;
const NOP: u8 = 1;
const RECORD_ROUTE: u8 = 7;
const TIMESTAMP: u8 = 68;
const LOOSE_ROUTE: u8 = 131;
const STRICT_ROUTE: u8 = 137;
const ROUTER_ALERT: u8 = 148;

const KINDS: Names = &[
    (0, "EOL"),
    (1, "NOP"),
    (68, "timestamp"),
    (130, "security"),
    (7, "RR"),
    (137, "SSRR"),
    (131, "LSRR"),
    (148, "RA"),
    (82, "traceroute"),
];

/// Where a datagram goes in the end: the last stop of its source route, if it has one.
pub(super) fn last(bytes: Bytes<'_>, header_len: usize) -> Result<Ipv4Addr, Truncated> {
    let destination = bytes.ipv4(16)?;
    let mut rest = bytes.upto(header_len).from(20).all();
    while let [kind, tail @ ..] = rest {
        let len = match (*kind, tail) {
            (END, _) => break,
            (NOP, _) => 1,
            (_, [len, ..]) if *len >= 2 => usize::from(*len),
            _ => break,
        };
        let (Some(option), Some(next)) = (rest.get(..len), rest.get(len..)) else { break };
        if matches!(*kind, STRICT_ROUTE | LOOSE_ROUTE)
            && len >= 7
            && let Some(stop) = option.last_chunk::<4>()
        {
            return Ok(Ipv4Addr::from(*stop));
        }
        rest = next;
    }
    Ok(destination)
}

/// `length` bytes of options. True when they reach past the capture.
pub(super) fn options(line: &mut Line<'_>, mut bytes: Bytes<'_>, length: usize) -> Result<bool, Truncated> {
    let mut left = length;
    while left > 0 {
        if left < length {
            put!(line, ",");
        }
        let kind = bytes.u8(0)?;
        put!(line, "{}", name_or(KINDS, kind, format_args!("unknown {kind}")));
        let len = if matches!(kind, NOP | END) { 1 } else { usize::from(bytes.u8(1)?) };
        if len > left || (len < 2 && !matches!(kind, NOP | END)) {
            put!(line, " [bad length {len}]");
            return Ok(false);
        }
        if !bytes.holds(len) {
            return Ok(true);
        }
        // An option whose length is wrong may show bytes behind it.
        let told = match kind {
            END => return Ok(false),
            RECORD_ROUTE | STRICT_ROUTE | LOOSE_ROUTE => route(line, bytes, len),
            TIMESTAMP => timestamps(line, bytes, len),
            ROUTER_ALERT => router_alert(line, bytes, len),
            _ => Ok(()),
        };
        if told.is_err() {
            return Ok(true);
        }
        bytes = bytes.from(len);
        left -= len;
    }
    Ok(false)
}

fn router_alert(line: &mut Line<'_>, option: Bytes<'_>, len: usize) -> Printed {
    if len < 4 {
        put!(line, " [bad length {len}]");
    } else if option.u16(2)? != 0 {
        put!(line, " value {}", option.u16(2)?);
    }
    Ok(())
}

/// The addresses of a route; a comma behind those already visited.
fn route(line: &mut Line<'_>, option: Bytes<'_>, len: usize) -> Printed {
    if len < 3 {
        put!(line, " [bad length {len}]");
        return Ok(());
    }
    if !(len + 1).is_multiple_of(4) {
        put!(line, " [bad length {len}]");
    }
    let pointer = usize::from(option.u8(2)?);
    if pointer < 4 || !pointer.is_multiple_of(4) || pointer > len + 2 {
        put!(line, " [bad ptr {pointer}]");
    }
    for at in (3..len).step_by(4) {
        put!(line, " {}", option.ipv4(at)?);
        // A pointer of 0 points far behind the end.
        if pointer.wrapping_sub(1) > at {
            put!(line, ",");
        }
    }
    Ok(())
}

/// The time stamps of the hops; `^` before the one to be filled in next.
fn timestamps(line: &mut Line<'_>, option: Bytes<'_>, len: usize) -> Printed {
    if len < 4 {
        put!(line, "[bad length {len}]");
        return Ok(());
    }
    put!(line, " TS{{");
    let kind = option.u8(3)? & 0x0f;
    let hop_len = if kind == 0 { 4 } else { 8 };
    if !(len - 4).is_multiple_of(hop_len) {
        put!(line, "[bad length {len}]");
    }
    let pointer = usize::from(option.u8(2)?).wrapping_sub(1);
    if pointer < 4 || pointer > len + 1 || !(pointer - 4).is_multiple_of(hop_len) {
        put!(line, "[bad ptr {}]", option.u8(2)?);
    }
    let mut at = 0;
    match kind {
        0 => put!(line, "TSONLY"),
        1 => put!(line, "TS+ADDR"),
        3 => put!(line, "PRESPEC"),
        _ => put!(line, "[bad ts type {kind}]"),
    }
    if matches!(kind, 0 | 1 | 3) {
        at = 4;
        while at < len {
            let mark = if pointer == at { " ^ " } else { " " };
            let address = if hop_len == 8 { option.ipv4(at)?.to_string() } else { String::new() };
            put!(line, "{mark}{}@{address}", option.u32(at + hop_len - 4)?);
            at += hop_len;
        }
    }
    put!(line, "{}", if pointer == at { " ^ " } else { "" });
    match option.u8(3)? >> 4 {
        0 => put!(line, "}}"),
        missed => put!(line, " [{missed} hops not recorded]}} "),
    }
    Ok(())
}
