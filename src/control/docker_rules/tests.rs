//! What the chains let through, asked of the chains themselves: a little router walks them as the real
//! one does, and whoever is let through must get its answer.

use super::*;
use crate::dataplane::filter::{FilterVerdict, Rules, Subject, Trace, Translation};
use crate::dataplane::rules::{FilterHook, NatHook};

const UPLINK: NetworkId = NetworkId(0);
const OTHER_UPLINK: NetworkId = NetworkId(9);
/// 172.17.0.0/16 and so on, and fd00:17::/64 and so on.
const NET1: NetworkId = NetworkId(17);
const NET2: NetworkId = NetworkId(18);
const CLOSED: NetworkId = NetworkId(19);
const INNER: NetworkId = NetworkId(20);

/// Host `host` of a network or behind an uplink.
fn at(version: Version, network: NetworkId, host: u8) -> Addr {
    let number = network.0 as u8;
    match version {
        Version::V4 if network == UPLINK => Addr::v4([203, 0, 113, host]),
        Version::V4 => Addr::v4([172, number, 0, host]),
        Version::V6 => {
            let mut bytes = [0; 16];
            (bytes[0], bytes[3], bytes[15]) = (0xfd, number, host);
            Addr::v6(bytes)
        }
    }
}

fn subnet(version: Version, network: NetworkId) -> Prefix {
    Prefix::new(at(version, network, 0), if version == Version::V4 { 16 } else { 64 })
}

fn network(id: NetworkId) -> PolicyNetwork {
    PolicyNetwork {
        id,
        subnets: [Version::V4, Version::V6].map(|version| subnet(version, id)).to_vec(),
        internal: id == INNER,
        icc: id != CLOSED,
        masquerade: true,
        masquerade_v6: true,
        masquerade_ports: None,
        masquerade_to: Vec::new(),
    }
}

/// Ports 8000 to 8002 at all addresses of ours to 80 to 82 of host 2 of a network.
fn publish(version: Version, network: NetworkId, host_ports: (u16, u16)) -> PolicyPublish {
    let container_ports = (80, 80 + host_ports.1 - host_ports.0);
    let address = at(version, network, 2);
    PolicyPublish {
        network,
        address,
        protocol: protocol::TCP,
        host: None,
        host_ports,
        container_ports,
        from: Vec::new(),
        beside: Vec::new(),
    }
}

fn policy() -> Policy {
    let publishes = [Version::V4, Version::V6].into_iter().flat_map(|version| {
        let ports =
            [(NET1, (8000, 8002)), (NET2, (8100, 8100)), (CLOSED, (8200, 8200)), (INNER, (8300, 8300))];
        ports.map(|(network, ports)| publish(version, network, ports))
    });
    Policy {
        iptables: true,
        masquerade: true,
        networks: [NET1, NET2, CLOSED, INNER].map(network).to_vec(),
        publishes: publishes.collect(),
        ..Policy::default()
    }
}

/// How a connection arrives.
#[derive(Debug, PartialEq, Eq)]
struct Arrival {
    to: Addr,
    port: u16,
    /// The address it got instead of its own: the interface's, or one that was asked for.
    source: Option<Option<Addr>>,
}

struct World {
    version: Version,
    rules: Rules,
}

impl World {
    fn new(version: Version, policy: &Policy) -> Self {
        let [v4, v6] = rulesets(policy);
        Self { version, rules: Rules::new(if version == Version::V4 { v4 } else { v6 }).unwrap() }
    }

    fn is_local(&self, address: Addr) -> bool {
        [UPLINK, OTHER_UPLINK, NET1, NET2, CLOSED, INNER].iter().any(|n| at(self.version, *n, 1) == address)
    }

    fn route(&self, address: Addr) -> NetworkId {
        let on_link = |network: &&NetworkId| subnet(self.version, **network).contains(address);
        let networks = [NET1, NET2, CLOSED, INNER, OTHER_UPLINK];
        networks.iter().find(on_link).copied().unwrap_or(UPLINK)
    }

    fn forward(&self, subject: Subject) -> FilterVerdict {
        self.rules.filter(FilterHook::Forward, &subject, &mut Trace::default())
    }

