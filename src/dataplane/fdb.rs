//! The forwarding database of one network: which MAC address lies behind which port.
//!
//! Theory of operation. Entries live in slots; a hash table finds a slot by
//! address. Every learned entry is on two lists, both ordered by when it was last
//! seen: that of the whole table (the oldest is the next to expire) and that of
//! its port. Static entries are on no list: they neither age nor are evicted.
//!
//! *Learning is decided, then committed.* [`Fdb::learn`] looks and answers with a
//! [`Lesson`]; [`Fdb::commit`] carries it out without a second look-up. A frame
//! from an address that is known and was seen a moment ago (1/300 of the ageing
//! time, one second by default) teaches nothing, so that the common frame writes
//! to no entry and an age may be wrong by that much.
//!
//! *Ageing.* An entry not seen for the ageing time is dead at once for look-ups;
//! [`Fdb::expire`] sweeps the dead from the head of the list.
//!
//! *Limits and fairness.* A port over its own limit gives up its oldest entry. In
//! a full table the learning port gives up its own oldest, if it owns more than an
//! equal share; else the port that owns the most does (ties: the lowest id). So a
//! port that floods addresses ends up evicting only its own, and nobody is pushed
//! below an equal share.
//!
//! The table of indices doubles when full, which takes under a millisecond at the
//! default limit of 65,536 entries.

use std::cmp::Reverse;
use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable};

use super::PortId;
use super::time::{Instant, nanos};
use crate::wire::MacAddr;

/// A slot's index; [`NIL`] is none.
type Slot = u32;
const NIL: Slot = Slot::MAX;

/// An address as [`MacAddr::to_u64`] packs it: compared and hashed in one step.
type Key = u64;
/// Zero is no station's address: it marks a slot as free.
const FREE: Key = 0;

/// An entry is marked as seen at most this often in its ageing time.
const REFRESHES: u64 = 300;

/// The list of all learned entries, and that of one port's.
const BY_AGE: usize = 0;
const BY_PORT: usize = 1;

#[derive(Debug, Clone, Copy)]
struct Entry {
    mac: Key,
    is_static: bool,
    port: PortId,
    seen: Instant,
    /// Neighbours on the two lists. In a free slot, `links[BY_AGE].next` is the next free one.
    links: [Link; 2],
}

#[derive(Debug, Clone, Copy)]
struct Link {
    prev: Slot,
    next: Slot,
}

#[derive(Debug, Clone, Copy)]
struct List {
    oldest: Slot,
    newest: Slot,
    len: u32,
}

impl List {
    const EMPTY: Self = Self { oldest: NIL, newest: NIL, len: 0 };
}

/// How many entries there may be, and how long they live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Learned entries in the table.
    pub table: u32,
    /// Learned entries per port.
    pub port: u32,
    /// How long an entry lives without being seen; zero turns learning off.
    pub ageing: Duration,
}

impl Limits {
    fn allow_learning(&self) -> bool {
        self.table > 0 && self.port > 0 && !self.ageing.is_zero()
    }
}

/// What a frame's source address teaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lesson {
    /// Nothing: known here and fresh.
    Known,
    /// Nothing: a static entry decides.
    Static,
    /// Nothing: learning is off.
    Off,
    /// Known here; mark it seen.
    Refresh(Slot),
    /// Known behind the given port; now behind this one.
    Move(Slot, PortId),
    /// Not known.
    New,
}

impl Lesson {
    /// Whether the fdb says afterwards that the address lies behind the port it was heard from.
    #[inline]
    pub const fn is_heeded(self) -> bool {
        !matches!(self, Self::Static | Self::Off)
    }
}

/// Counters of a table's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FdbCounters {
    /// Entries learned.
    pub learned: u64,
    /// Entries that changed ports.
    pub moved: u64,
    /// Entries that aged out.
    pub aged: u64,
    /// Entries evicted for a limit.
    pub evicted: u64,
}

/// One entry, as shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FdbEntry {
    /// The address.
    pub mac: MacAddr,
    /// The port it lies behind.
    pub port: PortId,
    /// How long ago it was last seen; zero for a static entry.
    pub age: Duration,
    /// Whether it was configured rather than learned.
    pub is_static: bool,
}

