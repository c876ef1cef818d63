//! What outlives the daemon: it is killed, or stopped, and started again.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::poll::{PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::harness::{Lab, is_alive, skip, succeeded, text, until};
use crate::uplink::Wire;
use crate::world::{FAR4, WHO};

scenarios! {
    a_killed_daemon_is_replaced_by_its_like
    connections_between_containers_go_on
    a_command_that_starts_a_daemon_finds_what_waits
    a_daemon_that_is_killed_at_any_moment_comes_back
    what_is_published_is_published_again
    who_ended_meanwhile_is_released
    a_stopped_daemon_leaves_its_containers_alone
    everything_is_taken_down_without_a_daemon_too
    a_foreground_container_waits_for_the_next_daemon
    plugged_processes_are_plugged_in_again
    plugged_paths_are_plugged_in_again
    policies_and_uplinks_come_back
    a_state_that_cannot_be_used_is_kept
    a_lab_goes_on
    the_host_is_on_a_network_again
    uplinks_in_a_namespace_that_is_there_come_back
    after_a_reboot_all_containers_have_ended
    what_is_joined_before_the_supervisor_comes_is_held
    a_full_disk_is_said_and_heals
    what_the_next_daemon_is_told_otherwise_is_said
    a_container_that_is_started_again_when_the_daemon_is_killed_is_not_lost
}

fn pid_of(lab: &Lab, container: &str) -> Pid {
    Pid::from_raw(i32::try_from(lab.row("ps", "name", container)["pid"].as_i64().unwrap()).unwrap())
}

/// Ends the daemon by a signal, at once: whatever it has answered outlives it.
fn end(lab: &Lab, signal: Signal) {
    let daemon = lab.daemon_pid();
    kill(daemon, signal).unwrap();
    until("the daemon's end", || !is_alive(daemon));
}

/// Starts the next daemon and waits until all that is declared is there.
fn next(lab: &Lab, flags: &str) {
    lab.daemon(flags);
    until("every port to be up", || {
        lab.json("show ports").iter().all(|row| matches!(row["state"].as_str(), Some("up" | "link-down")))
    });
}

/// What people know containers and networks by.
fn identities(lab: &Lab) -> Vec<Value> {
    let mut all = Vec::new();
    for (listing, keys) in [
        ("ps", &["id", "name", "pid", "ports", "networks", "addresses"][..]),
        ("show ports", &["port", "alias", "container", "network", "mac", "ip"]),
        ("network ls", &["id", "name", "driver"]),
    ] {
        for row in lab.json(listing) {
            all.push(keys.iter().map(|key| row[*key].clone()).collect());
        }
    }
    for network in lab.json("network ls") {
        all.extend(lab.json(&format!("network inspect {}", network["name"].as_str().unwrap())));
    }
    all
}

fn interface(lab: &Lab, container: &str) -> String {
    lab.inside(container, "ip -o link show eth0; ip -o addr show eth0; ip route; ip -6 route; cat /etc/hosts")
}

fn a_killed_daemon_is_replaced_by_its_like(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create --subnet 10.1.0.0/24 --subnet fd00:1::/64 --label a=b net1");
    lab.ok("network create net2");
    lab.idle("gap", "net1");
    lab.ok("run -d --name alice --network net1:alias=al,mac=02:00:00:00:00:07 --hostname a.example");
    lab.ok("run -d --name bob --network net1:ip=10.1.0.77 --expose 80");
    lab.ok("run -d --name carol --network net1 --network net2 --link bob:db");
    lab.ok("rm -f gap");
    lab.ok("network connect --alias zwei net2 bob");
    lab.inside("alice", "ip addr add 10.1.0.200/24 dev eth0");
    let (before, inside) = (identities(lab), interface(lab, "alice"));
    for round in 0..2 {
        end(lab, Signal::SIGKILL);
        assert!(is_alive(init_of(&before, "alice")), "round {round}");
        next(lab, "");
        assert_eq!(identities(lab), before, "round {round}");
        assert_eq!(interface(lab, "alice"), inside, "what was done inside stays");
        for target in ["bob", "al", "10.1.0.77", "fd00:1::3", "10.1.0.200"] {
            assert!(lab.pings("carol", target), "{target} in round {round}");
        }
        assert!(lab.pings("carol", "zwei") && lab.pings("carol", "db"), "round {round}");
    }
    // What is new gets what is free, and nothing else.
    lab.idle("dave", "net1");
    assert_eq!(lab.address("dave"), "10.1.0.2");
    assert!(lab.pings("dave", "alice"));
    lab.ok("network disconnect net2 bob");
    lab.ok("network disconnect net1 alice");
    assert!(!lab.inside("alice", "ip link").contains("eth0"));
    lab.ok("network connect net2 alice");
    assert!(lab.pings("carol", "alice"));
    end(lab, Signal::SIGKILL);
    next(lab, "");
    assert_eq!(lab.row("ps", "name", "alice")["networks"], "net2");
    assert_eq!(lab.row("ps", "name", "bob")["networks"], "net1");
    assert!(lab.pings("carol", "alice") && lab.pings("carol", "bob"));
    assert!(!lab.inside("bob", "ip link").contains("eth1"));
    // Its end is noticed as before.
    lab.ok("stop alice");
    assert_eq!(lab.row("ps -a", "name", "alice")["state"], "exited");
    lab.ok("start alice");
    assert_eq!(lab.row("ps", "name", "alice")["networks"], "net2", "where it was at the end");
    assert!(lab.pings("carol", "alice"));
}

