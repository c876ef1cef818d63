//! `publish`, `unpublish`, `port`, `link`, `unlink`: who reaches a container's ports.

use anyhow::bail;
use ipnet::IpNet;

use super::client::Daemon;
use super::show::PortCommand;
use super::{Global, output};
use crate::control::model::LinkSpec;
use crate::control::ports::{Exposed, PublishSpec};
use crate::control::requests::{Request, RouterRequest};
use crate::control::show::{self, PublishRow};
use crate::control::sources::source;

/// What is to be published of a container, and for whom.
#[derive(Debug, clap::Args)]
pub struct PublishArgs {
    #[command(flatten)]
    what: UnpublishArgs,
    /// Who may call, others being refused; everybody, or whom run's --publish-from names, when none is given
    #[arg(long, value_name = "CIDR", value_delimiter = ',', num_args = 1.., value_parser = source)]
    from: Vec<IpNet>,
}

/// A container and what is published of it.
#[derive(Debug, clap::Args)]
pub struct UnpublishArgs {
    /// Name or id of the container
    name: String,
    /// Which ports, and where: a port of the container alone gets one from 32768 on
    #[arg(value_name = "[IP:][HOST[-HOST]:]CONT[-CONT][/tcp|udp]")]
    publish: PublishSpec,
}

/// `tapswitch publish`.
///
/// # Errors
/// What the daemon refuses: a port that is taken, a container that is not known.
pub fn publish(global: &Global, arguments: PublishArgs) -> anyhow::Result<u8> {
    let PublishArgs { what: UnpublishArgs { name, publish }, from } = arguments;
    let request = Request::Router(RouterRequest::Publish { name, publish, from });
    let rows: Vec<PublishRow> = Daemon::connect(&global.socket())?.call(request)?;
    if global.json { output::json(&rows) } else { output::print(&show::publish_lines(&rows)) }
}

/// `tapswitch unpublish`.
///
/// # Errors
/// What the daemon refuses: what is not published.
pub fn unpublish(global: &Global, arguments: UnpublishArgs) -> anyhow::Result<u8> {
    let UnpublishArgs { name, publish } = arguments;
    let () = Daemon::connect(&global.socket())?
        .call(Request::Router(RouterRequest::Unpublish { name, publish }))?;
    Ok(0)
}

/// Published ports, and ports of the switch.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "EXAMPLES\n  tapswitch port                      what is published, and where it can be reached\n  \
        tapswitch port web                  of one container, as docker port\n  \
        tapswitch port web 80/tcp           where one port of it can be reached\n  \
        tapswitch port set web down         a port of the switch"
)]
pub struct PortArgs {
    #[command(subcommand)]
    command: Option<PortCommand>,
    /// Name or id of a container
    name: Option<String>,
    /// One port of it
    #[arg(value_name = "PORT[/PROTO]")]
    port: Option<Exposed>,
}

/// `tapswitch port …`.
///
/// # Errors
/// What the daemon refuses.
pub fn port(global: &Global, arguments: PortArgs) -> anyhow::Result<u8> {
    if let Some(command) = arguments.command {
        return super::show::port(global, command);
    }
    let of_one = arguments.name.clone();
    let request = Request::Router(RouterRequest::PublishList { name: arguments.name });
    let rows: Vec<PublishRow> = Daemon::connect(&global.socket())?.call(request)?;
    if let (Some(name), Some(port)) = (&of_one, arguments.port) {
        let places = show::publish_places(&rows, port.ports.first(), port.protocol.name());
        if places.is_empty() {
            bail!("No public port '{port}' published for {name}: 'tapswitch port {name}' lists them");
        }
        return output::print(&places.iter().map(|place| format!("{place}\n")).collect::<String>());
    }
    if global.json {
        output::json(&rows)
    } else if of_one.is_some() {
        output::print(&show::publish_lines(&rows))
    } else {
        output::print(&show::publish_table(&rows))
    }
}

/// Who links to whom.
#[derive(Debug, clap::Args)]
pub struct LinkArgs {
    /// Name or id of the container that uses the other
    name: String,
    /// The other one, and what it is called here
    #[arg(value_name = "OTHER[:ALIAS]")]
    other: LinkSpec,
    /// Ports to open; those that the other exposes when none is given
    #[arg(value_name = "PORT[/PROTO]")]
    ports: Vec<Exposed>,
}

/// `tapswitch link`.
///
/// # Errors
/// What the daemon refuses.
pub fn link(global: &Global, arguments: LinkArgs) -> anyhow::Result<u8> {
    let LinkArgs { name, other, ports } = arguments;
    let link = LinkSpec { ports, ..other };
    let () = Daemon::connect(&global.socket())?.call(Request::Router(RouterRequest::Link { name, link }))?;
    Ok(0)
}

/// `tapswitch unlink`.
///
/// # Errors
/// What the daemon refuses.
pub fn unlink(global: &Global, name: String, alias: String) -> anyhow::Result<u8> {
    let () =
        Daemon::connect(&global.socket())?.call(Request::Router(RouterRequest::Unlink { name, alias }))?;
    Ok(0)
}
