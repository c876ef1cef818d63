//! What stands here as expected was printed by iptables (its `prot` column as before 1.8.9).

use super::*;
use crate::control::docker_rules::{Policy as DockerPolicy, PolicyNetwork, PolicyPublish, rulesets};
use crate::control::show::foreign::short_number;
use crate::dataplane::filter::{Rules, Subject, TableKind, Trace};
use crate::dataplane::outcome::DropReason;
use crate::dataplane::rules::{Chain, FilterHook, NatHook, Rule, Ruleset, Table};
use crate::wire::ip::Addr;

const DOCKER0: NetworkId = NetworkId(0);

fn name(network: NetworkId) -> String {
    match network {
        DOCKER0 => "docker0".to_owned(),
        NetworkId(1) => "br-0123456789ab".to_owned(),
        NetworkId(number) => format!("eth{number}"),
    }
}

fn v4(text: &str) -> Prefix {
    let (address, len) = text.split_once('/').unwrap();
    Prefix::new(address.parse::<std::net::IpAddr>().unwrap().into(), len.parse().unwrap())
}

/// Network `bridge`, with port 8000 published when asked.
fn docker0(published: bool) -> DockerPolicy {
    let network = PolicyNetwork {
        id: DOCKER0,
        subnets: vec![v4("172.17.0.0/16")],
        internal: false,
        icc: true,
        masquerade: true,
        masquerade_v6: true,
        masquerade_ports: None,
        masquerade_to: Vec::new(),
    };
    let publish = PolicyPublish {
        network: DOCKER0,
        address: Addr::v4([172, 17, 0, 2]),
        protocol: protocol::TCP,
        host: None,
        host_ports: (8000, 8000),
        container_ports: (80, 80),
        from: Vec::new(),
        beside: Vec::new(),
    };
    DockerPolicy {
        iptables: true,
        masquerade: true,
        networks: vec![network],
        publishes: if published { vec![publish] } else { Vec::new() },
        ..DockerPolicy::default()
    }
}

fn listed(rules: &Rules, version: Version) -> ListedTables {
    ListedTables { version, filter: rules.list(TableKind::Filter), nat: rules.list(TableKind::Nat) }
}

fn text(rules: &Rules) -> String {
    rules_text(&chain_rows(&listed(rules, Version::V4), name))
}

/// The two first lines of every chain.
fn head(line: &str) -> String {
    format!(
        "{line}\n pkts bytes target     prot opt in     out     source               destination         \n"
    )
}

