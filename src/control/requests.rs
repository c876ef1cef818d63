//! What a client may ask of the daemon, and what it is answered.
//!
//! A request is an [`Envelope`] in JSON; descriptors come along where a variant says so.
//! The answer is `{"ok": …}` or `{"error": {"kind": …, "message": …}}`.

mod router;
mod views;

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::model::{ContainerSpec, EndpointSpec, NetworkSpec};
use super::ports::{Exposed, PublishSpec};
use super::state::Whence;
use super::{Id, Refused};
use crate::capture::filter::Program;
use crate::wire::MacAddr;

pub use router::RouterRequest;
pub use views::{FlowFilter, Page, Question, RouteCursor, ViewRequest};

/// The protocol's version: what has been added to requests and answers since an older one raises it.
pub const VERSION: u32 = 2;
/// The oldest version of a client that a daemon still understands: who supervises a container outlives daemons.
pub const OLDEST: u32 = 1;

/// A request with the version of who sends it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// [`VERSION`] of the client.
    pub version: u32,
    /// What it asks.
    #[serde(flatten)]
    pub request: Request,
}

/// Everything that can be asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// Who are you? Answer: [`Status`].
    Status,
    /// End yourself and every container.
    Shutdown,
    /// Create a network. Answer: [`NetworkCreated`]. Descriptors, with option `host_port`: a TAP that was made on the
    /// host and is down, and a `NETLINK_ROUTE` socket there.
    NetworkCreate {
        /// What it should be.
        spec: NetworkSpec,
    },
    /// Remove a network. Answer: its name.
    NetworkRemove {
        /// Name or id.
        name: String,
    },
    /// Remove every network that nobody is on. Answer: their names.
    NetworkPrune,
    /// Change options of a network. Descriptors as with [`Request::NetworkCreate`].
    NetworkSet {
        /// Name or id.
        name: String,
        /// Keys and values, as with `-o`.
        options: Vec<(String, String)>,
    },
    /// All networks. Answer: rows.
    NetworkList,
    /// Networks in full. Answer: what Docker prints.
    NetworkInspect {
        /// Names or ids.
        names: Vec<String>,
    },
    /// What joining a network takes. Answer: whether the container needs IPv6 for it; null when it does not run.
    ConnectPlan {
        /// Name or id of the container.
        container: String,
        /// Name or id of the network.
        network: String,
    },
    /// Put a container on one more network. Answer: [`Joined`], or null. Descriptors, when it runs: an opened
    /// `/dev/net/tun` and a `NETLINK_ROUTE` socket, both from inside it.
    Connect {
        /// Name or id of the container.
        container: String,
        /// How it joins.
        endpoint: EndpointSpec,
    },
    /// Take a container off a network.
    Disconnect {
        /// Name or id of the container.
        container: String,
        /// Name or id of the network.
        network: String,
    },
    /// Reserve names and addresses for a container. The asking connection becomes its supervisor's:
    /// the container ends with it. Answer: [`Created`].
    ContainerCreate {
        /// What it should be.
        spec: ContainerSpec,
        /// Forget it when it ends.
        auto_remove: bool,
    },
    /// Reserve addresses for a container that has ended, to run it once more with what it was made of. The asking
    /// connection becomes its supervisor's. Answer: [`Created`].
    ContainerAgain {
        /// Name or id.
        name: String,
    },
    /// From a supervisor: what it created will not run. What had ended before has ended again.
    ContainerAbandon,
    /// From the supervisor: the container's init waits in its namespaces, connect it. Descriptors:
    /// pidfd, and but for one in the host's network a `NETLINK_ROUTE` socket, and one opened `/dev/net/tun` for
    /// each endpoint.
    ContainerStart {
        /// From [`Created`].
        id: Id,
        /// Its init, as the daemon's pid namespace numbers it.
        pid: u32,
        /// When that started, by which a next daemon knows it again.
        #[serde(default)]
        started: u64,
    },
    /// From the supervisor of a container that has outlived its daemon: serve it again. The asking connection
    /// becomes its supervisor's. Descriptors: pidfd, `NETLINK_ROUTE` socket, and the TAP of each network that
    /// is named, as the former daemon left it.
    ContainerAdopt {
        /// From [`Created`].
        id: Id,
        /// Whose TAPs come along, in order.
        networks: Vec<Id>,
    },
    /// From the supervisor: the container has ended.
    ContainerExited {
        /// From [`Created`].
        id: Id,
        /// Exit code, or 128 + signal.
        code: i32,
    },
    /// Send a signal to a container's init.
    ContainerSignal {
        /// Name or id.
        name: String,
        /// Signal number.
        signal: i32,
    },
    /// Answered when the container has ended: its exit code, or null when nobody knows it.
    ContainerWait {
        /// Name or id.
        name: String,
    },
    /// Forget a container that has ended.
    ContainerRemove {
        /// Name or id.
        name: String,
        /// Kill it first if it runs.
        force: bool,
    },
    /// What `exec`, `logs` and `start` need to know. Answer: [`ContainerFacts`].
    ContainerFind {
        /// Name or id.
        name: String,
    },
    /// All containers. Answer: rows.
    ContainerList {
        /// Those that have ended, too.
        all: bool,
    },
    /// Containers in full. Answer: what Docker prints.
    ContainerInspect {
        /// Names or ids.
        names: Vec<String>,
    },
    /// Serve a namespace of somebody else's. Descriptors: an opened `/dev/net/tun`, a
    /// `NETLINK_ROUTE` socket where that device will live, then a pidfd (`pid` set) or,
    /// for a device made outside, the namespace it goes to and a `NETLINK_ROUTE` socket there.
    Plug {
        /// What the container is to be called.
        name: String,
        /// How it joins.
        endpoint: EndpointSpec,
        /// The process whose end ends it.
        pid: Option<u32>,
        /// The device was opened in a nursery namespace and moves to where the third descriptor says.
        nursery: bool,
        /// Give the interface its addresses.
        configure: bool,
        /// Ports to be reached from outside.
        #[serde(default)]
        publish: Vec<PublishSpec>,
        /// Ports that it is meant to be used by.
        #[serde(default)]
        expose: Vec<Exposed>,
        /// Where a next daemon finds it.
        #[serde(default)]
        whence: Whence,
    },
    /// Stop serving a plugged namespace, or one of its networks.
    Unplug {
        /// Name or id of the container.
        name: String,
        /// Only this network.
        network: Option<String>,
    },
    /// Bring a lab up, alone: refused when it is up, or while another connection has asked the same. Holds until the
    /// connection closes.
    LabClaim {
        /// The lab's name.
        lab: String,
    },
    /// Names of what a lab brought up. Answer: [`LabMembers`].
    LabMembers {
        /// The lab's name; none for all labs.
        lab: Option<String>,
    },
    /// Forget the rules and routes that a lab brought along.
    LabForget {
        /// The lab's name; none for all labs.
        lab: Option<String>,
    },
    /// What the router is told, and asked. Answer: see there.
    Router(RouterRequest),
    /// What the router knows. Answer: see there.
    View(ViewRequest),
    /// Ports with their counters. Answer: rows.
    ShowPorts,
    /// Learned and static addresses. Answer: rows.
    ShowFdb,
    /// Dropped frames by reason. Answer: rows.
    ShowDrops,
    /// Networks, containers, ports, addresses. Answer: text.
    ShowTopology {
        /// As Graphviz input.
        dot: bool,
        /// Drawn with ASCII characters alone.
        ascii: bool,
    },
    /// Add a static fdb entry.
    FdbAdd {
        /// Name or id.
        network: String,
        /// The address.
        mac: MacAddr,
        /// The port's name or alias.
        port: String,
    },
    /// Remove an fdb entry.
    FdbRemove {
        /// Name or id.
        network: String,
        /// The address.
        mac: MacAddr,
    },
    /// Set a port's administrative state.
    PortSet {
        /// The port's name or alias.
        port: String,
        /// Up or down.
        up: bool,
    },
    /// Start a capture, in pcapng, into the pipe or socket that comes along; it ends with the
    /// asking connection, or with [`Request::CaptureStop`] on it.
    CaptureStart {
        /// Ports, containers, `net:NAME`, or `any`.
        interfaces: Vec<String>,
        /// The frames wanted.
        filter: Program,
        /// Bytes kept of each frame.
        snaplen: u32,
        /// Show drops on ports and networks, too.
        drops: bool,
    },
    /// End the connection's capture. Answer: what it came to.
    CaptureStop,
}

