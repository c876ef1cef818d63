use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::control::ipam::SubnetSpec;
use crate::wire::MacAddr;

pub(super) fn id(seed: u8) -> Id {
    Id::new([seed; 32]).derive(Id::new([0xee; 32]))
}

pub(super) fn network(name: &str, subnets: &[&str]) -> NetworkSpec {
    let subnets = subnets.iter().map(|text| SubnetSpec::from(text.parse::<IpNet>().unwrap())).collect();
    NetworkSpec { subnets, ..NetworkSpec::named(name) }
}

pub(super) fn container(name: &str, networks: &[&str]) -> ContainerSpec {
    let networks = networks.iter().copied().map(EndpointSpec::on).collect();
    ContainerSpec { name: Some(name.to_owned()), networks, ..ContainerSpec::default() }
}

/// Networks bridge, net1 (IPv4 and IPv6) and net2; alice on net1, router on net1 and net2.
pub(super) fn sample() -> Model {
    let mut model = Model::new(id(0), 1, &[]).unwrap();
    model.create_network(&network("net1", &["172.19.0.0/16", "fd00:19::/64"]), id(1), 2, &[]).unwrap();
    model.create_network(&network("net2", &["172.20.0.0/16"]), id(2), 3, &[]).unwrap();
    model.create_container(&container("alice", &["net1"]), id(11), 4).unwrap();
    model.create_container(&container("router", &["net1", "net2"]), id(12), 5).unwrap();
    model
}

/// Runs an operation that must be refused, and checks that it changed nothing.
pub(super) fn refused<T: std::fmt::Debug>(
    model: &mut Model,
    operation: impl FnOnce(&mut Model) -> Result<T, Refused>,
) -> Refused {
    let before = model.clone();
    let refused = operation(model).unwrap_err();
    assert_eq!(*model, before, "{refused}");
    refused
}

#[test]
fn bridge_exists_and_stays() {
    let mut model = Model::new(id(0), 7, &["172.17.0.0/16".parse().unwrap()]).unwrap();
    let bridge = model.find_network("bridge").unwrap();
    assert_eq!(bridge.subnets[0].prefix().to_string(), "172.18.0.0/16");
    assert_eq!((bridge.bridge_name().as_str(), bridge.number, bridge.created_ns), ("docker0", 0, 7));
    let why = refused(&mut model, |model| model.remove_network("bridge"));
    assert_eq!(why.kind, Kind::Predefined);
    let full = ["172.16.0.0/12".parse().unwrap(), "192.168.0.0/16".parse().unwrap()];
    assert_eq!(Model::new(id(0), 7, &full).unwrap_err().kind, Kind::PoolsExhausted);
}

