//! Work in a forked child: its result and descriptors come back over a socket.
//!
//! A namespace can be entered only by a process of one thread, and a user namespace not be left
//! again; so whoever must look inside sends a child in and stays outside.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sched::CloneFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::io::sys::{passing, process};

/// The longest message in bytes.
const MESSAGE_MAX: usize = 64 * 1024;

/// One end of a connection between a parent and its forked child: whole messages (JSON) with
/// descriptors. When the other process dies, receiving reports the end.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Both ends.
    pub fn pair() -> io::Result<(Self, Self)> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Self(a), Self(b)))
    }

    /// Sends one message. Fails with `EPIPE` when the peer has gone.
    pub fn send(&self, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        passing::send(self.0.as_fd(), &bytes, fds).map(drop)
    }

    /// Waits for one message; `None` when the peer has gone without sending any.
    pub fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut buffer = vec![0; MESSAGE_MAX];
        let (n, fds) = loop {
            match passing::receive(self.0.as_fd(), &mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        let bytes = buffer.get(..n).unwrap_or_default();
        if bytes.is_empty() { Ok(None) } else { Ok(Some((serde_json::from_slice(bytes)?, fds))) }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Runs `work` in a child and returns what it returned, with its descriptors.
///
/// The outer error is ours: the fork failed, or the child died without an answer.
pub fn run<T, E>(
    work: impl FnOnce() -> Result<(T, Vec<OwnedFd>), E>,
) -> io::Result<Result<(T, Vec<OwnedFd>), E>>
where
    T: Serialize + DeserializeOwned,
    E: Serialize + DeserializeOwned,
{
    let (ours, theirs) = Channel::pair()?;
    let mut child = process::fork(CloneFlags::empty(), || {
        if process::keep_only(&[theirs.as_fd()]).is_err() {
            return 125;
        }
        let (answer, fds) = match work() {
            Ok((answer, fds)) => (Ok(answer), fds),
            Err(error) => (Err(error), Vec::new()),
        };
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        i32::from(theirs.send(&answer, &fds).is_err())
    })?;
    drop(theirs);
    let answer = ours.receive::<Result<T, E>>()?;
    child.wait()?;
    let (answer, fds) = answer.ok_or_else(|| io::Error::other("the helper process died"))?;
    Ok(answer.map(|answer| (answer, fds)))
}

/// Goes on in the background: `work` runs in a child in a session of its own, with `/dev/null` for
/// stdin, stdout and stderr, and sends one message when what it was asked for stands.
///
/// Returns that message with its descriptors while the child lives on; `None` when it died without.
pub fn detach<T: DeserializeOwned>(
    work: impl FnOnce(Channel) -> i32,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let (ours, theirs) = Channel::pair()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let child = process::fork(CloneFlags::empty(), move || {
        let ready = nix::unistd::setsid()
            .map_err(io::Error::from)
            .and_then(|_| (0..=2).try_for_each(|standard| process::replace_standard(null.as_fd(), standard)))
            // Connections of its parent's would seem to go on.
            .and_then(|()| process::keep_only(&[null.as_fd(), theirs.as_fd()]));
        if ready.is_ok() { work(theirs) } else { 125 }
    })?;
    child.release();
    ours.receive()
}
