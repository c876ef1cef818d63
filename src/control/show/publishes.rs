//! Published ports: `port`, the PORTS column of `ps`, and what `inspect` has of them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::table::Table;
use crate::control::model::Container;
use crate::control::ports::{Exposed, PortRange, Protocol, Publish, socket};
use crate::control::{Model, compile};

/// A line of `port`: a port, or range of them, that is published at one outer address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishRow {
    /// The container's name.
    pub container: String,
    /// Its port, or two with `-` between.
    pub container_port: String,
    /// `tcp`, `udp`.
    pub protocol: String,
    /// The outer address; `0.0.0.0` and `::` are any.
    pub host_ip: String,
    /// The outer port, or two.
    pub host_port: String,
    /// Where it can be reached now, on uplinks and on the host: `ADDRESS:PORT`, joined by commas; empty: nowhere.
    pub reachable: String,
    /// Who may call: prefixes, joined by commas; empty: everybody.
    #[serde(default)]
    pub from: String,
}

impl PublishRow {
    /// The places of the port that is `at` behind the first: what was asked for, then where that is.
    fn places(&self, at: u16) -> Vec<String> {
        let asked = self.host_ip.parse().map(|ip: IpAddr| socket(ip, &self.host_port)).unwrap_or_default();
        let asked = single(&asked, at);
        let reachable =
            self.reachable.split(',').filter(|place| !place.is_empty()).map(|place| single(place, at));
        let mut places = vec![asked];
        for place in reachable {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    /// Its ports; none if they make no sense.
    fn ports(&self) -> Option<PortRange> {
        self.container_port.parse().ok()
    }

    /// Lines as `docker port` prints them, each port on its own.
    fn lines(&self) -> Vec<String> {
        let from = if self.from.is_empty() { String::new() } else { format!(" from {}", self.from) };
        let Some(ports) = self.ports() else { return Vec::new() };
        let line = |port: u16| {
            let places = self.places(port - ports.first()).into_iter();
            places.map(|place| format!("{port}/{} -> {place}{from}\n", self.protocol)).collect::<Vec<_>>()
        };
        (ports.first()..=ports.last()).flat_map(line).collect()
    }
}

/// `ADDRESS:FIRST-LAST` as it is for the port that is `at` behind the first.
fn single(place: &str, at: u16) -> String {
    let one = || {
        let (address, ports) = place.rsplit_once(':')?;
        let port = ports.parse::<PortRange>().ok()?.first().checked_add(at)?;
        Some(format!("{address}:{port}"))
    };
    one().unwrap_or_else(|| place.to_owned())
}

/// What is published: by one container, or by all in the order of their names.
pub fn publish_rows(model: &Model, only: Option<&Container>) -> Vec<PublishRow> {
    let mut containers = only.map_or_else(|| model.containers(), |container| vec![container]);
    containers.sort_by(|one, other| one.name.cmp(&other.name));
    containers.into_iter().flat_map(|container| rows_of(model, container)).collect()
}

/// The rows of what one publish came to.
pub fn rows_of_publish(model: &Model, container: &Container, publish: &Publish) -> Vec<PublishRow> {
    let row = |address: IpAddr| PublishRow {
        container: container.name.clone(),
        container_port: publish.container.ports.to_string(),
        protocol: publish.container.protocol.name().to_owned(),
        host_ip: address.to_string(),
        host_port: publish.host.to_string(),
        reachable: reachable(model, container, publish, address),
        from: publish.sources(address).map(|source| source.to_string()).collect::<Vec<_>>().join(","),
    };
    shown_addresses(model, container, publish).map(row).collect()
}

fn rows_of(model: &Model, container: &Container) -> Vec<PublishRow> {
    in_order(container).into_iter().flat_map(|publish| rows_of_publish(model, container, publish)).collect()
}

/// A container's publishes in the order of its ports.
fn in_order(container: &Container) -> Vec<&Publish> {
    let mut publishes: Vec<&Publish> = container.publishes.iter().collect();
    publishes.sort_by_key(|publish| (publish.container, publish.host));
    publishes
}

/// The outer addresses that matter: that of any IPv6 address only when the container has one.
fn shown_addresses<'a>(
    model: &Model,
    container: &Container,
    publish: &'a Publish,
) -> impl Iterator<Item = IpAddr> + use<'a> {
    let has_ipv6 = model.way_out(&container.endpoints, false).is_some();
    publish.addresses().filter(move |address| address.is_ipv4() || has_ipv6 || !address.is_unspecified())
}

