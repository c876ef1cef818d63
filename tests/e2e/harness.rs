//! A laboratory of its own for every scenario: socket, daemon, containers, and who asks for them.
//!
//! Theory of operation. A command of the scenario is the real binary, started as somebody
//! ([`Who`]) through a small shell script: in a private mount namespace where the binary and
//! `/dev/net/tun` are within an ordinary user's reach, or in a network namespace that forwards
//! nothing. The script ends in `exec`, so that the child we started is the command itself and
//! signals reach it. Every process of the lab carries the socket's path in its environment; by
//! that the lab finds, when it is dropped, whoever was left behind.

use std::cell::Cell;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use serde_json::Value;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Whom `Who::User` is when root runs the tests: nobody.
const NOBODY: u32 = 65534;

/// Who uses the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Root in the machine's own namespaces.
    Root,
    /// An ordinary user without any capability.
    User,
    /// Root in a network namespace with `ip_forward=0`.
    NoForward,
}

/// Becomes the user, or leaves the network: `$1` is the binary, `$2` the lab's directory, the rest a command.
const BECOME: [(Who, &str); 2] = [
    (
        Who::User,
        r#"mount --bind "$1" "$2/tapswitch"
        [ "$(stat -Lc %a /dev/net/tun 2>&1)" = 666 ] || mount --bind "$2/tun" /dev/net/tun
        shift 2
        exec setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs \
            --bounding-set=-all --inh-caps=-all "$@""#,
    ),
    (
        Who::NoForward,
        r#"mount --bind "$1" "$2/tapswitch"
        echo 0 >/proc/sys/net/ipv4/ip_forward
        shift 2
        exec "$@""#,
    ),
];

/// Runs a scenario as somebody; skips it, loudly, where that cannot be.
pub(crate) fn run(who: Who, scenario: fn(&Lab)) {
    if let Some(lab) = Lab::new(who) {
        scenario(&lab);
    }
}

/// Says on the real standard error (the test runner hides the other) what was not tested.
pub(crate) fn skip(why: &str) {
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    let number = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    let _ = writeln!(std::io::stderr(), "SKIP: {test}: {why} (skip {number})");
}

/// Says on the real standard error with what a test was run.
pub(crate) fn note(what: &str) {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    let _ = writeln!(std::io::stderr(), "NOTE: {test}: {what}");
}

/// Awaits a condition, asking a hundred times a second.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    assert!(holds_within(PATIENCE, &mut holds), "did not come: {what}");
}

/// Whether something comes true in time.
pub(crate) fn holds_within(patience: Duration, holds: &mut impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !holds() {
        if start.elapsed() > patience {
            return false;
        }
        poll(&mut [], PollTimeout::from(10u8)).unwrap();
    }
    true
}

/// A scenario's own switch and all that belongs to it.
pub(crate) struct Lab {
    who: Who,
    directory: tempfile::TempDir,
    socket: PathBuf,
    /// Leftovers have been looked for already.
    checked: Cell<bool>,
}

impl Lab {
    fn new(who: Who) -> Option<Self> {
        let directory = tempfile::Builder::new().prefix("tapswitch-e2e-").tempdir().unwrap();
        let path = directory.path();
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        let is_root = geteuid().is_root();
        if is_root {
            File::create(path.join("tapswitch")).unwrap();
            if who == Who::User {
                chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
                make_tun(&path.join("tun"));
            }
        } else if who != Who::User {
            skip("it takes root");
            return None;
        }
        let socket = path.join("run/control.sock");
        let lab = Self { who, directory, socket, checked: Cell::new(false) };
        if !is_root {
            let preflight = lab.ts("preflight");
            if preflight.status.code() != Some(0) {
                skip(&format!("this user cannot run containers here:\n{}", text(&preflight.stdout)));
                lab.checked.set(true);
                return None;
            }
        }
        Some(lab)
    }

    /// Who asks.
    pub(crate) fn is_root(&self) -> bool {
        self.who != Who::User
    }

    /// Whether its network, and the names of namespaces, are this machine's.
    pub(crate) fn is_on_host(&self) -> bool {
        self.who != Who::NoForward
    }

