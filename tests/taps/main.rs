//! TAPs with and without offload in real namespaces, configured over netlink from outside.
//!
//! As root each namespace is a plain one, as an ordinary user it lies in a user namespace of
//! its own and this process has no capability; [`as_an_ordinary_user`] runs all tests again so.
//! What cannot run here says `SKIP` and why on standard error.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[macro_use]
mod skip;
mod inside;
mod netlink;
mod packet;

use std::io::{PipeReader, PipeWriter};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use etherparse::{IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, PacketBuilder};
use inside::{Inside, PATIENCE};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use skip::skip;
use tapswitch::dataplane::Frame;
use tapswitch::io::device::{Device, DeviceError, Received};
use tapswitch::io::netlink::{LinkConfig, NetlinkError};
use tapswitch::io::tap::{OffloadTap, PlainTap, QUEUE};
use tapswitch::wire::checksum::Sum;
use tapswitch::wire::virtio::GsoKind;
use tapswitch::wire::{MacAddr, Offload, segment};

/// The longest frame on a wire of MTU 1500.
const WIRE_MAX: usize = 1514;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Offload,
    Plain,
}
use Kind::{Offload as WithOffload, Plain};

fn mac(number: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, number])
}

/// What station `number` has: 10.99.0.N and fd99::N.
fn config(number: u8) -> LinkConfig {
    let addresses = [format!("10.99.0.{number}/24"), format!("fd99::{number}/64")];
    LinkConfig {
        mac: Some(mac(number)),
        mtu: Some(1500),
        queue: Some(QUEUE),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        no_ipv6: true,
        up: true,
    }
}

fn addresses(number: u8) -> [SocketAddr; 2] {
    [format!("10.99.0.{number}:5000"), format!("[fd99::{number}]:5000")].map(|text| text.parse().unwrap())
}

/// A TAP `eth0` inside, not configured yet.
fn attach(inside: &Inside, kind: Kind) -> Box<dyn Device> {
    match kind {
        WithOffload => Box::new(OffloadTap::attach(inside.tun(), "eth0").unwrap()),
        Plain => {
            let tap = PlainTap::adopt(inside.plain_tap()).unwrap();
            inside.netlink.rename(tap.name(), "eth0").unwrap();
            Box::new(tap)
        }
    }
}

/// A poll set with these descriptors, numbered.
fn poll_set(descriptors: &[RawFd]) -> Poll {
    let poll = Poll::new().unwrap();
    for (number, descriptor) in descriptors.iter().enumerate() {
        poll.registry().register(&mut SourceFd(descriptor), Token(number), Interest::READABLE).unwrap();
    }
    poll
}

/// Waits until a TAP has something to say; whether that is an error. `None` when time is up.
fn await_event(tap: &dyn Device, time: Duration) -> Option<bool> {
    let mut events = Events::with_capacity(1);
    poll_set(&[tap.descriptor().unwrap()]).poll(&mut events, Some(time)).unwrap();
    events.iter().next().map(mio::event::Event::is_error)
}

/// Waits until something is so.
fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::yield_now();
    }
}

/// What a cable has seen of one side.
#[derive(Debug, Default)]
struct Seen {
    longest: usize,
    frames: usize,
    refused: usize,
}

/// Two stations and the cable between them.
struct Cable {
    stations: [Inside; 2],
    thread: Option<JoinHandle<[Seen; 2]>>,
    /// Closed to end the cable.
    alive: Option<PipeWriter>,
}

impl Cable {
    fn new(kinds: [Kind; 2]) -> Result<Self, String> {
        let stations = [Inside::new()?, Inside::new()?];
        let devices = [attach(&stations[0], kinds[0]), attach(&stations[1], kinds[1])];
        for (station, number) in stations.iter().zip(1..) {
            station.netlink.configure("eth0", &config(number)).unwrap();
        }
        let (end, alive) = std::io::pipe().unwrap();
        let thread = std::thread::spawn(move || carry(devices, end));
        Ok(Self { stations, thread: Some(thread), alive: Some(alive) })
    }

