//! Questions to the gateway about names, and those that it asks of others.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use simple_dns::{Packet as Message, PacketFlag, RCODE};
use tapswitch::dataplane::dns::{Config, Name};
use tapswitch::dataplane::{Change, DropReason, Interface, PortId, Rejected, Verdict};
use tapswitch::wire::ip::Version;

use crate::common::lab::Count::{self, Cache, Flow, Names, Rx, Upstream, Walk, WalkOf};
use crate::common::lab::{Lab, Sent, dropped};
use crate::errors::{Says, about, told};
use crate::neighbours::answer as arp_answer;
use crate::packets::{Body, Packet, udp};
use crate::samples::{ask, ask_edns, reply};
use crate::world::{
    ALICE, BOB, BOTH, CAROL, GATEWAY1, GATEWAY2, NET1, OTHER_SERVER, OURS, OUTSIDE, Party, SERVER, WAN, addr,
    interface1, introduce, policy, strangers, uplink, world,
};

const A: u16 = 1;
const AAAA: u16 = 28;
const ASKED: &str = "INPUT 0, nat PREROUTING 1 2 0, nat DOCKER 1";
/// Of the flow's later packets.
const AGAIN: &str = "INPUT 0";

fn at(party: Party, version: Version) -> SocketAddr {
    SocketAddr::new(party.ip(version), 53)
}

/// Two upstreams, and some names.
fn config(version: Version) -> Config {
    let name = |name: &str, party: Party, version, known_to: Option<PortId>| {
        let address = party.addr(version);
        Name { name: name.into(), address, reverse: known_to.is_none(), known_to }
    };
    Config {
        names: vec![
            name("alice", ALICE, Version::V4, None),
            name("bob", BOB, Version::V4, None),
            name("bob", BOB, Version::V6, None),
            name("db", BOB, Version::V4, Some(PortId(ALICE.port))),
        ],
        upstreams: vec![at(SERVER, version), at(OTHER_SERVER, version)],
        upstreams_of: Vec::new(),
    }
}

fn named(version: Version) -> Lab {
    let mut lab = world(&policy());
    lab.apply(Change::SetDns(NET1, Some(config(version))));
    lab
}

/// A question from a port of a party's to the gateway.
fn question(version: Version, from: Party, port: u16, message: &[u8]) -> Packet {
    with(udp(version, from, GATEWAY1, (port, 53)), message)
}

/// The gateway's answer to a question.
fn answer(question: &Packet, message: &[u8]) -> Packet {
    let mut answer = with(question.clone(), message);
    answer.macs = (question.macs.1, question.macs.0);
    (answer.source, answer.destination) = (question.destination, question.source);
    let Body::Udp { ports, .. } = &mut answer.body else { panic!() };
    (ports.0, ports.1) = (ports.1, ports.0);
    answer.id = 0;
    answer
}

fn with(mut packet: Packet, message: &[u8]) -> Packet {
    let Body::Udp { data, .. } = &mut packet.body else { panic!() };
    *data = message.to_vec();
    packet
}

/// The port and the id with which an upstream was asked.
fn drawn(sent: &Sent) -> (u16, u16) {
    let transport = if sent.1[12..14] == [8, 0] { 34 } else { 54 };
    let word = |at: usize| u16::from_be_bytes([sent.1[at], sent.1[at + 1]]);
    (word(transport), word(transport + 8))
}

fn renamed(message: &[u8], id: u16) -> Vec<u8> {
    [&id.to_be_bytes()[..], &message[2..]].concat()
}

/// What an upstream is asked, as it leaves: the message as it came, but for the id.
fn asked(version: Version, upstream: Party, message: &[u8], (port, id): (u16, u16)) -> Packet {
    let mut packet = with(udp(version, OURS, upstream, (port, 53)), &renamed(message, id));
    packet.macs = (OURS.mac, OUTSIDE.mac);
    packet.id = 0;
    packet
}