/// Gives back what it is sent. Words: address, port.
const ECHO: &str = "
import socket, sys
s = socket.create_server((sys.argv[1], int(sys.argv[2])))
print('ready')
c, _ = s.accept()
while True: c.sendall(c.recv(1))
";

/// Asks an [`ECHO`] by one connection for ever, and prints when it was answered. Words: address, port.
const TICKS: &str = "
import socket, sys, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
print('ready')
while True:
    s.sendall(b'x')
    s.recv(1) == b'x' or sys.exit(1)
    print(time.time())
    time.sleep(0.02)
";

fn connections_between_containers_go_on(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create net1");
    lab.idle("alice", "net1");
    lab.idle("bob", "net1");
    let address = lab.address("alice");
    let _echo = lab.serves("alice", ECHO, &[&address, "7"]);
    let ticks = lab.serves("bob", TICKS, &[&address, "7"]);
    let mut ticks = ticks.lines.map(|line| line.parse::<f64>().unwrap());
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        end(lab, signal);
        next(lab, "");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!(ticks.any(|tick| tick > now), "the connection ended with {signal}");
    }
}

fn a_command_that_starts_a_daemon_finds_what_waits(lab: &Lab) {
    lab.daemon("");
    lab.idle("box", "bridge");
    let (init, address) = (pid_of(lab, "box"), lab.address("box"));
    end(lab, Signal::SIGTERM);
    // Without a state to come back to, a daemon would be started for this command alone.
    until("an answer from who waited", || {
        lab.ts(&format!("run --rm ping -c1 -W1 {address}")).status.success()
    });
    assert_eq!(pid_of(lab, "box"), init);
}

/// A container's init by a listing from when there was a daemon.
fn init_of(identities: &[Value], name: &str) -> Pid {
    let row = identities.iter().find(|row| row[1] == name && row[2].is_u64()).unwrap();
    Pid::from_raw(i32::try_from(row[2].as_i64().unwrap()).unwrap())
}

