//! One socket of the host that datagrams go out and come in by.
//!
//! It is bound to nobody, so that it serves every destination. How a datagram is to travel (TTL, type of service, may
//! it be fragmented) is an option of the socket, which is set when it changes: most flows never change it.

use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::Shared;
use crate::io::sys::socket as sys;
use crate::wire::packet::Packet;

/// What the kernel may keep for us: a few datagrams of 64 KiB, or a burst of small ones. It takes its own limit if
/// that is lower.
const BUFFER: usize = 1 << 20;
/// Datagrams that the kernel sends in one burst (`UDP_MAX_SEGMENTS` of older kernels).
pub(super) const MAX_BURST: usize = 64;

/// How a datagram travels on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Treatment {
    ttl: u8,
    tos: u8,
    dont_fragment: bool,
}

impl Treatment {
    /// As this packet does.
    pub(super) const fn of(packet: &Packet) -> Self {
        Self::new(packet.ttl, packet.tos, packet.dont_fragment)
    }

    /// With this TTL, type of service, and whether it may not be fragmented.
    pub(super) const fn new(ttl: u8, tos: u8, dont_fragment: bool) -> Self {
        Self { ttl, tos, dont_fragment }
    }
}

/// What a socket carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carries {
    /// UDP datagrams.
    Udp,
    /// ICMP echo messages (icmp(7), "ping sockets"), whose identifier is the kernel's.
    Echo,
}

/// What a socket received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Received {
    /// Bytes in the caller's space.
    pub(super) len: usize,
    /// Who sent them.
    pub(super) from: SocketAddr,
    /// They are several datagrams of so many bytes, but for the last.
    pub(super) size: Option<u16>,
}

/// A socket of the host.
#[derive(Debug)]
pub(super) struct HostSocket {
    socket: Socket,
    is_ipv4: bool,
    /// The kernel cuts bursts into datagrams itself.
    cuts: bool,
    treatment: Option<Treatment>,
}

/// Control messages have to be aligned.
#[repr(align(8))]
pub(super) struct Control(pub(super) [u8; 128]);

impl Control {
    pub(super) const fn new() -> Self {
        Self([0; 128])
    }
}

