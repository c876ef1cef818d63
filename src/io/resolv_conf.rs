//! The host's /etc/resolv.conf: read, and followed as it changes.
//!
//! Theory of operation. The file is changed in three ways: written in place, replaced by a rename, or, where
//! it is a link (systemd-resolved, resolvconf), changed at the link's end or pointed somewhere else. So inotify
//! watches each directory that the path leads through, for what happens to the one name of interest in it, and
//! the file at the end, for being written; that one also tells of a file that is bind-mounted here and
//! written elsewhere. Whatever happens, everything is looked at anew: the path may lead elsewhere now.
//! An open file that is being written is waited for until it is closed, for half of it says something else.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use super::sys::namespace::interface_index;
use crate::control::resolv_conf::{LONGEST, ResolvConf};

/// Where it is.
pub const USUAL: &str = "/etc/resolv.conf";
/// How many links are followed, as in the kernel (`MAXSYMLINKS`).
const LINKS_MAX: usize = 40;

/// Reads a file; one that is not there or cannot be read says nothing.
pub fn read(path: &Path) -> ResolvConf {
    parse(&contents(path).unwrap_or_default())
}

/// Reads a file anew. None when we may not: it was replaced where a confined daemon sees the old one only
/// ([`resolver_files`](super::confine::resolver_files)), and what that said stands.
pub fn read_again(path: &Path) -> Option<ResolvConf> {
    match contents(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
        text => Some(parse(&text.unwrap_or_default())),
    }
}

fn parse(text: &[u8]) -> ResolvConf {
    ResolvConf::parse(text, |name| interface_index(name).ok())
}

fn contents(path: &Path) -> io::Result<Vec<u8>> {
    // Without waiting for anybody: it may be a pipe.
    let file = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    let mut text = Vec::new();
    file.take(LONGEST as u64).read_to_end(&mut text)?;
    Ok(text)
}

/// Tells when a file may have changed.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    inotify: Inotify,
    /// Names of interest in directories; none: whatever happens to what is watched.
    watched: Vec<(WatchDescriptor, Option<OsString>)>,
}

impl Watch {
    /// Follows a file, which need not be there.
    ///
    /// # Errors
    /// When the kernel gives no (more) inotify instances.
    pub fn new(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let mut watch = Self { path: std::path::absolute(path)?, inotify, watched: Vec::new() };
        watch.look();
        Ok(watch)
    }