#[test]
fn a_lone_bridge_looks_as_in_docker() {
    let [rules, _] = rulesets(&docker0(false));
    let mut rules = Rules::new(rules).unwrap();
    let mut count = |subject: Subject, bytes| {
        let mut trace = Trace::default();
        rules.filter(FilterHook::Forward, &subject, &mut trace);
        rules.count_trace(&trace, bytes);
        rules.nat(NatHook::Postrouting, &subject, &mut trace);
        if subject.states == States::NEW {
            rules.count_trace(&trace, bytes);
        }
    };
    let out = Subject {
        input: Some(DOCKER0),
        output: Some(NetworkId(2)),
        source: Addr::v4([172, 17, 0, 2]),
        destination: Addr::v4([203, 0, 113, 7]),
        protocol: protocol::TCP,
        ports: Some((40_000, 80)),
        states: States::NEW,
        local: false,
    };
    let back = Subject { input: out.output, output: out.input, states: States::ESTABLISHED, ..out };
    count(out, 60);
    (0..1000).for_each(|_| count(back, 1500));
    count(Subject { states: States::ESTABLISHED, ..out }, 52);
    count(Subject { states: States::NEW, ..back }, 60);
    let expected = [
        head("Chain INPUT (policy ACCEPT 0 packets, 0 bytes)"),
        head("Chain FORWARD (policy DROP 1 packets, 60 bytes)"),
        " 1003 1500K DOCKER-ISOLATION  all  --  *      *       0.0.0.0/0            0.0.0.0/0           \n"
            .to_owned(),
        " 1000 1500K ACCEPT     all  --  *      docker0  0.0.0.0/0            0.0.0.0/0            \
         ctstate RELATED,ESTABLISHED\n"
            .to_owned(),
        "    1    60 DOCKER     all  --  *      docker0  0.0.0.0/0            0.0.0.0/0           \n"
            .to_owned(),
        "    2   112 ACCEPT     all  --  docker0 !docker0  0.0.0.0/0            0.0.0.0/0           \n"
            .to_owned(),
        "    0     0 ACCEPT     all  --  docker0 docker0  0.0.0.0/0            0.0.0.0/0           \n\n"
            .to_owned(),
        head("Chain OUTPUT (policy ACCEPT 0 packets, 0 bytes)"),
        head("\nChain DOCKER (1 references)"),
        head("\nChain DOCKER-ISOLATION (1 references)"),
        " 1003 1500K RETURN     all  --  *      *       0.0.0.0/0            0.0.0.0/0           \n\n"
            .to_owned(),
        head("Chain PREROUTING (policy ACCEPT 0 packets, 0 bytes)"),
        "    0     0 DOCKER     all  --  *      *       0.0.0.0/0            0.0.0.0/0            \
         ADDRTYPE match dst-type LOCAL\n\n"
            .to_owned(),
        head("Chain INPUT (policy ACCEPT 0 packets, 0 bytes)"),
        head("\nChain OUTPUT (policy ACCEPT 0 packets, 0 bytes)"),
        "    0     0 DOCKER     all  --  *      *       0.0.0.0/0           !127.0.0.0/8          \
         ADDRTYPE match dst-type LOCAL\n\n"
            .to_owned(),
        head("Chain POSTROUTING (policy ACCEPT 1 packets, 60 bytes)"),
        "    1    60 MASQUERADE  all  --  *      !docker0  172.17.0.0/16        0.0.0.0/0           \n\n"
            .to_owned(),
        head("Chain DOCKER (2 references)"),
        "    0     0 RETURN     all  --  docker0 *       0.0.0.0/0            0.0.0.0/0           \n"
            .to_owned(),
    ];
    let expected = expected.concat().replace("\nChain FORWARD", "\n\nChain FORWARD");
    assert_eq!(text(&rules), expected);
}

#[test]
fn a_published_port_adds_dockers_lines_in_their_places() {
    let rules = |published| text(&Rules::new(rulesets(&docker0(published))[0].clone()).unwrap());
    let (before, after) = (rules(false), rules(true));
    let known: Vec<_> = before.lines().collect();
    let added: Vec<_> = after.lines().filter(|line| !known.contains(line)).map(|line| &line[12..]).collect();
    let any = "0.0.0.0/0            0.0.0.0/0           ";
    let expected = [
        "ACCEPT     tcp  --  !docker0 docker0  0.0.0.0/0            172.17.0.2           tcp dpt:80"
            .to_owned(),
        format!("RETURN     all  --  *      *       {any} ctstate DNAT"),
        format!("TAPSWITCH-HAIRPIN  all  --  *      *       {any} ADDRTYPE match dst-type LOCAL"),
        "RETURN     all  --  *      docker0 !172.17.0.0/16        0.0.0.0/0            ctstate DNAT"
            .to_owned(),
        "MASQUERADE  tcp  --  *      *       172.17.0.2           172.17.0.2           tcp dpt:80".to_owned(),
        "MASQUERADE  all  --  *      docker0  172.17.0.0/16        0.0.0.0/0            ctstate DNAT"
            .to_owned(),
        format!("DNAT       tcp  --  !docker0 *       {any} tcp dpt:8000 to:172.17.0.2:80"),
        "TCH-HAIRPIN (1 references)".to_owned(),
        format!("DNAT       tcp  --  *      *       {any} tcp dpt:8000 to:172.17.0.2:80"),
    ];
    assert_eq!(added, expected);
    assert!(known.iter().all(|line| after.lines().any(|other| other == *line)));
}

