//! `route …`, `rule …`, `sysctl`: how the router is told to behave.

use std::net::IpAddr;

use ipnet::IpNet;

use super::client::Daemon;
use super::{Global, output, values};
use crate::control::docker_rules::Action;
use crate::control::model::{RouteSpec, RuleSpec};
use crate::control::ports::PortRange;
use crate::control::requests::{Request, RouterRequest};
use crate::control::show::{self, RouteRow, SettingRow, UserRuleRow};

/// Static routes.
#[derive(Debug, clap::Subcommand)]
pub enum RouteCommand {
    /// Add a route
    #[command(
        override_usage = "tapswitch route add [OPTIONS] <PREFIX> [via <IP>] [dev <NET>]",
        after_help = "EXAMPLES\n  tapswitch route add 10.1.0.0/16 via 172.19.0.7\n  \
            tapswitch route add 10.2.0.0/16 dev net1\n  \
            tapswitch route add ::/0 via fe80::1 dev wan"
    )]
    Add {
        /// Where to
        #[arg(value_name = "PREFIX", value_parser = values::cidr)]
        prefix: IpNet,
        /// How: 'via' and the next hop's address, 'dev' and a network or uplink, or both
        #[arg(required = true, num_args = 2..=4, value_name = "via IP, dev NET")]
        how: Vec<String>,
    },
    /// Remove a route
    #[command(visible_alias = "rm", after_help = "EXAMPLE\n  tapswitch route del 10.1.0.0/16")]
    Del {
        /// Where to
        #[arg(value_name = "PREFIX", value_parser = values::cidr)]
        prefix: IpNet,
    },
    /// List static routes; 'show routes' shows all
    #[command(visible_alias = "list", after_help = "EXAMPLE\n  tapswitch route ls --json")]
    Ls,
}

/// `tapswitch route …`.
///
/// # Errors
/// What the daemon refuses.
pub fn route(global: &Global, command: RouteCommand) -> anyhow::Result<u8> {
    let ask = || Daemon::connect(&global.socket());
    match command {
        RouteCommand::Add { prefix, how } => {
            let route = route_spec(prefix, &how).unwrap_or_else(|mistake| super::bad_usage(&mistake));
            let () = ask()?.call(Request::Router(RouterRequest::RouteAdd { route }))?;
            Ok(0)
        }
        RouteCommand::Del { prefix } => {
            let () = ask()?.call(Request::Router(RouterRequest::RouteRemove { prefix }))?;
            Ok(0)
        }
        RouteCommand::Ls => {
            let rows: Vec<RouteRow> = ask()?.call(Request::Router(RouterRequest::RouteList))?;
            if global.json { output::json(&rows) } else { output::print(&show::route_table(&rows)) }
        }
    }
}

/// What `via IP`, `dev NET`, or both come to.
fn route_spec(prefix: IpNet, how: &[String]) -> Result<RouteSpec, String> {
    let mut route = RouteSpec { prefix, via: None, dev: None, lab: None };
    for pair in how.chunks(2) {
        match pair {
            [word, via] if word == "via" && route.via.is_none() => {
                let address = via.parse::<IpAddr>();
                route.via = Some(address.map_err(|_| format!("via '{via}': that is no IP address"))?);
            }
            [word, dev] if word == "dev" && route.dev.is_none() => route.dev = Some(dev.clone()),
            _ => return Err(format!("'{}': write 'via IP', 'dev NET', or both", how.join(" "))),
        }
    }
    Ok(route)
}

/// Rules of the user's, asked before all others.
#[derive(Debug, clap::Subcommand)]
pub enum RuleCommand {
    /// Add a rule, behind those that are there
    #[command(
        after_help = "EXAMPLES\n  tapswitch rule add --from net1 --to net2 --proto tcp --dport 80 allow\n  \
        tapswitch rule add --from 10.0.0.0/8 drop\n  \
        tapswitch rule add --before 1 --to web --proto tcp --dport 22 --state new reject"
    )]
    Add(RuleArgs),
    /// List rules
    #[command(visible_alias = "list", after_help = "EXAMPLE\n  tapswitch rule ls --json")]
    Ls,
    /// Remove a rule by its number
    #[command(visible_alias = "del", after_help = "EXAMPLE\n  tapswitch rule rm 1")]
    Rm {
        /// As 'rule ls' numbers it
        #[arg(value_name = "N", value_parser = values::number::<usize>(1, u32::MAX.into()))]
        number: usize,
    },
}

