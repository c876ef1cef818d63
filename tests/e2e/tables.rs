//! What the router knows, and what it would do: neighbours, routes, flows, `sysctl`, `explain`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{Lab, text, until};
use crate::transfers::MANY;
use crate::world::{FAR4, FAR6, OUT4, Outside, WAN4, WHO, ask, seen_from, two_networks};

scenarios! {
    neighbours
    routes
    flows_have_all_keys
    flows_as_conntrack_prints_them
    flows_are_deleted
    events_are_told_as_they_come
    limits_and_timeouts_are_settings
    explained_between_containers
    explained_to_the_outside
    explained_from_bytes
    the_last_drop_is_explained
}

fn neighbours(lab: &Lab) {
    two_networks(lab, "");
    assert!(lab.json("show neigh").is_empty(), "nobody has spoken");
    for target in ["10.1.0.1", "fd00:1::1"] {
        assert!(lab.pings("alice", target));
    }
    let mac = lab.row("show ports", "port", "alice")["mac"].clone();
    for address in ["10.1.0.2", "fd00:1::2"] {
        let row = lab.row("show neigh", "address", address);
        assert_eq!((&row["network"], &row["mac"]), (&"net1".into(), &mac), "{row}");
        assert!(["REACHABLE", "STALE", "DELAY"].contains(&row["state"].as_str().unwrap()), "{row}");
        let said = lab.ok("show neigh");
        assert!(
            said.lines().any(|line| line.contains(address) && line.contains(mac.as_str().unwrap())),
            "{said}"
        );
    }
    // Whoever does not answer is shown, and why nothing gets there.
    lab.ok("down --all");
    two_networks(lab, "--iptables=false");
    assert!(!lab.ts("exec alice ping -n -c1 -W1 10.2.0.99").status.success());
    let state = lab.row("show neigh", "address", "10.2.0.99")["state"].clone();
    assert!(state == "INCOMPLETE" || state == "FAILED", "{state}");
    until("it to fail", || lab.row("show neigh", "address", "10.2.0.99")["state"] == "FAILED");
    // A new MAC address is learned from who says so himself.
    lab.inside("carol", "ip link set eth0 address 02:00:00:00:00:0c; ip link set eth0 up");
    lab.inside("carol", "ip route replace default via 10.2.0.1; ping -n -c1 -W3 10.2.0.1");
    assert_eq!(lab.row("show neigh", "address", "10.2.0.2")["mac"], "02:00:00:00:00:0c");
    assert!(lab.pings("alice", "10.2.0.2"));
    // One who leaves is forgotten.
    lab.ok("rm -f carol");
    assert!(lab.json("show neigh").iter().all(|row| row["address"] != "10.2.0.2"));
}

fn routes(lab: &Lab) {
    two_networks(lab, "");
    let _outside = Outside::behind(lab, "");
    lab.ok("route add 10.9.0.0/16 via 10.2.0.2");
    let rows = lab.json("show routes");
    let find = |prefix: &str| {
        rows.iter().find(|row| row["prefix"] == prefix).unwrap_or_else(|| panic!("{prefix}: {rows:#?}"))
    };
    for (prefix, network) in [
        ("10.1.0.0/24", "net1"),
        ("10.2.0.0/24", "net2"),
        ("fd00:1::/64", "net1"),
        ("203.0.113.0/24", "wan"),
        ("2001:db8:a::/64", "wan"),
        ("10.9.0.0/16", "net2"),
        ("0.0.0.0/0", "wan"),
        ("::/0", "wan"),
    ] {
        assert_eq!(find(prefix)["network"], network);
    }
    assert_eq!((&find("10.9.0.0/16")["via"], &find("0.0.0.0/0")["via"]), (&"10.2.0.2".into(), &OUT4.into()));
    let said = lab.ok("show routes");
    assert!(said.contains("10.9.0.0/16") && said.contains("10.2.0.2"), "{said}");
}

/// A UDP flow from alice to the outside, answered; returns its row.
#[track_caller]
fn flow(lab: &Lab, outside: &Outside) -> Value {
    let _server = lab.serves(outside, WHO, &[FAR4, "7000"]);
    assert_eq!(ask(lab, "alice", "udp", (FAR4, 7000), 4444).unwrap().port, 4444);
    let rows = lab.json("show conntrack");
    let found = rows.iter().find(|row| row["proto"] == "udp" && row["sport"] == 4444);
    found.unwrap_or_else(|| panic!("{rows:#?}")).clone()
}

