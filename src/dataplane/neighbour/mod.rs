//! The neighbour table: which MAC address an address on one of the router's links has (RFC 4861 §7.3, and
//! the same machine for ARP).
//!
//! Theory of operation. One table for all networks, keyed by network and address, so that no network can
//! touch an entry of another. `decide` asks [`Neighbours::resolve`] (or [`Neighbours::get`] with a
//! [`NeighbourId`] kept from an earlier frame, good until the entry is removed) and changes nothing;
//! `commit` calls [`used`](Neighbours::used), [`hold`](Neighbours::hold) or [`learn`](Neighbours::learn).
//! Whatever the table wants done (ask, send a frame that waited, drop one) comes out of
//! [`poll_event`](Neighbours::poll_event): call it after each of these and after `handle_timeout`, until
//! it has nothing more.
//!
//! *States* are those of RFC 4861 §7.3.2 with its timers: 3 questions a second apart, 5 s from the first
//! use of a stale entry to the first probe. A neighbour is reachable for 15 to 45 s after it was confirmed
//! (§6.3.2; the RFC's random factor is a hash here, so that a recording replays). `Reachable` becomes
//! `Stale` without a timer, and a stale entry that nobody uses has none: an idle table sleeps. Traffic of
//! higher layers does not confirm a neighbour; the gateway only forwards it, and sees no progress. Failing
//! is no negative cache: the next frame asks anew, so that there is at most one question a second.
//!
//! *Who is believed.* Claims create entries only when they come with a question to us; gratuitous ARP and
//! unsolicited advertisements update what is there (RFC 4861 §7.2.5). What they do to a different MAC
//! address is [`Conflict`]. That nobody claims the gateway's own addresses, or some that are not on the
//! link, is checked before.
//!
//! *Limits and fairness.* Each entry has an owner: while it is searched for, the port whose frame wanted it;
//! once resolved, the port it was heard from. A port has a limit for each kind. At its limit for resolved
//! ones, its least recently confirmed or used entry goes. At its limit for searches, its oldest search goes
//! if it has failed or is older than a second; else the frame is dropped. So who scans a prefix makes the
//! gateway ask for no more than 256 addresses a second, and neither evicts a resolved neighbour nor gets
//! into the way of others' searches. In a full table the asking port yields if it owns more than an equal
//! share, else who owns the most (as in [`super::fdb`]). Waiting frames are limited per neighbour (there the
//! newest replaces the oldest, RFC 4861 §7.2.2), per port and in all.
//!
//! Everything is constant time per frame, but for the full table.

mod entries;
#[cfg(test)]
mod model;
mod state;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use super::outcome::DropReason;
use super::time::{Instant, nanos};
use super::{NetworkId, PortId};
use crate::wire::ip::Addr;
use crate::wire::{MacAddr, Offload};
use entries::{Entries, Entry, List, NIL, OWNER, Slot, TIME};
pub use state::{Claim, Conflict, Lesson, State};

/// Questions before a neighbour is given up (`MAX_MULTICAST_SOLICIT`, `MAX_UNICAST_SOLICIT`; RFC 4861 §10).
const MAX_PROBES: u8 = 3;
/// Between two questions (`RETRANS_TIMER`), and how old a search is before another may take its place.
const RETRANSMIT: Duration = Duration::from_secs(1);
/// From the use of a stale entry to the first probe (`DELAY_FIRST_PROBE_TIME`).
const DELAY: Duration = Duration::from_secs(5);
/// How long a failed entry is shown.
const FORGET: Duration = Duration::from_secs(60);
/// `REACHABLE_TIME`, and the least that the random factor leaves of it.
const REACHABLE: Duration = Duration::from_secs(30);
const REACHABLE_AT_LEAST: Duration = Duration::from_secs(15);
/// Linux's `locktime`: how long a MAC address is safe from another ARP reply.
const LOCKTIME: Duration = Duration::from_secs(1);
/// When an entry was last used is noted this often.
const USED: u64 = 1_000_000_000;
/// Timers handled in one call, so that it is a short one.
const SLICE: usize = 512;
/// What a waiting frame costs beside its bytes.
const HELD_OVERHEAD: usize = 128;

