//! The gateway and the router between networks.

use crate::harness::{Lab, text};
use crate::world::{FAR4, FAR6, OUT4, Outside, WHO, ask, seen_from, two_networks};

scenarios! {
    the_gateway_answers
    the_default_route_inside
    networks_are_isolated_both_ways
    networks_without_rules_are_routed
    what_the_gateway_says_of_what_it_cannot_reach
    the_way_has_an_end
    forwarding_is_a_switch
    a_router_container
    static_routes
    packets_too_big_for_the_next_network
    an_internal_network
    broadcasts_stay_at_home
    advertised_where_it_is_asked_for
}

/// Runs `ping` with these words, which must be answered: what it printed.
#[track_caller]
fn ping(lab: &Lab, from: &str, words: &str) -> String {
    lab.inside(from, &format!("ping -n -c1 -W3 {words}"))
}

/// Runs `ping` with these words, which must not be answered: what it printed.
#[track_caller]
fn ping_fails(lab: &Lab, from: &str, words: &str) -> String {
    let output = lab.sh(from, &format!("ping -n -W1 -i0.2 {words}"));
    let said = text(&output.stdout);
    assert!(said.contains("100% packet loss"), "{from}: ping {words}: {said}{}", text(&output.stderr));
    said
}

/// Who answered at each hop, `*` where nobody did.
fn traceroute(lab: &Lab, from: &str, words: &str) -> Vec<String> {
    let said = lab.inside(from, &format!("traceroute -n -q1 -w1 {words}"));
    let hop = |line: &str| line.split_ascii_whitespace().nth(1).unwrap().to_owned();
    said.lines().skip(1).map(hop).collect()
}

fn the_gateway_answers(lab: &Lab) {
    two_networks(lab, "");
    for target in ["10.1.0.1", "fd00:1::1", "-s 1452 10.1.0.1", "-M do -s 1452 fd00:1::1"] {
        assert!(ping(lab, "alice", target).contains("ttl=64"), "{target}");
    }
    // The gateway has one MAC address for both, and knows who asked.
    let known = lab.inside("alice", "ip neigh show 10.1.0.1; ip neigh show fd00:1::1");
    let mac = |line: &str| line.split(' ').skip_while(|word| *word != "lladdr").nth(1).unwrap().to_owned();
    let macs: Vec<String> = known.lines().map(mac).collect();
    assert_eq!(macs.len(), 2, "{known}");
    assert_eq!(macs[0], macs[1], "{known}");
    // One that is not ours is asked for in vain; that of another network is ours.
    assert!(
        ping_fails(lab, "alice", "-c1 -w5 10.1.0.77").contains("From 10.1.0.2"),
        "its own kernel says so"
    );
    for target in ["10.2.0.1", "fd00:2::1"] {
        assert!(ping(lab, "alice", target).contains("ttl=64"), "{target}");
    }
    // So does it to all routers on the link (RFC 4443 §4.2).
    let said = ping(lab, "alice", "ff02::2%eth0");
    assert!(said.contains("bytes from fe80::") && said.contains("ttl=64"), "{said}");
    // What it does not serve, it refuses.
    for (host, proto) in
        [("10.1.0.1", "tcp"), ("10.1.0.1", "udp"), ("fd00:1::1", "tcp"), ("fd00:1::1", "udp")]
    {
        let refusal = ask(lab, "alice", proto, (host, 9), 0).unwrap_err();
        assert_eq!(refusal, "Connection refused", "{host} {proto}");
    }
}