/// Answer to [`Request::Status`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// The I/O engine of its loop.
    pub engine: String,
    /// Whether its TAPs carry super-frames.
    pub offload: bool,
    /// Networks there are.
    pub networks: usize,
    /// Containers that run.
    pub containers: usize,
    /// Ports of the switch.
    pub ports: usize,
    /// Captures that run.
    pub captures: usize,
    /// The control socket.
    pub socket: PathBuf,
    /// What confines the daemon, in words.
    pub confinement: String,
    /// Where it keeps its state (`, being saved` until that is on the disk), and why it cannot, if so; `none` if
    /// it keeps none.
    pub state: String,
    /// File descriptors that it may have at once.
    pub descriptor_limit: u64,
    /// How often it had too few of them for what somebody wanted.
    pub descriptor_shortages: u64,
}

/// Answer to [`Request::NetworkCreate`].
#[derive(Debug, Serialize, Deserialize)]
pub struct NetworkCreated {
    /// Its id.
    pub id: Id,
    /// What there is to say about its addresses beside the host's, one line each.
    pub remarks: Vec<String>,
}

/// Answer to [`Request::ContainerCreate`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Created {
    /// Its id.
    pub id: Id,
    /// Its name, given or made up.
    pub name: String,
    /// Its hostname.
    pub hostname: String,
    /// Where its `hosts`, `hostname`, `resolv.conf`, `nsswitch.conf` lie, and its log.
    pub directory: PathBuf,
    /// The networks that it is on: for each, `/dev/net/tun` is to be opened inside once.
    pub networks: Vec<Id>,
    /// Whether it is to go on when the daemon ends, for a next one to serve it.
    pub lasting: bool,
    /// Whether any of its networks has IPv6.
    pub ipv6: bool,
    /// Whether the TAPs shall carry super-frames; if not, they are made through tun-tap.
    pub offload: bool,
    /// Whether its network namespace is the host's.
    pub host_network: bool,
}

