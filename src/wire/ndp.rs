//! Neighbour discovery for IPv6 (RFC 4861): messages read and written.

use std::net::Ipv6Addr;

use super::checksum::Sum;
use super::ethernet;
use super::ip::{Addr, Prefix, Version, protocol};
use super::{MacAddr, Malformed};

/// The hop limit of every message: who sees it knows that no router passed it on (RFC 4861 §11.2).
pub const HOP_LIMIT: u8 = 255;

/// ICMPv6 types (RFC 4861 §4).
pub const ROUTER_SOLICITATION: u8 = 133;
/// See [`ROUTER_SOLICITATION`].
pub const ROUTER_ADVERTISEMENT: u8 = 134;
/// See [`ROUTER_SOLICITATION`].
pub const NEIGHBOUR_SOLICITATION: u8 = 135;
/// See [`ROUTER_SOLICITATION`].
pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// `ff02::1`.
pub const ALL_NODES: Addr = Addr::v6([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
/// `ff02::2`.
pub const ALL_ROUTERS: Addr = Addr::v6([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);

/// Options (RFC 4861 §4.6).
const SOURCE_MAC: u8 = 1;
const TARGET_MAC: u8 = 2;
const PREFIX: u8 = 3;
const MTU: u8 = 5;

/// Bytes of the Ethernet and IPv6 headers that we write.
const HEADERS: usize = ethernet::HEADER_LEN + 40;

const BAD: Malformed = Malformed("neighbour discovery");

/// A message that a router reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// Which routers are there?
    RouterSolicitation {
        /// Who asks; none when the source address is unspecified.
        mac: Option<MacAddr>,
    },
    /// Who has the target address?
    NeighbourSolicitation {
        /// The address asked for.
        target: Addr,
        /// Who asks; none in a probe for duplicates (RFC 4862 §5.4.2).
        mac: Option<MacAddr>,
    },
    /// The sender has the target address.
    NeighbourAdvertisement(Advertisement),
    /// Advertisements of other routers, redirects: not for us.
    Other,
}

/// A neighbour advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advertisement {
    /// The address that it is about.
    pub target: Addr,
    /// Where the address is; may be left out in the answer to a unicast question.
    pub mac: Option<MacAddr>,
    /// Whether the sender is a router.
    pub router: bool,
    /// Whether it answers a solicitation.
    pub solicited: bool,
    /// Whether it may replace another MAC address.
    pub overrides: bool,
}

/// Reads a message: what follows the IPv6 header and its extensions, ICMPv6 header first. Checks
/// everything that RFC 4861 §6.1 and §7.1 want checked, and the checksum.
///
/// # Errors
/// [`Malformed`] when any of it is wrong; the message must be ignored then.
pub fn parse(source: Addr, destination: Addr, hop_limit: u8, message: &[u8]) -> Result<Message, Malformed> {
    let ([kind, code, ..], body) = message.split_first_chunk::<4>().ok_or(BAD)?;
    let len = u32::try_from(message.len()).map_err(|_| BAD)?;
    let sum = Sum::default().add_ipv6(ipv6(source), ipv6(destination), protocol::ICMPV6, len);
    if hop_limit != HOP_LIMIT || *code != 0 || sum.add(message).finish() != [0, 0] {
        return Err(BAD);
    }
    match *kind {
        ROUTER_SOLICITATION => {
            let (_, options) = body.split_first_chunk::<4>().ok_or(BAD)?;
            let mac = mac_option(options, SOURCE_MAC)?;
            let sound = !source.is_unspecified() || mac.is_none();
            sound.then_some(Message::RouterSolicitation { mac }).ok_or(BAD)
        }
        NEIGHBOUR_SOLICITATION => {
            let (target, options) = target(body)?;
            let mac = mac_option(options, SOURCE_MAC)?;
            let probe = source.is_unspecified();
            let sound = !probe || (mac.is_none() && is_solicited_node(destination));
            sound.then_some(Message::NeighbourSolicitation { target, mac }).ok_or(BAD)
        }
        NEIGHBOUR_ADVERTISEMENT => {
            let (target, options) = target(body)?;
            let flags = body.first().ok_or(BAD)?;
            let (router, solicited, overrides) = (flags & 0x80 != 0, flags & 0x40 != 0, flags & 0x20 != 0);
            let mac = mac_option(options, TARGET_MAC)?;
            let sound = !(solicited && destination.is_multicast());
            let message = Advertisement { target, mac, router, solicited, overrides };
            sound.then_some(Message::NeighbourAdvertisement(message)).ok_or(BAD)
        }
        _ => Ok(Message::Other),
    }
}

/// Target address and options of a neighbour message, behind its first four bytes.
fn target(body: &[u8]) -> Result<(Addr, &[u8]), Malformed> {
    let (_, rest) = body.split_first_chunk::<4>().ok_or(BAD)?;
    let (target, options) = rest.split_first_chunk::<16>().ok_or(BAD)?;
    let target = Addr::v6(*target);
    // A mapped address is no address on the wire, and would be taken for an IPv4 one.
    let sound = !target.is_multicast() && !target.is_unspecified() && target.version() == Version::V6;
    sound.then_some((target, options)).ok_or(BAD)
}

/// The first link-layer address option of a kind. All options are checked: none may have length zero.
fn mac_option(mut options: &[u8], wanted: u8) -> Result<Option<MacAddr>, Malformed> {
    let mut found = None;
    while let Some((kind, rest)) = options.split_first() {
        let len = usize::from(*rest.first().ok_or(BAD)?) * 8;
        let (option, next) = options.split_at_checked(len).filter(|_| len > 0).ok_or(BAD)?;
        if let (true, None, [_, 1, a, b, c, d, e, f]) = (*kind == wanted, found, option) {
            found = Some(MacAddr([*a, *b, *c, *d, *e, *f]));
        }
        options = next;
    }
    Ok(found)
}

fn ipv6(address: Addr) -> Ipv6Addr {
    address.v6_bytes().into()
}

/// The multicast address at which an address is asked for (RFC 4291 §2.7.1).
pub fn solicited_node(address: Addr) -> Addr {
    const BASE: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;
    Addr::from_bits(BASE | address.to_bits() & 0xff_ffff)
}

fn is_solicited_node(address: Addr) -> bool {
    solicited_node(address) == address
}

/// The MAC address of an IPv6 multicast address (RFC 2464 §7).
pub fn multicast_mac(group: Addr) -> MacAddr {
    let [.., a, b, c, d] = group.v6_bytes();
    MacAddr([0x33, 0x33, a, b, c, d])
}

/// The link-local address that a MAC address gives (RFC 4291 appendix A).
pub fn link_local(mac: MacAddr) -> Addr {
    let [a, b, c, d, e, f] = mac.0;
    Addr::v6([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// From whom to whom a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// MAC address of who sends it.
    pub source_mac: MacAddr,
    /// MAC address it goes to.
    pub destination_mac: MacAddr,
    /// Source address.
    pub source: Addr,
    /// Destination address.
    pub destination: Addr,
}

impl Envelope {
    /// From somebody to a multicast group.
    pub fn multicast(source_mac: MacAddr, source: Addr, group: Addr) -> Self {
        Self { source_mac, destination_mac: multicast_mac(group), source, destination: group }
    }

    /// Replaces what is in `frame` by a message whose type and body (behind the checksum) are given.
    fn seal(&self, frame: &mut Vec<u8>, kind: u8, body: &[&[u8]]) {
        // Our own messages are some options long: see MAX_PREFIXES.
        let len = 4 + body.iter().map(|part| part.len()).sum::<usize>() as u16;
        frame.clear();
        frame.extend_from_slice(&self.destination_mac.0);
        frame.extend_from_slice(&self.source_mac.0);
        frame.extend_from_slice(&ethernet::IPV6.to_be_bytes());
        frame.extend_from_slice(&[0x60, 0, 0, 0]);
        frame.extend_from_slice(&len.to_be_bytes());
        frame.extend_from_slice(&[protocol::ICMPV6, HOP_LIMIT]);
        frame.extend_from_slice(&self.source.v6_bytes());
        frame.extend_from_slice(&self.destination.v6_bytes());
        frame.extend_from_slice(&[kind, 0, 0, 0]);
        body.iter().for_each(|part| frame.extend_from_slice(part));
        let (source, destination) = (ipv6(self.source), ipv6(self.destination));
        let pseudo = Sum::default().add_ipv6(source, destination, protocol::ICMPV6, len.into());
        let sum = pseudo.add(&frame[HEADERS..]).finish();
        frame[HEADERS + 2..HEADERS + 4].copy_from_slice(&sum);
    }
}

/// An option with a MAC address in it.
fn mac_as_option(kind: u8, mac: MacAddr) -> [u8; 8] {
    let [a, b, c, d, e, f] = mac.0;
    [kind, 1, a, b, c, d, e, f]
}

/// Replaces what is in `frame` by a neighbour solicitation (RFC 4861 §4.3).
pub fn neighbour_solicitation(frame: &mut Vec<u8>, envelope: &Envelope, target: Addr) {
    let mac = mac_as_option(SOURCE_MAC, envelope.source_mac);
    envelope.seal(frame, NEIGHBOUR_SOLICITATION, &[&[0; 4], &target.v6_bytes(), &mac]);
}

/// Replaces what is in `frame` by a neighbour advertisement (RFC 4861 §4.4).
pub fn neighbour_advertisement(frame: &mut Vec<u8>, envelope: &Envelope, message: &Advertisement) {
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    let flags = flag(message.router, 0x80) | flag(message.solicited, 0x40) | flag(message.overrides, 0x20);
    let option = message.mac.map(|mac| mac_as_option(TARGET_MAC, mac));
    let option = option.as_ref().map_or(&[][..], |option| option);
    let body: [&[u8]; 3] = [&[flags, 0, 0, 0], &message.target.v6_bytes(), option];
    envelope.seal(frame, NEIGHBOUR_ADVERTISEMENT, &body);
}

/// What a router tells about itself and the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Router<'a> {
    /// How long it is good for as a default router, in seconds; 0 = it is none.
    pub lifetime: u16,
    /// The link's MTU.
    pub mtu: u32,
    /// The prefixes that are on the link.
    pub prefixes: &'a [Prefix],
    /// Whether hosts may form addresses of their own from those of 64 bits (RFC 4862).
    pub autonomous: bool,
}

/// How long a prefix is valid and preferred, in seconds (RFC 4861 §6.2.1's defaults).
const VALID: u32 = 2_592_000;
const PREFERRED: u32 = 604_800;
/// As many prefix options as fit the smallest MTU of IPv6.
const MAX_PREFIXES: usize = 32;
/// `AdvCurHopLimit`'s default.
const CUR_HOP_LIMIT: u8 = 64;

/// Replaces what is in `frame` by a router advertisement (RFC 4861 §4.2) with the MAC address of its
/// sender, the MTU and the prefixes, as many as fit 1280 bytes.
pub fn router_advertisement(frame: &mut Vec<u8>, envelope: &Envelope, router: &Router<'_>) {
    let [l0, l1] = router.lifetime.to_be_bytes();
    // Reachable time and retransmission timer: unspecified.
    let fixed = [CUR_HOP_LIMIT, 0, l0, l1, 0, 0, 0, 0, 0, 0, 0, 0];
    let [m0, m1, m2, m3] = router.mtu.to_be_bytes();
    let mac = mac_as_option(SOURCE_MAC, envelope.source_mac);
    let prefixes = router.prefixes.iter().take(MAX_PREFIXES);
    let prefixes: Vec<[u8; 32]> = prefixes.map(|prefix| prefix_option(*prefix, router)).collect();
    let mut body: Vec<&[u8]> = vec![&fixed, &mac];
    let mtu = [MTU, 1, 0, 0, m0, m1, m2, m3];
    body.push(&mtu);
    body.extend(prefixes.iter().map(|option| &option[..]));
    envelope.seal(frame, ROUTER_ADVERTISEMENT, &body);
}

/// A prefix information option (RFC 4861 §4.6.2).
fn prefix_option(prefix: Prefix, router: &Router<'_>) -> [u8; 32] {
    let autonomous = router.autonomous && prefix.len() == 64;
    let mut option = [0; 32];
    let fixed = [PREFIX, 4, prefix.len(), if autonomous { 0xc0 } else { 0x80 }];
    option[..4].copy_from_slice(&fixed);
    option[4..8].copy_from_slice(&VALID.to_be_bytes());
    option[8..12].copy_from_slice(&PREFERRED.to_be_bytes());
    option[16..].copy_from_slice(&prefix.address().v6_bytes());
    option
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{Icmpv6Slice, Ipv6Slice, SlicedPacket};
    use proptest::prelude::*;

    const GATEWAY: MacAddr = MacAddr([2, 0x42, 0, 0, 0, 1]);
    const HOST: MacAddr = MacAddr([2, 0x42, 0, 0, 0, 2]);

    fn addr(text: &str) -> Addr {
        text.parse::<Ipv6Addr>().unwrap().into()
    }

    fn to_host() -> Envelope {
        let (source, destination) = (addr("fd00::1"), addr("fd00::2"));
        Envelope { source_mac: GATEWAY, destination_mac: HOST, source, destination }
    }

    /// Reads a whole frame, as a host would.
    fn read(frame: &[u8]) -> Result<Message, Malformed> {
        let packet = Ipv6Slice::from_slice(&frame[14..]).unwrap();
        let header = packet.header();
        let (source, destination) = (header.source_addr().into(), header.destination_addr().into());
        parse(source, destination, header.hop_limit(), packet.payload().payload)
    }

    /// The frame with its checksum made right again.
    fn resealed(mut frame: Vec<u8>) -> Vec<u8> {
        let envelope = Envelope {
            source: Addr::v6(*frame[22..].first_chunk().unwrap()),
            destination: Addr::v6(*frame[38..].first_chunk().unwrap()),
            ..to_host()
        };
        let (kind, body) = (frame[54], frame[58..].to_vec());
        let code = frame[55];
        envelope.seal(&mut frame, kind, &[&body]);
        // seal writes code 0; another one is subtracted from the sum.
        frame[55] = code;
        let sum = u16::from_be_bytes([frame[56], frame[57]]).wrapping_sub(code.into());
        frame[56..58].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    #[test]
    fn a_solicitation_byte_by_byte() {
        let mut frame = vec![1, 2, 3];
        let target = addr("fd00::2");
        let envelope = Envelope::multicast(GATEWAY, addr("fd00::1"), solicited_node(target));
        neighbour_solicitation(&mut frame, &envelope, target);
        #[rustfmt::skip]
        let expected = [
            0x33, 0x33, 0xff, 0, 0, 2, 2, 0x42, 0, 0, 0, 1, 0x86, 0xdd,
            0x60, 0, 0, 0, 0, 32, 58, 255,
            0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
            0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 2,
            135, 0, 0x7d, 0x55, 0, 0, 0, 0,
            0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
            1, 1, 2, 0x42, 0, 0, 0, 1,
        ];
        assert_eq!(frame, expected);
        assert_eq!(read(&frame), Ok(Message::NeighbourSolicitation { target, mac: Some(GATEWAY) }));
        assert!(
            (0..32)
                .all(|len| parse(envelope.source, envelope.destination, 255, &frame[54..54 + len]).is_err())
        );
    }

    #[test]
    fn an_advertisement_reads_as_it_was_written() {
        for bits in 0..16u8 {
            let message = Advertisement {
                target: addr("fd00::1"),
                mac: (bits & 8 != 0).then_some(GATEWAY),
                router: bits & 1 != 0,
                solicited: bits & 2 != 0,
                overrides: bits & 4 != 0,
            };
            let mut frame = Vec::new();
            neighbour_advertisement(&mut frame, &to_host(), &message);
            assert_eq!(read(&frame), Ok(Message::NeighbourAdvertisement(message)));
            let to_all = Envelope::multicast(GATEWAY, addr("fd00::1"), ALL_NODES);
            neighbour_advertisement(&mut frame, &to_all, &message);
            assert_eq!(read(&frame).is_ok(), !message.solicited, "a solicited one is for one host");
        }
    }

    #[test]
    fn a_router_advertisement_byte_by_byte() {
        let prefixes = ["fd00:19::", "fd00:20::"].map(addr);
        let prefixes = [Prefix::new(prefixes[0], 64), Prefix::new(prefixes[1], 80)];
        let router = Router { lifetime: 1800, mtu: 1420, prefixes: &prefixes, autonomous: true };
        let envelope = Envelope::multicast(GATEWAY, link_local(GATEWAY), ALL_NODES);
        let mut frame = Vec::new();
        router_advertisement(&mut frame, &envelope, &router);
        #[rustfmt::skip]
        let message = [
            64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0,
            1, 1, 2, 0x42, 0, 0, 0, 1,
            5, 1, 0, 0, 0, 0, 0x05, 0x8c,
            3, 4, 64, 0xc0, 0, 0x27, 0x8d, 0, 0, 9, 0x3a, 0x80, 0, 0, 0, 0,
            0xfd, 0, 0, 0x19, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            // Autonomous addresses need 64 bits (RFC 4862 §5.5.3 d).
            3, 4, 80, 0x80, 0, 0x27, 0x8d, 0, 0, 9, 0x3a, 0x80, 0, 0, 0, 0,
            0xfd, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(frame[58..], message);
        assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 1]);
        assert_eq!(frame[22..38], addr("fe80::42:ff:fe00:1").v6_bytes());
        assert_eq!(read(&frame), Ok(Message::Other), "its sum is right");
        let many = vec![prefixes[0]; 1000];
        router_advertisement(&mut frame, &envelope, &Router { prefixes: &many, ..router });
        assert!(frame.len() - 14 <= 1280 && read(&frame).is_ok());
    }

    /// RFC 4861 §6.1.1, §7.1.1 and §7.1.2: what a message must be to be heard.
    #[test]
    fn what_is_not_sound_is_not_heard() {
        let mut frame = Vec::new();
        neighbour_solicitation(&mut frame, &to_host(), addr("fd00::2"));
        let change = |at: usize, bytes: &[u8]| {
            let mut changed = frame.clone();
            changed[at..at + bytes.len()].copy_from_slice(bytes);
            changed
        };
        let unspecified = |at| change(at, &[0; 16]);
        assert!(read(&resealed(frame.clone())).is_ok());
        assert!(read(&change(21, &[254])).is_err(), "hop limit");
        assert!(read(&change(60, &[1])).is_err(), "checksum");
        assert!(read(&resealed(change(55, &[1]))).is_err(), "code");
        assert!(read(&resealed(change(62, &[0xff]))).is_err(), "multicast target");
        assert!(read(&resealed(unspecified(62))).is_err(), "no target");
        assert!(read(&resealed(change(62, &addr("::ffff:10.0.0.1").v6_bytes()))).is_err(), "mapped target");
        assert!(read(&resealed(change(79, &[0]))).is_err(), "option of length zero");
        assert!(read(&resealed(change(79, &[2]))).is_err(), "option cut off");
        assert!(read(&resealed(unspecified(22))).is_err(), "a probe for duplicates with a MAC address");
        assert!(read(&resealed(frame[..frame.len() - 7].to_vec())).is_err(), "half an option");
        let mut probe = unspecified(22);
        probe.truncate(78);
        assert!(read(&resealed(probe.clone())).is_err(), "a probe for duplicates that is not for the group");
        probe[38..54].copy_from_slice(&solicited_node(addr("fd00::2")).v6_bytes());
        let target = addr("fd00::2");
        assert_eq!(read(&resealed(probe)), Ok(Message::NeighbourSolicitation { target, mac: None }));
    }

    #[test]
    fn a_router_solicitation() {
        let mut frame = Vec::new();
        let from = |source| Envelope::multicast(HOST, source, ALL_ROUTERS);
        let mac = mac_as_option(SOURCE_MAC, HOST);
        from(link_local(HOST)).seal(&mut frame, ROUTER_SOLICITATION, &[&[0; 4], &mac]);
        assert_eq!(read(&frame), Ok(Message::RouterSolicitation { mac: Some(HOST) }));
        from(Addr::UNSPECIFIED_V6).seal(&mut frame, ROUTER_SOLICITATION, &[&[0; 4]]);
        assert_eq!(read(&frame), Ok(Message::RouterSolicitation { mac: None }));
        from(Addr::UNSPECIFIED_V6).seal(&mut frame, ROUTER_SOLICITATION, &[&[0; 4], &mac]);
        assert!(read(&frame).is_err());
    }

    #[test]
    fn addresses_made_of_others() {
        assert_eq!(solicited_node(addr("fd00::12:3456:789a")), addr("ff02::1:ff56:789a"));
        assert_eq!(multicast_mac(addr("ff02::1:ff56:789a")), MacAddr([0x33, 0x33, 0xff, 0x56, 0x78, 0x9a]));
        assert_eq!(link_local(MacAddr([2, 0x42, 172, 17, 0, 1])), addr("fe80::42:acff:fe11:1"));
    }

    proptest! {
        #[test]
        fn etherparse_finds_our_checksums_right(macs: [[u8; 6]; 2], addrs: [[u8; 16]; 3], mtu: u32, lifetime: u16) {
            let [source, destination, target] = addrs.map(Addr::v6);
            let (source_mac, destination_mac) = (MacAddr(macs[0]), MacAddr(macs[1]));
            let envelope = Envelope { source_mac, destination_mac, source, destination };
            let mut frames = [const { Vec::new() }; 3];
            neighbour_solicitation(&mut frames[0], &envelope, target);
            let mac = Some(source_mac);
            let message = Advertisement { target, mac, router: true, solicited: true, overrides: false };
            neighbour_advertisement(&mut frames[1], &envelope, &message);
            let prefixes = [Prefix::new(source, 64)];
            let router = Router { lifetime, mtu, prefixes: &prefixes, autonomous: false };
            router_advertisement(&mut frames[2], &envelope, &router);
            for frame in &frames {
                SlicedPacket::from_ethernet(frame).unwrap();
                let packet = Ipv6Slice::from_slice(&frame[14..]).unwrap();
                let icmp = Icmpv6Slice::from_slice(packet.payload().payload).unwrap();
                prop_assert!(icmp.is_checksum_valid(addrs[0], addrs[1]));
            }
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, addrs: [[u8; 16]; 2], kind in 132u8..138) {
            let [source, destination] = addrs.map(Addr::v6);
            let mut frame = Vec::new();
            let envelope = Envelope { source, destination, ..to_host() };
            envelope.seal(&mut frame, kind, &[&bytes[..bytes.len().min(1000)]]);
            let _ = parse(source, destination, 255, &frame[54..]);
            let _ = parse(source, destination, 255, &bytes);
        }
    }
}
