//! daemon.json into a configuration, with a mistake for each value that cannot be one.
//!
//! A value is kept as the slice of the text it was read from: that is where a mistake points.

use std::fmt;

use ipnet::IpNet;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{DaemonConfig, KEYS, is_bip, is_word};
use crate::control::ipam::Pool;
use crate::control::mistake::{Mistake, Span};
use crate::control::naming::nearest;
use crate::control::options::name_server;

/// The longest value that is quoted in a message.
const QUOTED: usize = 60;

/// Reads all of it, or tells all that is wrong.
pub(super) fn read(text: &str) -> Result<DaemonConfig, Vec<Mistake>> {
    let mut reader = Reader { text, mistakes: Vec::new() };
    let mut config = DaemonConfig::default();
    match serde_json::from_str::<Entries<'_>>(text) {
        Ok(entries) => reader.entries(&entries, &mut config),
        Err(error) => reader.mistakes.push(broken(text, &error)),
    }
    if reader.mistakes.is_empty() { Ok(config) } else { Err(reader.mistakes) }
}

/// Keys and values of an object, as they were written.
struct Entries<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Entries<'de>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object, as {\"icc\": false}")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(All)
    }
}

/// What is no JSON at all.
fn broken(text: &str, error: &serde_json::Error) -> Mistake {
    let said = error.to_string();
    // Where it is the snippet shows.
    let message = said.rsplit_once(" at line ").map_or(said.as_str(), |(message, _)| message);
    let line: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let at = (line + error.column().saturating_sub(1)).min(text.len());
    let at = (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    Mistake::new(at..at, format!("this is not JSON: {message}"))
}

struct Reader<'a> {
    text: &'a str,
    mistakes: Vec<Mistake>,
}

impl<'a> Reader<'a> {
    fn entries(&mut self, entries: &Entries<'a>, config: &mut DaemonConfig) {
        let mut seen = Vec::new();
        for (raw, value) in &entries.0 {
            let key = text_of(raw).unwrap_or_default();
            if seen.contains(&key) {
                self.wrong(raw, format!("key '{key}' is given twice"), "take one of them out".to_owned());
                continue;
            }
            match key.as_str() {
                "bip" => config.bip = self.bip(value),
                "default-address-pools" => config.default_address_pools = self.pools(value),
                "dns" => {
                    config.dns =
                        self.list(value, "dns", "addresses of name servers, as [\"10.0.0.53\"]", name_server)
                }
                "dns-opts" => config.dns_opts = self.list(value, "dns-opts", "words, as [\"ndots:1\"]", word),
                "dns-search" => {
                    config.dns_search = self.list(value, "dns-search", "domains, as [\"example.org\"]", word)
                }
                "icc" => config.icc = self.boolean(value, "icc"),
                "ip-forward" => config.ip_forward = self.boolean(value, "ip-forward"),
                "ip-masq" => config.ip_masq = self.boolean(value, "ip-masq"),
                "iptables" => config.iptables = self.boolean(value, "iptables"),
                "mtu" => config.mtu = self.mtu(value),
                _ => self.unknown(raw, &key),
            }
            seen.push(key);
        }
    }

    fn unknown(&mut self, raw: &RawValue, key: &str) {
        let label = match nearest(key, KEYS) {
            Some(nearest) => format!("did you mean '{nearest}'?"),
            None => "take it out".to_owned(),
        };
        let short: String = key.chars().take(QUOTED).collect();
        self.wrong(raw, format!("key '{short}' is not known: the keys are {}", KEYS.join(", ")), label);
    }

    fn boolean(&mut self, raw: &RawValue, key: &str) -> Option<bool> {
        let value = serde_json::from_str(raw.get()).ok();
        self.or_wrong(value, raw, key, "true or false")
    }

    fn mtu(&mut self, raw: &RawValue) -> Option<u32> {
        let value = serde_json::from_str(raw.get()).ok().filter(|mtu| (68..=65_521).contains(mtu));
        self.or_wrong(value, raw, "mtu", "68 to 65521 bytes")
    }

    fn bip(&mut self, raw: &RawValue) -> Option<ipnet::Ipv4Net> {
        let value = text_of(raw).and_then(|text| text.parse().ok()).filter(|bip| is_bip(*bip));
        self.or_wrong(
            value,
            raw,
            "bip",
            "the gateway's address with its subnet's length, as \"172.26.0.1/16\"",
        )
    }

    fn list<T>(
        &mut self,
        raw: &RawValue,
        key: &str,
        wanted: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<T>> {
        let items: Option<Vec<Value>> = serde_json::from_str(raw.get()).ok();
        let read = |item: &Value| item.as_str().and_then(&read);
        let list = items.and_then(|items| items.iter().map(read).collect());
        self.or_wrong(list, raw, key, wanted)
    }

    fn pools(&mut self, raw: &'a RawValue) -> Option<Vec<Pool>> {
        let items: Option<Vec<&'a RawValue>> = serde_json::from_str(raw.get()).ok();
        let wanted = "a list, as [{\"base\": \"10.0.0.0/8\", \"size\": 24}]";
        let items = self.or_wrong(items, raw, "default-address-pools", wanted)?;
        let pools: Vec<Option<Pool>> = items.into_iter().map(|item| self.pool(item)).collect();
        pools.into_iter().collect()
    }

    fn pool(&mut self, raw: &RawValue) -> Option<Pool> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Given {
            base: IpNet,
            size: u8,
        }
        let given: Option<Given> = serde_json::from_str(raw.get()).ok();
        let wanted = "an object, as {\"base\": \"10.0.0.0/8\", \"size\": 24}";
        let given = self.or_wrong(given, raw, "an entry of 'default-address-pools'", wanted)?;
        match Pool::new(given.base, given.size) {
            Ok(pool) => Some(pool),
            Err(refused) => {
                self.wrong(raw, refused.message, String::new());
                None
            }
        }
    }

