//! The daemon as its clients' connections see it, without a control socket between.

use std::process::{Child, Command};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use tempfile::TempDir;

use super::*;
use crate::capture::filter::Program;
use crate::control::model::{ContainerSpec, EndpointSpec, State};
use crate::control::requests::Created;
use crate::dataplane::Frame;
use crate::io::capture::{CaptureStats, Point};
use crate::io::sys::process::open_pidfd;

const MAKER: usize = 2;
const OTHER: usize = 4;

/// A daemon with its switch loop; the directory goes last.
struct Fixture {
    daemon: Daemon,
    thread: JoinHandle<std::io::Result<()>>,
    _directory: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let (inner, switch) = EventLoop::new(Switch::new(0), Box::new(|_| {})).unwrap();
        let thread = std::thread::spawn(move || inner.run());
        let runtime = Runtime::lock(&socket, &|_| {}).unwrap();
        let options = Options {
            resolv_conf: socket.with_extension("resolv.conf"),
            socket,
            offload: true,
            config: DaemonConfig::default(),
            uplink: false,
            busy_poll: Duration::ZERO,
            transient: false,
            state: None,
            confine: false,
            say: Box::new(|line| panic!("{line}")),
            ready: None,
        };
        Self {
            daemon: Daemon::new(options, runtime, switch, Vec::new(), String::new(), None).unwrap(),
            thread,
            _directory: directory,
        }
    }

    fn ask(&mut self, from: usize, request: Request, descriptors: Vec<OwnedFd>) -> Result<Answer, Kind> {
        let message = Message { text: Vec::new(), descriptors };
        self.daemon.handle(from, request, message).map_err(|refused| refused.kind)
    }

    fn create(&mut self, name: &str) -> Id {
        self.create_on(name, &[])
    }

    fn create_on(&mut self, name: &str, networks: &[&str]) -> Id {
        let networks = networks.iter().map(|network| EndpointSpec::on(network)).collect();
        let spec = ContainerSpec { name: Some(name.to_owned()), networks, ..ContainerSpec::default() };
        match self.ask(MAKER, Request::ContainerCreate { spec, auto_remove: false }, Vec::new()) {
            Ok(Answer::Now(answer)) => serde_json::from_value::<Created>(answer).unwrap().id,
            _ => panic!("not created"),
        }
    }

    fn start(&mut self, from: usize, id: Id, init: &Child) -> Result<Answer, Kind> {
        let pidfd = open_pidfd(nix::unistd::Pid::from_raw(init.id().cast_signed())).unwrap();
        let netlink =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute);
        self.ask(
            from,
            Request::ContainerStart { id, pid: init.id(), started: 0 },
            vec![pidfd, netlink.unwrap()],
        )
    }

    fn state(&self, id: Id) -> Option<State> {
        self.daemon.model.container(id).map(|container| container.state)
    }

    fn end(self) {
        self.daemon.switch.call(EventLoop::stop).unwrap();
        self.thread.join().unwrap().unwrap();
    }
}

