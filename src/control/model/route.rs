//! Static routes of the gateway.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Model, Network};
use crate::control::{Id, Kind, Refused};

/// A route, as a user asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteSpec {
    /// Where to.
    pub prefix: IpNet,
    /// The next hop.
    #[serde(default)]
    pub via: Option<IpAddr>,
    /// The network or uplink on whose link the next hop, or the destination itself, is.
    #[serde(default)]
    pub dev: Option<String>,
    /// The lab it came with, and goes with.
    #[serde(default)]
    pub lab: Option<String>,
}

/// A route that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticRoute {
    /// Where to.
    pub prefix: IpNet,
    /// The next hop; none when the destination is on the link.
    pub via: Option<IpAddr>,
    /// The network or uplink that it leads into.
    pub network: Id,
    /// The lab it came with, and goes with.
    pub lab: Option<String>,
}

impl Model {
    /// Static routes, in the order of their prefixes.
    pub fn routes(&self) -> impl Iterator<Item = &StaticRoute> {
        self.routes.values()
    }

    /// Adds a static route.
    ///
    /// # Errors
    /// `bad_route`, `route_exists`, `unknown_network`, `ambiguous`.
    pub fn add_route(&mut self, spec: &RouteSpec) -> Result<&StaticRoute, Refused> {
        let route = self.plan_route(spec)?;
        Ok(self.routes.entry(route.prefix).or_insert(route))
    }

    /// Removes the static route to a prefix.
    ///
    /// # Errors
    /// `unknown_route`.
    pub fn remove_route(&mut self, prefix: IpNet) -> Result<StaticRoute, Refused> {
        self.routes.remove(&prefix).ok_or_else(|| {
            let text = format!("there is no static route to {prefix}: 'tapswitch route ls' lists them");
            Refused::new(Kind::UnknownRoute, text)
        })
    }

    fn plan_route(&self, spec: &RouteSpec) -> Result<StaticRoute, Refused> {
        let RouteSpec { prefix, via, dev, lab } = spec;
        let bad = |text: String| Err(Refused::new(Kind::BadRoute, text));
        if prefix.trunc() != *prefix {
            return bad(format!("route to {prefix} has host bits set: write {}", prefix.trunc()));
        }
        if prefix.prefix_len() > 0 && is_special(prefix.addr()) {
            return bad(format!("route to {prefix} is of no use: such packets are not routed"));
        }
        let network = match (dev, via) {
            (Some(dev), _) => self.find_any_network(dev)?,
            (None, Some(via)) => self.network_near(*prefix, *via)?,
            (None, None) => {
                return bad(format!("route to {prefix} leads nowhere: say 'via IP' or 'dev NETWORK'"));
            }
        };
        match via {
            Some(via) => check_next_hop(network, *prefix, *via)?,
            None if !network
                .subnets
                .iter()
                .any(|it| it.prefix().addr().is_ipv4() == prefix.addr().is_ipv4()) =>
            {
                let (what, name) = (network.what(), &network.name);
                return bad(format!("route to {prefix}: {what} '{name}' has no address of this IP version"));
            }
            None => {}
        }
        let connected = self
            .all_networks()
            .into_iter()
            .find(|it| it.subnets.iter().any(|subnet| subnet.prefix() == *prefix));
        if let Some(owner) = connected {
            return bad(format!(
                "route to {prefix} is of no use: {} '{}' is this subnet itself",
                owner.what(),
                owner.name
            ));
        }
        if let Some(same) = self.routes.get(prefix) {
            let way = self.describe_way(same);
            let text =
                format!("there is a route to {prefix} {way} already: 'tapswitch route del {prefix}' first");
            return Err(Refused::new(Kind::RouteExists, text));
        }
        Ok(StaticRoute { prefix: *prefix, via: *via, network: network.id, lab: lab.clone() })
    }

    /// `via IP dev NETWORK`, of what there is.
    fn describe_way(&self, route: &StaticRoute) -> String {
        let dev = self.network(route.network).map_or("?", |network| network.name.as_str());
        route.via.map_or_else(|| format!("dev {dev}"), |via| format!("via {via}"))
    }

