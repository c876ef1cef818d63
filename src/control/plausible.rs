//! The frame that somebody would send: what `explain SRC DST` asks about.
//!
//! A container sends to whoever is on its network by that one's MAC address, and to everybody else by its
//! gateway's, as its own routes would have it. If nobody here has an address on its own network, it asks
//! for it, and gets no further. Who is outside sends by the uplink's next router.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::compile::network_number;
use super::ipam::Subnet;
use super::model::{Container, Endpoint, Model, Network};
use super::{Kind, Refused};
use crate::dataplane::dns::{self, message};
use crate::dataplane::{NetworkId, PortId};
use crate::wire::arp::{Arp, Operation};
use crate::wire::ip::{Addr, Version};
use crate::wire::ndp::{self, Envelope};
use crate::wire::{MacAddr, emit, tcp};

/// A source port that services do not have, and an identifier of pings.
const PORT: u16 = 49_152;
/// A MAC address for an outside that has not spoken yet.
const OUTSIDE: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0x01]);
/// A window as TCP offers it.
const WINDOW: u16 = 64_240;

/// What is sent: to a port by a protocol, or a ping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Errand {
    /// An ICMP echo request.
    Ping,
    /// A TCP segment that opens a connection.
    Tcp(u16),
    /// A UDP datagram.
    Udp(u16),
    /// A question for a name, by UDP.
    Name(String),
}

/// A destination as it is typed: `NAME`, `ADDRESS`, `[ADDRESS]`, with `:PORT` or `:PORT/PROTOCOL`.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub fn parse_destination(word: &str) -> Result<(String, Errand), String> {
    if word.parse::<IpAddr>().is_ok() {
        return Ok((word.to_owned(), Errand::Ping));
    }
    let (host, service) = match word.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').ok_or("give [ADDRESS]:PORT")?)),
        None => match word.rsplit_once(':') {
            Some((host, service)) if service.starts_with(|c: char| c.is_ascii_digit()) => {
                (host, Some(service))
            }
            _ => (word, None),
        },
    };
    let Some(service) = service else { return Ok((host.to_owned(), Errand::Ping)) };
    let (port, protocol) = service.split_once('/').unwrap_or((service, "tcp"));
    let port = port.parse().map_err(|_| format!("'{port}' is no port: give a number from 0 to 65535"))?;
    match protocol {
        "tcp" => Ok((host.to_owned(), Errand::Tcp(port))),
        "udp" => Ok((host.to_owned(), Errand::Udp(port))),
        other => Err(format!("'{other}' is no protocol with ports: give tcp or udp")),
    }
}

/// A frame that somebody would send, but for MAC addresses that only the switch knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plausible {
    /// The port it comes in by.
    pub port: PortId,
    /// Whose MAC address it has, if the neighbour table has it: a router's outside.
    pub router: Option<(NetworkId, Addr)>,
    envelope: Envelope,
    errand: Errand,
    /// The destination is asked for, as nobody is known to have it.
    pub asks: bool,
}

impl Plausible {
    /// The frame; `router` is the MAC address of [`router`](Self::router).
    pub fn frame(&self, router: Option<MacAddr>) -> Vec<u8> {
        let source_mac = router.filter(|_| self.router.is_some()).unwrap_or(self.envelope.source_mac);
        let envelope = Envelope { source_mac, ..self.envelope };
        let Envelope { source, destination, .. } = envelope;
        let mut frame = Vec::new();
        if self.asks {
            if source.version() == Version::V4 {
                let asks = Arp {
                    operation: Operation::Request,
                    sender_mac: source_mac,
                    sender: source,
                    target_mac: MacAddr::ZERO,
                    target: destination,
                };
                return asks.frame(MacAddr::BROADCAST).to_vec();
            }
            let envelope = Envelope::multicast(source_mac, source, ndp::solicited_node(destination));
            ndp::neighbour_solicitation(&mut frame, &envelope, destination);
            return frame;
        }
        match &self.errand {
            Errand::Ping => {
                let kind = if source.version() == Version::V4 { 8 } else { 128 };
                let [high, low] = PORT.to_be_bytes();
                emit::icmp(&mut frame, &envelope, 0, [kind, 0], [high, low, 0, 1], &[&[0; 56]]);
            }
            Errand::Udp(port) => emit::udp(&mut frame, &envelope, (PORT, *port), &[]),
            Errand::Tcp(port) => emit::tcp(&mut frame, &envelope, syn(*port)),
            Errand::Name(name) => {
                let question = message::question(PORT, name).unwrap_or_default();
                emit::udp(&mut frame, &envelope, (PORT, dns::PORT), &question);
            }
        }
        frame
    }
}

