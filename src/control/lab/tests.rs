use super::*;

fn parse(text: &str) -> Result<Lab, BadFile> {
    Lab::parse("test", "test.toml", text)
}

/// The one-line form of every mistake in `text`.
fn mistakes(text: &str) -> Vec<String> {
    parse(text).unwrap_err().lines()
}

#[test]
fn the_demo_lab_is_sound() {
    let demo = Lab::parse("demo", "labs/demo.toml", DEMO).unwrap();
    assert_eq!(demo.name, "demo");
    let networks: Vec<&str> = demo.networks.iter().map(|network| network.name.as_str()).collect();
    assert_eq!(networks, ["net1", "net2"]);
    let places =
        |container: &ContainerSpec| (container.name.clone().unwrap(), container.networks[0].network.clone());
    let containers: Vec<(String, String)> = demo.containers.iter().map(places).collect();
    let expected =
        [("alice", "net1"), ("bob", "net1"), ("carol", "net2"), ("dave", "net2"), ("outside", "wan")];
    let uplinks: Vec<&str> = demo.uplinks.iter().map(|uplink| uplink.name.as_str()).collect();
    assert_eq!(uplinks, ["wan"]);
    assert_eq!(containers, expected.map(|(name, network)| (name.to_owned(), network.to_owned())));
    assert!(
        demo.containers
            .iter()
            .all(|container| container.lab.as_deref() == Some("demo") && container.command.is_empty())
    );
}

#[test]
fn everything_that_can_be_said() {
    let lab = parse(
        r#"
[network.z]
subnet = ["172.28.0.0/16", "fd00:28::/64"]
ip_range = "172.28.5.0/24"
gateway = ["172.28.5.254"]
aux_address = { printer = "172.28.5.1" }
driver = "bridge"
internal = true
options = { icc = false, mtu = 9000, "com.docker.network.bridge.name" = "br7" }
labels = { who = "me" }
[network.a]
ipv6 = true
[container.web]
networks = ["a", { name = "z", ip = ["172.28.9.9", "fd00:28::9"], mac = "02:42:00:00:00:09", alias = "www", ifname = "lan" }, "bridge"]
command = "python3 -m http.server 80"
env = { PORT = 80 }
forward = true
sysctls = { "net.ipv4.tcp_ecn" = 1 }
hostname = "web.example.org"
aliases = ["w3"]
extra_hosts = { up = "10.0.0.1" }
[container.idle]
[container.alone]
networks = []
command = ["sleep", "1 h"]
"#,
    )
    .unwrap();
    let [z, a] = lab.networks.as_slice() else { panic!("two networks") };
    assert_eq!((z.name.as_str(), a.name.as_str(), z.internal, a.ipv6), ("z", "a", true, true));
    assert_eq!(z.subnets[0].range.unwrap().to_string(), "172.28.5.0/24");
    assert_eq!(z.subnets[0].aux["printer"].to_string(), "172.28.5.1");
    assert_eq!(
        z.options.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>(),
        ["icc=false", "mtu=9000", "com.docker.network.bridge.name=br7"]
    );
    assert_eq!(lab.given_subnets().len(), 2);
    let [web, idle, alone] = lab.containers.as_slice() else { panic!("three containers") };
    assert_eq!(web.command, ["/bin/sh", "-c", "python3 -m http.server 80"]);
    assert_eq!((web.forward, web.env[0].1.as_str(), web.sysctls[0].1.as_str()), (Some(true), "80", "1"));
    let aliases: Vec<&[String]> = web.networks.iter().map(|endpoint| endpoint.aliases.as_slice()).collect();
    assert_eq!(aliases, [&["w3"][..], &["www", "w3"], &[]], "names do not resolve on network bridge");
    assert_eq!(web.networks[1].ifname.as_deref(), Some("lan"));
    assert_eq!(idle.networks[0].network, "bridge");
    assert_eq!((alone.networks.len(), alone.command[1].as_str()), (0, "1 h"));
}

#[test]
fn name_servers_are_read() {
    let text = "[network.n]\ndns = [\"10.0.0.53\", \"fd00::53\"]\n[container.c]\nnetworks = [\"n\"]\ndns = \"10.0.1.53\"";
    let lab = parse(text).unwrap();
    assert_eq!(lab.networks[0].options, [("dns".to_owned(), "10.0.0.53,fd00::53".to_owned())]);
    assert_eq!(lab.containers[0].dns, ["10.0.1.53".parse::<std::net::IpAddr>().unwrap()]);
}

