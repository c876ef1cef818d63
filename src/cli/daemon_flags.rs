//! Flags of `daemon` that Docker's daemon has, too, and its file of the same.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Context;
use ipnet::Ipv4Net;

use super::values;
use crate::control::config::{DaemonConfig, is_bip, is_word};
use crate::control::ipam::Pool;

/// A file that is no configuration is not read to its end.
const LONGEST: u64 = 1 << 20;

/// What a daemon may be told, by flags or in a file.
#[derive(Debug, clap::Args)]
pub struct ConfigFlags {
    /// A file with keys of Docker's daemon.json: bip, default-address-pools, dns, dns-opts, dns-search, icc,
    /// ip-forward, ip-masq, iptables, mtu
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The default network's gateway, with the length of the subnet's prefix: 172.26.0.1/16
    #[arg(long, value_name = "CIDR", value_parser = parse_bip)]
    bip: Option<Ipv4Net>,
    /// What automatic subnets are cut from: base=10.10.0.0/16,size=24
    #[arg(long, value_name = "base=CIDR,size=N")]
    default_address_pool: Vec<Pool>,
    /// A name server, instead of the host's
    #[arg(long, value_name = "IP", value_parser = super::parse_name_server)]
    dns: Vec<IpAddr>,
    /// An option of resolv.conf(5) for containers, instead of the host's
    #[arg(long, value_name = "OPTION", value_parser = parse_word)]
    dns_opt: Vec<String>,
    /// A domain that containers try behind a short name, instead of the host's; '.' is none
    #[arg(long, value_name = "DOMAIN", value_parser = parse_word)]
    dns_search: Vec<String>,
    /// Whether containers of the default network may talk to each other [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true",
          value_parser = values::boolean)]
    icc: Option<bool>,
    /// Whether there are rules at all; without, networks route to each other, and nothing is translated
    /// [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true",
          value_parser = values::boolean)]
    iptables: Option<bool>,
    /// Whether what leaves networks by an uplink gets the uplink's address [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true",
          value_parser = values::boolean)]
    ip_masq: Option<bool>,
    /// Whether anything is forwarded between networks; 'sysctl net.ipv4.ip_forward' changes it
    /// [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true",
          value_parser = values::boolean)]
    ip_forward: Option<bool>,
    /// The default network's largest packet, in bytes [default: 1500]
    #[arg(long, value_name = "BYTES", value_parser = values::number::<u32>(68, 65_521))]
    mtu: Option<u32>,
}

impl ConfigFlags {
    /// What flags and file say together.
    ///
    /// # Errors
    /// When the file cannot be read or has mistakes, or says what a flag says.
    pub fn config(&self) -> anyhow::Result<DaemonConfig> {
        let flags = self.flags();
        let Some(path) = &self.config else { return Ok(flags) };
        let shown = path.display().to_string();
        let file = DaemonConfig::parse(&shown, &read(path).with_context(|| format!("cannot read {shown}"))?)?;
        Ok(flags.with_file(&shown, file)?)
    }

    fn flags(&self) -> DaemonConfig {
        fn some<T: Clone>(list: &[T]) -> Option<Vec<T>> {
            (!list.is_empty()).then(|| list.to_vec())
        }
        DaemonConfig {
            bip: self.bip,
            default_address_pools: some(&self.default_address_pool),
            dns: some(&self.dns),
            dns_opts: some(&self.dns_opt),
            dns_search: some(&self.dns_search),
            icc: self.icc,
            ip_forward: self.ip_forward,
            ip_masq: self.ip_masq,
            iptables: self.iptables,
            mtu: self.mtu,
        }
    }

    /// The words that say the same once more.
    pub fn words(&self) -> Vec<OsString> {
        fn each<T: ToString>(flag: &str, values: impl IntoIterator<Item = T>) -> Vec<OsString> {
            values.into_iter().map(|value| format!("--{flag}={}", value.to_string()).into()).collect()
        }
        let mut words: Vec<OsString> = Vec::new();
        if let Some(path) = &self.config {
            words.extend(["--config".into(), path.into()]);
        }
        words.extend(each("bip", self.bip));
        words.extend(each("default-address-pool", &self.default_address_pool));
        words.extend(each("dns", &self.dns));
        words.extend(each("dns-opt", &self.dns_opt));
        words.extend(each("dns-search", &self.dns_search));
        words.extend(each("icc", self.icc));
        words.extend(each("iptables", self.iptables));
        words.extend(each("ip-masq", self.ip_masq));
        words.extend(each("ip-forward", self.ip_forward));
        words.extend(each("mtu", self.mtu));
        words
    }
}

fn read(path: &PathBuf) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

fn parse_bip(text: &str) -> Result<Ipv4Net, String> {
    let bip: Option<Ipv4Net> = text.parse().ok();
    let wanted = || "give the gateway's address with its subnet's length, as 172.26.0.1/16".to_owned();
    bip.filter(|bip| is_bip(*bip)).ok_or_else(wanted)
}

fn parse_word(text: &str) -> Result<String, String> {
    if is_word(text) { Ok(text.to_owned()) } else { Err("give one word, without '#' and ';'".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, FromArgMatches};

    fn parse(words: impl IntoIterator<Item = OsString>) -> ConfigFlags {
        let command = ConfigFlags::augment_args(clap::Command::new("daemon"));
        let matches =
            command.try_get_matches_from([OsString::from("daemon")].into_iter().chain(words)).unwrap();
        ConfigFlags::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn words_say_the_same_once_more() {
        let line = "--bip 172.26.0.1/16 --default-address-pool base=10.0.0.0/8,size=24 --dns 10.0.0.1 --dns fd00::1 \
                    --dns-opt ndots:1 --dns-search . --icc=false --iptables=no --ip-masq --ip-forward=0 --mtu 1400";
        let flags = parse(line.split_ascii_whitespace().map(OsString::from));
        let config = flags.config().unwrap();
        assert_eq!((config.icc, config.ip_masq, config.mtu), (Some(false), Some(true), Some(1400)));
        assert_eq!(config.dns.as_ref().map(Vec::len), Some(2));
        assert_eq!(parse(flags.words()).config().unwrap(), config);
        assert_eq!(parse([]).config().unwrap(), DaemonConfig::default());
    }
}
