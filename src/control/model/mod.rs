//! What a user declared: networks, containers, and the endpoints that join them.
//!
//! Theory of operation: [`Model`] owns everything. Each operation first decides, borrowing the
//! model immutably, and then commits what it decided, which cannot fail: a refused operation
//! changes nothing. The addresses leased in a network's subnets are exactly the addresses of the
//! endpoints on it. Networks and ports carry dense numbers, the lowest free ones, by which the data
//! plane indexes its tables.

mod container;
mod endpoint;
mod network;

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::naming::nearest;
use super::runs::Runs;
use super::{Id, Kind, Refused};

pub use container::{Container, ContainerKind, ContainerSpec, State};
pub use endpoint::{Endpoint, EndpointSpec};
pub use network::{Driver, Network, NetworkSpec};

/// The network that always exists.
pub const DEFAULT_NETWORK: &str = "bridge";

/// Networks, containers and endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    networks: BTreeMap<Id, Network>,
    containers: BTreeMap<Id, Container>,
    network_numbers: Runs,
    port_numbers: Runs,
}

impl Model {
    /// A model with network `bridge` alone, on the first of Docker's pools that overlaps none of
    /// the `host`'s prefixes.
    ///
    /// # Errors
    /// `pools_exhausted`.
    pub fn new(bridge: Id, now_ns: u64, host: &[IpNet]) -> Result<Self, Refused> {
        let mut model = Self {
            networks: BTreeMap::new(),
            containers: BTreeMap::new(),
            network_numbers: Runs::default(),
            port_numbers: Runs::default(),
        };
        let spec = NetworkSpec::named(DEFAULT_NETWORK);
        let mut network = model.plan_network(&spec, bridge, now_ns, host)?;
        network.options.bridge_name = Some("docker0".to_owned());
        model.commit_network(network);
        Ok(model)
    }

    /// All networks, by name.
    pub fn networks(&self) -> Vec<&Network> {
        let mut networks: Vec<&Network> = self.networks.values().collect();
        networks.sort_by(|one, other| one.name.cmp(&other.name));
        networks
    }

    /// All containers, in the order they were created.
    pub fn containers(&self) -> Vec<&Container> {
        let mut containers: Vec<&Container> = self.containers.values().collect();
        containers.sort_by(|one, other| (one.created_ns, &one.name).cmp(&(other.created_ns, &other.name)));
        containers
    }

    /// The network with this id.
    pub fn network(&self, id: Id) -> Option<&Network> {
        self.networks.get(&id)
    }

    /// The container with this id.
    pub fn container(&self, id: Id) -> Option<&Container> {
        self.containers.get(&id)
    }

    /// The endpoints on a network with their containers, in order of their ports.
    pub fn endpoints(&self, network: Id) -> Vec<(&Container, &Endpoint)> {
        let mut endpoints: Vec<_> =
            self.all_endpoints().filter(|(_, endpoint)| endpoint.network == network).collect();
        endpoints.sort_by_key(|(_, endpoint)| endpoint.port);
        endpoints
    }

    /// The network that `word` means: a name, an id, or the beginning of one id only.
    ///
    /// # Errors
    /// `unknown_network`, `ambiguous`.
    pub fn find_network(&self, word: &str) -> Result<&Network, Refused> {
        self.resolve_network(word).map_err(|lost| lost.refuse("network", word, Kind::UnknownNetwork))
    }

    /// The container that `word` means: a name, an id, or the beginning of one id only.
    ///
    /// # Errors
    /// `unknown_container`, `ambiguous`.
    pub fn find_container(&self, word: &str) -> Result<&Container, Refused> {
        find(&self.containers, word).map_err(|lost| lost.refuse("container", word, Kind::UnknownContainer))
    }

