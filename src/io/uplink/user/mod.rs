//! The user uplink: flows that leave the switch become ordinary sockets of the host.
//!
//! Theory of operation. To the switch this is a device like a TAP: a link to one router, the *far end*, behind
//! which everything lies. To the host it is a process with sockets, which needs no privilege. Packets that the
//! switch sends are taken apart ([`send`](Device::send)) and carried to the socket of their flow; what the
//! sockets bring becomes packets when the loop asks for the next frame ([`recv`](Device::recv)).
//!
//! All sockets are in an epoll instance of their own, whose descriptor is what the loop polls: so a thousand
//! flows are one port, served by its budget like any other. Flows that have something to say stand in a queue,
//! and each says one frame at a time. One timerfd serves all their timers.
//!
//! ```text
//!            send(frame) ─▶ link.rs   ARP and neighbour discovery: the far end is here
//!   switch                 ─▶ tcp.rs   ─▶ socket of the connection
//!                          ─▶ udp.rs, echo.rs ─▶ socket of the address and port inside (mapped.rs)
//!            recv(frame) ◀─ replies, errors (errors.rs) ◀─ queue of flows ◀─ epoll
//! ```

mod burst;
mod datagram;
mod echo;
mod errors;
mod half_open;
mod host_socket;
mod link;
mod listen;
mod mapped;
mod policy;
mod proxy;
mod refusals;
mod tcp;
mod udp;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use hashbrown::HashMap;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use socket2::Socket;

use crate::control::compile::Listener;
use crate::dataplane::{Frame, Instant, PortId, Traffic};
use crate::flows::Ends;
use crate::flows::segment::Link;
use crate::io::device::{Device, DeviceError, Received};
use crate::wire::ip::protocol;
use crate::wire::packet::{Packet, Transport};
use crate::wire::{MacAddr, ethernet};

pub use listen::bind;
pub use policy::Policy;
pub use proxy::Directory;

/// Frames of our own that may wait for the loop: answers to packets, each of which made at most one.
const MAX_REPLIES: usize = 1024;
/// How long the control plane waits for a listener to be closed.
const UNLISTENED: Duration = Duration::from_secs(2);
/// Nobody minds being served so much later, and a timer for each connection would cost.
const TICK: Duration = Duration::from_millis(1);
/// Events taken in at a time.
const EVENTS: usize = 256;
/// Frames that the loop reads between two looks at the sockets, when there is always one more.
const LOOK_AFTER: u32 = 64;

const TIMER: Token = Token(usize::MAX);
const WAKE: Token = Token(usize::MAX - 1);

/// Where the flows are that the sockets' events are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
    Echo,
    Listener,
    Proxy,
    Greeting,
}

/// A device whose far end is the host's sockets.
#[derive(Debug)]
pub struct UserDevice {
    shared: Shared,
    tcp: tcp::Flows,
    udp: udp::Flows,
    listeners: listen::Listeners,
    proxies: proxy::Proxies,
    echo: echo::Flows,
    /// Whose turn it was last.
    turn: usize,
    /// Frames read since the sockets were looked at.
    unlooked: u32,
    events: Events,
    /// The sockets may have something to say that was not taken in yet.
    is_awake: bool,
    timer: TimerFd,
    armed: Option<Instant>,
    commands: Receiver<Command>,
}

/// What the control plane tells the device.
#[derive(Debug)]
enum Command {
    SetPolicy(Policy),
    Listen(Vec<(Listener, Socket)>),
    /// And say when it is done.
    Unlisten(Vec<Listener>, Sender<()>),
    /// Each under a number.
    Proxy(u64, Socket, Directory),
    SetProxy(u64, Directory),
    Unproxy(u64),
}

/// The control plane's way to a device that is at work elsewhere.
#[derive(Debug)]
pub struct Handle {
    commands: Sender<Command>,
    waker: Waker,
    /// What it was told last.
    policy: Policy,
}

impl Handle {
    /// New flows follow this policy; those that are there go on.
    pub fn set_policy(&mut self, policy: Policy) {
        if self.policy != policy {
            self.policy = policy.clone();
            self.tell(Command::SetPolicy(policy));
        }
    }

    /// Serves these sockets, which [`bind`] made.
    pub fn listen(&self, sockets: Vec<(Listener, Socket)>) {
        self.tell(Command::Listen(sockets));
    }

    /// Closes listeners; they are closed when this returns.
    pub fn unlisten(&self, listeners: Vec<Listener>) {
        let (done, is_done) = crossbeam_channel::bounded(1);
        self.tell(Command::Unlisten(listeners, done));
        // A loop that is at work comes by in milliseconds; one that has ended has closed them.
        let _ = is_done.recv_timeout(UNLISTENED);
    }

