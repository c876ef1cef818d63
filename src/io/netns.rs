//! Descriptors from inside a network namespace.
//!
//! # Theory of operation
//! The daemon never enters a namespace. A TAP belongs to the namespace that was current when
//! `/dev/net/tun` was *opened*, and a netlink socket to the one in which it was made; so a client
//! opens both inside, and hands them to the daemon, which configures through them from outside
//! (it needs no capability: it runs as the user who owns the inner user namespace).
//!
//! An open TAP or netlink socket keeps its namespace alive. For a namespace that a process lives
//! in that does no harm: its end is seen by pidfd and the daemon closes them. For one that exists
//! by its path alone ([`open_nursery`], root only) the TAPs are opened in an empty *nursery*
//! namespace and moved in, so that deleting the target is seen as POLLERR on the TAP.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use serde::{Deserialize, Serialize};

use crate::io::helper;
use crate::io::sys::{namespace, passing};
use crate::io::tap;

/// The device that makes TAPs.
pub const TUN: &str = "/dev/net/tun";
/// The most TAPs that can be asked for at once: what one message carries beside the other descriptors.
pub const MAX_TAPS: usize = passing::MAX_DESCRIPTORS - 3;

/// Which namespace it is: two of the same device and inode number are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The device number of the kernel's nsfs.
    pub dev: u64,
    /// The inode number, as in `net:[4026531840]`.
    pub inode: u64,
}

impl Identity {
    /// Of an open namespace file.
    pub fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { dev: metadata.st_dev(), inode: metadata.st_ino() })
    }

    /// Of the network namespace that this process is in.
    pub fn current() -> io::Result<Self> {
        Self::of(&File::open("/proc/self/ns/net")?)
    }
}

/// Descriptors opened inside one network namespace. Each keeps that namespace alive.
#[derive(Debug)]
pub struct Descriptors {
    /// `/dev/net/tun`, non-blocking, before `TUNSETIFF`.
    pub tuns: Vec<OwnedFd>,
    /// A `NETLINK_ROUTE` socket.
    pub netlink: OwnedFd,
    /// The namespace.
    pub identity: Identity,
}

/// What [`open_nursery`] returns.
#[derive(Debug)]
pub struct Nursery {
    /// Inside the nursery: TAPs to be made there, and the netlink socket to move them with
    /// (`IFLA_NET_NS_FD` = `target`).
    pub descriptors: Descriptors,
    /// The target namespace. Keeps it alive: close after the move.
    pub target: OwnedFd,
    /// A `NETLINK_ROUTE` socket in the target. Keeps it alive: close after configuring.
    pub target_netlink: OwnedFd,
    /// The target namespace.
    pub target_identity: Identity,
}

/// A namespace of other people's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// That of a process.
    Pid(i32),
    /// That of a file such as `/run/netns/NAME`.
    Path {
        /// The network namespace.
        netns: PathBuf,
        /// The user namespace to enter first; without it the one that owns `netns`.
        userns: Option<PathBuf>,
    },
}

/// Why a namespace could not be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum NetnsError {
    /// There is no such process or file.
    #[error("{target} does not exist")]
    Missing {
        /// The process or path.
        target: String,
    },
    /// The file is no network namespace.
    #[error("{target} is not a network namespace (give /proc/PID/ns/net or /run/netns/NAME)")]
    NotANamespace {
        /// The path.
        target: String,
    },
    /// Entering is not permitted.
    #[error("cannot {step} of {target}: {cause}; run as root, or as the user who made its user namespace")]
    Refused {
        /// What was tried.
        step: String,
        /// The process or path.
        target: String,
        /// The kernel's answer.
        cause: String,
    },
    /// `/dev/net/tun` could not be opened.
    #[error("cannot open {TUN}: {cause}; {mend}")]
    Tun {
        /// The kernel's answer.
        cause: String,
        /// What to do about it.
        mend: String,
    },
    /// Anything else.
    #[error("cannot {step}: {cause}")]
    Other {
        /// What was tried.
        step: String,
        /// The kernel's answer.
        cause: String,
    },
}

impl NetnsError {
    pub(crate) fn other(step: &str, cause: impl Into<io::Error>) -> Self {
        Self::Other { step: step.to_owned(), cause: describe(&cause.into()) }
    }
}

/// The kernel's words for an error, without Rust's "(os error N)".
pub fn describe(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => nix::Error::from_raw(errno).desc().to_owned(),
        None => error.to_string(),
    }
}

/// Opens `taps` TAP descriptors and a netlink socket inside the target, which stays alive while
/// they are open. Forks: the caller must have one thread.
pub fn open_inside(target: &Target, taps: usize, offload: bool) -> Result<Descriptors, NetnsError> {
    let (identity, mut fds) = inside(Some(target), || open_here(taps, offload))?;
    let netlink = fds.pop().ok_or_else(incomplete)?;
    Ok(Descriptors { tuns: fds, netlink, identity })
}

