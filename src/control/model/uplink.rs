//! Uplinks: the ways outside.
//!
//! An uplink is a [`Network`] whose subnets are those outside, with an address of ours in each, and
//! whose one port leads there. What makes it an uplink stands in [`Network::uplink`].

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::network::check_mtu;
use super::{Container, ContainerKind, Driver, Endpoint, Model, Network, State};
use crate::control::ipam::{Subnet, SubnetSpec};
use crate::control::naming::{check_interface, check_name};
use crate::control::options::NetworkOptions;
use crate::control::{Id, Kind, Refused};
use crate::wire::MacAddr;

/// What is behind an uplink's port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FarEnd {
    /// A TAP of this name, in a namespace whose owner configures it.
    Tap(String),
    /// A real interface of this name, through a packet socket.
    Packet(String),
    /// The lab's container of this name, which joins the uplink as others join a network.
    Container(String),
    /// Sockets of the host's, which take no privilege.
    User(UserOptions),
}

/// How flows leave by a user uplink.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UserOptions {
    /// Whether the uplink's gateway stands for the host's loopback; it refuses everything otherwise.
    pub host: bool,
    /// Where nothing may go.
    pub denied: Vec<IpNet>,
    /// The host's addresses to go out from, one of each version at most.
    pub source: Vec<IpAddr>,
    /// The host's interface to go out by.
    pub interface: Option<String>,
}

/// The name of the uplink that is there from the start.
pub const DEFAULT_UPLINK: &str = "user";
/// The interface name of a user uplink's port: it has no interface.
const USER_PORT: &str = "user0";
/// What is not to be reached where private networks are denied (RFC 1918, RFC 6598, RFC 4193).
pub const PRIVATE: [&str; 5] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"];
/// The largest packet of a user uplink: super-frames travel whole, and so do datagrams of 64 KiB but for their
/// headers.
const USER_MTU: u32 = 65_521;

/// The addresses of a user uplink's link and of its gateway, where none are given. Nobody else has them: they are
/// of the IPv4 service continuity prefix (RFC 7335) and of a random unique local prefix (RFC 4193).
const USER_LINK: ([&str; 2], [&str; 2]) =
    (["192.0.0.1/29", "fd4a:9c1e:77d3::1/64"], ["192.0.0.2", "fd4a:9c1e:77d3::2"]);

impl UplinkSpec {
    /// The uplink that is there from the start.
    pub fn standard() -> Self {
        let spec = Self {
            name: DEFAULT_UPLINK.to_owned(),
            far_end: FarEnd::User(UserOptions::default()),
            addresses: Vec::new(),
            gateways: Vec::new(),
            mac: None,
            mtu: None,
            lab: None,
        };
        spec.or_defaults()
    }

    /// A user uplink needs to be told nothing: what is missing is filled in.
    #[must_use]
    pub fn or_defaults(mut self) -> Self {
        if matches!(self.far_end, FarEnd::User(_)) {
            self.mtu.get_or_insert(USER_MTU);
            if self.addresses.is_empty() && self.gateways.is_empty() {
                self.addresses = USER_LINK.0.iter().filter_map(|text| text.parse().ok()).collect();
                self.gateways = USER_LINK.1.iter().filter_map(|text| text.parse().ok()).collect();
            }
        }
        self
    }
}

impl FarEnd {
    /// `tap`, `packet`.
    pub const fn kind(&self) -> &'static str {
        match self {
            // A container's interface is a TAP as well.
            Self::Tap(_) | Self::Container(_) => "tap",
            Self::Packet(_) => "packet",
            Self::User(_) => "user",
        }
    }

    /// The name of the interface or container.
    pub fn name(&self) -> &str {
        match self {
            Self::Tap(name) | Self::Packet(name) | Self::Container(name) => name,
            Self::User(_) => USER_PORT,
        }
    }
}

