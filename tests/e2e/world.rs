//! What the router's scenarios have in common: two networks, an outside behind an uplink, and small
//! Python programs that ask and answer.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use nix::unistd::Pid;

use crate::harness::{Lab, Process, succeeded, text};

/// The uplink's own addresses.
pub(crate) const WAN4: &str = "203.0.113.2";
pub(crate) const WAN6: &str = "2001:db8:a::2";
/// The outside's addresses on the uplink's link ...
pub(crate) const OUT4: &str = "203.0.113.1";
pub(crate) const OUT6: &str = "2001:db8:a::1";
/// ... and behind it.
pub(crate) const FAR4: &str = "198.51.100.1";
pub(crate) const FAR6: &str = "2001:db8:f::1";

/// Somewhere that commands run: in a container, or outside.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    /// A container, by name.
    In(&'a str),
    /// Somebody's namespaces, by process.
    At(Pid),
}

impl<'a> From<&'a str> for Place<'a> {
    fn from(container: &'a str) -> Self {
        Self::In(container)
    }
}

impl From<&Outside> for Place<'_> {
    fn from(outside: &Outside) -> Self {
        Self::At(outside.process.pid())
    }
}

/// A namespace of its own that the uplink `wan` leads to.
pub(crate) struct Outside {
    process: Process,
}

impl Outside {
    /// Gives the lab the uplink `wan`, with further flags of `uplink add`; everything is up.
    #[track_caller]
    pub(crate) fn behind(lab: &Lab, flags: &str) -> Self {
        let uplink = format!("--ip {WAN4}/24 --gateway {OUT4} --ip {WAN6}/64 --gateway {OUT6} {flags}");
        let outside = Self::by(lab, "wan", &uplink, &[&format!("{OUT4}/24"), &format!("{OUT6}/64")]);
        lab.succeeds(&outside, &format!("ip addr add {FAR4}/32 dev lo; ip addr add {FAR6}/128 dev lo nodad"));
        outside
    }

    /// An uplink by any name: the flags of `uplink add`, and the far end's own addresses.
    #[track_caller]
    pub(crate) fn by(lab: &Lab, uplink: &str, flags: &str, addresses: &[&str]) -> Self {
        let outside = Self { process: lab.foreign() };
        let pid = outside.process.pid();
        lab.ok(&format!("uplink add {uplink} --tap eth0 --pid {pid} {flags}"));
        lab.succeeds(&outside, "ip link set lo up; ip link set eth0 up");
        for address in addresses {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            lab.succeeds(&outside, &format!("ip addr add {address} dev eth0 {nodad}"));
        }
        outside
    }

    /// The process that holds it.
    pub(crate) fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Ends it, and with it its end of the uplink.
    pub(crate) fn end(self) {
        drop(self.process);
    }
}

impl Lab {
    /// A command at a place.
    pub(crate) fn at<'a>(&self, place: impl Into<Place<'a>>, words: &[&str]) -> Command {
        self.limited(place.into(), &[], words)
    }

    fn limited(&self, place: Place<'_>, limit: &[&str], words: &[&str]) -> Command {
        let program = self.program();
        match place {
            Place::In(container) => {
                let exec = [program.to_str().unwrap(), "exec", container];
                self.command(&[limit, &exec, words].concat())
            }
            Place::At(pid) => {
                // The user namespace that one is in cannot be entered.
                let namespace = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/user")).ok();
                let pid = pid.to_string();
                let enter: &[&str] = &["nsenter", "-t", &pid, "-n", "-U", "--preserve-credentials"];
                let enter = if namespace("self") == namespace(&pid) { &enter[..4] } else { enter };
                self.command(&[limit, enter, words].concat())
            }
        }
    }

    /// Runs a command somewhere to its end, which comes within a minute.
    fn output(&self, place: Place<'_>, words: &[&str]) -> Output {
        self.limited(place, &["timeout", "-s", "KILL", "60"], words).output().unwrap()
    }

    /// Runs a shell script somewhere, to whatever end.
    pub(crate) fn does<'a>(&self, place: impl Into<Place<'a>>, script: &str) -> Output {
        self.output(place.into(), &["sh", "-c", script])
    }

    /// Runs a shell script somewhere, which must succeed: what it printed.
    #[track_caller]
    pub(crate) fn succeeds<'a>(&self, place: impl Into<Place<'a>>, script: &str) -> String {
        succeeded(script, &self.does(place, script))
    }

    /// What a script prints, however it ends.
    pub(crate) fn says<'a>(&self, place: impl Into<Place<'a>>, script: &str) -> String {
        let output = self.does(place, script);
        text(&output.stdout) + &text(&output.stderr)
    }

    /// Runs a Python program somewhere, which must succeed: what it printed.
    #[track_caller]
    pub(crate) fn python<'a>(&self, place: impl Into<Place<'a>>, program: &str, words: &[&str]) -> String {
        let all = [&["/usr/bin/python3", "-c", program], words].concat();
        succeeded(&format!("{words:?}"), &self.output(place.into(), &all))
    }

    /// Starts a Python program somewhere, and waits until it says `ready`.
    #[track_caller]
    pub(crate) fn serves<'a>(&self, place: impl Into<Place<'a>>, program: &str, words: &[&str]) -> Server {
        let all = [&["/usr/bin/python3", "-u", "-c", program], words].concat();
        let mut command = self.at(place, &all);
        command.stdout(Stdio::piped());
        let mut process = self.start(command);
        let mut lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().map(Result::unwrap).as_deref(), Some("ready"), "{words:?}");
        Server { lines: Box::new(lines.map(Result::unwrap)), _process: process }
    }
}

