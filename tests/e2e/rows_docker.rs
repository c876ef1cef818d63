//! What Docker's users know of networks and listings, a scenario a row of the acceptance list: commands as they
//! are typed at `docker`, and what it prints, byte for byte but for ids, times and ports that nobody chose.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Lab, Process, succeeded, text, until};

scenarios! {
    row_01_types_of_networks
    row_02_networks_are_switches_of_their_own
    row_02_automatic_subnets_keep_clear_of_the_host
    row_03_network_ls
    row_04_network_inspect
    row_05_containers_of_a_network
    row_06_network_create
    row_07_addresses_in_start_order
    row_16_published_ports_in_listings
    row_23_host_and_none
}

/// Ids become `X`, whole or cut short, and times `@`: whatever differs from run to run.
pub(crate) fn masked(text: &str) -> String {
    let is_id = |word: &str| [12, 64].contains(&word.len()) && word.bytes().all(|c| c.is_ascii_hexdigit());
    let is_time = |word: &str| word.len() > 19 && word.get(10..11) == Some("T") && word.ends_with('Z');
    let mut out = String::new();
    let mut word = String::new();
    for c in text.chars().chain(['\0']) {
        if c.is_alphanumeric() || "-:.".contains(c) {
            word.push(c);
            continue;
        }
        match word.as_str() {
            id if is_id(id) => out.push_str(&"X".repeat(id.len().min(12))),
            time if is_time(time) => out.push('@'),
            other => out.push_str(other),
        }
        word.clear();
        if c != '\0' {
            out.push(c);
        }
    }
    out
}

/// A daemon in a network namespace of its own, with these commands run there first. It serves no containers.
fn daemon_elsewhere(lab: &Lab, script: &str, flags: &str) -> Process {
    let whose: &[&str] = if lab.is_root() { &["unshare", "-n"] } else { &["unshare", "-Urn"] };
    let program = lab.program();
    let script = format!("{script}\nexec {} daemon {flags}", program.display());
    let process = lab.start(lab.command(&[whose, &["sh", "-e", "-c", &script]].concat()));
    until("the daemon", || lab.ts("status").status.success());
    process
}

fn inspected(lab: &Lab, what: &str) -> Value {
    serde_json::from_str::<Vec<Value>>(&lab.ok(what)).unwrap().remove(0)
}

fn row_01_types_of_networks(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create -d bridge one");
    lab.ok("network create --driver=bridge two");
    let drivers = lab.ok("network ls --format {{.Name}}={{.Driver}}");
    let mut drivers: Vec<&str> = drivers.lines().collect();
    drivers.sort_unstable();
    assert_eq!(drivers, ["bridge=bridge", "host=host", "none=null", "one=bridge", "two=bridge"]);
    // A type that is not there is refused by its name, before anything is made.
    let output = lab.ts("network create -d overlai three");
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("'overlai'") && said.contains("bridge"), "{said}");
    // On networks of several types one after the other, and on several at once.
    lab.ok("run -d --name box --network none");
    lab.ok("network disconnect none box");
    lab.ok("network connect bridge box");
    lab.ok("network connect --ip 172.18.0.9 one box");
    lab.idle("other", "one");
    assert!(lab.pings("box", &lab.address("other")) && lab.pings("box", "172.17.0.1"));
    assert_eq!(lab.inside("box", "ls /sys/class/net").split_whitespace().count(), 3);
}

fn row_02_networks_are_switches_of_their_own(lab: &Lab) {
    let _daemon = daemon_elsewhere(lab, "", "");
    lab.ok("network create one");
    lab.ok("network create two");
    let rows = lab.json("network ls");
    let of = |name: &str| rows.iter().find(|row| row["name"] == name).unwrap();
    assert_eq!(
        (&of("bridge")["subnet"], &of("bridge")["bridge"]),
        (&"172.17.0.0/16".into(), &"docker0".into())
    );
    assert_eq!(
        (&of("one")["subnet"], &of("two")["subnet"]),
        (&"172.18.0.0/16".into(), &"172.19.0.0/16".into())
    );
    let bridge = of("one")["bridge"].as_str().unwrap();
    assert_eq!(bridge, format!("br-{}", &of("one")["id"].as_str().unwrap()[..12]));
    assert_eq!(inspected(lab, "network inspect two")["IPAM"]["Config"][0]["Gateway"], "172.19.0.1");
}