/// What the daemon tells a supervisor without being asked, once its container runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// The container has joined this network. Descriptor: the TAP, to be held for a next daemon.
    Hold(Id),
}

/// Answer to [`Request::ContainerFind`].
#[derive(Debug, Serialize, Deserialize)]
pub struct ContainerFacts {
    /// Its id.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// Its hostname.
    pub hostname: String,
    /// Its init, while it runs.
    pub pid: Option<u32>,
    /// Where its files and log lie.
    pub directory: PathBuf,
    /// Whether its TAPs carry super-frames.
    pub offload: bool,
    /// What it was made of.
    pub spec: ContainerSpec,
}

/// Answer to [`Request::LabMembers`].
#[derive(Debug, Serialize, Deserialize, Default)]
pub struct LabMembers {
    /// Containers by name.
    pub containers: Vec<String>,
    /// Networks by name.
    pub networks: Vec<String>,
    /// Uplinks by name.
    pub uplinks: Vec<String>,
}

impl LabMembers {
    /// Whether nothing of it is up.
    pub fn is_empty(&self) -> bool {
        self.containers.is_empty() && self.networks.is_empty() && self.uplinks.is_empty()
    }
}

/// Where a container has been connected. Answer to [`Request::Connect`] and [`Request::Plug`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Joined {
    /// The container's name.
    pub name: String,
    /// The interface inside.
    pub ifname: String,
    /// Its address.
    pub mac: MacAddr,
    /// Its IP addresses, with prefix lengths.
    pub addresses: Vec<IpNet>,
    /// The names that reach it, for those who cannot be given an /etc/hosts.
    pub hosts: Vec<(String, IpAddr)>,
    /// Whom it asks about names, for those who cannot be given an /etc/resolv.conf.
    pub name_servers: Vec<IpAddr>,
}

/// A reply, as it crosses the socket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Done, and the answer.
    Ok(serde_json::Value),
    /// The same, and what there is to say about it.
    Remarked(serde_json::Value, String),
    /// Refused or failed.
    Error(Refused),
}
