//! Descriptors for interfaces in a namespace of somebody else's, opened inside it.
//!
//! Clients do this when they plug it in, and the daemon when it starts, before it is confined, for those
//! that were plugged in before its end.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::Context;

use super::netns::{Target, open_inside, open_nursery};
use super::sys::process::open_pidfd;

/// What the daemon gets, in its order.
#[derive(Debug)]
pub struct Opened {
    /// TAPs, a netlink socket, and a pidfd; or, of a nursery, the namespace and a netlink socket in it.
    pub descriptors: Vec<OwnedFd>,
    /// Whether the TAP was made in a nursery namespace.
    pub nursery: bool,
    /// The namespace's inode number.
    pub inode: u64,
    /// The namespace that our descriptors keep alive: its end will not be noticed.
    pub pinned: Option<PathBuf>,
}

/// Opens TAPs where the target is, and what the daemon needs besides. Forks: the caller must have one thread.
///
/// # Errors
/// When there is no such namespace, or it cannot be entered.
pub fn open(target: &Target, taps: usize, offload: bool) -> anyhow::Result<Opened> {
    match target {
        Target::Pid(pid) => {
            let pidfd = open_pidfd(nix::unistd::Pid::from_raw(*pid))
                .with_context(|| format!("there is no process {pid} to plug in"))?;
            let opened = open_inside(target, taps, offload)?;
            let inode = opened.identity.inode;
            let descriptors = opened.tuns.into_iter().chain([opened.netlink, pidfd]).collect();
            Ok(Opened { descriptors, nursery: false, inode, pinned: None })
        }
        Target::Path { .. } if nix::unistd::geteuid().is_root() => {
            let opened = open_nursery(target, taps, offload)?;
            let inode = opened.target_identity.inode;
            let inner = opened.descriptors;
            let rest = [inner.netlink, opened.target, opened.target_netlink];
            let descriptors = inner.tuns.into_iter().chain(rest).collect();
            Ok(Opened { descriptors, nursery: true, inode, pinned: None })
        }
        Target::Path { netns, .. } => {
            let opened = open_inside(target, taps, offload)?;
            let inode = opened.identity.inode;
            let descriptors = opened.tuns.into_iter().chain([opened.netlink]).collect();
            Ok(Opened { descriptors, nursery: false, inode, pinned: Some(netns.clone()) })
        }
    }
}
