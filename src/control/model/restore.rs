//! A model out of what was saved of one.
//!
//! Whatever the operations check before they change a model is checked here of the whole: names,
//! addresses, numbers and ids are each one's own, and what is referred to is there.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;

use super::network::check_mtu;
use super::{Container, ContainerKind, Driver, Endpoint, Model, Network, Side, State, StaticRoute};
use crate::control::config::DaemonConfig;
use crate::control::ipam::{Subnet, SubnetSpec, overlap};
use crate::control::naming::{check_hostname, check_interface};
use crate::control::state::Saved;
use crate::control::{Id, Kind, Refused, sysctl};

/// The data plane indexes its tables by the numbers of networks and ports: larger ones than this are nobody's.
const NUMBERS: u32 = 1 << 20;

/// What one model has that is not another's, and what it has no more.
#[derive(Debug)]
pub struct Difference<'a> {
    /// Networks and uplinks.
    pub networks: Vec<&'a Network>,
    /// Containers, and who has the ports of uplinks and of the host.
    pub containers: Vec<&'a Container>,
    /// Static routes.
    pub routes: Vec<&'a StaticRoute>,
    /// Those that have gone.
    pub gone_networks: Vec<Id>,
    /// The same of containers.
    pub gone_containers: Vec<Id>,
    /// The same of routes.
    pub gone_routes: Vec<IpNet>,
}

fn differing<'a, K: Ord + Copy, V: Eq>(
    new: &'a BTreeMap<K, V>,
    old: &BTreeMap<K, V>,
) -> (Vec<&'a V>, Vec<K>) {
    if new == old {
        // The usual case, and a comparison of pointers where values are shared.
        return (Vec::new(), Vec::new());
    }
    let changed = new.iter().filter(|(key, value)| old.get(key) != Some(value)).map(|(_, value)| value);
    let gone = old.keys().filter(|key| !new.contains_key(key)).copied();
    (changed.collect(), gone.collect())
}

impl Model {
    /// The model that `saved` was made of, of a daemon that is told `config` now.
    ///
    /// Network `bridge` is as it was while anybody is on it, or as long as nothing is said of it now; else it
    /// is made anew, with its id. Without a saved one it gets id `bridge`.
    ///
    /// # Errors
    /// What of it no model can have; `pools_exhausted`.
    pub fn restore(
        config: &DaemonConfig,
        saved: &Saved,
        bridge: Id,
        now_ns: u64,
        host: &[IpNet],
    ) -> Result<Self, Refused> {
        let mut model = Self::empty(config);
        let default = saved.networks.iter().find(|network| network.is_default());
        let is_used = |it: &Network| {
            let mut endpoints = saved.containers.iter().flat_map(|kept| &kept.container.endpoints);
            endpoints.any(|endpoint| endpoint.network == it.id)
        };
        let says_nothing = config.default_network() == DaemonConfig::default().default_network();
        let anew = default.is_none_or(|it| !says_nothing && !is_used(it));
        for network in &saved.networks {
            if !(anew && network.is_default()) {
                model.restore_network(network)?;
            }
        }
        if anew {
            let (id, created_ns) = default.map_or((bridge, now_ns), |it| (it.id, it.created_ns));
            model.add_default_network(config, id, created_ns, host)?;
        }
        for network in model.networks.values() {
            model.check_uplink(&network.options)?;
        }
        for kept in &saved.containers {
            model.restore_container(&kept.container)?;
        }
        model.restore_policy(saved)?;
        if let Some(forward) = config.ip_forward {
            (model.settings.forward_v4, model.settings.forward_v6) = (forward, forward);
        }
        Ok(model)
    }

