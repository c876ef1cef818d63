//! Packets of the gateway's own: echo replies, ICMP errors, TCP resets.
//!
//! They are built when a decision is carried out, pass filter OUTPUT, and are routed like any packet. An
//! answer whose receiver is on the link, or behind who sent the question, goes back by the port and to the
//! MAC address that the question came from: that costs no question about neighbours, and a forged source
//! address makes none.

use super::cutting::Cut;
use super::decision::{Plan, Tell};
use super::filter::{FilterVerdict, Trace};
use super::frame::Frame;
use super::icmp_error::{self, ErrorKind};
use super::interface::Interface;
use super::local;
use super::neighbour::{Held, Resolution};
use super::network::NetworkId;
use super::port::PortId;
use super::router::{bytes_of, subject, tuple_of};
use super::routes::Kind;
use super::rules::{FilterHook, States};
use super::time::Instant;
use super::{Egress, Switch, rewrite};
use crate::wire::ethernet::{self, HEADER_LEN};
use crate::wire::ip::Addr;
use crate::wire::ndp::Envelope;
use crate::wire::packet::{Packet, Transport};
use crate::wire::{MacAddr, Offload};

/// How an answer reaches its receiver.
#[derive(Clone, Copy)]
pub(super) enum Back {
    /// By the port that the question came by, and to its sender's MAC address.
    Sender(NetworkId),
    /// By another network, to this next hop.
    Routed(NetworkId, Addr),
}

impl Back {
    pub(super) const fn network(self) -> NetworkId {
        match self {
            Self::Sender(network) | Self::Routed(network, _) => network,
        }
    }
}

/// A packet of the gateway's own that is ready to be sent.
pub(super) struct Own {
    pub(super) packet: Packet,
    pub(super) back: Back,
    /// Whether its next hop's MAC address is known, and in the frame.
    pub(super) is_known: bool,
    /// How it is cut if it is too long.
    pub(super) cut: Cut,
}

/// Builds what tells a packet's sender why it went no further; whether there is anything to say it with.
/// `own` is the address of ours that the packet was sent to, if it was.
fn build_tell(
    interface: &Interface,
    frame: &Frame,
    packet: &Packet,
    tell: Tell,
    own: Option<Addr>,
    answer: &mut Vec<u8>,
) -> bool {
    let Ok(header) = ethernet::Header::parse(frame.bytes()) else { return false };
    let Tell::Error(kind) = tell else {
        return icmp_error::reset(&header, packet, interface.mac, header.source, answer);
    };
    if !icmp_error::may_answer(&header, packet, kind) {
        return false;
    }
    // RFC 1812 §4.3.2.4: from the interface by which it is sent; of what was sent to an address of ours,
    // from that.
    let Some(from) = own.or_else(|| local::source_for(interface, packet.source)) else { return false };
    icmp_error::build(kind, frame.bytes(), packet, from, interface.mac, header.source, answer);
    true
}

impl Switch {
    /// The gateway answers a packet that was for itself.
    pub(super) fn commit_delivery(
        &mut self,
        now: Instant,
        from: PortId,
        frame: &Frame,
        packet: &Packet,
        plan: &Plan,
        out: &mut impl Egress,
    ) {
        self.commit_tracking(now, packet, &plan.tracking);
        self.count_passage(packet, &plan.passage);
        match packet.payload {
            Transport::Tcp(_) => self.commit_tell(now, from, frame, packet, Tell::Reset, out),
            Transport::Udp(_) => {
                let tell = Tell::Error(ErrorKind::PortUnreachable);
                self.commit_tell(now, from, frame, packet, tell, out);
            }
            _ => {
                let mut answer = std::mem::take(&mut self.scratch);
                local::echo::reply(frame.bytes(), packet, &mut answer);
                self.emit_own(now, from, &mut answer, out);
                self.scratch = answer;
            }
        }
    }

