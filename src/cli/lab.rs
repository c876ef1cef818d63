//! `up`, `down`: labs.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::client::{Daemon, Gone};
use super::run::{Face, Plan, launch};
use super::{Global, container, output};
use crate::control::lab::{DEMO, Lab};
use crate::control::model::NetworkSpec;
use crate::control::requests::{LabMembers, Request, RouterRequest, Status};
use crate::control::show::PortRow;
use crate::daemon::runtime;

/// How long a lab's container has to end; they hold nothing that matters.
const GRACE: Duration = Duration::from_secs(3);

/// Bring a lab up.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "EXAMPLES\n  tapswitch up                 the demo lab: two networks, four containers\n  \
    tapswitch up -d my-lab.toml\n  tapswitch up lab:demo --for 60s"
)]
pub struct UpArgs {
    /// A lab file, or lab:NAME for a built-in one; the demo lab when none is given
    #[arg(value_name = "LAB.toml|lab:NAME")]
    lab: Option<String>,
    /// Leave it running and return
    #[arg(short, long)]
    detach: bool,
    /// Take it down after this long: 30s, 5m, 1h
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration, conflicts_with = "detach")]
    duration: Option<Duration>,
}

/// Take a lab down.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "EXAMPLES\n  tapswitch down demo\n  tapswitch down --all         every lab and container, and the daemon"
)]
pub struct DownArgs {
    /// The lab's name or file
    #[arg(value_name = "LAB", required_unless_present = "all")]
    lab: Option<String>,
    /// Everything there is, the daemon included
    #[arg(long, conflicts_with = "lab")]
    all: bool,
}

/// `30s`, `5m`, `1h`, or a bare number of seconds.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(format!("'{text}' is no duration: 30s, 5m or 1h")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("'{text}' is no duration: 30s, 5m or 1h"))?;
    number.checked_mul(unit).map(Duration::from_secs).ok_or_else(|| format!("'{text}' is too long"))
}

/// `tapswitch up`.
///
/// # Errors
/// When the lab has mistakes, or something of it cannot be had; nothing of it stays then.
pub fn up(global: &Global, arguments: &UpArgs) -> anyhow::Result<u8> {
    let lab = read(arguments.lab.as_deref())?;
    let ends = EndSignals::new()?;
    // While this connection is open, a daemon that it started does not end.
    let request = Request::LabClaim { lab: lab.name.clone() };
    let (claim, ()) = Daemon::ask_or_start(&global.socket(), &["--transient"], &request)?;
    let mut daemon = Daemon::connect(&global.socket())?;
    if let Err(error) = bring_up(global, &mut daemon, &lab) {
        // What had come up goes away again; nobody else can have made it. The first error is the one that matters.
        let _ = take_down(global, Some(&lab.name));
        return Err(error);
    }
    drop(claim);
    output::print(&daemon.call::<String>(Request::ShowTopology { dot: false, ascii: false })?)?;
    suggest(&mut daemon, &lab, arguments.detach)?;
    if !arguments.detach {
        let status: Status = daemon.call(Request::Status)?;
        if ends.wait(&daemon, arguments.duration)? == Ended::Daemon {
            return without_daemon(&lab.name, &status);
        }
        eprintln!("taking lab '{}' down", lab.name);
        take_down(global, Some(&lab.name))?;
    }
    Ok(0)
}

/// Reads a lab: a file, `lab:NAME` for a built-in one, or the demo lab.
///
/// # Errors
/// The file's mistakes, each with its place.
pub(super) fn read(word: Option<&str>) -> anyhow::Result<Lab> {
    let (name, path, text) = match word {
        None | Some("lab:demo") => ("demo".to_owned(), "lab:demo".to_owned(), DEMO.to_owned()),
        Some(word) if word.starts_with("lab:") => {
            bail!("there is no built-in lab '{word}': lab:demo is there")
        }
        Some(word) => {
            let text =
                std::fs::read_to_string(word).with_context(|| format!("cannot read the lab {word}"))?;
            (lab_name(word), word.to_owned(), text)
        }
    };
    Ok(Lab::parse(&name, &path, &text)?)
}

