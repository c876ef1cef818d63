//! TAP devices: with offload, and plain.
//!
//! [`OffloadTap`] reads and writes a virtio-net header before each frame and offers its
//! namespace checksum and segmentation offload, so that frames of 64 KiB travel whole.
//! [`PlainTap`] is made through the crate `tun-tap` (by the client, inside the namespace:
//! the crate opens `/dev/net/tun` itself and cannot adopt a descriptor) and carries frames
//! as they are on a wire; what other ports left undone is done here, in software.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::device::{Device, DeviceError, Received};
use super::sys::tun;
use crate::dataplane::Frame;
use crate::wire::segment;

/// Frames that may wait in a TAP's interface until they are read. The kernel drops what comes then, and whoever sent it
/// by TCP waits twice as long each time: of 10,000 connections that say something at once, those that come last in
/// the kernel's usual 1,000 wait for ten rounds of that, half a minute, and in these for two or three. More would pin
/// too much memory where somebody floods with frames of 64 KiB; 8 bytes each are taken at once.
pub const QUEUE: u32 = 4096;

/// A TAP could not be made or adopted.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the TAP {name}: {what}: {error}{}", mend(error))]
pub struct TapError {
    name: String,
    what: &'static str,
    error: io::Error,
}

fn mend(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(nix::libc::EPERM) => {
            " (it takes CAP_NET_ADMIN over the namespace, or to be the owner of its user namespace)"
        }
        Some(nix::libc::EBUSY) => {
            " (the namespace has an interface of this name already: choose another with --ifname)"
        }
        Some(nix::libc::EINVAL) => {
            " (the name is not one for an interface, or this kernel has no offload for TAPs: use --no-offload)"
        }
        _ => "",
    }
}

