//! `capture`, `replay`: what is seen where, in which form, and what is said when it cannot be.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{ChildStderr, Command, Output, Stdio};

use nix::sys::signal::Signal;
use tapswitch::capture::file::Reader;
use tapswitch::capture::record::{Point, Record};

use crate::harness::{Lab, Process, skip, succeeded, text, until};

scenarios! {
    a_port_shows_both_directions
    a_container_shows_all_its_ports
    a_network_shows_each_frame_once
    any_shows_every_point
    drops_have_reasons
    the_text_is_tcpdumps
    written_into_a_pipe
    enough_is_enough
    filters
    what_cannot_be_captured
    a_container_that_joins_a_network_later
    a_full_disk
    a_stalled_reader_loses_and_counts
    a_killed_reader_is_forgotten
    a_capture_ends_with_its_daemon
    a_capture_that_has_lost_some_says_so_when_its_daemon_ends
    replayed
}

/// A capture that runs.
struct Capture {
    process: Process,
    /// What it said before the first frame.
    header: Vec<String>,
    errors: BufReader<ChildStderr>,
    printed: PathBuf,
}

/// What a capture has printed and said.
struct Ended {
    code: Option<i32>,
    lines: Vec<String>,
    /// What it said after the last frame, without empty lines.
    trailer: Vec<String>,
}

impl Capture {
    /// Starts `tapswitch capture` with these words; when it returns, the switch shows it everything.
    fn start(lab: &Lab, words: &str) -> Self {
        let words: Vec<&str> = ["capture"].into_iter().chain(words.split_ascii_whitespace()).collect();
        Self::of(lab, lab.tapswitch(&words))
    }

    fn of(lab: &Lab, mut command: Command) -> Self {
        let printed = lab.path().join(format!("printed-{}", fs::read_dir(lab.path()).unwrap().count()));
        command.stdout(File::create(&printed).unwrap()).stderr(Stdio::piped());
        let mut process = lab.start(command);
        let mut errors = BufReader::new(process.0.stderr.take().unwrap());
        let mut header = Vec::new();
        while header.last().is_none_or(|line: &String| !line.contains("listening on")) {
            let mut line = String::new();
            assert_ne!(errors.read_line(&mut line).unwrap(), 0, "it ended early: {header:?}");
            header.push(line.trim_end().to_owned());
        }
        Self { process, header, errors, printed }
    }

    /// Ends it as Ctrl-C does.
    fn interrupt(self) -> Ended {
        self.process.signal(Signal::SIGINT);
        self.ended()
    }

    /// Waits until it has ended.
    fn ended(mut self) -> Ended {
        let code = self.process.code();
        let mut said = String::new();
        self.errors.read_to_string(&mut said).unwrap();
        let lines = |text: &str| text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        Ended { code, lines: lines(&fs::read_to_string(&self.printed).unwrap()), trailer: lines(&said) }
    }
}

impl Ended {
    /// Asserts that everything was captured and nothing lost.
    #[track_caller]
    fn complete(&self, count: usize) {
        let packets = if count == 1 { "packet" } else { "packets" };
        let expected = [
            format!("{count} {packets} captured"),
            format!("{count} {packets} received by filter"),
            "0 packets dropped by kernel".to_owned(),
        ];
        assert_eq!(self.trailer, expected, "{:#?}", self.lines);
        assert_eq!(self.code, Some(0));
    }

    /// The number in a line of the trailer.
    fn count(&self, of: &str) -> u64 {
        let line = self.trailer.iter().find(|line| line.ends_with(of)).expect(of);
        line.split(' ').next().unwrap().parse().unwrap()
    }
}

/// The records of a file.
fn records(path: &std::path::Path) -> Vec<Record> {
    let mut reader = Reader::open(File::open(path).unwrap()).unwrap();
    std::iter::from_fn(|| reader.next_record().unwrap()).collect()
}

/// Interface and point of each record.
fn points(records: &[Record]) -> Vec<(&str, Point)> {
    records.iter().map(|record| (&*record.interface, record.point.unwrap())).collect()
}