fn the_default_route_inside(lab: &Lab) {
    two_networks(lab, "");
    // As `ip route` prints what Docker sets: not as a routing daemon's.
    assert_eq!(
        lab.inside("alice", "ip route"),
        "default via 10.1.0.1 dev eth0 \n10.1.0.0/24 dev eth0 proto kernel scope link src 10.1.0.2 \n"
    );
    let six = lab.inside("alice", "ip -6 route show default");
    assert!(six.starts_with("default via fd00:1::1 dev eth0 "), "{six}");
    lab.ok("run -d --name both --network net2 --network net1");
    let routes = lab.inside("both", "ip route");
    assert!(routes.starts_with("default via 10.1.0.1 dev eth1 \n"), "the first network's by name: {routes}");
    assert_eq!(routes.matches("default").count(), 1, "{routes}");
    // Another takes its place when the first network goes, as with Docker.
    lab.ok("network disconnect net1 both");
    let routes = lab.inside("both", "ip route; ip -6 route show default");
    assert!(routes.starts_with("default via 10.2.0.1 dev eth0 \n"), "{routes}");
    assert!(routes.contains("default via fd00:2::1 dev eth0 "), "{routes}");
    // An internal network leads nowhere; each IP version goes by the first that has it.
    lab.ok("network create --internal --subnet 10.3.0.0/24 --subnet fd00:3::/64 inner");
    lab.ok("network create --subnet 10.4.0.0/24 four");
    lab.ok("run -d --name hidden --network inner");
    let defaults = || {
        let said = lab.inside("hidden", "ip route show default; ip -6 route show default");
        said.lines().map(|line| line.split(' ').take(5).collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    assert!(defaults().is_empty(), "{:?}", defaults());
    lab.ok("network connect four hidden");
    lab.ok("network connect net1 hidden");
    assert_eq!(defaults(), ["default via 10.4.0.1 dev eth1", "default via fd00:1::1 dev eth2"]);
    lab.ok("network disconnect net1 hidden");
    lab.ok("network disconnect four hidden");
    assert!(defaults().is_empty(), "{:?}", defaults());
    assert!(!lab.inside("hidden", "ip -br link").contains("eth1"));
}

fn networks_are_isolated_both_ways(lab: &Lab) {
    two_networks(lab, "");
    let before = lab.row("show ports", "port", "carol")["tx_frames"].clone();
    ping_fails(lab, "alice", "-c3 10.2.0.2");
    ping_fails(lab, "alice", "-c3 fd00:2::2");
    assert_eq!(lab.drops("alice", "isolated"), 6);
    assert_eq!(lab.row("show ports", "port", "carol")["tx_frames"], before, "not even a question");
    ping_fails(lab, "carol", "-c2 10.1.0.2");
    assert_eq!(lab.drops("carol", "isolated"), 2);
    // The TTL is looked at first: the gateway is seen, and nothing behind it.
    assert_eq!(traceroute(lab, "alice", "-m 3 10.2.0.2"), ["10.1.0.1", "*", "*"]);
    assert_eq!(traceroute(lab, "alice", "-6 -m 3 fd00:2::2"), ["fd00:1::1", "*", "*"]);
    assert_eq!(traceroute(lab, "alice", "-m 3 10.2.0.1"), ["10.2.0.1"]);
    assert!(lab.pings("alice", "bob"), "neighbours are no strangers");
}

fn networks_without_rules_are_routed(lab: &Lab) {
    two_networks(lab, "--iptables=false");
    for (from, to) in
        [("alice", "10.2.0.2"), ("alice", "fd00:2::2"), ("carol", "10.1.0.3"), ("carol", "fd00:1::3")]
    {
        assert!(ping(lab, from, to).contains("ttl=63"), "{from} {to}");
    }
    assert_eq!(traceroute(lab, "alice", "10.2.0.2"), ["10.1.0.1", "10.2.0.2"]);
    assert_eq!(traceroute(lab, "alice", "-6 fd00:2::2"), ["fd00:1::1", "fd00:2::2"]);
    assert_eq!(traceroute(lab, "alice", "-I 10.2.0.2"), ["10.1.0.1", "10.2.0.2"]);
    assert_eq!(traceroute(lab, "alice", "-T -p 9 10.2.0.2"), ["10.1.0.1", "10.2.0.2"]);
    let _server = lab.serves("carol", WHO, &["0.0.0.0", "5000"]);
    for proto in ["tcp", "udp"] {
        assert_eq!(seen_from(lab, "alice", proto, ("10.2.0.2", 5000)), "10.1.0.2", "no NAT: {proto}");
    }
    assert!(lab.json("show conntrack").iter().all(|row| row["src"] == row["reply_dst"]), "no translation");
}

fn what_the_gateway_says_of_what_it_cannot_reach(lab: &Lab) {
    two_networks(lab, "--iptables=false");
    let table = [
        ("10.77.0.1", "From 10.1.0.1 icmp_seq=1 Destination Net Unreachable", "no_route"),
        ("fd00:77::1", "From fd00:1::1 icmp_seq=1 Destination unreachable: No route", "no_route"),
        ("10.2.0.99", "From 10.1.0.1 icmp_seq=1 Destination Host Unreachable", "neighbour_failed"),
        (
            "fd00:2::99",
            "From fd00:1::1 icmp_seq=1 Destination unreachable: Address unreachable",
            "neighbour_failed",
        ),
        ("-t1 10.2.0.2", "From 10.1.0.1 icmp_seq=1 Time to live exceeded", "ttl_exceeded"),
        ("-t1 fd00:2::2", "From fd00:1::1 icmp_seq=1 Time exceeded: Hop limit", "ttl_exceeded"),
    ];
    for (target, answer, reason) in table {
        let before = lab.drops("alice", reason);
        // Long enough for three questions without an answer (RFC 4861 §10: a second each).
        let said = lab.says("alice", &format!("ping -n -c1 -W4 {target}"));
        assert!(said.contains(answer), "{target}: {said}");
        assert_eq!(lab.drops("alice", reason), before + 1, "{target}: {reason}");
    }
    // A connection's first packet is told as well.
    let refusal = ask(lab, "alice", "tcp", ("10.77.0.1", 80), 0).unwrap_err();
    assert_eq!(refusal, "Network is unreachable");
}

fn the_way_has_an_end(lab: &Lab) {
    two_networks(lab, "--iptables=false");
    // Two who send each other everything: the TTL ends it, and the first to see it run out says so, with
    // the address by which it sends (RFC 1812 §4.3.2.4).
    lab.inside("carol", "ip route replace default via 10.2.0.1");
    lab.ok("route add 10.9.0.0/24 via 10.2.0.2");
    let hops = traceroute(lab, "alice", "-m 4 10.9.0.1");
    assert_eq!(hops, ["10.1.0.1", "10.2.0.2", "10.1.0.1", "10.2.0.2"]);
    let said = ping_fails(lab, "alice", "-c1 10.9.0.1");
    assert!(said.contains("Time to live exceeded"), "{said}");
}

fn forwarding_is_a_switch(lab: &Lab) {
    two_networks(lab, "--iptables=false");
    assert!(lab.pings("alice", "10.2.0.2") && lab.pings("alice", "fd00:2::2"));
    assert_eq!(lab.ok("sysctl net.ipv4.ip_forward"), "net.ipv4.ip_forward = 1\n");
    assert_eq!(lab.ok("sysctl net.ipv4.ip_forward=0"), "net.ipv4.ip_forward = 0\n");
    ping_fails(lab, "alice", "-c2 10.2.0.2");
    assert_eq!(lab.drops("alice", "forwarding_off"), 2);
    assert!(lab.pings("alice", "fd00:2::2"), "IPv6 has a switch of its own");
    assert!(lab.pings("alice", "10.1.0.1") && lab.pings("alice", "10.1.0.3"), "gateway and bridge stay");
    lab.ok("sysctl net.ipv6.conf.all.forwarding=0");
    ping_fails(lab, "alice", "-c1 fd00:2::2");
    lab.ok("sysctl net.ipv4.ip_forward=1");
    assert!(lab.pings("alice", "10.2.0.2") && !lab.pings("alice", "fd00:2::2"));
    lab.ok("sysctl net.ipv6.conf.all.forwarding=1");
    assert!(lab.pings("alice", "fd00:2::2"));
    // The same for one network alone.
    lab.ok("network set net2 -o forward=false");
    assert!(!lab.pings("alice", "10.2.0.2") && !lab.pings("carol", "fd00:1::2"));
    lab.ok("network set net2 -o forward=true");
    assert!(lab.pings("alice", "10.2.0.2"));
    assert!(lab.refused("sysctl net.ipv4.ip_forward=2").contains("net.ipv4.ip_forward"));
    let flows = lab.json("show conntrack").len();
    assert_eq!(lab.row("sysctl", "key", "net.netfilter.nf_conntrack_count")["value"], flows);
    let count = format!("net.netfilter.nf_conntrack_count = {flows}\n");
    assert_eq!(lab.ok("sysctl net.netfilter.nf_conntrack_count"), count);
    assert!(lab.refused("sysctl net.ipv4.no_such").contains("net.ipv4.no_such"));
    lab.ok("down --all");
    two_networks(lab, "--iptables=false --ip-forward=false");
    assert_eq!(lab.ok("sysctl net.ipv4.ip_forward"), "net.ipv4.ip_forward = 0\n");
    assert!(!lab.pings("alice", "10.2.0.2"));
}

fn a_router_container(lab: &Lab) {
    two_networks(lab, "");
    lab.ok("run -d --name router --sysctl net.ipv6.conf.all.forwarding=1 \
         --network net1:ip=10.1.0.9,ip=fd00:1::9 --network net2:ip=10.2.0.9,ip=fd00:2::9");
    for (name, own, other) in [("alice", 1, 2), ("carol", 2, 1)] {
        lab.inside(name, &format!("ip route add 10.{other}.0.0/24 via 10.{own}.0.9"));
        lab.inside(name, &format!("ip -6 route add fd00:{other}::/64 via fd00:{own}::9"));
    }
    for target in ["10.2.0.2", "fd00:2::2"] {
        assert!(ping(lab, "alice", target).contains("ttl=63"), "{target}");
    }
    assert_eq!(traceroute(lab, "alice", "10.2.0.2"), ["10.1.0.9", "10.2.0.2"]);
    assert_eq!(traceroute(lab, "carol", "-6 fd00:1::2"), ["fd00:2::9", "fd00:1::2"]);
    assert_eq!(lab.drops("alice", "isolated"), 0, "the switch's own router had no part in it");
    ping_fails(lab, "bob", "-c1 10.2.0.2");
}

fn static_routes(lab: &Lab) {
    two_networks(lab, "--iptables=false");
    lab.inside("carol", "ip addr add 10.9.0.1/32 dev lo; ip addr add fd00:9::1/128 dev lo nodad");
    for (prefix, via, inside) in
        [("10.9.0.0/24", "10.2.0.2", "10.9.0.1"), ("fd00:9::/64", "fd00:2::2", "fd00:9::1")]
    {
        assert!(!lab.pings("alice", inside));
        lab.ok(&format!("route add {prefix} via {via}"));
        assert!(ping(lab, "alice", inside).contains("ttl=63"), "{inside}");
        let routes = lab.ok("route ls");
        assert!(routes.lines().any(|line| line.contains(prefix) && line.contains(via)), "{routes}");
        assert!(lab.refused(&format!("route add {prefix} via {via}")).contains(prefix));
        // The longer prefix wins.
        let host = if via.contains(':') { format!("{inside}/128") } else { format!("{inside}/32") };
        lab.ok(&format!("route add {host} dev net1"));
        assert!(!lab.pings("alice", inside));
        lab.ok(&format!("route del {host}"));
        assert!(lab.pings("alice", inside));
        lab.ok(&format!("route del {prefix}"));
        assert!(lab.refused(&format!("route del {prefix}")).contains(prefix));
        assert!(!lab.pings("alice", inside));
    }
    assert!(lab.refused("route add 10.8.0.0/24 via 10.77.0.1").contains("10.77.0.1"));
    assert!(lab.refused("route add 10.8.0.0/24 dev net9").contains("net9"));
    assert_eq!(lab.ts("route add 10.8.0.0/99 via 10.2.0.2").status.code(), Some(2));
}

/// Connects, sends a megabyte, and gets a megabyte back; prints the largest segment it may send.
const MEGABYTE: &str = "
import hashlib, os, socket, sys
c = socket.create_connection((sys.argv[1], 5001), 10)
data = os.urandom(1_000_000)
c.sendall(data)
c.shutdown(socket.SHUT_WR)
back = b''.join(iter(lambda: c.recv(1 << 16), b''))
assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest(), len(back)
print(c.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG))
";

/// Sends back to each client what it sent, once it is done; says the largest segment it may send.
const BACK: &str = "
import socket, sys
s = socket.create_server((sys.argv[1], 5001), family=socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET)
print('ready')
while True:
    c, _ = s.accept()
    data = b''.join(iter(lambda: c.recv(1 << 16), b''))
    print(c.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG))
    c.sendall(data)
    c.close()
