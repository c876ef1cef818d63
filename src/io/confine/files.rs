//! Files: what landlock (landlock(7)) lets the daemon open, make and remove from now on.
//!
//! What landlock does not look at (modes, owners, times, extended attributes, links) the system call
//! filter refuses altogether. Descriptors that are open, or come by the control socket, stay usable.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, LandlockStatus, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

/// The newest interface whose rights we know; an older kernel gets those that it has.
const KNOWN: ABI = ABI::V9;

/// What stays within reach. Paths that do not exist are passed over; a directory stands for all
/// that is in it.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// Directories whose files may be made, read, written and removed.
    pub owned: Vec<PathBuf>,
    /// Directories whose files may be made, written and replaced, but not read.
    pub replaced: Vec<PathBuf>,
    /// Directories whose entries may be removed.
    pub cleared: Vec<PathBuf>,
    /// Files and directories that may be read.
    pub read: Vec<PathBuf>,
}

/// Restricts this thread and all that it starts; returns the version of the interface, or why not.
pub(super) fn restrict(reach: &Reach) -> Result<u32, String> {
    let restricted = ruleset(reach).and_then(RulesetCreated::restrict_self);
    let status = restricted.map_err(|error| error.to_string())?;
    match (status.landlock, status.ruleset) {
        (LandlockStatus::NotImplemented, _) => Err("not in this kernel".to_owned()),
        (LandlockStatus::NotEnabled, _) => Err("not enabled: boot with lsm=landlock,..".to_owned()),
        (_, RulesetStatus::NotEnforced) => Err("not enforced".to_owned()),
        (LandlockStatus::Available { effective_abi, .. }, _) => Ok(effective_abi as u32),
    }
}

fn ruleset(reach: &Reach) -> Result<RulesetCreated, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let remove = AccessFs::RemoveFile | AccessFs::RemoveDir;
    let replace = AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg;
    let write = replace | AccessFs::MakeDir;
    Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        // Signals are not scoped: containers are signalled by their pidfds.
        .scope(Scope::AbstractUnixSocket)?
        .create()?
        .add_rules(path_beneath_rules(&reach.owned, read | write | remove))?
        .add_rules(path_beneath_rules(&reach.replaced, replace | AccessFs::RemoveFile))?
        .add_rules(path_beneath_rules(&reach.cleared, remove))?
        .add_rules(path_beneath_rules(&reach.read, read))
}

/// What to read of the file that names the host's resolvers, which may be a link, and may be rewritten or
/// replaced where it is and where it leads: both, and both directories.
///
/// Root's daemon gets no directory that `/etc` is in, where the passwords are: a file that is replaced
/// there by another one can then not be read before a new start.
pub fn resolver_files(file: &Path) -> Vec<PathBuf> {
    let target = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let guarded = Path::new(if nix::unistd::geteuid().is_root() { "/etc" } else { "/" });
    let directories = [file.parent(), target.parent()].into_iter().flatten();
    let mut all: Vec<_> =
        directories.filter(|directory| !guarded.starts_with(directory)).map(Path::to_owned).collect();
    all.extend([file.to_owned(), target]);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_read_where_they_are_and_where_that_leads() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let [etc, run] = ["etc", "run"].map(|name| root.join(name));
        for made in [&etc, &run] {
            std::fs::create_dir(made).unwrap();
        }
        let (link, stub) = (etc.join("resolv.conf"), run.join("stub"));
        std::fs::write(&stub, "nameserver 192.0.2.1").unwrap();
        std::os::unix::fs::symlink(&stub, &link).unwrap();
        assert_eq!(resolver_files(&link), [etc, run, link, stub]);
        let all = resolver_files(Path::new("/none-of-this-name"));
        assert!(!all.iter().any(|path| path == Path::new("/")), "{all:?}");
    }
}
