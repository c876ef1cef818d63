//! Containers and their endpoints.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::joins::not_connected;
use super::{Endpoint, EndpointSpec, Link, LinkSpec, Model, Unswitched};
use crate::control::naming::{check_hostname, check_name, generate};
use crate::control::ports::{Exposed, Publish, PublishSpec};
use crate::control::{Id, Kind, Refused};

/// Whose namespaces a container's are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerKind {
    /// Ours, made by `run` or a lab.
    #[default]
    Run,
    /// Somebody else's, joined by `plug`.
    Plugged,
    /// None: it stands for what is behind an uplink's port.
    #[serde(skip)]
    Uplink,
    /// None: it stands for the host on a network with option `host_port`.
    #[serde(skip)]
    Host,
}

impl ContainerKind {
    // serde asks by reference.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    fn is_unlisted(&self) -> bool {
        !self.is_listed()
    }

    /// Whether it is a container to people, not only the owner of a port.
    pub const fn is_listed(self) -> bool {
        matches!(self, Self::Run | Self::Plugged)
    }
}

/// The life of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Known, addresses leased, nothing runs yet.
    Created,
    /// Its namespace is there and its ports are up.
    Running,
    /// Its command ended; it has no endpoints any more.
    Exited {
        /// The command's exit code, or 128 + the signal that ended it.
        code: i32,
    },
    /// Its namespace vanished without an exit code; it has no endpoints any more.
    Lost,
}

/// A container as a user asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContainerSpec {
    /// Unique among containers; generated if none is given.
    pub name: Option<String>,
    /// The first 12 digits of the id if none is given.
    pub hostname: Option<String>,
    /// Words of the command; none idles.
    pub command: Vec<String>,
    /// The image that was asked for, which gave it nothing but this name; empty if none was.
    pub image: String,
    /// Environment of the command.
    pub env: Vec<(String, String)>,
    /// Where the command starts.
    pub workdir: Option<PathBuf>,
    /// Whether the command has a terminal.
    pub terminal: bool,
    /// Whether the command's standard input is open: also when nobody writes to it, in the background.
    pub interactive: bool,
    /// Whether its TAPs carry plain frames, whatever the daemon's default is.
    pub plain: bool,
    /// How many bytes a file of its log holds at most.
    pub log_size: Option<u64>,
    /// Settings of its own network stack, key and value.
    pub sysctls: Vec<(String, String)>,
    /// Whether it forwards packets between its interfaces; IPv4 alone, as in Docker, when it is not said.
    pub forward: Option<bool>,
    /// Whose namespaces.
    pub kind: ContainerKind,
    /// The lab it came with, and goes with.
    pub lab: Option<String>,
    /// More lines for its /etc/hosts.
    pub extra_hosts: Vec<(String, IpAddr)>,
    /// Name servers of its own; none: those of its networks.
    pub dns: Vec<IpAddr>,
    /// Networks to join, in order of its interfaces; or `host` or `none` alone.
    pub networks: Vec<EndpointSpec>,
    /// Ports to be reached from outside.
    pub publish: Vec<PublishSpec>,
    /// Who may call what it publishes; empty: everybody.
    pub publish_from: Vec<IpNet>,
    /// More ports to be reached from outside, each by sources of its own.
    pub restricted: Vec<(PublishSpec, Vec<IpNet>)>,
    /// Publish every exposed port, too.
    pub publish_all: bool,
    /// Ports that it is meant to be used by.
    pub expose: Vec<Exposed>,
    /// Containers whose exposed ports it may use.
    pub links: Vec<LinkSpec>,
    /// Free for the user.
    pub labels: BTreeMap<String, String>,
}

