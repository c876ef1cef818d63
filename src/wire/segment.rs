//! What a device without offload leaves to us: segmentation and checksums, in software.
//!
//! As Linux's `net/ipv4/tcp_offload.c` and `udp_offload.c` cut a super-frame: every segment
//! gets the headers; IPv4 identification and TCP sequence number go up; FIN and PSH stay on
//! the last segment, CWR on the first; lengths and checksums are each segment's own.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::checksum::Sum;
use super::ethernet::{self, Header};
use super::virtio::GsoKind;
use super::{Malformed, Offload};

/// The most segments one super-frame is cut into: 64 KiB at TCP's smallest segment (48 bytes,
/// Linux `TCP_MIN_MSS`) and then some. More is an attack on whoever must write them.
pub const MAX_SEGMENTS: u32 = 2048;

const BAD: Malformed = Malformed("super-frame");

/// Bytes from the transport header to its checksum: TCP (RFC 9293 §3.1) and UDP (RFC 768).
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

const FIN_PSH: u8 = 0x01 | 0x08;
const CWR: u8 = 0x80;

/// Turns a frame into the frames that would be on a wire, and hands each to `emit`.
/// `scratch` is where they are built; it keeps its room for the next call.
///
/// # Errors
/// [`Malformed`] when the offload header and the frame contradict each other; nothing was emitted then.
pub fn complete(
    frame: &[u8],
    offload: &Offload,
    scratch: &mut Vec<u8>,
    mut emit: impl FnMut(&[u8]),
) -> Result<(), Malformed> {
    offload.check(frame.len())?;
    let Some(kind) = offload.gso() else {
        scratch.clear();
        scratch.extend_from_slice(frame);
        fill_checksum(scratch, offload)?;
        emit(scratch);
        return Ok(());
    };
    let plan = Plan::new(frame, offload, kind)?;
    let (headers, payload) = frame.split_at(plan.headers);
    let pieces = payload.chunks(usize::from(offload.gso_size));
    let last = pieces.len().saturating_sub(1);
    for (at, piece) in pieces.enumerate() {
        scratch.clear();
        scratch.extend_from_slice(headers);
        scratch.extend_from_slice(piece);
        plan.adjust(scratch, at, at == last, usize::from(offload.gso_size)).ok_or(BAD)?;
        emit(scratch);
    }
    Ok(())
}

/// Completes a partial checksum: the field holds the pseudo header's sum.
fn fill_checksum(frame: &mut [u8], offload: &Offload) -> Result<(), Malformed> {
    if !offload.needs_checksum() {
        return Ok(());
    }
    let (start, offset) = (usize::from(offload.csum_start), usize::from(offload.csum_offset));
    let transport = frame.get_mut(start..).ok_or(BAD)?;
    let sum = Sum::default().add(transport).finish();
    put(transport, offset, &nonzero(sum, offset)).ok_or(BAD)
}

/// A computed UDP checksum of zero is sent as all ones, for zero means "none" (RFC 768).
const fn nonzero(sum: [u8; 2], offset: usize) -> [u8; 2] {
    if offset == UDP_CHECKSUM && sum[0] == 0 && sum[1] == 0 { [0xff, 0xff] } else { sum }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) -> Option<()> {
    bytes.get_mut(at..at + value.len())?.copy_from_slice(value);
    Some(())
}

fn get<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// Where the headers of a super-frame lie.
struct Plan {
    kind: GsoKind,
    is_ipv4: bool,
    /// Start of the IP header.
    network: usize,
    /// Start of the TCP or UDP header.
    transport: usize,
    /// End of the headers.
    headers: usize,
}

impl Plan {
    fn new(frame: &[u8], offload: &Offload, kind: GsoKind) -> Result<Self, Malformed> {
        let header = Header::parse(frame)?;
        let (network, transport) = (header.payload, usize::from(offload.csum_start));
        let headers = offload.header_end(frame).ok_or(BAD)?;
        let is_ipv4 = header.ethertype == ethernet::IPV4;
        let smallest = if is_ipv4 { 20 } else { 40 };
        let fits = match kind {
            GsoKind::TcpV4 => is_ipv4,
            GsoKind::TcpV6 => header.ethertype == ethernet::IPV6,
            GsoKind::Udp => is_ipv4 || header.ethertype == ethernet::IPV6,
        };
        let transport_len = if kind == GsoKind::Udp { 8 } else { 20 };
        let in_order = network + smallest <= transport && transport + transport_len <= headers;
        if !fits || !in_order || headers == frame.len() || offload.segments(frame) > MAX_SEGMENTS {
            return Err(BAD);
        }
        Ok(Self { kind, is_ipv4, network, transport, headers })
    }

