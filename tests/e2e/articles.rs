//! The sessions of articles on Docker's networks, typed verbatim in `tapswitch shell`.

use crate::harness::{Lab, text, until};
use crate::transcript::{mask, section};
use crate::world::{Outside, WAN4};

scenarios! {
    networking_from_inside
    types_of_networks
    notes_on_containers
    bridges_and_the_hosts_view
    routing_between_two_bridges
}

/// Containers on network bridge and on one of the user's, and what keeps them apart.
const INSIDE: &str = include_str!("articles/a_inside.txt");

/// Types of networks, published ports, names that stay.
const TYPES: &str = include_str!("articles/b_types.txt");

/// Resolvers, forwarding, links where containers are kept apart.
const NOTES: &str = include_str!("articles/c_notes.txt");

/// A bridge session: what the host sees, what a container sees, a published port and the rules for it.
const BRIDGES: &str = include_str!("articles/d_bridges.txt");

/// Routing between two bridges by a container that is on both.
const ROUTER: &str = include_str!("articles/e_router.txt");

fn networking_from_inside(lab: &Lab) {
    lab.docker0();
    for name in ["containers", "isolated", "end"] {
        lab.replays(INSIDE, name);
    }
}

fn types_of_networks(lab: &Lab) {
    lab.docker0();
    for name in ["types", "names", "end"] {
        lab.replays(TYPES, name);
    }
}

fn notes_on_containers(lab: &Lab) {
    lab.daemon("--bip 172.17.0.1/16 --icc=false --dns 168.95.1.1 --dns 8.8.8.8");
    for name in ["resolvers", "forwarding", "links", "end"] {
        lab.replays(NOTES, name);
    }
}

fn bridges_and_the_hosts_view(lab: &Lab) {
    lab.docker0();
    let outside = Outside::behind(lab, "");
    for name in ["bridges", "inside", "nat before", "published"] {
        lab.replays(BRIDGES, name);
    }
    // A browser outside; the host itself is on no network of a switch that has no uplink to it.
    let page = format!("http://{WAN4}:8000/");
    let fetch = format!("import urllib.request as u; print(u.urlopen('{page}', timeout=5).status)");
    until("the web server", || {
        lab.says(&outside, &format!("/usr/bin/python3 -c \"{fetch}\"")).ends_with("200\n")
    });
    lab.replays(BRIDGES, "tables after");
    // What the request moved: one new connection in each table, its packets and answers in FORWARD.
    let counted = |line: &str, like: &str| {
        let printed = text(&lab.types(line).stdout);
        let found =
            printed.lines().find(|line| line.split_whitespace().collect::<Vec<_>>().join(" ").contains(like));
        let found = found
            .unwrap_or_else(|| panic!("{like}: {printed}"))
            .split_whitespace()
            .next()
            .unwrap()
            .to_owned();
        found.parse::<u64>().unwrap()
    };
    let connections = counted("iptables -t nat -nvL", "tcp dpt:8000 to:172.17.0.2:80");
    assert!(connections >= 1);
    assert_eq!(
        counted("iptables -nvL", "ACCEPT tcp -- !docker0 docker0 0.0.0.0/0 172.17.0.2 tcp dpt:80"),
        connections
    );
    assert!(counted("iptables -nvL", "ctstate RELATED,ESTABLISHED") > connections);
    assert!(counted("iptables -nvL", "ACCEPT all -- docker0 !docker0") > connections);
    assert_eq!(counted("iptables -nvL", "ACCEPT all -- docker0 docker0"), 0);
}

fn routing_between_two_bridges(lab: &Lab) {
    lab.docker0();
    for name in ["networks", "before", "routes"] {
        lab.replays(ROUTER, name);
    }
    let expected = mask(section(ROUTER, "frames"));
    // tcpdump becomes another user, and of an ordinary user's container there is only one; ours watches from outside.
    let inside =
        if lab.is_root() { "docker exec centos-router tcpdump -i " } else { "tcpdump -i centos-router:" };
    let outside = "tcpdump -i centos-router:";
    for (tcpdump, interface) in [(inside, "eth0"), (inside, "eth1"), (outside, "eth0"), (outside, "eth1")] {
        let watch = format!("{tcpdump}{interface} -n -c 2 -l icmp");
        let ping = "docker exec centos-net1 ping -i 0.2 -c 50 172.20.0.2 >/dev/null";
        let output = lab.types(&format!("{ping} & {watch}; kill $!; wait"));
        let frames: Vec<String> = mask(&text(&output.stdout)).lines().map(no_sequence).collect();
        let wanted: Vec<String> = expected.lines().map(no_sequence).collect();
        assert!(frames == wanted || frames.iter().rev().eq(&wanted), "{watch}: {output:?}");
    }
    lab.replays(ROUTER, "end");
}

/// A ping's line of tcpdump, whichever ping it is.
fn no_sequence(line: &str) -> String {
    line.split(", ").filter(|part| !part.starts_with("seq ")).collect::<Vec<_>>().join(", ")
}
