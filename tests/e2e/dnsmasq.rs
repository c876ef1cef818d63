//! A name server that others have written is asked by the user uplink: dnsmasq, and the C library hears it.

use std::process::{Command, Stdio};

use crate::harness::{Lab, Process, skip, text, until};
use crate::host::{Host, SERVER4, SERVER6};
use crate::world::Place;

scenarios! {
    what_dnsmasq_says
    what_will_be_asked_of_it_is_explained
    dnsmasq_dies_and_comes_back
}

/// Addresses of a name whose answer fits no datagram.
const MANY: usize = 200;

/// Starts dnsmasq at an address, and waits until it listens.
#[track_caller]
fn dnsmasq(lab: &Lab, at: Place<'_>, address: &str) -> Process {
    let hosts = lab.path().join("hosts");
    let many: String = (0..MANY).map(|n| format!("198.18.0.{n} big.example\n")).collect();
    std::fs::write(&hosts, many).unwrap();
    let words = [
        // In the foreground, and as who it is.
        "dnsmasq --no-daemon --conf-file=/dev/null --no-resolv --no-hosts --bind-interfaces --local=/example/ \
         --local-ttl=60 --neg-ttl=60 --local=/2.0.192.in-addr.arpa/",
        "--host-record=web.example,192.0.2.80,2001:db8::80 --cname=www.example,web.example",
        "--cname=outer.example,www.example",
        &format!("--listen-address={address} --addn-hosts={}", hosts.display()),
    ]
    .join(" ");
    let mut command = lab.at(at, &words.split_ascii_whitespace().collect::<Vec<_>>());
    command.stderr(Stdio::null());
    let server = lab.start(command);
    until("dnsmasq to listen", || !lab.succeeds(at, &format!("ss -Hlun src [{address}]")).is_empty());
    server
}

/// A host whose resolver is dnsmasq, at an address of the server's; nothing, loudly, where it is not installed.
fn with_dnsmasq(lab: &Lab, address: &str) -> Option<(Host, Process)> {
    let version =
        Command::new("dnsmasq").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").arg("--version").output();
    if version.is_err() {
        skip("dnsmasq is not installed: apt-get install dnsmasq-base");
        return None;
    }
    let host = Host::new(lab, &format!("--dns {address}"));
    let server = dnsmasq(lab, host.far(), address);
    Some((host, server))
}

/// What the C library of `alice` finds in a database of its own, of the gateway alone; its exit code if it finds
/// nothing.
fn getent(lab: &Lab, words: &str) -> Result<String, Option<i32>> {
    let output = lab.sh("alice", &format!("getent -s dns {words}"));
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(output.status.code()) }
}

/// The addresses that a line of `getent ahosts` has, each once.
fn addresses(said: &str) -> Vec<&str> {
    let streams = said.lines().filter(|line| line.contains("STREAM"));
    streams.filter_map(|line| line.split_whitespace().next()).collect()
}

fn what_dnsmasq_says(lab: &Lab) {
    for server in [SERVER4, SERVER6] {
        let Some((_host, _dnsmasq)) = with_dnsmasq(lab, server) else { return };
        for (name, v4, v6) in [
            ("web.example", "192.0.2.80", "2001:db8::80"),
            ("www.example", "192.0.2.80", "2001:db8::80"),
            ("outer.example", "192.0.2.80", "2001:db8::80"),
        ] {
            // Twice: of the server, and of our cache.
            for _ in 0..2 {
                let said = getent(lab, &format!("ahostsv4 {name}")).unwrap();
                assert_eq!(addresses(&said), [v4], "{name}");
                assert!(said.contains("STREAM web.example\n"), "the chain's end is the name: {said}");
                assert_eq!(addresses(&getent(lab, &format!("ahostsv6 {name}")).unwrap()), [v6], "{name}");
            }
        }
        for address in ["192.0.2.80", "2001:db8::80"] {
            let said = getent(lab, &format!("hosts {address}")).unwrap();
            assert!(said.contains("web.example"), "{address}: {said}");
        }
        let big = getent(lab, "ahostsv4 big.example").unwrap();
        assert_eq!(addresses(&big).len(), MANY, "by TCP");
        // "One or more supplied keys could not be found".
        assert_eq!(getent(lab, "ahostsv4 nobody.example"), Err(Some(2)));
        assert_eq!(getent(lab, "hosts 192.0.2.81"), Err(Some(2)));
        let row = lab.row("show dns", "kind", "upstream");
        let asked: std::net::SocketAddr = row["server"].as_str().unwrap().parse().unwrap();
        assert_eq!((asked.ip().to_string().as_str(), asked.port()), (server, 53));
        assert_eq!((row["timeouts"].as_u64(), row["failures"].as_u64()), (Some(0), Some(0)), "{row:#}");
        lab.ok("down --all");
    }
}

fn dnsmasq_dies_and_comes_back(lab: &Lab) {
    let Some((host, server)) = with_dnsmasq(lab, SERVER4) else { return };
    assert!(getent(lab, "ahostsv4 web.example").is_ok());
    drop(server);
    // Its host refuses the question, which is an answer; what is known already is known.
    assert_eq!(getent(lab, "ahostsv4 big.example"), Err(Some(2)));
    assert_eq!(addresses(&getent(lab, "ahostsv4 web.example").unwrap()), ["192.0.2.80"]);
    assert!(getent(lab, "ahostsv4 alice").is_ok(), "our own names");
    let _server = dnsmasq(lab, host.far(), SERVER4);
    assert_eq!(addresses(&getent(lab, "ahostsv4 big.example").unwrap()).len(), MANY);
}

fn what_will_be_asked_of_it_is_explained(lab: &Lab) {
    let Some((_host, server)) = with_dnsmasq(lab, SERVER4) else { return };
    let explain = |words: &str, expected: &str| {
        let said = lab.ok(&format!("explain alice 10.1.0.1{words}"));
        let step = said.lines().find(|line| line.starts_with("names ")).unwrap_or_else(|| panic!("{said}"));
        assert!(step.ends_with(expected), "{words}: {step}");
    };
    explain(":53/udp", "'example.com' is asked of 10.99.0.2:53, by user");
    explain(" --name web.example", "'web.example' is asked of 10.99.0.2:53, by user");
    explain(" --name alice", "'alice' is a name of this network: its gateway answers");
    assert!(getent(lab, "ahostsv4 web.example").is_ok());
    explain(" --name web.example", "'web.example' is answered from the cache");
    // To a name server that is not ours it is a packet like any other.
    let said = lab.ok("explain alice 10.99.0.2 --name web.example");
    assert!(said.contains("verdict     routed to user") && !said.contains("names  "), "{said}");
    lab.ok("uplink rm user");
    explain(
        " --name www.example",
        "'www.example' is unknown here, and no upstream can be reached (SERVFAIL)",
    );
    drop(server);
    for (words, why) in
        [("10.1.0.1:80 --name web", "give DST or DST:53/udp"), ("10.1.0.1 --name a..b", "is no name")]
    {
        assert!(lab.refused(&format!("explain alice {words}")).contains(why), "{words}");
    }
}
