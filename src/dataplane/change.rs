//! The only way to change a switch's configuration.

use super::network::{Network, NetworkConfig, NetworkId};
use super::port::{Port, PortId};
use super::{Instant, Switch};
use crate::wire::MacAddr;

/// One change, carried out between two frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new network.
    AddNetwork(NetworkId, NetworkConfig),
    /// New settings for a network; what is learned stays as far as the limits allow.
    SetNetwork(NetworkId, NetworkConfig),
    /// Removes a network that has no ports.
    RemoveNetwork(NetworkId),
    /// A new port on a network, up.
    AddPort(PortId, NetworkId),
    /// Removes a port and every address behind it.
    RemovePort(PortId),
    /// Sets a port's administrative state; down forgets what was learned behind it.
    SetPort(PortId, bool),
    /// A static fdb entry.
    AddFdb(NetworkId, MacAddr, PortId),
    /// Removes an fdb entry, learned or static.
    RemoveFdb(NetworkId, MacAddr),
}

/// Why a change was refused. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// No network has this number.
    #[error("there is no network number {}", .0.0)]
    UnknownNetwork(NetworkId),
    /// No port has this number.
    #[error("there is no port number {}", .0.0)]
    UnknownPort(PortId),
    /// The number is taken.
    #[error("the network number {} is taken", .0.0)]
    NetworkExists(NetworkId),
    /// The number is taken.
    #[error("the port number {} is taken", .0.0)]
    PortExists(PortId),
    /// The network still has ports.
    #[error("the network number {} still has ports", .0.0)]
    NetworkInUse(NetworkId),
    /// The port is on another network.
    #[error("the port number {} is not on the network number {}", .0.0, .1.0)]
    NotOnNetwork(PortId, NetworkId),
    /// The address cannot be a station's.
    #[error("{0} is a group address or zero, which no port can have")]
    BadAddress(MacAddr),
    /// The fdb has no such entry.
    #[error("the fdb has no entry for {0}")]
    UnknownAddress(MacAddr),
}

impl Switch {
    /// Carries out a change, after what time has brought: it sees no address that is dead already.
    ///
    /// # Errors
    /// [`Rejected`] when it names what is not there, or what is there already; nothing changed then.
    pub fn apply(&mut self, now: Instant, change: Change) -> Result<(), Rejected> {
        self.handle_timeout(now);
        match change {
            Change::AddNetwork(id, config) => self.add_network(id, config),
            Change::SetNetwork(id, config) => self.set_network(now, id, config),
            Change::RemoveNetwork(id) => self.remove_network(id),
            Change::AddPort(id, network) => self.add_port(id, network),
            Change::RemovePort(id) => self.remove_port(id),
            Change::SetPort(id, up) => self.set_port(id, up),
            Change::AddFdb(network, mac, port) => self.add_fdb(network, mac, port),
            Change::RemoveFdb(network, mac) => self.remove_fdb(network, mac),
        }
    }

    fn add_network(&mut self, id: NetworkId, config: NetworkConfig) -> Result<(), Rejected> {
        if self.networks.get(id.0).is_some() {
            return Err(Rejected::NetworkExists(id));
        }
        self.networks.insert(id.0, Network::new(id, config, self.seed));
        Ok(())
    }

    fn set_network(&mut self, now: Instant, id: NetworkId, config: NetworkConfig) -> Result<(), Rejected> {
        let network = self.networks.get_mut(id.0).ok_or(Rejected::UnknownNetwork(id))?;
        network.config = config;
        network.fdb.set_limits(config.fdb);
        // A shorter ageing time may move the next expiry before the time noted.
        self.wake = self.next_expiry();
        self.expire(now);
        Ok(())
    }

    fn remove_network(&mut self, id: NetworkId) -> Result<(), Rejected> {
        let network = self.networks.get(id.0).ok_or(Rejected::UnknownNetwork(id))?;
        if !network.ports.is_empty() {
            return Err(Rejected::NetworkInUse(id));
        }
        self.networks.remove(id.0);
        Ok(())
    }

    fn add_port(&mut self, id: PortId, on: NetworkId) -> Result<(), Rejected> {
        if self.ports.get(id.0).is_some() {
            return Err(Rejected::PortExists(id));
        }
        let network = self.networks.get_mut(on.0).ok_or(Rejected::UnknownNetwork(on))?;
        let at = network.ports.partition_point(|other| *other < id);
        network.ports.insert(at, id);
        self.ports.insert(id.0, Port::new(on, true));
        Ok(())
    }

    fn remove_port(&mut self, id: PortId) -> Result<(), Rejected> {
        let port = self.ports.remove(id.0).ok_or(Rejected::UnknownPort(id))?;
        if let Some(network) = self.networks.get_mut(port.network.0) {
            network.ports.retain(|other| *other != id);
            network.fdb.flush_port(id, true);
            network.departed.add(&port.counters);
        }
        Ok(())
    }

    fn set_port(&mut self, id: PortId, up: bool) -> Result<(), Rejected> {
        let port = self.ports.get_mut(id.0).ok_or(Rejected::UnknownPort(id))?;
        port.up = up;
        if let Some(network) = self.networks.get_mut(port.network.0).filter(|_| !up) {
            network.fdb.flush_port(id, false);
        }
        Ok(())
    }

    fn add_fdb(&mut self, id: NetworkId, mac: MacAddr, port: PortId) -> Result<(), Rejected> {
        let network = self.networks.get_mut(id.0).ok_or(Rejected::UnknownNetwork(id))?;
        if !mac.is_station() {
            return Err(Rejected::BadAddress(mac));
        }
        let on = self.ports.get(port.0).ok_or(Rejected::UnknownPort(port))?.network;
        if on != id {
            return Err(Rejected::NotOnNetwork(port, id));
        }
        network.fdb.add_static(mac, port);
        Ok(())
    }

    fn remove_fdb(&mut self, id: NetworkId, mac: MacAddr) -> Result<(), Rejected> {
        let network = self.networks.get_mut(id.0).ok_or(Rejected::UnknownNetwork(id))?;
        if network.fdb.forget(mac) { Ok(()) } else { Err(Rejected::UnknownAddress(mac)) }
    }
}
