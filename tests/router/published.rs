//! Published ports: from outside, from other networks, from neighbours and from the target itself.

use tapswitch::control::docker_rules::Policy;
use tapswitch::dataplane::conntrack::Status;
use tapswitch::dataplane::{DropReason, PortId, Verdict};
use tapswitch::wire::ip::Version;

use crate::common::lab::Count::{Drop, Flow, Mapped, Rx, Walk, WalkOf};
use crate::common::lab::{Lab, dropped};
use crate::errors::{Says, told};
use crate::packets::{ACK, Body, Packet, RST, SYN, tcp, udp};
use crate::world::{
    ALICE, BOTH, CAROL, DAVE, GATEWAY1, GATEWAY2, OURS, OUTSIDE, Party, SERVER, policy, publish, set_rules,
    world,
};

fn routed(port: u32) -> Verdict {
    Verdict::Routed(PortId(port))
}

fn syn(version: Version, from: Party, to: Party, port: u16) -> Packet {
    tcp(version, from, to, (5000, port), SYN, (100, 0))
}

/// A connection to a published port, and what becomes of its packets.
struct Connection {
    /// Who asks, and whom.
    client: Party,
    asked: (Party, u16),
    /// Who answers, and who it thinks asks.
    server: (Party, u16),
    seen: Party,
    /// The rules that the first packet meets, later ones, and answers.
    rules: [&'static str; 3],
}

impl Connection {
    /// Opens it, and says what the counters of nat say.
    fn runs(&self, lab: &mut Lab, version: Version) {
        let Self { client, asked: (asked, at), server: (server, port), seen, rules } = *self;
        let mine = |flags, numbers| tcp(version, client, asked, (5000, at), flags, numbers);
        let there = |packet: Packet| packet.from((seen, 5000)).to((server, port)).routed(server);
        let theirs = |flags, numbers| tcp(version, server, seen, (port, 5000), flags, numbers);
        let here = |packet: Packet| packet.from((asked, at)).to((client, 5000)).routed(client);

        let first = mine(SYN, (100, 0));
        let mut counts = vec![Rx(client.port), Flow, Walk(rules[0])];
        counts.extend((seen.v4 != client.v4).then_some(Mapped));
        let sent = [there(first.clone()).by(server.port)];
        lab.send(client.port, &first.frame()).sends(routed(server.port), &sent, &counts);

        let answer = theirs(SYN | ACK, (900, 101));
        let sent = [here(answer.clone()).by(client.port)];
        let counts = [Rx(server.port), Walk(rules[2])];
        lab.send(server.port, &answer.frame()).sends(routed(client.port), &sent, &counts);

        for packet in [mine(ACK, (101, 901)), mine(ACK, (101, 901)).with_payload(99)] {
            let sent = [there(packet.clone()).by(server.port)];
            let counts = [Rx(client.port), Walk(rules[1])];
            lab.send(client.port, &packet.frame()).sends(routed(server.port), &sent, &counts);
        }
        let answer = theirs(ACK, (901, 200)).with_payload(1000);
        let sent = [here(answer.clone()).by(client.port)];
        let counts = [Rx(server.port), Walk(rules[2])];
        lab.send(server.port, &answer.frame()).sends(routed(client.port), &sent, &counts);
        let flow = lab.flows()[0];
        assert!(flow.status.has(Status::DNAT.with(Status::ASSURED)));
        assert_eq!(flow.state.name(), "ESTABLISHED");
    }
}

const FROM_OUTSIDE: [&str; 3] = [
    "FORWARD 1 7, DOCKER-ISOLATION 1, DOCKER 1, nat PREROUTING 1, nat DOCKER 3, nat POSTROUTING 1 0",
    "FORWARD 1 6, DOCKER-ISOLATION 1",
    "FORWARD 1 8, DOCKER-ISOLATION 1",
];

#[test]
fn from_outside_the_container_sees_who_asks() {
    for version in BOTH {
        let connection = Connection {
            client: SERVER,
            asked: (OURS, 8000),
            server: (CAROL, 80),
            seen: SERVER,
            rules: FROM_OUTSIDE,
        };
        connection.runs(&mut world(&policy()), version);
    }
}

#[test]
fn from_another_network_too() {
    for version in BOTH {
        for asked in [OURS, GATEWAY1, GATEWAY2] {
            let rules = [
                "FORWARD 1 4, DOCKER-ISOLATION 1, nat PREROUTING 1 2, nat DOCKER 1, \
                 nat TAPSWITCH-HAIRPIN 1, nat POSTROUTING 1 0",
                "FORWARD 1 4, DOCKER-ISOLATION 1",
                "FORWARD 1 2, DOCKER-ISOLATION 1",
            ];
            let connection =
                Connection { client: ALICE, asked: (asked, 8000), server: (CAROL, 80), seen: ALICE, rules };
            connection.runs(&mut world(&policy()), version);
        }
    }
}

/// Its answer would not come back through us: the container sees its gateway.
#[test]
fn neighbours_and_the_container_itself_are_seen_as_the_gateway() {
    for version in BOTH {
        for (client, first) in [
            (
                CAROL,
                "FORWARD 1 7 9, DOCKER-ISOLATION 1, nat PREROUTING 1 2, nat DOCKER 2, \
                 nat TAPSWITCH-HAIRPIN 1, nat POSTROUTING 4",
            ),
            (
                DAVE,
                "FORWARD 1 7 9, DOCKER-ISOLATION 1, nat PREROUTING 1 2, nat DOCKER 2, \
                 nat TAPSWITCH-HAIRPIN 1, nat POSTROUTING 5",
            ),
        ] {
            for asked in [OURS, GATEWAY1, GATEWAY2] {
                let established = "FORWARD 1 6, DOCKER-ISOLATION 1";
                let rules = [first, established, established];
                let connection =
                    Connection { client, asked: (asked, 8000), server: (CAROL, 80), seen: GATEWAY2, rules };
                connection.runs(&mut world(&policy()), version);
            }
        }
    }
}

#[test]
fn hairpins_work_where_containers_may_not_talk() {
    for version in BOTH {
        let mut closed = policy();
        closed.networks[1].icc = false;
        let mut lab = world(&closed);
        let packet = syn(version, DAVE, OURS, 8000);
        let leaves = packet.clone().from(GATEWAY2).to((CAROL, 80)).routed(CAROL);
        let passage = lab.send(4, &packet.frame());
        assert_eq!((passage.verdict, passage.sent), (routed(3), vec![leaves.by(3)]));
        // Without the publish they may not, not even by way of the gateway.
        let direct = syn(version, DAVE, CAROL, 80);
        assert_eq!(lab.send(4, &direct.frame()).verdict, dropped(DropReason::Icc));
    }
}

fn with_publishes(publishes: Vec<tapswitch::control::docker_rules::PolicyPublish>) -> Policy {
    Policy { publishes, ..policy() }
}

#[test]
fn a_range_is_one_rule_and_keeps_its_order() {
    for version in BOTH {
        let mut lab = world(&with_publishes(vec![publish(CAROL, version, 6, (9000, 9010), 80)]));
        for (asked, port) in [(9000, 80), (9003, 83), (9010, 90)] {
            let packet = syn(version, SERVER, OURS, asked);
            let leaves = packet.clone().to((CAROL, port)).routed(CAROL);
            let counts = [Rx(9), Flow, Walk(FROM_OUTSIDE[0])];
            lab.send(9, &packet.frame()).sends(routed(3), &[leaves.by(3)], &counts);
        }
        for asked in [8999, 9011, 80] {
            assert_eq!(lab.send(9, &syn(version, SERVER, OURS, asked).frame()).verdict, Verdict::Local);
        }
    }
}

#[test]
fn datagrams_are_published_apart_from_connections() {
    for version in BOTH {
        let mut lab = world(&with_publishes(vec![publish(CAROL, version, 17, (5353, 5353), 53)]));
        let packet = udp(version, SERVER, OURS, (5000, 5353));
        let leaves = packet.clone().to((CAROL, 53)).routed(CAROL);
        let counts = [Rx(9), Flow, Walk(FROM_OUTSIDE[0])];
        lab.send(9, &packet.frame()).sends(routed(3), &[leaves.by(3)], &counts);
        let answer = udp(version, CAROL, SERVER, (53, 5000));
        let leaves = answer.clone().from((OURS, 5353)).routed(OUTSIDE);
        let counts = [Rx(3), Walk(FROM_OUTSIDE[2])];
        lab.send(3, &answer.frame()).sends(routed(9), &[leaves.by(9)], &counts);
        assert_eq!(lab.send(9, &syn(version, SERVER, OURS, 5353).frame()).verdict, Verdict::Local);
    }
}

#[test]
fn a_host_address_is_the_only_one() {
    for version in BOTH {
        let mut publish = publish(CAROL, version, 6, (8000, 8000), 80);
        publish.host = Some(OURS.addr(version));
        let mut lab = world(&with_publishes(vec![publish]));
        assert_eq!(lab.send(1, &syn(version, ALICE, OURS, 8000).frame()).verdict, routed(3));
        assert_eq!(lab.send(1, &syn(version, ALICE, GATEWAY1, 8000).frame()).verdict, Verdict::Local);
    }
}

#[test]
fn ports_come_and_go_and_connections_stay() {
    for version in BOTH {
        let without = with_publishes(Vec::new());
        let mut lab = world(&without);
        let refused = |lab: &mut Lab, source| {
            let packet = tcp(version, SERVER, OURS, (source, 8000), SYN, (100, 0));
            let mut reset = tcp(version, OURS, SERVER, (8000, source), RST | ACK, (0, 101));
            (reset.macs, reset.id) = ((OURS.mac, SERVER.mac), 0);
            let Body::Tcp { window, .. } = &mut reset.body else { panic!() };
            *window = 0;
            let counts = [Rx(9), Walk("INPUT 0, nat PREROUTING 1 0"), WalkOf(0, "OUTPUT 0")];
            lab.send(9, &packet.frame()).sends(Verdict::Local, &[reset.by(9)], &counts);
        };
        refused(&mut lab, 4000);
        set_rules(&mut lab, &policy());
        let packet = syn(version, SERVER, OURS, 8000);
        let leaves = packet.clone().to((CAROL, 80)).routed(CAROL);
        assert_eq!(lab.send(9, &packet.frame()).sent, [leaves.by(3)]);
        let answer = tcp(version, CAROL, SERVER, (80, 5000), SYN | ACK, (900, 101));
        assert_eq!(lab.send(3, &answer.frame()).verdict, routed(9));
        set_rules(&mut lab, &without);
        // Who was connected stays so.
        let packet = tcp(version, SERVER, OURS, (5000, 8000), ACK, (101, 901));
        let leaves = packet.clone().to((CAROL, 80)).routed(CAROL);
        assert_eq!(lab.send(9, &packet.frame()).sent, [leaves.by(3)]);
        refused(&mut lab, 4001);
    }
}

#[test]
fn errors_about_a_published_port_reach_the_container() {
    for version in BOTH {
        let mut lab = world(&policy());
        let _ = lab.send(9, &syn(version, SERVER, OURS, 8000).frame());
        let answer = tcp(version, CAROL, SERVER, (80, 5000), SYN | ACK, (900, 101));
        let translated = answer.clone().from((OURS, 8000)).routed(OUTSIDE);
        assert_eq!(lab.send(3, &answer.frame()).sent, [translated.by(9)]);
        let error = told(OUTSIDE, OURS, Says::HostUnreachable, &translated);
        let leaves = told(OUTSIDE, OURS, Says::HostUnreachable, &answer.with_ttl(63)).to(CAROL).routed(CAROL);
        let counts = [Rx(9), Walk("FORWARD 1 6, DOCKER-ISOLATION 1")];
        lab.send(9, &error.frame()).sends(routed(3), &[leaves.by(3)], &counts);
        // And from the container outwards.
        let came = syn(version, SERVER, OURS, 8000);
        let error = told(CAROL, SERVER, Says::PortUnreachable, &came.clone().to((CAROL, 80)).with_ttl(63));
        let leaves =
            told(CAROL, SERVER, Says::PortUnreachable, &came.with_ttl(63)).from(OURS).routed(OUTSIDE);
        let counts = [Rx(3), Walk("FORWARD 1 8, DOCKER-ISOLATION 1")];
        lab.send(3, &error.frame()).sends(routed(9), &[leaves.by(9)], &counts);
    }
}

/// An inside host took the port that a published one would need on its way out.
#[test]
fn two_clients_that_look_alike_to_the_container_are_told_apart() {
    for version in BOTH {
        let mut lab = world(&policy());
        // Both are seen as the gateway's port 5000.
        let _ = lab.send(4, &syn(version, DAVE, OURS, 8000).frame());
        let packet = syn(version, CAROL, OURS, 8000);
        let passage = lab.send(3, &packet.frame());
        assert_eq!(passage.verdict, routed(3));
        let replies: Vec<_> = lab.flows().iter().map(|flow| flow.reply).collect();
        assert_eq!(replies.len(), 2);
        assert_ne!(replies[0].destination_port, replies[1].destination_port);
        // Carol's two ways to herself, too.
        let _ = lab.send(3, &syn(version, CAROL, GATEWAY1, 8000).frame());
        let mut replies: Vec<_> = lab.flows().iter().map(|flow| flow.reply).collect();
        replies.sort_unstable();
        replies.dedup();
        assert_eq!(replies.len(), 3);
    }
}

#[test]
fn without_a_publish_the_port_is_nobodys() {
    for version in BOTH {
        let mut lab = world(&policy());
        let packet = syn(version, SERVER, CAROL, 81);
        let counts =
            [Rx(9), Drop(9, DropReason::Policy), Walk("FORWARD 1 7 0, DOCKER-ISOLATION 4, nat PREROUTING 0")];
        lab.send(9, &packet.frame()).sends(dropped(DropReason::Policy), &[], &counts);
    }
}

/// The flow of a closed connection stays in the table for a while; who opens another with the same ports
/// must not get in by it.
#[test]
fn a_connection_opened_anew_is_asked_for_anew() {
    for version in BOTH {
        let mut lab = world(&policy());
        let packet = syn(version, SERVER, OURS, 8000);
        assert_eq!(lab.send(9, &packet.frame()).verdict, Verdict::Routed(PortId(3)));
        let answer = tcp(version, CAROL, SERVER, (80, 5000), SYN | ACK, (900, 101));
        assert_eq!(lab.send(3, &answer.frame()).verdict, routed(9));
        let reset = tcp(version, SERVER, OURS, (5000, 8000), RST, (101, 0));
        assert_eq!(lab.send(9, &reset.frame()).verdict, Verdict::Routed(PortId(3)));
        assert_eq!(lab.flows().len(), 1);
        // Published still, it is one flow in the place of the other.
        assert_eq!(lab.send(9, &packet.frame()).verdict, Verdict::Routed(PortId(3)));
        assert_eq!(lab.flows().len(), 1);
        let answer = tcp(version, CAROL, SERVER, (80, 5000), SYN | ACK, (900, 101));
        assert_eq!(lab.send(3, &answer.frame()).verdict, routed(9));
        assert_eq!(lab.send(9, &reset.frame()).verdict, Verdict::Routed(PortId(3)));
        set_rules(&mut lab, &with_publishes(Vec::new()));
        assert_eq!(lab.send(9, &packet.frame()).verdict, Verdict::Local, "nobody listens here");
    }
}
