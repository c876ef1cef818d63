//! Networks `host` and `none`: always there, as in Docker, and no network of the switch.
//!
//! A container on `host` is in the host's own network namespace, one on `none` in a namespace of its own
//! with nothing but `lo`. Neither has a port, an address or an endpoint that anything depends on; what Docker
//! shows of such an endpoint is made when it is looked at. A container is on one of the two alone. One that
//! left `none` can join networks; the host's namespace is never left.

use serde::{Deserialize, Serialize};

use super::joins::not_connected;
use super::{Container, ContainerKind, ContainerSpec, DEFAULT_NETWORK, EndpointSpec, Model, Network};
use crate::control::{Id, Kind, Refused};

/// A network without a switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unswitched {
    /// The host's own network namespace.
    Host,
    /// A namespace with `lo` alone.
    None,
}

impl Unswitched {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Host, Self::None];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::None => "none",
        }
    }

    /// Docker's word for its driver.
    pub const fn driver(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::None => "null",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    /// Its id, made of network `bridge`'s so that it stays as long as that one.
    fn id(self, bridge: Id) -> Id {
        bridge.derive(Id::new([self as u8 + 1; 32]))
    }
}

/// A network that `network ls` lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed<'m> {
    /// One of the switch.
    Switched(&'m Network),
    /// `host` or `none`.
    Unswitched(Unswitched),
}

impl Model {
    /// The id of `host` or `none`, and when it was made, in nanoseconds since 1970: with network `bridge`.
    pub fn unswitched(&self, network: Unswitched) -> (Id, u64) {
        let bridge = self.networks.values().find(|network| network.is_default());
        let (id, created_ns) = bridge.map_or((Id::new([0; 32]), 0), |bridge| (bridge.id, bridge.created_ns));
        (network.id(id), created_ns)
    }

    /// Containers on `host` or `none` that live, in the order they were created.
    pub fn on_unswitched(&self, network: Unswitched) -> Vec<&Container> {
        let on = |it: &&Container| it.unswitched == Some(network) && it.is_alive();
        self.containers().into_iter().filter(on).collect()
    }