    /// Ends the cable: what it read from either side.
    fn cut(mut self) -> [Seen; 2] {
        self.alive = None;
        self.thread.take().unwrap().join().unwrap()
    }
}

/// Carries frames both ways until the other end of `end` is closed.
fn carry(mut devices: [Box<dyn Device>; 2], end: PipeReader) -> [Seen; 2] {
    let mut seen = [Seen::default(), Seen::default()];
    let mut frame = Frame::new();
    let [a, b] = devices.each_ref().map(|device| device.descriptor().unwrap());
    let mut poll = poll_set(&[a, b, end.as_raw_fd()]);
    let mut events = Events::with_capacity(3);
    loop {
        poll.poll(&mut events, None).unwrap();
        for Token(from) in events.iter().map(mio::event::Event::token) {
            if from == 2 {
                return seen;
            }
            while devices[from].recv(&mut frame) == Ok(Received::Frame) {
                seen[from].longest = seen[from].longest.max(frame.bytes().len());
                seen[from].frames += 1;
                if devices[1 - from].send(&mut frame) == Err(DeviceError::Refused) {
                    seen[from].refused += 1;
                }
            }
        }
    }
}

/// Streams of 1 MB and bursts of datagrams, both ways, over IPv4 and IPv6.
fn transfer(kinds: [Kind; 2]) {
    let cable = match Cable::new(kinds) {
        Ok(cable) => cable,
        Err(why) => return skip(&why),
    };
    let [a, b] = &cable.stations;
    for (to_a, to_b) in addresses(1).into_iter().zip(addresses(2)) {
        a.stream_to(b, to_b, 1_000_000);
        b.stream_to(a, to_a, 1_000_000);
        a.datagrams_to(b, to_b, 20);
        b.datagrams_to(a, to_a, 20);
    }
    for (seen, kind) in cable.cut().iter().zip(kinds) {
        assert_eq!(seen.refused, 0, "{kinds:?}: {seen:?}");
        match kind {
            WithOffload => assert!(seen.longest > 20 * inside::DATAGRAM, "no super-frame: {seen:?}"),
            Plain => assert!(seen.longest <= WIRE_MAX, "not as on a wire: {seen:?}"),
        }
    }
}

#[test]
fn offload_to_offload() {
    transfer([WithOffload, WithOffload]);
}

#[test]
fn plain_to_plain() {
    transfer([Plain, Plain]);
}

#[test]
fn offload_and_plain_on_one_cable() {
    transfer([WithOffload, Plain]);
}

/// A frame of 64 KiB less a bit, with all that a segmentation must look after, and its offload header.
fn super_frame(kind: GsoKind, ipv6: bool, tagged: bool, len: usize) -> Frame {
    let builder = PacketBuilder::ethernet2(mac(1).0, mac(2).0);
    let builder = if ipv6 {
        builder.ipv6([0xfd; 16], [0xfe; 16], 64)
    } else {
        let mut header = Ipv4Header::new(0, 64, IpNumber::UDP, [10, 99, 0, 1], [10, 99, 0, 2]).unwrap();
        header.identification = 0xfffe;
        builder.ip(IpHeaders::Ipv4(header, Ipv4Extensions::default()))
    };
    let payload: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
    let mut bytes = Vec::new();
    let (protocol, header, csum_offset) = if kind == GsoKind::Udp {
        builder.udp(1000, 2000).write(&mut bytes, &payload).unwrap();
        (17, 8, 6)
    } else {
        let builder = builder.tcp(1000, 2000, 0xffff_ff00, 65_000).ack(7).psh().fin().ece().cwr();
        builder
            .options_raw(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2])
            .unwrap()
            .write(&mut bytes, &payload)
            .unwrap();
        (6, 32, 16)
    };
    let start = bytes.len() - len - header;
    let partial = if ipv6 {
        Sum::default().add_ipv6([0xfd; 16].into(), [0xfe; 16].into(), protocol, (len + header) as u32)
    } else {
        Sum::default().add_ipv4([10, 99, 0, 1].into(), [10, 99, 0, 2].into(), protocol, (len + header) as u16)
    };
    let at = start + csum_offset;
    bytes[at..at + 2].copy_from_slice(&partial.finish().map(|byte| !byte));
    let tag: &[u8] = if tagged { &[0x81, 0, 0x20, 5] } else { &[] };
    bytes.splice(12..12, tag.iter().copied());
    let mut frame = Frame::from_bytes(&bytes);
    frame.offload = Offload {
        flags: 1,
        gso_type: match kind {
            GsoKind::TcpV4 => 1 | 0x80,
            GsoKind::TcpV6 => 4 | 0x80,
            GsoKind::Udp => 5,
        },
        hdr_len: (start + tag.len() + header) as u16,
        gso_size: 1400,
        csum_start: (start + tag.len()) as u16,
        csum_offset: csum_offset as u16,
    };
    frame
}

