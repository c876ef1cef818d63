//! Proxies: sockets of the host whose callers say by SOCKS whom on a network they want.
//!
//! Theory of operation. A client of ours has bound the socket and keeps it company; the names and prefixes of the
//! network come with it, and anew when they change. A caller's greeting is `flows::socks`; when it is over, the
//! caller's socket becomes a connection from the far end to the container, and the answer to the greeting is sent
//! when that is open or refused. Greetings are few and short: who dawdles is sent away.

use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::time::Duration;

use mio::Interest;
use mio::event::Event;
use mio::unix::SourceFd;
use nix::libc::{MSG_DONTWAIT, MSG_NOSIGNAL, SOCK_CLOEXEC, SOCK_NONBLOCK};
use slab::Slab;
use socket2::Socket;
use std::os::fd::AsRawFd;

use super::{Kind, Shared, slot_of, tcp, token};
use crate::dataplane::Instant;
use crate::flows::segment::Ends;
use crate::flows::socks::{Reply, Socks, Step, Target};
use crate::io::descriptors::with_room;
use crate::wire::ip::{Addr, Prefix};

/// Callers at a time who have not said yet whom they want.
const MAX_GREETINGS: usize = 256;
/// How long they may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections accepted for one event; then others have a turn.
const TURN: usize = 64;
/// When it is tried again to accept, after there was no room for more.
const RETRY: Duration = Duration::from_millis(50);

/// Who is reached by a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directory {
    /// Addresses of each name, in lower case, in the order of preference.
    pub names: BTreeMap<String, Vec<Addr>>,
    /// What can be asked for by address.
    pub prefixes: Vec<Prefix>,
}

impl Directory {
    /// The address that is meant.
    fn find(&self, target: &Target) -> Result<Addr, Reply> {
        match target {
            Target::Address(address) if self.prefixes.iter().any(|prefix| prefix.contains(*address)) => {
                Ok(*address)
            }
            Target::Address(_) => Err(Reply::NotAllowed),
            Target::Name(name) => {
                self.names.get(name).and_then(|all| all.first()).copied().ok_or(Reply::HostUnreachable)
            }
        }
    }
}

/// All proxies of the device, and their callers.
#[derive(Debug, Default)]
pub(super) struct Proxies {
    proxies: HashMap<u64, Proxy>,
    greetings: Slab<Greeting>,
    generation: u32,
    /// The next source port of the far end.
    port: u16,
    /// When those are asked again who had callers for whom there was no room.
    retry: Option<Instant>,
}

#[derive(Debug)]
struct Proxy {
    socket: Socket,
    directory: Directory,
}

#[derive(Debug)]
struct Greeting {
    proxy: u64,
    socket: Socket,
    socks: Socks,
    generation: u32,
    until: Instant,
}

impl Proxies {
    /// Serves a socket that listens, under a number of the control plane's (below 2^24).
    pub(super) fn add(&mut self, number: u64, socket: Socket, directory: Directory, shared: &Shared) {
        let slot = usize::try_from(number).unwrap_or(0);
        let _ = shared.register(&socket, token(Kind::Proxy, slot, 0), Interest::READABLE);
        self.proxies.insert(number, Proxy { socket, directory });
    }

    /// Who is reached has changed.
    pub(super) fn set(&mut self, number: u64, directory: Directory) {
        if let Some(proxy) = self.proxies.get_mut(&number) {
            proxy.directory = directory;
        }
    }

    /// Ends a proxy; connections that were made go on.
    pub(super) fn remove(&mut self, number: u64) {
        self.proxies.remove(&number);
        self.greetings.retain(|_, greeting| greeting.proxy != number);
    }

