//! Names by the gateway: what a network's containers ask of it at port 53.
//!
//! ```text
//!  question ─▶ readable? ─▶ a name of ours? ─▶ in the cache? ─▶ asked already? ─▶ an upstream is asked
//!               FORMERR      zone               cache            wait with them     forward
//! ```
//!
//! Theory of operation. [`Dns::deliberate`] says what becomes of a question and changes nothing, so that it
//! can be asked for what it would do; `serve.rs` carries that out and sends. A question that is not ours to
//! answer leaves as a packet of the gateway's own, by the uplink of the network that asks, like any packet:
//! there is no socket here and no thread, and a recording of frames replays it all.
//!
//! Answers of upstreams are handed on as they came; only the id changes, and what is too long for who asked
//! becomes an answer that says so (TC), for him to ask again by TCP.

pub mod cache;
mod draws;
pub(super) mod foresee;
pub mod forward;
pub mod message;
#[cfg(test)]
mod samples;
pub(super) mod serve;
pub mod sessions;
pub mod stream;
mod tcp;
pub mod upstream;
pub mod view;
pub mod zone;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Index;

use super::network::{Network, NetworkId};
use super::port::PortId;
use super::time::Instant;
use crate::wire::ip::Addr;
use cache::{Cache, Key, Scope};
use draws::Draws;
pub use foresee::Naming;
use forward::{Forwarder, QueryId, Request};
use message::{Question, Rcode, Unreadable};
use sessions::Sessions;
use zone::Zone;

/// The port of name servers (RFC 1035 §4.2).
pub const PORT: u16 = 53;
/// The longest question that is answered, in bytes: one that fits the smallest IPv6 packet with any options.
const LONGEST_QUESTION: usize = 1232;

/// How the gateway of one network answers questions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// What it knows itself. Names are lower case and without the last dot; a name may have several entries.
    pub names: Vec<Name>,
    /// Whom it asks about everything else, in this order.
    pub upstreams: Vec<SocketAddr>,
    /// Ports whose questions go to others (`--dns` of a container).
    pub upstreams_of: Vec<(PortId, Vec<SocketAddr>)>,
}

impl Config {
    /// Who is asked for a port, and who else gets the same answers.
    fn upstreams_for(&self, network: NetworkId, port: PortId) -> (Scope, &[SocketAddr]) {
        match self.upstreams_of.iter().find(|(of, _)| *of == port) {
            Some((_, own)) => (Scope { network, port: Some(port) }, own),
            None => (Scope { network, port: None }, &self.upstreams),
        }
    }

    /// Every upstream that is named.
    fn all_upstreams(&self) -> impl Iterator<Item = SocketAddr> {
        let own = self.upstreams_of.iter().flat_map(|(_, own)| own);
        self.upstreams.iter().chain(own).copied()
    }
}

/// A name and an address of its.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The name, as `web`.
    pub name: String,
    /// The address; of both versions there may be several.
    pub address: Addr,
    /// Whether the address is this name when asked backwards (PTR): a container's own name is, an alias is not.
    pub reverse: bool,
    /// Whom it is known to: everybody on the network, or one port (the alias of a link).
    pub known_to: Option<PortId>,
}

