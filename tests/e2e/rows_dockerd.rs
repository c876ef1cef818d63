//! The same commands typed at Docker's own daemon, in namespaces of its own: what it lists, which keys it shows,
//! and in which words it refuses. Skipped, loudly, where it is not installed or cannot run.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Output};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;

use crate::harness::{Lab, Process, Who, holds_within, skip, succeeded, text, until};
use crate::rows_docker::masked;

/// Docker's daemon in namespaces of its own, where it can be.
struct Dockerd {
    directory: tempfile::TempDir,
    process: Process,
}

impl Dockerd {
    fn start() -> Option<Self> {
        let has = |program: &str| {
            Command::new(program).arg("--version").output().is_ok_and(|it| it.status.success())
        };
        if !nix::unistd::geteuid().is_root() || !has("dockerd") || !has("docker") {
            skip("it takes root, dockerd and docker");
            return None;
        }
        let directory = tempfile::Builder::new().prefix("tapswitch-dockerd-").tempdir().unwrap();
        let at = directory.path().display();
        let script = format!(
            "ip link set lo up; exec dockerd --data-root {at}/data --exec-root {at}/exec -H unix://{at}/d.sock -p {at}/d.pid \
             --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false --storage-driver vfs >{at}/log 2>&1"
        );
        let child = Command::new("unshare").args(["-m", "-n", "sh", "-e", "-c", &script]).spawn().unwrap();
        let mut dockerd = Self { directory, process: Process(child) };
        until("dockerd's answer or end", || {
            dockerd.has_ended() || dockerd.docker(&["version"]).status.success()
        });
        if dockerd.has_ended() {
            let log = std::fs::read_to_string(dockerd.directory.path().join("log")).unwrap_or_default();
            skip(&format!("dockerd does not run here: {}", log.lines().last().unwrap_or_default()));
            return None;
        }
        Some(dockerd)
    }

    fn has_ended(&mut self) -> bool {
        self.process.0.try_wait().unwrap().is_some()
    }

    /// Processes that were told of its directory: itself, and those that it started.
    fn processes(&self) -> Vec<Pid> {
        let mark = self.directory.path().to_str().unwrap();
        let pids = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let theirs = |pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.windows(mark.len()).any(|window| window == mark.as_bytes())
        };
        pids.filter(theirs).map(Pid::from_raw).collect()
    }

    /// Whether it is of the version whose outputs ours are; words and keys have changed since.
    fn is_the_one(&self) -> bool {
        let version = self.ok(&["version", "-f", "{{.Server.Version}}"]);
        let same = version.starts_with("20.10.");
        if !same {
            skip(&format!("dockerd {}: only what it refuses is compared, not its words", version.trim_end()));
        }
        same
    }

    fn docker(&self, words: &[&str]) -> Output {
        let socket = format!("unix://{}/d.sock", self.directory.path().display());
        Command::new("docker").env("DOCKER_HOST", socket).args(words).output().unwrap()
    }

    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        succeeded(&words.join(" "), &self.docker(words))
    }

    /// An image `idle`, which sleeps, and can tell its routes.
    fn make_image(&self) {
        let root = self.directory.path().join("root");
        let script = format!(
            "mkdir -p {0}/bin {0}/etc {0}/proc {0}/sys {0}/dev
             for program in $(command -v sleep) $(command -v ip); do
                 cp $program {0}/bin/
                 for lib in $(ldd $program | grep -o '/[^ ]*'); do mkdir -p {0}/$(dirname $lib); cp $lib {0}/$lib; done
             done
             tar -C {0} -cf {0}.tar .",
            root.display()
        );
        succeeded(&script, &Command::new("sh").args(["-e", "-c", &script]).output().unwrap());
        let tar = format!("{}.tar", root.display());
        self.ok(&["import", "--change", "CMD [\"/bin/sleep\",\"1000\"]", &tar, "idle"]);
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        if !self.has_ended() {
            let ids = text(&self.docker(&["ps", "-aq"]).stdout);
            for id in ids.split_whitespace() {
                self.docker(&["rm", "-f", id]);
            }
            self.process.signal(Signal::SIGTERM);
            holds_within(Duration::from_secs(30), &mut || self.has_ended());
        }
        // Its mounts and namespaces go with the last of its processes, whatever became of the daemon.
        let left = self.processes();
        for pid in &left {
            let _ = nix::sys::signal::kill(*pid, Signal::SIGKILL);
        }
        assert!(left.is_empty() || std::thread::panicking(), "dockerd has left {left:?} behind");
    }
}

/// Keys of ours, which Docker's endpoints have not.
const OWN: [&str; 2] = ["Interface", "Port"];

