//! Docker's nat table.

use super::{
    Builder, ChainPolicy, HAIRPIN, NAT_DOCKER, PolicyNetwork, PolicyPublish, back, built_in, chain, from,
    host, is, is_not, jump, of_container, once_each, per_source, to,
};
use crate::dataplane::rules::{Is, Matches, Rule, States, Table, Target};
use crate::wire::ip::{Addr, Prefix, Version};

impl Builder<'_> {
    pub(super) fn nat(&self) -> Table {
        let local = Matches { local_destination: true, ..Matches::default() };
        let loopback = match self.version {
            Version::V4 => Prefix::new(Addr::v4([127, 0, 0, 0]), 8),
            Version::V6 => Prefix::new(Addr::from_bits(1), 128),
        };
        let elsewhere = Some(Is { value: loopback, not: true });
        let hairpin = once_each(self.publishes().flat_map(|publish| dnat(publish, Matches::default())));
        let mut prerouting = vec![jump(local.clone(), NAT_DOCKER)];
        if !hairpin.is_empty() {
            prerouting.push(jump(local.clone(), HAIRPIN));
        }
        let output = vec![jump(Matches { destination: elsewhere, ..local }, NAT_DOCKER)];
        let mut chains = vec![
            built_in("PREROUTING", ChainPolicy::Accept, prerouting),
            built_in("INPUT", ChainPolicy::Accept, Vec::new()),
            built_in("OUTPUT", ChainPolicy::Accept, output),
            built_in("POSTROUTING", ChainPolicy::Accept, self.postrouting()),
            chain("DOCKER", self.nat_docker()),
        ];
        if !hairpin.is_empty() {
            chains.push(chain("TAPSWITCH-HAIRPIN", hairpin));
        }
        Table { chains }
    }

    /// Containers are left to TAPSWITCH-HAIRPIN, as Docker leaves them to docker-proxy.
    fn nat_docker(&self) -> Vec<Rule> {
        let own = self.routed().filter(|(network, _)| !network.internal);
        let own = own.map(|(network, _)| back(from(network.id)));
        let published = once_each(self.publishes().flat_map(|publish| {
            dnat(publish, Matches { input: is_not(publish.network), ..Matches::default() })
        }));
        own.chain(published).collect()
    }

    fn postrouting(&self) -> Vec<Rule> {
        let published = || self.routed().filter(|(network, _)| self.publishes_on(network));
        let translated = |network: &PolicyNetwork| Matches { states: Some(States::DNAT), ..to(network.id) };
        // An answer that a container sends to somebody beside it would come from another address than he called.
        let beside = self.publishes().flat_map(|publish| {
            let network = publish.network;
            let called = move |subnet: &Prefix| {
                let matches = Matches { source: is(*subnet), states: Some(States::DNAT), ..to(network) };
                masquerade(of_container(publish, matches))
            };
            publish.beside.iter().map(called)
        });
        let kept = published().map(|(network, subnet)| {
            back(Matches { source: Some(Is { value: subnet, not: true }), ..translated(network) })
        });
        let masqueraded = self.routed().filter_map(|(network, subnet)| self.masquerade(network, subnet));
        let to_oneself = self.publishes().map(|publish| {
            let matches = of_container(publish, Matches::default());
            masquerade(Matches { source: matches.destination, ..matches })
        });
        let to_each_other = published()
            .map(|(network, subnet)| masquerade(Matches { source: is(subnet), ..translated(network) }));
        once_each(beside)
            .into_iter()
            .chain(kept)
            .chain(masqueraded)
            .chain(once_each(to_oneself))
            .chain(to_each_other)
            .collect()
    }

    /// What happens to the sources of packets that leave a network.
    fn masquerade(&self, network: &PolicyNetwork, subnet: Prefix) -> Option<Rule> {
        let wanted = match self.version {
            Version::V4 => network.masquerade,
            Version::V6 => network.masquerade_v6,
        };
        if !wanted || network.internal || !self.policy.masquerade {
            return None;
        }
        let matches = Matches { source: is(subnet), output: is_not(network.id), ..Matches::default() };
        let ports = network.masquerade_ports;
        let chosen = network.masquerade_to.iter().find(|address| address.version() == self.version);
        let target = chosen.map_or(Target::Masquerade { ports }, |to| Target::Snat { to: *to, ports });
        Some(Rule { matches, target })
    }
}

/// Sends a published port's packets to the container, if they are from who may call.
fn dnat(publish: &PolicyPublish, matches: Matches) -> impl Iterator<Item = Rule> {
    let (first, last) = publish.host_ports;
    let matches = Matches {
        destination: publish.host.and_then(|address| is(host(address))),
        protocol: Some(publish.protocol),
        destination_ports: Some(first..=last),
        ..matches
    };
    let target = Target::Dnat { to: publish.address, port: Some(publish.container_ports.0) };
    per_source(publish, matches).map(move |matches| Rule { matches, target: target.clone() })
}

const fn masquerade(matches: Matches) -> Rule {
    Rule { matches, target: Target::Masquerade { ports: None } }
}
