//! Rules as rows, with the words that iptables has for their cells; `foreign/iptables.rs` prints them.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::foreign::rules_listing;
use super::rule_words::{endpoint, specification};
use crate::dataplane::NetworkId;
use crate::dataplane::filter::{Count, ListedChain, ListedRule};
use crate::dataplane::rules::{Is, Matches, Policy, RejectWith, States, Target};
use crate::wire::ip::{Prefix, Version, protocol};

/// Both tables of one IP version, as the data plane lists them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedTables {
    /// The version.
    pub version: Version,
    /// The filter table's chains; none when there are no rules.
    pub filter: Vec<ListedChain>,
    /// The nat table's.
    pub nat: Vec<ListedChain>,
}

/// One rule, or a built-in chain's policy (which has no `num`), of `show rules --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleRow {
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// `filter` or `nat`.
    pub table: String,
    /// The chain's name.
    pub chain: String,
    /// The rule's number in its chain, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num: Option<usize>,
    /// What it does, or the chain it jumps to; of a policy `ACCEPT` or `DROP`.
    pub target: String,
    /// Protocol, or `all`.
    pub prot: String,
    /// Interface that packets come in by: a name, `!` and a name, or `*`.
    #[serde(rename = "in")]
    pub input: String,
    /// Interface that packets leave by.
    #[serde(rename = "out")]
    pub output: String,
    /// Source prefix.
    pub source: String,
    /// Destination prefix.
    pub destination: String,
    /// What else it matches, and what the target is told.
    pub options: String,
    /// What it has counted.
    pub packets: u64,
    /// Of IP packets.
    pub bytes: u64,
    /// Whether this is a policy.
    pub policy: bool,
    /// The rule as `iptables -S` writes it.
    pub spec: String,
}

/// A chain with its rules: what iptables lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainRow {
    /// `filter` or `nat`.
    pub table: String,
    /// Its name.
    pub chain: String,
    /// `ACCEPT` or `DROP`; of a chain that is not built in, none.
    pub policy: Option<String>,
    /// How many rules jump to it.
    pub references: usize,
    /// What fell through to the policy.
    pub packets: u64,
    /// Of IP packets.
    pub bytes: u64,
    /// Its rules.
    pub rules: Vec<RuleRow>,
}

/// The built-in chains of each table, in iptables' order.
const BUILT_IN: [(&str, &[&str]); 2] =
    [("filter", &["INPUT", "FORWARD", "OUTPUT"]), ("nat", &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"])];

/// The rows of both tables.
pub fn rule_rows(tables: &ListedTables, name: impl Fn(NetworkId) -> String) -> Vec<RuleRow> {
    let view = View { version: tables.version, name: &name };
    let (mut rows, lists) = (Vec::new(), [("filter", &tables.filter), ("nat", &tables.nat)]);
    for (table, chains) in lists {
        for chain in chains {
            rows.extend(chain.policy.map(|(policy, count)| view.policy_row(table, chain, policy, count)));
            let numbered = (1..).zip(&chain.rules);
            rows.extend(numbered.map(|(num, rule)| view.row(table, &chain.name, num, rule)));
        }
    }
    rows
}

/// The chains of both tables; of a table without rules, what iptables shows of it: the built-in ones.
pub fn chain_rows(tables: &ListedTables, name: impl Fn(NetworkId) -> String) -> Vec<ChainRow> {
    let view = View { version: tables.version, name: &name };
    let mut rows = Vec::new();
    for ((table, built_in), chains) in BUILT_IN.into_iter().zip([&tables.filter, &tables.nat]) {
        let empty = built_in.iter().filter(|_| chains.is_empty()).map(|name| ListedChain {
            name: (*name).to_owned(),
            policy: Some((Policy::Accept, Count::default())),
            references: 0,
            rules: Vec::new(),
        });
        rows.extend(empty.map(|chain| view.chain(table, &chain)));
        rows.extend(chains.iter().map(|chain| view.chain(table, chain)));
    }
    rows
}

/// What `iptables -L -v -n` and then `iptables -t nat -L -v -n` print.
pub fn rules_text(chains: &[ChainRow]) -> String {
    format!("{}\n{}", rules_listing(chains, "filter"), rules_listing(chains, "nat"))
}

struct View<'a> {
    version: Version,
    name: &'a dyn Fn(NetworkId) -> String,
}

impl View<'_> {
    fn chain(&self, table: &'static str, chain: &ListedChain) -> ChainRow {
        let (policy, count) = chain.policy.unzip();
        let count = count.unwrap_or_default();
        let rules = (1..).zip(&chain.rules).map(|(num, rule)| self.row(table, &chain.name, num, rule));
        ChainRow {
            table: table.to_owned(),
            chain: chain.name.clone(),
            policy: policy.map(|policy| policy_name(policy).to_owned()),
            references: chain.references,
            packets: count.packets,
            bytes: count.bytes,
            rules: rules.collect(),
        }
    }

    fn policy_row(&self, table: &'static str, chain: &ListedChain, policy: Policy, count: Count) -> RuleRow {
        RuleRow {
            num: None,
            target: policy_name(policy).to_owned(),
            policy: true,
            packets: count.packets,
            bytes: count.bytes,
            spec: format!("-P {} {}", chain.name, policy_name(policy)),
            ..self.matches(table, &chain.name, &Matches::default())
        }
    }

    fn row(&self, table: &'static str, chain: &str, num: usize, listed: &ListedRule) -> RuleRow {
        let row = self.matches(table, chain, &listed.rule.matches);
        let mut options = row.options.clone();
        if let Some(told) = self.told(listed) {
            options.push_str(if options.is_empty() { "" } else { " " });
            options.push_str(&told);
        }
        RuleRow {
            num: Some(num),
            target: target_name(listed).to_owned(),
            options,
            packets: listed.count.packets,
            bytes: listed.count.bytes,
            spec: format!("-A {chain} {}", specification(listed, self.version, self.name)),
            ..row
        }
    }

    fn matches(&self, table: &'static str, chain: &str, matches: &Matches) -> RuleRow {
        RuleRow {
            family: if self.version == Version::V4 { "ipv4" } else { "ipv6" }.to_owned(),
            table: table.to_owned(),
            chain: chain.to_owned(),
            num: None,
            target: String::new(),
            prot: matches.protocol.map_or_else(|| "all".to_owned(), protocol_name),
            input: self.interface(matches.input),
            output: self.interface(matches.output),
            source: self.prefix(matches.source),
            destination: self.prefix(matches.destination),
            options: options(matches),
            packets: 0,
            bytes: 0,
            policy: false,
            spec: String::new(),
        }
    }

    fn interface(&self, interface: Option<Is<NetworkId>>) -> String {
        interface.map_or_else(|| "*".to_owned(), |is| format!("{}{}", sign(is.not), (self.name)(is.value)))
    }

    /// A prefix; of a single address without its length.
    fn prefix(&self, prefix: Option<Is<Prefix>>) -> String {
        let (all, longest) = match self.version {
            Version::V4 => (Prefix::ALL_V4, 32),
            Version::V6 => (Prefix::ALL_V6, 128),
        };
        let Is { value, not } = prefix.unwrap_or(Is { value: all, not: false });
        let text = if value.len() == longest { value.address().to_string() } else { value.to_string() };
        format!("{}{text}", sign(not))
    }

    /// What the target is told.
    fn told(&self, listed: &ListedRule) -> Option<String> {
        match &listed.rule.target {
            Target::Reject(RejectWith::TcpReset) => Some("reject-with tcp-reset".to_owned()),
            Target::Reject(RejectWith::PortUnreachable) => {
                let icmp = if self.version == Version::V4 { "icmp" } else { "icmp6" };
                Some(format!("reject-with {icmp}-port-unreachable"))
            }
            Target::Dnat { to, port } => {
                let asked = listed.rule.matches.destination_ports.as_ref();
                let more = asked.map_or(0, |ports| ports.end().saturating_sub(*ports.start()));
                Some(format!("to:{}", endpoint(*to, port.map(|port| (port, port.saturating_add(more))))))
            }
            Target::Snat { to, ports } => Some(format!("to:{}", endpoint(*to, *ports))),
            Target::Masquerade { ports } => ports.map(|ports| format!("masq ports: {}", span(ports, '-'))),
            _ => None,
        }
    }
}

