//! A flow's name in one direction.

use crate::wire::ip::Addr;

/// Addresses, ports and protocol of a flow's packets in one direction.
///
/// Of an ICMP query both ports are its identifier (RFC 5508 §3.1: the query id is what a port is to
/// UDP); of protocols without ports both are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple {
    /// Source address.
    pub source: Addr,
    /// Destination address; of the same version.
    pub destination: Addr,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// The protocol above IP.
    pub protocol: u8,
}

impl Tuple {
    /// The name of the packets that go back.
    #[must_use]
    #[inline]
    pub const fn invert(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
        }
    }
}

/// Which way a packet of a flow goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// As the first packet.
    Original,
    /// Against it.
    Reply,
}

impl Direction {
    /// Its place in a pair.
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The other one.
    #[must_use]
    #[inline]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Original => Self::Reply,
            Self::Reply => Self::Original,
        }
    }
}
