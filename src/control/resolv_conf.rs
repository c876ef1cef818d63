//! /etc/resolv.conf, as resolv.conf(5) and glibc's resolver (`__resolv_conf_load`) read it.
//!
//! Nothing in it is an error: whatever makes no sense is passed over, as every resolver does. What is kept
//! is bounded, for a container's file and a gateway's list of servers are made of it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::options::NetworkOptions;

/// Where name servers listen (RFC 1035 §4.2).
const PORT: u16 = 53;
/// Name servers that are asked: `MAXNS` in resolv.h, and `maxExtDNS` in moby's libnetwork.
pub const SERVERS: usize = 3;
/// The most of the file that is looked at, in bytes.
pub const LONGEST: usize = 64 * 1024;
/// Words of `search` and of `options` that are kept.
const WORDS: usize = 32;
/// The longest of these words: a domain name's limit (RFC 1035 §3.1).
const WORD: usize = 253;

/// Whom a machine asks about names, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResolvConf {
    /// Name servers, in the order in which they are asked; at most [`SERVERS`].
    pub servers: Vec<SocketAddr>,
    /// Domains that are tried behind a short name.
    pub search: Vec<String>,
    /// Words such as `ndots:2`.
    pub options: Vec<String>,
}

impl ResolvConf {
    /// Reads a file's text. `interface` knows the number of an interface, which `fe80::1%eth0` needs.
    /// Where there is no name server, the local one is meant (resolv.conf(5)).
    pub fn parse(text: &[u8], interface: impl Fn(&str) -> Option<u32>) -> Self {
        let text = String::from_utf8_lossy(text.get(..LONGEST).unwrap_or(text));
        let mut read = Self::default();
        for line in text.lines() {
            let (keyword, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
            match keyword {
                "nameserver" if read.servers.len() < SERVERS => {
                    let word = rest.trim_start().split([' ', '\t', ';', '#']).next().unwrap_or_default();
                    read.servers.extend(server(word, &interface));
                }
                // The last of these lines holds.
                "search" => read.search = words(rest).collect(),
                "domain" => read.search = words(rest).take(1).collect(),
                "options" => {
                    let room = WORDS.saturating_sub(read.options.len());
                    read.options.extend(words(rest).take(room));
                }
                // A comment, `sortlist`, or nothing we know.
                _ => {}
            }
        }
        if read.servers.is_empty() {
            read.servers.push(at_its_port(Ipv4Addr::LOCALHOST.into()));
        }
        read
    }
}

impl fmt::Display for ResolvConf {
    /// The file again, but for what no resolver reads.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for server in &self.servers {
            match server {
                SocketAddr::V6(v6) if v6.scope_id() != 0 => {
                    writeln!(out, "nameserver {}%{}", v6.ip(), v6.scope_id())?;
                }
                other => writeln!(out, "nameserver {}", other.ip())?,
            }
        }
        for (keyword, words) in [("search", &self.search), ("options", &self.options)] {
            if !words.is_empty() {
                writeln!(out, "{keyword} {}", words.join(" "))?;
            }
        }
        Ok(())
    }
}

/// A name server's address with the port where it listens.
pub const fn at_its_port(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, PORT)
}

fn server(word: &str, interface: impl Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    let Some((address, scope)) = word.split_once('%') else {
        return word.parse().ok().map(at_its_port);
    };
    let address: Ipv6Addr = address.parse().ok()?;
    let scope = scope.parse().ok().or_else(|| interface(scope))?;
    Some(SocketAddrV6::new(address, PORT, 0, scope).into())
}

fn words(rest: &str) -> impl Iterator<Item = String> {
    let plain = |word: &&str| word.len() <= WORD && word.bytes().all(|byte| byte.is_ascii_graphic());
    // A comment may also follow what is said.
    let said = rest.split_ascii_whitespace().take_while(|word| !word.starts_with(['#', ';']));
    said.filter(plain).take(WORDS).map(str::to_owned)
}

/// Whom gateways and containers ask, unless a network or a container has its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolvers {
    /// What the daemon was told (`--dns`); what is empty there is the host's.
    pub given: ResolvConf,
    /// What the host has.
    pub host: ResolvConf,
}

impl Resolvers {
    /// The name servers of a network: its own, or the daemon's, or the host's.
    pub fn servers(&self, options: &NetworkOptions) -> Vec<SocketAddr> {
        self.chosen(options).unwrap_or_else(|| self.host.servers.clone())
    }

    /// The name servers that somebody chose for a network, if anybody did.
    pub fn chosen(&self, options: &NetworkOptions) -> Option<Vec<SocketAddr>> {
        let given = || Some(self.given.servers.clone()).filter(|given| !given.is_empty());
        if options.dns.is_empty() { given() } else { Some(asked(&options.dns)) }
    }

    /// Domains that are tried behind a short name; a single dot stands for none, as in Docker.
    pub fn search(&self) -> &[String] {
        match self.given.search.as_slice() {
            [] => &self.host.search,
            [none] if none == "." => &[],
            given => given,
        }
    }

