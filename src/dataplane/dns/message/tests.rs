use simple_dns::Packet;

use super::super::samples::{ask, ask_edns, reply};
use super::*;

#[test]
fn a_question_is_read() {
    let bytes = ask_edns(7, "Web.Example", 28, 4096);
    let question = Question::parse(&bytes).unwrap();
    assert_eq!((question.id, question.kind, question.class), (7, 28, IN));
    assert_eq!(question.name(), b"\x03Web\x07Example\0");
    assert_eq!(question.folded(), b"\x03web\x07example\0");
    assert_eq!(question.edns, Some(Edns { size: 4096, dnssec_ok: false, has_options: false }));
    assert_eq!(question.limit(), 4096);
    assert_eq!(Question::parse(&ask(7, "a", 1)).unwrap().limit(), 512);
    assert_eq!(Question::parse(&ask_edns(7, "a", 1, 100)).unwrap().limit(), 512);
}

/// What is changed in a good question, and what becomes of it.
#[test]
fn what_is_no_question() {
    type Change = fn(&mut Vec<u8>);
    let refused = |flags: u16, rcode: Rcode| {
        let mut answer = vec![0, 7];
        answer.extend((flags | rcode as u16).to_be_bytes());
        answer.extend([0; 8]);
        Unreadable::Refused(rcode, answer)
    };
    let formerr = || refused(0x8180, Rcode::FormErr);
    let cases: [(&str, Change, Unreadable); 15] = [
        ("nothing", Vec::clear, Unreadable::Ignored),
        ("half a header", |bytes| bytes.truncate(11), Unreadable::Ignored),
        ("an answer", |bytes| bytes[2] |= 0x80, Unreadable::Ignored),
        ("an update", |bytes| bytes[2] |= 5 << 3, refused(0xa980, Rcode::NotImp)),
        ("no question", |bytes| bytes[5] = 0, formerr()),
        ("two questions", |bytes| bytes[5] = 2, formerr()),
        ("an answer in a question", |bytes| bytes[7] = 1, formerr()),
        ("a header alone", |bytes| bytes.truncate(12), formerr()),
        ("a name cut off", |bytes| bytes.truncate(15), formerr()),
        ("no class", |bytes| bytes.truncate(12 + 5 + 3), formerr()),
        ("a pointer to itself", |bytes| bytes.splice(12..14, [0xc0, 12]).for_each(drop), formerr()),
        ("a label of an unknown kind", |bytes| bytes[12] = 0x40, formerr()),
        ("OPT cut off", |bytes| bytes.truncate(bytes.len() - 1), formerr()),
        (
            "two of OPT",
            |bytes| {
                bytes[11] = 2;
                bytes.extend_from_within(bytes.len() - 11..)
            },
            formerr(),
        ),
        ("more records than bytes", |bytes| bytes[8..10].fill(0xff), formerr()),
    ];
    for (what, change, expected) in cases {
        let mut bytes = ask_edns(7, "web", 1, 1232);
        assert!(Question::parse(&bytes).is_ok());
        change(&mut bytes);
        assert_eq!(Question::parse(&bytes), Err(expected), "{what}");
    }
    let long = [[1, b'a'].repeat(127), vec![0, 0, 1, 0, 1]].concat();
    let header = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    assert!(Question::parse(&[&header[..], &long].concat()).is_ok(), "255 bytes");
    assert_eq!(Question::parse(&[&header[..], &[1, b'a'], &long].concat()), Err(formerr()), "257 bytes");
}

#[test]
fn answers_without_records() {
    let bytes = ask_edns(7, "Web", 1, 1232);
    let question = Question::parse(&bytes).unwrap();
    for (answer, flags) in [(question.refuse(Rcode::ServFail), 0x8182), (question.truncated(), 0x8380)] {
        assert_eq!(u16::from_be_bytes([answer[2], answer[3]]), flags);
        let read = Packet::parse(&answer).unwrap();
        assert_eq!((read.id(), read.questions.len(), read.answers.len()), (7, 1, 0));
        assert_eq!(read.questions[0].qname.to_string(), "Web");
        assert_eq!(read.opt().unwrap().udp_packet_size, 1232);
    }
    assert!(Packet::parse(&Question::parse(&ask(7, "web", 1)).unwrap().truncated()).unwrap().opt().is_none());
}

