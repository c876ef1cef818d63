//! The pass over statements: values, small patterns, stores that nobody reads.

use super::super::graph::{BlockId, Statement, jump};
use super::super::opcode::*;
use super::flow::{Changes, Flow, Node};
use super::values::{ACCUMULATOR, ATOMS, INDEX, NOP, Step, UNKNOWN, Values, defined, used};

/// Works on every block from the root down.
pub(super) fn optimize_blocks(flow: &mut Flow, alter: bool) -> Result<(), &'static str> {
    for id in flow.downward() {
        let inherited = inherit(flow, id);
        let Flow { nodes, values, changes, .. } = &mut *flow;
        if let Some(node) = nodes.get_mut(id) {
            node.values = inherited;
            optimize_block(node, values, changes, alter)?;
        }
    }
    Ok(())
}

/// What the registers hold on entry: the values on which all predecessors agree.
fn inherit(flow: &Flow, id: BlockId) -> [u32; ATOMS] {
    let predecessors = flow.nodes.get(id).map_or(&[] as &[BlockId], |node| &node.predecessors);
    let mut known = predecessors.iter().filter_map(|&id| flow.nodes.get(id)).map(|node| node.values);
    let Some(first) = known.next() else {
        return [UNKNOWN; ATOMS];
    };
    known.fold(first, |mut agreed, other| {
        for (value, other) in agreed.iter_mut().zip(other) {
            if *value != other {
                *value = UNKNOWN;
            }
        }
        agreed
    })
}

fn optimize_block(
    node: &mut Node,
    known: &mut Values,
    changes: &mut Changes,
    alter: bool,
) -> Result<(), &'static str> {
    let entry = node.values;
    let mut changed = false;
    let mut step = Step { known: &mut *known, registers: &mut node.values, alter, changed: &mut changed };
    for statement in &mut node.statements {
        step.run(statement)?;
    }
    if changed {
        changes.statement();
    }
    let unchanged = |atom: usize| {
        let before = entry.get(atom).copied();
        before != Some(UNKNOWN) && before == node.values.get(atom).copied()
    };
    let useless = node.out_use == 0 && unchanged(ACCUMULATOR) && unchanged(INDEX);
    if alter && (useless || node.next.is_none()) {
        if !node.statements.is_empty() {
            node.statements.clear();
            changes.statement();
        }
    } else {
        simplify(node, known, changes);
        remove_dead_stores(node, changes);
    }
    node.operand_value = match source(node.test.code) {
        K => known.constant_number(node.test.k),
        _ => value_of(node, INDEX),
    };
    Ok(())
}

fn value_of(node: &Node, atom: usize) -> u32 {
    node.values.get(atom).copied().unwrap_or(UNKNOWN)
}

/// Small patterns, in the statements and in the test.
fn simplify(node: &mut Node, known: &Values, changes: &mut Changes) {
    if node.statements.is_empty() {
        return;
    }
    let last = simplify_pairs(node, changes);
    if node.test.code == JMP | JEQ | K && !node.leaves_accumulator() {
        simplify_equality(node, last, known, changes);
    }
    if let (JSET_K, Some([yes, no])) = (node.test.code, &mut node.next) {
        match node.test.k {
            0 => *yes = *no,
            u32::MAX => *no = *yes,
            _ => {}
        }
    }
    if let (X, Some(constant)) = (source(node.test.code), known.constant(value_of(node, INDEX))) {
        node.test = Statement::new(node.test.code & !X, constant);
    }
    if let (K, Some(constant)) = (source(node.test.code), known.constant(value_of(node, ACCUMULATOR))) {
        decide(node, constant, changes);
    }
}

const JSET_K: u16 = JMP | JSET | K;

/// The first statement at or after `at` that was not removed.
fn real(statements: &[Statement], at: usize) -> Option<usize> {
    (at..statements.len()).find(|&at| statements.get(at).is_some_and(|s| s.code != NOP))
}

