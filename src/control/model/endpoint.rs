//! Endpoints: a container's places on networks, and how their addresses and names are chosen.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::joins::already;
use super::{Container, ContainerKind, FarEnd, Model, Network};
use crate::control::ipam::LeaseError;
use crate::control::naming::{check_hostname, check_interface};
use crate::control::{Id, Kind, Refused};
use crate::wire::MacAddr;

/// One wish to join a network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EndpointSpec {
    /// The network's name or id.
    pub network: String,
    /// The interface inside; the next of `eth0`, `eth1`, ... if none is given.
    pub ifname: Option<String>,
    /// `02:42` and the IPv4 address if none is given.
    pub mac: Option<MacAddr>,
    /// At most one for each subnet; the lowest free one if none is given.
    pub addresses: Vec<IpAddr>,
    /// More names for it on this network.
    pub aliases: Vec<String>,
    /// By `network connect`: Docker shows what was asked for there in another way than at `run`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub connected: bool,
}

impl EndpointSpec {
    /// A wish for this network with every default.
    pub fn on(network: &str) -> Self {
        Self { network: network.to_owned(), ..Self::default() }
    }
}

impl FromStr for EndpointSpec {
    type Err = Refused;

    /// `NETWORK[:KEY=VALUE[,KEY=VALUE]..]` with `ip`, `mac`, `alias` and `ifname`; `ip` and `alias`
    /// may be repeated. Docker's `name=NETWORK,KEY=VALUE..` is the same.
    fn from_str(text: &str) -> Result<Self, Refused> {
        let (network, settings) = match text.strip_prefix("name=") {
            Some(dockers) => dockers.split_once(',').unwrap_or((dockers, "")),
            None => text.split_once(':').unwrap_or((text, "")),
        };
        if let Some(name) = text.strip_prefix("container:").filter(|name| !name.contains('=')) {
            let message = format!(
                "network '{text}': 'tapswitch exec {name} CMD' runs a command in that container's network"
            );
            return Err(Refused::new(Kind::BadName, message));
        }
        let mut spec = Self::on(network);
        for setting in settings.split(',').filter(|setting| !setting.is_empty()) {
            let bad = |mend: &str| {
                let message = format!("network '{text}' cannot have '{setting}': {mend}");
                Refused::new(Kind::BadOption, message)
            };
            match setting.split_once('=') {
                Some(("ip" | "ip6", ip)) => {
                    spec.addresses.push(ip.parse().map_err(|_| bad("give an address, as ip=172.19.0.9"))?)
                }
                Some(("mac" | "mac-address", mac)) => {
                    spec.mac = Some(mac.parse().map_err(|_| bad("give six bytes, as mac=02:42:ac:13:00:09"))?)
                }
                Some(("alias", alias)) => spec.aliases.push(alias.to_owned()),
                Some(("ifname", ifname)) => spec.ifname = Some(ifname.to_owned()),
                _ => return Err(bad("the settings are ip=, mac=, alias= and ifname=")),
            }
        }
        Ok(spec)
    }
}

/// A container's place on a network: one interface inside, one port of the switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// The same whenever the same container joins the same network.
    pub id: Id,
    /// The network's id.
    pub network: Id,
    /// The interface inside: `eth0`, ...
    pub ifname: String,
    /// The interface's address.
    pub mac: MacAddr,
    /// One for each subnet of the network, in their order, with the subnet's prefix length.
    pub addresses: Vec<IpNet>,
    /// More names for it on this network.
    pub aliases: Vec<String>,
    /// The data plane's index of the port: the lowest number that was free.
    pub port: u32,
    /// The port's name for tools that want an interface: `veth` and 7 digits of the id.
    pub alias: String,
}

impl Model {
    /// Decides everything about an endpoint of a container, which has `existing` ones already.
    pub(super) fn plan_endpoint(
        &self,
        container: &Container,
        existing: &[Endpoint],
        spec: &EndpointSpec,
    ) -> Result<Endpoint, Refused> {
        let (id, name) = (container.id, &container.name);
        let network = self.find_joinable(name, &spec.network)?;
        if existing.iter().any(|endpoint| endpoint.network == network.id) {
            return Err(already(name, &network.name));
        }
        check_addresses(container, network, &spec.addresses)?;
        check_aliases(network, &spec.aliases)?;
        let ifname = plan_ifname(container, existing, spec.ifname.as_deref(), &network.options.iface_prefix)?;
        let addresses = self.plan_addresses(network, &spec.addresses)?;
        let endpoint_id = id.derive(network.id);
        let mac = self.plan_mac(network, spec.mac, &addresses, endpoint_id)?;
        Ok(Endpoint {
            id: endpoint_id,
            network: network.id,
            ifname,
            mac,
            addresses,
            aliases: spec.aliases.clone(),
            port: self.plan_port(existing),
            alias: self.plan_alias(endpoint_id, existing),
        })
    }

