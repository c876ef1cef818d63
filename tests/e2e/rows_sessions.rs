//! Rows of the acceptance list that are behaviours of a session: what a container sees, who reaches whom, names,
//! and what can be watched. A test has its row's number.

use std::fs;

use crate::harness::{Lab, skip, succeeded, text, until};
use crate::world::{FAR4, Outside, Place};

scenarios! {
    row_08_a_container_has_a_stack_of_its_own
    row_11_everything_can_be_watched_at_its_port
    row_12_who_answers_pings_and_with_which_ttl
    row_13_networks_are_isolated_in_silence
    row_14_names_stay_when_addresses_change
    row_15_the_hosts_resolver_reaches_containers
    row_20_icc_and_iptables_are_flags
    row_22_forwarding_is_a_switch_of_ours
    row_26_a_router_container
    row_27_containers_on_the_lans_bridge
    row_28_the_topology_is_drawn
}

/// What a line prints in the shell, which must succeed.
#[track_caller]
fn prints(lab: &Lab, line: &str) -> String {
    succeeded(line, &lab.types(line))
}

/// Shells with a terminal do not care for SIGTERM: waiting for that would take seconds.
const END: &str = "docker rm -f $(docker ps -aq)";

/// What a script prints in a container, however it ends.
fn says(lab: &Lab, container: &str, script: &str) -> String {
    lab.says(Place::In(container), script)
}

/// `one` and `two` on network bridge, `three` and `four` on one of the user's.
fn four(lab: &Lab) {
    prints(lab, "docker network create --driver bridge --subnet 172.25.0.0/16 isolated_nw");
    for (name, network) in
        [("one", "bridge"), ("two", "bridge"), ("three", "isolated_nw"), ("four", "isolated_nw")]
    {
        prints(lab, &format!("docker run -itd --name={name} --network={network} busybox"));
    }
}

fn row_08_a_container_has_a_stack_of_its_own(lab: &Lab) {
    lab.docker0();
    prints(lab, "docker run -itd --name one ubuntu");
    let links = prints(lab, "docker exec one ip -br link");
    let names: Vec<&str> = links.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["lo", "eth0"], "nothing of the host's");
    let shown = prints(lab, "docker exec one ifconfig eth0");
    assert!(shown.starts_with("eth0: flags=4163<UP,BROADCAST,RUNNING,MULTICAST>  mtu 1500\n"), "{shown}");
    assert!(
        shown.contains("inet 172.17.0.2  netmask 255.255.0.0") && shown.contains("ether 02:42:ac:11:00:02"),
        "{shown}"
    );
    let routes =
        "default via 172.17.0.1 dev eth0 \n172.17.0.0/16 dev eth0 proto kernel scope link src 172.17.0.2 \n";
    assert_eq!(prints(lab, "docker exec one ip route"), routes);
    assert_eq!(
        prints(lab, "docker exec one cat /etc/hosts").lines().last().unwrap().split_whitespace().next(),
        Some("172.17.0.2")
    );
    prints(lab, END);
}

/// What a capture shows of pings, while a script runs in the shell.
fn watched(lab: &Lab, watch: &str, script: &str) -> Vec<String> {
    let place = lab.path().display();
    let line = format!(
        "cd {place}; {watch} -n -l -c 2 icmp >frames 2>said & \
         until grep -q listening said 2>/dev/null; do sleep 0.05; done; {{ {script}; }} >/dev/null; wait $!; cat frames; \
         rm frames said"
    );
    let frame = |line: &str| {
        line.split_once(" IP ").map_or(line, |(_, rest)| rest).split(',').next().unwrap().to_owned()
    };
    prints(lab, &line).lines().map(frame).collect()
}

fn row_11_everything_can_be_watched_at_its_port(lab: &Lab) {
    lab.docker0();
    for name in ["one", "two", "three"] {
        prints(lab, &format!("docker run -itd --name {name} ubuntu"));
    }
    let alias = lab.row("show ports", "container", "one")["alias"].as_str().unwrap().to_owned();
    let others = "docker exec three ping -c 1 172.17.0.3";
    let between = ["172.17.0.4 > 172.17.0.3: ICMP echo request", "172.17.0.3 > 172.17.0.4: ICMP echo reply"];
    assert_eq!(watched(lab, "sudo tcpdump -i docker0", others), between, "the bridge shows all traffic");
    // On one's port is nothing of that, and so the first that is seen is what one does after it.
    let own = ["172.17.0.2 > 172.17.0.3: ICMP echo request", "172.17.0.3 > 172.17.0.2: ICMP echo reply"];
    let both = format!("{others}; docker exec one ping -c 1 172.17.0.3");
    assert_eq!(watched(lab, &format!("sudo tcpdump -i {alias}"), &both), own);
    assert_eq!(watched(lab, "tapswitch capture -i one", &both), own);
    // A router shows a packet at the one interface and at the other.
    prints(lab, "docker network create net2 --subnet=172.20.0.0/16");
    prints(lab, "docker network connect net2 two; docker run -dit --name far --net=net2 ubuntu");
    prints(lab, "docker exec one ip route add 172.20.0.0/16 via 172.17.0.3");
    prints(lab, "docker exec far ip route add 172.17.0.0/16 via 172.20.0.2");
    for interface in ["eth0", "eth1"] {
        let routed =
            ["172.17.0.2 > 172.20.0.3: ICMP echo request", "172.20.0.3 > 172.17.0.2: ICMP echo reply"];
        let ping = "docker exec one ping -c 1 172.20.0.3";
        assert_eq!(watched(lab, &format!("tcpdump -i two:{interface}"), ping), routed, "{interface}");
    }
    prints(lab, END);
}