/// An uplink as a user asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UplinkSpec {
    /// Unique among networks and containers, and short enough for an interface.
    pub name: String,
    /// What is behind it.
    pub far_end: FarEnd,
    /// Our addresses there, with the lengths of their subnets; at least one.
    pub addresses: Vec<IpNet>,
    /// The next hops of default routes: at most one for each IP version.
    #[serde(default)]
    pub gateways: Vec<IpAddr>,
    /// Our MAC address there; `02:42` and the first IPv4 address if none is given.
    #[serde(default)]
    pub mac: Option<MacAddr>,
    /// The largest packet, in bytes without the Ethernet header; 1500 if none is given.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// The lab it came with, and goes with.
    #[serde(default)]
    pub lab: Option<String>,
}

/// What is to be changed of an uplink; what is none or empty stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UplinkChange {
    /// Instead of all its addresses.
    pub addresses: Vec<IpNet>,
    /// Instead of all its gateways.
    pub gateways: Vec<IpAddr>,
    /// Our MAC address there.
    pub mac: Option<MacAddr>,
    /// The largest packet.
    pub mtu: Option<u32>,
    /// How flows leave, of a user uplink.
    pub user: Option<UserOptions>,
}

/// What there is more to an uplink than to a network of containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uplink {
    /// What is behind its port.
    pub far_end: FarEnd,
    /// The next hops of default routes.
    pub gateways: Vec<IpAddr>,
    /// Our MAC address there, if it was chosen.
    pub mac: Option<MacAddr>,
}

impl Model {
    /// Makes an uplink, and its port unless it leads to a container.
    ///
    /// # Errors
    /// `bad_name`, `name_taken`, `bad_uplink`, `bad_subnet`, `subnet_overlaps`, `bad_address`, `bad_mac`,
    /// `bad_option`.
    pub fn create_uplink(&mut self, spec: &UplinkSpec, id: Id, now_ns: u64) -> Result<&Network, Refused> {
        let network = self.plan_uplink(spec, id, now_ns)?;
        let port = match &spec.far_end {
            FarEnd::Tap(ifname) | FarEnd::Packet(ifname) => {
                check_interface(ifname)?;
                self.check_container_name("uplink", &spec.name, id)?;
                Some(self.plan_port_of(&network, ifname))
            }
            FarEnd::User(_) => {
                self.check_container_name("uplink", &spec.name, id)?;
                Some(self.plan_port_of(&network, USER_PORT))
            }
            FarEnd::Container(name) => {
                check_name("container", name)?;
                None
            }
        };
        if let Some(container) = port {
            container.endpoints.iter().for_each(|endpoint| self.take(endpoint));
            self.containers.insert(id, container.into());
        }
        Ok(self.commit_network(network))
    }