/// Flags of `rule add`.
#[derive(Debug, clap::Args)]
pub struct RuleArgs {
    /// Where packets come from: a network, an uplink, a container, a prefix
    #[arg(long, value_name = "NET|NAME|CIDR")]
    from: Option<String>,
    /// Where they go
    #[arg(long, value_name = "NET|NAME|CIDR")]
    to: Option<String>,
    /// tcp, udp, icmp, …, a number, or all
    #[arg(long, value_name = "P")]
    proto: Option<String>,
    /// Destination ports
    #[arg(long, value_name = "N[-M]")]
    dport: Option<PortRange>,
    /// States of their flow: new, established, related, invalid
    #[arg(long, value_name = "S[,S]")]
    state: Option<String>,
    /// Before the rule of this number
    #[arg(long, value_name = "N", value_parser = values::number::<usize>(1, u32::MAX.into()))]
    before: Option<usize>,
    /// What becomes of them
    #[arg(value_parser = ["allow", "drop", "reject"])]
    action: String,
}

/// `tapswitch rule …`.
///
/// # Errors
/// What the daemon refuses.
pub fn rule(global: &Global, command: RuleCommand) -> anyhow::Result<u8> {
    let mut daemon = Daemon::connect(&global.socket())?;
    match command {
        RuleCommand::Add(arguments) => {
            let RuleArgs { from, to, proto, dport, state, before, action } = arguments;
            let action = match action.as_str() {
                "allow" => Action::Allow,
                "drop" => Action::Drop,
                _ => Action::Reject,
            };
            let rule = RuleSpec { from, to, proto, dport, state, action, lab: None };
            let number: usize = daemon.call(Request::Router(RouterRequest::RuleAdd { rule, before }))?;
            println!("{number}");
            Ok(0)
        }
        RuleCommand::Ls => {
            let rows: Vec<UserRuleRow> = daemon.call(Request::Router(RouterRequest::RuleList))?;
            if global.json { output::json(&rows) } else { output::print(&show::user_rule_table(&rows)) }
        }
        RuleCommand::Rm { number } => {
            let () = daemon.call(Request::Router(RouterRequest::RuleRemove { number }))?;
            Ok(0)
        }
    }
}

/// Read or change a setting of the whole switch, under Linux's name.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES\n  tapswitch sysctl                                  all settings\n  \
    tapswitch sysctl net.ipv4.ip_forward=0\n  \
    tapswitch sysctl net.netfilter.nf_conntrack_udp_timeout")]
pub struct SysctlArgs {
    /// Print values without their names
    #[arg(short = 'n', long)]
    values: bool,
    /// Accepted for sysctl's sake: a setting with a value is set
    #[arg(short, long, hide = true)]
    write: bool,
    /// Print nothing of what is set
    #[arg(short, long)]
    quiet: bool,
    /// The setting, and its new value
    #[arg(value_name = "KEY[=VALUE]")]
    settings: Vec<String>,
}

/// `tapswitch sysctl`.
///
/// # Errors
/// What the daemon refuses: unknown keys, values out of range.
pub fn sysctl(global: &Global, arguments: &SysctlArgs) -> anyhow::Result<u8> {
    let mut daemon = Daemon::connect(&global.socket())?;
    let mut rows: Vec<SettingRow> = Vec::new();
    let mut ask = |key: Option<&str>, value: Option<&str>| -> anyhow::Result<()> {
        let (sets, key, value) = (value.is_some(), key.map(str::to_owned), value.map(str::to_owned));
        let told: Vec<SettingRow> = daemon.call(Request::Router(RouterRequest::Sysctl { key, value }))?;
        if !arguments.quiet || !sets {
            rows.extend(told);
        }
        Ok(())
    };
    for setting in &arguments.settings {
        match setting.split_once('=') {
            Some((key, value)) => ask(Some(key.trim()), Some(value.trim()))?,
            None => ask(Some(setting), None)?,
        }
    }
    if arguments.settings.is_empty() {
        ask(None, None)?;
    }
    match (global.json, arguments.values) {
        (true, _) => output::json(&rows),
        (false, true) => {
            output::print(&rows.iter().map(|row| format!("{}\n", row.value)).collect::<String>())
        }
        (false, false) => output::print(&show::setting_lines(&rows)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_of_a_route() {
        let read = |how: &str| {
            let words: Vec<String> = how.split(' ').map(str::to_owned).collect();
            let way = |route: RouteSpec| (route.via.map(|via| via.to_string()), route.dev);
            route_spec("10.0.0.0/8".parse().unwrap(), &words).map(way)
        };
        let (via, dev) = (Some("fe80::1".to_owned()), Some("wan".to_owned()));
        assert_eq!(read("via fe80::1"), Ok((via.clone(), None)));
        assert_eq!(read("dev wan"), Ok((None, dev.clone())));
        assert_eq!(read("dev wan via fe80::1"), Ok((via, dev)));
        assert_eq!(read("via wan"), Err("via 'wan': that is no IP address".to_owned()));
        for how in ["dev", "by wan", "dev wan dev lan", "via ::1 via ::2", "via ::1 dev"] {
            assert_eq!(read(how), Err(format!("'{how}': write 'via IP', 'dev NET', or both")));
        }
    }
}
