//! Refusals: why the control plane did not do what was asked.

use serde::{Deserialize, Serialize};

/// A request that was refused; nothing has changed.
///
/// The message is one line that names what is wrong, where, and the mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Refused {
    /// What programs decide by.
    pub kind: Kind,
    /// What people read.
    pub message: String,
}

impl Refused {
    /// A refusal; control characters in `message` (from a user's own words, or a lab file's) become
    /// spaces: it is one line, and a terminal obeys none of it.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let message: String = message.into();
        Self { kind, message: message.replace(char::is_control, " ") }
    }
}

/// The kinds of refusal; in JSON their names are snake_case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// No network has this name or id.
    UnknownNetwork,
    /// No container has this name or id.
    UnknownContainer,
    /// No port has this name or alias.
    UnknownPort,
    /// An id prefix, or a container with several ports, where one is meant.
    Ambiguous,
    /// A name with characters that names cannot have, or a reserved one.
    BadName,
    /// The name (or id) belongs to another network, container or interface.
    NameTaken,
    /// A subnet, range, gateway or auxiliary address that makes no sense.
    BadSubnet,
    /// The subnet overlaps another network's.
    SubnetOverlaps,
    /// Every automatic subnet is in use.
    PoolsExhausted,
    /// No address is free in the subnet.
    PoolFull,
    /// An address outside the network's subnets, or one no container may have.
    BadAddress,
    /// The address belongs to another container.
    AddressInUse,
    /// A MAC address that no station may have.
    BadMac,
    /// The MAC address belongs to another container on the same network.
    MacInUse,
    /// Containers are still connected to the network.
    NetworkInUse,
    /// The container is running, or has ended, where the opposite is needed.
    BadState,
    /// The container is somebody else's: it can be unplugged, nothing more.
    NotOurs,
    /// The container is already on the network.
    AlreadyConnected,
    /// The container is not on the network.
    NotConnected,
    /// Networks `bridge`, `host` and `none` always exist, and the last two are not the switch's.
    Predefined,
    /// A container on `host` or `none` and one more network, or what such a container cannot have.
    NetworkConflict,
    /// An option that is not known, or a value that it cannot have.
    BadOption,
    /// What should be a port, a range of them, or a publish, and is none.
    BadPort,
    /// Somebody else has published the port.
    PortInUse,
    /// No free port is left to publish by.
    PortsExhausted,
    /// The container publishes no such port.
    UnknownPublish,
    /// A link that cannot be, as to oneself, or where no network is shared.
    BadLink,
    /// The container has no such link.
    UnknownLink,
    /// No uplink has this name or id.
    UnknownUplink,
    /// An uplink that makes no sense, or a container's wish to join one.
    BadUplink,
    /// Something else depends on it: a rule, a route, a network's option.
    InUse,
    /// A rule that makes no sense.
    BadRule,
    /// There is no rule of this number.
    UnknownRule,
    /// A route that makes no sense.
    BadRoute,
    /// There is a route to this prefix already.
    RouteExists,
    /// There is no such route.
    UnknownRoute,
    /// A setting that is not known, or a value that it cannot have.
    BadSetting,
    /// A template of `inspect -f` beyond what is supported, or without a result.
    BadFormat,
    /// A lab file with mistakes.
    BadLab,
    /// A message that is no request, or one without what belongs to it.
    BadRequest,
    /// The system refused what the request needs.
    System,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_and_snake_case() {
        let refused = Refused::new(Kind::UnknownNetwork, "network a\n\u{1b}b not found");
        assert_eq!(refused.to_string(), "network a  b not found");
        let json = serde_json::to_string(&refused).unwrap();
        assert_eq!(json, r#"{"kind":"unknown_network","message":"network a  b not found"}"#);
        assert_eq!(serde_json::from_str::<Refused>(&json).unwrap(), refused);
    }
}
