//! The engine against a walk so simple that it can be checked by reading, and what is counted where.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::dataplane::rules::{Chain, ChainId, Is, Matches, Table};
use crate::wire::ip::{Prefix, protocol};

const A: NetworkId = NetworkId(1);
const B: NetworkId = NetworkId(2);

fn packet(input: NetworkId, output: NetworkId) -> Subject {
    Subject {
        input: Some(input),
        output: Some(output),
        source: Addr::v4([10, 0, 0, 1]),
        destination: Addr::v4([10, 0, 1, 1]),
        protocol: protocol::TCP,
        ports: Some((40_000, 80)),
        states: States::NEW,
        local: false,
    }
}

fn rule(matches: Matches, target: Target) -> Rule {
    Rule { matches, target }
}

fn always(target: Target) -> Rule {
    rule(Matches::default(), target)
}

fn from(network: NetworkId) -> Matches {
    Matches { input: Some(Is { value: network, not: false }), ..Matches::default() }
}

fn chain(name: &str, policy: Option<Policy>, rules: Vec<Rule>) -> Chain {
    Chain { name: name.to_owned(), policy, rules }
}

/// A filter table with these rules in FORWARD, policy DROP, and these chains behind the built-in ones.
fn forward(rules: Vec<Rule>, others: Vec<(&str, Vec<Rule>)>) -> Ruleset {
    let mut chains = vec![
        chain("INPUT", Some(Policy::Accept), Vec::new()),
        chain("FORWARD", Some(Policy::Drop), rules),
        chain("OUTPUT", Some(Policy::Accept), Vec::new()),
    ];
    chains.extend(others.into_iter().map(|(name, rules)| chain(name, None, rules)));
    Ruleset { filter: Table { chains }, nat: Table::default() }
}

fn nat(prerouting: Vec<Rule>, postrouting: Vec<Rule>) -> Ruleset {
    let chains = vec![
        chain("PREROUTING", Some(Policy::Accept), prerouting),
        chain("INPUT", Some(Policy::Accept), Vec::new()),
        chain("OUTPUT", Some(Policy::Accept), Vec::new()),
        chain("POSTROUTING", Some(Policy::Accept), postrouting),
    ];
    Ruleset { filter: Table::default(), nat: Table { chains } }
}

const DROP: Target = Target::Drop(DropReason::Rule);

/// Packets counted by each rule of a chain, and by its policy.
fn counted(rules: &Rules, name: &str) -> (Vec<u64>, u64) {
    let chain = rules.list(TableKind::Filter).into_iter().find(|chain| chain.name == name).unwrap();
    let policy = chain.policy.map_or(0, |(_, count)| count.packets);
    (chain.rules.iter().map(|rule| rule.count.packets).collect(), policy)
}

#[test]
fn rules_of_a_path_and_policies_count_each_packet_once() {
    let jump = always(Target::Jump(ChainId(3)));
    let own = vec![rule(from(B), Target::Return), rule(from(A), Target::Accept)];
    let mut rules =
        Rules::new(forward(vec![jump, rule(from(B), Target::Return)], vec![("OWN", own)])).unwrap();
    let mut trace = Trace::default();
    assert_eq!(rules.filter(FilterHook::Forward, &packet(A, B), &mut trace), FilterVerdict::Accept);
    rules.count_trace(&trace, 60);
    let path = rules.intern(&trace).unwrap();
    rules.count(path, 2, 3000);
    assert_eq!(rules.intern(&trace), Some(path));
    let dropped = FilterVerdict::Drop(DropReason::Policy);
    assert_eq!(rules.filter(FilterHook::Forward, &packet(B, A), &mut trace), dropped);
    rules.count_trace(&trace, 40);
    assert_eq!(counted(&rules, "FORWARD"), (vec![4, 1], 1));
    assert_eq!(counted(&rules, "OWN"), (vec![1, 3], 0));
    let own = rules.list(TableKind::Filter).pop().unwrap();
    assert_eq!((own.references, own.rules[1].count), (1, Count { packets: 3, bytes: 3060 }));
    let words: Vec<_> = rules.describe(&trace).iter().map(|at| (at.chain, at.number)).collect();
    assert_eq!(words, [("FORWARD", Some(1)), ("OWN", Some(1)), ("FORWARD", Some(2)), ("FORWARD", None)]);
}