    /// A value that could be read, or a mistake with what it should be.
    fn or_wrong<T>(&mut self, value: Option<T>, raw: &RawValue, key: &str, wanted: &str) -> Option<T> {
        if value.is_none() {
            let what = if key.contains('\'') { key.to_owned() } else { format!("key '{key}'") };
            let given: String = raw.get().chars().take(QUOTED).collect();
            let message = format!("{what} cannot be {given}: it takes {wanted}");
            self.wrong(raw, message, String::new());
        }
        value
    }

    fn wrong(&mut self, at: &RawValue, message: String, label: String) {
        let span = self.span(at.get());
        self.mistakes.push(Mistake::new(span, message).with_label(label));
    }

    /// Where a slice of the text lies in it.
    fn span(&self, part: &str) -> Span {
        let start = part.as_ptr().addr().saturating_sub(self.text.as_ptr().addr());
        start..(start + part.len()).min(self.text.len())
    }
}

fn text_of(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

fn word(text: &str) -> Option<String> {
    is_word(text).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(text: &str) -> Vec<String> {
        DaemonConfig::parse("daemon.json", text).unwrap_err().lines()
    }

    #[test]
    fn mistakes_say_where_what_and_the_mend() {
        let table = [
            ("", "1:1: this is not JSON: EOF while parsing a value"),
            ("[]", "1:1: this is not JSON: invalid type: sequence, expected an object, as {\"icc\": false}"),
            ("{\n  \"icc\": tru,\n}", "2:13: this is not JSON: expected ident"),
            ("{\n  \"icc\": \"yes\"\n}", "2:10: key 'icc' cannot be \"yes\": it takes true or false"),
            ("{\"icc\": null}", "1:9: key 'icc' cannot be null: it takes true or false"),
            ("{\"mtu\": 67}", "1:9: key 'mtu' cannot be 67: it takes 68 to 65521 bytes"),
            ("{\"mtu\": \"1500\"}", "1:9: key 'mtu' cannot be \"1500\": it takes 68 to 65521 bytes"),
            (
                "{\"dns\": \"10.0.0.1\"}",
                "1:9: key 'dns' cannot be \"10.0.0.1\": it takes addresses of name servers, as [\"10.0.0.53\"]",
            ),
            (
                "{\"dns\": [\"10.0.0.1\", 7]}",
                "1:9: key 'dns' cannot be [\"10.0.0.1\", 7]: it takes addresses of name servers, as [\"10.0.0.53\"]",
            ),
            (
                "{\"dns-opts\": [\"a b\"]}",
                "1:14: key 'dns-opts' cannot be [\"a b\"]: it takes words, as [\"ndots:1\"]",
            ),
            (
                "{\"bip\": \"172.26.0.0/16\"}",
                "1:9: key 'bip' cannot be \"172.26.0.0/16\": it takes the gateway's address with its subnet's length, as \"172.26.0.1/16\"",
            ),
            (
                "{\"default-address-pools\": {}}",
                "1:27: key 'default-address-pools' cannot be {}: it takes a list, as [{\"base\": \"10.0.0.0/8\", \"size\": 24}]",
            ),
            (
                "{\"default-address-pools\":\n[{\"base\": \"10.0.0.0/8\"}]}",
                "2:2: an entry of 'default-address-pools' cannot be {\"base\": \"10.0.0.0/8\"}: it takes an object, as {\"base\": \"10.0.0.0/8\", \"size\": 24}",
            ),
            (
                "{\"default-address-pools\": [{\"base\": \"10.0.0.0/8\", \"size\": 4}]}",
                "1:28: subnets of address pool 10.0.0.0/8 cannot have size 4: it takes 8 to 31 bits",
            ),
            ("{\"icc\": true, \"icc\": true}", "1:15: key 'icc' is given twice"),
        ];
        for (text, expected) in table {
            assert_eq!(lines(text), [format!("daemon.json:{expected}")], "{text}");
        }
    }

    #[test]
    fn an_unknown_key_names_the_nearest_and_all() {
        let text = "{\"live-restore\": true, \"ip-mask\": true, \"bip\": 7}";
        let bad = DaemonConfig::parse("daemon.json", text).unwrap_err();
        assert_eq!(bad.mistakes.len(), 3, "all of them are told");
        let all = "the keys are bip, default-address-pools, dns, dns-opts, dns-search, icc, ip-forward, ip-masq, iptables, mtu";
        assert_eq!(bad.mistakes[0].message, format!("key 'live-restore' is not known: {all}"));
        assert_eq!((bad.mistakes[0].span.clone(), bad.mistakes[0].label.as_str()), (1..15, "take it out"));
        assert_eq!(bad.mistakes[1].label, "did you mean 'ip-masq'?");
        assert!(bad.to_string().contains("\"ip-mask\": true"), "{bad}");
    }

    proptest! {
        #[test]
        fn any_text_is_borne(text in ".*") {
            let shown = DaemonConfig::parse("daemon.json", &text).map_err(|bad| bad.to_string());
            let is_object = text.trim_start().starts_with('{');
            prop_assert!(shown.is_err() || is_object);
        }

        #[test]
        fn any_value_is_borne(key in proptest::sample::select(KEYS.to_vec()), value in "(\\PC|\n){0,20}|[0-9\\[\\]{}\",:.a]{0,30}") {
            let text = format!("{{\"{key}\": {value}}}");
            if let Err(bad) = DaemonConfig::parse("daemon.json", &text) {
                prop_assert!(!bad.to_string().is_empty());
            }
        }
    }
}