fn a_daemon_that_is_killed_at_any_moment_comes_back(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create --subnet 10.1.0.0/24 net1");
    lab.ok("network create --subnet 10.2.0.0/24 net2");
    lab.idle("peer", "net1");
    for round in 0..6 {
        let daemon = lab.daemon_pid();
        let lines = [
            format!("run -d --name run{round} --network net1"),
            "network connect net2 peer".to_owned(),
            "network disconnect net2 peer".to_owned(),
            format!("network create own{round}"),
        ];
        let words = lines.iter().map(|line| line.split(' ').collect::<Vec<_>>());
        let mut commands: Vec<_> = words
            .map(|words| {
                let mut command = lab.tapswitch(&words);
                command.stdout(Stdio::null()).stderr(Stdio::null());
                lab.start(command)
            })
            .collect();
        // One of them has ended, the others are somewhere.
        commands[round % 4].0.wait().unwrap();
        kill(daemon, Signal::SIGKILL).unwrap();
        until("the daemon's end", || !is_alive(daemon));
        let done: Vec<bool> = commands.iter_mut().map(|it| it.0.wait().unwrap().success()).collect();
        // A 'run' that found none may have started the next daemon.
        lab.ts("daemon -d");
        until("every port to be up", || lab.json("show ports").iter().all(|row| row["state"] == "up"));
        for row in lab.json("ps").iter().filter(|row| row["networks"].as_str().unwrap().contains("net1")) {
            let name = row["name"].as_str().unwrap();
            assert!(name == "peer" || lab.pings("peer", name), "{name} in round {round}");
        }
        assert!(lab.inside("peer", "ip link").contains("eth0"));
        // What was answered is so.
        let has = |listing: &str, name: String| lab.json(listing).iter().any(|row| row["name"] == *name);
        assert!(!done[0] || has("ps", format!("run{round}")), "round {round}");
        assert!(!done[3] || has("network ls", format!("own{round}")), "round {round}");
    }
    assert!(lab.json("network ls").len() >= 3);
    // Whoever is not known any more has ended.
    let known = lab.json("ps").len();
    until("the unknown to end", || {
        let inits = fs::read_dir(lab.socket().with_extension("d")).unwrap().flatten();
        inits.filter(|entry| is_alive(noted(&entry.path()))).count() == known
    });
}

/// The init that a container's directory tells of.
pub(crate) fn noted(directory: &Path) -> Pid {
    let init = fs::read_to_string(directory.join("init")).unwrap_or_default();
    Pid::from_raw(init.split(' ').next().and_then(|pid| pid.parse().ok()).unwrap_or(0))
}

fn what_is_published_is_published_again(lab: &Lab) {
    if !lab.is_on_host() {
        return skip("the host's ports are another namespace's");
    }
    lab.daemon("--uplink user");
    lab.idle("web", "bridge");
    let _server = lab.serves("web", WHO, &["0.0.0.0", "80"]);
    lab.ok("publish web 127.0.0.1::80");
    let ports = lab.row("ps", "name", "web")["ports"].clone();
    let port: u16 = ports.as_str().unwrap().split([':', '-']).nth(1).unwrap().parse().unwrap();
    let answers = || {
        let mut said = String::new();
        let stream = std::net::TcpStream::connect(("127.0.0.1", port));
        stream.and_then(|mut stream| stream.read_to_string(&mut said)).is_ok_and(|len| len > 0)
    };
    assert!(answers());
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        end(lab, signal);
        assert!(!answers());
        next(lab, "--uplink user");
        assert_eq!(lab.row("ps", "name", "web")["ports"], ports);
        until("the published port to answer", answers);
    }
    end(lab, Signal::SIGKILL);
    // Somebody else has the port now: it is published no more, and the rest is as before.
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    next(lab, "--uplink user");
    assert_eq!(lab.row("ps", "name", "web")["ports"], "");
}

fn who_ended_meanwhile_is_released(lab: &Lab) {
    lab.daemon("");
    assert!(lab.words(&["run", "-d", "--name", "first", "sh", "-c", "exit 1"]).status.success());
    until("its end", || lab.json("ps").is_empty());
    lab.idle("killed", "bridge");
    lab.ok("run -d --rm --name removed sleep 1000");
    lab.idle("stays", "bridge");
    let address = lab.address("killed");
    let inits = ["killed", "removed"].map(|name| pid_of(lab, name));
    end(lab, Signal::SIGKILL);
    for init in inits {
        kill(init, Signal::SIGKILL).unwrap();
        until("its end", || !is_alive(init));
    }
    // Their supervisors note how they ended, and end.
    until("the supervisors' end", || lab.processes().len() == 2);
    next(lab, "");
    let names: Vec<Value> = lab.json("ps -a").iter().map(|row| row["name"].clone()).collect();
    assert_eq!(names, ["stays", "killed", "first"]);
    let killed = lab.row("ps -a", "name", "killed");
    assert_eq!((&killed["state"], &killed["addresses"]), (&"exited".into(), &"".into()), "{killed}");
    assert!(killed["status"].as_str().unwrap().starts_with("Exited (137)"), "{killed}");
    lab.idle("new", "bridge");
    assert_eq!(lab.address("new"), address);
    lab.ok("start killed");
    assert!(lab.pings("killed", &address));
    lab.ok("rm -f killed");
}