fn flows_have_all_keys(lab: &Lab) {
    two_networks(lab, "");
    let outside = Outside::behind(lab, "");
    let row = flow(lab, &outside);
    let expected: [(&str, Value); 9] = [
        ("src", "10.1.0.2".into()),
        ("sport", 4444.into()),
        ("dst", FAR4.into()),
        ("dport", 7000.into()),
        ("reply_src", FAR4.into()),
        ("reply_sport", 7000.into()),
        ("reply_dst", WAN4.into()),
        ("reply_dport", 4444.into()),
        ("network", "net1".into()),
    ];
    for (key, value) in expected {
        assert_eq!(row[key], value, "{key} of {row:#}");
    }
    let timeout = row["timeout"].as_u64().unwrap();
    assert!((1..=120).contains(&timeout), "answered once, it may be a question and an answer: {row}");
    // 3 bytes there, `203.0.113.2 4444` back, and 28 of headers each.
    assert_eq!((&row["packets"], &row["bytes"]), (&2.into(), &(31 + 28 + 16).into()), "{row}");
    let text = lab.ok("show conntrack");
    assert!(text.lines().any(|line| line.contains("10.1.0.2") && line.contains(WAN4)), "{text}");
    // TCP: its state is followed to its end.
    let _server = lab.serves(&outside, WHO, &[FAR6, "7000"]);
    assert_ne!(seen_from(lab, "alice", "tcp", (FAR6, 7000)), "-");
    let rows = lab.json("show conntrack");
    let tcp = rows.iter().find(|row| row["proto"] == "tcp").unwrap();
    assert!(
        ["TIME_WAIT", "CLOSE", "LAST_ACK", "CLOSE_WAIT"].contains(&tcp["state"].as_str().unwrap()),
        "{tcp}"
    );
    assert!(lab.pings("alice", FAR4));
    let rows = lab.json("show conntrack");
    assert!(rows.iter().any(|row| row["proto"] == "icmp" && row["dst"] == FAR4), "{rows:#?}");
}

fn flows_as_conntrack_prints_them(lab: &Lab) {
    two_networks(lab, "");
    let outside = Outside::behind(lab, "");
    flow(lab, &outside);
    let output = lab.ts("conntrack -L -p udp -s 10.1.0.2");
    let said = text(&output.stdout);
    assert_eq!(said.lines().count(), 1, "{said}{}", text(&output.stderr));
    let words: Vec<&str> = said.split_ascii_whitespace().collect();
    assert_eq!((words[0], words[1]), ("udp", "17"), "{said}");
    assert!(words[2].parse::<u32>().is_ok(), "{said}");
    let tuples = "src=10.1.0.2 dst=198.51.100.1 sport=4444 dport=7000 \
                  src=198.51.100.1 dst=203.0.113.2 sport=7000 dport=4444";
    let without_counts: Vec<&str> = words
        .iter()
        .copied()
        .filter(|word| !word.starts_with("packets=") && !word.starts_with("bytes="))
        .collect();
    assert!(without_counts.join(" ").contains(tuples), "{said}");
    assert!(text(&output.stderr).contains("1 flow entries have been shown."), "{}", text(&output.stderr));
    // One that was not answered, and one that is open.
    let _ = ask(lab, "alice", "udp", ("203.0.113.77", 9), 4445);
    assert!(lab.ok("conntrack -L -p udp -d 203.0.113.77").contains("[UNREPLIED]"));
    assert_eq!(lab.ok("conntrack -L -p tcp"), "");
    assert_eq!(lab.ok("conntrack -L -s 10.9.9.9"), "");
    assert_eq!(lab.ts("conntrack").status.code(), Some(2));
    assert_eq!(lab.ts("conntrack -L -p bicycle").status.code(), Some(2));
}

fn flows_are_deleted(lab: &Lab) {
    two_networks(lab, "");
    let outside = Outside::behind(lab, "");
    flow(lab, &outside);
    for (from, to) in [("alice", OUT4), ("carol", OUT4), ("alice", FAR4)] {
        assert!(lab.pings(from, to));
    }
    let count = || lab.json("show conntrack").len();
    let before = count();
    lab.ok("conntrack -D -p icmp -s 10.1.0.2 -d 198.51.100.1");
    assert_eq!(count(), before - 1);
    lab.ok("conntrack -D -s 10.2.0.2");
    assert_eq!(count(), before - 2);
    lab.ok("conntrack -D -p udp");
    assert_eq!(count(), before - 3);
    lab.ok("conntrack -D");
    assert_eq!(count(), 0);
    assert!(lab.pings("alice", FAR4), "it begins anew");
}

