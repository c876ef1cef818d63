//! The README's commands, and the examples of every `--help`, do what they say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const BINARY: &str = env!("CARGO_BIN_EXE_tapswitch");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The bodies of the README's blocks in a language.
fn blocks(language: &str) -> Vec<String> {
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let fence = format!("```{language}\n");
    let bodies = readme.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    bodies.collect()
}

/// A place where `tapswitch` is on the search path, with a daemon of its own that ends with it.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("tapswitch-readme-").tempdir().unwrap();
        fs::create_dir(directory.path().join("bin")).unwrap();
        symlink(BINARY, directory.path().join("bin/tapswitch")).unwrap();
        Self(directory)
    }

    fn command(&self, line: &str) -> Command {
        let here = self.0.path();
        let mut command = Command::new("timeout");
        command.args(["--foreground", "-s", "KILL", "60", "sh", "-c", line]).stdin(Stdio::null());
        command.env_clear().env("HOME", here).env("PATH", format!("{}/bin:{USUAL_PATH}", here.display()));
        command.env("TAPSWITCH_SOCKET", here.join("run/control.sock")).current_dir(here);
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    #[track_caller]
    fn succeeds(&self, line: &str) -> String {
        let output = self.run(line);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{line}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let down = self.run("tapswitch down --all");
        assert!(down.status.success() || std::thread::panicking(), "{down:?}");
    }
}

/// Says on the real standard error what was not tested.
fn skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIP: readme: {why}");
}

/// Whether containers can run here.
fn is_able(scratch: &Scratch) -> bool {
    let able = scratch.run("tapswitch preflight").status.code() == Some(0);
    if !able {
        skip("containers cannot run here: tapswitch preflight");
    }
    able
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "did not come: {what}");
        poll(&mut [], PollTimeout::from(20u8)).unwrap();
    }
}

/// One line of a `sh` block, as a newcomer would type it.
fn follow(scratch: &Scratch, line: &str) {
    let (command, comment) = line.split_once(" #").unwrap_or((line, ""));
    for command in command.split("&&").map(str::trim) {
        if let Some(words) = command.strip_prefix("cargo run --release -- ") {
            assert_eq!(words, "up");
            up_until_interrupted(scratch);
        } else if command == "cargo install --path ." || command == "tools/check" {
            // What we are part of is not run again; `tapswitch` is on the search path already.
            let file = Path::new(ROOT).join(if command == "tools/check" { command } else { "Cargo.toml" });
            let mode = fs::metadata(&file).unwrap().permissions().mode();
            assert!(command != "tools/check" || mode & 0o111 != 0, "{command}");
        } else {
            assert!(command.starts_with("tapswitch "), "what is this? {command}");
            let output = scratch.run(command);
            let fails = comment.contains("no way there");
            assert_eq!(output.status.success(), !fails, "{command}: {output:?}");
        }
    }
}

