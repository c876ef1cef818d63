//! The slots of the neighbour table: where entries lie, and the lists that run through them.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::{Held, NeighbourId, State};
use crate::dataplane::time::Instant;
use crate::dataplane::{NetworkId, PortId};
use crate::wire::MacAddr;
use crate::wire::ip::Addr;

/// A slot's index; [`NIL`] is none.
pub(super) type Slot = u32;
pub(super) const NIL: Slot = Slot::MAX;

/// The two lists that an entry is on: one of those by time, and one of those by owner.
pub(super) const TIME: usize = 0;
pub(super) const OWNER: usize = 1;

#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    prev: Slot,
    next: Slot,
}

/// Entries in the order in which they were put there.
#[derive(Debug, Clone, Copy)]
pub(super) struct List {
    pub(super) oldest: Slot,
    newest: Slot,
    pub(super) len: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self { oldest: NIL, newest: NIL, len: 0 };
}

/// One neighbour. What every frame reads comes first.
#[derive(Debug)]
pub(super) struct Entry {
    /// Counts who had this slot; even while it is free.
    pub(super) generation: u32,
    pub(super) network: NetworkId,
    pub(super) mac: MacAddr,
    pub(super) state: State,
    pub(super) router: bool,
    /// Questions sent since it was last answered.
    pub(super) probes: u8,
    /// Reachable until then.
    pub(super) fresh_until: Instant,
    /// When it was last used to send, a second more or less.
    pub(super) used: Instant,
    pub(super) address: Addr,
    /// When its MAC address was last confirmed.
    pub(super) confirmed: Instant,
    /// When its state or MAC address last changed because of a claim.
    pub(super) updated: Instant,
    /// When its timer runs out, if it is on a list by time.
    pub(super) deadline: Instant,
    /// When it came into the table: when its search began.
    pub(super) since: Instant,
    /// Resolved: the port that it was heard from. Otherwise: the port whose frame wants it.
    pub(super) owner: PortId,
    pub(super) links: [Link; 2],
    /// What waits for its MAC address.
    pub(super) queue: VecDeque<Held>,
}

impl Entry {
    pub(super) fn new(now: Instant, network: NetworkId, address: Addr, owner: PortId) -> Self {
        Self {
            generation: 0,
            network,
            mac: MacAddr::ZERO,
            state: State::Incomplete,
            router: false,
            probes: 0,
            fresh_until: now,
            used: now,
            address,
            confirmed: now,
            updated: now,
            deadline: now,
            since: now,
            owner,
            links: [Link { prev: NIL, next: NIL }; 2],
            queue: VecDeque::new(),
        }
    }

    /// Its state, now that time has passed.
    #[inline]
    pub(super) fn state(&self, now: Instant) -> State {
        if self.state == State::Reachable && now >= self.fresh_until { State::Stale } else { self.state }
    }

    fn is_free(&self) -> bool {
        self.generation.is_multiple_of(2)
    }
}

/// All slots, and the index over them.
#[derive(Debug)]
pub(super) struct Entries {
    slots: Vec<Entry>,
    /// In a free slot, `links[TIME].next` is the next free one.
    free: Slot,
    index: HashTable<Slot>,
    hasher: FixedState,
}

impl Entries {
    pub(super) fn new(seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self { slots: Vec::new(), free: NIL, index: HashTable::new(), hasher }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// How many slots there are, free ones included.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// A number that looks random, the same on every run.
    pub(super) fn hash(&self, of: impl std::hash::Hash) -> u64 {
        self.hasher.hash_one(of)
    }

    #[inline]
    pub(super) fn find(&self, network: NetworkId, address: Addr) -> Option<Slot> {
        let is = |slot: &Slot| {
            let entry = self.get(*slot);
            entry.address == address && entry.network == network
        };
        self.index.find(self.hash((network, address)), is).copied()
    }

    /// The entry that has the name, unless another has its slot by now.
    #[inline]
    pub(super) fn by_id(&self, id: NeighbourId) -> Option<&Entry> {
        self.slots.get(id.slot as usize).filter(|entry| entry.generation == id.generation)
    }

    /// The entry in a slot, if there is one.
    pub(super) fn at(&self, slot: Slot) -> Option<&Entry> {
        self.slots.get(slot as usize).filter(|entry| !entry.is_free())
    }

    /// Slots come only from the index, the lists and the free list, which hold nothing else.
    #[inline]
    pub(super) fn get(&self, slot: Slot) -> &Entry {
        &self.slots[slot as usize]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: Slot) -> &mut Entry {
        &mut self.slots[slot as usize]
    }

    pub(super) fn id(&self, slot: Slot) -> NeighbourId {
        NeighbourId { slot, generation: self.get(slot).generation }
    }

    /// Gives an entry a slot and puts it into the index; it is on no list.
    pub(super) fn insert(&mut self, mut entry: Entry) -> Slot {
        let hash = self.hash((entry.network, entry.address));
        let slot = self.free;
        let slot = if slot == NIL {
            entry.generation = 1;
            self.slots.push(entry);
            (self.slots.len() - 1) as Slot
        } else {
            let old = self.get(slot);
            entry.generation = old.generation.wrapping_add(1);
            self.free = old.links[TIME].next;
            *self.get_mut(slot) = entry;
            slot
        };
        let (slots, hasher) = (&self.slots, &self.hasher);
        let rehash = |slot: &Slot| {
            let entry = &slots[*slot as usize];
            hasher.hash_one((entry.network, entry.address))
        };
        self.index.insert_unique(hash, slot, rehash);
        slot
    }

    /// Frees the slot of an entry that is on no list, and hands out what waited for it.
    pub(super) fn remove(&mut self, slot: Slot) -> VecDeque<Held> {
        let hash = self.hash((self.get(slot).network, self.get(slot).address));
        if let Ok(found) = self.index.find_entry(hash, |other| *other == slot) {
            found.remove();
        }
        let free = self.free;
        self.free = slot;
        let entry = self.get_mut(slot);
        entry.generation = entry.generation.wrapping_add(1);
        entry.links[TIME].next = free;
        std::mem::take(&mut entry.queue)
    }

    /// Puts an entry at a list's newest end.
    pub(super) fn push(&mut self, list: &mut List, kind: usize, slot: Slot) {
        self.get_mut(slot).links[kind] = Link { prev: list.newest, next: NIL };
        match list.newest {
            NIL => list.oldest = slot,
            newest => self.get_mut(newest).links[kind].next = slot,
        }
        list.newest = slot;
        list.len += 1;
    }

    /// Takes an entry off the list that it is on.
    pub(super) fn unlink(&mut self, list: &mut List, kind: usize, slot: Slot) {
        let Link { prev, next } = self.get(slot).links[kind];
        match prev {
            NIL => list.oldest = next,
            prev => self.get_mut(prev).links[kind].next = next,
        }
        match next {
            NIL => list.newest = prev,
            next => self.get_mut(next).links[kind].prev = prev,
        }
        list.len -= 1;
    }
}
