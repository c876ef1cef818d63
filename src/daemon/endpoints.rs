//! Endpoints come and go: TAPs are made, configured, put under the switch, and taken away.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use super::{Daemon, failed};
use crate::control::ipam::Subnet;
use crate::control::model::{ContainerKind, Endpoint};
use crate::control::{Id, Refused};
use crate::dataplane::{Change, PortId};
use crate::io::device::Device;
use crate::io::netlink::{LinkConfig, Netlink, NetlinkError, Route};
use crate::io::sys::tun::{Attached, attached};
use crate::io::tap::{OffloadTap, PlainTap};

/// What only the shell knows of a port.
#[derive(Debug)]
pub(super) struct Link {
    /// Whose it is.
    pub(super) container: Id,
    /// The interface's index inside, which it keeps whatever it is called; 0 until it is configured.
    pub(super) index: u32,
    /// Its addresses and routes are ours to set.
    pub(super) is_configured: bool,
    /// The interface was deleted by somebody inside.
    pub(super) lost: bool,
}

/// Where a TAP is made, and where it goes.
pub(super) enum Place<'a> {
    /// It was opened inside the namespace.
    Inside(&'a Netlink),
    /// It was opened in a nursery, and moves into `namespace`, so that our descriptor does not
    /// keep that namespace alive and its end can be noticed.
    Nursery { nursery: Netlink, namespace: OwnedFd, inside: Netlink },
}

impl Daemon {
    /// Makes an endpoint's TAP out of an opened `/dev/net/tun` (or a TAP that the client made
    /// through tun-tap) and puts it under the switch.
    pub(super) fn attach(
        &mut self,
        container: Id,
        endpoint: &Endpoint,
        tun: OwnedFd,
        place: &Place<'_>,
        configure: bool,
    ) -> Result<(), Refused> {
        let Some(network) = self.model.network(endpoint.network) else {
            return Err(failed(&"the endpoint's network has gone"));
        };
        let config = LinkConfig {
            mac: Some(endpoint.mac),
            mtu: Some(network.options.mtu),
            addresses: if configure { endpoint.addresses.clone() } else { Vec::new() },
            no_ipv6: !network.has_ipv6(),
            up: configure,
        };
        let port = PortId(endpoint.port);
        let device = make_device(endpoint, tun, place)?;
        self.attach_device(container, endpoint, device)?;
        let inside = match place {
            Place::Inside(netlink) => netlink,
            Place::Nursery { inside, .. } => inside,
        };
        let configured = inside.configure(&endpoint.ifname, &config).and_then(|index| {
            let ways = self.ways_out(container).into_iter().flatten();
            let ways = ways.filter(|(network, _)| configure && *network == endpoint.network);
            ways.into_iter().try_for_each(|(_, gateway)| add_default_route(inside, index, gateway))?;
            Ok(index)
        });
        match configured {
            Ok(index) => {
                self.links.insert(port, Link { container, index, is_configured: configure, lost: false });
                Ok(())
            }
            Err(error) => {
                self.detach(endpoint);
                Err(failed(&error))
            }
        }
    }

    /// Puts an endpoint's device under the switch.
    pub(super) fn attach_device(
        &mut self,
        container: Id,
        endpoint: &Endpoint,
        device: Box<dyn Device>,
    ) -> Result<(), Refused> {
        let Some(network) = self.model.network(endpoint.network) else {
            return Err(failed(&"the endpoint's network has gone"));
        };
        let (port, number) = (PortId(endpoint.port), super::network_number(network));
        let name = self.port_name(container, endpoint);
        self.in_loop(move |inner| {
            inner.apply(Change::AddPort(port, number)).map_err(|rejected| failed(&rejected))?;
            inner.attach(port, device, &name).map_err(|error| {
                // It was added a moment ago, so it can be removed.
                let _ = inner.apply(Change::RemovePort(port));
                failed(&format!("the poll set did not take the device: {error}"))
            })
        })??;
        self.links.insert(port, Link { container, index: 0, is_configured: false, lost: false });
        Ok(())
    }

    /// By which networks and gateways a container's packets go outside, of IPv4 and IPv6.
    pub(super) fn ways_out(&self, container: Id) -> [Option<(Id, IpAddr)>; 2] {
        [true, false].map(|ipv4| {
            // The host has ways of its own.
            let container = self.model.container(container).filter(|it| it.kind != ContainerKind::Host)?;
            let (network, ..) = self.model.way_out(&container.endpoints, ipv4)?;
            let gateways = network.subnets.iter().map(Subnet::gateway);
            gateways.into_iter().find(|it| it.is_ipv4() == ipv4).map(|gateway| (network.id, gateway))
        })
    }

