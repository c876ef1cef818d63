//! `show topology`: networks and containers as boxes, endpoints as lines.
//!
//! A network is a box above, with a line down; a container is a box at the left, with a line to
//! the right for each endpoint, which ends where it joins its network's line and passes through
//! the lines of others. Networks that no container ties together are drawn one below the other.

use crate::control::Model;
use crate::control::model::{Container, Endpoint, Network, State};

/// What lines are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Box drawing characters.
    Unicode,
    /// `+`, `-` and `|`.
    Ascii,
}

/// The networks, containers, ports and addresses of a model as text.
pub fn topology(model: &Model, style: Style) -> String {
    let mut canvas = Canvas { style, cells: Vec::new() };
    for (number, group) in groups(model).into_iter().enumerate() {
        if number > 0 {
            canvas.cells.push(Vec::new());
        }
        group.draw(&mut canvas);
    }
    canvas.text()
}

/// The same as a Graphviz graph.
pub fn dot(model: &Model) -> String {
    let mut text = "graph tapswitch {\n    node [shape=box];\n".to_owned();
    for network in model.all_networks() {
        let label = network_lines(network).join("\n");
        text.push_str(&format!(
            "    {} [label={}, shape=ellipse];\n",
            quoted(&node(network)),
            quoted(&label)
        ));
    }
    for container in model.containers().into_iter().filter(|container| container.is_alive()) {
        text.push_str(&format!("    {} [label={}];\n", quoted(&container.name), quoted(&title(container))));
        for endpoint in &container.endpoints {
            let Some(network) = model.network(endpoint.network) else { continue };
            let addresses = endpoint.addresses.iter().map(|net| net.addr().to_string());
            let label: Vec<String> =
                [endpoint.ifname.clone(), endpoint.alias.clone()].into_iter().chain(addresses).collect();
            let [from, to, label] =
                [&container.name, &node(network), &label.join("\n")].map(|text| quoted(text));
            text.push_str(&format!("    {from} -- {to} [label={label}];\n"));
        }
    }
    text.push_str("}\n");
    text
}

fn node(network: &Network) -> String {
    format!("net:{}", network.name)
}

/// A double-quoted string of the DOT language.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

fn title(container: &Container) -> String {
    match container.state {
        State::Running => container.name.clone(),
        State::Created => format!("{} (created)", container.name),
        State::Exited { .. } | State::Lost => format!("{} (ended)", container.name),
    }
}

fn network_lines(network: &Network) -> Vec<String> {
    let name = match &network.uplink {
        None => format!("{} ({})", network.name, network.bridge_name()),
        Some(uplink) => {
            format!("{} (uplink, {} {})", network.name, uplink.far_end.kind(), uplink.far_end.name())
        }
    };
    let subnets = network.subnets.iter().map(|subnet| subnet.prefix().to_string());
    std::iter::once(name).chain(subnets).collect()
}

/// Networks that containers tie together, and these containers.
#[derive(Default)]
struct Group<'a> {
    networks: Vec<&'a Network>,
    containers: Vec<&'a Container>,
}

/// The groups of a model: by their first network's name, then containers without a network.
fn groups(model: &Model) -> Vec<Group<'_>> {
    let alive: Vec<&Container> =
        model.containers().into_iter().filter(|container| container.is_alive()).collect();
    let mut groups: Vec<Group<'_>> = model
        .all_networks()
        .into_iter()
        .map(|network| Group { networks: vec![network], containers: Vec::new() })
        .collect();
    let mut alone = Group::default();
    for container in alive {
        let ties = |group: &Group<'_>| {
            let on =
                |endpoint: &Endpoint| group.networks.iter().any(|network| network.id == endpoint.network);
            container.endpoints.iter().any(on)
        };
        let Some(first) = groups.iter().position(&ties) else {
            alone.containers.push(container);
            continue;
        };
        let (tied, others): (Vec<_>, Vec<_>) = groups.drain(first + 1..).partition(&ties);
        groups.extend(others);
        if let Some(group) = groups.get_mut(first) {
            for other in tied {
                group.networks.extend(other.networks);
                group.containers.extend(other.containers);
            }
            group.containers.push(container);
        }
    }
    groups.into_iter().chain((!alone.containers.is_empty()).then_some(alone)).collect()
}