/// As inside a container of Docker's: the host is at 172.17.0.2/16, has a route elsewhere, and asks 172.20.0.53.
fn row_02_automatic_subnets_keep_clear_of_the_host(lab: &Lab) {
    let resolv_conf = lab.path().join("resolv.conf");
    std::fs::write(&resolv_conf, "nameserver 172.20.0.53\n").unwrap();
    let setup = format!(
        "ip link set lo up; ip addr add 172.17.0.2/16 dev lo; ip route add 172.18.0.0/15 dev lo; exec 2>{}/said",
        lab.path().display()
    );
    let _daemon = daemon_elsewhere(lab, &setup, &format!("--resolv-conf {}", resolv_conf.display()));
    let said = std::fs::read_to_string(lab.path().join("said")).unwrap();
    let passed_over = "172.17.0.0/16 is passed over, for the host's address 172.17.0.2/16 of lo";
    assert!(said.contains(passed_over), "{said}");
    let output = lab.ts("network create one");
    assert!(output.status.success() && text(&output.stdout).trim_end().len() == 64);
    let said = text(&output.stderr);
    assert!(said.contains("'one' is given 172.22.0.0/16: 172.17.0.0/16 is passed over"), "{said}");
    let subnet = |name: &str| lab.row("network ls", "name", name)["subnet"].clone();
    assert_eq!((subnet("bridge"), subnet("one")), ("172.21.0.0/16".into(), "172.22.0.0/16".into()));
    for (chosen, by) in [
        ("172.17.128.0/24", "address 172.17.0.2/16 of lo"),
        ("172.19.0.0/16", "route to 172.18.0.0/15 by lo"),
        ("172.20.0.0/24", "name server 172.20.0.53"),
    ] {
        let output = lab.ts(&format!("network create --subnet {chosen} net"));
        let said = text(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(
            said.contains(&format!("WARNING: subnet {chosen} of network 'net' overlaps the host's {by}")),
            "{said}"
        );
        lab.ok("network rm net");
    }
    let output = lab.ts("network create --subnet 10.1.0.0/24 net");
    assert_eq!(text(&output.stderr), "", "there is nothing to say");
}

fn row_03_network_ls(lab: &Lab) {
    lab.daemon("");
    let ls = "\
NETWORK ID          NAME                DRIVER              SCOPE
XXXXXXXXXXXX        bridge              bridge              local
XXXXXXXXXXXX        host                host                local
XXXXXXXXXXXX        none                null                local
";
    assert_eq!(masked(&lab.ok("network ls")), ls);
    let id = lab.ok("network create --label team=red net1").trim_end().to_owned();
    let expected = ls.replace(
        "XXXXXXXXXXXX        none",
        "XXXXXXXXXXXX        net1                bridge              local\nXXXXXXXXXXXX        none",
    );
    assert_eq!(masked(&lab.ok("network list")), expected);
    assert_eq!(lab.ok("network ls -q -f name=net1"), format!("{}\n", &id[..12]));
    assert_eq!(lab.ok("network ls -q --no-trunc --filter label=team=red"), format!("{id}\n"));
    let table = [
        ("-f driver=null --format {{.Name}}", "none\n"),
        ("-f type=builtin --format {{.Name}}/{{.Driver}}", "bridge/bridge\nhost/host\nnone/null\n"),
        ("-f driver=host -f driver=null --format {{.Name}}", "host\nnone\n"),
        ("-f dangling=true --format {{.Name}}:{{.Labels}}", "net1:team=red\n"),
    ];
    for (flags, expected) in table {
        assert_eq!(lab.ok(&format!("network ls {flags}")), expected, "{flags}");
    }
    let output = lab.words(&["network", "ls", "-f", "name=net1", "--format", "table {{.Name}}\t{{.Scope}}"]);
    assert_eq!(text(&output.stdout), "NAME                SCOPE\nnet1                local\n");
    // Ids: unique prefixes everywhere, ambiguous ones nowhere.
    for length in [4, 12, 63, 64] {
        assert_eq!(inspected(lab, &format!("network inspect {}", &id[..length]))["Name"], "net1", "{length}");
    }
    let host = lab.row("network ls", "name", "host")["id"].as_str().unwrap().to_owned();
    assert_eq!(lab.ok(&format!("network inspect -f {{{{.Driver}}}} {}", &host[..16])), "host\n");
    let ids: Vec<String> =
        (0..17).map(|n| lab.ok(&format!("network create n{n}")).trim_end().to_owned()).collect();
    let first = |digit: char| ids.iter().filter(|id| id.starts_with(digit)).count();
    // Of 17 ids, two begin with the same digit.
    let digit = "0123456789abcdef".chars().find(|digit| first(*digit) > 1).unwrap();
    assert!(lab.refused(&format!("network inspect {digit}")).contains("give more of it, or a name"));
    assert_eq!(lab.refused("network ls -f colour=red").split(':').next(), Some("invalid filter 'colour'"));
    assert_eq!(lab.ok("network prune --force --filter label=team"), "Deleted Networks:\nnet1\n\n");
    let output = lab.ts("network prune -f");
    let names: Vec<String> = text(&output.stdout).lines().map(str::to_owned).collect();
    assert_eq!((names[0].as_str(), names.len()), ("Deleted Networks:", 19));
    assert_eq!(masked(&lab.ok("network ls")), ls);
    assert_eq!(lab.ok("network prune --force"), "");
    // Without an answer nothing is removed.
    lab.ok("network create --label team=blue net1");
    let asked = "WARNING! This will remove all custom networks not used by at least one container.\nAre you sure you \
                 want to continue? [y/N] ";
    assert_eq!(lab.ok("network prune"), asked);
    assert_eq!(lab.ok("network prune -f --filter label!=team"), "");
    assert_eq!(lab.ok("network prune -f --filter until=24h"), "", "it is younger");
    assert!(
        lab.refused("network prune -f --filter until=soon")
            .contains("failed to parse value as time or duration")
    );
    assert_eq!(lab.ok("network prune -f --filter label=team=blue"), "Deleted Networks:\nnet1\n\n");
}

/// The transcript of `docker network inspect bridge`, with the two keys that came after it.
const BRIDGE: &str = r#"[
    {
        "Name": "bridge",
        "Id": "XXXXXXXXXXXX",
        "Created": "@",
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv6": false,
        "IPAM": {
            "Driver": "default",
            "Options": null,
            "Config": [
                {
                    "Subnet": "172.17.0.0/16",
                    "Gateway": "172.17.0.1"
                }
            ]
        },
        "Internal": false,
        "Attachable": false,
        "Ingress": false,
        "ConfigFrom": {
            "Network": ""
        },
        "ConfigOnly": false,
        "Containers": {},
        "Options": {
            "com.docker.network.bridge.default_bridge": "true",
            "com.docker.network.bridge.enable_icc": "true",
            "com.docker.network.bridge.enable_ip_masquerade": "true",
            "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
            "com.docker.network.bridge.name": "docker0",
            "com.docker.network.driver.mtu": "1500"
        },
        "Labels": {}
    }
]
"#;

