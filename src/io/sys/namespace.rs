//! What it takes to set up a network namespace from inside, besides netlink.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// `NS_GET_USERNS`: `_IO(0xb7, 1)`, include/uapi/linux/nsfs.h.
const NS_GET_USERNS: libc::c_ulong = 0xb701;
/// `TUNSETIFF`: `_IOW('T', 202, int)`, include/uapi/linux/if_tun.h.
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;

/// The user namespace that owns a namespace (ioctl_ns(2)).
/// `EPERM`: it lies outside the caller's own user namespace.
pub fn owning_user_namespace(namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: the request takes no argument and returns a new descriptor or -1.
    let fd = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS as _) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Brings `lo` up in the current network namespace; the kernel then gives it 127.0.0.1 and ::1.
pub fn loopback_up() -> io::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut request = interface_request("lo");
    // SAFETY: SIOCGIFFLAGS reads the name in, and writes the flags of, the ifreq that we own.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the flags are the member of the union that the kernel has just written.
    unsafe { request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short };
    // SAFETY: SIOCSIFFLAGS only reads the ifreq.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The index of an interface of the current network namespace. As `if_nametoindex(3)`, but by a kind of
/// socket that a confined daemon may open.
///
/// # Errors
/// ENODEV when there is none of this name.
pub fn interface_index(name: &str) -> io::Result<u32> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut request = interface_request(name);
    // SAFETY: SIOCGIFINDEX reads the name in, and writes the index of, the ifreq that we own.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFINDEX as _, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the index is the member of the union that the kernel has just written.
    u32::try_from(unsafe { request.ifr_ifru.ifru_ifindex }).map_err(io::Error::other)
}

/// Makes a plain TAP on an open `/dev/net/tun` (`TUNSETIFF` with `IFF_TAP | IFF_NO_PI`),
/// to learn whether the kernel lets us. Longer names than 15 bytes are cut.
pub fn try_tap(tun: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let mut request = interface_request(name);
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes the ifreq that we own.
    if unsafe { libc::ioctl(tun.as_raw_fd(), TUNSETIFF as _, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn interface_request(name: &str) -> libc::ifreq {
    // SAFETY: ifreq is plain data, for which zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let limit = request.ifr_name.len() - 1; // keeps the terminating NUL
    for (to, from) in request.ifr_name.iter_mut().take(limit).zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request
}
