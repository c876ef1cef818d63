//! Ports of TCP and UDP as people write them: ranges, exposed ports, publishes.
//!
//! Everything that a user types about ports (`-p`, `--expose`, `--dport`, a lab's keys) is read here
//! and nowhere else.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::sources::same_version;
use super::{Kind, Refused};
use crate::wire::ip::protocol;

/// A protocol that has ports and can be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
}

impl Protocol {
    /// Its number in an IP header.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => protocol::TCP,
            Self::Udp => protocol::UDP,
        }
    }

    /// `tcp`, `udp`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// The protocol of this name, in any case as Docker takes it.
    fn named(name: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp].into_iter().find(|known| known.name().eq_ignore_ascii_case(name))
    }
}

/// Ports from a first to a last one; port 0 is none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// One port; none for port 0.
    pub const fn one(port: u16) -> Option<Self> {
        if port == 0 { None } else { Some(Self { first: port, last: port }) }
    }

    /// `len` ports from `first` on, if there are so many and neither is zero.
    pub fn starting(first: u16, len: u16) -> Option<Self> {
        let last = first.checked_add(len.checked_sub(1)?)?;
        (first > 0).then_some(Self { first, last })
    }

    /// The lowest port.
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The highest port.
    pub const fn last(self) -> u16 {
        self.last
    }

    /// How many ports it has; never 0.
    #[allow(clippy::len_without_is_empty)]
    pub const fn len(self) -> u16 {
        // Port 0 is no part of it, so that this is 65535 at most.
        self.last - self.first + 1
    }

    /// Whether the two have a port in common.
    pub const fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Whether all of `other` lies in it.
    pub const fn contains(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }
}

impl FromStr for PortRange {
    type Err = Refused;

    /// `80`, `8000-8010`.
    fn from_str(text: &str) -> Result<Self, Refused> {
        let bad = |why: &str| {
            let mend = "write a port from 1 to 65535, or two with '-' between, the lower one first";
            Refused::new(Kind::BadPort, format!("port '{text}' {why}: {mend}"))
        };
        let port = |word: &str| {
            let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
            word.parse::<u16>().ok().filter(|port| digits && *port > 0).ok_or_else(|| bad("is none"))
        };
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (port(first)?, port(last)?),
            None => (port(text)?, port(text)?),
        };
        if first > last {
            return Err(bad("runs backwards"));
        }
        Ok(Self { first, last })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(out, "{}", self.first)
        } else {
            write!(out, "{}-{}", self.first, self.last)
        }
    }
}

/// Ports of a container that others are meant to use: `80`, `53/udp`, `8000-8010/tcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Exposed {
    /// The ports.
    pub ports: PortRange,
    /// Of which protocol.
    pub protocol: Protocol,
}

impl FromStr for Exposed {
    type Err = Refused;

    /// `PORT[-PORT][/tcp|udp]`.
    fn from_str(text: &str) -> Result<Self, Refused> {
        let (ports, protocol) = split_protocol(text)?;
        Ok(Self { ports: ports.parse()?, protocol })
    }
}

impl fmt::Display for Exposed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.ports, self.protocol.name())
    }
}

/// What stands before the protocol, and the protocol, which is TCP where none is named.
fn split_protocol(text: &str) -> Result<(&str, Protocol), Refused> {
    let Some((rest, name)) = text.rsplit_once('/') else { return Ok((text, Protocol::Tcp)) };
    let refuse =
        || Refused::new(Kind::BadPort, format!("'{name}' in '{text}' has no ports: write /tcp or /udp"));
    Ok((rest, Protocol::named(name).ok_or_else(refuse)?))
}

/// A wish to publish ports: `[IP:|[IP6]:][HOST[-HOST]:]CONT[-CONT][/tcp|udp]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublishSpec {
    /// The outer address; without one, all of them.
    pub address: Option<IpAddr>,
    /// The outer ports; without them, free ones. Several of them for one inner port: a free one of them.
    pub host: Option<PortRange>,
    /// The container's ports, and their protocol.
    pub container: Exposed,
}

