//! The meaning of each test: which bytes are loaded and what they are compared with, in which order.
//!
//! Order is part of the meaning. A load outside the captured bytes ends the program with "no match", so
//! on a cut-off frame `a or b` is not `b or a`. Everything here follows libpcap's `gencode.c` for link type
//! EN10MB, including where it falls short: `vlan` moves the offsets of *all* that follows it in the text,
//! ports over IPv6 are looked for behind the fixed header only, and `host` also means ARP and RARP.

use std::net::Ipv6Addr;

use super::error::{Refusal, Span};
use super::graph::{Condition, Statement, jump};
use super::names;
use super::opcode::*;
use super::relation::Registers;
use super::syntax::*;

/// EtherTypes.
const IP: u32 = 0x0800;
const ARP: u32 = 0x0806;
const RARP: u32 = 0x8035;
const IP6: u32 = 0x86dd;
const VLAN_TAGS: [u32; 3] = [0x8100, 0x88a8, 0x9100];

/// The greatest value of the type field that is a length in bytes (IEEE 802.3): an 802.2 header follows.
const MAX_LENGTH_FIELD: u32 = 1500;
/// 802.2 service access points that stand at both ends: ISO, IP, NetBEUI.
const BOTH_ENDS: [u32; 3] = [0xfe, 0x06, 0xf0];
/// What libpcap looks for in several encapsulations: IPX, AppleTalk and its ARP.
const SEVERAL_WAYS: [u32; 3] = [0xe0, 0x809b, 0x80f3];

/// IP protocol numbers.
const TCP: u32 = 6;
const UDP: u32 = 17;
const IP6_FRAGMENT: u32 = 44;
const SCTP: u32 = 132;

/// Translates `expression` to a formula over frame tests.
pub(super) fn lower(expression: &Expression) -> Result<Condition, Refusal> {
    Lowering { link_type: 12, payload: 14, registers: Registers::default() }.expression(expression)
}

/// The state that a test leaves for those after it in the text.
pub(super) struct Lowering {
    /// Offset of the EtherType, in bytes.
    link_type: u32,
    /// Offset of the network header, in bytes.
    pub(super) payload: u32,
    pub(super) registers: Registers,
}

/// A test's error without its place.
pub(super) type Lowered = Result<Condition, String>;

/// Expressions and simple tests.
impl Lowering {
    fn expression(&mut self, expression: &Expression) -> Result<Condition, Refusal> {
        match expression {
            Expression::Chain(first, rest) => {
                let mut condition = self.expression(first)?;
                for (junction, next) in rest {
                    condition = condition.join(*junction, self.expression(next)?);
                }
                Ok(condition)
            }
            Expression::Not(inner) => Ok(self.expression(inner)?.negate()),
            Expression::Test(test, span) => self.test(test, *span),
        }
    }

    fn test(&mut self, test: &Test, span: Span) -> Result<Condition, Refusal> {
        let lowered = match test {
            Test::Protocol(protocol) => self.protocol(*protocol),
            Test::Value(qualifiers, value) => self.value(*qualifiers, value),
            Test::Broadcast(protocol) => Self::broadcast(*protocol),
            Test::Multicast(protocol) => self.multicast(*protocol),
            Test::Greater(length) => Ok(wire_length(jump(JGE, *length))),
            Test::Less(length) => Ok(wire_length(jump(JGT, *length)).negate()),
            Test::Vlan(id) => self.vlan(*id),
            Test::Relation(comparison, left, right) => return self.relation(*comparison, left, right, span),
        };
        lowered.map_err(|reason| Refusal::new(span, reason))
    }

    /// A protocol's name alone.
    pub(super) fn protocol(&self, protocol: Protocol) -> Lowered {
        Ok(match protocol {
            Protocol::Ether => return Err("something must follow, as 'host' or 'proto'".to_owned()),
            Protocol::Ip => self.ether_type(IP),
            Protocol::Ip6 => self.ether_type(IP6),
            Protocol::Arp => self.ether_type(ARP),
            Protocol::Rarp => self.ether_type(RARP),
            Protocol::Icmp => self.ip_protocol(1),
            Protocol::Igmp => self.ip_protocol(2),
            Protocol::Igrp => self.ip_protocol(9),
            Protocol::Vrrp | Protocol::Carp => self.ip_protocol(112),
            Protocol::Icmp6 => self.ip6_protocol(58),
            Protocol::Tcp => self.any_ip_protocol(TCP),
            Protocol::Udp => self.any_ip_protocol(UDP),
            Protocol::Sctp => self.any_ip_protocol(SCTP),
            Protocol::Pim => self.any_ip_protocol(103),
            Protocol::Esp => self.any_ip_protocol(50),
            Protocol::Ah => self.any_ip_protocol(51),
        })
    }

