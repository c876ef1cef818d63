//! Datagrams of sockets with many addresses: the host's own end of each travels beside it (`IP_PKTINFO`, ip(7);
//! `IPV6_PKTINFO`, RFC 3542 §6).

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg, sendmsg,
};

/// Takes the next datagram into `space`: its length, who sent it, and to which address; `None` when there is none.
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    space: &mut [u8],
) -> io::Result<Option<(usize, SocketAddr, IpAddr)>> {
    let mut control = nix::cmsg_space!(libc::in6_pktinfo);
    let mut pieces = [IoSliceMut::new(space)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut pieces, Some(&mut control), flags);
    let message = match message {
        Ok(message) => message,
        Err(Errno::EAGAIN) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let called = message.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(IpAddr::V4(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes())))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr))),
        _ => None,
    });
    let from = message.address.as_ref();
    let v4 =
        from.and_then(|from| from.as_sockaddr_in()).map(|from| SocketAddr::V4(SocketAddrV4::from(*from)));
    let v6 =
        || from.and_then(|from| from.as_sockaddr_in6()).map(|from| SocketAddr::V6(SocketAddrV6::from(*from)));
    let caller = v4.or_else(v6).ok_or(ErrorKind::InvalidData)?;
    Ok(Some((message.bytes, caller, called.ok_or(ErrorKind::InvalidData)?)))
}

/// Sends a datagram by one of the host's addresses.
pub(super) fn send(socket: BorrowedFd<'_>, bytes: &[u8], from: IpAddr, to: SocketAddr) -> io::Result<()> {
    let (descriptor, bytes) = (socket.as_raw_fd(), [IoSlice::new(bytes)]);
    let flags = MsgFlags::MSG_DONTWAIT;
    let sent = match (from, to) {
        (IpAddr::V4(from), SocketAddr::V4(to)) => {
            let from = libc::in_addr { s_addr: u32::from_ne_bytes(from.octets()) };
            let any = libc::in_addr { s_addr: 0 };
            let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: from, ipi_addr: any };
            let control = [ControlMessage::Ipv4PacketInfo(&info)];
            sendmsg(descriptor, &bytes, &control, flags, Some(&SockaddrIn::from(to)))
        }
        (IpAddr::V6(from), SocketAddr::V6(to)) => {
            let from = libc::in6_addr { s6_addr: from.octets() };
            let info = libc::in6_pktinfo { ipi6_addr: from, ipi6_ifindex: to.scope_id() };
            let control = [ControlMessage::Ipv6PacketInfo(&info)];
            sendmsg(descriptor, &bytes, &control, flags, Some(&SockaddrIn6::from(to)))
        }
        _ => return Err(ErrorKind::InvalidInput.into()),
    };
    sent.map(drop).map_err(io::Error::from)
}