/// The lists by time: entries that ask, that were used while stale, and that failed. All on one list have
/// the same delay, so the oldest is due first.
const ASKING: usize = 0;
const DELAYED: usize = 1;
const FAILED: usize = 2;

/// How many entries and waiting frames there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries in all.
    pub table: u32,
    /// Resolved entries that one port was the source of.
    pub resolved: u32,
    /// Entries that are searched for, or were in vain, because of one port's frames.
    pub searches: u32,
    /// Frames that wait for one neighbour.
    pub frames: u32,
    /// Bytes of waiting frames that came by one port (and one frame more).
    pub port_bytes: usize,
    /// Bytes of waiting frames in all.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            table: 65_536,
            resolved: 4096,
            searches: 256,
            frames: 64,
            port_bytes: 256 * 1024,
            bytes: 16 * 1024 * 1024,
        }
    }
}

/// An entry's name: good until the entry is removed, then of nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NeighbourId {
    slot: u32,
    generation: u32,
}

impl NeighbourId {
    /// Nobody's.
    pub const NONE: Self = Self { slot: NIL, generation: 0 };
}

/// What to do with a frame for a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// Send it there, and say so with [`Neighbours::used`].
    Known(NeighbourId, MacAddr),
    /// Give it to [`Neighbours::hold`].
    Wait,
    /// Drop it.
    Fail(DropReason),
}

/// A frame that waits for its destination MAC address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The frame as it will be sent, but for the first six bytes.
    pub bytes: Vec<u8>,
    /// What is still to be done to it.
    pub offload: Offload,
    /// The port that it came by, where a drop is counted.
    pub port: PortId,
    /// The frame to send back by that port if the neighbour cannot be found; may be empty.
    pub answer: Vec<u8>,
}

impl Held {
    fn cost(&self) -> usize {
        self.bytes.len() + self.answer.len() + HELD_OVERHEAD
    }
}

/// A question to be sent: who has the target address, or, to one MAC address, do you still have it?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Solicitation {
    /// The network it goes to.
    pub network: NetworkId,
    /// The address asked for.
    pub target: Addr,
    /// The MAC address where it was so far; none = ask all.
    pub to: Option<MacAddr>,
}

/// What the table wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Send a question.
    Solicit(Solicitation),
    /// Send a frame that waited; its destination MAC address is filled in.
    Send(NetworkId, Held),
    /// Count the drop of a frame that waited. Its answer is empty unless it is to be sent.
    Drop(DropReason, Held),
}

/// Counters of the table's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NeighbourCounters {
    /// Entries that got a MAC address.
    pub resolved: u64,
    /// Entries that got another one.
    pub moved: u64,
    /// Neighbours that did not answer.
    pub failed: u64,
    /// Entries removed for a limit.
    pub evicted: u64,
    /// Questions asked.
    pub solicited: u64,
}

/// One neighbour, as shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighbourRow {
    /// The network it is on.
    pub network: NetworkId,
    /// Its address.
    pub address: Addr,
    /// Its MAC address, if that is known.
    pub mac: Option<MacAddr>,
    /// Its state.
    pub state: State,
    /// Whether it said that it is a router.
    pub router: bool,
    /// The port it was heard from or, while it is not resolved, the port that wants it.
    pub port: PortId,
    /// How long ago it was used, to a second.
    pub used: Duration,
    /// How long ago it was confirmed; since its search began, if it never was.
    pub confirmed: Duration,
}

/// What one port owns.
#[derive(Debug, Clone, Copy)]
struct Owner {
    resolved: List,
    searches: List,
    /// Cost of the waiting frames that came by it.
    held: usize,
}

impl Owner {
    const NOTHING: Self = Self { resolved: List::EMPTY, searches: List::EMPTY, held: 0 };

    fn list(&mut self, state: State) -> &mut List {
        if state.is_resolved() { &mut self.resolved } else { &mut self.searches }
    }

    fn len(&self) -> u32 {
        self.resolved.len + self.searches.len
    }
}

/// The table. See the module's theory of operation.
#[derive(Debug)]
pub struct Neighbours {
    limits: Limits,
    entries: Entries,
    timers: [List; 3],
    /// By port number.
    owners: Vec<Owner>,
    held: usize,
    events: VecDeque<Event>,
    /// Life-time counters.
    pub counters: NeighbourCounters,
}

