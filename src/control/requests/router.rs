//! Requests about the router: published ports, links, uplinks, routes, rules, settings.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::control::model::{LinkSpec, RouteSpec, RuleSpec, UplinkChange, UplinkSpec};
use crate::control::ports::PublishSpec;
use crate::control::state::Whence;

/// What the router can be told and asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "router", rename_all = "snake_case")]
pub enum RouterRequest {
    /// Publish a port of a container. Answer: rows of what it came to.
    Publish {
        /// Name or id of the container.
        name: String,
        /// What to publish.
        publish: PublishSpec,
        /// Who may call; empty: who may call all that the container publishes.
        #[serde(default)]
        from: Vec<IpNet>,
    },
    /// End the publishing of a port.
    Unpublish {
        /// Name or id of the container.
        name: String,
        /// What to end.
        publish: PublishSpec,
    },
    /// What is published. Answer: rows.
    PublishList {
        /// Name or id of a container; none for all.
        name: Option<String>,
    },
    /// Let programs of the host into a network by SOCKS, until the asking connection ends. Descriptors: a socket
    /// that listens. Answer: the network's name.
    Proxy {
        /// Name or id of the network.
        network: String,
    },
    /// Let a container use ports of another, under a name of its own.
    Link {
        /// Name or id of the container.
        name: String,
        /// The other one.
        link: LinkSpec,
    },
    /// Take a link away.
    Unlink {
        /// Name or id of the container.
        name: String,
        /// What it calls the other.
        alias: String,
    },
    /// Make an uplink. Descriptors: for a TAP those of [`Request::Plug`](super::Request::Plug), for a packet socket that
    /// socket and a `NETLINK_ROUTE` socket beside it, for a container none.
    UplinkAdd {
        /// What it should be.
        spec: UplinkSpec,
        /// The process in whose namespace a TAP lives, and with which it goes.
        pid: Option<u32>,
        /// As with [`Request::Plug`](super::Request::Plug).
        nursery: bool,
        /// Where a next daemon finds the far end.
        #[serde(default)]
        whence: Whence,
    },
    /// Change an uplink.
    UplinkSet {
        /// Name or id.
        name: String,
        /// What to change.
        change: UplinkChange,
    },
    /// Remove an uplink. Answer: its name.
    UplinkRemove {
        /// Name or id.
        name: String,
    },
    /// All uplinks. Answer: rows.
    UplinkList,
    /// Add a static route.
    RouteAdd {
        /// Where to, and how.
        route: RouteSpec,
    },
    /// Remove a static route.
    RouteRemove {
        /// Where to.
        prefix: IpNet,
    },
    /// Static routes. Answer: rows.
    RouteList,
    /// Add a rule. Answer: its number.
    RuleAdd {
        /// What it says.
        rule: RuleSpec,
        /// The number of the rule that it goes before; none: behind all.
        before: Option<usize>,
    },
    /// Remove a rule.
    RuleRemove {
        /// Its number.
        number: usize,
    },
    /// The user's rules. Answer: rows.
    RuleList,
    /// Set or tell settings of the whole. Answer: rows.
    Sysctl {
        /// The setting; none for all.
        key: Option<String>,
        /// Its new value.
        value: Option<String>,
    },
}
