//! Confinement: what the daemon gives up for good once it listens.
//!
//! Theory of operation. Everything dangerous is done by others: clients enter namespaces and hand open
//! descriptors over. So what is left of the daemon's own reach is taken away, in four layers that hold
//! independently of each other, before the second thread starts (all threads inherit them):
//!
//! | layer | takes away | file |
//! |---|---|---|
//! | capabilities | all but those of root's daemon that `capabilities` tells the reasons of | `capabilities.rs` |
//! | `no_new_privs` | to gain any by executing a file | here |
//! | landlock | to open, make and remove files outside of the runtime directory | `files.rs` |
//! | seccomp | the system calls that the daemon has no use for | `system_calls.rs` |
//!
//! A kernel without landlock or seccomp gets what it has; [`Confinement`] says what that was. None of
//! this can be undone, nor is it inherited by a container: its client starts that, not the daemon.

mod capabilities;
mod files;
mod system_calls;

use std::fmt;
use std::io;

pub use files::{Reach, resolver_files};

use super::sys::process;

/// What the kernel took part in.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Confinement {
    /// The capabilities that were kept, as `capabilities(7)` names them, without `CAP_` and in small letters.
    pub capabilities: Vec<String>,
    /// Why system calls are not filtered, if they are not.
    pub without_seccomp: Option<String>,
    /// The version of landlock's interface, or why there is none.
    pub landlock: Result<u32, String>,
}

impl Confinement {
    /// Whether every layer holds.
    pub fn is_whole(&self) -> bool {
        self.without_seccomp.is_none() && self.landlock.is_ok()
    }
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.capabilities.as_slice() {
            [] => write!(f, "capabilities none")?,
            kept => write!(f, "capabilities {}", kept.join(" "))?,
        }
        match &self.without_seccomp {
            None => write!(f, ", seccomp yes")?,
            Some(why) => write!(f, ", seccomp no ({why})")?,
        }
        match &self.landlock {
            Ok(version) => write!(f, ", landlock ABI {version}"),
            Err(why) => write!(f, ", landlock no ({why})"),
        }
    }
}

/// Confines this process, of one thread, for good.
///
/// # Errors
/// When there are threads already, who would stay as they are, or when the kernel refuses to take a
/// capability away. What the kernel does not have is no error.
pub fn confine(reach: &Reach) -> io::Result<Confinement> {
    process::refuse_threads("be confined")?;
    let capabilities = capabilities::give_up().map_err(|error| step("give up capabilities", error))?;
    nix::sys::prctl::set_no_new_privs().map_err(|error| step("set no_new_privs", error))?;
    let landlock = files::restrict(reach);
    // Last, for it refuses what the others need.
    let without_seccomp = system_calls::filter().err();
    Ok(Confinement { capabilities, without_seccomp, landlock })
}

fn step(what: &str, error: impl fmt::Display) -> io::Error {
    io::Error::other(format!("cannot {what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_holds_and_why_something_does_not() {
        let whole = Confinement { capabilities: Vec::new(), without_seccomp: None, landlock: Ok(6) };
        assert_eq!(whole.to_string(), "capabilities none, seccomp yes, landlock ABI 6");
        assert!(whole.is_whole());
        let poor = Confinement {
            capabilities: vec!["net_admin".into(), "net_bind_service".into()],
            without_seccomp: Some("not here".into()),
            landlock: Err("too old".into()),
        };
        let expected =
            "capabilities net_admin net_bind_service, seccomp no (not here), landlock no (too old)";
        assert_eq!(poor.to_string(), expected);
        assert!(!poor.is_whole());
    }

    #[test]
    fn threads_that_run_already_would_stay_as_they_are() {
        // The test harness runs this in a thread of its own.
        let error = confine(&Reach::default()).unwrap_err();
        assert!(error.to_string().contains("several threads cannot be confined"), "{error}");
    }
}
