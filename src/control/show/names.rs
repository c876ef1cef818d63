//! What numbers and addresses are called, for views that are made where there is no model.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::control::Model;
use crate::control::compile::network_number;
use crate::dataplane::{NetworkId, PortId};
use crate::wire::ip::Addr;

/// The names of networks, ports and addresses.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// A network's own name, and that of its bridge.
    networks: BTreeMap<NetworkId, (String, String)>,
    ports: BTreeMap<PortId, String>,
    hosts: BTreeMap<Addr, String>,
}

impl Names {
    /// Those of a model.
    pub fn of(model: &Model) -> Self {
        let mut names = Self::default();
        for network in model.all_networks() {
            let called = (network.name.clone(), network.bridge_name());
            names.networks.insert(network_number(network), called);
            for subnet in &network.subnets {
                let whose = match network.uplink {
                    Some(_) => format!("our address on {}", network.name),
                    None => format!("gateway of {}", network.name),
                };
                names.hosts.insert(subnet.gateway().into(), whose);
            }
            for (container, endpoint) in model.endpoints(network.id) {
                names.ports.insert(PortId(endpoint.port), container.port_name(endpoint));
                let addresses = endpoint.addresses.iter().map(|net| Addr::from(net.addr()));
                names.hosts.extend(addresses.map(|address| (address, container.name.clone())));
            }
        }
        names
    }

    /// A network's own name.
    pub fn network(&self, id: NetworkId) -> String {
        self.networks.get(&id).map_or_else(|| format!("network {}", id.0), |(name, _)| name.clone())
    }

    /// What rules call a network: the name of its bridge.
    pub fn bridge(&self, id: NetworkId) -> String {
        self.networks.get(&id).map_or_else(|| format!("network {}", id.0), |(_, bridge)| bridge.clone())
    }

    /// A port: its container, with the interface where there are several.
    pub fn port(&self, id: PortId) -> String {
        self.ports.get(&id).cloned().unwrap_or_else(|| format!("port {}", id.0))
    }

    /// Whose address it is, if it is anybody's here.
    pub fn host(&self, address: Addr) -> Option<&str> {
        self.hosts.get(&address).map(String::as_str)
    }

    /// An address, and whose it is in parentheses.
    pub fn address(&self, address: Addr) -> String {
        match self.host(address) {
            Some(whose) => format!("{} ({whose})", IpAddr::from(address)),
            None => address.to_string(),
        }
    }
}
