//! Randomness, for seeds and ids: the only place that draws any.

/// `N` random bytes.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if getrandom::fill(&mut bytes).is_err() {
        // A sandbox without getrandom(2): the standard library has other ways for its hashers' keys.
        use std::hash::{BuildHasher, RandomState};
        for (chunk, salt) in bytes.chunks_mut(8).zip(0u64..) {
            let word = RandomState::new().hash_one(salt).to_ne_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
    bytes
}

/// A random seed.
pub fn seed() -> u64 {
    u64::from_ne_bytes(bytes())
}
