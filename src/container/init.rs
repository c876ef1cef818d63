//! Pid 1 of a container: sets it up, then starts the command, reaps, and hands signals on.
//!
//! # Theory of operation
//! It is a forked copy of the client and never executes anything else, so it needs no file inside.
//! States: waiting for its user ids to be mapped → preparing → waiting for the word to start →
//! running. In the first three a hang-up of the channel (the supervisor died) ends it; from the
//! moment its credentials are final, so does the parent-death signal. When it ends, for whatever
//! reason, the kernel kills everything in the pid namespace: nothing outlives its supervisor.
//!
//! All signals are blocked and taken by `sigwait`: the kernel discards a signal to a pid 1 that
//! neither handles nor blocks it.

use std::env;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sched::CloneFlags;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, sethostname, setsid};
use serde::{Deserialize, Serialize};

use super::command::{Command, OURS, Stdio, environment};
use super::error::SpawnError;
use super::spawn::Spec;
use super::{mounts, sysctl};
use crate::io::helper::Channel;
use crate::io::netns::{self, Identity};
use crate::io::sys::namespace;
use crate::io::sys::process::{self, Exit};

/// What the supervisor says to init.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Word {
    /// The user ids are mapped: prepare.
    Mapped,
    /// Run the command.
    Start,
}

/// What init says when it is prepared. The descriptors come with it: the TUNs, then netlink.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ready {
    pub(super) identity: Identity,
    /// What had to be done without, one line each.
    pub(super) notices: Vec<String>,
}

/// Init's whole life; returns its exit status.
pub(super) fn main(spec: &Spec, stdio: Stdio, channel: Channel) -> i32 {
    let directory = env::current_dir().ok();
    if !prepare_and_report(spec, &stdio, &channel) || !told(&channel, Word::Start) {
        return OURS;
    }
    drop(channel);
    if spec.command.is_empty() {
        return idle(stdio);
    }
    let command = Command {
        arguments: &spec.command,
        environment: environment(&spec.hostname, spec.terminal, &spec.env),
        workdir: spec.workdir.as_deref(),
        caller_directory: directory,
        stdio: &stdio,
    };
    match process::fork(CloneFlags::empty(), || command.become_it()) {
        Ok(child) => {
            let (main, _) = child.release();
            let_go(stdio);
            reap(main)
        }
        Err(error) => {
            eprintln!("tapswitch: {}", SpawnError::setup("start the command", error));
            OURS
        }
    }
}

/// Waits for a word; `false` when the supervisor has gone.
fn told(channel: &Channel, word: Word) -> bool {
    matches!(channel.receive::<Word>(), Ok(Some((said, _))) if said == word)
}

/// Says whether to go on.
fn prepare_and_report(spec: &Spec, stdio: &Stdio, channel: &Channel) -> bool {
    match prepare(spec, stdio, channel) {
        Ok(Some((ready, fds))) => {
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            channel.send(&Ok::<_, SpawnError>(ready), &fds).is_ok()
        }
        Ok(None) => false,
        Err(error) => {
            // Nobody listens when the supervisor has gone.
            let _ = channel.send(&Err::<Ready, _>(error), &[]);
            false
        }
    }
}

/// `None`: the supervisor has gone.
fn prepare(
    spec: &Spec,
    stdio: &Stdio,
    channel: &Channel,
) -> Result<Option<(Ready, Vec<OwnedFd>)>, SpawnError> {
    let mut kept: Vec<BorrowedFd<'_>> = stdio.descriptors().map(AsFd::as_fd).collect();
    kept.push(channel.as_fd());
    process::keep_only(&kept).map_err(|error| SpawnError::setup("close descriptors", error))?;
    // Out of the caller's session: a ^C in its terminal must come once, through the supervisor.
    setsid().map_err(|errno| SpawnError::setup("start a session", errno))?;
    SigSet::all().thread_block().map_err(|errno| SpawnError::setup("block signals", errno))?;
    if !told(channel, Word::Mapped) {
        return Ok(None);
    }
    // The ids are mapped and no credential changes after this, which would clear it.
    set_pdeathsig(Signal::SIGKILL).map_err(|errno| SpawnError::setup("watch the supervisor", errno))?;
    let mut notices = mounts::build(spec.files.as_deref(), !spec.host_network)?;
    sethostname(&spec.hostname).map_err(|errno| SpawnError::setup("set the host name", errno))?;
    notices.extend(sysctl::apply((!spec.host_network).then_some(spec.ipv6), &spec.sysctls)?);
    let mut fds = Vec::new();
    if !spec.host_network {
        namespace::loopback_up().map_err(|error| SpawnError::setup("bring lo up", error))?;
        fds = netns::open_here(spec.taps, !spec.plain_taps).map_err(SpawnError::Network)?;
    }
    let identity =
        Identity::current().map_err(|error| SpawnError::setup("read the network namespace", error))?;
    Ok(Some((Ready { identity, notices }, fds)))
}

/// Init must keep neither the caller's pipes nor the terminal open.
fn let_go(stdio: Stdio) {
    drop(stdio);
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        for standard in 0..=2 {
            // A descriptor that stays open delays only an end-of-file.
            let _ = process::replace_standard(null.as_fd(), standard);
        }
    }
}

/// A container without a command: there until it is told to stop, which is no failure.
fn idle(stdio: Stdio) -> i32 {
    let_go(stdio);
    loop {
        match SigSet::all().wait() {
            Ok(Signal::SIGTERM | Signal::SIGINT | Signal::SIGHUP | Signal::SIGQUIT) => return 0,
            Ok(Signal::SIGCHLD) => drop(reap_ended(None)), // left behind by an `exec`
            Ok(_) | Err(_) => {}
        }
    }
}

/// Until the command ends: its status, with 128 + n for signal n.
fn reap(main: Pid) -> i32 {
    loop {
        if let Some(exit) = reap_ended(Some(main)) {
            return exit.status();
        }
        match SigSet::all().wait() {
            Ok(Signal::SIGCHLD) | Err(_) => {}
            // The command may have ended this moment.
            Ok(signal) => drop(kill(main, signal)),
        }
    }
}

/// Reaps whatever has ended, orphans too; says how `main` did.
fn reap_ended(main: Option<Pid>) -> Option<Exit> {
    let mut ended = None;
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        let Some(exit) = Exit::from_wait(status) else { break };
        if status.pid() == main {
            ended = Some(exit);
        }
    }
    ended
}
