"""Four hosts on one network: each contender joins eth0 of them all, and returns its processes."""

import json
import os
import shutil

from comparison.lab import wait_for
from comparison.programs import OpenVSwitch, Tapswitch, usable_openvswitch, usable_tapswitch
from comparison.traffic import flooded, latency, tcp, udp

SUBNET = "10.99.0.0/24"
BROADCAST = "10.99.0.255"
HOSTS = "abcd"
# The first address is the gateway's.
ADDRESSES = {host: "10.99.0.%d" % (number + 2) for number, host in enumerate(HOSTS)}


def veth_ports(lab):
    """A veth pair per host: eth0 inside, port-X in the switch's namespace."""
    for host in HOSTS:
        lab.run(["ip", "link", "add", "port-" + host, "type", "veth", "peer", "name", "eth0",
                 "netns", lab.ns(host)], ns="s")
        lab.run(["ip", "link", "set", "port-" + host, "up"], ns="s")
        configure(lab, host)


def configure(lab, host):
    lab.run(["ip", "address", "add", ADDRESSES[host] + "/24", "broadcast", BROADCAST, "dev", "eth0"], ns=host)
    lab.run(["ip", "link", "set", "eth0", "up"], ns=host)


def kernel_bridge(lab):
    lab.run(["ip", "link", "add", "br0", "type", "bridge"], ns="s")
    lab.run(["ip", "link", "set", "br0", "up"], ns="s")
    veth_ports(lab)
    for host in HOSTS:
        lab.run(["ip", "link", "set", "port-" + host, "master", "br0"], ns="s")
    return []


def tapswitch(lab, *flags):
    switch = Tapswitch(lab, *flags)
    switch.run("network", "create", "--subnet", SUBNET, "lan")
    for host in HOSTS:
        switch.plug(host, "lan")
    return [switch.process]


def tapswitch_plain(lab):
    return tapswitch(lab, "--no-offload")


def vde(lab):
    socket = os.path.join(lab.directory, "vde")
    # Without -d it stays in our group, and ends when its console (stdin) does.
    processes = [lab.start(["vde_switch", "-s", socket])]
    wait_for(lambda: os.path.exists(socket + "/ctl"), "vde_switch's socket")
    for host in HOSTS:
        processes.append(lab.start(["vde_plug2tap", "-s", socket, "eth0"], ns=host))
        wait_for(lambda: has_interface(lab, host), "vde_plug2tap's interface")
        configure(lab, host)
    return processes


def has_interface(lab, host):
    return any(link["ifname"] == "eth0" for link in json.loads(lab.ip("-n", lab.ns(host), "-j", "link")))


def openvswitch(lab):
    veth_ports(lab)
    return [OpenVSwitch(lab, ["port-" + host for host in HOSTS]).process]


CONTENDERS = {
    "bridge": (kernel_bridge, lambda: True),
    "tapswitch": (tapswitch, usable_tapswitch),
    "tapswitch-plain": (tapswitch_plain, usable_tapswitch),
    "vde": (vde, lambda: shutil.which("vde_switch") and shutil.which("vde_plug2tap")),
    "ovs": (openvswitch, usable_openvswitch),
}


def measure(lab, setup, seconds):
    """All figures of one contender."""
    switch = setup(lab)
    for host in HOSTS:
        for other in HOSTS.replace(host, ""):
            lab.run(["ping", "-c", "1", "-w", "10", "-q", ADDRESSES[other]], ns=host)
    result = tcp(lab, switch, 1, seconds)
    result |= tcp(lab, switch, 4, seconds)
    result |= udp(lab, switch, seconds)
    result |= latency(lab, seconds)
    result |= flooded(lab, "flood", ADDRESSES["d"], seconds)
    result |= flooded(lab, "broadcast", BROADCAST, seconds, is_broadcast=True)
    return result
