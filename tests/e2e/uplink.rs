//! The way out: uplinks, masquerade, and what comes back.

use std::process::Output;

use crate::harness::{Lab, Process, skip, succeeded, text, until};
use crate::world::{
    FAR4, FAR6, OUT4, OUT6, Outside, Place, Seen, WAN4, WAN6, WHO, ask, seen_from, two_networks,
};

scenarios! {
    the_outside_sees_the_uplink
    a_port_is_kept_and_shared_with_nobody
    one_mapping_for_all_destinations
    strangers_do_not_come_in
    masquerade_can_be_switched_off
    another_address_and_other_ports
    errors_from_outside_find_their_way
    several_uplinks
    an_uplink_comes_and_goes
    the_demo_lab_has_an_outside
    a_real_interface
    a_real_interface_is_followed
}

/// [`WHO`] at the outside's address behind the uplink, IPv4 and IPv6, port 7000.
fn ask_who(lab: &Lab, outside: &Outside) -> Vec<crate::world::Server> {
    [FAR4, FAR6].map(|address| lab.serves(outside, WHO, &[address, "7000"])).into()
}

fn the_outside_sees_the_uplink(lab: &Lab) {
    two_networks(lab, "");
    let outside = Outside::behind(lab, "");
    let _servers = ask_who(lab, &outside);
    for (target, ttl) in [(OUT4, 63), (OUT6, 63), (FAR4, 63), (FAR6, 63), (WAN4, 64), (WAN6, 64)] {
        let said = lab.inside("alice", &format!("ping -n -c1 -W3 {target}"));
        assert!(said.contains(&format!("ttl={ttl}")), "{said}");
    }
    for from in ["alice", "bob", "carol"] {
        for proto in ["tcp", "udp"] {
            assert_eq!(seen_from(lab, from, proto, (FAR4, 7000)), WAN4, "{from} {proto}");
            assert_eq!(seen_from(lab, from, proto, (FAR6, 7000)), WAN6, "{from} {proto}");
        }
    }
    let hops = lab.inside("alice", &format!("traceroute -n -q1 -w1 {FAR4}; traceroute -6 -n -q1 -w1 {FAR6}"));
    let hops: Vec<&str> = hops.lines().filter_map(|line| line.split_ascii_whitespace().nth(1)).collect();
    assert_eq!(hops, ["to", "10.1.0.1", FAR4, "to", "fd00:1::1", FAR6]);
    // What the outside says is what the table says.
    let rows = lab.json("show conntrack");
    let row = rows.iter().find(|row| row["proto"] == "udp" && row["src"] == "10.1.0.2" && row["dst"] == FAR4);
    let row = row.unwrap_or_else(|| panic!("{rows:#?}"));
    assert_eq!((&row["reply_src"], &row["reply_dst"]), (&FAR4.into(), &WAN4.into()));
    let said = lab.ok("uplink ls");
    assert!(said.contains("wan") && said.contains(WAN4) && said.contains(OUT4), "{said}");
    let row = lab.row("uplink ls", "name", "wan");
    assert!(row["kind"] == "tap", "{row}");
}

