#!/usr/bin/python3
"""Crafts the captures that no tool sends on request. Needs scapy; writes beside itself, the same bytes every time.

usage: captures/make.py
"""
import os
import struct

from scapy.all import (ARP, BOOTP, DHCP, DNS, DNSQR, DNSRR, GRE, ICMP, IP, LLC, SNAP, STP, TCP, UDP, Dot1Q, Dot3,
                       Ether, Raw)
from scapy.contrib.igmp import IGMP
from scapy.contrib.igmpv3 import IGMPv3, IGMPv3gr, IGMPv3mr
from scapy.layers.inet6 import (ICMPv6DestUnreach, ICMPv6EchoRequest, ICMPv6MLDMultAddrRec, ICMPv6MLDone,
                                ICMPv6MLQuery, ICMPv6MLReport, ICMPv6MLReport2, ICMPv6ND_NA, ICMPv6ND_NS,
                                ICMPv6ND_RA, ICMPv6ND_RS, ICMPv6NDOptDstLLAddr, ICMPv6NDOptMTU,
                                ICMPv6NDOptPrefixInfo, ICMPv6NDOptSrcLLAddr, ICMPv6PacketTooBig,
                                ICMPv6TimeExceeded, IPv6, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, RouterAlert)

A, B = "02:42:ac:13:00:02", "02:42:ac:13:00:03"
A4, B4 = "172.19.0.2", "172.19.0.3"
A6, B6 = "fe80::42:acff:fe13:2", "fe80::42:acff:fe13:3"
START = 1700000000
HERE = os.path.dirname(os.path.abspath(__file__))


def write(name, frames, magic=0xA1B2C3D4, order="<", snaplen=262144):
    """A pcap of frames 1 ms apart; a frame is a scapy packet or bytes."""
    per_ms = 1_000_000 if magic == 0xA1B23C4D else 1_000
    with open(os.path.join(HERE, name), "wb") as file:
        file.write(struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snaplen, 1))
        for number, frame in enumerate(frames):
            data = bytes(frame)
            kept = data[:snaplen]
            file.write(struct.pack(order + "IIII", START, number * per_ms, len(kept), len(data)) + kept)


def ether(**fields):
    return Ether(**{"src": A, "dst": B, **fields})


def ip(**fields):
    return ether() / IP(**{"src": A4, "dst": B4, "id": 1, **fields})


def ip6(**fields):
    return ether() / IPv6(**{"src": A6, "dst": B6, **fields})


def arp():
    everybody = {"dst": "ff:ff:ff:ff:ff:ff"}
    yield ether(**everybody) / ARP(op=1, hwsrc=A, psrc=A4, pdst=B4)
    yield ether(src=B, dst=A) / ARP(op=2, hwsrc=B, psrc=B4, hwdst=A, pdst=A4)
    yield ether(**everybody) / ARP(op=1, hwsrc=A, psrc="0.0.0.0", pdst=A4)          # probe, RFC 5227
    yield ether(**everybody) / ARP(op=1, hwsrc=A, psrc=A4, pdst=A4)                 # announcement
    yield ether(**everybody) / ARP(op=2, hwsrc=A, psrc=A4, hwdst=A, pdst=A4)
    yield ether(**everybody) / ARP(op=1, hwsrc=A, psrc=A4, pdst=B4) / (b"\0" * 18)  # padded to 60 bytes
    yield bytes(ether() / ARP(op=1, hwsrc=A, psrc=A4, pdst=B4))[:30]                # cut short


def vlan():
    inner = IP(src=A4, dst=B4, id=1) / ICMP(id=7, seq=1) / b"tagged"
    yield ether() / Dot1Q(vlan=10) / inner
    yield ether() / Dot1Q(vlan=10, prio=5) / inner
    yield ether() / Dot1Q(vlan=0, prio=7) / inner                                   # priority tag
    yield ether(type=0x88A8) / Dot1Q(vlan=100, type=0x8100) / Dot1Q(vlan=10) / inner  # 802.1ad
    yield ether() / Dot1Q(vlan=1) / Dot1Q(vlan=2) / Dot1Q(vlan=3) / inner
    yield ether(dst="ff:ff:ff:ff:ff:ff") / Dot1Q(vlan=10) / ARP(op=1, hwsrc=A, psrc=A4, pdst=B4)
    yield ether() / Dot1Q(vlan=10) / IPv6(src=A6, dst=B6) / ICMPv6EchoRequest(id=7, seq=1)
    yield bytes(ether() / Dot1Q(vlan=10))[:16]                                      # ends inside the tag


