//! The link between the switch and the far end: ARP and neighbour discovery.
//!
//! The far end has every address on its link but the switch's, which never asks for its own.

use super::Shared;
use crate::flows::segment::{self, Ends};
use crate::io::device::DeviceError;
use crate::wire::arp::{Arp, Operation};
use crate::wire::emit;
use crate::wire::ethernet::{self, Header};
use crate::wire::ip::Addr;
use crate::wire::ndp::{self, Advertisement, Envelope, Message};
use crate::wire::packet::Packet;

/// Answers a question for a MAC address (RFC 826).
pub(super) fn answer_arp(header: &Header, bytes: &[u8], shared: &mut Shared) -> Result<(), DeviceError> {
    let packet = bytes.get(header.payload..).unwrap_or_default();
    let asked = (header.ethertype == ethernet::ARP).then(|| Arp::parse(packet).ok()).flatten();
    let arp = asked.ok_or(DeviceError::Unsupported)?;
    if arp.operation == Operation::Request && !arp.is_announcement() {
        let own = shared.link.own;
        shared.reply(|frame| frame.extend_from_slice(&arp.reply(own).frame(arp.sender_mac)));
    }
    Ok(())
}

/// Answers a neighbour solicitation (RFC 4861 §7.2.4).
pub(super) fn answer_discovery(
    bytes: &[u8],
    packet: &Packet,
    shared: &mut Shared,
) -> Result<(), DeviceError> {
    let message = bytes.get(packet.transport..packet.end).unwrap_or_default();
    let message = ndp::parse(packet.source, packet.destination, packet.ttl, message);
    let message = message.map_err(|_| DeviceError::Unsupported)?;
    if let Message::NeighbourSolicitation { target, mac: Some(mac) } = message {
        let own = shared.link.own;
        let envelope =
            Envelope { source_mac: own, destination_mac: mac, source: target, destination: packet.source };
        let answer = Advertisement { target, mac: Some(own), router: true, solicited: true, overrides: true };
        shared.reply(|frame| ndp::neighbour_advertisement(frame, &envelope, &answer));
    }
    Ok(())
}

/// Sends an ICMP error about a packet that came out of the switch, of which `quoted` is the transport header's
/// start. `from` speaks: a router on the way, or the far end.
pub(super) fn tell(
    ends: &Ends,
    protocol: u8,
    kind: [u8; 2],
    rest: [u8; 4],
    quoted: &[u8],
    from: Addr,
    shared: &mut Shared,
) {
    let link = shared.link;
    let envelope = Envelope { source: from, ..ends.envelope(&link) };
    // As the packet came: from the switch's end to the one outside.
    let back = Ends {
        source: ends.destination,
        destination: ends.source,
        source_port: ends.destination_port,
        destination_port: ends.source_port,
    };
    let mut header = [0; 40];
    let len = segment::quoted_header(&mut header, &back, protocol, quoted.len());
    shared.reply(|frame| emit::icmp(frame, &envelope, 0, kind, rest, &[&header[..len], quoted]));
}
