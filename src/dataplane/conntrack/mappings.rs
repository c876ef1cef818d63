//! Which outside port stands for which inside endpoint.
//!
//! Theory of operation. A NAT that gives an inside endpoint another outside port for every destination breaks
//! whoever tells a third party where he can be reached. So a *mapping* (RFC 4787 REQ-1, RFC 5382 REQ-1,
//! RFC 5508 REQ-1) says: as seen from the address `to`, this protocol, address and port inside is this port
//! outside. Whoever chooses a port (`nat`) asks here first, and takes no port for another endpoint that is
//! owned.
//!
//! A mapping lives as long as flows have it: the first one to enter the table with a source translation
//! *acquires* it, the last one to leave *releases* it. Both are the table's business, so that nobody can
//! forget it. Not every flow has one: when all ports are owned, flows share a port with its owner, and such
//! a flow owns nothing.
//!
//! Per protocol and outside address there is a *pool*, a bit for each port. It makes "the next unowned port" a
//! matter of words, and an index from outside to inside unnecessary. Pools without ports are used again
//! for other addresses, and are all zero then. A mapping takes 32 bytes and an index entry; a pool 8 KiB.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::Tuple;
use super::index::{Hash, Index};
use super::slab::{Chained, Slab};
use crate::wire::ip::Addr;

/// Words of a pool.
const WORDS: usize = (u16::MAX as usize + 1) / 64;

/// A bit for each port that is owned.
#[derive(Debug)]
struct Pool {
    owned: Box<[u64; WORDS]>,
    ports: u32,
}

/// An inside endpoint's outside port.
#[derive(Debug, Clone, Copy)]
struct Mapping {
    address: Addr,
    /// Of protocol and outside address. In a free slot: the next free one.
    pool: u32,
    flows: u32,
    port: u16,
    outside: u16,
}

impl Chained for Mapping {
    fn next_free(&mut self) -> &mut u32 {
        &mut self.pool
    }
}

/// See the module's theory of operation.
#[derive(Debug)]
pub struct Mappings {
    hasher: FixedState,
    mappings: Slab<Mapping>,
    by_inside: Index,
    pools: Vec<Pool>,
    free_pools: Vec<u32>,
    /// By protocol and outside address.
    pool_of: HashMap<(u8, Addr), u32, FixedState>,
}

impl Mappings {
    pub(super) fn new(hasher: FixedState) -> Self {
        Self {
            mappings: Slab::default(),
            by_inside: Index::default(),
            pools: Vec::new(),
            free_pools: Vec::new(),
            pool_of: HashMap::with_hasher(hasher.clone()),
            hasher,
        }
    }

    /// How many inside endpoints have an outside port.
    pub const fn len(&self) -> u32 {
        self.mappings.used()
    }

    /// Whether nobody has one.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the mappings take.
    pub(super) fn memory(&self) -> usize {
        self.mappings.memory() + self.by_inside.memory() + self.pools.len() * size_of::<[u64; WORDS]>()
    }

    /// The port that stands for a packet's source at the address `to`.
    #[inline]
    pub fn outside(&self, packet: &Tuple, to: Addr) -> Option<u16> {
        let pool = *self.pool_of.get(&(packet.protocol, to))?;
        self.mappings.get(self.find(packet.source, packet.source_port, pool)?).map(|mapping| mapping.outside)
    }

    /// The ports from `low` to `high` of the address `to` that stand for nobody, beginning at `start`, which
    /// lies between them.
    pub fn unowned(
        &self,
        protocol: u8,
        to: Addr,
        start: u16,
        (low, high): (u16, u16),
    ) -> impl Iterator<Item = u16> {
        let pool = self.pool_of.get(&(protocol, to)).and_then(|pool| self.pools.get(*pool as usize));
        let run = move |from: u16, until: u32| {
            let mut at = u32::from(from);
            std::iter::from_fn(move || {
                let port =
                    if at >= until { None } else { pool.map_or(Some(at), |pool| pool.next(at, until)) }?;
                at = port + 1;
                u16::try_from(port).ok()
            })
        };
        run(start, u32::from(high) + 1).chain(run(low, u32::from(start)))
    }