#[test]
fn each_mistake_stands_at_its_place() {
    let table = [
        ("[network.n]\nsubnet = 5", "2:10: 'subnet' of network 'n' must be a subnet such as 172.19.0.0/16"),
        (
            "[network.n]\nsubnet = \"10.0.0.0\"",
            "2:10: 'subnet' of network 'n' cannot be '10.0.0.0': it takes a subnet such as 172.19.0.0/16",
        ),
        (
            "[network.n]\nsubnet = [\"10.0.0.1/8\"]",
            "2:11: subnet 10.0.0.1/8 has host bits set: write 10.0.0.0/8",
        ),
        (
            "[network.n]\ndns = [\"10.0.0.53\", \"dns.example\"]",
            "2:21: 'dns' of network 'n' cannot be 'dns.example': it takes the address of a name server, such as 10.0.0.53",
        ),
        (
            "[container.c]\ndns = 53",
            "2:7: 'dns' of container 'c' must be the address of a name server, such as",
        ),
        ("[network.n]\nsubnets = []", "2:1: key 'subnets' of a network is not known in this version"),
        (
            "[network.n]\ngateway = \"10.0.0.1\"",
            "2:11: no matching subnet for gateway 10.0.0.1: give the subnet that contains it",
        ),
        (
            "[network.n]\noptions = { icc = \"no\" }",
            "2:19: option 'icc' cannot be 'no': it takes true or false",
        ),
        (
            "[network.n]\noptions = { colour = 1 }",
            "2:22: option 'colour' is not known: the options are icc, bridge_name, inhibit_ipv4, iface_prefix, default_bridge, mtu, ageing, fdb_limit,",
        ),
        ("[network.n]\ninternal = \"yes\"", "2:12: 'internal' of network 'n' must be true or false"),
        (
            "[network.n]\ndriver = \"macvlan\"",
            "2:10: 'driver' of network 'n' cannot be 'macvlan' in this version: it takes \"bridge\"",
        ),
        (
            "[network.\"a b\"]\n",
            "1:10: network name 'a b' is not allowed: use letters, digits, '_', '.' and '-', a letter or digit first, 128 at most",
        ),
        ("[network.bridge]\n", "1:10: operation is not permitted on predefined bridge network"),
        ("network = 5", "1:11: 'network' must be a table"),
        ("[network]\nn = 5", "2:5: network 'n' must be a table"),
        ("[[check]]\non = \"web\"", "1:3: key 'check' of a lab is not known in this version"),
        (
            "[container.c]\npublish = [\"80:x\"]",
            "2:12: 'publish' of container 'c' cannot be '80:x': it takes what is to be published, such as 8000:80",
        ),
        (
            "[container.c]\npublish_from = [\"192.0.2.7/24\"]",
            "2:17: 'publish_from' of container 'c': source 192.0.2.7/24 has host bits set: write 192.0.2.0/24",
        ),
        (
            "[container.c]\npublish_from = []",
            "2:16: 'publish_from' of container 'c' names nobody: name who may call, or leave it out",
        ),
        (
            "[container.c]\npublish_from = [\"fd00::/8\"]\npublish = [\"127.0.0.1:80:80\"]",
            "3:12: container 'c' cannot publish 127.0.0.1:80:80/tcp for fd00::/8: 127.0.0.1 is IPv4",
        ),
        (
            "[container.c]\npublish = [\"80:80\", \"80:81\"]",
            "2:21: container 'c' cannot publish 0.0.0.0:80/tcp: itself has 0.0.0.0:80 already",
        ),
        ("[container.c]\nlinks = [\"moon\"]", "2:10: No such container: moon"),
        ("[container.c]\nlinks = \"c\"", "2:9: container 'c' cannot be linked to itself"),
        (
            "[uplink.wan]\nip = \"1.1.1.1/24\"",
            "1:9: uplink 'wan' leads to one of: a container, a tap, an interface",
        ),
        (
            "[uplink.wan]\ncontainer = \"x\"\ntap = \"y\"\nip = \"1.1.1.1/24\"",
            "1:9: uplink 'wan' leads to one of: a container, a tap, an interface",
        ),
        (
            "[uplink.wan]\ntap = \"y\"\nip = \"1.1.1.1\"",
            "3:6: 'ip' of uplink 'wan' cannot be '1.1.1.1': it takes an address such as 198.51.100.1/24",
        ),
        (
            "[uplink.wan]\ntap = \"y\"\nmtu = -1",
            "3:7: 'mtu' of uplink 'wan' must be a whole number in its range",
        ),
        ("[[route]]\nvia = \"172.17.0.9\"", "1:1: a route takes a 'prefix', such as 10.1.0.0/16"),
        ("[[route]]\nprefix = \"10.9.0.0/16\"\ndev = \"moon\"", "1:1: network moon not found"),
        ("route = 5", "1:9: 'route' must be tables, each headed [[route]]"),
        ("[[rule]]\nfrom = \"10.0.0.0/8\"", "1:1: a rule takes an 'action': allow, drop or reject"),
        (
            "[[rule]]\naction = \"burn\"",
            "2:10: 'action' of a rule cannot be 'burn': it takes allow, drop or reject",
        ),
        ("[[rule]]\naction = \"drop\"\nfrom = \"nobody\"", "1:1: "),
        (
            "[[rule]]\naction = \"drop\"\ndport = 70000",
            "3:9: 'dport' of a rule must be a whole number in its range",
        ),
        (
            "[container.c]\nnetworks = [\"net\"]",
            "2:13: network net not found: 'tapswitch network ls' lists them",
        ),
        ("[container.c]\nnetworks = \"net\"", "2:12: 'networks' of container 'c' must be a list of networks"),
        (
            "[container.c]\nnetworks = [7]",
            "2:13: an entry of 'networks' of container 'c' must be a network's name or { name = .. }",
        ),
        (
            "[container.c]\nnetworks = [{ ip = \"1.1.1.1\" }]",
            "2:13: an entry of 'networks' of container 'c' has no name: write { name = \"net1\", .. }",
        ),
        (
            "[container.c]\nnetworks = [{ name = \"bridge\", ip = \"no\" }]",
            "2:37: 'ip' in 'networks' of container 'c' cannot be 'no': it takes an address such as 172.19.0.9",
        ),
        (
            "[container.c]\nnetworks = [{ name = \"bridge\", ip = \"1.1.1.1\" }]",
            "2:13: user specified IP address is supported on user defined networks only: 1.1.1.1 cannot be chosen on network 'bridge'",
        ),
        (
            "[container.c]\nnetworks = [{ name = \"bridge\", mac = \"2\" }]",
            "2:38: 'mac' in 'networks' of container 'c' cannot be '2': it takes a MAC address such as 02:42:ac:13:00:09",
        ),
        (
            "[container.c]\nnetworks = [\"bridge\", \"bridge\"]",
            "2:23: endpoint with name c already exists in network bridge: name each network once",
        ),
        (
            "[container.c]\nhostname = \"a b\"",
            "2:12: host name 'a b' is not allowed: use letters, digits, '-' and '.', 63 at most",
        ),
        (
            "[container.any]\n",
            "1:12: container name 'any' means something else to 'tapswitch capture': choose another",
        ),
    ];
    for (text, expected) in table {
        let found = mistakes(text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(&format!("test.toml:{expected}")), "{} / {expected}", found[0]);
    }
}

