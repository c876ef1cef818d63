//! A switch with a virtual clock, whose every counter is watched.

use std::collections::BTreeMap;
use std::time::Duration;

use tapswitch::dataplane::conntrack::FlowRow;
use tapswitch::dataplane::dns::Outcome;
use tapswitch::dataplane::fdb::FdbEntry;
use tapswitch::dataplane::filter::{Count as RuleCount, TableKind};
use tapswitch::dataplane::{
    Change, Counters, DropReason, Egress, Frame, Instant, NetworkConfig, NetworkId, PortId, Rejected, Step,
    Switch, Verdict,
};
use tapswitch::wire::Offload;
use tapswitch::wire::ip::Version;

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

    fn emit(&mut self, to: PortId, bytes: &[u8], offload: Offload) {
        self.0.push((to.0, bytes.to_vec(), offload));
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
    /// A flow entered the table.
    Flow,
    /// An inside endpoint got an outside port.
    Mapped,
    /// Another counter of conntrack.
    Ct(&'static str, i64),
    /// A counter of the neighbour table.
    Neighbour(&'static str, i64),
    /// A question on this network had this outcome.
    Names(u32, &'static str),
    /// A counter of the upstreams, all together.
    Upstream(&'static str, i64),
    /// A counter of the cache of answers.
    Cache(&'static str, i64),
    /// The frame's packet was counted at these rules: `"FORWARD 1 4, nat PREROUTING 0"`; 0 is the policy.
    Walk(&'static str),
    /// So was the packet in the frame that left as this one, counted from 0.
    WalkOf(usize, &'static str),
}

/// Every counter by its name.
pub(crate) type Values = BTreeMap<Name, u64>;
/// As `("port", 3, "rx", "frames")`; of rules as `("v4 nat", 2, "POSTROUTING", "packets")`, 0 being the policy.
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

    /// Lets time pass, and wakes the switch whenever it asked for it. Says what it sent by itself.
    pub(crate) fn wait(&mut self, duration: Duration) -> Vec<Sent> {
        let mut out = Recorder::default();
        let until = self.now + duration;
        while let Some(at) = self.switch.poll_timeout().filter(|at| *at <= until) {
            self.now = at.max(self.now);
            self.switch.handle_timeout(self.now, &mut out);
            let next = self.switch.poll_timeout();
            assert!(next.is_none_or(|next| next > self.now), "woken at {at:?}, wants {next:?}");
        }
        self.now = until;
        out.0
    }

    /// Lets the switch do at once what it is late with. Says what it sent.
    pub(crate) fn settle(&mut self) -> Vec<Sent> {
        self.wait(Duration::ZERO)
    }

    /// The flows, the oldest tuples first.
    pub(crate) fn flows(&self) -> Vec<FlowRow> {
        let (mut flows, end) = self.switch.conntrack().page(self.now, 0, u32::MAX);
        assert_eq!(end, None);
        flows.sort_unstable_by_key(|flow| (flow.original, flow.reply));
        flows
    }

    /// Sends a frame into a port. What would happen is asked first, and must be what happens.
    pub(crate) fn send(&mut self, port: u32, frame: &Frame) -> Passage {
        let from = PortId(port);
        let untouched = (self.values(), self.switch.poll_timeout());
        let mut foreseen = Vec::new();
        let decision = self.switch.decide(self.now, from, frame, &mut foreseen);
        let preview = self.switch.preview(self.now, from, frame, &mut ());
        let before = self.values();
        assert_eq!((&before, self.switch.poll_timeout()), (&untouched.0, untouched.1), "deciding changes");

        let (mut out, mut steps) = (Recorder::default(), Vec::new());
        let mut passing = copy(frame);
        let verdict = self.switch.input(self.now, from, &mut passing, &mut out, &mut steps);
        assert_eq!((verdict, &steps), (decision.verdict, &foreseen));
        let changes = difference(&before, &self.values());
        if let Some(naming) = &preview.naming {
            let mut counted = changes.keys().filter(|name| name.0 == "names").map(|name| name.3);
            assert!(counted.any(|outcome| outcome == naming.outcome.name()), "{naming:?} {changes:?}");
        }
        // What a fragment completes is decided on when it is whole.
        if verdict != Verdict::Held || !preview.waiting.is_empty() {
            let foreseen =
                preview.sent.into_iter().map(|leaving| (leaving.to.0, leaving.bytes, leaving.offload));
            assert_eq!(foreseen.collect::<Vec<_>>(), out.0, "not as foreseen");
        }
        let input = (frame.bytes().to_vec(), frame.offload);
        Passage { verdict, sent: out.0, steps, changes, input }
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
            values.insert(("network", id, "gateway", "conflicts"), network.gateway.conflicts);
        }
        add_tables(&mut values, &self.switch);
        add_names(&mut values, &self.switch);
        for version in [Version::V4, Version::V6] {
            add_rules(&mut values, &self.switch, version);
        }
        values
    }
}

fn add_tables(values: &mut Values, switch: &Switch) {
    let (conntrack, neighbours) = (switch.conntrack(), switch.neighbours());
    let flows = conntrack.counters;
    let named = [
        ("flows", conntrack.len().into()),
        ("mappings", conntrack.mappings().len().into()),
        ("inserted", flows.inserted),
        ("expired", flows.expired),
        ("early_dropped", flows.early_dropped),
        ("deleted", flows.deleted),
        ("orphaned", flows.orphaned),
        ("refused_full", flows.refused_full),
        ("refused_source", flows.refused_source),
        ("invalid", flows.invalid),
    ];
    values.extend(named.map(|(name, value)| (("conntrack", 0, "", name), value)));
    let known = neighbours.counters;
    let named = [
        ("entries", neighbours.len() as u64),
        ("resolved", known.resolved),
        ("moved", known.moved),
        ("failed", known.failed),
        ("evicted", known.evicted),
        ("solicited", known.solicited),
    ];
    values.extend(named.map(|(name, value)| (("neighbours", 0, "", name), value)));
}

fn add_names(values: &mut Values, switch: &Switch) {
    let view = switch.dns_view();
    for network in &view.networks {
        for outcome in Outcome::ALL {
            values
                .insert(("names", network.network.0, "outcome", outcome.name()), network.outcomes[*outcome]);
        }
    }
    for (_, upstream) in &view.upstreams {
        let named = [
            ("queries", upstream.queries),
            ("answers", upstream.answers),
            ("timeouts", upstream.timeouts),
            ("failures", upstream.failures),
            ("mismatched", upstream.mismatched),
        ];
        for (name, value) in named {
            *values.entry(("names", 0, "upstreams", name)).or_default() += value;
        }
    }
    let cache = view.cache;
    let named = [
        ("entries", cache.entries as u64),
        ("hits", cache.counters.hits),
        ("misses", cache.counters.misses),
        ("inserted", cache.counters.inserted),
        ("evicted", cache.counters.evicted),
    ];
    values.extend(named.map(|(name, value)| (("names", 0, "cache", name), value)));
}

fn add_rules(values: &mut Values, switch: &Switch, version: Version) {
    for kind in [TableKind::Filter, TableKind::Nat] {
        for chain in switch.rules(version).list(kind) {
            let table = table_name(version, kind);
            let mut add = |number: usize, RuleCount { packets, bytes }: RuleCount| {
                for (what, value) in [("packets", packets), ("bytes", bytes)] {
                    values.insert((table, number as u32, chain_name(&chain.name), what), value);
                }
            };
            if let Some((_, count)) = chain.policy {
                add(0, count);
            }
            chain.rules.iter().enumerate().for_each(|(at, rule)| add(at + 1, rule.count));
        }
    }
}

fn table_name(version: Version, kind: TableKind) -> &'static str {
    match (version, kind) {
        (Version::V4, TableKind::Filter) => "v4 filter",
        (Version::V4, TableKind::Nat) => "v4 nat",
        (Version::V6, TableKind::Filter) => "v6 filter",
        (Version::V6, TableKind::Nat) => "v6 nat",
    }
}

/// The chains that there are.
fn chain_name(name: &str) -> &'static str {
    const CHAINS: [&str; 11] = [
        "INPUT",
        "FORWARD",
        "OUTPUT",
        "PREROUTING",
        "POSTROUTING",
        "DOCKER",
        "DOCKER-ISOLATION",
        "DOCKER-ISOLATION-STAGE-1",
        "DOCKER-ISOLATION-STAGE-2",
        "DOCKER-USER",
        "TAPSWITCH-HAIRPIN",
    ];
    CHAINS.into_iter().find(|known| *known == name).unwrap()
}

fn add_counters(values: &mut Values, id: u32, counters: &Counters) {
    for (direction, traffic) in [("rx", counters.rx), ("tx", counters.tx)] {
        let named = [("frames", traffic.frames), ("bytes", traffic.bytes), ("segments", traffic.segments)];
        values.extend(named.map(|(what, value)| (("port", id, direction, what), value)));
    }
    for (reason, count) in DropReason::ALL.iter().map(|reason| (reason, counters.drops[*reason])) {
        values.insert(("port", id, "drop", reason.name()), count);
    }
}

/// The same frame in a buffer of its own.
fn copy(frame: &Frame) -> Frame {
    let mut copy = Frame::new();
    copy.set(frame.bytes(), frame.offload);
    copy
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
}

impl Passage {
    /// Asserts everything: the verdict; that exactly these ports got the frame, unchanged, in this order;
    /// and that exactly these counters went up.
    pub(crate) fn is(self, verdict: Verdict, reached: &[u32], counts: &[Count]) -> Vec<Step> {
        assert_eq!(self.verdict, verdict);
        let copies: Vec<Sent> =
            reached.iter().map(|port| (*port, self.input.0.clone(), self.input.1)).collect();
        assert_eq!(self.sent, copies);
        self.counted(counts)
    }

    /// Asserts everything of a frame that is not only bridged: the verdict; that exactly these frames left,
    /// which is counted as such; and that exactly these other counters changed.
    pub(crate) fn sends(self, verdict: Verdict, sent: &[Sent], counts: &[Count]) -> Vec<Step> {
        assert_eq!(self.verdict, verdict, "{:#?}", self.steps);
        assert_eq!(self.sent.len(), sent.len(), "left: {:02x?}", self.sent);
        for (left, expected) in self.sent.iter().zip(sent) {
            assert_eq!((left.0, left.2), (expected.0, expected.2), "the port, and what is left to do");
            assert!(left.1 == expected.1, "left:\n{}\ninstead of\n{}", hex(&left.1), hex(&expected.1));
        }
        let left: Vec<_> = (0..sent.len()).map(Expected::Left).collect();
        let counts: Vec<_> = counts.iter().map(|count| Expected::Count(*count)).chain(left).collect();
        self.expects(&counts)
    }

    /// The port dropped it for this reason, and that is all.
    pub(crate) fn was_dropped(self, port: u32, reason: DropReason) -> Vec<Step> {
        self.is(Verdict::Drop(reason), &[], &[Count::Rx(port), Count::Drop(port, reason)])
    }

    fn counted(self, counts: &[Count]) -> Vec<Step> {
        let counts: Vec<_> = counts.iter().map(|count| Expected::Count(*count)).collect();
        self.expects(&counts)
    }

    fn expects(self, counts: &[Expected]) -> Vec<Step> {
        let mut expected = BTreeMap::new();
        for (name, by) in counts.iter().flat_map(|count| self.expand(*count)) {
            *expected.entry(name).or_insert(0) += by;
        }
        expected.retain(|_, by| *by != 0);
        let (changes, none) = (&self.changes, &0);
        let names = changes.keys().chain(expected.keys());
        let value = |of: &BTreeMap<Name, i64>, name| *of.get(name).unwrap_or(none);
        let mut wrong: Vec<_> = names
            .map(|name| (name, value(changes, name), value(&expected, name)))
            .filter(|(_, is, should)| is != should)
            .map(|(name, is, should)| format!("{name:?}: {is} instead of {should}"))
            .collect();
        wrong.dedup();
        assert!(wrong.is_empty(), "counters changed by\n{}", wrong.join("\n"));
        self.steps
    }

    fn expand(&self, expected: Expected) -> Vec<(Name, i64)> {
        let count = match expected {
            Expected::Left(at) => {
                let (port, bytes, offload) = &self.sent[at];
                return traffic(*port, "tx", bytes, offload);
            }
            Expected::Count(count) => count,
        };
        let (bytes, offload) = &self.input;
        match count {
            Count::Rx(port) => traffic(port, "rx", bytes, offload),
            Count::Tx(port) => traffic(port, "tx", bytes, offload),
            Count::Drop(port, reason) => vec![(("port", port, "drop", reason.name()), 1)],
            Count::Learned(network) => vec![(("network", network, "fdb", "learned"), 1)],
            Count::Moved(network) => vec![(("network", network, "fdb", "moved"), 1)],
            Count::Evicted(network) => vec![(("network", network, "fdb", "evicted"), 1)],
            Count::Flow => ["inserted", "flows"].map(|name| (("conntrack", 0, "", name), 1)).to_vec(),
            Count::Mapped => vec![(("conntrack", 0, "", "mappings"), 1)],
            Count::Ct(name, by) => vec![(("conntrack", 0, "", name), by)],
            Count::Neighbour(name, by) => vec![(("neighbours", 0, "", name), by)],
            Count::Names(network, outcome) => vec![(("names", network, "outcome", outcome), 1)],
            Count::Upstream(name, by) => vec![(("names", 0, "upstreams", name), by)],
            Count::Cache(name, by) => vec![(("names", 0, "cache", name), by)],
            Count::Walk(rules) => walk(rules, bytes),
            Count::WalkOf(at, rules) => walk(rules, &self.sent[at].1),
        }
    }
}

/// What changes a counter: what a test says, or a frame that left.
#[derive(Clone, Copy)]
enum Expected {
    Count(Count),
    Left(usize),
}

fn traffic(port: u32, direction: &'static str, bytes: &[u8], offload: &Offload) -> Vec<(Name, i64)> {
    let segments = i64::from(offload.segments(bytes));
    let worth = [("frames", 1), ("bytes", bytes.len() as i64), ("segments", segments)];
    worth.into_iter().map(|(what, by)| (("port", port, direction, what), by)).collect()
}

/// The counters of rules that a packet passes.
fn walk(rules: &str, frame: &[u8]) -> Vec<(Name, i64)> {
    let length = |at: usize| i64::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
    let (version, bytes) = match frame[12..14] {
        [8, 0] => (Version::V4, length(16)),
        _ => (Version::V6, 40 + length(18)),
    };
    let mut counters = Vec::new();
    for part in rules.split(", ").filter(|part| !part.is_empty()) {
        let (kind, part) =
            part.strip_prefix("nat ").map_or((TableKind::Filter, part), |part| (TableKind::Nat, part));
        let (chain, numbers) = part.split_once(' ').unwrap();
        for number in numbers.split(' ').map(|number| number.parse().unwrap()) {
            let name = |what| (table_name(version, kind), number, chain_name(chain), what);
            counters.extend([(name("packets"), 1), (name("bytes"), bytes)]);
        }
    }
    counters
}

fn hex(bytes: &[u8]) -> String {
    let pieces = bytes.chunks(16).map(|line| {
        line.chunks(2)
            .map(|word| word.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
            .collect::<Vec<_>>()
            .join(" ")
    });
    pieces.collect::<Vec<_>>().join("\n")
}
