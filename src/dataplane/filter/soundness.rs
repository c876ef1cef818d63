//! Which rulesets are sound: no walk goes in circles, to nowhere, or matches more than a trace can hold.

use std::collections::BTreeMap;

use super::MAX_MATCHES;
use crate::dataplane::NetworkId;
use crate::dataplane::change::Rejected;
use crate::dataplane::rules::{Chain, ChainId, Is, RejectWith, Rule, Ruleset, Table, Target};
use crate::wire::ip::protocol;

/// Kinds of targets that a walk may come to, as a set.
type Kinds = u8;
const ACCEPT: Kinds = 1;
const REFUSE: Kinds = 2;
const DESTINATION: Kinds = 4;
const SOURCE: Kinds = 8;

/// What a chain's built-in place allows: filter INPUT, FORWARD, OUTPUT.
const FILTER: &[Kinds] = &[ACCEPT | REFUSE; 3];
/// Of the nat table: PREROUTING, INPUT, OUTPUT, POSTROUTING.
const NAT: &[Kinds] = &[ACCEPT | DESTINATION, ACCEPT | SOURCE, ACCEPT | DESTINATION, ACCEPT | SOURCE];

/// What is known of a chain and those it jumps to.
#[derive(Debug, Clone, Copy)]
struct Extent {
    /// A bound of how many rules one walk may match.
    matches: usize,
    kinds: Kinds,
}

/// A chain's way through [`Checker::extent`].
#[derive(Debug, Clone, Copy)]
enum Progress {
    Unseen,
    /// Being looked at: who comes here again has gone in a circle.
    Open,
    Known(Extent),
}

struct Checker<'a> {
    chains: &'a [Chain],
    built_in: usize,
    progress: Vec<Progress>,
}

/// Checks both tables.
pub(super) fn check(ruleset: &Ruleset) -> Result<(), Rejected> {
    let total = ruleset.filter.chains.len() + ruleset.nat.chains.len();
    let named = ruleset.filter.chains.first().or(ruleset.nat.chains.first());
    if let Some(chain) = named.filter(|_| total > usize::from(u16::MAX)) {
        return Err(Rejected::BadRules(chain.name.clone()));
    }
    check_table(&ruleset.filter, FILTER)?;
    check_table(&ruleset.nat, NAT)
}

fn check_table(table: &Table, allowed: &[Kinds]) -> Result<(), Rejected> {
    let chains = &table.chains;
    let mut checker =
        Checker { chains, built_in: allowed.len(), progress: vec![Progress::Unseen; chains.len()] };
    for (at, chain) in chains.iter().enumerate() {
        let extent = checker.extent(at, 0).map_err(|at| bad(chains.get(at).unwrap_or(chain)))?;
        let kinds = allowed.get(at).copied().unwrap_or(Kinds::MAX);
        let in_place = chain.policy.is_some() == (at < allowed.len());
        if !in_place || extent.kinds & !kinds != 0 || extent.matches > MAX_MATCHES {
            return Err(bad(chain));
        }
    }
    match chains.first() {
        Some(first) if chains.len() < allowed.len() => Err(bad(first)),
        _ => Ok(()),
    }
}

fn bad(chain: &Chain) -> Rejected {
    Rejected::BadRules(chain.name.clone())
}

impl Checker<'_> {
    /// What walks of a chain can come to; on failure, the chain that is not sound.
    fn extent(&mut self, at: usize, depth: usize) -> Result<Extent, usize> {
        match self.progress.get(at) {
            Some(Progress::Known(extent)) => return Ok(*extent),
            Some(Progress::Unseen) if depth <= MAX_MATCHES => {}
            _ => return Err(at),
        }
        self.progress[at] = Progress::Open;
        let mut kinds = 0;
        // Rules for different interfaces never match the same packet.
        let (mut always, mut by_input, mut by_output) = (0, BTreeMap::new(), BTreeMap::new());
        let chains = self.chains;
        for rule in chains.get(at).map(|chain| &chain.rules).into_iter().flatten() {
            if !is_sound(rule) {
                return Err(at);
            }
            kinds |= kind(&rule.target);
            let Target::Jump(ChainId(to)) = rule.target else { continue };
            let to = usize::from(to);
            if to < self.built_in || to >= chains.len() {
                return Err(at);
            }
            let inner = self.extent(to, depth + 1)?;
            kinds |= inner.kinds;
            let is = |interface: Option<Is<NetworkId>>| interface.filter(|is| !is.not).map(|is| is.value);
            *match (is(rule.matches.input), is(rule.matches.output)) {
                (_, Some(output)) => by_output.entry(output).or_insert(0),
                (Some(input), None) => by_input.entry(input).or_insert(0),
                (None, None) => &mut always,
            } += 1 + inner.matches;
        }
        let most = |by: &BTreeMap<NetworkId, usize>| by.values().copied().max().unwrap_or(0);
        let matches = always + most(&by_input) + most(&by_output) + 1;
        let extent = Extent { matches, kinds };
        self.progress[at] = Progress::Known(extent);
        Ok(extent)
    }
}

/// Whether the rule by itself makes sense.
fn is_sound(rule: &Rule) -> bool {
    let matches = &rule.matches;
    let asks_ports = matches.source_ports.is_some() || matches.destination_ports.is_some();
    let resets = rule.target == Target::Reject(RejectWith::TcpReset);
    (!asks_ports || matches.protocol.is_some()) && (!resets || matches.protocol == Some(protocol::TCP))
}

const fn kind(target: &Target) -> Kinds {
    match target {
        Target::Accept => ACCEPT,
        Target::Drop(_) | Target::Reject(_) => REFUSE,
        Target::Dnat { .. } => DESTINATION,
        Target::Masquerade { .. } | Target::Snat { .. } => SOURCE,
        Target::Return | Target::Jump(_) => 0,
    }
}
