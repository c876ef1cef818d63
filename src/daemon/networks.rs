//! Requests about networks.

use std::os::fd::OwnedFd;

use ipnet::IpNet;

use super::{Daemon, Handled, network_number, now};
use crate::control::model::{Network, NetworkSpec};
use crate::control::occupied::{remarks, with_name_servers};
use crate::control::requests::{LabMembers, NetworkCreated};
use crate::control::{Id, Kind, Model, Refused};
use crate::dataplane::{Change, PortId};
use crate::io::{host, random};
use crate::wire::MacAddr;

impl Daemon {
    pub(super) fn network_create(&mut self, spec: &NetworkSpec, descriptors: Vec<OwnedFd>) -> Handled {
        let id = Id::new(random::bytes());
        let host = with_name_servers(&self.host, &self.model.resolvers.host);
        // What is wrong is said below.
        let without = self.model.plan_subnets(spec, id, &[]).unwrap_or_default();
        let prefixes: Vec<IpNet> = host.iter().map(|it| it.prefix).collect();
        self.transact(|model| model.create_network(spec, id, host::now_ns(), &prefixes).map(drop))?;
        if self.wants_host(id)
            && let Err(refused) = self.host_add(id, descriptors)
        {
            self.transact(|model| model.remove_network(&id.to_string()).map(drop))?;
            return Err(refused);
        }
        let got = self.model.network(id).map(|network| network.subnets.clone()).unwrap_or_default();
        now(NetworkCreated { id, remarks: remarks(spec, &got, &without, &host) })
    }

    pub(super) fn network_remove(&mut self, name: &str) -> Handled {
        // The switch gives a network up only without ports.
        let id = self.model.clone().remove_network(name)?.id;
        self.host_remove(id);
        now(self.transact(|model| model.remove_network(name))?.name)
    }

    pub(super) fn network_prune(&mut self) -> Handled {
        for network in self.model.clone().prune_networks() {
            self.host_remove(network.id);
        }
        let gone = self.transact(|model| Ok(model.prune_networks()))?;
        now(gone.into_iter().map(|network| network.name).collect::<Vec<_>>())
    }

    pub(super) fn network_set(
        &mut self,
        name: &str,
        options: &[(String, String)],
        descriptors: Vec<OwnedFd>,
    ) -> Handled {
        let network = self.model.find_network(name)?;
        let (id, before) = (network.id, network.options.mtu);
        let joins = self.model.clone().set_options(name, options)?.options.host_port
            && !self.model.has_host(id)
            // One whose interface was deleted stays lost until somebody brings another.
            && !(network.options.host_port && descriptors.is_empty());
        if joins {
            self.host_add(id, descriptors)?;
        }
        let set = |model: &mut Model| model.set_options(name, options).map(|network| network.options.mtu);
        let mtu = match self.transact(set) {
            Ok(mtu) => mtu,
            Err(refused) => {
                if joins {
                    self.host_remove(id);
                }
                return Err(refused);
            }
        };
        if !self.wants_host(id) {
            self.host_remove(id);
        }
        if mtu != before {
            self.set_mtu_inside(id, mtu);
        }
        // Whom containers of network 'bridge' ask is the network's to say.
        self.write_resolv_confs();
        now(())
    }

    pub(super) fn fdb_add(&mut self, network: &str, mac: MacAddr, port: &str) -> Handled {
        let network = self.model.find_any_network(network)?;
        let (_, endpoint) = self.model.find_port(port)?;
        if endpoint.network != network.id {
            let text = format!("port '{port}' is not on network '{}': 'tapswitch show ports'", network.name);
            return Err(Refused::new(Kind::NotConnected, text));
        }
        self.change(Change::AddFdb(network_number(network), mac, PortId(endpoint.port)))?;
        now(())
    }

    pub(super) fn fdb_remove(&mut self, network: &str, mac: MacAddr) -> Handled {
        let network = network_number(self.model.find_any_network(network)?);
        self.change(Change::RemoveFdb(network, mac))?;
        now(())
    }

    pub(super) fn port_set(&mut self, port: &str, up: bool) -> Handled {
        let (_, endpoint) = self.model.find_port(port)?;
        self.change(Change::SetPort(PortId(endpoint.port), up))?;
        now(())
    }

    pub(super) fn lab_claim(&mut self, connection: usize, lab: String) -> Handled {
        let refuse = |text: String| Err(Refused::new(Kind::BadState, text));
        if self.rising.get(&lab).is_some_and(|by| *by != connection) {
            return refuse(format!("lab '{lab}' is just being brought up by another 'tapswitch up'"));
        }
        if !self.members(Some(&lab)).is_empty() {
            return refuse(format!("lab '{lab}' is up already: 'tapswitch down {lab}' takes it down"));
        }
        self.rising.insert(lab, connection);
        now(())
    }

    pub(super) fn lab_members(&self, lab: Option<&str>) -> Handled {
        now(self.members(lab))
    }

    fn members(&self, lab: Option<&str>) -> LabMembers {
        let is_member = |of: &Option<String>| match lab {
            Some(lab) => of.as_deref() == Some(lab),
            None => of.is_some(),
        };
        let containers = self.model.containers().into_iter().filter(|container| is_member(&container.lab));
        let networks = self.model.networks().into_iter().filter(|network: &&Network| is_member(&network.lab));
        let uplinks = self.model.uplinks().into_iter().filter(|uplink: &&Network| is_member(&uplink.lab));
        LabMembers {
            containers: containers.map(|container| container.name.clone()).collect(),
            networks: networks.map(|network| network.name.clone()).collect(),
            uplinks: uplinks.map(|uplink| uplink.name.clone()).collect(),
        }
    }
}
