//! Wall time per frame in the router. Aims: an established flow's frame that is translated takes at most
//! 60 ns among a thousand flows and 200 ns among a million, a new flow's at most 400 ns.
//!
//! Only the switch is timed: the frames of a burst are made before, and lie in the cache as if a device had
//! just written them. `bridged` is what a frame costs in this harness without the router.
//!
//! `look-up` is conntrack's look-up alone, one after the other. With many flows that is no part of the
//! others, for they look ahead at the whole burst first; what that and the look-ups take together is
//! `look-up ahead`.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "scenarios/router.rs"]
mod scenarios;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use scenarios::{BURST, Kind, Setting, World};

const SIZES: [(&str, u32); 4] = [("1", 1), ("1k", 1_000), ("100k", 100_000), ("1M", 1_000_000)];
/// Flows that begin before they are all forgotten again.
const FRESH: u32 = 16_384;

type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// The time of so many frames, a few more at most.
fn frames(count: u64, world: &mut World) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..count.div_ceil(BURST as u64) {
        world.prepare();
        let start = Instant::now();
        black_box(world.burst());
        total += start.elapsed();
    }
    total
}

fn established(group: &mut Group<'_>, name: String, world: &mut World) {
    let before = world.sent();
    world.prepare();
    world.burst();
    assert_eq!(world.sent() - before, BURST as u64, "{name}");
    group.bench_function(name, |bencher| bencher.iter_custom(|count| frames(count, world)));
}

fn known(criterion: &mut Criterion) {
    let kinds = [
        ("bridged", Kind::Bridged),
        ("routed", Kind::Routed),
        ("masqueraded", Kind::Masqueraded),
        ("masqueraded tcp", Kind::MasqueradedTcp),
        ("published", Kind::Published),
        ("hairpin", Kind::Hairpin),
    ];
    let mut group = criterion.benchmark_group("established");
    group.throughput(Throughput::Elements(1));
    for (size, flows) in SIZES {
        for (name, kind) in kinds {
            let mut world = World::established(kind, flows, Setting::default());
            if kind == Kind::Masqueraded {
                let bytes = world.switch.conntrack().memory() / flows as usize;
                println!("{flows} flows: {bytes} bytes each");
                lookups(&mut group, format!("look-up/{size}"), false, &mut world);
                lookups(&mut group, format!("look-up ahead/{size}"), true, &mut world);
            }
            established(&mut group, format!("{name}/{size}"), &mut world);
        }
    }
    for (size, user_rules) in [("0", 0), ("1k", 1_000), ("10k", 10_000)] {
        let setting = Setting { user_rules, ..Setting::default() };
        let mut world = World::established(Kind::Masqueraded, 1_000, setting);
        established(&mut group, format!("masqueraded, {size} user rules"), &mut world);
    }
    group.finish();
}

/// Conntrack's look-ups alone.
fn lookups(group: &mut Group<'_>, name: String, ahead: bool, world: &mut World) {
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|count| {
            let mut total = Duration::ZERO;
            for _ in 0..count.div_ceil(BURST as u64) {
                let tuples = world.tuples();
                let conntrack = world.switch.conntrack();
                let start = Instant::now();
                if ahead {
                    let slots = tuples.map(|tuple| conntrack.guess(&tuple));
                    slots.into_iter().flatten().for_each(|slot| conntrack.touch(slot));
                }
                for tuple in &tuples {
                    assert!(black_box(conntrack.lookup(world.now, tuple)).is_some());
                }
                total += start.elapsed();
            }
            total
        });
    });
}

/// Every packet begins a flow, beside those that are there.
fn fresh(group: &mut Group<'_>, name: String, kind: Kind, there: u32, setting: Setting) {
    // In TCP, for they shall outlive the others.
    let mut world = World::established(Kind::MasqueradedTcp, there, setting);
    world.begin_fresh(kind, FRESH);
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|count| {
            let mut total = Duration::ZERO;
            for _ in 0..count.div_ceil(BURST as u64) {
                if world.is_round() {
                    world.forget_fresh(there);
                }
                total += frames(1, &mut world);
            }
            total
        });
    });
    world.forget_fresh(there);
    let before = (world.switch.conntrack().counters.inserted, world.sent());
    frames(1, &mut world);
    assert_eq!(world.switch.conntrack().counters.inserted - before.0, BURST as u64);
    assert_eq!(world.sent() - before.1, BURST as u64);
}

fn new(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("new");
    group.throughput(Throughput::Elements(1));
    for (size, there) in SIZES {
        fresh(&mut group, format!("masqueraded/{size}"), Kind::Masqueraded, there, Setting::default());
    }
    for (name, kind) in [("routed", Kind::Routed), ("published", Kind::Published), ("hairpin", Kind::Hairpin)]
    {
        fresh(&mut group, format!("{name}/1k"), kind, 1_000, Setting::default());
    }
    for (size, routes) in [("1", 1), ("1k", 1_000), ("100k", 100_000)] {
        let setting = Setting { routes, ..Setting::default() };
        fresh(&mut group, format!("routed, {size} routes"), Kind::Far, 1_000, setting);
    }
    for (size, user_rules) in [("1k", 1_000), ("10k", 10_000)] {
        let setting = Setting { user_rules, ..Setting::default() };
        fresh(&mut group, format!("masqueraded, {size} user rules"), Kind::Masqueraded, 1_000, setting);
    }
    group.finish();
}

criterion_group!(benches, known, new);
criterion_main!(benches);
