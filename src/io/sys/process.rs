//! Processes: forking with namespaces, pidfds, what a child must shed before `exec`.
//!
//! Needs Linux 5.11 (`CLONE_PIDFD` 5.2, `pidfd_open` 5.3, `setns` on a pidfd 5.8,
//! `CLOSE_RANGE_CLOEXEC` 5.11).
#![allow(unsafe_code)]

use std::ffi::{CString, c_int, c_long};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// What a child whose code panicked exits with: "the fault is ours" (Docker's 125).
const PANICKED: i32 = 125;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It called `exit` with this status.
    Code(u8),
    /// It was killed by this signal.
    Signal(i32),
}

impl Exit {
    /// The status as shells report it: the code, or 128 + the signal's number.
    pub fn status(self) -> i32 {
        match self {
            Self::Code(code) => i32::from(code),
            Self::Signal(signal) => 128 + signal,
        }
    }

    /// Reads what `waitpid` reported; `None` while the process has not ended.
    pub fn from_wait(status: WaitStatus) -> Option<Self> {
        match status {
            WaitStatus::Exited(_, code) => Some(Self::Code(u8::try_from(code & 0xff).unwrap_or(u8::MAX))),
            WaitStatus::Signaled(_, signal, _) => Some(Self::Signal(signal as i32)),
            WaitStatus::Stopped(..)
            | WaitStatus::PtraceEvent(..)
            | WaitStatus::PtraceSyscall(_)
            | WaitStatus::Continued(_)
            | WaitStatus::StillAlive => None,
        }
    }
}

/// A child of this process. Dropping it before it was waited for kills it: no path of the
/// caller, however it fails, leaves a process behind.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    pidfd: Option<OwnedFd>,
}

impl Child {
    /// Takes charge of a child that somebody else started on this process's behalf (`CLONE_PARENT`).
    pub fn adopt(pid: Pid, pidfd: OwnedFd) -> Self {
        Self { pid, pidfd: Some(pidfd) }
    }

    /// Its id as this process sees it.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Readable when the child has ended; `None` once it was waited for.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// Gives up charge of the child.
    pub fn release(mut self) -> (Pid, Option<OwnedFd>) {
        (self.pid, self.pidfd.take())
    }

    /// Sends a signal (`pidfd_send_signal(2)`), which cannot hit a later process of the same id.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match &self.pidfd {
            Some(pidfd) => send_signal(pidfd.as_fd(), signal),
            None => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        }
    }

    /// Waits until it ends.
    pub fn wait(&mut self) -> io::Result<Exit> {
        loop {
            match waitpid(self.pid, None) {
                Ok(status) => {
                    if let Some(exit) = Exit::from_wait(status) {
                        self.pidfd = None;
                        return Ok(exit);
                    }
                }
                Err(nix::Error::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.pidfd.is_some() && self.signal(Signal::SIGKILL).is_ok() {
            // Nobody is left to tell about a failure.
            let _ = self.wait();
        }
    }
}

/// Sends a signal to the process behind a pidfd (`pidfd_send_signal(2)`).
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: Signal) -> io::Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open (it is borrowed) and a null siginfo is allowed.
    let ret = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal as c_int, info, 0 as c_int)
    };
    check(ret).map(drop)
}

/// A pidfd for a process (`pidfd_open(2)`). Fails with `ESRCH` when there is none.
pub fn open_pidfd(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers, touches no memory of ours.
    let ret = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0 as c_int) };
    owned(check(ret)?)
}

/// Forks; `body` runs in the child, whose exit status is what it returns.
///
/// `namespaces` are created for the child, so that with `CLONE_NEWPID` the child itself is the
/// new namespace's pid 1. `CLONE_PARENT` makes it a sibling. Other flags are refused, and so is a
/// process with more than one thread: the child could find any lock taken for ever, malloc's too.
pub fn fork(namespaces: CloneFlags, body: impl FnOnce() -> i32) -> io::Result<Child> {
    const ALLOWED: c_int = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_PARENT;
    if namespaces.bits() & !ALLOWED != 0 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    refuse_threads("fork")?;
    let flags = c_long::from(namespaces.bits() | libc::CLONE_PIDFD | libc::SIGCHLD);
    let mut pidfd: c_int = -1;
    let none: c_long = 0;
    // SAFETY: without CLONE_VM and with no new stack this is fork(2): the child runs on a copy of
    // our memory. There is one thread (checked above), so no lock is held by anybody else. The
    // kernel writes the pidfd through the third argument, a live c_int; the fourth and fifth,
    // whose order differs between architectures, are both null and unused by these flags.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, none, &raw mut pidfd, none, none) };
    if pid == 0 {
        let status = catch_unwind(AssertUnwindSafe(body)).unwrap_or(PANICKED);
        // SAFETY: ends this process at once; the parent's exit handlers must not run twice.
        unsafe { libc::_exit(status) }
    }
    let pid = check(pid)?;
    Ok(Child { pid: Pid::from_raw(pid), pidfd: Some(owned(pidfd)?) })
}

