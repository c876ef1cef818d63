//! Asking upstreams: by packets of the gateway's own, that take the way of the network that asks.

use std::net::SocketAddr;

use super::Outcome;
use super::forward::{Leg, Query, QueryId, Request};
use super::message::{self, Rcode};
use crate::dataplane::conntrack::Tuple;
use crate::dataplane::originate::Departure;
use crate::dataplane::{Egress, Instant, PortId, Switch};
use crate::wire::ip::{Addr, protocol};
use crate::wire::ndp::Envelope;
use crate::wire::{MacAddr, emit};

/// Source ports are looked for so often.
const DRAWS: u32 = 16;
/// Our ports are from here upwards (RFC 6056 §3.2: all that are not well known).
const FIRST_PORT: u16 = 1024;

/// What an upstream's message means for a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::dataplane) enum Meaning {
    /// It is no answer to it.
    Nothing,
    /// It is the answer.
    Answer,
    /// The upstream cannot answer.
    Refusal,
}

/// A question that is ready to leave.
pub(in crate::dataplane) struct Parcel {
    pub(in crate::dataplane) leg: Leg,
    pub(in crate::dataplane) frame: Vec<u8>,
}

impl Leg {
    /// The way there.
    pub(in crate::dataplane) const fn departure(&self) -> Departure {
        Departure { egress: self.egress, hop: self.hop, source: self.local.0 }
    }
}

/// What an upstream's message means for a query.
pub(in crate::dataplane) fn meaning(query: &Query, answer: &[u8]) -> Meaning {
    let (Some(leg), Some(question)) = (query.leg, query.request.question()) else { return Meaning::Nothing };
    if !question.is_answered_by(answer, leg.id) {
        return Meaning::Nothing;
    }
    match message::rcode(answer) {
        // SERVFAIL and REFUSED say nothing about the name; FORMERR and NOTIMP are about what was asked.
        Some(2 | 5) | None => Meaning::Refusal,
        Some(_) => Meaning::Answer,
    }
}

/// Whether the upstream is to be asked again by TCP, for it has cut an answer that is wanted whole.
pub(in crate::dataplane) fn is_wanted_whole(query: &Query, answer: &[u8]) -> bool {
    let by_udp = query.leg.is_some_and(|leg| leg.stream.is_none());
    query.request.whole && by_udp && message::is_truncated(answer)
}

/// What is decided.
impl Switch {
    /// Makes the packet that asks an upstream, with a port and an id that nobody can guess.
    fn parcel(&self, now: Instant, request: &Request, place: usize) -> Option<Parcel> {
        let upstream: SocketAddr = *request.upstreams.get(place)?;
        let to = Addr::from(upstream.ip());
        let Departure { egress, hop, source } = self.departure(request.scope.network, to)?;
        let source_port = self.free_port(now, protocol::UDP, source, (to, upstream.port()))?;
        // The lower bits.
        let id = self.dns.draws.peek(DRAWS) as u16;
        let mut question = request.message.to_vec();
        message::set_id(&mut question, id);
        let (source_mac, destination_mac) = (MacAddr::ZERO, MacAddr::ZERO);
        let envelope = Envelope { source_mac, destination_mac, source, destination: to };
        let mut frame = Vec::new();
        emit::udp(&mut frame, &envelope, (source_port, upstream.port()), &question);
        Some(Parcel {
            leg: Leg { place, upstream, egress, hop, local: (source, source_port), id, stream: None },
            frame,
        })
    }

    /// A port of ours that no flow has, and no other question.
    pub(super) fn free_port(
        &self,
        now: Instant,
        protocol: u8,
        source: Addr,
        (destination, destination_port): (Addr, u16),
    ) -> Option<u16> {
        let span = u64::from(u16::MAX - FIRST_PORT) + 1;
        let mut draws = (0..DRAWS).map(|place| FIRST_PORT + (self.dns.draws.peek(place) % span) as u16);
        draws.find(|source_port| {
            let source_port = *source_port;
            let tuple = Tuple { source, destination, source_port, destination_port, protocol };
            let is_known = |tuple| self.conntrack.lookup(now, &tuple).is_some();
            let is_ours = self.dns.forwarder.is_taken((source, source_port))
                || self.dns.sessions.is_taken(&tuple.invert());
            !is_ours && !is_known(tuple) && !is_known(tuple.invert())
        })
    }

