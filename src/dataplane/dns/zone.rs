//! The names of one network, as they are asked for.
//!
//! Theory of operation. Names are kept as they are on the wire, in lower case, so that a look-up decodes
//! nothing. What is not here is nobody's here and goes to an upstream; a name that is here but has no record
//! of the type asked for is answered with nothing (RFC 2308 §2.2), for upstreams do not know it either.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use simple_dns::rdata::{A, AAAA, PTR, RData};
use simple_dns::{
    CLASS, Label, Name, Packet, PacketFlag, QCLASS, QTYPE, Question as Asked, ResourceRecord, TYPE,
};

use super::Config;
use super::message::{Question, kind};
use crate::dataplane::PortId;
use crate::wire::ip::{Addr, Version};

/// How long answers are good, in seconds; Docker's.
const TTL: u32 = 600;

/// A name on the wire.
type Wire = Box<[u8]>;

/// What is known, and to whom: everybody, or one port.
type Known<T> = Vec<(T, Option<PortId>)>;

/// See the module's documentation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Zone {
    names: BTreeMap<Wire, Known<Addr>>,
    addresses: BTreeMap<Addr, Known<Wire>>,
}

/// What is found.
enum Found<'a> {
    Addresses(Vec<Addr>),
    Names(Vec<&'a [u8]>),
}

impl Zone {
    /// The names of a configuration. What cannot be a name (RFC 1035 §2.3.4) can never be asked for.
    pub fn new(config: &Config) -> Self {
        let mut zone = Self::default();
        for name in &config.names {
            let Some(wire) = wire(&name.name) else { continue };
            if name.reverse {
                zone.addresses.entry(name.address).or_default().push((wire.clone(), name.known_to));
            }
            zone.names.entry(wire).or_default().push((name.address, name.known_to));
        }
        zone
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The answer to a question that came by a port, if the name is known there.
    pub fn answer(&self, question: &Question<'_>, from: PortId) -> Option<Vec<u8>> {
        let found = self.find(&question.folded(), from)?;
        let name = name(question.name());
        let mut reply = Packet::new_reply(question.id);
        reply.set_flags(PacketFlag::RECURSION_DESIRED | PacketFlag::RECURSION_AVAILABLE);
        if !question.wants_recursion() {
            reply.remove_flags(PacketFlag::RECURSION_DESIRED);
        }
        let wanted = QTYPE::try_from(question.kind).unwrap_or(QTYPE::TYPE(TYPE::Unknown(question.kind)));
        reply.questions.push(Asked::new(name.clone(), wanted, QCLASS::CLASS(CLASS::IN), false));
        let records = found.records(question);
        reply.answers = records.map(|data| ResourceRecord::new(name.clone(), CLASS::IN, TTL, data)).collect();
        let mut answer = reply.build_bytes_vec_compressed().ok()?;
        question.append_opt(&mut answer);
        Some(answer)
    }

    fn find(&self, folded: &[u8], from: PortId) -> Option<Found<'_>> {
        if let Some(addresses) =
            self.names.get(folded).map(|known| visible(known, from).copied().collect::<Vec<_>>())
            && !addresses.is_empty()
        {
            return Some(Found::Addresses(addresses));
        }
        let known = self.addresses.get(&reversed(folded)?)?;
        let names: Vec<_> = visible(known, from).map(AsRef::as_ref).collect();
        (!names.is_empty()).then_some(Found::Names(names))
    }
}

impl<'a> Found<'a> {
    /// The records of the type asked for. Of several addresses each comes first now and then, as with Docker.
    fn records(&self, question: &Question<'_>) -> impl Iterator<Item = RData<'a>> {
        let wants = |kind| question.kind == kind || question.kind == kind::ANY;
        let mut records: Vec<RData<'a>> = match self {
            Self::Addresses(addresses) => addresses
                .iter()
                .filter(|address| wants(if address.version() == Version::V4 { kind::A } else { kind::AAAA }))
                .map(|address| match address.version() {
                    Version::V4 => RData::A(A { address: Ipv4Addr::from(address.v4_bytes()).into() }),
                    Version::V6 => RData::AAAA(AAAA { address: Ipv6Addr::from(address.v6_bytes()).into() }),
                })
                .collect(),
            Self::Names(names) => {
                names.iter().filter(|_| wants(kind::PTR)).map(|wire| RData::PTR(PTR(name(wire)))).collect()
            }
        };
        let first = usize::from(question.id).checked_rem(records.len()).unwrap_or_default();
        records.rotate_left(first);
        records.into_iter()
    }
}

/// What a port may know.
fn visible<T>(known: &Known<T>, from: PortId) -> impl Iterator<Item = &T> {
    known.iter().filter(move |(_, to)| to.is_none_or(|to| to == from)).map(|(what, _)| what)
}

/// A name as it is on the wire, in lower case; none if it cannot be one (RFC 1035 §2.3.4).
pub fn wire(name: &str) -> Option<Wire> {
    let mut wire = Vec::with_capacity(name.len() + 2);
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        wire.push(length);
        wire.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
    }
    wire.push(0);
    (wire.len() <= 255).then(|| wire.into())
}

/// The labels of a name on the wire.
fn labels(mut wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = wire.split_first()?;
        let label = rest.get(..usize::from(*length)).filter(|label| !label.is_empty())?;
        wire = &rest[label.len()..];
        Some(label)
    })
}

fn name(wire: &[u8]) -> Name<'_> {
    let labels: Vec<_> = labels(wire).map(Label::new_unchecked).collect();
    Name::new_with_labels(&labels)
}

/// The address that is asked for backwards (RFC 1035 §3.5, RFC 3596 §2.5).
fn reversed(folded: &[u8]) -> Option<Addr> {
    let labels: Vec<&[u8]> = labels(folded).collect();
    match labels.as_slice() {
        [d, c, b, a, b"in-addr", b"arpa"] => {
            let [a, b, c, d] = [a, b, c, d].map(|label| decimal(label));
            Some(Addr::v4([a?, b?, c?, d?]))
        }
        [nibbles @ .., b"ip6", b"arpa"] if nibbles.len() == 32 => {
            let digit = |label: &&[u8]| match label {
                [digit] => char::from(*digit).to_digit(16),
                _ => None,
            };
            let bits = nibbles
                .iter()
                .rev()
                .try_fold(0u128, |bits, label| Some(bits << 4 | u128::from(digit(label)?)));
            // A mapped address would be an IPv4 address to us, which is asked for elsewhere.
            bits.map(|bits| Addr::v6(bits.to_be_bytes())).filter(|address| address.version() == Version::V6)
        }
        _ => None,
    }
}

/// A number as people write it: no signs, no zeros in front.
fn decimal(label: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(label).ok()?;
    text.parse::<u8>().ok().filter(|number| number.to_string() == text)
}

#[cfg(test)]
mod tests;
