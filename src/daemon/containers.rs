//! Requests about containers: those we run, and those that are plugged in.
//!
//! Theory of operation. A container of ours is created (names and addresses are taken),
//! then started by its supervisor, the client that is the parent of its init. Two things
//! tell of its end: the pidfd, upon which its ports and addresses go at once, and its
//! supervisor, who knows the exit code. A supervisor that goes away without a word takes
//! its container with it. A plugged namespace has no supervisor: the end of its process
//! (by pid) or the loss of its ports (by path) ends it.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::Signal;

use super::endpoints::Place;
use super::uplinks::Parent;
use super::{Answer, Daemon, Handled, failed, netlink, next, now};
use crate::control::model::{
    Container, ContainerKind, ContainerSpec, Endpoint, EndpointSpec, Listed, State, Unswitched,
};
use crate::control::names;
use crate::control::ports::{Exposed, PublishSpec};
use crate::control::requests::{ContainerFacts, Created, Joined};
use crate::control::state::{Process, Whence};
use crate::control::{Id, Kind, Refused};
use crate::io::host;
use crate::io::netlink::Netlink;
use crate::io::sys::process::send_signal;
use crate::io::uplink::user;

/// What only the shell knows of a container.
#[derive(Debug, Default)]
pub(super) struct Shell {
    pub(super) spec: ContainerSpec,
    pub(super) auto_remove: bool,
    /// Reaches the interfaces inside; a nursery's would keep the namespace alive, so none there.
    pub(super) netlink: Option<Netlink>,
    /// What it was before it was created once more, until it runs.
    pub(super) former: Option<Container>,
    /// How a next daemon finds it.
    pub(super) whence: Whence,
    pub(super) pidfd: Option<OwnedFd>,
    /// The interface behind a packet uplink.
    pub(super) parent: Option<Parent>,
    /// The device of a user uplink.
    pub(super) user: Option<user::Handle>,
    /// The init was noticed to have ended.
    pub(super) init_ended: bool,
    /// What its /etc/resolv.conf was given last.
    pub(super) resolv_conf: String,
    /// The pidfd is to be watched from now on.
    pub(super) unwatched: bool,
    /// TAPs that its supervisor is to hold when it has come.
    pub(super) unheld: Vec<(Id, OwnedFd)>,
    /// The connection of its supervisor, who made it; none for what is plugged in, and for those that outlived a
    /// daemon until they are adopted.
    pub(super) supervisor: Option<usize>,
}

/// A request to plug somebody else's namespace in.
pub(super) struct Plug {
    pub(super) name: String,
    pub(super) endpoint: EndpointSpec,
    pub(super) pid: Option<u32>,
    pub(super) nursery: bool,
    pub(super) configure: bool,
    pub(super) publish: Vec<PublishSpec>,
    pub(super) expose: Vec<Exposed>,
    pub(super) whence: Whence,
}

impl Daemon {
    pub(super) fn container_create(
        &mut self,
        connection: usize,
        spec: ContainerSpec,
        auto_remove: bool,
    ) -> Handled {
        let id = self.declare(spec, auto_remove, Some(connection))?;
        match self.write_files(id) {
            Ok(created) => now(created),
            Err(error) => {
                self.forget(id);
                Err(failed(&format!("cannot write the container's files: {error}")))
            }
        }
    }

    /// Takes addresses for a container that has ended, to be run once more.
    pub(super) fn container_again(&mut self, connection: usize, name: &str) -> Handled {
        let container = self.model.find_container(name)?;
        let (id, name) = (container.id, container.name.clone());
        if container.kind == ContainerKind::Plugged {
            let mend = format!("'{name}' is plugged in, not ours to start: 'tapswitch plug {name}'");
            return Err(Refused::new(Kind::NotOurs, mend));
        }
        let shell = self.containers.get(&id);
        let (spec, auto_remove) = shell.map(|it| (it.spec.clone(), it.auto_remove)).unwrap_or_default();
        let spec = ContainerSpec { name: Some(name), ..spec };
        let former = self.transact(|model| model.create_again(&spec, id, host::now_ns()))?;
        let (supervisor, former) = (Some(connection), Some(former));
        self.containers.insert(id, Shell { spec, auto_remove, supervisor, former, ..Shell::default() });
        match self.write_files(id) {
            Ok(created) => now(created),
            Err(error) => {
                self.forget(id);
                Err(failed(&format!("cannot write the container's files: {error}")))
            }
        }
    }

