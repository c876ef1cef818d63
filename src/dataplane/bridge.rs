//! The learning bridge (IEEE 802.1D/802.1Q clause 8): who gets a frame.
//!
//! Everything here only looks. VLAN tags are carried transparently: addresses are
//! learned and looked up whatever the tag says (shared VLAN learning).

use super::PortId;
use super::fdb::Lesson;
use super::interface::Interface;
use super::network::Network;
use super::outcome::{DropReason, Probe, Step, Verdict};
use super::port::Port;
use super::router::Arrival;
use super::table::Table;
use super::time::Instant;
use crate::wire::Offload;
use crate::wire::ethernet::{self, Header};
use crate::wire::ip::Version;

/// Checks a frame before anything else looks at it.
#[inline]
pub(super) fn admit(
    port: &Port,
    network: &Network,
    frame: &[u8],
    offload: &Offload,
) -> Result<Admitted, DropReason> {
    if !port.up {
        return Err(DropReason::PortDown);
    }
    let header = Header::parse(frame).map_err(|_| DropReason::Runt)?;
    offload.check(frame.len()).map_err(|_| DropReason::BadOffload)?;
    let is_gateways = network.interface.as_ref().is_some_and(|interface| interface.mac == header.source);
    if is_gateways || !header.source.is_station() {
        return Err(DropReason::BadSource);
    }
    match packet_len(frame, offload, header.payload) {
        None => Err(DropReason::BadOffload),
        Some(len) if len > network.config.mtu as usize && !is_sockets(network) => Err(DropReason::Oversize),
        Some(longest) => Ok(Admitted { header, longest, rejoined: None }),
    }
}

/// Whether what comes in has no sender that knows our MTU.
fn is_sockets(network: &Network) -> bool {
    network.interface.as_ref().is_some_and(|interface| interface.sockets)
}

/// A frame that may enter.
pub(super) struct Admitted {
    pub(super) header: Header,
    /// Bytes of the packet, or of the longest packet that a super-frame is cut into.
    pub(super) longest: usize,
    /// Whether it came in fragments, and what those were known by; `longest` is the longest of them then.
    pub(super) rejoined: Option<u32>,
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
    pub(super) network: &'a Network,
    pub(super) admitted: &'a Admitted,
    /// What its source address taught.
    pub(super) lesson: Lesson,
}

impl Ingress<'_> {
    /// Whether it is an untagged IP frame, and of which version.
    #[inline]
    pub(super) const fn ip_version(&self) -> Option<Version> {
        self.admitted.header.ip_version()
    }

    /// The frame's arrival at the network's gateway.
    #[inline]
    pub(super) const fn arrival<'a>(&'a self, interface: &'a Interface) -> Arrival<'a> {
        let admitted = self.admitted;
        Arrival { port: self.id, network: self.network, interface, admitted }
    }

    /// Whether the network lets its containers exchange this frame. With `icc=false` they may resolve
    /// addresses, by untagged ARP; of IP the rules decide, where there are any. Nothing else passes that
    /// could carry IP, which Docker's rules would let through.
    #[inline]
    fn may_talk(&self) -> bool {
        let Self { admitted, network, .. } = self;
        let filtered = network.interface.as_ref().is_some_and(|interface| interface.filter_bridged);
        network.config.icc
            || (admitted.header.ethertype == ethernet::ARP && admitted.header.tags == 0)
            || (filtered && self.ip_version().is_some())
    }
}

/// Decides where an admitted frame goes.
#[inline]
pub(super) fn forward(
    now: Instant,
    from: &Ingress<'_>,
    ports: &Table<Port>,
    probe: &mut impl Probe,
) -> Result<Verdict, DropReason> {
    let header = &from.admitted.header;
    if header.destination.is_group() {
        if header.destination.is_link_local_group() {
            return Err(DropReason::LinkLocal);
        }
        return flood(now, from, ports);
    }
    // Who writes to itself has just been learned here, if only by this frame.
    let behind = if header.destination == header.source && from.lesson.is_heeded() {
        Some(from.id)
    } else {
        from.network.fdb.lookup(now, header.destination)
    };
    probe.step(Step::Lookup(header.destination, behind));
    match behind {
        None => flood(now, from, ports),
        Some(to) if to == from.id => Err(DropReason::SamePort),
        Some(to) if !ports.get(to.0).is_some_and(|port| port.up) => Err(DropReason::EgressDown),
        Some(_) if !from.may_talk() => Err(DropReason::Icc),
        Some(to) => Ok(Verdict::ToPort(to)),
    }
}

fn flood(now: Instant, from: &Ingress<'_>, ports: &Table<Port>) -> Result<Verdict, DropReason> {
    let network = from.network;
    if !from.may_talk() {
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

impl Header {
    /// The header as a step of the frame's way.
    #[inline]
    pub(super) fn step(&self) -> Step {
        let Self { destination, source, ethertype, tags, .. } = *self;
        Step::Parsed { source, destination, ethertype, tags }
    }
}
