//! The bytes a dissector may look at, and what happens when it looks too far.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::wire::MacAddr;

/// A header reaches past what was captured. The line ends there, with `[|name]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Truncated(
    /// The protocol whose header it is, as the line shall name it.
    pub(super) &'static str,
);

/// What a dissector returns: it printed all it had to say, or the capture ended before.
pub(super) type Printed = Result<(), Truncated>;

/// A window on a frame, from some header to where its datagram or the capture ends, whichever is first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes<'a> {
    data: &'a [u8],
    protocol: &'static str,
}

impl<'a> Bytes<'a> {
    /// All of `data`, read for the sake of `protocol`.
    pub(super) const fn new(data: &'a [u8], protocol: &'static str) -> Self {
        Self { data, protocol }
    }

    /// The same bytes, read for the sake of another protocol.
    pub(super) const fn of(self, protocol: &'static str) -> Self {
        Self { data: self.data, protocol }
    }

    /// From `at` on; empty when the capture ends before.
    pub(super) fn from(self, at: usize) -> Self {
        Self { data: self.data.get(at..).unwrap_or_default(), ..self }
    }

    /// At most the first `len` bytes.
    pub(super) fn upto(self, len: usize) -> Self {
        Self { data: self.data.get(..len).unwrap_or(self.data), ..self }
    }

    /// What was captured, to its end.
    pub(super) const fn all(self) -> &'a [u8] {
        self.data
    }

    /// How many bytes were captured.
    pub(super) const fn len(self) -> usize {
        self.data.len()
    }

    /// Whether the first `len` bytes were captured.
    pub(super) const fn holds(self, len: usize) -> bool {
        self.data.len() >= len
    }

    /// [`Truncated`] unless the first `len` bytes were captured.
    pub(super) const fn need(self, len: usize) -> Printed {
        if self.holds(len) { Ok(()) } else { Err(self.truncated()) }
    }

    /// The end of a line that needs more bytes than there are.
    pub(super) const fn truncated(self) -> Truncated {
        Truncated(self.protocol)
    }

    /// `len` bytes from `at` on.
    pub(super) fn slice(self, at: usize, len: usize) -> Result<&'a [u8], Truncated> {
        self.data.get(at..).and_then(|rest| rest.get(..len)).ok_or(self.truncated())
    }

    /// `N` bytes from `at` on.
    pub(super) fn array<const N: usize>(self, at: usize) -> Result<[u8; N], Truncated> {
        self.data.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or(self.truncated())
    }

    pub(super) fn u8(self, at: usize) -> Result<u8, Truncated> {
        self.array(at).map(u8::from_be_bytes)
    }

    pub(super) fn u16(self, at: usize) -> Result<u16, Truncated> {
        self.array(at).map(u16::from_be_bytes)
    }

    pub(super) fn u32(self, at: usize) -> Result<u32, Truncated> {
        self.array(at).map(u32::from_be_bytes)
    }

    pub(super) fn ipv4(self, at: usize) -> Result<Ipv4Addr, Truncated> {
        self.array::<4>(at).map(Ipv4Addr::from)
    }

    pub(super) fn ipv6(self, at: usize) -> Result<Ipv6Addr, Truncated> {
        self.array::<16>(at).map(Ipv6Addr::from)
    }

    pub(super) fn mac(self, at: usize) -> Result<MacAddr, Truncated> {
        self.array(at).map(MacAddr)
    }
}