/// A container that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// Never used again once the container is gone.
    pub id: Id,
    /// Unique among containers.
    pub name: String,
    /// What `hostname` prints inside.
    pub hostname: String,
    /// Words of the command; none idles.
    pub command: Vec<String>,
    /// The image that was asked for, which gave it nothing but this name; empty if none was.
    pub image: String,
    /// Environment of the command.
    pub env: Vec<(String, String)>,
    /// The lab it came with, and goes with.
    pub lab: Option<String>,
    /// Where it is in its life.
    pub state: State,
    /// Whose namespaces; of what is no container to people, not said in text.
    #[serde(default, skip_serializing_if = "ContainerKind::is_unlisted")]
    pub kind: ContainerKind,
    /// Its first process as the daemon sees it, while it runs.
    pub pid: Option<u32>,
    /// When it was made, in nanoseconds since 1970.
    pub created_ns: u64,
    /// When it entered its state, in nanoseconds since 1970.
    pub changed_ns: u64,
    /// More lines for its /etc/hosts.
    pub extra_hosts: Vec<(String, IpAddr)>,
    /// Name servers of its own; none: those of its networks.
    pub dns: Vec<IpAddr>,
    /// The network that it is on instead of any of the switch's.
    pub unswitched: Option<Unswitched>,
    /// Where it is connected, in order of connecting.
    pub endpoints: Vec<Endpoint>,
    /// Where it is to be connected whenever it runs, by names of networks, `host` and `none` among them.
    #[serde(default)]
    pub joins: Vec<EndpointSpec>,
    /// The name of the network that it was made on; `default` is `bridge`.
    #[serde(default)]
    pub mode: String,
    /// The next number for an interface of each prefix: none is given twice while it runs.
    #[serde(default)]
    pub next_interface: BTreeMap<String, u32>,
    /// Ports that can be reached from outside, while it lives.
    pub publishes: Vec<Publish>,
    /// Who may call what it publishes without saying who; empty: everybody.
    pub publish_from: Vec<IpNet>,
    /// Ports that it is meant to be used by, beside those published.
    pub exposed: Vec<Exposed>,
    /// Containers whose ports it may use.
    pub links: Vec<Link>,
    /// Free for the user.
    pub labels: BTreeMap<String, String>,
}

impl Container {
    /// The port's name for people: `CONTAINER:IFNAME`, or the container's alone if it has one port.
    pub fn port_name(&self, endpoint: &Endpoint) -> String {
        match self.endpoints.len() {
            0 | 1 => self.name.clone(),
            _ => format!("{}:{}", self.name, endpoint.ifname),
        }
    }

    /// Notes that an interface has this name: the next one of its prefix has a higher number.
    pub(super) fn count_interface(&mut self, ifname: &str) {
        let prefix = ifname.trim_end_matches(|c: char| c.is_ascii_digit());
        let number = ifname.strip_prefix(prefix).and_then(|digits| digits.parse::<u32>().ok());
        if let Some(next) = number.and_then(|number| number.checked_add(1)) {
            let known = self.next_interface.entry(prefix.to_owned()).or_default();
            *known = next.max(*known);
        }
    }

    /// Whether it holds addresses and ports, or may get them.
    pub const fn is_alive(&self) -> bool {
        matches!(self.state, State::Created | State::Running)
    }
}

impl Model {
    /// Makes a container and leases its addresses on every network that it joins; all, or nothing.
    ///
    /// # Errors
    /// `bad_name`, `name_taken`, and those of [`Model::connect`], [`Model::publish`] and [`Model::link`].
    pub fn create_container(
        &mut self,
        spec: &ContainerSpec,
        id: Id,
        now_ns: u64,
    ) -> Result<&Container, Refused> {
        let container = self.plan_container(spec, id, now_ns)?;
        for endpoint in &container.endpoints {
            self.take(endpoint);
        }
        Ok(self.containers.entry(id).or_insert_with(|| container.into()))
    }

    /// Makes a container that has ended once more, of the same id: as it was before when that is refused.
    ///
    /// # Errors
    /// As [`create_container`](Self::create_container); `bad_state` if it has not ended.
    pub fn create_again(&mut self, spec: &ContainerSpec, id: Id, now_ns: u64) -> Result<Container, Refused> {
        let former = self.containers.get(&id).cloned().ok_or_else(|| unknown(&id.short()))?;
        if former.is_alive() {
            let text = format!("container '{}' is running already", former.name);
            return Err(Refused::new(Kind::BadState, text));
        }
        self.containers.remove(&id);
        // It is where it was at the end, and its links hold as before, whether or not the others live.
        let spec = ContainerSpec { networks: former.joins.clone(), links: Vec::new(), ..spec.clone() };
        if let Err(refused) = self.create_container(&spec, id, now_ns) {
            self.containers.insert(id, former);
            return Err(refused);
        }
        self.container_mut(id).into_iter().for_each(|it| {
            (it.created_ns, it.mode, it.links) =
                (former.created_ns, former.mode.clone(), former.links.clone());
        });
        Ok(Arc::unwrap_or_clone(former))
    }

    /// A container that was created once more did not come to run: it is again what it was before, and has ended.
    pub fn put_back(&mut self, former: Container) {
        let left = self.containers.insert(former.id, Arc::new(former));
        left.iter().flat_map(|it| &it.endpoints).for_each(|endpoint| self.release(endpoint));
    }

