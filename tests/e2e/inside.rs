//! What a container's own root can do to its interface, and what the switch's operator can do about it.

use crate::harness::{Lab, text, until};

scenarios! {
    taking_the_link_down
    renaming_the_interface
    changing_the_mac_address
    deleting_the_interface
    flooding_addresses_costs_only_oneself
    flooding_frames_is_limited
    frames_that_no_bridge_forwards
    static_addresses_do_not_move
    a_port_can_be_switched_off
}

/// Three containers on a network `net`, of which alice and bob know each other.
fn three(lab: &Lab, options: &str) {
    lab.daemon("");
    lab.ok(&format!("network create --subnet 10.1.0.0/24 {options} net"));
    for name in ["alice", "bob", "carol"] {
        lab.idle(name, "net");
    }
    assert!(lab.pings("alice", "bob"));
}

/// Sends raw frames from a container: a Python expression for a list of them.
fn send(lab: &Lab, container: &str, frames: &str) {
    let script = format!(
        "import os, socket\n\
         s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n\
         s.bind(('eth0', 0))\n\
         own = open('/sys/class/net/eth0/address').read().strip().replace(':', '')\n\
         def frame(to, source=own): return bytes.fromhex(to + source + '88b5') + bytes(46)\n\
         for f in {frames}: s.send(f)\n"
    );
    let output = lab.words(&["exec", container, "/usr/bin/python3", "-c", &script]);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

fn state(lab: &Lab, port: &str) -> String {
    lab.row("show ports", "port", port)["state"].as_str().unwrap().to_owned()
}

fn taking_the_link_down(lab: &Lab) {
    three(lab, "");
    lab.inside("bob", "ip link set eth0 down");
    assert!(!lab.pings("alice", "bob"));
    assert_eq!(state(lab, "bob"), "link-down");
    assert!(lab.drops("bob", "egress_down") >= 1);
    lab.inside("bob", "ip link set eth0 up");
    assert!(lab.pings("alice", "bob"));
    assert_eq!(state(lab, "bob"), "up");
}

fn renaming_the_interface(lab: &Lab) {
    three(lab, "");
    lab.inside("bob", "ip link set eth0 down; ip link set eth0 name lan; ip link set lan up");
    assert!(lab.pings("alice", "bob"));
    lab.ok("network set net -o mtu=1400");
    assert_eq!(lab.inside("bob", "cat /sys/class/net/lan/mtu"), "1400\n");
    lab.inside("bob", "ip link set lan down");
    assert_eq!(state(lab, "bob"), "link-down");
    lab.ok("network disconnect net bob");
    assert!(!lab.sh("bob", "test -e /sys/class/net/lan").status.success());
    lab.ok("network connect net bob");
    assert!(lab.pings("alice", "bob"));
}

fn changing_the_mac_address(lab: &Lab) {
    three(lab, "");
    lab.inside("bob", "ip link set eth0 address 02:00:00:00:00:0b; ping -c1 -W1 alice");
    let row = lab.row("show fdb", "mac", "02:00:00:00:00:0b");
    assert_eq!((&row["port"], &row["network"]), (&"bob".into(), &"net".into()));
    lab.inside("alice", "ip neigh flush all");
    assert!(lab.pings("alice", "bob"));
    // Two with one address: it moves to whoever spoke last.
    lab.inside("carol", "ip link set eth0 address 02:00:00:00:00:0b; ping -c1 -W1 alice");
    assert_eq!(lab.row("show fdb", "mac", "02:00:00:00:00:0b")["port"], "carol");
}

fn deleting_the_interface(lab: &Lab) {
    three(lab, "");
    lab.inside("bob", "ip link del eth0");
    until("the loss to be seen", || state(lab, "bob") == "lost");
    assert!(!lab.pings("alice", "bob"));
    assert!(lab.drops("bob", "egress_lost") >= 1);
    assert!(lab.pings("alice", "carol"), "it costs nobody else anything");
    assert_eq!(lab.row("ps", "name", "bob")["state"], "running");
    lab.ok("network disconnect net bob");
    lab.ok("network connect net bob");
    lab.inside("alice", "ip neigh flush all");
    assert!(lab.pings("alice", "bob"));
    assert_eq!(state(lab, "bob"), "up");
}

fn flooding_addresses_costs_only_oneself(lab: &Lab) {
    three(lab, "-o fdb_limit=20 -o fdb_port_limit=10");
    send(lab, "carol", "[frame('020000000001', '02' + os.urandom(5).hex()) for i in range(500)]");
    let rows = lab.json("show fdb");
    let at = |port: &str| rows.iter().filter(|row| row["port"] == port).count();
    assert_eq!((at("alice"), at("bob"), at("carol")), (1, 1, 10));
    assert!(lab.pings("alice", "bob") && lab.pings("alice", "carol"));
}

fn flooding_frames_is_limited(lab: &Lab) {
    three(lab, "-o flood_limit=10");
    send(lab, "carol", "[frame('ffffffffffff')] * 200");
    assert!(lab.drops("carol", "flood_limit") >= 150);
    assert!(lab.pings("alice", "bob"));
}

fn frames_that_no_bridge_forwards(lab: &Lab) {
    three(lab, "");
    let before = lab.row("show ports", "port", "bob")["tx_frames"].clone();
    send(
        lab,
        "carol",
        "[frame('0180c2000000'), frame('0180c200000f'), frame('ffffffffffff', '010000000001')]",
    );
    assert_eq!((lab.drops("carol", "link_local"), lab.drops("carol", "bad_source")), (2, 1));
    assert_eq!(lab.row("show ports", "port", "carol")["drops"], 3);
    let bob = lab.row("show ports", "port", "bob");
    assert_eq!((&bob["tx_frames"], &bob["drops"]), (&before, &0.into()));
    let row = lab.row("show drops", "reason", "link_local");
    assert!(row["sentence"].as_str().unwrap().contains("01:80:c2:00:00:00"));
    assert!(lab.ok("show drops").contains("link_local"));
}

fn static_addresses_do_not_move(lab: &Lab) {
    three(lab, "");
    lab.ok("fdb add net 02:00:00:00:00:99 bob");
    let row = lab.row("show fdb", "mac", "02:00:00:00:00:99");
    assert_eq!((&row["static"], &row["age"], &row["container"]), (&true.into(), &().into(), &"bob".into()));
    send(lab, "carol", "[frame('ffffffffffff', '020000000099')]");
    assert_eq!(lab.row("show fdb", "mac", "02:00:00:00:00:99")["port"], "bob");
    let seen = |name: &str| lab.row("show ports", "port", name)["tx_frames"].as_u64().unwrap();
    let before = (seen("bob"), seen("carol"));
    send(lab, "alice", "[frame('020000000099')]");
    assert_eq!((seen("bob"), seen("carol")), (before.0 + 1, before.1));
    lab.ok("fdb del net 02:00:00:00:00:99");
    send(lab, "alice", "[frame('020000000099')]");
    assert_eq!((seen("bob"), seen("carol")), (before.0 + 2, before.1 + 1), "unknown, it is flooded");
    assert_eq!(lab.ts("fdb del net 02:00:00:00:00:99").status.code(), Some(1));
}

fn a_port_can_be_switched_off(lab: &Lab) {
    three(lab, "");
    lab.ok("port set bob down");
    assert_eq!(state(lab, "bob"), "down");
    assert!(!lab.pings("alice", "10.1.0.3"));
    assert!(!lab.pings("bob", "10.1.0.2"));
    assert_eq!((lab.drops("bob", "port_down"), lab.drops("net:net", "port_down")), (1, 1));
    assert!(lab.json("show fdb").iter().all(|row| row["container"] != "bob"), "nobody is behind it now");
    lab.ok("fdb add net 02:00:00:00:00:99 bob");
    send(lab, "alice", "[frame('020000000099')]");
    assert_eq!(lab.drops("alice", "egress_down"), 1);
    let alias = lab.row("show ports", "port", "bob")["alias"].as_str().unwrap().to_owned();
    lab.ok(&format!("port set {alias} up"));
    assert!(lab.pings("alice", "10.1.0.3"));
}
