//! The model, as the data plane is told of it.
//!
//! Theory of operation: [`plan`] is a plain function of the model, and says all that the data plane
//! is to hold, but for ports, which come and go with their devices. What was told before is kept by
//! who told it, and [`differences`] are the changes from one plan to the next: a change of the model
//! reaches the data plane whatever it was about, and what stays the same is not touched. Static
//! routes may be many, and are not part of it: each is one change of its own ([`route`]).

mod again;
mod dns;
mod listeners;
mod policy;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::Id;
use super::docker_rules::{Policy, rulesets};
use super::model::{Model, Network, StaticRoute};
use super::options::NetworkOptions;
use crate::dataplane::Ruleset;
use crate::dataplane::dns::Config;
use crate::dataplane::fdb::Limits;
use crate::dataplane::interface::{Interface, InterfaceAddress, Role, Route};
use crate::dataplane::{Change, NetworkConfig, NetworkId, PortId, Settings};
use crate::wire::ip::{Addr, Prefix, Version};

pub use again::Told;
pub use listeners::{Listener, host_side};

pub use policy::policy;

/// The metric of a default route by the first uplink; those of later uplinks follow. A static route
/// has 0, and comes before them.
const DEFAULT_METRIC: u32 = 100;

/// The number by which the data plane knows a network.
pub const fn network_number(network: &Network) -> NetworkId {
    NetworkId(network.number)
}

/// What the data plane holds beside ports and static routes, and where the host listens for it. A copy shares
/// what it has in common with the next.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    networks: Arc<BTreeMap<NetworkId, (NetworkConfig, Interface)>>,
    /// Of the networks whose gateway answers questions about names.
    dns: BTreeMap<NetworkId, Arc<Config>>,
    /// Default routes by the uplinks.
    defaults: Vec<Route>,
    policy: Arc<Policy>,
    settings: Settings,
    listeners: Arc<BTreeMap<Listener, Id>>,
}

impl Plan {
    /// Whom gateways ask for names, each once.
    pub fn resolvers(&self) -> Vec<SocketAddr> {
        let mut all = BTreeSet::new();
        for config in self.dns.values() {
            all.extend(&config.upstreams);
            all.extend(config.upstreams_of.iter().flat_map(|(_, servers)| servers));
        }
        all.into_iter().collect()
    }

    /// The rules of IPv4 and of IPv6.
    pub fn rulesets(&self) -> [Ruleset; 2] {
        rulesets(&self.policy)
    }

    /// What gateways know of names.
    pub const fn dns(&self) -> &BTreeMap<NetworkId, Arc<Config>> {
        &self.dns
    }

    /// All listeners that are wanted, each with the user uplink by which its packets come in.
    pub fn listeners(&self) -> &BTreeMap<Listener, Id> {
        &self.listeners
    }
}

/// What a model comes to.
pub fn plan(model: &Model) -> Plan {
    let policy = policy(model);
    let networks = model.all_networks().into_iter().map(|network| {
        let config = config(&network.options, policy.iptables);
        (network_number(network), (config, interface(model, network)))
    });
    let networks = Arc::new(networks.collect());
    let dns = model.all_networks().into_iter();
    let dns = dns.filter_map(|network| Some((network_number(network), dns::dns(model, network)?.into())));
    let (dns, defaults, settings) = (dns.collect(), default_routes(model), model.settings);
    let listeners = Arc::new(listeners::listeners(model));
    Plan { networks, dns, defaults, policy: Arc::new(policy), settings, listeners }
}

