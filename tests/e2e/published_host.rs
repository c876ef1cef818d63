//! Ports published on the host by its own sockets: from elsewhere, from the host itself, and from inside.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::harness::{Lab, skip, text, until};
use crate::host::{HOST4, HOST6, Host, SERVER4, SERVER6};
use crate::transfers::serve_http;
use crate::world::{Place, WHO, ask, seen_from};

scenarios! {
    seen_from_everywhere
    by_the_way
    what_the_host_refuses
    who_may_call_is_a_rule
    who_may_call_is_listed
    in_ranges
    a_proxy_into_a_network
    the_uplink_comes_and_goes
    a_closed_port_inside_is_told_by_tcp_and_counted_by_udp
}

/// A container `web` that publishes, on so many networks more, and [`WHO`] in it. Its neighbour is `alice`.
fn web(lab: &Lab, flags: &str, networks: usize) -> (Host, Vec<crate::world::Server>) {
    let host = Host::new(lab, "");
    host.ok(lab, &format!("run -d --name web --network net1 {flags}"));
    for number in 0..networks {
        let name = format!("other{number}");
        lab.ok(&format!("network create --subnet 10.7.{number}.0/24 --subnet fd00:7:{number}::/64 {name}"));
        host.ok(lab, &format!("network connect {name} web"));
    }
    lab.ok("network create --subnet 10.2.0.0/24 --subnet fd00:2::/64 net2");
    host.idle(lab, "carol", "net2");
    let servers = ["10.1.0.3", "fd00:1::3"].map(|at| lab.serves("web", WHO, &[at, "80"]));
    (host, servers.into())
}

/// Somebody who calls: whence, by which addresses (of IPv4 and IPv6), as whom he is seen, and with his own port.
type Caller<'a> = (Place<'a>, [&'a str; 2], [&'a str; 2], bool);

/// The matrix: by TCP and UDP, IPv4 and IPv6, of a container on one network and on three.
fn seen_from_everywhere(lab: &Lab) {
    const HOST: [&str; 2] = [HOST4, HOST6];
    const GATEWAY: [&str; 2] = ["10.1.0.1", "fd00:1::1"];
    for networks in [0, 2] {
        let (host, servers) = web(lab, "-p 8000:80 -p 8000:80/udp", networks);
        let mut callers: Vec<Caller<'_>> = vec![
            // From elsewhere, and from the host itself.
            (host.far(), HOST, [SERVER4, SERVER6], true),
            (host.near(), ["127.0.0.1", "::1"], ["192.0.0.2", "fd4a:9c1e:77d3::2"], true),
            (host.near(), HOST, HOST, true),
            // Hairpins: itself, its neighbour, and somebody else leave by a socket of the host's, and come back.
            ("web".into(), HOST, HOST, false),
            ("alice".into(), HOST, HOST, false),
            ("carol".into(), HOST, HOST, false),
            // By gateways; itself and its neighbours would be answered past the switch.
            ("web".into(), GATEWAY, GATEWAY, false),
            ("alice".into(), GATEWAY, GATEWAY, false),
            ("carol".into(), ["10.2.0.1", "fd00:2::1"], ["10.2.0.2", "fd00:2::2"], true),
        ];
        if networks > 0 {
            host.idle(lab, "dave", "other0");
            // On a network that `web` is on as well, and would answer him by.
            let more = ["10.7.0.1", "fd00:7::1"];
            callers.push(("dave".into(), HOST, HOST, false));
            callers.push(("dave".into(), more, GATEWAY, false));
            callers.push(("web".into(), more, GATEWAY, false));
        }
        for kind in ["tcp", "udp"] {
            for (number, (from, called, seen, keeps_port)) in callers.iter().enumerate() {
                for (called, expected) in called.iter().zip(seen) {
                    let what = format!("{kind}, caller {number}, {called}, {networks} more networks");
                    let source = 5555 + u16::try_from(number).unwrap();
                    let seen = ask(lab, *from, kind, (called, 8000), source);
                    let seen = seen.unwrap_or_else(|why| panic!("{what}: {why}"));
                    assert_eq!(seen.address, *expected, "{what}");
                    assert!(!keeps_port || seen.port == source, "{what}: {seen:?}");
                }
            }
            for own in HOST {
                let refused = Err("Connection refused".to_owned());
                assert_eq!(ask(lab, host.far(), kind, (own, 80), 0), refused, "{kind} {own}: not published");
            }
        }
        let row = lab.row("ps", "name", "web");
        assert!(
            row["ports"]
                .as_str()
                .unwrap()
                .contains("0.0.0.0:8000->80/tcp, 0.0.0.0:8000->80/udp, [::]:8000->80/tcp"),
            "{row}"
        );
        let row = lab.row("port web", "host_ip", "0.0.0.0");
        assert_eq!(row["reachable"], "0.0.0.0:8000", "{row}");
        let flows = lab.json("show conntrack");
        assert!(flows.iter().any(|row| row["src"] == SERVER4 && row["dport"] == 8000), "{flows:#?}");
        drop(servers);
        // Nobody listens inside.
        assert_eq!(ask(lab, host.far(), "tcp", (HOST4, 8000), 0), Err("Connection reset by peer".to_owned()));
        lab.ok("down --all");
    }
}

