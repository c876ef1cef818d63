//! What the host has: its addresses and its clock.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipnet::IpNet;

/// The wall clock, in nanoseconds since the Unix epoch.
pub fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The prefixes of the host's own addresses, for automatic subnets to keep out of the way of.
/// None when the host does not tell.
pub fn prefixes() -> Vec<IpNet> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    interfaces.filter_map(|interface| prefix(interface.address?, interface.netmask?)).collect()
}

fn prefix(
    address: nix::sys::socket::SockaddrStorage,
    mask: nix::sys::socket::SockaddrStorage,
) -> Option<IpNet> {
    let ip = |storage: &nix::sys::socket::SockaddrStorage| -> Option<IpAddr> {
        let v4 = storage.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    IpNet::with_netmask(ip(&address)?, ip(&mask)?).ok().map(|net| net.trunc())
}
