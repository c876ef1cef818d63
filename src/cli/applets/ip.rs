//! `ip`: interfaces of the switch stand behind this machine's own in `ip address` and `ip link`; what is asked
//! of one by its name is asked of whoever has it. All else is this machine's.

use super::tcpdump::is_ours;
use super::{Meaning, texts};
use crate::control::show::foreign::view;

pub(super) fn read(name: &str, words: &[String]) -> Result<Meaning, String> {
    let Ok(_) = view(name, &texts(words)) else { return Ok(Meaning::Theirs) };
    let mut behind = words.iter().skip_while(|word| word.starts_with('-'));
    let object = behind.next().map_or("", String::as_str);
    if words.iter().any(|word| is_ours(word)) {
        return Ok(Meaning::View(words.to_vec()));
    }
    let lists_interfaces = object.starts_with('a') || object.starts_with('l');
    let everything = behind.all(|word| ["show", "list", "ls", "s", "sh"].contains(&word.as_str()));
    Ok(if lists_interfaces && everything { Meaning::Both(words.to_vec()) } else { Meaning::Theirs })
}

#[cfg(test)]
mod tests {
    use crate::cli::applets::tests::means;

    #[test]
    fn interfaces_of_the_switch_are_ours() {
        for (line, meant) in [
            ("ip addr show docker0", "view: addr show docker0"),
            ("ip link show veth6994522", "view: link show veth6994522"),
            ("ip neigh show dev docker0", "view: neigh show dev docker0"),
            ("ip a", "theirs, and view: a"),
            ("ip -br link", "theirs, and view: -br link"),
            ("ip addr show eth0", "theirs"),
            ("ip route", "theirs"),
            ("ip link add br0 type bridge", "theirs"),
            ("ip netns exec x ip a", "theirs"),
        ] {
            assert_eq!(means(line), meant, "{line}");
        }
    }
}
