//! The rules at work: what the chains say of a packet, and what they have counted.
//!
//! Theory of operation. A [`Program`] is a ruleset made ready: its rules in one row, with candidates
//! per chain so that a walk looks at few of them. A walk ([`Rules::filter`], [`Rules::nat`]) changes
//! nothing; it leaves a [`Trace`] of the rules that matched. Counting comes after, when the packet has
//! survived every other stage:
//!
//! - the nat table and the filter table of a flow's first packet: rule by rule ([`Rules::count_trace`]);
//! - of packets whose flow remembers its way: by path. A path is a trace that was interned
//!   ([`Rules::intern`]); a packet costs one addition ([`Rules::count`]), however many rules are on it.
//!   What a rule has counted is its own counter and those of all paths through it, added up when shown.
//!
//! Paths are few (a flow's established packets take one of a handful of ways through the chains), but a
//! ruleset may be such that they are not: then interning is refused, and such packets walk and count
//! rule by rule.
//!
//! Counters mean what netfilter's mean: packets are frames as read (a super-frame is one), bytes are
//! those of the IP packet; a policy counts who fell through to it.
//!
//! A new ruleset replaces the old one at once. A rule that stands in the same chain as before keeps its
//! counter; path numbers end with their ruleset, as do the ways that flows remember.

mod candidates;
mod matching;
mod paths;
mod program;
mod soundness;

pub use program::{Program, TableKind};

use super::NetworkId;
use super::change::Rejected;
use super::outcome::DropReason;
use super::rules::{FilterHook, NatHook, Policy, RejectWith, Rule, Ruleset, States, Target};
use crate::wire::ip::Addr;
use paths::Paths;

/// The most rules that a walk may match; rulesets that could match more are refused.
pub const MAX_MATCHES: usize = 24;

/// What the rules look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// The interface it came in by; none when it is our own.
    pub input: Option<NetworkId>,
    /// The interface it leaves by; none when it is for us, or not known yet.
    pub output: Option<NetworkId>,
    /// Source address.
    pub source: Addr,
    /// Destination address.
    pub destination: Addr,
    /// The protocol above IP.
    pub protocol: u8,
    /// Source and destination port, of a protocol that has them.
    pub ports: Option<(u16, u16)>,
    /// The state of its flow, and how that is translated.
    pub states: States,
    /// Whether its destination is an address of ours.
    pub local: bool,
}

/// The rules that a walk matched, in order, and whether it ended at the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Trace {
    /// Places in the program's row of rules; what is behind `len` is zero.
    rules: [u32; MAX_MATCHES],
    len: u8,
    /// The built-in chain whose policy decided, by its place in the program.
    policy: Option<u16>,
}

impl Trace {
    /// The rules that matched.
    fn rules(&self) -> impl Iterator<Item = usize> + '_ {
        self.rules.iter().take(usize::from(self.len)).map(|rule| *rule as usize)
    }

    /// Notes a match. There is room: [`Program::compile`] refuses rules of which more could match.
    #[inline]
    fn push(&mut self, rule: u32) {
        if let Some(slot) = self.rules.get_mut(usize::from(self.len)) {
            *slot = rule;
            self.len += 1;
        }
    }
}

/// What the filter table says of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterVerdict {
    /// It may pass.
    Accept,
    /// It goes no further, silently.
    Drop(DropReason),
    /// It goes no further, and its sender is told.
    Reject(RejectWith),
}

/// What the nat table does to a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Translation {
    /// New destination address, and port if it changes.
    Destination {
        /// The address.
        to: Addr,
        /// The port.
        port: Option<u16>,
    },
    /// The source becomes the address of the interface it leaves by.
    Masquerade {
        /// Source ports to choose from; `None` keeps the port where possible.
        ports: Option<(u16, u16)>,
    },
    /// New source address.
    Source {
        /// The address.
        to: Addr,
        /// Source ports to choose from; `None` keeps the port where possible.
        ports: Option<(u16, u16)>,
    },
}

/// What a rule or a policy has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Packets; a super-frame is one.
    pub packets: u64,
    /// Bytes of IP packets.
    pub bytes: u64,
}

impl Count {
    /// Adds so much.
    #[inline]
    fn add(&mut self, packets: u64, bytes: u64) {
        self.packets += packets;
        self.bytes += bytes;
    }
}

/// What every rule and policy of a program has counted, in the program's order: [`Program::list`] shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    rules: Vec<Count>,
    policies: Vec<Count>,
}

/// A path's number; see [`Rules::intern`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PathId(pub u32);

/// A chain, as shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedChain {
    /// Its name.
    pub name: String,
    /// Of a built-in chain: its policy, and what fell through to it.
    pub policy: Option<(Policy, Count)>,
    /// How many rules jump to it.
    pub references: usize,
    /// Its rules in order, each with what it has counted.
    pub rules: Vec<ListedRule>,
}

/// A rule, as shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRule {
    /// The rule.
    pub rule: Rule,
    /// The chain it jumps to, if that is its target.
    pub chain: Option<String>,
    /// What it has counted.
    pub count: Count,
}

/// A rule that a walk matched, in words of its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matched<'a> {
    /// The table.
    pub table: TableKind,
    /// The chain's name.
    pub chain: &'a str,
    /// Its number there, from 1; `None` for the chain's policy.
    pub number: Option<usize>,
    /// The rule; `None` for the chain's policy.
    pub rule: Option<&'a Rule>,
    /// The chain that the rule jumps to, if that is its target.
    pub jump: Option<&'a str>,
}

/// The rules of one IP version, and what they have counted.
#[derive(Debug, Default)]
pub struct Rules {
    program: Program,
    /// What each rule has counted itself, in the program's order.
    rules: Vec<Count>,
    /// What each chain's policy has counted itself.
    policies: Vec<Count>,
    paths: Paths,
}

