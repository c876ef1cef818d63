//! The only way to change a switch's configuration.

use super::dns;
use super::interface::{Interface, Route};
use super::local::{self, Advertiser, Gateway};
use super::network::{Network, NetworkConfig, NetworkId};
use super::port::{Port, PortId};
use super::rules::Ruleset;
use super::settings::Settings;
use super::{Instant, Switch};
use crate::wire::MacAddr;
use crate::wire::ip::{Addr, Prefix, Version};

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
    /// Gives a network a gateway, changes it, or takes it away. Its connected routes go with it.
    SetInterface(NetworkId, Option<Interface>),
    /// A static route.
    AddRoute(Route),
    /// Removes a static route.
    RemoveRoute(Route),
    /// New rules for an IP version, all at once; rules that stay the same keep their counters.
    SetRules(Version, Ruleset),
    /// How a network's gateway answers questions about names; none: it does not, and port 53 is closed.
    SetDns(NetworkId, Option<dns::Config>),
    /// New settings of the whole.
    Set(Settings),
}

/// Why a change was refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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
    /// The network has no gateway.
    #[error("the network number {} has no gateway", .0.0)]
    NoInterface(NetworkId),
    /// An address of another interface.
    #[error("{0} is the address of another interface already")]
    AddressTaken(Addr),
    /// There is such a route already.
    #[error("there is a route to {0} with that next hop already")]
    RouteExists(Prefix),
    /// There is no such route.
    #[error("there is no route to {0} with that next hop")]
    UnknownRoute(Prefix),
    /// The next hop is not on the interface's link.
    #[error("the next hop {0} is not in a prefix of the interface it should be reached by")]
    Unreachable(Addr),
    /// A rule jumps to a chain that is not there, or chains jump in a circle.
    #[error("the rules of chain {0} are not sound")]
    BadRules(String),
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
        self.expire(now);
        self.carry_out(now, change)?;
        // What flows remember of their way is void.
        self.changes = self.changes.wrapping_add(1);
        Ok(())
    }

    fn carry_out(&mut self, now: Instant, change: Change) -> Result<(), Rejected> {
        match change {
            Change::AddNetwork(id, config) => self.add_network(id, config),
            Change::SetNetwork(id, config) => self.set_network(now, id, config),
            Change::RemoveNetwork(id) => self.remove_network(id),
            Change::AddPort(id, network) => self.add_port(id, network),
            Change::RemovePort(id) => self.remove_port(id),
            Change::SetPort(id, up) => self.set_port(id, up),
            Change::AddFdb(network, mac, port) => self.add_fdb(network, mac, port),
            Change::RemoveFdb(network, mac) => self.remove_fdb(network, mac),
            Change::SetInterface(network, interface) => self.set_interface(now, network, interface),
            Change::AddRoute(route) => self.add_route(route),
            Change::RemoveRoute(route) => self.remove_route(&route),
            Change::SetRules(version, rules) => self.set_rules(version, rules),
            Change::SetDns(network, config) => self.set_dns(network, config),
            Change::Set(settings) => {
                self.set_settings(settings);
                Ok(())
            }
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
        self.neighbours.forget_network(id);
        self.dns.forget_network(id);
        self.plan_gateways();
        // Only its own routes go: no other interface can contradict that.
        self.routes.set_interface(id, None)
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
        self.conntrack.forget_port(id);
        self.neighbours.forget_port(id);
        self.dns.forget_port(id);
        self.reassembly.forget_port(id);
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

    /// Connected routes follow the addresses, neighbours are forgotten with the link's addresses, and
    /// the gateway announces itself at the next timeout.
    fn set_interface(
        &mut self,
        now: Instant,
        id: NetworkId,
        interface: Option<Interface>,
    ) -> Result<(), Rejected> {
        let network = self.networks.get(id.0).ok_or(Rejected::UnknownNetwork(id))?;
        let addresses = |interface: &Option<Interface>| interface.as_ref().map(|own| own.addresses.clone());
        let (before, after) = (addresses(&network.interface), addresses(&interface));
        if let Some(own) = interface.as_ref().filter(|own| !own.mac.is_station()) {
            return Err(Rejected::BadAddress(own.mac));
        }
        self.routes.set_interface(id, after.as_deref())?;
        let Some(network) = self.networks.get_mut(id.0) else { return Ok(()) };
        let mac = |interface: &Option<Interface>| interface.as_ref().map(|interface| interface.mac);
        let moved = before != after || mac(&network.interface) != mac(&interface);
        let advertises = |interface: &Option<Interface>| interface.as_ref().is_some_and(|own| own.advertise);
        let (advertised, will) = (advertises(&network.interface), advertises(&interface));
        if moved {
            network.gateway = Gateway::default();
        }
        if will && (moved || !advertised) {
            network.gateway.advertiser = Advertiser::start(now, self.seed ^ u64::from(id.0));
        } else if advertised && !will {
            network.gateway.advertiser.stop(now);
        }
        if moved {
            network.announce = interface.is_some();
            self.neighbours.forget_network(id);
        }
        network.interface = interface;
        self.plan_gateways();
        Ok(())
    }

    fn add_route(&mut self, route: Route) -> Result<(), Rejected> {
        let interface = self.interface(route.interface).ok_or(Rejected::NoInterface(route.interface))?;
        if let Some(via) = route.via.filter(|via| !local::is_on_link(interface, *via)) {
            return Err(Rejected::Unreachable(via));
        }
        self.routes.add(route)
    }

    fn remove_route(&mut self, route: &Route) -> Result<(), Rejected> {
        self.routes.remove(route)
    }

    fn set_rules(&mut self, version: Version, rules: Ruleset) -> Result<(), Rejected> {
        self.rules[version as usize].replace(rules)
    }

    fn set_dns(&mut self, id: NetworkId, config: Option<dns::Config>) -> Result<(), Rejected> {
        let network = self.networks.get_mut(id.0).ok_or(Rejected::UnknownNetwork(id))?;
        let before = std::mem::replace(&mut network.dns, config);
        let after = self.networks.get(id.0).and_then(|network| network.dns.as_ref());
        let all = self.networks.iter().filter_map(|(_, network)| network.dns.as_ref());
        self.dns.configure(id, before.as_ref(), after, all);
        Ok(())
    }

    fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
        self.conntrack.set(settings.conntrack, settings.timeouts);
    }
}