#[test]
fn what_is_started_again_in_vain_is_what_it_was() {
    let mut fixture = Fixture::new();
    let mut init = Command::new("sleep").arg("1000").spawn().unwrap();
    let id = fixture.create("alice");
    assert!(fixture.start(MAKER, id, &init).is_ok());
    let again = || Request::ContainerAgain { name: "alice".into() };
    assert_eq!(fixture.ask(OTHER, again(), Vec::new()).err(), Some(Kind::BadState), "it runs");
    assert!(fixture.ask(MAKER, Request::ContainerExited { id, code: 7 }, Vec::new()).is_ok());
    let (ended, before) = (State::Exited { code: 7 }, fixture.daemon.model.clone());
    for way in 0..3 {
        assert!(fixture.ask(OTHER, again(), Vec::new()).is_ok());
        assert_eq!(fixture.state(id), Some(State::Created));
        match way {
            0 => assert!(fixture.ask(OTHER, Request::ContainerAbandon, Vec::new()).is_ok()),
            1 => fixture.daemon.connection_closed(OTHER),
            // Without its descriptors it cannot be started.
            _ => {
                let start = Request::ContainerStart { id, pid: init.id(), started: 0 };
                assert!(fixture.ask(OTHER, start, Vec::new()).is_err());
            }
        }
        assert_eq!(fixture.state(id), Some(ended), "way {way}");
        assert_eq!(fixture.daemon.model, before, "way {way}");
    }
    assert!(fixture.ask(OTHER, again(), Vec::new()).is_ok());
    assert!(fixture.start(OTHER, id, &init).is_ok());
    assert_eq!(fixture.state(id), Some(State::Running));
    // Who is removed while it is being started is gone.
    assert!(fixture.ask(OTHER, Request::ContainerExited { id, code: 1 }, Vec::new()).is_ok());
    assert!(fixture.ask(OTHER, again(), Vec::new()).is_ok());
    let remove = Request::ContainerRemove { name: "alice".into(), force: true };
    assert!(fixture.ask(MAKER, remove, Vec::new()).is_ok());
    assert_eq!(fixture.state(id), None);
    init.kill().unwrap();
    init.wait().unwrap();
    fixture.end();
}

#[test]
fn only_its_supervisor_starts_and_ends_a_container_and_only_once() {
    let mut fixture = Fixture::new();
    let mut init = Command::new("sleep").arg("1000").spawn().unwrap();
    let id = fixture.create("alice");
    assert_eq!(fixture.start(OTHER, id, &init).err(), Some(Kind::BadRequest));
    assert_eq!(fixture.state(id), Some(State::Created), "somebody else's mistake costs it nothing");
    assert!(fixture.start(MAKER, id, &init).is_ok());
    assert_eq!(fixture.start(MAKER, id, &init).err(), Some(Kind::BadState));
    assert!(fixture.ask(OTHER, Request::ContainerExited { id, code: 0 }, Vec::new()).is_ok());
    assert_eq!(fixture.state(id), Some(State::Running));
    assert!(fixture.ask(MAKER, Request::ContainerExited { id, code: 7 }, Vec::new()).is_ok());
    assert_eq!(fixture.state(id), Some(State::Exited { code: 7 }));
    init.kill().unwrap();
    init.wait().unwrap();
    fixture.end();
}

#[test]
fn only_what_waits_for_a_supervisor_is_adopted() {
    let mut fixture = Fixture::new();
    let mut init = Command::new("sleep").arg("1000").spawn().unwrap();
    let id = fixture.create("alice");
    let adopt = |id| Request::ContainerAdopt { id, networks: Vec::new() };
    let unknown = Id::new([9; 32]);
    assert_eq!(fixture.ask(OTHER, adopt(unknown), Vec::new()).err(), Some(Kind::BadState));
    assert_eq!(fixture.ask(OTHER, adopt(id), Vec::new()).err(), Some(Kind::BadState), "it does not run");
    assert!(fixture.start(MAKER, id, &init).is_ok());
    assert_eq!(fixture.ask(OTHER, adopt(id), Vec::new()).err(), Some(Kind::BadState), "it is somebody's");
    // As after a restart.
    fixture.daemon.containers.get_mut(&id).unwrap().supervisor = None;
    assert_eq!(
        fixture.ask(OTHER, adopt(id), Vec::new()).err(),
        Some(Kind::BadRequest),
        "without descriptors"
    );
    let pidfd = open_pidfd(nix::unistd::Pid::from_raw(init.id().cast_signed())).unwrap();
    let netlink =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute);
    assert!(fixture.ask(OTHER, adopt(id), vec![pidfd, netlink.unwrap()]).is_ok());
    assert!(fixture.ask(OTHER, Request::ContainerExited { id, code: 7 }, Vec::new()).is_ok());
    assert_eq!(fixture.state(id), Some(State::Exited { code: 7 }));
    init.kill().unwrap();
    init.wait().unwrap();
    fixture.end();
}