    /// Takes names and addresses.
    fn declare(
        &mut self,
        mut spec: ContainerSpec,
        auto_remove: bool,
        supervisor: Option<usize>,
    ) -> Result<Id, Refused> {
        if self.resolv_conf.is_none() {
            // Nobody tells of its changes: look at least now.
            self.read_resolv_conf();
        }
        let id = Id::new(crate::io::random::bytes());
        let name =
            self.transact(|model| Ok(model.create_container(&spec, id, host::now_ns())?.name.clone()))?;
        spec.name = Some(name);
        self.containers.insert(id, Shell { spec, auto_remove, supervisor, ..Shell::default() });
        Ok(id)
    }

    pub(super) fn write_files(&self, id: Id) -> std::io::Result<Created> {
        let directory = self.runtime.create(id)?;
        self.runtime.forget_exit(id);
        let container = self.model.container(id).ok_or(std::io::ErrorKind::NotFound)?;
        self.runtime.write(id, "hosts", &names::hosts(&self.model, container))?;
        self.runtime.write(id, "hostname", &format!("{}\n", container.hostname))?;
        self.runtime.write(id, "resolv.conf", &names::resolv_conf(&self.model, container))?;
        self.runtime.write(id, "nsswitch.conf", names::nsswitch_conf())?;
        let has_ipv6 =
            |endpoint: &Endpoint| self.model.network(endpoint.network).is_some_and(|net| net.has_ipv6());
        Ok(Created {
            id,
            name: container.name.clone(),
            hostname: container.hostname.clone(),
            directory,
            networks: container.endpoints.iter().map(|endpoint| endpoint.network).collect(),
            lasting: self.state.is_some(),
            ipv6: container.endpoints.iter().any(has_ipv6),
            offload: self.options.offload,
            host_network: container.unswitched == Some(Unswitched::Host),
        })
    }

    pub(super) fn container_start(
        &mut self,
        connection: usize,
        id: Id,
        process: Process,
        descriptors: Vec<OwnedFd>,
    ) -> Handled {
        self.model.find_container(&id.to_string())?;
        if !self.is_supervisor(connection, id) {
            return Err(Refused::new(
                Kind::BadRequest,
                "a container is started by the connection that made it",
            ));
        }
        if self.is_running(id) {
            return Err(Refused::new(
                Kind::BadState,
                "the container has been started already: run a new one",
            ));
        }
        let started = self.start(id, process, descriptors);
        if started.is_err() {
            self.forget(id);
        } else if let Some(shell) = self.containers.get_mut(&id) {
            shell.former = None;
        }
        started
    }

    fn is_supervisor(&self, connection: usize, id: Id) -> bool {
        self.containers.get(&id).is_some_and(|shell| shell.supervisor == Some(connection))
    }

    pub(super) fn is_running(&self, id: Id) -> bool {
        self.model.container(id).is_some_and(|container| container.state == State::Running)
    }

    fn start(&mut self, id: Id, process: Process, descriptors: Vec<OwnedFd>) -> Handled {
        let mut descriptors = descriptors.into_iter();
        let pidfd = next(&mut descriptors, "the container's init")?;
        let on_host = self.model.container(id).is_some_and(|it| it.unswitched == Some(Unswitched::Host));
        let inside = if on_host { None } else { Some(netlink(next(&mut descriptors, "a netlink socket")?)?) };
        let endpoints =
            self.model.container(id).map(|container| container.endpoints.clone()).unwrap_or_default();
        self.model.started(id, process.pid, host::now_ns())?;
        for (endpoint, netlink) in endpoints.iter().zip(inside.iter().cycle()) {
            let tun = next(&mut descriptors, "a TAP")?;
            self.attach(id, endpoint, tun, &Place::Inside(netlink), true)?;
        }
        if let Some(shell) = self.containers.get_mut(&id) {
            shell.netlink = inside;
            shell.pidfd = Some(pidfd);
            shell.unwatched = true;
            shell.whence.process = Some(process);
        }
        let networks = self.networks_of(id);
        self.neighbours_changed(&networks);
        now(())
    }

