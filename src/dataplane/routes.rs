//! The route table: which interface leads to an address, and by which next hop.
//!
//! Theory of operation. A hash table finds the best route to a prefix; a set of the lengths in use tells
//! which prefixes of an address are worth looking up, longest first (RFC 1812 §5.2.4.3: the longest
//! match wins). Of several routes to one prefix the kind decides first (an address of ours, then what is
//! on the link, then static routes), then whether it leaves by the uplink the asker prefers, then the
//! metric, then the interface's number. An ordered set holds them all: it knows the next best when the
//! best goes, and a dump walks it with a cursor.
//!
//! Interfaces bring their routes along: each address is a host route to ourselves, each prefix one to its
//! link, and of an IPv4 prefix with room for it the first and last address are its broadcast addresses.
//! Link-local IPv6 addresses are not in the table: they mean something on their own link only, and who
//! has a packet for one asks the interface it came in by.
//!
//! Flows remember the way they take, so that only a flow's first packets ask here.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::ops::Bound::{Excluded, Included, Unbounded};

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::NetworkId;
use super::change::Rejected;
use super::interface::{InterfaceAddress, Route};
use crate::wire::ip::{Addr, Prefix, Version};

/// What a route leads to. The lower one wins among routes of the same prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An address of ours.
    Local,
    /// The broadcast address of a link (RFC 919), or its old form with zeros (RFC 1122 §3.3.6).
    Broadcast,
    /// A link: the destination itself is the next hop.
    Connected,
    /// What a user declared.
    Static,
}

/// One route, as found and as shown. The order is that of preference within a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteEntry {
    /// Where to.
    pub prefix: Prefix,
    /// What it leads to.
    pub kind: Kind,
    /// The lower one wins among static routes.
    pub metric: u32,
    /// The interface that has the address, or that packets leave by.
    pub interface: NetworkId,
    /// The next hop; none when the destination is on the link.
    pub via: Option<Addr>,
}

impl RouteEntry {
    /// What sorts before every route to a prefix, or is the first of them.
    const fn least(prefix: Prefix) -> Self {
        Self { prefix, kind: Kind::Local, metric: 0, interface: NetworkId(0), via: None }
    }
}

impl From<Route> for RouteEntry {
    fn from(route: Route) -> Self {
        let Route { prefix, via, interface, metric } = route;
        Self { prefix, kind: Kind::Static, metric, interface, via }
    }
}

/// What a look-up finds of a prefix.
#[derive(Debug, Clone, Copy)]
struct Node {
    best: RouteEntry,
    /// Whether there are others.
    alternatives: bool,
}

/// The route table.
#[derive(Debug)]
pub struct Routes {
    nodes: HashTable<Node>,
    /// Every route.
    ordered: BTreeSet<RouteEntry>,
    /// The routes that each interface brought along.
    brought: BTreeMap<NetworkId, Vec<RouteEntry>>,
    lengths: Lengths,
    hasher: FixedState,
}

impl Default for Routes {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Routes {
    /// An empty table. `seed` keys its hashes.
    pub fn new(seed: u64) -> Self {
        Self {
            nodes: HashTable::new(),
            ordered: BTreeSet::new(),
            brought: BTreeMap::new(),
            lengths: Lengths::default(),
            hasher: FixedState::with_seed(seed),
        }
    }

    /// The route to an address, for packets that prefer this uplink among equal ones.
    #[inline]
    pub fn lookup(&self, destination: Addr, preferred: Option<NetworkId>) -> Option<RouteEntry> {
        // An IPv4 prefix is one of 96 bits and more.
        let shortest = if destination.version() == Version::V4 { 96 } else { 0 };
        let node = self
            .lengths
            .from(shortest)
            .find_map(|bits| self.node(Prefix::new(destination, bits - shortest)))?;
        let other = preferred.filter(|uplink| node.alternatives && node.best.interface != *uplink);
        let other = other.and_then(|uplink| self.alternative(&node.best, uplink));
        Some(other.unwrap_or(node.best))
    }

