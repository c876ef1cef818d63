//! The plan of a model that differs little from one whose plan is known.
//!
//! Theory of operation. Most changes are of one container among thousands. What follows from a container is what
//! the gateways know of names that it can ask, or that those can ask who share a network with it, and the rules if
//! anybody publishes or links. Nothing else is made again. When more has changed than containers, or when a
//! user's rule names one, all is: [`plan`] says what is right.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Plan, dns, listeners, network_number, plan, policy};
use crate::control::Id;
use crate::control::model::{Container, Model};

/// A model, and its plan.
#[derive(Debug, Default)]
pub struct Told {
    model: Option<Model>,
    plan: Plan,
    /// Whether any container has a link.
    has_links: bool,
}

impl Told {
    /// The plan.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The same of a later model.
    pub fn next(&self, model: &Model) -> Self {
        let changed = self.model.as_ref().and_then(|earlier| model.changed_containers(earlier));
        let (plan, has_links) = match changed {
            None => (plan(model), has_links(model)),
            Some(changed) => self.again(model, &changed),
        };
        Self { model: Some(model.clone()), plan, has_links }
    }

    fn again(&self, model: &Model, changed: &[&Container]) -> (Plan, bool) {
        let mut next = self.plan.clone();
        for id in touched(model, changed) {
            let Some(network) = model.network(id) else { continue };
            let number = network_number(network);
            match dns::dns(model, network) {
                Some(config) => drop(next.dns.insert(number, Arc::new(config))),
                None => drop(next.dns.remove(&number)),
            }
        }
        let links = changed.iter().any(|container| !container.links.is_empty());
        let has_links = if links { has_links(model) } else { self.has_links };
        if links || self.has_links || changed.iter().any(|container| !container.publishes.is_empty()) {
            next.policy = Arc::new(policy(model));
            next.listeners = Arc::new(listeners::listeners(model));
        }
        (next, has_links)
    }
}

fn has_links(model: &Model) -> bool {
    model.everything().1.any(|container| !container.links.is_empty())
}

/// The networks of the containers that have changed, and those of all who are on these.
fn touched(model: &Model, changed: &[&Container]) -> BTreeSet<Id> {
    let on = |container: &Container| container.endpoints.iter().map(|it| it.network).collect::<Vec<_>>();
    let own: BTreeSet<Id> = changed.iter().flat_map(|container| on(container)).collect();
    let peers = own.iter().flat_map(|network| model.endpoints(*network));
    let beside: Vec<Id> = peers.flat_map(|(peer, _)| on(peer)).collect();
    own.into_iter().chain(beside).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::control::Refused;
    use crate::control::model::{ContainerSpec, EndpointSpec, NetworkSpec, RuleSpec, UplinkSpec};

    fn id(number: u8) -> Id {
        Id::new([number; 32])
    }

    /// One operation of many kinds; most are about containers.
    fn step(model: &mut Model, [action, who, place, extra]: [u8; 4]) -> Result<(), Refused> {
        let name = |number: u8| format!("c{}", number % 6);
        let net = |number: u8| ["bridge", "net1", "net2", "net3"][usize::from(number % 4)].to_owned();
        let (who_id, yes) = (id(100 + who % 6), extra.is_multiple_of(2));
        let option = |key: &str, value: &str| [(key.to_owned(), value.to_owned())];
        match action % 16 {
            0..=3 => {
                let mut networks = vec![EndpointSpec::on(&net(place)), EndpointSpec::on(&net(extra))];
                networks.dedup();
                let publish = if yes { vec!["80".parse()?] } else { Vec::new() };
                let dns = if extra.is_multiple_of(3) { vec![[10, 0, 0, 9].into()] } else { Vec::new() };
                let name = Some(name(who));
                let spec = ContainerSpec { name, networks, publish, dns, ..ContainerSpec::default() };
                model.create_container(&spec, who_id, u64::from(place)).map(drop)
            }
            4 => model.connect(&name(who), &EndpointSpec::on(&net(place))).map(drop),
            5 => model.disconnect(&name(who), &net(place)).map(drop),
            6 => model.remove_container(&name(who), true).map(drop),
            7 => model.ended(who_id, Some(0), 3).map(drop),
            8 => model.started(who_id, 5, 2),
            9 => model.publish(&name(who), &"8000:80".parse()?).map(drop),
            10 => model.link(&name(who), &format!("{}:db", name(place)).parse()?).map(drop),
            11 => model.unlink(&name(who), "db").map(drop),
            12 => model.create_network(&NetworkSpec::named(&net(place)), id(place % 4), 1, &[]).map(drop),
            13 => model.remove_network(&net(place)).map(drop),
            14 if yes => model.set_options(&net(place), &option("dns", "10.0.0.2")).map(drop),
            14 => model.set_options(&net(place), &option("icc", "false")).map(drop),
            _ if yes && extra > 200 => model.create_uplink(&UplinkSpec::standard(), id(50), 2).map(drop),
            _ if yes => model.remove_rule(1).map(drop),
            _ => {
                let (from, to) = (Some(name(who)), Some(net(place)));
                let action = crate::control::docker_rules::Action::Drop;
                let spec = RuleSpec { from, to, proto: None, dport: None, state: None, action, lab: None };
                model.add_rule(&spec, None).map(drop)
            }
        }
    }

    proptest! {
        #[test]
        fn equals_a_plan_from_scratch(steps in proptest::collection::vec(any::<[u8; 4]>(), 0..120)) {
            let mut model = Model::new(id(0), 1, &[]).unwrap();
            for number in [1, 2, 3] {
                let spec = NetworkSpec { internal: number == 3, ..NetworkSpec::named(&format!("net{number}")) };
                model.create_network(&spec, id(number), 1, &[]).unwrap();
            }
            let mut told = Told::default().next(&model);
            for (number, action) in steps.into_iter().enumerate() {
                // Refused ones have changed nothing.
                let _ = step(&mut model, action);
                if number % 3 != 1 {
                    told = told.next(&model);
                    prop_assert_eq!(told.plan(), &plan(&model));
                }
            }
        }
    }

    #[test]
    fn only_what_is_concerned_is_made_again() {
        let mut model = Model::new(id(0), 1, &[]).unwrap();
        for number in [1, 2] {
            model.create_network(&NetworkSpec::named(&format!("net{number}")), id(number), 1, &[]).unwrap();
        }
        let first = Told::default().next(&model);
        let networks = vec![EndpointSpec::on("net1")];
        let spec = ContainerSpec { name: Some("web".to_owned()), networks, ..ContainerSpec::default() };
        model.create_container(&spec, id(10), 1).unwrap();
        let second = first.next(&model);
        let anew = second.plan.dns.iter().filter(|(id, config)| !Arc::ptr_eq(config, &first.plan.dns[id]));
        let net1 = network_number(model.find_network("net1").unwrap());
        assert_eq!(anew.map(|(id, _)| *id).collect::<Vec<_>>(), [net1]);
        assert!(Arc::ptr_eq(&first.plan.policy, &second.plan.policy));
        assert!(Arc::ptr_eq(&first.plan.networks, &second.plan.networks));
    }
}
