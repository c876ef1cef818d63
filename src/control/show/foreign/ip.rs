//! `ip address`, `ip link`, `ip neighbour`, as iproute2 prints them (`ip/ipaddress.c`, `ip/ipneigh.c`); `ip route`
//! is in [`super::ip_route`].
//!
//! Bridges and veths have no queue, and no length of one, as those that Docker makes. A veth's other end is in the
//! container, whose namespace has a number: containers by their oldest port.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::ip_route::IpRoute;
use super::{Need, Tables, asks_to_list, meant};
use crate::control::show::interfaces::InterfaceRow;
use crate::control::show::known::NeighRow;

/// One invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ip {
    options: Options,
    object: Object,
}

/// What stands before the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Options {
    /// `-4` or `-6`.
    family: Option<Family>,
    /// `-br`.
    brief: bool,
    /// `-o`: a line an interface, or an address.
    one_line: bool,
}

/// An IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Object {
    Address(Filter),
    Link(Filter),
    Neighbour(Filter),
    Route(IpRoute),
}

/// Which interfaces, or those of which entries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Filter {
    device: Option<String>,
    master: Option<String>,
    kind: Option<String>,
    up: bool,
    state: Option<String>,
}

impl Ip {
    pub(super) fn read(words: &[&str]) -> Result<Self, String> {
        let flags = words.iter().take_while(|word| word.starts_with('-')).count();
        let (flags, words) = words.split_at(flags);
        let options = options(flags)?;
        let (object, rest) = words.split_first().map_or(("", &[][..]), |(object, rest)| (*object, rest));
        let object = meant(object, &["address", "route", "neighbor", "neighbour", "link"]);
        let (verb, rest) = rest.split_first().map_or(("show", rest), |(verb, rest)| (*verb, rest));
        let object = match object {
            Some("route") => Object::Route(IpRoute::read(options.family, verb, rest)?),
            Some(object) if asks_to_list(verb) => {
                let filter = filter(rest, object)?;
                match object {
                    "address" => Object::Address(filter),
                    "link" => Object::Link(filter),
                    _ => Object::Neighbour(filter),
                }
            }
            Some(object) => return Err(instead(object, verb)),
            None => {
                return Err(
                    "'ip' has views of address, link, neigh and route here: 'ip address', 'ip -br link', \
                            'ip neigh show dev docker0', 'ip route'"
                        .to_owned(),
                );
            }
        };
        Ok(Self { options, object })
    }

    pub(super) fn needs(&self) -> Vec<Need> {
        match &self.object {
            Object::Address(_) | Object::Link(_) => vec![Need::Interfaces],
            Object::Neighbour(_) => vec![Need::Interfaces, Need::Neighbours],
            Object::Route(_) => vec![Need::Interfaces, Need::Routes],
        }
    }

    /// The interfaces that are asked for by their names.
    pub(super) fn devices(&self) -> Vec<&str> {
        let named = match &self.object {
            Object::Address(filter) | Object::Link(filter) | Object::Neighbour(filter) => {
                filter.device.iter().chain(&filter.master).collect()
            }
            Object::Route(route) => Vec::from_iter(route.device()),
        };
        named.into_iter().map(String::as_str).collect()
    }

    pub(super) fn draw(&self, tables: &Tables) -> Result<String, String> {
        let known = |name: &String| match tables.interface(name) {
            Some(_) => Ok(()),
            None => Err(format!("Device \"{name}\" does not exist.")),
        };
        match &self.object {
            Object::Address(filter) | Object::Link(filter) => {
                filter.device.iter().chain(&filter.master).try_for_each(known)?;
                let rows = tables.interfaces.iter().filter(|row| filter.picks(row));
                let links = matches!(self.object, Object::Link(_));
                let namespaces = namespaces(tables);
                Ok(rows.map(|row| self.options.shown(row, links, &namespaces)).collect())
            }
            Object::Neighbour(filter) => {
                filter.device.iter().try_for_each(known)?;
                Ok(neighbours(tables, filter, self.options.family))
            }
            Object::Route(route) => {
                route.device().into_iter().try_for_each(known)?;
                Ok(route.draw(tables))
            }
        }
    }
}

