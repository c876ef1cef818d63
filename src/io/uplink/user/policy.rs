//! Where flows may go, and from where.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::errno::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::flows::segment::Ends;
use crate::wire::ip::{Addr, Prefix, Version};

/// What a user uplink carries, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// The far end's addresses on the link: the host itself, as the switch's side calls it.
    pub far_end: Vec<Addr>,
    /// Whether the far end's addresses stand for the host's loopback; else they refuse everything.
    pub host: bool,
    /// Where nothing may go. What is for all or for the link alone never may.
    pub denied: Vec<Prefix>,
    /// The host's addresses to go out from, one of each version; the kernel chooses otherwise.
    pub source: Vec<IpAddr>,
    /// The host's interface to go out by; the kernel chooses otherwise.
    pub interface: Option<String>,
    /// Resolvers that the switch itself may ask (port 53), wherever they are.
    pub resolvers: Vec<SocketAddr>,
    /// What the switch reaches by itself, and its own addresses: nobody outside can be answered there.
    pub inside: Vec<Prefix>,
}

/// What becomes of a flow by its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes there.
    Goes(SocketAddr),
    /// The host is not to be reached: it refuses.
    Refused,
    /// It is forbidden.
    Denied,
}

impl Policy {
    /// Where a flow to this address and port goes.
    pub fn fate(&self, to: Addr, port: u16) -> Fate {
        let socket = |address: IpAddr| SocketAddr::new(address, port);
        if self.resolvers.contains(&socket(to.into())) {
            return Fate::Goes(socket(to.into()));
        }
        if self.far_end.contains(&to) {
            let loopback = match to.version() {
                Version::V4 => IpAddr::from(Ipv4Addr::LOCALHOST),
                Version::V6 => IpAddr::from(Ipv6Addr::LOCALHOST),
            };
            return if self.host { Fate::Goes(socket(loopback)) } else { Fate::Refused };
        }
        // A loopback address would be the host's own, and a link-local one somebody on the host's link:
        // metadata services of clouds live there.
        if !to.is_host() || to.is_link_local() || self.denied.iter().any(|prefix| prefix.contains(to)) {
            return Fate::Denied;
        }
        Fate::Goes(socket(to.into()))
    }

    /// Whether the switch has this address, or knows a way to it that does not lead outside.
    pub fn is_inside(&self, address: Addr) -> bool {
        self.inside.iter().any(|prefix| prefix.contains(address))
    }

    /// The address that somebody outside is known by inside: its own where it can be answered, or else the far
    /// end's, if that has one of the same version.
    pub fn caller(&self, address: Addr) -> Option<Addr> {
        if address.is_host() && !address.is_link_local() && !self.is_inside(address) {
            return Some(address);
        }
        self.far_end.iter().copied().find(|own| own.version() == address.version())
    }

    /// Makes a socket go out by the address and interface that the user chose. The loopback has its own.
    pub(super) fn bind(&self, socket: &Socket, to: SocketAddr) -> io::Result<()> {
        if to.ip().is_loopback() {
            return Ok(());
        }
        if let Some(interface) = &self.interface {
            socket.bind_device(Some(interface.as_bytes()))?;
        }
        let version = if to.is_ipv4() { Version::V4 } else { Version::V6 };
        match self.source(version) {
            Some(source) => socket.bind(&SockAddr::from(source)),
            None => Ok(()),
        }
    }

