//! A terminal for a command: a pseudo-terminal pair, and the copying between it and the caller's.
//!
//! The near end never blocks us: input that the command does not take yet waits in a small buffer
//! (and stdin is not read meanwhile), since the command may itself be waiting for us to read its
//! output.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::poll::PollFlags;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::stat::Mode;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use super::log::Sink;
use crate::io::sys::terminal;

/// End of input, as typed: ^D.
const END_OF_INPUT: u8 = 4;

/// A pseudo-terminal.
#[derive(Debug)]
pub(super) struct Pty {
    pub(super) master: OwnedFd,
    pub(super) slave: OwnedFd,
}

impl Pty {
    /// A new one, as large as the terminal on our stdin when that is one.
    pub(super) fn open() -> io::Result<Self> {
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let path = ptsname_r(&master)?;
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let slave = open(path.as_str(), flags, Mode::empty())?;
        if let Ok(size) = terminal::window_size(io::stdin().as_fd()) {
            terminal::set_window_size(slave.as_fd(), &size)?;
        }
        Ok(Self { master: master.into(), slave })
    }
}

/// The caller's terminal in raw mode (termios(3)); dropping it restores the mode.
#[derive(Debug)]
struct RawMode(Termios);

impl RawMode {
    fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(io::stdin(), SetArg::TCSANOW, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The terminal may have gone; then there is nothing to restore.
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.0);
    }
}

/// Copies between the near end of a pseudo-terminal and the caller.
#[derive(Debug)]
pub(super) struct Relay {
    master: File,
    output: Sink,
    /// Whether stdin is (still) copied.
    input: bool,
    /// What was read from stdin and the command has not taken yet.
    pending: Vec<u8>,
    /// Held for its `Drop`.
    _raw: Option<RawMode>,
}

impl Relay {
    /// Starts: the caller's terminal is raw from here on when `interactive`.
    /// Output goes to `log`, or to our stdout.
    pub(super) fn new(master: OwnedFd, interactive: bool, log: Option<Sink>) -> io::Result<Self> {
        let output = match log {
            Some(sink) => sink,
            None => Sink::File(io::stdout().as_fd().try_clone_to_owned()?.into()),
        };
        let raw = interactive && io::stdin().is_terminal();
        let raw = if raw { Some(RawMode::enter()?) } else { None };
        Ok(Self { master: master.into(), output, input: interactive, pending: Vec::new(), _raw: raw })
    }

    /// The near end, and what to wait for on it.
    pub(super) fn master(&self) -> (BorrowedFd<'_>, PollFlags) {
        let mut interest = PollFlags::POLLIN;
        interest.set(PollFlags::POLLOUT, !self.pending.is_empty());
        (self.master.as_fd(), interest)
    }

    /// Whether stdin is to be read.
    pub(super) fn wants_input(&self) -> bool {
        self.input && self.pending.is_empty()
    }

    /// Makes the inner window as large as the caller's.
    pub(super) fn resize(&self) -> io::Result<()> {
        match terminal::window_size(io::stdin().as_fd()) {
            Ok(size) => terminal::set_window_size(self.master.as_fd(), &size),
            Err(_) => Ok(()), // stdin is no terminal: the size stays
        }
    }

    /// stdin is readable.
    pub(super) fn take_input(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        match nix::unistd::read(io::stdin(), &mut buffer) {
            Ok(0) => {
                self.input = false;
                self.pending.push(END_OF_INPUT);
            }
            Ok(n) => self.pending.extend_from_slice(buffer.get(..n).unwrap_or_default()),
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => {}
            Err(_) => self.input = false, // a terminal that hung up: no more input
        }
        self.flush_input()
    }

    /// Hands the command what it can take now.
    pub(super) fn flush_input(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            match self.master.write(&self.pending) {
                Ok(n) => drop(self.pending.drain(..n)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.pending.clear(), // EIO: nobody has the far end open
            }
        }
        Ok(())
    }

    /// Copies what the command has written. Says whether more may come: not after the last
    /// process has closed the far end (`EIO`).
    pub(super) fn copy_output(&mut self) -> io::Result<bool> {
        self.output.copy(&mut self.master)
    }
}

/// Writes everything, also to an output that somebody has made non-blocking.
pub(super) fn write_all(output: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match output.write(bytes) {
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let flags = OFlag::from_bits_truncate(fcntl(&*output, FcntlArg::F_GETFL)?);
                fcntl(&*output, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
