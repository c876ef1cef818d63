//! `iptables`: the switch's rules, listed. They are made by `network`, `publish`, `link` and `rule`.

use super::{Meaning, parse};

#[derive(Debug, clap::Parser)]
#[command(disable_help_flag = true, disable_version_flag = true)]
struct Flags {
    /// All chains, or one.
    #[arg(short = 'L', long, value_name = "CHAIN", num_args = 0..=1)]
    list: Option<Option<String>>,
    #[arg(short, long, default_value = "filter", value_parser = ["filter", "nat"])]
    table: String,
    #[arg(short, long)]
    verbose: bool,
    #[arg(short, long)]
    numeric: bool,
    /// Accepted for iptables' sake: nobody else holds a lock.
    #[arg(short, long)]
    wait: bool,
}

pub(super) fn read(words: &[String]) -> Result<Meaning, String> {
    const MEND: &str =
        "the switch's rules are made by 'tapswitch rule add', and listed by -L [CHAIN] [-t nat] -v -n";
    let flags: Flags = parse("iptables", words).map_err(|said| format!("{said}: {MEND}"))?;
    let Some(chain) = flags.list else { return Err(MEND.to_owned()) };
    let _ = chain;
    Ok(Meaning::ours("show rules", &[]))
}

#[cfg(test)]
mod tests {
    use crate::cli::applets::tests::means;

    #[test]
    fn listing_is_ours_and_changing_is_not() {
        for line in ["iptables -L", "iptables -nL", "iptables -nvL", "iptables -L -t nat -v -n"] {
            assert!(means(line).starts_with("ours: show rules"), "{line}");
        }
        for line in ["iptables -A INPUT -j DROP", "iptables -t mangle -L", "iptables -F", "iptables"] {
            assert!(means(line).contains("made by 'tapswitch rule add'"), "{line}: {}", means(line));
        }
    }
}
