//! What can be set for the switch as a whole.

use super::conntrack::{Limits, Timeouts};
use crate::wire::ip::Version;

/// Settings of the router and of connection tracking, as `sysctl` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// `net.ipv4.ip_forward`: whether IPv4 packets are forwarded at all.
    pub forward_v4: bool,
    /// `net.ipv6.conf.all.forwarding`.
    pub forward_v6: bool,
    /// ICMP errors per second that the gateway sends to one network at most
    /// (RFC 1812 §4.3.2.8, RFC 4443 §2.4 f); 0 = no limit.
    pub icmp_errors: u32,
    /// `net.netfilter.nf_conntrack_max` and the limit per source.
    pub conntrack: Limits,
    /// `net.netfilter.nf_conntrack_*_timeout*`.
    pub timeouts: Timeouts,
}

impl Settings {
    /// Whether packets of a version are forwarded at all.
    pub const fn forwards(&self, version: Version) -> bool {
        match version {
            Version::V4 => self.forward_v4,
            Version::V6 => self.forward_v6,
        }
    }
}

impl Default for Settings {
    /// Forwarding on, as Docker sets it; Linux's `icmp_msgs_per_sec`.
    fn default() -> Self {
        Self {
            forward_v4: true,
            forward_v6: true,
            icmp_errors: 1000,
            conntrack: Limits::default(),
            timeouts: Timeouts::default(),
        }
    }
}