    /// Tries whether the host has the interface and the addresses that the user chose, as podman and curl do: what is
    /// mistyped would otherwise be an uplink by which nothing goes. What goes away later is told to who sends.
    ///
    /// # Errors
    /// A line for the user: what is not there, and how to find what is.
    pub fn try_out(&self) -> Result<(), String> {
        if let Some(name) = &self.interface {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), None);
            socket.and_then(|socket| socket.bind_device(Some(name.as_bytes()))).map_err(|error| {
                let what = match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::ENODEV) => "the host has no such interface: 'ip link' lists them, \
                        and that of a VPN is there when the VPN is up"
                        .to_owned(),
                    _ => error.to_string(),
                };
                format!("nothing goes out by '{name}': {what}")
            })?;
        }
        for address in &self.source {
            let from = SocketAddr::new(*address, 0);
            let socket = Socket::new(Domain::for_address(from), Type::DGRAM.cloexec(), None);
            socket.and_then(|socket| socket.bind(&from.into())).map_err(|error| {
                let what = match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EADDRNOTAVAIL) => {
                        "the host has no such address: 'ip address' lists them".to_owned()
                    }
                    _ => error.to_string(),
                };
                format!("nothing goes out from {address}: {what}")
            })?;
        }
        Ok(())
    }

    /// Who speaks of what went wrong: the far end, as the router that it is to the switch.
    pub(super) fn speaker(&self, ends: &Ends) -> Addr {
        let version = ends.source.version();
        let own = self.far_end.iter().find(|address| address.version() == version);
        own.copied().unwrap_or(ends.source)
    }

    /// The host's address that a flow of this version goes out from, if one was chosen.
    pub fn source(&self, version: Version) -> Option<SocketAddr> {
        let chosen = self.source.iter().find(|address| address.is_ipv4() == (version == Version::V4));
        chosen.map(|address| SocketAddr::new(*address, 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> Addr {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn what_the_host_does_not_have_is_refused_when_it_is_chosen() {
        let by = |interface: &str, source: &[&str]| Policy {
            interface: Some(interface.to_owned()),
            source: source.iter().map(|text| text.parse().unwrap()).collect(),
            ..Policy::default()
        };
        assert_eq!(Policy::default().try_out(), Ok(()));
        assert_eq!(by("lo", &["127.0.0.1"]).try_out(), Ok(()));
        let refused = [
            (by("tun77", &[]), "nothing goes out by 'tun77': the host has no such interface"),
            (by("a-name-that-is-far-too-long", &[]), "nothing goes out by 'a-name-that-is-far-too-long': "),
            (
                by("lo", &["127.0.0.1", "192.0.2.1"]),
                "nothing goes out from 192.0.2.1: the host has no such address",
            ),
        ];
        for (policy, says) in refused {
            let said = policy.try_out().unwrap_err();
            assert!(said.starts_with(says), "{said}");
        }
    }

    #[test]
    fn the_host_is_reached_only_where_it_may_be() {
        let mut policy = Policy {
            far_end: vec![addr("192.0.0.2"), addr("fd00::2")],
            denied: vec![Prefix::new(addr("10.0.0.0"), 8)],
            resolvers: vec!["127.0.0.53:53".parse().unwrap(), "169.254.169.254:53".parse().unwrap()],
            ..Policy::default()
        };
        let goes = |text: &str| Fate::Goes(text.parse().unwrap());
        let table = [
            ("192.0.0.2", 80, Fate::Refused),
            ("127.0.0.1", 80, Fate::Denied),
            ("127.0.0.53", 80, Fate::Denied),
            ("127.0.0.53", 53, goes("127.0.0.53:53")),
            ("169.254.169.254", 80, Fate::Denied),
            ("169.254.169.254", 53, goes("169.254.169.254:53")),
            ("::1", 80, Fate::Denied),
            ("fe80::1", 80, Fate::Denied),
            ("10.1.2.3", 80, Fate::Denied),
            ("224.0.0.1", 80, Fate::Denied),
            ("0.0.0.0", 80, Fate::Denied),
            ("192.0.2.1", 80, goes("192.0.2.1:80")),
            ("2001:db8::1", 80, goes("[2001:db8::1]:80")),
        ];
        for (to, port, fate) in table {
            assert_eq!(policy.fate(addr(to), port), fate, "{to}:{port}");
        }
        policy.host = true;
        assert_eq!(policy.fate(addr("192.0.0.2"), 80), goes("127.0.0.1:80"));
        assert_eq!(policy.fate(addr("fd00::2"), 80), goes("[::1]:80"));
    }
}
