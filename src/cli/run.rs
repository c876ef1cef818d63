//! `run`, `start`: containers of our own.
//!
//! Theory of operation. The client that runs a container stays as its supervisor
//! (`supervisor.rs`). With `-d` it does so in the background: it forks before it does
//! anything else, and the parent only waits for the child's word that the container runs
//! (its id) or why it does not.

use std::io::IsTerminal;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use ipnet::IpNet;

use super::client::Daemon;
use super::container::parse_endpoint;
use super::supervisor::Supervisor;
use super::{Global, image, values};
use crate::container::{Output, Spec, log};
use crate::control::Id;
use crate::control::model::{ContainerSpec, EndpointSpec, LinkSpec};
use crate::control::ports::{Exposed, PublishSpec};
use crate::control::requests::{ContainerFacts, Created, Request};
use crate::control::sources::source;
use crate::io::helper::{self, Channel};
use crate::wire::MacAddr;

/// Run a command in a new container.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES\n  tapswitch run -it --name alice --network net1 bash\n  \
    tapswitch run -d --name web --network net1:ip=172.19.0.80,alias=www python3 -m http.server 80\n  \
    tapswitch run -d -p 8000:80 --expose 81 --link db:database python3 -m http.server 80\n  \
    tapswitch run --rm --network net1 --dns 1.1.1.1 getent hosts example.org\n  \
    tapswitch run --rm -- ping -c1 172.17.0.2")]
pub struct RunArgs {
    /// Run in the background and print the container's id
    #[arg(short, long)]
    detach: bool,
    /// Hand standard input on
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// Forget the container when it ends
    #[arg(long)]
    rm: bool,
    /// Its name; made up when none is given
    #[arg(long)]
    name: Option<String>,
    /// A network to join; the default network 'bridge' when none is given; host or none alone
    #[arg(long, visible_alias = "net", value_name = "NET[:ip=..,mac=..,alias=..]", value_parser = parse_endpoint)]
    network: Vec<EndpointSpec>,
    /// Its address on the first network
    #[arg(long, value_name = "IP", value_parser = values::ip)]
    ip: Vec<IpAddr>,
    /// Its IPv6 address on the first network
    #[arg(long, value_name = "IP")]
    ip6: Vec<Ipv6Addr>,
    /// Its MAC address on the first network
    #[arg(long, value_name = "MAC", value_parser = values::mac)]
    mac_address: Option<MacAddr>,
    /// One more name for it on the first network
    #[arg(long, alias = "net-alias", value_name = "NAME")]
    network_alias: Vec<String>,
    /// Publish a port
    #[arg(short, long, value_name = "[IP:][HOST[-HOST]:]CONT[-CONT][/tcp|udp]")]
    publish: Vec<PublishSpec>,
    /// Who may call what it publishes, others being refused; everybody when none is given
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = source)]
    publish_from: Vec<IpNet>,
    /// Publish every exposed port at a port from 32768 on
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// A port that it is meant to be used by
    #[arg(long, value_name = "PORT[/PROTO]")]
    expose: Vec<Exposed>,
    /// Use the exposed ports of another container, under a name of one's own
    #[arg(long, value_name = "NAME[:ALIAS]")]
    link: Vec<LinkSpec>,
    /// A name server to ask about what its networks do not know
    #[arg(long, value_name = "IP", value_parser = super::parse_name_server)]
    dns: Vec<IpAddr>,
    /// A line for /etc/hosts
    #[arg(long, value_name = "HOST:IP")]
    add_host: Vec<String>,
    /// Its hostname; the short id when none is given
    #[arg(short = 'h', long)]
    hostname: Option<String>,
    /// A kernel setting inside
    #[arg(long, value_name = "KEY=VALUE")]
    sysctl: Vec<String>,
    /// A variable for the command
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = values::variable)]
    env: Vec<String>,
    /// Metadata
    #[arg(short, long, value_name = "KEY[=VALUE]", value_parser = values::label)]
    label: Vec<String>,
    /// Where it starts
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// Accepted and noted: a container of ours is not confined beyond its namespaces
    #[arg(long)]
    privileged: bool,
    /// Accepted, as what it would permit is: root inside may do everything to the container's network
    #[arg(long, hide = true, value_name = "CAP")]
    cap_add: Vec<String>,
    /// Accepted: every container of ours has one
    #[arg(long, hide = true)]
    init: bool,
    /// Plain frames for this container, through tun-tap, whatever the daemon does
    #[arg(long)]
    no_offload: bool,
    /// How large a file of its log gets, as max-size=4m; there are two, of which the older one goes
    #[arg(long, value_name = "max-size=SIZE")]
    log_opt: Vec<String>,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// The command; without one the container idles until it is stopped
    #[arg(trailing_var_arg = true, value_name = "CMD")]
    command: Vec<String>,
}

