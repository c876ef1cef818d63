//! Real containers, as root and as an ordinary user.
//!
//! Forking needs a process of one thread, which the standard test harness is not; so this is a
//! small runner of its own (`harness = false`): every case runs in the main thread, one after the
//! other. As root it runs all cases, then itself again as uid 65534 without any capability, in a
//! private mount namespace where `/dev/net/tun` is open to all; then a few with subordinate ids.
//! As an ordinary user it runs the cases as that user.
//!
//! `container [FILTER]` runs the cases whose names contain FILTER;
//! `container --helper NAME` is what the cases start for a process of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::socket::{MsgFlags, recv, send};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::{Pid, geteuid};
use tapswitch::cli::preflight;
use tapswitch::container::{self, Exit, Output, Running, SpawnError, Spec, Wake, exec};
use tapswitch::io::helper;
use tapswitch::io::netns::{self, Identity, NetnsError, Target};
use tapswitch::io::sys::{namespace, process, terminal};

const PATIENCE: Duration = Duration::from_secs(20);

type Case = (&'static str, fn());

const CASES: &[Case] = &[
    ("exit codes are the command's", exit_codes),
    ("a missing tool names its package", missing_tool),
    ("an unusable working directory is 126", bad_workdir),
    ("environment and working directory", environment),
    ("hosts and its kin are seen inside", etc_files),
    ("dangling and missing files in /etc", etc_dangling),
    ("run, tmp, proc, sys and the host name are private", private_views),
    ("nothing leaks into the command", no_leaks),
    ("pid 1 reaps orphans", orphans),
    ("signals reach the command", signals),
    ("^C without a terminal inside comes once", interrupt_once),
    ("idle ends at SIGTERM", idle),
    ("ip_forward is 1 under a parent where it is 0", ip_forward),
    ("sysctls: defaults, wanted, refused", sysctls),
    ("IPv6 is off, or on and quiet", ipv6),
    ("stdin is empty unless interactive", stdin),
    ("a killed supervisor takes its container along", supervisor_killed),
    ("a dropped container is gone", dropped),
    ("a watched descriptor wakes the supervisor", watched),
    ("descriptors work from outside", descriptors),
    ("other people's namespaces by pid and path", open_inside),
    ("namespaces that cannot be used", netns_errors),
    ("exec enters", exec_enters),
    ("exec dies with its client", exec_killed),
    ("exec into an ended container", exec_gone),
    ("a detached supervisor reports and lives on", detached),
    ("a terminal: size, raw mode, resize, restore", terminal_session),
    ("a terminal into a log", terminal_log),
    ("a stopped reader does not lock the terminal", terminal_backpressure),
    ("a sandbox's /proc and /sys are made do with", sandbox_views),
    ("without user namespaces root does without, others say why", no_user_namespaces),
    ("preflight is content", preflight_passes),
];

/// Cases that only make sense for root.
const ROOT_CASES: &[Case] = &[
    ("files keep their owners", files_keep_owners),
    ("root in a user's container is that user", exec_as_root),
    ("a nursery does not pin its target", nursery),
    ("an unusable /dev/net/tun is explained", tun_refused),
];

const SUBORDINATE_CASES: &[Case] = &[("subordinate ids are mapped", subordinate_ids)];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |n: usize| arguments.get(n).map(String::as_str);
    // Test runners list first, then run by name; all cases are one test to them.
    if arguments.iter().any(|argument| argument == "--list") {
        if !arguments.iter().any(|argument| argument == "--ignored") {
            println!("cases: test");
        }
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|argument| argument == "--exact") {
        return all(None);
    }
    match argument(0) {
        Some("--helper") => act_as_helper(argument(1).unwrap()),
        Some("--as-user") => run("user", CASES, argument(1)),
        Some("--as-subordinate") => run("subordinate", SUBORDINATE_CASES, argument(1)),
        first => all(first.filter(|first| !first.starts_with('-'))),
    }
}

/// The cases whose names contain `filter`: as who we are, and as root also as others.
fn all(filter: Option<&str>) -> ExitCode {
    if !geteuid().is_root() {
        return run("user", CASES, filter);
    }
    let root = [CASES, ROOT_CASES].concat();
    let mut code = run("root", &root, filter);
    for mode in ["--as-user", "--as-subordinate"] {
        if !again_as_user(mode, filter.unwrap_or("")) {
            code = ExitCode::FAILURE;
        }
    }
    code
}