def stp():
    group = {"dst": "01:80:c2:00:00:00", "src": A}
    bridge = {"rootmac": A, "bridgemac": A, "rootid": 32768, "bridgeid": 32768}
    yield Dot3(**group) / LLC(dsap=0x42, ssap=0x42, ctrl=3) / STP(portid=0x8001, **bridge)
    yield Dot3(**group) / LLC(dsap=0x42, ssap=0x42, ctrl=3) / STP(
        version=2, bpdutype=2, bpduflags=0x3C, portid=0x8001, **bridge) / b"\0"
    yield Dot3(**group) / LLC(dsap=0x42, ssap=0x42, ctrl=3) / b"\0\0\0\x80"          # topology change
    yield Dot3(src=A, dst=B) / LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / SNAP(OUI=0, code=0x0800) / IP(
        src=A4, dst=B4, id=1) / UDP(sport=1, dport=2) / b"snap"
    yield Dot3(src=A, dst="01:00:0c:cc:cc:cc") / LLC(dsap=0xE0, ssap=0xE0, ctrl=3) / b"\xff\xff\0\x22"


def multicast():
    to = lambda group, mac: Ether(src=A, dst=mac) / IP(src=A4, dst=group, ttl=1, id=0)
    yield to("224.0.0.1", "01:00:5e:00:00:01") / IGMP(type=0x11, mrcode=100)
    yield to("239.1.2.3", "01:00:5e:01:02:03") / IGMP(type=0x12, gaddr="239.1.2.3")
    yield to("239.1.2.3", "01:00:5e:01:02:03") / IGMP(type=0x16, gaddr="239.1.2.3")
    yield to("224.0.0.2", "01:00:5e:00:00:02") / IGMP(type=0x17, gaddr="239.1.2.3")
    yield to("224.0.0.22", "01:00:5e:00:00:16") / IGMPv3(type=0x22) / IGMPv3mr(
        records=[IGMPv3gr(rtype=4, maddr="239.1.2.3")])
    six = lambda group, mac: Ether(src=A, dst=mac) / IPv6(src=A6, dst=group, hlim=1) / IPv6ExtHdrHopByHop(
        options=RouterAlert())
    yield six("ff02::1", "33:33:00:00:00:01") / ICMPv6MLQuery()
    yield six("ff02::db8", "33:33:00:00:0d:b8") / ICMPv6MLReport(mladdr="ff02::db8")
    yield six("ff02::2", "33:33:00:00:00:02") / ICMPv6MLDone(mladdr="ff02::db8")
    yield six("ff02::16", "33:33:00:00:00:16") / ICMPv6MLReport2(
        records=[ICMPv6MLDMultAddrRec(rtype=4, dst="ff02::db8")])


def icmp_errors():
    lost = IP(src=B4, dst=A4, id=9) / UDP(sport=40000, dport=33434) / b"lost"
    for code in (0, 1, 2, 3, 9, 10, 13):
        yield ip() / ICMP(type=3, code=code) / lost
    yield ip() / ICMP(type=3, code=4, nexthopmtu=1400) / lost
    yield ip() / ICMP(type=11, code=0) / lost
    yield ip() / ICMP(type=11, code=1) / lost
    yield ip() / ICMP(type=5, code=1, gw="172.19.0.1") / lost
    yield ip() / ICMP(type=12, ptr=9) / lost
    yield ip() / ICMP(type=13, id=1, seq=1, ts_ori=1000, ts_rx=0, ts_tx=0)
    lost = IPv6(src=B6, dst=A6) / UDP(sport=40000, dport=33434) / b"lost"
    for code in (0, 1, 3, 4):
        yield ip6() / ICMPv6DestUnreach(code=code) / lost
    yield ip6() / ICMPv6PacketTooBig(mtu=1280) / lost
    yield ip6() / ICMPv6TimeExceeded() / lost


