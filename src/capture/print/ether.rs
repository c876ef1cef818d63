//! Ethernet: MAC addresses, VLAN tags, lengths and types (IEEE 802.3 §3.2, IEEE 802.1Q §9).

use super::bytes::{Bytes, Printed, Truncated};
use super::line::{Line, put};
use super::llc::{self, Stations};
use super::text::{Names, name};
use super::{arp, ip, ip6};
use crate::wire::ethernet;

/// Up to here the field behind the addresses is a length (IEEE 802.3 §3.2.6).
const MAX_LENGTH: u16 = 1500;
/// A jumbo frame with an LLC header.
const JUMBO: u16 = 0x8870;
/// Reverse ARP (RFC 903).
const REVERSE_ARP: u16 = 0x8035;

/// The words for EtherTypes.
pub(super) const TYPES: Names = &[
    (ethernet::IPV4, "IPv4"),
    (0x8847, "MPLS unicast"),
    (0x8848, "MPLS multicast"),
    (ethernet::IPV6, "IPv6"),
    (ethernet::VLAN, "802.1Q"),
    (0x9100, "802.1Q-9100"),
    (ethernet::QINQ, "802.1Q-QinQ"),
    (0x9200, "802.1Q-9200"),
    (0x88e5, "802.1AE MACsec"),
    (0x0200, "PUP"),
    (ethernet::ARP, "ARP"),
    (REVERSE_ARP, "Reverse ARP"),
    (0x0600, "NS"),
    (0x0500, "Sprite"),
    (0x1000, "Trail"),
    (0x6001, "MOP DL"),
    (0x6002, "MOP RC"),
    (0x6003, "DN"),
    (0x6004, "LAT"),
    (0x6007, "SCA"),
    (0x6558, "TEB"),
    (0x8038, "Lanbridge"),
    (0x803c, "DEC DNS"),
    (0x803e, "DEC DTS"),
    (0x805b, "VEXP"),
    (0x805c, "VPROD"),
    (0x809b, "Appletalk"),
    (0x80f3, "Appletalk ARP"),
    (0x8137, "IPX"),
    (0x880b, "PPP"),
    (0x8808, "MPCP"),
    (0x8809, "Slow Protocols"),
    (0x8863, "PPPoE D"),
    (0x8864, "PPPoE S"),
    (0x888e, "EAPOL"),
    (0x8899, "Realtek protocols"),
    (0x886f, "MS NLB heartbeat"),
    (JUMBO, "Jumbo"),
    (0x894f, "NSH"),
    (0x9000, "Loopback"),
    (0xfefe, "OSI"),
    (0x00fe, "GRE-OSI"),
    (0xabcd, "CFM (old)"),
    (0x8902, "CFM"),
    (0x893a, "IEEE1905.1"),
    (0x88cc, "LLDP"),
    (0x88ca, "TIPC"),
    (0x0707, "GeoNet (old)"),
    (0x8947, "GeoNet"),
    (0x1111, "CALM FAST"),
    (0x88a2, "AoE"),
    (0x88f7, "PTP"),
    (0xd28b, "Arista Vendor Specific Protocol"),
];

/// A frame of `length` bytes on the wire. Returns the length of its link-layer headers.
pub(super) fn frame(line: &mut Line<'_>, bytes: Bytes<'_>, length: usize) -> Result<usize, Truncated> {
    if !bytes.holds(ethernet::HEADER_LEN) {
        line.cut(bytes.truncated());
        return Ok(bytes.len());
    }
    if line.options.link {
        addresses(line, bytes)?;
    }
    let mut kind = bytes.u16(12)?;
    let mut header = ethernet::HEADER_LEN;
    let mut length_said = false;
    while matches!(kind, ethernet::VLAN | ethernet::QINQ | 0x9100 | 0x9200) {
        let tag = bytes.from(header).of("vlan");
        if !tag.holds(ethernet::TAG_LEN) {
            line.cut(tag.truncated());
            return Ok(bytes.len());
        }
        if line.options.link {
            type_and_length(line, kind, length, &mut length_said);
            let tci = tag.u16(0)?;
            let dei = if tci & 0x1000 != 0 { ", DEI" } else { "" };
            put!(line, "vlan {}, p {}{dei}, ", tci & 0xfff, tci >> 13);
        }
        kind = tag.u16(2)?;
        header += ethernet::TAG_LEN;
    }
    let rest = length - header;
    let payload = bytes.from(header);
    let stations = Stations { source: bytes.mac(6)?, destination: bytes.mac(0)? };
    if kind <= MAX_LENGTH {
        let rest = rest.min(kind.into());
        if line.options.link {
            put!(line, "802.3");
            if !length_said {
                put!(line, ", length {rest}: ");
            }
        }
        return Ok(header + llc::frame(line, payload.upto(rest).of("llc"), rest, stations)?);
    }
    if kind == JUMBO {
        return Ok(header + llc::frame(line, payload.of("llc"), rest, stations)?);
    }
    if line.options.link {
        type_and_length(line, kind, length, &mut length_said);
    }
    if !self::payload(line, kind, payload, rest)? {
        if !line.options.link {
            addresses(line, bytes)?;
            type_and_length(line, kind, length, &mut false);
        }
        line.unknown(payload);
    }
    Ok(header)
}

/// `source > destination, `
fn addresses(line: &mut Line<'_>, bytes: Bytes<'_>) -> Printed {
    put!(line, "{} > {}, ", bytes.mac(6)?, bytes.mac(0)?);
    Ok(())
}

/// The EtherType and, behind the first of them, the length of the whole frame.
fn type_and_length(line: &mut Line<'_>, kind: u16, length: usize, said: &mut bool) {
    put!(line, "ethertype {} (0x{kind:04x})", name(TYPES, kind).unwrap_or("Unknown"));
    if std::mem::replace(said, true) {
        put!(line, ", ");
    } else {
        put!(line, ", length {length}: ");
    }
}

/// What the EtherType `kind` announces; false when nobody knows it.
pub(super) fn payload(
    line: &mut Line<'_>,
    kind: u16,
    bytes: Bytes<'_>,
    length: usize,
) -> Result<bool, Truncated> {
    match kind {
        ethernet::IPV4 => ip::datagram(line, bytes.of("ip"), length)?,
        ethernet::IPV6 => ip6::datagram(line, bytes.of("ip6"), length)?,
        ethernet::ARP | REVERSE_ARP => arp::packet(line, bytes.of("arp"), length)?,
        _ => return Ok(false),
    }
    Ok(true)
}
