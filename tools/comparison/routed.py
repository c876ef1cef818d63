"""Two hosts with a router between them: host a asks, host b answers.

  routed       both inside, on two networks; no rules (Docker's and our --iptables=false)
  masqueraded  a inside, b outside: a's packets leave with the router's address
  published    a outside, b inside: a asks the router's address, at ports that are published

Docker's rules in the kernel are those that Docker 17.05 makes for two networks, word for word; Open vSwitch does
the same with `ct(nat)`. Each contender returns its processes.
"""

import os

from comparison.lab import wait_for
from comparison.programs import OpenVSwitch, Tapswitch, usable_openvswitch, usable_tapswitch
from comparison.traffic import latency, tcp, udp

NETS = {1: "10.98.1.0/24", 2: "10.98.2.0/24"}
GATEWAYS = {1: "10.98.1.1", 2: "10.98.2.1"}
OUTSIDE, UPLINK = "10.98.9.1", "10.98.9.2"
TCP_PORTS, UDP_PORTS = (5201, 7001, 7002), (5201, 7003, 7004)
# A router's MAC address where it is not the kernel's to choose.
ROUTER_MAC = "02:00:00:00:00:fe"


class Path:
    """Who stands where."""

    def __init__(self, name, inside, outside=None):
        self.name = name
        # Hosts by network; host b, or the only one, is on the last.
        self.inside = inside
        self.outside = outside
        # Where slirp4netns puts its host.
        self.addresses = {host: NETS[net].replace(".0/24", ".100") for host, net in inside.items()}
        if outside:
            self.addresses[outside] = OUTSIDE
        self.targets = {"b": UPLINK} if "b" in inside and outside else {}

    def gateway(self, host):
        """The host's way out; none for who is outside, who knows nobody inside."""
        return None if host == self.outside else GATEWAYS[self.inside[host]]


PATHS = {path.name: path for path in (
    Path("routed", {"a": 1, "b": 2}),
    Path("masqueraded", {"a": 1}, outside="b"),
    Path("published", {"b": 1}, outside="a"),
)}


def veth(lab, path, host):
    """A veth pair: eth0 at the host, port-X in the router's namespace."""
    lab.run(["ip", "link", "add", "port-" + host, "type", "veth", "peer", "name", "eth0", "netns", lab.ns(host)],
            ns="s")
    lab.run(["ip", "link", "set", "port-" + host, "up"], ns="s")
    configure(lab, path, host)


def veths(lab, path):
    for host in path.addresses:
        veth(lab, path, host)


def configure(lab, path, host):
    lab.run(["ip", "address", "add", path.addresses[host] + "/24", "dev", "eth0"], ns=host)
    lab.run(["ip", "link", "set", "eth0", "up"], ns=host)
    if path.gateway(host):
        lab.run(["ip", "route", "add", "default", "via", path.gateway(host)], ns=host)


def kernel(lab, path):
    lab.run(["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"], ns="s")
    for net, gateway in GATEWAYS.items():
        lab.run(["ip", "link", "add", "br%d" % net, "type", "bridge"], ns="s")
        lab.run(["ip", "address", "add", gateway + "/24", "dev", "br%d" % net], ns="s")
        lab.run(["ip", "link", "set", "br%d" % net, "up"], ns="s")
    veths(lab, path)
    for host, net in path.inside.items():
        lab.run(["ip", "link", "set", "port-" + host, "master", "br%d" % net], ns="s")
    if path.outside:
        own_address(lab, path)
        rules = os.path.join(lab.directory, "rules")
        with open(rules, "w") as file:
            file.write(docker_rules(path))
        lab.run(["iptables-restore", rules], ns="s")
    return []


def own_address(lab, path):
    """The router's own, where it meets who is outside."""
    lab.run(["ip", "address", "add", UPLINK + "/24", "dev", "port-" + path.outside], ns="s")


