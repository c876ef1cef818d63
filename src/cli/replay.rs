//! `replay`: a capture through a lab's pipeline, without a daemon, in virtual time.

use std::ops::ControlFlow;

use super::capture::output::{self, Output, Sink};
use super::capture::{next, open};
use super::{Global, lab};
use crate::capture::file::MAX_SNAPLEN;
use crate::control::lab::Lab;
use crate::control::replay::Replay;
use crate::control::show;

/// Run a capture through a lab's pipeline; the same frames out on every run
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  tapswitch replay my-lab.toml seen.pcapng                  what would become of these frames
  tapswitch replay lab:demo ping.pcap --at alice -w out.pcapng
  tapswitch replay lab:demo ping.pcap -w - | tshark -r -

Each frame enters at the port whose address is its source, or at the port that the capture names.
With -w, each frame that is sent is written with its port, outbound, and each drop with its reason;
packet ids are the places of the frames in IN.pcap, from 0.")]
pub struct ReplayArgs {
    /// A lab file, or lab:NAME for a built-in one
    #[arg(value_name = "LAB.toml")]
    lab: String,
    /// A pcap or pcapng file; - is standard input
    #[arg(value_name = "IN.pcap")]
    capture: String,
    /// Every frame enters at this port: CONTAINER, or CONTAINER:IFNAME
    #[arg(long, value_name = "PORT")]
    at: Option<String>,
    /// Write what leaves instead of a summary: pcap if OUT ends in .pcap, else pcapng; - is standard output
    #[arg(short, long, value_name = "OUT")]
    write: Option<String>,
}

/// `replay`.
///
/// # Errors
/// A line that says what is wrong with the lab, the port, the capture or the output.
pub fn run(global: &Global, arguments: &ReplayArgs) -> anyhow::Result<u8> {
    let lab = lab::read(Some(&arguments.lab))?;
    let replay = replay(&lab, arguments)?;
    let unplaced = replay.summary().unplaced;
    if unplaced > 0 {
        eprintln!("{unplaced} frames belong to no port of the lab: --at PORT says where they enter");
    }
    let rows = show::replay_rows(&replay);
    match &arguments.write {
        Some(_) => Ok(0),
        None if global.json => super::output::json(&rows),
        None => super::output::print(&show::replay_table(&rows)),
    }
}

/// Feeds the capture, and writes what leaves if that is wanted.
fn replay(lab: &Lab, arguments: &ReplayArgs) -> anyhow::Result<Replay> {
    let mut replay = Replay::new(lab, arguments.at.as_deref())?;
    let name = &arguments.capture;
    let mut reader = open(name)?;
    let mut sink = arguments.write.as_deref().map(sink).transpose()?;
    let mut sent = Vec::new();
    let mut feed = || -> anyhow::Result<()> {
        while let Some(record) = next(name, &mut reader)? {
            replay.feed(&record, &mut sent);
            let Some(sink) = &mut sink else {
                sent.clear();
                continue;
            };
            for record in sent.drain(..) {
                if let ControlFlow::Break(()) = sink.take(record)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    };
    let fed = feed();
    // What came out is kept, even if the capture breaks off.
    let written = sink.as_ref().map_or(0, Sink::written);
    let finished = sink.map_or(Ok(()), |sink| sink.finish(written, 0));
    fed.and(finished).map(|()| replay)
}

fn sink(name: &str) -> anyhow::Result<Sink<'static>> {
    let pcapng = !name.ends_with(".pcap");
    let output = Output::capture(output::create(name)?, name, pcapng, MAX_SNAPLEN)?;
    Ok(Sink::new(output, name, MAX_SNAPLEN))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(capture: &str, at: Option<&str>, write: Option<String>) -> ReplayArgs {
        let capture = format!("{}/captures/{capture}", env!("CARGO_MANIFEST_DIR"));
        ReplayArgs { lab: "lab:demo".to_owned(), capture, at: at.map(str::to_owned), write }
    }

    fn run(arguments: &ReplayArgs) -> anyhow::Result<Replay> {
        replay(&lab::read(Some(&arguments.lab))?, arguments)
    }

    #[test]
    fn two_runs_write_the_same_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = directory.path().join(name);
            run(&arguments("traceroute.pcap", Some("bob"), Some(path.to_str().unwrap().to_owned()))).unwrap();
            std::fs::read(path).unwrap()
        };
        assert_eq!(write("one.pcapng"), write("two.pcapng"));
        assert!(write("one.pcapng").starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]));
        assert!(write("one.pcap").starts_with(&0xa1b2_3c4d_u32.to_le_bytes()));
    }

    #[test]
    fn the_committed_capture_is_what_replay_writes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("two-ports.pcapng");
        let ours = arguments("ping.pcap", None, Some(path.to_str().unwrap().to_owned()));
        let ours = ReplayArgs {
            lab: concat!(env!("CARGO_MANIFEST_DIR"), "/captures/two-ports.toml").to_owned(),
            ..ours
        };
        run(&ours).unwrap();
        let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/captures/two-ports.pcapng");
        assert_eq!(std::fs::read(path).unwrap(), std::fs::read(committed).unwrap());
    }

    #[test]
    fn mistakes_are_told_in_one_line() {
        let error = |arguments: &ReplayArgs| format!("{:#}", run(arguments).err().unwrap());
        let unknown = error(&arguments("ping.pcap", Some("alise"), None));
        assert_eq!(unknown, "No such container: alise: did you mean 'alice'?");
        let no_capture = error(&arguments("ping.txt", None, None));
        assert!(
            no_capture.ends_with("ping.txt: unknown file format: neither pcap nor pcapng"),
            "{no_capture}"
        );
        let bad_lab = ReplayArgs { lab: "Cargo.toml".to_owned(), ..arguments("ping.pcap", None, None) };
        assert!(error(&bad_lab).contains("Cargo.toml:1:"), "{}", error(&bad_lab));
    }
}
