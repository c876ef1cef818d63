//! `ps`, `inspect`, `stop`, `rm`, `logs`, `wait`, `exec`: containers that are there.

use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::client::{Daemon, is_refused};
use super::{Global, output, values};
use crate::container;
use crate::control::Kind;
use crate::control::model::{ContainerKind, EndpointSpec};
use crate::control::requests::{ContainerFacts, Request};
use crate::control::show::{self, ContainerRow, Filters};
use crate::io::netns::{Descriptors, Target, allow_ipv6, open_inside};

/// How long `stop` waits before it kills, as Docker.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// List containers.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES\n  tapswitch ps -a -f network=net1 -f status=exited\n  \
    tapswitch ps --format 'table {{.Names}}\\t{{.Networks}}\\t{{.Addresses}}'")]
pub struct PsArgs {
    /// Those that have ended, too
    #[arg(short, long)]
    all: bool,
    /// Ids only
    #[arg(short, long)]
    quiet: bool,
    /// Whole ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Only these: name=PART, id=, status=, network=, label=KEY[=VALUE], exited=CODE, publish=PORT, expose=PORT,
    /// before=NAME, since=NAME, ancestor=IMAGE
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// A template for each line, as {{.Names}}, 'table {{.Names}}\t{{.Ports}}', or json
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// The last ones that were created, in whatever state
    #[arg(short = 'n', long, value_name = "NUMBER", value_parser = values::number::<usize>(1, u32::MAX.into()))]
    last: Option<usize>,
    /// The last one that was created, in whatever state
    #[arg(short, long)]
    latest: bool,
}

/// Show containers, or networks, in full as Docker does.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "EXAMPLE\n  tapswitch inspect -f '{{.NetworkSettings.Networks.net1.IPAddress}}' alice"
)]
pub struct InspectArgs {
    /// A template in Go's language: {{.State.Pid}}, {{json .NetworkSettings}}, {{range $k, $v := .…}}…{{end}}
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Look for this kind alone
    #[arg(long = "type", value_name = "KIND", value_parser = ["container", "network"])]
    kind: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Run one more command in a container.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES\n  tapswitch exec alice ping -c1 bob\n  tapswitch exec -it alice bash")]
pub struct ExecArgs {
    /// Hand standard input on
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// A variable for the command
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = values::variable)]
    env: Vec<String>,
    /// Where it starts
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// Accepted and of no effect: a container of ours is not confined beyond its namespaces
    #[arg(long, hide = true)]
    privileged: bool,
    /// Name or id
    name: String,
    /// The command
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    command: Vec<String>,
}

/// `tapswitch ps`.
///
/// # Errors
/// When no daemon runs.
pub fn ps(global: &Global, arguments: &PsArgs) -> anyhow::Result<u8> {
    let filters = Filters::read(&arguments.filter, &ContainerRow::FILTERS)?;
    let last = if arguments.latest { Some(1) } else { arguments.last };
    let all = arguments.all || last.is_some() || filters.has("status") || filters.has("exited");
    let mut daemon = Daemon::connect(&global.socket())?;
    let mut rows: Vec<ContainerRow> = daemon.call(Request::ContainerList { all })?;
    between(&mut daemon, &filters, &mut rows)?;
    rows.retain(|row| row.fits(&filters));
    rows.truncate(last.unwrap_or(usize::MAX));
    if global.json {
        return output::json(&rows);
    }
    if arguments.quiet {
        let len = if arguments.no_trunc { 64 } else { 12 };
        return output::print(&rows.iter().map(|row| format!("{:.len$}\n", row.id)).collect::<String>());
    }
    if let Some(format) = arguments.format.as_ref().filter(|format| *format != "table") {
        return output::print(&show::container_format(&rows, format, arguments.no_trunc)?);
    }
    output::print(&show::container_table(&rows, arguments.no_trunc))
}

/// Keeps those that were made `before` or `since` others.
fn between(daemon: &mut Daemon, filters: &Filters, rows: &mut Vec<ContainerRow>) -> anyhow::Result<()> {
    if !filters.has("before") && !filters.has("since") {
        return Ok(());
    }
    let everybody: Vec<ContainerRow> = daemon.call(Request::ContainerList { all: true })?;
    let place = |id: &str| everybody.iter().position(|row| row.id == id);
    for (key, is_older) in [("before", true), ("since", false)] {
        for name in filters.values(key) {
            let at = place(&find(daemon, name)?.id.to_string());
            // The youngest come first.
            rows.retain(|row| if is_older { place(&row.id) > at } else { place(&row.id) < at });
        }
    }
    Ok(())
}