/// Does something inside the target, or where we are when there is none, and returns what that made, with
/// the namespace's identity. With a target it forks: the caller must have one thread.
pub(crate) fn inside(
    target: Option<&Target>,
    work: impl FnOnce() -> Result<Vec<OwnedFd>, NetnsError>,
) -> Result<(Identity, Vec<OwnedFd>), NetnsError> {
    let Some(target) = target else {
        let identity = Identity::current().map_err(|error| NetnsError::other("read the namespace", error))?;
        return Ok((identity, work()?));
    };
    helper::run(|| {
        let inside = Inside::open(target)?;
        inside.enter()?;
        Ok((inside.identity, work()?))
    })
    .map_err(|error| NetnsError::other("look into the namespace", error))?
}

/// Opens `taps` TAP descriptors in a fresh namespace from which they can be moved into the
/// target, which then is not kept alive by them. For root: both namespaces must be ours to
/// administer. Forks: the caller must have one thread.
pub fn open_nursery(target: &Target, taps: usize, offload: bool) -> Result<Nursery, NetnsError> {
    let (identities, mut fds) = helper::run(|| {
        let inside = Inside::open(target)?;
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|errno| inside.refused("make a nursery namespace for the TAP", errno))?;
        let nursery = Identity::current().map_err(|error| NetnsError::other("make a nursery", error))?;
        let mut fds = open_here(taps, offload)?;
        inside.enter()?;
        let target_netlink = open_netlink()?;
        let identities = [nursery, inside.identity];
        fds.extend([OwnedFd::from(inside.netns), target_netlink]);
        Ok((identities, fds))
    })
    .map_err(|error| NetnsError::other("look into the namespace", error))??;
    let [identity, target_identity] = identities;
    let target_netlink = fds.pop().ok_or_else(incomplete)?;
    let target = fds.pop().ok_or_else(incomplete)?;
    let netlink = fds.pop().ok_or_else(incomplete)?;
    let descriptors = Descriptors { tuns: fds, netlink, identity };
    Ok(Nursery { descriptors, target, target_netlink, target_identity })
}

/// Switches IPv6 on for the interfaces that will be made in the target: a container of ours that
/// began on networks without IPv6 has it off. Forks: the caller must have one thread.
pub fn allow_ipv6(target: &Target) -> Result<(), NetnsError> {
    // As for a container that begins with IPv6: addresses are usable at once and come from us alone.
    const SETTINGS: [(&str, &str); 3] = [("accept_dad", "0"), ("accept_ra", "0"), ("disable_ipv6", "0")];
    helper::run(|| {
        Inside::open(target)?.enter()?;
        for (key, value) in SETTINGS {
            std::fs::write(format!("/proc/sys/net/ipv6/conf/default/{key}"), value)
                .map_err(|error| NetnsError::other("switch IPv6 on inside", error))?;
        }
        Ok(((), Vec::new()))
    })
    .map_err(|error| NetnsError::other("look into the namespace", error))?
    .map(|((), _)| ())
}

pub(crate) fn incomplete() -> NetnsError {
    NetnsError::other("look into the namespace", io::Error::other("the helper sent too few descriptors"))
}

/// `taps` times `/dev/net/tun`, and last a netlink socket, in the current namespace.
pub(crate) fn open_here(taps: usize, offload: bool) -> Result<Vec<OwnedFd>, NetnsError> {
    if taps > MAX_TAPS {
        let step = format!("open {taps} TAPs at once");
        return Err(NetnsError::Other { step, cause: format!("the limit is {MAX_TAPS}") });
    }
    let mut fds = (0..taps)
        .map(|_| if offload { open_tun() } else { create_plain() })
        .collect::<Result<Vec<_>, _>>()?;
    fds.push(open_netlink()?);
    Ok(fds)
}

fn open_tun() -> Result<OwnedFd, NetnsError> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(TUN);
    file.map(OwnedFd::from)
        .map_err(|error| NetnsError::Tun { mend: mend_tun(&error).to_owned(), cause: describe(&error) })
}

/// A finished plain TAP, through the crate tun-tap, which can neither adopt a descriptor nor be told
/// a name that may be taken: the daemon names it.
fn create_plain() -> Result<OwnedFd, NetnsError> {
    // Opening first tells best why it cannot be opened.
    open_tun()?;
    tap::create_plain().map_err(|error| NetnsError::other("make a plain TAP", io::Error::other(error)))
}

