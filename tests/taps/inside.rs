//! A process in a network namespace of its own, which does there what it is told.
//!
//! It is this test program once more, started under `unshare` with a socket as its standard
//! input: the tests have threads, and only a process of one thread may enter a user namespace.
//! It answers requests one by one, and ends when the socket is closed.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, getsockname, sendto, setsockopt,
    socket, sockopt,
};
use serde::{Deserialize, Serialize};
use tapswitch::io::netlink::Netlink;
use tapswitch::io::sys::passing;
use tapswitch::io::tap;
use tapswitch::io::uplink;

/// How long anything may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// What a datagram of the segmentation test carries.
pub(crate) const DATAGRAM: usize = 1000;

/// What the process inside can be told to do.
#[derive(Debug, Serialize, Deserialize)]
enum Request {
    /// Open `/dev/net/tun`.
    Tun,
    /// Make a plain TAP.
    PlainTap,
    /// Open a netlink socket.
    Netlink,
    /// Open a socket for a monitor.
    Monitor,
    /// Open what an uplink takes: a packet socket, or a TAP's descriptor.
    Uplink { packet: bool },
    /// Listen on TCP; answered when it does, and again with what one connection brought.
    ReceiveStream(SocketAddr),
    /// Send this many bytes over TCP.
    SendStream(SocketAddr, usize),
    /// Wait for datagrams; answered when it does, and again with the sizes of so many.
    ReceiveDatagrams(SocketAddr, usize),
    /// Send so many datagrams of [`DATAGRAM`] bytes with one system call (UDP_SEGMENT).
    SendDatagrams(SocketAddr, usize),
    /// Send a netlink message to the socket with this port number.
    Forge(u32),
    /// Run a shell command.
    Run(String),
}

/// The other side of the socket.
pub(crate) struct Inside {
    process: Child,
    socket: UnixStream,
    pub(crate) netlink: Netlink,
    /// The port number of `netlink`, by which others could address it.
    pub(crate) netlink_port: u32,
}