/// Rewrites neighbours; returns the place of the last statement looked at.
fn simplify_pairs(node: &mut Node, changes: &mut Changes) -> usize {
    let leaves_index = node.leaves_index();
    let statements = &mut node.statements;
    let (mut last, mut at) = (0, 0);
    while let Some(first) = real(statements, at) {
        let Some(second) = real(statements, first + 1) else { break };
        (last, at) = (second, second);
        let Some((left, [right, ..])) = statements
            .get_mut(first..)
            .and_then(|rest| rest.split_first_mut())
            .and_then(|(left, rest)| Some((left, rest.get_mut(second - first - 1..)?)))
        else {
            break;
        };
        if left.code == ST && right.code == LDX | MEM && left.k == right.k {
            right.code = MISC | TAX;
            changes.statement();
        }
        if left.code == LD | IMM && right.code == MISC | TAX {
            left.code = LDX | IMM;
            right.code = MISC | TXA;
            changes.statement();
        }
        if left.code == LD | IMM && !leaves_index && fold_index(statements, first, second).is_some() {
            changes.statement();
        }
    }
    last
}

/// `tcp[2]` with a constant index: loads `[x + k + 2]` rather than adding 2 to the index register.
fn fold_index(statements: &mut [Statement], load: usize, second: usize) -> Option<()> {
    let code = |statements: &[Statement], at: usize| statements.get(at).map(|s| s.code);
    let add = match code(statements, second)? {
        code if code == LDX | MSH | B => real(statements, second + 1)?,
        _ => second,
    };
    let tax = real(statements, add + 1)?;
    let relative = real(statements, tax + 1)?;
    let relative_code = code(statements, relative)?;
    let matched = code(statements, add)? == ALU | ADD | X
        && code(statements, tax)? == MISC | TAX
        && class(relative_code) == LD
        && mode(relative_code) == IND;
    let constant = statements.get(load).filter(|_| matched)?.k;
    let target = statements.get_mut(relative)?;
    target.k = target.k.wrapping_add(constant);
    for at in [load, add, tax] {
        statements.get_mut(at)?.code = NOP;
    }
    Some(())
}

/// `jeq` behind a subtraction or a mask, when nobody reads the accumulator afterwards.
fn simplify_equality(node: &mut Node, last: usize, known: &Values, changes: &mut Changes) {
    let index = known.constant(value_of(node, INDEX));
    let Some(statement) = node.statements.get_mut(last) else { return };
    match (statement.code, index) {
        (SUB_X, Some(constant)) => node.test.k = node.test.k.wrapping_add(constant),
        (SUB_X, None) if node.test.k == 0 => node.test = Statement::new(JMP | JEQ | X, 0),
        (SUB_K, _) => node.test.k = node.test.k.wrapping_add(statement.k),
        (AND_K, _) if node.test.k == 0 => {
            node.test = jump(JSET, statement.k);
            node.next = node.next.map(|[yes, no]| [no, yes]);
        }
        _ => return,
    }
    statement.code = NOP;
    changes.statement();
}

const SUB_X: u16 = ALU | SUB | X;
const SUB_K: u16 = ALU | SUB | K;
const AND_K: u16 = ALU | AND | K;

/// Lets both ways out go where a test of a constant goes.
fn decide(node: &mut Node, constant: u32, changes: &mut Changes) {
    let k = node.test.k;
    let holds = match operation(node.test.code) {
        JEQ => constant == k,
        JGT => constant > k,
        JGE => constant >= k,
        _ => constant & k != 0,
    };
    if let Some([yes, no]) = &mut node.next {
        if yes != no {
            changes.statement();
        }
        if holds { *no = *yes } else { *yes = *no }
    }
}

/// Removes what is overwritten before it is read.
fn remove_dead_stores(node: &mut Node, changes: &mut Changes) {
    let mut unread: [Option<usize>; ATOMS] = [None; ATOMS];
    let mut dead = Vec::new();
    let tested = std::iter::once(&node.test);
    for (at, statement) in node.statements.iter().chain(tested).enumerate() {
        let reads = used(statement);
        for (atom, store) in unread.iter_mut().enumerate() {
            if reads & (1 << atom) != 0 {
                *store = None;
            }
        }
        if let Some(store) = defined(statement).and_then(|atom| unread.get_mut(atom)) {
            dead.extend(store.replace(at));
        }
    }
    let later = node.out_use;
    dead.extend(
        unread.iter().enumerate().filter_map(|(atom, store)| store.filter(|_| later & (1 << atom) == 0)),
    );
    for at in dead {
        if let Some(statement) = node.statements.get_mut(at) {
            statement.code = NOP;
            changes.statement();
        }
    }
}
