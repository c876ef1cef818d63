//! `hosts`, `hostname`, `resolv.conf` and `nsswitch.conf`: the daemon's files over those in `/etc`.
//!
//! A bind mount covers what a path *resolves to*; `/etc/resolv.conf` is often a link, and with our
//! private `/run` a dangling one. A missing target in the private `/run` or `/tmp` is simply made
//! there. Missing anywhere else, `/etc` itself becomes a private directory: a tmpfs on which every
//! old entry is bound or linked again, so that names can be added.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use nix::mount::{MsFlags, mount};

use super::error::SpawnError;

/// The files, by name.
pub(super) const NAMES: [&str; 4] = ["hosts", "hostname", "resolv.conf", "nsswitch.conf"];
/// How many links are followed, as in the kernel (`MAXSYMLINKS`).
const LINKS_MAX: usize = 40;

/// The files, opened before private mounts can hide the directory that they lie in.
pub(super) struct EtcFiles(Vec<(&'static str, OwnedFd)>);

impl EtcFiles {
    /// Opens those that exist in `directory`; the others keep the host's content.
    pub(super) fn open(directory: &Path) -> Result<Self, SpawnError> {
        let mut files = Vec::new();
        for name in NAMES {
            match open_path(&directory.join(name)) {
                Ok(fd) => files.push((name, fd)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(SpawnError::setup(&format!("open {}/{name}", directory.display()), error));
                }
            }
        }
        Ok(Self(files))
    }

    /// Mounts them over `/etc/NAME`. `private` are the directories where missing files may be made.
    pub(super) fn mount(self, private: &[&Path]) -> Result<(), SpawnError> {
        for (name, fd) in self.0 {
            let path = Path::new("/etc").join(name);
            let step = format!("mount the container's {}", path.display());
            mount_one(&path, &fd, private).map_err(|error| SpawnError::setup(&step, error))?;
        }
        Ok(())
    }
}

fn mount_one(path: &Path, file: &OwnedFd, private: &[&Path]) -> io::Result<()> {
    let target = resolve(path)?;
    if target.exists() {
        return bind(file, &target);
    }
    if private.iter().any(|directory| target.starts_with(directory)) {
        fs::create_dir_all(target.parent().unwrap_or(&target))?;
        File::create(&target)?;
        return bind(file, &target);
    }
    make_etc_private()?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => File::create(path)?, // a dangling link made way, or nothing was there
    };
    bind(file, path)
}

/// Follows links to the end, also when nothing is there.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::read_link(&path) {
            Ok(link) => path = tidy(&path.parent().unwrap_or(Path::new("/")).join(link)),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

/// Without `.` and `..`, so that its leading directories can be compared.
/// A parent that is a link (rare in `/etc`) is taken by its real name where it exists.
fn tidy(path: &Path) -> PathBuf {
    let parent = path.parent().and_then(|parent| parent.canonicalize().ok());
    if let (Some(parent), Some(name)) = (parent, path.file_name()) {
        return parent.join(name);
    }
    let mut tidied = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                tidied.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => tidied.push(component),
        }
    }
    tidied
}

fn make_etc_private() -> io::Result<()> {
    let old = open_path(Path::new("/etc"))?;
    let entries = fs::read_dir("/etc")?.collect::<io::Result<Vec<_>>>()?;
    mount(Some("tmpfs"), "/etc", Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=0755"))?;
    for entry in entries {
        let name = entry.file_name();
        let target = Path::new("/etc").join(&name);
        let source = PathBuf::from(format!("/proc/self/fd/{}", old.as_raw_fd())).join(&name);
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&source)?, &target)?;
            continue;
        }
        if kind.is_dir() {
            fs::create_dir(&target)?;
        } else {
            File::create(&target)?;
        }
        bind_path(&source, &target)?;
    }
    Ok(())
}

fn open_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(File::options().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open(path)?.into())
}

fn bind(file: &OwnedFd, target: &Path) -> io::Result<()> {
    bind_path(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())), target)
}

fn bind_path(source: &Path, target: &Path) -> io::Result<()> {
    Ok(mount(Some(source), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_resolve_to_their_end_even_when_nothing_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        fs::create_dir_all(dir.join("etc")).unwrap();
        fs::create_dir_all(dir.join("real")).unwrap();
        symlink("../link", dir.join("etc/a")).unwrap();
        symlink("real/file", dir.join("link")).unwrap();
        assert_eq!(resolve(&dir.join("etc/a")).unwrap(), dir.join("real/file"));
        symlink("../gone/../gone/x", dir.join("etc/b")).unwrap();
        assert_eq!(resolve(&dir.join("etc/b")).unwrap(), dir.join("gone/x"));
        symlink("loop", dir.join("loop")).unwrap();
        assert_eq!(resolve(&dir.join("loop")).unwrap_err().raw_os_error(), Some(libc::ELOOP));
    }
}