impl Neighbours {
    /// An empty table. `seed` makes its hash unpredictable to the containers.
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self {
            limits,
            entries: Entries::new(seed),
            timers: [List::EMPTY; 3],
            owners: Vec::new(),
            held: 0,
            events: VecDeque::new(),
            counters: NeighbourCounters::default(),
        }
    }

    /// Where a frame that came by port `from` finds an address.
    #[inline]
    pub fn resolve(&self, now: Instant, network: NetworkId, address: Addr, from: PortId) -> Resolution {
        let found = self.entries.find(network, address);
        let state = found.map(|slot| (slot, self.entries.get(slot)));
        match state {
            Some((slot, entry)) if entry.state.is_resolved() => {
                Resolution::Known(self.entries.id(slot), entry.mac)
            }
            _ if self.owner(from).held >= self.limits.port_bytes || self.held >= self.limits.bytes => {
                Resolution::Fail(DropReason::NeighbourQueue)
            }
            Some((_, entry)) if entry.state == State::Incomplete => Resolution::Wait,
            _ if self.may_search(now, from) => Resolution::Wait,
            _ => Resolution::Fail(DropReason::NeighbourLimit),
        }
    }

    /// A neighbour found before: its network and MAC address, while they are known.
    #[inline]
    pub fn get(&self, id: NeighbourId) -> Option<(NetworkId, MacAddr)> {
        let entry = self.entries.by_id(id).filter(|entry| entry.state.is_resolved())?;
        Some((entry.network, entry.mac))
    }

    /// A frame was sent to a neighbour.
    #[inline]
    pub fn used(&mut self, now: Instant, id: NeighbourId) {
        let Some(entry) = self.entries.by_id(id) else { return };
        let (is_stale, owner) = (entry.state(now) == State::Stale, entry.owner);
        if is_stale || now.nanos_since(entry.used) >= USED {
            self.entries.get_mut(id.slot).used = now;
        }
        if is_stale {
            self.shift(now, id.slot, State::Delay, owner);
        }
    }

    /// Keeps a frame for which [`resolve`](Self::resolve) said [`Resolution::Wait`], and asks if nobody has.
    pub fn hold(&mut self, now: Instant, network: NetworkId, address: Addr, frame: Held) {
        let found = self.entries.find(network, address);
        let slot = match found.map(|slot| (slot, self.entries.get(slot).state)) {
            Some((slot, State::Failed)) => {
                self.remove(slot, DropReason::NeighbourFailed);
                self.search(now, network, address, frame.port)
            }
            None => self.search(now, network, address, frame.port),
            Some((slot, _)) => slot,
        };
        let cost = frame.cost();
        self.owner_mut(frame.port).held += cost;
        self.held += cost;
        let entry = self.entries.get_mut(slot);
        entry.used = now;
        entry.queue.push_back(frame);
        if entry.state.is_resolved() {
            self.release(now, slot);
        } else if entry.queue.len() > self.limits.frames as usize {
            let oldest = entry.queue.pop_front();
            if let Some(frame) = oldest {
                self.let_go(&frame);
                let frame = Held { answer: Vec::new(), ..frame };
                self.events.push_back(Event::Drop(DropReason::NeighbourQueue, frame));
            }
        }
    }

    /// What a claim heard from a port would teach. Changes nothing.
    pub fn consider(&self, now: Instant, network: NetworkId, claim: &Claim) -> Lesson {
        match self.entries.find(network, claim.address).map(|slot| self.entries.get(slot)) {
            None if claim.creates && claim.mac.is_some() => Lesson::New,
            None => Lesson::Ignored,
            Some(entry) => {
                let old = now.since(entry.updated) > LOCKTIME;
                state::hear(entry.state(now), entry.mac, old, claim)
            }
        }
    }

    /// Believes a claim, as far as [`consider`](Self::consider) does.
    pub fn learn(&mut self, now: Instant, network: NetworkId, port: PortId, claim: &Claim) -> Lesson {
        let lesson = self.consider(now, network, claim);
        let found = self.entries.find(network, claim.address);
        match (lesson, found, claim.mac) {
            (Lesson::New, found, Some(mac)) => {
                found.into_iter().for_each(|slot| self.remove(slot, DropReason::NeighbourFailed));
                self.make_room(port, State::Stale);
                let slot = self.entries.insert(Entry::new(now, network, claim.address, port));
                self.link_timer(slot);
                self.link_owner(slot);
                self.settle(now, slot, port, State::Stale, Some(mac), claim);
            }
            (Lesson::Moved(state), Some(slot), Some(mac)) => {
                self.settle(now, slot, port, state, Some(mac), claim);
            }
            (Lesson::Same(state), Some(slot), _) => self.settle(now, slot, port, state, None, claim),
            _ => {}
        }
        lesson
    }

    /// What is to be done now. Ask until there is nothing.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due; ask again after each call that changes something.
    pub fn next_timeout(&self) -> Option<Instant> {
        let first = |list: &List| (list.oldest != NIL).then(|| self.entries.get(list.oldest).deadline);
        self.timers.iter().filter_map(first).min()
    }

    /// Asks again, gives up, forgets. What is left over for lack of time is due at once.
    pub fn handle_timeout(&mut self, now: Instant) {
        for _ in 0..SLICE {
            let due = self
                .timers
                .iter()
                .map(|list| list.oldest)
                .find(|slot| self.entries.at(*slot).is_some_and(|entry| entry.deadline <= now));
            let Some(slot) = due else { return };
            self.expire(now, slot);
        }
    }

    /// Forgets what was heard from a port that is gone, and the searches that only it wanted.
    pub fn forget_port(&mut self, port: PortId) {
        while self.owner(port).resolved.len > 0 {
            self.remove(self.owner(port).resolved.oldest, DropReason::EgressDown);
        }
        while self.owner(port).searches.len > 0 {
            let slot = self.owner(port).searches.oldest;
            let others = self.entries.get(slot).queue.iter().find(|frame| frame.port != port);
            match others.map(|frame| frame.port) {
                Some(heir) => self.reown(slot, heir),
                None => self.remove(slot, DropReason::EgressDown),
            }
        }
    }

    /// Forgets a network's neighbours, because its interface is gone or another.
    pub fn forget_network(&mut self, network: NetworkId) {
        for slot in 0..self.entries.slots() as Slot {
            if self.entries.at(slot).is_some_and(|entry| entry.network == network) {
                self.remove(slot, DropReason::EgressDown);
            }
        }
    }

    /// The frames that wait for a neighbour; `None` when it is not searched for.
    pub fn waiting(&self, network: NetworkId, address: Addr) -> Option<impl Iterator<Item = &Held>> {
        let entry = self.entries.get(self.entries.find(network, address)?);
        (entry.state == State::Incomplete).then(|| entry.queue.iter())
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the table is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A page of the entries in slot order: up to `max` slots from `cursor`, and where the next page
    /// starts (`None` at the end).
    pub fn page(&self, now: Instant, cursor: usize, max: usize) -> (Vec<NeighbourRow>, Option<usize>) {
        let end = cursor.saturating_add(max).min(self.entries.slots());
        let row = |entry: &Entry| NeighbourRow {
            network: entry.network,
            address: entry.address,
            mac: entry.state.is_resolved().then_some(entry.mac),
            state: entry.state(now),
            router: entry.router,
            port: entry.owner,
            used: now.since(entry.used),
            confirmed: now.since(entry.confirmed),
        };
        // Slots are numbered in 32 bits.
        let rows = (cursor..end).filter_map(|slot| self.entries.at(slot as Slot)).map(row).collect();
        (rows, (end < self.entries.slots()).then_some(end))
    }
}