    /// Words such as `ndots:2`.
    pub fn options(&self) -> &[String] {
        if self.given.options.is_empty() { &self.host.options } else { &self.given.options }
    }
}

/// Those of the addresses that are asked: the first ones, as of a file.
pub fn asked(addresses: &[IpAddr]) -> Vec<SocketAddr> {
    addresses.iter().take(SERVERS).copied().map(at_its_port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &[u8]) -> ResolvConf {
        ResolvConf::parse(text, |name| (name == "eth0").then_some(7))
    }

    #[test]
    fn lines_mean_what_they_mean_to_glibc() {
        // The text, and servers (without their port), search and options, joined by spaces.
        let table = [
            ("", "127.0.0.1", "", ""),
            ("nameserver 10.0.0.1\n", "10.0.0.1", "", ""),
            ("nameserver\t10.0.0.1 # the router\r\n", "10.0.0.1", "", ""),
            ("nameserver 10.0.0.1;x\nnameserver   ::1", "10.0.0.1 [::1]", "", ""),
            ("nameserver fe80::1%eth0\nnameserver fe80::2%3", "[fe80::1%7] [fe80::2%3]", "", ""),
            ("nameserver fe80::1%gone\n", "127.0.0.1", "", ""),
            (" nameserver 10.0.0.1\nNameserver 10.0.0.1\nnameserver10.0.0.1", "127.0.0.1", "", ""),
            ("#nameserver 10.0.0.1\n;nameserver 10.0.0.2\n", "127.0.0.1", "", ""),
            ("nameserver 10.0.0.999\nnameserver dns.example\n", "127.0.0.1", "", ""),
            (
                "nameserver 1.1.1.1\nnameserver 2.2.2.2\nnameserver 3.3.3.3\nnameserver 4.4.4.4",
                "1.1.1.1 2.2.2.2 3.3.3.3",
                "",
                "",
            ),
            ("domain a.example\nsearch b.example c.example\n", "127.0.0.1", "b.example c.example", ""),
            ("search b.example\ndomain a.example x\n", "127.0.0.1", "a.example", ""),
            ("options ndots:2 edns0\noptions rotate # ...", "127.0.0.1", "", "ndots:2 edns0 rotate"),
            ("search \u{e9}.example good.example\n", "127.0.0.1", "good.example", ""),
        ];
        for (text, servers, search, options) in table {
            let read = parse(text.as_bytes());
            let shown: Vec<String> = read.servers.iter().map(ToString::to_string).collect();
            assert_eq!(shown.join(" ").replace(":53", ""), servers, "{text}");
            assert_eq!(
                (read.search.join(" "), read.options.join(" ")),
                (search.into(), options.into()),
                "{text}"
            );
        }
    }

    fn own(words: &[&str]) -> Vec<String> {
        words.iter().copied().map(str::to_owned).collect()
    }

    #[test]
    fn the_nearer_choice_holds() {
        let mut resolvers =
            Resolvers { host: parse(b"nameserver 10.0.0.1\nsearch a.example\n"), ..Resolvers::default() };
        let mut options = NetworkOptions::default();
        let servers = |resolvers: &Resolvers, options: &NetworkOptions| {
            resolvers
                .servers(options)
                .iter()
                .map(|server| server.ip().to_string())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!((servers(&resolvers, &options).as_str(), resolvers.chosen(&options)), ("10.0.0.1", None));
        resolvers.given.servers = asked(&["10.0.0.2".parse().unwrap()]);
        assert_eq!(servers(&resolvers, &options), "10.0.0.2");
        options.set("dns", "10.0.0.3,10.0.0.4,10.0.0.5,10.0.0.6").unwrap();
        assert_eq!(servers(&resolvers, &options), "10.0.0.3 10.0.0.4 10.0.0.5");
        assert_eq!(resolvers.search(), ["a.example"]);
        resolvers.given.search = own(&["."]);
        assert!(resolvers.search().is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_are_borne(text in proptest::collection::vec(any::<u8>(), 0..4000)) {
            let read = parse(&text);
            prop_assert!((1..=SERVERS).contains(&read.servers.len()));
        }

        #[test]
        fn anything_behind_a_keyword_is_borne(
            lines in proptest::collection::vec(("(nameserver|search|domain|options)", "[ \t]?", ".*"), 0..100)
        ) {
            let text: String = lines.iter().map(|(keyword, gap, rest)| format!("{keyword}{gap}{rest}\n")).collect();
            let read = parse(text.as_bytes());
            prop_assert!((1..=SERVERS).contains(&read.servers.len()));
            prop_assert!(read.search.len() <= WORDS && read.options.len() <= WORDS);
            let mut words = read.search.iter().chain(&read.options);
            prop_assert!(words.all(|word| word.len() <= WORD && !word.contains(char::is_whitespace)));
        }
    }
}
