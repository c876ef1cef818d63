//! What was declared for the router: `uplink ls`, `route ls`, `rule ls`, `sysctl`.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::table::Table;
use crate::control::Model;
use crate::control::model::{FarEnd, Network, Rule, Side, StaticRoute, UserOptions};

/// A line of `uplink ls`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkRow {
    /// Its name.
    pub name: String,
    /// `tap`, `packet`, `container`.
    pub kind: String,
    /// The name of the interface or container behind it.
    pub interface: String,
    /// Our addresses there, joined by commas.
    pub addresses: String,
    /// Next hops of default routes, joined by commas.
    pub gateways: String,
    /// Our MAC address there.
    pub mac: String,
    /// The largest packet, in bytes.
    pub mtu: u32,
    /// How flows leave by a user uplink, as the flags that say so; empty: as the host sends them.
    pub options: String,
    /// The port's state, as in `show ports`, or `conflict`: the interface behind it has an address of
    /// ours, too. The caller's to fill in. Empty: there is no port.
    pub state: String,
    /// MAC address of the interface behind it; the caller's to fill in, as the next two. Empty: unknown.
    pub interface_mac: String,
    /// Its MTU, in bytes.
    pub interface_mtu: Option<u32>,
    /// Its own addresses, joined by commas.
    pub interface_addresses: String,
    /// The lab it came with; empty if none.
    pub lab: String,
}

/// A line of `route ls`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteRow {
    /// Where to.
    pub prefix: String,
    /// The next hop; empty: the destination is on the link.
    pub via: String,
    /// The network or uplink.
    pub dev: String,
    /// The lab it came with; empty if none.
    pub lab: String,
}

/// A line of `rule ls`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRuleRow {
    /// Its number, from 1.
    pub num: usize,
    /// `allow`, `drop`, `reject`.
    pub action: String,
    /// Where packets come from: `any`, `net:NAME`, a container, a prefix.
    pub from: String,
    /// Where they go.
    pub to: String,
    /// `tcp`, …, `all`.
    pub proto: String,
    /// Destination port, or two; empty: all.
    pub dport: String,
    /// States of their flow, joined by commas; empty: all.
    pub state: String,
    /// The lab it came with; empty if none.
    pub lab: String,
}

/// A line of `sysctl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingRow {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: u64,
}

/// Rows of `uplink ls`, with the numbers of their ports, in the order they were made.
pub fn uplink_rows(model: &Model) -> Vec<(Option<u32>, UplinkRow)> {
    let row = |network: &Network| {
        let port = model.endpoints(network.id).first().map(|(_, endpoint)| endpoint.port);
        let uplink = network.uplink.as_ref();
        let gateways = uplink.into_iter().flat_map(|uplink| &uplink.gateways).map(ToString::to_string);
        let row = UplinkRow {
            name: network.name.clone(),
            kind: uplink.map_or_else(String::new, |uplink| uplink.far_end.kind().to_owned()),
            interface: uplink.map_or_else(String::new, |uplink| uplink.far_end.name().to_owned()),
            addresses: network.own_addresses().iter().map(IpNet::to_string).collect::<Vec<_>>().join(","),
            gateways: gateways.collect::<Vec<_>>().join(","),
            mac: network.gateway_mac().to_string(),
            mtu: network.options.mtu,
            options: uplink.map_or_else(String::new, |uplink| option_flags(&uplink.far_end)),
            state: String::new(),
            interface_mac: String::new(),
            interface_mtu: None,
            interface_addresses: String::new(),
            lab: network.lab.clone().unwrap_or_default(),
        };
        (port, row)
    };
    model.uplinks().into_iter().map(row).collect()
}

/// What was chosen for a user uplink, as it is typed.
fn option_flags(far_end: &FarEnd) -> String {
    let FarEnd::User(UserOptions { host, denied, source, interface }) = far_end else { return String::new() };
    let host = host.then(|| "--allow-host".to_owned());
    let denied = denied.iter().map(|prefix| format!("--deny {prefix}"));
    let source = source.iter().map(|address| format!("--source {address}"));
    let interface = interface.iter().map(|interface| format!("--out {interface}"));
    host.into_iter().chain(denied).chain(source).chain(interface).collect::<Vec<_>>().join(" ")
}

/// `uplink ls`.
pub fn uplink_table(rows: &[UplinkRow]) -> String {
    let mut table = Table::new(
        0,
        &["NAME", "KIND", "INTERFACE", "ADDRESSES", "GATEWAYS", "MAC", "MTU", "STATE", "OPTIONS"],
    );
    for row in rows {
        let texts = [&row.name, &row.kind, &row.interface, &row.addresses, &row.gateways, &row.mac];
        let texts = texts.into_iter().cloned();
        table.row(texts.chain([row.mtu.to_string(), row.state.clone(), row.options.clone()]).collect());
    }
    table.render()
}

/// Rows of `route ls`, in the order of their prefixes.
pub fn route_rows(model: &Model) -> Vec<RouteRow> {
    let row = |route: &StaticRoute| RouteRow {
        prefix: route.prefix.to_string(),
        via: route.via.map_or_else(String::new, |via| via.to_string()),
        dev: model.network(route.network).map_or_else(String::new, |network| network.name.clone()),
        lab: route.lab.clone().unwrap_or_default(),
    };
    model.routes().map(row).collect()
}

/// `route ls`.
pub fn route_table(rows: &[RouteRow]) -> String {
    let mut table = Table::new(0, &["PREFIX", "VIA", "DEV"]);
    for row in rows {
        table.row(vec![row.prefix.clone(), or_dash(&row.via), row.dev.clone()]);
    }
    table.render()
}

