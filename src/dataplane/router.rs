//! The router: what becomes of a packet that was sent to a gateway's MAC address.
//!
//! ```text
//!  parse ─▶ which flow? ─── known, and its way is still good ──▶ TTL ─▶ MTU ─────────────┐
//!               │ else                                                                   │
//!               ├─▶ addresses ─▶ nat PREROUTING ─▶ route ─┬─▶ local: filter INPUT        │
//!               │                (first packet)           ▼                              │
//!               │                                   TTL ─▶ MTU ─▶ filter FORWARD         │
//!               │                                                      ▼                 ▼
//!               │                        nat POSTROUTING (first packet) ─▶ neighbour ─▶ Forward
//! ```
//!
//! This is the order of Linux's `ip_forward` and of netfilter's hooks, so that what an administrator
//! knows of those holds here: the TTL is looked at before the filter (the traceroute of an isolated
//! container shows its own gateway, then nothing), filter rules see the packet as it is between the two
//! translations, and a flow is entered in conntrack only when its first packet has passed everything.
//!
//! A flow remembers its way: the interface it leaves by, the next hop, the filter rules it passed. That
//! is good until anything is configured anew or a neighbour goes (`generation`); then the next packet
//! takes all stages again.
//!
//! Everything here only looks. What it decides is carried out in `forward.rs`.

use super::Switch;
use super::bridge::Admitted;
use super::conntrack::{self, Direction, FlowId, Found, NewFlow, Room, Source, State, Status, Tuple};
use super::cutting::Cut;
use super::decision::{Action, Forward, Passage, Plan, Refusal, Tell, Tracking, Translation};
use super::filter::{self, FilterVerdict, Subject, Trace};
use super::icmp_error::ErrorKind;
use super::interface::{Interface, Role};
use super::local;
use super::nat;
use super::neighbour::Resolution;
use super::network::{Network, NetworkId};
use super::outcome::{DropReason, Probe, Step};
use super::port::PortId;
use super::routes::{Kind, RouteEntry};
use super::rules::{FilterHook, NatHook, RejectWith, States};
use super::time::Instant;
use crate::wire::icmp::Quote;
use crate::wire::icmp::v4::REDIRECT;
use crate::wire::ip::{Addr, Version, protocol};
use crate::wire::packet::{Packet, Transport};

/// Where a packet reached the router.
#[derive(Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub(super) port: PortId,
    pub(super) network: &'a Network,
    pub(super) interface: &'a Interface,
    pub(super) admitted: &'a Admitted,
}

/// What the router will do.
pub(super) enum Routed {
    /// To another network.
    Forward(Forward),
    /// To the gateway itself.
    Deliver,
}

impl Arrival<'_> {
    /// What a container is told when there is no room for its flow (RFC 5508 REQ-8). The outside is not:
    /// who floods us with forged addresses would make us flood others.
    pub(super) fn tells(&self, reason: DropReason) -> Option<Tell> {
        let is_full =
            matches!(reason, DropReason::CtFull | DropReason::CtSourceLimit | DropReason::NatExhausted);
        let is_inside = self.interface.role == Role::Network;
        (is_full && is_inside).then_some(Tell::Error(ErrorKind::AdminProhibited))
    }
}

/// Which flow a packet belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Flow {
    Known(Found, State),
    Related(Found, Quote),
    New(State),
    Untracked,
}

impl Flow {
    /// As rules ask for it (`--ctstate`). A known flow that was not answered yet is new.
    const fn states(self, answered: bool) -> States {
        match self {
            Self::Known(..) if answered => States::ESTABLISHED,
            Self::Known(..) | Self::New(_) => States::NEW,
            Self::Related(..) => States::RELATED,
            Self::Untracked => States::INVALID,
        }
    }
}

/// A packet on its way through all stages.
pub(super) struct Journey<'a> {
    now: Instant,
    at: Arrival<'a>,
    packet: &'a Packet,
    flow: Flow,
    /// The flow that a new one takes the place of.
    replaces: Option<FlowId>,
    states: States,
    /// What the flow makes of the packet's tuple, if it translates.
    translated: Option<Tuple>,
    /// As it came.
    tuple: Tuple,
    /// After PREROUTING: what routes and filter rules see.
    inbound: Tuple,
    /// Whether it is for an address of ours, as far as that was asked.
    pub(super) local: bool,
    /// The nat rules that a first packet met, before and after routing.
    nat: [Trace; 2],
}

