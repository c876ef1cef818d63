//! Peers inside, who speak TCP as they please: mostly well enough to get far.
//!
//! A peer's byte at a place of its stream is always the same, whatever segments carry it; so is a server's.

use super::*;
use crate::wire::icmp;
use crate::wire::tcp::{PSH, RST, URG};

const MAX_PEERS: usize = 40;

/// One peer's view of a connection.
pub(super) struct Peer {
    ends: Ends,
    iss: u32,
    /// What the device has acknowledged, and behind what was ever sent.
    una: u32,
    max: u32,
    /// The device's first number, and the next that is expected.
    irs: Option<u32>,
    rcv: u32,
    /// Whether the device's bytes must be as servers say them.
    is_checked: bool,
}

/// The byte at this place of every stream.
pub(super) fn pattern(at: u32) -> u8 {
    (at ^ at >> 7 ^ at >> 15) as u8
}

const fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

impl Peer {
    fn data(&self, seq: u32, len: usize) -> Vec<u8> {
        let at = seq.wrapping_sub(self.iss).wrapping_sub(1);
        (0..len as u32).map(|step| pattern(at.wrapping_add(step))).collect()
    }

    fn sent(&mut self, end: u32) {
        if before(self.max, end) {
            self.max = end;
        }
    }
}

impl World {
    /// A peer opens a connection.
    pub(super) fn open(&mut self) {
        let to = match self.random.below(8) {
            0 => self.datagrams[self.random.below(4)],
            1 => {
                ["192.0.0.2:80", "198.51.100.1:80", "[2001:db8::1]:80"][self.random.below(3)].parse().unwrap()
            }
            _ => self.server(0, 2),
        };
        let inside = 1 + self.random.below(2) as u8;
        let (ends, iss) = (self.ends(to, inside), self.random.next() as u32);
        let (mss, shift) = (EDGES[self.random.below(EDGES.len())], self.random.below(16) as u8);
        let [high, low] = if self.random.below(2) == 0 { mss } else { 1460 }.to_be_bytes();
        let options: &[u8] = match self.random.below(4) {
            0 => &[],
            1 => &[2, 4, high, low],
            _ => &[2, 4, high, low, 1, 3, 3, shift],
        };
        let peer = Peer {
            ends,
            iss,
            una: iss.wrapping_add(1),
            max: iss.wrapping_add(1),
            irs: None,
            rcv: 0,
            is_checked: true,
        };
        self.add(peer);
        let syn = segment(&ends, SYN, (iss, 0), self.window(), options, &[]);
        let _ = self.hand(&packet(&ends, protocol::TCP, syn, 16, false), Offload::NONE);
    }

    fn add(&mut self, peer: Peer) {
        if self.peers.len() >= MAX_PEERS {
            let at = self.random.below(MAX_PEERS);
            self.peers.swap_remove(at);
        }
        self.peers.push(peer);
    }

    fn window(&mut self) -> u16 {
        match self.random.below(12) {
            0 => 0,
            1 => self.random.below(200) as u16,
            _ => 60_000,
        }
    }

    /// A peer says something.
    pub(super) fn peer_says(&mut self) {
        if self.peers.is_empty() {
            return;
        }
        let at = self.random.below(self.peers.len());
        let Peer { una, rcv, iss, .. } = self.peers[at];
        let some = self.random.below(3000) as u32;
        match self.random.below(32) {
            0..8 => self.say(at, ACK, (una, rcv), 0),
            8..14 => self.say(at, ACK | PSH, (una, rcv), some as usize),
            14 => self.say(at, ACK, (una.wrapping_add(some).wrapping_sub(1500), rcv), 2000),
            15 | 16 => self.super_frame(at),
            17 => self.say(at, ACK | FIN, (una, rcv), some as usize % 3 * 100),
            18 => self.say(at, [RST, RST | ACK][some as usize % 2], (una, rcv), 0),
            19 => self.say(at, RST, (una.wrapping_add(some), rcv), 0),
            20 => self.say(at, SYN, (iss, 0), 0),
            21 => (0..4).for_each(|_| self.say(at, ACK, (una, rcv), 0)),
            22 => self.say(at, ACK, (una, rcv.wrapping_add(some)), 10),
            23 => self.say(at, ACK, (una, rcv.wrapping_sub(some)), 10),
            24 => self.say(at, ACK, (una.wrapping_sub(1), rcv), some as usize % 2),
            25 => self.say(at, self.random.0 as u8 & !(SYN | FIN | RST) | URG, (una, rcv), 20),
            26 => self.say(at, some as u8 & (ACK | RST | PSH), (some, some), 0),
            27 => self.bad_checksum(at),
            28 => self.told(at),
            _ => self.say(at, ACK, (una, rcv), 1400),
        }
    }

