//! The life of flows: limits, timeouts, evictions, and what goes with a container.

use std::time::Duration;

use tapswitch::dataplane::conntrack::{Limits, Timeouts};
use tapswitch::dataplane::{Change, DropReason, NetworkConfig, PortId, Settings, Verdict};
use tapswitch::wire::ip::Version;

use crate::common::lab::Count::{Ct, Drop, Flow, Mapped, Rx, Walk, WalkOf};
use crate::common::lab::{Lab, dropped};
use crate::errors::{Says, about};
use crate::packets::{ACK, FIN, Packet, RST, SYN, echo, other, tcp, udp};
use crate::world::{
    ALICE, BOB, BOTH, CAROL, GATEWAY1, GATEWAY2, NET1, OURS, OUT, OUT_NEW, OUTSIDE, Party, SERVER, introduce,
    policy, world,
};

const SECOND: Duration = Duration::from_secs(1);

fn routed(port: u32) -> Verdict {
    Verdict::Routed(PortId(port))
}

fn limited(table: u32, source: u32) -> Lab {
    let mut lab = world(&policy());
    let conntrack = Limits { table, source };
    lab.apply(Change::Set(Settings { conntrack, ..Settings::default() }));
    lab
}

/// Opens a TCP connection to the server, up to the third segment.
fn connect(lab: &mut Lab, from: Party, port: u16, version: Version) {
    let mine = |flags, numbers| tcp(version, from, SERVER, (port, 80), flags, numbers).frame();
    assert_eq!(lab.send(from.port, &mine(SYN, (100, 0))).verdict, routed(9));
    let answer = tcp(version, SERVER, OURS, (80, port), SYN | ACK, (900, 101));
    assert_eq!(lab.send(9, &answer.frame()).verdict, routed(from.port));
    assert_eq!(lab.send(from.port, &mine(ACK, (101, 901))).verdict, routed(9));
}

/// Whether such a connection still works, both ways.
fn is_connected(lab: &mut Lab, from: Party, port: u16, version: Version) -> bool {
    let there = tcp(version, from, SERVER, (port, 80), ACK, (101, 901));
    let back = tcp(version, SERVER, OURS, (80, port), ACK, (901, 101));
    lab.send(from.port, &there.frame()).verdict == routed(9)
        && lab.send(9, &back.frame()).verdict == routed(from.port)
}

#[test]
fn a_container_takes_its_flows_along() {
    for version in BOTH {
        let mut lab = world(&policy());
        connect(&mut lab, ALICE, 5000, version);
        connect(&mut lab, BOB, 5001, version);
        // Somebody outside is connected to carol, and bob to her by our address.
        let _ = lab.send(9, &tcp(version, SERVER, OURS, (6000, 8000), SYN, (1, 0)).frame());
        let _ = lab.send(2, &tcp(version, BOB, OURS, (6000, 8000), SYN, (1, 0)).frame());
        assert_eq!(lab.flows().len(), 4);
        lab.apply(Change::RemovePort(PortId(3)));
        assert_eq!(lab.flows().len(), 2, "both of carol's have gone at once");
        lab.apply(Change::RemovePort(PortId(1)));
        let [left] = lab.flows()[..] else { panic!("{:?}", lab.flows()) };
        assert_eq!(left.original.source, BOB.addr(version));
        let changes = lab.changes(|lab| drop(lab.settle()));
        assert!(changes.get(&("conntrack", 0, "", "flows")).is_none_or(|change| *change < 0));
        assert_eq!(lab.switch.conntrack().len(), 1, "and are swept");
        assert_eq!(lab.switch.conntrack().mappings().len(), 1);
        assert!(is_connected(&mut lab, BOB, 5001, version));
        // The next container of that address and port number starts anew.
        lab.apply(Change::AddPort(PortId(1), NET1));
        introduce(&mut lab, ALICE);
        let answer = tcp(version, SERVER, OURS, (80, 5000), ACK, (901, 101));
        assert_eq!(lab.send(9, &answer.frame()).verdict, Verdict::Local, "the old connection's is nobody's");
        connect(&mut lab, ALICE, 5002, version);
    }
}

#[test]
fn a_source_at_its_limit_gives_up_its_own_oldest_unanswered_flow() {
    for version in BOTH {
        let mut lab = limited(100, 5);
        connect(&mut lab, BOB, 7000, version);
        for port in 5000..5005 {
            let _ = lab.send(1, &udp(version, ALICE, SERVER, (port, 53)).frame());
        }
        let sixth = udp(version, ALICE, SERVER, (5005, 53));
        let leaves = sixth.clone().from(OURS).routed(OUTSIDE);
        // A flow and a mapping go, a flow and a mapping come.
        let counts = [Rx(1), Ct("inserted", 1), Ct("early_dropped", 1), Walk(OUT_NEW)];
        lab.send(1, &sixth.frame()).sends(routed(9), &[leaves.by(9)], &counts);
        let ports: Vec<_> = lab.flows().iter().map(|flow| flow.original.source_port).collect();
        assert_eq!(ports, [5001, 5002, 5003, 5004, 5005, 7000]);
    }
}

