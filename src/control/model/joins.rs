//! What a container is to be on whenever it runs.
//!
//! A container that ends leaves its networks with all that it had there, but not the wish to be on them: run
//! again, it joins what it was on at the end, in the same order, as in Docker. `network connect` and
//! `disconnect` change what one that has ended will be on, and nothing else.

use super::{Container, ContainerSpec, DEFAULT_NETWORK, EndpointSpec, Listed, Model};
use crate::control::{Id, Kind, Refused};

impl Container {
    /// How it came to be on a network, by the network's name.
    pub fn join(&self, network: &str) -> Option<&EndpointSpec> {
        self.joins.iter().find(|join| join.network == network)
    }
}

impl Model {
    /// A wish with its network's name, which outlives the network's id.
    pub(super) fn named(&self, wish: &EndpointSpec) -> EndpointSpec {
        let name = match self.find_listed(&wish.network) {
            Ok(Listed::Switched(network)) => network.name.clone(),
            Ok(Listed::Unswitched(network)) => network.name().to_owned(),
            // An uplink's.
            Err(_) => wish.network.clone(),
        };
        EndpointSpec { network: name, ..wish.clone() }
    }

    /// Docker's `NetworkMode`: the network that a container is made on; `default` is `bridge`.
    pub(super) fn mode(&self, spec: &ContainerSpec) -> String {
        let first = spec.networks.first().map(|wish| self.named(wish).network);
        first.filter(|name| name != DEFAULT_NETWORK).unwrap_or_else(|| "default".to_owned())
    }

    /// Has a container that has ended join one more network when it runs again.
    ///
    /// # Errors
    /// `unknown_container`, `unknown_network`, `ambiguous`, and those of [`Model::connect`] that can be told now.
    pub fn connect_later(&mut self, word: &str, spec: &EndpointSpec) -> Result<(), Refused> {
        let container = self.find_container(word)?;
        self.check_joins(container, &spec.network)?;
        let wish = self.named(spec);
        if container.join(&wish.network).is_some() {
            return Err(already(&container.name, &wish.network));
        }
        // What is wrong with it is wrong now; who has the address by then is another question.
        match self.plan_endpoint(container, &[], spec) {
            Err(refused) if !matches!(refused.kind, Kind::AddressInUse | Kind::MacInUse | Kind::PoolFull) => {
                return Err(refused);
            }
            _ => {}
        }
        let id = container.id;
        self.container_mut(id).into_iter().for_each(|it| it.joins.push(wish.clone()));
        Ok(())
    }

    /// Has a container that has ended not join a network any more, which may be gone itself.
    ///
    /// # Errors
    /// `unknown_container`, `ambiguous`, `unknown_network`, `not_connected`.
    pub fn disconnect_later(&mut self, word: &str, network: &str) -> Result<(), Refused> {
        let container = self.find_container(word)?;
        let (id, name) = (container.id, container.name.clone());
        let wanted = match container.join(network) {
            Some(_) => network.to_owned(),
            None => self.find_any_network(network)?.name.clone(),
        };
        if container.join(&wanted).is_none() {
            return Err(not_connected(&name, &wanted));
        }
        self.unjoin(id, &wanted);
        Ok(())
    }

    /// Takes a wish back.
    pub(super) fn unjoin(&mut self, id: Id, network: &str) {
        self.container_mut(id).into_iter().for_each(|it| it.joins.retain(|join| join.network != network));
    }
}

pub(super) fn already(container: &str, network: &str) -> Refused {
    Refused::new(
        Kind::AlreadyConnected,
        format!("endpoint with name {container} already exists in network {network}: name each network once"),
    )
}

pub(super) fn not_connected(container: &str, network: &str) -> Refused {
    Refused::new(
        Kind::NotConnected,
        format!(
            "container {container} is not connected to network {network}: 'tapswitch inspect {container}' lists its networks"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::{container, id, network, refused, sample};
    use super::*;

    fn on(model: &Model) -> Vec<String> {
        let web = model.find_container("web").unwrap();
        let name = |endpoint: &super::super::Endpoint| {
            format!("{} {}", model.network(endpoint.network).unwrap().name, endpoint.ifname)
        };
        web.endpoints.iter().map(name).collect()
    }

    #[test]
    fn whoever_runs_again_is_where_it_was_at_the_end() {
        let mut model = sample();
        let spec = container("web", &["net2"]);
        model.create_container(&spec, id(40), 9).unwrap();
        model.connect("web", &EndpointSpec::on("net1")).unwrap();
        model.disconnect("web", "net2").unwrap();
        model.connect("web", &EndpointSpec::on("bridge")).unwrap();
        assert_eq!(on(&model), ["net1 eth1", "bridge eth2"], "no number is given twice");
        model.ended(id(40), Some(0), 10).unwrap();
        assert!(on(&model).is_empty());
        model.connect_later("web", &EndpointSpec::on("net2")).unwrap();
        model.disconnect_later("web", "bridge").unwrap();
        model.create_again(&spec, id(40), 11).unwrap();
        let again = model.container(id(40)).unwrap();
        assert_eq!((again.created_ns, again.mode.as_str()), (9, "net2"));
        assert_eq!(on(&model), ["net1 eth0", "net2 eth1"], "counted from the beginning");
        assert_eq!(model.create_again(&spec, id(40), 12).unwrap_err().kind, Kind::BadState);
    }

    #[test]
    fn whoever_cannot_run_again_is_as_it_was() {
        let mut model = sample();
        model.create_network(&network("gone", &["10.9.0.0/24"]), id(41), 9, &[]).unwrap();
        let spec =
            ContainerSpec { networks: vec!["gone:ip=10.9.0.9".parse().unwrap()], ..container("web", &[]) };
        model.create_container(&spec, id(40), 9).unwrap();
        model.ended(id(40), Some(3), 10).unwrap();
        let taken = ContainerSpec { name: Some("thief".to_owned()), ..spec.clone() };
        model.create_container(&taken, id(42), 11).unwrap();
        let why = refused(&mut model, |model| model.create_again(&spec, id(40), 12).map(drop));
        assert_eq!(why.kind, Kind::AddressInUse);
        model.remove_container("thief", true).unwrap();
        model.remove_network("gone").unwrap();
        let why = refused(&mut model, |model| model.create_again(&spec, id(40), 12).map(drop));
        assert_eq!(why.kind, Kind::UnknownNetwork);
        let table = [("net1", Kind::NotConnected), ("moon", Kind::UnknownNetwork)];
        for (network, kind) in table {
            assert_eq!(refused(&mut model, |model| model.disconnect_later("web", network)).kind, kind);
        }
        model.disconnect_later("web", "gone").unwrap();
        model.create_again(&spec, id(40), 12).unwrap();
        assert!(on(&model).is_empty());
    }
}
