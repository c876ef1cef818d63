//! Questions by TCP: whole TCP stacks ask the gateway, and one is the upstream.

use std::net::SocketAddr;
use std::time::Duration;

use simple_dns::{Packet as Message, PacketFlag, RCODE};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;
use tapswitch::dataplane::dns::{Config, Name};
use tapswitch::dataplane::{Change, Interface, InterfaceAddress, NetworkConfig, NetworkId, PortId};
use tapswitch::wire::MacAddr;
use tapswitch::wire::ip::{Addr, Prefix};

use crate::common::host::{Host, Village};
use crate::common::lab::Lab;
use crate::samples::{ask, ask_edns, reply};
use crate::world::interface1;

const A: u16 = 1;
const NET: NetworkId = NetworkId(0);
/// The gateway's last number.
const GATEWAY: u8 = 254;
/// The hosts: two that ask, and the upstream.
const ALICE: usize = 0;
const BOB: usize = 1;
const UPSTREAM: usize = 2;

//  10.0.0.1 ── 1 ──┐
//  10.0.0.2 ── 2 ──┼── 10.0.0.254, which asks 10.0.0.3
//  10.0.0.3 ── 3 ──┘

fn village() -> Village {
    let mut lab = Lab::with(NetworkConfig::default(), &[1, 2, 3]);
    let address = Addr::v4([10, 0, 0, GATEWAY]);
    let addresses = vec![InterfaceAddress { address, prefix: Prefix::new(address, 24) }];
    let interface = Interface { addresses, mac: MacAddr([2, 0x42, 10, 0, 0, GATEWAY]), ..interface1() };
    lab.apply(Change::SetInterface(NET, Some(interface)));
    lab.apply(Change::SetDns(NET, Some(config())));
    let hosts = [1, 2, 3].map(|number| Host::new(number, number as u8, 7));
    Village::new(lab.switch, hosts.into())
}

fn config() -> Config {
    let web = Name { name: "web".into(), address: Addr::v4([10, 0, 0, 9]), reverse: true, known_to: None };
    let upstreams = vec![SocketAddr::from(([10, 0, 0, 3], 53))];
    Config { names: vec![web], upstreams, upstreams_of: Vec::new() }
}

/// With its length before it.
fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

/// A TCP connection that carries messages.
struct Line {
    host: usize,
    socket: SocketHandle,
    received: Vec<u8>,
}

impl Line {
    fn to_gateway(village: &mut Village, host: usize) -> Self {
        Self::new(host, village.hosts[host].connect(GATEWAY, 53))
    }

    fn new(host: usize, socket: SocketHandle) -> Self {
        Self { host, socket, received: Vec::new() }
    }

    fn send(&self, hosts: &mut [Host], bytes: &[u8]) {
        assert_eq!(hosts[self.host].tcp(self.socket).send_slice(bytes), Ok(bytes.len()));
    }

    fn state(&self, hosts: &mut [Host]) -> State {
        hosts[self.host].tcp(self.socket).state()
    }

    /// The next message, if it is whole.
    fn receive(&mut self, hosts: &mut [Host]) -> Option<Vec<u8>> {
        let socket = hosts[self.host].tcp(self.socket);
        while socket.can_recv() {
            self.received.extend(socket.recv(|bytes| (bytes.len(), bytes.to_vec())).unwrap());
        }
        let length = usize::from(u16::from_be_bytes(*self.received.first_chunk()?));
        let message = self.received.get(2..2 + length)?.to_vec();
        self.received.drain(..2 + length);
        Some(message)
    }

    /// Asks when the connection stands, and gives so many answers in the order in which they come.
    fn ask(&mut self, village: &mut Village, bytes: &[u8], answers: usize) -> Vec<Vec<u8>> {
        let (mut asked, mut said) = (false, Vec::new());
        village.run(|hosts| {
            if !asked && hosts[self.host].tcp(self.socket).may_send() {
                self.send(hosts, bytes);
                asked = true;
            }
            said.extend(std::iter::from_fn(|| self.receive(hosts)));
            said.len() >= answers
        });
        said
    }
}

/// Runs until nothing is left to be done; the time that took.
fn settles(village: &mut Village) -> Duration {
    let before = village.now;
    let mut rounds = 0;
    while village.switch.dns_view().connections > 0 || village.switch.dns_view().waiting > 0 {
        village.step();
        rounds += 1;
        assert!(rounds < 10_000, "{:?}", village.switch.dns_view());
    }
    village.now.since(before)
}

