//! What a confined process can still do, and what it is refused, as root and as an ordinary user.
//!
//! The daemon itself has no way to be asked for any of this; so the same confinement is put on a forked
//! child, which then tries everything and tells how it went. What is refused is also tried by a child
//! without confinement, lest something else refuses it. Forking needs a process of one thread, hence
//! `harness = false`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unsafe_code)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use nix::libc::{self, c_int, c_long};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::unistd::{Gid, Pid, Uid, geteuid, setgid, setgroups, setuid};
use serde::{Deserialize, Serialize};
use tapswitch::io::confine::{Confinement, Reach, confine, resolver_files};
use tapswitch::io::sys::namespace::interface_index;
use tapswitch::io::{helper, random, resolv_conf};

/// Nobody, on any Linux.
const NOBODY: u32 = 65534;

/// Calls that are refused whatever their arguments: with nonsense for all of them, for which a kernel that
/// would let them through has other errors.
const CALLS: &[(&str, c_long)] = &[
    ("execve", libc::SYS_execve),
    ("execveat", libc::SYS_execveat),
    ("ptrace", libc::SYS_ptrace),
    ("process_vm_readv", libc::SYS_process_vm_readv),
    ("process_vm_writev", libc::SYS_process_vm_writev),
    ("pidfd_open", libc::SYS_pidfd_open),
    ("pidfd_getfd", libc::SYS_pidfd_getfd),
    ("kcmp", libc::SYS_kcmp),
    ("mount", libc::SYS_mount),
    ("umount2", libc::SYS_umount2),
    ("move_mount", libc::SYS_move_mount),
    ("open_tree", libc::SYS_open_tree),
    ("fsopen", libc::SYS_fsopen),
    ("pivot_root", libc::SYS_pivot_root),
    ("chroot", libc::SYS_chroot),
    ("chdir", libc::SYS_chdir),
    ("setns", libc::SYS_setns),
    ("unshare", libc::SYS_unshare),
    ("init_module", libc::SYS_init_module),
    ("finit_module", libc::SYS_finit_module),
    ("delete_module", libc::SYS_delete_module),
    ("kexec_load", libc::SYS_kexec_load),
    ("reboot", libc::SYS_reboot),
    ("bpf", libc::SYS_bpf),
    ("perf_event_open", libc::SYS_perf_event_open),
    ("userfaultfd", libc::SYS_userfaultfd),
    ("io_uring_setup", libc::SYS_io_uring_setup),
    ("keyctl", libc::SYS_keyctl),
    ("add_key", libc::SYS_add_key),
    ("request_key", libc::SYS_request_key),
    ("seccomp", libc::SYS_seccomp),
    ("landlock_restrict_self", libc::SYS_landlock_restrict_self),
    ("capset", libc::SYS_capset),
    ("setuid", libc::SYS_setuid),
    ("setgid", libc::SYS_setgid),
    ("setgroups", libc::SYS_setgroups),
    ("setresuid", libc::SYS_setresuid),
    ("sethostname", libc::SYS_sethostname),
    ("settimeofday", libc::SYS_settimeofday),
    ("clock_settime", libc::SYS_clock_settime),
    ("swapon", libc::SYS_swapon),
    ("acct", libc::SYS_acct),
    ("open_by_handle_at", libc::SYS_open_by_handle_at),
    ("name_to_handle_at", libc::SYS_name_to_handle_at),
    ("openat2", libc::SYS_openat2),
    ("mknodat", libc::SYS_mknodat),
    ("linkat", libc::SYS_linkat),
    ("symlinkat", libc::SYS_symlinkat),
    ("fchmodat", libc::SYS_fchmodat),
    ("fchownat", libc::SYS_fchownat),
    ("utimensat", libc::SYS_utimensat),
    ("setxattr", libc::SYS_setxattr),
    ("truncate", libc::SYS_truncate),
    ("fanotify_init", libc::SYS_fanotify_init),
    ("memfd_create", libc::SYS_memfd_create),
    ("shmget", libc::SYS_shmget),
    ("socketpair", libc::SYS_socketpair),
    ("sched_setscheduler", libc::SYS_sched_setscheduler),
    ("setpriority", libc::SYS_setpriority),
    ("tkill", libc::SYS_tkill),
    ("rt_sigqueueinfo", libc::SYS_rt_sigqueueinfo),
];

