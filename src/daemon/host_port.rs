//! The host comes onto a network, and leaves it (option `host_port`).

use std::os::fd::{AsFd, OwnedFd};

use super::{Daemon, containers, failed, netlink};
use crate::control::{Id, Kind, Refused};
use crate::io::host;

impl Daemon {
    /// Whether the host is to be on a network.
    pub(super) fn wants_host(&self, network: Id) -> bool {
        self.model.network(network).is_some_and(|network| network.options.host_port)
    }

    /// Puts a TAP that a client made on the host under the switch, all of it or nothing.
    pub(super) fn host_add(&mut self, network: Id, descriptors: Vec<OwnedFd>) -> Result<(), Refused> {
        let Some(on) = self.model.network(network) else { return Err(failed(&"the network has gone")) };
        let (name, ifname) = (on.name.clone(), on.bridge_name());
        if is_taken(&descriptors, &ifname)? {
            let text = format!(
                "network '{name}' cannot have a host_port: the host has an interface '{ifname}' already: \
                 remove it, or create a network with -o bridge_name=NAME"
            );
            return Err(Refused::new(Kind::NameTaken, text));
        }
        // One whose interface was deleted on the host.
        self.host_remove(network);
        self.transact(|model| model.plug_host(network, host::now_ns()).map(drop))?;
        self.containers.insert(network, containers::Shell::default());
        if let Err(refused) = self.attach_foreign(network, None, false, true, descriptors) {
            self.host_remove(network);
            let why = refused.message;
            let text = format!(
                "network '{name}' cannot have a host_port: {why}: it takes CAP_NET_ADMIN of the daemon, too; \
                 'tapswitch proxy {name}' takes none"
            );
            return Err(Refused::new(refused.kind, text));
        }
        self.membership_changed(&[network]);
        Ok(())
    }

    /// Takes the host off a network, if it is there; its interface goes.
    pub(super) fn host_remove(&mut self, network: Id) {
        let Some(host) = self.model.unplug_host(network) else { return };
        host.endpoints.iter().for_each(|endpoint| self.detach(endpoint));
        self.containers.remove(&network);
        self.membership_changed(&[network]);
    }
}

/// Whether the host has an interface of this name.
fn is_taken(descriptors: &[OwnedFd], ifname: &str) -> Result<bool, Refused> {
    let missing = || Refused::new(Kind::BadRequest, "the request came without a TAP and a netlink socket");
    let socket = descriptors.get(1).ok_or_else(missing)?;
    let copy = socket.as_fd().try_clone_to_owned().map_err(|error| failed(&error))?;
    Ok(netlink(copy)?.link(ifname).is_ok())
}
