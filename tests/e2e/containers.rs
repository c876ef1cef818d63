//! `run`, `exec`, `ps`, `inspect`, `stop`, `start`, `rm`, `logs`, `wait`: containers of our own.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Output, Stdio};

use nix::sys::signal::Signal;

use crate::harness::{Lab, Process, is_alive, succeeded, text, until};

scenarios! {
    started_once_more_it_has_its_terminal_and_input
    run_needs_no_daemon
    exit_codes_are_the_commands
    signals_reach_the_command
    a_killed_client_takes_its_container_along
    detached
    the_log_is_followed_to_the_end
    a_log_keeps_what_is_newest
    a_start_that_fails_keeps_the_container
    stop_waits_and_then_kills
    what_is_asked_for_is_found_inside
    standard_input_is_handed_on
    a_terminal_has_its_size
    exec_runs_beside_the_command
    names_and_ids
    what_ends_gives_everything_back
    many_come_and_go_at_once
}

fn run_needs_no_daemon(lab: &Lab) {
    let said =
        succeeded("run", &lab.words(&["run", "sh", "-c", "cat /sys/class/net/eth0/address; hostname"]));
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("02:42:ac:") && lines[1].len() == 12, "{said}");
    until("the end of the daemon that it started", || lab.processes().is_empty());
    assert!(!lab.socket().exists());
}

fn exit_codes_are_the_commands(lab: &Lab) {
    lab.daemon("");
    let table: &[(&[&str], i32)] = &[
        (&["run", "true"], 0),
        (&["run", "--", "sh", "-c", "exit 3"], 3),
        (&["run", "sh", "-c", "kill -TERM $$"], 143),
        (&["run", "sh", "-c", "kill -KILL $$"], 137),
        (&["run", "-w", "/usr", "sh", "-c", "[ $PWD = /usr ]"], 0),
        (&["run", "/etc/passwd"], 126),
        (&["run", "-w", "/nowhere", "true"], 126),
        (&["run", "no-such-program"], 127),
        (&["run", "--network", "nowhere", "true"], 125),
        (&["run", "--no-such-flag", "true"], 2),
    ];
    for (words, code) in table {
        let output = lab.words(words);
        assert_eq!(output.status.code(), Some(*code), "{words:?}: {}", text(&output.stderr));
    }
    let output = lab.ts("run --rm -e PATH=/nowhere ping -c1 127.0.0.1");
    assert_eq!(output.status.code(), Some(127));
    assert_eq!(text(&output.stderr).matches("apt-get install -y iputils-ping").count(), 1);
}

/// A container in the foreground that has said `ready`.
fn run_until_ready(lab: &Lab, words: &[&str]) -> Process {
    let mut command = lab.tapswitch(&[&["run"], words].concat());
    command.stdout(Stdio::piped());
    let mut run = lab.start(command);
    let mut line = String::new();
    BufReader::new(run.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    run
}

fn signals_reach_the_command(lab: &Lab) {
    for (signal, code) in [(Signal::SIGTERM, 7), (Signal::SIGINT, 8), (Signal::SIGHUP, 9)] {
        let script = "trap 'exit 7' TERM; trap 'exit 8' INT; trap 'exit 9' HUP; echo ready; \
                      while :; do sleep 0.02; done";
        let mut run = run_until_ready(lab, &["sh", "-c", script]);
        run.signal(signal);
        assert_eq!(run.code(), Some(code));
    }
}

fn a_killed_client_takes_its_container_along(lab: &Lab) {
    lab.daemon("");
    let run = run_until_ready(lab, &["--name", "one", "sh", "-c", "echo ready; exec sleep 1000"]);
    let init = pid_of(lab, "one");
    run.signal(Signal::SIGKILL);
    until("the end of the container", || !is_alive(init));
    until("its port to go", || lab.json("show ports").is_empty());
    assert_eq!(lab.row("ps -a", "name", "one")["state"], "lost");
    assert!(lab.refused("wait one").starts_with("nobody saw how"));
}

fn pid_of(lab: &Lab, name: &str) -> nix::unistd::Pid {
    let pid = lab.row("ps", "name", name)["pid"].as_i64().unwrap();
    nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap())
}