/// A program that serves until it is dropped.
pub(crate) struct Server {
    /// What it says after `ready`.
    pub(crate) lines: Box<dyn Iterator<Item = String>>,
    _process: Process,
}

/// Two networks with IPv4 and IPv6: alice (10.1.0.2, fd00:1::2) and bob (.3) on `net1`,
/// carol (10.2.0.2, fd00:2::2) on `net2`. The flags are the daemon's.
#[track_caller]
pub(crate) fn two_networks(lab: &Lab, flags: &str) {
    lab.daemon(flags);
    lab.ok("network create --subnet 10.1.0.0/24 --subnet fd00:1::/64 net1");
    lab.ok("network create --subnet 10.2.0.0/24 --subnet fd00:2::/64 net2");
    for (name, network) in [("alice", "net1"), ("bob", "net1"), ("carol", "net2")] {
        lab.idle(name, network);
    }
}

/// Answers everybody, by TCP and UDP, with who asked: `ADDRESS PORT`. Words: address, ports.
pub(crate) const WHO: &str = "
import selectors, socket, sys
host, ports = sys.argv[1], sys.argv[2:]
family = socket.AF_INET6 if ':' in host else socket.AF_INET
poll = selectors.DefaultSelector()
for port in map(int, ports):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        s = socket.socket(family, kind)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((host, port))
        if kind == socket.SOCK_STREAM: s.listen(100)
        poll.register(s, selectors.EVENT_READ)
print('ready')
while True:
    for key, _ in poll.select():
        s = key.fileobj
        if s.type == socket.SOCK_STREAM:
            c, peer = s.accept()
            c.sendall(b'%s %d' % (peer[0].encode(), peer[1]))
            c.close()
        else:
            data, peer = s.recvfrom(65535)
            try: s.sendto(b'%s %d' % (peer[0].encode(), peer[1]), peer)
            except OSError: pass  # no way back
";

/// Asks [`WHO`] once from each source port. Words: `tcp` or `udp`, address, port, source ports (0 = any).
/// Prints an answer per line: what the server saw, and the source port; `-` where none came in a second.
const ASK: &str = "
import socket, sys
kind, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
for source in map(int, sys.argv[4:]):
    s = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET,
                      socket.SOCK_STREAM if kind == 'tcp' else socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.settimeout(1)
    try:
        if source: s.bind(('', source))
        s.connect((host, port))
        if kind == 'udp': s.send(b'who')
        said = s.recv(100).decode()
        print(said, s.getsockname()[1] if source == 0 else source)
    except OSError as e:
        print('-', e.strerror or 'timeout' if not isinstance(e, TimeoutError) else 'timeout')
    s.close()
";

/// Who a server saw asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) address: String,
    pub(crate) port: u16,
    /// The port that the client used itself.
    pub(crate) own: u16,
}

/// Asks a [`WHO`] once, by `tcp` or `udp`, from a source port (0: any); the error's text when no answer comes.
pub(crate) fn ask<'a>(
    lab: &Lab,
    from: impl Into<Place<'a>>,
    kind: &str,
    to: (&str, u16),
    source: u16,
) -> Result<Seen, String> {
    let said = lab.python(from, ASK, &[kind, to.0, &to.1.to_string(), &source.to_string()]);
    let words: Vec<&str> = said.split_whitespace().collect();
    match words[..] {
        ["-", ..] => Err(words[1..].join(" ")),
        [address, port, own] => {
            Ok(Seen { address: address.to_owned(), port: port.parse().unwrap(), own: own.parse().unwrap() })
        }
        _ => panic!("{said}"),
    }
}

/// The address that a server saw, whatever the port; `-` when no answer came.
pub(crate) fn seen_from<'a>(lab: &Lab, from: impl Into<Place<'a>>, kind: &str, to: (&str, u16)) -> String {
    ask(lab, from, kind, to, 0).map_or_else(|_| "-".to_owned(), |seen| seen.address)
}
