//! `sysctl`: settings that the switch has are the switch's, all others this machine's.
//!
//! Nobody who sets `net.ipv4.ip_forward` in our shell means this machine's: a line about one of our settings is never
//! handed on, whatever its flags. A list of many is this machine's own, with our values in the place of its.

use std::process::{Command, Stdio};

use anyhow::Context;

use super::{Meaning, parse};
use crate::cli::client::Daemon;
use crate::cli::{Global, output, programs};
use crate::control::requests::{Request, RouterRequest};
use crate::control::show::SettingRow;
use crate::control::sysctl;
use crate::dataplane::Settings;

/// The flags of sysctl (procps) that we understand.
#[derive(Debug, clap::Parser)]
#[command(disable_help_flag = true, disable_version_flag = true)]
struct Flags {
    #[arg(short, long)]
    write: bool,
    #[arg(short = 'n', long)]
    values: bool,
    #[arg(short, long)]
    quiet: bool,
    /// Unknown keys: there is none among ours.
    #[arg(short = 'e', long)]
    ignore: bool,
    #[arg(short, long, short_alias = 'A', short_alias = 'X')]
    all: bool,
    #[arg(short = 'r', long)]
    pattern: Option<String>,
    settings: Vec<String>,
}

/// Flags that set what a file says, without a key that could be looked at.
const LOAD: [&str; 5] = ["-p", "-f", "--load", "--file", "--system"];

pub(super) fn read(_: &str, words: &[String]) -> Result<Meaning, String> {
    let is_load =
        |word: &String| LOAD.iter().any(|flag| word == flag || word.starts_with(&format!("{flag}=")));
    if let Some(flag) = words.iter().find(|word| is_load(word)) {
        return Err(format!(
            "'{flag}' would set this machine's: 'sysctl -w KEY=VALUE' sets one of the switch's"
        ));
    }
    let flags = match parse::<Flags>("sysctl", words, &[], "") {
        Ok(flags) => flags,
        Err(_) if !words.iter().any(|word| is_ours(word)) => return Ok(Meaning::Theirs),
        Err(why) => {
            return Err(format!("{why}: of the switch's settings it takes -w, -n, -q, -e, -a and -r"));
        }
    };
    if flags.settings.iter().any(|word| word == "=") {
        return Err("write KEY=VALUE without spaces, or in quotes".to_owned());
    }
    let lists = flags.all || flags.pattern.is_some() || flags.settings.iter().any(|key| holds_ours(key));
    let (ours, theirs): (Vec<String>, Vec<String>) =
        flags.settings.iter().cloned().partition(|it| is_ours(it));
    match (ours.first(), theirs.first()) {
        _ if lists && flags.values => {
            Err("with -n nobody could tell whose value it is: give one key".to_owned())
        }
        (None, _) if lists => Ok(Meaning::Replaced(words.to_vec())),
        (None, _) => Ok(Meaning::Theirs),
        (Some(ours), Some(theirs)) => {
            Err(format!("'{ours}' is the switch's and '{theirs}' this machine's: ask for one at a time"))
        }
        (Some(_), None) => {
            let flags = [(flags.values, "-n"), (flags.quiet, "-q")];
            let flags = flags.iter().filter(|(set, _)| *set).map(|(_, flag)| (*flag).to_owned());
            Ok(Meaning::ours("sysctl", &flags.chain(ours.iter().cloned()).collect::<Vec<_>>()))
        }
    }
}

/// Whether a word is a setting of the switch's, with a value or without. `KEY = VALUE` is one as well.
fn is_ours(word: &str) -> bool {
    let key = word.split('=').next().unwrap_or_default().trim();
    sysctl::get(&Settings::default(), key).is_ok() || sysctl::is_count(key)
}

/// Whether a word is a directory in which there is one of them.
fn holds_ours(word: &str) -> bool {
    let directory = word.replace('/', ".").trim_end_matches('.').to_owned() + ".";
    sysctl::all(&Settings::default()).iter().any(|(key, _)| key.starts_with(&directory))
}

