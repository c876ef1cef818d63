//! TCP by the user uplink: the kernel's own TCP on both sides of ours.

use crate::harness::{Lab, until};
use crate::host::{HOST4, HOST6, Host, SERVER4, SERVER6, url};
use crate::transfers::{MANY, THOUSAND, curl_both_ways, serve_http};
use crate::world::{WHO, seen_from};

scenarios! {
    a_hundred_megabytes_by_sockets
    half_closed_reset_and_refused
    what_is_not_reached
    the_host_where_it_may_be
    a_thousand_sockets
    a_reader_that_stands_still
    a_flood_of_syns_is_its_senders_alone
    when_descriptors_run_out
}

/// The daemon's own memory, in KiB; pages of the program and of libraries come and go as the kernel likes.
pub(crate) fn resident(lab: &Lab) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", lab.daemon_pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn a_hundred_megabytes_by_sockets(lab: &Lab) {
    let host = Host::new(lab, "");
    lab.ok("network create -o mtu=9000 --subnet 10.9.0.0/24 --subnet fd00:9::/64 jumbo");
    host.idle(lab, "bob", "jumbo");
    host.ok(lab, "run -d --no-offload --name plain --network net1");
    for far in [SERVER4, SERVER6] {
        let _server = serve_http(lab, host.far(), far, "8080");
        for container in ["alice", if far == SERVER4 { "bob" } else { "plain" }] {
            curl_both_ways(lab, container, &url(far, 8080));
        }
    }
    assert!(resident(lab) < 32 * 1024, "{} KiB: nothing is buffered", resident(lab));
}

/// Serves one of each kind of end. Words: address.
const ENDS: &str = "
import socket, struct, sys, threading
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
def serve(port, how):
    server = socket.create_server((sys.argv[1], port), family=family)
    def run():
        while True: how(server.accept()[0])
    threading.Thread(target=run, daemon=True).start()
def after_end(c):
    data = b''
    while part := c.recv(65536): data += part
    c.sendall(b'%d bytes' % len(data)); c.close()
def first_end(c):
    c.sendall(b'bye'); c.shutdown(socket.SHUT_WR)
    data = b''
    while part := c.recv(65536): data += part
    print(len(data), flush=True); c.close()
def reset(c):
    c.recv(1)
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); c.close()
def was_reset(c):
    try: print('end' if not c.recv(1) else 'data', flush=True)
    except ConnectionResetError: print('reset', flush=True)
for port, how in (7001, after_end), (7002, first_end), (7003, reset), (7004, was_reset): serve(port, how)
print('ready', flush=True)
threading.Event().wait()
";

/// Meets each kind of end. Words: address.
const MEETS: &str = "
import socket, struct, sys
def connect(port): return socket.create_connection((sys.argv[1], port), timeout=10)
c = connect(7001); c.sendall(b'x' * 300000); c.shutdown(socket.SHUT_WR)
assert c.recv(100) == b'300000 bytes' and c.recv(1) == b''
c = connect(7002)
assert c.recv(100) == b'bye' and c.recv(1) == b''
c.sendall(b'y' * 200000); c.close()
c = connect(7003); c.sendall(b'z')
try: c.recv(1); raise SystemExit('no reset')
except ConnectionResetError: pass
c = connect(7004)
c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); c.close()
try: connect(7005); raise SystemExit('connected')
except ConnectionRefusedError: pass
";

fn half_closed_reset_and_refused(lab: &Lab) {
    let host = Host::new(lab, "");
    for far in [SERVER4, SERVER6] {
        let mut server = lab.serves(host.far(), ENDS, &[far]);
        lab.python("alice", MEETS, &[far]);
        let mut said: Vec<String> = server.lines.by_ref().take(2).collect();
        said.sort();
        assert_eq!(said, ["200000", "reset"], "{far}");
    }
    until("all sockets to be closed", || {
        let sockets =
            lab.succeeds(host.near(), "ss -Htan state established state fin-wait-1 state close-wait");
        sockets.lines().count() == 0
    });
}

/// What a connection ends with, as an errno's name.
const ERRNO: &str = "
import errno, socket, sys
try: socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10).close(); print('connected')
except OSError as error: print(errno.errorcode.get(error.errno, str(error)))
";

fn what_is_not_reached(lab: &Lab) {
    let host = Host::new(lab, "");
    let errno = |to: &str, port: &str| lab.python("alice", ERRNO, &[to, port]).trim().to_owned();
    lab.succeeds(
        host.near(),
        "ip route add unreachable 203.0.113.1; ip -6 route add unreachable 2001:db8::1; \
         ip route add prohibit 203.0.113.2",
    );
    for (to, expected) in [
        ("203.0.113.1", "EHOSTUNREACH"),
        ("2001:db8::1", "EHOSTUNREACH"),
        ("203.0.113.2", "EHOSTUNREACH"),
        // The host's loopback, which nothing stands for.
        ("192.0.0.2", "ECONNREFUSED"),
        ("fd4a:9c1e:77d3::2", "ECONNREFUSED"),
    ] {
        assert_eq!(errno(to, "80"), expected, "{to}");
    }
    assert!(lab.drops("user", "host_denied") >= 2);
    // Cloud metadata: what is link-local leaves no link.
    lab.does("alice", "curl -sS -m 1 http://169.254.169.254/");
    assert!(lab.drops("alice", "martian_destination") > 0);
    // The user's own list.
    lab.ok("uplink set user --deny 10.99.0.0/24 --deny-private");
    assert_eq!(errno(SERVER4, "80"), "EHOSTUNREACH");
    assert_eq!(errno(SERVER6, "80"), "EACCES", "private as well");
    lab.ok("uplink set user --source 10.99.0.1");
    assert_eq!(errno(SERVER4, "80"), "ECONNREFUSED");
}

