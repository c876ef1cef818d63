//! Packets that nobody should send, into the whole device, while real servers on the loopback talk, dawdle and
//! hang up, and time jumps. No panic; what arrives anywhere is what was sent; every frame that comes out is right;
//! what is counted is there, and in the end nothing is. `TAPSWITCH_FUZZ_ITERATIONS` says how many (default: a few
//! seconds' worth). Nothing leaves the host: all but the servers' own addresses is forbidden.

mod peers;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use socket2::SockRef;

use super::tests::{OWN, SWITCH, addr, only, packet, read, segment, udp};
use super::*;
use crate::control::ports::Protocol;
use crate::wire::Offload;
use crate::wire::arp::{Arp, Operation};
use crate::wire::ip::{Addr, Prefix, Version};
use crate::wire::ndp::{self, Envelope};
use crate::wire::segment::complete;
use crate::wire::tcp::{ACK, FIN, SYN};
use peers::{Peer, pattern};

const DEFAULT_ITERATIONS: u64 = 12_000;
/// With fewer, not everything may be reached.
const ENOUGH: u64 = 10_000;
/// Sockets of one port of the switch.
const LIMIT: u32 = 30;
const PORTS: [u32; 2] = [1, 2];
const MAX_STREAMS: usize = 100;
const MAX_CALLERS: usize = 12;
/// Bytes at which lengths and offsets break.
const EDGES: [u16; 9] = [0, 1, 7, 20, 40, 0x7fff, 0x8000, 0xfffe, 0xffff];

/// Numbers that look random (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`, which is not zero.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// One end of a connection outside, and how far it has come.
struct Stream {
    stream: TcpStream,
    said: u32,
    heard: u32,
    /// Whether what it hears must be as peers say it.
    is_checked: bool,
}

/// The device, who is inside, and who is outside.
struct World {
    device: UserDevice,
    handle: Handle,
    random: Random,
    frame: Frame,
    /// Of IPv4 and of IPv6: for peers, and for those who bend packets.
    listeners: Vec<(TcpListener, bool)>,
    /// Two that answer and two that refuse, and where they are; nobody listens for connections there.
    udp: Vec<UdpSocket>,
    datagrams: Vec<SocketAddr>,
    published: Vec<Listener>,
    proxy: SocketAddr,
    streams: Vec<Stream>,
    callers: Vec<Stream>,
    peers: Vec<Peer>,
    next_port: u16,
    handed: u64,
    taken: u64,
    refused: BTreeMap<String, u64>,
    out: BTreeMap<&'static str, u64>,
}

const LOOPBACKS: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];

fn publish(handle: &Handle) -> Vec<Listener> {
    let all = [Protocol::Tcp, Protocol::Udp].into_iter().flat_map(|protocol| {
        LOOPBACKS.map(|address| {
            let address: SocketAddr = address.parse().unwrap();
            let listener = Listener { protocol, address: address.ip(), port: 0 };
            let socket = bind(&listener).unwrap();
            let port = socket.local_addr().unwrap().as_socket().unwrap().port();
            (Listener { port, ..listener }, socket)
        })
    });
    let all: Vec<_> = all.collect();
    let listeners = all.iter().map(|(listener, _)| *listener).collect();
    handle.listen(all);
    listeners
}

fn serve_proxy(handle: &Handle) -> SocketAddr {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    proxy.set_nonblocking(true).unwrap();
    let address = proxy.local_addr().unwrap();
    let directory = Directory { prefixes: vec![Prefix::new(addr("10.0.0.7"), 32)], ..Directory::default() };
    handle.proxy(1, Socket::from(proxy), directory);
    address
}

