//! Networks: one broadcast domain each, with its subnets and options.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::unswitched::predefined;
use super::{DEFAULT_NETWORK, Listed, Model, Unswitched, Uplink};
use crate::control::ipam::{self, Subnet, SubnetSpec};
use crate::control::naming::check_name;
use crate::control::options::{BRIDGE_NAME, IFACE_PREFIX, NetworkOptions};
use crate::control::{Id, Kind, Refused};
use crate::wire::MacAddr;

/// How a network moves frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// A learning bridge inside the switch.
    #[default]
    Bridge,
    /// A way outside: what an uplink is, and no network that is asked for by this name.
    #[serde(skip)]
    Uplink,
}

impl Driver {
    // serde asks by reference.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    fn is_uplink(&self) -> bool {
        *self == Self::Uplink
    }

    /// Docker's word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Uplink => "uplink",
        }
    }
}

/// A network as a user asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkSpec {
    /// Unique among networks.
    pub name: String,
    /// How it moves frames.
    pub driver: Driver,
    /// At most one IPv4 and one IPv6 subnet; without an IPv4 one, an automatic one is added.
    pub subnets: Vec<SubnetSpec>,
    /// Adds an automatic IPv6 subnet if none is given.
    pub ipv6: bool,
    /// Without a way out.
    pub internal: bool,
    /// Docker's flag, which is kept and shown: whoever is here may join anyway.
    pub attachable: bool,
    /// Keys (full or short) and values; of the same option, the last one counts.
    pub options: Vec<(String, String)>,
    /// Free for the user.
    pub labels: BTreeMap<String, String>,
    /// The lab it came with, and goes with.
    pub lab: Option<String>,
}

impl NetworkSpec {
    /// A network with this name and every default.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }
}

/// A network that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Never used again once the network is gone.
    pub id: Id,
    /// Unique among networks.
    pub name: String,
    /// How it moves frames; of an uplink, not said in text.
    #[serde(default, skip_serializing_if = "Driver::is_uplink")]
    pub driver: Driver,
    /// The IPv4 subnet first, then the IPv6 one if there is one; of an uplink in the order given.
    pub subnets: Vec<Subnet>,
    /// What there is more to an uplink; none for a network of containers.
    pub uplink: Option<Uplink>,
    /// Without a way out.
    pub internal: bool,
    /// Docker's flag, which is shown.
    #[serde(default)]
    pub attachable: bool,
    /// Its settings.
    pub options: NetworkOptions,
    /// Free for the user.
    pub labels: BTreeMap<String, String>,
    /// The lab it came with, and goes with.
    pub lab: Option<String>,
    /// When it was made, in nanoseconds since 1970.
    pub created_ns: u64,
    /// The data plane's index of it: the lowest number that was free.
    pub number: u32,
}

impl Network {
    /// Its name for tools that want an interface: `docker0`, `br-` and 12 digits, or the uplink's own.
    pub fn bridge_name(&self) -> String {
        if self.uplink.is_some() {
            return self.name.clone();
        }
        self.options.bridge_name.clone().unwrap_or_else(|| format!("br-{}", self.id.short()))
    }

