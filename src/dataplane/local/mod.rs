//! What the gateway says itself: answers about its own addresses, questions about others', advertisements.
//!
//! Theory of operation. Everything here is a function from what was heard to what is to be said and
//! learned; [`arp::hear`] and [`ndp::hear`] give a [`Heard`], small enough to be part of a decision, and
//! the frames are built when it is carried out. The little state that a gateway has ([`Gateway`]: when it
//! advertised and defended itself) is kept per interface.
//!
//! An address is the gateway's if its interface on that network has it, or if it is the link-local one
//! that its MAC address gives (RFC 4291 appendix A), which an interface with any IPv6 address has. ARP and
//! neighbour solicitations are answered for those only, never for another interface's: no proxy, and each
//! link keeps to itself.
//!
//! *Whom the gateway believes* is decided here, before the neighbour table is asked: a claim counts only
//! for an address on the link that is not the gateway's own, with the MAC address of a station that is not
//! the gateway. Who claims the gateway's address is contradicted by an announcement to all (RFC 5227
//! §2.4 b), every ten seconds at most.

pub mod advertiser;
pub mod arp;
pub mod echo;
pub mod ndp;
#[cfg(test)]
mod tests;

use std::time::Duration;

use super::interface::Interface;
use super::neighbour::{Claim, Solicitation};
use super::time::Instant;
use crate::wire::arp::{Arp, Operation};
use crate::wire::ip::{Addr, Version};
use crate::wire::ndp as message;
use crate::wire::{MacAddr, ndp::Envelope};
pub use advertiser::Advertiser;

/// `DEFEND_INTERVAL` (RFC 5227 §1.1).
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

/// What an ARP packet or a message of neighbour discovery means to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heard {
    /// What to answer. It goes to the port where the question came in, even when it is for a group: who
    /// asked is there, and a question must not become a frame for every port.
    pub answer: Option<Answer>,
    /// What to tell the neighbour table.
    pub claim: Option<Claim>,
    /// The address of the gateway that somebody else claims; see [`Gateway::conflict`].
    pub conflict: Option<Addr>,
    /// Whether somebody wants a router advertisement; see [`Advertiser::solicited`].
    pub wants_router: bool,
}

/// An answer to be built and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// An ARP reply.
    Arp(Arp),
    /// A neighbour advertisement.
    Neighbour(Envelope, message::Advertisement),
}

impl Answer {
    /// Replaces what is in `frame` by the answer.
    pub fn build(&self, frame: &mut Vec<u8>) {
        match self {
            Self::Arp(reply) => {
                frame.clear();
                frame.extend_from_slice(&reply.frame(reply.target_mac));
            }
            Self::Neighbour(envelope, answer) => message::neighbour_advertisement(frame, envelope, answer),
        }
    }
}

/// Whether an address is the gateway's on this interface.
pub fn owns(interface: &Interface, address: Addr) -> bool {
    let has = |own: Addr| own == address;
    interface.addresses.iter().any(|own| has(own.address)) || link_local(interface).is_some_and(has)
}

/// The gateway's link-local address, if it speaks IPv6 there.
pub fn link_local(interface: &Interface) -> Option<Addr> {
    let speaks_v6 = interface.addresses.iter().any(|own| own.address.version() == Version::V6);
    speaks_v6.then(|| message::link_local(interface.mac))
}

/// The address with which the gateway speaks to another on the link: the one with which it shares a
/// prefix; else for IPv6 its link-local one, for IPv4 its first.
pub fn source_for(interface: &Interface, target: Addr) -> Option<Addr> {
    let mut of_version = interface.addresses.iter().filter(|own| own.address.version() == target.version());
    let sharing = of_version.clone().filter(|own| own.prefix.contains(target));
    let closest = sharing.max_by_key(|own| own.prefix.bits()).map(|own| own.address);
    closest.or_else(|| match target.version() {
        Version::V4 => of_version.next().map(|own| own.address),
        Version::V6 => link_local(interface),
    })
}

