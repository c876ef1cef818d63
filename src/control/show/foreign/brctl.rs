//! `brctl show`, `showmacs`, `showstp`, as bridge-utils print them (`brctl/brctl_cmd.c`, `brctl_disp.c`).
//!
//! There is no spanning tree here: every bridge is its own root, every port forwards while it is up, and the timers
//! stand still.

use std::fmt::Write;

use super::{Need, Tables};
use crate::control::show::interfaces::InterfaceRow;

/// One invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Brctl {
    /// `show [BRIDGE..]`.
    Show(Vec<String>),
    /// `showmacs BRIDGE`; without one, of each, under the line to type for it.
    Macs(Option<String>),
    /// `showstp BRIDGE`.
    Stp(String),
}

impl Brctl {
    pub(super) fn read(words: &[&str]) -> Result<Self, String> {
        match words {
            ["show", bridges @ ..] => Ok(Self::Show(bridges.iter().map(|word| (*word).to_owned()).collect())),
            ["showmacs", bridge] => Ok(Self::Macs(Some((*bridge).to_owned()))),
            // More than brctl takes: all of them.
            ["showmacs"] => Ok(Self::Macs(None)),
            ["showstp", bridge] => Ok(Self::Stp((*bridge).to_owned())),
            _ => Err(instead(words)),
        }
    }

    pub(super) fn needs(&self) -> Vec<Need> {
        match self {
            Self::Macs(_) => vec![Need::Interfaces, Need::Fdb],
            _ => vec![Need::Interfaces],
        }
    }

    pub(super) fn draw(&self, tables: &Tables) -> Result<String, String> {
        match self {
            Self::Show(wanted) => show(tables, wanted),
            Self::Macs(Some(name)) => {
                let bridge = find(tables, name);
                Ok(macs(tables, bridge.ok_or("read of forward table failed: No such device")?))
            }
            Self::Macs(None) => {
                let one = |bridge: &&InterfaceRow| {
                    format!("# brctl showmacs {}\n{}", bridge.name, macs(tables, bridge))
                };
                Ok(tables.bridges().iter().map(one).collect::<Vec<_>>().join("\n"))
            }
            Self::Stp(name) => Ok(stp(tables, find(tables, name).ok_or_else(|| missing(tables, name))?)),
        }
    }
}

/// The line that does here what a command does that changes bridges.
fn instead(words: &[&str]) -> String {
    let (word, rest) = words.split_first().map_or(("", &[][..]), |(word, rest)| (*word, rest));
    let at = |index: usize, otherwise: &'static str| rest.get(index).copied().unwrap_or(otherwise);
    match word {
        "addbr" => {
            format!(
                "a bridge here is a network: 'tapswitch network create -o bridge_name={0} {0}'",
                at(0, "NAME")
            )
        }
        "delbr" => "a bridge here is a network: 'tapswitch network rm NETWORK' ('tapswitch show interfaces' \
                    tells which)"
            .to_owned(),
        "addif" => {
            "a port comes with its container: 'tapswitch network connect NETWORK CONTAINER'".to_owned()
        }
        "delif" => {
            "a port goes with its container: 'tapswitch network disconnect NETWORK CONTAINER'".to_owned()
        }
        "setageing" => {
            format!("'tapswitch network set NETWORK -o ageing={}'", at(1, "SECONDS"))
        }
        "stp" | "setbridgeprio" | "setfd" | "sethello" | "setmaxage" | "setpathcost" | "setportprio" => {
            "there is no spanning tree here: networks cannot form loops".to_owned()
        }
        "hairpin" => {
            "a container reaches its own published ports by the gateway, whose rules see to that".to_owned()
        }
        "showstp" => "give one bridge: 'brctl showstp docker0'".to_owned(),
        "" => "give show [BRIDGE..], showmacs BRIDGE or showstp BRIDGE".to_owned(),
        _ => format!("'brctl {word}' is no view: there are show [BRIDGE..], showmacs BRIDGE, showstp BRIDGE"),
    }
}

