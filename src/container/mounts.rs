//! The container's view of the file system: the caller's, but private where it must be.

use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use super::error::SpawnError;
use super::etc_files::EtcFiles;

/// Where files may be made that the host does not see.
const PRIVATE: [&str; 2] = ["/run", "/tmp"];

/// Builds the view in the calling process's fresh mount namespace; /sys shows the interfaces of the network
/// namespace, and is left alone where that is the caller's. Returns what had to be done without, one line each.
pub(super) fn build(files: Option<&Path>, own_network: bool) -> Result<Vec<String>, SpawnError> {
    // Also the first act that needs the new user namespace's rights: where AppArmor grants the
    // namespace but not its rights, this is what fails.
    remount_private().map_err(|errno| {
        if matches!(errno, Errno::EPERM | Errno::EACCES) {
            return SpawnError::namespaces(&errno.into());
        }
        SpawnError::setup("make mounts private", errno)
    })?;
    let files = files.map(EtcFiles::open).transpose()?;
    let mut notices = Vec::new();
    notices.extend(mount_proc()?);
    if own_network {
        notices.extend(mount_sys()?);
    }
    mount_tmpfs("/run", "mode=0755")?;
    mount_tmpfs("/tmp", "mode=1777")?;
    if let Some(files) = files {
        files.mount(&PRIVATE.map(Path::new))?;
    }
    Ok(notices)
}

fn remount_private() -> nix::Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
}

fn closed() -> MsFlags {
    MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC
}

/// The kernel refuses a fresh /proc where the surrounding sandbox has covered parts of its own.
/// The old one still shows this process's own network settings, but the host's processes.
fn mount_proc() -> Result<Option<String>, SpawnError> {
    match mount(Some("proc"), "/proc", Some("proc"), closed(), None::<&str>) {
        Ok(()) => Ok(None),
        Err(Errno::EPERM) => {
            Ok(Some("this sandbox refuses a fresh /proc: process ids inside are the host's".to_owned()))
        }
        Err(errno) => Err(SpawnError::setup("mount /proc", errno)),
    }
}

/// A sysfs of the container's own shows its own interfaces; else the old one, read-only.
fn mount_sys() -> Result<Option<String>, SpawnError> {
    match mount(Some("sysfs"), "/sys", Some("sysfs"), closed(), None::<&str>) {
        Ok(()) => return Ok(None),
        Err(Errno::EPERM) => {}
        Err(errno) => return Err(SpawnError::setup("mount /sys", errno)),
    }
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some("/sys"), "/sys", None::<&str>, bind, None::<&str>)
        .and_then(|()| {
            let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | closed();
            mount(None::<&str>, "/sys", None::<&str>, read_only, None::<&str>)
        })
        .map_err(|errno| SpawnError::setup("mount /sys", errno))?;
    Ok(Some("this sandbox refuses a fresh /sys: /sys/class/net inside is the host's".to_owned()))
}

fn mount_tmpfs(path: &str, options: &str) -> Result<(), SpawnError> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(options))
        .map_err(|errno| SpawnError::setup(&format!("mount a private {path}"), errno))
}