fn a_port_is_kept_and_shared_with_nobody(lab: &Lab) {
    two_networks(lab, "");
    let outside = Outside::behind(lab, "");
    let _servers = ask_who(lab, &outside);
    for (proto, far, wan) in
        [("tcp", FAR4, WAN4), ("udp", FAR4, WAN4), ("tcp", FAR6, WAN6), ("udp", FAR6, WAN6)]
    {
        let kept = ask(lab, "alice", proto, (far, 7000), 4444).unwrap();
        assert_eq!(kept, Seen { address: wan.to_owned(), port: 4444, own: 4444 }, "{proto}");
        // The same port of others, to the same server, at the same time.
        let mut ports = vec![4444];
        for from in ["bob", "carol"] {
            let seen = ask(lab, from, proto, (far, 7000), 4444).unwrap();
            assert_eq!((&*seen.address, seen.own), (wan, 4444), "{from} {proto}");
            assert!(seen.port >= 1024, "{from} {proto}: {}", seen.port);
            ports.push(seen.port);
        }
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 3, "{proto}: {ports:?}");
    }
    // A low port becomes another low port (RFC 4787 REQ-3).
    let seen: Vec<u16> =
        ["alice", "bob"].map(|from| ask(lab, from, "udp", (FAR4, 7000), 500).unwrap().port).into();
    assert!(seen[0] == 500 && seen[1] != 500 && seen[1] < 1024, "{seen:?}");
    // Queries have identifiers instead.
    let echo = "import os, socket, struct, sys\n\
        s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP); s.settimeout(3)\n\
        b = struct.pack('>BBHHH', 8, 0, 0xffff - 0x0800 - 77 - 1, 77, 1); s.sendto(b, (sys.argv[1], 0))\n\
        while True:\n r = s.recv(100)[20:]\n if r[0] == 0: break\n\
        print(struct.unpack('>H', r[4:6])[0])";
    for from in ["alice", "bob"] {
        assert_eq!(lab.python(from, echo, &[FAR4]), "77\n", "{from}");
    }
    let of = |row: &&serde_json::Value| row["proto"] == "icmp" && row["dst"] == FAR4;
    assert_eq!(lab.json("show conntrack").iter().filter(of).count(), 2);
}

/// From one socket to several addresses and ports by turns: what each saw.
pub(crate) const PROBE: &str = "
import socket, sys
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM); s.settimeout(3)
s.bind(('', int(sys.argv[2])))
for to in sys.argv[3:]:
    host, port = to.split('/')
    s.sendto(b'who', (host, int(port)))
    said, peer = s.recvfrom(100)
    assert peer[:2] == (host, int(port)), peer
    print(said.decode())
";

/// RFC 4787 REQ-1: the outside port belongs to the inside endpoint, whomever it speaks to.
fn one_mapping_for_all_destinations(lab: &Lab) {
    two_networks(lab, "");
    let outside = Outside::behind(lab, "");
    let _servers =
        [FAR4, OUT4, FAR6, OUT6].map(|address| lab.serves(&outside, WHO, &[address, "7000", "7001"]));
    for (family, near, far) in [("0.0.0.0", OUT4, FAR4), ("::", OUT6, FAR6)] {
        let to =
            [format!("{near}/7000"), format!("{near}/7001"), format!("{far}/7000"), format!("{far}/7001")];
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        let mut mappings = Vec::new();
        for from in ["alice", "bob"] {
            let said = lab.python(from, PROBE, &[&[family, "4500"], &to[..]].concat());
            let mut seen: Vec<&str> = said.lines().collect();
            assert_eq!(seen.len(), 4);
            seen.dedup();
            assert_eq!(seen.len(), 1, "{from}: {seen:?}");
            mappings.push(seen[0].to_owned());
        }
        assert_ne!(mappings[0], mappings[1], "bob's collides with alice's, and is another for all of his");
    }
}

/// Outside: is asked at its far address, lets strangers shout into the hole, and answers after them.
const HOLE: &str = "
import socket, sys
far, near = sys.argv[1:]
def bound(host, port):
    s = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((host, port))
    return s
asked = bound(far, 7000)
print('ready')
peer = asked.recvfrom(100)[1]
for source in [(near, 7000), (near, 9999), (far, 9999)]: bound(*source).sendto(b'stranger', peer)
asked.sendto(b'friend', peer)
print(*peer[:2])
";

/// Asks, and says the first word that it hears.
const FIRST_WORD: &str = "
import socket, sys
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
s.sendto(b'who', (sys.argv[1], 7000))
print(s.recvfrom(100)[0].decode())
";

