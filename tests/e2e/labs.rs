//! `preflight`, `up`, `down`, `status`, `show topology`: labs come and go.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};

use crate::harness::{Lab, Process, is_alive, text, until};

scenarios! {
    preflight_is_content
    the_demo_lab_comes_and_goes
    a_lab_in_the_foreground_ends_with_its_time
    ctrl_c_takes_everything_away
    labs_with_mistakes_change_nothing
    a_lab_of_ones_own
    a_lab_with_a_router
    a_lab_that_two_bring_up_at_once_is_up_once
    a_lab_in_the_foreground_says_what_becomes_of_it_without_its_daemon
}

fn preflight_is_content(lab: &Lab) {
    let report = lab.ok("preflight");
    let rows = lab.json("preflight");
    let mends = report.lines().filter(|line| line.trim_start().starts_with("mend: ")).count();
    assert_eq!(report.lines().count(), rows.len() + mends, "{report}");
    assert_eq!(rows.iter().filter(|row| row["mend"] != "").count(), mends, "{report}");
    for check in ["user_namespaces", "tap", "tun_device", "runtime_directory"] {
        let row = rows.iter().find(|row| row["check"] == check).unwrap();
        assert_eq!(row["state"], "ok", "{report}");
        assert_eq!(row["mend"], "");
    }
    let confinement = rows.iter().find(|row| row["check"] == "confinement").unwrap();
    assert!(confinement["detail"].as_str().unwrap().starts_with("capabilities "), "{report}");
    assert_eq!(confinement["state"] == "ok", report.contains("seccomp yes, landlock ABI "), "{report}");
}

fn the_demo_lab_comes_and_goes(lab: &Lab) {
    let said = lab.ok("up -d");
    assert!(said.contains("tapswitch exec alice ping -c3 bob"), "{said}");
    for box_of in ["net1 (br-", "172.19.0.0/16", "alice", "eth0  172.19.0.2  veth"] {
        assert!(said.contains(box_of), "{said}");
    }
    let status = lab.json("status");
    assert_eq!((&status[0]["networks"], &status[0]["containers"]), (&3.into(), &5.into()));
    assert_eq!(status[0]["engine"], "poll");
    assert_eq!(status[0]["socket"], lab.socket().to_str().unwrap());
    assert!(lab.pings("alice", "bob") && lab.pings("dave", "carol"));
    let dot = lab.ok("show topology --dot");
    assert!(dot.starts_with("graph") && dot.contains("alice"), "{dot}");
    assert_eq!(lab.refused("up -d"), "lab 'demo' is up already: 'tapswitch down demo' takes it down");
    assert_eq!(lab.ok("ps -q").lines().count(), 5, "and the lab that was there still is");
    let pid = lab.daemon_pid();
    lab.ok("down demo");
    until("the end of a daemon that 'up' started", || !is_alive(pid));
    assert!(lab.refused("ps").starts_with("no daemon serves"));
    lab.ok("down --all");
    // However closely they follow each other.
    for _ in 0..5 {
        lab.ok("up -d");
        lab.ok("down demo");
        lab.ok("up -d");
        lab.ok("down --all");
        lab.daemon("");
        lab.ok("down --all");
    }
}

/// `up` without `-d`, as soon as it says that everything is up.
fn up_in_foreground(lab: &Lab, words: &[&str]) -> Process {
    let mut command = lab.tapswitch(words);
    command.stdout(Stdio::piped());
    let mut up = lab.start(command);
    let lines = BufReader::new(up.0.stdout.take().unwrap()).lines();
    let mut lines = lines.map(Result::unwrap);
    assert!(lines.any(|line| line == "Ctrl-C takes it down."));
    up
}

fn a_lab_in_the_foreground_ends_with_its_time(lab: &Lab) {
    let mut up = up_in_foreground(lab, &["up", "lab:demo", "--for", "1s"]);
    assert_eq!(lab.ok("ps -q").lines().count(), 5);
    assert_eq!(up.code(), Some(0));
    until("nobody of the lab", || lab.processes().is_empty());
    assert_eq!(lab.ts("up --for soon").status.code(), Some(2));
}

fn ctrl_c_takes_everything_away(lab: &Lab) {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut up = up_in_foreground(lab, &["up"]);
        let inits: Vec<i64> = lab.json("ps").iter().map(|row| row["pid"].as_i64().unwrap()).collect();
        assert_eq!(inits.len(), 5);
        up.signal(signal);
        assert_eq!(up.code(), Some(0));
        until("nobody of the lab", || lab.processes().is_empty());
        assert!(inits.iter().all(|pid| !fs::exists(format!("/proc/{pid}")).unwrap()));
        assert!(!lab.socket().exists());
    }
}

