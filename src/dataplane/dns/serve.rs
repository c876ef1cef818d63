//! The gateway as a name server: which packets are for it, and how answers leave.

use super::forward::{Asker, QueryId, Via};
use super::message::{self, Question, Unreadable};
use super::tcp;
use super::{Deliberation, Outcome, PORT};
use crate::dataplane::decision::Plan;
use crate::dataplane::frame::Frame;
use crate::dataplane::local;
use crate::dataplane::network::Network;
use crate::dataplane::outcome::DropReason;
use crate::dataplane::router::{Arrival, tuple_of};
use crate::dataplane::{Egress, Instant, PortId, Switch};
use crate::wire::ethernet;
use crate::wire::ip::{Version, protocol};
use crate::wire::ndp::Envelope;
use crate::wire::packet::{Packet, Transport};
use crate::wire::{MacAddr, emit, udp};

/// What a packet for the gateway is about, if it is about names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::dataplane) enum Service {
    /// It is a question, by UDP.
    Question,
    /// It may be the answer to what an upstream was asked.
    Answer(QueryId),
    /// It is of a connection that ends here.
    Segment,
    /// It says that a question did not reach its upstream.
    Unreachable(QueryId),
}

/// What is decided.
impl Switch {
    /// Whether a packet for the gateway is about names; why it is dropped if it should be and is not.
    pub(in crate::dataplane) fn service(
        &self,
        at: &Arrival<'_>,
        frame: &Frame,
        packet: &Packet,
    ) -> Result<Option<Service>, DropReason> {
        let forwarder = &self.dns.forwarder;
        match packet.payload {
            Transport::Udp(udp) => {
                let (from, to) = ((packet.source, udp.source), (packet.destination, udp.destination));
                let answered = forwarder.on_leg(at.network.id, from, to);
                let asks = udp.destination == PORT && answers(at, packet);
                if answered.is_none() && !asks {
                    return Ok(None);
                }
                if udp.checksum && !has_right_checksum(frame, packet) {
                    return Err(DropReason::BadTransport);
                }
                if answered.is_none() && Question::parse(datagram(frame, packet)) == Err(Unreadable::Ignored)
                {
                    return Err(DropReason::NotAQuestion);
                }
                Ok(Some(answered.map_or(Service::Question, Service::Answer)))
            }
            Transport::Tcp(segment) => {
                let sessions = &self.dns.sessions;
                let is_known = sessions.find(at.network.id, &tuple_of(packet)).is_some();
                let begins = segment.destination == PORT && answers(at, packet) && tcp::opens(&segment);
                // Who has too many connections is refused, as if the port were closed.
                if !(is_known || begins && sessions.has_room(at.port)) {
                    return Ok(None);
                }
                if has_right_checksum(frame, packet) {
                    Ok(Some(Service::Segment))
                } else {
                    Err(DropReason::BadTransport)
                }
            }
            Transport::Error { quote, .. } if quote.protocol == protocol::UDP => {
                let on_leg = |(ours, theirs)| {
                    let (to, from) = ((quote.destination, theirs), (quote.source, ours));
                    forwarder.on_leg(at.network.id, to, from)
                };
                Ok(quote.ports.and_then(on_leg).map(Service::Unreachable))
            }
            _ => Ok(None),
        }
    }

    /// The frame with an answer by UDP. What is too long for who asked becomes an answer that says so.
    pub(in crate::dataplane) fn answer_frame(
        &self,
        asker: &Asker,
        message: &[u8],
        answer: &[u8],
    ) -> Option<Vec<u8>> {
        let network = self.networks.get(self.ports.get(asker.port.0)?.network.0)?;
        let interface = network.interface.as_ref()?;
        let Via::Udp { mac, source, gateway } = asker.via else { return None };
        // An answer of ours never leaves in fragments, which are easily forged and lost (RFC 8900).
        let headers = udp::HEADER_LEN + if gateway.version() == Version::V4 { 20 } else { 40 };
        let fits = (network.config.mtu as usize).saturating_sub(headers);
        let question = Question::parse(message).ok();
        let limit = question.map_or(message::CLASSIC_LIMIT.into(), |question| question.limit()).min(fits);
        let truncated = question.filter(|_| answer.len() > limit).map(|question| question.truncated());
        let mut answer = truncated.unwrap_or_else(|| answer.to_vec());
        message::set_id(&mut answer, asker.id);
        let (address, port) = source;
        let envelope = Envelope {
            source_mac: interface.mac,
            destination_mac: mac,
            source: gateway,
            destination: address,
        };
        let mut frame = Vec::new();
        emit::udp(&mut frame, &envelope, (PORT, port), &answer);
        Some(frame)
    }
}