    pub(super) fn ether_type(&self, ether_type: u32) -> Condition {
        compare(absolute(H, self.link_type), jump(JEQ, ether_type))
    }

    /// A frame with an 802.2 header for this service access point.
    fn service_access_point(&self, number: u32) -> Condition {
        let has_length = compare(absolute(H, self.link_type), jump(JGT, MAX_LENGTH_FIELD)).negate();
        has_length.and(if BOTH_ENDS.contains(&number) {
            compare(absolute(H, self.payload), jump(JEQ, number << 8 | number))
        } else {
            compare(absolute(B, self.link_type + 2), jump(JEQ, number))
        })
    }

    fn ip_protocol(&self, number: u32) -> Condition {
        self.ether_type(IP).and(self.payload_byte(9, number))
    }

    /// Directly behind the fixed header, or behind a fragment header that is there.
    fn ip6_protocol(&self, number: u32) -> Condition {
        let fragment = self.payload_byte(6, IP6_FRAGMENT).and(self.payload_byte(40, number));
        self.ether_type(IP6).and(self.payload_byte(6, number).or(fragment))
    }

    fn any_ip_protocol(&self, number: u32) -> Condition {
        self.ip_protocol(number).or(self.ip6_protocol(number))
    }

    pub(super) fn payload_byte(&self, offset: u32, value: u32) -> Condition {
        compare(absolute(B, self.payload + offset), jump(JEQ, value))
    }

    /// Not an IPv4 fragment, or the first one.
    pub(super) fn first_fragment(&self) -> Condition {
        compare(absolute(H, self.payload + 6), jump(JSET, 0x1fff)).negate()
    }

    fn broadcast(protocol: Option<Protocol>) -> Lowered {
        match protocol {
            None | Some(Protocol::Ether) => Ok(ethernet_address(0, [0xff; 6])),
            Some(Protocol::Ip) => {
                Err("needs the netmask of an interface, which is not known here".to_owned())
            }
            Some(_) => Err("only 'ether broadcast' is in the language".to_owned()),
        }
    }

    fn multicast(&self, protocol: Option<Protocol>) -> Lowered {
        match protocol {
            None | Some(Protocol::Ether) => Ok(compare(absolute(B, 0), jump(JSET, 1))),
            Some(Protocol::Ip) => {
                Ok(self.ether_type(IP).and(compare(absolute(B, self.payload + 16), jump(JGE, 224))))
            }
            Some(Protocol::Ip6) => Ok(self.ether_type(IP6).and(self.payload_byte(24, 255))),
            Some(_) => Err("only 'ether', 'ip' and 'ip6 multicast' are in the language".to_owned()),
        }
    }

    /// A tag, whose payload everything behind it in the text then looks at.
    fn vlan(&mut self, id: Option<u32>) -> Lowered {
        let [customer, service, old] = VLAN_TAGS.map(|tag| self.ether_type(tag));
        let tagged = customer.or(service).or(old);
        let condition = match id {
            None => tagged,
            Some(id) if id > 0xfff => return Err("a VLAN has a number up to 4095".to_owned()),
            Some(id) => tagged.and(masked(absolute(H, self.payload), 0xfff, id)),
        };
        self.link_type += 4;
        self.payload += 4;
        Ok(condition)
    }
}