#[test]
fn who_is_linked_to_comes_first() {
    let text = "[container.a]\nlinks = \"c:db\"\n[container.b]\n[container.c]\nlinks = [\"d\", \"b\"]\n[container.d]\n";
    let lab = parse(text).unwrap();
    let names: Vec<&str> = lab.containers.iter().filter_map(|it| it.name.as_deref()).collect();
    assert_eq!(names, ["b", "d", "c", "a"]);
    let found =
        mistakes("[container.a]\nlinks = [\"b\"]\n[container.b]\nlinks = [\"c\", \"a\"]\n[container.c]\n");
    let places: Vec<&str> = found.iter().map(|line| line.split(": this link").next().unwrap()).collect();
    assert_eq!(places, ["test.toml:2:10", "test.toml:4:15"], "{found:?}");
}

#[test]
fn all_mistakes_are_reported_in_order() {
    let found = mistakes(
        r#"
[container.early]
networks = ["net9"]
[network.net1]
subnet = ["172.19.0.0/16"]
[network.net2]
subnet = ["172.19.128.0/17"]
[network.net3]
subnet = ["172.19.0.0/33"]
[network.tiny]
subnet = "10.0.0.0/30"
[container.one]
networks = ["tiny"]
[container.two]
networks = ["net2", "net3", "tiny"]
"#,
    );
    assert_eq!(
        found,
        [
            "test.toml:3:13: network net9 not found: did you mean 'net1'?",
            "test.toml:7:10: Pool overlaps with other one on this address space: subnet 172.19.128.0/17 of network 'net2' overlaps 172.19.0.0/16 of network 'net1': choose another subnet",
            "test.toml:9:11: 'subnet' of network 'net3' cannot be '172.19.0.0/33': it takes a subnet such as 172.19.0.0/16",
            "test.toml:15:29: no available IPv4 addresses on this network's address pools: tiny: no free address is left in 10.0.0.0/30: disconnect a container, or use a larger subnet",
        ]
    );
}

