//! `shell`: a shell in which Docker's and the bridge tools' names are this binary.
//!
//! Theory of operation. A private directory beside the control socket holds a link to this binary for each
//! applet (`applets/`), and files that make an interactive shell say where it is. The shell finds that
//! directory first on its search path, and the control socket in its environment. We stay to take the
//! directory away when the shell has ended; one that was left behind by a SIGKILL goes when the next shell
//! is opened. Containers have a search path of their own (`container/command.rs`), and so no applets.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::{Global, applets, completion, programs, run};
use crate::io::sys::process::{Child, fork, reset_signals};

/// What stands before the number of the process that a directory of links belongs to.
const PREFIX: &str = "shell-";

// What interactive shells read: the user's own settings, then ours, for his may set PATH and the prompt.

const BASH: &str = r#"if [ -f ~/.bashrc ]; then . ~/.bashrc; fi
PATH=$TAPSWITCH_SHELL:$PATH
PS1="(tapswitch) $PS1"
"#;

/// zsh reads it before all else, and it may name another place for the rest.
const ZSHENV: &str = r#"ZDOTDIR=$TAPSWITCH_ZDOTDIR
[ -n "$ZDOTDIR" ] || unset ZDOTDIR
if [ -f "${ZDOTDIR:-$HOME}/.zshenv" ]; then . "${ZDOTDIR:-$HOME}/.zshenv"; fi
TAPSWITCH_ZDOTDIR=$ZDOTDIR
ZDOTDIR=$TAPSWITCH_SHELL
"#;

const ZSH: &str = r#"ZDOTDIR=$TAPSWITCH_ZDOTDIR
[ -n "$ZDOTDIR" ] || unset ZDOTDIR
if [ -f "${ZDOTDIR:-$HOME}/.zshrc" ]; then . "${ZDOTDIR:-$HOME}/.zshrc"; fi
PATH=$TAPSWITCH_SHELL:$PATH
PROMPT="(tapswitch) $PROMPT"
"#;

const FISH: &str = "set -x PATH $TAPSWITCH_SHELL $PATH
functions -c fish_prompt tapswitch_own_prompt
function fish_prompt; printf '(tapswitch) '; tapswitch_own_prompt; end
";

/// By $ENV, which shells of POSIX read when they are interactive.
const POSIX: &str = r#"if [ -n "$TAPSWITCH_ENV" ]; then . "$TAPSWITCH_ENV"; fi
PATH=$TAPSWITCH_SHELL:$PATH
PS1="(tapswitch) $PS1"
"#;

/// Open a shell in which docker, brctl, iptables, tcpdump and others mean this switch
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  tapswitch shell                                $SHELL, where 'docker ps' and 'brctl show' are ours
  tapswitch shell -c 'docker ps; iptables -nL'   a line of it
  tapswitch shell -- make test                   a program that calls docker

What a name of ours does not know it refuses, telling where this machine's own program is.
Files in /proc/sys are this machine's, 'sysctl' has the switch's settings. Containers have the ordinary search path.")]
pub struct ShellArgs {
    /// Run this line by $SHELL, and end
    #[arg(short, value_name = "LINE", conflicts_with = "program")]
    command: Option<String>,
    /// Run this program instead of a shell
    #[arg(last = true, value_name = "CMD")]
    program: Vec<OsString>,
}

/// `tapswitch shell`. Starts a daemon if none runs. Answer: the shell's exit code.
///
/// # Errors
/// When there is no place for the links, or the shell cannot be run.
pub fn shell(global: &Global, arguments: &ShellArgs) -> anyhow::Result<u8> {
    let socket = std::path::absolute(global.socket())?;
    run::ensure_daemon(&socket)?;
    let place = Place::make(&socket)?;
    let mut command = match (&arguments.command, arguments.program.split_first()) {
        (Some(line), _) => {
            let mut command = Command::new(users_shell());
            command.arg("-c").arg(line);
            command
        }
        (None, Some((program, rest))) => {
            let mut command = Command::new(program);
            command.args(rest);
            command
        }
        (None, None) => place.interactive(&users_shell())?,
    };
    command.env("PATH", place.search_path()?).env("TAPSWITCH_SOCKET", &socket);
    let signals = take_signals()?;
    let mut child = fork(CloneFlags::empty(), || become_it(&mut command))?;
    attend(&mut child, &signals)
}

/// The forked child's life: the shell, with signals as it expects them.
fn become_it(command: &mut Command) -> i32 {
    let error = reset_signals().err().unwrap_or_else(|| command.exec());
    let program = command.get_program();
    // A word of the line, or what the caller's environment says.
    let whence = if program == users_shell() { " ($SHELL)" } else { "" };
    eprintln!("tapswitch: cannot run {}{whence}: {error}", Path::new(program).display());
    if error.kind() == ErrorKind::NotFound { 127 } else { 126 }
}

