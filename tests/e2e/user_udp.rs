//! UDP and pings by the user uplink: the kernel's own sockets on both sides of ours.

use crate::harness::{Lab, Process, until};
use crate::host::{HOST4, HOST6, Host, SERVER4, SERVER6};
use crate::uplink::PROBE;
use crate::world::{Place, WHO, ask, seen_from};

scenarios! {
    datagrams_of_all_sizes
    bursts_keep_their_datagrams
    errors_are_told
    one_port_for_all_servers
    the_host_by_datagrams
    pings_by_sockets
    pings_that_are_forbidden
    hops_are_real
    a_narrow_path
    mappings_when_descriptors_run_out
}

/// Sends everything back. Words: address, port.
const ECHO: &str = "
import socket, sys
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], int(sys.argv[2])))
print('ready')
while True:
    data, peer = s.recvfrom(65535)
    s.sendto(data, peer)
";

/// Sends datagrams of each size, and gets them back. Words: address, port, sizes.
const SIZES: &str = "
import os, socket, sys
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
to = (sys.argv[1], int(sys.argv[2]))
for size in map(int, sys.argv[3:]):
    data = os.urandom(size)
    s.sendto(data, to)
    back, peer = s.recvfrom(65535)
    assert back == data and peer[:2] == to, (size, len(back), peer)
";

fn datagrams_of_all_sizes(lab: &Lab) {
    let host = Host::new(lab, "");
    host.ok(lab, "run -d --no-offload --name plain --network net1");
    lab.ok("network create -o mtu=1280 --subnet 10.9.0.0/24 --subnet fd00:9::/64 narrow");
    host.idle(lab, "bob", "narrow");
    for (server, most) in [(SERVER4, "65507"), (SERVER6, "65527")] {
        let _server = lab.serves(host.far(), ECHO, &[server, "7"]);
        for from in ["alice", "plain", "bob"] {
            let sizes = ["0", "1", "1232", "1400", "1452", "1453", "1472", "1473", "9000", "65507", most];
            lab.python(from, SIZES, &[&[server, "7"][..], &sizes].concat());
        }
    }
    // What conntrack knows is what went out.
    let rows = lab.json("show conntrack");
    let row = rows.iter().find(|row| row["proto"] == "udp" && row["src"] == "10.1.0.2");
    let row = row.unwrap_or_else(|| panic!("{rows:#?}"));
    assert_eq!((&row["reply_src"], &row["reply_dst"]), (&SERVER4.into(), &"192.0.0.1".into()));
}

/// Answers a burst by one of as many datagrams: its first one's first byte says how many. Words: address, port.
const BURSTS: &str = "
import socket, struct, sys
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
s.bind((sys.argv[1], int(sys.argv[2])))
print('ready')
while True:
    data, peer = s.recvfrom(65535)
    burst = [data] + [s.recvfrom(65535)[0] for _ in range(data[0] - 1)]
    size = len(burst[0])
    s.sendmsg([b''.join(burst)], [(socket.IPPROTO_UDP, 103, struct.pack('H', size))], 0, peer)
";

/// Sends bursts in one call each (`UDP_SEGMENT`), and gets them back. Words: address, port, sizes.
const SENDS_BURSTS: &str = "
import os, socket, struct, sys
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
s.settimeout(5)
to = (sys.argv[1], int(sys.argv[2]))
for size in map(int, sys.argv[3:]):
    burst = [bytes([30]) + os.urandom(size - 1) for _ in range(29)] + [b'the end']
    s.sendmsg([b''.join(burst)], [(socket.IPPROTO_UDP, 103, struct.pack('H', size))], 0, to)
    back = [s.recv(65535) for _ in burst]
    assert back == burst, (size, [len(part) for part in back])
";

fn bursts_keep_their_datagrams(lab: &Lab) {
    let host = Host::new(lab, "");
    host.ok(lab, "run -d --no-offload --name plain --network net1");
    lab.ok("network create -o mtu=1280 --subnet 10.9.0.0/24 --subnet fd00:9::/64 narrow");
    host.idle(lab, "bob", "narrow");
    for server in [SERVER4, SERVER6] {
        let _server = lab.serves(host.far(), BURSTS, &[server, "7"]);
        for (from, most) in [("alice", "1452"), ("plain", "1452"), ("bob", "1232")] {
            lab.python(from, SENDS_BURSTS, &[server, "7", "100", "1200", most]);
        }
    }
}