/// A kernel bridge between a TAP with offload and one without cuts our super-frames as we do.
#[test]
fn segments_are_the_kernels_own() {
    let inside = inside_or_skip!();
    let mut from = OffloadTap::attach(inside.tun(), "from").unwrap();
    let mut to = PlainTap::adopt(inside.plain_tap()).unwrap();
    inside.netlink.rename(to.name(), "to").unwrap();
    inside.run("ip link add br0 type bridge forward_delay 0 mcast_snooping 0");
    inside.run("ip link set from master br0 && ip link set to master br0");
    for name in ["from", "to", "br0"] {
        let silent = LinkConfig { no_ipv6: true, up: true, ..LinkConfig::default() };
        inside.netlink.configure(name, &silent).unwrap();
    }
    let kinds =
        [(GsoKind::TcpV4, false), (GsoKind::TcpV6, true), (GsoKind::Udp, false), (GsoKind::Udp, true)];
    for (kind, ipv6) in kinds {
        for (tagged, len) in
            [(false, 65_000), (true, 65_000), (false, 2801), (false, 2800), (true, 1401), (false, 1)]
        {
            let mut frame = super_frame(kind, ipv6, tagged, len);
            let mut ours = Vec::new();
            segment::complete(frame.bytes(), &frame.offload, &mut Vec::new(), |frame| {
                ours.push(frame.to_vec())
            })
            .unwrap();
            from.send(&mut frame).unwrap();
            for (number, ours) in ours.iter().enumerate() {
                let theirs = await_frame(&mut to, PATIENCE).expect("a segment");
                assert_eq!(theirs.bytes(), ours, "{kind:?} tagged {tagged}, {len} bytes, segment {number}");
            }
            assert_eq!(to.recv(&mut Frame::new()), Ok(Received::Empty));
        }
    }
}

#[test]
fn ping() {
    for kinds in [[WithOffload, WithOffload], [Plain, WithOffload]] {
        let cable = match Cable::new(kinds) {
            Ok(cable) => cable,
            Err(why) => return skip(&why),
        };
        for target in ["10.99.0.2", "fd99::2"] {
            let output = cable.stations[0].run(&format!("ping -n -c 3 -i 0.2 -w 10 -s 3000 {target}"));
            assert!(output.contains("3 received"), "{output}");
        }
        assert!(cable.cut()[0].frames >= 6);
    }
}

/// A broadcast frame, long enough for anything.
fn broadcast() -> Frame {
    let mut bytes = vec![0xff; 6];
    bytes.extend([2, 0, 0, 0, 0, 9, 0x88, 0xb5]);
    bytes.resize(60, 0);
    Frame::from_bytes(&bytes)
}

