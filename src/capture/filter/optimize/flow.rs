//! The flow graph as the passes see it, with what is known of each block.

use super::super::graph::{Block, BlockId, Exit, Graph, Statement};
use super::super::opcode::*;
use super::values::{ACCUMULATOR, ATOMS, INDEX, NOP, Values, defined, used};

/// One of the two ways out of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) from: BlockId,
    pub(super) side: Side,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Yes,
    No,
}

/// A set of small numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Set(Vec<u64>);

impl Set {
    fn full(size: usize) -> Self {
        Self(vec![u64::MAX; size.div_ceil(64)])
    }

    fn empty(size: usize) -> Self {
        Self(vec![0; size.div_ceil(64)])
    }

    fn insert(&mut self, member: usize) {
        if let Some(word) = self.0.get_mut(member / 64) {
            *word |= 1 << (member % 64);
        }
    }

    fn intersect(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word &= other;
        }
    }

    pub(super) fn contains(&self, member: usize) -> bool {
        self.0.get(member / 64).is_some_and(|word| word & (1 << (member % 64)) != 0)
    }

    /// The members in ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(index, &word)| {
            let lowest_cleared = |rest: &u64| Some(rest & (rest - 1)).filter(|&rest| rest != 0);
            let rests = std::iter::successors(Some(word).filter(|&word| word != 0), lowest_cleared);
            rests.map(move |rest| index * 64 + rest.trailing_zeros() as usize)
        })
    }
}

/// A block and what the passes found out about it.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) statements: Vec<Statement>,
    /// The test, or for a leaf its return.
    pub(super) test: Statement,
    /// `yes` and `no`; none for a leaf.
    pub(super) next: Option<[BlockId; 2]>,
    /// Ways into the block, the one found last first.
    pub(super) predecessors: Vec<BlockId>,
    /// The longest way to a leaf, in blocks.
    level: usize,
    /// The blocks on every way from the root to here, itself included.
    pub(super) dominators: Set,
    /// For each way out, the edges on every way from the root through it.
    pub(super) edge_dominators: [Set; 2],
    /// Registers, as bits, read before written here or in what follows.
    in_use: u32,
    /// Registers read after this block.
    pub(super) out_use: u32,
    kill: u32,
    /// The value number of each register at the end of the block.
    pub(super) values: [u32; ATOMS],
    /// The value number of what the test compares the accumulator with.
    pub(super) operand_value: u32,
}

/// What a pass changed.
#[derive(Default)]
pub(super) struct Changes {
    /// Anything at all: another pass is due.
    pub(super) any: bool,
    /// More than a branch moved.
    pub(super) statements: bool,
}

impl Changes {
    pub(super) fn statement(&mut self) {
        self.any = true;
        self.statements = true;
    }
}

pub(super) struct Flow {
    /// In the order of a walk from the root, `yes` before `no`.
    pub(super) nodes: Vec<Node>,
    pub(super) root: BlockId,
    /// The reachable blocks by level; within a level the one found last first.
    pub(super) levels: Vec<Vec<BlockId>>,
    pub(super) values: Values,
    pub(super) changes: Changes,
}

/// Conversion, and access that cannot panic.
impl Flow {
    pub(super) fn new(graph: Graph) -> Self {
        let order = walk(&graph);
        let mut number = vec![0; graph.blocks.len()];
        for (new, &old) in order.iter().enumerate() {
            if let Some(slot) = number.get_mut(old) {
                *slot = new;
            }
        }
        let renumber = |old: BlockId| number.get(old).copied().unwrap_or(0);
        let mut blocks: Vec<Option<Block>> = graph.blocks.into_iter().map(Some).collect();
        let taken = order.iter().filter_map(|&old| blocks.get_mut(old)?.take());
        let nodes = taken.map(|block| Node::new(block, renumber)).collect();
        Self { nodes, root: 0, levels: Vec::new(), values: Values::default(), changes: Changes::default() }
    }

