//! Transcripts: lines as somebody typed them in `tapswitch shell`, and what was printed.
//!
//! A file has sections, `== NAME`. In one, `$ LINE` is typed in the shell and `NAME# LINE` in a container;
//! what follows is what was printed to standard output. Compared is what is left after [`mask`]: what
//! differs from one run, machine or version of a tool to the next has no place in it.

use std::process::Output;
use std::sync::LazyLock;

use regex::Regex;

use crate::harness::{Lab, text};

/// What is typed, where, and what it prints.
struct Step {
    container: Option<String>,
    line: String,
    printed: String,
}

/// The text of a section.
#[track_caller]
pub(crate) fn section<'a>(file: &'a str, name: &str) -> &'a str {
    let head = format!("== {name}\n");
    let rest = file.split_once(&head).unwrap_or_else(|| panic!("no section {name}")).1;
    rest.split_once("\n== ").map_or(rest, |(section, _)| section)
}

fn steps(section: &str) -> Vec<Step> {
    static PROMPT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^(?:\$|([a-z0-9-]+)#) (.*)$").unwrap());
    let mut steps: Vec<Step> = Vec::new();
    for line in section.lines() {
        if let Some(found) = PROMPT.captures(line) {
            let container = found.get(1).map(|name| name.as_str().to_owned());
            steps.push(Step { container, line: found[2].to_owned(), printed: String::new() });
        } else {
            let step = steps.last_mut().expect("a section begins with a line that is typed");
            step.printed += &format!("{line}\n");
        }
    }
    steps
}

impl Lab {
    /// Starts a daemon whose network `bridge` is 172.17.0.0/16, whatever the machine has there.
    #[track_caller]
    pub(crate) fn docker0(&self) {
        self.daemon("--bip 172.17.0.1/16");
    }

    /// Types a line in `tapswitch shell`.
    pub(crate) fn types(&self, line: &str) -> Output {
        self.words(&["shell", "-c", line])
    }

    /// Types what a section says, and compares what is printed.
    #[track_caller]
    pub(crate) fn replays(&self, file: &str, name: &str) {
        for step in steps(section(file, name)) {
            let output = match &step.container {
                None => self.types(&step.line),
                Some(container) => self.types(&format!("docker exec {container} sh -c '{}'", step.line)),
            };
            let (printed, said) = (text(&output.stdout), text(&output.stderr));
            assert_eq!(mask(&printed), mask(&step.printed), "{}\n{printed}{said}", step.line);
        }
    }
}

/// What a text says whatever the run, the machine and the tool's version.
pub(crate) fn mask(text: &str) -> String {
    static MASKS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        let masks = [
            // Ids; MAC addresses that Docker draws; veths.
            (r"\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b", "<ID>"),
            (r"02:42:[0-9a-f:]{5}:[0-9a-f]{2}:[0-9a-f]{2}", "<MAC>"),
            (r"\bveth[0-9a-f]{7}\b", "<VETH>"),
            // A network of ours that has no IPv6 has none at all.
            (r"^ *inet6 fe80::.*\n.*valid_lft.*\n", ""),
            (r#"("Created": )"[^"]*""#, "$1<TIME>"),
            // Keys that Docker has got since.
            (r#""ConfigFrom": \{[^}]*\},|"ConfigOnly": false,"#, ""),
            // Times.
            (r"\d+(\.\d+)?(/[\d.]+)* ?ms\b", "<TIME> ms"),
            // Of a hop's three probes, kernels answer as many as their limit for errors permits.
            (r"^( *\d+ +[\d.]+)( +(<TIME> ms|\*))+ *$", "$1 <TIMES>"),
            (r"^\d\d:\d\d:\d\d\.\d{6} ", ""),
            (r"\bid \d+,", "id <ID>,"),
            (r"Less than a second|About a minute|\d+ (seconds?|minutes?)", "<TIME>"),
            // Counters of iptables.
            (r"^ *\d+[KMG]? +\d+[KMG]? ", ""),
            (r"\d+[KMG]? packets, \d+[KMG]? bytes", "<COUNTERS>"),
            // What is the kernel's own: numbers of interfaces, queues; we have TAPs, Docker has veths.
            (r"^\d+: ", ""),
            (r"@if\d+", ""),
            (r" qdisc \S+", ""),
            (r" state (UP|UNKNOWN)\b", ""),
            (r" qlen \d+", ""),
            (r" brd \d\S+", ""),
            (r" link-netnsid \d+", ""),
            (r" +", " "),
        ];
        masks.map(|(find, mask)| (Regex::new(&format!("(?m){find}")).unwrap(), mask)).into()
    });
    let mut text = own_chains_left_out(text);
    for (find, mask) in MASKS.iter() {
        text = find.replace_all(&text, *mask).into_owned();
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Listings of rules without what we do by rules and Docker does otherwise: its proxy for hairpins.
fn own_chains_left_out(text: &str) -> String {
    let paragraphs = text.split("\n\n").filter(|paragraph| !paragraph.contains("Chain TAPSWITCH-"));
    let text = paragraphs.collect::<Vec<_>>().join("\n\n");
    let lines = text
        .lines()
        .filter(|line| !line.contains("TAPSWITCH-") && !line.trim_end().ends_with("ctstate DNAT"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

#[test]
fn what_is_masked_and_what_is_not() {
    for (text, masked) in [
        ("f680c6aff70a   bridge\n", "<ID> bridge\n"),
        ("docker0\t8000.02427f0e6490\tno\n", "docker0\t8000.<ID>\tno\n"),
        (
            "64 bytes from 172.17.0.1: icmp_seq=1 ttl=64 time=0.156 ms",
            "64 bytes from 172.17.0.1: icmp_seq=1 ttl=64 time=<TIME> ms\n",
        ),
        ("rtt min/avg/max/mdev = 0.075/0.116/0.156/0.033 ms", "rtt min/avg/max/mdev = <TIME> ms\n"),
        ("    2   144 DOCKER     all  --  *\n", "DOCKER all -- *\n"),
        (
            "2 packets transmitted, 0 received, time 4075ms",
            "2 packets transmitted, 0 received, time <TIME> ms\n",
        ),
        (" 2  172.20.0.2  0.041 ms  1.615 ms *", "2 172.20.0.2 <TIMES>\n"),
        (" 2  *", "2 *\n"),
        ("Up 20 seconds   0.0.0.0:8000->80/tcp", "Up <TIME> 0.0.0.0:8000->80/tcp\n"),
    ] {
        assert_eq!(mask(text), masked);
    }
    assert_ne!(mask("ttl=63"), mask("ttl=64"));
}