/// A mapping is no open door: who was not asked does not get in, nor does the same host by another port.
fn strangers_do_not_come_in(lab: &Lab) {
    two_networks(lab, "");
    let outside = Outside::behind(lab, "");
    for (near, far, wan) in [(OUT4, FAR4, WAN4), (OUT6, FAR6, WAN6)] {
        let mut hole = lab.serves(&outside, HOLE, &[far, near]);
        // They are on the same wire, and spoke first.
        assert_eq!(lab.python("alice", FIRST_WORD, &[far]), "friend\n");
        assert!(hole.lines.next().unwrap().starts_with(wan));
    }
    // Nor does a connection get in, to an address inside that the outside happens to know a way to.
    lab.succeeds(
        &outside,
        &format!("ip route add 10.1.0.0/24 via {WAN4}; ip -6 route add fd00:1::/64 via {WAN6}"),
    );
    for (host, bob) in [("10.1.0.2", "10.1.0.3"), ("fd00:1::2", "fd00:1::3")] {
        let _server = lab.serves("alice", WHO, &[host, "80"]);
        assert_eq!(seen_from(lab, "bob", "tcp", (host, 80)), bob);
        for proto in ["tcp", "udp"] {
            assert_eq!(seen_from(lab, &outside, proto, (host, 80)), "-", "{host} {proto}");
        }
    }
}

fn masquerade_can_be_switched_off(lab: &Lab) {
    two_networks(lab, "");
    let outside = Outside::behind(lab, "");
    let _servers = ask_who(lab, &outside);
    lab.succeeds(
        &outside,
        &format!("ip route add 10.1.0.0/24 via {WAN4}; ip -6 route add fd00:1::/64 via {WAN6}"),
    );
    lab.ok("network set net1 -o masquerade=false");
    for proto in ["tcp", "udp"] {
        assert_eq!(seen_from(lab, "alice", proto, (FAR4, 7000)), "10.1.0.2", "{proto}");
        assert_eq!(seen_from(lab, "alice", proto, (FAR6, 7000)), "fd00:1::2", "{proto}");
        assert_eq!(seen_from(lab, "carol", proto, (FAR4, 7000)), WAN4, "the other network's stays: {proto}");
    }
    lab.ok("network set net1 -o com.docker.network.bridge.enable_ip_masquerade=true");
    assert_eq!(seen_from(lab, "alice", "tcp", (FAR4, 7000)), WAN4);
    lab.ok("down --all");
    drop(outside);
    two_networks(lab, "--ip-masq=false");
    let outside = Outside::behind(lab, "");
    let _servers = ask_who(lab, &outside);
    lab.succeeds(&outside, &format!("ip route add 10.2.0.0/24 via {WAN4}"));
    assert_eq!(seen_from(lab, "carol", "udp", (FAR4, 7000)), "10.2.0.2");
}

fn another_address_and_other_ports(lab: &Lab) {
    two_networks(lab, "");
    let outside = Outside::behind(lab, "");
    let _servers = ask_who(lab, &outside);
    // An address that is on no link of ours: the outside has to know where it is.
    lab.succeeds(
        &outside,
        &format!("ip route add 192.0.2.50/32 via {WAN4}; ip route add 2001:db8:50::1/128 via {WAN6}"),
    );
    lab.ok("network set net1 -o masquerade_to=192.0.2.50 -o masquerade_to6=2001:db8:50::1");
    for proto in ["tcp", "udp"] {
        assert_eq!(seen_from(lab, "alice", proto, (FAR4, 7000)), "192.0.2.50", "{proto}");
        assert_eq!(seen_from(lab, "alice", proto, (FAR6, 7000)), "2001:db8:50::1", "{proto}");
        assert_eq!(seen_from(lab, "carol", proto, (FAR4, 7000)), WAN4, "{proto}");
    }
    lab.ok("network set net1 -o masquerade_to= -o masquerade_to6=");
    lab.ok("conntrack -D");
    lab.ok("network set net1 -o masquerade_ports=40000-40001");
    let mut ports = Vec::new();
    for source in [4441, 4442] {
        ports.push(ask(lab, "alice", "udp", (FAR4, 7000), source).unwrap().port);
    }
    ports.sort_unstable();
    assert_eq!(ports, [40000, 40001]);
    // The third finds none that is free, and its packet goes nowhere.
    assert_eq!(ask(lab, "alice", "udp", (FAR4, 7000), 4443), Err("No route to host".to_owned()));
    assert_eq!(lab.drops("alice", "nat_exhausted"), 1);
    assert!(ask(lab, "alice", "udp", (FAR4, 7000), 4441).is_ok(), "who has one keeps it");
    assert!(ask(lab, "carol", "udp", (FAR4, 7000), 4443).is_ok_and(|seen| seen.port == 4443));
    lab.ok("conntrack -D -s 10.1.0.2");
    assert!(ask(lab, "alice", "udp", (FAR4, 7000), 4443).is_ok(), "what was given up is free");
    assert!(lab.refused("network set net1 -o masquerade_ports=9-1").contains("masquerade_ports"));
}

