//! The containers' files of names, and the host's that they are made of.

use super::Daemon;
use crate::control::model::ContainerKind;
use crate::control::{Id, names};
use crate::io::resolv_conf;

impl Daemon {
    /// The host's /etc/resolv.conf may have changed.
    pub(super) fn resolv_conf_ready(&mut self) {
        if self.resolv_conf.as_mut().is_some_and(resolv_conf::Watch::has_changed) {
            self.read_resolv_conf();
        }
    }

    /// Reads the host's /etc/resolv.conf, and tells all whom it concerns: gateways and containers.
    pub(super) fn read_resolv_conf(&mut self) {
        let Some(host) = resolv_conf::read_again(&self.options.resolv_conf) else { return };
        if self.model.resolvers.host != host {
            self.model.resolvers.host = host;
            self.write_resolv_confs();
            // It takes what the model allows; when its loop has ended, so has everything.
            let _ = self.tell_switch();
        }
    }

    /// Writes a container's files of names.
    pub(super) fn write_names(&mut self, id: Id) {
        let container = self.model.container(id);
        if let Some(container) = container.filter(|it| it.kind == ContainerKind::Run && it.is_alive()) {
            // A directory that somebody removed costs that container its names, nothing more.
            let _ = self.runtime.write(id, "hosts", &names::hosts(&self.model, container));
            self.write_resolv_conf(id);
        }
    }

    /// Writes the /etc/resolv.conf of every container.
    pub(super) fn write_resolv_confs(&mut self) {
        let ids: Vec<Id> = self.containers.keys().copied().collect();
        ids.into_iter().for_each(|id| self.write_resolv_conf(id));
    }

    /// Programs look whether it is a new one at every question: only what differs is written.
    fn write_resolv_conf(&mut self, id: Id) {
        let container = self.model.container(id);
        let container = container.filter(|it| it.kind == ContainerKind::Run && it.is_alive());
        let text = container.map(|container| names::resolv_conf(&self.model, container));
        if let (Some(text), Some(shell)) = (text, self.containers.get_mut(&id))
            && shell.resolv_conf != text
            && self.runtime.write(id, "resolv.conf", &text).is_ok()
        {
            shell.resolv_conf = text;
        }
    }
}
