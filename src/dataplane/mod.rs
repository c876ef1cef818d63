//! The switch: bytes in, bytes out. **This is the file to read.**
//!
//! ```text
//!  Switch::input(now, port, frame, out, probe)
//!     │  decide(&self)    bridge::admit    is it a frame, may it enter?       ──▶ drop(reason)
//!     │                   fdb.learn        what does its source teach?
//!     │                   bridge::forward  to a port, flood, or drop(reason)?
//!     │                   to_gateway       its own MAC: answer, or route (see `router`)
//!     │  commit(&mut self)                 count, learn, out.send(port, frame) for each egress port
//!     │                   act              conntrack, rewriting, answers (see `forward`, `gateway`)
//!     ▼
//!  Verdict
//! ```
//!
//! Nothing here performs I/O, reads a clock, draws a random number or iterates an
//! unordered map where it could be seen: the same inputs give the same bytes out on
//! any machine. Time and seeds are arguments; configuration changes only by
//! [`Switch::apply`]; [`Switch::poll_timeout`] and [`Switch::handle_timeout`] are
//! the whole timer API.
//!
//! Deciding changes nothing. Whoever wants to know what *would* happen to a frame
//! calls [`Switch::decide`] with a recording [`Probe`] and stops there, and can never
//! get another answer than the frame would.

mod ahead;
mod answers;
mod bridge;
pub mod change;
pub mod conntrack;
pub mod counters;
mod cutting;
pub mod decision;
pub mod dns;
pub mod fdb;
pub mod filter;
mod forward;
pub mod fragmenting;
pub mod frame;
mod gateway;
pub mod icmp_error;
pub mod interface;
pub mod local;
pub mod nat;
pub mod neighbour;
pub mod network;
mod originate;
pub mod outcome;
pub mod port;
pub mod preview;
pub mod reassembly;
pub mod rewrite;
pub mod router;
pub mod routes;
pub mod rules;
pub mod settings;
pub mod storm;
pub mod table;
pub mod time;
mod views;

pub use change::{Change, Rejected};
pub use counters::{Counters, Traffic};
pub use decision::Decision;
pub use frame::Frame;
pub use interface::{Interface, InterfaceAddress, MssClamp, Role, Route};
pub use network::{Network, NetworkConfig, NetworkId};
pub use outcome::{DropReason, Learned, Probe, Step, Verdict};
pub use port::{Port, PortId};
pub use rules::Ruleset;
pub use settings::Settings;
pub use time::Instant;

use crate::wire::Offload;
use crate::wire::ip::Version;
use bridge::{Admitted, Ingress};
use conntrack::Conntrack;
use decision::{Action, Refusal};
use dns::Dns;
use fdb::Lesson;
use filter::Rules;
use forward::Leaving;
use gateway::overhear;
use neighbour::Neighbours;
use reassembly::Reassembly;
use routes::Routes;
use table::Table;

/// Flows looked at in one go when they expire: far less than a millisecond's work.
const SLICE: usize = 1024;

/// Where frames leave the switch. Called during [`Switch::input`] and [`Switch::handle_timeout`];
/// frames leave in the order of the calls. A flooded frame is sent in the order of port numbers.
pub trait Egress {
    /// Sends `frame`, the one that is being processed, by a port, as its bytes are when
    /// [`Switch::input`] returns: what is rewritten is rewritten before it is sent.
    fn send(&mut self, to: PortId, frame: &Frame);

    /// Sends a frame that the switch made itself or had held back: an ARP reply, an ICMP error, a
    /// fragment, a packet whose neighbour is known at last. The bytes are copied.
    fn emit(&mut self, to: PortId, bytes: &[u8], offload: Offload);

    /// Shows a frame that the switch had held back and now drops, to whoever watches drops; `from` is the
    /// port it came by, where that is counted.
    fn discard(&mut self, from: PortId, bytes: &[u8], offload: Offload, reason: DropReason) {
        let _ = (from, bytes, offload, reason);
    }
}