fn a_lab_that_two_bring_up_at_once_is_up_once(lab: &Lab) {
    lab.daemon("");
    for round in 0..3 {
        let start = |_| {
            let mut command = lab.tapswitch(&["up", "-d"]);
            command.stdout(Stdio::null()).stderr(Stdio::piped());
            lab.start(command)
        };
        let mut ups: Vec<Process> = (0..3).map(start).collect();
        let mut done = 0;
        for up in &mut ups {
            let mut said = String::new();
            up.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            let is_late = said.contains("is up already") || said.contains("is just being brought up");
            match up.code() {
                Some(0) => done += 1,
                code => assert!(code == Some(1) && is_late, "round {round}: {said}"),
            }
        }
        assert_eq!(done, 1, "round {round}");
        assert_eq!(lab.ok("ps -q").lines().count(), 5, "round {round}: nobody has taken anything away");
        assert!(lab.pings("alice", "bob") && lab.pings("carol", "dave"));
        lab.ok("down demo");
        assert!(lab.json("ps -a").is_empty());
    }
}

fn a_lab_in_the_foreground_says_what_becomes_of_it_without_its_daemon(lab: &Lab) {
    let up = || {
        let mut command = lab.tapswitch(&["up"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut up = lab.start(command);
        let mut lines = BufReader::new(up.0.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line == "Ctrl-C takes it down."));
        up
    };
    let ended = |mut up: Process| {
        let mut said = String::new();
        up.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (up.code(), said.lines().last().unwrap().to_owned())
    };
    lab.daemon("");
    let foreground = up();
    kill(lab.daemon_pid(), Signal::SIGKILL).unwrap();
    let (code, said) = ended(foreground);
    assert_eq!(code, Some(1));
    let expected = "tapswitch: the daemon has ended; lab 'demo' goes on and waits for the next one: 'tapswitch \
                    daemon -d' serves it again, 'tapswitch down --all' ends it";
    assert_eq!(said, expected);
    lab.daemon("");
    until("the lab to be back", || lab.pings("alice", "bob"));
    lab.ok("down demo");
    let foreground = up();
    lab.ok("down --all");
    let (code, said) = ended(foreground);
    assert_eq!((code, &*said), (Some(0), "tapswitch: everything was taken down, and with it lab 'demo'"));
    // One that it has started for itself has kept nothing.
    let foreground = up();
    kill(lab.daemon_pid(), Signal::SIGKILL).unwrap();
    let (code, said) = ended(foreground);
    assert_eq!(code, Some(1));
    assert!(said.ends_with("and with it lab 'demo': 'tapswitch up' brings it up again"), "{said}");
    until("its containers' end", || lab.processes().is_empty());
}

fn labs_with_mistakes_change_nothing(lab: &Lab) {
    let path = lab.path().join("bad.toml");
    let toml = "[network.a]\n[container.c]\nnetworks = [\"a\"]\nsysctls = { \"net.ipv4.no_such\" = \"1\" }\n";
    fs::write(&path, toml).unwrap();
    let said = lab.refused_last(&format!("up -d {}", path.display()));
    assert!(said.starts_with("tapswitch: cannot set net.ipv4.no_such inside the container"), "{said}");
    until("the end of a daemon that was started in vain", || lab.processes().is_empty());
    lab.daemon("");
    let before = lab.json("network ls");
    let mistakes = [
        ("[network.net1]\nsubnet = \"172.19.0.0/99\"\n", ":2:"),
        ("[network.net1\n", ":1:"),
        ("[network.net1]\n[container.a]\nnetworks = [\"net9\"]\n", ":3:"),
        ("[network.net1]\ncolour = \"red\"\n", ":2:"),
        ("[container.a]\nnetworks = [\"bridge\"]\nip = \"not an address\"\n", ":3:"),
    ];
    for (toml, place) in mistakes {
        fs::write(&path, toml).unwrap();
        let output = lab.ts(&format!("up -d {}", path.display()));
        let said = crate::harness::text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{toml}: {said}");
        assert!(said.contains("bad.toml") && said.contains(place), "{toml}: {said}");
        assert_eq!(lab.json("network ls"), before, "{toml}");
    }
    assert!(lab.refused("up -d /nowhere.toml").starts_with("cannot read the lab /nowhere.toml: "));
    assert_eq!(lab.refused("up lab:moon"), "there is no built-in lab 'lab:moon': lab:demo is there");
    assert!(lab.refused("down moon").starts_with("lab 'moon' is not up"));
    assert_eq!(lab.ts("down").status.code(), Some(2));
    // A lab that only the daemon can refuse: nothing of it stays.
    lab.ok("network create --subnet 172.19.0.0/16 mine");
    let before = lab.json("network ls");
    fs::write(&path, "[network.a]\nsubnet = \"10.9.0.0/24\"\n[network.b]\nsubnet = \"172.19.5.0/24\"\n")
        .unwrap();
    assert!(lab.refused_last(&format!("up -d {}", path.display())).contains("172.19."));
    assert_eq!(lab.json("network ls"), before);
}

fn a_lab_of_ones_own(lab: &Lab) {
    let path = lab.path().join("mine.toml");
    let toml = r#"
        [network.left]
        subnet = ["10.1.0.0/24", "fd00:1::/64"]
        [network.right]
        options = { mtu = "1400" }
        [container.server]
        networks = ["left"]
        command = "echo serving; exec sleep 1000"
        [container.router]
        networks = ["left", "right"]
        forward = true
    "#;
    fs::write(&path, toml).unwrap();
    lab.ok(&format!("up -d {}", path.display()));
    assert_eq!(lab.row("ps", "name", "server")["lab"], "mine");
    assert_eq!(lab.ok("logs server"), "serving\n");
    assert_eq!(lab.inside("router", "cat /proc/sys/net/ipv4/ip_forward"), "1\n");
    assert_eq!(lab.inside("router", "cat /sys/class/net/eth1/mtu"), "1400\n");
    assert!(lab.pings("router", "server"));
    lab.ok(&format!("down {}", path.display()));
}

/// All that a lab may say of the router comes up with it, and goes with it.
fn a_lab_with_a_router(lab: &Lab) {
    lab.daemon("");
    let toml = r#"
[network.net1]
subnet = ["10.1.0.0/24", "fd00:1::/64"]
options = { icc = false, masquerade = false }
[network.net2]
subnet = ["10.2.0.0/24", "fd00:2::/64"]
options = { uplink = "wan" }
[container.client]
networks = ["net1"]
links = ["web:www"]
[container.web]
networks = ["net1"]
publish = ["8000:80"]
expose = ["81", "53/udp"]
[container.router]
networks = [{ name = "net2", ip = ["10.2.0.9", "fd00:2::9"] }]
forward = true
command = "ip addr add 10.9.0.1/32 dev lo; ip addr add fd00:9::1/128 dev lo; echo ready; exec sleep 1000"
[container.far]
networks = ["net2"]
[uplink.wan]
container = "outside"
ip = ["198.51.100.1/24", "2001:db8::1/64"]
gateway = ["198.51.100.2", "2001:db8::2"]
[container.outside]
networks = [{ name = "wan", ip = ["198.51.100.2", "2001:db8::2"] }]
[[route]]
prefix = "10.9.0.0/16"
via = "10.2.0.9"
[[route]]
prefix = "fd00:9::/64"
via = "fd00:2::9"
[[rule]]
action = "allow"
from = "net1"
to = "10.9.0.0/16"
proto = "icmp"
[[rule]]
action = "reject"
from = "far"
to = "wan"
"#;
    let path = lab.path().join("routers.toml");
    fs::write(&path, toml).unwrap();
    lab.ok(&format!("up -d {}", path.display()));
    until("the router", || lab.ok("logs router") == "ready\n");
    for target in ["10.9.0.1", "fd00:9::1"] {
        assert!(lab.pings("far", target), "{target}");
    }
    assert!(lab.pings("client", "10.9.0.1") && !lab.pings("client", "fd00:9::1"), "the rule is about one");
    for target in ["198.51.100.2", "2001:db8::2"] {
        assert!(lab.pings("router", target) && !lab.pings("far", target), "{target}");
    }
    let settings = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding";
    assert_eq!(
        (lab.inside("router", settings), lab.inside("far", settings)),
        ("1\n1\n".into(), "1\n0\n".into())
    );
    assert!(lab.inside("client", "getent ahostsv4 www").contains("10.1.0."), "a link's name");
    let rules = lab.ok("show rules");
    assert!(rules.contains("dpt:8000 to:10.1.0.") && rules.contains("tcp dpt:81"), "{rules}");
    assert_eq!(lab.row("ps", "name", "web")["ports"].as_str().unwrap().matches("->80/tcp").count(), 2);
    for (listing, count) in [("uplink ls", 1), ("route ls", 2), ("rule ls", 2)] {
        let rows = lab.json(listing);
        assert!(rows.len() == count && rows.iter().all(|row| row["lab"] == "routers"), "{rows:#?}");
    }
    lab.ok("rule add --from 192.0.2.0/24 drop");
    lab.ok("down routers");
    for (listing, count) in
        [("uplink ls", 0), ("route ls", 0), ("rule ls", 1), ("ps -a", 0), ("network ls", 3)]
    {
        assert_eq!(lab.json(listing).len(), count, "{listing}");
    }
    // One that fails half-way leaves nothing either.
    lab.ok("run -d --name other -p 8000:80");
    let output = lab.ts(&format!("up -d {}", path.display()));
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("'other'"), "{said}");
    assert_eq!(
        (lab.json("uplink ls").len(), lab.json("ps -a").len(), lab.json("network ls").len()),
        (0, 1, 3)
    );
}
