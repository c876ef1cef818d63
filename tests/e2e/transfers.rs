//! Much at once through the router: bulk both ways, many connections, narrow paths, fragments.

use serde_json::Value;

use crate::harness::{Lab, Process, until};
use crate::world::{FAR4, FAR6, OUT4, OUT6, Outside, Place, Server, WAN4, WAN6, two_networks};

scenarios! {
    a_hundred_megabytes_by_http
    iperf_both_ways
    a_thousand_connections
    an_uplink_narrower_than_the_network
    a_path_that_is_narrow_further_out
    fragments_are_translated
}

/// A hundred megabytes that both ends can make, over HTTP: GET gets them, PUT says what came.
const HTTP: &str = "
import hashlib, http.server, random, socket, sys
data = random.Random(7).randbytes(100_000_000)
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, body):
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self): self.answer(data)
    def do_PUT(self):
        left, digest = int(self.headers['Content-Length']), hashlib.sha256()
        while left:
            part = self.rfile.read(min(left, 1 << 18))
            digest.update(part); left -= len(part)
        self.answer(digest.hexdigest().encode())
    def log_message(self, *_): pass
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
server = Server((sys.argv[1], int(sys.argv[2])), Handler)
print('ready')
server.serve_forever()
";
/// SHA-256 of [`HTTP`]'s data, as Python's generator makes it.
const HTTP_SHA256: &str = "b945f858138f003591b413d6d9758226c7fd3f95f1880771a1afdce487ce11d7";

/// Gets and puts a hundred megabytes with curl.
#[track_caller]
pub(crate) fn curl_both_ways<'a>(lab: &Lab, from: impl Into<Place<'a>>, url: &str) {
    let script = format!(
        "f=$(mktemp); curl -gsS -m 50 -o $f {url} && sha256sum <$f && \
         curl -gsS -m 50 -H Expect: -T $f {url}; s=$?; rm -f $f; exit $s"
    );
    let said = lab.succeeds(from, &script);
    let digests: Vec<&str> = said.split_ascii_whitespace().filter(|word| *word != "-").collect();
    assert_eq!(digests, [HTTP_SHA256, HTTP_SHA256], "{url}");
}

/// The server of [`curl_both_ways`].
#[track_caller]
pub(crate) fn serve_http<'a>(lab: &Lab, at: impl Into<Place<'a>>, host: &str, port: &str) -> Server {
    lab.serves(at, HTTP, &[host, port])
}

fn a_hundred_megabytes_by_http(lab: &Lab) {
    two_networks(lab, "");
    lab.ok("run -d --no-offload --name plain --network net1");
    let outside = Outside::behind(lab, "");
    for far in [FAR4, FAR6] {
        let _server = serve_http(lab, &outside, far, "8080");
        let url =
            if far.contains(':') { format!("http://[{far}]:8080/") } else { format!("http://{far}:8080/") };
        curl_both_ways(lab, "alice", &url);
        curl_both_ways(lab, "plain", &url);
    }
}

/// Runs iperf3 in one place against another; its report.
#[track_caller]
pub(crate) fn iperf<'a>(
    lab: &Lab,
    from: impl Into<Place<'a>>,
    to: impl Into<Place<'a>>,
    host: &str,
    flags: &str,
) -> Value {
    // One that answers datagrams does so with the address that is bound, not the route's.
    let bound: &[&str] = if flags.contains("-u") { &["-B", host] } else { &[] };
    let mut command = lab.at(to, &[&["iperf3", "-s", "-1", "--forceflush"], bound].concat());
    command.stdout(std::process::Stdio::piped());
    let mut server = lab.start(command);
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(server.0.stdout.take().unwrap()));
    assert!(lines.any(|line| line.unwrap().contains("Server listening")), "iperf3 does not listen");
    let report = lab.succeeds(from, &format!("iperf3 -J -t1 -c {host} {flags}"));
    assert_eq!(server.code(), Some(0));
    serde_json::from_str(&report).unwrap()
}

fn iperf_both_ways(lab: &Lab) {
    two_networks(lab, "");
    let outside = Outside::behind(lab, "");
    for far in [FAR4, FAR6] {
        for flags in ["", "-R", "-P4", "--bidir"] {
            let report = iperf(lab, "alice", &outside, far, flags);
            let bytes = report["end"]["sum_received"]["bytes"].as_u64().unwrap();
            assert!(bytes > 1_000_000, "{far} {flags}: {bytes} bytes");
        }
        for flags in ["-u -b10M", "-u -b10M -R"] {
            let report = iperf(lab, "alice", &outside, far, flags);
            let sum = &report["end"]["sum"];
            assert!(sum["packets"].as_u64().unwrap() > 100, "{far} {flags}: {sum}");
            assert!(sum["lost_percent"].as_f64().unwrap() < 20.0, "{far} {flags}: {sum}");
        }
    }
}

