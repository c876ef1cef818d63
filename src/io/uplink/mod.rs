//! Ports to the outside: a TAP in a namespace of other people's, or a real interface there.
//!
//! Theory of operation. Like containers' TAPs they are opened by a client in the namespace, which alone
//! takes its privilege (for a TAP CAP_NET_ADMIN, for an interface CAP_NET_RAW); the daemon makes a
//! device of the descriptor, and configures and watches over sockets of the same namespace from
//! outside. The descriptors keep the namespace alive.

pub mod packet;
pub mod user;

use std::os::fd::OwnedFd;

use crate::io::netlink::monitor;
use crate::io::netns::{self, Identity, NetnsError, Target};
use crate::io::sys;

pub use packet::{PacketDevice, PacketError, Station};

/// What an uplink's frames go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A TAP: [`OffloadTap::attach`](super::tap::OffloadTap::attach), or without offload
    /// [`PlainTap::adopt`](super::tap::PlainTap::adopt), makes a device of it.
    Tap {
        /// Whether super-frames are to travel whole.
        offload: bool,
    },
    /// An interface that is there: [`PacketDevice::adopt`] makes a device of it.
    Packet,
}

/// Descriptors opened in an uplink's namespace.
#[derive(Debug)]
pub struct Descriptors {
    /// The TAP or packet socket.
    pub device: OwnedFd,
    /// A `NETLINK_ROUTE` socket to configure with: [`Netlink::new`](super::netlink::Netlink::new).
    pub netlink: OwnedFd,
    /// One that tells of changes: [`Monitor::new`](monitor::Monitor::new).
    pub monitor: OwnedFd,
    /// The namespace.
    pub identity: Identity,
}

/// Opens what an uplink takes, inside the target, or in the present namespace when there is none. With
/// a target it forks: the caller must have one thread.
///
/// # Errors
/// [`NetnsError`] when the namespace cannot be entered, or the privilege is missing there.
pub fn open(target: Option<&Target>, kind: Kind) -> Result<Descriptors, NetnsError> {
    let (identity, fds) = netns::inside(target, || {
        let mut fds = match kind {
            Kind::Tap { offload } => netns::open_here(1, offload)?,
            Kind::Packet => {
                let device = sys::packet::open().map_err(refused)?;
                let mut fds = vec![device];
                fds.extend(netns::open_here(0, true)?);
                fds
            }
        };
        fds.push(monitor::open().map_err(|error| NetnsError::other("open a netlink socket", error))?);
        Ok(fds)
    })?;
    let [device, netlink, monitor] = fds.try_into().map_err(|_| netns::incomplete())?;
    Ok(Descriptors { device, netlink, monitor, identity })
}

fn refused(error: std::io::Error) -> NetnsError {
    NetnsError::Refused {
        step: "open a packet socket".to_owned(),
        target: "the interface's namespace (it takes CAP_NET_RAW there)".to_owned(),
        cause: netns::describe(&error),
    }
}
