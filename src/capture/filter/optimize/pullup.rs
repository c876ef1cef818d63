//! The pass over chains: tests of the same value come together.
//!
//! In `port 80 or host 1.2.3.4 or port 443`, the test for 443 moves up behind that for 80, where the port
//! is still in the accumulator.

use super::super::graph::BlockId;
use super::flow::{Edge, Flow, Side};
use super::values::{ACCUMULATOR, UNKNOWN};

/// Works on every block, from the leaves up.
pub(super) fn pull_up(flow: &mut Flow) {
    for id in flow.upward() {
        // `None` says that there was nothing to pull up: first in chains of `or`, then of `and`.
        let _ = pull_up_in(flow, id, Side::No);
        let _ = pull_up_in(flow, id, Side::Yes);
    }
}

/// Pulls up one test in the chain that goes down from `head` along `down`.
fn pull_up_in(flow: &mut Flow, head: BlockId, down: Side) -> Option<()> {
    let predecessors = flow.nodes.get(head)?.predecessors.clone();
    let first = *predecessors.first()?;
    let value = accumulator(flow, first);
    if predecessors.iter().any(|&id| accumulator(flow, id) != value) {
        return None;
    }
    // The first block down the chain that leaves another value.
    let mut different = edge_into(flow, first, head);
    let mut at_top = true;
    loop {
        let block = in_chain(flow, different, head, down)?;
        if accumulator(flow, block) != value {
            break;
        }
        different = Edge { from: block, side: down };
        at_top = false;
    }
    // The first one below it that leaves the same value again.
    let mut same = Edge { from: flow.target(different)?, side: down };
    let pulled = loop {
        let block = in_chain(flow, same, head, down)?;
        if accumulator(flow, block) == value {
            break block;
        }
        same = Edge { from: block, side: down };
    };
    let (below, above) = (flow.target(Edge { from: pulled, side: down })?, flow.target(different)?);
    flow.redirect(same, below);
    flow.redirect(Edge { from: pulled, side: down }, above);
    if at_top {
        for from in predecessors {
            let edge = edge_into(flow, from, head);
            flow.redirect(edge, pulled);
        }
    } else {
        flow.redirect(different, pulled);
    }
    flow.changes.any = true;
    Some(())
}

fn accumulator(flow: &Flow, id: BlockId) -> u32 {
    flow.nodes.get(id).and_then(|node| node.values.get(ACCUMULATOR)).copied().unwrap_or(UNKNOWN)
}

/// The way from `from` into `to`; the `no` way unless `yes` goes there.
fn edge_into(flow: &Flow, from: BlockId, to: BlockId) -> Edge {
    let yes = Edge { from, side: Side::Yes };
    if flow.target(yes) == Some(to) { yes } else { Edge { from, side: Side::No } }
}

/// The block that `edge` goes to, if it belongs to the chain that `head` begins: it leaves the chain for
/// the same block, and every way to it comes through `head`.
fn in_chain(flow: &Flow, edge: Edge, head: BlockId, down: Side) -> Option<BlockId> {
    let block = flow.target(edge)?;
    let out = if down == Side::No { Side::Yes } else { Side::No };
    let exit = |from| flow.target(Edge { from, side: out });
    let joined = exit(block) == exit(head) && flow.nodes.get(block)?.dominators.contains(head);
    joined.then_some(block)
}