impl Group<'_> {
    fn draw(mut self, canvas: &mut Canvas) {
        self.networks.sort_by(|one, other| one.name.cmp(&other.name));
        let mut containers = std::mem::take(&mut self.containers);
        containers.sort_by_key(|container| self.order(container));
        self.containers = containers;
        let boxes: Vec<Vec<String>> =
            self.containers.iter().map(|container| self.container_lines(container)).collect();
        let left = boxes.iter().map(|lines| frame_width(lines)).max().unwrap_or(0);
        let top = canvas.cells.len();
        let buses = self.draw_networks(canvas, if left == 0 { 0 } else { left + 2 });
        let mut joins: Vec<(usize, usize)> = Vec::new();
        for (container, lines) in self.containers.iter().zip(&boxes) {
            let y = canvas.cells.len();
            canvas.frame(0, y, left, lines);
            let mut at = y + 2;
            for endpoint in &container.endpoints {
                let bus = self.networks.iter().position(|network| network.id == endpoint.network);
                joins.extend(bus.and_then(|bus| buses.get(bus)).map(|bus| (*bus, at)));
                at += endpoint.addresses.len().max(1);
            }
        }
        let bottom =
            top + self.networks.iter().map(|network| network_lines(network).len() + 2).max().unwrap_or(0);
        for bus in buses {
            canvas.bus(bus, bottom, &joins);
        }
        for (bus, y) in &joins {
            canvas.join(left, *bus, *y);
        }
    }

    /// Draws the networks side by side from column `x` on, and returns their lines' columns.
    fn draw_networks(&self, canvas: &mut Canvas, mut x: usize) -> Vec<usize> {
        let boxes: Vec<Vec<String>> = self.networks.iter().map(|network| network_lines(network)).collect();
        let height = boxes.iter().map(Vec::len).max().unwrap_or(0);
        let y = canvas.cells.len();
        let mut buses = Vec::new();
        for mut lines in boxes {
            lines.resize(height, String::new());
            let width = frame_width(&lines);
            canvas.frame(x, y, width, &lines);
            buses.push(x + width / 2);
            x += width + 2;
        }
        buses
    }

    /// Containers stand in the order of their first network, then of their ports.
    fn order(&self, container: &Container) -> (Option<usize>, Option<u32>) {
        let first = container.endpoints.first();
        let network = first
            .and_then(|endpoint| self.networks.iter().position(|network| network.id == endpoint.network));
        (network, first.map(|endpoint| endpoint.port))
    }

    /// A title, then for each endpoint one line an address: interface, address, port alias.
    fn container_lines(&self, container: &Container) -> Vec<String> {
        let endpoints = || self.containers.iter().flat_map(|container| &container.endpoints);
        let address_width =
            endpoints().flat_map(|endpoint| &endpoint.addresses).map(|net| net.addr().to_string().len());
        let address_width = address_width.max().unwrap_or(0);
        let name_width = endpoints().map(|endpoint| endpoint.ifname.len()).max().unwrap_or(0);
        let mut lines = vec![title(container)];
        for endpoint in &container.endpoints {
            let addresses = endpoint.addresses.iter().map(|net| net.addr().to_string());
            for (number, address) in addresses.enumerate() {
                let (name, alias) =
                    if number == 0 { (endpoint.ifname.as_str(), endpoint.alias.as_str()) } else { ("", "") };
                let line = format!("  {name:<name_width$}  {address:<address_width$}  {alias}");
                lines.push(line.trim_end().to_owned());
            }
        }
        lines
    }
}

/// A line of text needs a border and a space at each side.
fn frame_width(lines: &[String]) -> usize {
    lines.iter().map(|line| line.chars().count()).max().unwrap_or(0) + 4
}

/// Characters on a grid that grows to the right and down.
struct Canvas {
    style: Style,
    cells: Vec<Vec<char>>,
}

impl Canvas {
    fn put(&mut self, x: usize, y: usize, character: char) {
        if self.cells.len() <= y {
            self.cells.resize(y + 1, Vec::new());
        }
        let Some(line) = self.cells.get_mut(y) else { return };
        if line.len() <= x {
            line.resize(x + 1, ' ');
        }
        if let Some(cell) = line.get_mut(x) {
            *cell = character;
        }
    }

    fn line(&mut self, x: usize, y: usize, character: char) {
        let character = match (self.style, character) {
            (Style::Unicode, character) => character,
            (Style::Ascii, '─') => '-',
            (Style::Ascii, '│') => '|',
            (Style::Ascii, _) => '+',
        };
        self.put(x, y, character);
    }

    fn frame(&mut self, x: usize, y: usize, width: usize, lines: &[String]) {
        let (right, bottom) = (x + width - 1, y + lines.len() + 1);
        for x in x + 1..right {
            self.line(x, y, '─');
            self.line(x, bottom, '─');
        }
        for (x, y, corner) in [(x, y, '┌'), (right, y, '┐'), (x, bottom, '└'), (right, bottom, '┘')] {
            self.line(x, y, corner);
        }
        for (y, line) in (y + 1..).zip(lines) {
            self.line(x, y, '│');
            self.line(right, y, '│');
            for (x, character) in (x + 2..).zip(line.chars()) {
                self.put(x, y, character);
            }
        }
    }

    /// A network's line from below its box, which ends above `top`, through its joins to the last.
    fn bus(&mut self, x: usize, top: usize, joins: &[(usize, usize)]) {
        let own = || joins.iter().filter(|(bus, _)| *bus == x).map(|(_, y)| *y);
        let Some(last) = own().max() else { return };
        self.line(x, top - 1, '┬');
        for y in top..last {
            self.line(x, y, '│');
        }
        for y in own() {
            self.line(x, y, if y == last { '┘' } else { '┤' });
        }
    }

    /// An endpoint's line from the container's box, `left` wide, to the network's line.
    fn join(&mut self, left: usize, bus: usize, y: usize) {
        self.line(left - 1, y, '├');
        for x in left..bus {
            if self.is_blank(x, y) {
                self.line(x, y, '─');
            }
        }
    }