/// `alice` (10.1.0.2) and `bob` (10.1.0.3) on network `net`.
fn alice_and_bob(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create --subnet 10.1.0.0/24 net");
    lab.idle("alice", "net");
    lab.idle("bob", "net");
}

/// Whether tcpdump is there; says so when it is not.
fn has_tcpdump() -> bool {
    let found = Command::new("tcpdump").arg("--version").output().is_ok();
    if !found {
        skip("tcpdump is not installed");
    }
    found
}

fn a_port_shows_both_directions(lab: &Lab) {
    alice_and_bob(lab);
    let file = lab.path().join("alice.pcapng");
    let capture = Capture::start(lab, &format!("-i alice -w {} icmp", file.display()));
    let what = "alice, link-type EN10MB (Ethernet), snapshot length 262144 bytes";
    assert_eq!(capture.header, [format!("tapswitch: listening on {what}")]);
    let lines = Capture::start(lab, "-i bob -t icmp");
    let verbose = "tapswitch: verbose output suppressed, use -v[v]... for full protocol decode";
    assert_eq!(lines.header, [verbose, &format!("listening on {}", what.replace("alice", "bob"))]);
    assert!(lab.pings("alice", "bob"));
    capture.interrupt().complete(2);
    let lines = lines.interrupt();
    lines.complete(2);
    let records = records(&file);
    assert_eq!(points(&records), [("alice", Point::In), ("alice", Point::Out)]);
    assert!(records.iter().all(|record| record.data.len() == 98 && record.wire_len == 98));
    assert!(records[0].time_ns < records[1].time_ns && records[0].packet_id < records[1].packet_id);
    let [request, reply] = &lines.lines[..] else { panic!("{:?}", lines.lines) };
    assert!(request.starts_with("IP 10.1.0.2 > 10.1.0.3: ICMP echo request, id "), "{request}");
    assert!(reply.starts_with("IP 10.1.0.3 > 10.1.0.2: ICMP echo reply, id "), "{reply}");
}

fn a_container_shows_all_its_ports(lab: &Lab) {
    alice_and_bob(lab);
    lab.ok("network create --subnet 10.2.0.0/24 other");
    lab.ok("network connect other alice");
    lab.idle("carol", "other");
    let files = ["alice", "alice:eth1"].map(|what| {
        let file = lab.path().join(format!("{what}.pcapng"));
        (Capture::start(lab, &format!("-i {what} -w {} icmp", file.display())), file)
    });
    assert!(lab.pings("alice", "bob") && lab.pings("alice", "carol"));
    let [all, one] = files.map(|(capture, file)| {
        capture.interrupt();
        records(&file)
    });
    let eth1 = [("alice:eth1", Point::In), ("alice:eth1", Point::Out)];
    assert_eq!(points(&one), eth1);
    assert_eq!(points(&all), [("alice:eth0", Point::In), ("alice:eth0", Point::Out), eth1[0], eth1[1]]);
}

fn a_network_shows_each_frame_once(lab: &Lab) {
    alice_and_bob(lab);
    lab.idle("carol", "net");
    lab.idle("dave", "bridge");
    let bridge = lab.row("network ls", "name", "net")["bridge"].as_str().unwrap().to_owned();
    let captures = ["net:net", &bridge].map(|what| {
        let file = lab.path().join(what.replace(':', "-")).with_extension("pcapng");
        (Capture::start(lab, &format!("-i {what} -w {} icmp or arp[6:2]=1", file.display())), file)
    });
    assert!(lab.pings("alice", "10.1.0.3"));
    assert!(!lab.pings("dave", "10.1.0.2"));
    for (capture, file) in captures {
        capture.interrupt();
        // The ARP request is flooded to two ports, and yet seen once.
        let records = records(&file);
        assert_eq!(
            points(&records)[..3],
            [("alice", Point::In), ("alice", Point::In), ("bob", Point::In)],
            "{}",
            file.display()
        );
        assert!(points(&records)[3..].iter().all(|seen| *seen == ("bob", Point::In)), "its own ARP, perhaps");
        assert_eq!(&records[0].data[..6], [0xff; 6]);
    }
}

