//! The table of flows.
//!
//! Theory of operation. See the parent module for the parts. Every flow is in a slot, twice in the index
//! (by its tuples), on the timer wheel, counted for its owners, and, while it may be evicted, on their lists.
//!
//! *Life and death.* A flow is alive until its deadline, unless a port that it came or went by was
//! forgotten. Who is not alive is not found, whatever has not been swept yet; a new flow with the same tuples
//! may stand beside the dead one.
//!
//! *Full.* The table counts what has not been swept, too. A limit that is set below what there is evicts
//! nobody at once: every new flow displaces a droppable one, until enough have expired.

use std::hash::BuildHasher;
use std::hint::black_box;

use foldhash::fast::FixedState;

use super::events::{EventKind, Events};
use super::flow::{Flow, FlowId, Found, NewFlow, Status, Traffic, Update, Way};
use super::index::{Hash, Index};
use super::list::Link;
use super::mappings::Mappings;
use super::owners::{Owners, Source};
use super::slab::{NIL, Slab};
use super::wheel::{self, Wheel};
use super::{Direction, Limits, Timeouts, Tuple};
use crate::dataplane::{DropReason, Instant, PortId};

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

/// What happened to flows, since the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConntrackCounters {
    /// Flows that entered the table.
    pub inserted: u64,
    /// Flows that outlived their timeout.
    pub expired: u64,
    /// Flows evicted for others.
    pub early_dropped: u64,
    /// Flows deleted by request.
    pub deleted: u64,
    /// Flows that went with their port.
    pub orphaned: u64,
    /// New flows refused because the table was full of flows that may not be evicted.
    pub refused_full: u64,
    /// New flows refused because their source was at its limit with such flows.
    pub refused_source: u64,
    /// Packets of no flow that could not begin one.
    pub invalid: u64,
}

/// Room for one more flow, and who has to go for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room(pub Option<FlowId>);

/// Why a flow leaves the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Expired,
    Evicted,
    Deleted,
    Orphaned,
}

/// See the module's theory of operation.
#[derive(Debug)]
pub struct Conntrack {
    limits: Limits,
    timeouts: Timeouts,
    hasher: FixedState,
    pub(super) flows: Slab<Flow>,
    /// Slot and direction (the lowest bit) by a tuple's hash.
    index: Index,
    wheel: Wheel,
    owners: Owners,
    mappings: Mappings,
    /// The slot that is looked at next when dead homes' flows are swept.
    sweep: u32,
    pub(super) events: Events,
    /// Life-time counters.
    pub counters: ConntrackCounters,
}

impl Conntrack {
    /// An empty table with the default limits. `seed` makes its hash unpredictable to the containers.
    pub fn new(seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self {
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            owners: Owners::new(hasher.clone()),
            mappings: Mappings::new(hasher.clone()),
            hasher,
            flows: Slab::default(),
            index: Index::default(),
            wheel: Wheel::default(),
            sweep: 0,
            events: Events::default(),
            counters: ConntrackCounters::default(),
        }
    }

    /// New limits and timeouts. Deadlines that are set stay until the flow's next packet, as in Linux.
    pub fn set(&mut self, limits: Limits, timeouts: Timeouts) {
        (self.limits, self.timeouts) = (limits, timeouts);
    }

    /// How many flows there may be.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How long idle flows live.
    #[inline]
    pub const fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// How many flows there are (`nf_conntrack_count`); the dead are counted until they are swept.
    pub const fn len(&self) -> u32 {
        self.flows.used()
    }

    /// Whether the table is empty.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the table takes.
    pub fn memory(&self) -> usize {
        self.flows.memory() + self.index.memory() + self.owners.memory() + self.mappings.memory()
    }

    /// Which outside ports stand for whom.
    #[inline]
    pub const fn mappings(&self) -> &Mappings {
        &self.mappings
    }

    /// A number that nobody outside can foresee and that is always the same for this tuple.
    #[inline]
    pub fn number_of(&self, tuple: &Tuple) -> u64 {
        self.hash_of(tuple)
    }

    /// The flow that a packet with this tuple belongs to.
    pub fn lookup(&self, now: Instant, tuple: &Tuple) -> Option<Found> {
        self.find(now, tuple).map(|(found, _)| found)
    }