/// What this machine's own sysctl lists, with our values in the place of its.
///
/// # Errors
/// When there is none, or no daemon runs.
pub(super) fn replaced(words: &[String]) -> anyhow::Result<u8> {
    let program =
        programs::find("sysctl").context("this machine has no sysctl: 'tapswitch sysctl' lists ours")?;
    let request = Request::Router(RouterRequest::Sysctl { key: None, value: None });
    let rows: Vec<SettingRow> = Daemon::connect(&Global::default().socket())?.call(request)?;
    let listed = Command::new(program).args(words).stderr(Stdio::inherit()).output()?;
    output::print(&merged(&String::from_utf8_lossy(&listed.stdout), &rows))
}

fn merged(listed: &str, rows: &[SettingRow]) -> String {
    let line = |line: &str| {
        let key = line.split_once(" = ").map_or("", |(key, _)| key);
        match rows.iter().find(|row| row.key == key) {
            Some(row) => format!("{key} = {}\n", row.value),
            None => format!("{line}\n"),
        }
    };
    listed.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::applets::tests::means;

    #[test]
    fn settings_of_the_switch_are_ours() {
        for (line, meant) in [
            ("sysctl net.ipv4.ip_forward", "ours: sysctl net.ipv4.ip_forward"),
            ("sysctl net.ipv4.ip_forward=1", "ours: sysctl net.ipv4.ip_forward=1"),
            ("sysctl -w net.ipv4.ip_forward=0", "ours: sysctl net.ipv4.ip_forward=0"),
            ("sysctl -n net/ipv4/ip_forward", "ours: sysctl -n net/ipv4/ip_forward"),
            ("sysctl net.ipv4.conf.all.forwarding", "ours: sysctl net.ipv4.conf.all.forwarding"),
            ("sysctl -q -w net.ipv4.ip_forward=1", "ours: sysctl -q net.ipv4.ip_forward=1"),
            ("sysctl -qew net.ipv4.ip_forward=1", "ours: sysctl -q net.ipv4.ip_forward=1"),
            ("sysctl kernel.hostname", "theirs"),
            ("sysctl -w kernel.hostname=x", "theirs"),
            ("sysctl --nosuch kernel.hostname", "theirs"),
            ("sysctl", "theirs"),
            ("sysctl -a", "theirs with our values: -a"),
            ("sysctl -a -r forward", "theirs with our values: -a -r forward"),
            ("sysctl net.ipv4", "theirs with our values: net.ipv4"),
            ("sysctl net/netfilter/", "theirs with our values: net/netfilter/"),
        ] {
            assert_eq!(means(line), meant, "{line}");
        }
    }

    #[test]
    fn what_could_set_this_machines_by_mistake_is_refused() {
        for (line, said) in [
            ("sysctl kernel.hostname net.ipv4.ip_forward", "'net.ipv4.ip_forward' is the switch's and"),
            (
                "sysctl --nosuch net.ipv4.ip_forward=1",
                "'--nosuch' is not known here: of the switch's settings",
            ),
            ("sysctl -w net.ipv4.ip_forward = 1", "write KEY=VALUE without spaces"),
            ("sysctl -p", "'-p' would set this machine's: 'sysctl -w KEY=VALUE'"),
            ("sysctl --load=/etc/sysctl.conf", "'--load=/etc/sysctl.conf' would set"),
            ("sysctl --system", "'--system' would set"),
            ("sysctl -n net.ipv4", "with -n nobody could tell"),
        ] {
            let refused = means(line);
            assert!(refused.starts_with(&format!("refused: {said}")), "{line}: {refused}");
        }
    }

    #[test]
    fn of_a_list_ours_are_replaced() {
        let rows = [SettingRow { key: "net.ipv4.ip_forward".to_owned(), value: 1 }];
        let listed = "kernel.ostype = Linux\nnet.ipv4.ip_forward = 0\nnet.ipv4.ip_forward_use_pmtu = 0\n";
        assert_eq!(merged(listed, &rows), listed.replacen("= 0", "= 1", 1));
    }
}
