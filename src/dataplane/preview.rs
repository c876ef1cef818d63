//! What a frame would do, with nothing done: the decision, and the bytes that would leave.
//!
//! Theory of operation. [`Switch::decide`] changes nothing anyway. What carrying the decision out would send
//! is made here by the same functions that make it there, on copies: rewriting, cutting, answers. Two
//! things are left out, for they are not this frame's own: what goes because it displaces something older
//! (an error about a packet that waits in vain), and the packet that a fragment completes, which is
//! decided on when it is whole.

use super::Switch;
use super::answers::{Back, Own};
use super::bridge;
use super::conntrack::{FlowRow, NewFlow};
use super::decision::{Action, Decision, Forward, Passage, Plan, Tell, Tracking};
use super::dns::Naming;
use super::dns::foresee::{Foresight, Saying};
use super::dns::serve::Service;
use super::filter::{FilterVerdict, Trace};
use super::forward;
use super::fragmenting::Buffers;
use super::frame::Frame;
use super::icmp_error::ErrorKind;
use super::local::{self, Heard};
use super::neighbour::{Lesson, Resolution, Solicitation};
use super::network::NetworkId;
use super::outcome::{Probe, Verdict};
use super::port::PortId;
use super::router::tuple_of;
use super::time::Instant;
use crate::wire::ip::Addr;
use crate::wire::packet::{Packet, Transport};
use crate::wire::{MacAddr, Offload};

/// A frame that would leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    /// By this port.
    pub to: PortId,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What would still be to be done to it.
    pub offload: Offload,
}

/// A frame that would wait for the MAC address of its next hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The network it would leave by.
    pub network: NetworkId,
    /// The next hop.
    pub hop: Addr,
    /// The frame as it would leave, but for its first six bytes.
    pub bytes: Vec<u8>,
}

/// What a frame would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// Where it would go.
    pub verdict: Verdict,
    /// What would leave, in order.
    pub sent: Vec<Leaving>,
    /// What would wait.
    pub waiting: Vec<Waiting>,
    /// The flow that it belongs to, if that is there already.
    pub flow: Option<FlowRow>,
    /// The rules that its flow remembers to have passed.
    pub path: Option<Trace>,
    /// Where it would be routed: the network and the next hop, if the flow does not remember it.
    pub way: Option<(NetworkId, Option<Addr>)>,
    /// If it is a question about a name: what the gateway would make of it.
    pub naming: Option<Naming>,
}

/// What is made on the way to a preview.
struct Maker<'a> {
    switch: &'a Switch,
    now: Instant,
    from: PortId,
    frame: &'a Frame,
    /// What the fdb would have learned by then.
    learned: Option<MacAddr>,
    preview: Preview,
}

impl Switch {
    /// What [`input`](Self::input) would do with a frame, telling `probe` each step. Changes nothing.
    pub fn preview(&self, now: Instant, from: PortId, frame: &Frame, probe: &mut impl Probe) -> Preview {
        let decision = self.decide(now, from, frame, probe);
        let Decision { verdict, lesson, ref packet, ref plan, .. } = decision;
        let (sent, waiting) = (Vec::new(), Vec::new());
        let preview = Preview { verdict, sent, waiting, flow: None, path: None, way: None, naming: None };
        let learned = lesson.filter(|(_, lesson)| lesson.is_heeded()).map(|(source, _)| source);
        let mut maker = Maker { switch: self, now, from, frame, learned, preview };
        match verdict {
            Verdict::ToPort(to) => maker.send(to, frame.bytes(), frame.offload),
            Verdict::Flood(on) if !matches!(plan.action, Action::Forward(_)) => maker.flood(on),
            _ => {}
        }
        if let Action::Hear(heard) = &plan.action {
            maker.hear(heard);
        }
        let Some(packet) = packet else { return maker.preview };
        maker.track(&plan.tracking);
        match &plan.action {
            // A fragment would be decided on when its packet is whole.
            Action::None | Action::Refused | Action::Collect | Action::Hear(_) | Action::Filtered => {}
            Action::Tell(tell) => maker.tell(packet, *tell, None),
            Action::Echo(source) => {
                let mut answer = Vec::new();
                if self.build_group_echo(from, frame, packet, *source, &mut answer) {
                    maker.own(&mut answer, None);
                }
            }
            Action::Deliver => maker.deliver(packet, &plan.tracking),
            Action::Names(service) => maker.names(packet, *service, &plan.tracking),
            Action::Forward(forward) => maker.forward(packet, plan, forward),
        }
        maker.preview
    }
}