    /// The gateway answers an echo request that was for a group.
    pub(super) fn commit_echo(
        &mut self,
        now: Instant,
        from: PortId,
        frame: &Frame,
        packet: &Packet,
        source: Addr,
        out: &mut impl Egress,
    ) {
        let mut answer = std::mem::take(&mut self.scratch);
        if self.build_group_echo(from, frame, packet, source, &mut answer) {
            self.emit_own(now, from, &mut answer, out);
        }
        self.scratch = answer;
    }

    pub(super) fn build_group_echo(
        &self,
        from: PortId,
        frame: &Frame,
        packet: &Packet,
        source: Addr,
        answer: &mut Vec<u8>,
    ) -> bool {
        let interface = self.ports.get(from.0).and_then(|port| self.interface(port.network));
        let (Some(interface), Ok(header)) = (interface, ethernet::Header::parse(frame.bytes())) else {
            return false;
        };
        let (source_mac, destination_mac) = (interface.mac, header.source);
        let envelope = Envelope { source_mac, destination_mac, source, destination: packet.source };
        local::echo::reply_as(frame.bytes(), packet, &envelope, answer);
        true
    }

    /// Tells a sender why its packet went no further. Errors are limited, resets are not: a segment brings
    /// one at most, and no more bytes.
    pub(super) fn commit_tell(
        &mut self,
        now: Instant,
        from: PortId,
        frame: &Frame,
        packet: &Packet,
        tell: Tell,
        out: &mut impl Egress,
    ) {
        if let Tell::Error(_) = tell {
            let network = self.ports.get(from.0).and_then(|port| self.networks.get_mut(port.network.0));
            let Some(network) = network else { return };
            if !network.errors.has_token(now, self.settings.icmp_errors) {
                return;
            }
            network.errors.take(now, self.settings.icmp_errors);
        }
        let mut answer = std::mem::take(&mut self.scratch);
        if self.build_answer(from, frame, packet, tell, &mut answer) {
            self.emit_own(now, from, &mut answer, out);
        }
        self.scratch = answer;
    }

    /// Builds what tells a packet's sender why it went no further; whether there is anything to say it with.
    pub(super) fn build_answer(
        &self,
        from: PortId,
        frame: &Frame,
        packet: &Packet,
        tell: Tell,
        answer: &mut Vec<u8>,
    ) -> bool {
        let Some(on) = self.back(from, packet.source).map(Back::network) else { return false };
        let own = Some(packet.destination).filter(|address| self.is_local(on, *address));
        let interface = self.interface(on);
        interface.is_some_and(|interface| build_tell(interface, frame, packet, tell, own, answer))
    }

    /// The ready-made answer for a frame that waits in vain for its next hop's MAC address.
    pub(super) fn unreachable(&self, from: PortId, frame: &Frame, packet: &Packet) -> Vec<u8> {
        let mut answer = Vec::new();
        let tell = Tell::Error(ErrorKind::HostUnreachable);
        if !self.build_answer(from, frame, packet, tell, &mut answer) {
            answer.clear();
        }
        answer
    }

    /// Whether an address is one of ours, wherever, or link-local on this network.
    fn is_local(&self, on: NetworkId, address: Addr) -> bool {
        let entry = self.routes.lookup(address, None);
        entry.is_some_and(|entry| entry.kind == Kind::Local)
            || self.interface(on).is_some_and(|interface| local::owns(interface, address))
    }

    /// How an answer to what came by a port reaches `to`.
    fn back(&self, from: PortId, to: Addr) -> Option<Back> {
        let network = self.ports.get(from.0)?.network;
        let interface = self.interface(network)?;
        if local::is_on_link(interface, to) {
            return Some(Back::Sender(network));
        }
        match self.routes.lookup(to, interface.uplink) {
            Some(entry) if entry.interface != network => {
                Some(Back::Routed(entry.interface, entry.via.unwrap_or(to)))
            }
            _ => Some(Back::Sender(network)),
        }
    }

