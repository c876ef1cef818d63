//! Real frames, bent at random but the same way on every run. `TAPSWITCH_FUZZ_ITERATIONS` says how many
//! (default: a few seconds' worth).

use etherparse::PacketBuilder;
use tapswitch::wire::ethernet::{ARP, IPV4};
use tapswitch::wire::{MacAddr, Offload};

use super::frames::{ethernet, mac, super_frame, tagged};

const DEFAULT_ITERATIONS: u64 = 500_000;
/// With fewer, the blows may miss some of the answers.
pub(crate) const ENOUGH: u64 = 20_000;

pub(crate) fn iterations() -> u64 {
    std::env::var("TAPSWITCH_FUZZ_ITERATIONS").map_or(DEFAULT_ITERATIONS, |count| count.parse().unwrap())
}

/// Numbers that look random (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`, which is not zero.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// What is sent, before it is bent: with the offload header of a TAP.
pub(crate) type Seed = (Vec<u8>, Offload);

/// How many seeds are made here; the captured ones follow.
const MADE: usize = 9;

pub(crate) fn seeds() -> Vec<Seed> {
    let (a, b) = (mac(1), mac(2));
    let udp = |ipv6: bool| {
        let builder = PacketBuilder::ethernet2(a.0, b.0);
        let builder = if ipv6 { builder.ipv6([1; 16], [2; 16], 9) } else { builder.ipv4([1; 4], [2; 4], 9) };
        let mut bytes = Vec::new();
        builder.udp(53, 53).write(&mut bytes, &[7; 3000]).unwrap();
        let csum_start = if ipv6 { 54 } else { 34 };
        let offload =
            Offload { flags: 1, gso_type: 5, gso_size: 700, csum_start, csum_offset: 6, hdr_len: 0 };
        (bytes, offload)
    };
    let tcp = super_frame(b, a, 500, 2500);
    let tcp6 = {
        let mut bytes = Vec::new();
        let builder = PacketBuilder::ethernet2(b.0, a.0).ipv6([1; 16], [2; 16], 64);
        builder.tcp(1, 2, 3, 4).write(&mut bytes, &[9; 1999]).unwrap();
        let gso = Offload { gso_type: 4, csum_start: 54, ..tcp.offload };
        (bytes, gso)
    };
    let made: [Seed; MADE] = [
        (ethernet(b, a, IPV4, 50), Offload::NONE),
        (ethernet(MacAddr::BROADCAST, b, ARP, 46), Offload::NONE),
        (ethernet(MacAddr([0x01, 0x80, 0xc2, 0, 0, 0x0e]), a, 0x88cc, 46), Offload::NONE),
        (tagged(tagged(ethernet(a, b, IPV4, 50), 1), 2), Offload::NONE),
        (tcp.bytes().to_vec(), tcp.offload),
        (tcp.bytes()[..200].to_vec(), Offload { gso_type: 0, gso_size: 0, ..tcp.offload }),
        udp(false),
        udp(true),
        tcp6,
    ];
    made.into_iter().chain(captured()).collect()
}

/// The frames of captures/*.pcap, with nothing left to do to them.
fn captured() -> Vec<Seed> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/captures");
    let mut files: Vec<_> =
        std::fs::read_dir(directory).into_iter().flatten().map(|f| f.unwrap().path()).collect();
    files.sort();
    let mut seeds = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|ending| ending == "pcap")) {
        let mut reader = pcap_file::pcap::PcapReader::new(std::fs::File::open(file).unwrap()).unwrap();
        // A capture may be cut short on purpose; what precedes the cut is good.
        while let Some(Ok(packet)) = reader.next_packet() {
            seeds.push((packet.data().to_vec(), Offload::NONE));
        }
    }
    seeds
}

/// Values at which lengths and offsets break.
const EDGES: [u16; 12] = [0, 1, 2, 13, 14, 20, 40, 0x7f, 0xff, 0x7fff, 0xfffe, 0xffff];

/// Bends a few places of a frame and its offload header; sometimes none.
pub(crate) fn bend(random: &mut Random, seeds: &[Seed]) -> Seed {
    // Captures are many and have no super-frames: they get half of the turns.
    let among = if random.below(2) == 0 { MADE } else { seeds.len() };
    let (mut bytes, offload) = seeds[random.below(among)].clone();
    let mut header = offload.encode();
    for _ in 0..random.below(5) {
        // Headers are short: half of the blows go there.
        let reach = if random.below(2) == 0 { bytes.len().min(80) } else { bytes.len() };
        let at = random.below(reach.max(1)).min(bytes.len());
        match random.below(8) {
            0 => bytes.truncate(at),
            1 => bytes.extend_from_within(..at),
            2 => drop(bytes.splice(at..at, seeds[random.below(seeds.len())].0.iter().copied().take(64))),
            3 => drop(bytes.drain(at..(at + random.below(20)).min(bytes.len()))),
            4 => overwrite(&mut bytes, at, &EDGES[random.below(EDGES.len())].to_be_bytes()),
            5 => overwrite(&mut bytes, at, &random.next().to_ne_bytes()[..1]),
            6 => {
                let at = random.below(5) * 2;
                overwrite(&mut header, at, &EDGES[random.below(EDGES.len())].to_ne_bytes());
            }
            _ => header[random.below(10)] = random.next() as u8,
        }
    }
    (bytes, Offload::decode(&header))
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    bytes.iter_mut().skip(at).zip(with).for_each(|(byte, new)| *byte = *new);
}