    #[inline]
    fn node(&self, prefix: Prefix) -> Option<&Node> {
        self.nodes.find(self.hasher.hash_one(prefix), |node| node.best.prefix == prefix)
    }

    /// A route of the same prefix and kind that leaves by this uplink.
    fn alternative(&self, best: &RouteEntry, uplink: NetworkId) -> Option<RouteEntry> {
        let same_kind = |entry: &&RouteEntry| entry.prefix == best.prefix && entry.kind == best.kind;
        let others = self.ordered.range((Excluded(best), Unbounded)).take_while(same_kind);
        others.copied().find(|entry| entry.interface == uplink)
    }

    /// Gives an interface its addresses, or takes it away: what it brought along goes, and without an
    /// interface its static routes go as well.
    ///
    /// # Errors
    /// An address of another interface; nothing is changed then.
    pub fn set_interface(
        &mut self,
        id: NetworkId,
        addresses: Option<&[InterfaceAddress]>,
    ) -> Result<(), Rejected> {
        let entries: Vec<RouteEntry> =
            addresses.unwrap_or_default().iter().flat_map(|address| routes_of(id, address)).collect();
        let local = |entry: &&RouteEntry| entry.kind == Kind::Local;
        if let Some(taken) = entries.iter().filter(local).find(|entry| self.is_of_another(entry)) {
            return Err(Rejected::AddressTaken(taken.prefix.address()));
        }
        for entry in self.brought.remove(&id).unwrap_or_default() {
            self.take(&entry);
        }
        if addresses.is_none() {
            let orphans: Vec<_> =
                self.ordered.iter().filter(|entry| entry.interface == id).copied().collect();
            orphans.iter().for_each(|entry| self.take(entry));
        } else {
            entries.iter().for_each(|entry| self.put(*entry));
            self.brought.insert(id, entries);
        }
        Ok(())
    }

    fn is_of_another(&self, entry: &RouteEntry) -> bool {
        let known = self.node(entry.prefix).map(|node| node.best);
        known.is_some_and(|best| best.kind == Kind::Local && best.interface != entry.interface)
    }

    /// Adds a static route.
    ///
    /// # Errors
    /// No such interface, a next hop that is not on its link, or a route that is there already.
    pub fn add(&mut self, route: Route) -> Result<(), Rejected> {
        let brought = self.brought.get(&route.interface).ok_or(Rejected::NoInterface(route.interface))?;
        if let Some(via) = route.via {
            let on_link = |entry: &RouteEntry| entry.kind == Kind::Connected && entry.prefix.contains(via);
            let link_local = via.version() == Version::V6 && via.is_link_local();
            if via.version() != route.prefix.version() || !(link_local || brought.iter().any(on_link)) {
                return Err(Rejected::Unreachable(via));
            }
        }
        if self.find(&route).is_some() {
            return Err(Rejected::RouteExists(route.prefix));
        }
        self.put(route.into());
        Ok(())
    }

    /// Removes a static route, whatever its metric.
    ///
    /// # Errors
    /// There is no such route.
    pub fn remove(&mut self, route: &Route) -> Result<(), Rejected> {
        let entry = self.find(route).ok_or(Rejected::UnknownRoute(route.prefix))?;
        self.take(&entry);
        Ok(())
    }

    /// The static route with this prefix, next hop and interface.
    fn find(&self, route: &Route) -> Option<RouteEntry> {
        let same = |entry: &&RouteEntry| {
            entry.kind == Kind::Static && entry.via == route.via && entry.interface == route.interface
        };
        self.of_prefix(route.prefix).find(same).copied()
    }

    fn of_prefix(&self, prefix: Prefix) -> impl Iterator<Item = &RouteEntry> {
        let from = self.ordered.range((Included(RouteEntry::least(prefix)), Unbounded));
        from.take_while(move |entry| entry.prefix == prefix)
    }

    fn put(&mut self, entry: RouteEntry) {
        if self.ordered.insert(entry) {
            self.refresh(entry.prefix);
        }
    }

