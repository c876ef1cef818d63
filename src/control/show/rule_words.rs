//! One rule in words, as `iptables -S` writes it: what an explanation names.

use super::rules::{protocol_name, span, state_names};
use crate::dataplane::NetworkId;
use crate::dataplane::filter::{ListedRule, Matched, TableKind};
use crate::dataplane::rules::{Is, Matches, RejectWith, Target};
use crate::wire::ip::{Addr, Version};

/// A match of a walk: `filter FORWARD 3: -i docker0 ! -o docker0 -j ACCEPT`, or `filter FORWARD: policy`.
pub fn rule_words(matched: &Matched<'_>, name: impl Fn(NetworkId) -> String) -> String {
    let table = match matched.table {
        TableKind::Filter => "filter",
        TableKind::Nat => "nat",
    };
    let chain = matched.chain;
    match (matched.number, matched.rule) {
        (Some(number), Some(rule)) => {
            let mut words = conditions(&rule.matches, &name, false);
            let first = rule.matches.destination_ports.as_ref().map(|ports| (*ports.start(), *ports.end()));
            words.push(format!("-j {}", target(&rule.target, matched.jump, first)));
            format!("{table} {chain} {number}: {}", words.join(" "))
        }
        _ => format!("{table} {chain}: policy"),
    }
}

/// The whole rule as `iptables -S` writes it, but for its chain.
pub(super) fn specification(
    listed: &ListedRule,
    version: Version,
    name: &dyn Fn(NetworkId) -> String,
) -> String {
    let matches = &listed.rule.matches;
    let asked = matches.destination_ports.as_ref().map(|ports| (*ports.start(), *ports.end()));
    let mut words = conditions(matches, name, true);
    let target = match (&listed.rule.target, version) {
        (Target::Reject(RejectWith::PortUnreachable), Version::V4) => {
            "REJECT --reject-with icmp-port-unreachable".to_owned()
        }
        (Target::Reject(RejectWith::PortUnreachable), Version::V6) => {
            "REJECT --reject-with icmp6-port-unreachable".to_owned()
        }
        (other, _) => target(other, listed.chain.as_deref(), asked),
    };
    words.push(format!("-j {target}"));
    words.join(" ")
}

/// The matches; with the modules that they are of, if they are to be `whole`.
fn conditions(matches: &Matches, name: &dyn Fn(NetworkId) -> String, whole: bool) -> Vec<String> {
    let flag =
        |flag: &str, not: bool, value: String| format!("{}{flag} {value}", if not { "! " } else { "" });
    let interface = |letter, is: Option<Is<NetworkId>>| is.map(|is| flag(letter, is.not, name(is.value)));
    let ports = |side, ports: &Option<std::ops::RangeInclusive<u16>>| {
        ports.as_ref().map(|ports| flag(side, false, span((*ports.start(), *ports.end()), ':')))
    };
    let module = |wanted: bool, name: &str| (whole && wanted).then(|| format!("-m {name}"));
    let protocol = matches.protocol.map(protocol_name);
    let has_ports = matches.source_ports.is_some() || matches.destination_ports.is_some();
    let words = [
        matches.source.map(|is| flag("-s", is.not, is.value.to_string())),
        matches.destination.map(|is| flag("-d", is.not, is.value.to_string())),
        interface("-i", matches.input),
        interface("-o", matches.output),
        protocol.clone().map(|protocol| flag("-p", false, protocol)),
        module(has_ports, protocol.as_deref().unwrap_or_default()),
        ports("--sport", &matches.source_ports),
        ports("--dport", &matches.destination_ports),
        module(matches.states.is_some(), "conntrack"),
        matches.states.map(|states| flag("--ctstate", false, state_names(states))),
        module(matches.local_destination, "addrtype"),
        matches.local_destination.then(|| "--dst-type LOCAL".to_owned()),
    ];
    words.into_iter().flatten().collect()
}

