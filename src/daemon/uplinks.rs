//! Requests about uplinks.
//!
//! Theory of operation. An uplink is a network of the model whose port is made as a plugged
//! namespace's is: out of descriptors that the client opened where the far end is to be. When that
//! far end goes, its port goes; the uplink stays, without a port (`lost`), until it is removed.
//!
//! The interface behind a packet uplink (its *parent*) is somebody else's and is followed: an uplink's
//! packets are no longer than its parent takes at the moment, nor longer than was asked for. Our MAC and
//! IP addresses must not be the parent's, whose kernel would answer at them too; that is refused when we
//! are told ours, and shown as the state `conflict` when the parent gets one of them later.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use ipnet::IpNet;

use super::{Daemon, Handled, containers, failed, netlink, next, now};
use crate::control::compile;
use crate::control::model::{FarEnd, Network, UplinkChange, UplinkSpec};
use crate::control::show::{self, UplinkRow};
use crate::control::state::Whence;
use crate::control::{Id, Kind, Model, Refused};
use crate::dataplane::PortId;
use crate::io::netlink::monitor::{Event, Monitor};
use crate::io::netlink::{LinkInfo, Netlink};
use crate::io::uplink::user::{self, UserDevice};
use crate::io::uplink::{PacketDevice, Station};
use crate::io::{host, random};
use crate::wire::ip::Addr;

/// The interface behind a packet uplink.
#[derive(Debug)]
pub(super) struct Parent {
    monitor: Monitor,
    /// The monitor is not watched yet.
    is_new: bool,
    station: Station,
    /// The uplink's MTU where the interface allows it.
    wanted_mtu: u32,
}

impl Daemon {
    pub(super) fn uplink_add(
        &mut self,
        spec: &UplinkSpec,
        pid: Option<u32>,
        nursery: bool,
        whence: Whence,
        descriptors: Vec<OwnedFd>,
    ) -> Handled {
        let id = Id::new(random::bytes());
        self.transact(|model| model.create_uplink(spec, id, host::now_ns()).map(drop))?;
        self.containers.insert(id, containers::Shell { whence, ..containers::Shell::default() });
        let attached = match &spec.far_end {
            FarEnd::Container(_) => Ok(()),
            FarEnd::Tap(_) => self.attach_foreign(id, pid, nursery, true, descriptors),
            FarEnd::Packet(_) => self.attach_packet(id, spec.mtu, descriptors),
            FarEnd::User(_) => self.try_user(id).and_then(|()| self.attach_user(id)),
        };
        if let Err(refused) = attached {
            self.uplink_drop(id)?;
            return Err(refused);
        }
        self.reselect_captures();
        now(())
    }

    /// An uplink that was saved has been started already.
    fn note_started(&mut self, id: Id) -> Result<(), Refused> {
        if self.is_running(id) { Ok(()) } else { self.model.started(id, 0, host::now_ns()) }
    }

    /// Makes a port of an interface, by a packet socket that was opened in its namespace.
    pub(super) fn attach_packet(
        &mut self,
        id: Id,
        mtu: Option<u32>,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), Refused> {
        let mut descriptors = descriptors.into_iter();
        let socket = next(&mut descriptors, "a packet socket")?;
        let netlink = netlink(next(&mut descriptors, "a netlink socket")?)?;
        let monitor = next(&mut descriptors, "a netlink socket that tells of changes")?;
        let endpoints = self.model.container(id).map(|container| container.endpoints.clone());
        let Some([endpoint]) = endpoints.as_deref() else { return Err(failed(&"the uplink has no port")) };
        let Some(uplink) = self.model.network(id) else { return Err(failed(&"the uplink has gone")) };
        let (mac, wanted_mtu) = (uplink.gateway_mac(), uplink.options.mtu);
        let name = &endpoint.ifname;
        let info = netlink.link(name).map_err(|_| {
            Refused::new(Kind::BadUplink, format!("there is no interface '{name}': 'ip link' lists them"))
        })?;
        check_against(uplink, &info, &netlink, mtu)?;
        let bad = |error: &dyn std::fmt::Display| Refused::new(Kind::BadUplink, error.to_string());
        let device = PacketDevice::adopt(socket, name, info.index, mac, self.options.offload)
            .map_err(|error| bad(&error))?;
        let station = device.station(mac).map_err(|error| failed(&error))?;
        self.note_started(id)?;
        self.attach_device(id, endpoint, Box::new(device))?;
        if let Some(link) = self.links.get_mut(&PortId(endpoint.port)) {
            link.index = info.index;
        }
        if let Some(shell) = self.containers.get_mut(&id) {
            shell.parent = Some(Parent { monitor: Monitor::new(monitor), is_new: true, station, wanted_mtu });
            shell.netlink = Some(netlink);
        }
        self.follow_mtu(id, info.mtu);
        Ok(())
    }