fn row_04_network_inspect(lab: &Lab) {
    let _daemon = daemon_elsewhere(lab, "", "");
    assert_eq!(masked(&lab.ok("network inspect bridge")), BRIDGE);
    assert_eq!(masked(&lab.ok("inspect --type network bridge")), BRIDGE);
    lab.ok("network create --internal --label a=b --ipv6 --subnet 10.1.0.0/16 --ip-range 10.1.5.0/24 \
            --aux-address printer=10.1.5.9 -o mtu=1400 net1");
    let net1 = inspected(lab, "network inspect net1");
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let bridge: Value = serde_json::from_str::<Vec<Value>>(BRIDGE).unwrap().remove(0);
    for network in [&net1, &inspected(lab, "network inspect host"), &inspected(lab, "inspect none")] {
        assert_eq!(keys(network), keys(&bridge));
    }
    assert_eq!(
        (&net1["Internal"], &net1["EnableIPv6"], &net1["Labels"]),
        (&json!(true), &json!(true), &json!({"a": "b"}))
    );
    assert_eq!(net1["Options"], json!({"com.docker.network.driver.mtu": "1400"}));
    let ipv4 = json!({"Subnet": "10.1.0.0/16", "IPRange": "10.1.5.0/24", "Gateway": "10.1.0.1", "AuxiliaryAddresses": {"printer": "10.1.5.9"}});
    assert_eq!(net1["IPAM"]["Config"][0], ipv4);
    lab.ok("network create plain");
    let plain = inspected(lab, "network inspect plain");
    assert_eq!((&plain["Options"], &plain["IPAM"]["Options"]), (&json!({}), &json!({})));
    for (name, driver) in [("host", "host"), ("none", "null")] {
        let network = inspected(lab, &format!("network inspect {name}"));
        assert_eq!(
            (&network["Driver"], &network["IPAM"]["Config"], &network["Options"]),
            (&json!(driver), &json!([]), &json!({}))
        );
    }
    let table = [
        ("{{.Driver}}", "bridge\n"),
        ("{{(index .IPAM.Config 0).Gateway}}", "172.17.0.1\n"),
        ("{{range .IPAM.Config}}{{.Subnet}}{{end}}", "172.17.0.0/16\n"),
        ("{{json .Labels}} {{len .Options}}", "{} 6\n"),
        ("{{index .Options \"com.docker.network.bridge.name\"}}", "docker0\n"),
        ("{{if .Internal}}in{{else}}out{{end}}", "out\n"),
    ];
    for (template, expected) in table {
        assert_eq!(
            text(&lab.words(&["network", "inspect", "-f", template, "bridge"]).stdout),
            expected,
            "{template}"
        );
    }
    assert_eq!(lab.ok("network inspect -f {{.Name}} bridge host none"), "bridge\nhost\nnone\n");
    let said = lab.refused("network inspect -f {{.Nmae}} bridge");
    assert_eq!(said, "template '.Nmae' finds no 'Nmae': did you mean 'Name'?");
}