/// The changes that make of a switch that holds `old` one that holds `new`: what nothing else refers to
/// comes first and goes last.
pub fn differences(old: &Plan, new: &Plan) -> Vec<Change> {
    let mut changes = Vec::new();
    let gone = old.defaults.iter().filter(|route| !new.defaults.contains(route));
    changes.extend(gone.copied().map(Change::RemoveRoute));
    for (id, (config, _)) in new.networks.iter() {
        match old.networks.get(id) {
            None => changes.push(Change::AddNetwork(*id, *config)),
            Some((before, _)) if before != config => changes.push(Change::SetNetwork(*id, *config)),
            Some(_) => {}
        }
    }
    for (id, (_, interface)) in new.networks.iter() {
        if old.networks.get(id).is_none_or(|(_, before)| before != interface) {
            changes.push(Change::SetInterface(*id, Some(interface.clone())));
        }
    }
    for id in new.networks.keys() {
        let (before, now) = (old.dns.get(id), new.dns.get(id));
        changes
            .extend((before != now).then(|| Change::SetDns(*id, now.map(|config| config.as_ref().clone()))));
    }
    if old.policy != new.policy {
        let ([old4, old6], [new4, new6]) = (rulesets(&old.policy), rulesets(&new.policy));
        changes.extend((old4 != new4).then_some(Change::SetRules(Version::V4, new4)));
        changes.extend((old6 != new6).then_some(Change::SetRules(Version::V6, new6)));
    }
    let leaving = old.networks.keys().filter(|id| !new.networks.contains_key(id));
    changes.extend(leaving.copied().map(Change::RemoveNetwork));
    let fresh = new.defaults.iter().filter(|route| !old.defaults.contains(route));
    changes.extend(fresh.copied().map(Change::AddRoute));
    changes.extend((old.settings != new.settings).then_some(Change::Set(new.settings)));
    changes
}

/// The changes that make an empty switch carry the whole model: all of its plan, its static routes,
/// and its ports in the order of their numbers.
pub fn changes(model: &Model) -> Vec<Change> {
    let mut changes = differences(&Plan::default(), &plan(model));
    changes.extend(model.routes().filter_map(|it| route(model, it)).map(Change::AddRoute));
    let mut ports: Vec<(PortId, NetworkId)> = Vec::new();
    for network in model.all_networks() {
        let endpoints = model.endpoints(network.id).into_iter();
        ports.extend(endpoints.map(|(_, endpoint)| (PortId(endpoint.port), network_number(network))));
    }
    ports.sort();
    changes.extend(ports.into_iter().map(|(port, network)| Change::AddPort(port, network)));
    changes
}

/// A static route as the data plane knows it.
pub fn route(model: &Model, route: &StaticRoute) -> Option<Route> {
    let network = model.network(route.network)?;
    Some(Route {
        prefix: prefix(route.prefix),
        via: route.via.map(Addr::from),
        interface: network_number(network),
        metric: 0,
    })
}

/// What the data plane is told of a network's options. Without rules nothing is kept apart.
fn config(options: &NetworkOptions, iptables: bool) -> NetworkConfig {
    NetworkConfig {
        mtu: options.mtu,
        icc: options.icc || !iptables,
        fdb: Limits {
            table: options.fdb_limit,
            port: options.fdb_port_limit,
            ageing: Duration::from_secs(options.ageing.into()),
        },
        flood_limit: options.flood_limit,
    }
}

/// A network's gateway, or what we are on an uplink.
pub(super) fn interface(model: &Model, network: &Network) -> Interface {
    let own = |subnet: &super::ipam::Subnet| InterfaceAddress {
        address: subnet.gateway().into(),
        prefix: prefix(subnet.prefix()),
    };
    let preferred = network.options.uplink.as_ref().and_then(|name| model.find_uplink(name).ok());
    Interface {
        role: if network.uplink.is_some() { Role::Uplink } else { Role::Network },
        mac: network.gateway_mac(),
        addresses: network.present_in().map(own).collect(),
        forward: network.options.forward,
        internal: network.internal,
        advertise: network.options.ra && network.has_ipv6(),
        mss_clamp: network.options.mss_clamp,
        uplink: preferred.map(network_number),
        filter_bridged: policy::filters_bridged(model, network),
        sockets: network.is_user(),
    }
}

/// A default route for each gateway of an uplink; those of the first uplink come first.
fn default_routes(model: &Model) -> Vec<Route> {
    let uplinks = (DEFAULT_METRIC..).zip(model.uplinks());
    let routes = uplinks.flat_map(|(metric, network)| {
        let gateways = network.uplink.iter().flat_map(|uplink| &uplink.gateways);
        gateways.map(move |gateway| Route {
            prefix: if gateway.is_ipv4() { Prefix::ALL_V4 } else { Prefix::ALL_V6 },
            via: Some(Addr::from(*gateway)),
            interface: network_number(network),
            metric,
        })
    });
    routes.collect()
}

