//! The switch as other tools show it: `show … --as TOOL`, and a tool with its own words.

use anyhow::anyhow;
use clap::Parser;

use super::client::Daemon;
use super::{Global, conntrack, output, tables};
use crate::control::requests::{Request, RouteCursor, ViewRequest};
use crate::control::show::foreign::{Need, TOOLS, Tables, View, view};
use crate::control::show::{self, ContainerRow};

/// What `show LISTING --as TOOL` prints: that of these lines, one after the other.
const VIEWS: &[(&str, &str, &[&str])] = &[
    ("ports", "brctl", &["brctl show"]),
    ("ports", "bridge", &["bridge link show"]),
    ("ports", "ip", &["ip address show"]),
    ("ports", "docker", &["docker ps"]),
    ("interfaces", "brctl", &["brctl show"]),
    ("interfaces", "bridge", &["bridge link show"]),
    ("interfaces", "ip", &["ip address show"]),
    ("fdb", "brctl", &["brctl showmacs"]),
    ("fdb", "bridge", &["bridge fdb show"]),
    ("fdb", "ip", &["bridge fdb show"]),
    ("neigh", "ip", &["ip neighbour show"]),
    ("routes", "ip", &["ip -4 route show", "ip -6 route show"]),
    ("routes", "route", &["route -n"]),
    ("rules", "iptables", &["iptables -L -v -n", "iptables -t nat -L -v -n"]),
    ("rules6", "iptables", &["ip6tables -L -v -n", "ip6tables -t nat -L -v -n"]),
    ("rules6", "ip6tables", &["ip6tables -L -v -n", "ip6tables -t nat -L -v -n"]),
    ("conntrack", "conntrack", &["conntrack -L"]),
];

/// Every tool that shows a listing.
pub const NAMES: [&str; 8] =
    ["brctl", "bridge", "ip", "route", "iptables", "ip6tables", "conntrack", "docker"];

/// Prints a listing as a tool does.
///
/// # Errors
/// When the two have nothing to do with each other: which have. When no daemon runs.
pub fn show_as(global: &Global, listing: &str, tool: &str) -> anyhow::Result<u8> {
    let Some((.., lines)) = VIEWS.iter().find(|(of, by, _)| (*of, *by) == (listing, tool)) else {
        return Err(anyhow!("{}", mistake(listing, tool)));
    };
    anyhow::ensure!(!global.json, "--json and --as are two ways to print a listing: give one");
    let mut text = String::new();
    for line in *lines {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["docker", ..] => text.push_str(&docker_ps(global)?),
            ["conntrack", words @ ..] => return run(global, "conntrack", words),
            [tool, words @ ..] => {
                // iptables' tables stand apart, as chains do.
                text.push_str(if text.is_empty() || !tool.ends_with("tables") { "" } else { "\n" });
                text.push_str(&draw(global, tool, words)?);
            }
            [] => {}
        }
    }
    output::print(&text)
}

/// What there is instead of a combination that means nothing.
fn mistake(listing: &str, tool: &str) -> String {
    let listing = listing.trim_end_matches('6');
    let of = |name: &str| {
        let tools = VIEWS.iter().filter(|(of, ..)| *of == name).map(|(_, tool, _)| *tool);
        tools.collect::<Vec<_>>()
    };
    let by = VIEWS.iter().filter(|(_, by, _)| *by == tool).map(|(of, ..)| of.trim_end_matches('6'));
    let mut by: Vec<&str> = by.collect();
    by.dedup();
    let own = match of(listing).as_slice() {
        [] => format!("no other tool shows {listing}"),
        tools => format!("{listing} are shown as {}", tools.join(", ")),
    };
    match by.as_slice() {
        [] => format!("'--as {tool}': {own}"),
        by => format!("'--as {tool}': {own}; as {tool} are shown {}", by.join(", ")),
    }
}

