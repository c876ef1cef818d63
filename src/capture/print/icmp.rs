//! ICMP (RFC 792, RFC 1191, RFC 1256).

use super::bytes::{Bytes, Printed, Truncated};
use super::ip::{self, Datagram, should_be};
use super::line::{Line, put};
use super::text::{Names, name_or};
use crate::wire::checksum::Sum;

const UNREACHABLE: u8 = 3;
const SOURCE_QUENCH: u8 = 4;
const REDIRECT: u8 = 5;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;

/// Where the datagram that an error is about begins, and in it, what is told of it.
const INNER: usize = 8;
const INNER_PROTOCOL: usize = INNER + 9;
const INNER_DESTINATION: usize = INNER + 16;

/// Messages of which only the type is told.
const TYPES: Names = &[
    (4, "source quench"),
    (10, "router solicitation"),
    (15, "information request"),
    (16, "information reply"),
    (17, "address mask request"),
];

/// What stands before and behind the address that cannot be reached, by code.
const UNREACHABLE_WORDS: [(&str, &str); 16] = [
    ("net ", " unreachable"),
    ("host ", " unreachable"),
    ("", " protocol"),
    ("", " port"),
    ("", " unreachable - need to frag"),
    ("", " unreachable - source route failed"),
    ("net ", " unreachable - unknown"),
    ("host ", " unreachable - unknown"),
    ("", " unreachable - source host isolated"),
    ("net ", " unreachable - admin prohibited"),
    ("host ", " unreachable - admin prohibited"),
    ("net ", " unreachable - tos prohibited"),
    ("host ", " unreachable - tos prohibited"),
    ("host ", " unreachable - admin prohibited filter"),
    ("host ", " unreachable - host precedence violation"),
    ("host ", " unreachable - precedence cutoff"),
];

/// An ICMP message in `length` bytes.
pub(super) fn message(
    line: &mut Line<'_>,
    datagram: &Datagram<'_>,
    bytes: Bytes<'_>,
    length: usize,
) -> Printed {
    let (kind, code) = (bytes.u8(0)?, bytes.u8(1)?);
    if !bytes.holds(needed(bytes, kind, code)) {
        line.cut(bytes.truncated());
        return Ok(());
    }
    let said = match kind {
        0 | 8 => {
            let which = if kind == 8 { "request" } else { "reply" };
            format!("echo {which}, id {}, seq {}", bytes.u16(4)?, bytes.u16(6)?)
        }
        UNREACHABLE => unreachable(bytes, code)?,
        REDIRECT => redirect(bytes, code)?,
        9 => advertisement(bytes)?,
        TIME_EXCEEDED => match code {
            0 => "time exceeded in-transit".into(),
            1 => "ip reassembly time exceeded".into(),
            _ => format!("time exceeded-#{code}"),
        },
        PARAMETER_PROBLEM if code != 0 => format!("parameter problem - code {code}"),
        PARAMETER_PROBLEM => format!("parameter problem - octet {}", bytes.u8(4)?),
        13 => format!("time stamp query id {} seq {}", bytes.u16(4)?, bytes.u16(6)?),
        14 => timestamps(bytes)?,
        18 => format!("address mask is 0x{:08x}", bytes.u32(8)?),
        _ => name_or(TYPES, kind, format_args!("type-#{kind}")).into_owned(),
    };
    put!(line, "ICMP {said}, length {length}");
    if line.options.verbose {
        if !datagram.fragmented
            && let Ok(whole) = bytes.slice(0, length)
        {
            let found = bytes.u16(2)?;
            if let Some(right) = should_be(found, Sum::default().add(whole)) {
                put!(line, " (wrong icmp cksum {found:x} (->{right:x})!)");
            }
        }
        if matches!(kind, UNREACHABLE | SOURCE_QUENCH | REDIRECT | TIME_EXCEEDED | PARAMETER_PROBLEM) {
            put!(line, "\n\t");
            let inner = bytes.from(INNER);
            let inner = inner.upto(inner.u16(2)?.into());
            // Its length says even where to stop reading its length.
            let inner_len = inner.u16(2)?.into();
            ip::datagram(line, inner.of("ip"), inner_len)?;
        }
        if matches!(kind, UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM) {
            extension(line, bytes, length)?;
        }
    }
    Ok(())
}

/// How many bytes must have been captured for anything to be said about a message.
fn needed(bytes: Bytes<'_>, kind: u8, code: u8) -> usize {
    match (kind, code, bytes.u8(4), bytes.u8(5)) {
        (UNREACHABLE, 3, ..) => INNER_PROTOCOL + 1,
        (9, _, Ok(count), Ok(2)) => 8 + usize::from(count) * 8,
        (9, ..) => 8,
        (TIME_EXCEEDED, ..) => INNER_DESTINATION + 4,
        (14, ..) => 20,
        _ => 0,
    }
}

