//! Ids: 256 bits, written as 64 hexadecimal digits as Docker does.

use std::fmt;
use std::str::FromStr;

/// The id of a network, container or endpoint.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id([u8; 32]);

impl Id {
    /// The lowest there is.
    pub const MIN: Self = Self([0; 32]);

    /// An id of these bytes; the caller takes them from a source of randomness.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The first 12 digits, as listings show.
    pub fn short(self) -> String {
        self.digits(0, 12)
    }

    /// `count` digits from digit `from` on; fewer at the end.
    pub fn digits(self, from: usize, count: usize) -> String {
        let mut text = self.to_string();
        text.truncate(from.saturating_add(count));
        text.drain(..from.min(text.len()));
        text
    }

    /// Whether the written id begins with `prefix` (lower-case digits).
    pub fn starts_with(self, prefix: &str) -> bool {
        let digit = |index: usize| {
            let byte = *self.0.get(index / 2)?;
            let nibble = if index.is_multiple_of(2) { byte >> 4 } else { byte & 0xf };
            char::from_digit(u32::from(nibble), 16)
        };
        prefix.chars().enumerate().all(|(index, c)| digit(index) == Some(c))
    }

    /// The id of what joins `self` and `other`: always the same for the same pair, so that an
    /// endpoint that leaves a network and returns keeps its id and its port alias.
    pub fn derive(self, other: Self) -> Self {
        let state = self.words().chain(other.words()).fold(0, |state, word| mix(state ^ word));
        let mut bytes = [0; 32];
        for (index, chunk) in (1u64..).zip(bytes.chunks_exact_mut(8)) {
            chunk.copy_from_slice(&mix(state.wrapping_add(index.wrapping_mul(GOLDEN))).to_be_bytes());
        }
        Self(bytes)
    }

    /// The id's bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A number out of the id, to choose by.
    pub fn seed(self) -> u64 {
        self.words().fold(0, |state, word| mix(state ^ word))
    }

    fn words(self) -> impl Iterator<Item = u64> {
        let [a, b, c, d] = [0, 8, 16, 24]
            .map(|at| self.0.iter().skip(at).take(8).fold(0u64, |word, byte| word << 8 | u64::from(*byte)));
        [a, b, c, d].into_iter()
    }
}

/// The step of splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finalizer of splitmix64: every bit of the input changes half of the output's.
const fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(GOLDEN);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// The digit of a number below 16.
const fn digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}

impl fmt::Display for Id {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 64];
        for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(self.0) {
            *pair = [digit(byte >> 4), digit(byte & 0xf)];
        }
        // They are ASCII. One piece, for ids are written for every row of every listing.
        out.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// A text that is not 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an id (64 lower-case hexadecimal digits)")]
pub struct BadId(pub String);

impl FromStr for Id {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let bad = || BadId(text.to_owned());
        let nibble = |c: u8| match c {
            b'0'..=b'9' => Ok(c - b'0'),
            b'a'..=b'f' => Ok(c - b'a' + 10),
            _ => Err(bad()),
        };
        let digits: &[u8; 64] = text.as_bytes().try_into().map_err(|_| bad())?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
            let [high, low] = *pair;
            *byte = nibble(high)? << 4 | nibble(low)?;
        }
        Ok(Self(bytes))
    }
}

impl serde::Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trip_and_prefixes() {
        let id = Id::new(std::array::from_fn(|index| u8::try_from(index * 7 + 1).unwrap()));
        let text = id.to_string();
        assert_eq!(text.len(), 64);
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(id.short(), text[..12]);
        assert_eq!(id.digits(60, 12), text[60..]);
        for length in 0..=64 {
            assert!(id.starts_with(&text[..length]));
        }
        assert!(!id.starts_with("x") && !id.starts_with(&format!("{text}0")));
        for bad in ["", "12", &text.to_uppercase(), &format!("+{}", &text[1..])] {
            assert_eq!(bad.parse::<Id>(), Err(BadId(bad.to_owned())));
        }
    }

    #[test]
    fn derived_ids_are_stable_and_differ() {
        let [a, b] = [Id::new([1; 32]), Id::new([2; 32])];
        assert_eq!(a.derive(b), a.derive(b));
        assert_ne!(a.derive(b), b.derive(a));
        assert_ne!(a.derive(a), a);
        assert_ne!(a.seed(), b.seed());
    }
}