    fn take(&mut self, entry: &RouteEntry) {
        if self.ordered.remove(entry) {
            self.refresh(entry.prefix);
        }
    }

    /// Makes what look-ups find of a prefix what the ordered set says.
    fn refresh(&mut self, prefix: Prefix) {
        let mut routes = self.of_prefix(prefix);
        let node = routes.next().map(|best| Node { best: *best, alternatives: false });
        let node = node.map(|node| Node { alternatives: routes.next().is_some(), ..node });
        drop(routes);
        let hasher = self.hasher.clone();
        let hash = |node: &Node| hasher.hash_one(node.best.prefix);
        let same = |node: &Node| node.best.prefix == prefix;
        match (self.nodes.entry(hasher.hash_one(prefix), same, hash), node) {
            (Entry::Occupied(mut entry), Some(node)) => *entry.get_mut() = node,
            (Entry::Occupied(entry), None) => {
                entry.remove();
                self.lengths.release(prefix.bits());
            }
            (Entry::Vacant(entry), Some(node)) => {
                entry.insert(node);
                self.lengths.acquire(prefix.bits());
            }
            (Entry::Vacant(_), None) => {}
        }
    }

    /// Up to `limit` routes in order, those behind `after` when a listing goes on.
    pub fn page(&self, after: Option<&RouteEntry>, limit: usize) -> impl Iterator<Item = &RouteEntry> {
        self.ordered.range((after.map_or(Unbounded, Excluded), Unbounded)).take(limit)
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.ordered.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ordered.is_empty()
    }
}

/// What an interface's address brings along.
fn routes_of(interface: NetworkId, address: &InterfaceAddress) -> impl Iterator<Item = RouteEntry> {
    let InterfaceAddress { address, prefix } = *address;
    let route = move |prefix, kind| RouteEntry { prefix, kind, metric: 0, interface, via: None };
    let host = |address| Prefix::new(address, u8::MAX);
    let link_only = address.version() == Version::V6 && address.is_link_local();
    let has_broadcast = prefix.version() == Version::V4 && prefix.len() <= 30;
    let edges = [prefix.address(), prefix.last()].map(|edge| route(host(edge), Kind::Broadcast));
    let own =
        [(host(address), Kind::Local), (prefix, Kind::Connected)].map(|(prefix, kind)| route(prefix, kind));
    // The prefix of a single address says nothing that the address does not.
    let own = own.into_iter().filter(move |entry| entry.kind == Kind::Local || prefix != host(address));
    own.chain(edges.into_iter().filter(move |_| has_broadcast)).filter(move |_| !link_only)
}

/// The prefix lengths in use, in bits of the 128.
#[derive(Debug)]
struct Lengths {
    /// How many prefixes there are of each.
    counts: [u32; 129],
    /// Those with any, as a set of bits.
    used: [u64; 3],
}

impl Default for Lengths {
    fn default() -> Self {
        Self { counts: [0; 129], used: [0; 3] }
    }
}

impl Lengths {
    fn acquire(&mut self, bits: u8) {
        self.counts[usize::from(bits)] += 1;
        self.used[usize::from(bits >> 6)] |= 1 << (bits & 63);
    }

    fn release(&mut self, bits: u8) {
        self.counts[usize::from(bits)] -= 1;
        if self.counts[usize::from(bits)] == 0 {
            self.used[usize::from(bits >> 6)] &= !(1 << (bits & 63));
        }
    }

    /// Those of at least `shortest` bits, longest first.
    #[inline]
    fn from(&self, shortest: u8) -> impl Iterator<Item = u8> {
        let used = self.used;
        let lengths = (0..3u8).rev().flat_map(move |word| {
            let mut left = used[usize::from(word)];
            std::iter::from_fn(move || {
                let bit = left.checked_ilog2()? as u8;
                left ^= 1 << bit;
                Some(word << 6 | bit)
            })
        });
        lengths.take_while(move |bits| *bits >= shortest)
    }
}

#[cfg(test)]
mod tests;