    /// A segment with so many bytes of the peer's stream.
    fn say(&mut self, at: usize, flags: u8, (seq, ack): (u32, u32), len: usize) {
        let window = self.window();
        let options: &[u8] =
            [&[][..], &[][..], &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2], &[5, 255, 0, 0]][self.random.below(4)];
        let peer = &mut self.peers[at];
        let end = seq.wrapping_add(len as u32 + u32::from(flags & FIN != 0));
        peer.sent(end);
        let (ends, data) = (peer.ends, peer.data(seq, len));
        let bytes = segment(&ends, flags, (seq, ack), window, options, &data);
        let _ = self.hand(&packet(&ends, protocol::TCP, bytes, 16, false), Offload::NONE);
    }

    fn super_frame(&mut self, at: usize) {
        let len = 1 + self.random.below(62_000);
        let peer = &mut self.peers[at];
        peer.sent(peer.una.wrapping_add(len as u32));
        let (ends, data, numbers) = (peer.ends, peer.data(peer.una, len), (peer.una, peer.rcv));
        let bytes = segment(&ends, ACK, numbers, 60_000, &[], &data);
        let gso = if ends.source.version() == Version::V4 { 1 } else { 4 };
        let offload = self.burst(&ends, gso, 16);
        let _ = self.hand(&packet(&ends, protocol::TCP, bytes, 16, true), offload);
    }

    fn bad_checksum(&mut self, at: usize) {
        let Peer { ends, una, rcv, .. } = self.peers[at];
        let mut bytes =
            packet(&ends, protocol::TCP, segment(&ends, ACK, (una, rcv), 9, &[], b"no"), 16, false);
        *bytes.last_mut().unwrap() ^= 0x10;
        assert_eq!(self.hand(&bytes, Offload::NONE), Err(DeviceError::Unsupported));
    }

    /// A router inside says that the device's segments are too long, or nobody is there.
    fn told(&mut self, at: usize) {
        let ends = self.peers[at].ends;
        let back = Ends {
            source: ends.destination,
            destination: ends.source,
            source_port: ends.destination_port,
            destination_port: ends.source_port,
        };
        let v4 = ends.source.version() == Version::V4;
        let quoted = packet(&back, protocol::TCP, segment(&back, ACK, (1, 1), 1, &[], &[]), 16, false);
        let mtu = EDGES[self.random.below(EDGES.len())].to_be_bytes();
        let kind = match (v4, self.random.below(4)) {
            (true, 0) => [3, 1],
            (true, _) => [3, 4],
            (false, 0) => [1, 0],
            (false, _) => [2, 0],
        };
        let message = [&[kind[0], kind[1], 0, 0, 0, 0, mtu[0], mtu[1]][..], &quoted[14..]].concat();
        let protocol = if v4 { protocol::ICMP } else { protocol::ICMPV6 };
        let _ = self.hand(&packet(&ends, protocol, message, icmp::CHECKSUM, false), Offload::NONE);
    }

    /// Everybody inside hears a frame that came out; what it was.
    pub(super) fn heard(&mut self, bytes: &[u8], offload: &Offload) -> &'static str {
        let header = ethernet::Header::parse(bytes).unwrap();
        let Some(version) = header.ip_version() else { return "other" };
        let packet = Packet::parse(bytes, header.payload, version, offload).unwrap();
        let tcp = match packet.payload {
            Transport::Tcp(tcp) => tcp,
            Transport::Udp(_) => return "datagram",
            _ => return "icmp",
        };
        let ends = Ends {
            source: packet.source,
            destination: packet.destination,
            source_port: tcp.source,
            destination_port: tcp.destination,
        };
        let payload = &bytes[packet.transport + usize::from(tcp.header_len)..packet.end];
        let at = self.peers.iter().position(|peer| peer.ends == ends);
        if tcp.flags & (SYN | ACK | RST) == SYN {
            return self.called(ends, tcp.seq, at);
        }
        if let Some(at) = at {
            self.hears(at, &tcp, payload);
        }
        match tcp.flags {
            flags if flags & RST != 0 => "reset",
            flags if flags & SYN != 0 => "answer",
            flags if flags & FIN != 0 => "fin",
            _ if !payload.is_empty() => "data",
            _ => "ack",
        }
    }

    /// A peer is called, and answers as it likes.
    fn called(&mut self, ends: Ends, seq: u32, at: Option<usize>) -> &'static str {
        let known = at.filter(|at| self.peers[*at].irs == Some(seq));
        let at = known.unwrap_or_else(|| {
            if let Some(at) = at {
                self.peers.swap_remove(at);
            }
            let iss = self.random.next() as u32;
            let next = iss.wrapping_add(1);
            // The proxy's callers say a greeting of their own first.
            let is_checked = ends.destination != addr("10.0.0.7");
            let (irs, rcv) = (Some(seq), seq.wrapping_add(1));
            self.add(Peer { ends, iss, una: next, max: next, irs, rcv, is_checked });
            self.peers.len() - 1
        });
        let Peer { iss, rcv, .. } = self.peers[at];
        match self.random.below(8) {
            0 => {}
            1 => self.say(at, RST | ACK, (0, rcv), 0),
            2 => self.say(at, ACK, (iss, rcv.wrapping_add(9)), 0),
            _ => {
                let answer = segment(&ends, SYN | ACK, (iss, rcv), self.window(), &[1, 3, 3, 4], &[]);
                let _ = self.hand(&packet(&ends, protocol::TCP, answer, 16, false), Offload::NONE);
            }
        }
        "call"
    }

    fn hears(&mut self, at: usize, tcp: &crate::wire::tcp::Tcp, payload: &[u8]) {
        let peer = &mut self.peers[at];
        if tcp.flags & RST != 0 {
            // Some do not mind.
            if self.random.below(2) == 0 {
                self.peers.swap_remove(at);
            }
            return;
        }
        assert!(!before(peer.max, tcp.ack), "what was not sent is acknowledged");
        if tcp.flags & SYN != 0 {
            (peer.irs, peer.rcv) = (Some(tcp.seq), tcp.seq.wrapping_add(1));
        } else if let Some(irs) = peer.irs {
            let from = tcp.seq.wrapping_sub(irs).wrapping_sub(1);
            if peer.is_checked && !payload.is_empty() {
                let expected: Vec<u8> =
                    (0..payload.len() as u32).map(|step| pattern(from.wrapping_add(step))).collect();
                assert!(payload == expected, "at {from} comes what was not sent");
            }
            if tcp.seq == peer.rcv {
                let len = payload.len() as u32 + u32::from(tcp.flags & FIN != 0);
                peer.rcv = peer.rcv.wrapping_add(len);
            }
        }
        peer.una = tcp.ack;
        let (una, rcv) = (peer.una, peer.rcv);
        if self.random.below(3) != 0 && (!payload.is_empty() || tcp.flags & (FIN | SYN) != 0) {
            self.say(at, ACK, (una, rcv), 0);
        }
    }
}
