//! The rules of the house, proved on the sources: who may import whom, what the pure modules may not touch,
//! where `unsafe` may stand, how long files and functions are, and what no file of the repository may contain.
//!
//! `cargo test --test house_rules -- --nocapture budgets` prints the figures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod source;

use std::path::{Path, PathBuf};

use source::{Function, PathUse, Source};

/// Which parts of the package a part may name; `"*"` is all of them. Parts are the files and directories of src/.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("dataplane", &["wire"]),
    ("flows", &["wire", "dataplane::Instant"]),
    ("capture", &["wire"]),
    ("control", &["wire", "dataplane", "capture"]),
    ("io", &["wire", "dataplane", "flows", "capture", "control"]),
    ("container", &["wire", "io::sys", "io::netns", "io::helper"]),
    ("adapters", &["wire", "control"]),
    ("daemon", &["wire", "dataplane", "flows", "capture", "control", "io", "adapters"]),
    ("cli", &["*"]),
    ("lib", &["*"]),
    ("main", &["*"]),
];

/// Same inputs, same bytes, on any machine: no clock, randomness, socket, file, log line, unordered iteration.
const PURE: &[&str] = &["wire", "dataplane", "flows", "capture", "control"];

/// Paths that a pure module may not name, wherever the words stand in a longer path.
const IMPURE: &[&str] = &[
    "Instant::now",
    "SystemTime",
    "UNIX_EPOCH",
    "Timestamp::now",
    "Zoned::now",
    "RandomState",
    "collections::HashMap",
    "collections::HashSet",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "UnixDatagram",
    "ToSocketAddrs",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::os",
    "io::stdin",
    "io::stdout",
    "io::stderr",
    "println",
    "eprintln",
];

/// Crates whose every use is impure.
const IMPURE_CRATES: &[&str] = &[
    "crossbeam_channel",
    "fastrand",
    "getrandom",
    "log",
    "mio",
    "netlink_sys",
    "nix",
    "rand",
    "tracing",
    "tun_tap",
];

/// The only places for `unsafe`: one file per kernel facility, the counting allocator of a test, and the
/// system calls that a test tries to see them refused.
const MAY_BE_UNSAFE: &[&str] = &["src/io/sys/", "tests/no_alloc.rs", "tests/confine.rs"];

/// Tests of what no descriptor tells (a file in /proc, a counter): one helper asks again until a condition
/// holds or a deadline passes. Nothing else in them sleeps.
const MAY_SLEEP: &[&str] = &["tests/container.rs", "tests/taps/main.rs"];

const MAX_FUNCTION_LINES: usize = 80;
const P90_FUNCTION_LINES: usize = 30;
const MAX_FILE_LINES: usize = 600;

/// Budgets broken on purpose: `("src/file.rs", "function" or "", "the reason")`.
const BROKEN_WITH_A_REASON: &[(&str, &str, &str)] = &[];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of the repository, relative to its root, in order; what is built or belongs to git left out.
fn repository() -> Vec<String> {
    fn walk(directory: &Path, root: &Path, files: &mut Vec<String>) {
        for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let kind = entry.file_type().unwrap();
            match entry.file_name().to_str().unwrap() {
                ".git" | "target" => {}
                _ if kind.is_dir() => walk(&path, root, files),
                _ if kind.is_file() => {
                    files.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned())
                }
                _ => {}
            }
        }
    }
    let mut files = Vec::new();
    walk(&root(), &root(), &mut files);
    files.sort();
    files
}

fn rust_files() -> Vec<Source> {
    let files = repository();
    files.iter().filter(|path| path.ends_with(".rs")).map(|path| Source::read(&root(), path)).collect()
}

/// Fails with one line per violation.
fn assert_none(rule: &str, violations: impl IntoIterator<Item = String>) {
    let lines: Vec<String> = violations.into_iter().collect();
    assert!(lines.is_empty(), "{rule}:\n  {}", lines.join("\n  "));
}

