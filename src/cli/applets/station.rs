//! Commands about one interface, which know nothing of a switch outside the kernel: of an interface of ours the line
//! to type instead, and of any other this machine's own program.

use super::{Meaning, is_on_this_machine, is_ours};

/// A command, and what shows the same of an interface of ours.
const INSTEAD: &[(&str, &str)] = &[
    ("arp", "'ip neigh show dev NAME' lists its neighbours"),
    ("ethtool", "'tapswitch show ports' tells whose port it is, with its counters"),
    ("ifconfig", "'ip address show NAME' shows it, 'tapswitch show ports' has the counters of every port"),
    ("route", "'ip route show dev NAME' lists its routes, 'tapswitch route add' adds some"),
];

pub(super) fn read(name: &str, words: &[String]) -> Result<Meaning, String> {
    let found = INSTEAD.iter().find(|(tool, _)| *tool == name);
    let device = words.iter().find(|word| is_ours(word) && !is_on_this_machine(word));
    match (found, device) {
        (Some((_, mend)), Some(device)) => {
            Err(format!("'{device}' is an interface of the switch's: {}", mend.replace("NAME", device)))
        }
        _ => Ok(Meaning::Theirs),
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::applets::tests::means;

    #[test]
    fn interfaces_of_ours_are_shown_by_other_commands() {
        for (line, mend) in [
            ("ethtool -S veth6994522", "tapswitch show ports"),
            ("ifconfig docker0", "ip address show docker0"),
            ("arp -n -i docker0", "ip neigh show dev docker0"),
            ("route add -net 10.0.0.0/8 dev br-0123456789ab", "ip route show dev br-0123456789ab"),
        ] {
            let refused = means(line);
            assert!(refused.starts_with("refused: ") && refused.contains(mend), "{line}: {refused}");
        }
        for line in ["ethtool eth0", "ifconfig", "arp -n", "route -n"] {
            assert_eq!(means(line), "theirs", "{line}");
        }
    }
}
