//! Packets that leave in pieces: too long for the network they leave by, or come in pieces themselves.
//!
//! A packet that came in fragments was put together to be looked at; it leaves in fragments no longer than
//! those it came in, and is judged by the longest of them, as Linux does (`net/ipv4/ip_output.c`): its
//! sender has asked for no more than that.

use super::bridge::Admitted;
use super::decision::Refusal;
use super::fragmenting::{self, Buffers};
use super::frame::Frame;
use super::icmp_error::ErrorKind;
use super::local::echo::fragment_v6;
use super::network::{Network, NetworkId};
use super::outcome::DropReason;
use super::time::Instant;
use super::{Egress, Switch};
use crate::wire::ip::Version;
use crate::wire::packet::Packet;
use crate::wire::{Malformed, Offload};

/// How a packet is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    /// Bytes of the longest piece, as an IP packet.
    pub(super) mtu: u32,
    /// The identification of IPv6 fragments; IPv4 packets have one of their own.
    pub(super) id: u32,
}

impl Cut {
    /// Whether and how a packet must be cut for the network it leaves by (RFC 791 §2.3), which it may
    /// forbid.
    #[inline]
    pub(super) fn needed(
        admitted: &Admitted,
        packet: &Packet,
        egress: &Network,
    ) -> Result<Option<Self>, Refusal> {
        let mtu = egress.config.mtu;
        let Admitted { longest, rejoined, .. } = *admitted;
        if longest <= mtu as usize {
            // No packet is longer than 64 KiB.
            return Ok(rejoined.map(|id| Self { mtu: longest as u32, id }));
        }
        if packet.dont_fragment {
            return Err(Refusal::telling(DropReason::TooBig, ErrorKind::FragmentationNeeded { mtu }));
        }
        Ok(Some(Self { mtu, id: rejoined.unwrap_or_default() }))
    }

    /// Cuts the packet in a frame and hands each piece to `emit`, as a frame.
    pub(super) fn pieces(
        self,
        frame: &[u8],
        offload: &Offload,
        packet: &Packet,
        buffers: &mut Buffers,
        mut emit: impl FnMut(&[u8]),
    ) -> Result<(), Malformed> {
        match packet.version {
            Version::V4 => fragmenting::fragment(frame, packet, offload, self.mtu as usize, buffers, emit),
            Version::V6 => {
                fragment_v6(frame, self.mtu as usize, self.id, &mut emit);
                Ok(())
            }
        }
    }
}

impl Switch {
    /// Sends the packet in a frame in pieces; an error when it cannot be cut.
    pub(super) fn send_cut(
        &mut self,
        now: Instant,
        frame: &Frame,
        packet: &Packet,
        on: NetworkId,
        cut: Cut,
        out: &mut impl Egress,
    ) -> Result<(), DropReason> {
        let mut buffers = std::mem::take(&mut self.pieces);
        let result = cut.pieces(frame.bytes(), &frame.offload, packet, &mut buffers, |piece| {
            self.emit_on(now, on, piece, Offload::NONE, out);
        });
        self.pieces = buffers;
        result.map_err(|_| DropReason::BadOffload)
    }
}
