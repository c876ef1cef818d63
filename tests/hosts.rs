//! Real TCP/IP stacks talk through the switch, in virtual time: what they say arrives, stays in its network,
//! and is the same on every run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::frames::{mac, plain};
use common::host::{Host, Village};
use common::lab::{Recorder, Sent};
use tapswitch::dataplane::{Change, Counters, DropReason, NetworkConfig, NetworkId, PortId, Switch};
use tapswitch::wire::MacAddr;

const MEGABYTE: usize = 1_000_000;

//  10.0.0.1 ── 1 ── net 0 ── 2 ── 10.0.0.2
//  10.0.0.1 ── 3 ── net 1 ── 4 ── 10.0.0.2

/// Two networks with the same two stations each.
fn twins(config: NetworkConfig, seed: u64) -> Village {
    let mut switch = Switch::new(seed);
    for (network, ports) in [(0, [1, 2]), (1, [3, 4])] {
        switch.apply(Default::default(), Change::AddNetwork(NetworkId(network), config)).unwrap();
        for port in ports {
            switch.apply(Default::default(), Change::AddPort(PortId(port), NetworkId(network))).unwrap();
        }
    }
    let hosts = [(1, 1), (2, 2), (3, 1), (4, 2)].map(|(port, number)| Host::new(port, number, seed));
    Village::new(switch, hosts.into())
}

/// A megabyte that differs from network to network.
fn cargo(network: usize) -> Vec<u8> {
    (0..MEGABYTE).map(|at| (at * (network + 3) % 251) as u8).collect()
}

/// On each network, host 1 sends its cargo to host 2 at the same time, and it arrives.
fn transfer(village: &mut Village) {
    let hosts = &mut village.hosts;
    let ends = [0, 1].map(|net| (hosts[2 * net].connect(2, 80), hosts[2 * net + 1].listen(80)));
    let cargo = [cargo(0), cargo(1)];
    let mut sent = [0; 2];
    let mut arrived = [Vec::new(), Vec::new()];
    village.run(|hosts| {
        for (net, (client, server)) in ends.into_iter().enumerate() {
            let client = hosts[2 * net].tcp(client);
            if client.can_send() {
                sent[net] += client.send_slice(&cargo[net][sent[net]..]).unwrap();
            }
            let server = hosts[2 * net + 1].tcp(server);
            while server.can_recv() {
                let taken = server.recv(|bytes| (bytes.len(), bytes.to_vec())).unwrap();
                arrived[net].extend(taken);
            }
        }
        arrived.iter().all(|bytes| bytes.len() >= MEGABYTE)
    });
    assert!(arrived == cargo, "what arrived is not what was sent");
}

fn counters(village: &Village, port: u32) -> Counters {
    village.switch.port(PortId(port)).unwrap().counters
}

/// With two ports on a network, what one sends and is not dropped leaves by the other.
fn assert_frames_are_accounted_for(village: &Village) {
    for (a, b) in [(1, 2), (3, 4)] {
        let (a, b) = (counters(village, a), counters(village, b));
        assert_eq!(a.rx.frames - a.dropped(), b.tx.frames);
        assert_eq!(b.rx.frames - b.dropped(), a.tx.frames);
    }
}

#[test]
fn hosts_ping_each_other() {
    let mut village = twins(NetworkConfig::default(), 1);
    let pings = [(0, 2), (1, 1), (2, 2), (3, 1)].map(|(host, to)| {
        let data = vec![host as u8; 56];
        (host, village.hosts[host].ping(to, &data), data)
    });
    let mut waiting = pings.to_vec();
    village.run(|hosts| {
        waiting.retain(|(host, socket, data)| match hosts[*host].pong(*socket) {
            Some(pong) => {
                assert_eq!(&pong, data, "another host's answer");
                false
            }
            None => true,
        });
        waiting.is_empty()
    });
    assert_frames_are_accounted_for(&village);
    assert_eq!((1..=4).map(|port| counters(&village, port).dropped()).sum::<u64>(), 0);
}

#[test]
fn a_megabyte_of_tcp_on_two_networks_with_equal_addresses() {
    let mut village = twins(NetworkConfig::default(), 1);
    transfer(&mut village);
    assert_frames_are_accounted_for(&village);
    for (client, server) in [(1, 2), (3, 4)] {
        let (client, server) = (counters(&village, client), counters(&village, server));
        assert_eq!((client.dropped(), server.dropped()), (0, 0));
        assert!(client.rx.bytes > MEGABYTE as u64 && server.rx.frames > 2, "{client:?} {server:?}");
    }
}

#[test]
fn tcp_survives_a_flood_limit() {
    let mut village = twins(NetworkConfig { flood_limit: 1, ..NetworkConfig::default() }, 1);
    // The client's port has just shouted: its first question for the server's address is refused.
    let mut shout = plain(MacAddr::BROADCAST, mac(1));
    village.switch.input(village.now, PortId(1), &mut shout, &mut Recorder::default(), &mut ());
    transfer(&mut village);
    let (shouter, other) = (counters(&village, 1), counters(&village, 3));
    assert!(shouter.drops[DropReason::FloodLimit] > 0, "{shouter:?}");
    assert_eq!(other.dropped(), 0, "the other network does not feel it");
    assert!(village.now.0 >= 1_000_000_000, "the question was repeated a second later");
}

#[test]
fn the_same_seed_gives_the_same_frames() {
    let trace = |seed| -> Vec<Sent> {
        let mut village = twins(NetworkConfig::default(), seed);
        transfer(&mut village);
        village.trace
    };
    let (first, second) = (trace(1), trace(1));
    assert!(first == second, "{} and {} frames", first.len(), second.len());
    assert!(first != trace(2), "the hosts' sequence numbers come from the seed");
}
