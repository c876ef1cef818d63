//! Bytes on the wire: one header a file, checked once, infallible afterwards.
//!
//! Contract: a `parse` function checks every length that its accessors rely on
//! and returns [`Malformed`] otherwise; after it returned, no accessor can fail.
//! Nothing here keeps state, performs I/O or knows about the rest of the crate.

pub mod arp;
pub mod checksum;
pub mod emit;
pub mod ethernet;
pub mod icmp;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod mac;
pub mod ndp;
pub mod packet;
pub mod segment;
pub mod tcp;
pub mod udp;
pub mod virtio;

pub use mac::MacAddr;
pub use packet::{IpError, Packet, Transport};
pub use virtio::Offload;

/// A header that is too short, or whose fields contradict the bytes around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub struct Malformed(
    /// Which header, in lower case: `"ethernet"`, `"ipv4"`, `"virtio-net header"`.
    pub &'static str,
);
