//! The switch loop: one thread, one poll set, one [`Switch`].
//!
//! Theory of operation. mio reports edges: a port is ready until a read says it is
//! empty, and until then it stands in a queue of our own. Each turn of the loop polls
//! (without waiting while ports are ready), runs the control plane's requests, and
//! serves every ready port once: read a burst, put each frame through the switch, write
//! what came out. A burst is bounded in frames and bytes, so that a port that floods
//! waits its turn like the others.
//!
//! Control requests are closures: [`Handle::call`] sends one over a channel, wakes the
//! loop, and waits for its answer; it runs between two bursts. The one timer is a timerfd
//! in the poll set (a poll timeout would round up to a millisecond), armed for
//! [`Switch::poll_timeout`] whenever that changes.

mod closing;
mod outbox;

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, bounded};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::capture::{Captures, Point};
use super::courtesy::Courtesy;
use super::device::{Device, DeviceError, Received};
use super::last_drop::{LastDrop, LastDrops, Side};
use super::patience::{self, Patience};
use crate::dataplane::table::Table;
use crate::dataplane::{
    Change, DropReason, Frame, Instant, NetworkId, PortId, Rejected, Switch, Verdict, conntrack,
};
use crate::flows::Ends;
use outbox::{Outbox, Outgoing};

/// Frames read from a port in one turn: what the others wait for while one port floods (8 small
/// frames take about 30 us), and enough to share the price of a poll.
const BURST_FRAMES: usize = 8;
/// Bytes after which a turn's reading ends early: super-frames should still be in the cache when written.
const BURST_BYTES: usize = 512 * 1024;

const WAKE: Token = Token(usize::MAX);
const TIMER: Token = Token(usize::MAX - 1);

/// A request of the control plane.
type Work = Box<dyn FnOnce(&mut EventLoop) + Send>;

/// What the loop tells the control plane unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The interface behind a port was deleted; the port has no device any more.
    PortLost(PortId),
    /// Something happened to flows, and somebody watches: ask [`EventLoop::flow_events`].
    Flows,
}

/// The loop's state.
pub struct EventLoop {
    /// The switch it drives.
    pub switch: Switch,
    /// The captures that are running.
    pub captures: Captures,
    devices: Table<Attached>,
    poll: Poll,
    timer: TimerFd,
    armed: Option<Instant>,
    work: Receiver<Work>,
    notify: Box<dyn FnMut(Event) + Send>,
    ready: VecDeque<PortId>,
    burst: Vec<Frame>,
    outbox: Outbox,
    /// A frame that the switch made, while it is being written.
    made: Frame,
    last_drops: LastDrops,
    clock: Clock,
    courtesy: Courtesy,
    patience: Patience,
    stopping: bool,
    /// It was said that there are flow events, and nobody has fetched them yet.
    told_of_flows: bool,
}

/// A port's device.
struct Attached {
    device: Box<dyn Device>,
    /// Whether it stands in the ready queue.
    queued: bool,
    /// Its interface may be being deleted. The kernel tells that by POLLERR, once, and possibly before
    /// reads fail (`tun_detach_all`, Linux `drivers/net/tun.c`), or when something is sent: what is
    /// still queued is read, then the device is asked, and it is lost.
    doomed: bool,
}

/// The monotonic clock as the switch counts it, and the wall clock for captures.
struct Clock(std::time::Instant);