/// The imports of the file that its part may not have.
fn forbidden_imports(source: &Source) -> Vec<String> {
    let Some(inside) = source.path.strip_prefix("src/") else { return Vec::new() };
    let part = inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs");
    let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == part) else {
        return vec![format!("{}: '{part}' has no place in MAY_IMPORT", source.path)];
    };
    let ours = source.paths().into_iter().filter(|used| !used.test && used.segments.len() > 1);
    let ours = ours.filter(|used| ["crate", "tapswitch"].contains(&used.segments[0].as_str()));
    let permitted = |used: &PathUse| {
        let target = used.segments[1..].join("::") + "::";
        allowed.iter().chain([&part]).any(|name| *name == "*" || target.starts_with(&format!("{name}::")))
    };
    ours.filter(|used| !permitted(used))
        .map(|used| format!("{}:{}: {}", source.path, used.line, used.segments.join("::")))
        .collect()
}

/// The clocks, sockets, files and messages that a file of a pure part names outside its tests.
fn impurities(source: &Source) -> Vec<String> {
    if !source.module().first().is_some_and(|part| PURE.contains(part)) {
        return Vec::new();
    }
    let impure = |used: &PathUse| {
        let path = format!("::{}::", used.segments.join("::"));
        let crate_used = used.segments.len() > 1 && IMPURE_CRATES.contains(&used.segments[0].as_str());
        crate_used || IMPURE.iter().any(|name| path.contains(&format!("::{name}::")))
    };
    let found = source.paths().into_iter().filter(|used| !used.test && impure(used));
    found.map(|used| format!("{}:{}: {}", source.path, used.line, used.segments.join("::"))).collect()
}

/// Lines of the file on which `words` stand one after the other.
fn lines_with(source: &Source, words: &[&str], tests_only: bool) -> Vec<String> {
    let here =
        |index: usize| words.iter().enumerate().all(|(offset, word)| source.text(index + offset) == *word);
    let found =
        source.tokens.iter().enumerate().filter(|(index, token)| here(*index) && (token.test || !tests_only));
    found.map(|(_, token)| format!("{}:{}", source.path, token.line)).collect()
}

#[test]
fn imports_point_downwards_only() {
    assert_none("imports against the order of MAY_IMPORT", rust_files().iter().flat_map(forbidden_imports));
}

#[test]
fn pure_modules_stay_pure() {
    let sources = rust_files();
    assert_none("impure names in a pure module", sources.iter().flat_map(impurities));
    let pure = || {
        sources.iter().filter(|source| PURE.contains(&source.module().first().copied().unwrap_or_default()))
    };
    let macros = ["print", "eprint", "dbg"].map(|name| [name, "!"]);
    let prints = macros.iter().flat_map(|words| pure().flat_map(|source| lines_with(source, words, false)));
    assert_none("a pure module prints", prints);
}

#[test]
fn unsafe_stands_only_in_its_places() {
    let sources = rust_files();
    let elsewhere = sources.iter().filter(|s| !MAY_BE_UNSAFE.iter().any(|place| s.path.starts_with(place)));
    assert_none("`unsafe` outside src/io/sys/", elsewhere.flat_map(|s| lines_with(s, &["unsafe"], false)));
}

#[test]
fn tests_neither_sleep_nor_hide() {
    let sources = rust_files();
    let may_not = sources.iter().filter(|source| !MAY_SLEEP.contains(&source.path.as_str()));
    let sleeps = may_not.flat_map(|s| lines_with(s, &["thread", "::", "sleep"], true));
    assert_none("a test sleeps: await the condition instead", sleeps);
    let ignored = sources.iter().flat_map(|s| lines_with(s, &["#", "[", "ignore"], false));
    assert_none("an ignored test", ignored);
}

