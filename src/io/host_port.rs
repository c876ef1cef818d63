//! The interface by which the host is on a network of ours.
//!
//! Theory of operation. Unlike a container's, this TAP is made by the client: the name is the kernel's
//! choice and the daemon's to change. It must not take router advertisements before it comes up, for
//! whoever is in a container could give the host a default route by them (CVE-2020-13401).

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};

use super::sys::tun;
use super::uplink::{self, Kind};

/// Makes the TAP in the present namespace, and a `NETLINK_ROUTE` socket; in the daemon's order.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN over the namespace; those of opening `/dev/net/tun` and of `/proc/sys`.
pub fn open(offload: bool) -> io::Result<[OwnedFd; 2]> {
    let opened = uplink::open(None, Kind::Tap { offload }).map_err(io::Error::other)?;
    let tap = opened.device;
    if offload {
        tun::create_tap(tap.as_fd(), "tap%d")?;
    }
    let name = tun::attached(tap.as_fd())?.name;
    match std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/accept_ra"), "0") {
        // A kernel without IPv6 takes none.
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok([tap, opened.netlink]),
    }
}
