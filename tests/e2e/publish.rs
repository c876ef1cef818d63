//! Published ports: from outside, from everywhere inside, live, in ranges, and refused.

use crate::harness::{Lab, skip, text, until};
use crate::transfers::{MANY, THOUSAND, curl_both_ways, iperf, serve_http};
use crate::world::{OUT4, OUT6, Outside, Place, Server, WAN4, WAN6, WHO, ask, seen_from};

scenarios! {
    from_outside_with_its_true_source
    from_everywhere_inside
    in_ranges
    by_the_way
    udp_and_its_errors
    at_one_address
    conflicts
    ports_that_the_switch_chooses
    who_goes_takes_all_along
    for_a_plugged_namespace_and_in_a_lab
    much_at_once_from_outside
    what_a_scan_sees
}

/// A network with `web` (10.1.0.2, fd00:1::2) that publishes, `bob` beside it, `carol` elsewhere.
#[track_caller]
fn web(lab: &Lab, flags: &str, options: &str) -> Outside {
    lab.daemon("");
    lab.ok(&format!("network create --subnet 10.1.0.0/24 --subnet fd00:1::/64 {options} net1"));
    lab.ok("network create --subnet 10.2.0.0/24 --subnet fd00:2::/64 net2");
    let outside = Outside::behind(lab, "");
    lab.ok(&format!("run -d --name web --network net1 {flags}"));
    lab.idle("bob", "net1");
    lab.idle("carol", "net2");
    outside
}

/// [`WHO`] in `web`, at both of its addresses.
fn served(lab: &Lab, ports: &[&str]) -> [Server; 2] {
    ["10.1.0.2", "fd00:1::2"].map(|host| lab.serves("web", WHO, &[&[host], ports].concat()))
}

fn from_outside_with_its_true_source(lab: &Lab) {
    let outside = web(lab, "-p 8000:80", "");
    let _servers = served(lab, &["80", "81"]);
    for (wan, out) in [(WAN4, OUT4), (WAN6, OUT6)] {
        let seen = ask(lab, &outside, "tcp", (wan, 8000), 5555).unwrap();
        assert_eq!((&*seen.address, seen.port), (out, 5555), "as it is");
        // What is not published is not there: neither the port inside, nor another, nor by another protocol.
        for (port, proto) in [(80, "tcp"), (8001, "tcp"), (8000, "udp")] {
            let refusal = ask(lab, &outside, proto, (wan, port), 0).unwrap_err();
            assert_eq!(refusal, "Connection refused", "{wan} {port} {proto}");
        }
    }
    lab.succeeds(&outside, &format!("ip route add 10.1.0.0/24 via {WAN4}"));
    assert_eq!(seen_from(lab, &outside, "tcp", ("10.1.0.2", 81)), "-", "nor at its own address");
    assert_eq!(
        seen_from(lab, &outside, "tcp", ("10.1.0.2", 80)),
        OUT4,
        "but as in Docker, what is published is"
    );
    assert_eq!(seen_from(lab, "carol", "tcp", ("10.1.0.2", 80)), "-", "not from a network that is isolated");
    // Who says where it is.
    let row = lab.row("ps", "name", "web");
    assert!(row["ports"].as_str().unwrap().contains("0.0.0.0:8000->80/tcp"), "{row}");
    assert!(lab.ok("ps").contains("0.0.0.0:8000->80/tcp"));
    let said = lab.ok("port web");
    assert!(said.contains("80/tcp -> ") && said.contains(&format!("{WAN4}:8000")), "{said}");
    let all = lab.ok("port");
    assert!(all.contains(&format!("{WAN4}:8000")) && all.contains("web"), "{all}");
    let flows = lab.json("show conntrack");
    let flow = flows.iter().find(|row| row["dst"] == WAN4 && row["dport"] == 8000).unwrap();
    assert_eq!((&flow["reply_src"], &flow["reply_sport"]), (&"10.1.0.2".into(), &80.into()), "{flow}");
}

