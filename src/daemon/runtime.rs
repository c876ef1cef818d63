//! The daemon's files: socket, lock, and a directory per container.
//!
//! Everything lies beside the socket: `NAME.sock`, `NAME.lock`, and `NAME.d/ID/` with a
//! container's `hosts`, `hostname`, `resolv.conf`, `nsswitch.conf`, `log`, `init`
//! (the pid of its init and when that started, so that a next daemon can tell it from a
//! stranger with the same pid) and `exit` (its exit code, where no daemon was there to be told).

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::fcntl::{Flock, OFlag};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use crate::control::Id;
use crate::control::state::Process;
use crate::io::confine::{Reach, resolver_files};
use crate::io::host;
use crate::io::private::{self, Lock, NoLock};
use crate::io::state_file::StateFile;
use crate::io::sys::process::open_pidfd;

/// The longest path that fits a socket's address (`sun_path`), less its terminator.
const MAX_SOCKET_PATH: usize = 107;

/// How long a daemon takes to end once it listens no more, at most: thousands of interfaces go one by one.
const ENDING: Duration = Duration::from_secs(60);
/// How long it is waited for without a word.
const QUIET: Duration = Duration::from_secs(1);
/// How long one that was killed may seem to be alive.
const DYING: Duration = Duration::from_millis(100);

/// Where the control socket is when nobody says otherwise.
///
/// `$TAPSWITCH_SOCKET` is clap's to read; then `/run/tapswitch/` as root, `$XDG_RUNTIME_DIR/tapswitch/`
/// or `/tmp/tapswitch-UID/` for users.
pub fn default_socket() -> PathBuf {
    let uid = geteuid();
    let directory = if uid.is_root() {
        PathBuf::from("/run/tapswitch")
    } else {
        match std::env::var_os("XDG_RUNTIME_DIR").filter(|value| Path::new(value).is_dir()) {
            Some(base) => Path::new(&base).join("tapswitch"),
            None => PathBuf::from(format!("/tmp/tapswitch-{uid}")),
        }
    };
    directory.join("control.sock")
}

/// Where the state is when nobody says otherwise: with the default socket `/var/lib/tapswitch/` as root,
/// `$XDG_STATE_HOME/tapswitch/` or `~/.local/state/tapswitch/` for users; with another, beside that.
pub fn default_state(socket: &Path) -> PathBuf {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || variable("HOME").map(|home| home.join(".local/state"));
    let usual = match geteuid().is_root() {
        true => Some(PathBuf::from("/var/lib")),
        false => variable("XDG_STATE_HOME").or_else(home),
    };
    let directory = usual.filter(|_| socket == default_socket()).map(|base| base.join("tapswitch"));
    directory.unwrap_or_else(|| socket.with_extension("state")).join("state.json")
}

/// The runtime directory of a daemon that holds its lock.
#[derive(Debug)]
pub struct Runtime {
    socket: PathBuf,
    containers: PathBuf,
    /// The containers' directories outlive us.
    is_kept: bool,
    /// Held until the daemon's end, however that comes.
    _lock: Flock<File>,
}