fn run(who: &str, cases: &[Case], filter: Option<&str>) -> ExitCode {
    let (mut passed, mut failed) = (0, 0);
    let chosen = cases.iter().filter(|(name, _)| name.contains(filter.unwrap_or("")));
    for (name, case) in chosen {
        let ok = catch_unwind(case).is_ok();
        println!("test {who}: {name} ... {}", if ok { "ok" } else { "FAILED" });
        passed += usize::from(ok);
        failed += usize::from(!ok);
    }
    println!("test result: {who}: {passed} passed; {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs this binary again as uid 65534, in a mount namespace of its own.
fn again_as_user(mode: &str, filter: &str) -> bool {
    let dir = dir_with_self();
    fs::write(dir.path().join("subid"), "65534:200000:1000\n").unwrap();
    let script = r#"
        set -e
        cd "$1"
        mknod tun c 10 200
        chmod 0666 tun
        mkdir -p /dev/net; [ -e /dev/net/tun ] || : >/dev/net/tun
        mount --bind tun /dev/net/tun
        drop="--inh-caps=-all"
        case "$2" in
        --as-subordinate) mount --bind subid /etc/subuid; mount --bind subid /etc/subgid ;;
        *) drop="$drop --bounding-set=-all" ;;
        esac
        exec setpriv --reuid 65534 --regid 65534 --clear-groups $drop env HOME=/ ./container "$2" "$3"
    "#;
    let mut unshare = Command::new("unshare");
    unshare.args(["-m", "sh", "-c", script, "sh"]).arg(dir.path()).args([mode, filter]);
    unshare.status().unwrap().success()
}

// What the cases start for a process of their own.

/// Each stands for a client; its exit status is the container's.
fn act_as_helper(name: &str) -> ExitCode {
    let spec = match name {
        "signals" => shell(
            "trap 'echo term; exit 9' TERM; trap 'echo usr1' USR1; echo ready; while :; do sleep 0.02; done",
        ),
        "sleep" => shell("echo ready; exec sleep 1000"),
        "interrupts" => shell(
            "trap 'n=$((n+1)); echo int' INT; echo ready; while [ -z \"$n\" ]; do sleep 0.02; done; sleep 0.2; echo total:$n",
        ),
        "sandbox" => shell(
            "cat /proc/sys/net/ipv4/ip_forward; grep ' /sys ' /proc/self/mounts | tail -n 1 | cut -d ' ' -f 4 | cut -d , -f 1; ls -d /tmp",
        ),
        "ip_forward" => shell("cat /proc/sys/net/ipv4/ip_forward"),
        "etc" => Spec {
            files: Some(PathBuf::from(std::env::var("FILES").unwrap())),
            ..shell(
                "cat /etc/hosts /etc/resolv.conf /etc/nsswitch.conf; cat /etc/kept /etc/dir/inner /etc/link",
            )
        },
        "cat" => Spec { interactive: true, ..shell("cat") },
        "no-stdin" => shell("cat; echo end"),
        "terminal" => Spec {
            terminal: true,
            interactive: true,
            ..shell(
                "trap 'stty size' WINCH; stty size; tty; read line; echo got:$line; while ! [ -e /tmp/go ]; do read x; : >/tmp/go; done; exit 3",
            )
        },
        "flood" => Spec {
            terminal: true,
            interactive: true,
            ..shell(
                "stty raw -echo; echo ready; head -c 300000 /dev/zero | tr '\\0' x; head -c 100000 | wc -c",
            )
        },
        "exec" => {
            let pid = std::env::var("PID").unwrap().parse().unwrap();
            let request = exec_request(Pid::from_raw(pid), "echo $$ ready; exec sleep 1000");
            return ExitCode::from(u8::try_from(exec(&request).unwrap().status()).unwrap());
        }
        "detach" => {
            let answer = helper::detach::<i32>(|channel| {
                let prepared = container::spawn(&shell("echo lost; exec sleep 1000")).unwrap();
                let pid = prepared.pid().as_raw();
                let running = prepared.start().unwrap();
                channel.send(&pid, &[]).unwrap();
                finish(running).status()
            });
            println!("{}", answer.unwrap().unwrap().0);
            assert!(helper::detach::<i32>(|_| 1).unwrap().is_none());
            return ExitCode::SUCCESS;
        }
        "preflight" => {
            let report = preflight::run(Path::new("/tmp"));
            print!("{report}");
            return ExitCode::from(report.exit_code());
        }
        "tap" => Spec { taps: 1, ..shell("true") },
        _ => panic!("no helper {name}"),
    };
    let prepared = match container::spawn(&spec) {
        Ok(prepared) => prepared,
        Err(error) => {
            println!("{error}");
            return ExitCode::from(125);
        }
    };
    for notice in prepared.notices() {
        println!("{notice}");
    }
    if let Ok(path) = std::env::var("PIDFILE") {
        fs::write(path, prepared.pid().to_string()).unwrap();
    }
    ExitCode::from(u8::try_from(finish(prepared.start().unwrap()).status()).unwrap())
}

fn helper_command(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--helper", name]).stdin(Stdio::null());
    command
}

/// The same inside what a shell script prepares; `"$@"` is the helper.
fn helper_under(unshare: &[&str], script: &str, name: &str) -> Command {
    let mut command = Command::new("unshare");
    if !geteuid().is_root() {
        command.arg("-Ur");
    }
    command.args(unshare).args(["sh", "-c", script, "sh"]);
    command.arg(std::env::current_exe().unwrap()).args(["--helper", name]).stdin(Stdio::null());
    command
}

// Building blocks.

fn shell(script: &str) -> Spec {
    let command = ["sh", "-c", script].map(str::to_owned).to_vec();
    Spec { hostname: "web".to_owned(), command, ..Spec::default() }
}

