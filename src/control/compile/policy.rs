//! What the rules follow from, out of the model.

use std::net::IpAddr;

use super::{network_number, prefix};
use crate::control::docker_rules::{
    Party, Policy, PolicyLink, PolicyNetwork, PolicyProxy, PolicyPublish, UserRule,
};
use crate::control::ipam::overlap;
use crate::control::model::{Container, Model, Network, Rule, Side};
use crate::control::ports::Publish;
use crate::dataplane::NetworkId;
use crate::wire::ip::{Addr, Prefix, Version};

/// The policy of a model.
pub fn policy(model: &Model) -> Policy {
    let mut networks: Vec<&Network> = model.networks();
    networks.sort_by_key(|network| (network.created_ns, network.number));
    let publishing = model.containers_that(|container| !container.publishes.is_empty());
    let linking = model.containers_that(|container| !container.links.is_empty());
    Policy {
        iptables: model.firewall.iptables,
        masquerade: model.firewall.ip_masq,
        networks: networks.into_iter().map(network).collect(),
        publishes: publishing.into_iter().flat_map(|container| publishes(model, container)).collect(),
        proxies: proxies(model),
        links: linking.into_iter().flat_map(|container| links(model, container)).collect(),
        user_rules: model.rules().iter().filter_map(|rule| user_rule(model, rule)).collect(),
    }
}

fn network(network: &Network) -> PolicyNetwork {
    let options = &network.options;
    let v4 = options.masquerade_to.map(Addr::from);
    let v6 = options.masquerade_to6.map(Addr::from);
    PolicyNetwork {
        id: network_number(network),
        subnets: network.subnets.iter().map(|subnet| prefix(subnet.prefix())).collect(),
        internal: network.internal,
        icc: options.icc,
        masquerade: options.masquerade,
        masquerade_v6: options.masquerade,
        masquerade_ports: options.masquerade_ports.map(|ports| (ports.first(), ports.last())),
        masquerade_to: v4.into_iter().chain(v6).collect(),
    }
}

/// A container's publishes, at its address of each version that leads outside.
fn publishes(model: &Model, container: &Container) -> Vec<PolicyPublish> {
    let ends = [true, false].map(|ipv4| model.way_out(&container.endpoints, ipv4));
    let at = |publish: &Publish, outer: IpAddr| {
        let (network, _, address) = ends.iter().flatten().find(|(.., it)| it.is_ipv4() == outer.is_ipv4())?;
        let (host, inner) = (publish.host, publish.container.ports);
        let from: Vec<Prefix> = publish.sources(outer).map(prefix).collect();
        // No source of this version is nobody, not everybody.
        if from.is_empty() && !publish.from.is_empty() {
            return None;
        }
        Some(PolicyPublish {
            network: network_number(network),
            address: Addr::from(*address),
            protocol: publish.container.protocol.number(),
            host: (!outer.is_unspecified()).then(|| Addr::from(outer)),
            host_ports: (host.first(), host.last()),
            container_ports: (inner.first(), inner.last()),
            from,
            beside: beside(model, container, network, outer.is_ipv4()),
        })
    };
    let of =
        |publish| Publish::addresses(publish).filter_map(move |outer| at(publish, outer)).collect::<Vec<_>>();
    container.publishes.iter().flat_map(of).collect()
}

/// The subnets of one IP version on which a container is besides a network.
fn beside(model: &Model, container: &Container, network: &Network, ipv4: bool) -> Vec<Prefix> {
    let others = container.endpoints.iter().filter(|endpoint| endpoint.network != network.id);
    let subnets = others.filter_map(|other| model.network(other.network)).flat_map(|other| &other.subnets);
    let subnets = subnets.map(|subnet| prefix(subnet.prefix()));
    subnets.filter(|subnet| (subnet.version() == Version::V4) == ipv4).collect()
}

/// The ways into networks that have proxies.
fn proxies(model: &Model) -> Vec<PolicyProxy> {
    let networks: Vec<&Network> = model.proxied.iter().filter_map(|id| model.network(*id)).collect();
    let uplinks = model.uplinks().into_iter().filter(|uplink| uplink.is_user());
    let ways = uplinks.flat_map(|uplink| {
        let far_ends = uplink.uplink.iter().flat_map(|uplink| &uplink.gateways);
        far_ends.map(move |far_end| (network_number(uplink), Addr::from(*far_end)))
    });
    let into = |(uplink, from)| {
        networks.iter().map(move |network| PolicyProxy { uplink, from, network: network_number(network) })
    };
    ways.flat_map(into).collect()
}