/// Answers on many connections at once.
pub(crate) const MANY: &str = "
import asyncio, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
peers = set()
async def serve(reader, writer):
    peers.add(writer.get_extra_info('peername')[:2])
    try:
        while data := await reader.readexactly(4096):
            writer.write(b'%d ' % len(peers) + data)
    except asyncio.IncompleteReadError: pass
    writer.close()
async def main():
    await asyncio.start_server(serve, sys.argv[1], 7500, backlog=2000)
    print('ready')
    await asyncio.Event().wait()
asyncio.run(main())
";

/// Opens a thousand connections; when all are open, each sends what only it knows, and must get that back.
/// Says `ready` then, and holds them.
pub(crate) const THOUSAND: &str = "
import asyncio, os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
async def main():
    ends = await asyncio.gather(*(asyncio.open_connection(sys.argv[1], 7500) for _ in range(1000)))
    async def verify(reader, writer):
        for _ in range(2):
            data = os.urandom(4096)
            writer.write(data)
            count = int(await reader.readuntil(b' '))
            assert await reader.readexactly(4096) == data
        return count
    counts = await asyncio.gather(*(verify(*end) for end in ends))
    assert max(counts) == 1000, max(counts)
    print('ready')
    await asyncio.Event().wait()
asyncio.run(main())
";

fn a_thousand_connections(lab: &Lab) {
    two_networks(lab, "");
    let outside = Outside::behind(lab, "");
    for (far, wan) in [(FAR4, WAN4), (FAR6, WAN6)] {
        let _server = lab.serves(&outside, MANY, &[far]);
        let _client = lab.serves("alice", THOUSAND, &[far]);
        let rows = lab.json("show conntrack");
        let of = |row: &&Value| row["dst"] == far && row["dport"] == 7500 && row["state"] == "ESTABLISHED";
        let flows: Vec<&Value> = rows.iter().filter(of).collect();
        assert_eq!(flows.len(), 1000);
        assert!(flows.iter().all(|row| row["reply_dst"] == wan && row["packets"].as_u64().unwrap() >= 6));
        let mut ports: Vec<u64> = flows.iter().map(|row| row["reply_dport"].as_u64().unwrap()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 1000, "each has a port of its own");
    }
}

/// Every byte comes back, by TCP as soon as it is there, by UDP in reverse. Words: address.
const MIRROR: &str = "
import socket, sys, threading
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
tcp = socket.create_server((sys.argv[1], 7600), family=family)
udp = socket.socket(family, socket.SOCK_DGRAM)
udp.bind((sys.argv[1], 7600))
def mirror():
    while True:
        data, peer = udp.recvfrom(65535)
        udp.sendto(data[::-1], peer)
threading.Thread(target=mirror, daemon=True).start()
print('ready')
while True:
    c, _ = tcp.accept()
    while data := c.recv(1 << 16): c.sendall(data)
    c.close()
";

/// Sends two megabytes to a [`MIRROR`] by TCP, and datagrams of the sizes given. Words: address, sizes.
const LOOK: &str = "
import errno, os, socket, sys, threading
c = socket.create_connection((sys.argv[1], 7600), 10)
data = os.urandom(2_000_000)
def send():
    c.sendall(data)
    c.shutdown(socket.SHUT_WR)
threading.Thread(target=send).start()
assert b''.join(iter(lambda: c.recv(1 << 16), b'')) == data
u = socket.socket(c.family, socket.SOCK_DGRAM)
u.settimeout(10)
u.connect((sys.argv[1], 7600))
for size in map(int, sys.argv[2:]):
    data = os.urandom(size)
    while True:
        # Who was told that a datagram was too long sends it again, in fragments that are not.
        try:
            u.send(data)
            answer = u.recv(65535)
            break
        except OSError as error:
            if error.errno != errno.EMSGSIZE: raise
    assert answer == data[::-1], size
";

/// What a place knows of paths' MTUs is forgotten.
fn forget_paths<'a>(lab: &Lab, at: impl Into<Place<'a>>) {
    lab.succeeds(at, "ip route flush cache; ip -6 route flush cache");
}