/// What a datagram is answered with, as an errno's name; soft errors, too. Words: address, port.
const ERRNO: &str = "
import errno, socket, sys
v6 = ':' in sys.argv[1]
s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(*((socket.IPPROTO_IPV6, 25) if v6 else (socket.IPPROTO_IP, 11)), 1)
s.settimeout(5)
s.connect((sys.argv[1], int(sys.argv[2])))
s.send(b'x')
try: print(s.recv(10))
except OSError as error: print(errno.errorcode.get(error.errno, str(error)))
";

fn errors_are_told(lab: &Lab) {
    let host = Host::new(lab, "");
    lab.succeeds(
        host.near(),
        "ip route add unreachable 203.0.113.1; ip route add prohibit 203.0.113.2; \
         ip -6 route add unreachable 2001:db8::1",
    );
    lab.ok("uplink set user --deny 198.18.0.0/15");
    lab.succeeds(
        host.far(),
        "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding; \
         ip route add unreachable 198.51.100.1; ip -6 route add unreachable 2001:db8:f::1",
    );
    for (to, error) in [
        // By the server, the host, the policy, a router.
        (SERVER4, "ECONNREFUSED"),
        (SERVER6, "ECONNREFUSED"),
        ("203.0.113.1", "EHOSTUNREACH"),
        ("203.0.113.2", "EHOSTUNREACH"),
        ("2001:db8::1", "EHOSTUNREACH"),
        ("198.18.0.1", "EHOSTUNREACH"),
        ("192.0.0.2", "ECONNREFUSED"),
        ("fd4a:9c1e:77d3::2", "ECONNREFUSED"),
        ("198.51.100.1", "EHOSTUNREACH"),
        ("2001:db8:f::1", "ENETUNREACH"),
    ] {
        assert_eq!(lab.python("alice", ERRNO, &[to, "9"]).trim(), error, "{to}");
    }
    assert!(lab.drops("user", "host_denied") >= 2, "{}", lab.ok("show drops"));
    // An error costs no datagram that comes after it by the same socket.
    let _server = lab.serves(host.far(), WHO, &[SERVER4, "7000"]);
    assert!(ask(lab, "alice", "udp", (SERVER4, 9), 4444).is_err());
    assert!(ask(lab, "alice", "udp", (SERVER4, 7000), 4444).is_ok());
}

/// RFC 4787 REQ-1, and the host's port stays the same.
fn one_port_for_all_servers(lab: &Lab) {
    let host = Host::new(lab, "");
    lab.succeeds(host.far(), "ip addr add 10.99.0.3/24 dev eth0; ip addr add fd99::3/64 dev eth0 nodad");
    for (one, other) in [(SERVER4, "10.99.0.3"), (SERVER6, "fd99::3")] {
        let _servers = [one, other].map(|address| lab.serves(host.far(), WHO, &[address, "7000", "7001"]));
        let to = [(one, 7000), (other, 7000), (other, 7001), (one, 7001), (one, 7000)];
        let to = to.map(|(address, port)| format!("{address}/{port}"));
        let words: Vec<&str> = [one, "5555"].into_iter().chain(to.iter().map(String::as_str)).collect();
        let said = lab.python("alice", PROBE, &words);
        let mut seen: Vec<&str> = said.lines().collect();
        assert_eq!(seen.len(), 5);
        seen.dedup();
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert!(seen[0].starts_with(if one == SERVER4 { HOST4 } else { HOST6 }), "{seen:?}");
    }
}

fn the_host_by_datagrams(lab: &Lab) {
    let host = Host::new(lab, "");
    let _servers = ["127.0.0.1", "::1", HOST4].map(|own| lab.serves(host.near(), WHO, &[own, "8080"]));
    lab.ok("uplink set user --allow-host");
    for (to, from) in [("192.0.0.2", "127.0.0.1"), ("fd4a:9c1e:77d3::2", "::1"), (HOST4, HOST4)] {
        assert_eq!(seen_from(lab, "alice", "udp", (to, 8080)), from);
    }
    assert_eq!(ask(lab, "alice", "udp", ("192.0.0.2", 9), 0).unwrap_err(), "Connection refused");
}