    /// When the first caller is sent away.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.greetings.iter().map(|(_, greeting)| greeting.until).chain(self.retry).min()
    }

    /// Time has passed.
    pub(super) fn on_time(&mut self, now: Instant, shared: &Shared) {
        self.greetings.retain(|_, greeting| greeting.until > now);
        if self.retry.is_some_and(|at| at <= now) {
            self.retry = None;
            self.proxies.iter().for_each(|(number, proxy)| proxy.ask_again(*number, shared));
        }
    }

    /// Somebody calls a proxy.
    pub(super) fn on_call(&mut self, now: Instant, event: &Event, shared: &Shared) {
        let number = slot_of(event.token()).0 as u64;
        let Some(proxy) = self.proxies.get(&number) else { return };
        for _ in 0..TURN {
            let accepted = match proxy.socket.accept4(SOCK_NONBLOCK | SOCK_CLOEXEC) {
                Ok((accepted, _)) => accepted,
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.retry.get_or_insert(now + RETRY);
                    return;
                }
            };
            // Otherwise it is closed at once, which is an answer.
            if self.greetings.len() >= MAX_GREETINGS {
                continue;
            }
            let Ok(socket) = with_room(accepted) else { continue };
            self.generation = self.generation.wrapping_add(1) & 0x0fff_ffff;
            let (entry, generation) = (self.greetings.vacant_entry(), self.generation);
            let token = token(Kind::Greeting, entry.key(), generation);
            if shared.register(&socket, token, Interest::READABLE).is_ok() {
                let (socks, until) = (Socks::default(), now + PATIENCE);
                entry.insert(Greeting { proxy: number, socket, socks, generation, until });
            }
        }
        // Those who wait already bring no edge of their own.
        proxy.ask_again(number, shared);
    }

    /// A caller says something.
    pub(super) fn on_event(
        &mut self,
        now: Instant,
        event: &Event,
        flows: &mut tcp::Flows,
        shared: &mut Shared,
    ) {
        let (slot, generation) = slot_of(event.token());
        let Some(greeting) = self.greetings.get_mut(slot).filter(|it| it.generation == generation) else {
            return;
        };
        let Some(step) = greeting.listen() else { return };
        let greeting = self.greetings.remove(slot);
        let directory = self.proxies.get(&greeting.proxy).map(|proxy| &proxy.directory);
        let (Step::Connect(target, port), Some(directory)) = (step, directory) else { return };
        let found = directory.find(&target).and_then(|address| {
            let far_end = shared.policy.far_end.iter().find(|own| own.version() == address.version());
            far_end.map(|far_end| (*far_end, address)).ok_or(Reply::HostUnreachable)
        });
        let (source, destination) = match found {
            Ok(found) => found,
            Err(reply) => return say(&greeting.socket, &reply.bytes()),
        };
        let ends = (0..64).find_map(|_| {
            // As an ordinary host's ephemeral ports (RFC 6056).
            self.port = self.port.wrapping_add(1) % 28_232;
            let source_port = 32_768 + self.port;
            let ends = Ends { source, source_port, destination, destination_port: port };
            Some(ends).filter(|ends| !flows.has(ends))
        });
        let _ = shared.poll.registry().deregister(&mut SourceFd(&greeting.socket.as_raw_fd()));
        match ends {
            Some(ends) => drop(flows.accept_proxied(now, ends, greeting.socket, shared)),
            None => say(&greeting.socket, &Reply::HostUnreachable.bytes()),
        }
    }
}

impl Proxy {
    /// Has the kernel tell anew whether there are callers.
    fn ask_again(&self, number: u64, shared: &Shared) {
        let token = token(Kind::Proxy, usize::try_from(number).unwrap_or(0), 0);
        let mut socket = SourceFd(&self.socket.as_raw_fd());
        let _ = shared.poll.registry().reregister(&mut socket, token, Interest::READABLE);
    }
}

impl Greeting {
    /// Takes in what the caller says: `None` while there is more to come, and the last step otherwise.
    fn listen(&mut self) -> Option<Step> {
        let mut space = [0; 512];
        loop {
            let wanted = self.socks.wants().min(space.len());
            let flags = nix::sys::socket::MsgFlags::MSG_DONTWAIT;
            let read = nix::sys::socket::recv(self.socket.as_raw_fd(), &mut space[..wanted], flags);
            let len = match read {
                Ok(0) => return Some(Step::End(&[])),
                Ok(len) => len,
                Err(nix::errno::Errno::EAGAIN) => return None,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(_) => return Some(Step::End(&[])),
            };
            match self.socks.feed(&space[..len]) {
                Step::More => {}
                Step::Answer(answer) => say(&self.socket, &answer),
                Step::Refuse(reply) => {
                    say(&self.socket, &reply.bytes());
                    return Some(Step::Refuse(reply));
                }
                Step::End(word) => {
                    say(&self.socket, word);
                    return Some(Step::End(word));
                }
                connect @ Step::Connect(..) => return Some(connect),
            }
        }
    }
}

/// A few bytes, for which a new socket has room.
pub(super) fn say(socket: &Socket, bytes: &[u8]) {
    let _ = socket.send_with_flags(bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
}
