//! Labs: TOML files that declare networks and containers.
//!
//! Reading goes on after a mistake, so that one run reports all of them; each points at its line
//! and column. What a single value may be is checked where it is read; what only the whole can
//! tell (a network's name, overlapping subnets, a full pool) is found by building the lab in a
//! model of its own, which therefore can never drift from what the daemon accepts.

mod order;
mod read;
mod router;

use ipnet::IpNet;

use super::mistake::{BadFile, Mistake, Span};
use super::model::{ContainerSpec, NetworkSpec, RouteSpec, RuleSpec, Unswitched, UplinkSpec};
use super::{Id, Kind, Model, Refused};

/// The built-in demo lab, as a file.
pub const DEMO: &str = include_str!("../../../labs/demo.toml");

/// What a lab file declares, in the file's order where nothing else is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lab {
    /// The file's name without `.toml`.
    pub name: String,
    /// Its networks.
    pub networks: Vec<NetworkSpec>,
    /// Its containers; those that others link to come before these.
    pub containers: Vec<ContainerSpec>,
    /// Its uplinks.
    pub uplinks: Vec<UplinkSpec>,
    /// Its static routes.
    pub routes: Vec<RouteSpec>,
    /// Its rules, in order.
    pub rules: Vec<RuleSpec>,
}

impl Lab {
    /// Reads a lab. `path` stands in messages.
    ///
    /// # Errors
    /// [`BadFile`] with every mistake that was found.
    pub fn parse(name: &str, path: &str, text: &str) -> Result<Self, BadFile> {
        let (mut draft, mut mistakes) = read::read(name, text);
        let rings = order::by_links(&mut draft.containers);
        // What a ring breaks is told once.
        let is_told = |mistake: &Mistake| rings.iter().any(|ring| ring.span == mistake.span);
        mistakes.extend(draft.try_out().into_iter().filter(|mistake| !is_told(mistake)));
        mistakes.extend(rings);
        if mistakes.is_empty() {
            return Ok(draft.into_lab(name));
        }
        mistakes.sort_by_key(|mistake| mistake.span.start);
        Err(BadFile { path: path.to_owned(), text: text.to_owned(), mistakes })
    }

    /// The subnets that the file gives: automatic subnets of its other networks stay clear of them.
    pub fn given_subnets(&self) -> Vec<IpNet> {
        given_subnets(self.networks.iter())
    }
}

fn given_subnets<'a>(networks: impl Iterator<Item = &'a NetworkSpec>) -> Vec<IpNet> {
    networks.flat_map(|network| network.subnets.iter().map(|subnet| subnet.prefix)).collect()
}

/// A lab with the places where its parts were read.
#[derive(Debug, Default)]
struct Draft {
    networks: Vec<DraftNetwork>,
    containers: Vec<DraftContainer>,
    uplinks: Vec<DraftUplink>,
    routes: Vec<(Span, RouteSpec)>,
    rules: Vec<(Span, RuleSpec)>,
}

#[derive(Debug)]
struct DraftUplink {
    place: Span,
    spec: UplinkSpec,
    /// Whether it was read without a mistake.
    sound: bool,
}

#[derive(Debug)]
struct DraftNetwork {
    name_place: Span,
    subnets_place: Span,
    spec: NetworkSpec,
    /// Whether it was read without a mistake.
    sound: bool,
}

#[derive(Debug)]
struct DraftContainer {
    name_place: Span,
    /// One for each network of `spec`.
    endpoint_places: Vec<Span>,
    /// One for each publish of `spec`.
    publish_places: Vec<Span>,
    /// One for each link of `spec`.
    link_places: Vec<Span>,
    spec: ContainerSpec,
}

impl Draft {
    /// Builds the sound parts in an empty model and reports what that refuses.
    fn try_out(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        let given = given_subnets(self.networks.iter().map(|network| &network.spec));
        let id = |number: usize| Id::new([0; 32]).derive(numbered(number));
        let mut model = match Model::new(id(0), 0, &given) {
            Ok(model) => model,
            Err(refused) => return vec![Mistake::new(0..0, refused.message)],
        };
        let parts = self.uplinks.len() + self.networks.len();
        for (number, uplink) in (1..).zip(self.uplinks.iter().filter(|uplink| uplink.sound)) {
            if let Err(refused) = model.create_uplink(&uplink.spec, id(number), 0) {
                mistakes.push(Mistake::new(uplink.place.clone(), refused.message));
            }
        }
        let sound = self.networks.iter().filter(|network| network.sound);
        for (number, network) in (1 + self.uplinks.len()..).zip(sound) {
            if let Err(refused) = model.create_network(&network.spec, id(number), 0, &given) {
                mistakes.push(Mistake::new(network.place_of(&refused), refused.message));
            }
        }
        for (number, container) in (1 + parts..).zip(&self.containers) {
            mistakes.extend(self.try_container(&mut model, container, id(number)));
        }
        if mistakes.is_empty() {
            mistakes.extend(self.try_router(&mut model));
        }
        mistakes
    }

