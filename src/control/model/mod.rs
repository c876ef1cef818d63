//! What a user declared: networks, uplinks, containers, and the endpoints that join them.
//!
//! Theory of operation: [`Model`] owns everything. Each operation first decides, borrowing the
//! model immutably, and then commits what it decided, which cannot fail: a refused operation
//! changes nothing. The addresses leased in a network's subnets are exactly the addresses of the
//! endpoints on it. Networks and ports carry dense numbers, the lowest free ones, by which the data
//! plane indexes its tables.
//!
//! An uplink is a network, too, whose one port leads outside; it is listed apart, and containers do
//! not join it. Its port is the endpoint of a container of its own, which is listed nowhere else; so is
//! the host's port on a network of containers.

mod changes;
mod container;
mod endpoint;
mod host_port;
mod index;
mod joins;
mod link;
mod network;
mod publish;
mod restore;
mod route;
mod rule;
mod unswitched;
mod uplink;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use super::config::DaemonConfig;
use super::ipam::Pool;
use super::naming::nearest;
use super::ports::Protocol;
use super::resolv_conf::Resolvers;
use super::runs::Runs;
use super::shared::Shared;
use super::{Id, Kind, Refused};
use crate::dataplane::Settings;
use index::Index;

pub use container::{Container, ContainerKind, ContainerSpec, State};
pub use endpoint::{Endpoint, EndpointSpec};
pub use link::{Link, LinkSpec};
pub use network::{Driver, Network, NetworkSpec};
pub use publish::FREE_PORTS;
pub use restore::Difference;
pub use route::{RouteSpec, StaticRoute};
pub use rule::{Rule, RuleSpec, Side};
pub use unswitched::{Listed, Unswitched};
pub use uplink::{DEFAULT_UPLINK, FarEnd, PRIVATE, Uplink, UplinkChange, UplinkSpec, UserOptions};

/// The network that always exists.
pub const DEFAULT_NETWORK: &str = "bridge";

/// Networks, containers and endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    networks: Shared<Id, Arc<Network>>,
    containers: Shared<Id, Arc<Container>>,
    index: Index,
    network_numbers: Runs,
    port_numbers: Runs,
    /// The user's, in order.
    rules: Vec<Rule>,
    /// Static ones.
    routes: BTreeMap<IpNet, StaticRoute>,
    /// What `sysctl` sets.
    pub settings: Settings,
    /// Ports that others on the host have: who leaves the choice to us is given none of them.
    pub taken: BTreeSet<(Protocol, u16)>,
    /// Networks into which there are proxies.
    pub proxied: BTreeSet<Id>,
    /// What the daemon was told of rules when it started.
    pub firewall: Firewall,
    /// Who is asked about names outside.
    pub resolvers: Resolvers,
    /// What automatic subnets are cut from; none: Docker's default pools.
    pools: Vec<Pool>,
}

/// Which rules there are of themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Firewall {
    /// Whether there are any (`--iptables`); without, networks route to each other and nothing is translated.
    pub iptables: bool,
    /// Whether what leaves networks is masqueraded (`--ip-masq`).
    pub ip_masq: bool,
}

impl Default for Firewall {
    fn default() -> Self {
        Self { iptables: true, ip_masq: true }
    }
}

impl Model {
    /// A model with network `bridge` alone, on the first of Docker's pools that overlaps none of
    /// the `host`'s prefixes.
    ///
    /// # Errors
    /// `pools_exhausted`.
    pub fn new(bridge: Id, now_ns: u64, host: &[IpNet]) -> Result<Self, Refused> {
        Self::configured(&DaemonConfig::default(), bridge, now_ns, host)
    }

    /// The same, as a daemon is told to have it.
    ///
    /// # Errors
    /// `pools_exhausted`, `bad_subnet`, `bad_option`.
    pub fn configured(
        config: &DaemonConfig,
        bridge: Id,
        now_ns: u64,
        host: &[IpNet],
    ) -> Result<Self, Refused> {
        let mut model = Self::empty(config);
        model.add_default_network(config, bridge, now_ns, host)?;
        Ok(model)
    }

