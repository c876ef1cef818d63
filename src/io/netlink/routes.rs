//! Routes and addresses of a namespace, over the socket of [`Netlink`].

use std::io;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Netlink, NetlinkError, failed};

/// A unicast route of the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where it leads.
    pub to: IpNet,
    /// The next hop; without one the destinations are on the link.
    pub via: Option<IpAddr>,
    /// The index of the interface that it leaves by.
    pub index: u32,
}

impl Route {
    /// The default route of the gateway's IP version.
    pub fn default_via(gateway: IpAddr, index: u32) -> Self {
        let to = match gateway {
            IpAddr::V4(_) => IpNet::V4(Ipv4Net::default()),
            IpAddr::V6(_) => IpNet::V6(Ipv6Net::default()),
        };
        Self { to, via: Some(gateway), index }
    }

    fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: family(self.to.addr()),
            destination_prefix_length: self.to.prefix_len(),
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: RouteProtocol::Boot,
            scope: if self.via.is_some() { RouteScope::Universe } else { RouteScope::Link },
            kind: RouteType::Unicast,
            ..RouteHeader::default()
        };
        if self.to.prefix_len() > 0 {
            message.attributes.push(RouteAttribute::Destination(RouteAddress::from(self.to.network())));
        }
        message.attributes.extend(self.via.map(|via| RouteAttribute::Gateway(RouteAddress::from(via))));
        message.attributes.push(RouteAttribute::Oif(self.index));
        message
    }
}

impl Netlink {
    /// Adds the default route by a gateway.
    ///
    /// # Errors
    /// As [`add_route`](Self::add_route).
    pub fn add_default_route(&self, index: u32, gateway: IpAddr) -> Result<(), NetlinkError> {
        self.add_route(Route::default_via(gateway, index))
    }

    /// Adds a route.
    ///
    /// # Errors
    /// EEXIST when there is one to this destination, ENETUNREACH when the next hop is on no link
    /// that is up, EINVAL when the next hop is of another IP version.
    pub fn add_route(&self, route: Route) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::NewRoute(route.message());
        self.do_route(route, "add a route", message, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Makes a route the only one to its destination: whichever there is is replaced.
    ///
    /// # Errors
    /// As [`add_route`](Self::add_route), EEXIST excepted.
    pub fn replace_route(&self, route: Route) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::NewRoute(route.message());
        self.do_route(route, "replace a route", message, NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Removes a route.
    ///
    /// # Errors
    /// ESRCH when there is no such route.
    pub fn delete_route(&self, route: Route) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::DelRoute(route.message());
        self.do_route(route, "delete a route", message, 0)
    }

    fn do_route(
        &self,
        route: Route,
        what: &'static str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), NetlinkError> {
        let answer = self.ask(message, NLM_F_ACK | flags);
        answer.map(drop).map_err(|error| failed(&format!("number {}", route.index), what, error))
    }

    /// The addresses of an interface, of both IP versions.
    ///
    /// # Errors
    /// When the kernel does not tell; no such interface has no addresses.
    pub fn addresses(&self, index: u32) -> Result<Vec<IpNet>, NetlinkError> {
        let fail = |error| failed(&format!("number {index}"), "list its addresses", error);
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let sequence = self.send(request, NLM_F_DUMP).map_err(fail)?;
        let mut addresses = Vec::new();
        loop {
            for payload in self.receive(sequence).map_err(fail)? {
                match payload {
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(message)) => {
                        addresses
                            .extend(interface_address(&message).filter(|_| message.header.index == index));
                    }
                    NetlinkPayload::Done(_) => return Ok(addresses),
                    NetlinkPayload::Error(error) => return Err(fail(error.to_io())),
                    _ => return Err(fail(io::ErrorKind::InvalidData.into())),
                }
            }
        }
    }
}

/// The interface's own address: `IFA_LOCAL` where the other end of a link has one too, else
/// `IFA_ADDRESS` (rtnetlink(7)).
pub(super) fn interface_address(message: &AddressMessage) -> Option<IpNet> {
    let attributes = || message.attributes.iter();
    let local = attributes().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = local.or_else(|| {
        attributes().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })?;
    IpNet::new(address, message.header.prefix_len).ok()
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
