//! What gateways know of names, to be shown.

use std::net::SocketAddr;

use super::Outcomes;
use super::cache::CacheCounters;
use super::forward::UpstreamCounters;
use crate::dataplane::{NetworkId, Switch};

/// What there is to be shown, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsView {
    /// The networks whose gateways answer.
    pub networks: Vec<NetworkView>,
    /// The upstreams that are configured, and what became of them.
    pub upstreams: Vec<(SocketAddr, UpstreamCounters)>,
    /// The cache.
    pub cache: CacheView,
    /// Questions that wait for an upstream's answer.
    pub waiting: usize,
    /// TCP connections with who asks, and with upstreams.
    pub connections: usize,
}

/// One network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkView {
    /// Its number.
    pub network: NetworkId,
    /// Names that it knows itself.
    pub names: usize,
    /// What became of the questions there.
    pub outcomes: Outcomes,
}

/// The cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheView {
    /// Answers in it.
    pub entries: usize,
    /// What they cost, in bytes.
    pub bytes: usize,
    /// What it has seen.
    pub counters: CacheCounters,
}

impl Switch {
    /// What the gateways know of names.
    pub fn dns_view(&self) -> DnsView {
        let dns = &self.dns;
        let networks = dns.networks.iter().map(|(network, served)| NetworkView {
            network: *network,
            names: served.zone.len(),
            outcomes: served.outcomes,
        });
        DnsView {
            networks: networks.collect(),
            upstreams: dns
                .forwarder
                .upstreams
                .iter()
                .map(|(upstream, counters)| (*upstream, *counters))
                .collect(),
            cache: CacheView {
                entries: dns.cache.len(),
                bytes: dns.cache.bytes(),
                counters: dns.cache.counters,
            },
            waiting: dns.forwarder.waiting(),
            connections: dns.sessions.len(),
        }
    }
}
