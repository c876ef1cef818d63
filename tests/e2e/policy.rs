//! Who may talk to whom: icc and links, the user's own rules, and the chains that show it all.

use serde_json::Value;

use crate::harness::{Lab, text};
use crate::world::{FAR4, OUT4, Outside, WAN4, WHO, ask, seen_from, two_networks};

scenarios! {
    links_open_what_is_exposed
    links_come_and_go
    the_default_network_may_forbid_it
    the_users_rules_come_first
    rules_are_kept_in_order
    what_rules_may_be_about
    without_iptables_there_are_none
    the_chains_are_dockers
    counters_mean_what_netfilters_mean
}

/// `web` (10.1.0.2, fd00:1::2), which exposes 80, on a network that forbids icc; `alice` (.3) has a link to
/// it, `bob` (.4) has none.
fn linked(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create -o icc=false --subnet 10.1.0.0/24 --subnet fd00:1::/64 net");
    lab.ok("run -d --name web --network net --expose 80 --expose 53/udp");
    lab.ok("run -d --name alice --network net --link web:www");
    lab.idle("bob", "net");
}

/// [`WHO`] in `web` at both of its addresses.
fn served(lab: &Lab, ports: &[&str]) -> [crate::world::Server; 2] {
    ["10.1.0.2", "fd00:1::2"].map(|host| lab.serves("web", WHO, &[&[host], ports].concat()))
}

/// Whether a connection or a datagram gets an answer.
fn answers(lab: &Lab, from: &str, proto: &str, host: &str, port: u16) -> bool {
    ask(lab, from, proto, (host, port), 0).is_ok()
}

fn links_open_what_is_exposed(lab: &Lab) {
    linked(lab);
    let _servers = served(lab, &["80", "81", "53"]);
    for web in ["10.1.0.2", "fd00:1::2"] {
        assert!(answers(lab, "alice", "tcp", web, 80) && answers(lab, "alice", "udp", web, 53), "{web}");
        assert!(!answers(lab, "alice", "tcp", web, 81), "{web}: not exposed");
        assert!(!answers(lab, "alice", "udp", web, 80), "{web}: exposed, but by TCP");
        assert!(!answers(lab, "bob", "tcp", web, 80), "{web}: not linked");
        assert!(!lab.pings("alice", web), "{web}");
    }
    assert!(lab.drops("bob", "icc") >= 2);
    assert!(
        lab.inside("alice", "getent hosts www").contains("10.1.0.2")
            || lab.inside("alice", "getent hosts www").contains("fd00:1::2")
    );
    assert!(!lab.sh("bob", "getent hosts www").status.success(), "an alias of one's own");
    let rules = lab.ok("show rules");
    let lines: Vec<&str> =
        rules.lines().filter(|line| line.contains("10.1.0.3")).map(|line| &line[12..]).collect();
    let bridge = lab.row("network ls", "name", "net");
    assert_eq!(lines.len(), 4, "{rules}\n{bridge}");
    for ports in ["tcp dpt:80", "tcp spt:80", "udp dpt:53", "udp spt:53"] {
        let (source, destination) =
            if ports.contains("dpt") { ("10.1.0.3", "10.1.0.2") } else { ("10.1.0.2", "10.1.0.3") };
        let line = lines.iter().find(|line| line.ends_with(ports)).unwrap_or_else(|| panic!("{lines:#?}"));
        assert!(
            line.starts_with("ACCEPT ") && line.contains(&format!("{source}             {destination}")),
            "{line}"
        );
    }
}

