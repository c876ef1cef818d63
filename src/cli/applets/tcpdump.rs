//! `tcpdump`: frames of the switch by `-i docker0`, `-i br-…` (a network) and `-i veth…` (a port).
//!
//! An interface that this machine has is this machine's tcpdump's.

use super::{Meaning, is_on_this_machine, is_ours, parse};
use crate::cli::capture::CaptureArgs;
use crate::cli::programs;

/// tcpdump's flags, which are those of `capture`.
#[derive(Debug, clap::Parser)]
#[command(disable_help_flag = true, disable_version_flag = true)]
struct Flags {
    #[command(flatten)]
    capture: CaptureArgs,
}

pub(super) fn read(_: &str, words: &[String]) -> Result<Meaning, String> {
    let flags = parse::<Flags>("tcpdump", words, &[], "");
    let named = |word: &String| is_on_this_machine(word) && !is_ours(word);
    match flags {
        Ok(flags) if flags.capture.interfaces.iter().any(named) => Ok(Meaning::Theirs),
        // Flags that we have not, of an interface that is not ours.
        Err(_) if words.iter().any(named) => Ok(Meaning::Theirs),
        Ok(_) => Ok(Meaning::ours("capture", words)),
        Err(why) if why.ends_with("is not known here") => Err(format!("{why}: {}", by_their_own())),
        Err(why) => Err(why),
    }
}

/// How this machine's tcpdump prints what ours catches.
fn by_their_own() -> String {
    let own = programs::find("tcpdump").map_or_else(|| "tcpdump".to_owned(), |own| own.display().to_string());
    format!("'tcpdump -i docker0 -U -w - | {own} -r - FLAGS' has all of tcpdump's ways to print")
}

#[cfg(test)]
mod tests {
    use crate::cli::applets::tests::means;

    #[test]
    fn interfaces_of_the_switch_are_ours() {
        for (line, meant) in [
            ("tcpdump -i docker0 -n icmp", "ours: capture -i docker0 -n icmp"),
            ("tcpdump -ni veth6994522", "ours: capture -ni veth6994522"),
            ("tcpdump -pni br-010101010101", "ours: capture -pni br-010101010101"),
            ("tcpdump -i alice", "ours: capture -i alice"),
            ("tcpdump -i any port 80", "ours: capture -i any port 80"),
            ("tcpdump -r x.pcap", "ours: capture -r x.pcap"),
            ("tcpdump -i lo -n", "theirs"),
        ] {
            assert_eq!(means(line), meant, "{line}");
        }
        assert_eq!(means("tcpdump -i lo -A"), "theirs", "whose it is decides, not the flags");
        let unknown = means("tcpdump -A -i docker0");
        assert!(
            unknown.starts_with("refused: '-A' is not known here: 'tcpdump -i docker0 -U -w - | "),
            "{unknown}"
        );
        let wrong = means("tcpdump -i docker0 -c 0");
        assert!(
            wrong.starts_with("refused: invalid value '0' for '--count <N>': give a whole number"),
            "{wrong}"
        );
    }
}
