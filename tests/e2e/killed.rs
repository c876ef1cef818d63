//! Commands at random, a daemon that is killed at random, and what must be so when the next one has started.
//!
//! The model is naive: a set of facts, as people would write them down ("container a", "a on net1"). A command that
//! succeeded has changed it; one that failed has changed all of its part or none. The seed is always the same, but
//! not the moment at which a process is killed.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::poll::{PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::harness::{Lab, Process, is_alive, until};

scenarios! {
    random_commands_and_kills_leave_what_was_answered
}

/// How long there are new rounds.
const TIME: Duration = Duration::from_secs(12);
/// None that an id could begin with.
const CONTAINERS: [&str; 4] = ["v", "w", "x", "y"];
const NETWORKS: [&str; 3] = ["n0", "n1", "n2"];
/// Namespaces of somebody else's.
const PLUGGED: [&str; 2] = ["p", "q"];

type Facts = BTreeSet<String>;

/// Xorshift (Marsaglia 2003): the same numbers on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(limit).unwrap()).unwrap()
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }
}

/// A command, and what it changes.
struct Step {
    line: String,
    /// Whom it is about: two steps of a round are about others.
    about: Vec<String>,
    gone: Vec<String>,
    new: Vec<String>,
}

impl Step {
    fn draw(random: &mut Random, pids: &[Pid; 2], facts: &Facts) -> Self {
        let (name, network) = (random.of(&CONTAINERS), random.of(&NETWORKS));
        let plugged = random.below(2);
        let place = PLUGGED[plugged];
        let of = |what: &str| facts.iter().filter(|fact| fact.starts_with(what)).cloned().collect::<Vec<_>>();
        let (line, about, gone, new) = match random.below(14) {
            0 | 1 => {
                let subnet = network.trim_start_matches('n');
                let line = format!("network create --subnet 10.{subnet}.0.0/24 {network}");
                (line, vec![network], vec![], vec![format!("network {network}")])
            }
            2 => (format!("network rm {network}"), vec![network], vec![format!("network {network}")], vec![]),
            3..=5 => {
                let new = vec![format!("container {name}"), format!("{name} on {network}")];
                (format!("run -d --name {name} --network {network}"), vec![name, network], vec![], new)
            }
            6 => {
                let gone = [vec![format!("container {name}")], of(&format!("{name} "))].concat();
                (format!("rm -f {name}"), vec![name], gone, vec![])
            }
            7 => {
                let new = vec![format!("{name} on {network}")];
                (format!("network connect {network} {name}"), vec![name, network], vec![], new)
            }
            8 => {
                let gone = vec![format!("{name} on {network}")];
                (format!("network disconnect {network} {name}"), vec![name, network], gone, vec![])
            }
            9 => {
                let new = vec![format!("container {place}"), format!("{place} on {network}")];
                let line = format!("plug {place} --network {network} --pid {}", pids[plugged]);
                (line, vec![place, network], vec![], new)
            }
            10 => {
                let gone = [vec![format!("container {place}")], of(&format!("{place} "))].concat();
                (format!("unplug {place}"), vec![place], gone, vec![])
            }
            11 => {
                let port = 8000 + CONTAINERS.iter().position(|it| *it == name).unwrap();
                let new = vec![format!("{name} publishes")];
                (format!("publish {name} {port}:80"), vec![name], vec![], new)
            }
            way => {
                let number = network.trim_start_matches('n');
                let route = format!("198.51.{number}.0/24");
                let (line, gone, new) = match way {
                    12 => (
                        format!("route add {route} via 10.{number}.0.9"),
                        vec![],
                        vec![format!("route {route}")],
                    ),
                    _ => (format!("route del {route}"), vec![format!("route {route}")], vec![]),
                };
                (line, vec![network], gone, new)
            }
        };
        let about = about.into_iter().map(str::to_owned).collect();
        Self { line, about, gone, new }
    }

    /// The facts that it changes, as they are when it is done.
    fn after(&self, facts: &Facts) -> Facts {
        let left = facts.iter().filter(|fact| !self.gone.contains(fact)).cloned();
        left.chain(self.new.iter().cloned()).collect()
    }
}

/// What is so, by the switch's own listings.
fn observe(lab: &Lab) -> Facts {
    let mut facts = Facts::new();
    for row in lab.json("network ls") {
        let name = row["name"].as_str().unwrap();
        if NETWORKS.contains(&name) {
            facts.insert(format!("network {name}"));
        }
    }
    for row in lab.json("ps") {
        let name = row["name"].as_str().unwrap();
        facts.insert(format!("container {name}"));
        let networks = row["networks"].as_str().unwrap().split(',').filter(|it| !it.is_empty());
        facts.extend(networks.map(|network| format!("{name} on {network}")));
        facts.extend((row["ports"] != "").then(|| format!("{name} publishes")));
    }
    facts.extend(lab.json("route ls").iter().map(|row| format!("route {}", row["prefix"].as_str().unwrap())));
    facts
}

