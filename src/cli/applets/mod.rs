//! Foreign commands that this binary answers to when it is called by their names.
//!
//! In `tapswitch shell` the first `docker`, `brctl`, `iptables` … on the search path are links to this binary.
//! An applet reads the foreign words and says what they mean: a line of `tapswitch`, or this machine's own
//! program of that name. It does nothing else, and so the views and requests stand in one place.

mod conntrack;
mod docker;
mod ip;
mod station;
mod sudo;
mod sysctl;
mod tcpdump;

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::{Global, foreign, programs};
use crate::control::show::foreign::view;

/// What a foreign line means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A line of `tapswitch`, without that word.
    Ours(Vec<String>),
    /// The switch as the tool prints what it is about: these words.
    View(Vec<String>),
    /// What this machine's own program prints, and then such a view.
    Both(Vec<String>),
    /// What this machine's own `sysctl` prints of these words, with our values in it.
    Replaced(Vec<String>),
    /// This machine's own program, with the same words.
    Theirs,
    /// Another foreign line, which begins with a command's name.
    Line(Vec<String>),
}

impl Meaning {
    /// A line of ours whose first words are these.
    fn ours(first: &str, rest: &[String]) -> Self {
        Self::Ours(first.split(' ').map(str::to_owned).chain(rest.iter().cloned()).collect())
    }
}

/// Reads a command's name and the words behind it. The error says what is not understood.
type Read = fn(&str, &[String]) -> Result<Meaning, String>;

const APPLETS: &[(&str, Read)] = &[
    ("arp", station::read),
    ("brctl", a_view),
    ("bridge", a_view),
    ("conntrack", conntrack::read),
    ("docker", docker::read),
    ("ethtool", station::read),
    ("ifconfig", station::read),
    ("ip", ip::read),
    ("ip6tables", a_view),
    ("ip6tables-restore", no_rules),
    ("ip6tables-save", a_view),
    ("iptables", a_view),
    ("iptables-restore", no_rules),
    ("iptables-save", a_view),
    ("route", station::read),
    ("sudo", sudo::read),
    ("sysctl", sysctl::read),
    ("tcpdump", tcpdump::read),
];

/// What tools that are all ours take.
const KNOWN: &[(&str, &str)] = &[
    ("brctl", "show [BRIDGE..], showmacs BRIDGE, showstp BRIDGE"),
    ("bridge", "fdb show [br BRIDGE] [dev NAME], link show [dev NAME]"),
    ("conntrack", "flags as 'tapswitch conntrack --help' lists them"),
    ("ip6tables", "-L [CHAIN] and -S [CHAIN], -t filter|nat, -n, -v, -x, --line-numbers"),
    ("ip6tables-save", "-t filter|nat, -c"),
    ("iptables", "-L [CHAIN] and -S [CHAIN], -t filter|nat, -n, -v, -x, --line-numbers"),
    ("iptables-save", "-t filter|nat, -c"),
    ("tcpdump", "flags as 'tapswitch capture --help' lists them"),
];

/// A command that is about the switch alone: what is no view of it is refused, with the line that does it.
fn a_view(name: &str, words: &[String]) -> Result<Meaning, String> {
    view(name, &texts(words)).map(|_| Meaning::View(words.to_vec()))
}

/// Rules that somebody else has written down.
fn no_rules(_: &str, _: &[String]) -> Result<Meaning, String> {
    Err("rules of one's own are made by 'tapswitch rule add', and all others follow from what is declared"
        .to_owned())
}

/// Whether an interface's name is one that the switch gives by itself.
fn is_ours(name: &str) -> bool {
    let hex = |rest: &str, len: usize| rest.len() == len && rest.bytes().all(|c| c.is_ascii_hexdigit());
    name == "docker0"
        || name.strip_prefix("br-").is_some_and(|rest| hex(rest, 12))
        || name.strip_prefix("veth").is_some_and(|rest| hex(rest, 7))
}

/// Whether this machine has an interface of this name.
fn is_on_this_machine(name: &str) -> bool {
    !name.is_empty() && Path::new("/sys/class/net").join(name).exists()
}

fn texts(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// The names that this binary answers to.
pub fn names() -> impl Iterator<Item = &'static str> {
    APPLETS.iter().map(|(name, _)| *name)
}

/// Runs the applet that the first word, which may be a path, names; `None` if it names none.
pub fn main(words: &[OsString]) -> Option<ExitCode> {
    let name = Path::new(words.first()?).file_name().and_then(OsStr::to_str)?;
    names().find(|applet| *applet == name)?;
    let text = |word: &OsString| word.to_str().map(str::to_owned);
    let rest: Option<Vec<String>> = words.iter().skip(1).map(text).collect();
    Some(match rest {
        Some(rest) => run(name, &rest),
        None => refuse(name, "a word of it is no text"),
    })
}

fn run(name: &str, words: &[String]) -> ExitCode {
    let Some((_, read)) = APPLETS.iter().find(|(applet, _)| *applet == name) else {
        return if name == "tapswitch" { ours(words.to_vec()) } else { theirs(name, words) };
    };
    if let Some(about) = about(name, words) {
        println!("{about}");
        return ExitCode::SUCCESS;
    }
    match read(name, words) {
        Ok(Meaning::Ours(line)) => ours(line),
        Ok(Meaning::View(words)) => show(name, &words),
        Ok(Meaning::Both(view)) => {
            // What it says of a failure it says itself.
            let _ = programs::find(name).map(|program| Command::new(program).args(words).status());
            show(name, &view)
        }
        Ok(Meaning::Replaced(words)) => done(sysctl::replaced(&words)),
        Ok(Meaning::Theirs) => theirs(name, words),
        Ok(Meaning::Line(line)) => match line.split_first() {
            Some((name, rest)) => run(name, rest),
            None => ExitCode::SUCCESS,
        },
        Err(why) => refuse(name, &why),
    }
}

