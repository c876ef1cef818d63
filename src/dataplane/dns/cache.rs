//! Answers of upstreams, for as long as they are good.
//!
//! Theory of operation. An answer is known by who may have it (a network, or a port with upstreams of its
//! own), the question, and the wishes of who asked; so no network sees what another one asked, and no container
//! with a resolver of its own another's answers. Entries that are too old are found out when they are asked
//! for, so an idle cache has no timer.
//!
//! *Limits and fairness.* An entry belongs to the port that asked first. In a full cache the asking port
//! yields its oldest entry if it has more than an equal share of the bytes, else who has the most does: who
//! asks for a million names throws his own out.

use std::collections::BTreeMap;

use super::message::{Keepsake, Question};
use crate::dataplane::{Instant, NetworkId, PortId};

/// No answer is kept for longer than this, in seconds.
pub const LONGEST: u32 = 3600;
/// What an entry costs beside its bytes: keys, nodes, positions.
const OVERHEAD: usize = 256;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries in all.
    pub entries: usize,
    /// Bytes in all.
    pub bytes: usize,
    /// Bytes of the longest answer.
    pub answer: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 4096, bytes: 4 * 1024 * 1024, answer: 4096 }
    }
}

/// Who asks the same upstreams: the ports of a network, or one that has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    /// The network.
    pub network: NetworkId,
    /// The port, if it has upstreams of its own.
    pub port: Option<PortId>,
}

/// What an answer is known by. The order puts a scope's together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    scope: Scope,
    /// In lower case.
    name: Box<[u8]>,
    kind: u16,
    wishes: u16,
}

impl Key {
    /// What answers to this question are known by.
    pub fn new(scope: Scope, question: &Question<'_>) -> Self {
        let (kind, wishes) = (question.kind, question.wishes());
        Self { scope, name: question.folded().into(), kind, wishes }
    }

    /// Whether it asks for a kind of record: other types ask for several, or for a transfer (RFC 6895 §3.1).
    fn is_of_records(&self) -> bool {
        !(128..=255).contains(&self.kind) && self.kind != super::message::kind::OPT
    }
}

#[derive(Debug)]
struct Entry {
    answer: Keepsake,
    since: Instant,
    owner: PortId,
    /// Its place among its owner's.
    stamp: u64,
    cost: usize,
}

/// What the cache has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheCounters {
    /// Questions answered from it.
    pub hits: u64,
    /// Questions that it could not answer.
    pub misses: u64,
    /// Answers that it took.
    pub inserted: u64,
    /// Answers that had to go for a limit.
    pub evicted: u64,
}

/// See the module's theory of operation.
#[derive(Debug, Default)]
pub struct Cache {
    limits: Limits,
    entries: BTreeMap<Key, Entry>,
    /// Each owner's entries, the oldest first.
    order: BTreeMap<(PortId, u64), Key>,
    /// Bytes by owner.
    owners: BTreeMap<PortId, usize>,
    bytes: usize,
    stamp: u64,
    /// Life-time counters.
    pub counters: CacheCounters,
}

impl Cache {
    /// An empty cache.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// The answer to a question, if it is there and good.
    pub fn answer(&self, now: Instant, key: &Key, question: &Question<'_>) -> Option<Vec<u8>> {
        let entry = self.entries.get(key)?;
        let age = now.since(entry.since).as_secs();
        let age = u32::try_from(age).ok().filter(|age| *age < entry.answer.ttl)?;
        Some(entry.answer.answer(question, age))
    }

    /// Keeps an answer that a port's question brought, if it can be kept.
    pub fn insert(&mut self, now: Instant, key: Key, owner: PortId, answer: &[u8]) {
        if !key.is_of_records() || answer.len() > self.limits.answer {
            return;
        }
        let Some(answer) = Keepsake::of(answer, LONGEST) else { return };
        self.remove(&key);
        let cost = answer.size() + 2 * key.name.len() + OVERHEAD;
        while self.entries.len() >= self.limits.entries || self.bytes + cost > self.limits.bytes {
            if !self.evict(owner) {
                return;
            }
        }
        self.stamp += 1;
        self.counters.inserted += 1;
        self.bytes += cost;
        *self.owners.entry(owner).or_default() += cost;
        self.order.insert((owner, self.stamp), key.clone());
        self.entries.insert(key, Entry { answer, since: now, owner, stamp: self.stamp, cost });
    }

    /// Makes room for a port's answer; whether there was anything to throw out.
    fn evict(&mut self, for_whom: PortId) -> bool {
        let own = self.owners.get(&for_whom).copied().unwrap_or_default();
        let share = self.bytes / (self.owners.len() + usize::from(own == 0)).max(1);
        let most = || self.owners.iter().max_by_key(|(_, bytes)| **bytes).map(|(owner, _)| *owner);
        let who = if own > 0 && own >= share { Some(for_whom) } else { most() };
        let oldest = who.and_then(|who| self.order.range((who, 0)..).next()).map(|(_, key)| key.clone());
        self.counters.evicted += u64::from(oldest.is_some());
        oldest.is_some_and(|key| self.remove(&key))
    }

    fn remove(&mut self, key: &Key) -> bool {
        let Some(entry) = self.entries.remove(key) else { return false };
        self.order.remove(&(entry.owner, entry.stamp));
        self.bytes -= entry.cost;
        if let Some(bytes) = self.owners.get_mut(&entry.owner) {
            *bytes -= entry.cost;
            if *bytes == 0 {
                self.owners.remove(&entry.owner);
            }
        }
        true
    }

    /// Forgets what was answered to a network.
    pub fn forget_network(&mut self, network: NetworkId) {
        self.forget(|key, _| key.scope.network == network);
    }

    /// Forgets what was answered to a port alone, or because it asked.
    pub fn forget_port(&mut self, port: PortId) {
        self.forget(|key, entry| key.scope.port == Some(port) || entry.owner == port);
    }

    fn forget(&mut self, which: impl Fn(&Key, &Entry) -> bool) {
        let gone: Vec<Key> = self
            .entries
            .iter()
            .filter(|(key, entry)| which(key, entry))
            .map(|(key, _)| key.clone())
            .collect();
        gone.iter().for_each(|key| _ = self.remove(key));
    }

    /// How many answers there are, those included that are too old.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What they cost, in bytes.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests;
