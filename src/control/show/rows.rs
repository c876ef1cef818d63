//! Rows of the listings, and their tables.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::filter::{Filters, names};
use super::listing::formatted;
use super::publishes::ports_column;
use super::table::Table;
use super::time::{duration, rfc3339, since_1970};
use crate::control::model::{Container, ContainerKind, Endpoint, Network, State, Unswitched};
use crate::control::ports::{Exposed, PortRange};
use crate::control::{Model, Refused};

/// Docker's narrowest column.
pub(super) const DOCKER: usize = 20;

/// A line of `network ls`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRow {
    /// All 64 digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `bridge`, `host`, `null`.
    pub driver: String,
    /// `local`, as this switch is the only one that has it.
    pub scope: String,
    /// Its interface-like name; empty for `host` and `none`.
    pub bridge: String,
    /// Its IPv4 subnet; empty for `host` and `none`.
    pub subnet: String,
    /// Its IPv6 subnet; empty if there is none.
    pub subnet6: String,
    /// The lab it came with; empty if none.
    pub lab: String,
    /// Endpoints on it.
    pub endpoints: usize,
    /// RFC 3339, UTC.
    pub created: String,
    /// Whether it has no way out.
    pub internal: bool,
    /// Its labels as `KEY=VALUE`.
    pub labels: Vec<String>,
}

/// A line of `ps`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRow {
    /// All 64 digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The image that was asked for, of which only the name is there; empty if none was.
    pub image: String,
    /// Its command, words joined by spaces; empty if it idles.
    pub command: String,
    /// RFC 3339, UTC.
    pub created: String,
    /// Docker's sentence for its age.
    pub running_for: String,
    /// Docker's sentence for its state: `Up 20 seconds`.
    pub status: String,
    /// `created`, `running`, `exited`, `lost`.
    pub state: String,
    /// Its first process; 0 if it does not run.
    pub pid: u32,
    /// Published and exposed ports, as Docker writes them, joined by commas.
    #[serde(default)]
    pub ports: String,
    /// Names of its networks, joined by commas.
    pub networks: String,
    /// Its addresses, joined by commas.
    pub addresses: String,
    /// The lab it came with; empty if none.
    pub lab: String,
    /// The exit code, if it has ended and that is known.
    pub exit_code: Option<i32>,
    /// Its labels as `KEY=VALUE`.
    pub labels: Vec<String>,
}

/// A line of `show ports`. The counters are the data plane's; a GSO frame counts as one frame, and
/// as many segments as it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PortRow {
    /// `CONTAINER:IFNAME`, or the container's name.
    pub port: String,
    /// `veth` and 7 digits.
    pub alias: String,
    /// The container's name.
    pub container: String,
    /// The interface inside.
    #[serde(default)]
    pub ifname: String,
    /// Its index there, which `ethtool -S` calls `peer_ifindex`; 0 before it is made.
    #[serde(default)]
    pub ifindex: u32,
    /// The network's name.
    pub network: String,
    /// The bridge that the alias is enslaved to in the views of other tools.
    #[serde(default)]
    pub bridge: String,
    /// The endpoint's MAC address.
    pub mac: String,
    /// Its IPv4 address.
    pub ip: String,
    /// Its IPv6 address; empty if it has none.
    pub ip6: String,
    /// `up`, `down`, `lost`.
    pub state: String,
    /// Frames that came from the container.
    pub rx_frames: u64,
    /// Their bytes, Ethernet header included.
    pub rx_bytes: u64,
    /// The segments they stand for.
    pub rx_segments: u64,
    /// Frames that went to the container.
    pub tx_frames: u64,
    /// Their bytes, Ethernet header included.
    pub tx_bytes: u64,
    /// The segments they stand for.
    pub tx_segments: u64,
    /// Frames that the switch dropped, for all reasons.
    pub drops: u64,
    /// Frames that the kernel's ring dropped.
    pub kernel_drops: u64,
}