def ndp():
    yield Ether(src=A, dst="33:33:ff:13:00:03") / IPv6(src=A6, dst="ff02::1:ff13:3", hlim=255) / ICMPv6ND_NS(
        tgt=B6) / ICMPv6NDOptSrcLLAddr(lladdr=A)
    yield ether(src=B, dst=A) / IPv6(src=B6, dst=A6, hlim=255) / ICMPv6ND_NA(
        tgt=B6, R=0, S=1, O=1) / ICMPv6NDOptDstLLAddr(lladdr=B)
    yield Ether(src=A, dst="33:33:ff:13:00:02") / IPv6(src="::", dst="ff02::1:ff13:2", hlim=255) / ICMPv6ND_NS(
        tgt=A6)
    yield Ether(src=A, dst="33:33:00:00:00:02") / IPv6(src=A6, dst="ff02::2", hlim=255) / ICMPv6ND_RS(
        ) / ICMPv6NDOptSrcLLAddr(lladdr=A)
    yield Ether(src=B, dst="33:33:00:00:00:01") / IPv6(src=B6, dst="ff02::1", hlim=255) / ICMPv6ND_RA(
        routerlifetime=1800) / ICMPv6NDOptPrefixInfo(prefix="fd00:19::", prefixlen=64) / ICMPv6NDOptMTU(
        mtu=1500) / ICMPv6NDOptSrcLLAddr(lladdr=B)


