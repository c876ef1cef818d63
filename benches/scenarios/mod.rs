//! What the bridge is measured with: the same frames for wall time, instructions and allocations.
//!
//! A scenario can go on for ever: after its warm-up every frame costs what the one before cost.

use std::hint::black_box;

use tapswitch::dataplane::fdb::Limits;
use tapswitch::dataplane::{
    Change, Egress, Frame, Instant, NetworkConfig, NetworkId, PortId, Switch, Verdict,
};
use tapswitch::wire::{MacAddr, Offload};

const NETWORK: NetworkId = NetworkId(0);
const FROM: PortId = PortId(0);
/// The sender and eight others.
const PORTS: u32 = 9;
/// Behind the second port, for good.
const DESTINATION: MacAddr = MacAddr([0x02, 0x42, 0, 0, 0, 1]);

/// Frame sizes: the smallest, a full one, and a super-frame that stands for 46 of them.
const SIZES: [(&str, usize); 3] = [("64", 64), ("1500", 14 + 1500), ("64KiB", 14 + 65_535)];

/// An endless stream of frames through a switch of its own.
pub(crate) struct Scenario {
    /// As `known_unicast/64`.
    pub(crate) name: String,
    switch: Switch,
    frame: Frame,
    /// The source addresses take turns.
    sources: u32,
    turn: u32,
    now: Instant,
    /// Nanoseconds between two frames.
    pace: u64,
    out: Sink,
}

/// Counts what leaves the switch.
#[derive(Default)]
struct Sink(u64);

impl Egress for Sink {
    #[inline]
    fn send(&mut self, to: PortId, frame: &Frame) {
        black_box((to, frame.bytes().as_ptr()));
        self.0 += 1;
    }

    #[inline]
    fn emit(&mut self, to: PortId, bytes: &[u8], _: Offload) {
        black_box((to, bytes.as_ptr()));
        self.0 += 1;
    }
}

/// Every scenario, before its warm-up.
pub(crate) fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (label, len) in SIZES {
        all.push(known_unicast(label, len));
        all.push(flood(label, len));
    }
    for (label, sources) in [("1", 1), ("1k", 1_000), ("100k", 100_000)] {
        all.push(refresh(label, sources));
    }
    all.push(evict());
    all
}

/// Both addresses known: what nearly every frame is.
fn known_unicast(label: &str, len: usize) -> Scenario {
    Scenario::new(format!("known_unicast/{label}"), NetworkConfig::default(), len, DESTINATION, 1, 1_000)
}

/// A broadcast to eight ports, at half the rate at which the flood limit would stop it.
fn flood(label: &str, len: usize) -> Scenario {
    let config = NetworkConfig::default();
    let pace = 2 * 1_000_000_000 / u64::from(config.flood_limit);
    Scenario::new(format!("flood_to_8/{label}"), config, len, MacAddr::BROADCAST, 1, pace)
}

/// So many stations take turns, slowly enough that each frame renews its sender's entry.
fn refresh(label: &str, sources: u32) -> Scenario {
    let mut config = NetworkConfig::default();
    config.fdb = Limits { table: 1 << 18, port: 1 << 18, ..config.fdb };
    let pace = 2_000_000_000 / u64::from(sources);
    Scenario::new(format!("learn/{label}"), config, 64, DESTINATION, sources, pace)
}

/// More stations than a port may own: each frame learns one address and evicts another.
fn evict() -> Scenario {
    let name = "learn_and_evict/100k".to_owned();
    Scenario::new(name, NetworkConfig::default(), 64, DESTINATION, 100_000, 1_000)
}

impl Scenario {
    fn new(name: String, config: NetworkConfig, len: usize, to: MacAddr, sources: u32, pace: u64) -> Self {
        let now = Instant(0);
        let mut switch = Switch::new(7);
        let ports = (0..PORTS).map(|port| Change::AddPort(PortId(port), NETWORK));
        let changes = std::iter::once(Change::AddNetwork(NETWORK, config)).chain(ports);
        for change in changes.chain([Change::AddFdb(NETWORK, DESTINATION, PortId(1))]) {
            switch.apply(now, change).unwrap();
        }
        let out = Sink::default();
        Self { name, switch, frame: frame(len, to), sources, turn: 0, now, pace, out }
    }

    /// Every source has sent: from here on the cost is steady. Says what becomes of each frame.
    pub(crate) fn warm_up(&mut self) -> Verdict {
        for _ in 1..self.sources {
            self.step();
        }
        self.step()
    }

    /// The next frame.
    #[inline]
    pub(crate) fn step(&mut self) -> Verdict {
        self.turn = if self.turn + 1 == self.sources { 0 } else { self.turn + 1 };
        self.now.0 += self.pace;
        // The source address ends at byte 12.
        self.frame.space()[8..12].copy_from_slice(&(self.turn + 2).to_be_bytes());
        // Or the compiler would know what the frame's bytes are.
        let frame = black_box(&mut self.frame);
        self.switch.input(self.now, FROM, frame, &mut self.out, &mut ())
    }

    /// Frames that left the switch so far.
    pub(crate) fn sent(&self) -> u64 {
        self.out.0
    }
}

/// TCP over IPv4, as a TAP with offload hands it over; the bridge looks no further than the lengths.
fn frame(len: usize, to: MacAddr) -> Frame {
    let mut bytes = vec![0; len];
    bytes[..6].copy_from_slice(&to.0);
    bytes[6..12].copy_from_slice(&[0x02, 0x42, 0, 0, 0, 2]);
    bytes[12..14].copy_from_slice(&[0x08, 0x00]);
    bytes[46] = 8 << 4; // the TCP header has 32 bytes
    let mut frame = Frame::new();
    let checksum = Offload { flags: 1, csum_start: 34, csum_offset: 16, ..Offload::NONE };
    let offload =
        if len > 1514 { Offload { gso_type: 1, hdr_len: 66, gso_size: 1448, ..checksum } } else { checksum };
    frame.set(&bytes, offload);
    frame
}
