//! Proxies into networks, each of a client that waits beside it.
//!
//! A proxy ends with its client's connection. While there is one, its uplink's far end may open connections to the
//! network's containers: a line in DOCKER says so.

use std::os::fd::OwnedFd;

use socket2::Socket;

use super::{Daemon, Handled, next, now};
use crate::control::{Id, Kind, Model, Refused, compile, names};
use crate::io::uplink::user::Directory;
use crate::wire::ip::Addr;

/// A proxy at work.
#[derive(Debug)]
pub(super) struct Proxy {
    network: Id,
    uplink: Id,
    told: Directory,
}

impl Daemon {
    pub(super) fn proxy(&mut self, connection: usize, word: &str, descriptors: Vec<OwnedFd>) -> Handled {
        let network = self.model.find_network(word)?;
        let (id, name) = (network.id, network.name.clone());
        let socket = Socket::from(next(&mut descriptors.into_iter(), "a listening socket")?);
        let uplink = self.model.uplinks().into_iter().find(|uplink| uplink.is_user()).map(|uplink| uplink.id);
        let Some(uplink) = uplink else {
            let text = format!(
                "network '{name}' cannot be reached by sockets of the host: 'tapswitch uplink add user --user' first"
            );
            return Err(Refused::new(Kind::BadUplink, text));
        };
        if self.proxies.contains_key(&connection) {
            return Err(Refused::new(Kind::BadState, "this connection has a proxy already"));
        }
        self.transact(|model| {
            model.proxied.insert(id);
            Ok(())
        })?;
        let told = directory(&self.model, id);
        let device = self.containers.get(&uplink).and_then(|shell| shell.user.as_ref());
        if let Some(handle) = device {
            handle.proxy(connection as u64, socket, told.clone());
        }
        self.proxies.insert(connection, Proxy { network: id, uplink, told });
        now(name)
    }

    /// A connection has closed, and with it its proxy.
    pub(super) fn proxy_abandoned(&mut self, connection: usize) {
        let Some(gone) = self.proxies.remove(&connection) else { return };
        if let Some(handle) = self.containers.get(&gone.uplink).and_then(|shell| shell.user.as_ref()) {
            handle.unproxy(connection as u64);
        }
        if !self.proxies.values().any(|proxy| proxy.network == gone.network) {
            self.model.proxied.remove(&gone.network);
            let _ = self.tell_switch();
        }
    }

    /// Tells the proxies whom they reach now.
    pub(super) fn tell_proxies(&mut self) {
        for (connection, proxy) in &mut self.proxies {
            let wanted = directory(&self.model, proxy.network);
            if wanted != proxy.told
                && let Some(handle) = self.containers.get(&proxy.uplink).and_then(|shell| shell.user.as_ref())
            {
                handle.set_proxy(*connection as u64, wanted.clone());
                proxy.told = wanted;
            }
        }
    }
}

/// Who is on a network, under which names.
fn directory(model: &Model, network: Id) -> Directory {
    let mut directory = Directory::default();
    let Some(found) = model.network(network) else { return directory };
    directory.prefixes = found.subnets.iter().map(|subnet| compile::prefix(subnet.prefix())).collect();
    for (container, endpoint) in model.endpoints(network) {
        for name in names::names_of(container, endpoint) {
            let addresses = directory.names.entry(name.to_ascii_lowercase()).or_default();
            addresses.extend(endpoint.addresses.iter().map(|net| Addr::from(net.addr())));
        }
    }
    directory
}
