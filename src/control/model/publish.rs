//! Published and exposed ports of containers.
//!
//! A published port belongs to the network by which its container goes outside: there the
//! container is reached. Two containers that live may not publish what a packet could mean both by.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

use super::{Container, ContainerSpec, Endpoint, Model, Network};
use crate::control::ports::{Exposed, PortRange, Protocol, Publish, PublishSpec, socket};
use crate::control::sources::same_version;
use crate::control::{Kind, Refused};

/// Where outer ports are taken from that nobody chose: Linux's ephemeral range
/// (`ip_local_port_range`), as Docker's.
pub const FREE_PORTS: (u16, u16) = (32_768, 60_999);

impl Container {
    /// All ports that it is meant to be used by: those exposed, and those published.
    pub fn exposed_ports(&self) -> Vec<Exposed> {
        let published = self.publishes.iter().map(|publish| publish.container);
        let mut all: Vec<Exposed> = self.exposed.iter().copied().chain(published).collect();
        all.sort();
        all.dedup();
        all
    }
}

impl Model {
    /// Publishes one more port, or range of them, of a container, for whom all of its publishes are.
    ///
    /// # Errors
    /// Those of [`Model::publish_from`].
    pub fn publish(&mut self, word: &str, spec: &PublishSpec) -> Result<Publish, Refused> {
        self.publish_from(word, spec, &[])
    }

    /// Publishes one more port, or range of them, of a container for these sources alone; without any, for
    /// those that the container was made with.
    ///
    /// # Errors
    /// `unknown_container`, `ambiguous`, `bad_state`, `bad_address`, `port_in_use`, `ports_exhausted`.
    pub fn publish_from(
        &mut self,
        word: &str,
        spec: &PublishSpec,
        from: &[IpNet],
    ) -> Result<Publish, Refused> {
        let container = self.find_container(word)?;
        let (id, name) = (container.id, &container.name);
        if !container.is_alive() {
            let text = format!("container '{name}' has ended and publishes nothing: run it again");
            return Err(Refused::new(Kind::BadState, text));
        }
        if let Some(network) = container.unswitched {
            let text = format!(
                "container '{name}' is on network '{}', from where nothing is published: its ports are where it is",
                network.name()
            );
            return Err(Refused::new(Kind::NetworkConflict, text));
        }
        let from = if from.is_empty() { &container.publish_from } else { from };
        let publish = self.plan_publish(name, &container.endpoints, &[], (spec, from))?;
        self.container_mut(id).into_iter().for_each(|it| it.publishes.push(publish.clone()));
        Ok(publish)
    }

    /// Ends every publish of an outer port, which the host has given to somebody else.
    pub fn unpublish_outer(&mut self, protocol: Protocol, port: u16) {
        let Some(outer) = PortRange::one(port) else { return };
        for container in self.containers.values_mut().map(Arc::make_mut) {
            container.publishes.retain(|it| it.container.protocol != protocol || !it.host.contains(outer));
        }
    }

    /// Notes further ports that a container is meant to be used by.
    ///
    /// # Errors
    /// `unknown_container`, `ambiguous`.
    pub fn expose(&mut self, word: &str, ports: &[Exposed]) -> Result<(), Refused> {
        let id = self.find_container(word)?.id;
        let container = self.container_mut(id);
        container.into_iter().for_each(|container| container.exposed.extend(ports));
        Ok(())
    }

    /// Ends the publishing of what fits `spec`; returns it.
    ///
    /// # Errors
    /// `unknown_container`, `ambiguous`, `unknown_publish`.
    pub fn unpublish(&mut self, word: &str, spec: &PublishSpec) -> Result<Vec<Publish>, Refused> {
        let container = self.find_container(word)?;
        let (gone, left): (Vec<Publish>, Vec<Publish>) =
            container.publishes.iter().cloned().partition(|publish| publish.fits(spec));
        if gone.is_empty() {
            let has: Vec<String> = left.iter().map(|it| format!("{}:{}", it.host, it.container)).collect();
            let has = if has.is_empty() { "nothing".to_owned() } else { has.join(", ") };
            let text = format!("container '{}' does not publish {spec}: it publishes {has}", container.name);
            return Err(Refused::new(Kind::UnknownPublish, text));
        }
        let id = container.id;
        self.container_mut(id).into_iter().for_each(|it| it.publishes.clone_from(&left));
        Ok(gone)
    }