";

fn packets_too_big_for_the_next_network(lab: &Lab) {
    two_networks(lab, "--iptables=false");
    lab.ok("network set net2 -o mtu=1400");
    let said = ping_fails(lab, "alice", "-c1 -M do -s 1472 10.2.0.2");
    assert!(said.contains("From 10.1.0.1 icmp_seq=1 Frag needed and DF set (mtu = 1400)"), "{said}");
    let said = ping_fails(lab, "alice", "-c1 -s 1452 fd00:2::2");
    assert!(said.contains("From fd00:1::1 icmp_seq=1 Packet too big: mtu=1400"), "{said}");
    assert_eq!(lab.drops("alice", "too_big"), 2);
    lab.inside("alice", "ip route flush cache; ip -6 route flush cache");
    assert!(ping(lab, "alice", "-M dont -s 1472 10.2.0.2").contains("ttl=63"), "in fragments");
    assert!(ping(lab, "alice", "-M dont -s 4000 10.2.0.2").contains("ttl=63"), "fragments of fragments");
    assert!(
        ping(lab, "alice", "-c3 -i0.2 -s 4000 fd00:2::2").contains("ttl=63"),
        "its sender cuts, once told"
    );
    lab.inside("alice", "ip route flush cache; ip -6 route flush cache");
    for (flag, to, hop) in [("", "10.2.0.2", "10.1.0.1"), ("-6", "fd00:2::2", "fd00:1::1")] {
        let path = lab.inside("alice", &format!("tracepath {flag} -n {to}"));
        assert!(path.contains(hop) && path.contains("Resume: pmtu 1400 hops 2 back 2"), "{path}");
    }
    for (listen, to) in [("0.0.0.0", "10.2.0.2"), ("::", "fd00:2::2")] {
        lab.inside("alice", "ip route flush cache; ip -6 route flush cache");
        let _server = lab.serves("carol", BACK, &[listen]);
        lab.python("alice", MEGABYTE, &[to]);
    }
    // With a clamp nothing needs to be found out.
    let mut server = lab.serves("carol", BACK, &["10.2.0.2"]);
    lab.ok("network set net1 -o mss_clamp=1000");
    let segment: u32 = lab.python("alice", MEGABYTE, &["10.2.0.2"]).trim().parse().unwrap();
    let theirs: u32 = server.lines.next().unwrap().parse().unwrap();
    assert!((900..=1000).contains(&segment) && (900..=1000).contains(&theirs), "{segment} {theirs}");
}

