//! Waiting for a next daemon on the same socket.
//!
//! The kernel tells when something happens to the socket's name (inotify(7)): a daemon that listens sets the
//! socket's mode as the last thing, and that is told. Where it cannot be told (no inotify instance is left, or
//! the directory itself is replaced) a timer is enough, whose pauses grow to ten seconds. So waiting costs
//! nothing to speak of, however long it takes.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::client::Daemon;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Waits for a daemon.
#[derive(Debug)]
pub(super) struct Reunion {
    socket: PathBuf,
    inotify: Option<Inotify>,
    timer: TimerFd,
    pause: Duration,
    /// Something has happened since the last attempt.
    is_due: bool,
}

impl Reunion {
    /// Begins to wait.
    ///
    /// # Errors
    /// When there is no timer to be had.
    pub(super) fn new(socket: &Path) -> io::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        let reunion = Self {
            socket: socket.to_owned(),
            inotify: watch(socket).ok(),
            timer,
            pause: FIRST_PAUSE,
            is_due: true,
        };
        reunion.set_timer()?;
        Ok(reunion)
    }

    /// The daemon, if something has happened and one listens now.
    pub(super) fn try_connect(&mut self) -> Option<Daemon> {
        // What cannot be reached now (somebody else listens there, perhaps) can be later.
        std::mem::take(&mut self.is_due).then(|| Daemon::try_connect(&self.socket).ok().flatten()).flatten()
    }

    /// Readable when it is worth another attempt.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.inotify.iter().map(AsFd::as_fd).chain([self.timer.as_fd()])
    }

    /// One of the descriptors was readable.
    pub(super) fn woken(&mut self) {
        let name = self.socket.file_name();
        while let Some(Ok(events)) = self.inotify.as_ref().map(Inotify::read_events) {
            self.is_due |= events.iter().any(|event| event.name.as_deref() == name);
        }
        if let Ok(()) = self.timer.wait() {
            self.is_due = true;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            // It was set before.
            let _ = self.set_timer();
        }
    }

    fn set_timer(&self) -> nix::Result<()> {
        self.timer.set(Expiration::OneShot(self.pause.into()), TimerSetTimeFlags::empty())
    }
}

fn watch(socket: &Path) -> io::Result<Inotify> {
    let directory =
        socket.parent().map(|parent| OsString::from(parent).into()).unwrap_or_else(|| PathBuf::from("."));
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    let events = AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_DELETE;
    inotify.add_watch(&directory, events)?;
    Ok(inotify)
}