/// A line of `show fdb`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdbRow {
    /// The network's name.
    pub network: String,
    /// The address.
    pub mac: String,
    /// The port it is at.
    pub port: String,
    /// The port's container.
    pub container: String,
    /// Seconds since a frame from it was last seen; none for a static entry.
    pub age: Option<u64>,
    /// Entered by hand: it does not age and does not move.
    #[serde(rename = "static")]
    pub is_static: bool,
}

/// A line of `show drops`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropRow {
    /// The port or `net:NAME` that it happened at.
    pub at: String,
    /// The reason's snake_case name.
    pub reason: String,
    /// Frames.
    pub count: u64,
    /// The reason in words.
    pub sentence: String,
}

/// Rows of `network ls`, by name.
pub fn network_rows(model: &Model) -> Vec<NetworkRow> {
    let counts = model.endpoint_counts();
    let on = |network: &Network| counts.get(&network.id).copied().unwrap_or_default();
    let switched = model.networks().into_iter().map(|network| network_row(network, on(network)));
    let unswitched = Unswitched::ALL.map(|network| unswitched_row(model, network));
    let mut rows: Vec<NetworkRow> = switched.chain(unswitched).collect();
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    rows
}

fn unswitched_row(model: &Model, network: Unswitched) -> NetworkRow {
    let (id, created_ns) = model.unswitched(network);
    NetworkRow {
        id: id.to_string(),
        name: network.name().to_owned(),
        driver: network.driver().to_owned(),
        scope: "local".to_owned(),
        bridge: String::new(),
        subnet: String::new(),
        subnet6: String::new(),
        lab: String::new(),
        endpoints: model.on_unswitched(network).len(),
        created: rfc3339(created_ns),
        internal: false,
        labels: Vec::new(),
    }
}

fn network_row(network: &Network, endpoints: usize) -> NetworkRow {
    let prefixes: Vec<IpNet> = network.subnets.iter().map(|subnet| subnet.prefix()).collect();
    let of = |ipv4: bool| prefixes.iter().find(|prefix| prefix.addr().is_ipv4() == ipv4);
    NetworkRow {
        id: network.id.to_string(),
        name: network.name.clone(),
        driver: network.driver.name().to_owned(),
        scope: "local".to_owned(),
        bridge: network.bridge_name(),
        subnet: of(true).map_or_else(String::new, IpNet::to_string),
        subnet6: of(false).map_or_else(String::new, IpNet::to_string),
        lab: network.lab.clone().unwrap_or_default(),
        endpoints,
        created: rfc3339(network.created_ns),
        internal: network.internal,
        labels: labels(&network.labels),
    }
}

fn labels(labels: &BTreeMap<String, String>) -> Vec<String> {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect()
}

impl NetworkRow {
    /// What `network ls -f` knows.
    pub const FILTERS: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];

    /// Whether `network prune` removes it: unused, and older than `until`, in nanoseconds since 1970.
    pub fn is_pruned(&self, filters: &Filters, until: Option<u64>) -> bool {
        let is_older = until.is_none_or(|until| since_1970(&self.created).is_some_and(|at| at < until));
        self.is_dangling() && filters.labels(&self.labels) && is_older
    }

    /// Whether nobody is on it and it can be removed.
    pub fn is_dangling(&self) -> bool {
        !self.is_builtin() && self.endpoints == 0
    }

    fn is_builtin(&self) -> bool {
        matches!(self.name.as_str(), "bridge" | "host" | "none")
    }

    /// Whether it is listed.
    pub fn fits(&self, filters: &Filters) -> bool {
        let builtin = self.is_builtin();
        let is = |yes: bool| move |value: &str| if yes { is_yes(value) } else { !is_yes(value) };
        filters.any("dangling", is(self.is_dangling()))
            && filters.any("driver", |driver| self.driver == driver)
            && filters.any("id", |id| self.id.starts_with(id))
            && filters.labels(&self.labels)
            && filters.any("name", |name| names(&self.name, name))
            && filters.any("scope", |scope| self.scope == scope)
            && filters.any("type", |kind| kind == if builtin { "builtin" } else { "custom" })
    }
}

