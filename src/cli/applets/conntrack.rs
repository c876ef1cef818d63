//! `conntrack`: flows of the switch, by the flags that our own command takes from conntrack-tools.

use super::{Meaning, parse};
use crate::cli::conntrack::ConntrackArgs;

#[derive(Debug, clap::Parser)]
#[command(disable_help_flag = true, disable_version_flag = true)]
struct Flags {
    #[command(flatten)]
    _conntrack: ConntrackArgs,
}

pub(super) fn read(_: &str, words: &[String]) -> Result<Meaning, String> {
    let _: Flags = parse("conntrack", words)?;
    Ok(Meaning::ours("conntrack", words))
}

#[cfg(test)]
mod tests {
    use crate::cli::applets::tests::means;

    #[test]
    fn operations_that_we_have_are_ours() {
        assert_eq!(means("conntrack -L -p tcp -s 172.17.0.2"), "ours: conntrack -L -p tcp -s 172.17.0.2");
        assert_eq!(means("conntrack -F"), "refused: unexpected argument '-F' found");
    }
}
