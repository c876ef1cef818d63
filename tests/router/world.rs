//! Two networks and the outside behind an uplink, who lives there, and how they become known.

use std::net::IpAddr;

use tapswitch::control::docker_rules::{Policy, PolicyNetwork, PolicyPublish, rulesets};
use tapswitch::dataplane::{
    Change, Frame, Interface, InterfaceAddress, MssClamp, NetworkConfig, NetworkId, Role, Route,
};
use tapswitch::wire::MacAddr;
use tapswitch::wire::arp::{Arp, Operation};
use tapswitch::wire::ip::{Addr, Prefix, Version};
use tapswitch::wire::ndp::{self, Envelope};

use crate::common::lab::Lab;

/// net1: 172.19.0.0/16 and fd00:19::/64, ports 1 and 2.
pub(crate) const NET1: NetworkId = NetworkId(0);
/// net2: 172.20.0.0/16 and fd00:20::/64, ports 3 and 4.
pub(crate) const NET2: NetworkId = NetworkId(1);
/// The outside: 198.51.100.0/24 and 2001:db8::/64, port 9; we are .1, the next router is .2.
pub(crate) const WAN: NetworkId = NetworkId(2);

/// Both versions, for what is the same in both.
pub(crate) const BOTH: [Version; 2] = [Version::V4, Version::V6];

/// Somebody who sends and receives packets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Party {
    pub(crate) port: u32,
    pub(crate) mac: MacAddr,
    /// The MAC address of the gateway that it sends what is for others to.
    pub(crate) gateway: MacAddr,
    pub(crate) v4: &'static str,
    pub(crate) v6: &'static str,
}

impl Party {
    pub(crate) fn ip(self, version: Version) -> IpAddr {
        match version {
            Version::V4 => self.v4.parse().unwrap(),
            Version::V6 => self.v6.parse().unwrap(),
        }
    }

    pub(crate) fn addr(self, version: Version) -> Addr {
        self.ip(version).into()
    }
}

/// A gateway. It is a party behind no port.
const fn gateway(mac: MacAddr, v4: &'static str, v6: &'static str) -> Party {
    Party { port: u32::MAX, mac, gateway: mac, v4, v6 }
}

/// Somebody behind a gateway.
const fn behind(gateway: Party, port: u32, mac: [u8; 6], v4: &'static str, v6: &'static str) -> Party {
    Party { port, mac: MacAddr(mac), gateway: gateway.mac, v4, v6 }
}

pub(crate) const GATEWAY1: Party = gateway(MacAddr([2, 0x42, 172, 19, 0, 1]), "172.19.0.1", "fd00:19::1");
pub(crate) const GATEWAY2: Party = gateway(MacAddr([2, 0x42, 172, 20, 0, 1]), "172.20.0.1", "fd00:20::1");
/// Us, as seen from outside.
pub(crate) const OURS: Party = gateway(MacAddr([2, 0x42, 198, 51, 100, 1]), "198.51.100.1", "2001:db8::1");

pub(crate) const ALICE: Party = behind(GATEWAY1, 1, [2, 0x42, 172, 19, 0, 2], "172.19.0.2", "fd00:19::2");
pub(crate) const BOB: Party = behind(GATEWAY1, 2, [2, 0x42, 172, 19, 0, 3], "172.19.0.3", "fd00:19::3");
pub(crate) const CAROL: Party = behind(GATEWAY2, 3, [2, 0x42, 172, 20, 0, 2], "172.20.0.2", "fd00:20::2");
pub(crate) const DAVE: Party = behind(GATEWAY2, 4, [2, 0x42, 172, 20, 0, 3], "172.20.0.3", "fd00:20::3");
/// The next router outside.
pub(crate) const OUTSIDE: Party = behind(OURS, 9, [2, 0x42, 198, 51, 100, 2], "198.51.100.2", "2001:db8::2");
/// Two servers behind the next router.
pub(crate) const SERVER: Party =
    behind(OURS, 9, [2, 0x42, 198, 51, 100, 2], "203.0.113.80", "2001:db8:80::80");
pub(crate) const OTHER_SERVER: Party =
    behind(OURS, 9, [2, 0x42, 198, 51, 100, 2], "203.0.113.81", "2001:db8:80::81");

pub(crate) fn addr(text: &str) -> Addr {
    text.parse::<IpAddr>().unwrap().into()
}

pub(crate) fn prefix(text: &str) -> Prefix {
    let (address, len) = text.split_once('/').unwrap();
    Prefix::new(addr(address), len.parse().unwrap())
}

/// The interface of a gateway, whose subnets have these lengths.
pub(crate) fn interface(role: Role, own: Party, bits: u8) -> Interface {
    let address = |version, len| {
        let address = own.addr(version);
        InterfaceAddress { address, prefix: Prefix::new(address, len) }
    };
    Interface {
        role,
        mac: own.mac,
        addresses: vec![address(Version::V4, bits), address(Version::V6, 64)],
        forward: true,
        internal: false,
        advertise: false,
        mss_clamp: MssClamp::Off,
        uplink: None,
        filter_bridged: false,
        sockets: false,
    }
}

pub(crate) fn interface1() -> Interface {
    interface(Role::Network, GATEWAY1, 16)
}

pub(crate) fn interface2() -> Interface {
    interface(Role::Network, GATEWAY2, 16)
}

