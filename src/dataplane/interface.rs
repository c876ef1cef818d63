//! The router's interfaces: what a network or an uplink is to the gateway in its midst.

use super::NetworkId;
use crate::wire::MacAddr;
use crate::wire::ip::{Addr, Prefix};

/// What kind of network an interface leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A network of containers.
    Network,
    /// The outside.
    Uplink,
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The address.
    pub address: Addr,
    /// The prefix that is reached directly.
    pub prefix: Prefix,
}

/// How the maximum segment size of TCP connections that are routed through is lowered
/// (as netfilter's TCPMSS target does).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MssClamp {
    /// Not at all.
    #[default]
    Off,
    /// To what fits the smaller MTU of the two interfaces.
    PathMtu,
    /// To at most this many bytes.
    At(u16),
}

/// A router interface. Every network with a gateway has one, and every uplink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// What it leads to.
    pub role: Role,
    /// The gateway's MAC address there.
    pub mac: MacAddr,
    /// Its addresses. The first of each version is the source of what the gateway sends itself.
    pub addresses: Vec<InterfaceAddress>,
    /// Whether packets are forwarded from and to it.
    pub forward: bool,
    /// Whether its network has no way out (`--internal`): the gateway is nobody's default router then.
    pub internal: bool,
    /// Whether it sends router advertisements (RFC 4861 §6.2).
    pub advertise: bool,
    /// Clamp of TCP's maximum segment size.
    pub mss_clamp: MssClamp,
    /// The uplink whose default route its packets prefer.
    pub uplink: Option<NetworkId>,
    /// Whether what is bridged between its containers passes the FORWARD chain
    /// (as with Linux's `bridge-nf-call-iptables`): set with `icc=false` or when a user's rule may match it.
    pub filter_bridged: bool,
    /// Whether what comes in by it was sent to the host, whose socket took it: its destination, a loopback
    /// address too, is ours (as with Linux's `route_localnet`); and packets leave by it uncut.
    pub sockets: bool,
}

/// A static route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub prefix: Prefix,
    /// The next hop; none when the destination is on the link.
    pub via: Option<Addr>,
    /// The interface it leaves by.
    pub interface: NetworkId,
    /// The lower one wins among routes of the same prefix.
    pub metric: u32,
}