/// A filter table with a chain of these rules behind the built-in ones, and their lines.
fn lines(version: Version, nat: bool, rules: Vec<Rule>) -> Vec<String> {
    let built_in =
        |name: &&str| Chain { name: (*name).to_owned(), policy: Some(Policy::Accept), rules: Vec::new() };
    let mut filter: Vec<_> = ["INPUT", "FORWARD", "OUTPUT"].iter().map(built_in).collect();
    let mut chains: Vec<_> = ["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"].iter().map(built_in).collect();
    let own = Chain { name: "OWN".to_owned(), policy: None, rules };
    if nat { &mut chains } else { &mut filter }.push(own);
    let ruleset = Ruleset { filter: Table { chains: filter }, nat: Table { chains } };
    let text = rules_text(&chain_rows(&listed(&Rules::new(ruleset).unwrap(), version), name));
    let own = text.split("Chain OWN").nth(1).unwrap().split("\n\n").next().unwrap();
    own.lines().skip(2).map(|line| line[12..].to_owned()).collect()
}

fn rule(matches: Matches, target: Target) -> Rule {
    Rule { matches, target }
}

const fn is<T: Copy>(value: T, not: bool) -> Option<Is<T>> {
    Some(Is { value, not })
}

#[test]
fn every_match_and_target_is_spelled_as_iptables_does() {
    let tcp = Matches { protocol: Some(6), ..Matches::default() };
    let drop = Target::Drop(DropReason::Rule);
    let rules = vec![
        rule(
            Matches {
                protocol: Some(17),
                source: is(v4("172.17.0.0/16"), false),
                destination: is(v4("10.0.0.0/8"), true),
                destination_ports: Some(8000..=8010),
                ..Matches::default()
            },
            Target::Reject(RejectWith::PortUnreachable),
        ),
        rule(
            Matches {
                source_ports: Some(1..=2),
                destination_ports: Some(8000..=8010),
                states: Some(States::NEW.union(States::DNAT).union(States::INVALID)),
                ..tcp.clone()
            },
            Target::Reject(RejectWith::TcpReset),
        ),
        rule(Matches { protocol: Some(132), states: Some(States(63)), ..Matches::default() }, drop.clone()),
        rule(Matches { protocol: Some(200), ..Matches::default() }, drop.clone()),
        rule(
            Matches {
                source: is(v4("172.217.100.128/25"), true),
                destination: is(v4("172.217.100.128/32"), false),
                input: is(DOCKER0, true),
                output: is(NetworkId(1), true),
                ..Matches::default()
            },
            drop,
        ),
    ];
    let any = "0.0.0.0/0            0.0.0.0/0           ";
    assert_eq!(
        lines(Version::V4, false, rules),
        [
            "REJECT     udp  --  *      *       172.17.0.0/16       !10.0.0.0/8           \
         udp dpts:8000:8010 reject-with icmp-port-unreachable"
                .to_owned(),
            format!(
                "REJECT     tcp  --  *      *       {any} \
             tcp spts:1:2 dpts:8000:8010 ctstate INVALID,NEW,DNAT reject-with tcp-reset"
            ),
            format!(
                "DROP       sctp --  *      *       {any} ctstate INVALID,NEW,RELATED,ESTABLISHED,SNAT,DNAT"
            ),
            format!("DROP       200  --  *      *       {any}"),
            "DROP       all  --  !docker0 !br-0123456789ab !172.217.100.128/25   172.217.100.128     "
                .to_owned(),
        ]
    );
}

#[test]
fn translations_are_spelled_as_iptables_does() {
    let to = Addr::v4([1, 2, 3, 4]);
    let tcp = |ports| Matches { protocol: Some(6), destination_ports: Some(ports), ..Matches::default() };
    let rules = vec![
        rule(Matches::default(), Target::Masquerade { ports: Some((1000, 2000)) }),
        rule(Matches::default(), Target::Masquerade { ports: Some((1000, 1000)) }),
        rule(Matches::default(), Target::Snat { to, ports: None }),
        rule(Matches::default(), Target::Snat { to, ports: Some((1000, 2000)) }),
        rule(tcp(8000..=8010), Target::Dnat { to, port: Some(80) }),
        rule(tcp(8000..=8000), Target::Dnat { to, port: None }),
    ];
    let told = [
        "masq ports: 1000-2000",
        "masq ports: 1000",
        "to:1.2.3.4",
        "to:1.2.3.4:1000-2000",
        "tcp dpts:8000:8010 to:1.2.3.4:80-90",
        "tcp dpt:8000 to:1.2.3.4",
    ];
    for (line, told) in lines(Version::V4, true, rules).iter().zip(told) {
        assert_eq!(line.split_once("0.0.0.0/0            0.0.0.0/0            ").unwrap().1, told);
    }
}

