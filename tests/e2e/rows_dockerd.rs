//! The same commands typed at Docker's own daemon, in namespaces of its own: what it lists, which keys it shows,
//! and in which words it refuses. Skipped, loudly, where it is not installed or cannot run.

use std::collections::BTreeSet;
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::{Lab, Process, Who, skip, succeeded, text, until};
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
        let mut ended = false;
        until("dockerd's answer or end", || {
            ended = dockerd.process.0.try_wait().unwrap().is_some();
            ended || dockerd.docker(&["version"]).status.success()
        });
        if ended {
            let log = std::fs::read_to_string(dockerd.directory.path().join("log")).unwrap_or_default();
            skip(&format!("dockerd does not run here: {}", log.lines().last().unwrap_or_default()));
            return None;
        }
        Some(dockerd)
    }

    fn docker(&self, words: &[&str]) -> Output {
        let socket = format!("unix://{}/d.sock", self.directory.path().display());
        Command::new("docker").env("DOCKER_HOST", socket).args(words).output().unwrap()
    }

    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        succeeded(&words.join(" "), &self.docker(words))
    }

    /// An image `idle`, which sleeps.
    fn make_image(&self) {
        let root = self.directory.path().join("root");
        let script = format!(
            "mkdir -p {0}/bin {0}/etc {0}/proc {0}/sys {0}/dev; cp /bin/sleep {0}/bin/
             for lib in $(ldd /bin/sleep | grep -o '/[^ ]*'); do mkdir -p {0}/$(dirname $lib); cp $lib {0}/$lib; done
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
        let ids = text(&self.docker(&["ps", "-aq"]).stdout);
        for id in ids.split_whitespace() {
            self.docker(&["rm", "-f", id]);
        }
        self.process.signal(nix::sys::signal::Signal::SIGTERM);
        let _ = self.process.code();
    }
}

/// What both are told; ours has no images.
const SETUP: [&str; 5] = [
    "network create --subnet 172.30.0.0/16 --gateway 172.30.0.1 --label team=red net1",
    "run -d --name web --network net1 -p 0.0.0.0:8000:80 -p 0.0.0.0:90-91:90-91 --expose 70 -l tier=front IDLE",
    "run -d --name open --network host IDLE",
    "run -d --name shut --network none IDLE",
    "run -d --name old IDLE",
];

/// What they list must be equal, but for ids and times.
const LISTINGS: [&[&str]; 12] = [
    &["network", "inspect", "net1", "host", "none"],
    &["network", "ls", "--format", "{{.ID}} {{.Name}} {{.Driver}} {{.Scope}} {{.Internal}} {{.Labels}}"],
    &["network", "ls", "-q", "-f", "driver=bridge", "-f", "name=net1"],
    &["network", "ls", "-f", "type=builtin", "--format", "{{.Name}}"],
    &["ps", "--format", "{{.ID}} {{.Names}} [{{.Ports}}] {{.Networks}} {{.State}} {{.Labels}}"],
    &["ps", "-a", "-f", "network=net1", "-f", "status=running", "--format", "{{.Names}}"],
    &["ps", "-n", "2", "--format", "{{.Names}}"],
    &["port", "web"],
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
const REFUSALS: [&str; 14] = [
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
    let mut differences = Vec::new();
    for words in LISTINGS {
        let ours = succeeded(&words.join(" "), &lab.words(words));
        let (ours, theirs) = (masked(&ours), masked(&dockerd.ok(words)));
        if ours != theirs {
            differences.push(format!("{words:?}\ntheirs: {theirs}\nours: {ours}"));
        }
    }
    differences.extend(strange_keys(lab, &dockerd));
    for line in REFUSALS {
        let theirs = dockerd.docker(&line.replace("IDLE", "idle").split(' ').collect::<Vec<_>>());
        let theirs = masked(&text(&theirs.stderr));
        let (_, words) =
            theirs.split_once("Error response from daemon: ").unwrap_or_else(|| panic!("{line}: {theirs}"));
        let words = words.lines().next().unwrap().trim_end_matches(['.', ' ']);
        let ours = lab.ts(&line.replace("IDLE", "true"));
        let said = masked(&text(&ours.stderr));
        if ours.status.success() || !said.contains(words) {
            differences.push(format!("{line}\ntheirs: {words}\nours: {said}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
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
    let own = BTreeSet::from(["Interface".to_owned(), "Port".to_owned()]);
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
            .filter(|key| !own.contains(*key))
            .map(|key| format!("{at}: {key} is strange"));
        found.extend(strange);
        let missing =
            theirs.difference(&ours).filter(|_| all_of_them).map(|key| format!("{at}: {key} is missing"));
        found.extend(missing);
    }
    found
}
