//! The rules that Docker would have built with iptables, out of what a user declared.
//!
//! Theory of operation. [`rulesets`] is a plain function of a [`Policy`]: the same declarations give the
//! same chains, whatever happened before, so that rules never drift from what they stand for. The
//! chains are those of Docker up to 17.05 (one DROP for each ordered pair of bridges), as is their order:
//!
//! ```text
//!  FORWARD ──▶ DOCKER-USER        what the user says comes first, before isolation and established flows
//!          ──▶ DOCKER-ISOLATION   between networks nothing passes; an internal one has no outside
//!              per network:       replies ▸ DOCKER (published and linked ports) ▸ out of it ▸ within it
//!              policy DROP
//!  PREROUTING ──▶ DOCKER             who comes from outside of its network to a published port
//!             ──▶ TAPSWITCH-HAIRPIN  who comes from a container: what docker-proxy does in Docker
//!  POSTROUTING                       masquerading, and hairpins
//! ```
//!
//! What Docker does with a process per port, the last chain and four kinds of lines do here: a packet
//! to a published port may cross from network to network (`RETURN ctstate DNAT` before the isolating
//! DROPs) and keeps its source (`RETURN ctstate DNAT` before masquerading); within a network it passes
//! whatever `icc` says, and is masqueraded, or the answer would not come back this way. Chains and lines
//! that nothing needs are left out: without published ports and user rules, what is shown is Docker's.
//!
//! A port that is published for some sources has its DNAT lines and its ACCEPT once for each of them. Others'
//! packets are not translated: they are for us, who have no such port, and are refused at once as at any port
//! that is not published. Two publishes of one inner port thus have sources of their own.
//!
//! Old Docker has no rule that lets the answers to a connection back through isolation; a user rule that
//! allows one would be of no use. So DOCKER-USER lets them pass when it has such a rule.

mod nat;

use crate::dataplane::NetworkId;
use crate::dataplane::outcome::DropReason;
use crate::dataplane::rules::{
    Chain, ChainId, Is, Matches, Policy as ChainPolicy, RejectWith, Rule, Ruleset, States, Table, Target,
};
use crate::wire::ip::{Addr, Prefix, Version, protocol};

/// All that the rules follow from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Whether there are rules at all (`--iptables`). Without, everything is routed everywhere.
    pub iptables: bool,
    /// Whether networks that ask for it are masqueraded (`--ip-masq`).
    pub masquerade: bool,
    /// The networks of containers, in the order in which their rules stand. Uplinks are not among them.
    pub networks: Vec<PolicyNetwork>,
    /// Published ports, in order.
    pub publishes: Vec<PolicyPublish>,
    /// Links, in order.
    pub links: Vec<PolicyLink>,
    /// Proxies, in order.
    pub proxies: Vec<PolicyProxy>,
    /// What stands in DOCKER-USER, in order.
    pub user_rules: Vec<UserRule>,
}

/// A network of containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyNetwork {
    /// Its interface.
    pub id: NetworkId,
    /// Its subnets, at most one of each version.
    pub subnets: Vec<Prefix>,
    /// Whether it has no outside (`--internal`).
    pub internal: bool,
    /// Whether its containers may talk to each other.
    pub icc: bool,
    /// Whether IPv4 packets that leave it get another source address.
    pub masquerade: bool,
    /// The same for IPv6.
    pub masquerade_v6: bool,
    /// Source ports to choose from.
    pub masquerade_ports: Option<(u16, u16)>,
    /// The source address to give, at most one of each version; without, that of the interface they leave by.
    pub masquerade_to: Vec<Addr>,
}

/// A published port, or a range of them, at one address of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyPublish {
    /// The network that the address is on.
    pub network: NetworkId,
    /// The container's address there.
    pub address: Addr,
    /// TCP or UDP.
    pub protocol: u8,
    /// The address of ours where it can be reached; none for all of them.
    pub host: Option<Addr>,
    /// Ports there, first and last.
    pub host_ports: (u16, u16),
    /// Ports of the container, first and last; as many.
    pub container_ports: (u16, u16),
    /// Who may call, all of the address's version; empty: everybody.
    pub from: Vec<Prefix>,
    /// The other networks that the container is on, of the address's version: it answers who is there past us.
    pub beside: Vec<Prefix>,
}

/// A way into a network for connections that programs of the host make by a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyProxy {
    /// The uplink that they come in by.
    pub uplink: NetworkId,
    /// The far end of the uplink, from which they come.
    pub from: Addr,
    /// The network that they go to.
    pub network: NetworkId,
}

