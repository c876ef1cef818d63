//! What people learnt with `brctl`, `bridge`, `ip`, `route`, `iptables` and `conntrack`: our views of our switch are
//! the transcripts of the articles that they learnt it from, and byte for byte what the installed tools print
//! of the same things in the kernel.
//!
//! Tests are named after the rows of the list of what those articles show.

use serde_json::Value;
use tapswitch::control::show::foreign::{Tables, view};

use crate::harness::{Lab, skip, text, until};
use crate::twin::{Twin, word};
use crate::world::{FAR4, OUT4, Outside, WAN4, WHO, ask, seen_from};

scenarios! {
    row_09_one_veth_per_container
    row_09_interfaces_look_as_in_the_article
    row_09_the_installed_tools_print_the_same
    row_10_whose_port_it_is
    row_17_nat_and_filter_before_and_after_a_published_port
    row_17_the_installed_iptables_prints_the_same
    row_18_counters_move_as_told
    row_19_each_ordered_pair_of_bridges_is_isolated
    row_21_a_link_opens_the_exposed_port_alone
    row_26_routes_look_as_in_the_article
    neighbours_and_routes_as_the_installed_tools_print_them
    flows_as_the_installed_conntrack_prints_them
    what_means_nothing_is_refused
}

/// What a tool's own words print of our switch.
#[track_caller]
fn ours(lab: &Lab, line: &str) -> String {
    fn rows<R: serde::de::DeserializeOwned>(lab: &Lab, listing: &str) -> Vec<R> {
        lab.json(listing).into_iter().map(|row| serde_json::from_value(row).unwrap()).collect()
    }
    let words: Vec<&str> = line.split(' ').collect();
    let tables = Tables {
        interfaces: rows(lab, "show interfaces"),
        fdb: rows(lab, "show fdb"),
        neighbours: rows(lab, "show neigh"),
        routes: rows(lab, "show routes"),
        ..Tables::default()
    };
    view(words[0], &words[1..]).unwrap().draw(&tables).unwrap()
}

/// The veth of a container's only port.
#[track_caller]
fn alias(lab: &Lab, container: &str) -> String {
    word(&lab.row("show ports", "container", container)["alias"])
}

fn row_09_one_veth_per_container(lab: &Lab) {
    lab.daemon("");
    let empty = "bridge name\tbridge id\t\tSTP enabled\tinterfaces\ndocker0\t\t8000.0242ac110001\tno\t\t\n";
    let gateway = word(&lab.row("show interfaces", "name", "docker0")["mac"]).replace(':', "");
    let here = |golden: &str| golden.replace("0242ac110001", &gateway);
    assert_eq!(lab.ok("show ports --as brctl"), here(empty), "no container has started");
    lab.ok("run -d --name web");
    let one = "bridge name\tbridge id\t\tSTP enabled\tinterfaces\n\
               docker0\t\t8000.0242ac110001\tno\t\tveth6994522\n";
    assert_eq!(lab.ok("show ports --as brctl"), here(one).replace("veth6994522", &alias(lab, "web")));
    lab.ok("run -d --name second");
    let mut both = [alias(lab, "web"), alias(lab, "second")];
    both.sort();
    let two = here(empty).trim_end_matches('\n').to_owned() + &both.join("\n\t\t\t\t\t\t\t") + "\n";
    assert_eq!(lab.ok("show ports --as brctl"), two);
    lab.ok("rm -f web second");
    assert_eq!(lab.ok("show interfaces --as brctl"), here(empty));
}

