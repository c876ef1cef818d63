//! The Internet checksum (RFC 1071), whole and incremental (RFC 1624).

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
    #[inline]
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
    #[inline]
    pub const fn finish(self) -> [u8; 2] {
        (!fold(self.0)).to_ne_bytes()
    }

    /// The sum itself, most significant byte first: what a partial checksum starts with.
    #[inline]
    pub const fn partial(self) -> [u8; 2] {
        fold(self.0).to_ne_bytes()
    }
}

/// Adds carries until 16 bits are left.
#[inline]
const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    // At most 2^33, then 2^17 + 2^16, then 2^16 + 2, then 2^16 - 1.
    sum as u16
}

/// How bytes that a checksum covers have changed. Order does not matter, and changes add up.
///
/// RFC 1624's equation 3: it keeps a wrong checksum wrong, and what was right becomes what summing up
/// everything anew would give, with the same one of the two zeros.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change(u64);

impl Change {
    /// Adds that `old` was replaced by `new`: as many bytes, and at an even distance from the start of
    /// what is summed up.
    #[must_use]
    #[inline]
    pub fn replace<const N: usize>(self, old: &[u8; N], new: &[u8; N]) -> Self {
        const { assert!(N.is_multiple_of(2)) };
        let (mut removed, mut added) = (0, 0);
        let ((old, old_rest), (new, new_rest)) = (old.as_chunks(), new.as_chunks());
        for (old, new) in old.iter().zip(new) {
            removed += u64::from(!u32::from_ne_bytes(*old));
            added += u64::from(u32::from_ne_bytes(*new));
        }
        if let ([a, b], [c, d]) = (old_rest, new_rest) {
            removed += u64::from(!u16::from_ne_bytes([*a, *b]));
            added += u64::from(u16::from_ne_bytes([*c, *d]));
        }
        Self(self.0 + removed + added)
    }

    /// Both changes together.
    #[must_use]
    #[inline]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The checksum of the changed bytes, from what it was.
    #[must_use]
    #[inline]
    pub const fn apply(self, checksum: [u8; 2]) -> [u8; 2] {
        (!fold(self.0 + !u16::from_ne_bytes(checksum) as u64)).to_ne_bytes()
    }

    /// The same for a partial checksum, which is not complemented.
    #[must_use]
    #[inline]
    pub const fn apply_partial(self, sum: [u8; 2]) -> [u8; 2] {
        fold(self.0 + u16::from_ne_bytes(sum) as u64).to_ne_bytes()
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

    /// RFC 1624 §4's example: 0x5555 becomes 0x3285, and the sum is zero; equation 2 would give 0xffff.
    #[test]
    fn the_other_rfcs_example() {
        let change = Change::default().replace(&[0x55, 0x55], &[0x32, 0x85]);
        assert_eq!(change.apply([0xdd, 0x2f]), [0x00, 0x00]);
    }

    #[test]
    fn the_greatest_sums_fold() {
        assert_eq!(fold(u64::MAX), 0xffff);
        assert_eq!([0, 1, 0xffff, 0x1_0000, 0x1_ffff, 0xffff_ffff].map(fold), [0, 1, 0xffff, 1, 1, 0xffff]);
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
            prop_assert_eq!(sum.partial(), naive(&bytes).map(|byte| !byte));
        }

        #[test]
        fn a_change_gives_what_summing_up_anew_gives(
            mut bytes in proptest::collection::vec(any::<u8>(), 40..80), at in 0usize..9, small: [u8; 2], big: [u8; 16],
        ) {
            bytes[39] |= 1; // a sum of zero has two writings; headers never have it
            let (before, at) = (naive(&bytes), at * 2);
            let mut old = [0; 16];
            old.copy_from_slice(&bytes[at..at + 16]);
            bytes[at..at + 16].copy_from_slice(&big);
            let change = Change::default().replace(&old, &big);
            let mut old = [0; 2];
            old.copy_from_slice(&bytes[36..38]);
            bytes[36..38].copy_from_slice(&small);
            let change = change.replace(&old, &small);
            prop_assert_eq!(change.apply(before), naive(&bytes));
            prop_assert_eq!(change.apply_partial(before.map(|byte| !byte)), naive(&bytes).map(|byte| !byte));
        }
    }
}
