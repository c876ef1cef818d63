//! `preflight`: does this machine let us work, and if not, the command that mends it.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{AccessFlags, access, getegid, geteuid};
use serde::Serialize;

use crate::container::prerequisites::{kernel_setting, seccomp_filtered};
use crate::container::{self, SpawnError, Spec, subordinate_ranges};
use crate::io::confine::{Reach, confine};
use crate::io::helper;
use crate::io::netns::{NetnsError, TUN, describe, mend_tun};
use crate::io::sys::namespace;

/// Descriptors that a thousand ports and some captures need.
const OPEN_FILES_WANTED: u64 = 4096;

/// How one check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Works, with less.
    Warn,
    /// Containers cannot run.
    Fail,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at, in `snake_case`.
    pub check: &'static str,
    /// How it went.
    pub state: State,
    /// What was found.
    pub detail: String,
    /// The command (or advice) that mends it; empty when there is nothing to mend.
    pub mend: String,
}

impl Check {
    fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, state: State::Ok, detail: detail.into(), mend: String::new() }
    }

    fn warn(check: &'static str, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, state: State::Warn, detail: detail.into(), mend: mend.into() }
    }

    fn fail(check: &'static str, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, state: State::Fail, detail: detail.into(), mend: mend.into() }
    }
}

/// All checks. `Display` is a table; as JSON it is an array of flat objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Report(
    /// In the order of the table.
    pub Vec<Check>,
);

impl Report {
    /// 0 when everything that is needed is there, else 1.
    pub fn exit_code(&self) -> u8 {
        u8::from(self.0.iter().any(|check| check.state == State::Fail))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|check| check.check.len()).max().unwrap_or(0);
        for check in &self.0 {
            let state = match check.state {
                State::Ok => "ok",
                State::Warn => "warn",
                State::Fail => "FAIL",
            };
            writeln!(f, "{:<width$}  {state:<4}  {}", check.check, check.detail)?;
            if !check.mend.is_empty() {
                writeln!(f, "{:<width$}        mend: {}", "", check.mend)?;
            }
        }
        Ok(())
    }
}

/// Looks at everything. `runtime` is the directory of the control socket.
///
/// It really makes a container and a TAP, and takes them away. Forks: the caller must have one
/// thread.
pub fn run(runtime: &Path) -> Report {
    let mut checks = try_container();
    checks.push(tun_device());
    checks.push(ping_groups());
    checks.push(low_ports());
    checks.push(open_files());
    checks.push(confinement());
    checks.push(subordinate_ids());
    checks.push(runtime_directory(runtime));
    Report(checks)
}

/// What `run` does, up to the TAP; the first step that fails hides what lies behind it.
fn try_container() -> Vec<Check> {
    let spec = Spec { hostname: "preflight".to_owned(), taps: 1, ..Spec::default() };
    let mut prepared = match container::spawn(&spec) {
        Ok(prepared) => prepared,
        Err(error) => return explain(error),
    };
    let mut checks = vec![Check::ok("user_namespaces", namespace_facts())];
    let tuns = prepared.take_descriptors().map(|descriptors| descriptors.tuns).unwrap_or_default();
    checks.extend(tuns.first().map(|tun| match namespace::try_tap(tun.as_fd(), "preflight") {
        Ok(()) => Check::ok("tap", "made one in a network namespace of our own"),
        Err(error) => {
            let mend = "sudo modprobe tun; in a sandbox: allow TUNSETIFF";
            Check::fail("tap", format!("cannot make one inside: {}", describe(&error)), mend)
        }
    }));
    let advice = "use a less strict sandbox, where that matters";
    checks.extend(prepared.notices().iter().map(|notice| Check::warn("sandbox", notice, advice)));
    checks
}

fn explain(error: SpawnError) -> Vec<Check> {
    match error {
        SpawnError::Namespaces { cause, mend } => {
            vec![Check::fail("user_namespaces", format!("{cause}: {}", namespace_facts()), mend)]
        }
        SpawnError::Network(NetnsError::Tun { cause, mend }) => {
            let namespaces = Check::ok("user_namespaces", namespace_facts());
            vec![namespaces, Check::fail("tap", format!("cannot open {TUN} inside: {cause}"), mend)]
        }
        error @ (SpawnError::Ids { .. }
        | SpawnError::Network(_)
        | SpawnError::Sysctl { .. }
        | SpawnError::Gone
        | SpawnError::Setup { .. }) => {
            let detail = error.to_string();
            vec![Check::fail("container", detail, "run as root, or outside of the surrounding sandbox")]
        }
    }
}

/// The settings that decide over user namespaces, as far as this kernel has them.
fn namespace_facts() -> String {
    let settings = [
        "user.max_user_namespaces",
        "kernel.unprivileged_userns_clone",
        "kernel.apparmor_restrict_unprivileged_userns",
    ];
    let mut facts: Vec<_> =
        settings.iter().filter_map(|key| Some(format!("{key}={}", kernel_setting(key)?))).collect();
    if seccomp_filtered() {
        facts.push("a seccomp filter is active".to_owned());
    }
    facts.join(", ")
}

/// Seen from outside; the attempt inside is the check `tap`.
fn tun_device() -> Check {
    match fs::File::options().read(true).write(true).open(TUN) {
        Ok(_) => Check::ok("tun_device", format!("{TUN} can be opened")),
        Err(error) => {
            Check::fail("tun_device", format!("cannot open {TUN}: {}", describe(&error)), mend_tun(&error))
        }
    }
}