impl Runtime {
    /// Takes the lock of a socket's path, making its directory if need be.
    ///
    /// # Errors
    /// When another daemon holds it, or the directory is not ours alone.
    pub fn lock(socket: &Path, say: &dyn Fn(&str)) -> anyhow::Result<Self> {
        if socket.as_os_str().len() > MAX_SOCKET_PATH {
            bail!(
                "the socket path {} is longer than {MAX_SOCKET_PATH} bytes: choose a shorter one with --socket",
                socket.display()
            );
        }
        let directory = match socket.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        private::directory(directory, "runtime", "--socket")?;
        let path = socket.with_extension("lock");
        let lock = match wait_for_lock(&path, socket, say) {
            Ok(Lock { file, former }) => {
                former.into_iter().try_for_each(|former| wait_for_end(former, say))?;
                file
            }
            Err(NoLock::Held(pid)) if !is_served(socket) => bail!(hangs(&pid)),
            Err(NoLock::Held(pid)) => bail!(
                "another daemon (pid {pid}) serves {}: 'tapswitch status' asks it, --socket PATH starts a second one",
                socket.display()
            ),
            Err(NoLock::Failed(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        };
        let containers = socket.with_extension("d");
        private::directory(&containers, "runtime", "--socket")?;
        Ok(Self { socket: socket.to_owned(), containers, is_kept: false, _lock: lock })
    }

    /// The socket's path.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Removes what a former daemon left: its socket, and its containers but for those `kept`, if any still run.
    pub fn clean_stale(&self, kept: &BTreeSet<Id>) {
        // Not there is as good as removed; anything else shows when the socket is bound.
        let _ = fs::remove_file(&self.socket);
        let kept: BTreeSet<OsString> = kept.iter().map(|id| id.short().into()).collect();
        let entries = fs::read_dir(&self.containers).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| !kept.contains(&entry.file_name())) {
            let init = fs::read_to_string(entry.path().join("init")).unwrap_or_default();
            if let Some((pid, start)) = init.trim().split_once(' ')
                && let (Ok(pid), Ok(started)) = (pid.parse::<u32>(), start.parse::<u64>())
                && host::process(pid).is_some_and(|now| now.started == started)
            {
                let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
            }
            let _ = fs::remove_dir_all(entry.path());
        }
    }

    /// The directory of a container.
    pub fn directory(&self, id: Id) -> PathBuf {
        self.containers.join(id.short())
    }

    /// Makes a container's directory.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn create(&self, id: Id) -> std::io::Result<PathBuf> {
        let directory = self.directory(id);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        Ok(directory)
    }

    /// What of the file system a daemon needs once it listens: its containers' files, to remove its own at
    /// the end, its state's directory, and of others' the host's resolvers; itself, for the traces of panics.
    pub fn reach(&self, resolv_conf: &Path, state: Option<&Path>) -> Reach {
        let parent = self.socket.parent().filter(|parent| !parent.as_os_str().is_empty());
        let itself = ["/proc/self/exe", "/proc/self"].map(PathBuf::from);
        Reach {
            owned: vec![self.containers.clone()],
            replaced: state.map(Path::to_owned).into_iter().collect(),
            cleared: vec![parent.unwrap_or(Path::new(".")).to_owned()],
            read: itself.into_iter().chain(resolver_files(resolv_conf)).collect(),
        }
    }

    /// Writes one of a container's files in place, for it may be bind-mounted: then root inside has it
    /// open as well, and could hold us up with a lease on it (fcntl(2)), which only a non-blocking open
    /// does not wait for.
    ///
    /// # Errors
    /// What the file system refuses; `WouldBlock` while there is a lease.
    pub fn write(&self, id: Id, name: &str, text: &str) -> std::io::Result<()> {
        let flags = OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
        let mut file = fs::OpenOptions::new();
        file.write(true).create(true).truncate(true).custom_flags(flags.bits());
        file.open(self.directory(id).join(name))?.write_all(text.as_bytes())
    }

    /// The exit code that [`note_exit`] noted, if it did.
    pub fn exit_code(&self, id: Id) -> Option<i32> {
        fs::read_to_string(self.directory(id).join("exit")).ok()?.trim().parse().ok()
    }

    /// Forgets an exit code that was noted.
    pub fn forget_exit(&self, id: Id) {
        // It is not there, mostly.
        let _ = fs::remove_file(self.directory(id).join("exit"));
    }

    /// Whether the containers' directories stay at the end, for the next daemon.
    pub fn keep(&mut self, kept: bool) {
        self.is_kept = kept;
    }

    /// Removes a container's directory.
    pub fn remove(&self, id: Id) {
        // What cannot be removed now, the next start tries again.
        let _ = fs::remove_dir_all(self.directory(id));
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = fs::remove_dir_all(&self.containers);
        }
        let _ = fs::remove_file(&self.socket);
    }
}