    /// What is not as in `old`.
    pub fn difference<'a>(&'a self, old: &Self) -> Difference<'a> {
        let (networks, gone_networks) = differing(&self.networks, &old.networks);
        let (containers, gone_containers) = differing(&self.containers, &old.containers);
        let (routes, gone_routes) = differing(&self.routes, &old.routes);
        let containers = containers.into_iter().map(Arc::as_ref).collect();
        Difference { networks, containers, routes, gone_networks, gone_containers, gone_routes }
    }

    /// All networks and uplinks, and all containers, listed or not, by their ids.
    pub fn everything(&self) -> (impl Iterator<Item = &Network>, impl Iterator<Item = &Container>) {
        (self.networks.values(), self.all_containers())
    }

    fn restore_network(&mut self, saved: &Network) -> Result<(), Refused> {
        let mut network = saved.clone();
        let (name, what) = (saved.name.as_str(), saved.what());
        // Without leases: the endpoints have them.
        let bare = |subnet: &Subnet| Subnet::new(&SubnetSpec::from(subnet.clone()));
        network.subnets = saved.subnets.iter().map(bare).collect::<Result<_, _>>()?;
        self.check_network_name(what, name, saved.id)?;
        if saved.uplink.is_some() {
            check_interface(name)?;
            network.driver = Driver::Uplink;
        }
        self.check_bridge_name(&network)?;
        check_mtu(&network)?;
        for (index, subnet) in network.subnets.iter().enumerate() {
            self.check_overlap(what, name, subnet.prefix())?;
            if network.subnets.iter().take(index).any(|other| overlap(other.prefix(), subnet.prefix())) {
                return Err(bad(format!("{what} '{name}' has two subnets that overlap")));
            }
        }
        if network.subnets.is_empty() {
            return Err(bad(format!("{what} '{name}' has no subnet")));
        }
        if network.number >= NUMBERS || self.networks.values().any(|it| it.number == network.number) {
            return Err(bad(format!("number {} of {what} '{name}' cannot be its own", network.number)));
        }
        self.commit_network(network);
        Ok(())
    }

    fn restore_container(&mut self, saved: &Container) -> Result<(), Refused> {
        let mut container = saved.clone();
        if let Some(network) = self.networks.get(&saved.id) {
            container.kind =
                if network.uplink.is_some() { ContainerKind::Uplink } else { ContainerKind::Host };
        }
        let name = &saved.name;
        self.check_container_name("container", name, saved.id)?;
        let aliases = saved.links.iter().map(|link| &link.alias);
        let hosts = saved.extra_hosts.iter().map(|(host, _)| host);
        for host in aliases.chain(hosts).chain([&saved.hostname]) {
            check_hostname(host)?;
        }
        if saved.publishes.iter().any(|it| it.host.len() != it.container.ports.len()) {
            return Err(bad(format!("container '{name}' publishes ranges of different lengths")));
        }
        let holds_nothing = saved.endpoints.is_empty() && saved.publishes.is_empty();
        if !saved.is_alive() && !holds_nothing {
            return Err(bad(format!("container '{name}' has ended and is on networks")));
        }
        if saved.state == State::Running && saved.pid.is_none() {
            return Err(bad(format!("container '{name}' runs without a process")));
        }
        for (index, endpoint) in saved.endpoints.iter().enumerate() {
            let existing = saved.endpoints.iter().take(index);
            let twice = |it: &Endpoint| it.network == endpoint.network || it.ifname == endpoint.ifname;
            if existing.into_iter().any(twice) {
                return Err(bad(format!("container '{name}' has a network or an interface twice")));
            }
            self.check_endpoint(&container, endpoint)?;
            self.take(endpoint);
        }
        self.containers.insert(container.id, container.into());
        Ok(())
    }

    /// Whether an endpoint can be had by a container that is not in the model yet.
    fn check_endpoint(&self, container: &Container, endpoint: &Endpoint) -> Result<(), Refused> {
        let name = &container.name;
        let refuse = |what: &str| Err(bad(format!("container '{name}' {what}")));
        let Some(network) = self.network(endpoint.network) else {
            return refuse("is on a network that is not there");
        };
        check_interface(&endpoint.ifname)?;
        check_interface(&endpoint.alias)?;
        endpoint.aliases.iter().try_for_each(|alias| check_hostname(alias))?;
        if endpoint.port >= NUMBERS || self.port_numbers.contains(endpoint.port.into()) {
            return refuse(&format!("has port number {}, which cannot be its own", endpoint.port));
        }
        let mut others = self.all_endpoints().map(|(_, other)| other);
        if others.any(|other| other.alias == endpoint.alias) {
            return refuse(&format!("has another's alias {}", endpoint.alias));
        }
        let leads_outside = container.kind == ContainerKind::Uplink;
        if !endpoint.mac.is_station() || (!leads_outside && self.mac_holder(network, endpoint.mac).is_some())
        {
            return refuse(&format!("has MAC address {}, which cannot be its own", endpoint.mac));
        }
        let expected = if leads_outside { 0 } else { network.subnets.len() };
        if endpoint.addresses.len() != expected {
            return refuse(&format!("has not one address for each subnet of network '{}'", network.name));
        }
        for (address, subnet) in endpoint.addresses.iter().zip(&network.subnets) {
            let wish = subnet.choose(Some(address.addr()));
            wish.map_err(|error| bad(format!("container '{name}', network '{}': {error}", network.name)))?;
            if address.prefix_len() != subnet.prefix().prefix_len() {
                return refuse(&format!("has {address}, of another length than {}", subnet.prefix()));
            }
        }
        Ok(())
    }

    fn restore_policy(&mut self, saved: &Saved) -> Result<(), Refused> {
        for rule in &saved.rules {
            for side in [&rule.from, &rule.to] {
                if matches!(side, Side::Network(id) if self.network(*id).is_none()) {
                    return Err(bad("a rule is about a network that is not there".to_owned()));
                }
            }
        }
        self.rules.clone_from(&saved.rules);
        for route in &saved.routes {
            let known = self.network(route.network).is_some();
            if !known || route.prefix.trunc() != route.prefix || self.routes.contains_key(&route.prefix) {
                return Err(bad(format!("the route to {} leads nowhere", route.prefix)));
            }
            self.routes.insert(route.prefix, route.clone());
        }
        for (key, value) in &saved.settings {
            sysctl::set(&mut self.settings, key, value)?;
        }
        Ok(())
    }
}

