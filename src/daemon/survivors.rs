//! What has outlived a former daemon: found again at start, before this one is confined.
//!
//! Theory of operation. A container of ours that still runs is waited for: its supervisor brings it back
//! (`adopt.rs`). A namespace of somebody else's is plugged in once more, by the code that clients do it with, when it
//! is the same one as before: same process (number and start time) or same path, and same inode number. Whoever has
//! ended is released. A namespace that is there and cannot be had is shown as lost, with the command to plug it in.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Context;
use ipnet::IpNet;

use super::containers::Shell;
use super::endpoints::Place;
use super::runtime::Runtime;
use super::state::Keeper;
use super::{Daemon, netlink, next};
use crate::control::config::DaemonConfig;
use crate::control::model::{Container, ContainerKind, EndpointSpec, FarEnd, State};
use crate::control::state::{KeptShell, Saved, Whence};
use crate::control::{Id, Model, Refused};
use crate::dataplane::Change;
use crate::io::foreign::{self, Opened};
use crate::io::journal::Journal;
use crate::io::netns::{Identity, Target};
use crate::io::state_file::StateFile;
use crate::io::sys::process::open_pidfd;
use crate::io::uplink::{self, Kind as UplinkKind};
use crate::io::{host, host_port, random};

/// What a former daemon left.
pub(super) struct Previous {
    file: StateFile,
    journal: Journal,
    /// None: it left nothing.
    pub(super) model: Option<Model>,
    shells: BTreeMap<Id, KeptShell>,
    /// Of those that ran.
    found: BTreeMap<Id, Found>,
    /// The machine's present boot.
    boot: String,
    /// Whether it was the same then.
    same_boot: bool,
}

/// What has become of a container that ran.
enum Found {
    /// It runs: its init.
    Alive(OwnedFd),
    /// It is there: what it is plugged in again by.
    Opened(Opened),
    /// It needs nothing from outside.
    Ours,
    /// It has ended, with this exit code if that was noted.
    Gone(Option<i32>),
    /// It is there and cannot be had.
    Lost(String),
}

impl Previous {
    /// Takes the state file and reads it.
    ///
    /// # Errors
    /// When it is another daemon's, or no state: it stays as it is, and somebody has to decide.
    pub(super) fn read(path: &Path, config: &DaemonConfig, host: &[IpNet]) -> anyhow::Result<Self> {
        let file = StateFile::lock(path)?;
        let shown = file.path().display().to_string();
        let cannot_read = || format!("cannot read the state in {shown}");
        let text = file.read().with_context(cannot_read)?;
        let mut journal = file.journal().with_context(cannot_read)?;
        let records = journal.read().with_context(cannot_read)?;
        let (boot, shells, found) = (host::boot(), BTreeMap::new(), BTreeMap::new());
        let mut previous = Self { file, journal, model: None, shells, found, boot, same_boot: true };
        let Some(text) = text else { return Ok(previous) };
        let read = Saved::parse(&text).and_then(|mut saved| {
            saved.catch_up(&records)?;
            let bridge = Id::new(random::bytes());
            Ok((Model::restore(config, &saved, bridge, host::now_ns(), host)?, saved))
        });
        let (model, saved) = read.map_err(|error| {
            anyhow::anyhow!(
                "cannot use the state in {shown}: {error}; to begin without it: mv {shown} {shown}.bad"
            )
        })?;
        previous.same_boot = saved.boot == previous.boot;
        previous.shells = saved.containers.into_iter().map(|kept| (kept.container.id, kept.shell)).collect();
        previous.model = Some(model);
        Ok(previous)
    }

    /// The containers whose directories are still needed. One that was never started has lost its client.
    pub(super) fn containers(&self) -> BTreeSet<Id> {
        let all = self.model.iter().flat_map(Model::containers);
        all.filter(|it| it.state != State::Created).map(|container| container.id).collect()
    }

