//! The host's port on a network: it reaches containers at their addresses.

use std::process::Output;

use crate::harness::{Lab, Process, skip, succeeded, text, until};
use crate::world::{Place, WHO, seen_from};

scenarios! {
    the_host_reaches_containers
    a_host_port_takes_privilege
}

/// A network namespace that is the host's to our daemon.
struct Host(Process);

impl Host {
    fn new(lab: &Lab) -> Self {
        let process = lab.start(lab.command(&["unshare", "-n", "sleep", "1000"]));
        until("a network namespace", || {
            std::fs::read_to_string(format!("/proc/{}/comm", process.pid())).is_ok_and(|it| it == "sleep\n")
        });
        let host = Self(process);
        succeeded("daemon", &host.does(lab, "daemon -d"));
        host
    }

    fn place(&self) -> Place<'static> {
        Place::At(self.0.pid())
    }

    /// A command of ours on the host.
    fn does(&self, lab: &Lab, line: &str) -> Output {
        let program = lab.program();
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        lab.at(self.place(), &[&[program.to_str().unwrap()], &words[..]].concat()).output().unwrap()
    }

    fn ok(&self, lab: &Lab, line: &str) {
        succeeded(line, &self.does(lab, line));
    }

    fn refused(&self, lab: &Lab, line: &str) -> String {
        let output = self.does(lab, line);
        assert_eq!(output.status.code(), Some(1), "{line}");
        text(&output.stderr)
    }
}

fn the_host_reaches_containers(lab: &Lab) {
    if !lab.is_root() {
        skip("a host port takes CAP_NET_ADMIN on the host");
        return;
    }
    let host = Host::new(lab);
    let here = host.place();
    assert!(lab.ok("status").contains("confinement capabilities "));
    let has = |ifname: &str| lab.does(here, &format!("ip link show {ifname}")).status.success();
    let subnets = "--subnet 10.1.0.0/24 --subnet fd00:1::/64";
    host.ok(lab, &format!("network create {subnets} -o host_port=true -o bridge_name=br7 net1"));
    let shown = lab.succeeds(here, "ip addr show br7");
    for part in ["inet 10.1.0.254/24", "inet6 fd00:1::2/64", ",UP", "02:42:0a:01:00:fe"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.lines().any(|line| line.contains("fd00:") && line.contains("tentative")), "{shown}");
    assert_eq!(lab.succeeds(here, "ip route show default; ip -6 route show default"), "");
    // A container could give the host a default route by a router advertisement.
    assert_eq!(lab.succeeds(here, "cat /proc/sys/net/ipv6/conf/br7/accept_ra"), "0\n");
    lab.idle("alice", "net1");
    for (address, own) in [("10.1.0.2", "10.1.0.254"), ("fd00:1::3", "fd00:1::2")] {
        let _server = lab.serves("alice", WHO, &[address, "80"]);
        for proto in ["tcp", "udp"] {
            assert_eq!(seen_from(lab, here, proto, (address, 80)), own, "{proto}");
        }
        assert!(lab.pings("alice", own));
    }
    // Live, off and on; others' addresses and ports stay.
    host.ok(lab, "network set net1 -o host_port=false");
    assert!(!has("br7") && !lab.pings("alice", "10.1.0.254"));
    host.ok(lab, "network set net1 -o host_port=true");
    assert!(has("br7") && lab.pings("alice", "10.1.0.254"));
    // Whoever deletes it can have another.
    lab.succeeds(here, "ip link del br7");
    until("its loss to be seen", || !lab.ok("show ports").contains("host-net1"));
    host.ok(lab, "network set net1 -o host_port=true");
    assert!(lab.pings("alice", "fd00:1::2"));
    // A name that the host has, and a refusal leaves nothing behind.
    lab.succeeds(here, "ip link add docker0 type veth peer name far0");
    let refused = host.refused(lab, "network set bridge -o host_port=true");
    assert!(refused.contains("interface 'docker0' already"), "{refused}");
    let refused = host.refused(lab, "network create -o host_port=true -o mtu=1 net2");
    assert!(refused.contains("option 'mtu'"), "{refused}");
    let links = lab.succeeds(here, "ip -br link | awk '{ print $1 }' | cut -d@ -f1 | sort | tr '\\n' ' '");
    assert_eq!(links, "br7 docker0 far0 lo ");
    lab.ok("rm -f alice");
    host.ok(lab, "network rm net1");
    assert!(!has("br7"));
    // As a lab has it, which takes it down again.
    std::fs::write(
        lab.path().join("box.toml"),
        "[network.net3]\noptions = { host_port = \"true\", bridge_name = \"br8\" }\n",
    )
    .unwrap();
    let lab_file = lab.path().join("box.toml");
    host.ok(lab, &format!("up -d {}", lab_file.display()));
    assert!(has("br8"));
    host.ok(lab, "down box");
    assert!(!has("br8"));
}

fn a_host_port_takes_privilege(lab: &Lab) {
    if lab.is_root() {
        return;
    }
    lab.daemon("");
    let refused = lab.refused("network create -o host_port=true net1");
    assert!(refused.contains("CAP_NET_ADMIN") && refused.contains("'tapswitch proxy net1'"), "{refused}");
    assert!(lab.json("network ls").iter().all(|row| row["name"] != "net1"));
    lab.ok("network create net1");
    let refused = lab.refused("network set net1 -o host_port=true");
    assert!(refused.contains("CAP_NET_ADMIN"), "{refused}");
    assert!(!lab.ok("network inspect net1").contains("host_port"));
    assert!(!lab.ok("show ports").contains("host-net1"));
}