/// Only for pings that leave by this machine's own sockets; inside, containers may always ping.
fn ping_groups() -> Check {
    let key = "net.ipv4.ping_group_range";
    let range = kernel_setting(key).unwrap_or_default();
    let mut bounds = range.split(' ').map_while(|bound| bound.parse::<u32>().ok());
    let (first, last) = (bounds.next().unwrap_or(1), bounds.next().unwrap_or(0));
    // Nobody is exempted, not even root.
    if (first..=last).contains(&getegid().as_raw()) {
        return Check::ok("ping_group_range", format!("{key}={range}"));
    }
    let detail = format!("{key}={range}: this group cannot ping the outside through the switch");
    Check::warn("ping_group_range", detail, format!("sudo sysctl -w {key}=\"0 2147483647\""))
}

/// Only for publishing ports below the limit.
fn low_ports() -> Check {
    let key = "net.ipv4.ip_unprivileged_port_start";
    let start = kernel_setting(key).unwrap_or_default();
    if geteuid().is_root() || start == "0" {
        return Check::ok("low_ports", format!("{key}={start}"));
    }
    let detail = format!("{key}={start}: lower ports of this machine cannot be published");
    Check::warn("low_ports", detail, format!("sudo sysctl -w {key}=0"))
}

fn open_files() -> Check {
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if hard >= OPEN_FILES_WANTED => {
            Check::ok("open_files", format!("soft limit {soft}, hard limit {hard}"))
        }
        Ok((soft, hard)) => {
            let detail = format!("soft limit {soft}, hard limit {hard}: room for about {} ports", hard / 2);
            let mend = "ulimit -Hn 65536 (as root), or nofile in /etc/security/limits.conf";
            Check::warn("open_files", detail, mend)
        }
        Err(errno) => Check::warn("open_files", format!("cannot read the limit: {errno}"), ""),
    }
}

/// What the daemon can be confined by, tried by a child.
fn confinement() -> Check {
    let tried = helper::run(|| match confine(&Reach::default()) {
        Ok(confinement) => Ok((confinement, Vec::new())),
        Err(error) => Err(error.to_string()),
    });
    match tried {
        Ok(Ok((confinement, _))) if confinement.is_whole() => {
            Check::ok("confinement", confinement.to_string())
        }
        Ok(Ok((confinement, _))) => {
            let mend = "Linux 5.13 or later with landlock among its lsm=; the daemon works without";
            Check::warn("confinement", confinement.to_string(), mend)
        }
        Ok(Err(error)) => {
            Check::warn("confinement", error, "tapswitch daemon --confine=off, or a less strict sandbox")
        }
        Err(error) => Check::warn("confinement", format!("cannot be tried: {error}"), ""),
    }
}

/// Only for commands inside that change to another user.
fn subordinate_ids() -> Check {
    if geteuid().is_root() {
        return Check::ok("subordinate_ids", "root has all ids");
    }
    let helpers = ["newuidmap", "newgidmap"].iter().all(|tool| in_path(tool));
    match subordinate_ranges() {
        Some(((uid, count), _)) if helpers => {
            Check::ok("subordinate_ids", format!("{count} ids from {uid}, with newuidmap and newgidmap"))
        }
        Some(_) => {
            let detail = "newuidmap or newgidmap is missing: only one user exists inside";
            Check::warn("subordinate_ids", detail, "sudo apt-get install -y uidmap")
        }
        None => {
            let detail = "none in /etc/subuid and /etc/subgid: only one user exists inside";
            let mend = "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 \"$(id -un)\"";
            Check::warn("subordinate_ids", detail, mend)
        }
    }
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| access(&directory.join(program), AccessFlags::X_OK).is_ok())
}

/// It, or the nearest existing directory above it, must be writable.
fn runtime_directory(runtime: &Path) -> Check {
    let existing = runtime.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    match access(existing, AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) => Check::ok("runtime_directory", runtime.display().to_string()),
        Err(errno) => {
            let detail = format!("{}: {}", runtime.display(), describe(&io::Error::from(errno)));
            Check::fail("runtime_directory", detail, "export XDG_RUNTIME_DIR=DIR, or give --socket PATH")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_fail() {
        let ok = Check::ok("tap", "fine");
        let warn = Check::warn("low_ports", "1024", "sudo sysctl -w x=0");
        let fail = Check::fail("tun_device", "missing", "sudo modprobe tun");
        assert_eq!(Report(vec![ok.clone(), warn.clone()]).exit_code(), 0);
        let report = Report(vec![ok, warn, fail]);
        assert_eq!(report.exit_code(), 1);
        let expected = "\
tap         ok    fine
low_ports   warn  1024
                  mend: sudo sysctl -w x=0
tun_device  FAIL  missing
                  mend: sudo modprobe tun
";
        assert_eq!(report.to_string(), expected);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json[2]["state"], "fail");
        assert_eq!(json[0]["mend"], "");
    }

    #[test]
    fn a_runtime_directory_may_yet_be_made() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(runtime_directory(&dir.path().join("a/b")).state, State::Ok);
    }

    #[test]
    fn trouble_is_explained_with_its_mend() {
        let facts = |checks: &[Check]| {
            checks.iter().map(|check| (check.check, check.state, check.mend.clone())).collect::<Vec<_>>()
        };
        let (cause, mend) = ("no".to_owned(), "sudo sysctl".to_owned());
        let none = explain(SpawnError::Namespaces { cause: cause.clone(), mend: mend.clone() });
        assert_eq!(facts(&none), [("user_namespaces", State::Fail, mend.clone())]);
        let tun = explain(SpawnError::Network(NetnsError::Tun { cause, mend: mend.clone() }));
        assert_eq!(facts(&tun), [("user_namespaces", State::Ok, String::new()), ("tap", State::Fail, mend)]);
    }
}
