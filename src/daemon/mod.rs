//! The daemon: the switch loop in one thread, the control plane in another.
//!
//! Theory of operation. [`serve`] takes the lock of its control socket, starts the switch
//! loop in a thread, and runs the control loop in its own: requests of clients, ends of
//! containers (pidfds), signals, and what the switch loop reports. The control loop owns
//! the model and everything that names things; the switch loop owns the switch and the
//! devices, and is reached by closures that it runs between two bursts.
//!
//! The daemon never enters a namespace: TAPs and netlink sockets come from clients that
//! were inside. What is declared outlives it in its state file (`state.rs`); containers of
//! ours do with their supervisors, who hold their TAPs for the next daemon (`adopt.rs`), and
//! what was plugged in is plugged in again (`survivors.rs`). Without a state file it leaves
//! nothing: closing a TAP's descriptor deletes the interface, and what a daemon that is
//! killed leaves in its runtime directory the next start removes.

mod adopt;
mod captures;
mod containers;
mod control_loop;
mod endpoints;
mod explain;
mod flow_watch;
mod host_port;
mod listeners;
mod names;
mod networks;
mod proxies;
mod router;
pub mod runtime;
mod state;
mod survivors;
mod sync;
mod tables;
mod uplinks;
mod views;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use crossbeam_channel::Sender;
use mio::Waker;
use serde_json::value::{RawValue, to_raw_value};

use crate::control::compile::{Listener, Told, network_number};
use crate::control::config::DaemonConfig;
use crate::control::model::{DEFAULT_NETWORK, DEFAULT_UPLINK, Network, NetworkSpec, UplinkSpec};
use crate::control::occupied::{Occupied, remarks, with_name_servers};
use crate::control::ports::Protocol;
use crate::control::requests::{Notice, Request, Status};
use crate::control::state::{Process, Whence};
use crate::control::{Id, Kind, Model, Refused};
use crate::dataplane::{PortId, Switch};
use crate::io::confine::confine;
use crate::io::control_socket::Message;
use crate::io::descriptors::{self, Room};
use crate::io::event_loop::{Event, EventLoop, Handle};
use crate::io::netlink::Netlink;
use crate::io::{host, random, resolv_conf};

use control_loop::ControlLoop;
use runtime::Runtime;
use survivors::Previous;

/// Says a line to whoever started the daemon.
pub type Say = Box<dyn Fn(&str) + Send>;

/// How a daemon is to behave.
pub struct Options {
    /// The control socket.
    pub socket: PathBuf,
    /// Whether TAPs carry super-frames.
    pub offload: bool,
    /// What its file and flags say.
    pub config: DaemonConfig,
    /// The host's resolv.conf.
    pub resolv_conf: PathBuf,
    /// Whether the uplink of the host's sockets is there from the start.
    pub uplink: bool,
    /// How long the switch looks on before it sleeps; see [`patience`](crate::io::patience).
    pub busy_poll: Duration,
    /// End when the last container has ended and no lab is left.
    pub transient: bool,
    /// Where what is declared outlives the daemon; none: nothing does.
    pub state: Option<PathBuf>,
    /// Give up what is not needed, once it listens.
    pub confine: bool,
    /// Says something to people, in one line.
    pub say: Say,
    /// Called once the socket listens.
    pub ready: Option<Box<dyn FnOnce() + Send>>,
}

/// Why there was no answer yet.
pub(crate) enum Answer {
    /// Here it is.
    Now(Box<RawValue>),
    /// It comes when the container has ended.
    WhenEnded(Id),
}

/// A result of the control plane.
pub(crate) type Handled = Result<Answer, Refused>;