fn bad(text: String) -> Refused {
    Refused::new(Kind::BadRequest, text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{check_invariants, container, id, network, sample, step};
    use super::super::*;
    use crate::control::compile::plan;
    use crate::control::journal::{Changes, Position, Record};
    use crate::control::ports::PublishSpec;
    use crate::control::state::{BadState, Kept, KeptShell, Origin, Process, Saved, Whence};
    use crate::control::sysctl;

    fn config() -> DaemonConfig {
        DaemonConfig::default()
    }

    fn kept(container: &Container) -> Kept {
        Kept { container: container.clone(), shell: shell(container.id) }
    }

    fn saved(model: &Model) -> Saved {
        Saved::of(model, "boot", kept)
    }

    fn shell(of: Id) -> KeptShell {
        let [pid, started, ..] = *of.bytes();
        KeptShell {
            spec: container("spec", &["net1"]),
            auto_remove: pid % 2 == 0,
            whence: Whence {
                process: Some(Process { pid: pid.into(), started: started.into() }),
                origin: Some(Origin { netns: Some("/run/netns/x".into()), ..Origin::default() }),
            },
        }
    }

    fn text(model: &Model) -> Vec<u8> {
        saved(model).text().unwrap()
    }

    fn read(text: &[u8]) -> Result<Model, BadState> {
        Ok(Model::restore(&config(), &Saved::parse(text)?, id(250), 99, &[])?)
    }

    /// The sample with something of everything that can be declared.
    fn full() -> Model {
        let mut model = sample();
        model.create_uplink(&UplinkSpec::standard(), id(30), 6).unwrap();
        let lan = NetworkSpec {
            options: vec![
                ("host_port".to_owned(), "true".to_owned()),
                ("uplink".to_owned(), "user".to_owned()),
            ],
            labels: [("who".to_owned(), "x".to_owned())].into(),
            lab: Some("demo".to_owned()),
            ..network("lan", &["10.9.0.0/24"])
        };
        model.create_network(&lan, id(31), 7, &[]).unwrap();
        model.plug_host(id(31), 8).unwrap();
        let web = ContainerSpec {
            networks: vec!["lan:alias=www,mac=02:00:00:00:00:09".parse().unwrap()],
            publish: vec!["127.0.0.1:8000-8001:80-81".parse().unwrap()],
            publish_from: vec!["127.0.0.0/8".parse().unwrap()],
            expose: vec!["53/udp".parse().unwrap()],
            dns: vec!["192.0.2.1".parse().unwrap()],
            extra_hosts: vec![("far".to_owned(), "192.0.2.9".parse().unwrap())],
            ..container("web", &[])
        };
        model.create_container(&web, id(32), 9).unwrap();
        model.started(id(32), 4711, 10).unwrap();
        let peer = ContainerSpec { links: vec!["web:db".parse().unwrap()], ..container("peer", &["lan"]) };
        model.create_container(&peer, id(33), 11).unwrap();
        model.create_container(&container("on-host", &["host"]), id(36), 12).unwrap();
        model.create_container(&container("gone", &[]), id(34), 12).unwrap();
        model.ended(id(34), Some(3), 13).unwrap();
        let rule = |from: &str| RuleSpec {
            from: Some(from.to_owned()),
            to: None,
            proto: Some("tcp".to_owned()),
            dport: Some("80".parse().unwrap()),
            state: Some("new,established".to_owned()),
            action: crate::control::docker_rules::Action::Reject,
            lab: None,
        };
        for from in ["net:lan", "web", "192.0.2.0/24"] {
            model.add_rule(&rule(from), None).unwrap();
        }
        let route = RouteSpec {
            prefix: "198.51.100.0/24".parse().unwrap(),
            via: Some("172.19.0.9".parse().unwrap()),
            dev: None,
            lab: None,
        };
        model.add_route(&route).unwrap();
        sysctl::set(&mut model.settings, "net.netfilter.nf_conntrack_udp_timeout", "7").unwrap();
        model
    }

    #[test]
    fn everything_that_can_be_declared_comes_back() {
        let model = full();
        let text = text(&model);
        let back = read(&text).unwrap();
        assert_eq!(back, model);
        assert_eq!(plan(&back), plan(&model));
        let saved = Saved::parse(&text).unwrap();
        assert!(saved.containers.iter().all(|Kept { container, shell: kept }| *kept == shell(container.id)));
        // A port that is free is handed out as before, one that is not is not.
        let mut back = back;
        let taken: PublishSpec = "127.0.0.1:8000:9".parse().unwrap();
        assert_eq!(back.publish("peer", &taken).unwrap_err().kind, Kind::PortInUse);
        let new = back.create_container(&container("new", &["lan"]), id(35), 20).unwrap();
        assert_eq!(new.endpoints[0].addresses[0].to_string(), "10.9.0.4/24");
    }

    #[test]
    fn what_the_daemon_is_told_now_holds() {
        let told = |text: &str| DaemonConfig::parse("daemon.json", text).unwrap();
        let model = full();
        let state = saved(&model);
        let restore =
            |config: &DaemonConfig, saved: &Saved| Model::restore(config, saved, id(250), 99, &[]).unwrap();
        // Nobody is on network bridge: it is made anew, and keeps its id.
        let bip = told(r#"{"bip": "172.26.0.1/16", "ip-forward": false}"#);
        let bridge = restore(&bip, &state).find_network("bridge").unwrap().clone();
        assert_eq!((bridge.id, bridge.subnets[0].prefix().to_string()), (id(0), "172.26.0.0/16".to_owned()));
        assert!(!restore(&bip, &state).settings.forward_v4);
        let mut used = model.clone();
        used.create_container(&container("on-bridge", &["bridge"]), id(40), 20).unwrap();
        let kept = restore(&bip, &saved(&used)).find_network("bridge").unwrap().clone();
        assert_eq!(&kept, used.find_network("bridge").unwrap(), "somebody has an address there");
    }

    #[test]
    fn what_is_no_state_is_refused_with_the_reason() {
        let good = String::from_utf8(text(&full())).unwrap();
        let with = |from: &str, to: &str| {
            assert!(good.contains(from), "{from} in {good}");
            good.replacen(from, to, 1)
        };
        let net1 = id(1).to_string();
        let table = [
            (String::new(), "it is no state of a tapswitch: EOF"),
            (good[..good.len() - 1].to_owned(), "it is no state of a tapswitch: EOF"),
            ("[1]".to_owned(), "it is no state of a tapswitch: "),
            ("[".repeat(100_000), "it is no state of a tapswitch: "),
            (
                with("\"version\":2", "\"version\":3"),
                "it is of format 3, and this tapswitch reads formats 1 to 2: ",
            ),
            (with("\"rules\"", "\"rulez\""), "unknown field `rulez`"),
            (with("\"172.19.0.2/16\"", "\"172.19.0.1/16\""), "172.19.0.1 is the gateway"),
            (with("\"172.19.0.3/16\"", "\"172.19.0.2/16\""), "172.19.0.2 is in use"),
            (with("\"172.19.0.2/16\"", "\"172.19.0.2/24\""), "of another length"),
            (with("\"name\":\"web\"", "\"name\":\"peer\""), "Conflict. The container name \"/peer\""),
            (with("\"name\":\"net2\"", "\"name\":\"net1\""), "net1 already exists"),
            (with("\"name\":\"net2\"", "\"name\":\"../x\""), "is not allowed"),
            (
                with("172.20.0.0/16", "172.19.128.0/17"),
                "failed to allocate gateway (172.20.0.1): it is outside",
            ),
            (with("\"number\":1", "\"number\":0"), "number 0"),
            (with("\"number\":1", "\"number\":4294967295"), "number 4294967295"),
            (with("\"port\":1", "\"port\":4294967295"), "port number 4294967295"),
            (with("\"ifname\":\"eth1\"", "\"ifname\":\"eth0\""), "an interface twice"),
            (
                with(&format!("\"network\":\"{net1}\""), &format!("\"network\":\"{}\"", id(99))),
                "that is not there",
            ),
            (with("02:00:00:00:00:09", "01:00:00:00:00:09"), "MAC address 01:00:00:00:00:09"),
            (with("\"host\":\"8000-8001\"", "\"host\":\"8000-8002\""), "different lengths"),
            (with("nf_conntrack_udp_timeout\":\"7", "nf_conntrack_udp_timeout\":\"-7"), "cannot be '-7'"),
        ];
        for (text, part) in table {
            let why = read(text.as_bytes()).unwrap_err().to_string();
            assert!(why.contains(part) && why.lines().count() == 1, "{part}: {why}");
        }
    }

    #[test]
    fn rules_that_come_and_go_anywhere_are_noted() {
        let mut model = full();
        let mut saved = saved(&model);
        saved.journal.life = 7;
        let rule = |port: usize| RuleSpec {
            from: None,
            to: None,
            proto: Some("udp".to_owned()),
            dport: Some(port.to_string().parse().unwrap()),
            state: None,
            action: crate::control::docker_rules::Action::Drop,
            lab: None,
        };
        for (number, before) in (1..).zip([Some(1), None, Some(3), Some(2), None]) {
            let old = model.clone();
            model.add_rule(&rule(usize::try_from(number).unwrap()), before).unwrap();
            if number == 4 {
                model.remove_rule(1).unwrap();
            }
            let at = Position { life: 7, number };
            let changes = Changes::between(&old, &model, kept).unwrap();
            saved.catch_up(&[serde_json::to_vec(&Record { at, changes }).unwrap()]).unwrap();
            assert_eq!(saved.rules, model.rules());
        }
        let bad = r#"{"at":{"life":7,"number":6},"changes":{"rules":{"at":8,"gone":9,"rules":[]}}}"#;
        assert!(matches!(saved.catch_up(&[bad.into()]), Err(BadState::Contents(_))));
    }

    #[test]
    fn the_former_format_is_read() {
        let text = String::from_utf8(text(&full())).unwrap();
        let old = text.replacen("\"version\":2", "\"version\":1", 1);
        let old = old.replacen("\"journal\":{\"life\":0,\"number\":0},", "", 1);
        assert_ne!(old.len(), text.len());
        assert_eq!(read(old.as_bytes()).unwrap(), full());
    }

    proptest! {
        /// A state, and what was noted since, are the model as it was when the last record was noted.
        #[test]
        fn what_was_noted_is_there(
            steps in proptest::collection::vec(any::<[u8; 4]>(), 1..40),
            from in any::<prop::sample::Index>(),
            until in any::<prop::sample::Index>(),
        ) {
            let mut models = vec![Model::new(id(200), 1, &[]).unwrap()];
            for [action, who, place, extra] in steps {
                let mut model = models.last().unwrap().clone();
                let _ = step(&mut model, action, who, place, extra);
                models.push(model);
            }
            let position = |index: usize| Position { life: 7, number: u64::try_from(index).unwrap() };
            let mut state = None;
            let mut records = Vec::new();
            let (from, until) = (from.index(models.len()), until.index(models.len()));
            for (index, model) in models.iter().enumerate().take(until.max(from) + 1) {
                if index > 0 {
                    let changes = Changes::between(&models[index - 1], model, kept).unwrap_or_default();
                    let at = position(index);
                    records.push(serde_json::to_vec(&Record { at, changes }).unwrap());
                }
                if index == from {
                    let mut it = saved(model);
                    it.journal = position(index);
                    state = Some(it);
                }
            }
            // Files are read in any order, and what another daemon left there is not ours.
            records.reverse();
            let foreign = Record { at: Position { life: 6, number: position(from).number + 1 }, changes: Changes::default() };
            records.push(serde_json::to_vec(&foreign).unwrap());
            let mut state = state.unwrap();
            state.catch_up(&records).unwrap();
            let back = Model::restore(&DaemonConfig::default(), &state, id(250), 99, &[]).unwrap();
            prop_assert_eq!(&back, &models[until.max(from)]);
        }

        #[test]
        fn what_operations_made_comes_back(steps in proptest::collection::vec(any::<[u8; 4]>(), 0..60)) {
            let mut model = Model::new(id(200), 1, &[]).unwrap();
            for [action, who, place, extra] in steps {
                let _ = step(&mut model, action, who, place, extra);
            }
            prop_assert_eq!(read(&text(&model)).unwrap(), model);
        }

        /// Any bytes are refused, or are a model that keeps what all models keep.
        #[test]
        fn bent_text_never_makes_a_bent_model(
            blows in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..4, any::<u8>()), 1..6),
        ) {
            const LETTERS: &[u8] = b"0123456789abf\"[]{}:,.-/ne";
            let mut bytes = text(&full());
            for (at, how, byte) in blows {
                let at = at.index(bytes.len());
                let letter = LETTERS[usize::from(byte) % LETTERS.len()];
                match how {
                    0 => bytes.truncate(at + 1),
                    1 => bytes[at] = byte,
                    2 => bytes[at] = letter,
                    _ => bytes.insert(at, letter),
                }
            }
            if let Ok(model) = read(&bytes) {
                check_invariants(&model);
                let _ = plan(&model);
            }
        }
    }
}
