//! Every flag and every argument of every command, with a value that it cannot have: what is said names the value
//! and what is allowed. The list of flags is clap's own, so that none can be forgotten.

use std::collections::BTreeSet;

use crate::harness::{Lab, text, until};

scenarios! { what_a_value_cannot_be_is_said }

/// Where any value makes sense, or means something later on.
const ANYTHING: [&str; 7] = [
    "daemon --resolv-conf", // A file that comes is read when it has come.
    "explain --name",       // A name may be asked for that nobody has.
    "run --cap-add",        // Accepted for Docker's sake.
    "shell -c",             // A line for somebody else's shell.
    "uplink add --out",     // An interface that comes later.
    "uplink set --out",
    "uplink set --source",
];

const IP: &str = "give an IP address, as 172.19.0.9 or fd00:19::9";
const CIDR: &str = "give an address and the length of its prefix, as 172.19.0.0/16";
const MAC: &str = "give six bytes, as 02:42:ac:13:00:09";
const SERVER: &str = "give the address of a name server, as 10.0.0.53";
const BOOL: &str = "give true or false";
const PORT: &str = "write a port from 1 to 65535, or two with '-' between";
const SOURCE: &str = "write 192.0.2.0/24, 192.0.2.7 or 2001:db8::/32";
const NETWORKS: &str = "network x not found: 'tapswitch network ls' lists them";
const CONTAINERS: &str = "No such container: x: 'tapswitch ps -a' lists them";
const NAME: &str = "name 'a b' is not allowed: use letters, digits, ";
const DEVICE: &str = "interface name 'a/b' is not allowed: use 1 to 15 characters";
const TEMPLATE: &str = "template '{{' has a '{{' without '}}': close it";
const MTU: &str = "give a whole number from 68 to 65521";
const NUMBER: &str = "give a whole number from 1 to ";
const PROCESS: &str = "give the number of a process";
const VARIABLE: &str = "give KEY=VALUE, or KEY ";

