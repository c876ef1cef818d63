//! `show …`, `fdb …`, `port …`: what the switch knows.

use super::client::Daemon;
use super::{Global, output, tables};
use crate::control::requests::Request;
use crate::control::show::{self, DropRow, FdbRow, PortRow};
use crate::wire::MacAddr;

/// What the switch knows.
#[derive(Debug, clap::Subcommand)]
pub enum ShowCommand {
    /// Ports with their counters
    Ports,
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

/// Static entries of the MAC table.
#[derive(Debug, clap::Subcommand)]
pub enum FdbCommand {
    /// Say where an address lies
    #[command(after_help = "EXAMPLE\n  tapswitch fdb add net1 02:00:00:00:00:99 alice")]
    Add {
        /// The network
        network: String,
        /// The address
        mac: MacAddr,
        /// The port: CONTAINER, CONTAINER:IFNAME, or its alias
        port: String,
    },
    /// Forget an address, learned or static
    Del {
        /// The network
        network: String,
        /// The address
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
pub fn show(global: &Global, command: &ShowCommand) -> anyhow::Result<u8> {
    let ask = || Daemon::connect(&global.socket());
    match command {
        ShowCommand::Neigh => tables::neighbours(global),
        ShowCommand::Routes => tables::routes(global),
        ShowCommand::Conntrack => tables::flows(global),
        ShowCommand::Dns => tables::dns(global),
        ShowCommand::Rules { v6 } => tables::rules(global, *v6),
        ShowCommand::Ports => {
            let rows: Vec<PortRow> = ask()?.call(Request::ShowPorts)?;
            if global.json { output::json(&rows) } else { output::print(&show::port_table(&rows)) }
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
