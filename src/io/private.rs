//! Directories of the daemon's own, and locks in them.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::geteuid;

use crate::control::state::Process;
use crate::io::host;

/// Makes a directory that only we can use, or makes sure that it is such. `what` it is for and the `flag`
/// that chooses another go into messages.
///
/// # Errors
/// When it cannot be made, or others could change it.
pub fn directory(directory: &Path, what: &str, flag: &str) -> anyhow::Result<()> {
    let shown = directory.display();
    if !directory.exists() {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.with_context(|| {
            format!("cannot make the {what} directory {shown}: choose another with {flag}")
        })?;
    }
    let look = |of: fn(&Path) -> io::Result<fs::Metadata>| {
        of(directory).with_context(|| format!("cannot look at {shown}"))
    };
    let (metadata, link) = (look(|path| fs::metadata(path))?, look(|path| fs::symlink_metadata(path))?);
    // A directory (or a link to one) of somebody else, or a shared one without the sticky bit, could be
    // swapped under us.
    let shared = metadata.mode() & 0o022 != 0 && metadata.mode() & 0o1000 == 0;
    let is_foreign = |of: &fs::Metadata| of.uid() != geteuid().as_raw() && of.uid() != 0;
    if is_foreign(&metadata) || is_foreign(&link) || shared {
        bail!(
            "the {what} directory {shown} can be changed by others: remove it, or choose another with {flag}"
        );
    }
    Ok(())
}

/// Why there is no lock.
#[derive(Debug)]
pub enum NoLock {
    /// Somebody has it: his process, as he wrote it.
    Held(String),
    /// The file could not be made, or not be locked.
    Failed(io::Error),
}

/// A lock that we have.
#[derive(Debug)]
pub struct Lock {
    /// Locked as long as this is open.
    pub file: Flock<File>,
    /// The process that had it before us.
    pub former: Option<Process>,
}

/// Our process's number and when it started.
fn own() -> String {
    let process = host::process(std::process::id());
    let started = process.map(|process| process.started).unwrap_or_default();
    format!("{} {started}\n", std::process::id())
}

/// Takes the lock of a file and writes our process's number into it.
///
/// # Errors
/// See [`NoLock`].
pub fn lock(path: &Path) -> Result<Lock, NoLock> {
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)
        .map_err(NoLock::Failed)?;
    let mut holder = String::new();
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut file) => {
            let noted = file
                .read_to_string(&mut holder)
                .and_then(|_| file.rewind())
                .and_then(|()| file.set_len(0))
                .and_then(|()| write!(file, "{}", own()));
            let former = holder.trim().split_once(' ').and_then(|(pid, started)| {
                Some(Process { pid: pid.parse().ok()?, started: started.parse().ok()? })
            });
            noted.map(|()| Lock { file, former }).map_err(NoLock::Failed)
        }
        Err((mut file, Errno::EWOULDBLOCK)) => {
            // What he wrote is for people; without it they still learn that there is one.
            let _ = file.read_to_string(&mut holder);
            Err(NoLock::Held(holder.split_whitespace().next().unwrap_or("?").to_owned()))
        }
        Err((_, errno)) => Err(NoLock::Failed(errno.into())),
    }
}
