//! Whose flows they are: who is over a limit, and who must yield when the table is full.
//!
//! Theory of operation. Every flow counts for two: for the *port* its first packet came by, and for its
//! *source*. A container's source is its port, whatever addresses it writes into its packets; outside, it is
//! the address (of IPv6 the /64, for whoever has one address there has them all), because everybody
//! outside comes by the uplink's one port.
//!
//! Flows that may be evicted, *droppable* ones (the protocols say which: not yet answered, or closing) are on
//! two lists in the order in which they became so, that of the port and that of the source. A source that
//! is at its limit gives up its own oldest droppable flow, or gets no more. In a full table the
//! port with the most droppable flows gives up its oldest one: among equals the one who asks, then
//! the lowest number. So a flood by one source ends at its limit; one from forged sources at the droppable
//! flows of the port it comes by; and a flow that is not droppable dies for nobody.
//!
//! *Homes.* A port's number is used again after the port has gone. Here a port is known by its *home*, a
//! slot that belongs to one life of a port: [`Owners::forget`] makes it dead, which makes the flows
//! dead that came or went by it, and a new port of that number gets another home. A home's slot is
//! free again when its last flow has been swept.

use std::cmp::Reverse;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use super::flow::{Flow, Status};
use super::index::{Hash, Index};
use super::list::{Chain, List};
use super::slab::{Chained, NIL, Slab};
use crate::dataplane::PortId;
use crate::wire::ip::{Addr, Version, mask};

/// Who has a flow counted against its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The port that the first packet came by: a container.
    Port,
    /// The address it came from: somebody outside.
    Address(Addr),
}

impl Source {
    /// What is counted together.
    fn key(address: Addr) -> Addr {
        match address.version() {
            Version::V4 => address,
            Version::V6 => Addr::from_bits(address.to_bits() & mask(64)),
        }
    }
}

/// One life of a port.
#[derive(Debug, Clone, Copy)]
struct Home {
    port: PortId,
    is_dead: bool,
    /// Flows that have it on either side.
    flows: u32,
    /// The record of the port as a source; `NIL` while it is none.
    source: u32,
    /// Its droppable flows. How many they are is in `Owners::droppable`.
    list: List,
}

/// Somebody with a limit.
#[derive(Debug, Clone, Copy)]
struct Record {
    /// The address; of a port, `::`.
    key: Addr,
    /// The home, when it is a port.
    home: u32,
    flows: u32,
    /// Its droppable flows.
    list: List,
}

impl Chained for Record {
    fn next_free(&mut self) -> &mut u32 {
        &mut self.home
    }
}

/// See the module's theory of operation.
#[derive(Debug)]
pub(super) struct Owners {
    hasher: FixedState,
    homes: Vec<Home>,
    /// Droppable flows by home, beside them so that the most are found fast.
    droppable: Vec<u32>,
    free_homes: Vec<u32>,
    /// Homes by port number; `NIL` where there is none.
    by_port: Vec<u32>,
    /// Dead homes that still have flows.
    dead: u32,
    records: Slab<Record>,
    by_address: Index,
}

impl Owners {
    pub(super) fn new(hasher: FixedState) -> Self {
        Self {
            hasher,
            homes: Vec::new(),
            droppable: Vec::new(),
            free_homes: Vec::new(),
            by_port: Vec::new(),
            dead: 0,
            records: Slab::default(),
            by_address: Index::default(),
        }
    }

    /// Whether there are dead homes, and so flows to be swept.
    #[inline]
    pub(super) const fn has_dead(&self) -> bool {
        self.dead > 0
    }

    /// Whether one of these homes is dead.
    pub(super) fn is_dead(&self, homes: [u32; 2]) -> bool {
        homes.iter().any(|home| self.homes.get(*home as usize).is_some_and(|home| home.is_dead))
    }

    /// The port of a home that is not dead.
    #[inline]
    pub(super) fn living_port(&self, home: u32) -> Option<PortId> {
        self.homes.get(home as usize).filter(|home| !home.is_dead).map(|home| home.port)
    }

    /// The port of a home.
    pub(super) fn port(&self, home: u32) -> Option<PortId> {
        self.homes.get(home as usize).map(|home| home.port)
    }

    /// How many flows a source has, and its oldest that is droppable (`NIL`: none is).
    pub(super) fn of_source(&self, owner: PortId, source: Source) -> (u32, u32) {
        let record = match source {
            Source::Port => self.home(owner).and_then(|home| self.homes.get(home as usize)).map(|h| h.source),
            Source::Address(address) => self.find(Source::key(address)),
        };
        let record = record.and_then(|record| self.records.get(record));
        record.map_or((0, NIL), |record| (record.flows, record.list.oldest))
    }

    /// The flow that must go when the table is full and `owner` wants one more.
    pub(super) fn yields_to(&self, owner: PortId) -> u32 {
        let most = self.droppable.iter().copied().max().unwrap_or(0);
        if most == 0 {
            return NIL;
        }
        let own = self.home(owner).filter(|home| self.droppable.get(*home as usize) == Some(&most));
        let first = || {
            let heaviest = (0..).zip(&self.droppable).filter(|(_, count)| **count == most);
            heaviest.max_by_key(|(home, _)| Reverse((self.port(*home), *home))).map(|(home, _)| home)
        };
        let home = own.or_else(first).and_then(|home| self.homes.get(home as usize));
        home.map_or(NIL, |home| home.list.oldest)
    }

    /// The home of a living port that has one.
    fn home(&self, port: PortId) -> Option<u32> {
        self.by_port.get(port.0 as usize).copied().filter(|home| *home != NIL)
    }