fn the_host_where_it_may_be(lab: &Lab) {
    let host = Host::new(lab, "");
    let _servers = ["127.0.0.1", "::1", HOST4].map(|own| lab.serves(host.near(), WHO, &[own, "8080"]));
    lab.ok("uplink set user --allow-host");
    for (to, from) in [("192.0.0.2", "127.0.0.1"), ("fd4a:9c1e:77d3::2", "::1"), (HOST4, HOST4)] {
        assert_eq!(seen_from(lab, "alice", "tcp", (to, 8080)), from);
    }
}

fn a_thousand_sockets(lab: &Lab) {
    let host = Host::new(lab, "");
    let before = resident(lab);
    for far in [SERVER4, SERVER6] {
        let _server = lab.serves(host.far(), MANY, &[far]);
        let _client = lab.serves("alice", THOUSAND, &[far]);
        let rows = lab.json("show conntrack");
        let of = |row: &&serde_json::Value| row["dst"] == far && row["state"] == "ESTABLISHED";
        let flows: Vec<_> = rows.iter().filter(of).collect();
        assert_eq!(flows.len(), 1000);
        // Each says which socket of the host it is, and the host's own tools know it.
        let own = flows[0]["host_socket"].as_str().unwrap();
        let known = lab.succeeds(host.near(), "ss -Htn state established");
        assert!(
            own.starts_with(&if far == SERVER4 { format!("{HOST4}:") } else { format!("[{HOST6}]:") }),
            "{own}"
        );
        assert!(known.contains(&format!("{own} ")), "{own} in {known}");
    }
    let grown = resident(lab).saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB for a thousand connections at a time");
}

/// Sends for ever to who does not read, for three seconds; then reads all. Words: address.
const STILL: &str = "
import socket, sys, time
c = socket.create_connection((sys.argv[1], 7100), timeout=30)
c.settimeout(3)
sent, block = 0, bytes(range(256)) * 256
try:
    while True: sent += c.send(block[sent % 256:])
except TimeoutError: pass
c.settimeout(30)
c.shutdown(socket.SHUT_WR)
left = sent
while left:
    part = c.recv(65536)
    assert part, left
    assert part == (block + block)[(sent - left) % 256:][:len(part)]
    left -= len(part)
print(sent)
";

/// Reads nothing for a while, and then gives everything back.
const HOLDS: &str = "
import select, socket, sys, threading
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
server = socket.create_server((sys.argv[1], 7100), family=family)
print('ready', flush=True)
while True:
    c = server.accept()[0]
    poll = select.poll(); poll.register(c, select.POLLRDHUP)
    threading.Event().wait(4)
    data = b''
    while part := c.recv(1 << 20): data += part
    c.sendall(data); c.close()
";

fn a_reader_that_stands_still(lab: &Lab) {
    let host = Host::new(lab, "");
    let before = resident(lab);
    for far in [SERVER4, SERVER6] {
        let _server = lab.serves(host.far(), HOLDS, &[far]);
        let sent: usize = lab.python("alice", STILL, &[far]).trim().parse().unwrap();
        assert!((200_000..64 << 20).contains(&sent), "{far}: {sent}");
    }
    assert!(resident(lab) < before + 2048, "what waits is in the kernel's buffers");
}

/// Begins two thousand connections to where nobody is, and says when it has. Words: address.
const BEGINS: &str = "
import resource, socket, sys, threading
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
held = []
for _ in range(2000):
    s = socket.socket(); s.setblocking(False)
    s.connect_ex((sys.argv[1], 9)); held.append(s)
print('ready', flush=True)
threading.Event().wait()
";

fn a_flood_of_syns_is_its_senders_alone(lab: &Lab) {
    let host = Host::new(lab, "");
    host.idle(lab, "bob", "net1");
    let _server = lab.serves(host.far(), WHO, &[SERVER4, "7000"]);
    // Its neighbour's address is known, so that nobody refuses.
    lab.succeeds(host.near(), "ip neigh add 10.99.0.77 lladdr 02:00:00:00:00:77 dev eth0");
    let _flood = lab.serves("alice", BEGINS, &["10.99.0.77"]);
    until("its limit", || lab.drops("user", "host_limit") > 0);
    assert_eq!(seen_from(lab, "alice", "tcp", (SERVER4, 7000)), "-");
    assert_eq!(seen_from(lab, "bob", "tcp", (SERVER4, 7000)), HOST4);
}

/// Opens connections until one is not answered; says how many there are, and when told, closes all.
const TAKES: &str = "
import socket, sys
held = []
try:
    while len(held) < 400: held.append(socket.create_connection((sys.argv[1], 7500), timeout=3))
except OSError: pass
print('ready', flush=True)
print(len(held), flush=True)
sys.stdin.read()
";

fn when_descriptors_run_out(lab: &Lab) {
    let host = Host::new(lab, "");
    host.idle(lab, "bob", "net1");
    let _server = lab.serves(host.far(), MANY, &[SERVER4]);
    let pid = lab.daemon_pid();
    let limit = format!("prlimit --pid {pid} --nofile=200:200");
    lab.succeeds(host.near(), &limit);
    let mut greedy = lab.serves("alice", TAKES, &[SERVER4]);
    let held: usize = greedy.lines.next().unwrap().parse().unwrap();
    assert!((50..200).contains(&held), "{held}");
    assert!(lab.drops("user", "host_no_descriptor") > 0, "{}", lab.ok("show drops"));
    // Nothing else suffers; and who comes when they are closed finds room.
    assert!(lab.pings("bob", "10.1.0.1"));
    lab.ok("status");
    drop(greedy);
    let again = lab.python("bob", ERRNO, &[SERVER4, "7500"]);
    assert_eq!(again.trim(), "connected");
}