/// Defines what becomes of questions once: the variant, and its counter's name.
macro_rules! outcomes {
    ($($(#[$doc:meta])* $variant:ident $name:literal)*) => {
        /// What became of a question.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Outcome {
            $($(#[$doc])* $variant,)*
        }

        impl Outcome {
            /// Every outcome.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The counter's name, in snake case.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

outcomes! {
    /// It was for a name of the network's.
    Local "local"
    /// The answer was in the cache.
    Cached "cached"
    /// An upstream was asked.
    Forwarded "forwarded"
    /// An upstream was being asked the same already.
    Joined "joined"
    /// Too many wait for answers; SERVFAIL.
    Limited "limited"
    /// It could not be read; FORMERR.
    FormErr "formerr"
    /// It was no query (RFC 1035 §4.1.1), but a status request, an update, or the like; NOTIMP.
    NotImp "notimp"
    /// It was for another class than IN, for a whole zone, or too long; REFUSED.
    Refused "refused"
    /// There is no upstream; SERVFAIL.
    NoUpstream "no_upstream"
    /// It was forwarded, and no upstream had an answer; SERVFAIL.
    Failed "failed"
}

/// How many questions had each outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcomes([u64; Outcome::ALL.len()]);

impl Index<Outcome> for Outcomes {
    type Output = u64;

    fn index(&self, outcome: Outcome) -> &u64 {
        &self.0[outcome as usize]
    }
}

/// What is to be done about a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deliberation {
    /// It is answered, with this.
    Answer(Vec<u8>, Outcome),
    /// It waits for the answer to another.
    Join(QueryId),
    /// It is asked of an upstream.
    Forward(Request),
}

/// What is remembered of one network.
#[derive(Debug, Default)]
struct Served {
    zone: Zone,
    outcomes: Outcomes,
}

/// All that gateways know of names. See the module's theory of operation.
#[derive(Debug, Default)]
pub struct Dns {
    networks: BTreeMap<NetworkId, Served>,
    cache: Cache,
    forwarder: Forwarder,
    sessions: Sessions,
    draws: Draws,
}

impl Dns {
    /// Nothing is known yet. `seed` makes ports and ids unpredictable.
    pub fn new(seed: u64) -> Self {
        Self { draws: Draws::new(seed), ..Self::default() }
    }

    /// How a network's questions are answered from now on, and were before. `all` is every configuration
    /// there is then.
    pub fn configure<'a>(
        &mut self,
        id: NetworkId,
        before: Option<&Config>,
        after: Option<&Config>,
        all: impl Iterator<Item = &'a Config>,
    ) {
        let asked = |config: Option<&Config>| {
            config.map(|config| (config.upstreams.clone(), config.upstreams_of.clone()))
        };
        if asked(before) != asked(after) {
            self.cache.forget_network(id);
            self.forwarder.outdate(id);
        }
        match after {
            Some(config) => self.networks.entry(id).or_default().zone = Zone::new(config),
            None => self.forget_network(id),
        }
        let mut upstreams: BTreeMap<_, _> =
            all.flat_map(Config::all_upstreams).map(|upstream| (upstream, Default::default())).collect();
        for (upstream, counters) in &mut upstreams {
            *counters = self.forwarder.upstreams.get(upstream).copied().unwrap_or_default();
        }
        self.forwarder.upstreams = upstreams;
    }

    /// A network is gone, or its gateway is not asked any more.
    pub fn forget_network(&mut self, id: NetworkId) {
        self.networks.remove(&id);
        self.cache.forget_network(id);
        self.forwarder.forget_network(id);
        self.sessions.forget_network(id);
        self.wake_ended();
    }

    /// A port is gone.
    pub fn forget_port(&mut self, port: PortId) {
        self.cache.forget_port(port);
        self.forwarder.forget_port(port);
        self.sessions.forget_port(port);
        self.wake_ended();
    }

    /// A connection whose leg has ended is to be closed.
    fn wake_ended(&mut self) {
        while let Some(id) = self.forwarder.ended_stream() {
            self.sessions.wake(id);
        }
    }

    /// When something is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.forwarder.next_timeout().into_iter().chain(self.sessions.next_timeout()).min()
    }

    /// What becomes of a message that a port sent to its network's gateway; none if it is ignored. `whole` says
    /// that an answer of any length will do.
    pub fn deliberate(
        &self,
        now: Instant,
        network: &Network,
        port: PortId,
        message: &[u8],
        whole: bool,
    ) -> Option<Deliberation> {
        let config = network.dns.as_ref()?;
        let question = match Question::parse(message) {
            Ok(question) => question,
            Err(Unreadable::Ignored) => return None,
            Err(Unreadable::Refused(rcode, answer)) => {
                let outcome = if rcode == Rcode::NotImp { Outcome::NotImp } else { Outcome::FormErr };
                return Some(Deliberation::Answer(answer, outcome));
            }
        };
        let refuse = |rcode, outcome| Some(Deliberation::Answer(question.refuse(rcode), outcome));
        let is_transfer = matches!(question.kind, message::kind::IXFR | message::kind::AXFR);
        if question.class != message::IN || is_transfer || message.len() > LONGEST_QUESTION {
            return refuse(Rcode::Refused, Outcome::Refused);
        }
        let zone = self.networks.get(&network.id).map(|served| &served.zone);
        if let Some(answer) = zone.and_then(|zone| zone.answer(&question, port)) {
            return Some(Deliberation::Answer(answer, Outcome::Local));
        }
        let (scope, upstreams) = config.upstreams_for(network.id, port);
        if upstreams.is_empty() {
            return refuse(Rcode::ServFail, Outcome::NoUpstream);
        }
        let key = Key::new(scope, &question);
        if let Some(answer) = self.cache.answer(now, &key, &question) {
            return Some(Deliberation::Answer(answer, Outcome::Cached));
        }
        if !self.forwarder.has_room(port) {
            return refuse(Rcode::ServFail, Outcome::Limited);
        }
        let request = Request { scope, key, upstreams: upstreams.to_vec(), whole, message: message.into() };
        Some(match self.forwarder.same(&request) {
            Some(id) => Deliberation::Join(id),
            None => Deliberation::Forward(request),
        })
    }

    fn count(&mut self, network: NetworkId, outcome: Outcome) {
        if let Some(served) = self.networks.get_mut(&network) {
            served.outcomes.0[outcome as usize] += 1;
        }
        match outcome {
            Outcome::Cached => self.cache.counters.hits += 1,
            Outcome::Forwarded | Outcome::Joined | Outcome::Limited => self.cache.counters.misses += 1,
            _ => {}
        }
    }
}