/// `ADDRESS:PORT` on each uplink where packets to the publish arrive; on the host, where its sockets listen.
fn reachable(model: &Model, container: &Container, publish: &Publish, at: IpAddr) -> String {
    if model.way_out(&container.endpoints, at.is_ipv4()).is_none() {
        return String::new();
    }
    let uplinks = model.uplinks().into_iter().filter(|uplink| !uplink.is_user());
    let own = uplinks.flat_map(|uplink| uplink.own_addresses());
    let wanted = own
        .map(|net| net.addr())
        .filter(|own| if at.is_unspecified() { own.is_ipv4() == at.is_ipv4() } else { *own == at });
    let host = compile::host_side(model, container, at).map(|_| at);
    wanted.chain(host).map(|own| socket(own, publish.host)).collect::<Vec<_>>().join(",")
}

/// `port`.
pub fn publish_table(rows: &[PublishRow]) -> String {
    let mut table = Table::new(0, &["CONTAINER", "PORT", "PUBLISHED", "FROM", "REACHABLE AT"]);
    for row in rows {
        let asked = row.host_ip.parse().map(|ip: IpAddr| socket(ip, &row.host_port)).unwrap_or_default();
        let inner = format!("{}/{}", row.container_port, row.protocol);
        let places = if row.reachable.is_empty() { "nowhere".to_owned() } else { row.reachable.clone() };
        let from = if row.from.is_empty() { "any".to_owned() } else { row.from.clone() };
        table.row(vec![row.container.clone(), inner, asked, from, places]);
    }
    table.render()
}

/// `port NAME`.
pub fn publish_lines(rows: &[PublishRow]) -> String {
    rows.iter().flat_map(PublishRow::lines).collect()
}

/// One port of the PORTS column: the container's, and where it is published.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Shown {
    inner: u16,
    outer: Option<(IpAddr, u16)>,
    protocol: Protocol,
}

/// The PORTS column: `443/tcp, 0.0.0.0:8000->80/tcp`. Ports in a row that keep their numbers are folded.
///
/// Source: `DisplayablePorts` in docker/cli's cli/command/formatter/container.go.
pub(super) fn ports_column(model: &Model, container: &Container) -> String {
    let mut folded: Vec<String> = Vec::new();
    let mut groups: Vec<(Option<IpAddr>, Protocol, u16, u16)> = Vec::new();
    let mut others: Vec<String> = Vec::new();
    let cell = |(ip, protocol, first, last): (Option<IpAddr>, Protocol, u16, u16)| {
        let ports = if first == last { first.to_string() } else { format!("{first}-{last}") };
        let outer = ip.map_or_else(String::new, |ip| format!("{}->", socket(ip, &ports)));
        format!("{outer}{ports}/{}", protocol.name())
    };
    for Shown { inner, outer, protocol } in shown_ports(model, container) {
        if let Some((ip, port)) = outer.filter(|(_, port)| *port != inner) {
            others.push(format!("{}->{inner}/{}", socket(ip, port), protocol.name()));
            continue;
        }
        let ip = outer.map(|(ip, _)| ip);
        match groups.iter_mut().find(|(its, of, ..)| (*its, *of) == (ip, protocol)) {
            Some((_, _, _, last)) if last.checked_add(1) == Some(inner) => *last = inner,
            Some(group) => folded.push(cell(std::mem::replace(group, (ip, protocol, inner, inner)))),
            None => groups.push((ip, protocol, inner, inner)),
        }
    }
    folded.extend(groups.into_iter().map(cell));
    folded.extend(others);
    folded.join(", ")
}

/// Every port on its own, in Docker's order.
fn shown_ports(model: &Model, container: &Container) -> Vec<Shown> {
    let mut all = Vec::new();
    for publish in &container.publishes {
        let (inner, protocol) = (publish.container.ports, publish.container.protocol);
        for ip in shown_addresses(model, container, publish) {
            let pairs = (inner.first()..=inner.last()).zip(publish.host.first()..=publish.host.last());
            all.extend(pairs.map(|(inner, outer)| Shown { inner, outer: Some((ip, outer)), protocol }));
        }
    }
    let bare = container.exposed.iter().filter(|_| container.is_alive());
    for Exposed { ports, protocol } in bare {
        let exposed =
            (ports.first()..=ports.last()).map(|inner| Shown { inner, outer: None, protocol: *protocol });
        let is_bare = |it: &Shown| !container.publishes.iter().any(|publish| publishes(publish, it));
        all.extend(exposed.filter(is_bare));
    }
    all.sort();
    all.dedup();
    all
}

fn publishes(publish: &Publish, port: &Shown) -> bool {
    let ports = publish.container.ports;
    publish.container.protocol == port.protocol && (ports.first()..=ports.last()).contains(&port.inner)
}

