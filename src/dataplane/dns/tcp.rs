//! Questions and answers by TCP.

use super::LONGEST_QUESTION;
use super::forward::{Asker, Leg, QueryId, Via};
use super::message;
use super::sessions::{IDLE, PIPELINE, Purpose, Session, SessionId};
use super::stream::Stream;
use crate::dataplane::conntrack::Tuple;
use crate::dataplane::router::tuple_of;
use crate::dataplane::{Egress, Frame, Instant, NetworkId, PortId, Switch};
use crate::wire::MacAddr;
use crate::wire::ethernet;
use crate::wire::ip::{Addr, protocol};
use crate::wire::packet::Packet;
use crate::wire::tcp::{self, Tcp};

/// Where seeds of sequence numbers are among the numbers of a draw.
const SEED: u32 = 64;

/// Whether a segment begins a connection.
pub(super) const fn opens(segment: &Tcp) -> bool {
    segment.flags & (tcp::SYN | tcp::ACK | tcp::RST | tcp::FIN) == tcp::SYN
}

impl Switch {
    /// A segment of a connection that ends here.
    pub(super) fn take_segment(&mut self, now: Instant, from: PortId, frame: &Frame, packet: &Packet) {
        let Some(network) = self.network_of(from).map(|network| network.id) else { return };
        let tuple = tuple_of(packet);
        let found = self.dns.sessions.find(network, &tuple);
        let id = found.or_else(|| self.accept(now, (from, network), frame, tuple));
        let Some(session) = id.and_then(|id| self.dns.sessions.get_mut(id)) else { return };
        session.stream.receive(now, frame.bytes().get(packet.start..packet.end).unwrap_or_default());
        id.into_iter().for_each(|id| self.dns.sessions.wake(id));
    }

    /// Begins a session with a container.
    fn accept(
        &mut self,
        now: Instant,
        (port, on): (PortId, NetworkId),
        frame: &Frame,
        tuple: Tuple,
    ) -> Option<SessionId> {
        let header = ethernet::Header::parse(frame.bytes()).ok()?;
        let stream = self.listener(now, on, &tuple)?;
        self.dns.draws.advance();
        let mut session = Session::new(Purpose::Serves(header.source), port, on, tuple, stream);
        session.deadline = Some(now + IDLE);
        Some(self.dns.sessions.open(session))
    }

    /// What takes a SYN with this tuple.
    fn listener(&self, now: Instant, on: NetworkId, tuple: &Tuple) -> Option<Stream> {
        let mtu = self.networks.get(on.0)?.config.mtu as usize;
        let (local, seed) = ((tuple.destination, tuple.destination_port), self.dns.draws.peek(SEED));
        Stream::listen(now, local, mtu, seed, LONGEST_QUESTION)
    }

    /// The frames with which a segment that begins a connection would be answered.
    pub(super) fn foresee_segment(
        &self,
        now: Instant,
        from: PortId,
        frame: &Frame,
        packet: &Packet,
    ) -> Vec<Vec<u8>> {
        let Some(on) = self.network_of(from).map(|network| network.id) else { return Vec::new() };
        let (tuple, header) = (tuple_of(packet), ethernet::Header::parse(frame.bytes()));
        let (None, Ok(header)) = (self.dns.sessions.find(on, &tuple), header) else { return Vec::new() };
        let Some(mut stream) = self.listener(now, on, &tuple) else { return Vec::new() };
        stream.receive(now, frame.bytes().get(packet.start..packet.end).unwrap_or_default());
        stream.packets().iter().map(|packet| framed(header.source, packet)).collect()
    }

    /// Asks an upstream by TCP what it has answered in part.
    pub(super) fn ask_by_tcp(&mut self, now: Instant, id: QueryId, leg: Leg) -> bool {
        let Some(query) = self.dns.forwarder.get(id) else { return false };
        let (Some(port), mut question) = (query.owner(), query.request.message.to_vec()) else {
            return false;
        };
        let remote = (Addr::from(leg.upstream.ip()), leg.upstream.port());
        let Some(source_port) = self.free_port(now, protocol::TCP, leg.local.0, remote) else { return false };
        let Some(network) = self.networks.get(leg.egress.0) else { return false };
        if !self.dns.sessions.has_room(port) {
            return false;
        }
        let (local, mtu, draws) = ((leg.local.0, source_port), network.config.mtu as usize, &self.dns.draws);
        let (message_id, seed) = (draws.peek(SEED + 1) as u16, draws.peek(SEED));
        let Some(mut stream) = Stream::connect(now, local, remote, mtu, seed, usize::from(u16::MAX)) else {
            return false;
        };
        message::set_id(&mut question, message_id);
        stream.send(&question);
        self.dns.draws.advance();
        let leg = Leg { local, id: message_id, stream: None, ..leg };
        let ((source, source_port), (destination, destination_port)) = (remote, local);
        let tuple = Tuple { source, destination, source_port, destination_port, protocol: protocol::TCP };
        let purpose = Purpose::Asks(id, leg.departure());
        let session = self.dns.sessions.open(Session::new(purpose, port, leg.egress, tuple, stream));
        self.dns.forwarder.set_leg(now, id, Leg { stream: Some(session), ..leg });
        true
    }