fn row_12_who_answers_pings_and_with_which_ttl(lab: &Lab) {
    lab.docker0();
    let _outside = Outside::behind(lab, "");
    four(lab);
    for (from, to, ttl) in [
        ("one", "172.17.0.1", 64),
        ("one", "172.17.0.3", 64),
        ("three", "172.25.0.1", 64),
        ("three", "four", 64),
        ("one", FAR4, 63),
        ("three", FAR4, 63),
    ] {
        let said = prints(lab, &format!("docker exec {from} ping -c 3 -i 0.2 {to}"));
        assert_eq!(said.matches(&format!("ttl={ttl} ")).count(), 3, "{from} to {to}: {said}");
        assert!(said.contains("3 packets transmitted, 3 received, 0% packet loss"), "{said}");
    }
    prints(lab, END);
}

fn row_13_networks_are_isolated_in_silence(lab: &Lab) {
    lab.docker0();
    four(lab);
    for (from, to, gateway) in [("one", "172.25.0.2", "172.17.0.1"), ("three", "172.17.0.2", "172.25.0.1")] {
        let said = says(lab, from, &format!("ping -c 2 -i 0.2 -W 1 {to}"));
        assert!(said.contains("2 packets transmitted, 0 received, 100% packet loss"), "{said}");
        assert!(!said.contains("From"), "nobody says so: {said}");
        let hops = says(lab, from, &format!("traceroute -n -q 1 -w 1 -m 3 {to}"));
        let hops: Vec<&str> =
            hops.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
        assert_eq!(hops, [gateway, "*", "*"], "{from} to {to}");
        assert!(lab.drops(from, "isolated") >= 4);
    }
    assert!(prints(lab, "docker exec three ping -c 1 172.25.0.3").contains("ttl=64"));
    prints(lab, END);
}

fn row_14_names_stay_when_addresses_change(lab: &Lab) {
    lab.docker0();
    four(lab);
    let address = |name: &str| {
        prints(lab, &format!("docker exec three getent hosts {name}")).split(' ').next().unwrap().to_owned()
    };
    assert_eq!(address("four"), "172.25.0.3");
    assert!(!lab.types("docker exec one getent hosts two").status.success(), "not on network bridge");
    // Made once more, and somebody else has taken the address.
    prints(lab, "docker rm -f four; docker run -itd --name five --network isolated_nw busybox");
    prints(lab, "docker run -itd --name four --network isolated_nw busybox");
    assert_eq!((address("five").as_str(), address("four").as_str()), ("172.25.0.3", "172.25.0.4"));
    assert!(prints(lab, "docker exec three ping -c 1 four").contains("from four.isolated_nw (172.25.0.4)"));
    // Connected to the user's network, one of network bridge has a name there.
    prints(lab, "docker network connect isolated_nw one");
    assert_eq!(address("one"), "172.25.0.5");
    assert!(prints(lab, "docker exec one getent hosts four").starts_with("172.25.0.4"));
    prints(lab, END);
}

fn row_15_the_hosts_resolver_reaches_containers(lab: &Lab) {
    let file = lab.path().join("resolv.conf");
    fs::write(&file, "nameserver 192.0.2.1\n").unwrap();
    lab.daemon(&format!("--resolv-conf {}", file.display()));
    assert_eq!(prints(lab, "docker run --rm ubuntu cat /etc/resolv.conf"), "nameserver 192.0.2.1\n");
    prints(lab, "docker run -itd --name one ubuntu");
    fs::write(&file, "nameserver 192.0.2.2\n").unwrap();
    until("the new name server inside", || {
        prints(lab, "docker exec one cat /etc/resolv.conf") == "nameserver 192.0.2.2\n"
    });
    prints(lab, "docker rm -f one");
    lab.ok("down --all");
    // For all containers, by the daemon's file.
    let config = lab.path().join("daemon.json");
    fs::write(&config, "{ \"dns\": [\"168.95.1.1\", \"8.8.8.8\"] }").unwrap();
    lab.daemon(&format!("--config {}", config.display()));
    let both = "nameserver 168.95.1.1\nnameserver 8.8.8.8\n";
    assert_eq!(prints(lab, "docker run --rm ubuntu cat /etc/resolv.conf"), both);
}