impl FromStr for PublishSpec {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let bad = |why: &str| {
            let form = "[IP:][HOST[-HOST]:]CONT[-CONT][/tcp|udp], as 8000:80, 127.0.0.1:53:53/udp or [fd00::1]:8000:80";
            Refused::new(Kind::BadPort, format!("publish '{text}' {why}: write {form}"))
        };
        if text.contains('=') {
            return short(text)
                .ok_or_else(|| bad("has other keys than published, target, protocol"))?
                .parse();
        }
        let (rest, protocol) = split_protocol(text)?;
        let (address, rest) = split_address(rest).map_err(bad)?;
        let (host, container) = match rest.split_once(':') {
            Some((host, container)) => (host, container),
            None => ("", rest),
        };
        if container.contains(':') {
            return Err(bad("has too many parts"));
        }
        let host: Option<PortRange> = if host.is_empty() { None } else { Some(host.parse()?) };
        let container = Exposed { ports: container.parse()?, protocol };
        let inner = container.ports.len();
        if host.is_some_and(|outer| outer.len() != inner && inner != 1) {
            return Err(bad("has ranges of different lengths"));
        }
        Ok(Self { address, host, container })
    }
}

/// Docker's long form, `published=8000,target=80,protocol=tcp`, as the short one.
fn short(text: &str) -> Option<String> {
    let (mut host, mut inner, mut protocol) = ("", None, "tcp");
    for setting in text.split(',') {
        match setting.split_once('=')? {
            ("published", ports) => host = ports,
            ("target", ports) => inner = Some(ports),
            ("protocol", name) => protocol = name,
            ("mode", "ingress" | "host") => {}
            _ => return None,
        }
    }
    let inner = inner?;
    let text =
        if host.is_empty() { format!("{inner}/{protocol}") } else { format!("{host}:{inner}/{protocol}") };
    Some(text).filter(|text| !text.contains('='))
}

/// The address in front of a publish's ports, if there is one, and what follows it.
fn split_address(text: &str) -> Result<(Option<IpAddr>, &str), &'static str> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once("]:").ok_or("has '[' without ']:'")?;
        let address =
            address.parse().map(IpAddr::V6).map_err(|_| "has no IPv6 address between '[' and ']'")?;
        return usable(address).map(|address| (Some(address), rest));
    }
    match text.split_once(':') {
        Some((first, rest)) if first.contains('.') => {
            let address = first.parse().map(IpAddr::V4).map_err(|_| "begins with what is no IPv4 address")?;
            usable(address).map(|address| (Some(address), rest))
        }
        // An empty address is any, as in Docker.
        Some(("", rest)) if rest.contains(':') => Ok((None, rest)),
        _ => Ok((None, text)),
    }
}

fn usable(address: IpAddr) -> Result<IpAddr, &'static str> {
    if address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Err("names an address that is nobody's own");
    }
    Ok(address)
}

impl fmt::Display for PublishSpec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address, self.host) {
            (Some(IpAddr::V6(address)), _) => write!(out, "[{address}]:")?,
            (Some(IpAddr::V4(address)), _) => write!(out, "{address}:")?,
            (None, _) => {}
        }
        match self.host {
            Some(host) => write!(out, "{host}:")?,
            None if self.address.is_some() => out.write_str(":")?,
            None => {}
        }
        write!(out, "{}", self.container)
    }
}

/// Ports of a container that can be reached from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// The outer IPv4 address; `0.0.0.0` is any of ours, none is none.
    pub v4: Option<Ipv4Addr>,
    /// The outer IPv6 address; `::` is any of ours, none is none.
    pub v6: Option<Ipv6Addr>,
    /// The outer ports; as many as the container's.
    pub host: PortRange,
    /// The container's ports, and their protocol.
    pub container: Exposed,
    /// Who may call; empty: everybody.
    pub from: Vec<IpNet>,
}

impl Publish {
    /// Who may call at an outer address, when not everybody may.
    pub fn sources(&self, at: IpAddr) -> impl Iterator<Item = IpNet> {
        self.from.iter().copied().filter(move |source| same_version(at, *source))
    }