fn from_everywhere_inside(lab: &Lab) {
    for options in ["", "-o icc=false"] {
        let outside = web(lab, "-p 8000:80", options);
        let _servers = served(lab, &["80"]);
        // Its neighbours and itself would be answered past the switch, so that they come from the gateway.
        for (from, seen4, seen6) in [
            ("bob", "10.1.0.1", "fd00:1::1"),
            ("web", "10.1.0.1", "fd00:1::1"),
            ("carol", "10.2.0.2", "fd00:2::2"),
        ] {
            assert_eq!(seen_from(lab, from, "tcp", (WAN4, 8000)), seen4, "{from} {options}");
            assert_eq!(seen_from(lab, from, "tcp", (WAN6, 8000)), seen6, "{from} {options}");
        }
        // At any address of ours.
        assert_eq!(seen_from(lab, "bob", "tcp", ("10.1.0.1", 8000)), "10.1.0.1", "{options}");
        assert_eq!(seen_from(lab, "carol", "tcp", ("10.2.0.1", 8000)), "10.2.0.2", "{options}");
        let direct = seen_from(lab, "bob", "tcp", ("10.1.0.2", 80));
        assert_eq!(direct, if options.is_empty() { "10.1.0.3" } else { "-" });
        assert_eq!(seen_from(lab, &outside, "tcp", (WAN4, 8000)), OUT4);
        drop(outside);
        lab.ok("down --all");
    }
}

fn in_ranges(lab: &Lab) {
    let outside = web(lab, "-p 9000-9002:90-92 -p 7000-7002:70", "");
    let _servers = served(lab, &["90", "91", "92", "70"]);
    for (outer, inner) in [(9000, 90), (9001, 91), (9002, 92), (7000, 70)] {
        assert_eq!(seen_from(lab, &outside, "tcp", (WAN4, outer)), OUT4, "{outer}");
        let flows = lab.json("show conntrack");
        let flow = flows.iter().find(|row| row["dport"] == outer).unwrap();
        assert_eq!(flow["reply_sport"], inner);
    }
    for port in [8999, 9003, 7001] {
        assert!(ask(lab, &outside, "tcp", (WAN4, port), 0).is_err(), "{port}");
    }
    let rows = lab.json("show rules");
    let lines =
        |target: &str| rows.iter().filter(|row| row["target"] == target && row["family"] != "ipv6").count();
    assert_eq!(lines("DNAT"), 4, "a line for each range in DOCKER, and one for hairpins: {rows:#?}");
    assert!(lab.ok("show rules").contains("tcp dpts:9000:9002 to:10.1.0.2:90-92"));
}

fn by_the_way(lab: &Lab) {
    let outside = web(lab, "", "");
    let _servers = served(lab, &["80"]);
    assert_eq!(ask(lab, &outside, "tcp", (WAN4, 8000), 0), Err("Connection refused".to_owned()));
    lab.ok("publish web 8000:80");
    assert_eq!(seen_from(lab, &outside, "tcp", (WAN4, 8000)), OUT4);
    lab.ok("publish web 8001:80/tcp");
    assert!(lab.refused("publish web 8001:80").contains("8001"));
    lab.ok("unpublish web 8000:80");
    assert_eq!(ask(lab, &outside, "tcp", (WAN4, 8000), 0), Err("Connection refused".to_owned()));
    assert_eq!(seen_from(lab, &outside, "tcp", (WAN4, 8001)), OUT4);
    assert!(lab.refused("unpublish web 8000:80").contains("8000:80"));
    assert!(lab.refused("publish nobody 8000:80").contains("No such container: nobody"));
    assert_eq!(lab.ts("publish web 8000:80:90:100").status.code(), Some(2));
    assert_eq!(lab.ts("publish web 0:80").status.code(), Some(2));
    assert_eq!(lab.ts("publish web 8000:80/sctp").status.code(), Some(2));
    lab.ok("unpublish web 8001:80");
    assert_eq!((lab.ok("port web").as_str(), lab.json("port").len()), ("", 0));
}

fn udp_and_its_errors(lab: &Lab) {
    let outside = web(lab, "-p 5353:53/udp -p 5354:54/udp", "");
    let _servers = served(lab, &["53"]);
    let table = [(WAN4, OUT4, "10.1.0.2", "10.1.0.1"), (WAN6, OUT6, "fd00:1::2", "fd00:1::1")];
    for (wan, out, inner, gateway) in table {
        assert_eq!(seen_from(lab, &outside, "udp", (wan, 5353)), out);
        assert_eq!(ask(lab, &outside, "tcp", (wan, 5353), 0), Err("Connection refused".to_owned()));
        // Nobody listens on 54: the container's own error comes back, and names nobody inside.
        assert_eq!(ask(lab, &outside, "udp", (wan, 5354), 0), Err("Connection refused".to_owned()));
        let said = lab.says(&outside, &format!("traceroute -n -q1 -w1 -m3 -U -p 5354 {wan}"));
        assert!(!said.contains(inner), "{said}");
        assert_eq!(seen_from(lab, "bob", "udp", (wan, 5353)), gateway);
    }
}