    fn is_blank(&self, x: usize, y: usize) -> bool {
        self.cells.get(y).and_then(|line| line.get(x)).is_none_or(|cell| *cell == ' ')
    }

    fn text(self) -> String {
        let line = |line: Vec<char>| line.into_iter().collect::<String>().trim_end().to_owned() + "\n";
        self.cells.into_iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::model;
    use super::*;

    use crate::control::Id;
    use crate::control::model::{ContainerSpec, EndpointSpec};

    #[test]
    fn boxes_and_lines() {
        let mut model = model();
        let on = |name: &str, networks: &[&str]| ContainerSpec {
            name: Some(name.to_owned()),
            networks: networks.iter().copied().map(EndpointSpec::on).collect(),
            ..ContainerSpec::default()
        };
        model.create_container(&on("bob", &["net1"]), Id::new([14; 32]), 0).unwrap();
        model.create_container(&on("alone", &[]), Id::new([15; 32]), 0).unwrap();
        let expected = "\
┌──────────────────┐
│ bridge (docker0) │
│ 172.17.0.0/16    │
└──────────────────┘

                                     ┌────────────────────────┐  ┌────────────────────────┐
                                     │ net1 (br-010101010101) │  │ net2 (br-020202020202) │
                                     │ 172.19.0.0/16          │  │ 172.20.0.0/16          │
                                     │ fd00:19::/64           │  │                        │
                                     └────────────┬───────────┘  └────────────┬───────────┘
┌─────────────────────────────────┐               │                           │
│ alice (created)                 │               │                           │
│   eth0  172.19.0.2  vethe69d7ab ├───────────────┤                           │
│         fd00:19::2              │               │                           │
└─────────────────────────────────┘               │                           │
┌─────────────────────────────────┐               │                           │
│ router                          │               │                           │
│   eth0  172.19.0.3  vethdd7088b ├───────────────┤                           │
│         fd00:19::3              │               │                           │
│   eth1  172.20.0.2  vethee9b9d8 ├───────────────│───────────────────────────┘
└─────────────────────────────────┘               │
┌─────────────────────────────────┐               │
│ bob (created)                   │               │
│   eth0  172.19.0.4  veth37ac42d ├───────────────┘
│         fd00:19::4              │
└─────────────────────────────────┘

┌─────────────────┐
│ alone (created) │
└─────────────────┘
";
        assert_eq!(topology(&model, Style::Unicode), expected);
        let ascii = topology(&model, Style::Ascii);
        let as_ascii = |c: char| match c {
            '─' => '-',
            '│' => '|',
            '┌' | '┐' | '└' | '┘' | '├' | '┤' | '┬' => '+',
            c => c,
        };
        assert_eq!(ascii, expected.chars().map(as_ascii).collect::<String>());
    }

    #[test]
    fn graphviz() {
        let expected = r#"graph tapswitch {
    node [shape=box];
    "net:bridge" [label="bridge (docker0)\n172.17.0.0/16", shape=ellipse];
    "net:net1" [label="net1 (br-010101010101)\n172.19.0.0/16\nfd00:19::/64", shape=ellipse];
    "net:net2" [label="net2 (br-020202020202)\n172.20.0.0/16", shape=ellipse];
    "alice" [label="alice (created)"];
    "alice" -- "net:net1" [label="eth0\nvethe69d7ab\n172.19.0.2\nfd00:19::2"];
    "router" [label="router"];
    "router" -- "net:net1" [label="eth0\nvethdd7088b\n172.19.0.3\nfd00:19::3"];
    "router" -- "net:net2" [label="eth1\nvethee9b9d8\n172.20.0.2"];
}
"#;
        assert_eq!(dot(&model()), expected);
        assert_eq!(quoted("a\"b\\c"), r#""a\"b\\c""#);
    }

    #[test]
    fn ten_containers_lose_nothing() {
        let mut model = model();
        for number in 20..30 {
            let spec = ContainerSpec {
                name: Some(format!("container-{number}")),
                networks: ["bridge", "net1", "net2"].map(EndpointSpec::on).to_vec(),
                ..ContainerSpec::default()
            };
            model.create_container(&spec, Id::new([number; 32]), 0).unwrap();
        }
        let text = topology(&model, Style::Unicode);
        for (container, endpoint) in ["bridge", "net1", "net2"]
            .iter()
            .flat_map(|name| model.endpoints(model.find_network(name).unwrap().id))
        {
            let line = text.lines().find(|line| line.contains(&endpoint.alias)).unwrap();
            assert!(line.contains(&endpoint.addresses[0].addr().to_string()), "{}: {line}", container.name);
        }
        // A line of bridge's bus ends each row of eth0; other buses pass on.
        let of = |ifname: &str| {
            text.lines()
                .filter(|line| line.contains(ifname))
                .map(|line| line.matches(['┤', '┘']).count())
                .collect::<Vec<_>>()
        };
        assert_eq!(of(" eth2 "), [1; 10], "each endpoint joins one network");
        assert!(text.lines().all(|line| line.chars().count() < 150));
    }
}