#[test]
fn a_client_that_goes_takes_its_container_with_it() {
    let mut fixture = Fixture::new();
    let mut init = Command::new("sleep").arg("1000").spawn().unwrap();
    let (never_started, running) = (fixture.create("alice"), fixture.create("bob"));
    assert!(fixture.start(MAKER, running, &init).is_ok());
    fixture.daemon.connection_closed(OTHER);
    assert_eq!(fixture.state(never_started), Some(State::Created));
    fixture.daemon.connection_closed(MAKER);
    assert_eq!((fixture.state(never_started), fixture.state(running)), (None, Some(State::Lost)));
    assert!(!init.wait().unwrap().success(), "killed");
    fixture.end();
}

#[test]
fn descriptors_of_the_wrong_kind_are_refused_and_nothing_stays() {
    let mut fixture = Fixture::new();
    let id = fixture.create("alice");
    let file = || OwnedFd::from(tempfile::tempfile().unwrap());
    let start = Request::ContainerStart { id, pid: 1, started: 0 };
    assert_eq!(fixture.ask(MAKER, start, vec![file(), file()]).err(), Some(Kind::BadRequest));
    assert_eq!(fixture.state(id), None);
    fixture.end();
}

#[test]
fn a_capture_of_two_containers_goes_on_when_one_has_gone() {
    let mut fixture = Fixture::new();
    for other in ["alice", "carol"] {
        fixture.create_on(other, &["bridge"]);
    }
    let bob = fixture.create_on("bob", &["bridge"]);
    let port = PortId(fixture.daemon.model.container(bob).unwrap().endpoints[0].port);
    let start = Request::CaptureStart {
        interfaces: vec!["alice".to_owned(), "bob".to_owned()],
        filter: Program::compile("").unwrap(),
        snaplen: 96,
        drops: false,
    };
    let (_reader, writer) = std::io::pipe().unwrap();
    assert!(fixture.ask(OTHER, start, vec![writer.into()]).is_ok());
    for name in ["alice", "carol"].map(str::to_owned) {
        let remove = Request::ContainerRemove { name, force: true };
        assert!(fixture.ask(MAKER, remove, Vec::new()).is_ok());
    }
    let see = move |inner: &mut EventLoop| {
        inner.captures.see(Point::In, port, None, 0, &Frame::from_bytes(&[0; 60]));
    };
    fixture.daemon.switch.call(see).unwrap();
    let Ok(Answer::Now(stats)) = fixture.ask(OTHER, Request::CaptureStop, Vec::new()) else {
        panic!("it runs no more")
    };
    assert_eq!(serde_json::from_value::<CaptureStats>(stats).unwrap().received, 1);
    fixture.end();
}

#[test]
fn a_late_report_of_a_lost_port_does_not_concern_the_next_of_its_number() {
    let mut fixture = Fixture::new();
    let (container, port) = (fixture.create("alice"), PortId(0));
    fixture
        .daemon
        .links
        .insert(port, endpoints::Link { container, index: 1, is_configured: true, lost: false });
    let (device, _far) = crate::io::device::memory::pair();
    let attach = move |inner: &mut EventLoop| inner.attach(port, Box::new(device), "alice");
    fixture.daemon.switch.call(attach).unwrap().unwrap();
    fixture.daemon.on_event(Event::PortLost(port));
    assert!(!fixture.daemon.links[&port].lost);
    fixture.daemon.switch.call(move |inner| inner.detach(port)).unwrap();
    fixture.daemon.on_event(Event::PortLost(port));
    assert!(fixture.daemon.links[&port].lost);
    fixture.end();
}

#[test]
fn a_daemon_whose_switch_loop_has_ended_stops() {
    let mut fixture = Fixture::new();
    let (report, reports) = crossbeam_channel::unbounded();
    let poll = mio::Poll::new().unwrap();
    let waker = Arc::new(Waker::new(poll.registry(), mio::Token(0)).unwrap());
    let reporter = Reporter { report: Some(report), waker };
    control_loop::take_reports(&mut fixture.daemon, &reports);
    assert!(!fixture.daemon.stopping);
    drop(reporter);
    control_loop::take_reports(&mut fixture.daemon, &reports);
    assert!(fixture.daemon.stopping);
    fixture.end();
}
