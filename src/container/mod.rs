//! Our own containers: a command in fresh namespaces, and what keeps it alive.
//!
//! They isolate the network (and processes, host name, IPC), not files: the command sees the
//! caller's file system with private `/run` and `/tmp`. Everything here runs in the *client*
//! process, which has one thread and stays the container's parent, its *supervisor*:
//!
//! ```text
//! supervisor ── clone ──▶ init (pid 1 inside: mounts, sysctls, /dev/net/tun; then reaps, forwards signals)
//!     │ signals, terminal        │ fork
//!     ▼ wait                     ▼
//!  exit status ◀──────────── the command
//! ```
//!
//! [`spawn()`] prepares, the caller hands the descriptors to the daemon, [`Prepared::start`] lets
//! the command run, [`Running::wait`] serves it. [`exec()`] runs one more command in it later.
//!
//! **User ids.** root maps every id it has onto itself, so that files keep their owners. An
//! ordinary user becomes root inside, with subordinate ids beside where `newuidmap`, `newgidmap`
//! and ranges exist, else alone. Where root may not make a user namespace none is used.

mod command;
mod error;
mod etc_files;
pub mod exec;
mod ids;
mod init;
pub mod log;
mod mounts;
pub mod prerequisites;
mod spawn;
mod supervise;
mod sysctl;
mod terminal;

pub use crate::io::sys::process::Exit;
pub use error::SpawnError;
pub use exec::exec;
pub use ids::subordinate_ranges;
pub use spawn::{Output, Prepared, Running, Spec, spawn};
pub use supervise::Wake;
