//! What is declared, on its way into the state file.
//!
//! After each turn the control loop compares the model with what was saved of it last, and hands what differs
//! to the thread that saves, if that is idle; else it looks again a moment later. Static fdb entries, ports that were set down, captures, flows and counters are not
//! declared, and end with the daemon.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::Daemon;
use crate::control::state::{KeptShell, Saved};
use crate::control::{Id, Model};
use crate::io::state_file::{Saver, StateFile, Text};

/// How soon the thread that saves is looked at again.
const AGAIN: Duration = Duration::from_millis(20);

/// What is to be saved; its text is made by the thread that saves it.
struct Declared {
    model: Model,
    boot: String,
    shells: BTreeMap<Id, Arc<KeptShell>>,
}

impl Text for Declared {
    fn text(&self) -> io::Result<Vec<u8>> {
        Ok(Saved::text(&self.model, &self.boot, &self.shells)?)
    }
}

/// Saves what outlives the daemon.
pub(super) struct Keeper {
    saver: Saver<Declared>,
    boot: String,
    /// The model as it was saved last.
    saved: Option<Model>,
    /// It has changed since, and the thread was not idle.
    is_late: bool,
}

impl Keeper {
    /// Starts its thread.
    pub(super) fn start(file: StateFile, boot: String) -> io::Result<Self> {
        Ok(Self { saver: Saver::start(file)?, boot, saved: None, is_late: false })
    }
}

impl fmt::Display for Keeper {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.saver.path().display())?;
        if self.is_late || !self.saver.is_saved() {
            out.write_str(", being saved")?;
        }
        self.saver.failure().map_or(Ok(()), |why| write!(out, ", which cannot be written: {why}"))
    }
}

impl Daemon {
    /// Has the model saved, if it has changed; when to look again, if it cannot be saved at once.
    pub(super) fn save_changes(&mut self) -> Option<Duration> {
        let keeper = self.state.as_mut()?;
        let has_changed = keeper.saved.as_ref() != Some(&self.model);
        keeper.is_late = has_changed && !keeper.saver.is_idle();
        if keeper.is_late {
            return Some(AGAIN);
        }
        if has_changed {
            self.save();
        }
        None
    }

    fn save(&mut self) {
        if let Some(keeper) = &mut self.state {
            let shells = self.containers.iter().map(|(id, shell)| (*id, Arc::clone(&shell.kept)));
            let (model, boot) = (self.model.clone(), keeper.boot.clone());
            keeper.saved = Some(model.clone());
            keeper.saver.save(Declared { model, boot, shells: shells.collect() });
        }
    }

    /// The daemon ends, and so do its containers; or they wait for the next one, if there is a state for it.
    pub(super) fn finish(&mut self) {
        self.save();
        match self.state.take() {
            Some(keeper) if !self.ends_all => {
                drop(keeper); // saves what waits
                let left = self.model.alive().count();
                if left > 0 {
                    eprintln!(
                        "tapswitch: {left} containers go on and wait for the next daemon; \
                         'tapswitch down --all' ends them"
                    );
                }
            }
            Some(keeper) => {
                self.runtime.keep(false);
                self.end_all();
                if let Err(error) = keeper.saver.forget() {
                    eprintln!("tapswitch: cannot remove the state: {error}");
                }
            }
            None => self.end_all(),
        }
    }
}
