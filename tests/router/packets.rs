//! Packets to send and to expect. A test describes a packet; etherparse writes it, with every checksum computed
//! anew, so that what the switch rewrote in place is compared with what it should be, byte by byte.

use std::net::IpAddr;

use etherparse::{
    EtherType, Ethernet2Header, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpNumber, Ipv4Header,
    Ipv6FlowLabel, Ipv6Header, TcpHeader, UdpHeader,
};
use tapswitch::dataplane::Frame;
use tapswitch::wire::ip::Version;
use tapswitch::wire::{MacAddr, Offload};

use crate::common::lab::Sent;
use crate::world::Party;

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;

/// What is behind the IP header.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Body {
    Udp { ports: (u16, u16), checksum: bool, data: Vec<u8> },
    Tcp { ports: (u16, u16), seq: u32, ack: u32, flags: u8, window: u16, options: Vec<u8>, data: Vec<u8> },
    Icmp { kind: u8, code: u8, rest: [u8; 4], data: Vec<u8> },
    Other { protocol: u8, data: Vec<u8> },
}

/// A packet in an Ethernet frame.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Packet {
    pub(crate) macs: (MacAddr, MacAddr),
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
    pub(crate) id: u16,
    pub(crate) dont_fragment: bool,
    pub(crate) options: Vec<u8>,
    pub(crate) body: Body,
}

/// From one party to another, by the sender's gateway.
fn packet(version: Version, from: Party, to: Party, body: Body) -> Packet {
    Packet {
        macs: (from.mac, from.gateway),
        source: from.ip(version),
        destination: to.ip(version),
        ttl: 64,
        tos: 0,
        id: 7,
        dont_fragment: true,
        options: Vec::new(),
        body,
    }
}

pub(crate) fn udp(version: Version, from: Party, to: Party, ports: (u16, u16)) -> Packet {
    packet(version, from, to, Body::Udp { ports, checksum: true, data: b"hello".to_vec() })
}

/// A TCP segment; numbers are `(seq, ack)`.
pub(crate) fn tcp(
    version: Version,
    from: Party,
    to: Party,
    ports: (u16, u16),
    flags: u8,
    (seq, ack): (u32, u32),
) -> Packet {
    let (options, data) = (Vec::new(), Vec::new());
    packet(version, from, to, Body::Tcp { ports, seq, ack, flags, window: 1000, options, data })
}

/// An echo request, or the reply to one.
pub(crate) fn echo(version: Version, from: Party, to: Party, id: u16, is_request: bool) -> Packet {
    let kind = match (version, is_request) {
        (Version::V4, true) => 8,
        (Version::V4, false) => 0,
        (Version::V6, true) => 128,
        (Version::V6, false) => 129,
    };
    let [high, low] = id.to_be_bytes();
    icmp(version, from, to, (kind, 0), [high, low, 0, 1], b"ping".to_vec())
}

pub(crate) fn icmp(
    version: Version,
    from: Party,
    to: Party,
    (kind, code): (u8, u8),
    rest: [u8; 4],
    data: Vec<u8>,
) -> Packet {
    packet(version, from, to, Body::Icmp { kind, code, rest, data })
}

pub(crate) fn other(version: Version, from: Party, to: Party, protocol: u8) -> Packet {
    packet(version, from, to, Body::Other { protocol, data: b"something else".to_vec() })
}

impl Packet {
    pub(crate) fn version(&self) -> Version {
        if self.source.is_ipv4() { Version::V4 } else { Version::V6 }
    }

    /// As it is after a router has sent it to the next party.
    #[must_use]
    pub(crate) fn routed(mut self, to: Party) -> Self {
        self.macs = (to.gateway, to.mac);
        self.ttl -= 1;
        self
    }

    /// With another source.
    #[must_use]
    pub(crate) fn from(mut self, source: impl Into<Place>) -> Self {
        let Place(address, port) = source.into();
        self.source = address.unwrap_or_else(|party| party.ip(self.version()));
        match (&mut self.body, port) {
            (Body::Udp { ports, .. } | Body::Tcp { ports, .. }, Some(port)) => ports.0 = port,
            (Body::Icmp { rest, .. }, Some(port)) => rest[..2].copy_from_slice(&port.to_be_bytes()),
            _ => {}
        }
        self
    }

    /// With another destination.
    #[must_use]
    pub(crate) fn to(mut self, destination: impl Into<Place>) -> Self {
        let Place(address, port) = destination.into();
        self.destination = address.unwrap_or_else(|party| party.ip(self.version()));
        match (&mut self.body, port) {
            (Body::Udp { ports, .. } | Body::Tcp { ports, .. }, Some(port)) => ports.1 = port,
            (Body::Icmp { rest, .. }, Some(port)) => rest[..2].copy_from_slice(&port.to_be_bytes()),
            _ => {}
        }
        self
    }

