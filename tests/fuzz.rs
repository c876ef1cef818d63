//! Bytes that nobody should send: real frames, bent at random but the same way on every run, into everything
//! that reads bytes from a port. `TAPSWITCH_FUZZ_ITERATIONS` says how many (default: a few seconds' worth).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::blows::{ENOUGH, Random, bend, iterations, seeds};
use tapswitch::dataplane::fdb::Limits;
use tapswitch::dataplane::frame::MAX_LEN;
use tapswitch::dataplane::{
    Change, Counters, DropReason, Egress, Frame, Instant, NetworkConfig, NetworkId, PortId, Switch, Verdict,
};
use tapswitch::wire::Offload;
use tapswitch::wire::ethernet::Header;
use tapswitch::wire::segment;

#[test]
fn headers_and_segments() {
    let (seeds, mut random, mut scratch) = (seeds(), Random(1), Vec::new());
    let (mut cut, mut refused) = (0, 0);
    for _ in 0..iterations() {
        let (bytes, offload) = bend(&mut random, &seeds);
        if let Ok(header) = Header::parse(&bytes) {
            assert_eq!(header.payload, 14 + 4 * usize::from(header.tags));
            assert!(header.payload <= bytes.len());
        }
        assert!(offload.segments(&bytes) >= 1);
        assert!(offload.header_end(&bytes).is_none_or(|end| end <= bytes.len()));
        let mut frames = Vec::new();
        match segment::complete(&bytes, &offload, &mut scratch, |frame| frames.push(frame.len())) {
            Err(_) => {
                assert!(frames.is_empty(), "{offload:?} of {} bytes: emitted, then refused", bytes.len());
                refused += 1;
            }
            Ok(()) => {
                assert_eq!(frames.len() as u32, offload.segments(&bytes));
                let headers = offload.header_end(&bytes).unwrap_or(0);
                let carried: usize = frames.iter().map(|len| len - headers).sum();
                assert_eq!(carried + headers, bytes.len());
                cut += usize::from(frames.len() > 1);
            }
        }
    }
    println!("cut {cut}, refused {refused}");
    assert!(iterations() < ENOUGH || cut > 0 && refused > 0, "the blows do not reach both answers");
}

const PORTS: u32 = 2;
const NETWORK: NetworkId = NetworkId(0);
const LIMITS: Limits = Limits { table: 24, port: 16, ageing: Duration::from_secs(5) };

/// Adds up what leaves the switch, as a port's counters do.
#[derive(Default)]
struct Sums(Counters);

impl Egress for Sums {
    fn send(&mut self, _: PortId, frame: &Frame) {
        self.0.tx.count(frame.bytes().len(), frame.offload.segments(frame.bytes()));
    }

    fn emit(&mut self, _: PortId, bytes: &[u8], offload: Offload) {
        self.0.tx.count(bytes.len(), offload.segments(bytes));
    }
}

#[test]
fn the_switch() {
    let (seeds, mut random, mut switch) = (seeds(), Random(2), Switch::new(3));
    let config = NetworkConfig { fdb: LIMITS, flood_limit: 3, ..NetworkConfig::default() };
    switch.apply(Instant(0), Change::AddNetwork(NETWORK, config)).unwrap();
    (0..PORTS).for_each(|port| switch.apply(Instant(0), Change::AddPort(PortId(port), NETWORK)).unwrap());

    let (mut now, mut frame, mut out) = (Instant(0), Frame::new(), Sums::default());
    let mut expected = Counters::default();
    for _ in 0..iterations() {
        let (bytes, offload) = bend(&mut random, &seeds);
        frame.set(&bytes, offload);
        let from = PortId(random.below(PORTS as usize) as u32);
        let (len, segments) = (bytes.len().min(MAX_LEN), offload.segments(frame.bytes()));
        let verdict = switch.input(now, from, &mut frame, &mut out, &mut ());
        expected.rx.count(len, segments);
        match verdict {
            Verdict::Drop(reason) => expected.drops[reason] += 1,
            // With two ports a flooded frame goes to one, like any other.
            Verdict::ToPort(_) | Verdict::Flood(_) => expected.tx.count(len, segments),
            other => panic!("{other:?}, and nothing routes here"),
        }
        assert!(switch.network(NETWORK).unwrap().fdb.len() <= LIMITS.table as usize);
        match random.below(200) {
            0 => now = now + Duration::from_millis(random.below(6000) as u64),
            1 => switch.handle_timeout(now, &mut out),
            2 => switch.apply(now, Change::SetPort(from, false)).unwrap(),
            3..20 => switch.apply(now, Change::SetPort(from, true)).unwrap(),
            _ => now = now + Duration::from_micros(random.below(2000) as u64),
        }
    }
    let total = switch.network_counters(NETWORK).unwrap();
    assert_eq!((total, out.0.tx), (expected, expected.tx));
    assert_eq!(total.rx.frames, total.tx.frames + total.dropped());
    // Every reason that a bridge has, when it is not told to keep its containers apart.
    let possible = [
        "runt",
        "oversize",
        "bad_offload",
        "bad_source",
        "link_local",
        "port_down",
        "same_port",
        "no_listener",
        "flood_limit",
    ];
    let reached = |reason: &&DropReason| total.drops[**reason] > 0;
    let reached: Vec<_> = DropReason::ALL.iter().filter(reached).map(|reason| reason.name()).collect();
    assert!(
        iterations() < ENOUGH || reached == possible,
        "{reached:?}: the blows do not reach every verdict"
    );
}