    /// Not even network `bridge` is there.
    fn empty(config: &DaemonConfig) -> Self {
        let forward = config.ip_forward.unwrap_or(true);
        let settings = Settings { forward_v4: forward, forward_v6: forward, ..Settings::default() };
        Self {
            networks: Shared::default(),
            containers: Shared::default(),
            index: Index::default(),
            network_numbers: Runs::default(),
            port_numbers: Runs::default(),
            rules: Vec::new(),
            routes: BTreeMap::new(),
            settings,
            taken: BTreeSet::new(),
            proxied: BTreeSet::new(),
            firewall: config.firewall(),
            resolvers: Resolvers { given: config.resolv_conf(), ..Resolvers::default() },
            pools: config.default_address_pools.clone().unwrap_or_default(),
        }
    }

    fn add_default_network(
        &mut self,
        config: &DaemonConfig,
        bridge: Id,
        now_ns: u64,
        host: &[IpNet],
    ) -> Result<(), Refused> {
        let mut network = self.plan_network(&config.default_network(), bridge, now_ns, host)?;
        network.options.bridge_name = Some("docker0".to_owned());
        self.commit_network(network);
        Ok(())
    }

    /// All networks of containers, by name.
    pub fn networks(&self) -> Vec<&Network> {
        self.all_networks().into_iter().filter(|network| network.uplink.is_none()).collect()
    }

    /// All uplinks, in the order they were made: the first one's default route is everybody's.
    pub fn uplinks(&self) -> Vec<&Network> {
        let mut uplinks: Vec<&Network> =
            self.every_network().filter(|network| network.uplink.is_some()).collect();
        // Who gives an uplink of its own wants it to be used: sockets come after interfaces, and those that
        // everybody has come last.
        let rank = |uplink: &Network| (uplink.is_user(), uplink.is_user() && uplink.name == DEFAULT_UPLINK);
        let key = |uplink: &Network| (rank(uplink), uplink.created_ns, uplink.name.clone());
        uplinks.sort_by_cached_key(|uplink| key(uplink));
        uplinks
    }

    /// All networks and uplinks, by name.
    pub fn all_networks(&self) -> Vec<&Network> {
        let mut networks: Vec<&Network> = self.every_network().collect();
        networks.sort_by(|one, other| one.name.cmp(&other.name));
        networks
    }

    /// All containers, in the order they were created.
    pub fn containers(&self) -> Vec<&Container> {
        self.containers_that(|_| true)
    }

    /// Those of which something holds, in the same order. Who wants few of many asks so: putting in order takes
    /// longer than looking.
    pub fn containers_that(&self, holds: impl Fn(&Container) -> bool) -> Vec<&Container> {
        let listed = self.all_containers().filter(|container| container.kind.is_listed());
        let mut containers: Vec<&Container> = listed.filter(|container| holds(container)).collect();
        containers.sort_by(|one, other| (one.created_ns, &one.name).cmp(&(other.created_ns, &other.name)));
        containers
    }

    /// Those that live, in no order that means anything.
    pub fn alive(&self) -> impl Iterator<Item = &Container> {
        self.all_containers().filter(|container| container.kind.is_listed() && container.is_alive())
    }

    /// The network with this id.
    pub fn network(&self, id: Id) -> Option<&Network> {
        self.networks.get(&id).map(Arc::as_ref)
    }

    /// The same, to be changed.
    fn network_mut(&mut self, id: Id) -> Option<&mut Network> {
        self.networks.get_mut(&id).map(Arc::make_mut)
    }

    /// All networks and uplinks, by id.
    fn every_network(&self) -> impl Iterator<Item = &Network> + Clone {
        self.networks.values().map(Arc::as_ref)
    }

