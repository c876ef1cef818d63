//! The gateway in the midst of a network: what it takes, overhears, answers, and sends on its own.

use super::bridge::{self, Admitted, Ingress};
use super::cutting::Cut;
use super::decision::{Action, Decision, Forward, Plan, Refusal, Tell, Tracking};
use super::fdb::Lesson;
use super::filter::Trace;
use super::frame::Frame;
use super::icmp_error::{self, ErrorKind};
use super::interface::Interface;
use super::local::{self, Heard, advertiser};
use super::neighbour::{Event, Held, Resolution};
use super::network::{Network, NetworkId};
use super::outcome::{DropReason, Probe, Step, Verdict};
use super::port::PortId;
use super::reassembly::Whole;
use super::router::{Arrival, Routed};
use super::router::{bytes_of, tuple_of};
use super::rules::FilterHook;
use super::time::Instant;
use super::{Egress, Switch};
use crate::wire::arp::Arp;
use crate::wire::ethernet::{self, HEADER_LEN};
use crate::wire::ip::{Addr, Version, protocol};
use crate::wire::packet::{IpError, Packet, Transport};
use crate::wire::{MacAddr, Offload, ndp, tcp};

impl From<IpError> for Refusal {
    fn from(error: IpError) -> Self {
        Self::from(match error {
            IpError::Header => DropReason::BadIpHeader,
            IpError::Checksum => DropReason::BadIpChecksum,
            IpError::Options => DropReason::BadIpOptions,
            IpError::SourceRoute => DropReason::SourceRoute,
            IpError::Transport => DropReason::BadTransport,
            IpError::Overlap => DropReason::FragmentOverlap,
            IpError::Offload => DropReason::BadOffload,
        })
    }
}

/// Sends copies: the frame is not one that the caller has.
struct Copies<'a>(&'a mut dyn Egress);

impl Egress for Copies<'_> {
    fn send(&mut self, to: PortId, frame: &Frame) {
        self.0.emit(to, frame.bytes(), frame.offload);
    }

    fn emit(&mut self, to: PortId, bytes: &[u8], offload: Offload) {
        self.0.emit(to, bytes, offload);
    }

    fn discard(&mut self, from: PortId, bytes: &[u8], offload: Offload, reason: DropReason) {
        self.0.discard(from, bytes, offload, reason);
    }
}

/// What is decided.
impl Switch {
    /// Decides what becomes of a frame that was sent to the gateway's MAC address.
    #[inline]
    pub(super) fn to_gateway(
        &self,
        now: Instant,
        from: &Ingress<'_>,
        interface: &Interface,
        frame: &Frame,
        decision: &mut Decision,
        probe: &mut impl Probe,
    ) -> Result<Verdict, Refusal> {
        let Some(version) = from.ip_version() else {
            return hear(from, interface, frame, &mut decision.plan);
        };
        let Decision { packet: place, plan, .. } = decision;
        let packet = match Packet::parse_into(place, frame.bytes(), HEADER_LEN, version, &frame.offload) {
            Ok(packet) => packet,
            Err(error) => return self.misread(now, from.arrival(interface), frame, error, decision, probe),
        };
        probe.step(Step::Packet(*packet));
        if is_discovery(packet) {
            return hear(from, interface, frame, plan);
        }
        if packet.fragment.is_some() {
            return Ok(self.await_others(from, frame, packet, plan));
        }
        let at = from.arrival(interface);
        match self.route(now, at, packet, plan, probe) {
            Ok(Routed::Forward(forward)) => {
                let exit = self.exit(now, &forward)?;
                plan.action = Action::Forward(forward);
                Ok(exit)
            }
            Ok(Routed::Deliver) => match self.service(&at, frame, packet)? {
                Some(service) => {
                    plan.action = Action::Names(service);
                    Ok(Verdict::Local)
                }
                None => deliver(frame, packet, plan, probe),
            },
            Err(refusal) => Ok(self.refuse(now, &at, packet, refusal, plan, probe)),
        }
    }

