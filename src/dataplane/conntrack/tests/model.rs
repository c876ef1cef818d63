//! The table against a list of flows that is searched from one end to the other.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::dataplane::DropReason;

/// A port's number and which of its lives.
type Life = (PortId, u32);

#[derive(Debug, Clone)]
struct Known {
    id: FlowId,
    new: NewFlow,
    owner: Life,
    peer: Option<Life>,
    source: (Option<Life>, u128),
    deadline: Instant,
    /// When it became droppable, if it is.
    droppable: Option<u64>,
}

/// The obvious way to do it.
#[derive(Debug, Default)]
struct Naive {
    flows: Vec<Known>,
    lives: BTreeMap<PortId, u32>,
    clock: u64,
    expired: u64,
    orphaned: u64,
}

impl Naive {
    fn life(&self, port: PortId) -> Life {
        (port, self.lives.get(&port).copied().unwrap_or(0))
    }

    fn is_orphan(&self, flow: &Known) -> bool {
        [Some(flow.owner), flow.peer].into_iter().flatten().any(|life| self.life(life.0) != life)
    }

    fn lookup(&self, now: Instant, tuple: &Tuple) -> Option<Found> {
        let alive = self.flows.iter().filter(|flow| now < flow.deadline && !self.is_orphan(flow));
        alive.flat_map(|flow| [(flow, Direction::Original), (flow, Direction::Reply)]).find_map(
            |(flow, direction)| {
                let own = [flow.new.original, flow.new.reply][direction.index()];
                (own == *tuple).then_some(Found { id: flow.id, direction })
            },
        )
    }

    fn source(&self, owner: PortId, source: Source) -> (Option<Life>, u128) {
        match source {
            Source::Port => (Some(self.life(owner)), 0),
            Source::Address(a) if a.version() == crate::wire::ip::Version::V6 => (None, a.to_bits() >> 64),
            Source::Address(a) => (None, a.to_bits()),
        }
    }

    fn oldest(&self, which: impl Fn(&Known) -> bool) -> Option<FlowId> {
        let candidates = self.flows.iter().filter(|flow| flow.droppable.is_some() && which(flow));
        candidates.min_by_key(|flow| flow.droppable).map(|flow| flow.id)
    }

    /// Who may be evicted (among lives of one port any will do), nobody needs to be, or why not.
    fn room(&self, owner: PortId, source: Source, limits: &Limits) -> Result<Vec<FlowId>, DropReason> {
        let source = self.source(owner, source);
        if self.flows.iter().filter(|flow| flow.source == source).count() >= limits.source as usize {
            let own = self.oldest(|flow| flow.source == source);
            return own.map(|id| vec![id]).ok_or(DropReason::CtSourceLimit);
        }
        if self.flows.len() < limits.table as usize {
            return Ok(Vec::new());
        }
        let mut weights = BTreeMap::<Life, usize>::new();
        for flow in self.flows.iter().filter(|flow| flow.droppable.is_some()) {
            *weights.entry(flow.owner).or_default() += 1;
        }
        let most = weights.values().copied().max().ok_or(DropReason::CtFull)?;
        let mut heaviest: Vec<Life> = weights.into_iter().filter(|w| w.1 == most).map(|w| w.0).collect();
        if heaviest.contains(&self.life(owner)) {
            heaviest = vec![self.life(owner)];
        }
        let lowest = heaviest.iter().map(|life| life.0).min();
        heaviest.retain(|life| Some(life.0) == lowest);
        Ok(heaviest.iter().filter_map(|life| self.oldest(|flow| flow.owner == *life)).collect())
    }

    fn set_droppable(clock: &mut u64, flow: &mut Known, on: bool) {
        if on && flow.droppable.is_none() {
            *clock += 1;
            flow.droppable = Some(*clock);
        } else if !on {
            flow.droppable = None;
        }
    }