fn finish(mut running: Running) -> Exit {
    match running.wait(None).unwrap() {
        Wake::Exited(exit) => exit,
        Wake::Watched => panic!("nothing is watched"),
    }
}

/// Runs to the end: the status and what was written.
fn output_of(mut spec: Spec) -> (i32, String) {
    let mut log = tempfile::tempfile().unwrap();
    spec.output = Output::Log(log.try_clone().unwrap());
    let prepared = container::spawn(&spec).unwrap_or_else(|error| panic!("{error}"));
    assert!(prepared.notices().is_empty(), "{:?}", prepared.notices());
    let exit = finish(prepared.start().unwrap());
    let mut text = String::new();
    log.rewind().unwrap();
    log.read_to_string(&mut text).unwrap();
    (exit.status(), text)
}

fn exec_request(pid: Pid, script: &str) -> exec::Request {
    exec::Request {
        pid,
        hostname: "web".to_owned(),
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: Vec::new(),
        workdir: None,
        terminal: false,
        interactive: false,
    }
}

fn start_idle() -> Running {
    let spec = Spec { hostname: "web".to_owned(), ..Spec::default() };
    container::spawn(&spec).unwrap().start().unwrap()
}

fn stop(running: Running) {
    running.signal(Signal::SIGTERM).unwrap();
    assert_eq!(finish(running), Exit::Code(0));
}

fn text_of(mut command: Command) -> (i32, String) {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8(output.stdout).unwrap())
}

fn readable_within(fd: &impl AsFd, patience: Duration) -> bool {
    let timeout = PollTimeout::try_from(patience).unwrap();
    poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout).unwrap() == 1
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

// The cases.

fn exit_codes() {
    assert_eq!(output_of(shell("exit 0")).0, 0);
    assert_eq!(output_of(shell("exit 42")).0, 42);
    assert_eq!(output_of(shell("kill -KILL $$")).0, 137);
    assert_eq!(output_of(shell("kill -TERM $$")).0, 143);
    assert_eq!(output_of(shell("kill -PIPE $$")).0, 141);
    let direct = |command: &str| Spec { command: vec![command.to_owned()], ..Spec::default() };
    let (code, text) = output_of(direct("no-such-program"));
    assert_eq!((code, text.as_str()), (127, "tapswitch: no-such-program: not found\n"));
    let (code, text) = output_of(direct("/etc/passwd"));
    assert_eq!((code, text.as_str()), (126, "tapswitch: /etc/passwd: Permission denied\n"));
    assert_eq!(output_of(direct("/no/such/file")).0, 127);
    assert_eq!(output_of(direct("/etc")).0, 126);
}

fn missing_tool() {
    let env = vec![("PATH".to_owned(), "/nowhere".to_owned())];
    let spec = Spec { command: vec!["ping".to_owned()], env, ..Spec::default() };
    let expected =
        "tapswitch: ping: not found; install it on this machine: apt-get install -y iputils-ping\n";
    assert_eq!(output_of(spec), (127, expected.to_owned()));
}

fn bad_workdir() {
    let (code, text) = output_of(Spec { workdir: Some("/nowhere".into()), ..shell("pwd") });
    assert_eq!(code, 126);
    assert_eq!(text, "tapswitch: cannot enter the working directory /nowhere: No such file or directory\n");
}

fn environment() {
    let env = vec![("GREETING".to_owned(), "two words".to_owned())];
    let spec = Spec { env, workdir: Some("/usr".into()), ..shell("env; pwd") };
    let (_, text) = output_of(spec);
    let mut lines: Vec<_> = text.lines().filter(|line| !line.starts_with("HOME=")).collect();
    lines.sort_unstable();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(lines, ["/usr", "GREETING=two words", "HOSTNAME=web", path, "PWD=/usr"]);
}

fn etc_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("hosts"), "10.0.0.2 web\n").unwrap();
    fs::write(dir.path().join("hostname"), "web\n").unwrap();
    fs::write(dir.path().join("resolv.conf"), "nameserver 127.0.0.11\n").unwrap();
    fs::write(dir.path().join("nsswitch.conf"), "hosts: files dns\n").unwrap();
    dir
}

fn etc_files() {
    let dir = etc_dir();
    let script = "cat /etc/hosts /etc/hostname /etc/resolv.conf /etc/nsswitch.conf; getent hosts web; \
                  while ! grep -q db /etc/hosts; do sleep 0.01; done; getent hosts db";
    let mut log = tempfile::NamedTempFile::new().unwrap();
    let spec = Spec {
        files: Some(dir.path().to_owned()),
        output: Output::Log(log.reopen().unwrap()),
        ..shell(script)
    };
    let running = container::spawn(&spec).unwrap().start().unwrap();
    wait_until("the first name", || {
        fs::read_to_string(log.path()).unwrap().ends_with("10.0.0.2        web\n")
    });
    // Rewritten in place, the change shows inside.
    let hosts = File::options().append(true).open(dir.path().join("hosts"));
    hosts.unwrap().write_all(b"10.0.0.3 db\n").unwrap();
    assert_eq!(finish(running), Exit::Code(0));
    let mut text = String::new();
    log.read_to_string(&mut text).unwrap();
    let expected = "10.0.0.2 web\nweb\nnameserver 127.0.0.11\nhosts: files dns\n\
                    10.0.0.2        web\n10.0.0.3        db\n";
    assert_eq!(text, expected);
}