fn detached(lab: &Lab) {
    lab.daemon("");
    let script = "echo out; echo err >&2; exit 4";
    let id = succeeded("run -d", &lab.words(&["run", "-d", "--name", "job", "sh", "-c", script]));
    assert!(id.trim_end().len() == 64 && id.trim_end().bytes().all(|c| c.is_ascii_hexdigit()), "{id}");
    assert_eq!(lab.ok("wait job"), "4\n");
    assert_eq!(lab.ok("logs job"), "out\nerr\n");
    let row = lab.row("ps -a", "name", "job");
    assert_eq!((&row["state"], &row["pid"], &row["addresses"]), (&"exited".into(), &0.into(), &"".into()));
    assert!(row["status"].as_str().unwrap().starts_with("Exited (4) "), "{row}");
    assert!(lab.json("ps").is_empty());
    assert_eq!(lab.ok("start job"), "job\n");
    assert_eq!(lab.ok("wait job"), "4\n");
    assert_eq!(lab.ok("logs job"), "out\nerr\nout\nerr\n");
    assert_eq!(lab.ok("rm job"), "job\n");
    assert!(lab.json("ps -a").is_empty());
    lab.ok("run -d --rm --name brief true");
    until("--rm", || lab.json("ps -a").is_empty());
    for line in ["wait", "logs", "stop", "start", "rm", "inspect", "unplug"] {
        assert!(lab.refused(&format!("{line} brief")).contains(": brief"), "{line}");
    }
}

fn a_log_keeps_what_is_newest(lab: &Lab) {
    lab.daemon("");
    for (option, part) in [("max-size=moon", "max-size=4m"), ("compress=true", "max-size is")] {
        let output = lab.ts(&format!("run -d --log-opt {option} true"));
        assert_eq!(output.status.code(), Some(125));
        assert!(text(&output.stderr).contains(part), "{}", text(&output.stderr));
    }
    for terminal in ["-d", "-dt"] {
        let words = ["run", terminal, "--name", "loud", "--log-opt", "max-size=8k", "sh", "-c"];
        succeeded("run", &lab.words(&[&words[..], &["seq 20000; exec sleep 1000"]].concat()));
        let newest = || lab.ok("logs loud").replace('\r', "");
        until("the last line", || newest().ends_with("\n20000\n"));
        let lines: Vec<u32> = newest().lines().skip(1).map(|line| line.parse().unwrap()).collect();
        assert!(lines.windows(2).all(|pair| pair[0] + 1 == pair[1]), "without a gap");
        let directory = lab
            .socket()
            .with_extension("d")
            .join(&lab.row("ps", "name", "loud")["id"].as_str().unwrap()[..12]);
        let size = |name| fs::metadata(directory.join(name)).unwrap().len();
        assert!(size("log") <= 8192 && (4096..=8192).contains(&size("log.1")));
        lab.ok("rm -f loud");
    }
}

