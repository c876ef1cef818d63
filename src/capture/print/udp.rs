//! UDP (RFC 768).

use std::net::IpAddr;

use super::bytes::{Bytes, Printed};
use super::dns;
use super::ip::{Datagram, protocol};
use super::line::{Line, put};

const HEADER_LEN: usize = 8;
const DNS: u16 = 53;
const MULTICAST_DNS: u16 = 5353;

/// A UDP datagram in `length` bytes.
pub(super) fn datagram(
    line: &mut Line<'_>,
    around: &Datagram<'_>,
    bytes: Bytes<'_>,
    length: usize,
) -> Printed {
    let (Ok(source), Ok(destination)) = (bytes.u16(0), bytes.u16(2)) else {
        if around.is(protocol::UDP) {
            put!(line, "{}: ", around.addresses());
        }
        line.cut(bytes.truncated());
        return Ok(());
    };
    put!(line, "{}", around.endpoints(protocol::UDP, source, destination));
    if length < HEADER_LEN {
        put!(line, "truncated-udp {length}");
        return Ok(());
    }
    let Ok(said) = bytes.u16(4) else {
        line.cut(bytes.truncated());
        return Ok(());
    };
    // A jumbogram says 0 (RFC 2675 §4).
    let said = if said == 0 && length > usize::from(u16::MAX) { length } else { usize::from(said) };
    if said < HEADER_LEN {
        put!(line, "truncated-udplength {said}");
        return Ok(());
    }
    if !bytes.holds(HEADER_LEN) {
        line.cut(bytes.truncated());
        return Ok(());
    }
    let length = said.min(length);
    checksum(line, around, bytes, length)?;
    let payload = bytes.from(HEADER_LEN);
    if source == DNS || destination == DNS {
        return dns::message(line, payload.of("domain"), length - HEADER_LEN, false);
    }
    if source == MULTICAST_DNS || destination == MULTICAST_DNS {
        return dns::message(line, payload.of("domain"), length - HEADER_LEN, true);
    }
    if said > length && !around.fragmented {
        put!(line, "UDP, bad length {} > {}", said - HEADER_LEN, length - HEADER_LEN);
    } else {
        put!(line, "UDP, length {}", said - HEADER_LEN);
    }
    Ok(())
}

/// With `-v`, whether the checksum is right; tcpdump tells it of IPv6 only, where it is mandatory.
fn checksum(line: &mut Line<'_>, around: &Datagram<'_>, bytes: Bytes<'_>, length: usize) -> Printed {
    if !line.options.verbose || around.fragmented || !matches!(around.source, IpAddr::V6(_)) {
        return Ok(());
    }
    if let Ok(segment) = bytes.slice(0, length) {
        let found = bytes.u16(6)?;
        match around.checksum(protocol::UDP, segment, found) {
            Some(right) => put!(line, "[bad udp cksum 0x{found:04x} -> 0x{right:04x}!] "),
            None => put!(line, "[udp sum ok] "),
        }
    }
    Ok(())
}
