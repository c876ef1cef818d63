//! `daemon`, `status`.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;

use super::client::{self, Daemon};
use super::daemon_flags::ConfigFlags;
use super::{Global, output, values};
use crate::control::requests::{Request, Status};
use crate::daemon::runtime::default_state;
use crate::daemon::{self, Options};
use crate::io::{descriptors, patience, resolv_conf};

/// Run the switch itself.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "EXAMPLES\n  tapswitch daemon -d\n  tapswitch --socket /tmp/second/control.sock daemon --no-offload\n  \
    tapswitch daemon -d --icc=false --ip-masq=false\n  tapswitch daemon -d --uplink none\n  \
    tapswitch daemon -d --state none\n  tapswitch daemon -d --config daemon.json\n  tapswitch daemon -d --dns 10.0.0.53 --bip 172.26.0.1/16 --mtu 1400"
)]
pub struct DaemonArgs {
    /// Go to the background once it listens
    #[arg(short, long)]
    detach: bool,
    /// Plain frames instead of super-frames of 64 KiB (through tun-tap)
    #[arg(long)]
    no_offload: bool,
    /// Microseconds that the switch looks on before it sleeps, while frames come that fast; 0 for never
    #[arg(long, value_name = "N", default_value_t = patience::WINDOW.as_micros() as u64,
          value_parser = values::number::<u64>(0, 1_000_000))]
    busy_poll_us: u64,
    #[command(flatten)]
    config: ConfigFlags,
    /// The host's name servers: a file like resolv.conf(5), followed as it changes
    #[arg(long, value_name = "FILE", default_value = resolv_conf::USUAL)]
    resolv_conf: PathBuf,
    /// Whether it gives up, once it listens, whatever it does not need: capabilities, system calls,
    /// files ('status' says what this kernel can take away)
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, default_missing_value = "true",
          action = clap::ArgAction::Set, value_parser = values::boolean)]
    confine: bool,
    /// The uplink that is there from the start: sockets of this host's, or none
    #[arg(long, env = "TAPSWITCH_UPLINK", value_name = "KIND", default_value = "user", value_parser = ["user", "none"])]
    uplink: String,
    /// Where networks, containers and the like outlive the daemon: a file in a directory of its own, or 'none';
    /// /var/lib/tapswitch/state.json when none is given ($XDG_STATE_HOME or ~/.local/state for users;
    /// beside the socket with --socket)
    #[arg(long, value_name = "FILE|none")]
    state: Option<PathBuf>,
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
        let mut pass = arguments.config.words();
        pass.extend(arguments.no_offload.then(|| "--no-offload".into()));
        pass.push(format!("--busy-poll-us={}", arguments.busy_poll_us).into());
        pass.extend(["--uplink".into(), OsString::from(&arguments.uplink)]);
        pass.extend(["--resolv-conf".into(), OsString::from(&arguments.resolv_conf)]);
        pass.extend(arguments.state.iter().flat_map(|state| ["--state".into(), OsString::from(state)]));
        pass.extend((!arguments.confine).then(|| "--confine=false".into()));
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
    descriptors::raise_limit();
    let socket = global.socket();
    let file = match &arguments.state {
        Some(word) if word.as_os_str() == "none" => None,
        Some(file) => Some(file.clone()),
        None => Some(default_state(&socket)),
    };
    // One for a single command keeps nothing, unless there is something to come back to.
    let transient = arguments.transient && !file.as_ref().is_some_and(|file| file.exists());
    let notes = Arc::clone(&waits);
    let say = move |line: &str| match notes.lock().ok().as_deref() {
        Some(Some(waits)) => client::tell_note(waits, line),
        _ => eprintln!("tapswitch: {line}"),
    };
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
        config: arguments.config.config()?,
        resolv_conf: arguments.resolv_conf.clone(),
        confine: arguments.confine,
        busy_poll: Duration::from_micros(arguments.busy_poll_us),
        uplink: arguments.uplink == "user",
        transient,
        state: file.filter(|_| !transient),
        say: Box::new(say),
        ready: Some(Box::new(ready)),
    })
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
    let Status { pid, version, engine, offload, networks, containers, ports, captures, .. } = status;
    let frames = if offload { "super-frames of up to 64 KiB" } else { "plain frames" };
    let Status { socket, confinement, state, descriptor_limit, descriptor_shortages, .. } = status;
    output::print(&format!(
        "daemon      pid {pid}, version {version}, at {}\n\
         engine      {engine}, {frames}\n\
         serves      networks {networks}, containers {containers}, ports {ports}, captures {captures}\n\
         confinement {confinement}\n\
         state       {state}\n\
         descriptors limit {descriptor_limit}, too few {descriptor_shortages} times\n",
        socket.display()
    ))
}