fn find<'a>(tables: &'a Tables, name: &str) -> Option<&'a InterfaceRow> {
    tables.interface(name).filter(|row| row.is_bridge())
}

fn missing(tables: &Tables, name: &str) -> String {
    match tables.interface(name) {
        Some(_) => format!("device {name} is not a bridge!"),
        None => format!("bridge {name} does not exist!"),
    }
}

fn show(tables: &Tables, wanted: &[String]) -> Result<String, String> {
    let chosen = wanted.iter().map(|name| find(tables, name).ok_or_else(|| missing(tables, name)));
    let chosen: Vec<&InterfaceRow> =
        if wanted.is_empty() { tables.bridges() } else { chosen.collect::<Result<_, _>>()? };
    let mut text = "bridge name\tbridge id\t\tSTP enabled\tinterfaces\n".to_owned();
    for bridge in chosen {
        let _ = write!(text, "{}\t\t{}\tno\t\t", bridge.name, bridge_id(bridge));
        let mut names: Vec<&str> =
            tables.ports_of(bridge).iter().map(|(_, port)| port.name.as_str()).collect();
        names.sort_unstable();
        text.push_str(&names.join("\n\t\t\t\t\t\t\t"));
        text.push('\n');
    }
    Ok(text)
}

/// The default priority, and the MAC address.
fn bridge_id(bridge: &InterfaceRow) -> String {
    format!("8000.{}", bridge.mac.replace(':', ""))
}

fn macs(tables: &Tables, bridge: &InterfaceRow) -> String {
    let ports = tables.ports_of(bridge);
    let mut lines: Vec<(&str, usize, &str, u64)> =
        ports.iter().map(|(number, port)| (port.mac.as_str(), *number, "yes", 0)).collect();
    for entry in tables.fdb.iter().filter(|entry| entry.network == bridge.network) {
        if let Some((number, _)) = ports.iter().find(|(_, port)| port.port == entry.port) {
            lines.push((&entry.mac, *number, "no", entry.age.unwrap_or(0)));
        }
    }
    lines.sort_unstable();
    let mut text = "port no\tmac addr\t\tis local?\tageing timer\n".to_owned();
    for (mac, number, local, age) in lines {
        let _ = writeln!(text, "{number:>3}\t{mac}\t{local}\t\t{age:>4}.00");
    }
    text
}

fn stp(tables: &Tables, bridge: &InterfaceRow) -> String {
    let (name, id, ageing) = (&bridge.name, bridge_id(bridge), format!("{}.00", bridge.ageing));
    let mut text = format!(
        "{name}\n bridge id\t\t{id}\n designated root\t{id}\n \
         root port\t\t   0\t\t\tpath cost\t\t   0\n \
         max age\t\t  20.00\t\t\tbridge max age\t\t  20.00\n \
         hello time\t\t   2.00\t\t\tbridge hello time\t   2.00\n \
         forward delay\t\t  15.00\t\t\tbridge forward delay\t  15.00\n \
         ageing time\t\t{ageing:>7}\n \
         hello timer\t\t   0.00\t\t\ttcn timer\t\t   0.00\n \
         topology change timer\t   0.00\t\t\tgc timer\t\t   0.00\n flags\t\t\t\n\n\n"
    );
    let mut ports = tables.ports_of(bridge);
    ports.sort_by(|(_, one), (_, other)| one.name.cmp(&other.name));
    for (number, port) in ports {
        let state = if port.is_up() { "forwarding" } else { "disabled" };
        let _ = writeln!(
            text,
            "{} ({number})\n port id\t\t80{number:02x}\t\t\tstate\t\t{state:>15}\n \
             designated root\t{id}\tpath cost\t\t   2\n \
             designated bridge\t{id}\tmessage age timer\t   0.00\n \
             designated port\t80{number:02x}\t\t\tforward delay timer\t   0.00\n \
             designated cost\t   0\t\t\thold timer\t\t   0.00\n flags\t\t\t\n",
            port.name
        );
    }
    text
}