/// The table. See the module's theory of operation.
#[derive(Debug)]
pub struct Fdb {
    limits: Limits,
    /// The limit's ageing time in nanoseconds, and how long a seen entry needs no refreshing:
    /// both are asked for every frame.
    ageing: u64,
    fresh: u64,
    hasher: FixedState,
    index: HashTable<Slot>,
    entries: Vec<Entry>,
    free: Slot,
    by_age: List,
    by_port: HashMap<PortId, List, FixedState>,
    /// Life-time counters.
    pub counters: FdbCounters,
}

impl Fdb {
    /// An empty table. `seed` makes its hash unpredictable to the containers.
    pub fn new(limits: Limits, seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        let ageing = nanos(limits.ageing);
        Self {
            limits,
            ageing,
            fresh: ageing / REFRESHES,
            by_port: HashMap::with_hasher(hasher.clone()),
            hasher,
            index: HashTable::new(),
            entries: Vec::new(),
            free: NIL,
            by_age: List::EMPTY,
            counters: FdbCounters::default(),
        }
    }

    /// The port behind which `mac` lies.
    #[inline]
    pub fn lookup(&self, now: Instant, mac: MacAddr) -> Option<PortId> {
        let entry = self.entry(self.find(mac.to_u64())?);
        self.is_alive(entry, now).then_some(entry.port)
    }

    /// What a frame from `mac` on `port` teaches. Changes nothing.
    #[inline]
    pub fn learn(&self, now: Instant, mac: MacAddr, port: PortId) -> Lesson {
        let Some(slot) = self.find(mac.to_u64()) else {
            return if self.limits.allow_learning() { Lesson::New } else { Lesson::Off };
        };
        let entry = self.entry(slot);
        if entry.is_static {
            Lesson::Static
        } else if entry.port != port {
            Lesson::Move(slot, entry.port)
        } else if now.nanos_since(entry.seen) < self.fresh {
            Lesson::Known
        } else {
            Lesson::Refresh(slot)
        }
    }

    /// Carries out what [`learn`](Self::learn) said, with the same arguments.
    #[inline]
    pub fn commit(&mut self, now: Instant, mac: MacAddr, port: PortId, lesson: Lesson) {
        match lesson {
            Lesson::Known | Lesson::Static | Lesson::Off => {}
            Lesson::Refresh(slot) => self.refresh(slot, now),
            Lesson::Move(slot, _) => self.relocate(slot, port, now),
            Lesson::New => self.insert(mac.to_u64(), port, now),
        }
    }

    /// When [`expire`](Self::expire) next has something to do.
    pub fn next_expiry(&self) -> Option<Instant> {
        (self.by_age.oldest != NIL).then(|| self.entry(self.by_age.oldest).seen + self.limits.ageing)
    }

    /// Removes the entries that were not seen for the ageing time.
    pub fn expire(&mut self, now: Instant) {
        while self.next_expiry().is_some_and(|at| at <= now) {
            self.remove(self.by_age.oldest);
            self.counters.aged += 1;
        }
    }

    /// Puts a static entry in, in place of whatever was known of `mac`.
    pub fn add_static(&mut self, mac: MacAddr, port: PortId) {
        let mac = mac.to_u64();
        if let Some(slot) = self.find(mac) {
            self.remove(slot);
        }
        let none = Link { prev: NIL, next: NIL };
        self.occupy(Entry { mac, is_static: true, port, seen: Instant(0), links: [none; 2] });
    }

    /// Removes what is known of `mac`; whether there was anything.
    pub fn forget(&mut self, mac: MacAddr) -> bool {
        self.find(mac.to_u64()).map(|slot| self.remove(slot)).is_some()
    }

    /// Removes what was learned behind `port`, and its static entries too when the port itself goes.
    pub fn flush_port(&mut self, port: PortId, statics: bool) {
        while let Some(list) = self.by_port.get(&port) {
            self.remove(list.oldest);
        }
        if statics {
            let gone: Vec<Slot> = self
                .occupied()
                .filter(|(_, e)| e.is_static && e.port == port)
                .map(|(slot, _)| slot)
                .collect();
            gone.into_iter().for_each(|slot| self.remove(slot));
        }
    }

