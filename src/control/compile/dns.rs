//! What the gateway of a network knows of names, and whom it asks.
//!
//! As in Docker, everybody on a network of the user's own has several names there: the container's, its
//! aliases on this network, its short id and its host name, and `NAME.NETWORK`, which is also what its
//! addresses are called. A name lasts as long as the endpoint.
//!
//! A container asks one gateway, that of one such network it is on ([`names::home`]), and shall find
//! everybody it shares a network with. So that gateway also knows the names of the container's other
//! networks and its links, for this one port.

use std::net::IpAddr;

use crate::control::Model;
use crate::control::model::{Container, Endpoint, Network};
use crate::control::names;
use crate::control::resolv_conf::asked;
use crate::dataplane::PortId;
use crate::dataplane::dns::{Config, Name};
use crate::wire::ip::Addr;

/// The host, where containers may reach its loopback.
const HOST: &str = "host.tapswitch.internal";

/// The longest domain name, and the longest label of one (RFC 1035 §2.3.4, without the root's dot).
const NAME_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// How a network's gateway answers questions; none: it does not.
pub(super) fn dns(model: &Model, network: &Network) -> Option<Config> {
    if network.uplink.is_some() {
        return None;
    }
    if network.is_default() {
        let upstreams = model.resolvers.servers(&network.options);
        return names::is_relay(model, network).then(|| Config { upstreams, ..Config::default() });
    }
    let endpoints = model.endpoints(network.id);
    let mut names = Vec::new();
    for (container, endpoint) in &endpoints {
        add_names(&mut names, network, container, endpoint, None);
    }
    for (container, endpoint) in &endpoints {
        let is_home = names::home(model, container).is_some_and(|home| home.id == endpoint.id);
        add_links(&mut names, model, container, endpoint, is_home);
        if is_home {
            add_elsewhere(&mut names, model, container, endpoint);
        }
    }
    names.extend(host(model, network));
    if network.internal {
        // It has no way out, and a question would be one.
        return Some(Config { names, ..Config::default() });
    }
    let own = endpoints.iter().filter(|(container, _)| !container.dns.is_empty());
    let own = own.map(|(container, endpoint)| (PortId(endpoint.port), asked(&container.dns)));
    let upstreams = model.resolvers.servers(&network.options);
    Some(Config { names, upstreams, upstreams_of: own.collect() })
}

/// What the host itself is called, where a network's way out leads to it and may.
fn host(model: &Model, network: &Network) -> Vec<Name> {
    let preferred = network.options.uplink.as_ref().and_then(|name| model.find_uplink(name).ok());
    let way = preferred.or_else(|| model.uplinks().first().copied());
    let way = way.filter(|uplink| !network.internal && uplink.user_options().is_some_and(|it| it.host));
    let gateways = way.and_then(|uplink| uplink.uplink.as_ref()).map(|uplink| uplink.gateways.clone());
    let name = |gateway: IpAddr| Name {
        name: HOST.to_owned(),
        address: gateway.into(),
        reverse: true,
        known_to: None,
    };
    gateways.into_iter().flatten().map(name).collect()
}

/// The names of an endpoint on its network, `known_to` everybody or to one port.
fn add_names(
    names: &mut Vec<Name>,
    network: &Network,
    container: &Container,
    endpoint: &Endpoint,
    known_to: Option<PortId>,
) {
    let full = domain_name(&format!("{}.{}", container.name, network.name));
    let short_id = container.id.short();
    let words = names::names_of(container, endpoint).chain([short_id.as_str(), container.hostname.as_str()]);
    let mut plain: Vec<String> = Vec::new();
    for name in words.filter_map(domain_name) {
        if !plain.contains(&name) {
            plain.push(name);
        }
    }
    for net in &endpoint.addresses {
        let address = Addr::from(net.addr());
        let forward = plain.iter().map(|name| (name, full.is_none() && plain.first() == Some(name)));
        let all = forward.chain(full.iter().map(|name| (name, true)));
        names.extend(all.map(|(name, reverse)| Name { name: name.clone(), address, reverse, known_to }));
    }
}