fn a_stopped_daemon_leaves_its_containers_alone(lab: &Lab) {
    lab.daemon("");
    let script = "while sleep 0.01; do echo tick; done";
    assert!(lab.words(&["run", "-d", "--name", "clock", "sh", "-c", script]).status.success());
    for network in ["host", "none"] {
        lab.idle(network, network);
    }
    let inits = ["clock", "host", "none"].map(|name| pid_of(lab, name));
    let init = inits[0];
    end(lab, Signal::SIGTERM);
    assert!(is_alive(init) && !lab.socket().exists());
    next(lab, "");
    assert_eq!(["clock", "host", "none"].map(|name| pid_of(lab, name)), inits);
    // Their supervisors have them again when their ends are told.
    for name in ["host", "none"] {
        until("its supervisor", || lab.ts(&format!("stop -t 1 {name}")).status.success());
        assert_eq!(lab.row("ps -a", "name", name)["state"], "exited");
        lab.ok(&format!("rm {name}"));
    }
    let lines = lab.ok("logs clock").lines().count();
    until("the log to go on", || lab.ok("logs clock").lines().count() > lines);
    lab.ok("stop -t 1 clock");
    assert!(!is_alive(init));
    assert_eq!(lab.row("ps -a", "name", "clock")["state"], "exited");
    lab.ok("rm clock");
    assert!(lab.json("ps -a").is_empty());
}

fn everything_is_taken_down_without_a_daemon_too(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create net1");
    lab.idle("box", "net1");
    let init = pid_of(lab, "box");
    end(lab, Signal::SIGTERM);
    assert!(is_alive(init));
    lab.ok("down --all");
    until("all processes to end", || lab.processes().is_empty());
    lab.daemon("");
    assert!(lab.json("ps -a").is_empty() && lab.json("network ls").iter().all(|row| row["name"] != "net1"));
    // With one, too, and then nothing comes back either.
    lab.ok("network create net1");
    lab.idle("box", "net1");
    lab.ok("down --all");
    until("all processes to end", || lab.processes().is_empty());
    lab.daemon("");
    assert!(lab.json("ps -a").is_empty() && lab.json("network ls").iter().all(|row| row["name"] != "net1"));
    // A daemon that is told to keep nothing takes its containers with it.
    lab.ok("down --all");
    lab.daemon("--state none");
    assert!(lab.ok("status").contains("state       none"));
    lab.idle("box", "bridge");
    end(lab, Signal::SIGTERM);
    until("all processes to end", || lab.processes().is_empty());
}

fn a_foreground_container_waits_for_the_next_daemon(lab: &Lab) {
    lab.daemon("");
    let words =
        ["run", "-i", "--rm", "--name", "cat", "sh", "-c", "echo ready; read line; echo $line; exit 7"];
    let mut command = lab.tapswitch(&words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = lab.start(command);
    let mut lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    end(lab, Signal::SIGKILL);
    next(lab, "");
    lab.idle("peer", "bridge");
    let address = lab.address("peer");
    until("the network to be back", || lab.pings("cat", &address));
    process.0.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "hello");
    assert_eq!(process.code(), Some(7));
    assert!(lab.json("ps -a").iter().all(|row| row["name"] != "cat"));
}

fn plugged_processes_are_plugged_in_again(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create net1");
    lab.ok("network create net2");
    let (stays, goes) = (lab.foreign(), lab.foreign());
    lab.ok(&format!("plug stays --network net1:alias=s --pid {}", stays.pid()));
    lab.ok(&format!("plug stays --network net2 --pid {}", stays.pid()));
    lab.ok(&format!("plug goes --network net1 --pid {}", goes.pid()));
    lab.idle("alice", "net1");
    let address = lab.address("stays");
    let before: Vec<Value> = identities(lab).into_iter().filter(|row| row[1] == "stays").collect();
    end(lab, Signal::SIGKILL);
    drop(goes);
    next(lab, "");
    let after: Vec<Value> = identities(lab).into_iter().filter(|row| row[1] == "stays").collect();
    assert_eq!(after, before);
    assert!(lab.pings("alice", &address) && lab.pings("alice", "s"));
    assert!(lab.json("ps -a").iter().all(|row| row["name"] != "goes"), "it has ended");
    lab.idle("new", "net1");
    drop(stays);
    until("its end", || lab.json("ps -a").iter().all(|row| row["name"] != "stays"));
}

/// Network namespaces with names, which go with it.
struct Named([String; 3]);

