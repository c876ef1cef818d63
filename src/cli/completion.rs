//! `completion`: what bash, zsh and fish need to complete our command lines, names of containers and
//! networks included.
//!
//! The script that is printed asks this binary at each TAB; so it never knows less than the binary, and who
//! is there now is asked of the daemon. Questions come by the variable `TAPSWITCH_COMPLETE`.

use std::ffi::OsStr;
use std::io;

use clap::builder::ValueHint;
use clap::{Arg, Command};
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::Shells;

use super::client::Daemon;
use super::{Global, programs};
use crate::control::requests::Request;
use crate::control::show::{ContainerRow, NetworkRow};

/// The variable by which a shell asks.
const VARIABLE: &str = "TAPSWITCH_COMPLETE";

/// Print what a shell needs to complete our command lines
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  source <(tapswitch completion bash)            in ~/.bashrc
  source <(tapswitch completion zsh)             in ~/.zshrc, after compinit
  tapswitch completion fish | source             in ~/.config/fish/config.fish")]
pub struct CompletionArgs {
    /// Which shell
    #[arg(value_parser = ["bash", "zsh", "fish"])]
    shell: String,
    /// What it is called there
    #[arg(default_value = "tapswitch", value_parser = ["tapswitch", "docker"])]
    name: String,
}

/// `tapswitch completion SHELL`.
///
/// # Errors
/// When standard output fails.
pub fn print(arguments: &CompletionArgs) -> anyhow::Result<u8> {
    super::output::print(&script(&arguments.shell, &arguments.name)?)
}

/// What a shell needs to complete lines that begin with `name`; nothing, where it is one of another kind.
///
/// # Errors
/// When this binary's path is no text.
pub fn script(shell: &str, name: &str) -> io::Result<String> {
    let mut script = Vec::new();
    if let Some(shell) = Shells::builtins().completer(shell) {
        let own = programs::own();
        shell.write_registration(VARIABLE, name, name, &own.to_string_lossy(), &mut script)?;
    }
    String::from_utf8(script).map_err(io::Error::other)
}

/// Answers and ends the process, when it was a shell's question that started it.
pub fn answer() {
    CompleteEnv::with_factory(command).var(VARIABLE).complete();
}

/// Our command line, which knows where names of containers and networks stand.
fn command() -> Command {
    with_names(super::command())
}

fn with_names(command: Command) -> Command {
    let group = command.get_name().to_owned();
    command.mut_args(|argument| complete_argument(&group, argument)).mut_subcommands(with_names)
}

fn complete_argument(command: &str, argument: Arg) -> Arg {
    let value = argument.get_value_names().and_then(|names| names.first()).map(|name| name.to_string());
    let is = |name: &str| argument.get_id() == name;
    let is_network = |value: &str| value.starts_with("NET");
    // What is made gets a name that nobody has.
    let makes = ["create", "plug", "add"].contains(&command);
    match value.as_deref() {
        _ if makes && is("name") => argument,
        _ if argument.is_positional() && command == "inspect" && is("names") => {
            argument.add(ArgValueCompleter::new(everything))
        }
        Some(value) if is_network(value) => argument.add(ArgValueCompleter::new(networks)),
        _ if is("network") => argument.add(ArgValueCompleter::new(networks)),
        _ if argument.is_positional() && (is("names") || is("name") || is("container") || is("other")) => {
            argument.add(ArgValueCompleter::new(containers))
        }
        Some("FILE" | "PATH") => argument.value_hint(ValueHint::FilePath),
        _ => argument,
    }
}

/// What the daemon lists; nothing, where none serves.
fn ask<T: serde::de::DeserializeOwned>(request: Request) -> Option<Vec<T>> {
    let socket =
        Global { socket: std::env::var_os("TAPSWITCH_SOCKET").map(Into::into), json: false }.socket();
    Daemon::try_connect(&socket).ok()??.call(request).ok()
}

/// Those of the words that begin as what is there begins.
fn candidates(current: &OsStr, words: impl Iterator<Item = String>) -> Vec<CompletionCandidate> {
    let begin = current.to_string_lossy();
    words.filter(|word| word.starts_with(begin.as_ref())).map(CompletionCandidate::new).collect()
}

fn containers(current: &OsStr) -> Vec<CompletionCandidate> {
    let rows: Vec<ContainerRow> = ask(Request::ContainerList { all: true }).unwrap_or_default();
    candidates(current, rows.into_iter().map(|row| row.name))
}

fn networks(current: &OsStr) -> Vec<CompletionCandidate> {
    let rows: Vec<NetworkRow> = ask(Request::NetworkList).unwrap_or_default();
    candidates(current, rows.into_iter().map(|row| row.name))
}

fn everything(current: &OsStr) -> Vec<CompletionCandidate> {
    let mut all = containers(current);
    all.extend(networks(current));
    all
}
