//! Descriptors over Unix sockets (`SCM_RIGHTS`, unix(7)).
#![allow(unsafe_code)]

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::libc::{self, c_int, c_void};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

/// How many descriptors one message can carry (`SCM_MAX_FD`, include/net/scm.h).
pub const MAX_DESCRIPTORS: usize = 253;

/// Sends one message, with descriptors when there are any. Returns the bytes sent.
///
/// # Errors
/// As `sendmsg(2)`: EPIPE when the peer has gone, EINVAL for more than [`MAX_DESCRIPTORS`].
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &rights[..0] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL;
    Ok(sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None)?)
}

/// Receives into `buffer`: how many bytes, and the descriptors that came along (close-on-exec).
/// Zero bytes mean that the peer has closed.
///
/// # Errors
/// As `recvmsg(2)`; EMFILE when a message lost descriptors, because this process may have no more of
/// them; and a message that was cut off, because the buffer is too short. What did arrive is closed again.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    receive_at_most(socket, buffer, MAX_DESCRIPTORS)
}

/// By hand, because nix drops the descriptors of a cut message unseen, and they would stay open.
fn receive_at_most(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    max: usize,
) -> io::Result<(usize, Vec<OwnedFd>)> {
    // SAFETY: arithmetic on its argument. 253 descriptors make little more than a kilobyte.
    let space = unsafe { libc::CMSG_SPACE((max * size_of::<RawFd>()) as u32) } as usize;
    // As numbers, for a control message header must be aligned like one.
    let mut control = vec![0u64; space.div_ceil(size_of::<u64>())];
    let mut slice = libc::iovec { iov_base: buffer.as_mut_ptr().cast::<c_void>(), iov_len: buffer.len() };
    // SAFETY: numbers and pointers, for which all zeros is a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut slice, 1);
    (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast::<c_void>(), space);
    // SAFETY: the message points to one slice and to `space` bytes, both exclusively ours during the call.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    let fds = descriptors(&message);
    if message.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(io::Error::from_raw_os_error(libc::EMFILE));
    }
    if message.msg_flags & libc::MSG_TRUNC != 0 {
        return Err(io::Error::other("a message was cut off"));
    }
    Ok((len, fds))
}

/// Takes the descriptors out of a message that `recvmsg` has just filled in.
fn descriptors(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the kernel wrote whole control messages into the buffer and their extent into
    // `msg_controllen`; the macros of cmsg(3) stay within that.
    let mut part = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !part.is_null() {
        // SAFETY: not null, hence a whole, aligned header inside the buffer.
        let header = unsafe { ptr::read(part) };
        if (header.cmsg_level, header.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: arithmetic on its argument.
            let head = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = header.cmsg_len.saturating_sub(head) / size_of::<c_int>();
            // SAFETY: the data of this kind of message is `count` descriptors, maybe unaligned, which
            // the kernel has just installed for us and nobody else knows.
            fds.extend((0..count).map(|at| unsafe {
                let data = libc::CMSG_DATA(part).cast::<c_int>();
                OwnedFd::from_raw_fd(ptr::read_unaligned(data.add(at)))
            }));
        }
        // SAFETY: as for the first.
        part = unsafe { libc::CMSG_NXTHDR(message, part) };
    }
    fds
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_descriptor_arrives_with_its_bytes() {
        let (a, b) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, b"content").unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        assert_eq!(send(a.as_fd(), b"here", &[file.as_fd()]).unwrap(), 4);

        let mut buffer = [0; 16];
        let (n, fds) = receive(b.as_fd(), &mut buffer).unwrap();
        assert_eq!(&buffer[..n], b"here");
        let mut text = String::new();
        std::fs::File::from(fds.into_iter().next().unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "content");

        drop(a);
        assert_eq!(receive(b.as_fd(), &mut buffer).unwrap().0, 0);
    }

    #[test]
    fn as_many_as_one_message_carries_and_no_more() {
        let (a, b) = UnixStream::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        let (_, none) = (send(a.as_fd(), b"1", &[]).unwrap(), receive(b.as_fd(), &mut [0; 16]).unwrap().1);
        assert!(none.is_empty());
        assert_eq!(send(a.as_fd(), b"2", &[file.as_fd(); MAX_DESCRIPTORS]).unwrap(), 1);
        assert_eq!(receive(b.as_fd(), &mut [0; 16]).unwrap().1.len(), MAX_DESCRIPTORS);
        assert!(send(a.as_fd(), b"3", &[file.as_fd(); MAX_DESCRIPTORS + 1]).is_err());
    }

    #[test]
    fn descriptors_of_a_cut_message_are_closed() {
        let (a, b) = UnixStream::pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        send(a.as_fd(), b"many", &[writer.as_fd(); 5]).unwrap();
        drop(writer);
        let error = receive_at_most(b.as_fd(), &mut [0; 16], 2).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        // With a writing end still open somewhere this read would never end.
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        // The connection itself goes on.
        send(a.as_fd(), b"next", &[]).unwrap();
        assert_eq!(receive(b.as_fd(), &mut [0; 16]).unwrap().0, 4);
    }
}
