//! Tables of the router, page by page: `show neigh|routes|conntrack|rules`.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::Daemon;
use super::{Global, output};
use crate::control::requests::{FlowFilter, Page, Request, RouteCursor, ViewRequest};
use crate::control::show::{self, ChainRow, ConntrackRow, DnsRow, NeighRow, Parts, RouteEntryRow, RuleRow};

/// Fetches a table page by page, until `each` has had enough.
///
/// # Errors
/// What the daemon refuses, and what `each` complains about.
pub fn pages<R: DeserializeOwned, C: DeserializeOwned>(
    daemon: &mut Daemon,
    request: impl Fn(Option<C>) -> ViewRequest,
    mut each: impl FnMut(Vec<R>) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let mut cursor = None;
    loop {
        let page: Page<R, C> = daemon.call(Request::View(request(cursor)))?;
        if !page.rows.is_empty() && !each(page.rows)? {
            return Ok(());
        }
        match page.next {
            Some(next) => cursor = Some(next),
            None => return Ok(()),
        }
    }
}

/// Prints a table page by page, as lines or as one JSON array.
///
/// # Errors
/// What the daemon refuses, or a standard output that fails.
pub fn print<R: DeserializeOwned + Serialize, C: DeserializeOwned>(
    daemon: &mut Daemon,
    json: bool,
    request: impl Fn(Option<C>) -> ViewRequest,
    mut lines: impl FnMut(&[R]) -> String,
) -> anyhow::Result<u8> {
    let (mut any, mut wanted) = (false, true);
    pages(daemon, request, |rows: Vec<R>| {
        let text = if json { elements(&rows, any)? } else { lines(&rows) };
        any = true;
        wanted = output::copy(&mut text.as_bytes())?;
        Ok(wanted)
    })?;
    match (wanted, json, any) {
        (false, ..) => Ok(0),
        (true, true, true) => output::print("\n]\n"),
        (true, true, false) => output::print("[]\n"),
        // The header stands alone.
        (true, false, false) => output::print(&lines(&[])),
        (true, false, true) => Ok(0),
    }
}

/// Elements of a JSON array as [`output::json`] prints them, with what stands before each.
fn elements<R: Serialize>(rows: &[R], behind_others: bool) -> anyhow::Result<String> {
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        text.push_str(if at > 0 || behind_others { ",\n  " } else { "[\n  " });
        text.push_str(&serde_json::to_string_pretty(row)?.replace('\n', "\n  "));
    }
    Ok(text)
}

/// `show neigh`.
///
/// # Errors
/// When no daemon runs.
pub fn neighbours(global: &Global) -> anyhow::Result<u8> {
    let (mut daemon, mut parts) = (Daemon::connect(&global.socket())?, Parts::default());
    let request = |cursor: Option<usize>| ViewRequest::Neighbours { cursor };
    print(&mut daemon, global.json, request, |rows: &[NeighRow]| show::neigh_lines(rows, &mut parts))
}

/// `show routes`.
///
/// # Errors
/// When no daemon runs.
pub fn routes(global: &Global) -> anyhow::Result<u8> {
    let (mut daemon, mut parts) = (Daemon::connect(&global.socket())?, Parts::default());
    let request = |cursor: Option<RouteCursor>| ViewRequest::Routes { cursor };
    let lines = |rows: &[RouteEntryRow]| show::route_entry_lines(rows, &mut parts);
    print(&mut daemon, global.json, request, lines)
}

/// `show conntrack`.
///
/// # Errors
/// When no daemon runs.
pub fn flows(global: &Global) -> anyhow::Result<u8> {
    let (mut daemon, mut parts) = (Daemon::connect(&global.socket())?, Parts::default());
    let request = |cursor: Option<u32>| ViewRequest::Flows { cursor, filter: FlowFilter::default() };
    let lines = |rows: &[ConntrackRow]| show::conntrack_table_lines(rows, &mut parts);
    print(&mut daemon, global.json, request, lines)
}

/// `show dns`.
///
/// # Errors
/// When no daemon runs.
pub fn dns(global: &Global) -> anyhow::Result<u8> {
    let rows: Vec<DnsRow> = Daemon::connect(&global.socket())?.call(Request::View(ViewRequest::Dns))?;
    if global.json { output::json(&rows) } else { output::print(&show::dns_tables(&rows)) }
}

/// `show rules`.
///
/// # Errors
/// When no daemon runs.
pub fn rules(global: &Global, v6: bool) -> anyhow::Result<u8> {
    let mut daemon = Daemon::connect(&global.socket())?;
    if global.json {
        let rows: Vec<RuleRow> = daemon.call(Request::View(ViewRequest::Rules { v6 }))?;
        return output::json(&rows);
    }
    let chains: Vec<ChainRow> = daemon.call(Request::View(ViewRequest::Chains { v6 }))?;
    output::print(&show::rules_text(&chains))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_in_pages_is_the_same_array() {
        let rows = [1, 2, 3].map(|number| serde_json::json!({ "number": number, "list": [] }));
        let whole = serde_json::to_string_pretty(&rows).unwrap();
        let text = elements(&rows[..2], false).unwrap() + &elements(&rows[2..], true).unwrap() + "\n]";
        assert_eq!(text, whole);
    }
}
