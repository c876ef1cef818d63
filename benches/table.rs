//! The longest single call while a table of a million flows grows, is shown and expires. Aim: none stalls
//! forwarding for a millisecond.
//!
//! Everything is done three times over, and of each call the shortest time counts: what the machine does
//! besides hits another call every time, what the table does hits the same one.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "scenarios/router.rs"]
mod scenarios;

use std::time::Instant;

use scenarios::{Kind, SECOND, Setting, World};
use tapswitch::dataplane::{Egress, Frame, PortId};
use tapswitch::wire::Offload;

const FLOWS: u32 = 1 << 20;
const ROUNDS: usize = 3;
/// Rows of one page, as the daemon asks for them.
const PAGE: u32 = 1024;

/// Nobody receives anything.
struct Nobody;

impl Egress for Nobody {
    fn send(&mut self, _: PortId, _: &Frame) {}
    fn emit(&mut self, _: PortId, _: &[u8], _: Offload) {}
}

/// Nanoseconds of each call of one kind, the shortest of all rounds.
#[derive(Default)]
struct Calls {
    nanos: Vec<u32>,
    next: usize,
}

impl Calls {
    fn time<R>(&mut self, call: impl FnOnce() -> R) -> R {
        let start = Instant::now();
        let result = call();
        let nanos = u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX);
        match self.nanos.get_mut(self.next) {
            Some(shortest) => *shortest = nanos.min(*shortest),
            None => self.nanos.push(nanos),
        }
        self.next += 1;
        result
    }

    fn print(&mut self, name: &str) {
        self.nanos.sort_unstable();
        let micros = |nanos: u32| f64::from(nanos) / 1000.0;
        let (count, median) = (self.nanos.len(), micros(self.nanos[self.nanos.len() / 2]));
        let longest = micros(*self.nanos.last().unwrap());
        println!("{name:22} {count:9} calls, median {median:8.2} us, longest {longest:8.1} us");
    }
}

fn main() {
    let (mut grow, mut dump, mut expire) = (Calls::default(), Calls::default(), Calls::default());
    let mut bytes = 0;
    for _ in 0..ROUNDS {
        (grow.next, dump.next, expire.next) = (0, 0, 0);
        let mut world = World::new(Kind::Masqueraded, Setting::default());
        world.begin_fresh(Kind::Masqueraded, FLOWS);
        for _ in 0..FLOWS {
            world.prepare_one();
            grow.time(|| world.one());
        }
        assert_eq!(world.switch.conntrack().len(), FLOWS);
        bytes = world.switch.conntrack().memory() / FLOWS as usize;
        let (mut cursor, mut rows) = (Some(0), 0);
        while let Some(from) = cursor {
            let now = world.now;
            let page = dump.time(|| world.switch.conntrack().page(now, from, PAGE));
            rows += page.0.len();
            cursor = page.1;
        }
        assert_eq!(rows, FLOWS as usize);
        world.now.0 += 2 * SECOND;
        while !world.switch.conntrack().is_empty() {
            let now = world.now;
            expire.time(|| world.switch.handle_timeout(now, &mut Nobody));
        }
    }
    println!("{FLOWS} flows, {bytes} bytes each");
    grow.print("a new flow");
    dump.print("a page of the dump");
    expire.print("a slice of expiry");
}
