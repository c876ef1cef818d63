//! `iptables -L` and `iptables -S`, and the same of `ip6tables`.
//!
//! The columns are those of iptables (`iptables/iptables.c`, `iptables/xshared.c`); protocols are printed by name,
//! as every version before 1.8.9 does. Nothing is looked up: without `-n`, too, addresses and ports are numbers.

use std::fmt::Write;

use crate::control::show::rules::{ChainRow, RuleRow};

/// What iptables says of a chain that is not there.
const NO_CHAIN: &str = "iptables: No chain/target/match by that name.";

/// The tables that there are.
const TABLES: [&str; 2] = ["filter", "nat"];

/// One invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Iptables {
    /// Of `ip6tables`.
    pub(super) v6: bool,
    table: String,
    chain: Option<String>,
    /// `-S`, not `-L`.
    specifications: bool,
    style: Style,
}

/// How lines of `-L` look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Style {
    /// `-v`: with counters and interfaces.
    verbose: bool,
    /// `-n`: `0.0.0.0/0` where it would say `anywhere`.
    numeric: bool,
    /// `-x`: counters in full.
    exact: bool,
    /// `--line-numbers`.
    numbers: bool,
}

impl Iptables {
    pub(super) fn read(v6: bool, words: &[&str]) -> Result<Self, String> {
        let (mut list, mut style) = (None, Style::default());
        let mut iptables = Self { v6, table: "filter".to_owned(), chain: None, specifications: false, style };
        let mut words = words.iter().copied().flat_map(table_apart).peekable();
        while let Some(word) = words.next() {
            for flag in letters(word) {
                match flag.as_str() {
                    "v" | "verbose" => style.verbose = true,
                    "n" | "numeric" => style.numeric = true,
                    "x" | "exact" => style.exact = true,
                    "line-numbers" | "line-number" => style.numbers = true,
                    // Locks and versions that a view has none of.
                    "w" | "wait" | "4" | "ipv4" | "6" | "ipv6" => {}
                    "t" | "table" => words.next().unwrap_or_default().clone_into(&mut iptables.table),
                    "L" | "list" | "S" | "list-rules" => {
                        list = Some(flag.starts_with(['S', 's']) || flag == "list-rules");
                        iptables.chain = words.next_if(|word| !word.starts_with('-')).map(str::to_owned);
                    }
                    _ => return Err(instead(&flag, word)),
                }
            }
        }
        if !TABLES.contains(&iptables.table.as_str()) {
            return Err(format!("table '{}' is not kept here: there are filter and nat", iptables.table));
        }
        let specifications = list.ok_or_else(|| instead("", ""))?;
        Ok(Self { specifications, style, ..iptables })
    }

    pub(super) fn draw(&self, chains: &[ChainRow]) -> Result<String, String> {
        let wanted = |row: &&ChainRow| {
            row.table == self.table && self.chain.as_ref().is_none_or(|chain| *chain == row.chain)
        };
        let chosen: Vec<&ChainRow> = chains.iter().filter(wanted).collect();
        if self.chain.is_some() && chosen.is_empty() {
            return Err(NO_CHAIN.to_owned());
        }
        Ok(match self.specifications {
            true => specifications(&chosen, self.style.verbose),
            false => chosen.iter().map(|row| self.style.chain(row)).collect::<Vec<_>>().join("\n"),
        })
    }
}

/// `-tnat` is `-t nat`, and so is `--table=nat`.
fn table_apart(word: &str) -> Vec<&str> {
    let table = word.strip_prefix("--table=").or_else(|| word.strip_prefix("-t"));
    match table.filter(|table| !table.is_empty()) {
        Some(table) => vec!["-t", table],
        None => vec![word],
    }
}

/// The flags of a word: `-nvL` is three.
fn letters(word: &str) -> Vec<String> {
    match (word.strip_prefix("--"), word.strip_prefix('-')) {
        (Some(long), _) => vec![long.to_owned()],
        (None, Some(short)) => short.chars().map(String::from).collect(),
        (None, None) => vec![word.to_owned()],
    }
}

