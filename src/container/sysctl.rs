//! The kernel settings of a container's own network namespace.

use std::fs;
use std::io;

use super::error::SpawnError;
use crate::io::netns::describe;

/// The greatest group id that `ping_group_range` takes (net/ipv4/sysctl_net_ipv4.c).
const GID_MAX: u64 = i32::MAX as u64;

/// Settings that a container cannot have of its own would change the host's.
const OWN: [&str; 12] = [
    "net.",
    "fs.mqueue.",
    "kernel.domainname",
    "kernel.hostname",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Writes our defaults, with or without IPv6 (none in the host's network namespace), then what the user asked
/// for. Returns what could not be set of the defaults (a surrounding container may hold `/proc/sys`
/// read-only), one line each.
pub(super) fn apply(ipv6: Option<bool>, wanted: &[(String, String)]) -> Result<Vec<String>, SpawnError> {
    let gids = fs::read_to_string("/proc/self/gid_map").unwrap_or_default();
    let mut notices = Vec::new();
    for (key, value) in ipv6.map(|ipv6| defaults(ipv6, &gids)).unwrap_or_default() {
        match write(key, &value) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                notices.push(format!("cannot set {key}={value} inside: {}", describe(&error)));
            }
            _ => {} // done, or a kernel without IPv6
        }
    }
    for (key, value) in wanted {
        let refuse = |cause: String| SpawnError::Sysctl { key: key.clone(), cause };
        if !is_own(key) || (ipv6.is_none() && key.starts_with("net.")) {
            return Err(refuse("it is not the container's own (use net.*, kernel.shm*, kernel.msg*)".into()));
        }
        write(key, value).map_err(|error| refuse(describe(&error)))?;
    }
    Ok(notices)
}

fn defaults(ipv6: bool, gid_map: &str) -> Vec<(&'static str, String)> {
    let one = || "1".to_owned();
    let zero = || "0".to_owned();
    let mut settings = vec![
        ("net.ipv4.ip_forward", one()), // as Docker; a namespace may have inherited the host's
        ("net.ipv4.ip_unprivileged_port_start", zero()),
        ("net.ipv4.ping_group_range", ping_groups(gid_map)),
    ];
    if ipv6 {
        // Addresses are usable at once, and come from us alone.
        settings.extend([
            ("net.ipv6.conf.all.accept_dad", zero()),
            ("net.ipv6.conf.default.accept_dad", zero()),
            ("net.ipv6.conf.all.accept_ra", zero()),
            ("net.ipv6.conf.default.accept_ra", zero()),
        ]);
    } else {
        // No unasked-for multicast on a network without IPv6: idle is idle.
        settings.extend([
            ("net.ipv6.conf.all.disable_ipv6", one()),
            ("net.ipv6.conf.default.disable_ipv6", one()),
        ]);
    }
    settings
}

/// All groups that exist inside: the kernel refuses ids that are not mapped.
fn ping_groups(gid_map: &str) -> String {
    let extents = gid_map.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().map_while(|field| field.parse::<u64>().ok());
        let (first, _, count) = (fields.next()?, fields.next()?, fields.next()?);
        Some((first, (first + count).saturating_sub(1)))
    });
    let extents: Vec<_> = extents.collect();
    let first = extents.iter().map(|&(first, _)| first).min().unwrap_or(0);
    let last = extents.iter().map(|&(_, last)| last.min(GID_MAX)).max().unwrap_or(first);
    format!("{first} {last}")
}

fn is_own(key: &str) -> bool {
    let dotted = key.replace('/', ".");
    let allowed =
        OWN.iter().any(|own| if own.ends_with('.') { dotted.starts_with(own) } else { dotted == *own });
    allowed && !dotted.contains("..")
}

/// A key with slashes may have dots in its names: `net/ipv4/conf/eth0.5/forwarding`.
fn write(key: &str, value: &str) -> io::Result<()> {
    let path = if key.contains('/') { key.to_owned() } else { key.replace('.', "/") };
    fs::write(format!("/proc/sys/{path}"), value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_namespaces_own_settings_pass() {
        for key in
            ["net.ipv4.ip_forward", "net/ipv4/conf/eth0.5/forwarding", "kernel.shmmax", "fs.mqueue.msg_max"]
        {
            assert!(is_own(key), "{key}");
        }
        for key in ["kernel.panic", "vm.swappiness", "net/../kernel/panic", "network", "kernel.shmmaxx", ""] {
            assert!(!is_own(key), "{key}");
        }
    }

    #[test]
    fn ping_is_for_all_groups_that_exist() {
        assert_eq!(ping_groups("0 1000 1\n"), "0 0");
        assert_eq!(ping_groups("0 0 4294967295\n"), "0 2147483647");
        assert_eq!(ping_groups("0 1000 1\n1 100000 65536\n"), "0 65536");
        assert_eq!(ping_groups(""), "0 0");
        assert_eq!(ping_groups("0 0 0\n"), "0 0");
    }

    #[test]
    fn ipv6_is_off_or_quiet() {
        let keys = |ipv6| defaults(ipv6, "").into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert!(keys(false).contains(&"net.ipv6.conf.all.disable_ipv6"));
        assert!(!keys(true).contains(&"net.ipv6.conf.all.disable_ipv6"));
        assert!(keys(true).contains(&"net.ipv6.conf.default.accept_ra"));
    }
}