fn etc_dangling() {
    let files = etc_dir();
    let etc = tempfile::tempdir().unwrap();
    symlink("../run/systemd/resolve/stub-resolv.conf", etc.path().join("resolv.conf")).unwrap();
    symlink("nowhere/hosts", etc.path().join("hosts")).unwrap();
    symlink("dir/inner", etc.path().join("link")).unwrap();
    fs::write(etc.path().join("kept"), "kept\n").unwrap();
    fs::create_dir(etc.path().join("dir")).unwrap();
    fs::write(etc.path().join("dir/inner"), "inner\n").unwrap();
    let mut command = helper_under(&["-m"], "mount --bind \"$ETC\" /etc; exec \"$@\"", "etc");
    command.env("FILES", files.path()).env("ETC", etc.path());
    let expected = "10.0.0.2 web\nnameserver 127.0.0.11\nhosts: files dns\nkept\ninner\ninner\n";
    assert_eq!(text_of(command), (0, expected.to_owned()));
    assert!(!etc.path().join("nsswitch.conf").exists(), "the host's /etc was written to");
}

fn private_views() {
    let marker = tempfile::tempdir().unwrap();
    let script = format!(
        "ls -A /run /tmp; hostname; : >/run/x; : >/tmp/y; ls /sys/class/net; [ -e {} ] && echo leak; \
         set -- /proc/[0-9]*; echo $#; id -u; cat /proc/sys/kernel/hostname; \
         grep -c '^ *lo:' /proc/net/dev; cat /sys/class/net/lo/flags",
        marker.path().display()
    );
    let host_name = nix::unistd::gethostname().unwrap();
    let (_, text) = output_of(shell(&script));
    assert_eq!(text, "/run:\n\n/tmp:\nweb\nlo\n2\n0\nweb\n1\n0x9\n");
    assert_eq!(nix::unistd::gethostname().unwrap(), host_name);
    assert!(!Path::new("/run/x").exists() && !Path::new("/tmp/y").exists());
}

fn no_leaks() {
    // Even what was opened without close-on-exec stays behind.
    let leaky = File::open("/etc/passwd").unwrap();
    let flags = nix::fcntl::FdFlag::empty();
    nix::fcntl::fcntl(&leaky, nix::fcntl::FcntlArg::F_SETFD(flags)).unwrap();
    let script = "ls /proc/self/fd; ls /proc/1/fd | wc -l; grep -E 'SigBlk|SigIgn' /proc/self/status";
    let (_, text) = output_of(Spec { taps: 2, ..shell(script) });
    // ls has the directory open as 3. Init: 0, 1, 2 and what it sent to us.
    let clean = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n";
    assert_eq!(text, format!("0\n1\n2\n3\n3\n{clean}"));
}

fn orphans() {
    // A grandchild is orphaned, ends, and must not stay as a zombie.
    let script = "(sleep 0.05 & echo $! >/tmp/pid); read pid </tmp/pid; \
                  grep -q '^PPid:.1$' /proc/$pid/status || exit 1; \
                  for try in $(seq 1000); do [ -e /proc/$pid ] || exit 7; sleep 0.01; done; ps ax";
    let (code, text) = output_of(shell(script));
    assert_eq!(code, 7, "{text}");
}

fn signals() {
    let mut client = helper_command("signals").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines().map(Result::unwrap);
    let pid = Pid::from_raw(i32::try_from(client.id()).unwrap());
    assert_eq!(lines.next().as_deref(), Some("ready"));
    nix::sys::signal::kill(pid, Signal::SIGUSR1).unwrap();
    assert_eq!(lines.next().as_deref(), Some("usr1"));
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(lines.next().as_deref(), Some("term"));
    assert_eq!(client.wait().unwrap().code(), Some(9));
}

fn interrupt_once() {
    let outer = nix::pty::openpty(None, None).unwrap();
    let mut client = helper_on_terminal("interrupts", &outer.slave);
    let mut master = File::from(outer.master);
    let mut seen = String::new();
    read_until(&mut master, &mut seen, "ready");
    master.write_all(b"\x03").unwrap();
    read_until(&mut master, &mut seen, "total:1\r\n");
    assert_eq!(client.wait().unwrap().code(), Some(0));
}

fn idle() {
    let running = start_idle();
    let pid = running.pid();
    stop(running);
    assert!(process::open_pidfd(pid).is_err());
}

fn ip_forward() {
    let script = "echo 0 >/proc/sys/net/ipv4/ip_forward && exec \"$@\"";
    let command = helper_under(&["-n", "-m"], script, "ip_forward");
    assert_eq!(text_of(command), (0, "1\n".to_owned()));
}