/// A port that a link opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyLink {
    /// The network on which they meet.
    pub network: NetworkId,
    /// Who linked.
    pub from: Addr,
    /// Whom it linked; of the same version.
    pub to: Addr,
    /// TCP or UDP.
    pub protocol: u8,
    /// The exposed port.
    pub port: u16,
}

/// Who a user rule is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Party {
    /// Anybody.
    #[default]
    Any,
    /// Who is on this network, or behind this uplink.
    Network(NetworkId),
    /// Who has one of these addresses: a container is all of its own.
    Prefixes(Vec<Prefix>),
}

/// What a user rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Lets pass.
    Allow,
    /// Drops in silence.
    Drop,
    /// Drops and tells the sender that the port cannot be reached.
    Reject,
}

/// A rule of the user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRule {
    /// Where the packet comes from.
    pub from: Party,
    /// Where it goes, a published port having been translated already.
    pub to: Party,
    /// The protocol above IP; ICMP stands for ICMPv6 too.
    pub protocol: Option<u8>,
    /// Destination ports, first and last; of TCP and UDP when no protocol is given.
    pub ports: Option<(u16, u16)>,
    /// States of its flow.
    pub states: Option<States>,
    /// What to do.
    pub action: Action,
}

/// The rules of IPv4 and of IPv6.
pub fn rulesets(policy: &Policy) -> [Ruleset; 2] {
    [Version::V4, Version::V6].map(|version| {
        if policy.iptables { Builder { policy, version }.ruleset() } else { Ruleset::default() }
    })
}

/// Networks up to which each ordered pair has its line. Beyond, there would be more than ten thousand,
/// and two lines for each network say the same, as in Docker since 18.03.
const MAX_PAIRED: usize = 100;

// Where chains stand in their tables: behind the built-in ones, by name.
const DOCKER: ChainId = ChainId(3);
const ISOLATION: ChainId = ChainId(4);
const NAT_DOCKER: ChainId = ChainId(4);
const HAIRPIN: ChainId = ChainId(5);

struct Builder<'a> {
    policy: &'a Policy,
    version: Version,
}

impl<'a> Builder<'a> {
    fn ruleset(&self) -> Ruleset {
        Ruleset { filter: self.filter(), nat: self.nat() }
    }

    /// A network's subnet of this version.
    fn subnet(&self, network: &PolicyNetwork) -> Option<Prefix> {
        network.subnets.iter().copied().find(|subnet| subnet.version() == self.version)
    }

    /// The networks that are routed in this version.
    fn routed(&self) -> impl Iterator<Item = (&'a PolicyNetwork, Prefix)> {
        self.policy.networks.iter().filter_map(|network| Some((network, self.subnet(network)?)))
    }

