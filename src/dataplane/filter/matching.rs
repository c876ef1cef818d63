//! Whether a rule matches: its conditions in one cache line and a half, compared without branches.

use super::Subject;
use crate::dataplane::NetworkId;
use crate::dataplane::rules::{ChainId, Is, Matches, Rule, Target};
use crate::wire::ip::{Addr, Prefix, mask};

/// Conditions, as a set.
type Conditions = u16;
const INPUT: Conditions = 1;
const OUTPUT: Conditions = 1 << 1;
const PROTOCOL: Conditions = 1 << 2;
const STATES: Conditions = 1 << 3;
const LOCAL: Conditions = 1 << 4;
const SOURCE: Conditions = 1 << 5;
const DESTINATION: Conditions = 1 << 6;
const SOURCE_PORT: Conditions = 1 << 7;
const DESTINATION_PORT: Conditions = 1 << 8;

/// Where a walk goes on behind a rule that matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nowhere: the rule decides.
    Decided,
    /// Behind the rule that jumped here.
    Back,
    /// In another chain.
    Chain(u16),
}

/// A rule, as walks see it.
#[derive(Debug, Clone)]
pub(super) struct Check {
    asked: Conditions,
    /// Conditions that must not hold.
    negated: Conditions,
    protocol: u8,
    states: u8,
    pub(super) next: Next,
    input: u32,
    output: u32,
    source_ports: (u16, u16),
    destination_ports: (u16, u16),
    source: (u128, u128),
    destination: (u128, u128),
}

/// A packet, as walks see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    /// Interfaces; one that is not there has a number that no interface has.
    pub(super) input: u32,
    pub(super) output: u32,
    pub(super) source: u128,
    pub(super) destination: u128,
    pub(super) ports: (u16, u16),
    pub(super) protocol: u8,
    states: u8,
    /// Conditions that do not hold, whatever they ask for.
    lacks: Conditions,
}

/// The number of an interface that is not there.
const NOWHERE: u32 = u32::MAX;

impl View {
    #[inline]
    pub(super) fn of(subject: &Subject) -> Self {
        let number = |interface: Option<NetworkId>| interface.map_or(NOWHERE, |id| id.0);
        let portless = if subject.ports.is_none() { SOURCE_PORT | DESTINATION_PORT } else { 0 };
        Self {
            input: number(subject.input),
            output: number(subject.output),
            source: subject.source.to_bits(),
            destination: subject.destination.to_bits(),
            ports: subject.ports.unwrap_or_default(),
            protocol: subject.protocol,
            states: subject.states.0,
            lacks: portless | if subject.local { 0 } else { LOCAL },
        }
    }

    /// A packet that has these values, and no others.
    pub(super) fn with_values(
        input: Option<NetworkId>,
        output: Option<NetworkId>,
        source: u128,
        destination: u128,
        protocol: u8,
    ) -> Self {
        let number = |interface: Option<NetworkId>| interface.map_or(NOWHERE, |id| id.0);
        let (input, output) = (number(input), number(output));
        Self { input, output, source, destination, ports: (0, 0), protocol, states: 0, lacks: 0 }
    }

    /// The same, from and to these ports.
    pub(super) const fn with_ports(self, ports: (u16, u16)) -> Self {
        Self { ports, ..self }
    }
}

impl Check {
    pub(super) fn new(rule: &Rule) -> Self {
        let Matches { input, output, source, destination, protocol, states, .. } = rule.matches;
        let ports = [&rule.matches.source_ports, &rule.matches.destination_ports];
        let [source_ports, destination_ports] =
            ports.map(|ports| ports.as_ref().map(|ports| (*ports.start(), *ports.end())));
        let asked = [
            (INPUT, input.is_some(), is_not(input)),
            (OUTPUT, output.is_some(), is_not(output)),
            (PROTOCOL, protocol.is_some(), false),
            (STATES, states.is_some(), false),
            (LOCAL, rule.matches.local_destination, false),
            (SOURCE, source.is_some(), is_not(source)),
            (DESTINATION, destination.is_some(), is_not(destination)),
            (SOURCE_PORT, source_ports.is_some(), false),
            (DESTINATION_PORT, destination_ports.is_some(), false),
        ];
        let set = |chosen: fn(&(Conditions, bool, bool)) -> bool| {
            asked.iter().filter(|condition| chosen(condition)).fold(0, |set, condition| set | condition.0)
        };
        Self {
            asked: set(|(_, asked, _)| *asked),
            negated: set(|(_, _, not)| *not),
            protocol: protocol.unwrap_or(0),
            states: states.map_or(0, |states| states.0),
            next: match rule.target {
                Target::Return => Next::Back,
                Target::Jump(ChainId(to)) => Next::Chain(to),
                _ => Next::Decided,
            },
            input: input.map_or(NOWHERE, |is| is.value.0),
            output: output.map_or(NOWHERE, |is| is.value.0),
            source_ports: source_ports.unwrap_or_default(),
            destination_ports: destination_ports.unwrap_or_default(),
            source: bits(source),
            destination: bits(destination),
        }
    }

    /// Whether a packet is all that is asked for.
    #[inline]
    pub(super) fn admits(&self, view: &View) -> bool {
        let interfaces = set(INPUT, view.input != self.input) | set(OUTPUT, view.output != self.output);
        // Most rules of a chain fail here, and many ask for no more.
        if (interfaces ^ self.negated) & self.asked & (INPUT | OUTPUT) != 0 {
            return false;
        }
        if self.asked & !(INPUT | OUTPUT) == 0 {
            return true;
        }
        let failed = view.lacks
            | set(PROTOCOL, view.protocol != self.protocol)
            | set(STATES, view.states & self.states == 0)
            | set(SOURCE, (view.source ^ self.source.0) & self.source.1 != 0)
            | set(DESTINATION, (view.destination ^ self.destination.0) & self.destination.1 != 0)
            | set(SOURCE_PORT, is_outside(view.ports.0, self.source_ports))
            | set(DESTINATION_PORT, is_outside(view.ports.1, self.destination_ports));
        (failed ^ self.negated) & self.asked & !(INPUT | OUTPUT) == 0
    }
}

#[inline]
const fn set(condition: Conditions, holds: bool) -> Conditions {
    if holds { condition } else { 0 }
}

#[inline]
const fn is_outside(port: u16, (first, last): (u16, u16)) -> bool {
    port < first || port > last
}

fn is_not<T>(condition: Option<Is<T>>) -> bool {
    condition.is_some_and(|is| is.not)
}

/// A prefix as the bits to have, and which of them count.
fn bits(prefix: Option<Is<Prefix>>) -> (u128, u128) {
    let (address, bits) = prefix.map_or((Addr::default(), 0), |is| (is.value.address(), is.value.bits()));
    (address.to_bits(), mask(bits))
}