    /// Makes segment number `at`, whose headers are still the super-frame's, a frame of its own.
    fn adjust(&self, segment: &mut [u8], at: usize, is_last: bool, size: usize) -> Option<()> {
        if self.is_ipv4 {
            self.adjust_ipv4(segment, at)?;
        } else {
            let len = u16::try_from(segment.len() - self.network - 40).ok()?;
            put(segment, self.network + 4, &len.to_be_bytes())?;
        }
        let checksum = match self.kind {
            GsoKind::TcpV4 | GsoKind::TcpV6 => self.adjust_tcp(segment, at, is_last, size)?,
            GsoKind::Udp => {
                let len = u16::try_from(segment.len() - self.transport).ok()?;
                put(segment, self.transport + 4, &len.to_be_bytes())?;
                UDP_CHECKSUM
            }
        };
        put(segment, self.transport + checksum, &[0, 0])?;
        let sum = self.pseudo_header(segment)?.add(segment.get(self.transport..)?).finish();
        put(segment, self.transport + checksum, &nonzero(sum, checksum))
    }

    fn adjust_ipv4(&self, segment: &mut [u8], at: usize) -> Option<()> {
        let len = u16::try_from(segment.len() - self.network).ok()?;
        // Segments are at most MAX_SEGMENTS, so the number fits.
        let id = u16::from_be_bytes(get(segment, self.network + 4)?).wrapping_add(at as u16);
        let header = segment.get_mut(self.network..self.transport)?;
        put(header, 2, &len.to_be_bytes())?;
        put(header, 4, &id.to_be_bytes())?;
        put(header, 10, &[0, 0])?;
        let sum = Sum::default().add(header).finish();
        put(header, 10, &sum)
    }

    fn adjust_tcp(&self, segment: &mut [u8], at: usize, is_last: bool, size: usize) -> Option<usize> {
        let header = segment.get_mut(self.transport..)?;
        // Both factors are below 2^16.
        let sequence = u32::from_be_bytes(get(header, 4)?).wrapping_add((at * size) as u32);
        put(header, 4, &sequence.to_be_bytes())?;
        let flags = header.get_mut(13)?;
        *flags &= !(if is_last { 0 } else { FIN_PSH } | if at == 0 { 0 } else { CWR });
        Some(TCP_CHECKSUM)
    }

