//! Requests that only look.

use std::collections::BTreeMap;

use super::{Daemon, Handled, network_number, now};
use crate::control::Refused;
use crate::control::model::Listed;
use crate::control::show::{self, DropRow, FdbRow, PortRow, Style};
use crate::dataplane::fdb::FdbEntry;
use crate::dataplane::{Counters, NetworkId, PortId};
use crate::io::event_loop::EventLoop;
use crate::io::host;
use crate::io::netlink::LinkInfo;

/// Entries read from an fdb between two bursts.
const PAGE: usize = 1024;

impl Daemon {
    pub(super) fn network_list(&self) -> Handled {
        now(show::network_rows(&self.model))
    }

    pub(super) fn network_inspect(&self, names: &[String]) -> Handled {
        let one = |name: &String| {
            Ok(match self.model.find_listed(name)? {
                Listed::Switched(network) => show::inspect_network(&self.model, network),
                Listed::Unswitched(network) => show::inspect_unswitched(&self.model, network),
            })
        };
        now(names.iter().map(one).collect::<Result<Vec<_>, Refused>>()?)
    }

    pub(super) fn container_list(&self, all: bool) -> Handled {
        let mut rows = show::container_rows(&self.model, all, host::now_ns());
        for row in rows.iter_mut().filter(|row| row.state == "lost") {
            let container = self.model.find_container(&row.id).ok();
            if let Some(command) = container.and_then(|container| self.plug_command(container)) {
                row.status.push_str(&format!(": '{command}'"));
            }
        }
        now(rows)
    }

    pub(super) fn container_inspect(&self, names: &[String]) -> Handled {
        let one = |name: &String| Ok(show::inspect_container(&self.model, self.model.find_container(name)?));
        now(names.iter().map(one).collect::<Result<Vec<_>, Refused>>()?)
    }

    /// The state of each port, as `show ports` has it.
    pub(super) fn port_states(&self) -> Result<BTreeMap<PortId, &'static str>, Refused> {
        let counters = self.in_loop(|inner| port_counters(inner))?;
        let state = |(port, (up, _)): (&PortId, &(bool, Counters))| {
            (*port, self.state_of(*port, *up, self.look_inside(*port).as_ref()))
        };
        Ok(counters.iter().map(state).collect())
    }

    fn state_of(&self, port: PortId, up: bool, inside: Option<&LinkInfo>) -> &'static str {
        match (self.links.get(&port), up, inside) {
            (Some(link), ..) if link.lost => "lost",
            (_, false, _) => "down",
            (_, true, Some(link)) if !(link.up && link.carrier) => "link-down",
            _ => "up",
        }
    }

    pub(super) fn show_ports(&self) -> Handled {
        let counters = self.in_loop(|inner| port_counters(inner))?;
        let with_counters = |(port, mut row): (u32, PortRow)| {
            if let Some((up, seen)) = counters.get(&PortId(port)) {
                (row.rx_frames, row.rx_bytes, row.rx_segments) =
                    (seen.rx.frames, seen.rx.bytes, seen.rx.segments);
                (row.tx_frames, row.tx_bytes, row.tx_segments) =
                    (seen.tx.frames, seen.tx.bytes, seen.tx.segments);
                row.drops = seen.dropped();
                row.ifindex = self.links.get(&PortId(port)).map_or(0, |link| link.index);
                let inside = self.look_inside(PortId(port));
                row.kernel_drops = inside.as_ref().map_or(0, |link| link.dropped);
                row.state = self.state_of(PortId(port), *up, inside.as_ref()).to_owned();
            }
            row
        };
        now(show::port_rows(&self.model).into_iter().map(with_counters).collect::<Vec<_>>())
    }

    pub(super) fn show_interfaces(&self) -> Handled {
        let states = self.port_states()?;
        let port = |number| {
            let port = PortId(number);
            let inside = self.links.get(&port).map_or(0, |link| link.index);
            (states.get(&port).copied().unwrap_or("lost"), inside)
        };
        now(show::interface_rows(&self.model, port))
    }

    /// What the interface behind a port is like, as its namespace sees it now.
    pub(super) fn look_inside(&self, port: PortId) -> Option<LinkInfo> {
        let link = self.links.get(&port)?;
        let shell = self.containers.get(&link.container)?;
        match (&shell.netlink, &shell.outside) {
            (Some(netlink), _) => netlink.link_at(link.index).ok(),
            (None, outside) => outside.as_ref()?.link_at(link.index).ok(),
        }
    }

    pub(super) fn show_fdb(&self) -> Handled {
        let mut rows = Vec::new();
        for network in self.model.all_networks() {
            let mut cursor = Some(0);
            while let Some(from) = cursor {
                let id = network_number(network);
                let (entries, next) = self.in_loop(move |inner| fdb_page(inner, id, from))?;
                rows.extend(entries.iter().map(|entry| self.fdb_row(&network.name, entry)));
                cursor = next;
            }
        }
        now(rows)
    }

    fn fdb_row(&self, network: &str, entry: &FdbEntry) -> FdbRow {
        let (port, container) = self.name_of(entry.port).unwrap_or_default();
        FdbRow {
            network: network.to_owned(),
            mac: entry.mac.to_string(),
            port,
            container,
            age: (!entry.is_static).then_some(entry.age.as_secs()),
            is_static: entry.is_static,
        }
    }

    /// A port's name, and its container's.
    fn name_of(&self, port: PortId) -> Option<(String, String)> {
        let container = self.model.container(self.links.get(&port)?.container)?;
        let endpoint = container.endpoints.iter().find(|endpoint| endpoint.port == port.0)?;
        Some((container.port_name(endpoint), container.name.clone()))
    }

    pub(super) fn show_drops(&self) -> Handled {
        let ports = self.in_loop(|inner| port_counters(inner))?;
        let mut rows = Vec::new();
        for (port, (_, counters)) in &ports {
            if let Some((name, _)) = self.name_of(*port) {
                rows.extend(drop_rows(&name, counters));
            }
        }
        for network in self.model.all_networks() {
            let id = network_number(network);
            let counters = self.in_loop(move |inner| inner.switch.network_counters(id))?;
            rows.extend(drop_rows(&format!("net:{}", network.name), &counters.unwrap_or_default()));
        }
        now(rows)
    }

    pub(super) fn show_topology(&self, dot: bool, ascii: bool) -> Handled {
        let style = if ascii { Style::Ascii } else { Style::Unicode };
        now(if dot { show::dot(&self.model) } else { show::topology(&self.model, style) })
    }
}

fn port_counters(inner: &EventLoop) -> BTreeMap<PortId, (bool, Counters)> {
    inner.switch.ports().map(|(id, port)| (id, (port.up, port.counters))).collect()
}

fn fdb_page(inner: &EventLoop, network: NetworkId, from: usize) -> (Vec<FdbEntry>, Option<usize>) {
    let now = inner.now();
    inner.switch.network(network).map_or_else(Default::default, |network| network.fdb.page(now, from, PAGE))
}

fn drop_rows(at: &str, counters: &Counters) -> Vec<DropRow> {
    let row = |(reason, count): (crate::dataplane::DropReason, u64)| DropRow {
        at: at.to_owned(),
        reason: reason.name().to_owned(),
        count,
        sentence: reason.sentence().to_owned(),
    };
    counters.reasons().map(row).collect()
}
