//! What a packet about names would make the gateway say, with nothing done. Of a TCP connection only
//! the first answer is foreseen: what it says later depends on all that it has heard.

use std::net::SocketAddr;

use super::forward::{Asker, Query, Request};
use super::message::{Question, Rcode};
use super::serve::{Service, asker, datagram};
use super::upstream::{Meaning, is_wanted_whole, meaning};
use super::{Deliberation, Outcome};
use crate::dataplane::originate::Departure;
use crate::dataplane::{Frame, Instant, NetworkId, PortId, Switch};
use crate::wire::packet::Packet;

/// What a gateway would make of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naming {
    /// The name that is asked for, on the wire; none if the question cannot be read.
    pub name: Option<Box<[u8]>>,
    /// What would become of it, and be counted.
    pub outcome: Outcome,
    /// The upstream that would be asked, and the network that leads there.
    pub upstream: Option<(SocketAddr, NetworkId)>,
}

/// What would come of a packet about names.
#[derive(Default)]
pub(in crate::dataplane) struct Foresight {
    /// Of a question: what is made of it.
    pub(in crate::dataplane) naming: Option<Naming>,
    /// What the gateway would send.
    pub(in crate::dataplane) sayings: Vec<Saying>,
}

impl From<Vec<Saying>> for Foresight {
    fn from(sayings: Vec<Saying>) -> Self {
        Self { naming: None, sayings }
    }
}

/// A packet that the gateway would send.
pub(in crate::dataplane) struct Saying {
    /// The port that it is for, or for whose sake.
    pub(in crate::dataplane) port: PortId,
    /// The upstream that it asks, and the way there; none if it is an answer.
    pub(in crate::dataplane) to: Option<(SocketAddr, Departure)>,
    /// The packet.
    pub(in crate::dataplane) frame: Vec<u8>,
}

impl Switch {
    /// What a packet about names would make the gateway say.
    pub(in crate::dataplane) fn foresee_names(
        &self,
        now: Instant,
        from: PortId,
        frame: &Frame,
        packet: &Packet,
        service: Service,
    ) -> Foresight {
        let message = datagram(frame, packet);
        match service {
            Service::Question => self.foresee_question(now, from, frame, packet, message).unwrap_or_default(),
            Service::Answer(id) => {
                let Some(query) = self.dns.forwarder.get(id) else { return Foresight::default() };
                match meaning(query, message) {
                    Meaning::Nothing => Vec::new(),
                    Meaning::Refusal => self.passes_over(now, query),
                    // It is asked for again by TCP: see below.
                    Meaning::Answer if is_wanted_whole(query, message) => Vec::new(),
                    Meaning::Answer => self.answers(&query.askers, &query.request.message, message),
                }
                .into()
            }
            Service::Segment => {
                let frames = self.foresee_segment(now, from, frame, packet).into_iter();
                frames.map(|frame| Saying { port: from, to: None, frame }).collect::<Vec<_>>().into()
            }
            Service::Unreachable(id) => {
                let query = self.dns.forwarder.get(id);
                query.map(|query| self.passes_over(now, query)).unwrap_or_default().into()
            }
        }
    }

    fn foresee_question(
        &self,
        now: Instant,
        from: PortId,
        frame: &Frame,
        packet: &Packet,
        message: &[u8],
    ) -> Option<Foresight> {
        let (asker, network) = (asker(from, frame, packet)?, self.network_of(from)?);
        let (outcome, sayings) = match self.dns.deliberate(now, network, from, message, false)? {
            Deliberation::Join(_) => (Outcome::Joined, Vec::new()),
            Deliberation::Answer(answer, outcome) => (outcome, self.answers(&[asker], message, &answer)),
            Deliberation::Forward(request) => {
                let sayings = self.asks(now, from, &request, (0, 0), &[asker]);
                let leaves = sayings.iter().any(|saying| saying.to.is_some());
                (if leaves { Outcome::Forwarded } else { Outcome::Failed }, sayings)
            }
        };
        let upstream = sayings.iter().find_map(|saying| saying.to);
        let naming = Naming {
            name: Question::parse(message).ok().map(|question| question.name().into()),
            outcome,
            upstream: upstream.map(|(upstream, departure)| (upstream, departure.egress)),
        };
        Some(Foresight { naming: Some(naming), sayings })
    }

    fn answers(&self, askers: &[Asker], message: &[u8], answer: &[u8]) -> Vec<Saying> {
        let frame = |asker: &Asker| {
            let frame = self.answer_frame(asker, message, answer)?;
            Some(Saying { port: asker.port, to: None, frame })
        };
        askers.iter().filter_map(frame).collect()
    }

    fn passes_over(&self, now: Instant, query: &Query) -> Vec<Saying> {
        let (Some(leg), Some(owner)) = (query.leg, query.owner()) else { return Vec::new() };
        let (tried, refused) = query.progress();
        self.asks(now, owner, &query.request, (tried, refused | 1 << leg.place), &query.askers)
    }

    /// The next upstream is asked, or who asked is told that there is none.
    fn asks(
        &self,
        now: Instant,
        for_whom: PortId,
        request: &Request,
        progress: (u32, u8),
        askers: &[Asker],
    ) -> Vec<Saying> {
        if let Some(parcel) = self.foresee(now, for_whom, request, progress) {
            let (to, frame) = (Some((parcel.leg.upstream, parcel.leg.departure())), parcel.frame);
            return vec![Saying { port: for_whom, to, frame }];
        }
        let answer = request.question().map(|question| question.refuse(Rcode::ServFail));
        answer.map(|answer| self.answers(askers, &request.message, &answer)).unwrap_or_default()
    }
}