    fn sweep(&mut self, now: Instant) {
        let expired = |flow: &Known| flow.deadline.0.div_ceil(1_000_000_000) <= now.0 / 1_000_000_000;
        let before = self.flows.len();
        self.flows.retain(|flow| !expired(flow));
        self.expired += (before - self.flows.len()) as u64;
        let orphans: Vec<bool> = self.flows.iter().map(|flow| self.is_orphan(flow)).collect();
        self.orphaned += orphans.iter().filter(|orphan| **orphan).count() as u64;
        let mut orphans = orphans.into_iter();
        self.flows.retain(|_| !orphans.next().unwrap_or(false));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Open { tuple: u8, nat: Option<u8>, owner: u8, source: u8, update: Update },
    Packet { tuple: u8, update: Update },
    Peer { tuple: u8, port: u8 },
    Pass { nanos: u64 },
    Sweep { budget: usize },
    Forget { port: u8 },
    Remove { tuple: u8 },
    Limit { table: u32, source: u32 },
}

fn update() -> impl Strategy<Value = Update> {
    let timeout = prop_oneof![0..5u32, 50..200u32, 4000..9000u32, 260_000..500_000u32, Just(u32::MAX)];
    (timeout, any::<bool>(), any::<bool>()).prop_map(|(timeout, assured, droppable)| Update {
        timeout,
        assured,
        droppable,
        ..OPENING
    })
}

fn step() -> impl Strategy<Value = Step> {
    let nanos = (0..9u32, 0..100u64).prop_map(|(power, n)| n * 300_000_000 * 6u64.pow(power));
    prop_oneof![
        8 => (0..40u8, proptest::option::of(0..40u8), 0..4u8, 0..6u8, update())
            .prop_map(|(tuple, nat, owner, source, update)| Step::Open { tuple, nat, owner, source, update }),
        6 => (0..80u8, update()).prop_map(|(tuple, update)| Step::Packet { tuple, update }),
        2 => (0..80u8, 0..4u8).prop_map(|(tuple, port)| Step::Peer { tuple, port }),
        3 => nanos.prop_map(|nanos| Step::Pass { nanos }),
        3 => (1..40usize).prop_map(|budget| Step::Sweep { budget }),
        1 => (0..4u8).prop_map(|port| Step::Forget { port }),
        1 => (0..80u8).prop_map(|tuple| Step::Remove { tuple }),
        1 => (0..25u32, 0..12u32).prop_map(|(table, source)| Step::Limit { table, source }),
    ]
}

/// Eighty tuples; the upper forty are the lower ones' inverses. The last pair of each are their own.
fn name(n: u8) -> Tuple {
    if n >= 40 {
        return name(n - 40).invert();
    }
    let base = tuple(n % 5, u32::from(n));
    if n == 39 {
        Tuple { destination: base.source, destination_port: base.source_port, ..base }
    } else {
        base
    }
}

fn source(n: u8) -> Source {
    match n {
        0 | 1 => Source::Port,
        2 => Source::Address(Addr::v4([10, 0, 0, 1])),
        3 => Source::Address(Addr::v4([10, 0, 0, 2])),
        _ => Source::Address(Addr::from_bits((0xfd << 120) + u128::from(n))),
    }
}

/// Both, side by side.
struct Pair {
    ct: Conntrack,
    naive: Naive,
    now: Instant,
}

impl Pair {
    fn step(&mut self, step: &Step) {
        let (now, naive, ct) = (self.now, &mut self.naive, &mut self.ct);
        match *step {
            Step::Open { tuple, nat, owner, source: from, update } => {
                let original = name(tuple);
                let reply =
                    nat.map_or(original.invert(), |n| Tuple { destination_port: 50_000, ..name(n).invert() });
                let (owner, source) = (PortId(u32::from(owner)), source(from));
                let new = NewFlow {
                    original,
                    reply,
                    status: Status::default(),
                    owner,
                    source,
                    first: update,
                    replaces: None,
                };
                if naive.lookup(now, &original).or(naive.lookup(now, &reply)).is_none() {
                    self.open(&new);
                }
            }
            Step::Packet { tuple, update } => {
                if let Some(found) = ct.lookup(now, &name(tuple)) {
                    ct.update(now, found, &update);
                    let flow = naive.flows.iter_mut().find(|flow| flow.id == found.id).unwrap();
                    flow.deadline = Instant(now.0 + u64::from(update.timeout) * 1_000_000_000);
                    Naive::set_droppable(&mut naive.clock, flow, update.droppable);
                }
            }
            Step::Peer { tuple, port } => {
                if let Some(found) = ct.lookup(now, &name(tuple)) {
                    let peer = naive.life(PortId(u32::from(port)));
                    ct.set_peer(found.id, peer.0);
                    naive.flows.iter_mut().filter(|f| f.id == found.id).for_each(|f| f.peer = Some(peer));
                }
            }
            Step::Pass { nanos } => self.now.0 += nanos,
            Step::Sweep { budget } => self.sweep(budget),
            Step::Forget { port } => {
                *naive.lives.entry(PortId(u32::from(port))).or_default() += 1;
                ct.forget_port(PortId(u32::from(port)));
            }
            Step::Remove { tuple } => {
                if let Some(found) = ct.lookup(now, &name(tuple)) {
                    assert!(ct.remove(now, found.id));
                    naive.flows.retain(|flow| flow.id != found.id);
                }
            }
            Step::Limit { table, source } => ct.set(Limits { table, source }, Timeouts::default()),
        }
    }

