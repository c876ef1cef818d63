//! A frame's way in words: what every stage found, which entries and rules decided, and the bytes before
//! and after.

use serde::{Deserialize, Serialize};

use super::conntrack::conntrack_line;
use super::known::{ConntrackRow, kind_name, protocol_name};
use super::name_words::name_words;
use super::names::Names;
use super::rule_words::{endpoint, rule_words};
use super::rules::state_names;
use crate::dataplane::conntrack::{Direction, Tuple};
use crate::dataplane::decision::Tell;
use crate::dataplane::filter::{FilterVerdict, Trace};
use crate::dataplane::icmp_error::ErrorKind;
use crate::dataplane::neighbour::Resolution;
use crate::dataplane::preview::{Leaving, Preview};
use crate::dataplane::routes::{Kind, RouteEntry};
use crate::dataplane::rules::{FilterHook, NatHook, RejectWith};
use crate::dataplane::{Frame, Instant, Learned, PortId, Step, Switch, Verdict};
use crate::wire::Offload;
use crate::wire::arp::{Arp, Operation};
use crate::wire::ethernet::{self, HEADER_LEN};
use crate::wire::ip::{Addr, Version};
use crate::wire::packet::{Packet, Transport};

/// Bytes that are shown of a frame, as text.
const SHOWN: usize = 256;
/// Bytes on a line.
const LINE: usize = 32;

/// A line of an explanation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageRow {
    /// The stage; `rule` is one that the stage above it asked, and that matched.
    pub stage: String,
    /// What it found.
    pub words: String,
    /// Where the frame is before it enters or after it leaves: the port's name.
    pub port: Option<String>,
    /// Its bytes there, in hexadecimal.
    pub hex: Option<String>,
}

/// What would become of a frame, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The stages in order.
    pub rows: Vec<StageRow>,
    /// Whether it would get anywhere.
    pub delivered: bool,
}

impl Explanation {
    /// As text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for row in &self.rows {
            let StageRow { stage, words, .. } = row;
            match stage.as_str() {
                "rule" => text.push_str(&format!("{:14}{words}\n", "")),
                stage => text.push_str(&format!("{stage:<12}{words}\n")),
            }
            if let Some(hex) = &row.hex {
                hex_lines(hex, &mut text);
            }
        }
        text
    }
}

fn hex_lines(hex: &str, text: &mut String) {
    let bytes = hex.len() / 2;
    let shown = hex.get(..hex.len().min(2 * SHOWN)).unwrap_or(hex);
    for (number, line) in shown.as_bytes().chunks(2 * LINE).enumerate() {
        let groups: Vec<String> =
            line.chunks(8).map(|group| String::from_utf8_lossy(group).into_owned()).collect();
        text.push_str(&format!("{:14}{:04x}  {}\n", "", number * LINE, groups.join(" ")));
    }
    if bytes > SHOWN {
        text.push_str(&format!("{:14}and {} bytes more, which --json has\n", "", bytes - SHOWN));
    }
}

/// Explains what would become of a frame that came in by a port now. Changes nothing.
pub fn explain(switch: &Switch, now: Instant, from: PortId, frame: &Frame, names: &Names) -> Explanation {
    let mut steps = Vec::new();
    let preview = switch.preview(now, from, frame, &mut steps);
    let mut writer = Writer {
        switch,
        names,
        from,
        preview: &preview,
        version: Version::V4,
        tuple: None,
        rows: Vec::new(),
    };
    let hex = hex(frame.bytes());
    for step in &steps {
        writer.step(step);
        if let Step::Received { .. } = step
            && let Some(row) = writer.rows.last_mut()
        {
            (row.port, row.hex) = (Some(names.port(from)), Some(hex.clone()));
        }
    }
    writer.leaving();
    Explanation { rows: writer.rows, delivered: !matches!(preview.verdict, Verdict::Drop(_)) }
}

/// A row that no stage has made.
pub fn remark(stage: &str, words: String) -> StageRow {
    StageRow { stage: stage.to_owned(), words, port: None, hex: None }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Writer<'a> {
    switch: &'a Switch,
    names: &'a Names,
    from: PortId,
    preview: &'a Preview,
    /// Of the packet's rules.
    version: Version,
    /// The packet's tuple so far.
    tuple: Option<Tuple>,
    rows: Vec<StageRow>,
}

