//! What happens to interfaces, told by the kernel (rtnetlink(7) multicast groups).
//!
//! Theory of operation. The socket belongs to the namespace where it was opened, so a client opens
//! it there and the daemon listens. Each datagram holds whole messages; each message becomes at most
//! one event that says how things are now, not what changed. The kernel drops messages when the
//! socket's queue is full and says so once ([`Event::Overrun`]): whoever listens asks for the present
//! state then, with [`Netlink::link_at`](super::Netlink::link_at) and
//! [`Netlink::addresses`](super::Netlink::addresses). Only the kernel is believed: root in the
//! namespace could send to the groups too, and its messages carry its port number.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use ipnet::IpNet;
use netlink_packet_core::{NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily as Family, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, socket,
};

use super::routes::interface_address;
use super::{LinkInfo, link_info};

/// `RTNLGRP_LINK` (1), `RTNLGRP_IPV4_IFADDR` (5) and `RTNLGRP_IPV6_IFADDR` (9) of
/// `include/uapi/linux/rtnetlink.h`; group N is bit N - 1.
const GROUPS: u32 = 1 | 1 << 4 | 1 << 8;
/// The longest datagram: the kernel fills at most this (`NLMSG_GOODSIZE` is 8 KiB or a page).
const DATAGRAM_LEN: usize = 32 << 10;

/// How an interface is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An interface that is new, or has been changed: up or down, MTU, hardware address, name.
    Link(LinkInfo),
    /// The interface with this index was deleted, or moved to another namespace.
    LinkDeleted(u32),
    /// The interface with this index has the address.
    AddressAdded(u32, IpNet),
    /// The interface with this index does not have the address any more.
    AddressRemoved(u32, IpNet),
    /// Events were lost.
    Overrun,
}

/// Opens a socket for a [`Monitor`] in the calling thread's namespace.
///
/// # Errors
/// EMFILE when there are too many descriptors.
pub fn open() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(Family::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
    Ok(socket)
}

/// Tells what happens to the interfaces of the namespace where its socket was opened.
#[derive(Debug)]
pub struct Monitor {
    socket: OwnedFd,
    /// Read, and not asked for yet.
    events: VecDeque<Event>,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Listens to a socket that [`open`] made.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, events: VecDeque::new(), buffer: vec![0; DATAGRAM_LEN] }
    }

    /// The next event; `None` when there is none now. Never blocks.
    ///
    /// # Errors
    /// When the descriptor is no such socket.
    pub fn next_event(&mut self) -> io::Result<Option<Event>> {
        while self.events.is_empty() {
            match recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), &mut self.buffer) {
                Ok((len, sender)) => {
                    if sender.is_some_and(|sender| sender.pid() == 0) {
                        self.events.extend(events(self.buffer.get(..len).unwrap_or_default()));
                    }
                }
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => return Ok(Some(Event::Overrun)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.events.pop_front())
    }
}