/// The flag or argument, a line with a value that it cannot have (`~` is a blank), and what is said of it: one of these.
#[rustfmt::skip]
const WRONG: &[(&str, &str, &str)] = &[
    ("--socket", "--socket /no/x ps", "no daemon serves /no/x: 'tapswitch up' starts"),
    ("daemon --busy-poll-us", "daemon --busy-poll-us x", "give a whole number from 0 to 1000000"),
    ("daemon --config", "daemon --config /no/x", "cannot read /no/x: No such file"),
    ("daemon --bip", "daemon --bip 10.0.0.0/8", "give the gateway's address with its subnet's length, as 172.26.0.1/16"),
    ("daemon --default-address-pool", "daemon --default-address-pool x", "'x' is not base=CIDR,size=N, as base=10.0.0.0/8,size=24"),
    ("daemon --dns", "daemon --dns 0.0.0.0", SERVER),
    ("daemon --dns-opt", "daemon --dns-opt a~b", "give one word, without '#' and ';'"),
    ("daemon --dns-search", "daemon --dns-search #", "give one word, without '#' and ';'"),
    ("daemon --icc", "daemon --icc=maybe", BOOL),
    ("daemon --iptables", "daemon --iptables=maybe", BOOL),
    ("daemon --ip-masq", "daemon --ip-masq=maybe", BOOL),
    ("daemon --ip-forward", "daemon --ip-forward=maybe", BOOL),
    ("daemon --confine", "daemon --confine=maybe", BOOL),
    ("daemon --mtu", "daemon --mtu 67", MTU),
    ("daemon --uplink", "daemon --uplink x", "[possible values: user, none]"),
    ("daemon --state", "--socket {dir}/2/c.sock daemon --state /proc/x/y", "/proc/x: choose another with --state"),
    ("up <lab>", "up lab:x", "there is no built-in lab 'lab:x': lab:demo is there"),
    ("up --for", "up --for 5x", "'5x' is no duration: 30s, 5m or 1h"),
    ("down <lab>", "down x", "lab 'x' is not up: 'tapswitch network ls' and"),
    ("network create <name>", "network create a~b", NAME),
    ("network create --driver", "network create --driver x n", "[possible values: bridge]"),
    ("network create --subnet", "network create --subnet 10.9.0.0 n", CIDR),
    ("network create --ip-range", "network create --ip-range x n", CIDR),
    ("network create --gateway", "network create --gateway x n", IP),
    ("network create --aux-address", "network create --aux-address x n", "--aux-address 'x' is not NAME=IP"),
    ("network create --dns", "network create --dns x n", SERVER),
    ("network create --label", "network create --label =x n", VARIABLE),
    ("network create --opt", "network create --opt icc=maybe n", "option 'icc' cannot be 'maybe': it takes true or false"),
    ("network create --scope", "network create --scope swarm n", "[possible values: local]"),
    ("network create --ipam-driver", "network create --ipam-driver x n", "[possible values: default]"),
    ("network ls --filter", "network ls --filter type=x", "invalid filter 'type=x': it takes builtin, custom"),
    ("network ls --format", "network ls --format {{", TEMPLATE),
    ("network inspect <names>", "network inspect x", NETWORKS),
    ("network inspect --format", "network inspect --format {{ net1", TEMPLATE),
    ("network rm <names>", "network rm x", NETWORKS),
    ("network connect <network>", "network connect x one", NETWORKS),
    ("network connect <container>", "network connect net1 x", CONTAINERS),
    ("network connect --ip", "network connect --ip x net2 one", IP),
    ("network connect --ip6", "network connect --ip6 x net2 one", "invalid IPv6 address"),
    ("network connect --link", "network connect --link :x net2 one", "lacks a name: write NAME or NAME:ALIAS"),
    ("network connect --alias", "network connect --alias a~b net2 one", NAME),
    ("network disconnect <network>", "network disconnect x one", NETWORKS),
    ("network disconnect <container>", "network disconnect net1 x", CONTAINERS),
    ("network set <network>", "network set x -o mtu=1400", NETWORKS),
    ("network set --opt", "network set net1 --opt colour=red", "option 'colour' is not known: the options are icc, "),
    ("network prune --filter", "network prune -f --filter x=y", "invalid filter 'x': the filters are label"),
    ("run <command>", "run --rm no-such-program", "no-such-program: not found"),
    ("run --name", "run --name a~b true", NAME),
    ("run --network", "run --network net1:colour=red true", "'colour=red': the settings are ip=, mac=, alias= and ifname="),
    ("run --ip", "run --ip x true", IP),
    ("run --ip6", "run --ip6 x true", "invalid IPv6 address"),
    ("run --mac-address", "run --mac-address x true", MAC),
    ("run --network-alias", "run --network net1 --network-alias a~b true", NAME),
    ("run --publish", "run --publish 99999:80 true", PORT),
    ("run --publish-from", "run --publish-from x true", SOURCE),
    ("run --expose", "run --expose 0 true", PORT),
    ("run --link", "run --link :x true", "lacks a name: write NAME or NAME:ALIAS"),
    ("run --dns", "run --dns x true", SERVER),
    ("run --add-host", "run --add-host x true", "--add-host 'x': ':' is missing, as in KEY:VALUE"),
    ("run --hostname", "run --hostname a~b true", NAME),
    ("run --sysctl", "run --sysctl kernel.x=1 true", "cannot set kernel.x inside the container: it is not the container's own (use net.*"),
    ("run --env", "run --env =x true", VARIABLE),
    ("run --label", "run --label =x true", VARIABLE),
    ("run --log-opt", "run --log-opt max-size=x true", "--log-opt 'max-size=x': give 1k or more, as max-size=4m"),
    ("run --workdir", "run --rm --workdir /no/x true", "cannot enter the working directory /no/x: No such file"),
    ("exec <name>", "exec x true", CONTAINERS),
    ("exec <command>", "exec one no-such-program", "no-such-program: not found"),
    ("exec --env", "exec --env =x one true", VARIABLE),
    ("exec --workdir", "exec --workdir /no/x one true", "cannot enter the working directory /no/x: No such file"),
    ("ps --filter", "ps --filter status=x", "invalid filter 'status=x': it takes created, "),
    ("ps --format", "ps --format {{", TEMPLATE),
    ("ps --last", "ps --last x", NUMBER),
    ("inspect <names>", "inspect x", "No such object: x: 'tapswitch ps -a' lists them"),
    ("inspect --format", "inspect --format {{ one", TEMPLATE),
    ("inspect --type", "inspect --type x one", "[possible values: container, network]"),
    ("stop <names>", "stop x", CONTAINERS),
    ("stop --time", "stop --time x one", "give a whole number from 0 to "),
    ("start <names>", "start x", CONTAINERS),
    ("restart <names>", "restart x", CONTAINERS),
    ("restart --time", "restart --time -1s one", "takes no '-1'"),
    ("kill <names>", "kill x", CONTAINERS),
    ("kill --signal", "kill --signal x one", "give a signal's name or number, as TERM or 15"),
    ("rm <names>", "rm x", CONTAINERS),
    ("logs <name>", "logs x", CONTAINERS),
    ("wait <names>", "wait x", CONTAINERS),
    ("plug <name>", "plug a~b --network net1 --pid {pid}", NAME),
    ("plug --network", "plug p --network x --pid {pid}", NETWORKS),
    ("plug --pid", "plug p --network net1 --pid x", PROCESS),
    ("plug --netns", "plug p --network net1 --netns /no/x", "/no/x does not exist"),
    ("plug --userns", "plug p --network net1 --netns /proc/{pid}/ns/net --userns /no/x", "/no/x does not exist"),
    ("plug --ifname", "plug p --network net1 --pid {pid} --ifname a/b", DEVICE),
    ("plug --ip", "plug p --network net1 --pid {pid} --ip x", IP),
    ("plug --mac", "plug p --network net1 --pid {pid} --mac x", MAC),
    ("plug --publish", "plug p --network net1 --pid {pid} --publish x", PORT),
    ("plug --expose", "plug p --network net1 --pid {pid} --expose x", PORT),
    ("plug --ready-fd", "plug p --network net1 --pid {pid} --ready-fd 777", "--ready-fd 777 is no descriptor that was handed on"),
    ("unplug <name>", "unplug x", CONTAINERS),
    ("unplug --network", "unplug guest --network x", NETWORKS),
    ("capture --interface", "capture --interface x", "nothing called 'x' to capture on: give a container, CONTAINER:IFNAME, net:NETWORK or any"),
    ("capture --read", "capture --read /no/x", "cannot read /no/x: No such file"),
    ("capture --write", "capture --write /no/x", "cannot write /no/x: No such file"),
    ("capture --count", "capture --count 0", "give a whole number, 1 or more"),
    ("capture --snapshot-length", "capture --snapshot-length x", "give a whole number from 0 to "),
    ("capture <filter>", "capture foo bar", "filter: "),
    ("conntrack --proto", "conntrack -L --proto x", "give tcp, udp, icmp, icmpv6, or a number up to 255"),
    ("conntrack --src", "conntrack -L --src x", "give an IP address or prefix"),
    ("conntrack --dst", "conntrack -L --dst x", "give an IP address or prefix"),
    ("conntrack --sport", "conntrack -L --sport x", NUMBER),
    ("conntrack --dport", "conntrack -L --dport 65536", NUMBER),
    ("conntrack --family", "conntrack -L --family x", "[possible values: ipv4, ipv6]"),
    ("explain <source>", "explain x 10.1.0.1", CONTAINERS),
    ("explain <destination>", "explain one 10.1.0.1:99999", "'99999' is no port: give a number from 0 to 65535"),
    ("explain --at", "explain --at x --hex 00", CONTAINERS),
    ("explain --hex", "explain --at one --hex zz", "--hex: there is something else than hexadecimal digits: give a frame's bytes"),
    ("explain --pcap", "explain --at one --pcap x", "--pcap x: give FILE:N, where N counts from 1"),
    ("explain --last-drop", "explain --last-drop x", CONTAINERS),
    ("show --as", "show ports --as x", "[possible values: brctl, bridge, ip, "),
    ("fdb add <network>", "fdb add x 02:00:00:00:00:01 one", NETWORKS),
    ("fdb add <mac>", "fdb add net1 x one", MAC),
    ("fdb add <port>", "fdb add net1 02:00:00:00:00:01 x", CONTAINERS),
    ("fdb del <network>", "fdb del x 02:00:00:00:00:01", NETWORKS),
    ("fdb del <mac>", "fdb del net1 x", MAC),
    ("port <name>", "port x", CONTAINERS),
    ("port <port>", "port one x", PORT),
    ("port set <port>", "port set x up", CONTAINERS),
    ("port set <state>", "port set one x", "[possible values: up, down]"),
    ("publish <name>", "publish x 80:80", CONTAINERS),
    ("publish <publish>", "publish one x", PORT),
    ("publish --from", "publish one 80:80 --from x", SOURCE),
    ("unpublish <name>", "unpublish x 80:80", CONTAINERS),
    ("unpublish <publish>", "unpublish one x", PORT),
    ("link <name>", "link x one", CONTAINERS),
    ("link <other>", "link one x", CONTAINERS),
    ("link <ports>", "link one two x", PORT),
    ("proxy <network>", "proxy x", NETWORKS),
    ("proxy --listen", "proxy net1 --listen x", "give an address and a port, as 127.0.0.1:1080"),
    ("unlink <name>", "unlink x db", CONTAINERS),
    ("unlink <alias>", "unlink one x", "container 'one' has no link 'x': it has none"),
    ("uplink add <name>", "uplink add a~b --user", NAME),
    ("uplink add --tap", "uplink add u --tap a/b --ip 10.55.0.1/24", DEVICE),
    ("uplink add --interface", "uplink add u --interface nosuch --ip 10.55.0.1/24", "there is no interface 'nosuch': 'ip link' lists them | it takes CAP_NET_RAW"),
    ("uplink add --pid", "uplink add u --tap t0 --pid x", PROCESS),
    ("uplink add --netns", "uplink add u --tap t0 --netns /no/x --ip 10.55.0.1/24", "/no/x does not exist"),
    ("uplink add --userns", "uplink add u --tap t0 --netns /proc/{pid}/ns/net --userns /no/x --ip 10.55.0.1/24", "/no/x does not exist"),
    ("uplink add --ip", "uplink add u --user --ip x", CIDR),
    ("uplink add --gateway", "uplink add u --user --gateway x", IP),
    ("uplink add --mac", "uplink add u --user --mac x", MAC),
    ("uplink add --mtu", "uplink add u --user --mtu 67", MTU),
    ("uplink add --deny", "uplink add u --user --deny x", CIDR),
    ("uplink add --source", "uplink add u --user --source x", IP),
    ("uplink set <name>", "uplink set x --mtu 1400", "uplink 'x' is not known: 'tapswitch uplink ls' lists them"),
    ("uplink set --ip", "uplink set wan --ip x", CIDR),
    ("uplink set --gateway", "uplink set wan --gateway x", IP),
    ("uplink set --mac", "uplink set wan --mac x", MAC),
    ("uplink set --mtu", "uplink set wan --mtu x", MTU),
    ("uplink set --deny", "uplink set wan --deny x", CIDR),
    ("uplink rm <names>", "uplink rm x", "uplink 'x' is not known: 'tapswitch uplink ls' lists them"),
    ("route add <prefix>", "route add x via 10.1.0.2", CIDR),
    ("route add <how>", "route add 10.9.0.0/16 by x", "'by x': write 'via IP', 'dev NET', or both"),
    ("route del <prefix>", "route del x", CIDR),
    ("rule add <action>", "rule add x", "[possible values: allow, drop, reject]"),
    ("rule add --from", "rule add --from x drop", "'x' of a rule is no network, container, address or prefix"),
    ("rule add --to", "rule add --to x drop", "'x' of a rule is no network, container, address or prefix"),
    ("rule add --proto", "rule add --proto x drop", "protocol 'x' of a rule is not known: write tcp, udp, icmp, all, or a number"),
    ("rule add --dport", "rule add --proto tcp --dport x drop", PORT),
    ("rule add --state", "rule add --state x drop", "state 'x' of a rule is not known: the states are NEW, "),
    ("rule add --before", "rule add --before x drop", NUMBER),
    ("rule rm <number>", "rule rm x", NUMBER),
    ("sysctl <settings>", "sysctl net.ipv4.ip_forward=2", "'net.ipv4.ip_forward' cannot be '2': it takes 0 to 1"),
    ("replay <lab>", "replay lab:x /no/x", "there is no built-in lab 'lab:x': lab:demo is there"),
    ("replay <capture>", "replay lab:demo /no/x", "cannot read /no/x: No such file"),
    ("replay --at", "replay lab:demo {dir}/empty.pcap --at x", CONTAINERS),
    ("replay --write", "replay lab:demo {dir}/empty.pcap --at alice --write /no/x", "cannot write /no/x: No such file"),
    ("shell <program>", "shell -- no-such-program", "cannot run no-such-program: No such file"),
    ("completion <shell>", "completion x", "[possible values: bash, zsh, fish]"),
    ("completion <name>", "completion bash x", "[possible values: tapswitch, docker]"),
];

