//! Labs: TOML files that declare networks and containers.
//!
//! Reading goes on after a mistake, so that one run reports all of them; each points at its line
//! and column. What a single value may be is checked where it is read; what only the whole can
//! tell (a network's name, overlapping subnets, a full pool) is found by building the lab in a
//! model of its own, which therefore can never drift from what the daemon accepts.

mod mistake;
mod read;

use ipnet::IpNet;

use super::model::{ContainerSpec, NetworkSpec};
use super::{Id, Kind, Model, Refused};
use mistake::Span;

pub use mistake::{BadLab, Mistake};

/// The built-in demo lab, as a file.
pub const DEMO: &str = include_str!("../../../labs/demo.toml");

/// What a lab file declares, in the file's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lab {
    /// The file's name without `.toml`.
    pub name: String,
    /// Its networks.
    pub networks: Vec<NetworkSpec>,
    /// Its containers.
    pub containers: Vec<ContainerSpec>,
}

impl Lab {
    /// Reads a lab. `path` stands in messages.
    ///
    /// # Errors
    /// [`BadLab`] with every mistake that was found.
    pub fn parse(name: &str, path: &str, text: &str) -> Result<Self, BadLab> {
        let (draft, mut mistakes) = read::read(name, text);
        mistakes.extend(draft.try_out());
        if mistakes.is_empty() {
            return Ok(draft.into_lab(name));
        }
        mistakes.sort_by_key(|mistake| mistake.span.start);
        Err(BadLab { path: path.to_owned(), text: text.to_owned(), mistakes })
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
        let sound = self.networks.iter().filter(|network| network.sound);
        for (number, network) in (1..).zip(sound) {
            if let Err(refused) = model.create_network(&network.spec, id(number), 0, &given) {
                mistakes.push(Mistake::new(network.place_of(&refused), refused.message));
            }
        }
        for (number, container) in (1 + self.networks.len()..).zip(&self.containers) {
            mistakes.extend(self.try_container(&mut model, container, id(number)));
        }
        mistakes
    }

    fn try_container(&self, model: &mut Model, container: &DraftContainer, id: Id) -> Vec<Mistake> {
        let alone = ContainerSpec { networks: Vec::new(), ..container.spec.clone() };
        if let Err(refused) = model.create_container(&alone, id, 0) {
            return vec![Mistake::new(container.name_place.clone(), refused.message)];
        }
        // A network with a mistake of its own is no mistake of its containers.
        let declared = |name: &str| self.networks.iter().any(|network| network.spec.name == name);
        let mut mistakes = Vec::new();
        for (place, wish) in container.endpoint_places.iter().zip(&container.spec.networks) {
            match model.connect(&id.to_string(), wish) {
                Err(refused) if refused.kind != Kind::UnknownNetwork || !declared(&wish.network) => {
                    mistakes.push(Mistake::new(place.clone(), refused.message));
                }
                Ok(_) | Err(_) => {}
            }
        }
        mistakes
    }

    fn into_lab(self, name: &str) -> Lab {
        Lab {
            name: name.to_owned(),
            networks: self.networks.into_iter().map(|network| network.spec).collect(),
            containers: self.containers.into_iter().map(|container| container.spec).collect(),
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
