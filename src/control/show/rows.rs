//! Rows of the listings, and their tables.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::publishes::ports_column;
use super::table::Table;
use super::time::{duration, rfc3339};
use crate::control::Model;
use crate::control::model::{Container, ContainerKind, Endpoint, Network, State};

/// Docker's narrowest column.
const DOCKER: usize = 20;

/// A line of `network ls`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRow {
    /// All 64 digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `bridge`.
    pub driver: String,
    /// `local`, as this switch is the only one that has it.
    pub scope: String,
    /// Its interface-like name.
    pub bridge: String,
    /// Its IPv4 subnet.
    pub subnet: String,
    /// Its IPv6 subnet; empty if there is none.
    pub subnet6: String,
    /// The lab it came with; empty if none.
    pub lab: String,
    /// Endpoints on it.
    pub endpoints: usize,
}

/// A line of `ps`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRow {
    /// All 64 digits.
    pub id: String,
    /// Its name.
    pub name: String,
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
    /// The network's name.
    pub network: String,
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
    model.networks().into_iter().map(|network| network_row(model, network)).collect()
}

fn network_row(model: &Model, network: &Network) -> NetworkRow {
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
        endpoints: model.endpoints(network.id).len(),
    }
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
    let networks: Vec<&str> = networks.map(|network| network.name.as_str()).collect();
    let addresses = container.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
    let addresses: Vec<String> = addresses.map(|net| net.addr().to_string()).collect();
    ContainerRow {
        id: container.id.to_string(),
        name: container.name.clone(),
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
        Table::new(DOCKER, &["CONTAINER ID", "COMMAND", "CREATED", "STATUS", "PORTS", "NETWORKS", "NAMES"]);
    for row in rows {
        table.row(vec![
            shown_id(&row.id, no_trunc),
            shown_command(&row.command, no_trunc),
            row.running_for.clone(),
            row.status.clone(),
            row.ports.clone(),
            row.networks.clone(),
            row.name.clone(),
        ]);
    }
    table.render()
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
        network: network.name.clone(),
        mac: endpoint.mac.to_string(),
        ip: address(IpAddr::is_ipv4).map_or_else(String::new, |ip| ip.to_string()),
        ip6: address(IpAddr::is_ipv6).map_or_else(String::new, |ip| ip.to_string()),
        ..PortRow::default()
    }
}

/// `show ports`.
pub fn port_table(rows: &[PortRow]) -> String {
    let header = [
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
        let names = [&row.port, &row.alias, &row.network, &row.mac, &ips, &row.state].map(String::clone);
        let counters =
            [row.rx_frames, row.rx_bytes, row.tx_frames, row.tx_bytes, row.drops + row.kernel_drops];
        table.row(names.into_iter().chain(counters.map(|counter| counter.to_string())).collect());
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
010101010101        net1                bridge              local
020202020202        net2                bridge              local
";
        assert_eq!(network_table(&rows, false), expected);
        assert!(network_table(&rows, true).contains(&format!("{}   net1 ", "01".repeat(32))));
        let text = super::super::json(&rows[1..2]);
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
        "endpoints": 2
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
CONTAINER ID        COMMAND                  CREATED              STATUS                      PORTS                  NETWORKS            NAMES
0c0c0c0c0c0c        \"python3 -m http.ser…\"   22 seconds ago       Up 20 seconds               0.0.0.0:8000->80/tcp   net1,net2           router
0b0b0b0b0b0b        \"\"                       23 seconds ago       Created                                            net1                alice
0d0d0d0d0d0d        \"\"                       About a minute ago   Exited (3) 30 seconds ago                                              gone
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
        assert_eq!(lines[0].split_whitespace().next(), Some("PORT"));
        let router: Vec<&str> = lines[2].split_whitespace().collect();
        let alias = ports[1].alias.as_str();
        assert_eq!(
            router,
            [
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
}