    /// `network` or `uplink`, for messages.
    pub const fn what(&self) -> &'static str {
        if self.uplink.is_some() { "uplink" } else { "network" }
    }

    /// Whether this is network `bridge`, which always exists and resolves no names.
    pub fn is_default(&self) -> bool {
        self.name == DEFAULT_NETWORK
    }

    /// Whether it has an IPv6 subnet.
    pub fn has_ipv6(&self) -> bool {
        self.subnets.iter().any(|subnet| subnet.prefix().addr().is_ipv6())
    }

    /// Subnets in which it has an address of its own: all, but for those of IPv4 with option `inhibit_ipv4`.
    pub fn present_in(&self) -> impl Iterator<Item = &Subnet> {
        self.subnets.iter().filter(|it| !self.options.inhibit_ipv4 || it.gateway().is_ipv6())
    }

    /// The gateway's MAC address: `02:42` and its IPv4 address, or bytes of the network's id where it
    /// has none; of an uplink, the one that was asked for.
    pub fn gateway_mac(&self) -> MacAddr {
        let chosen = self.uplink.as_ref().and_then(|uplink| uplink.mac);
        let by_address = self.subnets.iter().find_map(|subnet| match subnet.gateway() {
            IpAddr::V4(address) => Some(MacAddr::from_ipv4(address)),
            IpAddr::V6(_) => None,
        });
        let [a, b, c, d, e, ..] = *self.id.bytes();
        chosen.or(by_address).unwrap_or(MacAddr([0x02, a, b, c, d, e]))
    }

    /// The subnet that holds `address`.
    pub fn subnet_of(&self, address: IpAddr) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.prefix().contains(&address))
    }
}

impl Model {
    /// Makes a network. `host` lists the prefixes that automatic subnets stay clear of because the
    /// host uses them.
    ///
    /// # Errors
    /// `bad_name`, `name_taken`, `bad_option`, `bad_subnet`, `subnet_overlaps`, `pools_exhausted`.
    pub fn create_network(
        &mut self,
        spec: &NetworkSpec,
        id: Id,
        now_ns: u64,
        host: &[IpNet],
    ) -> Result<&Network, Refused> {
        let network = self.plan_network(spec, id, now_ns, host)?;
        Ok(self.commit_network(network))
    }

    /// Removes a network that nobody is connected to.
    ///
    /// # Errors
    /// `unknown_network`, `ambiguous`, `predefined`, `network_in_use`, `in_use`.
    pub fn remove_network(&mut self, word: &str) -> Result<Network, Refused> {
        let network = match self.find_listed(word)? {
            Listed::Unswitched(network) => return Err(predefined(network.name())),
            Listed::Switched(network) if network.is_default() => return Err(predefined(&network.name)),
            Listed::Switched(network) => network,
        };
        let (id, name) = (network.id, &network.name);
        let users: Vec<&str> = self.guests(id).map(|(container, _)| container.name.as_str()).collect();
        if !users.is_empty() {
            return Err(Refused::new(
                Kind::NetworkInUse,
                format!(
                    "error while removing network: network {name} id {} has active endpoints: disconnect or remove {} \
                     first",
                    id.short(),
                    users.join(", ")
                ),
            ));
        }
        self.check_unused(network)?;
        let unknown = || Refused::new(Kind::UnknownNetwork, format!("network {word} not found"));
        self.unplug_host(id);
        self.drop_network(id).ok_or_else(unknown)
    }

    /// Whether no rule or route names a network or uplink.
    pub(super) fn check_unused(&self, network: &Network) -> Result<(), Refused> {
        let (what, name) = (network.what(), &network.name);
        let mend = match (self.rule_about(network.id), self.route_into(network.id)) {
            (Some(number), _) => format!("rule {number} is about it, 'tapswitch rule rm {number}' first"),
            (None, Some(route)) => {
                format!("the route to {0} leads into it, 'tapswitch route del {0}' first", route.prefix)
            }
            (None, None) => return Ok(()),
        };
        Err(Refused::new(Kind::InUse, format!("{what} '{name}' cannot be removed: {mend}")))
    }

    /// Changes options while the network lives; all of them, or none.
    ///
    /// # Errors
    /// `unknown_network`, `ambiguous`, `bad_option`.
    pub fn set_options(&mut self, word: &str, options: &[(String, String)]) -> Result<&Network, Refused> {
        let network = self.find_network(word)?;
        let mut changed = network.clone();
        for (key, value) in options {
            changed.options.set(key, value)?;
        }
        let fixed = |options: &NetworkOptions| (options.bridge_name.clone(), options.iface_prefix.clone());
        if fixed(&changed.options) != fixed(&network.options) {
            let name = &network.name;
            let key = if changed.options.bridge_name == network.options.bridge_name {
                IFACE_PREFIX
            } else {
                BRIDGE_NAME
            };
            return Err(Refused::new(
                Kind::BadOption,
                format!("option '{key}' of network '{name}' is fixed when the network is created"),
            ));
        }
        check_mtu(&changed)?;
        self.check_uplink(&changed.options)?;
        let network = self.networks.get_mut(&changed.id).map(|network| {
            *network = changed;
            &*network
        });
        network.ok_or_else(|| Refused::new(Kind::UnknownNetwork, format!("network {word} not found")))
    }

