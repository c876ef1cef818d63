//! What a port's frames come from and go to.

use std::net::SocketAddr;
use std::os::fd::RawFd;

use crate::dataplane::{DropReason, Frame, PortId, Traffic};
use crate::flows::Ends;

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// A frame.
    Frame,
    /// Nothing; there will be an edge when there is something.
    Empty,
}

/// Why a device did not take or give a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The interface is down inside (EIO).
    #[error("the interface is down")]
    LinkDown,
    /// The interface was deleted (EBADFD).
    #[error("the interface was deleted")]
    Lost,
    /// The kernel takes no more now (EAGAIN, ENOBUFS, ENOMEM).
    #[error("the kernel takes no more frames")]
    Full,
    /// The kernel refused this frame (EINVAL).
    #[error("the kernel refused the frame")]
    Refused,
    /// A user uplink does not go there.
    #[error("the user uplink does not go there")]
    Denied,
    /// A user uplink does not carry this.
    #[error("the user uplink does not carry this")]
    Unsupported,
    /// There is no descriptor left for a socket (EMFILE, ENFILE), or no memory.
    #[error("there is no descriptor left")]
    NoDescriptor,
    /// The host lets nobody ping through a user uplink.
    #[error("the host's net.ipv4.ping_group_range forbids pings")]
    NoPing,
    /// An error for somebody outside, whom no socket of a user uplink can tell.
    #[error("no socket tells errors to who is outside")]
    Untold,
    /// A user uplink has as many sockets as it may have.
    #[error("the user uplink has as many sockets as it may have")]
    Limit,
}

impl DeviceError {
    /// Under which reason a frame that could not be sent is counted.
    pub const fn drop_reason(self) -> DropReason {
        match self {
            Self::LinkDown => DropReason::EgressDown,
            Self::Lost => DropReason::EgressLost,
            Self::Full => DropReason::EgressFull,
            Self::Refused => DropReason::EgressRefused,
            Self::Denied => DropReason::HostDenied,
            Self::Unsupported => DropReason::HostUnsupported,
            Self::NoDescriptor => DropReason::HostNoDescriptor,
            Self::NoPing => DropReason::HostNoPing,
            Self::Untold => DropReason::HostUntold,
            Self::Limit => DropReason::HostLimit,
        }
    }
}

/// A device: reads and writes whole frames and never blocks.
pub trait Device: Send {
    /// The descriptor to poll for frames to read, if there is one.
    fn descriptor(&self) -> Option<RawFd>;

    /// Reads the next frame.
    ///
    /// # Errors
    /// [`DeviceError::Lost`] when there will be no more.
    fn recv(&mut self, frame: &mut Frame) -> Result<Received, DeviceError>;

    /// Writes a frame. Its bytes stay as they are; the room before them may be used.
    ///
    /// # Errors
    /// [`DeviceError`]; the frame is dropped then.
    fn send(&mut self, frame: &mut Frame) -> Result<(), DeviceError>;

    /// All frames of a turn have been sent: what was kept to travel together goes. The frames that were taken and
    /// could not go after all, for want of room ([`DeviceError::Full`]).
    fn flush(&mut self) -> Traffic {
        Traffic::default()
    }

    /// Poll says that there may be frames to read.
    fn wake(&mut self) {}

    /// The frames that are sent from now on came in by this port of the switch, or by none: for a device that
    /// limits what one port may have of it.
    fn serves(&mut self, from: Option<PortId>) {
        let _ = from;
    }

    /// Asked when poll reports an error: whether the interface is gone for good. A TAP has no other error.
    fn is_gone(&self) -> bool {
        true
    }

    /// Whether there are frames to read without an edge: those of a device that answers by itself.
    fn has_frames(&self) -> bool {
        false
    }

    /// The host's address that a flow leaves by, where it leaves by a socket of the host. `ends` are those of its
    /// packets towards the switch.
    fn host_socket(&self, protocol: u8, ends: &Ends) -> Option<SocketAddr> {
        let _ = (protocol, ends);
        None
    }

    /// Frames that the kernel dropped on their way to us, where only the device can tell.
    fn kernel_drops(&mut self) -> Option<u64> {
        None
    }
}

/// Devices without an interface, for tests: a pair, where one reads what the other writes.
#[cfg(test)]
pub(crate) mod memory {
    use std::os::fd::{AsRawFd, OwnedFd, RawFd};

    use nix::errno::Errno;
    use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};

    use super::{Device, DeviceError, Received};
    use crate::dataplane::Frame;

    /// One end of a socket pair that keeps messages apart; frames travel with their offload state.
    pub(crate) struct MemoryDevice(OwnedFd);

    /// Both ends. Dropping one deletes the other's interface, so to speak.
    pub(crate) fn pair() -> (MemoryDevice, MemoryDevice) {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        (MemoryDevice(a), MemoryDevice(b))
    }

    impl Device for MemoryDevice {
        fn descriptor(&self) -> Option<RawFd> {
            Some(self.0.as_raw_fd())
        }

        fn recv(&mut self, frame: &mut Frame) -> Result<Received, DeviceError> {
            match nix::unistd::read(&self.0, frame.space_with_header()) {
                Ok(0) | Err(Errno::ECONNRESET) => Err(DeviceError::Lost),
                Ok(len) => {
                    frame.filled_with_header(len);
                    Ok(Received::Frame)
                }
                Err(error) => {
                    assert_eq!(error, Errno::EAGAIN);
                    Ok(Received::Empty)
                }
            }
        }

        fn send(&mut self, frame: &mut Frame) -> Result<(), DeviceError> {
            let sent = send(self.0.as_raw_fd(), frame.bytes_with_header(), MsgFlags::MSG_NOSIGNAL);
            sent.map(drop).map_err(|error| match error == Errno::EAGAIN {
                true => DeviceError::Full,
                false => DeviceError::Lost,
            })
        }
    }
}
