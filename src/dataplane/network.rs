//! Networks: one broadcast domain each, with its own fdb, so that nothing can cross.

use std::time::Duration;

use super::PortId;
use super::counters::Counters;
use super::dns;
use super::fdb::{Fdb, Limits};
use super::interface::Interface;
use super::local::Gateway;
use super::storm::Bucket;

/// A network's number, chosen by the control plane; small, for it indexes a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct NetworkId(pub u32);

/// What can be set on a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Longest packet, in bytes after the Ethernet header and VLAN tags.
    pub mtu: u32,
    /// Whether containers may talk to each other (Docker's inter-container communication).
    pub icc: bool,
    /// Size and ageing of the fdb.
    pub fdb: Limits,
    /// Frames per second that each port may have flooded; 0 = no limit.
    pub flood_limit: u32,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        let fdb = Limits { table: 65_536, port: 16_384, ageing: Duration::from_secs(300) };
        Self { mtu: 1500, icc: true, fdb, flood_limit: 10_000 }
    }
}

/// One network.
#[derive(Debug)]
pub struct Network {
    /// Its number.
    pub id: NetworkId,
    /// Its settings.
    pub config: NetworkConfig,
    /// Its learned and static addresses.
    pub fdb: Fdb,
    /// Its gateway, if it has one.
    pub interface: Option<Interface>,
    /// How its gateway answers questions about names, if it does.
    pub dns: Option<dns::Config>,
    /// What its gateway remembers about itself.
    pub gateway: Gateway,
    /// Its gateway is new, and has not announced its addresses yet.
    pub(super) announce: bool,
    /// How fast the gateway may send errors there.
    pub(super) errors: Bucket,
    /// Its ports, in ascending order.
    pub ports: Vec<PortId>,
    /// What its ports that are gone had seen; the total is this plus the ports of today.
    pub(super) departed: Counters,
}

impl Network {
    pub(super) fn new(id: NetworkId, config: NetworkConfig, seed: u64) -> Self {
        Self {
            id,
            config,
            fdb: Fdb::new(config.fdb, seed),
            interface: None,
            dns: None,
            gateway: Gateway::default(),
            announce: false,
            errors: Bucket::default(),
            ports: Vec::new(),
            departed: Counters::default(),
        }
    }
}