    /// Whether the file may have changed since the last time. Takes all that the kernel has to tell.
    pub fn has_changed(&mut self) -> bool {
        let mut changed = false;
        loop {
            match self.inotify.read_events() {
                Ok(events) => {
                    changed |= events.iter().any(|event| {
                        let lost = event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW);
                        lost || self.is_of_interest(event.wd, event.name.as_ref())
                    });
                }
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        if changed {
            self.look();
        }
        changed
    }

    fn is_of_interest(&self, of: WatchDescriptor, name: Option<&OsString>) -> bool {
        let concerns = |wanted: &Option<OsString>| match (wanted, name) {
            (Some(wanted), Some(name)) => wanted == name,
            // Something befell the directory itself.
            (None, _) | (Some(_), None) => true,
        };
        self.watched.iter().any(|(watched, wanted)| *watched == of && concerns(wanted))
    }

    /// Watches all that the path leads through now, and nothing else.
    fn look(&mut self) {
        let before = std::mem::take(&mut self.watched);
        let mut path = self.path.clone();
        for _ in 0..LINKS_MAX {
            let (directory, name) = self.add_nearest(&path);
            let is_there = name.is_none() || path.parent() == Some(&directory);
            match fs::read_link(&path) {
                Ok(link) if is_there => path = directory.join(link),
                Ok(_) | Err(_) => break,
            }
        }
        self.add(&path, None);
        for (old, _) in before {
            if !self.watched.iter().any(|(watched, _)| *watched == old) {
                // It has gone by itself when what it watched has.
                let _ = self.inotify.rm_watch(old);
            }
        }
    }

    /// Watches the nearest directory that is there.
    fn add_nearest(&mut self, path: &Path) -> (PathBuf, Option<OsString>) {
        let mut found = nearest(path);
        loop {
            self.add(&found.0, found.1.clone());
            // More of the path may have come before it was watched.
            match nearest(path) {
                again if again == found => return found,
                again => found = again,
            }
        }
    }

    /// What cannot be watched, for it is not there or not for us, is left out.
    fn add(&mut self, path: &Path, name: Option<OsString>) {
        let names = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO;
        let itself = AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        let written = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_ATTRIB;
        let events = itself | if name.is_some() { names } else { written };
        if let Ok(descriptor) = self.inotify.add_watch(path, events) {
            self.watched.push((descriptor, name));
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// The directory nearest to a path that is there, and the name in it by which the path goes on.
fn nearest(path: &Path) -> (PathBuf, Option<OsString>) {
    let mut below = path;
    while let Some(parent) = below.parent() {
        if parent.is_dir() {
            return (parent.to_owned(), below.file_name().map(OsString::from));
        }
        below = parent;
    }
    (PathBuf::from("/"), None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::unix::fs::symlink;

    /// Whether a change is told of; what is not is waited for no longer than the kernel takes to tell at once.
    fn told(watch: &mut Watch) -> bool {
        let ready = poll(&mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap();
        ready > 0 && watch.has_changed()
    }

    fn servers(path: &Path) -> String {
        read(path).servers.iter().map(|server| server.ip().to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_way_of_changing_it_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let path = at("etc/resolv.conf");
        let mut watch = Watch::new(&path).unwrap();
        let mut changed = |what: &str, now: &str| {
            assert!(told(&mut watch), "{what}");
            assert!(!told(&mut watch), "{what}: once");
            assert_eq!(servers(&path), now, "{what}");
        };
        fs::create_dir(at("etc")).unwrap();
        changed("its directory comes", "127.0.0.1");
        fs::write(at("etc/resolv.conf"), "nameserver 10.0.0.1").unwrap();
        changed("it comes", "10.0.0.1");
        fs::write(at("etc/resolv.conf"), "nameserver 10.0.0.2").unwrap();
        changed("written in place", "10.0.0.2");
        fs::write(at("etc/new"), "nameserver 10.0.0.3").unwrap();
        fs::rename(at("etc/new"), at("etc/resolv.conf")).unwrap();
        changed("replaced", "10.0.0.3");
        symlink("../run/stub", at("etc/link")).unwrap();
        fs::rename(at("etc/link"), at("etc/resolv.conf")).unwrap();
        changed("a link to nowhere", "127.0.0.1");
        fs::create_dir(at("run")).unwrap();
        changed("the link's directory comes", "127.0.0.1");
        fs::write(at("run/stub"), "nameserver 10.0.0.4").unwrap();
        changed("the link's end comes", "10.0.0.4");
        fs::write(at("run/stub"), "nameserver 10.0.0.5").unwrap();
        changed("the link's end is written", "10.0.0.5");
        fs::remove_file(at("etc/resolv.conf")).unwrap();
        changed("it goes", "127.0.0.1");
    }

    #[test]
    fn what_happens_beside_it_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resolv.conf");
        fs::write(&path, "nameserver 10.0.0.1").unwrap();
        let mut watch = Watch::new(&path).unwrap();
        fs::write(directory.path().join("other"), "").unwrap();
        fs::remove_file(directory.path().join("other")).unwrap();
        assert!(!told(&mut watch));
        fs::remove_file(&path).unwrap();
        assert!(told(&mut watch));
    }

    #[test]
    fn what_is_no_file_says_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [&pipe, directory.path()] {
            assert_eq!(servers(path), "127.0.0.1");
            Watch::new(path).unwrap();
        }
        let ring = directory.path().join("ring");
        symlink("ring", &ring).unwrap();
        assert_eq!(servers(&ring), "127.0.0.1");
        Watch::new(&ring).unwrap();
    }
}