    /// New limits; what is over them goes at once, the oldest first.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.ageing = nanos(limits.ageing);
        self.fresh = self.ageing / REFRESHES;
        let mut ports: Vec<PortId> = self.by_port.keys().copied().collect();
        ports.sort_unstable();
        for port in ports {
            while self.owned_by(port) > limits.port {
                self.evict(port);
            }
        }
        while self.by_age.len > limits.table || (limits.ageing.is_zero() && self.by_age.len > 0) {
            self.remove(self.by_age.oldest);
            self.counters.evicted += 1;
        }
    }

    /// How many entries there are, static ones included.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether the table is empty.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// A page of the living entries in slot order: up to `max` from `cursor`, and
    /// where the next page starts (`None` at the end).
    pub fn page(&self, now: Instant, cursor: usize, max: usize) -> (Vec<FdbEntry>, Option<usize>) {
        let start = cursor.min(self.entries.len());
        let end = start.saturating_add(max).min(self.entries.len());
        let shown = |entry: &Entry| {
            let age = if entry.is_static { Duration::ZERO } else { now.since(entry.seen) };
            let alive = entry.mac != FREE && self.is_alive(entry, now);
            alive.then(|| {
                let mac = MacAddr::from_u64(entry.mac);
                FdbEntry { mac, port: entry.port, age, is_static: entry.is_static }
            })
        };
        let rows = self.entries[start..end].iter().filter_map(shown).collect();
        (rows, (end < self.entries.len()).then_some(end))
    }

    #[inline]
    fn is_alive(&self, entry: &Entry, now: Instant) -> bool {
        entry.is_static || now.nanos_since(entry.seen) < self.ageing
    }

    #[inline]
    fn hash(&self, mac: Key) -> u64 {
        self.hasher.hash_one(mac)
    }

    #[inline]
    fn find(&self, mac: Key) -> Option<Slot> {
        self.index.find(self.hash(mac), |slot| self.entry(*slot).mac == mac).copied()
    }

    /// Slots come only from the index, the lists and the free list, which hold nothing else.
    #[inline]
    fn entry(&self, slot: Slot) -> &Entry {
        &self.entries[slot as usize]
    }

    fn entry_mut(&mut self, slot: Slot) -> &mut Entry {
        &mut self.entries[slot as usize]
    }

    fn owned_by(&self, port: PortId) -> u32 {
        self.by_port.get(&port).map_or(0, |list| list.len)
    }

    fn refresh(&mut self, slot: Slot, now: Instant) {
        self.unlink(slot);
        self.entry_mut(slot).seen = now;
        self.link_newest(slot);
    }

    fn relocate(&mut self, slot: Slot, port: PortId, now: Instant) {
        if self.owned_by(port) >= self.limits.port {
            self.evict(port);
        }
        self.unlink(slot);
        let entry = self.entry_mut(slot);
        (entry.port, entry.seen) = (port, now);
        self.link_newest(slot);
        self.counters.moved += 1;
    }

    fn insert(&mut self, mac: Key, port: PortId, now: Instant) {
        if self.owned_by(port) >= self.limits.port {
            self.evict(port);
        } else if self.by_age.len >= self.limits.table {
            self.evict(self.who_yields_to(port));
        }
        let none = Link { prev: NIL, next: NIL };
        let slot = self.occupy(Entry { mac, is_static: false, port, seen: now, links: [none; 2] });
        self.link_newest(slot);
        self.counters.learned += 1;
    }

    /// In a full table: `port` itself if it owns more than an equal share, else who owns the most.
    fn who_yields_to(&self, port: PortId) -> PortId {
        let owners = self.by_port.len() + usize::from(!self.by_port.contains_key(&port));
        if self.owned_by(port) as usize * owners >= self.limits.table as usize {
            return port;
        }
        let most = self.by_port.iter().max_by_key(|(id, list)| (list.len, Reverse(**id)));
        most.map_or(port, |(id, _)| *id)
    }

    fn evict(&mut self, port: PortId) {
        if let Some(list) = self.by_port.get(&port) {
            self.remove(list.oldest);
            self.counters.evicted += 1;
        }
    }

    /// Gives an entry a slot and puts it into the index.
    fn occupy(&mut self, entry: Entry) -> Slot {
        let slot = self.free;
        let slot = if slot == NIL {
            self.entries.push(entry);
            (self.entries.len() - 1) as Slot
        } else {
            self.free = self.entry(slot).links[BY_AGE].next;
            *self.entry_mut(slot) = entry;
            slot
        };
        let (entries, hasher) = (&self.entries, &self.hasher);
        let rehash = |slot: &Slot| hasher.hash_one(entries[*slot as usize].mac);
        self.index.insert_unique(self.hash(entry.mac), slot, rehash);
        slot
    }

    /// Takes a slot's entry out of the lists and the index.
    fn remove(&mut self, slot: Slot) {
        let Entry { mac, is_static, .. } = *self.entry(slot);
        if !is_static {
            self.unlink(slot);
        }
        if let Ok(found) = self.index.find_entry(self.hash(mac), |other| *other == slot) {
            found.remove();
        }
        let free = self.free;
        let entry = self.entry_mut(slot);
        entry.mac = FREE;
        entry.links[BY_AGE].next = free;
        self.free = slot;
    }

    fn occupied(&self) -> impl Iterator<Item = (Slot, &Entry)> {
        (0..).zip(&self.entries).filter(|(_, entry)| entry.mac != FREE)
    }

    fn link_newest(&mut self, slot: Slot) {
        let port = self.entry(slot).port;
        let mut lists = [self.by_age, self.by_port.get(&port).copied().unwrap_or(List::EMPTY)];
        for (kind, list) in lists.iter_mut().enumerate() {
            self.entry_mut(slot).links[kind] = Link { prev: list.newest, next: NIL };
            match list.newest {
                NIL => list.oldest = slot,
                newest => self.entry_mut(newest).links[kind].next = slot,
            }
            list.newest = slot;
            list.len += 1;
        }
        self.by_age = lists[BY_AGE];
        self.by_port.insert(port, lists[BY_PORT]);
    }

    fn unlink(&mut self, slot: Slot) {
        let port = self.entry(slot).port;
        let mut lists = [self.by_age, self.by_port.get(&port).copied().unwrap_or(List::EMPTY)];
        for (kind, list) in lists.iter_mut().enumerate() {
            let Link { prev, next } = self.entry(slot).links[kind];
            match prev {
                NIL => list.oldest = next,
                prev => self.entry_mut(prev).links[kind].next = next,
            }
            match next {
                NIL => list.newest = prev,
                next => self.entry_mut(next).links[kind].prev = prev,
            }
            list.len -= 1;
        }
        self.by_age = lists[BY_AGE];
        if lists[BY_PORT].len == 0 {
            self.by_port.remove(&port);
        } else {
            self.by_port.insert(port, lists[BY_PORT]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGEING: Duration = Duration::from_secs(300);
    const A: PortId = PortId(1);
    const B: PortId = PortId(2);
    const C: PortId = PortId(3);

    fn fdb(table: u32, port: u32) -> Fdb {
        Fdb::new(Limits { table, port, ageing: AGEING }, 1)
    }

    fn mac(n: u32) -> MacAddr {
        let [a, b, c, d] = n.to_be_bytes();
        MacAddr([2, 0, a, b, c, d])
    }

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000_000)
    }

    fn see(fdb: &mut Fdb, now: Instant, who: u32, port: PortId) -> Lesson {
        let lesson = fdb.learn(now, mac(who), port);
        fdb.commit(now, mac(who), port, lesson);
        lesson
    }

    #[test]
    fn learns_refreshes_moves() {
        let mut fdb = fdb(100, 100);
        assert_eq!(see(&mut fdb, at(0), 7, A), Lesson::New);
        assert_eq!(see(&mut fdb, at(0), 7, A), Lesson::Known);
        assert_eq!(see(&mut fdb, at(1), 7, A), Lesson::Refresh(0));
        assert_eq!(fdb.lookup(at(2), mac(7)), Some(A));
        assert_eq!(see(&mut fdb, at(2), 7, B), Lesson::Move(0, A));
        assert_eq!(fdb.lookup(at(2), mac(7)), Some(B));
        assert_eq!(fdb.counters, FdbCounters { learned: 1, moved: 1, aged: 0, evicted: 0 });
    }

    #[test]
    fn looking_changes_nothing() {
        let fdb = fdb(100, 100);
        assert_eq!(fdb.learn(at(0), mac(1), A), Lesson::New);
        assert_eq!(fdb.learn(at(0), mac(1), A), Lesson::New);
        assert!(fdb.is_empty());
    }

    #[test]
    fn an_entry_ages_out_and_its_slot_serves_again() {
        let mut fdb = fdb(100, 100);
        see(&mut fdb, at(0), 1, A);
        see(&mut fdb, at(10), 2, A);
        see(&mut fdb, at(20), 1, A);
        assert_eq!(fdb.next_expiry(), Some(at(310)));
        assert_eq!(fdb.lookup(at(310), mac(2)), None, "dead before the sweep");
        fdb.expire(at(310));
        assert_eq!((fdb.len(), fdb.counters.aged), (1, 1));
        assert_eq!(fdb.next_expiry(), Some(at(320)));
        see(&mut fdb, at(311), 3, B);
        assert_eq!(fdb.entries.len(), 2);
        fdb.expire(at(1000));
        assert!(fdb.is_empty() && fdb.next_expiry().is_none() && fdb.by_port.is_empty());
    }

    #[test]
    fn a_static_entry_neither_moves_ages_nor_yields() {
        let mut fdb = fdb(2, 2);
        see(&mut fdb, at(0), 1, A);
        fdb.add_static(mac(1), B);
        assert_eq!(see(&mut fdb, at(0), 1, A), Lesson::Static);
        for who in 10..20 {
            see(&mut fdb, at(1), who, B);
        }
        fdb.expire(at(9999));
        assert_eq!(fdb.lookup(at(9999), mac(1)), Some(B));
        fdb.flush_port(B, false);
        assert_eq!(fdb.len(), 1);
        fdb.flush_port(B, true);
        assert!(fdb.is_empty());
    }

    #[test]
    fn a_port_over_its_limit_gives_up_its_own_oldest() {
        let mut fdb = fdb(100, 3);
        see(&mut fdb, at(0), 1, B);
        for who in 10..15 {
            see(&mut fdb, at(u64::from(who)), who, A);
        }
        let alive: Vec<_> = (1..20).filter(|who| fdb.lookup(at(15), mac(*who)).is_some()).collect();
        assert_eq!(alive, [1, 12, 13, 14]);
        see(&mut fdb, at(16), 1, A);
        assert_eq!(fdb.owned_by(A), 3, "a move counts too");
        assert_eq!(fdb.counters.evicted, 3);
    }

    #[test]
    fn a_flooding_port_evicts_only_its_own() {
        let mut fdb = fdb(90, 90);
        for who in 0..10 {
            see(&mut fdb, at(0), who, A);
            see(&mut fdb, at(0), 100 + who, B);
        }
        for who in 1000..5000 {
            see(&mut fdb, at(1), who, C);
        }
        assert_eq!((fdb.owned_by(A), fdb.owned_by(B), fdb.owned_by(C)), (10, 10, 70));
    }

    #[test]
    fn who_comes_late_to_a_full_table_still_gets_an_equal_share() {
        let mut fdb = fdb(90, 90);
        for who in 1000..2000 {
            see(&mut fdb, at(0), who, C);
        }
        for who in 0..500 {
            see(&mut fdb, at(1), who, A);
        }
        assert_eq!((fdb.owned_by(A), fdb.owned_by(C)), (45, 45));
    }

    #[test]
    fn among_equals_the_lowest_port_yields() {
        let mut fdb = fdb(8, 8);
        for who in 0..4 {
            see(&mut fdb, at(0), who, B);
            see(&mut fdb, at(0), 100 + who, A);
        }
        see(&mut fdb, at(1), 7, C);
        assert_eq!((fdb.owned_by(A), fdb.owned_by(B), fdb.owned_by(C)), (3, 4, 1));
    }

    #[test]
    fn ageing_zero_learns_nothing_and_forgets_what_was_known() {
        let mut fdb = fdb(10, 10);
        see(&mut fdb, at(0), 1, A);
        fdb.set_limits(Limits { table: 10, port: 10, ageing: Duration::ZERO });
        assert_eq!(see(&mut fdb, at(0), 1, A), Lesson::Off);
        assert!(fdb.is_empty());
    }

    #[test]
    fn smaller_limits_apply_at_once() {
        let mut fdb = fdb(100, 100);
        for who in 0..50 {
            see(&mut fdb, at(u64::from(who)), who, if who % 2 == 0 { A } else { B });
        }
        fdb.set_limits(Limits { table: 15, port: 10, ageing: AGEING });
        assert_eq!((fdb.len(), fdb.owned_by(A).max(fdb.owned_by(B))), (15, 8));
        assert_eq!(fdb.lookup(at(50), mac(49)), Some(B), "the newest stay");
    }

    #[test]
    fn pages_cover_the_table_once() {
        let mut fdb = fdb(100, 100);
        for who in 0..25 {
            see(&mut fdb, at(1), who, A);
        }
        fdb.forget(mac(3));
        let (mut seen, mut cursor) = (Vec::new(), Some(0));
        while let Some(from) = cursor {
            let (rows, next) = fdb.page(at(3), from, 10);
            seen.extend(rows);
            cursor = next;
        }
        assert_eq!(seen.len(), 24);
        let row = FdbEntry { mac: mac(0), port: A, age: Duration::from_secs(2), is_static: false };
        assert_eq!(seen[0], row);
    }
}