/// `tapswitch inspect`.
///
/// # Errors
/// When something is not known, or the template makes no sense.
pub fn inspect(global: &Global, arguments: InspectArgs) -> anyhow::Result<u8> {
    let mut daemon = Daemon::connect(&global.socket())?;
    inspect_each(&arguments.names, arguments.format.as_deref(), |name| {
        let names = || vec![name.to_owned()];
        if arguments.kind.as_deref() == Some("network") {
            return daemon.call(Request::NetworkInspect { names: names() });
        }
        match daemon.call(Request::ContainerInspect { names: names() }) {
            Err(error) if arguments.kind.is_none() && is_refused(&error, Kind::UnknownContainer) => {
                // As docker inspect, which looks for everything of that name.
                let nothing = |_| anyhow!(error.to_string().replacen("such container", "such object", 1));
                daemon.call(Request::NetworkInspect { names: names() }).map_err(nothing)
            }
            other => other,
        }
    })
}

/// Prints what can be had of what was named: all of it, or what a template picks out of each.
///
/// # Errors
/// When one of them is not known, or the template makes no sense.
pub(super) fn inspect_each(
    names: &[String],
    format: Option<&str>,
    mut look: impl FnMut(&str) -> anyhow::Result<Vec<serde_json::Value>>,
) -> anyhow::Result<u8> {
    let mut found = Vec::new();
    let outcome = super::each(names, |name| {
        found.extend(look(name)?);
        Ok(())
    });
    print_inspected(&found, format)?;
    outcome
}

fn print_inspected(found: &[serde_json::Value], format: Option<&str>) -> anyhow::Result<u8> {
    let format = match format {
        None => return output::print(&show::json(found)),
        Some("json") => return output::print(&format!("{}\n", serde_json::to_string(found)?)),
        Some(format) => format,
    };
    let template = show::Template::new(format)?;
    let mut text = String::new();
    for value in found {
        text.push_str(&template.render(value)?);
        text.push('\n');
    }
    output::print(&text)
}

/// `tapswitch exec`.
///
/// # Errors
/// When the container does not run; the command's own failure is its exit code.
pub fn exec(global: &Global, arguments: ExecArgs) -> anyhow::Result<u8> {
    let facts = find(&mut Daemon::connect(&global.socket())?, &arguments.name)?;
    let request = container::exec::Request {
        pid: running(&facts)?,
        hostname: facts.hostname,
        command: arguments.command,
        env: facts.spec.env.into_iter().chain(super::variables(&arguments.env)).collect(),
        workdir: arguments.workdir,
        terminal: arguments.tty,
        interactive: arguments.interactive,
    };
    let exit = container::exec(&request)?;
    Ok(u8::try_from(exit.status()).unwrap_or(u8::MAX))
}

fn find(daemon: &mut Daemon, name: &str) -> anyhow::Result<ContainerFacts> {
    daemon.call(Request::ContainerFind { name: name.to_owned() })
}

/// The init of a container of ours, if it runs.
fn running(facts: &ContainerFacts) -> anyhow::Result<Pid> {
    match facts.pid.and_then(|pid| i32::try_from(pid).ok()) {
        Some(pid) if pid > 0 => Ok(Pid::from_raw(pid)),
        _ if facts.spec.kind == ContainerKind::Plugged => bail!(
            "'{}' is plugged in by path, not a container of ours: 'tapswitch plug' it under another name to \
             join one more network",
            facts.name
        ),
        _ => {
            bail!("container '{}' does not run: 'tapswitch start {}' starts it again", facts.name, facts.name)
        }
    }
}

/// The descriptors for one more interface in a container.
pub(super) struct Entered(Descriptors);

impl Entered {
    /// As the daemon takes them: the TAP, then the netlink socket.
    pub(super) fn borrow(&self) -> Vec<BorrowedFd<'_>> {
        self.0.tuns.iter().map(AsFd::as_fd).chain([self.0.netlink.as_fd()]).collect()
    }
}

/// Looks into a running container and opens what the daemon needs to connect it to a network, with
/// or without IPv6.
///
/// # Errors
/// When it does not run, or cannot be entered.
pub(super) fn enter(daemon: &mut Daemon, name: &str, ipv6: bool) -> anyhow::Result<Entered> {
    let facts = find(daemon, name)?;
    let target = Target::Pid(running(&facts)?.as_raw());
    if ipv6 {
        allow_ipv6(&target)?;
    }
    Ok(Entered(open_inside(&target, 1, facts.offload)?))
}

/// `tapswitch stop NAME..`: SIGTERM, and SIGKILL after the grace.
///
/// # Errors
/// When one of them is not known.
pub fn stop(global: &Global, names: &[String], grace: Option<u64>) -> anyhow::Result<u8> {
    let grace = self::grace(grace);
    super::each(names, |name| {
        stop_one(global, name, grace)?;
        println!("{name}");
        Ok(())
    })
}