#[test]
fn a_source_at_its_limit_with_established_flows_gets_no_more() {
    for version in BOTH {
        let mut lab = limited(100, 5);
        (5000..5005).for_each(|port| connect(&mut lab, ALICE, port, version));
        let sixth = udp(version, ALICE, SERVER, (5005, 53));
        let reason = DropReason::CtSourceLimit;
        let counts = [Rx(1), Drop(1, reason), Ct("refused_source", 1), Walk(OUT), WalkOf(0, "OUTPUT 0")];
        let error = about(&sixth, Says::Prohibited, GATEWAY1);
        lab.send(1, &sixth.frame()).sends(dropped(reason), &[error.by(1)], &counts);
        (5000..5005).for_each(|port| assert!(is_connected(&mut lab, ALICE, port, version)));
        connect(&mut lab, BOB, 7000, version);
    }
}

#[test]
fn outside_each_address_has_its_own_limit() {
    for version in BOTH {
        let mut lab = limited(100, 2);
        let from = |host: u8, port: u16| {
            let source = match version {
                Version::V4 => format!("203.0.113.{host}"),
                Version::V6 => format!("2001:db8:80:{host}::5"),
            };
            tcp(version, SERVER, OURS, (port, 8000), SYN, (1, 0)).from(source.as_str()).frame()
        };
        for host in 1..6 {
            (1..4).for_each(|port| assert_eq!(lab.send(9, &from(host, port)).verdict, routed(3)));
        }
        assert_eq!(lab.flows().len(), 10);
        assert_eq!(lab.switch.conntrack().counters.early_dropped, 5);
    }
}

#[test]
fn a_flood_never_kills_an_established_flow() {
    for version in BOTH {
        let mut lab = limited(50, 40);
        (7000..7010).for_each(|port| connect(&mut lab, BOB, port, version));
        // From alice, and from forged addresses outside to a published port.
        for number in 0..500u16 {
            let _ = lab.send(1, &udp(version, ALICE, SERVER, (10_000 + number, 53)).frame());
            let source = match version {
                Version::V4 => format!("203.0.{}.{}", 1 + number / 250, 1 + number % 250),
                Version::V6 => format!("2001:db8:{:x}::1", 100 + number),
            };
            let forged = tcp(version, SERVER, OURS, (1000 + number, 8000), SYN, (1, 0)).from(source.as_str());
            let _ = lab.send(9, &forged.frame());
            assert!(lab.switch.conntrack().len() <= 50);
        }
        for port in 7000..7010 {
            assert!(is_connected(&mut lab, BOB, port, version), "{port}");
        }
        // Bob gets more, though the table is full of others' unanswered flows.
        connect(&mut lab, BOB, 7010, version);
    }
}

#[test]
fn a_table_full_of_established_flows_takes_no_more() {
    for version in BOTH {
        let mut lab = limited(10, 10);
        (7000..7005).for_each(|port| connect(&mut lab, BOB, port, version));
        (5000..5005).for_each(|port| connect(&mut lab, ALICE, port, version));
        let reason = DropReason::CtFull;
        let packet = udp(version, CAROL, SERVER, (5005, 53));
        let refused =
            |rules| [Rx(3), Drop(3, reason), Ct("refused_full", 1), Walk(rules), WalkOf(0, "OUTPUT 0")];
        let counts = refused("FORWARD 1 8, DOCKER-ISOLATION 4");
        let error = about(&packet, Says::Prohibited, GATEWAY2);
        lab.send(3, &packet.frame()).sends(dropped(reason), &[error.by(3)], &counts);
        // A ping to the gateway needs a flow, too.
        let ping = echo(version, CAROL, GATEWAY2, 1, true);
        let error = about(&ping, Says::Prohibited, GATEWAY2);
        lab.send(3, &ping.frame()).sends(dropped(reason), &[error.by(3)], &refused("INPUT 0"));
    }
}

/// Sends these packets, and says after how long the flow is gone.
fn lifetime(packets: &[Packet], timeouts: Timeouts) -> u32 {
    // The fdb must not age in the meantime, nor neighbours be asked.
    let mut lab = world(&policy());
    lab.apply(Change::Set(Settings { timeouts, ..Settings::default() }));
    for packet in packets {
        let port = [ALICE, SERVER].into_iter().find(|party| party.mac == packet.macs.0).unwrap().port;
        let verdict = lab.send(port, &packet.frame()).verdict;
        assert!(matches!(verdict, Verdict::Routed(_)), "{verdict:?} {packet:?}");
    }
    let [flow] = lab.flows()[..] else { panic!("{:?}", lab.flows()) };
    let timeout = flow.timeout;
    lab.wait(timeout - Duration::from_nanos(1));
    assert_eq!(lab.flows().len(), 1);
    let changes = lab.changes(|lab| drop(lab.wait(Duration::from_nanos(1))));
    assert_eq!((lab.flows().len(), changes.get(&("conntrack", 0, "", "deleted"))), (0, None));
    lab.wait(SECOND + SECOND);
    assert_eq!(lab.switch.conntrack().counters.expired, 1);
    assert_eq!((lab.switch.conntrack().len(), lab.switch.conntrack().mappings().len()), (0, 0));
    timeout.as_secs() as u32
}

