//! TCP: each connection of the switch's side is spliced to a socket of the host.
//!
//! Theory of operation. `flows::tcp` is the machine; here are its socket, its place in the tables, and the calls.
//! A connection that has something to say stands in the queue of ready ones once. What a socket does not take at
//! once is kept for it (its *backlog*), a frame's worth at most, while the peer is told that there is no room.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use hashbrown::HashMap;
use mio::Interest;
use mio::event::Event;
use nix::errno::Errno;
use slab::Slab;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::half_open::{HalfOpen, Opener};
use super::policy::Fate;
use super::proxy::say;
use super::refusals::{refuse, send_bare, unconnected, unopened, unreachable};
use super::{Kind, Share, Shared, slot_of, token};
use crate::dataplane::{Frame, Instant};
use crate::flows::segment::{Ends, tcp_segment};
use crate::flows::socks::Reply;
use crate::flows::tcp::{Tcp, Timeout, Wants};
use crate::flows::timers::{Armed, Timers};
use crate::io::descriptors::with_room;
use crate::io::device::DeviceError;
use crate::io::sys::socket as sys;
use crate::wire::emit::pseudo_header;
use crate::wire::icmp::{Quote, v4, v6};
use crate::wire::ip::{Version, protocol};
use crate::wire::packet::Packet;
use crate::wire::tcp::{ACK, HEADER_LEN, RST, SYN, Tcp as Segment};
use crate::wire::{ethernet, tcp};

/// Connections at a time.
const MAX_FLOWS: usize = 1 << 20;
/// What a peer may always send ahead: a super-frame.
const LEAST_WINDOW: u32 = 64 * 1024;
/// Bytes that sockets did not take at once, of all connections together.
const MAX_BACKLOG: usize = 64 << 20;
/// Bytes given to a socket after which its buffer is looked at anew.
const LOOK_AGAIN: usize = 64 * 1024;

type Hasher = foldhash::fast::FixedState;

/// All connections.
#[derive(Debug)]
pub(super) struct Flows {
    flows: Slab<Flow>,
    index: HashMap<Ends, u32, Hasher>,
    ready: VecDeque<u32>,
    timers: Timers,
    generation: u32,
    /// Of each opener, connections that one side does not know of yet.
    half_open: HalfOpen,
    backlog: usize,
    /// Bytes looked past, where the kernel cannot do it itself.
    scratch: Vec<u8>,
    seed: u64,
}

/// One connection.
#[derive(Debug)]
struct Flow {
    /// Of its packets towards the switch.
    ends: Ends,
    socket: Socket,
    machine: Tcp,
    generation: u32,
    armed: Armed,
    /// A proxy's caller has not been told yet whether it is open.
    proxied: bool,
    /// It stands in the queue.
    queued: bool,
    /// The socket may hold bytes that were not sent yet.
    readable: bool,
    /// The socket's other side will send nothing more.
    closing: bool,
    half_open: bool,
    /// The socket was told that the peer has finished.
    shut: bool,
    /// Nagle's algorithm is off.
    prompt: bool,
    /// From where the kernel looks at what was received, once it was told.
    peek: Option<u32>,
    /// Bytes that the peer has, and that are still in the socket.
    acknowledged: u32,
    /// What the socket did not take.
    backlog: Vec<u8>,
    /// Bytes given to the socket since its buffer was looked at, and the window that came of it.
    given: usize,
    window: u32,
    share: Share,
}

/// The socket has failed, or the peer is gone.
struct Broken;

