//! What has changed in a model since it was saved, as a record that is kept beside the saved state.
//!
//! Theory of operation. [`Changes::between`] two models is what a state of the older one lacks, and
//! [`Saved::catch_up`] adds it. Records are numbered ([`Position`]): a state takes those that follow its own
//! position, one after the other; those of another daemon's life are about another state.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::model::{Container, Network, Rule, StaticRoute};
use super::state::{BadState, Kept, Saved, changed_settings};
use super::{Id, Kind, Model, Refused};

/// Up to which record a state knows everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Which daemon's life, drawn when it starts.
    pub life: u64,
    /// The number of the record within it.
    pub number: u64,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Where it stands.
    pub at: Position,
    /// What it says.
    pub changes: Changes,
}

/// What is new, or other than before, and what has gone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Changes {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    networks: Vec<Network>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    containers: Vec<Kept>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<StaticRoute>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gone_networks: Vec<Id>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gone_containers: Vec<Id>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gone_routes: Vec<IpNet>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rules: Option<Splice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<BTreeMap<String, String>>,
}

/// Some rules in the place of others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Splice {
    /// From which one on, counted from 0.
    at: usize,
    /// How many go.
    gone: usize,
    /// What comes there.
    rules: Vec<Rule>,
}

impl Splice {
    fn between(old: &[Rule], new: &[Rule]) -> Option<Self> {
        let same = |(one, other): &(&Rule, &Rule)| one == other;
        let at = old.iter().zip(new).take_while(same).count();
        let (old, new) = (old.get(at..)?, new.get(at..)?);
        let behind = old.iter().rev().zip(new.iter().rev()).take_while(same).count();
        let (gone, rules) = (old.len() - behind, new.get(..new.len() - behind)?.to_vec());
        (gone > 0 || !rules.is_empty()).then_some(Self { at, gone, rules })
    }
}

impl Changes {
    /// What `new` has that is not `old`'s, and the other way; none when nothing of it is kept. `kept` tells what
    /// is kept of a container.
    pub fn between(old: &Model, new: &Model, kept: impl Fn(&Container) -> Kept) -> Option<Self> {
        let difference = new.difference(old);
        let settings = (old.settings != new.settings).then(|| changed_settings(new));
        let changes = Self {
            networks: difference.networks.into_iter().cloned().collect(),
            containers: difference.containers.into_iter().map(kept).collect(),
            routes: difference.routes.into_iter().cloned().collect(),
            gone_networks: difference.gone_networks,
            gone_containers: difference.gone_containers,
            gone_routes: difference.gone_routes,
            rules: Splice::between(old.rules(), new.rules()),
            settings,
        };
        (changes != Self::default()).then_some(changes)
    }

    fn add_to(self, saved: &mut Saved) -> Result<(), BadState> {
        let Self { networks, containers, routes, gone_networks, gone_containers, gone_routes, .. } = self;
        replace(&mut saved.networks, networks, &gone_networks, |network| network.id);
        replace(&mut saved.containers, containers, &gone_containers, |kept| kept.container.id);
        replace(&mut saved.routes, routes, &gone_routes, |route| route.prefix);
        if let Some(Splice { at, gone, rules }) = self.rules {
            let end = at.checked_add(gone).filter(|end| *end <= saved.rules.len());
            let Some(end) = end else {
                let text =
                    format!("rules {at} to {gone} more are changed, and there are {}", saved.rules.len());
                return Err(Refused::new(Kind::BadRequest, text).into());
            };
            saved.rules.splice(at..end, rules);
        }
        if let Some(settings) = self.settings {
            saved.settings = settings;
        }
        Ok(())
    }
}

fn replace<T, K: PartialEq>(all: &mut Vec<T>, new: Vec<T>, gone: &[K], key: impl Fn(&T) -> K) {
    if !gone.is_empty() {
        all.retain(|it| !gone.contains(&key(it)));
    }
    for it in new {
        match all.iter_mut().find(|other| key(other) == key(&it)) {
            Some(other) => *other = it,
            None => all.push(it),
        }
    }
}

impl Saved {
    /// Adds the records that follow this state, of all that were found.
    ///
    /// # Errors
    /// When one of them is no record, or about something else than this state.
    pub fn catch_up(&mut self, found: &[Vec<u8>]) -> Result<(), BadState> {
        #[derive(Deserialize)]
        struct Where {
            at: Position,
        }
        let mut records = BTreeMap::new();
        for text in found {
            // First the place alone: what another version has left here may have another form.
            let Where { at } = serde_json::from_slice(text)?;
            if at.life == self.journal.life && at.number > self.journal.number {
                records.insert(at.number, text);
            }
        }
        for (number, text) in records {
            if number != self.journal.number + 1 {
                break;
            }
            let record: Record = serde_json::from_slice(text)?;
            record.changes.add_to(self)?;
            self.journal.number = number;
        }
        Ok(())
    }
}