    /// Removes every network that nobody is connected to, but for `bridge`.
    pub fn prune_networks(&mut self) -> Vec<Network> {
        let unused: Vec<Id> = self.networks().into_iter().map(|network| network.id).collect();
        unused.into_iter().filter_map(|id| self.remove_network(&id.to_string()).ok()).collect()
    }

    pub(super) fn plan_network(
        &self,
        spec: &NetworkSpec,
        id: Id,
        now_ns: u64,
        host: &[IpNet],
    ) -> Result<Network, Refused> {
        self.check_network_name("network", &spec.name, id)?;
        let mut options = NetworkOptions::default();
        for (key, value) in &spec.options {
            options.set(key, value)?;
        }
        let subnets = self.plan_subnets(spec, id, host)?;
        let network = Network {
            id,
            name: spec.name.clone(),
            driver: spec.driver,
            subnets,
            uplink: None,
            internal: spec.internal,
            attachable: spec.attachable,
            options,
            labels: spec.labels.clone(),
            lab: spec.lab.clone(),
            created_ns: now_ns,
            number: self.plan_number(),
        };
        check_mtu(&network)?;
        self.check_uplink(&network.options)?;
        self.check_bridge_name(&network)?;
        Ok(network)
    }

    /// The lowest number that no network has. Each network holds a subnet of its own, so that numbers
    /// cannot run out before subnets.
    pub(super) fn plan_number(&self) -> u32 {
        let number = self.network_numbers.first_missing(0).and_then(|number| u32::try_from(number).ok());
        number.unwrap_or(u32::MAX)
    }

    /// Whether the uplink that the options name is there.
    pub(super) fn check_uplink(&self, options: &NetworkOptions) -> Result<(), Refused> {
        options.uplink.as_ref().map_or(Ok(()), |name| self.find_uplink(name).map(drop))
    }

    pub(super) fn commit_network(&mut self, network: Network) -> &Network {
        self.network_numbers.insert(network.number.into());
        self.networks.entry(network.id).or_insert(network)
    }

    pub(super) fn drop_network(&mut self, id: Id) -> Option<Network> {
        let network = self.networks.remove(&id)?;
        self.network_numbers.remove(network.number.into());
        Some(network)
    }

    pub(super) fn check_network_name(&self, what: &str, name: &str, id: Id) -> Result<(), Refused> {
        check_name(what, name)?;
        if Unswitched::named(name).is_some() {
            return Err(Refused::new(
                Kind::BadName,
                format!(
                    "operation is not permitted on predefined {name} network: choose another {what} name"
                ),
            ));
        }
        if name == "default" || (name == DEFAULT_NETWORK && self.networks.values().any(Network::is_default)) {
            return Err(Refused::new(
                Kind::BadName,
                format!(
                    "operation is not permitted on predefined {name} network: choose another {what} name"
                ),
            ));
        }
        if matches!(name, "container" | "any") {
            return Err(Refused::new(
                Kind::BadName,
                format!("{what} name '{name}' has a meaning of its own: choose another"),
            ));
        }
        let same = self.networks.values().find(|network| network.name == name || network.id == id);
        same.map_or(Ok(()), |same| {
            Err(Refused::new(
                Kind::NameTaken,
                format!(
                    "{0} with name {name} already exists (id {1}): choose another name, or remove {0} '{name}' first",
                    same.what(),
                    same.id.short()
                ),
            ))
        })
    }