fn errors_from_outside_find_their_way(lab: &Lab) {
    two_networks(lab, "");
    let outside = Outside::behind(lab, "");
    for far in [FAR4, FAR6] {
        for proto in ["tcp", "udp"] {
            let refusal = ask(lab, "alice", proto, (far, 9), 0).unwrap_err();
            assert_eq!(refusal, "Connection refused", "{far} {proto}");
        }
    }
    lab.succeeds(
        &outside,
        "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding; \
         echo 0 >/proc/sys/net/ipv4/icmp_ratelimit; echo 0 >/proc/sys/net/ipv6/icmp/ratelimit; \
         ip route add unreachable 192.0.2.1; ip route add prohibit 192.0.2.2; \
         ip -6 route add unreachable 2001:db8:b::1; ip -6 route add prohibit 2001:db8:b::2",
    );
    let table = [
        ("192.0.2.1", "From 203.0.113.1 icmp_seq=1 Destination Host Unreachable", "No route to host"),
        ("192.0.2.2", "From 203.0.113.1 icmp_seq=1 Packet filtered", "No route to host"),
        (
            "2001:db8:b::1",
            "From 2001:db8:a::1 icmp_seq=1 Destination unreachable: No route",
            "Network is unreachable",
        ),
        (
            "2001:db8:b::2",
            "From 2001:db8:a::1 icmp_seq=1 Destination unreachable: Administratively prohibited",
            "Permission denied",
        ),
    ];
    for (to, answer, error) in table {
        // A router's kernel gives one sender about one error a second (net.ipv4.route.error_cost, the host's to
        // set), and may leave the first request without: TCP asks again by itself.
        until(&format!("{to}: {answer}"), || {
            lab.says("alice", &format!("ping -n -c1 -W1 {to}")).contains(answer)
        });
        assert_eq!(ask(lab, "alice", "tcp", (to, 80), 0).unwrap_err(), error, "{to}");
    }
    // An error about what nobody sent is nobody's.
    let received = || lab.inside("alice", "awk '/^Ip:/ && $2 + 0 { print $4 }' /proc/net/snmp");
    let before = received();
    let forged = "import socket, struct, sys\n\
        quote = struct.pack('>BBHHHBBH4s4sHHHH', 0x45, 0, 28, 1, 0, 64, 17, 0, socket.inet_aton('203.0.113.2'), \
        socket.inet_aton('203.0.113.1'), 4999, 9, 8, 0)\n\
        words = struct.unpack('>14H', quote); total = sum(words) + 0x0303\n\
        while total >> 16: total = (total & 0xffff) + (total >> 16)\n\
        s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)\n\
        s.sendto(struct.pack('>BBHI', 3, 3, 0xffff - total, 0) + quote, ('203.0.113.2', 0))";
    lab.python(&outside, forged, &[]);
    until("it to be refused", || lab.drops("wan", "ct_invalid") == 1);
    assert_eq!(received(), before);
}