    /// Nobody but its supervisor knows; one whose container was removed meanwhile has nothing to add, and one
    /// that comes after a container's end was noticed adds the exit code.
    pub(super) fn container_exited(&mut self, connection: usize, id: Id, code: i32) -> Handled {
        if self.is_supervisor(connection, id) {
            self.end(id, Some(code));
        } else {
            self.model.explain_end(id, code);
        }
        now(())
    }

    pub(super) fn container_signal(&mut self, name: &str, signal: i32) -> Handled {
        let container = self.model.find_container(name)?;
        if container.kind == ContainerKind::Plugged {
            let name = &container.name;
            let mend = format!("'{name}' is plugged in, not ours to end: 'tapswitch unplug {name}'");
            return Err(Refused::new(Kind::NotOurs, mend));
        }
        let not_running =
            || Refused::new(Kind::BadState, format!("container '{}' does not run", container.name));
        let shell = self.containers.get(&container.id).filter(|shell| !shell.init_ended);
        match shell.and_then(|shell| shell.pidfd.as_ref()) {
            Some(pidfd) => {
                let signal = Signal::try_from(signal).map_err(|error| failed(&error))?;
                send_signal(pidfd.as_fd(), signal).map_err(|error| match error.raw_os_error() {
                    // It has ended, and we are about to hear of it.
                    Some(nix::libc::ESRCH) => not_running(),
                    _ => failed(&error),
                })?;
                now(())
            }
            _ => Err(not_running()),
        }
    }

    pub(super) fn container_wait(&self, name: &str) -> Handled {
        let container = self.model.find_container(name)?;
        match container.state {
            State::Created | State::Running => Ok(Answer::WhenEnded(container.id)),
            State::Exited { code } => now(Some(code)),
            State::Lost => now(None::<i32>),
        }
    }

    pub(super) fn container_remove(&mut self, name: &str, force: bool) -> Handled {
        let container = self.model.find_container(name)?;
        let (id, name) = (container.id, container.name.clone());
        if container.kind == ContainerKind::Plugged {
            return Err(Refused::new(
                Kind::BadState,
                format!("'{name}' is plugged in, not ours to remove: 'tapswitch unplug {name}'"),
            ));
        }
        if container.is_alive() {
            if !force {
                return Err(Refused::new(
                    Kind::BadState,
                    format!(
                        "container '{name}' is running: 'tapswitch stop {name}' first, or 'tapswitch rm -f {name}'"
                    ),
                ));
            }
            self.kill(id);
            self.end(id, None);
        }
        if let Some(shell) = self.containers.get_mut(&id) {
            shell.former = None;
        }
        self.forget(id);
        now(name)
    }

    pub(super) fn container_find(&self, name: &str) -> Handled {
        let container = self.model.find_container(name)?;
        let shell = self.containers.get(&container.id);
        now(ContainerFacts {
            id: container.id,
            name: container.name.clone(),
            hostname: container.hostname.clone(),
            pid: container.pid.filter(|_| shell.is_some_and(|shell| !shell.init_ended)),
            directory: self.runtime.directory(container.id),
            offload: self.options.offload,
            spec: shell.map(|shell| shell.spec.clone()).unwrap_or_default(),
        })
    }

    /// Whether a container may join a network at all, before the client looks into it, if it runs.
    pub(super) fn connect_plan(&self, word: &str, network: &str) -> Handled {
        let container = self.model.find_container(word)?;
        self.model.check_joins(container, network)?;
        let has_ipv6 = self.model.find_network(network)?.has_ipv6();
        now(Some(has_ipv6).filter(|_| container.is_alive() || container.kind != ContainerKind::Run))
    }