/// The control plane's state.
pub(crate) struct Daemon {
    model: Model,
    /// What the switch was told of the model last.
    told: Told,
    switch: Handle,
    options: Options,
    runtime: Runtime,
    host: Vec<Occupied>,
    /// What confines the daemon, in words.
    confinement: String,
    /// How often there were too few descriptors for what somebody wanted.
    descriptor_shortages: u64,
    /// Tells of changes of the host's resolv.conf; none where the kernel does not.
    resolv_conf: Option<resolv_conf::Watch>,
    /// What only the shell knows of a container.
    containers: BTreeMap<Id, containers::Shell>,
    /// Containers of each connection that made or brought any; of which some may have ended, or be others' now.
    supervised: BTreeSet<(usize, Id)>,
    /// Containers whose pidfd is to be watched from now on.
    unwatched: BTreeSet<Id>,
    /// Containers whose pidfd matters no more.
    let_go: Vec<Id>,
    /// The host's sockets of published ports, each with its uplink.
    listening: BTreeMap<Listener, Id>,
    /// A port that the host has just refused, as somebody else's.
    taken: Option<(Protocol, u16)>,
    /// Proxies, by their clients' connections.
    proxies: BTreeMap<usize, proxies::Proxy>,
    /// Labs that are being brought up, and by which connections.
    rising: BTreeMap<String, usize>,
    /// What only the shell knows of a port.
    links: BTreeMap<PortId, endpoints::Link>,
    /// Containers whose end nobody who waits for it has been told yet, with their exit codes.
    ended: Vec<(Id, Option<i32>)>,
    /// What supervisors are to be told, by their connections, with a descriptor.
    notices: Vec<(usize, Notice, OwnedFd)>,
    /// Saves what outlives us; none: nothing does.
    state: Option<state::Keeper>,
    captures: BTreeMap<u64, captures::Session>,
    next_capture: u64,
    /// Who watches flows, by connection.
    flow_watches: BTreeMap<usize, flow_watch::Watch>,
    /// A client has come and gone, so that a transient daemon may end.
    was_used: bool,
    stopping: bool,
    /// Everything ends with us, and nothing is kept.
    ends_all: bool,
}

/// Runs a daemon until it is told to end.
///
/// # Errors
/// When the socket is another daemon's, cannot be made, or the kernel refuses what the loops need.
pub fn serve(options: Options) -> anyhow::Result<()> {
    let mut runtime = Runtime::lock(&options.socket, &options.say)?;
    runtime.keep(options.state.is_some());
    // Asked by a netlink socket, of which there are none once we are confined.
    let host = host::occupied();
    let asked = resolv_conf::read(&options.resolv_conf);
    let prefixes: Vec<_> = with_name_servers(&host, &asked).iter().map(|it| it.prefix).collect();
    let previous = options.state.as_deref().map(|path| Previous::read(path, &options.config, &prefixes));
    let mut previous = previous.transpose()?;
    runtime.clean_stale(&previous.as_ref().map(Previous::containers).unwrap_or_default());
    let signals = control_loop::block_signals()?;
    let (control, waker) = ControlLoop::listen(&runtime, signals)?;
    let (report, reports) = crossbeam_channel::unbounded();
    let mut reporter = Reporter { report: Some(report), waker };
    let notify = Box::new(move |event| reporter.tell(event));
    let (mut inner, switch) =
        EventLoop::new(Switch::new(random::seed()), notify).context("cannot start the switch loop")?;
    inner.set_patience(options.busy_poll);
    if let Some(previous) = &mut previous {
        // Enters namespaces, which takes one thread and is not for the confined.
        previous.find_again(&runtime, options.offload);
    }
    let confinement = confinement(&options, &runtime)?;
    let thread = std::thread::Builder::new().name("switch".into()).spawn(move || inner.run())?;
    let daemon = Daemon::new(options, runtime, switch.clone(), host, confinement, previous)?;
    let served = control.run(daemon, &reports);
    // The loop may have failed by itself; then its own result says why.
    let _ = switch.call(EventLoop::stop);
    let ran = thread.join().map_err(|_| anyhow::anyhow!("the switch loop panicked; this is a bug"))?;
    served.and(ran.context("the switch loop failed"))
}

