//! The supervisor of a container of ours: the client that runs it.
//!
//! Theory of operation. It is the parent of the container's init and stays until that has ended: it
//! forwards signals and the terminal, and tells the daemon the exit code. It also holds what the next
//! daemon needs to serve the container: duplicates of its TAPs, of the netlink socket inside, and the
//! pidfd. When its daemon ends, it waits for the next one and brings the container to it; meanwhile
//! that goes on, without a network. It ends its container only when nobody will serve it any more: when
//! its daemon was one that keeps nothing, when everything was taken down (the container's directory has
//! gone), or when the next daemon does not know it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::Signal;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::Global;
use super::client::{Daemon, Gone, is_refused};
use super::reunion::Reunion;
use super::run::{Face, Plan, container_spec, write_hosts};
use crate::container::{Running, Wake, spawn};
use crate::control::requests::{Created, Notice, Request};
use crate::control::{Id, Kind};
use crate::daemon::runtime::{note_exit, note_init};
use crate::io::control_socket::MAX_DESCRIPTORS;
use crate::io::host;
use crate::io::sys::process::Exit;
use crate::io::sys::tun::attached;

/// How long a container has to end when nobody serves it any more.
const GRACE: Duration = Duration::from_secs(10);

/// A container that runs, and the daemon that serves it.
pub(super) struct Supervisor {
    daemon: Daemon,
    created: Created,
    running: Running,
    held: Held,
}

/// What the next daemon needs.
#[derive(Debug)]
struct Held {
    /// None in the host's network.
    netlink: Option<OwnedFd>,
    /// By network.
    taps: Vec<(Id, OwnedFd)>,
}