/// `tapswitch kill [-s SIGNAL] NAME..`.
///
/// # Errors
/// When one of them does not run.
pub fn kill(global: &Global, names: &[String], signal: Signal) -> anyhow::Result<u8> {
    let mut daemon = Daemon::connect(&global.socket())?;
    super::each(names, |name| {
        let signal = signal as i32;
        let () = daemon.call(Request::ContainerSignal { name: name.to_owned(), signal })?;
        println!("{name}");
        Ok(())
    })
}

/// A signal's name with or without `SIG`, or its number, as clap reads it.
///
/// # Errors
/// What it is not.
pub fn parse_signal(text: &str) -> Result<Signal, String> {
    let named = format!("SIG{}", text.to_uppercase().trim_start_matches("SIG")).parse().ok();
    let numbered = || text.parse::<i32>().ok().and_then(|number| Signal::try_from(number).ok());
    named.or_else(numbered).ok_or_else(|| "give a signal's name or number, as TERM or 15".to_owned())
}

/// How long a container may take to end.
pub(super) fn grace(seconds: Option<u64>) -> Duration {
    seconds.map_or(GRACE, Duration::from_secs)
}

/// Stops a container; one that has ended is stopped already.
pub(super) fn stop_one(global: &Global, name: &str, grace: Duration) -> anyhow::Result<()> {
    let mut daemon = Daemon::connect(&global.socket())?;
    let mut waiting = Daemon::connect(&global.socket())?;
    waiting.send(Request::ContainerWait { name: name.to_owned() }, &[])?;
    let mut has_ended = false;
    for (signal, patience) in [(Signal::SIGTERM, grace), (Signal::SIGKILL, GRACE)] {
        let asked = daemon.call(Request::ContainerSignal { name: name.to_owned(), signal: signal as i32 });
        match asked {
            Ok(()) => {}
            Err(error) if is_refused(&error, Kind::BadState) => has_ended = true,
            Err(error) => return Err(error),
        }
        if answers_within(&waiting, patience)? {
            let _: Option<i32> = waiting.answer()?;
            return Ok(());
        }
    }
    if has_ended {
        bail!(
            "the 'tapswitch run' of container '{name}' does not tell that it has ended, as if stopped: 'tapswitch rm -f {name}'"
        );
    }
    bail!("container '{name}' did not end, not even by SIGKILL: it hangs in the kernel")
}

fn answers_within(daemon: &Daemon, patience: Duration) -> anyhow::Result<bool> {
    let end = Instant::now() + patience;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(daemon.descriptor(), PollFlags::POLLIN)], timeout) {
            Err(nix::Error::EINTR) => {}
            found => return Ok(found? > 0),
        }
    }
}

/// `tapswitch rm [-f] NAME..`.
///
/// # Errors
/// When one of them runs, or is not known.
pub fn rm(global: &Global, names: &[String], force: bool) -> anyhow::Result<u8> {
    let mut daemon = Daemon::connect(&global.socket())?;
    super::each(names, |name| {
        let removed: String = daemon.call(Request::ContainerRemove { name: name.to_owned(), force })?;
        println!("{removed}");
        Ok(())
    })
}

/// `tapswitch wait NAME..`: prints each exit code when its container has ended.
///
/// # Errors
/// When one of them is not known.
pub fn wait(global: &Global, names: &[String]) -> anyhow::Result<u8> {
    let mut daemon = Daemon::connect(&global.socket())?;
    super::each(names, |name| {
        match daemon.call(Request::ContainerWait { name: name.to_owned() })? {
            Some(code) => println!("{code}"),
            None::<i32> => bail!("nobody saw how container '{name}' ended"),
        }
        Ok(())
    })
}

/// `tapswitch logs [-f] NAME`.
///
/// # Errors
/// When the container keeps no log.
pub fn logs(global: &Global, name: &str, follow: bool) -> anyhow::Result<u8> {
    let mut daemon = Daemon::connect(&global.socket())?;
    let facts = find(&mut daemon, name)?;
    let path = facts.directory.join("log");
    let mut file = match container::log::Reader::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("container '{}' keeps no log: it runs in the foreground of its terminal", facts.name)
        }
        other => other.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let mut wanted = output::copy(&mut file)?;
    if follow && facts.pid.is_some() {
        daemon.send(Request::ContainerWait { name: name.to_owned() }, &[])?;
        // Files cannot be polled; five times a second is soon enough for a reader.
        while wanted && !answers_within(&daemon, Duration::from_millis(200))? {
            wanted = output::copy(&mut file)?;
        }
        output::copy(&mut file)?;
    }
    Ok(0)
}

/// A wish to join a network, `NET[:ip=..,mac=..,alias=..]`, as clap reads it.
///
/// # Errors
/// What the text lacks, in one line.
pub fn parse_endpoint(text: &str) -> Result<EndpointSpec, String> {
    text.parse().map_err(|refused: crate::control::Refused| refused.message)
}
