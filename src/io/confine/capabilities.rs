//! Capabilities (capabilities(7)): which may be kept, and the end of all others.
//!
//! An ordinary user's daemon has none and needs none: who owns a user namespace may do everything to what
//! is in it. Root's daemon also serves namespaces that the first user namespace owns (`plug --netns`,
//! uplinks, containers where user namespaces are forbidden), and there the kernel asks whoever *uses* a
//! descriptor, not only whoever opened it. Over anything else its `CAP_NET_ADMIN` has no power: the other
//! layers let it open no netlink or packet socket, no `/dev/net/tun`, and make no ioctl that sets up an
//! interface.

use std::collections::HashSet;

use caps::errors::CapsError;
use caps::{CapSet, Capability};

/// What may be kept, where it is held at start.
const KEPT: [Capability; 2] = [
    // `TUNSETIFF` and rtnetlink ask for it over the namespace of the descriptor.
    Capability::CAP_NET_ADMIN,
    // Ports below 1024 of the host, when one is published there.
    Capability::CAP_NET_BIND_SERVICE,
];

/// Gives all others up, in every set; returns the names of those that are left.
pub(super) fn give_up() -> Result<Vec<String>, CapsError> {
    let held = caps::read(None, CapSet::Permitted)?;
    let kept: HashSet<_> = KEPT.into_iter().filter(|capability| held.contains(capability)).collect();
    // To shrink the bounding set takes a capability; without it there is nothing that could be gained
    // from it either, after no_new_privs.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for capability in caps::all().difference(&kept) {
            // A kernel that does not know one of them has none to take away.
            if caps::has_cap(None, CapSet::Bounding, *capability).unwrap_or(false) {
                caps::drop(None, CapSet::Bounding, *capability)?;
            }
        }
    }
    // The ambient set goes with it.
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    let name = |capability: &Capability| {
        let name = capability.to_string().to_lowercase();
        name.strip_prefix("cap_").map(str::to_owned).unwrap_or(name)
    };
    Ok(KEPT.iter().filter(|capability| kept.contains(capability)).map(name).collect())
}