    /// What is published in this version; nothing is on an internal network.
    fn publishes(&self) -> impl Iterator<Item = &'a PolicyPublish> {
        let version = self.version;
        let (mine, networks) =
            (move |p: &&PolicyPublish| p.address.version() == version, &self.policy.networks);
        let is_open = |p: &&PolicyPublish| networks.iter().any(|n| n.id == p.network && !n.internal);
        self.policy.publishes.iter().filter(mine).filter(is_open)
    }

    fn publishes_on(&self, network: &PolicyNetwork) -> bool {
        self.publishes().any(|publish| publish.network == network.id)
    }

    fn filter(&self) -> Table {
        let isolation = self.isolation();
        let user = self.user();
        let mut forward = Vec::new();
        if !user.is_empty() {
            forward.push(jump(Matches::default(), ChainId(ISOLATION.0 + isolation.len() as u16)));
        }
        forward.push(jump(Matches::default(), ISOLATION));
        forward.extend(self.policy.networks.iter().flat_map(|network| self.forward(network)));
        let mut chains = vec![
            built_in("INPUT", ChainPolicy::Accept, Vec::new()),
            built_in("FORWARD", ChainPolicy::Drop, forward),
            built_in("OUTPUT", ChainPolicy::Accept, Vec::new()),
            chain("DOCKER", self.docker()),
        ];
        chains.extend(isolation);
        if !user.is_empty() {
            chains.push(chain("DOCKER-USER", user));
        }
        Table { chains }
    }

    /// A network's lines in FORWARD.
    fn forward(&self, network: &PolicyNetwork) -> Vec<Rule> {
        let (inward, outward) = (to(network.id), from(network.id));
        let mut rules = Vec::new();
        if self.subnet(network).is_some() {
            rules.push(accept(Matches { states: Some(ANSWERS), ..inward.clone() }));
            rules.push(jump(inward.clone(), DOCKER));
            if !network.internal {
                rules.push(accept(Matches { output: is_not(network.id), ..outward }));
            }
        }
        // Packets that are bridged come here too, of either version, when rules may be about them.
        let target = if network.icc { Target::Accept } else { Target::Drop(DropReason::Icc) };
        rules.push(Rule { matches: within(network.id), target });
        rules
    }

    /// The chains that isolate networks.
    fn isolation(&self) -> Vec<Chain> {
        let mut rules: Vec<Rule> = self.internal().collect();
        if self.publishes().next().is_some() {
            rules.push(back(Matches { states: Some(States::DNAT), ..Matches::default() }));
        }
        let networks = &self.policy.networks;
        if networks.len() > MAX_PAIRED {
            let second = ChainId(ISOLATION.0 + 1);
            let leaving = |n: &PolicyNetwork| jump(Matches { output: is_not(n.id), ..from(n.id) }, second);
            rules.extend(networks.iter().map(leaving));
            let mut entering: Vec<_> = self.routed().map(|(network, _)| isolate(to(network.id))).collect();
            entering.push(back(Matches::default()));
            rules.push(back(Matches::default()));
            return vec![
                chain("DOCKER-ISOLATION-STAGE-1", rules),
                chain("DOCKER-ISOLATION-STAGE-2", entering),
            ];
        }
        let pairs = networks.iter().flat_map(|one| self.routed().map(move |(other, _)| (one.id, other.id)));
        let pairs = pairs.filter(|(one, other)| one != other);
        rules.extend(pairs.map(|(one, other)| isolate(Matches { output: is(other), ..from(one) })));
        rules.push(back(Matches::default()));
        vec![chain("DOCKER-ISOLATION", rules)]
    }

    /// An internal network knows its own subnet only.
    fn internal(&self) -> impl Iterator<Item = Rule> {
        self.routed().filter(|(network, _)| network.internal).flat_map(|(network, subnet)| {
            let elsewhere = Some(Is { value: subnet, not: true });
            [
                isolate(Matches { source: elsewhere, ..to(network.id) }),
                isolate(Matches { destination: elsewhere, ..from(network.id) }),
            ]
        })
    }

    /// Published and linked ports.
    fn docker(&self) -> Vec<Rule> {
        let published = self.publishes().flat_map(|publish| {
            let matches = of_container(publish, to(publish.network));
            let matches = Matches { input: is_not(publish.network), ..matches };
            per_source(publish, matches).map(accept)
        });
        let closed = || self.routed().map(|(network, _)| network).filter(|network| !network.icc);
        let links = self.policy.links.iter().filter(|link| link.to.version() == self.version);
        let links = links.filter(|link| closed().any(|network| network.id == link.network));
        let hairpins = closed().filter(|network| self.publishes_on(network));
        let hairpins =
            hairpins.map(|network| accept(Matches { states: Some(States::DNAT), ..within(network.id) }));
        let proxies = self.policy.proxies.iter().filter(|proxy| proxy.from.version() == self.version);
        let proxied = proxies.map(|proxy| {
            let (input, source) = (is(proxy.uplink), is(host(proxy.from)));
            accept(Matches { input, source, ..to(proxy.network) })
        });
        let published = published.chain(proxied);
        once_each(published.chain(links.flat_map(link_rules)).chain(hairpins))
    }

    /// The user's rules, if there are any.
    fn user(&self) -> Vec<Rule> {
        let rules = &self.policy.user_rules;
        let mut lines: Vec<Rule> = rules.iter().flat_map(|rule| user_lines(rule, self.version)).collect();
        if lines.is_empty() {
            return lines;
        }
        if lines.iter().any(|rule| rule.target == Target::Accept) {
            lines.push(accept(Matches { states: Some(ANSWERS), ..Matches::default() }));
        }
        lines.push(back(Matches::default()));
        lines
    }
}

/// One side of a packet: its interface or its address, as far as they matter.
type Side = (Option<Is<NetworkId>>, Option<Is<Prefix>>);

/// States of packets that answer, or are about, what was let through before.
const ANSWERS: States = States::ESTABLISHED.union(States::RELATED);

