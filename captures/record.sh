#!/bin/bash
# Records real tools at work between namespaces of its own: alice -- router -- bob. Needs root, iproute2,
# tcpdump, ping, curl, traceroute and python3. Writes beside itself; times and ports differ on each run.
#
# usage: captures/record.sh
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
alice=alice-$$ router=router-$$ bob=bob-$$
children=()

end() {
    for child in "${children[@]}"; do kill "$child" 2>/dev/null || true; done
    for space in $alice $router $bob; do ip netns del "$space" 2>/dev/null || true; done
    rm -rf "$work" "/etc/netns/$alice"
}
trap end EXIT

in_space() { local space=$1; shift; ip netns exec "$space" "$@"; }

# listen SPACE INTERFACE NAME [TCPDUMP ARGUMENTS]: starts a capture and waits until it runs
listen() {
    local space=$1 interface=$2 file=$3; shift 3
    : >"$work/tcpdump"
    ip netns exec "$space" tcpdump -i "$interface" -U -w "$here/$file" -Z root "$@" 2>"$work/tcpdump" &
    recorder=$!
    until grep -q listening "$work/tcpdump"; do kill -0 "$recorder" || { cat "$work/tcpdump"; exit 1; }; done
}

# heard FILTER COUNT FILE: waits until the capture holds so many frames, then ends it
heard() {
    until [ "$(tcpdump -nr "$here/$3" "$1" 2>/dev/null | wc -l)" -ge "$2" ]; do kill -0 "$recorder"; done
    kill "$recorder"; wait "$recorder" || true
}

serve() { ip netns exec "$bob" python3 "$@" >"$work/served" 2>&1 & children+=($!); }
ready() { until in_space "$bob" ss -Hln "sport = :$1" 2>/dev/null | grep -q .; do :; done; }

for space in $alice $router $bob; do ip netns add "$space"; in_space "$space" ip link set lo up; done
ip -n "$alice" link add eth0 address 02:42:ac:13:00:02 type veth peer name eth0 address 02:42:ac:13:00:01 netns "$router"
ip -n "$bob" link add eth0 address 02:42:ac:14:00:02 type veth peer name eth1 address 02:42:ac:14:00:01 netns "$router"

ip -n "$router" link set eth0 up
listen "$router" eth0 ipv6.pcap                    # the interfaces' first words, too
in_space "$router" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
for link in "$alice eth0" "$router eth1" "$bob eth0"; do set -- $link; ip -n "$1" link set "$2" up; done
ip -n "$alice" address add 172.19.0.2/16 dev eth0; ip -n "$alice" address add fd00:19::2/64 dev eth0
ip -n "$router" address add 172.19.0.1/16 dev eth0; ip -n "$router" address add fd00:19::1/64 dev eth0
ip -n "$router" address add 172.20.0.1/16 dev eth1; ip -n "$router" address add fd00:20::1/64 dev eth1
ip -n "$bob" address add 172.20.0.2/16 dev eth0; ip -n "$bob" address add fd00:20::2/64 dev eth0
ip -n "$alice" route add default via 172.19.0.1; ip -n "$alice" -6 route add default via fd00:19::1
ip -n "$bob" route add default via 172.20.0.1; ip -n "$bob" -6 route add default via fd00:20::1
until in_space "$alice" ping -6 -c1 -W1 fd00:20::2 >"$work/ping"; do :; done
in_space "$alice" ping -6 -c3 -i.2 fd00:20::2 >"$work/ping"
heard 'icmp6 and ip6[40] == 129' 4 ipv6.pcap

listen "$router" eth0 ping.pcap arp or icmp
ip -n "$alice" neigh flush dev eth0
in_space "$alice" ping -c3 -i.2 172.20.0.2 >"$work/ping"
in_space "$alice" ping -c1 -W.2 172.19.0.77 >"$work/ping" || true
heard icmp 6 ping.pcap

listen "$router" eth0 fragments.pcap ip
in_space "$alice" ping -c2 -i.2 -s4000 172.20.0.2 >"$work/ping"
heard icmp 12 fragments.pcap

listen "$router" eth0 traceroute.pcap
in_space "$alice" traceroute -n -q2 -m4 172.20.0.2 >"$work/traceroute"
in_space "$alice" traceroute -n -I -q1 -m4 172.20.0.2 >"$work/traceroute"
in_space "$alice" traceroute -n -T -p81 -q1 -m4 172.20.0.2 >"$work/traceroute"
heard 'icmp or tcp' 8 traceroute.pcap

mkdir "$work/site"; echo hello >"$work/site/index.html"
serve -u -m http.server --directory "$work/site" 8000; ready 8000
listen "$router" eth0 http.pcap tcp
in_space "$alice" curl -s http://172.20.0.2:8000/ >"$work/curl"
in_space "$alice" curl -s http://172.20.0.2:8001/ >"$work/curl" || true      # nobody listens: RST
heard 'tcp[13] & 1 != 0' 2 http.pcap

# One side disappears while data is on its way: the other repeats it.
cat >"$work/slow.py" <<'PYTHON'
import socket, sys
peer = socket.create_connection(("172.20.0.2", 8000))
sys.stdin.readline()
peer.send(b"GET / HTTP/1.0\r\n\r\n")
sys.stdin.readline()
PYTHON
mkfifo "$work/go"
listen "$router" eth0 retransmit.pcap tcp
ip netns exec "$alice" python3 "$work/slow.py" <"$work/go" & children+=($!)
exec 9>"$work/go"
until in_space "$bob" ss -Hn state established 'sport = :8000' 2>/dev/null | grep -q .; do :; done
ip -n "$router" link set eth1 down
echo >&9
heard 'tcp[13] & 8 != 0' 4 retransmit.pcap
exec 9>&-
ip -n "$router" link set eth1 up
ip -n "$router" address add fd00:20::1/64 dev eth1 2>/dev/null || true

cat >"$work/dns.py" <<'PYTHON'
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("172.20.0.2", 53))
while True:
    query, peer = server.recvfrom(512)
    end = query.index(0, 12) + 5
    kind = query[end - 3]
    known = query[12:].startswith(b"\x03web")
    record = {1: socket.inet_pton(socket.AF_INET, "172.20.0.2"), 28: socket.inet_pton(socket.AF_INET6, "fd00:20::2")}
    data = record.get(kind) if known else None
    answer = b"\xc0\x0c" + bytes([0, kind, 0, 1, 0, 0, 2, 88, 0, len(data)]) + data if data else b""
    flags = b"\x85\x80" if known else b"\x85\x83"
    server.sendto(query[:2] + flags + bytes([0, 1, 0, 1 if data else 0, 0, 0, 0, 0]) + query[12:end] + answer, peer)
PYTHON
serve "$work/dns.py"; ready 53
mkdir -p "/etc/netns/$alice"; echo 'nameserver 172.20.0.2' >"/etc/netns/$alice/resolv.conf"
listen "$router" eth0 dns.pcap port 53
in_space "$alice" getent ahosts web.lab >"$work/names" || true
in_space "$alice" getent ahosts nobody.lab >"$work/names" || true
heard 'src port 53' 4 dns.pcap

listen "$router" eth0 gso.pcap -s 262144 'tcp and greater 60000'
head -c 2000000 /dev/zero >"$work/site/large"
in_space "$alice" curl -s http://172.20.0.2:8000/large >"$work/curl"
heard tcp 1 gso.pcap
tcpdump -nr "$here/gso.pcap" -c1 -w "$work/one" -Z root 2>/dev/null; mv "$work/one" "$here/gso.pcap"