impl World {
    fn new(seed: u64) -> Self {
        let listen = |address: &str| {
            let listener = TcpListener::bind(address).unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        };
        let udp: Vec<_> = (0..4)
            .map(|at| {
                let socket = UdpSocket::bind(LOOPBACKS[at % 2]).unwrap();
                socket.set_nonblocking(true).unwrap();
                // Who listens to one alone refuses all others.
                if at >= 2 {
                    socket.connect(socket.local_addr().unwrap()).unwrap();
                }
                socket
            })
            .collect();
        let datagrams: Vec<_> = udp.iter().map(|socket| socket.local_addr().unwrap()).collect();
        let listeners: Vec<_> = [true, false]
            .into_iter()
            .flat_map(|checked| LOOPBACKS.map(|address| (listen(address), checked)))
            .collect();
        let mut reachable: Vec<SocketAddr> = LOOPBACKS.map(|address| address.parse().unwrap()).to_vec();
        reachable.extend(listeners.iter().map(|(listener, _)| listener.local_addr().unwrap()));
        reachable.extend(&datagrams);
        let (mut device, handle) = UserDevice::new(OWN, SWITCH, only(reachable), seed).unwrap();
        device.shared.limit = LIMIT;
        let (published, proxy) = (publish(&handle), serve_proxy(&handle));
        Self {
            device,
            handle,
            random: Random(seed),
            frame: Frame::new(),
            listeners,
            udp,
            datagrams,
            published,
            proxy,
            streams: Vec::new(),
            callers: Vec::new(),
            peers: Vec::new(),
            next_port: 1024,
            handed: 0,
            taken: 0,
            refused: BTreeMap::new(),
            out: BTreeMap::new(),
        }
    }

    /// Hands a packet to the device, as the switch does.
    fn hand(&mut self, bytes: &[u8], offload: Offload) -> Result<(), DeviceError> {
        self.frame.set(bytes, offload);
        let port = PORTS[self.random.below(PORTS.len())];
        self.device.serves(Some(PortId(port)));
        let sent = self.device.send(&mut self.frame);
        // A turn sends several frames, sometimes.
        let ends_turn = self.random.below(3) > 0;
        if ends_turn {
            self.device.flush();
        }
        self.handed += 1;
        match sent {
            Ok(()) => self.taken += 1,
            Err(error) => *self.refused.entry(format!("{error:?}")).or_default() += 1,
        }
        if ends_turn && !self.device.has_frames() && self.deadline().is_some() {
            assert!(self.device.armed.is_some() || self.deadline() <= Some(self.device.shared.now()));
        }
        sent
    }

    fn deadline(&self) -> Option<Instant> {
        let device = &self.device;
        let flows = [
            device.tcp.next_deadline(),
            device.udp.sockets.next_deadline(),
            device.echo.sockets.next_deadline(),
        ];
        flows.into_iter().flatten().min()
    }