impl HostSocket {
    /// The host's address that it is bound to; the kernel chooses the port when something is sent.
    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()?.as_socket()
    }

    /// A socket for datagrams to `to` and everywhere else that is reached by the same interface.
    pub(super) fn open(carries: Carries, to: SocketAddr, shared: &Shared) -> io::Result<Self> {
        let is_ipv4 = to.is_ipv4();
        let protocol = match (carries, is_ipv4) {
            (Carries::Udp, _) => Protocol::UDP,
            (Carries::Echo, true) => Protocol::ICMPV4,
            (Carries::Echo, false) => Protocol::ICMPV6,
        };
        let kind = Type::DGRAM.nonblocking().cloexec();
        let socket = Socket::new(Domain::for_address(to), kind, Some(protocol))?;
        if !is_ipv4 {
            socket.set_only_v6(true)?;
        }
        shared.policy.bind(&socket, to)?;
        Ok(Self::adopt(carries, socket, is_ipv4))
    }

    /// A socket that is bound already.
    pub(super) fn adopt(carries: Carries, socket: Socket, is_ipv4: bool) -> Self {
        // What the kernel cannot is done without.
        let set = |level, name, value| sys::set_option(socket.as_fd(), level, name, value).is_ok();
        let cuts = carries == Carries::Udp && set(libc::SOL_UDP, libc::UDP_SEGMENT, 0);
        if carries == Carries::Udp {
            set(libc::SOL_UDP, libc::UDP_GRO, 1);
        }
        match is_ipv4 {
            true => set(libc::SOL_IP, libc::IP_RECVERR, 1),
            false => set(libc::SOL_IPV6, libc::IPV6_RECVERR, 1),
        };
        let _ = socket.set_recv_buffer_size(BUFFER);
        let _ = socket.set_send_buffer_size(BUFFER);
        Self { socket, is_ipv4, cuts, treatment: None }
    }

    /// Sends a datagram, or a burst of them of `size` bytes each.
    pub(super) fn send(
        &mut self,
        bytes: &[u8],
        size: Option<u16>,
        to: SocketAddr,
        treatment: Treatment,
    ) -> io::Result<()> {
        self.treat(treatment);
        let to = SockAddr::from(to);
        let Some(size) = size else { return self.send_one(bytes, &to) };
        for burst in bytes.chunks(usize::from(size).max(1) * MAX_BURST) {
            let sent = if self.cuts {
                self.send_burst(burst, &to, size)
            } else {
                Err(ErrorKind::Unsupported.into())
            };
            match sent {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(error),
                Err(error) => {
                    // An interface that computes no checksums (EIO) will not tomorrow.
                    self.cuts &= error.raw_os_error() != Some(Errno::EIO as i32);
                    burst.chunks(usize::from(size).max(1)).try_for_each(|piece| self.send_one(piece, &to))?
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn send_one(&self, bytes: &[u8], to: &SockAddr) -> io::Result<()> {
        again(|| self.socket.send_to(bytes, to))
    }

    fn send_burst(&self, bytes: &[u8], to: &SockAddr, size: u16) -> io::Result<()> {
        again(|| sys::send_segments(self.socket.as_fd(), bytes, to, size))
    }

    /// What cannot be set stays as the host has it.
    fn treat(&mut self, wanted: Treatment) {
        let had = self.treatment.replace(wanted);
        if had == Some(wanted) {
            return;
        }
        let socket = &self.socket;
        let is_new = |of: fn(&Treatment) -> u8| had.is_none_or(|had| of(&had) != of(&wanted));
        if is_new(|it| it.ttl) {
            let ttl = u32::from(wanted.ttl);
            let _ = if self.is_ipv4 { socket.set_ttl_v4(ttl) } else { socket.set_unicast_hops_v6(ttl) };
        }
        if is_new(|it| it.tos) {
            let tos = u32::from(wanted.tos);
            let _ = if self.is_ipv4 { socket.set_tos_v4(tos) } else { socket.set_tclass_v6(tos) };
        }
        // IPv6 stays at the kernel's usual way: what was sent in fragments leaves so, and errors are told.
        if self.is_ipv4 && is_new(|it| u8::from(it.dont_fragment)) {
            let discover = if wanted.dont_fragment { libc::IP_PMTUDISC_DO } else { libc::IP_PMTUDISC_DONT };
            let _ = sys::set_option(socket.as_fd(), libc::SOL_IP, libc::IP_MTU_DISCOVER, discover);
        }
    }

    /// The next datagram, or burst of them from one sender; `None` when there is none.
    pub(super) fn receive(&self, space: &mut [u8]) -> io::Result<Option<Received>> {
        let mut control = Control::new();
        let mut pieces = [IoSliceMut::new(space)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let descriptor = self.socket.as_raw_fd();
        let message = recvmsg::<SockaddrStorage>(descriptor, &mut pieces, Some(&mut control.0), flags);
        let message = match message {
            Ok(message) => message,
            Err(Errno::EAGAIN) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let size = message.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::UdpGroSegments(size) => u16::try_from(size).ok().filter(|size| *size > 0),
            _ => None,
        });
        let from = message.address.as_ref().and_then(socket_address).ok_or(ErrorKind::InvalidData)?;
        Ok(Some(Received { len: message.bytes, from, size }))
    }
}

impl AsFd for HostSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// An error of an earlier datagram is told to the next one, which is not lost for that.
fn again(send: impl Fn() -> io::Result<usize>) -> io::Result<()> {
    match send() {
        Err(error) if error.kind() != ErrorKind::WouldBlock => send().map(drop),
        other => other.map(drop),
    }
}

/// An address of the kernel's as one of ours.
pub(super) fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(address) = address.as_sockaddr_in() {
        return Some(SocketAddr::new(IpAddr::V4(address.ip()), address.port()));
    }
    address.as_sockaddr_in6().map(|address| SocketAddr::new(IpAddr::V6(address.ip()), address.port()))
}
