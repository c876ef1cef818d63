//! IP addresses and prefixes of both versions, as one ordered number.
//!
//! An IPv4 address is kept as its IPv4-mapped IPv6 address (RFC 4291 §2.5.5.2), so that everything
//! behind the parser is written once for both versions. On the wire an IPv6 packet must not carry
//! such an address (RFC 4291 leaves it to nodes' inside): [`Packet::parse`](super::Packet::parse) refuses it, which keeps
//! the two families apart.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Version {
    /// RFC 791.
    #[default]
    V4,
    /// RFC 8200.
    V6,
}

/// `::ffff:0:0/96`: the upper 96 bits of a mapped address.
const MAPPED: u64 = 0xffff_0000_0000;

/// An address of either version: eight-byte halves, so that it is compared and hashed in two steps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Addr {
    high: u64,
    low: u64,
}

impl Addr {
    /// `0.0.0.0`.
    pub const UNSPECIFIED_V4: Self = Self { high: 0, low: MAPPED };
    /// `::`.
    pub const UNSPECIFIED_V6: Self = Self { high: 0, low: 0 };
    /// `255.255.255.255`.
    pub const BROADCAST: Self = Self { high: 0, low: MAPPED | 0xffff_ffff };

    /// An IPv4 address, from its bytes on the wire.
    #[inline]
    pub const fn v4(bytes: [u8; 4]) -> Self {
        Self { high: 0, low: MAPPED | u32::from_be_bytes(bytes) as u64 }
    }

    /// An IPv6 address, from its bytes on the wire.
    #[inline]
    pub const fn v6(bytes: [u8; 16]) -> Self {
        let all = u128::from_be_bytes(bytes);
        // The halves.
        Self { high: (all >> 64) as u64, low: all as u64 }
    }

    /// The version it belongs to.
    #[inline]
    pub const fn version(self) -> Version {
        if self.high == 0 && self.low >> 32 == MAPPED >> 32 { Version::V4 } else { Version::V6 }
    }

    /// All 128 bits, of an IPv4 address those of its mapped one.
    #[inline]
    pub const fn to_bits(self) -> u128 {
        (self.high as u128) << 64 | self.low as u128
    }

    /// The address of these 128 bits.
    #[inline]
    pub const fn from_bits(bits: u128) -> Self {
        Self { high: (bits >> 64) as u64, low: bits as u64 }
    }

    /// Its four bytes on the wire, when it is an IPv4 address; the last four otherwise.
    #[inline]
    pub const fn v4_bytes(self) -> [u8; 4] {
        (self.low as u32).to_be_bytes()
    }

    /// Its sixteen bytes on the wire as an IPv6 address.
    #[inline]
    pub const fn v6_bytes(self) -> [u8; 16] {
        self.to_bits().to_be_bytes()
    }

    /// `0.0.0.0` or `::`.
    pub const fn is_unspecified(self) -> bool {
        self.high == 0 && (self.low == 0 || self.low == MAPPED)
    }

    /// `224.0.0.0/4` (RFC 1112) or `ff00::/8` (RFC 4291 §2.7).
    #[inline]
    pub const fn is_multicast(self) -> bool {
        match self.version() {
            Version::V4 => (self.low as u32) >> 28 == 0xe,
            Version::V6 => self.high >> 56 == 0xff,
        }
    }

    /// `127.0.0.0/8` (RFC 1122 §3.2.1.3) or `::1` (RFC 4291 §2.5.3).
    #[inline]
    pub const fn is_loopback(self) -> bool {
        match self.version() {
            Version::V4 => (self.low as u32) >> 24 == 127,
            Version::V6 => self.high == 0 && self.low == 1,
        }
    }

    /// `169.254.0.0/16` (RFC 3927) or `fe80::/10` (RFC 4291 §2.5.6).
    #[inline]
    pub const fn is_link_local(self) -> bool {
        match self.version() {
            Version::V4 => (self.low as u32) >> 16 == 0xa9fe,
            Version::V6 => self.high >> 54 == 0x3fa,
        }
    }

