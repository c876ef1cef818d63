//! `network …`.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, anyhow, bail};
use ipnet::IpNet;

use super::client::{Daemon, is_refused};
use super::container::enter;
use super::{Global, key_value, output, values};
use crate::control::Kind;
use crate::control::ipam::SubnetSpec;
use crate::control::model::{Driver, EndpointSpec, NetworkSpec};
use crate::control::options::{NetworkOptions, comma_list};
use crate::control::requests::{Joined, NetworkCreated, Request, Status};
use crate::control::show::{self, Filters, NetworkRow};
use crate::io;

/// Networks: create, list, change, remove.
#[derive(Debug, clap::Subcommand)]
pub enum NetworkCommand {
    /// Create a network
    #[command(after_help = "EXAMPLES\n  tapswitch network create net1\n  \
        tapswitch network create --subnet 172.20.0.0/16 --ip-range 172.20.5.0/24 -o icc=false net2\n  \
        tapswitch network create --dns 10.0.0.53 office\n  \
        sudo tapswitch network create -o host_port=true net4     the host is on it, as br-…\n  \
        tapswitch network create --ipv6 -o ra=true -o masquerade=false -o uplink=wan net3")]
    Create(CreateArgs),
    /// List networks
    #[command(visible_alias = "list")]
    Ls {
        /// Ids only
        #[arg(short, long)]
        quiet: bool,
        /// Whole ids
        #[arg(long)]
        no_trunc: bool,
        /// Only these: driver=, id=, label=KEY[=VALUE], name=PART, scope=, type=custom|builtin, dangling=true
        #[arg(short, long, value_name = "KEY=VALUE")]
        filter: Vec<String>,
        /// A template for each line, as {{.Name}}, 'table {{.ID}}\t{{.Name}}', or json
        #[arg(long, value_name = "TEMPLATE")]
        format: Option<String>,
    },
    /// Show networks in full, as Docker does
    Inspect {
        /// A template in Go's language: {{.IPAM.Config}}, {{json .Options}}, {{range .Containers}}…{{end}}
        #[arg(short, long, value_name = "TEMPLATE")]
        format: Option<String>,
        /// Names or ids
        #[arg(required = true, value_name = "NETWORK")]
        names: Vec<String>,
    },
    /// Remove networks that nobody is on
    #[command(visible_alias = "remove")]
    Rm {
        /// Names or ids
        #[arg(required = true, value_name = "NETWORK")]
        names: Vec<String>,
    },
    /// Put a running container on one more network
    Connect {
        /// Its address there
        #[arg(long, value_parser = values::ip)]
        ip: Vec<IpAddr>,
        /// One more name for it there
        #[arg(long, value_name = "NAME")]
        alias: Vec<String>,
        /// Name or id of the network
        network: String,
        /// Name or id of the container
        container: String,
    },
    /// Take a container off a network
    Disconnect {
        /// Name or id of the network
        network: String,
        /// Name or id of the container
        container: String,
    },
    /// Change a network's options while it runs
    #[command(after_help = "EXAMPLES\n  tapswitch network set net1 -o ageing=10 -o icc=false\n  \
        tapswitch network set net1 -o uplink=wan -o masquerade_ports=20000-29999\n  \
        tapswitch network set net1 -o dns=10.0.0.53,10.0.1.53\n  \
        sudo tapswitch network set net1 -o host_port=true        the host is on it, too\n  \
        tapswitch network set net1 -o uplink=        back to what holds for all")]
    Set {
        /// Name or id
        network: String,
        /// An option, as at create
        #[arg(short, long = "opt", value_name = "KEY=VALUE", required = true)]
        opt: Vec<String>,
    },
    /// Remove every network that nobody is on
    Prune {
        /// Do not ask, which is done at a terminal only
        #[arg(short, long)]
        force: bool,
        /// Only these: label=KEY[=VALUE]
        #[arg(long, value_name = "KEY=VALUE")]
        filter: Vec<String>,
    },
}

