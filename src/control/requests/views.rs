//! Requests that look at the router's tables. Large ones come in pages, so that nothing waits for them.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::control::plausible::Errand;
use crate::dataplane::NetworkId;
use crate::dataplane::conntrack::FlowRow;
use crate::dataplane::routes::{Kind, RouteEntry};
use crate::wire::ip::{Addr, Prefix, Version, protocol};

/// What can be looked at.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "view", rename_all = "snake_case")]
pub enum ViewRequest {
    /// Neighbours. Answer: a [`Page`] of rows.
    Neighbours {
        /// Where the page begins; none: at the beginning.
        cursor: Option<usize>,
    },
    /// Routes. Answer: a [`Page`] of rows.
    Routes {
        /// Where the page begins.
        cursor: Option<RouteCursor>,
    },
    /// Flows. Answer: a [`Page`] of rows.
    Flows {
        /// Where the page begins.
        cursor: Option<u32>,
        /// Which of them.
        filter: FlowFilter,
    },
    /// Delete flows. Answer: a [`Page`] of those that were.
    FlowsDelete {
        /// Where the page begins.
        cursor: Option<u32>,
        /// Which of them.
        filter: FlowFilter,
    },
    /// Tell what happens to flows, a line of JSON for each event, into the pipe that comes along, until the
    /// asking connection ends.
    FlowsWatch {
        /// To which of them.
        filter: FlowFilter,
    },
    /// What would become of a frame. Answer: an explanation.
    Explain {
        /// Which frame.
        question: Question,
    },
    /// Names, and questions about them. Answer: rows.
    Dns,
    /// Rules with their counters. Answer: rows.
    Rules {
        /// Those of IPv6.
        v6: bool,
    },
    /// The same, chain by chain. Answer: rows.
    Chains {
        /// Those of IPv6.
        v6: bool,
    },
    /// The host's side: bridges, uplinks, near ends of ports. Answer: rows.
    Interfaces,
}

/// What is to be explained.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "snake_case")]
pub enum Question {
    /// What one would send to another.
    Talk {
        /// Who sends: a container, CONTAINER:IFNAME, an uplink, or an address.
        source: String,
        /// To whom.
        destination: String,
        /// What.
        errand: Errand,
    },
    /// A frame.
    Frame {
        /// The port that it comes in by.
        port: String,
        /// Its bytes.
        hex: String,
    },
    /// The last one that was dropped.
    LastDrop {
        /// Where; none: anywhere.
        port: Option<String>,
    },
}

/// A part of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<R, C> {
    /// Its rows.
    pub rows: Vec<R>,
    /// Where the next page begins; none at the end.
    pub next: Option<C>,
}

/// Which flows are meant. What is not said is any; addresses are those of the flow's first packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FlowFilter {
    /// The protocol above IP.
    pub protocol: Option<u8>,
    /// Source address.
    pub source: Option<IpNet>,
    /// Destination address.
    pub destination: Option<IpNet>,
    /// Source port, of what has ports.
    #[serde(default)]
    pub source_port: Option<u16>,
    /// Destination port.
    #[serde(default)]
    pub destination_port: Option<u16>,
    /// Of IPv6, or not.
    #[serde(default)]
    pub v6: Option<bool>,
}

impl FlowFilter {
    /// Whether a flow is meant.
    pub fn picks(&self, flow: &FlowRow) -> bool {
        let holds =
            |net: &Option<IpNet>, address: Addr| net.is_none_or(|net| net.contains(&IpAddr::from(address)));
        let original = &flow.original;
        let has_ports = matches!(original.protocol, protocol::TCP | protocol::UDP);
        let is = |wanted: Option<u16>, port: u16| wanted.is_none_or(|wanted| has_ports && wanted == port);
        self.protocol.is_none_or(|protocol| original.protocol == protocol)
            && holds(&self.source, original.source)
            && holds(&self.destination, original.destination)
            && is(self.source_port, original.source_port)
            && is(self.destination_port, original.destination_port)
            && self.v6.is_none_or(|v6| (original.source.version() == Version::V6) == v6)
    }
}

/// The last route of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteCursor {
    prefix: IpNet,
    kind: u8,
    metric: u32,
    interface: u32,
    via: Option<IpAddr>,
}

/// By their order.
const KINDS: [Kind; 4] = [Kind::Local, Kind::Broadcast, Kind::Connected, Kind::Static];

impl From<&RouteEntry> for RouteCursor {
    fn from(entry: &RouteEntry) -> Self {
        Self {
            prefix: IpNet::new_assert(entry.prefix.address().into(), entry.prefix.len()),
            kind: entry.kind as u8,
            metric: entry.metric,
            interface: entry.interface.0,
            via: entry.via.map(IpAddr::from),
        }
    }
}

impl RouteCursor {
    /// The route; one that is not there any more still has its place. None when it can be no route's.
    pub fn entry(&self) -> Option<RouteEntry> {
        Some(RouteEntry {
            prefix: Prefix::new(self.prefix.addr().into(), self.prefix.prefix_len()),
            kind: *KINDS.get(usize::from(self.kind))?,
            metric: self.metric,
            interface: NetworkId(self.interface),
            via: self.via.map(Addr::from),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_stands_for_its_route() {
        for (at, kind) in KINDS.into_iter().enumerate() {
            assert_eq!(kind as usize, at);
            for (text, via) in
                [("10.0.0.0/8", Some("10.1.2.3")), ("::/0", None), ("0.0.0.0/0", Some("fe80::1"))]
            {
                let net: IpNet = text.parse().unwrap();
                let entry = RouteEntry {
                    prefix: Prefix::new(net.addr().into(), net.prefix_len()),
                    kind,
                    metric: 7,
                    interface: NetworkId(3),
                    via: via.map(|via| via.parse::<IpAddr>().unwrap().into()),
                };
                let json = serde_json::to_string(&RouteCursor::from(&entry)).unwrap();
                assert_eq!(serde_json::from_str::<RouteCursor>(&json).unwrap().entry(), Some(entry));
            }
        }
        let wrong = r#"{"prefix":"10.0.0.0/8","kind":4,"metric":0,"interface":0,"via":null}"#;
        assert_eq!(serde_json::from_str::<RouteCursor>(wrong).unwrap().entry(), None);
    }
}