    pub(super) fn check_bridge_name(&self, network: &Network) -> Result<(), Refused> {
        let name = network.bridge_name();
        match self.networks.values().find(|other| other.bridge_name() == name) {
            Some(other) => Err(Refused::new(
                Kind::NameTaken,
                format!(
                    "conflicts with {} {} ({name}): networks have same bridge name: choose another {BRIDGE_NAME}",
                    other.what(),
                    other.name
                ),
            )),
            None => Ok(()),
        }
    }

    /// The subnets asked for, checked, and those that are added automatically, clear of the `host`'s prefixes.
    ///
    /// # Errors
    /// `bad_subnet`, `subnet_overlaps`, `pools_exhausted`.
    pub fn plan_subnets(&self, spec: &NetworkSpec, id: Id, host: &[IpNet]) -> Result<Vec<Subnet>, Refused> {
        let of =
            |ipv4: bool| spec.subnets.iter().filter(move |subnet| subnet.prefix.addr().is_ipv4() == ipv4);
        let name = &spec.name;
        for (family, ipv4) in [("IPv4", true), ("IPv6", false)] {
            if let Some(second) = of(ipv4).nth(1) {
                return Err(Refused::new(
                    Kind::BadSubnet,
                    format!(
                        "bridge driver doesn't support multiple subnets: network '{name}' is given a second {family} \
                         one, {}",
                        second.prefix
                    ),
                ));
            }
        }
        for subnet in &spec.subnets {
            self.check_overlap("network", name, subnet.prefix)?;
        }
        let theirs = self.networks.values().flat_map(|network| network.subnets.iter().map(Subnet::prefix));
        let own = spec.subnets.iter().map(|subnet| subnet.prefix);
        let used: Vec<IpNet> = host.iter().copied().chain(theirs).chain(own).collect();
        let exhausted = || {
            Refused::new(
                Kind::PoolsExhausted,
                format!("no automatic subnet is free for network '{name}': give one with --subnet"),
            )
        };
        let automatic = |pool: Option<IpNet>| Subnet::new(&SubnetSpec::from(pool.ok_or_else(exhausted)?));
        let four = match of(true).next() {
            Some(given) => Subnet::new(given),
            None => automatic(ipam::automatic_ipv4(&used, &self.pools)),
        };
        let six = match of(false).next() {
            Some(given) => Some(Subnet::new(given)?),
            None if spec.ipv6 => Some(automatic(ipam::automatic_ipv6(id, &used, &self.pools))?),
            None => None,
        };
        Ok(std::iter::once(four?).chain(six).collect())
    }

    /// Whether `prefix` of network `name` leaves the others' addresses alone.
    pub(super) fn check_overlap(&self, what: &str, name: &str, prefix: IpNet) -> Result<(), Refused> {
        let pairs = self
            .networks
            .values()
            .filter(|other| other.name != name)
            .flat_map(|other| other.subnets.iter().map(move |subnet| (other, subnet.prefix())));
        match pairs.into_iter().find(|(_, theirs)| ipam::overlap(prefix, *theirs)) {
            Some((other, theirs)) => Err(Refused::new(
                Kind::SubnetOverlaps,
                format!(
                    "Pool overlaps with other one on this address space: subnet {prefix} of {what} '{name}' overlaps \
                     {theirs} of {} '{}': choose another subnet",
                    other.what(),
                    other.name
                ),
            )),
            None => Ok(()),
        }
    }
}

/// IPv6 needs an MTU of 1280 bytes (RFC 8200 §5); below, the kernel takes it off the interface.
pub(super) fn check_mtu(network: &Network) -> Result<(), Refused> {
    let (name, mtu) = (&network.name, network.options.mtu);
    if network.has_ipv6() && mtu < 1280 {
        return Err(Refused::new(
            Kind::BadOption,
            format!(
                "option 'mtu' of {} '{name}' cannot be '{mtu}': with IPv6 it takes 1280 to 65521 bytes",
                network.what()
            ),
        ));
    }
    Ok(())
}