fn set_nonblocking(descriptor: &OwnedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(descriptor, FcntlArg::F_GETFL)?);
    fcntl(descriptor, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// A TAP whose frames carry their offload state.
#[derive(Debug)]
pub struct OffloadTap(OwnedFd);

impl OffloadTap {
    /// Creates the TAP `name` in the namespace where `/dev/net/tun` was opened as `descriptor`.
    ///
    /// # Errors
    /// [`TapError`] when the kernel refuses.
    pub fn attach(descriptor: OwnedFd, name: &str) -> Result<Self, TapError> {
        let fail = |what| move |error| TapError { name: name.to_owned(), what, error };
        tun::create_tap(descriptor.as_fd(), name).map_err(fail("TUNSETIFF"))?;
        Self::adopt(descriptor, name)
    }

    /// Takes over the TAP `name`, made with virtio-net headers.
    ///
    /// # Errors
    /// [`TapError`] when the kernel refuses.
    pub fn adopt(descriptor: OwnedFd, name: &str) -> Result<Self, TapError> {
        let fail = |what| move |error| TapError { name: name.to_owned(), what, error };
        // UDP segmentation is younger than the rest; without it datagrams come one by one.
        tun::set_offload(descriptor.as_fd(), tun::OFFLOAD_TCP | tun::OFFLOAD_UDP)
            .or_else(|_| tun::set_offload(descriptor.as_fd(), tun::OFFLOAD_TCP))
            .map_err(fail("TUNSETOFFLOAD"))?;
        set_nonblocking(&descriptor).map_err(fail("O_NONBLOCK"))?;
        Ok(Self(descriptor))
    }
}

impl Device for OffloadTap {
    fn descriptor(&self) -> Option<RawFd> {
        Some(self.0.as_raw_fd())
    }

    #[inline]
    fn recv(&mut self, frame: &mut Frame) -> Result<Received, DeviceError> {
        let len = read(&self.0, frame.space_with_header())?;
        Ok(len.map_or(Received::Empty, |len| {
            frame.filled_with_header(len);
            Received::Frame
        }))
    }

    #[inline]
    fn send(&mut self, frame: &mut Frame) -> Result<(), DeviceError> {
        write(&self.0, frame.bytes_with_header())
    }
}

/// Makes a plain TAP through tun-tap in the calling thread's namespace, and hands over its
/// descriptor. The kernel chooses the name.
///
/// # Errors
/// [`TapError`] when `/dev/net/tun` cannot be opened or the kernel refuses.
pub fn create_plain() -> Result<OwnedFd, TapError> {
    let fail = |what| move |error| TapError { name: "tap%d".to_owned(), what, error };
    let tap = tun_tap::Iface::without_packet_info("tap%d", tun_tap::Mode::Tap).map_err(fail("tun-tap"))?;
    super::sys::tun::duplicate(&tap).map_err(fail("dup"))
}

/// A TAP whose frames are complete, as on a wire.
#[derive(Debug)]
pub struct PlainTap {
    descriptor: OwnedFd,
    name: String,
    scratch: Vec<u8>,
}

impl PlainTap {
    /// Takes over a TAP that [`create_plain`] made.
    ///
    /// # Errors
    /// [`TapError`] when the descriptor is no plain TAP.
    pub fn adopt(descriptor: OwnedFd) -> Result<Self, TapError> {
        let fail = |name: &str, what| {
            let name = name.to_owned();
            move |error| TapError { name, what, error }
        };
        let attached = tun::attached(descriptor.as_fd()).map_err(fail("?", "TUNGETIFF"))?;
        let name = attached.name;
        if attached.has_header {
            let error = io::Error::from(ErrorKind::InvalidInput);
            return Err(fail(&name, "it carries virtio-net headers")(error));
        }
        // The mask belongs to the device and survives whoever set it: super-frames would come
        // without the header that tells of them.
        tun::set_offload(descriptor.as_fd(), 0).map_err(fail(&name, "TUNSETOFFLOAD"))?;
        set_nonblocking(&descriptor).map_err(fail(&name, "O_NONBLOCK"))?;
        Ok(Self { descriptor, name, scratch: Vec::new() })
    }

    /// The interface's name when it was adopted.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Device for PlainTap {
    fn descriptor(&self) -> Option<RawFd> {
        Some(self.descriptor.as_raw_fd())
    }

    fn recv(&mut self, frame: &mut Frame) -> Result<Received, DeviceError> {
        let len = read(&self.descriptor, frame.space())?;
        Ok(len.map_or(Received::Empty, |len| {
            frame.filled(len);
            Received::Frame
        }))
    }

    fn send(&mut self, frame: &mut Frame) -> Result<(), DeviceError> {
        let (bytes, offload) = (frame.bytes(), frame.offload);
        if offload.is_complete() {
            return write(&self.descriptor, bytes);
        }
        let descriptor = &self.descriptor;
        let mut sent = Ok(());
        let cut = segment::complete(bytes, &offload, &mut self.scratch, |wire_frame| {
            sent = sent.and_then(|()| write(descriptor, wire_frame));
        });
        cut.map_err(|_| DeviceError::Refused).and(sent)
    }
}

/// Reads a frame; `None` when there is none.
fn read(descriptor: &OwnedFd, space: &mut [u8]) -> Result<Option<usize>, DeviceError> {
    match nix::unistd::read(descriptor, space) {
        Ok(len) => Ok(Some(len)),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
        Err(error) => Err(device_error(error)),
    }
}

fn write(descriptor: &OwnedFd, bytes: &[u8]) -> Result<(), DeviceError> {
    nix::unistd::write(descriptor, bytes).map(drop).map_err(device_error)
}

/// What `tun_chr_read_iter` and `tun_get_user` (Linux `drivers/net/tun.c`) mean by their errors.
fn device_error(error: Errno) -> DeviceError {
    match error {
        Errno::EBADFD | Errno::EBADF | Errno::ENODEV => DeviceError::Lost,
        Errno::EIO | Errno::ENETDOWN | Errno::EFAULT => DeviceError::LinkDown,
        Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM => DeviceError::Full,
        _ => DeviceError::Refused,
    }
}
