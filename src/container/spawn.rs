//! Starting a container: prepared first, so that the daemon can attach it, then let go.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, geteuid};

use super::command::Stdio;
use super::error::SpawnError;
use super::ids;
use super::init::{self, Ready, Word};
use super::log::{Drain, Log, Sink};
use super::supervise::{Supervisor, Wake};
use super::terminal::Pty;
use crate::io::helper::Channel;
use crate::io::netns::Descriptors;
use crate::io::sys::process::{self, Child};

/// What to run, and how.
#[derive(Debug, Default)]
pub struct Spec {
    /// The container's host name.
    pub hostname: String,
    /// Program and arguments; empty: the container idles until it is stopped.
    pub command: Vec<String>,
    /// Variables beside, or instead of, PATH, HOSTNAME, HOME and TERM.
    pub env: Vec<(String, String)>,
    /// Where the command starts; `None`: in the caller's directory, or `/` where that is hidden.
    pub workdir: Option<PathBuf>,
    /// Whether the command gets a terminal.
    pub terminal: bool,
    /// Whether the command gets our stdin; else it reads from `/dev/null`.
    pub interactive: bool,
    /// Without a terminal: whether standard input, to which nobody writes, does not end.
    pub stdin_open: bool,
    /// Kernel settings (`net.*` and the few others that namespaces have of their own).
    pub sysctls: Vec<(String, String)>,
    /// A directory with `hosts`, `hostname`, `resolv.conf`, `nsswitch.conf`, to be mounted over
    /// those in `/etc` (those that it has). To change them later, write them in place.
    pub files: Option<PathBuf>,
    /// How many times to open `/dev/net/tun` inside (at most [`crate::io::netns::MAX_TAPS`]).
    pub taps: usize,
    /// Make these plain TAPs, through tun-tap, instead of leaving them to the daemon.
    pub plain_taps: bool,
    /// Whether IPv6 is on inside.
    pub ipv6: bool,
    /// In the caller's network namespace: no interface, no setting of it is the container's own.
    pub host_network: bool,
    /// Where stdout and stderr go.
    pub output: Output,
}

/// Where a container's stdout and stderr go.
#[derive(Debug, Default)]
pub enum Output {
    /// To ours.
    #[default]
    Inherit,
    /// To a file, open for appending.
    Log(File),
    /// To files of bounded size, see [`log`](super::log): the path, and how many bytes each holds at most.
    Bounded(PathBuf, u64),
}

/// The two ends of a container's output.
#[derive(Default)]
struct Outlet {
    /// What its terminal's output goes to.
    sink: Option<Sink>,
    /// Or the pipe that it writes into.
    drain: Option<Drain>,
    stdio: Stdio,
}

impl Outlet {
    fn new(spec: &Spec, pty: Option<&Pty>) -> io::Result<Self> {
        let log = || match &spec.output {
            Output::Bounded(path, max) => Log::open(path, *max).map(Some).map_err(|error| {
                let text = format!("its log {} cannot be written: {error}", path.display());
                io::Error::new(error.kind(), text)
            }),
            Output::Inherit | Output::Log(_) => Ok(None),
        };
        let file = if let Output::Log(file) = &spec.output { Some(file) } else { None };
        if let Some(pty) = pty {
            let file = file.map(File::try_clone).transpose()?.map(Sink::File);
            return Ok(Self {
                sink: log()?.map(Sink::Log).or(file),
                drain: None,
                stdio: Stdio::terminal(pty)?,
            });
        }
        let (drain, far) = log()?.map(Drain::new).transpose()?.unzip();
        let far = far.map(File::from);
        Ok(Self {
            sink: None,
            drain,
            stdio: Stdio::inherit(spec.interactive, spec.stdin_open, far.as_ref().or(file))?,
        })
    }
}

/// A container that waits in its fresh namespaces. Dropping it takes it away.
#[derive(Debug)]
pub struct Prepared {
    child: Child,
    channel: Channel,
    terminal: Option<OwnedFd>,
    interactive: bool,
    log: Option<Sink>,
    drain: Option<Drain>,
    descriptors: Option<Descriptors>,
    notices: Vec<String>,
}