    #[must_use]
    pub(crate) fn with_ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// With so many bytes of payload, none of them alike.
    #[must_use]
    pub(crate) fn with_payload(self, len: usize) -> Self {
        self.with_data(&(0..len).map(|at| (at % 251) as u8).collect::<Vec<_>>())
    }

    /// With this payload.
    #[must_use]
    pub(crate) fn with_data(mut self, payload: &[u8]) -> Self {
        let (Body::Udp { data, .. }
        | Body::Tcp { data, .. }
        | Body::Icmp { data, .. }
        | Body::Other { data, .. }) = &mut self.body;
        *data = payload.to_vec();
        self
    }

    /// May it be cut on its way? (IPv4)
    #[must_use]
    pub(crate) fn may_be_cut(mut self) -> Self {
        self.dont_fragment = false;
        self
    }

    /// The IP packet.
    pub(crate) fn ip(&self) -> Vec<u8> {
        let body = self.transport();
        let mut bytes = Vec::new();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = Ipv4Header::new(
                    body.len() as u16,
                    self.ttl,
                    IpNumber(self.protocol()),
                    source.octets(),
                    destination.octets(),
                )
                .unwrap();
                header.dscp = (self.tos >> 2).try_into().unwrap();
                header.ecn = (self.tos & 3).try_into().unwrap();
                header.identification = self.id;
                header.dont_fragment = self.dont_fragment;
                header.options = self.options[..].try_into().unwrap();
                header.set_payload_len(body.len()).unwrap();
                header.header_checksum = header.calc_header_checksum();
                header.write_raw(&mut bytes).unwrap();
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let header = Ipv6Header {
                    traffic_class: self.tos,
                    flow_label: Ipv6FlowLabel::ZERO,
                    payload_length: body.len() as u16,
                    next_header: IpNumber(self.protocol()),
                    hop_limit: self.ttl,
                    source: source.octets(),
                    destination: destination.octets(),
                };
                header.write(&mut bytes).unwrap();
            }
            pair => panic!("{pair:?}"),
        }
        bytes.extend(body);
        bytes
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let (source, destination) = self.macs;
        let ether_type = if self.source.is_ipv4() { EtherType::IPV4 } else { EtherType::IPV6 };
        let header = Ethernet2Header { source: source.0, destination: destination.0, ether_type };
        [&header.to_bytes()[..], &self.ip()].concat()
    }

    pub(crate) fn frame(&self) -> Frame {
        Frame::from_bytes(&self.bytes())
    }

    /// The frame, as it leaves by a port.
    pub(crate) fn by(&self, port: u32) -> Sent {
        (port, self.bytes(), Offload::NONE)
    }

    pub(crate) fn protocol(&self) -> u8 {
        match (&self.body, self.version()) {
            (Body::Udp { .. }, _) => 17,
            (Body::Tcp { .. }, _) => 6,
            (Body::Icmp { .. }, Version::V4) => 1,
            (Body::Icmp { .. }, Version::V6) => 58,
            (Body::Other { protocol, .. }, _) => *protocol,
        }
    }

    /// What is behind the IP header.
    pub(crate) fn transport(&self) -> Vec<u8> {
        match &self.body {
            Body::Udp { ports, checksum, data } => {
                let length = 8 + data.len() as u16;
                let mut header =
                    UdpHeader { source_port: ports.0, destination_port: ports.1, length, checksum: 0 };
                if *checksum {
                    header.checksum = match (self.source, self.destination) {
                        (IpAddr::V4(source), IpAddr::V4(destination)) => {
                            header.calc_checksum_ipv4_raw(source.octets(), destination.octets(), data)
                        }
                        (IpAddr::V6(source), IpAddr::V6(destination)) => {
                            header.calc_checksum_ipv6_raw(source.octets(), destination.octets(), data)
                        }
                        pair => panic!("{pair:?}"),
                    }
                    .unwrap();
                }
                [&header.to_bytes()[..], data].concat()
            }
            Body::Tcp { ports, seq, ack, flags, window, options, data } => {
                let mut header = TcpHeader::new(ports.0, ports.1, *seq, *window);
                header.acknowledgment_number = *ack;
                let flag = |bit: u8| flags & bit != 0;
                (header.fin, header.syn, header.rst) = (flag(FIN), flag(SYN), flag(RST));
                (header.psh, header.ack) = (flag(PSH), flag(ACK));
                header.set_options_raw(options).unwrap();
                header.checksum = match (self.source, self.destination) {
                    (IpAddr::V4(source), IpAddr::V4(destination)) => {
                        header.calc_checksum_ipv4_raw(source.octets(), destination.octets(), data)
                    }
                    (IpAddr::V6(source), IpAddr::V6(destination)) => {
                        header.calc_checksum_ipv6_raw(source.octets(), destination.octets(), data)
                    }
                    pair => panic!("{pair:?}"),
                }
                .unwrap();
                [&header.to_bytes()[..], data].concat()
            }
            Body::Icmp { kind, code, rest, data } => self.icmp(*kind, *code, *rest, data),
            Body::Other { data, .. } => data.clone(),
        }
    }

    fn icmp(&self, type_u8: u8, code_u8: u8, bytes5to8: [u8; 4], data: &[u8]) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddr::V4(_), IpAddr::V4(_)) => {
                let unknown = Icmpv4Type::Unknown { type_u8, code_u8, bytes5to8 };
                [&Icmpv4Header::with_checksum(unknown, data).to_bytes()[..], data].concat()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let unknown = Icmpv6Type::Unknown { type_u8, code_u8, bytes5to8 };
                let (source, destination) = (source.octets(), destination.octets());
                let header = Icmpv6Header::with_checksum(unknown, source, destination, data).unwrap();
                [&header.to_bytes()[..], data].concat()
            }
            pair => panic!("{pair:?}"),
        }
    }
}

