//! What the router knows: `show neigh`, `show routes`, `show conntrack`. Tables that may be large are printed
//! in parts.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::names::Names;
use super::table::{Parts, Table};
use crate::dataplane::NetworkId;
use crate::dataplane::conntrack::{FlowRow, State, Status};
use crate::dataplane::neighbour::NeighbourRow;
use crate::dataplane::routes::{Kind, RouteEntry};
use crate::wire::ip::protocol;

/// A line of `show neigh`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighRow {
    /// The network it is on.
    pub network: String,
    /// Its address.
    pub address: IpAddr,
    /// Its MAC address; none while that is not known.
    pub mac: Option<String>,
    /// As `ip neighbour` names it.
    pub state: String,
    /// Whether it said that it is a router.
    pub router: bool,
    /// The port it was heard from or, while it is searched for, that of who wants it.
    pub port: String,
    /// Seconds since it was last used.
    pub used: u64,
    /// Seconds since it was last confirmed, or since the search for it began.
    pub confirmed: u64,
}

impl NeighRow {
    /// Puts names to a neighbour.
    pub fn new(row: &NeighbourRow, names: &Names) -> Self {
        Self {
            network: names.network(row.network),
            address: row.address.into(),
            mac: row.mac.map(|mac| mac.to_string()),
            state: row.state.name().to_owned(),
            router: row.router,
            port: names.port(row.port),
            used: row.used.as_secs(),
            confirmed: row.confirmed.as_secs(),
        }
    }
}

/// A part of `show neigh`.
pub fn neigh_lines(rows: &[NeighRow], parts: &mut Parts) -> String {
    let mut table = Table::new(0, &["NETWORK", "ADDRESS", "MAC", "STATE", "PORT", "USED", "CONFIRMED"]);
    for row in rows {
        let router = if row.router { " router" } else { "" };
        table.row(vec![
            row.network.clone(),
            row.address.to_string(),
            row.mac.clone().unwrap_or_else(|| "-".to_owned()),
            format!("{}{router}", row.state),
            row.port.clone(),
            format!("{} s", row.used),
            format!("{} s", row.confirmed),
        ]);
    }
    table.part(parts)
}

/// A line of `show routes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteEntryRow {
    /// Where to.
    pub prefix: String,
    /// The next hop; none when the destination is on the link, or ours.
    pub via: Option<IpAddr>,
    /// The network or uplink.
    pub network: String,
    /// `local`, `broadcast`, `connected`, `static`.
    pub kind: String,
    /// The lower one wins among routes to one prefix.
    pub metric: u32,
}

impl RouteEntryRow {
    /// Puts names to a route.
    pub fn new(entry: &RouteEntry, names: &Names) -> Self {
        Self {
            prefix: entry.prefix.to_string(),
            via: entry.via.map(IpAddr::from),
            network: names.network(entry.interface),
            kind: kind_name(entry.kind).to_owned(),
            metric: entry.metric,
        }
    }
}

pub(super) const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Local => "local",
        Kind::Broadcast => "broadcast",
        Kind::Connected => "connected",
        Kind::Static => "static",
    }
}

/// A part of `show routes`.
pub fn route_entry_lines(rows: &[RouteEntryRow], parts: &mut Parts) -> String {
    let mut table = Table::new(0, &["PREFIX", "VIA", "NETWORK", "KIND", "METRIC"]);
    for row in rows {
        let via = row.via.map_or_else(|| "-".to_owned(), |via| via.to_string());
        let metric = row.metric.to_string();
        table.row(vec![row.prefix.clone(), via, row.network.clone(), row.kind.clone(), metric]);
    }
    table.part(parts)
}