    /// A TCP connection to a port: where it arrives, or what became of it.
    fn connect(&self, from: NetworkId, source: Addr, to: Addr, port: u16) -> Result<Arrival, FilterVerdict> {
        let mut subject = Subject {
            input: Some(from),
            output: None,
            source,
            destination: to,
            protocol: protocol::TCP,
            ports: Some((40_000, port)),
            states: States::NEW,
            local: self.is_local(to),
        };
        let mut arrival = Arrival { to, port, source: None };
        match self.rules.nat(NatHook::Prerouting, &subject, &mut Trace::default()) {
            None => {}
            Some(Translation::Destination { to, port }) => {
                arrival = Arrival { to, port: port.unwrap_or(arrival.port), ..arrival };
                subject.states = States::NEW.union(States::DNAT);
            }
            Some(other) => panic!("{other:?} before the route is known"),
        }
        (subject.destination, subject.ports) = (arrival.to, Some((40_000, arrival.port)));
        subject.local = self.is_local(arrival.to);
        if subject.local {
            assert_eq!(
                self.rules.filter(FilterHook::Input, &subject, &mut Trace::default()),
                FilterVerdict::Accept
            );
            return Ok(arrival);
        }
        let output = self.route(arrival.to);
        subject.output = Some(output);
        match self.forward(subject) {
            FilterVerdict::Accept => {}
            refused => return Err(refused),
        }
        subject.input = None;
        arrival.source = match self.rules.nat(NatHook::Postrouting, &subject, &mut Trace::default()) {
            None => None,
            Some(Translation::Masquerade { .. }) => Some(None),
            Some(Translation::Source { to, .. }) => Some(Some(to)),
            Some(other) => panic!("{other:?} after the route is known"),
        };
        // Answers, and errors about it: as the filter table sees them, destination translated back.
        let translated = States(subject.states.0 & States::DNAT.0);
        for state in [States::ESTABLISHED, States::RELATED] {
            let answer = Subject {
                input: Some(output),
                output: Some(from),
                source: arrival.to,
                destination: source,
                ports: Some((arrival.port, 40_000)),
                states: state.union(translated),
                ..subject
            };
            assert_eq!(self.forward(answer), FilterVerdict::Accept, "{answer:?}");
        }
        Ok(arrival)
    }
}

const ISOLATED: Result<Arrival, FilterVerdict> = Err(FilterVerdict::Drop(DropReason::Isolated));
const NOBODY: Result<Arrival, FilterVerdict> = Err(FilterVerdict::Drop(DropReason::Policy));

fn both(check: impl Fn(Version)) {
    [Version::V4, Version::V6].into_iter().for_each(check);
}

#[test]
fn networks_are_isolated_both_ways_and_reach_the_outside() {
    both(|v| {
        let world = World::new(v, &policy());
        let networks = [NET1, NET2, CLOSED, INNER];
        for one in networks {
            for other in networks.into_iter().filter(|other| *other != one) {
                let seen = world.connect(one, at(v, one, 2), at(v, other, 3), 80);
                assert_eq!(seen, ISOLATED, "{one:?} {other:?}");
                let gateway = world.connect(one, at(v, one, 2), at(v, other, 1), 22).unwrap();
                assert_eq!(gateway.to, at(v, other, 1));
            }
            let out = world.connect(one, at(v, one, 2), at(v, UPLINK, 7), 443);
            let reached = Arrival { to: at(v, UPLINK, 7), port: 443, source: Some(None) };
            assert_eq!(out, if one == INNER { ISOLATED } else { Ok(reached) });
            let from_outside = world.connect(UPLINK, at(v, UPLINK, 7), at(v, one, 3), 80);
            assert_eq!(from_outside, if one == INNER { ISOLATED } else { NOBODY });
        }
        let through = world.connect(OTHER_UPLINK, at(v, OTHER_UPLINK, 7), at(v, UPLINK, 7), 80);
        assert_eq!(through, NOBODY);
    });
}

#[test]
fn published_ports_are_reached_from_everywhere_but_internal_networks() {
    both(|v| {
        let world = World::new(v, &policy());
        let own_uplink = at(v, UPLINK, 1);
        let published = [(NET1, 8000, 80), (NET1, 8002, 82), (NET2, 8100, 80), (CLOSED, 8200, 80)];
        for (target, port, inside) in published {
            let arrival = |source| Ok(Arrival { to: at(v, target, 2), port: inside, source });
            // From outside and from other networks: with the client's own address.
            assert_eq!(world.connect(UPLINK, at(v, UPLINK, 7), own_uplink, port), arrival(None));
            for from in [NET1, NET2, CLOSED].into_iter().filter(|from| *from != target) {
                assert_eq!(world.connect(from, at(v, from, 2), own_uplink, port), arrival(None));
                assert_eq!(world.connect(from, at(v, from, 2), at(v, from, 1), port), arrival(None));
            }
            // From the same network, the target itself included: or the answer would go past us.
            for client in [2, 3] {
                assert_eq!(
                    world.connect(target, at(v, target, client), own_uplink, port),
                    arrival(Some(None))
                );
            }
            assert_eq!(world.connect(INNER, at(v, INNER, 2), own_uplink, port), ISOLATED);
        }
        // What is not published, and what would be on the internal network, is for us ourselves.
        for port in [7999, 8003, 8300] {
            let arrival = world.connect(UPLINK, at(v, UPLINK, 7), own_uplink, port).unwrap();
            assert_eq!(arrival.to, own_uplink);
        }
        assert_eq!(world.connect(UPLINK, at(v, UPLINK, 7), at(v, NET1, 2), 443), NOBODY);
    });
}

