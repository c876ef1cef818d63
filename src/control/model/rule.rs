//! Rules of the user's: an ordered list, in the place of Docker's DOCKER-USER chain.
//!
//! A rule names networks by their ids, which keeps them: a network that a rule names is not removed.
//! Containers it names by their names, so that it holds for whoever is called so.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Model;
use crate::control::docker_rules::Action;
use crate::control::ports::PortRange;
use crate::control::{Id, Kind, Refused};
use crate::dataplane::rules::States;
use crate::wire::ip::protocol;

/// A rule, as a user asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSpec {
    /// Where packets come from: a network (`net:NAME`), a container, an address or a prefix; none: anywhere.
    #[serde(default)]
    pub from: Option<String>,
    /// Where they go.
    #[serde(default)]
    pub to: Option<String>,
    /// `tcp`, `udp`, `icmp`, a number, or `all`.
    #[serde(default)]
    pub proto: Option<String>,
    /// Destination ports.
    #[serde(default)]
    pub dport: Option<PortRange>,
    /// States of their flow, as `new,established`.
    #[serde(default)]
    pub state: Option<String>,
    /// What becomes of them.
    pub action: Action,
    /// The lab it came with, and goes with.
    #[serde(default)]
    pub lab: Option<String>,
}

/// Whom a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Anybody.
    Any,
    /// Who is on this network, or behind this uplink.
    Network(Id),
    /// The container of this name.
    Container(String),
    /// Who has one of these addresses.
    Prefix(IpNet),
}

/// A rule that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Where packets come from.
    pub from: Side,
    /// Where they go.
    pub to: Side,
    /// The protocol above IP.
    pub protocol: Option<u8>,
    /// Destination ports.
    pub dport: Option<PortRange>,
    /// States of their flow.
    pub states: Option<States>,
    /// What becomes of them.
    pub action: Action,
    /// The lab it came with, and goes with.
    pub lab: Option<String>,
}

/// Names of protocols, beside those that have ports.
const PROTOCOLS: [(&str, u8); 5] = [
    ("tcp", protocol::TCP),
    ("udp", protocol::UDP),
    ("icmp", protocol::ICMP),
    ("icmpv6", protocol::ICMPV6),
    ("ipv6-icmp", protocol::ICMPV6),
];

/// Names of a flow's states, as iptables has them.
const STATES: [(&str, States); 6] = [
    ("NEW", States::NEW),
    ("ESTABLISHED", States::ESTABLISHED),
    ("RELATED", States::RELATED),
    ("INVALID", States::INVALID),
    ("DNAT", States::DNAT),
    ("SNAT", States::SNAT),
];

impl Rule {
    /// Its protocol's name, or number; `all` if it has none.
    pub fn protocol_name(&self) -> String {
        let Some(number) = self.protocol else { return "all".to_owned() };
        let known = PROTOCOLS.iter().find(|(_, known)| *known == number);
        known.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
    }

    /// The names of its states, joined by commas; empty if it has none.
    pub fn state_names(&self) -> String {
        let has = |(_, state): &&(&str, States)| self.states.is_some_and(|states| states.intersects(*state));
        STATES.iter().filter(has).map(|(name, _)| *name).collect::<Vec<_>>().join(",")
    }
}

impl Model {
    /// The user's rules, in order; numbers begin with 1.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Adds a rule: behind all others, or `before` the one of this number.
    ///
    /// # Errors
    /// `bad_rule`, `bad_port`, `unknown_rule`, `unknown_network`, `ambiguous`.
    pub fn add_rule(&mut self, spec: &RuleSpec, before: Option<usize>) -> Result<usize, Refused> {
        let rule = self.plan_rule(spec)?;
        let at = before.map_or(Ok(self.rules.len()), |number| self.rule_at(number))?;
        self.rules.insert(at, rule);
        Ok(at + 1)
    }

    /// Removes the rule of this number.
    ///
    /// # Errors
    /// `unknown_rule`.
    pub fn remove_rule(&mut self, number: usize) -> Result<Rule, Refused> {
        let at = self.rule_at(number)?;
        Ok(self.rules.remove(at))
    }

    /// Removes the rules and routes of a lab, or of all labs.
    pub fn forget_lab(&mut self, lab: Option<&str>) {
        let goes = |of: &Option<String>| of.is_some() && (lab.is_none() || of.as_deref() == lab);
        self.rules.retain(|rule| !goes(&rule.lab));
        self.routes.retain(|_, route| !goes(&route.lab));
    }

    /// The place of a rule in the list.
    fn rule_at(&self, number: usize) -> Result<usize, Refused> {
        let count = self.rules.len();
        let at = number.checked_sub(1).filter(|at| *at < count);
        at.ok_or_else(|| {
            let has = match count {
                0 => "there are none".to_owned(),
                _ => format!("they run from 1 to {count}"),
            };
            Refused::new(
                Kind::UnknownRule,
                format!("rule {number} is not there: {has} ('tapswitch rule ls')"),
            )
        })
    }