#[test]
fn rules_that_stay_keep_what_they_counted() {
    let (accept, refuse) = (rule(from(A), Target::Accept), rule(from(B), DROP));
    let count_one = |rules: &mut Rules, input| {
        let mut trace = Trace::default();
        rules.filter(FilterHook::Forward, &packet(input, A), &mut trace);
        let path = rules.intern(&trace).unwrap();
        rules.count(path, 1, 100);
    };
    let mut rules = Rules::new(forward(vec![accept.clone(), refuse.clone()], vec![])).unwrap();
    [A, B, B, NetworkId(9)].into_iter().for_each(|input| count_one(&mut rules, input));
    assert_eq!(counted(&rules, "FORWARD"), (vec![1, 2], 1));
    // In another order, with a twin, and with a jump before them.
    let jump = always(Target::Jump(ChainId(4)));
    let others = vec![("FIRST", vec![]), ("OWN", vec![refuse.clone()])];
    let reordered = vec![jump.clone(), refuse.clone(), refuse.clone(), accept.clone()];
    rules.replace(forward(reordered, others)).unwrap();
    assert_eq!(counted(&rules, "FORWARD"), (vec![0, 2, 0, 1], 1));
    count_one(&mut rules, B);
    assert_eq!(counted(&rules, "OWN"), (vec![1], 0));
    // A chain before it goes: the jump to the same chain stays the same rule.
    let jump = always(Target::Jump(ChainId(3)));
    rules.replace(forward(vec![jump, refuse.clone(), accept], vec![("OWN", vec![refuse])])).unwrap();
    assert_eq!(counted(&rules, "FORWARD"), (vec![1, 2, 1], 1));
    // Refused rules change nothing.
    let before = rules.list(TableKind::Filter);
    assert!(rules.replace(forward(vec![always(Target::Jump(ChainId(3)))], vec![])).is_err());
    assert_eq!(rules.list(TableKind::Filter), before);
}

#[test]
fn unsound_rulesets_are_refused() {
    let to = |chain| always(Target::Jump(ChainId(chain)));
    let ports = Matches { destination_ports: Some(80..=80), ..Matches::default() };
    let reset = Target::Reject(RejectWith::TcpReset);
    let deep: Vec<_> = (0..30).map(|at| ("DEEP", vec![to(at + 4)])).chain([("END", vec![])]).collect();
    let many: Vec<_> = (0..25).map(|_| to(3)).collect();
    let masquerade = always(Target::Masquerade { ports: None });
    let destination = always(Target::Dnat { to: Addr::v4([10, 0, 0, 1]), port: None });
    let mut builtin_without_policy = forward(vec![], vec![]);
    builtin_without_policy.filter.chains[0].policy = None;
    let mut cut = forward(vec![], vec![]);
    cut.filter.chains.pop();
    let unsound = [
        ("nowhere", forward(vec![to(3)], vec![]), "FORWARD"),
        ("to a built-in chain", forward(vec![to(0)], vec![]), "FORWARD"),
        ("a circle", forward(vec![to(3)], vec![("ONE", vec![to(4)]), ("TWO", vec![to(3)])]), "ONE"),
        ("too deep", forward(vec![to(3)], deep), "DEEP"),
        ("too many matches", forward(many, vec![("OWN", vec![])]), "FORWARD"),
        ("ports of no protocol", forward(vec![rule(ports, Target::Accept)], vec![]), "FORWARD"),
        ("a reset of no connection", forward(vec![always(reset)], vec![]), "FORWARD"),
        ("translation in the filter table", forward(vec![masquerade.clone()], vec![]), "FORWARD"),
        ("a drop in the nat table", nat(vec![always(DROP)], vec![]), "PREROUTING"),
        ("masquerading too early", nat(vec![masquerade], vec![]), "PREROUTING"),
        ("a destination too late", nat(vec![], vec![destination]), "POSTROUTING"),
        ("no policy", builtin_without_policy, "INPUT"),
        ("too few chains", cut, "INPUT"),
    ];
    for (what, ruleset, chain) in unsound {
        assert_eq!(Program::compile(ruleset).err(), Some(Rejected::BadRules(chain.to_owned())), "{what}");
    }
    // As many jumps are sound when no packet can take them all.
    let per_network = |number| {
        rule(
            Matches { output: from(NetworkId(number)).input, ..Matches::default() },
            Target::Jump(ChainId(3)),
        )
    };
    let rules = (0..100).map(per_network).collect();
    assert!(Program::compile(forward(rules, vec![("OWN", vec![])])).is_ok());
}