/// Runs a tool's view: `brctl`, `bridge`, `ip`, `route`, `iptables`, `ip6tables` or `conntrack`, with the words
/// that stand behind it on a command line.
///
/// # Errors
/// A line that says what there is instead, when this is no view; what the tool says of what is not there; when
/// no daemon runs.
pub fn run(global: &Global, tool: &str, words: &[&str]) -> anyhow::Result<u8> {
    if tool == "conntrack" {
        let alone = Conntrack::try_parse_from([&["conntrack"], words].concat());
        return conntrack::run(global, &alone.unwrap_or_else(|error| error.exit()).arguments);
    }
    output::print(&draw(global, tool, words)?)
}

/// Whether [`run`] knows a tool by this name.
pub fn is_tool(name: &str) -> bool {
    name == "conntrack" || TOOLS.contains(&name)
}

/// `conntrack` by its own name.
#[derive(Debug, Parser)]
#[command(name = "conntrack", about = "Flows of the switch")]
struct Conntrack {
    #[command(flatten)]
    arguments: conntrack::ConntrackArgs,
}

fn draw(global: &Global, tool: &str, words: &[&str]) -> anyhow::Result<String> {
    let view = view(tool, words).map_err(|line| anyhow!("{line}"))?;
    let mut daemon = Daemon::connect(&global.socket())?;
    let tables = fetch(&mut daemon, &view)?;
    view.draw(&tables).map_err(|line| anyhow!("{line}"))
}

/// Fetches the tables that a view is made of.
fn fetch(daemon: &mut Daemon, view: &View) -> anyhow::Result<Tables> {
    let mut fetched = Tables::default();
    for need in view.needs() {
        match need {
            Need::Interfaces => fetched.interfaces = daemon.call(Request::View(ViewRequest::Interfaces))?,
            Need::Fdb => fetched.fdb = daemon.call(Request::ShowFdb)?,
            Need::Chains => fetched.chains = daemon.call(Request::View(ViewRequest::Chains { v6: false }))?,
            Need::Chains6 => fetched.chains = daemon.call(Request::View(ViewRequest::Chains { v6: true }))?,
            Need::Neighbours => {
                let request = |cursor: Option<usize>| ViewRequest::Neighbours { cursor };
                fetched.neighbours = all(daemon, request)?;
            }
            Need::Routes => {
                let request = |cursor: Option<RouteCursor>| ViewRequest::Routes { cursor };
                fetched.routes = all(daemon, request)?;
            }
        }
    }
    Ok(fetched)
}

/// All pages of a table.
fn all<R: serde::de::DeserializeOwned, C: serde::de::DeserializeOwned>(
    daemon: &mut Daemon,
    request: impl Fn(Option<C>) -> ViewRequest,
) -> anyhow::Result<Vec<R>> {
    let mut rows = Vec::new();
    tables::pages(daemon, request, |page| {
        rows.extend(page);
        Ok(true)
    })?;
    Ok(rows)
}

fn docker_ps(global: &Global) -> anyhow::Result<String> {
    let rows: Vec<ContainerRow> =
        Daemon::connect(&global.socket())?.call(Request::ContainerList { all: false })?;
    Ok(show::container_table(&rows, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_line_is_a_view() {
        for (listing, tool, lines) in VIEWS {
            assert!(NAMES.contains(tool), "{tool}");
            for line in *lines {
                let words: Vec<&str> = line.split(' ').collect();
                let known =
                    words[0] == "docker" || words[0] == "conntrack" || view(words[0], &words[1..]).is_ok();
                assert!(known, "{listing} as {tool}: {line}");
            }
        }
    }

    #[test]
    fn what_means_nothing_is_refused_with_what_does() {
        for (listing, tool, line) in [
            (
                "fdb",
                "iptables",
                "'--as iptables': fdb are shown as brctl, bridge, ip; as iptables are shown rules",
            ),
            ("ports", "vim", "'--as vim': ports are shown as brctl, bridge, ip, docker"),
            ("drops", "route", "'--as route': no other tool shows drops; as route are shown routes"),
            ("dns", "vim", "'--as vim': no other tool shows dns"),
        ] {
            assert_eq!(mistake(listing, tool), line);
        }
    }
}
