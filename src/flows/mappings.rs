//! Which socket stands for which end of the switch's side, and how long.
//!
//! Theory of operation. A flow of datagrams has no end of its own, so that its *mapping*, the socket of one
//! address and port inside, is kept for as long as conntrack keeps such flows: shortly, until an answer comes, and
//! longer then. Every destination shares the mapping (RFC 4787 REQ-1). A datagram only notes the time; timers
//! are asked again when they fire. So the mapping that would end first is found by waiting for nobody: it is
//! the one to give up when there are no more descriptors.

use std::collections::VecDeque;
use std::time::Duration;

use hashbrown::HashMap;
use slab::Slab;

use super::timers::{Armed, Timers};
use crate::dataplane::Instant;
use crate::wire::ip::Addr;

/// Of tokens: a socket's number among those that had its slot, modulo 2^28.
const GENERATIONS: u32 = 0x0fff_ffff;
/// Slots that are looked at for a mapping of somebody's own to give up.
const LOOKED_AT: usize = 64;

type Hasher = foldhash::fast::FixedState;

/// What a mapping reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reach {
    /// The world.
    Outside,
    /// The host's loopback, under the far end's addresses.
    FarEnd,
    /// The host's loopback, under its own addresses: the switch asks a resolver there.
    Loopback,
}

/// Whose a mapping is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// The address that the switch knows.
    pub address: Addr,
    /// Its port, or an echo's identifier.
    pub port: u16,
    /// Where it leads to: what is bound to an interface of the host would not get to its loopback.
    pub reach: Reach,
}

/// How long mappings last, without and with an answer (Linux `nf_conntrack_udp_timeout`, `…_udp_timeout_stream`,
/// `…_icmp_timeout`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// Until something comes back.
    pub unreplied: Duration,
    /// After that.
    pub replied: Duration,
}

impl Lifetimes {
    /// Of UDP.
    pub const UDP: Self = Self { unreplied: Duration::from_secs(30), replied: Duration::from_secs(120) };
    /// Of ICMP echo.
    pub const ECHO: Self = Self { unreplied: Duration::from_secs(30), replied: Duration::from_secs(30) };
}

/// One mapping, with its socket.
#[derive(Debug)]
pub struct Mapping<S> {
    /// Whose it is.
    pub key: Key,
    /// What it is mapped to.
    pub socket: S,
    last: Instant,
    generation: u32,
    armed: Armed,
    replied: bool,
    queued: bool,
}

/// All mappings of one protocol.
#[derive(Debug)]
pub struct Mappings<S> {
    slots: Slab<Mapping<S>>,
    index: HashMap<Key, u32, Hasher>,
    ready: VecDeque<u32>,
    timers: Timers,
    generation: u32,
    lifetimes: Lifetimes,
    /// Where to look next for somebody's mapping.
    hand: usize,
}

impl<S> Mapping<S> {
    fn deadline(&self, lifetimes: &Lifetimes) -> Instant {
        self.last + if self.replied { lifetimes.replied } else { lifetimes.unreplied }
    }

    /// Something was sent.
    pub const fn sent(&mut self, now: Instant) {
        self.last = now;
    }

    /// Something has come.
    pub const fn received(&mut self, now: Instant) {
        (self.last, self.replied) = (now, true);
    }
}

