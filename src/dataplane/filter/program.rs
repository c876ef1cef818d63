//! A ruleset made ready: checked, in one row, and walked.
//!
//! Theory of operation. The rules of all chains of both tables stand in one row; a chain is a range of
//! it, so that one number names a rule. What could go wrong in a walk is refused before: a jump to
//! nowhere, to a built-in chain or in a circle, a target that its hook cannot have, and more matches in
//! one walk than a [`Trace`] can hold.

use std::hash::BuildHasher;
use std::ops::Range;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::candidates::Candidates;
use super::matching::{Check, Next, View};
use super::{Count, Counts, ListedChain, ListedRule, Matched, Subject, Trace};
use crate::dataplane::change::Rejected;
use crate::dataplane::rules::{Chain, ChainId, FilterHook, NatHook, Policy, Rule, Ruleset, Target};

/// One of the two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TableKind {
    /// Who may pass.
    Filter,
    /// Who is translated.
    Nat,
}

/// A chain of the program.
#[derive(Debug, Clone)]
pub(super) struct Block {
    table: TableKind,
    name: String,
    policy: Option<Policy>,
    rules: Range<u32>,
    /// Which of them to compare a packet with; none when all.
    candidates: Option<Candidates>,
}

/// A ruleset that can be walked.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// The filter table's chains, then those of the nat table.
    blocks: Vec<Block>,
    /// Where the nat table's chains begin.
    nat: usize,
    rules: Vec<Rule>,
    /// The same rules, as walks see them.
    checks: Vec<Check>,
    /// What each rule is in its chain: see [`identities`](Self::identities).
    identities: Vec<u64>,
}

impl PartialEq for Program {
    /// Whether the two came from equal rulesets: all else follows from these.
    fn eq(&self, other: &Self) -> bool {
        let heads = |program: &Self| {
            let head = |block: &Block| (block.table, block.name.clone(), block.policy, block.rules.clone());
            program.blocks.iter().map(head).collect::<Vec<_>>()
        };
        self.rules == other.rules && heads(self) == heads(other)
    }
}

impl Eq for Program {}

impl Program {
    /// Makes a ruleset ready.
    ///
    /// # Errors
    /// [`Rejected::BadRules`] names the chain that is not sound.
    pub fn compile(ruleset: Ruleset) -> Result<Self, Rejected> {
        super::soundness::check(&ruleset)?;
        let Ruleset { filter, nat } = ruleset;
        let mut program = Self { nat: filter.chains.len(), ..Self::default() };
        let filter = filter.chains.into_iter().map(|chain| (TableKind::Filter, chain));
        for (table, chain) in filter.chain(nat.chains.into_iter().map(|chain| (TableKind::Nat, chain))) {
            program.append(table, chain);
        }
        program.checks = program.rules.iter().map(Check::new).collect();
        program.identities = program.identities();
        Ok(program)
    }

    fn append(&mut self, table: TableKind, chain: Chain) {
        let Chain { name, policy, rules } = chain;
        let start = self.rules.len() as u32;
        let base = if table == TableKind::Nat { self.nat as u16 } else { 0 };
        self.rules.extend(rules.into_iter().map(|rule| match rule.target {
            Target::Jump(ChainId(to)) => Rule { target: Target::Jump(ChainId(to + base)), ..rule },
            _ => rule,
        }));
        let candidates = self.rules.get(start as usize..).and_then(|rules| Candidates::new(rules, start));
        self.blocks.push(Block { table, name, policy, rules: start..self.rules.len() as u32, candidates });
    }

    /// The built-in chain of a hook; none when the table is empty.
    #[inline]
    pub(super) fn filter_chain(&self, hook: FilterHook) -> Option<u16> {
        (self.nat > 0).then_some(hook as u16)
    }

    /// The built-in chain of a hook; none when the table is empty.
    #[inline]
    pub(super) fn nat_chain(&self, hook: NatHook) -> Option<u16> {
        (self.blocks.len() > self.nat).then_some(self.nat as u16 + hook as u16)
    }

    /// A built-in chain's policy.
    #[inline]
    pub(super) fn policy(&self, chain: u16) -> Policy {
        self.blocks.get(usize::from(chain)).and_then(|block| block.policy).unwrap_or(Policy::Accept)
    }

    /// Walks a chain: the rule that decided, or none when it was left without a decision.
    #[inline]
    pub(super) fn walk(&self, chain: u16, subject: &Subject, trace: &mut Trace) -> Option<&Rule> {
        let number = self.walk_chain(chain, &View::of(subject), trace)?;
        self.rules.get(number as usize)
    }

    fn walk_chain(&self, chain: u16, view: &View, trace: &mut Trace) -> Option<u32> {
        let block = self.blocks.get(usize::from(chain))?;
        match &block.candidates {
            None => self.compare(block.rules.clone(), view, trace),
            Some(candidates) => self.compare(candidates.of(view), view, trace),
        }
    }

