//! The daemon's confinement, as seen from outside, and what it does when descriptors run out.
//! What a confined process is refused is tried in `tests/confine.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use crate::harness::{Lab, skip, succeeded, text, until};

scenarios! {
    every_thread_is_confined
    confinement_can_be_left_out
    limits_are_the_daemons_own
    out_of_descriptors_for_ports
    out_of_descriptors_for_clients
    out_of_descriptors_for_sockets
}

/// The lines of `status` of each of the daemon's threads.
fn threads(lab: &Lab) -> Vec<BTreeMap<String, String>> {
    let tasks = fs::read_dir(format!("/proc/{}/task", lab.daemon_pid())).unwrap().flatten();
    let status = |text: String| {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect()
    };
    tasks.map(|task| status(fs::read_to_string(task.path().join("status")).unwrap())).collect()
}

fn every_thread_is_confined(lab: &Lab) {
    lab.daemon("");
    let said = lab.row("status", "version", env!("CARGO_PKG_VERSION"))["confinement"].to_string();
    let kept = if lab.is_root() { "net_admin net_bind_service" } else { "none" };
    assert!(said.contains(&format!("capabilities {kept}")), "{said}");
    assert!(lab.ok("status").contains("confinement capabilities "));
    if !said.contains("seccomp yes") || !said.contains("landlock ABI") {
        return skip(&format!("this kernel cannot confine wholly: {said}"));
    }
    lab.idle("box", "bridge");
    // Two that begin later.
    let mut capture = lab.tapswitch(&["capture", "-i", "any"]);
    capture.stdout(Stdio::null()).stderr(Stdio::null());
    let _capture = lab.start(capture);
    let mut watch = lab.tapswitch(&["conntrack", "-E"]);
    watch.stdout(Stdio::null()).stderr(Stdio::null());
    let _watch = lab.start(watch);
    // Beside the two loops and the one that saves.
    until("the threads of a capture and a watch", || threads(lab).len() == 5);
    let kept = if lab.is_root() { "0000000000001400" } else { "0000000000000000" };
    for thread in threads(lab) {
        assert_eq!((thread["NoNewPrivs"].as_str(), thread["Seccomp"].as_str()), ("1", "2"), "{thread:?}");
        for (set, expected) in
            [("CapEff", kept), ("CapPrm", kept), ("CapBnd", kept), ("CapInh", NONE), ("CapAmb", NONE)]
        {
            assert_eq!(thread[set], expected, "{set} of {thread:?}");
        }
    }
}

const NONE: &str = "0000000000000000";

fn confinement_can_be_left_out(lab: &Lab) {
    lab.daemon("--confine=off");
    assert_eq!(lab.json("status")[0]["confinement"], "off");
    let pid = lab.daemon_pid();
    assert!(fs::read_to_string(format!("/proc/{pid}/status")).unwrap().contains("Seccomp:\t0"));
}

/// A daemon that may have so many descriptors.
fn limited(lab: &Lab, limit: u32) {
    let (script, program) = (format!("ulimit -n {limit}; exec \"$@\""), lab.program());
    let words = ["sh", "-c", &script, "sh", program.to_str().unwrap(), "daemon", "-d", "--uplink", "user"];
    succeeded("daemon -d", &lab.command(&words).output().unwrap());
    assert_eq!(lab.json("status")[0]["descriptor_limit"], limit);
    lab.ok("network create --subnet 10.1.0.0/24 net");
}

fn limits_are_the_daemons_own(lab: &Lab) {
    let program = lab.program();
    let script =
        "ulimit -Sn 256; \"$1\" daemon -d >&2; \"$1\" run --rm sh -c 'ulimit -Sn; ulimit -Hn'; ulimit -Hn";
    let output = lab.command(&["sh", "-c", script, "sh", program.to_str().unwrap()]).output().unwrap();
    let said = succeeded(script, &output);
    let [soft, hard, outside] = said.lines().collect::<Vec<_>>()[..] else { panic!("{said}") };
    assert_eq!((soft, hard), ("256", outside), "a container has its client's limits");
    let limits = fs::read_to_string(format!("/proc/{}/limits", lab.daemon_pid())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), [hard, hard]);
}

fn shortages(lab: &Lab) -> u64 {
    lab.json("status")[0]["descriptor_shortages"].as_u64().unwrap()
}

/// The mend, on one line.
#[track_caller]
fn assert_explained(said: &str, limit: u32) {
    assert!(said.contains(&format!("run out of file descriptors (limit {limit}): end containers")), "{said}");
}