/// Says where network `bridge` is not, for the host's sake, and what it overlaps.
fn say_remarks(config: &DaemonConfig, model: &Model, bridge: Id, host: &[Occupied]) {
    let got = model.network(bridge).map(|network| network.subnets.as_slice()).unwrap_or_default();
    let alone = Model::configured(config, bridge, 0, &[]).ok();
    let without =
        alone.as_ref().and_then(|model| model.network(bridge)).map(|network| network.subnets.as_slice());
    let spec = config.default_network();
    remarks(&spec, got, without.unwrap_or_default(), host)
        .iter()
        .for_each(|line| eprintln!("tapswitch: {line}"));
}

/// Says what of a former daemon's networks is not as it is told now, or in the host's way.
fn say_restored(options: &Options, model: &Model, host: &[Occupied]) {
    for network in model.networks() {
        let (spec, subnets) = (NetworkSpec::named(&network.name), &network.subnets);
        remarks(&spec, subnets, subnets, host).iter().for_each(|line| (options.say)(line));
    }
    let config = &options.config;
    let Ok(bridge) = model.find_network(DEFAULT_NETWORK) else { return };
    let anew = Model::configured(config, bridge.id, 0, &[]).ok();
    let differs = anew.as_ref().and_then(|it| it.network(bridge.id)).is_some_and(|it| {
        let at =
            |network: &Network| network.subnets.first().map(|subnet| (subnet.prefix(), subnet.gateway()));
        it.options != bridge.options || (config.bip.is_some() && at(it) != at(bridge))
    });
    if differs && config.default_network() != DaemonConfig::default().default_network() {
        (options.say)(
            "network 'bridge' stays as it was, for containers are on it: bip, icc and mtu of the configuration hold \
             after a start without any",
        );
    }
}

/// Confines the process, all but its present descriptors; in words, how. From here on there may be threads.
fn confinement(options: &Options, runtime: &Runtime) -> anyhow::Result<String> {
    if !options.confine {
        return Ok("off".to_owned());
    }
    let state = options.state.as_deref().and_then(Path::parent);
    let confined = confine(&runtime.reach(&options.resolv_conf, state))
        .context("cannot confine the daemon; --confine=off goes without")?;
    Ok(confined.to_string())
}

/// The switch loop's way to the control loop, which also hears when it goes: there is no switch then.
struct Reporter {
    report: Option<Sender<Event>>,
    waker: Arc<Waker>,
}

impl Reporter {
    fn tell(&mut self, event: Event) {
        // The control loop hears everything, unless it is ending itself.
        if let Some(report) = &self.report {
            let _ = report.send(event);
        }
        let _ = self.waker.wake();
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.report = None;
        let _ = self.waker.wake();
    }
}

impl Daemon {
    fn new(
        options: Options,
        runtime: Runtime,
        switch: Handle,
        host: Vec<Occupied>,
        confinement: String,
        previous: Option<Previous>,
    ) -> anyhow::Result<Self> {
        let id = Id::new(random::bytes());
        let asked = resolv_conf::read(&options.resolv_conf);
        let occupied = with_name_servers(&host, &asked);
        let mut model = match previous.as_ref().and_then(|previous| previous.model.clone()) {
            Some(model) => {
                say_restored(&options, &model, &occupied);
                model
            }
            None => {
                let prefixes: Vec<ipnet::IpNet> = occupied.iter().map(|it| it.prefix).collect();
                let model = Model::configured(&options.config, id, host::now_ns(), &prefixes)?;
                say_remarks(&options.config, &model, id, &occupied);
                model
            }
        };
        // First the watch, so that nothing happens in between.
        let resolv_conf = resolv_conf::Watch::new(&options.resolv_conf).ok();
        model.resolvers.host = resolv_conf::read(&options.resolv_conf);
        let mut daemon = Self {
            model,
            told: Told::default(),
            switch,
            options,
            runtime,
            host,
            confinement,
            descriptor_shortages: 0,
            resolv_conf,
            containers: BTreeMap::new(),
            supervised: BTreeSet::new(),
            unwatched: BTreeSet::new(),
            let_go: Vec::new(),
            listening: BTreeMap::new(),
            taken: None,
            proxies: BTreeMap::new(),
            rising: BTreeMap::new(),
            links: BTreeMap::new(),
            ended: Vec::new(),
            notices: Vec::new(),
            state: None,
            captures: BTreeMap::new(),
            next_capture: 0,
            flow_watches: BTreeMap::new(),
            was_used: false,
            stopping: false,
            ends_all: false,
        };
        match previous {
            Some(previous) => daemon.take_over(previous)?,
            None => daemon.tell_switch()?,
        }
        if daemon.options.uplink && daemon.model.find_any_network(DEFAULT_UPLINK).is_err() {
            daemon.uplink_add(&UplinkSpec::standard(), None, false, Whence::default(), Vec::new())?;
        }
        daemon.begin_keeping();
        if let Some(ready) = daemon.options.ready.take() {
            ready();
        }
        Ok(daemon)
    }

