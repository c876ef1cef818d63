//! When a gateway sends router advertisements, and what is in them (RFC 4861 §6.2).
//!
//! Theory of operation. All advertisements go to all nodes. The next one is due at a random time, 200 to
//! 600 s after the last; the first three at most 16 s apart (§6.2.4). Who solicits one gets it after up to
//! half a second (§6.2.6), three seconds after the last one at the earliest, so that a flood of
//! solicitations brings one every three seconds. A router that stops says so in a last one (§6.2.5). Random means a hash of the seed and the time here, so that
//! a recording replays.

use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::fast::FixedState;

use super::link_local;
use crate::dataplane::interface::Interface;
use crate::dataplane::time::{Instant, nanos};
use crate::wire::ip::{Prefix, Version};
use crate::wire::ndp::{self, ALL_NODES, Envelope};

/// `MaxRtrAdvInterval` and `MinRtrAdvInterval` (RFC 4861 §6.2.1).
const MAX_INTERVAL: Duration = Duration::from_secs(600);
const MIN_INTERVAL: Duration = Duration::from_secs(200);
/// `MAX_INITIAL_RTR_ADVERT_INTERVAL` and `MAX_INITIAL_RTR_ADVERTISEMENTS` (RFC 4861 §10).
const MAX_INITIAL_INTERVAL: Duration = Duration::from_secs(16);
const INITIAL: u8 = 3;
/// `MAX_RA_DELAY_TIME` and `MIN_DELAY_BETWEEN_RAS`.
const MAX_DELAY: Duration = Duration::from_millis(500);
const MIN_BETWEEN: Duration = Duration::from_secs(3);
/// `AdvDefaultLifetime`: three times the longest interval, in seconds.
const LIFETIME: u16 = 1800;

/// When one gateway advertises itself.
#[derive(Debug, Clone, Default)]
pub struct Advertiser {
    seed: u64,
    /// When the next one is due; never, when it does not advertise.
    due: Option<Instant>,
    last: Option<Instant>,
    /// How many of the first ones were sent.
    sent: u8,
    /// Whether the next one is the last.
    retired: bool,
}

impl Advertiser {
    /// One that begins now. `seed` gives it its times.
    pub fn start(now: Instant, seed: u64) -> Self {
        Self { seed, due: Some(now), last: None, sent: 0, retired: false }
    }

    /// Sends one more, if it has sent any, and then no more.
    pub fn stop(&mut self, now: Instant) {
        self.retired = true;
        self.due = self.last.map(|_| now);
    }

    /// Whether it has stopped: what it still sends must not offer a default router.
    pub fn is_retired(&self) -> bool {
        self.retired
    }

    /// When the next advertisement is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Somebody solicits an advertisement.
    pub fn solicited(&mut self, now: Instant) {
        let earliest = self.last.map_or(now, |last| now.max(last + MIN_BETWEEN));
        let answer = earliest + self.random(now, Duration::ZERO, MAX_DELAY);
        self.due = self.due.map(|due| due.min(answer));
    }

    /// Whether an advertisement is to be sent now; it counts as sent then.
    pub fn poll(&mut self, now: Instant) -> bool {
        if self.due.is_none_or(|due| due > now) {
            return false;
        }
        self.sent = self.sent.saturating_add(1);
        self.last = Some(now);
        let interval = self.random(now, MIN_INTERVAL, MAX_INTERVAL);
        let interval = if self.sent < INITIAL { interval.min(MAX_INITIAL_INTERVAL) } else { interval };
        self.due = (!self.retired).then_some(now + interval);
        true
    }

    fn random(&self, now: Instant, from: Duration, to: Duration) -> Duration {
        let hash = FixedState::with_seed(self.seed).hash_one((now.0, self.sent));
        from + Duration::from_nanos(hash % nanos(to - from).max(1))
    }
}

/// What a network says about its router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The network's MTU.
    pub mtu: u32,
    /// Whether the gateway is a default router; not on internal networks, nor when it retires.
    pub default_router: bool,
    /// Whether hosts may form addresses of their own.
    pub autonomous: bool,
}

/// Replaces what is in `frame` by an advertisement to all; whether the interface speaks IPv6.
pub fn build(interface: &Interface, options: &Options, frame: &mut Vec<u8>) -> bool {
    let Some(source) = link_local(interface) else { return false };
    let prefixes = interface.addresses.iter().map(|own| own.prefix);
    let prefixes: Vec<Prefix> = prefixes.filter(|prefix| is_advertised(*prefix)).collect();
    let router = ndp::Router {
        lifetime: if options.default_router { LIFETIME } else { 0 },
        mtu: options.mtu,
        prefixes: &prefixes,
        autonomous: options.autonomous,
    };
    let envelope = Envelope::multicast(interface.mac, source, ALL_NODES);
    ndp::router_advertisement(frame, &envelope, &router);
    true
}

/// The link-local prefix is on every link, and not advertised (RFC 4861 §4.6.2).
fn is_advertised(prefix: Prefix) -> bool {
    prefix.version() == Version::V6 && !prefix.address().is_link_local()
}