#[test]
fn nothing_is_left_to_do() {
    let sources = rust_files();
    let stubs = ["todo", "unimplemented"].map(|name| [name, "!"]);
    let found = stubs.iter().flat_map(|words| sources.iter().flat_map(|s| lines_with(s, words, false)));
    assert_none("a stub", found);
}

/// A place on somebody's machine says nothing to the next reader. (In pieces, or this file would name it.)
#[test]
fn no_file_names_a_place_on_one_machine() {
    let places =
        [concat!("/wo", "rk/"), concat!("/tmp/", "wt"), concat!("/ho", "me/"), concat!("/Us", "ers/")];
    let mut found = Vec::new();
    for path in repository() {
        let bytes = std::fs::read(root().join(&path)).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for (number, line) in text.lines().enumerate() {
            if places.iter().any(|place| line.contains(place)) {
                found.push(format!("{path}:{}", number + 1));
            }
        }
    }
    assert_none("a path of one machine", found);
}

#[test]
fn dependencies_come_from_the_public_index() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let sources = lock.lines().filter(|line| line.starts_with("source = "));
    let index = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    assert_none("a dependency from elsewhere", sources.filter(|line| *line != index).map(str::to_owned));
}

#[test]
fn every_capture_is_explained() {
    let files = repository();
    let captures = files.iter().filter_map(|path| path.strip_prefix("captures/"));
    let mut captures = captures.filter(|name| *name != "README.md").peekable();
    if captures.peek().is_none() {
        return;
    }
    let readme = std::fs::read_to_string(root().join("captures/README.md")).unwrap();
    assert_none(
        "not in captures/README.md",
        captures.filter(|name| !readme.contains(name)).map(str::to_owned),
    );
}

/// What `budgets` prints and checks.
struct Budgets {
    code_lines: usize,
    /// Functions outside tests, shortest first, with the file they stand in.
    functions: Vec<(String, Function)>,
    long_files: Vec<(String, usize)>,
    unwraps: usize,
    tests: usize,
}

impl Budgets {
    fn of(sources: &[Source]) -> Self {
        let ours = || sources.iter().filter(|s| s.path.starts_with("src/"));
        let mut functions: Vec<(String, Function)> = ours()
            .flat_map(|s| s.functions().into_iter().filter(|f| !f.test).map(|f| (s.path.clone(), f)))
            .collect();
        functions.sort_by_key(|(_, function)| function.lines);
        let lines = |s: &Source| (s.path.clone(), s.code_lines(false));
        let unwraps = ["unwrap", "expect"].map(|name| [".", name, "("]);
        let outside_tests = |s: &Source| {
            let count = |words| lines_with(s, words, false).len() - lines_with(s, words, true).len();
            unwraps.iter().map(|words| count(words)).sum::<usize>()
        };
        Self {
            code_lines: ours().map(|s| s.code_lines(false)).sum(),
            functions,
            long_files: sources.iter().map(lines).filter(|(_, lines)| *lines > MAX_FILE_LINES).collect(),
            unwraps: ours().map(outside_tests).sum(),
            tests: sources.iter().map(|s| lines_with(s, &["#", "[", "test", "]"], false).len()).sum(),
        }
    }

    fn p90(&self) -> usize {
        self.functions.get(self.functions.len() * 9 / 10).map_or(0, |(_, function)| function.lines)
    }

    fn long_functions(&self) -> impl Iterator<Item = &(String, Function)> {
        self.functions.iter().filter(|(_, function)| function.lines > MAX_FUNCTION_LINES)
    }

    fn report(&self) -> String {
        let longest =
            self.functions.iter().rev().take(3).map(|(path, f)| format!("{path} {} {}", f.name, f.lines));
        let per_kloc = |count: usize| count as f64 * 1000.0 / self.code_lines.max(1) as f64;
        format!(
            "budgets: {} lines of code; functions {}, p90 {} lines (aim {P90_FUNCTION_LINES}), longest: {}; \
             files above {MAX_FILE_LINES} lines: {}; unwraps {:.1}/kLOC; tests {} = {:.1}/kLOC (aim 20)",
            self.code_lines,
            self.functions.len(),
            self.p90(),
            longest.collect::<Vec<_>>().join(", "),
            self.long_files.len(),
            per_kloc(self.unwraps),
            self.tests,
            per_kloc(self.tests),
        )
    }
}