    /// The listed network that `word` means: a name, an id, or the beginning of one id only.
    ///
    /// # Errors
    /// `unknown_network`, `ambiguous`.
    pub fn find_listed(&self, word: &str) -> Result<Listed<'_>, Refused> {
        let exactly = |it: &Unswitched| it.name() == word || self.unswitched(*it).0.to_string() == word;
        if let Some(exact) = Unswitched::ALL.into_iter().find(exactly) {
            return Ok(Listed::Unswitched(exact));
        }
        let mut fitting = Unswitched::ALL.into_iter();
        let fitting: Vec<Unswitched> = fitting
            .by_ref()
            .filter(|it| !word.is_empty() && self.unswitched(*it).0.starts_with(word))
            .collect();
        match (self.find_switched(word), fitting.as_slice()) {
            (Ok(network), [_, ..]) if network.name != word && network.id.to_string() != word => {
                let names = std::iter::once(network.name.as_str()).chain(fitting.iter().map(|it| it.name()));
                Err(ambiguous(word, names))
            }
            (Ok(network), _) => Ok(Listed::Switched(network)),
            (Err(refused), [one]) if refused.kind == Kind::UnknownNetwork => Ok(Listed::Unswitched(*one)),
            (Err(refused), [_, _, ..]) if refused.kind == Kind::UnknownNetwork => {
                Err(ambiguous(word, fitting.iter().map(|it| it.name())))
            }
            (Err(refused), _) => Err(refused),
        }
    }

    /// Where a new container is that asks for `host` or `none`, if it may be.
    pub(super) fn plan_unswitched(
        &self,
        name: &str,
        spec: &ContainerSpec,
    ) -> Result<Option<Unswitched>, Refused> {
        let wished = |wish: &EndpointSpec| match self.find_listed(&wish.network) {
            Ok(Listed::Unswitched(network)) => Some((network, wish.clone())),
            _ => None,
        };
        let Some((network, wish)) = spec.networks.iter().find_map(wished) else { return Ok(None) };
        let conflict = |text: &str| Err(Refused::new(Kind::NetworkConflict, text));
        let called = network.name();
        if spec.networks.len() > 1 {
            return conflict(&format!(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes: \
                 container '{name}' may be on network '{called}' alone"
            ));
        }
        if spec.kind != ContainerKind::Run {
            return conflict(&format!(
                "'{name}' has a namespace of its own and cannot be plugged into '{called}'"
            ));
        }
        if !wish.addresses.is_empty() {
            return conflict(&format!(
                "user specified IP address is supported on user defined networks only, not on '{called}'"
            ));
        }
        if !wish.aliases.is_empty() {
            return conflict(&format!(
                "network-scoped alias is supported only for containers in user defined networks, not on '{called}'"
            ));
        }
        if wish.mac.is_some() {
            return conflict(&format!("conflicting options: mac-address and the network mode '{called}'"));
        }
        if !spec.links.is_empty() {
            return conflict(&format!(
                "conflicting options: {called} type networking can't be used with links. This would result in \
                 undefined behavior"
            ));
        }
        if network == Unswitched::Host && spec.sysctls.iter().any(|(key, _)| key.starts_with("net.")) {
            return conflict("sysctl 'net.*' not allowed in host network namespace: leave it out");
        }
        Ok(Some(network))
    }

    /// Whether `container` may join the network that `word` means: neither is it on `host` or `none`, nor is
    /// the network one of these.
    ///
    /// # Errors
    /// `network_conflict`, in Docker's words.
    pub fn check_joins(&self, container: &Container, word: &str) -> Result<(), Refused> {
        let (name, wanted) = (&container.name, self.find_listed(word));
        let conflict =
            |why: &str| Err(Refused::new(Kind::NetworkConflict, format!("{why}: container '{name}'")));
        match (container.unswitched, wanted) {
            (_, Ok(Listed::Unswitched(Unswitched::Host))) => conflict(NOT_THE_HOSTS),
            (Some(Unswitched::Host), _) => conflict(
                "container sharing network namespace with another container or host cannot be connected to any \
                 other network",
            ),
            (Some(Unswitched::None), _) | (None, Ok(Listed::Unswitched(Unswitched::None))) => conflict(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode",
            ),
            (None, _) => Ok(()),
        }
    }

    /// Takes a container off `none`, so that it can join networks.
    ///
    /// # Errors
    /// `unknown_container`, `ambiguous`, `not_connected`; `network_conflict` for `host`.
    pub fn leave_unswitched(&mut self, word: &str, network: Unswitched) -> Result<(), Refused> {
        let container = self.find_container(word)?;
        if network == Unswitched::Host {
            return Err(Refused::new(
                Kind::NetworkConflict,
                format!("{NOT_THE_HOSTS}: container '{}'", container.name),
            ));
        }
        if container.unswitched != Some(network) {
            return Err(not_connected(&container.name, network.name()));
        }
        let id = container.id;
        self.container_mut(id).into_iter().for_each(|it| it.unswitched = None);
        self.unjoin(id, network.name());
        Ok(())
    }
}

const NOT_THE_HOSTS: &str = "container cannot be disconnected from host network or connected to host network";

/// What cannot be asked of `host` and `none`.
pub(super) fn no_switch(network: Unswitched) -> Refused {
    let name = network.name();
    Refused::new(
        Kind::Predefined,
        format!(
            "network '{name}' is none of the switch's: it has no options, addresses or ports to speak of"
        ),
    )
}

/// Docker's refusal to remove what always exists.
pub(super) fn predefined(name: &str) -> Refused {
    let mend = if name == DEFAULT_NETWORK { ": remove another, or stop the daemon" } else { "" };
    Refused::new(Kind::Predefined, format!("{name} is a pre-defined network and cannot be removed{mend}"))
}