fn several_uplinks(lab: &Lab) {
    two_networks(lab, "");
    let wan = Outside::behind(lab, "");
    let dsl = Outside::by(
        lab,
        "dsl",
        "--ip 192.0.2.2/24 --gateway 192.0.2.1 --ip 2001:db8:d::2/64 --gateway 2001:db8:d::1",
        &["192.0.2.1/24", "2001:db8:d::1/64"],
    );
    lab.succeeds(&dsl, &format!("ip addr add {FAR4}/32 dev lo; ip addr add {FAR6}/128 dev lo nodad"));
    let _servers = [ask_who(lab, &wan), ask_who(lab, &dsl)];
    let seen = |from: &str| [FAR4, FAR6].map(|far| seen_from(lab, from, "tcp", (far, 7000)));
    let (by_wan, by_dsl) = ([WAN4, WAN6], ["192.0.2.2", "2001:db8:d::2"]);
    assert_eq!((seen("alice"), seen("carol")), (by_wan.map(str::to_owned), by_wan.map(str::to_owned)));
    lab.ok("network set net2 -o uplink=dsl");
    assert_eq!(seen("alice"), by_wan);
    assert_eq!(seen("carol"), by_dsl);
    lab.ok("network set net2 -o uplink=wan");
    lab.ok("network set net1 -o uplink=dsl");
    assert_eq!(seen("alice"), by_dsl);
    assert_eq!(seen("carol"), by_wan);
    // What is on a link needs no preference.
    assert!(lab.pings("alice", OUT4) && lab.pings("carol", "192.0.2.1"));
    assert!(lab.refused("uplink rm dsl").contains("network 'net1'"), "who is told whom it would hit");
    lab.ok("network set net1 -o uplink=");
    lab.ok("uplink rm dsl");
    assert_eq!(seen("alice"), by_wan);
    assert!(lab.refused("network set net1 -o uplink=moon").contains("moon"));
}

fn an_uplink_comes_and_goes(lab: &Lab) {
    two_networks(lab, "");
    assert!(lab.json("uplink ls").is_empty());
    assert!(!lab.pings("alice", FAR4));
    assert!(lab.drops("alice", "no_route") >= 1);
    for _ in 0..2 {
        let outside = Outside::behind(lab, "--mac 02:00:00:00:00:99");
        assert!(lab.pings("alice", FAR4) && lab.pings("alice", FAR6));
        assert!(lab.succeeds(&outside, "ip neigh show dev eth0").contains("02:00:00:00:00:99"));
        let pid = outside.pid();
        let again = format!("uplink add wan --tap eth7 --pid {pid} --ip 192.0.2.9/24");
        assert!(lab.refused(&again).contains("'wan'"));
        let overlaps = format!("uplink add other --tap eth7 --pid {pid} --ip 10.1.0.9/24");
        assert!(lab.refused(&overlaps).contains("10.1.0."));
        lab.ok("uplink rm wan");
        assert!(!lab.does(&outside, "ip link show eth0").status.success());
        assert!(!lab.pings("alice", FAR4));
        assert!(
            lab.json("show conntrack").iter().all(|row| row["reply_dst"] != WAN4),
            "its flows go with it"
        );
    }
    // One whose namespace goes is lost, and can be had again.
    let outside = Outside::behind(lab, "");
    assert!(lab.pings("alice", FAR4));
    outside.end();
    until("its loss to be seen", || lab.row("uplink ls", "name", "wan")["state"] == "lost");
    assert!(!lab.pings("alice", FAR4));
    assert!(lab.pings("alice", "bob"), "it costs nobody else anything");
    lab.ok("uplink rm wan");
    let _outside = Outside::behind(lab, "");
    assert!(lab.pings("alice", FAR4));
    assert!(lab.refused("uplink rm moon").contains("'moon'"));
    assert_eq!(lab.ts("uplink add wan2").status.code(), Some(2), "of what kind?");
}