    /// Joins a container to one more network.
    ///
    /// # Errors
    /// `unknown_container`, `unknown_network`, `ambiguous`, `bad_state`, `already_connected`,
    /// `bad_name`, `name_taken`, `bad_address`, `address_in_use`, `pool_full`, `bad_mac`, `mac_in_use`.
    pub fn connect(&mut self, word: &str, spec: &EndpointSpec) -> Result<(&Container, &Endpoint), Refused> {
        let container = self.find_container(word)?;
        let (id, name) = (container.id, &container.name);
        if !container.is_alive() {
            return Err(Refused::new(
                Kind::BadState,
                format!("container '{name}' has ended: 'tapswitch start {name}' runs it again"),
            ));
        }
        self.check_joins(container, &spec.network)?;
        let endpoint = self.plan_endpoint(container, &container.endpoints, spec)?;
        let wish = self.named(spec);
        self.take(&endpoint);
        let network = endpoint.network;
        self.container_mut(id).into_iter().for_each(|it| {
            it.count_interface(&endpoint.ifname);
            it.endpoints.push(endpoint.clone());
            it.joins.push(wish.clone());
        });
        let joined =
            self.all_endpoints().find(|(owner, endpoint)| owner.id == id && endpoint.network == network);
        joined.ok_or_else(|| unknown(word))
    }

    /// Takes a container off a network for good, and frees its addresses and port there.
    ///
    /// # Errors
    /// `unknown_container`, `unknown_network`, `ambiguous`, `not_connected`.
    pub fn disconnect(&mut self, word: &str, network: &str) -> Result<Endpoint, Refused> {
        let endpoint = self.leave(word, network)?;
        let (id, name) = (self.find_container(word)?.id, self.find_any_network(network)?.name.clone());
        self.unjoin(id, &name);
        Ok(endpoint)
    }

    /// The same until the container runs again.
    ///
    /// # Errors
    /// As [`Model::disconnect`].
    pub fn leave(&mut self, word: &str, network: &str) -> Result<Endpoint, Refused> {
        let container = self.find_container(word)?;
        let network = self.find_any_network(network)?;
        let at = container.endpoints.iter().position(|endpoint| endpoint.network == network.id);
        let at = at.ok_or_else(|| not_connected(&container.name, &network.name))?;
        let id = container.id;
        let endpoint = self.container_mut(id).map(|container| container.endpoints.remove(at));
        let endpoint = endpoint.ok_or_else(|| unknown(word))?;
        self.release(&endpoint);
        Ok(endpoint)
    }

    /// Notes that a container's first process runs.
    ///
    /// # Errors
    /// `unknown_container`; `bad_state` if it already ran.
    pub fn started(&mut self, id: Id, pid: u32, now_ns: u64) -> Result<(), Refused> {
        let container = self.container_mut(id).ok_or_else(|| unknown(&id.short()))?;
        if container.state != State::Created {
            return Err(Refused::new(
                Kind::BadState,
                format!("container '{}' has been started already: run a new one", container.name),
            ));
        }
        container.state = State::Running;
        container.pid = Some(pid);
        container.changed_ns = now_ns;
        Ok(())
    }

    /// Notes that a container ended, with its exit code if it is known, and takes it off its
    /// networks; returns the endpoints that it had.
    ///
    /// # Errors
    /// `unknown_container`.
    pub fn ended(&mut self, id: Id, code: Option<i32>, now_ns: u64) -> Result<Vec<Endpoint>, Refused> {
        let container = self.container_mut(id).ok_or_else(|| unknown(&id.short()))?;
        if container.is_alive() {
            container.state = code.map_or(State::Lost, |code| State::Exited { code });
            container.changed_ns = now_ns;
        }
        container.pid = None;
        container.publishes.clear();
        let endpoints = std::mem::take(&mut container.endpoints);
        endpoints.iter().for_each(|endpoint| self.release(endpoint));
        Ok(endpoints)
    }

    /// Notes the exit code of a container that ended without one.
    pub fn explain_end(&mut self, id: Id, code: i32) {
        let lost = self.container_mut(id).filter(|it| it.state == State::Lost);
        if let Some(container) = lost.filter(|it| it.kind == ContainerKind::Run) {
            container.state = State::Exited { code };
        }
    }