/// The user's shell.
fn users_shell() -> OsString {
    std::env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".into())
}

/// From here on these signals are read, not suffered: Ctrl-C is the shell's.
fn take_signals() -> anyhow::Result<SignalFd> {
    let set: SigSet =
        [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC)?)
}

/// Waits for the shell's end and hands on what asks for it.
fn attend(child: &mut Child, signals: &SignalFd) -> anyhow::Result<u8> {
    while let Some(pidfd) = child.pidfd() {
        let mut ready =
            [PollFd::new(pidfd, PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, PollTimeout::NONE) {
            Err(nix::Error::EINTR) => continue,
            other => other?,
        };
        if ready[0].any().unwrap_or(false) {
            break;
        }
        if let Some(signal) = signals.read_signal()? {
            hand_on(child, signal.ssi_signo);
        }
    }
    Ok(u8::try_from(child.wait()?.status()).unwrap_or(1))
}

/// The terminal tells the shell of SIGINT and SIGQUIT itself.
fn hand_on(child: &Child, signal: u32) {
    let signal = i32::try_from(signal).ok().and_then(|number| Signal::try_from(number).ok());
    if let Some(signal @ (Signal::SIGTERM | Signal::SIGHUP)) = signal {
        // It may have ended just now, which the next turn sees.
        let _ = child.signal(signal);
    }
}

/// The private directory: gone when this is dropped.
struct Place(PathBuf);

impl Place {
    fn make(socket: &Path) -> anyhow::Result<Self> {
        let directory = socket.parent().unwrap_or(Path::new("/"));
        clean(directory);
        let path = directory.join(format!("{PREFIX}{}", std::process::id()));
        let made = DirBuilder::new().mode(0o700).create(&path).map(|()| Self(path.clone()));
        let place = made.with_context(|| format!("cannot make {}", path.display()))?;
        let own = programs::own();
        if !own.exists() {
            bail!("the tapswitch binary at {} is gone: start the shell by its new one", own.display());
        }
        for name in applets::names().chain(["tapswitch"]) {
            symlink(&own, path.join(name))?;
        }
        Ok(place)
    }

    /// The caller's search path with this directory before it.
    fn search_path(&self) -> anyhow::Result<OsString> {
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
        let entries = std::iter::once(self.0.clone()).chain(std::env::split_paths(&path));
        std::env::join_paths(entries).context("the runtime directory's path cannot stand in PATH")
    }

    /// An interactive shell that says where it is, after the user's own settings.
    fn interactive(&self, shell: &OsStr) -> anyhow::Result<Command> {
        let name = Path::new(shell).file_name().and_then(OsStr::to_str).unwrap_or_default();
        let mut command = Command::new(shell);
        let (file, text) = match name {
            "bash" => {
                command.arg("--rcfile").arg(self.0.join("bashrc"));
                ("bashrc", format!("{BASH}{}", completes(name)?))
            }
            "zsh" => {
                hand_over(&mut command, "ZDOTDIR", "TAPSWITCH_ZDOTDIR", &self.0);
                fs::write(self.0.join(".zshenv"), ZSHENV)?;
                (".zshrc", format!("{ZSH}if (( $+functions[compdef] )); then\n{}\nfi\n", completes(name)?))
            }
            "fish" => {
                command.args(["-C", "source $TAPSWITCH_SHELL/config.fish"]);
                ("config.fish", format!("{FISH}{}", completes(name)?))
            }
            _ => {
                hand_over(&mut command, "ENV", "TAPSWITCH_ENV", &self.0.join("env"));
                ("env", POSIX.to_owned())
            }
        };
        fs::write(self.0.join(file), text)?;
        command.env("TAPSWITCH_SHELL", &self.0);
        Ok(command)
    }
}

/// Gives a variable another value, and the old one another name.
fn hand_over(command: &mut Command, variable: &str, kept: &str, value: &Path) {
    command.env(kept, std::env::var_os(variable).unwrap_or_default()).env(variable, value);
}

/// What completes lines of ours there.
fn completes(shell: &str) -> std::io::Result<String> {
    Ok(completion::script(shell, "tapswitch")? + &completion::script(shell, "docker")?)
}

impl Drop for Place {
    fn drop(&mut self) {
        // The next shell tries again.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes what shells left that were killed.
fn clean(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|pid| pid.parse().ok());
        let is_gone = |pid: i32| {
            pid == std::process::id().cast_signed() || !Path::new(&format!("/proc/{pid}")).exists()
        };
        if pid.is_some_and(is_gone) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
