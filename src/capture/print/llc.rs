//! What stands behind an 802.3 length: LLC and SNAP (IEEE 802.2, IEEE 802).

use super::bytes::{Bytes, Truncated};
use super::line::{Line, put};
use super::text::{Names, name, name_or};
use super::{ether, ip, stp};
use crate::wire::MacAddr;

const POINTS: Names = &[
    (0x00, "Null"),
    (0xff, "Global"),
    (0x02, "802.1B I"),
    (0x03, "802.1B G"),
    (0x06, "IP"),
    (0x04, "SNA"),
    (0x0e, "ProWay NM"),
    (0x42, "STP"),
    (0x4e, "RS511"),
    (0x7e, "ISO8208"),
    (0x8e, "ProWay"),
    (0xaa, "SNAP"),
    (0xe0, "IPX"),
    (0xf0, "NetBeui"),
    (0xfe, "OSI"),
];
const IP: u8 = 0x06;
const STP: u8 = 0x42;
const SNAP: u8 = 0xaa;

/// The low bits of both points: a group is addressed; this is a response.
const GROUP: u8 = 1;
const RESPONSE: u8 = 1;

const UNNUMBERED_INFORMATION: u16 = 0x03;
const XID: u16 = 0xaf;
const COMMANDS: Names = &[
    (0x03, "ui"),
    (0xe3, "test"),
    (0xaf, "xid"),
    (0x63, "ua"),
    (0x43, "disc"),
    (0x0f, "dm"),
    (0x6f, "sabme"),
    (0x87, "frmr"),
];
const SUPERVISORY: [&str; 4] = ["Receiver Ready", "Receiver not Ready", "Reject", "?"];

/// Those whose protocols are seen behind SNAP headers.
const ORGANIZATIONS: &[(u32, &str)] = &[
    (ENCAPSULATED, "Ethernet"),
    (CISCO, "Cisco"),
    (CISCO_BRIDGED, "Cisco bridged"),
    (0x00_80c2, "Ethernet bridged"),
    (APPLETALK, "Appletalk"),
];
const ENCAPSULATED: u32 = 0;
const CISCO_BRIDGED: u32 = 0x00_00f8;
const APPLETALK: u32 = 0x08_0007;
const CISCO: u32 = 0x00_000c;
const CISCO_PROTOCOLS: Names = &[
    (0x2000, "CDP"),
    (0x2003, "VTP"),
    (0x2004, "DTP"),
    (0x0111, "UDLD"),
    (0x010b, "PVST"),
    (0x010c, "VLAN Bridge"),
];

/// The MAC addresses around an LLC header.
#[derive(Clone, Copy)]
pub(super) struct Stations {
    pub(super) source: MacAddr,
    pub(super) destination: MacAddr,
}

/// An LLC header in `length` bytes. Returns the length of the link-layer headers it accounts for.
pub(super) fn frame(
    line: &mut Line<'_>,
    bytes: Bytes<'_>,
    length: usize,
    stations: Stations,
) -> Result<usize, Truncated> {
    let unnumbered = bytes.u8(2).is_ok_and(|control| control & 3 == 3);
    let header = if unnumbered { 3 } else { 4 };
    if bytes.len() < header || length < header {
        line.cut(bytes.truncated());
        line.dump(bytes.all(), "\n\t", true);
        return Ok(bytes.len().min(length));
    }
    let (destination_field, source_field) = (bytes.u8(0)?, bytes.u8(1)?);
    // Two bytes are least significant byte first.
    let control = if unnumbered { bytes.u8(2)?.into() } else { bytes.u16(2)?.swap_bytes() };
    let (destination, source) = (destination_field & !GROUP, source_field & !RESPONSE);
    if line.options.link {
        let point = |point: u8| name(POINTS, point).unwrap_or("Unknown");
        let group = if destination_field & GROUP != 0 { "Group" } else { "Individual" };
        put!(line, "LLC, dsap {} (0x{destination:02x}) {group}", point(destination));
        let response = if source_field & RESPONSE != 0 { "Response" } else { "Command" };
        put!(line, ", ssap {} (0x{source:02x}) {response}, ctrl 0x", point(source));
        if unnumbered {
            put!(line, "{control:02x}: ");
        } else {
            put!(line, "{control:04x}: ");
        }
    }
    let (payload, rest) = (bytes.from(header), length - header);
    match (destination, source, control) {
        (SNAP, SNAP, UNNUMBERED_INFORMATION) => {
            if !snap(line, payload.of("snap"), rest, stations)? {
                line.unknown(bytes);
            }
            return Ok(header + 5);
        }
        (STP, STP, UNNUMBERED_INFORMATION) => stp::message(line, payload.of("stp"), rest)?,
        (IP, IP, UNNUMBERED_INFORMATION) => ip::datagram(line, payload.of("ip"), rest)?,
        _ => {
            if !line.options.link {
                points(line, destination, source, stations);
            }
            let response = source_field & RESPONSE != 0;
            if !control_field(line, payload, control, response, length)? {
                line.unknown(bytes);
            }
        }
    }
    Ok(header)
}

