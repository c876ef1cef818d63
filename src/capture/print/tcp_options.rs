//! The options of TCP headers (RFC 9293 §3.2, RFC 7323, RFC 2018, RFC 7413, RFC 5925).

use super::bytes::{Bytes, Truncated};
use super::line::{Line, put};
use super::text::{Names, name_or};

const END: u8 = 0;
const NOP: u8 = 1;

const KINDS: Names = &[
    (0, "eol"),
    (1, "nop"),
    (2, "mss"),
    (3, "wscale"),
    (4, "sackOK"),
    (5, "sack"),
    (6, "echo"),
    (7, "echoreply"),
    (8, "TS"),
    (11, "cc"),
    (12, "ccnew"),
    (13, "ccecho"),
    (19, "md5"),
    (20, "scps"),
    (28, "uto"),
    (29, "tcp-ao"),
    (30, "mptcp"),
    (34, "tfo"),
    (254, "exp"),
];

/// What the options have to know about their segment.
#[derive(Clone, Copy)]
pub(super) struct Segment {
    /// What selective acknowledgments are counted from.
    pub(super) base: u32,
    /// Whether all of it was captured.
    pub(super) complete: bool,
}

/// `length` bytes of options. False when they are cut or malformed, and the line ends with them.
pub(super) fn options(
    line: &mut Line<'_>,
    mut bytes: Bytes<'_>,
    length: usize,
    segment: Segment,
) -> Result<bool, Truncated> {
    put!(line, ", options [");
    let mut left = length;
    while left > 0 {
        if left < length {
            put!(line, ",");
        }
        let kind = bytes.u8(0)?;
        let one = matches!(kind, END | NOP);
        let len = if one { 1 } else { usize::from(bytes.u8(1)?) };
        if len > left || (len < 2 && !one) {
            return Ok(bad(line, left < length));
        }
        put!(line, "{}", name_or(KINDS, kind, format_args!("unknown-{kind}")));
        if !one {
            // What an option of that kind has, and what it says it has.
            let said = len - 2;
            let used = match option(line, kind, bytes.from(2), said, left - 2, segment) {
                Ok(Some(used)) => used,
                Ok(None) => return Ok(bad(line, left < length)),
                Err(truncated) => {
                    line.cut(truncated);
                    put!(line, "{}", if left < length { ">" } else { "" });
                    return Ok(false);
                }
            };
            if used != said {
                put!(line, "[len {len}]");
            }
            bytes = bytes.from(2 + used);
            left -= 2 + used;
        } else {
            bytes = bytes.from(1);
            left -= 1;
        }
        if kind == END {
            break;
        }
    }
    put!(line, "]");
    Ok(true)
}

/// Ends the line at an option that makes no sense.
fn bad(line: &mut Line<'_>, others_before: bool) -> bool {
    put!(line, "[bad opt]{}", if others_before { "]" } else { "" });
    false
}

/// The `said` bytes behind kind and length, `left` bytes before the options end. Returns how many such
/// an option has; `None` when that is more than are left.
fn option(
    line: &mut Line<'_>,
    kind: u8,
    bytes: Bytes<'_>,
    said: usize,
    left: usize,
    segment: Segment,
) -> Result<Option<usize>, Truncated> {
    let needs = match kind {
        2 | 20 | 28 => 2,
        3 => 1,
        6 | 7 | 11 | 12 | 13 => 4,
        8 => 8,
        19 => 16,
        _ => said,
    };
    if needs > left {
        return Ok(None);
    }
    if matches!(kind, 2 | 3 | 6..=8 | 11..=13 | 19 | 20 | 28 | 30 | 34 | 254) {
        bytes.need(needs)?;
    }
    match kind {
        2 => put!(line, " {}", bytes.u16(0)?),
        3 => put!(line, " {}", bytes.u8(0)?),
        4 => return Ok(Some(0)),
        5 if !said.is_multiple_of(8) => put!(line, " invalid sack"),
        5 => {
            put!(line, " {} ", said / 8);
            for at in (0..said).step_by(8) {
                let (from, to) = (bytes.u32(at)?, bytes.u32(at + 4)?);
                put!(line, "{{{}:{}}}", from.wrapping_sub(segment.base), to.wrapping_sub(segment.base));
            }
        }
        6 | 7 | 11 | 12 | 13 => put!(line, " {}", bytes.u32(0)?),
        8 => put!(line, " val {} ecr {}", bytes.u32(0)?, bytes.u32(4)?),
        // The key that a signature is made with is not in the capture.
        19 => {
            let why =
                if segment.complete { "shared secret not supplied with -M" } else { "snaplen too short" };
            put!(line, " {why}, can't check - ");
            digits(line, bytes, 16)?;
        }
        20 => put!(line, " cap {:02x} id {}", bytes.u8(0)?, bytes.u8(1)?),
        28 => {
            let timeout = bytes.u16(0)?;
            let unit = if timeout & 1 != 0 { 60 } else { 1 };
            put!(line, " 0x{timeout:x} {}", u32::from(timeout >> 1) * unit);
        }
        29 if said < 2 => line.invalid(),
        29 => {
            put!(line, " keyid {}", bytes.u8(0)?);
            put!(line, " rnextkeyid {}", bytes.u8(1)?);
            if said > 2 {
                put!(line, " mac 0x");
                digits(line, bytes.from(2), said - 2)?;
            }
        }
        34 => {
            put!(line, " ");
            fast_open(line, bytes, said)?;
        }
        254 if said < 2 => return Ok(None),
        254 => match bytes.u16(0)? {
            0xf989 => {
                put!(line, "-tfo");
                fast_open(line, bytes.from(2), said - 2)?;
            }
            magic => put!(line, "-{magic:04x}"),
        },
        // Multipath TCP has a language of its own, which we do not read.
        30 => {}
        _ if said > 0 => {
            put!(line, " 0x");
            digits(line, bytes, said)?;
        }
        _ => {}
    }
    Ok(Some(needs))
}

/// A cookie, or the wish for one.
fn fast_open(line: &mut Line<'_>, bytes: Bytes<'_>, len: usize) -> Result<(), Truncated> {
    match len {
        0 => put!(line, " cookiereq"),
        4..=16 if len.is_multiple_of(2) => {
            put!(line, " cookie ");
            digits(line, bytes, len)?;
        }
        _ => line.invalid(),
    }
    Ok(())
}

/// `len` bytes in hexadecimal, as far as they were captured.
fn digits(line: &mut Line<'_>, bytes: Bytes<'_>, len: usize) -> Result<(), Truncated> {
    for at in 0..len {
        put!(line, "{:02x}", bytes.u8(at)?);
    }
    Ok(())
}