fn the_demo_lab_has_an_outside(lab: &Lab) {
    lab.ok("up -d");
    let uplinks = lab.json("uplink ls");
    assert_eq!((uplinks.len(), &uplinks[0]["kind"]), (1, &"tap".into()), "{uplinks:#?}");
    let gateway = lab.inside("outside", "hostname -I").split(' ').next().unwrap().to_owned();
    let _server = lab.serves("outside", WHO, &[&gateway, "7000"]);
    let own = uplinks[0]["addresses"].to_string();
    for from in ["alice", "carol"] {
        let seen = seen_from(lab, from, "tcp", (&gateway, 7000));
        assert!(own.contains(&seen) && seen != "-", "{from}: {seen} of {own}");
    }
    assert!(!lab.pings("alice", "172.20.0.2"), "isolated as ever");
}

/// A namespace with a real interface `eth5` and our daemon, and another behind that interface.
pub(crate) struct Wire {
    near: Process,
    far: Process,
}

impl Wire {
    /// None, and a word about it, for an ordinary user.
    pub(crate) fn new(lab: &Lab) -> Option<Self> {
        if !lab.is_root() {
            skip("a packet uplink takes CAP_NET_RAW over its interface");
            return None;
        }
        // The daemon stays in the machine's user namespace, where it would be on a host.
        let near = lab.start(lab.command(&["unshare", "-n", "sleep", "1000"]));
        until("a network namespace", || {
            let comm = std::fs::read_to_string(format!("/proc/{}/comm", near.pid())).unwrap();
            comm == "sleep\n"
        });
        let wire = Self { near, far: lab.foreign() };
        let pid = wire.far.pid();
        lab.succeeds(
            wire.place(),
            &format!("ip link add eth5 type veth peer name eth0 netns {pid}; ip link set eth5 up"),
        );
        lab.succeeds(
            wire.away(),
            &format!(
                "ip link set lo up; ip link set eth0 up; ip addr add {OUT4}/24 dev eth0; \
                 ip addr add {OUT6}/64 dev eth0 nodad; ip addr add {FAR4}/32 dev lo; \
                 ip addr add {FAR6}/128 dev lo nodad"
            ),
        );
        succeeded("daemon", &wire.there(lab, "daemon -d"));
        Some(wire)
    }

    pub(crate) fn place(&self) -> Place<'static> {
        Place::At(self.near.pid())
    }

    pub(crate) fn away(&self) -> Place<'static> {
        Place::At(self.far.pid())
    }

    /// A command of ours in the interface's namespace.
    pub(crate) fn there(&self, lab: &Lab, line: &str) -> Output {
        let program = lab.program();
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        lab.at(self.place(), &[&[program.to_str().unwrap()], &words[..]].concat()).output().unwrap()
    }

    /// Gives the lab the uplink `lan` by the interface, and a container.
    pub(crate) fn uplink(&self, lab: &Lab, flags: &str) {
        let line = format!(
            "uplink add lan --interface eth5 --ip {WAN4}/24 --gateway {OUT4} --ip {WAN6}/64 --gateway {OUT6}"
        );
        succeeded(&line, &self.there(lab, &format!("{line} {flags}")));
        lab.ok("network create --subnet 10.1.0.0/24 --subnet fd00:1::/64 net1");
        lab.idle("alice", "net1");
    }
}

/// `packet`: a veth whose own kernel has nothing to do with what we send by it.
fn a_real_interface(lab: &Lab) {
    let Some(wire) = Wire::new(lab) else { return };
    let (place, away) = (wire.place(), wire.away());
    wire.uplink(lab, "");
    let _servers = [FAR4, FAR6].map(|address| lab.serves(away, WHO, &[address, "7000"]));
    for (far, wan) in [(FAR4, WAN4), (FAR6, WAN6)] {
        for proto in ["tcp", "udp"] {
            assert_eq!(seen_from(lab, "alice", proto, (far, 7000)), wan, "{proto}");
        }
    }
    // It has a MAC address of its own, or the interface's kernel would answer, too.
    let own = lab.succeeds(place, "ip -br link show eth5 | awk '{ print $3 }'");
    let known = lab.succeeds(away, &format!("ip neigh show {WAN4}"));
    assert!(known.contains("lladdr") && !known.contains(own.trim()), "{known}");
    lab.ok("publish alice 8000:80");
    let _server = lab.serves("alice", WHO, &["10.1.0.2", "80"]);
    assert_eq!(seen_from(lab, away, "tcp", (WAN4, 8000)), OUT4);
    // The link's state follows the interface's.
    lab.succeeds(place, "ip link set eth5 down");
    until("the uplink to be down", || lab.row("uplink ls", "name", "lan")["state"] == "link-down");
    lab.succeeds(place, "ip link set eth5 up");
    until("the uplink to be up", || lab.row("uplink ls", "name", "lan")["state"] == "up");
    until("packets to get out again", || lab.pings("alice", FAR4));
}