fn row_05_containers_of_a_network(lab: &Lab) {
    lab.daemon("--bip 172.17.0.1/16");
    lab.ok("network create --subnet 172.20.0.0/16 net2");
    lab.idle("centos-net2", "net2");
    lab.ok("run -d --name one");
    let containers = inspected(lab, "network inspect net2")["Containers"].clone();
    let (id, entry) = containers.as_object().unwrap().iter().next().unwrap();
    assert_eq!(id, &lab.row("ps", "name", "centos-net2")["id"]);
    let expected = r#"{"Name":"centos-net2","EndpointID":"XXXXXXXXXXXX","MacAddress":"02:42:ac:14:00:02","IPv4Address":"172.20.0.2/16","IPv6Address":""}"#;
    assert_eq!(masked(&entry.to_string()), expected);
    assert_eq!(lab.inside("centos-net2", "cat /sys/class/net/eth0/address"), "02:42:ac:14:00:02\n");
    assert_eq!(lab.ok("inspect -f {{.NetworkSettings.Networks.bridge.IPAddress}} one"), "172.17.0.2\n");
    assert_eq!(lab.ok("inspect -f {{.NetworkSettings.IPAddress}} one"), "172.17.0.2\n");
    let said = lab.refused("network connect --alias www bridge centos-net2");
    assert!(
        said.starts_with("network-scoped alias is supported only for containers in user defined networks"),
        "{said}"
    );
    lab.ok("network connect bridge centos-net2");
    let template = "{{range $k, $v := .NetworkSettings.Networks}}{{$k}}={{$v.IPAddress}};{{end}}";
    let output = lab.words(&["inspect", "-f", template, "centos-net2"]);
    assert_eq!(text(&output.stdout), "bridge=172.17.0.3;net2=172.20.0.2;\n");
}