#[test]
fn a_host_address_is_the_only_one_published_at() {
    both(|v| {
        let mut policy = policy();
        policy.publishes =
            vec![PolicyPublish { host: Some(at(v, OTHER_UPLINK, 1)), ..publish(v, NET1, (8000, 8000)) }];
        let world = World::new(v, &policy);
        for (address, to) in [(at(v, OTHER_UPLINK, 1), at(v, NET1, 2)), (at(v, UPLINK, 1), at(v, UPLINK, 1))]
        {
            for (network, source) in [(UPLINK, at(v, UPLINK, 7)), (NET2, at(v, NET2, 7))] {
                assert_eq!(world.connect(network, source, address, 8000).unwrap().to, to);
            }
        }
    });
}

/// 8000 and 8001 lead to port 80 of a container, 8000 for some only.
fn restricted(v: Version, target: NetworkId, from: Vec<Prefix>) -> World {
    let publish = |port| PolicyPublish { container_ports: (80, 80), ..publish(v, target, (port, port)) };
    let publishes = vec![PolicyPublish { from, ..publish(8000) }, publish(8001)];
    World::new(v, &Policy { publishes, ..policy() })
}

#[test]
fn a_port_published_for_some_is_not_there_for_others() {
    both(|v| {
        for target in [NET1, CLOSED] {
            // One outside, one beside the target, one on another network.
            let listed = [(UPLINK, at(v, UPLINK, 7)), (target, at(v, target, 3)), (NET2, at(v, NET2, 3))];
            let from = listed.map(|(_, address)| Prefix::new(address, 128)).to_vec();
            let world = restricted(v, target, from);
            for own in [at(v, UPLINK, 1), at(v, target, 1)] {
                for (network, source) in listed {
                    let arrival = world.connect(network, source, own, 8000).unwrap();
                    assert_eq!((arrival.to, arrival.port), (at(v, target, 2), 80), "{source}");
                }
                for (network, host) in [(UPLINK, 8), (target, 4), (target, 2), (NET2, 4)] {
                    let source = at(v, network, host);
                    // For us, who refuse it as any port where nobody is.
                    let arrival = world.connect(network, source, own, 8000).unwrap();
                    assert_eq!(arrival, Arrival { to: own, port: 8000, source: None }, "{source}");
                    let open = world.connect(network, source, own, 8001).unwrap();
                    assert_eq!(open.to, at(v, target, 2), "the other publish is for everybody");
                }
            }
        }
    });
}

#[test]
fn a_prefix_may_call_and_who_goes_past_the_published_port_may_not() {
    both(|v| {
        let from = vec![Prefix::new(at(v, UPLINK, 0), if v == Version::V4 { 29 } else { 125 })];
        let publishes = vec![PolicyPublish { from, ..publish(v, NET1, (8000, 8000)) }];
        let world = World::new(v, &Policy { publishes, ..policy() });
        let inside = at(v, NET1, 2);
        for (host, listed) in [(6, true), (7, true), (8, false), (9, false)] {
            let source = at(v, UPLINK, host);
            let by_the_port = world.connect(UPLINK, source, at(v, UPLINK, 1), 8000).unwrap();
            assert_eq!(by_the_port.to == inside, listed, "{source}");
            let directly = world.connect(UPLINK, source, inside, 80);
            assert_eq!(directly.is_ok(), listed, "{source} {directly:?}");
        }
        assert_eq!(world.connect(UPLINK, at(v, UPLINK, 8), inside, 80), NOBODY);
    });
}

#[test]
fn who_is_beside_a_container_on_another_network_is_answered_by_the_address_that_he_called() {
    both(|v| {
        let called = at(v, NET2, 1);
        let mut publish = publish(v, NET1, (8000, 8000));
        let source = |publish: &PolicyPublish, from| {
            let world = World::new(v, &Policy { publishes: vec![publish.clone()], ..policy() });
            world.connect(NET2, at(v, NET2, from), called, 8000).unwrap().source
        };
        assert_eq!(source(&publish, 3), None, "who is elsewhere keeps his address");
        publish.beside = vec![subnet(v, NET2)];
        assert_eq!(source(&publish, 3), Some(None), "the gateway's");
    });
}