fn an_internal_network(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create --internal --subnet 10.1.0.0/24 --subnet fd00:1::/64 inner");
    lab.ok("network create --subnet 10.2.0.0/24 --subnet fd00:2::/64 outer");
    let outside = Outside::behind(lab, "");
    for (name, network) in [("alice", "inner"), ("bob", "inner"), ("carol", "outer")] {
        lab.idle(name, network);
    }
    assert!(!lab.inside("alice", "ip route; ip -6 route").contains("default"));
    assert!(lab.pings("alice", "bob") && lab.pings("carol", FAR4) && lab.pings("carol", FAR6));
    assert!(ping(lab, "alice", "10.1.0.1").contains("ttl=64"), "it has a gateway, which leads nowhere");
    lab.inside("alice", "ip route add default via 10.1.0.1; ip -6 route add default via fd00:1::1");
    for target in [FAR4, FAR6, OUT4, "10.2.0.2", "fd00:2::2"] {
        let before = lab.drops("alice", "isolated");
        ping_fails(lab, "alice", &format!("-c1 {target}"));
        assert_eq!(lab.drops("alice", "isolated"), before + 1, "{target}");
    }
    lab.succeeds(&outside, "ip route add 10.1.0.0/24 via 203.0.113.2");
    assert!(!lab.does(&outside, "ping -n -c1 -W1 10.1.0.2").status.success());
    assert!(
        lab.drops("net:wan", "isolated") + lab.drops("wan", "isolated") >= 1,
        "{:?}",
        lab.json("show drops")
    );
}

