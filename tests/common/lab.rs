//! A switch with a virtual clock, whose every counter is watched.

use std::collections::BTreeMap;
use std::time::Duration;

use tapswitch::dataplane::fdb::FdbEntry;
use tapswitch::dataplane::{
    Change, Counters, DropReason, Egress, Frame, Instant, NetworkConfig, NetworkId, PortId, Rejected, Step,
    Switch, Verdict,
};
use tapswitch::wire::Offload;

/// A lab's networks have numbers below this.
const NETWORKS: u32 = 8;

/// A frame that left the switch: by which port, its bytes, and what is still to be done to it.
pub(crate) type Sent = (u32, Vec<u8>, Offload);

/// Keeps what leaves the switch.
#[derive(Default)]
pub(crate) struct Recorder(pub(crate) Vec<Sent>);

impl Egress for Recorder {
    fn send(&mut self, to: PortId, frame: &Frame) {
        self.0.push((to.0, frame.bytes().to_vec(), frame.offload));
    }
}

/// To the port with this number.
pub(crate) fn to(port: u32) -> Verdict {
    Verdict::ToPort(PortId(port))
}

/// To everybody on the network with this number.
pub(crate) fn flood(network: u32) -> Verdict {
    Verdict::Flood(NetworkId(network))
}

/// To nobody.
pub(crate) fn dropped(reason: DropReason) -> Verdict {
    Verdict::Drop(reason)
}

/// One counter that goes up by what the frame at hand is worth.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Count {
    /// Into the switch by this port: frames, bytes, segments.
    Rx(u32),
    /// Out of the switch by this port.
    Tx(u32),
    /// Dropped at this port.
    Drop(u32, DropReason),
    /// An address became known on this network.
    Learned(u32),
    /// One changed ports.
    Moved(u32),
    /// One had to go for a limit.
    Evicted(u32),
}