#[test]
fn a_published_range_keeps_the_place_in_it() {
    let to = Addr::v4([172, 17, 0, 2]);
    let matches = |ports| Matches {
        protocol: Some(protocol::TCP),
        destination_ports: Some(ports),
        local_destination: true,
        ..Matches::default()
    };
    let dnat = |first, last, port| rule(matches(first..=last), Target::Dnat { to, port });
    let rules = nat(vec![dnat(8000, 8010, Some(80)), dnat(9000, 9000, None)], vec![]);
    let rules = Rules::new(rules).unwrap();
    let translated = |port| {
        let subject = Subject { output: None, ports: Some((1, port)), local: true, ..packet(A, B) };
        rules.nat(NatHook::Prerouting, &subject, &mut Trace::default())
    };
    for (asked, port) in [(8000, Some(80)), (8010, Some(90)), (9000, None)] {
        assert_eq!(translated(asked), Some(Translation::Destination { to, port }));
    }
    assert_eq!([7999, 8011].map(translated), [None, None]);
    let remote = Subject { output: None, ports: Some((1, 8000)), ..packet(A, B) };
    assert_eq!(rules.nat(NatHook::Prerouting, &remote, &mut Trace::default()), None);
}

#[test]
fn who_has_no_such_interface_is_on_another() {
    let not_a = Matches { output: Some(Is { value: A, not: true }), ..Matches::default() };
    let rules = Rules::new(forward(vec![rule(not_a, Target::Accept)], vec![])).unwrap();
    let verdict = |output| {
        rules.filter(FilterHook::Forward, &Subject { output, ..packet(A, A) }, &mut Trace::default())
    };
    assert_eq!([None, Some(B)].map(verdict), [FilterVerdict::Accept; 2]);
    assert_eq!(verdict(Some(A)), FilterVerdict::Drop(DropReason::Policy));
}

/// Each condition as it is said.
fn naive_match(matches: &Matches, subject: &Subject) -> bool {
    let interface = |wanted: Option<Is<NetworkId>>, interface| match wanted {
        None => true,
        Some(Is { value, not: false }) => interface == Some(value),
        Some(Is { value, not: true }) => interface != Some(value),
    };
    let prefix = |wanted: Option<Is<Prefix>>, address| match wanted {
        None => true,
        Some(Is { value, not }) => value.contains(address) != not,
    };
    let (source_port, port) = subject.ports.map_or((None, None), |(one, other)| (Some(one), Some(other)));
    let ports = |wanted: &Option<std::ops::RangeInclusive<u16>>, port: Option<u16>| match wanted {
        None => true,
        Some(range) => port.is_some_and(|port| range.contains(&port)),
    };
    interface(matches.input, subject.input)
        && interface(matches.output, subject.output)
        && prefix(matches.source, subject.source)
        && prefix(matches.destination, subject.destination)
        && matches.protocol.is_none_or(|protocol| protocol == subject.protocol)
        && ports(&matches.source_ports, source_port)
        && ports(&matches.destination_ports, port)
        && matches.states.is_none_or(|states| states.intersects(subject.states))
        && (!matches.local_destination || subject.local)
}