/// A switch: networks, their ports, and everything they have learned.
#[derive(Debug)]
pub struct Switch {
    networks: Table<Network>,
    ports: Table<Port>,
    routes: Routes,
    neighbours: Neighbours,
    conntrack: Conntrack,
    reassembly: Reassembly,
    dns: Dns,
    /// Of IPv4 and of IPv6.
    rules: [Rules; 2],
    settings: Settings,
    /// How often the configuration has changed: what was remembered before is void.
    changes: u32,
    seed: u64,
    /// No fdb entry expires before this.
    wake: Option<Instant>,
    /// No gateway has something to announce or advertise before this.
    gateways: Option<Instant>,
    /// Where packets go on that came in fragments.
    spare: Frame,
    /// Where frames of the gateway's own are built.
    scratch: Vec<u8>,
    /// Where packets are cut.
    pieces: fragmenting::Buffers,
    /// Names the fragments of the gateway's own packets.
    fragment_id: u32,
}

impl Switch {
    /// An empty switch. `seed` keys its hash tables: random in production, fixed in tests.
    pub fn new(seed: u64) -> Self {
        Self {
            networks: Table::default(),
            ports: Table::default(),
            routes: Routes::new(seed),
            neighbours: Neighbours::new(neighbour::Limits::default(), seed),
            conntrack: Conntrack::new(seed),
            reassembly: Reassembly::default(),
            dns: Dns::new(seed),
            rules: [Rules::default(), Rules::default()],
            settings: Settings::default(),
            changes: 0,
            seed,
            wake: None,
            gateways: None,
            spare: Frame::new(),
            scratch: Vec::new(),
            pieces: fragmenting::Buffers::default(),
            fragment_id: 0,
        }
    }

    /// Takes a frame in by a port, and sends it on; what is routed or translated is rewritten in place.
    ///
    /// The verdict says what became of it; it is already counted. A frame from a port
    /// that the switch does not have is dropped uncounted, as [`DropReason::PortDown`].
    #[inline]
    pub fn input(
        &mut self,
        now: Instant,
        from: PortId,
        frame: &mut Frame,
        out: &mut impl Egress,
        probe: &mut impl Probe,
    ) -> Verdict {
        let mut decision = Decision::default();
        self.decide_into(&mut decision, now, from, frame, probe);
        self.commit(now, from, frame, &decision, out);
        decision.verdict
    }

    /// Decides what [`input`](Self::input) would do with a frame, telling `probe` each step. Changes nothing.
    pub fn decide(&self, now: Instant, from: PortId, frame: &Frame, probe: &mut impl Probe) -> Decision {
        let mut decision = Decision::default();
        self.decide_into(&mut decision, now, from, frame, probe);
        decision
    }

    #[inline]
    fn decide_into(
        &self,
        decision: &mut Decision,
        now: Instant,
        from: PortId,
        frame: &Frame,
        probe: &mut impl Probe,
    ) {
        let bytes = frame.bytes();
        (decision.len, decision.segments) = (bytes.len(), frame.offload.segments(bytes));
        probe.step(Step::Received { port: from, len: decision.len, segments: decision.segments });
        let outcome = match self.admit(from, frame, bytes) {
            Err(reason) => Err(reason.into()),
            Ok((port, network, admitted)) => {
                let header = &admitted.header;
                probe.step(header.step());
                let lesson = network.fdb.learn(now, header.source, from);
                probe.step(Step::Learn(lesson.into()));
                // A frame may teach the bridge something and yet be dropped.
                decision.lesson = Some((header.source, lesson));
                let ingress = Ingress { id: from, port, network, admitted: &admitted, lesson };
                self.dispatch(now, ingress, frame, decision, probe)
            }
        };
        decision.verdict = outcome.unwrap_or_else(|refusal| Verdict::Drop(refusal.reason));
        probe.step(Step::Verdict(decision.verdict));
    }

    /// Whose frame this is, and its header, if it may enter.
    #[inline]
    fn admit(
        &self,
        from: PortId,
        frame: &Frame,
        bytes: &[u8],
    ) -> Result<(&Port, &Network, Admitted), DropReason> {
        let port = self.ports.get(from.0).ok_or(DropReason::PortDown)?;
        let network = self.networks.get(port.network.0).ok_or(DropReason::PortDown)?;
        let admitted = bridge::admit(port, network, bytes, &frame.offload)?;
        Ok((port, network, admitted))
    }

