//! Network options: Docker's keys, our short ones, and what each may be.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::naming::{check_interface, check_name};
use super::ports::PortRange;
use super::{Kind, Refused};
use crate::dataplane::MssClamp;

/// The settings of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
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
    /// Whether what leaves the network by an uplink gets the uplink's address (`MASQUERADE`).
    pub masquerade: bool,
    /// Source ports to masquerade with; `None` keeps the sender's where possible.
    pub masquerade_ports: Option<PortRange>,
    /// The IPv4 address that what leaves the network gets, instead of its uplink's (`SNAT`).
    pub masquerade_to: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub masquerade_to6: Option<Ipv6Addr>,
    /// The outer IPv4 address of publishes that name none; `0.0.0.0` is any.
    pub host_binding: Ipv4Addr,
    /// The uplink whose default route it prefers; without one, the first that was made.
    pub uplink: Option<String>,
    /// How the maximum segment size of TCP connections through the gateway is lowered.
    pub mss_clamp: MssClamp,
    /// Whether the gateway forwards packets from and to it.
    pub forward: bool,
    /// Whether the gateway sends router advertisements (RFC 4861 §6.2).
    pub ra: bool,
    /// Name servers that its gateway asks; none: the daemon's.
    pub dns: Vec<IpAddr>,
    /// Whether the gateway has no IPv4 address: somebody else has it, or nobody.
    pub inhibit_ipv4: bool,
    /// What the names of interfaces inside begin with.
    pub iface_prefix: String,
    /// Whether the host is on it, by an interface of the bridge's name; to `icc` it is as a container is.
    pub host_port: bool,
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
            masquerade: true,
            masquerade_ports: None,
            masquerade_to: None,
            masquerade_to6: None,
            host_binding: Ipv4Addr::UNSPECIFIED,
            uplink: None,
            mss_clamp: MssClamp::Off,
            forward: true,
            ra: false,
            dns: Vec::new(),
            host_port: false,
            inhibit_ipv4: false,
            iface_prefix: "eth".to_owned(),
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

const KEYS: [Key; 21] = [
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
        full: "com.docker.network.bridge.inhibit_ipv4",
        short: "inhibit_ipv4",
        allowed: "true or false",
        set: |options, value| fill(&mut options.inhibit_ipv4, boolean(value)),
        get: |options| Some(options.inhibit_ipv4.to_string()),
    },
    Key {
        full: IFACE_PREFIX,
        short: "iface_prefix",
        allowed: "an interface name of at most 11 characters without its number",
        set: |options, value| {
            check_interface(value).ok()?;
            fill(&mut options.iface_prefix, (value.len() <= 11).then(|| value.to_owned()))
        },
        get: |options| Some(options.iface_prefix.clone()),
    },
    Key {
        full: "com.docker.network.bridge.default_bridge",
        short: "default_bridge",
        allowed: "false: network 'bridge' is the default one",
        set: |_, value| boolean(value).filter(|yes| !yes).map(drop),
        get: |_| None,
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
    Key {
        full: MASQUERADE,
        short: "masquerade",
        allowed: "true or false",
        set: |options, value| fill(&mut options.masquerade, boolean(value)),
        get: |options| Some(options.masquerade.to_string()),
    },
    Key {
        full: "tapswitch.masquerade_ports",
        short: "masquerade_ports",
        allowed: "two ports with '-' between, as 20000-29999, or nothing",
        set: |options, value| fill(&mut options.masquerade_ports, optional(value, |text| text.parse().ok())),
        get: |options| options.masquerade_ports.map(|ports| ports.to_string()),
    },
    Key {
        full: "com.docker.network.host_ipv4",
        short: "masquerade_to",
        allowed: "an IPv4 address, or nothing",
        set: |options, value| fill(&mut options.masquerade_to, optional(value, own_v4)),
        get: |options| options.masquerade_to.map(|address| address.to_string()),
    },
    Key {
        full: "com.docker.network.host_ipv6",
        short: "masquerade_to6",
        allowed: "an IPv6 address, or nothing",
        set: |options, value| fill(&mut options.masquerade_to6, optional(value, own_v6)),
        get: |options| options.masquerade_to6.map(|address| address.to_string()),
    },
    Key {
        full: HOST_BINDING,
        short: "host_binding",
        allowed: "an IPv4 address; 0.0.0.0 is any",
        set: |options, value| {
            let any = Some(Ipv4Addr::UNSPECIFIED).filter(|any| value == any.to_string());
            fill(&mut options.host_binding, any.or_else(|| own_v4(value)))
        },
        get: |options| Some(options.host_binding.to_string()),
    },
    Key {
        full: "tapswitch.uplink",
        short: "uplink",
        allowed: "the name of an uplink, or nothing",
        set: |options, value| {
            fill(
                &mut options.uplink,
                optional(value, |name| check_name("uplink", name).ok().map(|()| name.to_owned())),
            )
        },
        get: |options| options.uplink.clone(),
    },
    Key {
        full: "tapswitch.mss_clamp",
        short: "mss_clamp",
        allowed: "off, pmtu, or 64 to 65495 bytes",
        set: |options, value| {
            let clamp = match value {
                "off" => Some(MssClamp::Off),
                "pmtu" => Some(MssClamp::PathMtu),
                _ => number(value, 64, 65_495).and_then(|bytes| bytes.try_into().ok()).map(MssClamp::At),
            };
            fill(&mut options.mss_clamp, clamp)
        },
        get: |options| {
            Some(match options.mss_clamp {
                MssClamp::Off => "off".to_owned(),
                MssClamp::PathMtu => "pmtu".to_owned(),
                MssClamp::At(bytes) => bytes.to_string(),
            })
        },
    },
    Key {
        full: "tapswitch.forward",
        short: "forward",
        allowed: "true or false",
        set: |options, value| fill(&mut options.forward, boolean(value)),
        get: |options| Some(options.forward.to_string()),
    },
    Key {
        full: "tapswitch.ra",
        short: "ra",
        allowed: "true or false",
        set: |options, value| fill(&mut options.ra, boolean(value)),
        get: |options| Some(options.ra.to_string()),
    },
    Key {
        full: "tapswitch.dns",
        short: "dns",
        allowed: "addresses of name servers with ',' between, or nothing",
        set: |options, value| {
            let servers =
                optional(value, |list| list.split(',').map(name_server).collect::<Option<Vec<_>>>());
            fill(&mut options.dns, servers.map(Option::unwrap_or_default))
        },
        get: |options| Some(comma_list(&options.dns)).filter(|servers| !servers.is_empty()),
    },
    Key {
        full: "tapswitch.host_port",
        short: "host_port",
        allowed: "true or false",
        set: |options, value| fill(&mut options.host_port, boolean(value)),
        get: |options| Some(options.host_port.to_string()),
    },
];