/// The message of an upstream to one of our ports.
fn told_by(version: Version, upstream: Party, port: u16, message: &[u8]) -> Packet {
    with(udp(version, upstream, OURS, (53, port)), message)
}

/// Sends a question that is forwarded to this upstream; the port and the id that were drawn.
fn forwarded(lab: &mut Lab, from: Party, port: u16, message: &[u8], upstream: Party) -> (u16, u16) {
    let version = Version::V4;
    let packet = question(version, from, port, message);
    let passage = lab.send(from.port, &packet.frame());
    let drawn = drawn(&passage.sent[0]);
    let leaves = asked(version, upstream, message, drawn);
    let counts = [
        Rx(from.port),
        Flow,
        Flow,
        Walk(ASKED),
        WalkOf(0, "OUTPUT 0"),
        Names(0, "forwarded"),
        Cache("misses", 1),
        Upstream("queries", 1),
    ];
    passage.sends(Verdict::Local, &[leaves.by(9)], &counts);
    drawn
}

/// Sends what an upstream says, which is handed on as this.
fn handed_on(lab: &mut Lab, says: &Packet, expected: &[Packet], more: &[Count]) {
    let sent: Vec<_> = expected.iter().map(|packet| packet.by(1)).collect();
    let walks = (0..sent.len()).map(|number| WalkOf(number, "OUTPUT 0"));
    let counts: Vec<_> = [Rx(9), Walk(AGAIN), Upstream("answers", 1)]
        .into_iter()
        .chain(walks)
        .chain(more.iter().copied())
        .collect();
    lab.send(9, &says.frame()).sends(Verdict::Local, &sent, &counts);
}

/// What an upstream says that has the answer.
fn kept() -> [Count; 2] {
    [Cache("entries", 1), Cache("inserted", 1)]
}

/// What a question is answered with at once.
fn answered(lab: &mut Lab, packet: &Packet) -> Vec<u8> {
    let port = if packet.macs.0 == BOB.mac { BOB.port } else { ALICE.port };
    let passage = lab.send(port, &packet.frame());
    assert_eq!(passage.verdict, Verdict::Local);
    let [(to, bytes, _)] = &passage.sent[..] else { panic!("{:?}", passage.sent) };
    let start = if packet.version() == Version::V4 { 42 } else { 62 };
    let message = bytes[start..].to_vec();
    assert_eq!((*to, bytes), (port, &answer(packet, &message).bytes()));
    message
}

fn rcode(message: &[u8]) -> RCODE {
    Message::parse(message).unwrap().rcode()
}

#[test]
fn names_of_the_network_are_answered_at_once() {
    for version in BOTH {
        let mut lab = named(version);
        for (message, records) in [
            (ask(7, "bob", A), 1),
            (ask(8, "BoB", AAAA), 1),
            (ask(9, "alice", AAAA), 0),
            (ask(10, "db", A), 1),
            (ask(11, "3.0.19.172.in-addr.arpa", 12), 1),
        ] {
            let packet = question(version, ALICE, 5000 + u16::from(message[1]), &message);
            let passage = lab.send(1, &packet.frame());
            let start = if version == Version::V4 { 42 } else { 62 };
            let said = passage.sent[0].1[start..].to_vec();
            let read = Message::parse(&said).unwrap();
            assert_eq!(
                (read.id(), read.rcode(), read.answers.len()),
                (message[1].into(), RCODE::NoError, records)
            );
            assert_eq!(said[12..message.len()], message[12..], "the question as it was asked");
            let counts = [Rx(1), Flow, Walk(ASKED), WalkOf(0, "OUTPUT 0"), Names(0, "local")];
            passage.sends(Verdict::Local, &[answer(&packet, &said).by(1)], &counts);
        }
    }
}

#[test]
fn who_may_know_a_name_is_who_is_told() {
    let mut lab = named(Version::V4);
    forwarded(&mut lab, BOB, 5000, &ask(7, "db", A), SERVER);
}