/// Ends all that has outlived the daemon of a socket, and forgets the state that it kept in the usual place.
///
/// # Errors
/// When a daemon has just started there, and what the file system refuses.
pub fn take_away(socket: &Path) -> anyhow::Result<()> {
    let state = default_state(socket);
    if !socket.with_extension("d").exists() && !state.exists() {
        return Ok(());
    }
    let runtime = Runtime::lock(socket, &|line| eprintln!("tapswitch: {line}"))?;
    if state.exists() {
        StateFile::lock(&state)?.remove().with_context(|| format!("cannot remove {}", state.display()))?;
    }
    runtime.clean_stale(&BTreeSet::new());
    Ok(())
}

/// Whether somebody listens.
fn is_served(socket: &Path) -> bool {
    UnixStream::connect(socket).is_ok()
}

fn hangs(pid: &str) -> String {
    format!(
        "the former daemon (pid {pid}) has not ended within {} s, though it listens no more: \
         'kill -9 {pid}' ends it, unless it hangs in the kernel",
        ENDING.as_secs()
    )
}

fn ending(pid: &str) -> String {
    format!("the former daemon (pid {pid}) is still ending, and is waited for")
}

/// A daemon that was killed lets go of its lock before its interfaces and sockets, whose names and ports we want:
/// waits until it has gone altogether.
fn wait_for_end(former: Process, say: &dyn Fn(&str)) -> anyhow::Result<()> {
    let pid = Pid::from_raw(former.pid.cast_signed());
    let (Ok(pidfd), true) = (open_pidfd(pid), former.pid != std::process::id()) else { return Ok(()) };
    // Only now nobody else can get its number.
    if host::process(former.pid) != Some(former) {
        return Ok(());
    }
    if ends_within(pidfd.as_fd(), QUIET) {
        return Ok(());
    }
    say(&ending(&pid.to_string()));
    anyhow::ensure!(ends_within(pidfd.as_fd(), ENDING), hangs(&pid.to_string()));
    Ok(())
}

fn ends_within(pidfd: BorrowedFd<'_>, time: Duration) -> bool {
    let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
    poll(&mut [PollFd::new(pidfd, PollFlags::POLLIN)], timeout).is_ok_and(|ready| ready > 0)
}

/// Waits for the end of a daemon that was told to end; says so when that takes longer than usual.
pub fn wait_for_process(pid: u32, pidfd: BorrowedFd<'_>) {
    if !ends_within(pidfd, QUIET) {
        eprintln!("tapswitch: the daemon (pid {pid}) removes its interfaces, and is waited for");
        ends_within(pidfd, Duration::MAX);
    }
}

/// Notes a container's init in its directory, for [`clean_stale`](Runtime::clean_stale) of a daemon to come.
/// Its supervisor does that; the daemon does not see other processes.
///
/// # Errors
/// What the file system refuses.
pub fn note_init(directory: &Path, pid: u32) -> std::io::Result<()> {
    let started = host::process(pid).map(|process| process.started).unwrap_or_default();
    fs::write(directory.join("init"), format!("{pid} {started}\n"))
}

/// Notes a container's exit code in its directory, for a daemon to come: there is none that could be told.
///
/// # Errors
/// What the file system refuses.
pub fn note_exit(directory: &Path, code: i32) -> std::io::Result<()> {
    fs::write(directory.join("exit"), format!("{code}\n"))
}

