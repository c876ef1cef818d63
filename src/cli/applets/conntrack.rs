//! `conntrack`: flows of the switch, by the flags that our own command takes from conntrack-tools.

use super::{Meaning, parse};
use crate::cli::conntrack::ConntrackArgs;

#[derive(Debug, clap::Parser)]
#[command(disable_help_flag = true, disable_version_flag = true)]
struct Flags {
    #[command(flatten)]
    _conntrack: ConntrackArgs,
}

const MADE: &str = "flows begin with packets: 'conntrack -L' lists them, 'conntrack -D' forgets some";
const BOTH_WAYS: &str =
    "'tapswitch --json conntrack -L' has both directions: reply_dst tells of SNAT, reply_src of DNAT";

/// What conntrack-tools have and we have not.
const HINTS: &[(&[&str], &str)] = &[
    (&["-F", "--flush"], "'conntrack -D' forgets all flows, or those that -p, -s, -d pick"),
    (
        &["-S", "--stats"],
        "'conntrack -C' counts flows, 'tapswitch show drops' tells what was dropped, and why",
    ),
    (&["-G", "--get", "-I", "--create", "-U", "--update", "-A", "--add"], MADE),
    (&["-o", "--output"], "'tapswitch --json conntrack -L' has every field"),
    (&["-n", "--src-nat", "-g", "--dst-nat", "-j", "--any-nat", "-r", "-q"], BOTH_WAYS),
    (&["-u", "--status", "--state", "-m", "--mark"], "'conntrack -L | grep ESTABLISHED' picks lines"),
    (&["expect", "dying", "unconfirmed"], "there is one table, of flows"),
];

pub(super) fn read(_: &str, words: &[String]) -> Result<Meaning, String> {
    // The table's name may stand there, and is the default one's.
    let words: Vec<String> = words.iter().filter(|word| *word != "conntrack").cloned().collect();
    let operations = "give -L, -E, -D or -C, and -p, -s, -d, --sport, --dport, -f to pick flows";
    let _: Flags = parse("conntrack", &words, HINTS, operations)?;
    Ok(Meaning::ours("conntrack", &words))
}

#[cfg(test)]
mod tests {
    use crate::cli::applets::tests::means;

    #[test]
    fn operations_that_we_have_are_ours() {
        assert_eq!(means("conntrack -L -p tcp -s 172.17.0.2"), "ours: conntrack -L -p tcp -s 172.17.0.2");
        assert_eq!(means("conntrack -L conntrack"), "ours: conntrack -L");
        for (line, mend) in [
            ("conntrack -F", "'-F' is not known here: 'conntrack -D' forgets all"),
            ("conntrack -S", "tapswitch show drops"),
            ("conntrack -L -o extended", "tapswitch --json conntrack -L"),
            ("conntrack -L --src-nat", "reply_dst tells of SNAT"),
            ("conntrack -L -p tcp --state ESTABLISHED", "grep ESTABLISHED"),
            ("conntrack -L expect", "one table"),
            ("conntrack -L -Y", "'-Y' is not known here: give -L"),
            ("conntrack", "refused: give -L, -E, -D or -C"),
        ] {
            let refused = means(line);
            assert!(refused.starts_with("refused: ") && refused.contains(mend), "{line}: {refused}");
        }
    }
}