/// What goes on inside.
impl Neighbours {
    fn owner(&self, port: PortId) -> Owner {
        self.owners.get(port.0 as usize).copied().unwrap_or(Owner::NOTHING)
    }

    fn owner_mut(&mut self, port: PortId) -> &mut Owner {
        let at = port.0 as usize;
        if self.owners.len() <= at {
            self.owners.resize(at + 1, Owner::NOTHING);
        }
        &mut self.owners[at]
    }

    /// Whether a port's frame may begin another search.
    fn may_search(&self, now: Instant, port: PortId) -> bool {
        let list = self.owner(port).searches;
        let yields = |slot| {
            let entry = self.entries.get(slot);
            entry.state == State::Failed || now.since(entry.since) >= RETRANSMIT
        };
        list.len < self.limits.searches || (list.oldest != NIL && yields(list.oldest))
    }

    /// Begins to ask for an address.
    fn search(&mut self, now: Instant, network: NetworkId, address: Addr, from: PortId) -> Slot {
        self.make_room(from, State::Incomplete);
        let mut entry = Entry::new(now, network, address, from);
        (entry.probes, entry.deadline) = (1, now + RETRANSMIT);
        let slot = self.entries.insert(entry);
        self.link_timer(slot);
        self.link_owner(slot);
        self.solicit(network, address, None);
        slot
    }