/// A descriptor that our parent left open for us and told us the number of.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number <= 2 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: F_GETFD only asks whether the number is an open descriptor.
    check(unsafe { libc::fcntl(number, libc::F_GETFD) }.into())?;
    // SAFETY: it is open, and whoever told its number left it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Fails unless this process has one thread, saying that it cannot `what` otherwise.
/// `unshare(CLONE_THREAD)` does nothing but tell (unshare(2)); unlike /proc it also works after
/// entering another pid namespace.
pub fn refuse_threads(what: &str) -> io::Result<()> {
    match unshare(CloneFlags::CLONE_THREAD) {
        Err(nix::Error::EINVAL) => {
            Err(io::Error::other(format!("a process with several threads cannot {what}")))
        }
        result => Ok(result?),
    }
}

/// Closes every descriptor from 3 up but these: a forked child sheds what its parent had open.
///
/// Meant for a child which is about to `_exit` or `exec` and never uses its copies of the
/// parent's other descriptors.
pub fn keep_only(kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut kept: Vec<u32> = kept.iter().filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept {
        if fd > first {
            close_range(first, fd - 1, 0)?;
        }
        first = first.max(fd + 1);
    }
    close_range(first, u32::MAX, 0)
}

/// Marks every descriptor from 3 up close-on-exec, whatever a library may have opened without.
pub fn close_on_exec_from_3() -> io::Result<()> {
    close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

fn close_range(first: u32, last: u32, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: integers only. Descriptors that Rust values still own are closed behind their back:
    // the callers of this file are children that never drop those values (they `_exit` or `exec`).
    let ret = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    check(ret).map(drop)
}

/// Puts `fd` in the place of descriptor 0, 1 or 2 (without close-on-exec).
pub fn replace_standard(fd: BorrowedFd<'_>, standard: RawFd) -> io::Result<()> {
    if !(0..=2).contains(&standard) {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: both are integers; the standard descriptors are owned by nobody.
    let ret = unsafe { libc::dup2(fd.as_raw_fd(), standard) };
    check(c_long::from(ret)).map(drop)
}

/// Every signal to its default action and unblocked, as a freshly executed program expects
/// (Rust's runtime ignores SIGPIPE, and ignored signals survive `exec`).
pub fn reset_signals() -> io::Result<()> {
    // The kernel's sigaction (not the C library's, which hides signals 32 and 33): all zeroes are
    // SIG_DFL without flags on every architecture, and 64 bytes are more than any has.
    let default = [0_u64; 8];
    for signal in 1..=64 {
        if signal != libc::SIGKILL && signal != libc::SIGSTOP {
            let old = std::ptr::null::<u64>();
            // SAFETY: the kernel reads the action, which is live; the old one is not asked for;
            // signal sets have 8 bytes.
            let ret =
                unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), old, 8_usize) };
            check(ret)?;
        }
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// `execve(2)`; returns only on failure.
pub fn exec(path: &CString, args: &[CString], env: &[CString]) -> io::Error {
    match nix::unistd::execve(path, args, env) {
        Ok(never) => match never {},
        Err(errno) => errno.into(),
    }
}

fn owned(fd: c_int) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn check(ret: c_long) -> io::Result<c_int> {
    if ret < 0 {
        return Err(io::Error::last_os_error());
    }
    c_int::try_from(ret).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_the_shells() {
        assert_eq!(Exit::Code(7).status(), 7);
        assert_eq!(Exit::Signal(15).status(), 143);
        assert_eq!(Exit::from_wait(WaitStatus::StillAlive), None);
        let killed = WaitStatus::Signaled(Pid::from_raw(1), Signal::SIGKILL, false);
        assert_eq!(Exit::from_wait(killed), Some(Exit::Signal(9)));
    }

    #[test]
    fn a_threaded_process_is_refused() {
        // The test harness runs this in a thread of its own.
        let error = fork(CloneFlags::empty(), || 0).unwrap_err();
        assert!(error.to_string().contains("several threads"), "{error}");
        let error = fork(CloneFlags::CLONE_VM, || 0).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
