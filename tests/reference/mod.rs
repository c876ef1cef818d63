//! The reference bridge: as obvious as possible, and nothing else. It is told what a frame is instead of
//! reading its bytes, and keeps everything in lists.

use std::time::Duration;

use tapswitch::dataplane::fdb::{FdbCounters, FdbEntry};
use tapswitch::dataplane::{Change, DropReason, NetworkConfig, NetworkId, PortId, Rejected, Verdict};
use tapswitch::wire::MacAddr;

/// What a frame is.
pub(crate) struct Truth {
    pub(crate) to: MacAddr,
    pub(crate) source: MacAddr,
    /// Bytes of the packet, or of its longest segment.
    pub(crate) packet: usize,
    pub(crate) is_arp: bool,
    pub(crate) is_runt: bool,
    pub(crate) is_lying: bool,
}

#[derive(Default)]
pub(crate) struct Bridge {
    now: Duration,
    networks: Vec<Network>,
    ports: Vec<Port>,
    known: Vec<Known>,
}

struct Network {
    id: NetworkId,
    config: NetworkConfig,
    counters: FdbCounters,
}

struct Port {
    id: PortId,
    network: NetworkId,
    up: bool,
    /// How long it may still shout, and when that was so: a full second at most.
    breath: Duration,
    breath_at: Duration,
}

struct Known {
    network: NetworkId,
    mac: MacAddr,
    port: PortId,
    /// `None`: for ever.
    seen: Option<Duration>,
}

const SECOND: Duration = Duration::from_secs(1);

impl Bridge {
    pub(crate) fn wait(&mut self, time: Duration) {
        self.now += time;
        self.forget_the_old();
    }

    fn forget_the_old(&mut self) {
        for network in &mut self.networks {
            let before = self.known.len();
            let old = |known: &Known| {
                let age = known.seen.map(|seen| self.now - seen);
                known.network == network.id && age.is_some_and(|age| age >= network.config.fdb.ageing)
            };
            self.known.retain(|known| !old(known));
            network.counters.aged += (before - self.known.len()) as u64;
        }
    }

    /// The verdict, and the ports that get the frame.
    pub(crate) fn input(&mut self, from: u32, frame: &Truth) -> (Verdict, Vec<u32>) {
        match self.decide(PortId(from), frame) {
            Ok(answer) => answer,
            Err(reason) => (Verdict::Drop(reason), Vec::new()),
        }
    }

    fn decide(&mut self, from: PortId, frame: &Truth) -> Result<(Verdict, Vec<u32>), DropReason> {
        let at = self.ports.iter().position(|port| port.id == from).ok_or(DropReason::PortDown)?;
        let id = self.ports[at].network;
        let config = self.networks.iter().find(|network| network.id == id).unwrap().config;
        if !self.ports[at].up {
            return Err(DropReason::PortDown);
        }
        if frame.is_runt {
            return Err(DropReason::Runt);
        }
        if frame.is_lying {
            return Err(DropReason::BadOffload);
        }
        if is_group(frame.source) || frame.source == MacAddr::ZERO {
            return Err(DropReason::BadSource);
        }
        if frame.packet > config.mtu as usize {
            return Err(DropReason::Oversize);
        }
        self.learn(id, frame.source, from);
        if frame.to.0[..5] == [0x01, 0x80, 0xc2, 0, 0] && frame.to.0[5] < 16 {
            return Err(DropReason::LinkLocal);
        }
        let known = self.known.iter().find(|known| (known.network, known.mac) == (id, frame.to));
        if let Some(known) = known.filter(|_| !is_group(frame.to)) {
            if known.port == from {
                return Err(DropReason::SamePort);
            }
            if !self.ports.iter().any(|port| port.id == known.port && port.up) {
                return Err(DropReason::EgressDown);
            }
            if !config.icc && !frame.is_arp {
                return Err(DropReason::Icc);
            }
            return Ok((Verdict::ToPort(known.port), vec![known.port.0]));
        }
        if !config.icc && !frame.is_arp {
            return Err(DropReason::Icc);
        }
        self.shout(at, id, config.flood_limit)
    }

    fn shout(
        &mut self,
        at: usize,
        id: NetworkId,
        per_second: u32,
    ) -> Result<(Verdict, Vec<u32>), DropReason> {
        let others = self.ports.iter().enumerate();
        let others = others.filter(|(other, port)| *other != at && port.network == id && port.up);
        let mut reached: Vec<u32> = others.map(|(_, port)| port.id.0).collect();
        reached.sort_unstable();
        let port = &mut self.ports[at];
        if per_second > 0 {
            let rested = self.now - port.breath_at;
            (port.breath, port.breath_at) = ((port.breath + rested).min(SECOND), self.now);
            let cost = Duration::from_nanos(1_000_000_000 / u64::from(per_second));
            let left = port.breath.checked_sub(cost).ok_or(DropReason::FloodLimit)?;
            if !reached.is_empty() {
                port.breath = left;
            }
        }
        if reached.is_empty() {
            return Err(DropReason::NoListener);
        }
        Ok((Verdict::Flood(id), reached))
    }

