//! `network …`: create, list, inspect, connect, disconnect, change while running, remove.

use crate::harness::{Lab, text, until};

scenarios! {
    networks_come_and_go
    what_makes_no_sense_is_refused
    pools_run_full
    connect_and_disconnect_while_it_runs
    the_mtu_changes_inside
    containers_can_be_kept_apart
    addresses_age
    ageing_zero_learns_nothing
}

fn networks_come_and_go(lab: &Lab) {
    lab.daemon("");
    let id = lab.ok("network create --subnet 172.20.0.0/16 --ip-range 172.20.5.0/24 --gateway 172.20.5.254 \
                     --aux-address printer=172.20.5.1 --label team=red -o icc=false -o mtu=1400 one");
    let id = id.trim_end();
    assert_eq!(id.len(), 64);
    lab.ok("network create --ipv6 two");
    let names: Vec<_> = lab.json("network ls").iter().map(|row| row["name"].clone()).collect();
    assert_eq!(names, ["bridge", "host", "none", "one", "two"]);
    assert!(lab.row("network ls", "name", "two")["subnet6"].as_str().unwrap().starts_with("fd"));
    assert_eq!(lab.ok("network ls -q").lines().nth(3), Some(&id[..12]));
    let inspected = lab.ok("network inspect one two");
    let inspected: Vec<serde_json::Value> = serde_json::from_str(&inspected).unwrap();
    assert_eq!((&inspected[0]["Name"], &inspected[1]["Name"]), (&"one".into(), &"two".into()));
    assert_eq!(inspected[0]["Labels"]["team"], "red");
    assert_eq!(inspected[0]["IPAM"]["Config"][0]["Gateway"], "172.20.5.254");
    assert_eq!(inspected[0]["Options"]["com.docker.network.driver.mtu"], "1400");
    lab.idle("box", "one");
    assert_eq!(
        lab.row("ps", "name", "box")["addresses"],
        "172.20.5.0",
        "the first of the range that is free"
    );
    assert_eq!(lab.row("network ls", "name", "one")["endpoints"], 1);
    assert!(lab.refused("network rm one").contains("box"));
    assert_eq!(lab.ok("network prune -f"), "Deleted Networks:\ntwo\n\n");
    lab.ok("stop box");
    assert_eq!(lab.ok(&format!("network rm {}", &id[..12])), "one\n");
    assert!(lab.refused("network rm bridge").contains("bridge is a pre-defined network"));
    assert_eq!(lab.json("network ls").len(), 3);
}

fn what_makes_no_sense_is_refused(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create --subnet 10.1.0.0/24 one");
    lab.idle("box", "one");
    let before = (lab.json("network ls"), lab.json("show ports"));
    let table = [
        ("network create one", "network with name one already exists"),
        ("network create --subnet 10.1.0.0/25 two", "10.1.0.0/24"),
        ("network create --subnet 10.0.0.0/8 two", "10.1.0.0/24"),
        ("network create -o colour=red two", "option 'colour' is not known"),
        ("network create -o mtu=67 two", "68 to 65521"),
        ("network create --subnet 10.2.0.0/24 --gateway 10.3.0.1 two", "10.3.0.1"),
        ("network create a/b", "a/b"),
        ("network rm moon", "network moon not found"),
        ("network inspect oen", "did you mean 'one'?"),
        ("network connect moon box", "network moon not found"),
        ("network connect one nobody", "No such container: nobody"),
        ("network connect one box", "already"),
        ("network disconnect bridge box", "not connected"),
        ("network set one -o mtu=big", "68 to 65521"),
        ("network set moon -o mtu=1500", "network moon not found"),
        ("fdb add one 01:00:5e:00:00:01 box", "01:00:5e:00:00:01"),
        ("fdb add one 02:00:00:00:00:01 moon", ": moon"),
        ("fdb add moon 02:00:00:00:00:01 box", "network moon not found"),
        ("port set moon down", "'moon'"),
    ];
    for (line, part) in table {
        let said = lab.refused(line);
        assert!(said.contains(part), "{line}: {said}");
    }
    for line in
        ["network create --driver moon two", "network create --subnet 10.1/8 two", "fdb add one 02 box"]
    {
        assert_eq!(lab.ts(line).status.code(), Some(2), "{line}");
    }
    let said = text(&lab.ts("run --network one --ip 10.1.0.2 true").stderr);
    assert!(said.contains("10.1.0.2"), "{said}");
    let said = text(&lab.ts("run --network one --ip 10.9.0.2 true").stderr);
    assert!(said.contains("10.9.0.2"), "{said}");
    assert_eq!((lab.json("network ls"), lab.json("show ports")), before);
}

fn pools_run_full(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create --subnet 10.1.0.0/30 tiny");
    lab.idle("one", "tiny");
    let output = lab.ts("run --network tiny true");
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output.stderr).contains("10.1.0.0/30"), "{}", text(&output.stderr));
    lab.ok("stop one");
    lab.idle("two", "tiny");
    assert_eq!(lab.row("ps", "name", "two")["addresses"], "10.1.0.2");
}

