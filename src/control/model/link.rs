//! Links: one container may use another's exposed ports, and calls it by a name of its own choice.
//!
//! A link names the other container, so that it still holds when that is run again. It has no
//! effect while the other does not live, or shares no network with it.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Container, Endpoint, Model};
use crate::control::naming::check_hostname;
use crate::control::ports::Exposed;
use crate::control::{Id, Kind, Refused};

/// A link, as a user asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkSpec {
    /// Name or id of the other container.
    pub name: String,
    /// What it is called from here.
    pub alias: String,
    /// The ports that are opened; none given: whatever the other exposes.
    #[serde(default)]
    pub ports: Vec<Exposed>,
}

impl FromStr for LinkSpec {
    type Err = Refused;

    /// `NAME[:ALIAS]`, as Docker has it; without an alias the name is it.
    fn from_str(text: &str) -> Result<Self, Refused> {
        let (name, alias) = text.split_once(':').unwrap_or((text, text));
        if name.is_empty() || alias.is_empty() {
            return Err(Refused::new(
                Kind::BadLink,
                format!("link '{text}' lacks a name: write NAME or NAME:ALIAS"),
            ));
        }
        // As Docker prints names in inspect, and takes them back.
        let bare = |name: &str| name.trim_start_matches('/').to_owned();
        Ok(Self { name: bare(name), alias: bare(alias), ports: Vec::new() })
    }
}

/// A link that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The other container's name.
    pub other: String,
    /// What it is called from here.
    pub alias: String,
    /// The ports that are opened; none: whatever the other exposes.
    pub ports: Vec<Exposed>,
}

impl Model {
    /// Links a container to another.
    ///
    /// # Errors
    /// `unknown_container`, `ambiguous`, `bad_state`, `bad_name`, `bad_link`.
    pub fn link(&mut self, word: &str, spec: &LinkSpec) -> Result<&Container, Refused> {
        let container = self.find_container(word)?;
        let id = container.id;
        check_alive(container)?;
        let link = self.plan_link(&container.name, id, &container.endpoints, &container.links, spec)?;
        self.container_mut(id).into_iter().for_each(|it| it.links.push(link.clone()));
        self.find_container(&id.to_string())
    }

    /// Takes a link away.
    ///
    /// # Errors
    /// `unknown_container`, `ambiguous`, `unknown_link`.
    pub fn unlink(&mut self, word: &str, alias: &str) -> Result<&Container, Refused> {
        let container = self.find_container(word)?;
        let id = container.id;
        if !container.links.iter().any(|link| link.alias == alias) {
            let has: Vec<&str> = container.links.iter().map(|link| link.alias.as_str()).collect();
            let has = if has.is_empty() { "none".to_owned() } else { has.join(", ") };
            let text = format!("container '{}' has no link '{alias}': it has {has}", container.name);
            return Err(Refused::new(Kind::UnknownLink, text));
        }
        self.container_mut(id).into_iter().for_each(|it| it.links.retain(|link| link.alias != alias));
        self.find_container(&id.to_string())
    }

    /// The links of a container that lead somewhere: with the other container, and the ends of each
    /// network that both are on.
    pub fn links_of<'a>(
        &'a self,
        container: &'a Container,
    ) -> impl Iterator<Item = (&'a Link, &'a Container, &'a Endpoint, &'a Endpoint)> {
        container.links.iter().flat_map(move |link| {
            let other = self.all_containers().find(|other| other.name == link.other);
            other.into_iter().flat_map(move |other| {
                self.shared(&container.endpoints, other).map(move |(own, theirs)| (link, other, own, theirs))
            })
        })
    }

    /// The links that a new container asks for.
    pub(super) fn plan_links(
        &self,
        name: &str,
        id: Id,
        endpoints: &[Endpoint],
        wishes: &[LinkSpec],
    ) -> Result<Vec<Link>, Refused> {
        let mut planned = Vec::new();
        for wish in wishes {
            planned.push(self.plan_link(name, id, endpoints, &planned, wish)?);
        }
        Ok(planned)
    }

    fn plan_link(
        &self,
        name: &str,
        id: Id,
        endpoints: &[Endpoint],
        existing: &[Link],
        wish: &LinkSpec,
    ) -> Result<Link, Refused> {
        check_hostname(&wish.alias)?;
        let bad = |text: String| Err(Refused::new(Kind::BadLink, text));
        if existing.iter().any(|link| link.alias == wish.alias) {
            return bad(format!(
                "container '{name}' has a link '{}' already: choose another alias",
                wish.alias
            ));
        }
        let other = self.find_container(&wish.name)?;
        if other.id == id {
            return bad(format!("container '{name}' cannot be linked to itself: name another"));
        }
        check_alive(other)?;
        if self.shared(endpoints, other).next().is_none() {
            return bad(format!(
                "containers '{name}' and '{}' share no network: connect them to one first",
                other.name
            ));
        }
        Ok(Link { other: other.name.clone(), alias: wish.alias.clone(), ports: wish.ports.clone() })
    }

    /// The ends of each network that a container with these endpoints and `other` are both on.
    fn shared<'a>(
        &'a self,
        endpoints: &'a [Endpoint],
        other: &'a Container,
    ) -> impl Iterator<Item = (&'a Endpoint, &'a Endpoint)> {
        endpoints.iter().filter_map(move |own| {
            let theirs = other.endpoints.iter().find(|theirs| theirs.network == own.network)?;
            self.network(own.network)?.uplink.is_none().then_some((own, theirs))
        })
    }
}

