//! A host of its own for a scenario of the user uplink, and servers one hop away from it.

use std::process::Output;

use crate::harness::{Lab, Process, succeeded, until};
use crate::world::Place;

/// The host's addresses on the wire, and the servers'.
pub(crate) const HOST4: &str = "10.99.0.1";
pub(crate) const HOST6: &str = "fd99::1";
pub(crate) const SERVER4: &str = "10.99.0.2";
pub(crate) const SERVER6: &str = "fd99::2";

/// Takes every capability away. The daemon needs none; whom the kernel calls root needs CAP_SETFCAP to map
/// itself into a container, which an ordinary user does not.
const BARE: [&str; 4] = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"];

/// A network namespace that our daemon takes for the host, and another behind its interface `eth0`. Both belong to
/// a user namespace of the lab's user, in which the daemon has no capability.
pub(crate) struct Host {
    near: Process,
    far: Process,
}

impl Host {
    /// Starts the daemon there, with the user uplink and a container `alice` on networks of both versions.
    pub(crate) fn new(lab: &Lab, flags: &str) -> Self {
        let host = Self::without_daemon(lab);
        let line = format!("daemon -d --uplink user {flags}");
        succeeded(&line, &host.there(lab, &BARE, &line));
        lab.ok("network create --subnet 10.1.0.0/24 --subnet fd00:1::/64 net1");
        host.idle(lab, "alice", "net1");
        host
    }

    /// An idle container of the host's user: the daemon makes its TAP, which takes the same user namespace.
    #[track_caller]
    pub(crate) fn idle(&self, lab: &Lab, name: &str, network: &str) {
        self.ok(lab, &format!("run -d --name {name} --network {network}"));
    }

    /// A command of ours as the host's user, which must succeed.
    #[track_caller]
    pub(crate) fn ok(&self, lab: &Lab, line: &str) -> String {
        succeeded(line, &self.there(lab, &[], line))
    }

    /// The namespaces alone.
    pub(crate) fn without_daemon(lab: &Lab) -> Self {
        let near = lab.foreign();
        let inner = lab.at(Place::At(near.pid()), &["unshare", "-n", "sleep", "1000"]);
        let far = lab.start(inner);
        until("a network namespace behind", || {
            let comm = std::fs::read_to_string(format!("/proc/{}/comm", far.pid())).unwrap();
            comm == "sleep\n"
        });
        let host = Self { near, far };
        let pid = host.far.pid();
        for (at, peer, address4, address6, gateway4, gateway6) in [
            (host.near(), pid.to_string(), HOST4, HOST6, SERVER4, SERVER6),
            (host.far(), String::new(), SERVER4, SERVER6, HOST4, HOST6),
        ] {
            if !peer.is_empty() {
                lab.succeeds(at, &format!("ip link add eth0 type veth peer name eth0 netns {peer}"));
            }
            lab.succeeds(
                at,
                &format!(
                    "ip link set lo up; ip link set eth0 up; ip addr add {address4}/24 dev eth0; \
                     ip addr add {address6}/64 dev eth0 nodad; ip route add default via {gateway4}; \
                     ip -6 route add default via {gateway6}"
                ),
            );
        }
        host
    }

    /// Where the daemon is.
    pub(crate) fn near(&self) -> Place<'static> {
        Place::At(self.near.pid())
    }

    /// Where servers are.
    pub(crate) fn far(&self) -> Place<'static> {
        Place::At(self.far.pid())
    }

    /// A command of ours as the host's user.
    pub(crate) fn there(&self, lab: &Lab, before: &[&str], line: &str) -> Output {
        let program = lab.program();
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        lab.at(self.near(), &[before, &[program.to_str().unwrap()], &words].concat()).output().unwrap()
    }
}

/// As a URL has it.
pub(crate) fn url(address: &str, port: u16) -> String {
    if address.contains(':') {
        format!("http://[{address}]:{port}/")
    } else {
        format!("http://{address}:{port}/")
    }
}
