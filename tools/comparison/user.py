"""A network's flows as sockets of the machine it runs on, without a router: host a asks, host b answers.

  user-out  a inside, b outside: a's flows become sockets in the switch's namespace, one veth away from b
  user-in   a outside, b inside: a asks the address of the switch's namespace, at ports that are published

The same places as masqueraded and published, so the kernel with Docker's rules is the measure here too. Names with
-65520 have that MTU inside, the others 1500. Each contender returns its processes.
"""

import functools
import json
import os
import shutil
import socket

from comparison.lab import Failed, wait_for
from comparison.programs import Tapswitch, usable_tapswitch
from comparison.routed import (GATEWAYS, NETS, OUTSIDE, TCP_PORTS, UDP_PORTS, Path, configure, kernel, own_address,
                               veth)
from comparison.traffic import churn, largest_kib, latency, tcp, udp

PATHS = {path.name: path for path in (
    Path("user-out", {"a": 1}, outside="b"),
    Path("user-in", {"b": 1}, outside="a"),
)}
LARGE_MTU = 65520
CHURNED_CONNECTIONS = 20_000


def machine(lab, path):
    """The switch's namespace as a machine with an address and a way out."""
    veth(lab, path, path.outside)
    own_address(lab, path)
    lab.run(["ip", "route", "add", "default", "via", OUTSIDE], ns="s")
    (inside,) = path.inside
    return inside


def wait_for_route(lab, host):
    wait_for(lambda: lab.ip("-n", lab.ns(host), "route", "show", "default"), "the default route of host " + host)


def tapswitch(lab, path, mtu=1500):
    inside = machine(lab, path)
    switch = Tapswitch(lab, ns="s")
    switch.run("network", "create", "--subnet", NETS[1], "-o", "mtu=%d" % mtu, "net1")
    publish = ["%d:%d/%s" % (port, port, proto) for proto, port in published(path)]
    switch.plug(inside, "net1", *(word for one in publish for word in ("-p", one)))
    return [switch.process]


def published(path):
    """Protocols and ports that must be reachable from outside."""
    if not path.targets:
        return []
    return [(proto, port) for proto, ports in (("tcp", TCP_PORTS), ("udp", UDP_PORTS)) for port in ports]


def pasta(lab, path, mtu=1500):
    inside = machine(lab, path)
    ports = {name: ",".join(str(port) for proto, port in published(path) if proto == name) or "none"
             for name in ("tcp", "udp")}
    process = lab.start(
        ["pasta", "--foreground", "--quiet", "--ipv4-only", "--runas", "0", "--config-net", "--mtu", str(mtu),
         "--netns", "/run/netns/" + lab.ns(inside), "--ns-ifname", "eth0", "--address", path.addresses[inside],
         "--netmask", "24", "--gateway", GATEWAYS[1], "--no-map-gw",
         "-t", ports["tcp"], "-u", ports["udp"], "-T", "none", "-U", "none"], ns="s")
    wait_for_route(lab, inside)
    # It sends to everybody, which a host ignores, until it has heard the host's MAC address; any frame will do.
    lab.run(["sh", "-c", "ping -c 1 -W 1 -q %s || true" % GATEWAYS[1]], ns=inside)
    return [process]


def slirp4netns(lab, path, mtu=1500):
    inside = machine(lab, path)
    control = os.path.join(lab.directory, "slirp")
    process = lab.start(
        ["slirp4netns", "--configure", "--mtu", str(mtu), "--cidr", NETS[1], "--disable-host-loopback",
         "--api-socket", control, "--netns-type", "path", "/run/netns/" + lab.ns(inside), "eth0"], ns="s")
    wait_for_route(lab, inside)
    for proto, port in published(path):
        wait_for(lambda: forward(control, proto, port, path.addresses[inside]), "slirp4netns's control socket")
    return [process]


def forward(control, proto, port, address):
    """Asks slirp4netns for a forwarded port; false when it does not listen yet."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        try:
            connection.connect(control)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        connection.sendall(json.dumps({"execute": "add_hostfwd", "arguments": {
            "proto": proto, "host_addr": "0.0.0.0", "host_port": port, "guest_addr": address,
            "guest_port": port}}).encode())
        connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile().read()
    if "error" in answer:
        raise Failed("slirp4netns: " + answer)
    return True


def both(name, setup, usable):
    """With the usual MTU, and with a large one."""
    return {name: (setup, usable), "%s-%d" % (name, LARGE_MTU): (functools.partial(setup, mtu=LARGE_MTU), usable)}


CONTENDERS = {
    "kernel": (kernel, lambda: True),
    **both("tapswitch", tapswitch, lambda: usable_tapswitch("uplink add", "--user")),
    **both("slirp4netns", slirp4netns, lambda: shutil.which("slirp4netns")),
    **both("pasta", pasta, lambda: shutil.which("pasta")),
}


def measure(lab, path, setup, seconds):
    """All figures of one contender on one path."""
    switch = setup(lab, path)
    idle = largest_kib(switch)
    result = tcp(lab, switch, 1, seconds)
    result |= tcp(lab, switch, 1, seconds, reverse=True)
    result |= udp(lab, switch, seconds)
    result |= latency(lab, seconds)
    # Last: slirp4netns is slow ever after.
    churn(lab, CHURNED_CONNECTIONS)
    if switch:
        result |= {"rss_idle_kib": idle, "rss_churned_kib": largest_kib(switch)}
    return result