/// A lab is called as its file is, without `.toml`.
fn lab_name(word: &str) -> String {
    let stem = Path::new(word).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    stem.unwrap_or_else(|| word.to_owned())
}

/// What becomes of a lab in the foreground whose daemon has gone.
fn without_daemon(lab: &str, daemon: &Status) -> anyhow::Result<u8> {
    // A daemon that takes everything down removes these before it closes its connections.
    if !daemon.socket.with_extension("d").exists() {
        eprintln!("tapswitch: everything was taken down, and with it lab '{lab}'");
        return Ok(0);
    }
    if daemon.state == "none" {
        bail!("the daemon has ended, and with it lab '{lab}': 'tapswitch up' brings it up again");
    }
    bail!(
        "the daemon has ended; lab '{lab}' goes on and waits for the next one: 'tapswitch daemon -d' serves it \
         again, 'tapswitch down --all' ends it"
    )
}

fn bring_up(global: &Global, daemon: &mut Daemon, lab: &Lab) -> anyhow::Result<()> {
    for uplink in &lab.uplinks {
        super::uplink::make(daemon, uplink.clone(), None)?;
        eprintln!("uplink {}", uplink.name);
    }
    // Networks that say where they are come first, so that the others keep out of their way.
    let (given, chosen): (Vec<&NetworkSpec>, Vec<&NetworkSpec>) =
        lab.networks.iter().partition(|network| !network.subnets.is_empty());
    for network in given.into_iter().chain(chosen) {
        super::network::create(daemon, network.clone())?;
        eprintln!("network {}", network.name);
    }
    for spec in &lab.containers {
        launch(global, &Plan::new(spec.clone()), Face::DETACHED, false)?;
        eprintln!("container {}", spec.name.as_deref().unwrap_or_default());
    }
    for route in &lab.routes {
        let () = daemon.call(Request::Router(RouterRequest::RouteAdd { route: route.clone() }))?;
    }
    for rule in &lab.rules {
        let rule = rule.clone();
        let _: usize = daemon.call(Request::Router(RouterRequest::RuleAdd { rule, before: None }))?;
    }
    Ok(())
}

/// What to try next: within a network, across two of them, and where to look.
fn suggest(daemon: &mut Daemon, lab: &Lab, detached: bool) -> anyhow::Result<()> {
    let rows: Vec<PortRow> = daemon.call(Request::ShowPorts)?;
    let is_ours = |row: &&PortRow| lab.networks.iter().any(|network| network.name == row.network);
    let mut ports = rows.iter().filter(is_ours);
    println!("\nTry, in another terminal:");
    if let Some(first) = ports.next() {
        let here = &first.container;
        if let Some(peer) = ports.clone().find(|row| row.network == first.network) {
            println!("  tapswitch exec {here} ping -c3 {}", peer.container);
        }
        println!("  tapswitch capture -i net:{}", first.network);
        if let Some(far) = ports.find(|row| row.network != first.network) {
            println!("  tapswitch exec {here} ping -c1 {}    ({} is isolated)", far.ip, far.network);
        }
        println!("  tapswitch exec -it {here} bash");
    }
    println!("  tapswitch show ports         (or fdb, drops, topology)");
    if detached {
        println!("  tapswitch down {}", lab.name);
    } else {
        println!("Ctrl-C takes it down.");
    }
    Ok(())
}

/// Why a lab in the foreground ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Somebody said so, or its time is over.
    Told,
    /// Its daemon has gone.
    Daemon,
}

/// The signals that end a lab in the foreground, blocked until somebody waits for them.
struct EndSignals(SignalFd);