fn row_20_icc_and_iptables_are_flags(lab: &Lab) {
    for (options, reaches, rules) in [
        ("--icc=true", true, "ACCEPT     all  --  docker0 docker0"),
        ("--icc=false", false, "DROP       all  --  docker0 docker0"),
        ("--icc=false --iptables=false", true, ""),
    ] {
        let start = format!(
            "DOCKER_OPTS='{options}'; exec {} daemon -d --bip 172.17.0.1/16 $DOCKER_OPTS",
            lab.program().display()
        );
        succeeded(&start, &lab.command(&["sh", "-c", &start]).output().unwrap());
        prints(lab, "docker run -d --name one; docker run -d --name two");
        assert_eq!(lab.pings("one", "172.17.0.3"), reaches, "{options}");
        let listed = prints(lab, "sudo iptables -L -v -n; sudo iptables -t nat -L -v -n");
        if rules.is_empty() {
            let is_rule =
                |line: &&str| !line.is_empty() && !line.starts_with("Chain ") && !line.starts_with(" pkts");
            assert_eq!(listed.lines().filter(is_rule).count(), 0, "no rules at all: {listed}");
            assert!(!listed.contains("DOCKER"), "{listed}");
        } else {
            assert_eq!(listed.matches(rules).count(), 1, "{options}: {listed}");
        }
        lab.ok("down --all");
    }
}

fn row_22_forwarding_is_a_switch_of_ours(lab: &Lab) {
    lab.docker0();
    let outside = Outside::behind(lab, "");
    prints(lab, "docker run -itd --name one --privileged ubuntu");
    let own = fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    assert_eq!(prints(lab, "sysctl net.ipv4.ip_forward"), "net.ipv4.ip_forward = 1\n");
    assert!(lab.pings("one", FAR4));
    prints(lab, "sudo sysctl -w net.ipv4.conf.all.forwarding=0");
    assert_eq!(prints(lab, "sysctl -n net.ipv4.ip_forward"), "0\n");
    assert!(!lab.pings("one", FAR4), "no way out");
    assert!(lab.pings("one", "172.17.0.1"), "but to the gateway");
    prints(lab, "sudo sysctl -w net.ipv4.ip_forward=1");
    assert!(lab.pings("one", FAR4));
    // Neither this machine's nor a container's setting has to do with it.
    assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap(), own);
    let inside = "docker exec one cat /proc/sys/net/ipv4/conf/all/forwarding";
    assert_eq!(prints(lab, inside), "1\n");
    prints(lab, "docker exec one sysctl -w net.ipv4.ip_forward=0");
    assert_eq!((prints(lab, inside).as_str(), lab.pings("one", FAR4)), ("0\n", true));
    prints(lab, "docker rm -f one");
    drop(outside);
    lab.ok("down --all");
    for (flag, value) in [("true", "1\n"), ("false", "0\n")] {
        lab.daemon(&format!("--ip-forward={flag}"));
        assert_eq!(prints(lab, "sysctl -n net.ipv4.ip_forward"), value);
        lab.ok("down --all");
    }
}

/// `centos-net1`, `centos-net2`, and `centos-router` between them.
fn router(lab: &Lab) {
    prints(lab, "docker network create net1 --subnet=172.19.0.0/16");
    prints(lab, "docker network create net2 --subnet=172.20.0.0/16");
    for (name, network) in [("centos-net1", "net1"), ("centos-router", "net1"), ("centos-net2", "net2")] {
        prints(lab, &format!("docker run -dit --name {name} --privileged --net={network} centos /bin/bash"));
    }
    prints(lab, "docker network connect net2 centos-router");
}

fn row_26_a_router_container(lab: &Lab) {
    lab.docker0();
    router(lab);
    let there = "docker exec centos-net1 ping -c 2 -i 0.2 -W 1 172.20.0.2";
    assert!(text(&lab.types(there).stdout).contains("100% packet loss"));
    prints(lab, "docker exec centos-net1 route add -net 172.20.0.0 netmask 255.255.0.0 gw 172.19.0.3 eth0");
    prints(lab, "docker exec centos-net2 route add -net 172.19.0.0 netmask 255.255.0.0 gw 172.20.0.3 eth0");
    assert_eq!(prints(lab, there).matches("ttl=63 ").count(), 2);
    let routes = prints(lab, "docker exec centos-router route -n");
    assert!(
        routes.contains("172.20.0.0      0.0.0.0         255.255.0.0     U     0      0        0 eth1\n"),
        "{routes}"
    );
    let hops = prints(lab, "docker exec centos-net1 traceroute -n -q 1 172.20.0.2");
    let hops: Vec<&str> = hops.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(hops, ["172.19.0.3", "172.20.0.2"]);
    let died = says(lab, "centos-net1", "ping -c 1 -t 1 -W 1 172.20.0.2");
    assert!(died.contains("From 172.19.0.3 icmp_seq=1 Time to live exceeded"), "{died}");
    // It forwards as long as it is told to.
    prints(lab, "docker exec centos-router sysctl -w net.ipv4.ip_forward=0");
    assert!(text(&lab.types(there).stdout).contains("100% packet loss"));
    prints(lab, END);
}

