//! Names: whom containers ask, what they are told, and the files of the host and the daemon behind it.

use std::fs;

use crate::harness::{Lab, text, until};

scenarios! {
    containers_ask_their_gateway_about_each_other
    the_hosts_resolv_conf_is_followed
    name_servers_of_ones_own
    a_plugged_namespace_is_told_whom_to_ask
    daemon_json_takes_effect
    daemon_json_with_mistakes_is_refused
}

/// Whom a container asks, by its file.
fn servers(lab: &Lab, container: &str) -> String {
    let file = lab.inside(container, "cat /etc/resolv.conf");
    file.lines().filter_map(|line| line.strip_prefix("nameserver ")).collect::<Vec<_>>().join(" ")
}

/// What name servers say of a name, if anything; /etc/hosts is not asked.
fn asks(lab: &Lab, container: &str, name: &str) -> String {
    text(&lab.sh(container, &format!("getent -s dns ahosts {name}")).stdout)
}

fn containers_ask_their_gateway_about_each_other(lab: &Lab) {
    lab.daemon("--uplink none");
    lab.ok("network create --subnet 10.1.0.0/24 --subnet fd00:1::/64 net1");
    lab.ok("network create --subnet 10.2.0.0/24 net2");
    lab.idle("alice", "net1");
    lab.ok("run -d --name bob --network net1:alias=Database --hostname store");
    lab.idle("carol", "net2");
    for name in ["bob", "BOB", "database", "store", "bob.net1"] {
        let answer = asks(lab, "alice", name);
        assert!(answer.contains("10.1.0.3 ") && answer.contains("fd00:1::3 "), "{name}: {answer}");
    }
    for address in ["10.1.0.3", "fd00:1::3"] {
        let called = lab.inside("alice", &format!("getent -s dns hosts {address}"));
        assert_eq!(called.split_whitespace().last(), Some("bob.net1"), "{called}");
    }
    assert_eq!(asks(lab, "alice", "carol"), "", "no name crosses");
    lab.ok("network connect --alias singer net2 alice");
    assert!(asks(lab, "alice", "carol").contains("10.2.0.2 "), "the same gateway knows, for alice");
    assert_eq!(asks(lab, "bob", "carol"), "");
    assert!(asks(lab, "carol", "singer").contains("10.2.0.3 "));
    lab.ok("stop -t 1 bob");
    assert_eq!(asks(lab, "alice", "bob"), "", "names go with the container");
    let rows = lab.json("show dns");
    let named = |name: &str, kind: &str| {
        rows.iter().any(|row| row["kind"] == "name" && row["name"] == name && row["type"] == kind)
    };
    assert!(named("alice", "A") && named("alice.net1", "PTR") && !named("bob", "A"), "{rows:?}");
    let net1 = rows.iter().find(|row| row["kind"] == "network" && row["network"] == "net1").unwrap();
    assert!(net1["local"].as_u64() >= Some(10), "{net1}");
    assert!(lab.ok("show dns").contains("QUESTIONS FROM"));
}