fn syn(port: u16) -> [u8; tcp::HEADER_LEN] {
    let mut header = [0; tcp::HEADER_LEN];
    header[0..2].copy_from_slice(&PORT.to_be_bytes());
    header[2..4].copy_from_slice(&port.to_be_bytes());
    header[7] = 1;
    header[12] = 0x50;
    header[13] = tcp::SYN;
    header[14..16].copy_from_slice(&WINDOW.to_be_bytes());
    header
}

/// Where a frame comes from.
struct Source<'a> {
    network: &'a Network,
    port: PortId,
    mac: MacAddr,
    address: IpAddr,
    /// The router outside whose MAC address it has.
    router: Option<(NetworkId, Addr)>,
}

/// The frame that `source` (a container, CONTAINER:IFNAME, an uplink, an address) would send to
/// `destination` (the same).
///
/// # Errors
/// Names that are nobody's or cannot be names, and ends that have no address of the other's IP version.
pub fn plausible(
    model: &Model,
    source: &str,
    destination: &str,
    errand: Errand,
) -> Result<Plausible, Refused> {
    if let Errand::Name(name) = &errand
        && message::question(PORT, name).is_none()
    {
        let text = format!("'{name}' is no name: labels of 1 to 63 bytes with dots between, 253 in all");
        return Err(Refused::new(Kind::BadRequest, text));
    }
    let ends = destinations(model, destination)?;
    let (source, to) = choose(model, source, destination, &ends)?;
    let (destination_mac, asks) = next_hop(model, &source, to);
    let (own, to) = (Addr::from(source.address), Addr::from(to));
    let envelope = Envelope { source_mac: source.mac, destination_mac, source: own, destination: to };
    Ok(Plausible { port: source.port, router: source.router, envelope, errand, asks })
}

/// The addresses that a word may mean, the likeliest first.
fn destinations(model: &Model, word: &str) -> Result<Vec<IpAddr>, Refused> {
    if let Ok(address) = word.parse() {
        return Ok(vec![address]);
    }
    if let Ok(uplink) = model.find_uplink(word) {
        return Ok(uplink.subnets.iter().map(Subnet::gateway).collect());
    }
    let endpoints = endpoints_of(model, word)?;
    let addresses = endpoints.iter().flat_map(|(_, endpoint)| &endpoint.addresses).map(|net| net.addr());
    let mut addresses: Vec<IpAddr> = addresses.collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    Ok(addresses)
}

/// The endpoints of a container, or the one that is named.
fn endpoints_of<'a>(model: &'a Model, word: &str) -> Result<Vec<(&'a Container, &'a Endpoint)>, Refused> {
    if word.contains(':') {
        return Ok(vec![model.find_port(word)?]);
    }
    match model.find_container(word) {
        Ok(container) if container.endpoints.is_empty() => {
            let text = format!(
                "container '{}' is on no network: 'tapswitch network connect' puts it on one",
                container.name
            );
            Err(Refused::new(Kind::BadState, text))
        }
        Ok(container) => Ok(container.endpoints.iter().map(|endpoint| (container, endpoint)).collect()),
        // Aliases of ports.
        Err(refused) => model.find_port(word).map(|found| vec![found]).map_err(|_| refused),
    }
}