    /// Forgets a container; its endpoints, if it has any left, are freed and returned within it.
    ///
    /// # Errors
    /// `unknown_container`, `ambiguous`; `bad_state` if it runs and this is not `force`d.
    pub fn remove_container(&mut self, word: &str, force: bool) -> Result<Container, Refused> {
        let container = self.find_container(word)?;
        let (id, name) = (container.id, &container.name);
        if container.state == State::Running && !force {
            let mend = match container.kind {
                ContainerKind::Run => format!("'tapswitch stop {name}' first"),
                ContainerKind::Plugged => format!("'tapswitch unplug {name}' instead"),
                ContainerKind::Uplink => format!("'tapswitch uplink rm {name}' instead"),
                ContainerKind::Host => {
                    "'tapswitch network set NETWORK -o host_port=false' instead".to_owned()
                }
            };
            return Err(Refused::new(Kind::BadState, format!("container '{name}' is running: {mend}")));
        }
        let container = self.containers.remove(&id).map(Arc::unwrap_or_clone).ok_or_else(|| unknown(word))?;
        container.endpoints.iter().for_each(|endpoint| self.release(endpoint));
        Ok(container)
    }

    pub(super) fn plan_container(
        &self,
        spec: &ContainerSpec,
        id: Id,
        now_ns: u64,
    ) -> Result<Container, Refused> {
        let name = match &spec.name {
            Some(name) => name.clone(),
            None => generate(id.seed(), |name| self.containers.values().any(|other| other.name == name)),
        };
        self.check_container_name("container", &name, id)?;
        let hostname = spec.hostname.clone().unwrap_or_else(|| id.short());
        check_hostname(&hostname)?;
        for (host, _) in &spec.extra_hosts {
            check_hostname(host)?;
        }
        let mut container = Container {
            id,
            name: name.clone(),
            hostname,
            command: spec.command.clone(),
            image: spec.image.clone(),
            env: spec.env.clone(),
            lab: spec.lab.clone(),
            state: State::Created,
            kind: spec.kind,
            pid: None,
            created_ns: now_ns,
            changed_ns: now_ns,
            extra_hosts: spec.extra_hosts.clone(),
            dns: spec.dns.clone(),
            unswitched: self.plan_unswitched(&name, spec)?,
            endpoints: Vec::new(),
            joins: spec.networks.iter().map(|wish| self.named(wish)).collect(),
            mode: self.mode(spec),
            next_interface: BTreeMap::new(),
            publishes: Vec::new(),
            publish_from: spec.publish_from.clone(),
            exposed: spec.expose.clone(),
            links: Vec::new(),
            labels: spec.labels.clone(),
        };
        if container.unswitched.is_none() {
            for wish in &spec.networks {
                let endpoint = self.plan_endpoint(&container, &container.endpoints, wish)?;
                container.count_interface(&endpoint.ifname);
                container.endpoints.push(endpoint);
            }
            // Nobody forwards to the host's own ports, nor to a container that is alone.
            container.publishes = self.plan_publishes(&container.name, &container.endpoints, spec)?;
        }
        container.links = self.plan_links(&container.name, id, &container.endpoints, &spec.links)?;
        Ok(container)
    }

    pub(super) fn check_container_name(&self, what: &str, name: &str, id: Id) -> Result<(), Refused> {
        check_name(what, name)?;
        if matches!(name, "any" | "net") {
            return Err(Refused::new(
                Kind::BadName,
                format!("{what} name '{name}' means something else to 'tapswitch capture': choose another"),
            ));
        }
        let same = self.containers.values().find(|other| other.name == name || other.id == id);
        same.map_or(Ok(()), |same| {
            let (what, mend) = match same.kind {
                ContainerKind::Uplink => ("uplink", format!("'tapswitch uplink rm {name}'")),
                ContainerKind::Host => {
                    ("host port", "'tapswitch network set NETWORK -o host_port=false'".to_owned())
                }
                ContainerKind::Run | ContainerKind::Plugged => {
                    return Err(Refused::new(
                        Kind::NameTaken,
                        format!(
                            "Conflict. The container name \"/{name}\" is already in use by container \"{}\". You have to \
                             remove (or rename) that container to be able to reuse that name: 'tapswitch rm {name}', or \
                             choose another",
                            same.id
                        ),
                    ));
                }
            };
            let id = same.id.short();
            Err(Refused::new(
                Kind::NameTaken,
                format!("{what} '{name}' exists already (id {id}): choose another name, or {mend} first"),
            ))
        })
    }
}

fn unknown(word: &str) -> Refused {
    Refused::new(Kind::UnknownContainer, format!("No such container: {word}: 'tapswitch ps -a' lists them"))
}
