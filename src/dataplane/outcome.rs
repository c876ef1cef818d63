//! What became of a frame: verdicts, drop reasons, and the steps that led there.

use super::{NetworkId, PortId};
use crate::wire::MacAddr;

/// The pipeline's answer for one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// To the one port behind which the destination was learned.
    ToPort(PortId),
    /// To every other port of the network that may have it.
    Flood(NetworkId),
    /// To nobody.
    Drop(DropReason),
}

/// Defines the drop reasons once: the variant, its counter's name, and the sentence people read.
macro_rules! drop_reasons {
    ($($variant:ident $name:literal $sentence:literal)*) => {
        /// Why a frame went no further. Every drop is counted under exactly one of these.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum DropReason {
            $(#[doc = $sentence] $variant,)*
        }

        impl DropReason {
            /// Every reason, in the order of [`index`](Self::index).
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The counter's name, in snake case.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// One sentence for people.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)* }
            }
        }
    };
}

drop_reasons! {
    Runt "runt" "The frame is shorter than its Ethernet header."
    Oversize "oversize" "The frame, or one of its segments, is longer than the network's MTU."
    BadOffload "bad_offload" "The virtio-net header contradicts the frame it came with."
    BadSource "bad_source" "The source is a group address or all zeros (IEEE 802.1Q §8.8)."
    LinkLocal "link_local" "01:80:c2:00:00:00–0f never cross a bridge (IEEE 802.1Q table 8-1)."
    PortDown "port_down" "The port it came from is administratively down."
    SamePort "same_port" "The destination lies behind the port it came from."
    NoListener "no_listener" "A flooded frame, and the network has no other port that is up."
    Icc "icc" "The network forbids traffic between its containers (icc=false)."
    FloodLimit "flood_limit" "The port floods more frames per second than its network allows."
    EgressDown "egress_down" "The port it should leave by is down."
    EgressLost "egress_lost" "The interface behind the port it should leave by was deleted."
    EgressFull "egress_full" "The kernel took no more frames for the port it should leave by."
    EgressRefused "egress_refused" "The kernel refused the frame at the port it should leave by."
}

impl DropReason {
    /// How many reasons there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The reason's place in [`ALL`](Self::ALL) and in a table of counters.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What the bridge made of a frame's source address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    /// Known behind this port, and fresh.
    Known,
    /// Known behind this port; its age starts anew.
    Refreshed,
    /// Was behind another port.
    Moved(PortId),
    /// Seen for the first time.
    New,
    /// A static entry says otherwise, and wins.
    Static,
    /// Learning is off on this network (`ageing=0`, or a limit of zero).
    Off,
}

/// One step of a frame's way through the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The frame entered here.
    Received {
        /// The port it was read from.
        port: PortId,
        /// Bytes, Ethernet header included.
        len: usize,
        /// Frames on the wire that it stands for.
        segments: u32,
    },
    /// Its Ethernet header was read.
    Parsed {
        /// Source address.
        source: MacAddr,
        /// Destination address.
        destination: MacAddr,
        /// The type behind all VLAN tags.
        ethertype: u16,
        /// How many VLAN tags precede it.
        tags: u8,
    },
    /// The source address was looked up in the fdb.
    Learn(Learned),
    /// The destination was looked up in the fdb: the port it lies behind, if known.
    Lookup(MacAddr, Option<PortId>),
    /// The end.
    Verdict(Verdict),
}

/// Somebody who watches frames go through the pipeline. `()` watches nothing and costs nothing.
pub trait Probe {
    /// Called once for each step, in order.
    fn step(&mut self, step: Step);
}

impl Probe for () {
    #[inline]
    fn step(&mut self, _: Step) {}
}

impl Probe for Vec<Step> {
    fn step(&mut self, step: Step) {
        self.push(step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_listed_in_index_order_with_distinct_names() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        for (at, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), at);
            assert!(reason.sentence().ends_with('.'));
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::COUNT);
    }
}
