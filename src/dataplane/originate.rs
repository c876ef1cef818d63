//! Packets with which the gateway begins a conversation: questions to other servers.
//!
//! They are routed from the start, pass filter OUTPUT, and their flow enters conntrack, so that answers to
//! them are established and no translation takes their port. Somebody's port stands for them: it is the
//! owner of the flow, and of the search for a neighbour.

use super::answers::{Back, Own};
use super::conntrack::{NewFlow, Source, State, Status};
use super::cutting::Cut;
use super::filter::FilterVerdict;
use super::interface::{Interface, Role};
use super::local;
use super::neighbour::Resolution;
use super::network::NetworkId;
use super::port::PortId;
use super::router::{bytes_of, tuple_of};
use super::routes::Kind;
use super::time::Instant;
use super::{Egress, Switch, rewrite};
use crate::wire::ethernet::{self, HEADER_LEN};
use crate::wire::ip::{Addr, Version};
use crate::wire::packet::Packet;
use crate::wire::{MacAddr, Offload};

/// The way to another server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Departure {
    /// The network that leads there.
    pub(super) egress: NetworkId,
    /// The next hop.
    pub(super) hop: Addr,
    /// Our address there.
    pub(super) source: Addr,
}

impl Switch {
    /// The way that what is asked for a network's containers takes: by an uplink, or on that network
    /// itself. Never by another network of containers, for that would be a way around what keeps networks
    /// apart; and an internal network has no way out.
    pub(super) fn departure(&self, for_whom: NetworkId, to: Addr) -> Option<Departure> {
        // Such an address says nothing about the link that it is on.
        if to.version() == Version::V6 && to.is_link_local() {
            return None;
        }
        let asking = self.interface(for_whom)?;
        let entry = self.routes.lookup(to, asking.uplink)?;
        let (egress, interface) = (entry.interface, self.interface(entry.interface)?);
        let leads_out = interface.role == Role::Uplink && !asking.internal;
        if !matches!(entry.kind, Kind::Connected | Kind::Static) || !(leads_out || egress == for_whom) {
            return None;
        }
        let hop = entry.via.unwrap_or(to);
        Some(Departure { egress, hop, source: far_source(interface, hop)? })
    }

    /// Makes a packet ready to leave by a network, to a next hop.
    pub(super) fn own_to(
        &self,
        now: Instant,
        for_whom: PortId,
        on: Departure,
        frame: &mut [u8],
    ) -> Option<Own> {
        let version = ethernet::Header::parse(frame).ok()?.ip_version()?;
        let packet = Packet::parse(frame, HEADER_LEN, version, &Offload::NONE).ok()?;
        let network = self.networks.get(on.egress.0)?;
        let known = match self.neighbours.resolve(now, on.egress, on.hop, for_whom) {
            Resolution::Known(_, mac) => Some(mac),
            Resolution::Wait => None,
            Resolution::Fail(_) => return None,
        };
        rewrite::set_macs(frame, network.interface.as_ref()?.mac, known.unwrap_or(MacAddr::ZERO));
        let cut = Cut { mtu: network.config.mtu, id: self.fragment_id.wrapping_add(1) };
        Some(Own { packet, back: Back::Routed(on.egress, on.hop), is_known: known.is_some(), cut })
    }

    /// Whether a packet of ours that may begin a flow may leave: by the rules, and by conntrack's limits.
    pub(super) fn may_leave(&self, now: Instant, for_whom: PortId, own: &Own) -> bool {
        let is_known = self.conntrack.lookup(now, &tuple_of(&own.packet)).is_some();
        let (_, verdict) = self.output(own.back.network(), &own.packet, is_known);
        verdict == FilterVerdict::Accept && (is_known || self.conntrack.room(for_whom, Source::Port).is_ok())
    }

    /// Sends a packet of the gateway's own on behalf of a port; whether it left, or waits for its next hop.
    pub(super) fn originate(
        &mut self,
        now: Instant,
        for_whom: PortId,
        on: Departure,
        frame: &mut [u8],
        out: &mut impl Egress,
    ) -> bool {
        let Some(own) = self.own_to(now, for_whom, on, frame) else { return false };
        let may_leave = self.may_leave(now, for_whom, &own);
        // Counts at the rules, and in the flow if that is there already.
        let is_known = self.conntrack.lookup(now, &tuple_of(&own.packet)).is_some();
        if !self.passes_output(now, on.egress, &own.packet) || !may_leave {
            return false;
        }
        if !is_known {
            self.enter(now, for_whom, &own.packet);
        }
        self.send_own(now, for_whom, &own, frame, out);
        true
    }

    /// The flow that a packet of ours begins.
    fn enter(&mut self, now: Instant, owner: PortId, packet: &Packet) {
        let source = Source::Port;
        let (Some(state), Ok(room)) = (State::first(packet), self.conntrack.room(owner, source)) else {
            return;
        };
        let original = tuple_of(packet);
        let (reply, status, replaces) = (original.invert(), Status::default(), None);
        let first = self.update(state, bytes_of(packet));
        self.conntrack.insert(
            now,
            &NewFlow { original, reply, status, owner, source, first, replaces },
            room,
        );
    }
}

/// The address with which we speak to who is behind a next hop: never one that stays on the link.
fn far_source(interface: &Interface, hop: Addr) -> Option<Addr> {
    let stays = |address: &Addr| address.version() == Version::V6 && address.is_link_local();
    let on_link = local::source_for(interface, hop).filter(|address| !stays(address));
    let any = || {
        let mut own = interface.addresses.iter().map(|own| own.address);
        own.find(|address| address.version() == hop.version() && !stays(address))
    };
    on_link.or_else(any)
}