    /// The same, with what is known of the flow.
    #[inline]
    pub fn find(&self, now: Instant, tuple: &Tuple) -> Option<(Found, &Flow)> {
        let mut found = None;
        self.index.find(self.hash(tuple), |value| {
            let (slot, direction) = (value >> 1, direction(value));
            found = self.flows.get(slot).filter(|flow| flow.tuple(direction) == tuple).and_then(|flow| {
                let id = FlowId { slot, generation: flow.generation };
                self.is_alive(flow, now).then_some((Found { id, direction }, flow))
            });
            found.is_some()
        });
        found
    }

    /// The slot of what is probably the flow with this tuple. Reads the index, no flow.
    #[inline]
    pub fn guess(&self, tuple: &Tuple) -> Option<u32> {
        self.index.find(self.hash(tuple), |_| true).map(|value| value >> 1)
    }

    /// Reads all that a packet needs of the flow in a slot, so that it is near when it does.
    #[inline]
    pub fn touch(&self, slot: u32) {
        if let Some(flow) = self.flows.get(slot) {
            // One of each 64 bytes.
            let Flow { tuples: [original, reply], traffic: [_, traffic], deadline, .. } = flow;
            black_box((original.protocol, reply.protocol, traffic.packets, deadline.0));
        }
    }

    /// A flow that was found or inserted and has not left the table since.
    #[inline]
    pub fn flow(&self, id: FlowId) -> Option<&Flow> {
        self.flows.get(id.slot).filter(|flow| flow.generation == id.generation && flow.is_used())
    }

    /// Whether one more flow may enter, and at whose expense.
    pub fn room(&self, owner: PortId, source: Source) -> Result<Room, DropReason> {
        let (flows, oldest) = self.owners.of_source(owner, source);
        let (who, refusal) = if flows >= self.limits.source {
            (oldest, DropReason::CtSourceLimit)
        } else if self.len() >= self.limits.table {
            (self.owners.yields_to(owner), DropReason::CtFull)
        } else {
            return Ok(Room(None));
        };
        let flow = self.flows.get(who).ok_or(refusal)?;
        Ok(Room(Some(FlowId { slot: who, generation: flow.generation })))
    }

    /// Counts what [`room`](Self::room) refused, and packets of no flow.
    pub const fn count_refused(&mut self, reason: DropReason) {
        match reason {
            DropReason::CtInvalid => self.counters.invalid += 1,
            DropReason::CtSourceLimit => self.counters.refused_source += 1,
            DropReason::CtFull => self.counters.refused_full += 1,
            _ => {}
        }
    }

    /// Lets a flow in, with the room that was found for it. Neither of its tuples may belong to a living flow.
    /// `None` when the slots' numbers have run out.
    pub fn insert(&mut self, now: Instant, new: &NewFlow, room: Room) -> Option<FlowId> {
        if let Some(ended) = new.replaces.filter(|id| self.flow(*id).is_some()) {
            self.take_out(ended.slot, now, Cause::Expired);
        }
        if let Some(evicted) = room.0.filter(|id| self.flow(*id).is_some()) {
            self.take_out(evicted.slot, now, Cause::Evicted);
        }
        let deadline = deadline(now, new.first.timeout);
        let fresh = || Flow::new(new);
        let slot = self.flows.add(fresh)?;
        let (home, source) = self.owners.enter(new.owner, new.source);
        let flow = self.flows.get_mut(slot)?;
        let generation = flow.generation;
        *flow = Flow { generation, deadline, homes: [home, NIL], source, ..fresh() };
        let [original, reply] = flow.tuples;
        if new.status.has(Status::SNAT) && self.mappings.acquire(&original, &reply) {
            flow.status = flow.status.with(Status::MAPPED);
        }
        self.index.insert(self.hash(&original), slot << 1);
        if reply != original {
            self.index.insert(self.hash(&reply), slot << 1 | 1);
        }
        self.wheel.place(&mut self.flows, slot, wheel::tick_after(deadline));
        if new.first.droppable {
            self.owners.set_droppable(&mut self.flows, slot, true);
        }
        self.counters.inserted += 1;
        self.tell(EventKind::New, slot, now);
        Some(FlowId { slot, generation })
    }

