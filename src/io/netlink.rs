//! Interfaces over a `NETLINK_ROUTE` socket (rtnetlink(7)).
//!
//! The socket acts on the namespace where it was opened, whoever uses it, so the client
//! that was inside hands one over and the daemon configures from outside. All calls are
//! one request and its answer, and give up after a second.
//!
//! Root inside the namespace may send netlink messages to any socket there, ours too. So ours
//! is connected to the kernel, which then refuses what comes from others (`netlink_getsockbyportid`
//! in net/netlink/af_netlink.c): nobody can forge an answer, or fill the queue that it comes by.

pub mod monitor;
mod outside;
mod routes;

use std::cell::Cell;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkFlags, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::sys::socket::{MsgFlags, NetlinkAddr, connect, recv, send, setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::TimeVal;

use crate::wire::MacAddr;

use monitor::messages;
pub use outside::FromOutside;
pub use routes::Route;

/// How long an answer may take. Linux has queued it when the request's `send` returns.
const PATIENCE: TimeVal = TimeVal::new(1, 0);
/// Room for an answer: what `RTM_NEWLINK` says of one interface, several times over.
const ANSWER_LEN: usize = 32 << 10;

/// A request that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("interface {interface}: cannot {what}: {error}")]
pub struct NetlinkError {
    /// The interface's name.
    pub interface: String,
    /// What was asked.
    pub what: &'static str,
    /// What the kernel said.
    pub error: io::Error,
}

/// What an interface is to be.
#[derive(Debug, Clone, Default)]
pub struct LinkConfig {
    /// Its hardware address.
    pub mac: Option<MacAddr>,
    /// Its MTU in bytes.
    pub mtu: Option<u32>,
    /// Frames that may wait to be sent by it.
    pub queue: Option<u32>,
    /// Addresses to add, with prefix lengths; usable at once (no duplicate address detection).
    pub addresses: Vec<IpNet>,
    /// Give it no IPv6 address of its own making, so that it stays silent.
    pub no_ipv6: bool,
    /// Bring it up.
    pub up: bool,
}

/// What an interface is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LinkInfo {
    /// Its index.
    pub index: u32,
    /// Its present name.
    pub name: String,
    /// Its hardware address.
    pub mac: Option<MacAddr>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it has a carrier.
    pub carrier: bool,
    /// Frames that the kernel dropped on the way to us (its ring was full), as the interface counts them.
    pub dropped: u64,
}

/// A `NETLINK_ROUTE` socket.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    /// The last request's sequence number.
    sequence: Cell<u32>,
}