impl Named {
    fn new() -> Self {
        let own = std::process::id();
        let names = Self(["a", "b", "c"].map(|name| format!("tapswitch-{own}-{name}")));
        names.0.iter().for_each(|name| assert!(ip_netns("add", name)));
        names
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        for name in &self.0 {
            ip_netns("del", name);
        }
    }
}

fn ip_netns(verb: &str, name: &str) -> bool {
    Command::new("ip").args(["netns", verb, name]).stderr(Stdio::null()).status().unwrap().success()
}

fn plugged_paths_are_plugged_in_again(lab: &Lab) {
    if !(lab.is_root() && lab.is_on_host()) {
        return skip("it takes root to name a namespace");
    }
    let named = Named::new();
    let names = &named.0;
    lab.daemon("");
    for (plugged, name) in ["stays", "changes", "goes"].iter().zip(names) {
        lab.ok(&format!("plug {plugged} --network bridge --netns /run/netns/{name}"));
    }
    lab.idle("alice", "bridge");
    let [address, other] = ["stays", "changes"].map(|name| lab.address(name));
    end(lab, Signal::SIGKILL);
    // Another namespace takes the name, while the old one still has its inode number.
    let holder =
        lab.start(lab.command(&["nsenter", &format!("--net=/run/netns/{}", names[1]), "sleep", "1000"]));
    until("somebody to hold the old namespace", || {
        let held = fs::metadata(format!("/proc/{}/ns/net", holder.pid()));
        held.is_ok_and(|it| it.ino() == fs::metadata(format!("/run/netns/{}", names[1])).unwrap().ino())
    });
    assert!(ip_netns("del", &names[1]) && ip_netns("add", &names[1]) && ip_netns("del", &names[2]));
    next(lab, "");
    assert!(lab.pings("alice", &address));
    let lost = lab.row("ps", "name", "changes");
    assert_eq!(lost["state"], "lost");
    let status = lost["status"].as_str().unwrap().to_owned();
    assert!(lab.json("ps -a").iter().all(|row| row["name"] != "goes"), "it has gone");
    // The command that it says brings it back.
    let command = status.split('\'').nth(1).unwrap().strip_prefix("tapswitch ").unwrap().to_owned();
    lab.ok(&command);
    assert_eq!(lab.address("changes"), other);
    assert!(lab.pings("alice", &other));
}

fn policies_and_uplinks_come_back(lab: &Lab) {
    lab.daemon("--uplink user");
    lab.ok("network create --subnet 10.1.0.0/24 net1");
    lab.ok("network create --subnet 10.2.0.0/24 -o icc=false net2");
    lab.ok("uplink add other --user --allow-host --ip 192.0.0.9/29 --gateway 192.0.0.10");
    lab.ok("network set net1 -o uplink=other");
    lab.idle("alice", "net1");
    lab.idle("bob", "net2");
    lab.ok("rule add --from net:net1 --to net:net2 allow");
    lab.ok("rule add --from net:net2 --to net:net1 allow");
    lab.ok("route add 192.0.2.0/24 via 10.2.0.9");
    lab.ok("sysctl net.netfilter.nf_conntrack_udp_timeout=17");
    let seen = || {
        let all = ["uplink ls", "rule ls", "route ls", "sysctl", "show rules", "show routes"];
        all.map(|listing| {
            let mut rows = lab.json(listing);
            for row in &mut rows {
                // Counters, and the number of flows, begin anew.
                ["packets", "bytes"].iter().for_each(|key| drop(row.as_object_mut().unwrap().remove(*key)));
            }
            rows.retain(|row| row["key"] != "net.netfilter.nf_conntrack_count");
            (listing, rows)
        })
    };
    let before = seen();
    assert!(lab.pings("alice", "10.2.0.2"));
    end(lab, Signal::SIGKILL);
    next(lab, "--uplink user");
    assert_eq!(seen(), before);
    assert!(lab.pings("alice", "10.2.0.2"));
    if lab.is_root() && !lab.is_on_host() {
        // In a namespace that ends with each command nothing can be found again.
        return;
    }
    // A TAP in somebody's namespace is made again as well.
    let outside = crate::world::Outside::behind(lab, "");
    end(lab, Signal::SIGKILL);
    next(lab, "--uplink user");
    assert_eq!(lab.row("uplink ls", "name", "wan")["state"], "up");
    outside.end();
    until("the far end to be missed", || lab.row("uplink ls", "name", "wan")["state"] == "lost");
}

