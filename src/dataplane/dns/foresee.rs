//! What a packet about names would make the gateway say, with nothing done. Of a TCP connection only
//! the first answer is foreseen: what it says later depends on all that it has heard.

use super::Deliberation;
use super::forward::{Asker, Query, Request};
use super::message::Rcode;
use super::serve::{Service, asker, datagram};
use super::upstream::{Meaning, is_wanted_whole, meaning};
use crate::dataplane::originate::Departure;
use crate::dataplane::{Frame, Instant, PortId, Switch};
use crate::wire::packet::Packet;

/// A packet that the gateway would send.
pub(in crate::dataplane) struct Saying {
    /// The port that it is for, or for whose sake.
    pub(in crate::dataplane) port: PortId,
    /// The way to the upstream that it asks; none if it is an answer.
    pub(in crate::dataplane) to: Option<Departure>,
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
    ) -> Vec<Saying> {
        let message = datagram(frame, packet);
        match service {
            Service::Question => {
                let (Some(asker), Some(network)) = (asker(from, frame, packet), self.network_of(from)) else {
                    return Vec::new();
                };
                match self.dns.deliberate(now, network, from, message, false) {
                    None | Some(Deliberation::Join(_)) => Vec::new(),
                    Some(Deliberation::Answer(answer, _)) => self.answers(&[asker], message, &answer),
                    Some(Deliberation::Forward(request)) => self.asks(now, from, &request, (0, 0), &[asker]),
                }
            }
            Service::Answer(id) => {
                let Some(query) = self.dns.forwarder.get(id) else { return Vec::new() };
                match meaning(query, message) {
                    Meaning::Nothing => Vec::new(),
                    Meaning::Refusal => self.passes_over(now, query),
                    // It is asked for again by TCP: see below.
                    Meaning::Answer if is_wanted_whole(query, message) => Vec::new(),
                    Meaning::Answer => self.answers(&query.askers, &query.request.message, message),
                }
            }
            Service::Segment => {
                let frames = self.foresee_segment(now, from, frame, packet).into_iter();
                frames.map(|frame| Saying { port: from, to: None, frame }).collect()
            }
            Service::Unreachable(id) => {
                self.dns.forwarder.get(id).map(|query| self.passes_over(now, query)).unwrap_or_default()
            }
        }
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
            let (to, frame) = (Some(parcel.leg.departure()), parcel.frame);
            return vec![Saying { port: for_whom, to, frame }];
        }
        let answer = request.question().map(|question| question.refuse(Rcode::ServFail));
        answer.map(|answer| self.answers(askers, &request.message, &answer)).unwrap_or_default()
    }
}