/// `port NAME PORT`: where one port of a container can be reached, a place a line.
pub fn publish_places(rows: &[PublishRow], port: u16, protocol: &str) -> Vec<String> {
    let of = |row: &PublishRow| {
        let ports = row.ports().filter(|ports| port <= ports.last() && row.protocol == protocol)?;
        port.checked_sub(ports.first()).map(|at| row.places(at))
    };
    rows.iter().filter_map(of).flatten().collect()
}

/// `HostConfig.PortBindings` of `inspect`: what was asked for, and what came of it where that was open.
pub(super) fn port_bindings(container: &Container) -> Map<String, Value> {
    let mut all = Map::new();
    for publish in in_order(container) {
        let (inner, outer) = (publish.container.ports, publish.host);
        let asked: Vec<String> = publish.addresses().map(|ip| ip.to_string()).collect();
        let any = publish.addresses().filter(IpAddr::is_unspecified).count() == 2;
        let asked = if any { vec![String::new()] } else { asked };
        for (port, host) in (inner.first()..=inner.last()).zip(outer.first()..=outer.last()) {
            let fresh = asked.iter().map(|ip| json!({"HostIp": ip, "HostPort": host.to_string()}));
            let slot =
                all.entry(format!("{port}/{}", publish.container.protocol.name())).or_insert(json!([]));
            if let Value::Array(bindings) = slot {
                bindings.extend(fresh);
            }
        }
    }
    all
}

/// `NetworkSettings.Ports` of `inspect`: each port with its outer places, null for one that has none.
pub(super) fn inspect_ports(model: &Model, container: &Container) -> Map<String, Value> {
    let mut all = Map::new();
    for exposed in container.exposed_ports() {
        for port in exposed.ports.first()..=exposed.ports.last() {
            all.insert(format!("{port}/{}", exposed.protocol.name()), Value::Null);
        }
    }
    for publish in in_order(container) {
        let (inner, outer) = (publish.container.ports, publish.host);
        for (port, host) in (inner.first()..=inner.last()).zip(outer.first()..=outer.last()) {
            let at = |address: IpAddr| binding(publish, address, host);
            let fresh = shown_addresses(model, container, publish).map(at);
            let slot =
                all.entry(format!("{port}/{}", publish.container.protocol.name())).or_insert(Value::Null);
            match slot {
                Value::Array(bindings) => bindings.extend(fresh),
                _ => *slot = Value::Array(fresh.collect()),
            }
        }
    }
    all
}

/// An outer place, as Docker writes it; `From` is ours, and there when not everybody may call.
fn binding(publish: &Publish, address: IpAddr, port: u16) -> Value {
    let mut binding = json!({"HostIp": address.to_string(), "HostPort": port.to_string()});
    let sources: Vec<String> = publish.sources(address).map(|source| source.to_string()).collect();
    if let (Value::Object(fields), false) = (&mut binding, sources.is_empty()) {
        fields.insert("From".to_owned(), sources.into());
    }
    binding
}

#[cfg(test)]
mod tests {
    use super::super::tests::model;
    use super::*;
    use crate::control::Id;
    use crate::control::model::{FarEnd, UplinkSpec};

    fn published() -> Model {
        let mut model = model();
        let wan = UplinkSpec {
            name: "wan".to_owned(),
            far_end: FarEnd::Tap("tap0".to_owned()),
            addresses: ["198.51.100.1/24", "2001:db8::1/64"].map(|text| text.parse().unwrap()).to_vec(),
            gateways: Vec::new(),
            mac: None,
            mtu: None,
            lab: None,
        };
        model.create_uplink(&wan, Id::new([30; 32]), 0).unwrap();
        for text in ["8000:80", "198.51.100.1:7000-7001:53-54/udp", "203.0.113.9:9000:22"] {
            model.publish("router", &text.parse().unwrap()).unwrap();
        }
        model
    }

    #[test]
    fn port_says_what_was_asked_for_and_where_it_is() {
        let model = published();
        let router = model.find_container("router").unwrap();
        let expected = "\
CONTAINER   PORT        PUBLISHED                FROM   REACHABLE AT
router      22/tcp      203.0.113.9:9000         any    nowhere
router      53-54/udp   198.51.100.1:7000-7001   any    198.51.100.1:7000-7001
router      80/tcp      0.0.0.0:8000             any    198.51.100.1:8000
router      80/tcp      [::]:8000                any    [2001:db8::1]:8000
";
        assert_eq!(publish_table(&publish_rows(&model, None)), expected);
        let expected = "\
22/tcp -> 203.0.113.9:9000
53/udp -> 198.51.100.1:7000
54/udp -> 198.51.100.1:7001
80/tcp -> 0.0.0.0:8000
80/tcp -> 198.51.100.1:8000
80/tcp -> [::]:8000
80/tcp -> [2001:db8::1]:8000
";
        assert_eq!(publish_lines(&publish_rows(&model, Some(router))), expected);
        assert!(publish_rows(&model, Some(model.find_container("alice").unwrap())).is_empty());
    }

