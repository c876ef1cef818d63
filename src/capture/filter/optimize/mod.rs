//! The optimizer.
//!
//! A load outside the captured bytes ends a program with "no match". Which loads happen, and in which
//! order, is therefore visible on cut-off frames, and tcpdump shows what libpcap's optimizer left over. To
//! have its meaning there too, these are libpcap's passes, in its order and with its limits. They were
//! described as the BPF+ paper's "redundant predicate elimination" (Begel, McCanne and Graham, SIGCOMM
//! 1999):
//!
//! 1. values: number what every register holds at the end of each block, fold constants, remove stores
//!    that nobody reads ([`values`], [`block`]);
//! 2. edges: let a branch go past a test whose outcome is already known on that way ([`edges`]);
//! 3. pull-ups: in a chain of `or` (or `and`), bring together tests of the same value ([`pullup`]).
//!
//! They repeat until nothing changes; once more without moving branches; then equal blocks are merged
//! ([`merge`]).

mod block;
mod edges;
mod flow;
mod merge;
mod pullup;
mod values;

use super::graph::Graph;
use flow::Flow;

/// Passes that only moved branches before the graph is taken to go round in circles, as in libpcap.
const MAX_IDLE_PASSES: usize = 100;

/// Rewrites `graph`; the error says what constant arithmetic went wrong.
pub(super) fn optimize(graph: Graph) -> Result<Graph, &'static str> {
    let mut flow = Flow::new(graph);
    repeat(&mut flow, false)?;
    repeat(&mut flow, true)?;
    merge::merge_equal(&mut flow);
    merge::shorten_root(&mut flow);
    Ok(flow.into_graph())
}

/// Passes until a fixed point. `alter` rewrites statements; without it only branches move.
fn repeat(flow: &mut Flow, alter: bool) -> Result<(), &'static str> {
    let mut idle = 0;
    while idle < MAX_IDLE_PASSES {
        flow.analyze();
        block::optimize_blocks(flow, alter)?;
        if !alter {
            edges::shorten_edges(flow);
            flow.find_predecessors();
            pullup::pull_up(flow);
        }
        if !flow.changes.any {
            break;
        }
        idle = if flow.changes.statements { 0 } else { idle + 1 };
    }
    Ok(())
}