/// The host lets its users ping.
fn let_ping(lab: &Lab, host: &Host) {
    lab.succeeds(host.near(), "echo '0 0' >/proc/sys/net/ipv4/ping_group_range");
}

fn pings_by_sockets(lab: &Lab) {
    let host = Host::new(lab, "");
    let_ping(lab, &host);
    host.idle(lab, "bob", "net1");
    for to in [SERVER4, SERVER6] {
        for size in ["0", "56", "1472", "9000", "65507"] {
            let said = lab.inside("alice", &format!("ping -n -c1 -W3 -s{size} {to}"));
            assert!(said.contains("1 received") && said.contains(&format!("from {to}")), "{said}");
        }
        // By turns with the same identifier, which is chosen by whoever pings.
        for from in ["alice", "bob", "alice"] {
            assert!(lab.inside(from, &format!("ping -n -e 77 -c1 -W3 {to}")).contains("1 received"));
        }
    }
    // The far end answers by itself.
    for to in ["192.0.0.2", "fd4a:9c1e:77d3::2"] {
        let said = lab.inside("alice", &format!("ping -n -c1 -W3 {to}; ping -n -c1 -W3 -s9000 {to}"));
        assert_eq!(said.matches("1 received").count(), 2, "{said}");
    }
    lab.succeeds(host.near(), "ip route add unreachable 203.0.113.1");
    let said = lab.says("alice", "ping -n -c1 -W3 203.0.113.1");
    assert!(said.contains("From 192.0.0.2 icmp_seq=1 Destination Host Unreachable"), "{said}");
}

fn pings_that_are_forbidden(lab: &Lab) {
    let host = Host::new(lab, "");
    // A new namespace lets nobody.
    let said = lab.says("alice", &format!("ping -n -c1 -W3 {SERVER4}"));
    assert!(said.contains("From 192.0.0.2 icmp_seq=1 Packet filtered"), "{said}");
    let said = lab.says("alice", &format!("ping -n -c1 -W3 {SERVER6}"));
    assert!(said.contains("Administratively prohibited"), "{said}");
    assert_eq!(lab.drops("user", "host_no_ping"), 2);
    assert!(lab.ok("show drops").contains("ping_group_range"));
    let_ping(lab, &host);
    assert!(lab.pings("alice", SERVER4) && lab.pings("alice", SERVER6));
}

/// Two routers and a server behind the host's wire: 10.99.0.2, 10.98.0.2, 10.97.0.2, and so in IPv6.
struct Chain {
    host: Host,
    last: [Process; 2],
}

impl Chain {
    fn new(lab: &Lab) -> Self {
        let host = Host::new(lab, "");
        let last = [(); 2].map(|()| lab.start(lab.at(host.far(), &["unshare", "-n", "sleep", "1000"])));
        for process in &last {
            until("a network namespace", || {
                std::fs::read_to_string(format!("/proc/{}/comm", process.pid())).unwrap() == "sleep\n"
            });
        }
        let chain = Self { host, last };
        let [router, server] = [0, 1].map(|at| Place::At(chain.last[at].pid()));
        for (near, far, net) in [(chain.host.far(), router, 98), (router, server, 97)] {
            let Place::At(pid) = far else { unreachable!() };
            lab.succeeds(
                near,
                &format!(
                    "ip link add eth1 type veth peer name eth0 netns {pid}; ip link set eth1 up; \
                     ip addr add 10.{net}.0.1/24 dev eth1; ip addr add fd{net}::1/64 dev eth1 nodad; \
                     echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding; \
                     echo 0 >/proc/sys/net/ipv4/icmp_ratelimit; echo 0 >/proc/sys/net/ipv6/icmp/ratelimit"
                ),
            );
            lab.succeeds(
                far,
                &format!(
                    "ip link set lo up; ip link set eth0 up; ip addr add 10.{net}.0.2/24 dev eth0; \
                     ip addr add fd{net}::2/64 dev eth0 nodad; ip route add default via 10.{net}.0.1; \
                     ip -6 route add default via fd{net}::1"
                ),
            );
        }
        lab.succeeds(
            chain.host.far(),
            "ip route add 10.97.0.0/24 via 10.98.0.2; ip -6 route add fd97::/64 via fd98::2",
        );
        // Routers need their link-local addresses to be known to be theirs.
        until("the path to work", || {
            lab.does(chain.host.near(), "ping -n -c1 -W1 10.97.0.2 && ping -n -c1 -W1 fd97::2")
                .status
                .success()
        });
        chain
    }
}

