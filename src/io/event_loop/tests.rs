use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use super::*;
use crate::capture::file::Reader;
use crate::capture::filter::Program;
use crate::dataplane::fdb::Limits;
use crate::dataplane::{Egress, NetworkConfig, NetworkId};
use crate::io::capture::Selection;
use crate::io::device::memory::{self, MemoryDevice};
use crate::wire::Offload;

const PATIENCE: Duration = Duration::from_secs(20);
const NETWORK: NetworkId = NetworkId(0);

/// A loop with one network in a thread of its own.
struct Running {
    handle: Handle,
    events: Receiver<Event>,
    thread: JoinHandle<io::Result<()>>,
}

impl Running {
    fn new(config: NetworkConfig) -> Self {
        let (sender, events) = crossbeam_channel::unbounded();
        let notify = Box::new(move |event| sender.send(event).unwrap());
        let (mut inner, handle) = EventLoop::new(Switch::new(1), notify).unwrap();
        inner.apply(Change::AddNetwork(NETWORK, config)).unwrap();
        let thread = thread::spawn(move || inner.run());
        Self { handle, events, thread }
    }

    /// A new port; what it returns is the container's end.
    fn port(&self, number: u32) -> MemoryDevice {
        let (ours, theirs) = memory::pair();
        self.attach(number, theirs);
        ours
    }

    fn attach(&self, number: u32, device: MemoryDevice) {
        let attach = move |inner: &mut EventLoop| {
            inner.apply(Change::AddPort(PortId(number), NETWORK)).unwrap();
            inner.attach(PortId(number), Box::new(device), "port").unwrap();
        };
        self.handle.call(attach).unwrap();
    }

    fn end(self) {
        self.handle.call(EventLoop::stop).unwrap();
        self.thread.join().unwrap().unwrap();
        assert!(self.handle.call(|_| ()).is_err(), "nobody is there to answer");
    }
}

const ALL: u8 = 0xff;

/// A frame between stations `02:00:00:00:00:N`, numbered in its payload.
fn frame(from: u8, to: u8, number: u8) -> Frame {
    let to = if to == ALL { [ALL; 6] } else { [2, 0, 0, 0, 0, to] };
    let mut bytes = to.to_vec();
    bytes.extend([2, 0, 0, 0, 0, from, 0x88, 0xb5, number]);
    bytes.resize(60, 0);
    Frame::from_bytes(&bytes)
}

/// The next frame out of a device.
fn receive(device: &mut MemoryDevice) -> Frame {
    let mut frame = Frame::new();
    let mut poll = Poll::new().unwrap();
    let descriptor = device.descriptor().unwrap();
    poll.registry().register(&mut SourceFd(&descriptor), Token(0), Interest::READABLE).unwrap();
    while device.recv(&mut frame).unwrap() == Received::Empty {
        let mut events = Events::with_capacity(1);
        poll.poll(&mut events, Some(PATIENCE)).unwrap();
        assert!(!events.is_empty(), "no frame came");
    }
    frame
}

#[test]
fn frames_leave_where_the_switch_says_with_their_offload_state() {
    let running = Running::new(NetworkConfig::default());
    let mut ports = [1, 2, 3].map(|number| running.port(number));
    let mut hello = frame(1, ALL, 0);
    hello.offload = Offload { flags: 1, csum_start: 20, csum_offset: 6, ..Offload::NONE };
    ports[0].send(&mut hello).unwrap();
    for port in &mut ports[1..] {
        let heard = receive(port);
        assert_eq!((heard.bytes(), heard.offload), (hello.bytes(), hello.offload));
    }
    ports[1].send(&mut frame(2, 1, 1)).unwrap();
    assert_eq!(receive(&mut ports[0]).bytes(), frame(2, 1, 1).bytes());
    assert_eq!(ports[2].recv(&mut Frame::new()), Ok(Received::Empty));
    running.end();
}

#[test]
fn frames_beyond_the_budget_and_from_before_the_port_need_no_new_edge() {
    let running = Running::new(NetworkConfig::default());
    let mut listener = running.port(2);
    let (mut talker, theirs) = memory::pair();
    let count = (BURST_FRAMES * 3 + 1) as u8;
    (0..count).for_each(|number| talker.send(&mut frame(1, ALL, number)).unwrap());
    running.attach(1, theirs);
    for number in 0..count {
        assert_eq!(receive(&mut listener).bytes(), frame(1, ALL, number).bytes());
    }
    running.end();
}

