//! `sysctl`: settings that the switch has are the switch's, all others this machine's.

use super::{Meaning, parse};
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
    settings: Vec<String>,
}

pub(super) fn read(_: &str, words: &[String]) -> Result<Meaning, String> {
    let Ok(flags) = parse::<Flags>("sysctl", words) else { return Ok(Meaning::Theirs) };
    // `sysctl KEY = VALUE` is one setting as well.
    let (mut ours, theirs): (Vec<String>, Vec<String>) = flags.settings.into_iter().partition(|setting| {
        let key = setting.split('=').next().unwrap_or_default().trim();
        sysctl::get(&Settings::default(), key).is_ok() || sysctl::is_count(key)
    });
    match (ours.first().cloned(), theirs.first()) {
        (None, _) => Ok(Meaning::Theirs),
        (Some(ours), Some(theirs)) => {
            Err(format!("'{ours}' is the switch's and '{theirs}' this machine's: ask for one at a time"))
        }
        (Some(_), None) => {
            if flags.values {
                ours.insert(0, "-n".to_owned());
            }
            Ok(Meaning::ours("sysctl", &ours))
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::applets::tests::means;

    #[test]
    fn settings_of_the_switch_are_ours() {
        for (line, meant) in [
            ("sysctl net.ipv4.ip_forward", "ours: sysctl net.ipv4.ip_forward"),
            ("sysctl net.ipv4.ip_forward=1", "ours: sysctl net.ipv4.ip_forward=1"),
            ("sysctl -w net.ipv4.ip_forward=0", "ours: sysctl net.ipv4.ip_forward=0"),
            ("sysctl -n net/ipv4/ip_forward", "ours: sysctl -n net/ipv4/ip_forward"),
            ("sysctl net.ipv4.conf.all.forwarding", "ours: sysctl net.ipv4.conf.all.forwarding"),
            ("sysctl kernel.hostname", "theirs"),
            ("sysctl -a", "theirs"),
            ("sysctl", "theirs"),
        ] {
            assert_eq!(means(line), meant, "{line}");
        }
        let mixed = means("sysctl kernel.hostname net.ipv4.ip_forward");
        assert!(mixed.starts_with("refused: 'net.ipv4.ip_forward' is the switch's and"), "{mixed}");
    }
}
