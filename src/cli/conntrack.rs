//! `conntrack`: flows as conntrack-tools show, count and delete them, and events as they come.

use std::io::{self, PipeReader, Read};
use std::net::IpAddr;
use std::os::fd::AsFd;

use ipnet::IpNet;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::capture::live::end_signals;
use super::client::Daemon;
use super::{Global, output, tables, values};
use crate::control::requests::{FlowFilter, Request, ViewRequest};
use crate::control::show::{self, ConntrackRow, FlowNews};

/// List, count, watch or delete flows, as conntrack does
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  tapswitch conntrack -L                         all flows
  tapswitch conntrack -L -p tcp -s 172.19.0.2    alice's TCP connections
  tapswitch conntrack -L -p tcp --dport 80       who talks to web servers
  tapswitch conntrack -C                         how many flows there are
  tapswitch conntrack -E -p icmp                 pings, as they come and go, until it is interrupted
  tapswitch conntrack -D -d 198.51.100.1         forget all flows to there

Addresses are those of a flow's first packet, as it was sent.")]
pub struct ConntrackArgs {
    #[command(flatten)]
    operation: Operation,
    /// Only this protocol: tcp, udp, icmp, icmpv6, or a number
    #[arg(short, long = "proto", value_name = "P", value_parser = protocol)]
    protocol: Option<u8>,
    /// Only from this address or prefix
    #[arg(short, long = "src", alias = "orig-src", value_name = "IP", value_parser = address)]
    source: Option<IpNet>,
    /// Only to this address or prefix
    #[arg(short, long = "dst", alias = "orig-dst", value_name = "IP", value_parser = address)]
    destination: Option<IpNet>,
    /// Only from this port
    #[arg(long, alias = "orig-port-src", value_name = "PORT", value_parser = values::number::<u16>(1, 65_535))]
    sport: Option<u16>,
    /// Only to this port
    #[arg(long, alias = "orig-port-dst", value_name = "PORT", value_parser = values::number::<u16>(1, 65_535))]
    dport: Option<u16>,
    /// Only of this IP version
    #[arg(short, long, value_parser = ["ipv4", "ipv6"])]
    family: Option<String>,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Operation {
    /// List flows
    #[arg(short = 'L', long = "dump")]
    list: bool,
    /// Tell what happens to flows, as it happens
    #[arg(short = 'E', long = "event")]
    event: bool,
    /// Delete flows, and list them
    #[arg(short = 'D', long = "delete")]
    delete: bool,
    /// Count flows
    #[arg(short = 'C', long = "count")]
    count: bool,
}

/// A protocol by name or number.
pub(super) fn protocol(word: &str) -> Result<u8, String> {
    Ok(match word {
        "icmp" => 1,
        "tcp" => 6,
        "udp" => 17,
        "dccp" => 33,
        "gre" => 47,
        "icmpv6" | "ipv6-icmp" => 58,
        "sctp" => 132,
        "udplite" => 136,
        number => {
            return number
                .parse()
                .map_err(|_| "give tcp, udp, icmp, icmpv6, or a number up to 255".to_owned());
        }
    })
}

fn address(word: &str) -> Result<IpNet, String> {
    let alone =
        || word.parse::<IpAddr>().map(IpNet::from).map_err(|_| "give an IP address or prefix".to_owned());
    word.parse().or_else(|_| alone())
}

/// `tapswitch conntrack`.
///
/// # Errors
/// When no daemon runs, or ends meanwhile.
pub fn run(global: &Global, arguments: &ConntrackArgs) -> anyhow::Result<u8> {
    let ConntrackArgs { operation, protocol, source, destination, sport, dport, family } = arguments;
    let filter = FlowFilter {
        protocol: *protocol,
        source: *source,
        destination: *destination,
        source_port: *sport,
        destination_port: *dport,
        v6: family.as_ref().map(|family| family == "ipv6"),
    };
    let mut daemon = Daemon::connect(&global.socket())?;
    if operation.event {
        return watch(global, daemon, filter);
    }
    let delete = operation.delete;
    let request = |cursor: Option<u32>| match delete {
        true => ViewRequest::FlowsDelete { cursor, filter },
        false => ViewRequest::Flows { cursor, filter },
    };
    let mut count = 0;
    if operation.count {
        tables::pages(&mut daemon, request, |rows: Vec<ConntrackRow>| {
            count += rows.len();
            Ok(true)
        })?;
        return output::print(&format!("{count}\n"));
    }
    if global.json {
        return tables::print(&mut daemon, true, request, |_: &[ConntrackRow]| String::new());
    }
    let lines = |rows: &[ConntrackRow]| {
        count += rows.len();
        rows.iter().map(show::conntrack_line).collect()
    };
    let code = tables::print(&mut daemon, false, request, lines)?;
    closing(count, if delete { "entries have been deleted" } else { "entries have been shown" });
    Ok(code)
}

/// The line that conntrack ends with.
fn closing(count: usize, what: &str) {
    eprintln!("conntrack v{} (tapswitch): {count} flow {what}.", env!("CARGO_PKG_VERSION"));
}

/// `conntrack -E`, until a signal says that it is enough.
fn watch(global: &Global, mut daemon: Daemon, filter: FlowFilter) -> anyhow::Result<u8> {
    let signals = end_signals()?;
    let (mut pipe, theirs) = io::pipe()?;
    let () = daemon.call_with(Request::View(ViewRequest::FlowsWatch { filter }), &[theirs.as_fd()])?;
    drop(theirs);
    let (mut text, mut count) = (Vec::new(), 0);
    loop {
        let mut interest =
            [PollFd::new(pipe.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut interest, PollTimeout::NONE) {
            Err(nix::Error::EINTR) => continue,
            other => other?,
        };
        if interest[1].any().unwrap_or(false) {
            break;
        }
        anyhow::ensure!(fill(&mut pipe, &mut text)?, "the daemon has ended, and with it the events");
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = text.drain(..whole).collect();
        let (lines, told) = lines_of(&lines, global.json)?;
        count += told;
        if !output::copy(&mut lines.as_bytes())? {
            break;
        }
    }
    closing(count, "events have been shown");
    Ok(0)
}

/// Reads what is there; false at the end.
fn fill(pipe: &mut PipeReader, text: &mut Vec<u8>) -> io::Result<bool> {
    let mut chunk = [0; 1 << 16];
    let count = pipe.read(&mut chunk)?;
    text.extend_from_slice(&chunk[..count]);
    Ok(count > 0)
}

/// What is printed of whole lines from the daemon, and how many events that is.
fn lines_of(news: &[u8], json: bool) -> anyhow::Result<(String, usize)> {
    let (mut text, mut count) = (String::new(), 0);
    for line in news.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line)? {
            FlowNews::Event(row) => {
                count += 1;
                if json {
                    text.push_str(&serde_json::to_string(&row)?);
                    text.push('\n');
                } else {
                    text.push_str(&show::conntrack_event_line(&row));
                }
            }
            FlowNews::Lost(lost) => eprintln!("tapswitch: {lost} events came too fast to be shown"),
        }
    }
    Ok((text, count))
}
