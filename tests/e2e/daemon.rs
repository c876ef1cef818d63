//! The daemon itself: who may ask it, what it bears, and what remains when it is killed.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use crate::harness::{Lab, is_alive, skip, text, until};

scenarios! {
    a_killed_daemon_leaves_nothing
    the_next_daemon_cleans_up
    a_second_daemon_is_refused
    strangers_are_kept_out
    any_bytes_are_borne
    clients_that_die_are_borne
    a_foreground_daemon_ends_by_signal
    status_ends_quietly_when_nobody_reads
}

fn inits(lab: &Lab) -> Vec<Pid> {
    let pid = |row: &serde_json::Value| Pid::from_raw(i32::try_from(row["pid"].as_i64().unwrap()).unwrap());
    lab.json("ps").iter().map(pid).collect()
}

fn a_killed_daemon_leaves_nothing(lab: &Lab) {
    lab.ok("up -d");
    let foreign = lab.foreign();
    lab.ok(&format!("plug box --network net1 --pid {}", foreign.pid()));
    let devices = || fs::read_to_string(format!("/proc/{}/net/dev", foreign.pid())).unwrap();
    assert!(devices().contains("eth0:"));
    let containers: Vec<Pid> = inits(lab).into_iter().filter(|pid| *pid != foreign.pid()).collect();
    assert_eq!(containers.len(), 5);
    kill(lab.daemon_pid(), Signal::SIGKILL).unwrap();
    until("the interface to go", || !devices().contains("eth0:"));
    until("the containers to end", || !containers.iter().any(|pid| is_alive(*pid)));
    assert!(is_alive(foreign.pid()), "what is not ours goes on");
    lab.ok("up -d");
    assert_eq!(lab.json("ps -a").len(), 5);
    assert!(lab.pings("alice", "bob"));
}

fn the_next_daemon_cleans_up(lab: &Lab) {
    lab.daemon("--state none");
    lab.idle("box", "bridge");
    let (daemon, init) = (lab.daemon_pid(), inits(lab)[0]);
    let supervisors: Vec<Pid> =
        lab.processes().into_iter().filter(|pid| *pid != daemon && *pid != init).collect();
    assert_eq!(supervisors.len(), 1);
    // A supervisor that sleeps cannot see to its container.
    kill(supervisors[0], Signal::SIGSTOP).unwrap();
    kill(daemon, Signal::SIGKILL).unwrap();
    until("the daemon's end", || !is_alive(daemon));
    assert!(is_alive(init) && lab.socket().exists());
    lab.daemon("--state none");
    until("the stale container's end", || !is_alive(init));
    assert!(lab.json("ps -a").is_empty());
    assert_eq!(fs::read_dir(lab.socket().with_extension("d")).map_or(0, Iterator::count), 0);
    kill(supervisors[0], Signal::SIGCONT).unwrap();
    until("the supervisor's end", || !is_alive(supervisors[0]));
    lab.ok("status");
}

fn a_second_daemon_is_refused(lab: &Lab) {
    lab.daemon("");
    let said = lab.refused("daemon");
    assert!(said.contains(&format!("another daemon (pid {}) serves", lab.daemon_pid())), "{said}");
    assert_eq!(lab.refused("daemon -d"), said);
    assert!(lab.ok("status").contains("super-frames"));
    let second = lab.path().join("second/control.sock");
    lab.ok(&format!("--socket {} daemon -d --no-offload", second.display()));
    assert!(lab.ok(&format!("--socket {} status", second.display())).contains("plain frames"));
    lab.ok(&format!("--socket {} down --all", second.display()));
    assert!(
        lab.refused(&format!("--socket /tmp/{} daemon", "long/".repeat(30))).contains("choose a shorter one")
    );
    let shared = lab.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(
        lab.refused(&format!("--socket {}/s.sock daemon", shared.display())).contains("changed by others")
    );
}

fn strangers_are_kept_out(lab: &Lab) {
    lab.daemon("");
    let metadata = fs::metadata(lab.socket()).unwrap();
    assert_eq!(metadata.mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(lab.socket().parent().unwrap()).unwrap().mode() & 0o777, 0o700);
    if !geteuid().is_root() {
        return skip("it takes root to be a stranger");
    }
    let program = lab.path().join("stranger");
    // By a process of its own: a file that another thread's fork still holds for writing cannot be executed.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_tapswitch")).arg(&program).status().unwrap();
    assert!(copied.success());
    let ask = |uid: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", uid, "--regid", uid, "--clear-groups"]).arg(&program);
        command.arg("--socket").arg(lab.socket()).arg("status").output().unwrap()
    };
    let stranger = ask("65533");
    assert_eq!(stranger.status.code(), Some(1));
    assert!(text(&stranger.stderr).contains("cannot reach the daemon"), "{}", text(&stranger.stderr));
    assert!(ask("0").status.success());
    // Even one whom the file's mode lets through is asked who he is.
    let directory = lab.socket().parent().unwrap();
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(lab.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(ask("65533").status.code(), Some(1));
    assert!(ask("0").status.success());
}

