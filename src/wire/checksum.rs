//! The Internet checksum (RFC 1071).

use std::net::{Ipv4Addr, Ipv6Addr};

/// A sum in progress. Pieces must have even length, but for the last.
///
/// Words are added as they lie in memory and swapped once at the end, which RFC 1071 §2(B)
/// shows to be the same.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds bytes.
    #[must_use]
    #[allow(clippy::should_implement_trait)] // the operator would hide that pieces must be even
    pub fn add(self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<4>();
        let sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        Self(self.0 + sum + u64::from(u32::from_ne_bytes(last)))
    }

    /// Adds an IPv4 pseudo header (RFC 9293 §3.1).
    #[must_use]
    pub fn add_ipv4(self, source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, len: u16) -> Self {
        let [high, low] = len.to_be_bytes();
        self.add(&source.octets()).add(&destination.octets()).add(&[0, protocol, high, low])
    }

    /// Adds an IPv6 pseudo header (RFC 8200 §8.1).
    #[must_use]
    pub fn add_ipv6(self, source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, len: u32) -> Self {
        let sum = self.add(&source.octets()).add(&destination.octets());
        sum.add(&len.to_be_bytes()).add(&[0, 0, 0, protocol])
    }

    /// The checksum: the complement of the sum, most significant byte first.
    pub const fn finish(self) -> [u8; 2] {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        // Folded to 16 bits above.
        (!(sum as u16)).to_ne_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 §3's example: the sum is ddf2.
    #[test]
    fn the_rfcs_example() {
        let sum = Sum::default().add(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(u16::from_be_bytes(sum.finish()), !0xddf2);
    }

    fn naive(bytes: &[u8]) -> [u8; 2] {
        let mut sum = 0u64;
        for pair in bytes.chunks(2) {
            sum += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (!(sum as u16)).to_be_bytes()
    }

    proptest! {
        #[test]
        fn the_same_as_the_definition(bytes: Vec<u8>, cut in 0usize..64) {
            let cut = (cut * 2).min(bytes.len() & !1);
            let sum = Sum::default().add(&bytes[..cut]).add(&bytes[cut..]);
            prop_assert_eq!(sum.finish(), naive(&bytes));
        }
    }
}