    /// What cannot be read goes no further. The sender of an IPv4 packet is told where its options are
    /// malformed (RFC 1812 §4.3.3.5).
    #[cold]
    fn misread(
        &self,
        now: Instant,
        at: Arrival<'_>,
        frame: &Frame,
        error: IpError,
        decision: &mut Decision,
        probe: &mut impl Probe,
    ) -> Result<Verdict, Refusal> {
        let is_v4 = at.admitted.header.ip_version() == Some(Version::V4);
        let read = Packet::parse_despite_options(frame.bytes(), HEADER_LEN, &frame.offload);
        let Some((packet, pointer)) = read.filter(|_| is_v4 && error == IpError::Options) else {
            return Err(error.into());
        };
        self.check_addresses(&at, &packet)?;
        let refusal = Refusal::telling(DropReason::BadIpOptions, ErrorKind::ParameterProblem { pointer });
        let packet = &*decision.packet.insert(packet);
        Ok(self.refuse(now, &at, packet, refusal, &mut decision.plan, probe))
    }

    /// A fragment waits for the others of its packet. One that contradicts them ends it.
    fn await_others(&self, from: &Ingress<'_>, frame: &Frame, packet: &Packet, plan: &mut Plan) -> Verdict {
        plan.action = Action::Collect;
        match self.reassembly.check(from.network.id, frame.bytes(), packet) {
            Ok(_) => Verdict::Held,
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// The port by which a routed frame leaves.
    #[inline]
    fn exit(&self, now: Instant, forward: &Forward) -> Result<Verdict, DropReason> {
        let Resolution::Known(_, mac) = forward.resolution else { return Ok(Verdict::Held) };
        let network = self.networks.get(forward.egress.0).ok_or(DropReason::NoRoute)?;
        match network.fdb.lookup(now, mac) {
            None => Ok(Verdict::Flood(network.id)),
            Some(to) if self.ports.get(to.0).is_some_and(|port| port.up) => Ok(Verdict::Routed(to)),
            Some(_) => Err(DropReason::EgressDown),
        }
    }

    /// Whether the sender of a refused packet is told (RFC 1812 §4.3.2, RFC 4443 §2.4).
    fn refuse(
        &self,
        now: Instant,
        at: &Arrival<'_>,
        packet: &Packet,
        refusal: Refusal,
        plan: &mut Plan,
        probe: &mut impl Probe,
    ) -> Verdict {
        let verdict = Verdict::Drop(refusal.reason);
        let Some(tell) = refusal.tell.or_else(|| at.tells(refusal.reason)) else { return verdict };
        let header = &at.admitted.header;
        let may_answer = match tell {
            Tell::Error(kind) => icmp_error::may_answer(header, packet, kind),
            Tell::Reset => icmp_error::may_reset(header, packet),
        };
        let limited = matches!(tell, Tell::Error(_));
        let wanted = may_answer && (!limited || at.network.errors.has_token(now, self.settings.icmp_errors));
        if wanted {
            probe.step(Step::Tell(tell));
            plan.action = Action::Tell(tell);
        }
        verdict
    }

    /// What is bridged passes the FORWARD chain where the network asks for that, as with Linux's
    /// `bridge-nf-call-iptables`.
    pub(super) fn filter_bridged(
        &self,
        now: Instant,
        from: &Ingress<'_>,
        interface: &Interface,
        frame: &Frame,
        decision: &mut Decision,
        probe: &mut impl Probe,
    ) -> Result<Verdict, Refusal> {
        let Decision { packet, plan, verdict, .. } = decision;
        let verdict = *verdict;
        let Some(version) = from.ip_version() else { return Ok(verdict) };
        let packet = Packet::parse_into(packet, frame.bytes(), HEADER_LEN, version, &frame.offload)?;
        // Solicitations and advertisements of neighbours are to IPv6 what ARP is to IPv4, which no rule sees.
        // Nobody but the gateway is a router here whose advertisements and redirects others should hear.
        if is_discovery(packet) && matches!(packet.payload, Transport::Icmp { kind: 135 | 136, .. }) {
            return Ok(verdict);
        }
        probe.step(Step::Packet(*packet));
        if packet.fragment.is_some() {
            return Ok(self.await_others(from, frame, packet, plan));
        }
        let (at, tuple) = (from.arrival(interface), tuple_of(packet));
        let found = self.conntrack.lookup(now, &tuple);
        let mut journey = self.embark(now, at, packet, tuple, found)?;
        journey.local = self.is_own(&at, packet.destination);
        match self.filter(FilterHook::Forward, &journey, Some(from.network.id), plan, probe) {
            Ok(()) => {
                self.plan_tracking(&journey, &tuple, plan)?;
                plan.action = Action::Filtered;
                Ok(verdict)
            }
            Err(refusal) => Ok(self.refuse(now, &at, packet, refusal, plan, probe)),
        }
    }
}

/// A packet for the gateway: does anything here answer it?
fn deliver(
    frame: &Frame,
    packet: &Packet,
    plan: &mut Plan,
    probe: &mut impl Probe,
) -> Result<Verdict, Refusal> {
    let tell = match packet.payload {
        Transport::Query { kind, .. } if kind == local::echo::request_kind(packet.version) => {
            if !local::echo::is_request(frame.bytes(), packet) {
                return Err(DropReason::BadTransport.into());
            }
            None
        }
        Transport::Tcp(tcp) if tcp.flags & tcp::RST == 0 => Some(Tell::Reset),
        Transport::Udp(_) => Some(Tell::Error(ErrorKind::PortUnreachable)),
        _ => return Err(DropReason::NotAnswered.into()),
    };
    if let Some(tell) = tell {
        probe.step(Step::Tell(tell));
        // Whoever is refused leaves no flow behind, which would take its ports from others.
        if let Tracking::New(_, _, nat) = plan.tracking {
            plan.tracking = Tracking::Unkept(nat);
        }
    }
    plan.action = Action::Deliver;
    Ok(Verdict::Local)
}

/// ARP or neighbour discovery that was sent to the gateway alone.
fn hear(
    from: &Ingress<'_>,
    interface: &Interface,
    frame: &Frame,
    plan: &mut Plan,
) -> Result<Verdict, Refusal> {
    let heard = overhear(from, interface, frame).ok_or(DropReason::NotAnswered)?;
    let verdict = match heard.conflict {
        Some(_) => Verdict::Drop(DropReason::MartianSource),
        None => Verdict::Local,
    };
    plan.action = Action::Hear(heard);
    Ok(verdict)
}

/// Whether a frame may be ARP or neighbour discovery: a first look, that costs other frames next to nothing.
#[inline]
pub(super) fn speaks_of_addresses(header: &ethernet::Header, frame: &[u8]) -> bool {
    const NEXT_HEADER: usize = HEADER_LEN + 6;
    match header.ethertype {
        ethernet::ARP => true,
        // Nothing comes between the headers: extension headers are not allowed there (RFC 6980 §5), and are
        // seldom there otherwise.
        ethernet::IPV6 => frame.get(NEXT_HEADER) == Some(&protocol::ICMPV6),
        _ => false,
    }
}

/// An echo request to a group that the gateway is in, and the address that answers it (RFC 4443 §4.2).
pub(super) fn pings_a_group(
    from: &Ingress<'_>,
    interface: &Interface,
    frame: &Frame,
) -> Option<(Packet, Addr)> {
    if !speaks_of_addresses(&from.admitted.header, frame.bytes()) || from.ip_version() != Some(Version::V6) {
        return None;
    }
    let packet = Packet::parse(frame.bytes(), HEADER_LEN, Version::V6, &frame.offload).ok()?;
    if !packet.destination.is_multicast() || !local::echo::is_request(frame.bytes(), &packet) {
        return None;
    }
    let source = local::echo::source(interface, packet.destination, packet.source)?;
    Some((packet, source))
}

/// ARP and neighbour discovery, which may also be for all.
pub(super) fn overhear(from: &Ingress<'_>, interface: &Interface, frame: &Frame) -> Option<Heard> {
    let header = &from.admitted.header;
    let bytes = frame.bytes();
    if header.tags == 0 && header.ethertype == ethernet::ARP {
        let arp = Arp::parse(bytes.get(HEADER_LEN..)?).ok()?;
        let heard = local::arp::hear(interface, header.destination, &arp);
        return (heard != Heard::default()).then_some(heard);
    }
    let version = from.ip_version()?;
    let packet = Packet::parse(bytes, HEADER_LEN, version, &frame.offload).ok()?;
    if !is_discovery(&packet) {
        return None;
    }
    let message = bytes.get(packet.transport..packet.end)?;
    let message = ndp::parse(packet.source, packet.destination, packet.ttl, message).ok()?;
    let sender = local::ndp::Sender { mac: header.source, address: packet.source };
    let heard = local::ndp::hear(interface, sender, &message, interface.forward);
    (heard != Heard::default()).then_some(heard)
}

/// Whether it is a message of neighbour discovery (RFC 4861 §4).
fn is_discovery(packet: &Packet) -> bool {
    matches!(packet.payload, Transport::Icmp { kind: 133..=137, .. }) && packet.protocol == protocol::ICMPV6
}

/// What is carried out.
impl Switch {
    /// The gateway learns from what it heard, and answers.
    pub(super) fn commit_heard(&mut self, now: Instant, from: PortId, heard: &Heard, out: &mut impl Egress) {
        let Some(on) = self.ports.get(from.0).map(|port| port.network) else { return };
        if let Some(claim) = &heard.claim {
            self.neighbours.learn(now, on, from, claim);
        }
        let mut frame = std::mem::take(&mut self.scratch);
        if let Some(answer) = &heard.answer {
            answer.build(&mut frame);
            // Also what is for a group: who asked is there, and a question must not become a flood.
            self.emit_by(from, &frame, Offload::NONE, out);
        }
        if let Some(network) = self.networks.get_mut(on.0) {
            if heard.wants_router {
                network.gateway.advertiser.solicited(now);
                let due = network.gateway.advertiser.next_timeout();
                self.gateways = self.gateways.into_iter().chain(due).min();
            }
            if let (Some(address), Some(interface)) = (heard.conflict, &network.interface)
                && network.gateway.conflict(now)
            {
                local::announce(interface, address, interface.forward, &mut frame);
                self.emit_on(now, on, &frame, Offload::NONE, out);
            }
        }
        self.scratch = frame;
        self.run_neighbour_events(now, out);
    }

    /// A fragment is kept until its packet is whole, which then goes on as if it had come so.
    pub(super) fn collect(
        &mut self,
        now: Instant,
        from: PortId,
        frame: &Frame,
        packet: &Packet,
        out: &mut impl Egress,
    ) {
        let Some(on) = self.ports.get(from.0).map(|port| port.network) else { return };
        let whole = self.reassembly.add(now, on, from, frame.bytes(), packet);
        self.settle_given_up(now, out);
        if let Ok(Some(whole)) = whole {
            let mut frame = std::mem::take(&mut self.spare);
            frame.set(&whole.frame, Offload::NONE);
            self.resume(now, from, &mut frame, &whole, out);
            self.spare = frame;
        }
    }

    /// Counts the fragments of packets that did not become whole. The sender of one that timed out is told,
    /// if its first fragment came (RFC 792, RFC 8200 §4.5).
    pub(super) fn settle_given_up(&mut self, now: Instant, out: &mut impl Egress) {
        while let Some(given_up) = self.reassembly.poll_given_up() {
            if let Some(port) = self.ports.get_mut(given_up.port.0) {
                port.counters.drops[given_up.reason] += u64::from(given_up.pieces);
            }
            if given_up.first.is_empty() {
                continue;
            }
            out.discard(given_up.port, &given_up.first, Offload::NONE, given_up.reason);
            let frame = Frame::from_bytes(&given_up.first);
            if let Ok(header) = ethernet::Header::parse(frame.bytes())
                && let Some(version) = header.ip_version()
                && let Ok(packet) = Packet::parse(frame.bytes(), HEADER_LEN, version, &Offload::NONE)
            {
                let tell = Tell::Error(ErrorKind::ReassemblyTimeout);
                self.commit_tell(now, given_up.port, &frame, &packet, tell, out);
            }
        }
    }

    /// What becomes of a packet that came in fragments.
    fn resume(
        &mut self,
        now: Instant,
        from: PortId,
        frame: &mut Frame,
        whole: &Whole,
        out: &mut impl Egress,
    ) {
        let Some(port) = self.ports.get(from.0) else { return };
        let Some(network) = self.networks.get(port.network.0) else { return };
        let Ok(header) = ethernet::Header::parse(frame.bytes()) else { return };
        let admitted = Admitted { header, longest: whole.longest as usize, rejoined: Some(whole.id) };
        let ingress = Ingress { id: from, port, network, admitted: &admitted, lesson: Lesson::Known };
        let mut decision = Decision::default();
        let outcome = self.dispatch(now, ingress, frame, &mut decision, &mut ());
        let verdict = outcome.unwrap_or_else(|refusal| Verdict::Drop(refusal.reason));
        decision.verdict = verdict;
        if let Verdict::Drop(reason) = verdict {
            self.count_drop(from, reason);
        }
        if let (Action::Filtered, Some(packet)) = (&decision.plan.action, &decision.packet) {
            // It was to be bridged in pieces, and goes on in pieces.
            let cut = Cut { mtu: whole.longest, id: whole.id };
            let mut buffers = std::mem::take(&mut self.pieces);
            let _ = cut.pieces(frame.bytes(), &Offload::NONE, packet, &mut buffers, |piece| match verdict {
                Verdict::ToPort(to) => self.emit_by(to, piece, Offload::NONE, out),
                _ => self.emit_to_others(from, piece, out),
            });
            self.pieces = buffers;
        }
        self.act(now, from, frame, &decision, &mut Copies(out));
    }

    /// Sends a frame to every port of its network that may have it but the one it came by.
    fn emit_to_others(&mut self, from: PortId, bytes: &[u8], out: &mut impl Egress) {
        let network = self.ports.get(from.0).and_then(|port| self.networks.get(port.network.0));
        for to in network.map(|network| network.ports.clone()).unwrap_or_default() {
            if bridge::should_deliver(from, to, &self.ports) {
                self.emit_by(to, bytes, Offload::NONE, out);
            }
        }
    }

    pub(super) fn count_drop(&mut self, at: PortId, reason: DropReason) {
        if let Some(port) = self.ports.get_mut(at.0) {
            port.counters.drops[reason] += 1;
            self.conntrack.count_refused(reason);
        }
    }

    /// Carries out what the neighbour table wants done.
    pub(super) fn run_neighbour_events(&mut self, now: Instant, out: &mut impl Egress) {
        while let Some(event) = self.neighbours.poll_event() {
            match event {
                Event::Solicit(question) => {
                    let mut frame = std::mem::take(&mut self.scratch);
                    let interface = self.interface(question.network);
                    if interface.is_some_and(|interface| local::solicit(interface, &question, &mut frame)) {
                        self.emit_on(now, question.network, &frame, Offload::NONE, out);
                    }
                    self.scratch = frame;
                }
                Event::Send(network, held) => self.emit_on(now, network, &held.bytes, held.offload, out),
                Event::Drop(reason, held) => self.drop_held(now, reason, &held, out),
            }
        }
    }

    /// A frame that waited goes no further.
    fn drop_held(&mut self, now: Instant, reason: DropReason, held: &Held, out: &mut impl Egress) {
        let Some(port) = self.ports.get_mut(held.port.0) else { return };
        port.counters.drops[reason] += 1;
        out.discard(held.port, &held.bytes, held.offload, reason);
        let limit = self.settings.icmp_errors;
        let Some(network) = self.networks.get_mut(port.network.0) else { return };
        if !held.answer.is_empty() && network.errors.has_token(now, limit) {
            network.errors.take(now, limit);
            let mut answer = held.answer.clone();
            self.emit_own(now, held.port, &mut answer, out);
        }
    }

    fn build_advertisement(&self, id: NetworkId, frame: &mut Vec<u8>) -> bool {
        let Some(network) = self.networks.get(id.0) else { return false };
        let Some(interface) = &network.interface else { return false };
        let options = advertiser::Options {
            mtu: network.config.mtu,
            default_router: interface.forward
                && self.settings.forward_v6
                && !interface.internal
                && !network.gateway.advertiser.is_retired(),
            autonomous: false,
        };
        advertiser::build(interface, &options, frame)
    }

    /// Router advertisements that are due, and announcements of gateways that are new.
    pub(super) fn run_gateways(&mut self, now: Instant, out: &mut impl Egress) {
        let mut frame = std::mem::take(&mut self.scratch);
        let all: Vec<NetworkId> = self.networks.iter().map(|(id, _)| NetworkId(id)).collect();
        for id in all {
            let Some(network) = self.networks.get_mut(id.0) else { continue };
            let Some(interface) = &network.interface else { continue };
            let fresh = std::mem::take(&mut network.announce);
            let addresses: Vec<_> = if fresh { local::announced(interface).collect() } else { Vec::new() };
            let router = network.interface.as_ref().is_some_and(|interface| interface.forward);
            let advertise = network.gateway.advertiser.poll(now);
            for address in addresses {
                if let Some(interface) = self.interface(id) {
                    local::announce(interface, address, router, &mut frame);
                    self.emit_on(now, id, &frame, Offload::NONE, out);
                }
            }
            if advertise && self.build_advertisement(id, &mut frame) {
                self.emit_on(now, id, &frame, Offload::NONE, out);
            }
        }
        self.scratch = frame;
        self.plan_gateways();
    }

    /// When a gateway has something to announce or advertise.
    pub(super) fn plan_gateways(&mut self) {
        let due = |network: &Network| match network.announce {
            true => Some(Instant::default()),
            false => network.gateway.advertiser.next_timeout(),
        };
        self.gateways = self.networks.iter().filter_map(|(_, network)| due(network)).min();
    }

    /// Sends a frame of our own, or one that was held back, to the MAC address it is for.
    pub(super) fn emit_on(
        &mut self,
        now: Instant,
        on: NetworkId,
        bytes: &[u8],
        offload: Offload,
        out: &mut impl Egress,
    ) {
        let Some(network) = self.networks.get(on.0) else { return };
        let destination = bytes.first_chunk().copied().map(MacAddr).unwrap_or_default();
        match network.fdb.lookup(now, destination) {
            Some(to) => self.emit_by(to, bytes, offload, out),
            None => network.ports.clone().into_iter().for_each(|to| self.emit_by(to, bytes, offload, out)),
        }
    }

    /// Sends a frame of our own by a port.
    pub(super) fn emit_by(&mut self, to: PortId, bytes: &[u8], offload: Offload, out: &mut impl Egress) {
        if let Some(port) = self.ports.get_mut(to.0).filter(|port| port.up) {
            port.counters.tx.count(bytes.len(), offload.segments(bytes));
            out.emit(to, bytes, offload);
        }
    }

    pub(super) fn count_trace(&mut self, packet: &Packet, trace: &Trace) {
        let rules = &mut self.rules[packet.version as usize];
        rules.count_trace(trace, bytes_of(packet));
    }
}