const NONSENSE: c_long = -1;
/// `TIOCSTI`, by which one types for whoever is at a terminal; `SIOCSIFFLAGS` sets interfaces up.
const IOCTLS: [(&str, c_long); 2] =
    [("ioctl TIOCSTI", libc::TIOCSTI as c_long), ("ioctl SIOCSIFFLAGS", libc::SIOCSIFFLAGS as c_long)];

/// How attempts went, by what was attempted: an error's number, 0 for success.
type Results = BTreeMap<String, c_int>;

/// What a child reports.
#[derive(Serialize, Deserialize)]
struct Told {
    confinement: Option<Confinement>,
    refused: Results,
    allowed: Results,
    /// Of each thread, the lines of its `status` that matter.
    threads: Vec<BTreeMap<String, String>>,
    backtrace: String,
}

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--list") {
        if !std::env::args().any(|argument| argument == "--ignored") {
            println!("cases: test");
        }
        return ExitCode::SUCCESS;
    }
    if geteuid().is_root() {
        check("root", None);
    }
    check("user", geteuid().is_root().then_some(NOBODY));
    ExitCode::SUCCESS
}

/// Compares what confined and unconfined children of a user tell.
fn check(who: &str, uid: Option<u32>) {
    let free = attempt(uid, false);
    let told = attempt(uid, true);
    let confinement = told.confinement.unwrap();
    println!("{who}: {confinement}");
    if !confinement.is_whole() {
        eprintln!("SKIP: confine as {who}: this kernel cannot do it all: {confinement}");
        return;
    }
    let mut cannot_tell = Vec::new();
    for (what, error) in &told.refused {
        assert!([libc::EPERM, libc::EACCES].contains(error), "{who}: {what} was not refused: {error}");
        if free.refused[what] == *error {
            cannot_tell.push(what.as_str());
        }
    }
    println!(
        "{who}: {} things were refused, {} of them in any case: {}",
        told.refused.len(),
        cannot_tell.len(),
        cannot_tell.join(" ")
    );
    assert!(cannot_tell.len() * 2 < told.refused.len());
    assert!(who != "root" || uid.is_some() || cannot_tell.len() < 5, "{cannot_tell:?}");
    for (what, error) in &told.allowed {
        assert_eq!(*error, 0, "{who}: {what} failed: {}", io::Error::from_raw_os_error(*error));
    }
    assert!(told.backtrace.contains("confine::try_allowed"), "{}", told.backtrace);
    assert_eq!(told.threads.len(), 2);
    let kept = if who == "root" { "0000000000001400" } else { "0000000000000000" };
    for thread in &told.threads {
        assert_eq!((thread["NoNewPrivs"].as_str(), thread["Seccomp"].as_str()), ("1", "2"), "{thread:?}");
        for set in ["CapEff", "CapPrm"] {
            assert_eq!(thread[set], kept, "{who}: {thread:?}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(thread[set], "0000000000000000", "{who}: {thread:?}");
        }
        assert!(who == "user" || thread["CapBnd"] == kept, "{thread:?}");
    }
}

/// Tries everything in a child, as this user.
fn attempt(uid: Option<u32>, is_confined: bool) -> Told {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let (told, _) = helper::run(|| {
        if let Some(uid) = uid {
            setgroups(&[]).unwrap();
            setgid(Gid::from_raw(uid)).unwrap();
            setuid(Uid::from_raw(uid)).unwrap();
        }
        let place = Place::make(directory.path());
        let confinement = is_confined.then(|| confine(&place.reach()).unwrap());
        let (allowed, backtrace) = try_allowed(&place);
        let threads = std::thread::spawn(threads).join().unwrap();
        Ok::<_, String>((
            Told { confinement, refused: try_refused(&place), allowed, threads, backtrace },
            vec![],
        ))
    })
    .unwrap()
    .unwrap();
    told
}

/// The files that attempts are made on.
struct Place {
    own: PathBuf,
    state: PathBuf,
    cleared: PathBuf,
    elsewhere: PathBuf,
}

impl Place {
    fn make(directory: &Path) -> Self {
        let [own, state, cleared, elsewhere] =
            ["own", "state", "cleared", "elsewhere"].map(|name| directory.join(name));
        for made in [&own, &state, &cleared, &elsewhere] {
            fs::create_dir(made).unwrap();
            fs::write(made.join("there"), "there").unwrap();
            fs::write(made.join("kept"), "kept").unwrap();
        }
        symlink(elsewhere.join("there"), own.join("link")).unwrap();
        Self { own, state, cleared, elsewhere }
    }

    fn reach(&self) -> Reach {
        let itself = ["/proc/self/exe", "/proc/self"].map(PathBuf::from);
        Reach {
            owned: vec![self.own.clone()],
            replaced: vec![self.state.clone()],
            cleared: vec![self.cleared.clone()],
            read: itself.into_iter().chain(resolver_files(Path::new("/etc/resolv.conf"))).collect(),
        }
    }
}

fn number(result: io::Result<()>) -> c_int {
    result.err().map_or(0, |error| error.raw_os_error().unwrap_or(-1))
}

/// Makes a system call, for an error at best.
fn call(number: c_long, arguments: [c_long; 6]) -> io::Result<()> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the arguments are numbers and addresses that no process has, so that the kernel touches no
    // memory of ours.
    if unsafe { libc::syscall(number, a, b, c, d, e, f) } < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn try_refused(place: &Place) -> Results {
    let mut results = Results::new();
    let mut tell = |what: &str, result| {
        results.insert(what.to_owned(), number(result));
    };
    for (name, call_number) in CALLS {
        tell(name, call(*call_number, [NONSENSE; 6]));
    }
    let mut with = |what: &str, call_number, arguments: &[c_int]| {
        let mut all = [0; 6];
        all.iter_mut().zip(arguments).for_each(|(to, from)| *to = c_long::from(*from));
        tell(what, call(call_number, all));
    };
    with("kill", libc::SYS_kill, &[Pid::this().as_raw(), 0]);
    with("socket unix", libc::SYS_socket, &[libc::AF_UNIX, libc::SOCK_STREAM]);
    with("socket netlink", libc::SYS_socket, &[libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC]);
    with("socket packet", libc::SYS_socket, &[libc::AF_PACKET, libc::SOCK_RAW]);
    with("socket raw", libc::SYS_socket, &[libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP]);
    with("socket raw6", libc::SYS_socket, &[libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_ICMPV6]);
    with("socket alg", libc::SYS_socket, &[libc::AF_ALG, libc::SOCK_SEQPACKET]);
    with("fcntl F_SETOWN", libc::SYS_fcntl, &[0, libc::F_SETOWN, 0]);
    with("prctl", libc::SYS_prctl, &[libc::PR_SET_KEEPCAPS]);
    let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    with("mmap of code", libc::SYS_mmap, &[0, 4096, libc::PROT_READ | libc::PROT_EXEC, anonymous, -1]);
    with("mprotect to code", libc::SYS_mprotect, &[0, 0, libc::PROT_EXEC]);
    for (name, request) in IOCTLS {
        tell(name, call(libc::SYS_ioctl, [0, request, NONSENSE, 0, 0, 0]));
    }
    let limit = libc::RLIMIT_CORE as c_long;
    tell("prlimit64", call(libc::SYS_prlimit64, [0, limit, NONSENSE, 0, 0, 0]));
    tell("a process", Command::new("/bin/true").spawn().map(|mut child| drop(child.wait())));

    let open = |path: &Path| File::open(path).map(drop);
    tell("read shadow", open(Path::new("/etc/shadow")));
    tell("read a program", open(Path::new("/usr/bin/env")));
    tell("read another's environment", open(Path::new("/proc/1/environ")));
    tell("list /", fs::read_dir("/").map(drop));
    tell("open /dev/net/tun", File::options().read(true).write(true).open("/dev/net/tun").map(drop));
    tell("read elsewhere", open(&place.elsewhere.join("there")));
    tell("read elsewhere by a link", open(&place.own.join("link")));
    let again = resolv_conf::read_again(&place.elsewhere.join("there"));
    tell("read a replaced resolv.conf", again.map(drop).ok_or(io::Error::from_raw_os_error(libc::EACCES)));
    tell("write elsewhere", fs::write(place.elsewhere.join("there"), "new"));
    tell("make elsewhere", fs::write(place.elsewhere.join("made"), "new"));
    tell("remove elsewhere", fs::remove_file(place.elsewhere.join("there")));
    tell("make a directory elsewhere", fs::create_dir(place.elsewhere.join("directory")));
    tell("make where one may remove", fs::write(place.cleared.join("made"), "new"));
    tell("read where one may remove", open(&place.cleared.join("kept")));
    tell("read a state", open(&place.state.join("kept")));
    tell("make a directory beside a state", fs::create_dir(place.state.join("directory")));
    tell("move a state out", fs::rename(place.state.join("there"), place.elsewhere.join("state")));
    tell("move out", fs::rename(place.own.join("there"), place.elsewhere.join("moved")));
    tell("change a mode", fs::set_permissions(&place.own, fs::Permissions::from_mode(0o777)));
    results
}

fn try_allowed(place: &Place) -> (Results, String) {
    let mut results = Results::new();
    let mut tell = |what: &str, result| {
        results.insert(what.to_owned(), number(result));
    };
    let own = |name: &str| place.own.join(name);
    tell("make a file", fs::write(own("made"), "made"));
    tell("write it in place", fs::write(own("made"), "shorter"));
    tell("read it", fs::read(own("made")).map(drop));
    tell("rename it", fs::rename(own("made"), own("renamed")));
    tell("remove it", fs::remove_file(own("renamed")));
    tell("make a directory", fs::create_dir(own("directory")));
    tell("list one", fs::read_dir(&place.own).map(drop));
    tell("remove it with all", fs::remove_dir_all(own("directory")));
    let saved = fs::write(place.state.join("new"), "new");
    tell("save a state", saved.and_then(|()| fs::rename(place.state.join("new"), place.state.join("there"))));
    tell("clear", fs::remove_file(place.cleared.join("there")));
    tell("read resolv.conf", fs::read("/etc/resolv.conf").map(drop));
    tell("watch /etc", watch(Path::new("/etc")));
    tell("talk by TCP", talk_by_tcp());
    tell("talk by UDP", talk_by_udp());
    let ping =
        |family| call(libc::SYS_socket, [c_long::from(family), c_long::from(libc::SOCK_DGRAM), 0, 0, 0, 0]);
    tell("socket dgram", ping(libc::AF_INET));
    tell("socket dgram6", ping(libc::AF_INET6));
    tell("find an interface", interface_index("lo").map(drop));
    tell("poll", mio::Poll::new().map(drop));
    let drawn: [u8; 32] = random::bytes();
    tell("draw randomness", if drawn == [0; 32] { Err(io::ErrorKind::Other.into()) } else { Ok(()) });
    let caught = std::panic::catch_unwind(|| std::panic::resume_unwind(Box::new(())));
    tell("unwind", caught.map_or(Ok(()), |()| Err(io::Error::other("no panic"))));
    (results, std::backtrace::Backtrace::force_capture().to_string())
}

fn watch(path: &Path) -> io::Result<()> {
    Inotify::init(InitFlags::IN_CLOEXEC)?.add_watch(path, AddWatchFlags::IN_MOVED_TO)?;
    Ok(())
}

fn talk_by_tcp() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    client.set_nodelay(true)?;
    let (mut server, _) = listener.accept()?;
    client.write_all(b"x")?;
    client.shutdown(std::net::Shutdown::Write)?;
    server.read_to_end(&mut Vec::new()).map(drop)
}

fn talk_by_udp() -> io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.send_to(b"x", socket.local_addr()?)?;
    socket.recv_from(&mut [0; 1]).map(drop)
}

/// What `/proc` tells of each of our threads.
fn threads() -> Vec<BTreeMap<String, String>> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    tasks
        .map(|task| {
            let status = fs::read_to_string(task.path().join("status")).unwrap();
            let lines = status.lines().filter_map(|line| line.split_once(':'));
            lines.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect()
        })
        .collect()
}