fn a_state_that_cannot_be_used_is_kept(lab: &Lab) {
    lab.daemon("");
    lab.idle("box", "bridge");
    let file = lab.socket().with_extension("state").join("state.json");
    assert!(lab.ok("status").contains(file.to_str().unwrap()));
    end(lab, Signal::SIGTERM);
    let text = fs::read_to_string(&file).unwrap();
    for (bad, why) in [
        (text.replacen("\"version\":2", "\"version\":999", 1), "it is of format 999"),
        (text[..text.len() / 2].to_owned(), "it is no state of a tapswitch"),
        (text.replacen("/16", "/17", 1), "it contradicts itself"),
    ] {
        fs::write(&file, &bad).unwrap();
        let said = lab.refused("daemon");
        assert!(said.contains(why) && said.contains("mv ") && said.contains(".bad"), "{said}");
        assert_eq!(lab.refused("daemon -d"), said);
        assert_eq!(fs::read_to_string(&file).unwrap(), bad);
    }
    fs::write(&file, &text).unwrap();
    let aside = file.with_extension("aside");
    fs::rename(&file, &aside).unwrap();
    fs::create_dir(&file).unwrap();
    let said = lab.refused("daemon");
    assert!(said.starts_with("cannot read the state in ") && said.contains("Is a directory"), "{said}");
    fs::remove_dir(&file).unwrap();
    fs::rename(&aside, &file).unwrap();
    if !lab.is_root() {
        fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
        let said = lab.refused("daemon");
        assert!(
            said.starts_with("cannot read the state in ") && said.contains("Permission denied"),
            "{said}"
        );
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    // Another daemon does not get it.
    next(lab, "");
    let second = lab.path().join("second/control.sock");
    let said = lab.refused(&format!("--socket {} daemon --state {}", second.display(), file.display()));
    assert!(said.contains("keeps its state in"), "{said}");
    assert_eq!(lab.json("ps").len(), 1);
}

fn the_host_is_on_a_network_again(lab: &Lab) {
    if !(lab.is_root() && lab.is_on_host()) {
        return skip("it takes root on the host");
    }
    lab.daemon("");
    let bridge = format!("ts{}", std::process::id());
    lab.ok(&format!("network create --subnet 10.233.7.0/24 -o host_port=true -o bridge_name={bridge} lan"));
    lab.idle("alice", "lan");
    let pings = || Command::new("ping").args(["-c1", "-W1", "10.233.7.2"]).stdout(Stdio::null()).status();
    assert!(pings().unwrap().success());
    let before = lab.row("show ports", "network", "lan");
    end(lab, Signal::SIGKILL);
    assert!(!fs::exists(format!("/sys/class/net/{bridge}")).unwrap());
    next(lab, "");
    assert!(pings().unwrap().success());
    assert_eq!(lab.row("show ports", "network", "lan")["mac"], before["mac"]);
}

fn uplinks_in_a_namespace_that_is_there_come_back(lab: &Lab) {
    let Some(wire) = Wire::new(lab) else { return };
    wire.uplink(lab, "");
    let tap = "uplink add near --tap near0 --ip 192.0.2.1/24 --gateway 192.0.2.2";
    succeeded(tap, &wire.there(lab, tap));
    lab.succeeds(wire.place(), "ip link set near0 up; ip addr add 192.0.2.2/24 dev near0");
    let seen = || {
        let rows = lab.json("uplink ls").into_iter();
        let keys = ["name", "kind", "mac", "addresses", "gateways", "state"];
        rows.map(|row| keys.map(|key| row[key].clone())).collect::<Vec<_>>()
    };
    until("both to be up", || seen().iter().all(|row| row[5] == "up"));
    let before = seen();
    assert!(before.len() == 2 && lab.pings("alice", FAR4));
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        end(lab, signal);
        // The far end of a TAP is the namespace's; without the daemon there is no such interface.
        assert!(!lab.does(wire.place(), "ip link show near0").status.success());
        succeeded("daemon -d", &wire.there(lab, "daemon -d"));
        lab.succeeds(wire.place(), "ip link set near0 up; ip addr add 192.0.2.2/24 dev near0");
        until("both to be up", || seen() == before);
        until("the container to be back", || lab.pings("alice", FAR4));
        assert!(lab.pings("alice", "192.0.2.2"));
    }
    // From another namespace they cannot be had: that is said, and the rest is there.
    end(lab, Signal::SIGKILL);
    lab.daemon("");
    until("the container to be back", || {
        lab.json("show ports").iter().any(|row| row["container"] == "alice")
    });
    assert!(seen().iter().all(|row| row[5] == "lost"), "{:?}", seen());
}