    /// Reads so many frames at most; whether there were fewer.
    fn drain(&mut self, most: usize) -> bool {
        self.device.flush();
        for _ in 0..most {
            if read(&mut self.device, &mut self.frame) == Received::Empty {
                return true;
            }
            check(&self.frame);
            let (bytes, offload) = (self.frame.bytes().to_vec(), self.frame.offload);
            let name = self.heard(&bytes, &offload);
            *self.out.entry(name).or_default() += 1;
        }
        false
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..6 => self.open(),
            6..50 => self.peer_says(),
            50..60 => self.bent(),
            60..68 => self.datagram(),
            68..72 => self.query(),
            72..74 => self.link(),
            74..92 => self.outside(),
            92..94 => self.call(),
            94 => self.time_jumps(),
            _ => {
                let most = self.random.below(200);
                self.drain(most);
            }
        }
        let most = self.random.below(4);
        self.drain(most);
    }

    fn time_jumps(&mut self) {
        let by = [1, 50, 300, 1_000, 20_000, 130_000][self.random.below(6)];
        self.jump(Duration::from_millis(by));
    }

    fn jump(&mut self, by: Duration) {
        self.device.shared.clock = self.device.shared.clock.checked_sub(by).unwrap();
        let soon = Expiration::OneShot(TimeSpec::from_duration(Duration::from_nanos(1)));
        self.device.timer.set(soon, TimerSetTimeFlags::empty()).unwrap();
    }

    fn server(&mut self, from: usize, of: usize) -> SocketAddr {
        let at = from + self.random.below(of);
        self.listeners[at].0.local_addr().unwrap()
    }

    fn ends(&mut self, server: SocketAddr, inside: u8) -> Ends {
        let destination = match server {
            SocketAddr::V4(_) => Addr::v4([10, 0, 0, inside]),
            SocketAddr::V6(_) => addr(&format!("fd00:1::{inside}")),
        };
        self.next_port = self.next_port.wrapping_add(1).max(1024);
        Ends {
            source: server.ip().into(),
            source_port: server.port(),
            destination,
            destination_port: self.next_port,
        }
    }

    /// UDP, whole or in bursts, to who answers, who does not, and where nothing may go.
    fn datagram(&mut self) {
        let at = self.random.below(4);
        let mut to = self.datagrams[at];
        if self.random.below(8) == 0 {
            to = ["192.0.0.2:7", "198.51.100.1:7", "[2001:db8::1]:7"][self.random.below(3)].parse().unwrap();
        }
        let mut ends = self.ends(to, 3);
        if self.random.below(4) != 0 {
            ends.destination_port = 1000 + self.random.below(20) as u16;
        }
        let len = [0, 1, 20, 1400, 9000, 60_000][self.random.below(6)];
        let data = vec![7; len];
        if self.random.below(3) != 0 {
            let _ = self.hand(&udp(&ends, &data), Offload::NONE);
            return;
        }
        let mut bytes = [ends.destination_port.to_be_bytes(), ends.source_port.to_be_bytes()].concat();
        bytes.extend([(8 + len as u16).to_be_bytes(), [0; 2]].concat());
        bytes.extend(data);
        let offload = self.burst(&ends, 5, 6);
        let _ = self.hand(&packet(&ends, protocol::UDP, bytes, 6, true), offload);
    }

    /// The offload header of a super-frame, which may lie about what nobody needs.
    fn burst(&mut self, ends: &Ends, gso_type: u8, csum_offset: u16) -> Offload {
        let gso_size = EDGES[1 + self.random.below(EDGES.len() - 1)].min(1400);
        let hdr_len = EDGES[self.random.below(EDGES.len())];
        Offload { flags: 1, gso_type, hdr_len, gso_size, csum_start: ends.network_len() as u16, csum_offset }
    }

    /// Pings, to the host and to the far end.
    fn query(&mut self) {
        let to =
            ["127.0.0.1:0", "[::1]:0", "192.0.0.2:0", "[fd00::2]:0", "198.51.100.1:0"][self.random.below(5)];
        let ends = self.ends(to.parse().unwrap(), 4);
        let v4 = ends.source.version() == Version::V4;
        let kind = [if v4 { 8 } else { 128 }, 13, 0][self.random.below(16).saturating_sub(13).min(2)];
        let mut message = vec![kind, 0, 0, 0];
        message.extend([(self.random.below(6) as u16).to_be_bytes(), [0, 1]].concat());
        message.resize(8 + [0, 56, 3000][self.random.below(3)], 9);
        let protocol = if v4 { protocol::ICMP } else { protocol::ICMPV6 };
        let _ = self.hand(&packet(&ends, protocol, message, 2, false), Offload::NONE);
    }

    /// What is asked on a link.
    fn link(&mut self) {
        let target = addr(["192.0.0.2", "10.9.9.9", "fd00::2", "2001:db8::7"][self.random.below(4)]);
        if target.version() == Version::V4 {
            let arp = Arp {
                operation: Operation::Request,
                sender_mac: SWITCH,
                sender: Addr::v4([192, 0, 0, 1]),
                target_mac: MacAddr::ZERO,
                target,
            };
            let _ = self.hand(&arp.frame(MacAddr::BROADCAST), Offload::NONE);
        } else {
            let mut frame = Vec::new();
            let envelope = Envelope::multicast(SWITCH, addr("fd00::1"), ndp::solicited_node(target));
            ndp::neighbour_solicitation(&mut frame, &envelope, target);
            let _ = self.hand(&frame, Offload::NONE);
        }
    }

    /// A packet that made sense once.
    fn bent(&mut self) {
        let to = self.server(2, 2);
        let mut ends = self.ends(to, 9);
        ends.destination_port = 2000 + self.random.below(8) as u16;
        let numbers = (self.random.below(3) as u32, self.random.next() as u32);
        let flags = [SYN, ACK, ACK | FIN, self.random.next() as u8][self.random.below(4)];
        let options: &[u8] =
            [&[][..], &[2, 4, 5, 180, 1, 3, 3, 7], &[2, 0, 9, 200], &[3, 3, 255, 0]][self.random.below(4)];
        let data = vec![1; [0, 10, 3000][self.random.below(3)]];
        let partial = self.random.below(2) == 0;
        let whole = segment(&ends, flags, numbers, self.random.next() as u16, options, &data);
        let mut bytes = packet(&ends, protocol::TCP, whole, 16, partial);
        let gso = if to.is_ipv4() { 1 } else { 4 };
        let mut offload = if partial { self.burst(&ends, gso, 16).encode() } else { Offload::NONE.encode() };
        for _ in 0..self.random.below(4) {
            let reach = if self.random.below(2) == 0 { 80 } else { usize::MAX };
            let at = self.random.below(bytes.len().min(reach).max(1));
            match self.random.below(5) {
                0 => bytes.truncate(at),
                1 => bytes.extend_from_within(..at),
                2 => bytes[at..]
                    .iter_mut()
                    .zip(EDGES[at % EDGES.len()].to_be_bytes())
                    .for_each(|(b, e)| *b = e),
                3 => offload[at % 10] = self.random.next() as u8,
                _ => bytes[at] ^= 1 << self.random.below(8),
            }
            if bytes.is_empty() {
                return;
            }
        }
        self.mend(&mut bytes);
        let offload = Offload::decode(&offload);
        if !self.meets_a_peer(&bytes, &offload) {
            let _ = self.hand(&bytes, offload);
        }
    }

    /// Puts an IPv4 header's length and checksum right, mostly.
    fn mend(&mut self, bytes: &mut [u8]) {
        if self.random.below(8) == 0 || bytes.len() < 34 || bytes[12..15] != [8, 0, 0x45] {
            return;
        }
        let len = (bytes.len() - 14).min(65_535) as u16;
        bytes[16..18].copy_from_slice(&len.to_be_bytes());
        if let Ok((header, _)) = etherparse::Ipv4Header::from_slice(&bytes[14..34]) {
            bytes[24..26].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
        }
    }

    /// Whether a packet is for those whose bytes are looked at.
    fn meets_a_peer(&self, bytes: &[u8], offload: &Offload) -> bool {
        let Ok(header) = ethernet::Header::parse(bytes) else { return false };
        let Some(version) = header.ip_version() else { return false };
        let packet = Packet::parse(bytes, header.payload, version, offload);
        let Some((_, port)) = packet.ok().and_then(|packet| packet.ports()) else { return false };
        self.listeners.iter().any(|(it, checked)| *checked && it.local_addr().unwrap().port() == port)
            || self.published.iter().any(|listener| listener.port == port)
    }

    /// Servers accept, say, hear and hang up.
    fn outside(&mut self) {
        for (listener, is_checked) in &self.listeners {
            if self.streams.len() < MAX_STREAMS
                && let Ok((stream, _)) = listener.accept()
            {
                stream.set_nonblocking(true).unwrap();
                self.streams.push(Stream { stream, said: 0, heard: 0, is_checked: *is_checked });
            }
        }
        let mut datagram = [0; 65_536];
        for socket in &self.udp {
            while let Ok((len, from)) = socket.recv_from(&mut datagram) {
                for _ in 0..self.random.below(3) {
                    let _ = socket.send_to(&datagram[..len], from);
                }
            }
        }
        let callers = self.random.below(3) == 0;
        let streams = if callers { &mut self.callers } else { &mut self.streams };
        if !streams.is_empty() {
            let at = self.random.below(streams.len());
            if !streams[at].turn(&mut self.random) {
                streams.swap_remove(at);
            }
        }
    }

    /// Somebody outside calls what is published, or the proxy.
    fn call(&mut self) {
        let at = self.random.below(self.published.len() + 2);
        let (to, protocol) = match self.published.get(at) {
            Some(listener) => (SocketAddr::new(listener.address, listener.port), listener.protocol),
            None => (self.proxy, Protocol::Tcp),
        };
        if protocol == Protocol::Udp {
            let _ = self.udp[usize::from(to.is_ipv6())].send_to(b"who is there", to);
            return;
        }
        if self.callers.len() >= MAX_CALLERS {
            self.callers.remove(0);
        }
        let mut stream = TcpStream::connect(to).unwrap();
        stream.set_nonblocking(true).unwrap();
        let is_checked = to != self.proxy;
        if !is_checked {
            let port = self.random.below(4) as u8;
            let greeting = [5, 1, 0, 5, 1, 0, 1, 10, 0, 0, 7, 0, port];
            let _ = stream.write(&greeting[..self.random.below(14)]);
        }
        self.callers.push(Stream { stream, said: 0, heard: 0, is_checked });
    }

    /// What the device counts is what there is.
    fn audit(&self) {
        let (device, mut owned) = (&self.device, BTreeMap::<u32, u32>::new());
        let sockets =
            [device.udp.sockets.owners(), device.echo.sockets.owners(), device.tcp.audit()].concat();
        sockets.into_iter().flatten().for_each(|port| *owned.entry(port.0).or_default() += 1);
        let counted: BTreeMap<u32, u32> = device.shared.owned.iter().map(|(port, n)| (port.0, *n)).collect();
        assert_eq!(owned, counted);
        assert!(counted.values().all(|count| *count <= LIMIT));
        assert!(device.shared.replies.len() <= MAX_REPLIES && device.shared.spare.len() <= EVENTS);
        assert_eq!(self.handed, self.taken + self.refused.values().sum::<u64>());
    }

    /// Everybody outside goes, nobody inside speaks, and time passes.
    fn end(mut self) -> (BTreeMap<String, u64>, BTreeMap<&'static str, u64>) {
        self.handle.unproxy(1);
        let (done, _is_done) = crossbeam_channel::bounded(1);
        self.handle.tell(Command::Unlisten(std::mem::take(&mut self.published), done));
        (self.listeners, self.streams, self.callers) = (Vec::new(), Vec::new(), Vec::new());
        let patience = std::time::Instant::now();
        loop {
            self.jump(Duration::from_secs(150));
            while !self.drain(1000) {}
            self.audit();
            let device = &self.device;
            let left = device.tcp.audit().len()
                + device.udp.sockets.owners().len()
                + device.echo.sockets.owners().len();
            if left == 0 && device.proxies.next_deadline().is_none() {
                break;
            }
            assert!(
                patience.elapsed() < Duration::from_secs(20),
                "{left} flows do not end: {:?}",
                device.tcp
            );
        }
        // What is left is on the way out of tables that only time empties.
        self.jump(Duration::from_secs(1000));
        while !self.drain(1000) {}
        assert!(self.device.shared.owned.is_empty());
        assert_eq!(self.deadline(), None);
        (self.refused, self.out)
    }
}