    /// The lab's own directory, which its user owns.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The control socket.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The binary, where the lab's user can reach it.
    pub(crate) fn program(&self) -> PathBuf {
        if self.script().is_some() {
            self.path().join("tapswitch")
        } else {
            PathBuf::from(env!("CARGO_BIN_EXE_tapswitch"))
        }
    }

    fn script(&self) -> Option<&'static str> {
        let found = BECOME.iter().find(|(who, _)| *who == self.who && geteuid().is_root());
        found.map(|(_, script)| *script)
    }

    /// Any command as the lab's user, without a terminal.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command;
        if let Some(script) = self.script() {
            command = Command::new("unshare");
            command.args(if self.who == Who::NoForward { ["-m", "-n"] } else { ["-m", "--"] });
            command.args(["sh", "-e", "-c", script, "sh", env!("CARGO_BIN_EXE_tapswitch")]);
            command.arg(self.path()).args(words);
        } else {
            command = Command::new(words[0]);
            command.args(&words[1..]);
        }
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("HOME", "/").env("TAPSWITCH_SOCKET", &self.socket).env("TERM", "dumb");
        // A switch of its own, but where a scenario is about this machine's sockets: `--uplink user`.
        command.env("TAPSWITCH_UPLINK", "none");
        command.stdin(Stdio::null()).current_dir("/");
        command
    }

    /// `tapswitch` with these words, as a command to be started.
    pub(crate) fn tapswitch(&self, words: &[&str]) -> Command {
        let program = self.program();
        self.command(&[&[program.to_str().unwrap()], words].concat())
    }

    /// Runs `tapswitch` to its end, which comes within a minute.
    pub(crate) fn words(&self, words: &[&str]) -> Output {
        let program = self.program();
        let limit = ["timeout", "-s", "KILL", "60", program.to_str().unwrap()];
        self.command(&[&limit, words].concat()).output().unwrap()
    }

    /// Runs `tapswitch` with the words of a line.
    pub(crate) fn ts(&self, line: &str) -> Output {
        self.words(&line.split_ascii_whitespace().collect::<Vec<_>>())
    }

    /// Runs `tapswitch`, which must succeed: what it printed.
    #[track_caller]
    pub(crate) fn ok(&self, line: &str) -> String {
        succeeded(line, &self.ts(line))
    }

    /// Runs `tapswitch`, which must refuse with one line and exit code 1: that line.
    #[track_caller]
    pub(crate) fn refused(&self, line: &str) -> String {
        let output = self.ts(line);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "tapswitch {line}: {}{said}", text(&output.stdout));
        assert_eq!(said.lines().count(), 1, "tapswitch {line}: {said}");
        said.trim_end().strip_prefix("tapswitch: ").expect("who says it").to_owned()
    }

    /// The last line of what a command says that reports its progress and then refuses.
    #[track_caller]
    pub(crate) fn refused_last(&self, line: &str) -> String {
        let output = self.ts(line);
        assert_eq!(output.status.code(), Some(1), "tapswitch {line}");
        text(&output.stderr).lines().last().unwrap().to_owned()
    }

    /// Runs `tapswitch --json`: the array of rows.
    #[track_caller]
    pub(crate) fn json(&self, line: &str) -> Vec<Value> {
        serde_json::from_str(&self.ok(&format!("--json {line}"))).unwrap()
    }

    /// The row of a listing whose `key` is `value`.
    #[track_caller]
    pub(crate) fn row(&self, listing: &str, key: &str, value: &str) -> Value {
        let rows = self.json(listing);
        let found = rows.iter().find(|row| row[key] == value);
        found.unwrap_or_else(|| panic!("{listing}: no {key} {value} in {rows:#?}")).clone()
    }

    /// Runs a shell script in a container, to whatever end.
    pub(crate) fn sh(&self, container: &str, script: &str) -> Output {
        self.words(&["exec", container, "sh", "-c", script])
    }

    /// Runs a shell script in a container, which must succeed: what it printed.
    #[track_caller]
    pub(crate) fn inside(&self, container: &str, script: &str) -> String {
        succeeded(script, &self.sh(container, script))
    }

    /// Whether `ping` in one container reaches an address or a name.
    pub(crate) fn pings(&self, container: &str, target: &str) -> bool {
        self.ts(&format!("exec {container} ping -c1 -W1 {target}")).status.success()
    }

    /// A container's address on its first network; asking for its name would be traffic as well.
    #[track_caller]
    pub(crate) fn address(&self, container: &str) -> String {
        let all = self.row("ps", "name", container)["addresses"].as_str().unwrap().to_owned();
        all.split(',').next().unwrap().to_owned()
    }

    /// Starts a daemon in the background.
    #[track_caller]
    pub(crate) fn daemon(&self, flags: &str) {
        self.ok(&format!("daemon -d {flags}"));
    }

    /// An idle container on a network.
    #[track_caller]
    pub(crate) fn idle(&self, name: &str, network: &str) {
        self.ok(&format!("run -d --name {name} --network {network}"));
    }

    /// The daemon's process.
    pub(crate) fn daemon_pid(&self) -> Pid {
        let pid = self.json("status")[0]["pid"].as_i64().unwrap();
        Pid::from_raw(i32::try_from(pid).unwrap())
    }

    /// Starts a command as the lab's user; it ends with what is returned.
    pub(crate) fn start(&self, mut command: Command) -> Process {
        Process(command.spawn().unwrap())
    }

    /// A process in a user and a network namespace of its own.
    pub(crate) fn foreign(&self) -> Process {
        let process = self.start(self.command(&["unshare", "-Urn", "sleep", "1000"]));
        until("a process in namespaces of its own", || {
            fs::read_to_string(format!("/proc/{}/comm", process.0.id())).unwrap() == "sleep\n"
        });
        process
    }

    /// The count of a drop reason at a port (or `net:NAME`).
    pub(crate) fn drops(&self, at: &str, reason: &str) -> u64 {
        let rows = self.json("show drops");
        let row = rows.iter().find(|row| row["at"] == at && row["reason"] == reason);
        row.map_or(0, |row| row["count"].as_u64().unwrap())
    }

    /// Processes that carry our socket's path in their environment.
    pub(crate) fn processes(&self) -> Vec<Pid> {
        let mark = format!("TAPSWITCH_SOCKET={}\0", self.socket.display());
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let ours = |pid: &i32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.windows(mark.len()).any(|window| window == mark.as_bytes())
        };
        pids.filter(ours).map(Pid::from_raw).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.checked.get() {
            return;
        }
        let down = self.ts("down --all");
        let clean = holds_within(Duration::from_secs(10), &mut || self.processes().is_empty());
        let left: Vec<String> = self.processes().into_iter().map(describe_and_kill).collect();
        if !std::thread::panicking() {
            assert!(down.status.success(), "{}", text(&down.stderr));
            assert!(clean, "left behind: {left:?}");
        }
    }
}