    /// Carries out what a packet of a flow means for it.
    #[inline]
    pub fn update(&mut self, now: Instant, found: Found, update: &Update) {
        let Found { id, direction } = found;
        let Some(flow) = self.flows.get_mut(id.slot).filter(|flow| flow.generation == id.generation) else {
            return;
        };
        flow.traffic[direction.index()].count(update.bytes);
        let deadline = deadline(now, update.timeout);
        let sooner = deadline < flow.deadline;
        flow.deadline = deadline;
        let before = (flow.status, self.events.is_watched().then(|| flow.state.name()));
        flow.state = update.state;
        flow.status = match direction {
            Direction::Original => flow.status,
            Direction::Reply => flow.status.with(Status::SEEN_REPLY),
        }
        .set(Status::ASSURED, update.assured);
        if direction == Direction::Reply && !before.0.has(Status::SEEN_REPLY) {
            // The rules see another state from now on.
            flow.ways[Direction::Original.index()] = Way::NONE;
        }
        let after = (flow.status, self.events.is_watched().then(|| flow.state.name()));
        if sooner {
            self.move_timer(id.slot, wheel::tick_after(deadline));
        }
        if before.0.has(Status::DROPPABLE) != update.droppable {
            self.owners.set_droppable(&mut self.flows, id.slot, update.droppable);
        }
        if self.events.is_watched() && before != after {
            self.tell(EventKind::Update, id.slot, now);
        }
    }

    /// Remembers the way of the packets of this direction.
    #[inline]
    pub fn set_way(&mut self, found: Found, way: Way) {
        if let Some(flow) = self.flow_mut(found.id) {
            flow.ways[found.direction.index()] = way;
        }
    }

    /// Says by which port a flow's packets leave: the flow goes when that port goes, too.
    #[inline]
    pub fn set_peer(&mut self, id: FlowId, port: PortId) {
        let Some(flow) = self.flow(id) else { return };
        let old = flow.homes[1];
        if self.owners.living_port(old) == Some(port) {
            return;
        }
        let home = self.owners.home_for(port);
        self.owners.leave_home(old);
        if let Some(flow) = self.flow_mut(id) {
            flow.homes[1] = home;
        }
    }

    /// Deletes a flow; whether it was there.
    pub fn remove(&mut self, now: Instant, id: FlowId) -> bool {
        let is_there = self.flow(id).is_some();
        if is_there {
            self.take_out(id.slot, now, Cause::Deleted);
        }
        is_there
    }

    /// A port has gone: the flows that came or went by it are dead from now on.
    /// [`expire`](Self::expire) sweeps them.
    pub fn forget_port(&mut self, port: PortId) {
        self.owners.forget(port);
    }

    /// When [`expire`](Self::expire) next has something to do.
    pub fn next_expiry(&self) -> Option<Instant> {
        if self.owners.has_dead() { Some(Instant(0)) } else { self.wheel.next_due() }
    }

    /// Sweeps the dead, looking at no more than `budget` flows. Ask [`next_expiry`](Self::next_expiry)
    /// whether that was all. Gives how many it looked at.
    pub fn expire(&mut self, now: Instant, budget: usize) -> usize {
        let tick = wheel::tick_before(now);
        let mut looked = 0;
        while looked < budget {
            let Some(slot) = self.wheel.advance(tick) else { break };
            looked += 1;
            let Some(flow) = self.flows.get(slot) else { break };
            let end = wheel::tick_after(flow.deadline);
            if end <= tick {
                self.take_out(slot, now, Cause::Expired);
            } else {
                // It was prolonged since it was placed.
                self.wheel.take(&mut self.flows, slot);
                self.wheel.place(&mut self.flows, slot, end);
            }
        }
        while looked < budget && self.owners.has_dead() {
            looked += 1;
            self.sweep_one(now);
        }
        looked
    }

    /// Looks at one slot for a flow of a port that has gone.
    fn sweep_one(&mut self, now: Instant) {
        let slot = if self.sweep < self.flows.slots() { self.sweep } else { 0 };
        self.sweep = slot + 1;
        if self.flows.get(slot).is_some_and(|flow| flow.is_used() && self.owners.is_dead(flow.homes)) {
            self.take_out(slot, now, Cause::Orphaned);
        }
    }

    #[inline]
    pub(super) fn is_alive(&self, flow: &Flow, now: Instant) -> bool {
        now < flow.deadline && !(self.owners.has_dead() && self.owners.is_dead(flow.homes))
    }