/// What a container calls those it links to: on this network, or on all where this gateway is its own.
fn add_links(
    names: &mut Vec<Name>,
    model: &Model,
    container: &Container,
    endpoint: &Endpoint,
    is_home: bool,
) {
    for (link, _, own, theirs) in model.links_of(container) {
        if (is_home || own.id == endpoint.id)
            && let Some(name) = domain_name(&link.alias)
        {
            let known_to = Some(PortId(endpoint.port));
            let entry = |address| Name { name: name.clone(), address, reverse: false, known_to };
            names.extend(theirs.addresses.iter().map(|net| entry(Addr::from(net.addr()))));
        }
    }
}

/// Everybody on a container's other networks, for it alone.
fn add_elsewhere(names: &mut Vec<Name>, model: &Model, container: &Container, home: &Endpoint) {
    let others = container.endpoints.iter().filter(|other| other.id != home.id);
    for other in others.filter(|other| names::resolves(model, other)) {
        let Some(network) = model.network(other.network) else { continue };
        for (peer, theirs) in model.endpoints(other.network) {
            add_names(names, network, peer, theirs, Some(PortId(home.port)));
        }
    }
}

/// A name as it is asked for, if DNS can carry it.
fn domain_name(name: &str) -> Option<String> {
    let label = |label: &str| (1..=LABEL_MAX).contains(&label.len());
    (name.len() <= NAME_MAX && name.split('.').all(label)).then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Id;
    use crate::control::model::{ContainerSpec, EndpointSpec, NetworkSpec};
    use crate::control::resolv_conf::ResolvConf;

    fn model() -> Model {
        let mut model = Model::new(Id::new([0; 32]), 0, &[]).unwrap();
        let options = |text: &str| vec![("dns".to_owned(), text.to_owned())];
        let nets = [("net1", false, vec![]), ("net2", false, options("10.0.0.2")), ("shut", true, vec![])];
        for (number, (name, internal, options)) in (1..).zip(nets) {
            let spec = NetworkSpec { internal, options, ..NetworkSpec::named(name) };
            model.create_network(&spec, Id::new([number; 32]), 0, &[]).unwrap();
        }
        model.resolvers.host = ResolvConf::parse(b"nameserver 10.0.0.1", |_| None);
        model
    }

    fn add(model: &mut Model, number: u8, name: &str, networks: &[&str], dns: &[&str], links: &[&str]) {
        let spec = ContainerSpec {
            name: Some(name.to_owned()),
            networks: networks.iter().map(|text| text.parse::<EndpointSpec>().unwrap()).collect(),
            dns: dns.iter().map(|text| text.parse().unwrap()).collect(),
            links: links.iter().map(|text| text.parse().unwrap()).collect(),
            ..ContainerSpec::default()
        };
        model.create_container(&spec, Id::new([number; 32]), 0).unwrap();
    }

    fn of(model: &Model, network: &str) -> Option<Config> {
        dns(model, model.find_network(network).unwrap())
    }

    fn told(model: &Model, network: &str) -> Vec<String> {
        let line = |name: &Name| {
            let reverse = if name.reverse { " PTR" } else { "" };
            let known_to = name.known_to.map_or_else(String::new, |port| format!(" @{}", port.0));
            format!("{} {}{reverse}{known_to}", name.name, name.address)
        };
        of(model, network).unwrap().names.iter().map(line).collect()
    }

    #[test]
    fn everybody_has_dockers_names() {
        let mut model = model();
        add(&mut model, 10, "Web", &["net1:alias=www"], &[], &[]);
        let web = ["web 172.18.0.2", "www 172.18.0.2", "0a0a0a0a0a0a 172.18.0.2", "web.net1 172.18.0.2 PTR"];
        assert_eq!(told(&model, "net1"), web);
        assert!(told(&model, "net2").is_empty());
        let long = "a".repeat(64);
        add(&mut model, 11, &long, &["net2"], &[], &[]);
        add(&mut model, 12, "ends.", &["net2"], &[], &[]);
        assert_eq!(told(&model, "net2"), ["0b0b0b0b0b0b 172.19.0.2 PTR", "0c0c0c0c0c0c 172.19.0.3 PTR"]);
        model.ended(Id::new([10; 32]), Some(0), 0).unwrap();
        assert!(told(&model, "net1").is_empty(), "names go with the endpoint");
    }

    #[test]
    fn a_gateway_knows_for_its_own_what_they_see_elsewhere() {
        let mut model = model();
        add(&mut model, 10, "db", &["net2"], &[], &[]);
        add(&mut model, 11, "app", &["net1", "net2"], &[], &["db:database"]);
        let (one, two) = (told(&model, "net1"), told(&model, "net2"));
        let app = ["app 172.18.0.2", "0b0b0b0b0b0b 172.18.0.2", "app.net1 172.18.0.2 PTR"];
        assert_eq!(one[..3], app);
        for entry in ["database 172.19.0.2 @1", "db 172.19.0.2 @1", "db.net2 172.19.0.2 PTR @1"] {
            assert!(one.iter().any(|line| line == entry), "{entry}: {one:?}");
        }
        assert!(two.iter().all(|line| !line.contains("172.18.")), "{two:?}");
        assert!(two.iter().any(|line| line == "database 172.19.0.2 @2"), "{two:?}");
    }

    #[test]
    fn the_nearest_upstreams_are_asked() {
        let mut model = model();
        add(&mut model, 10, "one", &["net1", "shut"], &[], &[]);
        add(&mut model, 11, "two", &["net2"], &["10.0.0.9"], &[]);
        add(&mut model, 12, "three", &["shut"], &["10.0.0.9"], &[]);
        add(&mut model, 13, "four", &["shut", "net1"], &[], &[]);
        let upstreams = |model: &Model, network: &str| {
            let config = of(model, network).unwrap();
            let own = |(port, servers): &(PortId, Vec<_>)| format!("{}={servers:?}", port.0);
            (
                format!("{:?}", config.upstreams),
                config.upstreams_of.iter().map(own).collect::<Vec<_>>().join(" "),
            )
        };
        let text = |all: &str, own: &str| (all.to_owned(), own.to_owned());
        assert_eq!(upstreams(&model, "net1"), text("[10.0.0.1:53]", ""));
        assert_eq!(upstreams(&model, "net2"), text("[10.0.0.2:53]", "2=[10.0.0.9:53]"));
        assert_eq!(upstreams(&model, "shut"), text("[]", ""), "no way out for questions either");
        let known = told(&model, "net1");
        assert!(known.iter().any(|line| line == "three 172.20.0.3 @5"), "four asks there: {known:?}");
        model.resolvers.given.servers = asked(&["10.0.0.3".parse().unwrap()]);
        assert_eq!(upstreams(&model, "net1"), text("[10.0.0.3:53]", ""));
        assert_eq!(upstreams(&model, "net2"), text("[10.0.0.2:53]", "2=[10.0.0.9:53]"));
    }

    #[test]
    fn the_default_networks_gateway_only_stands_in_for_loopback() {
        let mut model = model();
        add(&mut model, 10, "alone", &["bridge"], &[], &[]);
        assert_eq!(of(&model, "bridge"), None);
        model.resolvers.host = ResolvConf::parse(b"nameserver 127.0.0.53", |_| None);
        let relay = of(&model, "bridge").unwrap();
        assert_eq!((relay.names, relay.upstreams), (vec![], vec!["127.0.0.53:53".parse().unwrap()]));
        model.resolvers.given.servers = asked(&["10.0.0.3".parse().unwrap()]);
        assert_eq!(of(&model, "bridge"), None);
    }
}