    /// Where packets for a container arrive that come from outside, and where its own go out: its
    /// address of an IP version on the network that leads outside; of several the first by name, as in Docker
    /// (`Endpoint.Less` in libnetwork's sandbox.go), in whatever order they were joined.
    pub fn way_out(&self, endpoints: &[Endpoint], ipv4: bool) -> Option<(&Network, usize, IpAddr)> {
        let ways = endpoints.iter().enumerate().filter_map(|(index, endpoint)| {
            let network = self.network(endpoint.network)?;
            let address = endpoint.addresses.iter().map(|net| net.addr()).find(|it| it.is_ipv4() == ipv4)?;
            (!network.internal && network.uplink.is_none()).then_some((network, index, address))
        });
        ways.min_by(|(one, ..), (other, ..)| one.name.cmp(&other.name))
    }

    /// All publishes that a new container asks for.
    pub(super) fn plan_publishes(
        &self,
        name: &str,
        endpoints: &[Endpoint],
        spec: &ContainerSpec,
    ) -> Result<Vec<Publish>, Refused> {
        let mut planned = Vec::new();
        let common = spec.publish.iter().map(|wish| (wish, spec.publish_from.as_slice()));
        let restricted = spec.restricted.iter().map(|(wish, from)| (wish, from.as_slice()));
        for wish in common.chain(restricted) {
            planned.push(self.plan_publish(name, endpoints, &planned, wish)?);
        }
        let all = spec.publish_all.then_some(spec.expose.as_slice());
        for exposed in all.unwrap_or_default() {
            if !planned.iter().any(|publish| publish.container == *exposed) {
                let wish = PublishSpec { address: None, host: None, container: *exposed };
                planned.push(self.plan_publish(name, endpoints, &planned, (&wish, &spec.publish_from))?);
            }
        }
        Ok(planned)
    }

    /// Gives a wish its outer addresses and ports: those named, or the lowest free ones. Nobody is at an
    /// outer address of a version that none of those has who may call.
    fn plan_publish(
        &self,
        name: &str,
        endpoints: &[Endpoint],
        planned: &[Publish],
        (wish, from): (&PublishSpec, &[IpNet]),
    ) -> Result<Publish, Refused> {
        let (v4, v6) = match wish.address {
            Some(IpAddr::V4(address)) => (Some(address), None),
            Some(IpAddr::V6(address)) => (None, Some(address)),
            None => {
                let network = self.way_out(endpoints, true).map(|(network, ..)| network);
                let v4 = network.map_or(Ipv4Addr::UNSPECIFIED, |network| network.options.host_binding);
                let has = |version: IpAddr| {
                    from.is_empty() || from.iter().any(|source| same_version(version, *source))
                };
                (
                    Some(v4).filter(|it| has((*it).into())),
                    Some(Ipv6Addr::UNSPECIFIED).filter(|it| has((*it).into())),
                )
            }
        };
        check_sources(name, wish, from)?;
        let len = wish.container.ports.len();
        let (first, last) = wish.host.map_or(FREE_PORTS, |host| (host.first(), host.last()));
        let is_fixed = wish.host.is_some_and(|host| host.len() == len);
        let mut next = first;
        while let Some(host) = PortRange::starting(next, len).filter(|host| host.last() <= last) {
            let publish = Publish { v4, v6, host, container: wish.container, from: from.to_vec() };
            let ports = (wish.container.protocol, host.first())..=(wish.container.protocol, host.last());
            if !is_fixed && let Some((_, port)) = self.taken.range(ports).next_back() {
                let Some(behind) = port.checked_add(1) else { break };
                next = behind;
                continue;
            }
            match self.publisher(name, planned, &publish) {
                None => return Ok(publish),
                Some((owner, theirs)) if is_fixed => return Err(in_use(name, owner, &publish, theirs)),
                Some((_, theirs)) => match theirs.host.last().checked_add(1) {
                    Some(behind) => next = behind,
                    None => break,
                },
            }
        }
        let text = format!(
            "no {len} free ports from {first} to {last} are left to publish {} of container '{name}': \
             unpublish some, or name others",
            wish.container
        );
        Err(Refused::new(Kind::PortsExhausted, text))
    }

