//! Messages over one TCP connection that ends in the switch (RFC 1035 §4.2.2, RFC 7766).
//!
//! Theory of operation. smoltcp is the connection: an interface with one address and one socket, for what
//! smoltcp does for a packet grows with the sockets in a set. It is fed IP packets and gives IP packets;
//! routes, neighbours, rules and MAC addresses are the switch's. It has no clock either.
//!
//! A message is read only while there is room for its answer: what is written and not yet taken stops the
//! reading, and then TCP's window stops who writes.

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, Checksum, Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant as TcpTime;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint};

use crate::dataplane::Instant;
use crate::wire::ip::{Addr, Version};

/// Bytes that are buffered of what comes, and of what leaves.
const RECEIVE: usize = 8 * 1024;
const SEND: usize = 16 * 1024;
/// Unsent bytes with which no message is read any more.
const ENOUGH: usize = 4096;

/// An address and a port.
pub type End = (Addr, u16);

/// The wire between smoltcp and the switch.
struct Wire {
    mtu: usize,
    inbox: Option<Vec<u8>>,
    outbox: Vec<Vec<u8>>,
}

/// A packet for smoltcp.
struct Received(Vec<u8>);

/// Where smoltcp puts a packet.
struct Sender<'a>(&'a mut Vec<Vec<u8>>);

impl phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl phy::TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut packet = vec![0; len];
        let result = write(&mut packet);
        self.0.push(packet);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sender<'a>;

    fn receive(&mut self, _: TcpTime) -> Option<(Received, Sender<'_>)> {
        Some((Received(self.inbox.take()?), Sender(&mut self.outbox)))
    }

    fn transmit(&mut self, _: TcpTime) -> Option<Sender<'_>> {
        Some(Sender(&mut self.outbox))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        // What comes has been looked at; a sum that a device was to complete would be wrong.
        (capabilities.checksum.ipv4, capabilities.checksum.tcp) = (Checksum::Tx, Checksum::Tx);
        capabilities
    }
}

/// See the module's theory of operation.
pub struct Stream {
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    /// What came of a message that is not whole.
    input: Vec<u8>,
    /// What the socket has not taken yet.
    output: VecDeque<u8>,
    /// The longest message that is read, in bytes.
    longest: usize,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (input, output) = (self.input.len(), self.output.len());
        write!(f, "Stream({}, {input} bytes in, {output} bytes out)", self.socket().state())
    }
}

impl Stream {
    /// Waits for the connection that a SYN to this address and port, which comes next, begins. `seed` makes its
    /// sequence numbers unpredictable.
    pub fn listen(now: Instant, local: End, mtu: usize, seed: u64, longest: usize) -> Option<Self> {
        let mut stream = Self::new(now, local, mtu, seed, longest);
        stream.socket_mut().listen(endpoint(local)).ok()?;
        Some(stream)
    }

    /// Begins a connection.
    pub fn connect(
        now: Instant,
        local: End,
        remote: End,
        mtu: usize,
        seed: u64,
        longest: usize,
    ) -> Option<Self> {
        let mut stream = Self::new(now, local, mtu, seed, longest);
        let Self { interface, sockets, handle, .. } = &mut stream;
        let socket = sockets.get_mut::<Socket<'_>>(*handle);
        socket.connect(interface.context(), endpoint(remote), endpoint(local)).ok()?;
        Some(stream)
    }