fn is_yes(value: &str) -> bool {
    matches!(value, "true" | "1")
}

/// `network ls --format`.
///
/// # Errors
/// `bad_format`.
pub fn network_format(rows: &[NetworkRow], format: &str, no_trunc: bool) -> Result<String, Refused> {
    let columns = [
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("CreatedAt", "CREATED AT"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
    ];
    let row = |row: &NetworkRow| {
        vec![
            shown_id(&row.id, no_trunc),
            row.name.clone(),
            row.driver.clone(),
            row.scope.clone(),
            row.created.clone(),
            (!row.subnet6.is_empty()).to_string(),
            row.internal.to_string(),
            row.labels.join(","),
        ]
    };
    formatted(format, &columns, rows.iter().map(row))
}

/// `network ls`; ids whole if `no_trunc`.
pub fn network_table(rows: &[NetworkRow], no_trunc: bool) -> String {
    let mut table = Table::new(DOCKER, &["NETWORK ID", "NAME", "DRIVER", "SCOPE"]);
    for row in rows {
        table.row(vec![shown_id(&row.id, no_trunc), row.name.clone(), row.driver.clone(), row.scope.clone()]);
    }
    table.render()
}

/// Rows of `ps`, the youngest first; ended containers too if `all`.
pub fn container_rows(model: &Model, all: bool, now_ns: u64) -> Vec<ContainerRow> {
    let containers = model.containers().into_iter().rev();
    // A namespace of somebody else's that is lost waits for somebody to plug it in again.
    let is_wanted = |it: &&Container| {
        it.state == State::Running || (it.state, it.kind) == (State::Lost, ContainerKind::Plugged)
    };
    let shown = containers.filter(|container| all || is_wanted(container));
    shown.map(|container| container_row(model, container, now_ns)).collect()
}

fn container_row(model: &Model, container: &Container, now_ns: u64) -> ContainerRow {
    let networks = container.endpoints.iter().filter_map(|endpoint| model.network(endpoint.network));
    let unswitched = container.unswitched.filter(|_| container.is_alive()).map(Unswitched::name);
    // One that has ended is listed with those that it will be on when it runs again.
    let ended = container.joins.iter().filter(|_| !container.is_alive()).map(|join| join.network.as_str());
    let networks = networks.map(|network| network.name.as_str()).chain(unswitched).chain(ended);
    let networks: Vec<&str> = networks.collect();
    let addresses = container.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
    let addresses: Vec<String> = addresses.map(|net| net.addr().to_string()).collect();
    ContainerRow {
        id: container.id.to_string(),
        name: container.name.clone(),
        image: container.image.clone(),
        command: container.command.join(" "),
        created: rfc3339(container.created_ns),
        running_for: format!("{} ago", duration(now_ns.saturating_sub(container.created_ns))),
        status: status(container, now_ns),
        state: state_name(container.state).to_owned(),
        pid: container.pid.unwrap_or(0),
        ports: ports_column(model, container),
        networks: networks.join(","),
        addresses: addresses.join(","),
        lab: container.lab.clone().unwrap_or_default(),
        exit_code: match container.state {
            State::Exited { code } => Some(code),
            State::Created | State::Running | State::Lost => None,
        },
        labels: labels(&container.labels),
    }
}

impl ContainerRow {
    /// What `ps -f` knows.
    pub const FILTERS: [&str; 11] = [
        "ancestor", "before", "exited", "expose", "id", "label", "name", "network", "publish", "since",
        "status",
    ];

    /// Whether it has one of the ports in `wanted`: inner ones that are exposed, or outer ones that are published.
    fn has_port(&self, wanted: &str, published: bool) -> bool {
        let Ok(wanted) = wanted.parse::<Exposed>() else { return false };
        self.ports.split(", ").any(|shown| {
            // `0.0.0.0:8000->80/tcp`, or `80/tcp`.
            let (outer, inner) = shown.split_once("->").unwrap_or(("", shown));
            let outer = outer.rsplit(':').next().filter(|outer| !outer.is_empty());
            let Ok(Exposed { ports: inner, protocol }) = inner.parse() else { return false };
            let ports = if published { outer.and_then(|outer| outer.parse().ok()) } else { Some(inner) };
            protocol == wanted.protocol && ports.is_some_and(|ports: PortRange| ports.overlaps(wanted.ports))
        })
    }

    /// Whether it is listed.
    pub fn fits(&self, filters: &Filters) -> bool {
        let on = |network: &str| self.networks.split(',').any(|name| name == network);
        filters.any("exited", |code| self.exit_code.is_some_and(|own| own.to_string() == code))
            && filters.any("id", |id| self.id.starts_with(id))
            && filters.labels(&self.labels)
            && filters.any("name", |name| names(&self.name, name))
            && filters.any("network", on)
            && filters.any("ancestor", |image| self.image == image)
            && filters.any("publish", |ports| self.has_port(ports, true))
            && filters.any("expose", |ports| self.has_port(ports, false))
            && filters.any("status", |status| self.state == status)
    }
}

pub(super) const fn state_name(state: State) -> &'static str {
    match state {
        State::Created => "created",
        State::Running => "running",
        State::Exited { .. } => "exited",
        State::Lost => "lost",
    }
}

