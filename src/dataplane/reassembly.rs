//! Fragmented packets for the gateway, put together (RFC 791 §3.2, RFC 8200 §4.5).
//!
//! Theory of operation. The router and the rules look at whole packets, as Linux's do (`nf_defrag`): what is
//! routed leaves in fragments again (`cutting.rs`). [`Reassembly::check`] looks, [`Reassembly::add`]
//! carries out.
//!
//! Fragments of one packet follow each other closely, so few packets are under way at a time: they stand in
//! a row, in the order in which they began, and each is known by a hash of its name, for which the row is
//! searched. Their number is bounded, and their bytes. Where a packet has no place, one that began earlier
//! goes: that of the same source if the source has many, that of the same port if the port has, else the
//! oldest of the port that has most. So a flood of first fragments pushes out itself, and forged sources
//! push out what comes by their own port.
//!
//! Of each packet we keep the payload so far, the stretches of it that are there, and the first fragment.
//! A piece that lies within what is there is a duplicate and ignored; one that overlaps it in part, or
//! contradicts where the packet ends, ends it all (RFC 5722; Linux does so for IPv4 too). After a minute
//! (RFC 1122 §3.3.2, RFC 8200 §4.5) the rest is not waited for, and whoever sent the first fragment is
//! told.

use std::collections::{BTreeMap, VecDeque};
use std::hash::BuildHasher;
use std::ops::Range;
use std::time::Duration;

use foldhash::fast::FixedState;

use super::outcome::DropReason;
use super::time::Instant;
use super::{NetworkId, PortId};
use crate::wire::checksum::Sum;
use crate::wire::ip::{Addr, Version};
use crate::wire::ipv4::DONT_FRAGMENT;
use crate::wire::packet::{Fragment, Packet};

/// How long the rest of a packet is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Packets under way in all, by one port, and of one source address by one port.
const PACKETS: usize = 512;
const PER_PORT: usize = 256;
const PER_SOURCE: usize = 16;
/// Bytes of all that are under way (Linux: `ipfrag_high_thresh`).
const BYTES: usize = 4 << 20;
/// Stretches of a packet that are there, with gaps between them.
const STRETCHES: usize = 64;
/// The longest packet behind its Ethernet header; of IPv6 the longest payload.
const LONGEST: usize = 65_535;

/// IPv6 extension headers before a fragment header (RFC 8200 §4.1).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// What fragments of one packet have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Name {
    network: NetworkId,
    source: Addr,
    destination: Addr,
    id: u32,
    /// Zero for IPv6, where it is no part of the name.
    protocol: u8,
}

/// A packet under way.
#[derive(Debug)]
struct Partial {
    name: Name,
    /// Of the name.
    hash: u64,
    version: Version,
    /// The port its first piece came by.
    port: PortId,
    began: Instant,
    /// Pieces that came so far.
    pieces: u32,
    /// The fragment that begins the packet, as a frame; empty until it comes.
    first: Vec<u8>,
    /// Where its IP header and its payload begin.
    start: usize,
    payload_at: usize,
    payload: Vec<u8>,
    /// What is there, in order, with gaps between.
    there: Vec<Range<usize>>,
    /// Where the payload ends, once the last fragment has come.
    end: Option<usize>,
    /// Bytes of the longest piece, as an IP packet.
    longest: u32,
    /// Whether that piece must not be cut: then neither must the packet (as in Linux's `ip_fragment.c`).
    dont_fragment: bool,
}

/// What a fragment does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It waits for others, or is a duplicate.
    Waits,
    /// The packet is whole.
    Completes,
}

/// A packet that is whole again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// The frame with the packet in it.
    pub frame: Vec<u8>,
    /// Bytes of the longest of its fragments, as IP packets.
    pub longest: u32,
    /// What its fragments were known by (the identification field).
    pub id: u32,
}