impl Stream {
    /// Says or hears something, or hangs up; false when it has gone.
    fn turn(&mut self, random: &mut Random) -> bool {
        match random.below(24) {
            0 => drop(self.stream.shutdown(std::net::Shutdown::Write)),
            1 => return false,
            2 => {
                let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
                return false;
            }
            3..12 => {
                let len = [1, 100, 5000, 200_000][random.below(4)];
                let bytes: Vec<u8> = (self.said..self.said + len).map(pattern).collect();
                self.said += self.stream.write(&bytes).unwrap_or(0) as u32;
            }
            _ => {
                let mut bytes = vec![0; [1, 1000, 100_000][random.below(3)]];
                match self.stream.read(&mut bytes) {
                    Ok(len) if self.is_checked => {
                        let expected: Vec<u8> = (self.heard..).take(len).map(pattern).collect();
                        assert!(bytes[..len] == expected, "at {} arrives what was not sent", self.heard);
                        self.heard += len as u32;
                    }
                    Err(error) if error.kind() != ErrorKind::WouldBlock => return false,
                    _ => {}
                }
            }
        }
        true
    }
}

/// A second opinion about a frame that came out: each frame that it would be on a wire.
fn check(frame: &Frame) {
    let header = ethernet::Header::parse(frame.bytes()).unwrap();
    if let Some(version) = header.ip_version() {
        let packet = Packet::parse(frame.bytes(), header.payload, version, &frame.offload);
        packet.unwrap_or_else(|error| panic!("{error}: {:02x?}", frame.bytes()));
    }
    complete(frame.bytes(), &frame.offload, &mut Vec::new(), check_wire).unwrap();
}