fn events_are_told_as_they_come(lab: &Lab) {
    two_networks(lab, "");
    let outside = Outside::behind(lab, "");
    let mut command = lab.tapswitch(&["conntrack", "-E"]);
    command.stdout(Stdio::piped());
    let mut watch = lab.start(command);
    let mut lines = BufReader::new(watch.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    // Whether it watches already shows in what it says of flows that are made until it does.
    let mut number = 5000;
    let (send, first) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let line = lines.next().unwrap();
        send.send(line).unwrap();
        lines
    });
    let mut told = None;
    until("a first event", || {
        let _ = ask(lab, "alice", "udp", (OUT4, 9), number);
        number += 1;
        told = first.try_recv().ok();
        told.is_some()
    });
    let told = told.unwrap();
    assert!(
        told.contains("[NEW]") && told.contains("src=10.1.0.2") && told.contains("[UNREPLIED]"),
        "{told}"
    );
    let mut lines = reader.join().unwrap();
    let _server = lab.serves(&outside, WHO, &[FAR4, "7000"]);
    assert_ne!(seen_from(lab, "alice", "tcp", (FAR4, 7000)), "-");
    let mut next = |what: &str| lines.find(|line| line.contains("tcp") && line.contains(what));
    assert!(next("[NEW]").unwrap().contains("SYN_SENT"));
    assert!(next("[UPDATE]").unwrap().contains("SYN_RECV"));
    assert!(next("ESTABLISHED").is_some());
    lab.ok("conntrack -D -p tcp");
    assert!(next("[DESTROY]").unwrap().contains("dport=7000"));
    watch.signal(Signal::SIGINT);
    assert_eq!(watch.code(), Some(0));
}

fn limits_and_timeouts_are_settings(lab: &Lab) {
    two_networks(lab, "");
    let outside = Outside::behind(lab, "");
    let all = lab.ok("sysctl net.netfilter.nf_conntrack_max");
    assert!(all.starts_with("net.netfilter.nf_conntrack_max = "), "{all}");
    for key in [
        "udp_timeout",
        "udp_timeout_stream",
        "icmp_timeout",
        "tcp_timeout_established",
        "tcp_timeout_time_wait",
        "generic_timeout",
    ] {
        let key = format!("net.netfilter.nf_conntrack_{key}");
        assert_eq!(lab.ok(&format!("sysctl {key}=33")), format!("{key} = 33\n"));
        assert_eq!(lab.ok(&format!("sysctl {key}")), format!("{key} = 33\n"));
        assert!(lab.refused(&format!("sysctl {key}=never")).contains(&key));
    }
    let row = flow(lab, &outside);
    assert!(row["timeout"].as_u64().unwrap() <= 33, "{row}");
    // A flow that is idle for longer goes by itself.
    lab.ok("sysctl net.netfilter.nf_conntrack_icmp_timeout=1");
    assert!(lab.pings("alice", FAR4));
    let icmp = || lab.json("show conntrack").iter().filter(|row| row["proto"] == "icmp").count();
    until("the end of the flow", || icmp() == 0);
    // A full table refuses those who want more, and keeps what is open.
    lab.ok("conntrack -D");
    lab.ok("sysctl net.netfilter.nf_conntrack_max=20");
    let _server = lab.serves(&outside, MANY, &[FAR4]);
    assert_eq!(lab.python("alice", FULL, &[FAR4, "15", "200"]), "15 open\n");
    assert!(lab.json("show conntrack").len() <= 20);
    lab.ok("conntrack -D");
    assert_eq!(lab.python("alice", FULL, &[FAR4, "30", "0"]), "20 open\n");
    assert!(lab.drops("alice", "ct_full") >= 10, "{:?}", lab.json("show drops"));
}

/// Opens connections to a [`MANY`] as far as it can, then sends datagrams from as many sockets as asked, and says
/// how many connections still work. Words: address, connections, datagrams.
const FULL: &str = "
import os, socket, sys
host, connections, datagrams = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
ends = []
for _ in range(connections):
    try: ends.append(socket.create_connection((host, 7500), 0.3))
    except OSError: pass
