//! A save, or the noting of a change, that is killed at each of its system calls: what is there afterwards is the
//! old state or the new one, never a third.
//!
//! The test starts itself again as a child that saves while it is traced (ptrace(2)), and kills it with
//! SIGKILL before and after each system call in turn. A traced child must be of one thread, hence
//! `harness = false`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::Path;
use std::process::{Command, ExitCode};

use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use tapswitch::io::state_file::StateFile;

const CHILD: &str = "TAPSWITCH_TEST_SAVES_TO";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(path) = std::env::var_os(CHILD) {
        child(Path::new(&path), &arguments[1], arguments[2].as_bytes());
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|argument| argument == "--list") {
        if !arguments.iter().any(|argument| argument == "--ignored") {
            println!("a_save_that_is_killed_leaves_the_old_or_the_new: test");
            println!("a_note_that_is_killed_is_there_or_not: test");
        }
        return ExitCode::SUCCESS;
    }
    for old in [None, Some("old")] {
        // Longer than what one page or one write takes at once.
        let stops = a_save_that_is_killed_leaves_the_old_or_the_new(old, &"new ".repeat(5_000));
        println!("test a save over {old:?}, killed at each of {stops} stops ... ok");
    }
    let stops = a_note_that_is_killed_is_there_or_not(&"note ".repeat(5_000));
    println!("test a note, killed at each of {stops} stops ... ok");
    ExitCode::SUCCESS
}

/// The child: one save, or one note and the next state's turn, from where its parent traces it.
fn child(path: &Path, what: &str, text: &[u8]) {
    let file = StateFile::lock(path).unwrap();
    let mut journal = file.journal().unwrap();
    ptrace::traceme().unwrap();
    raise(Signal::SIGSTOP).unwrap();
    if what == "save" {
        file.write(text).unwrap();
    } else {
        journal.append(text).unwrap();
        journal.turn().unwrap();
    }
}

/// How many stops there were.
fn a_note_that_is_killed_is_there_or_not(new: &str) -> usize {
    let (mut without, mut with) = (0, 0);
    for stop in 1.. {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        StateFile::lock(&path).unwrap().journal().unwrap().append(b"old").unwrap();
        let killed = kill_at(stop, &path, "note", new);
        let texts = StateFile::lock(&path).unwrap().journal().unwrap().read().unwrap();
        match texts.iter().map(|text| std::str::from_utf8(text).unwrap()).collect::<Vec<_>>().as_slice() {
            ["old"] => without += 1,
            ["old", text] if *text == new => with += 1,
            other => panic!("a third state after stop {stop}: {} records", other.len()),
        }
        if !killed {
            break;
        }
    }
    assert!(without > 0 && with > 2, "{without} times without it, {with} times with it");
    without + with - 1
}

/// How many stops there were.
fn a_save_that_is_killed_leaves_the_old_or_the_new(old: Option<&str>, new: &str) -> usize {
    let (mut seen_old, mut seen_new) = (0, 0);
    for stop in 1.. {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        if let Some(old) = old {
            StateFile::lock(&path).unwrap().write(old.as_bytes()).unwrap();
        }
        let killed = kill_at(stop, &path, "save", new);
        let file = StateFile::lock(&path).unwrap();
        match file.read().unwrap().map(|text| String::from_utf8(text).unwrap()) {
            text if text.as_deref() == old => seen_old += 1,
            Some(text) if text == new => seen_new += 1,
            other => panic!("a third state after stop {stop}: {} bytes", other.map_or(0, |text| text.len())),
        }
        // What was left in between is in nobody's way.
        file.write(b"next").unwrap();
        assert_eq!(file.read().unwrap().unwrap(), b"next");
        if !killed {
            break;
        }
    }
    assert!(seen_old > 3 && seen_new > 1, "{seen_old} times the old one, {seen_new} times the new one");
    seen_old + seen_new - 1
}

/// Starts a child that saves or notes, and kills it at its `stop`th stop: each system call has two, before and after
/// it. False when it saved without so many.
#[allow(clippy::zombie_processes)] // it is waited for by its number
fn kill_at(stop: usize, path: &Path, what: &str, text: &str) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let child = command.args([what, text]).env(CHILD, path).spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    assert_eq!(waitpid(pid, None).unwrap(), WaitStatus::Stopped(pid, Signal::SIGSTOP));
    ptrace::setoptions(pid, ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_EXITKILL)
        .unwrap();
    for _ in 0..stop {
        ptrace::syscall(pid, None).unwrap();
        match waitpid(pid, None).unwrap() {
            WaitStatus::PtraceSyscall(_) => {}
            WaitStatus::Exited(_, 0) => return false,
            other => panic!("{other:?}"),
        }
    }
    ptrace::kill(pid).unwrap();
    assert!(matches!(waitpid(pid, None).unwrap(), WaitStatus::Signaled(_, Signal::SIGKILL, _)));
    true
}
