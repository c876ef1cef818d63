//! Cutting IPv4 packets into fragments for a smaller MTU (RFC 791 §3.2, RFC 1812 §4.2.2.7).
//!
//! A packet that is a fragment itself is cut again: its pieces continue where it began, and all but those of
//! the last fragment say that more follow. The identification stays the sender's. Of the options, pieces
//! behind the first keep those that ask for it. IPv6 routers do not fragment (RFC 8200 §5).

use crate::wire::checksum::Sum;
use crate::wire::ip::Version;
use crate::wire::ipv4::{self, DONT_FRAGMENT, MORE_FRAGMENTS};
use crate::wire::packet::{Fragment, Packet};
use crate::wire::{Malformed, Offload, segment};

/// The smallest MTU that every IPv4 link must have (RFC 791 §3.2): the longest header and eight bytes.
pub const MIN_MTU: usize = 68;

/// Where frames are built; kept for the next time.
#[derive(Debug, Default)]
pub struct Buffers {
    segment: Vec<u8>,
    fragment: Vec<u8>,
}

impl Buffers {
    /// Where segments of a super-frame are built.
    pub(super) fn segment(&mut self) -> &mut Vec<u8> {
        &mut self.segment
    }
}

/// Cuts the IPv4 packet in `frame`, as translated and with the Ethernet header it is to have, into pieces
/// of at most `mtu` bytes and hands each to `emit` as a complete frame, in order. What its device was to do
/// is done first: a super-frame is cut into its segments, and those that fit go as they are.
/// An MTU below [`MIN_MTU`] counts as that.
///
/// # Errors
/// [`Malformed`] when nothing can be emitted: the super-frame's segments are too many, or it is none.
pub fn fragment(
    frame: &[u8],
    packet: &Packet,
    offload: &Offload,
    mtu: usize,
    buffers: &mut Buffers,
    mut emit: impl FnMut(&[u8]),
) -> Result<(), Malformed> {
    const BAD: Malformed = Malformed("packet to fragment");
    let Buffers { segment, fragment } = buffers;
    if packet.version != Version::V4 {
        return Err(BAD);
    }
    if !packet.partial_checksum {
        return cut(frame, packet, mtu, fragment, &mut emit).ok_or(BAD);
    }
    let mut result = Ok(());
    segment::complete(frame, offload, segment, |frame| {
        let cut_segment = Packet::parse(frame, packet.start, Version::V4, &Offload::NONE)
            .ok()
            .and_then(|packet| cut(frame, &packet, mtu, fragment, &mut emit));
        if cut_segment.is_none() {
            result = Err(BAD);
        }
    })?;
    result
}

/// Cuts a packet whose checksums are all complete; `None` if its positions are not the frame's.
fn cut(
    frame: &[u8],
    packet: &Packet,
    mtu: usize,
    out: &mut Vec<u8>,
    emit: &mut impl FnMut(&[u8]),
) -> Option<()> {
    let mtu = mtu.max(MIN_MTU);
    let ethernet = frame.get(..packet.start)?;
    let first =
        frame.get(packet.start..packet.transport).filter(|header| header.len() >= ipv4::HEADER_LEN)?;
    let payload = frame.get(packet.transport..packet.end)?;
    if packet.end - packet.start <= mtu {
        emit(frame.get(..packet.end)?);
        return Some(());
    }
    let (later, later_len) = header_of_later(first);
    let (base, is_followed) =
        packet.fragment.map_or((0, false), |Fragment { offset, more, .. }| (offset, more));
    let mut at = 0;
    while at < payload.len() {
        let header = if at == 0 { first } else { later.get(..later_len)? };
        // The longest header leaves eight bytes of the smallest MTU.
        let room = mtu - header.len();
        let is_last = payload.len() - at <= room;
        let piece = if is_last { &payload[at..] } else { &payload[at..at + (room & !7)] };
        out.clear();
        out.extend_from_slice(ethernet);
        out.extend_from_slice(header);
        // An IP packet's length and what is behind it fit 16 bits.
        let offset = base.wrapping_add(at as u16);
        finish(&mut out[ethernet.len()..], piece.len(), offset, !is_last || is_followed);
        out.extend_from_slice(piece);
        emit(out);
        at += piece.len();
    }
    Some(())
}