    /// Compares a packet with rules in order.
    #[inline]
    fn compare(&self, numbers: impl Iterator<Item = u32>, view: &View, trace: &mut Trace) -> Option<u32> {
        for number in numbers {
            let check = self.checks.get(number as usize)?;
            if check.admits(view) {
                trace.push(number);
                match check.next {
                    Next::Decided => return Some(number),
                    Next::Back => return None,
                    Next::Chain(chain) => {
                        if let Some(rule) = self.walk_chain(chain, view, trace) {
                            return Some(rule);
                        }
                    }
                }
            }
        }
        None
    }

    /// What says which rule is which when rules change: table and chain, what it matches and does, and
    /// the how-many-th of its like it is there. Chains are known by name, for their places change.
    fn identities(&self) -> Vec<u64> {
        let hasher = FixedState::default();
        let mut seen: HashTable<(u64, u64)> = HashTable::with_capacity(self.rules.len());
        let hash_of = |value: &(u64, u64)| value.0;
        let rules = self.blocks.iter().flat_map(|block| block.rules.clone().map(move |rule| (block, rule)));
        let identity = |(block, rule): (&Block, u32)| {
            let rule = self.rules.get(rule as usize);
            let target = rule.map(|rule| match &rule.target {
                Target::Jump(ChainId(to)) => Err(self.blocks.get(usize::from(*to)).map(|block| &block.name)),
                target => Ok(target),
            });
            let hash = hasher.hash_one((block.table, &block.name, rule.map(|rule| &rule.matches), target));
            let like = seen.entry(hash, |other| other.0 == hash, hash_of).or_insert((hash, 0)).into_mut();
            like.1 += 1;
            hasher.hash_one(*like)
        };
        rules.map(identity).collect()
    }

    /// The counters for this program's rules and policies, given another program's.
    pub(super) fn carry_over(
        &self,
        old: &Self,
        rules: &[Count],
        policies: &[Count],
    ) -> (Vec<Count>, Vec<Count>) {
        let mut known: HashTable<(u64, Count)> = HashTable::with_capacity(rules.len());
        for (identity, count) in old.identities.iter().zip(rules) {
            known.insert_unique(*identity, (*identity, *count), |(identity, _)| *identity);
        }
        let count = |identity: &u64| known.find(*identity, |(other, _)| other == identity);
        let rules =
            self.identities.iter().map(|identity| count(identity).map_or_else(Count::default, |c| c.1));
        let policy = |block: &Block| {
            let same = |other: &Block| (other.table, &other.name) == (block.table, &block.name);
            old.blocks.iter().position(same).and_then(|at| policies.get(at)).copied().unwrap_or_default()
        };
        (rules.collect(), self.blocks.iter().map(policy).collect())
    }

    fn blocks_of(&self, table: TableKind) -> &[Block] {
        let (filter, nat) = self.blocks.split_at(self.nat);
        if table == TableKind::Filter { filter } else { nat }
    }

    /// A table's chains with their counters, which may be those of another program of the same ruleset;
    /// nothing when the table is empty.
    pub fn list(&self, table: TableKind, counts: &Counts) -> Vec<ListedChain> {
        let Counts { rules, policies } = counts;
        let base = if table == TableKind::Nat { self.nat } else { 0 };
        let mut references = vec![0; self.blocks.len()];
        for rule in &self.rules {
            if let Target::Jump(ChainId(to)) = rule.target {
                references.get_mut(usize::from(to)).into_iter().for_each(|count| *count += 1);
            }
        }
        let listed_rule = |number: u32| {
            let mut rule = self.rules.get(number as usize)?.clone();
            let mut chain = None;
            if let Target::Jump(ChainId(to)) = &mut rule.target {
                chain = self.blocks.get(usize::from(*to)).map(|block| block.name.clone());
                *to -= base as u16;
            }
            Some(ListedRule { rule, chain, count: rules.get(number as usize).copied().unwrap_or_default() })
        };
        let chain = |(at, block): (usize, &Block)| ListedChain {
            name: block.name.clone(),
            policy: block.policy.map(|policy| (policy, policies.get(at).copied().unwrap_or_default())),
            references: references.get(at).copied().unwrap_or_default(),
            rules: block.rules.clone().filter_map(listed_rule).collect(),
        };
        (base..).zip(self.blocks_of(table)).map(chain).collect()
    }

    /// Where a rule stands.
    pub(super) fn locate(&self, rule: usize) -> Option<Matched<'_>> {
        let block = self.blocks.iter().find(|block| block.rules.contains(&(rule as u32)))?;
        let number = Some(rule - block.rules.start as usize + 1);
        let rule = self.rules.get(rule);
        let jump = rule.and_then(|rule| match rule.target {
            Target::Jump(ChainId(to)) => self.blocks.get(usize::from(to)).map(|block| block.name.as_str()),
            _ => None,
        });
        Some(Matched { table: block.table, chain: &block.name, number, rule, jump })
    }

    /// A built-in chain's end.
    pub(super) fn locate_policy(&self, chain: u16) -> Option<Matched<'_>> {
        let block = self.blocks.get(usize::from(chain))?;
        Some(Matched { table: block.table, chain: &block.name, number: None, rule: None, jump: None })
    }
}
