//! The switch: bytes in, bytes out. **This is the file to read.**
//!
//! ```text
//!  Switch::input(now, port, frame, out, probe)
//!     │  decide(&self)    bridge::admit    is it a frame, may it enter?       ──▶ drop(reason)
//!     │                   fdb.learn        what does its source teach?
//!     │                   bridge::forward  to a port, flood, or drop(reason)?
//!     │  commit(&mut self)                 count, learn, out.send(port, frame) for each egress port
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

mod bridge;
pub mod change;
pub mod counters;
pub mod fdb;
pub mod frame;
pub mod network;
pub mod outcome;
pub mod port;
pub mod storm;
pub mod table;
pub mod time;

pub use change::{Change, Rejected};
pub use counters::Counters;
pub use frame::Frame;
pub use network::{Network, NetworkConfig, NetworkId};
pub use outcome::{DropReason, Learned, Probe, Step, Verdict};
pub use port::{Port, PortId};
pub use time::Instant;

use crate::wire::MacAddr;
use crate::wire::ethernet::Header;
use bridge::Ingress;
use fdb::Lesson;
use table::Table;

/// Where frames leave the switch. Called during [`Switch::input`], in the order of port numbers.
pub trait Egress {
    /// Sends `frame`, the one that is being processed, by a port.
    fn send(&mut self, to: PortId, frame: &Frame);
}

/// What will be done with a frame; see [`Switch::decide`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Where it goes.
    pub verdict: Verdict,
    /// Its source address and what that teaches; `None` when it was not admitted.
    lesson: Option<(MacAddr, Lesson)>,
    /// Bytes of the frame.
    len: usize,
    /// Frames on the wire that it stands for.
    segments: u32,
}

/// A switch: networks, their ports, and everything they have learned.
#[derive(Debug, Default)]
pub struct Switch {
    networks: Table<Network>,
    ports: Table<Port>,
    seed: u64,
    /// No entry expires before this.
    wake: Option<Instant>,
}

impl Switch {
    /// An empty switch. `seed` keys its hash tables: random in production, fixed in tests.
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Takes a frame in by a port, and sends it on.
    ///
    /// The verdict says what became of it; it is already counted. A frame from a port
    /// that the switch does not have is dropped uncounted, as [`DropReason::PortDown`].
    #[inline]
    pub fn input(
        &mut self,
        now: Instant,
        from: PortId,
        frame: &Frame,
        out: &mut impl Egress,
        probe: &mut impl Probe,
    ) -> Verdict {
        let decision = self.decide(now, from, frame, probe);
        self.commit(now, from, frame, &decision, out);
        decision.verdict
    }

    /// Decides what [`input`](Self::input) would do with a frame, telling `probe` each step. Changes nothing.
    #[inline]
    pub fn decide(&self, now: Instant, from: PortId, frame: &Frame, probe: &mut impl Probe) -> Decision {
        let bytes = frame.bytes();
        let (len, segments) = (bytes.len(), frame.offload.segments(bytes));
        probe.step(Step::Received { port: from, len, segments });
        let (verdict, lesson) = match self.admit(from, frame, bytes) {
            Err(reason) => (Verdict::Drop(reason), None),
            Ok((port, network, header)) => {
                probe.step(header.step());
                let lesson = network.fdb.learn(now, header.source, from);
                probe.step(Step::Learn(lesson.into()));
                // A frame may teach the bridge something and yet be dropped.
                let ingress = Ingress { id: from, port, lesson };
                let way = bridge::forward(now, ingress, network, &self.ports, &header, probe);
                (way.unwrap_or_else(Verdict::Drop), Some((header.source, lesson)))
            }
        };
        probe.step(Step::Verdict(verdict));
        Decision { verdict, lesson, len, segments }
    }

    /// Whose frame this is, and its header, if it may enter.
    #[inline]
    fn admit(
        &self,
        from: PortId,
        frame: &Frame,
        bytes: &[u8],
    ) -> Result<(&Port, &Network, Header), DropReason> {
        let port = self.ports.get(from.0).ok_or(DropReason::PortDown)?;
        let network = self.networks.get(port.network.0).ok_or(DropReason::PortDown)?;
        let header = bridge::admit(port, network, bytes, &frame.offload)?;
        Ok((port, network, header))
    }

    /// Carries a decision out: counts, learns, sends.
    #[inline]
    fn commit(
        &mut self,
        now: Instant,
        from: PortId,
        frame: &Frame,
        decision: &Decision,
        out: &mut impl Egress,
    ) {
        let Some(port) = self.ports.get_mut(from.0) else { return };
        let Some(network) = self.networks.get_mut(port.network.0) else { return };
        let Decision { len, segments, .. } = *decision;
        port.counters.rx.count(len, segments);
        if let Some((source, lesson)) = decision.lesson {
            network.fdb.commit(now, source, from, lesson);
            if lesson == Lesson::New {
                let expiry = now + network.config.fdb.ageing;
                self.wake = Some(self.wake.map_or(expiry, |wake| wake.min(expiry)));
            }
        }
        match decision.verdict {
            Verdict::Drop(reason) => port.counters.drops[reason.index()] += 1,
            Verdict::ToPort(to) => {
                if let Some(egress) = self.ports.get_mut(to.0) {
                    egress.counters.tx.count(len, segments);
                    out.send(to, frame);
                }
            }
            Verdict::Flood(_) => {
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
        }
    }

    /// Tells the switch that a frame it sent could not be delivered after all, and why.
    /// It is taken back from the port's `tx` and counted as a drop there.
    pub fn undelivered(&mut self, to: PortId, frame: &Frame, reason: DropReason) {
        if let Some(port) = self.ports.get_mut(to.0) {
            port.counters.tx.take_back(frame.bytes().len(), frame.offload.segments(frame.bytes()));
            port.counters.drops[reason.index()] += 1;
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due. Ask again after each call of
    /// `input`, `apply` and `handle_timeout`; the answer may be early, never late.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.wake
    }

    /// Does what time has brought: fdb entries age out. Calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.wake.is_some_and(|wake| wake <= now) {
            self.expire(now);
        }
    }

    fn expire(&mut self, now: Instant) {
        for (_, network) in self.networks.iter_mut() {
            network.fdb.expire(now);
        }
        self.wake = self.next_expiry();
    }

    fn next_expiry(&self) -> Option<Instant> {
        self.networks.iter().filter_map(|(_, network)| network.fdb.next_expiry()).min()
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
