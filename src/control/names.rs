//! The name files of a container: /etc/hosts, /etc/resolv.conf, /etc/nsswitch.conf.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Model;
use super::model::{Container, Endpoint};

/// What every Docker container's /etc/hosts begins with.
const LOCAL: &str = "127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
";

/// /etc/hosts of `container`: what is local, what the user added, its own addresses, whom it links to under
/// the names it gave them, and everybody else on the networks of the user's own that it is on; on network `bridge` nobody, as in Docker.
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
    for endpoint in container.endpoints.iter().filter(|endpoint| resolves(model, endpoint)) {
        for (peer, theirs) in model.endpoints(endpoint.network) {
            if peer.id != container.id {
                text.extend(lines(theirs, &names_of(peer, theirs).collect::<Vec<_>>()));
            }
        }
    }
    text
}

/// The names and addresses of everybody else whom `container` can call by name.
pub fn peers(model: &Model, container: &Container) -> Vec<(String, IpAddr)> {
    let mut peers = Vec::new();
    for endpoint in container.endpoints.iter().filter(|endpoint| resolves(model, endpoint)) {
        for (peer, theirs) in model.endpoints(endpoint.network) {
            if peer.id != container.id {
                let addresses = theirs.addresses.iter().map(IpNet::addr);
                peers.extend(addresses.map(|address| (peer.name.clone(), address)));
            }
        }
    }
    peers
}

/// /etc/resolv.conf: there is no name server, and asking for one shall not take long.
pub const fn resolv_conf() -> &'static str {
    "# Names stand in /etc/hosts; this network has no name server.\noptions timeout:1 attempts:1\n"
}

/// /etc/nsswitch.conf: names come from files alone.
pub const fn nsswitch_conf() -> &'static str {
    "passwd: files\ngroup: files\nshadow: files\nhosts: files\nnetworks: files\nprotocols: files\nservices: files\n"
}

/// Whether names resolve on the endpoint's network.
fn resolves(model: &Model, endpoint: &Endpoint) -> bool {
    model.network(endpoint.network).is_some_and(|network| !network.is_default())
}

fn names_of<'a>(container: &'a Container, endpoint: &'a Endpoint) -> impl Iterator<Item = &'a str> {
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
    fn own_names_and_peers_of_user_networks() {
        let mut model = model();
        let web = "10.0.0.9\tupstream\n172.19.0.2\tweb www\nfd00:19::2\tweb www\n172.17.0.2\tweb\n\
                   172.19.0.3\tclient\nfd00:19::3\tclient\n";
        assert_eq!(tail(&model, "web"), web);
        let client = "10.0.0.9\tupstream\n172.19.0.3\t0b0b0b0b0b0b client\nfd00:19::3\t0b0b0b0b0b0b client\n\
                      172.19.0.2\tweb www\nfd00:19::2\tweb www\n";
        assert_eq!(tail(&model, "client"), client);
        assert_eq!(tail(&model, "stranger"), "10.0.0.9\tupstream\n172.17.0.3\t0c0c0c0c0c0c\n");
        model.ended(Id::new([10; 32]), None, 1).unwrap();
        assert!(!tail(&model, "client").contains("web"), "who ended has no name any more");
    }
}