fn sysctls() {
    let wanted = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
    let script = "cd /proc/sys/net/ipv4; cat ip_forward ip_unprivileged_port_start ping_group_range";
    let range = if geteuid().is_root() { "0\t2147483647" } else { "0\t0" };
    assert_eq!(output_of(shell(script)), (0, format!("1\n0\n{range}\n")));
    let spec =
        Spec { sysctls: wanted("net.ipv4.ip_forward", "0"), ..shell("cat /proc/sys/net/ipv4/ip_forward") };
    assert_eq!(output_of(spec), (0, "0\n".to_owned()));

    let error = |key| container::spawn(&Spec { sysctls: wanted(key, "1"), ..shell("true") }).unwrap_err();
    let text = error("kernel.panic").to_string();
    assert!(text.starts_with("cannot set kernel.panic inside the container: it is not"), "{text}");
    let expected = "cannot set net.ipv4.nonsense inside the container: No such file or directory";
    assert_eq!(error("net.ipv4.nonsense").to_string(), expected);
}

fn ipv6() {
    let script = "cd /proc/sys/net/ipv6/conf; cat default/disable_ipv6 all/disable_ipv6 default/accept_ra default/accept_dad; \
                  wc -l </proc/net/if_inet6";
    assert_eq!(output_of(shell(script)).1, "1\n1\n1\n1\n0\n");
    assert_eq!(output_of(Spec { ipv6: true, ..shell(script) }).1, "0\n0\n0\n0\n1\n");
}

fn stdin() {
    let run = |name| {
        let mut command = helper_command(name);
        let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        client.stdin.take().unwrap().write_all(b"typed\n").unwrap();
        String::from_utf8(client.wait_with_output().unwrap().stdout).unwrap()
    };
    assert_eq!(run("cat"), "typed\n");
    assert_eq!(run("no-stdin"), "end\n");
}

fn supervisor_killed() {
    let pid_file = tempfile::NamedTempFile::new().unwrap();
    let mut command = helper_command("sleep");
    command.env("PIDFILE", pid_file.path()).stdout(Stdio::piped());
    let mut client = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(client.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let init: i32 = fs::read_to_string(pid_file.path()).unwrap().parse().unwrap();
    let init = process::open_pidfd(Pid::from_raw(init)).unwrap();
    assert!(!readable_within(&init, Duration::from_millis(50)));
    client.kill().unwrap();
    client.wait().unwrap();
    assert!(readable_within(&init, PATIENCE), "the container outlived its supervisor");
}

fn dropped() {
    let prepared = container::spawn(&shell("true")).unwrap();
    let pid = prepared.pid();
    let pidfd = prepared.pidfd().unwrap().try_clone_to_owned().unwrap();
    prepared.abort();
    assert!(readable_within(&pidfd, Duration::ZERO));
    assert!(process::open_pidfd(pid).is_err(), "not reaped");
    let running = start_idle();
    let pid = running.pid();
    drop(running);
    assert!(process::open_pidfd(pid).is_err(), "not reaped");
}

fn watched() {
    let (daemon, ours) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut running = container::spawn(&shell("sleep 1000")).unwrap().start().unwrap();
    drop(daemon);
    assert_eq!(running.wait(Some(ours.as_fd())).unwrap(), Wake::Watched);
    running.signal(Signal::SIGKILL).unwrap();
    assert_eq!(finish(running), Exit::Signal(9));
}

/// Sets an interface's flags or, with a descriptor, its namespace; asserts that the kernel agrees.
fn set_link(netlink: &OwnedFd, index: i32, up: bool, netns: Option<&OwnedFd>) {
    let mut message = Vec::new();
    let length: u32 = if netns.is_some() { 40 } else { 32 };
    message.extend(length.to_ne_bytes());
    message.extend(16u16.to_ne_bytes()); // RTM_NEWLINK
    message.extend(5u16.to_ne_bytes()); // NLM_F_REQUEST | NLM_F_ACK
    message.extend([0; 8]); // sequence, port
    message.extend([0; 4]); // family, padding, type
    message.extend(index.to_ne_bytes());
    message.extend(u32::from(up).to_ne_bytes()); // IFF_UP
    message.extend(u32::from(up).to_ne_bytes());
    if let Some(netns) = netns {
        message.extend(8u16.to_ne_bytes());
        message.extend(28u16.to_ne_bytes()); // IFLA_NET_NS_FD
        message.extend(netns.as_raw_fd().to_ne_bytes());
    }
    send(netlink.as_raw_fd(), &message, MsgFlags::empty()).unwrap();
    let mut answer = [0; 256];
    let n = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty()).unwrap();
    assert!(n >= 20);
    assert_eq!(u16::from_ne_bytes([answer[4], answer[5]]), 2, "NLMSG_ERROR carries the acknowledgement");
    let error = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
    assert_eq!(error, 0, "{}", std::io::Error::from_raw_os_error(-error));
}

