//! `uplink …`: ways to the outside.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use anyhow::bail;
use ipnet::IpNet;

use super::client::Daemon;
use super::plug;
use super::{Global, output, values};
use crate::control::model::{FarEnd, PRIVATE, UplinkChange, UplinkSpec, UserOptions};
use crate::control::requests::{Request, RouterRequest, Status};
use crate::control::show::{self, UplinkRow};
use crate::control::state::{Origin, Whence};
use crate::io::foreign::{self, Opened};
use crate::io::netns::{Identity, Target};
use crate::io::uplink;
use crate::wire::MacAddr;

/// Ways to the outside.
#[derive(Debug, clap::Subcommand)]
pub enum UplinkCommand {
    /// Make an uplink
    #[command(after_help = "EXAMPLES\n  \
        tapswitch uplink add wan --tap wan0 --ip 192.168.77.1/24 --gateway 192.168.77.2\n  \
        tapswitch uplink add lab --tap eth0 --pid 4711 --ip 10.9.0.1/24 --ip fd00:9::1/64\n  \
        tapswitch uplink add lan --interface eth0 --ip 10.0.0.50/24 --gateway 10.0.0.1\n  \
        tapswitch uplink add vpn --user --source 10.8.0.2 --ip 192.0.0.9/29 --gateway 192.0.0.10")]
    Add(AddArgs),
    /// Change an uplink while it runs
    #[command(after_help = "EXAMPLE\n  tapswitch uplink set wan --gateway 192.168.77.3")]
    Set {
        /// Name or id
        name: String,
        /// What to change
        #[command(flatten)]
        settings: Settings,
    },
    /// List uplinks, and the state of each: up, down, link-down, conflict (its interface has our address), lost
    #[command(visible_alias = "list", after_help = "EXAMPLE\n  tapswitch uplink ls --json")]
    Ls,
    /// Remove uplinks
    #[command(visible_alias = "remove", after_help = "EXAMPLE\n  tapswitch uplink rm wan")]
    Rm {
        /// Names or ids
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

/// Flags of `uplink add`.
#[derive(Debug, clap::Args)]
pub struct AddArgs {
    /// Its name
    name: String,
    #[command(flatten)]
    kind: KindArgs,
    /// Make the TAP in the namespaces of this process; the uplink is lost when it ends
    #[arg(long, requires = "tap", conflicts_with = "netns", value_parser = values::pid)]
    pid: Option<i32>,
    /// Make the TAP in this network namespace, as /run/netns/NAME
    #[arg(long, value_name = "PATH", requires = "tap")]
    netns: Option<PathBuf>,
    /// The user namespace that owns it, where that is not found out by itself
    #[arg(long, value_name = "PATH", requires = "netns")]
    userns: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

/// What is behind an uplink.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct KindArgs {
    /// A TAP of this name; who owns its namespace configures it
    #[arg(long, value_name = "IFNAME")]
    tap: Option<String>,
    /// A real interface: we are one more station on its link
    #[arg(long, value_name = "IF")]
    interface: Option<String>,
    /// Sockets of the host's: needs no privilege
    #[arg(long)]
    user: bool,
}

/// How flows leave by a user uplink; what is given replaces all of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, clap::Args)]
#[command(next_help_heading = "User uplinks")]
pub struct UserArgs {
    /// The uplink's gateway, host.tapswitch.internal, stands for the host's loopback
    #[arg(long)]
    allow_host: bool,
    /// Where nothing may go
    #[arg(long, value_name = "CIDR", value_parser = values::cidr)]
    deny: Vec<IpNet>,
    /// Nothing may go to private networks (RFC 1918, RFC 6598, RFC 4193)
    #[arg(long)]
    deny_private: bool,
    /// The host's address to go out from
    #[arg(long, value_name = "IP", value_parser = values::ip)]
    source: Vec<IpAddr>,
    /// The host's interface to go out by
    #[arg(long, value_name = "IF")]
    out: Option<String>,
}

impl UserArgs {
    fn options(self) -> UserOptions {
        let private = PRIVATE.iter().filter_map(|text| text.parse().ok());
        let private = self.deny_private.then_some(private).into_iter().flatten();
        UserOptions {
            host: self.allow_host,
            denied: self.deny.into_iter().chain(private).collect(),
            source: self.source,
            interface: self.out,
        }
    }
}

/// What can be changed of an uplink.
#[derive(Debug, clap::Args)]
pub struct Settings {
    /// Our address there, with the length of its subnet
    #[arg(long, value_name = "CIDR", value_parser = values::cidr)]
    ip: Vec<IpNet>,
    /// The next hop of the default route
    #[arg(long, value_name = "IP", value_parser = values::ip)]
    gateway: Vec<IpAddr>,
    /// Our MAC address there; 02:42 and the IPv4 address when none is given
    #[arg(long, value_name = "MAC", value_parser = values::mac)]
    mac: Option<MacAddr>,
    /// The largest packet, in bytes; of an interface, no more than that takes
    #[arg(long, value_name = "BYTES", value_parser = values::number::<u32>(68, 65_521))]
    mtu: Option<u32>,
    #[command(flatten)]
    user: UserArgs,
}

/// `tapswitch uplink …`.
///
/// # Errors
/// What the daemon refuses, and namespaces that cannot be entered.
pub fn run(global: &Global, command: UplinkCommand) -> anyhow::Result<u8> {
    let mut daemon = Daemon::connect(&global.socket())?;
    match command {
        UplinkCommand::Add(arguments) => return add(&mut daemon, arguments),
        UplinkCommand::Set { name, settings } => {
            let Settings { ip: addresses, gateway: gateways, mac, mtu, user } = settings;
            let user = (user != UserArgs::default()).then(|| user.options());
            let change = UplinkChange { addresses, gateways, mac, mtu, user };
            if change == UplinkChange::default() {
                super::bad_usage(
                    "nothing to set: give --ip, --gateway, --mac, --mtu, or one of a user uplink's",
                );
            }
            let () = daemon.call(Request::Router(RouterRequest::UplinkSet { name, change }))?;
        }
        UplinkCommand::Ls => {
            let rows: Vec<UplinkRow> = daemon.call(Request::Router(RouterRequest::UplinkList))?;
            return if global.json { output::json(&rows) } else { output::print(&show::uplink_table(&rows)) };
        }
        UplinkCommand::Rm { names } => {
            return super::each(&names, |name| {
                let request = Request::Router(RouterRequest::UplinkRemove { name: name.to_owned() });
                let removed: String = daemon.call(request)?;
                println!("{removed}");
                Ok(())
            });
        }
    }
    Ok(0)
}

fn add(daemon: &mut Daemon, arguments: AddArgs) -> anyhow::Result<u8> {
    let target = match (arguments.pid, arguments.netns) {
        (Some(pid), _) => Some(Target::Pid(pid)),
        (None, Some(netns)) => Some(Target::Path { netns, userns: arguments.userns }),
        (None, None) => None,
    };
    let Settings { ip: addresses, gateway: gateways, mac, mtu, user } = arguments.settings;
    let far_end = match (arguments.kind.tap, arguments.kind.interface) {
        _ if arguments.kind.user => FarEnd::User(user.options()),
        _ if user != UserArgs::default() => super::bad_usage(
            "--allow-host, --deny, --deny-private, --source and --out are a user uplink's: give --user",
        ),
        (Some(ifname), _) => FarEnd::Tap(ifname),
        (None, Some(ifname)) => FarEnd::Packet(ifname),
        (None, None) => bail!("give --user, --tap IFNAME or --interface IF"),
    };
    let spec = UplinkSpec { name: arguments.name, far_end, addresses, gateways, mac, mtu, lab: None };
    let spec = spec.or_defaults();
    make(daemon, spec, target.as_ref())?;
    Ok(0)
}

/// Makes an uplink; its TAP, if it has one, in the target's namespace or in the present one.
///
/// # Errors
/// What the daemon refuses, and namespaces that cannot be entered.
pub fn make(daemon: &mut Daemon, spec: UplinkSpec, target: Option<&Target>) -> anyhow::Result<()> {
    let status: Status = daemon.call(Request::Status)?;
    let opened = match (&spec.far_end, target) {
        (FarEnd::Tap(_), Some(target)) => foreign::open(target, 1, status.offload)?,
        (FarEnd::Tap(_), None) => {
            let uplink::Descriptors { device, netlink, identity, .. } =
                uplink::open(None, uplink::Kind::Tap { offload: status.offload })?;
            here(vec![device, netlink], identity)
        }
        (FarEnd::Packet(_), _) => {
            let uplink::Descriptors { device, netlink, monitor, identity } =
                uplink::open(None, uplink::Kind::Packet)?;
            here(vec![device, netlink, monitor], identity)
        }
        (FarEnd::Container(_) | FarEnd::User(_), _) => here(Vec::new(), Identity { dev: 0, inode: 0 }),
    };
    let whence = match target {
        Some(target) => plug::whence(target, &opened, !status.offload, false),
        None => {
            let origin = Origin { inode: opened.inode, plain: !status.offload, ..Origin::default() };
            Whence { process: None, origin: Some(origin) }
        }
    };
    let pid = match target {
        Some(Target::Pid(pid)) => Some(u32::try_from(*pid)?),
        _ => None,
    };
    let request = Request::Router(RouterRequest::UplinkAdd { spec, pid, nursery: opened.nursery, whence });
    let handed: Vec<BorrowedFd<'_>> = opened.descriptors.iter().map(OwnedFd::as_fd).collect();
    let () = daemon.call_with(request, &handed)?;
    plug::tell_pinned(&opened, "tapswitch uplink rm");
    Ok(())
}

/// What was opened in the present namespace.
fn here(descriptors: Vec<OwnedFd>, identity: Identity) -> Opened {
    Opened { descriptors, nursery: false, inode: identity.inode, pinned: None }
}