/// Whether an address can be that of a neighbour on this link.
pub fn is_on_link(interface: &Interface, address: Addr) -> bool {
    if address.is_multicast() || address.is_unspecified() || address.is_loopback() {
        return false;
    }
    let is_link_local = address.version() == Version::V6 && address.is_link_local();
    let holds = |own: &super::InterfaceAddress| {
        // The first and last addresses of an IPv4 prefix are broadcast addresses (RFC 1122 §3.2.1.3),
        // unless it is too short to have any (RFC 3021).
        let (prefix, is_v4) = (own.prefix, address.version() == Version::V4);
        let broadcast =
            is_v4 && prefix.len() < 31 && (address == prefix.address() || address == prefix.last());
        prefix.contains(address) && !broadcast
    };
    (is_link_local && link_local(interface).is_some()) || interface.addresses.iter().any(holds)
}

/// Whether a station may be believed to have an address.
fn is_credible(interface: &Interface, address: Addr, mac: Option<MacAddr>) -> bool {
    let station = mac.is_none_or(|mac| mac.is_station() && mac != interface.mac);
    station && is_on_link(interface, address) && !owns(interface, address)
}

/// Replaces what is in `frame` by a question about a neighbour; whether the interface has an address to
/// ask with. It goes to all, or to the MAC address that it is for.
pub fn solicit(interface: &Interface, question: &Solicitation, frame: &mut Vec<u8>) -> bool {
    let (target, mac) = (question.target, interface.mac);
    let Some(source) = source_for(interface, target) else { return false };
    match target.version() {
        Version::V4 => {
            let asks = Arp {
                operation: Operation::Request,
                sender_mac: mac,
                sender: source,
                target_mac: MacAddr::ZERO,
                target,
            };
            frame.clear();
            frame.extend_from_slice(&asks.frame(question.to.unwrap_or(MacAddr::BROADCAST)));
        }
        Version::V6 => {
            let to_one = |to| Envelope { source_mac: mac, destination_mac: to, source, destination: target };
            let to_all = || Envelope::multicast(mac, source, message::solicited_node(target));
            let envelope = question.to.map_or_else(to_all, to_one);
            message::neighbour_solicitation(frame, &envelope, target);
        }
    }
    true
}

/// Replaces what is in `frame` by an announcement to all that the gateway has an address: a gratuitous ARP
/// request (RFC 5227 §2.3) or an unsolicited advertisement (RFC 4861 §7.2.6). For when an interface comes,
/// changes its MAC address, or defends itself.
pub fn announce(interface: &Interface, address: Addr, router: bool, frame: &mut Vec<u8>) {
    let mac = interface.mac;
    match address.version() {
        Version::V4 => {
            let (sender_mac, target_mac) = (mac, MacAddr::ZERO);
            let operation = Operation::Request;
            let arp = Arp { operation, sender_mac, sender: address, target_mac, target: address };
            frame.clear();
            frame.extend_from_slice(&arp.frame(MacAddr::BROADCAST));
        }
        Version::V6 => {
            let (target, solicited, overrides) = (address, false, true);
            let answer = message::Advertisement { target, mac: Some(mac), router, solicited, overrides };
            let envelope = Envelope::multicast(mac, address, message::ALL_NODES);
            message::neighbour_advertisement(frame, &envelope, &answer);
        }
    }
}

/// Every address that an interface announces when it comes.
pub fn announced(interface: &Interface) -> impl Iterator<Item = Addr> {
    interface.addresses.iter().map(|own| own.address).chain(link_local(interface))
}

/// What a gateway remembers about itself on one interface.
#[derive(Debug, Clone, Default)]
pub struct Gateway {
    /// When it sends router advertisements.
    pub advertiser: Advertiser,
    /// How often somebody else claimed an address of the gateway.
    pub conflicts: u64,
    defended: Option<Instant>,
}

impl Gateway {
    /// Whether a conflict would be answered now.
    pub fn defends(&self, now: Instant) -> bool {
        self.defended.is_none_or(|last| now.since(last) >= DEFEND_INTERVAL)
    }

    /// Somebody else claims an address of the gateway; whether to [`announce`] it now.
    pub fn conflict(&mut self, now: Instant) -> bool {
        self.conflicts += 1;
        let due = self.defends(now);
        if due {
            self.defended = Some(now);
        }
        due
    }
}
