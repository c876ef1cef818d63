//! The name files of a container: /etc/hosts, /etc/resolv.conf, /etc/nsswitch.conf.
//!
//! On networks of the user's own the gateway answers questions about names (`compile/dns.rs` tells what it
//! knows); a container asks that of one such network it is on, its *home*. On network `bridge` nobody
//! has a name, as in Docker, and a container asks the host's name servers itself.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::Model;
use super::model::{Container, Endpoint, Network, Unswitched};
use super::resolv_conf::{SERVERS, asked};

/// What every Docker container's /etc/hosts begins with.
const LOCAL: &str = "127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
";

/// /etc/hosts of `container`, as Docker has it: what is local, what the user added, its own addresses, and whom
/// it links to under the names it gave them. Everybody else the gateway knows.
pub fn hosts(model: &Model, container: &Container) -> String {
    let mut text = LOCAL.to_owned();
    for (name, address) in &container.extra_hosts {
        text.push_str(&line(*address, &[name]));
    }
    for endpoint in &container.endpoints {
        let mut names = vec![container.hostname.as_str()];
        if resolves(model, endpoint) {
            names.extend(names_of(container, endpoint));
        }
        names.dedup();
        text.extend(lines(endpoint, &names));
    }
    for (link, other, _, theirs) in model.links_of(container) {
        let mut names = vec![link.alias.as_str(), other.name.as_str()];
        names.dedup();
        text.extend(lines(theirs, &names));
    }
    text
}

/// The names and addresses of everybody else whom `container` can call by name.
pub fn peers(model: &Model, container: &Container) -> Vec<(String, IpAddr)> {
    let named = |(peer, theirs): (&Container, &Endpoint)| {
        let name = peer.name.clone();
        let addresses = theirs.addresses.iter().map(IpNet::addr);
        addresses.map(|address| (name.clone(), address)).collect::<Vec<_>>()
    };
    peer_endpoints(model, container).flat_map(named).collect()
}

fn peer_endpoints<'a>(
    model: &'a Model,
    container: &'a Container,
) -> impl Iterator<Item = (&'a Container, &'a Endpoint)> {
    let own = container.endpoints.iter().filter(|endpoint| resolves(model, endpoint));
    let on = own.flat_map(|endpoint| model.endpoints(endpoint.network));
    on.filter(|(peer, _)| peer.id != container.id)
}

/// /etc/resolv.conf of `container`.
pub fn resolv_conf(model: &Model, container: &Container) -> String {
    if container.unswitched == Some(Unswitched::Host) {
        return model.resolvers.host.to_string();
    }
    let servers = name_servers(model, container);
    if servers.is_empty() {
        return "# No network of this container has a name server.\noptions timeout:1 attempts:1\n"
            .to_owned();
    }
    let mut text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    let search = model.resolvers.search();
    if !search.is_empty() {
        text.push_str(&format!("search {}\n", search.join(" ")));
    }
    let mut options: Vec<&str> = model.resolvers.options().iter().map(String::as_str).collect();
    if home(model, container).is_some() && !options.iter().any(|option| option.starts_with("ndots:")) {
        // A container's name has no dot, and is asked for as it is first.
        options.push("ndots:0");
    }
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}

/// Whom a container asks: the gateway of its home; elsewhere its own name servers or those of the default
/// network, or that one's gateway where there is nobody else ([`is_relay`]). Where the home is internal, its
/// gateway refuses to ask others, and a resolver goes on to who may be asked on network `bridge`.
pub fn name_servers(model: &Model, container: &Container) -> Vec<IpAddr> {
    let home = home(model, container).and_then(|home| model.network(home.network));
    let mut servers: Vec<IpAddr> = home.and_then(gateway).into_iter().collect();
    if home.is_none_or(|home| home.internal) {
        servers.extend(outside_servers(model, container));
    }
    servers.truncate(SERVERS);
    servers
}

/// Whom a container asks itself, by network `bridge`.
fn outside_servers(model: &Model, container: &Container) -> Vec<IpAddr> {
    let networks = container.endpoints.iter().filter_map(|endpoint| model.network(endpoint.network));
    let default = networks.into_iter().find(|network| network.is_default());
    if !container.dns.is_empty() {
        let may_ask = default.is_some() || home(model, container).is_none();
        return if may_ask { asked(&container.dns).iter().map(SocketAddr::ip).collect() } else { Vec::new() };
    }
    let Some(network) = default else { return Vec::new() };
    if is_relay(model, network) {
        return gateway(network).into_iter().collect();
    }
    let chosen = model.resolvers.chosen(&network.options);
    let servers = chosen.unwrap_or_else(|| reachable(model, network).collect());
    servers.iter().map(SocketAddr::ip).collect()
}