fn broadcasts_stay_at_home(lab: &Lab) {
    two_networks(lab, "--iptables=false");
    assert!(lab.pings("alice", "10.2.0.2"));
    // What carol's kernel and the gateway say of addresses does not count.
    let received = || lab.inside("carol", "awk '/^Ip:/ && $2 + 0 { print $4 }' /proc/net/snmp");
    let before = received();
    ping_fails(lab, "alice", "-c1 10.2.0.255");
    assert_eq!(lab.drops("alice", "directed_broadcast"), 1);
    ping_fails(lab, "alice", "-b -c1 255.255.255.255");
    lab.sh("alice", "ping -n -c1 -W1 -t5 -I eth0 224.1.2.3; ping -n -c1 -W1 -t5 -I eth0 ff0e::1:2");
    assert_eq!(received(), before);
    // Addresses that nobody can have send nothing, and get nothing.
    lab.inside(
        "alice",
        "ip addr add 127.9.9.9/32 dev eth0 2>/dev/null; ip addr add 240.0.0.1/32 dev eth0; true",
    );
    ping_fails(lab, "alice", "-c1 -I 240.0.0.1 10.2.0.2");
    assert_eq!(lab.drops("alice", "martian_source"), 1);
    ping_fails(lab, "alice", "-c1 -I 10.1.0.2 240.0.0.9");
    assert_eq!(lab.drops("alice", "martian_destination"), 1);
    assert_eq!(received(), before);
}

