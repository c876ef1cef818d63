//! Much at once by the user uplink, and for long: as many connections as descriptors allow, and those who are slow.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};

use crate::harness::{Lab, note, skip, until};
use crate::host::{HOST4, Host, SERVER4, SERVER6};
use crate::transfers::{curl_both_ways, serve_http};
use crate::user_tcp::resident;
use crate::world::{WHO, seen_from};

scenarios! {
    as_many_as_descriptors_allow
    who_is_slow_is_slow_alone
}

/// Connections at once, where the limit of descriptors allows so many, and fewer than a TAP's queue holds
/// (`io::tap::QUEUE`). `CONNECTIONS=10000 cargo test --test e2e as_many_as` wants more: their ends overflow it two or
/// three times, which takes a busy machine more than the usual patience.
const WANTED: u64 = 3_000;
/// Descriptors of each process for other things.
const SPARE: u64 = 200;

/// Sends every byte back. Words: addresses.
const ECHO: &str = "
import resource, selectors, socket, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
poll = selectors.DefaultSelector()
for host in sys.argv[1:]:
    s = socket.create_server((host, 7700), family=socket.AF_INET6 if ':' in host else socket.AF_INET, backlog=4096)
    poll.register(s, selectors.EVENT_READ, 'server')
print('ready')
while True:
    for key, _ in poll.select():
        if key.data: poll.register(key.fileobj.accept()[0], selectors.EVENT_READ)
        elif data := key.fileobj.recv(100): key.fileobj.send(data)
        else:
            poll.unregister(key.fileobj)
            key.fileobj.close()
";

/// Opens connections one after the other; when all are open, each gets a byte of its own back. Says `ready` then,
/// and holds them. Words: how many, addresses.
const OPENS: &str = "
import resource, socket, sys, threading
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
count, hosts = int(sys.argv[1]), sys.argv[2:]
def opened(number):
    try: return socket.create_connection((hosts[number % len(hosts)], 7700), 60)
    except OSError as error: sys.exit(f'connection {number} of {count}: {error!r}')
ends = [opened(number) for number in range(count)]
for number, end in enumerate(ends): end.send(bytes([number % 251]))
for number, end in enumerate(ends):
    assert end.recv(100) == bytes([number % 251]), number
print('ready')
threading.Event().wait()
";

/// Awaits that all have gone. It may take its time (each end that is lost comes again twice as late), but half of what
/// is left goes in the usual patience.
fn all_go(what: &str, count: u64, left: impl Fn() -> u64) {
    let mut most = count;
    while most > 0 {
        most = left().min(most) / 2;
        until(&format!("no more than {most} {what} of {count}"), || left() <= most);
    }
}

fn as_many_as_descriptors_allow(lab: &Lab) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // A container may have three quarters of the daemon's.
    let wanted = std::env::var("CONNECTIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(WANTED);
    let count = wanted.min((hard - hard / 4).saturating_sub(SPARE));
    if count < 500 {
        return skip(&format!("{hard} file descriptors are too few to be many: ulimit -Hn 14000"));
    }
    note(&format!("{count} connections at once, of {wanted} wanted ('ulimit -Hn' says {hard})"));
    let host = Host::new(lab, "");
    // Longer than a packet is under way on a busy machine: what comes after its flow's end is picked up as another's,
    // that nobody has answered.
    for state in ["time_wait", "close", "last_ack", "fin_wait", "close_wait", "syn_sent"] {
        lab.ok(&format!("sysctl net.netfilter.nf_conntrack_tcp_timeout_{state}=5"));
    }
    let _server = lab.serves(host.far(), ECHO, &[SERVER4, SERVER6]);
    let pid = lab.daemon_pid();
    let descriptors = || std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let established = |limit: u64| {
        let script = format!("ss -Htn state established dport = :7700 | head -n {limit} | wc -l");
        lab.succeeds(host.near(), &script).trim().parse::<u64>().unwrap()
    };
    let flows = |state: &str| {
        let rows = lab.json("show conntrack");
        let of =
            |row: &&serde_json::Value| row["dport"] == 7700 && row["state"].as_str().unwrap().contains(state);
        rows.iter().filter(of).count() as u64
    };
    let idle = (descriptors(), resident(lab));
    // More than once, for memory that is not given back.
    let (mut after, mut most) = (Vec::new(), 0);
    for _ in 0..3 {
        let client = lab.serves("alice", OPENS, &[&count.to_string(), SERVER4, SERVER6]);
        assert_eq!((flows("ESTABLISHED"), established(count + 1)), (count, count));
        assert!(descriptors() as u64 >= count, "each is a socket of the host's");
        most = most.max(resident(lab));
        let grown = most.saturating_sub(idle.1);
        assert!(grown < 4 * count + 4096, "{grown} KiB for {count} connections");
        drop(client);
        all_go("sockets", count, || descriptors().saturating_sub(idle.0) as u64);
        all_go("flows", count, || flows(""));
        after.push(resident(lab));
    }
    note(&format!("{} KiB resident before, {most} at most, {after:?} after each time", idle.1));
    // What the allocator keeps for itself differs by the moment; what is lost would be there each time.
    let later = after[1].min(after[2]);
    assert!(later < after[0] + count, "{after:?} KiB after each time, {} before", idle.1);
    let drops = lab.json("show drops");
    assert!(drops.iter().all(|row| !row["reason"].as_str().unwrap().starts_with("host_")), "{drops:#?}");
}