fn row_06_network_create(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create --driver bridge --subnet 10.9.0.0/16 --ip-range 10.9.4.0/24 name");
    lab.ok("network create net1 --subnet=10.10.0.0/16");
    lab.ok(
        "network create -d bridge --subnet=10.11.0.0/16 -o com.docker.network.bridge.enable_icc=false quiet",
    );
    lab.ok(
        "network create --subnet 10.12.0.0/16 --opt com.docker.network.bridge.enable_ip_masquerade=false \
            -o com.docker.network.bridge.host_binding_ipv4=127.0.0.1 -o com.docker.network.bridge.name=br7 \
            -o com.docker.network.driver.mtu=9000 -o com.docker.network.container_iface_prefix=net \
            -o com.docker.network.bridge.inhibit_ipv4=true net3",
    );
    lab.idle("box", "net3");
    let inside = lab.inside("box", "cat /sys/class/net/net0/mtu; ip -br -4 addr show net0");
    assert!(inside.starts_with("9000\n") && inside.contains("10.12.0.2/16"), "{inside}");
    assert!(!lab.pings("box", "10.12.0.1"), "the gateway's address is left to somebody else");
    lab.ok("network set net3 -o inhibit_ipv4=false");
    assert!(lab.pings("box", "10.12.0.1"));
    assert_eq!(lab.row("network ls", "name", "net3")["bridge"], "br7");
    lab.idle("ranged", "name");
    assert_eq!(lab.address("ranged"), "10.9.4.0");
    let table = [
        ("network create -o colour=red two", "option 'colour' is not known: the options are icc, "),
        (
            "network create -o com.docker.network.bridge.enable_icc=no two",
            "enable_icc' cannot be 'no': it takes true or false",
        ),
        (
            "network create -o com.docker.network.driver.mtu=67 two",
            "mtu' cannot be '67': it takes 68 to 65521 bytes",
        ),
        (
            "network create -o com.docker.network.bridge.default_bridge=true two",
            "cannot be 'true': it takes false",
        ),
        (
            "network create -o com.docker.network.bridge.name=br7 two",
            "conflicts with network net3 (br7): networks have same bridge name",
        ),
        ("network set net3 -o iface_prefix=eth", "is fixed when the network is created"),
        ("network create net1", "network with name net1 already exists"),
        ("network create --subnet 10.9.8.0/24 two", "Pool overlaps with other one on this address space"),
        (
            "network create --subnet 10.20.0.0/24 --subnet 10.21.0.0/24 two",
            "bridge driver doesn't support multiple subnets",
        ),
        ("network create --subnet 10.20.0.0/24 --ip-range 10.21.0.0/24 two", "10.21.0.0/24"),
        ("network create --subnet 10.20.0.0/24 --gateway 10.21.0.1 two", "10.21.0.1"),
        ("network rm net3", "network net3 id"),
        ("network rm bridge", "bridge is a pre-defined network and cannot be removed"),
        ("network create bridge", "operation is not permitted on predefined bridge network"),
    ];
    for (line, part) in table {
        let said = lab.refused(line);
        assert!(said.contains(part), "{line}: {said}");
    }
}

fn row_07_addresses_in_start_order(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create --subnet 10.1.0.0/24 one");
    lab.ok("network create --subnet 10.2.0.0/24 two");
    for (name, address) in [("a1", "10.1.0.2"), ("a2", "10.1.0.3"), ("a3", "10.1.0.4")] {
        lab.idle(name, "one");
        assert_eq!(lab.address(name), address);
    }
    lab.ok("stop a2");
    lab.idle("a4", "one");
    assert_eq!(lab.address("a4"), "10.1.0.3", "the lowest that is free");
    lab.ok("start a2");
    assert_eq!(lab.address("a2"), "10.1.0.5");
    let output = lab.ts("run --network one --ip 10.1.0.3 true");
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output.stderr).contains("Address already in use: 10.1.0.3"), "{}", text(&output.stderr));
    // Interfaces in the order of connecting, and one default route: by the network that is first by name.
    lab.ok("network connect two a1");
    let way_out = || lab.inside("a1", "ip -4 route show default");
    assert!(lab.inside("a1", "ip -br addr show eth1").contains("10.2.0.2/24"));
    assert_eq!(way_out().trim_end(), "default via 10.1.0.1 dev eth0");
    lab.ok("network disconnect one a1");
    assert_eq!(way_out().trim_end(), "default via 10.2.0.1 dev eth1");
    assert!(
        lab.refused("network connect two a1").contains("endpoint with name a1 already exists in network two")
    );
    lab.ok("network connect one a1");
    assert!(
        lab.inside("a1", "ip -br addr show eth2").contains("10.1.0.2/24"),
        "the lowest address again, a new name"
    );
    assert_eq!(way_out().trim_end(), "default via 10.1.0.1 dev eth2");
}

