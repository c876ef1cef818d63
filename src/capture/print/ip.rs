//! IPv4 (RFC 791), and what IPv4 and IPv6 hand their payloads to.

use std::net::IpAddr;

use super::bytes::{Bytes, Printed, Truncated};
use super::line::{Line, put};
use super::text::{Names, V6, flags, name_or};
use super::{icmp, icmp6, igmp, ip_options, ip6, tcp, udp};
use crate::wire::checksum::Sum;

/// Protocol numbers (IANA) that decide what is printed.
pub(super) mod protocol {
    pub(in super::super) const HOP_BY_HOP: u8 = 0;
    pub(in super::super) const ICMP: u8 = 1;
    pub(in super::super) const IGMP: u8 = 2;
    pub(in super::super) const IPV4: u8 = 4;
    pub(in super::super) const TCP: u8 = 6;
    pub(in super::super) const UDP: u8 = 17;
    pub(in super::super) const DCCP: u8 = 33;
    pub(in super::super) const IPV6: u8 = 41;
    pub(in super::super) const ROUTING: u8 = 43;
    pub(in super::super) const FRAGMENT: u8 = 44;
    pub(in super::super) const ICMPV6: u8 = 58;
    pub(in super::super) const NONE: u8 = 59;
    pub(in super::super) const DESTINATION: u8 = 60;
    pub(in super::super) const ND: u8 = 77;
    pub(in super::super) const SCTP: u8 = 132;
}

/// The words for protocol numbers.
pub(super) const PROTOCOLS: Names = &[
    (0, "Options"),
    (1, "ICMP"),
    (2, "IGMP"),
    (4, "IPIP"),
    (6, "TCP"),
    (8, "EGP"),
    (9, "IGRP"),
    (17, "UDP"),
    (33, "DCCP"),
    (41, "IPv6"),
    (43, "Routing"),
    (44, "Fragment"),
    (46, "RSVP"),
    (47, "GRE"),
    (50, "ESP"),
    (51, "AH"),
    (55, "Mobile IP"),
    (58, "ICMPv6"),
    (62, "Mobile IP (old)"),
    (88, "EIGRP"),
    (89, "OSPF"),
    (103, "PIM"),
    (108, "Compressed IP"),
    (112, "VRRP"),
    (113, "PGM"),
    (132, "SCTP"),
    (135, "Mobility"),
    (143, "Ethernet"),
];

const FRAGMENT_FLAGS: Names = &[(0x2000, "+"), (0x4000, "DF"), (0x8000, "rsvd")];
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// What the network layer tells the transport layer about a datagram.
#[derive(Clone, Copy)]
pub(super) struct Datagram<'a> {
    /// From the network header on, to where the datagram or the capture ends.
    pub(super) header: Bytes<'a>,
    pub(super) source: IpAddr,
    /// Where the header says it goes; on its way along a source route that is the next stop.
    pub(super) destination: IpAddr,
    /// Where it goes in the end: what transport checksums cover.
    pub(super) last: IpAddr,
    /// The protocol number in the network header itself, before any extension headers.
    pub(super) protocol: u8,
    /// Whether there are other fragments of it.
    pub(super) fragmented: bool,
}

impl Datagram<'_> {
    /// Whether the payload at hand is announced by the network header itself.
    pub(super) const fn is(&self, protocol: u8) -> bool {
        self.protocol == protocol
    }

    /// `source > destination`.
    pub(super) fn addresses(&self) -> String {
        match (self.source, self.destination) {
            (IpAddr::V6(source), IpAddr::V6(destination)) => format!("{} > {}", V6(source), V6(destination)),
            (source, destination) => format!("{source} > {destination}"),
        }
    }

    /// `source.port > destination.port: `, without the addresses when other headers stand between.
    pub(super) fn endpoints(&self, protocol: u8, source: u16, destination: u16) -> String {
        match (self.source, self.destination) {
            _ if self.protocol != protocol => format!("{source} > {destination}: "),
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                format!("{}.{source} > {}.{destination}: ", V6(from), V6(to))
            }
            (from, to) => format!("{from}.{source} > {to}.{destination}: "),
        }
    }

    /// What the checksum field holding `found` should hold, when that is something else. `segment` is
    /// all that the checksum covers.
    pub(super) fn checksum(&self, protocol: u8, segment: &[u8], found: u16) -> Option<u16> {
        let sum = Sum::default();
        let sum = match (self.source, self.last) {
            (IpAddr::V4(source), IpAddr::V4(last)) => {
                // The length field of the pseudo header has 16 bits.
                sum.add_ipv4(source, last, protocol, segment.len() as u16)
            }
            (IpAddr::V6(source), IpAddr::V6(last)) => {
                // A segment is shorter than 2^32 bytes: it was captured.
                sum.add_ipv6(source, last, protocol, segment.len() as u32)
            }
            _ => sum,
        };
        should_be(found, sum.add(segment))
    }
}

/// What a checksum field holding `found` should hold, if `sum`, taken over everything with that field,
/// does not come out as zero.
pub(super) fn should_be(found: u16, sum: Sum) -> Option<u16> {
    let sum = u16::from_be_bytes(sum.finish());
    let (added, carry) = found.overflowing_add(sum);
    (sum != 0).then(|| added.wrapping_add(u16::from(carry)))
}

