//! Where a name, an alias and a network lead, so that no operation looks at every container.
//!
//! All of it follows from the containers: it is entered and left where they are.

use std::collections::BTreeMap;

use super::{Container, Endpoint};
use crate::control::Id;
use crate::control::shared::Shared;

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Index {
    names: Shared<String, Id>,
    /// Of ports: `veth` and 7 digits.
    aliases: Shared<String, Id>,
    /// Of each network, by port.
    members: Shared<Id, BTreeMap<u32, Id>>,
}

impl Index {
    /// The container of this name, listed or not.
    pub(super) fn named(&self, name: &str) -> Option<Id> {
        self.names.get(name).copied()
    }

    /// The container that has the port of this alias.
    pub(super) fn aliased(&self, alias: &str) -> Option<Id> {
        self.aliases.get(alias).copied()
    }

    /// The containers on a network, in order of their ports.
    pub(super) fn members(&self, network: Id) -> impl Iterator<Item = Id> {
        self.members.get(&network).into_iter().flat_map(|members| members.values().copied())
    }

    /// A container is there; its endpoints are entered one by one.
    pub(super) fn enter(&mut self, container: &Container) {
        self.names.insert(container.name.clone(), container.id);
    }

    /// The inverse of [`Index::enter`].
    pub(super) fn leave(&mut self, container: &Container) {
        self.names.remove(container.name.as_str());
    }

    /// Container `owner` has an endpoint.
    pub(super) fn join(&mut self, owner: Id, endpoint: &Endpoint) {
        self.aliases.insert(endpoint.alias.clone(), owner);
        match self.members.get_mut(&endpoint.network) {
            Some(members) => drop(members.insert(endpoint.port, owner)),
            None => drop(self.members.insert(endpoint.network, [(endpoint.port, owner)].into())),
        }
    }

    /// The inverse of [`Index::join`].
    pub(super) fn part(&mut self, endpoint: &Endpoint) {
        self.aliases.remove(endpoint.alias.as_str());
        let Some(members) = self.members.get_mut(&endpoint.network) else { return };
        members.remove(&endpoint.port);
        if members.is_empty() {
            self.members.remove(&endpoint.network);
        }
    }
}
