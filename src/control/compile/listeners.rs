//! Where the host has to listen, so that what is published by the user uplink is reached.
//!
//! A published port is bound on the host when its container's way out is a user uplink. As Docker does, what is
//! published at no address in particular is bound at `0.0.0.0`, and at `::` when the container has an IPv6 address;
//! a container without one is not reached over IPv6, where somebody else may listen.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::control::Id;
use crate::control::model::{Container, Model, Network};
use crate::control::ports::Protocol;

/// A socket of the host's that takes what is sent to a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listener {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The host's address; `0.0.0.0` and `::` are all of one version.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
}

/// All listeners that a model wants, each with the user uplink by which its packets come in.
pub(super) fn listeners(model: &Model) -> BTreeMap<Listener, Id> {
    let publishing = model.containers_that(|container| !container.publishes.is_empty());
    publishing.into_iter().flat_map(|container| listeners_of(model, container)).collect()
}

fn listeners_of<'a>(model: &'a Model, container: &'a Container) -> impl Iterator<Item = (Listener, Id)> + 'a {
    container.publishes.iter().flat_map(move |publish| {
        let protocol = publish.container.protocol;
        let places = publish.addresses().filter_map(|at| Some((at, host_side(model, container, at)?)));
        places.flat_map(move |(address, uplink)| {
            let ports = publish.host.first()..=publish.host.last();
            ports.map(move |port| (Listener { protocol, address, port }, uplink))
        })
    })
}

/// The user uplink by which packets come in to what a container publishes at an address of the host's; none where
/// that address is another uplink's matter.
pub fn host_side(model: &Model, container: &Container, address: IpAddr) -> Option<Id> {
    let uplink = outlet(model, container, address.is_ipv4()).filter(|uplink| uplink.is_user())?;
    // Nothing is translated without rules.
    (model.firewall.iptables && !is_ours(model, address)).then_some(uplink.id)
}

/// The uplink by which a container's packets of an IP version leave.
fn outlet<'a>(model: &'a Model, container: &Container, ipv4: bool) -> Option<&'a Network> {
    let (network, ..) = model.way_out(&container.endpoints, ipv4)?;
    let preferred = network.options.uplink.as_ref().and_then(|name| model.find_uplink(name).ok());
    let mut uplinks = preferred.into_iter().chain(model.uplinks());
    uplinks.find(|network| {
        let gateways = network.uplink.iter().flat_map(|uplink| &uplink.gateways);
        gateways.into_iter().any(|gateway| gateway.is_ipv4() == ipv4)
    })
}

/// Whether an address is one of the switch's own, which no socket of the host can have.
fn is_ours(model: &Model, address: IpAddr) -> bool {
    model.all_networks().iter().flat_map(|network| network.own_addresses()).any(|own| own.addr() == address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::ipam::SubnetSpec;
    use crate::control::model::{ContainerSpec, EndpointSpec, FarEnd, NetworkSpec, UplinkSpec};

    fn id(byte: u8) -> Id {
        Id::new([byte; 32])
    }

    fn model(six: bool) -> Model {
        let mut model = Model::new(id(0), 0, &[]).unwrap();
        model.create_uplink(&UplinkSpec::standard(), id(1), 1).unwrap();
        let subnets: &[&str] = if six { &["10.1.0.0/24", "fd00:1::/64"] } else { &["10.1.0.0/24"] };
        let subnets = subnets.iter().map(|text| SubnetSpec::from(text.parse::<ipnet::IpNet>().unwrap()));
        let net1 = NetworkSpec { subnets: subnets.collect(), ..NetworkSpec::named("net1") };
        model.create_network(&net1, id(2), 2, &[]).unwrap();
        let web = ContainerSpec {
            name: Some("web".to_owned()),
            networks: vec![EndpointSpec::on("net1")],
            ..ContainerSpec::default()
        };
        model.create_container(&web, id(3), 3).unwrap();
        model
    }

    fn shown(model: &Model) -> Vec<String> {
        let show = |listener: &Listener| {
            format!("{} {} {}", listener.protocol.name(), listener.address, listener.port)
        };
        listeners(model).keys().map(show).collect()
    }

    #[test]
    fn each_version_that_the_container_has() {
        let table: [(&str, &[&str], &[&str]); 6] = [
            ("8000:80", &["tcp 0.0.0.0 8000"], &["tcp 0.0.0.0 8000", "tcp :: 8000"]),
            ("53:53/udp", &["udp 0.0.0.0 53"], &["udp 0.0.0.0 53", "udp :: 53"]),
            ("127.0.0.1:80:80", &["tcp 127.0.0.1 80"], &["tcp 127.0.0.1 80"]),
            ("[::1]:80:80", &[], &["tcp ::1 80"]),
            (
                "127.0.0.1:8-9:8-9",
                &["tcp 127.0.0.1 8", "tcp 127.0.0.1 9"],
                &["tcp 127.0.0.1 8", "tcp 127.0.0.1 9"],
            ),
            // The switch's own end of the link.
            ("192.0.0.1:80:80", &[], &[]),
        ];
        for (text, four, both) in table {
            for (six, expected) in [(false, four), (true, both)] {
                let mut model = model(six);
                model.publish("web", &text.parse().unwrap()).unwrap();
                assert_eq!(shown(&model), expected, "{text} {six}");
                model.ended(id(3), Some(0), 9).unwrap();
                assert!(shown(&model).is_empty(), "{text}");
            }
        }
    }

    #[test]
    fn only_where_the_way_out_is_by_sockets() {
        let mut model = model(true);
        model.publish("web", &"8000:80".parse().unwrap()).unwrap();
        assert!(listeners(&model).values().all(|uplink| *uplink == id(1)));
        let wan = UplinkSpec {
            name: "wan".to_owned(),
            far_end: FarEnd::Tap("tap0".to_owned()),
            addresses: vec!["198.51.100.1/24".parse().unwrap()],
            gateways: vec!["198.51.100.2".parse().unwrap()],
            mac: None,
            mtu: None,
            lab: None,
        };
        model.create_uplink(&wan, id(4), 4).unwrap();
        assert_eq!(shown(&model), ["tcp :: 8000"], "IPv4 goes out by the other now");
        model.set_options("net1", &[("uplink".to_owned(), "user".to_owned())]).unwrap();
        assert_eq!(shown(&model), ["tcp 0.0.0.0 8000", "tcp :: 8000"]);
        model.firewall.iptables = false;
        assert!(shown(&model).is_empty());
    }
}
