//! A switch with nothing to do does nothing, and is small.

use std::fs;
use std::time::{Duration, Instant};

use crate::harness::{Lab, until};

scenarios! {
    the_idle_demo_lab
}

/// How long nothing must happen; `tools/idle` looks for a minute.
const QUIET: Duration = Duration::from_secs(3);
/// What the daemon may hold of its own memory, in KiB.
const RSS_ANON_KIB: u64 = 4096;

fn the_idle_demo_lab(lab: &Lab) {
    lab.ok("up -d");
    assert!(lab.pings("alice", "bob"));
    let pid = lab.daemon_pid();
    // User and system time, in clock ticks; after the name come the fields from the third on (proc_pid_stat(5)).
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        [fields[11], fields[12]].map(|field| field.parse::<u64>().unwrap())
    };
    let mut since = (ticks(), Instant::now());
    until("three seconds without a tick", || {
        let now = ticks();
        if now != since.0 {
            since = (now, Instant::now());
        }
        since.1.elapsed() >= QUIET
    });
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kib: u64 = rss.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    assert!(kib <= RSS_ANON_KIB, "RssAnon {kib} KiB");
}