fn a_start_that_fails_keeps_the_container(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create --subnet 10.1.0.0/24 net1");
    let work = "/usr/share".to_owned();
    let flags = ["run", "-dt", "--name", "web", "--no-offload", "-w", &work, "--network", "net1:ip=10.1.0.9"];
    let script = "pwd; tty; cat /sys/class/net/eth0/tun_flags; exec sleep 1000";
    succeeded("run", &lab.words(&[&flags[..], &["sh", "-c", script]].concat()));
    let inside = || lab.ok("logs web").replace('\r', "");
    // Where it starts, its terminal, and the flags of its TAP, of each time that it ran.
    let runs = || {
        let lines: Vec<String> = inside().lines().map(str::to_owned).collect();
        let starts = lines.iter().enumerate().filter(|(_, line)| **line == work).map(|(at, _)| at);
        starts
            .filter_map(|at| Some((lines.get(at + 1)?.clone(), lines.get(at + 2)?.clone())))
            .collect::<Vec<_>>()
    };
    until("its words", || runs().len() == 1);
    let (terminal, plain) = runs().remove(0);
    assert!(terminal.starts_with("/dev/pts/"), "{terminal}");
    lab.idle("usual", "net1");
    assert_ne!(lab.inside("usual", "cat /sys/class/net/eth0/tun_flags").trim(), plain);
    lab.ok("stop -t 0 web");
    let before = lab.row("ps -a", "name", "web");
    assert_eq!(before["state"], "exited");
    // Somebody else has its address now.
    lab.ok("run -d --name other --network net1:ip=10.1.0.9");
    assert!(lab.refused("start web").contains("10.1.0.9 on network 'net1' is in use"));
    let same = |row: &serde_json::Value| ["id", "name", "state", "addresses"].map(|key| row[key].clone());
    assert_eq!(same(&lab.row("ps -a", "name", "web")), same(&before));
    lab.ok("rm -f other");
    lab.idle("new", "net1");
    lab.ok("start web");
    until("its words", || runs().len() == 2);
    assert!(runs()[1].0.starts_with("/dev/pts/") && runs()[1].1 == plain, "{}", inside());
    let row = lab.row("ps", "name", "web");
    assert_eq!((&row["id"], &row["addresses"]), (&before["id"], &"10.1.0.9".into()));
    assert!(lab.pings("new", "web"));
}

fn the_log_is_followed_to_the_end(lab: &Lab) {
    lab.daemon("");
    let script = "echo one; read word </tmp/gate; echo $word; exit 0";
    let words = ["run", "-d", "--name", "job", "sh", "-c", &format!("mkfifo /tmp/gate; {script}")];
    succeeded("run", &lab.words(&words));
    let mut command = lab.tapswitch(&["logs", "-f", "job"]);
    command.stdout(Stdio::piped());
    let mut follow = lab.start(command);
    let mut lines = BufReader::new(follow.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "one");
    // The container ends as soon as it has read, and takes this along if that is not gone yet.
    lab.sh("job", "echo two >/tmp/gate");
    assert_eq!(lines.collect::<Vec<_>>(), ["two"]);
    assert_eq!(follow.code(), Some(0));
    let run = run_until_ready(lab, &["--name", "loud", "sh", "-c", "echo ready; exec sleep 1000"]);
    assert!(lab.refused("logs loud").starts_with("container 'loud' keeps no log"));
    drop(run);
}

fn stop_waits_and_then_kills(lab: &Lab) {
    lab.daemon("");
    lab.ok("run -d --name idle");
    assert_eq!(lab.ok("stop idle"), "idle\n");
    assert_eq!(lab.ok("stop idle"), "idle\n", "one that has ended is stopped already");
    assert_eq!(lab.row("ps -a", "name", "idle")["state"], "exited");
    assert_eq!(lab.ok("start idle"), "idle\n");
    assert_eq!(lab.ok("start idle"), "idle\n", "one that runs stays as it is");
    assert!(lab.refused("rm idle").contains("is running"));
    let mut wait = lab.tapswitch(&["wait", "idle"]);
    wait.stderr(Stdio::null());
    let mut wait = lab.start(wait);
    assert_eq!(lab.ok("rm -f idle"), "idle\n");
    assert_eq!(wait.code(), Some(1), "nobody saw how it ended");
    let deaf = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
    succeeded("run", &lab.words(&["run", "-d", "--name", "deaf", "sh", "-c", deaf]));
    until("a trap", || lab.ok("logs deaf") == "ready\n");
    assert_eq!(lab.ok("stop -t 0 deaf"), "deaf\n");
    assert_eq!(lab.ok("wait deaf"), "137\n");
    assert!(lab.refused("stop deaf nobody").contains(": nobody"));
}