impl EndSignals {
    fn new() -> anyhow::Result<Self> {
        let set: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        set.thread_block()?;
        Ok(Self(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC)?))
    }

    /// Waits for one of them, for the time to be over, or for the daemon's end.
    fn wait(&self, daemon: &Daemon, patience: Option<Duration>) -> anyhow::Result<Ended> {
        use std::os::fd::AsFd;
        let mut interest = [
            PollFd::new(self.0.as_fd(), PollFlags::POLLIN),
            PollFd::new(daemon.descriptor(), PollFlags::POLLIN),
        ];
        let timeout = patience
            .map_or(PollTimeout::NONE, |time| PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX));
        poll(&mut interest, timeout)?;
        let [told, gone] = interest.map(|it| it.any().unwrap_or(false));
        Ok(if gone && !told { Ended::Daemon } else { Ended::Told })
    }
}

/// `tapswitch down`.
///
/// # Errors
/// When the lab is not up, or no daemon runs.
pub fn down(global: &Global, arguments: &DownArgs) -> anyhow::Result<u8> {
    if arguments.all {
        return match down_all(global) {
            // One that ends by itself with its last container was faster.
            Err(error) if error.is::<Gone>() => Ok(0),
            other => other.map(|()| 0),
        };
    }
    let name = lab_name(
        arguments.lab.as_deref().map(|word| word.strip_prefix("lab:").unwrap_or(word)).unwrap_or_default(),
    );
    let members: LabMembers =
        Daemon::connect(&global.socket())?.call(Request::LabMembers { lab: Some(name.clone()) })?;
    if members.is_empty() {
        bail!("lab '{name}' is not up: 'tapswitch network ls' and 'tapswitch ps' show what is");
    }
    take_down(global, Some(&name)).map(|()| 0)
}

fn down_all(global: &Global) -> anyhow::Result<()> {
    let Some(mut daemon) = Daemon::try_connect(&global.socket())? else {
        // What has outlived a daemon ends as well.
        return runtime::take_away(&global.socket());
    };
    take_down(global, None)?;
    let process = daemon.process();
    let () = daemon.call(Request::Shutdown)?;
    // It closes the connection when it has let go of its socket: a next one can start.
    let _ = daemon.answer::<()>();
    if let Some((pid, pidfd)) = process {
        // Interfaces of its are there until it has gone.
        runtime::wait_for_process(pid, pidfd.as_fd());
    }
    // One that was killed in that moment has left what it kept; one that has started since is another matter.
    match Daemon::try_connect(&global.socket())? {
        Some(_) => Ok(()),
        None => runtime::take_away(&global.socket()),
    }
}

/// Ends a lab's containers, all at once, and removes its networks.
fn take_down(global: &Global, lab: Option<&str>) -> anyhow::Result<()> {
    let Some(mut daemon) = Daemon::try_connect(&global.socket())? else { return Ok(()) };
    let members: LabMembers = daemon.call(Request::LabMembers { lab: lab.map(str::to_owned) })?;
    for name in &members.containers {
        // One that has ended already is no trouble here.
        let _ = daemon
            .call::<()>(Request::ContainerSignal { name: name.clone(), signal: Signal::SIGTERM as i32 });
    }
    for name in members.containers {
        if let Err(error) = container::stop_one(global, &name, GRACE) {
            // It is removed all the same, and so are the others.
            eprintln!("tapswitch: {error:#}");
        }
        let _: String = daemon.call(Request::ContainerRemove { name, force: true })?;
    }
    // Its rules hold as long as any of its containers does; its networks are held by its routes.
    let () = daemon.call(Request::LabForget { lab: lab.map(str::to_owned) })?;
    for name in members.networks {
        let _: String = daemon.call(Request::NetworkRemove { name })?;
    }
    for name in members.uplinks {
        let _: String = daemon.call(Request::Router(RouterRequest::UplinkRemove { name }))?;
    }
    Ok(())
}
