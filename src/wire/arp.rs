//! ARP for IPv4 over Ethernet (RFC 826).

use super::ethernet;
use super::ip::Addr;
use super::{MacAddr, Malformed};

/// Bytes of a packet for Ethernet and IPv4.
pub const LEN: usize = 28;
/// Bytes of a frame with such a packet and no padding.
pub const FRAME_LEN: usize = ethernet::HEADER_LEN + LEN;

/// What every packet for Ethernet and IPv4 begins with: hardware type 1, protocol 0x0800, lengths 6 and 4.
const FIXED: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
}

/// A packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// Request or reply.
    pub operation: Operation,
    /// Whose packet this is.
    pub sender_mac: MacAddr,
    /// The sender's IPv4 address; 0.0.0.0 in a probe (RFC 5227 §1.1).
    pub sender: Addr,
    /// In a reply, whom it is for; of no meaning in a request.
    pub target_mac: MacAddr,
    /// The address asked for, or in a reply that of who asked.
    pub target: Addr,
}

impl Arp {
    /// Reads a packet; what lies behind it is padding.
    ///
    /// # Errors
    /// [`Malformed`] when it is cut off, not for Ethernet and IPv4, or neither request nor reply.
    pub fn parse(packet: &[u8]) -> Result<Self, Malformed> {
        const BAD: Malformed = Malformed("arp");
        let (packet, _) = packet.split_first_chunk::<LEN>().ok_or(BAD)?;
        let [f0, f1, f2, f3, f4, f5, o0, o1, rest @ ..] = *packet;
        if [f0, f1, f2, f3, f4, f5] != FIXED {
            return Err(BAD);
        }
        let operation = match u16::from_be_bytes([o0, o1]) {
            1 => Operation::Request,
            2 => Operation::Reply,
            _ => return Err(BAD),
        };
        let [a, b, c, d, e, f, s0, s1, s2, s3, u, v, w, x, y, z, t0, t1, t2, t3] = rest;
        Ok(Self {
            operation,
            sender_mac: MacAddr([a, b, c, d, e, f]),
            sender: Addr::v4([s0, s1, s2, s3]),
            target_mac: MacAddr([u, v, w, x, y, z]),
            target: Addr::v4([t0, t1, t2, t3]),
        })
    }

    /// The packet in a frame from its sender's MAC address to another.
    pub fn frame(&self, to: MacAddr) -> [u8; FRAME_LEN] {
        let operation = match self.operation {
            Operation::Request => 1u16,
            Operation::Reply => 2,
        };
        let fields: [&[u8]; 9] = [
            &to.0,
            &self.sender_mac.0,
            &ethernet::ARP.to_be_bytes(),
            &FIXED,
            &operation.to_be_bytes(),
            &self.sender_mac.0,
            &self.sender.v4_bytes(),
            &self.target_mac.0,
            &self.target.v4_bytes(),
        ];
        let mut frame = [0; FRAME_LEN];
        frame.iter_mut().zip(fields.into_iter().flatten()).for_each(|(to, from)| *to = *from);
        frame
    }

    /// The answer that `mac` has the address which this request asks for.
    #[must_use]
    pub fn reply(&self, mac: MacAddr) -> Self {
        Self {
            operation: Operation::Reply,
            sender_mac: mac,
            sender: self.target,
            target_mac: self.sender_mac,
            target: self.sender,
        }
    }

    /// Whether the sender announces its own address (RFC 5227 §1.1): a gratuitous packet.
    pub fn is_announcement(&self) -> bool {
        self.sender == self.target && !self.sender.is_unspecified()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{ArpEthIpv4Packet, ArpOperation, ArpPacketSlice};
    use proptest::prelude::*;

    const ASK: Arp = Arp {
        operation: Operation::Request,
        sender_mac: MacAddr([2, 0x42, 172, 17, 0, 2]),
        sender: Addr::v4([172, 17, 0, 2]),
        target_mac: MacAddr::ZERO,
        target: Addr::v4([172, 17, 0, 1]),
    };

    #[test]
    fn a_request_byte_by_byte() {
        #[rustfmt::skip]
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0x42, 172, 17, 0, 2, 8, 6,
            0, 1, 8, 0, 6, 4, 0, 1,
            2, 0x42, 172, 17, 0, 2, 172, 17, 0, 2,
            0, 0, 0, 0, 0, 0, 172, 17, 0, 1,
        ];
        assert_eq!(ASK.frame(MacAddr::BROADCAST), expected);
        assert_eq!(Arp::parse(&expected[14..]), Ok(ASK));
        assert!((0..LEN).all(|len| Arp::parse(&expected[14..14 + len]).is_err()));
    }

    #[test]
    fn a_reply_turns_the_request_round() {
        let reply = ASK.reply(MacAddr([2; 6]));
        assert_eq!((reply.sender, reply.sender_mac), (ASK.target, MacAddr([2; 6])));
        assert_eq!((reply.target, reply.target_mac), (ASK.sender, ASK.sender_mac));
        assert_eq!(reply.operation, Operation::Reply);
        assert!(!ASK.is_announcement() && Arp { target: ASK.sender, ..ASK }.is_announcement());
    }

    #[test]
    fn other_hardware_protocols_lengths_and_operations_are_refused() {
        let good = ASK.frame(MacAddr::BROADCAST);
        for at in 14..22 {
            let mut bad = good;
            bad[at] ^= 0x10;
            assert!(Arp::parse(&bad[14..]).is_err(), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn etherparse_reads_what_we_write(macs: [[u8; 6]; 2], addrs: [[u8; 4]; 2], asks: bool, pad in 0usize..20) {
            let (operation, theirs) = if asks {
                (Operation::Request, ArpOperation::REQUEST)
            } else {
                (Operation::Reply, ArpOperation::REPLY)
            };
            let arp = Arp {
                operation,
                sender_mac: MacAddr(macs[0]),
                sender: Addr::v4(addrs[0]),
                target_mac: MacAddr(macs[1]),
                target: Addr::v4(addrs[1]),
            };
            let mut frame = arp.frame(MacAddr(macs[1])).to_vec();
            frame.resize(frame.len() + pad, 0xaa);
            prop_assert_eq!(Arp::parse(&frame[14..]), Ok(arp));
            let read = ArpPacketSlice::from_slice(&frame[14..]).unwrap().to_packet();
            let expected = ArpEthIpv4Packet {
                operation: theirs,
                sender_mac: macs[0],
                sender_ipv4: addrs[0],
                target_mac: macs[1],
                target_ipv4: addrs[1],
            };
            prop_assert_eq!(read.try_eth_ipv4().unwrap(), expected);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Arp::parse(&bytes);
        }
    }
}
