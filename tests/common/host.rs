//! Virtual hosts: whole TCP/IP stacks (smoltcp) whose only wire is a port of the switch, in virtual time.

use std::collections::VecDeque;
use std::time::Duration;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::{icmp, tcp, udp};
use smoltcp::time::Instant as HostTime;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr, Ipv4Address};
use tapswitch::dataplane::{Frame, Instant, PortId, Switch};

use super::frames::mac;
use super::lab::{Recorder, Sent};

/// Bytes that a TCP socket buffers in each direction.
const BUFFER: usize = 64 * 1024;

/// A host's end of the wire.
#[derive(Default)]
struct Wire {
    inbox: VecDeque<Vec<u8>>,
    outbox: VecDeque<Vec<u8>>,
}

pub(crate) struct Received(Vec<u8>);
pub(crate) struct Sender<'a>(&'a mut VecDeque<Vec<u8>>);

impl phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl phy::TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut frame = vec![0; len];
        let result = write(&mut frame);
        self.0.push_back(frame);
        result
    }
}

impl phy::Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sender<'a>;

    fn receive(&mut self, _: HostTime) -> Option<(Received, Sender<'_>)> {
        Some((Received(self.inbox.pop_front()?), Sender(&mut self.outbox)))
    }

    fn transmit(&mut self, _: HostTime) -> Option<Sender<'_>> {
        Some(Sender(&mut self.outbox))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 14 + 1500;
        capabilities
    }
}

/// A host on a port: station N with the address 10.0.0.N/24.
pub(crate) struct Host {
    port: u32,
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    /// The last source port of a connection.
    next_port: u16,
}

impl Host {
    pub(crate) fn new(port: u32, number: u8, seed: u64) -> Self {
        let mut wire = Wire::default();
        let mut config = Config::new(EthernetAddress(mac(number).0).into());
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut wire, HostTime::ZERO);
        interface.update_ip_addrs(|own| own.push(IpCidr::new(address(number), 24)).unwrap());
        Self { port, wire, interface, sockets: SocketSet::new(Vec::new()), next_port: 40_000 }
    }

    /// Listens for a TCP connection.
    pub(crate) fn listen(&mut self, port: u16) -> SocketHandle {
        let socket = self.sockets.add(tcp_socket());
        self.tcp(socket).listen(port).unwrap();
        socket
    }

    /// Opens a TCP connection to a host.
    pub(crate) fn connect(&mut self, number: u8, port: u16) -> SocketHandle {
        let socket = self.sockets.add(tcp_socket());
        let tcp = self.sockets.get_mut::<tcp::Socket>(socket);
        self.next_port += 1;
        tcp.connect(self.interface.context(), (address(number), port), self.next_port).unwrap();
        socket
    }

    pub(crate) fn tcp(&mut self, socket: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(socket)
    }

    /// Opens a UDP port.
    pub(crate) fn bind(&mut self, port: u16) -> SocketHandle {
        let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 16], vec![0; BUFFER]);
        let socket = self.sockets.add(udp::Socket::new(buffer(), buffer()));
        self.udp(socket).bind(port).unwrap();
        socket
    }

    pub(crate) fn udp(&mut self, socket: SocketHandle) -> &mut udp::Socket<'static> {
        self.sockets.get_mut(socket)
    }

    /// Sends an ICMP echo request to a host; the answer comes to the socket.
    pub(crate) fn ping(&mut self, number: u8, data: &[u8]) -> SocketHandle {
        let buffer = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 4], vec![0; 4096]);
        let socket = self.sockets.add(icmp::Socket::new(buffer(), buffer()));
        let icmp = self.sockets.get_mut::<icmp::Socket>(socket);
        // Its own identifier, or the other host's requests would come to this socket too.
        let ident = self.port as u16;
        icmp.bind(icmp::Endpoint::Ident(ident)).unwrap();
        let request = smoltcp::wire::Icmpv4Repr::EchoRequest { ident, seq_no: 1, data };
        let bytes = icmp.send(request.buffer_len(), address(number)).unwrap();
        let mut packet = smoltcp::wire::Icmpv4Packet::new_unchecked(bytes);
        request.emit(&mut packet, &phy::ChecksumCapabilities::default());
        socket
    }

    /// The data of the echo reply, once it is there.
    pub(crate) fn pong(&mut self, socket: SocketHandle) -> Option<Vec<u8>> {
        let (bytes, _) = self.sockets.get_mut::<icmp::Socket>(socket).recv().ok()?;
        let packet = smoltcp::wire::Icmpv4Packet::new_checked(bytes).unwrap();
        Some(packet.data().to_vec())
    }
}