    /// Whether a packet from outside could mean either.
    pub fn collides(&self, other: &Self) -> bool {
        let v4 = self.v4.zip(other.v4);
        let v4 = v4.is_some_and(|(one, two)| one == two || one.is_unspecified() || two.is_unspecified());
        let v6 = self.v6.zip(other.v6);
        let v6 = v6.is_some_and(|(one, two)| one == two || one.is_unspecified() || two.is_unspecified());
        self.container.protocol == other.container.protocol && self.host.overlaps(other.host) && (v4 || v6)
    }

    /// The outer addresses, IPv4 first; an unspecified one means any.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.v4.map(IpAddr::V4).into_iter().chain(self.v6.map(IpAddr::V6))
    }

    /// Whether this is what `spec` asks for: the same inner ports, and whatever else it names.
    pub fn fits(&self, spec: &PublishSpec) -> bool {
        let address = spec.address.is_none_or(|address| self.addresses().any(|own| own == address));
        let host = spec.host.is_none_or(|host| host == self.host || host.contains(self.host));
        address && host && self.container == spec.container
    }
}

/// `ADDRESS:PORT` with brackets around an IPv6 address.
pub fn socket(address: IpAddr, port: impl fmt::Display) -> String {
    match address {
        IpAddr::V4(address) => format!("{address}:{port}"),
        IpAddr::V6(address) => format!("[{address}]:{port}"),
    }
}

