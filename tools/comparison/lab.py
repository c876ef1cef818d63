"""Namespaces and processes: everything made here is taken away here."""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

# No single measurement lasts this long; whatever does is killed.
LIMIT_SECONDS = 60
INTERRUPTIONS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


class Failed(Exception):
    """A contender could not be set up or measured; the text says why."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def wait_for(condition, what, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Failed("waited in vain for " + what)
        time.sleep(0.02)


@contextlib.contextmanager
def uninterrupted():
    """Interruptions wait until the block is done, so that nothing started is lost sight of."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTIONS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_be_interrupted():
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTIONS)


def adopt_orphans():
    """Grandchildren whose parent died become our children, so that we can wait until they are gone."""
    PR_SET_CHILD_SUBREAPER = 36
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError("prctl")


class Lab:
    """Fresh namespaces, one for each host and one for the switch, and every process started in them."""

    # What still has to be taken away, should an interruption hit the very moment of leaving a `with`.
    left_over = []

    def __init__(self, number, addresses, targets=None):
        """Hosts and their addresses; targets: where a host is reached that is not at its own address."""
        self.addresses = addresses
        self.targets = {**addresses, **(targets or {})}
        self.prefix = "cmp%d-%d" % (os.getpid(), number)
        self.directory = tempfile.mkdtemp(prefix="tapswitch-compare-")
        self.groups = []
        self.namespaces = []

    def __enter__(self):
        Lab.left_over.append(self)
        try:
            for name in [*self.addresses, "s"]:
                self.ip("netns", "add", self.ns(name))
                self.namespaces.append(name)
                self.run(["ip", "link", "set", "lo", "up"], ns=name)
                # Neighbour discovery of an unused protocol is noise.
                self.run(["sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6"], ns=name)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def ns(self, name):
        return self.prefix + name

    def argv(self, argv, ns, cpu, limit=LIMIT_SECONDS):
        inside = ["ip", "netns", "exec", self.ns(ns)] if ns else []
        pinned = ["taskset", "-c", str(cpu)] if cpu is not None else []
        return ["timeout", "-s", "KILL", str(limit)] + inside + pinned + argv

    def start(self, argv, ns=None, cpu=None, env=None, limit=600):
        """A process of its own group; stdin and stdout are pipes, stderr a log shown when something fails."""
        with open(os.path.join(self.directory, "log"), "ab") as log, uninterrupted():
            process = subprocess.Popen(
                self.argv(argv, ns, cpu, limit),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, preexec_fn=let_be_interrupted,
                start_new_session=True, text=True, env={**os.environ, **(env or {})})
            self.groups.append(process)
        return process

    def stop(self, process):
        """Ends the whole group of a process that `start` returned."""
        with uninterrupted():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-process.pid, 0):  # its children are ours by now: see adopt_orphans
                    pass
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.stdout.close()
            self.groups.remove(process)

    def run(self, argv, ns=None, cpu=None, env=None, limit=LIMIT_SECONDS):
        """Runs to the end; returns stdout."""
        process = self.start(argv, ns, cpu, env, limit)
        try:
            out, _ = process.communicate()
        finally:
            self.stop(process)
        if process.returncode != 0:
            raise Failed("%s: exit %d\n%s%s" % (" ".join(argv), process.returncode, out[-800:], self.log_tail()))
        return out

    def ip(self, *arguments):
        return self.run(["ip", *arguments])

    def log_tail(self):
        with open(os.path.join(self.directory, "log"), errors="replace") as log:
            return log.read()[-1500:]

    def close(self):
        """Ends what was started, looks for strays, removes the namespaces."""
        with uninterrupted():
            self.take_away()

    def take_away(self):
        for process in reversed(self.groups[:]):
            self.stop(process)
        for name in self.namespaces:
            for pid in self.ip("netns", "pids", self.ns(name)).split():
                say("compare: a stray process %s in %s is ended" % (pid, self.ns(name)))
                os.kill(int(pid), signal.SIGKILL)
            self.ip("netns", "del", self.ns(name))
        self.namespaces = []
        shutil.rmtree(self.directory)
        Lab.left_over.remove(self)