impl Writer<'_> {
    fn say(&mut self, stage: &str, words: String) {
        self.rows.push(remark(stage, words));
    }

    /// The rules of a walk.
    fn rules(&mut self, trace: &Trace) {
        for matched in self.switch.rules(self.version).describe(trace) {
            let words = rule_words(&matched, |id| self.names.bridge(id));
            self.rows.push(remark("rule", words));
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Received { port, len, segments } => {
                let more = if *segments > 1 {
                    format!(", a super-frame of {segments} segments")
                } else {
                    String::new()
                };
                self.say("received", format!("{len} bytes by {}{more}", self.names.port(*port)));
            }
            Step::Parsed { source, destination, ethertype, tags } => {
                let gateway =
                    self.switch.port(self.from).and_then(|port| self.switch.interface(port.network));
                let is_gateway = gateway.is_some_and(|gateway| gateway.mac == *destination);
                let whose = if is_gateway { " (the gateway)" } else { "" };
                let tags = if *tags > 0 { format!(", {tags} VLAN tags") } else { String::new() };
                self.say(
                    "ethernet",
                    format!("{source} > {destination}{whose}, {}{tags}", ethertype_name(*ethertype)),
                );
            }
            Step::Learn(learned) => self.say("fdb", learned_words(*learned, self.names)),
            Step::Lookup(mac, behind) => {
                let words = match behind {
                    Some(port) => format!("{mac} lies behind {}", self.names.port(*port)),
                    None => format!("{mac} is not known: to all ports"),
                };
                self.say("fdb", words);
            }
            Step::Packet(packet) => {
                self.version = packet.version;
                self.say("packet", packet_words(packet, self.names));
            }
            Step::Remembered(direction) => self.remembered(*direction),
            Step::Flow(tuple, states) => {
                self.tuple = Some(*tuple);
                let flow = self.flow().unwrap_or_else(|| "no such flow yet".to_owned());
                self.say("conntrack", format!("{}: {flow}", state_names(*states)));
            }
            Step::Nat(hook, trace, tuple) => {
                let words = self.nat_words(*hook, tuple);
                self.say("nat", words);
                self.tuple = Some(*tuple);
                self.rules(trace);
            }
            Step::Route(to, entry) => self.say("route", route_words(*to, *entry, self.names)),
            Step::Filter(hook, trace, verdict) => {
                self.say("filter", filter_words(*hook, *verdict));
                self.rules(trace);
            }
            Step::Neighbour(hop, resolution) => {
                self.say("neighbour", neighbour_words(*hop, *resolution, self.names))
            }
            Step::Tell(tell) => self.say("answer", tell_words(*tell)),
            Step::Verdict(verdict) => {
                if let Some(naming) = &self.preview.naming {
                    self.say("names", name_words(naming, self.names));
                }
                let words = self.verdict_words(*verdict);
                self.say("verdict", words);
            }
        }
    }

    fn flow(&self) -> Option<String> {
        let flow = self.preview.flow.as_ref()?;
        Some(conntrack_line(&ConntrackRow::new(flow, None, self.names)).trim_end().to_owned())
    }

    fn remembered(&mut self, direction: Direction) {
        let way = match direction {
            Direction::Original => "in its original direction",
            Direction::Reply => "in the direction of its answers",
        };
        let flow = self.flow().unwrap_or_default();
        self.say("conntrack", format!("ESTABLISHED, {way}, and its way is remembered: {flow}"));
        if let Some((network, _)) = self.preview.way {
            self.say("route", format!("as remembered, by {}", self.names.network(network)));
        }
        if let Some(path) = self.preview.path {
            self.say("filter", "FORWARD let its flow pass, as remembered".to_owned());
            self.rules(&path);
        }
    }

    fn nat_words(&self, hook: NatHook, after: &Tuple) -> String {
        let chain = match hook {
            NatHook::Prerouting => "PREROUTING",
            NatHook::Input => "INPUT",
            NatHook::Output => "OUTPUT",
            NatHook::Postrouting => "POSTROUTING",
        };
        let before = self.tuple.unwrap_or(*after);
        let end = |address: Addr, port: u16| {
            let ports = (port != 0).then_some((port, port));
            let whose = self.names.host(address).map_or_else(String::new, |host| format!(" ({host})"));
            format!("{}{whose}", endpoint(address, ports))
        };
        let mut changes = Vec::new();
        if (before.destination, before.destination_port) != (after.destination, after.destination_port) {
            changes
                .push(format!("the destination becomes {}", end(after.destination, after.destination_port)));
        }
        if (before.source, before.source_port) != (after.source, after.source_port) {
            changes.push(format!("the source becomes {}", end(after.source, after.source_port)));
        }
        if changes.is_empty() {
            changes.push("nothing is translated".to_owned());
        }
        format!("{chain}: {}", changes.join(", "))
    }

    fn verdict_words(&self, verdict: Verdict) -> String {
        let names = self.names;
        match verdict {
            Verdict::ToPort(port) => format!("bridged to {}", names.port(port)),
            Verdict::Flood(network) if self.preview.way.is_some() => {
                format!("routed to all ports of {}", names.network(network))
            }
            Verdict::Flood(network) => format!("flooded to all others on {}", names.network(network)),
            Verdict::Routed(port) => format!("routed to {}", names.port(port)),
            Verdict::Local => "for the gateway itself".to_owned(),
            Verdict::Held => match self.preview.waiting.first() {
                Some(waiting) => format!(
                    "waits for the MAC address of {} on {}, and is sent when that is known",
                    names.address(waiting.hop),
                    names.network(waiting.network)
                ),
                None => "waits for the other fragments of its packet".to_owned(),
            },
            Verdict::Drop(reason) => format!("dropped ({}): {}", reason.name(), reason.sentence()),
        }
    }

    /// What leaves, each different frame once; and what waits.
    fn leaving(&mut self) {
        let sent = &self.preview.sent;
        let mut at = 0;
        while let Some(first) = sent.get(at) {
            let alike =
                |leaving: &&Leaving| (&leaving.bytes, leaving.offload) == (&first.bytes, first.offload);
            let ports: Vec<String> =
                sent.iter().skip(at).take_while(alike).map(|leaving| self.names.port(leaving.to)).collect();
            at += ports.len();
            let what = frame_words(&first.bytes, &first.offload, self.names);
            let ports = ports.join(", ");
            let words = format!("leaves by {ports}: {what}");
            self.rows.push(StageRow {
                port: Some(ports),
                hex: Some(hex(&first.bytes)),
                ..remark("out", words)
            });
        }
        for waiting in &self.preview.waiting {
            let what = frame_words(&waiting.bytes, &Offload::NONE, self.names);
            let words = format!("will leave by {}: {what}", self.names.network(waiting.network));
            self.rows.push(StageRow { hex: Some(hex(&waiting.bytes)), ..remark("later", words) });
        }
    }
}