#[test]
fn budgets() {
    let budgets = Budgets::of(&rust_files());
    println!("{}", budgets.report());
    let functions =
        budgets.long_functions().map(|(path, function)| (path, function.name.as_str(), function.lines));
    let files = budgets.long_files.iter().map(|(path, lines)| (path, "", *lines));
    let broken = functions.chain(files).filter(|(path, name, _)| {
        !BROKEN_WITH_A_REASON.iter().any(|(file, function, _)| file == path && function == name)
    });
    assert_none("too long", broken.map(|(path, name, lines)| format!("{path} {name}: {lines} lines")));
    assert!(budgets.p90() <= P90_FUNCTION_LINES, "functions grow: p90 is {} lines", budgets.p90());
}

/// The rules catch what they are for, and nothing else.
mod the_rules_themselves {
    use super::*;

    #[test]
    fn imports_are_found_however_written() {
        let upwards =
            "use crate::{wire::MacAddr, dataplane::{self, fdb}};\nfn f() { super::super::io::tap::open() }";
        let found = forbidden_imports(&Source::new("src/dataplane/bridge.rs", upwards));
        assert_eq!(found, ["src/dataplane/bridge.rs:2: crate::io::tap::open"]);
        let found = forbidden_imports(&Source::new("src/wire/mac.rs", upwards));
        assert_eq!(found.len(), 3, "{found:?}");
        let parts = "use crate::io;\nuse crate::io::{netns, sys::pidfd, tap};";
        let found = forbidden_imports(&Source::new("src/container/init.rs", parts));
        assert_eq!(found, ["src/container/init.rs:1: crate::io", "src/container/init.rs:2: crate::io::tap"]);
        let unknown = forbidden_imports(&Source::new("src/extra.rs", ""));
        assert_eq!(unknown, ["src/extra.rs: 'extra' has no place in MAY_IMPORT"]);
    }

    #[test]
    fn tests_and_comments_may_name_anything() {
        let text = "// crate::io\n/// crate::io\nfn f() { \"crate::io\"; }\n#[cfg(test)]\nmod tests { use crate::io::tap; }";
        assert_eq!(forbidden_imports(&Source::new("src/wire/mac.rs", text)), Vec::<String>::new());
    }

    #[test]
    fn impure_names_are_found() {
        let text = "use std::{fs, net::Ipv4Addr, time::Instant};\nfn f(now: Instant) { Instant::now(); println!(\"\"); }";
        let found = impurities(&Source::new("src/dataplane/fdb.rs", text));
        let expected = ["1: std::fs", "2: Instant::now", "2: println"];
        assert_eq!(found, expected.map(|line| format!("src/dataplane/fdb.rs:{line}")));
        assert_eq!(impurities(&Source::new("src/io/tap.rs", text)), Vec::<String>::new());
    }

    #[test]
    fn functions_and_lines_are_counted() {
        let text = "/// Doc.\nfn one<const N: usize>(a: [u8; N]) {\n\n    // note\n    f(|| { 1 });\n}\ntrait T { fn two(&self); }\n\
                    #[cfg(test)]\nmod tests {\n    #[test]\n    fn three() {}\n}\n";
        let source = Source::new("src/wire/x.rs", text);
        let functions: Vec<_> = source.functions().into_iter().map(|f| (f.name, f.lines, f.test)).collect();
        assert_eq!(functions, [("one".to_owned(), 5, false), ("three".to_owned(), 1, true)]);
        assert_eq!((source.code_lines(false), source.code_lines(true)), (4, 5));
    }
}
