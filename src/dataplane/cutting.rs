//! Packets that leave in pieces: too long for the network they leave by, or come in pieces themselves.
//!
//! A packet that came in fragments was put together to be looked at; it leaves in fragments no longer than
//! those it came in, and is judged by the longest of them, as Linux does (`net/ipv4/ip_output.c`): its
//! sender has asked for no more than that.
//!
//! What leaves by a host's sockets leaves whole, whatever it came as: the host's kernel cuts it. And what came by
//! them has no sender that could cut it to an MTU of ours: a datagram of IPv6, too, is cut here, as by its source.

use super::bridge::Admitted;
use super::decision::Refusal;
use super::fragmenting::{self, Buffers};
use super::frame::Frame;
use super::icmp_error::ErrorKind;
use super::interface::Interface;
use super::local::echo::fragment_v6;
use super::network::{Network, NetworkId};
use super::outcome::DropReason;
use super::time::Instant;
use super::{Egress, Switch};
use crate::wire::ip::{Version, protocol};
use crate::wire::packet::Packet;
use crate::wire::{Malformed, Offload, segment};

/// How a packet is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    /// Bytes of the longest piece, as an IP packet.
    pub(super) mtu: u32,
    /// The identification of IPv6 fragments, zero where we are to choose it; IPv4 packets have one of their own.
    pub(super) id: u32,
}

impl Cut {
    /// Whether and how a packet must be cut for the network it leaves by (RFC 791 §2.3), which it may
    /// forbid. It came in by the interface `ingress`.
    #[inline]
    pub(super) fn needed(
        admitted: &Admitted,
        packet: &Packet,
        ingress: &Interface,
        egress: &Network,
    ) -> Result<Option<Self>, Refusal> {
        let mtu = egress.config.mtu;
        if egress.interface.as_ref().is_some_and(|interface| interface.sockets) {
            return Ok(None);
        }
        let Admitted { longest, rejoined, .. } = *admitted;
        if longest <= mtu as usize {
            // No packet is longer than 64 KiB.
            return Ok(rejoined.map(|id| Self { mtu: longest as u32, id }));
        }
        let is_sockets = ingress.sockets && packet.version == Version::V6 && packet.protocol != protocol::TCP;
        if packet.dont_fragment && !is_sockets {
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
            Version::V6 if offload.is_complete() => {
                fragment_v6(frame, self.mtu as usize, self.id, &mut emit);
                Ok(())
            }
            Version::V6 => {
                // Each segment of a super-frame is a packet.
                let mut id = self.id;
                segment::complete(frame, offload, buffers.segment(), |frame| {
                    fragment_v6(frame, self.mtu as usize, id, &mut emit);
                    id = id.wrapping_add(1);
                })
            }
        }
    }
}

impl Switch {
    /// With an identification for what we cut as its source.
    pub(super) fn identified(&self, cut: Cut, packet: &Packet) -> Cut {
        let is_ours = packet.version == Version::V6 && cut.id == 0;
        if is_ours { Cut { id: self.fragment_id.wrapping_add(1), ..cut } } else { cut }
    }

    /// The same, where it is used.
    pub(super) fn identify(&mut self, cut: Cut, frame: &Frame, packet: &Packet) -> Cut {
        let identified = self.identified(cut, packet);
        if identified != cut {
            self.fragment_id = self.fragment_id.wrapping_add(frame.offload.segments(frame.bytes()));
        }
        identified
    }

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
        let cut = self.identify(cut, frame, packet);
        let mut buffers = std::mem::take(&mut self.pieces);
        let result = cut.pieces(frame.bytes(), &frame.offload, packet, &mut buffers, |piece| {
            self.emit_on(now, on, piece, Offload::NONE, out);
        });
        self.pieces = buffers;
        result.map_err(|_| DropReason::BadOffload)
    }
}