/// What the switch reaches otherwise than by default routes: its networks, its uplinks' links, and static routes.
pub fn inside(model: &Model) -> Vec<Prefix> {
    let networks = model.all_networks();
    let subnets = networks.into_iter().flat_map(|network| &network.subnets).map(|subnet| subnet.prefix());
    let routes = model.routes().map(|route| route.prefix).filter(|prefix| prefix.prefix_len() > 0);
    subnets.chain(routes).map(prefix).collect()
}

/// A prefix as the data plane keeps it.
pub(crate) fn prefix(net: IpNet) -> Prefix {
    Prefix::new(IpAddr::into(net.network()), net.prefix_len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Id;
    use crate::control::lab::Lab;
    use crate::control::model::{FarEnd, NetworkSpec, RouteSpec, UplinkChange, UplinkSpec};
    use crate::control::replay::model_of;
    use crate::dataplane::{Instant, MssClamp, Switch};

    /// Two networks with two containers each, and no uplink.
    const LAB: &str = "\
        [network.net1]\nsubnet = \"172.19.0.0/16\"\n[network.net2]\nsubnet = \"172.20.0.0/16\"\n\
        [container.alice]\nnetworks = [\"net1\"]\n[container.bob]\nnetworks = [\"net1\"]\n\
        [container.carol]\nnetworks = [\"net2\"]\n[container.dave]\nnetworks = [\"net2\"]\n";

    fn demo() -> Model {
        model_of(&Lab::parse("demo", "demo.toml", LAB).unwrap()).unwrap()
    }

    fn wan(name: &str, address: &str, gateways: &[&str]) -> UplinkSpec {
        UplinkSpec {
            name: name.to_owned(),
            far_end: FarEnd::Tap("tap0".to_owned()),
            addresses: vec![address.parse().unwrap()],
            gateways: gateways.iter().map(|text| text.parse().unwrap()).collect(),
            mac: None,
            mtu: Some(1400),
            lab: None,
        }
    }

    /// Applies changes to a switch, each of which it must take.
    fn apply(switch: &mut Switch, changes: Vec<Change>) {
        for change in changes {
            let shown = format!("{change:?}");
            assert_eq!(switch.apply(Instant(0), change), Ok(()), "{shown}");
        }
    }

    #[test]
    fn an_empty_switch_takes_all_changes_of_a_lab() {
        let model = demo();
        let mut switch = Switch::new(0);
        apply(&mut switch, changes(&model));
        let endpoints: usize = model.all_networks().iter().map(|it| model.endpoints(it.id).len()).sum();
        assert_eq!(switch.ports().count(), endpoints);
        let net2 = network_number(model.find_network("net2").unwrap());
        let network = switch.network(net2).unwrap();
        assert_eq!(network.config.mtu, 1500);
        let interface = network.interface.as_ref().unwrap();
        assert_eq!(interface.mac.to_string(), "02:42:ac:14:00:01");
        assert_eq!(interface.addresses.len(), 1);
        assert_eq!(interface.addresses[0].prefix.to_string(), "172.20.0.0/16");
    }

    #[test]
    fn only_what_differs_is_told() {
        let mut model = demo();
        let mut switch = Switch::new(0);
        let mut told = Plan::default();
        let mut tell = |model: &Model| {
            let next = plan(model);
            let changes = differences(&told, &next);
            told = next;
            let names = changes
                .iter()
                .map(|change| format!("{change:?}").split(['(', ' ']).next().unwrap().to_owned());
            let names: Vec<String> = names.collect();
            apply(&mut switch, changes);
            names.join(" ")
        };
        tell(&model);
        assert_eq!(tell(&model), "");
        model.create_uplink(&wan("lte", "203.0.113.1/24", &["203.0.113.2"]), Id::new([50; 32]), 9).unwrap();
        assert_eq!(tell(&model), "AddNetwork SetInterface AddRoute");
        let prefer = [("uplink".to_owned(), "lte".to_owned()), ("mss_clamp".to_owned(), "pmtu".to_owned())];
        model.set_options("net1", &prefer).unwrap();
        assert_eq!(tell(&model), "SetInterface");
        model.set_options("net1", &[("mtu".to_owned(), "1280".to_owned())]).unwrap();
        assert_eq!(tell(&model), "SetNetwork");
        model.set_options("net1", &[("icc".to_owned(), "false".to_owned())]).unwrap();
        assert_eq!(tell(&model), "SetNetwork SetInterface SetRules SetRules");
        let change =
            UplinkChange { gateways: vec!["203.0.113.9".parse().unwrap()], ..UplinkChange::default() };
        model.set_uplink("lte", &change).unwrap();
        assert_eq!(tell(&model), "RemoveRoute AddRoute");
        model.settings.forward_v4 = false;
        assert_eq!(tell(&model), "Set");
        model.publish("alice", &"8000:80".parse().unwrap()).unwrap();
        assert_eq!(tell(&model), "SetRules", "net1 has no IPv6");
        model.disconnect("bob", "net1").unwrap();
        assert_eq!(tell(&model), "SetDns", "a name has gone");
        model.set_options("net2", &[("dns".to_owned(), "10.0.0.9".to_owned())]).unwrap();
        assert_eq!(tell(&model), "SetDns");
        model.create_network(&NetworkSpec::named("new"), Id::new([51; 32]), 9, &[]).unwrap();
        assert!(tell(&model).starts_with("AddNetwork SetInterface SetDns SetRules"));
        model.remove_network("new").unwrap();
        assert!(tell(&model).ends_with("SetRules RemoveNetwork"));
    }

    #[test]
    fn routes_by_uplinks_are_ordered_and_static_ones_come_first() {
        let mut model = demo();
        model.create_uplink(&wan("lte", "203.0.113.1/24", &["203.0.113.2"]), Id::new([50; 32]), 99).unwrap();
        let six = UplinkSpec { mtu: None, ..wan("six", "2001:db8:1::1/64", &["fe80::1"]) };
        model.create_uplink(&six, Id::new([51; 32]), 98).unwrap();
        let number = |name: &str| network_number(model.find_uplink(name).unwrap());
        let text = |route: &Route| {
            format!("{} {:?} {} {}", route.prefix, route.via, route.interface.0, route.metric)
        };
        let found: Vec<String> =
            default_routes(&model)[model.uplinks().len() - 2..].iter().map(text).collect();
        let first = DEFAULT_METRIC + u32::try_from(model.uplinks().len()).unwrap() - 2;
        assert_eq!(
            found,
            [
                format!("::/0 Some(fe80::1) {} {first}", number("six").0),
                format!("0.0.0.0/0 Some(203.0.113.2) {} {}", number("lte").0, first + 1),
            ]
        );
        let spec = RouteSpec {
            prefix: "10.9.0.0/16".parse().unwrap(),
            via: Some("172.20.0.9".parse().unwrap()),
            dev: None,
            lab: None,
        };
        let added = model.add_route(&spec).unwrap().clone();
        let told = route(&model, &added).unwrap();
        let net2 = network_number(model.find_network("net2").unwrap());
        assert_eq!((told.prefix.to_string().as_str(), told.interface, told.metric), ("10.9.0.0/16", net2, 0));
        assert!(changes(&model).contains(&Change::AddRoute(told)));
    }

    #[test]
    fn options_reach_the_interface() {
        let mut model = demo();
        let six = NetworkSpec {
            ipv6: true,
            options: [("ra", "true"), ("forward", "false"), ("mss_clamp", "1200")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .to_vec(),
            ..NetworkSpec::named("six")
        };
        model.create_network(&six, Id::new([60; 32]), 9, &[]).unwrap();
        let of = |model: &Model, name: &str| interface(model, model.find_network(name).unwrap());
        let made = of(&model, "six");
        assert_eq!((made.advertise, made.forward, made.mss_clamp), (true, false, MssClamp::At(1200)));
        assert_eq!((made.addresses.len(), made.role), (2, Role::Network));
        assert!(!of(&model, "net1").advertise && !of(&model, "net1").filter_bridged);
        model.set_options("net1", &[("icc".to_owned(), "false".to_owned())]).unwrap();
        assert!(of(&model, "net1").filter_bridged);
        model.firewall.iptables = false;
        assert!(!of(&model, "net1").filter_bridged);
        let told = plan(&model);
        assert!(told.networks.values().all(|(config, _)| config.icc), "nothing is kept apart without rules");
    }
}