#[test]
fn endpoints_get_docker_addresses_names_and_dense_ports() {
    let model = sample();
    let router = model.find_container("router").unwrap();
    let [first, second] = router.endpoints.as_slice() else { panic!("two endpoints") };
    let text = |endpoint: &Endpoint| {
        endpoint.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(text(first), "172.19.0.3/16 fd00:19::3/64");
    assert_eq!(text(second), "172.20.0.2/16");
    assert_eq!(second.mac.to_string(), "02:42:ac:14:00:02");
    assert_eq!([&first.ifname, &second.ifname], ["eth0", "eth1"]);
    assert_eq!([first.port, second.port], [1, 2]);
    assert_eq!(second.alias, format!("veth{}", second.id.digits(0, 7)));
    assert_eq!(router.port_name(second), "router:eth1");
    assert_eq!(router.hostname, router.id.short());
    let alice = model.find_container("alice").unwrap();
    assert_eq!(alice.port_name(&alice.endpoints[0]), "alice");
}

#[test]
fn what_leaves_frees_its_place_and_returns_to_it() {
    let mut model = sample();
    let gone = model.disconnect("router", "net1").unwrap();
    assert_eq!(model.find_container("router").unwrap().endpoints.len(), 1);
    let back = model.connect("router", &EndpointSpec::on("net1")).unwrap().1.clone();
    assert_eq!((gone.ifname.as_str(), back.ifname.as_str()), ("eth0", "eth2"), "no number is given twice");
    assert_eq!(Endpoint { ifname: back.ifname.clone(), ..gone }, back, "same id, alias, address, port");
    let why = refused(&mut model, |model| model.disconnect("alice", "net2"));
    assert_eq!(
        why.message,
        "container alice is not connected to network net2: 'tapswitch inspect alice' lists its networks"
    );
}

#[test]
fn a_container_lives_ends_and_is_removed() {
    let mut model = sample();
    let router = id(12);
    model.started(router, 77, 10).unwrap();
    assert_eq!(model.container(router).unwrap().pid, Some(77));
    assert_eq!(refused(&mut model, |model| model.started(router, 78, 11)).kind, Kind::BadState);
    let why = refused(&mut model, |model| model.remove_container("router", false));
    assert_eq!(why.message, "container 'router' is running: 'tapswitch stop router' first");
    assert_eq!(model.ended(router, Some(3), 12).unwrap().len(), 2);
    let ended = model.container(router).unwrap();
    assert_eq!((ended.state, ended.pid, ended.changed_ns), (State::Exited { code: 3 }, None, 12));
    model.explain_end(router, 9);
    assert!(model.ended(router, None, 13).unwrap().is_empty());
    assert_eq!(model.container(router).unwrap().state, State::Exited { code: 3 }, "the first end counts");
    assert_eq!(
        refused(&mut model, |model| model.connect("router", &EndpointSpec::on("net1")).map(drop)).kind,
        Kind::BadState
    );
    model.remove_container("router", false).unwrap();
    model.remove_container("alice", true).unwrap();
    assert_eq!(model.ended(router, None, 14).unwrap_err().kind, Kind::UnknownContainer);
    model.create_container(&container("late", &[]), id(13), 15).unwrap();
    model.ended(id(13), None, 16).unwrap();
    model.explain_end(id(13), 9);
    assert_eq!(model.container(id(13)).unwrap().state, State::Exited { code: 9 }, "nobody knew");
    model.remove_container("late", false).unwrap();
    assert_eq!(model.prune_networks().len(), 2);
    assert_eq!(model, Model::new(id(0), 1, &[]).unwrap(), "nothing is left behind");
}

#[test]
fn networks_are_refused_with_the_reason() {
    let mut model = sample();
    let with = |key: &str, value: &str, subnets: &[&str]| NetworkSpec {
        options: vec![(key.to_owned(), value.to_owned())],
        ..network("new", subnets)
    };
    let table = [
        (network("net1", &[]), Kind::NameTaken, "network with name net1 already exists"),
        (network("a b", &[]), Kind::BadName, "network name 'a b' is not allowed"),
        (network("host", &[]), Kind::BadName, "operation is not permitted on predefined host network"),
        (
            network("new", &["172.19.7.0/24"]),
            Kind::SubnetOverlaps,
            "Pool overlaps with other one on this address space: subnet 172.19.7.0/24 of network 'new' overlaps 172.19.0.0/16 of network 'net1': choose another subnet",
        ),
        (
            network("new", &["fd00::/16"]),
            Kind::SubnetOverlaps,
            "Pool overlaps with other one on this address space: subnet fd00::/16 of network 'new' overlaps fd00:19::/64",
        ),
        (
            network("new", &["10.1.0.0/16", "10.2.0.0/16"]),
            Kind::BadSubnet,
            "bridge driver doesn't support multiple subnets: network 'new' is given a second IPv4 one",
        ),
        (
            network("new", &["10.1.0.1/16"]),
            Kind::BadSubnet,
            "subnet 10.1.0.1/16 has host bits set: write 10.1.0.0/16",
        ),
        (with("mtu", "67", &[]), Kind::BadOption, "option 'mtu' cannot be '67'"),
        (
            with("mtu", "1279", &["fd01::/64"]),
            Kind::BadOption,
            "option 'mtu' of network 'new' cannot be '1279'",
        ),
        (
            with(crate::control::options::BRIDGE_NAME, "docker0", &[]),
            Kind::NameTaken,
            "conflicts with network bridge (docker0): networks have same bridge name",
        ),
    ];
    for (spec, kind, message) in table {
        let why = refused(&mut model, |model| model.create_network(&spec, id(9), 9, &[]).map(drop));
        assert_eq!(why.kind, kind);
        assert!(why.message.starts_with(message), "{} / {message}", why.message);
    }
    let why = refused(&mut model, |model| model.remove_network("net1"));
    let short = model.find_network("net1").unwrap().id.short();
    let said = format!("error while removing network: network net1 id {short} has active endpoints: ");
    assert_eq!(why.message, said + "disconnect or remove alice, router first");
    let why =
        refused(&mut model, |model| model.create_network(&network("new", &[]), id(1), 9, &[]).map(drop));
    assert_eq!(why.kind, Kind::NameTaken);
}

#[test]
fn containers_are_refused_with_the_reason() {
    let mut model = sample();
    let wish = |network: &str, edit: fn(&mut EndpointSpec)| {
        let mut spec = container("new", &[network]);
        edit(&mut spec.networks[0]);
        spec
    };
    let table = [
        (
            container("alice", &[]),
            Kind::NameTaken,
            "Conflict. The container name \"/alice\" is already in use",
        ),
        (container("any", &[]), Kind::BadName, "container name 'any' means something else"),
        (container("new", &["nte1"]), Kind::UnknownNetwork, "network nte1 not found: did you mean 'net1'?"),
        (
            container("new", &["net2", "net2"]),
            Kind::AlreadyConnected,
            "endpoint with name new already exists in network net2",
        ),
        (
            wish("net1", |it| it.addresses = vec!["10.0.0.9".parse().unwrap()]),
            Kind::BadAddress,
            "Invalid address 10.0.0.9: It does not belong to any of this network's subnets: on 'net1' choose one in 172.19.0.0/16 or fd00:19::/64",
        ),
        (
            wish("net1", |it| it.addresses = vec!["172.19.0.1".parse().unwrap()]),
            Kind::BadAddress,
            "Address already in use: on network 'net1' 172.19.0.1 is the gateway of 172.19.0.0/16: choose another",
        ),
        (
            wish("net1", |it| it.addresses = vec!["fd00:19::2".parse().unwrap()]),
            Kind::AddressInUse,
            "Address already in use: fd00:19::2 on network 'net1' is in use by container 'alice': choose another, or give none",
        ),
        (
            wish("net1", |it| {
                it.addresses = ["172.19.0.8", "172.19.0.9"].map(|ip| ip.parse().unwrap()).to_vec()
            }),
            Kind::BadAddress,
            "addresses 172.19.0.8 and 172.19.0.9 are both in 172.19.0.0/16",
        ),
        (
            wish("net1", |it| it.mac = Some(MacAddr::BROADCAST)),
            Kind::BadMac,
            "MAC address ff:ff:ff:ff:ff:ff is a group's",
        ),
        (
            wish("net1", |it| it.mac = Some(MacAddr::ZERO)),
            Kind::BadMac,
            "MAC address 00:00:00:00:00:00 is a group's or zero",
        ),
        (
            wish("net1", |it| it.mac = Some(MacAddr([2, 0x42, 172, 19, 0, 2]))),
            Kind::MacInUse,
            "MAC address 02:42:ac:13:00:02 on network 'net1' is in use by container 'alice': choose another",
        ),
        (wish("net1", |it| it.ifname = Some("a/b".to_owned())), Kind::BadName, "interface name 'a/b'"),
        (wish("net1", |it| it.aliases = vec!["a b".to_owned()]), Kind::BadName, "host name 'a b'"),
        (
            wish("bridge", |it| it.aliases = vec!["db".to_owned()]),
            Kind::BadOption,
            "network-scoped alias is supported only for containers in user defined networks: 'db' has no use",
        ),
        (
            ContainerSpec { hostname: Some(String::new()), ..container("new", &[]) },
            Kind::BadName,
            "host name ''",
        ),
        (
            ContainerSpec {
                extra_hosts: vec![("a\tb".to_owned(), IpAddr::from([1, 1, 1, 1]))],
                ..container("new", &[])
            },
            Kind::BadName,
            "host name 'a b'",
        ),
    ];
    for (spec, kind, message) in table {
        let why = refused(&mut model, |model| model.create_container(&spec, id(99), 9).map(drop));
        assert_eq!(why.kind, kind, "{why}");
        assert!(why.message.starts_with(message), "{} / {message}", why.message);
    }
}

#[test]
fn a_full_pool_leaves_no_half_container() {
    let mut model = sample();
    model.create_network(&network("tiny", &["10.0.0.0/30"]), id(3), 6, &[]).unwrap();
    model.create_container(&container("one", &["tiny"]), id(13), 7).unwrap();
    let why = refused(&mut model, |model| {
        model.create_container(&container("two", &["net1", "tiny"]), id(14), 8).map(drop)
    });
    assert_eq!(why.kind, Kind::PoolFull);
    assert_eq!(
        why.message,
        "no available IPv4 addresses on this network's address pools: tiny: no free address is left in 10.0.0.0/30: disconnect a container, or use a larger subnet"
    );
}

#[test]
fn wishes_are_granted_and_a_borrowed_default_mac_is_avoided() {
    let mut model = sample();
    let mut spec = container("bob", &["net2"]);
    spec.networks[0].addresses = vec!["172.20.9.9".parse().unwrap()];
    spec.networks[0].mac = Some(MacAddr([2, 0x42, 172, 20, 0, 3]));
    spec.networks[0].ifname = Some("lan".to_owned());
    let bob = model.create_container(&spec, id(13), 6).unwrap().endpoints[0].clone();
    assert_eq!((bob.addresses[0].to_string().as_str(), bob.ifname.as_str()), ("172.20.9.9/16", "lan"));
    let carol =
        model.create_container(&container("carol", &["net2"]), id(14), 7).unwrap().endpoints[0].clone();
    assert_eq!(carol.addresses[0].to_string(), "172.20.0.3/16");
    assert!(carol.mac != bob.mac && carol.mac.is_station() && carol.mac.0[0] == 2);
    model.connect("bob", &EndpointSpec::on("net1")).unwrap();
    assert_eq!(model.find_container("bob").unwrap().endpoints[1].ifname, "eth0");
    let again = EndpointSpec { ifname: Some("lan".to_owned()), ..EndpointSpec::on("bridge") };
    let why = refused(&mut model, |model| model.connect("bob", &again).map(drop));
    assert_eq!(why.message, "container 'bob' has an interface 'lan' already: choose another name");
}

#[test]
fn words_find_names_ids_and_unique_beginnings() {
    let mut model = sample();
    let net1 = model.find_network("net1").unwrap().id;
    let text = net1.to_string();
    for word in [text.as_str(), &text[..12], &text[..6]] {
        assert_eq!(model.find_network(word).unwrap().id, net1);
    }
    let twin = Id::new({
        let mut bytes = *net1.bytes();
        bytes[5] ^= 1;
        bytes
    });
    model.create_network(&network("twin", &[]), twin, 9, &[]).unwrap();
    let why = model.find_network(&text[..10]).unwrap_err();
    assert_eq!(why.kind, Kind::Ambiguous);
    assert!(why.message.contains("fits net1, twin") || why.message.contains("fits twin, net1"), "{why}");
    assert_eq!(model.find_network(&text).unwrap().id, net1);
    // A name wins over the beginning of an id.
    model.create_network(&network(&text[..6], &[]), id(50), 9, &[]).unwrap();
    assert_eq!(model.find_network(&text[..6]).unwrap().id, id(50));
    let why = model.find_network("").unwrap_err();
    assert_eq!(why.message, "network  not found: 'tapswitch network ls' lists them");
    assert_eq!(
        model.find_container("alcie").unwrap_err().message,
        "No such container: alcie: did you mean 'alice'?"
    );
}

#[test]
fn ports_are_found_by_each_of_their_names() {
    let mut model = sample();
    model.create_container(&container("alone", &[]), id(13), 6).unwrap();
    let alias = model.find_container("router").unwrap().endpoints[1].alias.clone();
    for word in ["router:eth1", &alias] {
        assert_eq!(model.find_port(word).unwrap().1.ifname, "eth1");
    }
    assert_eq!(model.find_port("alice").unwrap().1.port, 0);
    let table = [
        ("router", Kind::Ambiguous, "container 'router' has several ports: say router:eth0 or router:eth1"),
        (
            "router:eth9",
            Kind::UnknownPort,
            "port 'router:eth9' is not known: container 'router' has eth0, eth1",
        ),
        ("alone", Kind::UnknownPort, "container 'alone' has no port: connect it to a network"),
        ("zed", Kind::UnknownContainer, "No such container: zed: 'tapswitch ps -a' lists them"),
    ];
    for (word, kind, message) in table {
        assert_eq!(model.find_port(word).unwrap_err(), Refused::new(kind, message));
    }
}

#[test]
fn options_change_live_all_or_none() {
    let mut model = sample();
    let pairs = |list: &[(&str, &str)]| {
        list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>()
    };
    let set = model.set_options("net1", &pairs(&[("icc", "false"), ("ageing", "5")])).unwrap();
    assert_eq!((set.options.icc, set.options.ageing), (false, 5));
    for list in [
        &[("icc", "true"), ("mtu", "1")][..],
        &[("mtu", "1000")],
        &[("bridge_name", "br7")],
        &[("icc", "true"), ("x", "")],
    ] {
        assert_eq!(
            refused(&mut model, |model| model.set_options("net1", &pairs(list)).map(drop)).kind,
            Kind::BadOption
        );
    }
    model.set_options("net2", &pairs(&[("mtu", "1000")])).unwrap();
}

#[test]
fn ipv6_is_automatic_only_when_asked_for() {
    let mut model = sample();
    let six = NetworkSpec { ipv6: true, ..NetworkSpec::named("six") };
    let prefixes: Vec<IpNet> =
        model.create_network(&six, id(5), 9, &[]).unwrap().subnets.iter().map(|s| s.prefix()).collect();
    assert_eq!((prefixes[0].to_string().as_str(), prefixes[1].prefix_len()), ("172.18.0.0/16", 64));
    assert!(!model.find_network("net2").unwrap().has_ipv6());
    let only6 = model.create_network(&network("only6", &["fd66::/64"]), id(6), 9, &[]).unwrap();
    assert_eq!(only6.subnets[0].prefix().to_string(), "172.21.0.0/16", "IPv4 is always there, as in Docker");
}

#[test]
fn a_wish_is_read_from_one_word() {
    let spec: EndpointSpec =
        "net1:ip=fd00:19::9,ip=172.19.0.9,mac=02:42:00:00:00:01,alias=a,alias=b,ifname=lan".parse().unwrap();
    assert_eq!(spec.addresses, ["fd00:19::9", "172.19.0.9"].map(|ip| ip.parse::<IpAddr>().unwrap()));
    assert_eq!((spec.network.as_str(), spec.mac), ("net1", Some(MacAddr([2, 0x42, 0, 0, 0, 1]))));
    assert_eq!((spec.aliases, spec.ifname.as_deref()), (vec!["a".to_owned(), "b".to_owned()], Some("lan")));
    assert_eq!("net1".parse(), Ok(EndpointSpec::on("net1")));
    for bad in ["net1:ip=no", "net1:mac=2", "net1:speed=9", "net1:ip"] {
        let why = bad.parse::<EndpointSpec>().unwrap_err();
        assert!(
            why.kind == Kind::BadOption && why.message.starts_with(&format!("network '{bad}' cannot have '")),
            "{why}"
        );
    }
}

#[test]
fn containers_without_a_name_get_different_ones() {
    let mut model = sample();
    for seed in 20..23 {
        model.create_container(&ContainerSpec::default(), id(seed), seed.into()).unwrap();
    }
    let names: BTreeSet<&str> = model.containers().iter().map(|container| container.name.as_str()).collect();
    assert_eq!(names.len(), 5);
}

#[test]
fn a_thousand_containers_have_a_thousand_places() {
    let mut model = Model::new(id(0), 1, &[]).unwrap();
    for number in 0..1000u16 {
        let own = Id::new([0; 32]).derive(Id::new(std::array::from_fn(|at| number.to_be_bytes()[at % 2])));
        model.create_container(&container(&format!("c{number}"), &["bridge"]), own, number.into()).unwrap();
    }
    let endpoints = model.endpoints(id(0));
    let ports: Vec<u32> = endpoints.iter().map(|(_, endpoint)| endpoint.port).collect();
    assert_eq!(ports, (0..1000).collect::<Vec<u32>>());
    assert_eq!(endpoints[999].1.addresses[0].to_string(), "172.17.3.233/16");
    let aliases: BTreeSet<&str> = endpoints.iter().map(|(_, endpoint)| endpoint.alias.as_str()).collect();
    assert_eq!(aliases.len(), 1000);
}

/// What must hold in every model.
pub(super) fn check_invariants(model: &Model) {
    let mut ports = BTreeSet::new();
    let mut aliases = BTreeSet::new();
    let mut leased: BTreeMap<Id, BTreeSet<IpAddr>> = BTreeMap::new();
    let mut macs = BTreeSet::new();
    for (container, endpoint) in model.all_endpoints() {
        assert!(container.is_alive());
        assert!(ports.insert(endpoint.port) && aliases.insert(&endpoint.alias));
        assert!(endpoint.mac.is_station() && macs.insert((endpoint.network, endpoint.mac)));
        let network = model.network(endpoint.network).unwrap();
        if container.kind == ContainerKind::Uplink {
            assert!(endpoint.addresses.is_empty() && network.id == container.id);
            continue;
        }
        assert_eq!(endpoint.addresses.len(), network.subnets.len());
        for (address, subnet) in endpoint.addresses.iter().zip(&network.subnets) {
            assert!(subnet.prefix().contains(&address.addr()) && subnet.gateway() != address.addr());
            assert!(leased.entry(network.id).or_default().insert(address.addr()), "{address} twice");
            assert!(subnet.choose(Some(address.addr())).is_err(), "{address} is leased");
        }
    }
    let mut numbers = BTreeSet::new();
    let mut prefixes: Vec<IpNet> = Vec::new();
    for network in model.networks() {
        assert!(numbers.insert(network.number));
        for subnet in &network.subnets {
            assert!(prefixes.iter().all(|other| !crate::control::ipam::overlap(*other, subnet.prefix())));
            prefixes.push(subnet.prefix());
            let empty = BTreeSet::new();
            let leased = leased.get(&network.id).unwrap_or(&empty);
            let lowest = subnet
                .prefix()
                .hosts()
                .take(300)
                .find(|host| *host != subnet.gateway() && !leased.contains(host));
            let lowest = lowest.filter(|host| !host.is_ipv6() || *host != subnet.prefix().network());
            if lowest.is_some() && subnet.prefix().addr().is_ipv4() {
                assert_eq!(subnet.choose(None).ok(), lowest, "nothing but endpoints holds leases");
            }
        }
    }
}

pub(super) fn step(model: &mut Model, action: u8, who: u8, place: u8, extra: u8) -> Result<(), Refused> {
    let name = |number: u8| format!("c{}", number % 6);
    let net = |number: u8| format!("n{}", number % 4);
    let subnets = ["10.0.0.0/30", "10.0.0.0/29", "10.0.0.8/29", "10.1.0.0/16"];
    let mut wish = EndpointSpec::on(&net(place));
    if extra.is_multiple_of(3) {
        wish.addresses = vec![IpAddr::from([10, 0, 0, extra % 16])];
    }
    if extra.is_multiple_of(5) {
        wish.mac = Some(MacAddr([extra % 4, 0x42, 10, 0, 0, extra % 16]));
    }
    match action % 7 {
        0 => model
            .create_network(
                &network(&net(place), &subnets[usize::from(extra) % 5 % 4..][..1]),
                id(place % 4),
                1,
                &[],
            )
            .map(drop),
        1 => model.remove_network(&net(place)).map(drop),
        2 => {
            let spec = ContainerSpec {
                networks: vec![wish, EndpointSpec::on(&net(extra))],
                ..container(&name(who), &[])
            };
            model.create_container(&spec, id(100 + who % 6), 1).map(drop)
        }
        3 => model.connect(&name(who), &wish).map(drop),
        4 => model.disconnect(&name(who), &net(place)).map(drop),
        5 => model.remove_container(&name(who), extra.is_multiple_of(2)).map(drop),
        _ => {
            let id = id(100 + who % 6);
            if extra.is_multiple_of(2) {
                model.started(id, 5, 2)
            } else {
                model.ended(id, Some(0), 3).map(drop)
            }
        }
    }
}

proptest! {
    #[test]
    fn random_operations_keep_the_invariants(steps in proptest::collection::vec(any::<[u8; 4]>(), 0..80)) {
        let mut model = Model::new(id(200), 1, &[]).unwrap();
        for [action, who, place, extra] in steps {
            let before = model.clone();
            if step(&mut model, action, who, place, extra).is_err() {
                prop_assert_eq!(&model, &before, "a refused operation changes nothing");
            }
            check_invariants(&model);
        }
    }
}
