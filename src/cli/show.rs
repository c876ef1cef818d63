//! `show …`, `fdb …`, `port …`: what the switch knows.

use super::client::Daemon;
use super::{Global, foreign, output, tables, values};
use crate::control::requests::{Request, ViewRequest};
use crate::control::show::{self, DropRow, FdbRow, InterfaceRow, PortRow};
use crate::wire::MacAddr;

/// Show what the switch knows, or how another tool would show it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  tapswitch show ports                           which port, alias and MAC address belong to which container
  tapswitch show ports --as brctl                brctl show (or ip, bridge, docker)
  tapswitch show fdb --as bridge                 bridge fdb show (or brctl: brctl showmacs)
  tapswitch show neigh --as ip                   ip neigh
  tapswitch show routes --as route               route -n (or ip: ip route, ip -6 route)
  tapswitch show rules --as iptables             iptables -L -v -n and iptables -t nat -L -v -n
  tapswitch show conntrack --as conntrack        conntrack -L

A network is a bridge there, with its gateway's address, and a port is a veth that is enslaved to it.")]
pub struct ShowArgs {
    /// As this tool prints it
    #[arg(long = "as", value_name = "TOOL", global = true, value_parser = foreign::NAMES)]
    tool: Option<String>,
    #[command(subcommand)]
    listing: ShowCommand,
}

/// What the switch knows.
#[derive(Debug, clap::Subcommand)]
pub enum ShowCommand {
    /// Ports: which container, alias and MAC address each belongs to, with counters
    Ports,
    /// Bridges, uplinks and the near ends of ports, as a host would have them
    Interfaces,
    /// Learned and static MAC addresses
    Fdb,
    /// Neighbours of the gateways: who has which address, and whether that is still so
    Neigh,
    /// Routes: addresses of ours, links, and what was declared
    Routes,
    /// Flows that are followed
    Conntrack,
    /// Rules with their counters, as iptables -L -v -n and then iptables -t nat -L -v -n print them
    Rules {
        /// Those of IPv6
        #[arg(short = '6')]
        v6: bool,
    },
    /// Names that gateways know, what became of questions, and whom else they ask
    Dns,
    /// Dropped frames by reason
    Drops,
    /// Networks, containers, ports and addresses as a drawing
    Topology {
        /// As Graphviz input
        #[arg(long)]
        dot: bool,
        /// With +, - and | for lines
        #[arg(long, conflicts_with = "dot")]
        ascii: bool,
    },
}

impl ShowCommand {
    /// What it is called on the command line; the rules of IPv6 are a listing of their own.
    const fn name(&self) -> &'static str {
        match self {
            Self::Ports => "ports",
            Self::Interfaces => "interfaces",
            Self::Fdb => "fdb",
            Self::Neigh => "neigh",
            Self::Routes => "routes",
            Self::Conntrack => "conntrack",
            Self::Rules { v6: false } => "rules",
            Self::Rules { v6: true } => "rules6",
            Self::Dns => "dns",
            Self::Drops => "drops",
            Self::Topology { .. } => "topology",
        }
    }
}

/// Static entries of the MAC table.
#[derive(Debug, clap::Subcommand)]
pub enum FdbCommand {
    /// Say where an address lies
    #[command(after_help = "EXAMPLE\n  tapswitch fdb add net1 02:00:00:00:00:99 alice")]
    Add {
        /// The network
        network: String,
        /// The address
        #[arg(value_parser = values::mac)]
        mac: MacAddr,
        /// The port: CONTAINER, CONTAINER:IFNAME, or its alias
        port: String,
    },
    /// Forget an address, learned or static
    Del {
        /// The network
        network: String,
        /// The address
        #[arg(value_parser = values::mac)]
        mac: MacAddr,
    },
}

/// Ports of the switch.
#[derive(Debug, clap::Subcommand)]
pub enum PortCommand {
    /// Set a port up or down
    #[command(after_help = "EXAMPLE\n  tapswitch port set alice down")]
    Set {
        /// The port: CONTAINER, CONTAINER:IFNAME, or its alias
        port: String,
        /// Its state
        #[arg(value_parser = ["up", "down"])]
        state: String,
    },
}

/// `tapswitch show …`.
///
/// # Errors
/// When no daemon runs.
pub fn show(global: &Global, arguments: &ShowArgs) -> anyhow::Result<u8> {
    let ShowArgs { tool, listing } = arguments;
    if let Some(tool) = tool {
        return foreign::show_as(global, listing.name(), tool);
    }
    let ask = || Daemon::connect(&global.socket());
    match listing {
        ShowCommand::Neigh => tables::neighbours(global),
        ShowCommand::Routes => tables::routes(global),
        ShowCommand::Conntrack => tables::flows(global),
        ShowCommand::Dns => tables::dns(global),
        ShowCommand::Rules { v6 } => tables::rules(global, *v6),
        ShowCommand::Ports => {
            let rows: Vec<PortRow> = ask()?.call(Request::ShowPorts)?;
            if global.json { output::json(&rows) } else { output::print(&show::port_table(&rows)) }
        }
        ShowCommand::Interfaces => {
            let rows: Vec<InterfaceRow> = ask()?.call(Request::View(ViewRequest::Interfaces))?;
            if global.json { output::json(&rows) } else { output::print(&show::interface_table(&rows)) }
        }
        ShowCommand::Fdb => {
            let rows: Vec<FdbRow> = ask()?.call(Request::ShowFdb)?;
            if global.json { output::json(&rows) } else { output::print(&show::fdb_table(&rows)) }
        }
        ShowCommand::Drops => {
            let rows: Vec<DropRow> = ask()?.call(Request::ShowDrops)?;
            if global.json { output::json(&rows) } else { output::print(&show::drop_table(&rows)) }
        }
        ShowCommand::Topology { dot, ascii } => {
            let text: String = ask()?.call(Request::ShowTopology { dot: *dot, ascii: *ascii })?;
            output::print(&text)
        }
    }
}

/// `tapswitch fdb …`.
///
/// # Errors
/// What the daemon refuses.
pub fn fdb(global: &Global, command: FdbCommand) -> anyhow::Result<u8> {
    let request = match command {
        FdbCommand::Add { network, mac, port } => Request::FdbAdd { network, mac, port },
        FdbCommand::Del { network, mac } => Request::FdbRemove { network, mac },
    };
    let () = Daemon::connect(&global.socket())?.call(request)?;
    Ok(0)
}

/// `tapswitch port …`.
///
/// # Errors
/// What the daemon refuses.
pub fn port(global: &Global, command: PortCommand) -> anyhow::Result<u8> {
    let PortCommand::Set { port, state } = command;
    let () = Daemon::connect(&global.socket())?.call(Request::PortSet { port, up: state == "up" })?;
    Ok(0)
}