fn check_alive(container: &Container) -> Result<(), Refused> {
    if container.is_alive() {
        return Ok(());
    }
    let text = format!(
        "container '{0}' has ended and cannot be linked: 'tapswitch start {0}' first",
        container.name
    );
    Err(Refused::new(Kind::BadState, text))
}

#[cfg(test)]
mod tests {
    use super::super::ContainerSpec;
    use super::super::tests::{container, id, refused, sample};
    use super::*;

    #[test]
    fn a_link_is_read_from_one_word() {
        let link = |name: &str, alias: &str| LinkSpec {
            name: name.to_owned(),
            alias: alias.to_owned(),
            ports: Vec::new(),
        };
        assert_eq!("db".parse(), Ok(link("db", "db")));
        assert_eq!("/db:/database".parse(), Ok(link("db", "database")));
        for bad in ["", ":db", "db:"] {
            assert_eq!(bad.parse::<LinkSpec>().unwrap_err().kind, Kind::BadLink, "{bad}");
        }
    }

    #[test]
    fn links_follow_names_and_need_a_shared_network() {
        let mut model = sample();
        let spec = ContainerSpec {
            links: vec!["router:gw".parse().unwrap()],
            ..container("web", &["net1", "net2"])
        };
        model.create_container(&spec, id(20), 9).unwrap();
        let ends = |model: &Model| {
            let web = model.find_container("web").unwrap();
            let end = |(link, other, own, theirs): (&Link, &Container, &Endpoint, &Endpoint)| {
                assert_eq!(own.network, theirs.network);
                format!("{}={} {}", link.alias, other.name, theirs.addresses[0].addr())
            };
            model.links_of(web).map(end).collect::<Vec<_>>()
        };
        assert_eq!(ends(&model), ["gw=router 172.19.0.3", "gw=router 172.20.0.2"]);
        model.remove_container("router", true).unwrap();
        assert!(ends(&model).is_empty());
        model.create_container(&container("router", &["net2"]), id(21), 10).unwrap();
        assert_eq!(ends(&model), ["gw=router 172.20.0.2"]);
        model.create_container(&container("alone", &["bridge"]), id(22), 10).unwrap();
        model.create_container(&container("old", &["net1"]), id(23), 10).unwrap();
        model.ended(id(23), Some(0), 11).unwrap();
        let table = [
            ("alice:gw", Kind::BadLink, "container 'web' has a link 'gw' already: choose another alias"),
            ("web:me", Kind::BadLink, "container 'web' cannot be linked to itself: name another"),
            (
                "alone",
                Kind::BadLink,
                "containers 'web' and 'alone' share no network: connect them to one first",
            ),
            ("alcie", Kind::UnknownContainer, "No such container: alcie: did you mean 'alice'?"),
            ("alice:a b", Kind::BadName, "host name 'a b' is not allowed"),
            (
                "old",
                Kind::BadState,
                "container 'old' has ended and cannot be linked: 'tapswitch start old' first",
            ),
        ];
        for (text, kind, message) in table {
            let why = refused(&mut model, |model| model.link("web", &text.parse().unwrap()).map(drop));
            assert!(why.kind == kind && why.message.starts_with(message), "{why} / {message}");
        }
        let why = refused(&mut model, |model| model.unlink("web", "db").map(drop));
        assert_eq!(why.message, "container 'web' has no link 'db': it has gw");
        model.unlink("web", "gw").unwrap();
        assert!(model.find_container("web").unwrap().links.is_empty());
    }
}