/// Whether the gateway of network `bridge` hands questions on to the host's name servers. It does when a
/// container could ask none of these itself: a server on the host's loopback (systemd-resolved's stub,
/// dnsmasq, a sandbox's) is not the container's. Docker writes 8.8.8.8 then, which leaves the machine past
/// whatever the host was set up to ask, and in a sandbox leads nowhere; the gateway can ask as the host does.
pub fn is_relay(model: &Model, network: &Network) -> bool {
    let chosen = model.resolvers.chosen(&network.options);
    network.is_default() && chosen.is_none() && reachable(model, network).next().is_none()
}

/// The host's name servers that mean the same inside a container of `network`.
fn reachable<'a>(model: &'a Model, network: &'a Network) -> impl Iterator<Item = SocketAddr> + 'a {
    let means_the_same = |server: &&SocketAddr| match server.ip() {
        IpAddr::V4(address) => !address.is_loopback(),
        IpAddr::V6(address) => {
            network.has_ipv6() && !address.is_loopback() && !address.is_unicast_link_local()
        }
    };
    model.resolvers.host.servers.iter().filter(means_the_same).copied()
}

/// The gateway's address, the IPv4 one where there is one.
fn gateway(network: &Network) -> Option<IpAddr> {
    let gateways = network.present_in().map(|subnet| subnet.gateway());
    gateways.min_by_key(IpAddr::is_ipv6)
}

/// The endpoint by which a container asks about names: its first on a network where they resolve, of those
/// with a way out if there are any.
pub fn home<'a>(model: &Model, container: &'a Container) -> Option<&'a Endpoint> {
    let internal =
        |endpoint: &&Endpoint| model.network(endpoint.network).is_some_and(|network| network.internal);
    container.endpoints.iter().filter(|endpoint| resolves(model, endpoint)).min_by_key(internal)
}

/// /etc/nsswitch.conf: names come from files, then from name servers.
pub const fn nsswitch_conf() -> &'static str {
    "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n"
}

/// Whether names resolve on the endpoint's network.
pub fn resolves(model: &Model, endpoint: &Endpoint) -> bool {
    let network = model.network(endpoint.network);
    network.is_some_and(|network| !network.is_default() && network.uplink.is_none())
}

/// A container's own name, and its aliases on the endpoint's network.
pub fn names_of<'a>(container: &'a Container, endpoint: &'a Endpoint) -> impl Iterator<Item = &'a str> {
    std::iter::once(container.name.as_str()).chain(endpoint.aliases.iter().map(String::as_str))
}

fn lines(endpoint: &Endpoint, names: &[&str]) -> Vec<String> {
    endpoint.addresses.iter().map(|net| line(net.addr(), names)).collect()
}

