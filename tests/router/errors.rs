//! ICMP errors to expect.

use tapswitch::wire::ip::Version;

use crate::packets::{Packet, icmp};
use crate::world::Party;

/// What an error says.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Says {
    TimeExceeded,
    ReassemblyTimeout,
    NetUnreachable,
    HostUnreachable,
    PortUnreachable,
    Prohibited,
    TooBig(u16),
    /// What is wrong is at this byte. (IPv4)
    BadOption(u8),
}

impl Says {
    pub(crate) fn code(self, version: Version) -> (u8, u8) {
        match (self, version) {
            (Self::TimeExceeded, Version::V4) => (11, 0),
            (Self::TimeExceeded, Version::V6) => (3, 0),
            (Self::ReassemblyTimeout, Version::V4) => (11, 1),
            (Self::ReassemblyTimeout, Version::V6) => (3, 1),
            (Self::NetUnreachable, Version::V4) => (3, 0),
            (Self::NetUnreachable, Version::V6) => (1, 0),
            (Self::HostUnreachable, Version::V4) => (3, 1),
            (Self::HostUnreachable, Version::V6) => (1, 3),
            (Self::PortUnreachable, Version::V4) => (3, 3),
            (Self::PortUnreachable, Version::V6) => (1, 4),
            (Self::Prohibited, Version::V4) => (3, 13),
            (Self::Prohibited, Version::V6) => (1, 1),
            (Self::TooBig(_), Version::V4) => (3, 4),
            (Self::TooBig(_), Version::V6) => (2, 0),
            (Self::BadOption(_), _) => (12, 0),
        }
    }

    fn rest(self) -> [u8; 4] {
        match self {
            Self::TooBig(mtu) => u32::from(mtu).to_be_bytes(),
            Self::BadOption(at) => [at, 0, 0, 0],
            _ => [0; 4],
        }
    }
}

/// The error that a gateway sends about a packet: to its sender, with as much of it as an error may quote.
pub(crate) fn about(packet: &Packet, says: Says, gateway: Party) -> Packet {
    let version = packet.version();
    let longest = match version {
        Version::V4 => 576 - 28,
        Version::V6 => 1280 - 48,
    };
    let mut quote = packet.ip();
    quote.truncate(longest);
    let mut error = icmp(version, gateway, gateway, says.code(version), says.rest(), quote);
    error.macs = (packet.macs.1, packet.macs.0);
    error.destination = packet.source;
    if version == Version::V4 {
        (error.tos, error.id) = (0xc0, 0);
    }
    error
}

/// The error that somebody sends about a packet that came to him.
pub(crate) fn told(from: Party, to: Party, says: Says, about: &Packet) -> Packet {
    let version = about.version();
    icmp(version, from, to, says.code(version), says.rest(), about.ip())
}
