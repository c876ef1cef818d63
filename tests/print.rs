//! Our text for a capture is tcpdump's text for it.
//!
//! Needs tcpdump 4.99.3 (Debian 12); without it, says so and compares nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::tz::TimeZone;
use tapswitch::capture::file::Reader;
use tapswitch::capture::print::{Hex, Options, Printer};
use tapswitch::capture::record::Record;

/// Where captures lie, relative to the package.
const PLACES: &[&str] = &["captures", "tests/print"];

/// What is compared: tcpdump's flags, and the options that shall do the same.
const VARIANTS: &[(&str, Options)] = {
    const PLAIN: Options =
        Options { link: false, verbose: false, hex: Hex::None, no_time: false, interfaces: false };
    &[
        ("plain", PLAIN),
        ("-e", Options { link: true, ..PLAIN }),
        ("-v", Options { verbose: true, ..PLAIN }),
        ("-x", Options { hex: Hex::X, ..PLAIN }),
        ("-e -v", Options { link: true, verbose: true, ..PLAIN }),
    ]
};

#[test]
fn our_text_is_tcpdumps() {
    if Command::new("tcpdump").arg("--version").output().is_err() {
        eprintln!("SKIP: tcpdump is not installed");
        return;
    }
    let captures = captures();
    assert!(!captures.is_empty(), "no captures in {PLACES:?}");
    let excepted = exceptions();
    let mut differences = Vec::new();
    for capture in &captures {
        let name = capture.file_name().unwrap().to_str().unwrap();
        for (variant, options) in VARIANTS {
            let same = compare(capture, variant, *options);
            match (same, excepted.contains(&(name.into(), (*variant).into()))) {
                (Ok(()), false) | (Err(_), true) => {}
                (Ok(()), true) => differences.push(format!("{name} {variant}: is the same, but excepted")),
                (Err(difference), false) => differences.push(format!("{name} {variant}: {difference}")),
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// The first frame whose text differs.
fn compare(capture: &Path, variant: &str, options: Options) -> Result<(), String> {
    let flags = variant.split(' ').filter(|flag| *flag != "plain");
    let mut tcpdump = Command::new("tcpdump");
    let theirs = tcpdump.arg("-n").args(flags).arg("-r").arg(capture).env("TZ", "UTC").output().unwrap();
    let theirs = String::from_utf8_lossy(&theirs.stdout);
    let mut printer = Printer::new(options, TimeZone::UTC);
    let mut ours = String::new();
    for record in records(capture) {
        printer.line(&record, &mut ours);
    }
    if ours == theirs {
        return Ok(());
    }
    let mut lines = ours.lines().zip(theirs.lines()).enumerate();
    let (number, (our, their)) = lines.find(|(_, (our, their))| our != their).unwrap_or((
        ours.lines().count().min(theirs.lines().count()),
        ("(one of them ends here)", "(one of them ends here)"),
    ));
    Err(format!("line {}\n   ours: {our}\n theirs: {their}", number + 1))
}

/// The captures there are, in a fixed order.
fn captures() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found: Vec<_> = PLACES
        .iter()
        .filter_map(|place| fs::read_dir(root.join(place)).ok())
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "pcap" || kind == "pcapng"))
        .collect();
    found.sort();
    found
}

/// File and variant of each exception; the rest of a line is its reason.
fn exceptions() -> BTreeSet<(String, String)> {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/print_exceptions.txt");
    let text = fs::read_to_string(list).unwrap();
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let mut fields = line.split('\t');
            let [file, variant, reason] = std::array::from_fn(|_| fields.next().unwrap_or_default());
            assert!(!reason.is_empty(), "an exception needs file, variant and reason, tabs between: {line}");
            (file.into(), variant.into())
        })
        .collect()
}

fn records(capture: &Path) -> Vec<Record> {
    let mut reader = Reader::open(File::open(capture).unwrap()).unwrap();
    std::iter::from_fn(|| reader.next_record().unwrap()).collect()
}

/// What `captures/NAME.txt` says tcpdump prints is what we print, with or without a tcpdump.
#[test]
fn our_text_is_the_committed_text() {
    let excepted = exceptions();
    let mut compared = 0;
    for capture in captures() {
        let name = capture.file_name().unwrap().to_str().unwrap();
        let Ok(text) = fs::read_to_string(capture.with_extension("txt")) else { continue };
        if excepted.contains(&(name.into(), "plain".into())) {
            continue;
        }
        let mut printer = Printer::new(VARIANTS[0].1, TimeZone::UTC);
        let mut ours = String::new();
        records(&capture).iter().for_each(|record| printer.line(record, &mut ours));
        assert_eq!(ours, text, "{}", capture.display());
        compared += 1;
    }
    assert!(compared >= 15, "only {compared} captures have their text");
}