/// Asserts that a path of this MTU is found out, and that everything gets through it.
#[track_caller]
fn path_is(lab: &Lab, mtu: u32, hop: (&str, &str), far: &str) {
    let header = if far.contains(':') { 48 } else { 28 };
    // The first time addresses are asked for on the way, which takes a kernel that has just come up a second.
    let too_big = format!("ping -n -c1 -W5 -M do -s {} {far}", 1500 - header);
    let said = lab.says("alice", &too_big);
    let (frag, big) = (format!("Frag needed and DF set (mtu = {mtu})"), format!("Packet too big: mtu={mtu}"));
    let by = if far.contains(':') { hop.1 } else { hop.0 };
    assert!(said.contains(&format!("From {by} ")) && (said.contains(&frag) || said.contains(&big)), "{said}");
    lab.inside("alice", &format!("ping -n -c1 -W5 -M do -s {} {far}", mtu - header));
    forget_paths(lab, "alice");
    let path = lab.inside("alice", &format!("tracepath -n {far}"));
    assert!(path.contains(by) && path.contains(&format!("Resume: pmtu {mtu} ")), "{path}");
    forget_paths(lab, "alice");
    lab.python("alice", LOOK, &[far, "100", "1200", "8000"]);
}

fn an_uplink_narrower_than_the_network(lab: &Lab) {
    two_networks(lab, "");
    let outside = Outside::behind(lab, "--mtu 1400");
    assert_eq!(lab.succeeds(&outside, "cat /sys/class/net/eth0/mtu"), "1400\n");
    for far in [FAR4, FAR6] {
        let _mirror = lab.serves(&outside, MIRROR, &[far]);
        path_is(lab, 1400, ("10.1.0.1", "fd00:1::1"), far);
    }
    forget_paths(lab, "alice");
    // Whoever allows it is cut.
    lab.inside("alice", &format!("ping -n -c1 -W2 -M dont -s 1472 {FAR4}"));
    lab.ok("uplink set wan --mtu 1500");
    lab.succeeds(&outside, "ip link set eth0 mtu 1500");
    lab.inside("alice", &format!("ping -n -c1 -W2 -M do -s 1472 {FAR4}"));
}

/// A host two hops out, behind a link of 1300 bytes; it keeps whoever holds it.
fn host_behind_a_narrow_link(lab: &Lab, outside: &Outside) -> Process {
    let own = std::fs::read_link(format!("/proc/{}/ns/net", outside.pid())).unwrap();
    let host = lab.start(lab.at(outside, &["unshare", "-n", "sleep", "1000"]));
    until("a namespace behind the outside", || {
        let comm = std::fs::read_to_string(format!("/proc/{}/comm", host.pid())).unwrap();
        comm == "sleep\n" && std::fs::read_link(format!("/proc/{}/ns/net", host.pid())).unwrap() != own
    });
    let pid = host.pid();
    lab.succeeds(
        outside,
        &format!(
            "ip link add narrow mtu 1300 type veth peer name eth0 mtu 1300 netns {pid}; ip link set narrow up; \
             ip addr add 192.0.2.1/24 dev narrow; ip addr add 2001:db8:b::1/64 dev narrow nodad; \
             echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"
        ),
    );
    lab.succeeds(
        Place::At(pid),
        "ip link set lo up; ip link set eth0 up; \
         ip addr add 192.0.2.2/24 dev eth0; ip addr add 2001:db8:b::2/64 dev eth0 nodad; \
         ip route add default via 192.0.2.1; ip -6 route add default via 2001:db8:b::1",
    );
    host
}

/// The router that says "too big" never saw the container's address: its error is about the translated packet.
fn a_path_that_is_narrow_further_out(lab: &Lab) {
    two_networks(lab, "");
    let outside = Outside::behind(lab, "");
    let host = host_behind_a_narrow_link(lab, &outside);
    for far in ["192.0.2.2", "2001:db8:b::2"] {
        let _mirror = lab.serves(Place::At(host.pid()), MIRROR, &[far]);
        path_is(lab, 1300, (OUT4, OUT6), far);
        let said = lab.inside("alice", &format!("traceroute -n -q1 -w1 {far}"));
        let hops: Vec<&str> =
            said.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().nth(1)).collect();
        let expected = if far.contains(':') { ["fd00:1::1", OUT6, far] } else { ["10.1.0.1", OUT4, far] };
        assert_eq!(hops, expected);
    }
}

fn fragments_are_translated(lab: &Lab) {
    two_networks(lab, "");
    lab.ok("run -d --no-offload --name plain --network net1");
    let outside = Outside::behind(lab, "");
    for far in [FAR4, FAR6] {
        let _mirror = lab.serves(&outside, MIRROR, &[far]);
        for from in ["alice", "plain"] {
            lab.inside(from, &format!("ping -n -c2 -i0.2 -W2 -s 8000 {far}"));
            lab.python(from, LOOK, &[far, "1473", "3000", "20000", "60000"]);
        }
    }
    assert!(
        lab.json("show drops").iter().all(|row| !row["reason"].as_str().unwrap().starts_with("fragment"))
    );
}
