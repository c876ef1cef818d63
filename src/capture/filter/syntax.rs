//! The syntax tree of a filter expression.
//!
//! Qualifiers that a bare value takes over from the test before it (`port 80 or 81`) are already
//! resolved here: every [`Test::Value`] has its own.

use std::net::Ipv6Addr;

use super::error::Span;

/// A boolean expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expression {
    /// `a and b or c`: one precedence, from the left.
    Chain(Box<Expression>, Vec<(Junction, Expression)>),
    Not(Box<Expression>),
    Test(Test, Span),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Junction {
    And,
    Or,
}

/// A test of one property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Test {
    /// `tcp`
    Protocol(Protocol),
    /// `tcp src port 80`
    Value(Qualifiers, Value),
    /// `ether broadcast`
    Broadcast(Option<Protocol>),
    /// `ip multicast`
    Multicast(Option<Protocol>),
    /// `greater 100`: the wire length is at least this.
    Greater(u32),
    /// `less 100`: the wire length is at most this.
    Less(u32),
    /// `vlan 5`
    Vlan(Option<u32>),
    /// `tcp[13] & 2 != 0`
    Relation(Comparison, Arithmetic, Arithmetic),
}

/// What stands before a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Qualifiers {
    pub(super) protocol: Option<Protocol>,
    pub(super) direction: Option<Direction>,
    pub(super) kind: Option<Kind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Src,
    Dst,
    SrcOrDst,
    SrcAndDst,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Host,
    Net,
    Port,
    PortRange,
    Proto,
}

/// A value as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// `80`
    Number(u32),
    /// `10.1` or `10.1.2.3`: one to four bytes, left-justified, and how many bits were written.
    Ipv4 { address: u32, bits: u32 },
    /// `10.0.0.0/8`
    Ipv4Prefix { network: u32, length: u32 },
    /// `10.0.0.0 mask 255.0.0.0`
    Ipv4Mask { network: u32, mask: u32 },
    /// `2001:db8::/32`; a plain address has length 128.
    Ipv6 { network: Ipv6Addr, length: u32 },
    /// `02:42:ac:11:00:02`
    Ethernet([u8; 6]),
    /// `http`
    Name(String),
}

/// A protocol keyword.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Ether,
    Ip,
    Ip6,
    Arp,
    Rarp,
    Tcp,
    Udp,
    Sctp,
    Icmp,
    Icmp6,
    Igmp,
    Igrp,
    Pim,
    Vrrp,
    Carp,
    Ah,
    Esp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
}

/// An arithmetic expression over 32-bit unsigned numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Number(u32),
    /// `len`: the wire length in bytes.
    Length,
    /// `tcp[index:size]`
    Load {
        protocol: Protocol,
        index: Box<Arithmetic>,
        size: u32,
        span: Span,
    },
    Negate(Box<Arithmetic>),
    Binary {
        operator: Operator,
        left: Box<Arithmetic>,
        right: Box<Arithmetic>,
        span: Span,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    And,
    Or,
    Xor,
    ShiftLeft,
    ShiftRight,
}

impl Operator {
    /// How tightly it binds. `%` and `^` have no precedence in libpcap's grammar: whatever follows
    /// them belongs to their right side, and they belong to the right side of whatever precedes them.
    pub(super) fn precedence(self) -> Option<u8> {
        match self {
            Self::Or => Some(1),
            Self::And => Some(2),
            Self::ShiftLeft | Self::ShiftRight => Some(3),
            Self::Add | Self::Subtract => Some(4),
            Self::Multiply | Self::Divide => Some(5),
            Self::Modulo | Self::Xor => None,
        }
    }
}

/// Binds tighter than every binary operator that has a precedence.
pub(super) const UNARY_PRECEDENCE: u8 = 6;

impl Expression {
    /// Where the expression stands, for a message.
    pub(super) fn span(&self) -> Span {
        match self {
            Self::Chain(first, rest) => {
                let start = first.span();
                rest.last().map_or(start, |(_, last)| start.to(last.span()))
            }
            Self::Not(inner) => inner.span(),
            Self::Test(_, span) => *span,
        }
    }
}