fn ours(words: Vec<String>) -> ExitCode {
    super::run_line(std::iter::once("tapswitch".into()).chain(words.into_iter().map(OsString::from)))
}

fn show(name: &str, words: &[String]) -> ExitCode {
    done(foreign::run(&Global::default(), name, &texts(words)))
}

fn done(result: anyhow::Result<u8>) -> ExitCode {
    result.map_or_else(
        |error| {
            eprintln!("tapswitch: {error:#}");
            ExitCode::FAILURE
        },
        ExitCode::from,
    )
}

/// What is said of a tool that is all ours, when it is asked for its version or its flags.
fn about(name: &str, words: &[String]) -> Option<String> {
    let (_, what) = KNOWN.iter().find(|(tool, _)| *tool == name)?;
    let [word] = words else { return None };
    if !["-h", "--help", "-V", "--version", "help"].contains(&word.as_str()) {
        return None;
    }
    let own = programs::find(name)
        .map_or_else(String::new, |own| format!("; this machine's own {name} is {}", own.display()));
    Some(format!("{name} of tapswitch {}, for the switch: {what}{own}", env!("CARGO_PKG_VERSION")))
}

/// Becomes this machine's own program.
fn theirs(name: &str, words: &[String]) -> ExitCode {
    let Some(program) = programs::find(name) else {
        eprintln!(
            "tapswitch: {name}: the switch does not know this, and this machine has no {name} of its own"
        );
        return ExitCode::from(127);
    };
    let error = Command::new(&program).args(words).exec();
    eprintln!("tapswitch: cannot run {}: {error}", program.display());
    ExitCode::from(126)
}

fn refuse(name: &str, why: &str) -> ExitCode {
    match programs::find(name) {
        Some(program) => {
            eprintln!("tapswitch: {name}: {why}; this machine's own {name} is {}", program.display());
        }
        None => eprintln!("tapswitch: {name}: {why}"),
    }
    ExitCode::from(2)
}

/// Reads foreign words by a grammar of clap's. The error is one line, with what one of the hints says of a flag that
/// we have not, or else the last one.
fn parse<T: clap::Parser>(
    name: &str,
    words: &[String],
    hints: &[(&[&str], &str)],
    otherwise: &str,
) -> Result<T, String> {
    let words = std::iter::once(name.to_owned()).chain(words.iter().cloned());
    T::try_parse_from(words).map_err(|error| {
        let unknown = match (error.kind(), error.get(ContextKind::InvalidArg)) {
            (ErrorKind::UnknownArgument, Some(ContextValue::String(flag))) => flag.as_str(),
            (ErrorKind::MissingRequiredArgument, _) => "",
            _ => {
                let said = error.to_string();
                let first = said.lines().next().unwrap_or_default();
                return first.strip_prefix("error: ").unwrap_or(first).to_owned();
            }
        };
        let hint =
            hints.iter().find(|(flags, _)| flags.contains(&unknown)).map_or(otherwise, |(_, hint)| hint);
        match (unknown, hint) {
            ("", hint) => hint.to_owned(),
            (flag, "") => format!("'{flag}' is not known here"),
            (flag, hint) => format!("'{flag}' is not known here: {hint}"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a line means: `ours: …`, `theirs`, or the refusal.
    pub(super) fn means(line: &str) -> String {
        let words: Vec<String> = line.split_ascii_whitespace().map(str::to_owned).collect();
        let (name, rest) = words.split_first().unwrap();
        let (_, read) = APPLETS.iter().find(|(applet, _)| applet == name).unwrap();
        match read(name, rest) {
            Ok(Meaning::Ours(line)) => format!("ours: {}", line.join(" ")),
            Ok(Meaning::View(words)) => format!("view: {}", words.join(" ")),
            Ok(Meaning::Both(words)) => format!("theirs, and view: {}", words.join(" ")),
            Ok(Meaning::Replaced(words)) => format!("theirs with our values: {}", words.join(" ")),
            Ok(Meaning::Theirs) => "theirs".to_owned(),
            Ok(Meaning::Line(line)) => means(&line.join(" ")),
            Err(why) => format!("refused: {why}"),
        }
    }

    #[test]
    fn lines_of_ours_are_understood() {
        for line in [
            "conntrack -E -p icmp",
            "docker network inspect bridge",
            "sysctl -w net.ipv4.ip_forward=1",
            "tcpdump -nni docker0 -c 5 icmp",
        ] {
            let meant = means(line);
            let ours = meant.strip_prefix("ours: ").unwrap_or_else(|| panic!("{line}: {meant}"));
            let words = std::iter::once("tapswitch").chain(ours.split(' '));
            <crate::cli::Cli as clap::Parser>::try_parse_from(words)
                .unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }

    #[test]
    fn views_are_shown_and_changes_refused() {
        for (line, view) in [
            ("brctl show", "show"),
            ("brctl showmacs docker0", "showmacs docker0"),
            ("bridge fdb show br docker0", "fdb show br docker0"),
            ("sudo iptables -nL", "-nL"),
            ("iptables -t nat -L -v -n", "-t nat -L -v -n"),
            ("iptables -L -t nat -v -n", "-L -t nat -v -n"),
        ] {
            assert_eq!(means(line), format!("view: {view}"), "{line}");
        }
        for (line, mend) in [
            ("brctl addbr br0", "tapswitch network create"),
            ("brctl addif docker0 eth0", "tapswitch network connect"),
            ("iptables -A FORWARD -j DROP", "tapswitch rule add"),
        ] {
            let refused = means(line);
            assert!(refused.starts_with("refused: ") && refused.contains(mend), "{line}: {refused}");
        }
    }
}