/// An address or a party, with a port or without.
pub(crate) struct Place(Result<IpAddr, Party>, Option<u16>);

impl From<Party> for Place {
    fn from(party: Party) -> Self {
        Self(Err(party), None)
    }
}

impl From<(Party, u16)> for Place {
    fn from((party, port): (Party, u16)) -> Self {
        Self(Err(party), Some(port))
    }
}

impl From<&str> for Place {
    fn from(address: &str) -> Self {
        Self(Ok(address.parse().unwrap()), None)
    }
}

/// A packet's fragments, none longer than `longest` bytes as an IP packet. IPv6's are known by the packet's `id`.
pub(crate) fn fragments(packet: &Packet, longest: usize) -> Vec<Vec<u8>> {
    let bytes = packet.bytes();
    let headers = if packet.version() == Version::V4 { 20 } else { 48 };
    let (head, body) = bytes.split_at(if headers == 20 { 34 } else { 54 });
    let step = (longest - headers) / 8 * 8;
    let pieces = body.chunks(step).enumerate();
    let last = body.len().div_ceil(step) - 1;
    let fragment = |(number, piece): (usize, &[u8])| {
        let more = u16::from(number < last);
        let mut fragment = head.to_vec();
        if headers == 20 {
            let mut header = Ipv4Header::from_slice(&head[14..]).unwrap().0;
            header.dont_fragment = packet.dont_fragment;
            header.more_fragments = more == 1;
            header.fragment_offset = ((number * step / 8) as u16).try_into().unwrap();
            header.set_payload_len(piece.len()).unwrap();
            header.header_checksum = header.calc_header_checksum();
            fragment.truncate(14);
            header.write_raw(&mut fragment).unwrap();
        } else {
            fragment[18..20].copy_from_slice(&(8 + piece.len() as u16).to_be_bytes());
            fragment[20] = 44;
            fragment.extend([packet.protocol(), 0]);
            fragment.extend(((number * step) as u16 | more).to_be_bytes());
            fragment.extend(u32::from(packet.id).to_be_bytes());
        }
        fragment.extend(piece);
        fragment
    };
    pieces.map(fragment).collect()
}

/// A TCP or UDP packet whose sender has left cutting it into pieces of `piece` bytes, and the checksum, to us.
/// `piece` 0: the checksum alone.
pub(crate) fn super_frame(packet: &Packet, piece: u16) -> (Vec<u8>, Offload) {
    let mut bytes = packet.bytes();
    let version = packet.version();
    let csum_start = if version == Version::V4 { 34 } else { 54 };
    let (csum_offset, headers, kind) = match (&packet.body, version) {
        (Body::Udp { .. }, _) => (6, 8, 5),
        (_, Version::V4) => (16, 20, 1),
        (_, Version::V6) => (16, 20, 4),
    };
    let address = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let length = (bytes.len() - csum_start) as u32;
    let mut sum = length + u32::from(packet.protocol());
    for pair in [address(packet.source), address(packet.destination)].concat().chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let at = csum_start + csum_offset;
    bytes[at..at + 2].copy_from_slice(&(sum as u16).to_be_bytes());
    let (gso_type, hdr_len) = if piece == 0 { (0, 0) } else { (kind, csum_start as u16 + headers) };
    let (csum_start, csum_offset) = (csum_start as u16, csum_offset as u16);
    (bytes, Offload { flags: 1, gso_type, hdr_len, gso_size: piece, csum_start, csum_offset })
}