/// Flags of `network create`.
#[derive(Debug, clap::Args)]
pub struct CreateArgs {
    /// The kind of network
    #[arg(short, long, default_value = "bridge", value_parser = ["bridge"])]
    driver: String,
    /// A subnet, IPv4 or IPv6; chosen when none is given
    #[arg(long, value_name = "CIDR", value_parser = values::cidr)]
    subnet: Vec<IpNet>,
    /// Hand addresses out of this part of the subnet only
    #[arg(long, value_name = "CIDR", value_parser = values::cidr)]
    ip_range: Vec<IpNet>,
    /// The gateway's address
    #[arg(long, value_name = "IP", value_parser = values::ip)]
    gateway: Vec<IpAddr>,
    /// An address that is somebody else's
    #[arg(long, value_name = "NAME=IP")]
    aux_address: Vec<String>,
    /// Give the network an IPv6 subnet too
    #[arg(long)]
    ipv6: bool,
    /// No way to the outside
    #[arg(long)]
    internal: bool,
    /// A name server for its gateway to ask, instead of the daemon's
    #[arg(long, value_name = "IP", value_parser = super::parse_name_server)]
    dns: Vec<IpAddr>,
    /// Metadata
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::label)]
    label: Vec<String>,
    /// An option, by its short key or Docker's: icc=false, masquerade=false, masquerade_to=IP,
    /// masquerade_to6=IP, masquerade_ports=LO-HI, host_binding=IP, uplink=NAME, forward=false, ra=true,
    /// mss_clamp=pmtu, mtu=9000, bridge_name=NAME, iface_prefix=eth, inhibit_ipv4=true, dns=IP,IP,
    /// host_port=true, ageing=300, fdb_limit=N, fdb_port_limit=N, flood_limit=N
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    opt: Vec<String>,
    /// The network's name
    name: String,
}

/// `tapswitch network …`.
///
/// # Errors
/// What the daemon refuses.
pub fn run(global: &Global, command: NetworkCommand) -> anyhow::Result<u8> {
    let mut daemon = Daemon::connect(&global.socket())?;
    match command {
        NetworkCommand::Create(arguments) => {
            let id = create(&mut daemon, spec(arguments)?)?;
            println!("{id}");
            Ok(0)
        }
        NetworkCommand::Ls { quiet, no_trunc, filter, format } => {
            let filters = Filters::read(&filter, &NetworkRow::FILTERS)?;
            let mut rows: Vec<NetworkRow> = daemon.call(Request::NetworkList)?;
            rows.retain(|row| row.fits(&filters));
            if global.json {
                output::json(&rows)
            } else if quiet {
                let len = if no_trunc { 64 } else { 12 };
                output::print(&rows.iter().map(|row| format!("{:.len$}\n", row.id)).collect::<String>())
            } else if let Some(format) = format {
                output::print(&show::network_format(&rows, &format, no_trunc)?)
            } else {
                output::print(&show::network_table(&rows, no_trunc))
            }
        }
        NetworkCommand::Inspect { format, names } => {
            let found: Vec<serde_json::Value> = daemon.call(Request::NetworkInspect { names })?;
            super::container::print_inspected(&found, format.as_deref())
        }
        NetworkCommand::Rm { names } => super::each(&names, |name| {
            let removed: String = daemon.call(Request::NetworkRemove { name: name.to_owned() })?;
            println!("{removed}");
            Ok(())
        }),
        NetworkCommand::Connect { ip, alias, network, container } => {
            let endpoint = EndpointSpec { addresses: ip, aliases: alias, ..EndpointSpec::on(&network) };
            let ipv6 = daemon.call(Request::ConnectPlan { container: container.clone(), network })?;
            let descriptors = enter(&mut daemon, &container, ipv6)?;
            let _: Joined =
                daemon.call_with(Request::Connect { container, endpoint }, &descriptors.borrow())?;
            Ok(0)
        }
        NetworkCommand::Disconnect { network, container } => {
            let () = daemon.call(Request::Disconnect { container, network })?;
            Ok(0)
        }
        NetworkCommand::Set { network, opt } => {
            let options: Vec<_> = opt.iter().map(|text| key_value(text)).collect();
            let opened = host_port(&mut daemon, &network, &options)?;
            let handed: Vec<BorrowedFd<'_>> = opened.iter().map(AsFd::as_fd).collect();
            let () = daemon.call_with(Request::NetworkSet { name: network, options }, &handed)?;
            Ok(0)
        }
        NetworkCommand::Prune { force, filter } => {
            let filters = Filters::read(&filter, &["label"])?;
            if !force && !is_sure()? {
                return Ok(0);
            }
            let removed = prune(&mut daemon, &filters)?;
            if !removed.is_empty() {
                println!("Deleted Networks:\n{}\n", removed.join("\n"));
            }
            Ok(0)
        }
    }
}

