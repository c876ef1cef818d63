//! A real interface of other people's as a port: a packet socket with a MAC address of our own.
//!
//! Theory of operation. The interface (the *parent*) stays what it is to its namespace; we are one
//! more station on its link, as a macvlan would be. The parent is asked to receive frames to our
//! address and to groups, and a filter in the kernel keeps its own traffic from us. What we send goes
//! to the link and not to the parent's namespace: the two cannot talk to each other this way.
//!
//! Frames travel as on TAPs, with a virtio-net header before them, so super-frames that the parent's
//! receive offload made (GRO) come whole and those that we send are cut by the kernel or the card.
//! Its order of checks (`packet_snd`, Linux `net/packet/af_packet.c`) leaves one to us: whether the
//! segments of a super-frame fit the parent's MTU. VLAN tags that were taken out on reception are put
//! back. Without the headers (`--no-offload`, kernels that have none) frames are completed and cut
//! here, and a received super-frame cannot be used: the parent's GRO should be off then.
//!
//! A parent that is down is an error that passes. One that was deleted is noticed when something is
//! sent; a [`Monitor`](crate::io::netlink::monitor::Monitor) tells sooner.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};

use crate::dataplane::Frame;
use crate::io::device::{Device, DeviceError, Received};
use crate::io::sys::packet::{self, Membership};
use crate::wire::ethernet::{self, Header};
use crate::wire::ip::protocol;
use crate::wire::{MacAddr, Offload, segment};

/// Bytes that may wait in the kernel in either direction: some dozens of super-frames.
const BUFFER_BYTES: i32 = 4 << 20;
/// An offload state that no frame has: the switch drops what carries it, and counts that.
const UNKNOWN: Offload = Offload { gso_type: 0x7f, ..Offload::NONE };

/// A packet socket could not be made a port.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the interface {interface} as an uplink: {what}: {error}")]
pub struct PacketError {
    interface: String,
    what: &'static str,
    error: io::Error,
}

/// A packet socket on an interface.
#[derive(Debug)]
pub struct PacketDevice {
    socket: OwnedFd,
    /// The parent's index.
    index: u32,
    /// The parent's MTU in bytes, when it was last asked for.
    mtu: u32,
    has_headers: bool,
    /// Frames that the kernel dropped until it was last asked.
    dropped: u64,
    scratch: Vec<u8>,
}

impl PacketDevice {
    /// Takes over a socket that [`open`](super::open) made, as a station with the address `mac` on the
    /// interface with this index. `name` is for messages.
    ///
    /// # Errors
    /// [`PacketError`] when there is no such interface, or it cannot receive frames to our address.
    pub fn adopt(
        socket: OwnedFd,
        name: &str,
        index: u32,
        mac: MacAddr,
        offload: bool,
    ) -> Result<Self, PacketError> {
        let fail = |what| move |error| PacketError { interface: name.to_owned(), what, error };
        let borrowed = socket.as_fd();
        packet::set_buffers(borrowed, BUFFER_BYTES);
        packet::use_auxiliary_data(borrowed).map_err(fail("PACKET_AUXDATA"))?;
        let has_headers = offload && packet::use_headers(borrowed).is_ok();
        // The filter sees to it too.
        let _ = packet::ignore_outgoing(borrowed);
        packet::filter(borrowed, mac.0).map_err(fail("SO_ATTACH_FILTER"))?;
        receive_to(borrowed, index, mac)
            .and_then(|()| packet::join(borrowed, index, Membership::AllMulticast))
            .map_err(fail("PACKET_ADD_MEMBERSHIP"))?;
        packet::bind(borrowed, index).map_err(fail("bind"))?;
        let mtu = packet::mtu(borrowed, index).map_err(fail("SIOCGIFMTU"))?;
        Ok(Self { socket, index, mtu, has_headers, dropped: 0, scratch: Vec::new() })
    }

    /// What tells the socket of another address of ours, while the device is at work elsewhere. `mac` is
    /// the present one.
    ///
    /// # Errors
    /// EMFILE when there are too many descriptors.
    pub fn station(&self, mac: MacAddr) -> io::Result<Station> {
        Ok(Station { socket: self.socket.try_clone()?, index: self.index, mac })
    }

    /// Whether super-frames travel whole.
    pub fn has_headers(&self) -> bool {
        self.has_headers
    }

    /// What an error of the kernel's means here.
    fn device_error(&self, error: &io::Error) -> DeviceError {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENXIO | Errno::ENODEV) if self.is_gone() => DeviceError::Lost,
            Some(Errno::ENETDOWN | Errno::ENXIO | Errno::ENODEV) => DeviceError::LinkDown,
            Some(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM) => DeviceError::Full,
            Some(Errno::EBADF | Errno::ENOTSOCK) => DeviceError::Lost,
            _ => DeviceError::Refused,
        }
    }

    fn write(&self, bytes: &[u8]) -> Result<(), DeviceError> {
        let sent = send(self.socket.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT);
        sent.map(drop).map_err(|error| self.device_error(&error.into()))
    }

    /// Whether the parent takes the segments of a super-frame. Its MTU may have grown meanwhile.
    fn segments_fit(&mut self, frame: &[u8], offload: &Offload) -> bool {
        let Some(len) = longest_segment(frame, offload) else { return false };
        if len > self.mtu as usize {
            self.mtu = packet::mtu(self.socket.as_fd(), self.index).unwrap_or(self.mtu);
        }
        len <= self.mtu as usize
    }
}

