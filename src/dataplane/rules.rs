//! Rules: what the filter and NAT chains are made of.
//!
//! These are netfilter's: a packet walks the rules of a chain in order; the first one that matches and
//! has a final target decides, `RETURN` goes back to where the chain was jumped to from, and who falls
//! through a built-in chain gets its policy. The control plane compiles a [`Ruleset`] for each IP version.

use std::ops::RangeInclusive;

use super::NetworkId;
use super::outcome::DropReason;
use crate::wire::ip::{Addr, Prefix};

/// A value to compare with, or (`!` in iptables' words) anything but it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Is<T> {
    /// The value.
    pub value: T,
    /// Whether it must differ.
    pub not: bool,
}

/// States of a packet's flow (`-m conntrack --ctstate`), as a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
pub struct States(pub u8);

impl States {
    /// The first packet of a flow.
    pub const NEW: Self = Self(1);
    /// Of a flow that was answered, or its answer.
    pub const ESTABLISHED: Self = Self(2);
    /// An ICMP error about a flow.
    pub const RELATED: Self = Self(4);
    /// Of no flow, and none can begin with it.
    pub const INVALID: Self = Self(8);
    /// Of a flow whose destination was translated (`DNAT`).
    pub const DNAT: Self = Self(16);
    /// Of a flow whose source was translated (`SNAT`).
    pub const SNAT: Self = Self(32);

    /// Whether the two have one in common.
    #[inline]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Both together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What a packet must be for a rule to match; `None` matches all.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Matches {
    /// The interface it came in by (`-i`).
    pub input: Option<Is<NetworkId>>,
    /// The interface it leaves by (`-o`).
    pub output: Option<Is<NetworkId>>,
    /// Source address (`-s`).
    pub source: Option<Is<Prefix>>,
    /// Destination address (`-d`).
    pub destination: Option<Is<Prefix>>,
    /// Protocol above IP (`-p`).
    pub protocol: Option<u8>,
    /// Source ports (`--sport`); only with a protocol that has ports.
    pub source_ports: Option<RangeInclusive<u16>>,
    /// Destination ports (`--dport`).
    pub destination_ports: Option<RangeInclusive<u16>>,
    /// State of its flow (`--ctstate`).
    pub states: Option<States>,
    /// Whether its destination is an address of ours (`ADDRTYPE match dst-type LOCAL`).
    pub local_destination: bool,
}

/// A chain's place in its [`Ruleset`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChainId(pub u16);

/// What a rejected packet's sender is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectWith {
    /// ICMP port unreachable.
    PortUnreachable,
    /// A TCP reset; only for TCP.
    TcpReset,
}

/// What happens to a packet that matches.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// It may pass.
    Accept,
    /// It goes no further, silently; counted under the reason.
    Drop(DropReason),
    /// It goes no further, and its sender is told.
    Reject(RejectWith),
    /// Back to the chain that jumped here; in a built-in chain, to its policy.
    Return,
    /// To another chain, and on here if that does not decide.
    Jump(ChainId),
    /// (nat, PREROUTING) Its destination becomes this address; port `first + n` of the rule's
    /// destination ports becomes `port + n`.
    Dnat {
        /// New destination address.
        to: Addr,
        /// What the first of the rule's destination ports becomes; `None` leaves ports alone.
        port: Option<u16>,
    },
    /// (nat, POSTROUTING) Its source becomes the address of the interface it leaves by.
    Masquerade {
        /// Source ports to choose from; `None` keeps the port where possible.
        ports: Option<(u16, u16)>,
    },
    /// (nat, POSTROUTING) Its source becomes this address.
    Snat {
        /// New source address.
        to: Addr,
        /// Source ports to choose from; `None` keeps the port where possible.
        ports: Option<(u16, u16)>,
    },
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// What it matches.
    pub matches: Matches,
    /// What it does.
    pub target: Target,
}

/// What becomes of who falls through a built-in chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    /// It may pass.
    Accept,
    /// It is dropped.
    Drop,
}

/// A chain of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// As it is shown: `FORWARD`, `DOCKER-ISOLATION`.
    pub name: String,
    /// Of a built-in chain.
    pub policy: Option<Policy>,
    /// In order.
    pub rules: Vec<Rule>,
}

/// A table of chains. The built-in chains come first, in the order of [`FilterHook`] or [`NatHook`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// The chains; [`ChainId`] is an index.
    pub chains: Vec<Chain>,
}

/// Built-in chains of the filter table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FilterHook {
    /// To an address of ours.
    Input,
    /// Through us.
    Forward,
    /// From us.
    Output,
}

/// Built-in chains of the nat table; only the first packet of a flow sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NatHook {
    /// Before the route is looked up.
    Prerouting,
    /// To an address of ours.
    Input,
    /// From us.
    Output,
    /// Before it leaves.
    Postrouting,
}

/// The rules of one IP version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ruleset {
    /// The filter table; without chains, everything passes.
    pub filter: Table,
    /// The nat table; without chains, nothing is translated.
    pub nat: Table,
}