    /// Makes a port of the host's sockets.
    pub(super) fn attach_user(&mut self, id: Id) -> Result<(), Refused> {
        let endpoints = self.model.container(id).map(|container| container.endpoints.clone());
        let Some([endpoint]) = endpoints.as_deref() else { return Err(failed(&"the uplink has no port")) };
        let Some(uplink) = self.model.network(id) else { return Err(failed(&"the uplink has gone")) };
        let seed = random::seed();
        let policy = user_policy(&self.model, uplink, self.told.plan().resolvers());
        let device = UserDevice::new(endpoint.mac, uplink.gateway_mac(), policy, seed);
        let (device, handle) = device.map_err(|error| failed(&error))?;
        self.note_started(id)?;
        self.attach_device(id, endpoint, Box::new(device))?;
        if let Some(shell) = self.containers.get_mut(&id) {
            shell.user = Some(handle);
        }
        // What is published already comes in by it from now on.
        self.tell_switch()
    }

    /// Whether the host has what a user uplink is to go out by.
    fn try_user(&self, id: Id) -> Result<(), Refused> {
        let Some(uplink) = self.model.network(id) else { return Ok(()) };
        let tried = user_policy(&self.model, uplink, Vec::new()).try_out();
        tried.map_err(|text| Refused::new(Kind::BadUplink, format!("uplink '{}': {text}", uplink.name)))
    }

    /// Tells the user uplinks how their flows go, and what is inside.
    pub(super) fn tell_policies(&mut self) {
        for uplink in self.model.uplinks() {
            let shell = self.containers.get_mut(&uplink.id);
            if let Some(handle) = shell.and_then(|shell| shell.user.as_mut()) {
                handle.set_policy(user_policy(&self.model, uplink, self.told.plan().resolvers()));
            }
        }
    }

    /// Monitors of uplinks' interfaces to watch from now on.
    pub(super) fn take_new_monitors(&mut self) -> Vec<(Id, OwnedFd)> {
        let fresh = |uplink: &Network| {
            let shell = self.containers.get_mut(&uplink.id)?;
            let parent = shell.parent.as_mut().filter(|parent| parent.is_new)?;
            // While there are too few descriptors, the next turn tries again.
            let watched = parent.monitor.as_fd().try_clone_to_owned().ok()?;
            parent.is_new = false;
            Some((uplink.id, watched))
        };
        self.model.uplinks().into_iter().filter_map(fresh).collect()
    }

    /// Whether the interface behind an uplink is followed still.
    pub(super) fn follows(&self, id: Id) -> bool {
        self.containers.get(&id).is_some_and(|shell| shell.parent.is_some())
    }