fn target(target: &Target, jump: Option<&str>, asked: Option<(u16, u16)>) -> String {
    match target {
        Target::Accept => "ACCEPT".to_owned(),
        Target::Drop(_) => "DROP".to_owned(),
        Target::Reject(RejectWith::PortUnreachable) => "REJECT".to_owned(),
        Target::Reject(RejectWith::TcpReset) => "REJECT --reject-with tcp-reset".to_owned(),
        Target::Return => "RETURN".to_owned(),
        Target::Jump(_) => jump.unwrap_or_default().to_owned(),
        Target::Dnat { to, port } => {
            let width = asked.map_or(0, |(first, last)| last.saturating_sub(first));
            let ports = port.map(|port| (port, port.saturating_add(width)));
            format!("DNAT --to-destination {}", endpoint(*to, ports))
        }
        Target::Masquerade { ports: None } => "MASQUERADE".to_owned(),
        Target::Masquerade { ports: Some(ports) } => format!("MASQUERADE --to-ports {}", span(*ports, '-')),
        Target::Snat { to, ports } => format!("SNAT --to-source {}", endpoint(*to, *ports)),
    }
}

/// An address with ports as iptables writes it: `172.17.0.2:80-90`, `[fd00::2]:80`.
pub(super) fn endpoint(to: Addr, ports: Option<(u16, u16)>) -> String {
    match ports {
        None => to.to_string(),
        Some(ports) if to.version() == Version::V4 => format!("{to}:{}", span(ports, '-')),
        Some(ports) => format!("[{to}]:{}", span(ports, '-')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::docker_rules::{Policy, PolicyNetwork, PolicyPublish, rulesets};
    use crate::dataplane::filter::{Rules, Subject, Trace};
    use crate::dataplane::rules::{FilterHook, NatHook, States};
    use crate::wire::ip::{Prefix, protocol};

    #[test]
    fn the_way_of_a_packet_to_a_published_port() {
        let (docker0, outside) = (NetworkId(1), NetworkId(2));
        let address = Addr::v4([172, 17, 0, 2]);
        let network = PolicyNetwork {
            id: docker0,
            subnets: vec![Prefix::new(address, 16)],
            internal: false,
            icc: true,
            masquerade: true,
            masquerade_v6: true,
            masquerade_ports: None,
            masquerade_to: Vec::new(),
        };
        let publish = PolicyPublish {
            network: docker0,
            address,
            protocol: protocol::TCP,
            host: None,
            host_ports: (8000, 8010),
            container_ports: (80, 90),
            from: Vec::new(),
            beside: Vec::new(),
        };
        let policy = Policy {
            iptables: true,
            masquerade: true,
            networks: vec![network],
            publishes: vec![publish],
            ..Policy::default()
        };
        let [v4, _] = rulesets(&policy);
        let rules = Rules::new(v4).unwrap();
        let mut subject = Subject {
            input: Some(outside),
            output: None,
            source: Addr::v4([203, 0, 113, 7]),
            destination: Addr::v4([203, 0, 113, 1]),
            protocol: protocol::TCP,
            ports: Some((40_000, 8003)),
            states: States::NEW,
            local: true,
        };
        let name = |id| if id == docker0 { "docker0".to_owned() } else { "wan".to_owned() };
        let mut words = Vec::new();
        let mut trace = Trace::default();
        let mut note = |trace: &Trace| {
            words.extend(rules.describe(trace).iter().map(|matched| rule_words(matched, name)));
        };
        rules.nat(NatHook::Prerouting, &subject, &mut trace);
        note(&trace);
        subject = Subject { output: Some(docker0), destination: address, ports: Some((1, 83)), ..subject };
        rules.filter(FilterHook::Forward, &subject, &mut trace);
        note(&trace);
        rules.filter(FilterHook::Input, &subject, &mut trace);
        note(&trace);
        assert_eq!(
            words,
            [
                "nat PREROUTING 1: --dst-type LOCAL -j DOCKER",
                "nat DOCKER 2: ! -i docker0 -p tcp --dport 8000:8010 -j DNAT --to-destination 172.17.0.2:80-90",
                "filter FORWARD 1: -j DOCKER-ISOLATION",
                "filter DOCKER-ISOLATION 2: -j RETURN",
                "filter FORWARD 3: -o docker0 -j DOCKER",
                "filter DOCKER 1: -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp --dport 80:90 -j ACCEPT",
                "filter INPUT: policy",
            ]
        );
    }
}