/// A line of `show conntrack`, and what `conntrack -L` is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConntrackRow {
    /// `tcp`, `udp`, `icmp`, …, or a number.
    pub proto: String,
    /// The protocol's number.
    pub protonum: u8,
    /// TCP's state; of other protocols empty.
    pub state: String,
    /// Seconds that it lives without another packet.
    pub timeout: u64,
    /// Source address of the first packet.
    pub src: IpAddr,
    /// Its source port; none where there are no ports.
    pub sport: Option<u16>,
    /// Its destination address.
    pub dst: IpAddr,
    /// Its destination port.
    pub dport: Option<u16>,
    /// Source address of its answer, as that arrives.
    pub reply_src: IpAddr,
    /// The answer's source port.
    pub reply_sport: Option<u16>,
    /// The answer's destination address.
    pub reply_dst: IpAddr,
    /// The answer's destination port.
    pub reply_dport: Option<u16>,
    /// Of an ICMP query: its identifier.
    pub icmp_id: Option<u16>,
    /// The identifier that its answer has.
    pub reply_icmp_id: Option<u16>,
    /// Packets both ways; a super-frame is one.
    pub packets: u64,
    /// Bytes of IP packets both ways.
    pub bytes: u64,
    /// Packets of the answering side alone.
    pub reply_packets: u64,
    /// Their bytes.
    pub reply_bytes: u64,
    /// Whether nobody has answered.
    pub unreplied: bool,
    /// Whether both sides mean it.
    pub assured: bool,
    /// The network that its first packet came from.
    pub network: String,
    /// The host's address and port that it leaves by, where that is a socket of a user uplink.
    #[serde(default)]
    pub host_socket: String,
}

impl ConntrackRow {
    /// Puts names to a flow that began on a network; none when that is gone.
    pub fn new(flow: &FlowRow, network: Option<NetworkId>, names: &Names) -> Self {
        let (original, reply, number) = (&flow.original, &flow.reply, flow.original.protocol);
        let is_query = matches!(flow.state, State::Icmp);
        let port = |port: u16| matches!(number, protocol::TCP | protocol::UDP).then_some(port);
        let [asked, answered] = flow.traffic;
        Self {
            proto: protocol_name(number).map_or_else(|| number.to_string(), str::to_owned),
            protonum: number,
            state: flow.state.name().to_owned(),
            timeout: flow.timeout.as_secs(),
            src: original.source.into(),
            sport: port(original.source_port),
            dst: original.destination.into(),
            dport: port(original.destination_port),
            reply_src: reply.source.into(),
            reply_sport: port(reply.source_port),
            reply_dst: reply.destination.into(),
            reply_dport: port(reply.destination_port),
            icmp_id: is_query.then_some(original.source_port),
            reply_icmp_id: is_query.then_some(reply.source_port),
            packets: asked.packets + answered.packets,
            bytes: asked.bytes + answered.bytes,
            reply_packets: answered.packets,
            reply_bytes: answered.bytes,
            unreplied: !flow.status.has(Status::SEEN_REPLY),
            assured: flow.status.has(Status::ASSURED),
            network: network.map_or_else(String::new, |id| names.network(id)),
            host_socket: String::new(),
        }
    }

    fn notes(&self) -> String {
        let notes = [self.state.as_str(), if self.unreplied { "UNREPLIED" } else { "" }];
        let notes: Vec<&str> = notes.into_iter().filter(|note| !note.is_empty()).collect();
        if notes.is_empty() { "-".to_owned() } else { notes.join(" ") }
    }
}

/// The names that conntrack has for protocols.
pub(super) const fn protocol_name(number: u8) -> Option<&'static str> {
    Some(match number {
        protocol::ICMP => "icmp",
        protocol::TCP => "tcp",
        protocol::UDP => "udp",
        protocol::ICMPV6 => "icmpv6",
        33 => "dccp",
        47 => "gre",
        132 => "sctp",
        136 => "udplite",
        _ => return None,
    })
}

/// A part of `show conntrack`.
pub fn conntrack_table_lines(rows: &[ConntrackRow], parts: &mut Parts) -> String {
    let header = [
        "PROTO",
        "STATE",
        "TIMEOUT",
        "FROM",
        "TO",
        "ANSWER FROM",
        "ANSWER TO",
        "PACKETS",
        "BYTES",
        "NETWORK",
        "HOST SOCKET",
    ];
    let mut table = Table::new(0, &header);
    for row in rows {
        let end = |address: IpAddr, port: Option<u16>| match (address, port) {
            (IpAddr::V4(address), Some(port)) => format!("{address}:{port}"),
            (IpAddr::V6(address), Some(port)) => format!("[{address}]:{port}"),
            (address, None) => address.to_string(),
        };
        table.row(vec![
            row.proto.clone(),
            row.notes(),
            format!("{} s", row.timeout),
            end(row.src, row.sport.or(row.icmp_id)),
            end(row.dst, row.dport),
            end(row.reply_src, row.reply_sport),
            end(row.reply_dst, row.reply_dport.or(row.reply_icmp_id)),
            row.packets.to_string(),
            row.bytes.to_string(),
            row.network.clone(),
            row.host_socket.clone(),
        ]);
    }
    table.part(parts)
}
