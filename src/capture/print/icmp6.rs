//! ICMPv6 (RFC 4443), multicast listener discovery (RFC 2710, RFC 3810), neighbor discovery (RFC 4861).

use super::bytes::{Bytes, Printed, Truncated};
use super::igmp::RECORDS;
use super::ip::{Datagram, protocol};
use super::line::{Line, put};
use super::text::{Names, V6, flags, name_or};
use super::{ip6, nd_options};

/// Where the datagram that an error is about begins, and in it, what is told of it.
const INNER: usize = 8;
const INNER_SOURCE: usize = INNER + 8;
const INNER_DESTINATION: usize = INNER + 24;

const TYPES: Names = &[
    (1, "destination unreachable"),
    (2, "packet too big"),
    (3, "time exceeded in-transit"),
    (4, "parameter problem"),
    (128, "echo request"),
    (129, "echo reply"),
    (130, "multicast listener query"),
    (131, "multicast listener report"),
    (132, "multicast listener done"),
    (133, "router solicitation"),
    (134, "router advertisement"),
    (135, "neighbor solicitation"),
    (136, "neighbor advertisement"),
    (137, "redirect"),
    (138, "router renumbering"),
    (141, "inverse neighbor solicitation"),
    (142, "inverse neighbor advertisement"),
    (143, "multicast listener report v2"),
    (144, "ha discovery request"),
    (145, "ha discovery reply"),
    (146, "mobile router solicitation"),
    (147, "mobile router advertisement"),
    (139, "who-are-you request"),
    (140, "who-are-you reply"),
    (201, "mtrace message"),
    (200, "mtrace response"),
    (155, "RPL"),
];

const UNREACHABLE: Names = &[
    (0, "unreachable route"),
    (1, " unreachable prohibited"),
    (2, "beyond scope"),
    (3, "unreachable address"),
    (4, "unreachable port"),
];

const ROUTER_FLAGS: Names =
    &[(0x80, "managed"), (0x40, "other stateful"), (0x20, "home agent"), (0x02, "ipv6 only")];
const NEIGHBOR_FLAGS: Names = &[(0x80, "router"), (0x40, "solicited"), (0x20, "override")];

/// An ICMPv6 message in `length` bytes.
pub(super) fn message(
    line: &mut Line<'_>,
    datagram: &Datagram<'_>,
    bytes: Bytes<'_>,
    length: usize,
) -> Printed {
    if length == 0 {
        put!(line, "ICMP6, length 0");
        line.invalid();
        return Ok(());
    }
    let verbose = line.options.verbose;
    if verbose
        && !datagram.fragmented
        && let Ok(whole) = bytes.slice(0, length)
    {
        let found = bytes.u16(2)?;
        match datagram.checksum(protocol::ICMPV6, whole, found) {
            Some(right) => put!(line, "[bad icmp6 cksum 0x{found:04x} -> 0x{right:04x}!] "),
            None => put!(line, "[icmp6 sum ok] "),
        }
    }
    let kind = bytes.u8(0)?;
    put!(line, "ICMP6, {}", name_or(TYPES, kind, format_args!("unknown icmp6 type ({kind})")));
    // The length comes first where `-v` has more lines to come, and last where it has not.
    if verbose && matches!(kind, 133..=137 | 145 | 147) {
        put!(line, ", length {length}");
    }
    let code = bytes.u8(1)?;
    let known = match kind {
        1 => unreachable(line, bytes, code, length)?,
        2..=4 | 128 | 129 => error_or_echo(line, bytes, kind, code)?,
        130..=132 | 143 => listener(line, bytes, kind, length)?,
        133..=137 => neighbor(line, bytes, kind, length)?,
        144 | 146 => {
            put!(line, ", id 0x{:04x}", bytes.u16(4)?);
            true
        }
        138..=142 | 145 | 147 | 155 => true,
        _ => {
            put!(line, ", length {length}");
            line.dump(bytes.upto(length).all(), "\n\t", false);
            false
        }
    };
    if known && !verbose {
        put!(line, ", length {length}");
    }
    Ok(())
}