    /// The network on whose link a next hop is.
    fn network_near(&self, prefix: IpNet, via: IpAddr) -> Result<&Network, Refused> {
        let near = self.all_networks().into_iter().find(|network| network.subnet_of(via).is_some());
        near.ok_or_else(|| {
            let mend = match via {
                IpAddr::V6(address) if address.is_unicast_link_local() => "add 'dev NETWORK'",
                _ => "'tapswitch network ls' and 'tapswitch uplink ls' show what is there",
            };
            let text = format!("route to {prefix}: the next hop {via} is on no network or uplink: {mend}");
            Refused::new(Kind::BadRoute, text)
        })
    }

    /// A static route that needs this network.
    pub(super) fn route_into(&self, network: Id) -> Option<&StaticRoute> {
        self.routes.values().find(|route| route.network == network)
    }

    /// Whether all static routes into a network still have their next hops there.
    pub(super) fn check_routes_into(&self, network: &Network) -> Result<(), Refused> {
        let own = self.routes.values().filter(|route| route.network == network.id);
        own.into_iter().try_for_each(|route| {
            let near = route.via.map_or(Ok(()), |via| check_next_hop(network, route.prefix, via));
            near.map_err(|refused| Refused::new(Kind::InUse, refused.message))
        })
    }
}

/// Loopback, multicast, link-local: no destination of routes.
fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(it) => {
            it.is_loopback() || it.is_multicast() || it.is_link_local() || it.octets()[0] >= 240
        }
        IpAddr::V6(it) => it.is_loopback() || it.is_multicast() || it.is_unicast_link_local(),
    }
}