/// Values under their qualifiers.
impl Lowering {
    fn value(&self, qualifiers: Qualifiers, value: &Value) -> Lowered {
        let Qualifiers { protocol, direction, kind } = qualifiers;
        match (value, kind) {
            (Value::Number(number), Some(Kind::Port)) => self.port(*number, *number, qualifiers),
            (Value::Number(number), Some(Kind::PortRange)) => self.port_range(*number, *number, qualifiers),
            (Value::Number(number), Some(Kind::Proto)) => self.carried(protocol, *number),
            (Value::Number(number), Some(Kind::Net)) => {
                let shift = number.leading_zeros() / 8 % 4 * 8;
                self.host(protocol, direction, number << shift, u32::MAX << shift)
            }
            (Value::Number(number), _) => self.host(protocol, direction, *number, u32::MAX),
            (Value::Ipv4 { address, bits }, None | Some(Kind::Host | Kind::Net)) => {
                self.host(protocol, direction, *address, u32::MAX << (32 - bits))
            }
            (Value::Ipv4Prefix { network, length }, Some(Kind::Net)) => {
                let host_bits = 32u32.checked_sub(*length).ok_or("an IPv4 prefix has up to 32 bits")?;
                let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
                self.network(protocol, direction, *network, mask)
            }
            (Value::Ipv4Mask { network, mask }, Some(Kind::Net)) => {
                self.network(protocol, direction, *network, *mask)
            }
            (Value::Ipv4Prefix { .. } | Value::Ipv4Mask { .. }, _) => Err("a prefix needs 'net'".to_owned()),
            (Value::Ipv6 { network, length }, None | Some(Kind::Host | Kind::Net)) => {
                if *length != 128 && kind != Some(Kind::Net) {
                    return Err("a prefix needs 'net'".to_owned());
                }
                self.network6(protocol, direction, *network, *length)
            }
            (Value::Ethernet(address), None | Some(Kind::Host)) if protocol == Some(Protocol::Ether) => {
                let at = |offset| ethernet_address(offset, *address);
                Ok(directed(direction, at(6), at(0)))
            }
            (Value::Ethernet(_), _) => Err("an Ethernet address needs 'ether host'".to_owned()),
            (Value::Name(name), _) => self.name(qualifiers, name),
            (Value::Ipv4 { .. } | Value::Ipv6 { .. }, _) => {
                Err("an address was not expected here".to_owned())
            }
        }
    }

    fn name(&self, qualifiers: Qualifiers, name: &str) -> Lowered {
        match qualifiers.kind {
            Some(Kind::Port) => {
                let (number, qualified) = names::port(name, qualifiers.protocol)?;
                self.port(number, number, Qualifiers { protocol: qualified, ..qualifiers })
            }
            Some(Kind::PortRange) => {
                let (first, last) = names::port_range(name)?;
                self.port_range(first, last, qualifiers)
            }
            Some(Kind::Proto) => {
                self.carried(qualifiers.protocol, names::protocol(name, qualifiers.protocol)?)
            }
            None | Some(Kind::Host | Kind::Net) => {
                Err("names are not looked up here; write the address".to_owned())
            }
        }
    }

    /// `proto N`: what the given layer carries.
    fn carried(&self, protocol: Option<Protocol>, number: u32) -> Lowered {
        match protocol {
            None => Ok(self.any_ip_protocol(number)),
            Some(Protocol::Ip) => Ok(self.ip_protocol(number)),
            Some(Protocol::Ip6) => Ok(self.ip6_protocol(number)),
            Some(Protocol::Ether) if SEVERAL_WAYS.contains(&number) => {
                Err("libpcap looks for this protocol in other ways, which are not supported here".to_owned())
            }
            Some(Protocol::Ether) if number <= MAX_LENGTH_FIELD => Ok(self.service_access_point(number)),
            Some(Protocol::Ether) => Ok(self.ether_type(number)),
            Some(_) => Err("only 'ip', 'ip6' and 'ether' can stand before 'proto'".to_owned()),
        }
    }

    fn network(
        &self,
        protocol: Option<Protocol>,
        direction: Option<Direction>,
        network: u32,
        mask: u32,
    ) -> Lowered {
        if network & !mask != 0 {
            return Err("bits are set behind the prefix".to_owned());
        }
        self.host(protocol, direction, network, mask)
    }

    fn host(
        &self,
        protocol: Option<Protocol>,
        direction: Option<Direction>,
        address: u32,
        mask: u32,
    ) -> Lowered {
        let at = |ether_type, source, destination| {
            let end = |offset| {
                self.ether_type(ether_type).and(masked(absolute(W, self.payload + offset), mask, address))
            };
            directed(direction, end(source), end(destination))
        };
        match protocol {
            None => Ok(at(IP, 12, 16).or(at(ARP, 14, 24)).or(at(RARP, 14, 24))),
            Some(Protocol::Ip) => Ok(at(IP, 12, 16)),
            Some(Protocol::Arp) => Ok(at(ARP, 14, 24)),
            Some(Protocol::Rarp) => Ok(at(RARP, 14, 24)),
            Some(_) => Err("only 'ip', 'arp' and 'rarp' can stand before an IPv4 address".to_owned()),
        }
    }