impl Inside {
    /// A process in a new namespace; as an ordinary user, in a user namespace of its own too.
    /// The error says why that is impossible here.
    pub(crate) fn new() -> Result<Self, String> {
        let how = if nix::unistd::geteuid().is_root() { "-n" } else { "-Urn" };
        let (socket, theirs) = UnixStream::pair().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let process = Command::new("unshare")
            .args([how, "--"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "inside::the_process_inside", "--nocapture"])
            .env(IS_INSIDE, "")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("unshare: {error}"))?;
        let mut starting = Starting(process);
        match request(&socket, &Request::Netlink) {
            Ok((_, mut fds)) => {
                let descriptor = fds.pop().unwrap();
                let netlink = Netlink::new(descriptor.try_clone().unwrap()).unwrap();
                netlink.link("lo").unwrap();
                let netlink_port = getsockname::<NetlinkAddr>(descriptor.as_raw_fd()).unwrap().pid();
                Ok(Self { process: starting.started(), socket, netlink, netlink_port })
            }
            Err(_) => Err(starting.complaint(how)),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    fn ask(&self, what: &Request) -> (String, Vec<OwnedFd>) {
        let (answer, fds) = request(&self.socket, what).unwrap();
        (answer.unwrap_or_else(|error| panic!("{what:?}: {error}")), fds)
    }

    pub(crate) fn tun(&self) -> OwnedFd {
        self.ask(&Request::Tun).1.pop().unwrap()
    }

    pub(crate) fn plain_tap(&self) -> OwnedFd {
        self.ask(&Request::PlainTap).1.pop().unwrap()
    }

    /// A socket for a monitor.
    pub(crate) fn monitor(&self) -> OwnedFd {
        self.ask(&Request::Monitor).1.pop().unwrap()
    }

    /// What an uplink takes, opened inside, as it goes to the daemon.
    pub(crate) fn uplink(&self, packet: bool) -> uplink::Descriptors {
        let (identity, fds) = self.ask(&Request::Uplink { packet });
        let [device, netlink, monitor] = fds.try_into().unwrap();
        uplink::Descriptors { device, netlink, monitor, identity: serde_json::from_str(&identity).unwrap() }
    }

    pub(crate) fn packet_socket(&self) -> OwnedFd {
        self.uplink(true).device
    }

    /// The output of a command that must succeed.
    pub(crate) fn run(&self, command: &str) -> String {
        self.ask(&Request::Run(command.to_owned())).0
    }

    /// What the kernel says to a message sent to the netlink socket with this port number.
    pub(crate) fn forge(&self, port: u32) -> String {
        self.ask(&Request::Forge(port)).0
    }

    /// Sends `len` bytes over TCP to `other`, who has `address`, and proves that they arrived.
    pub(crate) fn stream_to(&self, other: &Self, address: SocketAddr, len: usize) {
        other.ask(&Request::ReceiveStream(address));
        self.ask(&Request::SendStream(address, len));
        assert_eq!(other.answer(), format!("{len} bytes"));
    }

    /// Sends datagrams to `other`, who has `address`, and proves that each arrived.
    pub(crate) fn datagrams_to(&self, other: &Self, address: SocketAddr, count: usize) {
        other.ask(&Request::ReceiveDatagrams(address, count));
        self.ask(&Request::SendDatagrams(address, count));
        assert_eq!(other.answer(), format!("{:?}", vec![DATAGRAM; count]));
    }

    fn answer(&self) -> String {
        receive(&self.socket).unwrap().0.unwrap()
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A process of which it is not known yet whether it got inside.
struct Starting(Child);

impl Starting {
    fn started(self) -> Child {
        self.0
    }

    fn complaint(&mut self, how: &str) -> String {
        let _ = self.0.kill();
        let mut text = String::new();
        let _ = self.0.stderr.take().unwrap().read_to_string(&mut text);
        let _ = self.0.wait();
        format!("unshare {how}: {}", text.trim())
    }
}

type Answer = Result<String, String>;

fn request(socket: &UnixStream, what: &Request) -> io::Result<(Answer, Vec<OwnedFd>)> {
    passing::send(socket.as_fd(), &serde_json::to_vec(what)?, &[])?;
    receive(socket)
}

fn receive(socket: &UnixStream) -> io::Result<(Answer, Vec<OwnedFd>)> {
    let mut buffer = vec![0; 64 << 10];
    let (len, fds) = passing::receive(socket.as_fd(), &mut buffer)?;
    Ok((serde_json::from_slice(&buffer[..len])?, fds))
}

fn reply(socket: &UnixStream, answer: &Answer, fds: &[OwnedFd]) -> io::Result<()> {
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    passing::send(socket.as_fd(), &serde_json::to_vec(answer)?, &fds).map(drop)
}

/// Set for [`the_process_inside`] when it is what its name says.
const IS_INSIDE: &str = "TAPSWITCH_TEST_IS_INSIDE";

/// Not a test of its own: what [`Inside::new`] starts, which serves requests from inside a namespace.
#[test]
fn the_process_inside() {
    if std::env::var_os(IS_INSIDE).is_none() {
        return;
    }
    let Ok(socket) = io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from) else { return };
    let mut buffer = vec![0; 64 << 10];
    while let Ok((len @ 1.., _)) = passing::receive(socket.as_fd(), &mut buffer) {
        let request: Request = serde_json::from_slice(&buffer[..len]).unwrap();
        let done = perform(&socket, &request);
        let (answer, fds) = match done {
            Ok((text, fds)) => (Ok(text), fds),
            Err(error) => (Err(error.to_string()), Vec::new()),
        };
        if reply(&socket, &answer, &fds).is_err() {
            return;
        }
    }
}

fn perform(socket: &UnixStream, request: &Request) -> io::Result<(String, Vec<OwnedFd>)> {
    let ready = || reply(socket, &Ok("ready".to_owned()), &[]);
    let mut fds = Vec::new();
    let mut text = String::new();
    match request {
        Request::Tun => {
            let tun = std::fs::File::options().read(true).write(true).open("/dev/net/tun")?;
            fds.push(tun.into());
        }
        Request::PlainTap => fds.push(tap::create_plain().map_err(io::Error::other)?),
        Request::Netlink => fds.push(netlink_socket()?),
        Request::Monitor => fds.push(tapswitch::io::netlink::monitor::open()?),
        Request::Uplink { packet } => {
            let kind = if *packet { uplink::Kind::Packet } else { uplink::Kind::Tap { offload: true } };
            let opened = uplink::open(None, kind).map_err(io::Error::other)?;
            text = serde_json::to_string(&opened.identity)?;
            fds.extend([opened.device, opened.netlink, opened.monitor]);
        }
        Request::ReceiveStream(address) => text = receive_stream(*address, ready)?,
        Request::SendStream(address, len) => send_stream(*address, *len)?,
        Request::ReceiveDatagrams(address, count) => text = receive_datagrams(*address, *count, ready)?,
        Request::SendDatagrams(address, count) => send_datagrams(*address, *count)?,
        Request::Forge(port) => {
            let sent = sendto(
                netlink_socket()?.as_raw_fd(),
                &[0; 64],
                &NetlinkAddr::new(*port, 0),
                MsgFlags::empty(),
            );
            text = format!("{sent:?}");
        }
        Request::Run(command) => {
            let output = Command::new("sh").args(["-c", command]).stdin(Stdio::null()).output()?;
            text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            if !output.status.success() {
                return Err(io::Error::other(format!("{}: {text}", output.status)));
            }
        }
    }
    Ok((text, fds))
}

fn netlink_socket() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    Ok(socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?)
}

/// Byte number `at` of every stream; 251 is prime, so that no segment size hides a shift.
fn pattern(at: usize) -> u8 {
    (at % 251) as u8
}

fn receive_stream(address: SocketAddr, ready: impl Fn() -> io::Result<()>) -> io::Result<String> {
    let listener = TcpListener::bind(address)?;
    ready()?;
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    match bytes.iter().enumerate().position(|(at, byte)| *byte != pattern(at)) {
        Some(at) => Err(io::Error::other(format!("byte {at} is wrong"))),
        None => Ok(format!("{} bytes", bytes.len())),
    }
}

fn send_stream(address: SocketAddr, len: usize) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&(0..len).map(pattern).collect::<Vec<u8>>())
}

fn receive_datagrams(
    address: SocketAddr,
    count: usize,
    ready: impl Fn() -> io::Result<()>,
) -> io::Result<String> {
    let socket = UdpSocket::bind(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    ready()?;
    let mut buffer = [0; 4096];
    let sizes: Vec<_> = (0..count).map(|_| socket.recv(&mut buffer)).collect::<Result<_, _>>()?;
    Ok(format!("{sizes:?}"))
}

fn send_datagrams(address: SocketAddr, count: usize) -> io::Result<()> {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    setsockopt(&socket, sockopt::UdpGsoSegment, &(DATAGRAM as i32))?;
    socket.send_to(&vec![7; DATAGRAM * count], address).map(drop)
}