    /// The packet that would ask the next upstream that can be asked, after so many tries; none if there is
    /// no such one.
    pub(in crate::dataplane) fn foresee(
        &self,
        now: Instant,
        for_whom: PortId,
        request: &Request,
        (mut tried, mut refused): (u32, u8),
    ) -> Option<Parcel> {
        while let Some((place, next)) = request.next(tried, refused) {
            tried = next;
            if let Some(mut parcel) = self.parcel(now, request, place)
                && let Some(own) = self.own_to(now, for_whom, parcel.leg.departure(), &mut parcel.frame)
                && self.may_leave(now, for_whom, &own)
            {
                return Some(parcel);
            }
            refused |= 1 << place;
        }
        None
    }
}

/// What is carried out.
impl Switch {
    /// Asks the next upstream that can be asked. When there is none left, who asked is told.
    pub(in crate::dataplane) fn ask_next(&mut self, now: Instant, id: QueryId, out: &mut impl Egress) {
        while let Some(place) = self.dns.forwarder.advance(id) {
            let query = self.dns.forwarder.get(id);
            let owner = query.and_then(Query::owner);
            let parcel = query.and_then(|query| self.parcel(now, &query.request, place));
            if let (Some(Parcel { leg, mut frame }), Some(owner)) = (parcel, owner)
                && self.originate(now, owner, leg.departure(), &mut frame, out)
            {
                self.dns.draws.advance();
                self.dns.forwarder.set_leg(now, id, leg);
                return;
            }
            self.dns.forwarder.refuse(id, place);
        }
        let Some(query) = self.dns.forwarder.close(id) else { return };
        let Some(question) = query.request.question() else { return };
        let answer = question.refuse(Rcode::ServFail);
        for asker in &query.askers {
            self.dns.count(query.request.scope.network, Outcome::Failed);
            self.answer(now, asker, &query.request.message, &answer, out);
        }
    }

    /// An upstream cannot be reached, or cannot answer: the next one is asked.
    pub(in crate::dataplane) fn pass_over(&mut self, now: Instant, id: QueryId, out: &mut impl Egress) {
        let leg = self.dns.forwarder.get(id).and_then(|query| query.leg);
        if let Some(leg) = leg {
            self.dns.forwarder.refuse(id, leg.place);
            self.ask_next(now, id, out);
        }
    }

    /// A message came from an upstream.
    pub(in crate::dataplane) fn take_answer(
        &mut self,
        now: Instant,
        id: QueryId,
        answer: &[u8],
        out: &mut impl Egress,
    ) {
        let Some(query) = self.dns.forwarder.get(id) else { return };
        let (meaning, Some(leg)) = (meaning(query, answer), query.leg) else { return };
        match meaning {
            Meaning::Nothing => {
                self.dns.forwarder.counters(leg.upstream, |counters| counters.mismatched += 1);
            }
            Meaning::Refusal => self.pass_over(now, id, out),
            Meaning::Answer => {
                let wants_more = is_wanted_whole(query, answer);
                self.dns.forwarder.counters(leg.upstream, |counters| counters.answers += 1);
                if wants_more && self.ask_by_tcp(now, id, leg) {
                    return;
                }
                let Some(query) = self.dns.forwarder.close(id) else { return };
                if let Some(owner) = query.owner().filter(|_| !query.outdated) {
                    self.dns.cache.insert(now, query.request.key.clone(), owner, answer);
                }
                for asker in &query.askers {
                    self.answer(now, asker, &query.request.message, answer, out);
                }
            }
        }
    }

    /// Upstreams were silent for too long.
    pub(in crate::dataplane) fn run_names(&mut self, now: Instant, out: &mut impl Egress) {
        while let Some(id) = self.dns.forwarder.expired(now) {
            self.ask_next(now, id, out);
        }
        self.dns.sessions.expire(now);
        self.run_sessions(now, out);
    }
}