fn instead(flag: &str, word: &str) -> String {
    match flag {
        "A" | "I" | "append" | "insert" => "rules of one's own are made by 'tapswitch rule add --from .. --to .. \
             allow|drop|reject', and stand in DOCKER-USER"
            .to_owned(),
        "D" | "delete" | "F" | "flush" => "'tapswitch rule ls' numbers rules of one's own, 'tapswitch rule rm \
             NUMBER' removes one; the others follow from what is declared"
            .to_owned(),
        "C" | "check" => "'iptables -S' lists each rule as it would be written, for grep to find one".to_owned(),
        "P" | "N" | "X" | "E" | "R" | "Z" | "policy" | "new-chain" | "delete-chain" | "zero" => {
            "chains, policies and counters follow from what is declared, as 'tapswitch publish' and 'tapswitch \
             network set NETWORK -o icc=false'"
                .to_owned()
        }
        "" => "give -L or -S: 'iptables -L -v -n', 'iptables -t nat -L -v -n'".to_owned(),
        _ => format!(
            "'iptables {word}' is not known here: there are -L [CHAIN] and -S [CHAIN], -t filter|nat, -n, -v, -x, \
             --line-numbers"
        ),
    }
}

/// A table as `iptables -L -v -n` prints it.
pub(in crate::control::show) fn listing(chains: &[ChainRow], table: &str) -> String {
    let style = Style { verbose: true, numeric: true, ..Style::default() };
    let chosen = chains.iter().filter(|row| row.table == table);
    chosen.map(|row| style.chain(row)).collect::<Vec<_>>().join("\n")
}

/// A table as `iptables-save` writes it, for each that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Save {
    /// Of `ip6tables-save`.
    pub(super) v6: bool,
    table: Option<String>,
    /// `-c`: what rules have counted.
    counters: bool,
}

impl Save {
    pub(super) fn read(v6: bool, words: &[&str]) -> Result<Self, String> {
        let mut save = Self { v6, table: None, counters: false };
        let mut words = words.iter().copied().flat_map(table_apart);
        while let Some(word) = words.next() {
            match word {
                "-c" | "--counters" => save.counters = true,
                "-t" | "--table" => save.table = words.next().map(str::to_owned),
                _ => return Err(format!("'{word}' is not known here: there are -c and -t filter|nat")),
            }
        }
        if save.table.as_ref().is_some_and(|table| !TABLES.contains(&table.as_str())) {
            return Err(format!(
                "table '{}' is not kept here: there are filter and nat",
                save.table.unwrap_or_default()
            ));
        }
        Ok(save)
    }

    pub(super) fn draw(&self, chains: &[ChainRow]) -> String {
        let wanted = |table: &&str| self.table.as_ref().is_none_or(|it| it == table);
        TABLES.iter().copied().filter(wanted).map(|table| self.table(chains, table)).collect()
    }

    fn table(&self, chains: &[ChainRow], table: &str) -> String {
        let chains: Vec<&ChainRow> = chains.iter().filter(|row| row.table == table).collect();
        let mut text = format!("# Generated by tapswitch {}\n*{table}\n", env!("CARGO_PKG_VERSION"));
        for row in &chains {
            let policy = row.policy.as_deref().unwrap_or("-");
            let _ = writeln!(text, ":{} {policy} [{}:{}]", row.chain, row.packets, row.bytes);
        }
        for row in chains.iter().flat_map(|row| &row.rules) {
            let counted =
                if self.counters { format!("[{}:{}] ", row.packets, row.bytes) } else { String::new() };
            let _ = writeln!(text, "{counted}{}", row.spec);
        }
        text + "COMMIT\n# Completed\n"
    }
}

