//! The real thing: a network namespace in which the kernel's own devices, neighbours, routes, flows and rules are
//! set up as ours are, so that the installed tools can be asked about them.

use std::fmt::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{Lab, Process, skip, succeeded, until};

/// Namespaces of its own: user, network, mounts (for `/sys`, where brctl reads, and for names of namespaces).
pub(crate) struct Twin(Process);

impl Twin {
    /// One in which these tools work; none, loudly, where they do not.
    pub(crate) fn new(tools: &[&str]) -> Option<Self> {
        let script = "mount -t sysfs sysfs /sys && mount -t tmpfs run /run && ip link set lo up && \
                      exec sleep 1000";
        let mut command = Command::new("unshare");
        command.args(["-Urnm", "sh", "-c", script]).stdin(Stdio::null()).stderr(Stdio::null());
        let mut process = Process(command.spawn().unwrap());
        let mut ready = false;
        until("namespaces of its own, or their end", || {
            let comm = std::fs::read_to_string(format!("/proc/{}/comm", process.pid()));
            ready = comm.is_ok_and(|comm| comm == "sleep\n");
            ready || process.0.try_wait().unwrap().is_some()
        });
        let twin = Self(process);
        let missing = tools.iter().find(|tool| !ready || !twin.works(tool));
        if let Some(tool) = missing {
            skip(&format!("'{tool}' does not work here: nothing to compare with"));
            return None;
        }
        Some(twin)
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.0.pid().to_string(), "-U", "-n", "-m", "--preserve-credentials"]);
        command.args(["sh", "-e", "-c", script]).stdin(Stdio::null());
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    fn works(&self, script: &str) -> bool {
        self.command(script).output().unwrap().status.success()
    }

    /// What a shell script prints there, which must succeed.
    #[track_caller]
    pub(crate) fn says(&self, script: &str) -> String {
        succeeded(script, &self.command(script).output().unwrap())
    }

    /// Makes bridges and veths of the same names, numbers and addresses, with their learned and static entries.
    #[track_caller]
    pub(crate) fn mirror_devices(&self, lab: &Lab) {
        let mut rows = lab.json("show interfaces");
        // Bridges first, which veths are enslaved to.
        rows.sort_by_key(|row| row["kind"] == "veth");
        let mut script = String::new();
        for row in &rows {
            let [index, name, mac, mtu, master, container, peer] =
                ["index", "name", "mac", "mtu", "master", "container", "peer_ifindex"]
                    .map(|key| word(&row[key]));
            if row["kind"] == "bridge" {
                let _ = writeln!(
                    script,
                    "ip link add {name} index {index} txqueuelen 0 address {mac} type bridge vlan_default_pvid 0 || \
                     ip link add {name} index {index} txqueuelen 0 address {mac} type bridge\n\
                     ip link set {name} addrgenmode none type bridge ageing_time {}00",
                    row["ageing"]
                );
                for address in row["addresses"].as_array().unwrap() {
                    let nodad = if word(address).contains(':') { "nodad" } else { "" };
                    let _ = writeln!(script, "ip addr add {} dev {name} {nodad}", word(address));
                }
            } else {
                assert_eq!(row["kind"], "veth", "{row}");
                let _ = writeln!(
                    script,
                    "ip netns list | grep -q '^{container}' || ip netns add {container}\n\
                     ip link add {name} index {index} txqueuelen 0 address {mac} type veth \
                         peer name p{peer} index {peer} netns {container}\n\
                     ip -n {container} link set p{peer} addrgenmode none\n\
                     ip link set {name} addrgenmode none\n\
                     ip link set {name} master {master}\n\
                     bridge link set dev {name} learning off\n\
                     ip link set {name} mtu {mtu} up"
                );
                if row["state"] == "up" {
                    let _ = writeln!(script, "ip -n {container} link set p{peer} up");
                }
            }
        }
        for row in rows.iter().filter(|row| row["kind"] == "bridge") {
            let _ = writeln!(script, "ip link set {} mtu {} up", word(&row["name"]), word(&row["mtu"]));
        }
        for entry in lab.json("show fdb") {
            let port = rows.iter().find(|row| row["port"] == entry["port"]).unwrap();
            let state = if entry["static"] == true { "static" } else { "dynamic" };
            let _ = writeln!(
                script,
                "bridge fdb add {} dev {} master {state}",
                word(&entry["mac"]),
                word(&port["name"])
            );
        }
        self.says(&script);
    }

    /// These neighbours, and static routes as ours, on mirrored devices.
    #[track_caller]
    pub(crate) fn mirror_routes(&self, lab: &Lab, neighbours: &[Value]) {
        let interfaces = lab.json("show interfaces");
        let device = |row: &Value| {
            let of = |it: &&Value| it["network"] == row["network"] && it["kind"] != "veth";
            word(&interfaces.iter().find(of).unwrap()["name"])
        };
        let mut script = String::new();
        for row in neighbours {
            let mac =
                if row["mac"].is_null() { String::new() } else { format!("lladdr {}", word(&row["mac"])) };
            let router = if row["router"] == true { "router" } else { "" };
            let state = word(&row["state"]).to_lowercase();
            let (address, device) = (word(&row["address"]), device(row));
            let _ = writeln!(script, "ip neigh replace {address} dev {device} {mac} nud {state} {router}");
        }
        for row in lab.json("show routes").iter().filter(|row| row["kind"] == "static") {
            let version = if word(&row["prefix"]).contains(':') { "-6" } else { "-4" };
            let (prefix, via) = (word(&row["prefix"]), word(&row["via"]));
            let _ = writeln!(script, "ip {version} route add {prefix} via {via} dev {}", device(row));
        }
        self.says(&script);
    }

    /// Flows as ours.
    #[track_caller]
    pub(crate) fn mirror_flows(&self, lab: &Lab) {
        for row in lab.json("show conntrack") {
            let w = |key: &str| word(&row[key]);
            let mut line = format!(
                "conntrack -I -t 100 -p {} -s {} -d {} -r {} -q {}",
                w("proto"),
                w("src"),
                w("dst"),
                w("reply_src"),
                w("reply_dst")
            );
            if row["sport"].is_null() {
                let (asks, name) = if w("proto") == "icmpv6" { (128, "icmpv6") } else { (8, "icmp") };
                let _ = write!(line, " --{name}-type {asks} --{name}-code 0 --{name}-id {}", w("icmp_id"));
            } else {
                let _ = write!(line, " --sport {} --dport {}", w("sport"), w("dport"));
                let _ = write!(line, " --reply-port-src {}", w("reply_sport"));
                let _ = write!(line, " --reply-port-dst {}", w("reply_dport"));
            }
            if row["proto"] == "tcp" {
                let _ = write!(line, " --state {}", w("state"));
            }
            let flags = [("SEEN_REPLY", row["unreplied"] == false), ("ASSURED", row["assured"] == true)];
            let flags: Vec<&str> = flags.iter().filter(|(_, set)| *set).map(|(flag, _)| *flag).collect();
            if !flags.is_empty() {
                let _ = write!(line, " -u {}", flags.join(","));
            }
            self.says(&line);
        }
    }
}

/// A value without quotes.
pub(crate) fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
