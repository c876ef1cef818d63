//! System calls: the list of those that the daemon makes (seccomp(2)); every other one fails with EPERM.
//!
//! A list of what is allowed, for a kernel learns new calls every year. EPERM rather than a signal, for
//! what was forgotten on the list then fails as any call may, with its name in a message (`strace -f`
//! shows it), and costs one request and not everybody's network. Only foreign calling conventions
//! (32-bit calls on a 64-bit kernel) end the process.
//!
//! The kernel decides ahead of time which calls pass whatever their arguments (since Linux 5.11), so
//! `read` and `write` run no filter.

use std::collections::BTreeMap;

use nix::libc::{self, c_long};
use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{Eq, MaskedEq};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

use crate::io::sys::tun;

/// Allowed whatever their arguments.
const ALLOWED: &[c_long] = &[
    // Frames, files, messages.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_flock,
    libc::SYS_pipe2,
    libc::SYS_splice,
    // Files by name; landlock says which.
    libc::SYS_openat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_ftruncate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
    // Waiting, and the clock.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_signalfd4,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    // Sockets that are there.
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmmsg,
    // Memory and threads.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Containers, by the descriptors that their clients hand over.
    libc::SYS_pidfd_send_signal,
    // Answered by the first filter, see `no_clone3`.
    libc::SYS_clone3,
];

/// The older names of the same, which only older architectures still have.
#[cfg(target_arch = "x86_64")]
const ALLOWED_OLD: &[c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_readlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_epoll_wait,
    libc::SYS_poll,
    libc::SYS_accept,
    libc::SYS_dup2,
    libc::SYS_time,
];
#[cfg(target_arch = "aarch64")]
const ALLOWED_OLD: &[c_long] = &[
    38, // renameat (Linux include/uapi/asm-generic/unistd.h), which the crate libc does not name
];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ALLOWED_OLD: &[c_long] = &[];

/// Of a descriptor that is open: how much waits, blocking or not, TAPs, and who is behind a packet socket.
#[allow(clippy::unnecessary_cast)] // the type differs between C libraries
const IOCTLS: [u64; 11] = [
    libc::FIONREAD as u64,
    libc::TIOCOUTQ as u64,
    libc::FIONBIO as u64,
    libc::FIOCLEX as u64,
    tun::TUNSETIFF as u64,
    tun::TUNGETIFF as u64,
    tun::TUNSETOFFLOAD as u64,
    tun::TUNSETVNETHDRSZ as u64,
    libc::SIOCGIFNAME as u64,
    libc::SIOCGIFINDEX as u64,
    libc::SIOCGIFMTU as u64,
];

/// Copies and flags of a descriptor, and the size of a pipe. Not whom it signals (`F_SETOWN`): that would be
/// a way to send any signal to any process of the same user.
const FCNTLS: [i32; 8] = [
    libc::F_DUPFD,
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_SETFL,
    libc::F_GETPIPE_SZ,
    libc::F_SETPIPE_SZ,
];

/// Sockets of the host's own: kinds of `socket(2)` without the flags beside them.
const SOCKETS: [(i32, i32); 4] = [
    (libc::AF_INET, libc::SOCK_STREAM),
    (libc::AF_INET, libc::SOCK_DGRAM),
    (libc::AF_INET6, libc::SOCK_STREAM),
    (libc::AF_INET6, libc::SOCK_DGRAM),
];

/// `SOCK_TYPE_MASK`, Linux `include/linux/net.h`.
const SOCKET_TYPE: u64 = 0xf;

/// Filters the calls of this thread and all that it starts; or says why not.
pub(super) fn filter() -> Result<(), String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|_| format!("no filter for {}", std::env::consts::ARCH))?;
    let programs = no_clone3(arch).and_then(|first| Ok([first, allowed_only(arch)?]));
    let programs = programs.map_err(|error| error.to_string())?;
    programs.iter().try_for_each(|program| apply_filter(program)).map_err(|error| error.to_string())
}

/// `clone3` takes its flags from memory, where no filter can look; so it does not exist, and the C
/// library starts threads by `clone`.
fn no_clone3(arch: TargetArch) -> Result<BpfProgram, BackendError> {
    let rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let missing = SeccompAction::Errno(libc::ENOSYS as u32);
    SeccompFilter::new(rules, SeccompAction::Allow, missing, arch)?.try_into()
}

fn allowed_only(arch: TargetArch) -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> =
        ALLOWED.iter().chain(ALLOWED_OLD).map(|call| (*call, Vec::new())).collect();
    rules.extend(with_conditions()?);
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, refuse, SeccompAction::Allow, arch)?.try_into()
}

/// Calls that depend on their arguments: one of the rules must hold, and of a rule everything.
fn with_conditions() -> Result<BTreeMap<c_long, Vec<SeccompRule>>, BackendError> {
    let own = u64::from(std::process::id());
    let executable = libc::PROT_EXEC as u64;
    let thread = libc::CLONE_THREAD as u64;
    let is = |at, value| argument(at, Dword, Eq, value);
    let no_code = || Ok(vec![rule(vec![argument(2, Dword, MaskedEq(executable), 0)?])?]);
    let socket = |(family, kind): (i32, i32)| {
        rule(vec![is(0, family as u64)?, argument(1, Dword, MaskedEq(SOCKET_TYPE), kind as u64)?])
    };
    // To look at one's own limits, not to set them.
    let look = |whose| rule(vec![is(0, whose)?, argument(2, Qword, Eq, 0)?]);
    Ok(BTreeMap::from([
        (libc::SYS_mmap, no_code()?),
        (libc::SYS_mprotect, no_code()?),
        (libc::SYS_clone, vec![rule(vec![argument(0, Qword, MaskedEq(thread), thread)?])?]),
        (libc::SYS_socket, SOCKETS.into_iter().map(socket).collect::<Result<_, _>>()?),
        (libc::SYS_ioctl, IOCTLS.iter().map(|it| rule(vec![is(1, *it)?])).collect::<Result<_, _>>()?),
        (libc::SYS_fcntl, FCNTLS.iter().map(|it| rule(vec![is(1, *it as u64)?])).collect::<Result<_, _>>()?),
        (libc::SYS_prctl, vec![rule(vec![is(0, libc::PR_SET_NAME as u64)?])?]),
        (libc::SYS_prlimit64, vec![look(0)?, look(own)?]),
        // Only to end itself, as abort(3) does.
        (libc::SYS_tgkill, vec![rule(vec![is(0, own)?])?]),
    ]))
}

fn argument(
    at: u8,
    len: SeccompCmpArgLen,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(at, len, operator, value)
}

fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions)
}