/// A packet that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenUp {
    /// Why.
    pub reason: DropReason,
    /// The port its fragments came by, and how many there were.
    pub port: PortId,
    /// How many of its fragments are lost with it.
    pub pieces: u32,
    /// Its first fragment, as a frame, if it timed out and that one came: its sender is to be told.
    pub first: Vec<u8>,
}

/// All packets under way. See the module's theory of operation.
#[derive(Debug, Default)]
pub struct Reassembly {
    /// In the order in which they began.
    partials: VecDeque<Partial>,
    given_up: VecDeque<GivenUp>,
    /// Bytes that they take.
    bytes: usize,
}

/// A piece of a packet's payload: where it lies in it, and where in its own frame.
struct Piece {
    name: Name,
    range: Range<usize>,
    payload: Range<usize>,
    last: bool,
}

impl Piece {
    fn of(network: NetworkId, frame: &[u8], packet: &Packet) -> Result<Self, DropReason> {
        const BAD: DropReason = DropReason::BadIpHeader;
        let Fragment { id, offset, more } = packet.fragment.ok_or(BAD)?;
        let (source, destination) = (packet.source, packet.destination);
        // Behind an IPv6 fragment header there may be further extension headers: they are payload here.
        let (protocol, begin, limit) = match packet.version {
            Version::V4 => (packet.protocol, packet.transport, LONGEST + packet.start - packet.transport),
            Version::V6 => (0, fragment_header(frame, packet.start).ok_or(BAD)?.1 + 8, LONGEST),
        };
        let name = Name { network, source, destination, id, protocol };
        let payload = begin..packet.end;
        let (at, len) = (usize::from(offset), payload.len());
        // Pieces but the last are multiples of eight bytes, and none reaches beyond the longest packet.
        if len == 0 || (more && len % 8 != 0) || at + len > limit {
            return Err(BAD);
        }
        Ok(Self { name, range: at..at + len, payload, last: !more })
    }
}

impl Name {
    fn hash(&self) -> u64 {
        let Self { network, source, destination, id, protocol } = *self;
        FixedState::default().hash_one((network, source, destination, id, protocol))
    }
}

impl Partial {
    fn bytes(&self) -> usize {
        self.payload.len() + self.first.len()
    }

    /// What a piece does to the packet; an error ends it.
    fn check(&self, piece: &Piece) -> Result<Effect, DropReason> {
        const OVERLAP: DropReason = DropReason::FragmentOverlap;
        let Range { start, end } = piece.range;
        let highest = self.there.last().map_or(0, |stretch| stretch.end);
        let ends = match self.end {
            Some(known) if end > known || (piece.last && end != known) => return Err(OVERLAP),
            None if piece.last && highest > end => return Err(OVERLAP),
            known => known.or(piece.last.then_some(end)),
        };
        let there: usize = self.there.iter().map(Range::len).sum();
        if self.there.iter().any(|stretch| stretch.start <= start && end <= stretch.end) {
            // Nothing new but, perhaps, where the packet ends.
            return Ok(if ends == Some(there) { Effect::Completes } else { Effect::Waits });
        }
        if self.there.iter().any(|stretch| stretch.start < end && start < stretch.end) {
            return Err(OVERLAP);
        }
        if self.there.len() >= STRETCHES {
            return Err(DropReason::FragmentLimit);
        }
        Ok(if ends == Some(there + piece.range.len()) { Effect::Completes } else { Effect::Waits })
    }

    /// Puts a piece that was checked in its place.
    fn insert(&mut self, piece: &Piece, bytes: &[u8]) {
        self.pieces = self.pieces.saturating_add(1);
        if piece.last {
            self.end = Some(piece.range.end);
        }
        let at = self.there.partition_point(|stretch| stretch.start <= piece.range.start);
        if at > 0 && self.there[at - 1].end >= piece.range.end {
            return;
        }
        if self.payload.len() < piece.range.end {
            self.payload.resize(piece.range.end, 0);
        }
        self.payload[piece.range.clone()].copy_from_slice(bytes);
        self.there.insert(at, piece.range.clone());
        // What touches becomes one stretch.
        self.there.dedup_by(|next, stretch| {
            let touches = stretch.end == next.start;
            if touches {
                stretch.end = next.end;
            }
            touches
        });
    }