#[test]
fn where_one_line_must_do_the_first_mistake_stands() {
    let refused = |text: &str| Refused::from(parse(text).unwrap_err()).message;
    assert_eq!(refused("x = 1"), "test.toml:1:1: key 'x' of a lab is not known in this version");
    assert!(refused("x = 1\ny = 1").ends_with(" (and one more mistake)"));
    assert!(refused("x = 1\ny = 1\nz = 1").ends_with(" (and 2 more mistakes)"));
}

#[test]
fn syntax_errors_and_duplicates_point_too() {
    assert_eq!(
        mistakes("[network.a]\nsubnet = \n"),
        ["test.toml:2:10: string values must be quoted, expected literal string"]
    );
    let twice = mistakes("[network.a]\n[network.b]\n[network.a]\n");
    assert_eq!(twice, ["test.toml:3:10: duplicate key"]);
    assert!(!mistakes("[[[").is_empty());
}

#[test]
fn a_mistake_is_drawn_with_its_line() {
    let text = "# é\n[container.web]\nnetworks = [\"net1\"]\nhostnam = \"x\"\n[network.net1]\nsubnet = \"172.19.0.0\"\n";
    let expected = "\
error: key 'hostnam' of a container is not known in this version
 --> test.toml:4:1
  |
4 | hostnam = \"x\"
  | ^^^^^^^ did you mean 'hostname'?

error: 'subnet' of network 'net1' cannot be '172.19.0.0': it takes a subnet such as 172.19.0.0/16
 --> test.toml:6:10
  |
6 | subnet = \"172.19.0.0\"
  |          ^^^^^^^^^^^^";
    assert_eq!(parse(text).unwrap_err().to_string(), expected);
}

#[test]
fn a_network_on_dockers_first_pools_does_not_meet_automatic_ones() {
    let lab = parse(
        "[network.auto]\n[network.given]\nsubnet = [\"172.17.0.0/16\"]\n[network.next]\nsubnet = \"172.18.0.0/16\"\n",
    );
    assert_eq!(lab.unwrap().networks.len(), 3);
}

proptest::proptest! {
    #[test]
    fn no_text_is_too_strange(text in "[\\[\\]a-z.=\"\\\\{},\n 0-9é]{0,80}") {
        if let Err(bad) = parse(&text) {
            proptest::prop_assert!(!bad.mistakes.is_empty());
            proptest::prop_assert!(bad.to_string().contains("error"));
        }
    }

    #[test]
    fn no_value_is_too_strange(value in "(5|true|\"x\"|\\[\\]|\\[5\\]|\\{\\}|\\{a=1\\}|1979-05-27|1.5)", at in 0usize..33) {
        let keys = ["driver", "subnet", "gateway", "ip_range", "aux_address", "ipv6", "internal", "options", "labels"];
        let others = [
            "networks", "command", "env", "forward", "sysctls", "hostname", "aliases", "extra_hosts", "publish",
            "publish_from", "expose", "links",
        ];
        let router = ["uplink.n]\nip", "uplink.n]\nmtu", "[route]]\nprefix", "[rule]]\naction", "[rule]]\ndport"];
        let text = match at {
            0..9 => format!("[network.n]\n{} = {value}\n", keys[at]),
            9..21 => format!("[container.n]\n{} = {value}\n", others[at - 9]),
            21..26 => format!("[{} = {value}\n", router[at - 21]),
            _ => format!("[container.n]\nnetworks = [{{ name = {value}, ip = {value}, alias = {value} }}]\n"),
        };
        if let Err(bad) = parse(&text) {
            proptest::prop_assert!(bad.lines().iter().all(|line| line.starts_with("test.toml:")));
        }
    }
}