    fn plan_rule(&self, spec: &RuleSpec) -> Result<Rule, Refused> {
        let side = |word: &Option<String>| word.as_deref().map_or(Ok(Side::Any), |word| self.side(word));
        let protocol = spec.proto.as_deref().map_or(Ok(None), read_protocol)?;
        if spec.dport.is_some() && protocol.is_some_and(|it| ![protocol::TCP, protocol::UDP].contains(&it)) {
            let text =
                "a rule with --dport is about tcp or udp: say --proto tcp, --proto udp, or none for both";
            return Err(Refused::new(Kind::BadRule, text));
        }
        let rule = Rule {
            from: side(&spec.from)?,
            to: side(&spec.to)?,
            protocol,
            dport: spec.dport,
            states: spec.state.as_deref().map(read_states).transpose()?,
            action: spec.action,
            lab: spec.lab.clone(),
        };
        if let (Side::Prefix(from), Side::Prefix(to)) = (&rule.from, &rule.to)
            && from.addr().is_ipv4() != to.addr().is_ipv4()
        {
            let text =
                format!("a rule from {from} to {to} matches nothing: give addresses of one IP version");
            return Err(Refused::new(Kind::BadRule, text));
        }
        Ok(rule)
    }

    /// Whom `word` means: an address or prefix, `net:NAME`, a network's or a container's name or id.
    fn side(&self, word: &str) -> Result<Side, Refused> {
        if let Some(prefix) = read_prefix(word) {
            if prefix != prefix.trunc() {
                let text = format!("prefix {prefix} of a rule has host bits set: write {}", prefix.trunc());
                return Err(Refused::new(Kind::BadRule, text));
            }
            return Ok(Side::Prefix(prefix));
        }
        if let Some(name) = word.strip_prefix("net:") {
            return self.find_any_network(name).map(|network| Side::Network(network.id));
        }
        let (network, container) = (self.find_any_network(word), self.find_container(word));
        match (network, container) {
            (Ok(network), Ok(container)) => {
                let text = format!(
                    "'{word}' is a {} and a container: say net:{}, or {} for the container",
                    network.what(),
                    network.name,
                    container.id.short()
                );
                Err(Refused::new(Kind::Ambiguous, text))
            }
            (Ok(network), Err(_)) => Ok(Side::Network(network.id)),
            (Err(_), Ok(container)) => Ok(Side::Container(container.name.clone())),
            (Err(refused), Err(_)) if refused.kind == Kind::Ambiguous => Err(refused),
            (Err(_), Err(refused)) if refused.kind == Kind::Ambiguous => Err(refused),
            (Err(_), Err(_)) => {
                let text = format!(
                    "'{word}' of a rule is no network, container, address or prefix: 'tapswitch network ls' and 'tapswitch ps' list them"
                );
                Err(Refused::new(Kind::BadRule, text))
            }
        }
    }

    /// The number of a rule that names this network.
    pub(super) fn rule_about(&self, network: Id) -> Option<usize> {
        let side = Side::Network(network);
        self.rules.iter().position(|rule| rule.from == side || rule.to == side).map(|at| at + 1)
    }
}

fn read_prefix(word: &str) -> Option<IpNet> {
    let address = || IpAddr::from_str(word).ok().map(IpNet::from);
    IpNet::from_str(word).ok().or_else(address)
}

fn read_protocol(word: &str) -> Result<Option<u8>, Refused> {
    let named = PROTOCOLS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, number)| *number);
    match named.or_else(|| word.parse().ok()) {
        _ if word.eq_ignore_ascii_case("all") => Ok(None),
        // iptables' number for all of them.
        Some(0) => Ok(None),
        Some(number) => Ok(Some(number)),
        None => Err(Refused::new(
            Kind::BadRule,
            format!(
                "protocol '{word}' of a rule is not known: write tcp, udp, icmp, all, or a number up to 255"
            ),
        )),
    }
}

