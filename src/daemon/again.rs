//! A container that has ended runs again, as what it was: its id, its name, its log, and the networks that it was
//! on at the end. Until it runs nothing is final: when it cannot, it has ended as before, and can be tried again.

use super::containers::Shell;
use super::{Daemon, Handled, failed, now};
use crate::control::model::{ContainerKind, ContainerSpec, State};
use crate::control::{Id, Kind, Refused};
use crate::io::host;

impl Daemon {
    pub(super) fn container_again(&mut self, connection: usize, name: &str) -> Handled {
        let container = self.model.find_container(name)?;
        let (id, state) = (container.id, container.state);
        if container.kind != ContainerKind::Run {
            let text = format!("'{name}' is plugged in, not ours to start: 'tapswitch plug' serves it again");
            return Err(Refused::new(Kind::NotOurs, text));
        }
        if self.resolv_conf.is_none() {
            // Nobody tells of its changes: look at least now.
            self.read_resolv_conf();
        }
        let spec = self.containers.get(&id).map(|shell| shell.spec.clone()).unwrap_or_default();
        self.transact(|model| model.run_again(id, &spec, host::now_ns()).map(drop))?;
        let former = self.containers.remove(&id).unwrap_or_default();
        let shell = Shell {
            spec,
            auto_remove: former.auto_remove,
            supervisor: Some(connection),
            before: Some(state),
            ..Shell::default()
        };
        self.containers.insert(id, shell);
        self.runtime.renew(id);
        match self.write_files(id) {
            Ok(created) => now(created),
            Err(error) => {
                self.give_up(id);
                Err(failed(&format!("cannot write the container's files: {error}")))
            }
        }
    }

    /// A container did not come to run: a new one was never there.
    pub(super) fn give_up(&mut self, id: Id) {
        match self.containers.get(&id).and_then(|shell| shell.before) {
            Some(State::Exited { code }) => self.end(id, Some(code)),
            Some(_) => self.end(id, None),
            None => self.forget(id),
        }
    }

    /// What a container is run with when it runs again: it is where it was at the end.
    pub(super) fn spec_again(&self, id: Id) -> ContainerSpec {
        let spec = self.containers.get(&id).map(|shell| shell.spec.clone()).unwrap_or_default();
        match self.model.container(id) {
            Some(container) => ContainerSpec { networks: container.joins.clone(), ..spec },
            None => spec,
        }
    }
}
