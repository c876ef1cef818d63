//! Frames that carry a flow's packets into the switch.

use crate::wire::checksum::Sum;
use crate::wire::emit::pseudo_header;
use crate::wire::ip::{Addr, Version, protocol};
use crate::wire::ndp::Envelope;
use crate::wire::{MacAddr, Offload, ethernet, icmp, tcp, udp};

/// The longest IP packet.
pub const MAX_PACKET: usize = 65_535;
/// TTL of what comes out of the host: as of an ordinary host one hop away.
const TTL: u8 = 64;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
const NEEDS_CHECKSUM: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_TCPV4`, `…_TCPV6`, `…_UDP_L4` (Linux `include/uapi/linux/virtio_net.h`).
const GSO: [u8; 3] = [1, 4, 5];

/// Both ends of a flow, as its packets towards the switch name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ends {
    /// The address outside.
    pub source: Addr,
    /// The address that the switch knows, of the same version.
    pub destination: Addr,
    /// The port outside.
    pub source_port: u16,
    /// The port that the switch knows.
    pub destination_port: u16,
}

/// The MAC addresses of the link between us and the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Ours, the far end's.
    pub own: MacAddr,
    /// The switch's.
    pub switch: MacAddr,
}

/// What a TCP header says beside the ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number, if [`tcp::ACK`] is set.
    pub ack: u32,
    /// Flags.
    pub flags: u8,
    /// Window as it stands in the header.
    pub window: u16,
    /// Of a SYN: the maximum segment size that we can take, and the shift of our windows, if any.
    pub offer: Option<(u16, Option<u8>)>,
}

impl Ends {
    /// Bytes of Ethernet and IP header.
    pub const fn network_len(&self) -> usize {
        Self::network_len_of(self.source.version())
    }

    /// Bytes of Ethernet and IP header, of a version.
    pub const fn network_len_of(version: Version) -> usize {
        ethernet::HEADER_LEN
            + match version {
                Version::V4 => 20,
                Version::V6 => 40,
            }
    }

    /// The most that a TCP segment without options can carry.
    pub const fn most_payload(&self) -> usize {
        // An IPv6 packet could have 40 bytes more; nothing is gained by them.
        MAX_PACKET - 40 - tcp::HEADER_LEN
    }

    /// As MAC and IP addresses.
    pub const fn envelope(&self, link: &Link) -> Envelope {
        Envelope {
            source_mac: link.own,
            destination_mac: link.switch,
            source: self.source,
            destination: self.destination,
        }
    }
}

/// Writes the headers of a TCP segment before its payload of `len` bytes, which is already in `space` behind
/// the headers (at [`Ends::network_len`] and 20 bytes for a segment without options). The segment's length, and
/// what is left to do to it: it is cut into pieces of `mss` bytes when it is longer.
pub fn tcp_segment(
    space: &mut [u8],
    link: &Link,
    ends: &Ends,
    header: &Header,
    len: usize,
    mss: u16,
) -> Option<(usize, Offload)> {
    let start = ends.network_len();
    let mut options = [0; 8];
    let options = offer(header.offer, &mut options);
    let header_len = tcp::HEADER_LEN + options.len();
    let bytes = space.get_mut(start..start + header_len)?;
    bytes[0..2].copy_from_slice(&ends.source_port.to_be_bytes());
    bytes[2..4].copy_from_slice(&ends.destination_port.to_be_bytes());
    bytes[4..8].copy_from_slice(&header.seq.to_be_bytes());
    bytes[8..12].copy_from_slice(&header.ack.to_be_bytes());
    // At most 28 bytes.
    bytes[12] = (header_len as u8 / 4) << 4;
    bytes[13] = header.flags;
    bytes[14..16].copy_from_slice(&header.window.to_be_bytes());
    let sum = pseudo_header(ends.source, ends.destination, protocol::TCP, header_len + len);
    bytes[tcp::CHECKSUM..tcp::CHECKSUM + 2].copy_from_slice(&sum.partial());
    bytes[18..20].copy_from_slice(&[0, 0]);
    bytes[tcp::HEADER_LEN..].copy_from_slice(options);
    ip_headers(space, link, ends, protocol::TCP, header_len + len, true)?;
    let gso = if len > usize::from(mss) { GSO[version_index(ends)] } else { 0 };
    let offload = Offload {
        flags: NEEDS_CHECKSUM,
        gso_type: gso,
        // Below 100.
        hdr_len: if gso == 0 { 0 } else { (start + header_len) as u16 },
        gso_size: if gso == 0 { 0 } else { mss },
        csum_start: start as u16,
        csum_offset: tcp::CHECKSUM as u16,
    };
    Some((start + header_len + len, offload))
}

/// The options of a SYN: the maximum segment size and the window's shift (RFC 9293 §3.2, RFC 7323 §2.2).
fn offer(offer: Option<(u16, Option<u8>)>, options: &mut [u8; 8]) -> &[u8] {
    let Some((mss, shift)) = offer else { return &[] };
    let [high, low] = mss.to_be_bytes();
    *options = [2, 4, high, low, 1, 3, 3, shift.unwrap_or(0)];
    if shift.is_some() { &options[..] } else { &options[..4] }
}

/// Writes the headers of a datagram before its payload of `len` bytes, which is already in `space` 8 bytes
/// behind the IP header. A burst of datagrams is cut into those of `size` bytes of payload.
pub fn udp_datagram(
    space: &mut [u8],
    link: &Link,
    ends: &Ends,
    len: usize,
    size: Option<u16>,
) -> Option<(usize, Offload)> {
    let start = ends.network_len();
    let length = u16::try_from(udp::HEADER_LEN + len).ok()?;
    let bytes = space.get_mut(start..start + udp::HEADER_LEN)?;
    bytes[0..2].copy_from_slice(&ends.source_port.to_be_bytes());
    bytes[2..4].copy_from_slice(&ends.destination_port.to_be_bytes());
    bytes[4..6].copy_from_slice(&length.to_be_bytes());
    let sum = pseudo_header(ends.source, ends.destination, protocol::UDP, usize::from(length));
    bytes[udp::CHECKSUM..udp::CHECKSUM + 2].copy_from_slice(&sum.partial());
    ip_headers(space, link, ends, protocol::UDP, usize::from(length), false)?;
    let size = size.filter(|size| len > usize::from(*size));
    let offload = Offload {
        flags: NEEDS_CHECKSUM,
        gso_type: size.map_or(0, |_| GSO[2]),
        // Below 100.
        hdr_len: size.map_or(0, |_| (start + udp::HEADER_LEN) as u16),
        gso_size: size.unwrap_or(0),
        csum_start: start as u16,
        csum_offset: udp::CHECKSUM as u16,
    };
    Some((start + usize::from(length), offload))
}

/// Writes the headers of an ICMP message of `len` bytes, of the addresses' version, which is already in `space` behind
/// the IP header, and its checksum. The frame's length.
pub fn icmp_message(space: &mut [u8], link: &Link, ends: &Ends, len: usize) -> Option<usize> {
    let start = ends.network_len();
    let version = ends.source.version();
    let protocol = match version {
        Version::V4 => protocol::ICMP,
        Version::V6 => protocol::ICMPV6,
    };
    let message = space.get_mut(start..start + len)?;
    message.get_mut(icmp::CHECKSUM..icmp::CHECKSUM + 2)?.fill(0);
    let sum = icmp::sum(message, version, ends.source, ends.destination).finish();
    message[icmp::CHECKSUM..icmp::CHECKSUM + 2].copy_from_slice(&sum);
    ip_headers(space, link, ends, protocol, len, false)?;
    Some(start + len)
}

const fn version_index(ends: &Ends) -> usize {
    match ends.source.version() {
        Version::V4 => 0,
        Version::V6 => 1,
    }
}

/// Writes Ethernet and IP header of a packet with a payload of `len` bytes.
fn ip_headers(
    space: &mut [u8],
    link: &Link,
    ends: &Ends,
    protocol: u8,
    len: usize,
    dont_fragment: bool,
) -> Option<()> {
    let (mac, ip) = space.split_at_mut_checked(ethernet::HEADER_LEN)?;
    mac[0..6].copy_from_slice(&link.switch.0);
    mac[6..12].copy_from_slice(&link.own.0);
    match ends.source.version() {
        Version::V4 => {
            mac[12..14].copy_from_slice(&ethernet::IPV4.to_be_bytes());
            let [l0, l1] = u16::try_from(20 + len).ok()?.to_be_bytes();
            let flags = if dont_fragment { 0x40 } else { 0 };
            let header = ip.first_chunk_mut::<20>()?;
            *header = [0x45, 0, l0, l1, 0, 0, flags, 0, TTL, protocol, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            header[12..16].copy_from_slice(&ends.source.v4_bytes());
            header[16..20].copy_from_slice(&ends.destination.v4_bytes());
            let sum = Sum::default().add(header).finish();
            header[10..12].copy_from_slice(&sum);
        }
        Version::V6 => {
            mac[12..14].copy_from_slice(&ethernet::IPV6.to_be_bytes());
            let [l0, l1] = u16::try_from(len).ok()?.to_be_bytes();
            let header = ip.first_chunk_mut::<40>()?;
            header[..8].copy_from_slice(&[0x60, 0, 0, 0, l0, l1, protocol, TTL]);
            header[8..24].copy_from_slice(&ends.source.v6_bytes());
            header[24..40].copy_from_slice(&ends.destination.v6_bytes());
        }
    }
    Some(())
}

/// The IP header of a packet that an ICMP error is about, as it may have been; its length. The payload had at least
/// `len` bytes.
pub fn quoted_header(header: &mut [u8; 40], ends: &Ends, protocol: u8, len: usize) -> usize {
    let mut space = [0; ethernet::HEADER_LEN + 40];
    let link = Link { own: MacAddr::ZERO, switch: MacAddr::ZERO };
    if ip_headers(&mut space, &link, ends, protocol, len, true).is_none() {
        return 0;
    }
    header.copy_from_slice(&space[ethernet::HEADER_LEN..]);
    ends.network_len() - ethernet::HEADER_LEN
}