/// Who talks to whom.
fn points(line: &mut Line<'_>, destination: u8, source: u8, stations: Stations) {
    let to = name_or(POINTS, destination, format_args!("Unknown DSAP 0x{destination:02x}"));
    let Stations { source: from_station, destination: to_station } = stations;
    if source == destination {
        put!(line, "{from_station} > {to_station} {to} ");
    } else {
        let from = name_or(POINTS, source, format_args!("Unknown SSAP 0x{source:02x}"));
        put!(line, "{from_station} {from} > {to_station} {to} ");
    }
}

/// What the control field says; false when a payload remains.
fn control_field(
    line: &mut Line<'_>,
    payload: Bytes<'_>,
    control: u16,
    response: bool,
    length: usize,
) -> Result<bool, Truncated> {
    let unnumbered = control & 3 == 3;
    let poll = control & if unnumbered { 0x10 } else { 0x100 } != 0;
    let flag = match (response, poll) {
        (false, false) => "Command",
        (true, false) => "Response",
        (false, true) => "Poll",
        (true, true) => "Final",
    };
    if unnumbered {
        let command = control & 0xef;
        let said = name_or(COMMANDS, command, format_args!("{command:02x}"));
        put!(line, "Unnumbered, {said}, Flags [{flag}], length {length}");
        if command == XID {
            return exchange(line, payload, length - 3);
        }
        return Ok(false);
    }
    let received = control >> 9 & 0x7f;
    if control & 1 != 0 {
        let said = SUPERVISORY[usize::from(control >> 2 & 3)];
        put!(line, "Supervisory, {said}, rcv seq {received}, Flags [{flag}], length {length}");
        return Ok(true);
    }
    let sent = control >> 1 & 0x7f;
    put!(line, "Information, send seq {sent}, rcv seq {received}, Flags [{flag}], length {length}");
    Ok(false)
}

/// An exchange of identities; false when it is not of the basic format.
fn exchange(line: &mut Line<'_>, payload: Bytes<'_>, length: usize) -> Result<bool, Truncated> {
    if length == 0 {
        return Ok(true);
    }
    match payload.u8(0) {
        Err(truncated) => line.cut(truncated),
        Ok(0x81) if payload.len() < 3 || length < 3 => {
            line.cut(payload.truncated());
            line.dump(payload.all(), "\n\t", true);
        }
        Ok(0x81) => put!(line, ": {:02x} {:02x}", payload.u8(1)?, payload.u8(2)?),
        Ok(_) => return Ok(false),
    }
    Ok(true)
}

/// A SNAP header; false when nobody knows what it announces.
fn snap(line: &mut Line<'_>, bytes: Bytes<'_>, length: usize, stations: Stations) -> Result<bool, Truncated> {
    if !bytes.holds(5) || length < 5 {
        line.cut(bytes.truncated());
        return Ok(true);
    }
    let organization = u32::from(bytes.u8(0)?) << 16 | u32::from(bytes.u16(1)?);
    let protocol = bytes.u16(3)?;
    let organization_name =
        ORGANIZATIONS.iter().find(|(known, _)| *known == organization).map_or("Unknown", |(_, name)| *name);
    let names = match organization {
        ENCAPSULATED | CISCO_BRIDGED | APPLETALK => ether::TYPES,
        CISCO => CISCO_PROTOCOLS,
        _ => &[],
    };
    let protocol_name = name(names, protocol).unwrap_or("Unknown");
    let (payload, rest) = (bytes.from(5), length - 5);
    if line.options.link {
        let what = if organization == ENCAPSULATED { "ethertype" } else { "pid" };
        put!(line, "oui {organization_name} (0x{organization:06x}), ");
        put!(line, "{what} {protocol_name} (0x{protocol:04x}), length {rest}: ");
    }
    match organization {
        ENCAPSULATED | CISCO_BRIDGED if ether::payload(line, protocol, payload, rest)? => return Ok(true),
        CISCO if matches!(protocol, 0x010b | 0x010c) => {
            stp::message(line, payload.of("stp"), rest)?;
            return Ok(true);
        }
        _ => {}
    }
    if !line.options.link {
        put!(line, "{} > {} SNAP, ", stations.source, stations.destination);
        if organization == ENCAPSULATED {
            put!(line, "ethertype {protocol_name} (0x{protocol:04x}), length {rest}: ");
        } else {
            put!(line, "oui {organization_name} (0x{organization:06x}), ");
            put!(line, "pid {protocol_name} (0x{protocol:04x}), length {rest}: ");
        }
    }
    Ok(false)
}