#[test]
fn every_state_has_its_timeout() {
    for version in BOTH {
        let t = Timeouts::default();
        let mine = |flags, numbers| tcp(version, ALICE, SERVER, (5000, 80), flags, numbers);
        let theirs = |flags, numbers| tcp(version, SERVER, OURS, (80, 5000), flags, numbers);
        let tcp_life = [
            mine(SYN, (100, 0)),
            theirs(SYN | ACK, (900, 101)),
            mine(ACK, (101, 901)),
            mine(ACK | FIN, (101, 901)),
            theirs(ACK, (901, 102)),
            theirs(ACK | FIN, (901, 102)),
            mine(ACK, (102, 902)),
        ];
        let expected = [
            t.tcp_syn_sent,
            t.tcp_syn_recv,
            t.tcp_established,
            t.tcp_fin_wait,
            t.tcp_close_wait,
            t.tcp_last_ack,
            t.tcp_time_wait,
        ];
        for (so_far, seconds) in (1..).zip(expected) {
            assert_eq!(lifetime(&tcp_life[..so_far], t), seconds, "{so_far} segments");
        }
        let reset = [&tcp_life[..3], &[theirs(RST, (901, 0))]].concat();
        assert_eq!(lifetime(&reset, t), t.tcp_close);

        let (ask, answer) = (udp(version, ALICE, SERVER, (5000, 53)), udp(version, SERVER, OURS, (53, 5000)));
        assert_eq!(lifetime(std::slice::from_ref(&ask), t), t.udp);
        assert_eq!(lifetime(&[ask.clone(), answer.clone()], t), t.udp, "one answer is no stream");
        assert_eq!(lifetime(&[ask.clone(), answer, ask.clone()], t), t.udp_stream);
        assert_eq!(lifetime(&[echo(version, ALICE, SERVER, 1, true)], t), t.icmp);
        assert_eq!(lifetime(&[other(version, ALICE, SERVER, 47)], t), t.generic);
        // They can be set.
        assert_eq!(lifetime(&[ask], Timeouts { udp: 7, ..t }), 7);
    }
}

#[test]
fn packets_keep_a_flow_alive_and_its_port_its_own() {
    for version in BOTH {
        let mut lab = world(&policy());
        let question = udp(version, ALICE, SERVER, (5000, 53));
        let answer = udp(version, SERVER, OURS, (53, 5000));
        for _ in 0..20 {
            assert_eq!(lab.send(1, &question.frame()).verdict, routed(9));
            assert_eq!(lab.send(9, &answer.frame()).verdict, routed(1));
            lab.wait(100 * SECOND);
            introduce(&mut lab, ALICE);
            introduce(&mut lab, OUTSIDE);
        }
        lab.wait(300 * SECOND);
        introduce(&mut lab, BOB);
        introduce(&mut lab, OUTSIDE);
        // Now it is free again for somebody else.
        let packet = udp(version, BOB, SERVER, (5000, 53));
        let leaves = packet.clone().from(OURS).routed(OUTSIDE);
        let counts = [Rx(2), Flow, Mapped, Walk(OUT_NEW)];
        lab.send(2, &packet.frame()).sends(routed(9), &[leaves.by(9)], &counts);
    }
}

#[test]
fn a_closed_connections_port_can_be_used_at_once() {
    for version in BOTH {
        let mut lab = world(&policy());
        connect(&mut lab, ALICE, 5000, version);
        let reset = tcp(version, SERVER, OURS, (80, 5000), RST, (901, 0));
        assert_eq!(lab.send(9, &reset.frame()).verdict, routed(1));
        assert_eq!(lab.flows()[0].state.name(), "CLOSE");
        connect(&mut lab, ALICE, 5000, version);
        assert_eq!(lab.flows()[0].state.name(), "ESTABLISHED");
    }
}

/// With the default configuration of a network, so that nothing else than the flows grows.
#[test]
fn flows_end_with_their_network() {
    for version in BOTH {
        let mut lab = world(&policy());
        connect(&mut lab, ALICE, 5000, version);
        [1, 2].into_iter().for_each(|port| lab.apply(Change::RemovePort(PortId(port))));
        lab.apply(Change::SetInterface(NET1, None));
        lab.apply(Change::RemoveNetwork(NET1));
        assert_eq!(lab.flows(), []);
        lab.settle();
        assert!(lab.switch.conntrack().is_empty());
        lab.apply(Change::AddNetwork(NET1, NetworkConfig::default()));
        let packet = udp(version, CAROL, SERVER, (5000, 53));
        assert_eq!(lab.send(3, &packet.frame()).verdict, routed(9));
    }
}