/// An IPv4 datagram in `length` bytes.
pub(super) fn datagram(line: &mut Line<'_>, bytes: Bytes<'_>, length: usize) -> Printed {
    if !line.nest() {
        return Ok(());
    }
    let version = bytes.u8(0)? >> 4;
    if version != 4 {
        match version {
            6 => put!(line, "IP6, wrong link-layer encapsulation"),
            _ => put!(line, "IP{version}"),
        }
        line.invalid();
        return Ok(());
    }
    if !line.options.link {
        put!(line, "IP ");
    }
    if !bytes.holds(20) {
        line.cut(bytes.truncated());
        return Ok(());
    }
    if length < 20 {
        put!(line, "truncated-ip {length}");
        return Ok(());
    }
    let header_len = usize::from(bytes.u8(0)? & 0x0f) * 4;
    if header_len < 20 {
        put!(line, "bad-hlen {header_len}");
        return Ok(());
    }
    let total = usize::from(bytes.u16(2)?);
    if length < total {
        put!(line, "truncated-ip - {} bytes missing! ", total - length);
    }
    if total < header_len {
        put!(line, "bad-len {total}");
        return Ok(());
    }
    body(line, bytes.upto(total), header_len, total)
}

/// The rest of a datagram whose lengths fit together.
fn body(line: &mut Line<'_>, bytes: Bytes<'_>, header_len: usize, total: usize) -> Printed {
    let fragment = bytes.u16(6)?;
    let datagram = Datagram {
        header: bytes,
        source: bytes.ipv4(12)?.into(),
        destination: bytes.ipv4(16)?.into(),
        last: ip_options::last(bytes, header_len)?.into(),
        protocol: bytes.u8(9)?,
        fragmented: fragment & MORE_FRAGMENTS != 0,
    };
    if line.options.verbose {
        let options_cut = verbose(line, bytes, header_len, total)?;
        put!(line, ")\n    ");
        if options_cut {
            put!(line, "{}: ", datagram.addresses());
            line.cut(bytes.truncated());
            return Ok(());
        }
    }
    if fragment & OFFSET != 0 {
        put!(line, "{}: ip-proto-{}", datagram.addresses(), datagram.protocol);
        return Ok(());
    }
    if !matches!(datagram.protocol, protocol::TCP | protocol::UDP | protocol::SCTP | protocol::DCCP) {
        put!(line, "{}: ", datagram.addresses());
    }
    if !bytes.holds(header_len) {
        put!(line, " [remaining caplen({}) < header length({header_len})]", bytes.len());
        return Err(bytes.truncated());
    }
    payload(line, &datagram, datagram.protocol, bytes.from(header_len), total - header_len)
}

/// The fields of the header. True when the options reach past the capture.
fn verbose(
    line: &mut Line<'_>,
    bytes: Bytes<'_>,
    header_len: usize,
    total: usize,
) -> Result<bool, Truncated> {
    let (tos, ttl, protocol, fragment) = (bytes.u8(1)?, bytes.u8(8)?, bytes.u8(9)?, bytes.u16(6)?);
    let ecn = [",", ",ECT(1)", ",ECT(0)", ",CE"][usize::from(tos & 3)];
    put!(line, "(tos 0x{tos:x}{}", if tos & 3 == 0 { "" } else { ecn });
    if ttl != 0 {
        put!(line, ", ttl {ttl}");
    }
    let set = flags(FRAGMENT_FLAGS, fragment, ", ");
    put!(line, ", id {}, offset {}, flags [{set}]", bytes.u16(4)?, (fragment & OFFSET) * 8);
    put!(
        line,
        ", proto {} ({protocol}), length {total}",
        name_or(PROTOCOLS, protocol, format_args!("unknown"))
    );
    let mut options_cut = false;
    if header_len > 20 {
        put!(line, ", options (");
        options_cut = ip_options::options(line, bytes.from(20), header_len - 20)?;
        put!(line, "{})", if options_cut { " [truncated-option]" } else { "" });
    }
    if let Ok(header) = bytes.slice(0, header_len) {
        let found = bytes.u16(10)?;
        if let Some(right) = should_be(found, Sum::default().add(header)) {
            put!(line, ", bad cksum {found:x} (->{right:x})!");
        }
    }
    Ok(options_cut)
}

/// What `protocol` announces, in `length` bytes behind the network headers.
pub(super) fn payload(
    line: &mut Line<'_>,
    datagram: &Datagram<'_>,
    protocol: u8,
    bytes: Bytes<'_>,
    length: usize,
) -> Printed {
    let v4 = datagram.source.is_ipv4();
    match protocol {
        protocol::TCP => tcp::segment(line, datagram, bytes.of("tcp"), length),
        protocol::UDP => udp::datagram(line, datagram, bytes.of("udp"), length),
        protocol::ICMP if v4 => icmp::message(line, datagram, bytes.of("icmp"), length),
        protocol::ICMPV6 if !v4 => icmp6::message(line, datagram, bytes.of("icmp6"), length),
        protocol::IGMP if v4 => igmp::message(line, bytes.of("igmp"), length),
        protocol::ICMP | protocol::IGMP | protocol::ICMPV6 => {
            let other = if v4 { "IPv6" } else { "IPv4" };
            put!(line, "[{} requires {other}]", name_or(PROTOCOLS, protocol, format_args!("unknown")));
            line.invalid();
            Ok(())
        }
        protocol::IPV4 => self::datagram(line, bytes.of("ip"), length),
        protocol::IPV6 => ip6::datagram(line, bytes.of("ip6"), length),
        protocol::NONE => {
            put!(line, "no next header");
            Ok(())
        }
        protocol::ND => {
            put!(line, " nd {length}");
            Ok(())
        }
        _ => {
            put!(line, " ip-proto-{protocol} {length}");
            Ok(())
        }
    }
}
