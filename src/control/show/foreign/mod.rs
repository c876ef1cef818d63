//! The switch as other tools would show it: `brctl`, `bridge`, `ip`, `route`, `iptables`.
//!
//! A [`View`] is one invocation of a tool, read by [`view`] from the words that one would type. It says which
//! tables it [`needs`](View::needs), and draws them as the tool prints the kernel's: the same bytes, where the
//! same things stand. Each tool has a file. What is no view (`brctl addbr`) is refused with the line that does it
//! here.

mod brctl;
mod bridge;
mod ip;
mod ip_route;
mod iptables;
mod route;

use std::collections::BTreeMap;

use super::interfaces::InterfaceRow;
use super::known::{NeighRow, RouteEntryRow};
use super::rows::FdbRow;
use super::rules::ChainRow;

pub(super) use iptables::listing as rules_listing;
#[cfg(test)]
pub(super) use iptables::short_number;

/// The tools whose views are known.
pub const TOOLS: [&str; 6] = ["brctl", "bridge", "ip", "route", "iptables", "ip6tables"];

/// A table that a view is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// [`Tables::interfaces`].
    Interfaces,
    /// [`Tables::fdb`].
    Fdb,
    /// [`Tables::neighbours`].
    Neighbours,
    /// [`Tables::routes`].
    Routes,
    /// [`Tables::chains`] of IPv4.
    Chains,
    /// [`Tables::chains`] of IPv6.
    Chains6,
}

/// The rows of the listings that a view may need; empty those that it does not.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    /// `show interfaces`.
    pub interfaces: Vec<InterfaceRow>,
    /// `show fdb`.
    pub fdb: Vec<FdbRow>,
    /// `show neigh`.
    pub neighbours: Vec<NeighRow>,
    /// `show routes`.
    pub routes: Vec<RouteEntryRow>,
    /// `show rules`, chain by chain.
    pub chains: Vec<ChainRow>,
}

impl Tables {
    /// An interface by its name.
    fn interface(&self, name: &str) -> Option<&InterfaceRow> {
        self.interfaces.iter().find(|row| row.name == name)
    }

    /// The bridges, by name as brctl has them.
    fn bridges(&self) -> Vec<&InterfaceRow> {
        let mut bridges: Vec<&InterfaceRow> = self.interfaces.iter().filter(|row| row.is_bridge()).collect();
        bridges.sort_by(|one, other| one.name.cmp(&other.name));
        bridges
    }

    /// The veths of a bridge, each with its number there: from 1, by age.
    fn ports_of(&self, bridge: &InterfaceRow) -> Vec<(usize, &InterfaceRow)> {
        let ports = self.interfaces.iter().filter(|row| row.kind == "veth" && row.master == bridge.name);
        (1..).zip(ports).collect()
    }

    /// The interfaces of networks and uplinks, by what these are called.
    fn by_network(&self) -> BTreeMap<&str, &InterfaceRow> {
        let own = self.interfaces.iter().filter(|row| row.kind != "veth");
        own.map(|row| (row.network.as_str(), row)).collect()
    }
}

/// One invocation of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Brctl(brctl::Brctl),
    Bridge(bridge::Bridge),
    Ip(ip::Ip),
    Route(route::Route),
    Iptables(iptables::Iptables),
    Save(iptables::Save),
}

/// Reads what would be typed behind a tool's name.
///
/// # Errors
/// A line that says what there is instead, when it is no view.
pub fn view(tool: &str, words: &[&str]) -> Result<View, String> {
    Ok(View(match tool {
        "brctl" => Kind::Brctl(brctl::Brctl::read(words)?),
        "bridge" => Kind::Bridge(bridge::Bridge::read(words)?),
        "ip" => Kind::Ip(ip::Ip::read(words)?),
        "route" => Kind::Route(route::Route::read(words)?),
        "iptables" | "ip6tables" => Kind::Iptables(iptables::Iptables::read(tool == "ip6tables", words)?),
        "iptables-save" | "ip6tables-save" => {
            Kind::Save(iptables::Save::read(tool == "ip6tables-save", words)?)
        }
        _ => return Err(format!("views of '{tool}' are not known here, but of {}", TOOLS.join(", "))),
    }))
}

impl View {
    /// The tables that it is made of.
    pub fn needs(&self) -> Vec<Need> {
        match &self.0 {
            Kind::Brctl(brctl) => brctl.needs(),
            Kind::Bridge(bridge) => bridge.needs(),
            Kind::Ip(ip) => ip.needs(),
            Kind::Route(_) => vec![Need::Interfaces, Need::Routes],
            Kind::Iptables(iptables::Iptables { v6, .. }) | Kind::Save(iptables::Save { v6, .. }) => {
                vec![if *v6 { Need::Chains6 } else { Need::Chains }]
            }
        }
    }

    /// The interfaces that `ip` is asked about by their names.
    pub fn devices(&self) -> Vec<&str> {
        match &self.0 {
            Kind::Ip(ip) => ip.devices(),
            _ => Vec::new(),
        }
    }

    /// What the tool prints of these tables.
    ///
    /// # Errors
    /// What the tool says of a bridge, device or chain that is not there.
    pub fn draw(&self, tables: &Tables) -> Result<String, String> {
        match &self.0 {
            Kind::Brctl(brctl) => brctl.draw(tables),
            Kind::Bridge(bridge) => bridge.draw(tables),
            Kind::Ip(ip) => ip.draw(tables),
            Kind::Route(route) => Ok(route.draw(tables)),
            Kind::Iptables(iptables) => iptables.draw(&tables.chains),
            Kind::Save(save) => Ok(save.draw(&tables.chains)),
        }
    }
}

/// What a word is short for, as iproute2 has it: the first of the candidates that begins with it.
fn meant<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    candidates.iter().copied().find(|candidate| !word.is_empty() && candidate.starts_with(word))
}

/// A word that asks for a listing, or none at all.
fn asks_to_list(word: &str) -> bool {
    meant(word, &["show", "list", "lst", "ls"]).is_some()
}

#[cfg(test)]
mod tests;
