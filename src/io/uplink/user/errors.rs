//! What the network said of datagrams that a socket sent: its error queue (ip(7), `IP_RECVERR`).
//!
//! The kernel queues each ICMP error with the packet that it is about and the address of whoever sent it; and its
//! own refusal of a packet that is too long. Each becomes the ICMP error that the sender inside would have got.

use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc::{self, sock_extended_err};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};

use super::host_socket::{Control, socket_address};
use super::mapped::unreachable;
use crate::wire::icmp::{v4, v6};
use crate::wire::ip::Version;

/// An error of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HostError {
    /// Type and code of the ICMP error.
    pub(super) kind: [u8; 2],
    /// The second half of its header: an MTU, a position.
    pub(super) rest: [u8; 4],
    /// Where the datagram was to go.
    pub(super) to: SocketAddr,
    /// Who speaks, if not the host itself.
    pub(super) from: Option<IpAddr>,
    /// Bytes of the datagram in the caller's space.
    pub(super) len: usize,
}

/// The next error that is anything to the sender; `None` when there is none.
pub(super) fn next(socket: BorrowedFd<'_>, space: &mut [u8]) -> Option<HostError> {
    loop {
        let mut control = Control::new();
        let mut pieces = [IoSliceMut::new(space)];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let descriptor = socket.as_raw_fd();
        let message =
            recvmsg::<SockaddrStorage>(descriptor, &mut pieces, Some(&mut control.0), flags).ok()?;
        let error = message.cmsgs().ok().and_then(|mut messages| messages.find_map(extended));
        let to = message.address.as_ref().and_then(socket_address);
        if let (Some((error, from)), Some(to)) = (error, to)
            && let Some((kind, rest)) = icmp(&error, to.is_ipv4())
        {
            return Some(HostError { kind, rest, to, from, len: message.bytes });
        }
    }
}

/// The error and who it is from.
fn extended(message: ControlMessageOwned) -> Option<(sock_extended_err, Option<IpAddr>)> {
    match message {
        ControlMessageOwned::Ipv4RecvErr(error, from) => {
            Some((error, from.map(|from| IpAddr::from(u32::from_be(from.sin_addr.s_addr).to_be_bytes()))))
        }
        ControlMessageOwned::Ipv6RecvErr(error, from) => {
            Some((error, from.map(|from| IpAddr::from(from.sin6_addr.s6_addr))))
        }
        _ => None,
    }
}

/// The ICMP error that an error was, or is to the sender inside (RFC 792, RFC 4443).
fn icmp(error: &sock_extended_err, is_ipv4: bool) -> Option<([u8; 2], [u8; 4])> {
    /// What is told by a message's type and code.
    const ERRORS_V4: [u8; 3] = [v4::DESTINATION_UNREACHABLE, v4::TIME_EXCEEDED, v4::PARAMETER_PROBLEM];
    let kind = [error.ee_type, error.ee_code];
    let version = if is_ipv4 { Version::V4 } else { Version::V6 };
    let kind = match error.ee_origin {
        libc::SO_EE_ORIGIN_ICMP if is_ipv4 && ERRORS_V4.contains(&kind[0]) => kind,
        // RFC 4443 §2.1: all below 128 are errors, and those that are not known yet nobody here would understand.
        libc::SO_EE_ORIGIN_ICMP6 if !is_ipv4 && matches!(kind[0], 1..=v6::PARAMETER_PROBLEM) => kind,
        libc::SO_EE_ORIGIN_LOCAL => match i32::try_from(error.ee_errno).map(Errno::from_raw) {
            Ok(Errno::EMSGSIZE) if is_ipv4 => [v4::DESTINATION_UNREACHABLE, v4::FRAGMENTATION_NEEDED],
            Ok(Errno::EMSGSIZE) => [v6::PACKET_TOO_BIG, 0],
            Ok(errno) => unreachable(version, errno),
            Err(_) => return None,
        },
        _ => return None,
    };
    let info = error.ee_info.to_be_bytes();
    let rest = match (version, kind) {
        (Version::V4, [v4::DESTINATION_UNREACHABLE, v4::FRAGMENTATION_NEEDED]) => [0, 0, info[2], info[3]],
        (Version::V4, [v4::PARAMETER_PROBLEM, _]) => [info[3], 0, 0, 0],
        (Version::V6, [v6::PACKET_TOO_BIG | v6::PARAMETER_PROBLEM, _]) => info,
        _ => [0; 4],
    };
    Some((kind, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(origin: u8, errno: Errno, kind: [u8; 2], info: u32) -> sock_extended_err {
        let [ee_type, ee_code] = kind;
        // The kernel's numbers are positive.
        let ee_errno = errno as u32;
        sock_extended_err {
            ee_errno,
            ee_origin: origin,
            ee_type,
            ee_code,
            ee_pad: 0,
            ee_info: info,
            ee_data: 0,
        }
    }

    #[test]
    fn errors_are_told_as_they_came() {
        let (local, from4, from6) = (1, 2, 3);
        let table = [
            (error(from4, Errno::ECONNREFUSED, [3, 3], 0), true, Some(([3, 3], [0; 4]))),
            (error(from4, Errno::EMSGSIZE, [3, 4], 1400), true, Some(([3, 4], [0, 0, 5, 0x78]))),
            (error(from4, Errno::EHOSTUNREACH, [11, 0], 0), true, Some(([11, 0], [0; 4]))),
            (error(from4, Errno::EPROTO, [12, 0], 20), true, Some(([12, 0], [20, 0, 0, 0]))),
            (error(from4, Errno::EHOSTUNREACH, [5, 1], 0), true, None),
            (error(from6, Errno::ECONNREFUSED, [1, 4], 0), false, Some(([1, 4], [0; 4]))),
            (error(from6, Errno::EMSGSIZE, [2, 0], 1400), false, Some(([2, 0], [0, 0, 5, 0x78]))),
            (error(from6, Errno::EPROTO, [129, 0], 0), false, None),
            (error(local, Errno::EMSGSIZE, [0, 0], 1500), true, Some(([3, 4], [0, 0, 5, 0xdc]))),
            (error(local, Errno::EMSGSIZE, [0, 0], 1500), false, Some(([2, 0], [0, 0, 5, 0xdc]))),
            (error(local, Errno::EHOSTUNREACH, [0, 0], 0), true, Some(([3, 1], [0; 4]))),
            (error(4, Errno::ENOMSG, [0, 0], 0), true, None),
        ];
        for (error, is_ipv4, expected) in table {
            assert_eq!(icmp(&error, is_ipv4), expected, "{error:?}");
        }
    }
}
