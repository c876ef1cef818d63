//! Frames to send.

use etherparse::PacketBuilder;
use tapswitch::dataplane::Frame;
use tapswitch::wire::ethernet::{IPV4, VLAN};
use tapswitch::wire::{MacAddr, Offload};

/// The station with this number.
pub(crate) fn mac(number: u8) -> MacAddr {
    MacAddr([0x02, 0x42, 0, 0, 0, number])
}

/// An Ethernet frame with a payload of so many bytes, none of them alike.
pub(crate) fn ethernet(to: MacAddr, from: MacAddr, ethertype: u16, payload: usize) -> Vec<u8> {
    let mut bytes = [to.0, from.0].concat();
    bytes.extend(ethertype.to_be_bytes());
    bytes.extend((0..payload).map(|at| (at % 251) as u8));
    bytes
}

/// An ordinary frame of 64 bytes.
pub(crate) fn plain(to: MacAddr, from: MacAddr) -> Frame {
    Frame::from_bytes(&ethernet(to, from, IPV4, 50))
}

/// The same frame with a VLAN tag before its type.
pub(crate) fn tagged(mut frame: Vec<u8>, vlan: u16) -> Vec<u8> {
    frame.splice(12..12, [VLAN.to_be_bytes(), vlan.to_be_bytes()].concat());
    frame
}

/// A TCP super-frame over IPv4 as a TAP with offload hands it over: headers of 54 bytes, and a payload
/// to be cut into pieces of `gso_size`.
pub(crate) fn super_frame(to: MacAddr, from: MacAddr, gso_size: u16, payload: usize) -> Frame {
    let builder = PacketBuilder::ethernet2(from.0, to.0).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
    let mut bytes = Vec::new();
    builder.tcp(1024, 80, 1, 65_000).write(&mut bytes, &vec![7; payload]).unwrap();
    let offload = Offload { flags: 1, gso_type: 1, hdr_len: 54, gso_size, csum_start: 34, csum_offset: 16 };
    let mut frame = Frame::new();
    frame.set(&bytes, offload);
    frame
}