#[test]
fn links_open_exposed_ports_of_a_closed_network() {
    both(|v| {
        let (web, client) = (at(v, CLOSED, 2), at(v, CLOSED, 3));
        let link = PolicyLink { network: CLOSED, from: client, to: web, protocol: protocol::TCP, port: 5432 };
        let mut policy = policy();
        let unlinked = World::new(v, &policy);
        policy.links = vec![link];
        let linked = World::new(v, &policy);
        let closed = Err(FilterVerdict::Drop(DropReason::Icc));
        let open = Ok(Arrival { to: web, port: 5432, source: None });
        assert_eq!(unlinked.connect(CLOSED, client, web, 5432), closed);
        assert_eq!(linked.connect(CLOSED, client, web, 5432), open);
        for (from, to, port) in [(client, web, 5433), (web, client, 5432), (at(v, CLOSED, 4), web, 5432)] {
            assert_eq!(linked.connect(CLOSED, from, to, port), closed);
        }
        assert_eq!(linked.connect(NET1, at(v, NET1, 2), web, 5432), ISOLATED);
        // Where all may talk, a link has nothing to open.
        policy.networks.iter_mut().for_each(|network| network.icc = true);
        let lines = |policy: &Policy| rulesets(policy)[0].filter.chains[3].rules.len();
        let with = lines(&policy);
        policy.links.clear();
        assert_eq!(with, lines(&policy));
    });
}

#[test]
fn user_rules_come_before_everything() {
    both(|v| {
        let rule =
            |from, to, action| UserRule { from, to, protocol: None, ports: None, states: None, action };
        let (one, two) = (at(v, NET1, 2), at(v, NET2, 2));
        let prefix = |address| Party::Prefixes(vec![Prefix::new(address, 128)]);
        let mut policy = policy();
        // Across isolation, one way.
        policy.user_rules = vec![rule(Party::Network(NET1), prefix(two), Action::Allow)];
        let world = World::new(v, &policy);
        assert!(world.connect(NET1, one, two, 5000).is_ok());
        assert_eq!(world.connect(NET1, one, at(v, NET2, 3), 5000), ISOLATED);
        assert_eq!(world.connect(NET2, two, one, 5000), ISOLATED);
        // Before what is published, and before established.
        let reject =
            UserRule { ports: Some((80, 81)), ..rule(Party::Network(UPLINK), Party::Any, Action::Reject) };
        policy.user_rules = vec![reject, rule(prefix(two), Party::Any, Action::Drop)];
        let world = World::new(v, &policy);
        let published = world.connect(UPLINK, at(v, UPLINK, 7), at(v, UPLINK, 1), 8000);
        assert_eq!(published, Err(FilterVerdict::Reject(RejectWith::PortUnreachable)));
        assert!(world.connect(UPLINK, at(v, UPLINK, 7), at(v, UPLINK, 1), 8002).is_ok());
        let dropped = Err(FilterVerdict::Drop(DropReason::Rule));
        assert_eq!(world.connect(NET2, two, at(v, UPLINK, 7), 443), dropped);
        let established = Subject {
            input: Some(NET2),
            output: Some(UPLINK),
            source: two,
            destination: at(v, UPLINK, 7),
            protocol: protocol::TCP,
            ports: Some((80, 40_000)),
            states: States::ESTABLISHED,
            local: false,
        };
        assert_eq!(world.forward(established), FilterVerdict::Drop(DropReason::Rule));
    });
}

#[test]
fn user_rules_are_spelled_out_per_prefix_and_protocol() {
    let both_versions = |hosts: &[u8]| {
        let hosts = hosts.iter().flat_map(|host| [Version::V4, Version::V6].map(|v| at(v, NET1, *host)));
        Party::Prefixes(hosts.map(|address| Prefix::new(address, 128)).collect())
    };
    let drop = UserRule {
        from: both_versions(&[2, 3]),
        to: both_versions(&[4]),
        protocol: None,
        ports: Some((53, 53)),
        states: None,
        action: Action::Drop,
    };
    let ping = UserRule { protocol: Some(protocol::ICMP), ports: None, to: Party::Any, ..drop.clone() };
    let policy = Policy { user_rules: vec![drop, ping], ..policy() };
    let lines = rulesets(&policy).map(|rules| {
        let user = rules.filter.chains.last().unwrap();
        assert_eq!(user.name, "DOCKER-USER");
        user.rules.iter().map(|rule| rule.matches.protocol).collect::<Vec<_>>()
    });
    let expect = |icmp| [6, 17, 6, 17, icmp, icmp].map(Some).into_iter().chain([None]).collect::<Vec<_>>();
    assert_eq!(lines, [expect(protocol::ICMP), expect(protocol::ICMPV6)]);
}