    /// A container has joined or left a network: where its way out is another one now, that takes the former's
    /// place, if both are there; a new interface brings its route itself.
    pub(super) fn replace_default_routes(&self, container: Id, before: [Option<(Id, IpAddr)>; 2]) {
        let Some(netlink) = self.containers.get(&container).and_then(|shell| shell.netlink.as_ref()) else {
            return;
        };
        let index = |network: Id| {
            let mut endpoints = self.model.container(container)?.endpoints.iter();
            let port = PortId(endpoints.find(|it| it.network == network)?.port);
            self.links.get(&port).filter(|link| link.is_configured).map(|link| link.index)
        };
        let route = |way: Option<(Id, IpAddr)>| {
            way.and_then(|(network, gateway)| Some(Route::default_via(gateway, index(network)?)))
        };
        for (now, before) in self.ways_out(container).into_iter().zip(before).filter(|(now, old)| now != old)
        {
            // Routes that were changed inside stay so, and an interface that was taken down there has no use for one.
            let _ = route(before).map(|route| netlink.delete_route(route));
            let _ = route(now).map(|route| netlink.add_route(route));
        }
    }

    /// Takes an endpoint's port off the switch; closing the TAP deletes the interface.
    pub(super) fn detach(&mut self, endpoint: &Endpoint) {
        let port = PortId(endpoint.port);
        if self.links.remove(&port).is_some() {
            // When the loop has ended, so have its ports.
            let _ = self.in_loop(move |inner| {
                inner.detach(port);
                inner.apply(Change::RemovePort(port))
            });
        }
    }

    /// What captures and listings call a port.
    pub(super) fn port_name(&self, container: Id, endpoint: &Endpoint) -> String {
        self.model.container(container).map_or_else(String::new, |owner| owner.port_name(endpoint))
    }

    /// Tells the captures the names of a container's ports anew: they depend on how many there are.
    pub(super) fn rename_ports(&self, id: Id) {
        let Some(container) = self.model.container(id) else { return };
        let names: Vec<_> = container
            .endpoints
            .iter()
            .map(|endpoint| (PortId(endpoint.port), container.port_name(endpoint)))
            .collect();
        let _ = self.in_loop(move |inner| {
            names.iter().for_each(|(port, name)| inner.captures.name_port(*port, name));
        });
    }

    /// The interface behind a port was deleted inside. The number may be another port's by now, which
    /// then has its device.
    pub(super) fn port_lost(&mut self, port: PortId) {
        if self.in_loop(move |inner| inner.is_attached(port)).unwrap_or(false) {
            return;
        }
        let Some(link) = self.links.get_mut(&port) else { return };
        link.lost = true;
        let id = link.container;
        let all_lost = self.links.values().filter(|link| link.container == id).all(|link| link.lost);
        if all_lost {
            self.all_ports_lost(id);
        }
    }

    /// A network's MTU has changed: tell the interfaces of its containers, where we still can.
    pub(super) fn set_mtu_inside(&self, network: Id, mtu: u32) {
        for (container, endpoint) in self.model.endpoints(network) {
            let netlink = self.containers.get(&container.id).and_then(|shell| shell.netlink.as_ref());
            if let (Some(netlink), Some(link)) = (netlink, self.links.get(&PortId(endpoint.port))) {
                // An interface that was deleted inside needs none.
                let _ = netlink.set_mtu(link.index, mtu);
            }
        }
    }
}

/// Gives a namespace a default route, unless it has one of its own already.
fn add_default_route(inside: &Netlink, index: u32, gateway: IpAddr) -> Result<(), NetlinkError> {
    match inside.add_default_route(index, gateway) {
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// A descriptor that is attached to an interface already is a TAP that the client made: a plain one through
/// tun-tap, or the host's.
fn make_device(endpoint: &Endpoint, tun: OwnedFd, place: &Place<'_>) -> Result<Box<dyn Device>, Refused> {
    // In the nursery the interface has the port's alias, which is nobody else's.
    let first = match place {
        Place::Inside(_) => &endpoint.ifname,
        Place::Nursery { .. } => &endpoint.alias,
    };
    let (device, name) = match attached(tun.as_fd()) {
        Ok(made) => adopt_device(tun, made)?,
        Err(_) => {
            let tap = OffloadTap::attach(tun, first).map_err(|error| failed(&error))?;
            (Box::new(tap) as Box<dyn Device>, first.clone())
        }
    };
    let moved = match place {
        Place::Inside(netlink) if name != endpoint.ifname => netlink.rename(&name, &endpoint.ifname),
        Place::Inside(_) => Ok(()),
        Place::Nursery { nursery, namespace, .. } => {
            nursery.move_to_netns(&name, namespace.as_fd(), &endpoint.ifname)
        }
    };
    moved.map_err(|error| failed(&error))?;
    Ok(device)
}

/// A TAP that is there already, and its interface's present name.
pub(super) fn adopt_device(tun: OwnedFd, made: Attached) -> Result<(Box<dyn Device>, String), Refused> {
    if made.has_header {
        let tap = OffloadTap::adopt(tun, &made.name).map_err(|error| failed(&error))?;
        return Ok((Box::new(tap), made.name));
    }
    let tap = PlainTap::adopt(tun).map_err(|error| failed(&error))?;
    let name = tap.name().to_owned();
    Ok((Box::new(tap), name))
}