/// Locks a file for as long as we live. A daemon that is just ending does not listen any more and
/// lets go of the lock when it has ended; so wait for that. One that was killed an instant ago still
/// seems to listen: a second look tells.
fn wait_for_lock(path: &Path, socket: &Path, say: &dyn Fn(&str)) -> Result<Lock, NoLock> {
    let start = Instant::now();
    let mut has_said = false;
    loop {
        match private::lock(path) {
            Err(NoLock::Held(pid))
                if start.elapsed() < DYING || (start.elapsed() < ENDING && !is_served(socket)) =>
            {
                if start.elapsed() > QUIET && !has_said {
                    say(&ending(&pid));
                    has_said = true;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet(line: &str) {
        panic!("{line}");
    }

    #[test]
    fn a_second_daemon_is_refused_while_the_first_holds_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("t/control.sock");
        let first = Runtime::lock(&socket, &quiet).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let refused = Runtime::lock(&socket, &quiet).unwrap_err().to_string();
        assert!(refused.starts_with(&format!("another daemon (pid {})", std::process::id())), "{refused}");
        drop(first);
        Runtime::lock(&socket, &quiet).unwrap();
    }

    #[test]
    fn a_former_daemon_that_takes_its_time_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        drop(Runtime::lock(&socket, &quiet).unwrap());
        // It holds the lock, and listens no more.
        let path = directory.path().join("control.lock");
        let mut former = std::process::Command::new("flock").arg(&path).args(["sleep", "2"]).spawn().unwrap();
        while !matches!(private::lock(&path), Err(NoLock::Held(_))) {
            std::thread::yield_now();
        }
        let said = std::cell::RefCell::new(Vec::new());
        Runtime::lock(&socket, &|line| said.borrow_mut().push(line.to_owned())).unwrap();
        assert!(former.wait().unwrap().success());
        assert_eq!(said.borrow().len(), 1);
        assert!(said.borrow()[0].ends_with("is still ending, and is waited for"), "{said:?}");
    }

    #[test]
    fn a_stranger_with_the_number_of_a_former_daemon_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let mut stranger = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        fs::write(directory.path().join("control.lock"), format!("{} 1\n", stranger.id())).unwrap();
        Runtime::lock(&socket, &quiet).unwrap();
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }

    #[test]
    fn a_directory_that_others_can_change_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let refused = Runtime::lock(&directory.path().join("control.sock"), &quiet).unwrap_err().to_string();
        assert!(refused.contains("can be changed by others"), "{refused}");
    }

    #[test]
    fn in_a_shared_directory_nothing_of_others_is_used() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let directory = tempfile::tempdir().unwrap();
        let mode = |path: &Path, bits| fs::set_permissions(path, fs::Permissions::from_mode(bits)).unwrap();
        mode(directory.path(), 0o1777);
        let at = |name: &str| directory.path().join(name);
        symlink(at("precious"), at("one.lock")).unwrap();
        fs::write(at("precious"), "kept").unwrap();
        assert!(Runtime::lock(&at("one.sock"), &quiet).is_err());
        assert_eq!(fs::read_to_string(at("precious")).unwrap(), "kept");
        fs::create_dir(at("two.d")).unwrap();
        mode(&at("two.d"), 0o777);
        assert!(Runtime::lock(&at("two.sock"), &quiet).is_err());
    }

    #[test]
    fn a_file_that_cannot_be_had_at_once_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let runtime = Runtime::lock(&directory.path().join("control.sock"), &quiet).unwrap();
        let id = Id::new([1; 32]);
        let hosts = runtime.create(id).unwrap().join("hosts");
        // As a lease would, a pipe makes who opens it wait for somebody else.
        nix::unistd::mkfifo(&hosts, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(runtime.write(id, "hosts", "").is_err());
        fs::remove_file(&hosts).unwrap();
        std::os::unix::fs::symlink(directory.path().join("elsewhere"), &hosts).unwrap();
        assert!(runtime.write(id, "hosts", "").is_err());
        assert!(!directory.path().join("elsewhere").exists());
    }

    #[test]
    fn stale_containers_are_killed_only_when_they_are_the_same_process() {
        let directory = tempfile::tempdir().unwrap();
        let runtime = Runtime::lock(&directory.path().join("control.sock"), &quiet).unwrap();
        let (one, two) = (Id::new([1; 32]), Id::new([2; 32]));
        let mut stale = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let mut other = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        runtime.create(one).unwrap();
        note_init(&runtime.directory(one), stale.id()).unwrap();
        runtime.create(two).unwrap();
        runtime.write(two, "init", &format!("{} 1\n", other.id())).unwrap();
        let three = Id::new([3; 32]);
        runtime.create(three).unwrap();
        runtime.clean_stale(&BTreeSet::from([three]));
        assert!(runtime.directory(three).exists(), "it is kept");
        assert!(!stale.wait().unwrap().success());
        assert!(other.try_wait().unwrap().is_none(), "a stranger with a reused pid lives on");
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(!runtime.directory(one).exists() && !runtime.directory(two).exists());
    }
}