/// `tapswitch up`, ended by Ctrl-C as soon as it says so.
fn up_until_interrupted(scratch: &Scratch) {
    let mut up = scratch.command("exec tapswitch up").stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(up.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line == "Ctrl-C takes it down."));
    assert_eq!(scratch.succeeds("tapswitch ps -q").lines().count(), 5);
    // `timeout` hands it on.
    kill(Pid::from_raw(up.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert!(up.wait().unwrap().success());
    // A daemon that came with the lab goes once the last of its supervisors has hung up.
    until("the daemon's end", || scratch.run("tapswitch ps").status.code() == Some(1));
}

#[test]
fn every_command_can_be_typed() {
    let scratch = Scratch::new();
    if !is_able(&scratch) {
        return;
    }
    let blocks = blocks("sh");
    let lines: Vec<&str> =
        blocks.iter().flat_map(|block| block.lines()).filter(|line| !line.is_empty()).collect();
    assert!(lines.len() >= 12, "{lines:?}");
    assert_eq!(lines.iter().filter(|line| line.contains("no way there")).count(), 2);
    lines.into_iter().for_each(|line| follow(&scratch, line));
}

#[test]
fn the_lab_comes_up_and_serves() {
    let scratch = Scratch::new();
    if !is_able(&scratch) {
        return;
    }
    let [toml] = &blocks("toml")[..] else { panic!("one lab") };
    let has_python = scratch.run("python3 --version").status.success();
    let toml = if has_python {
        toml.clone()
    } else {
        skip("python3 is not installed: nobody serves at port 80");
        toml.replace("python3 -m http.server 80", "sleep 1000")
    };
    fs::write(scratch.0.path().join("lab.toml"), toml).unwrap();
    scratch.succeeds("tapswitch up -d lab.toml");
    scratch.succeeds("tapswitch exec router ping -c1 172.19.0.80");
    scratch.succeeds("tapswitch exec router ping -6 -c1 www");
    let forwards = scratch.succeeds("tapswitch exec router cat /proc/sys/net/ipv4/ip_forward");
    assert_eq!(forwards, "1\n");
    assert_eq!(scratch.succeeds("tapswitch exec router cat /sys/class/net/eth1/mtu"), "9000\n");
    if has_python {
        let ask = "tapswitch exec router python3 -c 'import urllib.request as u; print(u.urlopen(\"http://www/\").status)'";
        until("the web server", || scratch.run(ask).stdout == b"200\n");
    }
    scratch.succeeds("tapswitch down lab");
    until("the end of its daemon, too", || scratch.run("tapswitch ps").status.code() == Some(1));
}

#[test]
fn the_daemons_file_is_taken() {
    let scratch = Scratch::new();
    let [json] = &blocks("json")[..] else { panic!("one file") };
    fs::write(scratch.0.path().join("daemon.json"), json).unwrap();
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let command = "tapswitch daemon -d --config daemon.json";
    assert!(readme.contains(command));
    scratch.succeeds(command);
    assert!(scratch.succeeds("tapswitch network inspect bridge").contains("\"172.26.0.1\""));
}

/// The commands that a help text lists, and those under them.
fn commands(scratch: &Scratch, above: &str) -> Vec<String> {
    let help = scratch.succeeds(&format!("tapswitch {above} --help"));
    let listed = help.split_once("\nCommands:\n").map_or("", |(_, rest)| rest.split("\n\n").next().unwrap());
    let names =
        listed.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    let names = names.map(|line| line.split(' ').next().unwrap()).filter(|name| *name != "help");
    let mut all = vec![above.to_owned()];
    for name in names {
        all.extend(commands(scratch, format!("{above} {name}").trim()));
    }
    all
}

/// The calls of tapswitch in a line of examples, without what they are good for.
fn calls(line: &str) -> impl Iterator<Item = &str> {
    let line = line.trim_start().split("  ").next().unwrap();
    let parts = line.split(" | ").flat_map(|part| part.split(" & ")).flat_map(|part| part.split(" && "));
    parts.map(|part| part.trim_start_matches("sudo ")).filter(|part| part.starts_with("tapswitch "))
}

#[test]
fn the_examples_of_every_help_are_understood() {
    let scratch = Scratch::new();
    let all = commands(&scratch, "");
    assert!(all.len() > 30, "{all:?}");
    let mut count = 0;
    for command in all {
        let help = scratch.succeeds(&format!("tapswitch {command} --help"));
        let examples =
            help.split_once("\nEXAMPLES\n").map_or("", |(_, rest)| rest.split("\n\n").next().unwrap());
        for call in examples.lines().flat_map(calls) {
            // Where no socket can be, so that nothing comes of it.
            let call = call.replace("/tmp/second", "/dev/null/second").replace("$!", "1");
            let output = scratch.run(&format!("TAPSWITCH_SOCKET=/dev/null/x {call}"));
            let code = output.status.code();
            assert!(matches!(code, Some(0 | 1 | 125)), "{call}: {output:?}");
            count += 1;
        }
    }
    assert!(count >= 25, "{count} examples");
}