/// Solicits a router advertisement (RFC 4861 §4.1, §4.2); says source, hop limits, lifetime and options.
const SOLICIT: &str = "
import socket, struct
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.settimeout(5)
index = socket.if_nametoindex('eth0')
def option(name, value): s.setsockopt(socket.IPPROTO_IPV6, name, value)
option(socket.IPV6_JOIN_GROUP, socket.inet_pton(socket.AF_INET6, 'ff02::1') + struct.pack('@I', index))
option(socket.IPV6_MULTICAST_IF, index)
option(socket.IPV6_MULTICAST_HOPS, 255)
option(socket.IPV6_RECVHOPLIMIT, 1)
s.sendto(bytes([133, 0, 0, 0, 0, 0, 0, 0]), ('ff02::2', 0, 0, index))
try:
    while True:
        data, aux, _, peer = s.recvmsg(1500, 100)
        if data[0] == 134: break
    print('from', peer[0].split('%')[0], 'hops', struct.unpack('@i', aux[0][2])[0])
    print('hoplimit', data[4], 'lifetime', struct.unpack('>H', data[6:8])[0])
    rest = data[16:]
    while rest:
        kind, length = rest[0], 8 * rest[1]
        if kind == 1: print('mac', rest[2:8].hex(':'))
        if kind == 3: print('prefix', socket.inet_ntop(socket.AF_INET6, rest[16:32]), rest[2], 'flags', hex(rest[3]))
        if kind == 5: print('mtu', struct.unpack('>I', rest[4:8])[0])
        rest = rest[length:]
except TimeoutError: print('silence')
";

fn advertised_where_it_is_asked_for(lab: &Lab) {
    two_networks(lab, "");
    assert_eq!(lab.python("alice", SOLICIT, &[]), "silence\n");
    lab.ok("network set net1 -o ra=true");
    let said = lab.python("alice", SOLICIT, &[]);
    assert!(
        said.starts_with("from fe80::") && said.contains(" hops 255\n"),
        "link-local, from the link: {said}"
    );
    assert!(said.contains("hoplimit 64 lifetime ") && !said.contains("lifetime 0\n"), "{said}");
    assert!(said.contains("prefix fd00:1:: 64 "), "{said}");
    let known = lab.inside("alice", "ping -n -c1 -W3 fd00:1::1 >/dev/null; ip neigh show fd00:1::1");
    let mac = known.split(' ').skip_while(|word| *word != "lladdr").nth(1).unwrap().to_owned();
    assert!(!said.contains("mac ") || said.contains(&format!("mac {mac}\n")), "{said}");
    assert_eq!(lab.python("carol", SOLICIT, &[]), "silence\n", "on that network alone");
    lab.ok("network set net1 -o ra=false");
    assert_eq!(lab.python("alice", SOLICIT, &[]), "silence\n");
}