/// What is carried out.
impl Switch {
    /// A packet that was about names.
    pub(in crate::dataplane) fn commit_service(
        &mut self,
        now: Instant,
        from: PortId,
        frame: &Frame,
        (packet, plan): (&Packet, &Plan),
        service: Service,
        out: &mut impl Egress,
    ) {
        self.commit_tracking(now, packet, &plan.tracking);
        self.count_passage(packet, &plan.passage);
        let message = datagram(frame, packet);
        match service {
            Service::Question => {
                if let Some(asker) = asker(from, frame, packet) {
                    self.take_question(now, asker, message, false, out);
                }
            }
            Service::Segment => self.take_segment(now, from, frame, packet),
            Service::Answer(id) => self.take_answer(now, id, message, out),
            Service::Unreachable(id) => self.pass_over(now, id, out),
        }
        self.run_sessions(now, out);
    }

    /// Answers a question, or has it answered; whether there was or will be an answer.
    pub(super) fn take_question(
        &mut self,
        now: Instant,
        asker: Asker,
        message: &[u8],
        whole: bool,
        out: &mut impl Egress,
    ) -> bool {
        let Some(network) = self.network_of(asker.port) else { return false };
        let on = network.id;
        let Some(deliberation) = self.dns.deliberate(now, network, asker.port, message, whole) else {
            return false;
        };
        match deliberation {
            Deliberation::Answer(answer, outcome) => {
                self.dns.count(on, outcome);
                self.answer(now, &asker, message, &answer, out);
                true
            }
            Deliberation::Join(id) => {
                self.dns.count(on, Outcome::Joined);
                self.dns.forwarder.join(id, asker)
            }
            Deliberation::Forward(request) => {
                self.dns.count(on, Outcome::Forwarded);
                let id = self.dns.forwarder.open(request, asker);
                self.ask_next(now, id, out);
                true
            }
        }
    }

    /// Sends an answer to who asked.
    pub(in crate::dataplane) fn answer(
        &mut self,
        now: Instant,
        asker: &Asker,
        message: &[u8],
        answer: &[u8],
        out: &mut impl Egress,
    ) {
        if let Via::Tcp(session) = asker.via {
            let mut answer = answer.to_vec();
            message::set_id(&mut answer, asker.id);
            self.dns.sessions.answer(now, session, Some(&answer));
        } else if let Some(mut frame) = self.answer_frame(asker, message, answer) {
            self.emit_own(now, asker.port, &mut frame, out);
        }
    }

    pub(in crate::dataplane) fn network_of(&self, port: PortId) -> Option<&Network> {
        self.networks.get(self.ports.get(port.0)?.network.0)
    }
}

/// Whether the gateway answers questions sent there: to an address that it has on the asking network.
fn answers(at: &Arrival<'_>, packet: &Packet) -> bool {
    at.network.dns.is_some() && local::owns(at.interface, packet.destination)
}

/// Who sent a question.
pub(in crate::dataplane) fn asker(port: PortId, frame: &Frame, packet: &Packet) -> Option<Asker> {
    let header = ethernet::Header::parse(frame.bytes()).ok()?;
    let (source_port, _) = packet.ports()?;
    let (mac, gateway): (MacAddr, _) = (header.source, packet.destination);
    let id = u16::from_be_bytes(*datagram(frame, packet).first_chunk()?);
    Some(Asker { port, id, via: Via::Udp { mac, source: (packet.source, source_port), gateway } })
}

/// The payload of a UDP packet; of others nothing.
pub(in crate::dataplane) fn datagram<'a>(frame: &'a Frame, packet: &Packet) -> &'a [u8] {
    let Transport::Udp(udp) = packet.payload else { return &[] };
    let (start, end) = (packet.transport + udp::HEADER_LEN, packet.transport + usize::from(udp.length));
    frame.bytes().get(start..end).unwrap_or_default()
}

/// Whether what came is what was sent. Who leaves the sum to a device is on this machine, where nothing
/// is lost on the way.
fn has_right_checksum(frame: &Frame, packet: &Packet) -> bool {
    let end = match packet.payload {
        Transport::Udp(udp) => packet.transport + usize::from(udp.length),
        _ => packet.end,
    };
    let bytes = frame.bytes().get(packet.transport..end).unwrap_or_default();
    let sum = emit::pseudo_header(packet.source, packet.destination, packet.protocol, bytes.len());
    packet.partial_checksum || sum.add(bytes).finish() == [0, 0]
}
