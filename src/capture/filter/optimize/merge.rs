//! The end of optimization: equal blocks become one, and a root that decides nothing goes.

use super::super::graph::{BlockId, Statement};
use super::flow::{Flow, Node};
use super::values::NOP;

/// Merges blocks with the same statements, test and ways out, until there are none.
pub(super) fn merge_equal(flow: &mut Flow) {
    loop {
        let reachable = reachable(flow);
        let mut same: Vec<Option<BlockId>> = vec![None; flow.nodes.len()];
        for (index, &id) in reachable.iter().enumerate().rev() {
            let mut later = reachable.iter().skip(index + 1).copied();
            if let Some(twin) = later.find(|&other| equal(flow, id, other)) {
                let kept = same.get(twin).copied().flatten().unwrap_or(twin);
                same.iter_mut().skip(id).take(1).for_each(|slot| *slot = Some(kept));
            }
        }
        let mut merged = false;
        for target in flow.nodes.iter_mut().filter_map(|node| node.next.as_mut()).flatten() {
            if let Some(kept) = same.get(*target).copied().flatten() {
                *target = kept;
                merged = true;
            }
        }
        if !merged {
            return;
        }
    }
}

/// The blocks that the root leads to, in ascending order.
fn reachable(flow: &Flow) -> Vec<BlockId> {
    let (mut seen, mut pending) = (vec![false; flow.nodes.len()], vec![flow.root]);
    while let Some(id) = pending.pop() {
        match seen.get_mut(id) {
            Some(seen) if !*seen => *seen = true,
            _ => continue,
        }
        pending.extend(flow.nodes.get(id).and_then(|node| node.next).into_iter().flatten());
    }
    seen.iter().enumerate().filter(|(_, seen)| **seen).map(|(id, _)| id).collect()
}

fn equal(flow: &Flow, one: BlockId, other: BlockId) -> bool {
    let (Some(one), Some(other)) = (flow.nodes.get(one), flow.nodes.get(other)) else {
        return false;
    };
    one.test == other.test && one.next == other.next && real(one).eq(real(other))
}

fn real(node: &Node) -> impl Iterator<Item = &Statement> {
    node.statements.iter().filter(|statement| statement.code != NOP)
}

/// Lets the program begin where the root's test, if it decides nothing, leads.
pub(super) fn shorten_root(flow: &mut Flow) {
    let Some(root) = flow.nodes.get_mut(flow.root) else { return };
    let mut statements = std::mem::take(&mut root.statements);
    while let Some([yes, no]) = flow.nodes.get(flow.root).and_then(|node| node.next)
        && yes == no
    {
        flow.root = yes;
    }
    let Some(root) = flow.nodes.get_mut(flow.root) else { return };
    statements.append(&mut root.statements);
    // A program that only returns needs no statements.
    if root.next.is_some() {
        root.statements = statements;
    }
}