/// Changes the state of a daemon that has been stopped.
fn edit(lab: &Lab, change: impl FnOnce(String) -> String) {
    let file = lab.socket().with_extension("state").join("state.json");
    fs::write(&file, change(fs::read_to_string(&file).unwrap())).unwrap();
}

fn after_a_reboot_all_containers_have_ended(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create --subnet 10.1.0.0/24 net1");
    lab.idle("box", "net1");
    let init = pid_of(lab, "box");
    let foreign = lab.foreign();
    lab.ok(&format!("plug other --network net1 --pid {}", foreign.pid()));
    let networks = || {
        let rows = lab.json("network ls").into_iter();
        rows.map(|row| ["id", "name", "subnet"].map(|key| row[key].clone())).collect::<Vec<_>>()
    };
    let before = networks();
    end(lab, Signal::SIGTERM);
    edit(lab, |text| {
        let at = text.find("\"boot\":\"").unwrap() + 8;
        format!("{}0{}", &text[..at], &text[at..])
    });
    lab.daemon("");
    // Their numbers may be anybody's by now.
    let rows: Vec<_> =
        lab.json("ps -a").iter().map(|row| (row["name"].clone(), row["state"].clone())).collect();
    assert_eq!(rows, [("box".into(), "lost".into())]);
    assert_eq!(networks(), before);
    until("its supervisor to be told", || !is_alive(init));
    assert!(is_alive(foreign.pid()));
    lab.ok("start box");
    assert_eq!(lab.address("box"), "10.1.0.2");
}

fn what_is_joined_before_the_supervisor_comes_is_held(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create --subnet 10.2.0.0/24 net2");
    lab.idle("box", "bridge");
    lab.idle("peer", "net2");
    let supervisor = parent_of(pid_of(lab, "box"));
    end(lab, Signal::SIGKILL);
    kill(supervisor, Signal::SIGSTOP).unwrap();
    lab.daemon("");
    lab.ok("network connect net2 box");
    lab.ok("network disconnect bridge box");
    kill(supervisor, Signal::SIGCONT).unwrap();
    until("the interface that was left to go", || !lab.inside("box", "ip link").contains("eth0"));
    for _ in 0..2 {
        assert!(lab.pings("peer", "box"));
        end(lab, Signal::SIGKILL);
        next(lab, "");
        assert_eq!(lab.row("ps", "name", "box")["networks"], "net2");
    }
    // What was just joined is held before that is answered.
    for _ in 0..5 {
        lab.ok("network connect bridge box");
        end(lab, Signal::SIGKILL);
        next(lab, "");
        assert_eq!(lab.row("ps", "name", "box")["networks"], "net2,bridge");
        lab.ok("network disconnect bridge box");
        end(lab, Signal::SIGKILL);
        next(lab, "");
        assert_eq!(lab.row("ps", "name", "box")["networks"], "net2");
    }
}

pub(crate) fn parent_of(pid: Pid) -> Pid {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    Pid::from_raw(stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap())
}

/// A small file system of its own.
struct Small(PathBuf);

