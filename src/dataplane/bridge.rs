//! The learning bridge (IEEE 802.1D/802.1Q clause 8): who gets a frame.
//!
//! Everything here only looks. VLAN tags are carried transparently: addresses are
//! learned and looked up whatever the tag says (shared VLAN learning).

use super::PortId;
use super::fdb::Lesson;
use super::network::Network;
use super::outcome::{DropReason, Probe, Step, Verdict};
use super::port::Port;
use super::table::Table;
use super::time::Instant;
use crate::wire::Offload;
use crate::wire::ethernet::{self, Header};

/// Checks a frame before anything else looks at it.
#[inline]
pub(super) fn admit(
    port: &Port,
    network: &Network,
    frame: &[u8],
    offload: &Offload,
) -> Result<Header, DropReason> {
    if !port.up {
        return Err(DropReason::PortDown);
    }
    let header = Header::parse(frame).map_err(|_| DropReason::Runt)?;
    offload.check(frame.len()).map_err(|_| DropReason::BadOffload)?;
    if !header.source.is_station() {
        return Err(DropReason::BadSource);
    }
    match packet_len(frame, offload, header.payload) {
        None => Err(DropReason::BadOffload),
        Some(len) if len > network.config.mtu as usize => Err(DropReason::Oversize),
        Some(_) => Ok(header),
    }
}

/// Bytes of the packet, or of the longest packet that a super-frame is cut into;
/// `None` when the super-frame's headers are not all there.
#[inline]
fn packet_len(frame: &[u8], offload: &Offload, payload: usize) -> Option<usize> {
    if offload.gso_type == 0 {
        return Some(frame.len() - payload);
    }
    let end = offload.header_end(frame)?;
    let longest_piece = usize::from(offload.gso_size).min(frame.len() - end);
    Some(end.checked_sub(payload)? + longest_piece)
}

/// Where a frame came in.
#[derive(Clone, Copy)]
pub(super) struct Ingress<'a> {
    pub(super) id: PortId,
    pub(super) port: &'a Port,
    /// What its source address taught.
    pub(super) lesson: Lesson,
}

/// Decides where an admitted frame goes.
#[inline]
pub(super) fn forward(
    now: Instant,
    from: Ingress<'_>,
    network: &Network,
    ports: &Table<Port>,
    header: &Header,
    probe: &mut impl Probe,
) -> Result<Verdict, DropReason> {
    if header.destination.is_group() {
        if header.destination.is_link_local_group() {
            return Err(DropReason::LinkLocal);
        }
        return flood(now, from, network, ports, header);
    }
    // Who writes to itself has just been learned here, if only by this frame.
    let behind = if header.destination == header.source && from.lesson.is_heeded() {
        Some(from.id)
    } else {
        network.fdb.lookup(now, header.destination)
    };
    probe.step(Step::Lookup(header.destination, behind));
    match behind {
        None => flood(now, from, network, ports, header),
        Some(to) if to == from.id => Err(DropReason::SamePort),
        Some(to) if !ports.get(to.0).is_some_and(|port| port.up) => Err(DropReason::EgressDown),
        Some(_) if !may_talk(network, header) => Err(DropReason::Icc),
        Some(to) => Ok(Verdict::ToPort(to)),
    }
}

fn flood(
    now: Instant,
    from: Ingress<'_>,
    network: &Network,
    ports: &Table<Port>,
    header: &Header,
) -> Result<Verdict, DropReason> {
    if !may_talk(network, header) {
        return Err(DropReason::Icc);
    }
    if !from.port.storm.has_token(now, network.config.flood_limit) {
        return Err(DropReason::FloodLimit);
    }
    if !network.ports.iter().any(|to| should_deliver(from.id, *to, ports)) {
        return Err(DropReason::NoListener);
    }
    Ok(Verdict::Flood(network.id))
}

/// The one place that says whether a flooded frame is for a port.
#[inline]
pub(super) fn should_deliver(from: PortId, to: PortId, ports: &Table<Port>) -> bool {
    to != from && ports.get(to.0).is_some_and(|port| port.up)
}

/// Whether the network lets its containers exchange this frame. With `icc=false` they may
/// only resolve addresses: untagged ARP passes, as with Docker's rules; IP does not, nor
/// does anything that could carry it, which Docker's rules would let through.
#[inline]
fn may_talk(network: &Network, header: &Header) -> bool {
    network.config.icc || (header.ethertype == ethernet::ARP && header.tags == 0)
}

impl Header {
    /// The header as a step of the frame's way.
    #[inline]
    pub(super) fn step(&self) -> Step {
        let Self { destination, source, ethertype, tags, .. } = *self;
        Step::Parsed { source, destination, ethertype, tags }
    }
}
