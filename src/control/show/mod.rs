//! How things look: tables as Docker draws them, JSON, templates, the topology.
//!
//! Every view is made of plain rows: from the model here, from the data plane's tables by the
//! caller. A row is one flat JSON object with snake_case keys, and one line of its table.

mod conntrack;
mod declared;
mod dns;
mod explain;
mod filter;
pub mod foreign;
mod inspect;
mod inspect_container;
mod interfaces;
mod known;
mod listing;
mod name_words;
mod names;
mod publishes;
mod replay;
mod rows;
mod rule_words;
mod rules;
mod table;
mod template;
mod time;
mod topology;

use serde::Serialize;

pub use conntrack::{FlowEventRow, FlowNews, conntrack_event_line, conntrack_line};
pub use declared::{
    RouteRow, SettingRow, UplinkRow, UserRuleRow, route_rows, route_table, setting_lines, uplink_rows,
    uplink_table, user_rule_rows, user_rule_table,
};
pub use dns::{DnsCacheRow, DnsNameRow, DnsNetworkRow, DnsRow, DnsUpstreamRow, dns_rows, dns_tables};
pub use explain::{Explanation, StageRow, explain, remark};
pub use filter::Filters;
pub use inspect::{inspect_network, inspect_unswitched};
pub use inspect_container::inspect_container;
pub use interfaces::{InterfaceRow, PortNow, interface_rows, interface_table};
pub use known::{
    ConntrackRow, NeighRow, RouteEntryRow, conntrack_table_lines, neigh_lines, route_entry_lines,
};
pub use names::Names;
pub use publishes::{
    PublishRow, publish_lines, publish_places, publish_rows, publish_table, rows_of_publish,
};
pub use replay::{ReplayRow, replay_rows, replay_table};
pub use rows::{
    ContainerRow, DropRow, FdbRow, NetworkRow, PortRow, container_format, container_rows, container_table,
    drop_table, fdb_table, network_format, network_rows, network_table, port_rows, port_table,
};
pub use rule_words::rule_words;
pub use rules::{ChainRow, ListedTables, RuleRow, chain_rows, rule_rows, rules_text};
pub use table::Parts;
pub use template::{Template, render};
pub use time::{duration, moment};
pub use topology::{Style, dot, topology};

/// Pretty JSON with Docker's indent of four spaces, with a line's end.
pub fn json(value: &(impl Serialize + ?Sized)) -> String {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    // Writing to memory cannot fail, and no view has a map with other keys than texts.
    let _ = value.serialize(&mut serializer);
    bytes.push(b'\n');
    String::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::control::ipam::SubnetSpec;
    use crate::control::model::{ContainerSpec, EndpointSpec, NetworkSpec};
    use crate::control::{Id, Model};

    const S: u64 = 1_000_000_000;

    /// alice (created) on net1, router (running) on net1 and net2, gone (exited); ids repeat one byte.
    pub(super) fn model() -> Model {
        let mut model = Model::new(Id::new([0; 32]), 1_514_566_947_250_921_600, &[]).unwrap();
        let prefix = |text: &str| text.parse().unwrap();
        let net1 = NetworkSpec {
            subnets: vec![
                SubnetSpec::from(prefix("172.19.0.0/16")),
                SubnetSpec::from(prefix("fd00:19::/64")),
            ],
            lab: Some("demo".to_owned()),
            ..NetworkSpec::named("net1")
        };
        let net2 = NetworkSpec {
            subnets: vec![SubnetSpec {
                range: Some(prefix("172.20.0.0/24")),
                aux: BTreeMap::from([("printer".to_owned(), "172.20.0.9".parse().unwrap())]),
                ..SubnetSpec::from(prefix("172.20.0.0/16"))
            }],
            options: vec![("icc".to_owned(), "false".to_owned())],
            ..NetworkSpec::named("net2")
        };
        for (number, network) in [(1, net1), (2, net2)] {
            model.create_network(&network, Id::new([number; 32]), 0, &[]).unwrap();
        }
        let words = ["python3", "-m", "http.server"].map(str::to_owned).to_vec();
        let containers = [
            (11, "alice", vec![], &["net1"][..], 77),
            (12, "router", words, &["net1", "net2"], 78),
            (13, "gone", vec![], &["net2"], 40),
        ];
        for (number, name, command, networks, created) in containers {
            let networks = networks.iter().copied().map(EndpointSpec::on).collect();
            let spec =
                ContainerSpec { name: Some(name.to_owned()), command, networks, ..ContainerSpec::default() };
            model.create_container(&spec, Id::new([number; 32]), created * S).unwrap();
        }
        model.started(Id::new([12; 32]), 42, 80 * S).unwrap();
        model.ended(Id::new([13; 32]), Some(3), 70 * S).unwrap();
        model
    }
}