fn by_the_way(lab: &Lab) {
    let (host, _servers) = web(lab, "", 0);
    let refused = Err("Connection refused".to_owned());
    let far = |port| ask(lab, host.far(), "tcp", (HOST4, port), 0).map(|seen| seen.address);
    assert_eq!(far(8000), refused);
    lab.ok("publish web 8000:80");
    lab.ok("publish web 127.0.0.1:8001:80");
    assert_eq!((far(8000), far(8001)), (Ok(SERVER4.to_owned()), refused.clone()));
    assert_eq!(seen_from(lab, host.near(), "tcp", ("127.0.0.1", 8001)), "192.0.0.2");
    lab.ok("unpublish web 8000:80");
    assert_eq!(far(8000), refused, "at once");
    lab.ok("publish web 8000:80");
    assert_eq!(far(8000), Ok(SERVER4.to_owned()));
    lab.ok("stop web");
    assert_eq!(far(8000), refused);
}

fn what_the_host_refuses(lab: &Lab) {
    let (host, _servers) = web(lab, "", 0);
    let taken = lab.serves(host.near(), WHO, &["0.0.0.0", "8000"]);
    let before = (lab.json("show rules"), lab.json("ps -a"));
    for (publish, said) in [
        ("8000:80", "0.0.0.0:8000/tcp: somebody else on this host has that port"),
        ("8000:80/udp", "0.0.0.0:8000/udp: somebody else on this host has that port"),
        ("7990-8010:80", ""),
        ("7999-8001:80-82", "8000/tcp: somebody else"),
        ("80:80", "net.ipv4.ip_unprivileged_port_start=80"),
        ("203.0.113.77:9000:80", "does not have address 203.0.113.77"),
    ] {
        if said.is_empty() {
            lab.ok(&format!("publish web {publish}"));
            lab.ok("unpublish web 80");
            continue;
        }
        let refusal = lab.refused(&format!("publish web {publish}"));
        assert!(refusal.contains(said), "{publish}: {refusal}");
        let run = host.there(lab, &[], &format!("run --rm --network net1 -p {publish} true"));
        assert_eq!(run.status.code(), Some(125), "{publish}");
        assert!(text(&run.stderr).contains(said), "{}", text(&run.stderr));
    }
    // Whom we choose for takes the next.
    let _taken = lab.serves(host.near(), WHO, &["0.0.0.0", "32768", "32769"]);
    lab.ok("publish web 80");
    assert_eq!(lab.json("port web")[0]["host_port"], "32770");
    lab.ok("unpublish web 80");
    let rules = |rows: &[serde_json::Value]| rows.iter().filter(|row| row["target"] == "DNAT").count();
    assert_eq!(rules(&lab.json("show rules")), rules(&before.0), "nothing has changed");
    assert_eq!(lab.json("ps -a").len(), before.1.len());
    assert!(ask(lab, host.near(), "tcp", ("127.0.0.1", 7999), 0).is_err());
    drop(taken);
    lab.ok("publish web 8000:80");
    assert_eq!(seen_from(lab, host.far(), "tcp", (HOST4, 8000)), SERVER4);
}

fn who_may_call_is_a_rule(lab: &Lab) {
    let (host, _servers) = web(lab, "-p 8000:80", 0);
    lab.ok(&format!("rule add --from {SERVER4} --to web --proto tcp --dport 80 allow"));
    lab.ok("rule add --to web --proto tcp --dport 80 reject");
    assert_eq!(seen_from(lab, host.far(), "tcp", (HOST4, 8000)), SERVER4);
    let reset = Err("Connection reset by peer".to_owned());
    assert_eq!(ask(lab, host.near(), "tcp", (HOST4, 8000), 0), reset);
    assert_eq!(ask(lab, host.near(), "tcp", ("127.0.0.1", 8000), 0), reset);
    assert_eq!(ask(lab, "carol", "tcp", (HOST4, 8000), 0), reset);
    let rules = lab.json("show rules");
    let hit = rules.iter().find(|row| row["target"] == "REJECT" && row["packets"] != 0);
    assert!(hit.is_some(), "{rules:#?}");
}