/// Policies and names of chains, then rules.
fn specifications(chains: &[&ChainRow], counters: bool) -> String {
    let count = |packets: u64, bytes: u64| {
        if counters { format!(" -c {packets} {bytes}") } else { String::new() }
    };
    let mut text = String::new();
    for row in chains {
        let _ = match &row.policy {
            Some(policy) => writeln!(text, "-P {} {policy}{}", row.chain, count(row.packets, row.bytes)),
            None => writeln!(text, "-N {}", row.chain),
        };
    }
    for row in chains.iter().flat_map(|row| &row.rules) {
        // Counters stand before the target.
        let (matches, target) = row.spec.rsplit_once(" -j ").unwrap_or((&row.spec, ""));
        let _ = writeln!(text, "{matches}{} -j {target}", count(row.packets, row.bytes));
    }
    text
}

impl Style {
    fn chain(self, chain: &ChainRow) -> String {
        let name = &chain.chain;
        let mut text = match &chain.policy {
            Some(policy) if self.verbose => {
                let [packets, bytes] = [chain.packets, chain.bytes].map(|count| self.number(count));
                format!("Chain {name} (policy {policy} {packets} packets, {bytes} bytes)\n")
            }
            Some(policy) => format!("Chain {name} (policy {policy})\n"),
            None => format!("Chain {name} ({} references)\n", chain.references),
        };
        text.push_str(if self.numbers { "num  " } else { "" });
        match (self.verbose, self.exact) {
            (true, false) => text.push_str(" pkts bytes "),
            (true, true) => text.push_str("    pkts      bytes "),
            (false, _) => {}
        }
        text.push_str("target     prot opt ");
        text.push_str(if self.verbose { "in     out     " } else { "" });
        text.push_str("source               destination         \n");
        chain.rules.iter().for_each(|row| text.push_str(&self.line(row)));
        text
    }

    /// A line of a chain. Cells that are too long push the others aside.
    fn line(self, row: &RuleRow) -> String {
        let RuleRow { target, prot, input, output, options, .. } = row;
        let mut text = String::new();
        if let Some(number) = row.num.filter(|_| self.numbers) {
            let _ = write!(text, "{number:<4} ");
        }
        let [packets, bytes] = [row.packets, row.bytes].map(|count| self.number(count));
        let _ = match (self.verbose, self.exact) {
            (true, false) => write!(text, "{packets:>5} {bytes:>5} "),
            (true, true) => write!(text, "{packets:>8} {bytes:>8} "),
            (false, _) => Ok(()),
        };
        let _ = write!(text, "{target:<9}  {prot:<4} -- ");
        if self.verbose {
            let [input, output] = [input, output].map(|name| self.worded(name, "*", "any"));
            let _ = write!(text, " {input:<6} {output:<6} ");
        }
        for prefix in [&row.source, &row.destination] {
            let all = if row.family == "ipv6" { "::/0" } else { "0.0.0.0/0" };
            let prefix = self.worded(prefix, all, "anywhere");
            // An exclamation mark stands in the gap before the column.
            let gap = if prefix.starts_with('!') { "" } else { " " };
            let width = 20 - gap.len();
            let _ = write!(text, "{gap}{prefix:<width$} ");
        }
        if !options.is_empty() {
            let _ = write!(text, " {options}");
        }
        text.push('\n');
        text
    }

    /// A cell, with a word for everything unless it is to be numeric.
    fn worded<'a>(self, cell: &'a str, all: &str, word: &'a str) -> &'a str {
        if !self.numeric && cell == all { word } else { cell }
    }

    fn number(self, count: u64) -> String {
        if self.exact { count.to_string() } else { short_number(count) }
    }
}

/// Five digits, or thousands, millions and so on, rounded, with their letter.
pub(in crate::control::show) fn short_number(count: u64) -> String {
    if count <= 99_999 {
        return count.to_string();
    }
    let mut rounded = count;
    for letter in ["K", "M", "G"] {
        rounded = rounded.saturating_add(500) / 1000;
        if rounded <= 9999 {
            return format!("{rounded}{letter}");
        }
    }
    format!("{}T", (rounded + 500) / 1000)
}
