//! `plug`, `unplug`: namespaces of other people's.

use std::io::Write;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use anyhow::{Context, bail};

use super::Global;
use super::client::Daemon;
use super::container::parse_endpoint;
use super::values;
use crate::control::model::EndpointSpec;
use crate::control::ports::{Exposed, PublishSpec};
use crate::control::requests::{Joined, Request, Status};
use crate::control::state::{Origin, Whence};
use crate::io::foreign::{self, Opened};
use crate::io::host;
use crate::io::netns::Target;
use crate::wire::MacAddr;

/// Serve a namespace of somebody else's.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "EXAMPLES\n  unshare -Urn sleep 1000 & tapswitch plug box --network net1 --pid $! -p 8000:80\n  \
    sudo ip netns add red && sudo tapswitch plug red --network net1 --netns /run/netns/red"
)]
pub struct PlugArgs {
    /// What it is to be called
    name: String,
    /// The network to join
    #[arg(long, visible_alias = "net", value_name = "NET[:ip=..,mac=..,alias=..]", value_parser = parse_endpoint)]
    network: EndpointSpec,
    /// The namespaces of this process; it is unplugged when the process ends
    #[arg(long, required_unless_present = "netns", conflicts_with = "netns", value_parser = values::pid)]
    pid: Option<i32>,
    /// This network namespace, as /run/netns/NAME
    #[arg(long, value_name = "PATH")]
    netns: Option<PathBuf>,
    /// The user namespace that owns it, where that is not found out by itself
    #[arg(long, value_name = "PATH", requires = "netns")]
    userns: Option<PathBuf>,
    /// The interface to make inside; eth0, eth1, … in the order of its networks when none is given
    #[arg(long, value_name = "NAME")]
    ifname: Option<String>,
    /// Its address
    #[arg(long, value_name = "IP", value_parser = values::ip)]
    ip: Vec<IpAddr>,
    /// Its MAC address
    #[arg(long, value_name = "MAC", value_parser = values::mac)]
    mac: Option<MacAddr>,
    /// Publish a port
    #[arg(short, long, value_name = "[IP:][HOST[-HOST]:]CONT[-CONT][/tcp|udp]")]
    publish: Vec<PublishSpec>,
    /// A port that it is meant to be used by
    #[arg(long, value_name = "PORT[/PROTO]")]
    expose: Vec<Exposed>,
    /// Make the interface, but give it no address and leave it down
    #[arg(long)]
    no_config: bool,
    /// Plain frames for this namespace, through tun-tap, whatever the daemon does
    #[arg(long)]
    no_offload: bool,
    /// Write "1" to this descriptor when it is plugged in
    #[arg(long, value_name = "N", value_parser = values::number::<i32>(0, 1 << 30))]
    ready_fd: Option<i32>,
}

/// `tapswitch plug`.
///
/// # Errors
/// When the namespace cannot be entered, or the daemon refuses.
pub fn plug(global: &Global, arguments: PlugArgs) -> anyhow::Result<u8> {
    let ready = arguments.ready_fd.map(ready_file).transpose()?;
    let mut daemon = Daemon::connect(&global.socket())?;
    let status: Status = daemon.call(Request::Status)?;
    let target = match (arguments.pid, arguments.netns) {
        (Some(pid), _) => Target::Pid(pid),
        (None, Some(netns)) => Target::Path { netns, userns: arguments.userns },
        (None, None) => bail!("give --pid PID or --netns PATH"),
    };
    let plain = !status.offload || arguments.no_offload;
    let opened = foreign::open(&target, 1, !plain)?;
    let mut endpoint = arguments.network;
    endpoint.ifname = arguments.ifname.or(endpoint.ifname);
    endpoint.mac = arguments.mac.or(endpoint.mac);
    endpoint.addresses.extend(arguments.ip);
    let request = Request::Plug {
        name: arguments.name,
        endpoint,
        pid: arguments.pid.map(u32::try_from).transpose()?,
        nursery: opened.nursery,
        configure: !arguments.no_config,
        publish: arguments.publish,
        expose: arguments.expose,
        whence: whence(&target, &opened, plain, arguments.no_config),
    };
    let handed: Vec<BorrowedFd<'_>> = opened.descriptors.iter().map(AsFd::as_fd).collect();
    let joined: Joined = daemon.call_with(request, &handed)?;
    tell_pinned(&opened, "tapswitch unplug");
    drop(opened);
    tell(global, &joined)?;
    if let Some(mut ready) = ready {
        ready.write_all(b"1").context("cannot write to --ready-fd")?;
    }
    Ok(0)
}

/// By what a next daemon finds a namespace again.
pub(super) fn whence(target: &Target, opened: &Opened, plain: bool, bare: bool) -> Whence {
    // A path means the same to a daemon with another working directory.
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let (process, netns, userns) = match target {
        Target::Pid(pid) => (u32::try_from(*pid).ok().and_then(host::process), None, None),
        Target::Path { netns, userns } => (None, Some(absolute(netns)), userns.as_ref().map(absolute)),
    };
    Whence { process, origin: Some(Origin { netns, userns, inode: opened.inode, plain, bare }) }
}

/// Says what keeps a namespace alive, and the command that lets it go.
pub(super) fn tell_pinned(opened: &Opened, mend: &str) {
    if let Some(path) = &opened.pinned {
        let path = path.display();
        eprintln!("tapswitch: {path} stays alive until '{mend}': without root its end cannot be noticed");
    }
}

fn tell(global: &Global, joined: &Joined) -> anyhow::Result<()> {
    if global.json {
        super::output::json(&[joined])?;
        return Ok(());
    }
    let addresses: Vec<String> = joined.addresses.iter().map(ToString::to_string).collect();
    println!("{}: {} has {} and {}", joined.name, joined.ifname, joined.mac, addresses.join(" and "));
    if !joined.name_servers.is_empty() {
        println!("names: its files are not ours to touch; for /etc/resolv.conf inside:");
        joined.name_servers.iter().for_each(|server| println!("nameserver {server}"));
    }
    if !joined.hosts.is_empty() {
        println!("names: or for /etc/hosts inside:");
        joined.hosts.iter().for_each(|(name, address)| println!("{address}\t{name}"));
    }
    Ok(())
}

/// The descriptor of `--ready-fd`: known to be one before anything is plugged in.
fn ready_file(number: i32) -> anyhow::Result<std::fs::File> {
    let inherited = crate::io::sys::process::inherited(number);
    let inherited =
        inherited.with_context(|| format!("--ready-fd {number} is no descriptor that was handed on"))?;
    Ok(inherited.into())
}

/// `tapswitch unplug`.
///
/// # Errors
/// When it is not plugged in.
pub fn unplug(global: &Global, name: String, network: Option<String>) -> anyhow::Result<u8> {
    let () = Daemon::connect(&global.socket())?.call(Request::Unplug { name, network })?;
    Ok(0)
}
