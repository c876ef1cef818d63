//! What the host has: its addresses, its routes, its clock, its processes.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipnet::IpNet;

use crate::control::occupied::{Occupied, routes_v4, routes_v6};
use crate::control::state::Process;

/// The wall clock, in nanoseconds since the Unix epoch.
pub fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A process as it can be known again, if it is there: when it started is field 22 of `/proc/PID/stat` (proc(5)).
pub fn process(pid: u32) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold anything, but it ends at the last parenthesis.
    let (_, fields) = stat.rsplit_once(") ")?;
    let started = fields.split(' ').nth(19)?.parse().ok()?;
    Some(Process { pid, started })
}

/// The machine's present boot: processes and namespaces of another one are not there any more. Empty where the
/// kernel does not tell.
pub fn boot() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    text.map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// What the host uses: its own addresses, with their prefixes, and where its routes lead. None when it does
/// not tell.
pub fn occupied() -> Vec<Occupied> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let own = interfaces.filter_map(|interface| {
        let net = prefix(interface.address?, interface.netmask?)?;
        let by = format!("address {net} of {}", interface.interface_name);
        Some(Occupied { prefix: net.trunc(), by })
    });
    let read = |name: &str| std::fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default();
    own.chain(routes_v4(&read("route"))).chain(routes_v6(&read("ipv6_route"))).collect()
}

fn prefix(
    address: nix::sys::socket::SockaddrStorage,
    mask: nix::sys::socket::SockaddrStorage,
) -> Option<IpNet> {
    let ip = |storage: &nix::sys::socket::SockaddrStorage| -> Option<IpAddr> {
        let v4 = storage.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    IpNet::with_netmask(ip(&address)?, ip(&mask)?).ok()
}
