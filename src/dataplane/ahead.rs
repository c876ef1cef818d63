//! Looking ahead at a burst of frames.
//!
//! In a table of a million flows every packet's flow is in memory that no cache holds, and so is the way
//! there: entry of the index, then flow, each some hundred nanoseconds away. One frame after the other would
//! wait for each in turn. Looked at all together, before the first is switched, they are waited for together.
//!
//! This only reads. It decides nothing, and guesses: a packet that is not as most are is passed over, and who
//! never looks ahead gets the same frames out.

use super::conntrack::Tuple;
use super::{Frame, Switch};
use crate::wire::ethernet;
use crate::wire::ip::{Addr, protocol};

/// Frames that are looked at together.
const TOGETHER: usize = 32;
/// With fewer flows the caches hold them all.
const MANY: u32 = 4096;

impl Switch {
    /// Brings near what these frames will need, when they come next and are many.
    pub fn look_ahead(&self, frames: &[Frame]) {
        if self.conntrack.len() < MANY {
            return;
        }
        for frames in frames.chunks(TOGETHER) {
            let mut slots = [None; TOGETHER];
            for (slot, frame) in slots.iter_mut().zip(frames) {
                *slot = guess(frame.bytes()).and_then(|tuple| self.conntrack.guess(&tuple));
            }
            slots.iter().flatten().for_each(|slot| self.conntrack.touch(*slot));
        }
    }
}

/// The tuple of a packet without options, of a protocol with ports.
#[inline]
fn guess(frame: &[u8]) -> Option<Tuple> {
    let port = |bytes: &[u8; 4], at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let (_, rest) = frame.split_first_chunk::<12>()?;
    let (ethertype, rest) = rest.split_first_chunk()?;
    let (source, destination, next, rest) = match u16::from_be_bytes(*ethertype) {
        ethernet::IPV4 => {
            let ([0x45, _, _, _, _, _, _, _, _, next, _, _], rest) = rest.split_first_chunk()? else {
                return None;
            };
            let ((source, rest), next) = (rest.split_first_chunk()?, *next);
            let (destination, rest) = rest.split_first_chunk()?;
            (Addr::v4(*source), Addr::v4(*destination), next, rest)
        }
        ethernet::IPV6 => {
            let ([_, _, _, _, _, _, next, _], rest) = rest.split_first_chunk()?;
            let ((source, rest), next) = (rest.split_first_chunk()?, *next);
            let (destination, rest) = rest.split_first_chunk()?;
            (Addr::v6(*source), Addr::v6(*destination), next, rest)
        }
        _ => return None,
    };
    let ports = rest.first_chunk()?;
    let (source_port, destination_port) = (port(ports, 0), port(ports, 2));
    matches!(next, protocol::TCP | protocol::UDP).then_some(Tuple {
        source,
        destination,
        source_port,
        destination_port,
        protocol: next,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::router::tuple_of;
    use crate::wire::Offload;
    use crate::wire::ethernet::HEADER_LEN;
    use crate::wire::packet::Packet;
    use etherparse::PacketBuilder;

    #[test]
    fn the_guess_is_the_tuple_that_the_router_finds() {
        let link = || PacketBuilder::ethernet2([2; 6], [4; 6]);
        let packets = [
            link().ipv4([10, 1, 2, 3], [10, 4, 5, 6], 64).udp(1234, 53),
            link().ipv6([1; 16], [2; 16], 64).udp(1234, 53),
        ];
        for builder in packets {
            let mut bytes = Vec::new();
            builder.write(&mut bytes, b"what").unwrap();
            let version = ethernet::Header::parse(&bytes).unwrap().ip_version().unwrap();
            let packet = Packet::parse(&bytes, HEADER_LEN, version, &Offload::NONE).unwrap();
            assert_eq!(guess(&bytes), Some(tuple_of(&packet)));
            assert_eq!(guess(&bytes[..HEADER_LEN + 20]), None);
        }
        assert_eq!(guess(&[0; 64]), None);
    }
}