    pub(super) fn into_graph(self) -> Graph {
        let blocks = self.nodes.into_iter().map(|node| {
            let exit = match node.next {
                Some([yes, no]) => Exit::Branch { test: node.test, yes, no },
                None => Exit::Return(node.test.k),
            };
            let statements = node.statements.into_iter().filter(|s| s.code != NOP).collect();
            Block { statements, exit }
        });
        Graph { blocks: blocks.collect(), root: self.root }
    }

    /// Where a way out goes; `None` for a leaf.
    pub(super) fn target(&self, edge: Edge) -> Option<BlockId> {
        let [yes, no] = self.nodes.get(edge.from)?.next?;
        Some(match edge.side {
            Side::Yes => yes,
            Side::No => no,
        })
    }

    pub(super) fn redirect(&mut self, edge: Edge, target: BlockId) {
        if let Some([yes, no]) = self.nodes.get_mut(edge.from).and_then(|node| node.next.as_mut()) {
            match edge.side {
                Side::Yes => *yes = target,
                Side::No => *no = target,
            }
        }
    }

    /// The number of an edge in edge sets.
    fn edge_number(&self, edge: Edge) -> usize {
        match edge.side {
            Side::Yes => edge.from,
            Side::No => self.nodes.len() + edge.from,
        }
    }

    pub(super) fn edge(&self, number: usize) -> Edge {
        match number.checked_sub(self.nodes.len()) {
            None => Edge { from: number, side: Side::Yes },
            Some(from) => Edge { from, side: Side::No },
        }
    }

    /// The reachable blocks from the root down.
    pub(super) fn downward(&self) -> Vec<BlockId> {
        self.levels.iter().rev().flatten().copied().collect()
    }

    /// The reachable blocks that branch, from the leaves up.
    pub(super) fn upward(&self) -> Vec<BlockId> {
        self.levels.iter().skip(1).flatten().copied().collect()
    }
}

impl Node {
    fn new(block: Block, renumber: impl Fn(BlockId) -> BlockId) -> Self {
        let (test, next) = match block.exit {
            Exit::Return(value) => (Statement::new(RET | K, value), None),
            Exit::Branch { test, yes, no } => (test, Some([renumber(yes), renumber(no)])),
        };
        Self {
            statements: block.statements,
            test,
            next,
            predecessors: Vec::new(),
            level: 0,
            dominators: Set::default(),
            edge_dominators: [Set::default(), Set::default()],
            in_use: 0,
            out_use: 0,
            kill: 0,
            values: [0; ATOMS],
            operand_value: 0,
        }
    }
}

/// The blocks reachable from the root, each before what it goes on to.
fn walk(graph: &Graph) -> Vec<BlockId> {
    let mut seen = vec![false; graph.blocks.len()];
    let (mut order, mut pending) = (Vec::new(), vec![graph.root]);
    while let Some(id) = pending.pop() {
        match seen.get_mut(id) {
            Some(seen) if !*seen => *seen = true,
            _ => continue,
        }
        order.push(id);
        if let Some((yes, no)) = graph.successors(id) {
            pending.push(no);
            pending.push(yes);
        }
    }
    order
}

/// The analyses that come before each pass.
impl Flow {
    pub(super) fn analyze(&mut self) {
        self.changes = Changes::default();
        self.values = Values::default();
        self.find_levels();
        self.find_dominators();
        self.find_uses();
        self.find_edge_dominators();
        self.find_predecessors();
    }

    fn find_levels(&mut self) {
        let mut seen = vec![false; self.nodes.len()];
        let mut found: Vec<Vec<BlockId>> = Vec::new();
        let mut pending = vec![(self.root, false)];
        while let Some((id, expanded)) = pending.pop() {
            let next = self.nodes.get(id).and_then(|node| node.next);
            if expanded {
                let level_of = |id: BlockId| self.nodes.get(id).map_or(0, |node| node.level);
                let level = next.map_or(0, |[yes, no]| level_of(yes).max(level_of(no)) + 1);
                if found.len() <= level {
                    found.resize(level + 1, Vec::new());
                }
                found.iter_mut().skip(level).take(1).for_each(|blocks| blocks.push(id));
                self.nodes.iter_mut().skip(id).take(1).for_each(|node| node.level = level);
                continue;
            }
            match seen.get_mut(id) {
                Some(seen) if !*seen => *seen = true,
                _ => continue,
            }
            pending.push((id, true));
            if let Some([yes, no]) = next {
                pending.push((no, false));
                pending.push((yes, false));
            }
        }
        found.iter_mut().for_each(|blocks| blocks.reverse());
        self.levels = found;
    }