fn options(flags: &[&str]) -> Result<Options, String> {
    let mut options = Options::default();
    for flag in flags {
        match flag.trim_start_matches('-') {
            "4" => options.family = Some(Family::V4),
            "6" => options.family = Some(Family::V6),
            word if word.starts_with("br") && "brief".starts_with(word) => options.brief = true,
            word if !word.is_empty() && "oneline".starts_with(word) => options.one_line = true,
            // Times and colours that a view has none of.
            word if word.starts_with('c') || "numeric".starts_with(word) => {}
            word if ["statistics", "stats"].iter().any(|long| !word.is_empty() && long.starts_with(word)) => {
                return Err(format!(
                    "'ip {flag}' is not known here: 'tapswitch show ports' has the counters"
                ));
            }
            word if word.starts_with('j') => {
                return Err(format!(
                    "'ip {flag}' is not known here: 'tapswitch --json show interfaces', or neigh, or routes"
                ));
            }
            _ => return Err(format!("'ip {flag}' is not known here: there are -4, -6, -o and -br")),
        }
    }
    Ok(options)
}

fn filter(mut words: &[&str], object: &str) -> Result<Filter, String> {
    let mut filter = Filter::default();
    let owned = |word: &str| Some(word.to_owned());
    loop {
        words = match words {
            [] => return Ok(filter),
            ["up", rest @ ..] => {
                filter.up = true;
                rest
            }
            ["dev", name, rest @ ..] => {
                filter.device = owned(name);
                rest
            }
            ["master", name, rest @ ..] if !object.starts_with("neigh") => {
                filter.master = owned(name);
                rest
            }
            ["type", kind, rest @ ..] if !object.starts_with("neigh") => {
                filter.kind = owned(kind);
                rest
            }
            ["nud", state, rest @ ..] if object.starts_with("neigh") => {
                filter.state = owned(state);
                rest
            }
            [name, rest @ ..] if filter.device.is_none() && !object.starts_with("neigh") => {
                filter.device = owned(name);
                rest
            }
            [word, ..] => return Err(format!("'ip {object} show' does not know '{word}' here")),
        }
    }
}

fn instead(object: &str, verb: &str) -> String {
    let line = match object {
        "link" => {
            "'tapswitch port set PORT up|down' sets a port, 'tapswitch network create' makes a bridge, \
             'tapswitch network connect' enslaves a port"
        }
        "address" => "'tapswitch network create --subnet .. --gateway ..' gives a bridge its address",
        _ => "neighbours are found by ARP and neighbour discovery, and none can be entered",
    };
    format!("'ip {object} {verb}' is no view: {line}")
}

impl Filter {
    fn picks(&self, row: &InterfaceRow) -> bool {
        let is = |wanted: &Option<String>, it: &str| wanted.as_ref().is_none_or(|wanted| wanted == it);
        is(&self.device, &row.name)
            && is(&self.master, &row.master)
            && is(&self.kind, &row.kind)
            && (!self.up || row.state != "down")
    }
}

/// The index and name that a line begins with.
pub(super) fn head(row: &InterfaceRow) -> String {
    format!("{}: {}: <{}>", row.index, full_name(row), flags(row))
}

/// With the index of the other end, of a veth.
fn full_name(row: &InterfaceRow) -> String {
    if row.kind == "veth" { format!("{}@if{}", row.name, row.peer_ifindex) } else { row.name.clone() }
}

fn flags(row: &InterfaceRow) -> &'static str {
    match row.state.as_str() {
        "up" => "BROADCAST,MULTICAST,UP,LOWER_UP",
        "down" => "BROADCAST,MULTICAST",
        _ => "NO-CARRIER,BROADCAST,MULTICAST,UP",
    }
}

/// RFC 2863's state, as the kernel has it: of what hangs on another interface, that this one is down.
fn operational(row: &InterfaceRow) -> &'static str {
    match row.state.as_str() {
        "up" => "UP",
        "link-down" | "lost" if row.kind == "veth" => "LOWERLAYERDOWN",
        _ => "DOWN",
    }
}