/// Serves who is slow, and is slow. Words: seconds, addresses. On port 7701 it blasts, on 7702 it reads a little at
/// a time for so many seconds, on 7703 it reads all at once; then it says what it has read.
const SLOW_SERVER: &str = "
import hashlib, random, socket, sys, threading, time
data = random.Random(7).randbytes(32 << 20)
seconds = float(sys.argv[1])
def slowly(c):
    digest, end = hashlib.sha256(), time.monotonic() + seconds
    while time.monotonic() < end:
        digest.update(c.recv(400)); threading.Event().wait(0.1)
    return digest
def rest(c, digest):
    while part := c.recv(1 << 18): digest.update(part)
    c.sendall(digest.digest()); c.close()
def blast(c):
    c.sendall(data); c.close()
def serve(host, port, how):
    server = socket.create_server((host, port), family=socket.AF_INET6 if ':' in host else socket.AF_INET)
    def run():
        while True: threading.Thread(target=how, args=(server.accept()[0],), daemon=True).start()
    threading.Thread(target=run, daemon=True).start()
for host in sys.argv[2:]:
    serve(host, 7701, blast)
    serve(host, 7702, lambda c: rest(c, slowly(c)))
    serve(host, 7703, lambda c: rest(c, hashlib.sha256()))
print('ready')
threading.Event().wait()
";

/// Reads slowly what is blasted, blasts at who reads slowly, and writes slowly; by all addresses at once. Every byte
/// must arrive. Words: seconds, addresses.
const SLOW_CLIENT: &str = "
import hashlib, random, socket, sys, threading, time
data = random.Random(7).randbytes(32 << 20)
right = hashlib.sha256(data).digest()
seconds, failed = float(sys.argv[1]), []
def reads(host):
    c = socket.create_connection((host, 7701), 60)
    digest, end = hashlib.sha256(), time.monotonic() + seconds
    while time.monotonic() < end:
        digest.update(c.recv(400)); threading.Event().wait(0.1)
    while part := c.recv(1 << 18): digest.update(part)
    assert digest.digest() == right, 'reader'
def blasts(host):
    c = socket.create_connection((host, 7702), 60)
    c.settimeout(seconds + 60)
    c.sendall(data); c.shutdown(socket.SHUT_WR)
    assert c.recv(32, socket.MSG_WAITALL) == right, 'blaster'
def writes(host):
    c = socket.create_connection((host, 7703), 60)
    sent, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        sent += c.send(data[sent:sent + 400]); threading.Event().wait(0.1)
    c.sendall(data[sent:]); c.shutdown(socket.SHUT_WR)
    assert c.recv(32, socket.MSG_WAITALL) == right, 'writer'
def run(how, host):
    try: how(host)
    except BaseException as error: failed.append((how.__name__, host, repr(error)))
threads = [threading.Thread(target=run, args=(how, host)) for how in (reads, blasts, writes) for host in sys.argv[2:]]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert not failed, failed
";

/// `SLOW_SECONDS=180 cargo test --test e2e who_is_slow` takes its time.
fn who_is_slow_is_slow_alone(lab: &Lab) {
    let seconds: u32 = std::env::var("SLOW_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let seconds = Duration::from_secs(seconds.into()).as_secs().to_string();
    let host = Host::new(lab, "");
    host.idle(lab, "bob", "net1");
    let _slow = lab.serves(host.far(), SLOW_SERVER, &[&seconds, SERVER4, SERVER6]);
    let _who = lab.serves(host.far(), WHO, &[SERVER4, "7000"]);
    let _http = serve_http(lab, host.far(), SERVER4, "8080");
    let http = crate::host::url(SERVER4, 8080);
    // Whatever that costs once it has cost already.
    curl_both_ways(lab, "bob", &http);
    let before = resident(lab);
    let words = ["/usr/bin/python3", "-c", SLOW_CLIENT, &seconds, SERVER4, SERVER6];
    let mut command = lab.at("alice", &words);
    command.stdout(Stdio::null());
    let mut client = lab.start(command);
    let (mut most, mut rounds) = (0, 0);
    while client.0.try_wait().unwrap().is_none() {
        assert_eq!(seen_from(lab, "bob", "tcp", (SERVER4, 7000)), HOST4, "others are served");
        if rounds % 20 == 0 {
            curl_both_ways(lab, "bob", &http);
        }
        most = most.max(resident(lab));
        rounds += 1;
    }
    assert_eq!(client.code(), Some(0), "every byte arrives");
    note(&format!("{seconds} s: {before} KiB before, {most} at most, {} after", resident(lab)));
    assert!(rounds > 1 && most < before + 4096, "{before} KiB before, {most} at most");
}