#[test]
fn masquerading_can_be_switched_off_or_told_what_to_use() {
    let source = |policy: &Policy, v| {
        let world = World::new(v, policy);
        world.connect(NET1, at(v, NET1, 2), at(v, UPLINK, 7), 80).unwrap().source
    };
    let with = |change: fn(&mut PolicyNetwork)| {
        let mut policy = policy();
        policy.networks.iter_mut().for_each(change);
        [Version::V4, Version::V6].map(|version| source(&policy, version))
    };
    assert_eq!(with(|_| {}), [Some(None); 2]);
    assert_eq!(with(|network| network.masquerade = false), [None, Some(None)]);
    assert_eq!(with(|network| network.masquerade_v6 = false), [Some(None), None]);
    let chosen = [Version::V4, Version::V6].map(|version| at(version, OTHER_UPLINK, 1));
    let asked = with(|network| {
        network.masquerade_to =
            [Version::V4, Version::V6].map(|version| at(version, OTHER_UPLINK, 1)).to_vec();
    });
    assert_eq!(asked, chosen.map(|address| Some(Some(address))));
    both(|v| assert_eq!(source(&Policy { masquerade: false, ..policy() }, v), None));
}

#[test]
fn without_iptables_everything_passes_untranslated() {
    both(|v| {
        let world = World::new(v, &Policy { iptables: false, ..policy() });
        let crossing = world.connect(NET1, at(v, NET1, 2), at(v, NET2, 3), 80);
        assert_eq!(crossing, Ok(Arrival { to: at(v, NET2, 3), port: 80, source: None }));
        assert_eq!(world.rules.list(crate::dataplane::filter::TableKind::Filter), []);
    });
}

#[test]
fn a_version_that_a_network_has_no_subnet_of_is_bridged_there_and_nothing_else() {
    let mut policy = policy();
    policy.networks.iter_mut().filter(|n| n.id != NET2).for_each(|n| {
        n.subnets.truncate(1);
    });
    let v = Version::V6;
    let world = World::new(v, &policy);
    let (one, two) = (at(v, NET1, 2), at(v, NET1, 3));
    assert!(world.connect(NET1, one, two, 80).is_ok());
    let closed = world.connect(CLOSED, at(v, CLOSED, 2), at(v, CLOSED, 3), 80);
    assert_eq!(closed, Err(FilterVerdict::Drop(DropReason::Icc)));
    assert_eq!(world.connect(NET1, one, at(v, UPLINK, 7), 80), NOBODY);
    assert_eq!(world.connect(NET1, one, at(v, NET2, 3), 80), ISOLATED);
}

#[test]
fn many_networks_are_isolated_by_two_lines_each() {
    let networks = (0..=MAX_PAIRED as u32).map(|number| PolicyNetwork {
        subnets: vec![Prefix::new(Addr::v4([10, number as u8, 0, 0]), 16)],
        ..network(NetworkId(100 + number))
    });
    let mut policy = Policy { networks: networks.collect(), publishes: Vec::new(), ..policy() };
    let lines = |policy: &Policy| rulesets(policy)[0].filter.chains[4..].iter().map(|c| c.rules.len()).sum();
    let many: usize = lines(&policy);
    assert_eq!(many, 2 * (MAX_PAIRED + 1) + 2);
    let verdict = |policy: &Policy, from: u32, to: u32| {
        let subject = Subject {
            input: Some(NetworkId(100 + from)),
            output: Some(NetworkId(100 + to)),
            source: Addr::v4([10, from as u8, 0, 2]),
            destination: Addr::v4([10, to as u8, 0, 2]),
            protocol: protocol::UDP,
            ports: None,
            states: States::NEW,
            local: false,
        };
        World::new(Version::V4, policy).forward(subject)
    };
    let isolated = FilterVerdict::Drop(DropReason::Isolated);
    assert_eq!(
        [(3, 4), (4, 3), (3, 3)].map(|(from, to)| verdict(&policy, from, to)),
        [isolated, isolated, FilterVerdict::Accept]
    );
    policy.networks.pop();
    assert_eq!(lines(&policy), MAX_PAIRED * (MAX_PAIRED - 1) + 1);
    assert_eq!(verdict(&policy, 3, 4), isolated);
}
