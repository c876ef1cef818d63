//! What the gateway makes of neighbour discovery (RFC 4861 §6.2.6, §7.2).

use super::{Answer, Heard, is_credible, owns};
use crate::dataplane::interface::Interface;
use crate::dataplane::neighbour::{Claim, Conflict};
use crate::wire::MacAddr;
use crate::wire::ip::Addr;
use crate::wire::ndp::{ALL_NODES, Advertisement, Envelope, Message};

/// From whom a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// Source MAC address of its frame.
    pub mac: MacAddr,
    /// Source address.
    pub address: Addr,
}

/// What a sound message means to the gateway. `router` says whether it forwards IPv6 there.
pub fn hear(interface: &Interface, sender: Sender, message: &Message, router: bool) -> Heard {
    if sender.mac == interface.mac {
        return Heard::default();
    }
    if owns(interface, sender.address) {
        return Heard { conflict: Some(sender.address), ..Heard::default() };
    }
    match message {
        Message::RouterSolicitation { mac } => {
            let claim = asking(interface, sender, *mac, Some(false));
            Heard { claim, wants_router: true, ..Heard::default() }
        }
        Message::NeighbourSolicitation { target, mac } if owns(interface, *target) => {
            let answer = answer(interface, sender, *target, *mac, router);
            Heard { answer, claim: asking(interface, sender, *mac, None), ..Heard::default() }
        }
        Message::NeighbourAdvertisement(said) if owns(interface, said.target) => {
            Heard { conflict: Some(said.target), ..Heard::default() }
        }
        Message::NeighbourAdvertisement(said) => {
            let claim = Claim {
                address: said.target,
                mac: said.mac,
                creates: false,
                confirms: said.solicited,
                conflict: if said.overrides { Conflict::Replace } else { Conflict::Doubt },
                router: Some(said.router),
            };
            let claim = is_credible(interface, said.target, said.mac).then_some(claim);
            Heard { claim, ..Heard::default() }
        }
        Message::NeighbourSolicitation { .. } | Message::Other => Heard::default(),
    }
}

/// What is learned of somebody who asks (RFC 4861 §6.2.6, §7.2.3).
fn asking(interface: &Interface, from: Sender, mac: Option<MacAddr>, router: Option<bool>) -> Option<Claim> {
    let credible = mac.is_some() && is_credible(interface, from.address, mac);
    let (address, conflict) = (from.address, Conflict::Replace);
    credible.then_some(Claim { address, mac, creates: true, confirms: false, conflict, router })
}

/// The answer about an address of ours (RFC 4861 §7.2.4): to who asked, or to all if it was a probe for
/// duplicates, whose sender has no address yet (RFC 4862 §5.4.3).
fn answer(
    interface: &Interface,
    from: Sender,
    target: Addr,
    mac: Option<MacAddr>,
    router: bool,
) -> Option<Answer> {
    let solicited = !from.address.is_unspecified();
    let destination_mac = mac.unwrap_or(from.mac);
    if !destination_mac.is_station() || from.address.is_multicast() {
        return None;
    }
    let envelope = if solicited {
        let (source_mac, destination) = (interface.mac, from.address);
        Envelope { source_mac, destination_mac, source: target, destination }
    } else {
        Envelope::multicast(interface.mac, target, ALL_NODES)
    };
    let mac = Some(interface.mac);
    Some(Answer::Neighbour(envelope, Advertisement { target, mac, router, solicited, overrides: true }))
}