    /// Changes an uplink; all that is asked for, or nothing.
    ///
    /// # Errors
    /// `unknown_uplink`, `ambiguous`, and those of [`Model::create_uplink`]; `in_use` when an address
    /// that goes is one that a container or a route needs.
    pub fn set_uplink(&mut self, word: &str, change: &UplinkChange) -> Result<&Network, Refused> {
        let network = self.find_uplink(word)?;
        let Some(uplink) = &network.uplink else { return Err(unknown(word)) };
        let given = |list: &[IpNet]| if list.is_empty() { network.own_addresses() } else { list.to_vec() };
        let spec = UplinkSpec {
            name: network.name.clone(),
            far_end: match (&uplink.far_end, &change.user) {
                (FarEnd::User(_), Some(options)) => FarEnd::User(options.clone()),
                (_, None) => uplink.far_end.clone(),
                (_, Some(_)) => return Err(not_user(word)),
            },
            addresses: given(&change.addresses),
            gateways: if change.gateways.is_empty() {
                uplink.gateways.clone()
            } else {
                change.gateways.clone()
            },
            mac: change.mac.or(uplink.mac),
            mtu: change.mtu.or(Some(network.options.mtu)),
            lab: network.lab.clone(),
        };
        let mut changed = self.fill_uplink(&spec, network.id, network.created_ns)?;
        changed.number = network.number;
        self.check_routes_into(&changed)?;
        let tenants = self.endpoints(network.id).into_iter().flat_map(|(_, endpoint)| &endpoint.addresses);
        for address in tenants {
            let subnet = changed.subnets.iter_mut().find(|subnet| {
                subnet.prefix() == address.trunc() && subnet.choose(Some(address.addr())).is_ok()
            });
            match subnet {
                Some(subnet) => subnet.take(address.addr()),
                None => {
                    let text = format!(
                        "uplink '{}' leads to a container at {address}: leave its subnet as it is, or remove the container first",
                        network.name
                    );
                    return Err(Refused::new(Kind::InUse, text));
                }
            };
        }
        let (id, mac) = (network.id, changed.gateway_mac());
        if matches!(spec.far_end, FarEnd::Packet(_)) {
            let ports = self.container_mut(id).map(|container| container.endpoints.iter_mut());
            ports.into_iter().flatten().for_each(|endpoint| endpoint.mac = mac);
        }
        self.networks.insert(id, changed);
        self.networks.get(&id).ok_or_else(|| unknown(word))
    }

    /// Removes an uplink that nothing depends on; its port, too.
    ///
    /// # Errors
    /// `unknown_uplink`, `ambiguous`, `in_use`, `network_in_use`.
    pub fn remove_uplink(&mut self, word: &str) -> Result<(Network, Option<Container>), Refused> {
        let network = self.find_uplink(word)?;
        let (id, name) = (network.id, &network.name);
        if let Some(user) = self.networks.values().find(|user| user.options.uplink.as_ref() == Some(name)) {
            let text = format!(
                "uplink '{name}' is the one of network '{0}': 'tapswitch network set {0} -o uplink=' first",
                user.name
            );
            return Err(Refused::new(Kind::InUse, text));
        }
        let tenant = self.endpoints(id).into_iter().find(|(container, _)| container.id != id);
        if let Some((container, _)) = tenant {
            let text = format!("uplink '{name}' leads to container '{}': remove that first", container.name);
            return Err(Refused::new(Kind::NetworkInUse, text));
        }
        self.check_unused(network)?;
        let container = self.containers.remove(&id).map(Arc::unwrap_or_clone);
        container.iter().flat_map(|it| &it.endpoints).for_each(|endpoint| self.release(endpoint));
        let network = self.drop_network(id).ok_or_else(|| unknown(word))?;
        Ok((network, container))
    }

    fn plan_uplink(&self, spec: &UplinkSpec, id: Id, now_ns: u64) -> Result<Network, Refused> {
        self.check_network_name("uplink", &spec.name, id)?;
        check_interface(&spec.name)?;
        let network = self.fill_uplink(spec, id, now_ns)?;
        self.check_bridge_name(&network)?;
        Ok(network)
    }