/// How a container meets its user.
#[derive(Debug, Clone, Copy, Default)]
pub struct Face {
    detach: bool,
    interactive: bool,
    tty: bool,
}

impl Face {
    /// In the background.
    pub const DETACHED: Self = Self { detach: true, interactive: false, tty: false };

    /// A daemon that a foreground command has to start ends with it.
    pub(super) const fn daemon_flags(self) -> &'static [&'static str] {
        if self.detach { &[] } else { &["--transient"] }
    }
}

/// `tapswitch run`.
///
/// # Errors
/// When the container cannot be made; the command's own failure is its exit code.
pub fn run(global: &Global, mut arguments: RunArgs) -> anyhow::Result<u8> {
    let image = image::read(arguments.command).map_err(anyhow::Error::msg)?;
    arguments.command = image.command;
    image.note.iter().for_each(|note| eprintln!("tapswitch: {note}"));
    if arguments.privileged {
        eprintln!("tapswitch: --privileged noted: a container of ours is not confined beyond its namespaces");
    }
    let face = Face { detach: arguments.detach, interactive: arguments.interactive, tty: arguments.tty };
    if face.tty && face.interactive && !face.detach && !std::io::stdin().is_terminal() {
        bail!("-t takes a terminal on standard input, and there is none: leave -t out");
    }
    let auto_remove = arguments.rm;
    let spec = ContainerSpec { image: image.image.unwrap_or_default(), ..spec(arguments)? };
    let plan = Plan { auto_remove, ..Plan::new(spec) };
    if face.detach && Daemon::try_connect(&global.socket())?.is_none() {
        start_daemon(&global.socket(), face)?;
    }
    launch(global, &plan, face, true)
}

/// Starts a daemon that stays, and says so, unless somebody else starts one in the same moment.
fn start_daemon(socket: &Path, face: Face) -> anyhow::Result<()> {
    match super::client::start(socket, face.daemon_flags()) {
        Ok(()) => {
            let socket = socket.display();
            eprintln!("tapswitch: started a daemon at {socket}; 'tapswitch down --all' ends it");
            Ok(())
        }
        Err(error) => Daemon::try_connect(socket)?.map(drop).ok_or(error),
    }
}

/// Starts a daemon that stays, unless one runs.
///
/// # Errors
/// When it cannot be started.
pub(super) fn ensure_daemon(socket: &Path) -> anyhow::Result<()> {
    if Daemon::try_connect(socket)?.is_none() {
        start_daemon(socket, Face::DETACHED)?;
    }
    Ok(())
}

/// `tapswitch start NAME..`: runs containers that have ended once more, in the background.
///
/// # Errors
/// When one of them runs, or is not known.
pub fn start(global: &Global, names: &[String]) -> anyhow::Result<u8> {
    super::each(names, |name| {
        let mut daemon = Daemon::connect(&global.socket())?;
        let facts: ContainerFacts = daemon.call(Request::ContainerFind { name: name.to_owned() })?;
        drop(daemon);
        // One that runs stays as it is, as in Docker.
        if facts.pid.is_none() {
            let face =
                Face { tty: facts.spec.terminal, interactive: facts.spec.interactive, ..Face::DETACHED };
            launch(global, &Plan { again: true, ..Plan::new(facts.spec) }, face, false)?;
        }
        println!("{name}");
        Ok(())
    })
}