fn what_is_asked_for_is_found_inside(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create --subnet 10.7.0.0/24 --subnet fd00:7::/64 one");
    lab.ok("network create --subnet 10.8.0.0/24 two");
    lab.ok("run -d --name box -h fridge -e COLOUR=red -w /usr --sysctl net.ipv4.ip_default_ttl=7 \
         --add-host printer:10.7.0.200 --ip 10.7.0.50 --ip fd00:7::50 --mac-address 02:00:00:00:00:50 \
         --network-alias icebox --network one --net two:ip=10.8.0.60,alias=freezer sleep 1000");
    let script = "hostname; echo $COLOUR; cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/net/ipv4/ip_forward; \
                  cat /sys/class/net/eth0/address; getent ahostsv4 printer | head -1";
    let said = lab.inside("box", script);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(&lines[..5], ["fridge", "red", "7", "1", "02:00:00:00:00:50"]);
    assert!(lines[5].starts_with("10.7.0.200"), "{said}");
    lab.idle("peer", "one");
    for name in ["box", "icebox"] {
        assert!(lab.pings("peer", name), "{name}");
    }
    assert!(!lab.pings("peer", "freezer"), "an alias of another network");
    let get =
        |template: &str| text(&lab.words(&["inspect", "-f", template, "box"]).stdout).trim_end().to_owned();
    assert_eq!(get("{{.NetworkSettings.Networks.two.IPAddress}}"), "10.8.0.60");
    assert_eq!(get("{{.NetworkSettings.Networks.one.GlobalIPv6Address}}"), "fd00:7::50");
    assert_eq!(get("{{.Config.Hostname}} {{.State.Running}}"), "fridge true");
    assert_eq!(get("{{json .Config.Cmd}}"), r#"["sleep","1000"]"#);
    assert!(lab.words(&["inspect", "-f", "{{.No.Such}}", "box"]).status.code() == Some(1));
    let ports = lab.json("show ports");
    let names: Vec<&str> = ports.iter().map(|row| row["port"].as_str().unwrap()).collect();
    assert_eq!(names, ["box:eth0", "box:eth1", "peer"]);
}

fn standard_input_is_handed_on(lab: &Lab) {
    let mut command = lab.tapswitch(&["run", "-i", "cat"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"hello").unwrap();
    assert_eq!(succeeded("cat", &child.wait_with_output().unwrap()), "hello");
}

/// Runs `tapswitch` in a terminal of 33 lines and 77 columns.
fn in_terminal(lab: &Lab, line: &str) -> Output {
    let program = lab.program();
    let script = format!("stty rows 33 cols 77; exec {} {line}", program.display());
    lab.command(&["timeout", "60", "script", "-qec", &script, "/dev/null"]).output().unwrap()
}

fn a_terminal_has_its_size(lab: &Lab) {
    lab.daemon("");
    let output = in_terminal(lab, "run -it --name shell sh -c 'stty size; tty; exit 5'");
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("33 77\r\n") && said.contains("/dev/pts/"), "{said}");
    lab.ok("run -d --name idle");
    let output = in_terminal(lab, "exec -it idle sh -c 'stty size; exit 6'");
    assert_eq!((output.status.code(), text(&output.stdout).contains("33 77\r\n")), (Some(6), true));
    let output = lab.ts("run -it true");
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output.stderr).contains("takes a terminal"));
}

fn exec_runs_beside_the_command(lab: &Lab) {
    lab.daemon("");
    lab.ok("run -d --name box -e BOTH=1 -e MINE=no");
    let said = succeeded(
        "exec",
        &lab.words(&["exec", "-e", "MINE=yes", "-w", "/usr", "box", "sh", "-c", "echo $BOTH $MINE $PWD"]),
    );
    assert_eq!(said, "1 yes /usr\n");
    for (line, code) in [("exec box false", 1), ("exec box /etc/passwd", 126), ("exec box nothing", 127)] {
        assert_eq!(lab.ts(line).status.code(), Some(code), "{line}");
    }
    assert_eq!(lab.sh("box", "kill -9 $$").status.code(), Some(137));
    lab.ok("stop box");
    let output = lab.ts("exec box true");
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output.stderr).contains("'tapswitch start box'"), "{}", text(&output.stderr));
}

