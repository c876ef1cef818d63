//! Requests about networks.

use super::{Daemon, Handled, failed, network_number, now};
use crate::control::compile::config;
use crate::control::model::{Network, NetworkSpec};
use crate::control::requests::LabMembers;
use crate::control::{Id, Kind, Refused};
use crate::dataplane::{Change, PortId};
use crate::io::{host, random};
use crate::wire::MacAddr;

impl Daemon {
    pub(super) fn network_create(&mut self, spec: &NetworkSpec) -> Handled {
        let id = Id::new(random::bytes());
        self.model.create_network(spec, id, host::now_ns(), &self.host)?;
        if let Err(refused) = self.install_network(id) {
            // The data plane did not take it, so the model must not have it either.
            self.model.remove_network(&id.to_string())?;
            return Err(refused);
        }
        now(id.to_string())
    }

    /// Gives the switch a network of the model.
    pub(super) fn install_network(&self, id: Id) -> Result<(), Refused> {
        self.model.network(id).map_or(Ok(()), |network| {
            self.change(Change::AddNetwork(network_number(network), config(&network.options)))
        })
    }

    pub(super) fn network_remove(&mut self, name: &str) -> Handled {
        let network = self.model.remove_network(name)?;
        self.change(Change::RemoveNetwork(network_number(&network)))?;
        now(network.name)
    }

    pub(super) fn network_prune(&mut self) -> Handled {
        let gone = self.model.prune_networks();
        for network in &gone {
            self.change(Change::RemoveNetwork(network_number(network)))?;
        }
        now(gone.into_iter().map(|network| network.name).collect::<Vec<_>>())
    }

    pub(super) fn network_set(&mut self, name: &str, options: &[(String, String)]) -> Handled {
        let before = self.model.find_network(name)?.options.mtu;
        let network = self.model.set_options(name, options)?;
        let change = Change::SetNetwork(network_number(network), config(&network.options));
        let (id, mtu) = (network.id, network.options.mtu);
        self.change(change)?;
        if mtu != before {
            self.set_mtu_inside(id, mtu);
        }
        now(())
    }

    pub(super) fn fdb_add(&mut self, network: &str, mac: MacAddr, port: &str) -> Handled {
        let network = self.model.find_network(network)?;
        let (_, endpoint) = self.model.find_port(port)?;
        if endpoint.network != network.id {
            let text = format!("port '{port}' is not on network '{}': 'tapswitch show ports'", network.name);
            return Err(Refused::new(Kind::NotConnected, text));
        }
        self.change(Change::AddFdb(network_number(network), mac, PortId(endpoint.port)))?;
        now(())
    }

    pub(super) fn fdb_remove(&mut self, network: &str, mac: MacAddr) -> Handled {
        let network = network_number(self.model.find_network(network)?);
        self.change(Change::RemoveFdb(network, mac))?;
        now(())
    }

    pub(super) fn port_set(&mut self, port: &str, up: bool) -> Handled {
        let (_, endpoint) = self.model.find_port(port)?;
        self.change(Change::SetPort(PortId(endpoint.port), up))?;
        now(())
    }

    pub(super) fn lab_members(&self, lab: Option<&str>) -> Handled {
        let is_member = |of: &Option<String>| match lab {
            Some(lab) => of.as_deref() == Some(lab),
            None => of.is_some(),
        };
        let containers = self.model.containers().into_iter().filter(|container| is_member(&container.lab));
        let networks = self.model.networks().into_iter().filter(|network: &&Network| is_member(&network.lab));
        now(LabMembers {
            containers: containers.map(|container| container.name.clone()).collect(),
            networks: networks.map(|network| network.name.clone()).collect(),
        })
    }

    /// Changes the switch's configuration.
    pub(super) fn change(&self, change: Change) -> Result<(), Refused> {
        self.in_loop(|inner| inner.apply(change))?.map_err(|rejected| failed(&rejected))
    }
}