#[test]
fn a_port_that_floods_leaves_room_for_others_and_for_requests() {
    let running = Running::new(NetworkConfig::default());
    let [mut flooder, mut talker, mut listener, mut sink] = [1, 2, 3, 4].map(|number| running.port(number));
    for (from, port) in [(3, &mut listener), (4, &mut sink)] {
        port.send(&mut frame(from, ALL, 0)).unwrap();
        receive(&mut talker);
    }
    receive(&mut listener);
    let enough = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&enough);
    let flood = thread::spawn(move || {
        // Nobody reads the sink: what is more than its queue holds ends there.
        while !told.load(Ordering::Relaxed) {
            let _ = flooder.send(&mut frame(1, 4, 0));
        }
    });
    let read = |inner: &mut EventLoop| inner.switch.port(PortId(1)).unwrap().counters.rx.frames;
    for number in 0..10 {
        let before = running.handle.call(read).unwrap();
        while running.handle.call(read).unwrap() < before + 1000 {}
        talker.send(&mut frame(2, 3, number)).unwrap();
        assert_eq!(receive(&mut listener).bytes(), frame(2, 3, number).bytes());
    }
    enough.store(true, Ordering::Relaxed);
    flood.join().unwrap();
    running.end();
}

#[test]
fn a_deleted_interface_is_reported_once_and_counted() {
    let running = Running::new(NetworkConfig::default());
    let (mut talker, leaver) = (running.port(1), running.port(2));
    drop(leaver);
    assert_eq!(running.events.recv_timeout(PATIENCE), Ok(Event::PortLost(PortId(2))));
    assert!(!running.handle.call(|inner| inner.is_attached(PortId(2))).unwrap());
    talker.send(&mut frame(1, ALL, 0)).unwrap();
    let lost = || {
        let count = |inner: &mut EventLoop| {
            let counters = inner.switch.port(PortId(2)).unwrap().counters;
            counters.reasons().find(|(reason, _)| *reason == DropReason::EgressLost).map(|(_, count)| count)
        };
        running.handle.call(count).unwrap()
    };
    while lost().unwrap_or(0) == 0 {}
    assert_eq!(lost(), Some(1));
    assert!(running.events.is_empty());
    running.end();
}

/// Sends, as the switch would, what it made itself.
fn emit(running: &Running, frames: Vec<(u32, Frame)>) {
    let work = move |inner: &mut EventLoop| {
        inner.captures.begin_burst(1);
        for (to, frame) in frames {
            inner.outbox.emit(PortId(to), frame.bytes(), frame.offload);
        }
        inner.flush(inner.now(), None, 0);
    };
    running.handle.call(work).unwrap();
}

#[test]
fn frames_that_the_switch_made_are_written_seen_and_counted_like_others() {
    let running = Running::new(NetworkConfig::default());
    let (mut first, mut second, _third) = (running.port(1), running.port(2), running.port(3));
    // What could not be delivered was counted as sent before.
    second.send(&mut frame(2, ALL, 0)).unwrap();
    receive(&mut first);
    let (shown, output) = std::io::pipe().unwrap();
    let start = move |inner: &mut EventLoop| {
        let selection = Selection { any: true, ..Selection::default() };
        let everything = Program::compile("").unwrap();
        inner.captures.start(7, selection, everything, 1 << 16, output.into()).unwrap();
        inner.detach(PortId(3));
    };
    running.handle.call(start).unwrap();
    let mut partial = frame(9, 1, 1);
    partial.offload = Offload { flags: 1, csum_start: 20, csum_offset: 6, ..Offload::NONE };
    let (bytes, offload) = (partial.bytes().to_vec(), partial.offload);
    emit(&running, vec![(1, partial), (2, frame(9, 2, 2)), (3, frame(9, 3, 3)), (1, frame(9, 1, 4))]);
    let heard = receive(&mut first);
    assert_eq!((heard.bytes(), heard.offload), (&bytes[..], offload));
    assert_eq!(receive(&mut first).bytes(), frame(9, 1, 4).bytes());
    assert_eq!(receive(&mut second).bytes(), frame(9, 2, 2).bytes());
    emit(&running, vec![(1, frame(9, 1, 5))]);
    let (last, wall_ns) = running.handle.call(|inner| inner.last_drop(None)).unwrap().unwrap();
    assert_eq!((last.port, last.side, last.reason), (PortId(3), Side::Egress, DropReason::EgressLost));
    assert_eq!(last.bytes, frame(9, 3, 3).bytes());
    assert!(Clock::wall_ns() - wall_ns < PATIENCE.as_nanos() as u64);
    let counters = running.handle.call(|inner| inner.switch.port(PortId(3)).unwrap().counters).unwrap();
    assert_eq!((counters.tx.frames, counters.drops[DropReason::EgressLost]), (0, 1));

    running.handle.call(|inner| inner.captures.stop(7)).unwrap();
    let mut reader = Reader::open(shown).unwrap();
    let seen = std::iter::from_fn(|| reader.next_record().unwrap());
    let seen: Vec<_> =
        seen.map(|it| (it.data[14], it.interface.to_string(), it.comment, it.packet_id)).collect();
    let out = |number, port: &str, id| (number, port.to_owned(), None, Some(id));
    let dropped = (3, "port".to_owned(), Some("egress_lost".to_owned()), Some(2));
    let expected = [out(1, "port", 0), out(2, "port", 1), dropped, out(4, "port", 3), out(5, "port", 4)];
    assert_eq!(seen, expected);
    running.end();
}