fn names_and_ids(lab: &Lab) {
    lab.daemon("");
    let id = lab.ok("run -d --name alice");
    let id = id.trim_end();
    for word in ["alice", id, &id[..12]] {
        assert_eq!(lab.ok(&format!("inspect -f {{{{.Name}}}} {word}")), "/alice\n");
    }
    assert_eq!(lab.ok("ps -q"), format!("{}\n", &id[..12]));
    assert_eq!(lab.ok("ps -q --no-trunc"), format!("{id}\n"));
    lab.ok("run -d");
    let rows = lab.json("ps");
    let made_up = rows.iter().map(|row| row["name"].as_str().unwrap()).find(|name| *name != "alice").unwrap();
    assert!(made_up.contains('_'), "{made_up}");
    let said = |line: &str| text(&lab.ts(line).stderr);
    assert!(said("run --name alice true").contains("The container name \"/alice\" is already in use"));
    assert!(said("run --name a/b true").contains("a/b"));
    assert!(said("run --name any true").contains("means something else"));
    assert!(said("exec alica true").contains("did you mean 'alice'?"));
    assert_eq!(lab.json("ps -a").len(), 2, "what was refused left nothing");
}

fn what_ends_gives_everything_back(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create --subnet 10.7.0.0/24 net");
    lab.idle("alice", "net");
    lab.idle("bob", "net");
    let finds = |name: &str| text(&lab.sh("alice", &format!("getent hosts {name}")).stdout);
    assert!(finds("bob").starts_with("10.7.0.3 "), "{}", finds("bob"));
    let init = pid_of(lab, "bob");
    // It takes the shell that sends it along, sooner or later.
    lab.sh("bob", "kill -TERM 1");
    until("the end of bob", || !is_alive(init));
    until("bob's port to go", || lab.json("show ports").len() == 1);
    assert_eq!(finds("bob"), "");
    assert!(!lab.pings("alice", "10.7.0.3"));
    lab.idle("carol", "net");
    assert_eq!(lab.row("ps", "name", "carol")["addresses"], "10.7.0.3");
    assert!(finds("carol").starts_with("10.7.0.3 "));
    assert!(lab.pings("alice", "carol"));
}

/// Containers that come and go at the same time do not get in each other's way.
fn many_come_and_go_at_once(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create net");
    let start = |_| lab.tapswitch(&["run", "--rm", "--network", "net", "true"]).spawn().unwrap();
    for _ in 0..5 {
        let mut runs: Vec<Process> = (0..8).map(start).map(Process).collect();
        assert!(runs.iter_mut().all(|run| run.code() == Some(0)));
    }
    assert!(lab.json("ps -a").is_empty() && lab.json("show ports").is_empty());
    assert_eq!(lab.row("network ls", "name", "net")["endpoints"], 0);
}

/// Docker's `-it` and `-i` belong to the container: without them its shell would end at once when it is started again.
fn started_once_more_it_has_its_terminal_and_input(lab: &Lab) {
    lab.daemon("");
    let script = "test -t 0; a=$?; timeout --foreground 0.2 cat; echo $a $?";
    for (name, flags, expected) in [("a", "-itd", "0 124"), ("b", "-id", "1 124"), ("c", "-d", "1 0")] {
        succeeded(flags, &lab.words(&["run", flags, "--name", name, "sh", "-c", script]));
        for again in [false, true] {
            if again {
                lab.ok(&format!("start {name}"));
            }
            lab.ok(&format!("wait {name}"));
            let log = lab.ok(&format!("logs {name}"));
            let ends = vec![expected; if again { 2 } else { 1 }];
            assert_eq!(log.lines().map(str::trim_end).collect::<Vec<_>>(), ends, "{flags}, again: {again}");
        }
    }
    succeeded("bash", &lab.words(&["run", "-itd", "--name", "shell", "bash"]));
    lab.ok("restart -t 0 shell");
    assert_eq!(lab.inside("shell", "echo here"), "here\n");
    // A shell with a terminal does not care for SIGTERM.
    lab.ok("rm -f shell");
}
