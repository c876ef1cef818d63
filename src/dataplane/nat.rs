//! The choice of a source port.
//!
//! Theory of operation. What must hold: no two flows have the same reply tuple, or answers could not be told
//! apart. What should hold, in this order:
//!
//! 1. an inside endpoint has the same outside port for all destinations (its *mapping*, RFC 4787 REQ-1);
//! 2. it keeps its own port (RFC 4787 §4.2.1, "port preservation"), as many peers find useful;
//! 3. its port belongs to nobody else, so that the first holds for everybody;
//! 4. a port below 1024 stays below, another one above (RFC 4787 REQ-3), because some servers ask for it.
//!
//! When no port is unowned, one is shared with its owner, as Linux does: the reply tuples still differ by
//! the destination. A flow that shares owns nothing. Only when that fails, too, is the NAT exhausted.
//!
//! The search begins at a place that depends on the endpoint and the table's secret seed: it looks random
//! from outside (RFC 6056), and is the same in every run. It ends after `PROBES` candidates of either
//! kind; a range of no more ports is searched completely.

use super::conntrack::mappings::has_ports;
use super::conntrack::{Conntrack, FlowId, Tuple};
use super::outcome::DropReason;
use super::time::Instant;
use crate::wire::ip::{Addr, protocol};

/// Candidates that are looked at among the unowned ports, and again among all.
const PROBES: usize = 128;

/// What a packet of a new flow becomes when its source is translated to the address `to`, and, if that is
/// given, to a port of the range `ports` (both ends included). The flow that it `replaces` is no obstacle.
///
/// # Errors
/// [`DropReason::NatExhausted`] when every port that was tried is taken.
pub fn translate_source(
    flows: &Conntrack,
    now: Instant,
    inbound: &Tuple,
    to: Addr,
    ports: Option<(u16, u16)>,
    replaces: Option<FlowId>,
) -> Result<Tuple, DropReason> {
    // What goes is in nobody's way.
    let is_free = |outgoing: &Tuple| {
        flows.lookup(now, &outgoing.invert()).is_none_or(|found| Some(found.id) == replaces)
    };
    if !has_ports(inbound.protocol) {
        let outgoing = Tuple { source: to, ..*inbound };
        return Some(outgoing).filter(is_free).ok_or(DropReason::NatExhausted);
    }
    let (low, high) = ports.unwrap_or_else(|| same_kind(inbound));
    if low > high {
        return Err(DropReason::NatExhausted);
    }
    let is_allowed = |port: &u16| (low..=high).contains(port);
    let mappings = flows.mappings();
    let unowned = |start| mappings.unowned(inbound.protocol, to, start, (low, high));
    let search = Search { flows, inbound, to, low, high };

    let mapped = mappings.outside(inbound, to).filter(is_allowed);
    let preserved = || {
        let own = Some(inbound.source_port).filter(is_allowed)?;
        unowned(own).next().filter(|port| *port == own)
    };
    let mapped_or_preserved = mapped.or_else(preserved).map(|port| search.outgoing(port)).filter(is_free);
    mapped_or_preserved
        .or_else(|| {
            unowned(search.start_of_endpoint()).take(PROBES).map(|port| search.outgoing(port)).find(is_free)
        })
        .or_else(|| search.all().take(PROBES).map(|port| search.outgoing(port)).find(is_free))
        .ok_or(DropReason::NatExhausted)
}

/// The ports that a port may become when nobody says otherwise.
const fn same_kind(inbound: &Tuple) -> (u16, u16) {
    match inbound.protocol {
        // An identifier has no meaning.
        protocol::ICMP | protocol::ICMPV6 => (0, u16::MAX),
        _ if inbound.source_port == 0 => (0, 1023),
        _ if inbound.source_port < 1024 => (1, 1023),
        _ => (1024, u16::MAX),
    }
}

/// Where to look.
struct Search<'a> {
    flows: &'a Conntrack,
    inbound: &'a Tuple,
    to: Addr,
    low: u16,
    high: u16,
}

impl Search<'_> {
    /// The packet with this source port. An ICMP identifier is both ports of its tuple.
    fn outgoing(&self, port: u16) -> Tuple {
        let destination_port = match self.inbound.protocol {
            protocol::ICMP | protocol::ICMPV6 => port,
            _ => self.inbound.destination_port,
        };
        Tuple { source: self.to, source_port: port, destination_port, ..*self.inbound }
    }

    /// A port of the range that depends on the inside endpoint alone.
    fn start_of_endpoint(&self) -> u16 {
        self.start_of(&Tuple { destination: self.to, destination_port: 0, ..*self.inbound })
    }

    /// A port of the range that depends on `tuple`.
    fn start_of(&self, tuple: &Tuple) -> u16 {
        let size = u64::from(self.high - self.low) + 1;
        // Less than `size`.
        self.low + (self.flows.number_of(tuple) % size) as u16
    }

    /// All ports of the range, owned or not, from a place that depends on the flow.
    fn all(&self) -> impl Iterator<Item = u16> {
        let start = self.start_of(self.inbound);
        (start..=self.high).chain(self.low..start)
    }
}

#[cfg(test)]
mod tests;
