//! What the gateway makes of ARP packets (RFC 826, RFC 5227).

use super::{Answer, Heard, is_credible, owns};
use crate::dataplane::interface::Interface;
use crate::dataplane::neighbour::{Claim, Conflict};
use crate::wire::MacAddr;
use crate::wire::arp::{Arp, Operation};

/// What a packet in a frame to the given MAC address means to the gateway.
///
/// Its sender is learned as Linux does (`net/ipv4/arp.c`): who asks for us is believed; a reply to us
/// confirms; anything else updates what is known and proves nothing.
pub fn hear(interface: &Interface, destination: MacAddr, arp: &Arp) -> Heard {
    if !arp.sender_mac.is_station() || arp.sender_mac == interface.mac {
        return Heard::default();
    }
    if owns(interface, arp.sender) {
        return Heard { conflict: Some(arp.sender), ..Heard::default() };
    }
    let asks_us = arp.operation == Operation::Request && owns(interface, arp.target);
    let answers_us =
        arp.operation == Operation::Reply && destination == interface.mac && owns(interface, arp.target);
    // In a gratuitous reply both MAC addresses are the sender's (RFC 5944 §4.6).
    let announces =
        arp.is_announcement() && (arp.operation == Operation::Request || arp.target_mac == arp.sender_mac);
    let claim = Claim {
        address: arp.sender,
        mac: Some(arp.sender_mac),
        creates: asks_us,
        confirms: answers_us,
        conflict: if asks_us || announces { Conflict::Replace } else { Conflict::ReplaceOld },
        router: None,
    };
    Heard {
        answer: asks_us.then(|| Answer::Arp(arp.reply(interface.mac))),
        claim: is_credible(interface, arp.sender, Some(arp.sender_mac)).then_some(claim),
        ..Heard::default()
    }
}