    /// The container with this id; of a network's or uplink's id, the one that has its port to the outside.
    pub fn container(&self, id: Id) -> Option<&Container> {
        self.containers.get(&id).map(Arc::as_ref)
    }

    /// The same, to be changed.
    fn container_mut(&mut self, id: Id) -> Option<&mut Container> {
        self.containers.get_mut(&id).map(Arc::make_mut)
    }

    /// All containers, listed or not, by id.
    fn all_containers(&self) -> impl Iterator<Item = &Container> + Clone {
        self.containers.values().map(Arc::as_ref)
    }

    /// The endpoints on a network with their containers, in order of their ports.
    pub fn endpoints(&self, network: Id) -> Vec<(&Container, &Endpoint)> {
        let on = |owner| {
            let container = self.container(owner)?;
            Some((container, container.endpoints.iter().find(|endpoint| endpoint.network == network)?))
        };
        self.index.members(network).filter_map(on).collect()
    }

    /// How many endpoints a network has.
    pub fn endpoint_count(&self, network: Id) -> usize {
        self.index.members(network).count()
    }

    /// The network that `word` means: a name, an id, or the beginning of one id only.
    ///
    /// # Errors
    /// `unknown_network`, `ambiguous`; `predefined` for `host` and `none`, which are not the switch's.
    pub fn find_network(&self, word: &str) -> Result<&Network, Refused> {
        match self.find_listed(word)? {
            Listed::Switched(network) => Ok(network),
            Listed::Unswitched(network) => Err(unswitched::no_switch(network)),
        }
    }

    /// The same among those of the switch.
    fn find_switched(&self, word: &str) -> Result<&Network, Refused> {
        let networks = self.every_network().filter(|network| network.uplink.is_none());
        find(networks.clone(), word).map_err(|lost| match self.find_uplink(word) {
            Ok(uplink) => {
                let text = format!(
                    "'{}' is an uplink, no network: 'tapswitch uplink' has what there is for it",
                    uplink.name
                );
                Refused::new(Kind::UnknownNetwork, text)
            }
            Err(_) => lost.refuse("network", word, Kind::UnknownNetwork, networks),
        })
    }

    /// The uplink that `word` means: a name, an id, or the beginning of one id only.
    ///
    /// # Errors
    /// `unknown_uplink`, `ambiguous`.
    pub fn find_uplink(&self, word: &str) -> Result<&Network, Refused> {
        let uplinks = self.every_network().filter(|network| network.uplink.is_some());
        find(uplinks.clone(), word).map_err(|lost| lost.refuse("uplink", word, Kind::UnknownUplink, uplinks))
    }

    /// The network or uplink that `word` means.
    ///
    /// # Errors
    /// `unknown_network`, `ambiguous`.
    pub fn find_any_network(&self, word: &str) -> Result<&Network, Refused> {
        find(self.every_network(), word).map_err(|lost| match self.find_listed(word) {
            Ok(Listed::Unswitched(network)) => unswitched::no_switch(network),
            _ => lost.refuse("network", word, Kind::UnknownNetwork, self.every_network()),
        })
    }

    /// The container that `word` means: a name, an id, or the beginning of one id only.
    ///
    /// # Errors
    /// `unknown_container`, `ambiguous`.
    pub fn find_container(&self, word: &str) -> Result<&Container, Refused> {
        let by_id = word.parse().ok().and_then(|id| self.container(id)).filter(|it| it.kind.is_listed());
        if let Some(exact) = by_id.or_else(|| self.container_named(word)) {
            return Ok(exact);
        }
        let containers = self.all_containers().filter(|container| container.kind.is_listed());
        find(containers.clone(), word)
            .map_err(|lost| lost.refuse("container", word, Kind::UnknownContainer, containers))
    }

    /// The container of just this name.
    pub fn container_named(&self, name: &str) -> Option<&Container> {
        self.any_named(name).filter(|container| container.kind.is_listed())
    }