    fn solicit(&mut self, network: NetworkId, target: Addr, to: Option<MacAddr>) {
        self.counters.solicited += 1;
        self.events.push_back(Event::Solicit(Solicitation { network, target, to }));
    }

    /// Makes room for one more entry of a port.
    fn make_room(&mut self, port: PortId, state: State) {
        let limit = if state.is_resolved() { self.limits.resolved } else { self.limits.searches };
        let own = *self.owner_mut(port).list(state);
        let mut goes = if own.len >= limit { own.oldest } else { NIL };
        if goes == NIL && self.len() >= self.limits.table as usize {
            let yields = self.who_yields_to(port);
            goes = if yields.searches.len > 0 { yields.searches.oldest } else { yields.resolved.oldest };
        }
        if goes != NIL {
            self.counters.evicted += 1;
            self.remove(goes, DropReason::NeighbourLimit);
        }
    }

    /// In a full table: `port` itself if it owns more than an equal share, else who owns the most.
    fn who_yields_to(&self, port: PortId) -> Owner {
        let own = self.owner(port);
        let others = self.owners.iter().filter(|owner| owner.len() > 0).count();
        let owners = others + usize::from(own.len() == 0);
        if own.len() as usize * owners >= self.limits.table as usize {
            return own;
        }
        self.owners.iter().max_by_key(|owner| owner.len()).copied().unwrap_or(own)
    }

    /// What a claim changes in an entry: state, MAC address if that is new, owner.
    fn settle(
        &mut self,
        now: Instant,
        slot: Slot,
        port: PortId,
        state: State,
        mac: Option<MacAddr>,
        claim: &Claim,
    ) {
        let entry = self.entries.get_mut(slot);
        let (before, owner) = (entry.state(now), entry.owner);
        entry.router = claim.router.unwrap_or(entry.router);
        if let Some(mac) = mac {
            entry.mac = mac;
            let first = !before.is_resolved();
            *(if first { &mut self.counters.resolved } else { &mut self.counters.moved }) += 1;
        }
        if mac.is_some() || state != before {
            entry.updated = now;
        }
        let is_new_here = owner != port || !before.is_resolved();
        if is_new_here && self.owner(port).resolved.len >= self.limits.resolved {
            self.make_room(port, state);
        }
        if mac.is_some() || state != before || state == State::Reachable {
            self.shift(now, slot, state, port);
        } else if owner != port {
            self.reown(slot, port);
        }
        self.release(now, slot);
    }

    /// Puts an entry into a state, and at the newest end of its lists; a search keeps its place.
    fn shift(&mut self, now: Instant, slot: Slot, state: State, owner: PortId) {
        let entry = self.entries.get(slot);
        let goes_on = !entry.state.is_resolved() && !state.is_resolved() && entry.owner == owner;
        // REACHABLE_TIME times 0.5 to 1.5, the same on every run.
        let random = self.entries.hash((entry.network, entry.address, now.0)) % nanos(REACHABLE);
        self.unlink_timer(slot);
        if !goes_on {
            self.unlink_owner(slot);
        }
        let entry = self.entries.get_mut(slot);
        (entry.state, entry.owner) = (state, owner);
        match state {
            State::Reachable => {
                entry.confirmed = now;
                entry.fresh_until = now + REACHABLE_AT_LEAST + Duration::from_nanos(random);
            }
            State::Incomplete | State::Probe => entry.deadline = now + RETRANSMIT,
            State::Delay => entry.deadline = now + DELAY,
            State::Failed => entry.deadline = now + FORGET,
            State::Stale => {}
        }
        self.link_timer(slot);
        if !goes_on {
            self.link_owner(slot);
        }
    }

    /// Gives an entry another owner; its timer runs on.
    fn reown(&mut self, slot: Slot, owner: PortId) {
        self.unlink_owner(slot);
        self.entries.get_mut(slot).owner = owner;
        self.link_owner(slot);
    }