    /// To the gateway, or to other ports of the bridge; what is for all is for both.
    #[inline]
    fn dispatch(
        &self,
        now: Instant,
        from: Ingress<'_>,
        frame: &Frame,
        decision: &mut Decision,
        probe: &mut impl Probe,
    ) -> Result<Verdict, Refusal> {
        let header = &from.admitted.header;
        let Some(interface) = &from.network.interface else {
            return Ok(bridge::forward(now, &from, &self.ports, probe)?);
        };
        if header.destination == interface.mac {
            return self.to_gateway(now, &from, interface, frame, decision, probe);
        }
        let bridged = bridge::forward(now, &from, &self.ports, probe);
        if gateway::speaks_of_addresses(header, frame.bytes())
            && let Some(heard) = overhear(&from, interface, frame)
        {
            let verdict = match bridged {
                // Who speaks in the gateway's name is contradicted, and nobody else hears it.
                _ if heard.conflict.is_some() => Verdict::Drop(DropReason::MartianSource),
                Err(DropReason::NoListener | DropReason::Icc) => Verdict::Local,
                other => other?,
            };
            decision.plan.action = Action::Hear(heard);
            return Ok(verdict);
        }
        // Where rules are asked they decide about pings to all as well, and the gateway keeps out of it.
        if interface.filter_bridged {
            decision.verdict = bridged?;
            return self.filter_bridged(now, &from, interface, frame, decision, probe);
        }
        if header.destination.is_group()
            && let Some((packet, source)) = gateway::pings_a_group(&from, interface, frame)
        {
            let verdict = match bridged {
                Err(DropReason::NoListener | DropReason::Icc) => Verdict::Local,
                other => other?,
            };
            decision.packet = Some(packet);
            decision.plan.action = Action::Echo(source);
            return Ok(verdict);
        }
        Ok(bridged?)
    }

    /// Carries a decision out: counts, learns, rewrites, sends.
    #[inline]
    fn commit(
        &mut self,
        now: Instant,
        from: PortId,
        frame: &mut Frame,
        decision: &Decision,
        out: &mut impl Egress,
    ) {
        let Some(port) = self.ports.get_mut(from.0) else { return };
        let Some(network) = self.networks.get_mut(port.network.0) else { return };
        let Decision { len, segments, verdict, .. } = *decision;
        port.counters.rx.count(len, segments);
        if let Some((source, lesson)) = decision.lesson {
            network.fdb.commit(now, source, from, lesson);
            if lesson == Lesson::New {
                let expiry = now + network.config.fdb.ageing;
                self.wake = Some(self.wake.map_or(expiry, |wake| wake.min(expiry)));
            }
        }
        match verdict {
            Verdict::Drop(reason) => {
                port.counters.drops[reason] += 1;
                self.conntrack.count_refused(reason);
            }
            Verdict::ToPort(to) => {
                if let Some(egress) = self.ports.get_mut(to.0) {
                    egress.counters.tx.count(len, segments);
                    out.send(to, frame);
                }
            }
            Verdict::Flood(_) if !matches!(decision.plan.action, Action::Forward(_)) => {
                port.storm.take(now, network.config.flood_limit);
                for to in &network.ports {
                    if bridge::should_deliver(from, *to, &self.ports) {
                        if let Some(egress) = self.ports.get_mut(to.0) {
                            egress.counters.tx.count(len, segments);
                        }
                        out.send(*to, frame);
                    }
                }
            }
            // The rest is for the router to carry out.
            _ => {}
        }
        if !matches!(decision.plan.action, Action::None) {
            self.act(now, from, frame, decision, out);
        }
    }

    /// Carries out what a frame makes the switch do, but for bridging it.
    fn act(
        &mut self,
        now: Instant,
        from: PortId,
        frame: &mut Frame,
        decision: &Decision,
        out: &mut impl Egress,
    ) {
        let plan = &decision.plan;
        match (&plan.action, &decision.packet) {
            (Action::Hear(heard), _) => self.commit_heard(now, from, heard, out),
            (Action::Refused, Some(packet)) => self.count_refused(packet, plan),
            (Action::Tell(tell), Some(packet)) => {
                self.count_refused(packet, plan);
                self.commit_tell(now, from, frame, packet, *tell, out);
            }
            (Action::Echo(source), Some(packet)) => self.commit_echo(now, from, frame, packet, *source, out),
            (Action::Collect, Some(packet)) => self.collect(now, from, frame, packet, out),
            (Action::Filtered, Some(packet)) => {
                self.commit_tracking(now, packet, &plan.tracking);
                self.count_passage(packet, &plan.passage);
            }
            (Action::Deliver, Some(packet)) => self.commit_delivery(now, from, frame, packet, plan, out),
            (Action::Names(service), Some(packet)) => {
                self.commit_service(now, from, frame, (packet, plan), *service, out);
            }
            (Action::Forward(forward), Some(packet)) => {
                let leaving = Leaving { packet, plan, forward };
                self.commit_forward(now, from, frame, leaving, decision.verdict, out);
            }
            _ => {}
        }
    }

