//! The command line: flags, and what they mean. One file per group of commands.

pub mod applets;
pub mod capture;
pub mod client;
pub mod completion;
pub mod conntrack;
pub mod container;
pub mod daemon;
pub mod daemon_flags;
pub mod explain;
pub mod filter;
pub mod foreign;
pub mod image;
pub mod instead;
pub mod lab;
pub mod network;
pub mod output;
pub mod plug;
pub mod preflight;
pub mod programs;
pub mod proxy;
pub mod publish;
pub mod replay;
mod reunion;
pub mod route;
pub mod run;
pub mod shell;
pub mod show;
mod supervisor;
pub mod tables;
pub mod uplink;
pub mod values;

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::control::Refused;
use crate::control::options::name_server;
use crate::daemon::runtime;

/// The exit code of a line that makes no sense.
const BAD_USAGE: u8 = 2;

/// A userspace virtual switch for containers.
#[derive(Debug, Parser)]
#[command(
    name = "tapswitch",
    version,
    about,
    max_term_width = 100,
    arg_required_else_help = true,
    after_help = "\
EXAMPLES
  tapswitch up                                   the demo lab: two networks, four containers
  tapswitch exec alice ping -c3 bob              frames go through our process
  tapswitch capture -i net:net1 icmp             ... and can be watched
  tapswitch run -it --network net1 bash          one more container
  tapswitch preflight                            what this machine lacks, and the mend

EXIT CODES
  0 done, 1 refused or failed (one line on stderr), 2 bad usage;
  run and exec: the command's own, 125 ours, 126 not executable, 127 not found"
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Where a command's help lists what it shares with all others.
const EVERYWHERE: &str = "Options of every command";

/// Flags that every command has.
#[derive(Debug, Default, clap::Args)]
pub struct Global {
    /// The daemon's control socket [env: TAPSWITCH_SOCKET]
    // clap would show it in each usage as if it had to be given, where the variable is set.
    #[arg(long, global = true, value_name = "PATH", help_heading = EVERYWHERE)]
    socket: Option<PathBuf>,
    /// Print listings as JSON
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    json: bool,
}

impl Global {
    /// The control socket's path.
    pub fn socket(&self) -> PathBuf {
        let named = self.socket.clone().or_else(from_environment);
        named.unwrap_or_else(runtime::default_socket)
    }
}