    fn network6(
        &self,
        protocol: Option<Protocol>,
        direction: Option<Direction>,
        network: Ipv6Addr,
        length: u32,
    ) -> Lowered {
        let host_bits = 128u32.checked_sub(length).ok_or("an IPv6 prefix has up to 128 bits")?;
        let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
        if network.to_bits() & !mask != 0 {
            return Err("bits are set behind the prefix".to_owned());
        }
        if !matches!(protocol, None | Some(Protocol::Ip6)) {
            return Err("only 'ip6' can stand before an IPv6 address".to_owned());
        }
        let end = |offset: u32| {
            (0..4u32).fold(self.ether_type(IP6), |condition, word| {
                // The cast keeps the word that the shift brought down.
                let of = |bits: u128| (bits >> (96 - 32 * word)) as u32;
                let load = absolute(W, self.payload + offset + 4 * word);
                condition.and(masked(load, of(mask), of(network.to_bits())))
            })
        };
        Ok(directed(direction, end(8), end(24)))
    }
}

/// Ports.
impl Lowering {
    fn port(&self, first: u32, last: u32, qualifiers: Qualifiers) -> Lowered {
        self.ports(first, last, qualifiers, |load, port, _| compare(load, jump(JEQ, port)))
    }

    fn port_range(&self, first: u32, last: u32, qualifiers: Qualifiers) -> Lowered {
        self.ports(first, last, qualifiers, |load, first, last| {
            let at_least = compare(load.clone(), jump(JGE, first));
            at_least.and(compare(load, jump(JGT, last)).negate())
        })
    }

    /// `test` gets the statements that load a port, and the bounds.
    fn ports(
        &self,
        first: u32,
        last: u32,
        qualifiers: Qualifiers,
        test: impl Fn(Vec<Statement>, u32, u32) -> Condition,
    ) -> Lowered {
        let (transport, more): (u32, &[u32]) = match qualifiers.protocol {
            None => (SCTP, &[TCP, UDP]),
            Some(Protocol::Tcp) => (TCP, &[]),
            Some(Protocol::Udp) => (UDP, &[]),
            Some(Protocol::Sctp) => (SCTP, &[]),
            Some(_) => return Err("only 'tcp', 'udp' and 'sctp' can stand before a port".to_owned()),
        };
        let (first, last) = (first.min(last), first.max(last));
        if last > 0xffff {
            return Err("a port is a number up to 65535".to_owned());
        }
        let over_ip6 = |transport: u32| {
            let at = |offset| test(absolute(H, self.payload + 40 + offset), first, last);
            self.payload_byte(6, transport).and(directed(qualifiers.direction, at(0), at(2)))
        };
        let over_ip = |transport: u32| {
            let header_length = Statement::new(LDX | MSH | B, self.payload);
            let load = |offset| vec![header_length, Statement::new(LD | IND | H, self.payload + offset)];
            let at = |offset| test(load(offset), first, last);
            let first_fragment = self.payload_byte(9, transport).and(self.first_fragment());
            first_fragment.and(directed(qualifiers.direction, at(0), at(2)))
        };
        let any =
            |over: &dyn Fn(u32) -> Condition| more.iter().fold(over(transport), |one, &t| one.or(over(t)));
        let ip6 = self.ether_type(IP6).and(any(&over_ip6));
        Ok(ip6.or(self.ether_type(IP).and(any(&over_ip))))
    }
}

/// A test of the source or destination field as the direction asks; without one, either.
fn directed(direction: Option<Direction>, source: Condition, destination: Condition) -> Condition {
    match direction {
        Some(Direction::Src) => source,
        Some(Direction::Dst) => destination,
        Some(Direction::SrcAndDst) => source.and(destination),
        Some(Direction::SrcOrDst) | None => source.or(destination),
    }
}

/// Loads from a fixed offset into the accumulator.
fn absolute(size: u16, offset: u32) -> Vec<Statement> {
    vec![Statement::new(LD | ABS | size, offset)]
}

fn compare(load: Vec<Statement>, test: Statement) -> Condition {
    Condition::Test(load, test)
}

/// The bits of `mask` equal `value`.
fn masked(load: Vec<Statement>, mask: u32, value: u32) -> Condition {
    let mut load = load;
    if mask != u32::MAX {
        load.push(Statement::new(ALU | AND | K, mask));
    }
    compare(load, jump(JEQ, value))
}

fn wire_length(test: Statement) -> Condition {
    compare(vec![Statement::new(LD | LEN, 0)], test)
}

/// The six bytes at `offset`, the last four first.
fn ethernet_address(offset: u32, address: [u8; 6]) -> Condition {
    let [a, b, c, d, e, f] = address;
    let low = compare(absolute(W, offset + 2), jump(JEQ, u32::from_be_bytes([c, d, e, f])));
    low.and(compare(absolute(H, offset), jump(JEQ, u32::from(u16::from_be_bytes([a, b])))))
}
