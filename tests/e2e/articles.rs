//! The sessions of articles on Docker's networks, typed verbatim in `tapswitch shell`.

use crate::harness::{Lab, text};
use crate::transcript::{mask, section};

scenarios! {
    routing_between_two_bridges
}

/// Routing between two bridges by a container that is on both.
const ROUTER: &str = include_str!("articles/e_router.txt");

fn routing_between_two_bridges(lab: &Lab) {
    lab.daemon("");
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