/// Starts commands of which no two are about the same, kills the daemon among them, and then perhaps the supervisor
/// of a container that none of them is about: who succeeded, and whose supervisor that was.
fn round(lab: &Lab, random: &mut Random, steps: &[Step]) -> (Vec<bool>, Option<String>) {
    let is_free = |row: &Value| {
        let name = row["name"].as_str().unwrap();
        CONTAINERS.contains(&name) && steps.iter().all(|step| step.about.iter().all(|who| who != name))
    };
    let victim = lab.json("ps").into_iter().find(is_free).filter(|_| random.below(3) == 0);
    let daemon = lab.daemon_pid();
    let start = |step: &Step| {
        let words: Vec<&str> = step.line.split(' ').collect();
        let mut command = lab.tapswitch(&words);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        lab.start(command)
    };
    let mut commands: Vec<Process> = steps.iter().map(start).collect();
    if random.below(2) == 0 {
        let first = random.below(commands.len());
        commands[first].0.wait().unwrap();
    } else {
        poll(&mut [], PollTimeout::from(u8::try_from(random.below(120)).unwrap())).unwrap();
    }
    let signal = if random.below(5) == 0 { Signal::SIGTERM } else { Signal::SIGKILL };
    kill(daemon, signal).unwrap();
    until("the daemon's end", || !is_alive(daemon));
    let done = commands.iter_mut().map(|command| command.0.wait().unwrap().success()).collect();
    let victim = victim.map(|row| {
        let init = pid_of(&row);
        kill(crate::restart::parent_of(init), Signal::SIGKILL).unwrap();
        until("its container's end", || !is_alive(init));
        row["name"].as_str().unwrap().to_owned()
    });
    (done, victim)
}

fn pid_of(row: &Value) -> Pid {
    Pid::from_raw(i32::try_from(row["pid"].as_i64().unwrap()).unwrap())
}

/// The next daemon is there, and has all that waited for it.
fn next(lab: &Lab) {
    // A 'run' that found none may have started it.
    if !lab.ts("daemon -d").status.success() {
        lab.ok("status");
    }
    until("every port to be up", || lab.json("show ports").iter().all(|row| row["state"] == "up"));
    // What could not be started has ended, and its name is wanted again.
    for row in lab.json("ps -a").iter().filter(|row| row["state"] != "running") {
        lab.ok(&format!("rm -f {}", row["name"].as_str().unwrap()));
    }
}

/// What holds whatever was asked.
fn check(lab: &Lab) {
    let ports = lab.json("show ports");
    let mut taken = BTreeSet::new();
    for row in &ports {
        for key in ["ip", "mac"] {
            assert!(taken.insert((row["network"].to_string(), row[key].to_string())), "twice: {ports:#?}");
        }
    }
    let containers = lab.json("ps");
    for row in &containers {
        assert!(is_alive(pid_of(row)), "a container without a process: {row}");
    }
    let ours = containers.iter().filter(|row| CONTAINERS.contains(&row["name"].as_str().unwrap())).count();
    until("who is not known to end", || {
        let entries = std::fs::read_dir(lab.socket().with_extension("d")).unwrap().flatten();
        entries.filter(|entry| is_alive(crate::restart::noted(&entry.path()))).count() == ours
    });
}

/// Ids of what has one.
fn ids(lab: &Lab) -> BTreeSet<(String, String)> {
    let rows = [lab.json("ps"), lab.json("network ls")].concat();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    rows.iter().map(|row| (text(&row["name"]), text(&row["id"]))).collect()
}

fn random_commands_and_kills_leave_what_was_answered(lab: &Lab) {
    lab.daemon("");
    let foreign = [lab.foreign(), lab.foreign()];
    let pids = [foreign[0].pid(), foreign[1].pid()];
    let mut random = Random(0x5eed_0f7a_b001);
    let (start, mut facts) = (Instant::now(), observe(lab));
    let mut rounds = 0;
    while rounds < 3 || start.elapsed() < TIME {
        rounds += 1;
        let mut steps: Vec<Step> = Vec::new();
        for _ in 0..8 {
            let step = Step::draw(&mut random, &pids, &facts);
            let is_free = |who: &String| steps.iter().all(|other| !other.about.contains(who));
            if step.about.iter().all(is_free) {
                steps.push(step);
            }
        }
        let before = ids(lab);
        let (done, victim) = round(lab, &mut random, &steps);
        next(lab);
        let seen = observe(lab);
        let mut expected = facts.clone();
        if let Some(name) = &victim {
            let of = format!("{name} ");
            expected.retain(|fact| !fact.starts_with(&of) && *fact != format!("container {name}"));
        }
        for (step, done) in steps.iter().zip(&done) {
            let after = step.after(&expected);
            let touched: Facts = after.symmetric_difference(&expected).cloned().collect();
            let of = |all: &Facts| all.intersection(&touched).cloned().collect::<Facts>();
            let is_after = of(&seen) == of(&after);
            assert!(is_after || !done, "round {rounds}: '{}' succeeded: {seen:?}", step.line);
            if is_after {
                expected = after;
            }
        }
        let lines: Vec<_> = steps.iter().map(|step| &step.line).zip(&done).collect();
        assert_eq!(seen, expected, "round {rounds}: {lines:?}, killed {victim:?}, after {facts:?}");
        let now = ids(lab);
        let about = steps.iter().flat_map(|step| &step.about).chain(&victim).collect::<BTreeSet<_>>();
        let is_about = |it: &&(String, String)| about.contains(&it.0);
        let other: Vec<_> = before.difference(&now).filter(|it| !is_about(it)).collect();
        assert!(other.is_empty(), "round {rounds}: other ids: {other:?}");
        check(lab);
        facts = seen;
    }
    // It works.
    lab.ok("network create --subnet 10.9.0.0/24 last");
    lab.idle("one", "last");
    lab.idle("two", "last");
    assert!(lab.pings("one", "two"));
}