fn links_come_and_go(lab: &Lab) {
    linked(lab);
    let _servers = served(lab, &["80", "81"]);
    lab.ok("link bob web:site");
    assert!(answers(lab, "bob", "tcp", "10.1.0.2", 80));
    assert!(lab.sh("bob", "getent hosts site").status.success());
    lab.ok("unlink bob site");
    assert!(!answers(lab, "bob", "tcp", "10.1.0.2", 80));
    assert!(!lab.sh("bob", "getent hosts site").status.success());
    lab.ok("link bob web 81/tcp");
    assert!(answers(lab, "bob", "tcp", "10.1.0.2", 81) && !answers(lab, "bob", "tcp", "10.1.0.2", 80));
    lab.ok("unlink bob web");
    lab.ok("unlink alice www");
    assert!(!lab.ok("show rules").contains("tcp dpt:"), "no line without a link");
    assert!(lab.refused("unlink alice www").contains("'www'"));
    assert!(lab.refused("link alice nobody").contains("No such container: nobody"));
    assert!(lab.refused("link alice alice").contains("alice"));
    // With icc, nothing needs to be opened: the name is all that a link gives.
    lab.ok("network set net -o icc=true");
    lab.ok("link alice web:www");
    assert!(answers(lab, "alice", "tcp", "10.1.0.2", 81) && answers(lab, "bob", "tcp", "10.1.0.2", 81));
    assert!(!lab.ok("show rules").contains("tcp dpt:"));
}

fn the_default_network_may_forbid_it(lab: &Lab) {
    lab.daemon("--icc=false");
    lab.ok("run -d --name web --expose 80");
    lab.ok("run -d --name alice --link web");
    lab.ok("run -d --name bob");
    lab.ok("network create open");
    lab.idle("carol", "open");
    lab.idle("dave", "open");
    let address = lab.row("ps", "name", "web")["addresses"].as_str().unwrap().to_owned();
    let _server = lab.serves("web", WHO, &[&address, "80"]);
    assert!(answers(lab, "alice", "tcp", &address, 80) && !answers(lab, "bob", "tcp", &address, 80));
    assert!(
        lab.inside("alice", "getent hosts web").contains(&address),
        "its name, where no others are known"
    );
    assert!(lab.pings("carol", "dave"), "the default network alone");
    let docker0 =
        lab.ok("show rules").lines().find(|line| line.contains(" docker0 docker0 ")).unwrap().to_owned();
    assert!(docker0.contains(" DROP ") && docker0.contains(" docker0 docker0 "), "{docker0}");
}

fn the_users_rules_come_first(lab: &Lab) {
    two_networks(lab, "");
    let _servers = [("carol", "10.2.0.2"), ("carol", "fd00:2::2"), ("alice", "10.1.0.2")]
        .map(|(name, host)| lab.serves(name, WHO, &[host, "80", "81"]));
    assert_eq!(seen_from(lab, "alice", "tcp", ("10.2.0.2", 80)), "-");
    lab.ok("rule add --from net1 --to net2 --proto tcp --dport 80 allow");
    for carol in ["10.2.0.2", "fd00:2::2"] {
        assert!(answers(lab, "alice", "tcp", carol, 80) && answers(lab, "bob", "tcp", carol, 80), "{carol}");
        assert!(!answers(lab, "alice", "tcp", carol, 81) && !lab.pings("alice", carol), "{carol}");
    }
    assert_eq!(
        seen_from(lab, "alice", "tcp", ("10.2.0.2", 80)),
        "10.2.0.1",
        "what leaves a network is masqueraded, wherever it goes, as Docker's rules do it"
    );
    assert!(!answers(lab, "carol", "tcp", "10.1.0.2", 80), "one way");
    // Before what is established: an open connection ends when the user says so.
    lab.ok("rule add --from alice --to carol --before 1 drop");
    assert!(!answers(lab, "alice", "tcp", "10.2.0.2", 80) && answers(lab, "bob", "tcp", "10.2.0.2", 80));
    assert!(lab.drops("alice", "rule") >= 1);
    lab.ok("rule rm 1");
    assert!(answers(lab, "alice", "tcp", "10.2.0.2", 80));
    lab.ok("rule add --from alice --proto tcp --dport 80 --before 1 reject");
    assert_eq!(ask(lab, "alice", "tcp", ("10.2.0.2", 80), 0), Err("Connection refused".to_owned()));
    assert!(lab.drops("alice", "rejected") >= 1);
    let chains: Vec<String> =
        lab.ok("show rules").lines().filter(|line| line.starts_with("Chain ")).map(str::to_owned).collect();
    assert!(chains.iter().any(|line| line.starts_with("Chain DOCKER-USER (1 references)")), "{chains:#?}");
    let rows = lab.json("show rules");
    let forward: Vec<&Value> =
        rows.iter().filter(|row| row["chain"] == "FORWARD" && row["num"] == 1).collect();
    assert!(forward.iter().all(|row| row["target"] == "DOCKER-USER"), "{forward:#?}");
}

