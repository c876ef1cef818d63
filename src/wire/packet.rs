//! An IP packet's headers, of either version, read once.
//!
//! [`Packet::parse`] is the router's front door. What it lets in is a packet whose every header, up to
//! the transport header, lies within the frame; whose lengths agree with each other, with the frame and
//! with the frame's offload header; and which carries nothing that a router has to refuse (RFC 1812
//! §5.2.2). Behind it nobody looks at lengths again: `start`, `transport`, `end` and the positions in
//! [`Quote`] are inside the frame that was parsed, and stay so while it is
//! translated in place.
//!
//! The transport's checksum is not verified: a translation adjusts it (RFC 1624), so that a wrong one
//! stays wrong and its receiver sees it. ICMP errors are the exception, because they act upon other flows.

use super::icmp::{self, Quote};
use super::ip::{Addr, Version, protocol};
use super::tcp::{self, Tcp};
use super::udp::{self, Udp};
use super::virtio::GsoKind;
use super::{Offload, ipv4, ipv6};

/// Why a packet is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IpError {
    /// The IP header is cut off, its version or its lengths are wrong.
    #[error("malformed IP header")]
    Header,
    /// The IPv4 header's checksum is wrong.
    #[error("wrong IPv4 header checksum")]
    Checksum,
    /// IPv4 options or IPv6 extension headers are malformed, or too many.
    #[error("malformed IP options")]
    Options,
    /// It asks for a route of its own.
    #[error("source route")]
    SourceRoute,
    /// The TCP, UDP or ICMP header is cut off, or its lengths are wrong.
    #[error("malformed transport header")]
    Transport,
    /// A fragment that cuts its packet's headers, or could overwrite them (RFC 1858, RFC 3128, RFC 7112).
    #[error("fragment within the headers")]
    Overlap,
    /// The offload header means something else than the packet.
    #[error("offload header contradicts the packet")]
    Offload,
}

/// A packet's place in the one that was cut into fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// What fragments of one packet share; 16 bits in IPv4, 32 in IPv6.
    pub id: u32,
    /// Bytes of the payload before this piece (IPv6: of its fragmentable part); a multiple of 8.
    pub offset: u16,
    /// Whether it is not the last one.
    pub more: bool,
}

/// What is behind the IP headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// RFC 9293.
    Tcp(Tcp),
    /// RFC 768.
    Udp(Udp),
    /// An ICMP message that asks or answers and has an identifier: echo, and in IPv4 timestamp,
    /// information and address mask (RFC 792, RFC 950, RFC 4443 §4).
    Query {
        /// The message's type.
        kind: u8,
        /// What question and answer have in common.
        id: u16,
        /// Whether it asks.
        is_request: bool,
    },
    /// An ICMP message about another packet.
    Error {
        /// The message's type.
        kind: u8,
        /// Its code.
        code: u8,
        /// The next hop's MTU of "fragmentation needed" (RFC 1191 §4) and "packet too big" (RFC 4443 §3.2).
        mtu: u32,
        /// The packet it is about.
        quote: Quote,
    },
    /// Any other ICMP message, such as neighbour discovery's.
    Icmp {
        /// The message's type.
        kind: u8,
        /// Its code.
        code: u8,
    },
    /// Any other protocol: known by its addresses alone.
    Other,
    /// A fragment that is not the first one: the transport header is elsewhere.
    LaterFragment,
}

/// The headers of a packet. Positions are bytes from the start of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub source: Addr,
    /// Destination address; of the same version.
    pub destination: Addr,
    /// Where the IP header is.
    pub start: usize,
    /// Where the transport header is; of a later fragment, its piece of the payload.
    pub transport: usize,
    /// The end of the packet. What follows is padding; a frame with offload to do has none.
    pub end: usize,
    /// Which piece it is; `None` for a whole packet, an IPv6 "atomic" fragment (RFC 6946) included.
    pub fragment: Option<Fragment>,
    /// IP version.
    pub version: Version,
    /// The protocol behind all extension headers. Of an IPv6 later fragment it is only what that
    /// fragment claims, which need not be what the first one says (RFC 8200 §4.5).
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Type of service or traffic class.
    pub tos: u8,
    /// Whether routers must not fragment it; always so in IPv6.
    pub dont_fragment: bool,
    /// Whether the transport checksum holds only the pseudo header's sum so far, because the device that
    /// the frame goes to completes it: then a translation of addresses alone changes it.
    pub partial_checksum: bool,
    /// The transport header.
    pub payload: Transport,
}