fn who_may_call_is_listed(lab: &Lab) {
    let (host, _servers) = web(lab, &format!("-p 8000:80 --publish-from {SERVER4},{SERVER6}"), 0);
    // The host takes a call before the switch has seen it: who is not listed is reset at once.
    let refused = |place, to| {
        let why = ask(lab, place, "tcp", to, 0).unwrap_err();
        assert!(why == "Connection reset by peer" || why == "Connection refused", "{to:?}: {why}");
    };
    for (own, far, loopback) in [(HOST4, SERVER4, "127.0.0.1"), (HOST6, SERVER6, "::1")] {
        assert_eq!(seen_from(lab, host.far(), "tcp", (own, 8000)), far);
        refused(host.near(), (own, 8000));
        refused(host.near(), (loopback, 8000));
    }
    let carols = ask(lab, "carol", "tcp", (HOST4, 8000), 0);
    assert!(carols.is_err(), "{carols:?}");
    // One more, for the host by its loopback and for who is inside.
    lab.ok("publish web 8001:80 --from 192.0.0.2 10.1.0.0/24");
    assert_eq!(seen_from(lab, host.near(), "tcp", ("127.0.0.1", 8001)), "192.0.0.2");
    refused(host.far(), (HOST4, 8001));
    assert!(ask(lab, host.far(), "tcp", (HOST6, 8001), 0).is_err(), "nobody is listed of IPv6");
    assert_eq!(seen_from(lab, "alice", "tcp", ("10.1.0.1", 8001)), "10.1.0.1", "a hairpin");
    assert_eq!(ask(lab, "carol", "tcp", ("10.2.0.1", 8001), 0), Err("Connection refused".to_owned()));
    // A datagram that the host's socket has taken can be refused in silence only.
    lab.ok("publish web 8001:80/udp --from 192.0.0.2");
    assert_eq!(seen_from(lab, host.near(), "udp", ("127.0.0.1", 8001)), "192.0.0.2");
    assert_eq!(ask(lab, host.far(), "udp", (HOST4, 8001), 0), Err("timeout".to_owned()));
    lab.ok("unpublish web 80/udp");
    // Who says so.
    let row = lab.row("port web", "host_port", "8001");
    assert_eq!((&row["host_ip"], &row["from"]), (&"0.0.0.0".into(), &"192.0.0.2/32,10.1.0.0/24".into()));
    assert!(lab.ok("port").contains(&format!("{SERVER4}/32")));
    let rules = lab.ok("show rules");
    assert!(rules.lines().any(|line| line.contains(SERVER4) && line.contains("dpt:8000")), "{rules}");
    for (flags, why) in [
        ("127.0.0.1:8002:80 --from fd00::/8", "never called from IPv6"),
        ("8002:80 --from 10.0.0.1/8", "write 10.0.0.0/8"),
        ("8002:80 --from alice", "no address or prefix"),
    ] {
        let said = text(&lab.ts(&format!("publish web {flags}")).stderr);
        assert!(said.contains(why), "{said}");
    }
    // It outlives the container's end, and ends with the publish.
    lab.ok("stop web");
    host.ok(lab, "start web");
    let from: Vec<_> = lab.json("port web").iter().map(|row| row["from"].clone()).collect();
    assert_eq!(from.iter().filter(|from| *from == "").count(), 0, "{from:?}");
    lab.ok("unpublish web 8001:80");
    lab.ok("publish web 8001:80 --from 0.0.0.0/0");
    assert_eq!(lab.row("port web", "host_port", "8001")["from"], "0.0.0.0/0");
}

fn in_ranges(lab: &Lab) {
    let host = Host::new(lab, "");
    lab.ok("network create --subnet 10.4.0.0/24 four");
    host.ok(lab, "run -d --name web --network four");
    let limit: u64 = lab.succeeds(host.near(), "ulimit -Hn").trim().parse().unwrap_or(1 << 20);
    if limit < 11_000 {
        return skip("it takes 11,000 file descriptors: ulimit -Hn 11000");
    }
    lab.ok("publish web 20000-29999:20000-29999");
    let listening = || lab.succeeds(host.near(), "ss -Hltn 'sport >= :20000 and sport <= :29999' | wc -l");
    assert_eq!(listening().trim(), "10000");
    let _server = lab.serves("web", WHO, &["10.4.0.2", "20000", "25000", "29999"]);
    for port in [20000, 25000, 29999] {
        assert_eq!(seen_from(lab, host.far(), "tcp", (HOST4, port)), SERVER4, "{port}");
    }
    lab.ok("unpublish web 20000-29999");
    assert_eq!(listening().trim(), "0");
}

