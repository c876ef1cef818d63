//! The switch is told what the model has become.

use super::{Daemon, failed};
use crate::control::compile::{Told, differences};
use crate::control::{Model, Refused};
use crate::dataplane::{Change, Rejected};
use crate::io::event_loop::EventLoop;

impl Daemon {
    /// Tells the switch what differs from what it was told last: all of it between two frames.
    /// What the host refuses (a port that somebody else listens on) is refused before anything is told.
    pub(super) fn tell_switch(&mut self) -> Result<(), Refused> {
        let next = self.told.next(&self.model);
        let bound = self.bind_listeners(next.plan().listeners().clone())?;
        self.tell_plan(next)?;
        self.tell_policies();
        self.tell_proxies();
        self.serve_listeners(bound);
        Ok(())
    }

    fn tell_plan(&mut self, next: Told) -> Result<(), Refused> {
        let changes = differences(self.told.plan(), next.plan());
        if !changes.is_empty() {
            let back = differences(next.plan(), self.told.plan());
            let applied = self.in_loop(move |inner| apply_all(inner, changes, back))?;
            applied.map_err(|rejected| failed(&rejected))?;
        }
        self.told = next;
        Ok(())
    }

    /// Changes the model and tells the switch; when either refuses, nothing has changed. A port that we chose and
    /// that somebody else on the host has is no reason to refuse: the next one is tried.
    pub(super) fn transact<R>(
        &mut self,
        mut operation: impl FnMut(&mut Model) -> Result<R, Refused>,
    ) -> Result<R, Refused> {
        loop {
            let before = self.model.clone();
            let done = operation(&mut self.model).and_then(|done| self.tell_switch().map(|()| done));
            if done.is_err() {
                self.model = before;
            }
            if done.is_ok() || !self.has_learned() {
                self.model.taken.clear();
                return done;
            }
        }
    }

    /// Whether the host has just refused a port that the model did not know to be taken, and knows now.
    pub(super) fn has_learned(&mut self) -> bool {
        self.taken.take().is_some_and(|taken| self.model.taken.insert(taken))
    }

    /// Changes the switch's configuration.
    pub(super) fn change(&self, change: Change) -> Result<(), Refused> {
        self.in_loop(|inner| inner.apply(change))?.map_err(|rejected| failed(&rejected))
    }
}

/// Applies all changes; when one is refused, those before it are taken `back`.
fn apply_all(inner: &mut EventLoop, changes: Vec<Change>, back: Vec<Change>) -> Result<(), Rejected> {
    let applied = changes.into_iter().try_for_each(|change| inner.apply(change));
    if applied.is_err() {
        // Some of these undo what was never done, and are refused in turn.
        back.into_iter().for_each(|change| drop(inner.apply(change)));
    }
    applied
}