/// What may stand behind the datagram that an error is about (RFC 4884), without its objects.
fn extension(line: &mut Line<'_>, bytes: Bytes<'_>, length: usize) -> Printed {
    const AT: usize = 136;
    if length <= AT {
        return Ok(());
    }
    if !bytes.holds(AT + 5) {
        line.cut(bytes.truncated());
        return Ok(());
    }
    let len = length - AT;
    let wrong = bytes.slice(AT, len).map(|all| should_be(0, Sum::default().add(all)).is_some());
    // Where no length is given, only a right checksum tells that there is one.
    if bytes.u8(5)? == 0 && wrong == Ok(true) {
        return Ok(());
    }
    let version = bytes.u8(AT)? >> 4;
    put!(line, "\n\tICMP Multi-Part extension v{version}");
    match wrong {
        _ if version != 2 => put!(line, " packet not supported"),
        Ok(wrong) => {
            let wrong = if wrong { "in" } else { "" };
            put!(line, ", checksum 0x{:04x} ({wrong}correct), length {len}", bytes.u16(AT + 2)?);
        }
        Err(_) => {}
    }
    Ok(())
}

fn unreachable(bytes: Bytes<'_>, code: u8) -> Result<String, Truncated> {
    if code == 3 {
        return unreachable_port(bytes);
    }
    let target = bytes.ipv4(INNER_DESTINATION)?;
    let Some((before, behind)) = UNREACHABLE_WORDS.get(usize::from(code)) else {
        return Ok(format!("{target} unreachable - #{code}"));
    };
    let more = match code {
        2 => format!(" {} unreachable", bytes.u8(INNER_PROTOCOL)?),
        4 if bytes.u16(6)? != 0 => format!(" (mtu {})", bytes.u16(6)?),
        _ => String::new(),
    };
    Ok(format!("{before}{target}{behind}{more}"))
}

fn unreachable_port(bytes: Bytes<'_>) -> Result<String, Truncated> {
    let inner_header = usize::from(bytes.u8(INNER)? & 0x0f) * 4;
    let protocol = bytes.u8(INNER_PROTOCOL)?;
    let port = bytes.u16(INNER + inner_header + 2)?;
    let target = bytes.ipv4(INNER_DESTINATION)?;
    Ok(match protocol {
        ip::protocol::TCP => format!("{target} tcp port {port} unreachable"),
        ip::protocol::UDP => format!("{target} udp port {port} unreachable"),
        _ => format!("{target} protocol {protocol} port {port} unreachable"),
    })
}

fn redirect(bytes: Bytes<'_>, code: u8) -> Result<String, Truncated> {
    let (target, gateway) = (bytes.ipv4(INNER_DESTINATION)?, bytes.ipv4(4)?);
    Ok(match code {
        0 => format!("redirect {target} to net {gateway}"),
        1 => format!("redirect {target} to host {gateway}"),
        2 => format!("redirect-tos {target} to net {gateway}"),
        3 => format!("redirect-tos {target} to host {gateway}"),
        _ => format!("redirect-#{code} {target} to {gateway}"),
    })
}

/// A router advertisement (RFC 1256).
fn advertisement(bytes: Bytes<'_>) -> Result<String, Truncated> {
    let (count, size, seconds) = (bytes.u8(4)?, bytes.u8(5)?, bytes.u16(6)?);
    let lifetime = match seconds {
        0..60 => format!("{seconds}"),
        60..3600 => format!("{}:{:02}", seconds / 60, seconds % 60),
        3600.. => format!("{}:{:02}:{:02}", seconds / 3600, seconds % 3600 / 60, seconds % 60),
    };
    let mut said = format!("router advertisement lifetime {lifetime} {count}:");
    if size != 2 {
        return Ok(said + &format!(" [size {size}]"));
    }
    for at in (0..usize::from(count)).map(|index| 8 + index * 8) {
        said += &format!(" {{{} {}}}", bytes.ipv4(at)?, bytes.u32(at + 4)?);
    }
    Ok(said)
}

/// A time stamp reply.
fn timestamps(bytes: Bytes<'_>) -> Result<String, Truncated> {
    let at = |at| bytes.u32(at).map(time_of_day);
    let (originate, receive, transmit) = (at(8)?, at(12)?, at(16)?);
    let (id, sequence) = (bytes.u16(4)?, bytes.u16(6)?);
    Ok(format!("time stamp reply id {id} seq {sequence}: org {originate}, recv {receive}, xmit {transmit}"))
}

/// Milliseconds since midnight.
fn time_of_day(ms: u32) -> String {
    let s = ms / 1000;
    format!("{:02}:{:02}:{:02}.{:03}", s / 3600, s / 60 % 60, s % 60, ms % 1000)
}