/// The number of each container's namespace.
fn namespaces(tables: &Tables) -> BTreeMap<&str, usize> {
    let mut numbers = BTreeMap::new();
    for row in tables.interfaces.iter().filter(|row| row.kind == "veth") {
        let next = numbers.len();
        numbers.entry(row.container.as_str()).or_insert(next);
    }
    numbers
}

impl Options {
    fn shows(self, address: &str) -> bool {
        self.family.is_none_or(|family| (family == Family::V6) == address.contains(':'))
    }

    fn shown(self, row: &InterfaceRow, links: bool, namespaces: &BTreeMap<&str, usize>) -> String {
        if !self.one_line || self.brief {
            return self.interface(row, links, namespaces);
        }
        if links {
            return joined(&self.interface(row, links, namespaces));
        }
        let addresses = row.addresses.iter().filter(|address| self.shows(address));
        let line = |address: &String| {
            format!("{}: {}{}", row.index, row.name, joined(&address_lines(address, &row.name)))
        };
        addresses.map(line).collect()
    }

    fn interface(self, row: &InterfaceRow, links: bool, namespaces: &BTreeMap<&str, usize>) -> String {
        let addresses: Vec<&String> =
            row.addresses.iter().filter(|address| self.shows(address) && !links).collect();
        if self.family.is_some() && !links && addresses.is_empty() {
            return String::new();
        }
        if self.brief {
            let rest = match links {
                true => format!("{} <{}> ", row.mac, flags(row)),
                false => addresses.iter().map(|address| format!("{address} ")).collect(),
            };
            return format!("{:<16} {:<14} {rest}\n", full_name(row), operational(row));
        }
        let mut text = format!("{} mtu {} qdisc noqueue ", head(row), row.mtu);
        if !row.master.is_empty() {
            let _ = write!(text, "master {} ", row.master);
        }
        let mode = if links { "mode DEFAULT " } else { "" };
        let _ = writeln!(text, "state {} {mode}group default ", operational(row));
        if self.family.is_none() || links {
            let _ = write!(text, "    link/ether {} brd ff:ff:ff:ff:ff:ff", row.mac);
            let namespace = namespaces.get(row.container.as_str()).filter(|_| row.kind == "veth");
            let _ = namespace.map(|number| write!(text, " link-netnsid {number}"));
            text.push('\n');
        }
        addresses.iter().for_each(|address| text.push_str(&address_lines(address, &row.name)));
        text
    }
}

/// Lines in one, as `-o` joins them.
fn joined(lines: &str) -> String {
    lines.trim_end_matches('\n').replace('\n', "\\") + "\n"
}

fn address_lines(address: &str, device: &str) -> String {
    let first = match (address.contains(':'), address.starts_with("fe80:")) {
        (true, true) => format!("    inet6 {address} scope link "),
        (true, false) => format!("    inet6 {address} scope global "),
        (false, _) => format!("    inet {address} scope global {device}"),
    };
    format!("{first}\n       valid_lft forever preferred_lft forever\n")
}

/// IPv4's first, as the kernel's two tables come.
fn neighbours(tables: &Tables, filter: &Filter, family: Option<Family>) -> String {
    let is = |row: &NeighRow, family| (family == Family::V6) == row.address.is_ipv6();
    let families =
        [Family::V4, Family::V6].into_iter().filter(|it| family.is_none_or(|family| family == *it));
    let rows = families.flat_map(|family| tables.neighbours.iter().filter(move |row| is(row, family)));
    let devices = tables.by_network();
    let line = |row: &NeighRow| {
        let device = devices.get(row.network.as_str())?;
        let picked = filter.device.as_ref().is_none_or(|name| *name == device.name)
            && filter
                .state
                .as_ref()
                .is_none_or(|state| state == "all" || state.eq_ignore_ascii_case(&row.state));
        let named = if filter.device.is_some() { String::new() } else { format!("dev {} ", device.name) };
        let mac = row.mac.as_ref().map_or_else(String::new, |mac| format!("lladdr {mac} "));
        let router = if row.router { "router " } else { "" };
        picked.then(|| format!("{} {named}{mac}{router}{} \n", row.address, row.state))
    };
    rows.filter_map(line).collect()
}