impl AsFd for Monitor {
    /// The descriptor to poll for events.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The events of a datagram's messages. What cannot be read ends it.
fn events(datagram: &[u8]) -> Vec<Event> {
    messages(datagram).filter_map(|message| event(message.payload)).collect()
}

/// The messages that one datagram holds, each aligned to four bytes (netlink(7)).
pub(super) fn messages(
    mut datagram: &[u8],
) -> impl Iterator<Item = NetlinkMessage<RouteNetlinkMessage>> + '_ {
    std::iter::from_fn(move || {
        let message = NetlinkMessage::deserialize(datagram).ok()?;
        let len = NetlinkBuffer::new_checked(datagram).ok()?.length() as usize;
        datagram = datagram.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

fn event(payload: NetlinkPayload<RouteNetlinkMessage>) -> Option<Event> {
    let NetlinkPayload::InnerMessage(message) = payload else { return None };
    match message {
        RouteNetlinkMessage::NewLink(link) if is_whole(&link) => Some(Event::Link(link_info(&link))),
        RouteNetlinkMessage::DelLink(link) if is_whole(&link) => Some(Event::LinkDeleted(link.header.index)),
        RouteNetlinkMessage::NewAddress(address) => {
            Some(Event::AddressAdded(address.header.index, interface_address(&address)?))
        }
        RouteNetlinkMessage::DelAddress(address) => {
            Some(Event::AddressRemoved(address.header.index, interface_address(&address)?))
        }
        _ => None,
    }
}

/// Whether a message is about the interface itself. Others come to the same group: a bridge's ports
/// (family `AF_BRIDGE`; leaving a bridge is a `RTM_DELLINK` of that kind) and what wireless drivers
/// report, which has no MTU.
fn is_whole(message: &LinkMessage) -> bool {
    message.header.interface_family == AddressFamily::Unspec
        && message.attributes.iter().any(|attribute| matches!(attribute, LinkAttribute::Mtu(_)))
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::NetlinkHeader;
    use netlink_packet_route::address::{AddressAttribute, AddressMessage};
    use netlink_packet_route::link::LinkFlags;

    use super::*;

    fn link(family: AddressFamily, mtu: Option<u32>) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.interface_family = family;
        message.header.index = 7;
        message.header.flags = LinkFlags::Up | LinkFlags::LowerUp;
        message.attributes.push(LinkAttribute::IfName("eth0".to_owned()));
        message.attributes.extend(mtu.map(LinkAttribute::Mtu));
        message.attributes.push(LinkAttribute::Address(vec![2, 0, 0, 0, 0, 9]));
        message
    }

    fn address(prefix_len: u8, attributes: Vec<AddressAttribute>) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.prefix_len = prefix_len;
        message.header.index = 7;
        message.attributes = attributes;
        message
    }

    fn datagram(messages: Vec<RouteNetlinkMessage>) -> Vec<u8> {
        let mut datagram = Vec::new();
        for message in messages {
            let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(message));
            message.finalize();
            let mut bytes = vec![0; message.buffer_len()];
            message.serialize(&mut bytes);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            datagram.extend(bytes);
        }
        datagram
    }

    #[test]
    fn each_message_of_a_datagram_becomes_an_event() {
        let peer = vec![
            AddressAttribute::Address("10.0.0.2".parse().unwrap()),
            AddressAttribute::Local("10.0.0.1".parse().unwrap()),
        ];
        let v6 = vec![AddressAttribute::Address("fd00::1".parse().unwrap())];
        let datagram = datagram(vec![
            RouteNetlinkMessage::NewLink(link(AddressFamily::Unspec, Some(1400))),
            RouteNetlinkMessage::NewAddress(address(32, peer)),
            RouteNetlinkMessage::DelAddress(address(64, v6)),
            RouteNetlinkMessage::DelLink(link(AddressFamily::Unspec, Some(1400))),
        ]);
        let info = LinkInfo {
            index: 7,
            name: "eth0".to_owned(),
            mac: Some(crate::wire::MacAddr([2, 0, 0, 0, 0, 9])),
            mtu: 1400,
            up: true,
            carrier: true,
            dropped: 0,
        };
        let expected = [
            Event::Link(info),
            Event::AddressAdded(7, "10.0.0.1/32".parse().unwrap()),
            Event::AddressRemoved(7, "fd00::1/64".parse().unwrap()),
            Event::LinkDeleted(7),
        ];
        assert_eq!(events(&datagram), expected);
        assert_eq!(events(&datagram[..datagram.len() - 1]), expected[..3], "cut");
    }

    #[test]
    fn leaving_a_bridge_is_no_end_and_a_wireless_report_no_change() {
        let datagram = datagram(vec![
            RouteNetlinkMessage::DelLink(link(AddressFamily::Bridge, Some(1400))),
            RouteNetlinkMessage::NewLink(link(AddressFamily::Unspec, None)),
        ]);
        assert_eq!(events(&datagram), []);
    }
}