fn out_of_descriptors_for_ports(lab: &Lab) {
    limited(lab, 56);
    lab.idle("alice", "net");
    lab.idle("bob", "net");
    assert_eq!(shortages(lab), 0);
    let refused = (0..56).find_map(|number| {
        let output = lab.ts(&format!("run -d --name more{number} --network net"));
        (!output.status.success()).then(|| (number, text(&output.stderr)))
    });
    let (number, said) = refused.expect("an end of descriptors");
    assert!(number > 0);
    assert_explained(&said, 56);
    assert!(shortages(lab) > 0);
    let foreign = lab.foreign();
    assert_explained(&lab.refused_last(&format!("plug box --network net --pid {}", foreign.pid())), 56);
    // Those that are there go on, and nothing is left of those that were refused.
    assert!(lab.pings("alice", "bob"));
    assert_eq!(lab.json("ps -a").len(), number + 2);
    assert_eq!(lab.inside("alice", "getent hosts bob").split_whitespace().next(), Some("10.1.0.3"));
    lab.ok("rm -f more0");
    lab.idle("again", "net");
    assert!(lab.pings("again", "alice"));
    assert!(lab.ok("status").contains("descriptors limit 56, too few"));
}

/// Asks for the status on a connection of its own, which stays.
fn ask(lab: &Lab) -> (UnixStream, String) {
    let mut stream = UnixStream::connect(lab.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let request = r#"{"version":1,"op":"status"}"#;
    // Who is sent away may find it closed already.
    let _ = stream.write_all(&[&(request.len() as u32).to_be_bytes(), request.as_bytes()].concat());
    let mut head = [0; 4];
    stream.read_exact(&mut head).unwrap();
    let mut answer = vec![0; u32::from_be_bytes(head) as usize];
    stream.read_exact(&mut answer).unwrap();
    (stream, text(&answer))
}

fn out_of_descriptors_for_clients(lab: &Lab) {
    limited(lab, 56);
    lab.idle("alice", "net");
    lab.idle("bob", "net");
    // A save takes a descriptor, which would count as one of the clients'.
    until("the state to be saved", || !lab.ok("status").contains("being saved"));
    let mut connections = Vec::new();
    let said = loop {
        let (connection, answer) = ask(lab);
        if answer.contains("error") {
            break answer;
        }
        connections.push(connection);
        assert!(connections.len() < 56);
    };
    assert_explained(&said, 56);
    assert!(connections.len() > 10);
    assert_explained(&lab.refused("status"), 56);
    let exec = format!("{} exec alice ping -c1 -W1 10.1.0.3", lab.program().display());
    assert_explained(&text(&lab.command(&["sh", "-c", &exec]).output().unwrap().stderr), 56);
    drop(connections);
    until("the daemon to recover", || lab.ts("status").status.success());
    assert!(shortages(lab) >= 2);
    assert!(lab.pings("alice", "bob"));
    lab.idle("carol", "net");
    assert!(lab.pings("carol", "alice"));
}

/// Opens connections until one gets no answer, and keeps them. Words: address, port.
const CONNECT: &str = "
import socket, sys, time
kept = []
while True:
    s = socket.socket()
    s.settimeout(5)
    try: s.connect((sys.argv[1], int(sys.argv[2])))
    except TimeoutError: break
    kept.append(s)
print('ready')
print(len(kept))
while True: time.sleep(1000)
";

fn out_of_descriptors_for_sockets(lab: &Lab) {
    limited(lab, 56);
    let network = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    if network(&lab.daemon_pid().to_string()) != network("self") {
        return skip("the daemon has another loopback than this test");
    }
    lab.ok("uplink set user --allow-host");
    let gateway = lab.row("uplink ls", "name", "user")["gateways"].to_string();
    let gateway = gateway.trim_matches('"').split(',').next().unwrap().to_owned();
    lab.idle("alice", "net");
    lab.idle("bob", "net");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let mut connections = lab.serves("alice", CONNECT, &[&gateway, &port]);
    let count: usize = connections.lines.next().unwrap().parse().unwrap();
    assert!((5..56).contains(&count), "{count}");
    let rows = lab.json("show drops");
    assert!(rows.iter().any(|row| row["reason"] == "host_no_descriptor"), "{rows:?}");
    assert_explained(&text(&lab.ts("run -d --network net").stderr), 56);
    assert!(lab.pings("alice", "bob"));
    drop((connections, listener));
    until("the daemon to recover", || lab.ts("run -d --name carol --network net").status.success());
    assert!(lab.pings("carol", "alice"));
}