    fn find_dominators(&mut self) {
        let size = self.nodes.len();
        for (id, node) in self.nodes.iter_mut().enumerate() {
            node.dominators = if id == self.root { Set::empty(size) } else { Set::full(size) };
        }
        for id in self.downward() {
            let Some(node) = self.nodes.get_mut(id) else { continue };
            node.dominators.insert(id);
            let (dominators, next) = (node.dominators.clone(), node.next);
            for successor in next.into_iter().flatten() {
                if let Some(node) = self.nodes.get_mut(successor) {
                    node.dominators.intersect(&dominators);
                }
            }
        }
    }

    fn find_edge_dominators(&mut self) {
        let size = 2 * self.nodes.len();
        for (id, node) in self.nodes.iter_mut().enumerate() {
            let set = if id == self.root { Set::empty(size) } else { Set::full(size) };
            node.edge_dominators = [set.clone(), set];
        }
        for id in self.downward() {
            for (index, side) in [Side::Yes, Side::No].into_iter().enumerate() {
                let edge = Edge { from: id, side };
                let number = self.edge_number(edge);
                let target = self.target(edge);
                let Some(set) = self.nodes.get_mut(id).and_then(|node| node.edge_dominators.get_mut(index))
                else {
                    continue;
                };
                set.insert(number);
                let set = set.clone();
                let successor = target.and_then(|target| self.nodes.get_mut(target));
                for into in successor.into_iter().flat_map(|node| &mut node.edge_dominators) {
                    into.intersect(&set);
                }
            }
        }
    }

    /// Which registers are read later, from the leaves up.
    fn find_uses(&mut self) {
        for id in self.downward() {
            if let Some(node) = self.nodes.get_mut(id) {
                (node.in_use, node.kill) = local_uses(node);
                node.out_use = 0;
            }
        }
        for id in self.upward() {
            let next = self.nodes.get(id).and_then(|node| node.next);
            let of = |id: BlockId| self.nodes.get(id).map_or(0, |node| node.in_use);
            let used = next.map_or(0, |[yes, no]| of(yes) | of(no));
            if let Some(node) = self.nodes.get_mut(id) {
                node.out_use |= used;
                node.in_use |= node.out_use & !node.kill;
            }
        }
    }

    pub(super) fn find_predecessors(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.predecessors.clear());
        for id in self.downward() {
            for target in self.nodes.get(id).and_then(|node| node.next).into_iter().flatten() {
                if let Some(node) = self.nodes.get_mut(target) {
                    node.predecessors.insert(0, id);
                }
            }
        }
    }
}

/// The registers that a block reads before it writes them, and those it writes before it reads them.
fn local_uses(node: &Node) -> (u32, u32) {
    let (mut defined_here, mut used_here, mut killed) = (0u32, 0u32, 0u32);
    let test = node.next.map(|_| &node.test);
    for statement in node.statements.iter().chain(test) {
        used_here |= used(statement) & !defined_here;
        if let Some(atom) = defined(statement) {
            let bit = 1 << atom;
            killed |= bit & !used_here;
            defined_here |= bit;
        }
    }
    (used_here, killed)
}

impl Node {
    /// Whether the accumulator is read after this block.
    pub(super) fn leaves_accumulator(&self) -> bool {
        self.out_use & (1 << ACCUMULATOR) != 0
    }

    /// Whether the index register is read after this block.
    pub(super) fn leaves_index(&self) -> bool {
        self.out_use & (1 << INDEX) != 0
    }
}
