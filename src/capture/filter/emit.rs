//! From the flow graph to instructions.
//!
//! Blocks are laid out so that all jumps go forward: a block comes before everything reachable from it.
//! A conditional jump reaches 255 instructions; a farther target gets an unconditional one right behind,
//! which makes the program longer and may push other targets out of reach, so this repeats until it
//! settles.

use super::graph::{BlockId, Exit, Graph, Statement};
use super::opcode::*;
use super::program::Instruction;

/// Which branches of a block go through an unconditional jump.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Far {
    yes: bool,
    no: bool,
}

pub(super) fn emit(graph: &Graph) -> Vec<Instruction> {
    let order = post_order(graph);
    let mut far = vec![Far::default(); graph.blocks.len()];
    loop {
        let before = far.clone();
        let program = emit_with(graph, &order, &mut far);
        if far == before {
            return program;
        }
    }
}

/// The blocks reachable from the root, each behind those it goes on to: `no` first, then `yes`.
fn post_order(graph: &Graph) -> Vec<BlockId> {
    let mut seen = vec![false; graph.blocks.len()];
    let mut order = Vec::new();
    let mut pending = vec![(graph.root, false)];
    while let Some((id, expanded)) = pending.pop() {
        if expanded {
            order.push(id);
            continue;
        }
        match seen.get_mut(id) {
            Some(seen) if !*seen => *seen = true,
            _ => continue,
        }
        pending.push((id, true));
        if let Some((yes, no)) = graph.successors(id) {
            pending.push((yes, false));
            pending.push((no, false));
        }
    }
    order
}

/// Emits from the end; marks in `far` what turned out to be out of reach.
fn emit_with(graph: &Graph, order: &[BlockId], far: &mut [Far]) -> Vec<Instruction> {
    let mut reversed: Vec<Instruction> = Vec::new();
    let mut distance_to_end = vec![0usize; graph.blocks.len()];
    for &id in order {
        let (Some(block), Some(far)) = (graph.blocks.get(id), far.get_mut(id)) else {
            continue;
        };
        match block.exit {
            Exit::Return(value) => reversed.push(plain(Statement::new(RET | K, value))),
            Exit::Branch { test, yes, no } => {
                let end = |id: BlockId| distance_to_end.get(id).copied().unwrap_or(0);
                emit_branch(&mut reversed, test, [end(yes), end(no)], far);
            }
        }
        reversed.extend(block.statements.iter().rev().copied().map(plain));
        if let Some(distance) = distance_to_end.get_mut(id) {
            *distance = reversed.len();
        }
    }
    reversed.reverse();
    reversed
}

/// Puts a conditional jump, and what it needs to reach its targets, before `program`.
fn emit_branch(program: &mut Vec<Instruction>, test: Statement, ends: [usize; 2], far: &mut Far) {
    let extra = usize::from(far.yes) + usize::from(far.no);
    // Instructions between the conditional jump and each target.
    let [yes, no] = ends.map(|end| program.len() + extra - end);
    far.yes |= yes > 0xff;
    far.no |= no > 0xff;
    let (mut jt, mut jf, mut jumps) = (yes, no, Vec::new());
    if far.yes {
        jt = 0;
        jumps.push(yes.saturating_sub(1));
    }
    if far.no {
        jf = jumps.len();
        jumps.push(no.saturating_sub(jumps.len() + 1));
    }
    // Programs have at most a few thousand instructions.
    let always = |skip: usize| plain(Statement::new(JMP | JA, skip as u32));
    program.extend(jumps.into_iter().rev().map(always));
    let near = |skip: usize| u8::try_from(skip).unwrap_or(u8::MAX);
    program.push(Instruction { code: test.code, jt: near(jt), jf: near(jf), k: test.k });
}

fn plain(statement: Statement) -> Instruction {
    Instruction { code: statement.code, jt: 0, jf: 0, k: statement.k }
}