impl Supervisor {
    /// Makes a container, with a daemon that is there or is started for it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn start(global: &Global, plan: &Plan, face: Face) -> anyhow::Result<Self> {
        let (mut daemon, created) =
            Daemon::ask_or_start::<Created>(&global.socket(), face.daemon_flags(), &plan.request())?;
        match Self::bring_up(&mut daemon, &created, plan, face) {
            Ok((running, held)) => Ok(Self { daemon, created, running, held }),
            Err(error) => {
                // It may be gone already, with the daemon's own refusal.
                let name = created.name;
                let _ = match plan.again {
                    true => daemon.call::<()>(Request::ContainerAbandon),
                    false => daemon.call::<String>(Request::ContainerRemove { name, force: true }).map(drop),
                };
                Err(error)
            }
        }
    }

    fn bring_up(
        daemon: &mut Daemon,
        created: &Created,
        plan: &Plan,
        face: Face,
    ) -> anyhow::Result<(Running, Held)> {
        if created.host_network {
            write_hosts(&created.directory, &plan.spec.extra_hosts)?;
        }
        let mut prepared = spawn(&container_spec(created, plan, face)?)?;
        prepared.notices().iter().for_each(|notice| eprintln!("tapswitch: {notice}"));
        let (netlink, tuns) = match prepared.take_descriptors() {
            Some(descriptors) => (Some(descriptors.netlink), descriptors.tuns),
            None => (None, Vec::new()),
        };
        let pid = u32::try_from(prepared.pid().as_raw())?;
        // Only a next daemon's cleaning would miss it.
        let _ = note_init(&created.directory, pid);
        let started = host::process(pid).map(|process| process.started).unwrap_or_default();
        let pidfd = prepared.pidfd().context("the container ended before it started")?;
        let mut handed = vec![pidfd];
        handed.extend(netlink.iter().chain(&tuns).map(AsFd::as_fd));
        let () = daemon.call_with(Request::ContainerStart { id: created.id, pid, started }, &handed)?;
        let taps = created.networks.iter().copied().zip(tuns);
        // For a daemon that keeps nothing there is no next one, and its end is to be seen inside.
        let taps = taps.filter(|_| created.lasting).collect();
        Ok((prepared.start()?, Held { netlink, taps }))
    }

    /// The container's id.
    pub(super) fn id(&self) -> Id {
        self.created.id
    }

    /// Stays until the container has ended, and tells the daemon how.
    ///
    /// # Errors
    /// When the container cannot be waited for.
    pub(super) fn attend(&mut self) -> anyhow::Result<i32> {
        loop {
            match self.running.wait([self.daemon.descriptor()])? {
                Wake::Exited(exit) => return Ok(self.tell(exit)),
                Wake::Watched => {}
            }
            if self.take_notice() {
                continue;
            }
            let (name, id) = (&self.created.name, self.created.id);
            if self.created.lasting && self.created.directory.exists() {
                eprintln!(
                    "tapswitch: the daemon has ended; container '{name}' goes on and waits for the next one"
                );
                match self.await_daemon()? {
                    Next::Found(daemon) => self.daemon = daemon,
                    Next::Nobody(why) => {
                        eprintln!("tapswitch: container '{}' ends: {why}", self.created.name);
                        return self.end().map(Exit::status);
                    }
                    Next::Exited(exit) => {
                        let code = exit.status();
                        // Without its directory nobody will ask.
                        let _ = note_exit(&self.created.directory, code);
                        // One that came just now may have waited for that word.
                        if let Ok(Some(mut daemon)) = Daemon::try_connect(&self.daemon.socket) {
                            let _ = daemon.call::<()>(Request::ContainerExited { id, code });
                        }
                        return Ok(code);
                    }
                }
            } else {
                eprintln!("tapswitch: the daemon has ended, and so does container '{name}'");
                return self.end().map(Exit::status);
            }
        }
    }

    fn tell(&mut self, exit: Exit) -> i32 {
        let code = exit.status();
        let told = self.daemon.call::<()>(Request::ContainerExited { id: self.created.id, code });
        if told.is_err() {
            // A daemon that has gone learns it when it is there again.
            let _ = note_exit(&self.created.directory, code);
        }
        code
    }

    /// Takes in what the daemon says without being asked; false when it has gone.
    fn take_notice(&mut self) -> bool {
        let Some((notice, descriptors)) = self.daemon.notice::<Notice>() else { return false };
        let Notice::Hold(network) = notice;
        // Those of networks that it has left are good for nothing.
        self.held.taps.retain(|(of, tap)| *of != network && attached(tap.as_fd()).is_ok());
        self.held.taps.extend(descriptors.into_iter().map(|tap| (network, tap)));
        true
    }

    /// Waits for a daemon that takes the container over.
    fn await_daemon(&mut self) -> anyhow::Result<Next> {
        let mut reunion = Reunion::new(&self.daemon.socket)?;
        let mut said = String::new();
        loop {
            if let Some(mut daemon) = reunion.try_connect() {
                match self.rejoin(&mut daemon) {
                    Ok(()) => return Ok(Next::Found(daemon)),
                    Err(error) if is_refused(&error, Kind::BadState) => {
                        return Ok(Next::Nobody(error.to_string()));
                    }
                    // It has gone again, has too few descriptors, or is of another version: the next attempt, or the
                    // next daemon, can do better.
                    Err(error) => {
                        let why = error.to_string();
                        if !error.is::<Gone>() && why != said {
                            eprintln!("tapswitch: container '{}' still waits: {why}", self.created.name);
                            said = why;
                        }
                    }
                }
            } else if !self.created.directory.exists() {
                return Ok(Next::Nobody("everything was taken down".to_owned()));
            }
            if let Wake::Exited(exit) = self.running.wait(reunion.descriptors())? {
                return Ok(Next::Exited(exit));
            }
            reunion.woken();
        }
    }

    fn rejoin(&mut self, daemon: &mut Daemon) -> anyhow::Result<()> {
        self.held.taps.retain(|(_, tap)| attached(tap.as_fd()).is_ok());
        let pidfd = self.running.pidfd().context("it has ended")?;
        let mut handed: Vec<BorrowedFd<'_>> = vec![pidfd];
        handed.extend(self.held.netlink.iter().map(AsFd::as_fd));
        let taps = self.held.taps.iter().take(MAX_DESCRIPTORS - handed.len());
        let networks = taps.clone().map(|(network, _)| *network).collect();
        handed.extend(taps.map(|(_, tap)| tap.as_fd()));
        daemon.call_with(Request::ContainerAdopt { id: self.created.id, networks }, &handed)
    }

    /// Ends the container: SIGTERM, and SIGKILL after the grace.
    fn end(&mut self) -> anyhow::Result<Exit> {
        let _ = self.running.signal(Signal::SIGTERM);
        let patience = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)?;
        patience.set(Expiration::OneShot(GRACE.into()), TimerSetTimeFlags::empty())?;
        if let Wake::Exited(exit) = self.running.wait([patience.as_fd()])? {
            return Ok(exit);
        }
        let _ = self.running.signal(Signal::SIGKILL);
        loop {
            if let Wake::Exited(exit) = self.running.wait([])? {
                return Ok(exit);
            }
        }
    }
}

/// How waiting for a daemon ended.
enum Next {
    /// It serves the container.
    Found(Daemon),
    /// None will, and why.
    Nobody(String),
    /// The container ended first.
    Exited(Exit),
}