    /// Tells the switch that a frame it sent could not be delivered after all, and why.
    /// It is taken back from the port's `tx` and counted as a drop there.
    pub fn undelivered(&mut self, to: PortId, frame: &Frame, reason: DropReason) {
        self.unsent(to, frame.bytes().len(), frame.offload.segments(frame.bytes()), reason);
    }

    /// The same for a frame of which only the length and the number of segments are left.
    pub fn unsent(&mut self, to: PortId, len: usize, segments: u32, reason: DropReason) {
        if let Some(port) = self.ports.get_mut(to.0) {
            port.counters.tx.take_back(len, segments);
            port.counters.drops[reason] += 1;
        }
    }

    /// The same for frames that there was no room to keep until they could be sent.
    pub fn undelivered_all(&mut self, to: PortId, lost: Traffic, reason: DropReason) {
        if let Some(port) = self.ports.get_mut(to.0) {
            port.counters.tx.subtract(&lost);
            port.counters.drops[reason] += lost.frames;
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due. Ask again after each call of
    /// `input`, `apply` and `handle_timeout`; the answer may be early, never late.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let tables = [
            self.wake,
            self.conntrack.next_expiry(),
            self.neighbours.next_timeout(),
            self.reassembly.next_timeout(),
            self.dns.next_timeout(),
        ];
        tables.into_iter().chain([self.gateways]).flatten().min()
    }

    /// Does what time has brought: entries age out, neighbours are asked for, routers advertised.
    /// Calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut impl Egress) {
        self.expire(now);
        self.reassembly.handle_timeout(now);
        self.settle_given_up(now, out);
        self.neighbours.handle_timeout(now);
        self.run_neighbour_events(now, out);
        self.run_names(now, out);
        if self.gateways.is_some_and(|due| due <= now) {
            self.run_gateways(now, out);
        }
    }

    /// Entries age out. Sends nothing.
    fn expire(&mut self, now: Instant) {
        if self.wake.is_some_and(|wake| wake <= now) {
            for (_, network) in self.networks.iter_mut() {
                network.fdb.expire(now);
            }
            self.wake = self.next_expiry();
        }
        self.conntrack.expire(now, SLICE);
    }

    fn next_expiry(&self) -> Option<Instant> {
        self.networks.iter().filter_map(|(_, network)| network.fdb.next_expiry()).min()
    }

    /// The gateway of a network, if it has one.
    pub fn interface(&self, id: NetworkId) -> Option<&Interface> {
        self.networks.get(id.0)?.interface.as_ref()
    }

    #[inline]
    fn rules_of(&self, version: Version) -> &Rules {
        &self.rules[version as usize]
    }

    /// A port, to be shown.
    pub fn port(&self, id: PortId) -> Option<&Port> {
        self.ports.get(id.0)
    }

    /// All ports, in ascending order.
    pub fn ports(&self) -> impl Iterator<Item = (PortId, &Port)> {
        self.ports.iter().map(|(id, port)| (PortId(id), port))
    }

    /// A network, to be shown.
    pub fn network(&self, id: NetworkId) -> Option<&Network> {
        self.networks.get(id.0)
    }

    /// What a network has seen: the sum over its ports, those that are gone included.
    pub fn network_counters(&self, id: NetworkId) -> Option<Counters> {
        let network = self.networks.get(id.0)?;
        let mut total = network.departed;
        network.ports.iter().filter_map(|port| self.port(*port)).for_each(|port| total.add(&port.counters));
        Some(total)
    }
}

impl From<Lesson> for Learned {
    fn from(lesson: Lesson) -> Self {
        match lesson {
            Lesson::Known => Self::Known,
            Lesson::Static => Self::Static,
            Lesson::Off => Self::Off,
            Lesson::Refresh(_) => Self::Refreshed,
            Lesson::Move(_, from) => Self::Moved(from),
            Lesson::New => Self::New,
        }
    }
}