/// Text in JSON and labs, as people write it.
macro_rules! as_text {
    ($($type:ty)*) => {$(
        impl TryFrom<String> for $type {
            type Error = Refused;
            fn try_from(text: String) -> Result<Self, Refused> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    )*};
}

as_text!(PortRange Exposed PublishSpec);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(first: u16, last: u16) -> PortRange {
        PortRange { first, last }
    }

    #[test]
    fn publishes_are_read_as_docker_reads_them() {
        let v4 = |text: &str| Some(IpAddr::V4(text.parse().unwrap()));
        let v6 = |text: &str| Some(IpAddr::V6(text.parse().unwrap()));
        let table = [
            ("80", None, None, range(80, 80), Protocol::Tcp),
            ("8000:80", None, Some(range(8000, 8000)), range(80, 80), Protocol::Tcp),
            (":80", None, None, range(80, 80), Protocol::Tcp),
            ("::80", None, None, range(80, 80), Protocol::Tcp),
            (":8000:80", None, Some(range(8000, 8000)), range(80, 80), Protocol::Tcp),
            ("53:53/UDP", None, Some(range(53, 53)), range(53, 53), Protocol::Udp),
            ("127.0.0.1:8000:80", v4("127.0.0.1"), Some(range(8000, 8000)), range(80, 80), Protocol::Tcp),
            ("127.0.0.1::80", v4("127.0.0.1"), None, range(80, 80), Protocol::Tcp),
            ("127.0.0.1:80", v4("127.0.0.1"), None, range(80, 80), Protocol::Tcp),
            ("[fd00::1]:8000:80", v6("fd00::1"), Some(range(8000, 8000)), range(80, 80), Protocol::Tcp),
            ("[::]::80/udp", v6("::"), None, range(80, 80), Protocol::Udp),
            ("8000-8010:80-90", None, Some(range(8000, 8010)), range(80, 90), Protocol::Tcp),
            ("8000-8010:80", None, Some(range(8000, 8010)), range(80, 80), Protocol::Tcp),
            ("80-90/udp", None, None, range(80, 90), Protocol::Udp),
        ];
        for (text, address, host, ports, protocol) in table {
            let container = Exposed { ports, protocol };
            assert_eq!(text.parse(), Ok(PublishSpec { address, host, container }), "{text}");
        }
    }

    #[test]
    fn what_is_no_publish_is_told_why() {
        let table = [
            ("", "port '' is none: write a port from 1 to 65535, or two with '-' between"),
            ("0", "port '0' is none"),
            ("65536", "port '65536' is none"),
            ("+80", "port '+80' is none"),
            ("90-80", "port '90-80' runs backwards"),
            ("80/sctp", "'sctp' in '80/sctp' has no ports: write /tcp or /udp"),
            ("8000-8010:80-81", "publish '8000-8010:80-81' has ranges of different lengths: write [IP:]"),
            ("8000:80-81", "publish '8000:80-81' has ranges of different lengths"),
            ("[fd00::1:80", "publish '[fd00::1:80' has '[' without ']:'"),
            ("[10.0.0.1]:80:80", "publish '[10.0.0.1]:80:80' has no IPv6 address between"),
            ("10.0.0:80:80", "publish '10.0.0:80:80' begins with what is no IPv4 address"),
            ("224.0.0.1:80:80", "publish '224.0.0.1:80:80' names an address that is nobody's own"),
            ("1:2:3", "publish '1:2:3' has too many parts"),
            ("fd00::1:80", "publish 'fd00::1:80' has too many parts"),
            ("10.0.0.1:1:2:3", "publish '10.0.0.1:1:2:3' has too many parts"),
        ];
        for (text, message) in table {
            let refused = text.parse::<PublishSpec>().unwrap_err();
            assert!(
                refused.kind == Kind::BadPort && refused.message.starts_with(message),
                "{refused} / {message}"
            );
        }
    }

    #[test]
    fn collisions_are_seen_per_version_and_protocol() {
        let publish = |text: &str| {
            let spec: PublishSpec = text.parse().unwrap();
            let (v4, v6) = match spec.address {
                None => (Some(Ipv4Addr::UNSPECIFIED), Some(Ipv6Addr::UNSPECIFIED)),
                Some(IpAddr::V4(address)) => (Some(address), None),
                Some(IpAddr::V6(address)) => (None, Some(address)),
            };
            Publish { v4, v6, host: spec.host.unwrap(), container: spec.container, from: Vec::new() }
        };
        let table = [
            ("80:80", "80:90", true),
            ("80:80", "80:80/udp", false),
            ("80:80", "81:80", false),
            ("80-90:80-90", "90-100:1-11", true),
            ("80:80", "10.0.0.1:80:80", true),
            ("80:80", "[fd00::1]:80:80", true),
            ("10.0.0.2:80:80", "10.0.0.1:80:80", false),
            ("0.0.0.0:80:80", "[::]:80:80", false),
            ("0.0.0.0:80:80", "10.0.0.1:80:80", true),
        ];
        for (one, other, collide) in table {
            assert_eq!(publish(one).collides(&publish(other)), collide, "{one} {other}");
            assert_eq!(publish(other).collides(&publish(one)), collide, "{other} {one}");
        }
        assert!(publish("8003:80").fits(&"8000-8010:80".parse().unwrap()));
        assert!(publish("8003:80").fits(&"80".parse().unwrap()));
        assert!(!publish("8003:80").fits(&"80/udp".parse().unwrap()));
        assert!(!publish("10.0.0.1:8003:80").fits(&"10.0.0.2:8003:80".parse().unwrap()));
    }

    #[test]
    fn json_has_what_people_write() {
        let spec: PublishSpec = "[fd00::1]:8000:80".parse().unwrap();
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(json, "\"[fd00::1]:8000:80/tcp\"");
        assert_eq!(serde_json::from_str::<PublishSpec>(&json).unwrap(), spec);
        assert!(serde_json::from_str::<Exposed>("\"0/tcp\"").is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            v4: bool, with_address: bool, address: [u8; 16], host: Option<u16>, first in 1u16.., len in 1u16..50, udp: bool,
        ) {
            let Some(ports) = PortRange::starting(first, len) else { return Ok(()) };
            let [a, b, c, d, ..] = address;
            let address = if v4 { IpAddr::from([a, b, c, d]) } else { IpAddr::from(address) };
            let address = Some(address).filter(|address| with_address && usable(*address).is_ok());
            let host = host.and_then(|host| PortRange::starting(host, len));
            let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
            let spec = PublishSpec { address, host, container: Exposed { ports, protocol } };
            prop_assert_eq!(spec.to_string().parse(), Ok(spec));
        }

        #[test]
        fn no_text_is_too_strange(text in "[0-9a-f:.\\[\\]/tcpud-]{0,30}") {
            if let Ok(spec) = text.parse::<PublishSpec>() {
                prop_assert_eq!(spec.to_string().parse(), Ok(spec));
            }
        }
    }
}
