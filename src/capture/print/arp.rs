//! ARP and its relatives (RFC 826, RFC 903, RFC 2390).

use super::bytes::{Bytes, Printed, Truncated};
use super::ether;
use super::line::{Line, put};
use super::text::{Colons, Names, name_or};
use crate::wire::ethernet;

/// Trailer encapsulation (RFC 893): its addresses are IPv4's.
const TRAIL: u16 = 0x1000;

const OPERATIONS: Names = &[
    (1, "Request"),
    (2, "Reply"),
    (3, "Reverse Request"),
    (4, "Reverse Reply"),
    (8, "Inverse Request"),
    (9, "Inverse Reply"),
    (10, "NACK Reply"),
];

const HARDWARE: Names = &[
    (1, "Ethernet"),
    (6, "TokenRing"),
    (7, "ArcNet"),
    (15, "FrameRelay"),
    (23, "Strip"),
    (24, "IEEE 1394"),
    (19, "ATM"),
    (32, "InfiniBand"),
];

/// The four addresses of a packet; their lengths are fields of it.
struct Addresses<'a> {
    bytes: Bytes<'a>,
    hardware_len: usize,
    protocol_len: usize,
    ip: bool,
}

/// An ARP packet in `length` bytes.
pub(super) fn packet(line: &mut Line<'_>, bytes: Bytes<'_>, length: usize) -> Printed {
    bytes.need(8)?;
    let (hardware, protocol, operation) = (bytes.u16(0)?, bytes.u16(2)?, bytes.u16(6)?);
    let (hardware_len, protocol_len) = (usize::from(bytes.u8(4)?), usize::from(bytes.u8(5)?));
    bytes.need(8 + 2 * hardware_len + 2 * protocol_len)?;
    let ip = matches!(protocol, ethernet::IPV4 | TRAIL);
    if !line.options.link {
        put!(line, "ARP, ");
    }
    let odd = !ip || protocol_len != 4 || hardware_len == 0;
    if odd || line.options.verbose {
        let hardware = name_or(HARDWARE, hardware, format_args!("Unknown Hardware ({hardware})"));
        let protocol = name_or(ether::TYPES, protocol, format_args!("Unknown Protocol (0x{protocol:04x})"));
        put!(line, "{hardware} (len {hardware_len}), {protocol} (len {protocol_len})");
    }
    if line.options.verbose {
        put!(line, ", ");
    }
    if !odd || line.options.verbose {
        put!(line, "{} ", name_or(OPERATIONS, operation, format_args!("Unknown ({operation})")));
        let addresses = Addresses { bytes, hardware_len, protocol_len, ip };
        if !addresses.put(line, operation)? {
            line.dump(bytes.all(), "\n\t", true);
            return Ok(());
        }
    }
    put!(line, ", length {length}");
    Ok(())
}

impl Addresses<'_> {
    /// Who asks or tells what; false when the operation is not known.
    fn put(&self, line: &mut Line<'_>, operation: u16) -> Result<bool, Truncated> {
        match operation {
            1 => {
                put!(line, "who-has {}", self.target_ip()?);
                if self.target()?.iter().any(|&byte| byte != 0) {
                    put!(line, " ({})", link(self.target()?));
                }
                put!(line, " tell {}", self.sender_ip()?);
            }
            2 => put!(line, "{} is-at {}", self.sender_ip()?, link(self.sender()?)),
            3 | 8 => put!(line, "who-is {} tell {}", link(self.target()?), link(self.sender()?)),
            4 => put!(line, "{} at {}", link(self.target()?), self.target_ip()?),
            9 => put!(line, "{} at {}", link(self.sender()?), self.sender_ip()?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn sender(&self) -> Result<&[u8], Truncated> {
        self.bytes.slice(8, self.hardware_len)
    }

    fn target(&self) -> Result<&[u8], Truncated> {
        self.bytes.slice(8 + self.hardware_len + self.protocol_len, self.hardware_len)
    }

    fn sender_ip(&self) -> Result<String, Truncated> {
        self.ip_at(8 + self.hardware_len)
    }

    fn target_ip(&self) -> Result<String, Truncated> {
        self.ip_at(8 + 2 * self.hardware_len + self.protocol_len)
    }

    fn ip_at(&self, at: usize) -> Result<String, Truncated> {
        Ok(match (self.ip, self.protocol_len) {
            (false, _) => "<wrong proto type>".into(),
            (true, 4) => self.bytes.ipv4(at)?.to_string(),
            (true, _) => "<wrong len>".into(),
        })
    }
}

/// A hardware address of any length.
fn link(address: &[u8]) -> String {
    if address.is_empty() { "<empty>".into() } else { Colons(address).to_string() }
}
