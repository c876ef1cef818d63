//! The device by itself: packets in, packets out, real sockets on the loopback. Nothing else can be reached.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};

use super::*;
use crate::wire::checksum::Sum;
use crate::wire::emit::pseudo_header;
use crate::wire::ip::{Addr, Prefix, Version};
use crate::wire::tcp::{ACK, RST, SYN};

pub(super) const OWN: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub(super) const SWITCH: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

pub(super) fn addr(text: &str) -> Addr {
    text.parse::<IpAddr>().unwrap().into()
}

/// Nothing may be reached but these.
pub(super) fn only(reachable: Vec<SocketAddr>) -> Policy {
    Policy {
        far_end: vec![addr("192.0.0.2"), addr("fd00::2")],
        denied: vec![Prefix::new(addr("0.0.0.0"), 0), Prefix::new(addr("::"), 0)],
        resolvers: reachable,
        ..Policy::default()
    }
}

pub(super) fn device(reachable: Vec<SocketAddr>) -> (UserDevice, Handle) {
    UserDevice::new(OWN, SWITCH, only(reachable), 7).unwrap()
}

/// A packet out of the switch. Its checksum is at `checksum` of the transport header, of which with `partial` the
/// rest is left to the device.
pub(super) fn packet(
    ends: &Ends,
    protocol: u8,
    mut transport: Vec<u8>,
    checksum: usize,
    partial: bool,
) -> Vec<u8> {
    let (source, destination) = (ends.destination, ends.source);
    let len = transport.len() as u16;
    let sum = match protocol {
        protocol::ICMP => Sum::default(),
        _ => pseudo_header(source, destination, protocol, transport.len()),
    };
    transport[checksum..checksum + 2].fill(0);
    let sum = if partial { sum.partial() } else { sum.add(&transport).finish() };
    transport[checksum..checksum + 2].copy_from_slice(&sum);
    let mut frame = [OWN.0, SWITCH.0].concat();
    if source.version() == Version::V4 {
        let [high, low] = (len + 20).to_be_bytes();
        let mut header = vec![0x45, 0, high, low, 0, 0, 0, 0, 63, protocol, 0, 0];
        header.extend([source.v4_bytes(), destination.v4_bytes()].concat());
        let sum = Sum::default().add(&header).finish();
        header[10..12].copy_from_slice(&sum);
        frame.extend([8, 0]);
        frame.extend(header);
    } else {
        let [high, low] = len.to_be_bytes();
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, high, low, protocol, 63]);
        frame.extend([source.v6_bytes(), destination.v6_bytes()].concat());
    }
    frame.extend(transport);
    frame
}

/// A TCP segment of the peer's; `options` fill whole words.
pub(super) fn segment(
    ends: &Ends,
    flags: u8,
    (seq, ack): (u32, u32),
    window: u16,
    options: &[u8],
    data: &[u8],
) -> Vec<u8> {
    let mut bytes = [ends.destination_port.to_be_bytes(), ends.source_port.to_be_bytes()].concat();
    bytes.extend([seq.to_be_bytes(), ack.to_be_bytes()].concat());
    bytes.extend([((20 + options.len()) as u8 / 4) << 4, flags]);
    bytes.extend([window.to_be_bytes(), [0; 2], [0; 2]].concat());
    bytes.extend([options, data].concat());
    bytes
}

pub(super) fn tcp(ends: &Ends, flags: u8, numbers: (u32, u32), data: &[u8]) -> Vec<u8> {
    packet(ends, protocol::TCP, segment(ends, flags, numbers, 60_000, &[], data), 16, false)
}

pub(super) fn udp(ends: &Ends, data: &[u8]) -> Vec<u8> {
    let mut bytes = [ends.destination_port.to_be_bytes(), ends.source_port.to_be_bytes()].concat();
    bytes.extend([(8 + data.len() as u16).to_be_bytes(), [0; 2]].concat());
    bytes.extend(data);
    packet(ends, protocol::UDP, bytes, 6, false)
}

/// From a port inside to a server.
pub(super) fn ends(port: u16, server: SocketAddr) -> Ends {
    let inside = if server.is_ipv4() { addr("10.0.0.1") } else { addr("fd00:1::1") };
    Ends {
        source: server.ip().into(),
        source_port: server.port(),
        destination: inside,
        destination_port: port,
    }
}

fn send(device: &mut UserDevice, bytes: &[u8]) -> Result<(), DeviceError> {
    let mut frame = Frame::from_bytes(bytes);
    device.serves(Some(PortId(1)));
    let sent = device.send(&mut frame);
    assert_eq!(device.flush(), Traffic::default());
    sent
}

/// Reads as the loop does after an edge.
pub(super) fn read(device: &mut UserDevice, frame: &mut Frame) -> Received {
    device.wake();
    device.recv(frame).unwrap()
}

/// The next frame, which comes.
fn recv(device: &mut UserDevice) -> Vec<u8> {
    let mut frame = Frame::new();
    let mut patience = Poll::new().unwrap();
    let registry = patience.registry().try_clone().unwrap();
    registry.register(&mut SourceFd(&device.descriptor().unwrap()), Token(0), Interest::READABLE).unwrap();
    loop {
        if read(device, &mut frame) == Received::Frame {
            return frame.bytes().to_vec();
        }
        let mut events = Events::with_capacity(4);
        patience.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
        assert!(!events.is_empty(), "no frame comes");
    }
}

/// Flags, sequence and acknowledgement number of a segment of IPv4.
fn numbers(frame: &[u8]) -> (u8, u32, u32) {
    let word = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
    assert_eq!((frame[12], frame[23]), (8, protocol::TCP), "{frame:02x?}");
    (frame[47], word(38), word(42))
}