/// Whose value holds without the flag.
fn from_environment() -> Option<PathBuf> {
    std::env::var_os("TAPSWITCH_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from)
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant)] // there is one of it
enum Command {
    Daemon(daemon::DaemonArgs),
    /// Ask the daemon who it is
    Status,
    Up(lab::UpArgs),
    Down(lab::DownArgs),
    /// Networks: create, list, change, remove
    #[command(subcommand, arg_required_else_help = true)]
    Network(network::NetworkCommand),
    #[command(disable_help_flag = true)]
    Run(run::RunArgs),
    Exec(container::ExecArgs),
    Ps(container::PsArgs),
    Inspect(container::InspectArgs),
    /// End containers: SIGTERM, and SIGKILL after the grace
    Stop {
        /// Seconds until SIGKILL
        #[arg(short = 't', long, value_name = "SECONDS", value_parser = values::number::<u64>(0, u32::MAX.into()))]
        time: Option<u64>,
        /// Names or ids
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Run containers that have ended once more
    Start {
        /// Names or ids
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Stop containers, and run them once more
    Restart {
        /// Seconds until SIGKILL
        #[arg(short = 't', long, value_name = "SECONDS", value_parser = values::number::<u64>(0, u32::MAX.into()))]
        time: Option<u64>,
        /// Names or ids
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Send a signal to containers
    Kill {
        /// Its name or number
        #[arg(short, long, default_value = "KILL", value_parser = container::parse_signal)]
        signal: nix::sys::signal::Signal,
        /// Names or ids
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Forget containers that have ended
    Rm {
        /// Kill them first
        #[arg(short, long)]
        force: bool,
        /// Accepted for Docker's sake: there are no volumes
        #[arg(short, long, hide = true)]
        volumes: bool,
        /// Names or ids
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Print what a container has written
    Logs {
        /// Go on until it ends
        #[arg(short, long)]
        follow: bool,
        /// Name or id
        name: String,
    },
    /// Wait for containers to end, and print their exit codes
    Wait {
        /// Names or ids
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    Plug(plug::PlugArgs),
    /// Stop serving a plugged namespace
    Unplug {
        /// Only on this network
        #[arg(long, value_name = "NET")]
        network: Option<String>,
        /// Name or id
        name: String,
    },
    Capture(capture::CaptureArgs),
    Conntrack(conntrack::ConntrackArgs),
    Explain(explain::ExplainArgs),
    /// Find out whether containers can run here, and how to mend it
    Preflight,
    Show(show::ShowArgs),
    /// Static entries of the MAC table
    #[command(subcommand, arg_required_else_help = true)]
    Fdb(show::FdbCommand),
    Port(publish::PortArgs),
    /// Let others reach a container's port by an address outside
    #[command(after_help = "EXAMPLES\n  tapswitch publish web 8000:80\n  \
        tapswitch publish dns 198.51.100.1:53:53/udp\n  tapswitch publish game 9000-9010:9000-9010/udp\n  \
        tapswitch publish web 8443:443 --from 10.0.0.0/8 192.0.0.2   # nobody else may call\n\n\
        With --from, who is not listed is refused at once (by the uplink 'user', a datagram in silence). \
        Callers come from their true address; the host by its loopback from 192.0.0.2 or fd4a:9c1e:77d3::2, \
        and by its other addresses from those: list them to let it in.")]
    Publish(publish::PublishArgs),
    /// End the publishing of a port
    #[command(after_help = "EXAMPLE\n  tapswitch unpublish web 8000:80")]
    Unpublish(publish::UnpublishArgs),
    /// Let a container use ports of another, under a name of its own, where containers are kept apart
    #[command(
        after_help = "EXAMPLES\n  tapswitch link client db:database\n  tapswitch link client db 5432/tcp"
    )]
    Link(publish::LinkArgs),
    /// Let programs of this host into a network, by SOCKS
    Proxy(proxy::ProxyArgs),
    /// Take a link away
    #[command(after_help = "EXAMPLE\n  tapswitch unlink client database")]
    Unlink {
        /// Name or id of the container that has it
        name: String,
        /// What it calls the other
        alias: String,
    },
    /// Ways to the outside
    #[command(subcommand, arg_required_else_help = true)]
    Uplink(uplink::UplinkCommand),
    /// Static routes
    #[command(subcommand, arg_required_else_help = true)]
    Route(route::RouteCommand),
    /// Rules of the user's, asked before all others
    #[command(subcommand, arg_required_else_help = true)]
    Rule(route::RuleCommand),
    Sysctl(route::SysctlArgs),
    Replay(replay::ReplayArgs),
    Shell(shell::ShellArgs),
    Completion(completion::CompletionArgs),
}

/// Our command line as clap knows it, for those who look at every flag there is.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command line that this process was started with.
pub fn main() -> ExitCode {
    completion::answer();
    let words: Vec<OsString> = std::env::args_os().collect();
    applets::main(&words).unwrap_or_else(|| run_line(words))
}

/// Runs a line whose first word is this binary's name.
fn run_line(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words = instead::without_group(words.into_iter().collect());
    let Cli { global, command } = match Cli::try_parse_from(&words) {
        Ok(line) => line,
        Err(error) => match instead::line(&error, &words) {
            Some(line) => {
                eprintln!("tapswitch: {line}");
                return ExitCode::from(BAD_USAGE);
            }
            None => error.exit(),
        },
    };
    let makes_containers = matches!(command, Command::Run(_) | Command::Up(_));
    let socket = global.socket();
    let ours = if matches!(command, Command::Run(_) | Command::Exec(_)) { 125 } else { 1 };
    match dispatch(&global, command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("tapswitch: {error:#}");
            if makes_containers && !error.is::<Refused>() {
                explain(&socket);
            }
            ExitCode::from(ours)
        }
    }
}

fn dispatch(global: &Global, command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Daemon(arguments) => daemon::run(global, &arguments),
        Command::Status => daemon::status(global),
        Command::Up(arguments) => lab::up(global, &arguments),
        Command::Down(arguments) => lab::down(global, &arguments),
        Command::Network(command) => network::run(global, command),
        Command::Run(arguments) => run::run(global, arguments),
        Command::Exec(arguments) => container::exec(global, arguments),
        Command::Ps(arguments) => container::ps(global, &arguments),
        Command::Inspect(arguments) => container::inspect(global, arguments),
        Command::Stop { time, names } => container::stop(global, &names, time),
        Command::Restart { time, names } => run::restart(global, &names, time),
        Command::Start { names } => run::start(global, &names),
        Command::Kill { signal, names } => container::kill(global, &names, signal),
        Command::Rm { force, names, .. } => container::rm(global, &names, force),
        Command::Logs { follow, name } => container::logs(global, &name, follow),
        Command::Wait { names } => container::wait(global, &names),
        Command::Plug(arguments) => plug::plug(global, arguments),
        Command::Unplug { network, name } => plug::unplug(global, name, network),
        Command::Capture(arguments) => capture::run(global, &arguments),
        Command::Conntrack(arguments) => conntrack::run(global, &arguments),
        Command::Explain(arguments) => explain::run(global, &arguments),
        Command::Preflight => preflight(global),
        Command::Show(command) => show::show(global, &command),
        Command::Fdb(command) => show::fdb(global, command),
        Command::Port(arguments) => publish::port(global, arguments),
        Command::Publish(arguments) => publish::publish(global, arguments),
        Command::Unpublish(arguments) => publish::unpublish(global, arguments),
        Command::Proxy(arguments) => proxy::run(global, arguments),
        Command::Link(arguments) => publish::link(global, arguments),
        Command::Unlink { name, alias } => publish::unlink(global, name, alias),
        Command::Uplink(command) => uplink::run(global, command),
        Command::Route(command) => route::route(global, command),
        Command::Rule(command) => route::rule(global, command),
        Command::Sysctl(arguments) => route::sysctl(global, &arguments),
        Command::Replay(arguments) => replay::run(global, &arguments),
        Command::Shell(arguments) => shell::shell(global, &arguments),
        Command::Completion(arguments) => completion::print(&arguments),
    }
}

/// When containers could not be made: what this machine lacks for them, and the mends.
fn explain(socket: &Path) {
    let mut report = preflight::run(socket.parent().unwrap_or(Path::new(".")));
    report.0.retain(|check| check.state == preflight::State::Fail);
    if !report.0.is_empty() {
        eprint!("{report}");
    }
}

fn preflight(global: &Global) -> anyhow::Result<u8> {
    let socket = global.socket();
    let report = preflight::run(socket.parent().unwrap_or(Path::new(".")));
    if global.json {
        output::json(&report.0)?
    } else {
        output::print(&report.to_string())?
    };
    Ok(report.exit_code())
}

/// Ends this process as a command line does that makes no sense: for what flags alone cannot tell.
fn bad_usage(message: &str) -> ! {
    Cli::command().error(clap::error::ErrorKind::InvalidValue, message).exit()
}

/// Does something for each name, and goes on after a failure; the last failure is returned,
/// those before it are printed.
fn each(names: &[String], mut act: impl FnMut(&str) -> anyhow::Result<()>) -> anyhow::Result<u8> {
    let mut failure: Option<anyhow::Error> = None;
    for name in names {
        if let Err(error) = act(name)
            && let Some(earlier) = failure.replace(error)
        {
            eprintln!("tapswitch: {earlier:#}");
        }
    }
    failure.map_or(Ok(0), Err)
}

/// A name server's address, as clap reads it.
fn parse_name_server(text: &str) -> Result<IpAddr, String> {
    name_server(text).ok_or_else(|| "give the address of a name server, as 10.0.0.53".to_owned())
}

/// Variables as `-e` takes them: `KEY=VALUE`, or `KEY` for the caller's own value.
fn variables(words: &[String]) -> Vec<(String, String)> {
    let one = |word: &String| match word.split_once('=') {
        Some((key, value)) => Some((key.to_owned(), value.to_owned())),
        None => std::env::var(word).ok().map(|value| (word.clone(), value)),
    };
    words.iter().filter_map(one).collect()
}

/// `KEY=VALUE`, or a bare `KEY` with an empty value, as Docker has it.
fn key_value(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), value.to_owned())
}
