//! `explain`: what would become of a frame, and why.

use anyhow::{Context, bail};

use super::client::Daemon;
use super::{Global, capture, output};
use crate::control::plausible::{Errand, parse_destination};
use crate::control::requests::{Question, Request, ViewRequest};
use crate::control::show::Explanation;
use crate::dataplane::dns;

/// What is asked for where nothing else is said; it is nobody's (RFC 6761 §6.5).
const SOME_NAME: &str = "example.com";

/// Tell what would become of a frame, stage by stage, and why; nothing changes by it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  tapswitch explain alice carol                  would a ping get there?
  tapswitch explain alice carol:80               a TCP connection to port 80?
  tapswitch explain alice 198.51.100.1:53/udp    a question to a name server outside?
  tapswitch explain alice 172.19.0.1 --name web  what would the gateway answer, or whom ask?
  tapswitch explain wan 203.0.113.2:8000         who comes from outside, to a published port?
  tapswitch explain --at alice --pcap web.pcap:3    the third frame of a capture, as if alice sent it
  tapswitch explain --last-drop alice            the last frame that was dropped at alice

EXIT CODES
  0 it gets somewhere, 1 it is dropped")]
pub struct ExplainArgs {
    /// Who sends: a container, CONTAINER:IFNAME, an uplink, or an address
    #[arg(value_name = "SRC", required_unless_present_any = ["at", "last_drop"], requires = "destination")]
    source: Option<String>,
    /// To whom: the same; a ping without PORT, TCP without PROTO
    #[arg(value_name = "DST[:PORT[/PROTO]]", value_parser = parse_destination)]
    destination: Option<(String, Errand)>,
    /// The name that a name server is asked for, by UDP; example.com where DST is ADDRESS:53/udp
    #[arg(long, requires = "destination")]
    name: Option<String>,
    /// The port that the frame comes in by
    #[arg(long, value_name = "PORT", conflicts_with_all = ["source", "last_drop"], requires = "bytes")]
    at: Option<String>,
    /// The frame's bytes, Ethernet header first
    #[arg(long, value_name = "HEX", requires = "at", group = "bytes")]
    hex: Option<String>,
    /// The N-th frame of a pcap or pcapng file
    #[arg(long, value_name = "FILE:N", requires = "at", group = "bytes")]
    pcap: Option<String>,
    /// The last frame that was dropped, at a port or anywhere
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "", conflicts_with = "source")]
    last_drop: Option<String>,
}

impl ExplainArgs {
    /// What is sent: to a name server always a question, for anything else would be none.
    fn errand(&self, errand: &Errand) -> anyhow::Result<Errand> {
        Ok(match (&self.name, errand) {
            (Some(name), Errand::Ping | Errand::Udp(dns::PORT)) => Errand::Name(name.clone()),
            (Some(_), _) => bail!("--name asks by UDP: give DST or DST:53/udp"),
            (None, Errand::Udp(dns::PORT)) => Errand::Name(SOME_NAME.to_owned()),
            (None, errand) => errand.clone(),
        })
    }

    fn question(&self) -> anyhow::Result<Question> {
        if let Some(port) = &self.last_drop {
            return Ok(Question::LastDrop { port: Some(port.clone()).filter(|port| !port.is_empty()) });
        }
        if let Some(port) = &self.at {
            let hex = match (&self.hex, &self.pcap) {
                (Some(hex), _) => hex.clone(),
                (None, Some(file)) => frame_of(file)?,
                (None, None) => bail!("--at needs --hex or --pcap"),
            };
            return Ok(Question::Frame { port: port.clone(), hex });
        }
        match (&self.source, &self.destination) {
            (Some(source), Some((destination, errand))) => Ok(Question::Talk {
                source: source.clone(),
                destination: destination.clone(),
                errand: self.errand(errand)?,
            }),
            _ => bail!("give SRC and DST, --at, or --last-drop"),
        }
    }
}

/// A frame of a file, in hexadecimal; what the file has not kept of it is zero.
fn frame_of(word: &str) -> anyhow::Result<String> {
    let numbered =
        word.rsplit_once(':').and_then(|(name, number)| Some((name, number.parse::<usize>().ok()?)));
    let Some((name, number)) = numbered.filter(|(_, number)| *number > 0) else {
        bail!("--pcap {word}: give FILE:N, where N counts from 1");
    };
    let mut reader = capture::open(name)?;
    for at in 1.. {
        let Some(record) = capture::next(name, &mut reader)? else {
            bail!("{name} has {} frames: there is no number {number}", at - 1);
        };
        if at == number {
            let mut bytes = record.data;
            bytes.resize(bytes.len().max(record.wire_len as usize), 0);
            return Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
        }
    }
    bail!("{name} ends nowhere")
}

/// `tapswitch explain`.
///
/// # Errors
/// Names that are nobody's, a file that cannot be read.
pub fn run(global: &Global, arguments: &ExplainArgs) -> anyhow::Result<u8> {
    let question = arguments.question()?;
    let mut daemon = Daemon::connect(&global.socket())?;
    let explanation: Explanation =
        daemon.call(Request::View(ViewRequest::Explain { question })).context("cannot explain")?;
    if global.json {
        output::json(&explanation.rows)?
    } else {
        output::print(&explanation.text())?
    };
    Ok(u8::from(!explanation.delivered))
}