/// The end that sends, and the address it sends to: on a network that both share, or by the way out.
fn choose<'a>(
    model: &'a Model,
    word: &str,
    destination: &str,
    ends: &[IpAddr],
) -> Result<(Source<'a>, IpAddr), Refused> {
    let sources = sources(model, word)?;
    let fits = |source: &Source<'_>, to: &IpAddr| source.address.is_ipv4() == to.is_ipv4();
    let pairs = || ends.iter().flat_map(|to| sources.iter().map(move |source| (source, *to)));
    let pairs = || pairs().filter(|(source, to)| fits(source, to));
    let shares = pairs().find(|(source, to)| source.network.subnet_of(*to).is_some());
    let found = shares
        .or_else(|| pairs().find(|(source, _)| source.network.uplink.is_some() || !source.network.internal));
    let Some((chosen, to)) = found.or_else(|| pairs().next()) else {
        let text = format!(
            "'{word}' has no address of the IP version of '{destination}': give the address of an end that has"
        );
        return Err(Refused::new(Kind::BadAddress, text));
    };
    let Source { network, port, mac, address, router } = *chosen;
    Ok((Source { network, port, mac, address, router }, to))
}

/// Where frames of a source may come from.
fn sources<'a>(model: &'a Model, word: &str) -> Result<Vec<Source<'a>>, Refused> {
    if let Ok(uplink) = model.find_uplink(word) {
        return by_uplink(model, uplink, None);
    }
    let address = word.parse::<IpAddr>().ok();
    let Some(address) = address else {
        let endpoints = endpoints_of(model, word)?.into_iter();
        return Ok(endpoints.flat_map(|(_, endpoint)| by_endpoint(model, endpoint)).collect());
    };
    let containers = model.all_networks().into_iter().filter(|network| network.uplink.is_none());
    let endpoints =
        containers.flat_map(|network| model.endpoints(network.id)).flat_map(|(_, it)| by_endpoint(model, it));
    let own: Vec<Source<'_>> = endpoints.filter(|source| source.address == address).collect();
    if !own.is_empty() {
        return Ok(own);
    }
    let near = model.uplinks().into_iter().find(|uplink| uplink.subnet_of(address).is_some());
    let leads = |uplink: &&Network| {
        uplink.uplink.iter().flat_map(|it| &it.gateways).any(|gateway| gateway.is_ipv4() == address.is_ipv4())
    };
    match near.or_else(|| model.uplinks().into_iter().find(leads)) {
        Some(uplink) => by_uplink(model, uplink, Some(address)),
        None => {
            let text = format!(
                "nobody here has {address}, and no uplink leads to where it may be: give a container, or add an \
                 uplink ('tapswitch uplink add')"
            );
            Err(Refused::new(Kind::BadAddress, text))
        }
    }
}

fn by_endpoint<'a>(model: &'a Model, endpoint: &'a Endpoint) -> Vec<Source<'a>> {
    let Some(network) = model.network(endpoint.network) else { return Vec::new() };
    let (port, mac) = (PortId(endpoint.port), endpoint.mac);
    let source = |net: &ipnet::IpNet| Source { network, port, mac, address: net.addr(), router: None };
    endpoint.addresses.iter().map(source).collect()
}

/// From outside: from an address, or from the next routers themselves.
fn by_uplink<'a>(
    model: &Model,
    uplink: &'a Network,
    from: Option<IpAddr>,
) -> Result<Vec<Source<'a>>, Refused> {
    let ports = model.endpoints(uplink.id);
    let Some((_, endpoint)) = ports.first() else {
        let text = format!(
            "uplink '{}' has no port: what was behind it has gone; remove it and add it again",
            uplink.name
        );
        return Err(Refused::new(Kind::BadUplink, text));
    };
    let gateways = uplink.uplink.iter().flat_map(|it| it.gateways.iter().copied());
    let port = PortId(endpoint.port);
    let source = |router: Option<IpAddr>, address: IpAddr| Source {
        network: uplink,
        port,
        mac: OUTSIDE,
        address,
        router: router.map(|router| (network_number(uplink), Addr::from(router))),
    };
    Ok(match from {
        Some(address) if uplink.subnet_of(address).is_some() => vec![source(Some(address), address)],
        Some(address) => {
            vec![source(gateways.into_iter().find(|it| it.is_ipv4() == address.is_ipv4()), address)]
        }
        None => {
            // Without a next router, somebody on the link: who has the address beside ours.
            let beside = |subnet: &Subnet| {
                let address = Addr::from_bits(Addr::from(subnet.gateway()).to_bits() ^ 1);
                Some(IpAddr::from(address)).filter(|address| subnet.prefix().contains(address))
            };
            let on_link = uplink.subnets.iter().filter_map(beside);
            let mut sources: Vec<Source<'_>> =
                gateways.map(|gateway| source(Some(gateway), gateway)).collect();
            sources.extend(on_link.map(|address| source(None, address)));
            sources
        }
    })
}

