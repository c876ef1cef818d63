//! `route -n`, as net-tools print it (`lib/inet_gr.c`).

use std::fmt::Write;
use std::net::IpAddr;

use super::Tables;
use super::ip_route::sorted;

/// One invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    /// `-n`: `0.0.0.0` where it would say `default`.
    numeric: bool,
}

impl Route {
    pub(super) fn read(words: &[&str]) -> Result<Self, String> {
        let mut numeric = false;
        for word in words {
            match *word {
                "-n" | "--numeric" => numeric = true,
                "-4" | "--inet" => {}
                "-6" | "--inet6" => return Err("'ip -6 route' shows the routes of IPv6".to_owned()),
                "add" | "del" => {
                    return Err(format!(
                        "'route {word}' is no view: 'tapswitch route add PREFIX via ADDRESS' and 'tapswitch route \
                         del PREFIX' change routes"
                    ));
                }
                _ => return Err(format!("'route {word}' is not known here: there is 'route [-n]'")),
            }
        }
        Ok(Self { numeric })
    }

    pub(super) fn draw(&self, tables: &Tables) -> String {
        let mut text = "Kernel IP routing table\n\
            Destination     Gateway         Genmask         Flags Metric Ref    Use Iface\n"
            .to_owned();
        let devices = tables.by_network();
        for (prefix, row) in sorted(tables, false) {
            let Some(device) = devices.get(row.network.as_str()) else { continue };
            if matches!(row.kind.as_str(), "local" | "broadcast") {
                continue;
            }
            let is_default = prefix.prefix_len() == 0 && !self.numeric;
            let to = if is_default { "default".to_owned() } else { prefix.addr().to_string() };
            let via = row.via.map_or_else(|| "0.0.0.0".to_owned(), |via: IpAddr| via.to_string());
            let gateway = if row.via.is_some() { "G" } else { "" };
            let host = if prefix.prefix_len() == prefix.max_prefix_len() { "H" } else { "" };
            let flags = format!("U{gateway}{host}");
            let (mask, metric, name) = (prefix.netmask().to_string(), row.metric, &device.name);
            let _ = writeln!(text, "{to:<15} {via:<15} {mask:<15} {flags:<5} {metric:<6} 0        0 {name}");
        }
        text
    }
}
