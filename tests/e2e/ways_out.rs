//! By which interface and address of the host's a user uplink goes out.

use crate::harness::{Lab, Process, until};
use crate::host::{HOST4, HOST6, Host, SERVER4};
use crate::world::{Place, WHO, ask, seen_from};

scenarios! {
    by_another_interface
    from_another_address
}

/// The same addresses are behind both interfaces: who answers is who was reached.
const FAR: [&str; 2] = ["198.51.100.7", "2001:db8:7::7"];
/// The host's addresses on its second interface.
const SECOND: [&str; 2] = ["10.98.0.1", "fd98::1"];
const FIRST: [&str; 2] = [HOST4, HOST6];
/// An uplink's link, of both versions.
const LINK: &str =
    "--ip 192.0.0.9/29 --gateway 192.0.0.10 --ip fd4a:9c1e:77d4::1/64 --gateway fd4a:9c1e:77d4::2";

/// A host with a second interface `eth1` that nothing goes out by of itself, and servers behind both.
fn two_interfaces(lab: &Lab) -> (Host, Process) {
    let host = Host::new(lab, "");
    let second = lab.start(lab.at(host.near(), &["unshare", "-n", "sleep", "1000"]));
    until("a network namespace", || {
        std::fs::read_to_string(format!("/proc/{}/comm", second.pid())).unwrap() == "sleep\n"
    });
    let pid = second.pid();
    lab.succeeds(
        host.near(),
        &format!(
            "ip link add eth1 type veth peer name eth0 netns {pid}; ip link set eth1 up; \
             ip addr add 10.98.0.1/24 dev eth1; ip addr add fd98::1/64 dev eth1 nodad; \
             ip route add default via 10.98.0.2 dev eth1 metric 5000; \
             ip -6 route add default via fd98::2 dev eth1 metric 5000"
        ),
    );
    lab.succeeds(
        Place::At(pid),
        "ip link set lo up; ip link set eth0 up; ip addr add 10.98.0.2/24 dev eth0; \
         ip addr add fd98::2/64 dev eth0 nodad; ip route add default via 10.98.0.1; \
         ip -6 route add default via fd98::1",
    );
    for far in [host.far(), Place::At(pid)] {
        lab.succeeds(
            far,
            &format!("ip addr add {}/32 dev lo; ip addr add {}/128 dev lo nodad", FAR[0], FAR[1]),
        );
    }
    lab.succeeds(host.near(), "echo '0 0' >/proc/sys/net/ipv4/ping_group_range");
    (host, second)
}

/// Whom a server sees, by each protocol and IP version.
#[track_caller]
fn comes_from(lab: &Lab, expected: [&str; 2]) {
    for (far, own) in FAR.into_iter().zip(expected) {
        for kind in ["tcp", "udp"] {
            let seen = ask(lab, "alice", kind, (far, 7000), 0).map(|seen| seen.address);
            assert_eq!(seen, Ok(own.to_owned()), "{kind} {far} {}", lab.ok("show drops"));
        }
        assert!(lab.pings("alice", far), "{far}");
    }
}

/// As whom a container sees who calls its published port from elsewhere.
fn published_is_seen_from(lab: &Lab, host: &Host) -> String {
    seen_from(lab, host.far(), "tcp", (HOST4, 8000))
}

fn by_another_interface(lab: &Lab) {
    let (host, second) = two_interfaces(lab);
    let serve = |at| FAR.map(|far| lab.serves(at, WHO, &[far, "7000"]));
    lab.ok("publish alice 8000:80");
    let _published = lab.serves("alice", WHO, &["10.1.0.2", "80"]);
    assert_eq!(published_is_seen_from(lab, &host), SERVER4);
    let (_servers, others) = (serve(host.far()), serve(Place::At(second.pid())));
    comes_from(lab, FIRST);
    // Who makes an uplink means it to be used; the one that is there by itself comes last.
    lab.ok(&format!("uplink add vpn --user --out eth1 {LINK}"));
    comes_from(lab, SECOND);
    assert_eq!(published_is_seen_from(lab, &host), SERVER4, "and what is published stays so");
    assert_eq!(lab.row("uplink ls", "name", "vpn")["options"], "--out eth1");
    assert!(lab.ok("uplink ls").contains(" --out eth1\n"));
    // What is not there by that interface is not there, though it is by another.
    drop(others);
    for far in FAR {
        for kind in ["tcp", "udp"] {
            assert_eq!(
                ask(lab, "alice", kind, (far, 7000), 0),
                Err("Connection refused".to_owned()),
                "{far}"
            );
        }
    }
    // It can be changed, and taken away.
    lab.ok("uplink set vpn --out eth0");
    comes_from(lab, FIRST);
    let said = lab.refused("uplink set vpn --out eth7");
    assert_eq!(
        said,
        "uplink 'vpn': nothing goes out by 'eth7': the host has no such interface: 'ip link' lists them, and that of a \
         VPN is there when the VPN is up"
    );
    assert_eq!(lab.row("uplink ls", "name", "vpn")["options"], "--out eth0", "it stays as it was");
    comes_from(lab, FIRST);
    lab.refused(&format!("uplink add other --user --out eth7 {LINK}"));
    assert!(lab.json("uplink ls").iter().all(|row| row["name"] != "other"));
    // One that goes away afterwards is told to who sends.
    lab.succeeds(host.near(), "ip link add eth7 type veth peer name eth8; ip link set eth7 up");
    lab.ok("uplink set vpn --out eth7");
    lab.succeeds(host.near(), "ip link del eth7");
    assert!(ask(lab, "alice", "tcp", (FAR[0], 7000), 0).is_err(), "there is no such interface any more");
    lab.ok("uplink rm vpn");
    comes_from(lab, FIRST);
    assert_eq!(published_is_seen_from(lab, &host), SERVER4);
}

fn from_another_address(lab: &Lab) {
    let (host, _second) = two_interfaces(lab);
    let _servers = FAR.map(|far| lab.serves(host.far(), WHO, &[far, "7000"]));
    // The kernel does not choose the other by itself.
    lab.succeeds(
        host.near(),
        "ip addr add 10.99.0.9/24 dev eth0; ip addr add fd99::9/64 dev eth0 nodad preferred_lft 0",
    );
    comes_from(lab, FIRST);
    lab.ok(&format!("uplink add other --user --source 10.99.0.9 --source fd99::9 {LINK}"));
    assert_eq!(
        lab.row("uplink ls", "name", "other")["options"],
        "--source 10.99.0.9 --source fd99::9",
        "as it was given"
    );
    // Hosts that have just come up do not find each other at once.
    until("the new address to be found", || {
        lab.does(host.near(), &format!("ping -n -c1 -W1 -I fd99::9 {}", FAR[1])).status.success()
    });
    comes_from(lab, ["10.99.0.9", "fd99::9"]);
    // Of one version alone; the kernel chooses the other.
    lab.ok("uplink set other --source fd99::9");
    comes_from(lab, [HOST4, "fd99::9"]);
    // An address that the host does not have, or no longer.
    let said = lab.refused("uplink set other --source fd99::77");
    assert!(said.contains("nothing goes out from fd99::77: the host has no such address"), "{said}");
    lab.succeeds(host.near(), "ip addr del fd99::9/64 dev eth0");
    assert!(ask(lab, "alice", "tcp", (FAR[1], 7000), 0).is_err());
    assert_eq!(seen_from(lab, "alice", "tcp", (FAR[0], 7000)), HOST4, "others are left alone");
}