    /// Looks for all that ran. Forks.
    pub(super) fn find_again(&mut self, runtime: &Runtime, offload: bool) {
        let Some(model) = &self.model else { return };
        let (_, all) = model.everything();
        for container in all.filter(|container| container.is_alive()) {
            let whence = self.shells.get(&container.id).map(|shell| shell.whence.clone()).unwrap_or_default();
            let found = match container.kind {
                _ if container.kind != ContainerKind::Run && is_user_uplink(model, container.id) => {
                    Found::Ours
                }
                ContainerKind::Host => opened_here(host_port::open(offload).map(Vec::from)),
                // An uplink of our own namespace is to come back after a reboot, too.
                ContainerKind::Uplink if is_here(&whence) => {
                    find_here(&whence, self.same_boot, far_end(model, container.id))
                }
                _ if !self.same_boot => Found::Gone(None),
                ContainerKind::Run => find_process(&whence, || runtime.exit_code(container.id)),
                ContainerKind::Plugged => find_foreign(&whence, container.endpoints.len()),
                ContainerKind::Uplink => find_foreign(&whence, 1),
            };
            self.found.insert(container.id, found);
        }
    }
}

fn is_user_uplink(model: &Model, id: Id) -> bool {
    model.network(id).is_some_and(crate::control::model::Network::is_user)
}

/// A container of ours, by its init.
fn find_process(whence: &Whence, exit_code: impl FnOnce() -> Option<i32>) -> Found {
    let pidfd = whence.process.and_then(|process| {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(process.pid).ok()?);
        let pidfd = open_pidfd(pid).ok()?;
        // Only now nobody else can get its number.
        (host::process(process.pid) == Some(process)).then_some(pidfd)
    });
    pidfd.map_or_else(|| Found::Gone(exit_code()), Found::Alive)
}

/// Whether it is in the namespace of the daemon itself.
fn is_here(whence: &Whence) -> bool {
    whence.process.is_none() && whence.origin.as_ref().is_some_and(|origin| origin.netns.is_none())
}

fn far_end(model: &Model, id: Id) -> Option<&FarEnd> {
    model.network(id)?.uplink.as_ref().map(|uplink| &uplink.far_end)
}

/// A namespace of somebody else's, opened again.
fn find_foreign(whence: &Whence, taps: usize) -> Found {
    let Some(origin) = &whence.origin else { return Found::Gone(None) };
    let target = match (whence.process, &origin.netns) {
        (Some(process), _) => {
            let pid = i32::try_from(process.pid).unwrap_or(0);
            if host::process(process.pid) != Some(process) {
                return Found::Gone(None);
            }
            Target::Pid(pid)
        }
        (None, Some(netns)) => {
            match std::fs::metadata(netns) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Found::Gone(None),
                Ok(metadata) if metadata.ino() != origin.inode => {
                    return Found::Lost(format!("{} is another namespace now", netns.display()));
                }
                // Opening it says best what is wrong with it.
                _ => {}
            }
            Target::Path { netns: netns.clone(), userns: origin.userns.clone() }
        }
        (None, None) => return Found::Gone(None),
    };
    match foreign::open(&target, taps, !origin.plain) {
        Ok(opened) if opened.inode == origin.inode => Found::Opened(opened),
        Ok(_) => Found::Lost("it is in another namespace now".to_owned()),
        Err(error) => Found::Lost(format!("{error:#}")),
    }
}

/// The far end of an uplink in our own namespace, which is the same as before, as far as a boot lasts.
fn find_here(whence: &Whence, same_boot: bool, far_end: Option<&FarEnd>) -> Found {
    let Some(origin) = &whence.origin else { return Found::Gone(None) };
    if same_boot && !Identity::current().is_ok_and(|identity| identity.inode == origin.inode) {
        return Found::Lost("it was in another namespace than this daemon".to_owned());
    }
    let opened = match far_end {
        Some(FarEnd::Tap(_)) => uplink::open(None, UplinkKind::Tap { offload: !origin.plain })
            .map(|it| vec![it.device, it.netlink]),
        Some(FarEnd::Packet(_)) => {
            uplink::open(None, UplinkKind::Packet).map(|it| vec![it.device, it.netlink, it.monitor])
        }
        _ => return Found::Gone(None),
    };
    opened_here(opened)
}