fn line(address: IpAddr, names: &[&str]) -> String {
    format!("{address}\t{}\n", names.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Id;
    use crate::control::ipam::SubnetSpec;
    use crate::control::model::{ContainerSpec, EndpointSpec, NetworkSpec};
    use crate::control::resolv_conf::ResolvConf;

    fn model() -> Model {
        let mut model = Model::new(Id::new([0; 32]), 0, &[]).unwrap();
        let subnets = ["172.19.0.0/16", "fd00:19::/64"]
            .map(|text| SubnetSpec::from(text.parse::<ipnet::IpNet>().unwrap()));
        let net1 = NetworkSpec { subnets: subnets.to_vec(), ..NetworkSpec::named("net1") };
        model.create_network(&net1, Id::new([1; 32]), 0, &[]).unwrap();
        let web = EndpointSpec { aliases: vec!["www".to_owned()], ..EndpointSpec::on("net1") };
        let wishes = [
            ("web", Some("web"), vec![web, EndpointSpec::on("bridge")]),
            ("client", None, vec![EndpointSpec::on("net1")]),
            ("stranger", None, vec![EndpointSpec::on("bridge")]),
        ];
        for (number, (name, hostname, networks)) in (10u8..).zip(wishes) {
            let spec = ContainerSpec {
                name: Some(name.to_owned()),
                hostname: hostname.map(str::to_owned),
                extra_hosts: vec![("upstream".to_owned(), IpAddr::from([10, 0, 0, 9]))],
                networks,
                ..ContainerSpec::default()
            };
            model.create_container(&spec, Id::new([number; 32]), 0).unwrap();
        }
        model
    }

    fn tail(model: &Model, name: &str) -> String {
        let text = hosts(model, model.find_container(name).unwrap());
        text.strip_prefix(LOCAL).unwrap().to_owned()
    }

    #[test]
    fn own_names_and_what_was_added() {
        let model = model();
        let web = "10.0.0.9\tupstream\n172.19.0.2\tweb www\nfd00:19::2\tweb www\n172.17.0.2\tweb\n";
        assert_eq!(tail(&model, "web"), web);
        let client = "10.0.0.9\tupstream\n172.19.0.3\t0b0b0b0b0b0b client\nfd00:19::3\t0b0b0b0b0b0b client\n";
        assert_eq!(tail(&model, "client"), client);
        assert_eq!(tail(&model, "stranger"), "10.0.0.9\tupstream\n172.17.0.3\t0c0c0c0c0c0c\n");
    }

    #[test]
    fn whom_to_ask() {
        let mut model = model();
        let text = |model: &Model, name: &str| resolv_conf(model, model.find_container(name).unwrap());
        let host = |model: &mut Model, text: &[u8]| model.resolvers.host = ResolvConf::parse(text, |_| None);
        host(
            &mut model,
            b"nameserver 127.0.0.53\nnameserver 10.0.0.1\nnameserver fd00::1\nsearch a.example\n",
        );
        let of_net1 = "nameserver 172.19.0.1\nsearch a.example\noptions ndots:0\n";
        assert_eq!([text(&model, "web"), text(&model, "client")], [of_net1, of_net1]);
        assert_eq!(text(&model, "stranger"), "nameserver 10.0.0.1\nsearch a.example\n");
        host(&mut model, b"nameserver 127.0.0.53\noptions edns0 ndots:2\n");
        assert_eq!(
            text(&model, "stranger"),
            "nameserver 172.17.0.1\noptions edns0 ndots:2\n",
            "its gateway asks"
        );
        assert_eq!(text(&model, "web"), "nameserver 172.19.0.1\noptions edns0 ndots:2\n");
        model.set_options("bridge", &[("dns".to_owned(), "127.0.0.1,10.0.0.2".to_owned())]).unwrap();
        assert_eq!(
            text(&model, "stranger"),
            "nameserver 127.0.0.1\nnameserver 10.0.0.2\noptions edns0 ndots:2\n"
        );
        let own = ContainerSpec {
            name: Some("own".to_owned()),
            dns: (1..=4).map(|last| IpAddr::from([10, 9, 9, last])).collect(),
            networks: vec![EndpointSpec::on("bridge")],
            ..ContainerSpec::default()
        };
        model.create_container(&own, Id::new([20; 32]), 0).unwrap();
        let servers = name_servers(&model, model.find_container("own").unwrap());
        assert_eq!(servers, own.dns[..3], "as many as resolvers ask");
        model.disconnect("web", "net1").unwrap();
        assert!(text(&model, "web").starts_with("nameserver 127.0.0.1\n"), "it is on network bridge still");
        let shut = NetworkSpec { internal: true, ..NetworkSpec::named("shut") };
        model.create_network(&shut, Id::new([21; 32]), 0, &[]).unwrap();
        let mut servers_on = |networks: &[&str], dns: &[IpAddr]| {
            let networks = networks.iter().map(|name| EndpointSpec::on(name)).collect();
            let spec = ContainerSpec { networks, dns: dns.to_vec(), ..ContainerSpec::default() };
            let id = Id::new([22; 32]);
            let container = model.create_container(&spec, id, 0).unwrap().clone();
            let servers = name_servers(&model, &container);
            model.remove_container(&id.to_string(), true).unwrap();
            servers.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(servers_on(&["shut", "net1"], &[]), "172.19.0.1", "by the way out");
        assert_eq!(servers_on(&["shut"], &own.dns), "172.18.0.1", "nobody else can be asked");
        assert_eq!(servers_on(&["shut", "bridge"], &[]), "172.18.0.1 127.0.0.1 10.0.0.2");
        assert_eq!(servers_on(&["shut", "bridge"], &own.dns), "172.18.0.1 10.9.9.1 10.9.9.2");
        model.disconnect("client", "net1").unwrap();
        assert!(!text(&model, "client").contains("nameserver"));
    }
}