/// The address at which a packet socket receives.
#[derive(Debug)]
pub struct Station {
    socket: OwnedFd,
    index: u32,
    mac: MacAddr,
}

impl Station {
    /// Receives at another address from now on.
    ///
    /// # Errors
    /// ENODEV when the interface has gone, and what its driver refuses; the old address stays then.
    pub fn move_to(&mut self, mac: MacAddr) -> io::Result<()> {
        if mac == self.mac {
            return Ok(());
        }
        let socket = self.socket.as_fd();
        receive_to(socket, self.index, mac)?;
        packet::filter(socket, mac.0)?;
        // An interface that had no room for it takes every frame, and goes on to.
        let _ = packet::leave(socket, self.index, Membership::Unicast(self.mac.0));
        self.mac = mac;
        Ok(())
    }
}

/// Asks an interface for frames to an address of ours; for all, where it cannot tell addresses apart.
fn receive_to(socket: BorrowedFd<'_>, index: u32, mac: MacAddr) -> io::Result<()> {
    packet::join(socket, index, Membership::Unicast(mac.0))
        .or_else(|_| packet::join(socket, index, Membership::Promiscuous))
}

impl Device for PacketDevice {
    fn descriptor(&self) -> Option<RawFd> {
        Some(self.socket.as_raw_fd())
    }

    fn recv(&mut self, frame: &mut Frame) -> Result<Received, DeviceError> {
        let space = if self.has_headers { frame.space_with_header() } else { frame.space() };
        match packet::receive(self.socket.as_fd(), space) {
            Ok(received) => {
                if self.has_headers {
                    frame.filled_with_header(received.len);
                } else {
                    frame.filled(received.len);
                }
                complete(frame, &received);
                Ok(Received::Frame)
            }
            Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EAGAIN | Errno::EINTR) => Ok(Received::Empty),
                // A kind of super-frame that the header has no word for.
                Some(Errno::EINVAL) => {
                    frame.set(&[0; ethernet::HEADER_LEN], UNKNOWN);
                    Ok(Received::Frame)
                }
                _ => Err(self.device_error(&error)),
            },
        }
    }

    fn send(&mut self, frame: &mut Frame) -> Result<(), DeviceError> {
        let offload = frame.offload;
        if self.has_headers {
            if offload.gso_type != 0 && !self.segments_fit(frame.bytes(), &offload) {
                return Err(DeviceError::Refused);
            }
            return self.write(frame.bytes_with_header());
        }
        if offload.is_complete() {
            return self.write(frame.bytes());
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut sent = Ok(());
        let cut = segment::complete(frame.bytes(), &offload, &mut scratch, |wire_frame| {
            sent = sent.and_then(|()| self.write(wire_frame));
        });
        self.scratch = scratch;
        cut.map_err(|_| DeviceError::Refused).and(sent)
    }

    fn is_gone(&self) -> bool {
        !packet::is_bound(self.socket.as_fd(), self.index)
    }

    fn kernel_drops(&mut self) -> Option<u64> {
        self.dropped += u64::from(packet::take_drops(self.socket.as_fd()).unwrap_or(0));
        Some(self.dropped)
    }
}

/// Bytes of the longest packet that a super-frame is cut into; `None` when its headers are not all there.
fn longest_segment(frame: &[u8], offload: &Offload) -> Option<usize> {
    let payload = Header::parse(frame).ok()?.payload;
    let end = offload.header_end(frame)?;
    Some(end.checked_sub(payload)? + usize::from(offload.gso_size).min(frame.len() - end))
}

/// Does to a frame what the kernel tells beside it.
fn complete(frame: &mut Frame, received: &packet::Received) {
    if received.is_cut {
        frame.offload = UNKNOWN;
        return;
    }
    if received.needs_checksum && !frame.offload.needs_checksum() {
        frame.offload = checksum_of(frame.bytes()).unwrap_or(UNKNOWN);
    }
    if let Some((kind, control)) = received.tag {
        put_tag_back(frame, kind, control);
    }
}

/// The state of a frame whose checksum is still partial, when no virtio-net header says where it lies:
/// TCP or UDP directly behind the IP header.
fn checksum_of(frame: &[u8]) -> Option<Offload> {
    let header = Header::parse(frame).ok()?;
    let ip = frame.get(header.payload..)?;
    let (number, len) = match header.ethertype {
        ethernet::IPV4 => (*ip.get(9)?, usize::from(ip[0] & 0xf) * 4),
        ethernet::IPV6 => (*ip.get(6)?, 40),
        _ => return None,
    };
    let csum_offset = match number {
        protocol::TCP => 16,
        protocol::UDP => 6,
        _ => return None,
    };
    let csum_start = u16::try_from(header.payload + len).ok()?;
    Some(Offload { flags: 1, csum_start, csum_offset, ..Offload::NONE })
}

