//! The host's port on a network (option `host_port`): it is there as a container is, under the bridge's name.
//!
//! The port is the endpoint of a container with the network's id, which goes with the network and
//! holds nothing up. It leases the last IPv4 address if that is free, else the next; the gateway's stays
//! the switch's.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::IpNet;

use super::{Container, ContainerKind, ContainerSpec, Endpoint, EndpointSpec, Model};
use crate::control::ipam::Subnet;
use crate::control::{Id, Kind, Refused};

impl Model {
    /// Puts the host on a network.
    ///
    /// # Errors
    /// `unknown_network`, `name_taken`, `pool_full`, `mac_in_use`.
    pub fn plug_host(&mut self, network: Id, now_ns: u64) -> Result<&Container, Refused> {
        let unknown = || Refused::new(Kind::UnknownNetwork, format!("network {} not found", network.short()));
        let on = self.network(network).filter(|it| it.uplink.is_none()).ok_or_else(unknown)?;
        let endpoint = EndpointSpec {
            ifname: Some(on.bridge_name()),
            addresses: on.subnets.iter().filter_map(last_address).collect(),
            ..EndpointSpec::on(&network.to_string())
        };
        let spec = ContainerSpec {
            name: Some(format!("host-{}", on.name)),
            kind: ContainerKind::Host,
            networks: vec![endpoint],
            ..ContainerSpec::default()
        };
        self.create_container(&spec, network, now_ns)
    }

    /// Takes the host off a network; what it had there, if it was.
    pub fn unplug_host(&mut self, network: Id) -> Option<Container> {
        self.containers.get(&network).filter(|container| container.kind == ContainerKind::Host)?;
        let host = self.containers.remove(&network).map(Arc::unwrap_or_clone)?;
        host.endpoints.iter().for_each(|endpoint| self.release(endpoint));
        Some(host)
    }

    /// Whether the host has its port on a network.
    pub fn has_host(&self, network: Id) -> bool {
        let host = self.container(network).filter(|container| container.kind == ContainerKind::Host);
        host.is_some_and(Container::is_alive)
    }

    /// Who keeps a network from being removed: all on it but the host.
    pub(super) fn guests(&self, network: Id) -> impl Iterator<Item = (&Container, &Endpoint)> {
        self.endpoints(network).into_iter().filter(|(container, _)| container.kind != ContainerKind::Host)
    }
}

/// The last IPv4 address, if it is free: so containers get those that they would get without the host.
fn last_address(subnet: &Subnet) -> Option<IpAddr> {
    let IpNet::V4(prefix) = subnet.prefix() else { return None };
    let last = IpAddr::from(Ipv4Addr::from_bits(prefix.broadcast().to_bits().saturating_sub(1)));
    subnet.choose(Some(last)).ok()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{container, id, refused, sample};
    use super::*;

    #[test]
    fn the_host_is_on_a_network_and_holds_nothing_up() {
        let mut model = sample();
        let spec = super::super::NetworkSpec {
            subnets: vec!["10.9.0.0/24".parse::<ipnet::IpNet>().unwrap().into()],
            ipv6: true,
            ..super::super::NetworkSpec::named("lan")
        };
        let lan = id(40);
        model.create_network(&spec, lan, 9, &[]).unwrap();
        let before = model.clone();
        let host = model.plug_host(lan, 10).unwrap().clone();
        let [endpoint] = host.endpoints.as_slice() else { panic!("{host:?}") };
        assert_eq!((host.id, host.name.as_str(), host.kind), (lan, "host-lan", ContainerKind::Host));
        assert_eq!(endpoint.ifname, model.network(lan).unwrap().bridge_name());
        assert_eq!(endpoint.addresses.len(), 2, "IPv4 and IPv6");
        assert_eq!(endpoint.addresses[0].to_string(), "10.9.0.254/24", "the last one");
        assert!(model.has_host(lan));
        // It is no container, but its port can be named.
        assert!(model.containers().iter().all(|it| it.id != lan));
        assert_eq!(model.find_container("host-lan").unwrap_err().kind, Kind::UnknownContainer);
        assert_eq!(model.find_port("host-lan").unwrap().1, endpoint);
        let why = refused(&mut model, |model| {
            model.create_container(&container("host-lan", &["lan"]), id(41), 11).map(drop)
        });
        assert_eq!(why.kind, Kind::NameTaken);
        // What it had, others can have.
        model.unplug_host(lan).unwrap();
        assert_eq!(model, before);
        assert!(model.unplug_host(lan).is_none() && !model.has_host(lan));
        let spec =
            ContainerSpec { networks: vec!["lan:ip=10.9.0.254".parse().unwrap()], ..container("last", &[]) };
        model.create_container(&spec, id(43), 12).unwrap();
        let host = model.plug_host(lan, 12).unwrap();
        assert_eq!(host.endpoints[0].addresses[0].to_string(), "10.9.0.2/24", "the next");
        model.remove_container("last", true).unwrap();
        model.create_container(&container("eve", &["lan"]), id(42), 13).unwrap();
        let why = refused(&mut model, |model| model.remove_network("lan").map(drop));
        assert!(why.message.contains("eve") && !why.message.contains("host-lan"), "{why}");
        model.remove_container("eve", true).unwrap();
        model.remove_network("lan").unwrap();
        assert!(model.container(lan).is_none());
        assert_eq!(model.plug_host(lan, 14).unwrap_err().kind, Kind::UnknownNetwork);
    }
}