fn rules_are_kept_in_order(lab: &Lab) {
    two_networks(lab, "");
    assert!(lab.json("rule ls").is_empty());
    lab.ok("rule add --from alice drop");
    lab.ok("rule add --from bob --to 198.51.100.0/24 reject");
    lab.ok("rule add --proto udp --dport 1000-2000 --state NEW allow");
    lab.ok("rule add --to carol --before 2 allow");
    let order = || -> Vec<String> {
        let rows = lab.json("rule ls");
        assert!(rows.iter().zip(1..).all(|(row, number)| row["num"] == number), "{rows:#?}");
        rows.iter().map(|row| row["action"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(order(), ["drop", "allow", "reject", "allow"]);
    lab.ok("rule rm 1");
    assert_eq!(order(), ["allow", "reject", "allow"]);
    let wrong = [
        ("rule rm 4", "4"),
        ("rule rm 0", "0"),
        ("rule add --from nobody drop", "nobody"),
        ("rule add --dport 80 --proto icmp drop", "tcp or udp"),
        ("rule add --from alice burn", "burn"),
    ];
    for (line, word) in wrong {
        let output = lab.ts(line);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{line}");
        assert!(text(&output.stderr).contains(word), "{line}: {}", text(&output.stderr));
    }
    assert_eq!(order(), ["allow", "reject", "allow"], "what was refused changed nothing");
}

fn what_rules_may_be_about(lab: &Lab) {
    two_networks(lab, "");
    let outside = Outside::behind(lab, "");
    lab.ok("publish carol 8000:80");
    let _servers =
        [lab.serves(&outside, WHO, &[FAR4, "80", "53"]), lab.serves("carol", WHO, &["10.2.0.2", "80"])];
    let rule = |words: &str| lab.ok(&format!("rule add {words}"));
    let clear = || {
        while !lab.json("rule ls").is_empty() {
            lab.ok("rule rm 1");
        }
    };
    // A prefix, a protocol, a port.
    rule(&format!("--to {FAR4}/32 --proto tcp --dport 80 drop"));
    assert!(!answers(lab, "alice", "tcp", FAR4, 80) && answers(lab, "alice", "tcp", FAR4, 53));
    assert!(answers(lab, "alice", "udp", FAR4, 80) && lab.pings("alice", FAR4));
    clear();
    // ICMP of either version.
    rule("--from net1 --proto icmp drop");
    assert!(!lab.pings("alice", FAR4) && !lab.pings("alice", crate::world::FAR6) && lab.pings("carol", FAR4));
    assert!(answers(lab, "alice", "tcp", FAR4, 80));
    clear();
    // What comes from an uplink: the port is the container's by then.
    assert_eq!(seen_from(lab, &outside, "tcp", (WAN4, 8000)), OUT4);
    rule("--from wan --to carol --proto tcp --dport 80 reject");
    assert_eq!(ask(lab, &outside, "tcp", (WAN4, 8000), 0), Err("Connection refused".to_owned()));
    assert!(answers(lab, "alice", "tcp", WAN4, 8000), "from inside it is open");
    clear();
    // Within a network, too.
    assert!(lab.pings("alice", "bob"));
    rule("--from alice --to bob drop");
    assert!(
        !lab.pings("alice", "10.1.0.3") && !lab.pings("alice", "fd00:1::3") && lab.pings("bob", "10.1.0.1")
    );
    clear();
    assert!(lab.pings("alice", "bob"));
    // A state: what has begun goes on.
    let said = lab.inside("alice", &format!("ping -n -c2 -i0.2 -W1 {FAR4} >/dev/null && echo reached"));
    assert_eq!(said, "reached\n");
    rule("--from net1 --state NEW drop");
    assert!(!answers(lab, "alice", "udp", FAR4, 53));
    clear();
    assert!(answers(lab, "alice", "udp", FAR4, 53));
}

fn without_iptables_there_are_none(lab: &Lab) {
    lab.daemon("--iptables=false");
    let outside = Outside::behind(lab, "");
    lab.ok("network create -o icc=false --subnet 10.1.0.0/24 net1");
    lab.ok("network create --internal --subnet 10.2.0.0/24 net2");
    lab.ok("run -d --name alice --network net1 -p 8000:80");
    lab.idle("bob", "net1");
    lab.idle("carol", "net2");
    lab.inside("carol", "ip route add default via 10.2.0.1");
    assert!(lab.pings("alice", "bob") && lab.pings("alice", "10.2.0.2"), "neither icc nor isolation");
    let _server = [lab.serves(&outside, WHO, &[FAR4, "7000"]), lab.serves("alice", WHO, &["10.1.0.2", "80"])];
    assert_eq!(seen_from(lab, "alice", "udp", (FAR4, 7000)), "-", "the outside knows no way back");
    lab.succeeds(&outside, &format!("ip route add 10.1.0.0/24 via {WAN4}"));
    assert_eq!(seen_from(lab, "alice", "udp", (FAR4, 7000)), "10.1.0.2", "no masquerade");
    assert_eq!(ask(lab, &outside, "tcp", (WAN4, 8000), 0), Err("Connection refused".to_owned()), "no DNAT");
    assert_eq!(seen_from(lab, &outside, "tcp", ("10.1.0.2", 80)), OUT4);
    let said = lab.ok("show rules");
    let chains: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("Chain ")).collect();
    let names: Vec<&str> = chains.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["INPUT", "FORWARD", "OUTPUT", "PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"]);
    assert!(chains.iter().all(|line| line.contains("(policy ACCEPT ")), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with(" pkts")).count(), 7, "{said}");
    assert_eq!(said.lines().filter(|line| !line.is_empty()).count(), 14, "and not a rule: {said}");
}