    /// The frame with the whole packet in it.
    fn whole(&self) -> Option<Vec<u8>> {
        match self.version {
            Version::V4 => {
                let mut frame = self.first.get(..self.payload_at)?.to_vec();
                frame.extend_from_slice(&self.payload);
                let header = frame.get_mut(self.start..self.payload_at)?;
                let len = u16::try_from(header.len() + self.payload.len()).ok()?;
                header.get_mut(2..4)?.copy_from_slice(&len.to_be_bytes());
                let flags = if self.dont_fragment { DONT_FRAGMENT } else { 0 };
                header.get_mut(6..8)?.copy_from_slice(&[flags, 0]);
                header.get_mut(10..12)?.fill(0);
                let sum = Sum::default().add(header).finish();
                header.get_mut(10..12)?.copy_from_slice(&sum);
                Some(frame)
            }
            Version::V6 => {
                let (names_it, fragment) = fragment_header(&self.first, self.start)?;
                let mut frame = self.first.get(..fragment)?.to_vec();
                *frame.get_mut(names_it)? = *self.first.get(fragment)?;
                let len = u16::try_from(fragment - self.start - 40 + self.payload.len()).ok()?;
                frame.get_mut(self.start + 4..self.start + 6)?.copy_from_slice(&len.to_be_bytes());
                frame.extend_from_slice(&self.payload);
                Some(frame)
            }
        }
    }
}

/// Where the fragment header of an IPv6 packet is, and before it the byte that says so.
fn fragment_header(frame: &[u8], start: usize) -> Option<(usize, usize)> {
    let (mut names_it, mut header) = (start + 6, start + 40);
    loop {
        match *frame.get(names_it)? {
            FRAGMENT => return Some((names_it, header)),
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                names_it = header;
                header += 8 + 8 * usize::from(*frame.get(header + 1)?);
            }
            _ => return None,
        }
    }
}

impl Reassembly {
    /// What [`add`](Self::add) would do with a fragment. Changes nothing.
    ///
    /// # Errors
    /// Why the fragment is dropped: it contradicts its packet, or lies outside of any.
    pub fn check(&self, network: NetworkId, frame: &[u8], packet: &Packet) -> Result<Effect, DropReason> {
        let piece = Piece::of(network, frame, packet)?;
        match self.find(&piece.name) {
            Some(at) => self.partials[at].check(&piece),
            // A whole packet is no fragment.
            None => Ok(Effect::Waits),
        }
    }

    /// Takes a fragment in, and hands out the frame with the whole packet when nothing is missing.
    ///
    /// # Errors
    /// As for [`check`](Self::check); what had come of the packet is given up with it.
    pub fn add(
        &mut self,
        now: Instant,
        network: NetworkId,
        from: PortId,
        frame: &[u8],
        packet: &Packet,
    ) -> Result<Option<Whole>, DropReason> {
        let piece = Piece::of(network, frame, packet)?;
        let bytes = frame.get(piece.payload.clone()).ok_or(DropReason::BadIpHeader)?;
        let at = self.find(&piece.name).unwrap_or_else(|| self.begin(now, from, &piece, packet.version));
        let partial = &mut self.partials[at];
        let effect = match partial.check(&piece) {
            Ok(effect) => effect,
            Err(reason) => {
                self.give_up(at, reason);
                return Err(reason);
            }
        };
        let before = partial.bytes();
        if piece.range.start == 0 && partial.first.is_empty() {
            partial.first = frame[..piece.payload.end].to_vec();
            (partial.start, partial.payload_at) = (packet.start, piece.payload.start);
        }
        partial.insert(&piece, bytes);
        self.bytes += partial.bytes() - before;
        // An IP packet has at most 64 KiB.
        let len = (packet.end - packet.start) as u32;
        if len > partial.longest {
            (partial.longest, partial.dont_fragment) = (len, packet.dont_fragment);
        }
        if effect == Effect::Waits {
            while self.bytes > BYTES
                && let Some(goes) = self.oldest_of_the_greatest()
            {
                self.give_up(goes, DropReason::FragmentLimit);
            }
            return Ok(None);
        }
        let (longest, id) = (partial.longest, partial.name.id);
        let whole = partial.whole().map(|frame| Whole { frame, longest, id });
        match &whole {
            Some(_) => drop(self.take(at)),
            None => self.give_up(at, DropReason::BadIpOptions),
        }
        whole.map(Some).ok_or(DropReason::BadIpOptions)
    }

