//! Nothing is allocated per frame: not by the bridge once it knows its stations, not by the router for the
//! packets of flows that it knows, nor for a new flow once there were as many.
#![allow(unsafe_code, clippy::unwrap_used)]

#[path = "../benches/scenarios/mod.rs"]
mod scenarios;

#[path = "../benches/scenarios/router.rs"]
mod router;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use router::{BURST, Kind, Setting, World};
use tapswitch::dataplane::Verdict;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting what each thread asks for.
struct Counting;

// SAFETY: every call is passed on unchanged to `System`, which keeps the contract; counting does not allocate,
// for the thread-local is a constant without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise about `layout` is the one `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System.alloc` with this `layout`, by the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations_during(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations_during(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn frames_are_forwarded_without_allocating() {
    const FRAMES: u64 = 10_000;
    for mut scenario in scenarios::all() {
        let verdict = scenario.warm_up();
        let copies = if matches!(verdict, Verdict::Flood(_)) { 8 } else { 1 };
        let sent = scenario.sent();
        let allocations = allocations_during(|| {
            for _ in 0..FRAMES {
                assert_eq!(scenario.step(), verdict, "{}", scenario.name);
            }
        });
        assert_eq!(scenario.sent() - sent, FRAMES * copies, "{}", scenario.name);
        assert_eq!(allocations, 0, "{}", scenario.name);
    }
}

#[test]
fn packets_of_known_flows_are_routed_and_translated_without_allocating() {
    const BURSTS: usize = 300;
    let kinds = [
        Kind::Routed,
        Kind::Masqueraded,
        Kind::MasqueradedTcp,
        Kind::Published,
        Kind::Hairpin,
        Kind::Bridged,
    ];
    for kind in kinds {
        let mut world = World::established(kind, 1000, Setting::default());
        let sent = world.sent();
        let allocations = allocations_during(|| {
            for _ in 0..BURSTS {
                world.prepare();
                world.burst();
            }
        });
        assert_eq!(world.sent() - sent, (BURSTS * BURST) as u64, "{kind:?}");
        assert_eq!(allocations, 0, "{kind:?}");
    }
}

#[test]
fn new_flows_allocate_nothing_once_there_were_as_many() {
    const FLOWS: u32 = 1024;
    let mut world = World::new(Kind::Masqueraded, Setting::default());
    world.begin_fresh(Kind::Masqueraded, FLOWS);
    let all_at_once = |world: &mut World| {
        let sent = world.sent();
        for _ in 0..FLOWS as usize / BURST {
            world.prepare();
            world.burst();
        }
        assert_eq!(world.sent() - sent, u64::from(FLOWS));
    };
    all_at_once(&mut world);
    world.forget_fresh(0);
    assert_eq!(allocations_during(|| all_at_once(&mut world)), 0);
}