fn any_shows_every_point(lab: &Lab) {
    alice_and_bob(lab);
    lab.idle("carol", "net");
    let file = lab.path().join("any.pcapng");
    let filter = "icmp or ether broadcast";
    let capture = Capture::start(lab, &format!("-w {} {filter}", file.display()));
    let lines = Capture::start(lab, &format!("-i any -t {filter}"));
    assert!(lab.pings("alice", "10.1.0.3"));
    capture.interrupt().complete(7);
    let lines = lines.interrupt();
    lines.complete(7);
    let records = records(&file);
    let expected = [
        ("alice", Point::In),
        ("bob", Point::Out),
        ("carol", Point::Out),
        ("alice", Point::In),
        ("bob", Point::Out),
        ("bob", Point::In),
        ("alice", Point::Out),
    ];
    assert_eq!(points(&records), expected);
    // One packet, one id: three sightings of the broadcast, two of each half of the ping.
    let ids: Vec<u64> = records.iter().map(|record| record.packet_id.unwrap()).collect();
    let copies: Vec<usize> = ids.chunk_by(|a, b| a == b).map(<[u64]>::len).collect();
    assert_eq!(copies, [3, 2, 2], "{ids:?}");
    for (line, (port, point)) in lines.lines.iter().zip(expected) {
        let start = format!("{port:5} {:3} ", if point == Point::In { "In" } else { "Out" });
        assert!(line.starts_with(&start), "{line}");
    }
}

fn drops_have_reasons(lab: &Lab) {
    alice_and_bob(lab);
    // Their neighbours are known: a ping is one frame.
    assert!(lab.pings("alice", "bob"));
    lab.ok("network set net -o icc=false");
    let words = ["-i any", "-i alice --drops", "-i net:net --drops", "-i alice", "-i bob --drops"];
    let captures = words.map(|words| {
        let file = lab.path().join(words.replace([' ', ':'], "-")).with_extension("pcapng");
        (Capture::start(lab, &format!("{words} -w {} icmp", file.display())), file)
    });
    let lines = Capture::start(lab, "-i alice --drops -t icmp");
    assert!(!lab.pings("alice", "10.1.0.3"));
    let seen = captures.map(|(capture, file)| {
        let ended = capture.interrupt();
        let records = records(&file);
        ended.complete(records.len());
        records
    });
    for (with_drops, words) in seen[..3].iter().zip(words) {
        assert_eq!(points(with_drops), [("alice", Point::In), ("alice", Point::Drop)], "{words}");
        assert_eq!(with_drops[1].comment.as_deref(), Some("icc"));
        assert_eq!(with_drops[0].packet_id, with_drops[1].packet_id);
    }
    assert_eq!(points(&seen[3]), [("alice", Point::In)]);
    assert!(seen[4].is_empty(), "it never got to bob");
    let lines = lines.interrupt().lines;
    assert!(lines[1].starts_with("alice Drop IP 10.1.0.2 > 10.1.0.3: ") && lines[1].ends_with(" (icc)"));
}

/// A line without its time.
fn masked(line: &str) -> String {
    line.bytes()
        .map(|byte| if byte.is_ascii_digit() { '0' } else { byte.into() })
        .take(15)
        .collect::<String>()
        + line.get(15..).unwrap_or_default()
}