impl Switch {
    /// Decides what becomes of a packet that was sent to a gateway.
    #[inline]
    pub(super) fn route(
        &self,
        now: Instant,
        at: Arrival<'_>,
        packet: &Packet,
        plan: &mut Plan,
        probe: &mut impl Probe,
    ) -> Result<Routed, Refusal> {
        let tuple = tuple_of(packet);
        let found = self.conntrack.find(now, &tuple);
        if let Some((found, flow)) = found
            && let Some(forward) = self.remembered(&at, packet, found, flow, plan)
        {
            probe.step(Step::Remembered(found.direction));
            check_ttl(packet)?;
            let egress = self.networks.get(forward.egress.0).ok_or(DropReason::NoRoute)?;
            let cut = Cut::needed(at.admitted, packet, at.interface, egress)?;
            return Ok(Routed::Forward(Forward { cut, ..forward }));
        }
        // Only the gateway itself can have asked there, by the user uplink: nobody else's packet to a
        // loopback address is routed.
        let is_answer = found.is_some_and(|(found, _)| found.direction == Direction::Reply);
        if !(is_answer && packet.source.is_loopback()) {
            self.check_addresses(&at, packet)?;
        }
        let mut journey = self.embark(now, at, packet, tuple, found.map(|(found, _)| found))?;
        self.route_slowly(&mut journey, plan, probe)
    }

    /// Where the packets of a flow go, if its way is still good.
    #[inline]
    fn remembered(
        &self,
        at: &Arrival<'_>,
        packet: &Packet,
        found: Found,
        flow: &conntrack::Flow,
        plan: &mut Plan,
    ) -> Option<Forward> {
        let way = flow.way(found.direction);
        if way.generation != self.changes || way.from != at.network.id {
            return None;
        }
        if flow.state().is_reopened_by(found.direction, packet) {
            return None;
        }
        let (_, mac) = self.neighbours.get(way.neighbour)?;
        plan.tracking = Tracking::Known(found, *flow.state());
        if let Tracking::Known(_, state) = &mut plan.tracking {
            state.advance(found.direction, packet).ok()?;
        }
        plan.passage = Passage::Remembered(way.path);
        if flow.status().is_translated() {
            plan.translation = Translation::Packet(flow.translated(found.direction));
        }
        let resolution = Resolution::Known(way.neighbour, mac);
        // The next hop is not needed any more: its MAC address is known.
        Some(Forward { egress: way.interface, hop: packet.destination, resolution, cut: None })
    }

    /// All stages, for the first packet of a flow and whenever something has changed.
    #[inline(never)]
    fn route_slowly(
        &self,
        journey: &mut Journey<'_>,
        plan: &mut Plan,
        probe: &mut impl Probe,
    ) -> Result<Routed, Refusal> {
        let at = journey.at;
        probe.step(Step::Flow(journey.tuple, journey.states));
        self.prerouting(journey, probe);
        let to = journey.inbound.destination;
        let is_hosts =
            self.is_hosts(&at, to) && to == journey.tuple.destination && matches!(journey.flow, Flow::New(_));
        if is_hosts || to.is_link_local() && local::owns(at.interface, to) {
            journey.local = true;
            return self.deliver(journey, plan, probe);
        }
        let entry = self.routes.lookup(to, at.interface.uplink);
        probe.step(Step::Route(to, entry));
        let Some(entry) = entry else {
            return Err(Refusal::telling(DropReason::NoRoute, ErrorKind::NetUnreachable));
        };
        journey.local = entry.kind == Kind::Local;
        match entry.kind {
            Kind::Local => self.deliver(journey, plan, probe),
            Kind::Broadcast => Err(DropReason::DirectedBroadcast.into()),
            Kind::Connected | Kind::Static => self.forward(journey, &entry, plan, probe).map(Routed::Forward),
        }
    }

