//! The flow graph of a filter: straight-line statements that end in a two-way branch.
//!
//! Lowering first builds a [`Condition`], a boolean formula whose atoms are such blocks; linking it gives
//! each block the two blocks it goes on to, in the order in which the formula must be evaluated.

use super::opcode::*;
use super::syntax::Junction;

/// An instruction without jump targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) code: u16,
    pub(super) k: u32,
}

impl Statement {
    pub(super) const fn new(code: u16, k: u32) -> Self {
        Self { code, k }
    }
}

/// A boolean formula over tests of the frame.
#[derive(Debug, Clone)]
pub(super) enum Condition {
    /// The statements, then a conditional jump as test.
    Test(Vec<Statement>, Statement),
    /// Conditions joined from the left, as `(a or b) and c`.
    Chain(Box<Condition>, Vec<(Junction, Condition)>),
    Not(Box<Condition>),
}

impl Condition {
    /// Both hold; `self` is evaluated first.
    pub(super) fn and(self, then: Self) -> Self {
        self.join(Junction::And, then)
    }

    /// One holds; `self` is evaluated first.
    pub(super) fn or(self, otherwise: Self) -> Self {
        self.join(Junction::Or, otherwise)
    }

    pub(super) fn join(self, junction: Junction, next: Self) -> Self {
        match self {
            Self::Chain(first, mut rest) => {
                rest.push((junction, next));
                Self::Chain(first, rest)
            }
            first @ (Self::Test(..) | Self::Not(_)) => Self::Chain(Box::new(first), vec![(junction, next)]),
        }
    }

    pub(super) fn negate(self) -> Self {
        Self::Not(Box::new(self))
    }
}

/// Index of a block in its [`Graph`].
pub(super) type BlockId = usize;

/// Where a block goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// The program ends with this value.
    Return(u32),
    /// The test picks the next block.
    Branch { test: Statement, yes: BlockId, no: BlockId },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) statements: Vec<Statement>,
    pub(super) exit: Exit,
}

/// Blocks that go forward only: an acyclic graph.
#[derive(Debug)]
pub(super) struct Graph {
    pub(super) blocks: Vec<Block>,
    pub(super) root: BlockId,
}

/// What a program returns for a frame it takes: libpcap's greatest snapshot length.
const ACCEPT: u32 = 262_144;

impl Graph {
    /// The graph that accepts where `condition` holds; without one it accepts everything.
    pub(super) fn new(condition: Option<Condition>) -> Self {
        let leaf = |value| Block { statements: Vec::new(), exit: Exit::Return(value) };
        let mut graph = Self { blocks: vec![leaf(ACCEPT), leaf(0)], root: 0 };
        if let Some(condition) = condition {
            graph.root = graph.link(condition, 0, 1);
        }
        graph
    }

    /// Adds the blocks of `condition` and returns the one to enter at.
    fn link(&mut self, condition: Condition, yes: BlockId, no: BlockId) -> BlockId {
        match condition {
            Condition::Test(statements, test) => {
                self.blocks.push(Block { statements, exit: Exit::Branch { test, yes, no } });
                self.blocks.len() - 1
            }
            Condition::Not(inner) => self.link(*inner, no, yes),
            Condition::Chain(first, rest) => {
                let (mut yes, mut no) = (yes, no);
                for (junction, condition) in rest.into_iter().rev() {
                    let entry = self.link(condition, yes, no);
                    match junction {
                        Junction::And => yes = entry,
                        Junction::Or => no = entry,
                    }
                }
                self.link(*first, yes, no)
            }
        }
    }

    /// The blocks that a block goes on to: none, or yes and no.
    pub(super) fn successors(&self, id: BlockId) -> Option<(BlockId, BlockId)> {
        match self.blocks.get(id)?.exit {
            Exit::Return(_) => None,
            Exit::Branch { yes, no, .. } => Some((yes, no)),
        }
    }
}

/// A conditional jump against the constant `k`.
pub(super) const fn jump(operation: u16, k: u32) -> Statement {
    Statement::new(JMP | operation | K, k)
}