fn check_wire(bytes: &[u8]) {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};
    let packet = SlicedPacket::from_ethernet(bytes).unwrap();
    let (v4, v6) = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            (Some((header.source, header.destination)), None)
        }
        Some(NetSlice::Ipv6(ip)) => (None, Some((ip.header().source(), ip.header().destination()))),
        _ => return,
    };
    match packet.transport.unwrap() {
        TransportSlice::Tcp(tcp) => {
            let sum = v4.map(|(from, to)| tcp.calc_checksum_ipv4(from, to));
            let sum = sum.or_else(|| v6.map(|(from, to)| tcp.calc_checksum_ipv6(from, to)));
            assert_eq!(sum.unwrap().unwrap(), tcp.checksum());
        }
        TransportSlice::Udp(udp) => {
            let header = udp.to_header();
            let sum = v4.map(|(from, to)| header.calc_checksum_ipv4_raw(from, to, udp.payload()));
            let sum =
                sum.or_else(|| v6.map(|(from, to)| header.calc_checksum_ipv6_raw(from, to, udp.payload())));
            assert_eq!(sum.unwrap().unwrap(), udp.checksum());
        }
        TransportSlice::Icmpv4(icmp) => {
            assert_eq!(icmp.icmp_type().calc_checksum(icmp.payload()), icmp.checksum());
        }
        TransportSlice::Icmpv6(icmp) => {
            let (from, to) = v6.unwrap();
            assert!(icmp.is_checksum_valid(from, to));
        }
        TransportSlice::Igmp(_) => panic!("nobody sends IGMP"),
    }
}