    fn new(now: Instant, (address, _): End, mtu: usize, seed: u64, longest: usize) -> Self {
        let mut wire = Wire { mtu, inbox: None, outbox: Vec::new() };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut wire, tcp_time(now));
        let host = if address.version() == Version::V4 { 32 } else { 128 };
        // There is room for one address.
        interface.update_ip_addrs(|own| _ = own.push(IpCidr::new(ip(address), host)));
        let buffer = |len: usize| SocketBuffer::new(vec![0; len]);
        let mut socket = Socket::new(buffer(RECEIVE), buffer(SEND));
        socket.set_nagle_enabled(false);
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Self { wire, interface, sockets, handle, input: Vec::new(), output: VecDeque::new(), longest }
    }

    fn socket(&self) -> &Socket<'static> {
        self.sockets.get(self.handle)
    }

    fn socket_mut(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// An IP packet has come.
    pub fn receive(&mut self, now: Instant, packet: &[u8]) {
        self.wire.inbox = Some(packet.to_vec());
        self.poll(now);
    }

    /// Does what is due, and gives the socket what it has room for.
    pub fn poll(&mut self, now: Instant) {
        while let (front, _) = self.output.as_slices()
            && !front.is_empty()
        {
            let taken = self.sockets.get_mut::<Socket<'_>>(self.handle).send_slice(front).unwrap_or_default();
            self.output.drain(..taken);
            if taken == 0 {
                break;
            }
        }
        self.interface.poll(tcp_time(now), &mut self.wire, &mut self.sockets);
    }

    /// The IP packets that leave.
    pub fn packets(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.wire.outbox)
    }

    /// The next message, if it is whole and there is room for an answer. One that is too long ends the
    /// connection.
    pub fn message(&mut self) -> Option<Vec<u8>> {
        loop {
            let wanted = match self.input.first_chunk() {
                None => 2,
                Some(len) => 2 + usize::from(u16::from_be_bytes(*len)),
            };
            if wanted - 2 > self.longest {
                self.abort();
                return None;
            }
            if self.input.len() == wanted && wanted > 2 {
                return Some(std::mem::take(&mut self.input).split_off(2));
            }
            if wanted == 2 && self.input.len() == 2 {
                // An empty message says nothing.
                self.input.clear();
                continue;
            }
            if self.output.len() > ENOUGH {
                return None;
            }
            let mut part = vec![0; (wanted - self.input.len()).min(RECEIVE)];
            let read = self.socket_mut().recv_slice(&mut part).ok().filter(|read| *read > 0)?;
            self.input.extend_from_slice(&part[..read]);
        }
    }

    /// Sends a message of at most 65,535 bytes.
    pub fn send(&mut self, message: &[u8]) {
        if let Ok(len) = u16::try_from(message.len()) {
            self.output.extend(len.to_be_bytes());
            self.output.extend(message);
        }
    }

    /// Whether the other side has said all it will.
    pub fn is_half_closed(&self) -> bool {
        let socket = self.socket();
        !matches!(socket.state(), State::Listen | State::SynSent | State::SynReceived) && !socket.may_recv()
    }

    /// Whether all that was sent has been taken by the socket.
    pub fn is_flushed(&self) -> bool {
        self.output.is_empty()
    }

    /// Says that nothing more will be sent.
    pub fn close(&mut self) {
        self.socket_mut().close();
    }

    /// Ends the connection at once.
    pub fn abort(&mut self) {
        self.socket_mut().abort();
    }

    /// Whether there is nothing left to be done. Nobody has to wait for segments that come late: they are
    /// answered with a reset (RFC 9293 §3.10.7.1).
    pub fn is_over(&self) -> bool {
        matches!(self.socket().state(), State::Closed | State::TimeWait)
    }

    /// When [`poll`](Self::poll) is due.
    pub fn next_timeout(&mut self, now: Instant) -> Option<Instant> {
        let at = self.interface.poll_at(tcp_time(now), &self.sockets)?;
        // Never at once, for all has just been done; a microsecond is smoltcp's grain.
        Some(Instant(at.total_micros() as u64 * 1000).max(now + Duration::from_micros(1)))
    }
}

fn tcp_time(now: Instant) -> TcpTime {
    // 292,000 years.
    TcpTime::from_micros((now.0 / 1000) as i64)
}

fn ip(address: Addr) -> IpAddress {
    IpAddr::from(address).into()
}

fn endpoint((address, port): End) -> IpEndpoint {
    IpEndpoint::new(ip(address), port)
}