    fn open(&mut self, new: &NewFlow) {
        let expected = self.naive.room(new.owner, new.source, self.ct.limits());
        let room = self.ct.room(new.owner, new.source);
        let Ok(candidates) = expected else {
            assert_eq!(room.err(), expected.err());
            return;
        };
        let room = room.unwrap();
        match room.0 {
            None => assert!(candidates.is_empty()),
            Some(evicted) => assert!(candidates.contains(&evicted)),
        }
        self.naive.flows.retain(|flow| Some(flow.id) != room.0);
        let id = self.ct.insert(self.now, new, room).unwrap();
        let mut known = Known {
            id,
            new: *new,
            owner: self.naive.life(new.owner),
            peer: None,
            source: self.naive.source(new.owner, new.source),
            deadline: Instant(self.now.0 + u64::from(new.first.timeout) * 1_000_000_000),
            droppable: None,
        };
        Naive::set_droppable(&mut self.naive.clock, &mut known, new.first.droppable);
        self.naive.flows.push(known);
    }

    fn sweep(&mut self, budget: usize) {
        while self.ct.next_expiry().is_some_and(|due| due <= self.now) {
            let looked = self.ct.expire(self.now, budget);
            assert!(looked > 0 && looked <= budget);
        }
        self.naive.sweep(self.now);
    }

    fn check(&self) {
        let (now, ct, naive) = (self.now, &self.ct, &self.naive);
        for n in 0..80 {
            assert_eq!(ct.lookup(now, &name(n)), naive.lookup(now, &name(n)));
        }
        assert_eq!(ct.len() as usize, naive.flows.len());
        assert_eq!((ct.counters.expired, ct.counters.orphaned), (naive.expired, naive.orphaned));
        let last = naive.flows.iter().map(|flow| flow.deadline.0.div_ceil(1_000_000_000)).min();
        let due = ct.next_expiry().map(|due| due.0.div_ceil(1_000_000_000));
        assert!(due.is_some() == last.is_some() && due <= last, "never late");
        let shown = ct.page(now, 0, 1000).0.len();
        let alive = naive.flows.iter().filter(|flow| now < flow.deadline && !naive.is_orphan(flow)).count();
        assert_eq!(shown, alive);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn the_table_does_what_the_obvious_one_does(steps in proptest::collection::vec(step(), 1..150)) {
        let mut pair = Pair { ct: limited(20, 10), naive: Naive::default(), now: Instant(5_500_000_000) };
        for step in &steps {
            pair.step(step);
            pair.check();
        }
        // Nothing stays behind anywhere.
        pair.now = Instant(u64::MAX);
        pair.sweep(usize::MAX);
        pair.check();
        prop_assert!(pair.ct.is_pristine());
    }
}