#[test]
fn names_are_good_from_the_moment_they_are_set_until_the_moment_they_go() {
    let mut lab = named(Version::V4);
    let packet = question(Version::V4, ALICE, 5000, &ask(7, "new", A));
    let mut config = config(Version::V4);
    config.upstreams.clear();
    config.names.push(Name {
        name: "new".into(),
        address: addr("172.19.0.9"),
        reverse: false,
        known_to: None,
    });
    lab.apply(Change::SetDns(NET1, Some(config.clone())));
    assert_eq!(rcode(&answered(&mut lab, &packet)), RCODE::NoError);
    config.names.pop();
    lab.apply(Change::SetDns(NET1, Some(config)));
    assert_eq!(rcode(&answered(&mut lab, &packet)), RCODE::ServerFailure, "no upstream");
    lab.rejects(
        Change::SetDns(tapswitch::dataplane::NetworkId(7), None),
        Rejected::UnknownNetwork(tapswitch::dataplane::NetworkId(7)),
    );
}

#[test]
fn port_53_is_closed_where_nobody_answers() {
    for version in BOTH {
        let mut lab = named(version);
        let message = ask(7, "bob", A);
        let elsewhere = [
            (CAROL, with(udp(version, CAROL, GATEWAY2, (5000, 53)), &message), GATEWAY2),
            (ALICE, with(udp(version, ALICE, GATEWAY2, (5000, 53)), &message), GATEWAY2),
            (OUTSIDE, with(udp(version, OUTSIDE, OURS, (5000, 53)), &message), OURS),
        ];
        for (from, packet, gateway) in elsewhere {
            let error = about(&packet, Says::PortUnreachable, gateway);
            let passage = lab.send(from.port, &packet.frame());
            assert_eq!((passage.verdict, &passage.sent[..]), (Verdict::Local, &[error.by(from.port)][..]));
        }
        lab.apply(Change::SetDns(NET1, None));
        let packet = question(version, ALICE, 5000, &message);
        let error = about(&packet, Says::PortUnreachable, GATEWAY1);
        assert_eq!(lab.send(1, &packet.frame()).sent, [error.by(1)]);
    }
}