/// Writes length, place and checksum of a fragment's header.
fn finish(header: &mut [u8], payload: usize, offset: u16, more: bool) {
    let len = (header.len() + payload) as u16;
    let [high, low] = (offset / 8).to_be_bytes();
    if let Some([_, _, l0, l1, _, _, f0, f1, _, _, c0, c1]) = header.first_chunk_mut::<12>() {
        [*l0, *l1] = len.to_be_bytes();
        // What must not be cut is cut only as it came: its sender wants to know how far that goes.
        *f0 = (*f0 & DONT_FRAGMENT) | high | if more { MORE_FRAGMENTS } else { 0 };
        (*f1, *c0, *c1) = (low, 0, 0);
    }
    let sum = Sum::default().add(header).finish();
    if let Some(checksum) = header.get_mut(10..12) {
        checksum.copy_from_slice(&sum);
    }
}

/// The header of pieces behind the first, and its length: with those options only whose type says so.
fn header_of_later(first: &[u8]) -> ([u8; 60], usize) {
    /// The "copied" flag of an option's type.
    const COPIED: u8 = 0x80;
    let mut header = [ipv4::END; 60];
    let mut len = ipv4::HEADER_LEN;
    header[..len].copy_from_slice(&first[..len]);
    for (_, option) in ipv4::Options::of(first) {
        let Ok(option) = option else { break };
        if option.first().is_some_and(|kind| kind & COPIED != 0) {
            // No longer than they were.
            header[len..len + option.len()].copy_from_slice(option);
            len += option.len();
        }
    }
    len = len.next_multiple_of(4);
    // At most 15 words.
    header[0] = 0x40 | (len / 4) as u8;
    (header, len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::packet::Transport;
    use etherparse::{IpNumber, Ipv4Header, PacketBuilder};
    use proptest::prelude::*;

    const IPS: [[u8; 4]; 2] = [[10, 0, 0, 1], [10, 0, 0, 2]];

    /// A UDP frame with IPv4 options.
    fn udp(options: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut datagram = Vec::new();
        let builder = PacketBuilder::ipv4(IPS[0], IPS[1], 64).udp(53, 5353);
        builder.write(&mut datagram, payload).unwrap();
        packet(options, 17, &datagram[20..])
    }

    fn packet(options: &[u8], protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut header = Ipv4Header::new(0, 64, IpNumber(protocol), IPS[0], IPS[1]).unwrap();
        header.options = options.try_into().unwrap();
        header.set_payload_len(payload.len()).unwrap();
        (header.identification, header.dont_fragment) = (0x1234, false);
        header.header_checksum = header.calc_header_checksum();
        let mut frame = vec![2; 14];
        frame[12..14].copy_from_slice(&[8, 0]);
        header.write(&mut frame).unwrap();
        frame.extend(payload);
        frame
    }

    fn parse(frame: &[u8]) -> Packet {
        Packet::parse(frame, 14, Version::V4, &Offload::NONE).unwrap()
    }

    fn cut_to(frame: &[u8], mtu: usize) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut buffers = Buffers::default();
        let emit = |frame: &[u8]| frames.push(frame.to_vec());
        fragment(frame, &parse(frame), &Offload::NONE, mtu, &mut buffers, emit).unwrap();
        frames
    }

    /// The payload that the fragments make up, if each is where it should be.
    fn assemble(fragments: &[Vec<u8>], mtu: usize) -> Vec<u8> {
        let mut payload = Vec::new();
        for (at, frame) in fragments.iter().enumerate() {
            let packet = parse(frame);
            assert!(packet.end - packet.start <= mtu && packet.end == frame.len());
            let more = at + 1 < fragments.len();
            assert_eq!(packet.fragment, Some(Fragment { id: 0x1234, offset: payload.len() as u16, more }));
            payload.extend_from_slice(&frame[packet.transport..packet.end]);
        }
        payload
    }

    #[test]
    fn copied_options_are_copied() {
        // Record route, not copied; router alert, copied; padding.
        let options = [7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0, 0];
        let frame = udp(&options, &[7; 500]);
        let frames = cut_to(&frame, 100);
        assert_eq!(frames[0][34..46], options);
        assert!(frames[1..].iter().all(|frame| frame[14] == 0x46 && frame[34..38] == [148, 4, 0, 0]));
        assert_eq!(assemble(&frames, 100), frame[46..]);
        assert!(frames.iter().all(|piece| piece[..14] == frame[..14]));
    }

    #[test]
    fn what_fits_goes_as_it_is_without_padding() {
        let frame = udp(&[], b"hello");
        assert_eq!(cut_to(&[&frame[..], &[0; 20]].concat(), 68), [frame]);
    }

    #[test]
    fn a_partial_checksum_is_completed_first() {
        let frame = udp(&[], &[7; 500]);
        let mut partial = frame.clone();
        let sum = Sum::default().add_ipv4(IPS[0].into(), IPS[1].into(), 17, 508).partial();
        partial[40..42].copy_from_slice(&sum);
        let offload = Offload { flags: 1, csum_start: 34, csum_offset: 6, ..Offload::NONE };
        let packet = Packet::parse(&partial, 14, Version::V4, &offload).unwrap();
        let mut frames = Vec::new();
        let emit = |frame: &[u8]| frames.push(frame.to_vec());
        fragment(&partial, &packet, &offload, 300, &mut Buffers::default(), emit).unwrap();
        assert_eq!(assemble(&frames, 300), frame[34..]);
    }

    #[test]
    fn segments_of_a_super_frame_are_cut_each() {
        let mut segment = Vec::new();
        let builder = PacketBuilder::ipv4(IPS[0], IPS[1], 64).tcp(1, 2, 3, 4);
        builder.write(&mut segment, &[9; 1000]).unwrap();
        let frame = packet(&[], 6, &segment[20..]);
        let offload =
            Offload { flags: 1, gso_type: 1, gso_size: 400, csum_start: 34, csum_offset: 16, hdr_len: 54 };
        let packet = Packet::parse(&frame, 14, Version::V4, &offload).unwrap();
        let mut lens = Vec::new();
        let emit = |frame: &[u8]| {
            let packet = parse(frame);
            lens.push((packet.end - packet.start, matches!(packet.payload, Transport::Tcp(_))));
        };
        fragment(&frame, &packet, &offload, 300, &mut Buffers::default(), emit).unwrap();
        // Two segments of 440 bytes in two pieces each, and one of 240 that fits.
        assert_eq!(lens, [(300, true), (160, false), (300, true), (160, false), (240, true)]);
    }

    #[test]
    fn ipv6_is_not_cut() {
        let packet = Packet { version: Version::V6, ..parse(&udp(&[], b"x")) };
        let result = fragment(&[0; 100], &packet, &Offload::NONE, 68, &mut Buffers::default(), |_| panic!());
        assert!(result.is_err());
    }

    proptest! {
        #[test]
        fn fragments_make_up_the_packet(
            len in 0usize..4000, words in 0usize..=10, router_alert: bool, mtu in 0usize..2000, smaller in 0usize..500,
        ) {
            let options: Vec<u8> = match (router_alert, words) {
                (true, 1..) => [148, 4, 0, 0].iter().copied().chain([1; 36]).take(words * 4).collect(),
                _ => vec![1; words * 4],
            };
            let payload: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let frame = udp(&options, &payload);
            let packet = parse(&frame);
            let effective = mtu.max(MIN_MTU);
            let frames = cut_to(&frame, mtu);
            if packet.end - packet.start <= effective {
                prop_assert_eq!(&frames, std::slice::from_ref(&frame));
            } else {
                prop_assert_eq!(&assemble(&frames, effective), &frame[packet.transport..]);
            }
            // Cut again by the next router.
            let smaller = smaller.max(MIN_MTU);
            let again: Vec<_> = frames.iter().flat_map(|frame| cut_to(frame, smaller)).collect();
            if again.len() > 1 {
                prop_assert_eq!(&assemble(&again, smaller), &frame[packet.transport..]);
            }
        }
    }
}