impl Small {
    fn new(path: PathBuf) -> Self {
        fs::create_dir(&path).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=128k,mode=700", "none"])
            .arg(&path)
            .status();
        assert!(mount.unwrap().success());
        Self(path)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn a_full_disk_is_said_and_heals(lab: &Lab) {
    if !(lab.is_root() && lab.is_on_host()) {
        return skip("it takes root to mount a small file system");
    }
    let disk = Small::new(lab.path().join("small"));
    let flags = format!("--state {}", disk.0.join("state.json").display());
    lab.daemon(&flags);
    lab.ok("network create before");
    let ballast = disk.0.join("ballast");
    let full =
        Command::new("dd").args(["if=/dev/zero", "bs=1k"]).arg(format!("of={}", ballast.display())).output();
    assert!(!full.unwrap().status.success());
    // There may be room in the last page; then comes a word with each answer, and what was asked is done.
    let mut said = String::new();
    let mut made = Vec::new();
    while said.is_empty() && made.len() < 100 {
        let name = format!("during{}", made.len());
        let output = lab.ts(&format!("network create {name}"));
        assert!(output.status.success());
        said = text(&output.stderr);
        made.push(name);
    }
    let expected =
        format!("tapswitch: this may not outlive the daemon: {} cannot", disk.0.join("state.json").display());
    assert!(said.starts_with(&expected) && said.contains("No space left"), "{said}");
    until("status to say it", || lab.ok("status").contains("cannot be written: No space left"));
    fs::remove_file(&ballast).unwrap();
    until("it to heal by itself", || !lab.ok("status").contains("cannot be written"));
    lab.ok("network create after");
    let before = lab.json("network ls");
    end(lab, Signal::SIGKILL);
    lab.daemon(&flags);
    assert_eq!(lab.json("network ls"), before);
    // A daemon that starts on a full disk has what there was.
    end(lab, Signal::SIGKILL);
    assert!(
        Command::new("dd")
            .args(["if=/dev/zero", "bs=1k"])
            .arg(format!("of={}", ballast.display()))
            .output()
            .is_ok()
    );
    let output = lab.ts(&format!("daemon -d {flags}"));
    assert!(output.status.success() && text(&output.stderr).contains("cannot be written: No space left"));
    assert_eq!(lab.json("network ls"), before);
    fs::remove_file(&ballast).unwrap();
    until("it to heal by itself", || !lab.ok("status").contains("cannot be written"));
    lab.ok("down --all");
}

fn what_the_next_daemon_is_told_otherwise_is_said(lab: &Lab) {
    lab.daemon("");
    lab.idle("box", "bridge");
    let before = identities(lab);
    end(lab, Signal::SIGTERM);
    let output = lab.ts("daemon -d --bip 10.77.0.1/24 --icc=false");
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("network 'bridge' stays as it was"), "{said}");
    until("the container to be back", || identities(lab) == before);
    lab.ok("rm -f box");
    end(lab, Signal::SIGTERM);
    let output = lab.ts("daemon -d --bip 10.77.0.1/24 --icc=false");
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    lab.idle("box", "bridge");
    assert_eq!(lab.address("box"), "10.77.0.2");
    // Pools are for networks to come.
    lab.ok("network create --subnet 10.78.0.0/24 old");
    end(lab, Signal::SIGTERM);
    lab.daemon("--default-address-pool base=10.79.0.0/16,size=24");
    lab.ok("network create new");
    assert!(lab.ok("network inspect old").contains("10.78.0.0/24"));
    assert!(lab.ok("network inspect new").contains("10.79."));
}

fn a_container_that_is_started_again_when_the_daemon_is_killed_is_not_lost(lab: &Lab) {
    lab.daemon("");
    lab.idle("box", "bridge");
    lab.ok("stop -t 0 box");
    let before = lab.row("ps -a", "name", "box");
    for round in 0..8u8 {
        let daemon = lab.daemon_pid();
        let mut start = lab.start(lab.tapswitch(&["start", "box"]));
        poll(&mut [], PollTimeout::from(round * 12)).unwrap();
        kill(daemon, Signal::SIGKILL).unwrap();
        let started = start.code() == Some(0);
        // A 'start' that found none may have started the next daemon.
        lab.ts("daemon -d");
        until("every port to be up", || lab.json("show ports").iter().all(|row| row["state"] == "up"));
        let row = lab.row("ps -a", "name", "box");
        assert_eq!(row["id"], before["id"]);
        assert!(row["state"] == "running" || !started, "round {round}: {row}");
        if row["state"] == "running" {
            until("its supervisor", || lab.ts("stop -t 0 box").status.success());
        }
    }
    lab.ok("start box");
}

fn a_lab_goes_on(lab: &Lab) {
    lab.daemon("");
    lab.ok("up -d");
    let before = identities(lab);
    end(lab, Signal::SIGKILL);
    next(lab, "");
    assert_eq!(identities(lab), before);
    assert!(lab.pings("alice", "bob"));
    assert!(lab.refused("up").contains("is up already"));
    lab.ok("down demo");
    assert!(lab.json("ps -a").is_empty());
}
