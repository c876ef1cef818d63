//! `ip`: interfaces of the switch stand behind this machine's own in `ip address`, `ip link` and `ip neigh`; what is
//! asked of one by its name is asked of whoever has it. All else is this machine's, but for what would make a bridge
//! or change an interface of the switch's.

use super::{Meaning, is_on_this_machine, is_ours, texts};
use crate::control::show::foreign::view;

pub(super) fn read(name: &str, words: &[String]) -> Result<Meaning, String> {
    read_where(name, words, is_on_this_machine)
}

/// [`read`], where a machine has these interfaces.
fn read_where(name: &str, words: &[String], has: impl Fn(&str) -> bool) -> Result<Meaning, String> {
    let mut behind = words.iter().map(String::as_str).skip_while(|word| word.starts_with('-'));
    let object = behind.next().unwrap_or_default();
    let named = words.iter().any(|word| is_ours(word));
    let view = match view(name, &texts(words)) {
        Ok(view) => view,
        Err(why) if named || (object.starts_with('l') && makes_a_bridge(behind)) => return Err(why),
        Err(_) => return Ok(Meaning::Theirs),
    };
    let devices = view.devices();
    let is_of_ours = devices.iter().any(|device| is_ours(device) || !has(device));
    Ok(match object.as_bytes().first() {
        _ if is_of_ours => Meaning::View(words.to_vec()),
        // Two default routes in one listing would be a riddle.
        _ if !devices.is_empty() || object.starts_with('r') => Meaning::Theirs,
        _ => Meaning::Both(words.to_vec()),
    })
}

/// `link add … type bridge`.
fn makes_a_bridge<'a>(words: impl Iterator<Item = &'a str>) -> bool {
    let words: Vec<&str> = words.collect();
    words.first().is_some_and(|verb| verb.starts_with('a'))
        && words.windows(2).any(|two| two == ["type", "bridge"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_of_the_switch_are_ours() {
        for (line, meant) in [
            ("addr show docker0", "view"),
            ("-o -4 addr show docker0", "view"),
            ("link show veth6994522", "view"),
            ("neigh show dev docker0", "view"),
            ("addr show br7", "view"),
            ("route show dev docker0", "view"),
            ("a", "both"),
            ("-br link", "both"),
            ("link show type bridge", "both"),
            ("neigh", "both"),
            ("addr show eth0", "theirs"),
            ("route", "theirs"),
            ("-s link show eth0", "theirs"),
            ("link add veth0 type veth peer name veth1", "theirs"),
            ("link set eth0 up", "theirs"),
            ("netns exec x ip a", "theirs"),
            ("-V", "theirs"),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let meaning = match read_where("ip", &words, |name| name == "eth0") {
                Ok(Meaning::View(_)) => "view",
                Ok(Meaning::Both(_)) => "both",
                Ok(Meaning::Theirs) => "theirs",
                other => panic!("{line}: {other:?}"),
            };
            assert_eq!(meaning, meant, "{line}");
        }
    }

    #[test]
    fn what_would_change_the_switch_is_refused_with_the_line_to_type() {
        for (line, mend) in [
            ("link set docker0 down", "tapswitch port set"),
            ("link del veth6994522", "tapswitch port set"),
            ("link add br0 type bridge", "tapswitch network create"),
            ("l a name br0 type bridge", "tapswitch network create"),
            ("addr add 10.0.0.1/24 dev docker0", "tapswitch network create --subnet"),
            ("route add 10.0.0.0/8 dev docker0", "tapswitch route add"),
            ("route get 10.0.0.1 oif docker0", "tapswitch explain"),
            ("neigh add 10.0.0.1 dev br-0123456789ab", "neighbours are found"),
            ("-s link show docker0", "tapswitch show ports"),
            ("-j addr show docker0", "tapswitch --json show interfaces"),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let refused = read_where("ip", &words, |_| false).unwrap_err();
            assert!(refused.contains(mend) && refused.lines().count() == 1, "{line}: {refused}");
        }
    }
}