fn connect_and_disconnect_while_it_runs(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create --subnet 10.1.0.0/24 one");
    lab.ok("network create --subnet 10.2.0.0/24 --subnet fd00:2::/64 two");
    lab.idle("box", "one");
    lab.idle("peer", "two");
    assert!(!lab.pings("box", "peer"));
    lab.ok("network connect --ip 10.2.0.77 --alias crate two box");
    assert_eq!(lab.row("ps", "name", "box")["addresses"], "10.1.0.2,10.2.0.77,fd00:2::3");
    assert!(lab.inside("box", "ip -br addr show eth1").contains("10.2.0.77/24"));
    assert!(lab.pings("box", "peer") && lab.pings("peer", "crate"));
    assert!(lab.ts("exec box ping -6 -c1 -W1 peer").status.success(), "IPv6 comes with its first network");
    lab.ok("network disconnect one box");
    assert!(!lab.sh("box", "test -e /sys/class/net/eth0").status.success());
    assert_eq!(lab.row("show ports", "container", "box")["port"], "box", "alone, it needs no more name");
    assert!(lab.pings("peer", "box"));
    lab.ok("network connect one box");
    assert_eq!(lab.row("show ports", "network", "one")["port"], "box:eth2");
    lab.ok("stop box");
    // One that has ended is there when it runs again, and keeps its id.
    let id = lab.row("ps -a", "name", "box")["id"].clone();
    lab.ok("network disconnect one box");
    assert!(lab.refused("network disconnect one box").contains("is not connected to network one"));
    lab.ok("network create --subnet 10.3.0.0/24 three");
    lab.ok("network connect three box");
    assert_eq!(lab.row("ps -a", "name", "box")["networks"], "two,three");
    lab.ok("start box");
    assert_eq!((&lab.row("ps", "name", "box")["id"], lab.pings("peer", "box")), (&id, true));
    // One that cannot be started has ended as before.
    lab.ok("stop box");
    lab.ok("network rm three");
    assert!(lab.refused("start box").contains("network three not found"));
    lab.ok("network disconnect three box");
    assert_eq!(lab.ok("restart -t 0 box"), "box\n");
}

fn the_mtu_changes_inside(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create -o mtu=9000 jumbo");
    lab.idle("alice", "jumbo");
    lab.idle("bob", "jumbo");
    let mtu = || lab.inside("alice", "cat /sys/class/net/eth0/mtu");
    assert_eq!(mtu(), "9000\n");
    let ping = |size: u32| lab.ts(&format!("exec alice ping -c1 -W1 -M do -s {size} bob")).status.success();
    assert!(ping(8972) && !ping(8973));
    lab.ok("network set jumbo -o mtu=1400");
    assert_eq!(mtu(), "1400\n");
    assert!(ping(1372) && !ping(1373));
    // Somebody who raises the MTU of the interface by hand is dropped by the network.
    lab.inside("alice", "ip link set eth0 mtu 2000");
    assert!(!ping(1900));
    assert_eq!(lab.drops("alice", "oversize"), 1);
}

fn containers_can_be_kept_apart(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create -o icc=false net");
    lab.idle("alice", "net");
    lab.idle("bob", "net");
    assert!(!lab.pings("alice", &lab.address("bob")));
    assert!(lab.drops("alice", "icc") >= 1);
    let bob = lab.row("show ports", "port", "bob");
    assert_eq!((&bob["rx_frames"], &bob["tx_frames"]), (&1.into(), &1.into()), "ARP is answered");
    lab.ok("network set net -o icc=true");
    assert!(lab.pings("alice", "bob"));
    lab.ok("network set net -o com.docker.network.bridge.enable_icc=false");
    let before = lab.drops("alice", "icc");
    assert!(!lab.pings("alice", &lab.address("bob")));
    assert_eq!(lab.drops("alice", "icc"), before + 1, "the echo request");
    let daemon = lab.json("status")[0]["pid"].clone();
    lab.ok("down --all");
    lab.daemon("--icc=false");
    assert_ne!(lab.json("status")[0]["pid"], daemon);
    let inspected = lab.ok("network inspect -f {{.Options}} bridge");
    assert!(inspected.contains("enable_icc:false"), "{inspected}");
}

fn addresses_age(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create net");
    lab.idle("alice", "net");
    lab.idle("bob", "net");
    assert!(lab.pings("alice", "bob"));
    let rows = lab.json("show fdb");
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row["static"] == false && row["age"].as_u64().unwrap() < 60));
    lab.ok("network set net -o ageing=1");
    until("the end of an age", || lab.json("show fdb").is_empty());
    lab.ok("network set net -o ageing=300");
    assert!(lab.pings("alice", "bob"));
    assert_eq!(lab.json("show fdb").len(), 2);
}

fn ageing_zero_learns_nothing(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create -o ageing=0 hub");
    for name in ["alice", "bob", "carol"] {
        lab.idle(name, "hub");
    }
    assert!(lab.pings("alice", &lab.address("bob")));
    assert!(lab.json("show fdb").is_empty());
    let frames = lab.row("show ports", "port", "carol")["tx_frames"].as_u64().unwrap();
    assert_eq!(frames, 4, "both halves of ARP, and of the ping: everybody hears everything");
}