    /// What was given up. Ask until there is nothing, after `add` and `handle_timeout`.
    pub fn poll_given_up(&mut self) -> Option<GivenUp> {
        self.given_up.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.partials.front().map(|oldest| oldest.began + PATIENCE)
    }

    /// Gives up what is not whole by now.
    pub fn handle_timeout(&mut self, now: Instant) {
        while self.next_timeout().is_some_and(|due| due <= now) {
            self.give_up(0, DropReason::FragmentTimeout);
        }
    }

    /// Forgets what came by a port that is gone.
    pub fn forget_port(&mut self, port: PortId) {
        self.partials.retain(|partial| partial.port != port);
        self.bytes = self.partials.iter().map(Partial::bytes).sum();
    }

    /// How many packets are under way.
    pub fn len(&self) -> usize {
        self.partials.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.partials.is_empty()
    }

    /// Who goes when another packet begins.
    fn in_the_way(&self, port: PortId, name: &Name) -> Option<usize> {
        // By that port: a forged address costs its owner nothing.
        let of_source = |partial: &Partial| partial.port == port && partial.name.source == name.source;
        let by_port = |partial: &Partial| partial.port == port;
        let count = |is: &dyn Fn(&Partial) -> bool| self.partials.iter().filter(|it| is(it)).count();
        if count(&of_source) >= PER_SOURCE {
            return self.partials.iter().position(of_source);
        }
        if count(&by_port) >= PER_PORT {
            return self.partials.iter().position(by_port);
        }
        if self.partials.len() >= PACKETS { self.oldest_of_the_greatest() } else { None }
    }

    /// The oldest packet of the port that has most bytes under way.
    fn oldest_of_the_greatest(&self) -> Option<usize> {
        let mut by_port: BTreeMap<PortId, usize> = BTreeMap::new();
        for partial in &self.partials {
            *by_port.entry(partial.port).or_default() += partial.bytes();
        }
        let (greatest, _) = by_port.into_iter().max_by_key(|(_, bytes)| *bytes)?;
        self.partials.iter().position(|it| it.port == greatest)
    }

    fn find(&self, name: &Name) -> Option<usize> {
        let hash = name.hash();
        self.partials.iter().position(|partial| partial.hash == hash && partial.name == *name)
    }

    /// Begins a packet, in place of the oldest where there are too many, and says where it is.
    fn begin(&mut self, now: Instant, port: PortId, piece: &Piece, version: Version) -> usize {
        if let Some(goes) = self.in_the_way(port, &piece.name) {
            self.give_up(goes, DropReason::FragmentLimit);
        }
        self.partials.push_back(Partial {
            name: piece.name,
            hash: piece.name.hash(),
            version,
            port,
            began: now,
            pieces: 0,
            first: Vec::new(),
            start: 0,
            payload_at: 0,
            payload: Vec::new(),
            there: Vec::new(),
            end: None,
            longest: 0,
            dont_fragment: false,
        });
        self.partials.len() - 1
    }

    fn take(&mut self, at: usize) -> Option<Partial> {
        let partial = self.partials.remove(at)?;
        self.bytes -= partial.bytes();
        Some(partial)
    }