    /// Takes in what has happened to a packet uplink's interface; false when nobody asks any more.
    pub(super) fn parent_changed(&mut self, id: Id) -> bool {
        let port = self.model.container(id).and_then(|it| it.endpoints.first()).map(|it| PortId(it.port));
        let Some(port) = port else { return false };
        let Some(index) = self.links.get(&port).map(|link| link.index) else { return false };
        loop {
            let parent = self.containers.get_mut(&id).and_then(|shell| shell.parent.as_mut());
            let Some(event) = parent.map(|parent| parent.monitor.next_event()) else { return false };
            match event {
                Ok(Some(Event::Link(info))) if info.index == index => self.follow_mtu(id, info.mtu),
                Ok(Some(Event::LinkDeleted(deleted))) if deleted == index => {
                    let _ = self.in_loop(move |inner| inner.detach(port));
                    self.port_lost(port);
                }
                Ok(Some(Event::Overrun)) => {
                    if let Some(info) = self.look_inside(port) {
                        self.follow_mtu(id, info.mtu);
                    }
                }
                // Its state and addresses are asked for when somebody looks.
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    /// An uplink's packets are no longer than its interface takes.
    fn follow_mtu(&mut self, id: Id, mtu: u32) {
        let parent = self.containers.get(&id).and_then(|shell| shell.parent.as_ref());
        let Some(wanted) = parent.map(|parent| parent.wanted_mtu.min(mtu)) else { return };
        if self.model.network(id).is_some_and(|uplink| uplink.options.mtu != wanted) {
            let change = UplinkChange { mtu: Some(wanted), ..UplinkChange::default() };
            // An MTU that no network may have stays as it was.
            let _ = self.transact(|model| model.set_uplink(&id.to_string(), &change).map(drop));
        }
    }

    pub(super) fn uplink_set(&mut self, name: &str, change: &UplinkChange) -> Handled {
        let (before, old_mtu) = (self.model.clone(), self.model.find_uplink(name)?.options.mtu);
        let (id, mtu) = self
            .transact(|model| model.set_uplink(name, change).map(|uplink| (uplink.id, uplink.options.mtu)))?;
        let tried = if change.user.is_some() { self.try_user(id) } else { Ok(()) };
        if let Err(refused) = tried.and_then(|()| self.tell_station(id, change.mtu)) {
            self.model = before;
            self.tell_switch()?;
            return Err(refused);
        }
        if mtu != old_mtu && !self.follows(id) {
            self.set_mtu_inside(id, mtu);
        }
        now(())
    }

    /// A packet uplink was changed: its socket has to receive at our present address.
    fn tell_station(&mut self, id: Id, mtu: Option<u32>) -> Result<(), Refused> {
        let Some(uplink) = self.model.network(id) else { return Ok(()) };
        let port = self.model.container(id).and_then(|it| it.endpoints.first()).map(|it| PortId(it.port));
        let info = port.and_then(|port| self.look_inside(port));
        let Some(shell) = self.containers.get_mut(&id) else { return Ok(()) };
        let (Some(parent), Some(netlink), Some(info)) = (&mut shell.parent, &shell.netlink, info) else {
            return Ok(());
        };
        check_against(uplink, &info, netlink, mtu)?;
        parent.station.move_to(uplink.gateway_mac()).map_err(|error| failed(&error))?;
        parent.wanted_mtu = mtu.unwrap_or(parent.wanted_mtu);
        Ok(())
    }

    pub(super) fn uplink_remove(&mut self, name: &str) -> Handled {
        let uplink = self.model.find_uplink(name)?;
        let (id, name) = (uplink.id, uplink.name.clone());
        self.uplink_drop(id)?;
        self.reselect_captures();
        now(name)
    }

    /// Takes an uplink and its port away, if nothing depends on it.
    fn uplink_drop(&mut self, id: Id) -> Result<(), Refused> {
        let word = id.to_string();
        // The switch gives the network up only without its port, which goes only when nothing holds the uplink.
        self.model.clone().remove_uplink(&word)?;
        let endpoints = self.model.container(id).map(|container| container.endpoints.clone());
        endpoints.into_iter().flatten().for_each(|endpoint| self.detach(&endpoint));
        self.transact(|model| model.remove_uplink(&word).map(drop))?;
        self.containers.remove(&id);
        Ok(())
    }

    pub(super) fn uplink_list(&self) -> Handled {
        let states = self.port_states()?;
        let rows = show::uplink_rows(&self.model).into_iter().map(|(port, mut row)| {
            let own = self.model.find_uplink(&row.name).ok();
            let has_own = own.is_some_and(|uplink| self.model.container(uplink.id).is_some());
            row.state = match port.map(PortId) {
                Some(port) => (*states.get(&port).unwrap_or(&"down")).to_owned(),
                None if has_own => "lost".to_owned(),
                // Its container has not come yet, or has gone.
                None => "down".to_owned(),
            };
            if let (Some(port), Some(uplink)) = (port.map(PortId), own) {
                self.fill_in_interface(uplink, port, &mut row);
            }
            row
        });
        now(rows.collect::<Vec<_>>())
    }

    /// What the interface behind an uplink is like now.
    fn fill_in_interface(&self, uplink: &Network, port: PortId, row: &mut UplinkRow) {
        let Some(info) = self.look_inside(port) else { return };
        row.interface_mac = info.mac.map(|mac| mac.to_string()).unwrap_or_default();
        row.interface_mtu = Some(info.mtu);
        let owner = self.links.get(&port).map(|link| link.container);
        let netlink = owner.and_then(|owner| self.containers.get(&owner)?.netlink.as_ref());
        let addresses = netlink.and_then(|netlink| netlink.addresses(info.index).ok()).unwrap_or_default();
        row.interface_addresses = addresses.iter().map(IpNet::to_string).collect::<Vec<_>>().join(",");
        if row.state == "up" && common(uplink, &addresses).is_some() {
            row.state = "conflict".to_owned();
        }
    }
}

/// What a user uplink's device is told of it, and of whom the switch itself asks for names.
fn user_policy(model: &Model, uplink: &Network, resolvers: Vec<SocketAddr>) -> user::Policy {
    let options = uplink.user_options().cloned().unwrap_or_default();
    let gateways = uplink.uplink.iter().flat_map(|uplink| &uplink.gateways);
    user::Policy {
        far_end: gateways.map(|gateway| Addr::from(*gateway)).collect(),
        host: options.host,
        denied: options.denied.into_iter().map(compile::prefix).collect(),
        source: options.source,
        interface: options.interface,
        resolvers,
        inside: compile::inside(model),
    }
}

/// An address of ours that is among others' addresses.
fn common(uplink: &Network, others: &[IpNet]) -> Option<IpAddr> {
    let own = uplink.own_addresses().into_iter().map(|net| net.addr());
    own.into_iter().find(|own| others.iter().any(|other| other.addr() == *own))
}

/// Whether a packet uplink can be beside the interface's own kernel, with the MTU that was asked for.
fn check_against(
    uplink: &Network,
    parent: &LinkInfo,
    netlink: &Netlink,
    mtu: Option<u32>,
) -> Result<(), Refused> {
    let (name, interface) = (&uplink.name, &parent.name);
    let bad = |text: String| Err(Refused::new(Kind::BadUplink, text));
    let theirs = netlink.addresses(parent.index).map_err(|error| failed(&error))?;
    if let Some(address) = common(uplink, &theirs) {
        return bad(format!(
            "address {address} of uplink '{name}' is interface {interface}'s own: give another one of its subnet"
        ));
    }
    if parent.mac == Some(uplink.gateway_mac()) {
        return bad(format!(
            "MAC address {} of uplink '{name}' is interface {interface}'s own: choose another, as 02:00:00:00:00:01",
            uplink.gateway_mac()
        ));
    }
    match mtu {
        Some(mtu) if mtu > parent.mtu => bad(format!(
            "MTU {mtu} of uplink '{name}' is more than interface {interface} takes, {0}: \
             'ip link set {interface} mtu {mtu}' first, or choose {0}",
            parent.mtu
        )),
        _ => Ok(()),
    }
}