fn ethertype_name(ethertype: u16) -> String {
    match ethertype {
        ethernet::IPV4 => "IPv4".to_owned(),
        ethernet::IPV6 => "IPv6".to_owned(),
        ethernet::ARP => "ARP".to_owned(),
        other => format!("type 0x{other:04x}"),
    }
}

fn learned_words(learned: Learned, names: &Names) -> String {
    match learned {
        Learned::Known | Learned::Refreshed => "the source is known behind this port".to_owned(),
        Learned::Moved(from) => format!("the source was behind {}, and is learned anew", names.port(from)),
        Learned::New => "the source is seen for the first time, and learned".to_owned(),
        Learned::Static => "the source has a static entry for another port, which stays".to_owned(),
        Learned::Off => "the source is not learned: learning is off".to_owned(),
    }
}

/// A whole frame in a few words.
fn frame_words(bytes: &[u8], offload: &Offload, names: &Names) -> String {
    let Ok(header) = ethernet::Header::parse(bytes) else { return format!("{} bytes", bytes.len()) };
    let link = format!("{} > {}", header.source, header.destination);
    let packet =
        header.ip_version().and_then(|version| Packet::parse(bytes, HEADER_LEN, version, offload).ok());
    let arp = bytes.get(HEADER_LEN..).filter(|_| header.ethertype == ethernet::ARP);
    let arp = arp.and_then(|packet| Arp::parse(packet).ok());
    match (packet, arp) {
        (Some(packet), _) => format!("{link}, {}", packet_words(&packet, names)),
        (None, Some(arp)) => {
            let (sender, target) = (names.address(arp.sender), names.address(arp.target));
            let what = if arp.operation == Operation::Request { "request" } else { "reply" };
            format!("{link}, ARP {what} of {sender} to {target}")
        }
        _ => format!("{link}, {}", ethertype_name(header.ethertype)),
    }
}