    /// Makes a packet of the gateway's own ready to be sent: it answers one that came by a port, as a frame
    /// from the gateway to who sent that one.
    pub(super) fn own(&self, now: Instant, from: PortId, frame: &mut [u8]) -> Option<Own> {
        let header = ethernet::Header::parse(frame).ok()?;
        let packet = Packet::parse(frame, HEADER_LEN, header.ip_version()?, &Offload::NONE).ok()?;
        let back = self.back(from, packet.destination)?;
        let network = self.networks.get(back.network().0)?;
        let mac = network.interface.as_ref().map(|interface| interface.mac);
        let known = match back {
            Back::Sender(_) => Some(header.destination),
            Back::Routed(on, hop) => match self.neighbours.resolve(now, on, hop, from) {
                Resolution::Known(_, mac) => Some(mac),
                _ => None,
            },
        };
        rewrite::set_macs(frame, mac.unwrap_or_default(), known.unwrap_or(MacAddr::ZERO));
        let cut = Cut { mtu: network.config.mtu, id: self.fragment_id.wrapping_add(1) };
        Some(Own { packet, back, is_known: known.is_some(), cut })
    }

    /// Sends a packet of the gateway's own, which answers one that came by a port. It passes OUTPUT, and
    /// its flow sees it.
    pub(super) fn emit_own(&mut self, now: Instant, from: PortId, frame: &mut [u8], out: &mut impl Egress) {
        let Some(own) = self.own(now, from, frame) else { return };
        if !self.passes_output(now, own.back.network(), &own.packet) {
            return;
        }
        self.send_own(now, from, &own, frame, out);
    }

    /// Sends a packet that is ready, or keeps it until its next hop is known.
    pub(super) fn send_own(
        &mut self,
        now: Instant,
        from: PortId,
        own: &Own,
        frame: &[u8],
        out: &mut impl Egress,
    ) {
        self.fragment_id = own.cut.id;
        let mut buffers = std::mem::take(&mut self.pieces);
        // What is ours has nothing that cannot be cut.
        let _ = own.cut.pieces(frame, &Offload::NONE, &own.packet, &mut buffers, |piece| match own.back {
            Back::Sender(_) => self.emit_by(from, piece, Offload::NONE, out),
            Back::Routed(on, _) if own.is_known => self.emit_on(now, on, piece, Offload::NONE, out),
            Back::Routed(on, hop) => {
                let (bytes, answer) = (piece.to_vec(), Vec::new());
                self.neighbours.hold(
                    now,
                    on,
                    hop,
                    Held { bytes, offload: Offload::NONE, port: from, answer },
                );
            }
        });
        self.pieces = buffers;
        self.run_neighbour_events(now, out);
    }

    /// What filter OUTPUT says of a packet of ours, whose flow is known or not.
    pub(super) fn output(&self, on: NetworkId, packet: &Packet, is_known: bool) -> (Trace, FilterVerdict) {
        let states = match packet.payload {
            Transport::Error { .. } => States::RELATED,
            _ if is_known => States::ESTABLISHED,
            _ => States::NEW,
        };
        let subject = subject(packet, &tuple_of(packet), (None, Some(on)), states, false);
        let mut trace = Trace::default();
        let verdict = self.rules_of(packet.version).filter(FilterHook::Output, &subject, &mut trace);
        (trace, verdict)
    }

    /// Whether the rules let a packet of ours out; counts it.
    pub(super) fn passes_output(&mut self, now: Instant, on: NetworkId, packet: &Packet) -> bool {
        let found = self.conntrack.lookup(now, &tuple_of(packet));
        let (trace, verdict) = self.output(on, packet, found.is_some());
        self.count_trace(packet, &trace);
        if verdict != FilterVerdict::Accept {
            return false;
        }
        if let Some(found) = found
            && let Some(flow) = self.conntrack.flow(found.id)
            && let Ok(state) = flow.state().next(found.direction, packet)
        {
            let update = self.update(state, bytes_of(packet));
            self.conntrack.update(now, found, &update);
        }
        true
    }
}