    /// The network that `word` means, if a container may join it: an uplink only when it leads to
    /// this container.
    fn find_joinable(&self, container: &str, word: &str) -> Result<&Network, Refused> {
        let Ok(uplink) = self.find_uplink(word) else { return self.find_network(word) };
        match uplink.uplink.as_ref().map(|uplink| &uplink.far_end) {
            Some(FarEnd::Container(name)) if name == container => Ok(uplink),
            _ => Err(Refused::new(
                Kind::BadUplink,
                format!(
                    "'{}' is an uplink, which container '{container}' cannot join: join a network, and be routed there",
                    uplink.name
                ),
            )),
        }
    }

    /// One address for each subnet: the one wished for, or the lowest free one.
    fn plan_addresses(&self, network: &Network, wishes: &[IpAddr]) -> Result<Vec<IpNet>, Refused> {
        let held = |wish: &&IpAddr| network.subnet_of(**wish).is_none();
        if let Some(stray) = wishes.iter().find(held) {
            let subnets: Vec<String> =
                network.subnets.iter().map(|subnet| subnet.prefix().to_string()).collect();
            return Err(Refused::new(
                Kind::BadAddress,
                format!(
                    "Invalid address {stray}: It does not belong to any of this network's subnets: on '{}' choose one \
                     in {}",
                    network.name,
                    subnets.join(" or ")
                ),
            ));
        }
        let mut addresses = Vec::new();
        for subnet in &network.subnets {
            let mut wanted = wishes.iter().filter(|wish| subnet.prefix().contains(*wish));
            let wish = wanted.next().copied();
            if let (Some(first), Some(second)) = (wish, wanted.next()) {
                let prefix = subnet.prefix();
                return Err(Refused::new(
                    Kind::BadAddress,
                    format!("addresses {first} and {second} are both in {prefix}: give one for each subnet"),
                ));
            }
            let address = subnet.choose(wish).map_err(|error| self.refuse_lease(network, &error))?;
            let length = subnet.prefix().prefix_len();
            addresses.push(IpNet::new_assert(address, length)); // The length is a valid one of the same family.
        }
        Ok(addresses)
    }

    fn refuse_lease(&self, network: &Network, error: &LeaseError) -> Refused {
        let name = &network.name;
        match error {
            LeaseError::Full(_) => Refused::new(
                Kind::PoolFull,
                format!(
                    "no available {} addresses on this network's address pools: {name}: {error}: disconnect a \
                     container, or use a larger subnet",
                    error.version()
                ),
            ),
            LeaseError::Outside(..) => {
                Refused::new(Kind::BadAddress, format!("network '{name}': {error}: choose another address"))
            }
            LeaseError::Reserved(..) => Refused::new(
                Kind::BadAddress,
                format!("Address already in use: on network '{name}' {error}: choose another"),
            ),
            LeaseError::InUse(address) => {
                let has = |endpoint: &Endpoint| endpoint.addresses.iter().any(|net| net.addr() == *address);
                let owner = self.endpoints(network.id).into_iter().find(|(_, endpoint)| has(endpoint));
                let owner = owner
                    .map_or_else(String::new, |(container, _)| format!(" by container '{}'", container.name));
                Refused::new(
                    Kind::AddressInUse,
                    format!(
                        "Address already in use: {address} on network '{name}' is in use{owner}: choose another, or \
                         give none"
                    ),
                )
            }
        }
    }

    /// The MAC address wished for, if a station may have it and nobody does.
    fn plan_mac(
        &self,
        network: &Network,
        wish: Option<MacAddr>,
        addresses: &[IpNet],
        id: Id,
    ) -> Result<MacAddr, Refused> {
        let Some(mac) = wish else { return self.default_mac(network, addresses, id) };
        if !mac.is_station() {
            return Err(Refused::new(
                Kind::BadMac,
                format!(
                    "MAC address {mac} is a group's or zero, no station's: choose an even first byte, as 02:42:00:00:00:01"
                ),
            ));
        }
        match self.mac_holder(network, mac) {
            None => Ok(mac),
            Some(owner) => Err(Refused::new(
                Kind::MacInUse,
                format!(
                    "MAC address {mac} on network '{}' is in use by {owner}: choose another",
                    network.name
                ),
            )),
        }
    }

    /// `02:42` and the IPv4 address; where somebody chose just that one, `02` and bytes of the
    /// endpoint's id.
    fn default_mac(&self, network: &Network, addresses: &[IpNet], id: Id) -> Result<MacAddr, Refused> {
        let by_address = addresses.iter().find_map(|net| match net.addr() {
            IpAddr::V4(address) => Some(MacAddr::from_ipv4(address)),
            IpAddr::V6(_) => None,
        });
        let by_id =
            id.bytes().as_chunks::<5>().0.iter().map(|[a, b, c, d, e]| MacAddr([0x02, *a, *b, *c, *d, *e]));
        let mut candidates = by_address.into_iter().chain(by_id);
        candidates.find(|mac| self.mac_holder(network, *mac).is_none()).ok_or_else(|| {
            Refused::new(
                Kind::MacInUse,
                format!("no MAC address is left on network '{}': give one", network.name),
            )
        })
    }