/// A next hop is of the prefix's version, on the network's link, and not ourselves.
fn check_next_hop(network: &Network, prefix: IpNet, via: IpAddr) -> Result<(), Refused> {
    let bad = |text: String| Err(Refused::new(Kind::BadRoute, text));
    let (what, name) = (network.what(), &network.name);
    if via.is_ipv4() != prefix.addr().is_ipv4() {
        return bad(format!("route to {prefix}: the next hop {via} is of the other IP version"));
    }
    if network.subnets.iter().any(|subnet| subnet.gateway() == via) {
        return bad(format!(
            "route to {prefix}: the next hop {via} is the gateway of {what} '{name}', which is us"
        ));
    }
    let is_near = match via {
        IpAddr::V6(address) if address.is_unicast_link_local() => network.has_ipv6(),
        _ => network.subnet_of(via).is_some_and(|subnet| subnet.is_usable(via)),
    };
    if is_near {
        return Ok(());
    }
    bad(format!("route to {prefix}: the next hop {via} is not on the link of {what} '{name}'"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{id, refused, sample};
    use super::super::{FarEnd, UplinkChange, UplinkSpec};
    use super::*;

    fn spec(prefix: &str, via: &str, dev: &str) -> RouteSpec {
        let via = if via.is_empty() { None } else { Some(via.parse().unwrap()) };
        let dev = Some(dev.to_owned()).filter(|dev| !dev.is_empty());
        RouteSpec { prefix: prefix.parse().unwrap(), via, dev, lab: None }
    }

    fn with_uplink() -> Model {
        let mut model = sample();
        let spec = UplinkSpec {
            name: "wan".to_owned(),
            far_end: FarEnd::Tap("tap0".to_owned()),
            addresses: ["198.51.100.1/24", "2001:db8::1/64"].map(|text| text.parse().unwrap()).to_vec(),
            gateways: Vec::new(),
            mac: None,
            mtu: None,
            lab: None,
        };
        model.create_uplink(&spec, id(30), 9).unwrap();
        model
    }

    #[test]
    fn next_hops_tell_the_network() {
        let mut model = with_uplink();
        let into = |model: &mut Model, prefix: &str, via: &str, dev: &str| {
            let network = model.add_route(&spec(prefix, via, dev)).unwrap().network;
            model.network(network).unwrap().name.clone()
        };
        assert_eq!(into(&mut model, "10.9.0.0/16", "172.19.0.3", ""), "net1");
        assert_eq!(into(&mut model, "0.0.0.0/0", "198.51.100.9", ""), "wan");
        assert_eq!(into(&mut model, "::/0", "fe80::9", "wan"), "wan");
        assert_eq!(into(&mut model, "10.8.0.0/16", "", "net2"), "net2");
        assert_eq!(
            into(&mut model, "172.19.5.0/24", "172.20.0.2", ""),
            "net2",
            "a part of a subnet may lie elsewhere"
        );
        assert_eq!(model.routes().count(), 5);
        let why = refused(&mut model, |model| model.remove_uplink("wan").map(drop));
        assert_eq!(
            why.message,
            "uplink 'wan' cannot be removed: the route to 0.0.0.0/0 leads into it, 'tapswitch route del 0.0.0.0/0' first"
        );
        let away =
            UplinkChange { addresses: vec!["203.0.113.1/24".parse().unwrap()], ..UplinkChange::default() };
        let why = refused(&mut model, |model| model.set_uplink("wan", &away).map(drop));
        assert_eq!(why.kind, Kind::InUse, "{why}");
        model.remove_route("10.9.0.0/16".parse().unwrap()).unwrap();
        let why = refused(&mut model, |model| model.remove_route("10.9.0.0/16".parse().unwrap()));
        assert_eq!(why.message, "there is no static route to 10.9.0.0/16: 'tapswitch route ls' lists them");
    }

    #[test]
    fn routes_are_refused_with_the_reason() {
        let mut model = with_uplink();
        model.add_route(&spec("10.9.0.0/16", "172.19.0.3", "")).unwrap();
        let table = [
            (
                "10.0.0.1/8",
                "172.19.0.3",
                "",
                Kind::BadRoute,
                "route to 10.0.0.1/8 has host bits set: write 10.0.0.0/8",
            ),
            ("224.0.0.0/8", "172.19.0.3", "", Kind::BadRoute, "route to 224.0.0.0/8 is of no use"),
            ("fe80::/64", "", "net1", Kind::BadRoute, "route to fe80::/64 is of no use"),
            (
                "10.0.0.0/8",
                "",
                "",
                Kind::BadRoute,
                "route to 10.0.0.0/8 leads nowhere: say 'via IP' or 'dev NETWORK'",
            ),
            (
                "10.0.0.0/8",
                "192.0.2.1",
                "",
                Kind::BadRoute,
                "route to 10.0.0.0/8: the next hop 192.0.2.1 is on no network or uplink",
            ),
            (
                "10.0.0.0/8",
                "192.0.2.1",
                "net1",
                Kind::BadRoute,
                "route to 10.0.0.0/8: the next hop 192.0.2.1 is not on the link of network 'net1'",
            ),
            (
                "10.0.0.0/8",
                "172.19.0.1",
                "",
                Kind::BadRoute,
                "route to 10.0.0.0/8: the next hop 172.19.0.1 is the gateway of network 'net1', which is us",
            ),
            (
                "10.0.0.0/8",
                "172.19.255.255",
                "",
                Kind::BadRoute,
                "route to 10.0.0.0/8: the next hop 172.19.255.255 is not on the link",
            ),
            (
                "10.0.0.0/8",
                "fd00:19::9",
                "",
                Kind::BadRoute,
                "route to 10.0.0.0/8: the next hop fd00:19::9 is of the other IP version",
            ),
            (
                "fd01::/64",
                "fe80::1",
                "",
                Kind::BadRoute,
                "route to fd01::/64: the next hop fe80::1 is on no network or uplink: add 'dev NETWORK'",
            ),
            (
                "fd01::/64",
                "",
                "net2",
                Kind::BadRoute,
                "route to fd01::/64: network 'net2' has no address of this IP version",
            ),
            (
                "172.20.0.0/16",
                "172.19.0.3",
                "",
                Kind::BadRoute,
                "route to 172.20.0.0/16 is of no use: network 'net2' is this subnet itself",
            ),
            (
                "10.9.0.0/16",
                "172.19.0.4",
                "",
                Kind::RouteExists,
                "there is a route to 10.9.0.0/16 via 172.19.0.3 already: 'tapswitch route del 10.9.0.0/16' first",
            ),
            ("10.0.0.0/8", "", "net9", Kind::UnknownNetwork, "network net9 not found: did you mean 'net1'?"),
        ];
        for (prefix, via, dev, kind, message) in table {
            let why = refused(&mut model, |model| model.add_route(&spec(prefix, via, dev)).map(drop));
            assert!(why.kind == kind && why.message.starts_with(message), "{why} / {message}");
        }
    }
}
