"""The programs that take part, and how they are started: each in a lab's own directories."""

import os
import shutil
import subprocess

from comparison.lab import wait_for

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
LOAD = os.path.join(TARGET, "release/examples/load")
TAPSWITCH = os.path.join(TARGET, "release/tapswitch")


class Tapswitch:
    """A daemon of ours."""

    def __init__(self, lab, *flags, ns=None):
        self.lab = lab
        self.env = {"TAPSWITCH_SOCKET": os.path.join(lab.directory, "control.sock")}
        self.process = lab.start([TAPSWITCH, "daemon", *flags], ns=ns, env=self.env)
        wait_for(lambda: os.path.exists(self.env["TAPSWITCH_SOCKET"]), "the daemon's socket")

    def run(self, *words):
        return self.lab.run([TAPSWITCH, *words], env=self.env)

    def plug(self, host, network, *flags):
        return self.run("plug", "host-" + host, "--network", network, "--netns", "/run/netns/" + self.lab.ns(host),
                        "--ifname", "eth0", "--ip", self.lab.addresses[host], *flags)


def usable_tapswitch(command="plug", flag="--netns"):
    """Whether the binary is there, and knows a flag of a command."""
    words = [TAPSWITCH, *command.split(), "--help"]
    try:
        help_text = subprocess.run(words, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return False
    return help_text.returncode == 0 and flag in help_text.stdout


class OpenVSwitch:
    """The userspace datapath (netdev) over AF_PACKET with userspace TSO: bridge br0 with these ports."""

    def __init__(self, lab, ports):
        here = lambda name: os.path.join(lab.directory, name)
        self.lab = lab
        self.env = {name: lab.directory for name in ("OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR")}
        database = "unix:" + here("db.sock")
        configure = ["ovs-vsctl", "--db", database, "--timeout=20"]
        lab.run(["ovsdb-tool", "create", here("conf.db"), "/usr/share/openvswitch/vswitch.ovsschema"], env=self.env)
        lab.start(["ovsdb-server", here("conf.db"), "--remote=p" + database, "--unixctl=" + here("db.ctl")],
                  env=self.env)
        wait_for(lambda: os.path.exists(here("db.sock")), "ovsdb-server's socket")
        lab.run(configure + ["--no-wait", "init", "--",
                             "set", "Open_vSwitch", ".", "other_config:userspace-tso-enable=true"], env=self.env)
        self.process = lab.start(["ovs-vswitchd", database, "--disable-system", "--unixctl=" + here("switch.ctl"),
                                  "--pidfile=" + here("switch.pid")], ns="s", env=self.env)
        added = [word for number, port in enumerate(ports, 1) for word in (
            "--", "add-port", "br0", port, "--", "set", "interface", port, "ofport_request=%d" % number)]
        lab.run(configure + ["add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev"] + added,
                env=self.env)

    def flows(self, lines):
        """Replaces the flows that `add-br` made."""
        path = os.path.join(self.lab.directory, "flows")
        with open(path, "w") as file:
            file.write("\n".join(lines) + "\n")
        management = "unix:" + os.path.join(self.lab.directory, "br0.mgmt")
        self.lab.run(["ovs-ofctl", "-O", "OpenFlow14", "replace-flows", management, path], env=self.env)


def usable_openvswitch():
    return shutil.which("ovs-vswitchd") and shutil.which("ovsdb-server")
