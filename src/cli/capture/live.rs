//! `capture -i`: frames out of the running switch.
//!
//! The daemon writes pcapng into a pipe whose other end we read; files and lines are made here,
//! with the rights and the disk of who asked. SIGINT or SIGTERM ask the daemon to stop; what it
//! had queued still comes, then the pipe ends. A second signal does not wait for that.

use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::output::Printer;
use super::{CaptureArgs, next};
use crate::capture::file::Reader;
use crate::capture::filter::Program;
use crate::cli::client::Daemon;
use crate::cli::{Global, output as standard};
use crate::control::requests::Request;
use crate::control::show::{NetworkRow, PortRow};
use crate::io::capture::CaptureStats;

/// What the stream is called in messages.
const STREAM: &str = "the daemon's capture";

/// `capture -i`.
///
/// # Errors
/// When there is nothing of that name to watch, or the output cannot be written; what was
/// captured before that is kept.
pub fn run(global: &Global, args: &CaptureArgs, filter: Program, printer: Printer<'_>) -> anyhow::Result<u8> {
    let mut daemon = Daemon::connect(&global.socket())?;
    let (ours, theirs) = io::pipe()?;
    let start = Request::CaptureStart {
        interfaces: args.interfaces.clone(),
        filter,
        snaplen: args.kept(),
        drops: args.drops,
    };
    let () = daemon.call_with(start, &[theirs.as_fd()])?;
    drop(theirs);
    // The stream is silent until the first frame: whatever can fail without one fails before.
    let mut sink = args.sink(printer, args.kept())?;
    let signals = end_signals()?;
    let watched = if args.interfaces.is_empty() { "any".to_owned() } else { args.interfaces.join(", ") };
    announce(args, &watched);
    let mut reader = Reader::open(Stream { pipe: ours, signals, daemon, stats: None })?;
    let copied = (|| {
        while let Some(record) = next(STREAM, &mut reader)? {
            if sink.take(record)?.is_break() {
                break;
            }
            // Lines are for eyes: when the switch falls silent, what it has shown is on the screen.
            if !reader.has_buffered() && !reader.get_mut().has_more() && sink.flush()?.is_break() {
                break;
            }
        }
        anyhow::Ok(())
    })();
    let stats = reader.get_mut().stop();
    let written = sink.written();
    // A daemon that has ended has said it in the stream; one that was killed has not, but what it showed has come.
    let last = reader.counts().map(|(received, dropped)| CaptureStats { received, dropped });
    let known = stats.or(last).unwrap_or(CaptureStats { received: written, dropped: 0 });
    let finished = sink.finish(known.received, known.dropped);
    trailer(written, known);
    copied.and(finished)?;
    anyhow::ensure!(stats.is_some(), "the daemon has ended, and with it the capture");
    Ok(0)
}

/// tcpdump's words before the first frame.
fn announce(args: &CaptureArgs, watched: &str) {
    let what = format!("{watched}, link-type EN10MB (Ethernet), snapshot length {} bytes", args.kept());
    if args.write.is_none() && args.verbose == 0 {
        eprintln!("tapswitch: verbose output suppressed, use -v[v]... for full protocol decode");
        eprintln!("listening on {what}");
    } else {
        eprintln!("tapswitch: listening on {what}");
    }
}

/// tcpdump's words after the last.
fn trailer(written: u64, stats: CaptureStats) {
    let packets = |count: u64| if count == 1 { "1 packet".to_owned() } else { format!("{count} packets") };
    eprintln!("\n{} captured", packets(written));
    eprintln!("{} received by filter", packets(stats.received));
    // It is us, not the kernel; but this is the line that people and scripts look for.
    eprintln!("{} dropped by kernel", packets(stats.dropped));
}

/// The signals that end what would go on for ever, as a descriptor to be polled.
///
/// # Errors
/// What the kernel refuses.
pub fn end_signals() -> anyhow::Result<SignalFd> {
    let set: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC)?)
}

/// The pipe, which ends when a signal says so.
struct Stream {
    pipe: PipeReader,
    signals: SignalFd,
    daemon: Daemon,
    /// What it came to, once it was stopped.
    stats: Option<CaptureStats>,
}

impl Stream {
    /// Asks the daemon to stop, once. `None`, when there is no daemon any more.
    fn stop(&mut self) -> Option<CaptureStats> {
        if self.stats.is_none() {
            self.stats = self.daemon.call(Request::CaptureStop).ok();
        }
        self.stats
    }

    /// Whether there is something to read at once.
    fn has_more(&self) -> bool {
        let mut pipe = [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)];
        poll(&mut pipe, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut interest = [
            PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        while let Err(error) = poll(&mut interest, PollTimeout::NONE) {
            if error != nix::Error::EINTR {
                return Err(error.into());
            }
        }
        if interest[1].any().unwrap_or(false) {
            self.signals.read_signal()?;
            if self.stats.is_some() {
                return Ok(0);
            }
            self.stop();
        }
        self.pipe.read(buffer)
    }
}

/// `capture -D`: what can be watched.
///
/// # Errors
/// When no daemon runs.
pub fn list(global: &Global) -> anyhow::Result<u8> {
    let mut daemon = Daemon::connect(&global.socket())?;
    let ports: Vec<PortRow> = daemon.call(Request::ShowPorts)?;
    let mut networks: Vec<NetworkRow> = daemon.call(Request::NetworkList)?;
    // No frame of `host` and `none` passes the switch.
    networks.retain(|network| !network.bridge.is_empty());
    if global.json {
        return standard::json(&ports);
    }
    let ports = ports.iter().map(|row| format!("{} ({} on network {})", row.port, row.alias, row.network));
    let networks = networks.iter().map(|row| format!("net:{} ({})", row.name, row.bridge));
    let all = ports.chain(networks).chain(["any (every port, every point)".to_owned()]);
    standard::print(&(1..).zip(all).map(|(number, name)| format!("{number}.{name}\n")).collect::<String>())
}