    fn learn(&mut self, id: NetworkId, mac: MacAddr, port: PortId) {
        let network = self.networks.iter_mut().find(|network| network.id == id).unwrap();
        match self.known.iter_mut().find(|known| (known.network, known.mac) == (id, mac)) {
            Some(Known { seen: None, .. }) => {}
            Some(known) if known.port != port => {
                (known.port, known.seen) = (port, Some(self.now));
                network.counters.moved += 1;
            }
            Some(known) => {
                // What was seen a moment ago need not be written down again.
                let moment = network.config.fdb.ageing / 300;
                known.seen = known.seen.filter(|seen| self.now - *seen < moment).or(Some(self.now));
            }
            None if network.config.fdb.ageing.is_zero() => {}
            None => {
                self.known.push(Known { network: id, mac, port, seen: Some(self.now) });
                network.counters.learned += 1;
            }
        }
    }

    pub(crate) fn apply(&mut self, change: Change) -> Result<(), Rejected> {
        let has_network = |id| self.networks.iter().any(|network| network.id == id);
        let network_of = |id| self.ports.iter().find(|port| port.id == id).map(|port| port.network);
        match change {
            Change::AddNetwork(id, _) if has_network(id) => return Err(Rejected::NetworkExists(id)),
            Change::AddNetwork(id, config) => {
                self.networks.push(Network { id, config, counters: FdbCounters::default() });
            }
            Change::SetNetwork(id, config) => return self.set_network(id, config),
            Change::RemoveNetwork(id) if !has_network(id) => return Err(Rejected::UnknownNetwork(id)),
            Change::RemoveNetwork(id) if self.ports.iter().any(|port| port.network == id) => {
                return Err(Rejected::NetworkInUse(id));
            }
            Change::RemoveNetwork(id) => self.networks.retain(|network| network.id != id),
            Change::AddPort(id, _) if network_of(id).is_some() => return Err(Rejected::PortExists(id)),
            Change::AddPort(_, on) if !has_network(on) => return Err(Rejected::UnknownNetwork(on)),
            Change::AddPort(id, network) => {
                self.ports.push(Port { id, network, up: true, breath: SECOND, breath_at: self.now });
            }
            Change::RemovePort(id) | Change::SetPort(id, _) if network_of(id).is_none() => {
                return Err(Rejected::UnknownPort(id));
            }
            Change::RemovePort(id) => {
                self.ports.retain(|port| port.id != id);
                self.known.retain(|known| known.port != id);
            }
            Change::SetPort(id, up) => {
                self.ports.iter_mut().filter(|port| port.id == id).for_each(|port| port.up = up);
                self.known.retain(|known| up || known.port != id || known.seen.is_none());
            }
            Change::AddFdb(id, _, _) if !has_network(id) => return Err(Rejected::UnknownNetwork(id)),
            Change::AddFdb(_, mac, _) if is_group(mac) || mac == MacAddr::ZERO => {
                return Err(Rejected::BadAddress(mac));
            }
            Change::AddFdb(id, mac, port) => match network_of(port) {
                None => return Err(Rejected::UnknownPort(port)),
                Some(on) if on != id => return Err(Rejected::NotOnNetwork(port, id)),
                Some(_) => {
                    self.known.retain(|known| (known.network, known.mac) != (id, mac));
                    self.known.push(Known { network: id, mac, port, seen: None });
                }
            },
            Change::SetInterface(..)
            | Change::AddRoute(_)
            | Change::RemoveRoute(_)
            | Change::SetRules(..)
            | Change::SetDns(..)
            | Change::Set(_) => panic!("the model of the bridge is not told of the router"),
            Change::RemoveFdb(id, _) if !has_network(id) => return Err(Rejected::UnknownNetwork(id)),
            Change::RemoveFdb(id, mac) => {
                let before = self.known.len();
                self.known.retain(|known| (known.network, known.mac) != (id, mac));
                if before == self.known.len() {
                    return Err(Rejected::UnknownAddress(mac));
                }
            }
        }
        Ok(())
    }

    fn set_network(&mut self, id: NetworkId, config: NetworkConfig) -> Result<(), Rejected> {
        let network = self.networks.iter_mut().find(|network| network.id == id);
        let network = network.ok_or(Rejected::UnknownNetwork(id))?;
        network.config = config;
        if config.fdb.ageing.is_zero() {
            let before = self.known.len();
            self.known.retain(|known| known.network != id || known.seen.is_none());
            network.counters.evicted += (before - self.known.len()) as u64;
        }
        self.forget_the_old();
        Ok(())
    }

    /// What is known on a network, by address.
    pub(crate) fn fdb(&self, network: u32) -> Vec<FdbEntry> {
        let known = self.known.iter().filter(|known| known.network.0 == network);
        let mut entries: Vec<FdbEntry> = known
            .map(|known| FdbEntry {
                mac: known.mac,
                port: known.port,
                age: known.seen.map_or(Duration::ZERO, |seen| self.now - seen),
                is_static: known.seen.is_none(),
            })
            .collect();
        entries.sort_unstable_by_key(|entry| entry.mac);
        entries
    }

    /// Life-time counters of a network's fdb.
    pub(crate) fn counters(&self, network: u32) -> FdbCounters {
        self.networks.iter().find(|other| other.id.0 == network).unwrap().counters
    }
}

fn is_group(mac: MacAddr) -> bool {
    mac.0[0] % 2 == 1
}