    /// Does what is to be done about sessions.
    pub(super) fn run_sessions(&mut self, now: Instant, out: &mut impl Egress) {
        loop {
            self.dns.wake_ended();
            let Some(id) = self.dns.sessions.next_ready() else { return };
            self.run_session(now, id, out);
        }
    }

    fn run_session(&mut self, now: Instant, id: SessionId, out: &mut impl Egress) {
        let Some(session) = self.dns.sessions.get_mut(id) else { return };
        session.stream.poll(now);
        let purpose = session.purpose;
        match purpose {
            Purpose::Serves(_) => self.serve(now, id, out),
            Purpose::Asks(query, _) => self.hear_out(now, id, query, out),
        }
        self.flush(now, id, out);
        match self.dns.sessions.get_mut(id) {
            Some(session) if session.stream.is_over() => self.dns.sessions.remove(id),
            Some(_) => self.dns.sessions.plan(now, id),
            None => {}
        }
    }

    /// Takes the questions of a container, and ends the session when its time has come.
    fn serve(&mut self, now: Instant, id: SessionId, out: &mut impl Egress) {
        while let Some(session) = self.dns.sessions.get_mut(id).filter(|session| session.waiting < PIPELINE)
            && let Some(message) = session.stream.message()
        {
            session.waiting += 1;
            session.deadline = Some(now + IDLE);
            let port = session.port;
            let asker = message.first_chunk().map(|name| u16::from_be_bytes(*name));
            let asker = asker.map(|name| Asker { port, id: name, via: Via::Tcp(id) });
            let waits = asker.is_some_and(|asker| self.take_question(now, asker, &message, true, out));
            if !waits {
                self.dns.sessions.answer(now, id, None);
            }
            if let Some(session) = self.dns.sessions.get_mut(id) {
                session.stream.poll(now);
            }
        }
        let Some(session) = self.dns.sessions.get_mut(id) else { return };
        let is_late = session.deadline.is_some_and(|deadline| deadline <= now);
        let is_done = session.waiting == 0 && session.stream.is_flushed();
        if is_late && session.is_closing {
            session.stream.abort();
        } else if !session.is_closing && is_done && (is_late || session.stream.is_half_closed()) {
            session.is_closing = true;
            session.stream.close();
            session.deadline = Some(now + IDLE);
        } else if is_late {
            // An upstream takes its time, or who asked does.
            session.is_closing = session.waiting == 0;
            session.deadline = Some(now + IDLE);
        }
    }

    /// Takes the answer of an upstream. One that ends the connection without is passed over.
    fn hear_out(&mut self, now: Instant, id: SessionId, query: QueryId, out: &mut impl Egress) {
        let Some(session) = self.dns.sessions.get_mut(id) else { return };
        let asks = self.dns.forwarder.get(query).and_then(|query| query.leg).and_then(|leg| leg.stream);
        if asks != Some(id) {
            // Its leg has ended.
            if session.deadline.is_some_and(|deadline| deadline <= now) {
                session.stream.abort();
            } else if !session.is_closing {
                session.is_closing = true;
                session.stream.close();
                session.deadline = Some(now + IDLE);
            }
            return;
        }
        if let Some(message) = session.stream.message() {
            self.take_answer(now, query, &message, out);
            // There may be more, if that was not it.
            self.dns.sessions.wake(id);
        } else if session.stream.is_over() || session.stream.is_half_closed() {
            self.pass_over(now, query, out);
        }
    }

    /// Sends what a session's stream has to say.
    fn flush(&mut self, now: Instant, id: SessionId, out: &mut impl Egress) {
        let Some(session) = self.dns.sessions.get_mut(id) else { return };
        session.stream.poll(now);
        let (packets, purpose, port) = (session.stream.packets(), session.purpose, session.port);
        for packet in packets {
            match purpose {
                Purpose::Serves(mac) => self.emit_own(now, port, &mut framed(mac, &packet), out),
                Purpose::Asks(_, departure) => {
                    let mut frame = framed(MacAddr::ZERO, &packet);
                    self.originate(now, port, departure, &mut frame, out);
                }
            }
        }
    }
}

/// The frame with an IP packet, for this MAC address; the sender's is filled in when it leaves.
fn framed(to: MacAddr, packet: &[u8]) -> Vec<u8> {
    let is_v4 = packet.first().is_some_and(|byte| byte >> 4 == 4);
    let ethertype = if is_v4 { ethernet::IPV4 } else { ethernet::IPV6 };
    [&to.0[..], &MacAddr::ZERO.0, &ethertype.to_be_bytes(), packet].concat()
}