    fn give_up(&mut self, at: usize, reason: DropReason) {
        if let Some(partial) = self.take(at) {
            let Partial { port, pieces, first, .. } = partial;
            let first = if reason == DropReason::FragmentTimeout { first } else { Vec::new() };
            self.given_up.push_back(GivenUp { reason, port, pieces, first });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Offload;
    use proptest::prelude::*;
    use std::hash::BuildHasher;

    const NET: NetworkId = NetworkId(1);
    const A: PortId = PortId(1);
    const B: PortId = PortId(2);

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000_000)
    }

    /// The piece of an IPv4 packet, in a frame. Offsets and lengths are in units of 8 bytes.
    fn v4(id: u16, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
        let mut frame = [&[2u8; 12][..], &[8, 0]].concat();
        let len = (24 + payload.len()) as u16;
        let [[l0, l1], [i0, i1]] = [len, id].map(u16::to_be_bytes);
        let [f0, f1] = (offset | if more { 0x2000 } else { 0 }).to_be_bytes();
        // With an option (RFC 2113's router alert), so that the header is not of the usual length.
        let mut header =
            vec![0x46, 0, l0, l1, i0, i1, f0, f1, 64, 1, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1, 0x94, 4, 0, 0];
        let sum = Sum::default().add(&header).finish();
        header[10..12].copy_from_slice(&sum);
        frame.extend(header);
        frame.extend(payload);
        frame
    }

    /// The same of an IPv6 packet with a hop-by-hop header before the fragment header and a destination
    /// options header behind it.
    fn v6(id: u32, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
        let mut frame = [&[2u8; 12][..], &[0x86, 0xdd, 0x60, 0, 0, 0]].concat();
        frame.extend(((16 + payload.len()) as u16).to_be_bytes());
        frame.extend([0, 64]);
        frame.extend([[0xfd; 16], [0xfe; 16]].concat());
        frame.extend([FRAGMENT, 0, 1, 4, 0, 0, 0, 0]);
        frame.extend([DESTINATION_OPTIONS, 0]);
        frame.extend(((offset * 8) | u16::from(more)).to_be_bytes());
        frame.extend(id.to_be_bytes());
        frame.extend(payload);
        frame
    }

    fn piece(version: Version, id: u16, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
        match version {
            Version::V4 => v4(id, offset, more, payload),
            Version::V6 => v6(id.into(), offset, more, payload),
        }
    }

    /// What a ping of so many units carries: an echo request whose checksum is not looked at here, and for
    /// IPv6 the extension header before it.
    fn payload(version: Version, units: u16) -> Vec<u8> {
        let head: &[u8] = match version {
            Version::V4 => &[8, 0, 0, 0, 0, 1, 0, 1],
            Version::V6 => &[58, 0, 1, 4, 0, 0, 0, 0, 128, 0, 0, 0, 0, 1, 0, 1],
        };
        let rest = (head.len()..usize::from(units) * 8).map(|at| (at % 251) as u8);
        head.iter().copied().chain(rest).take(usize::from(units) * 8).collect()
    }

    fn add(
        table: &mut Reassembly,
        now: Instant,
        from: PortId,
        version: Version,
        frame: &[u8],
    ) -> Result<Option<Vec<u8>>, DropReason> {
        let packet = Packet::parse(frame, 14, version, &Offload::NONE).unwrap();
        let before = format!("{table:?}");
        let checked = table.check(NET, frame, &packet);
        assert_eq!(before, format!("{table:?}"), "looking changes nothing");
        let done = table.add(now, NET, from, frame, &packet);
        match &done {
            Ok(None) => assert_eq!(checked, Ok(Effect::Waits)),
            Ok(Some(_)) => assert_eq!(checked, Ok(Effect::Completes)),
            Err(reason) => assert_eq!(checked, Err(*reason)),
        }
        done.map(|whole| whole.map(|whole| whole.frame))
    }

    fn given_up(table: &mut Reassembly) -> Vec<(DropReason, PortId, u32, bool)> {
        let next = || table.poll_given_up();
        std::iter::from_fn(next).map(|g| (g.reason, g.port, g.pieces, !g.first.is_empty())).collect()
    }

