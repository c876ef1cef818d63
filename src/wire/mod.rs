//! Bytes on the wire: one header a file, checked once, infallible afterwards.
//!
//! Contract: a `parse` function checks every length that its accessors rely on
//! and returns [`Malformed`] otherwise; after it returned, no accessor can fail.
//! Nothing here keeps state, performs I/O or knows about the rest of the crate.

pub mod checksum;
pub mod ethernet;
pub mod mac;
pub mod segment;
pub mod virtio;

pub use mac::MacAddr;
pub use virtio::Offload;

/// A header that is too short, or whose fields contradict the bytes around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub struct Malformed(
    /// Which header, in lower case: `"ethernet"`, `"ipv4"`, `"virtio-net header"`.
    pub &'static str,
);