/// A connection that a peer has opened: the server's end, and the next numbers of the peer and of the device.
fn connected(device: &mut UserDevice, server: &TcpListener, port: u16) -> (TcpStream, Ends, (u32, u32)) {
    let ends = ends(port, server.local_addr().unwrap());
    send(device, &tcp(&ends, SYN, (100, 0), &[])).unwrap();
    let (flags, seq, ack) = numbers(&recv(device));
    assert_eq!((flags, ack), (SYN | ACK, 101));
    send(device, &tcp(&ends, ACK, (101, seq.wrapping_add(1)), &[])).unwrap();
    (server.accept().unwrap().0, ends, (101, seq.wrapping_add(1)))
}

fn server() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

#[test]
fn a_segment_with_a_wrong_checksum_is_not_believed() {
    let server = server();
    let (mut device, _handle) = device(vec![server.local_addr().unwrap()]);
    let (mut stream, ends, at) = connected(&mut device, &server, 5000);
    let mut bent = tcp(&ends, ACK, at, b"good");
    *bent.last_mut().unwrap() ^= 1;
    assert_eq!(send(&mut device, &bent), Err(DeviceError::Unsupported));
    send(&mut device, &tcp(&ends, ACK, at, b"good")).unwrap();
    let mut got = [0; 4];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"good");
}

#[test]
fn a_socket_that_nobody_answers_has_its_end_on_the_timer() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (mut device, _handle) = device(vec![server.local_addr().unwrap()]);
    send(&mut device, &udp(&ends(5000, server.local_addr().unwrap()), b"?")).unwrap();
    assert!(!device.has_frames(), "the loop does not ask");
    assert!(device.armed.is_some());
}

#[test]
fn what_waits_behind_errors_in_a_row_is_read_later() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (mut device, _handle) = device(vec![server.local_addr().unwrap()]);
    send(&mut device, &udp(&ends(5000, server.local_addr().unwrap()), b"?")).unwrap();
    let (_, from) = server.recv_from(&mut [0; 8]).unwrap();
    server.send_to(b"!", from).unwrap();
    device.wake();
    assert!(device.poll() && device.udp.sockets.has_frames());
    let now = device.shared.now();
    assert!(!device.udp.sockets.next(now, |_| Err(io::ErrorKind::InvalidData.into())));
    assert!(!device.udp.sockets.has_frames(), "it is not asked for ever");
    let again = device.udp.sockets.next_deadline().unwrap();
    assert!(again < now + Duration::from_secs(1), "it has brought its only edge");
    device.udp.sockets.on_time(again, &mut device.shared);
    let mut frame = Frame::new();
    assert!(device.udp.next_frame(again, &mut frame, &device.shared));
    assert_eq!(frame.bytes().last(), Some(&b'!'));
}

#[test]
fn who_floods_for_answers_does_not_keep_the_others_waiting() {
    let server = server();
    let (mut device, mut handle) = device(vec![server.local_addr().unwrap()]);
    let (mut stream, ends, _) = connected(&mut device, &server, 5000);
    stream.write_all(b"to be heard").unwrap();
    handle.set_policy(Policy::default());
    let nowhere = Ends { source: addr("192.0.0.2"), source_port: 9, ..ends };
    let refused = tcp(&nowhere, SYN, (1, 0), &[]);
    for _ in 0..4 {
        assert_eq!(send(&mut device, &refused), Err(DeviceError::Denied));
    }
    let mut heard = false;
    // There are always answers left when the loop has read one.
    for _ in 0..2 * LOOK_AFTER {
        let _ = send(&mut device, &refused);
        heard |= recv(&mut device).ends_with(b"to be heard");
    }
    assert!(heard && device.shared.policy == Policy::default());
}

#[test]
fn who_takes_us_for_an_earlier_connection_is_told() {
    let (mut device, _handle) = device(Vec::new());
    let server = server();
    let address = server.local_addr().unwrap();
    let stream = TcpStream::connect(address).unwrap();
    let accepted = Socket::from(server.accept().unwrap().0);
    let ends = ends(80, address);
    let now = device.shared.now();
    device.tcp.accept(now, ends, accepted, &mut device.shared).unwrap();
    assert_eq!(numbers(&recv(&mut device)).0, SYN);
    send(&mut device, &tcp(&ends, ACK, (7777, 8888), &[])).unwrap();
    let (flags, seq, _) = numbers(&recv(&mut device));
    assert_eq!((flags, seq), (RST, 8888), "RFC 9293 §3.10.7.3");
    assert!(device.tcp.has(&ends));
    drop(stream);
}

#[test]
fn every_caller_of_a_proxy_is_heard_without_another_one() {
    let (mut device, handle) = device(Vec::new());
    let server = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    server.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    server.listen(256).unwrap();
    server.set_nonblocking(true).unwrap();
    let address = server.local_addr().unwrap().as_socket().unwrap();
    let callers: Vec<_> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    for mut caller in &callers {
        caller.write_all(&[5, 1, 0]).unwrap();
    }
    handle.proxy(1, server, Directory::default());
    let mut frame = Frame::new();
    for mut caller in &callers {
        caller.set_nonblocking(true).unwrap();
        let mut answer = [0; 2];
        let mut patience = 10_000;
        while caller.read(&mut answer).is_err() {
            assert_eq!(read(&mut device, &mut frame), Received::Empty);
            patience -= 1;
            assert!(patience > 0, "a caller is forgotten");
        }
        assert_eq!(answer, [5, 0]);
    }
}

#[test]
fn the_hosts_other_end_is_asked_whether_it_is_there() {
    let server = server();
    let (mut device, _handle) = device(vec![server.local_addr().unwrap()]);
    let (_stream, ends, _) = connected(&mut device, &server, 5000);
    assert!(device.tcp.socket_of(&ends).unwrap().keepalive().unwrap());
}