    /// Who has this MAC address on a network, in words.
    pub(super) fn mac_holder(&self, network: &Network, mac: MacAddr) -> Option<String> {
        if mac == network.gateway_mac() {
            return Some("the gateway".to_owned());
        }
        let has =
            |(_, endpoint): &(&Container, &Endpoint)| endpoint.network == network.id && endpoint.mac == mac;
        self.all_endpoints().find(has).map(|(container, _)| format!("container '{}'", container.name))
    }

    /// The lowest port number that neither the model nor `planned` endpoints have.
    pub(super) fn plan_port(&self, planned: &[Endpoint]) -> u32 {
        let mut port = self.port_numbers.first_missing(0);
        while let Some(number) =
            port.filter(|number| planned.iter().any(|other| u128::from(other.port) == *number))
        {
            port = self.port_numbers.first_missing(number + 1);
        }
        // Every port is a TAP with a descriptor: numbers cannot run out before those.
        port.and_then(|number| u32::try_from(number).ok()).unwrap_or(u32::MAX)
    }

    /// `veth` and the first seven digits of the id that no other port has.
    pub(super) fn plan_alias(&self, id: Id, planned: &[Endpoint]) -> String {
        let taken = |alias: &String| {
            let mut all = self.all_endpoints().map(|(_, endpoint)| endpoint).chain(planned);
            all.any(|endpoint| endpoint.alias == *alias)
        };
        let aliases = (0..=57).map(|from| format!("veth{}", id.digits(from, 7)));
        let free = aliases.into_iter().find(|alias| !taken(alias));
        free.unwrap_or_else(|| format!("veth{}", id.digits(0, 7)))
    }

    /// Leases what a planned endpoint was given.
    pub(super) fn take(&mut self, endpoint: &Endpoint) {
        self.port_numbers.insert(endpoint.port.into());
        let Some(network) = self.networks.get_mut(&endpoint.network) else { return };
        for subnet in &mut network.subnets {
            endpoint.addresses.iter().for_each(|net| {
                subnet.take(net.addr());
            });
        }
    }

    /// The inverse of [`Model::take`].
    pub(super) fn release(&mut self, endpoint: &Endpoint) {
        self.port_numbers.remove(endpoint.port.into());
        let Some(network) = self.networks.get_mut(&endpoint.network) else { return };
        for subnet in &mut network.subnets {
            endpoint.addresses.iter().for_each(|net| {
                subnet.release(net.addr());
            });
        }
    }
}

/// On network `bridge` addresses are handed out, not chosen, as in Docker; but who was there may come back.
fn check_addresses(container: &Container, network: &Network, wishes: &[IpAddr]) -> Result<(), Refused> {
    match wishes.first() {
        Some(wish) if network.is_default() && container.kind == ContainerKind::Run => Err(Refused::new(
            Kind::BadAddress,
            format!(
                "user specified IP address is supported on user defined networks only: {wish} cannot be chosen on \
                 network '{}', 'tapswitch network create --subnet CIDR NAME' makes one where it can",
                network.name
            ),
        )),
        _ => Ok(()),
    }
}

fn check_aliases(network: &Network, aliases: &[String]) -> Result<(), Refused> {
    for alias in aliases {
        check_hostname(alias)?;
    }
    match aliases.first() {
        Some(alias) if network.is_default() => Err(Refused::new(
            Kind::BadOption,
            format!(
                "network-scoped alias is supported only for containers in user defined networks: '{alias}' has no use on \
                 network '{}', where names do not resolve",
                network.name
            ),
        )),
        _ => Ok(()),
    }
}

/// The interface wished for, or the next of `eth0`, `eth1`, ..., or whatever the network calls them.
fn plan_ifname(
    container: &Container,
    existing: &[Endpoint],
    wish: Option<&str>,
    prefix: &str,
) -> Result<String, Refused> {
    let taken = |name: &str| existing.iter().any(|endpoint| endpoint.ifname == name);
    let Some(wish) = wish else {
        let next = container.next_interface.get(prefix).copied().unwrap_or_default();
        let name = format!("{prefix}{next}");
        // After too many joins the name has no room for its number, and numbers are given again.
        let fits = Some(name).filter(|name| !taken(name) && check_interface(name).is_ok());
        let lowest =
            || (0..=existing.len()).map(|number| format!("{prefix}{number}")).find(|name| !taken(name));
        return Ok(fits.or_else(lowest).unwrap_or_default());
    };
    check_interface(wish)?;
    if taken(wish) {
        return Err(Refused::new(
            Kind::NameTaken,
            format!("container '{}' has an interface '{wish}' already: choose another name", container.name),
        ));
    }
    Ok(wish.to_owned())
}