fn address(number: u8) -> IpAddress {
    IpAddress::Ipv4(Ipv4Address::new(10, 0, 0, number))
}

fn tcp_socket() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
    tcp::Socket::new(buffer(), buffer())
}

/// Hosts around a switch. A frame takes no time on the wire; time passes when all are silent.
pub(crate) struct Village {
    pub(crate) switch: Switch,
    pub(crate) now: Instant,
    pub(crate) hosts: Vec<Host>,
    /// Every frame that left the switch, in order.
    pub(crate) trace: Vec<Sent>,
}

impl Village {
    pub(crate) fn new(switch: Switch, hosts: Vec<Host>) -> Self {
        Self { switch, now: Instant(0), hosts, trace: Vec::new() }
    }

    /// Runs until `done`, which is asked after each exchange and may feed sockets; panics when a virtual hour
    /// passes, or when nobody has anything left to do.
    pub(crate) fn run(&mut self, mut done: impl FnMut(&mut [Host]) -> bool) {
        let deadline = self.now + Duration::from_secs(3600);
        while !done(&mut self.hosts) {
            // What was said last may have been all that was missing.
            if !self.exchange() && !done(&mut self.hosts) {
                self.pass_time();
                assert!(self.now < deadline, "not done after an hour");
            }
        }
    }

    /// Everybody speaks once, or time passes if nobody has anything to say.
    pub(crate) fn step(&mut self) {
        if !self.exchange() {
            self.pass_time();
        }
    }

    fn pass_time(&mut self) {
        self.now = self.next_event().expect("nobody has anything left to do");
        let mut out = Recorder::default();
        self.switch.handle_timeout(self.now, &mut out);
        self.deliver(out);
    }

    /// Everybody speaks once; whether anybody had something to say.
    fn exchange(&mut self) -> bool {
        let mut out = Recorder::default();
        let now = host_time(self.now);
        for host in &mut self.hosts {
            host.interface.poll(now, &mut host.wire, &mut host.sockets);
            for bytes in host.wire.outbox.drain(..) {
                let mut frame = Frame::from_bytes(&bytes);
                self.switch.input(self.now, PortId(host.port), &mut frame, &mut out, &mut ());
            }
        }
        self.deliver(out)
    }

    /// Hands what left the switch to the hosts; whether anything did.
    fn deliver(&mut self, out: Recorder) -> bool {
        for (port, bytes, _) in &out.0 {
            let host = self.hosts.iter_mut().find(|host| host.port == *port).unwrap();
            host.wire.inbox.push_back(bytes.clone());
        }
        let spoken = !out.0.is_empty();
        self.trace.extend(out.0);
        spoken
    }

    /// When the next timer of a host or the switch runs out; at least a microsecond from now, the hosts' grain.
    fn next_event(&mut self) -> Option<Instant> {
        let now = host_time(self.now);
        let hosts = self.hosts.iter_mut().filter_map(|host| host.interface.poll_at(now, &host.sockets));
        let hosts = hosts.map(|at| Instant(at.total_micros() as u64 * 1000));
        let next = hosts.chain(self.switch.poll_timeout()).min()?;
        Some(next.max(self.now + Duration::from_micros(1)))
    }
}

fn host_time(now: Instant) -> HostTime {
    HostTime::from_micros(i64::try_from(now.0 / 1000).unwrap())
}