impl Rules {
    /// Rules with nothing counted yet.
    ///
    /// # Errors
    /// See [`Program::compile`].
    pub fn new(ruleset: Ruleset) -> Result<Self, Rejected> {
        let mut rules = Self::default();
        rules.replace(ruleset)?;
        Ok(rules)
    }

    /// Puts other rules in place. Rules that stay in their chain keep their counters, as do policies.
    /// Path numbers given out so far are void.
    ///
    /// # Errors
    /// See [`Program::compile`]; the old rules stay.
    pub fn replace(&mut self, ruleset: Ruleset) -> Result<(), Rejected> {
        self.install(Program::compile(ruleset)?);
        Ok(())
    }

    /// [`replace`](Self::replace), with the work that grows with the number of rules done before.
    pub fn install(&mut self, program: Program) {
        self.settle();
        let old = std::mem::replace(&mut self.program, program);
        let (rules, policies) = self.program.carry_over(&old, &self.rules, &self.policies);
        (self.rules, self.policies) = (rules, policies);
    }

    /// What the filter table says of a packet; `trace` is set to the rules that said so.
    #[inline]
    pub fn filter(&self, hook: FilterHook, subject: &Subject, trace: &mut Trace) -> FilterVerdict {
        *trace = Trace::default();
        let Some(chain) = self.program.filter_chain(hook) else { return FilterVerdict::Accept };
        match self.program.walk(chain, subject, trace).map(|rule| &rule.target) {
            Some(Target::Drop(reason)) => FilterVerdict::Drop(*reason),
            Some(Target::Reject(with)) => FilterVerdict::Reject(*with),
            Some(_) => FilterVerdict::Accept,
            None => {
                trace.policy = Some(chain);
                match self.program.policy(chain) {
                    Policy::Accept => FilterVerdict::Accept,
                    Policy::Drop => FilterVerdict::Drop(DropReason::Policy),
                }
            }
        }
    }

    /// What the nat table does to the flow that begins with a packet; `trace` is set to the rules that say so.
    #[inline]
    pub fn nat(&self, hook: NatHook, subject: &Subject, trace: &mut Trace) -> Option<Translation> {
        *trace = Trace::default();
        let chain = self.program.nat_chain(hook)?;
        let Some(rule) = self.program.walk(chain, subject, trace) else {
            trace.policy = Some(chain);
            return None;
        };
        match rule.target {
            Target::Dnat { to, port } => {
                let first = rule.matches.destination_ports.as_ref().map(|ports| *ports.start());
                let asked = subject.ports.map(|(_, port)| port);
                let offset = asked.zip(first).map_or(0, |(asked, first)| asked.wrapping_sub(first));
                Some(Translation::Destination { to, port: port.map(|port| port.wrapping_add(offset)) })
            }
            Target::Masquerade { ports } => Some(Translation::Masquerade { ports }),
            Target::Snat { to, ports } => Some(Translation::Source { to, ports }),
            Target::Accept | Target::Drop(_) | Target::Reject(_) | Target::Return | Target::Jump(_) => None,
        }
    }

    /// Whether there is a nat table.
    #[inline]
    pub fn translates(&self) -> bool {
        self.program.nat_chain(NatHook::Prerouting).is_some()
    }

    /// Counts one packet at every rule of a walk, and at the policy that it ended at.
    pub fn count_trace(&mut self, trace: &Trace, bytes: u64) {
        self.add(trace, 1, bytes);
    }

    /// The number of a path, for [`count`](Self::count); `None` when there are too many paths already.
    pub fn intern(&mut self, trace: &Trace) -> Option<PathId> {
        self.paths.intern(trace)
    }

    /// The rules on a path.
    pub fn path(&self, path: PathId) -> Option<&Trace> {
        self.paths.trace(path)
    }

    /// Counts packets that took a path.
    #[inline]
    pub fn count(&mut self, path: PathId, packets: u64, bytes: u64) {
        self.paths.count(path, packets, bytes);
    }

    /// Adds to all rules of a trace.
    fn add(&mut self, trace: &Trace, packets: u64, bytes: u64) {
        for rule in trace.rules() {
            if let Some(count) = self.rules.get_mut(rule) {
                count.add(packets, bytes);
            }
        }
        if let Some(count) = trace.policy.and_then(|chain| self.policies.get_mut(usize::from(chain))) {
            count.add(packets, bytes);
        }
    }

    /// Moves what paths have counted to the rules, and forgets the paths.
    fn settle(&mut self) {
        for (trace, count) in std::mem::take(&mut self.paths).into_counts() {
            self.add(&trace, count.packets, count.bytes);
        }
    }

    /// What all rules and policies have counted.
    pub fn counts(&self) -> Counts {
        let mut sum = Self { rules: self.rules.clone(), policies: self.policies.clone(), ..Self::default() };
        self.paths.counts().for_each(|(trace, count)| sum.add(trace, count.packets, count.bytes));
        Counts { rules: sum.rules, policies: sum.policies }
    }

    /// The chains of a table with all counters, in order; nothing when the table is empty.
    pub fn list(&self, table: TableKind) -> Vec<ListedChain> {
        self.program.list(table, &self.counts())
    }

    /// The rules of a trace in words: where each stands, and the policy at the end if it came to that.
    pub fn describe(&self, trace: &Trace) -> Vec<Matched<'_>> {
        let rules = trace.rules().filter_map(|rule| self.program.locate(rule));
        rules.chain(trace.policy.and_then(|chain| self.program.locate_policy(chain))).collect()
    }
}

#[cfg(test)]
mod tests;