    /// All about an uplink but whether its name is free.
    fn fill_uplink(&self, spec: &UplinkSpec, id: Id, now_ns: u64) -> Result<Network, Refused> {
        let name = &spec.name;
        if spec.addresses.is_empty() {
            let text = format!("uplink '{name}' has no address of ours: give one, as 198.51.100.1/24");
            return Err(Refused::new(Kind::BadUplink, text));
        }
        let mut subnets: Vec<Subnet> = Vec::new();
        for address in &spec.addresses {
            let wanted = SubnetSpec { gateway: Some(address.addr()), ..SubnetSpec::from(address.trunc()) };
            let subnet = Subnet::new(&wanted)?;
            self.check_overlap("uplink", name, subnet.prefix())?;
            if subnets.iter().any(|other| crate::control::ipam::overlap(other.prefix(), subnet.prefix())) {
                let text = format!("uplink '{name}' is given two addresses in {}: give one", subnet.prefix());
                return Err(Refused::new(Kind::BadSubnet, text));
            }
            subnets.push(subnet);
        }
        if let Some(mac) = spec.mac.filter(|mac| !mac.is_station()) {
            let text = format!("MAC address {mac} of uplink '{name}' is a group's or zero, no station's");
            return Err(Refused::new(Kind::BadMac, format!("{text}: choose an even first byte")));
        }
        let mut options = NetworkOptions::default();
        if let Some(mtu) = spec.mtu {
            options.set("mtu", &mtu.to_string())?;
        }
        let uplink = Uplink { far_end: spec.far_end.clone(), gateways: spec.gateways.clone(), mac: spec.mac };
        let network = Network {
            id,
            name: name.clone(),
            driver: Driver::Uplink,
            subnets,
            uplink: Some(uplink),
            internal: false,
            attachable: false,
            options,
            labels: std::collections::BTreeMap::new(),
            lab: spec.lab.clone(),
            created_ns: now_ns,
            number: self.plan_number(),
        };
        check_mtu(&network)?;
        check_gateways(&network, &spec.gateways)?;
        Ok(network)
    }

    /// The container that stands for what is behind an uplink.
    fn plan_port_of(&self, network: &Network, ifname: &str) -> Container {
        let id = network.id.derive(network.id);
        let [a, b, c, d, e, ..] = *id.bytes();
        let mac = match network.uplink.as_ref().map(|uplink| &uplink.far_end) {
            // A packet socket is our own station on somebody else's wire.
            Some(FarEnd::Packet(_)) => network.gateway_mac(),
            _ => MacAddr([0x02, a, b, c, d, e]),
        };
        let endpoint = Endpoint {
            id,
            network: network.id,
            ifname: ifname.to_owned(),
            mac,
            addresses: Vec::new(),
            aliases: Vec::new(),
            port: self.plan_port(&[]),
            alias: self.plan_alias(id, &[]),
        };
        Container {
            id: network.id,
            name: network.name.clone(),
            hostname: network.name.clone(),
            command: Vec::new(),
            env: Vec::new(),
            lab: network.lab.clone(),
            state: State::Created,
            kind: ContainerKind::Uplink,
            pid: None,
            created_ns: network.created_ns,
            changed_ns: network.created_ns,
            extra_hosts: Vec::new(),
            dns: Vec::new(),
            unswitched: None,
            endpoints: vec![endpoint],
            joins: Vec::new(),
            mode: String::new(),
            next_interface: Default::default(),
            publishes: Vec::new(),
            publish_from: Vec::new(),
            exposed: Vec::new(),
            links: Vec::new(),
            labels: Default::default(),
            image: String::new(),
        }
    }
}

impl Network {
    /// Whether it is an uplink whose far end is the host's sockets.
    pub fn is_user(&self) -> bool {
        self.user_options().is_some()
    }

    /// How flows leave by it, if it is a user uplink.
    pub fn user_options(&self) -> Option<&UserOptions> {
        match &self.uplink.as_ref()?.far_end {
            FarEnd::User(options) => Some(options),
            _ => None,
        }
    }

    /// The gateway's addresses with the lengths of their subnets.
    pub fn own_addresses(&self) -> Vec<IpNet> {
        let own = |subnet: &Subnet| IpNet::new(subnet.gateway(), subnet.prefix().prefix_len()).ok();
        self.subnets.iter().filter_map(own).collect()
    }
}

fn not_user(word: &str) -> Refused {
    let text = format!("uplink '{word}' has an interface: how it sends is up to that");
    Refused::new(Kind::BadUplink, text)
}