fn descriptors() {
    let mut log = tempfile::tempfile().unwrap();
    let output = Output::Log(log.try_clone().unwrap());
    let script = "ls /sys/class/net; cat /sys/class/net/eth0/flags /sys/class/net/eth0/ifindex";
    let mut prepared = container::spawn(&Spec { taps: 2, output, ..shell(script) }).unwrap();
    let pid = prepared.pid();
    let inside = prepared.take_descriptors().unwrap();
    assert!(prepared.take_descriptors().is_none());
    assert_eq!(inside.identity, Identity::of(&File::open(format!("/proc/{pid}/ns/net")).unwrap()).unwrap());
    assert_ne!(inside.identity, Identity::current().unwrap());
    assert_eq!(inside.tuns.len(), 2);
    namespace::try_tap(inside.tuns[0].as_fd(), "eth0").unwrap();
    namespace::try_tap(inside.tuns[1].as_fd(), "eth1").unwrap();
    set_link(&inside.netlink, 2, true, None);
    assert_eq!(finish(prepared.start().unwrap()), Exit::Code(0));
    let mut text = String::new();
    log.rewind().unwrap();
    log.read_to_string(&mut text).unwrap();
    assert_eq!(text, "eth0\neth1\nlo\n0x1003\n2\n");
}

fn open_inside() {
    let running = start_idle();
    let path = PathBuf::from(format!("/proc/{}/ns/net", running.pid()));
    let userns = Some(PathBuf::from(format!("/proc/{}/ns/user", running.pid())));
    let expected = Identity::of(&File::open(&path).unwrap()).unwrap();
    let targets = [
        Target::Pid(running.pid().as_raw()),
        Target::Path { netns: path.clone(), userns: None },
        Target::Path { netns: path, userns },
    ];
    for (target, name) in targets.iter().zip(["eth0", "eth1", "eth2"]) {
        let inside =
            netns::open_inside(target, 1, true).unwrap_or_else(|error| panic!("{target:?}: {error}"));
        assert_eq!(inside.identity, expected);
        namespace::try_tap(inside.tuns[0].as_fd(), name).unwrap();
        let script = format!("test -e /sys/class/net/{name}");
        assert_eq!(exec(&exec_request(running.pid(), &script)).unwrap(), Exit::Code(0));
        drop(inside);
        let gone = format!("! test -e /sys/class/net/{name}");
        assert_eq!(exec(&exec_request(running.pid(), &gone)).unwrap(), Exit::Code(0));
    }
    stop(running);
}

fn netns_errors() {
    let missing = netns::open_inside(&Target::Pid(i32::MAX), 1, true).unwrap_err();
    assert_eq!(missing, NetnsError::Missing { target: format!("process {}", i32::MAX) });
    let path = |netns: &str| Target::Path { netns: netns.into(), userns: None };
    for other in ["/etc/passwd", "/proc/self/ns/uts"] {
        let error = netns::open_inside(&path(other), 1, true).unwrap_err();
        assert_eq!(error, NetnsError::NotANamespace { target: other.to_owned() });
    }
    if !geteuid().is_root() {
        for target in [Target::Pid(1), path("/proc/self/ns/net")] {
            let error = netns::open_inside(&target, 1, true).unwrap_err();
            assert!(matches!(error, NetnsError::Refused { .. }), "{error:?}");
            let text = error.to_string();
            assert!(text.ends_with("run as root, or as the user who made its user namespace"), "{text}");
        }
        let error = netns::open_nursery(&path("/proc/self/ns/net"), 1, true).unwrap_err();
        assert!(matches!(error, NetnsError::Refused { .. }), "{error:?}");
    }
}

fn exec_enters() {
    let running = start_idle();
    let run = |script: &str| exec(&exec_request(running.pid(), script)).unwrap();
    assert_eq!(run("exit 5"), Exit::Code(5));
    assert_eq!(run("kill -TERM $$"), Exit::Signal(15));
    assert_eq!(
        run("test $(hostname) = web -a $(ls /sys/class/net) = lo -a $(id -u) = 0 -a $$ != 1"),
        Exit::Code(0)
    );
    assert_eq!(
        run("test $(ls -d /proc/[0-9]* | wc -l) -le 5 -a $(ls /proc/self/fd | wc -l) = 4"),
        Exit::Code(0)
    );
    assert_eq!(run("ping -c 1 -W 1 127.0.0.1 >/dev/null"), Exit::Code(0));
    let mut request = exec_request(running.pid(), "test $PWD = /usr -a $A = b");
    request.workdir = Some("/usr".into());
    request.env = vec![("A".to_owned(), "b".to_owned())];
    assert_eq!(exec(&request).unwrap(), Exit::Code(0));
    request.command = vec!["no-such-program".to_owned()];
    assert_eq!(exec(&request).unwrap(), Exit::Code(127));
    request.command = ["sh", "-c", "test -t 0 && tty >/dev/null"].map(str::to_owned).to_vec();
    request.terminal = true;
    assert_eq!(exec(&request).unwrap(), Exit::Code(0));
    stop(running);
}

