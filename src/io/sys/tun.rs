//! The ioctls of `/dev/net/tun` (Linux `include/uapi/linux/if_tun.h`).
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::libc::{self, IFF_NO_PI, IFF_TAP, c_int, c_ulong, c_void, ifreq};

/// `_IOW('T', 202, int)`.
pub const TUNSETIFF: c_ulong = 0x4004_54ca;
/// `_IOW('T', 208, unsigned int)`.
pub const TUNSETOFFLOAD: c_ulong = 0x4004_54d0;
/// `_IOR('T', 210, unsigned int)`.
pub const TUNGETIFF: c_ulong = 0x8004_54d2;
/// `_IOW('T', 216, int)`.
pub const TUNSETVNETHDRSZ: c_ulong = 0x4004_54d8;

/// A virtio-net header precedes each frame.
const IFF_VNET_HDR: c_int = 0x4000;
/// Create, never attach to what is there.
const IFF_TUN_EXCL: c_int = 0x8000;

/// Checksum and TCP segmentation offload: `TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN`.
pub const OFFLOAD_TCP: u32 = 0x01 | 0x02 | 0x04 | 0x08;
/// UDP segmentation offload, Linux 6.2 and later: `TUN_F_USO4 | TUN_F_USO6`.
pub const OFFLOAD_UDP: u32 = 0x20 | 0x40;

/// What an attached descriptor is attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The interface's present name.
    pub name: String,
    /// Whether frames carry a virtio-net header.
    pub has_header: bool,
}

/// Runs an ioctl whose argument is a pointer.
fn ioctl<T>(tun: BorrowedFd<'_>, request: c_ulong, argument: *mut T) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as it is borrowed, and every request used in
    // this file reads and writes no more than the type of the argument that its caller passes.
    let result = unsafe { libc::ioctl(tun.as_raw_fd(), request, argument.cast::<c_void>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn empty_request() -> ifreq {
    // SAFETY: `ifreq` is integers, arrays and a union of such, for which all zeros is a valid value.
    unsafe { std::mem::zeroed() }
}

/// Creates a TAP called `name` in the namespace where `tun` was opened, with virtio-net headers
/// of 10 bytes. Needs CAP_NET_ADMIN over that namespace, or to be its owner.
///
/// # Errors
/// As `TUNSETIFF`: EBUSY when the name is taken (whatever has it: what a container made is not
/// ours to use), EPERM, EINVAL when the kernel has no such headers.
pub fn create_tap(tun: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let mut request = empty_request();
    if name.is_empty() || name.len() >= libc::IFNAMSIZ {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    let flags = IFF_TAP | IFF_NO_PI | IFF_TUN_EXCL | IFF_VNET_HDR;
    // Sixteen bits; the highest becomes the sign.
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    ioctl(tun, TUNSETIFF, &raw mut request)?;
    let mut header_len: c_int = 10;
    ioctl(tun, TUNSETVNETHDRSZ, &raw mut header_len)
}

/// Sets which offloads the device offers to its namespace; 0 for none.
///
/// # Errors
/// EINVAL when the kernel does not know one of them.
pub fn set_offload(tun: BorrowedFd<'_>, offloads: u32) -> io::Result<()> {
    // SAFETY: the argument of TUNSETOFFLOAD is a number, no pointer; the descriptor is open while borrowed.
    let result = unsafe { libc::ioctl(tun.as_raw_fd(), TUNSETOFFLOAD, c_ulong::from(offloads)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A descriptor of our own for a TAP of the crate tun-tap, which keeps its own to itself.
///
/// # Errors
/// EMFILE when there are too many.
pub fn duplicate(tap: &tun_tap::Iface) -> io::Result<OwnedFd> {
    // SAFETY: the TAP keeps its descriptor open while it is borrowed here.
    let copy = unsafe { libc::fcntl(tap.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// What the descriptor is attached to.
///
/// # Errors
/// EBADFD when it is attached to nothing (any more).
pub fn attached(tun: BorrowedFd<'_>) -> io::Result<Attached> {
    let mut request = empty_request();
    ioctl(tun, TUNGETIFF, &raw mut request)?;
    let bytes = request.ifr_name.map(i8::cast_unsigned);
    let name = CStr::from_bytes_until_nul(&bytes).map_err(io::Error::other)?;
    // SAFETY: TUNGETIFF fills in the flags member of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    let has_header = c_int::from(flags) & IFF_VNET_HDR != 0;
    Ok(Attached { name: name.to_string_lossy().into_owned(), has_header })
}