    fn find(&self, key: Addr) -> Option<u32> {
        let hash = Hash::new(self.hasher.hash_one(key));
        self.by_address.find(hash, |record| self.records.get(record).is_some_and(|r| r.key == key))
    }

    /// Counts one more flow for a port and a source. Gives the home and the source's slot.
    pub(super) fn enter(&mut self, owner: PortId, source: Source) -> (u32, u32) {
        let home = self.home_for(owner);
        let record = match source {
            Source::Port => self.record_of_home(home),
            Source::Address(address) => self.record_of_address(Source::key(address)),
        };
        if let Some(record) = self.records.get_mut(record) {
            record.flows += 1;
        }
        (home, record)
    }

    /// Counts a flow for one more home, that of `port`.
    pub(super) fn home_for(&mut self, port: PortId) -> u32 {
        let home = self.home(port).unwrap_or_else(|| self.new_home(port));
        if let Some(home) = self.homes.get_mut(home as usize) {
            home.flows += 1;
        }
        home
    }

    /// Counts a flow off: of its homes and of its source. It must be on no list any more.
    pub(super) fn leave(&mut self, homes: [u32; 2], source: u32) {
        self.leave_source(source);
        homes.into_iter().for_each(|home| self.leave_home(home));
    }

    /// Counts a flow off a home. The last one of a dead home takes it along.
    pub(super) fn leave_home(&mut self, at: u32) {
        let Some(home) = self.homes.get_mut(at as usize) else { return };
        home.flows -= 1;
        if home.flows == 0 && home.is_dead {
            self.dead -= 1;
            self.free_homes.push(at);
        }
    }

    /// The port is gone. A port of this number that comes later has nothing to do with it.
    pub(super) fn forget(&mut self, port: PortId) {
        let Some(at) = self.home(port) else { return };
        self.by_port[port.0 as usize] = NIL;
        let Some(home) = self.homes.get_mut(at as usize) else { return };
        home.is_dead = true;
        match home.flows {
            0 => self.free_homes.push(at),
            _ => self.dead += 1,
        }
    }

    /// Puts a flow on the lists of the droppable, or takes it off, if it is not so already.
    pub(super) fn set_droppable(&mut self, flows: &mut Slab<Flow>, slot: u32, on: bool) {
        let Some(flow) = flows.get_mut(slot).filter(|flow| flow.status.has(Status::DROPPABLE) != on) else {
            return;
        };
        flow.status = flow.status.set(Status::DROPPABLE, on);
        let (at, source) = (flow.homes[0], flow.source);
        let Some(home) = self.homes.get_mut(at as usize) else { return };
        let Some(count) = self.droppable.get_mut(at as usize) else { return };
        let Some(record) = self.records.get_mut(source) else { return };
        if on {
            *count += 1;
            home.list.push(flows, Chain::Owner, slot);
            record.list.push(flows, Chain::Source, slot);
        } else {
            *count -= 1;
            home.list.unlink(flows, Chain::Owner, slot);
            record.list.unlink(flows, Chain::Source, slot);
        }
    }

    /// Bytes that the records of sources take, index included.
    pub(super) fn memory(&self) -> usize {
        self.records.memory() + self.by_address.memory()
    }

    /// Whether nothing is counted and no list holds anything.
    #[cfg(test)]
    pub(super) fn is_pristine(&self) -> bool {
        let idle = |home: &Home| home.flows == 0 && home.source == NIL && home.list.is_empty();
        self.homes.iter().all(idle)
            && self.droppable.iter().all(|count| *count == 0)
            && (self.dead, self.records.used(), self.by_address.len()) == (0, 0, 0)
    }

    fn new_home(&mut self, port: PortId) -> u32 {
        let new = Home { port, is_dead: false, flows: 0, source: NIL, list: List::EMPTY };
        let at = self.free_homes.pop().unwrap_or(self.homes.len() as u32);
        match self.homes.get_mut(at as usize) {
            Some(home) => *home = new,
            None => {
                self.homes.push(new);
                self.droppable.push(0);
            }
        }
        let number = port.0 as usize;
        if self.by_port.len() <= number {
            self.by_port.resize(number + 1, NIL);
        }
        self.by_port[number] = at;
        at
    }

    fn record_of_home(&mut self, at: u32) -> u32 {
        match self.homes.get(at as usize) {
            Some(home) if home.source == NIL => {
                let record = self.new_record(Addr::UNSPECIFIED_V6, at);
                self.homes[at as usize].source = record;
                record
            }
            Some(home) => home.source,
            None => NIL,
        }
    }

    fn record_of_address(&mut self, key: Addr) -> u32 {
        self.find(key).unwrap_or_else(|| {
            let record = self.new_record(key, NIL);
            self.by_address.insert(Hash::new(self.hasher.hash_one(key)), record);
            record
        })
    }

    fn new_record(&mut self, key: Addr, home: u32) -> u32 {
        let new = Record { key, home, flows: 0, list: List::EMPTY };
        // There are never more records than flows, whose slots run out first.
        let at = self.records.add(|| new).unwrap_or(NIL);
        if let Some(record) = self.records.get_mut(at) {
            *record = new;
        }
        at
    }

    fn leave_source(&mut self, at: u32) {
        let Some(record) = self.records.get_mut(at) else { return };
        record.flows -= 1;
        if record.flows > 0 {
            return;
        }
        let Record { key, home, .. } = *record;
        match self.homes.get_mut(home as usize) {
            Some(home) => home.source = NIL,
            None => self.by_address.remove(Hash::new(self.hasher.hash_one(key)), at),
        }
        self.records.free(at);
    }
}