/// A next hop must be on the link, must not be ours, and there is one for each version.
fn check_gateways(network: &Network, gateways: &[IpAddr]) -> Result<(), Refused> {
    let name = &network.name;
    let bad = |text: String| Err(Refused::new(Kind::BadUplink, text));
    for (index, gateway) in gateways.iter().enumerate() {
        if network.subnets.iter().any(|subnet| subnet.gateway() == *gateway) {
            return bad(format!(
                "gateway {gateway} of uplink '{name}' is our own address there: give the next router's"
            ));
        }
        if gateways.iter().take(index).any(|other| other.is_ipv4() == gateway.is_ipv4()) {
            return bad(format!(
                "uplink '{name}' is given a second gateway of one IP version, {gateway}: give one"
            ));
        }
        let is_near = match gateway {
            IpAddr::V6(address) if address.is_unicast_link_local() => network.has_ipv6(),
            _ => network.subnet_of(*gateway).is_some(),
        };
        if !is_near || gateway.is_multicast() {
            let subnets: Vec<String> =
                network.subnets.iter().map(|subnet| subnet.prefix().to_string()).collect();
            return bad(format!(
                "gateway {gateway} of uplink '{name}' is not on its link: choose one in {}",
                subnets.join(" or ")
            ));
        }
    }
    Ok(())
}