fn packet_words(packet: &Packet, names: &Names) -> String {
    let what = match &packet.payload {
        Transport::Tcp(tcp) => {
            let flags = [(2, "SYN"), (1, "FIN"), (4, "RST"), (8, "PSH"), (16, "ACK")];
            let flags = flags.iter().filter(|(bit, _)| tcp.flags & bit != 0).map(|(_, name)| *name);
            let flags: Vec<&str> = flags.collect();
            format!("tcp {} > {} {}", tcp.source, tcp.destination, flags.join(","))
        }
        Transport::Udp(udp) => format!("udp {} > {}", udp.source, udp.destination),
        Transport::Query { kind: 8 | 128, id, .. } => format!("echo request, id {id}"),
        Transport::Query { kind: 0 | 129, id, .. } => format!("echo reply, id {id}"),
        Transport::Query { kind, id, .. } => format!("icmp query of type {kind}, id {id}"),
        Transport::Error { kind, code, quote, .. } => {
            let (from, to) = (names.address(quote.source), names.address(quote.destination));
            format!("icmp error {kind}/{code} about {from} > {to}")
        }
        Transport::Icmp { kind, code } => format!("icmp {kind}/{code}"),
        Transport::Other => protocol_words(packet.protocol),
        Transport::LaterFragment => format!("a later fragment, {}", protocol_words(packet.protocol)),
    };
    let version = if packet.version == Version::V4 { "IPv4" } else { "IPv6" };
    let (source, destination) = (names.address(packet.source), names.address(packet.destination));
    let piece = match &packet.fragment {
        Some(fragment) => format!(", fragment {} at byte {}", fragment.id, fragment.offset),
        None => String::new(),
    };
    let (ttl, len) = (packet.ttl, packet.end - packet.start);
    format!("{version} {source} > {destination}, {what}, ttl {ttl}, {len} bytes{piece}")
}

fn protocol_words(number: u8) -> String {
    protocol_name(number).map_or_else(|| format!("protocol {number}"), str::to_owned)
}

fn route_words(to: Addr, entry: Option<RouteEntry>, names: &Names) -> String {
    let whom = names.address(to);
    let Some(RouteEntry { prefix, kind, interface, via, .. }) = entry else {
        return format!("no route leads to {whom}");
    };
    let network = names.network(interface);
    match (kind, via) {
        (Kind::Local, _) => format!("{whom} is ours, on {network}"),
        (Kind::Broadcast, _) => format!("{whom} is the broadcast address of {network}"),
        (_, Some(via)) => {
            format!("{whom} by {prefix} ({}), via {} on {network}", kind_name(kind), names.address(via))
        }
        (_, None) => format!("{whom} by {prefix} ({}), on {network}", kind_name(kind)),
    }
}

fn filter_words(hook: FilterHook, verdict: FilterVerdict) -> String {
    let chain = match hook {
        FilterHook::Input => "INPUT",
        FilterHook::Forward => "FORWARD",
        FilterHook::Output => "OUTPUT",
    };
    let says = match verdict {
        FilterVerdict::Accept => "ACCEPT".to_owned(),
        FilterVerdict::Drop(reason) => format!("DROP ({})", reason.name()),
        FilterVerdict::Reject(RejectWith::PortUnreachable) => "REJECT, as if nobody listened".to_owned(),
        FilterVerdict::Reject(RejectWith::TcpReset) => "REJECT, by a reset".to_owned(),
    };
    format!("{chain}: {says}")
}

fn neighbour_words(hop: Addr, resolution: Resolution, names: &Names) -> String {
    let whom = names.address(hop);
    match resolution {
        Resolution::Known(_, mac) => format!("{whom} is at {mac}"),
        Resolution::Wait => format!("{whom} is not known yet, and is asked for"),
        Resolution::Fail(reason) => {
            format!("{whom} is not asked for ({}): {}", reason.name(), reason.sentence())
        }
    }
}