    #[test]
    fn the_whole_packet_byte_by_byte() {
        let mut table = Reassembly::default();
        let parts = [v4(7, 2, false, b"end"), v4(7, 0, true, &payload(Version::V4, 2))];
        assert_eq!(add(&mut table, at(0), A, Version::V4, &parts[0]), Ok(None));
        let whole = add(&mut table, at(0), B, Version::V4, &parts[1]).unwrap().unwrap();
        let expected = v4(7, 0, false, &[payload(Version::V4, 2), b"end".to_vec()].concat());
        assert_eq!(whole, expected);
        assert!(table.is_empty() && given_up(&mut table).is_empty());

        let parts = [v6(7, 0, true, &payload(Version::V6, 3)), v6(7, 3, false, b"end")];
        assert_eq!(add(&mut table, at(0), A, Version::V6, &parts[0]), Ok(None));
        let whole = add(&mut table, at(0), A, Version::V6, &parts[1]).unwrap().unwrap();
        let mut expected = v6(7, 0, false, &[payload(Version::V6, 3), b"end".to_vec()].concat());
        expected.drain(62..70);
        expected[54] = DESTINATION_OPTIONS;
        let len = (expected.len() - 54) as u16;
        expected[18..20].copy_from_slice(&len.to_be_bytes());
        assert_eq!(whole, expected);
        let packet = Packet::parse(&whole, 14, Version::V6, &Offload::NONE).unwrap();
        assert_eq!((packet.protocol, packet.fragment), (58, None));
    }

    #[test]
    fn overlaps_and_contradictions_end_a_packet() {
        // Pieces as offset, units, more; the last one is the offender.
        let cases: [&[(u16, u16, bool)]; 6] = [
            &[(0, 2, true), (1, 2, true)],
            &[(2, 2, true), (1, 2, true)],
            &[(0, 2, true), (4, 2, true), (1, 4, true)],
            &[(4, 2, false), (8, 2, true)],
            &[(8, 2, true), (4, 2, false)],
            &[(4, 2, false), (2, 1, false)],
        ];
        for version in [Version::V4, Version::V6] {
            for case in cases {
                let mut table = Reassembly::default();
                for (n, (offset, units, more)) in case.iter().enumerate() {
                    let frame = piece(version, 1, *offset, *more, &payload(version, *units));
                    let result = add(&mut table, at(0), A, version, &frame);
                    let expected =
                        if n + 1 == case.len() { Err(DropReason::FragmentOverlap) } else { Ok(None) };
                    assert_eq!(result, expected, "{case:?} {n}");
                }
                let lost = (DropReason::FragmentOverlap, A, case.len() as u32 - 1, false);
                assert_eq!(given_up(&mut table), [lost]);
                assert!(table.is_empty());
            }
        }
    }

    #[test]
    fn a_packet_longer_than_packets_can_be_is_no_packet() {
        let long = v4(1, 8189, false, &[0; 24]);
        // The parser says so already: a header of 20 bytes would leave 65,515.
        let parsed = Packet::parse(&long, 14, Version::V4, &Offload::NONE);
        let packet = parsed.unwrap_or_else(|_| {
            let short = v4(1, 8186, false, &[0; 24]);
            let mut packet = Packet::parse(&short, 14, Version::V4, &Offload::NONE).unwrap();
            packet.fragment = Some(Fragment { id: 1, offset: 8189 * 8, more: false });
            packet
        });
        assert_eq!(Reassembly::default().check(NET, &long, &packet), Err(DropReason::BadIpHeader));
        // 65,535 bytes with the header of 24 are possible.
        let mut table = Reassembly::default();
        let longest = payload(Version::V4, 8188);
        let pieces = [(0, true, &longest[..65_000]), (8125, false, &longest[65_000..])];
        let [first, last] = pieces.map(|(offset, more, bytes)| v4(1, offset, more, bytes));
        assert_eq!(add(&mut table, at(0), A, Version::V4, &first), Ok(None));
        let whole = add(&mut table, at(0), A, Version::V4, &last).unwrap().unwrap();
        assert_eq!((whole.len(), &whole[38..]), (14 + 24 + 65_504, &longest[..]));
    }