    /// Answers one request. `connection` names who asks, for what is tied to it.
    fn handle(&mut self, connection: usize, request: Request, message: Message) -> Handled {
        let descriptors = message.descriptors;
        // Whatever comes with descriptors keeps them.
        if descriptors.iter().any(|it| descriptors::room(it.as_fd()) != Room::Plenty) {
            return Err(self.too_few_descriptors());
        }
        match request {
            Request::Status => self.status(),
            Request::Shutdown => {
                (self.stopping, self.ends_all) = (true, true);
                now(())
            }
            Request::NetworkCreate { spec } => self.network_create(&spec, descriptors),
            Request::NetworkRemove { name } => self.network_remove(&name),
            Request::NetworkPrune => self.network_prune(),
            Request::NetworkSet { name, options } => self.network_set(&name, &options, descriptors),
            Request::NetworkList => self.network_list(),
            Request::NetworkInspect { names } => self.network_inspect(&names),
            Request::ConnectPlan { container, network } => self.connect_plan(&container, &network),
            Request::Connect { container, endpoint } => {
                self.connect(&container, &endpoint, true, descriptors)
            }
            Request::Disconnect { container, network } => self.disconnect(&container, &network),
            Request::ContainerCreate { spec, auto_remove } => {
                self.container_create(connection, spec, auto_remove)
            }
            Request::ContainerAgain { name } => self.container_again(connection, &name),
            Request::ContainerAbandon => {
                self.supervisor_gone(connection);
                now(())
            }
            Request::ContainerStart { id, pid, started } => {
                self.container_start(connection, id, Process { pid, started }, descriptors)
            }
            Request::ContainerAdopt { id, networks } => {
                self.container_adopt(connection, id, &networks, descriptors)
            }
            Request::ContainerExited { id, code } => self.container_exited(connection, id, code),
            Request::ContainerSignal { name, signal } => self.container_signal(&name, signal),
            Request::ContainerWait { name } => self.container_wait(&name),
            Request::ContainerRemove { name, force } => self.container_remove(&name, force),
            Request::ContainerFind { name } => self.container_find(&name),
            Request::ContainerList { all } => self.container_list(all),
            Request::ContainerInspect { names } => self.container_inspect(&names),
            Request::Plug { name, endpoint, pid, nursery, configure, publish, expose, whence } => {
                let plug =
                    containers::Plug { name, endpoint, pid, nursery, configure, publish, expose, whence };
                self.plug(plug, descriptors)
            }
            Request::Unplug { name, network } => self.unplug(&name, network.as_deref()),
            Request::LabClaim { lab } => self.lab_claim(connection, lab),
            Request::LabMembers { lab } => self.lab_members(lab.as_deref()),
            Request::LabForget { lab } => self.lab_forget(lab.as_deref()),
            Request::Router(request) => self.handle_router(connection, request, descriptors),
            Request::View(request) => self.handle_view(connection, request, descriptors),
            Request::ShowPorts => self.show_ports(),
            Request::ShowFdb => self.show_fdb(),
            Request::ShowDrops => self.show_drops(),
            Request::ShowTopology { dot, ascii } => self.show_topology(dot, ascii),
            Request::FdbAdd { network, mac, port } => self.fdb_add(&network, mac, &port),
            Request::FdbRemove { network, mac } => self.fdb_remove(&network, mac),
            Request::PortSet { port, up } => self.port_set(&port, up),
            Request::CaptureStart { interfaces, filter, snaplen, drops } => {
                let wanted = captures::Wanted { interfaces, drops };
                self.capture_start(connection, wanted, filter, snaplen, descriptors)
            }
            Request::CaptureStop => self.capture_stop(connection),
        }
    }

