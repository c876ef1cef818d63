//! What stands here as expected was printed by the tools themselves (iptables 1.8.9, its `prot` column as before;
//! iproute2 6.1, bridge-utils 1.7) of the same things in a kernel.

use super::*;
use crate::control::show::rules::RuleRow;

fn rule(chain: &str, num: usize, target: &str, cells: [&str; 5], options: &str, spec: &str) -> RuleRow {
    let [prot, input, output, source, destination] = cells.map(str::to_owned);
    RuleRow {
        family: "ipv4".to_owned(),
        table: "filter".to_owned(),
        chain: chain.to_owned(),
        num: Some(num),
        target: target.to_owned(),
        prot,
        input,
        output,
        source,
        destination,
        options: options.to_owned(),
        packets: 0,
        bytes: 0,
        policy: false,
        spec: format!("-A {chain} {spec}"),
    }
}

fn chain(name: &str, policy: Option<&str>, rules: Vec<RuleRow>) -> ChainRow {
    ChainRow {
        table: "filter".to_owned(),
        chain: name.to_owned(),
        policy: policy.map(str::to_owned),
        references: usize::from(policy.is_none()),
        packets: 0,
        bytes: 0,
        rules,
    }
}

/// A table that iptables was given, too.
fn filter() -> Tables {
    let forward = vec![
        rule("FORWARD", 1, "DOCKER", ["all", "*", "*", "0.0.0.0/0", "0.0.0.0/0"], "", "-j DOCKER"),
        rule(
            "FORWARD",
            2,
            "ACCEPT",
            ["all", "*", "*", "!172.17.0.0/16", "!10.0.0.0/8"],
            "ctstate RELATED,ESTABLISHED",
            "! -s 172.17.0.0/16 ! -d 10.0.0.0/8 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        ),
    ];
    let docker = rule(
        "DOCKER",
        1,
        "ACCEPT",
        ["tcp", "!docker0", "docker0", "0.0.0.0/0", "172.17.0.2"],
        "tcp dpt:80",
        "-d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT",
    );
    let chains = vec![chain("FORWARD", Some("ACCEPT"), forward), chain("DOCKER", None, vec![docker])];
    Tables { chains, ..Tables::default() }
}

#[track_caller]
fn prints(tables: &Tables, line: &str, expected: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!(view(words[0], &words[1..]).unwrap().draw(tables).unwrap(), expected, "{line}");
}

#[test]
fn every_style_of_iptables() {
    let tables = filter();
    let expected = "\
Chain FORWARD (policy ACCEPT)
target     prot opt source               destination         
DOCKER     all  --  anywhere             anywhere            
ACCEPT     all  -- !172.17.0.0/16       !10.0.0.0/8           ctstate RELATED,ESTABLISHED

Chain DOCKER (1 references)
target     prot opt source               destination         
ACCEPT     tcp  --  anywhere             172.17.0.2           tcp dpt:80
";
    prints(&tables, "iptables -L", expected);
    let expected = "\
Chain FORWARD (policy ACCEPT)
target     prot opt source               destination         
DOCKER     all  --  0.0.0.0/0            0.0.0.0/0           
ACCEPT     all  -- !172.17.0.0/16       !10.0.0.0/8           ctstate RELATED,ESTABLISHED

Chain DOCKER (1 references)
target     prot opt source               destination         
ACCEPT     tcp  --  0.0.0.0/0            172.17.0.2           tcp dpt:80
";
    ["iptables -nL", "iptables -L -n", "iptables -t filter --list --numeric"]
        .iter()
        .for_each(|line| prints(&tables, line, expected));
    let expected = "\
Chain FORWARD (policy ACCEPT 0 packets, 0 bytes)
 pkts bytes target     prot opt in     out     source               destination         
    0     0 DOCKER     all  --  any    any     anywhere             anywhere            
    0     0 ACCEPT     all  --  any    any    !172.17.0.0/16       !10.0.0.0/8           ctstate RELATED,ESTABLISHED

Chain DOCKER (1 references)
 pkts bytes target     prot opt in     out     source               destination         
    0     0 ACCEPT     tcp  --  !docker0 docker0  anywhere             172.17.0.2           tcp dpt:80
";
    prints(&tables, "iptables -vL", expected);
    let expected = "\
Chain DOCKER (1 references)
num      pkts      bytes target     prot opt in     out     source               destination         
1           0        0 ACCEPT     tcp  --  !docker0 docker0  0.0.0.0/0            172.17.0.2           tcp dpt:80
";
    prints(&tables, "iptables -nvxL DOCKER --line-numbers", expected);
    let expected = "\
-P FORWARD ACCEPT
-N DOCKER
-A FORWARD -j DOCKER
-A FORWARD ! -s 172.17.0.0/16 ! -d 10.0.0.0/8 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
";
    prints(&tables, "iptables -S", expected);
    let expected = "\
-N DOCKER
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -c 0 0 -j ACCEPT
";
    prints(&tables, "iptables -vS DOCKER", expected);
    for line in ["iptables -tfilter -S DOCKER", "iptables --table=filter -S DOCKER"] {
        prints(
            &tables,
            line,
            "-N DOCKER\n-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT\n",
        );
    }
    let expected = format!(
        "\
# Generated by tapswitch {}
*filter
:FORWARD ACCEPT [0:0]
:DOCKER - [0:0]
[0:0] -A FORWARD -j DOCKER
[0:0] -A FORWARD ! -s 172.17.0.0/16 ! -d 10.0.0.0/8 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
[0:0] -A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
COMMIT
# Completed
",
        env!("CARGO_PKG_VERSION")
    );
    prints(&tables, "iptables-save -c -t filter", &expected);
    prints(&tables, "iptables-save -tfilter", &expected.replace("[0:0] -A", "-A"));
    let missing = view("iptables", &["-L", "FOO"]).unwrap().draw(&tables);
    assert_eq!(missing.unwrap_err(), "iptables: No chain/target/match by that name.");
}

/// A bridge with one port that is up and one that is not, and an uplink.
fn interfaces() -> Tables {
    let row = |index, name: &str, kind: &str, master: &str, state: &str, mac: &str| InterfaceRow {
        index,
        name: name.to_owned(),
        kind: kind.to_owned(),
        network: if kind == "uplink" { "wan" } else { "bridge" }.to_owned(),
        master: master.to_owned(),
        port: if kind == "veth" { format!("c{index}") } else { String::new() },
        container: if kind == "veth" { format!("c{index}") } else { String::new() },
        peer_ifindex: 2,
        mac: mac.to_owned(),
        mtu: 1500,
        state: state.to_owned(),
        addresses: Vec::new(),
        ageing: 300,
    };
    let mut interfaces = vec![
        row(2, "docker0", "bridge", "", "up", "02:42:ac:11:00:01"),
        row(3, "veth6994522", "veth", "docker0", "up", "0a:62:de:b4:cd:0c"),
        row(4, "wan", "uplink", "", "up", "02:42:cb:00:71:02"),
        row(5, "veth0000001", "veth", "docker0", "link-down", "0a:62:de:b4:cd:0d"),
    ];
    interfaces[0].addresses = vec!["172.17.0.1/16".to_owned(), "fe80::42:acff:fe11:1/64".to_owned()];
    Tables { interfaces, ..Tables::default() }
}

#[test]
fn words_choose_what_iproute2_shows() {
    let tables = interfaces();
    let brief = "docker0          UP             172.17.0.1/16 fe80::42:acff:fe11:1/64 \n";
    ["ip -br a show docker0", "ip -brief addr sh dev docker0", "ip -br address list docker0"]
        .iter()
        .for_each(|line| prints(&tables, line, brief));
    let expected = "\
2: docker0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP group default 
    inet 172.17.0.1/16 scope global docker0
       valid_lft forever preferred_lft forever
";
    prints(&tables, "ip -4 a", expected);
    prints(
        &tables,
        "ip -o -4 addr show docker0",
        "2: docker0    inet 172.17.0.1/16 scope global docker0\\       valid_lft forever preferred_lft forever\n",
    );
    let veth = "3: veth6994522@if2: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500";
    let down = "5: veth0000001@if2: <NO-CARRIER,BROADCAST,MULTICAST,UP> mtu 1500";
    let expected = format!(
        "{veth} qdisc noqueue master docker0 state UP mode DEFAULT group default \n    link/ether \
         0a:62:de:b4:cd:0c brd ff:ff:ff:ff:ff:ff link-netnsid 0\n{down} qdisc noqueue master docker0 state \
         LOWERLAYERDOWN mode DEFAULT group default \n    link/ether 0a:62:de:b4:cd:0d brd ff:ff:ff:ff:ff:ff \
         link-netnsid 1\n"
    );
    ["ip l show master docker0", "ip link show type veth"]
        .iter()
        .for_each(|line| prints(&tables, line, &expected));
    let links = "\
docker0          UP             02:42:ac:11:00:01 <BROADCAST,MULTICAST,UP,LOWER_UP> 
veth6994522@if2  UP             0a:62:de:b4:cd:0c <BROADCAST,MULTICAST,UP,LOWER_UP> 
wan              UP             02:42:cb:00:71:02 <BROADCAST,MULTICAST,UP,LOWER_UP> 
veth0000001@if2  LOWERLAYERDOWN 0a:62:de:b4:cd:0d <NO-CARRIER,BROADCAST,MULTICAST,UP> 
";
    prints(&tables, "ip -br l", links);
    prints(
        &tables,
        "bridge link show dev veth6994522",
        &format!("{veth} master docker0 state forwarding priority 32 cost 2 \n"),
    );
    let expected = "0a:62:de:b4:cd:0c master docker0 permanent\n";
    prints(&tables, "bridge fdb show dev veth6994522", expected);
    prints(&tables, "bridge fdb show br docker0 dynamic", "");
    for (line, says) in [
        ("ip a show nosuch", "Device \"nosuch\" does not exist."),
        ("brctl show wan", "device wan is not a bridge!"),
        ("brctl showstp nosuch", "bridge nosuch does not exist!"),
        ("brctl showmacs nosuch", "read of forward table failed: No such device"),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(view(words[0], &words[1..]).unwrap().draw(&tables).unwrap_err(), says, "{line}");
    }
}

#[test]
fn what_is_no_view_is_refused_with_the_line_to_type() {
    for (line, says) in [
        ("brctl addbr br0", "tapswitch network create -o bridge_name=br0 br0"),
        ("brctl delbr br0", "tapswitch network rm"),
        ("brctl addif br0 eth0", "tapswitch network connect"),
        ("brctl stp br0 on", "no spanning tree"),
        ("brctl", "give show"),
        ("ip link set docker0 down", "tapswitch port set"),
        ("ip route add default via 10.0.0.1", "tapswitch route add"),
        ("ip route get 10.0.0.1", "tapswitch explain"),
        ("ip netns list", "has views of address"),
        ("ip -d link", "there are -4, -6, -o and -br"),
        ("ip -s link", "tapswitch show ports"),
        ("ip -j addr", "tapswitch --json show interfaces"),
        ("bridge vlan", "no port belongs to a VLAN"),
        ("bridge -d link", "bridge link show"),
        ("bridge -s fdb", "tapswitch show fdb"),
        ("bridge", "give 'fdb show'"),
        ("brctl hairpin docker0 veth0000001 on", "by the gateway"),
        ("iptables-save -t mangle", "there are filter and nat"),
        ("iptables-save -M x", "there are -c and -t"),
        ("iptables -C FORWARD -j DROP", "iptables -S"),
        ("bridge fdb add 02:00:00:00:00:01 dev x", "tapswitch fdb add"),
        ("route add -net 10.0.0.0 netmask 255.0.0.0 gw 10.1.0.1", "tapswitch route add"),
        ("iptables -A INPUT -j DROP", "tapswitch rule add"),
        ("iptables -F", "tapswitch rule ls"),
        ("iptables -t mangle -L", "there are filter and nat"),
        ("iptables", "give -L or -S"),
        ("nft list", "views of 'nft' are not known"),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let said = view(words[0], &words[1..]).unwrap_err();
        assert!(said.contains(says) && said.lines().count() == 1, "{line}: {said}");
    }
}

/// The tables of the article after a request from outside, as it prints them.
const FILTER: &str = "\
Chain INPUT (policy ACCEPT 3414 packets, 7527K bytes)
 pkts bytes target     prot opt in     out     source               destination         

Chain FORWARD (policy DROP 0 packets, 0 bytes)
 pkts bytes target     prot opt in     out     source               destination         
   10  1089 DOCKER-ISOLATION  all  --  *      *       0.0.0.0/0            0.0.0.0/0           
    4   506 ACCEPT     all  --  *      docker0  0.0.0.0/0            0.0.0.0/0            ctstate RELATED,ESTABLISHED
    1    60 DOCKER     all  --  *      docker0  0.0.0.0/0            0.0.0.0/0           
    5   523 ACCEPT     all  --  docker0 !docker0  0.0.0.0/0            0.0.0.0/0           
    0     0 ACCEPT     all  --  docker0 docker0  0.0.0.0/0            0.0.0.0/0           

Chain OUTPUT (policy ACCEPT 3454 packets, 192K bytes)
 pkts bytes target     prot opt in     out     source               destination         

Chain DOCKER (1 references)
 pkts bytes target     prot opt in     out     source               destination         
    1    60 ACCEPT     tcp  --  !docker0 docker0  0.0.0.0/0            172.17.0.2           tcp dpt:80

Chain DOCKER-ISOLATION (1 references)
 pkts bytes target     prot opt in     out     source               destination         
   10  1089 RETURN     all  --  *      *       0.0.0.0/0            0.0.0.0/0           
";
const NAT: &str = "\
Chain PREROUTING (policy ACCEPT 0 packets, 0 bytes)
 pkts bytes target     prot opt in     out     source               destination         
    3   204 DOCKER     all  --  *      *       0.0.0.0/0            0.0.0.0/0            ADDRTYPE match dst-type LOCAL

Chain INPUT (policy ACCEPT 0 packets, 0 bytes)
 pkts bytes target     prot opt in     out     source               destination         

Chain OUTPUT (policy ACCEPT 11 packets, 746 bytes)
 pkts bytes target     prot opt in     out     source               destination         
    3   180 DOCKER     all  --  *      *       0.0.0.0/0           !127.0.0.0/8          ADDRTYPE match dst-type LOCAL

Chain POSTROUTING (policy ACCEPT 13 packets, 866 bytes)
 pkts bytes target     prot opt in     out     source               destination         
    1    60 MASQUERADE  all  --  *      !docker0  172.17.0.0/16        0.0.0.0/0           
    0     0 MASQUERADE  tcp  --  *      *       172.17.0.2           172.17.0.2           tcp dpt:80

Chain DOCKER (2 references)
 pkts bytes target     prot opt in     out     source               destination         
    1    84 RETURN     all  --  docker0 *       0.0.0.0/0            0.0.0.0/0           
    2   120 DNAT       tcp  --  !docker0 *       0.0.0.0/0            0.0.0.0/0            tcp dpt:8000 to:172.17.0.2:80
";

/// The chains that a listing with counters stands for: the counters back from their short forms.
fn read_listing(listing: &str, table: &str) -> Vec<ChainRow> {
    let number = |text: &str| match text.strip_suffix('K') {
        Some(thousands) => thousands.parse::<u64>().unwrap() * 1000,
        None => text.parse().unwrap(),
    };
    let one = |text: &str| {
        let mut lines = text.lines();
        let head: Vec<&str> =
            lines.next().unwrap().split([' ', '(', ')']).filter(|word| !word.is_empty()).collect();
        let (policy, packets, bytes) = match head[2] {
            "policy" => (Some(head[3]), number(head[4]), number(head[6])),
            _ => (None, 0, 0),
        };
        let rules = lines.skip(1).enumerate().map(|(at, line)| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let cells = [words[3], words[5], words[6], words[7], words[8]];
            let row = rule(head[1], at + 1, words[2], cells, &words[9..].join(" "), "");
            RuleRow { table: table.to_owned(), packets: number(words[0]), bytes: number(words[1]), ..row }
        });
        let references = if policy.is_none() { number(head[2]) as usize } else { 0 };
        let row = chain(head[1], policy, rules.collect());
        ChainRow { table: table.to_owned(), references, packets, bytes, ..row }
    };
    listing.split("\n\n").map(one).collect()
}