def docker_rules(path):
    """What Docker 17.05 makes for two networks, and for the ports of a host that are published."""
    published = [(path.addresses[host], proto, port) for host in path.inside if path.targets
                 for proto, ports in (("tcp", TCP_PORTS), ("udp", UDP_PORTS)) for port in ports]
    nat = ["-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
           "-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER"]
    nat += ["-A POSTROUTING -s %s ! -o br%d -j MASQUERADE" % (subnet, net) for net, subnet in NETS.items()]
    nat += ["-A POSTROUTING -s {0} -d {0} -p {1} --dport {2} -j MASQUERADE".format(*one) for one in published]
    nat += ["-A DOCKER -i br%d -j RETURN" % net for net in NETS]
    nat += ["-A DOCKER ! -i br1 -p {1} --dport {2} -j DNAT --to-destination {0}:{2}".format(*one)
            for one in published]
    allow = ["-A FORWARD -j DOCKER-ISOLATION"]
    for net in NETS:
        allow += ["-A FORWARD -o br%d -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT" % net,
                  "-A FORWARD -o br%d -j DOCKER" % net,
                  "-A FORWARD -i br{0} ! -o br{0} -j ACCEPT".format(net),
                  "-A FORWARD -i br{0} -o br{0} -j ACCEPT".format(net)]
    allow += ["-A DOCKER ! -i br1 -o br1 -d {0} -p {1} --dport {2} -j ACCEPT".format(*one) for one in published]
    allow += ["-A DOCKER-ISOLATION -i br%d -o br%d -j DROP" % pair for pair in ((1, 2), (2, 1))]
    allow += ["-A DOCKER-ISOLATION -j RETURN"]
    chains = {"nat": [":PREROUTING ACCEPT", ":INPUT ACCEPT", ":OUTPUT ACCEPT", ":POSTROUTING ACCEPT", ":DOCKER -"],
              "filter": [":INPUT ACCEPT", ":FORWARD DROP", ":OUTPUT ACCEPT", ":DOCKER -", ":DOCKER-ISOLATION -"]}
    tables = [["*" + table, *chains[table], *rules, "COMMIT"] for table, rules in (("nat", nat), ("filter", allow))]
    return "\n".join(line for table in tables for line in table) + "\n"


def tapswitch(lab, path, *flags):
    switch = Tapswitch(lab, *(["--iptables=false"] if not path.outside else []), *flags)
    for net, subnet in NETS.items():
        switch.run("network", "create", "--subnet", subnet, "net%d" % net)
    publish = ["%s:%d:%d/%s" % (UPLINK, port, port, proto) for proto, ports in (("tcp", TCP_PORTS), ("udp", UDP_PORTS))
               for port in ports] if path.targets else []
    if path.outside:
        switch.run("uplink", "add", "wan", "--tap", "eth0", "--netns", "/run/netns/" + lab.ns(path.outside),
                   "--ip", UPLINK + "/24", "--gateway", OUTSIDE)
        configure(lab, path, path.outside)
    for host, net in path.inside.items():
        switch.plug(host, "net%d" % net, *(word for one in publish for word in ("-p", one)))
    return [switch.process]


def tapswitch_plain(lab, path):
    return tapswitch(lab, path, "--no-offload")


def openvswitch(lab, path):
    veths(lab, path)
    hosts = list(path.addresses)
    switch = OpenVSwitch(lab, ["port-" + host for host in hosts])
    ports = {host: number for number, host in enumerate(hosts, 1)}
    macs = {host: lab.run(["cat", "/sys/class/net/eth0/address"], ns=host).strip() for host in hosts}
    for host in hosts:
        next_hop = path.gateway(host) or UPLINK
        lab.run(["ip", "neigh", "replace", next_hop, "lladdr", ROUTER_MAC, "dev", "eth0", "nud", "permanent"], ns=host)
    to = {host: "ip,nw_dst=%s,actions=dec_ttl,mod_dl_src:%s,mod_dl_dst:%s,output:%d" % (
        path.addresses[host], ROUTER_MAC, macs[host], ports[host]) for host in hosts}
    if path.outside:
        (inside,) = path.inside
        flows = ["table=0,ip,actions=ct(zone=1,nat,table=1)",
                 "table=1,priority=20,ct_state=+trk-new,ip,actions=resubmit(,2)",
                 # A datagram stays new until the first answer, but is translated from the second on.
                 "table=1,priority=20,ct_state=+trk+new+dnat,ip,actions=resubmit(,2)",
                 "table=1,priority=10,ct_state=+trk+new,ip,in_port=%d,actions=ct(commit,zone=1,nat(src=%s),table=2)"
                 % (ports[inside], UPLINK)]
        flows += ["table=1,priority=10,ct_state=+trk+new,%s,in_port=%d,nw_dst=%s,tp_dst=%d,"
                  "actions=ct(commit,zone=1,nat(dst=%s),table=2)"
                  % (proto, ports[path.outside], UPLINK, port, path.addresses[inside])
                  for proto, numbers in (("tcp", TCP_PORTS), ("udp", UDP_PORTS)) for port in numbers
                  if path.targets]
        flows += ["table=2," + flow for flow in to.values()]
    else:
        flows = ["table=0," + flow for flow in to.values()]
    switch.flows(flows)
    return [switch.process]


CONTENDERS = {
    "kernel": (kernel, lambda: True),
    "tapswitch": (tapswitch, lambda: usable_tapswitch("uplink add", "--tap")),
    "tapswitch-plain": (tapswitch_plain, lambda: usable_tapswitch("uplink add", "--tap")),
    "ovs": (openvswitch, usable_openvswitch),
}


def measure(lab, path, setup, seconds):
    """All figures of one contender on one path."""
    switch = setup(lab, path)
    if not path.targets:
        lab.run(["ping", "-c", "1", "-w", "10", "-q", lab.targets["b"]], ns="a")
    result = tcp(lab, switch, 1, seconds)
    result |= udp(lab, switch, seconds)
    result |= latency(lab, seconds)
    return result