fn status(container: &Container, now_ns: u64) -> String {
    let since = duration(now_ns.saturating_sub(container.changed_ns));
    match container.state {
        State::Created => "Created".to_owned(),
        State::Running => format!("Up {since}"),
        State::Exited { code } => format!("Exited ({code}) {since} ago"),
        State::Lost => format!("Lost {since} ago"),
    }
}

/// `ps`; ids and commands whole if `no_trunc`.
pub fn container_table(rows: &[ContainerRow], no_trunc: bool) -> String {
    let mut table =
        Table::new(DOCKER, &["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
    for row in rows {
        table.row(vec![
            shown_id(&row.id, no_trunc),
            shown_image(&row.image),
            shown_command(&row.command, no_trunc),
            row.running_for.clone(),
            row.status.clone(),
            row.ports.clone(),
            row.name.clone(),
        ]);
    }
    table.render()
}

/// A container of ours has the host's files; of an image it has no more than the name that was typed.
fn shown_image(image: &str) -> String {
    if image.is_empty() { "-".to_owned() } else { image.to_owned() }
}

/// `ps --format`.
///
/// # Errors
/// `bad_format`.
pub fn container_format(rows: &[ContainerRow], format: &str, no_trunc: bool) -> Result<String, Refused> {
    let columns = [
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Ports", "PORTS"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Names", "NAMES"),
        ("Labels", "LABELS"),
        ("Networks", "NETWORKS"),
        ("Addresses", "ADDRESSES"),
        ("Mounts", "MOUNTS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Size", "SIZE"),
    ];
    let row = |row: &ContainerRow| {
        vec![
            shown_id(&row.id, no_trunc),
            shown_image(&row.image),
            shown_command(&row.command, no_trunc),
            row.created.clone(),
            row.running_for.clone(),
            row.ports.clone(),
            row.state.clone(),
            row.status.clone(),
            row.name.clone(),
            row.labels.join(","),
            row.networks.clone(),
            row.addresses.clone(),
            // There are no volumes, and no layer to write to.
            String::new(),
            "0".to_owned(),
            "0B".to_owned(),
        ]
    };
    formatted(format, &columns, rows.iter().map(row))
}

fn shown_id(id: &str, no_trunc: bool) -> String {
    id.chars().take(if no_trunc { id.len() } else { 12 }).collect()
}

/// Between double quotes, with at most 20 characters, as Docker; control characters escaped.
fn shown_command(command: &str, no_trunc: bool) -> String {
    let whole = no_trunc || command.chars().count() <= 20;
    let short: String =
        if whole { command.to_owned() } else { command.chars().take(19).chain(['…']).collect() };
    format!("{short:?}")
}

/// Rows of `show ports`, by port number; the caller sets states and counters, port by port.
pub fn port_rows(model: &Model) -> Vec<(u32, PortRow)> {
    let mut rows: Vec<(u32, PortRow)> = Vec::new();
    for network in model.all_networks() {
        let endpoints = model.endpoints(network.id).into_iter();
        rows.extend(
            endpoints.map(|(container, endpoint)| (endpoint.port, port_row(network, container, endpoint))),
        );
    }
    rows.sort_by_key(|(port, _)| *port);
    rows
}

fn port_row(network: &Network, container: &Container, endpoint: &Endpoint) -> PortRow {
    let address = |wanted: fn(&IpAddr) -> bool| endpoint.addresses.iter().map(IpNet::addr).find(wanted);
    PortRow {
        port: container.port_name(endpoint),
        alias: endpoint.alias.clone(),
        container: container.name.clone(),
        ifname: endpoint.ifname.clone(),
        network: network.name.clone(),
        bridge: network.bridge_name(),
        mac: endpoint.mac.to_string(),
        ip: address(IpAddr::is_ipv4).map_or_else(String::new, |ip| ip.to_string()),
        ip6: address(IpAddr::is_ipv6).map_or_else(String::new, |ip| ip.to_string()),
        ..PortRow::default()
    }
}

/// `show ports`: which port, alias and MAC address belong to which container.
pub fn port_table(rows: &[PortRow]) -> String {
    let header = [
        "CONTAINER",
        "PORT",
        "ALIAS",
        "NETWORK",
        "MAC",
        "IP",
        "STATE",
        "RX FRAMES",
        "RX BYTES",
        "TX FRAMES",
        "TX BYTES",
        "DROPS",
    ];
    let mut table = Table::new(0, &header);
    for row in rows {
        let ips = if row.ip6.is_empty() { row.ip.clone() } else { format!("{},{}", row.ip, row.ip6) };
        let names = [&row.container, &row.port, &row.alias, &row.network, &row.mac, &ips, &row.state];
        let counters =
            [row.rx_frames, row.rx_bytes, row.tx_frames, row.tx_bytes, row.drops + row.kernel_drops];
        table.row(names.into_iter().cloned().chain(counters.map(|counter| counter.to_string())).collect());
    }
    table.render()
}

/// `show fdb`.
pub fn fdb_table(rows: &[FdbRow]) -> String {
    let mut table = Table::new(0, &["NETWORK", "MAC", "PORT", "CONTAINER", "AGE"]);
    for row in rows {
        let age = match row.age {
            Some(seconds) if !row.is_static => format!("{seconds} s"),
            _ => "static".to_owned(),
        };
        table.row(vec![row.network.clone(), row.mac.clone(), row.port.clone(), row.container.clone(), age]);
    }
    table.render()
}

/// `show drops`.
pub fn drop_table(rows: &[DropRow]) -> String {
    let mut table = Table::new(0, &["AT", "REASON", "COUNT", "MEANING"]);
    for row in rows {
        table.row(vec![row.at.clone(), row.reason.clone(), row.count.to_string(), row.sentence.clone()]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::show::tests::model;

    const S: u64 = 1_000_000_000;

    #[test]
    fn network_ls_is_byte_exact() {
        let rows = network_rows(&model());
        let expected = "\
NETWORK ID          NAME                DRIVER              SCOPE
000000000000        bridge              bridge              local
HHHHHHHHHHHH        host                host                local
010101010101        net1                bridge              local
020202020202        net2                bridge              local
NNNNNNNNNNNN        none                null                local
";
        let expected =
            expected.replace("HHHHHHHHHHHH", &rows[1].id[..12]).replace("NNNNNNNNNNNN", &rows[4].id[..12]);
        assert_eq!(network_table(&rows, false), expected);
        assert!(network_table(&rows, true).contains(&format!("{}   net1 ", "01".repeat(32))));
        let text = super::super::json(&rows[2..3]);
        let expected = format!(
            r#"[
    {{
        "id": "{}",
        "name": "net1",
        "driver": "bridge",
        "scope": "local",
        "bridge": "br-010101010101",
        "subnet": "172.19.0.0/16",
        "subnet6": "fd00:19::/64",
        "lab": "demo",
        "endpoints": 2,
        "created": "1970-01-01T00:00:00Z",
        "internal": false,
        "labels": []
    }}
]
"#,
            "01".repeat(32)
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn ps_is_byte_exact() {
        let mut model = model();
        model.publish("router", &"0.0.0.0:8000:80".parse().unwrap()).unwrap();
        let rows = container_rows(&model, true, 100 * S);
        let expected = "\
CONTAINER ID        IMAGE               COMMAND                  CREATED              STATUS                      PORTS                  NAMES
0c0c0c0c0c0c        -                   \"python3 -m http.ser…\"   22 seconds ago       Up 20 seconds               0.0.0.0:8000->80/tcp   router
0b0b0b0b0b0b        -                   \"\"                       23 seconds ago       Created                                            alice
0d0d0d0d0d0d        -                   \"\"                       About a minute ago   Exited (3) 30 seconds ago                          gone
";
        assert_eq!(container_table(&rows, false), expected);
        let running = container_rows(&model, false, 100 * S);
        assert_eq!(running.len(), 1);
        assert_eq!(
            (running[0].state.as_str(), running[0].addresses.as_str()),
            ("running", "172.19.0.3,fd00:19::3,172.20.0.2")
        );
    }

    #[test]
    fn commands_are_quoted_and_cut() {
        assert_eq!(shown_command("httpd-foreground", false), "\"httpd-foreground\"");
        assert_eq!(shown_command("12345678901234567890", false), "\"12345678901234567890\"");
        assert_eq!(shown_command("123456789012345678901", false), "\"1234567890123456789…\"");
        assert_eq!(shown_command("a\n\u{1b}b\"", true), r#""a\n\u{1b}b\"""#);
    }

    #[test]
    fn ports_fdb_and_drops() {
        let mut ports: Vec<PortRow> = port_rows(&model()).into_iter().map(|(_, row)| row).collect();
        ports[1].state = "up".to_owned();
        ports[1].rx_frames = 12;
        ports[1].drops = 2;
        ports[1].kernel_drops = 1;
        let text = port_table(&ports);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].split_whitespace().next(), Some("CONTAINER"));
        let router: Vec<&str> = lines[2].split_whitespace().collect();
        let alias = ports[1].alias.as_str();
        assert_eq!(
            router,
            [
                "router",
                "router:eth0",
                alias,
                "net1",
                "02:42:ac:13:00:03",
                "172.19.0.3,fd00:19::3",
                "up",
                "12",
                "0",
                "0",
                "0",
                "3"
            ]
        );
        let fdb = |age, is_static| FdbRow {
            network: "net1".to_owned(),
            mac: "02:42:ac:13:00:03".to_owned(),
            port: "router:eth0".to_owned(),
            container: "router".to_owned(),
            age,
            is_static,
        };
        let rows = [fdb(Some(17), false), fdb(None, true)];
        let expected = "\
NETWORK   MAC                 PORT          CONTAINER   AGE
net1      02:42:ac:13:00:03   router:eth0   router      17 s
net1      02:42:ac:13:00:03   router:eth0   router      static
";
        assert_eq!(fdb_table(&rows), expected);
        assert!(super::super::json(&rows).contains("\"age\": null,\n        \"static\": true"));
        let drops = [DropRow {
            at: "alice".to_owned(),
            reason: "runt".to_owned(),
            count: 7,
            sentence: "shorter than an Ethernet header".to_owned(),
        }];
        assert_eq!(
            drop_table(&drops),
            "AT      REASON   COUNT   MEANING\nalice   runt     7       shorter than an Ethernet header\n"
        );
    }
    fn filtered(flags: &[&str]) -> Vec<String> {
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let asked = Filters::read(&flags, &ContainerRow::FILTERS).unwrap();
        let rows = container_rows(&model(), true, 100 * S);
        rows.into_iter().filter(|row| row.fits(&asked)).map(|row| row.name).collect()
    }

    #[test]
    fn ps_is_the_articles_byte_for_byte() {
        let row = ContainerRow {
            id: format!("69c1b74c1e81{}", "0".repeat(52)),
            name: "admiring_lumiere".to_owned(),
            image: "httpd".to_owned(),
            command: "httpd-foreground".to_owned(),
            running_for: "22 seconds ago".to_owned(),
            status: "Up 20 seconds".to_owned(),
            ports: "0.0.0.0:8000->80/tcp".to_owned(),
            created: String::new(),
            state: "running".to_owned(),
            pid: 1,
            networks: "bridge".to_owned(),
            addresses: "172.17.0.2".to_owned(),
            lab: String::new(),
            exit_code: None,
            labels: Vec::new(),
        };
        let expected = "\
CONTAINER ID        IMAGE               COMMAND              CREATED             STATUS              PORTS                  NAMES
69c1b74c1e81        httpd               \"httpd-foreground\"   22 seconds ago      Up 20 seconds       0.0.0.0:8000->80/tcp   admiring_lumiere
";
        assert_eq!(container_table(&[row], false), expected);
    }

    #[test]
    fn ps_can_be_cut_down() {
        let table: [(&[&str], &[&str]); 9] = [
            (&["status=exited"], &["gone"]),
            (&["status=created", "status=running"], &["router", "alice"]),
            (&["network=net2"], &["router", "gone"]),
            (&["network=net2", "status=running"], &["router"]),
            (&["network=net1", "name=ali"], &["alice"]),
            (&["id=0c"], &["router"]),
            (&["exited=3"], &["gone"]),
            (&["exited=0"], &[]),
            (&["label=x"], &[]),
        ];
        for (flags, expected) in table {
            assert_eq!(filtered(flags), expected, "{flags:?}");
        }
    }

    #[test]
    fn networks_can_be_cut_down() {
        let fitting = |flag: &str| {
            let asked = Filters::read(&[flag.to_owned()], &NetworkRow::FILTERS).unwrap();
            let rows = network_rows(&model());
            rows.into_iter().filter(|row| row.fits(&asked)).map(|row| row.name).collect::<Vec<_>>()
        };
        let table: [(&str, &[&str]); 8] = [
            ("driver=null", &["none"]),
            ("type=custom", &["net1", "net2"]),
            ("type=builtin", &["bridge", "host", "none"]),
            ("name=net", &["net1", "net2"]),
            ("name=^host$", &["host"]),
            ("id=01", &["net1"]),
            ("dangling=true", &[]),
            ("scope=swarm", &[]),
        ];
        for (flag, expected) in table {
            assert_eq!(fitting(flag), expected, "{flag}");
        }
    }

    #[test]
    fn formats_have_dockers_keys() {
        let rows = container_rows(&model(), true, 100 * S);
        let text =
            container_format(&rows[..1], "{{.ID}} {{.Names}} {{.Networks}} {{.Status}}", false).unwrap();
        assert_eq!(text, "0c0c0c0c0c0c router net1,net2 Up 20 seconds\n");
        let text =
            network_format(&network_rows(&model())[2..3], "{{.Name}} {{.IPv6}} {{.ID}}", true).unwrap();
        assert_eq!(text, format!("net1 true {}\n", "01".repeat(32)));
    }
}