fn options(matches: &Matches) -> String {
    let mut parts = Vec::new();
    let (source, destination) = (&matches.source_ports, &matches.destination_ports);
    if let Some(protocol) = matches.protocol.filter(|_| source.is_some() || destination.is_some()) {
        parts.push(protocol_name(protocol));
        parts.extend(source.as_ref().map(|range| ports('s', range)));
        parts.extend(destination.as_ref().map(|range| ports('d', range)));
    }
    parts.extend(matches.states.map(|states| format!("ctstate {}", state_names(states))));
    if matches.local_destination {
        parts.push("ADDRTYPE match dst-type LOCAL".to_owned());
    }
    parts.join(" ")
}

fn ports(side: char, range: &RangeInclusive<u16>) -> String {
    let several = if range.start() == range.end() { "" } else { "s" };
    format!("{side}pt{several}:{}", span((*range.start(), *range.end()), ':'))
}

pub(super) fn span((first, last): (u16, u16), between: char) -> String {
    if first == last { first.to_string() } else { format!("{first}{between}{last}") }
}

/// In the order in which iptables names them.
pub(super) fn state_names(states: States) -> String {
    let names = [
        (States::INVALID, "INVALID"),
        (States::NEW, "NEW"),
        (States::RELATED, "RELATED"),
        (States::ESTABLISHED, "ESTABLISHED"),
        (States::SNAT, "SNAT"),
        (States::DNAT, "DNAT"),
    ];
    let names = names.iter().filter(|(state, _)| states.intersects(*state)).map(|(_, name)| *name);
    names.collect::<Vec<_>>().join(",")
}

const fn sign(not: bool) -> &'static str {
    if not { "!" } else { "" }
}

const fn policy_name(policy: Policy) -> &'static str {
    match policy {
        Policy::Accept => "ACCEPT",
        Policy::Drop => "DROP",
    }
}

fn target_name(listed: &ListedRule) -> &str {
    match listed.rule.target {
        Target::Accept => "ACCEPT",
        Target::Drop(_) => "DROP",
        Target::Reject(_) => "REJECT",
        Target::Return => "RETURN",
        Target::Jump(_) => listed.chain.as_deref().unwrap_or_default(),
        Target::Dnat { .. } => "DNAT",
        Target::Masquerade { .. } => "MASQUERADE",
        Target::Snat { .. } => "SNAT",
    }
}

/// The names that iptables knows without asking a file.
pub(super) fn protocol_name(number: u8) -> String {
    let name = match number {
        protocol::ICMP => "icmp",
        protocol::TCP => "tcp",
        protocol::UDP => "udp",
        protocol::ICMPV6 => "icmpv6",
        33 => "dccp",
        50 => "esp",
        51 => "ah",
        132 => "sctp",
        135 => "mh",
        136 => "udplite",
        _ => return number.to_string(),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests;