#[test]
fn what_is_no_question() {
    let mut lab = named(Version::V4);
    let good = ask(7, "bob", A);
    type Change = fn(&mut Vec<u8>);
    let told: [(&str, Change, RCODE, &'static str); 5] = [
        ("an update", |bytes| bytes[2] = 5 << 3, RCODE::NotImplemented, "notimp"),
        ("two questions", |bytes| bytes[5] = 2, RCODE::FormatError, "formerr"),
        ("a loop", |bytes| bytes.splice(12..13, [0xc0, 12]).for_each(drop), RCODE::FormatError, "formerr"),
        ("chaos", |bytes| *bytes.last_mut().unwrap() = 3, RCODE::Refused, "refused"),
        (
            "a whole zone",
            |bytes| {
                let at = bytes.len() - 3;
                bytes[at] = 252
            },
            RCODE::Refused,
            "refused",
        ),
    ];
    for (what, change, expected, outcome) in told {
        let mut message = good.clone();
        change(&mut message);
        let packet = question(Version::V4, ALICE, 5000, &message);
        let before = lab.values();
        let said = answered(&mut lab, &packet);
        assert_eq!((said[1], RCODE::from(u16::from(said[3] & 15))), (7, expected), "{what}");
        let changed = crate::common::lab::difference(&before, &lab.values());
        assert_eq!(changed[&("names", 0, "outcome", outcome)], 1, "{what}");
    }
    let ignored: [(&str, Change); 3] = [
        ("nothing", Vec::clear),
        ("too little", |bytes| bytes.truncate(11)),
        ("an answer", |bytes| bytes[2] |= 0x80),
    ];
    for (what, change) in ignored {
        let mut message = good.clone();
        change(&mut message);
        let packet = question(Version::V4, BOB, 5000, &message);
        let passage = lab.send(2, &packet.frame());
        assert_eq!((passage.verdict, passage.sent.len()), (dropped(DropReason::NotAQuestion), 0), "{what}");
    }
    let mut bent = question(Version::V4, BOB, 5001, &good).bytes();
    bent[50] ^= 1;
    lab.send(2, &tapswitch::dataplane::Frame::from_bytes(&bent)).was_dropped(2, DropReason::BadTransport);
}

#[test]
fn others_are_asked_and_their_answer_is_handed_on_and_kept() {
    for version in BOTH {
        let mut lab = named(version);
        let message = ask_edns(7, "example.com", A, 1232);
        let packet = question(version, ALICE, 5000, &message);
        let passage = lab.send(1, &packet.frame());
        let (port, id) = drawn(&passage.sent[0]);
        assert!(port >= 1024 && (port, id) != (5000, 7));
        let counts = [
            Rx(1),
            Flow,
            Flow,
            Walk(ASKED),
            WalkOf(0, "OUTPUT 0"),
            Names(0, "forwarded"),
            Cache("misses", 1),
            Upstream("queries", 1),
        ];
        passage.sends(Verdict::Local, &[asked(version, SERVER, &message, (port, id)).by(9)], &counts);
        let said = reply(&renamed(&message, id), &[100], None, true);
        let expected = answer(&packet, &renamed(&said, 7));
        handed_on(&mut lab, &told_by(version, SERVER, port, &said), &[expected], &kept());

        lab.wait(Duration::from_secs(30));
        let again = question(version, ALICE, 5000, &ask(9, "EXAMPLE.com", A));
        let before = lab.values();
        let cached = answered(&mut lab, &again);
        let read = Message::parse(&cached).unwrap();
        assert_eq!((read.id(), read.answers[0].ttl), (9, 70));
        assert_eq!(read.questions[0].qname.to_string(), "EXAMPLE.com");
        assert!(read.opt().is_none() && !read.has_flags(PacketFlag::AUTHORITATIVE_ANSWER));
        let changed = crate::common::lab::difference(&before, &lab.values());
        assert_eq!(changed[&("names", 0, "cache", "hits")], 1);
        assert_eq!(changed[&("names", 0, "outcome", "cached")], 1);
        lab.wait(Duration::from_secs(71));
        let passage = lab.send(1, &again.frame());
        assert_eq!(passage.sent[0].0, 9, "too old");
    }
}

#[test]
fn answers_that_nobody_asked_for_are_not_believed() {
    let mut lab = named(Version::V4);
    let message = ask(7, "example.com", A);
    let (port, id) = forwarded(&mut lab, ALICE, 5000, &message, SERVER);
    let right = reply(&renamed(&message, id), &[100], None, false);
    let wrong = [
        reply(&renamed(&message, id ^ 1), &[100], None, false),
        reply(&ask(id, "example.org", A), &[100], None, false),
        renamed(&message, id),
        right[..11].to_vec(),
    ];
    for says in wrong {
        let packet = told_by(Version::V4, SERVER, port, &says);
        let counts = [Rx(9), Walk(AGAIN), Upstream("mismatched", 1)];
        lab.send(9, &packet.frame()).sends(Verdict::Local, &[], &counts);
    }
    // From somebody else, or to another port, nobody is there.
    let strange = [
        told_by(Version::V4, OTHER_SERVER, port, &right),
        told_by(Version::V4, SERVER, port, &right).from((SERVER, 54)),
        told_by(Version::V4, SERVER, port ^ 1, &right),
    ];
    for packet in strange {
        let error = about(&packet, Says::PortUnreachable, OURS);
        assert_eq!(lab.send(9, &packet.frame()).sent, [error.by(9)]);
    }
    // Nor can a container be the upstream.
    let forged = told_by(Version::V4, SERVER, port, &right);
    let mut forged = Packet { macs: (BOB.mac, BOB.gateway), ..forged };
    forged.ttl = 64;
    assert!(lab.send(2, &forged.frame()).sent.iter().all(|(_, bytes, _)| bytes[23] == 1), "an error at most");
    let expected = answer(&question(Version::V4, ALICE, 5000, &message), &renamed(&right, 7));
    handed_on(&mut lab, &told_by(Version::V4, SERVER, port, &right), &[expected], &kept());
}

/// What the switch sends by itself, of packets.
fn waits(lab: &mut Lab, milliseconds: u64) -> Vec<Sent> {
    lab.wait(Duration::from_millis(milliseconds))
}

#[test]
fn who_is_silent_is_followed_by_the_next_and_then_all_are_asked_again() {
    let mut lab = named(Version::V4);
    let message = ask(7, "example.com", A);
    let mut drawn_before = vec![forwarded(&mut lab, ALICE, 5000, &message, SERVER)];
    for upstream in [OTHER_SERVER, SERVER, OTHER_SERVER] {
        assert_eq!(waits(&mut lab, 1999), []);
        let sent = waits(&mut lab, 1);
        let drawn = drawn(&sent[0]);
        assert_eq!(sent, [asked(Version::V4, upstream, &message, drawn).by(9)]);
        assert!(!drawn_before.contains(&drawn));
        drawn_before.push(drawn);
    }
    // Who is too late is not heard.
    let (port, id) = drawn_before[0];
    let late = told_by(Version::V4, SERVER, port, &reply(&renamed(&message, id), &[1], None, false));
    assert_eq!(lab.send(9, &late.frame()).sent, [about(&late, Says::PortUnreachable, OURS).by(9)]);
    let changes = lab.changes(|lab| {
        let [(1, bytes, _)] = &waits(lab, 2000)[..] else { panic!() };
        assert_eq!(rcode(&bytes[42..]), RCODE::ServerFailure);
    });
    assert_eq!(changes[&("names", 0, "outcome", "failed")], 1);
    assert_eq!(changes[&("names", 0, "upstreams", "timeouts")], 1);
    assert_eq!(lab.switch.dns_view().waiting, 0);
    assert_eq!(waits(&mut lab, 10_000).len(), 0);
}

#[test]
fn who_refuses_is_followed_at_once_and_not_asked_again() {
    type Refusal = fn(&[u8]) -> Vec<u8>;
    let refusals: [Refusal; 3] = [
        |question| [&question[..2], &[0x81, 0x82], &question[4..]].concat(),
        |question| [&question[..2], &[0x81, 0x85], &question[4..]].concat(),
        |_| Vec::new(),
    ];
    for refusal in refusals {
        let mut lab = named(Version::V4);
        let message = ask(7, "example.com", A);
        let (port, id) = forwarded(&mut lab, ALICE, 5000, &message, SERVER);
        let says = refusal(&renamed(&message, id));
        let packet = match says.is_empty() {
            // Nobody is there.
            true => {
                told(SERVER, OURS, Says::PortUnreachable, &asked(Version::V4, SERVER, &message, (port, id)))
            }
            false => told_by(Version::V4, SERVER, port, &says),
        };
        let passage = lab.send(9, &packet.frame());
        let next = drawn(&passage.sent[0]);
        let leaves = asked(Version::V4, OTHER_SERVER, &message, next).by(9);
        let counts = [
            Rx(9),
            Flow,
            Walk(AGAIN),
            WalkOf(0, "OUTPUT 0"),
            Upstream("failures", 1),
            Upstream("queries", 1),
        ];
        passage.sends(Verdict::Local, &[leaves], &counts);
        // The other one is silent, and is asked again alone.
        let sent = waits(&mut lab, 2000);
        assert_eq!(sent, [asked(Version::V4, OTHER_SERVER, &message, drawn(&sent[0])).by(9)]);
        let [(1, bytes, _)] = &waits(&mut lab, 2000)[..] else { panic!() };
        assert_eq!(rcode(&bytes[42..]), RCODE::ServerFailure);
    }
}

#[test]
fn what_is_too_long_for_who_asked_is_cut() {
    let mut lab = named(Version::V4);
    for (size, fits) in [(None, false), (Some(600), false), (Some(1400), true)] {
        let message = match size {
            None => ask(7, "example.com", A),
            Some(size) => ask_edns(7, "example.com", A, size),
        };
        let packet = question(Version::V4, ALICE, 5000, &message);
        let passage = lab.send(1, &packet.frame());
        let (port, id) = drawn(&passage.sent[0]);
        // TTLs of zero are not kept.
        let said = reply(&renamed(&message, id), &[0; 50], None, size.is_some());
        assert!((601..1400).contains(&said.len()));
        let passage = lab.send(9, &told_by(Version::V4, SERVER, port, &said).frame());
        let heard = passage.sent[0].1[42..].to_vec();
        assert_eq!(passage.sent, [answer(&packet, &heard).by(1)]);
        if fits {
            assert_eq!(heard, renamed(&said, 7));
        } else {
            let read = Message::parse(&heard).unwrap();
            assert!(read.has_flags(PacketFlag::TRUNCATION) && read.opt().is_some() == size.is_some());
            assert_eq!((read.id(), read.questions.len(), read.answers.len()), (7, 1, 0));
        }
    }
}

#[test]
fn who_asks_the_same_waits_for_the_same_answer() {
    let mut lab = named(Version::V4);
    let message = ask(7, "example.com", A);
    let (port, id) = forwarded(&mut lab, ALICE, 5000, &message, SERVER);
    let joins = [Names(0, "joined"), Cache("misses", 1)];
    // The same question again, another one of alice's, and one of bob's.
    let again = question(Version::V4, ALICE, 5000, &message);
    let counts = [&[Rx(1), Walk(AGAIN)][..], &joins].concat();
    lab.send(1, &again.frame()).sends(Verdict::Local, &[], &counts);
    let another = question(Version::V4, ALICE, 5001, &renamed(&message, 8));
    let counts = [&[Rx(1), Flow, Walk(ASKED)][..], &joins].concat();
    lab.send(1, &another.frame()).sends(Verdict::Local, &[], &counts);
    let bobs = question(Version::V4, BOB, 5000, &renamed(&message, 9));
    let counts = [&[Rx(2), Flow, Walk(ASKED)][..], &joins].concat();
    lab.send(2, &bobs.frame()).sends(Verdict::Local, &[], &counts);
    assert_eq!(lab.switch.dns_view().waiting, 3);

    let said = reply(&renamed(&message, id), &[100], None, false);
    let passage = lab.send(9, &told_by(Version::V4, SERVER, port, &said).frame());
    let sent = [(&again, 7, 1), (&another, 8, 1), (&bobs, 9, 2)];
    let sent = sent.map(|(packet, id, port)| answer(packet, &renamed(&said, id)).by(port));
    let walks = [0, 1, 2].map(|number| WalkOf(number, "OUTPUT 0"));
    let counts = [&[Rx(9), Walk(AGAIN), Upstream("answers", 1)][..], &kept(), &walks].concat();
    passage.sends(Verdict::Local, &sent, &counts);
}

#[test]
fn no_port_can_make_the_others_wait_in_vain() {
    let mut lab = named(Version::V4);
    let mut outcomes = Vec::new();
    for number in 0..200 {
        let message = ask(number, &format!("n{number}.example"), A);
        let passage = lab.send(1, &question(Version::V4, ALICE, 5000, &message).frame());
        outcomes.push(passage.sent[0].0);
    }
    assert_eq!((outcomes[..128].to_vec(), outcomes[128..].to_vec()), (vec![9; 128], vec![1; 72]));
    assert_eq!(lab.switch.dns_view().waiting, 128);
    forwarded(&mut lab, BOB, 5000, &ask(7, "example.com", A), SERVER);
    lab.wait(Duration::from_secs(60));
    assert_eq!(lab.switch.dns_view().waiting, 0);
}

#[test]
fn a_resolver_of_the_host_alone_can_be_asked_and_nobody_else_can_speak_for_it() {
    // A real uplink, and one whose packets become sockets of the host.
    [false, true].into_iter().for_each(resolver_of_the_host);
}

fn resolver_of_the_host(sockets: bool) {
    let mut lab = named(Version::V4);
    lab.apply(Change::SetInterface(WAN, Some(Interface { sockets, ..uplink() })));
    let stub: IpAddr = "127.0.0.53".parse().unwrap();
    let config = Config { upstreams: vec![SocketAddr::new(stub, 53)], ..config(Version::V4) };
    lab.apply(Change::SetDns(NET1, Some(config)));
    let message = ask(7, "example.com", A);
    let packet = question(Version::V4, ALICE, 5000, &message);
    let sent = lab.send(1, &packet.frame()).sent;
    let (port, id) = drawn(&sent[0]);
    let to_stub = Packet { destination: stub, ..asked(Version::V4, SERVER, &message, (port, id)) };
    assert_eq!(sent, [to_stub.by(9)]);
    let said = reply(&renamed(&message, id), &[100], None, false);
    let from_stub = |port| Packet { source: stub, ..told_by(Version::V4, SERVER, port, &said) };
    lab.send(9, &from_stub(port ^ 1).frame()).was_dropped(9, DropReason::MartianSource);
    let expected = answer(&packet, &renamed(&said, 7));
    handed_on(&mut lab, &from_stub(port), &[expected], &kept());
    let mut container = udp(Version::V4, ALICE, SERVER, (port, 53));
    container.destination = stub;
    lab.send(1, &container.frame()).was_dropped(1, DropReason::MartianDestination);
}

/// Upstreams that cannot be asked: by whom, and where they are.
#[test]
fn there_are_ways_that_no_question_takes() {
    let ways = [
        ("an internal network's, outside", true, SERVER),
        ("ourselves", false, OURS),
        ("our gateway", false, GATEWAY1),
        ("another network's container", false, CAROL),
    ];
    for (what, internal, upstream) in ways {
        let mut lab = named(Version::V4);
        lab.apply(Change::SetInterface(NET1, Some(Interface { internal, ..interface1() })));
        let config = Config { upstreams: vec![at(upstream, Version::V4)], ..config(Version::V4) };
        lab.apply(Change::SetDns(NET1, Some(config)));
        let packet = question(Version::V4, ALICE, 5000, &ask(7, "example.com", A));
        assert_eq!(rcode(&answered(&mut lab, &packet)), RCODE::ServerFailure, "{what}");
        assert_eq!(lab.switch.dns_view().waiting, 0);
    }
    // A container of its own network's it may ask, even of an internal one.
    let mut lab = named(Version::V4);
    lab.apply(Change::SetInterface(NET1, Some(Interface { internal: true, ..interface1() })));
    let config = Config { upstreams: vec![at(BOB, Version::V4)], ..config(Version::V4) };
    lab.apply(Change::SetDns(NET1, Some(config)));
    let packet = question(Version::V4, ALICE, 5000, &ask(7, "example.com", A));
    assert_eq!(lab.send(1, &packet.frame()).sent[0].0, BOB.port);
}

#[test]
fn a_port_may_have_upstreams_of_its_own() {
    let mut lab = named(Version::V4);
    let upstreams_of = vec![(PortId(BOB.port), vec![at(OTHER_SERVER, Version::V4)])];
    lab.apply(Change::SetDns(NET1, Some(Config { upstreams_of, ..config(Version::V4) })));
    let message = ask(7, "example.com", A);
    forwarded(&mut lab, BOB, 5000, &message, OTHER_SERVER);
    // Nobody waits for an answer that he may not have.
    let (port, id) = forwarded(&mut lab, ALICE, 5000, &message, SERVER);
    let said = reply(&renamed(&message, id), &[100], None, false);
    let expected = answer(&question(Version::V4, ALICE, 5000, &message), &renamed(&said, 7));
    handed_on(&mut lab, &told_by(Version::V4, SERVER, port, &said), &[expected], &kept());
    forwarded(&mut lab, BOB, 5001, &ask_edns(8, "example.com", A, 1232), OTHER_SERVER);
}

#[test]
fn other_upstreams_have_other_answers() {
    let mut lab = named(Version::V4);
    let message = ask(7, "example.com", A);
    let (port, id) = forwarded(&mut lab, ALICE, 5000, &message, SERVER);
    let said = reply(&renamed(&message, id), &[100], None, false);
    let _ = lab.send(9, &told_by(Version::V4, SERVER, port, &said).frame());
    let packet = question(Version::V4, ALICE, 5000, &message);
    answered(&mut lab, &packet);
    // Other names change nothing about them.
    lab.apply(Change::SetDns(NET1, Some(Config { names: Vec::new(), ..config(Version::V4) })));
    answered(&mut lab, &packet);
    let upstreams = vec![at(OTHER_SERVER, Version::V4)];
    lab.apply(Change::SetDns(NET1, Some(Config { upstreams, ..config(Version::V4) })));
    assert_eq!(lab.switch.dns_view().cache.entries, 0);
    let (port, id) = forwarded(&mut lab, ALICE, 5002, &message, OTHER_SERVER);
    // What is on its way then is for who waits, and for nobody else.
    lab.apply(Change::SetDns(NET1, Some(config(Version::V4))));
    forwarded(&mut lab, BOB, 5000, &message, SERVER);
    let said = reply(&renamed(&message, id), &[100], None, false);
    let passage = lab.send(9, &told_by(Version::V4, OTHER_SERVER, port, &said).frame());
    let expected = answer(&question(Version::V4, ALICE, 5002, &message), &renamed(&said, 7));
    assert_eq!(passage.sent, [expected.by(1)]);
    let view = lab.switch.dns_view();
    assert_eq!((view.cache.entries, view.waiting), (0, 1));
}

#[test]
fn a_question_waits_for_the_next_hop() {
    let mut lab = strangers(&policy(), [Default::default(); 3]);
    introduce(&mut lab, ALICE);
    lab.apply(Change::SetDns(NET1, Some(config(Version::V4))));
    let message = ask(7, "example.com", A);
    let passage = lab.send(1, &question(Version::V4, ALICE, 5000, &message).frame());
    assert_eq!(passage.sent.len(), 1, "who is the router?");
    let passage = lab.send(9, &arp_answer(OUTSIDE, OURS, Version::V4));
    let sent = &passage.sent[0];
    assert_eq!(*sent, asked(Version::V4, SERVER, &message, drawn(sent)).by(9));
}

#[test]
fn who_goes_waits_no_longer() {
    let mut lab = named(Version::V4);
    let message = ask(7, "example.com", A);
    let (port, id) = forwarded(&mut lab, ALICE, 5000, &message, SERVER);
    lab.apply(Change::RemovePort(PortId(1)));
    assert_eq!(lab.switch.dns_view().waiting, 0);
    let said = reply(&renamed(&message, id), &[100], None, false);
    let packet = told_by(Version::V4, SERVER, port, &said);
    assert!(lab.send(9, &packet.frame()).sent.iter().all(|(port, ..)| *port == 9));
    forwarded(&mut lab, BOB, 5000, &message, SERVER);
    lab.apply(Change::SetDns(NET1, None));
    assert_eq!((lab.switch.dns_view().waiting, lab.switch.dns_view().networks.len()), (0, 0));
    lab.wait(Duration::from_secs(10));
}
