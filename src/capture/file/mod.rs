//! Capture files: pcap and pcapng, read from any `Read` and written to any `Write`.
//!
//! Sources: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng; limits and messages as in libpcap's
//! `sf-pcap.c` and `sf-pcapng.c`. Only Ethernet is read, as only Ethernet is switched.
//!
//! What we write, another tool can read; what a drop is, only we know. A drop is written as an
//! inbound frame with the comment `dropped: REASON`, and read back as such.

mod pcap;
mod pcapng;
mod reader;

pub use pcap::PcapWriter;
pub use pcapng::PcapngWriter;
pub use reader::Reader;

/// The longest frame a file may hold, in bytes; also the snapshot length of files that give none
/// (libpcap's `MAXIMUM_SNAPLEN`, what tcpdump prints as "snapshot length 262144").
pub const MAX_SNAPLEN: u32 = 262_144;

/// The link type of Ethernet, the only one we read and write (`LINKTYPE_ETHERNET`).
pub const ETHERNET: u32 = 1;

/// What a drop's comment begins with in a pcapng file; its reason follows after a colon and a space.
const DROPPED: &str = "dropped";

/// Why a capture cannot be read, or no further.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It begins with no magic number that we know.
    #[error("unknown file format: neither pcap nor pcapng")]
    UnknownFormat,
    /// It ends in the middle of something. Whatever was whole has been read before.
    #[error("truncated {file} file; tried to read {wanted} {part}, only got {got}")]
    Truncated {
        /// `dump` or `pcapng dump`.
        file: &'static str,
        /// What was being read.
        part: &'static str,
        /// Bytes that it needs.
        wanted: usize,
        /// Bytes that were left.
        got: usize,
    },
    /// Its frames are not Ethernet's.
    #[error("link type {0} is not Ethernet, and nothing else can be read")]
    LinkType(u32),
    /// A frame is longer than any capture's may be.
    #[error("invalid packet capture length {0}, bigger than maximum of {MAX_SNAPLEN}")]
    TooLong(u32),
    /// A pcapng file that describes no interface.
    #[error("the capture file has no Interface Description Blocks")]
    NoInterface,
    /// A block that contradicts itself.
    #[error("malformed capture file: {0}")]
    Malformed(String),
    /// It could not be read.
    #[error("read error: {0}")]
    Io(#[from] std::io::Error),
}

#[cfg(test)]
mod tests;
