//! The host's sockets of published ports: bound and closed as the model says.
//!
//! Theory of operation. What the model wants is compared with what there is. New sockets are bound before anything
//! else is done, so that a port that the host refuses is the refusal of the whole change; they are handed to their
//! uplink's device once the switch has the rules for what comes in by them, and only then old ones are closed.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};

use socket2::Socket;

use super::Daemon;
use crate::control::compile::Listener;
use crate::control::{Id, Kind, Refused, ports};
use crate::io::uplink::user;

/// Sockets that are bound and that nobody serves yet.
pub(super) struct Bound {
    wanted: BTreeMap<Listener, Id>,
    sockets: BTreeMap<Id, Vec<(Listener, Socket)>>,
}

impl Daemon {
    /// Binds what is wanted and the host does not have yet.
    pub(super) fn bind_listeners(&mut self, mut wanted: BTreeMap<Listener, Id>) -> Result<Bound, Refused> {
        self.taken = None;
        let has_device = |id: &Id| self.containers.get(id).is_some_and(|shell| shell.user.is_some());
        wanted.retain(|_, uplink| has_device(uplink));
        // Those that come in by another uplink now would be in their own way.
        let moved =
            |(listener, uplink): &(&Listener, &Id)| wanted.get(*listener).is_some_and(|new| new != *uplink);
        let moved: Vec<Listener> =
            self.listening.iter().filter(moved).map(|(listener, _)| *listener).collect();
        self.close_listeners(&moved);
        let mut sockets: BTreeMap<Id, Vec<(Listener, Socket)>> = BTreeMap::new();
        let mut without_ipv6 = Vec::new();
        for (listener, uplink) in wanted.iter().filter(|(listener, _)| !self.listening.contains_key(listener))
        {
            match user::bind(listener) {
                Ok(socket) => sockets.entry(*uplink).or_default().push((*listener, socket)),
                Err(error) if lacks_ipv6(listener, &error) => without_ipv6.push(*listener),
                Err(error) => {
                    let is_taken = error.kind() == ErrorKind::AddrInUse;
                    self.taken = is_taken.then_some((listener.protocol, listener.port));
                    return Err(refusal(listener, &error));
                }
            }
        }
        wanted.retain(|listener, _| !without_ipv6.contains(listener));
        Ok(Bound { wanted, sockets })
    }

    /// Serves what was bound, and closes what is not wanted any more.
    pub(super) fn serve_listeners(&mut self, bound: Bound) {
        let Bound { wanted, sockets } = bound;
        for (uplink, sockets) in sockets {
            if let Some(handle) = self.containers.get(&uplink).and_then(|shell| shell.user.as_ref()) {
                handle.listen(sockets);
            }
        }
        let gone: Vec<Listener> =
            self.listening.keys().filter(|listener| !wanted.contains_key(listener)).copied().collect();
        self.close_listeners(&gone);
        self.listening = wanted;
    }

    fn close_listeners(&mut self, gone: &[Listener]) {
        let mut by_uplink: BTreeMap<Id, Vec<Listener>> = BTreeMap::new();
        for listener in gone {
            if let Some(uplink) = self.listening.remove(listener) {
                by_uplink.entry(uplink).or_default().push(*listener);
            }
        }
        for (uplink, listeners) in by_uplink {
            if let Some(handle) = self.containers.get(&uplink).and_then(|shell| shell.user.as_ref()) {
                handle.unlisten(listeners);
            }
        }
    }
}

/// A host without IPv6 has no `::`; what is published there is reached by IPv4 alone.
fn lacks_ipv6(listener: &Listener, error: &io::Error) -> bool {
    use nix::errno::Errno::{EADDRNOTAVAIL, EAFNOSUPPORT};
    let errno = error.raw_os_error().map(nix::errno::Errno::from_raw);
    listener.address.is_ipv6()
        && listener.address.is_unspecified()
        && matches!(errno, Some(EADDRNOTAVAIL | EAFNOSUPPORT))
}

/// Why a port cannot be published on the host, and the mend.
fn refusal(listener: &Listener, error: &io::Error) -> Refused {
    let Listener { protocol, address, port } = *listener;
    let at = format!("{}/{}", ports::socket(address, port), protocol.name());
    match error.kind() {
        ErrorKind::AddrInUse => {
            let flag = if protocol == ports::Protocol::Tcp { 't' } else { 'u' };
            let text = format!(
                "cannot publish {at}: somebody else on this host has that port: choose another outer port \
                 ('ss -ln{flag}p sport = :{port}' tells who has it)"
            );
            Refused::new(Kind::PortInUse, text)
        }
        ErrorKind::PermissionDenied => {
            let text = format!(
                "cannot publish {at}: port {port} is for the privileged on this host: choose one from 1024 up, \
                 or have root run 'sysctl -w net.ipv4.ip_unprivileged_port_start={port}'"
            );
            Refused::new(Kind::BadPort, text)
        }
        ErrorKind::AddrNotAvailable => {
            let text = format!(
                "cannot publish {at}: this host does not have address {address}: choose one that 'ip addr' \
                 shows, or none for all"
            );
            Refused::new(Kind::BadAddress, text)
        }
        _ if error.raw_os_error() == Some(nix::libc::EMFILE) => {
            let text = format!(
                "cannot publish {at}: the daemon has no file descriptor left for it: publish fewer ports, or \
                 start the daemon with a higher 'ulimit -n'"
            );
            Refused::new(Kind::System, text)
        }
        _ => Refused::new(Kind::System, format!("cannot publish {at}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;
    use crate::control::ports::Protocol;

    #[test]
    fn refusals_name_the_port_and_the_mend() {
        let table = [
            (Errno::EADDRINUSE, Kind::PortInUse, "ss -lntp sport = :80"),
            (Errno::EACCES, Kind::BadPort, "net.ipv4.ip_unprivileged_port_start=80"),
            (Errno::EADDRNOTAVAIL, Kind::BadAddress, "ip addr"),
            (Errno::EMFILE, Kind::System, "ulimit -n"),
            (Errno::EIO, Kind::System, "Input/output"),
        ];
        let listener = Listener { protocol: Protocol::Tcp, address: [127, 0, 0, 1].into(), port: 80 };
        for (errno, kind, mend) in table {
            let refused = refusal(&listener, &io::Error::from(errno));
            assert_eq!(refused.kind, kind);
            let start = "cannot publish 127.0.0.1:80/tcp: ";
            assert!(refused.message.starts_with(start) && refused.message.contains(mend), "{refused}");
        }
    }

    #[test]
    fn only_all_of_ipv6_is_done_without() {
        let lacks = |address: &str| {
            let listener = Listener { protocol: Protocol::Tcp, address: address.parse().unwrap(), port: 80 };
            lacks_ipv6(&listener, &io::Error::from(Errno::EADDRNOTAVAIL))
        };
        assert!(lacks("::") && !lacks("::1") && !lacks("0.0.0.0"));
    }
}