fn opened_here(opened: Result<Vec<OwnedFd>, impl std::fmt::Display>) -> Found {
    match opened {
        Ok(descriptors) => Found::Opened(Opened { descriptors, nursery: false, inode: 0, pinned: None }),
        Err(error) => Found::Lost(error.to_string()),
    }
}

impl Daemon {
    /// Goes on where a former daemon ended.
    pub(super) fn take_over(&mut self, previous: Previous) -> anyhow::Result<()> {
        let Previous { file, journal, shells, mut found, boot, .. } = previous;
        let (_, all) = self.model.everything();
        let all: Vec<Container> = all.cloned().collect();
        for container in &all {
            let kept = shells.get(&container.id).cloned().unwrap_or_default();
            let whence = kept.whence;
            let shell = Shell { spec: kept.spec, auto_remove: kept.auto_remove, whence, ..Shell::default() };
            self.containers.insert(container.id, shell);
            self.settle(container, found.get_mut(&container.id));
        }
        self.state = Some(Keeper::start(file, journal, boot, self.model.clone())?);
        self.tell_switch()?;
        let routes: Vec<_> = self.model.routes().cloned().collect();
        for route in &routes {
            self.tell_route(route, Change::AddRoute)?;
        }
        for container in &all {
            if !self.model.container(container.id).is_some_and(Container::is_alive) {
                continue;
            }
            let attached = match found.remove(&container.id) {
                Some(Found::Ours) => self.attach_user_again(container.id),
                Some(Found::Opened(opened)) => self.attach_again(container, opened),
                _ => Ok(()),
            };
            if let Err(refused) = attached {
                self.lose(container, &refused.message);
            }
        }
        let networks: Vec<Id> = self.model.all_networks().into_iter().map(|network| network.id).collect();
        self.membership_changed(&networks);
        // Nobody waits for those that ended while there was no daemon.
        self.ended.clear();
        Ok(())
    }

    /// Releases whoever has ended.
    fn settle(&mut self, container: &Container, found: Option<&mut Found>) {
        let id = container.id;
        match (container.kind, container.state, found) {
            (ContainerKind::Run, State::Created, _) => self.forget(id),
            (_, _, Some(Found::Lost(why))) => self.lose(container, why),
            (ContainerKind::Run, _, Some(Found::Gone(code))) => {
                self.end(id, *code);
                if self.containers.get(&id).is_some_and(|shell| shell.auto_remove) {
                    self.forget(id);
                }
            }
            (ContainerKind::Plugged, _, Some(Found::Gone(_))) => self.forget(id),
            (_, _, Some(Found::Gone(_))) => self.lose(container, "it is not there any more"),
            (ContainerKind::Run, _, Some(alive)) => {
                if let (Found::Alive(pidfd), Some(shell)) = (&*alive, self.containers.get_mut(&id)) {
                    shell.pidfd = pidfd.try_clone().ok();
                    shell.unwatched = true;
                }
            }
            _ => {}
        }
    }

    /// Somebody else's namespace is there and cannot be had: it stays declared, without a port.
    fn lose(&mut self, container: &Container, why: &str) {
        let (id, name) = (container.id, &container.name);
        (self.options.say)(&format!("'{name}' cannot be had again: {why}"));
        if container.kind == ContainerKind::Host {
            self.host_remove(id);
            return;
        }
        // What it takes to have it back just as it was.
        let endpoints = container.endpoints.iter().filter_map(|endpoint| {
            Some(EndpointSpec {
                network: self.model.network(endpoint.network)?.name.clone(),
                ifname: Some(endpoint.ifname.clone()),
                mac: Some(endpoint.mac),
                addresses: endpoint.addresses.iter().map(IpNet::addr).collect(),
                aliases: endpoint.aliases.clone(),
                connected: false,
            })
        });
        let endpoints = endpoints.collect();
        self.end(id, None);
        if let Some(shell) = self.containers.get_mut(&id) {
            (shell.spec.networks, shell.auto_remove) = (endpoints, false);
        }
    }

