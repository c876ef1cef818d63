//! Containers come up in the file's order, but those that others link to before these.

use super::DraftContainer;
use crate::control::mistake::{Mistake, Span};

/// Puts containers into an order in which each finds those that it links to. Where links run in a ring
/// there is none: each link to a container that has no place is a mistake, and those stay as they were.
pub(super) fn by_links(containers: &mut Vec<DraftContainer>) -> Vec<Mistake> {
    let mut waiting = std::mem::take(containers);
    while let Some(at) = waiting.iter().position(|container| missing(container, &waiting).next().is_none()) {
        containers.push(waiting.remove(at));
    }
    let text = "this link belongs to a ring of links, in which nobody can be the first, or leads to one: \
                leave it out, and add it by 'tapswitch link' when both run";
    let lost = waiting.iter().flat_map(|container| missing(container, &waiting));
    let mistakes = lost.map(|place| Mistake::new(place.clone(), text)).collect();
    containers.append(&mut waiting);
    mistakes
}

/// The links of a container that lead to others who wait, too.
fn missing<'a>(
    container: &'a DraftContainer,
    waiting: &'a [DraftContainer],
) -> impl Iterator<Item = &'a Span> {
    let links = container.link_places.iter().zip(&container.spec.links);
    let waits = |name: &String| {
        let wanted = Some(name).filter(|name| container.spec.name.as_ref() != Some(name));
        wanted.is_some() && waiting.iter().any(|other| other.spec.name.as_ref() == wanted)
    };
    links.filter(move |(_, link)| waits(&link.name)).map(|(place, _)| place)
}
