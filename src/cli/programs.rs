//! Programs on the search path that are not this one under another name.
//!
//! In a shell of ours (`tapswitch shell`) the first `tcpdump` found is ourselves.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

/// Where Debian puts programs, for users whose search path lacks the system directories.
const USUAL: [&str; 3] = ["/usr/sbin", "/usr/bin", "/sbin"];

/// The first program of this name on the search path, or in the usual places, that is another one than we.
pub fn find(name: &str) -> Option<PathBuf> {
    find_along(name, &std::env::var_os("PATH").unwrap_or_default(), &own())
}

/// The binary that runs.
///
/// `/proc/self/exe` stays true when links lead here, and tells when the file is gone.
pub fn own() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"))
}

fn find_along(name: &str, path: &OsStr, own: &Path) -> Option<PathBuf> {
    let places = std::env::split_paths(path).chain(USUAL.map(PathBuf::from));
    let is_another = |file: &PathBuf| {
        let real = file.canonicalize();
        access(file, AccessFlags::X_OK).is_ok()
            && real.is_ok_and(|real| real.is_file() && Some(real) != own.canonicalize().ok())
    };
    places.map(|place| place.join(name)).find(is_another)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn who_is_a_link_to_us_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for place in ["ours", "theirs", "dull"] {
            fs::create_dir(at(place)).unwrap();
        }
        for file in ["us", "theirs/x", "dull/x"] {
            fs::write(at(file), "").unwrap();
        }
        for program in ["us", "theirs/x"] {
            fs::set_permissions(at(program), Permissions::from_mode(0o755)).unwrap();
        }
        symlink(at("us"), at("ours/x")).unwrap();
        let path = std::env::join_paths([at("ours"), at("dull"), at("theirs")]).unwrap();
        assert_eq!(find_along("x", &path, &at("us")), Some(at("theirs/x")));
        assert_eq!(find_along("no-such-program", &path, &at("us")), None);
    }
}