    /// RFC 1812 §5.3.7: addresses that no packet may come from, or go to.
    pub(super) fn check_addresses(&self, at: &Arrival<'_>, packet: &Packet) -> Result<(), DropReason> {
        let Packet { source, destination, .. } = *packet;
        if !source.is_host() {
            return Err(DropReason::MartianSource);
        }
        if destination.is_multicast() || destination == Addr::BROADCAST {
            return Err(DropReason::Multicast);
        }
        let is_hosts = at.interface.sockets && destination.is_loopback();
        if !destination.is_host() && !is_hosts {
            return Err(DropReason::MartianDestination);
        }
        match self.routes.lookup(source, None) {
            Some(RouteEntry { kind: Kind::Local | Kind::Broadcast, .. }) => Err(DropReason::MartianSource),
            // The outside must not speak in the name of our networks (RFC 2827).
            Some(RouteEntry { kind: Kind::Connected, interface, .. })
                if at.interface.role == Role::Uplink && self.role(interface) == Some(Role::Network) =>
            {
                Err(DropReason::MartianSource)
            }
            _ => Ok(()),
        }
    }

    fn role(&self, network: NetworkId) -> Option<Role> {
        Some(self.networks.get(network.0)?.interface.as_ref()?.role)
    }

    /// Finds the packet's flow.
    pub(super) fn embark<'a>(
        &self,
        now: Instant,
        at: Arrival<'a>,
        packet: &'a Packet,
        tuple: Tuple,
        found: Option<Found>,
    ) -> Result<Journey<'a>, DropReason> {
        let (flow, replaces) = self.track(now, packet, found)?;
        let (translated, states) = match flow {
            Flow::Known(found, _) | Flow::Related(found, _) => {
                let Some(known) = self.conntrack.flow(found.id) else { return Err(DropReason::CtInvalid) };
                let answered = found.direction == Direction::Reply || known.status().has(Status::SEEN_REPLY);
                let nat = states_of(known.status());
                let translated = (nat != States::default()).then(|| known.translated(found.direction));
                (translated, flow.states(answered).union(nat))
            }
            _ => (None, flow.states(false)),
        };
        let nat = [Trace::default(); 2];
        Ok(Journey {
            now,
            at,
            packet,
            flow,
            replaces,
            states,
            translated,
            tuple,
            inbound: tuple,
            local: false,
            nat,
        })
    }

    /// Which flow the packet belongs to. What belongs to none and can begin none is dropped where
    /// addresses are translated, for it would leave with its inside address.
    fn track(
        &self,
        now: Instant,
        packet: &Packet,
        found: Option<Found>,
    ) -> Result<(Flow, Option<FlowId>), DropReason> {
        let translates = self.rules_of(packet.version).translates();
        let invalid = || if translates { Err(DropReason::CtInvalid) } else { Ok((Flow::Untracked, None)) };
        if let Transport::Error { kind, quote, .. } = packet.payload {
            let found = quoted_tuple(&quote).and_then(|quoted| self.conntrack.lookup(now, &quoted.invert()));
            let flow = found.and_then(|found| Some((found, self.conntrack.flow(found.id)?)));
            // A redirect names a router, which nobody behind a translation knows.
            let is_redirect = packet.version == Version::V4 && kind == REDIRECT;
            return match flow {
                Some((_, flow)) if is_redirect && flow.status().is_translated() => invalid(),
                Some((found, _)) => Ok((Flow::Related(found, quote), None)),
                None => invalid(),
            };
        }
        let known = found.and_then(|found| Some((found, self.conntrack.flow(found.id)?)));
        let first = || State::first(packet).map(Flow::New);
        match known {
            None => first().map_or_else(invalid, |flow| Ok((flow, None))),
            // As in Linux: it is no packet of the connection that has ended, and is judged anew.
            Some((found, flow)) if flow.state().is_reopened_by(found.direction, packet) => {
                first().map_or_else(invalid, |flow| Ok((flow, Some(found.id))))
            }
            Some((found, flow)) => match flow.state().next(found.direction, packet) {
                Ok(state) => Ok((Flow::Known(found, state), None)),
                Err(_) => invalid(),
            },
        }
    }

    /// Translates the destination: as the flow does, or by the nat rules for its first packet.
    fn prerouting(&self, journey: &mut Journey<'_>, probe: &mut impl Probe) {
        match (journey.flow, journey.translated) {
            (Flow::Known(..), Some(to)) => {
                journey.inbound.destination = to.destination;
                journey.inbound.destination_port = to.destination_port;
            }
            (Flow::Related(found, _), Some(to)) => {
                let meant = self.conntrack.flow(found.id).map(|flow| flow.tuple(found.direction).destination);
                if meant == Some(journey.tuple.destination) {
                    journey.inbound.destination = to.destination;
                }
            }
            (Flow::New(_), _) => {
                journey.local = self.is_own(&journey.at, journey.tuple.destination);
                let subject = journey.subject(None);
                let rules = self.rules_of(journey.packet.version);
                let verdict = rules.nat(NatHook::Prerouting, &subject, &mut journey.nat[0]);
                if let Some(filter::Translation::Destination { to, port }) = verdict {
                    journey.inbound.destination = to;
                    journey.inbound.destination_port = port.unwrap_or(journey.inbound.destination_port);
                    journey.states = journey.states.union(States::DNAT);
                }
                probe.step(Step::Nat(NatHook::Prerouting, journey.nat[0], journey.inbound));
            }
            _ => {}
        }
    }

    /// To the gateway itself: filter INPUT.
    fn deliver(
        &self,
        journey: &Journey<'_>,
        plan: &mut Plan,
        probe: &mut impl Probe,
    ) -> Result<Routed, Refusal> {
        self.filter(FilterHook::Input, journey, None, plan, probe)?;
        self.plan_tracking(journey, &journey.inbound, plan)?;
        Ok(Routed::Deliver)
    }

    /// Through us: may it be forwarded, does it fit, do the rules let it pass, and to whom?
    fn forward(
        &self,
        journey: &mut Journey<'_>,
        entry: &RouteEntry,
        plan: &mut Plan,
        probe: &mut impl Probe,
    ) -> Result<Forward, Refusal> {
        let egress = self.networks.get(entry.interface.0).ok_or(DropReason::NoRoute)?;
        let interface = egress.interface.as_ref().ok_or(DropReason::NoRoute)?;
        self.may_forward(journey, interface)?;
        check_ttl(journey.packet)?;
        let cut = Cut::needed(journey.at.admitted, journey.packet, journey.at.interface, egress)?;
        self.filter(FilterHook::Forward, journey, Some(egress.id), plan, probe)?;
        let hop = entry.via.unwrap_or(journey.inbound.destination);
        let outbound = self.postrouting(journey, egress.id, interface, hop, probe)?;
        self.plan_tracking(journey, &outbound, plan)?;
        let resolution = self.neighbours.resolve(journey.now, egress.id, hop, journey.at.port);
        probe.step(Step::Neighbour(hop, resolution));
        if let Resolution::Fail(reason) = resolution {
            return Err(Refusal::telling(reason, ErrorKind::HostUnreachable));
        }
        plan.translation = journey.translation(&outbound);
        Ok(Forward { egress: egress.id, hop, resolution, cut })
    }

    fn may_forward(&self, journey: &Journey<'_>, to: &Interface) -> Result<(), DropReason> {
        let from = journey.at.interface;
        if !(self.settings.forwards(journey.packet.version) && from.forward && to.forward) {
            return Err(DropReason::ForwardingOff);
        }
        // Neither may leave its link (RFC 3927 §7, RFC 4291 §2.5.6).
        if journey.inbound.destination.is_link_local() {
            return Err(DropReason::MartianDestination);
        }
        if journey.packet.source.is_link_local() { Err(DropReason::MartianSource) } else { Ok(()) }
    }

    /// Walks a chain of the filter table. Who is refused is counted at the rules he met, too.
    pub(super) fn filter(
        &self,
        hook: FilterHook,
        journey: &Journey<'_>,
        output: Option<NetworkId>,
        plan: &mut Plan,
        probe: &mut impl Probe,
    ) -> Result<(), Refusal> {
        let mut trace = Trace::default();
        let subject = journey.subject(output);
        let verdict = self.rules_of(journey.packet.version).filter(hook, &subject, &mut trace);
        probe.step(Step::Filter(hook, trace, verdict));
        plan.passage = Passage::Traced(trace);
        if verdict != FilterVerdict::Accept {
            plan.action = Action::Refused;
            plan.tracking = journey.unkept();
        }
        match verdict {
            FilterVerdict::Accept => Ok(()),
            FilterVerdict::Drop(reason) => Err(reason.into()),
            FilterVerdict::Reject(with) => {
                let is_tcp = matches!(journey.packet.payload, Transport::Tcp(_));
                let tell = match with {
                    RejectWith::TcpReset if is_tcp => Tell::Reset,
                    _ => Tell::Error(ErrorKind::PortUnreachable),
                };
                Err(Refusal { reason: DropReason::Rejected, tell: Some(tell) })
            }
        }
    }

    /// Translates the source: as the flow does, or by the nat rules for its first packet. A flow
    /// that no rule translates may still need another source port: when a translated one has its name.
    fn postrouting(
        &self,
        journey: &mut Journey<'_>,
        egress: NetworkId,
        interface: &Interface,
        hop: Addr,
        probe: &mut impl Probe,
    ) -> Result<Tuple, DropReason> {
        if !matches!(journey.flow, Flow::New(_)) {
            return Ok(journey.translated.unwrap_or(journey.inbound));
        }
        let subject = journey.subject(Some(egress));
        let rules = self.rules_of(journey.packet.version);
        let wanted = match rules.nat(NatHook::Postrouting, &subject, &mut journey.nat[1]) {
            Some(filter::Translation::Masquerade { ports }) => {
                // An interface without an address of that version can lend none.
                Some((local::source_for(interface, hop).ok_or(DropReason::NatExhausted)?, ports))
            }
            Some(filter::Translation::Source { to, ports }) => Some((to, ports)),
            _ => None,
        };
        let outbound = match wanted {
            Some((to, ports)) => nat::translate_source(
                &self.conntrack,
                journey.now,
                &journey.inbound,
                to,
                ports,
                journey.replaces,
            )?,
            None if self.conntrack.lookup(journey.now, &journey.inbound.invert()).is_none() => {
                journey.inbound
            }
            None => {
                let own = journey.inbound.source;
                nat::translate_source(
                    &self.conntrack,
                    journey.now,
                    &journey.inbound,
                    own,
                    None,
                    journey.replaces,
                )?
            }
        };
        probe.step(Step::Nat(NatHook::Postrouting, journey.nat[1], outbound));
        Ok(outbound)
    }

    /// What conntrack will be told, when the packet leaves with the tuple `outbound`.
    pub(super) fn plan_tracking(
        &self,
        journey: &Journey<'_>,
        outbound: &Tuple,
        plan: &mut Plan,
    ) -> Result<(), DropReason> {
        let state = match journey.flow {
            Flow::New(state) => state,
            Flow::Known(found, state) => {
                plan.tracking = Tracking::Known(found, state);
                return Ok(());
            }
            Flow::Related(..) | Flow::Untracked => {
                plan.tracking = Tracking::None;
                return Ok(());
            }
        };
        let owner = journey.at.port;
        // Who is outside shares the uplink's port with all others there.
        let source = match journey.at.interface.role {
            Role::Network => Source::Port,
            Role::Uplink => Source::Address(journey.tuple.source),
        };
        let replaces = journey.replaces;
        // Who takes another's place needs no room.
        let room = if replaces.is_some() { Room(None) } else { self.conntrack.room(owner, source)? };
        let status = translation_of(&journey.tuple, outbound);
        let first = self.update(state, bytes_of(journey.packet));
        let flow = NewFlow {
            original: journey.tuple,
            reply: outbound.invert(),
            status,
            owner,
            source,
            first,
            replaces,
        };
        plan.tracking = Tracking::New(flow, room, journey.nat);
        Ok(())
    }

    /// Whether an address is one of ours, wherever, or link-local here.
    pub(super) fn is_own(&self, at: &Arrival<'_>, address: Addr) -> bool {
        let entry = self.routes.lookup(address, None);
        let is_local = entry.is_some_and(|entry| entry.kind == Kind::Local);
        is_local || self.is_hosts(at, address) || local::owns(at.interface, address)
    }

    /// Whether what comes in for an address was sent to the host, whose socket took it. What is for a network
    /// of ours comes from a proxy, and is for whom it says.
    fn is_hosts(&self, at: &Arrival<'_>, address: Addr) -> bool {
        at.interface.sockets
            && !self.routes.lookup(address, None).is_some_and(|entry| {
                entry.kind == Kind::Connected && self.role(entry.interface) == Some(Role::Network)
            })
    }
}