    /// The ports a flow came by and leaves by, the latter if it is known.
    pub(super) fn ports(&self, flow: &Flow) -> (Option<PortId>, Option<PortId>) {
        (self.owners.port(flow.homes[0]), self.owners.port(flow.homes[1]))
    }

    #[inline]
    fn hash(&self, tuple: &Tuple) -> Hash {
        Hash::new(self.hash_of(tuple))
    }

    #[inline]
    fn hash_of(&self, tuple: &Tuple) -> u64 {
        let Tuple { source, destination, source_port, destination_port, protocol } = *tuple;
        // In one number what would be hashed in three.
        let rest = u64::from(source_port) << 24 | u64::from(destination_port) << 8 | u64::from(protocol);
        self.hasher.hash_one((source, destination, rest))
    }

    fn flow_mut(&mut self, id: FlowId) -> Option<&mut Flow> {
        self.flows.get_mut(id.slot).filter(|flow| flow.generation == id.generation && flow.is_used())
    }

    #[cold]
    fn move_timer(&mut self, slot: u32, tick: u64) {
        let Some(flow) = self.flows.get(slot) else { return };
        if self.wheel.must_move(flow.bucket, tick) {
            self.wheel.take(&mut self.flows, slot);
            self.wheel.place(&mut self.flows, slot, tick);
        }
    }

    /// Takes a flow out of everything it is in.
    pub(super) fn take_out(&mut self, slot: u32, now: Instant, cause: Cause) {
        self.tell(EventKind::Destroy, slot, now);
        self.owners.set_droppable(&mut self.flows, slot, false);
        self.wheel.take(&mut self.flows, slot);
        let Some(flow) = self.flows.get_mut(slot) else { return };
        let is_mapped = flow.status.has(Status::MAPPED);
        flow.status = Status::default();
        flow.generation = flow.generation.wrapping_add(1);
        let Flow { tuples: [original, reply], homes, source, .. } = *flow;
        self.index.remove(self.hash(&original), slot << 1);
        self.index.remove(self.hash(&reply), slot << 1 | 1);
        self.owners.leave(homes, source);
        if is_mapped {
            self.mappings.release(&original, &reply);
        }
        self.flows.free(slot);
        let counter = match cause {
            Cause::Expired => &mut self.counters.expired,
            Cause::Evicted => &mut self.counters.early_dropped,
            Cause::Deleted => &mut self.counters.deleted,
            Cause::Orphaned => &mut self.counters.orphaned,
        };
        *counter += 1;
    }

    /// Whether the table is empty in all its parts.
    #[cfg(test)]
    pub(super) fn is_pristine(&self) -> bool {
        self.is_empty()
            && self.index.len() == 0
            && self.owners.is_pristine()
            && self.wheel.next_due().is_none()
    }

    /// Entries of the largest part of the index.
    #[cfg(test)]
    pub(super) fn largest_part(&self) -> usize {
        self.index.largest_part()
    }

    fn tell(&mut self, kind: EventKind, slot: u32, now: Instant) {
        if !self.events.is_watched() {
            return;
        }
        let row = self.flows.get(slot).map(|flow| self.row(flow, now));
        row.into_iter().for_each(|row| self.events.push(kind, row));
    }
}

impl Flow {
    /// Not yet anywhere in the table.
    fn new(new: &NewFlow) -> Self {
        let mut traffic = [Traffic::default(); 2];
        traffic[Direction::Original.index()].count(new.first.bytes);
        let status =
            new.status.only(Status::SHOWN).with(Status::USED).set(Status::ASSURED, new.first.assured);
        Self {
            tuples: [new.original, new.reply],
            ways: [Way::NONE; 2],
            traffic,
            state: new.first.state,
            deadline: Instant(0),
            generation: 0,
            status,
            bucket: 0,
            homes: [NIL; 2],
            source: NIL,
            links: [Link::NONE; 3],
        }
    }
}

impl Traffic {
    #[inline]
    fn count(&mut self, bytes: u32) {
        self.packets += 1;
        self.bytes += u64::from(bytes);
    }
}

/// Which tuple an index entry is for.
#[inline]
const fn direction(value: u32) -> Direction {
    if value & 1 == 0 { Direction::Original } else { Direction::Reply }
}

#[inline]
const fn deadline(now: Instant, timeout: u32) -> Instant {
    Instant(now.0.saturating_add(timeout as u64 * SECOND))
}