fn at_one_address(lab: &Lab) {
    let outside = web(lab, &format!("-p {WAN4}:8000:80 -p 127.0.0.1:8001:80 -p [{WAN6}]:8002:80"), "");
    let _servers = served(lab, &["80"]);
    assert_eq!(seen_from(lab, &outside, "tcp", (WAN4, 8000)), OUT4);
    assert_eq!(seen_from(lab, &outside, "tcp", (WAN6, 8002)), OUT6);
    for to in [(WAN6, 8000), (WAN4, 8001), (WAN6, 8001), (WAN4, 8002)] {
        assert_eq!(ask(lab, &outside, "tcp", to, 0), Err("Connection refused".to_owned()), "{to:?}");
    }
    assert!(lab.row("ps", "name", "web")["ports"].as_str().unwrap().contains("127.0.0.1:8001->80/tcp"));
    // The network says where its containers publish when they do not.
    lab.ok(&format!("network set net1 -o com.docker.network.bridge.host_binding_ipv4={WAN4}"));
    lab.ok("publish web 8003:80");
    assert!(lab.ok("port web").contains(&format!("{WAN4}:8003")));
    assert_eq!(seen_from(lab, &outside, "tcp", (WAN4, 8003)), OUT4);
    assert!(ask(lab, "carol", "tcp", ("10.2.0.1", 8003), 0).is_err());
}

fn conflicts(lab: &Lab) {
    let _outside = web(lab, "-p 8000:80 -p 9000-9009:90-99", "");
    let refusal = |publish: &str| {
        let output = lab.ts(&format!("run --rm --network net2 -p {publish} true"));
        assert_eq!(output.status.code(), Some(125), "{publish}");
        text(&output.stderr)
    };
    for publish in
        ["8000:80", "8000:81", &format!("{WAN4}:8000:80"), "9005:80", "8999-9000:80-81", "7990-8010:1-21"]
    {
        let said = refusal(publish);
        assert!(said.contains("'web'") && said.lines().count() == 1, "{publish}: {said}");
    }
    assert!(lab.refused("publish carol 8000:80").contains("'web'"));
    // Another protocol or another address is another thing.
    lab.ok("publish carol 8000:80/udp");
    lab.ok("run --rm --network net2 -p 9010:80 true");
    assert_eq!(lab.json("ps -a").len(), 3, "what was refused left nothing");
    lab.ok("unpublish web 8000:80");
    lab.ok("publish carol 8000:80");
    assert!(lab.refused("publish web 8000:80").contains("'carol'"));
}

fn ports_that_the_switch_chooses(lab: &Lab) {
    let outside = web(lab, "-P --expose 80 --expose 53/udp -p 81", "");
    let _servers = served(lab, &["80", "81", "53"]);
    let ports = lab.row("ps", "name", "web")["ports"].as_str().unwrap().to_owned();
    for (inner, proto) in [("80/tcp", "tcp"), ("53/udp", "udp"), ("81/tcp", "tcp")] {
        let before = ports.split(&format!("->{inner}")).next().unwrap();
        let port: u16 = before.rsplit(':').next().unwrap().parse().unwrap_or_else(|_| panic!("{ports}"));
        assert!(port >= 32768, "{ports}");
        assert_eq!(seen_from(lab, &outside, proto, (WAN4, port)), OUT4, "{inner} at {port}");
    }
}

fn who_goes_takes_all_along(lab: &Lab) {
    let outside = web(lab, "-p 8000:80", "");
    let servers = served(lab, &["80"]);
    assert_eq!(seen_from(lab, &outside, "tcp", (WAN4, 8000)), OUT4);
    assert_eq!(seen_from(lab, "carol", "udp", (OUT4, 9)), "-");
    drop(servers);
    lab.ok("stop web");
    let flows = lab.json("show conntrack");
    assert!(flows.iter().all(|row| row["reply_src"] != "10.1.0.2"), "{flows:#?}");
    assert!(flows.iter().any(|row| row["src"] == "10.2.0.2"), "others keep theirs: {flows:#?}");
    assert_eq!(ask(lab, &outside, "tcp", (WAN4, 8000), 0), Err("Connection refused".to_owned()));
    assert!(!lab.ok("show rules").contains("dpt:8000"));
    // Somebody else gets its address, and nothing that was meant for it.
    lab.idle("next", "net1");
    assert_eq!(lab.row("show ports", "port", "next")["ip"], "10.1.0.2");
    let _server = lab.serves("next", WHO, &["10.1.0.2", "80"]);
    assert_eq!(ask(lab, &outside, "tcp", (WAN4, 8000), 0), Err("Connection refused".to_owned()));
    lab.ok("start web");
    let _server = lab.serves("web", WHO, &["0.0.0.0", "80"]);
    assert_eq!(seen_from(lab, &outside, "tcp", (WAN4, 8000)), OUT4, "it is back, wherever it is now");
}

