//! User and group ids of a new user namespace (user_namespaces(7)).

use std::fs;
use std::io;
use std::process::{Command, Stdio};

use nix::unistd::{Pid, User, getegid, geteuid};

use super::error::SpawnError;
use crate::io::netns::describe;

/// Maps the ids of the namespace that `pid`, a child waiting for it, was made in.
pub(super) fn map(pid: Pid) -> Result<(), SpawnError> {
    let mapped = if geteuid().is_root() { map_all(pid) } else { map_subordinate(pid) };
    if mapped {
        return Ok(());
    }
    map_caller_alone(pid).map_err(|error| SpawnError::Ids { cause: describe(&error) })
}

/// Every id that this process's own namespace has, onto itself. Needs CAP_SETUID, CAP_SETGID and
/// (Linux 5.12) CAP_SETFCAP; says whether it worked. A map is written at most once, so a failure
/// leaves the way open for the next attempt.
fn map_all(pid: Pid) -> bool {
    let write = |map: &str| -> io::Result<()> {
        let own = fs::read_to_string(format!("/proc/self/{map}"))?;
        fs::write(format!("/proc/{pid}/{map}"), onto_itself(&own))
    };
    write("gid_map").is_ok() && write("uid_map").is_ok()
}

/// `inside outside count` of a map as read, to the same ids inside, outside.
fn onto_itself(own: &str) -> String {
    let extents = own.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        Some((fields.next()?, fields.nth(1)?))
    });
    extents.map(|(first, count)| format!("{first} {first} {count}\n")).collect()
}

/// The caller as root, and its subordinate ids from 1 up, by the setuid helpers of shadow.
fn map_subordinate(pid: Pid) -> bool {
    let Some((uids, gids)) = subordinate_ranges() else { return false };
    let map = |tool: &str, id: u32, (first, count): (u32, u32)| {
        let arguments = [pid.as_raw() as u32, 0, id, 1, 1, first, count].map(|n| n.to_string());
        let mut command = Command::new(tool);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    map("newgidmap", getegid().as_raw(), gids) && map("newuidmap", geteuid().as_raw(), uids)
}

/// The caller's first range of `/etc/subuid` and of `/etc/subgid`, when both have one.
pub fn subordinate_ranges() -> Option<((u32, u32), (u32, u32))> {
    let uid = geteuid();
    let name = User::from_uid(uid).ok().flatten().map(|user| user.name);
    let read = |path| first_range(&fs::read_to_string(path).ok()?, name.as_deref(), uid.as_raw());
    Some((read("/etc/subuid")?, read("/etc/subgid")?))
}

/// `NAME-OR-UID:FIRST:COUNT` (subuid(5)).
fn first_range(text: &str, name: Option<&str>, uid: u32) -> Option<(u32, u32)> {
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        if Some(owner) != name && owner.parse() != Ok(uid) {
            return None;
        }
        let range = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (range.1 > 0).then_some(range)
    })
}

/// The caller alone, as root. An ordinary user must give up `setgroups` for it.
/// A map that an earlier attempt wrote stays as it is.
fn map_caller_alone(pid: Pid) -> io::Result<()> {
    let empty = |map: &str| Ok::<_, io::Error>(fs::read_to_string(format!("/proc/{pid}/{map}"))?.is_empty());
    if empty("gid_map")? {
        fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
        fs::write(format!("/proc/{pid}/gid_map"), format!("0 {} 1\n", getegid()))?;
    }
    if empty("uid_map")? {
        fs::write(format!("/proc/{pid}/uid_map"), format!("0 {} 1\n", geteuid()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_map_keeps_every_id() {
        let initial = "         0          0 4294967295\n";
        assert_eq!(onto_itself(initial), "0 0 4294967295\n");
        let nested = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(onto_itself(nested), "0 0 1\n1 1 65536\n");
    }

    #[test]
    fn ranges_are_found_by_name_or_number() {
        let text = "other:1:2\nann:100000:65536\n1001:300000:10\n";
        assert_eq!(first_range(text, Some("ann"), 1000), Some((100_000, 65536)));
        assert_eq!(first_range(text, None, 1001), Some((300_000, 10)));
        assert_eq!(first_range(text, Some("bob"), 1002), None);
        assert_eq!(first_range("ann:1:0\nann:x:3\nann\n", Some("ann"), 1000), None);
    }
}
