//! Wall time of what a flow's first packet asks: the route table and the chains.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use tapswitch::control::docker_rules::{Policy, PolicyNetwork, PolicyPublish, rulesets};
use tapswitch::dataplane::filter::{FilterVerdict, Program, Rules, Subject, Trace, Translation};
use tapswitch::dataplane::routes::Routes;
use tapswitch::dataplane::rules::{FilterHook, NatHook, States};
use tapswitch::dataplane::{InterfaceAddress, NetworkId, Route};
use tapswitch::wire::ip::{Addr, Prefix, protocol};

const UPLINK: NetworkId = NetworkId(0);

/// Numbers that look random, the same on every run.
fn numbers() -> impl FnMut() -> u32 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u32
    }
}

fn address(bits: u32) -> Addr {
    Addr::v4(bits.to_be_bytes())
}

fn route_table(count: usize) -> Routes {
    let (mut routes, mut number) = (Routes::new(1), numbers());
    let link =
        InterfaceAddress { address: address(0x0a00_0001), prefix: Prefix::new(address(0x0a00_0000), 8) };
    routes.set_interface(UPLINK, Some(&[link])).unwrap();
    while routes.len() < count {
        // As in the Internet's table: most of 24 bits, the rest from 8 up.
        let len = if number() % 5 < 3 { 24 } else { 8 + (number() % 17) as u8 };
        let (prefix, via) = (Prefix::new(address(number()), len), Some(address(0x0a00_0002)));
        let _ = routes.add(Route { prefix, via, interface: UPLINK, metric: 0 });
    }
    routes
}

fn routes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("routes");
    for count in [1, 1_000, 100_000] {
        let (routes, mut number) = (route_table(count), numbers());
        let asked: Vec<_> = (0..65_536).map(|_| address(number())).collect();
        let mut next = asked.iter().cycle();
        group.bench_function(format!("lookup in {count}"), |bencher| {
            bencher.iter(|| routes.lookup(*next.next().unwrap(), None));
        });
    }
    group.finish();
}

fn policy(networks: u32, publishes: u16) -> Policy {
    let id = |number| NetworkId(number + 1);
    let host = |number: u32, host| Addr::v4([172, 16 + (number / 256) as u8, number as u8, host]);
    let network = |number| PolicyNetwork {
        id: id(number),
        subnets: vec![Prefix::new(host(number, 0), 24)],
        internal: false,
        icc: true,
        masquerade: true,
        masquerade_v6: true,
        masquerade_ports: None,
        masquerade_to: Vec::new(),
    };
    let publish = |port: u16| {
        let number = u32::from(port) % networks;
        PolicyPublish {
            network: id(number),
            address: host(number, 2 + (port / 30) as u8),
            protocol: protocol::TCP,
            host: None,
            host_ports: (8000 + port, 8000 + port),
            container_ports: (80, 80),
            from: Vec::new(),
            beside: Vec::new(),
        }
    };
    Policy {
        iptables: true,
        masquerade: true,
        networks: (0..networks).map(network).collect(),
        publishes: (0..publishes).map(publish).collect(),
        ..Policy::default()
    }
}

/// All that a flow's first packet asks of the chains.
fn first_packet(rules: &Rules, mut subject: Subject, output: NetworkId) -> Option<Translation> {
    let (mut nat, mut filter) = (Trace::default(), Trace::default());
    if let Some(Translation::Destination { to, port }) =
        rules.nat(NatHook::Prerouting, black_box(&subject), &mut nat)
    {
        subject.destination = to;
        subject.ports = Some((40_000, port.unwrap_or_default()));
        subject.states = States::NEW.union(States::DNAT);
    }
    (subject.output, subject.local) = (Some(output), false);
    assert_eq!(rules.filter(FilterHook::Forward, &subject, &mut filter), FilterVerdict::Accept);
    black_box((&nat, &filter));
    rules.nat(NatHook::Postrouting, &subject, &mut nat)
}

fn chains(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rules");
    let outside = Addr::v4([203, 0, 113, 7]);
    for (networks, publishes) in [(2, 0), (2, 10), (30, 0), (30, 1000)] {
        let ruleset = rulesets(&policy(networks, publishes))[0].clone();
        let rules = Rules::new(ruleset.clone()).unwrap();
        let name = format!("{networks} networks, {publishes} publishes");
        let last = networks - 1;
        let out = Subject {
            input: Some(NetworkId(last + 1)),
            output: None,
            source: Addr::v4([172, 16, last as u8, 9]),
            destination: outside,
            protocol: protocol::TCP,
            ports: Some((40_000, 443)),
            states: States::NEW,
            local: false,
        };
        group.bench_function(format!("first packet out: {name}"), |bencher| {
            bencher.iter(|| first_packet(&rules, out, UPLINK));
        });
        if publishes > 0 {
            let port = 8000 + publishes - 1;
            let network = NetworkId(u32::from(publishes - 1) % networks + 1);
            let source = Some((40_000, port));
            let to = Addr::v4([203, 0, 113, 1]);
            let published = Subject {
                input: Some(UPLINK),
                source: outside,
                destination: to,
                ports: source,
                local: true,
                ..out
            };
            group.bench_function(format!("first packet to a published port: {name}"), |bencher| {
                bencher.iter(|| first_packet(&rules, published, network));
            });
        }
        let established = Subject { output: Some(UPLINK), states: States::ESTABLISHED, ..out };
        group.bench_function(format!("established packet without a path: {name}"), |bencher| {
            bencher.iter(|| {
                let mut trace = Trace::default();
                (rules.filter(FilterHook::Forward, black_box(&established), &mut trace), trace)
            });
        });
        group.bench_function(format!("compile: {name}"), |bencher| {
            bencher.iter(|| Program::compile(ruleset.clone()).unwrap());
        });
        let mut rules = Rules::new(ruleset.clone()).unwrap();
        group.bench_function(format!("replace: {name}"), |bencher| {
            bencher.iter(|| rules.install(Program::compile(ruleset.clone()).unwrap()));
        });
    }
    group.finish();
}

criterion_group!(benches, routes, chains);
criterion_main!(benches);