    fn link_timer(&mut self, slot: Slot) {
        if let Some(timer) = timer(self.entries.get(slot).state) {
            self.entries.push(&mut self.timers[timer], TIME, slot);
        }
    }

    fn unlink_timer(&mut self, slot: Slot) {
        if let Some(timer) = timer(self.entries.get(slot).state) {
            self.entries.unlink(&mut self.timers[timer], TIME, slot);
        }
    }

    fn link_owner(&mut self, slot: Slot) {
        let (state, owner) = (self.entries.get(slot).state, self.entries.get(slot).owner);
        let mut list = *self.owner_mut(owner).list(state);
        self.entries.push(&mut list, OWNER, slot);
        *self.owner_mut(owner).list(state) = list;
    }

    fn unlink_owner(&mut self, slot: Slot) {
        let (state, owner) = (self.entries.get(slot).state, self.entries.get(slot).owner);
        let mut list = *self.owner_mut(owner).list(state);
        self.entries.unlink(&mut list, OWNER, slot);
        *self.owner_mut(owner).list(state) = list;
    }

    /// Removes an entry; what waited for it is dropped without an answer.
    fn remove(&mut self, slot: Slot, reason: DropReason) {
        self.unlink_timer(slot);
        self.unlink_owner(slot);
        for frame in self.entries.remove(slot) {
            self.let_go(&frame);
            self.events.push_back(Event::Drop(reason, Held { answer: Vec::new(), ..frame }));
        }
    }

    /// A waiting frame waits no more.
    fn let_go(&mut self, frame: &Held) {
        self.owner_mut(frame.port).held -= frame.cost();
        self.held -= frame.cost();
    }

    /// Sends what waited for an entry that has a MAC address now.
    fn release(&mut self, now: Instant, slot: Slot) {
        let entry = self.entries.get_mut(slot);
        let (network, mac, owner, stale) =
            (entry.network, entry.mac, entry.owner, entry.state(now) == State::Stale);
        let queue = std::mem::take(&mut entry.queue);
        if !queue.is_empty() && stale {
            self.shift(now, slot, State::Delay, owner);
        }
        for mut frame in queue {
            self.let_go(&frame);
            if let Some(destination) = frame.bytes.first_chunk_mut() {
                *destination = mac.0;
            }
            self.events.push_back(Event::Send(network, frame));
        }
    }

    /// An entry's timer has run out.
    fn expire(&mut self, now: Instant, slot: Slot) {
        let entry = self.entries.get_mut(slot);
        let (network, address, mac, owner) = (entry.network, entry.address, entry.mac, entry.owner);
        match entry.state {
            State::Incomplete if entry.probes < MAX_PROBES => {
                entry.probes += 1;
                self.shift(now, slot, State::Incomplete, owner);
                self.solicit(network, address, None);
            }
            State::Probe if entry.probes < MAX_PROBES => {
                entry.probes += 1;
                self.shift(now, slot, State::Probe, owner);
                self.solicit(network, address, Some(mac));
            }
            State::Delay => {
                entry.probes = 1;
                self.shift(now, slot, State::Probe, owner);
                self.solicit(network, address, Some(mac));
            }
            State::Incomplete | State::Probe => self.fail(now, slot),
            State::Failed | State::Reachable | State::Stale => self.remove(slot, DropReason::NeighbourFailed),
        }
    }

    /// A neighbour did not answer: what waited is dropped, and its senders are told.
    fn fail(&mut self, now: Instant, slot: Slot) {
        self.counters.failed += 1;
        let entry = self.entries.get_mut(slot);
        let (owner, queue) = (entry.owner, std::mem::take(&mut entry.queue));
        self.shift(now, slot, State::Failed, owner);
        for frame in queue {
            self.let_go(&frame);
            self.events.push_back(Event::Drop(DropReason::NeighbourFailed, frame));
        }
    }
}

/// The list by time that entries in a state are on.
const fn timer(state: State) -> Option<usize> {
    match state {
        State::Incomplete | State::Probe => Some(ASKING),
        State::Delay => Some(DELAYED),
        State::Failed => Some(FAILED),
        State::Reachable | State::Stale => None,
    }
}
