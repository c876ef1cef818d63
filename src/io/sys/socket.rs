//! What ordinary sockets can do that no safe crate offers (tcp(7), socket(7)).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use nix::libc::{self, c_int, c_void};
use socket2::SockAddr;

/// From where on `MSG_PEEK` looks, in bytes from the start of what was received; each look moves it on, and
/// what is taken out moves it back. Of TCP, since Linux 6.9 (`SO_PEEK_OFF`).
///
/// # Errors
/// EOPNOTSUPP where the kernel cannot.
pub fn set_peek_offset(socket: BorrowedFd<'_>, offset: i32) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_PEEK_OFF, offset)
}

/// Sets an option that is a number (setsockopt(2)).
///
/// # Errors
/// ENOPROTOOPT where the kernel does not know it, EINVAL where it does not take the value.
pub fn set_option(socket: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    let len = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open while borrowed, and the kernel reads `len` bytes of a c_int.
    let result = unsafe {
        let value = ptr::from_ref(&value).cast::<c_void>();
        libc::setsockopt(socket.as_raw_fd(), level, name, value, len)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Room for one control message with a number of 16 bits, aligned as its header wants to be.
#[repr(C, align(8))]
struct SegmentSize([u8; 32]);

/// Sends a burst of datagrams of `size` bytes each, the last one perhaps less, with one call (udp(7), `UDP_SEGMENT`,
/// since Linux 4.18).
///
/// # Errors
/// EINVAL for more than 64 of them, or longer ones than the interface takes; and the socket's errors.
pub fn send_segments(socket: BorrowedFd<'_>, bytes: &[u8], to: &SockAddr, size: u16) -> io::Result<usize> {
    let mut control = SegmentSize([0; 32]);
    let mut piece =
        libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast::<c_void>(), iov_len: bytes.len() };
    // SAFETY: a zeroed msghdr is a valid empty one. It points to an address, an iovec and a control buffer that live
    // until the call returns, which only reads them; the control buffer has room for CMSG_SPACE(2) = 24 bytes and is
    // aligned for a cmsghdr, which CMSG_FIRSTHDR therefore finds at its start. The descriptor is open while borrowed.
    let result = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_name = to.as_ptr().cast_mut().cast::<c_void>();
        message.msg_namelen = to.len();
        message.msg_iov = &raw mut piece;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast::<c_void>();
        message.msg_controllen = libc::CMSG_SPACE(size_of::<u16>() as u32) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_UDP;
        (*header).cmsg_type = libc::UDP_SEGMENT;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as _;
        libc::CMSG_DATA(header).cast::<u16>().write_unaligned(size);
        libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT)
    };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Looks at what a socket has received behind its first `skip` bytes, and leaves it there, for kernels without
/// [`set_peek_offset`]: `scratch` takes the bytes before, and must be at least as long as they are.
///
/// # Errors
/// EAGAIN when there is nothing, and the connection's errors.
pub fn peek_behind(
    socket: BorrowedFd<'_>,
    skip: usize,
    scratch: &mut [u8],
    space: &mut [u8],
) -> io::Result<usize> {
    let skip = skip.min(scratch.len());
    let mut pieces = [
        libc::iovec { iov_base: scratch.as_mut_ptr().cast::<c_void>(), iov_len: skip },
        libc::iovec { iov_base: space.as_mut_ptr().cast::<c_void>(), iov_len: space.len() },
    ];
    // SAFETY: a zeroed msghdr is a valid empty one; its iovecs point to two exclusive slices that live until the
    // call returns, with their lengths, and the descriptor is open while borrowed.
    let result = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = pieces.as_mut_ptr();
        message.msg_iovlen = pieces.len();
        libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_PEEK | libc::MSG_DONTWAIT)
    };
    let len = usize::try_from(result).map_err(|_| io::Error::last_os_error())?;
    Ok(len.saturating_sub(skip))
}

/// Takes the first `len` bytes that a TCP socket has received out of it, uncopied (`MSG_TRUNC`); how many there were.
///
/// # Errors
/// EAGAIN when there are none, and the connection's errors.
pub fn discard(socket: BorrowedFd<'_>, len: usize) -> io::Result<usize> {
    let flags = libc::MSG_TRUNC | libc::MSG_DONTWAIT;
    // SAFETY: with MSG_TRUNC a TCP socket writes nothing to the buffer (tcp(7)), so that none is needed; the
    // descriptor is open while borrowed.
    let result = unsafe { libc::recv(socket.as_raw_fd(), ptr::null_mut(), len, flags) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Bytes that a TCP socket has been given and its peer has not acknowledged (`SIOCOUTQ`).
///
/// # Errors
/// EINVAL when it listens.
pub fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<usize> {
    // SIOCOUTQ is TIOCOUTQ.
    count(socket, libc::TIOCOUTQ)
}

/// Bytes that a TCP socket has received and that were not taken out (`SIOCINQ`).
///
/// # Errors
/// EINVAL when it listens.
pub fn unread(socket: BorrowedFd<'_>) -> io::Result<usize> {
    // SIOCINQ is FIONREAD.
    count(socket, libc::FIONREAD)
}

/// What one of the requests that ask for a number answers (tcp(7)).
fn count(socket: BorrowedFd<'_>, request: libc::Ioctl) -> io::Result<usize> {
    let mut count: c_int = 0;
    // SAFETY: the kernel writes one c_int, and the descriptor is open while borrowed.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), request, &raw mut count) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(count).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    #[test]
    fn looking_leaves_and_discarding_takes() {
        let (mut near, mut far) = pair();
        near.write_all(b"hello world").unwrap();
        let mut first = [0; 1];
        far.peek(&mut first).unwrap();
        let (mut scratch, mut space) = ([0; 64], [0; 64]);
        assert_eq!(peek_behind(far.as_fd(), 6, &mut scratch, &mut space).unwrap(), 5);
        assert_eq!(&space[..5], b"world");
        assert_eq!(peek_behind(far.as_fd(), 11, &mut scratch, &mut space).unwrap(), 0);
        assert_eq!(discard(far.as_fd(), 6).unwrap(), 6);
        if set_peek_offset(far.as_fd(), 2).is_ok() {
            assert_eq!(far.peek(&mut space).unwrap(), 3);
            assert_eq!(&space[..3], b"rld");
            assert_eq!(discard(far.as_fd(), 1).unwrap(), 1);
            near.write_all(b"!").unwrap();
            assert_eq!(far.peek(&mut space).unwrap(), 1);
            assert_eq!(space[0], b'!', "what was taken out has moved it back");
            set_peek_offset(far.as_fd(), -1).unwrap();
        } else {
            discard(far.as_fd(), 1).unwrap();
            near.write_all(b"!").unwrap();
        }
        let mut rest = [0; 5];
        far.read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"orld!");
        assert!(unacknowledged(near.as_fd()).unwrap() <= 12);
    }
}
