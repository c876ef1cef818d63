//! Requests about what the router is told: published ports, links, routes, rules, settings.

use std::os::fd::OwnedFd;

use ipnet::IpNet;

use super::{Daemon, Handled, now};
use crate::control::compile;
use crate::control::model::{ContainerSpec, LinkSpec, RouteSpec, StaticRoute};
use crate::control::ports::PublishSpec;
use crate::control::requests::RouterRequest;
use crate::control::show::{self, SettingRow};
use crate::control::{Id, Refused, sysctl};
use crate::dataplane::{Change, Route};

impl Daemon {
    /// Answers one request about the router.
    pub(super) fn handle_router(
        &mut self,
        connection: usize,
        request: RouterRequest,
        descriptors: Vec<OwnedFd>,
    ) -> Handled {
        match request {
            RouterRequest::Proxy { network } => self.proxy(connection, &network, descriptors),
            RouterRequest::Publish { name, publish, from } => self.publish(&name, &publish, from),
            RouterRequest::Unpublish { name, publish } => self.unpublish(&name, &publish),
            RouterRequest::PublishList { name } => self.publish_list(name.as_deref()),
            RouterRequest::Link { name, link } => self.link(&name, &link),
            RouterRequest::Unlink { name, alias } => self.unlink(&name, &alias),
            RouterRequest::UplinkAdd { spec, pid, nursery, whence } => {
                self.uplink_add(&spec, pid, nursery, whence, descriptors)
            }
            RouterRequest::UplinkSet { name, change } => self.uplink_set(&name, &change),
            RouterRequest::UplinkRemove { name } => self.uplink_remove(&name),
            RouterRequest::UplinkList => self.uplink_list(),
            RouterRequest::RouteAdd { route } => self.route_add(&route),
            RouterRequest::RouteRemove { prefix } => self.route_remove(prefix),
            RouterRequest::RouteList => now(show::route_rows(&self.model)),
            RouterRequest::RuleAdd { rule, before } => {
                now(self.transact(|model| model.add_rule(&rule, before))?)
            }
            RouterRequest::RuleRemove { number } => {
                now(self.transact(|model| model.remove_rule(number).map(drop))?)
            }
            RouterRequest::RuleList => now(show::user_rule_rows(&self.model)),
            RouterRequest::Sysctl { key, value } => self.sysctl(key.as_deref(), value.as_deref()),
        }
    }

    fn publish(&mut self, name: &str, spec: &PublishSpec, from: Vec<IpNet>) -> Handled {
        let publish = self.transact(|model| model.publish_from(name, spec, &from))?;
        let container = self.model.find_container(name)?;
        let rows = show::rows_of_publish(&self.model, container, &publish);
        let id = container.id;
        self.remember(id, |known| match from.is_empty() {
            true => known.publish.push(*spec),
            false => known.restricted.push((*spec, from)),
        });
        now(rows)
    }

    fn unpublish(&mut self, name: &str, spec: &PublishSpec) -> Handled {
        let gone = self.transact(|model| model.unpublish(name, spec))?;
        let id = self.model.find_container(name)?.id;
        let is_left = |old: &PublishSpec| !gone.iter().any(|publish| publish.fits(old));
        self.remember(id, |known| {
            known.publish.retain(is_left);
            known.restricted.retain(|(old, _)| is_left(old));
        });
        now(())
    }

    fn publish_list(&self, name: Option<&str>) -> Handled {
        let only = name.map(|name| self.model.find_container(name)).transpose()?;
        now(show::publish_rows(&self.model, only))
    }

    fn link(&mut self, name: &str, spec: &LinkSpec) -> Handled {
        let id = self.transact(|model| model.link(name, spec).map(|container| container.id))?;
        self.remember(id, |known| known.links.push(spec.clone()));
        self.write_names(id);
        now(())
    }

    fn unlink(&mut self, name: &str, alias: &str) -> Handled {
        let id = self.transact(|model| model.unlink(name, alias).map(|container| container.id))?;
        self.remember(id, |known| known.links.retain(|link| link.alias != alias));
        self.write_names(id);
        now(())
    }

    /// Changes what a container is run with when it is started again.
    fn remember(&mut self, id: Id, change: impl FnOnce(&mut ContainerSpec)) {
        if let Some(shell) = self.containers.get_mut(&id) {
            change(&mut shell.spec);
        }
    }

    fn route_add(&mut self, spec: &RouteSpec) -> Handled {
        let route = self.model.add_route(spec)?.clone();
        if let Err(refused) = self.tell_route(&route, Change::AddRoute) {
            self.model.remove_route(route.prefix)?;
            return Err(refused);
        }
        self.tell_policies();
        now(())
    }

    fn route_remove(&mut self, prefix: IpNet) -> Handled {
        let route = self.model.remove_route(prefix)?;
        self.tell_route(&route, Change::RemoveRoute)?;
        self.tell_policies();
        now(())
    }

    pub(super) fn tell_route(&self, route: &StaticRoute, change: fn(Route) -> Change) -> Result<(), Refused> {
        compile::route(&self.model, route).map_or(Ok(()), |route| self.change(change(route)))
    }

    /// A lab has gone, and with it its rules and routes.
    pub(super) fn lab_forget(&mut self, lab: Option<&str>) -> Handled {
        let before: Vec<StaticRoute> = self.model.routes().cloned().collect();
        self.transact(|model| {
            model.forget_lab(lab);
            Ok(())
        })?;
        let gone: Vec<StaticRoute> =
            before.into_iter().filter(|route| !self.model.routes().any(|left| left == route)).collect();
        for route in &gone {
            self.tell_route(route, Change::RemoveRoute)?;
        }
        now(())
    }

    fn sysctl(&mut self, key: Option<&str>, value: Option<&str>) -> Handled {
        let row = |(key, value): (&str, u32)| SettingRow { key: key.to_owned(), value: value.into() };
        let Some(key) = key else {
            let mut rows: Vec<SettingRow> = sysctl::all(&self.model.settings).into_iter().map(row).collect();
            rows.push(self.flow_count()?);
            return now(rows);
        };
        if let Some(value) = value {
            self.transact(|model| sysctl::set(&mut model.settings, key, value))?;
        } else if sysctl::is_count(key) {
            return now([self.flow_count()?]);
        }
        now([row(sysctl::get(&self.model.settings, key)?)])
    }

    /// How many flows there are now.
    fn flow_count(&self) -> Result<SettingRow, Refused> {
        let count = self.in_loop(|inner| inner.switch.conntrack().len())?;
        Ok(SettingRow { key: sysctl::COUNT.to_owned(), value: count.into() })
    }
}
