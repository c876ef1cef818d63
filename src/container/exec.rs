//! One more command in a running container.
//!
//! # Theory of operation
//! The client forks a helper, which enters all of the container's namespaces at once through the
//! init's pidfd (`setns(2)`), forks the command *as a sibling* (`CLONE_PARENT`: a pid namespace
//! applies to children only, and so the client stays the direct parent), sends its pidfd and ends.
//! The command waits for a word from the client, having asked to die with it.
//!
//! When root enters another user's container, the command becomes that container's root, and
//! keeps nothing of the caller's identity: its owner could take the process over.

use std::env;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::fs::MetadataExt;
use std::path::PathBuf;

use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Pid, Uid, geteuid, setgroups, setresgid, setresuid};

use super::command::{Command, OURS, Stdio, environment};
use super::error::SpawnError;
use super::supervise::{Supervisor, Wake};
use super::terminal::Pty;
use crate::io::helper::Channel;
use crate::io::netns::Identity;
use crate::io::sys::process::{self, Child, Exit};

/// What to run in which container.
#[derive(Debug)]
pub struct Request {
    /// The container's init.
    pub pid: Pid,
    /// Its host name (for `HOSTNAME`).
    pub hostname: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Variables beside, or instead of, PATH, HOSTNAME, HOME and TERM.
    pub env: Vec<(String, String)>,
    /// Where the command starts; `None`: in the caller's directory, or `/` where that is hidden.
    pub workdir: Option<PathBuf>,
    /// Whether the command gets a terminal.
    pub terminal: bool,
    /// Whether the command gets our stdin; else it reads from `/dev/null`.
    pub interactive: bool,
}

/// Runs the command to its end. 126 and 127 mean that it could not be run or was not found.
/// Forks: the caller must have one thread.
pub fn exec(request: &Request) -> Result<Exit, SpawnError> {
    let ours = |error: io::Error| SpawnError::setup("run the command in the container", error);
    let pidfd = process::open_pidfd(request.pid).map_err(gone)?;
    let namespaces = namespaces_to_enter(request.pid).map_err(gone)?;
    let pty = if request.terminal { Some(Pty::open().map_err(ours)?) } else { None };
    let stdio = match &pty {
        Some(pty) => Stdio::terminal(pty),
        None => Stdio::inherit(request.interactive, false, None),
    };
    let stdio = stdio.map_err(ours)?;
    let (channel, theirs) = Channel::pair().map_err(ours)?;
    let mut helper =
        process::fork(CloneFlags::empty(), || enter(request, &stdio, &theirs, &pidfd, namespaces))
            .map_err(ours)?;
    drop((theirs, stdio));
    let answer = channel.receive::<Result<i32, SpawnError>>().map_err(ours)?;
    helper.wait().map_err(ours)?;
    let Some((pid, mut fds)) = answer else { return Err(ours(io::Error::other("the helper died"))) };
    let (pid, Some(pidfd)) = (Pid::from_raw(pid?), fds.pop()) else {
        return Err(ours(io::Error::other("the helper sent no descriptor")));
    };
    let child = Child::adopt(pid, pidfd);
    let master = pty.map(|pty| pty.master);
    let mut supervisor = Supervisor::new(child, master, request.interactive, None, None).map_err(ours)?;
    channel.send(&(), &[]).map_err(ours)?;
    loop {
        if let Wake::Exited(exit) = supervisor.wait(None).map_err(ours)? {
            return Ok(exit);
        }
    }
}

fn gone(error: io::Error) -> SpawnError {
    match error.raw_os_error() {
        Some(libc::ESRCH | libc::ENOENT) => SpawnError::Gone,
        _ => SpawnError::setup("look into the container", error),
    }
}

/// All of them; user and network namespace only when the container has one of its own: nobody can enter
/// the user namespace he is in, and only root the network namespace.
fn namespaces_to_enter(pid: Pid) -> io::Result<CloneFlags> {
    let mut namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    for (name, flag) in [("user", CloneFlags::CLONE_NEWUSER), ("net", CloneFlags::CLONE_NEWNET)] {
        let theirs = Identity::of(&File::open(format!("/proc/{pid}/ns/{name}"))?)?;
        if theirs != Identity::of(&File::open(format!("/proc/self/ns/{name}"))?)? {
            namespaces |= flag;
        }
    }
    Ok(namespaces)
}

/// The helper's life.
fn enter(
    request: &Request,
    stdio: &Stdio,
    channel: &Channel,
    pidfd: &OwnedFd,
    namespaces: CloneFlags,
) -> i32 {
    let directory = env::current_dir().ok();
    let mut kept: Vec<BorrowedFd<'_>> = stdio.descriptors().map(AsFd::as_fd).collect();
    kept.extend([channel.as_fd(), pidfd.as_fd()]);
    let started =
        process::keep_only(&kept).and_then(|()| cross_over(request.pid, pidfd, namespaces)).and_then(|()| {
            process::fork(CloneFlags::CLONE_PARENT, || become_command(request, stdio, channel, directory))
        });
    let answer = match started {
        Ok(child) => {
            let (pid, pidfd) = child.release();
            let fds: Vec<_> = pidfd.iter().map(AsFd::as_fd).collect();
            channel.send(&Ok::<_, SpawnError>(pid.as_raw()), &fds)
        }
        Err(error) => channel.send(&Err::<i32, _>(SpawnError::setup("enter the container", error)), &[]),
    };
    i32::from(answer.is_err())
}

/// Enters, as the container's root.
fn cross_over(pid: Pid, pidfd: &OwnedFd, namespaces: CloneFlags) -> io::Result<()> {
    let owner = fs::metadata(format!("/proc/{pid}"))?.st_uid();
    let foreign = owner != geteuid().as_raw();
    if foreign {
        setgroups(&[])?;
    }
    setns(pidfd, namespaces)?;
    if foreign {
        let (user, group) = (Uid::from_raw(0), Gid::from_raw(0));
        setresgid(group, group, group)?;
        setresuid(user, user, user)?;
    }
    Ok(())
}

fn become_command(request: &Request, stdio: &Stdio, channel: &Channel, directory: Option<PathBuf>) -> i32 {
    // Dies with the client; the word also proves that the client lived after this was asked for.
    if set_pdeathsig(Signal::SIGKILL).is_err() || !matches!(channel.receive::<()>(), Ok(Some(_))) {
        return OURS;
    }
    Command {
        arguments: &request.command,
        environment: environment(&request.hostname, request.terminal, &request.env),
        workdir: request.workdir.as_deref(),
        caller_directory: directory,
        stdio,
    }
    .become_it()
}