    /// Whether one host can have it, on a network: neither multicast, nor loopback, nor `0.0.0.0/8`,
    /// `240.0.0.0/4` (RFC 1122 §3.2.1.3, RFC 1112 §4), nor `::` or an IPv4-compatible one (RFC 4291 §2.5.5.1).
    #[inline]
    pub const fn is_host(self) -> bool {
        match self.version() {
            Version::V4 => !matches!((self.low as u32) >> 24, 0 | 127 | 224..=255),
            Version::V6 => self.high >> 56 != 0xff && !(self.high == 0 && self.low >> 32 == 0),
        }
    }
}

impl From<Ipv4Addr> for Addr {
    fn from(address: Ipv4Addr) -> Self {
        Self::v4(address.octets())
    }
}

impl From<Ipv6Addr> for Addr {
    fn from(address: Ipv6Addr) -> Self {
        Self::v6(address.octets())
    }
}

impl From<IpAddr> for Addr {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => address.into(),
        }
    }
}

impl From<Addr> for IpAddr {
    fn from(address: Addr) -> Self {
        match address.version() {
            Version::V4 => Ipv4Addr::from(address.v4_bytes()).into(),
            Version::V6 => Ipv6Addr::from(address.v6_bytes()).into(),
        }
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IpAddr::from(*self).fmt(f)
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A prefix of either version; bits beyond its length are zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: Addr,
    /// In bits of the 128: an IPv4 prefix of length n has 96 + n.
    bits: u8,
}

impl Prefix {
    /// `0.0.0.0/0`.
    pub const ALL_V4: Self = Self { address: Addr::UNSPECIFIED_V4, bits: 96 };
    /// `::/0`. It holds no IPv4 address.
    pub const ALL_V6: Self = Self { address: Addr::UNSPECIFIED_V6, bits: 0 };

    /// The prefix of `len` bits (of its own version: 0 to 32, or to 128; more is cut) that holds `address`.
    pub fn new(address: Addr, len: u8) -> Self {
        let bits = match address.version() {
            Version::V4 => 96 + len.min(32),
            Version::V6 => len.min(128),
        };
        Self { address: Addr::from_bits(address.to_bits() & mask(bits)), bits }
    }

    /// The first address.
    pub const fn address(self) -> Addr {
        self.address
    }

    /// Its length in bits of its own version.
    pub const fn len(self) -> u8 {
        match self.version() {
            Version::V4 => self.bits - 96,
            Version::V6 => self.bits,
        }
    }

    /// Whether it is of length zero: every address of its version.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Its length in bits of the 128.
    #[inline]
    pub const fn bits(self) -> u8 {
        self.bits
    }

    /// The version of its addresses.
    pub const fn version(self) -> Version {
        if self.bits >= 96 { self.address.version() } else { Version::V6 }
    }

    /// Whether it holds the address.
    #[inline]
    pub const fn contains(self, address: Addr) -> bool {
        let same = (address.to_bits() ^ self.address.to_bits()) & mask(self.bits) == 0;
        // `::/0` and its like do not hold IPv4 addresses, whose upper 80 bits are zero.
        same && (self.bits >= 96 || matches!(address.version(), Version::V6))
    }

    /// The last address; of an IPv4 prefix its directed broadcast address (RFC 919).
    pub const fn last(self) -> Addr {
        Addr::from_bits(self.address.to_bits() | !mask(self.bits))
    }
}

/// The upper `bits` of 128.
#[inline]
pub const fn mask(bits: u8) -> u128 {
    if bits == 0 { 0 } else { u128::MAX << (128 - bits as u32) }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len())
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Protocol numbers (IANA "Assigned Internet Protocol Numbers").
pub mod protocol {
    /// RFC 792.
    pub const ICMP: u8 = 1;
    /// RFC 9293.
    pub const TCP: u8 = 6;
    /// RFC 768.
    pub const UDP: u8 = 17;
    /// RFC 4443.
    pub const ICMPV6: u8 = 58;
}
