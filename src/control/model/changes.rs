//! What differs between two models.

use super::{Container, Model, Network, Side};
use crate::control::ipam::Subnet;

impl Model {
    /// The containers that differ from those of an `earlier` model, both as they were and as they are; none when
    /// more differs that anything follows from, or when a rule is about a container. Leases do not count: they are
    /// the containers' addresses.
    pub fn changed_containers<'a>(&'a self, earlier: &'a Self) -> Option<Vec<&'a Container>> {
        let Self { networks, containers, rules, settings, proxied, firewall, resolvers, .. } = self;
        let is_same = *rules == earlier.rules
            && *settings == earlier.settings
            && *proxied == earlier.proxied
            && *firewall == earlier.firewall
            && *resolvers == earlier.resolvers
            && earlier.networks.changes(networks).into_iter().all(|both| match both {
                (Some(before), Some(after)) => before.is_like(after),
                _ => false,
            });
        let is_about = |side: &Side| matches!(side, Side::Container(_));
        if !is_same || rules.iter().any(|rule| is_about(&rule.from) || is_about(&rule.to)) {
            return None;
        }
        let changes = earlier.containers.changes(containers);
        Some(
            changes
                .into_iter()
                .flat_map(|(before, after)| [before, after])
                .flatten()
                .map(AsRef::as_ref)
                .collect(),
        )
    }
}

impl Network {
    /// Whether it differs in leases alone.
    fn is_like(&self, other: &Self) -> bool {
        let bare = |network: &Self| Self { subnets: Vec::new(), ..network.clone() };
        let subnets = || self.subnets.iter().map(Subnet::without_leases);
        bare(self) == bare(other) && subnets().eq(other.subnets.iter().map(Subnet::without_leases))
    }
}