fn row_09_interfaces_look_as_in_the_article(lab: &Lab) {
    lab.daemon("");
    let said = lab.ok("show ports --as ip");
    assert!(said.contains("docker0: <NO-CARRIER,BROADCAST,MULTICAST,UP> mtu 1500 qdisc noqueue state DOWN "));
    lab.ok("run -d --name web");
    let golden = "\
5: docker0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP group default 
    link/ether 02:42:7f:0e:64:90 brd ff:ff:ff:ff:ff:ff
    inet 172.17.0.1/16 scope global docker0
       valid_lft forever preferred_lft forever
19: veth6994522@if18: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue master docker0 state UP group default 
    link/ether 0a:62:de:b4:cd:0c brd ff:ff:ff:ff:ff:ff link-netnsid 0
";
    let [docker0, veth] = ["bridge", "veth"].map(|kind| lab.row("show interfaces", "kind", kind));
    let ours = [
        ("5: docker0", format!("{}: docker0", docker0["index"])),
        ("02:42:7f:0e:64:90", word(&docker0["mac"])),
        ("172.17.0.1/16", word(&docker0["addresses"][0])),
        (
            "19: veth6994522@if18",
            format!("{}: {}@if{}", veth["index"], word(&veth["name"]), veth["peer_ifindex"]),
        ),
        ("0a:62:de:b4:cd:0c", word(&veth["mac"])),
    ];
    let expected = ours.iter().fold(golden.to_owned(), |text, (theirs, ours)| text.replace(theirs, ours));
    assert_eq!(lab.ok("show ports --as ip"), expected);
    // Where the network has IPv6, the gateway has a link-local address.
    lab.ok("network create --subnet 10.1.0.0/24 --subnet fd00:1::/64 -o bridge_name=br6 six");
    let lines = "    inet6 fd00:1::1/64 scope global \n       valid_lft forever preferred_lft forever\n    \
                 inet6 fe80::42:aff:fe01:1/64 scope link \n";
    assert!(lab.ok("show interfaces --as ip").contains(lines));
}

/// Networks with and without IPv6, containers on one and on two of them, entries learned and static, an interface
/// that is down.
fn busy(lab: &Lab, flags: &str) {
    lab.daemon(flags);
    lab.ok("network create --subnet 10.1.0.0/24 --subnet fd00:1::/64 net1");
    lab.ok("network create --subnet 10.2.0.0/24 -o bridge_name=br2 -o mtu=1400 -o ageing=120 net2");
    lab.ok("network create --subnet 10.3.0.0/24 empty");
    for (name, network) in [("alice", "net1"), ("bob", "net1"), ("carol", "net2"), ("off", "net2")] {
        lab.idle(name, network);
    }
    lab.ok("network connect net2 bob");
    assert!(
        lab.pings("alice", "10.1.0.3") && lab.pings("carol", "10.2.0.1") && lab.pings("alice", "fd00:1::1")
    );
    lab.ok("fdb add net1 02:00:00:00:00:99 alice");
    lab.inside("off", "ip link set eth0 down");
}

