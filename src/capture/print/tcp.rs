//! TCP (RFC 9293).

use super::bytes::{Bytes, Printed};
use super::flows::{Direction, Origin};
use super::ip::{Datagram, protocol};
use super::line::{Line, put};
use super::tcp_options::{self, Segment};
use super::text::{Names, Visible, flags};
use super::{dns, text_protocols};

const HEADER_LEN: usize = 20;
/// How much of the data of a reset is shown.
const MAX_RESET_DATA: usize = 30;
const DNS: u16 = 53;
/// The ports of text protocols; the first that is at either end decides.
const TEXT: [u16; 8] = [25, 43, 22, 21, 80, 8080, 554, 8554];

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const URG: u8 = 0x20;
const FLAGS: Names =
    &[(0x01, "F"), (0x02, "S"), (0x04, "R"), (0x08, "P"), (0x10, "."), (0x20, "U"), (0x40, "E"), (0x80, "W")];

/// A TCP segment in `length` bytes.
pub(super) fn segment(
    line: &mut Line<'_>,
    around: &Datagram<'_>,
    bytes: Bytes<'_>,
    length: usize,
) -> Printed {
    let (Ok(source_port), Ok(destination_port)) = (bytes.u16(0), bytes.u16(2)) else {
        put!(line, "{}:", around.addresses());
        line.cut(bytes.truncated());
        return Ok(());
    };
    put!(line, "{}", around.endpoints(protocol::TCP, source_port, destination_port));
    if !bytes.holds(HEADER_LEN) {
        line.cut(bytes.truncated());
        return Ok(());
    }
    let header_len = usize::from(bytes.u8(12)? >> 4) * 4;
    if header_len < HEADER_LEN {
        // tcpdump's arithmetic has 32 bits and no sign.
        let rest = (length as u32).wrapping_sub(header_len as u32);
        put!(line, " tcp {rest} [bad hdr length {header_len} - too short, < {HEADER_LEN}]");
        return Ok(());
    }
    let set = bytes.u8(13)?;
    put!(line, "Flags [{}]", flags(FLAGS, set.into(), ""));
    let direction =
        Direction { source_port, destination_port, source: around.source, destination: around.destination };
    let numbers = Numbers::of(line, bytes, direction, set)?;
    if header_len > length {
        put!(line, " [bad hdr length {header_len} - too long, > {length}]");
        return Ok(());
    }
    checksum(line, around, bytes, length)?;
    let length = length - header_len;
    if length > 0 || set & (SYN | FIN | RST) != 0 {
        put!(line, ", seq {}", numbers.sequence);
        if length > 0 {
            put!(line, ":{}", numbers.sequence.wrapping_add(length as u32));
        }
    }
    if set & ACK != 0 {
        put!(line, ", ack {}", numbers.acknowledgment);
    }
    put!(line, ", win {}", bytes.u16(14)?);
    if set & URG != 0 {
        put!(line, ", urg {}", bytes.u16(18)?);
    }
    if header_len > HEADER_LEN {
        let segment = Segment { base: numbers.base, complete: bytes.holds(header_len + length) };
        if !tcp_options::options(line, bytes.from(HEADER_LEN), header_len - HEADER_LEN, segment)? {
            return Ok(());
        }
    }
    put!(line, ", length {length}");
    if length == 0 {
        return Ok(());
    }
    if !bytes.holds(header_len) {
        put!(line, " [remaining caplen({}) < header length({header_len})]", bytes.len());
        return Err(bytes.truncated());
    }
    payload(line, direction, set, bytes.from(header_len), length)
}

/// The numbers of a segment as they are printed.
struct Numbers {
    sequence: u32,
    acknowledgment: u32,
    /// What selective acknowledgments are counted from.
    base: u32,
}

impl Numbers {
    /// Relative to the beginning of the connection; absolute where we see it for the first time.
    fn of(
        line: &mut Line<'_>,
        bytes: Bytes<'_>,
        direction: Direction,
        set: u8,
    ) -> Result<Self, super::bytes::Truncated> {
        let (sequence, acknowledgment) = (bytes.u32(4)?, bytes.u32(8)?);
        if set & ACK == 0 {
            return Ok(Self { sequence, acknowledgment, base: 0 });
        }
        let first = Origin { sequence, acknowledgment: acknowledgment.wrapping_sub(1) };
        let (origin, known) = line.flows.origin(direction, set & SYN != 0, first);
        let base = origin.acknowledgment;
        Ok(if known {
            Self {
                sequence: sequence.wrapping_sub(origin.sequence),
                acknowledgment: acknowledgment.wrapping_sub(origin.acknowledgment),
                base,
            }
        } else {
            Self { sequence, acknowledgment, base }
        })
    }
}

/// With `-v`, whether the checksum is right.
fn checksum(line: &mut Line<'_>, around: &Datagram<'_>, bytes: Bytes<'_>, length: usize) -> Printed {
    if line.options.verbose
        && !around.fragmented
        && let Ok(segment) = bytes.slice(0, length)
    {
        let found = bytes.u16(16)?;
        put!(line, ", cksum 0x{found:04x}");
        match around.checksum(protocol::TCP, segment, found) {
            Some(right) => put!(line, " (incorrect -> 0x{right:04x})"),
            None => put!(line, " (correct)"),
        }
    }
    Ok(())
}

/// The data of a segment, where its port tells what it is.
fn payload(line: &mut Line<'_>, direction: Direction, set: u8, bytes: Bytes<'_>, length: usize) -> Printed {
    if set & RST != 0 && line.options.verbose {
        let all = if bytes.holds(length) { "RST" } else { "!RST" };
        let more = if length > MAX_RESET_DATA { "+" } else { "" };
        let shown = bytes.upto(length.min(MAX_RESET_DATA)).all();
        put!(line, " [{all}{more} {}]", Visible(shown));
        return Ok(());
    }
    let ports = [direction.source_port, direction.destination_port];
    if let Some(port) = TEXT.iter().find(|port| ports.contains(port)) {
        return text_protocols::segment(line, *port, bytes, length);
    }
    if ports.contains(&DNS) {
        return dns::over_tcp(line, bytes.of("domain"), length);
    }
    Ok(())
}