impl Clock {
    fn now(&self) -> Instant {
        Instant(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn wall_ns() -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The control plane's way into the loop.
#[derive(Clone)]
pub struct Handle {
    work: Sender<Work>,
    waker: Arc<Waker>,
}

/// The loop's thread has ended.
#[derive(Debug, thiserror::Error)]
#[error("the switch loop has ended")]
pub struct LoopEnded;

impl Handle {
    /// Runs `request` in the loop, between two bursts, and returns its answer.
    ///
    /// # Errors
    /// [`LoopEnded`] when there is no loop any more.
    pub fn call<R: Send + 'static>(
        &self,
        request: impl FnOnce(&mut EventLoop) -> R + Send + 'static,
    ) -> Result<R, LoopEnded> {
        let (answer, answered) = bounded(1);
        let work: Work = Box::new(move |inner| {
            // The asker waits for the answer; if it went away, nobody wants it.
            let _ = answer.send(request(inner));
        });
        self.work.send(work).map_err(|_| LoopEnded)?;
        self.waker.wake().map_err(|_| LoopEnded)?;
        answered.recv().map_err(|_| LoopEnded)
    }
}

impl EventLoop {
    /// A loop around an empty switch. `notify` is called in the loop's thread and must not block.
    ///
    /// # Errors
    /// What epoll, eventfd or timerfd refuse.
    pub fn new(switch: Switch, notify: Box<dyn FnMut(Event) + Send>) -> io::Result<(Self, Handle)> {
        let poll = Poll::new()?;
        let timer =
            TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        let descriptor = timer.as_fd().as_raw_fd();
        poll.registry().register(&mut SourceFd(&descriptor), TIMER, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let (sender, work) = bounded(64);
        let inner = Self {
            switch,
            captures: Captures::default(),
            devices: Table::default(),
            poll,
            timer,
            armed: None,
            work,
            notify,
            ready: VecDeque::new(),
            burst: (0..BURST_FRAMES).map(|_| Frame::new()).collect(),
            outbox: Outbox::default(),
            made: Frame::new(),
            last_drops: LastDrops::default(),
            clock: Clock(std::time::Instant::now()),
            courtesy: Courtesy::default(),
            patience: Patience::new(patience::WINDOW),
            stopping: false,
            told_of_flows: false,
        };
        Ok((inner, Handle { work: sender, waker }))
    }

    /// Runs until [`stop`](Self::stop).
    ///
    /// # Errors
    /// What epoll refuses; nothing that a container does.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        while !self.stopping {
            match self.wait(&mut events) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            if events.is_empty() && self.ready.is_empty() {
                self.look_on();
                continue;
            }
            self.patience.found();
            for event in &events {
                match event.token() {
                    WAKE => self.run_requests(),
                    TIMER => self.handle_timer(),
                    Token(port) => {
                        let port = PortId(port as u32);
                        if let Some(attached) = self.devices.get_mut(port.0) {
                            attached.doomed |= event.is_error();
                            attached.device.wake();
                        }
                        self.mark_ready(port);
                    }
                }
            }
            for _ in 0..self.ready.len() {
                if let Some(port) = self.ready.pop_front() {
                    self.serve(port);
                }
            }
            self.tell_of_flows();
            self.arm_timer()?;
            if !self.ready.is_empty() {
                self.be_courteous();
            }
        }
        closing::close(self.devices.drain().collect());
        Ok(())
    }

    /// Waits until there is something to do; or looks only, when something is to be done already or is expected.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        if !self.ready.is_empty() {
            return self.poll.poll(events, Some(Duration::ZERO));
        }
        let asked = self.clock.now();
        if self.patience.looks_on(asked) {
            return self.poll.poll(events, Some(Duration::ZERO));
        }
        self.poll.poll(events, None)?;
        self.patience.slept(asked, self.clock.now());
        Ok(())
    }

    /// Nothing has come yet: others may have the CPU until it does.
    fn look_on(&mut self) {
        let asked = self.clock.now();
        std::thread::yield_now();
        self.patience.gave_way(asked, self.clock.now());
    }

    /// Looks on for so long at most, before it sleeps; see [`patience`].
    pub fn set_patience(&mut self, window: Duration) {
        self.patience = Patience::new(window);
    }

    /// Says that there are flow events, once until they are fetched.
    fn tell_of_flows(&mut self) {
        if !self.told_of_flows && self.switch.conntrack().has_events() {
            self.told_of_flows = true;
            (self.notify)(Event::Flows);
        }
    }

    /// What happened to flows, `max` events at most, each with the network that the flow came from; and how
    /// many were lost. If more wait, it is said again.
    pub fn flow_events(&mut self, max: usize) -> (Vec<(conntrack::Event, Option<NetworkId>)>, u64) {
        self.told_of_flows = false;
        let (events, lost) = self.switch.flow_events(max);
        let origin = |event: &conntrack::Event| Some(self.switch.port(event.flow.owner?)?.network);
        (events.into_iter().map(|event| (event, origin(&event))).collect(), lost)
    }

    /// Somebody sends faster than we can switch: others may want the CPU.
    fn be_courteous(&mut self) {
        if self.courtesy.is_due(self.clock.now()) {
            std::thread::yield_now();
            self.courtesy.given(self.clock.now());
        }
    }

    /// Ends the loop after this turn.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// The loop's time.
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Changes the switch's configuration, now.
    ///
    /// # Errors
    /// As [`Switch::apply`].
    pub fn apply(&mut self, change: Change) -> Result<(), Rejected> {
        if let Change::RemovePort(port) = change {
            self.last_drops.forget(port);
        }
        let now = self.clock.now();
        self.switch.apply(now, change)
    }

    /// Gives a port its device. `name` is what captures call it.
    ///
    /// # Errors
    /// What epoll refuses, a full table of descriptors for one.
    pub fn attach(&mut self, port: PortId, device: Box<dyn Device>, name: &str) -> io::Result<()> {
        if let Some(descriptor) = device.descriptor() {
            let token = Token(port.0 as usize);
            self.poll.registry().register(&mut SourceFd(&descriptor), token, Interest::READABLE)?;
        }
        self.captures.name_port(port, name);
        self.devices.insert(port.0, Attached { device, queued: false, doomed: false });
        // Frames may have come before the registration.
        self.mark_ready(port);
        Ok(())
    }

    /// Takes a port's device away. To close it can take the kernel long (`closing.rs`), which is for who is not
    /// in the loop.
    pub fn detach(&mut self, port: PortId) -> Option<Box<dyn Device>> {
        // Another port of this number would otherwise stand in the queue twice.
        self.ready.retain(|ready| *ready != port);
        let device = self.devices.remove(port.0)?.device;
        if let Some(descriptor) = device.descriptor() {
            // Closing takes it out of the poll set anyway, unless somebody else holds it too.
            let _ = self.poll.registry().deregister(&mut SourceFd(&descriptor));
        }
        Some(device)
    }

    /// The last frame that a port dropped, or any port; and when, in nanoseconds since the Unix epoch.
    pub fn last_drop(&self, port: Option<PortId>) -> Option<(LastDrop, u64)> {
        let last = self.last_drops.get(port)?;
        let age = u64::try_from(self.clock.now().since(last.at).as_nanos()).unwrap_or(u64::MAX);
        Some((last.clone(), Clock::wall_ns().saturating_sub(age)))
    }

    /// The host's address that a flow leaves by, if that is a socket of this port's device.
    pub fn host_socket(&self, port: PortId, flow: &conntrack::FlowRow) -> Option<SocketAddr> {
        let device = &self.devices.get(port.0)?.device;
        // What went out comes back to the translated source; what came in came as its first packet says.
        [&flow.reply, &flow.original].into_iter().find_map(|tuple| {
            let ends = Ends {
                source: tuple.source,
                destination: tuple.destination,
                source_port: tuple.source_port,
                destination_port: tuple.destination_port,
            };
            device.host_socket(tuple.protocol, &ends)
        })
    }

    /// Frames for a port that the kernel dropped before they were read, where the device can tell.
    pub fn kernel_drops(&mut self, port: PortId) -> Option<u64> {
        self.devices.get_mut(port.0)?.device.kernel_drops()
    }

    /// Whether a port still has its device.
    pub fn is_attached(&self, port: PortId) -> bool {
        self.devices.get(port.0).is_some()
    }

    fn run_requests(&mut self) {
        while let Ok(request) = self.work.try_recv() {
            request(self);
        }
    }

    fn handle_timer(&mut self) {
        // Reading takes the expiration away; the timer is one-shot and non-blocking.
        let _ = nix::unistd::read(&self.timer, &mut [0; 8]);
        self.armed = None;
        let now = self.clock.now();
        self.switch.handle_timeout(now, &mut self.outbox);
        if !self.captures.is_empty() {
            self.captures.begin_burst(Clock::wall_ns());
        }
        self.flush(now, None, 0);
    }

    fn arm_timer(&mut self) -> io::Result<()> {
        // What is due later than the timer waits for it: to fire once too early is cheaper than a system call
        // for each flow that moves its end.
        let Some(at) = self.switch.poll_timeout() else { return Ok(()) };
        if self.armed.is_none_or(|armed| at < armed) {
            // A time that is past already must still fire, so never arm with zero, which disarms.
            let wait = at.since(self.clock.now()).max(Duration::from_nanos(1));
            self.timer.set(Expiration::OneShot(TimeSpec::from_duration(wait)), TimerSetTimeFlags::empty())?;
            self.armed = Some(at);
        }
        Ok(())
    }

    fn mark_ready(&mut self, port: PortId) {
        if let Some(attached) = self.devices.get_mut(port.0)
            && !attached.queued
        {
            attached.queued = true;
            self.ready.push_back(port);
        }
    }

    /// One turn of one port: read a burst, switch it, write what came out.
    fn serve(&mut self, from: PortId) {
        let Some(attached) = self.devices.get_mut(from.0) else { return };
        attached.queued = false;
        let doomed = attached.doomed;
        let Burst { frames: count, bytes, end } = read_burst(attached.device.as_mut(), &mut self.burst);
        let now = self.clock.now();
        self.courtesy.burst(now, count, bytes);
        if self.captures.is_empty() {
            self.switch.look_ahead(&self.burst[..count]);
            for (index, frame) in self.burst[..count].iter_mut().enumerate() {
                self.outbox.current = index;
                let verdict = self.switch.input(now, from, frame, &mut self.outbox, &mut ());
                if let Verdict::Drop(reason) = verdict {
                    self.last_drops.remember(now, from, Side::Ingress, reason, frame);
                }
            }
        } else {
            self.switch_watched(now, from, count);
        }
        self.flush(now, Some(from), count);
        match end {
            BurstEnd::Empty if doomed => self.bury(from),
            BurstEnd::Empty => {}
            BurstEnd::Budget => self.mark_ready(from),
            BurstEnd::Lost => self.lose(from),
        }
    }

    /// The same with captures running: they see each frame as it was read, and the drops.
    fn switch_watched(&mut self, now: Instant, from: PortId, count: usize) {
        self.captures.begin_burst(Clock::wall_ns());
        let network = self.switch.port(from).map(|port| port.network);
        for (index, frame) in self.burst[..count].iter_mut().enumerate() {
            self.outbox.current = index;
            self.captures.see(Point::In, from, network, index, frame);
            if let Verdict::Drop(reason) = self.switch.input(now, from, frame, &mut self.outbox, &mut ()) {
                self.captures.see(Point::Drop(reason), from, network, index, frame);
                self.last_drops.remember(now, from, Side::Ingress, reason, frame);
            }
        }
    }

    /// Writes what a turn sends that has read so many frames from this port.
    fn flush(&mut self, now: Instant, from: Option<PortId>, count: usize) {
        // Taking and returning it allocates nothing.
        let mut outbox = mem::take(&mut self.outbox);
        let (mut lost, mut last) = (None, None);
        for (outgoing, port) in outbox.sends().iter().copied() {
            if last != Some(port) {
                self.finish(last);
                last = Some(port);
            }
            let (index, frame) = match outgoing {
                Outgoing::Read(index) => (index, &mut self.burst[index]),
                Outgoing::Made(number) | Outgoing::Discarded(number, _) => {
                    outbox.fetch(number, &mut self.made);
                    (count + number, &mut self.made)
                }
            };
            let dropped = if let Outgoing::Discarded(_, reason) = outgoing {
                Some((Side::Ingress, reason))
            } else {
                let attached = self.devices.get_mut(port.0);
                let came = from.filter(|_| matches!(outgoing, Outgoing::Read(_)));
                let sent = attached.map_or(Err(DeviceError::Lost), |attached| {
                    attached.device.serves(came);
                    attached.device.send(frame)
                });
                sent.err().map(|error| {
                    self.switch.undelivered(port, frame, error.drop_reason());
                    lost = if error == DeviceError::Lost { Some(port) } else { lost };
                    (Side::Egress, error.drop_reason())
                })
            };
            if let Some((side, reason)) = dropped {
                self.last_drops.remember(now, port, side, reason, frame);
            }
            if !self.captures.is_empty() {
                let network = self.switch.port(port).map(|port| port.network);
                let point = dropped.map_or(Point::Out, |(_, reason)| Point::Drop(reason));
                self.captures.see(point, port, network, index, frame);
            }
        }
        self.finish(last);
        for (to, lost) in outbox.overflow() {
            self.switch.undelivered_all(*to, *lost, DropReason::EgressFull);
        }
        outbox.clear();
        self.outbox = outbox;
        // One a turn is enough: the next frame to another finds out about that.
        if let Some(attached) = lost.and_then(|port| Some((port, self.devices.get_mut(port.0)?))) {
            let (port, attached) = attached;
            attached.doomed = true;
            self.mark_ready(port);
        }
    }

    /// Nothing more goes to this port for now.
    fn finish(&mut self, port: Option<PortId>) {
        let Some((port, attached)) = port.and_then(|port| Some((port, self.devices.get_mut(port.0)?))) else {
            return;
        };
        let lost = attached.device.flush();
        if attached.device.has_frames() && !attached.queued {
            attached.queued = true;
            self.ready.push_back(port);
        }
        if lost.frames > 0 {
            self.switch.undelivered_all(port, lost, DropReason::EgressFull);
        }
    }

    /// Nothing is left to read from a port that had an error.
    fn bury(&mut self, port: PortId) {
        let Some(attached) = self.devices.get_mut(port.0) else { return };
        attached.doomed = false;
        if attached.device.is_gone() {
            self.lose(port);
        }
    }

    fn lose(&mut self, port: PortId) {
        drop(self.detach(port));
        (self.notify)(Event::PortLost(port));
    }
}

/// Why a burst ended.
enum BurstEnd {
    Empty,
    Budget,
    Lost,
}

/// What one turn read from a port, and why it ended.
struct Burst {
    frames: usize,
    bytes: usize,
    end: BurstEnd,
}

fn read_burst(device: &mut dyn Device, frames: &mut [Frame]) -> Burst {
    let mut burst = Burst { frames: 0, bytes: 0, end: BurstEnd::Budget };
    for frame in frames {
        if burst.bytes >= BURST_BYTES {
            break;
        }
        match device.recv(frame) {
            Ok(Received::Frame) => {
                burst.frames += 1;
                burst.bytes += frame.bytes().len();
            }
            Err(DeviceError::Lost) => return Burst { end: BurstEnd::Lost, ..burst },
            // Nothing to read now; the next edge tells when there is.
            Ok(Received::Empty) | Err(_) => return Burst { end: BurstEnd::Empty, ..burst },
        }
    }
    burst
}

#[cfg(test)]
mod tests;