    #[test]
    fn what_stays_incomplete_is_given_up_and_its_sender_told() {
        let mut table = Reassembly::default();
        let first = v4(1, 0, true, &payload(Version::V4, 2));
        add(&mut table, at(0), A, Version::V4, &first).unwrap();
        add(&mut table, at(1), A, Version::V4, &v4(2, 2, true, &[0; 8])).unwrap();
        add(&mut table, at(2), A, Version::V4, &v4(2, 3, true, &[0; 8])).unwrap();
        assert_eq!(table.next_timeout(), Some(at(60)));
        table.handle_timeout(at(59));
        assert_eq!(table.len(), 2);
        table.handle_timeout(at(60));
        let timed_out = GivenUp { reason: DropReason::FragmentTimeout, port: A, pieces: 1, first };
        assert_eq!(table.poll_given_up(), Some(timed_out));
        table.handle_timeout(at(100));
        assert_eq!(given_up(&mut table), [(DropReason::FragmentTimeout, A, 2, false)]);
        assert_eq!(table.next_timeout(), None);
    }

    #[test]
    fn a_flood_of_fragments_costs_its_own_port() {
        let mut table = Reassembly::default();
        let first = |id| v4(id, 0, true, &payload(Version::V4, 2));
        add(&mut table, at(0), B, Version::V4, &first(1)).unwrap();
        for id in 100..1100 {
            add(&mut table, at(0), A, Version::V4, &first(id)).unwrap();
        }
        // One source has its bound, and with forged ones its port has.
        assert_eq!((table.len(), given_up(&mut table).len()), (1 + PER_SOURCE, 1000 - PER_SOURCE));
        let forged = |port: u32, source: u8| {
            let mut frame = first(7);
            frame[26 + 2] = port as u8;
            frame[26 + 3] = source;
            frame[24..26].fill(0);
            let sum = Sum::default().add(&frame[14..38]).finish();
            frame[24..26].copy_from_slice(&sum);
            frame
        };
        for source in 0..=255 {
            add(&mut table, at(0), A, Version::V4, &forged(1, source)).unwrap();
            add(&mut table, at(0), A, Version::V4, &forged(2, source)).unwrap();
        }
        assert_eq!(table.len(), 1 + PER_PORT);
        for port in 10..12 {
            for source in 0..=255 {
                add(&mut table, at(0), PortId(port), Version::V4, &forged(port, source)).unwrap();
            }
        }
        assert_eq!(table.len(), PACKETS);
        assert!(
            given_up(&mut table).iter().all(|(_, port, ..)| *port != B),
            "who sends little loses nothing"
        );
        // Whoever is quick is served even so.
        add(&mut table, at(0), B, Version::V4, &first(1)).unwrap();
        assert!(add(&mut table, at(0), B, Version::V4, &v4(1, 2, false, b"end")).unwrap().is_some());
        let left = table.len();
        table.forget_port(PortId(11));
        assert!(table.len() < left && table.partials.iter().all(|it| it.port != PortId(11)));
        assert_eq!(table.bytes, table.partials.iter().map(Partial::bytes).sum::<usize>());
        // Long packets are bounded by their bytes.
        for id in 0..200 {
            let long = v4(id, 2, true, &[0; 1480]);
            let far = v4(id, 8000, true, &[0; 800]);
            add(&mut table, at(0), PortId(20 + u32::from(id)), Version::V4, &long).unwrap();
            add(&mut table, at(0), PortId(20 + u32::from(id)), Version::V4, &far).unwrap();
            assert!(table.bytes <= BYTES);
        }
    }

