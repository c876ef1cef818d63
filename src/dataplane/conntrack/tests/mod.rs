//! Tests of the table as a whole.

mod floods;
mod life;
mod million;
mod model;

use super::*;
use crate::dataplane::{Instant, PortId};
use crate::wire::ip::{Addr, protocol};

const A: PortId = PortId(1);
const B: PortId = PortId(2);
const C: PortId = PortId(3);
const UPLINK: PortId = PortId(9);

fn at(seconds: u64) -> Instant {
    Instant(seconds * 1_000_000_000)
}

/// Flow number `n` of a container, to a server outside.
fn tuple(container: u8, n: u32) -> Tuple {
    Tuple {
        source: Addr::v4([172, 17, 0, container]),
        destination: Addr::v4([198, 51, 100, (n >> 16) as u8]),
        source_port: n as u16,
        destination_port: 443,
        protocol: protocol::TCP,
    }
}

/// A first packet that nobody has answered.
const OPENING: Update =
    Update { state: State::Icmp, timeout: 120, assured: false, droppable: true, bytes: 60 };
/// A packet of a flow that both sides mean.
const LASTING: Update =
    Update { state: State::Icmp, timeout: 432_000, assured: true, droppable: false, bytes: 1000 };

fn flow(original: Tuple, owner: PortId, source: Source) -> NewFlow {
    NewFlow {
        original,
        reply: original.invert(),
        status: Status::default(),
        owner,
        source,
        first: OPENING,
        replaces: None,
    }
}

fn limited(table: u32, source: u32) -> Conntrack {
    let mut table_of_flows = Conntrack::new(7);
    table_of_flows.set(Limits { table, source }, Timeouts::default());
    table_of_flows
}

/// Lets a flow in if there is room.
fn open(ct: &mut Conntrack, now: Instant, new: &NewFlow) -> Option<FlowId> {
    let room = ct.room(new.owner, new.source).map_err(|reason| ct.count_refused(reason)).ok()?;
    ct.insert(now, new, room)
}

/// Lets a flow in and makes it last.
fn establish(ct: &mut Conntrack, now: Instant, new: &NewFlow) -> FlowId {
    let id = open(ct, now, new).unwrap();
    ct.update(now, Found { id, direction: Direction::Reply }, &LASTING);
    id
}
