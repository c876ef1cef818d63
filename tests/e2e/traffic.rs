//! Frames between containers: apart where they should be, whole where they arrive, counted everywhere.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::harness::{Lab, Process, skip, succeeded, text, until};

scenarios! {
    networks_are_worlds_apart
    counters_are_exact
    bulk_arrives_whole
    datagrams_of_64_kib
    ipv6_by_name
    a_network_without_ipv6_is_silent
    vlan_tags_pass
    traceroute_sees_one_hop
    a_hundred_ports
}

fn count(lab: &Lab, port: &str, counter: &str) -> u64 {
    lab.row("show ports", "port", port)[counter].as_u64().unwrap()
}

fn networks_are_worlds_apart(lab: &Lab) {
    lab.ok("up -d");
    assert!(lab.pings("alice", "bob") && lab.pings("carol", "dave"));
    let before = (count(lab, "carol", "tx_frames"), count(lab, "dave", "tx_frames"));
    // Not for want of a route: on the same wire, it would answer.
    lab.inside("alice", "ip route add 172.20.0.0/16 dev eth0");
    lab.inside("carol", "ip route add 172.19.0.0/16 dev eth0");
    let output = lab.sh("alice", "ping -c3 -i0.2 -W1 172.20.0.2");
    assert!(text(&output.stdout).contains("100% packet loss"), "{}", text(&output.stdout));
    lab.sh("alice", "ping -b -c1 -W1 255.255.255.255");
    assert_eq!((count(lab, "carol", "tx_frames"), count(lab, "dave", "tx_frames")), before);
    assert!(
        lab.json("show fdb")
            .iter()
            .all(|row| (row["network"] == "net1")
                == (row["container"] == "alice" || row["container"] == "bob"))
    );
    // Last, for others may be asked about it, at their leisure.
    assert!(!lab.sh("alice", "getent hosts carol").status.success(), "no name crosses");
}

fn counters_are_exact(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create net");
    lab.idle("alice", "net");
    lab.idle("bob", "net");
    assert!(lab.pings("alice", &lab.address("bob")));
    // Each an ARP message and an ICMP message: 42 and 98 bytes.
    for name in ["alice", "bob"] {
        let row = lab.row("show ports", "port", name);
        let seen = ["rx_frames", "rx_bytes", "rx_segments", "tx_frames", "tx_bytes", "tx_segments"]
            .map(|key| row[key].as_u64().unwrap());
        assert_eq!(seen, [2, 140, 2, 2, 140, 2], "{name}");
        assert_eq!((&row["drops"], &row["kernel_drops"]), (&0.into(), &0.into()));
    }
    assert!(lab.json("show drops").is_empty());
}

const SERVER: &str = "
import hashlib, socket
s = socket.create_server(('0.0.0.0', 5000))
print('ready', flush=True)
c, _ = s.accept()
h, n = hashlib.sha256(), 0
while True:
    b = c.recv(1 << 16)
    if not b: break
    h.update(b); n += len(b)
c.sendall(b'%d %s' % (n, h.hexdigest().encode()))
";

const CLIENT: &str = "
import hashlib, os, socket, sys
c = socket.create_connection((sys.argv[1], 5000))
data = os.urandom(20_000_000)
c.sendall(data)
c.shutdown(socket.SHUT_WR)
said = b''
while True:
    b = c.recv(100)
    if not b: break
    said += b
want = b'%d %s' % (len(data), hashlib.sha256(data).hexdigest().encode())
sys.exit(said != want)
";

fn has_python() -> bool {
    let found = std::path::Path::new("/usr/bin/python3").exists();
    if !found {
        skip("/usr/bin/python3 is missing: apt-get install -y python3");
    }
    found
}

/// Starts a Python program in a container; it has said `ready`, and its further lines follow.
fn start_python(lab: &Lab, container: &str, program: &str) -> (Process, impl Iterator<Item = String>) {
    let mut command = lab.tapswitch(&["exec", container, "/usr/bin/python3", "-c", program]);
    command.stdout(Stdio::piped());
    let mut process = lab.start(command);
    let mut lines = BufReader::new(process.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("ready"));
    (process, lines)
}

/// Sends 20 MB from one container to another, which must arrive as they were.
fn transfer(lab: &Lab, from: &str, to: &str) {
    let (mut server, _lines) = start_python(lab, to, SERVER);
    let output = lab.words(&["exec", from, "/usr/bin/python3", "-c", CLIENT, to]);
    succeeded(&format!("{from} to {to}"), &output);
    assert_eq!(server.code(), Some(0));
}

fn bulk_arrives_whole(lab: &Lab) {
    if !has_python() {
        return;
    }
    lab.daemon("");
    lab.ok("network create net");
    for (name, flag) in [("big1", ""), ("big2", ""), ("plain1", "--no-offload"), ("plain2", "--no-offload")] {
        lab.ok(&format!("run -d {flag} --name {name} --network net"));
    }
    transfer(lab, "big1", "big2");
    let frames = count(lab, "big1", "rx_frames");
    assert!(frames < 5000 && count(lab, "big1", "rx_segments") > 13_000, "super-frames: {frames}");
    transfer(lab, "plain1", "plain2");
    let frames = count(lab, "plain1", "rx_frames");
    assert!(frames > 13_000, "plain frames: {frames}");
    assert_eq!(frames, count(lab, "plain1", "rx_segments"));
    transfer(lab, "big1", "plain2");
    transfer(lab, "plain1", "big2");
    lab.ok("down --all");
    lab.daemon("--no-offload");
    lab.ok("network create -o mtu=9000 net");
    lab.idle("one", "net");
    lab.idle("two", "net");
    transfer(lab, "one", "two");
    assert!(count(lab, "one", "rx_frames") > 20_000_000 / 9000);
}