/// A listing without its counters: what is compared with Docker's.
fn without_counters(listing: &str) -> Vec<String> {
    let line = |line: &str| match line.strip_prefix("Chain ") {
        Some(chain) => {
            let policy = |rest: &str| rest.split(' ').next().unwrap().to_owned();
            chain.split_once("(policy ").map_or_else(
                || format!("Chain {chain}"),
                |(name, rest)| format!("Chain {name}(policy {})", policy(rest)),
            )
        }
        // Two columns of five, right-aligned, in front.
        None => line.get(12..).unwrap_or_default().trim_end().to_owned(),
    };
    listing.lines().map(line).collect()
}

/// The chains of the default network with one published port, as Docker 17.05's. What is ours has
/// `DNAT` in its states or a chain of its own name, and is left out.
const DOCKERS: &str = "\
Chain INPUT (policy ACCEPT)
target     prot opt in     out     source               destination

Chain FORWARD (policy DROP)
target     prot opt in     out     source               destination
DOCKER-ISOLATION  all  --  *      *       0.0.0.0/0            0.0.0.0/0
ACCEPT     all  --  *      docker0  0.0.0.0/0            0.0.0.0/0            ctstate RELATED,ESTABLISHED
DOCKER     all  --  *      docker0  0.0.0.0/0            0.0.0.0/0
ACCEPT     all  --  docker0 !docker0  0.0.0.0/0            0.0.0.0/0
ACCEPT     all  --  docker0 docker0  0.0.0.0/0            0.0.0.0/0

Chain OUTPUT (policy ACCEPT)
target     prot opt in     out     source               destination

Chain DOCKER (1 references)
target     prot opt in     out     source               destination
ACCEPT     tcp  --  !docker0 docker0  0.0.0.0/0            ADDRESS           tcp dpt:80

Chain DOCKER-ISOLATION (1 references)
target     prot opt in     out     source               destination
RETURN     all  --  *      *       0.0.0.0/0            0.0.0.0/0

Chain PREROUTING (policy ACCEPT)
target     prot opt in     out     source               destination
DOCKER     all  --  *      *       0.0.0.0/0            0.0.0.0/0            ADDRTYPE match dst-type LOCAL