/// The chain, number and rule of each match, and the target that decided.
fn naive_walk<'a>(
    table: &'a Table,
    at: usize,
    subject: &Subject,
    path: &mut Vec<(&'a str, usize)>,
) -> Option<&'a Target> {
    let chain = &table.chains[at];
    for (number, rule) in (1..).zip(&chain.rules) {
        if naive_match(&rule.matches, subject) {
            path.push((&chain.name, number));
            match &rule.target {
                Target::Return => return None,
                Target::Jump(ChainId(to)) => match naive_walk(table, usize::from(*to), subject, path) {
                    None => {}
                    decided => return decided,
                },
                target => return Some(target),
            }
        }
    }
    None
}

fn interfaces() -> impl Strategy<Value = NetworkId> {
    (0..4_u32).prop_map(NetworkId)
}

fn addresses() -> impl Strategy<Value = Addr> {
    (0..2_u8, 0..2_u8, 0..3_u8).prop_map(|(b, c, d)| Addr::v4([10, b, c, d]))
}

fn prefixes() -> impl Strategy<Value = Prefix> {
    let len = prop_oneof![3 => Just(32_u8), 2 => Just(24), 1 => Just(16), 1 => Just(0)];
    (addresses(), len).prop_map(|(address, len)| Prefix::new(address, len))
}

fn maybe_not<T: std::fmt::Debug>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Is<T>> {
    (value, prop::bool::weighted(0.2)).prop_map(|(value, not)| Is { value, not })
}

fn port_ranges() -> impl Strategy<Value = std::ops::RangeInclusive<u16>> {
    let width = prop_oneof![5 => Just(0_u16), 2 => 0..4_u16, 1 => 200..400_u16];
    (0..5_u16, width).prop_map(|(first, width)| first..=first + width)
}

fn protocols() -> impl Strategy<Value = u8> {
    prop_oneof![Just(protocol::TCP), Just(protocol::UDP), Just(protocol::ICMP)]
}

/// What rules match. Few fields each, so that many rules share a shape and some match.
fn matches() -> impl Strategy<Value = Matches> {
    let seldom = 0.3;
    (
        option::weighted(seldom, maybe_not(interfaces())),
        option::weighted(seldom, maybe_not(interfaces())),
        option::weighted(seldom, maybe_not(prefixes())),
        option::weighted(seldom, maybe_not(prefixes())),
        option::weighted(0.5, protocols()),
        option::weighted(0.1, port_ranges()),
        option::weighted(seldom, port_ranges()),
        option::weighted(0.2, (1..64_u8).prop_map(States)),
        prop::bool::weighted(0.1),
    )
        .prop_map(
            |(input, output, source, destination, protocol, from, to, states, local_destination)| Matches {
                input,
                output,
                source,
                destination,
                protocol,
                source_ports: protocol.and(from),
                destination_ports: protocol.and(to),
                states,
                local_destination,
            },
        )
}

fn targets() -> impl Strategy<Value = Target> {
    let drops = prop_oneof![Just(DropReason::Rule), Just(DropReason::Isolated), Just(DropReason::Icc)];
    prop_oneof![
        Just(Target::Accept),
        drops.prop_map(Target::Drop),
        Just(Target::Reject(RejectWith::PortUnreachable)),
        Just(Target::Return),
    ]
}