fn hops_are_real(lab: &Lab) {
    let chain = Chain::new(lab);
    let_ping(lab, &chain.host);
    for (to, hops) in [
        ("10.97.0.2", ["10.1.0.1", "10.99.0.2", "10.98.0.2", "10.97.0.2"]),
        ("fd97::2", ["fd00:1::1", "fd99::2", "fd98::2", "fd97::2"]),
    ] {
        for method in ["", "-I"] {
            let said = lab.inside("alice", &format!("traceroute {method} -n -q1 -w2 {to}"));
            let seen: Vec<&str> =
                said.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().nth(1)).collect();
            assert_eq!(seen, hops, "{method} {said}");
        }
        for (ttl, hop) in [(1, hops[0]), (2, hops[1]), (3, hops[2])] {
            let said = lab.says("alice", &format!("ping -n -c1 -W3 -t{ttl} {to}"));
            assert!(said.to_lowercase().contains(&format!("from {hop} icmp_seq=1 time")), "{ttl}: {said}");
        }
        assert!(lab.inside("alice", &format!("ping -n -c1 -W3 -t4 {to}")).contains("1 received"));
    }
}

/// Sends what must not be cut, until it is told the path's MTU. Words: address, port, size.
const MTU: &str = "
import socket, sys
v6 = ':' in sys.argv[1]
level, discover, mtu = (socket.IPPROTO_IPV6, 23, 24) if v6 else (socket.IPPROTO_IP, 10, 14)
s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(0.3)
s.setsockopt(level, discover, 2)
s.connect((sys.argv[1], int(sys.argv[2])))
data = b'x' * int(sys.argv[3])
for _ in range(20):
    try:
        s.send(data); s.recv(65535)
        raise SystemExit('it went through')
    except TimeoutError: continue
    except OSError as error:
        if error.errno == 90: break
        raise
print(s.getsockopt(level, mtu))
";

/// A link that takes less: who forbids fragments is told, who does not is served.
fn a_narrow_path(lab: &Lab) {
    let chain = Chain::new(lab);
    let [router, server] = [0, 1].map(|at| Place::At(chain.last[at].pid()));
    lab.succeeds(chain.host.far(), "ip link set eth1 mtu 1400");
    lab.succeeds(router, "ip link set eth0 mtu 1400");
    lab.succeeds(
        server,
        "ip route replace default via 10.97.0.1 mtu 1400; ip -6 route replace default via fd97::1 mtu 1400",
    );
    for to in ["10.97.0.2", "fd97::2"] {
        let _server = lab.serves(server, ECHO, &[to, "7"]);
        assert_eq!(lab.python("alice", MTU, &[to, "7", "1420"]).trim(), "1400", "{to}");
        lab.python("alice", SIZES, &[to, "7", "1420", "9000"]);
    }
}

/// Sends from many ports by turns, and counts who got an answer. Words: address, port, how many.
const PORTS: &str = "
import socket, sys
to, sockets = (sys.argv[1], int(sys.argv[2])), []
answers = 0
for _ in range(int(sys.argv[3])):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.5)
    sockets.append(s)
    s.sendto(b'x', to)
    try: s.recv(10); answers += 1
    except OSError: pass
print(answers)
";

fn mappings_when_descriptors_run_out(lab: &Lab) {
    let host = Host::new(lab, "");
    host.idle(lab, "bob", "net1");
    let _server = lab.serves(host.far(), ECHO, &[SERVER4, "7"]);
    let pid = lab.daemon_pid();
    lab.succeeds(host.near(), &format!("prlimit --pid {pid} --nofile=100:100"));
    // Who asks last is served: the mapping that would end first goes.
    assert_eq!(lab.python("alice", PORTS, &[SERVER4, "7", "200"]).trim(), "200", "{}", lab.ok("show drops"));
    assert_eq!(lab.python("bob", PORTS, &[SERVER4, "7", "20"]).trim(), "20");
    lab.ok("status");
}