/// What both are told; ours has no images.
const SETUP: [&str; 5] = [
    "network create --subnet 172.30.0.0/16 --gateway 172.30.0.1 --label team=red net1",
    "run -d --name web --network net1 -p 0.0.0.0:8000:80 -p 0.0.0.0:90-91:90-91 --expose 70 -l tier=front IDLE",
    "run -d --name open --network host IDLE",
    "run -d --name shut --network none IDLE",
    "run -d --name old IDLE",
];

/// What they list must be equal, but for ids and times.
const LISTINGS: [&[&str]; 33] = [
    &["network", "inspect", "net1", "host", "none"],
    &["network", "ls", "--format", "{{.ID}} {{.Name}} {{.Driver}} {{.Scope}} {{.Internal}} {{.Labels}}"],
    &["network", "ls", "-q", "-f", "driver=bridge", "-f", "name=net1"],
    &["network", "ls", "-f", "type=builtin", "--format", "{{.Name}}"],
    &["ps", "--format", "{{.ID}} {{.Names}} [{{.Ports}}] {{.Networks}} {{.State}} {{.Labels}}"],
    &["ps", "-a", "-f", "network=net1", "-f", "status=running", "--format", "{{.Names}}"],
    &["ps", "-n", "2", "--format", "{{.Names}}"],
    &["port", "web"],
    &["network", "ls", "-q", "--format", "{{.Name}}"],
    &["network", "ls", "-f", "scope=swarm", "--format", "{{.Name}}"],
    &["network", "ls", "-f", "label=team=blue", "--format", "{{.Name}}"],
    &["network", "inspect", "-f", "{{.ID}} {{.IPAM}} {{.IPAM.Config}}", "net1"],
    &["network", "inspect", "-f", "{{range .Containers}}{{.}}{{end}} {{len .Containers}}", "net1"],
    &["ps", "-f", "before=shut", "--format", "{{.Names}}"],
    &["ps", "-f", "since=open", "--format", "{{.Names}}"],
    &["ps", "-f", "publish=80", "--format", "{{.Names}}"],
    &["ps", "-f", "publish=8000", "--format", "{{.Names}}"],
    &["ps", "-f", "publish=8000/udp", "--format", "{{.Names}}"],
    &["ps", "-f", "expose=70/tcp", "--format", "{{.Names}}"],
    &["ps", "-f", "expose=69-71", "-f", "publish=90-92", "--format", "{{.Names}}"],
    &["ps", "-q", "-f", "label=tier", "--format", "{{.Names}}"],
    &["ps", "-f", "label=tier", "--format", "{{.Names}} {{.Mounts}} {{.LocalVolumes}}"],
    &["inspect", "-f", "{{.NetworkSettings.Ports}} {{.HostConfig.PortBindings}}", "web"],
    &["inspect", "-f", "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostIp}}", "web"],
    &["inspect", "--type", "network", "-f", "{{.Name}}", "net1"],
    &["network", "prune", "-f", "--filter", "until=24h"],
    &["network", "prune", "-f", "--filter", "label!=team"],
    &["network", "prune", "-f", "--filter", "until=2020-01-31T12:00:00"],
    &["start", "web"],
    &[
        "inspect",
        "-f",
        "{{range $k, $v := .NetworkSettings.Networks}}{{$k}}={{$v.IPAddress}}/{{$v.IPPrefixLen}} {{$v.MacAddress}};{{end}}",
        "web",
        "open",
        "shut",
    ],
    &[
        "inspect",
        "-f",
        "{{json .NetworkSettings.Ports}} {{json .HostConfig.PortBindings}} {{json .Config.ExposedPorts}}",
        "web",
        "old",
    ],
    &[
        "inspect",
        "-f",
        "{{len .NetworkSettings.Ports}}|{{println .Name 1}}|{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}|{{if .State.Running}}up{{else}}down{{end}}|{{printf \"%-6s|%q\" .Name .State.Status}}",
        "web",
    ],
    &[
        "inspect",
        "-f",
        "{{.HostConfig.NetworkMode}} {{.State.Status}} {{.State.ExitCode}} {{json .Config.Labels}} {{range .NetworkSettings.Networks}}{{json .Aliases}}{{end}} {{.Name | json | upper}}",
        "web",
        "open",
        "shut",
        "old",
    ],
];