/// Makes the namespaces and sets them up; the command does not run yet.
///
/// Forks: the caller must have one thread, and it becomes the container's supervisor: when it
/// dies, the container does.
pub fn spawn(spec: &Spec) -> Result<Prepared, SpawnError> {
    let ours = |error: io::Error| SpawnError::setup("prepare the container", error);
    let pty = if spec.terminal { Some(Pty::open().map_err(ours)?) } else { None };
    let Outlet { sink, drain, stdio } = Outlet::new(spec, pty.as_ref()).map_err(ours)?;
    let (child, channel) = fork_init(spec, stdio)?;
    channel.send(&Word::Mapped, &[]).map_err(ours)?;
    let (ready, mut fds) = match channel.receive::<Result<Ready, SpawnError>>().map_err(ours)? {
        Some((answer, fds)) => (answer?, fds),
        None => return Err(ours(io::Error::other("its init died"))),
    };
    let netlink = fds.pop();
    if netlink.is_none() && !spec.host_network {
        return Err(ours(io::Error::other("its init sent no descriptor")));
    }
    let identity = ready.identity;
    Ok(Prepared {
        child,
        channel,
        terminal: pty.map(|pty| pty.master),
        interactive: spec.interactive,
        log: sink,
        drain,
        descriptors: netlink.map(|netlink| Descriptors { tuns: fds, netlink, identity }),
        notices: ready.notices,
    })
}

/// Forks init into new namespaces and maps its ids. root, where it may not make a user namespace
/// (none are allowed, or a sandbox forbids them), does without.
fn fork_init(spec: &Spec, stdio: Stdio) -> Result<(Child, Channel), SpawnError> {
    let mut namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    namespaces.set(CloneFlags::CLONE_NEWNET, !spec.host_network);
    let (ours, theirs) =
        Channel::pair().map_err(|error| SpawnError::setup("prepare the container", error))?;
    // The fork copies: what is moved into the child's closure is still ours to drop here.
    let mut start = Some((stdio, theirs));
    let mut fork = |flags| {
        process::fork(flags, || match start.take() {
            Some((stdio, channel)) => init::main(spec, stdio, channel),
            None => super::command::OURS,
        })
    };
    match fork(namespaces | CloneFlags::CLONE_NEWUSER) {
        Ok(child) => {
            ids::map(child.pid())?;
            Ok((child, ours))
        }
        Err(refused) if geteuid().is_root() => match fork(namespaces) {
            Ok(child) => Ok((child, ours)),
            Err(_) => Err(SpawnError::namespaces(&refused)),
        },
        Err(refused) => Err(SpawnError::namespaces(&refused)),
    }
}

impl Prepared {
    /// Init's pid.
    pub fn pid(&self) -> Pid {
        self.child.pid()
    }

    /// Init's pidfd, for the daemon: readable when the container has ended.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.child.pidfd()
    }

    /// The descriptors to hand to the daemon; only once, and none of a container in the host's network. Close our copies after that: they keep
    /// the interfaces alive.
    pub fn take_descriptors(&mut self) -> Option<Descriptors> {
        self.descriptors.take()
    }

    /// What this sandbox made us do without, one line each, for the user to see.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Lets the command run. From here on SIGINT, TERM, HUP, QUIT, USR1 and USR2 to this process
    /// are the container's.
    pub fn start(self) -> Result<Running, SpawnError> {
        let ours = |error| SpawnError::setup("start the container", error);
        let supervisor = Supervisor::new(self.child, self.terminal, self.interactive, self.log, self.drain)
            .map_err(ours)?;
        self.channel.send(&Word::Start, &[]).map_err(ours)?;
        Ok(Running { supervisor })
    }

    /// Takes the container away without having run anything.
    pub fn abort(self) {}
}

/// A container with its command running. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    supervisor: Supervisor,
}

impl Running {
    /// Init's pid.
    pub fn pid(&self) -> Pid {
        self.supervisor.child().pid()
    }

    /// Init's pidfd; `None` once the end was waited for.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.supervisor.child().pidfd()
    }

    /// Sends a signal to the command (`SIGKILL`, `SIGSTOP`: to init, and so to all).
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.supervisor.child().signal(signal)
    }

    /// Serves signals and terminal until the container ends, or until one of `watched` (the connection
    /// to the daemon) is readable or hangs up; then call it again after dealing with that.
    pub fn wait<'a>(&mut self, watched: impl IntoIterator<Item = BorrowedFd<'a>>) -> io::Result<Wake> {
        self.supervisor.wait(watched)
    }
}