/// Destination unreachable. False when the line ends here.
fn unreachable(line: &mut Line<'_>, bytes: Bytes<'_>, code: u8, length: usize) -> Result<bool, Truncated> {
    put!(line, ", {}", name_or(UNREACHABLE, code, format_args!("unknown unreach code ({code})")));
    match code {
        0 | 1 | 3 => put!(line, " {}", V6(bytes.ipv6(INNER_DESTINATION)?)),
        2 => {
            let (target, source) = (bytes.ipv6(INNER_DESTINATION)?, bytes.ipv6(INNER_SOURCE)?);
            put!(line, " {}, source address {}", V6(target), V6(source));
        }
        4 => {
            let Some((protocol, port)) = upper_layer(bytes.from(INNER)) else {
                line.cut(bytes.truncated());
                return Ok(false);
            };
            let name = if protocol == protocol::TCP { "tcp" } else { "udp" };
            put!(line, ", {} {name} port {port}", V6(bytes.ipv6(INNER_DESTINATION)?));
        }
        _ => {
            line.dump(bytes.upto(length).all(), "\n\t", false);
            return Ok(false);
        }
    }
    Ok(true)
}

/// Protocol and destination port of the datagram an error is about.
fn upper_layer(datagram: Bytes<'_>) -> Option<(u8, u16)> {
    let mut next = datagram.u8(6).ok()?;
    let mut at = ip6::HEADER_LEN;
    loop {
        let header = datagram.from(at);
        match next {
            protocol::TCP | protocol::UDP => return Some((next, header.u16(2).ok()?)),
            protocol::HOP_BY_HOP | protocol::DESTINATION | protocol::ROUTING => {
                at += ip6::header_len(header).ok()?;
            }
            protocol::FRAGMENT if header.u16(2).ok()? & 0xfff8 == 0 => at += 8,
            _ => return None,
        }
        next = header.u8(0).ok()?;
    }
}

/// Packet too big, time exceeded, parameter problem, echo. False when the line ends here.
fn error_or_echo(line: &mut Line<'_>, bytes: Bytes<'_>, kind: u8, code: u8) -> Result<bool, Truncated> {
    match (kind, code) {
        (2, _) => put!(line, ", mtu {}", bytes.u32(4)?),
        (3, 0) => put!(line, " for {}", V6(bytes.ipv6(INNER_DESTINATION)?)),
        (3, 1) => put!(line, " (reassembly)"),
        (3, _) => put!(line, ", unknown code ({code})"),
        (4, _) if !bytes.holds(INNER_DESTINATION + 16) => {
            line.cut(bytes.truncated());
            return Ok(false);
        }
        (4, 0) => put!(line, ", erroneous - octet {}", bytes.u32(4)?),
        (4, 1) => put!(line, ", next header - octet {}", bytes.u32(4)?),
        (4, 2) => put!(line, ", option - octet {}", bytes.u32(4)?),
        (4, 3) => put!(line, ", incomplete header chain - octet {}", bytes.u32(4)?),
        (4, _) => put!(line, ", code-#{code}"),
        _ => put!(line, ", id {}, seq {}", bytes.u16(4)?, bytes.u16(6)?),
    }
    Ok(true)
}

/// Multicast listener discovery. Always true: the line goes on.
fn listener(line: &mut Line<'_>, bytes: Bytes<'_>, kind: u8, length: usize) -> Result<bool, Truncated> {
    match (kind, length) {
        (143, _) => report_v2(line, bytes, length)?,
        (130, 28..) => query_v2(line, bytes, length)?,
        (130, len) if len != 24 => put!(line, " unknown-version (len {length}) "),
        _ if bytes.holds(24) => {
            put!(line, "max resp delay: {} addr: {}", bytes.u16(4)?, V6(bytes.ipv6(8)?));
        }
        _ => {}
    }
    Ok(true)
}