/// Rules, some of them jumps to one of these chains.
fn chains_rules(jumps: Vec<u16>) -> impl Strategy<Value = Vec<Rule>> {
    let jumps = jumps.into_iter().map(|to| (0..60_usize, matches(), Just(to))).collect::<Vec<_>>();
    (vec((matches(), targets()), 0..80), jumps).prop_map(|(rules, jumps)| {
        let mut rules: Vec<Rule> = rules.into_iter().map(|(matches, target)| rule(matches, target)).collect();
        for (at, matches, to) in jumps {
            rules.insert(at.min(rules.len()), rule(matches, Target::Jump(ChainId(to))));
        }
        rules
    })
}

fn rulesets() -> impl Strategy<Value = Ruleset> {
    (chains_rules(vec![3, 4, 4]), chains_rules(vec![4, 5]), chains_rules(vec![5]), chains_rules(vec![]))
        .prop_map(|(first, second, third, fourth)| {
            forward(first, vec![("X", second), ("Y", third), ("Z", fourth)])
        })
}

fn subjects() -> impl Strategy<Value = Subject> {
    (
        option::weighted(0.9, interfaces()),
        option::weighted(0.9, interfaces()),
        (addresses(), addresses()),
        protocols(),
        option::weighted(0.8, (0..6_u16, 0..6_u16)),
        (1..64_u8).prop_map(States),
        any::<bool>(),
    )
        .prop_map(|(input, output, (source, destination), protocol, ports, states, local)| Subject {
            input,
            output,
            source,
            destination,
            protocol,
            ports,
            states,
            local,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_engine_says_what_a_naive_walk_says(ruleset in rulesets(), subjects in vec(subjects(), 50)) {
        let rules = Rules::new(ruleset.clone()).unwrap();
        for subject in &subjects {
            let (mut trace, mut path) = (Trace::default(), Vec::new());
            let verdict = rules.filter(FilterHook::Forward, subject, &mut trace);
            let expected = match naive_walk(&ruleset.filter, 1, subject, &mut path) {
                None => FilterVerdict::Drop(DropReason::Policy),
                Some(Target::Drop(reason)) => FilterVerdict::Drop(*reason),
                Some(Target::Reject(with)) => FilterVerdict::Reject(*with),
                Some(_) => FilterVerdict::Accept,
            };
            let taken = rules.describe(&trace);
            let taken: Vec<_> = taken.iter().filter_map(|at| Some((at.chain, at.number?))).collect();
            prop_assert_eq!(&taken, &path, "{:?}", subject);
            prop_assert_eq!(verdict, expected);
        }
    }

    #[test]
    fn a_rule_counts_the_packets_that_matched_it(
        ruleset in rulesets(),
        subjects in vec((subjects(), any::<bool>()), 50),
    ) {
        let mut rules = Rules::new(ruleset.clone()).unwrap();
        let mut expected = std::collections::BTreeMap::new();
        for (at, (subject, by_path)) in subjects.iter().enumerate() {
            if at % 10 == 9 {
                rules.replace(ruleset.clone()).unwrap();
            }
            let (mut trace, mut path) = (Trace::default(), Vec::new());
            rules.filter(FilterHook::Forward, subject, &mut trace);
            match by_path.then(|| rules.intern(&trace)).flatten() {
                Some(path) => rules.count(path, 1, 100),
                None => rules.count_trace(&trace, 100),
            }
            if naive_walk(&ruleset.filter, 1, subject, &mut path).is_none() {
                path.push(("FORWARD", 0));
            }
            path.into_iter().for_each(|at| *expected.entry(at).or_insert(0) += 1);
        }
        let listed = rules.list(TableKind::Filter);
        let counted = listed.iter().flat_map(|chain| {
            let policy = chain.policy.map(|(_, count)| ((chain.name.as_str(), 0), count.packets));
            let rules = (1..).zip(&chain.rules);
            policy.into_iter().chain(rules.map(|(n, rule)| ((chain.name.as_str(), n), rule.count.packets)))
        });
        let counted: std::collections::BTreeMap<_, _> = counted.filter(|(_, packets)| *packets > 0).collect();
        prop_assert_eq!(counted, expected);
    }
}