    pub(super) fn connect(
        &mut self,
        word: &str,
        spec: &EndpointSpec,
        configure: bool,
        descriptors: Vec<OwnedFd>,
    ) -> Handled {
        let id = self.model.find_container(word)?.id;
        let runs = self.model.container(id).is_some_and(|it| it.is_alive() || it.kind != ContainerKind::Run);
        if !runs {
            self.model.connect_later(word, spec)?;
            return now(None::<Joined>);
        }
        let mut descriptors = descriptors.into_iter();
        let tun = next(&mut descriptors, "a TAP")?;
        let netlink = netlink(next(&mut descriptors, "a netlink socket")?)?;
        let before = self.ways_out(id);
        let endpoint = self.model.connect(word, spec)?.1.clone();
        // What it publishes may come in by this network now.
        if let Err(refused) = self.tell_switch() {
            self.model.disconnect(word, &endpoint.network.to_string())?;
            return Err(refused);
        }
        let held = self.to_be_held(id, &tun);
        self.replace_default_routes(id, before);
        let joined = self.ways_out(id);
        if let Err(refused) = self.attach(id, &endpoint, tun, &Place::Inside(&netlink), configure) {
            self.model.disconnect(word, &endpoint.network.to_string())?;
            self.replace_default_routes(id, joined);
            return Err(refused);
        }
        if let Some(tap) = held {
            self.hold(id, endpoint.network, tap);
        }
        self.rename_ports(id);
        self.membership_changed(&[endpoint.network]);
        self.joined(id, &endpoint)
    }

    pub(super) fn disconnect(&mut self, word: &str, network: &str) -> Handled {
        if let Ok(Listed::Unswitched(left)) = self.model.find_listed(network) {
            return now(self.model.leave_unswitched(word, left)?);
        }
        let container = self.model.find_container(word)?;
        let id = container.id;
        if !container.is_alive() {
            return now(self.model.disconnect_later(word, network)?);
        }
        let before = self.ways_out(id);
        let endpoint = self.model.disconnect(word, network)?;
        self.remove_interface(id, &endpoint);
        self.detach(&endpoint);
        self.replace_default_routes(id, before);
        self.rename_ports(id);
        self.write_names(id);
        self.membership_changed(&[endpoint.network]);
        now(())
    }

    pub(super) fn plug(&mut self, plug: Plug, descriptors: Vec<OwnedFd>) -> Handled {
        if let Some(container) = self.model.container_named(&plug.name)
            && container.kind == ContainerKind::Plugged
            && plug.pid == container.pid
            && plug.pid.is_some()
        {
            return self.plug_again(plug, descriptors);
        }
        self.forget_lost(&plug.name);
        let spec = ContainerSpec {
            name: Some(plug.name.clone()),
            kind: ContainerKind::Plugged,
            networks: vec![plug.endpoint],
            publish: plug.publish,
            expose: plug.expose,
            ..ContainerSpec::default()
        };
        let id = self.declare(spec, true, None)?;
        if let Err(refused) = self.attach_foreign(id, plug.pid, plug.nursery, plug.configure, descriptors) {
            self.forget(id);
            return Err(refused);
        }
        if let Some(shell) = self.containers.get_mut(&id) {
            shell.whence = plug.whence;
        }
        let networks = self.networks_of(id);
        self.neighbours_changed(&networks);
        let endpoint = self.model.container(id).and_then(|container| container.endpoints.first().cloned());
        self.joined(id, &endpoint.ok_or_else(|| failed(&"the container has gone"))?)
    }

    /// A plugged process joins one more network, and may publish and expose more; all of it, or nothing.
    fn plug_again(&mut self, plug: Plug, descriptors: Vec<OwnedFd>) -> Handled {
        let (name, network) = (&plug.name, &plug.endpoint.network);
        let joined = self.connect(name, &plug.endpoint, plug.configure, descriptors)?;
        let more = self.transact(|model| {
            plug.publish.iter().try_for_each(|publish| model.publish(name, publish).map(drop))?;
            model.expose(name, &plug.expose)
        });
        if let Err(refused) = more {
            self.disconnect(name, network)?;
            return Err(refused);
        }
        Ok(joined)
    }