/// Rows of `rule ls`, in order.
pub fn user_rule_rows(model: &Model) -> Vec<UserRuleRow> {
    let side = |side: &Side| match side {
        Side::Any => "any".to_owned(),
        Side::Network(id) => {
            format!("net:{}", model.network(*id).map_or("?", |network| network.name.as_str()))
        }
        Side::Container(name) => name.clone(),
        Side::Prefix(prefix) => prefix.to_string(),
    };
    let row = |(num, rule): (usize, &Rule)| UserRuleRow {
        num,
        action: serde_json::to_value(rule.action)
            .ok()
            .and_then(|value| value.as_str().map(str::to_owned))
            .unwrap_or_default(),
        from: side(&rule.from),
        to: side(&rule.to),
        proto: rule.protocol_name(),
        dport: rule.dport.map_or_else(String::new, |ports| ports.to_string()),
        state: rule.state_names(),
        lab: rule.lab.clone().unwrap_or_default(),
    };
    (1..).zip(model.rules()).map(row).collect()
}

/// `rule ls`.
pub fn user_rule_table(rows: &[UserRuleRow]) -> String {
    let mut table = Table::new(0, &["NUM", "ACTION", "FROM", "TO", "PROTO", "DPORT", "STATE"]);
    for row in rows {
        let texts = [&row.action, &row.from, &row.to, &row.proto];
        let last = [&row.dport, &row.state].map(|text| or_dash(text));
        table.row([row.num.to_string()].into_iter().chain(texts.map(String::clone)).chain(last).collect());
    }
    table.render()
}

/// `sysctl`, as sysctl(8) prints.
pub fn setting_lines(rows: &[SettingRow]) -> String {
    rows.iter().map(|row| format!("{} = {}\n", row.key, row.value)).collect()
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::tests::model;
    use super::*;
    use crate::control::Id;
    use crate::control::docker_rules::Action;
    use crate::control::model::{FarEnd, RouteSpec, RuleSpec, UplinkSpec};

    #[test]
    fn what_everybody_has_comes_last_and_what_was_chosen_is_shown() {
        let mut model = model();
        let options = UserOptions {
            host: true,
            denied: vec!["10.0.0.0/8".parse().unwrap()],
            source: vec!["10.8.0.2".parse().unwrap()],
            interface: Some("tun0".to_owned()),
        };
        let vpn = UplinkSpec {
            name: "vpn".to_owned(),
            far_end: FarEnd::User(options),
            addresses: vec!["192.0.0.9/29".parse().unwrap()],
            gateways: vec!["192.0.0.10".parse().unwrap()],
            ..UplinkSpec::standard()
        };
        for (number, spec) in [(40, UplinkSpec::standard()), (41, vpn)] {
            model.create_uplink(&spec, Id::new([number; 32]), number.into()).unwrap();
        }
        let rows = uplink_rows(&model).into_iter().map(|(_, row)| (row.name, row.options));
        let all = "--allow-host --deny 10.0.0.0/8 --source 10.8.0.2 --out tun0";
        let expected =
            [("vpn", all), ("user", "")].map(|(name, options)| (name.to_owned(), options.to_owned()));
        assert_eq!(rows.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_was_declared_is_listed() {
        let mut model = model();
        let wan = UplinkSpec {
            name: "wan".to_owned(),
            far_end: FarEnd::Tap("tap0".to_owned()),
            addresses: ["198.51.100.1/24", "2001:db8::1/64"].map(|text| text.parse().unwrap()).to_vec(),
            gateways: vec!["198.51.100.2".parse().unwrap()],
            mac: None,
            mtu: Some(1400),
            lab: None,
        };
        model.create_uplink(&wan, Id::new([30; 32]), 0).unwrap();
        let mut uplinks: Vec<UplinkRow> = uplink_rows(&model).into_iter().map(|(_, row)| row).collect();
        uplinks[0].state = "up".to_owned();
        let expected = "\
NAME   KIND   INTERFACE   ADDRESSES                        GATEWAYS       MAC                 MTU    STATE   OPTIONS
wan    tap    tap0        198.51.100.1/24,2001:db8::1/64   198.51.100.2   02:42:c6:33:64:01   1400   up
";
        assert_eq!(uplink_table(&uplinks), expected);
        let ways = [("10.9.0.0/16", Some("172.19.0.3"), None), ("10.8.0.0/16", None, Some("wan"))];
        for (prefix, via, dev) in ways {
            let (prefix, via) = (prefix.parse().unwrap(), via.map(|via| via.parse().unwrap()));
            model.add_route(&RouteSpec { prefix, via, dev: dev.map(str::to_owned), lab: None }).unwrap();
        }
        let expected = "\
PREFIX        VIA          DEV
10.8.0.0/16   -            wan
10.9.0.0/16   172.19.0.3   net1
";
        assert_eq!(route_table(&route_rows(&model)), expected);
        let rule = RuleSpec {
            from: Some("net1".to_owned()),
            to: Some("alice".to_owned()),
            proto: Some("tcp".to_owned()),
            dport: Some("80-90".parse().unwrap()),
            state: Some("new".to_owned()),
            action: Action::Reject,
            lab: None,
        };
        model.add_rule(&rule, None).unwrap();
        let any = RuleSpec { from: None, to: None, proto: None, dport: None, state: None, ..rule };
        model.add_rule(&RuleSpec { action: Action::Allow, ..any }, None).unwrap();
        let expected = "\
NUM   ACTION   FROM       TO      PROTO   DPORT   STATE
1     reject   net:net1   alice   tcp     80-90   NEW
2     allow    any        any     all     -       -
";
        assert_eq!(user_rule_table(&user_rule_rows(&model)), expected);
        let settings = [SettingRow { key: "net.ipv4.ip_forward".to_owned(), value: 1 }];
        assert_eq!(setting_lines(&settings), "net.ipv4.ip_forward = 1\n");
    }
}