fn exec_killed() {
    let running = start_idle();
    let mut command = helper_command("exec");
    command.env("PID", running.pid().to_string()).stdout(Stdio::piped());
    let mut client = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(client.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let inner = line.split(' ').next().unwrap().to_owned();
    let alive = format!("kill -0 {inner} 2>/dev/null");
    assert_eq!(exec(&exec_request(running.pid(), &alive)).unwrap(), Exit::Code(0));
    client.kill().unwrap();
    client.wait().unwrap();
    wait_until("the end of the command", || {
        exec(&exec_request(running.pid(), &alive)).unwrap() != Exit::Code(0)
    });
    stop(running);
}

fn exec_gone() {
    let running = start_idle();
    let pid = running.pid();
    stop(running);
    assert_eq!(exec(&exec_request(pid, "true")).unwrap_err(), SpawnError::Gone);
}

fn detached() {
    // The output ends with the foreground process, though the background one lives on.
    let (code, text) = text_of(helper_command("detach"));
    assert_eq!(code, 0);
    let pid = Pid::from_raw(text.trim_end().parse().unwrap());
    let pidfd = process::open_pidfd(pid).unwrap();
    assert_eq!(exec(&exec_request(pid, "exit 6")).unwrap(), Exit::Code(6));
    process::send_signal(pidfd.as_fd(), Signal::SIGTERM).unwrap();
    assert!(readable_within(&pidfd, PATIENCE));
}

/// A helper with `outer` as its controlling terminal.
fn helper_on_terminal(name: &str, slave: &OwnedFd) -> std::process::Child {
    let mut command = Command::new("setsid");
    command.args(["-c", "-w"]).arg(std::env::current_exe().unwrap()).args(["--helper", name]);
    let end = || Stdio::from(slave.try_clone().unwrap());
    command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap()
}

fn read_until(master: &mut File, seen: &mut String, what: &str) {
    let start = Instant::now();
    while !seen.contains(what) {
        assert!(start.elapsed() < PATIENCE, "{what:?} did not come: {seen:?}");
        if readable_within(master, Duration::from_millis(100)) {
            let mut buffer = [0; 4096];
            let n = master.read(&mut buffer).unwrap();
            seen.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
        }
    }
}

fn terminal_session() {
    let size = |rows, columns| libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let outer = nix::pty::openpty(&size(33, 101), None).unwrap();
    let before = tcgetattr(&outer.slave).unwrap();
    assert!(before.local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO));
    let mut client = helper_on_terminal("terminal", &outer.slave);
    let mut master = File::from(outer.master.try_clone().unwrap());
    let mut seen = String::new();
    read_until(&mut master, &mut seen, "33 101\r\n/dev/pts/");
    let during = tcgetattr(&outer.slave).unwrap();
    assert!(!during.local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG));
    master.write_all(b"hello\r").unwrap();
    read_until(&mut master, &mut seen, "got:hello");
    terminal::set_window_size(outer.master.as_fd(), &size(50, 120)).unwrap();
    read_until(&mut master, &mut seen, "50 120");
    master.write_all(b"\r").unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(3));
    let after = tcgetattr(&outer.slave).unwrap();
    assert_eq!(after.local_flags, before.local_flags);
    assert_eq!(after.output_flags, before.output_flags);
}

fn terminal_log() {
    let (code, text) =
        output_of(Spec { terminal: true, ..shell("test -t 0 && test -t 1 && echo $TERM; exit 4") });
    assert_eq!(code, 4);
    assert!(text.ends_with("\r\n"), "{text:?}");
}