fn tell_words(tell: Tell) -> String {
    let what = match tell {
        Tell::Reset => return "its sender gets a TCP reset".to_owned(),
        Tell::Error(kind) => match kind {
            ErrorKind::TimeExceeded => "time exceeded".to_owned(),
            ErrorKind::ReassemblyTimeout => "fragment reassembly time exceeded".to_owned(),
            ErrorKind::NetUnreachable => "network unreachable".to_owned(),
            ErrorKind::HostUnreachable => "host unreachable".to_owned(),
            ErrorKind::ProtocolUnreachable => "protocol unreachable".to_owned(),
            ErrorKind::PortUnreachable => "port unreachable".to_owned(),
            ErrorKind::AdminProhibited => "administratively prohibited".to_owned(),
            ErrorKind::FragmentationNeeded { mtu } => {
                format!("packet too big, the next network takes {mtu} bytes")
            }
            ErrorKind::ParameterProblem { pointer } => format!("parameter problem at byte {pointer}"),
        },
    };
    format!("its sender is told: {what}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::compile::changes;
    use crate::control::plausible::{Errand, plausible};
    use crate::control::show::tests::model;
    use crate::wire::MacAddr;

    /// The switch of a model, at its beginning.
    fn explained(from: &str, to: &str, errand: Errand) -> Explanation {
        let mut model = model();
        model.publish("router", &"0.0.0.0:8000:80".parse().unwrap()).unwrap();
        let mut switch = Switch::new(7);
        changes(&model).into_iter().for_each(|change| switch.apply(Instant(0), change).unwrap());
        let made = plausible(&model, from, to, errand).unwrap();
        let frame = Frame::from_bytes(&made.frame(Some(MacAddr([2; 6]))));
        explain(&switch, Instant(0), made.port, &frame, &Names::of(&model))
    }

    #[test]
    fn isolation_in_words() {
        let explanation = explained("alice", "172.20.0.2", Errand::Tcp(80));
        assert!(!explanation.delivered);
        let expected = "\
received    54 bytes by alice
              0000  0242ac13 00010242 ac130002 08004500 00280000 40004006 e2a4ac13 0002ac14
              0020  0002c000 00500000 00010000 00005002 faf09c74 0000
ethernet    02:42:ac:13:00:02 > 02:42:ac:13:00:01 (the gateway), IPv4
fdb         the source is seen for the first time, and learned
packet      IPv4 172.19.0.2 (alice) > 172.20.0.2 (router), tcp 49152 > 80 SYN, ttl 64, 40 bytes
conntrack   NEW: no such flow yet
nat         PREROUTING: nothing is translated
              nat PREROUTING: policy
route       172.20.0.2 (router) by 172.20.0.0/16 (connected), on net2
filter      FORWARD: DROP (isolated)
              filter FORWARD 1: -j DOCKER-ISOLATION
              filter DOCKER-ISOLATION 2: -i br-010101010101 -o br-020202020202 -j DROP
verdict     dropped (isolated): Networks are isolated from each other (DOCKER-ISOLATION).
";
        assert_eq!(explanation.text(), expected);
        let [first, last] = [explanation.rows.first(), explanation.rows.last()].map(Option::unwrap);
        assert_eq!((first.port.as_deref(), first.hex.as_ref().map(String::len)), (Some("alice"), Some(108)));
        assert_eq!((last.stage.as_str(), &last.port, &last.hex), ("verdict", &None, &None));
    }

    #[test]
    fn the_gateways_answer_in_words() {
        let explanation = explained("alice", "172.19.0.1", Errand::Ping);
        assert!(explanation.delivered);
        let text = explanation.text();
        for line in [
            "route       172.19.0.1 (gateway of net1) is ours, on net1\n",
            "filter      INPUT: ACCEPT\n              filter INPUT: policy\n",
            "verdict     for the gateway itself\nout         leaves by alice: 02:42:ac:13:00:01 > ",
            "IPv4 172.19.0.1 (gateway of net1) > 172.19.0.2 (alice), echo reply, id 49152, ttl 64, 84 bytes\n",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        let text = explained("alice", "172.19.0.1", Errand::Udp(54)).text();
        assert!(text.contains("answer      its sender is told: port unreachable\n"), "{text}");
        assert!(
            text.contains("icmp error 3/3 about 172.19.0.2 (alice) > 172.19.0.1 (gateway of net1)"),
            "{text}"
        );
    }

    #[test]
    fn what_a_gateway_would_make_of_a_question() {
        let asked = |name: &str| explained("alice", "172.19.0.1", Errand::Name(name.to_owned()));
        for (name, words) in [
            ("Router", "'router' is a name of this network: its gateway answers"),
            ("web.example", "'web.example' is unknown here, and nobody else is asked (SERVFAIL): "),
        ] {
            let explanation = asked(name);
            let text = explanation.text();
            assert!(explanation.delivered && text.contains(&format!("names       {words}")), "{text}");
            assert!(text.contains("out         leaves by alice: "), "it is told: {text}");
        }
        // What is no question is none.
        let text = explained("alice", "172.19.0.1", Errand::Udp(53)).text();
        assert!(text.contains("dropped (not_a_question)") && !text.contains("names  "), "{text}");
    }

    #[test]
    fn long_frames_are_cut_in_text_only() {
        let mut text = String::new();
        hex_lines(&"ab".repeat(300), &mut text);
        assert_eq!(text.lines().count(), 9);
        assert!(text.ends_with("and 44 bytes more, which --json has\n"));
    }
}
