//! Carrying out what the router decided: conntrack, counters, rewriting, sending.
//!
//! The frame is rewritten in place and leaves as the one that came, unless it has to be cut for the
//! next network, or waits until its next hop's MAC address is known: then copies leave ([`Egress::emit`]).

use super::conntrack::{Direction, Found, State, Update, Way};
use super::decision::{Forward, Passage, Plan, Tracking, Translation};
use super::filter::Trace;
use super::frame::Frame;
use super::interface::MssClamp;
use super::neighbour::{Held, Resolution};
use super::network::{Network, NetworkId};
use super::outcome::{DropReason, Verdict};
use super::port::PortId;
use super::rewrite;
use super::router::bytes_of;
use super::time::Instant;
use super::{Egress, Switch};
use crate::wire::ip::Version;
use crate::wire::packet::{Packet, Transport};
use crate::wire::{MacAddr, Offload, tcp};

/// A packet that is forwarded, and how.
#[derive(Clone, Copy)]
pub(super) struct Leaving<'a> {
    pub(super) packet: &'a Packet,
    pub(super) plan: &'a Plan,
    pub(super) forward: &'a Forward,
}

impl Switch {
    /// Forwards the frame; `exit` says by which port, or that it waits.
    #[inline]
    pub(super) fn commit_forward(
        &mut self,
        now: Instant,
        from: PortId,
        frame: &mut Frame,
        leaving: Leaving<'_>,
        exit: Verdict,
        out: &mut impl Egress,
    ) {
        let Leaving { packet, plan, forward } = leaving;
        let found = self.commit_tracking(now, packet, &plan.tracking);
        self.count_passage(packet, &plan.passage);
        if let (Some(found), Passage::Traced(_)) = (found, &plan.passage)
            && let Some(peer) = self.peer(from, forward, found.direction, exit)
        {
            self.conntrack.set_peer(found.id, peer);
        }
        let Resolution::Known(neighbour, mac) = forward.resolution else {
            self.hold(now, from, frame, leaving, out);
            return;
        };
        self.neighbours.used(now, neighbour);
        self.rewrite(from, frame, leaving, mac);
        if let (Some(found), Passage::Traced(trace)) = (found, &plan.passage) {
            self.remember(from, found, trace, leaving);
        }
        match (exit, forward.cut) {
            (_, Some(cut)) => {
                if let Err(reason) = self.send_cut(now, frame, packet, forward.egress, cut, out) {
                    self.count_drop(from, reason);
                }
            }
            (Verdict::Routed(to), None) => {
                if let Some(egress) = self.ports.get_mut(to.0) {
                    egress.counters.tx.count(frame.bytes().len(), frame.offload.segments(frame.bytes()));
                    out.send(to, frame);
                }
            }
            _ => self.emit_on(now, forward.egress, frame.bytes(), frame.offload, out),
        }
    }

    /// The port on the far side of a flow, as far as a packet shows it: answers come by it, and what is asked
    /// leaves by it. An uplink has one only.
    fn peer(&self, from: PortId, forward: &Forward, direction: Direction, exit: Verdict) -> Option<PortId> {
        match (direction, exit) {
            (Direction::Reply, _) => Some(from),
            (Direction::Original, Verdict::Routed(to)) => Some(to),
            (Direction::Original, _) => match self.networks.get(forward.egress.0)?.ports.as_slice() {
                [only] => Some(*only),
                _ => None,
            },
        }
    }

    /// Tells conntrack of a packet that passed, and counts the nat rules that the first one met.
    #[inline]
    pub(super) fn commit_tracking(
        &mut self,
        now: Instant,
        packet: &Packet,
        tracking: &Tracking,
    ) -> Option<Found> {
        let bytes = bytes_of(packet);
        match tracking {
            Tracking::None => None,
            Tracking::Known(found, state) => {
                let update = self.update(*state, bytes);
                self.conntrack.update(now, *found, &update);
                Some(*found)
            }
            Tracking::Unkept(nat) => {
                let rules = &mut self.rules[packet.version as usize];
                nat.iter().for_each(|trace| rules.count_trace(trace, bytes));
                None
            }
            Tracking::New(flow, room, nat) => {
                let rules = &mut self.rules[packet.version as usize];
                nat.iter().for_each(|trace| rules.count_trace(trace, bytes));
                let id = self.conntrack.insert(now, flow, *room)?;
                Some(Found { id, direction: Direction::Original })
            }
        }
    }

    /// What conntrack's table is told of a state.
    pub(super) fn update(&self, state: State, bytes: u64) -> Update {
        Update {
            state,
            timeout: state.timeout(&self.settings.timeouts),
            assured: state.is_assured(),
            droppable: state.is_droppable(),
            // A packet has at most 64 KiB.
            bytes: bytes as u32,
        }
    }