#[test]
fn down_and_up_inside() {
    for kind in [WithOffload, Plain] {
        let inside = inside_or_skip!();
        let mut tap = attach(&inside, kind);
        assert_eq!(tap.send(&mut broadcast()), Err(DeviceError::LinkDown), "never up: {kind:?}");
        inside.netlink.configure("eth0", &config(1)).unwrap();
        assert_eq!(tap.send(&mut broadcast()), Ok(()));
        inside.run("ip link set eth0 down");
        assert_eq!(tap.send(&mut broadcast()), Err(DeviceError::LinkDown));
        // What its kernel had said while it was up; then nothing.
        while tap.recv(&mut Frame::new()) == Ok(Received::Frame) {}
        assert_eq!(tap.recv(&mut Frame::new()), Ok(Received::Empty));
        assert!(!inside.netlink.link("eth0").unwrap().up);
        inside.run("ip link set eth0 up");
        assert_eq!(tap.send(&mut broadcast()), Ok(()));
    }
}

#[test]
fn thousands_who_speak_at_once_wait_until_they_are_read() {
    const BURST: &str = "/usr/bin/python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
for _ in range(4000): s.sendto(b\"?\", (\"10.99.0.255\", 9))
'";
    for kind in [WithOffload, Plain] {
        let inside = inside_or_skip!();
        let mut tap = attach(&inside, kind);
        inside.netlink.configure("eth0", &config(1)).unwrap();
        let mut read = || {
            let mut frame = Frame::new();
            std::iter::from_fn(|| (tap.recv(&mut frame) == Ok(Received::Frame)).then_some(())).count()
        };
        read();
        inside.run(BURST);
        assert!(read() >= 4000, "in the kernel's usual queue 1,000 wait: {kind:?}");
        assert_eq!(inside.netlink.link("eth0").unwrap().dropped, 0);
    }
}

#[test]
fn deleted_inside() {
    for kind in [WithOffload, Plain] {
        let inside = inside_or_skip!();
        let mut tap = attach(&inside, kind);
        inside.run("ip link del eth0");
        assert_eq!(await_event(tap.as_ref(), PATIENCE), Some(true));
        assert_eq!(tap.recv(&mut Frame::new()), Err(DeviceError::Lost));
        assert_eq!(tap.send(&mut broadcast()), Err(DeviceError::Lost));
        assert_eq!(os_error(&inside.netlink.link("eth0").unwrap_err()), nix::libc::ENODEV);
    }
}

#[test]
fn renamed_and_given_another_address_inside() {
    let inside = inside_or_skip!();
    let mut tap = attach(&inside, WithOffload);
    inside.netlink.configure("eth0", &config(1)).unwrap();
    inside.run("ip link set eth0 down && ip link set eth0 name mine address 02:00:00:00:00:77 up");
    assert_eq!(tap.send(&mut broadcast()), Ok(()));
    assert_eq!(inside.netlink.link("mine").unwrap().mac, Some(mac(0x77)));
    inside.run("ping -c 1 -w 1 10.99.0.9 || true");
    // Its kernel may have said something else before.
    let is_arp = |frame: &Frame| frame.bytes()[12..14] == [8, 6];
    let frame = std::iter::from_fn(|| await_frame(tap.as_mut(), PATIENCE)).find(is_arp);
    assert_eq!(&frame.expect("an ARP request").bytes()[6..12], mac(0x77).0);
}

/// The next frame within a time.
fn await_frame(tap: &mut dyn Device, time: Duration) -> Option<Frame> {
    let (mut frame, start) = (Frame::new(), Instant::now());
    while tap.recv(&mut frame).unwrap() == Received::Empty {
        let left = time.checked_sub(start.elapsed())?;
        await_event(tap, left)?;
    }
    Some(frame)
}

#[test]
fn a_moved_tap_does_not_keep_its_namespace_alive() {
    let (nursery, target) = (inside_or_skip!(), inside_or_skip!());
    if !nix::unistd::geteuid().is_root() {
        return skip("only root may move an interface between namespaces of different owners");
    }
    let mut tap = OffloadTap::attach(nursery.tun(), "veth1234567").unwrap();
    let namespace = std::fs::File::open(format!("/proc/{}/ns/net", target.pid())).unwrap();
    nursery.netlink.move_to_netns("veth1234567", namespace.as_fd(), "eth0").unwrap();
    target.netlink.configure("eth0", &config(1)).unwrap();
    assert_eq!(tap.send(&mut broadcast()), Ok(()));
    drop((namespace, target));
    // The kernel takes namespaces down when it comes to it, and then tells.
    eventually("the TAP is lost", || await_event(&tap, PATIENCE) == Some(true));
    // It tells before reads fail.
    eventually("reads fail", || tap.recv(&mut Frame::new()) == Err(DeviceError::Lost));
}

#[test]
fn closing_the_tap_takes_the_interface_away() {
    let inside = inside_or_skip!();
    for kind in [WithOffload, Plain] {
        let tap = attach(&inside, kind);
        assert!(inside.netlink.link("eth0").is_ok());
        drop(tap);
        // Whoever handed the descriptor over closes its own copy when it comes to it.
        eventually("the interface has gone", || inside.netlink.link("eth0").is_err());
    }
}

#[test]
fn frames_the_kernel_must_not_take_are_refused() {
    let inside = inside_or_skip!();
    let mut tap = attach(&inside, WithOffload);
    inside.netlink.configure("eth0", &config(1)).unwrap();
    let lies = [
        Offload { flags: 1, csum_start: 60_000, csum_offset: 16, ..Offload::NONE },
        Offload { gso_type: 1, gso_size: 0, ..Offload::NONE },
        Offload { gso_type: 0x7f, gso_size: 100, ..Offload::NONE },
    ];
    for lie in lies {
        let mut frame = broadcast();
        frame.offload = lie;
        assert_eq!(tap.send(&mut frame), Err(DeviceError::Refused), "{lie:?}");
    }
    assert_eq!(tap.send(&mut Frame::from_bytes(&[1; 13])), Err(DeviceError::Refused));
    assert_eq!(tap.send(&mut broadcast()), Ok(()));
}

#[test]
fn a_plain_tap_refuses_what_it_cannot_complete() {
    let inside = inside_or_skip!();
    let mut tap = attach(&inside, Plain);
    inside.netlink.configure("eth0", &config(1)).unwrap();
    for lie in [
        Offload { flags: 1, csum_start: 60_000, csum_offset: 16, ..Offload::NONE },
        Offload { gso_type: 3, gso_size: 100, ..Offload::NONE },
    ] {
        let mut frame = broadcast();
        frame.offload = lie;
        assert_eq!(tap.send(&mut frame), Err(DeviceError::Refused), "{lie:?}");
    }
}

#[test]
fn taps_that_cannot_be_made_say_why() {
    let inside = inside_or_skip!();
    let taken = OffloadTap::attach(inside.tun(), "lo").unwrap_err().to_string();
    assert!(taken.contains("TAP lo: TUNSETIFF") && taken.contains("--ifname"), "{taken}");
    for name in ["", "a-name-of-16-byte", "a/b"] {
        assert!(OffloadTap::attach(inside.tun(), name).is_err(), "{name}");
    }
    let tap = inside.tun();
    let _offload = OffloadTap::attach(tap.try_clone().unwrap(), "eth0").unwrap();
    let wrong = PlainTap::adopt(tap).unwrap_err().to_string();
    assert!(wrong.contains("TAP eth0") && wrong.contains("headers"), "{wrong}");
    assert!(PlainTap::adopt(inside.tun()).is_err(), "attached to nothing");
}

fn os_error(error: &NetlinkError) -> i32 {
    error.error.raw_os_error().unwrap()
}

#[test]
fn netlink_configures_and_tells() {
    let inside = inside_or_skip!();
    let _tap = attach(&inside, WithOffload);
    let before = inside.netlink.link("eth0").unwrap();
    assert_eq!((before.name.as_str(), before.up), ("eth0", false));
    inside.netlink.configure("eth0", &LinkConfig { mtu: Some(1400), ..config(7) }).unwrap();
    let after = inside.netlink.link("eth0").unwrap();
    assert_eq!((after.index, after.mac, after.mtu, after.up), (before.index, Some(mac(7)), 1400, true));
    let addresses = inside.run("ip -o addr show dev eth0");
    for address in ["10.99.0.7/24 brd 10.99.0.255", "fd99::7/64"] {
        assert!(addresses.contains(address), "{addresses}");
    }
    assert!(!addresses.contains("tentative") && !addresses.contains("fe80"), "{addresses}");

    let again = inside.netlink.configure("eth0", &config(7)).unwrap_err();
    assert_eq!((again.interface.as_str(), os_error(&again)), ("eth0", nix::libc::EEXIST));
    assert_eq!(
        inside.netlink.configure("eth9", &config(7)).unwrap_err().to_string(),
        "interface eth9: cannot look it up: No such device (os error 19)"
    );
    let taken = inside.netlink.rename("eth0", "lo").unwrap_err();
    assert!([nix::libc::EBUSY, nix::libc::EEXIST].contains(&os_error(&taken)), "{taken}");
}

#[test]
fn frames_that_the_kernels_queue_did_not_take_are_counted() {
    let inside = inside_or_skip!();
    let _unread = attach(&inside, WithOffload);
    inside.netlink.configure("eth0", &config(1)).unwrap();
    inside.run("ip neigh add 10.99.0.9 lladdr 02:00:00:00:00:09 dev eth0");
    assert_eq!(inside.netlink.link("eth0").unwrap().dropped, 0);
    let many = QUEUE + 200;
    inside.run(&format!("ping -q -l {many} -c {many} -w 1 10.99.0.9 || true"));
    assert!(inside.netlink.link("eth0").unwrap().dropped > 0);
}

#[test]
fn nobody_inside_can_speak_to_our_netlink_socket() {
    let inside = inside_or_skip!();
    assert_ne!(inside.netlink_port, 0);
    assert_eq!(inside.forge(inside.netlink_port), "Err(ECONNREFUSED)");
    assert!(inside.netlink.link("lo").is_ok());
}

#[test]
fn an_interface_without_ipv6_is_silent() {
    let inside = inside_or_skip!();
    let mut tap = attach(&inside, WithOffload);
    let silent = LinkConfig { no_ipv6: true, up: true, ..LinkConfig::default() };
    inside.netlink.configure("eth0", &silent).unwrap();
    let heard = await_frame(tap.as_mut(), Duration::from_secs(1));
    assert!(heard.is_none(), "{:02x?}", heard.unwrap().bytes());

    let inside = inside_or_skip!();
    let mut tap = attach(&inside, WithOffload);
    inside.netlink.configure("eth0", &LinkConfig { no_ipv6: false, ..silent }).unwrap();
    assert!(await_frame(tap.as_mut(), PATIENCE).is_some(), "IPv6 says hello");
}

/// All of this again without any privilege, with a `/dev/net/tun` that everybody may open.
#[test]
fn as_an_ordinary_user() {
    const SCRIPT: &str = "touch $0/tests && mount --bind $1 $0/tests && mknod -m 0666 $0/tun c 10 200 &&
        mount --bind $0/tun /dev/net/tun || exit 77
        exec setpriv --reuid 64321 --regid 64321 --clear-groups --no-new-privs \
            $0/tests --skip as_an_ordinary_user --nocapture";
    if !nix::unistd::geteuid().is_root() {
        return skip("as_an_ordinary_user: this is one already");
    }
    let directory = tempfile::tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).unwrap();
    let output = Command::new("unshare")
        .args(["-m", "--propagation", "private", "sh", "-c", SCRIPT])
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if output.status.code() == Some(77) {
        return skip(&format!("as_an_ordinary_user: {text}"));
    }
    text.lines()
        .filter_map(|line| line.strip_prefix("SKIP: "))
        .for_each(|why| skip(&format!("as a user: {why}")));
    assert!(output.status.success(), "{text}");
}