/// A port's timers stand still here, and a kernel's do not.
fn without_timers(text: &str) -> String {
    let is_time = |field: &&str| field.len() == 7 && field.as_bytes()[4] == b'.';
    let still = |line: &str| {
        let fields = line.split('\t').map(|field| if is_time(&field) { "   T.TT" } else { field });
        fields.collect::<Vec<_>>().join("\t")
    };
    let timed = |line: &str| line.contains("timer") || line.starts_with("  ");
    let lines = text.lines().map(|line| if timed(line) { still(line) } else { line.to_owned() });
    lines.collect::<Vec<_>>().join("\n")
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

fn row_09_the_installed_tools_print_the_same(lab: &Lab) {
    let tools = ["ip link add br-probe type bridge", "ip link del br-probe", "brctl show", "bridge fdb show"];
    let Some(twin) = Twin::new(&tools) else { return };
    busy(lab, "");
    twin.mirror_devices(lab);
    assert_eq!(lab.ok("show ports --as brctl"), twin.says("brctl show"));
    // Each bridge's table, under the line to type for it.
    let macs = lab.ok("show fdb --as brctl");
    let mut bridges = 0;
    for part in macs.split("# ").filter(|part| !part.is_empty()) {
        let (line, ours) = part.split_once('\n').unwrap();
        assert_eq!(without_timers(ours).trim_end(), without_timers(&twin.says(line)), "{line}");
        bridges += 1;
    }
    assert_eq!(bridges, 4);
    // The kernel lists the devices' multicast filters, too.
    let theirs = twin.says("bridge fdb show");
    let theirs: Vec<&str> = sorted(&theirs).into_iter().filter(|line| !line.contains(" self ")).collect();
    for tool in ["bridge", "ip"] {
        assert_eq!(sorted(&lab.ok(&format!("show fdb --as {tool}"))), theirs);
    }
    // bridge(8) takes the other end's number for one of its own namespace's.
    let no_peers = |text: &str| {
        let line = |line: &str| {
            let (name, rest) = line.split_once('@').unwrap();
            format!("{name}{}", rest.split_once(':').unwrap().1)
        };
        text.lines().map(line).collect::<Vec<_>>()
    };
    assert_eq!(no_peers(&lab.ok("show ports --as bridge")), no_peers(&twin.says("bridge link show")));
    // Without the names that the namespaces have here, and `lo`, which a switch has none of.
    let address = "unshare -m sh -c 'mount -t tmpfs none /run && ip address show' | sed 1,6d";
    let ours = lab.ok("show ports --as ip");
    let up = |text: &str| text.matches(" state UP ").count();
    until("the kernel's bridges to have a carrier", || up(&twin.says(address)) == up(&ours));
    assert_eq!(ours, twin.says(address).replace(" nodad ", " "));
    // By the tools' own words.
    let veth = alias(lab, "alice");
    for line in [
        "brctl show br2 docker0".to_owned(),
        "brctl showstp br2".to_owned(),
        "brctl showmacs br2".to_owned(),
        "bridge fdb show br br2".to_owned(),
        format!("bridge fdb show dev {veth}"),
        format!("bridge fdb show brport {veth} state static"),
        "bridge fdb show state permanent".to_owned(),
        "bridge fdb show dynamic".to_owned(),
        "ip link show type bridge".to_owned(),
        "ip -br link show type veth".to_owned(),
        "ip -br address show type bridge".to_owned(),
        "ip -4 address show master br2".to_owned(),
        format!("ip -6 address show {}", word(&lab.row("network ls", "name", "net1")["bridge"])),
        "ip a show br2".to_owned(),
    ] {
        let theirs = twin.says(&line).replace(" nodad ", " ");
        let theirs = theirs.lines().filter(|line| !line.contains(" self ")).collect::<Vec<_>>().join("\n");
        let [ours, theirs] = [self::ours(lab, &line), theirs].map(|text| without_timers(&text));
        assert_eq!(sorted(&ours), sorted(&theirs), "{line}");
        assert!(line.starts_with("bridge") || ours.trim_end() == theirs.trim_end(), "{line}: their order");
    }
}

fn row_10_whose_port_it_is(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create --subnet 172.19.0.0/16 net1");
    lab.ok("network create --subnet 172.20.0.0/16 net2");
    lab.idle("alice", "net1");
    lab.idle("router", "net1");
    lab.ok("network connect net2 router");
    let said = lab.ok("show ports");
    let mut lines = said.lines();
    let header: Vec<&str> = lines.next().unwrap().split_whitespace().take(7).collect();
    assert_eq!(header, ["CONTAINER", "PORT", "ALIAS", "NETWORK", "MAC", "IP", "STATE"], "{said}");
    for (container, ifname, network, mac, ip) in [
        ("alice", "eth0", "net1", "02:42:ac:13:00:02", "172.19.0.2"),
        ("router", "eth0", "net1", "02:42:ac:13:00:03", "172.19.0.3"),
        ("router", "eth1", "net2", "02:42:ac:14:00:02", "172.20.0.2"),
    ] {
        let rows = lab.json("show ports");
        let row = rows.iter().find(|row| row["mac"] == mac).unwrap();
        let port = if container == "alice" { "alice".to_owned() } else { format!("router:{ifname}") };
        let veth = word(&row["alias"]);
        let line = said.lines().find(|line| line.contains(mac)).unwrap();
        let cells: Vec<&str> = line.split_whitespace().take(7).collect();
        assert_eq!(cells, [container, &port, &veth, network, mac, ip, "up"], "{said}");
        // What the article finds out by `ethtool -S eth0` inside, and `ip link` outside.
        let inside = lab.inside(container, &format!("cat /sys/class/net/{ifname}/ifindex"));
        assert_eq!(row["ifindex"].to_string(), inside.trim(), "{row}");
        assert_eq!((&row["ifname"], row["bridge"].as_str().unwrap().len()), (&ifname.into(), 15), "{row}");
        let links = lab.ok("show ports --as ip");
        assert!(links.contains(&format!(" {veth}@if{}: <", inside.trim())), "{links}");
    }
    // It stays with its container, and goes with it.
    let veth = alias(lab, "alice");
    lab.ok("rm -f alice");
    assert!(!lab.ok("show ports").contains(&veth) && !lab.ok("show ports --as brctl").contains(&veth));
}

/// A table's listing without counters: rules behind them, policies without their packets.
fn without_counters(listing: &str) -> String {
    let line = |line: &str| match line.split_once(" packets, ") {
        Some((policy, _)) => policy.rsplit_once(' ').unwrap().0.to_owned() + ")",
        None if line.starts_with("Chain ") => line.to_owned(),
        None => line.get(12..).unwrap_or_default().to_owned(),
    };
    listing.lines().map(|it| line(it) + "\n").collect()
}

/// Without what we need more than Docker, whose docker-proxy does it: the ways between published ports and
/// containers.
fn without_hairpins(listing: &str) -> String {
    let ours = |line: &&str| line.ends_with("ctstate DNAT") || line.starts_with("TAPSWITCH-HAIRPIN");
    let listing = listing.split("\n\nChain TAPSWITCH-HAIRPIN").next().unwrap().trim_end_matches('\n');
    listing.lines().filter(|line| !ours(line)).map(|line| line.to_owned() + "\n").collect()
}

/// The nat table of the article, but for its counters; each line as iptables ends it.
const NAT_BEFORE: &str = "\
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
MASQUERADE  all  --  *      !docker0  172.17.0.0/16        0.0.0.0/0           
MORE
Chain DOCKER (2 references)
target     prot opt in     out     source               destination         
RETURN     all  --  docker0 *       0.0.0.0/0            0.0.0.0/0           
";
const NAT_AFTER: [&str; 2] = [
    "MASQUERADE  tcp  --  *      *       172.17.0.2           172.17.0.2           tcp dpt:80\n",
    "DNAT       tcp  --  !docker0 *       0.0.0.0/0            0.0.0.0/0            tcp dpt:8000 to:172.17.0.2:80\n",
];
const FILTER_AFTER: &str = "\
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
ACCEPT     tcp  --  !docker0 docker0  0.0.0.0/0            172.17.0.2           tcp dpt:80

Chain DOCKER-ISOLATION (1 references)
target     prot opt in     out     source               destination         
RETURN     all  --  *      *       0.0.0.0/0            0.0.0.0/0           
";

/// The two tables of `show rules`.
fn tables(lab: &Lab, line: &str) -> [String; 2] {
    let said = lab.ok(line);
    let (filter, nat) = said.split_once("\n\nChain PREROUTING").unwrap();
    [format!("{filter}\n"), format!("Chain PREROUTING{nat}")]
}

/// Network `bridge` where the articles have it, whatever this machine uses itself.
fn with_the_articles_addresses(lab: &Lab, text: &str) -> String {
    let docker0 = lab.row("network ls", "name", "bridge");
    let subnet = word(&docker0["subnet"]);
    let prefix = subnet.split_once(".0.0/").unwrap().0;
    // Cells are padded: the lengths must be the same for their bytes to be.
    assert_eq!(prefix.len(), "172.17".len(), "{subnet}");
    text.replace(&format!("{prefix}.0."), "172.17.0.")
}

fn row_17_nat_and_filter_before_and_after_a_published_port(lab: &Lab) {
    lab.daemon("");
    let shown = |line: &str| {
        let tables = tables(lab, line).map(|table| with_the_articles_addresses(lab, &table));
        tables.map(|table| without_hairpins(&without_counters(&table)))
    };
    let [_, nat] = shown("show rules --as iptables");
    assert_eq!(nat, NAT_BEFORE.replace("MORE", ""));
    let [_, all] = tables(lab, "show rules --as iptables");
    let all = with_the_articles_addresses(lab, &all);
    assert_eq!(without_counters(&all), nat, "what Docker has not comes with published ports only");
    lab.ok("run -d --name admiring_lumiere -p 8000:80");
    let outside = Outside::behind(lab, "");
    let address = lab.address("admiring_lumiere");
    let _server = lab.serves("admiring_lumiere", WHO, &[&address, "80"]);
    assert_eq!(seen_from(lab, &outside, "tcp", (WAN4, 8000)), OUT4, "one request, from outside");
    let [filter, nat] = shown("show rules --as iptables");
    assert_eq!(nat, NAT_BEFORE.replace("MORE", NAT_AFTER[0]) + NAT_AFTER[1]);
    assert_eq!(filter, FILTER_AFTER);
    assert_eq!(shown("show rules"), [filter, nat], "as it is without --as");
}

fn row_17_the_installed_iptables_prints_the_same(lab: &Lab) {
    let conditions = "-m conntrack --ctstate NEW -m addrtype --dst-type LOCAL";
    let probe = format!("iptables-legacy -A INPUT {conditions} -j ACCEPT");
    let Some(twin) = Twin::new(&[&probe, "iptables-legacy -F", "iptables-legacy -t nat -S"]) else { return };
    lab.daemon("");
    lab.ok("network create --subnet 10.1.0.0/24 -o icc=false net1");
    lab.ok("network create --subnet 10.2.0.0/24 --internal net2");
    lab.ok("run -d --name web --network net1 --expose 443 -p 8000:80 -p 9000-9002:90-92/udp");
    lab.ok("run -d --name client --network net1 --link web:www");
    lab.ok("rule add --from net1 --to 10.9.0.0/16 reject");
    lab.ok("rule add --from client --to web --proto tcp --dport 443 --state new allow");
    let _ = lab.pings("client", "10.1.0.1");
    let rows = lab.json("show rules");
    // What is shown is what the kernel is told, with what it has counted.
    let mut script = String::new();
    for (table, _) in [("filter", 0), ("nat", 0)] {
        let of = |row: &&Value| row["table"] == table;
        let chains: Vec<String> = rows.iter().filter(of).map(|row| word(&row["chain"])).collect();
        let is_own =
            |chain: &&String| !rows.iter().any(|row| row["policy"] == true && row["chain"] == **chain);
        let mut own: Vec<&String> = chains.iter().filter(is_own).collect();
        own.dedup();
        own.iter().for_each(|chain| script += &format!("iptables-legacy -t {table} -N {chain}\n"));
        for row in rows.iter().filter(of) {
            let counters = format!("-c {} {}", row["packets"], row["bytes"]);
            script += &format!("iptables-legacy -t {table} {} {counters}\n", word(&row["spec"]));
        }
    }
    twin.says(&script);
    let theirs = |table: &str| {
        let said = twin.says(&format!("iptables-legacy -t {table} -L -v -n"));
        // As every version before 1.8.9 names protocols.
        let names = [("0   ", "all "), ("6   ", "tcp "), ("17  ", "udp ")];
        names.iter().fold(said, |said, (number, name)| {
            said.replace(&format!("  {number} --"), &format!("  {name} --"))
        })
    };
    // A policy's counters cannot be set.
    let no_policies = |text: &str| {
        let line = |line: &str| match line.split_once(" packets, ") {
            Some((policy, _)) => policy.rsplit_once(' ').unwrap().0.to_owned(),
            None => line.to_owned(),
        };
        text.lines().map(line).collect::<Vec<_>>()
    };
    for table in ["filter", "nat"] {
        let theirs = twin.says(&format!("iptables-legacy -t {table} -S"));
        let theirs: Vec<&str> = theirs.lines().filter(|line| line.starts_with("-A")).collect();
        let of = rows.iter().filter(|row| row["table"] == table && row["policy"] == false);
        assert_eq!(of.map(|row| word(&row["spec"])).collect::<Vec<_>>(), theirs);
    }
    // As iptables-save writes them down, but for what cannot be set: policies' counters.
    let saved = |text: &str| {
        let line = |line: &str| match line.strip_prefix(':') {
            Some(chain) => chain.split(" [").next().unwrap().to_owned(),
            None => line.to_owned(),
        };
        text.lines().filter(|line| !line.starts_with('#')).map(line).collect::<Vec<_>>()
    };
    for table in ["filter", "nat"] {
        let words = format!("-c -t {table}");
        let theirs = saved(&twin.says(&format!("iptables-legacy-save {words}")));
        assert_eq!(saved(&text(&lab.types(&format!("iptables-save {words}")).stdout)), theirs, "{table}");
    }
    let expected = no_policies(&format!("{}\n{}", theirs("filter"), theirs("nat")));
    assert_eq!(no_policies(&lab.ok("show rules --as iptables")), expected);
}

/// What a line of a listing has counted: the one with these words.
#[track_caller]
fn counted(listing: &str, words: &[&str]) -> (u64, u64) {
    let fits = |line: &&str| words.iter().all(|word| line.contains(word));
    let lines: Vec<&str> = listing.lines().filter(fits).collect();
    assert_eq!(lines.len(), 1, "{words:?} in {listing}");
    let mut numbers = lines[0].split_whitespace().map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

fn row_18_counters_move_as_told(lab: &Lab) {
    lab.daemon("");
    lab.ok("run -d --name web -p 8000:80");
    let outside = Outside::behind(lab, "");
    let address = lab.address("web");
    let _servers = [lab.serves("web", WHO, &[&address, "80"]), lab.serves(&outside, WHO, &[FAR4, "80"])];
    let read = || {
        let [filter, nat] = tables(lab, "show rules --as iptables");
        [
            counted(&nat, &["DNAT ", "!docker0 *", "dpt:8000"]),
            counted(&filter, &["ACCEPT ", "!docker0 docker0", "dpt:80"]),
            counted(&nat, &["MASQUERADE ", " !docker0 "]),
            counted(&filter, &["ACCEPT ", "*      docker0", "RELATED,ESTABLISHED"]),
        ]
    };
    let [dnat, accept, masquerade, answers] = read();
    assert_eq!([dnat, accept, masquerade, answers], [(0, 0); 4]);
    assert_eq!(seen_from(lab, &outside, "tcp", (WAN4, 8000)), OUT4);
    let [dnat, accept, masquerade, answers] = read();
    assert_eq!([dnat, accept, masquerade], [(1, 60), (1, 60), (0, 0)], "a request from outside");
    assert!(answers.0 >= 2, "what followed its first packet: {answers:?}");
    assert_eq!(seen_from(lab, "web", "tcp", (FAR4, 80)), WAN4);
    let [dnat, accept, masquerade, _] = read();
    assert_eq!([dnat, accept, masquerade], [(1, 60), (1, 60), (1, 60)], "and one to there");
}

fn row_19_each_ordered_pair_of_bridges_is_isolated(lab: &Lab) {
    lab.daemon("");
    for name in ["one", "two"] {
        lab.ok(&format!("network create -o bridge_name={name} {name}"));
    }
    let [filter, _] = tables(lab, "show rules --as iptables");
    let chain = filter.split("Chain DOCKER-ISOLATION").nth(1).unwrap();
    let drops: Vec<&str> = chain.lines().filter(|line| line.contains(" DROP ")).collect();
    let ends = "0.0.0.0/0            0.0.0.0/0           ";
    let names = ["docker0", "one", "two"];
    let pairs = names.iter().flat_map(|from| names.iter().map(move |to| (from, to)));
    let expected: Vec<String> = pairs
        .filter(|(from, to)| from != to)
        .map(|(from, to)| format!("    0     0 DROP       all  --  {from:<6} {to:<6}  {ends}"))
        .collect();
    let mut sorted = drops.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected, "{chain}");
    assert!(chain.lines().last().unwrap().starts_with("    0     0 RETURN     all "), "{chain}");
    // The first match wins: what is isolated never comes to its network's ACCEPT.
    lab.idle("a", "one");
    lab.idle("b", "two");
    let _ = lab.sh("a", &format!("ping -n -c2 -i0.2 -W1 {}", lab.address("b")));
    let [filter, _] = tables(lab, "show rules --as iptables");
    assert_eq!(counted(&filter, &["DROP ", " one    two "]), (2, 168));
    assert_eq!(counted(&filter, &["ACCEPT ", " one    !one "]), (0, 0));
    let chains: Vec<&str> = filter.lines().filter(|line| line.starts_with("Chain ")).collect();
    let built_in =
        ["Chain INPUT (policy ACCEPT", "Chain FORWARD (policy DROP", "Chain OUTPUT (policy ACCEPT"];
    assert!(chains.iter().zip(built_in).all(|(chain, name)| chain.starts_with(name)), "{chains:?}");
}

fn row_21_a_link_opens_the_exposed_port_alone(lab: &Lab) {
    lab.daemon("--icc=false");
    lab.ok("run -d --name db --expose 5432");
    lab.idle("stranger", "bridge");
    let db = lab.address("db");
    let listed = || {
        let [filter, _] = tables(lab, "show rules --as iptables");
        let chain = filter.split("Chain DOCKER (").nth(1).unwrap().split("\n\n").next().unwrap();
        chain.lines().skip(2).map(|line| line[12..].to_owned()).collect::<Vec<_>>()
    };
    assert!(listed().is_empty(), "without a link");
    lab.ok("run -d --name client --link db:database");
    let client = lab.address("client");
    let line = |source: &str, destination: &str, port: &str| {
        format!("ACCEPT     tcp  --  docker0 docker0  {source:<19}  {destination:<19}  tcp {port}")
    };
    assert_eq!(listed(), [line(&client, &db, "dpt:5432"), line(&db, &client, "spt:5432")]);
    let _server = lab.serves("db", WHO, &[&db, "5432", "5433"]);
    assert!(ask(lab, "client", "tcp", (&db, 5432), 0).is_ok());
    assert!(lab.inside("client", "getent hosts database").starts_with(&db), "the alias, too");
    assert!(ask(lab, "client", "tcp", (&db, 5433), 0).is_err(), "not exposed");
    assert!(ask(lab, "stranger", "tcp", (&db, 5432), 0).is_err(), "not linked");
    let [filter, _] = tables(lab, "show rules --as iptables");
    assert!(counted(&filter, &["DROP ", "docker0 docker0"]).0 >= 2, "{filter}");
    lab.ok("unlink client database");
    assert!(listed().is_empty());
}

fn row_26_routes_look_as_in_the_article(lab: &Lab) {
    lab.daemon("");
    lab.ok("network create --subnet 172.19.0.0/16 -o bridge_name=br-net1 net1");
    lab.ok("network create --subnet 172.20.0.0/16 -o bridge_name=br-net2 net2");
    lab.idle("centos-net1", "net1");
    let golden = "\
Kernel IP routing table
Destination     Gateway         Genmask         Flags Metric Ref    Use Iface
0.0.0.0         172.19.0.1      0.0.0.0         UG    0      0        0 eth0
172.19.0.0      0.0.0.0         255.255.0.0     U     0      0        0 eth0
";
    if lab.sh("centos-net1", "command -v route").status.success() {
        assert_eq!(lab.inside("centos-net1", "route -n"), golden, "in a container");
    } else {
        skip("there is no route(8) on this machine");
    }
    // Our own router's, in the same words.
    lab.ok("route add 10.9.0.0/16 via 172.19.0.2");
    let ours = lab.ok("show routes --as route");
    let line = |line: &str| assert!(ours.lines().any(|it| it == line), "{line}\n{ours}");
    assert!(ours.starts_with(&golden.lines().take(2).collect::<Vec<_>>().join("\n")), "{ours}");
    line("172.19.0.0      0.0.0.0         255.255.0.0     U     0      0        0 br-net1");
    line("172.20.0.0      0.0.0.0         255.255.0.0     U     0      0        0 br-net2");
    line("10.9.0.0        172.19.0.2      255.255.0.0     UG    0      0        0 br-net1");
}

fn neighbours_and_routes_as_the_installed_tools_print_them(lab: &Lab) {
    let Some(twin) = Twin::new(&["ip link add br-probe type bridge", "ip link del br-probe", "route -n"])
    else {
        return;
    };
    busy(lab, "--iptables=false");
    let _ = lab.sh("carol", "ping -n -c1 -W1 10.1.0.77");
    until("nobody to answer", || lab.row("show neigh", "address", "10.1.0.77")["state"] == "FAILED");
    for (prefix, via) in [
        ("10.9.0.0/16", "10.1.0.3"),
        ("10.9.0.0/24", "10.2.0.3"),
        ("10.9.0.1/32", "10.1.0.2"),
        ("0.0.0.0/1", "10.1.0.2"),
        ("fd00:9::/64", "fd00:1::3"),
    ] {
        lab.ok(&format!("route add {prefix} via {via}"));
    }
    twin.mirror_devices(lab);
    // States change by themselves: what stood between two equal looks is what both tell.
    let states = |rows: &[Value]| rows.iter().map(|row| word(&row["state"])).collect::<Vec<_>>();
    let (mut rows, mut ours) = (Vec::new(), String::new());
    until("neighbours that stay for a moment", || {
        rows = lab.json("show neigh");
        ours = lab.ok("show neigh --as ip");
        states(&rows) == states(&lab.json("show neigh"))
    });
    assert!(rows.len() >= 3, "{rows:#?}");
    twin.mirror_routes(lab, &rows);
    assert_eq!(sorted(&ours), sorted(&twin.says("ip neigh")));
    assert_eq!(lab.ok("show routes --as route"), twin.says("route -n"));
    for line in [
        "ip neigh show dev br2",
        "ip -6 neigh",
        "ip neigh show nud failed",
        "ip route show dev br2",
        "ip -6 route show dev br2",
        "ip route show table local",
    ] {
        let theirs = twin.says(line);
        let theirs: Vec<&str> =
            sorted(&theirs).into_iter().filter(|line| !line.contains("dev lo ")).collect();
        let ours = self::ours(lab, line);
        // Kernels since 5.14 take a prefix's first address for a broadcast address no more.
        let ours: Vec<&str> = sorted(&ours).into_iter().filter(|line| !line.contains(".0 dev ")).collect();
        assert_eq!(ours, theirs, "{line}");
    }
    let said = lab.ok("show routes --as ip");
    let at = said.find("fd00:").unwrap();
    assert_eq!(said[..at], twin.says("ip route"));
    assert_eq!(sorted(&said[at..]), sorted(&twin.says("ip -6 route")));
}

fn flows_as_the_installed_conntrack_prints_them(lab: &Lab) {
    let Some(twin) = Twin::new(&["conntrack -L"]) else { return };
    lab.daemon("");
    let outside = Outside::behind(lab, "");
    lab.ok("network create --subnet 10.1.0.0/24 --subnet fd00:1::/64 net1");
    lab.ok("run -d --name web --network net1 -p 8000:80");
    let _servers = [lab.serves("web", WHO, &["10.1.0.2", "80"]), lab.serves(&outside, WHO, &[FAR4, "7000"])];
    assert_eq!(seen_from(lab, &outside, "tcp", (WAN4, 8000)), OUT4);
    assert_eq!(seen_from(lab, "web", "udp", (FAR4, 7000)), WAN4);
    assert!(lab.pings("web", FAR4) && lab.pings("web", "fd00:1::1"));
    let _ = ask(lab, "web", "udp", ("203.0.113.77", 9), 4445);
    twin.mirror_flows(lab);
    // The third word is the time that is left.
    let timeless = |text: &str| {
        let line = |line: &str| {
            let at = line.match_indices(' ').map(|(at, _)| at).filter(|at| !line[*at..].starts_with("  "));
            let at: Vec<usize> = at.collect();
            format!("{} T{}", &line[..at[1]], &line[at[2]..])
        };
        let mut lines: Vec<String> = text.lines().map(line).collect();
        lines.sort_unstable();
        lines
    };
    let theirs = timeless(&twin.says("conntrack -L 2>/dev/null"));
    assert!(theirs.len() >= 5, "{theirs:#?}");
    assert_eq!(timeless(&lab.ok("show conntrack --as conntrack")), theirs);
    for words in ["-L", "-L -p tcp --dport 8000", "-L -f ipv6", "-L -p udp --sport 4445", "-L -s 10.1.0.0/24"]
    {
        let theirs = timeless(&twin.says(&format!("conntrack {words} 2>/dev/null")));
        assert!(!theirs.is_empty(), "{words}");
        assert_eq!(timeless(&lab.ok(&format!("conntrack {words}"))), theirs, "{words}");
    }
    assert_eq!(lab.ok("conntrack -C"), twin.says("conntrack -C"));
}

fn what_means_nothing_is_refused(lab: &Lab) {
    lab.daemon("");
    for (line, said) in [
        ("show fdb --as iptables", "fdb are shown as brctl, bridge, ip"),
        ("show drops --as ip", "as ip are shown ports, interfaces, fdb, neigh, routes"),
        ("show rules --as brctl", "rules are shown as iptables; as brctl are shown ports"),
        ("show ports --as ip --json", "give one"),
    ] {
        assert!(lab.refused(line).contains(said), "{line}: {}", lab.refused(line));
    }
    assert_eq!(lab.ts("show rules --as vim").status.code(), Some(2));
}