/// The command that makes `/dev/net/tun` usable.
pub fn mend_tun(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOENT) => {
            "sudo modprobe tun && sudo mkdir -p /dev/net && sudo mknod -m 0666 /dev/net/tun c 10 200 \
             (in a container: start it with --device /dev/net/tun)"
        }
        Some(libc::ENODEV | libc::ENXIO) => "sudo modprobe tun",
        Some(libc::EACCES) => "sudo chmod 0666 /dev/net/tun",
        Some(libc::EPERM) => "in a container: start it with --device /dev/net/tun",
        _ => "see: ls -l /dev/net/tun",
    }
}

fn open_netlink() -> Result<OwnedFd, NetnsError> {
    let flags = SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)
        .map_err(|errno| NetnsError::other("open a netlink socket", errno))
}

/// A target, found and open.
struct Inside {
    name: String,
    netns: File,
    /// `None`: it is the one we are in.
    userns: Option<OwnedFd>,
    identity: Identity,
}

impl Inside {
    fn open(target: &Target) -> Result<Self, NetnsError> {
        let (name, path, userns) = match target {
            Target::Pid(pid) => {
                (format!("process {pid}"), PathBuf::from(format!("/proc/{pid}/ns/net")), None)
            }
            Target::Path { netns, userns } => (netns.display().to_string(), netns.clone(), userns.as_deref()),
        };
        let netns = open_file(&path, &name)?;
        let identity =
            Identity::of(&netns).map_err(|error| NetnsError::other("read the namespace", error))?;
        let userns = match userns {
            Some(path) => open_file(path, &path.display().to_string())?.into(),
            None => owner(netns.as_fd(), &name)?,
        };
        let userns = if is_current_user_namespace(&userns)? { None } else { Some(userns) };
        Ok(Self { name, netns, userns, identity })
    }

    /// First the user namespace: there its owner has the capability that the second step needs.
    fn enter(&self) -> Result<(), NetnsError> {
        if let Some(userns) = &self.userns {
            setns(userns, CloneFlags::CLONE_NEWUSER)
                .map_err(|errno| self.refused("enter the user namespace", errno))?;
        }
        setns(&self.netns, CloneFlags::CLONE_NEWNET).map_err(|errno| {
            if errno == nix::Error::EINVAL {
                return NetnsError::NotANamespace { target: self.name.clone() };
            }
            self.refused("enter the network namespace", errno)
        })
    }

    fn refused(&self, step: &str, errno: nix::Error) -> NetnsError {
        let cause = errno.desc().to_owned();
        NetnsError::Refused { step: step.to_owned(), target: self.name.clone(), cause }
    }
}

fn open_file(path: &Path, target: &str) -> Result<File, NetnsError> {
    let target = target.to_owned();
    File::open(path).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) => NetnsError::Missing { target },
        _ => NetnsError::Refused { step: "open the namespace".to_owned(), target, cause: describe(&error) },
    })
}

fn owner(netns: BorrowedFd<'_>, target: &str) -> Result<OwnedFd, NetnsError> {
    let target = target.to_owned();
    namespace::owning_user_namespace(netns).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOTTY) => NetnsError::NotANamespace { target },
        _ => NetnsError::Refused { step: "find the owner".to_owned(), target, cause: describe(&error) },
    })
}

fn is_current_user_namespace(userns: &OwnedFd) -> Result<bool, NetnsError> {
    let compare = || -> io::Result<bool> {
        let own = File::open("/proc/self/ns/user")?;
        Ok(Identity::of(&own)? == Identity::of(&File::from(userns.try_clone()?))?)
    };
    compare().map_err(|error| NetnsError::other("compare user namespaces", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_one_line_that_names_the_mend() {
        let missing = NetnsError::Missing { target: "process 7".to_owned() };
        assert_eq!(missing.to_string(), "process 7 does not exist");
        let error = io::Error::from_raw_os_error(libc::EACCES);
        let tun = NetnsError::Tun { cause: describe(&error), mend: mend_tun(&error).to_owned() };
        assert_eq!(
            tun.to_string(),
            "cannot open /dev/net/tun: Permission denied; sudo chmod 0666 /dev/net/tun"
        );
    }

    #[test]
    fn an_ordinary_file_is_not_a_namespace() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let target = Target::Path { netns: file.path().to_owned(), userns: None };
        assert!(matches!(Inside::open(&target), Err(NetnsError::NotANamespace { .. })));
        let target = Target::Path { netns: PathBuf::from("/nowhere/at/all"), userns: None };
        assert!(matches!(Inside::open(&target), Err(NetnsError::Missing { .. })));
    }

    #[test]
    fn too_many_taps_are_refused() {
        assert!(open_here(MAX_TAPS + 1, true).is_err());
    }
}