for _ in range(datagrams):
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'flood', (host, 9))
for end in ends:
    end.settimeout(5)
    data = os.urandom(4096)
    end.sendall(data)
    back = b''
    while len(back.partition(b' ')[2]) < 4096: back += end.recv(1 << 16)
    assert back.partition(b' ')[2] == data
print(len(ends), 'open')
";

/// Everything that `explain` must leave as it was.
fn tables(lab: &Lab) -> Vec<Vec<Value>> {
    let mut all = ["show drops", "show fdb", "show rules", "show ports"].map(|line| lab.json(line)).to_vec();
    for (line, keys) in [
        ("show conntrack", ["src", "dst", "sport", "packets", "state"]),
        ("show neigh", ["address", "mac", "network", "", ""]),
    ] {
        // What is left of an age changes by itself.
        all.push(
            lab.json(line).iter().map(|row| keys.iter().map(|key| row[key].clone()).collect()).collect(),
        );
    }
    for row in all.iter_mut().flatten().filter_map(Value::as_object_mut) {
        row.remove("age");
    }
    all
}

/// Explains, which must leave everything as it was; what it says, whatever the verdict. Kernels have things to
/// say of their own accord: in the end there is a moment in which nobody speaks.
#[track_caller]
fn explain(lab: &Lab, words: &str, code: i32) -> String {
    let mut said = String::new();
    until(&format!("explain {words} to change nothing"), || {
        let before = tables(lab);
        let output = lab.ts(&format!("explain {words}"));
        said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "explain {words}: {said}");
        tables(lab) == before
    });
    said
}

/// A ping in vain, and what is said of the last drop after something else was done; again, until it was that ping
/// and nothing that a kernel said of its own accord.
#[track_caller]
fn last_drop(
    lab: &Lab,
    (from, to): (&str, &str),
    words: &str,
    meanwhile: &[&str],
    code: i32,
    expected: &[&str],
) {
    until(&format!("{expected:?} as the last drop"), || {
        assert!(!lab.pings(from, to));
        meanwhile.first().into_iter().for_each(|line| drop(lab.ok(line)));
        let output = lab.ts(&format!("explain --last-drop {words}"));
        let said = text(&output.stdout);
        meanwhile.get(1).into_iter().for_each(|line| drop(lab.ok(line)));
        output.status.code() == Some(code) && expected.iter().all(|word| said.contains(word))
    });
}

#[track_caller]
fn says(said: &str, words: &[&str]) {
    let lower = said.to_lowercase();
    let missing: Vec<&&str> = words.iter().filter(|word| !lower.contains(&word.to_lowercase())).collect();
    assert!(missing.is_empty(), "{missing:?} is missing in:\n{said}");
}

fn explained_between_containers(lab: &Lab) {
    two_networks(lab, "");
    says(&explain(lab, "alice bob", 0), &["bob"]);
    says(&explain(lab, "alice 10.1.0.1", 0), &["10.1.0.1"]);
    says(&explain(lab, "alice carol", 1), &["DOCKER-ISOLATION", "isolated"]);
    says(&explain(lab, "alice 10.2.0.2:80", 1), &["DOCKER-ISOLATION", "isolated"]);
    says(&explain(lab, "carol fd00:1::3", 1), &["isolated"]);
    says(&explain(lab, "alice 10.77.0.1", 1), &["no_route"]);
    lab.ok("rule add --from alice --to carol --proto tcp --dport 80 allow");
    says(&explain(lab, "alice carol:80/tcp", 0), &["DOCKER-USER", "net2", "carol", "ttl"]);
    says(&explain(lab, "alice carol:81/tcp", 1), &["isolated"]);
    says(&explain(lab, "alice carol:80/udp", 1), &["isolated"]);
    let _server = lab.serves("carol", WHO, &["10.2.0.2", "80"]);
    assert!(ask(lab, "alice", "tcp", ("10.2.0.2", 80), 0).is_ok(), "as it said");
    lab.ok("sysctl net.ipv4.ip_forward=0");
    says(&explain(lab, "alice carol:80/tcp", 1), &["forwarding_off"]);
    for wrong in ["explain nobody bob", "explain alice nobody", "explain alice bob:80/bicycle"] {
        assert!(matches!(lab.ts(wrong).status.code(), Some(1 | 2)), "{wrong}");
    }
    let steps = lab.ts("--json explain alice bob");
    let rows: Vec<Value> = serde_json::from_slice(&steps.stdout).unwrap();
    assert!(rows.len() > 2, "{rows:#?}");
}