    /// The same of all, listed or not.
    fn any_named(&self, name: &str) -> Option<&Container> {
        self.container(self.index.named(name)?)
    }

    /// The port that `word` means: `CONTAINER:IFNAME`, a container with one interface, an uplink, or
    /// an alias such as `veth0a1b2c3`.
    ///
    /// # Errors
    /// `unknown_port`, `unknown_container`, `ambiguous`.
    pub fn find_port(&self, word: &str) -> Result<(&Container, &Endpoint), Refused> {
        let aliased = self.index.aliased(word).and_then(|owner| self.container(owner));
        if let Some(container) = aliased
            && let Some(endpoint) = container.endpoints.iter().find(|endpoint| endpoint.alias == word)
        {
            return Ok((container, endpoint));
        }
        let (name, ifname) = match word.split_once(':') {
            Some((name, ifname)) => (name, Some(ifname)),
            None => (word, None),
        };
        let uplink = self.find_uplink(name).ok().and_then(|uplink| self.container(uplink.id));
        let host = self.any_named(name).filter(|it| it.kind == ContainerKind::Host);
        let container = match uplink.or(host) {
            Some(unlisted) => unlisted,
            None => self.find_container(name)?,
        };
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

    #[cfg(test)]
    fn all_endpoints(&self) -> impl Iterator<Item = (&Container, &Endpoint)> {
        let of = |container| move |endpoint| (container, endpoint);
        self.all_containers()
            .flat_map(move |container: &Container| container.endpoints.iter().map(of(container)))
    }
}

/// What [`find`] looks for.
trait Named {
    fn id(&self) -> Id;
    fn name(&self) -> &str;
}

impl Named for Network {
    fn id(&self) -> Id {
        self.id
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for Container {
    fn id(&self) -> Id {
        self.id
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// Why a word means nothing.
enum Lost {
    Unknown,
    Ambiguous { names: Vec<String> },
}

impl Lost {
    /// In words; of what is not known, with what there `is` that is most like it.
    fn refuse<'a, T: Named + 'a>(
        self,
        what: &str,
        word: &str,
        unknown: Kind,
        is: impl Iterator<Item = &'a T>,
    ) -> Refused {
        let list = match what {
            "network" => "tapswitch network ls",
            "uplink" => "tapswitch uplink ls",
            _ => "tapswitch ps -a",
        };
        // In Docker's words, where it has any.
        let lost = match what {
            "network" => format!("network {word} not found"),
            "container" => format!("No such container: {word}"),
            _ => format!("{what} '{word}' is not known"),
        };
        match self {
            Self::Unknown => match nearest(word, is.map(T::name)) {
                Some(nearest) => Refused::new(unknown, format!("{lost}: did you mean '{nearest}'?")),
                None => Refused::new(unknown, format!("{lost}: '{list}' lists them")),
            },
            Self::Ambiguous { names } => Refused::new(
                Kind::Ambiguous,
                format!("{what} id '{word}' fits {}: give more of it, or a name", names.join(", ")),
            ),
        }
    }
}

/// Looks a word up as Docker does: a whole id, then a name, then the beginning of an id.
fn find<'a, T: Named + 'a>(items: impl Iterator<Item = &'a T> + Clone, word: &str) -> Result<&'a T, Lost> {
    let wanted: Option<Id> = word.parse().ok();
    let by_id = items.clone().find(|item| Some(item.id()) == wanted);
    if let Some(exact) = by_id.or_else(|| items.clone().find(|item| item.name() == word)) {
        return Ok(exact);
    }
    let fitting: Vec<&T> = items.filter(|item| !word.is_empty() && item.id().starts_with(word)).collect();
    match fitting.as_slice() {
        [one] => Ok(one),
        [] => Err(Lost::Unknown),
        several => {
            Err(Lost::Ambiguous { names: several.iter().map(|item| item.name().to_owned()).collect() })
        }
    }
}

#[cfg(test)]
mod tests;