/// The ports that a container's links open, on each network that it shares with the other.
fn links(model: &Model, container: &Container) -> Vec<PolicyLink> {
    let mut all = Vec::new();
    for (link, other, own, theirs) in model.links_of(container) {
        let Some(network) = model.network(own.network) else { continue };
        let ports = if link.ports.is_empty() { other.exposed_ports() } else { link.ports.clone() };
        let pairs = own.addresses.iter().zip(&theirs.addresses);
        for ((from, to), exposed) in pairs.flat_map(|pair| ports.iter().map(move |exposed| (pair, exposed))) {
            let opened = (exposed.ports.first()..=exposed.ports.last()).map(|port| PolicyLink {
                network: network_number(network),
                from: from.addr().into(),
                to: to.addr().into(),
                protocol: exposed.protocol.number(),
                port,
            });
            all.extend(opened);
        }
    }
    all
}

/// A rule as it holds now; none while the container that it names has no address.
fn user_rule(model: &Model, rule: &Rule) -> Option<UserRule> {
    Some(UserRule {
        from: party(model, &rule.from)?,
        to: party(model, &rule.to)?,
        protocol: rule.protocol,
        ports: rule.dport.map(|ports| (ports.first(), ports.last())),
        states: rule.states,
        action: rule.action,
    })
}

fn party(model: &Model, side: &Side) -> Option<Party> {
    match side {
        Side::Any => Some(Party::Any),
        Side::Network(id) => model.network(*id).map(network_number).map(Party::Network),
        Side::Prefix(net) => Some(Party::Prefixes(vec![prefix(*net)])),
        Side::Container(name) => {
            let prefixes = addresses(model, name);
            (!prefixes.is_empty()).then_some(Party::Prefixes(prefixes))
        }
    }
}

fn addresses(model: &Model, name: &str) -> Vec<Prefix> {
    let container = model.container_named(name);
    let nets = container.into_iter().flat_map(|it| &it.endpoints).flat_map(|endpoint| &endpoint.addresses);
    nets.map(|net| prefix(net.addr().into())).collect()
}

/// Whether frames between containers of a network pass the rules: when it keeps them apart, or a
/// user's rule may be about them.
pub(super) fn filters_bridged(model: &Model, network: &Network) -> bool {
    let number = network_number(network);
    let about = |side: &Side| match side {
        Side::Any => true,
        Side::Network(id) => *id == network.id,
        Side::Prefix(net) => network.subnets.iter().any(|subnet| overlap(subnet.prefix(), *net)),
        Side::Container(name) => is_on(model, name, number),
    };
    let ruled = || model.rules().iter().any(|rule| about(&rule.from) && about(&rule.to));
    model.firewall.iptables && network.uplink.is_none() && (!network.options.icc || ruled())
}

