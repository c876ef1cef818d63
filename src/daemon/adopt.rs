//! Containers of ours that have outlived a daemon: their supervisors bring them to this one.
//!
//! Theory of operation. A supervisor holds duplicates of its container's TAPs (the same open files, so that the
//! interfaces stay, with their addresses and routes), of the netlink socket inside and of the pidfd. What was
//! saved has kept the container's place: names, addresses, ports, publishes. So adopting it is only putting the
//! TAPs under the switch again. An interface that a container loses is therefore removed by name, for closing our
//! descriptor is not enough.

use std::os::fd::{AsFd, OwnedFd};

use super::endpoints::{Link, adopt_device};
use super::{Daemon, Handled, failed, netlink, next, now};
use crate::control::model::{ContainerKind, Endpoint, Unswitched};
use crate::control::requests::Notice;
use crate::control::{Id, Kind, Refused};
use crate::dataplane::PortId;
use crate::io::netlink::Netlink;
use crate::io::sys::tun::attached;

impl Daemon {
    pub(super) fn container_adopt(
        &mut self,
        connection: usize,
        id: Id,
        networks: &[Id],
        descriptors: Vec<OwnedFd>,
    ) -> Handled {
        let refuse = |text: &str| Err(Refused::new(Kind::BadState, text));
        let Some(container) = self.model.container(id).filter(|it| it.kind == ContainerKind::Run) else {
            return refuse("the daemon does not know it: it was started without this one's state");
        };
        let is_free = self.containers.get(&id).is_some_and(|shell| shell.supervisor.is_none());
        if !self.is_running(id) || !is_free {
            return refuse("it has ended, or belongs to somebody else");
        }
        let endpoints = container.endpoints.clone();
        let on_host = container.unswitched == Some(Unswitched::Host);
        let mut descriptors = descriptors.into_iter();
        let pidfd = next(&mut descriptors, "the container's init")?;
        let inside = if on_host { None } else { Some(netlink(next(&mut descriptors, "a netlink socket")?)?) };
        let mut taps: Vec<(Id, OwnedFd)> = networks.iter().copied().zip(descriptors).collect();
        for endpoint in &endpoints {
            if self.links.get(&PortId(endpoint.port)).is_some_and(|link| link.container == id) {
                // It has joined this network since we started.
                continue;
            }
            let at = taps.iter().position(|(network, _)| *network == endpoint.network);
            let tap = at.map(|at| taps.swap_remove(at).1).zip(inside.as_ref());
            let adopted = tap.map(|(tap, inside)| self.adopt_port(id, endpoint, tap, inside));
            if !matches!(adopted, Some(Ok(()))) {
                // Its interface was removed inside, or was still to be held when the former daemon ended.
                self.model.leave(&id.to_string(), &endpoint.network.to_string())?;
            }
        }
        // It has left these networks, and the former daemon did not come to removing their interfaces.
        for ((_, tap), inside) in taps.iter().zip(inside.iter().cycle()) {
            let name = attached(tap.as_fd()).ok().map(|made| made.name);
            let index = name.and_then(|name| inside.link(&name).ok()).map(|link| link.index);
            index.into_iter().for_each(|index| drop(inside.remove(index)));
        }
        drop(taps);
        if let Some(shell) = self.containers.get_mut(&id) {
            shell.netlink = inside;
            shell.supervisor = Some(connection);
            shell.unwatched |= shell.pidfd.is_none();
            shell.pidfd.get_or_insert(pidfd);
            // What it has joined since we started it holds from now on.
            let unheld = std::mem::take(&mut shell.unheld).into_iter();
            self.notices.extend(unheld.map(|(network, tap)| (connection, Notice::Hold(network), tap)));
        }
        self.rename_ports(id);
        self.write_names(id);
        let networks = self.networks_of(id);
        self.membership_changed(&networks);
        now(())
    }

    fn adopt_port(
        &mut self,
        container: Id,
        endpoint: &Endpoint,
        tap: OwnedFd,
        inside: &Netlink,
    ) -> Result<(), Refused> {
        let made = attached(tap.as_fd()).map_err(|error| failed(&error))?;
        let (device, name) = adopt_device(tap, made)?;
        let index = inside.link(&name).map_err(|error| failed(&error))?.index;
        self.attach_device(container, endpoint, device)?;
        self.links.insert(PortId(endpoint.port), Link { container, index, is_configured: true, lost: false });
        Ok(())
    }

    /// A copy of a container's new TAP, to be held by its supervisor for a next daemon.
    pub(super) fn to_be_held(&self, container: Id, tap: &OwnedFd) -> Option<OwnedFd> {
        let is_ours = self.model.container(container).is_some_and(|it| it.kind == ContainerKind::Run);
        // While there are too few descriptors, the next daemon takes the container off that network.
        (is_ours && self.state.is_some()).then(|| tap.try_clone().ok()).flatten()
    }

    /// Has a supervisor hold a TAP: now, or when it comes.
    pub(super) fn hold(&mut self, container: Id, network: Id, tap: OwnedFd) {
        let Some(shell) = self.containers.get_mut(&container) else { return };
        match shell.supervisor {
            Some(supervisor) => self.notices.push((supervisor, Notice::Hold(network), tap)),
            None => shell.unheld.push((network, tap)),
        }
    }

    /// Removes the interface of a network that a container leaves, of which its supervisor has a descriptor, too.
    pub(super) fn remove_interface(&mut self, container: Id, endpoint: &Endpoint) {
        if let Some(shell) = self.containers.get_mut(&container) {
            shell.unheld.retain(|(network, _)| *network != endpoint.network);
        }
        let shell = self.containers.get(&container).filter(|shell| shell.supervisor.is_some());
        let netlink = shell.and_then(|shell| shell.netlink.as_ref()).filter(|_| self.state.is_some());
        let link = self.links.get(&PortId(endpoint.port)).filter(|link| !link.lost);
        if let (Some(netlink), Some(link)) = (netlink, link) {
            // It may have been removed inside this moment.
            let _ = netlink.remove(link.index);
        }
    }
}