    /// A user uplink has its device again; what somebody else on the host listens on now is published no more.
    fn attach_user_again(&mut self, id: Id) -> Result<(), Refused> {
        let mut attached = self.attach_user(id);
        while let Err(refused) = &attached {
            let Some((protocol, port)) = self.taken.take() else { break };
            (self.options.say)(&refused.message);
            self.model.unpublish_outer(protocol, port);
            attached = self.tell_switch();
        }
        attached
    }

    fn attach_again(&mut self, container: &Container, opened: Opened) -> Result<(), Refused> {
        let id = container.id;
        let uplink = self.model.network(id).and_then(|network| network.uplink.as_ref());
        if matches!(uplink.map(|uplink| &uplink.far_end), Some(FarEnd::Packet(_))) {
            return self.attach_packet(id, None, opened.descriptors);
        }
        let origin = self.containers.get(&id).and_then(|shell| shell.whence.origin.as_ref());
        let configure = !origin.is_some_and(|origin| origin.bare);
        let mut descriptors = opened.descriptors.into_iter();
        let taps: Vec<OwnedFd> = descriptors.by_ref().take(container.endpoints.len()).collect();
        let socket = netlink(next(&mut descriptors, "a netlink socket")?)?;
        if opened.nursery {
            let namespace = next(&mut descriptors, "the namespace to plug")?;
            let inside = netlink(next(&mut descriptors, "a netlink socket in the namespace")?)?;
            let place = Place::Nursery { nursery: socket, namespace, inside };
            return self.attach_all(container, taps, &place, configure);
        }
        self.attach_all(container, taps, &Place::Inside(&socket), configure)?;
        if let Some(shell) = self.containers.get_mut(&id) {
            shell.netlink = Some(socket);
            shell.pidfd = descriptors.next();
            shell.unwatched = shell.pidfd.is_some();
        }
        Ok(())
    }

    fn attach_all(
        &mut self,
        container: &Container,
        taps: Vec<OwnedFd>,
        place: &Place<'_>,
        configure: bool,
    ) -> Result<(), Refused> {
        let mut endpoints = container.endpoints.iter().zip(taps);
        endpoints.try_for_each(|(endpoint, tap)| self.attach(container.id, endpoint, tap, place, configure))
    }

    /// Forgets a lost namespace, for one of its name is plugged in.
    pub(super) fn forget_lost(&mut self, name: &str) {
        let lost = self
            .model
            .find_container(name)
            .ok()
            .filter(|it| it.name == name && it.kind == ContainerKind::Plugged && it.state == State::Lost);
        if let Some(id) = lost.map(|container| container.id) {
            self.forget(id);
        }
    }

    /// The command that plugs a lost namespace in again.
    pub(super) fn plug_command(&self, container: &Container) -> Option<String> {
        let shell = self.containers.get(&container.id)?;
        let lost = container.kind == ContainerKind::Plugged && container.state == State::Lost;
        let endpoint = shell.spec.networks.first().filter(|_| lost)?;
        let settings: Vec<String> = endpoint
            .addresses
            .iter()
            .map(|address| format!("ip={address}"))
            .chain(endpoint.mac.map(|mac| format!("mac={mac}")))
            .chain(endpoint.aliases.iter().map(|alias| format!("alias={alias}")))
            .chain(endpoint.ifname.iter().map(|ifname| format!("ifname={ifname}")))
            .collect();
        let mut command = format!(
            "tapswitch plug {} --network {}:{}",
            container.name,
            endpoint.network,
            settings.join(",")
        );
        match (&shell.whence.process, shell.whence.origin.as_ref().and_then(|origin| origin.netns.as_ref())) {
            (Some(process), _) => command.push_str(&format!(" --pid {}", process.pid)),
            (None, Some(netns)) => command.push_str(&format!(" --netns {}", netns.display())),
            (None, None) => return None,
        }
        shell.spec.publish.iter().for_each(|publish| command.push_str(&format!(" -p {publish}")));
        Some(command)
    }
}