def tcp():
    part = lambda **fields: ip() / TCP(**{"sport": 40000, "dport": 80, "seq": 1000, "window": 501, **fields})
    yield part(flags="S", options=[("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("NOP", None),
                                   ("WScale", 7)])
    yield part(flags="SA", ack=1, options=[("MSS", 1460)])
    yield part(flags="A", ack=1, options=[("NOP", None), ("NOP", None), ("Timestamp", (2, 1))])
    yield part(flags="PA", ack=1, seq=1001) / b"GET / HTTP/1.0\r\n\r\n"
    yield part(flags="A", ack=1, options=[("NOP", None), ("NOP", None), ("SAck", (2000, 3000, 4000, 5000))])
    yield part(flags="FPU", ack=0, urgptr=5) / b"urgent"
    yield part(flags="SEC")
    yield part(flags="AEC", ack=1)
    yield part(flags="R")
    yield part(flags="RA", ack=1) / b"why"
    yield part(flags="")
    yield part(flags="A", ack=1, options=[(253, b"\x12\x34abc")])
    yield ip6() / TCP(sport=40000, dport=80, flags="S", seq=1, options=[("MSS", 1440)])
    yield ip(flags="DF", tos=0x10) / TCP(sport=40000, dport=22, flags="A", seq=1, ack=1, chksum=0xDEAD)


def ip_forms():
    yield ip(options=[]) / UDP(sport=5000, dport=5001) / b"plain"
    yield ip(tos=0xB8, ttl=1, flags="DF") / UDP(sport=5000, dport=5001) / b"marked"
    yield ip(flags="MF", frag=0) / UDP(sport=5000, dport=5001, len=1400, chksum=1) / (b"a" * 24)
    yield ip(frag=4, proto=17) / (b"b" * 16)
    yield ip6(nh=44) / IPv6ExtHdrFragment(offset=0, m=1, id=77, nh=17) / UDP(
        sport=5000, dport=5001, len=1400, chksum=1) / (b"a" * 16)
    yield ip6(nh=44) / IPv6ExtHdrFragment(offset=3, m=0, id=77, nh=17) / (b"b" * 16)
    yield ip(proto=47) / GRE() / IP(src="10.0.0.1", dst="10.0.0.2", id=2) / ICMP(id=1, seq=1)
    yield ip(proto=4) / IP(src="10.0.0.1", dst="10.0.0.2", id=2) / UDP(sport=1, dport=2) / b"inner"
    yield ip(proto=50) / Raw(struct.pack(">II", 0x1000, 1) + b"x" * 24)
    yield ip(proto=200) / b"unassigned"
    yield ip6(tc=0xB8, fl=0x12345, hlim=1) / UDP(sport=5000, dport=5001) / b"marked"
    yield ip6(nh=59) / b"nothing follows"


def names():
    ask = lambda kind, name="web.lab": DNS(id=4660, rd=1, qd=DNSQR(qname=name, qtype=kind))
    query = lambda body: ip() / UDP(sport=40000, dport=53) / body
    reply = lambda body: ether(src=B, dst=A) / IP(src=B4, dst=A4, id=2) / UDP(sport=53, dport=40000) / body
    answer = lambda **fields: DNS(**{"id": 4660, "qr": 1, "rd": 1, "ra": 1, **fields})
    asked = DNSQR(qname="web.lab", qtype="A")
    yield query(ask("A"))
    yield reply(answer(qd=asked, an=DNSRR(rrname="web.lab", ttl=600, rdata="172.19.0.5")))
    yield query(ask("AAAA"))
    yield reply(answer(qd=DNSQR(qname="web.lab", qtype="AAAA"),
                       an=DNSRR(rrname="web.lab", type="AAAA", ttl=600, rdata="fd00:19::5")))
    yield query(ask("PTR", "5.0.19.172.in-addr.arpa"))
    yield reply(answer(rcode=3, qd=DNSQR(qname="nobody.lab", qtype="A")))
    yield reply(answer(rcode=2, qd=asked))
    yield reply(answer(aa=1, qd=asked, an=DNSRR(rrname="web.lab", type="CNAME", ttl=60, rdata="a.lab")))
    yield query(b"\x12\x34\x01")


def dhcp():
    mac = bytes.fromhex(A.replace(":", ""))
    base = lambda kind, **fields: Ether(src=A, dst="ff:ff:ff:ff:ff:ff") / IP(
        src=fields.pop("src", "0.0.0.0"), dst="255.255.255.255", id=1) / UDP(
        sport=fields.pop("sport", 68), dport=fields.pop("dport", 67)) / BOOTP(
        chaddr=mac, xid=0x1234, **fields) / DHCP(options=[("message-type", kind), "end"])
    yield base("discover")
    yield base("offer", op=2, yiaddr=A4, src=B4, sport=67, dport=68)
    yield base("request")


def malformed():
    whole = bytes(ip() / UDP(sport=5000, dport=5001) / (b"x" * 32))
    for length in (1, 13, 14, 20, 33, 34, 38, 50):
        yield whole[:length]
    patch = lambda frame, at, value: frame[:at] + bytes(value) + frame[at + len(value):]
    yield patch(whole, 14, [0x75])        # IP version 7
    yield patch(whole, 14, [0x43])        # header of 12 bytes
    yield patch(whole, 14, [0x4F])        # header longer than it should be
    yield patch(whole, 16, [0, 10])       # total length below the header's
    yield patch(whole, 16, [0xFF, 0xFF])  # total length beyond the frame
    yield patch(whole, 24, [0, 0])        # wrong checksum
    yield patch(whole, 38, [0, 3])        # UDP length below its header's
    yield patch(whole, 38, [0xFF, 0])     # UDP length beyond the packet
    segment = bytes(ip() / TCP(sport=40000, dport=80, flags="A", seq=1, ack=1))
    yield patch(segment, 46, [0x10])      # TCP data offset below its header's
    yield patch(segment, 46, [0xF0])      # and beyond the packet
    yield segment[:44]
    six = bytes(ip6() / UDP(sport=5000, dport=5001) / (b"x" * 32))
    yield six[:40]
    yield patch(six, 18, [0xFF, 0])       # payload length beyond the frame
    yield patch(six, 20, [60])            # destination options that are none
    yield bytes(ip() / ICMP(type=8, id=1, seq=1))[:37]


def other():
    yield ether(type=0x88CC, dst="01:80:c2:00:00:0e") / bytes.fromhex(
        "0207040242ac130002" "0403076574" "0602" "0078" "0000")
    yield ether(type=0x88B5) / b"local experiment"
    yield ether(type=0x9000) / (b"\0" * 46)
    yield ether(type=0x8847) / struct.pack(">I", 16 << 12 | 1 << 8 | 64) / bytes(IP(src=A4, dst=B4, id=1) / ICMP())
    yield ether(type=0x0800) / (b"\0" * 46)
    yield ether(type=0x888E) / b"\x01\x01\0\0"


def main():
    write("arp.pcap", arp())
    write("vlan.pcap", vlan())
    write("stp.pcap", stp())
    write("multicast.pcap", multicast())
    write("icmp-errors.pcap", icmp_errors())
    write("ndp.pcap", ndp())
    write("tcp-flags.pcap", tcp(), magic=0xA1B23C4D)
    write("ip-forms.pcap", ip_forms())
    write("dns-forms.pcap", names())
    write("dhcp.pcap", dhcp())
    write("malformed.pcap", malformed())
    write("other.pcap", other())
    write("big-endian.pcap", arp(), order=">")
    write("snaplen40.pcap", [*tcp(), *names()], snaplen=40)


if __name__ == "__main__":
    main()