#[test]
fn the_last_drop_of_a_port_is_kept_until_the_port_goes() {
    let running = Running::new(NetworkConfig::default());
    let mut talker = running.port(1);
    let last = |port| running.handle.call(move |inner| inner.last_drop(Some(PortId(port)))).unwrap();
    assert_eq!(last(1), None);
    for capturing in [false, true] {
        if capturing {
            let (_, output) = std::io::pipe().unwrap();
            let everything = Program::compile("").unwrap();
            let start = |inner: &mut EventLoop| {
                inner.captures.start(7, Selection::default(), everything, 100, output.into()).unwrap();
            };
            running.handle.call(start).unwrap();
        }
        let alone = frame(1, ALL, u8::from(capturing));
        talker.send(&mut Frame::from_bytes(alone.bytes())).unwrap();
        while last(1).is_none_or(|(last, _)| last.bytes != alone.bytes()) {}
        let (last, _) = last(1).unwrap();
        assert_eq!((last.side, last.reason), (Side::Ingress, DropReason::NoListener));
    }
    let held = |inner: &mut EventLoop| {
        inner.outbox.discard(PortId(1), b"held", Offload::NONE, DropReason::NeighbourFailed);
        inner.flush(inner.now(), None, 0);
    };
    running.handle.call(held).unwrap();
    let (held, _) = last(1).unwrap();
    assert_eq!(
        (&held.bytes[..], held.reason, held.side),
        (&b"held"[..], DropReason::NeighbourFailed, Side::Ingress)
    );
    running.handle.call(|inner| inner.apply(Change::RemovePort(PortId(1)))).unwrap().unwrap();
    assert_eq!(last(1), None);
    running.end();
}

/// A device whose descriptor has an error from the start; it is gone when the flag says so.
struct Ailing {
    pipe: std::io::PipeWriter,
    gone: Arc<AtomicBool>,
}

impl Device for Ailing {
    fn descriptor(&self) -> Option<std::os::fd::RawFd> {
        Some(self.pipe.as_raw_fd())
    }

    fn recv(&mut self, _: &mut Frame) -> Result<Received, DeviceError> {
        Err(DeviceError::LinkDown)
    }

    fn send(&mut self, _: &mut Frame) -> Result<(), DeviceError> {
        Err(if self.is_gone() { DeviceError::Lost } else { DeviceError::LinkDown })
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    fn kernel_drops(&mut self) -> Option<u64> {
        Some(3)
    }
}

#[test]
fn an_interface_that_is_down_stays_until_it_is_gone_and_sending_finds_out() {
    let running = Running::new(NetworkConfig::default());
    let mut talker = running.port(1);
    let gone = Arc::new(AtomicBool::new(false));
    let (reader, pipe) = std::io::pipe().unwrap();
    drop(reader);
    let device = Ailing { pipe, gone: Arc::clone(&gone) };
    let attach = move |inner: &mut EventLoop| {
        inner.apply(Change::AddPort(PortId(2), NETWORK)).unwrap();
        inner.attach(PortId(2), Box::new(device), "port").unwrap();
    };
    running.handle.call(attach).unwrap();
    let drops = |reason| {
        let read = move |inner: &mut EventLoop| inner.switch.port(PortId(2)).unwrap().counters.drops[reason];
        running.handle.call(read).unwrap()
    };
    talker.send(&mut frame(1, ALL, 0)).unwrap();
    while drops(DropReason::EgressDown) == 0 {}
    assert!(running.handle.call(|inner| inner.is_attached(PortId(2))).unwrap());
    assert_eq!(running.handle.call(|inner| inner.kernel_drops(PortId(2))).unwrap(), Some(3));
    assert_eq!(running.handle.call(|inner| inner.kernel_drops(PortId(1))).unwrap(), None);
    gone.store(true, Ordering::Relaxed);
    talker.send(&mut frame(1, ALL, 0)).unwrap();
    assert_eq!(running.events.recv_timeout(PATIENCE), Ok(Event::PortLost(PortId(2))));
    assert_eq!(drops(DropReason::EgressLost), 1);
    running.end();
}

#[test]
fn the_switchs_timer_runs_without_frames() {
    let fdb = Limits { ageing: Duration::from_millis(5), ..NetworkConfig::default().fdb };
    let running = Running::new(NetworkConfig { fdb, ..NetworkConfig::default() });
    let (mut talker, mut listener) = (running.port(1), running.port(2));
    talker.send(&mut frame(1, ALL, 0)).unwrap();
    receive(&mut listener);
    let start = std::time::Instant::now();
    // Not learned any more, and nothing left to wait for: the timer has run.
    while running.handle.call(|inner| inner.switch.poll_timeout().is_some()).unwrap() {
        assert!(start.elapsed() < PATIENCE, "the timer never ran");
    }
    assert_eq!(running.handle.call(|inner| inner.switch.network(NETWORK).unwrap().fdb.len()).unwrap(), 0);
    running.end();
}