    #[test]
    fn one_port_and_its_places() {
        let model = published();
        let rows = publish_rows(&model, Some(model.find_container("router").unwrap()));
        let table: [(u16, &str, &[&str]); 5] = [
            (80, "tcp", &["0.0.0.0:8000", "198.51.100.1:8000", "[::]:8000", "[2001:db8::1]:8000"]),
            (53, "udp", &["198.51.100.1:7000"]),
            (54, "udp", &["198.51.100.1:7001"]),
            (54, "tcp", &[]),
            (81, "tcp", &[]),
        ];
        for (port, protocol, places) in table {
            assert_eq!(publish_places(&rows, port, protocol), places, "{port}/{protocol}");
        }
    }

    #[test]
    fn who_may_call_is_shown_per_version() {
        let mut model = published();
        let from = ["192.0.2.0/24", "192.0.0.2/32", "2001:db8::/32"].map(|text| text.parse().unwrap());
        model.publish_from("router", &"8443:443".parse().unwrap(), &from).unwrap();
        let only_v4 = "9443:444".parse().unwrap();
        model.publish_from("router", &only_v4, &from[..2]).unwrap();
        let router = model.find_container("router").unwrap();
        let rows = publish_rows(&model, None);
        let seen: Vec<_> = rows.iter().filter(|row| !row.from.is_empty()).collect();
        let seen: Vec<_> = seen.iter().map(|row| (&*row.host_ip, &*row.host_port, &*row.from)).collect();
        let v4 = "192.0.2.0/24,192.0.0.2/32";
        assert_eq!(
            seen,
            [("0.0.0.0", "8443", v4), ("::", "8443", "2001:db8::/32"), ("0.0.0.0", "9443", v4)],
            "and nothing for IPv6 where nobody may call"
        );
        assert!(publish_lines(&rows).contains("443/tcp -> [::]:8443 from 2001:db8::/32\n"));
        let ports = inspect_ports(&model, router);
        assert_eq!(
            ports["443/tcp"][1],
            json!({"HostIp": "::", "HostPort": "8443", "From": ["2001:db8::/32"]})
        );
        assert_eq!(ports["22/tcp"][0].get("From"), None);
        model.unpublish("router", &"443".parse().unwrap()).unwrap();
        model.publish("router", &"8443:443".parse().unwrap()).unwrap();
        assert_eq!(publish_rows(&model, None).iter().filter(|row| !row.from.is_empty()).count(), 1);
    }

    #[test]
    fn the_column_is_dockers() {
        let mut model = published();
        let column = |model: &Model, name: &str| ports_column(model, model.find_container(name).unwrap());
        assert_eq!(
            column(&model, "router"),
            "203.0.113.9:9000->22/tcp, 198.51.100.1:7000->53/udp, 198.51.100.1:7001->54/udp, 0.0.0.0:8000->80/tcp, [::]:8000->80/tcp"
        );
        model.disconnect("router", "net1").unwrap();
        model.unpublish("router", &"53-54/udp".parse().unwrap()).unwrap();
        model.unpublish("router", &"22".parse().unwrap()).unwrap();
        assert_eq!(column(&model, "router"), "0.0.0.0:8000->80/tcp", "net2 has no IPv6");
        model.publish("router", &"90-92:90-92".parse().unwrap()).unwrap();
        model.publish("router", &"94:94".parse().unwrap()).unwrap();
        let exposed = ["70-72", "91", "53/udp"].map(|text| text.parse().unwrap());
        model.expose("router", &exposed).unwrap();
        assert_eq!(
            column(&model, "router"),
            "0.0.0.0:90-92->90-92/tcp, 53/udp, 70-72/tcp, 0.0.0.0:94->94/tcp, 0.0.0.0:8000->80/tcp",
            "folded where numbers are kept, and exposed alone where they are not published"
        );
    }

    #[test]
    fn inspect_has_each_port_of_a_range() {
        let model = published();
        let ports = inspect_ports(&model, model.find_container("router").unwrap());
        let expected = json!({
            "22/tcp": [{"HostIp": "203.0.113.9", "HostPort": "9000"}],
            "53/udp": [{"HostIp": "198.51.100.1", "HostPort": "7000"}],
            "54/udp": [{"HostIp": "198.51.100.1", "HostPort": "7001"}],
            "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8000"}, {"HostIp": "::", "HostPort": "8000"}],
        });
        assert_eq!(Value::Object(ports), expected);
    }
}
