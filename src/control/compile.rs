//! The model, as the data plane is told of it.

use std::time::Duration;

use super::Model;
use super::model::Network;
use super::options::NetworkOptions;
use crate::dataplane::fdb::Limits;
use crate::dataplane::{Change, NetworkConfig, NetworkId, PortId};

/// The number by which the data plane knows a network.
pub const fn network_number(network: &Network) -> NetworkId {
    NetworkId(network.number)
}

/// What the data plane is told of a network's options.
pub const fn config(options: &NetworkOptions) -> NetworkConfig {
    NetworkConfig {
        mtu: options.mtu,
        icc: options.icc,
        fdb: Limits {
            table: options.fdb_limit,
            port: options.fdb_port_limit,
            ageing: Duration::from_secs(options.ageing as u64),
        },
        flood_limit: options.flood_limit,
    }
}

/// The changes that make an empty switch carry the whole model: each network, then its ports.
pub fn changes(model: &Model) -> Vec<Change> {
    let of_network = |network: &&Network| {
        let number = network_number(network);
        let ports = model.endpoints(network.id);
        let ports =
            ports.into_iter().map(move |(_, endpoint)| Change::AddPort(PortId(endpoint.port), number));
        let mut changes = vec![Change::AddNetwork(number, config(&network.options))];
        changes.extend(ports);
        changes
    };
    model.networks().iter().flat_map(of_network).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::lab::{DEMO, Lab};
    use crate::control::replay::model_of;
    use crate::dataplane::{Instant, Switch};

    #[test]
    fn an_empty_switch_takes_all_changes_of_a_lab() {
        let model = model_of(&Lab::parse("demo", "demo.toml", DEMO).unwrap()).unwrap();
        let changes = changes(&model);
        let mut switch = Switch::new(0);
        changes.iter().for_each(|change| switch.apply(Instant(0), change.clone()).unwrap());
        assert_eq!((changes.len(), switch.ports().count()), (3 + 4, 4));
        let net2 = network_number(model.find_network("net2").unwrap());
        assert_eq!(switch.network(net2).map(|network| network.config.mtu), Some(1500));
    }
}