impl<S> Mappings<S> {
    /// None yet. `seed` makes it hard to guess which collide.
    pub fn new(seed: u64, lifetimes: Lifetimes) -> Self {
        Self {
            slots: Slab::new(),
            index: HashMap::with_hasher(Hasher::with_seed(seed)),
            ready: VecDeque::new(),
            timers: Timers::default(),
            generation: 0,
            lifetimes,
            hand: 0,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The slot of somebody's mapping.
    pub fn find(&self, key: &Key) -> Option<usize> {
        self.index.get(key).map(|slot| *slot as usize)
    }

    /// The mapping in a slot.
    pub fn get(&self, slot: usize) -> Option<&Mapping<S>> {
        self.slots.get(slot)
    }

    /// The mapping in a slot, to change it.
    pub fn get_mut(&mut self, slot: usize) -> Option<&mut Mapping<S>> {
        self.slots.get_mut(slot)
    }

    /// Slot and generation that the next mapping will have.
    pub fn vacant(&self) -> (usize, u32) {
        (self.slots.vacant_key(), self.generation.wrapping_add(1) & GENERATIONS)
    }

    /// Adds a mapping; its slot. Whose it is has none yet.
    pub fn insert(&mut self, now: Instant, key: Key, socket: S) -> usize {
        let (slot, generation) = self.vacant();
        self.generation = generation;
        let (armed, queued, replied) = (Armed::default(), false, false);
        let mut mapping = Mapping { key, socket, last: now, generation, armed, replied, queued };
        let deadline = mapping.deadline(&self.lifetimes);
        self.timers.arm(slot, &mut mapping.armed, Some(deadline));
        self.slots.insert(mapping);
        // Slots are fewer than descriptors.
        self.index.insert(key, slot as u32);
        slot
    }

    /// Whether the mapping of a token is still there.
    pub fn is_current(&self, slot: usize, generation: u32) -> bool {
        self.slots.get(slot).is_some_and(|mapping| mapping.generation == generation)
    }

    /// A mapping has something to say: it stands in the queue, once.
    pub fn queue(&mut self, slot: usize) {
        if let Some(mapping) = self.slots.get_mut(slot)
            && !mapping.queued
        {
            mapping.queued = true;
            self.ready.push_back(slot as u32);
        }
    }

    /// Whether anybody stands in the queue.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The first in the queue, who leaves it.
    pub fn next_ready(&mut self) -> Option<usize> {
        while let Some(slot) = self.ready.pop_front() {
            if let Some(mapping) = self.slots.get_mut(slot as usize)
                && mapping.queued
            {
                mapping.queued = false;
                return Some(slot as usize);
            }
        }
        None
    }

    /// When to look for mappings that are over.
    pub fn deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Takes out a mapping that is over by now, if there is one.
    pub fn expire(&mut self, now: Instant) -> Option<S> {
        self.take(now, |deadline, _| deadline <= now)
    }

    /// Takes out the mapping that would end first: its descriptor is needed elsewhere.
    pub fn give_up(&mut self) -> Option<S> {
        // What was asked for then, and is wanted still.
        self.take(Instant(u64::MAX), |deadline, asked| deadline <= asked)
    }

    /// Takes out one of those that are meant, whose end is near: the nearest of the few that are looked at.
    pub fn give_up_one(&mut self, is_meant: impl Fn(&S) -> bool) -> Option<S> {
        let places = self.slots.capacity().max(1);
        let looked_at = (0..LOOKED_AT.min(places)).map(|at| (self.hand + at) % places);
        let meant = looked_at.filter_map(|slot| {
            let mapping = self.slots.get(slot).filter(|mapping| is_meant(&mapping.socket))?;
            Some((mapping.deadline(&self.lifetimes), slot))
        });
        let nearest = meant.min();
        self.hand = (self.hand + LOOKED_AT) % places;
        let (_, slot) = nearest?;
        Some(self.remove(slot))
    }

    fn remove(&mut self, slot: usize) -> S {
        let mut mapping = self.slots.remove(slot);
        self.timers.disarm(slot, &mut mapping.armed);
        self.index.remove(&mapping.key);
        mapping.socket
    }

    /// Takes out the first mapping whose timer is due at `now` and which is over, by its deadline and by what its
    /// timer was set to.
    fn take(&mut self, now: Instant, is_over: impl Fn(Instant, Instant) -> bool) -> Option<S> {
        while let Some((at, slot)) = self.timers.pop(now) {
            let Some(mapping) = self.slots.get_mut(slot) else { continue };
            mapping.armed.fired();
            let deadline = mapping.deadline(&self.lifetimes);
            if is_over(deadline, at) {
                return Some(self.remove(slot));
            }
            self.timers.arm(slot, &mut mapping.armed, Some(deadline));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> Key {
        Key { address: Addr::v4([192, 0, 0, 1]), port, reach: Reach::Outside }
    }

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000_000)
    }

    fn expired(mappings: &mut Mappings<char>, now: Instant) -> String {
        std::iter::from_fn(|| mappings.expire(now)).collect()
    }

    #[test]
    fn an_answer_makes_it_last() {
        let mut mappings = Mappings::new(7, Lifetimes::UDP);
        let [a, b, c] =
            [(1, 'a'), (2, 'b'), (3, 'c')].map(|(port, name)| mappings.insert(at(0), key(port), name));
        mappings.get_mut(b).unwrap().received(at(5));
        mappings.get_mut(c).unwrap().sent(at(20));
        assert_eq!(mappings.find(&key(1)), Some(a));
        assert_eq!(mappings.deadline(), Some(at(30)));
        assert_eq!(expired(&mut mappings, at(29)), "");
        assert_eq!(expired(&mut mappings, at(30)), "a");
        assert_eq!(mappings.find(&key(1)), None);
        assert_eq!(expired(&mut mappings, at(50)), "c");
        assert_eq!(expired(&mut mappings, at(124)), "");
        assert_eq!(expired(&mut mappings, at(125)), "b");
        assert!(mappings.is_empty() && mappings.deadline().is_none());
    }

    #[test]
    fn the_one_that_would_end_first_is_given_up() {
        let mut mappings = Mappings::new(7, Lifetimes::UDP);
        let [a, _, c] =
            [(1, 'a'), (2, 'b'), (3, 'c')].map(|(port, name)| mappings.insert(at(0), key(port), name));
        mappings.get_mut(a).unwrap().received(at(1));
        mappings.get_mut(c).unwrap().sent(at(2));
        let order: String = std::iter::from_fn(|| mappings.give_up()).collect();
        assert_eq!(order, "bca");
        assert_eq!(mappings.len(), 0);
    }

    #[test]
    fn one_of_somebodys_own_is_given_up() {
        let mut mappings = Mappings::new(7, Lifetimes::UDP);
        for (port, owner) in (0..300).map(|port| (port, if port % 3 == 0 { 'a' } else { 'b' })) {
            mappings.insert(at(u64::from(port)), key(port), owner);
        }
        assert_eq!(mappings.give_up_one(|owner| *owner == 'b'), Some('b'));
        assert!(mappings.find(&key(1)).is_none() && mappings.find(&key(0)).is_some());
        let given_up = (0..100).filter_map(|_| mappings.give_up_one(|owner| *owner == 'a')).count();
        assert!(given_up > 50, "{given_up}");
        assert_eq!(mappings.len(), 299 - given_up);
        assert_eq!(mappings.give_up_one(|owner| *owner == 'c'), None);
        assert_eq!(expired(&mut mappings, at(1000)).len(), 299 - given_up, "each once");
    }

    #[test]
    fn a_token_of_a_former_mapping_is_nobodys() {
        let mut mappings = Mappings::new(7, Lifetimes::ECHO);
        let (slot, generation) = mappings.vacant();
        assert_eq!(mappings.insert(at(0), key(1), 'a'), slot);
        assert!(mappings.is_current(slot, generation));
        mappings.queue(slot);
        mappings.queue(slot);
        assert_eq!(expired(&mut mappings, at(30)), "a");
        assert!(!mappings.is_current(slot, generation));
        assert_eq!(mappings.insert(at(30), key(2), 'b'), slot);
        assert!(!mappings.is_current(slot, generation));
        mappings.queue(slot);
        assert_eq!(mappings.next_ready(), Some(slot));
        assert_eq!(mappings.next_ready(), None, "each stands in the queue once");
        assert!(!mappings.has_ready());
    }
}