/// Every flag and argument that takes a value, as `network create --subnet` and `network create <name>`.
fn all(command: &clap::Command, path: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for argument in command.get_arguments().filter(|argument| argument.get_action().takes_values()) {
        let name = match (argument.get_long(), argument.get_short()) {
            (Some(long), _) => format!("--{long}"),
            (None, Some(short)) => format!("-{short}"),
            (None, None) => format!("<{}>", argument.get_id()),
        };
        found.insert(format!("{path} {name}").trim_start().to_owned());
    }
    for sub in command.get_subcommands() {
        found.extend(all(sub, format!("{path} {}", sub.get_name()).trim_start()));
    }
    found
}

fn what_a_value_cannot_be_is_said(lab: &Lab) {
    let mut left = all(&tapswitch::cli::command(), "");
    let mut wrong = Vec::new();
    lab.daemon("");
    lab.ok("network create --subnet 10.1.0.0/24 net1");
    lab.ok("network create --subnet 10.2.0.0/24 net2");
    lab.idle("one", "net1");
    lab.idle("two", "net1");
    lab.ok("uplink add wan --user --ip 192.0.0.9/29 --gateway 192.0.0.10");
    // A capture file without frames.
    let empty = lab.path().join("empty.pcap");
    let header = [0xa1b2_c3d4u32, 0x0002_0004, 0, 0, 65_535, 1].map(u32::to_be_bytes).concat();
    std::fs::write(&empty, header).unwrap();
    let stranger = lab.foreign();
    let guest = lab.foreign();
    lab.ok(&format!("plug guest --network net2 --pid {}", guest.pid()));
    let before = [lab.ok("network ls -q"), lab.ok("ps -q"), lab.ok("uplink ls"), lab.ok("rule ls")];
    for (flag, line, allowed) in WRONG {
        if !left.remove(*flag) {
            wrong.push(format!("{flag}: there is none, or it is told of twice"));
        }
        let name = flag.rsplit(' ').next().unwrap();
        assert!(name.starts_with('<') || line.contains(name), "{flag} is not in '{line}'");
        let line = line.replace("{pid}", &stranger.pid().to_string());
        let line = line.replace("{dir}", &lab.path().display().to_string());
        let words: Vec<String> = line.split(' ').map(|word| word.replace('~', " ")).collect();
        let output = lab.words(&words.iter().map(String::as_str).collect::<Vec<_>>());
        let said = text(&output.stderr);
        let refused = matches!(output.status.code(), Some(1 | 2 | 125..=127));
        if !refused || !allowed.split(" | ").any(|allowed| said.contains(allowed)) {
            wrong.push(format!("{line}: {} {said}", output.status));
        }
    }
    wrong.extend(
        left.iter()
            .filter(|flag| !ANYTHING.contains(&flag.as_str()))
            .map(|flag| format!("{flag}: not told of")),
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Nothing of it was done.
    let after = || [lab.ok("network ls -q"), lab.ok("ps -q"), lab.ok("uplink ls"), lab.ok("rule ls")];
    until("containers of lines that failed to go", || after() == before);
}
