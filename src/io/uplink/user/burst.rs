//! Datagrams of one flow that follow each other go to the kernel with one call.
//!
//! Theory of operation. What a turn sends to one end by one socket, in one size (the last may be shorter), is kept
//! until the turn is over or something else comes, and then goes as a burst (`UDP_SEGMENT`): the kernel's own way
//! costs more than a datagram's bytes, and is gone once for all of them. A lone datagram waits no longer than the
//! frames that were read with it.

use std::net::SocketAddr;

use super::host_socket::{MAX_BURST, Treatment};
use crate::dataplane::Traffic;
use crate::flows::segment::Ends;

/// Bytes of a datagram that an ICMP error quotes, with its header.
pub(super) const QUOTED: usize = 128;
/// Bytes of a burst: the kernel counts its headers as well, up to 2^16.
const MOST: usize = 65_000;

/// Where a burst goes, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) ends: Ends,
    pub(super) treatment: Treatment,
}

/// A burst that is being gathered.
#[derive(Debug)]
pub(super) struct Burst {
    pub(super) way: Way,
    /// The mapping whose socket it goes by.
    pub(super) slot: usize,
    pub(super) to: SocketAddr,
    /// The first datagram's size.
    size: usize,
    /// Its frames.
    pub(super) traffic: Traffic,
    bytes: Vec<u8>,
    /// The start of the first datagram, with its header.
    quoted: Vec<u8>,
    /// No more fit.
    is_closed: bool,
}

impl Burst {
    /// A burst of one datagram so far, whose start with its header is `quoted`; of a frame of so many bytes. The
    /// memory of an `old` one serves again.
    pub(super) fn begin(
        old: Option<Self>,
        (way, slot, to): (Way, usize, SocketAddr),
        payload: &[u8],
        quoted: &[u8],
        frame: usize,
    ) -> Self {
        let (mut bytes, mut quote) = old.map(|old| (old.bytes, old.quoted)).unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(payload);
        quote.clear();
        quote.extend_from_slice(quoted);
        let mut traffic = Traffic::default();
        traffic.count(frame, 1);
        // An empty datagram is none to cut into.
        let is_closed = payload.is_empty();
        Self { way, slot, to, size: payload.len(), traffic, bytes, quoted: quote, is_closed }
    }

    /// Whether a datagram that goes this way fits behind the others; it is among them then.
    pub(super) fn takes(&mut self, way: &Way, payload: &[u8], frame: usize) -> bool {
        let fits = !self.is_closed
            && self.way == *way
            && (1..=self.size).contains(&payload.len())
            && self.bytes.len() + payload.len() <= MOST;
        if fits {
            self.bytes.extend_from_slice(payload);
            self.traffic.count(frame, 1);
            self.is_closed = payload.len() < self.size || self.traffic.frames >= MAX_BURST as u64;
        }
        fits
    }

    /// The payloads, and the size of each if there are several.
    pub(super) fn payload(&self) -> (&[u8], Option<u16>) {
        let size = u16::try_from(self.size).ok().filter(|_| self.traffic.frames > 1);
        (&self.bytes, size)
    }

    /// The start of the first datagram, with its header, for an ICMP error.
    pub(super) fn quoted(&self) -> &[u8] {
        &self.quoted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ip::Addr;

    fn way(port: u16) -> Way {
        let (source, destination) = (Addr::v4([192, 0, 2, 1]), Addr::v4([10, 0, 0, 2]));
        let ends = Ends { source, destination, source_port: port, destination_port: 9 };
        Way { ends, treatment: Treatment::new(64, 0, true) }
    }

    fn begin(payload: &[u8]) -> Burst {
        Burst::begin(
            None,
            (way(53), 0, "192.0.2.1:53".parse().unwrap()),
            payload,
            b"head",
            payload.len() + 42,
        )
    }

    #[test]
    fn what_goes_the_same_way_in_the_same_size_goes_together() {
        let mut burst = begin(b"aaaa");
        assert_eq!(burst.payload(), (&b"aaaa"[..], None));
        let other = Way { treatment: Treatment::new(1, 0, true), ..way(53) };
        assert!(!burst.takes(&way(54), b"bbbb", 46), "another end");
        assert!(!burst.takes(&other, b"bbbb", 46), "another TTL");
        assert!(!burst.takes(&way(53), b"bbbbb", 47), "longer");
        assert!(!burst.takes(&way(53), b"", 42), "empty");
        assert!(burst.takes(&way(53), b"bbbb", 46));
        assert!(burst.takes(&way(53), b"c", 43), "a shorter one is the last");
        assert!(!burst.takes(&way(53), b"d", 43));
        assert_eq!(burst.payload(), (&b"aaaabbbbc"[..], Some(4)));
        assert_eq!(burst.traffic, Traffic { frames: 3, bytes: 135, segments: 3 });
        assert!(!begin(b"").takes(&way(53), b"", 42));
    }

    #[test]
    fn a_burst_is_what_the_kernel_takes() {
        let mut burst = begin(b"a");
        let more = (0..100).filter(|_| burst.takes(&way(53), b"a", 43)).count();
        assert_eq!(more + 1, MAX_BURST);
        let mut burst = begin(&[7; 1472]);
        let more = (0..100).filter(|_| burst.takes(&way(53), &[7; 1472], 1514)).count();
        assert_eq!((more + 1) * 1472, burst.payload().0.len());
        assert_eq!(more + 1, MOST / 1472);
    }
}