/// What they refuse, in the same words; ours may say more.
const REFUSALS: [&str; 29] = [
    "network connect net1 open",
    "network connect net1 shut",
    "network connect host web",
    "network connect none web",
    "network disconnect host open",
    "network connect net1 web",
    "network rm host",
    "network rm bridge",
    "network rm net1",
    "network create net1",
    "network create host",
    "network create --subnet 172.30.1.0/24 more",
    "network create --subnet 10.1.0.0/24 --subnet 10.2.0.0/24 more",
    "run --network net1 --ip 172.30.0.2 IDLE",
    "run --network net1 --ip 172.30.0.1 IDLE",
    "run --network net1 --ip 172.30.255.255 IDLE",
    "run --network net1 --ip 172.31.0.1 IDLE",
    "run --ip 172.17.0.99 IDLE",
    "run --name web IDLE",
    "run --network moon IDLE",
    "network connect --ip 172.17.0.99 bridge web",
    "network connect --ip 172.31.0.1 net1 old",
    "network connect moon web",
    "network connect net1 nobody",
    "network disconnect moon web",
    "network create bridge",
    "network create default",
    "network create --subnet 10.1.0.0/24 --gateway 10.1.0.0 more",
    "network prune -f --filter until=soon",
];

/// What both refuse, each in its own words.
const REFUSED: [&str; 26] = [
    "network create",
    "network create one two",
    "network create -d moon more",
    "network create --subnet 10.300.0.0/24 more",
    "network create --subnet 10.1.0.0 more",
    "network create --gateway 10.1.0.1 more",
    "network create --subnet 10.1.0.0/24 --gateway 10.2.0.1 more",
    "network create --subnet 10.1.0.0/24 --ip-range 10.2.0.0/24 more",
    "network create --subnet 10.1.0.0/24 --aux-address a=10.2.0.1 more",
    "network create --subnet 10.1.0.0/24 --aux-address a more",
    "network create --subnet 10.1.0.0/32 more",
    "network create -o com.docker.network.driver.mtu=large more",
    "network create -o com.docker.network.bridge.enable_icc=maybe more",
    "network create -o com.docker.network.bridge.host_binding_ipv4=here more",
    "network create --label =x more",
    "network ls -f colour=red",
    "network ls -f type=moon",
    "network ls -f dangling=maybe",
    "network disconnect net1 old",
    "network inspect moon",
    "network rm moon",
    "inspect moon",
    "ps -f status=moon",
    "ps -f exited=x",
    "port web 79",
    "run --network net1 --mac-address xyz IDLE",
];

/// A session in which containers come and go; after each line both must be found the same.
const MOVES: [&str; 22] = [
    "network create --subnet 172.40.0.0/16 --gateway 172.40.0.1 zed",
    "network create --subnet 172.41.0.0/16 --gateway 172.41.0.1 alpha",
    "network create --subnet 172.42.0.0/16 --gateway 172.42.0.1 --internal beta",
    "run -d --name r1 --network zed --ip 172.40.0.9 --network-alias www IDLE",
    "run -d --name r2 IDLE",
    "network connect alpha r1",
    "network connect --ip 172.42.0.77 --alias w1 --alias w2 beta r1",
    "network connect --link r1:l1 alpha r2",
    "network disconnect zed r1",
    "network connect --ip 172.40.0.11 zed r1",
    "network disconnect bridge r2",
    "network connect bridge r2",
    "network disconnect alpha r1",
    "stop -t 0 r1",
    "network disconnect beta r1",
    "start r1",
    "network disconnect alpha r2",
    "restart -t 0 r2",
    "stop -t 0 r2",
    "stop -t 0 r1",
    "network connect alpha r1",
    "rm -f r1",
];

#[test]
fn dockers_own_daemon_says_the_same() {
    crate::harness::run(Who::Root, against_docker);
}

