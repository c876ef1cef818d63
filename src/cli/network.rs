//! `network …`.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, anyhow, bail};
use ipnet::IpNet;

use super::client::{Daemon, is_refused};
use super::container::{Entered, enter, inspect_each};
use super::{Global, key_value, output, values};
use crate::control::Kind;
use crate::control::ipam::SubnetSpec;
use crate::control::model::{Driver, EndpointSpec, LinkSpec, NetworkSpec};
use crate::control::options::{NetworkOptions, comma_list};
use crate::control::requests::{Joined, NetworkCreated, Request, RouterRequest, Status};
use crate::control::show::{self, Filters, NetworkRow};
use crate::io::{self, host};

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
        /// Accepted: all there is is shown
        #[arg(short, long, hide = true)]
        verbose: bool,
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
        /// Do not mind those that are not there
        #[arg(short, long)]
        force: bool,
        /// Names or ids
        #[arg(required = true, value_name = "NETWORK")]
        names: Vec<String>,
    },
    /// Put a container on one more network; one that has ended is on it when it runs again
    #[command(after_help = "EXAMPLE\n  tapswitch network connect --ip 172.20.0.9 --alias www net2 web")]
    Connect {
        /// Its address there
        #[arg(long, value_parser = values::ip)]
        ip: Vec<IpAddr>,
        /// Its IPv6 address there
        #[arg(long, value_name = "IP")]
        ip6: Vec<Ipv6Addr>,
        /// Use the exposed ports of a container there, under a name of one's own
        #[arg(long, value_name = "NAME[:ALIAS]")]
        link: Vec<LinkSpec>,
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
        /// Accepted: nothing holds a container on a network here
        #[arg(short, long, hide = true)]
        force: bool,
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
        /// Do not ask
        #[arg(short, long)]
        force: bool,
        /// Only these: label=KEY[=VALUE], label!=KEY[=VALUE], until=AGE or TIME
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
    /// Kept and shown: whoever is here may join anyway
    #[arg(long)]
    attachable: bool,
    /// Where it is: here
    #[arg(long, hide = true, value_parser = ["local"])]
    scope: Option<String>,
    /// Who hands addresses out
    #[arg(long, hide = true, value_parser = ["default"])]
    ipam_driver: Option<String>,
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
            } else if let Some(format) = format.filter(|format| format != "table") {
                output::print(&show::network_format(&rows, &format, no_trunc)?)
            } else if quiet {
                let len = if no_trunc { 64 } else { 12 };
                output::print(&rows.iter().map(|row| format!("{:.len$}\n", row.id)).collect::<String>())
            } else {
                output::print(&show::network_table(&rows, no_trunc))
            }
        }
        NetworkCommand::Inspect { format, names, .. } => inspect_each(&names, format.as_deref(), |name| {
            daemon.call(Request::NetworkInspect { names: vec![name.to_owned()] })
        }),
        NetworkCommand::Rm { force, names } => super::each(&names, |name| {
            match daemon.call::<String>(Request::NetworkRemove { name: name.to_owned() }) {
                Ok(removed) => println!("{removed}"),
                Err(error) if force && is_refused(&error, Kind::UnknownNetwork) => {}
                Err(error) => return Err(error),
            }
            Ok(())
        }),
        NetworkCommand::Connect { ip, ip6, link, alias, network, container } => {
            let addresses = ip.into_iter().chain(ip6.into_iter().map(IpAddr::from)).collect();
            let endpoint =
                EndpointSpec { addresses, aliases: alias, connected: true, ..EndpointSpec::on(&network) };
            connect(&mut daemon, container, endpoint, link)
        }
        NetworkCommand::Disconnect { network, container, .. } => {
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
            let filters = Filters::read(&filter, &["label", "label!", "until"])?;
            let until = until(&filters)?;
            if !force && !is_sure()? {
                return Ok(0);
            }
            let removed = prune(&mut daemon, &filters, until)?;
            if !removed.is_empty() {
                println!("Deleted Networks:\n{}\n", removed.join("\n"));
            }
            Ok(0)
        }
    }
}

/// Puts a container on a network, with links to others there: all of it, or nothing.
fn connect(
    daemon: &mut Daemon,
    container: String,
    endpoint: EndpointSpec,
    links: Vec<LinkSpec>,
) -> anyhow::Result<u8> {
    let network = endpoint.network.clone();
    let plan = Request::ConnectPlan { container: container.clone(), network: network.clone() };
    let descriptors = match daemon.call::<Option<bool>>(plan)? {
        Some(ipv6) => Some(enter(daemon, &container, ipv6)?),
        None => None,
    };
    let handed = descriptors.as_ref().map(Entered::borrow).unwrap_or_default();
    let request = Request::Connect { container: container.clone(), endpoint };
    let _: Option<Joined> = daemon.call_with(request, &handed)?;
    for link in links {
        let request = Request::Router(RouterRequest::Link { name: container.clone(), link });
        if let Err(error) = daemon.call::<()>(request) {
            let () = daemon.call(Request::Disconnect { container, network })?;
            return Err(error);
        }
    }
    Ok(0)
}

/// The moment before which networks were made that are to go.
fn until(filters: &Filters) -> anyhow::Result<Option<u64>> {
    let moment = |text: &str| {
        show::moment(text, host::now_ns()).with_context(|| {
            format!(
                "failed to parse value as time or duration: \"{text}\": until takes an age, as 24h or 1h30m, or a \
                 time, as 2026-01-31T12:00:00"
            )
        })
    };
    let moments = filters.values("until").map(moment).collect::<anyhow::Result<Vec<u64>>>()?;
    Ok(moments.into_iter().min())
}

/// Removes unused networks: all, or those that filters let through, one by one; what is in use by then stays.
fn prune(daemon: &mut Daemon, filters: &Filters, until: Option<u64>) -> anyhow::Result<Vec<String>> {
    if until.is_none() && !filters.has("label") && !filters.has("label!") {
        return daemon.call(Request::NetworkPrune);
    }
    let mut rows: Vec<NetworkRow> = daemon.call(Request::NetworkList)?;
    rows.retain(|row| row.is_pruned(filters, until));
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

/// Asks as Docker does; silence is no.
fn is_sure() -> anyhow::Result<bool> {
    println!("WARNING! This will remove all custom networks not used by at least one container.");
    print!("Are you sure you want to continue? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
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
        attachable: arguments.attachable,
        options,
        labels,
        lab: None,
    })
}
