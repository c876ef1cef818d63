//! The switch as a host would show it that had built it of kernel devices: each network is a bridge with its
//! gateway's addresses, each port a veth that is enslaved to it, each uplink an interface.
//!
//! Indices are made of the lowest free numbers that networks and ports have: even ones are bridges and uplinks,
//! odd ones ports; 1 is left to `lo`. A veth's own MAC address is made of the endpoint's id: a kernel draws it.
//! No frame carries it.

use serde::{Deserialize, Serialize};

use super::table::Table;
use crate::control::model::{Container, Endpoint, Network};
use crate::control::{Model, compile};
use crate::dataplane::local::link_local;
use crate::wire::MacAddr;

/// A line of `show interfaces`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct InterfaceRow {
    /// Its number; unique while it lives.
    pub index: u32,
    /// `docker0`, `br-` and 12 digits, `veth` and 7 digits, or the uplink's name.
    pub name: String,
    /// `bridge`, `veth`, `uplink`.
    pub kind: String,
    /// The network, or the uplink.
    pub network: String,
    /// The bridge that a veth is enslaved to; empty for others.
    pub master: String,
    /// The port that a veth is, as `show ports` calls it; empty for others.
    pub port: String,
    /// Whose port it is; empty for others.
    pub container: String,
    /// Of a veth: the index of the interface inside; 0 where there is none.
    pub peer_ifindex: u32,
    /// Its MAC address.
    pub mac: String,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// `up`, `down` (set so), `link-down` (no carrier: the other end is down, or no port of the bridge is up),
    /// `lost`.
    pub state: String,
    /// Its addresses, with their prefix lengths.
    pub addresses: Vec<String>,
    /// Of a bridge: seconds that it keeps an address it has learned.
    pub ageing: u32,
}

impl InterfaceRow {
    /// Whether it is the bridge of a network.
    pub fn is_bridge(&self) -> bool {
        self.kind == "bridge"
    }

    /// Whether frames can pass it.
    pub fn is_up(&self) -> bool {
        self.state == "up"
    }
}

/// What is asked about a port: its state as `show ports` has it, and the index of the interface inside.
pub type PortNow = (&'static str, u32);

/// Rows of `show interfaces`, by index. `port` tells how the port of a number is.
pub fn interface_rows(model: &Model, port: impl Fn(u32) -> PortNow) -> Vec<InterfaceRow> {
    let mut rows = Vec::new();
    for network in model.all_networks() {
        let endpoints = model.endpoints(network.id);
        let up = endpoints.iter().any(|(_, endpoint)| port(endpoint.port).0 == "up");
        rows.push(network_row(model, network, if up { "up" } else { "link-down" }));
        if network.uplink.is_none() {
            let veth = |(container, endpoint): (&Container, &Endpoint)| {
                veth_row(network, container, endpoint, port(endpoint.port))
            };
            rows.extend(endpoints.into_iter().map(veth));
        }
    }
    rows.sort_by_key(|row| row.index);
    rows
}

/// With the addresses that the data plane is told.
fn network_row(model: &Model, network: &Network, state: &str) -> InterfaceRow {
    let interface = compile::interface(model, network);
    let own = interface.addresses.iter();
    let own = own.map(|own| format!("{}/{}", own.address, own.prefix.len()));
    let link = link_local(&interface).map(|address| format!("{address}/64"));
    let is_uplink = network.uplink.is_some();
    InterfaceRow {
        index: network.number.saturating_mul(2).saturating_add(2),
        name: network.bridge_name(),
        kind: if is_uplink { "uplink" } else { "bridge" }.to_owned(),
        network: network.name.clone(),
        mac: interface.mac.to_string(),
        mtu: network.options.mtu,
        state: state.to_owned(),
        addresses: own.chain(link).collect(),
        ageing: if is_uplink { 0 } else { network.options.ageing },
        ..InterfaceRow::default()
    }
}

fn veth_row(
    network: &Network,
    container: &Container,
    endpoint: &Endpoint,
    (state, inside): PortNow,
) -> InterfaceRow {
    let [.., a, b, c, d, e, f] = *endpoint.id.bytes();
    InterfaceRow {
        index: endpoint.port.saturating_mul(2).saturating_add(3),
        name: endpoint.alias.clone(),
        kind: "veth".to_owned(),
        network: network.name.clone(),
        master: network.bridge_name(),
        port: container.port_name(endpoint),
        container: container.name.clone(),
        peer_ifindex: inside,
        // Administered locally, of a station.
        mac: MacAddr([a & 0xfc | 0x02, b, c, d, e, f]).to_string(),
        mtu: network.options.mtu,
        state: state.to_owned(),
        ..InterfaceRow::default()
    }
}

/// `show interfaces`.
pub fn interface_table(rows: &[InterfaceRow]) -> String {
    let mut table = Table::new(
        0,
        &["INDEX", "INTERFACE", "KIND", "NETWORK", "MASTER", "PORT", "MAC", "MTU", "STATE", "ADDRESSES"],
    );
    let or_none = |text: &String| if text.is_empty() { "-".to_owned() } else { text.clone() };
    for row in rows {
        table.row(vec![
            row.index.to_string(),
            row.name.clone(),
            row.kind.clone(),
            row.network.clone(),
            or_none(&row.master),
            or_none(&row.port),
            row.mac.clone(),
            row.mtu.to_string(),
            row.state.clone(),
            row.addresses.join(","),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::show::tests::model;

    #[test]
    fn each_network_is_a_bridge_and_each_port_a_veth_of_it() {
        let model = model();
        let rows = interface_rows(&model, |port| if port == 0 { ("up", 2) } else { ("link-down", 3) });
        let indices: Vec<u32> = rows.iter().map(|row| row.index).collect();
        assert_eq!(indices, [2, 3, 4, 5, 6, 7], "{rows:#?}");
        let named = |name: &str| rows.iter().find(|row| row.name == name).unwrap();
        let docker0 = named("docker0");
        assert_eq!((docker0.state.as_str(), docker0.mac.as_str()), ("link-down", "02:42:ac:11:00:01"));
        assert_eq!(docker0.addresses, ["172.17.0.1/16"]);
        let net1 = named("br-010101010101");
        assert_eq!(net1.addresses, ["172.19.0.1/16", "fd00:19::1/64", "fe80::42:acff:fe13:1/64"]);
        assert_eq!((net1.state.as_str(), net1.ageing, net1.is_up()), ("up", 300, true));
        let alice = rows.iter().find(|row| row.container == "alice").unwrap();
        assert_eq!((alice.master.as_str(), alice.peer_ifindex), ("br-010101010101", 2));
        assert!(alice.mac.parse::<MacAddr>().unwrap().is_station() && alice.addresses.is_empty());
        let text = interface_table(&rows);
        assert!(text.starts_with("INDEX   INTERFACE         KIND     NETWORK"), "{text}");
        assert!(text.contains("router:eth1"), "{text}");
    }
}