#[test]
fn whose_answer_it_is() {
    let bytes = ask(7, "Web", 1);
    let question = Question::parse(&bytes).unwrap();
    assert!(question.is_answered_by(&reply(&bytes, &[1], None, true), 7));
    assert!(question.is_answered_by(&reply(&ask(7, "wEB", 1), &[1], None, false), 7), "another case");
    for (what, other) in [("id", ask(8, "web", 1)), ("name", ask(7, "wek", 1)), ("type", ask(7, "web", 28))] {
        assert!(!question.is_answered_by(&reply(&other, &[1], None, false), 7), "another {what}");
    }
    assert!(!question.is_answered_by(&bytes, 7), "a question");
    assert!(!question.is_answered_by(&reply(&bytes, &[1], None, false)[..20], 7), "cut off");
}

/// TTLs of the answers, SOA's TTL and minimum, and for how long that can be kept.
#[test]
fn what_can_be_kept() {
    let cases: [(&[u32], _, Option<u32>); 10] = [
        (&[60], None, Some(60)),
        (&[60, 30, 90], None, Some(30)),
        (&[7200], None, Some(3600)),
        (&[0], None, None),
        (&[1 << 31], None, None),
        (&[], None, None),
        (&[], Some((300, 60)), Some(60)),
        (&[], Some((60, 300)), Some(60)),
        (&[], Some((60, 0)), None),
        (&[30], Some((60, 20)), Some(20)),
    ];
    for (ttls, soa, expected) in cases {
        for with_opt in [false, true] {
            let kept = Keepsake::of(&reply(&ask(7, "web.example", 1), ttls, soa, with_opt), 3600);
            assert_eq!(kept.map(|kept| kept.ttl), expected, "{ttls:?} {soa:?}");
        }
    }
    let good = reply(&ask(7, "web", 1), &[60], None, true);
    for (what, at, bits) in
        [("cut", 2, 2), ("SERVFAIL", 3, 2), ("two questions", 5, 3), ("half a record", 7, 9)]
    {
        let mut bad = good.clone();
        bad[at] ^= bits;
        assert_eq!(Keepsake::of(&bad, 3600), None, "{what}");
    }
}

#[test]
fn what_is_kept_is_given_again() {
    let answer = reply(&ask(7, "web.example", 1), &[60, 90], Some((300, 200)), true);
    let kept = Keepsake::of(&answer, 3600).unwrap();
    let bytes = ask(9, "WEB.example", 1);
    let again = kept.answer(&Question::parse(&bytes).unwrap(), 40);
    let read = Packet::parse(&again).unwrap();
    assert_eq!((read.id(), read.questions[0].qname.to_string().as_str()), (9, "WEB.example"));
    assert_eq!(read.answers.iter().map(|record| record.ttl).collect::<Vec<_>>(), [20, 20, 50]);
    assert_eq!(read.name_servers[0].ttl, 260);
    assert!(read.opt().is_none());
    assert!(!read.has_flags(simple_dns::PacketFlag::AUTHORITATIVE_ANSWER));
    let bytes = ask_edns(9, "web.example", 1, 4096);
    let again = kept.answer(&Question::parse(&bytes).unwrap(), 0);
    assert!(Packet::parse(&again).unwrap().opt().is_some());
}

mod arbitrary {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever comes, what is read lies within it, and nothing hangs.
        #[test]
        fn bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300), ask in any::<bool>()) {
            let mut bytes = bytes;
            if ask && bytes.len() > 12 {
                bytes[..12].copy_from_slice(&[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
            }
            if let Ok(question) = Question::parse(&bytes) {
                prop_assert!(question.section().len() >= 5);
                let _ = question.is_answered_by(&bytes, question.id);
                if let Some(kept) = Keepsake::of(&bytes, 3600) {
                    prop_assert!(kept.answer(&question, 1).len() >= HEADER_LEN);
                }
            }
            let _ = (rcode(&bytes), is_truncated(&bytes));
        }
    }
}