/// What the IP headers say; the same for both versions.
#[derive(Clone, Copy)]
pub(super) struct Headers {
    pub(super) source: Addr,
    pub(super) destination: Addr,
    pub(super) protocol: u8,
    pub(super) ttl: u8,
    pub(super) tos: u8,
    pub(super) dont_fragment: bool,
    pub(super) fragment: Option<Fragment>,
    /// From the start of the frame.
    pub(super) transport: usize,
    /// From the start of the frame.
    pub(super) end: usize,
}

impl Packet {
    /// Reads the packet whose IP header, of the version that the EtherType says, is at `start`.
    ///
    /// # Errors
    /// [`IpError`] when it must not go on.
    pub fn parse(frame: &[u8], start: usize, version: Version, offload: &Offload) -> Result<Self, IpError> {
        let mut place = None;
        Self::parse_into(&mut place, frame, start, version, offload).copied()
    }

    /// The same, where the packet is to stay: a move would cost as much as half of the reading.
    ///
    /// # Errors
    /// [`IpError`] when it must not go on.
    #[inline]
    pub fn parse_into<'a>(
        place: &'a mut Option<Self>,
        frame: &[u8],
        start: usize,
        version: Version,
        offload: &Offload,
    ) -> Result<&'a Self, IpError> {
        let headers = match version {
            Version::V4 => ipv4::read(frame, start)?,
            Version::V6 => ipv6::read(frame, start)?,
        };
        Self::behind(place, headers, frame, start, version, offload)
    }

    /// Reads an IPv4 packet that was refused for its options ([`IpError::Options`]), so that its sender can
    /// be told: the packet, and where the malformed option is, in bytes from the start of the IP header.
    #[cold]
    pub fn parse_despite_options(frame: &[u8], start: usize, offload: &Offload) -> Option<(Self, u32)> {
        let (headers, pointer) = ipv4::read_despite_options(frame, start)?;
        let mut packet = None;
        let packet = *Self::behind(&mut packet, headers, frame, start, Version::V4, offload).ok()?;
        // Within a header of 60 bytes.
        Some((packet, pointer as u32))
    }

    /// The packet of these headers, with the transport header behind them. Each common case returns on its
    /// own, so that the packet is built in its place, and not copied there.
    #[inline]
    fn behind<'a>(
        place: &'a mut Option<Self>,
        headers: Headers,
        frame: &[u8],
        start: usize,
        version: Version,
        offload: &Offload,
    ) -> Result<&'a Self, IpError> {
        let bytes = frame.get(headers.transport..headers.end).ok_or(IpError::Header)?;
        if headers.fragment.is_none() && headers.protocol == protocol::TCP {
            let segment = Tcp::parse(bytes).ok_or(IpError::Transport)?;
            let is_partial = headers.is_partial(frame, version, offload, tcp::CHECKSUM)?;
            return Ok(place.insert(headers.packet(start, version, is_partial, Transport::Tcp(segment))));
        }
        if headers.fragment.is_none() && headers.protocol == protocol::UDP {
            let datagram = Udp::parse(bytes).ok_or(IpError::Transport)?;
            let is_partial = headers.is_partial(frame, version, offload, udp::CHECKSUM)?;
            let length = usize::from(datagram.length);
            if length > bytes.len() {
                return Err(IpError::Transport);
            }
            if is_partial && length != bytes.len() {
                return Err(IpError::Offload);
            }
            return Ok(place.insert(headers.packet(start, version, is_partial, Transport::Udp(datagram))));
        }
        Ok(place.insert(headers.less_common(bytes, start, version, offload)?))
    }

    /// Source and destination port; of an ICMP query its identifier twice. `None` when the protocol has
    /// no ports or the packet is a later fragment.
    #[inline]
    pub const fn ports(&self) -> Option<(u16, u16)> {
        match self.payload {
            Transport::Tcp(Tcp { source, destination, .. })
            | Transport::Udp(Udp { source, destination, .. }) => Some((source, destination)),
            Transport::Query { id, .. } => Some((id, id)),
            _ => None,
        }
    }

    /// Bytes of the packet, or of the longest packet that a super-frame is cut into: what an MTU is
    /// compared with.
    #[inline]
    pub fn longest(&self, offload: &Offload) -> usize {
        let whole = self.end - self.start;
        if offload.gso_type == 0 {
            return whole;
        }
        let payload = match self.payload {
            Transport::Tcp(tcp) => tcp.payload as usize,
            Transport::Udp(udp) => usize::from(udp.length) - udp::HEADER_LEN,
            _ => return whole,
        };
        whole - payload + payload.min(usize::from(offload.gso_size))
    }
}