    /// Attaches the one endpoint of what lives in somebody else's namespace.
    pub(super) fn attach_foreign(
        &mut self,
        id: Id,
        pid: Option<u32>,
        nursery: bool,
        configure: bool,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), Refused> {
        let mut descriptors = descriptors.into_iter();
        let tun = next(&mut descriptors, "a TAP")?;
        let socket = netlink(next(&mut descriptors, "a netlink socket")?)?;
        let endpoints =
            self.model.container(id).map(|container| container.endpoints.clone()).unwrap_or_default();
        let [endpoint] = endpoints.as_slice() else {
            return Err(failed(&"a plugged namespace joins one network at a time"));
        };
        self.model.started(id, pid.unwrap_or(0), host::now_ns())?;
        if nursery {
            let namespace = next(&mut descriptors, "the namespace to plug")?;
            let inside = netlink(next(&mut descriptors, "a netlink socket in the namespace")?)?;
            let place = Place::Nursery { nursery: socket, namespace, inside };
            return self.attach(id, endpoint, tun, &place, configure);
        }
        self.attach(id, endpoint, tun, &Place::Inside(&socket), configure)?;
        if let Some(shell) = self.containers.get_mut(&id) {
            shell.netlink = Some(socket);
            shell.pidfd = descriptors.next();
            shell.unwatched = shell.pidfd.is_some();
        }
        Ok(())
    }

    fn joined(&self, id: Id, endpoint: &Endpoint) -> Handled {
        let Some(container) = self.model.container(id) else { return Err(failed(&"the container has gone")) };
        now(Joined {
            name: container.name.clone(),
            ifname: endpoint.ifname.clone(),
            mac: endpoint.mac,
            addresses: endpoint.addresses.clone(),
            hosts: names::peers(&self.model, container),
            name_servers: names::name_servers(&self.model, container),
        })
    }

    pub(super) fn unplug(&mut self, name: &str, network: Option<&str>) -> Handled {
        let container = self.model.find_container(name)?;
        let (id, name) = (container.id, container.name.clone());
        if container.kind != ContainerKind::Plugged {
            let mend = format!("'{name}' is a container of ours: 'tapswitch stop {name}' ends it");
            return Err(Refused::new(Kind::BadState, mend));
        }
        match network {
            Some(network) if container.endpoints.len() > 1 => self.disconnect(&name, network),
            Some(network) => {
                let on = self.model.find_network(network)?.id;
                if !container.endpoints.iter().any(|endpoint| endpoint.network == on) {
                    let text = format!("'{name}' is not on network '{network}'");
                    return Err(Refused::new(Kind::NotConnected, text));
                }
                self.forget(id);
                now(())
            }
            None => {
                self.forget(id);
                now(())
            }
        }
    }

    /// Pidfds to watch from now on.
    pub(super) fn take_new_pidfds(&mut self) -> Vec<(Id, OwnedFd)> {
        let fresh = |(id, shell): (&Id, &mut Shell)| {
            let pidfd = shell.pidfd.as_ref().filter(|_| shell.unwatched)?;
            // While there are too few descriptors, the next turn tries again.
            let watched = pidfd.try_clone().ok()?;
            shell.unwatched = false;
            Some((*id, watched))
        };
        self.containers.iter_mut().filter_map(fresh).collect()
    }

    /// Whether a container's pidfd matters still.
    pub(super) fn watches(&self, id: Id) -> bool {
        self.containers.get(&id).is_some_and(|shell| shell.pidfd.is_some())
    }

    /// A container's init (or a plugged process) has ended: its ports, addresses and names go now.
    pub(super) fn process_ended(&mut self, id: Id) {
        let Some(shell) = self.containers.get_mut(&id) else { return };
        shell.init_ended = true;
        let supervised = shell.supervisor.is_some();
        // Who has not been adopted yet has nobody who could tell us more.
        if supervised {
            self.release_endpoints(id);
        } else {
            self.end(id, None);
        }
    }

    /// Every port of a container was deleted inside; a namespace plugged by path has then gone.
    pub(super) fn all_ports_lost(&mut self, id: Id) {
        let by_path =
            self.containers.get(&id).is_some_and(|shell| shell.pidfd.is_none() && shell.supervisor.is_none());
        let is_ours = self.model.container(id).is_some_and(|container| container.kind == ContainerKind::Run);
        if by_path && !is_ours {
            self.end(id, None);
        }
    }

    /// A connection has closed: containers whose supervisor it was end with it, and those that it never
    /// started were never there.
    pub(super) fn supervisor_gone(&mut self, connection: usize) {
        let theirs = self.containers.iter().filter(|(_, shell)| shell.supervisor == Some(connection));
        for id in theirs.map(|(id, _)| *id).collect::<Vec<_>>() {
            if self.is_running(id) {
                self.kill(id);
                self.end(id, None);
            } else {
                self.forget(id);
            }
        }
    }