pub(crate) fn uplink() -> Interface {
    interface(Role::Uplink, OURS, 24)
}

/// As Docker's, with carol's port 80 published as 8000.
pub(crate) fn policy() -> Policy {
    let network = |id, v4: &str, v6: &str| PolicyNetwork {
        id,
        subnets: vec![prefix(v4), prefix(v6)],
        internal: false,
        icc: true,
        masquerade: true,
        masquerade_v6: true,
        masquerade_ports: None,
        masquerade_to: Vec::new(),
    };
    Policy {
        iptables: true,
        masquerade: true,
        networks: vec![
            network(NET1, "172.19.0.0/16", "fd00:19::/64"),
            network(NET2, "172.20.0.0/16", "fd00:20::/64"),
        ],
        publishes: BOTH.map(|version| publish(CAROL, version, 6, (8000, 8000), 80)).to_vec(),
        links: Vec::new(),
        proxies: Vec::new(),
        user_rules: Vec::new(),
    }
}

/// Ports of one of carol's kind, published.
pub(crate) fn publish(
    who: Party,
    version: Version,
    protocol: u8,
    host_ports: (u16, u16),
    first: u16,
) -> PolicyPublish {
    PolicyPublish {
        network: if who.port == CAROL.port { NET2 } else { NET1 },
        address: who.addr(version),
        protocol,
        host: None,
        host_ports,
        container_ports: (first, first + (host_ports.1 - host_ports.0)),
        from: Vec::new(),
        beside: Vec::new(),
    }
}

/// No filter, no translation, no isolation (`--iptables=false`).
pub(crate) fn open() -> Policy {
    Policy { iptables: false, ..policy() }
}

pub(crate) fn set_rules(lab: &mut Lab, policy: &Policy) {
    let [v4, v6] = rulesets(policy);
    lab.apply(Change::SetRules(Version::V4, v4));
    lab.apply(Change::SetRules(Version::V6, v6));
}

/// The switch with everything in place, and every neighbour known.
pub(crate) fn world(policy: &Policy) -> Lab {
    world_of(policy, [NetworkConfig::default(); 3])
}

/// The same with these settings of the networks.
pub(crate) fn world_of(policy: &Policy, configs: [NetworkConfig; 3]) -> Lab {
    let mut lab = strangers(policy, configs);
    [ALICE, BOB, CAROL, DAVE, OUTSIDE].into_iter().for_each(|party| introduce(&mut lab, party));
    lab
}

/// The same, with no neighbour known.
pub(crate) fn strangers(policy: &Policy, [one, two, wan]: [NetworkConfig; 3]) -> Lab {
    let mut lab = Lab::new(&[(0, one, &[1, 2]), (1, two, &[3, 4]), (2, wan, &[9])]);
    for (network, interface) in [(NET1, interface1()), (NET2, interface2()), (WAN, uplink())] {
        lab.apply(Change::SetInterface(network, Some(interface)));
    }
    for (all, version) in [(Prefix::ALL_V4, Version::V4), (Prefix::ALL_V6, Version::V6)] {
        let via = Some(OUTSIDE.addr(version));
        lab.apply(Change::AddRoute(Route { prefix: all, via, interface: WAN, metric: 0 }));
    }
    set_rules(&mut lab, policy);
    lab.settle();
    lab
}

/// Makes a neighbour known: it asks for its gateway, in both versions.
pub(crate) fn introduce(lab: &mut Lab, party: Party) {
    for question in [arp_request(party, gateway_of(party).v4), solicitation(party, gateway_of(party).v6)] {
        let _ = lab.send(party.port, &question);
    }
}

pub(crate) fn gateway_of(party: Party) -> Party {
    let gateways = [GATEWAY1, GATEWAY2, OURS];
    gateways.into_iter().find(|gateway| gateway.mac == party.gateway).unwrap()
}

/// Who has this address?
pub(crate) fn arp_request(from: Party, target: &str) -> Frame {
    Frame::from_bytes(&arp(from.mac, from.v4, MacAddr::ZERO, target, Operation::Request, MacAddr::BROADCAST))
}

pub(crate) fn arp(
    sender_mac: MacAddr,
    sender: &str,
    target_mac: MacAddr,
    target: &str,
    operation: Operation,
    to: MacAddr,
) -> Vec<u8> {
    let (sender, target) = (addr(sender), addr(target));
    Arp { operation, sender_mac, sender, target_mac, target }.frame(to).to_vec()
}

/// Who has this IPv6 address?
pub(crate) fn solicitation(from: Party, target: &str) -> Frame {
    let envelope = Envelope::multicast(from.mac, addr(from.v6), ndp::solicited_node(addr(target)));
    let mut bytes = Vec::new();
    ndp::neighbour_solicitation(&mut bytes, &envelope, addr(target));
    Frame::from_bytes(&bytes)
}

/// The rules that alice's packets outwards meet: the first one of a flow, and the later ones.
pub(crate) const OUT_NEW: &str = "FORWARD 1 4, DOCKER-ISOLATION 4, nat PREROUTING 0, nat POSTROUTING 2";
pub(crate) const OUT: &str = "FORWARD 1 4, DOCKER-ISOLATION 4";
/// And those that answers to her, and errors about her packets, meet.
pub(crate) const BACK: &str = "FORWARD 1 2, DOCKER-ISOLATION 4";