Chain INPUT (policy ACCEPT)
target     prot opt in     out     source               destination

Chain OUTPUT (policy ACCEPT)
target     prot opt in     out     source               destination
DOCKER     all  --  *      *       0.0.0.0/0           !127.0.0.0/8          ADDRTYPE match dst-type LOCAL

Chain POSTROUTING (policy ACCEPT)
target     prot opt in     out     source               destination
MASQUERADE  all  --  *      !docker0  SUBNET        0.0.0.0/0
MASQUERADE  tcp  --  *      *       ADDRESS           ADDRESS           tcp dpt:80

Chain DOCKER (2 references)
target     prot opt in     out     source               destination
RETURN     all  --  docker0 *       0.0.0.0/0            0.0.0.0/0
DNAT       tcp  --  !docker0 *       0.0.0.0/0            0.0.0.0/0            tcp dpt:8000 to:ADDRESS:80
";

fn the_chains_are_dockers(lab: &Lab) {
    lab.daemon("");
    lab.ok("run -d --name web -p 8000:80");
    let address = lab.row("ps", "name", "web")["addresses"].as_str().unwrap().to_owned();
    let network: Value = serde_json::from_str(&lab.ok("network inspect bridge")).unwrap();
    let subnet = network[0]["IPAM"]["Config"][0]["Subnet"].as_str().unwrap().to_owned();
    let squeezed = |text: &str| text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    let expected = DOCKERS.replace("ADDRESS", &address).replace("SUBNET", &subnet);
    let expected: Vec<String> = expected.lines().map(squeezed).filter(|line| !line.is_empty()).collect();
    let shown = lab.ok("show rules");
    let mut ours = without_counters(&shown).iter().map(|line| squeezed(line)).collect::<Vec<_>>();
    ours.retain(|line| !line.is_empty() && !line.ends_with("ctstate DNAT"));
    let hairpin = ours.iter().position(|line| line.starts_with("Chain TAPSWITCH-HAIRPIN")).unwrap();
    assert_eq!(ours.split_off(hairpin).len(), 3, "its name, its heading, its one line: {shown}");
    ours.retain(|line| !line.starts_with("TAPSWITCH-HAIRPIN"));
    assert_eq!(ours, expected, "{shown}");
    // Every further network brings a DROP for each ordered pair, and its own lines.
    lab.ok("network create one");
    lab.ok("network create two");
    let shown = lab.ok("show rules");
    let isolation =
        shown.split("Chain DOCKER-ISOLATION").nth(1).unwrap().split("\n\n").next().unwrap().to_owned();
    assert_eq!(isolation.lines().filter(|line| line.contains(" DROP ")).count(), 6, "{shown}");
    assert_eq!(
        shown.lines().filter(|line| line.contains("MASQUERADE  all")).count(),
        4,
        "three and a hairpin: {shown}"
    );
    assert!(lab.ok("show rules -6").contains("Chain DOCKER-ISOLATION"), "of IPv6");
    let rows = lab.json("show rules");
    for row in rows.iter().filter(|row| row["policy"] == false) {
        assert!(
            row["num"].as_u64().unwrap() >= 1 && row["table"].is_string() && row["packets"].is_u64(),
            "{row}"
        );
    }
}

/// The one row of `show rules` of the chain with this target that says this.
#[track_caller]
fn counted(lab: &Lab, chain: (&str, &str), target: &str, says: &[&str]) -> (u64, u64) {
    let rows = lab.json("show rules");
    let fits = |row: &&Value| {
        let all = row.to_string();
        row["family"] == "ipv4"
            && (row["table"] == chain.0 && row["chain"] == chain.1 && row["target"] == target)
            && says.iter().all(|part| all.contains(part))
    };
    let found: Vec<&Value> = rows.iter().filter(fits).collect();
    assert_eq!(found.len(), 1, "{chain:?} {target} {says:?}: {found:#?}");
    (found[0]["packets"].as_u64().unwrap(), found[0]["bytes"].as_u64().unwrap())
}