fn the_text_is_tcpdumps(lab: &Lab) {
    if !has_tcpdump() {
        return;
    }
    alice_and_bob(lab);
    let file = |name: &str| lab.path().join(name).display().to_string();
    let files = [file("x.pcapng"), file("x.pcap"), file("x")];
    let writers: Vec<Capture> =
        files.iter().map(|file| Capture::start(lab, &format!("-i alice -w {file}"))).collect();
    let lines = Capture::start(lab, "-i alice -n");
    let verbose = Capture::start(lab, "-i alice -nevxx");
    assert!(lab.pings("alice", "bob"));
    lab.sh("alice", "ping -c2 -i0.01 -s 3000 10.1.0.3; echo hello >/dev/udp/10.1.0.3/9; ping -c1 10.1.0.3");
    // A connection that is refused, without anything but a shell.
    lab.words(&["exec", "alice", "bash", "-c", "echo >/dev/tcp/10.1.0.3/80; echo >/dev/udp/10.1.0.3/81"]);
    let ended: Vec<Ended> = writers.into_iter().map(Capture::interrupt).collect();
    let [lines, verbose] = [lines, verbose].map(|capture| capture.interrupt().lines);
    let tcpdump = |flags: &str, file: &str| {
        let output = Command::new("tcpdump").args([flags, "-r", file]).output().unwrap();
        succeeded(file, &output).lines().map(masked).collect::<Vec<String>>()
    };
    let masked_lines: Vec<String> = lines.iter().map(|line| masked(line)).collect();
    for part in ["Flags [S]", "Flags [R.]", "udp port 81 unreachable"] {
        assert!(lines.iter().any(|line| line.contains(part)), "{part}: {lines:#?}");
    }
    for (file, ended) in files.iter().zip(ended) {
        assert!(lines.len() as u64 >= ended.count("captured"));
        let theirs = tcpdump("-n", file);
        assert_eq!(masked_lines[..theirs.len()], theirs, "{file}");
        assert!(theirs.len() >= 12, "{theirs:#?}");
    }
    let verbose: Vec<String> = verbose.iter().map(|line| masked(line)).collect();
    let theirs = tcpdump("-nevxx", &files[0]);
    assert_eq!(verbose[..theirs.len()], theirs);
}

fn written_into_a_pipe(lab: &Lab) {
    if !has_tcpdump() {
        return;
    }
    alice_and_bob(lab);
    for flags in ["-w -", "-w - --pcapng -U"] {
        let program = lab.program();
        let script = format!("{} capture -i alice {flags} icmp | tcpdump -n -t -r - 2>&1", program.display());
        let capture = Capture::of(lab, lab.command(&["sh", "-c", &script]));
        assert!(lab.pings("alice", "bob"));
        let writer = lab.processes().into_iter().find(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.windows(7).any(|word| word == b"capture") && !line.starts_with(b"sh")
        });
        nix::sys::signal::kill(writer.unwrap(), Signal::SIGINT).unwrap();
        let ended = capture.ended();
        ended.complete(2);
        assert!(ended.lines[0].starts_with("reading from file -, link-type EN10MB (Ethernet)"));
        assert!(ended.lines[1].starts_with("IP 10.1.0.2 > 10.1.0.3: ICMP echo request"), "{flags}");
        assert_eq!(ended.lines.len(), 3);
    }
    // A reader that has seen enough is no mistake.
    let script = format!("{} capture -i alice -l icmp | head -1", lab.program().display());
    let capture = Capture::of(lab, lab.command(&["sh", "-c", &script]));
    assert!(lab.pings("alice", "bob") && lab.pings("alice", "bob"));
    let ended = capture.ended();
    assert_eq!((ended.code, ended.lines.len()), (Some(0), 1));
    assert!(ended.trailer.iter().all(|line| line.contains(" packet")), "{:?}", ended.trailer);
}

fn enough_is_enough(lab: &Lab) {
    alice_and_bob(lab);
    let file = lab.path().join("three.pcap");
    let capture = Capture::start(lab, &format!("-i any -c 3 -s 60 -w {} icmp", file.display()));
    assert!(lab.pings("alice", "bob"));
    let ended = capture.ended();
    assert_eq!((ended.code, ended.count("captured")), (Some(0), 3));
    assert_eq!(ended.count("received by filter"), 4);
    let records = records(&file);
    assert_eq!(
        records.iter().map(|record| (record.data.len(), record.wire_len)).collect::<Vec<_>>(),
        [(60, 98); 3]
    );
    until("the end of the capture", || lab.json("status")[0]["captures"] == 0);
    // An end before the first frame leaves a file that everybody can read.
    for name in ["none.pcap", "none.pcapng"] {
        let file = lab.path().join(name);
        Capture::start(lab, &format!("-i alice -w {}", file.display())).interrupt().complete(0);
        assert_eq!(self::records(&file), []);
        if has_tcpdump() {
            succeeded(name, &Command::new("tcpdump").arg("-r").arg(&file).output().unwrap());
        }
    }
}

