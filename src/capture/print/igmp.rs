//! IGMP (RFC 1112, RFC 2236, RFC 3376).

use super::bytes::{Bytes, Printed};
use super::ip::should_be;
use super::line::{Line, put};
use super::text::{Names, name_or};
use crate::wire::checksum::Sum;

/// How a group record changes the filter (RFC 3376 §4.2.12, RFC 3810 §5.2.12).
pub(super) const RECORDS: Names =
    &[(1, "is_in"), (2, "is_ex"), (3, "to_in"), (4, "to_ex"), (5, "allow"), (6, "block")];

/// An IGMP message in `length` bytes.
pub(super) fn message(line: &mut Line<'_>, bytes: Bytes<'_>, length: usize) -> Printed {
    match bytes.u8(0)? {
        0x11 => {
            put!(line, "igmp query");
            if length >= 12 { query_v3(line, bytes, length)? } else { query(line, bytes, length)? }
        }
        0x12 => {
            put!(line, "igmp v1 report {}", bytes.ipv4(4)?);
            if length != 8 {
                put!(line, " [len {length}]");
            }
        }
        0x16 => put!(line, "igmp v2 report {}", bytes.ipv4(4)?),
        0x17 => put!(line, "igmp leave {}", bytes.ipv4(4)?),
        0x22 => {
            put!(line, "igmp v3 report");
            report_v3(line, bytes, length)?;
        }
        kind => put!(line, "igmp-{kind}"),
    }
    if line.options.verbose
        && length >= 4
        && let Ok(whole) = bytes.slice(0, length)
    {
        let found = bytes.u16(2)?;
        if should_be(found, Sum::default().add(whole)).is_some() {
            put!(line, " bad igmp cksum {found:x}!");
        }
    }
    Ok(())
}

/// A query of version 1 or 2; times are in tenths of a second.
fn query(line: &mut Line<'_>, bytes: Bytes<'_>, length: usize) -> Printed {
    match bytes.u8(1)? {
        0 => put!(line, " v1"),
        100 => put!(line, " v2"),
        time => put!(line, " v2 [max resp time {time}]"),
    }
    if bytes.u32(4)? != 0 {
        put!(line, " [gaddr {}]", bytes.ipv4(4)?);
    }
    if length != 8 {
        put!(line, " [len {length}]");
    }
    Ok(())
}

fn query_v3(line: &mut Line<'_>, bytes: Bytes<'_>, length: usize) -> Printed {
    put!(line, " v3");
    if !length.is_multiple_of(4) {
        put!(line, " [invalid len {length}]");
        return Ok(());
    }
    let code = bytes.u8(1)?;
    // Mantissa and exponent from 128 on (RFC 3376 §4.1.1).
    let tenths = if code < 128 {
        u32::from(code)
    } else {
        u32::from(code & 0x0f | 0x10) << (u32::from(code >> 4 & 7) + 3)
    };
    if code != 100 {
        if tenths < 600 {
            put!(line, " [max resp time {}.{}s]", tenths / 10, tenths % 10);
        } else {
            put!(line, " [max resp time {}]", span(tenths / 10));
        }
    }
    if bytes.u32(4)? == 0 {
        return Ok(());
    }
    put!(line, " [gaddr {}", bytes.ipv4(4)?);
    match usize::from(bytes.u16(10)?) {
        0 => {}
        sources if length < 12 + sources * 4 => put!(line, " [invalid number of sources]"),
        sources => put!(line, ", {sources} source(s)"),
    }
    put!(line, "]");
    Ok(())
}

/// Seconds as `1h2m3s`; below a day.
fn span(seconds: u32) -> String {
    let parts = [(seconds / 3600, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')];
    parts.iter().filter(|(count, _)| *count != 0).map(|(count, unit)| format!("{count}{unit}")).collect()
}

fn report_v3(line: &mut Line<'_>, bytes: Bytes<'_>, length: usize) -> Printed {
    if length < 16 || !length.is_multiple_of(4) {
        put!(line, " [invalid len {length}]");
        return Ok(());
    }
    let records = bytes.u16(6)?;
    put!(line, ", {records} group record(s)");
    if !line.options.verbose {
        return Ok(());
    }
    let mut at = 8;
    for _ in 0..records {
        if length < at + 8 {
            put!(line, " [invalid number of groups]");
            return Ok(());
        }
        put!(line, " [gaddr {}", bytes.ipv4(at + 4)?);
        let kind = bytes.u8(at)?;
        put!(line, " {}", name_or(RECORDS, kind, format_args!(" [v3-report-#{kind}]")));
        let sources = usize::from(bytes.u16(at + 2)?);
        at += 8 + sources * 4;
        if length < at {
            put!(line, " [invalid number of sources {sources}]");
            return Ok(());
        }
        put!(line, ", {sources} source(s)]");
    }
    Ok(())
}