fn counters_mean_what_netfilters_mean(lab: &Lab) {
    lab.daemon("");
    let outside = Outside::behind(lab, "");
    lab.ok("network create --subnet 10.1.0.0/24 -o bridge_name=br0 net1");
    lab.ok("network create --subnet 10.2.0.0/24 -o bridge_name=br1 net2");
    lab.ok("run -d --name web --network net1 -p 8000:80");
    lab.idle("carol", "net2");
    let _server = lab.serves("web", WHO, &["10.1.0.2", "80"]);
    let (forward, docker) = (("filter", "FORWARD"), ("filter", "DOCKER"));
    let (prerouting, dnat, postrouting) = (("nat", "PREROUTING"), ("nat", "DOCKER"), ("nat", "POSTROUTING"));
    let out = [r#""in":"br0""#, r#""out":"!br0""#];
    let back = [r#""out":"br0""#, "RELATED,ESTABLISHED"];
    let subnet = [r#""source":"10.1.0.0/24""#, r#""out":"!br0""#];
    // Three echoes out: the first is the flow's, to nat; all of them are the filter's.
    assert!(lab.inside("web", &format!("ping -n -c3 -i0.2 -W2 {FAR4}")).contains("3 received"));
    assert_eq!(counted(lab, forward, "ACCEPT", &out), (3, 252));
    assert_eq!(counted(lab, forward, "ACCEPT", &back), (3, 252));
    assert_eq!(counted(lab, postrouting, "MASQUERADE", &subnet), (1, 84));
    assert_eq!(counted(lab, ("filter", "DOCKER-ISOLATION"), "RETURN", &[r#""options":"""#]), (6, 504));
    // A connection from outside: its SYN is the nat table's.
    assert_eq!(seen_from(lab, &outside, "tcp", (WAN4, 8000)), OUT4);
    assert_eq!(counted(lab, dnat, "DNAT", &["dpt:8000"]), (1, 60));
    assert_eq!(counted(lab, prerouting, "DOCKER", &[]), (1, 60));
    assert_eq!(counted(lab, docker, "ACCEPT", &["dpt:80"]), (1, 60));
    assert_eq!(counted(lab, postrouting, "MASQUERADE", &subnet), (1, 84), "an answer is no first packet");
    let (answered, _) = counted(lab, forward, "ACCEPT", &back);
    assert!((5..=9).contains(&answered), "what followed the SYN: {answered}");
    // Isolated: each packet counts, and what no rule let pass is the policy's.
    let _ = lab.sh("carol", "ping -n -c3 -i0.2 -W1 10.1.0.2");
    let pair = [r#""in":"br1""#, r#""out":"br0""#];
    assert_eq!(counted(lab, ("filter", "DOCKER-ISOLATION"), "DROP", &pair), (3, 252));
    assert_eq!(counted(lab, forward, "DROP", &[r#""policy":true"#]), (0, 0));
    lab.succeeds(&outside, &format!("ip route add 10.1.0.0/24 via {WAN4}"));
    let _ = lab.does(&outside, "ping -n -c2 -i0.2 -W1 10.1.0.2");
    assert_eq!(counted(lab, forward, "DROP", &[r#""policy":true"#]), (2, 168));
    // To the gateway itself: INPUT, and OUTPUT back.
    let before = counted(lab, ("filter", "INPUT"), "ACCEPT", &[r#""policy":true"#]).0;
    assert!(lab.pings("web", "10.1.0.1"));
    assert_eq!(counted(lab, ("filter", "INPUT"), "ACCEPT", &[r#""policy":true"#]).0, before + 1);
    assert!(counted(lab, ("filter", "OUTPUT"), "ACCEPT", &[r#""policy":true"#]).0 >= 1);
    // Rules that stay keep what they counted, whatever comes and goes beside them.
    lab.ok("publish carol 8001:81");
    lab.ok("unpublish carol 8001:81");
    assert_eq!(counted(lab, dnat, "DNAT", &["dpt:8000"]), (1, 60));
    assert_eq!(counted(lab, postrouting, "MASQUERADE", &subnet), (1, 84));
}