    /// What takes that networks and containers are there.
    fn try_router(&self, model: &mut Model) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        let mut note = |place: &Span, refused: Refused| {
            mistakes.push(Mistake::new(place.clone(), refused.message));
        };
        for (place, route) in &self.routes {
            model.add_route(route).err().into_iter().for_each(|refused| note(place, refused));
        }
        for (place, rule) in &self.rules {
            model.add_rule(rule, None).err().into_iter().for_each(|refused| note(place, refused));
        }
        mistakes
    }

    fn try_container(&self, model: &mut Model, container: &DraftContainer, id: Id) -> Vec<Mistake> {
        let ContainerSpec { networks: wishes, publish, links, .. } = &container.spec;
        // One on `host` or `none` is there from its beginning; networks of the switch are joined one by one.
        let unswitched = wishes.iter().position(|wish| Unswitched::named(&wish.network).is_some());
        let networks = if unswitched.is_some() { wishes.clone() } else { Vec::new() };
        let bare = (Vec::new(), Vec::new());
        let alone = ContainerSpec { networks, publish: bare.0, links: bare.1, ..container.spec.clone() };
        if let Err(refused) = model.create_container(&alone, id, 0) {
            let place = unswitched.filter(|_| refused.kind == Kind::NetworkConflict);
            let place =
                place.and_then(|at| container.endpoint_places.get(at)).unwrap_or(&container.name_place);
            return vec![Mistake::new(place.clone(), refused.message)];
        }
        // A network with a mistake of its own is no mistake of its containers.
        let declared = |name: &str| {
            self.networks.iter().any(|network| network.spec.name == name)
                || self.uplinks.iter().any(|uplink| uplink.spec.name == name)
        };
        let mut mistakes = Vec::new();
        let joined = container.endpoint_places.iter().zip(wishes).filter(|_| unswitched.is_none());
        for (place, wish) in joined {
            match model.connect(&id.to_string(), wish) {
                Err(refused) if refused.kind != Kind::UnknownNetwork || !declared(&wish.network) => {
                    mistakes.push(Mistake::new(place.clone(), refused.message));
                }
                Ok(_) | Err(_) => {}
            }
        }
        if mistakes.is_empty() {
            for (place, wish) in container.publish_places.iter().zip(publish) {
                let refused = model.publish(&id.to_string(), wish).err();
                mistakes.extend(refused.map(|refused| Mistake::new(place.clone(), refused.message)));
            }
            for (place, wish) in container.link_places.iter().zip(links) {
                let refused = model.link(&id.to_string(), wish).err();
                mistakes.extend(refused.map(|refused| Mistake::new(place.clone(), refused.message)));
            }
        }
        mistakes
    }

    fn into_lab(self, name: &str) -> Lab {
        Lab {
            name: name.to_owned(),
            networks: self.networks.into_iter().map(|network| network.spec).collect(),
            containers: self.containers.into_iter().map(|container| container.spec).collect(),
            uplinks: self.uplinks.into_iter().map(|uplink| uplink.spec).collect(),
            routes: self.routes.into_iter().map(|(_, route)| route).collect(),
            rules: self.rules.into_iter().map(|(_, rule)| rule).collect(),
        }
    }
}

impl DraftNetwork {
    fn place_of(&self, refused: &Refused) -> Span {
        let of_subnet = matches!(refused.kind, Kind::BadSubnet | Kind::SubnetOverlaps);
        if of_subnet { self.subnets_place.clone() } else { self.name_place.clone() }
    }
}

/// An id for a model that is thrown away.
fn numbered(number: usize) -> Id {
    let mut bytes = [0; 32];
    bytes.iter_mut().zip(number.to_be_bytes()).for_each(|(byte, of_number)| *byte = of_number);
    Id::new(bytes)
}

#[cfg(test)]
mod tests;