/// Puts a VLAN tag between the source address and the type.
fn put_tag_back(frame: &mut Frame, kind: u16, control: u16) {
    const AT: usize = 12;
    let (len, offload) = (frame.bytes().len(), frame.offload);
    let longer = len + ethernet::TAG_LEN;
    let Some(space) = frame.space().get_mut(..longer).filter(|_| len >= AT) else {
        frame.offload = UNKNOWN;
        return;
    };
    space.copy_within(AT..len, AT + ethernet::TAG_LEN);
    space[AT..AT + 2].copy_from_slice(&kind.to_be_bytes());
    space[AT + 2..AT + 4].copy_from_slice(&control.to_be_bytes());
    frame.filled(longer);
    let moved = |position: u16| position.saturating_add(ethernet::TAG_LEN as u16);
    frame.offload = offload;
    if offload.needs_checksum() {
        frame.offload.csum_start = moved(offload.csum_start);
    }
    if offload.gso_type != 0 {
        frame.offload.hdr_len = moved(offload.hdr_len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: packet::Received =
        packet::Received { len: 0, is_cut: false, tag: None, needs_checksum: false };

    /// An Ethernet header, and an IP header of the version with a protocol, and zeros.
    fn frame(version: u8, protocol: u8) -> Frame {
        let mut bytes = vec![2; 14];
        let kind = if version == 4 { ethernet::IPV4 } else { ethernet::IPV6 };
        bytes[12..].copy_from_slice(&kind.to_be_bytes());
        let mut ip = vec![0; 60];
        (ip[0], ip[if version == 4 { 9 } else { 6 }]) = (version << 4 | 6, protocol);
        bytes.extend(ip);
        Frame::from_bytes(&bytes)
    }

    #[test]
    fn a_tag_is_put_back_and_moves_what_the_header_points_at() {
        let mut tagged = frame(4, 6);
        tagged.offload =
            Offload { flags: 1, gso_type: 1, hdr_len: 58, gso_size: 1448, csum_start: 38, csum_offset: 16 };
        let (before, offload) = (tagged.bytes().to_vec(), tagged.offload);
        complete(&mut tagged, &packet::Received { tag: Some((0x88a8, 0xe005)), ..PLAIN });
        let expected = [&before[..12], &[0x88, 0xa8, 0xe0, 0x05], &before[12..]].concat();
        assert_eq!(tagged.bytes(), expected);
        assert_eq!(tagged.offload, Offload { hdr_len: 62, csum_start: 42, ..offload });

        let mut bare = Frame::from_bytes(&before);
        complete(&mut bare, &packet::Received { tag: Some((0x8100, 5)), ..PLAIN });
        assert_eq!((bare.bytes().len(), bare.offload), (before.len() + 4, Offload::NONE));

        let mut short = Frame::from_bytes(&[1; 11]);
        complete(&mut short, &packet::Received { tag: Some((0x8100, 5)), ..PLAIN });
        assert_eq!((short.bytes(), short.offload), (&[1; 11][..], UNKNOWN));
        let mut long = Frame::from_bytes(&vec![1; crate::dataplane::frame::MAX_LEN]);
        complete(&mut long, &packet::Received { tag: Some((0x8100, 5)), ..PLAIN });
        assert_eq!(long.offload, UNKNOWN);
    }

    #[test]
    fn a_partial_checksum_is_found_without_a_header() {
        let at = |csum_start, csum_offset| Offload { flags: 1, csum_start, csum_offset, ..Offload::NONE };
        let table = [
            (frame(4, 6), at(14 + 24, 16)),
            (frame(4, 17), at(14 + 24, 6)),
            (frame(6, 6), at(14 + 40, 16)),
            (frame(6, 17), at(14 + 40, 6)),
            (frame(4, 132), UNKNOWN),
            (Frame::from_bytes(&[8; 14]), UNKNOWN),
            (Frame::from_bytes(&[]), UNKNOWN),
        ];
        for (mut frame, expected) in table {
            complete(&mut frame, &packet::Received { needs_checksum: true, ..PLAIN });
            assert_eq!(frame.offload, expected, "{:?}", frame.bytes());
        }
        let mut told = frame(4, 6);
        told.offload = at(38, 16);
        complete(&mut told, &packet::Received { needs_checksum: true, ..PLAIN });
        assert_eq!(told.offload, at(38, 16), "the header knows best");
    }

    #[test]
    fn what_was_cut_is_not_used() {
        let mut cut = frame(4, 6);
        complete(&mut cut, &packet::Received { is_cut: true, ..PLAIN });
        assert_eq!(cut.offload, UNKNOWN);
        assert!(cut.offload.check(cut.bytes().len()).is_err(), "the switch will say so");
    }
}