impl Journey<'_> {
    /// The packet as rules see it.
    fn subject(&self, output: Option<NetworkId>) -> Subject {
        let interfaces = (Some(self.at.network.id), output);
        subject(self.packet, &self.inbound, interfaces, self.states, self.local)
    }

    /// What there is to be counted of a packet whose flow is not kept.
    fn unkept(&self) -> Tracking {
        match self.flow {
            Flow::New(_) => Tracking::Unkept(self.nat),
            _ => Tracking::None,
        }
    }

    /// How the packet must change to leave with the tuple `outbound`.
    fn translation(&self, outbound: &Tuple) -> Translation {
        match self.flow {
            Flow::Related(_, quote) if self.translated.is_some() => {
                // The flow's packets in this direction get this source; so does who speaks about them,
                // if they get another than their own.
                let source = if quote.destination == self.tuple.source || quote.destination != outbound.source
                {
                    outbound.source
                } else {
                    self.tuple.source
                };
                Translation::Error(quote, (source, self.inbound.destination), outbound.invert())
            }
            _ if *outbound == self.tuple => Translation::None,
            _ => Translation::Packet(*outbound),
        }
    }
}

/// How a flow is translated whose first packet came with one tuple and leaves with another.
fn translation_of(came: &Tuple, leaves: &Tuple) -> Status {
    // The identifier of an ICMP query, which is both of its ports, is its source's.
    let is_query = matches!(came.protocol, protocol::ICMP | protocol::ICMPV6);
    let destination_port = |tuple: &Tuple| if is_query { 0 } else { tuple.destination_port };
    let ends =
        |tuple: &Tuple| [(tuple.source, tuple.source_port), (tuple.destination, destination_port(tuple))];
    let [source, destination] = ends(came);
    let [new_source, new_destination] = ends(leaves);
    let none = Status::default();
    let status = if source == new_source { none } else { none.with(Status::SNAT) };
    if destination == new_destination { status } else { status.with(Status::DNAT) }
}

