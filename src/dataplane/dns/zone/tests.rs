use simple_dns::RCODE;

use super::super::Name as Known;
use super::super::samples::{ask, ask_edns};
use super::*;

const ME: PortId = PortId(1);
const OTHER: PortId = PortId(2);

fn zone() -> Zone {
    let v4 = |last| Addr::v4([10, 0, 0, last]);
    let v6 = Addr::from("fd00::5".parse::<Ipv6Addr>().unwrap());
    let name =
        |name: &str, address, reverse, known_to| Known { name: name.into(), address, reverse, known_to };
    Zone::new(&Config {
        names: vec![
            name("web", v4(2), true, None),
            name("web.net", v4(2), false, None),
            name("both", v4(5), true, None),
            name("both", v6, true, None),
            name("pool", v4(2), false, None),
            name("pool", v4(5), false, None),
            name("db", v4(9), false, Some(ME)),
            name("bad..name", v4(9), true, None),
        ],
        ..Config::default()
    })
}

/// What a port is answered, as text.
fn asked(from: PortId, id: u16, name: &str, kind: u16) -> Option<Vec<String>> {
    let bytes = ask(id, name, kind);
    let answer = zone().answer(&Question::parse(&bytes).unwrap(), from)?;
    let read = Packet::parse(&answer).unwrap();
    assert_eq!((read.id(), read.rcode(), read.questions.len()), (id, RCODE::NoError, 1));
    assert!(read.has_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_DESIRED));
    assert!(read.has_flags(PacketFlag::RECURSION_AVAILABLE));
    assert_eq!(read.questions[0].qname.to_string(), name);
    let text = |record: &ResourceRecord<'_>| {
        assert_eq!((record.name.to_string().as_str(), record.ttl), (name, 600));
        match &record.rdata {
            RData::A(A { address }) => Ipv4Addr::from(*address).to_string(),
            RData::AAAA(AAAA { address }) => Ipv6Addr::from(*address).to_string(),
            RData::PTR(PTR(name)) => name.to_string(),
            other => panic!("{other:?}"),
        }
    };
    Some(read.answers.iter().map(text).collect())
}

#[test]
fn questions_and_answers() {
    const PTR_V6: &str = "5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.F.ip6.arpa";
    let (a, aaaa, ptr, any, mx) = (1, 28, 12, 255, 15);
    let cases: [(_, u16, &str, u16, Option<&[&str]>); 22] = [
        (ME, 0, "web", a, Some(&["10.0.0.2"])),
        (ME, 0, "WeB", a, Some(&["10.0.0.2"])),
        (ME, 0, "web.net", a, Some(&["10.0.0.2"])),
        (ME, 0, "web", aaaa, Some(&[])),
        (ME, 0, "web", mx, Some(&[])),
        (ME, 0, "both", a, Some(&["10.0.0.5"])),
        (ME, 0, "both", aaaa, Some(&["fd00::5"])),
        (ME, 0, "both", any, Some(&["10.0.0.5", "fd00::5"])),
        (ME, 0, "pool", a, Some(&["10.0.0.2", "10.0.0.5"])),
        (ME, 1, "pool", a, Some(&["10.0.0.5", "10.0.0.2"])),
        (ME, 0, "db", a, Some(&["10.0.0.9"])),
        (OTHER, 0, "db", a, None),
        (ME, 0, "elsewhere", a, None),
        (ME, 0, "web.", a, Some(&["10.0.0.2"])),
        (ME, 0, "net", a, None),
        (ME, 0, "2.0.0.10.in-addr.arpa", ptr, Some(&["web"])),
        (ME, 0, "2.0.0.10.IN-ADDR.arpa", ptr, Some(&["web"])),
        (ME, 0, "2.0.0.10.in-addr.arpa", a, Some(&[])),
        (ME, 0, "02.0.0.10.in-addr.arpa", ptr, None),
        (ME, 0, "9.0.0.10.in-addr.arpa", ptr, None),
        (ME, 0, "0.0.10.in-addr.arpa", ptr, None),
        (ME, 0, PTR_V6, ptr, Some(&["both"])),
    ];
    for (from, id, name, kind, expected) in cases {
        let name = name.trim_end_matches('.');
        let expected = expected.map(|texts| texts.iter().map(ToString::to_string).collect());
        assert_eq!(asked(from, id, name, kind), expected, "{name} {kind} by {from:?}");
    }
}

#[test]
fn opt_is_answered_with_opt() {
    let bytes = ask_edns(7, "web", 1, 4096);
    let answer = zone().answer(&Question::parse(&bytes).unwrap(), ME).unwrap();
    assert_eq!(Packet::parse(&answer).unwrap().opt().unwrap().udp_packet_size, 1232);
}

#[test]
fn types_that_nobody_knows_are_not_there() {
    let mut bytes = ask(7, "web", 1);
    let kind = bytes.len() - 4;
    bytes[kind..kind + 2].copy_from_slice(&[0xff, 0x01]);
    let answer = zone().answer(&Question::parse(&bytes).unwrap(), ME).unwrap();
    assert_eq!(&answer[12..], &bytes[12..], "the question, and nothing else");
}
