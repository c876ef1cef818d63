//! `bridge fdb show` and `bridge link show`, as iproute2 prints them (`bridge/fdb.c`, `bridge/link.c`).
//!
//! The kernel lists with the bridge's table what each device's filter lets in (`self`): a port here has no such
//! filter.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Need, Tables, asks_to_list, meant};
use crate::control::show::interfaces::InterfaceRow;
use crate::control::show::rows::FdbRow;

/// One invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Bridge {
    /// `fdb show`.
    Fdb(Wanted),
    /// `link show`, of a device alone if one is named.
    Link(Option<String>),
}

/// Which entries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Wanted {
    bridge: Option<String>,
    device: Option<String>,
    states: Option<&'static [&'static str]>,
}

impl Bridge {
    pub(super) fn read(words: &[&str]) -> Result<Self, String> {
        let (object, rest) = words.split_first().map_or(("", &[][..]), |(object, rest)| (*object, rest));
        let (verb, rest) = rest.split_first().map_or(("show", rest), |(verb, rest)| (*verb, rest));
        match meant(object, &["link", "fdb"]) {
            Some("fdb") if asks_to_list(verb) => Ok(Self::Fdb(wanted(rest)?)),
            Some("link") if asks_to_list(verb) => match rest {
                [] => Ok(Self::Link(None)),
                ["dev", device] => Ok(Self::Link(Some((*device).to_owned()))),
                _ => Err("'bridge link show' takes 'dev NAME' and no more".to_owned()),
            },
            Some("fdb") => Err(format!(
                "'bridge fdb {verb}' is no view: 'tapswitch fdb add NETWORK MAC PORT' and 'tapswitch fdb del \
                 NETWORK MAC' change entries"
            )),
            Some("link") => Err("'tapswitch port set PORT up|down' sets a port".to_owned()),
            _ => Err(instead(object)),
        }
    }

    pub(super) fn needs(&self) -> Vec<Need> {
        match self {
            Self::Fdb(_) => vec![Need::Interfaces, Need::Fdb],
            Self::Link(_) => vec![Need::Interfaces],
        }
    }

    pub(super) fn draw(&self, tables: &Tables) -> Result<String, String> {
        match self {
            Self::Fdb(wanted) => fdb(tables, wanted),
            Self::Link(device) => link(tables, device.as_deref()),
        }
    }
}

/// What there is instead of a listing, or a flag before it, that we have not.
fn instead(word: &str) -> String {
    let mend = match word {
        "" => return "give 'fdb show' or 'link show'".to_owned(),
        "vlan" => "tags are carried as they come, and no port belongs to a VLAN",
        "mdb" => "groups are flooded: nobody's membership is learned",
        "monitor" => "'tapswitch show fdb' tells who is where now",
        "-s" | "-statistics" => "'tapswitch show ports' has counters, 'tapswitch show fdb' ages",
        "-j" | "-json" => "'tapswitch --json show fdb' and '.. show ports' have every field",
        _ => "there are 'bridge fdb show' and 'bridge link show', without flags",
    };
    format!("'bridge {word}' is no view: {mend}")
}

fn wanted(mut words: &[&str]) -> Result<Wanted, String> {
    let mut wanted = Wanted::default();
    loop {
        words = match words {
            [] => return Ok(wanted),
            ["br", name, rest @ ..] => {
                wanted.bridge = Some((*name).to_owned());
                rest
            }
            ["dev" | "brport", name, rest @ ..] => {
                wanted.device = Some((*name).to_owned());
                rest
            }
            ["dynamic", rest @ ..] => {
                // All that is not permanent.
                wanted.states = Some(&["", "static"]);
                rest
            }
            ["state", "all", rest @ ..] => rest,
            ["state", state @ ("static" | "permanent"), rest @ ..] => {
                wanted.states = Some(if *state == "static" { &["static"] } else { &["permanent"] });
                rest
            }
            [word, ..] => {
                return Err(format!(
                    "'bridge fdb show' does not know '{word}': it takes br BRIDGE, dev NAME, brport NAME, and \
                     dynamic or state static|permanent"
                ));
            }
        }
    }
}

/// Entries device by device.
fn fdb(tables: &Tables, wanted: &Wanted) -> Result<String, String> {
    for name in wanted.bridge.iter().chain(&wanted.device) {
        tables.interface(name).ok_or_else(|| format!("Cannot find device \"{name}\""))?;
    }
    let mut text = String::new();
    let mut heard: BTreeMap<(&str, &str), Vec<&FdbRow>> = BTreeMap::new();
    for entry in &tables.fdb {
        heard.entry((&entry.network, &entry.port)).or_default().push(entry);
    }
    for device in tables.interfaces.iter().filter(|row| row.kind != "uplink") {
        let bridge = if device.is_bridge() { &device.name } else { &device.master };
        let is = |name: &Option<String>, it: &String| name.as_ref().is_none_or(|name| name == it);
        if !is(&wanted.bridge, bridge) || !is(&wanted.device, &device.name) {
            continue;
        }
        let named = if wanted.device.is_some() { String::new() } else { format!("dev {} ", device.name) };
        let here = heard.get(&(device.network.as_str(), device.port.as_str())).map_or(&[][..], Vec::as_slice);
        for (mac, state) in entries(here, device) {
            if wanted.states.is_none_or(|states| states.contains(&state)) {
                let _ = writeln!(text, "{mac} {named}master {bridge} {state}");
            }
        }
    }
    Ok(text)
}

/// Those at a device, by address: what was learned or entered there, and its own.
fn entries<'a>(heard: &[&'a FdbRow], device: &'a InterfaceRow) -> Vec<(&'a str, &'static str)> {
    let heard = heard.iter().map(|entry| (entry.mac.as_str(), if entry.is_static { "static" } else { "" }));
    let mut entries: Vec<_> = heard.chain([(device.mac.as_str(), "permanent")]).collect();
    entries.sort_unstable();
    entries
}

fn link(tables: &Tables, device: Option<&str>) -> Result<String, String> {
    if let Some(name) = device {
        tables.interface(name).ok_or_else(|| format!("Cannot find device \"{name}\""))?;
    }
    let chosen = |row: &&InterfaceRow| device.is_none_or(|name| name == row.name) && row.kind == "veth";
    let line = |row: &InterfaceRow| {
        let state = if row.is_up() { "forwarding" } else { "disabled" };
        format!(
            "{} mtu {} master {} state {state} priority 32 cost 2 \n",
            super::ip::head(row),
            row.mtu,
            row.master
        )
    };
    Ok(tables.interfaces.iter().filter(chosen).map(line).collect())
}