fn the_hosts_resolv_conf_is_followed(lab: &Lab) {
    let file = lab.path().join("resolv.conf");
    fs::write(&file, "nameserver 127.0.0.53\nsearch one.example\n").unwrap();
    lab.daemon(&format!("--uplink none --bip 10.8.0.1/24 --resolv-conf {}", file.display()));
    lab.ok("network create --subnet 10.1.0.0/24 net1");
    lab.idle("alone", "bridge");
    lab.idle("alice", "net1");
    assert_eq!(servers(lab, "alone"), "10.8.0.1", "its gateway asks the host's loopback");
    let upstreams = || {
        let rows = lab.json("show dns");
        let servers = rows.iter().filter(|row| row["kind"] == "upstream");
        servers.map(|row| format!("{} {}", row["server"], row["asked_by"])).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(upstreams(), "\"127.0.0.53:53\" \"net:bridge,net:net1\"");
    fs::write(&file, "nameserver 192.0.2.1\nnameserver 192.0.2.2\n").unwrap();
    until("the file that was written", || servers(lab, "alone") == "192.0.2.1 192.0.2.2");
    assert_eq!(upstreams(), "\"192.0.2.1:53\" \"net:net1\", \"192.0.2.2:53\" \"net:net1\"");
    fs::write(lab.path().join("new"), "nameserver 192.0.2.3\noptions ndots:3\n").unwrap();
    fs::rename(lab.path().join("new"), &file).unwrap();
    until("the file in its place", || servers(lab, "alone") == "192.0.2.3");
    assert_eq!(lab.inside("alice", "cat /etc/resolv.conf"), "nameserver 10.1.0.1\noptions ndots:3\n");
    lab.ok("network connect net1 alone");
    assert_eq!(servers(lab, "alone"), "10.1.0.1");
    lab.ok("network disconnect net1 alone");
    assert_eq!(servers(lab, "alone"), "192.0.2.3");
    fs::remove_file(&file).unwrap();
    until("the file's end", || servers(lab, "alone") == "10.8.0.1");
}

fn name_servers_of_ones_own(lab: &Lab) {
    lab.daemon("--uplink none --dns 192.0.2.1");
    lab.ok("network create --dns 192.0.2.2 --dns 192.0.2.3 net1");
    lab.idle("one", "bridge");
    lab.ok("run -d --name two --dns 192.0.2.4");
    lab.ok("run -d --name three --network net1 --dns 192.0.2.4");
    assert_eq!((servers(lab, "one").as_str(), servers(lab, "two").as_str()), ("192.0.2.1", "192.0.2.4"));
    let asked_by = |server: &str| {
        let rows = lab.json("show dns");
        rows.iter()
            .find(|row| row["server"] == server)
            .map(|row| row["asked_by"].as_str().unwrap().to_owned())
    };
    assert_eq!(asked_by("192.0.2.3:53").as_deref(), Some("net:net1"));
    assert_eq!(asked_by("192.0.2.4:53").as_deref(), Some("three"));
    lab.ok("network set net1 -o dns=192.0.2.5");
    assert_eq!((asked_by("192.0.2.3:53"), asked_by("192.0.2.5:53").as_deref()), (None, Some("net:net1")));
    lab.ok("network set bridge -o dns=192.0.2.6");
    assert_eq!(servers(lab, "one"), "192.0.2.6");
    lab.ok("network set bridge -o dns=");
    assert_eq!(servers(lab, "one"), "192.0.2.1");
    let file = lab.path().join("named.toml");
    let toml = "[network.net2]\ndns = [\"192.0.2.7\"]\n[container.four]\nnetworks = [\"net2\"]\ndns = \"192.0.2.8\"\n";
    fs::write(&file, toml).unwrap();
    lab.ok(&format!("up -d {}", file.display()));
    assert_eq!(asked_by("192.0.2.7:53").as_deref(), Some("net:net2"));
    assert_eq!(asked_by("192.0.2.8:53").as_deref(), Some("four"));
    assert_eq!(lab.ok("inspect -f {{.HostConfig.Dns}} four").trim(), "[192.0.2.8]");
    lab.ok("down named");
}

fn a_plugged_namespace_is_told_whom_to_ask(lab: &Lab) {
    lab.daemon("--uplink none");
    lab.ok("network create --subnet 10.1.0.0/24 net1");
    let foreign = lab.foreign();
    let said = lab.ok(&format!("plug box --network net1 --pid {}", foreign.pid()));
    assert!(said.contains("for /etc/resolv.conf inside:\nnameserver 10.1.0.1\n"), "{said}");
    lab.idle("alice", "net1");
    assert!(asks(lab, "alice", "box").contains("10.1.0.2 "));
    lab.ok("unplug box");
    assert_eq!(asks(lab, "alice", "box"), "");
}

fn daemon_json_takes_effect(lab: &Lab) {
    let file = lab.path().join("daemon.json");
    let json = r#"{
        "bip": "10.8.0.1/24", "mtu": 1400, "icc": false, "ip-masq": false, "ip-forward": false, "iptables": true,
        "dns": ["192.0.2.1"], "dns-search": ["corp.example"], "dns-opts": ["timeout:1"],
        "default-address-pools": [{"base": "10.10.0.0/16", "size": 24}]
    }"#;
    fs::write(&file, json).unwrap();
    let shown = file.display();
    let said = lab.refused(&format!("daemon -d --config {shown} --icc=true --mtu 1300"));
    assert!(
        said.contains("specified both as a flag and in the configuration file: icc: (from flag: true, from file: false), mtu"),
        "{said}"
    );
    lab.daemon(&format!("--uplink none --config {shown}"));
    lab.idle("alice", "bridge");
    lab.idle("bob", "bridge");
    let expected = "nameserver 192.0.2.1\nsearch corp.example\noptions timeout:1\n";
    assert_eq!(lab.inside("alice", "cat /etc/resolv.conf"), expected);
    let inside = lab.inside("alice", "cat /sys/class/net/eth0/mtu; ip -br -4 addr show eth0; ip route");
    assert!(inside.starts_with("1400\n"), "{inside}");
    assert!(inside.contains("10.8.0.2/24") && inside.contains("default via 10.8.0.1"), "{inside}");
    assert!(!lab.pings("alice", "bob"), "icc");
    assert!(lab.ok("sysctl net.ipv4.ip_forward").contains("= 0"));
    lab.ok("network create net1");
    assert!(lab.ok("network inspect -f {{.IPAM.Config}} net1").contains("10.10.0.0/24"));
    assert!(!lab.ok("show rules").contains("MASQUERADE"));
}

fn daemon_json_with_mistakes_is_refused(lab: &Lab) {
    let file = lab.path().join("daemon.json");
    let shown = file.display().to_string();
    fs::write(&file, "{\n  \"ip-mask\": true,\n  \"mtu\": \"large\"\n}\n").unwrap();
    for how in ["", "-d"] {
        let output = lab.ts(&format!("daemon {how} --config {shown}"));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        for part in [
            "key 'ip-mask' is not known: the keys are bip,",
            "did you mean 'ip-masq'?",
            "key 'mtu' cannot be \"large\": it takes 68 to 65521 bytes",
            &format!("{shown}:3:10"),
        ] {
            assert!(said.contains(part), "{part} in {said}");
        }
    }
    let gone = lab.refused(&format!("daemon --config {shown}x"));
    assert!(gone.contains(&format!("cannot read {shown}x")), "{gone}");
}