#[test]
fn ipv6_lines_are_those_of_ip6tables() {
    let reject = Target::Reject(RejectWith::PortUnreachable);
    let long = v4("fd00:1234:5678:9abc:def0:1234:5678:9abc/128");
    let to = v4("fd00::2/128").address();
    let filter = vec![
        rule(
            Matches { source: is(v4("fd00::/64"), true), protocol: Some(58), ..Matches::default() },
            reject.clone(),
        ),
        rule(Matches { source: is(long, true), ..Matches::default() }, reject),
    ];
    assert_eq!(
        lines(Version::V6, false, filter),
        [
            "REJECT     icmpv6 --  *      *      !fd00::/64            ::/0                 \
         reject-with icmp6-port-unreachable",
            "REJECT     all  --  *      *      !fd00:1234:5678:9abc:def0:1234:5678:9abc  ::/0                 \
         reject-with icmp6-port-unreachable",
        ]
    );
    let ports = Matches { protocol: Some(6), destination_ports: Some(8000..=8010), ..Matches::default() };
    let nat = vec![
        rule(ports, Target::Dnat { to, port: Some(80) }),
        rule(Matches::default(), Target::Snat { to, ports: None }),
    ];
    assert_eq!(
        lines(Version::V6, true, nat),
        [
            "DNAT       tcp  --  *      *       ::/0                 ::/0                 \
         tcp dpts:8000:8010 to:[fd00::2]:80-90",
            "SNAT       all  --  *      *       ::/0                 ::/0                 to:fd00::2",
        ]
    );
}

#[test]
fn counters_are_abbreviated_as_iptables_does() {
    let expected = [
        (0, "0"),
        (99_999, "99999"),
        (100_000, "100K"),
        (100_500, "101K"),
        (9_999_499, "9999K"),
        (9_999_500, "10M"),
        (9_999_499_499, "9999M"),
        (9_999_500_000, "10G"),
        (9_999_500_000_000, "10T"),
        (9_999_500_000_000_000, "10000T"),
        (u64::MAX, "18446744T"),
    ];
    expected.iter().for_each(|(count, text)| assert_eq!(short_number(*count), *text));
}

#[test]
fn without_rules_the_built_in_chains_are_shown_empty() {
    let text = text(&Rules::default());
    assert_eq!(text.matches("(policy ACCEPT 0 packets, 0 bytes)\n pkts bytes target").count(), 7);
    assert!(text.starts_with("Chain INPUT") && text.contains("\n\nChain PREROUTING"));
    assert_eq!(rule_rows(&listed(&Rules::default(), Version::V4), name), []);
}

#[test]
fn rows_hold_numbers_policies_and_options() {
    let rules = Rules::new(rulesets(&docker0(true))[0].clone()).unwrap();
    let rows = rule_rows(&listed(&rules, Version::V4), name);
    let row = |chain: &str, num| {
        let found = rows.iter().find(|row| row.table == "filter" && row.chain == chain && row.num == num);
        serde_json::to_value(found.unwrap()).unwrap()
    };
    let expected = serde_json::json!({
        "family": "ipv4", "table": "filter", "chain": "DOCKER", "num": 1, "target": "ACCEPT", "prot": "tcp",
        "in": "!docker0", "out": "docker0", "source": "0.0.0.0/0", "destination": "172.17.0.2",
        "options": "tcp dpt:80", "packets": 0, "bytes": 0, "policy": false,
        "spec": "-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT",
    });
    assert_eq!(row("DOCKER", Some(1)), expected);
    let policy = row("FORWARD", None);
    assert_eq!((&policy["target"], &policy["policy"]), (&"DROP".into(), &true.into()));
    let jump = rows.iter().find(|row| row.chain == "FORWARD" && row.num == Some(1)).unwrap();
    assert_eq!(jump.target, "DOCKER-ISOLATION");
}