fn ambiguous<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Refused {
    let names: Vec<&str> = names.collect();
    Refused::new(
        Kind::Ambiguous,
        format!("network id '{word}' fits {}: give more of it, or a name", names.join(", ")),
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::{container, id, refused, sample};
    use super::*;
    use crate::control::model::NetworkSpec;

    #[test]
    fn they_are_found_by_name_and_id_and_cannot_go() {
        let mut model = sample();
        for network in Unswitched::ALL {
            let whole = model.unswitched(network).0.to_string();
            for word in [network.name(), &whole, &whole[..20]] {
                assert_eq!(model.find_listed(word), Ok(Listed::Unswitched(network)), "{word}");
            }
            let why = refused(&mut model, |model| model.remove_network(network.name()).map(drop));
            let expected = format!("{} is a pre-defined network and cannot be removed", network.name());
            assert_eq!((why.kind, why.message), (Kind::Predefined, expected));
            let spec = NetworkSpec::named(network.name());
            let why = refused(&mut model, |model| model.create_network(&spec, id(70), 0, &[]).map(drop));
            let words = format!("operation is not permitted on predefined {} network", network.name());
            assert!(why.message.starts_with(&words), "{why}");
            let why = refused(&mut model, |model| model.set_options(network.name(), &[]).map(drop));
            assert_eq!(why.kind, Kind::Predefined);
        }
        assert_eq!(model.find_listed("").unwrap_err().kind, Kind::UnknownNetwork);
        let [host, none] = Unswitched::ALL.map(|it| model.unswitched(it).0);
        assert!(host != none && model.network(host).is_none());
    }

    #[test]
    fn a_prefix_that_fits_two_kinds_of_network_is_refused() {
        let mut model = sample();
        let host = model.unswitched(Unswitched::Host).0;
        let mut bytes = *host.bytes();
        bytes[31] ^= 1;
        model.create_network(&NetworkSpec::named("twin"), Id::new(bytes), 0, &[]).unwrap();
        let why = model.find_listed(&host.to_string()[..12]).unwrap_err();
        assert_eq!(why.kind, Kind::Ambiguous);
        assert!(why.message.contains("fits twin, host"), "{why}");
        assert_eq!(model.find_listed(&host.to_string()), Ok(Listed::Unswitched(Unswitched::Host)));
    }

    #[test]
    fn a_container_is_on_one_of_them_alone() {
        for network in Unswitched::ALL {
            let name = network.name();
            let mut model = sample();
            let why = refused(&mut model, |model| {
                model.create_container(&container("new", &["net1", name]), id(71), 0).map(drop)
            });
            let words =
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes";
            assert!(why.message.starts_with(words), "{why}");
            let mut spec = container("new", &[name]);
            spec.publish = vec!["80:80".parse().unwrap()];
            let made = model.create_container(&spec, id(71), 0).unwrap();
            assert_eq!((made.unswitched, made.endpoints.len(), made.publishes.len()), (Some(network), 0, 0));
            let why = refused(&mut model, |model| model.publish("new", &"81:81".parse().unwrap()));
            assert!(why.message.contains("nothing is published"), "{why}");
            let on: Vec<&str> = model.on_unswitched(network).iter().map(|it| it.name.as_str()).collect();
            assert_eq!(on, ["new"]);
            for (who, to) in [("new", "net1"), ("new", name), ("alice", name)] {
                let why = refused(&mut model, |model| model.connect(who, &EndpointSpec::on(to)).map(drop));
                assert_eq!(why.kind, Kind::NetworkConflict, "{who} to {to}: {why}");
            }
            model.ended(id(71), Some(0), 9).unwrap();
            assert!(model.on_unswitched(network).is_empty());
        }
    }

    #[test]
    fn what_only_a_network_of_ones_own_can_give_is_refused() {
        let mut model = sample();
        let mut with = |network: &str, change: fn(&mut ContainerSpec)| {
            let mut spec = container("new", &[network]);
            change(&mut spec);
            refused(&mut model, |model| model.create_container(&spec, id(71), 0).map(drop)).message
        };
        for network in ["host", "none"] {
            let ip = with(network, |spec| spec.networks[0].addresses.push("10.0.0.1".parse().unwrap()));
            assert!(
                ip.starts_with("user specified IP address is supported on user defined networks only"),
                "{ip}"
            );
            let alias = with(network, |spec| spec.networks[0].aliases.push("a".to_owned()));
            assert!(alias.starts_with("network-scoped alias is supported only"), "{alias}");
            let mac = with(network, |spec| spec.networks[0].mac = Some(crate::wire::MacAddr([2; 6])));
            assert!(mac.starts_with("conflicting options: mac-address"), "{mac}");
            let link = with(network, |spec| spec.links.push("alice:a".parse().unwrap()));
            assert!(link.contains("type networking can't be used with links"), "{link}");
        }
        let sysctl =
            with("host", |spec| spec.sysctls.push(("net.ipv4.ip_forward".to_owned(), "1".to_owned())));
        assert!(sysctl.contains("not allowed in host network namespace"), "{sysctl}");
    }

    #[test]
    fn who_leaves_none_can_join_networks() {
        let mut model = sample();
        model.create_container(&container("new", &["none"]), id(71), 0).unwrap();
        let why = refused(&mut model, |model| model.leave_unswitched("new", Unswitched::Host));
        assert!(why.message.starts_with(NOT_THE_HOSTS), "{why}");
        let why = refused(&mut model, |model| model.leave_unswitched("alice", Unswitched::None));
        assert_eq!(why.kind, Kind::NotConnected);
        model.leave_unswitched("new", Unswitched::None).unwrap();
        let (_, endpoint) = model.connect("new", &EndpointSpec::on("net1")).unwrap();
        assert_eq!(endpoint.ifname, "eth0");
    }
}