/// A user's rule as it stands in DOCKER-USER: a line for each pair of prefixes and each protocol.
pub fn user_lines(rule: &UserRule, version: Version) -> Vec<Rule> {
    let [from, to] = [&rule.from, &rule.to].map(|party| sides(party, version));
    let protocols = match (rule.protocol, rule.ports) {
        (None, Some(_)) => vec![Some(protocol::TCP), Some(protocol::UDP)],
        (Some(protocol::ICMP), _) if version == Version::V6 => vec![Some(protocol::ICMPV6)],
        (protocol, _) => vec![protocol],
    };
    let target = match rule.action {
        Action::Allow => Target::Accept,
        Action::Drop => Target::Drop(DropReason::Rule),
        Action::Reject => Target::Reject(RejectWith::PortUnreachable),
    };
    let pairs = from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to)));
    let lines = pairs.flat_map(|pair| protocols.iter().map(move |protocol| (pair, *protocol)));
    let line = |(((input, source), (output, destination)), protocol): ((Side, Side), Option<u8>)| {
        let ports = rule.ports.map(|(first, last)| first..=last);
        let matches = Matches {
            input,
            output,
            source,
            destination,
            protocol,
            destination_ports: ports,
            states: rule.states,
            ..Matches::default()
        };
        Rule { matches, target: target.clone() }
    };
    lines.map(line).collect()
}

/// What a party is in this version: interfaces or prefixes.
fn sides(party: &Party, version: Version) -> Vec<Side> {
    let prefix = |prefix: &Prefix| (None, Some(Is { value: *prefix, not: false }));
    match party {
        Party::Any => vec![(None, None)],
        Party::Network(network) => vec![(is(*network), None)],
        Party::Prefixes(prefixes) => {
            prefixes.iter().filter(|prefix| prefix.version() == version).map(prefix).collect()
        }
    }
}

const fn is<T: Copy>(value: T) -> Option<Is<T>> {
    Some(Is { value, not: false })
}

const fn is_not(value: NetworkId) -> Option<Is<NetworkId>> {
    Some(Is { value, not: true })
}

/// What came in by an interface.
fn from(network: NetworkId) -> Matches {
    Matches { input: is(network), ..Matches::default() }
}

/// What leaves by an interface.
fn to(network: NetworkId) -> Matches {
    Matches { output: is(network), ..Matches::default() }
}

/// What stays on a network.
fn within(network: NetworkId) -> Matches {
    Matches { input: is(network), ..to(network) }
}

/// What is for a container's published port, its destination being translated already.
fn of_container(publish: &PolicyPublish, matches: Matches) -> Matches {
    let (first, last) = publish.container_ports;
    Matches {
        destination: is(host(publish.address)),
        protocol: Some(publish.protocol),
        destination_ports: Some(first..=last),
        ..matches
    }
}

/// A match for each source that may call a publish.
fn per_source(publish: &PolicyPublish, matches: Matches) -> impl Iterator<Item = Matches> {
    let everybody = publish.from.is_empty().then_some(None);
    let sources = everybody.into_iter().chain(publish.from.iter().copied().map(is));
    sources.map(move |source| Matches { source, ..matches.clone() })
}

/// The prefix of an address alone.
fn host(address: Addr) -> Prefix {
    Prefix::new(address, u8::MAX)
}

const fn accept(matches: Matches) -> Rule {
    Rule { matches, target: Target::Accept }
}

const fn back(matches: Matches) -> Rule {
    Rule { matches, target: Target::Return }
}

const fn isolate(matches: Matches) -> Rule {
    Rule { matches, target: Target::Drop(DropReason::Isolated) }
}

const fn jump(matches: Matches, to: ChainId) -> Rule {
    Rule { matches, target: Target::Jump(to) }
}

/// What a link opens: the exposed port, and the way back from it.
fn link_rules(link: &PolicyLink) -> [Rule; 2] {
    let way = |source, destination| Matches {
        source: is(host(source)),
        destination: is(host(destination)),
        protocol: Some(link.protocol),
        ..within(link.network)
    };
    let ports = Some(link.port..=link.port);
    [
        accept(Matches { destination_ports: ports.clone(), ..way(link.from, link.to) }),
        accept(Matches { source_ports: ports, ..way(link.to, link.from) }),
    ]
}

/// Rules without those that say what an earlier one said.
fn once_each(rules: impl Iterator<Item = Rule>) -> Vec<Rule> {
    let mut seen = hashbrown::HashSet::with_hasher(foldhash::fast::FixedState::default());
    rules.filter(|rule| seen.insert(rule.clone())).collect()
}

fn built_in(name: &str, policy: ChainPolicy, rules: Vec<Rule>) -> Chain {
    Chain { name: name.to_owned(), policy: Some(policy), rules }
}

fn chain(name: &str, rules: Vec<Rule>) -> Chain {
    Chain { name: name.to_owned(), policy: None, rules }
}

#[cfg(test)]
mod tests;
