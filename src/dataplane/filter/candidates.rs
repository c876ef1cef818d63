//! Which rules of a long chain a packet has to be compared with.
//!
//! Theory of operation. A chain of thousands of rules consists of a few kinds: one line per pair of
//! networks, one per published port, and so on. A kind is a [`Shape`]: which fields the rule gives one
//! value each. The rules of a shape go into a table by a hash of these values, and a packet's own values
//! find those that may match it (tuple space search: Srinivasan, Suri, Varghese, SIGCOMM 1999). Rules of
//! rare shapes are candidates for every packet. A shape that asks for an interface and has few rules for
//! each joins those that ask for nothing else: one look-up less.
//!
//! The lists found are merged in the order of the rules, and each candidate is then compared in full:
//! leaving out what cannot match changes nothing, so the answer is that of a walk through all rules. For
//! the same reason two values of one hash may share a list.
//!
//! A rule for a range of ports stands in the table under each of them, as long as that is not too many.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use hashbrown::HashTable;

use super::matching::View;
use crate::dataplane::rules::{Is, Matches, Rule};
use crate::wire::ip::{Prefix, mask};

/// Shorter chains are walked in full: that is faster than looking up.
const LONG_CHAIN: usize = 16;
/// Shapes of fewer rules get no table.
const COMMON_SHAPE: usize = 4;
/// Tables of a chain.
const MAX_TABLES: usize = 7;
/// So many rules per interface need no table of their own.
const FEW: usize = 2;
/// A rule for more ports than this stands once in the table, by its other fields.
const MAX_RANGE: usize = 256;
/// Places that ranges may take up in all.
const MAX_PLACES: usize = 65_536;

/// Which fields a rule gives one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Shape {
    input: bool,
    output: bool,
    /// The bits that count.
    source: u128,
    destination: u128,
    protocol: bool,
    source_port: bool,
    destination_port: bool,
}

/// Where a list of rules begins and ends.
type List = (u32, u32);

/// The rules of one shape.
#[derive(Debug, Clone)]
struct ShapeTable {
    shape: Shape,
    /// Hashes of values, and the rules with these values.
    lists: HashTable<(u64, List)>,
}

/// A chain's rules, by what they match.
#[derive(Debug, Clone)]
pub(super) struct Candidates {
    tables: Vec<ShapeTable>,
    /// Numbers of rules: the lists of all tables, each in ascending order.
    rules: Vec<u32>,
    /// Rules that are in no table.
    always: Vec<u32>,
}

impl Candidates {
    /// Sorts a chain's rules, whose first one has the number `first`; none if a plain walk is better.
    pub(super) fn new(rules: &[Rule], first: u32) -> Option<Self> {
        if rules.len() <= LONG_CHAIN {
            return None;
        }
        let mut by_shape: BTreeMap<Shape, Vec<(u32, &Matches)>> = BTreeMap::new();
        let mut places = MAX_PLACES;
        for (number, rule) in (first..).zip(rules) {
            let shape = Shape::of(&rule.matches, &mut places);
            by_shape.entry(shape).or_default().push((number, &rule.matches));
        }
        let mut candidates = Self { tables: Vec::new(), rules: Vec::new(), always: Vec::new() };
        for (shape, rules) in common_shapes(by_shape) {
            if shape == Shape::default()
                || rules.len() < COMMON_SHAPE
                || candidates.tables.len() == MAX_TABLES
            {
                candidates.always.extend(rules.iter().map(|(number, _)| number));
            } else {
                candidates.add_table(shape, &rules);
            }
        }
        candidates.always.sort_unstable();
        (!candidates.tables.is_empty()).then_some(candidates)
    }

    fn add_table(&mut self, shape: Shape, rules: &[(u32, &Matches)]) {
        let hashes = rules
            .iter()
            .flat_map(|(number, matches)| shape.views(matches).map(move |view| (shape.hash(&view), *number)));
        let mut sorted: Vec<(u64, u32)> = hashes.collect();
        sorted.sort_unstable();
        let mut lists = HashTable::new();
        for same in sorted.chunk_by(|(one, _), (other, _)| one == other) {
            let start = self.rules.len() as u32;
            self.rules.extend(same.iter().map(|(_, number)| number));
            if let Some((hash, _)) = same.first() {
                lists.insert_unique(*hash, (*hash, (start, self.rules.len() as u32)), |(hash, _)| *hash);
            }
        }
        self.tables.push(ShapeTable { shape, lists });
    }

    /// The rules that may match a packet, in order.
    #[inline]
    pub(super) fn of(&self, view: &View) -> Merge<'_> {
        let mut lists = [&[][..]; MAX_TABLES + 1];
        let mut len = 0;
        let found = self.tables.iter().filter_map(|table| self.find(table, view));
        for (slot, list) in lists.iter_mut().zip(std::iter::once(&self.always[..]).chain(found)) {
            *slot = list;
            len += 1;
        }
        Merge { lists, len }
    }

    #[inline]
    fn find(&self, table: &ShapeTable, view: &View) -> Option<&[u32]> {
        let hash = table.shape.hash(view);
        let (_, (start, end)) = table.lists.find(hash, |(other, _)| *other == hash)?;
        self.rules.get(*start as usize..*end as usize)
    }
}

