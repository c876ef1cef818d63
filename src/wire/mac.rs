//! Ethernet addresses (IEEE 802 EUI-48).

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// A 48-bit MAC address, in transmission order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// `00:00:00:00:00:00`, which no station may use.
    pub const ZERO: Self = Self([0; 6]);

    /// Docker's default for an endpoint: `02:42` followed by its IPv4 address.
    pub const fn from_ipv4(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0x42, a, b, c, d])
    }

    /// The group (multicast) bit: set in broadcast and multicast addresses (IEEE 802-2014 §8.2).
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether a station may use this as its own address: neither group nor zero.
    pub const fn is_station(self) -> bool {
        !self.is_group() && self.to_u64() != 0
    }

    /// `01:80:c2:00:00:00` to `…:0f`: never forwarded by a bridge (IEEE 802.1Q-2018 table 8-1).
    pub const fn is_link_local_group(self) -> bool {
        let [a, b, c, d, e, f] = self.0;
        a == 0x01 && b == 0x80 && c == 0xc2 && d == 0 && e == 0 && f <= 0x0f
    }

    /// The address as a number below 2^48, first byte most significant: a table key.
    #[inline]
    pub const fn to_u64(self) -> u64 {
        let mut bytes = [0; 8];
        let (_, low) = bytes.split_at_mut(2);
        low.copy_from_slice(&self.0);
        u64::from_be_bytes(bytes)
    }

    /// The address that [`to_u64`](Self::to_u64) made this number of; what lies above 48 bits is ignored.
    pub const fn from_u64(number: u64) -> Self {
        let [_, _, a, b, c, d, e, f] = number.to_be_bytes();
        Self([a, b, c, d, e, f])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// Why a text is not a MAC address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a MAC address (six hexadecimal bytes, as 02:42:ac:11:00:02)")]
pub struct BadMac(pub String);

impl FromStr for MacAddr {
    type Err = BadMac;

    fn from_str(text: &str) -> Result<Self, BadMac> {
        let bad = || BadMac(text.to_owned());
        let mut bytes = [0u8; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(bad)?;
            if part.is_empty() || part.len() > 2 || !part.bytes().all(|c| c.is_ascii_hexdigit()) {
                return Err(bad());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        match parts.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(bad()),
        }
    }
}

impl serde::Serialize for MacAddr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for MacAddr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trip_and_docker_default() {
        let mac = MacAddr::from_ipv4(Ipv4Addr::new(172, 20, 0, 2));
        assert_eq!(mac.to_string(), "02:42:ac:14:00:02");
        assert_eq!("02:42:AC:14:0:2".parse(), Ok(mac));
        for bad in ["", "02:42:ac:14:00", "02:42:ac:14:00:02:03", "02:42:ac:14:00:+2", "g2:42:ac:14:00:02"] {
            assert_eq!(bad.parse::<MacAddr>(), Err(BadMac(bad.to_owned())));
        }
    }

    #[test]
    fn address_classes() {
        assert!(MacAddr::BROADCAST.is_group() && !MacAddr::BROADCAST.is_station());
        assert!(!MacAddr::ZERO.is_station());
        assert!(MacAddr([1, 0x80, 0xc2, 0, 0, 0x0f]).is_link_local_group());
        assert!(!MacAddr([1, 0x80, 0xc2, 0, 0, 0x10]).is_link_local_group());
    }
}
