//! `tcpdump`: frames of the switch by `-i docker0`, `-i br-…` (a network) and `-i veth…` (a port).
//!
//! An interface that this machine has is this machine's tcpdump's.

use std::path::Path;

use super::{Meaning, parse};
use crate::cli::capture::CaptureArgs;

/// tcpdump's flags, which are those of `capture`.
#[derive(Debug, clap::Parser)]
#[command(disable_help_flag = true, disable_version_flag = true)]
struct Flags {
    #[command(flatten)]
    capture: CaptureArgs,
}

pub(super) fn read(_: &str, words: &[String]) -> Result<Meaning, String> {
    let flags: Flags = parse("tcpdump", words)?;
    let mut watched = flags.capture.interfaces.iter();
    if watched.any(|name| !is_ours(name) && Path::new("/sys/class/net").join(name).exists()) {
        return Ok(Meaning::Theirs);
    }
    Ok(Meaning::ours("capture", words))
}

/// Whether an interface's name is one that the switch gives.
pub(super) fn is_ours(name: &str) -> bool {
    name == "docker0" || name.starts_with("br-") || name.starts_with("veth")
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
        let unknown = means("tcpdump -Z root -i docker0");
        assert_eq!(unknown, "refused: unexpected argument '-Z' found");
    }
}
