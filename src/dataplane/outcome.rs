//! What became of a frame: verdicts, drop reasons, and the steps that led there.

use super::conntrack::{Direction, Tuple};
use super::decision::Tell;
use super::filter::{FilterVerdict, Trace};
use super::neighbour::Resolution;
use super::routes::RouteEntry;
use super::rules::{FilterHook, NatHook, States};
use super::{NetworkId, PortId};
use crate::wire::MacAddr;
use crate::wire::ip::Addr;
use crate::wire::packet::Packet;

/// The pipeline's answer for one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// To the one port behind which the destination was learned.
    ToPort(PortId),
    /// To every other port of the network that may have it, and to the gateway if it is for it too.
    Flood(NetworkId),
    /// Routed, to the one port behind which its next hop was learned.
    Routed(PortId),
    /// To the gateway itself, which answers it or learns from it.
    Local,
    /// Held back: its next hop's MAC address is asked for, or the first fragment of its packet is awaited.
    /// It goes on later, or is dropped and counted then.
    Held,
    /// To nobody.
    Drop(DropReason),
}

/// Defines the drop reasons once: the variant, its counter's name, and the sentence people read.
macro_rules! drop_reasons {
    ($($variant:ident $name:literal $sentence:literal)*) => {
        /// Why a frame went no further. Every drop is counted under exactly one of these.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    BadSource "bad_source" "The source is a group address, all zeros (IEEE 802.1Q §8.8), or the gateway's."
    LinkLocal "link_local" "01:80:c2:00:00:00–0f never cross a bridge (IEEE 802.1Q table 8-1)."
    PortDown "port_down" "The port it came from is administratively down."
    SamePort "same_port" "The destination lies behind the port it came from."
    NoListener "no_listener" "A flooded frame, and the network has no other port that is up."
    Icc "icc" "The network forbids traffic between its containers (icc=false)."
    FloodLimit "flood_limit" "The port floods more frames per second than its network allows."
    BadIpHeader "bad_ip_header" "The IP header is cut off, or its version or lengths are wrong (RFC 1812 §5.2.2)."
    BadIpChecksum "bad_ip_checksum" "The IPv4 header's checksum is wrong (RFC 1812 §5.2.2)."
    BadIpOptions "bad_ip_options" "IPv4 options or IPv6 extension headers that are malformed, too long a chain, or not allowed."
    SourceRoute "source_route" "It asks for a route of its own (IPv4 source route, IPv6 routing header): refused (RFC 5095, RFC 7126)."
    BadTransport "bad_transport" "The TCP, UDP or ICMP header is cut off or its lengths are wrong."
    MartianSource "martian_source" "The source address can be no sender's here (RFC 1812 §5.3.7), or is ours."
    MartianDestination "martian_destination" "The destination address must not be forwarded (RFC 1812 §5.3.7)."
    DirectedBroadcast "directed_broadcast" "Broadcast to a network behind the router (RFC 2644)."
    Multicast "multicast" "Multicast is not routed."
    TtlExceeded "ttl_exceeded" "The TTL or hop limit has run out; its sender was told."
    NoRoute "no_route" "No route leads to the destination; its sender was told."
    ForwardingOff "forwarding_off" "Forwarding is switched off, for all or on this network."
    TooBig "too_big" "Longer than the next network's MTU, and must not be fragmented; its sender was told."
    NeighbourFailed "neighbour_failed" "The next hop does not answer ARP or neighbour solicitations; its sender was told."
    NeighbourQueue "neighbour_queue" "Too many frames wait for the next hop's MAC address."
    NeighbourLimit "neighbour_limit" "The neighbour table is full of addresses that are being resolved."
    Isolated "isolated" "Networks are isolated from each other (DOCKER-ISOLATION)."
    Rule "rule" "A rule of the user's says DROP."
    Rejected "rejected" "A rule of the user's says REJECT; its sender was told."
    Policy "policy" "No rule of the chain accepted it, and its policy is DROP."
    CtInvalid "ct_invalid" "It belongs to no flow, and no flow can begin with it."
    CtFull "ct_full" "The conntrack table is full of established flows."
    CtSourceLimit "ct_source_limit" "Its source has as many flows as one source may have."
    NatExhausted "nat_exhausted" "No source port is left for the translation."
    FragmentLimit "fragment_limit" "Too many fragments wait for the first of their packet."
    FragmentTimeout "fragment_timeout" "The first fragment of its packet never came."
    FragmentOverlap "fragment_overlap" "A fragment that overlaps its packet's headers (RFC 1858, RFC 5722)."
    NotAnswered "not_answered" "For an address of ours, where nothing answers it."
    NotAQuestion "not_a_question" "Sent to the gateway's port 53, and no question: an answer, or not even a DNS header."
    EgressDown "egress_down" "The port it should leave by is down."
    EgressLost "egress_lost" "The interface behind the port it should leave by was deleted."
    EgressFull "egress_full" "The kernel took no more frames for the port it should leave by."
    EgressRefused "egress_refused" "The kernel refused the frame at the port it should leave by."
    HostDenied "host_denied" "The user uplink does not go there: see 'tapswitch uplink ls'."
    HostUnsupported "host_unsupported" "A user uplink carries TCP, UDP and ICMP echo; this is something else, or malformed."
    HostNoDescriptor "host_no_descriptor" "The daemon has no descriptor left for a socket: raise 'ulimit -n'."
    HostNoPing "host_no_ping" "Pings through the user uplink are forbidden by net.ipv4.ping_group_range: sysctl -w net.ipv4.ping_group_range='0 2147483647'."
    HostUntold "host_untold" "An error about a datagram or ping that came by a user uplink: only the host's kernel could tell who sent it."
    HostLimit "host_limit" "The user uplink has as many sockets for this container as it may have, or as many that wait."
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
#[allow(clippy::large_enum_variant)] // few are kept, and only by who watches
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
    /// It is an IP packet, and the router or the rules look at it.
    Packet(Packet),
    /// Its flow is known, going this way, and remembers what was decided for it.
    Remembered(Direction),
    /// Its tuple, and the state of its flow.
    Flow(Tuple, States),
    /// A chain of the nat table was walked: the rules that matched, and the tuple after it.
    Nat(NatHook, Trace, Tuple),
    /// The route to an address.
    Route(Addr, Option<RouteEntry>),
    /// A chain of the filter table was walked: the rules that matched, and what they say.
    Filter(FilterHook, Trace, FilterVerdict),
    /// The next hop's MAC address.
    Neighbour(Addr, Resolution),
    /// Its sender is told.
    Tell(Tell),
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