    /// Who has published what `publish` wants.
    fn publisher<'a>(
        &'a self,
        name: &'a str,
        planned: &'a [Publish],
        publish: &Publish,
    ) -> Option<(&'a str, &'a Publish)> {
        let own = planned.iter().map(|theirs| (name, theirs));
        let others = self
            .containers
            .values()
            .flat_map(|container| container.publishes.iter().map(|theirs| (container.name.as_str(), theirs)));
        own.chain(others).find(|(_, theirs)| theirs.collides(publish))
    }
}

/// Who may call what is at one address has that address's IP version.
fn check_sources(name: &str, wish: &PublishSpec, from: &[IpNet]) -> Result<(), Refused> {
    let Some(address) = wish.address else { return Ok(()) };
    let Some(other) = from.iter().find(|source| !same_version(address, **source)) else { return Ok(()) };
    let (own, theirs) = if address.is_ipv4() { ("IPv4", "IPv6") } else { ("IPv6", "IPv4") };
    let text = format!(
        "container '{name}' cannot publish {wish} for {other}: {address} is {own} and never called from {theirs}: \
         name {own} sources, or publish at no address"
    );
    Err(Refused::new(Kind::BadAddress, text))
}

fn in_use(name: &str, owner: &str, publish: &Publish, theirs: &Publish) -> Refused {
    let at = |publish: &Publish| match publish.addresses().next() {
        Some(address) => socket(address, publish.host),
        None => publish.host.to_string(),
    };
    let protocol = publish.container.protocol.name();
    let who = if owner == name { "itself".to_owned() } else { format!("container '{owner}'") };
    let text = format!(
        "container '{name}' cannot publish {}/{protocol}: {who} has {} already: choose another outer port",
        at(publish),
        at(theirs),
    );
    Refused::new(Kind::PortInUse, text)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{container, id, network, refused, sample};
    use super::super::{ContainerSpec, NetworkSpec};
    use super::*;
    use crate::control::ports::Protocol;

    fn publishes(name: &str, networks: &[&str], texts: &[&str]) -> ContainerSpec {
        let publish = texts.iter().map(|text| text.parse().unwrap()).collect();
        ContainerSpec { publish, ..container(name, networks) }
    }

    fn shown(publish: &Publish) -> String {
        let addresses: Vec<String> = publish.addresses().map(|address| address.to_string()).collect();
        format!("{} {}->{}", addresses.join(","), publish.host, publish.container)
    }

    #[test]
    fn ports_that_nobody_chose_are_the_lowest_free_ones() {
        let mut model = sample();
        let spec =
            publishes("web", &["net1"], &["32769:1", "80", "8000:80", "53/udp", "7000-7002", "8000-8010:90"]);
        let web = model.create_container(&spec, id(20), 9).unwrap();
        let all: Vec<String> = web.publishes.iter().map(shown).collect();
        let expected = [
            "0.0.0.0,:: 32769->1/tcp",
            "0.0.0.0,:: 32768->80/tcp",
            "0.0.0.0,:: 8000->80/tcp",
            "0.0.0.0,:: 32768->53/udp",
            "0.0.0.0,:: 32770-32772->7000-7002/tcp",
            "0.0.0.0,:: 8001->90/tcp",
        ];
        assert_eq!(all, expected);
        model.unpublish("web", &"80".parse().unwrap()).unwrap();
        let again = model.publish("alice", &"127.0.0.1::22".parse().unwrap()).unwrap();
        assert_eq!(shown(&again), "127.0.0.1 32768->22/tcp");
        let exposed: Vec<String> =
            model.find_container("web").unwrap().exposed_ports().iter().map(ToString::to_string).collect();
        assert_eq!(exposed, ["1/tcp", "53/udp", "90/tcp", "7000-7002/tcp"]);
    }

    #[test]
    fn what_others_on_the_host_have_is_passed_over_where_nobody_chose() {
        let mut model = sample();
        model.taken = [(Protocol::Tcp, 32_768), (Protocol::Tcp, 32_770), (Protocol::Udp, 32_769)].into();
        for (text, expected) in [
            ("80", "0.0.0.0,:: 32769->80/tcp"),
            ("80-81", "0.0.0.0,:: 32771-32772->80-81/tcp"),
            ("53/udp", "0.0.0.0,:: 32768->53/udp"),
            ("32770:80", "0.0.0.0,:: 32770->80/tcp"),
        ] {
            assert_eq!(shown(&model.publish("alice", &text.parse().unwrap()).unwrap()), expected);
        }
        model.taken = (1..=u16::MAX).map(|port| (Protocol::Tcp, port)).collect();
        let why = refused(&mut model, |model| model.publish("alice", &"82".parse().unwrap()));
        assert_eq!(why.kind, Kind::PortsExhausted);
    }

    #[test]
    fn who_may_call_is_a_containers_or_a_publishes_own() {
        let mut model = sample();
        let [four, six, one] =
            ["192.0.2.0/24", "2001:db8::/32", "198.51.100.7/32"].map(|net| net.parse::<IpNet>().unwrap());
        let spec = ContainerSpec {
            publish_from: vec![four, six],
            restricted: vec![("9000:90".parse().unwrap(), vec![one])],
            expose: vec!["81".parse().unwrap()],
            publish_all: true,
            ..publishes("web", &["net1"], &["8000:80"])
        };
        let web = model.create_container(&spec, id(20), 9).unwrap();
        let from: Vec<&[IpNet]> = web.publishes.iter().map(|publish| publish.from.as_slice()).collect();
        assert_eq!(from, [&[four, six][..], &[one], &[four, six]]);
        assert_eq!(shown(&web.publishes[1]), "0.0.0.0 9000->90/tcp", "nobody calls by IPv6");
        // By the way: the container's, or other ones.
        assert_eq!(model.publish("web", &"82".parse().unwrap()).unwrap().from, [four, six]);
        let own = model.publish_from("web", &"[::]:8083:83".parse().unwrap(), &[six]).unwrap();
        assert_eq!((shown(&own).as_str(), own.from), (":: 8083->83/tcp", vec![six]));
        assert!(model.publish("alice", &"84".parse().unwrap()).unwrap().from.is_empty());
        for (text, from, why) in [
            ("127.0.0.1:85:85", six, "for 2001:db8::/32: 127.0.0.1 is IPv4 and never called from IPv6"),
            ("[::1]:85:85", four, "for 192.0.2.0/24: ::1 is IPv6 and never called from IPv4"),
        ] {
            let spec = text.parse().unwrap();
            let refused = refused(&mut model, |model| model.publish_from("alice", &spec, &[from]));
            assert!(refused.kind == Kind::BadAddress && refused.message.contains(why), "{refused}");
        }
    }

    #[test]
    fn all_that_is_exposed_can_be_published() {
        let mut model = sample();
        let expose = ["80", "53/udp", "90-91"].map(|text| text.parse().unwrap()).to_vec();
        let spec = ContainerSpec { expose, publish_all: true, ..publishes("web", &["net1"], &["8000:80"]) };
        let web = model.create_container(&spec, id(20), 9).unwrap();
        let all: Vec<String> = web.publishes.iter().map(shown).collect();
        assert_eq!(
            all,
            ["0.0.0.0,:: 8000->80/tcp", "0.0.0.0,:: 32768->53/udp", "0.0.0.0,:: 32768-32769->90-91/tcp"]
        );
    }

    #[test]
    fn conflicts_name_who_has_the_port() {
        let mut model = sample();
        model.create_container(&publishes("web", &["net1"], &["8000-8010:80-90"]), id(20), 9).unwrap();
        let table = [
            (
                "8005:80",
                "container 'alice' cannot publish 0.0.0.0:8005/tcp: container 'web' has 0.0.0.0:8000-8010 already: choose another outer port",
            ),
            (
                "10.0.0.1:8010:80",
                "container 'alice' cannot publish 10.0.0.1:8010/tcp: container 'web' has 0.0.0.0:8000-8010 already: choose another outer port",
            ),
            (
                "[fd00::1]:8000:80",
                "container 'alice' cannot publish [fd00::1]:8000/tcp: container 'web' has 0.0.0.0:8000-8010 already: choose another outer port",
            ),
        ];
        for (text, message) in table {
            let why = refused(&mut model, |model| model.publish("alice", &text.parse().unwrap()));
            assert_eq!((why.kind, why.message.as_str()), (Kind::PortInUse, message));
        }
        let twice = publishes("twice", &["net1"], &["9000:80", "9000:90"]);
        let why = refused(&mut model, |model| model.create_container(&twice, id(21), 9).map(drop));
        assert!(why.message.contains("itself has 0.0.0.0:9000 already"), "{why}");
        model.publish("alice", &"8000:80/udp".parse().unwrap()).unwrap();
        model.publish("alice", &"8011:80".parse().unwrap()).unwrap();
        // Who ends holds nothing.
        model.ended(id(20), Some(0), 10).unwrap();
        assert!(model.container(id(20)).unwrap().publishes.is_empty());
        assert_eq!(
            refused(&mut model, |model| model.publish("web", &"80:80".parse().unwrap())).kind,
            Kind::BadState
        );
        model.publish("alice", &"8005:80".parse().unwrap()).unwrap();
        let why = refused(&mut model, |model| model.unpublish("alice", &"81".parse().unwrap()));
        assert_eq!(
            why.message,
            "container 'alice' does not publish 81/tcp: it publishes 8000:80/udp, 8011:80/tcp, 8005:80/tcp"
        );
        assert_eq!(model.unpublish("alice", &"8005:80".parse().unwrap()).unwrap().len(), 1);
        assert_eq!(model.unpublish("alice", &"80".parse().unwrap()).unwrap().len(), 1);
    }

    #[test]
    fn free_ports_run_out() {
        let mut model = sample();
        let all: PublishSpec = "32768-60999:1-28232".parse().unwrap();
        model.publish("alice", &all).unwrap();
        let why = refused(&mut model, |model| model.publish("router", &"80".parse().unwrap()));
        assert_eq!(why.kind, Kind::PortsExhausted);
        assert!(
            why.message.starts_with(
                "no 1 free ports from 32768 to 60999 are left to publish 80/tcp of container 'router'"
            ),
            "{why}"
        );
        let why = refused(&mut model, |model| model.publish("router", &"60990-60999:80".parse().unwrap()));
        assert_eq!(why.kind, Kind::PortsExhausted);
        model.publish("router", &"60990-61000:80".parse().unwrap()).unwrap();
        let wide = refused(&mut model, |model| model.publish("router", &"1-60000".parse().unwrap()));
        assert_eq!(wide.kind, Kind::PortsExhausted, "wider than there are free ones");
    }

    #[test]
    fn a_network_may_bind_its_publishes() {
        let mut model = sample();
        let bound = NetworkSpec {
            options: vec![("host_binding".to_owned(), "198.51.100.1".to_owned())],
            ..network("bound", &[])
        };
        model.create_network(&bound, id(9), 9, &[]).unwrap();
        let inner = NetworkSpec { internal: true, ..network("inner", &[]) };
        model.create_network(&inner, id(10), 9, &[]).unwrap();
        let spec = publishes("web", &["inner", "bound", "net1"], &["80:80", "10.0.0.1:81:80"]);
        let web = model.create_container(&spec, id(20), 9).unwrap().clone();
        let all: Vec<String> = web.publishes.iter().map(shown).collect();
        assert_eq!(all, ["198.51.100.1,:: 80->80/tcp", "10.0.0.1 81->80/tcp"]);
        let (out, index, address) = model.way_out(&web.endpoints, true).unwrap();
        assert_eq!((out.name.as_str(), index, address.to_string().as_str()), ("bound", 1, "172.18.0.2"));
        let (out, index, address) = model.way_out(&web.endpoints, false).unwrap();
        assert_eq!((out.name.as_str(), index, address.to_string().as_str()), ("net1", 2, "fd00:19::4"));
        assert!(model.way_out(&web.endpoints[..1], true).is_none());
    }
}
