//! Interfaces of a namespace, asked from outside it.
//!
//! A netlink socket keeps the namespace alive in which it was opened. Where a namespace's end must be noticed, none
//! may stay inside; but one elsewhere reaches its interfaces too, under the number that the kernel gave the namespace
//! when an interface moved into it from there (rtnetlink(7), `IFLA_TARGET_NETNSID`, Linux 4.20).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};

use super::{LinkInfo, Netlink, NetlinkError};

/// A `NETLINK_ROUTE` socket of one namespace that asks after interfaces of another.
#[derive(Debug)]
pub struct FromOutside {
    netlink: Netlink,
    /// What the socket's namespace calls the other.
    number: i32,
}

impl FromOutside {
    /// Asks after interfaces of `namespace`, into which one has moved from the socket's own.
    ///
    /// # Errors
    /// When the kernel has no number for it, as before Linux 4.16.
    pub fn new(netlink: Netlink, namespace: BorrowedFd<'_>) -> io::Result<Self> {
        let mut message = NsidMessage::default();
        // Descriptors are not negative.
        message.attributes.push(NsidAttribute::Fd(namespace.as_raw_fd().cast_unsigned()));
        let Some(RouteNetlinkMessage::NewNsId(answer)) =
            netlink.ask(RouteNetlinkMessage::GetNsId(message), 0)?
        else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let number = answer.attributes.iter().find_map(|attribute| match attribute {
            NsidAttribute::Id(number @ 0..) => Some(*number),
            _ => None,
        });
        Ok(Self { netlink, number: number.ok_or(io::ErrorKind::NotFound)? })
    }

    /// Looks an interface up by its index there.
    ///
    /// # Errors
    /// ENODEV when there is none, EINVAL when the namespace has gone.
    pub fn link_at(&self, index: u32) -> Result<LinkInfo, NetlinkError> {
        self.netlink.look_up(&format!("number {index}"), self.message(index))
    }

    /// Sets an interface's MTU, in bytes.
    ///
    /// # Errors
    /// As [`Netlink::set_mtu`], and EINVAL when the namespace has gone.
    pub fn set_mtu(&self, index: u32, mtu: u32) -> Result<(), NetlinkError> {
        let mut message = self.message(index);
        message.attributes.push(LinkAttribute::Mtu(mtu));
        self.netlink.set(&format!("number {index}"), "set its MTU", message)
    }

    fn message(&self, index: u32) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::IfNetnsId(self.number));
        message
    }
}
