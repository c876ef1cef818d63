//! Network options: Docker's keys, our short ones, and what each may be.

use serde::{Deserialize, Serialize};

use super::naming::check_interface;
use super::{Kind, Refused};

/// The settings of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkOptions {
    /// The largest packet, in bytes without the Ethernet header: 68 (RFC 791) to 65521 (what a TAP
    /// takes: `MAX_MTU` less the Ethernet header, `tun_net_init` in drivers/net/tun.c).
    pub mtu: u32,
    /// Whether containers reach each other on this network (Docker's inter-container communication).
    pub icc: bool,
    /// Seconds that a learned MAC address lives without being seen (IEEE 802.1Q-2018 §8.8.3);
    /// 0 learns nothing, so that every frame is flooded.
    pub ageing: u32,
    /// The most MAC addresses that the network's table holds.
    pub fdb_limit: u32,
    /// The most MAC addresses that are learned from one port; beyond it, a port evicts its own.
    pub fdb_port_limit: u32,
    /// The most frames per second from one port that are flooded; 0 sets no limit.
    pub flood_limit: u32,
    /// The bridge's interface-like name; `None` is `br-` and 12 digits of the network's id.
    pub bridge_name: Option<String>,
}

impl Default for NetworkOptions {
    /// Docker's defaults where Docker has one. The limits leave a usual network far below them: a
    /// quarter of the table for one port, and a flood is held to where its copies to
    /// ten ports take a third of one core (3.5 us a copy, measured).
    fn default() -> Self {
        Self {
            mtu: 1500,
            icc: true,
            ageing: 300,
            fdb_limit: 65_536,
            fdb_port_limit: 16_384,
            flood_limit: 10_000,
            bridge_name: None,
        }
    }
}

/// One option: its key as Docker (or in our own namespace) writes it, its short key, and its values.
struct Key {
    full: &'static str,
    short: &'static str,
    allowed: &'static str,
    set: fn(&mut NetworkOptions, &str) -> Option<()>,
    get: fn(&NetworkOptions) -> Option<String>,
}

const KEYS: [Key; 7] = [
    Key {
        full: "com.docker.network.bridge.enable_icc",
        short: "icc",
        allowed: "true or false",
        set: |options, value| fill(&mut options.icc, boolean(value)),
        get: |options| Some(options.icc.to_string()),
    },
    Key {
        full: BRIDGE_NAME,
        short: "bridge_name",
        allowed: "an interface name of at most 15 characters",
        set: |options, value| {
            check_interface(value).ok()?;
            fill(&mut options.bridge_name, Some(Some(value.to_owned())))
        },
        get: |options| options.bridge_name.clone(),
    },
    Key {
        full: "com.docker.network.driver.mtu",
        short: "mtu",
        allowed: "68 to 65521 bytes",
        set: |options, value| fill(&mut options.mtu, number(value, 68, 65_521)),
        get: |options| Some(options.mtu.to_string()),
    },
    Key {
        full: "tapswitch.ageing",
        short: "ageing",
        allowed: "0 (never learn) to 1000000 seconds",
        set: |options, value| fill(&mut options.ageing, number(value, 0, 1_000_000)),
        get: |options| Some(options.ageing.to_string()),
    },
    Key {
        full: "tapswitch.fdb_limit",
        short: "fdb_limit",
        allowed: "1 to 16777216 addresses",
        set: |options, value| fill(&mut options.fdb_limit, number(value, 1, 1 << 24)),
        get: |options| Some(options.fdb_limit.to_string()),
    },
    Key {
        full: "tapswitch.fdb_port_limit",
        short: "fdb_port_limit",
        allowed: "1 to 16777216 addresses",
        set: |options, value| fill(&mut options.fdb_port_limit, number(value, 1, 1 << 24)),
        get: |options| Some(options.fdb_port_limit.to_string()),
    },
    Key {
        full: "tapswitch.flood_limit",
        short: "flood_limit",
        allowed: "0 (no limit) to 4294967295 frames per second",
        set: |options, value| fill(&mut options.flood_limit, number(value, 0, u32::MAX)),
        get: |options| Some(options.flood_limit.to_string()),
    },
];

