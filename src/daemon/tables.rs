//! Requests that look at the router's tables.
//!
//! Theory of operation. The switch loop copies a page out of a table between two bursts, no more than a
//! fraction of a millisecond's work; the rest (names, JSON) is made here. Who wants more asks for the
//! next page, so that neither loop is held by a table of a million.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use super::{Daemon, Handled, failed, now};
use crate::control::Refused;
use crate::control::requests::{FlowFilter, Page, RouteCursor, ViewRequest};
use crate::control::show::{self, ConntrackRow, ListedTables, Names, NeighRow, RouteEntryRow};
use crate::dataplane::conntrack::FlowRow;
use crate::dataplane::filter::{Program, TableKind};
use crate::dataplane::{NetworkId, PortId, Switch};
use crate::wire::ip::Version;

/// Places of a table that are looked at between two bursts.
const PAGE: usize = 1000;
/// Places that are looked at when what is found is also taken out.
const DELETED: u32 = 256;

impl Daemon {
    /// Answers one request about the router's tables.
    pub(super) fn handle_view(
        &mut self,
        connection: usize,
        request: ViewRequest,
        descriptors: Vec<OwnedFd>,
    ) -> Handled {
        match request {
            ViewRequest::Neighbours { cursor } => self.neighbour_page(cursor.unwrap_or(0)),
            ViewRequest::Routes { cursor } => self.route_page(cursor),
            ViewRequest::Flows { cursor, filter } => self.flow_page(cursor.unwrap_or(0), filter),
            ViewRequest::FlowsDelete { cursor, filter } => self.flow_deletion(cursor.unwrap_or(0), filter),
            ViewRequest::FlowsWatch { filter } => self.flows_watch(connection, filter, descriptors),
            ViewRequest::Explain { question } => self.explain(question),
            ViewRequest::Dns => self.show_dns(),
            ViewRequest::Rules { v6 } => {
                let names = Names::of(&self.model);
                now(show::rule_rows(&self.listed_rules(v6)?, |id| names.bridge(id)))
            }
            ViewRequest::Chains { v6 } => {
                let names = Names::of(&self.model);
                now(show::chain_rows(&self.listed_rules(v6)?, |id| names.bridge(id)))
            }
            ViewRequest::Interfaces => self.show_interfaces(),
        }
    }

    fn show_dns(&self) -> Handled {
        let view = self.in_loop(|inner| inner.switch.dns_view())?;
        now(show::dns_rows(self.told.plan().dns(), &view, &Names::of(&self.model)))
    }

    fn neighbour_page(&self, cursor: usize) -> Handled {
        let (rows, next) =
            self.in_loop(move |inner| inner.switch.neighbours().page(inner.now(), cursor, PAGE))?;
        let names = Names::of(&self.model);
        now(Page { rows: rows.iter().map(|row| NeighRow::new(row, &names)).collect(), next })
    }

    fn route_page(&self, cursor: Option<RouteCursor>) -> Handled {
        let after = cursor.and_then(|cursor| cursor.entry());
        let entries: Vec<_> =
            self.in_loop(move |inner| inner.switch.routes().page(after.as_ref(), PAGE).copied().collect())?;
        let names = Names::of(&self.model);
        let next = entries.last().filter(|_| entries.len() == PAGE).map(RouteCursor::from);
        now(Page { rows: entries.iter().map(|entry| RouteEntryRow::new(entry, &names)).collect(), next })
    }

    fn flow_page(&self, cursor: u32, filter: FlowFilter) -> Handled {
        let uplinks = self.user_ports();
        let (flows, next) = self.in_loop(move |inner| {
            let (mut flows, next) = inner.switch.conntrack().page(inner.now(), cursor, PAGE as u32);
            flows.retain(|flow| filter.picks(flow));
            let socket = |flow: &FlowRow| uplinks.iter().find_map(|port| inner.host_socket(*port, flow));
            let sockets: Vec<Option<SocketAddr>> = flows.iter().map(socket).collect();
            ((origins(&inner.switch, flows), sockets), next)
        })?;
        let (flows, sockets) = flows;
        let mut page = self.flow_rows(&flows, next);
        for (row, socket) in page.rows.iter_mut().zip(sockets) {
            row.host_socket = socket.map_or_else(String::new, |socket| socket.to_string());
        }
        now(page)
    }

    /// The ports whose devices are the host's sockets.
    fn user_ports(&self) -> Vec<PortId> {
        let uplinks = self.model.uplinks().into_iter().filter(|uplink| uplink.is_user());
        let ports = uplinks.filter_map(|uplink| self.model.container(uplink.id)?.endpoints.first());
        ports.map(|endpoint| PortId(endpoint.port)).collect()
    }

    fn flow_deletion(&self, cursor: u32, filter: FlowFilter) -> Handled {
        let (flows, next) = self.in_loop(move |inner| {
            let (mut flows, at) = (Vec::new(), inner.now());
            let pick = |flow: &FlowRow| {
                let picked = filter.picks(flow);
                flows.extend(picked.then_some(*flow));
                picked
            };
            let (_, next) = inner.switch.delete_flows(at, cursor, DELETED, pick);
            (origins(&inner.switch, flows), next)
        })?;
        now(self.flow_rows(&flows, next))
    }

    fn flow_rows(
        &self,
        flows: &[(FlowRow, Option<NetworkId>)],
        next: Option<u32>,
    ) -> Page<ConntrackRow, u32> {
        let names = Names::of(&self.model);
        Page { rows: flows.iter().map(|(flow, from)| ConntrackRow::new(flow, *from, &names)).collect(), next }
    }

    /// The loop only copies the counters; the rules are those that it was told last.
    fn listed_rules(&self, v6: bool) -> Result<ListedTables, Refused> {
        let version = if v6 { Version::V6 } else { Version::V4 };
        let counts = self.in_loop(move |inner| inner.switch.rules(version).counts())?;
        let [v4_rules, v6_rules] = self.told.plan().rulesets();
        let ruleset = if v6 { v6_rules } else { v4_rules };
        let program = Program::compile(ruleset).map_err(|rejected| failed(&rejected))?;
        let [filter, nat] = [TableKind::Filter, TableKind::Nat].map(|table| program.list(table, &counts));
        Ok(ListedTables { version, filter, nat })
    }
}

/// Flows, each with the network that its first packet came from.
fn origins(switch: &Switch, flows: Vec<FlowRow>) -> Vec<(FlowRow, Option<NetworkId>)> {
    let origin = |flow: &FlowRow| Some(switch.port(flow.owner?)?.network);
    flows.into_iter().map(|flow| (flow, origin(&flow))).collect()
}