    /// The daemon ends: so do its containers. Supervisors see the connection close and follow up.
    pub(super) fn end_all(&mut self) {
        for (id, shell) in self.containers.iter().filter(|(_, shell)| !shell.init_ended) {
            let is_ours = self.model.container(*id).is_some_and(|it| it.kind == ContainerKind::Run);
            if let Some(pidfd) = shell.pidfd.as_ref().filter(|_| is_ours) {
                let _ = send_signal(pidfd.as_fd(), Signal::SIGTERM);
            }
        }
    }

    /// Containers that have ended and whose waiters are to be told, with their exit codes.
    pub(super) fn take_ended(&mut self) -> Vec<(Id, Handled)> {
        let ended = std::mem::take(&mut self.ended);
        for (id, _) in &ended {
            if self.containers.get(id).is_some_and(|shell| shell.auto_remove) {
                self.forget(*id);
            }
        }
        ended.into_iter().map(|(id, code)| (id, now(code))).collect()
    }

    fn kill(&self, id: Id) {
        if let Some(shell) = self.containers.get(&id).filter(|shell| !shell.init_ended)
            && let Some(pidfd) = &shell.pidfd
            && self.model.container(id).is_some_and(|container| container.kind == ContainerKind::Run)
        {
            // It may have ended a moment ago.
            let _ = send_signal(pidfd.as_fd(), Signal::SIGKILL);
        }
    }

    /// A container has ended; `code` is unknown when only its disappearance was seen.
    pub(super) fn end(&mut self, id: Id, code: Option<i32>) {
        if !self.model.container(id).is_some_and(|container| container.is_alive()) {
            return;
        }
        self.release_endpoints(id);
        let _ = self.model.ended(id, code, host::now_ns());
        if let Some(shell) = self.containers.get_mut(&id) {
            (shell.netlink, shell.pidfd, shell.supervisor) = (None, None, None);
        }
        self.ended.push((id, code));
    }

    /// Gives a container's ports, addresses and names back.
    fn release_endpoints(&mut self, id: Id) {
        let Some(container) = self.model.container(id) else { return };
        let networks = self.networks_of(id);
        for endpoint in container.endpoints.clone() {
            self.detach(&endpoint);
            let _ = self.model.leave(&id.to_string(), &endpoint.network.to_string());
        }
        self.membership_changed(&networks);
    }

    /// Removes every trace of a container; one that was created once more and did not come to run is what it was.
    pub(super) fn forget(&mut self, id: Id) {
        if self.model.container(id).is_some_and(|container| container.is_alive()) {
            self.ended.push((id, None));
        }
        self.release_endpoints(id);
        if let Some(shell) = self.containers.get_mut(&id)
            && let Some(former) = shell.former.take()
        {
            (shell.netlink, shell.pidfd, shell.supervisor) = (None, None, None);
            self.model.put_back(former);
            let _ = self.tell_switch();
            return;
        }
        let _ = self.model.remove_container(&id.to_string(), true);
        self.containers.remove(&id);
        self.runtime.remove(id);
    }

    /// Who is on these networks has changed: rewrite the files that tell of them, let captures look again,
    /// and tell the switch what its rules and names come to now.
    pub(super) fn membership_changed(&mut self, networks: &[Id]) {
        self.neighbours_changed(networks);
        // It takes what the model allows; when its loop has ended, so has everything.
        let _ = self.tell_switch();
    }

    /// The same where the switch was told already: it is not concerned with who runs.
    fn neighbours_changed(&mut self, networks: &[Id]) {
        let concerned = networks.iter().flat_map(|network| self.model.endpoints(*network));
        let ids: BTreeSet<Id> = concerned.map(|(container, _)| container.id).collect();
        ids.into_iter().for_each(|id| self.write_names(id));
        self.reselect_captures();
    }

    /// The networks a container is on.
    pub(super) fn networks_of(&self, id: Id) -> Vec<Id> {
        let endpoints = self.model.container(id).map(|container| container.endpoints.iter());
        endpoints.into_iter().flatten().map(|endpoint| endpoint.network).collect()
    }
}
