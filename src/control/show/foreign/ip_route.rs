//! `ip route`, as iproute2 prints it (`ip/iproute.c`), in the order in which the kernel keeps routes.

use std::cmp::Reverse;
use std::net::IpAddr;

use ipnet::IpNet;

use super::ip::Family;
use super::{Tables, asks_to_list};
use crate::control::show::interfaces::InterfaceRow;
use crate::control::show::known::RouteEntryRow;

/// The metric that the kernel gives to an IPv6 route without one (`IP6_RT_PRIO_USER`), and to those of its own.
const METRIC6: [u32; 2] = [1024, 256];

/// One invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IpRoute {
    v6: bool,
    device: Option<String>,
    table: Table,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    Main,
    Local,
    All,
}

impl IpRoute {
    pub(super) fn read(family: Option<Family>, verb: &str, words: &[&str]) -> Result<Self, String> {
        if verb == "get" {
            return Err("'tapswitch explain SOURCE DESTINATION' tells which way a packet takes".to_owned());
        }
        if !asks_to_list(verb) {
            return Err(format!(
                "'ip route {verb}' is no view: 'tapswitch route add PREFIX via ADDRESS' and 'tapswitch route del \
                 PREFIX' change routes"
            ));
        }
        let mut route = Self { v6: family == Some(Family::V6), device: None, table: Table::Main };
        for pair in words.chunks(2) {
            match pair {
                ["dev", name] => route.device = Some((*name).to_owned()),
                ["table", "main"] => {}
                ["table", "local"] => route.table = Table::Local,
                ["table", "all"] => route.table = Table::All,
                _ => {
                    return Err("'ip route show' takes dev NAME and table main|local|all here".to_owned());
                }
            }
        }
        Ok(route)
    }

    pub(super) const fn device(&self) -> Option<&String> {
        self.device.as_ref()
    }

    pub(super) fn draw(&self, tables: &Tables) -> String {
        let main = self.lines(tables, false);
        let local = self.lines(tables, true);
        match self.table {
            Table::Main => main,
            Table::Local => local,
            Table::All => main + &local,
        }
    }

    fn lines(&self, tables: &Tables, local: bool) -> String {
        let routes = sorted(tables, self.v6).into_iter();
        let routes = routes.filter(|(_, row)| matches!(row.kind.as_str(), "local" | "broadcast") == local);
        let devices = tables.by_network();
        let line = |(prefix, row): (IpNet, &RouteEntryRow)| {
            let device = devices.get(row.network.as_str())?;
            let wanted = self.device.as_ref().is_none_or(|name| *name == device.name);
            wanted.then(|| self.line(prefix, row, device))
        };
        let is_last = |(prefix, _): &(IpNet, &RouteEntryRow)| self.v6 && prefix.prefix_len() == 0;
        let (last, first): (Vec<_>, Vec<_>) = routes.partition(is_last);
        let first = first.into_iter().filter_map(line).chain(self.link_locals(tables, local));
        first.chain(last.into_iter().filter_map(line)).collect()
    }

    fn line(&self, prefix: IpNet, row: &RouteEntryRow, device: &InterfaceRow) -> String {
        let kind = Some(row.kind.clone()).filter(|kind| matches!(kind.as_str(), "local" | "broadcast"));
        let via = row.via.map(|via| format!("via {via}"));
        let named = self.device.is_none().then(|| format!("dev {}", device.name));
        let kernel = (row.kind != "static").then(|| "proto kernel".to_owned());
        let scope = match (row.kind.as_str(), row.via, self.v6) {
            ("local", _, false) => Some("scope host".to_owned()),
            (_, None, false) => Some("scope link".to_owned()),
            _ => None,
        };
        let own = own_address(device, prefix).filter(|_| row.kind != "static" && !self.v6);
        let own = own.map(|own| format!("src {own}"));
        let metric = match (self.v6, row.kind.as_str(), row.metric) {
            (true, "local", _) => 0,
            (true, "static", 0) => METRIC6[0],
            (true, _, 0) => METRIC6[1],
            (_, _, metric) => metric,
        };
        let metric = (metric > 0).then(|| format!("metric {metric}"));
        let down = (!device.is_up() && row.kind != "local").then(|| "linkdown".to_owned());
        let words = [kind, Some(short(prefix)), via, named, kernel, scope, own, metric, down];
        let words: Vec<String> = words.into_iter().flatten().collect();
        format!("{} {}\n", words.join(" "), if self.v6 { "pref medium" } else { "" })
    }

    /// The routes of the gateways' link-local addresses, which the router needs none for.
    fn link_locals(&self, tables: &Tables, local: bool) -> Vec<String> {
        let speak =
            tables.interfaces.iter().filter(|row| row.addresses.iter().any(|it| it.starts_with("fe80:")));
        let mine = |row: &&InterfaceRow| self.device.as_ref().is_none_or(|name| *name == row.name);
        let line = |row: &InterfaceRow| {
            let named = if self.device.is_some() { String::new() } else { format!("dev {} ", row.name) };
            let down = if row.is_up() { "" } else { "linkdown " };
            format!("fe80::/64 {named}proto kernel metric 256 {down}pref medium\n")
        };
        if self.v6 && !local { speak.filter(mine).map(line).collect() } else { Vec::new() }
    }
}

/// A version's routes in the kernel's order: by address, the longest prefix first.
pub(super) fn sorted(tables: &Tables, v6: bool) -> Vec<(IpNet, &RouteEntryRow)> {
    let parsed = tables.routes.iter().filter_map(|row| Some((row.prefix.parse::<IpNet>().ok()?, row)));
    let mut routes: Vec<_> = parsed.filter(|(prefix, _)| prefix.addr().is_ipv6() == v6).collect();
    routes.sort_by_key(|(prefix, row)| (prefix.addr(), Reverse(prefix.prefix_len()), row.metric));
    routes
}

/// The address of ours that shares a prefix.
fn own_address(device: &InterfaceRow, prefix: IpNet) -> Option<IpAddr> {
    let own = device.addresses.iter().filter_map(|text| text.parse::<IpNet>().ok());
    own.into_iter().find(|own| own.contains(&prefix.addr())).map(|own| own.addr())
}

/// A prefix as iproute2 writes it.
fn short(prefix: IpNet) -> String {
    if prefix.prefix_len() == 0 {
        "default".to_owned()
    } else if prefix.prefix_len() == prefix.max_prefix_len() {
        prefix.addr().to_string()
    } else {
        prefix.to_string()
    }
}