fn filters(lab: &Lab) {
    alice_and_bob(lab);
    let mut table = vec![
        ("icmp[icmptype] = icmp-echo", 1),
        ("src host 10.1.0.3 and icmp", 1),
        ("icmp or udp port 9", 2),
        ("tcp[tcpflags] & tcp-syn != 0 or vlan", 0),
        ("ip and not ( net 10.1.0.0/24 )", 0),
    ];
    if has_tcpdump() {
        // Not in our part of the language.
        table.push(("icmp and ip[8] == 64 and not stp", 2));
    }
    let captures: Vec<(Capture, &str, usize)> = table
        .into_iter()
        .map(|(filter, count)| (Capture::start(lab, &format!("-i alice {filter}")), filter, count))
        .collect();
    assert!(lab.pings("alice", "bob"));
    for (capture, filter, count) in captures {
        let ended = capture.interrupt();
        assert_eq!(ended.lines.len(), count, "{filter}: {:?}", ended.lines);
        ended.complete(count);
    }
    for filter in ["frobnicate", "port and and", "tcp port 99999", "icmp )"] {
        let said = lab.refused(&format!("capture -i alice {filter}"));
        assert!(said.contains("filter"), "{said}");
    }
    // Without tcpdump what is not ours is refused, never taken for something else.
    let program = lab.program();
    let words = [
        "unshare",
        "-rm",
        "sh",
        "-ec",
        HIDE_TCPDUMP,
        "sh",
        program.to_str().unwrap(),
        "capture",
        "-i",
        "alice",
        "stp",
    ];
    let output = lab.command(&words).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("'stp'"), "{said}");
}

/// Runs a command where tcpdump is no file that could be run.
const HIDE_TCPDUMP: &str = r#"
    for path in /usr/bin/tcpdump /usr/sbin/tcpdump /usr/local/bin/tcpdump; do
        [ ! -f $path ] || mount --bind /dev/null $path
    done
    exec "$@""#;

