//! Talking to the daemon: one request, one answer.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow, bail};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;

use crate::control::Refused;
use crate::control::requests::{Envelope, Reply, Request, VERSION};
use crate::io::control_socket::{Client, ProtocolError};
use crate::io::sys::process::open_pidfd;

/// How often a daemon that ends just then is replaced.
const ATTEMPTS: usize = 10;

const NOT_OURS: &str = "the daemon's answer is not of this version";

/// What stands before what a daemon that is being started says on the way.
const NOTE: &str = "note: ";

/// The daemon ended before it answered.
#[derive(Debug, thiserror::Error)]
#[error("the daemon ended before it answered")]
pub struct Gone;

/// A connection to the daemon.
#[derive(Debug)]
pub struct Daemon {
    client: Client,
    /// The control socket it is reached by.
    pub socket: PathBuf,
}

impl Daemon {
    /// Connects to the daemon that serves `socket`.
    ///
    /// # Errors
    /// A line that says how to start one, when none does.
    pub fn connect(socket: &Path) -> anyhow::Result<Self> {
        Self::try_connect(socket)?.ok_or_else(|| {
            anyhow!(
                "no daemon serves {}: 'tapswitch up' starts the demo lab, 'tapswitch daemon -d' an empty switch",
                socket.display()
            )
        })
    }

    /// Connects to the daemon that serves `socket`, if one does.
    ///
    /// # Errors
    /// When the socket is there but not for us.
    pub fn try_connect(socket: &Path) -> anyhow::Result<Option<Self>> {
        match Client::connect(socket) {
            Ok(client) => Ok(Some(Self { client, socket: socket.to_owned() })),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                Ok(None)
            }
            Err(error) => Err(error).with_context(|| {
                format!(
                    "cannot reach the daemon at {}: it belongs to another user, perhaps",
                    socket.display()
                )
            }),
        }
    }

    /// Connects, starting a daemon with these flags if none runs, and asks. A daemon that was about
    /// to end when we came is replaced by a new one.
    ///
    /// # Errors
    /// As [`call`](Self::call), and when a daemon cannot be started.
    pub fn ask_or_start<T: DeserializeOwned>(
        socket: &Path,
        flags: &[&str],
        request: &Request,
    ) -> anyhow::Result<(Self, T)> {
        for _ in 0..ATTEMPTS {
            let mut daemon = match Self::try_connect(socket)? {
                Some(daemon) => daemon,
                None => match start(socket, flags) {
                    Ok(()) => Self::connect(socket)?,
                    // Somebody else may have started one in the same moment.
                    Err(error) => Self::try_connect(socket)?.ok_or(error)?,
                },
            };
            match daemon.call(request.clone()) {
                Err(error) if error.is::<Gone>() => {}
                answer => return Ok((daemon, answer?)),
            }
        }
        Err(Gone.into())
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`Refused`] (to be found by downcasting) when the daemon refuses, [`Gone`] when it has ended.
    pub fn call<T: DeserializeOwned>(&mut self, request: Request) -> anyhow::Result<T> {
        self.call_with(request, &[])
    }

    /// The same, handing descriptors over.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn call_with<T: DeserializeOwned>(
        &mut self,
        request: Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> anyhow::Result<T> {
        self.send(request, descriptors)?;
        self.answer()
    }

    /// Asks without waiting.
    ///
    /// # Errors
    /// When the daemon has gone.
    pub fn send(&mut self, request: Request, descriptors: &[BorrowedFd<'_>]) -> anyhow::Result<()> {
        let text = serde_json::to_vec(&Envelope { version: VERSION, request })?;
        match self.client.send(&text, descriptors) {
            // It may have said why before it closed; the answer tells.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            other => other.context("cannot ask the daemon"),
        }
    }

    /// Waits for the answer to [`send`](Self::send).
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn answer<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let message = match self.client.receive() {
            Ok(Some(message)) => message,
            Ok(None) => return Err(Gone.into()),
            Err(ProtocolError::Io(error)) if error.kind() == ErrorKind::ConnectionReset => {
                return Err(Gone.into());
            }
            Err(error) => return Err(error).context("the daemon's answer broke off"),
        };
        match serde_json::from_slice(&message.text).context(NOT_OURS)? {
            Reply::Ok(answer) => Ok(answer),
            Reply::Remarked(answer, remark) => {
                eprintln!("tapswitch: {remark}");
                Ok(answer)
            }
            Reply::Error(refused) => Err(refused.into()),
        }
    }

    /// Waits for what the daemon says without being asked; none when it has gone.
    pub fn notice<T: DeserializeOwned>(&mut self) -> Option<(T, Vec<OwnedFd>)> {
        let message = self.client.receive().ok()??;
        Some((serde_json::from_slice(&message.text).ok()?, message.descriptors))
    }

    /// The daemon's process, where it can be seen from here.
    pub fn process(&self) -> Option<(u32, OwnedFd)> {
        let pid = self.client.peer().ok()?;
        let pidfd = open_pidfd(Pid::from_raw(pid.cast_signed())).ok()?;
        Some((pid, pidfd))
    }

    /// The connection's descriptor, readable when the daemon answers or ends.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.client.as_fd()
    }
}

/// Whether an error is the daemon's refusal of the given kind.
pub fn is_refused(error: &anyhow::Error, kind: crate::control::Kind) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.kind == kind)
}

/// Starts a daemon in the background and waits until it listens.
///
/// # Errors
/// What the daemon printed, when it did not come up.
pub fn start(socket: &Path, arguments: &[impl AsRef<OsStr>]) -> anyhow::Result<()> {
    let (ready, theirs) = std::io::pipe()?;
    let program = std::env::current_exe().context("cannot find the tapswitch binary itself")?;
    let mut command = Command::new(program);
    command.arg("--socket").arg(socket).arg("daemon").arg("--ready-stdin").args(arguments);
    // The pipe stands in for standard input, so that no descriptor needs to be inherited by number.
    command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut child = command.spawn().context("cannot start the daemon")?;
    drop(command);
    let mut said = String::new();
    for line in BufReader::new(ready).lines() {
        match line? {
            line if line == "ready" => return Ok(()),
            line => match line.strip_prefix(NOTE) {
                Some(note) => eprintln!("tapswitch: {note}"),
                None => said.push_str(&(line + "\n")),
            },
        }
    }
    let _ = child.wait();
    match said.trim() {
        "" => bail!("the daemon ended before it was ready; 'tapswitch daemon' in the foreground shows why"),
        why => bail!("{why}"),
    }
}

/// The daemon's end of [`start`]: tells who waits something on the way.
pub fn tell_note(waits: &OwnedFd, line: &str) {
    // Whoever waited may have gone.
    let _ = nix::unistd::write(waits, format!("{NOTE}{line}\n").as_bytes());
}

/// The daemon's end of [`start`]: tells who waits that it listens, or why it does not.
pub fn tell_ready(waits: OwnedFd, word: &str) {
    // Whoever waited may have gone.
    let _ = nix::unistd::write(waits, word.as_bytes());
}