fn terminal_backpressure() {
    let mut command = helper_command("flood");
    let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = client.stdin.take().unwrap();
    let mut stdout = BufReader::new(client.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    // More input than any buffer holds, while the command writes more output than any buffer
    // holds and does not read: both sides must flow.
    let writer = std::thread::spawn(move || {
        stdin.write_all(&[b'y'; 100_000]).unwrap();
        stdin
    });
    let mut output = String::new();
    stdout.read_to_string(&mut output).unwrap();
    drop(writer.join().unwrap());
    assert_eq!(client.wait().unwrap().code(), Some(0));
    assert_eq!(output.bytes().filter(|&byte| byte == b'x').count(), 300_000);
    assert!(output.trim_end().ends_with("100000"));
}

/// As in a Docker container: parts of /proc and /sys are covered, so that no fresh ones are granted.
fn sandbox_views() {
    let script = "mount --bind /dev/null /proc/version; mount -t tmpfs none /sys/kernel; exec \"$@\"";
    let (code, text) = text_of(helper_under(&["-m"], script, "sandbox"));
    let expected = "this sandbox refuses a fresh /proc: process ids inside are the host's\n\
                    this sandbox refuses a fresh /sys: /sys/class/net inside is the host's\n\
                    1\nro\n/tmp\n";
    assert_eq!((code, text.as_str()), (0, expected));
}

fn no_user_namespaces() {
    // In a user namespace of its own whose limit is 0 the helper is root there.
    let unshare = ["-U", "-r", "-m", "-n"];
    let unshare = if geteuid().is_root() { &unshare[..] } else { &unshare[2..] };
    let off = "echo 0 >/proc/sys/user/max_user_namespaces";
    let with = helper_under(unshare, &format!("{off}; exec \"$@\""), "ip_forward");
    assert_eq!(text_of(with), (0, "1\n".to_owned()));
    let drop = "setpriv --bounding-set=-all --inh-caps=-all";
    let without = helper_under(unshare, &format!("{off}; exec {drop} \"$@\""), "ip_forward");
    let expected = "cannot create the container's namespaces: No space left on device; \
                    sudo sysctl -w user.max_user_namespaces=15000\n";
    assert_eq!(text_of(without), (125, expected.to_owned()));
    let report = helper_under(unshare, &format!("{off}; exec {drop} \"$@\""), "preflight");
    let (code, text) = text_of(report);
    assert_eq!(code, 1);
    assert!(text.contains("mend: sudo sysctl -w user.max_user_namespaces=15000"), "{text}");
}

fn preflight_passes() {
    let report = preflight::run(&std::env::temp_dir().join("tapswitch-test"));
    assert_eq!(report.exit_code(), 0, "\n{report}");
    for check in ["user_namespaces", "tap", "tun_device", "runtime_directory"] {
        let found = report.0.iter().find(|found| found.check == check);
        assert!(found.is_some_and(|found| found.state == preflight::State::Ok), "\n{report}");
    }
}

fn files_keep_owners() {
    let (_, text) = output_of(shell("stat -c %u /etc/passwd; cat /proc/self/uid_map"));
    let mut words = text.split_ascii_whitespace();
    assert_eq!(words.next(), Some("0"));
    let host = fs::read_to_string("/proc/self/uid_map").unwrap();
    assert_eq!(words.next_back(), host.split_ascii_whitespace().next_back());
    let file = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
    let script = format!("chown 1234:1234 {}", file.path().display());
    assert_eq!(output_of(shell(&script)), (0, String::new()));
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&file.as_file().metadata().unwrap()), 1234);
}

fn nursery() {
    let running = start_idle();
    let target = Target::Pid(running.pid().as_raw());
    let nursery = netns::open_nursery(&target, 1, true).unwrap();
    assert_ne!(nursery.target_identity, nursery.descriptors.identity);
    assert_ne!(nursery.target_identity, Identity::current().unwrap());
    let tun = nursery.descriptors.tuns[0].as_fd();
    namespace::try_tap(tun, "eth0").unwrap();
    set_link(&nursery.descriptors.netlink, 2, false, Some(&nursery.target));
    assert_eq!(exec(&exec_request(running.pid(), "test -e /sys/class/net/eth0")).unwrap(), Exit::Code(0));
    set_link(&nursery.target_netlink, 2, true, None);
    drop((nursery.target, nursery.target_netlink));
    stop(running);
    // Nothing keeps the target now: its end is seen on the TAP.
    wait_until("POLLERR", || {
        let mut fds = [PollFd::new(tun, PollFlags::empty())];
        poll(&mut fds, PollTimeout::ZERO).unwrap();
        fds[0].revents().unwrap().contains(PollFlags::POLLERR)
    });
}

/// A directory that another user can reach, with this binary in it.
fn dir_with_self() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    fs::copy(std::env::current_exe().unwrap(), dir.path().join("container")).unwrap();
    dir
}

fn exec_as_root() {
    let dir = dir_with_self();
    let script = "cd \"$1\"; PIDFILE=$1/pid exec setpriv --reuid 65534 --regid 65534 --clear-groups ./container --helper sleep";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(dir.path()).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut client = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(client.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let pid: i32 = fs::read_to_string(dir.path().join("pid")).unwrap().parse().unwrap();
    let made = tempfile::tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(made.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let script = format!("test $(id -u):$(id -G) = 0:0 && : >{}/file", made.path().display());
    assert_eq!(exec(&exec_request(Pid::from_raw(pid), &script)).unwrap(), Exit::Code(0));
    let file = fs::metadata(made.path().join("file")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&file), 65534);
    client.kill().unwrap();
    client.wait().unwrap();
}

fn tun_refused() {
    let dir = dir_with_self();
    let script = "cd \"$1\"; mknod tun c 10 200; chmod 0600 tun; mount --bind tun /dev/net/tun; \
                  exec setpriv --reuid 65534 --regid 65534 --clear-groups ./container --helper tap";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]).arg(dir.path());
    let expected = "cannot open /dev/net/tun: Permission denied; sudo chmod 0666 /dev/net/tun\n";
    assert_eq!(text_of(command), (125, expected.to_owned()));
}

fn subordinate_ids() {
    let (_, text) = output_of(shell(
        "cat /proc/self/uid_map /proc/self/gid_map; cat /proc/sys/net/ipv4/ping_group_range",
    ));
    let words: Vec<_> = text.split_ascii_whitespace().collect();
    let map = ["0", "65534", "1", "1", "200000", "1000"];
    assert_eq!(words, [&map[..], &map[..], &["0", "1000"]].concat());
    let as_other = output_of(shell("setpriv --reuid 5 --regid 5 --clear-groups id -u"));
    assert_eq!(as_other, (0, "5\n".to_owned()));
}