fn is_on(model: &Model, name: &str, network: NetworkId) -> bool {
    let container = model.container_named(name);
    let mut networks = container.into_iter().flat_map(|it| &it.endpoints).map(|endpoint| endpoint.network);
    networks.any(|id| model.network(id).map(network_number) == Some(network))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Id;
    use crate::control::docker_rules::Action;
    use crate::control::ipam::SubnetSpec;
    use crate::control::model::{ContainerSpec, EndpointSpec, NetworkSpec, RuleSpec};

    /// web on net1 (IPv4 and IPv6) publishes; client on net1 is linked to it.
    fn model() -> Model {
        let mut model = Model::new(Id::new([0; 32]), 0, &[]).unwrap();
        let subnets = ["172.19.0.0/16", "fd00:19::/64"]
            .map(|text| SubnetSpec::from(text.parse::<ipnet::IpNet>().unwrap()));
        let options = [("masquerade_ports", "20000-29999"), ("masquerade_to", "198.51.100.9")];
        let net1 = NetworkSpec {
            subnets: subnets.to_vec(),
            options: options.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec(),
            ..NetworkSpec::named("net1")
        };
        model.create_network(&net1, Id::new([1; 32]), 1, &[]).unwrap();
        let container = |name: &str| ContainerSpec {
            name: Some(name.to_owned()),
            networks: vec![EndpointSpec::on("net1")],
            ..ContainerSpec::default()
        };
        let web = ContainerSpec {
            publish: ["8000-8001:80-81", "198.51.100.1:53:53/udp"].map(|text| text.parse().unwrap()).to_vec(),
            expose: vec!["443".parse().unwrap()],
            ..container("web")
        };
        model.create_container(&web, Id::new([10; 32]), 2).unwrap();
        let client = ContainerSpec { links: vec!["web:db".parse().unwrap()], ..container("client") };
        model.create_container(&client, Id::new([11; 32]), 3).unwrap();
        model
    }

    #[test]
    fn publishes_stand_for_each_version_that_they_are_on() {
        let shown = |it: &PolicyPublish| {
            let host = it.host.map_or("*".to_owned(), |host| host.to_string());
            format!("{} {host} {:?} -> {} {:?}", it.protocol, it.host_ports, it.address, it.container_ports)
        };
        let found: Vec<String> = policy(&model()).publishes.iter().map(shown).collect();
        assert_eq!(
            found,
            [
                "6 * (8000, 8001) -> 172.19.0.2 (80, 81)",
                "6 * (8000, 8001) -> fd00:19::2 (80, 81)",
                "17 198.51.100.1 (53, 53) -> 172.19.0.2 (53, 53)",
            ]
        );
    }

    #[test]
    fn a_link_opens_what_the_other_exposes_or_what_it_names() {
        let mut model = model();
        let shown = |model: &Model| {
            let one = |it: &PolicyLink| format!("{}>{}:{}/{}", it.from, it.to, it.port, it.protocol);
            policy(model).links.iter().map(one).collect::<Vec<_>>()
        };
        let all = shown(&model);
        assert_eq!(
            all[..4],
            [
                "172.19.0.3>172.19.0.2:53/17",
                "172.19.0.3>172.19.0.2:80/6",
                "172.19.0.3>172.19.0.2:81/6",
                "172.19.0.3>172.19.0.2:443/6"
            ]
        );
        assert_eq!((all.len(), all[4].as_str()), (8, "fd00:19::3>fd00:19::2:53/17"));
        model.unlink("client", "db").unwrap();
        let mut named: crate::control::model::LinkSpec = "web".parse().unwrap();
        named.ports = vec!["22".parse().unwrap()];
        model.link("client", &named).unwrap();
        assert_eq!(shown(&model), ["172.19.0.3>172.19.0.2:22/6", "fd00:19::3>fd00:19::2:22/6"]);
        model.remove_container("web", true).unwrap();
        assert!(shown(&model).is_empty() && policy(&model).publishes.is_empty());
    }

    #[test]
    fn networks_stand_in_the_order_they_were_made() {
        let policy = policy(&model());
        let net1 = &policy.networks[1];
        assert_eq!((policy.networks.len(), policy.networks[0].id, net1.id), (2, NetworkId(0), NetworkId(1)));
        assert_eq!((net1.masquerade_ports, net1.masquerade_to.len()), (Some((20_000, 29_999)), 1));
        assert!(policy.iptables && policy.masquerade && net1.masquerade && net1.icc);
    }

    #[test]
    fn rules_of_containers_hold_while_they_have_addresses() {
        let mut model = model();
        let rule = |from: &str, to: &str| RuleSpec {
            from: Some(from.to_owned()),
            to: Some(to.to_owned()),
            proto: Some("tcp".to_owned()),
            dport: Some("80".parse().unwrap()),
            state: None,
            action: Action::Drop,
            lab: None,
        };
        let bridged = |model: &Model| filters_bridged(model, model.find_network("net1").unwrap());
        model.add_rule(&rule("client", "bridge"), None).unwrap();
        assert!(!bridged(&model));
        model.add_rule(&rule("client", "172.19.0.0/24"), None).unwrap();
        assert!(bridged(&model));
        let rules = policy(&model).user_rules;
        let client = ["172.19.0.3/32", "fd00:19::3/128"];
        let Party::Prefixes(prefixes) = &rules[0].from else { panic!("addresses") };
        assert_eq!(prefixes.iter().map(ToString::to_string).collect::<Vec<_>>(), client);
        assert_eq!(
            (&rules[0].to, rules[0].ports, rules[0].protocol),
            (&Party::Network(NetworkId(0)), Some((80, 80)), Some(6))
        );
        model.remove_container("client", true).unwrap();
        assert!(policy(&model).user_rules.is_empty());
        assert!(!bridged(&model));
    }
}
