//! Spanning tree messages (IEEE 802.1D-2004 §9): the plain and the rapid ones.

use super::bytes::{Bytes, Printed, Truncated};
use super::line::{Line, put};
use super::text::{Names, flags, name_or};

const VERSIONS: Names = &[(0, "802.1d"), (2, "802.1w"), (3, "802.1s"), (4, "802.1aq")];
const RAPID: u8 = 2;
const TYPES: Names = &[(0x00, "Config"), (0x02, "Rapid STP"), (0x80, "Topology Change")];
const FLAGS: Names = &[
    (0x01, "Topology change"),
    (0x02, "Proposal"),
    (0x10, "Learn"),
    (0x20, "Forward"),
    (0x40, "Agreement"),
    (0x80, "Topology change ACK"),
];
const ROLES: [&str; 4] = ["Unknown", "Alternate", "Root", "Designated"];

/// A BPDU in `length` bytes.
pub(super) fn message(line: &mut Line<'_>, bytes: Bytes<'_>, length: usize) -> Printed {
    if length < 4 {
        line.invalid();
        return Ok(());
    }
    if bytes.u16(0)? != 0 {
        put!(line, "unknown STP version, length {length}");
        return Ok(());
    }
    let version = bytes.u8(2)?;
    put!(line, "STP {}", name_or(VERSIONS, version, format_args!("Unknown STP protocol (0x{version:02x})")));
    if !matches!(version, 0 | 2..=4) {
        return Ok(());
    }
    let kind = bytes.u8(3)?;
    put!(line, ", {}", name_or(TYPES, kind, format_args!("Unknown BPDU Type (0x{kind:02x})")));
    let needs = match (kind, version) {
        (0, _) => 35,
        (2, RAPID) => 36,
        _ => return Ok(()),
    };
    if length < needs {
        line.invalid();
        return Ok(());
    }
    configuration(line, bytes, version, length)
}

fn configuration(line: &mut Line<'_>, bytes: Bytes<'_>, version: u8, length: usize) -> Printed {
    let bits = bytes.u8(4)?;
    put!(line, ", Flags [{}]", flags(FLAGS, bits.into(), ", "));
    put!(line, ", bridge-id {}.{:04x}, length {length}", bridge(bytes, 17)?, bytes.u16(25)?);
    if !line.options.verbose {
        return Ok(());
    }
    let (age, max, hello, delay) = (time(bytes, 27)?, time(bytes, 29)?, time(bytes, 31)?, time(bytes, 33)?);
    put!(line, "\n\tmessage-age {age}, max-age {max}, hello-time {hello}, forwarding-delay {delay}");
    put!(line, "\n\troot-id {}, root-pathcost {}", bridge(bytes, 5)?, bytes.u32(13)?);
    if version == RAPID {
        put!(line, ", port-role {}", ROLES[usize::from(bits >> 2 & 3)]);
    }
    Ok(())
}

/// A bridge's priority and address.
fn bridge(bytes: Bytes<'_>, at: usize) -> Result<String, Truncated> {
    Ok(format!("{:04x}.{}", bytes.u16(at)?, bytes.mac(at + 2)?))
}

/// A time, which is told in units of 1/256 s.
fn time(bytes: Bytes<'_>, at: usize) -> Result<String, Truncated> {
    Ok(format!("{:.2}s", f32::from(bytes.u16(at)?) / 256.0))
}