/// Docker's key of [`NetworkOptions::bridge_name`].
pub const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
/// Docker's key of [`NetworkOptions::iface_prefix`].
pub const IFACE_PREFIX: &str = "com.docker.network.container_iface_prefix";
/// Docker's key of [`NetworkOptions::masquerade`].
pub const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
/// Docker's key of [`NetworkOptions::host_binding`].
pub const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";

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

impl TryFrom<BTreeMap<String, String>> for NetworkOptions {
    type Error = Refused;

    fn try_from(values: BTreeMap<String, String>) -> Result<Self, Refused> {
        let mut options = Self::default();
        values.iter().try_for_each(|(key, value)| options.set(key, value))?;
        Ok(options)
    }
}

impl From<NetworkOptions> for BTreeMap<String, String> {
    fn from(options: NetworkOptions) -> Self {
        options.changed().into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
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

/// Nothing, or what `read` makes of it; a mistake is neither.
fn optional<T>(value: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
    if value.is_empty() { Some(None) } else { read(value).map(Some) }
}

/// Addresses as option `dns` takes them.
pub fn comma_list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// An address where somebody can be asked.
pub fn name_server(value: &str) -> Option<IpAddr> {
    let address: IpAddr = value.parse().ok()?;
    (!address.is_unspecified() && !address.is_multicast()).then_some(address)
}

/// An address that a station can have.
fn own_v4(value: &str) -> Option<Ipv4Addr> {
    let address: Ipv4Addr = value.parse().ok()?;
    let strange = address.is_unspecified() || address.is_multicast() || address.is_broadcast();
    (!strange).then_some(address)
}

/// An address that a station can have.
fn own_v6(value: &str) -> Option<Ipv6Addr> {
    let address: Ipv6Addr = value.parse().ok()?;
    let strange = address.is_unspecified() || address.is_multicast() || address.is_loopback();
    (!strange).then_some(address)
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
            ("inhibit_ipv4", "1", "2", "true or false"),
            (
                "iface_prefix",
                "net",
                "a-prefix-too-long",
                "an interface name of at most 11 characters without its number",
            ),
            ("default_bridge", "false", "true", "false: network 'bridge' is the default one"),
            ("bridge_name", "br0", "a/b", "an interface name of at most 15 characters"),
            ("masquerade", "0", "", "true or false"),
            (
                "masquerade_ports",
                "20000-29999",
                "0",
                "two ports with '-' between, as 20000-29999, or nothing",
            ),
            ("masquerade_ports", "", "2-1", "two ports with '-' between, as 20000-29999, or nothing"),
            ("masquerade_to", "198.51.100.9", "0.0.0.0", "an IPv4 address, or nothing"),
            ("masquerade_to6", "2001:db8::9", "198.51.100.9", "an IPv6 address, or nothing"),
            ("host_binding", "0.0.0.0", "::", "an IPv4 address; 0.0.0.0 is any"),
            ("uplink", "wan", "a/b", "the name of an uplink, or nothing"),
            ("mss_clamp", "pmtu", "on", "off, pmtu, or 64 to 65495 bytes"),
            ("mss_clamp", "65495", "65496", "off, pmtu, or 64 to 65495 bytes"),
            ("forward", "false", "2", "true or false"),
            ("ra", "true", "yes", "true or false"),
            ("host_port", "1", "docker0", "true or false"),
            (
                "dns",
                "10.0.0.1,fd00::1",
                "10.0.0.1,",
                "addresses of name servers with ',' between, or nothing",
            ),
            ("dns", "", "0.0.0.0", "addresses of name servers with ',' between, or nothing"),
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
            "option 'color' is not known: the options are icc, bridge_name, inhibit_ipv4, iface_prefix, default_bridge, mtu, ageing, fdb_limit, fdb_port_limit, flood_limit, masquerade, \
             masquerade_ports, masquerade_to, masquerade_to6, host_binding, uplink, mss_clamp, forward, ra, dns, host_port"
        );
    }
}