fn iterations() -> u64 {
    std::env::var("TAPSWITCH_FUZZ_ITERATIONS").map_or(DEFAULT_ITERATIONS, |count| count.parse().unwrap())
}

#[test]
fn the_user_uplink() {
    /// One world.
    const LIFE: u64 = 12_000;
    let mut left = iterations();
    let (mut refused, mut out) = (BTreeMap::new(), BTreeMap::new());
    for seed in 1.. {
        let mut world = World::new(seed);
        for step in 0..left.min(LIFE) {
            world.step();
            if step % 16 == 0 {
                world.audit();
            }
        }
        let (these_refused, these_out) = world.end();
        these_refused.into_iter().for_each(|(name, count)| *refused.entry(name).or_insert(0) += count);
        these_out.into_iter().for_each(|(name, count)| *out.entry(name).or_insert(0) += count);
        left = left.saturating_sub(LIFE);
        if left == 0 {
            break;
        }
    }
    println!("refused: {refused:?}; came out: {out:?}");
    let all = ["Denied", "Limit", "Unsupported"].iter().all(|name| refused.contains_key(*name))
        && ["ack", "answer", "call", "data", "datagram", "fin", "icmp", "reset", "other"]
            .iter()
            .all(|name| out.contains_key(name));
    assert!(iterations() < ENOUGH || all, "the blows do not reach all: {refused:?} {out:?}");
}
