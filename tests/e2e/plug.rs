//! `plug`, `unplug`: namespaces of other people's.

use std::fs::File;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};

use crate::harness::{Lab, Process, is_alive, skip, succeeded, text, until};

scenarios! {
    by_pid_until_the_process_ends
    by_pid_until_unplugged
    two_networks_in_one_namespace
    by_path_as_a_user_pins
    by_path_as_root_notices_the_end
    what_cannot_be_plugged
    a_plugged_namespace_is_not_ours
}

/// Runs a command in a plugged process's namespaces.
fn inside(lab: &Lab, process: &Process, script: &str) -> String {
    let pid = process.pid().to_string();
    let words = ["nsenter", "-t", &pid, "-U", "--preserve-credentials", "-n", "sh", "-c", script];
    succeeded(script, &lab.command(&words).output().unwrap())
}

fn by_pid_until_the_process_ends(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create --subnet 10.1.0.0/24 net");
    lab.idle("alice", "net");
    let foreign = lab.foreign();
    let ready = lab.path().join("ready");
    let program = lab.program();
    let mut plug = lab.command(&["sh", "-c", "exec \"$@\" 9>&1", "sh", program.to_str().unwrap(), "--json"]);
    plug.args(["plug", "box", "--network", "net", "--ready-fd", "9", "--pid", &foreign.pid().to_string()]);
    let output = plug.stdout(File::create(&ready).unwrap()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = std::fs::read_to_string(&ready).unwrap();
    let rows = said.strip_suffix('1').expect("the word on --ready-fd");
    let rows: Vec<serde_json::Value> = serde_json::from_str(rows).unwrap();
    assert_eq!((&rows[0]["ifname"], &rows[0]["addresses"][0]), (&"eth0".into(), &"10.1.0.3/24".into()));
    assert_eq!(rows[0]["hosts"][0], serde_json::json!(["alice", "10.1.0.2"]));
    inside(lab, &foreign, "ping -c1 -W1 10.1.0.2");
    assert!(lab.pings("alice", "box"));
    drop(foreign);
    until("the end of the plugged process", || lab.json("ps -a").len() == 1);
    assert_eq!(lab.json("show ports").len(), 1);
    assert!(!lab.sh("alice", "getent hosts box").status.success());
}

fn by_pid_until_unplugged(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create --subnet 10.1.0.0/24 --subnet fd00:1::/64 net");
    let foreign = lab.foreign();
    let said = lab.ok(&format!(
        "plug box --network net --pid {} --ifname lan --ip 10.1.0.9 --ip fd00:1::9 --mac 02:00:00:00:00:09",
        foreign.pid()
    ));
    assert!(said.contains("lan") && said.contains("10.1.0.9/24"), "{said}");
    let shown = inside(lab, &foreign, "ip -br addr show lan; ip -br link show lan");
    for part in ["10.1.0.9/24", "fd00:1::9/64", "02:00:00:00:00:09"] {
        assert!(shown.contains(part), "{shown}");
    }
    lab.ok("unplug box");
    assert!(!inside(lab, &foreign, "ip -br link").contains("lan"));
    assert!(lab.json("ps -a").is_empty());
    assert!(is_alive(foreign.pid()));
    lab.ok(&format!("plug box --network net --pid {} --no-config", foreign.pid()));
    assert!(inside(lab, &foreign, "ip -br addr show eth0").contains("DOWN"));
}

fn two_networks_in_one_namespace(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create --subnet 10.1.0.0/24 one");
    lab.ok("network create --subnet 10.2.0.0/24 two");
    let foreign = lab.foreign();
    for network in ["one", "two"] {
        lab.ok(&format!("plug box --network {network} --pid {}", foreign.pid()));
    }
    assert_eq!(lab.row("ps", "name", "box")["networks"], "one,two");
    // Joining once more brings its ports along; all that is asked for, or nothing.
    lab.ok("network create three");
    let pid = foreign.pid();
    lab.ok("publish box 90:90");
    assert!(lab.refused(&format!("plug box --network three --pid {pid} -p 80:80 -p 90:90")).contains("90"));
    let row = || lab.row("ps", "name", "box");
    assert_eq!((&row()["networks"], &row()["ports"]), (&"one,two".into(), &"0.0.0.0:90->90/tcp".into()));
    lab.ok(&format!("plug box --network three --pid {pid} -p 80:80 --expose 81"));
    assert_eq!(row()["ports"], "0.0.0.0:80->80/tcp, 0.0.0.0:90->90/tcp, 81/tcp");
    lab.ok("unplug box --network three");
    assert_eq!(
        inside(lab, &foreign, "ls /sys/class/net | wc -l; ip -br addr | grep -c 10\\\\.").lines().last(),
        Some("2")
    );
    lab.ok("unplug box --network one");
    assert_eq!(lab.row("ps", "name", "box")["networks"], "two");
    assert!(lab.refused("unplug box --network one").contains("not on network 'one'"));
    lab.ok("unplug box --network two");
    assert!(lab.json("ps -a").is_empty());
}

fn by_path_as_a_user_pins(lab: &Lab) {
    if lab.is_root() {
        return crate::harness::skip("root's is by_path_as_root_notices_the_end");
    }
    lab.daemon("");
    lab.ok("network create --subnet 10.1.0.0/24 net");
    lab.idle("alice", "net");
    let foreign = lab.foreign();
    let output = lab.ts(&format!("plug box --network net --netns /proc/{}/ns/net", foreign.pid()));
    assert!(output.status.success() && text(&output.stderr).contains("stays alive until 'tapswitch unplug'"));
    drop(foreign);
    assert!(lab.pings("alice", "box"), "the kernel in there goes on answering");
    lab.ok("unplug box");
    assert!(!lab.pings("alice", "10.1.0.3"));
}

fn by_path_as_root_notices_the_end(lab: &Lab) {
    if !lab.is_root() {
        return crate::harness::skip("a user's is by_path_as_a_user_pins");
    }
    let name = lab.path().file_name().unwrap().to_str().unwrap();
    // Named namespaces are mounts: they must be made where everybody sees them.
    let ip = |verb: &str| std::process::Command::new("ip").args(["netns", verb, name]).output().unwrap();
    lab.daemon("");
    lab.ok("network create --subnet 10.1.0.0/24 net");
    lab.idle("alice", "net");
    if !ip("add").status.success() {
        return skip("ip netns add does not work here");
    }
    let plugged = lab.ts(&format!("plug box --network net --netns /run/netns/{name}"));
    let answers = plugged.status.success() && lab.pings("alice", "box");
    let (dropped, shown) = drops_of_a_burst(lab, name);
    let deleted = ip("del");
    assert!(answers && deleted.status.success(), "{}{}", text(&plugged.stderr), text(&deleted.stderr));
    assert!(dropped > 0 && shown == dropped, "{dropped} counted inside, {shown} shown");
    until("the end of the namespace", || lab.json("ps -a").len() == 1);
    assert_eq!(lab.json("show ports").len(), 1);
    assert!(!lab.sh("alice", "getent hosts box").status.success());
}

/// What the kernel dropped of a burst that nobody read from a named namespace: as counted there, and as `show ports`
/// says.
fn drops_of_a_burst(lab: &Lab, namespace: &str) -> (u64, u64) {
    const BURST: &str = "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
for _ in range(6000): s.sendto(b'?', ('10.1.0.255', 9))
";
    let there = |words: &[&str]| {
        let all = [&["netns", "exec", namespace], words].concat();
        text(&std::process::Command::new("ip").args(all).output().unwrap().stdout)
    };
    let daemon = lab.daemon_pid();
    kill(daemon, Signal::SIGSTOP).unwrap();
    there(&["/usr/bin/python3", "-c", BURST]);
    kill(daemon, Signal::SIGCONT).unwrap();
    let counted: serde_json::Value =
        serde_json::from_str(&there(&["ip", "-j", "-s", "link", "show", "eth0"])).unwrap_or_default();
    let shown = lab.row("show ports", "container", "box")["kernel_drops"].as_u64().unwrap();
    (counted[0]["stats64"]["tx"]["dropped"].as_u64().unwrap_or_default(), shown)
}

fn what_cannot_be_plugged(lab: &Lab) {
    lab.daemon("");
    let mut gone = lab.start(lab.command(&["true"]));
    gone.code();
    assert!(
        lab.refused(&format!("plug box --network bridge --pid {}", gone.pid()))
            .contains("there is no process")
    );
    assert!(
        lab.refused_last("plug box --network bridge --netns /run/netns/moon")
            .contains("/run/netns/moon does not exist")
    );
    assert!(
        lab.refused_last("plug box --network bridge --netns /etc/hostname")
            .contains("not a network namespace")
    );
    let foreign = lab.foreign();
    let pid = foreign.pid();
    assert!(lab.refused(&format!("plug box --network moon --pid {pid}")).contains("moon not found"));
    assert!(
        lab.refused(&format!("plug box --network bridge --pid {pid} --ifname lo"))
            .contains("'lo' is not allowed")
    );
    inside(lab, &foreign, "ip tuntap add eth0 mode tap");
    let said = lab.refused(&format!("plug box --network bridge --pid {pid} --ifname eth0"));
    assert!(said.contains("choose another with --ifname"), "{said}");
    assert_eq!(lab.ts("plug box --network bridge").status.code(), Some(2));
    if !lab.is_root() {
        assert!(lab.refused("plug box --network bridge --pid 1").contains("process 1"));
    }
    assert!(lab.json("ps -a").is_empty() && lab.json("show ports").is_empty());
}

fn a_plugged_namespace_is_not_ours(lab: &Lab) {
    lab.daemon("");
    let foreign = lab.foreign();
    lab.ok(&format!("plug box --network bridge --pid {}", foreign.pid()));
    assert!(lab.refused("rm -f box").contains("'tapswitch unplug box'"));
    assert!(lab.refused("stop box").contains("'tapswitch unplug box'"));
    lab.ok("start box"); // as of any that runs
    lab.idle("alice", "bridge");
    assert!(lab.refused("unplug alice").contains("'tapswitch stop alice'"));
    let mut wait = lab.tapswitch(&["wait", "box"]);
    wait.stderr(Stdio::null());
    let mut wait = lab.start(wait);
    lab.ok("unplug box");
    assert_eq!(wait.code(), Some(1), "nobody knows its exit code");
    assert!(is_alive(foreign.pid()));
}