fn describe_and_kill(pid: Pid) -> String {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let _ = kill(pid, Signal::SIGKILL);
    format!("{pid} {}", line.replace('\0', " "))
}

/// A process that ends with its owner.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    /// Its number.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.0.id()).unwrap())
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits for its end: its exit code, or none when a signal ended it.
    pub(crate) fn code(&mut self) -> Option<i32> {
        until("the end of a process", || self.0.try_wait().unwrap().is_some());
        self.0.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a command printed, which must have succeeded.
#[track_caller]
pub(crate) fn succeeded(what: &str, output: &Output) -> String {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{what}: {}\n{out}{err}", output.status);
    out
}

/// Bytes that a command printed, as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether a process is there, or any thread of it.
pub(crate) fn is_alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let threads = || fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with('Z') || threads() > 1)
}

/// A node like `/dev/net/tun` that everybody may open.
fn make_tun(path: &Path) {
    let usual = fs::metadata("/dev/net/tun").is_ok_and(|metadata| metadata.mode() & 0o666 == 0o666);
    if !usual {
        let made = Command::new("mknod").arg(path).args(["c", "10", "200"]).status().unwrap();
        assert!(made.success(), "cannot make a device node in {}", path.display());
        fs::set_permissions(path, Permissions::from_mode(0o666)).unwrap();
    }
}
