//! Ports: where frames enter and leave the switch.

use super::NetworkId;
use super::counters::Counters;
use super::storm::Bucket;

/// A port's number, chosen by the control plane; small, for it indexes a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct PortId(pub u32);

/// One port.
#[derive(Debug)]
pub struct Port {
    /// The network it belongs to.
    pub network: NetworkId,
    /// Administrative state: a port that is down neither receives nor sends.
    pub up: bool,
    /// What it has seen.
    pub counters: Counters,
    pub(super) storm: Bucket,
}

impl Port {
    pub(super) fn new(network: NetworkId, up: bool) -> Self {
        Self { network, up, counters: Counters::default(), storm: Bucket::default() }
    }
}