fn query_v2(line: &mut Line<'_>, bytes: Bytes<'_>, length: usize) -> Printed {
    put!(line, " v2");
    let code = u32::from(bytes.u16(4)?);
    if line.options.verbose {
        // Mantissa and exponent from 32768 on (RFC 3810 §5.1.3), and so below from 128 on.
        let delay = if code < 32768 { code } else { (code & 0x0fff | 0x1000) << ((code >> 12 & 7) + 3) };
        put!(line, " [max resp delay={delay}]");
    }
    put!(line, " [gaddr {}", V6(bytes.ipv6(8)?));
    if line.options.verbose {
        let (bits, code) = (bytes.u8(24)?, u32::from(bytes.u8(25)?));
        if bits & 0x08 != 0 {
            put!(line, " sflag");
        }
        if bits & 0x07 != 0 {
            put!(line, " robustness={}", bits & 0x07);
        }
        let interval = if code < 128 { code } else { (code & 0x0f | 0x10) << ((code >> 4 & 7) + 3) };
        put!(line, " qqi={interval}");
    }
    match usize::from(bytes.u16(26)?) {
        0 => {}
        sources if length < 28 + sources * 16 => put!(line, " [invalid number of sources]"),
        sources => put!(line, ", {sources} source(s)"),
    }
    put!(line, "]");
    Ok(())
}

fn report_v2(line: &mut Line<'_>, bytes: Bytes<'_>, length: usize) -> Printed {
    if length < 8 {
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
        if length < at + 20 {
            put!(line, " [invalid number of groups]");
            return Ok(());
        }
        put!(line, " [gaddr {}", V6(bytes.ipv6(at + 4)?));
        let kind = bytes.u8(at)?;
        put!(line, " {}", name_or(RECORDS, kind, format_args!(" [v2-report-#{kind}]")));
        let sources = usize::from(bytes.u16(at + 2)?);
        at += 20 + sources * 16;
        if length < at {
            put!(line, " [invalid number of sources {sources}]");
            return Ok(());
        }
        put!(line, ", {sources} source(s)]");
    }
    Ok(())
}

/// Router and neighbor discovery. False when the options are cut and the line ends here.
fn neighbor(line: &mut Line<'_>, bytes: Bytes<'_>, kind: u8, length: usize) -> Result<bool, Truncated> {
    let verbose = line.options.verbose;
    let fixed = match kind {
        133 => 8,
        134 => {
            if verbose {
                advertisement(line, bytes)?;
            }
            16
        }
        135 => {
            put!(line, ", who has {}", V6(bytes.ipv6(8)?));
            24
        }
        136 => {
            put!(line, ", tgt is {}", V6(bytes.ipv6(8)?));
            if verbose {
                put!(line, ", Flags [{}]", flags(NEIGHBOR_FLAGS, bytes.u8(4)?.into(), ", "));
            }
            24
        }
        _ => {
            put!(line, ", {} to {}", V6(bytes.ipv6(24)?), V6(bytes.ipv6(8)?));
            40
        }
    };
    if verbose && !nd_options::options(line, bytes.from(fixed), length.saturating_sub(fixed))? {
        line.cut(bytes.truncated());
    }
    Ok(true)
}

/// The fields of a router advertisement.
fn advertisement(line: &mut Line<'_>, bytes: Bytes<'_>) -> Printed {
    bytes.need(16)?;
    let bits = bytes.u8(5)?;
    let set = flags(ROUTER_FLAGS, bits.into(), ", ");
    put!(line, "\n\thop limit {}, Flags [{set}], pref {}", bytes.u8(4)?, nd_options::preference(bits));
    put!(line, ", router lifetime {}s, reachable time {}ms", bytes.u16(6)?, bytes.u32(8)?);
    put!(line, ", retrans timer {}ms", bytes.u32(12)?);
    Ok(())
}