    /// Somebody wanted more descriptors than there are.
    pub(crate) fn too_few_descriptors(&mut self) -> Refused {
        self.descriptor_shortages += 1;
        Refused::new(Kind::System, descriptors::shortage())
    }

    fn status(&self) -> Handled {
        now(Status {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            engine: "poll".to_owned(),
            offload: self.options.offload,
            networks: self.model.networks().len(),
            containers: self.model.alive().count(),
            ports: self.links.len(),
            captures: self.captures.len(),
            socket: self.options.socket.clone(),
            confinement: self.confinement.clone(),
            state: self.state.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string),
            descriptor_limit: descriptors::limit(),
            descriptor_shortages: self.descriptor_shortages,
        })
    }

    /// Runs a closure in the switch loop.
    fn in_loop<R: Send + 'static>(
        &self,
        request: impl FnOnce(&mut EventLoop) -> R + Send + 'static,
    ) -> Result<R, Refused> {
        self.switch.call(request).map_err(|error| failed(&error))
    }

    /// A connection has closed: what was tied to it ends.
    fn connection_closed(&mut self, connection: usize) {
        self.was_used = true;
        self.capture_abandoned(connection);
        self.proxy_abandoned(connection);
        self.rising.retain(|_, by| *by != connection);
        self.flows_unwatched(connection);
        self.supervisor_gone(connection);
    }

    /// The switch loop reports something.
    fn on_event(&mut self, event: Event) {
        match event {
            Event::PortLost(port) => self.port_lost(port),
            Event::Flows => self.tell_flow_events(),
        }
    }

    /// Whether it is time to end. Clients that watch do not hold a transient daemon, others do:
    /// they may be about to ask for more.
    fn is_done(&self, mut connections: impl Iterator<Item = usize>) -> bool {
        let watches =
            |connection| self.capture_of(connection).is_some() || self.flow_watches.contains_key(&connection);
        let mut is_idle = || {
            let labs = self.model.everything().0.any(|network| network.lab.is_some());
            self.model.alive().next().is_none() && !labs && connections.all(watches)
        };
        self.stopping || (self.options.transient && self.was_used && is_idle())
    }
}

/// An answer that is there.
fn now(value: impl serde::Serialize) -> Handled {
    to_raw_value(&value).map(Answer::Now).map_err(|error| failed(&error))
}

/// A failure of the system, not of the request.
fn failed(error: &dyn std::fmt::Display) -> Refused {
    Refused::new(Kind::System, error.to_string())
}

/// The next of the descriptors that came along.
fn next(descriptors: &mut std::vec::IntoIter<OwnedFd>, what: &str) -> Result<OwnedFd, Refused> {
    let missing =
        || Refused::new(Kind::BadRequest, format!("the request came without its descriptor of {what}"));
    descriptors.next().ok_or_else(missing)
}

fn netlink(descriptor: OwnedFd) -> Result<Netlink, Refused> {
    let no_socket =
        |error| Refused::new(Kind::BadRequest, format!("a descriptor is no netlink socket: {error}"));
    Netlink::new(descriptor).map_err(no_socket)
}

#[cfg(test)]
mod tests;
