//! What a lab says of the router: `[uplink.NAME]`, `[[route]]`, `[[rule]]`.

use ipnet::IpNet;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::read::{Reader, Value, entries};
use super::{Draft, DraftUplink};
use crate::control::docker_rules::Action;
use crate::control::mistake::{Mistake, Span};
use crate::control::model::{FarEnd, RouteSpec, RuleSpec, UplinkSpec, UserOptions};
use crate::control::ports::PortRange;

const UPLINK: [&str; 8] = ["container", "tap", "interface", "user", "ip", "gateway", "mac", "mtu"];
const ROUTE: [&str; 3] = ["prefix", "via", "dev"];
const RULE: [&str; 6] = ["action", "from", "to", "proto", "dport", "state"];

impl Reader<'_> {
    pub(super) fn uplink(&mut self, name: &str, place: Span, table: &DeTable<'_>) -> DraftUplink {
        let before = self.mistakes.len();
        let mut far_ends: Vec<FarEnd> = Vec::new();
        let mut spec = UplinkSpec {
            name: name.to_owned(),
            far_end: FarEnd::Container(String::new()),
            addresses: Vec::new(),
            gateways: Vec::new(),
            mac: None,
            mtu: None,
            lab: Some(self.lab.to_owned()),
        };
        for (key, place, value) in entries(table) {
            let what = format!("'{key}' of uplink '{name}'");
            match key {
                "container" => far_ends.extend(self.word(value, &what).map(FarEnd::Container)),
                "tap" => far_ends.extend(self.word(value, &what).map(FarEnd::Tap)),
                "user" => {
                    let wanted = self.boolean(value, &what);
                    far_ends.extend(wanted.then(|| FarEnd::User(UserOptions::default())));
                }
                "interface" => far_ends.extend(self.word(value, &what).map(FarEnd::Packet)),
                "ip" => spec.addresses = self.values(value, &what, "an address such as 198.51.100.1/24"),
                "gateway" => spec.gateways = self.values(value, &what, "an address such as 198.51.100.2"),
                "mac" => {
                    spec.mac = self.values(value, &what, "a MAC address such as 02:42:ac:13:00:09").pop();
                }
                "mtu" => spec.mtu = self.number(value, &what),
                _ => self.unknown(key, place, "an uplink", &UPLINK),
            }
        }
        match <[FarEnd; 1]>::try_from(far_ends) {
            Ok([far_end]) => {
                spec.far_end = far_end;
                spec = spec.or_defaults();
            }
            Err(_) if self.mistakes.len() == before => {
                let message = format!(
                    "uplink '{name}' leads to one of: a container, a tap, an interface, the user's sockets; say which"
                );
                self.mistakes.push(Mistake::new(place.clone(), message));
            }
            Err(_) => {}
        }
        DraftUplink { place, spec, sound: self.mistakes.len() == before }
    }

    pub(super) fn routes(&mut self, value: &Value<'_>, draft: &mut Draft) {
        for (place, table) in self.tables(value, "route") {
            let (mut prefix, mut via, mut dev) = (None::<IpNet>, None, None);
            for (key, place, value) in entries(table) {
                let what = format!("'{key}' of a route");
                match key {
                    "prefix" => prefix = self.values(value, &what, "a prefix such as 10.1.0.0/16").pop(),
                    "via" => via = self.values(value, &what, "an address such as 172.19.0.9").pop(),
                    "dev" => dev = self.word(value, &what),
                    _ => self.unknown(key, place, "a route", &ROUTE),
                }
            }
            match prefix {
                Some(prefix) => {
                    let lab = Some(self.lab.to_owned());
                    draft.routes.push((place, RouteSpec { prefix, via, dev, lab }));
                }
                None => {
                    self.mistakes.push(Mistake::new(place, "a route takes a 'prefix', such as 10.1.0.0/16"))
                }
            }
        }
    }

    pub(super) fn rules(&mut self, value: &Value<'_>, draft: &mut Draft) {
        for (place, table) in self.tables(value, "rule") {
            let (before, mut action) = (self.mistakes.len(), None);
            let lab = Some(self.lab.to_owned());
            let mut spec = RuleSpec {
                from: None,
                to: None,
                proto: None,
                dport: None,
                state: None,
                action: Action::Drop,
                lab,
            };
            for (key, place, value) in entries(table) {
                let what = format!("'{key}' of a rule");
                match key {
                    "action" => action = self.word(value, &what).and_then(|word| self.action(value, &word)),
                    "from" => spec.from = self.word(value, &what),
                    "to" => spec.to = self.word(value, &what),
                    "proto" => spec.proto = self.word(value, &what),
                    "dport" => spec.dport = self.ports(value, &what),
                    "state" => spec.state = self.word(value, &what),
                    _ => self.unknown(key, place, "a rule", &RULE),
                }
            }
            match action {
                Some(action) => draft.rules.push((place, RuleSpec { action, ..spec })),
                None if self.mistakes.len() > before => {}
                None => {
                    self.mistakes.push(Mistake::new(place, "a rule takes an 'action': allow, drop or reject"))
                }
            }
        }
    }

    fn action(&mut self, value: &Value<'_>, word: &str) -> Option<Action> {
        let action = match word {
            "allow" => Action::Allow,
            "drop" => Action::Drop,
            "reject" => Action::Reject,
            _ => {
                let message =
                    format!("'action' of a rule cannot be '{word}': it takes allow, drop or reject");
                self.mistakes.push(Mistake::new(value.span(), message));
                return None;
            }
        };
        Some(action)
    }

    /// A port or a range of them; a single one may be a number.
    fn ports(&mut self, value: &Value<'_>, what: &str) -> Option<PortRange> {
        if let DeValue::Integer(_) = value.get_ref() {
            let port: Option<u16> = self.number(value, what);
            return port.and_then(PortRange::one);
        }
        self.values(value, what, "a port or two, such as 80 or \"8000-8010\"").pop()
    }

    /// The tables of an array such as `[[route]]`.
    fn tables<'v, 'i>(&mut self, value: &'v Value<'i>, what: &str) -> Vec<(Span, &'v DeTable<'i>)> {
        let items: &[Spanned<DeValue<'i>>] = value.get_ref().as_array().map_or(&[], |items| &items[..]);
        let mut tables = Vec::new();
        for item in items {
            match item.get_ref() {
                DeValue::Table(table) => tables.push((item.span(), table)),
                _ => self.wrong_type(item, &format!("an entry of '{what}'"), "a table"),
            }
        }
        if value.get_ref().as_array().is_none() {
            self.wrong_type(value, &format!("'{what}'"), &format!("tables, each headed [[{what}]]"));
        }
        tables
    }
}
