//! What the host has: its addresses, its clock, its processes.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipnet::IpNet;

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