/// Its interface is somebody else's, and changes.
fn a_real_interface_is_followed(lab: &Lab) {
    let Some(wire) = Wire::new(lab) else { return };
    let (place, away) = (wire.place(), wire.away());
    lab.succeeds(place, "ip addr add 203.0.113.9/24 dev eth5");
    let refused = |line: &str| {
        let output = wire.there(lab, line);
        assert_eq!(output.status.code(), Some(1), "{line}");
        text(&output.stderr)
    };
    let add = "uplink add lan --interface";
    assert!(refused(&format!("{add} eth6 --ip {WAN4}/24")).contains("'eth6'"));
    assert!(refused(&format!("{add} eth5 --ip 203.0.113.9/24")).contains("eth5's own"));
    assert!(refused(&format!("{add} eth5 --ip {WAN4}/24 --mtu 9000")).contains("takes, 1500"));
    assert!(lab.json("uplink ls").is_empty());
    wire.uplink(lab, "");
    let row = || lab.row("uplink ls", "name", "lan");
    assert!(row()["interface_addresses"].as_str().unwrap().contains("203.0.113.9/24"), "{}", row());
    // Another address of ours, by which we are found at once.
    lab.ok("uplink set lan --mac 02:00:00:00:00:77");
    assert!(lab.pings("alice", FAR4) && lab.pings("alice", FAR6));
    assert!(lab.succeeds(away, &format!("ip neigh show {WAN4}")).contains("02:00:00:00:00:77"));
    let own = lab.succeeds(place, "ip -br link show eth5 | awk '{ print $3 }'");
    assert!(lab.refused(&format!("uplink set lan --mac {}", own.trim())).contains("eth5's own"));
    assert!(
        lab.refused(&format!("uplink set lan --ip 203.0.113.9/24 --ip {WAN6}/64")).contains("eth5's own")
    );
    assert!(lab.refused("uplink set lan --mtu 1501").contains("takes, 1500"));
    lab.ok(&format!("uplink set lan --ip 203.0.113.7/24 --ip {WAN6}/64"));
    assert!(lab.pings("alice", FAR4) && lab.pings("alice", FAR6));
    // As long as the interface takes, and no longer than was asked for.
    for (mtu, expected) in [("1400", 1400), ("1500", 1500), ("9000", 1500)] {
        lab.succeeds(place, &format!("ip link set eth5 mtu {mtu}"));
        until("the uplink to follow", || {
            row()["mtu"] == expected && row()["interface_mtu"] == mtu.parse::<u32>().unwrap()
        });
    }
    lab.ok("uplink set lan --mtu 9000");
    assert!(lab.succeeds(place, "ip link show eth5").contains("mtu 9000"), "not ours to change");
    lab.succeeds(place, "ip addr add 203.0.113.7/32 dev eth5");
    until("the conflict to be seen", || row()["state"] == "conflict");
    lab.succeeds(place, "ip addr del 203.0.113.7/32 dev eth5");
    until("its end", || row()["state"] == "up");
    lab.succeeds(away, "ip link set eth0 down");
    until("the lost carrier to be seen", || row()["state"] == "link-down");
    lab.succeeds(place, "ip link del eth5");
    until("the loss to be seen", || row()["state"] == "lost");
    lab.ok("uplink rm lan");
}