fn what_cannot_be_captured(lab: &Lab) {
    alice_and_bob(lab);
    let file = lab.path().join("kept.pcap");
    fs::write(&file, "what was there").unwrap();
    let write = format!("-w {}", file.display());
    for (words, part) in [
        ("-i moon", "there is nothing called 'moon' to capture on"),
        ("-i alice:eth7", "there is nothing called 'alice:eth7' to capture on"),
        ("-i alise", "'alise'"),
        ("-i net:nat", "network nat not found"),
        ("-i alice -i moon", "'moon'"),
    ] {
        let said = lab.refused(&format!("capture {write} {words}"));
        assert!(said.contains(part), "{words}: {said}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "what was there", "refused before anything was written");
    let said = lab.refused_last("capture -i alice -w /nowhere/x.pcap");
    assert_eq!(said, "tapswitch: cannot write /nowhere/x.pcap: No such file or directory (os error 2)");
    let said = lab.refused("capture -r /nowhere.pcap");
    assert!(said.starts_with("cannot read /nowhere.pcap: No such file"), "{said}");
    for usage in ["-c 0", "-r x -i alice", "--no-such-flag", "-D -r x"] {
        assert_eq!(lab.ts(&format!("capture {usage}")).status.code(), Some(2), "{usage}");
    }
    until("the end of all captures", || lab.json("status")[0]["captures"] == 0);
    let listed = lab.ok("capture -D");
    let names: Vec<&str> = listed.lines().map(|line| line.split([' ', '.']).nth(1).unwrap()).collect();
    assert_eq!(names, ["alice", "bob", "net:bridge", "net:net", "any"], "{listed}");
}

fn a_container_that_joins_a_network_later(lab: &Lab) {
    alice_and_bob(lab);
    lab.ok("network create --subnet 10.2.0.0/24 other");
    lab.idle("carol", "other");
    let file = lab.path().join("alice.pcapng");
    let capture = Capture::start(lab, &format!("-i alice -w {} icmp", file.display()));
    assert!(lab.pings("alice", "bob"));
    lab.ok("network connect other alice");
    assert!(lab.pings("alice", "carol"));
    lab.ok("network disconnect net alice");
    assert!(lab.pings("alice", "carol"));
    lab.ok("stop alice");
    capture.interrupt().complete(6);
    let names: Vec<(&str, usize)> = records(&file)
        .chunk_by(|a, b| a.interface == b.interface)
        .map(|seen| (if &*seen[0].interface == "alice" { "alice" } else { "alice:eth1" }, seen.len()))
        .collect();
    assert_eq!(names, [("alice", 2), ("alice:eth1", 2), ("alice", 2)]);
}

fn a_full_disk(lab: &Lab) {
    alice_and_bob(lab);
    let directory = lab.path().join("tiny");
    lab.command(&["mkdir", directory.to_str().unwrap()]).output().unwrap();
    let program = lab.program().display().to_string();
    let mut names = vec!["/dev/full".to_owned()];
    let mut scripts = vec![format!("exec {program} capture -i alice -w /dev/full icmp")];
    if lab.is_root() {
        let name = directory.join("x.pcapng").display().to_string();
        let mount = format!("mount -t tmpfs -o size=32k none {}", directory.display());
        scripts.push(format!("{mount} && exec {program} capture -i alice -w {name} icmp"));
        names.push(name);
    }
    let captures: Vec<Capture> = scripts
        .iter()
        .map(|script| {
            Capture::of(
                lab,
                lab.command(&["unshare", if lab.is_root() { "-m" } else { "-rm" }, "sh", "-c", script]),
            )
        })
        .collect();
    assert!(lab.sh("alice", "ping -q -c40 -i0.002 -s1400 10.1.0.3").status.success());
    for (capture, name) in captures.into_iter().zip(names) {
        let ended = capture.ended();
        assert_eq!(ended.code, Some(1));
        let about: Vec<&String> =
            ended.trailer.iter().filter(|line| line.starts_with("tapswitch: ")).collect();
        assert_eq!(about.len(), 1, "{:?}", ended.trailer);
        let start = format!("tapswitch: cannot write {name} any further: No space left on device");
        assert!(about[0].starts_with(&start), "{}", about[0]);
    }
    assert!(lab.pings("alice", "bob"));
    until("the end of all captures", || lab.json("status")[0]["captures"] == 0);
}

fn a_stalled_reader_loses_and_counts(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create --subnet 10.1.0.0/24 -o mtu=65521 net");
    lab.idle("alice", "net");
    lab.idle("bob", "net");
    let file = lab.path().join("stalled.pcapng");
    let capture = Capture::start(lab, &format!("-i alice -w {} icmp", file.display()));
    capture.process.signal(Signal::SIGSTOP);
    // 48 MB, which is more than may wait for a reader.
    let said = lab.inside("alice", "ping -q -c400 -i0.002 -s60000 10.1.0.3");
    // On a machine that is busy otherwise, a receiver may be late for its own queue once or twice.
    let answered = |line: &str| line.split(' ').nth(3).and_then(|word| word.parse::<u32>().ok());
    let answered = said.lines().find(|line| line.contains(" received")).and_then(answered).unwrap();
    assert!(said.contains("400 packets transmitted") && answered >= 396, "{said}");
    capture.process.signal(Signal::SIGCONT);
    let ended = capture.interrupt();
    let [captured, received, dropped] =
        ["captured", "received by filter", "dropped by kernel"].map(|of| ended.count(of));
    assert_eq!(ended.code, Some(0));
    assert!((400 + u64::from(answered)..=800).contains(&received), "{answered} answers, {received} frames");
    assert!(dropped > 0 && captured > 0, "{:?}", ended.trailer);
    assert_eq!(captured + dropped, received);
    assert_eq!(records(&file).len() as u64, captured);
}

fn a_killed_reader_is_forgotten(lab: &Lab) {
    alice_and_bob(lab);
    let captures = ["-i alice", "-i any"].map(|words| Capture::start(lab, words));
    assert_eq!(lab.json("status")[0]["captures"], 2);
    for capture in &captures {
        capture.process.signal(Signal::SIGSTOP);
        capture.process.signal(Signal::SIGKILL);
    }
    until("the daemon to forget both", || lab.json("status")[0]["captures"] == 0);
    assert!(lab.pings("alice", "bob"));
    let pid = lab.daemon_pid();
    // Two loops, and the thread that saves, stay.
    until("the end of their threads", || fs::read_dir(format!("/proc/{pid}/task")).unwrap().count() == 3);
}

fn a_capture_ends_with_its_daemon(lab: &Lab) {
    alice_and_bob(lab);
    let file = lab.path().join("last.pcapng");
    let capture = Capture::start(lab, &format!("-i alice -w {} icmp", file.display()));
    assert!(lab.pings("alice", "bob"));
    lab.ok("down --all");
    let ended = capture.ended();
    assert_eq!(ended.code, Some(1));
    assert_eq!(ended.trailer.last().unwrap(), "tapswitch: the daemon has ended, and with it the capture");
    assert_eq!((ended.count("captured"), ended.count("received by filter")), (2, 2));
    assert_eq!(records(&file).len(), 2);
}

fn a_capture_that_has_lost_some_says_so_when_its_daemon_ends(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create --subnet 10.1.0.0/24 -o mtu=65521 net");
    lab.idle("alice", "net");
    lab.idle("bob", "net");
    let capture = Capture::start(lab, "-i alice -w /dev/null icmp");
    capture.process.signal(Signal::SIGSTOP);
    // 24 MB, which is more than may wait for a reader.
    lab.inside("alice", "ping -q -c200 -i0.002 -s60000 10.1.0.3");
    let mut down = lab.start(lab.tapswitch(&["down", "--all"]));
    capture.process.signal(Signal::SIGCONT);
    let ended = capture.ended();
    assert_eq!(down.code(), Some(0));
    let [captured, received, dropped] =
        ["captured", "received by filter", "dropped by kernel"].map(|of| ended.count(of));
    assert!(dropped > 0 && captured > 0 && captured + dropped == received, "{:?}", ended.trailer);
    assert_eq!(ended.code, Some(1));
}

fn replayed(lab: &Lab) {
    let captures = concat!(env!("CARGO_MANIFEST_DIR"), "/captures");
    let copy = |name: &str| {
        let path = lab.path().join(name);
        fs::copy(format!("{captures}/{name}"), &path).unwrap();
        path.display().to_string()
    };
    let [ping, toml] = ["ping.pcap", "two-ports.toml"].map(copy);
    let written = |name: &str| {
        let path = lab.path().join(name);
        assert_eq!(lab.ok(&format!("replay {toml} {ping} -w {}", path.display())), "");
        fs::read(path).unwrap()
    };
    let once = written("once.pcapng");
    assert_eq!(once, written("twice.pcapng"));
    assert_eq!(once, fs::read(format!("{captures}/two-ports.pcapng")).unwrap());
    assert_eq!(
        records(&lab.path().join("once.pcapng")).len(),
        records(&lab.path().join("twice.pcapng")).len()
    );
    written("once.pcap");
    let table = lab.ok(&format!("replay {toml} {ping}"));
    assert!(table.starts_with("OUTCOME ") && table.contains("\nPORT "), "{table}");
    assert!(table.contains("\nforwarded "), "{table}");
    let rows = lab.json(&format!("replay {toml} {ping}"));
    let fed: u64 = rows.iter().filter_map(|row| row["records"].as_u64()).sum();
    assert_eq!(fed, records(std::path::Path::new(&ping)).len() as u64);
    let piped = lab.ts(&format!("replay {toml} {ping} -w -"));
    assert_eq!(piped.stdout, once);
    for (words, part) in [
        (format!("{toml} /nowhere.pcap"), "cannot read /nowhere.pcap"),
        (format!("/nowhere.toml {ping}"), "cannot read the lab /nowhere.toml"),
        (format!("lab:moon {ping}"), "'lab:moon'"),
        (format!("{toml} {toml}"), "unknown file format"),
        (format!("{toml} {ping} --at moon"), "No such container: moon"),
        (format!("{toml} {ping} -w /nowhere/x"), "cannot write /nowhere/x"),
        (
            format!("{toml} {ping} -w /dev/full"),
            "cannot write /dev/full any further: No space left on device",
        ),
    ] {
        let said = lab.refused(&format!("replay {words}"));
        assert!(said.contains(part), "{words}: {said}");
    }
    let usage: Output = lab.ts("replay lab:demo");
    assert_eq!(usage.status.code(), Some(2));
}