impl Maker<'_> {
    /// By a port, if that is up.
    fn send(&mut self, to: PortId, bytes: &[u8], offload: Offload) {
        if self.switch.ports.get(to.0).is_some_and(|port| port.up) {
            self.preview.sent.push(Leaving { to, bytes: bytes.to_vec(), offload });
        }
    }

    fn flood(&mut self, on: NetworkId) {
        let Some(network) = self.switch.networks.get(on.0) else { return };
        for to in &network.ports {
            if bridge::should_deliver(self.from, *to, &self.switch.ports) {
                self.send(*to, self.frame.bytes(), self.frame.offload);
            }
        }
    }

    /// To the MAC address that a frame is for: see [`Switch::emit_on`].
    fn send_on(&mut self, on: NetworkId, bytes: &[u8], offload: Offload) {
        let Some(network) = self.switch.networks.get(on.0) else { return };
        let destination = bytes.first_chunk().copied().map(MacAddr).unwrap_or_default();
        let is_here = self.switch.ports.get(self.from.0).is_some_and(|port| port.network == on);
        let known = match self.learned {
            Some(learned) if is_here && learned == destination => Some(self.from),
            _ => network.fdb.lookup(self.now, destination),
        };
        match known {
            Some(to) => self.send(to, bytes, offload),
            None => network.ports.iter().for_each(|to| self.send(*to, bytes, offload)),
        }
    }

    /// Keeps a frame; whether its next hop is asked for, the caller knows before the first of several.
    fn wait(&mut self, network: NetworkId, hop: Addr, bytes: &[u8]) {
        self.preview.waiting.push(Waiting { network, hop, bytes: bytes.to_vec() });
    }

    /// Asks for a next hop, unless somebody has.
    fn ask(&mut self, network: NetworkId, target: Addr) {
        if self.switch.neighbours.waiting(network, target).is_some() {
            return;
        }
        let (mut frame, question) = (Vec::new(), Solicitation { network, target, to: None });
        let interface = self.switch.interface(network);
        if interface.is_some_and(|interface| local::solicit(interface, &question, &mut frame)) {
            self.send_on(network, &frame, Offload::NONE);
        }
    }

    fn track(&mut self, tracking: &Tracking) {
        if let Tracking::Known(found, _) = tracking {
            let conntrack = &self.switch.conntrack;
            self.preview.flow = conntrack.flow(found.id).map(|flow| conntrack.row(flow, self.now));
        }
    }

    fn forward(&mut self, packet: &Packet, plan: &Plan, forward: &Forward) {
        let Forward { egress, hop, cut, .. } = *forward;
        let remembered = match plan.passage {
            Passage::Remembered(path) => {
                self.preview.path = self.switch.rules_of(packet.version).path(path).copied();
                true
            }
            Passage::None | Passage::Traced(_) => false,
        };
        self.preview.way = Some((egress, (!remembered).then_some(hop)));
        let known = match forward.resolution {
            Resolution::Known(_, mac) => Some(mac),
            _ => None,
        };
        let mut frame = Frame::new();
        frame.set(self.frame.bytes(), self.frame.offload);
        let leaving = forward::Leaving { packet, plan, forward };
        self.switch.rewrite(self.from, &mut frame, leaving, known.unwrap_or(MacAddr::ZERO));
        let mut pieces = Vec::new();
        match cut {
            None => pieces.push((frame.bytes().to_vec(), frame.offload)),
            Some(cut) => {
                let keep = |piece: &[u8]| pieces.push((piece.to_vec(), Offload::NONE));
                let cut = self.switch.identified(cut, packet);
                // What cannot be cut does not leave.
                let _ = cut.pieces(frame.bytes(), &frame.offload, packet, &mut Buffers::default(), keep);
            }
        }
        for (bytes, offload) in &pieces {
            match (known, self.preview.verdict, cut) {
                (None, ..) => self.wait(egress, hop, bytes),
                (Some(_), Verdict::Routed(to), None) => self.send(to, bytes, *offload),
                _ => self.send_on(egress, bytes, *offload),
            }
        }
        if known.is_none() && !pieces.is_empty() {
            self.ask(egress, hop);
        }
    }

    fn deliver(&mut self, packet: &Packet, tracking: &Tracking) {
        let entered = match tracking {
            Tracking::New(flow, ..) => Some(flow),
            _ => None,
        };
        match packet.payload {
            Transport::Tcp(_) => self.tell(packet, Tell::Reset, entered),
            Transport::Udp(_) => self.tell(packet, Tell::Error(ErrorKind::PortUnreachable), entered),
            _ => {
                let mut answer = Vec::new();
                local::echo::reply(self.frame.bytes(), packet, &mut answer);
                self.own(&mut answer, entered);
            }
        }
    }

    /// What tells the sender; `entered` is the flow that would be in the table by then.
    fn tell(&mut self, packet: &Packet, tell: Tell, entered: Option<&NewFlow>) {
        let limit = self.switch.settings.icmp_errors;
        let network = self.switch.ports.get(self.from.0);
        let network = network.and_then(|port| self.switch.networks.get(port.network.0));
        let may = match tell {
            Tell::Error(_) => network.is_some_and(|network| network.errors.has_token(self.now, limit)),
            Tell::Reset => true,
        };
        let mut answer = Vec::new();
        if may && self.switch.build_answer(self.from, self.frame, packet, tell, &mut answer) {
            self.own(&mut answer, entered);
        }
    }

    /// What a packet about names makes the gateway say.
    fn names(&mut self, packet: &Packet, service: Service, tracking: &Tracking) {
        let entered = match tracking {
            Tracking::New(flow, ..) => Some(flow),
            _ => None,
        };
        let foreseen = self.switch.foresee_names(self.now, self.from, self.frame, packet, service);
        let Foresight { naming, sayings } = foreseen;
        self.preview.naming = naming;
        for Saying { port, to, mut frame } in sayings {
            match to {
                None => self.own_by(port, &mut frame, entered),
                Some((_, departure)) => {
                    if let Some(own) = self.switch.own_to(self.now, port, departure, &mut frame) {
                        self.leave(port, &own, &frame);
                    }
                }
            }
        }
    }

    /// A packet of the gateway's own.
    fn own(&mut self, answer: &mut [u8], entered: Option<&NewFlow>) {
        self.own_by(self.from, answer, entered);
    }

    /// A packet of the gateway's own, for who is behind a port.
    fn own_by(&mut self, port: PortId, answer: &mut [u8], entered: Option<&NewFlow>) {
        let Some(own) = self.switch.own(self.now, port, answer) else { return };
        let tuple = tuple_of(&own.packet);
        let has_flow = entered.is_some_and(|flow| [flow.original, flow.reply].contains(&tuple))
            || self.switch.conntrack.lookup(self.now, &tuple).is_some();
        let (_, verdict) = self.switch.output(own.back.network(), &own.packet, has_flow);
        if verdict == FilterVerdict::Accept {
            self.leave(port, &own, answer);
        }
    }

    fn leave(&mut self, port: PortId, own: &Own, frame: &[u8]) {
        let Own { packet, back, is_known, cut } = own;
        let _ = cut.pieces(frame, &Offload::NONE, packet, &mut Buffers::default(), |piece| match *back {
            Back::Sender(_) => self.send(port, piece, Offload::NONE),
            Back::Routed(on, _) if *is_known => self.send_on(on, piece, Offload::NONE),
            Back::Routed(on, hop) => self.wait(on, hop, piece),
        });
        if let (Back::Routed(on, hop), false) = (*back, *is_known) {
            self.ask(on, hop);
        }
    }

    /// The gateway answers, contradicts, and sends what waited for what it hears.
    fn hear(&mut self, heard: &Heard) {
        let Some(on) = self.switch.ports.get(self.from.0).map(|port| port.network) else { return };
        let Some(network) = self.switch.networks.get(on.0) else { return };
        let mut frame = Vec::new();
        if let Some(answer) = &heard.answer {
            answer.build(&mut frame);
            self.send(self.from, &frame, Offload::NONE);
        }
        if let (Some(address), Some(interface)) = (heard.conflict, &network.interface)
            && network.gateway.defends(self.now)
        {
            local::announce(interface, address, interface.forward, &mut frame);
            self.send_on(on, &frame, Offload::NONE);
        }
        let Some(claim) = &heard.claim else { return };
        let lesson = self.switch.neighbours.consider(self.now, on, claim);
        let (Lesson::Moved(state), Some(mac)) = (lesson, claim.mac) else { return };
        let waiting = self.switch.neighbours.waiting(on, claim.address).filter(|_| state.is_resolved());
        for held in waiting.into_iter().flatten() {
            let mut bytes = held.bytes.clone();
            if let Some(destination) = bytes.first_chunk_mut() {
                *destination = mac.0;
            }
            self.send_on(on, &bytes, held.offload);
        }
    }
}