fn against_docker(lab: &Lab) {
    let Some(dockerd) = Dockerd::start() else { return };
    dockerd.make_image();
    lab.daemon("--bip 172.17.0.1/16");
    for line in SETUP {
        dockerd.ok(&line.replace("IDLE", "idle").split(' ').collect::<Vec<_>>());
        lab.ok(&line.replace("IDLE", "/bin/sleep 1000"));
    }
    let is_the_one = dockerd.is_the_one();
    let mut differences = Vec::new();
    if is_the_one {
        for words in LISTINGS {
            let ours = succeeded(&words.join(" "), &lab.words(words));
            let (ours, theirs) = (masked(&ours), masked(&dockerd.ok(words)));
            if ours != theirs {
                differences.push(format!("{words:?}\ntheirs: {theirs}\nours: {ours}"));
            }
        }
        differences.extend(strange_keys(lab, &dockerd));
    }
    for line in REFUSALS.into_iter().chain(REFUSED) {
        let theirs = dockerd.docker(&line.replace("IDLE", "idle").split(' ').collect::<Vec<_>>());
        let ours = lab.ts(&line.replace("IDLE", "true"));
        let said = masked(&text(&ours.stderr));
        if ours.status.success() || theirs.status.success() {
            differences.push(format!("{line}\ntheirs: {theirs:?}\nours: {ours:?}"));
        } else if is_the_one && REFUSALS.contains(&line) {
            let theirs = masked(&text(&theirs.stderr));
            let answer = theirs.split_once("Error response from daemon: ");
            let (_, words) = answer.unwrap_or_else(|| panic!("{line}: {theirs}"));
            let words = words.lines().next().unwrap().trim_end_matches(['.', ' ']);
            if !said.contains(words) {
                differences.push(format!("{line}\ntheirs: {words}\nours: {said}"));
            }
        }
    }
    if is_the_one {
        differences.extend(found_after_moves(lab, &dockerd));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

/// Plays [`MOVES`] at both: keys and values of `inspect` where networks are meant, of `network inspect` whole, and the
/// routes inside.
fn found_after_moves(lab: &Lab, dockerd: &Dockerd) -> Vec<String> {
    let mut differences = Vec::new();
    for line in MOVES {
        dockerd.ok(&line.replace("IDLE", "idle").split(' ').collect::<Vec<_>>());
        lab.ok(&line.replace("IDLE", "/bin/sleep 1000"));
        for container in ["r1", "r2"] {
            let words = ["inspect", container];
            let (ours, theirs) = (lab.words(&words), dockerd.docker(&words));
            let [ours, theirs] = [ours, theirs].map(|it| settings(&text(&it.stdout)));
            if ours != theirs {
                differences.push(format!("{line}\n{container}\ntheirs: {theirs:#}\nours: {ours:#}"));
            }
            let words = ["exec", container, "ip", "route"];
            let (ours, theirs) = (lab.words(&words), dockerd.docker(&words));
            if ours.stdout != theirs.stdout {
                let [ours, theirs] = [ours, theirs].map(|it| text(&it.stdout));
                differences.push(format!("{line}\n{container}\ntheirs: {theirs}\nours: {ours}"));
            }
        }
        let words = ["network", "inspect", "zed", "alpha", "beta"];
        let (ours, theirs) = (lab.words(&words), dockerd.docker(&words));
        let [ours, theirs] = [ours, theirs].map(|it| networks(&text(&it.stdout)));
        if ours != theirs {
            differences.push(format!("{line}\ntheirs: {theirs}\nours: {ours}"));
        }
    }
    differences
}

/// What a container's `inspect` says of networks, without what cannot be the same: where the namespace is, and what
/// ours says more.
fn settings(inspected: &str) -> Value {
    let value: Value = serde_json::from_str(&masked(inspected)).unwrap();
    let mut settings = value[0]["NetworkSettings"].clone();
    let mode = value[0]["HostConfig"]["NetworkMode"].clone();
    if let Some(settings) = settings.as_object_mut() {
        settings.remove("SandboxKey");
        for shown in settings["Networks"].as_object_mut().unwrap().values_mut() {
            OWN.iter().for_each(|key| drop(shown.as_object_mut().unwrap().remove(*key)));
            // Joined while it did not run: theirs does not know the network's id yet.
            if shown["EndpointID"] == "" {
                shown["NetworkID"] = Value::Null;
            }
        }
    }
    serde_json::json!([mode, settings])
}

/// `network inspect`, with containers by their names.
fn networks(inspected: &str) -> Value {
    let mut all: Value = serde_json::from_str(inspected).unwrap();
    for network in all.as_array_mut().unwrap() {
        let containers = network["Containers"].as_object().unwrap().values();
        let named: BTreeMap<String, Value> =
            containers.map(|it| (it["Name"].as_str().unwrap().to_owned(), it.clone())).collect();
        network["Containers"] = serde_json::json!(named);
    }
    serde_json::from_str(&masked(&all.to_string())).unwrap()
}

/// Whatever key we show is Docker's, but for two of ours; where networks are meant, none of Docker's is missing.
fn strange_keys(lab: &Lab, dockerd: &Dockerd) -> Vec<String> {
    let mut found = Vec::new();
    let all = |text: String| serde_json::from_str::<Vec<Value>>(&text).unwrap().remove(0);
    let (ours, theirs) = (all(lab.ok("inspect web")), all(dockerd.ok(&["inspect", "web"])));
    let keys = |value: &Value, at: &str| -> BTreeSet<String> {
        let within = value.pointer(at).unwrap_or_else(|| panic!("{at}"));
        within.as_object().unwrap().keys().cloned().collect()
    };
    for (at, all_of_them) in [
        ("", false),
        ("/State", true),
        ("/Config", false),
        ("/HostConfig", false),
        ("/NetworkSettings", true),
        ("/NetworkSettings/Networks/net1", true),
    ] {
        let (ours, theirs) = (keys(&ours, at), keys(&theirs, at));
        let strange = ours
            .difference(&theirs)
            .filter(|key| !OWN.contains(&key.as_str()))
            .map(|key| format!("{at}: {key} is strange"));
        found.extend(strange);
        let missing =
            theirs.difference(&ours).filter(|_| all_of_them).map(|key| format!("{at}: {key} is missing"));
        found.extend(missing);
    }
    found
}