/// `tapswitch restart NAME..`: stops containers and runs them once more, in the background.
///
/// # Errors
/// When one of them does not end, or is not known.
pub fn restart(global: &Global, names: &[String], grace: Option<u64>) -> anyhow::Result<u8> {
    super::each(names, |name| {
        super::container::stop_one(global, name, super::container::grace(grace))?;
        start(global, &[name.to_owned()]).map(drop)
    })
}

/// A container to be.
#[derive(Debug)]
pub struct Plan {
    /// As the daemon is told.
    pub spec: ContainerSpec,
    /// Forget it when it ends.
    pub auto_remove: bool,
    /// It has ended, and is run once more.
    pub again: bool,
}

impl Plan {
    /// A container that is new, and stays when it has ended.
    pub const fn new(spec: ContainerSpec) -> Self {
        Self { spec, auto_remove: false, again: false }
    }

    /// How the daemon is asked for it.
    pub(super) fn request(&self) -> Request {
        if self.again {
            return Request::ContainerAgain { name: self.spec.name.clone().unwrap_or_default() };
        }
        Request::ContainerCreate { spec: self.spec.clone(), auto_remove: self.auto_remove }
    }
}

/// Makes a container and supervises it: here, or in the background.
///
/// # Errors
/// When it cannot be made.
pub fn launch(global: &Global, plan: &Plan, face: Face, print_id: bool) -> anyhow::Result<u8> {
    if !face.detach {
        let mut supervisor = Supervisor::start(global, plan, face)?;
        let exit = supervisor.attend()?;
        return Ok(u8::try_from(exit).unwrap_or(u8::MAX));
    }
    let supervise = |parent: Channel| match Supervisor::start(global, plan, face) {
        Ok(mut supervisor) => {
            // A parent that does not listen any more does not matter to the container.
            let _ = parent.send(&Ok::<_, String>(supervisor.id()), &[]);
            drop(parent);
            supervisor.attend().map_or(1, |_| 0)
        }
        Err(error) => {
            let _ = parent.send(&Err::<Id, _>(format!("{error:#}")), &[]);
            1
        }
    };
    match helper::detach::<Result<Id, String>>(supervise)? {
        Some((Ok(id), _)) if print_id => println!("{id}"),
        Some((Ok(_), _)) => {}
        Some((Err(why), _)) => bail!("{why}"),
        None => bail!("the container's supervisor ended before it ran"),
    }
    Ok(0)
}

pub(super) fn container_spec(created: &Created, plan: &Plan, face: Face) -> anyhow::Result<Spec> {
    let output = if face.detach {
        Output::Bounded(created.directory.join("log"), plan.spec.log_size.unwrap_or(log::USUAL_SIZE))
    } else {
        Output::Inherit
    };
    let mut sysctls = Vec::new();
    if let Some(forward) = plan.spec.forward {
        let value = u8::from(forward).to_string();
        let v6 = created.ipv6.then_some("net.ipv6.conf.all.forwarding");
        let keys = ["net.ipv4.ip_forward"].into_iter().chain(v6);
        sysctls.extend(keys.map(|key| (key.to_owned(), value.clone())));
    }
    // What is said of a setting itself comes last, and holds.
    sysctls.extend(plan.spec.sysctls.iter().cloned());
    Ok(Spec {
        hostname: created.hostname.clone(),
        command: plan.spec.command.clone(),
        env: plan.spec.env.clone(),
        workdir: plan.spec.workdir.clone(),
        terminal: face.tty,
        interactive: face.interactive && !face.detach,
        stdin_open: face.interactive && face.detach,
        sysctls,
        files: Some(created.directory.clone()),
        taps: created.networks.len(),
        plain_taps: plan.spec.plain || !created.offload,
        ipv6: created.ipv6,
        host_network: created.host_network,
        output,
    })
}