/// The translation of a flow, as rules ask for it.
fn states_of(status: Status) -> States {
    let of = |bit, state| if status.has(bit) { state } else { States::default() };
    of(Status::SNAT, States::SNAT).union(of(Status::DNAT, States::DNAT))
}

/// The packet's flow tuple.
#[inline]
pub(super) fn tuple_of(packet: &Packet) -> Tuple {
    let (source_port, destination_port) = packet.ports().unwrap_or((0, 0));
    let Packet { source, destination, protocol, .. } = *packet;
    Tuple { source, destination, source_port, destination_port, protocol }
}

/// A packet with these addresses and ports as rules see it, between these interfaces.
pub(super) fn subject(
    packet: &Packet,
    tuple: &Tuple,
    (input, output): (Option<NetworkId>, Option<NetworkId>),
    states: States,
    local: bool,
) -> Subject {
    let has_ports = matches!(tuple.protocol, protocol::TCP | protocol::UDP)
        && !matches!(packet.payload, Transport::Icmp { .. } | Transport::Error { .. });
    Subject {
        input,
        output,
        source: tuple.source,
        destination: tuple.destination,
        protocol: tuple.protocol,
        ports: has_ports.then_some((tuple.source_port, tuple.destination_port)),
        states,
        local,
    }
}

/// Bytes of a packet as IP counts them, and as rules and flows do.
#[inline]
pub(super) const fn bytes_of(packet: &Packet) -> u64 {
    (packet.end - packet.start) as u64
}

/// The flow tuple of a quoted packet.
fn quoted_tuple(quote: &Quote) -> Option<Tuple> {
    let (source_port, destination_port) = quote.ports?;
    let Quote { source, destination, protocol, .. } = *quote;
    Some(Tuple { source, destination, source_port, destination_port, protocol })
}

/// RFC 1812 §5.3.1: a packet whose time is up is not forwarded.
#[inline]
fn check_ttl(packet: &Packet) -> Result<(), Refusal> {
    if packet.ttl > 1 {
        return Ok(());
    }
    Err(Refusal::telling(DropReason::TtlExceeded, ErrorKind::TimeExceeded))
}
