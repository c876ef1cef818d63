//! Filters against libpcap: the committed expressions on the committed frames, and random ones.
//!
//! `tests/filter_verdicts.txt` holds what libpcap says: one line for each line of
//! `tests/filter_expressions.txt`, with `1` or `0` for each frame in order, or `refused`. To write it
//! anew after adding expressions or frames:
//!
//! ```text
//! TAPSWITCH_BLESS=1 cargo test --test filter
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "filter/frames.rs"]
mod frames;
#[path = "filter/grammar.rs"]
mod grammar;
#[path = "filter/tcpdump.rs"]
mod tcpdump;

use std::path::{Path, PathBuf};

use frames::Frame;
use proptest::prelude::*;
use tapswitch::capture::filter::{Instruction, Program};

fn data_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn expressions() -> Vec<String> {
    let text = std::fs::read_to_string(data_file("filter_expressions.txt")).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn committed_verdicts() -> Vec<String> {
    static BLESS: std::sync::Once = std::sync::Once::new();
    BLESS.call_once(bless_if_asked);
    let text = std::fs::read_to_string(data_file("filter_verdicts.txt")).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn verdicts_of(program: &Program, frames: &[Frame]) -> Vec<bool> {
    frames.iter().map(|frame| program.matches(&frame.bytes, frame.wire_len)).collect()
}

fn line(verdicts: Option<Vec<bool>>) -> String {
    match verdicts {
        Some(verdicts) => verdicts.into_iter().map(|yes| if yes { '1' } else { '0' }).collect(),
        None => "refused".to_owned(),
    }
}

/// Fails with the names of the frames on which two lines of verdicts differ.
fn assert_same(expression: &str, frames: &[Frame], found: &str, expected: &str) {
    let differing = || {
        let pairs = found.chars().zip(expected.chars()).zip(frames);
        pairs.filter(|((a, b), _)| a != b).map(|(_, frame)| frame.name.as_str()).collect::<Vec<_>>()
    };
    assert!(found == expected, "'{expression}': found {found}, expected {expected}: {:?}", differing());
}

#[test]
fn our_verdicts_are_libpcaps() {
    let (frames, expressions, committed) = (frames::all(), expressions(), committed_verdicts());
    assert!(frames.len() >= 45 && expressions.len() >= 120);
    assert_eq!(expressions.len(), committed.len(), "run once with TAPSWITCH_BLESS=1");
    for (expression, expected) in expressions.iter().zip(&committed) {
        let found = line(Program::compile(expression).ok().map(|program| verdicts_of(&program, &frames)));
        assert_same(expression, &frames, &found, expected);
    }
}

/// Rewrites the committed verdicts from the installed tcpdump, when the environment asks for it.
fn bless_if_asked() {
    if std::env::var_os("TAPSWITCH_BLESS").is_none() {
        return;
    }
    let frames = frames::all();
    let lines = expressions().iter().map(|e| line(tcpdump::verdicts(e, &frames)) + "\n").collect::<String>();
    std::fs::write(data_file("filter_verdicts.txt"), lines).unwrap();
}

#[test]
fn every_frame_and_expression_tells_something() {
    let committed = committed_verdicts();
    let frames = frames::all();
    for (index, frame) in frames.iter().enumerate() {
        let column: Vec<_> = committed.iter().filter_map(|line| line.chars().nth(index)).collect();
        assert!(column.contains(&'0') && column.contains(&'1'), "'{}' is always or never taken", frame.name);
    }
}

#[test]
fn committed_verdicts_are_the_installed_tcpdumps() {
    if !tcpdump::is_installed("committed verdicts against the installed tcpdump") {
        return;
    }
    let frames = frames::all();
    for (expression, expected) in expressions().iter().zip(committed_verdicts()) {
        let direct = tcpdump::verdicts(expression, &frames);
        assert_same(expression, &frames, &line(direct), &expected);
        // Its program in our interpreter: an error here is the interpreter's.
        let ours = tcpdump::compile(expression).map(|program| verdicts_of(&program, &frames));
        assert_same(expression, &frames, &line(ours), &expected);
    }
}

#[test]
fn our_instructions_are_libpcaps() {
    let what = "our instructions against libpcap's";
    if !tcpdump::is_installed(what) || !tcpdump::has_our_libpcap(what) {
        return;
    }
    for expression in expressions() {
        let (ours, theirs) = (Program::compile(&expression).ok(), tcpdump::compile(&expression));
        assert_eq!(text(ours), text(theirs), "'{expression}'");
    }
}

fn text(program: Option<Program>) -> Option<String> {
    program.map(|program| program.to_text())
}

#[test]
fn listings_are_those_of_tcpdump_d() {
    let what = "listings against tcpdump -d";
    if !tcpdump::is_installed(what) || !tcpdump::has_our_libpcap(what) {
        return;
    }
    for expression in expressions() {
        let Ok(program) = Program::compile(&expression) else { continue };
        let output = std::process::Command::new("tcpdump")
            .args(["-y", "EN10MB", "-d", "--", &expression])
            .output()
            .unwrap();
        assert_eq!(program.to_text(), String::from_utf8(output.stdout).unwrap(), "'{expression}'");
    }
}

#[test]
fn far_jumps_reach_their_targets() {
    let frames = frames::all();
    let hosts = |count: usize| {
        let hosts: Vec<_> = (0..count).map(|n| format!("172.16.{}.{}", n / 250, n % 250 + 1)).collect();
        hosts.join(" or ")
    };
    let expression = format!("src host ({}) or port 80 or (udp and not net 192.168.0.0/16)", hosts(400));
    let program = Program::compile(&expression).unwrap();
    assert!(program.instructions().iter().any(|i| i.code == 0x05), "no unconditional jump was needed");
    let short = Program::compile("port 80 or (udp and not net 192.168.0.0/16)").unwrap();
    // None of the frames is from the listed hosts, so only the tail decides; cut-off frames may fall
    // at a load that the short program lacks.
    for frame in frames.iter().filter(|frame| frame.bytes.len() >= 60) {
        let (long, short) = (program.matches(&frame.bytes, 60), short.matches(&frame.bytes, 60));
        assert_eq!(long, short, "{}", frame.name);
    }
    if tcpdump::is_installed("far jumps against libpcap's") {
        let theirs = tcpdump::compile(&expression).unwrap();
        assert_eq!(verdicts_of(&program, &frames), verdicts_of(&theirs, &frames));
    }
}

#[test]
fn what_is_not_taken_is_refused_by_name_and_place() {
    let refusals = [
        ("gateway foo", "'gateway' at column 1: this part of the filter language is not supported here"),
        ("tcp and pppoes", "'pppoes' at column 9: this part of the filter language is not supported here"),
        ("host example.org", "'example.org' at column 6: names are not looked up here; write the address"),
        ("port nosuch", "'nosuch' at column 6: this port name is not known here; write the number"),
        ("port http", "'http' at column 6: systems disagree on this port name; write the number 80"),
        (
            "tcp port domain and ip proto nosuch",
            "'nosuch' at column 30: this protocol name is not known here; write the number",
        ),
        ("1.2.3.4", "'1.2.3.4' at column 1: a bare value needs 'host', 'net', 'port' or the like before it"),
        ("tcp and 80", "'80' at column 9: a bare value needs 'host', 'net', 'port' or the like before it"),
        ("tcp 80", "'80' at column 5: 'and', 'or' or the end was expected"),
        ("tcp and", "end of the expression at column 8: a value was expected"),
        ("(tcp", "end of the expression at column 5: ')' was expected"),
        ("tcp)", "')' at column 4: 'and', 'or' or the end was expected"),
        ("host ((1.2.3.4))", "'(' at column 7: values in two pairs of parentheses are not in the language"),
        ("port 65536", "'65536' at column 6: a port is a number up to 65535"),
        ("port 99999999999", "'99999999999' at column 6: the number needs more than 32 bits"),
        ("port 089", "'089' at column 6: a number that starts with 0 is octal and has no 8 or 9"),
        ("host 1.2.3.256", "'1.2.3.256' at column 6: not an IPv4 address"),
        ("host 1:2:3", "'1:2:3' at column 6: not an address"),
        ("net 10.0.0.1/8", "'10.0.0.1/8' at column 5: bits are set behind the prefix"),
        ("net 10.0.0.0/33", "'10.0.0.0/33' at column 5: an IPv4 prefix has up to 32 bits"),
        ("net fd00::1/64", "'fd00::1/64' at column 5: bits are set behind the prefix"),
        ("net ::/129", "'::/129' at column 5: an IPv6 prefix has up to 128 bits"),
        ("src 10.0.0.0/8", "'10.0.0.0/8' at column 5: a prefix needs 'net'"),
        ("host 02:00:00:00:00:01", "'02:00:00:00:00:01' at column 6: an Ethernet address needs 'ether host'"),
        (
            "tcp host 1.2.3.4",
            "'1.2.3.4' at column 10: only 'ip', 'arp' and 'rarp' can stand before an IPv4 address",
        ),
        ("arp host ::1", "'::1' at column 10: only 'ip6' can stand before an IPv6 address"),
        ("ip port 80", "'80' at column 9: only 'tcp', 'udp' and 'sctp' can stand before a port"),
        ("port 1.2.3.4", "'1.2.3.4' at column 6: an address was not expected here"),
        ("vlan 4096", "'vlan 4096' at column 1: a VLAN has a number up to 4095"),
        (
            "ip broadcast",
            "'ip broadcast' at column 1: needs the netmask of an interface, which is not known here",
        ),
        ("ether", "'ether' at column 1: something must follow, as 'host' or 'proto'"),
        (
            "ether proto 0xe0",
            "'0xe0' at column 13: libpcap looks for this protocol in other ways, which are not supported here",
        ),
        ("tcp[0:3] = 1", "'tcp[0:3]' at column 1: 1, 2 or 4 bytes can be taken"),
        ("tcp[0 = 1", "'=' at column 7: ']' was expected"),
        ("esp[0] = 1", "'esp[0]' at column 1: this header cannot be indexed"),
        ("tcp[0] / 0 = 1", "'tcp[0] / 0' at column 1: divides by zero"),
        ("tcp[0] << 32 = 1", "'tcp[0] << 32' at column 1: shifts by more than 31 bits"),
        ("ip and arp", "'ip and arp' at column 1: no frame can match"),
        ("tcp # é", "'#' at column 5: not a character of the filter language"),
        ("tcp or é", "'é' at column 8: not a character of the filter language"),
    ];
    for (expression, expected) in refusals {
        let error = Program::compile(expression).unwrap_err().to_string();
        let hint = " (tcpdump's full filter language works when tcpdump is installed)";
        assert_eq!(error, format!("filter: {expected}{hint}"), "'{expression}'");
    }
}

#[test]
fn no_expression_is_too_deep_or_too_long_to_refuse() {
    let parentheses = format!("{}tcp{}", "(".repeat(100_000), ")".repeat(100_000));
    let nots = format!("{}tcp", "not ".repeat(100_000));
    let minuses = format!("{}1 = 1", "-".repeat(100_000));
    let sum = format!("{}1 = 1", "1 + ".repeat(1_000));
    let words = format!("tcp{}", " and tcp".repeat(100_000));
    for expression in [parentheses, nots, minuses, sum, words] {
        assert!(Program::compile(&expression).is_err());
    }
}

#[test]
fn the_longest_expression_is_compiled_or_refused() {
    // The alternation nests most deeply of all chains.
    let alternating = format!("tcp{}", " and tcp or udp".repeat(1023));
    assert!(Program::compile(&alternating).is_ok());
    let sum = format!("{}1 = len", "len + ".repeat(60));
    assert!(Program::compile(&sum).is_ok());
}

fn any_instruction() -> impl Strategy<Value = Instruction> {
    let code =
        prop_oneof![0u16..0x100, prop::sample::select(vec![0x15u16, 0x20, 0x28, 0x30, 0x48, 0xb1, 0x05])];
    let k = prop_oneof![0u32..40, any::<u32>()];
    (code, 0u8..6, 0u8..6, k).prop_map(|(code, jt, jf, k)| Instruction { code, jt, jf, k })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_program_or_frame_panics(
        mut program in prop::collection::vec(any_instruction(), 1..30),
        frame in prop::collection::vec(any::<u8>(), 0..80),
        wire_len in any::<usize>(),
    ) {
        program.push(Instruction { code: 0x16, jt: 0, jf: 0, k: 0 });
        // Keep what passes the check, so that most programs run.
        let tail = Instruction { code: 0x06, jt: 0, jf: 0, k: 1 };
        let kept = program.into_iter().filter(|&i| Program::new([vec![i], vec![tail; 40]].concat()).is_ok());
        let kept = kept.chain([tail; 6]).collect::<Vec<_>>();
        if let Ok(program) = Program::new(kept) {
            program.matches(&frame, wire_len);
            prop_assert!(!program.to_text().is_empty());
            let json = serde_json::to_string(&program).unwrap();
            prop_assert_eq!(serde_json::from_str::<Program>(&json).unwrap(), program);
        }
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,40}", words in grammar::words()) {
        let _ = Program::compile(&text);
        let _ = Program::compile(&words);
    }
}

#[test]
fn random_expressions_mean_what_tcpdump_says() {
    let what = "random expressions against tcpdump";
    if !tcpdump::is_installed(what) {
        return;
    }
    let same_instructions = tcpdump::has_our_libpcap("the same instructions for random expressions");
    let frames = frames::all();
    let config = ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = proptest::test_runner::TestRunner::new(config).run(&grammar::expression(), |expression| {
        let (ours, theirs) = (Program::compile(&expression).ok(), tcpdump::compile(&expression));
        let verdicts = |program: &Option<Program>| program.as_ref().map(|p| verdicts_of(p, &frames));
        prop_assert_eq!(verdicts(&ours), verdicts(&theirs), "'{}'", expression);
        if same_instructions {
            prop_assert_eq!(text(ours), text(theirs), "'{}'", expression);
        }
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn random_words_are_taken_only_where_tcpdump_takes_them() {
    if !tcpdump::is_installed("random words against tcpdump") {
        return;
    }
    let frames = frames::all();
    let config = ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = proptest::test_runner::TestRunner::new(config).run(&grammar::words(), |words| {
        if let Ok(ours) = Program::compile(&words) {
            let theirs = tcpdump::compile(&words);
            prop_assert!(theirs.is_some(), "'{}' is refused by tcpdump", words);
            prop_assert_eq!(
                verdicts_of(&ours, &frames),
                verdicts_of(&theirs.unwrap(), &frames),
                "'{}'",
                words
            );
        }
        Ok(())
    });
    outcome.unwrap();
}