    /// Serves a listening socket as a proxy to who stands in the directory; `number` is below 2^24.
    pub fn proxy(&self, number: u64, socket: Socket, directory: Directory) {
        self.tell(Command::Proxy(number, socket, directory));
    }

    /// Who is reached by a proxy has changed.
    pub fn set_proxy(&self, number: u64, directory: Directory) {
        self.tell(Command::SetProxy(number, directory));
    }

    /// Ends a proxy.
    pub fn unproxy(&self, number: u64) {
        self.tell(Command::Unproxy(number));
    }

    /// A device that has gone needs to be told nothing.
    fn tell(&self, command: Command) {
        let _ = self.commands.send(command);
        let _ = self.waker.wake();
    }
}

/// What all flows need.
#[derive(Debug)]
struct Shared {
    poll: Poll,
    link: Link,
    policy: Policy,
    clock: std::time::Instant,
    /// What is ready to be read by the loop.
    replies: VecDeque<Vec<u8>>,
    /// Of the replies' memory, to be used again.
    spare: Vec<Vec<u8>>,
    /// The port of the switch whose packet is being carried.
    from: Option<PortId>,
    /// Sockets that each port has; of ports that have any.
    owned: HashMap<PortId, u32, foldhash::fast::FixedState>,
    /// Sockets that one port may have.
    limit: u32,
}

