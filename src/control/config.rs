//! How a daemon is told to be: by flags, and by a file with the keys of Docker's daemon.json.
//!
//! What is not said keeps its default, and what the file says no flag may say as well, as in Docker: nobody
//! shall have to remember which of them wins.

mod read;

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use super::ipam::{Pool, SubnetSpec};
use super::mistake::BadFile;
use super::model::{DEFAULT_NETWORK, Firewall, NetworkSpec};
use super::resolv_conf::{ResolvConf, asked};
use super::{Kind, Refused};

/// Docker's keys that have a meaning here.
const KEYS: [&str; 10] = [
    "bip",
    "default-address-pools",
    "dns",
    "dns-opts",
    "dns-search",
    "icc",
    "ip-forward",
    "ip-masq",
    "iptables",
    "mtu",
];

/// What a file or flags say; none: nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DaemonConfig {
    /// Address of the default network's gateway, with the length of its subnet's prefix.
    pub bip: Option<Ipv4Net>,
    /// What automatic subnets are cut from.
    pub default_address_pools: Option<Vec<Pool>>,
    /// Name servers, instead of the host's.
    pub dns: Option<Vec<IpAddr>>,
    /// Words for `options` in /etc/resolv.conf, instead of the host's.
    pub dns_opts: Option<Vec<String>>,
    /// Domains for `search` in /etc/resolv.conf, instead of the host's; `.` is none.
    pub dns_search: Option<Vec<String>>,
    /// Whether containers of the default network reach each other.
    pub icc: Option<bool>,
    /// Whether anything is forwarded at first (`net.ipv4.ip_forward`, and IPv6's).
    pub ip_forward: Option<bool>,
    /// Whether what leaves networks is masqueraded.
    pub ip_masq: Option<bool>,
    /// Whether there are rules.
    pub iptables: Option<bool>,
    /// The largest packet of the default network, in bytes.
    pub mtu: Option<u32>,
}

impl DaemonConfig {
    /// Reads a file. `path` stands in messages.
    ///
    /// # Errors
    /// [`BadFile`] with every mistake that was found.
    pub fn parse(path: &str, text: &str) -> Result<Self, BadFile> {
        read::read(text).map_err(|mistakes| BadFile {
            path: path.to_owned(),
            text: text.to_owned(),
            mistakes,
        })
    }

    /// What flags say, and the file at `path`.
    ///
    /// # Errors
    /// `bad_option` when both say something of the same.
    pub fn with_file(self, path: &str, file: Self) -> Result<Self, Refused> {
        let both = self.said().into_iter().zip(file.said()).zip(KEYS);
        let twice: Vec<String> = both
            .filter_map(|((flag, file), key)| {
                Some(format!("{key}: (from flag: {}, from file: {})", flag?, file?))
            })
            .collect();
        if !twice.is_empty() {
            let text = format!(
                "unable to configure the daemon with file {path}: the following directives are specified both as a flag \
                 and in the configuration file: {}",
                twice.join(", ")
            );
            return Err(Refused::new(Kind::BadOption, text));
        }
        Ok(Self {
            bip: self.bip.or(file.bip),
            default_address_pools: self.default_address_pools.or(file.default_address_pools),
            dns: self.dns.or(file.dns),
            dns_opts: self.dns_opts.or(file.dns_opts),
            dns_search: self.dns_search.or(file.dns_search),
            icc: self.icc.or(file.icc),
            ip_forward: self.ip_forward.or(file.ip_forward),
            ip_masq: self.ip_masq.or(file.ip_masq),
            iptables: self.iptables.or(file.iptables),
            mtu: self.mtu.or(file.mtu),
        })
    }

    /// What is said, in the order of [`KEYS`], as Docker shows it.
    fn said(&self) -> [Option<String>; KEYS.len()] {
        [
            self.bip.map(|bip| bip.to_string()),
            self.default_address_pools.as_deref().map(list),
            self.dns.as_deref().map(list),
            self.dns_opts.as_deref().map(list),
            self.dns_search.as_deref().map(list),
            self.icc.map(|icc| icc.to_string()),
            self.ip_forward.map(|forward| forward.to_string()),
            self.ip_masq.map(|masq| masq.to_string()),
            self.iptables.map(|iptables| iptables.to_string()),
            self.mtu.map(|mtu| mtu.to_string()),
        ]
    }

    /// Which rules there are.
    pub fn firewall(&self) -> Firewall {
        let Firewall { iptables, ip_masq } = Firewall::default();
        Firewall { iptables: self.iptables.unwrap_or(iptables), ip_masq: self.ip_masq.unwrap_or(ip_masq) }
    }