/// Sends bytes to the daemon and returns what it answers before it closes, or within a second.
fn say(lab: &Lab, bytes: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(lab.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    // It may close before it has read all.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

fn message(json: &str) -> Vec<u8> {
    let head = u32::try_from(json.len()).unwrap().to_be_bytes();
    [&head, json.as_bytes()].concat()
}

fn any_bytes_are_borne(lab: &Lab) {
    lab.daemon("");
    lab.idle("box", "bridge");
    let pid = lab.daemon_pid();
    let table = [
        (message("{}"), "this is not a request"),
        (message("[1, 2"), "this is not a request"),
        (message(r#"{"version":999,"op":"status"}"#), "version 999"),
        (message(r#"{"version":1,"op":"fly"}"#), "fly"),
        (
            message(r#"{"version":1,"op":"connect","container":"box","endpoint":{"network":"bridge"}}"#),
            "descriptor",
        ),
        (
            message(
                r#"{"version":1,"op":"plug","name":"x","endpoint":{"network":"bridge"},"pid":1,"nursery":false,"configure":true}"#,
            ),
            "descriptor",
        ),
        (message(&format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000))), "this is not a request"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "is this a tapswitch client?"),
        (vec![0x7f; 100], "is this a tapswitch client?"),
    ];
    for (bytes, part) in table {
        let answer = text(&say(lab, &bytes));
        assert!(answer.contains("error") && answer.contains(part), "{part}: {answer}");
    }
    // An endless message of chunks that are each short enough.
    let chunk = [&(0x8000_ffff_u32).to_be_bytes()[..], &[b' '; 0xffff]].concat();
    assert!(text(&say(lab, &chunk.repeat(20))).contains("is this a tapswitch client?"));
    let mut random = fs::File::open("/dev/urandom").unwrap();
    for len in 1..100usize {
        let mut bytes = vec![0; len * 7];
        random.read_exact(&mut bytes).unwrap();
        bytes[0] &= 0x80; // or nearly all would be refused for their length
        bytes[1] = 0;
        say(lab, &bytes);
    }
    assert_eq!(lab.daemon_pid(), pid);
    assert_eq!(lab.json("show ports").len(), 1);
}

fn clients_that_die_are_borne(lab: &Lab) {
    lab.daemon("");
    for json in [
        r#"{"version":1,"op":"status"}"#,
        r#"{"version":1,"op":"container_create","spec":{},"auto_remove":true}"#,
    ] {
        let whole = message(json);
        for len in 0..whole.len() {
            UnixStream::connect(lab.socket()).unwrap().write_all(&whole[..len]).unwrap();
        }
    }
    assert!(lab.json("ps -a").is_empty());
    // A client that asks much and reads nothing gets in nobody's way.
    let mut deaf = UnixStream::connect(lab.socket()).unwrap();
    for _ in 0..1000 {
        deaf.write_all(&message(r#"{"version":1,"op":"network_inspect","names":["bridge"]}"#)).unwrap();
    }
    assert_eq!(lab.json("network ls").len(), 3);
    // One that reserves a container and dies before it starts.
    let spec = r#"{"version":1,"op":"container_create","spec":{"name":"never","networks":[{"network":"bridge"}]},"auto_remove":true}"#;
    assert!(text(&say(lab, &message(spec))).contains("ok"));
    until("the reservation to end with its client", || lab.json("ps -a").is_empty());
}

fn a_foreground_daemon_ends_by_signal(lab: &Lab) {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut command = lab.tapswitch(&["daemon", "--state", "none"]);
        command.stderr(Stdio::null());
        let mut daemon = lab.start(command);
        until("the socket", || lab.ts("status").status.success());
        lab.idle("box", "bridge");
        let init = inits(lab)[0];
        daemon.signal(signal);
        assert_eq!(daemon.code(), Some(0));
        assert!(!lab.socket().exists());
        until("the container's end", || !is_alive(init));
    }
}

fn status_ends_quietly_when_nobody_reads(lab: &Lab) {
    lab.daemon("");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = lab.tapswitch(&["status"]).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let output = output.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
}