fn for_a_plugged_namespace_and_in_a_lab(lab: &Lab) {
    lab.daemon("");
    let outside = Outside::behind(lab, "");
    lab.ok("network create --subnet 10.1.0.0/24 net1");
    let foreign = lab.foreign();
    lab.ok(&format!("plug box --network net1 --pid {} -p 8000:80", foreign.pid()));
    let place = Place::At(foreign.pid());
    let server = lab.serves(place, WHO, &["10.1.0.2", "80"]);
    assert_eq!(seen_from(lab, &outside, "tcp", (WAN4, 8000)), OUT4);
    drop(server);
    drop(foreign);
    until("the end of the plugged process", || lab.json("ps").is_empty());
    assert!(ask(lab, &outside, "tcp", (WAN4, 8000), 0).is_err());
    lab.ok("uplink rm wan");
    drop(outside);
    lab.ok("down --all");
    let path = lab.path().join("web.toml");
    let program = "python3 -m http.server 80 --bind 10.1.0.2 --directory /etc";
    let toml = format!(
        "[network.net1]\nsubnet = \"10.1.0.0/24\"\n\
         [container.web]\nnetworks = [\"net1\"]\npublish = [\"8000:80\"]\ncommand = \"{program}\"\n"
    );
    std::fs::write(&path, toml).unwrap();
    lab.ok(&format!("up -d {}", path.display()));
    let outside = Outside::behind(lab, "");
    let name = lab.inside("web", "cat /etc/hostname");
    let get = format!("curl -sS -m2 http://{WAN4}:8000/hostname");
    until("the server", || lab.says(&outside, &get) == name);
}

fn much_at_once_from_outside(lab: &Lab) {
    let outside = web(lab, "-p 8080:8080 -p 7500:7500 -p 5201:5201 -p 5201:5201/udp", "");
    for (inner, wan) in [("10.1.0.2", WAN4), ("fd00:1::2", WAN6)] {
        let host = if wan.contains(':') { format!("[{wan}]") } else { wan.to_owned() };
        let server = serve_http(lab, "web", inner, "8080");
        curl_both_ways(lab, &outside, &format!("http://{host}:8080/"));
        curl_both_ways(lab, "bob", &format!("http://{host}:8080/"));
        drop(server);
        let _server = lab.serves("web", MANY, &[inner]);
        let _client = lab.serves(&outside, THOUSAND, &[wan]);
        let rows = lab.json("show conntrack");
        let open = |row: &&serde_json::Value| row["reply_src"] == inner && row["dport"] == 7500;
        assert_eq!(rows.iter().filter(open).count(), 1000);
        for flags in ["", "-R"] {
            let report = iperf(lab, &outside, "web", wan, flags);
            assert!(report["end"]["sum_received"]["bytes"].as_u64().unwrap() > 1_000_000, "{wan} {flags}");
        }
    }
}

fn what_a_scan_sees(lab: &Lab) {
    if !std::path::Path::new("/usr/bin/nmap").exists() {
        return skip("nmap is missing: apt-get install -y nmap");
    }
    let outside = web(lab, "-p 8000:80", "");
    let _servers = served(lab, &["80"]);
    for (flag, wan) in [("", WAN4), ("-6", WAN6)] {
        let said =
            lab.succeeds(&outside, &format!("nmap {flag} -n -Pn --max-retries 2 -p 7990-8010 -oG - {wan}"));
        let ports = said.lines().find(|line| line.contains("Ports: ")).unwrap_or_else(|| panic!("{said}"));
        assert_eq!(ports.matches("/open/").count(), 1, "{said}");
        assert!(ports.contains("8000/open/tcp") && ports.matches("/closed/").count() == 20, "{said}");
    }
    // From inside: the gateway has no other ports, and strangers none at all.
    let said = lab.inside("carol", "nmap -n -Pn -T4 --max-retries 1 -p 75-85,8000 -oG - 10.2.0.1 10.1.0.2");
    assert_eq!(said.matches("/open/").count(), 1, "{said}");
    assert!(said.contains("8000/open/tcp") && said.matches("/filtered/").count() == 12, "{said}");
}
