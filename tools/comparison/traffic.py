"""Traffic from host a to host b, and what it says of the switch between them."""

import json
import os
import time

from comparison.lab import LIMIT_SECONDS, Failed
from comparison.programs import LOAD

TICKS = os.sysconf("SC_CLK_TCK")
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024


class Server:
    """`load serve` on a host."""

    def __init__(self, lab, host, cpu=None):
        self.lab = lab
        self.process = lab.start([LOAD, "serve", lab.addresses[host]], ns=host, cpu=cpu)
        self.counters()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lab.stop(self.process)

    def counters(self):
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())
        except (OSError, ValueError):
            raise Failed("the load server ended: " + self.lab.log_tail()) from None


def client(lab, host, *arguments, cpu=None):
    return json.loads(lab.run([LOAD, *map(str, arguments)], ns=host, cpu=cpu))


def group_cpu_seconds(processes):
    """User and system time of all processes in these groups."""
    groups = {process.pid for process in processes}
    ticks = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % pid) as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
        except OSError:
            continue  # it ended meanwhile
        if int(fields[2]) in groups:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS


def machine_cpu_seconds():
    """(busy, all) of the whole machine; what a hypervisor took counts as neither."""
    with open("/proc/stat") as stat:
        user, nice, system, idle, iowait, irq, softirq = map(int, stat.readline().split()[1:8])
    busy = user + nice + system + irq + softirq
    return busy / TICKS, (busy + idle + iowait) / TICKS


def received_bytes(lab, host):
    links = json.loads(lab.ip("-n", lab.ns(host), "-j", "-s", "link", "show", "dev", "eth0"))
    return links[0]["stats64"]["rx"]["bytes"]


def largest_kib(processes):
    """Resident memory of the largest process of these groups: the switch itself, not what started it."""
    groups = {process.pid for process in processes}
    sizes = [0]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.getpgid(int(pid)) in groups:
                with open("/proc/%s/statm" % pid) as statm:
                    sizes.append(int(statm.read().split()[1]) * PAGE_KIB)
        except OSError:
            continue  # it ended meanwhile
    return max(sizes)


def tcp(lab, switch, flows, seconds, reverse=False):
    """iperf3 from a to b, in reverse from b to a over a's connection; the processor time covers its warm-up too, and
    so do the bytes it is divided by."""
    server = lab.start(["iperf3", "-s", "-1", "-B", lab.addresses["b"], "--forceflush"], ns="b")
    while "listening" not in (line := server.stdout.readline()):
        if not line:
            raise Failed("iperf3 does not listen: " + lab.log_tail())
    receiver, flags, name = ("a", ["-R"], "tcp%d_reverse" % flows) if reverse else ("b", [], "tcp%d" % flows)
    before = (group_cpu_seconds(switch), machine_cpu_seconds()[0], received_bytes(lab, receiver))
    report = json.loads(lab.run(["iperf3", "-c", lab.targets["b"], "-J", "-P", str(flows), "-O", "1",
                                 "-t", str(seconds), *flags], ns="a"))
    after = (group_cpu_seconds(switch), machine_cpu_seconds()[0], received_bytes(lab, receiver))
    lab.stop(server)
    if "error" in report:  # which iperf3 does not always tell by its exit status
        raise Failed("iperf3: " + report["error"])
    switch_cpu, all_cpu, count = (now - then for now, then in zip(after, before))
    result = {
        name + "_gbps": report["end"]["sum_received"]["bits_per_second"] / 1e9,
        name + "_retransmits": report["end"]["sum_sent"]["retransmits"],
        name + "_machine_cpu_s_per_gb": all_cpu / (count / 1e9),
    }
    if switch:
        result[name + "_switch_cpu_s_per_gb"] = switch_cpu / (count / 1e9)
    return result


def delivered_rate(server, name, seconds):
    first = server.counters()
    time.sleep(seconds)
    last = server.counters()
    return (last[name] - first[name]) / (last["seconds"] - first["seconds"])


def udp(lab, switch, seconds):
    with Server(lab, "b") as server:
        flood = lab.start([LOAD, "flood", lab.targets["b"], "--seconds", str(LIMIT_SECONDS)], ns="a")
        time.sleep(0.5)
        cpu = group_cpu_seconds(switch)
        rate = delivered_rate(server, "flooded", seconds)
        cpu = group_cpu_seconds(switch) - cpu
        lab.stop(flood)
    result = {"udp64_kpps": rate / 1e3}
    if switch and rate:
        result["udp64_switch_cpu_us_per_frame"] = cpu * 1e6 / (rate * seconds)
    return result


# Both ends on one processor is another regime than two: fixed here, or the figures would jump between them.
# Latency is measured on two. Under a flood both ends share one and the flood runs where it likes: on two, one end
# would have to share its processor with the flooding process and measure the scheduler, not the switch.
CLIENT_CPU = min(os.sched_getaffinity(0))
SERVER_CPU = max(os.sched_getaffinity(0))


def round_trips(lab, seconds):
    return client(lab, "a", "round-trips", lab.targets["b"], "--seconds", seconds, cpu=CLIENT_CPU)


def latency(lab, seconds):
    with Server(lab, "b", cpu=SERVER_CPU):
        trips = round_trips(lab, seconds)
        rate = client(lab, "a", "connections", lab.targets["b"], "--seconds", seconds, cpu=CLIENT_CPU)["per_second"]
    return {"rr_p50_us": trips["p50_us"], "rr_p99_us": trips["p99_us"], "connections_per_s": rate}


def churn(lab, count):
    """So many connections, one after the other."""
    with Server(lab, "b"):
        client(lab, "a", "connections", lab.targets["b"], "--seconds", LIMIT_SECONDS, "--count", count)


def paced_loss(lab, server, seconds):
    """Per cent of 1,000 frames per second that did not arrive."""
    before = server.counters()["paced"]
    sent = client(lab, "a", "paced", lab.targets["b"], "--seconds", seconds)["sent"]
    end = time.monotonic() + 1
    while (lost := sent - (server.counters()["paced"] - before)) > 0 and time.monotonic() < end:
        time.sleep(0.02)  # what is still queued may come
    return 100 * lost / sent


def flooded(lab, name, target, seconds, is_broadcast=False):
    """Round trips and paced frames between a and b while c floods, beside the same without the flood."""
    with Server(lab, "b", cpu=CLIENT_CPU) as server, Server(lab, "d") as sink:
        quiet = round_trips(lab, seconds)
        # On the other CPU: what is asked is what the switch does to a and b, not what a neighbour on
        # their own CPU does.
        flood = lab.start([LOAD, "flood", target, "--seconds", str(LIMIT_SECONDS)], ns="c", cpu=SERVER_CPU)
        rate = delivered_rate(sink, "flooded", 0.5)
        trips = round_trips(lab, seconds)
        loss = paced_loss(lab, server, seconds)
        if flood.poll() is not None:
            raise Failed("the flood ended early: " + lab.log_tail())
        lab.stop(flood)
    result = {name + "_quiet_rr_p99_us": quiet["p99_us"], name + "_rr_p99_us": trips["p99_us"],
              name + "_rr_p99_vs_quiet": trips["p99_us"] / quiet["p99_us"], name + "_loss_percent": loss}
    if not is_broadcast:
        result[name + "_delivered_kpps"] = rate / 1e3
    return result