impl Netlink {
    /// Takes a socket over.
    ///
    /// # Errors
    /// When it is no netlink socket.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        setsockopt(&socket, ReceiveTimeout, &PATIENCE)?;
        connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Self { socket, sequence: Cell::new(0) })
    }

    /// Looks an interface up by name.
    ///
    /// # Errors
    /// ENODEV when there is none.
    pub fn link(&self, name: &str) -> Result<LinkInfo, NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.look_up(name, message)
    }

    /// Looks an interface up by its index, which it keeps whatever it is called.
    ///
    /// # Errors
    /// ENODEV when there is none.
    pub fn link_at(&self, index: u32) -> Result<LinkInfo, NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.look_up(&format!("number {index}"), message)
    }

    fn look_up(&self, name: &str, message: LinkMessage) -> Result<LinkInfo, NetlinkError> {
        let answer = self.ask(RouteNetlinkMessage::GetLink(message), 0);
        match answer.map_err(|error| failed(name, "look it up", error))? {
            Some(RouteNetlinkMessage::NewLink(link)) => Ok(link_info(&link)),
            _ => Err(failed(name, "look it up", io::ErrorKind::InvalidData.into())),
        }
    }

    /// Sets an interface's MTU, in bytes.
    ///
    /// # Errors
    /// ENODEV when there is none, EINVAL when it cannot be that.
    pub fn set_mtu(&self, index: u32, mtu: u32) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::Mtu(mtu));
        self.set(&format!("number {index}"), "set its MTU", message)
    }

    /// Makes an interface what it is to be; its index.
    ///
    /// # Errors
    /// The first refusal; what was done before it stays.
    pub fn configure(&self, name: &str, config: &LinkConfig) -> Result<u32, NetlinkError> {
        let index = self.link(name)?.index;
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.extend(config.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
        message.attributes.extend(config.mtu.map(LinkAttribute::Mtu));
        message.attributes.extend(config.queue.map(LinkAttribute::TxQueueLen));
        if !message.attributes.is_empty() {
            self.set(name, "set its address, MTU and queue", message)?;
        }
        if config.no_ipv6 {
            // A kernel without IPv6 refuses this, and needs no silencing.
            let _ = self.set(name, "silence IPv6", silent_ipv6(index));
        }
        for address in &config.addresses {
            self.add_address(name, index, *address)?;
        }
        if config.up {
            self.set_up(name, index)?;
        }
        Ok(index)
    }

    /// Renames an interface, which must be down.
    ///
    /// # Errors
    /// EEXIST when the name is taken, EBUSY when it is up.
    pub fn rename(&self, name: &str, to: &str) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = self.link(name)?.index;
        message.attributes.push(LinkAttribute::IfName(to.to_owned()));
        self.set(name, "rename it", message)
    }

    /// Moves an interface to another namespace, under another name.
    ///
    /// # Errors
    /// EEXIST when the name is taken there, EPERM without CAP_NET_ADMIN over both.
    pub fn move_to_netns(&self, name: &str, namespace: BorrowedFd<'_>, to: &str) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = self.link(name)?.index;
        message.attributes.push(LinkAttribute::NetNsFd(namespace.as_raw_fd()));
        message.attributes.push(LinkAttribute::IfName(to.to_owned()));
        self.set(to, "move it into the namespace", message)
    }

    /// Removes an interface.
    ///
    /// # Errors
    /// ENODEV when there is none.
    pub fn remove(&self, index: u32) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let answer = self.ask(RouteNetlinkMessage::DelLink(message), NLM_F_ACK);
        answer.map(drop).map_err(|error| failed(&format!("number {index}"), "remove it", error))
    }

    fn set_up(&self, name: &str, index: u32) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.set(name, "bring it up", message)
    }

    fn set(&self, name: &str, what: &'static str, message: LinkMessage) -> Result<(), NetlinkError> {
        let answer = self.ask(RouteNetlinkMessage::SetLink(message), NLM_F_ACK);
        answer.map(drop).map_err(|error| failed(name, what, error))
    }

    fn add_address(&self, name: &str, index: u32, address: IpNet) -> Result<(), NetlinkError> {
        let mut message = AddressMessage::default();
        message.header.index = index;
        message.header.prefix_len = address.prefix_len();
        message.header.family = match address.addr() {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes.push(AddressAttribute::Local(address.addr()));
        message.attributes.push(AddressAttribute::Address(address.addr()));
        if let IpNet::V4(net) = address {
            message.attributes.push(AddressAttribute::Broadcast(net.broadcast()));
        }
        let answer =
            self.ask(RouteNetlinkMessage::NewAddress(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
        answer.map(drop).map_err(|error| failed(name, "give it its IP address", error))
    }

    /// Sends a request and waits for its answer: a message, or `None` for a bare "done".
    fn ask(&self, request: RouteNetlinkMessage, flags: u16) -> io::Result<Option<RouteNetlinkMessage>> {
        let sequence = self.send(request, flags)?;
        match self.receive(sequence)?.next() {
            Some(NetlinkPayload::InnerMessage(message)) => Ok(Some(message)),
            Some(NetlinkPayload::Error(error)) if error.code.is_some() => Err(error.to_io()),
            _ => Ok(None),
        }
    }

    /// Sends a request; its sequence number.
    fn send(&self, request: RouteNetlinkMessage, flags: u16) -> io::Result<u32> {
        let sequence = self.sequence.get().wrapping_add(1);
        self.sequence.set(sequence);
        let mut header = NetlinkHeader::default();
        (header.flags, header.sequence_number) = (NLM_F_REQUEST | flags, sequence);
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        send(self.socket.as_raw_fd(), &bytes, MsgFlags::empty())?;
        Ok(sequence)
    }

    /// Waits for one datagram of the answer to a request, past those to requests that were given up on.
    fn receive(
        &self,
        sequence: u32,
    ) -> io::Result<impl Iterator<Item = NetlinkPayload<RouteNetlinkMessage>> + use<>> {
        let mut buffer = vec![0; ANSWER_LEN];
        loop {
            let len = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let answer: Vec<_> = messages(buffer.get(..len).unwrap_or_default()).collect();
            match answer.first() {
                None => return Err(io::ErrorKind::InvalidData.into()),
                Some(first) if first.header.sequence_number != sequence => {}
                Some(_) => return Ok(answer.into_iter().map(|message| message.payload)),
            }
        }
    }
}

/// No link-local address, so no router solicitations and no multicast reports.
fn silent_ipv6(index: u32) -> LinkMessage {
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]));
    message
}

fn link_info(message: &LinkMessage) -> LinkInfo {
    let up = message.header.flags.contains(LinkFlags::Up);
    let carrier = message.header.flags.contains(LinkFlags::LowerUp);
    let mut info = LinkInfo { index: message.header.index, up, carrier, ..LinkInfo::default() };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => info.name.clone_from(name),
            LinkAttribute::Address(bytes) => info.mac = bytes.as_slice().try_into().ok().map(MacAddr),
            LinkAttribute::Mtu(mtu) => info.mtu = *mtu,
            LinkAttribute::Stats64(stats) => info.dropped = stats.tx_dropped,
            _ => {}
        }
    }
    info
}

fn failed(interface: &str, what: &'static str, error: io::Error) -> NetlinkError {
    NetlinkError { interface: interface.to_owned(), what, error }
}