fn a_proxy_into_a_network(lab: &Lab) {
    let (host, _servers) = web(lab, "", 0);
    let _http = ["10.1.0.3", "fd00:1::3"].map(|at| serve_http(lab, "web", at, "8080"));
    let program = lab.program();
    let words = [program.to_str().unwrap(), "proxy", "net1", "--listen", "127.0.0.1:1080"];
    let mut proxy = lab.at(host.near(), &words);
    proxy.stdout(Stdio::piped());
    let mut proxy = lab.start(proxy);
    let mut said = BufReader::new(proxy.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(said.next().as_deref(), Some("SOCKS proxy into network 'net1' at 127.0.0.1:1080"));
    let get = |url: &str| {
        let curl = "curl -gsS -m30 -o /dev/null -w %{http_code} --socks5-hostname 127.0.0.1:1080";
        lab.says(host.near(), &format!("{curl} {url}"))
    };
    for name in ["web", "WEB", "10.1.0.3", "[fd00:1::3]"] {
        let got = get(&format!("http://{name}:8080/"));
        assert!(got.starts_with("200"), "{name}: {got}");
    }
    // A closed port, nobody, somebody elsewhere, an address elsewhere.
    for (url, code) in [("web:9", "(5)"), ("nobody:80", "(4)"), ("carol:80", "(4)"), ("10.2.0.2:80", "(2)")] {
        let got = get(&format!("http://{url}/"));
        assert!(got.contains(code), "{url}: {got}");
    }
    host.idle(lab, "late", "net1");
    let _late = lab.serves("late", WHO, &["10.1.0.4", "80"]);
    assert!(get("http://late:80/").contains("HTTP/0.9"), "it is known, and the far end calls");
    assert!(lab.ok("show rules").contains("192.0.0.2"), "by which rule it may");
    let again = host.there(lab, &[], "proxy net1 --listen 127.0.0.1:1080");
    assert!(text(&again.stderr).contains("choose another port"), "{}", text(&again.stderr));
    drop(proxy);
    until("the proxy to end", || get("http://web:8080/").contains("(7)"));
    until("its rule to go", || !lab.ok("show rules").contains("192.0.0.2"));
}

fn the_uplink_comes_and_goes(lab: &Lab) {
    let (host, _servers) = web(lab, "-p 8000:80", 0);
    assert_eq!(seen_from(lab, host.far(), "tcp", (HOST4, 8000)), SERVER4);
    lab.ok("uplink rm user");
    until("the listener to go", || ask(lab, host.far(), "tcp", (HOST4, 8000), 0).is_err());
    let taken = lab.serves(host.near(), WHO, &["0.0.0.0", "8000"]);
    assert!(lab.refused("uplink add user --user").contains("somebody else on this host"));
    assert!(lab.json("uplink ls").is_empty());
    drop(taken);
    lab.ok("uplink add user --user");
    assert_eq!(seen_from(lab, host.far(), "tcp", (HOST4, 8000)), SERVER4);
}

/// What a container says of a datagram that came by a socket of the host's is for the host's kernel to tell:
/// docs/CONFORMANCE.md says why.
fn a_closed_port_inside_is_told_by_tcp_and_counted_by_udp(lab: &Lab) {
    let (host, servers) = web(lab, "-p 8000:80/udp -p 8000:80", 0);
    drop(servers);
    let callers =
        [(host.far(), HOST4), (host.far(), HOST6), (host.near(), "127.0.0.1"), ("carol".into(), HOST4)];
    for (number, (from, called)) in callers.into_iter().enumerate() {
        assert_eq!(ask(lab, from, "udp", (called, 8000), 0), Err("timeout".to_owned()), "{called}");
        assert_eq!(lab.drops("user", "host_untold"), 1 + number as u64, "{called}");
        assert_eq!(ask(lab, from, "tcp", (called, 8000), 0), Err("Connection reset by peer".to_owned()));
    }
    assert!(lab.ok("show drops").contains("only the host's kernel could tell"));
    // Who calls again when somebody listens is served.
    let _servers = ["10.1.0.3", "fd00:1::3"].map(|at| lab.serves("web", WHO, &[at, "80"]));
    for (from, called) in callers {
        assert!(ask(lab, from, "udp", (called, 8000), 0).is_ok(), "{called}");
    }
}