    fn pseudo_header(&self, segment: &[u8]) -> Option<Sum> {
        let protocol = if self.kind == GsoKind::Udp { 17 } else { 6 };
        let len = segment.len() - self.transport;
        Some(if self.is_ipv4 {
            let [source, destination] = [12, 16].map(|at| get::<4>(segment, self.network + at));
            let (source, destination) = (Ipv4Addr::from(source?), Ipv4Addr::from(destination?));
            Sum::default().add_ipv4(source, destination, protocol, u16::try_from(len).ok()?)
        } else {
            let [source, destination] = [8, 24].map(|at| get::<16>(segment, self.network + at));
            let (source, destination) = (Ipv6Addr::from(source?), Ipv6Addr::from(destination?));
            Sum::default().add_ipv6(source, destination, protocol, u32::try_from(len).ok()?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
    use proptest::prelude::*;

    const MACS: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);

    /// A super-frame as a TAP delivers it, and its offload header.
    fn super_frame(kind: GsoKind, ipv6: bool, tagged: bool, size: u16, payload: &[u8]) -> (Vec<u8>, Offload) {
        let builder = PacketBuilder::ethernet2(MACS.0, MACS.1);
        let builder = if ipv6 {
            builder.ipv6([0xfd; 16], [0xfe; 16], 64)
        } else {
            builder.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        };
        let mut frame = Vec::new();
        let transport = if kind == GsoKind::Udp {
            builder.udp(1, 2).write(&mut frame, payload).unwrap();
            8
        } else {
            builder.tcp(1, 2, 0xffff_fff0, 65000).psh().fin().cwr().write(&mut frame, payload).unwrap();
            20
        };
        if tagged {
            frame.splice(12..12, [0x81, 0, 0, 5]);
        }
        let start = frame.len() - payload.len() - transport;
        let (gso_type, csum_offset) = match kind {
            GsoKind::TcpV4 => (1, 16),
            GsoKind::TcpV6 => (4, 16),
            GsoKind::Udp => (5, 6),
        };
        let offload =
            Offload { flags: 1, gso_type, hdr_len: 0, gso_size: size, csum_start: start as u16, csum_offset };
        (frame, offload)
    }

    fn cut(frame: &[u8], offload: &Offload) -> Result<Vec<Vec<u8>>, Malformed> {
        let mut frames = Vec::new();
        complete(frame, offload, &mut Vec::new(), |frame| frames.push(frame.to_vec()))?;
        Ok(frames)
    }

    /// Lengths and checksums of a frame by etherparse's own reckoning.
    fn assert_sound(frame: &[u8]) {
        let packet = SlicedPacket::from_ethernet(frame).unwrap();
        match (packet.net.unwrap(), packet.transport.unwrap()) {
            (NetSlice::Ipv4(ip), TransportSlice::Tcp(tcp)) => {
                let header = ip.header().to_header();
                assert_eq!(header.header_checksum, header.calc_header_checksum());
                let sum = tcp.to_header().calc_checksum_ipv4(&header, tcp.payload()).unwrap();
                assert_eq!(tcp.checksum(), sum);
            }
            (NetSlice::Ipv4(ip), TransportSlice::Udp(udp)) => {
                let header = ip.header().to_header();
                assert_eq!(header.header_checksum, header.calc_header_checksum());
                let sum = udp.to_header().calc_checksum_ipv4(&header, udp.payload()).unwrap();
                assert_eq!(udp.checksum(), sum);
            }
            (NetSlice::Ipv6(ip), TransportSlice::Tcp(tcp)) => {
                let header = ip.header().to_header();
                let sum = tcp.to_header().calc_checksum_ipv6(&header, tcp.payload()).unwrap();
                assert_eq!(tcp.checksum(), sum);
            }
            (NetSlice::Ipv6(ip), TransportSlice::Udp(udp)) => {
                let header = ip.header().to_header();
                let sum = udp.to_header().calc_checksum_ipv6(&header, udp.payload()).unwrap();
                assert_eq!(udp.checksum(), sum);
            }
            (net, transport) => panic!("{net:?} {transport:?}"),
        }
    }

    #[test]
    fn tcp_flags_sequence_and_identification() {
        let (frame, offload) = super_frame(GsoKind::TcpV4, false, false, 100, &[7; 250]);
        let frames = cut(&frame, &offload).unwrap();
        let heads: Vec<_> = frames
            .iter()
            .map(|frame| {
                let packet = SlicedPacket::from_ethernet(frame).unwrap();
                let Some(TransportSlice::Tcp(tcp)) = packet.transport else { panic!() };
                let Some(NetSlice::Ipv4(ip)) = packet.net else { panic!() };
                let len = tcp.payload().len();
                (tcp.sequence_number(), ip.header().identification(), tcp.psh(), tcp.fin(), tcp.cwr(), len)
            })
            .collect();
        let expected = [
            (0xffff_fff0, 0, false, false, true, 100),
            (0x54, 1, false, false, false, 100),
            (0xb8, 2, true, true, false, 50),
        ];
        assert_eq!(heads, expected);
        frames.iter().for_each(|frame| assert_sound(frame));
    }

    #[test]
    fn a_partial_checksum_is_completed() {
        let (mut frame, offload) = super_frame(GsoKind::Udp, false, false, 0, b"hello");
        let partial = Sum::default().add_ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 17, 13).finish();
        frame[40..42].copy_from_slice(&partial.map(|byte| !byte));
        let offload = Offload { gso_type: 0, ..offload };
        let frames = cut(&frame, &offload).unwrap();
        assert_eq!(frames.len(), 1);
        assert_sound(&frames[0]);
    }

    #[test]
    fn a_frame_that_needs_nothing_stays_as_it_is() {
        let (frame, _) = super_frame(GsoKind::TcpV4, false, false, 100, b"x");
        assert_eq!(cut(&frame, &Offload::NONE).unwrap(), [frame]);
    }

    #[test]
    fn contradictions_are_refused() {
        let (frame, offload) = super_frame(GsoKind::TcpV4, false, false, 100, &[7; 250]);
        let lies = [
            Offload { gso_type: 4, ..offload },
            Offload { csum_start: 14, ..offload },
            Offload { csum_start: 20, ..offload },
            Offload { csum_start: 290, ..offload },
            Offload { csum_offset: 60000, ..offload },
            Offload { gso_size: 0, ..offload },
        ];
        for lie in lies {
            assert!(cut(&frame, &lie).is_err(), "{lie:?}");
        }
        let (large, offload) = super_frame(GsoKind::TcpV4, false, false, 1, &vec![7; 60_000]);
        assert!(cut(&large, &offload).is_err(), "60,000 segments of one byte");
    }

    proptest! {
        #[test]
        fn segments_are_sound_and_carry_the_payload(
            udp: bool, ipv6: bool, tagged: bool, size in 48u16..1500,
            payload in proptest::collection::vec(any::<u8>(), 1..20_000),
        ) {
            let kind = match (udp, ipv6) {
                (true, _) => GsoKind::Udp,
                (false, true) => GsoKind::TcpV6,
                (false, false) => GsoKind::TcpV4,
            };
            let (frame, offload) = super_frame(kind, ipv6, tagged, size, &payload);
            let headers = frame.len() - payload.len();
            let frames = cut(&frame, &offload).unwrap();
            prop_assert_eq!(frames.len() as u32, offload.segments(&frame));
            frames.iter().for_each(|frame| assert_sound(frame));
            let carried: Vec<u8> = frames.iter().flat_map(|frame| frame[headers..].to_vec()).collect();
            prop_assert_eq!(carried, payload);
        }

        #[test]
        fn no_bytes_make_it_panic(frame: Vec<u8>, header: [u8; 10]) {
            let offload = Offload::decode(&header);
            let _ = cut(&frame, &offload);
            let _ = (offload.segments(&frame), offload.check(frame.len()));
        }
    }
}