/// Shapes and their rules, those with most rules first, where those that can join another have done so.
fn common_shapes(by_shape: BTreeMap<Shape, Vec<(u32, &Matches)>>) -> Vec<(Shape, Vec<(u32, &Matches)>)> {
    let mut joined: BTreeMap<Shape, Vec<(u32, &Matches)>> = BTreeMap::new();
    for (shape, rules) in by_shape {
        let coarser = [Shape { output: true, ..Shape::default() }, Shape { input: true, ..Shape::default() }];
        let suits = |coarser: &Shape| shape.includes(coarser) && most_alike(coarser, &rules) <= FEW;
        let shape = coarser.into_iter().find(suits).unwrap_or(shape);
        joined.entry(shape).or_default().extend(rules);
    }
    let mut shapes: Vec<_> = joined.into_iter().collect();
    shapes.sort_by_key(|(_, rules)| std::cmp::Reverse(rules.len()));
    shapes
}

/// How many of the rules have the same values, at most.
fn most_alike(shape: &Shape, rules: &[(u32, &Matches)]) -> usize {
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    for view in rules.iter().flat_map(|(_, matches)| shape.views(matches)) {
        *counts.entry(shape.hash(&view)).or_default() += 1;
    }
    counts.into_values().max().unwrap_or(0)
}

/// Lists of rules, merged in ascending order.
#[derive(Debug)]
pub(super) struct Merge<'a> {
    lists: [&'a [u32]; MAX_TABLES + 1],
    len: usize,
}

impl Iterator for Merge<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        let lists = self.lists.get_mut(..self.len)?;
        let lowest = lists.iter_mut().min_by_key(|list| list.first().map_or(u32::MAX, |number| *number))?;
        let (number, rest) = lowest.split_first()?;
        *lowest = rest;
        Some(*number)
    }
}

impl Shape {
    /// A rule's shape. Ranges of ports count as given while there are places left.
    fn of(matches: &Matches, places: &mut usize) -> Self {
        let bits = |prefix: Option<Is<Prefix>>| wanted(prefix).map_or(0, |prefix| mask(prefix.bits()));
        let ports = matches.destination_ports.as_ref().map_or(0, width);
        let destination_port = ports == 1 || (2..=MAX_RANGE.min(*places)).contains(&ports);
        if destination_port {
            *places -= ports - 1;
        }
        Self {
            input: wanted(matches.input).is_some(),
            output: wanted(matches.output).is_some(),
            source: bits(matches.source),
            destination: bits(matches.destination),
            protocol: matches.protocol.is_some(),
            source_port: matches.source_ports.as_ref().is_some_and(|ports| width(ports) == 1),
            destination_port,
        }
    }

    /// Whether whoever has one value for all fields of this shape has so for the other's.
    fn includes(&self, coarser: &Self) -> bool {
        (self.input || !coarser.input) && (self.output || !coarser.output) && self != coarser
    }

    /// Packets that have the values of a rule of this shape: one, or one for each port.
    fn views(self, matches: &Matches) -> impl Iterator<Item = View> {
        let address = |prefix: Option<Is<Prefix>>| wanted(prefix).map_or(0, |p| p.address().to_bits());
        let source_port = matches.source_ports.as_ref().map_or(0, |ports| *ports.start());
        let view = View::with_values(
            wanted(matches.input),
            wanted(matches.output),
            address(matches.source),
            address(matches.destination),
            matches.protocol.unwrap_or(0),
        );
        let ports = matches.destination_ports.clone().filter(|_| self.destination_port).unwrap_or(0..=0);
        ports.map(move |port| view.with_ports((source_port, port)))
    }

    /// A hash of the fields that are given.
    #[inline]
    fn hash(&self, view: &View) -> u64 {
        let interface = |given, interface: u32| if given { u64::from(interface) } else { 0 };
        let mut hash = mix(interface(self.input, view.input) << 32 | interface(self.output, view.output), 0);
        for (given, address) in [(self.source, view.source), (self.destination, view.destination)] {
            if given != 0 {
                let address = address & given;
                hash = mix((address >> 64) as u64, mix(address as u64, hash));
            }
        }
        if self.protocol || self.source_port || self.destination_port {
            let value = |given, value| if given { u64::from(value) } else { 0 };
            let (source, destination) = view.ports;
            let ports = value(self.source_port, source) << 16 | value(self.destination_port, destination);
            hash = mix(value(self.protocol, u16::from(view.protocol)) << 32 | ports, hash);
        }
        hash
    }
}

/// Folds a product of 128 bits; the constants are the fractions of the square roots of 2 and 3.
#[inline]
const fn mix(value: u64, hash: u64) -> u64 {
    let product =
        (value ^ 0x6a09_e667_f3bc_c908) as u128 * (hash.rotate_left(23) ^ 0xbb67_ae85_84ca_a73b) as u128;
    (product >> 64) as u64 ^ product as u64
}

/// The one value that is asked for; none when all are, or all but one.
fn wanted<T>(value: Option<Is<T>>) -> Option<T> {
    value.filter(|is| !is.not).map(|is| is.value)
}

fn width(ports: &RangeInclusive<u16>) -> usize {
    usize::from(*ports.end()).saturating_sub(usize::from(*ports.start())) + 1
}