#[test]
fn the_articles_tables_byte_for_byte() {
    let chains = [read_listing(FILTER, "filter"), read_listing(NAT, "nat")].concat();
    assert_eq!(chains.iter().map(|chain| chain.rules.len()).sum::<usize>(), 7 + 6);
    let tables = Tables { chains, ..Tables::default() };
    prints(&tables, "iptables -L -v -n", FILTER);
    prints(&tables, "iptables -L -t nat -v -n", NAT);
}

#[test]
fn the_articles_bridges_byte_for_byte() {
    let row = |index, name: &str, kind: &str, master: &str, mac: &str| InterfaceRow {
        index,
        name: name.to_owned(),
        kind: kind.to_owned(),
        network: if kind == "bridge" { name } else { master }.to_owned(),
        master: master.to_owned(),
        mac: mac.to_owned(),
        state: "up".to_owned(),
        ..InterfaceRow::default()
    };
    let interfaces = vec![
        row(2, "br0", "bridge", "", "b8:88:e3:0e:05:ab"),
        row(3, "eth0", "veth", "br0", "b8:88:e3:0e:05:ab"),
        row(5, "tap0", "veth", "br0", "0a:62:de:b4:cd:01"),
        row(6, "docker0", "bridge", "", "02:42:7f:0e:64:90"),
        row(7, "veth6994522", "veth", "docker0", "0a:62:de:b4:cd:0c"),
    ];
    let expected = "bridge name\tbridge id\t\tSTP enabled\tinterfaces\n\
                    br0\t\t8000.b888e30e05ab\tno\t\teth0\n\t\t\t\t\t\t\ttap0\n\
                    docker0\t\t8000.02427f0e6490\tno\t\tveth6994522\n";
    prints(&Tables { interfaces, ..Tables::default() }, "brctl show", expected);
}
