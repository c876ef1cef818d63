//! `daemon`, `status`.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use anyhow::Context;

use super::client::{self, Daemon};
use super::{Global, output};
use crate::control::model::Firewall;
use crate::control::requests::{Request, Status};
use crate::daemon::{self, Options};

/// Run the switch itself.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "EXAMPLES\n  tapswitch daemon -d\n  tapswitch --socket /tmp/second/control.sock daemon --no-offload\n  \
    tapswitch daemon -d --icc=false --ip-masq=false"
)]
pub struct DaemonArgs {
    /// Go to the background once it listens
    #[arg(short, long)]
    detach: bool,
    /// Plain frames instead of super-frames of 64 KiB (through tun-tap)
    #[arg(long)]
    no_offload: bool,
    /// Whether containers of the default network may talk to each other
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, default_missing_value = "true",
          action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new())]
    icc: bool,
    /// Whether there are rules at all; without, networks route to each other, and nothing is translated
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, default_missing_value = "true",
          action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new())]
    iptables: bool,
    /// Whether what leaves networks by an uplink gets the uplink's address
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, default_missing_value = "true",
          action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new())]
    ip_masq: bool,
    /// Whether anything is forwarded between networks; 'sysctl net.ipv4.ip_forward' changes it
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, default_missing_value = "true",
          action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new())]
    ip_forward: bool,
    /// End with the last container or lab
    #[arg(long, hide = true)]
    transient: bool,
    /// Standard input is a pipe to write "ready" to once it listens, or why it does not
    #[arg(long, hide = true)]
    ready_stdin: bool,
}

/// `tapswitch daemon`.
///
/// # Errors
/// When it cannot start.
pub fn run(global: &Global, arguments: &DaemonArgs) -> anyhow::Result<u8> {
    if arguments.detach {
        let mut pass = Vec::new();
        pass.extend(arguments.no_offload.then_some("--no-offload"));
        let flags = [
            (arguments.icc, "--icc=false"),
            (arguments.iptables, "--iptables=false"),
            (arguments.ip_masq, "--ip-masq=false"),
            (arguments.ip_forward, "--ip-forward=false"),
        ];
        pass.extend(flags.into_iter().filter(|(on, _)| !on).map(|(_, flag)| flag));
        client::start(&global.socket(), &pass)?;
        let status: Status = Daemon::connect(&global.socket())?.call(Request::Status)?;
        println!("tapswitch daemon, pid {}, serves {}", status.pid, status.socket.display());
        return Ok(0);
    }
    let waits = Arc::new(Mutex::new(arguments.ready_stdin.then(take_stdin).transpose()?));
    let served = serve(global, arguments, Arc::clone(&waits));
    if let Err(error) = &served
        && let Some(waits) = take(&waits)
    {
        client::tell_ready(waits, &format!("{error:#}"));
    }
    served.map(|()| 0)
}

/// Whoever waits for the daemon to listen, told once.
type Waits = Arc<Mutex<Option<OwnedFd>>>;

fn take(waits: &Waits) -> Option<OwnedFd> {
    waits.lock().ok()?.take()
}

/// Standard input as a descriptor of our own; `/dev/null` takes its place.
fn take_stdin() -> anyhow::Result<OwnedFd> {
    let copy = nix::unistd::dup(std::io::stdin()).context("cannot take over standard input")?;
    nix::fcntl::fcntl(&copy, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    let null = std::fs::File::open("/dev/null")?;
    nix::unistd::dup2_stdin(null)?;
    Ok(copy)
}

fn serve(global: &Global, arguments: &DaemonArgs, waits: Waits) -> anyhow::Result<()> {
    raise_descriptor_limit();
    let socket = global.socket();
    let ready = move || match take(&waits) {
        Some(waits) => client::tell_ready(waits, "ready"),
        None => eprintln!(
            "tapswitch daemon, pid {}, serves {}; Ctrl-C ends it",
            std::process::id(),
            socket.display()
        ),
    };
    daemon::serve(Options {
        socket: global.socket(),
        offload: !arguments.no_offload,
        icc: arguments.icc,
        firewall: Firewall { iptables: arguments.iptables, ip_masq: arguments.ip_masq },
        ip_forward: arguments.ip_forward,
        transient: arguments.transient,
        ready: Some(Box::new(ready)),
    })
}

/// Every port takes a descriptor or two: take as many as may be had.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // What is there already must do otherwise.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// `tapswitch status`.
///
/// # Errors
/// When no daemon runs.
pub fn status(global: &Global) -> anyhow::Result<u8> {
    let status: Status = Daemon::connect(&global.socket())?.call(Request::Status)?;
    if global.json {
        return output::json(&[status]);
    }
    let Status { pid, version, engine, offload, networks, containers, ports, captures, socket } = status;
    let frames = if offload { "super-frames of up to 64 KiB" } else { "plain frames" };
    println!("daemon      pid {pid}, version {version}, at {}", socket.display());
    println!("engine      {engine}, {frames}");
    println!("serves      networks {networks}, containers {containers}, ports {ports}, captures {captures}");
    Ok(0)
}