fn explained_to_the_outside(lab: &Lab) {
    two_networks(lab, "");
    says(&explain(lab, "alice 198.51.100.1:80/tcp", 1), &["no_route"]);
    let _outside = Outside::behind(lab, "");
    assert!(lab.pings("alice", FAR4), "whoever is next is known");
    let said = explain(lab, &format!("alice {FAR4}:80/tcp"), 0);
    says(&said, &["MASQUERADE", WAN4, "wan", OUT4, "10.1.0.2"]);
    says(&explain(lab, &format!("alice {FAR6}"), 0), &["MASQUERADE", "2001:db8:a::2"]);
    lab.ok("publish carol 8000:80");
    says(&explain(lab, &format!("alice {WAN4}:8000"), 0), &["DNAT", "10.2.0.2", "carol"]);
    says(&explain(lab, &format!("wan {WAN4}:8000"), 0), &["DNAT", "10.2.0.2", "carol"]);
    says(&explain(lab, &format!("wan {WAN4}:8001"), 0), &[WAN4]);
    says(&explain(lab, "wan 10.2.0.2:22", 1), &["policy"]);
}

fn explained_from_bytes(lab: &Lab) {
    two_networks(lab, "");
    let _outside = Outside::behind(lab, "");
    assert!(lab.pings("alice", FAR4));
    let file = lab.path().join("alice.pcap");
    let path = file.to_str().unwrap();
    let mut capture = lab.tapswitch(&["capture", "-i", "alice", "-c", "2", "-w", path, "icmp"]);
    capture.stderr(Stdio::piped());
    let mut capture = lab.start(capture);
    let mut said = BufReader::new(capture.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line.contains("listening on")));
    assert!(lab.pings("alice", FAR4));
    assert_eq!(capture.code(), Some(0));
    says(&explain(lab, &format!("--at alice --pcap {path}:1"), 0), &[FAR4, WAN4, "wan"]);
    assert_eq!(
        lab.ts(&format!("explain --at alice --pcap {path}:3")).status.code(),
        Some(1),
        "there are two"
    );
    // The gateway's MAC address, which is alice's default route's, and an echo request to carol.
    let known = lab.inside("alice", "ip neigh show 10.1.0.1");
    let gateway = known.split(' ').skip_while(|word| *word != "lladdr").nth(1).unwrap().replace(':', "");
    let own = lab.row("show ports", "port", "alice")["mac"].as_str().unwrap().replace(':', "");
    let hex = |checksum: &str, to: &str| {
        format!("{gateway}{own}08004500001c000040004001{checksum}0a010002{to}0800f7ff00000000")
    };
    let right = hex("26db", "0a020002");
    says(&explain(lab, &format!("--at alice --hex {right}"), 1), &["isolated"]);
    let wrong = hex("dead", "0a020002");
    says(&explain(lab, &format!("--at alice --hex {wrong}"), 1), &["bad_ip_checksum"]);
    says(&explain(lab, &format!("--at alice --hex {}", &right[..60]), 1), &["bad_ip_header"]);
    for wrong in ["--at alice --hex zz", "--at nobody --hex 00", "--at alice", "--hex 00"] {
        assert!(matches!(lab.ts(&format!("explain {wrong}")).status.code(), Some(1 | 2)), "{wrong}");
    }
}

fn the_last_drop_is_explained(lab: &Lab) {
    two_networks(lab, "");
    assert_eq!(lab.ts("explain --last-drop").status.code(), Some(1), "nothing was dropped");
    let carol = ("carol", "10.1.0.3");
    last_drop(lab, carol, "", &[], 1, &["isolated", "10.1.0.3", "DOCKER-ISOLATION"]);
    last_drop(lab, ("alice", "10.77.0.1"), "", &[], 1, &["no_route", "10.77.0.1"]);
    last_drop(lab, carol, "carol", &[], 1, &["isolated", "10.1.0.3"]);
    // It is told as it would be now.
    let allowed = ["rule add --from net2 --to net1 allow", "rule rm 1"];
    last_drop(lab, carol, "carol", &allowed, 0, &["DOCKER-USER", "bob"]);
    assert!(lab.refused("explain --last-drop nobody").contains("nobody"));
}