fn datagrams_of_64_kib(lab: &Lab) {
    if !has_python() {
        return;
    }
    lab.daemon("");
    lab.ok("network create -o mtu=9000 net");
    lab.idle("alice", "net");
    lab.ok("run -d --no-offload --name bob --network net");
    let server = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 5000))\n\
                  print('ready', flush=True)\nb, a = s.recvfrom(65535); s.sendto(b[::-1], a)";
    for (from, to) in [("alice", "bob"), ("bob", "alice")] {
        let (mut echo, _lines) = start_python(lab, to, server);
        let client = "import os, socket, sys\n\
                      s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(10)\n\
                      b = os.urandom(65507); s.sendto(b, (sys.argv[1], 5000))\n\
                      sys.exit(s.recv(65535) != b[::-1])";
        succeeded("datagram", &lab.words(&["exec", from, "/usr/bin/python3", "-c", client, to]));
        assert_eq!(echo.code(), Some(0));
    }
}

fn ipv6_by_name(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create --subnet 10.1.0.0/24 --subnet fd00:1::/64 net");
    lab.idle("alice", "net");
    lab.idle("bob", "net");
    assert_eq!(lab.row("show ports", "port", "bob")["ip6"], "fd00:1::3");
    lab.inside("alice", "ping -6 -c1 -W1 bob");
    lab.inside("alice", "ping -4 -c1 -W1 bob");
    lab.inside("alice", "ping -6 -c1 -W1 -M do -s 1452 bob");
    let addresses = lab.inside("alice", "ip -6 -o addr show dev eth0");
    assert!(addresses.contains("fd00:1::2/64") && !addresses.contains("tentative"), "{addresses}");
}

fn a_network_without_ipv6_is_silent(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create net");
    lab.ok("network create --ipv6 six");
    lab.idle("alice", "net");
    lab.idle("bob", "net");
    // One that has IPv6 elsewhere keeps quiet here, too.
    lab.ok("run -d --name carol --network net --network six");
    let foreign = lab.foreign();
    lab.ok(&format!("plug box --network net --pid {}", foreign.pid()));
    assert!(!lab.inside("alice", "ip -6 -o addr").contains("fe80"));
    assert!(!lab.inside("carol", "ip -6 -o addr show dev eth0").contains("fe80"));
    assert!(lab.pings("alice", &lab.address("bob")));
    for port in ["carol:eth0", "box"] {
        assert_eq!(count(lab, port, "rx_frames"), 0, "{port}");
    }
    assert_eq!(count(lab, "alice", "rx_frames"), 2);
}

/// Without the kernel's VLAN interfaces, which not every machine has: as raw frames.
fn vlan_tags_pass(lab: &Lab) {
    if !has_python() {
        return;
    }
    lab.daemon("");
    lab.ok("network create net");
    lab.idle("alice", "net");
    lab.ok("run -d --no-offload --name bob --network net");
    // PACKET_AUXDATA tells of the tag that the kernel took off: status, lengths, offsets, TCI, TPID.
    let server = "
import socket, struct
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
s.bind(('eth0', 3))
s.setsockopt(263, 8, 1)
print('ready', flush=True)
while True:
    b, aux, _, _ = s.recvmsg(2000, 100)
    if b[12:14] != bytes.fromhex('88b5'): continue
    tci, tpid = struct.unpack('=IIIHHHH', aux[0][2])[5:]
    print('%04x %04x %d' % (tpid, tci, len(b)), flush=True)
    break
";
    let client = "
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(('eth0', 0))
s.send(bytes.fromhex('ffffffffffff' '020000000001' '8100' 'a005' '88b5') + bytes(46))
";
    for (from, to) in [("alice", "bob"), ("bob", "alice")] {
        let (mut listener, mut said) = start_python(lab, to, server);
        succeeded("send", &lab.words(&["exec", from, "/usr/bin/python3", "-c", client]));
        assert_eq!(said.next().unwrap(), "8100 a005 60", "to {to}: priority 5, VLAN 5, untagged length");
        assert_eq!(listener.code(), Some(0));
    }
}

fn traceroute_sees_one_hop(lab: &Lab) {
    if !["/usr/sbin/traceroute", "/usr/bin/traceroute"].iter().any(|path| std::path::Path::new(path).exists())
    {
        return skip("traceroute is missing: apt-get install -y traceroute");
    }
    lab.ok("up -d");
    let said = lab.inside("alice", "traceroute -n -w1 -q1 bob");
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(said.contains(" 1  172.19.0.3"), "{said}");
}

fn a_hundred_ports(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create --subnet 10.1.0.0/24 net");
    lab.idle("alice", "net");
    let foreign: Vec<Process> = (0..99).map(|_| lab.foreign()).collect();
    for (number, process) in foreign.iter().enumerate() {
        lab.ok(&format!("plug box{number} --network net --pid {}", process.pid()));
    }
    let rows = lab.json("show ports");
    assert_eq!(rows.len(), 100);
    assert!(rows.iter().all(|row| row["state"] == "up"));
    assert!(lab.pings("alice", &lab.address("box98")) && lab.pings("alice", &lab.address("box0")));
    assert_eq!(count(lab, "box50", "tx_frames"), 2, "both ARP requests, and nothing else");
    assert!(lab.inside("alice", "getent hosts box98").starts_with("10.1.0.101 "));
    drop(foreign);
    until("all to be gone", || lab.json("show ports").len() == 1);
    assert_eq!(lab.json("ps -a").len(), 1);
}