    /// What stands for the host's resolv.conf.
    pub fn resolv_conf(&self) -> ResolvConf {
        ResolvConf {
            servers: asked(self.dns.as_deref().unwrap_or_default()),
            search: self.dns_search.clone().unwrap_or_default(),
            options: self.dns_opts.clone().unwrap_or_default(),
        }
    }

    /// The default network.
    pub fn default_network(&self) -> NetworkSpec {
        let subnet = |bip: Ipv4Net| SubnetSpec {
            gateway: Some(bip.addr().into()),
            ..SubnetSpec::from(IpNet::V4(bip.trunc()))
        };
        let icc = self.icc.map(|icc| ("icc".to_owned(), icc.to_string()));
        let mtu = self.mtu.map(|mtu| ("mtu".to_owned(), mtu.to_string()));
        NetworkSpec {
            subnets: self.bip.into_iter().map(subnet).collect(),
            options: icc.into_iter().chain(mtu).collect(),
            ..NetworkSpec::named(DEFAULT_NETWORK)
        }
    }
}

/// A list as Go prints it.
fn list(items: &[impl ToString]) -> String {
    format!("[{}]", items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
}

/// Whether this can be a gateway's address and its subnet: `172.26.0.1/16`.
pub fn is_bip(bip: Ipv4Net) -> bool {
    bip.prefix_len() < 31 && bip.addr() != bip.network() && bip.addr() != bip.broadcast()
}

/// Whether a word can stand in /etc/resolv.conf behind `search` or `options`.
pub fn is_word(word: &str) -> bool {
    (1..=253).contains(&word.len())
        && word.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#' && byte != b';')
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"{
    "bip": "172.26.0.1/16",
    "default-address-pools": [{"base": "10.10.0.0/16", "size": 24}],
    "dns": ["10.0.0.53", "fd00::53"],
    "dns-opts": ["timeout:1"],
    "dns-search": ["example.org"],
    "icc": false,
    "ip-forward": false,
    "ip-masq": false,
    "iptables": false,
    "mtu": 1400
}"#;

    #[test]
    fn every_key_is_read_and_has_its_place() {
        let config = DaemonConfig::parse("daemon.json", FULL).unwrap();
        let said = [
            "172.26.0.1/16",
            "[base=10.10.0.0/16,size=24]",
            "[10.0.0.53 fd00::53]",
            "[timeout:1]",
            "[example.org]",
            "false",
            "false",
            "false",
            "false",
            "1400",
        ];
        assert_eq!(config.said().map(Option::unwrap), said);
        assert_eq!(DaemonConfig::default().with_file("", config.clone()), Ok(config.clone()));
        assert_eq!(config.clone().with_file("", DaemonConfig::default()), Ok(config));
        assert_eq!(DaemonConfig::parse("", " {} \n"), Ok(DaemonConfig::default()));
    }

    #[test]
    fn what_is_said_twice_is_refused_as_docker_does() {
        let file = DaemonConfig::parse("daemon.json", FULL).unwrap();
        let flags = DaemonConfig {
            icc: Some(true),
            dns: Some(vec!["1.1.1.1".parse().unwrap()]),
            ..DaemonConfig::default()
        };
        let refused = flags.with_file("/etc/x.json", file).unwrap_err();
        assert_eq!(
            refused.message,
            "unable to configure the daemon with file /etc/x.json: the following directives are specified both as a flag \
             and in the configuration file: dns: (from flag: [1.1.1.1], from file: [10.0.0.53 fd00::53]), \
             icc: (from flag: true, from file: false)"
        );
    }

    #[test]
    fn a_model_is_made_of_it() {
        use crate::control::{Id, Model};
        let config = DaemonConfig::parse("daemon.json", FULL).unwrap();
        let mut model = Model::configured(&config, Id::new([0; 32]), 0, &[]).unwrap();
        let bridge = model.find_network("bridge").unwrap();
        assert_eq!(bridge.subnets[0].prefix().to_string(), "172.26.0.0/16");
        assert_eq!(bridge.subnets[0].gateway().to_string(), "172.26.0.1");
        assert_eq!((bridge.options.icc, bridge.options.mtu), (false, 1400));
        assert_eq!(bridge.bridge_name(), "docker0");
        assert_eq!((model.settings.forward_v4, model.settings.forward_v6), (false, false));
        assert_eq!(model.firewall, Firewall { iptables: false, ip_masq: false });
        assert_eq!(model.resolvers.search(), ["example.org"]);
        let net = model.create_network(&NetworkSpec::named("net"), Id::new([1; 32]), 0, &[]).unwrap();
        assert_eq!(net.subnets[0].prefix().to_string(), "10.10.0.0/24");
        let options = net.options.clone();
        assert_eq!(model.resolvers.servers(&options).len(), 2);
    }
}