/// Every counter by its name.
pub(crate) type Values = BTreeMap<Name, u64>;
/// As `("port", 3, "rx", "frames")`.
pub(crate) type Name = (&'static str, u32, &'static str, &'static str);

/// The switch, and the time.
pub(crate) struct Lab {
    pub(crate) switch: Switch,
    pub(crate) now: Instant,
}

impl Lab {
    /// Networks with these numbers, settings and ports, at time zero.
    pub(crate) fn new(networks: &[(u32, NetworkConfig, &[u32])]) -> Self {
        let mut lab = Self { switch: Switch::new(7), now: Instant(0) };
        for (network, config, ports) in networks {
            lab.apply(Change::AddNetwork(NetworkId(*network), *config));
            ports.iter().for_each(|port| lab.apply(Change::AddPort(PortId(*port), NetworkId(*network))));
        }
        lab
    }

    /// Network 0 with these settings and these ports.
    pub(crate) fn with(config: NetworkConfig, ports: &[u32]) -> Self {
        Self::new(&[(0, config, ports)])
    }

    /// Carries out a change that is allowed.
    pub(crate) fn apply(&mut self, change: Change) {
        self.switch.apply(self.now, change).unwrap();
    }

    /// Tries a change that is not: nothing that can be seen may have changed.
    pub(crate) fn rejects(&mut self, change: Change, why: Rejected) {
        let before = format!("{:?}", self.switch);
        assert_eq!(self.switch.apply(self.now, change.clone()), Err(why), "{change:?}");
        assert_eq!(format!("{:?}", self.switch), before, "{change:?}");
    }

    /// Lets time pass, and wakes the switch whenever it asked for it.
    pub(crate) fn wait(&mut self, duration: Duration) {
        let until = self.now + duration;
        while let Some(at) = self.switch.poll_timeout().filter(|at| *at <= until) {
            self.now = at.max(self.now);
            self.switch.handle_timeout(self.now);
            let next = self.switch.poll_timeout();
            assert!(next.is_none_or(|next| next > self.now), "woken at {at:?}, wants {next:?}");
        }
        self.now = until;
    }

    /// Sends a frame into a port. What would happen is asked first, and must be what happens.
    pub(crate) fn send(&mut self, port: u32, frame: &Frame) -> Passage {
        let from = PortId(port);
        let untouched = (self.values(), self.switch.poll_timeout());
        let mut foreseen = Vec::new();
        let decision = self.switch.decide(self.now, from, frame, &mut foreseen);
        let before = self.values();
        assert_eq!((&before, self.switch.poll_timeout()), (&untouched.0, untouched.1), "deciding changes");

        let (mut out, mut steps) = (Recorder::default(), Vec::new());
        let verdict = self.switch.input(self.now, from, frame, &mut out, &mut steps);
        assert_eq!((verdict, &steps), (decision.verdict, &foreseen));
        let (len, segments) = (frame.bytes().len() as u64, u64::from(frame.offload.segments(frame.bytes())));
        let changes = difference(&before, &self.values());
        let input = (frame.bytes().to_vec(), frame.offload);
        Passage { verdict, sent: out.0, steps, changes, input, worth: (len, segments) }
    }

    /// Runs something else than a frame, and says which counters changed.
    pub(crate) fn changes(&mut self, work: impl FnOnce(&mut Self)) -> BTreeMap<Name, i64> {
        let before = self.values();
        work(self);
        difference(&before, &self.values())
    }

    /// The living entries of a network's fdb, by address.
    pub(crate) fn fdb(&self, network: u32) -> Vec<FdbEntry> {
        let (mut entries, end) =
            self.switch.network(NetworkId(network)).unwrap().fdb.page(self.now, 0, usize::MAX);
        assert_eq!(end, None);
        entries.sort_unstable_by_key(|entry| entry.mac);
        entries
    }

    /// Every counter of the switch.
    pub(crate) fn values(&self) -> Values {
        let mut values = Values::new();
        for (id, port) in self.switch.ports() {
            add_counters(&mut values, id.0, &port.counters);
        }
        for id in 0..NETWORKS {
            let Some(network) = self.switch.network(NetworkId(id)) else { continue };
            let fdb = network.fdb.counters;
            let named = [
                ("learned", fdb.learned),
                ("moved", fdb.moved),
                ("aged", fdb.aged),
                ("evicted", fdb.evicted),
            ];
            values.extend(named.map(|(name, value)| (("network", id, "fdb", name), value)));
        }
        values
    }
}

fn add_counters(values: &mut Values, id: u32, counters: &Counters) {
    for (direction, traffic) in [("rx", counters.rx), ("tx", counters.tx)] {
        let named = [("frames", traffic.frames), ("bytes", traffic.bytes), ("segments", traffic.segments)];
        values.extend(named.map(|(what, value)| (("port", id, direction, what), value)));
    }
    for (reason, count) in DropReason::ALL.iter().zip(counters.drops) {
        values.insert(("port", id, "drop", reason.name()), count);
    }
}

/// By how much each counter changed; those that did not are left out.
pub(crate) fn difference(before: &Values, after: &Values) -> BTreeMap<Name, i64> {
    let names = before.keys().chain(after.keys());
    let value = |values: &Values, name| i64::try_from(*values.get(name).unwrap_or(&0)).unwrap();
    let changes = names.map(|name| (*name, value(after, name) - value(before, name)));
    changes.filter(|(_, change)| *change != 0).collect()
}

/// What became of one frame.
#[must_use = "`is` says what should have become of it"]
pub(crate) struct Passage {
    pub(crate) verdict: Verdict,
    pub(crate) sent: Vec<Sent>,
    pub(crate) steps: Vec<Step>,
    pub(crate) changes: BTreeMap<Name, i64>,
    input: (Vec<u8>, Offload),
    /// Bytes and segments.
    worth: (u64, u64),
}

impl Passage {
    /// Asserts everything: the verdict; that exactly these ports got the frame, unchanged, in this order;
    /// and that exactly these counters went up.
    pub(crate) fn is(self, verdict: Verdict, reached: &[u32], counts: &[Count]) -> Vec<Step> {
        assert_eq!(self.verdict, verdict);
        let copies: Vec<Sent> =
            reached.iter().map(|port| (*port, self.input.0.clone(), self.input.1)).collect();
        assert_eq!(self.sent, copies);
        let mut expected = BTreeMap::new();
        for (name, by) in counts.iter().flat_map(|count| expand(*count, self.worth)) {
            *expected.entry(name).or_insert(0) += by;
        }
        assert_eq!(self.changes, expected);
        self.steps
    }

    /// The port dropped it for this reason, and that is all.
    pub(crate) fn was_dropped(self, port: u32, reason: DropReason) -> Vec<Step> {
        self.is(Verdict::Drop(reason), &[], &[Count::Rx(port), Count::Drop(port, reason)])
    }
}

fn expand(count: Count, (bytes, segments): (u64, u64)) -> Vec<(Name, i64)> {
    let traffic = |port: u32, direction: &'static str| {
        let worth = [("frames", 1), ("bytes", bytes), ("segments", segments)];
        let named = worth.map(|(what, by)| (("port", port, direction, what), by as i64));
        named.into_iter().filter(|(_, by)| *by != 0).collect()
    };
    match count {
        Count::Rx(port) => traffic(port, "rx"),
        Count::Tx(port) => traffic(port, "tx"),
        Count::Drop(port, reason) => vec![(("port", port, "drop", reason.name()), 1)],
        Count::Learned(network) => vec![(("network", network, "fdb", "learned"), 1)],
        Count::Moved(network) => vec![(("network", network, "fdb", "moved"), 1)],
        Count::Evicted(network) => vec![(("network", network, "fdb", "evicted"), 1)],
    }
}