fn row_16_published_ports_in_listings(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create --subnet 10.1.0.0/24 net1");
    lab.ok("run -d --name web --network net1 -p 8000:80 -p 90-92:90-92 -p 127.0.0.1:53:53/udp --expose 70-71 sleep 1000");
    lab.ok("run -d --name other --network net1 -l tier=back");
    let ps = masked(&lab.ok("ps -f name=web"));
    let (header, line) = ps.split_once('\n').unwrap();
    let columns: Vec<&str> = header.split("  ").map(str::trim).filter(|word| !word.is_empty()).collect();
    assert_eq!(columns, ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
    assert!(
        header.starts_with("CONTAINER ID        IMAGE               COMMAND             CREATED  "),
        "{header}"
    );
    let ports = "127.0.0.1:53->53/udp, 70-71/tcp, 0.0.0.0:90-92->90-92/tcp, 0.0.0.0:8000->80/tcp";
    let at = header.find("PORTS").unwrap();
    assert_eq!(line[at..].trim_end(), format!("{ports}   web"));
    let value = inspected(lab, "inspect web");
    assert_eq!(value["HostConfig"]["PortBindings"]["80/tcp"], json!([{"HostIp": "", "HostPort": "8000"}]));
    assert_eq!(
        value["HostConfig"]["PortBindings"]["53/udp"],
        json!([{"HostIp": "127.0.0.1", "HostPort": "53"}])
    );
    assert_eq!(
        value["NetworkSettings"]["Ports"]["80/tcp"],
        json!([{"HostIp": "0.0.0.0", "HostPort": "8000"}])
    );
    assert_eq!(value["NetworkSettings"]["Ports"]["70/tcp"], Value::Null);
    let template = "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}";
    assert_eq!(text(&lab.words(&["inspect", "-f", template, "web"]).stdout), "8000\n");
    assert_eq!(lab.ok("port web 80"), "0.0.0.0:8000\n");
    assert_eq!(lab.ok("port web 53/udp"), "127.0.0.1:53\n");
    assert!(lab.ok("port web").contains("80/tcp -> 0.0.0.0:8000\n"));
    assert!(lab.refused("port web 81").starts_with("No public port '81/tcp' published for web"));
    lab.ok("stop web");
    let table = [
        ("ps -f network=net1 --format {{.Names}}", "other\n"),
        ("ps -f status=exited --format {{.Names}}", "web\n"),
        ("ps -f label=tier --format {{.Names}}/{{.Labels}}", "other/tier=back\n"),
        ("ps -n 1 --format {{.Names}}", "other\n"),
        ("ps -l --format {{.Names}}", "other\n"),
        ("ps -a --format {{.Names}}", "other\nweb\n"),
        ("ps -a -f name=^we --format {{.Names}}{{.Ports}}", "web\n"),
    ];
    for (line, expected) in table {
        assert_eq!(lab.ok(line), expected, "{line}");
    }
    assert_eq!(lab.ok("ps -aq").lines().map(str::len).collect::<Vec<_>>(), [12, 12]);
    assert_eq!(lab.ok("ps -aq --no-trunc").lines().map(str::len).collect::<Vec<_>>(), [64, 64]);
}

fn row_23_host_and_none(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create net1");
    // The same namespace as whoever asks, with its interfaces, and nothing in between.
    let script = format!(
        "readlink /proc/self/ns/net; exec {} run --rm --network host readlink /proc/self/ns/net",
        lab.program().display()
    );
    let both = succeeded(&script, &lab.command(&["sh", "-c", &script]).output().unwrap());
    let lines: Vec<&str> = both.lines().collect();
    assert_eq!((lines.len(), lines[0]), (2, lines[1]));
    let output = lab.ts("run -d --name open --net=host -p 8000:80");
    assert_eq!(text(&output.stderr), "WARNING: Published ports are discarded when using host network mode\n");
    lab.ok("run -d --name shut --net none");
    assert_eq!(lab.ok("ps --format {{.Names}}={{.Networks}}{{.Ports}}"), "shut=none\nopen=host\n");
    assert!(lab.json("show ports").is_empty(), "neither has a port");
    assert_eq!(lab.inside("shut", "ls /sys/class/net").split_whitespace().collect::<Vec<_>>(), ["lo"]);
    assert!(lab.inside("shut", "ip -br addr show lo").contains("127.0.0.1/8"));
    assert_eq!(lab.inside("shut", "ip route"), "");
    assert_eq!(lab.inside("open", "hostname"), text(&Command::new("hostname").output().unwrap().stdout));
    assert_eq!(lab.ok("inspect -f {{.HostConfig.NetworkMode}} open"), "host\n");
    let networks = inspected(lab, "inspect shut")["NetworkSettings"]["Networks"].clone();
    assert_eq!((&networks["none"]["IPAddress"], networks.as_object().unwrap().len()), (&json!(""), 1));
    let on_host = inspected(lab, "network inspect host")["Containers"].clone();
    assert_eq!(on_host.as_object().unwrap().values().next().unwrap()["Name"], "open");
    let shared = "container sharing network namespace with another container or host cannot be connected to any other network";
    let private =
        "container cannot be connected to multiple networks with one of the networks in private (none) mode";
    let hosts = "container cannot be disconnected from host network or connected to host network";
    lab.idle("box", "net1");
    let table = [
        ("network connect net1 open", shared),
        ("network connect net1 shut", private),
        ("network connect none box", private),
        ("network connect host box", hosts),
        ("network disconnect host open", hosts),
        ("network rm host", "host is a pre-defined network and cannot be removed"),
        ("network rm none", "none is a pre-defined network and cannot be removed"),
        ("network create none", "operation is not permitted on predefined none network"),
        ("publish open 80:80", "container 'open' is on network 'host', from where nothing is published"),
        ("capture -i shut", "container 'shut' is on network 'none', where no frame passes the switch"),
    ];
    for (line, part) in table {
        assert!(lab.refused(line).starts_with(part), "{line}: {}", lab.refused(line));
    }
    let table = [
        (
            "--network host --network net1",
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
        ),
        (
            "--network none --ip 10.0.0.2",
            "user specified IP address is supported on user defined networks only",
        ),
        (
            "--network host --network-alias x",
            "network-scoped alias is supported only for containers in user defined networks",
        ),
        (
            "--network host --sysctl net.ipv4.ip_forward=1",
            "sysctl 'net.*' not allowed in host network namespace",
        ),
    ];
    for (flags, part) in table {
        let output = lab.ts(&format!("run {flags} true"));
        assert_eq!(output.status.code(), Some(125), "{flags}");
        assert!(text(&output.stderr).contains(part), "{flags}: {}", text(&output.stderr));
    }
    let toml = lab.path().join("apart.toml");
    std::fs::write(
        &toml,
        "[container.inner]\nnetworks = [\"host\"]\n[container.alone]\nnetworks = [\"none\"]\n",
    )
    .unwrap();
    lab.ok(&format!("up -d {}", toml.display()));
    assert_eq!(lab.ok("ps -f network=host -f name=inner --format {{.Names}}"), "inner\n");
    // Who leaves `none` can join networks.
    lab.ok("network disconnect none shut");
    lab.ok("network connect net1 shut");
    assert!(lab.pings("shut", &lab.address("box")));
}