fn unknown(word: &str) -> Refused {
    Refused::new(
        Kind::UnknownUplink,
        format!("uplink '{word}' is not known: 'tapswitch uplink ls' lists them"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::{container, id, network, refused, sample};
    use super::super::{EndpointSpec, NetworkSpec};
    use super::*;

    fn wan(far_end: FarEnd) -> UplinkSpec {
        UplinkSpec {
            name: "wan".to_owned(),
            far_end,
            addresses: ["198.51.100.1/24", "2001:db8::1/64"].map(|text| text.parse().unwrap()).to_vec(),
            gateways: ["198.51.100.2", "fe80::2"].map(|text| text.parse().unwrap()).to_vec(),
            mac: None,
            mtu: None,
            lab: None,
        }
    }

    fn tap() -> FarEnd {
        FarEnd::Tap("tap0".to_owned())
    }

    #[test]
    fn an_uplink_is_a_network_that_is_listed_apart() {
        let mut model = sample();
        let before = model.clone();
        model.create_uplink(&wan(tap()), id(30), 9).unwrap();
        let names = |networks: Vec<&Network>| networks.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(model.networks()), ["bridge", "net1", "net2"]);
        assert_eq!(names(model.uplinks()), ["wan"]);
        assert_eq!(names(model.all_networks()), ["bridge", "net1", "net2", "wan"]);
        assert_eq!(model.containers().len(), 2);
        let uplink = model.find_uplink("wan").unwrap();
        assert_eq!((uplink.bridge_name(), uplink.number), ("wan".to_owned(), 3));
        assert_eq!(uplink.gateway_mac().to_string(), "02:42:c6:33:64:01");
        let own: Vec<String> = uplink.own_addresses().iter().map(ToString::to_string).collect();
        assert_eq!(own, ["198.51.100.1/24", "2001:db8::1/64"]);
        let (container, port) = model.find_port("wan").unwrap();
        assert_eq!(
            (container.port_name(port), port.ifname.as_str(), port.port),
            ("wan".to_owned(), "tap0", 3)
        );
        assert!(port.addresses.is_empty() && port.mac != uplink.gateway_mac() && port.mac.is_station());
        assert_eq!(model.find_container("wan").unwrap_err().kind, Kind::UnknownContainer);
        assert_eq!(
            model.find_network("wan").unwrap_err().message,
            "'wan' is an uplink, no network: 'tapswitch uplink' has what there is for it"
        );
        model.remove_uplink("wan").unwrap();
        assert_eq!(model, before, "nothing is left behind");
    }

    #[test]
    fn only_the_container_that_it_leads_to_may_join() {
        let mut model = sample();
        model.create_uplink(&wan(FarEnd::Container("outside".to_owned())), id(30), 9).unwrap();
        let why = refused(&mut model, |model| {
            model.create_container(&container("eve", &["wan"]), id(31), 9).map(drop)
        });
        assert_eq!(
            why.message,
            "'wan' is an uplink, which container 'eve' cannot join: join a network, and be routed there"
        );
        let mut outside = container("outside", &["wan"]);
        outside.networks[0].addresses = vec!["198.51.100.2".parse().unwrap()];
        let endpoint = model.create_container(&outside, id(31), 9).unwrap().endpoints[0].clone();
        let addresses: Vec<String> = endpoint.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["198.51.100.2/24", "2001:db8::2/64"]);
        let why = refused(&mut model, |model| model.remove_uplink("wan").map(drop));
        assert_eq!(why.message, "uplink 'wan' leads to container 'outside': remove that first");
        let away = UplinkChange {
            addresses: vec!["203.0.113.1/24".parse().unwrap()],
            gateways: vec!["203.0.113.2".parse().unwrap()],
            ..UplinkChange::default()
        };
        let why = refused(&mut model, |model| model.set_uplink("wan", &away).map(drop));
        assert_eq!(why.kind, Kind::InUse, "{why}");
        let mtu = UplinkChange { mtu: Some(1400), ..UplinkChange::default() };
        assert_eq!(model.set_uplink("wan", &mtu).unwrap().options.mtu, 1400);
        let taken =
            EndpointSpec { addresses: vec!["198.51.100.2".parse().unwrap()], ..EndpointSpec::on("wan") };
        assert!(
            model.plan_endpoint(model.container(id(31)).unwrap(), &[], &taken).is_err(),
            "the lease is still there"
        );
    }

    #[test]
    fn changes_are_whole_or_none() {
        let mut model = sample();
        model.create_uplink(&wan(FarEnd::Packet("eno1".to_owned())), id(30), 9).unwrap();
        assert_eq!(model.find_port("wan").unwrap().1.mac.to_string(), "02:42:c6:33:64:01");
        let change = UplinkChange {
            addresses: vec!["203.0.113.1/24".parse().unwrap()],
            gateways: vec!["203.0.113.2".parse().unwrap()],
            ..UplinkChange::default()
        };
        let set = model.set_uplink("wan", &change).unwrap();
        assert_eq!((set.subnets.len(), set.number), (1, 3));
        assert_eq!(model.find_port("wan").unwrap().1.mac.to_string(), "02:42:cb:00:71:01");
        let table = [
            (
                UplinkChange { addresses: vec!["172.19.9.1/24".parse().unwrap()], ..UplinkChange::default() },
                Kind::SubnetOverlaps,
            ),
            (
                UplinkChange { gateways: vec!["192.0.2.1".parse().unwrap()], ..UplinkChange::default() },
                Kind::BadUplink,
            ),
            (UplinkChange { mtu: Some(60), ..UplinkChange::default() }, Kind::BadOption),
            (UplinkChange { mac: Some(MacAddr::BROADCAST), ..UplinkChange::default() }, Kind::BadMac),
        ];
        for (change, kind) in table {
            assert_eq!(refused(&mut model, |model| model.set_uplink("wan", &change).map(drop)).kind, kind);
        }
        assert_eq!(
            refused(&mut model, |model| model.set_uplink("net1", &change).map(drop)).kind,
            Kind::UnknownUplink
        );
    }

    #[test]
    fn uplinks_are_refused_with_the_reason() {
        let mut model = sample();
        let with = |edit: fn(&mut UplinkSpec)| {
            let mut spec = wan(tap());
            edit(&mut spec);
            spec
        };
        let table = [
            (
                with(|it| it.name = "net1".to_owned()),
                Kind::NameTaken,
                "network with name net1 already exists",
            ),
            (
                with(|it| it.name = "alice".to_owned()),
                Kind::NameTaken,
                "Conflict. The container name \"/alice\" is already in use",
            ),
            (
                with(|it| it.name = "any".to_owned()),
                Kind::BadName,
                "uplink name 'any' has a meaning of its own",
            ),
            (
                with(|it| it.name = "a-very-long-name".to_owned()),
                Kind::BadName,
                "interface name 'a-very-long-name'",
            ),
            (with(|it| it.far_end = FarEnd::Tap("a/b".to_owned())), Kind::BadName, "interface name 'a/b'"),
            (
                with(|it| it.addresses.clear()),
                Kind::BadUplink,
                "uplink 'wan' has no address of ours: give one",
            ),
            (
                with(|it| it.addresses = vec!["172.19.5.1/24".parse().unwrap()]),
                Kind::SubnetOverlaps,
                "Pool overlaps with other one on this address space: subnet 172.19.5.0/24 of uplink 'wan' overlaps 172.19.0.0/16 of network 'net1'",
            ),
            (
                with(|it| it.addresses.push("198.51.100.9/25".parse().unwrap())),
                Kind::BadSubnet,
                "uplink 'wan' is given two addresses in 198.51.100.0/25: give one",
            ),
            (
                with(|it| it.addresses = vec!["198.51.100.0/24".parse().unwrap()]),
                Kind::BadSubnet,
                "failed to allocate gateway (198.51.100.0): Address already in use",
            ),
            (
                with(|it| it.gateways = vec!["198.51.100.1".parse().unwrap()]),
                Kind::BadUplink,
                "gateway 198.51.100.1 of uplink 'wan' is our own address there",
            ),
            (
                with(|it| it.gateways = vec!["203.0.113.1".parse().unwrap()]),
                Kind::BadUplink,
                "gateway 203.0.113.1 of uplink 'wan' is not on its link: choose one in 198.51.100.0/24 or 2001:db8::/64",
            ),
            (
                with(|it| it.gateways.push("198.51.100.3".parse().unwrap())),
                Kind::BadUplink,
                "uplink 'wan' is given a second gateway of one IP version, 198.51.100.3: give one",
            ),
            (
                with(|it| it.mtu = Some(1000)),
                Kind::BadOption,
                "option 'mtu' of uplink 'wan' cannot be '1000'",
            ),
            (
                with(|it| it.mac = Some(MacAddr::ZERO)),
                Kind::BadMac,
                "MAC address 00:00:00:00:00:00 of uplink 'wan'",
            ),
        ];
        for (spec, kind, message) in table {
            let why = refused(&mut model, |model| model.create_uplink(&spec, id(30), 9).map(drop));
            assert!(why.kind == kind && why.message.starts_with(message), "{why} / {message}");
        }
    }

    #[test]
    fn a_network_may_prefer_an_uplink_that_is_there() {
        let mut model = sample();
        let prefers = |name: &str| NetworkSpec {
            options: vec![("uplink".to_owned(), "wan".to_owned())],
            ..network(name, &[])
        };
        let why = refused(&mut model, |model| model.create_network(&prefers("new"), id(9), 9, &[]).map(drop));
        assert_eq!(why.message, "uplink 'wan' is not known: 'tapswitch uplink ls' lists them");
        model.create_uplink(&wan(tap()), id(30), 9).unwrap();
        model.create_network(&prefers("new"), id(9), 9, &[]).unwrap();
        let why = refused(&mut model, |model| model.remove_uplink("wan").map(drop));
        assert_eq!(
            why.message,
            "uplink 'wan' is the one of network 'new': 'tapswitch network set new -o uplink=' first"
        );
        model.set_options("new", &[("uplink".to_owned(), String::new())]).unwrap();
        model.remove_uplink("wan").unwrap();
        // What a container may have for its own is not the gateway's.
        let mut spec = container("eve", &["new"]);
        spec.networks[0].mac = Some(model.find_network("new").unwrap().gateway_mac());
        let why = refused(&mut model, |model| model.create_container(&spec, id(31), 9).map(drop));
        assert!(why.message.ends_with("is in use by the gateway: choose another"), "{why}");
    }
}
