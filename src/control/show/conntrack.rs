//! Flows as conntrack-tools print them: `conntrack -L`, `-E`, `-D`.
//!
//! The fields are those of libnetfilter_conntrack's default format. Of an ICMP query only the identifier is
//! kept, so that every one is shown as an echo.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::known::{ConntrackRow, protocol_name};
use crate::dataplane::conntrack::EventKind;
use crate::wire::ip::protocol;

/// What a watcher of flows is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowNews {
    /// Something happened to a flow.
    Event(Box<FlowEventRow>),
    /// So much more happened, and could not be told in time.
    Lost(u64),
}

/// Something that happened to a flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowEventRow {
    /// `new`, `update`, `destroy`.
    pub event: String,
    /// The flow as it was then.
    #[serde(flatten)]
    pub flow: ConntrackRow,
}

impl FlowEventRow {
    /// An event, as shown.
    pub fn new(kind: EventKind, flow: ConntrackRow) -> Self {
        let event = match kind {
            EventKind::New => "new",
            EventKind::Update => "update",
            EventKind::Destroy => "destroy",
        };
        Self { event: event.to_owned(), flow }
    }
}

/// A line of `conntrack -L` and of `conntrack -D`.
pub fn conntrack_line(row: &ConntrackRow) -> String {
    let mut words = words(row, true);
    words.extend(["mark=0".to_owned(), "use=1".to_owned()]);
    format!("{}\n", words.join(" "))
}

/// A line of `conntrack -E`. A flow that has left because its time was up has none to be shown.
pub fn conntrack_event_line(row: &FlowEventRow) -> String {
    let words = words(&row.flow, row.event != "destroy" || row.flow.timeout > 0).join(" ");
    format!("{:>9} {words}\n", format!("[{}]", row.event.to_uppercase()))
}

fn words(row: &ConntrackRow, timeout: bool) -> Vec<String> {
    let name = protocol_name(row.protonum).unwrap_or("unknown");
    let mut words = vec![format!("{name:<8} {}", row.protonum)];
    words.extend(timeout.then(|| row.timeout.to_string()));
    words.extend(Some(row.state.clone()).filter(|state| !state.is_empty()));
    let (asks, answers) = if row.protonum == protocol::ICMPV6 { (128, 129) } else { (8, 0) };
    words.extend(tuple([row.src, row.dst], [row.sport, row.dport], row.icmp_id.map(|id| (asks, id))));
    words.extend(row.unreplied.then(|| "[UNREPLIED]".to_owned()));
    let reply = ([row.reply_src, row.reply_dst], [row.reply_sport, row.reply_dport]);
    words.extend(tuple(reply.0, reply.1, row.reply_icmp_id.map(|id| (answers, id))));
    words.extend(row.assured.then(|| "[ASSURED]".to_owned()));
    words
}

fn tuple([src, dst]: [IpAddr; 2], ports: [Option<u16>; 2], query: Option<(u8, u16)>) -> Vec<String> {
    let mut words = vec![format!("src={src}"), format!("dst={dst}")];
    if let [Some(sport), Some(dport)] = ports {
        words.extend([format!("sport={sport}"), format!("dport={dport}")]);
    }
    if let Some((kind, id)) = query {
        words.extend([format!("type={kind}"), "code=0".to_owned(), format!("id={id}")]);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(proto: &str, protonum: u8) -> ConntrackRow {
        ConntrackRow {
            proto: proto.to_owned(),
            protonum,
            state: String::new(),
            timeout: 29,
            src: [10, 1, 0, 2].into(),
            sport: None,
            dst: [198, 51, 100, 1].into(),
            dport: None,
            reply_src: [198, 51, 100, 1].into(),
            reply_sport: None,
            reply_dst: [203, 0, 113, 2].into(),
            reply_dport: None,
            icmp_id: None,
            reply_icmp_id: None,
            packets: 1,
            bytes: 60,
            reply_packets: 0,
            reply_bytes: 0,
            unreplied: true,
            assured: false,
            network: "net1".to_owned(),
            host_socket: String::new(),
        }
    }

    #[test]
    fn lines_are_those_of_conntrack_tools() {
        let mut tcp = row("tcp", 6);
        (tcp.sport, tcp.dport, tcp.reply_sport, tcp.reply_dport) =
            (Some(4444), Some(80), Some(80), Some(4444));
        (tcp.state, tcp.timeout, tcp.unreplied, tcp.assured) =
            ("ESTABLISHED".to_owned(), 431_999, false, true);
        assert_eq!(
            conntrack_line(&tcp),
            "tcp      6 431999 ESTABLISHED src=10.1.0.2 dst=198.51.100.1 sport=4444 dport=80 \
             src=198.51.100.1 dst=203.0.113.2 sport=80 dport=4444 [ASSURED] mark=0 use=1\n"
        );
        let ping = ConntrackRow { icmp_id: Some(7), reply_icmp_id: Some(9), ..row("icmp", 1) };
        assert_eq!(
            conntrack_line(&ping),
            "icmp     1 29 src=10.1.0.2 dst=198.51.100.1 type=8 code=0 id=7 [UNREPLIED] \
             src=198.51.100.1 dst=203.0.113.2 type=0 code=0 id=9 mark=0 use=1\n"
        );
        assert!(conntrack_line(&row("89", 89)).starts_with("unknown  89 29 src="));
        let event = |kind, row: &ConntrackRow| conntrack_event_line(&FlowEventRow::new(kind, row.clone()));
        assert!(event(EventKind::New, &tcp).starts_with("    [NEW] tcp      6 431999 ESTABLISHED src="));
        assert!(event(EventKind::Update, &ping).starts_with(" [UPDATE] icmp     1 29 src="));
        let deleted = event(EventKind::Destroy, &tcp);
        assert!(deleted.starts_with("[DESTROY] tcp      6 431999 ESTABLISHED src="), "{deleted}");
        let destroyed = event(EventKind::Destroy, &ConntrackRow { timeout: 0, ..tcp });
        assert!(destroyed.starts_with("[DESTROY] tcp      6 ESTABLISHED src="), "{destroyed}");
        assert!(destroyed.ends_with("dport=4444 [ASSURED]\n"), "{destroyed}");
    }

    #[test]
    fn news_survive_the_pipe() {
        for news in
            [FlowNews::Event(Box::new(FlowEventRow::new(EventKind::New, row("udp", 17)))), FlowNews::Lost(7)]
        {
            let text = serde_json::to_string(&news).unwrap();
            assert_eq!(serde_json::from_str::<FlowNews>(&text).unwrap(), news);
        }
    }
}