    #[test]
    fn many_gaps_are_too_many() {
        let mut table = Reassembly::default();
        for n in 0..STRETCHES as u16 {
            add(&mut table, at(0), A, Version::V4, &v4(1, 2 * n + 2, true, &[0; 8])).unwrap();
        }
        let one_more = v4(1, 2 * STRETCHES as u16 + 2, true, &[0; 8]);
        assert_eq!(add(&mut table, at(0), A, Version::V4, &one_more), Err(DropReason::FragmentLimit));
    }

    proptest! {
        /// Cut anywhere, in any order, with duplicates: the packet comes out when its last byte came in.
        #[test]
        fn any_order_gives_the_packet(
            is_v4: bool,
            cuts in proptest::collection::btree_set(2u16..100, 0..20),
            order: proptest::sample::Index,
            seed: u64,
            tail in 0usize..8,
        ) {
            let version = if is_v4 { Version::V4 } else { Version::V6 };
            let mut all = payload(version, 100);
            all.extend(vec![9; tail]);
            let mut edges: Vec<u16> = cuts.into_iter().collect();
            edges.insert(0, 0);
            let last = edges.len() - 1;
            let mut pieces: Vec<Vec<u8>> = (0..=last)
                .map(|n| {
                    let end = edges.get(n + 1).map_or(all.len(), |edge| usize::from(*edge) * 8);
                    piece(version, 3, edges[n], n != last, &all[usize::from(edges[n]) * 8..end])
                })
                .collect();
            prop_assume!(pieces.len() > 1);
            let twice = order.get(&pieces).clone();
            // A shuffle that depends on the seed alone.
            pieces.sort_by_key(|bytes| foldhash::fast::FixedState::with_seed(seed).hash_one(bytes));
            let mut table = Reassembly::default();
            let completes = pieces.pop().unwrap();
            for frame in &pieces {
                prop_assert_eq!(add(&mut table, at(0), A, version, frame), Ok(None));
            }
            if twice != completes {
                prop_assert_eq!(add(&mut table, at(0), A, version, &twice), Ok(None));
            }
            let whole = add(&mut table, at(0), A, version, &completes).unwrap().unwrap();
            let headers = if is_v4 { 38 } else { 62 };
            prop_assert_eq!(&whole[headers..], &all[..]);
            prop_assert!(table.is_empty());
        }

        /// Against a map of which bytes are there. Pieces may be anything.
        #[test]
        fn the_same_as_a_map_of_bytes(
            pieces in proptest::collection::vec((0u16..24, 1u16..8, any::<bool>(), 0usize..8), 1..40),
        ) {
            let mut table = Reassembly::default();
            let (mut there, mut end) = (vec![false; 1000], None);
            for (offset, units, more, tail) in pieces {
                let bytes = vec![0xaa; usize::from(units) * 8 - if more { 0 } else { tail }];
                if offset == 0 && !more {
                    continue;
                }
                let range = usize::from(offset) * 8..usize::from(offset) * 8 + bytes.len();
                let frame = v4(1, offset, more, &bytes);
                // The first one's ICMP header has to be read.
                let Ok(packet) = Packet::parse(&frame, 14, Version::V4, &Offload::NONE) else { continue };
                let highest = there.iter().rposition(|is| *is).map_or(0, |at| at + 1);
                let filled = there[range.clone()].iter().filter(|is| **is).count();
                let contradicts = end.is_some_and(|end| range.end > end || (!more && range.end != end))
                    || (!more && end.is_none() && highest > range.end);
                let result = table.add(at(0), NET, A, &frame, &packet);
                if contradicts || (filled > 0 && filled < range.len()) {
                    prop_assert_eq!(result, Err(DropReason::FragmentOverlap));
                    (there, end) = (vec![false; 1000], None);
                    continue;
                }
                there[range.clone()].fill(true);
                end = if more { end } else { Some(range.end) };
                let count = there.iter().filter(|is| **is).count();
                let is_whole = end == Some(count);
                prop_assert_eq!(result.map(|whole| whole.map(|whole| whole.frame.len())), Ok(is_whole.then_some(38 + count)));
                if is_whole {
                    (there, end) = (vec![false; 1000], None);
                }
            }
        }
    }
}
