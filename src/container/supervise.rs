//! The parent's life while its command runs: signals, terminal, the end.
//!
//! One `poll` over a few descriptors: a signalfd (SIGINT, TERM, HUP, QUIT, USR1, USR2 are handed on,
//! WINCH resizes), the child's pidfd, the terminal or the pipe for its log, and the caller's (the daemon's socket).
//! The signals are blocked from [`Supervisor::new`] until it is dropped.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::log::{Drain, Sink};
use super::terminal::Relay;
use crate::io::sys::process::{Child, Exit};

const HANDED_ON: [Signal; 6] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// Why [`Running::wait`](super::Running::wait) returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// The command, and with it a container, has ended.
    Exited(Exit),
    /// One of the caller's descriptors is readable or has hung up.
    Watched,
}

/// A running child and what it needs of us.
#[derive(Debug)]
pub(super) struct Supervisor {
    child: Child,
    relay: Option<Relay>,
    drain: Option<Drain>,
    signals: SignalFd,
    mask_before: SigSet,
}

/// What `poll` found.
#[derive(Debug, Default)]
struct Ready {
    signals: bool,
    ended: bool,
    watched: bool,
    input: bool,
    terminal: Option<PollFlags>,
    output: bool,
}

impl Supervisor {
    /// Takes the signals over. `terminal` is the near end of the command's terminal.
    pub(super) fn new(
        child: Child,
        terminal: Option<OwnedFd>,
        interactive: bool,
        log: Option<Sink>,
        drain: Option<Drain>,
    ) -> io::Result<Self> {
        let mut mask: SigSet = HANDED_ON.into_iter().collect();
        mask.add(Signal::SIGWINCH);
        let mut mask_before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), Some(&mut mask_before))?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let relay = terminal.map(|master| Relay::new(master, interactive, log)).transpose()?;
        Ok(Self { child, relay, drain, signals, mask_before })
    }

    pub(super) fn child(&self) -> &Child {
        &self.child
    }

    /// Serves the child until it ends or one of `watched` is ready.
    pub(super) fn wait<'a>(&mut self, watched: impl IntoIterator<Item = BorrowedFd<'a>>) -> io::Result<Wake> {
        let watched: Vec<BorrowedFd<'_>> = watched.into_iter().collect();
        loop {
            let ready = self.poll(&watched)?;
            if ready.signals {
                self.hand_on_signals()?;
            }
            self.serve_terminal(&ready)?;
            if (ready.output || ready.ended)
                && let Some(drain) = &mut self.drain
                && !drain.copy()?
            {
                self.drain = None;
            }
            if ready.ended {
                if let Some(mut relay) = self.relay.take() {
                    relay.copy_output()?;
                }
                return Ok(Wake::Exited(self.child.wait()?));
            }
            if ready.watched {
                return Ok(Wake::Watched);
            }
        }
    }

    fn poll(&self, watched: &[BorrowedFd<'_>]) -> io::Result<Ready> {
        let stdin = io::stdin();
        let readable = PollFlags::POLLIN;
        let Some(pidfd) = self.child.pidfd() else { return Ok(Ready { ended: true, ..Ready::default() }) };
        let mut fds = vec![PollFd::new(self.signals.as_fd(), readable), PollFd::new(pidfd, readable)];
        let mut add = |fd, interest| {
            fds.push(PollFd::new(fd, interest));
            fds.len() - 1
        };
        let watched: Vec<usize> = watched.iter().map(|fd| add(*fd, readable)).collect();
        let input =
            self.relay.as_ref().filter(|relay| relay.wants_input()).map(|_| add(stdin.as_fd(), readable));
        let terminal = self.relay.as_ref().map(|relay| {
            let (master, interest) = relay.master();
            add(master, interest)
        });
        let output = self.drain.as_ref().map(|drain| add(drain.pipe(), readable));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let events = |at: Option<usize>| {
            at.and_then(|at| fds.get(at)).and_then(PollFd::revents).filter(|events| !events.is_empty())
        };
        Ok(Ready {
            signals: events(Some(0)).is_some(),
            ended: events(Some(1)).is_some(),
            watched: watched.into_iter().any(|at| events(Some(at)).is_some()),
            input: events(input).is_some(),
            terminal: events(terminal),
            output: events(output).is_some(),
        })
    }

    fn hand_on_signals(&mut self) -> io::Result<()> {
        while let Some(info) = self.signals.read_signal()? {
            let Ok(signal) = Signal::try_from(info.ssi_signo.cast_signed()) else { continue };
            if signal != Signal::SIGWINCH {
                // It may have ended this moment; the pidfd tells.
                let _ = self.child.signal(signal);
            } else if let Some(relay) = &self.relay {
                relay.resize()?;
            }
        }
        Ok(())
    }

    /// A terminal whose far end is closed everywhere is done with, though the child may live on.
    fn serve_terminal(&mut self, ready: &Ready) -> io::Result<()> {
        let Some(relay) = &mut self.relay else { return Ok(()) };
        if ready.input {
            relay.take_input()?;
        }
        let Some(events) = ready.terminal else { return Ok(()) };
        if events.contains(PollFlags::POLLOUT) {
            relay.flush_input()?;
        }
        let readable = PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR;
        if events.intersects(readable) && !relay.copy_output()? {
            self.relay = None;
        }
        Ok(())
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // Fails only for an invalid address.
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.mask_before), None);
    }
}