/// Docker's key of [`NetworkOptions::bridge_name`].
pub const BRIDGE_NAME: &str = "com.docker.network.bridge.name";

impl NetworkOptions {
    /// Sets one option by its full or short key.
    ///
    /// # Errors
    /// `bad_option`, naming the option, the value and what is allowed.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), Refused> {
        let known = KEYS.iter().find(|known| known.full == key || known.short == key);
        let Some(known) = known else {
            let all = KEYS.map(|key| key.short).join(", ");
            return Err(bad(format!("option '{key}' is not known: the options are {all}")));
        };
        let allowed = known.allowed;
        (known.set)(self, value)
            .ok_or_else(|| bad(format!("option '{key}' cannot be '{value}': it takes {allowed}")))
    }

    /// The options that differ from their defaults, with full keys, in order of the keys.
    pub fn changed(&self) -> Vec<(&'static str, String)> {
        let default = Self::default();
        let differs = |key: &&Key| (key.get)(self) != (key.get)(&default);
        KEYS.iter().filter(differs).filter_map(|key| Some((key.full, (key.get)(self)?))).collect()
    }

    /// The value of the option with this full or short key.
    pub fn get(&self, key: &str) -> Option<String> {
        KEYS.iter().find(|known| known.full == key || known.short == key).and_then(|known| (known.get)(self))
    }
}

fn bad(message: String) -> Refused {
    Refused::new(Kind::BadOption, message)
}

fn fill<T>(slot: &mut T, value: Option<T>) -> Option<()> {
    *slot = value?;
    Some(())
}

/// Go's `strconv.ParseBool`, which Docker reads these options with.
fn boolean(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn number(value: &str, least: u32, most: u32) -> Option<u32> {
    let digits = !value.is_empty() && value.bytes().all(|c| c.is_ascii_digit());
    value.parse().ok().filter(|number| digits && (least..=most).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_set_the_same() {
        let mut options = NetworkOptions::default();
        options.set("mtu", "9000").unwrap();
        options.set("com.docker.network.bridge.enable_icc", "0").unwrap();
        assert_eq!((options.mtu, options.icc), (9000, false));
        let changed = [
            ("com.docker.network.bridge.enable_icc", "false".to_owned()),
            ("com.docker.network.driver.mtu", "9000".to_owned()),
        ];
        assert_eq!(options.changed(), changed);
        assert_eq!(options.get("mtu").as_deref(), Some("9000"));
        options.set("com.docker.network.driver.mtu", "1500").unwrap();
        options.set("icc", "True").unwrap();
        assert_eq!(options, NetworkOptions::default());
        assert_eq!(options.changed(), []);
    }

    #[test]
    fn every_limit_is_held() {
        let table = [
            ("mtu", "68", "67", "68 to 65521 bytes"),
            ("mtu", "65521", "65522", "68 to 65521 bytes"),
            ("ageing", "0", "-1", "0 (never learn) to 1000000 seconds"),
            ("ageing", "1000000", "1000001", "0 (never learn) to 1000000 seconds"),
            ("fdb_limit", "1", "0", "1 to 16777216 addresses"),
            ("fdb_port_limit", "16777216", "+5", "1 to 16777216 addresses"),
            ("flood_limit", "4294967295", "4294967296", "0 (no limit) to 4294967295 frames per second"),
            ("icc", "f", "no", "true or false"),
            ("bridge_name", "br0", "a/b", "an interface name of at most 15 characters"),
        ];
        for (key, good, wrong, allowed) in table {
            let mut options = NetworkOptions::default();
            options.set(key, good).unwrap();
            let before = options.clone();
            let refused = options.set(key, wrong).unwrap_err();
            assert_eq!(refused.message, format!("option '{key}' cannot be '{wrong}': it takes {allowed}"));
            assert_eq!((refused.kind, options), (Kind::BadOption, before));
        }
    }

    #[test]
    fn an_unknown_option_names_the_known_ones() {
        let refused = NetworkOptions::default().set("color", "red").unwrap_err();
        assert_eq!(
            refused.message,
            "option 'color' is not known: the options are icc, bridge_name, mtu, ageing, fdb_limit, fdb_port_limit, flood_limit"
        );
    }
}