/// The MAC address that a frame goes to; whether it must be asked for.
fn next_hop(model: &Model, source: &Source<'_>, to: IpAddr) -> (MacAddr, bool) {
    let network = source.network;
    let gateway = (network.gateway_mac(), false);
    let is_gateway = network.subnets.iter().any(|subnet| subnet.gateway() == to);
    if is_gateway || network.uplink.is_some() || network.subnet_of(to).is_none() {
        return gateway;
    }
    let endpoints = model.endpoints(network.id);
    let has = |endpoint: &&Endpoint| endpoint.addresses.iter().any(|net| net.addr() == to);
    let neighbour = endpoints.into_iter().map(|(_, endpoint)| endpoint).find(has);
    neighbour.map_or((MacAddr::BROADCAST, true), |endpoint| (endpoint.mac, false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Id;
    use crate::control::model::{ContainerSpec, EndpointSpec, FarEnd, NetworkSpec, UplinkSpec};
    use crate::wire::packet::{Packet, Transport};
    use crate::wire::{Offload, ethernet};

    /// alice on net1 (both versions), router on net1 and net2 (IPv4 only), the uplink wan.
    fn model() -> Model {
        let mut model = Model::new(Id::new([0; 32]), 0, &[]).unwrap();
        for (number, name, subnets) in
            [(1, "net1", &["10.1.0.0/24", "fd00:1::/64"][..]), (2, "net2", &["10.2.0.0/24"])]
        {
            let subnets = subnets.iter().map(|text| text.parse::<ipnet::IpNet>().unwrap().into()).collect();
            let spec = NetworkSpec { subnets, ..NetworkSpec::named(name) };
            model.create_network(&spec, Id::new([number; 32]), 0, &[]).unwrap();
        }
        for (number, name, networks) in [(11, "alice", &["net1"][..]), (12, "router", &["net1", "net2"])] {
            let networks = networks.iter().copied().map(EndpointSpec::on).collect();
            let spec = ContainerSpec { name: Some(name.to_owned()), networks, ..ContainerSpec::default() };
            model.create_container(&spec, Id::new([number; 32]), 0).unwrap();
        }
        let wan = UplinkSpec {
            name: "wan".to_owned(),
            far_end: FarEnd::Tap("tap0".to_owned()),
            addresses: vec!["203.0.113.2/24".parse().unwrap()],
            gateways: vec!["203.0.113.1".parse().unwrap()],
            mac: None,
            mtu: None,
            lab: None,
        };
        model.create_uplink(&wan, Id::new([21; 32]), 0).unwrap();
        model
    }

    #[test]
    fn destinations_as_they_are_typed() {
        let parse = |word| parse_destination(word).map(|(host, errand)| format!("{host} {errand:?}"));
        for (word, expected) in [
            ("carol", "carol Ping"),
            ("carol:80", "carol Tcp(80)"),
            ("carol:53/udp", "carol Udp(53)"),
            ("carol:eth1", "carol:eth1 Ping"),
            ("carol:eth1:80", "carol:eth1 Tcp(80)"),
            ("10.2.0.2:80/tcp", "10.2.0.2 Tcp(80)"),
            ("fd00::3", "fd00::3 Ping"),
            ("fd00::3:80", "fd00::3:80 Ping"),
            ("[fd00::3]:80", "fd00::3 Tcp(80)"),
            ("[fd00::3]", "fd00::3 Ping"),
        ] {
            assert_eq!(parse(word).unwrap(), expected, "{word}");
        }
        for wrong in ["carol:80/bicycle", "carol:65536", "carol:8o", "[fd00::3]80"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn frames_are_whole_and_go_to_the_next_hop() {
        let model = model();
        let port = |word: &str| PortId(model.find_port(word).unwrap().1.port);
        let (gateway1, wan) = (MacAddr([2, 0x42, 10, 1, 0, 1]), MacAddr([2, 0x42, 203, 0, 113, 2]));
        let router1 = model.find_port("router:eth0").unwrap().1.mac;
        for (from, to, at, source, destination, mac) in [
            ("alice", "router", "alice", "10.1.0.2", "10.1.0.3", router1),
            ("alice", "10.2.0.2", "alice", "10.1.0.2", "10.2.0.2", gateway1),
            ("alice", "10.1.0.1", "alice", "10.1.0.2", "10.1.0.1", gateway1),
            ("alice", "fd00:1::3", "alice", "fd00:1::2", "fd00:1::3", router1),
            ("10.1.0.2", "wan", "alice", "10.1.0.2", "203.0.113.2", gateway1),
            ("router", "10.2.0.1", "router:eth1", "10.2.0.2", "10.2.0.1", MacAddr([2, 0x42, 10, 2, 0, 1])),
            ("wan", "alice", "wan", "203.0.113.1", "10.1.0.2", wan),
            ("198.51.100.7", "10.1.0.2", "wan", "198.51.100.7", "10.1.0.2", wan),
        ] {
            let name = || Errand::Name("web.example".to_owned());
            for errand in [Errand::Ping, Errand::Tcp(80), Errand::Udp(53), name()] {
                let made = plausible(&model, from, to, errand.clone()).unwrap();
                assert_eq!((made.port, made.asks), (port(at), false), "{from} {to}");
                let router = MacAddr([6; 6]);
                let frame = made.frame(Some(router));
                let header = ethernet::Header::parse(&frame).unwrap();
                assert_eq!(header.destination, mac, "{from} {to}");
                assert_eq!(header.source == router, at == "wan", "{from} {to}");
                let version = header.ip_version().unwrap();
                let packet = Packet::parse(&frame, header.payload, version, &Offload::NONE).unwrap();
                let ends = [packet.source, packet.destination].map(|end| end.to_string());
                assert_eq!(ends, [source, destination]);
                match (errand, packet.payload) {
                    (Errand::Ping, Transport::Query { is_request: true, .. }) => {}
                    (Errand::Tcp(80), Transport::Tcp(tcp)) if tcp.destination == 80 => {}
                    (Errand::Udp(53) | Errand::Name(_), Transport::Udp(udp))
                        if udp.destination == 53 && udp.checksum => {}
                    other => panic!("{other:?}"),
                }
                let parsed = etherparse::SlicedPacket::from_ethernet(&frame).unwrap();
                assert!(parsed.transport.is_some());
            }
        }
    }

    #[test]
    fn who_is_not_known_is_asked_for_and_who_is_nobody_is_named() {
        let model = model();
        for to in ["10.1.0.77", "fd00:1::77"] {
            let made = plausible(&model, "alice", to, Errand::Ping).unwrap();
            assert!(made.asks && made.frame(None)[0] & 1 == 1, "{to}");
        }
        for (from, to, kind) in [
            ("nobody", "alice", Kind::UnknownContainer),
            ("alice", "nobody", Kind::UnknownContainer),
            ("alice:eth7", "router", Kind::UnknownPort),
            ("wan", "fd00:1::3", Kind::BadAddress),
            ("2001:db8::7", "alice", Kind::BadAddress),
        ] {
            assert_eq!(plausible(&model, from, to, Errand::Ping).unwrap_err().kind, kind, "{from} {to}");
        }
    }
}
