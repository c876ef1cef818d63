//! Questions and answers by rules, and at random.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use tapswitch::control::docker_rules::rulesets;
use tapswitch::dataplane::dns::{Config, Name};
use tapswitch::dataplane::rules::{Chain, FilterHook, Matches, Rule, Target};
use tapswitch::dataplane::{Change, DropReason, PortId, Verdict};
use tapswitch::wire::ip::Version;

use crate::common::blows::Random;
use crate::common::lab::{Lab, Sent};
use crate::packets::{SYN, tcp, udp};
use crate::samples::{ask, reply};
use crate::world::{
    ALICE, BOB, BOTH, GATEWAY1, NET1, OTHER_SERVER, OURS, Party, SERVER, introduce, policy, world,
};

const V4: Version = Version::V4;

fn config() -> Config {
    let bob = Name { name: "bob".into(), address: BOB.addr(V4), reverse: true, known_to: None };
    let upstreams = [SERVER, OTHER_SERVER].map(|party| (party.ip(V4), 53).into()).to_vec();
    Config { names: vec![bob], upstreams, upstreams_of: Vec::new() }
}

/// Where packets with this destination port are dropped at this hook.
fn without(hook: FilterHook, protocol: u8, source: Option<u16>, destination: Option<u16>) -> Lab {
    let mut lab = world(&policy());
    lab.apply(Change::SetDns(NET1, Some(config())));
    let [mut rules, _] = rulesets(&policy());
    let range = |port: Option<u16>| port.map(|port| port..=port);
    let matches = Matches {
        protocol: Some(protocol),
        source_ports: range(source),
        destination_ports: range(destination),
        ..Matches::default()
    };
    let Chain { rules: of_hook, .. } = &mut rules.filter.chains[hook as usize];
    of_hook.push(Rule { matches, target: Target::Drop(DropReason::Rule) });
    lab.apply(Change::SetRules(V4, rules));
    lab
}

#[test]
fn rules_may_forbid_questions() {
    let mut lab = without(FilterHook::Input, 17, None, Some(53));
    let question = udp(V4, ALICE, GATEWAY1, (5000, 53)).with_data(&ask(7, "bob", 1));
    let passage = lab.send(1, &question.frame());
    assert_eq!((passage.verdict, passage.sent.len()), (Verdict::Drop(DropReason::Rule), 0));
    let mut lab = without(FilterHook::Input, 6, None, Some(53));
    let syn = tcp(V4, ALICE, GATEWAY1, (5000, 53), SYN, (100, 0));
    let passage = lab.send(1, &syn.frame());
    assert_eq!((passage.verdict, passage.sent.len()), (Verdict::Drop(DropReason::Rule), 0));
    assert_eq!(lab.switch.dns_view().connections, 0);
}

#[test]
fn rules_may_forbid_answers() {
    let mut lab = without(FilterHook::Output, 17, Some(53), None);
    let question = udp(V4, ALICE, GATEWAY1, (5000, 53)).with_data(&ask(7, "bob", 1));
    let passage = lab.send(1, &question.frame());
    assert_eq!((passage.verdict, passage.sent.len()), (Verdict::Local, 0));
}

#[test]
fn rules_may_forbid_asking_others() {
    let mut lab = without(FilterHook::Output, 17, None, Some(53));
    let question = udp(V4, ALICE, GATEWAY1, (5000, 53)).with_data(&ask(7, "example.com", 1));
    let passage = lab.send(1, &question.frame());
    let [(1, bytes, _)] = &passage.sent[..] else { panic!("{:?}", passage.sent) };
    assert_eq!(bytes[45] & 0xf, 2, "SERVFAIL");
    assert_eq!((passage.verdict, lab.switch.dns_view().waiting), (Verdict::Local, 0));
}

#[test]
fn a_connection_begins_as_foreseen() {
    for version in BOTH {
        let mut lab = world(&policy());
        lab.apply(Change::SetDns(NET1, Some(config())));
        // The lab compares.
        let passage = lab.send(1, &tcp(version, ALICE, GATEWAY1, (5000, 53), SYN, (100, 0)).frame());
        assert_eq!(passage.verdict, Verdict::Local);
        let [(1, bytes, _)] = &passage.sent[..] else { panic!("{:?}", passage.sent) };
        let sliced = SlicedPacket::from_ethernet(bytes).unwrap();
        let Some(TransportSlice::Tcp(segment)) = sliced.transport else { panic!("{bytes:02x?}") };
        assert_eq!((segment.source_port(), segment.destination_port()), (53, 5000));
        assert_eq!((segment.syn(), segment.ack(), segment.acknowledgment_number()), (true, true, 101));
        let sum = match sliced.net.unwrap() {
            NetSlice::Ipv4(ip) => segment.calc_checksum_ipv4(ip.header().source(), ip.header().destination()),
            NetSlice::Ipv6(ip) => segment.calc_checksum_ipv6(ip.header().source(), ip.header().destination()),
            NetSlice::Arp(_) => panic!("{bytes:02x?}"),
        };
        assert_eq!(sum.unwrap(), segment.checksum());
        assert_eq!(lab.switch.dns_view().connections, 1);
        // Who says nothing more is forgotten.
        lab.wait(Duration::from_secs(60));
        assert_eq!(lab.switch.dns_view().connections, 0);
    }
}

