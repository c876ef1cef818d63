//! What is declared, on its way into the state file.
//!
//! Before anybody is answered, what a request has changed is appended to the journal beside that file: so what was
//! answered outlives us, however we end. Whenever the thread that saves is idle, it is handed all that there is, and
//! the journal begins anew. While the journal cannot be written (a full disk) the daemon goes on, tells whoever
//! changes something, and saves the whole as soon as it can.
//!
//! Static fdb entries, ports that were set down, captures, flows and counters are not declared, and end with the
//! daemon.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use super::containers::Shell;
use super::{Daemon, Say};
use crate::control::journal::{Changes, Position, Record};
use crate::control::model::Container;
use crate::control::state::{Kept, KeptShell, Saved};
use crate::control::{Id, Model};
use crate::io::journal::Journal;
use crate::io::random;
use crate::io::state_file::{Saver, StateFile, Text};

/// How soon the thread that saves is looked at again.
const AGAIN: Duration = Duration::from_millis(20);
/// How soon a save that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

impl Text for Saved {
    fn text(&self) -> io::Result<Vec<u8>> {
        Ok(Self::text(self)?)
    }
}

/// Keeps what outlives the daemon.
pub(super) struct Keeper {
    saver: Saver<Saved>,
    journal: Journal,
    boot: String,
    /// The model as of the last record.
    noted: Model,
    /// The last record.
    at: Position,
    /// The record up to which the thread that saves knows everything.
    handed: u64,
    /// When it was handed that.
    handed_at: Instant,
    /// Why there are records that could not be written since the last state that is on the disk.
    gap: Option<String>,
    /// It was said that nothing can be kept at present.
    has_said: bool,
}

impl Keeper {
    /// Starts its thread; nothing is kept before [`Daemon::begin_keeping`].
    pub(super) fn start(file: StateFile, journal: Journal, boot: String, model: Model) -> io::Result<Self> {
        Ok(Self {
            saver: Saver::start(file)?,
            journal,
            boot,
            noted: model,
            at: Position { life: random::seed(), number: 0 },
            handed: 0,
            handed_at: Instant::now(),
            gap: None,
            has_said: false,
        })
    }

    /// Whether everything is saved or about to be, as far as it is known.
    fn is_handed(&self) -> bool {
        self.handed == self.at.number && self.saver.failure().is_none()
    }

    /// Appends a record; when that fails, none that comes later counts until a state is on the disk.
    fn note(&mut self, changes: Changes) -> Result<(), String> {
        let is_saved = self.saver.is_saved() && self.is_handed();
        self.at.number += 1;
        if self.gap.is_some() && is_saved && self.journal.clear().is_ok() {
            self.gap = None;
        }
        if self.gap.is_none() {
            let text = serde_json::to_vec(&Record { at: self.at, changes });
            let noted = text.map_err(io::Error::from).and_then(|text| self.journal.append(&text));
            self.gap = noted.err().map(|error| error.to_string());
        }
        self.gap.clone().map_or(Ok(()), Err)
    }

    /// Says once that nothing can be kept, and once that it can be again.
    fn say(&mut self, say: &Say) {
        let failure = self.saver.failure();
        if failure.is_some() != self.has_said && self.saver.is_saved() {
            self.has_said = failure.is_some();
            let path = self.saver.path().display();
            say(&match failure {
                Some(why) => {
                    format!("{path} cannot be written: {why}: what is done now may not outlive the daemon")
                }
                None => format!("{path} can be written again: everything is kept"),
            });
        }
    }
}

impl fmt::Display for Keeper {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.saver.path().display())?;
        if self.handed != self.at.number || !self.saver.is_saved() {
            out.write_str(", being saved")?;
        }
        self.saver.failure().map_or(Ok(()), |why| write!(out, ", which cannot be written: {why}"))
    }
}

/// What is kept of a container; of one that is being started again, what it was before: should we end before it
/// runs, it has ended.
fn kept(shells: &BTreeMap<Id, Shell>, container: &Container) -> Kept {
    let Some(shell) = shells.get(&container.id) else {
        return Kept { container: container.clone(), shell: KeptShell::default() };
    };
    let (spec, auto_remove, whence) = (shell.spec.clone(), shell.auto_remove, shell.whence.clone());
    let container = shell.former.as_ref().unwrap_or(container).clone();
    Kept { container, shell: KeptShell { spec, auto_remove, whence } }
}

impl Daemon {
    /// Saves all that there is, at the start: records count from here on.
    pub(super) fn begin_keeping(&mut self) {
        let Some(keeper) = &mut self.state else { return };
        let mut state = Saved::of(&self.model, &keeper.boot, |container| kept(&self.containers, container));
        state.journal = keeper.at;
        keeper.noted = self.model.clone();
        keeper.gap = keeper.saver.save_now(state).err();
        if keeper.gap.is_none() {
            keeper.gap = keeper.journal.clear().err().map(|error| error.to_string());
        }
        keeper.say(&self.options.say);
    }

    /// Notes what has changed, so that it outlives us.
    ///
    /// # Errors
    /// Why it cannot be noted, in words; it may yet be saved.
    pub(super) fn note_changes(&mut self) -> Result<(), String> {
        let Some(keeper) = &mut self.state else { return Ok(()) };
        let of = |container: &Container| kept(&self.containers, container);
        let Some(changes) = Changes::between(&keeper.noted, &self.model, of) else { return Ok(()) };
        keeper.noted = self.model.clone();
        keeper.note(changes).map_err(|why| {
            format!(
                "this may not outlive the daemon: {} cannot be written: {why}",
                keeper.saver.path().display()
            )
        })
    }

    /// Has the model saved, if it has changed; when to look again, if it cannot be saved at once.
    pub(super) fn save_changes(&mut self) -> Option<Duration> {
        // Nobody has asked for what ended by itself.
        let _ = self.note_changes();
        let keeper = self.state.as_mut()?;
        keeper.say(&self.options.say);
        if keeper.is_handed() {
            return (!keeper.saver.is_saved()).then_some(AGAIN);
        }
        if !keeper.saver.is_idle() {
            return Some(AGAIN);
        }
        let has_failed = keeper.saver.failure().is_some();
        let since = keeper.handed_at.elapsed();
        if has_failed && since < RETRY {
            return Some(RETRY - since);
        }
        if !has_failed && keeper.gap.is_none() {
            // The state before this one is on the disk, so that nobody needs the journal's other file.
            keeper.gap = keeper.journal.turn().err().map(|error| error.to_string());
        }
        self.save();
        Some(AGAIN)
    }

    fn save(&mut self) {
        let Some(keeper) = &mut self.state else { return };
        let mut state = Saved::of(&self.model, &keeper.boot, |container| kept(&self.containers, container));
        state.journal = keeper.at;
        keeper.saver.save(state);
        (keeper.handed, keeper.handed_at) = (keeper.at.number, Instant::now());
    }

    /// The daemon ends, and so do its containers; or they wait for the next one, if there is a state for it.
    pub(super) fn finish(&mut self) {
        self.end_captures();
        let _ = self.note_changes();
        self.save();
        match self.state.take() {
            Some(keeper) if !self.ends_all => {
                drop(keeper); // saves what waits
                let left = self.model.containers().iter().filter(|it| it.is_alive()).count();
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