fn row_27_containers_on_the_lans_bridge(lab: &Lab) {
    lab.docker0();
    lab.ok("network create --subnet 10.1.0.0/24 net1");
    lab.idle("one", "net1");
    // The LAN is a network, too; a machine on it has a bridge `br0` of its own, of `eth0` and `tap0`.
    lab.ok("network create --subnet 192.168.77.0/24 lan");
    lab.idle("printer", "lan");
    let machine = lab.foreign();
    let place = Place::At(machine.pid());
    if !lab.does(place, "ip link add br0 type bridge").status.success() {
        return skip("this kernel has no bridges");
    }
    for (name, network, ifname) in [("box", "lan", "eth0"), ("into-net1", "net1", "tap0")] {
        lab.ok(&format!(
            "plug {name} --network {network} --pid {} --ifname {ifname} --no-config",
            machine.pid()
        ));
        lab.succeeds(place, &format!("ip link set {ifname} master br0; ip link set {ifname} up"));
    }
    lab.succeeds(place, "ip addr add 10.1.0.200/24 dev br0; ip link set br0 up");
    lab.inside("printer", "ip addr add 10.1.0.201/24 dev eth0");
    let bridge = lab.succeeds(place, "bridge link show");
    assert!(bridge.contains("eth0") && bridge.contains("tap0") && bridge.contains("master br0"), "{bridge}");
    // A container is a station of the LAN like any other, with its own MAC address.
    for station in ["10.1.0.200", "10.1.0.201"] {
        let said = lab.inside("one", &format!("ping -c 2 -i 0.2 -W 3 {station}"));
        assert_eq!(said.matches("ttl=64 ").count(), 2, "{station}: no router between: {said}");
    }
    let mac = lab.inside("printer", "ip neigh show 10.1.0.2");
    assert!(mac.contains("lladdr 02:42:0a:01:00:02"), "{mac}");
    let entry = lab.row("show fdb", "mac", "02:42:c0:a8:4d:02");
    assert!(["box", "into-net1", "printer"].iter().any(|port| entry["port"] == *port), "{entry}");
    let behind: Vec<_> = lab.json("show fdb").into_iter().filter(|row| row["port"] == "into-net1").collect();
    assert!(
        behind.iter().any(|row| row["mac"] == "02:42:c0:a8:4d:02"),
        "the printer is behind tap0: {behind:?}"
    );
}

fn row_28_the_topology_is_drawn(lab: &Lab) {
    lab.docker0();
    router(lab);
    let mut drawn = lab.ok("show topology --ascii");
    for row in lab.json("show ports") {
        drawn = drawn.replace(row["alias"].as_str().unwrap(), "vethXXXXXXX");
    }
    for row in
        lab.json("network ls").iter().filter(|row| row["name"] != "bridge" && row["driver"] == "bridge")
    {
        drawn = drawn.replace(row["bridge"].as_str().unwrap(), "br-XXXXXXXXXXXX");
    }
    assert_eq!(drawn, DRAWN, "{drawn}");
    prints(lab, END);
}

const DRAWN: &str = "\
+------------------+
| bridge (docker0) |
| 172.17.0.0/16    |
+------------------+

                                     +------------------------+  +------------------------+
                                     | net1 (br-XXXXXXXXXXXX) |  | net2 (br-XXXXXXXXXXXX) |
                                     | 172.19.0.0/16          |  | 172.20.0.0/16          |
                                     +------------+-----------+  +------------+-----------+
+---------------------------------+               |                           |
| centos-net1                     |               |                           |
|   eth0  172.19.0.2  vethXXXXXXX +---------------+                           |
+---------------------------------+               |                           |
+---------------------------------+               |                           |
| centos-router                   |               |                           |
|   eth0  172.19.0.3  vethXXXXXXX +---------------+                           |
|   eth1  172.20.0.3  vethXXXXXXX +-------------------------------------------+
+---------------------------------+                                           |
+---------------------------------+                                           |
| centos-net2                     |                                           |
|   eth0  172.20.0.2  vethXXXXXXX +-------------------------------------------+
+---------------------------------+
";