/// Removes unused networks: all, or those of some labels, one by one; what is in use by then stays.
fn prune(daemon: &mut Daemon, filters: &Filters) -> anyhow::Result<Vec<String>> {
    if !filters.has("label") {
        return daemon.call(Request::NetworkPrune);
    }
    let mut rows: Vec<NetworkRow> = daemon.call(Request::NetworkList)?;
    rows.retain(|row| row.is_dangling() && row.fits(filters));
    let mut removed = Vec::new();
    for row in rows {
        match daemon.call::<String>(Request::NetworkRemove { name: row.id }) {
            Ok(name) => removed.push(name),
            Err(error) if is_refused(&error, Kind::NetworkInUse) || is_refused(&error, Kind::InUse) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}

/// Asks as Docker does, where there is somebody to answer.
fn is_sure() -> anyhow::Result<bool> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Ok(true);
    }
    println!("WARNING! This will remove all custom networks not used by at least one container.");
    print!("Are you sure you want to continue? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    input.read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y"))
}

/// Creates a network, and the host's port on it if it is to have one. Answer: its id.
///
/// # Errors
/// What the daemon refuses, and a host port without CAP_NET_ADMIN.
pub(super) fn create(daemon: &mut Daemon, spec: NetworkSpec) -> anyhow::Result<String> {
    let opened = host_port(daemon, &spec.name, &spec.options)?;
    let handed: Vec<BorrowedFd<'_>> = opened.iter().map(AsFd::as_fd).collect();
    let created: NetworkCreated = daemon.call_with(Request::NetworkCreate { spec }, &handed)?;
    created.remarks.iter().for_each(|remark| eprintln!("tapswitch: {remark}"));
    Ok(created.id.to_string())
}

/// What the host's port on a network is made of, where the options ask for one.
fn host_port(
    daemon: &mut Daemon,
    network: &str,
    options: &[(String, String)],
) -> anyhow::Result<Vec<OwnedFd>> {
    let mut wanted = NetworkOptions::default();
    // The daemon says what is wrong with them.
    let is_good = options.iter().all(|(key, value)| wanted.set(key, value).is_ok());
    if !is_good || !wanted.host_port {
        return Ok(Vec::new());
    }
    let status: Status = daemon.call(Request::Status)?;
    let opened = io::host_port::open(status.offload).map_err(|error| {
        anyhow!(
            "network '{network}' cannot have a host_port: {error}: it takes CAP_NET_ADMIN, run this and the \
             daemon as root; 'tapswitch proxy {network}' reaches it without"
        )
    })?;
    Ok(opened.into())
}

fn spec(arguments: CreateArgs) -> anyhow::Result<NetworkSpec> {
    let pair = |text: &String| -> anyhow::Result<(String, IpAddr)> {
        let (name, ip) =
            text.split_once('=').with_context(|| format!("--aux-address '{text}' is not NAME=IP"))?;
        Ok((
            name.to_owned(),
            ip.parse().with_context(|| format!("--aux-address '{text}': '{ip}' is no IP address"))?,
        ))
    };
    let aux: Vec<(String, IpAddr)> = arguments.aux_address.iter().map(pair).collect::<anyhow::Result<_>>()?;
    let subnets = SubnetSpec::assemble(&arguments.subnet, &arguments.ip_range, &arguments.gateway, &aux)?;
    let labels: BTreeMap<String, String> = arguments.label.iter().map(|text| key_value(text)).collect();
    if arguments.name.is_empty() {
        bail!("a network needs a name");
    }
    let mut options: Vec<(String, String)> = arguments.opt.iter().map(|text| key_value(text)).collect();
    if !arguments.dns.is_empty() {
        options.push(("dns".to_owned(), comma_list(&arguments.dns)));
    }
    Ok(NetworkSpec {
        name: arguments.name,
        driver: Driver::Bridge,
        subnets,
        ipv6: arguments.ipv6,
        internal: arguments.internal,
        options,
        labels,
        lab: None,
    })
}
