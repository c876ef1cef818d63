//! The pass over edges: past tests whose outcome is known.

use super::super::graph::BlockId;
use super::super::opcode::*;
use super::flow::{Edge, Flow, Node, Side};
use super::values::{ACCUMULATOR, UNKNOWN};

/// Works on every edge, from the leaves up.
pub(super) fn shorten_edges(flow: &mut Flow) {
    for from in flow.upward() {
        for side in [Side::Yes, Side::No] {
            // `None` only says that the edge came to a leaf.
            let _ = shorten(flow, Edge { from, side });
        }
    }
}

/// Moves one edge on as far as possible; `None` once it goes to a leaf.
fn shorten(flow: &mut Flow, edge: Edge) -> Option<()> {
    let [yes, no] = flow.nodes.get(flow.target(edge)?)?.next?;
    if yes == no && !conflicts(flow, edge.from, yes) {
        flow.redirect(edge, yes);
        flow.changes.statement();
    }
    while let Some(target) = further_target(flow, edge) {
        flow.redirect(edge, target);
        flow.changes.any = true;
        flow.nodes.get(target)?.next?;
    }
    Some(())
}

/// Where the test that `edge` goes to is bound to lead, as an edge on every way to here shows.
fn further_target(flow: &Flow, edge: Edge) -> Option<BlockId> {
    let child = flow.nodes.get(flow.target(edge)?)?;
    let side = usize::from(edge.side == Side::No);
    let dominators = flow.nodes.get(edge.from)?.edge_dominators.get(side)?;
    let mut candidates = dominators.iter().filter_map(|number| outcome(flow, child, flow.edge(number)));
    candidates.find(|&target| !conflicts(flow, edge.from, target))
}

/// Where `child` goes on to after `taken` was taken, if that follows.
fn outcome(flow: &Flow, child: &Node, taken: Edge) -> Option<BlockId> {
    let [yes, no] = child.next?;
    let before = flow.nodes.get(taken.from)?;
    let accumulator = |node: &Node| node.values.get(ACCUMULATOR).copied().unwrap_or(UNKNOWN);
    if child.test.code != before.test.code || accumulator(child) != accumulator(before) {
        return None;
    }
    match taken.side {
        Side::Yes if child.operand_value == before.operand_value => Some(yes),
        Side::No if child.operand_value == before.operand_value => Some(no),
        // Equal to one constant is not equal to another.
        Side::Yes if child.test.code == JMP | JEQ | K => Some(no),
        Side::Yes | Side::No => None,
    }
}

/// Whether something that is read after `target` has another value there than after `from`.
fn conflicts(flow: &Flow, from: BlockId, target: BlockId) -> bool {
    let (Some(from), Some(target)) = (flow.nodes.get(from), flow.nodes.get(target)) else {
        return true;
    };
    let values = from.values.iter().zip(&target.values).enumerate();
    values.into_iter().any(|(atom, (here, there))| target.out_use & (1 << atom) != 0 && here != there)
}