    /// Counts a packet that is dropped at the rules that it met until then.
    pub(super) fn count_refused(&mut self, packet: &Packet, plan: &Plan) {
        if let Tracking::Unkept(_) = plan.tracking {
            self.commit_tracking(Instant::default(), packet, &plan.tracking);
        }
        // What a flow remembers was not asked.
        if let Passage::Traced(_) = plan.passage {
            self.count_passage(packet, &plan.passage);
        }
    }

    /// Counts the packet at the rules that it passed.
    #[inline]
    pub(super) fn count_passage(&mut self, packet: &Packet, passage: &Passage) {
        let rules = &mut self.rules[packet.version as usize];
        match passage {
            Passage::None => {}
            Passage::Remembered(path) => rules.count(*path, 1, bytes_of(packet)),
            Passage::Traced(trace) => rules.count_trace(trace, bytes_of(packet)),
        }
    }

    /// A flow remembers its way. With more paths than are counted one by one, flows go without a memory.
    fn remember(&mut self, from: PortId, found: Found, trace: &Trace, leaving: Leaving<'_>) {
        let from = self.ports.get(from.0).map(|port| port.network);
        let path = self.rules[leaving.packet.version as usize].intern(trace);
        let Forward { egress, resolution, .. } = *leaving.forward;
        if let (Some(from), Some(path), Resolution::Known(neighbour, _)) = (from, path, resolution) {
            let way = Way { generation: self.changes, from, interface: egress, neighbour, path };
            self.conntrack.set_way(found, way);
        }
    }

    /// Makes the packet in the frame the one that leaves.
    #[inline]
    pub(super) fn rewrite(&self, from: PortId, frame: &mut Frame, leaving: Leaving<'_>, mac: MacAddr) {
        let Leaving { packet, plan, forward } = leaving;
        let Some(interface) = self.interface(forward.egress) else { return };
        // What is behind the packet was padding on its own network.
        frame.truncate(packet.end);
        let bytes = frame.bytes_mut();
        match &plan.translation {
            Translation::None => {}
            Translation::Packet(to) => rewrite::translate(bytes, packet, to),
            Translation::Error(quote, outer, inner) => {
                rewrite::translate_error(bytes, packet, quote, *outer, inner)
            }
        }
        rewrite::decrement_ttl(bytes, packet);
        rewrite::set_macs(bytes, interface.mac, mac);
        if let Some(limit) = self.mss_limit(from, packet, forward.egress) {
            rewrite::clamp_mss(bytes, packet, limit);
        }
    }

    /// What a SYN's maximum segment size is lowered to: by the stricter of the two interfaces.
    fn mss_limit(&self, from: PortId, packet: &Packet, egress: NetworkId) -> Option<u16> {
        let Transport::Tcp(tcp) = packet.payload else { return None };
        if tcp.flags & tcp::SYN == 0 {
            return None;
        }
        let from = self.ports.get(from.0)?.network;
        let [one, other] = [from, egress].map(|id| self.networks.get(id.0));
        let (one, other) = (one?, other?);
        // Fixed headers of IP and TCP (RFC 6691).
        let headers = if packet.version == Version::V4 { 40 } else { 60 };
        let path = one.config.mtu.min(other.config.mtu).saturating_sub(headers);
        let of = |network: &Network| match network.interface.as_ref()?.mss_clamp {
            MssClamp::Off => None,
            MssClamp::PathMtu => Some(u16::try_from(path).unwrap_or(u16::MAX)),
            MssClamp::At(most) => Some(most),
        };
        of(one).into_iter().chain(of(other)).min()
    }

    /// Keeps a frame, rewritten, until its next hop's MAC address is known.
    fn hold(
        &mut self,
        now: Instant,
        from: PortId,
        frame: &mut Frame,
        leaving: Leaving<'_>,
        out: &mut impl Egress,
    ) {
        let Leaving { packet, forward, .. } = leaving;
        let answer = self.unreachable(from, frame, packet);
        self.rewrite(from, frame, leaving, MacAddr::ZERO);
        let (on, hop) = (forward.egress, forward.hop);
        match forward.cut {
            None => {
                let held = Held { bytes: frame.bytes().to_vec(), offload: frame.offload, port: from, answer };
                self.neighbours.hold(now, on, hop, held);
            }
            Some(cut) => {
                let cut = self.identify(cut, frame, packet);
                let mut buffers = std::mem::take(&mut self.pieces);
                let mut answer = Some(answer);
                let (bytes, offload) = (frame.bytes(), &frame.offload);
                let result = cut.pieces(bytes, offload, packet, &mut buffers, |piece| {
                    // One answer for all pieces.
                    let answer = answer.take().unwrap_or_default();
                    let held = Held { bytes: piece.to_vec(), offload: Offload::NONE, port: from, answer };
                    self.neighbours.hold(now, on, hop, held);
                });
                self.pieces = buffers;
                if result.is_err() {
                    self.count_drop(from, DropReason::BadOffload);
                }
            }
        }
        self.run_neighbour_events(now, out);
    }
}