/// Who asked, and how: port, address, source port, and id.
type Asked = (u32, IpAddr, u16, u16);

/// What is known of the past.
struct Town {
    lab: Lab,
    random: Random,
    /// Answers that are still owed.
    owed: BTreeMap<Asked, usize>,
    /// What upstreams were asked and have not answered.
    asked: Vec<(Party, u16, Vec<u8>)>,
    answered: usize,
}

impl Town {
    /// Everything that leaves is an answer to who asked, or a question to an upstream.
    fn account(&mut self, sent: &[Sent]) {
        for (port, bytes, _) in sent {
            if bytes[12..14] != [8, 0] || bytes[23] != 17 {
                assert!(bytes[12..14] != [8, 0] || bytes[23] == 1, "ARP, or an error: {bytes:02x?}");
                continue;
            }
            let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            let address = |at: usize| IpAddr::from(*bytes[at..].first_chunk::<4>().unwrap());
            if word(34) == 53 {
                let asked = (*port, address(30), word(36), word(42));
                let owed = self.owed.get_mut(&asked).unwrap_or_else(|| panic!("nobody asked: {asked:?}"));
                *owed = owed.checked_sub(1).unwrap_or_else(|| panic!("one answer too many: {asked:?}"));
                assert_eq!(bytes[44] & 0x80, 0x80);
                self.answered += 1;
            } else {
                assert_eq!((*port, word(36)), (9, 53));
                let upstream = [SERVER, OTHER_SERVER].into_iter().find(|party| party.ip(V4) == address(30));
                self.asked.push((upstream.unwrap(), word(34), bytes[42..].to_vec()));
            }
        }
    }

    fn ask(&mut self) {
        let (from, gateway) = ([ALICE, BOB][self.random.below(2)], GATEWAY1);
        let name = format!("n{}.example", self.random.below(30));
        let name = if self.random.below(4) == 0 { "bob" } else { &name };
        let (port, id) = (5000 + self.random.below(3) as u16, self.random.below(50) as u16);
        let message = ask(id, name, [1, 28][self.random.below(2)]);
        *self.owed.entry((from.port, from.ip(V4), port, id)).or_default() += 1;
        let sent =
            self.lab.send(from.port, &udp(V4, from, gateway, (port, 53)).with_data(&message).frame()).sent;
        self.account(&sent);
    }

    /// An upstream answers: rightly, with a refusal, or what was not asked.
    fn hear(&mut self) {
        if self.asked.is_empty() {
            return;
        }
        let (upstream, port, question) = self.asked.swap_remove(self.random.below(self.asked.len()));
        let mut message = reply(&question, &[self.random.below(20) as u32], None, false);
        match self.random.below(6) {
            0 => message[3] |= 2,
            1 => message[0] ^= 1,
            2 => message[14] ^= 1,
            3 => message.truncate(self.random.below(30)),
            _ => {}
        }
        let packet = udp(V4, upstream, OURS, (53, port)).with_data(&message);
        let sent = self.lab.send(9, &packet.frame()).sent;
        self.account(&sent);
    }
}

#[test]
fn everybody_is_answered_once_and_nobody_else() {
    let mut lab = world(&policy());
    lab.apply(Change::SetDns(NET1, Some(config())));
    let (owed, asked) = (BTreeMap::new(), Vec::new());
    let mut town = Town { lab, random: Random(3), owed, asked, answered: 0 };
    for step in 0..1500 {
        if step % 100 == 0 {
            [ALICE, BOB, crate::world::OUTSIDE].into_iter().for_each(|party| introduce(&mut town.lab, party));
        }
        match town.random.below(8) {
            0..4 => town.ask(),
            4..7 => town.hear(),
            _ => {
                let pause = Duration::from_millis(town.random.below(1500) as u64);
                let sent = town.lab.wait(pause);
                town.account(&sent);
            }
        }
    }
    let sent = town.lab.wait(Duration::from_secs(30));
    town.account(&sent);
    let view = town.lab.switch.dns_view();
    assert_eq!(view.waiting, 0);
    // Who asked twice before the answer came has had one; nobody had none.
    assert!(town.answered > 400, "{}", town.answered);
    let cache = view.cache;
    assert!(cache.counters.hits > 10 && cache.entries > 0, "{cache:?}");
    let upstreams: Vec<_> = view.upstreams.iter().map(|(_, counters)| *counters).collect();
    assert!(upstreams.iter().all(|seen| {
        [seen.answers, seen.failures, seen.mismatched, seen.timeouts].iter().all(|count| *count > 0)
            && seen.queries == seen.answers + seen.failures + seen.timeouts
    }));
    assert!(town.lab.switch.port(PortId(9)).is_some());
}