impl Headers {
    /// The packet of these headers.
    #[inline]
    fn packet(&self, start: usize, version: Version, partial_checksum: bool, payload: Transport) -> Packet {
        Packet {
            source: self.source,
            destination: self.destination,
            start,
            transport: self.transport,
            end: self.end,
            fragment: self.fragment,
            version,
            protocol: self.protocol,
            ttl: self.ttl,
            tos: self.tos,
            dont_fragment: self.dont_fragment,
            partial_checksum,
            payload,
        }
    }

    /// Whether the TCP or UDP checksum is partial. The offload header's word is taken only if it is about
    /// this packet: an untrusted sender may ask for a checksum anywhere in the frame, and behind a
    /// translation that would be a checksum of ours.
    #[inline]
    fn is_partial(
        &self,
        frame: &[u8],
        version: Version,
        offload: &Offload,
        checksum: usize,
    ) -> Result<bool, IpError> {
        if offload.is_complete() {
            return Ok(false);
        }
        let is_about_it = offload.needs_checksum()
            && usize::from(offload.csum_start) == self.transport
            && usize::from(offload.csum_offset) == checksum
            && self.end == frame.len();
        let is_right_kind = offload.gso_type == 0
            || match offload.gso() {
                Some(GsoKind::TcpV4) => version == Version::V4 && self.protocol == protocol::TCP,
                Some(GsoKind::TcpV6) => version == Version::V6 && self.protocol == protocol::TCP,
                Some(GsoKind::Udp) => self.protocol == protocol::UDP,
                None => false,
            };
        if is_about_it && is_right_kind { Ok(true) } else { Err(IpError::Offload) }
    }

    /// The packet of these headers, if it is neither a whole TCP nor a whole UDP packet. Of such a one
    /// nothing is left to a device.
    #[cold]
    fn less_common(
        self,
        bytes: &[u8],
        start: usize,
        version: Version,
        offload: &Offload,
    ) -> Result<Packet, IpError> {
        let payload = if self.fragment.is_some() {
            self.fragment_payload(bytes, version)?
        } else if is_icmp(self.protocol, version) {
            if !icmp::has_right_checksum(bytes, version, self.source, self.destination) {
                return Err(IpError::Transport);
            }
            icmp::parse(bytes, self.transport, version).ok_or(IpError::Transport)?
        } else {
            Transport::Other
        };
        if offload.is_complete() {
            Ok(self.packet(start, version, false, payload))
        } else {
            Err(IpError::Offload)
        }
    }

    /// Reads the transport header of a fragment. The first one must hold the whole transport header (RFC 7112, and RFC
    /// 1858 in spirit), and no later one may begin within it: otherwise a filter would judge other ports
    /// or flags than the receiver sees.
    #[cold]
    fn fragment_payload(&self, bytes: &[u8], version: Version) -> Result<Transport, IpError> {
        /// Of TCP's header, without options.
        const SHORTEST: u16 = 20;
        let Some(Fragment { offset, .. }) = self.fragment else { return Err(IpError::Header) };
        if offset != 0 {
            let is_within = self.protocol == protocol::TCP && offset < SHORTEST;
            return if is_within { Err(IpError::Overlap) } else { Ok(Transport::LaterFragment) };
        }
        match self.protocol {
            protocol::TCP => Tcp::parse(bytes).map(Transport::Tcp),
            protocol::UDP => Udp::parse(bytes).map(Transport::Udp),
            protocol if is_icmp(protocol, version) => icmp::parse(bytes, self.transport, version),
            _ => Some(Transport::Other),
        }
        .ok_or(IpError::Overlap)
    }
}

/// Whether a protocol is the version's own ICMP; the other one's is nobody's.
const fn is_icmp(number: u8, version: Version) -> bool {
    match version {
        Version::V4 => number == protocol::ICMP,
        Version::V6 => number == protocol::ICMPV6,
    }
}

#[cfg(test)]
mod tests;
