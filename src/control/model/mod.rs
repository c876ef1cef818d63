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

mod container;
mod endpoint;
mod host_port;
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
use super::{Id, Kind, Refused};
use crate::dataplane::Settings;

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
    networks: BTreeMap<Id, Network>,
    /// Shared with the copies that are kept until a change is known to be possible: copying is cheap.
    containers: BTreeMap<Id, Arc<Container>>,
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

/// The endpoints on each network that has any, with their containers, in order of their ports.
pub type Members<'a> = BTreeMap<Id, Vec<(&'a Container, &'a Endpoint)>>;

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
            networks: BTreeMap::new(),
            containers: BTreeMap::new(),
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
            self.networks.values().filter(|network| network.uplink.is_some()).collect();
        // Who gives an uplink of its own wants it to be used: sockets come after interfaces, and those that
        // everybody has come last.
        let rank = |uplink: &Network| (uplink.is_user(), uplink.is_user() && uplink.name == DEFAULT_UPLINK);
        let key = |uplink: &Network| (rank(uplink), uplink.created_ns, uplink.name.clone());
        uplinks.sort_by_cached_key(|uplink| key(uplink));
        uplinks
    }

    /// All networks and uplinks, by name.
    pub fn all_networks(&self) -> Vec<&Network> {
        let mut networks: Vec<&Network> = self.networks.values().collect();
        networks.sort_by(|one, other| one.name.cmp(&other.name));
        networks
    }

    /// All containers, in the order they were created.
    pub fn containers(&self) -> Vec<&Container> {
        let mut containers: Vec<&Container> =
            self.all_containers().filter(|container| container.kind.is_listed()).collect();
        containers.sort_by(|one, other| (one.created_ns, &one.name).cmp(&(other.created_ns, &other.name)));
        containers
    }

    /// The network with this id.
    pub fn network(&self, id: Id) -> Option<&Network> {
        self.networks.get(&id)
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
        let mut endpoints: Vec<_> =
            self.all_endpoints().filter(|(_, endpoint)| endpoint.network == network).collect();
        endpoints.sort_by_key(|(_, endpoint)| endpoint.port);
        endpoints
    }

    /// The same of all networks at once, for who wants those of many.
    pub fn endpoints_by_network(&self) -> Members<'_> {
        let mut all = Members::new();
        for (container, endpoint) in self.all_endpoints() {
            all.entry(endpoint.network).or_default().push((container, endpoint));
        }
        all.values_mut().for_each(|endpoints| endpoints.sort_by_key(|(_, endpoint)| endpoint.port));
        all
    }

    /// How many endpoints each network has.
    pub fn endpoint_counts(&self) -> BTreeMap<Id, usize> {
        let mut counts = BTreeMap::new();
        for (_, endpoint) in self.all_endpoints() {
            *counts.entry(endpoint.network).or_default() += 1;
        }
        counts
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
        let networks = self.networks.iter().filter(|(_, network)| network.uplink.is_none());
        find(networks, word).map_err(|lost| match self.find_uplink(word) {
            Ok(uplink) => {
                let text = format!(
                    "'{}' is an uplink, no network: 'tapswitch uplink' has what there is for it",
                    uplink.name
                );
                Refused::new(Kind::UnknownNetwork, text)
            }
            Err(_) => lost.refuse("network", word, Kind::UnknownNetwork),
        })
    }

    /// The uplink that `word` means: a name, an id, or the beginning of one id only.
    ///
    /// # Errors
    /// `unknown_uplink`, `ambiguous`.
    pub fn find_uplink(&self, word: &str) -> Result<&Network, Refused> {
        let uplinks = self.networks.iter().filter(|(_, network)| network.uplink.is_some());
        find(uplinks, word).map_err(|lost| lost.refuse("uplink", word, Kind::UnknownUplink))
    }

    /// The network or uplink that `word` means.
    ///
    /// # Errors
    /// `unknown_network`, `ambiguous`.
    pub fn find_any_network(&self, word: &str) -> Result<&Network, Refused> {
        find(self.networks.iter(), word).map_err(|lost| match self.find_listed(word) {
            Ok(Listed::Unswitched(network)) => unswitched::no_switch(network),
            _ => lost.refuse("network", word, Kind::UnknownNetwork),
        })
    }

    /// The container that `word` means: a name, an id, or the beginning of one id only.
    ///
    /// # Errors
    /// `unknown_container`, `ambiguous`.
    pub fn find_container(&self, word: &str) -> Result<&Container, Refused> {
        let containers = self.all_containers().filter(|container| container.kind.is_listed());
        find(containers.map(|container| (&container.id, container)), word)
            .map_err(|lost| lost.refuse("container", word, Kind::UnknownContainer))
    }

    /// The container of just this name.
    pub fn container_named(&self, name: &str) -> Option<&Container> {
        self.all_containers().find(|container| container.kind.is_listed() && container.name == name)
    }

    /// The port that `word` means: `CONTAINER:IFNAME`, a container with one interface, an uplink, or
    /// an alias such as `veth0a1b2c3`.
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
        let uplink = self.find_uplink(name).ok().and_then(|uplink| self.container(uplink.id));
        let host = self.all_containers().find(|it| it.kind == ContainerKind::Host && it.name == name);
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

    fn all_endpoints(&self) -> impl Iterator<Item = (&Container, &Endpoint)> {
        let of = |container| move |endpoint| (container, endpoint);
        self.all_containers()
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
            Self::Unknown { nearest: Some(nearest) } => {
                Refused::new(unknown, format!("{lost}: did you mean '{nearest}'?"))
            }
            Self::Unknown { nearest: None } => Refused::new(unknown, format!("{lost}: '{list}' lists them")),
            Self::Ambiguous { names } => Refused::new(
                Kind::Ambiguous,
                format!("{what} id '{word}' fits {}: give more of it, or a name", names.join(", ")),
            ),
        }
    }
}

/// Looks a word up as Docker does: a whole id, then a name, then the beginning of an id.
fn find<'a, T: Named + 'a>(
    items: impl Iterator<Item = (&'a Id, &'a T)> + Clone,
    word: &str,
) -> Result<&'a T, Lost> {
    let wanted: Option<Id> = word.parse().ok();
    let by_id = items.clone().find(|(id, _)| Some(**id) == wanted);
    let exact = by_id.or_else(|| items.clone().find(|(_, item)| item.name() == word));
    if let Some((_, exact)) = exact {
        return Ok(exact);
    }
    let fits = |(id, _): &(&Id, &T)| !word.is_empty() && id.starts_with(word);
    let fitting: Vec<&T> = items.clone().filter(fits).map(|(_, item)| item).collect();
    match fitting.as_slice() {
        [one] => Ok(one),
        [] => {
            let nearest = nearest(word, items.map(|(_, item)| item.name())).map(str::to_owned);
            Err(Lost::Unknown { nearest })
        }
        several => {
            Err(Lost::Ambiguous { names: several.iter().map(|item| item.name().to_owned()).collect() })
        }
    }
}

#[cfg(test)]
mod tests;