fn read_states(text: &str) -> Result<States, Refused> {
    text.split(',').try_fold(States::default(), |states, word| {
        let known = STATES.iter().find(|(name, _)| name.eq_ignore_ascii_case(word.trim()));
        let refuse = || {
            let all = STATES.map(|(name, _)| name).join(", ");
            Refused::new(
                Kind::BadRule,
                format!("state '{word}' of a rule is not known: the states are {all}"),
            )
        };
        known.map(|(_, state)| states.union(*state)).ok_or_else(refuse)
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{container, id, network, refused, sample};
    use super::*;

    fn spec(from: &str, to: &str) -> RuleSpec {
        let word = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        RuleSpec {
            from: word(from),
            to: word(to),
            proto: None,
            dport: None,
            state: None,
            action: Action::Drop,
            lab: None,
        }
    }

    #[test]
    fn rules_stand_in_order_and_are_found_by_number() {
        let mut model = sample();
        let tcp = RuleSpec {
            proto: Some("TCP".to_owned()),
            dport: Some("80-90".parse().unwrap()),
            state: Some("new,established".to_owned()),
            action: Action::Allow,
            ..spec("net1", "alice")
        };
        assert_eq!(model.add_rule(&tcp, None), Ok(1));
        assert_eq!(model.add_rule(&spec("10.0.0.0/8", ""), None), Ok(2));
        assert_eq!(model.add_rule(&spec("net:net2", "fd00::1"), Some(1)), Ok(1));
        let net = |name: &str| Side::Network(model.find_network(name).unwrap().id);
        let sides: Vec<(Side, Side)> =
            model.rules().iter().map(|rule| (rule.from.clone(), rule.to.clone())).collect();
        let prefix = |text: &str| Side::Prefix(text.parse().unwrap());
        assert_eq!(
            sides,
            [
                (net("net2"), prefix("fd00::1/128")),
                (net("net1"), Side::Container("alice".to_owned())),
                (prefix("10.0.0.0/8"), Side::Any)
            ]
        );
        let rule = &model.rules()[1];
        assert_eq!((rule.protocol_name().as_str(), rule.state_names().as_str()), ("tcp", "NEW,ESTABLISHED"));
        assert_eq!(
            (model.rules()[0].protocol_name(), model.rules()[0].state_names()),
            ("all".to_owned(), String::new())
        );
        let why = refused(&mut model, |model| model.remove_rule(4));
        assert_eq!(why.message, "rule 4 is not there: they run from 1 to 3 ('tapswitch rule ls')");
        assert_eq!(refused(&mut model, |model| model.remove_rule(0)).kind, Kind::UnknownRule);
        model.remove_rule(1).unwrap();
        assert_eq!(model.rules().len(), 2);
        model.remove_container("alice", true).unwrap();
        model.remove_container("router", true).unwrap();
        let why = refused(&mut model, |model| model.remove_network("net1"));
        assert_eq!(
            why.message,
            "network 'net1' cannot be removed: rule 1 is about it, 'tapswitch rule rm 1' first"
        );
        assert_eq!(model.prune_networks().len(), 1, "what is not needed goes, the other stays");
    }

    #[test]
    fn rules_are_refused_with_the_reason() {
        let mut model = sample();
        model.create_network(&network("twin", &[]), id(9), 9, &[]).unwrap();
        model.create_container(&container("twin", &["twin"]), id(20), 9).unwrap();
        let with = |edit: fn(&mut RuleSpec)| {
            let mut spec = spec("", "");
            edit(&mut spec);
            spec
        };
        let twin = format!(
            "'twin' is a network and a container: say net:twin, or {} for the container",
            id(20).short()
        );
        let table = [
            (spec("twin", ""), Kind::Ambiguous, twin.as_str()),
            (
                spec("nobody", ""),
                Kind::BadRule,
                "'nobody' of a rule is no network, container, address or prefix",
            ),
            (spec("net:nobody", ""), Kind::UnknownNetwork, "network nobody not found"),
            (
                spec("10.0.0.1/8", ""),
                Kind::BadRule,
                "prefix 10.0.0.1/8 of a rule has host bits set: write 10.0.0.0/8",
            ),
            (
                spec("10.0.0.1", "fd00::/8"),
                Kind::BadRule,
                "a rule from 10.0.0.1/32 to fd00::/8 matches nothing",
            ),
            (
                with(|it| it.proto = Some("ipx".to_owned())),
                Kind::BadRule,
                "protocol 'ipx' of a rule is not known",
            ),
            (
                with(|it| it.state = Some("new,old".to_owned())),
                Kind::BadRule,
                "state 'old' of a rule is not known: the states are NEW,",
            ),
            (
                with(|it| (it.proto, it.dport) = (Some("icmp".to_owned()), Some("80".parse().unwrap()))),
                Kind::BadRule,
                "a rule with --dport is about tcp or udp",
            ),
        ];
        for (spec, kind, message) in table {
            let why = refused(&mut model, |model| model.add_rule(&spec, None));
            assert!(why.kind == kind && why.message.starts_with(message), "{why} / {message}");
        }
        assert_eq!(
            refused(&mut model, |model| model.add_rule(&spec("", ""), Some(1))).message,
            "rule 1 is not there: there are none ('tapswitch rule ls')"
        );
        for (word, number) in
            [("all", None), ("0", None), ("icmp", Some(1)), ("ipv6-icmp", Some(58)), ("47", Some(47))]
        {
            let spec = RuleSpec { proto: Some(word.to_owned()), ..spec("", "") };
            let at = model.add_rule(&spec, None).unwrap();
            assert_eq!(model.rules()[at - 1].protocol, number, "{word}");
        }
        assert_eq!(model.rules()[4].protocol_name(), "47");
    }

    #[test]
    fn a_labs_rules_go_with_it() {
        let mut model = sample();
        for lab in [Some("one"), Some("two"), None] {
            model.add_rule(&RuleSpec { lab: lab.map(str::to_owned), ..spec("", "") }, None).unwrap();
        }
        model.forget_lab(Some("one"));
        assert_eq!(
            model.rules().iter().map(|rule| rule.lab.as_deref()).collect::<Vec<_>>(),
            [Some("two"), None]
        );
        model.forget_lab(None);
        assert_eq!(model.rules().iter().map(|rule| rule.lab.as_deref()).collect::<Vec<_>>(), [None]);
    }
}