#[test]
fn several_questions_in_one_connection() {
    let mut village = village();
    let mut line = Line::to_gateway(&mut village, ALICE);
    let bytes =
        [framed(&ask(1, "web", A)), framed(&ask(2, "WEB", 28)), framed(&[0; 5]), framed(&ask(3, "web", A))];
    let said = line.ask(&mut village, &bytes.concat(), 3);
    let read: Vec<_> = said.iter().map(|message| Message::parse(message).unwrap()).collect();
    assert_eq!(
        read.iter().map(|message| (message.id(), message.answers.len())).collect::<Vec<_>>(),
        [(1, 1), (2, 0), (3, 1)]
    );
    // And more of them later, byte by byte.
    for byte in framed(&ask(4, "web", A)) {
        let mut sent = false;
        village.run(|hosts| {
            if !sent {
                line.send(hosts, &[byte]);
                sent = true;
                return false;
            }
            hosts[ALICE].tcp(line.socket).send_queue() == 0
        });
    }
    let said = line.ask(&mut village, &[], 1);
    assert_eq!(Message::parse(&said[0]).unwrap().id(), 4);
    village.hosts[ALICE].tcp(line.socket).close();
    village.run(|hosts| matches!(line.state(hosts), State::TimeWait | State::Closed));
    assert_eq!(village.switch.dns_view().connections, 0);
}

/// What an upstream does about one question by UDP, and about one by TCP.
struct Upstream {
    udp: SocketHandle,
    lines: Vec<Line>,
    /// Questions that came: by UDP, by TCP.
    asked: [usize; 2],
}

impl Upstream {
    fn new(village: &mut Village, tcp: bool) -> Self {
        let host = &mut village.hosts[UPSTREAM];
        let udp = host.bind(53);
        let lines =
            if tcp { (0..4).map(|_| Line::new(UPSTREAM, host.listen(53))).collect() } else { Vec::new() };
        Self { udp, lines, asked: [0; 2] }
    }

    /// Cuts every answer by UDP, and gives a long one by TCP.
    fn run(&mut self, hosts: &mut [Host]) {
        if let Ok((question, to)) =
            hosts[UPSTREAM].udp(self.udp).recv().map(|(bytes, to)| (bytes.to_vec(), to))
        {
            self.asked[0] += 1;
            let mut answer = reply(&question, &[], None, false);
            answer[2] |= 2;
            hosts[UPSTREAM].udp(self.udp).send_slice(&answer, to.endpoint).unwrap();
        }
        for line in &mut self.lines {
            if let Some(question) = line.receive(hosts) {
                self.asked[1] += 1;
                line.send(hosts, &framed(&reply(&question, &[60; 200], None, false)));
            }
            if line.state(hosts) == State::CloseWait {
                hosts[UPSTREAM].tcp(line.socket).close();
            }
        }
    }
}

/// Asks by TCP while the upstream does its work; so many answers.
fn ask_with(
    village: &mut Village,
    upstream: &mut Upstream,
    line: &mut Line,
    bytes: &[u8],
    answers: usize,
) -> Vec<Vec<u8>> {
    let (mut asked, mut said) = (false, Vec::new());
    village.run(|hosts| {
        if !asked && hosts[line.host].tcp(line.socket).may_send() {
            line.send(hosts, bytes);
            asked = true;
        }
        upstream.run(hosts);
        said.extend(std::iter::from_fn(|| line.receive(hosts)));
        said.len() >= answers
    });
    said
}

#[test]
fn what_an_upstream_cuts_is_asked_again_by_tcp() {
    let mut village = village();
    let mut upstream = Upstream::new(&mut village, true);
    let mut line = Line::to_gateway(&mut village, ALICE);
    let question = ask(7, "Example.com", A);
    let said = ask_with(&mut village, &mut upstream, &mut line, &framed(&question), 1);
    let read = Message::parse(&said[0]).unwrap();
    assert_eq!((read.id(), read.answers.len()), (7, 201));
    assert_eq!(read.questions[0].qname.to_string(), "Example.com");
    assert!(!read.has_flags(PacketFlag::TRUNCATION));
    assert_eq!(upstream.asked, [1, 1]);
    let view = village.switch.dns_view();
    assert_eq!((view.upstreams[0].1.queries, view.upstreams[0].1.answers, view.waiting), (2, 2, 0));
    // It is kept, for bob too, and by UDP he is told to come by TCP.
    let mut bobs = Line::to_gateway(&mut village, BOB);
    let said = bobs.ask(&mut village, &framed(&ask(8, "example.com", A)), 1);
    assert_eq!(Message::parse(&said[0]).unwrap().answers.len(), 201);
    assert_eq!((upstream.asked, village.switch.dns_view().cache.counters.hits), ([1, 1], 1));
    let udp = village.hosts[BOB].bind(5000);
    let gateway = SocketAddr::from(([10, 0, 0, GATEWAY], 53));
    village.hosts[BOB].udp(udp).send_slice(&ask_edns(9, "example.com", A, 1400), gateway).unwrap();
    let mut heard = None;
    village.run(|hosts| {
        let got = hosts[BOB].udp(udp).recv().ok().map(|(bytes, _)| bytes.to_vec());
        heard = heard.take().or(got);
        heard.is_some()
    });
    assert!(Message::parse(&heard.unwrap()).unwrap().has_flags(PacketFlag::TRUNCATION));
    settles(&mut village);
}