impl Shared {
    fn now(&self) -> Instant {
        Instant(u64::try_from(self.clock.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The port of the switch whose packet is being carried gets a socket, if it may have one more.
    fn take_share(&mut self) -> Result<Share, DeviceError> {
        if let Some(port) = self.from {
            let owned = self.owned.entry(port).or_default();
            if *owned >= self.limit {
                return Err(DeviceError::Limit);
            }
            *owned += 1;
        }
        Ok(Share(self.from))
    }

    /// The socket is closed.
    fn give_back(&mut self, share: Share) {
        if let Some(port) = share.0
            && let Some(owned) = self.owned.get_mut(&port)
        {
            *owned -= 1;
            if *owned == 0 {
                self.owned.remove(&port);
            }
        }
    }

    /// A frame that the loop is to read, built by `build`. Each answers one packet, so what there is no room
    /// for is a packet without answer.
    fn reply(&mut self, build: impl FnOnce(&mut Vec<u8>)) {
        if self.replies.len() >= MAX_REPLIES {
            return;
        }
        let mut frame = self.spare.pop().unwrap_or_default();
        frame.clear();
        build(&mut frame);
        self.replies.push_back(frame);
    }

    /// Puts the oldest reply into `frame`; whether there is one.
    fn next_reply(&mut self, frame: &mut Frame) -> bool {
        let Some(reply) = self.replies.pop_front() else { return false };
        frame.set(&reply, crate::wire::Offload::NONE);
        if self.spare.len() < EVENTS {
            self.spare.push(reply);
        }
        true
    }

    fn register(&self, socket: &impl AsFd, token: Token, interest: Interest) -> io::Result<()> {
        self.poll.registry().register(&mut SourceFd(&socket.as_fd().as_raw_fd()), token, interest)
    }
}

/// Whose a socket is, for [`Shared::give_back`].
#[derive(Debug)]
struct Share(Option<PortId>);

impl Share {
    /// The port whose it is; none, when it is the host's.
    const fn owner(&self) -> Option<PortId> {
        self.0
    }
}

/// Sockets that one port of the switch may have: three quarters of the descriptors there are, so that nobody can
/// take all.
fn share_of_descriptors() -> u32 {
    let limit = crate::io::descriptors::limit();
    u32::try_from(limit - limit / 4).unwrap_or(u32::MAX)
}

/// A token: the kind of flow, its slot, and how often the slot was used before, so that an event of a socket that
/// is closed already reaches nobody else.
fn token(kind: Kind, slot: usize, generation: u32) -> Token {
    // Slots are below 2^24, as descriptors are.
    Token((kind as usize) << 60 | (generation as usize & 0x0fff_ffff) << 24 | slot & 0x00ff_ffff)
}

const fn is_of(token: Token, kind: Kind) -> bool {
    token.0 >> 60 == kind as usize
}

const fn slot_of(token: Token) -> (usize, u32) {
    (token.0 & 0x00ff_ffff, (token.0 >> 24 & 0x0fff_ffff) as u32)
}

impl UserDevice {
    /// A device whose far end has the MAC address `own`; the switch's on that link is `switch`. `seed` makes
    /// sequence numbers hard to guess.
    ///
    /// # Errors
    /// What epoll or timerfd refuse.
    pub fn new(own: MacAddr, switch: MacAddr, policy: Policy, seed: u64) -> io::Result<(Self, Handle)> {
        let poll = Poll::new()?;
        let timer =
            TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        let shared = Shared {
            poll,
            link: Link { own, switch },
            policy: policy.clone(),
            clock: std::time::Instant::now(),
            replies: VecDeque::new(),
            spare: Vec::new(),
            from: None,
            owned: HashMap::default(),
            limit: share_of_descriptors(),
        };
        shared.register(&timer, TIMER, Interest::READABLE)?;
        let waker = Waker::new(shared.poll.registry(), WAKE)?;
        let (sender, commands) = crossbeam_channel::unbounded();
        let events = Events::with_capacity(EVENTS);
        let (tcp, udp, echo) = (tcp::Flows::new(seed), udp::Flows::new(seed), echo::Flows::new(seed));
        let (listeners, proxies) = (listen::Listeners::default(), proxy::Proxies::default());
        let device = Self {
            shared,
            tcp,
            udp,
            echo,
            listeners,
            proxies,
            turn: 0,
            unlooked: 0,
            events,
            is_awake: true,
            timer,
            armed: None,
            commands,
        };
        Ok((device, Handle { commands: sender, waker, policy }))
    }

    /// Takes in what the sockets have to say; whether there was anything. What comes later is an edge of its own
    /// for the loop (`ep_poll_safewake` in fs/eventpoll.c).
    fn poll(&mut self) -> bool {
        self.unlooked = 0;
        if !std::mem::take(&mut self.is_awake) {
            return false;
        }
        if let Err(error) = self.shared.poll.poll(&mut self.events, Some(Duration::ZERO)) {
            self.is_awake = error.kind() == io::ErrorKind::Interrupted;
            return self.is_awake;
        }
        self.is_awake = self.events.iter().count() == EVENTS;
        let now = self.shared.now();
        for event in &self.events {
            match event.token() {
                TIMER => {
                    let _ = nix::unistd::read(&self.timer, &mut [0; 8]);
                    self.armed = None;
                    self.tcp.on_time(now, &mut self.shared);
                    self.udp.sockets.on_time(now, &mut self.shared);
                    self.listeners.on_time(now);
                    self.proxies.on_time(now, &self.shared);
                    self.echo.sockets.on_time(now, &mut self.shared);
                }
                WAKE => {
                    for command in self.commands.try_iter() {
                        obey(command, &mut self.listeners, &mut self.proxies, &mut self.shared);
                    }
                }
                token if is_of(token, Kind::Tcp) => self.tcp.on_event(event, &mut self.shared),
                token if is_of(token, Kind::Udp) => self.udp.on_event(event, &mut self.shared),
                token if is_of(token, Kind::Listener) => self.listeners.on_event(event),
                token if is_of(token, Kind::Proxy) => self.proxies.on_call(now, event, &self.shared),
                token if is_of(token, Kind::Greeting) => {
                    self.proxies.on_event(now, event, &mut self.tcp, &mut self.shared)
                }
                token if is_of(token, Kind::Echo) => self.echo.on_event(event, &mut self.shared),
                _ => {}
            }
        }
        true
    }

    /// The next frame: an answer to a packet, or of a flow that has something to say, of each protocol by turns;
    /// whether there is one. So who floods for answers takes nothing of the flows' turns.
    fn next_frame(&mut self, now: Instant, frame: &mut Frame) -> bool {
        (0..5).any(|_| {
            self.turn = (self.turn + 1) % 5;
            match self.turn {
                2 => self.listeners.next_frame(now, frame, &mut self.tcp, &mut self.shared),
                0 => self.tcp.next_frame(now, frame, &mut self.shared),
                1 => self.udp.next_frame(now, frame, &self.shared),
                3 => self.echo.next_frame(now, frame, &self.shared),
                _ => self.shared.next_reply(frame),
            }
        })
    }

    fn arm_timer(&mut self) {
        let flows =
            [self.tcp.next_deadline(), self.udp.sockets.next_deadline(), self.echo.sockets.next_deadline()];
        let callers = [self.listeners.next_deadline(), self.proxies.next_deadline()];
        let deadlines = flows.into_iter().chain(callers);
        let Some(at) = deadlines.flatten().min() else { return };
        if self.armed.is_some_and(|armed| armed <= at) {
            return;
        }
        let wait = at.since(self.shared.now()).max(TICK);
        let expiration = Expiration::OneShot(TimeSpec::from_duration(wait));
        // A timer that cannot be set would only have told of what got lost.
        if self.timer.set(expiration, TimerSetTimeFlags::empty()).is_ok() {
            self.armed = Some(at);
        }
    }

    fn on_packet(&mut self, frame: &Frame) -> Result<(), DeviceError> {
        const BAD: DeviceError = DeviceError::Unsupported;
        let bytes = frame.bytes();
        let header = ethernet::Header::parse(bytes).map_err(|_| BAD)?;
        let Some(version) = header.ip_version() else {
            return link::answer_arp(&header, bytes, &mut self.shared);
        };
        let packet = Packet::parse(bytes, header.payload, version, &frame.offload).map_err(|_| BAD)?;
        // Packets come whole: of a piece, the lengths behind the IP header would be those of something else.
        if packet.fragment.is_some() {
            return Err(BAD);
        }
        let now = self.shared.now();
        match packet.payload {
            Transport::Tcp(segment) => self.tcp.on_segment(now, bytes, &packet, &segment, &mut self.shared),
            Transport::Udp(datagram) => {
                let ends = mapped::ends_of(&packet, datagram.destination, datagram.source);
                if let Some((socket, caller)) = self.listeners.answered(&ends, &self.shared.policy) {
                    return udp::answer(bytes, &frame.offload, &packet, &datagram, (socket, caller));
                }
                self.udp.on_datagram(now, bytes, &frame.offload, &packet, &datagram, &mut self.shared)
            }
            Transport::Error { kind, code, mtu, quote } if quote.protocol == protocol::TCP => {
                self.tcp.on_error(version, [kind, code], mtu, &quote, &mut self.shared);
                Ok(())
            }
            Transport::Query { id, .. } => self.echo.on_query(now, bytes, &packet, id, &mut self.shared),
            Transport::Error { .. } => Err(DeviceError::Untold),
            Transport::Icmp { .. } => link::answer_discovery(bytes, &packet, &mut self.shared),
            _ => Err(BAD),
        }
    }
}

/// Does what the control plane says.
fn obey(
    command: Command,
    listeners: &mut listen::Listeners,
    proxies: &mut proxy::Proxies,
    shared: &mut Shared,
) {
    match command {
        Command::SetPolicy(policy) => shared.policy = policy,
        Command::Listen(sockets) => {
            sockets.into_iter().for_each(|(listener, socket)| listeners.add(listener, socket, shared));
        }
        Command::Unlisten(gone, done) => {
            gone.iter().for_each(|listener| listeners.remove(listener));
            let _ = done.send(());
        }
        Command::Proxy(number, socket, directory) => proxies.add(number, socket, directory, shared),
        Command::SetProxy(number, directory) => proxies.set(number, directory),
        Command::Unproxy(number) => proxies.remove(number),
    }
}

impl Device for UserDevice {
    fn descriptor(&self) -> Option<RawFd> {
        Some(self.shared.poll.as_raw_fd())
    }

    fn recv(&mut self, frame: &mut Frame) -> Result<Received, DeviceError> {
        self.unlooked += 1;
        if self.unlooked > LOOK_AFTER {
            self.poll();
            self.arm_timer();
        }
        loop {
            let now = self.shared.now();
            if self.next_frame(now, frame) {
                return Ok(Received::Frame);
            }
            if self.shared.replies.is_empty() && !self.poll() && !self.has_frames() {
                self.arm_timer();
                return Ok(Received::Empty);
            }
        }
    }

    fn send(&mut self, frame: &mut Frame) -> Result<(), DeviceError> {
        self.on_packet(frame)
    }

    fn flush(&mut self) -> Traffic {
        let now = self.shared.now();
        let lost = self.udp.flush(now, &mut self.shared);
        // A socket that nobody answers brings no event that would have the timer set.
        self.arm_timer();
        lost
    }

    fn wake(&mut self) {
        self.is_awake = true;
    }

    fn serves(&mut self, from: Option<PortId>) {
        self.shared.from = from;
    }

    fn has_frames(&self) -> bool {
        !self.shared.replies.is_empty()
            || self.tcp.has_frames()
            || self.udp.sockets.has_frames()
            || self.listeners.has_frames()
            || self.echo.sockets.has_frames()
    }

    fn is_gone(&self) -> bool {
        false
    }

    fn host_socket(&self, protocol: u8, ends: &Ends) -> Option<SocketAddr> {
        match protocol {
            protocol::TCP => self.tcp.host_socket(ends),
            protocol::UDP => self.udp.sockets.host_socket(ends),
            protocol::ICMP | protocol::ICMPV6 => self.echo.sockets.host_socket(ends),
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "fuzz/tests.rs"]
mod fuzz;
#[cfg(test)]
mod tests;