    /// The port that `word` means: `CONTAINER:IFNAME`, a container with one interface, or an alias
    /// such as `veth0a1b2c3`.
    ///
    /// # Errors
    /// `unknown_port`, `unknown_container`, `ambiguous`.
    pub fn find_port(&self, word: &str) -> Result<(&Container, &Endpoint), Refused> {
        if let Some(found) = self.all_endpoints().find(|(_, endpoint)| endpoint.alias == word) {
            return Ok(found);
        }
        let (name, ifname) = match word.split_once(':') {
            Some((name, ifname)) => (name, Some(ifname)),
            None => (word, None),
        };
        let container = self.find_container(name)?;
        let has = container.endpoints.iter().map(|endpoint| endpoint.ifname.as_str()).collect::<Vec<_>>();
        let wanted = |endpoint: &&Endpoint| ifname.is_none_or(|ifname| endpoint.ifname == ifname);
        let mut found = container.endpoints.iter().filter(wanted);
        let refuse = |kind, text: String| Err(Refused::new(kind, text));
        let name = &container.name;
        match (found.next(), found.next()) {
            (Some(endpoint), None) => Ok((container, endpoint)),
            (Some(_), Some(_)) => refuse(
                Kind::Ambiguous,
                format!(
                    "container '{name}' has several ports: say {name}:{}",
                    has.join(&format!(" or {name}:"))
                ),
            ),
            (None, _) if has.is_empty() => {
                refuse(Kind::UnknownPort, format!("container '{name}' has no port: connect it to a network"))
            }
            (None, _) => refuse(
                Kind::UnknownPort,
                format!("port '{word}' is not known: container '{name}' has {}", has.join(", ")),
            ),
        }
    }

    fn resolve_network(&self, word: &str) -> Result<&Network, Lost> {
        find(&self.networks, word)
    }

    fn all_endpoints(&self) -> impl Iterator<Item = (&Container, &Endpoint)> {
        let of = |container| move |endpoint| (container, endpoint);
        self.containers
            .values()
            .flat_map(move |container: &Container| container.endpoints.iter().map(of(container)))
    }
}

/// What [`find`] looks for.
trait Named {
    fn name(&self) -> &str;
}

impl Named for Network {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for Container {
    fn name(&self) -> &str {
        &self.name
    }
}

/// Why a word means nothing.
enum Lost {
    Unknown { nearest: Option<String> },
    Ambiguous { names: Vec<String> },
}

impl Lost {
    fn refuse(self, what: &str, word: &str, unknown: Kind) -> Refused {
        let list = if what == "network" { "tapswitch network ls" } else { "tapswitch ps -a" };
        match self {
            Self::Unknown { nearest: Some(nearest) } => {
                Refused::new(unknown, format!("{what} '{word}' is not known: did you mean '{nearest}'?"))
            }
            Self::Unknown { nearest: None } => {
                Refused::new(unknown, format!("{what} '{word}' is not known: '{list}' lists them"))
            }
            Self::Ambiguous { names } => Refused::new(
                Kind::Ambiguous,
                format!("{what} id '{word}' fits {}: give more of it, or a name", names.join(", ")),
            ),
        }
    }
}

/// Looks a word up as Docker does: a whole id, then a name, then the beginning of an id.
fn find<'a, T: Named>(items: &'a BTreeMap<Id, T>, word: &str) -> Result<&'a T, Lost> {
    let by_id = word.parse().ok().and_then(|id: Id| items.get(&id));
    let exact = by_id.or_else(|| items.values().find(|item| item.name() == word));
    if let Some(exact) = exact {
        return Ok(exact);
    }
    let fits = |(id, _): &(&Id, &T)| !word.is_empty() && id.starts_with(word);
    let fitting: Vec<&T> = items.iter().filter(fits).map(|(_, item)| item).collect();
    match fitting.as_slice() {
        [one] => Ok(one),
        [] => {
            let nearest = nearest(word, items.values().map(Named::name)).map(str::to_owned);
            Err(Lost::Unknown { nearest })
        }
        several => {
            Err(Lost::Ambiguous { names: several.iter().map(|item| item.name().to_owned()).collect() })
        }
    }
}

#[cfg(test)]
mod tests;