#[test]
fn an_upstream_without_tcp_is_of_no_help() {
    let mut village = village();
    let mut upstream = Upstream::new(&mut village, false);
    let mut line = Line::to_gateway(&mut village, ALICE);
    let said = ask_with(&mut village, &mut upstream, &mut line, &framed(&ask(7, "example.com", A)), 1);
    assert_eq!(Message::parse(&said[0]).unwrap().rcode(), RCODE::ServerFailure);
    let counters = village.switch.dns_view().upstreams[0].1;
    assert_eq!((counters.queries, counters.failures, counters.timeouts), (2, 1, 0));
}

#[test]
fn questions_overtake_each_other() {
    let mut village = village();
    let mut line = Line::to_gateway(&mut village, ALICE);
    // Nobody is there to be asked.
    let bytes = [framed(&ask(1, "example.com", A)), framed(&ask(2, "web", A))].concat();
    let said = line.ask(&mut village, &bytes, 2);
    let read: Vec<_> = said.iter().map(|message| Message::parse(message).unwrap()).collect();
    assert_eq!(
        read.iter().map(|message| (message.id(), message.rcode())).collect::<Vec<_>>(),
        [(2, RCODE::NoError), (1, RCODE::ServerFailure)]
    );
}

#[test]
fn who_is_silent_is_hung_up_on() {
    let mut village = village();
    let line = Line::to_gateway(&mut village, ALICE);
    village.run(|hosts| line.state(hosts) == State::Established);
    let opened = village.now;
    village.run(|hosts| line.state(hosts) == State::CloseWait);
    assert!((10..11).contains(&village.now.since(opened).as_secs()));
    // Alice never closes her side, and is forgotten.
    assert!((10..11).contains(&settles(&mut village).as_secs()));
    // A question that is never whole does not help.
    let line = Line::to_gateway(&mut village, BOB);
    let mut asked = false;
    village.run(|hosts| {
        if !asked && hosts[BOB].tcp(line.socket).may_send() {
            line.send(hosts, &framed(&ask(7, "web", A))[..9]);
            asked = true;
        }
        line.state(hosts) == State::CloseWait
    });
}

#[test]
fn nobody_has_too_many_connections() {
    let mut village = village();
    let mut lines: Vec<_> = (0..20).map(|_| Line::to_gateway(&mut village, ALICE)).collect();
    village.run(|hosts| lines.iter().all(|line| line.state(hosts) != State::SynSent));
    let open: Vec<_> =
        lines.iter().map(|line| line.state(&mut village.hosts) == State::Established).collect();
    assert_eq!(open.iter().filter(|open| **open).count(), 16);
    assert_eq!(village.switch.dns_view().connections, 16);
    let mut bobs = Line::to_gateway(&mut village, BOB);
    assert_eq!(bobs.ask(&mut village, &framed(&ask(7, "web", A)), 1).len(), 1);
    // Who goes leaves nothing behind.
    let now = village.now;
    village.switch.apply(now, Change::RemovePort(PortId(2))).unwrap();
    assert_eq!(village.switch.dns_view().connections, 16);
    village.switch.apply(now, Change::SetDns(NET, None)).unwrap();
    assert_eq!(village.switch.dns_view().connections, 0);
    assert!(lines.pop().is_some());
}

#[test]
fn nobody_says_more_than_a_question() {
    let mut village = village();
    let line = Line::to_gateway(&mut village, ALICE);
    let mut asked = false;
    village.run(|hosts| {
        if !asked && hosts[ALICE].tcp(line.socket).may_send() {
            line.send(hosts, &framed(&[7; 5000]));
            asked = true;
        }
        line.state(hosts) == State::Closed
    });
    assert_eq!(village.switch.dns_view().connections, 0);
}

#[test]
fn who_does_not_read_is_not_answered_for_ever() {
    let mut village = village();
    let mut upstream = Upstream::new(&mut village, true);
    let mut line = Line::to_gateway(&mut village, ALICE);
    ask_with(&mut village, &mut upstream, &mut line, &framed(&ask(7, "example.com", A)), 1);
    // A thousand questions with answers of 3 KiB each, and nobody reads.
    let questions = framed(&ask(8, "example.com", A)).repeat(1000);
    let mut rest = &questions[..];
    let until = village.now + Duration::from_secs(120);
    let mut rounds = 0;
    while village.now < until && village.switch.dns_view().connections > 0 && rounds < 1000 {
        let sent = village.hosts[ALICE].tcp(line.socket).send_slice(rest).unwrap_or_default();
        rest = &rest[sent..];
        village.step();
        rounds += 1;
    }
    assert_eq!(village.switch.dns_view().connections, 0);
    let local = village.switch.dns_view().cache.counters.hits;
    assert!((10..100).contains(&local), "{local} questions were read");
}

#[test]
fn conversations_are_the_same_on_every_run() {
    let traces = [(); 2].map(|()| {
        let mut village = village();
        let mut upstream = Upstream::new(&mut village, true);
        let mut line = Line::to_gateway(&mut village, ALICE);
        ask_with(&mut village, &mut upstream, &mut line, &framed(&ask(7, "example.com", A)), 1);
        settles(&mut village);
        village.trace
    });
    assert!(traces[0] == traces[1]);
}