/// In the host's network the host's own names hold, and those that were added.
pub(super) fn write_hosts(directory: &Path, added: &[(String, IpAddr)]) -> anyhow::Result<()> {
    let mut text = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    text.extend(added.iter().map(|(name, address)| format!("{address}\t{name}\n")));
    let path = directory.join("hosts");
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn spec(arguments: RunArgs) -> anyhow::Result<ContainerSpec> {
    let mut networks = arguments.network;
    if networks.is_empty() {
        networks.push(EndpointSpec::on(crate::control::model::DEFAULT_NETWORK));
    }
    if let Some(first) = networks.first_mut() {
        first.addresses.extend(arguments.ip.into_iter().chain(arguments.ip6.into_iter().map(IpAddr::from)));
        first.mac = arguments.mac_address.or(first.mac);
        first.aliases.extend(arguments.network_alias);
    }
    let on = |name: &str| networks.iter().any(|wish| wish.network == name);
    let publishes = !arguments.publish.is_empty() || arguments.publish_all;
    if publishes && (on("host") || on("none")) {
        let mode = if on("host") { "host" } else { "none" };
        eprintln!("WARNING: Published ports are discarded when using {mode} network mode");
    }
    // In the host's network it has the host's name, as in Docker.
    let own = on("host").then(|| nix::unistd::gethostname().ok()?.into_string().ok()).flatten();
    Ok(ContainerSpec {
        name: arguments.name,
        hostname: arguments.hostname.or(own),
        command: arguments.command,
        env: super::variables(&arguments.env),
        interactive: arguments.interactive,
        workdir: arguments.workdir,
        terminal: arguments.tty,
        plain: arguments.no_offload,
        log_size: log_size(&arguments.log_opt)?,
        sysctls: arguments
            .sysctl
            .iter()
            .map(|text| pair(text, '=', "--sysctl"))
            .collect::<anyhow::Result<_>>()?,
        extra_hosts: arguments.add_host.iter().map(|text| host(text)).collect::<anyhow::Result<_>>()?,
        dns: arguments.dns,
        networks,
        publish: arguments.publish,
        publish_from: arguments.publish_from,
        publish_all: arguments.publish_all,
        expose: arguments.expose,
        links: arguments.link,
        labels: arguments.label.iter().map(|text| super::key_value(text)).collect(),
        ..ContainerSpec::default()
    })
}

/// `max-size=SIZE`, as Docker's: bytes, or with k, m or g.
fn log_size(options: &[String]) -> anyhow::Result<Option<u64>> {
    let mut size = None;
    for text in options {
        let (key, value) = pair(text, '=', "--log-opt")?;
        if key != "max-size" {
            bail!("--log-opt '{key}' is not known: max-size is, and there are always two files");
        }
        let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match value.get(digits.len()..).unwrap_or_default().to_ascii_lowercase().as_str() {
            "" | "b" => Some(1),
            "k" | "kb" => Some(1 << 10),
            "m" | "mb" => Some(1 << 20),
            "g" | "gb" => Some(1 << 30),
            _ => None,
        };
        let bytes = digits.parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
        let bytes = bytes.filter(|bytes| *bytes >= 1 << 10);
        size = Some(bytes.with_context(|| format!("--log-opt '{text}': give 1k or more, as max-size=4m"))?);
    }
    Ok(size)
}

fn pair(text: &str, separator: char, flag: &str) -> anyhow::Result<(String, String)> {
    let (key, value) = text
        .split_once(separator)
        .with_context(|| format!("{flag} '{text}': '{separator}' is missing, as in KEY{separator}VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn host(text: &str) -> anyhow::Result<(String, IpAddr)> {
    let (name, address) = pair(text, ':', "--add-host")?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    Ok((name, address.parse().with_context(|| format!("--add-host '{text}': '{address}' is no IP address"))?))
}