    /// A flow with a translated source has entered the table: whether it has a mapping, which is to be
    /// released when it leaves.
    pub(super) fn acquire(&mut self, original: &Tuple, reply: &Tuple) -> bool {
        let Tuple { protocol, destination: to, destination_port: outside, .. } = *reply;
        if !has_ports(protocol) {
            return false;
        }
        let pool = self.pool_of.get(&(protocol, to)).copied();
        let known = pool.and_then(|pool| self.find(original.source, original.source_port, pool));
        if let Some(mapping) = known.and_then(|slot| self.mappings.get_mut(slot)) {
            let is_its = mapping.outside == outside;
            mapping.flows += u32::from(is_its);
            return is_its;
        }
        let pool = pool.unwrap_or_else(|| self.add_pool(protocol, to));
        let mapping =
            Mapping { address: original.source, pool, flows: 1, port: original.source_port, outside };
        self.pools.get_mut(pool as usize).is_some_and(|pool| pool.take(outside)) && self.add(mapping)
    }

    /// A flow that acquired its mapping has left the table.
    pub(super) fn release(&mut self, original: &Tuple, reply: &Tuple) {
        let key = (reply.protocol, reply.destination);
        let Some(pool) = self.pool_of.get(&key).copied() else { return };
        let Some(slot) = self.find(original.source, original.source_port, pool) else { return };
        let Some(mapping) = self.mappings.get_mut(slot) else { return };
        mapping.flows -= 1;
        if mapping.flows > 0 {
            return;
        }
        let outside = mapping.outside;
        self.by_inside.remove(self.hash(original.source, original.source_port, pool), slot);
        self.mappings.free(slot);
        if self.pools.get_mut(pool as usize).is_some_and(|pool| pool.give_back(outside)) {
            self.pool_of.remove(&key);
            self.free_pools.push(pool);
        }
    }

    fn add(&mut self, mapping: Mapping) -> bool {
        let Some(slot) = self.mappings.add(|| mapping) else { return false };
        if let Some(place) = self.mappings.get_mut(slot) {
            *place = mapping;
        }
        self.by_inside.insert(self.hash(mapping.address, mapping.port, mapping.pool), slot);
        true
    }

    #[cold]
    fn add_pool(&mut self, protocol: u8, to: Addr) -> u32 {
        let pool = self.free_pools.pop().unwrap_or_else(|| {
            self.pools.push(Pool { owned: Box::new([0; WORDS]), ports: 0 });
            // Fewer than addresses and protocols in use.
            self.pools.len() as u32 - 1
        });
        self.pool_of.insert((protocol, to), pool);
        pool
    }

    /// The slot of an endpoint's mapping.
    #[inline]
    fn find(&self, address: Addr, port: u16, pool: u32) -> Option<u32> {
        self.by_inside.find(self.hash(address, port, pool), |slot| {
            self.mappings
                .get(slot)
                .is_some_and(|mapping| (mapping.address, mapping.port, mapping.pool) == (address, port, pool))
        })
    }

    #[inline]
    fn hash(&self, address: Addr, port: u16, pool: u32) -> Hash {
        Hash::new(self.hasher.hash_one((address, u64::from(pool) << 16 | u64::from(port))))
    }
}

impl Pool {
    /// Whether a port was unowned; it is owned now.
    fn take(&mut self, port: u16) -> bool {
        let Some(word) = self.owned.get_mut(usize::from(port >> 6)) else { return false };
        let bit = 1 << (port & 63);
        let is_new = *word & bit == 0;
        *word |= bit;
        self.ports += u32::from(is_new);
        is_new
    }

    /// A port is unowned again; whether all are.
    fn give_back(&mut self, port: u16) -> bool {
        if let Some(word) = self.owned.get_mut(usize::from(port >> 6)) {
            *word &= !(1 << (port & 63));
        }
        self.ports -= 1;
        self.ports == 0
    }

    /// The first unowned port in `from..until`.
    fn next(&self, from: u32, until: u32) -> Option<u32> {
        let first = (from >> 6) as usize;
        let before = (1 << (from & 63)) - 1;
        let words = (first as u32..).zip(self.owned.get(first..)?);
        words
            .take_while(|(number, _)| number << 6 < until)
            .map(|(number, owned)| (number, if number << 6 <= from { owned | before } else { *owned }))
            .find(|(_, owned)| *owned != u64::MAX)
            .map(|(number, owned)| (number << 6) + owned.trailing_ones())
            .filter(|port| *port < until)
    }
}

/// Whether the protocol's flows are told apart by something that can be changed: ports, or ICMP's identifier.
#[inline]
pub const fn has_ports(protocol: u8) -> bool {
    use crate::wire::ip::protocol::{ICMP, ICMPV6, TCP, UDP};
    matches!(protocol, TCP | UDP | ICMP | ICMPV6)
}

#[cfg(test)]
mod tests;