impl Flows {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            flows: Slab::new(),
            index: HashMap::with_hasher(Hasher::with_seed(seed)),
            ready: VecDeque::new(),
            timers: Timers::default(),
            generation: 0,
            half_open: HalfOpen::default(),
            backlog: 0,
            scratch: Vec::new(),
            seed,
        }
    }

    /// Whose each connection's socket is, after what is counted was compared with what there is.
    #[cfg(test)]
    pub(super) fn audit(&self) -> Vec<Option<crate::dataplane::PortId>> {
        let flows = || self.flows.iter().map(|(_, flow)| flow);
        assert_eq!(self.flows.len(), self.index.len());
        assert!(self.index.iter().all(|(ends, slot)| self.flows[*slot as usize].ends == *ends));
        assert_eq!(self.backlog, flows().map(|flow| flow.backlog.len()).sum::<usize>());
        let mut half_open = HalfOpen::default();
        flows().filter(|flow| flow.half_open).for_each(|flow| half_open.add(flow.opener()));
        assert_eq!(half_open, self.half_open);
        let is_ready = |slot: usize| self.ready.contains(&(slot as u32));
        assert!(self.flows.iter().all(|(slot, flow)| !flow.queued || is_ready(slot)));
        flows().map(|flow| flow.share.owner()).collect()
    }

    pub(super) fn has_frames(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The host's address that a connection leaves by.
    pub(super) fn host_socket(&self, ends: &Ends) -> Option<SocketAddr> {
        self.socket_of(ends)?.local_addr().ok()?.as_socket()
    }

    pub(super) fn socket_of(&self, ends: &Ends) -> Option<&Socket> {
        let slot = *self.index.get(ends)?;
        Some(&self.flows.get(slot as usize)?.socket)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Whether an opener may have one more connection.
    pub(super) fn has_room(&self, opener: Opener) -> bool {
        self.flows.len() < MAX_FLOWS && self.half_open.has_room(opener)
    }

    /// Whether there is a connection with these ends.
    pub(super) fn has(&self, ends: &Ends) -> bool {
        self.index.contains_key(ends)
    }

    /// A segment out of the switch.
    pub(super) fn on_segment(
        &mut self,
        now: Instant,
        bytes: &[u8],
        packet: &Packet,
        segment: &Segment,
        shared: &mut Shared,
    ) -> Result<(), DeviceError> {
        let ends = Ends {
            source: packet.destination,
            destination: packet.source,
            source_port: segment.destination,
            destination_port: segment.source,
        };
        let payload = bytes.get(packet.transport..packet.end).unwrap_or_default();
        // Behind a socket nobody could tell any more.
        if !packet.partial_checksum && !is_sound(packet, payload) {
            return Err(DeviceError::Unsupported);
        }
        let mss =
            if segment.flags & SYN == 0 { None } else { tcp::mss(payload, segment).map(|(_, mss)| mss) };
        let Some(slot) = self.index.get(&ends).map(|slot| *slot as usize) else {
            if segment.flags & (SYN | ACK | RST) == SYN {
                return self.connect(now, ends, segment, mss, shared);
            }
            if segment.flags & RST == 0 {
                refuse(&ends, segment, shared);
            }
            return Ok(());
        };
        let Some(flow) = self.flows.get_mut(slot) else { return Ok(()) };
        let received = flow.machine.on_segment(now, segment, mss);
        if received.reset {
            self.remove(slot, true, shared);
            return Ok(());
        }
        if received.stray {
            refuse(&ends, segment, shared);
            return Ok(());
        }
        if received.opened {
            flow.half_open = false;
            self.half_open.remove(flow.opener());
            if std::mem::take(&mut flow.proxied) {
                say(&flow.socket, &Reply::Succeeded.bytes());
            }
        }
        flow.acknowledged += received.acknowledged;
        let start = usize::from(segment.header_len) + received.skip;
        let taken = match payload.get(start..start + received.take) {
            Some(data) if !data.is_empty() => flow.give(data, segment, &mut self.backlog),
            _ => Ok(()),
        };
        let done = taken.and_then(|()| flow.shut_if_finished());
        if done.is_err() {
            self.break_off(slot, shared);
        } else {
            self.queue(slot);
        }
        Ok(())
    }

    /// An ICMP error about a segment of ours: the path takes less, or nobody is there.
    pub(super) fn on_error(
        &mut self,
        version: Version,
        [kind, code]: [u8; 2],
        mtu: u32,
        quote: &Quote,
        shared: &mut Shared,
    ) {
        let Some((source_port, destination_port)) = quote.ports else { return };
        let ends =
            Ends { source: quote.source, destination: quote.destination, source_port, destination_port };
        let Some(slot) = self.index.get(&ends).map(|slot| *slot as usize) else { return };
        let Some(flow) = self.flows.get_mut(slot) else { return };
        let is_unreachable = kind == v4::DESTINATION_UNREACHABLE && version == Version::V4
            || kind == v6::DESTINATION_UNREACHABLE && version == Version::V6;
        let is_too_big = match version {
            Version::V4 => is_unreachable && code == v4::FRAGMENTATION_NEEDED,
            Version::V6 => kind == v6::PACKET_TOO_BIG,
        };
        if is_too_big {
            let headers = ends.network_len() - ethernet::HEADER_LEN + HEADER_LEN;
            let mss = (mtu as usize).saturating_sub(headers);
            flow.machine.lower_mss(u16::try_from(mss).unwrap_or(u16::MAX));
            self.queue(slot);
        } else if is_unreachable && flow.half_open {
            // RFC 5461: of a connection that works an error is not believed.
            self.remove(slot, true, shared);
        }
    }

    /// A peer opens a connection.
    fn connect(
        &mut self,
        now: Instant,
        ends: Ends,
        syn: &Segment,
        mss: Option<u16>,
        shared: &mut Shared,
    ) -> Result<(), DeviceError> {
        let to = match shared.policy.fate(ends.source, ends.source_port) {
            Fate::Goes(to) => to,
            Fate::Refused => {
                refuse(&ends, syn, shared);
                return Err(DeviceError::Denied);
            }
            Fate::Denied => {
                unreachable(&ends, syn, Errno::EACCES, shared);
                return Err(DeviceError::Denied);
            }
        };
        if !self.has_room(Opener::of(shared.from, &ends)) {
            // It will ask again.
            return Err(DeviceError::Limit);
        }
        let (socket, is_connected) = match open(to, shared) {
            Ok(opened) => opened,
            Err(error) => return unopened(&ends, syn, &error, shared),
        };
        let iss = self.initial_sequence(now, &ends);
        let mut machine = Tcp::accepting(now, syn, mss, iss);
        if is_connected {
            machine.connected();
        }
        self.insert(ends, socket, machine, shared)
    }

    /// A connection that the host has accepted goes to the switch.
    pub(super) fn accept(
        &mut self,
        now: Instant,
        ends: Ends,
        socket: Socket,
        shared: &mut Shared,
    ) -> Result<(), DeviceError> {
        if self.has(&ends) || !self.has_room(Opener::of(None, &ends)) {
            return Err(DeviceError::Limit);
        }
        // Who is outside takes nothing of a container's share.
        shared.from = None;
        let machine = Tcp::calling(now, self.initial_sequence(now, &ends));
        self.insert(ends, socket, machine, shared)
    }

    /// The same for a proxy's caller, who waits to be told.
    pub(super) fn accept_proxied(
        &mut self,
        now: Instant,
        ends: Ends,
        socket: Socket,
        shared: &mut Shared,
    ) -> Result<(), DeviceError> {
        self.accept(now, ends, socket, shared)?;
        let slot = self.index.get(&ends).map(|slot| *slot as usize);
        if let Some(flow) = slot.and_then(|slot| self.flows.get_mut(slot)) {
            flow.proxied = true;
        }
        Ok(())
    }

    fn insert(
        &mut self,
        ends: Ends,
        socket: Socket,
        machine: Tcp,
        shared: &mut Shared,
    ) -> Result<(), DeviceError> {
        let share = shared.take_share()?;
        // We answer the peer's own questions whether anybody is there, so the host's other end must be asked, too.
        let _ = socket.set_keepalive(true);
        self.generation = self.generation.wrapping_add(1) & 0x0fff_ffff;
        let entry = self.flows.vacant_entry();
        let (slot, generation) = (entry.key(), self.generation);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if shared.register(&socket, token(Kind::Tcp, slot, generation), interest).is_err() {
            shared.give_back(share);
            return Err(DeviceError::NoDescriptor);
        }
        entry.insert(Flow {
            ends,
            socket,
            machine,
            generation,
            armed: Armed::default(),
            proxied: false,
            queued: false,
            readable: false,
            closing: false,
            half_open: true,
            shut: false,
            prompt: false,
            peek: None,
            acknowledged: 0,
            backlog: Vec::new(),
            given: 0,
            window: LEAST_WINDOW,
            share,
        });
        self.half_open.add(Opener::of(shared.from, &ends));
        // Slots are below MAX_FLOWS.
        self.index.insert(ends, slot as u32);
        self.queue(slot);
        Ok(())
    }

    /// RFC 6528: a clock and a keyed hash of the connection.
    fn initial_sequence(&self, now: Instant, ends: &Ends) -> u32 {
        use std::hash::BuildHasher;
        let hash = foldhash::quality::FixedState::with_seed(self.seed).hash_one(ends);
        // Cut off on purpose: a tick every 4 microseconds.
        (hash as u32).wrapping_add((now.0 / 4000) as u32)
    }

    fn queue(&mut self, slot: usize) {
        if let Some(flow) = self.flows.get_mut(slot)
            && !flow.queued
        {
            flow.queued = true;
            self.ready.push_back(slot as u32);
        }
    }

    fn remove(&mut self, slot: usize, abort: bool, shared: &mut Shared) {
        if let Some(mut flow) = self.flows.try_remove(slot) {
            self.timers.disarm(slot, &mut flow.armed);
            self.index.remove(&flow.ends);
            if flow.half_open {
                self.half_open.remove(flow.opener());
            }
            self.backlog -= flow.backlog.len();
            if flow.proxied {
                say(&flow.socket, &Reply::Refused.bytes());
            } else if abort {
                // The host's other side sees a reset as well.
                let _ = flow.socket.set_linger(Some(Duration::ZERO));
            }
            shared.give_back(flow.share);
        }
    }

    /// The socket has failed: the peer is told.
    fn break_off(&mut self, slot: usize, shared: &mut Shared) {
        if let Some(flow) = self.flows.get(slot) {
            let header = flow.machine.reset();
            send_bare(&flow.ends, &header, shared);
        }
        self.remove(slot, true, shared);
    }

    /// A socket has something to say.
    pub(super) fn on_event(&mut self, event: &Event, shared: &mut Shared) {
        let (slot, generation) = slot_of(event.token());
        let Some(flow) = self.flows.get_mut(slot).filter(|flow| flow.generation == generation) else {
            return;
        };
        if event.is_error() {
            let error = flow.socket.take_error().ok().flatten();
            if flow.machine.is_connecting() {
                let (ends, syn) = (flow.ends, flow.machine.reset());
                self.remove(slot, false, shared);
                let error = error.unwrap_or_else(|| Errno::ECONNREFUSED.into());
                return unconnected(&ends, &syn, &error, shared);
            }
            // An error after the end, as of a shutdown that came too late, is told by reading.
            if error.is_some() {
                return self.break_off(slot, shared);
            }
        }
        if flow.machine.is_connecting() {
            if !event.is_writable() {
                return;
            }
            flow.machine.connected();
        }
        flow.readable |= event.is_readable();
        flow.closing |= event.is_read_closed();
        if event.is_writable() && !flow.backlog.is_empty() && flow.drain(&mut self.backlog).is_err() {
            return self.break_off(slot, shared);
        }
        self.queue(slot);
    }

    /// Time has passed.
    pub(super) fn on_time(&mut self, now: Instant, shared: &mut Shared) {
        while let Some((_, slot)) = self.timers.pop(now) {
            let Some(flow) = self.flows.get_mut(slot) else { continue };
            flow.armed.fired();
            match flow.machine.on_timeout(now) {
                Timeout::Goes => self.queue(slot),
                Timeout::Over => self.break_off(slot, shared),
            }
        }
    }

    /// The next frame of a connection that has something to say; whether there is one.
    pub(super) fn next_frame(&mut self, now: Instant, frame: &mut Frame, shared: &mut Shared) -> bool {
        while let Some(slot) = self.ready.pop_front() {
            let slot = slot as usize;
            let Some(flow) = self.flows.get_mut(slot) else { continue };
            flow.queued = false;
            let said = flow.say(now, frame, shared, &mut self.scratch);
            self.timers.arm(slot, &mut flow.armed, flow.machine.deadline());
            match said {
                Ok(has_said) => {
                    if flow.machine.is_over() && flow.backlog.is_empty() {
                        // What the peer has must not be in the socket any more, or closing would reset.
                        self.remove(slot, false, shared);
                    } else if has_said {
                        self.queue(slot);
                    }
                    if has_said {
                        return true;
                    }
                }
                Err(Broken) => self.break_off(slot, shared),
            }
        }
        false
    }
}

impl Flow {
    fn opener(&self) -> Opener {
        Opener::of(self.share.owner(), &self.ends)
    }

    /// Puts the next segment of the connection into `frame`; whether there is one.
    fn say(
        &mut self,
        now: Instant,
        frame: &mut Frame,
        shared: &Shared,
        scratch: &mut Vec<u8>,
    ) -> Result<bool, Broken> {
        self.discard()?;
        let has_data = (self.readable || self.closing) && !self.machine.has_ended()
            || self.machine.has_ended() && !self.machine.is_over();
        let (len, last) = match self.machine.wants(has_data) {
            Wants::Nothing => {
                if has_data {
                    self.machine.blocked(now);
                }
                return Ok(false);
            }
            Wants::Control => (0, false),
            Wants::Data { offset, room } => {
                let start = self.ends.network_len() + HEADER_LEN;
                let room = (room as usize).min(self.most());
                let Some(space) = frame.space().get_mut(start..start + room) else { return Err(Broken) };
                match self.peek(offset, space, scratch)? {
                    Some(0) => {
                        self.machine.end();
                        (0, true)
                    }
                    Some(len) => {
                        // The edge of the end may have come with the bytes before it.
                        self.readable = len == room;
                        (len, self.ends_behind(offset as usize + len))
                    }
                    None => {
                        (self.readable, self.closing) = (false, false);
                        match self.machine.wants(false) {
                            Wants::Control => (0, false),
                            _ => return Ok(false),
                        }
                    }
                }
            }
        };
        let window = self.window();
        let header = self.machine.header(now, len, last, window);
        let mss = self.machine.mss();
        let Some((len, offload)) = tcp_segment(frame.space(), &shared.link, &self.ends, &header, len, mss)
        else {
            return Err(Broken);
        };
        frame.filled(len);
        frame.offload = offload;
        Ok(true)
    }

    /// Bytes of payload in one frame: whole segments.
    fn most(&self) -> usize {
        let (most, mss) = (self.ends.most_payload(), usize::from(self.machine.mss()));
        if most > mss { most - most % mss } else { most }
    }

    /// Looks at what the socket holds behind its first `offset` bytes; `None` when there is nothing yet.
    fn peek(
        &mut self,
        offset: u32,
        space: &mut [u8],
        scratch: &mut Vec<u8>,
    ) -> Result<Option<usize>, Broken> {
        let socket = self.socket.as_fd();
        if self.peek.is_none() && offset > 0 || self.peek.is_some_and(|at| at != offset) {
            // Offsets are below a window, 2^30.
            match sys::set_peek_offset(socket, offset as i32) {
                Ok(()) => self.peek = Some(offset),
                Err(_) => {
                    scratch.resize(scratch.len().max(offset as usize), 0);
                    return looked(sys::peek_behind(socket, offset as usize, scratch, space));
                }
            }
        }
        let flags = nix::sys::socket::MsgFlags::MSG_PEEK | nix::sys::socket::MsgFlags::MSG_DONTWAIT;
        let len = nix::sys::socket::recv(std::os::fd::AsRawFd::as_raw_fd(&socket), space, flags);
        let len = looked(len.map_err(io::Error::from))?;
        if let (Some(at), Some(len)) = (&mut self.peek, len) {
            // A frame's worth.
            *at += len as u32;
        }
        Ok(len)
    }

    /// Whether the socket's other side has ended, and all that it said are these `len` bytes: its end goes with the
    /// last of them then, and wakes nobody of its own.
    fn ends_behind(&mut self, len: usize) -> bool {
        let is_all = self.closing && sys::unread(self.socket.as_fd()).is_ok_and(|unread| unread == len);
        if is_all {
            self.machine.end();
        }
        is_all
    }

    /// Takes out of the socket what the peer has.
    fn discard(&mut self) -> Result<(), Broken> {
        while self.acknowledged > 0 {
            let len = match sys::discard(self.socket.as_fd(), self.acknowledged as usize) {
                // No more than was asked for.
                Ok(len @ 1..) => len as u32,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                _ => return Err(Broken),
            };
            self.acknowledged -= len.min(self.acknowledged);
            if let Some(at) = &mut self.peek {
                *at = at.saturating_sub(len);
            }
        }
        Ok(())
    }

    /// Gives the socket what a segment brought; what it does not take waits, if there is room.
    fn give(&mut self, data: &[u8], segment: &Segment, backlog: &mut usize) -> Result<(), Broken> {
        if !self.prompt && self.given > 0 {
            // The first small write goes at once anyway.
            let _ = self.socket.set_tcp_nodelay(true);
            self.prompt = true;
        }
        let sent = if self.backlog.is_empty() { self.write(data)? } else { 0 };
        let rest = &data[sent..];
        let fits = self.backlog.len() + rest.len() <= LEAST_WINDOW as usize * 2
            && *backlog + rest.len() <= MAX_BACKLOG;
        if fits {
            self.backlog.extend_from_slice(rest);
            *backlog += rest.len();
            self.machine.took(data.len(), true, segment);
        } else {
            self.machine.took(sent, false, segment);
        }
        Ok(())
    }

    /// Bytes that the socket took.
    fn write(&mut self, data: &[u8]) -> Result<usize, Broken> {
        let mut sent = 0;
        while sent < data.len() {
            match self
                .socket
                .send_with_flags(&data[sent..], nix::libc::MSG_NOSIGNAL | nix::libc::MSG_DONTWAIT)
            {
                Ok(0) => break,
                Ok(len) => sent += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Broken),
            }
        }
        self.given += sent;
        Ok(sent)
    }

    /// The socket takes more.
    fn drain(&mut self, backlog: &mut usize) -> Result<(), Broken> {
        let waiting = std::mem::take(&mut self.backlog);
        let written = self.write(&waiting);
        // What did not go stays counted as this connection's, also when it ends now.
        self.backlog = waiting;
        let sent = written?;
        *backlog -= sent;
        self.backlog.drain(..sent);
        if !self.backlog.is_empty() {
            return Ok(());
        }
        // An idle connection keeps no memory of it.
        self.backlog = Vec::new();
        self.given += LOOK_AGAIN;
        self.machine.window_opened();
        self.shut_if_finished()
    }

    /// Tells the socket that the peer has finished, once it has everything before that.
    fn shut_if_finished(&mut self) -> Result<(), Broken> {
        // Where the host's side has ended as well, closing says it.
        if self.machine.has_finished() && self.backlog.is_empty() && !self.shut && !self.machine.has_ended() {
            self.shut = true;
            match self.socket.shutdown(Shutdown::Write) {
                Err(error) if error.kind() != ErrorKind::NotConnected => return Err(Broken),
                _ => {}
            }
        }
        Ok(())
    }

    /// What the peer may send: what the socket's buffer has room for. A buffer counts its overhead too, so
    /// half of it is for bytes.
    fn window(&mut self) -> u32 {
        if !self.backlog.is_empty() {
            return 0;
        }
        if self.given >= LOOK_AGAIN {
            self.given = 1;
            let size = self.socket.send_buffer_size().unwrap_or(0) / 2;
            let waiting = sys::unacknowledged(self.socket.as_fd()).unwrap_or(size);
            let free = u32::try_from(size.saturating_sub(waiting)).unwrap_or(u32::MAX);
            self.window = free.max(LEAST_WINDOW);
        }
        self.window
    }
}

/// Whether the checksum of a whole segment is right.
fn is_sound(packet: &Packet, segment: &[u8]) -> bool {
    let sum = pseudo_header(packet.source, packet.destination, protocol::TCP, segment.len());
    sum.add(segment).finish() == [0, 0]
}

fn looked(result: io::Result<usize>) -> Result<Option<usize>, Broken> {
    match result {
        Ok(len) => Ok(Some(len)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(_) => Err(Broken),
    }
}

/// A socket on its way there, and whether it has arrived.
fn open(to: SocketAddr, shared: &Shared) -> io::Result<(Socket, bool)> {
    let domain = Domain::for_address(to);
    let socket = Socket::new(domain, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    let socket = with_room(socket)?;
    shared.policy.bind(&socket, to)?;
    match socket.connect(&SockAddr::from(to)) {
        Ok(()) => Ok((socket, true)),
        Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => Ok((socket, false)),
        Err(error) => Err(error),
    }
}
