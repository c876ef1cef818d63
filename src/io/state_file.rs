//! The file that a daemon's state is in, and the thread that writes it.
//!
//! Theory of operation. A save writes a new file beside the old one, makes it durable, and takes the
//! old one's name: whoever is killed in between leaves the old state or the new one. The thread is idle when a
//! save is on the disk and ten times as long has passed (a quarter of a second at most); the daemon gives it the
//! next state then. So a single change is on the disk at once, a burst of changes is a few saves, and the
//! control loop never waits for a disk. A state that is given earlier waits in a slot, instead of any that waits
//! there: the last one is written when the daemon ends. What has changed since is in the journal beside it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use nix::fcntl::{Flock, OFlag};

use crate::io::journal::Journal;
use crate::io::private::{self, NoLock};

/// What the journal's files are called, behind the state's name.
const JOURNAL: [&str; 2] = [".log0", ".log1"];
/// How much longer than a save took the next one waits ...
const PAUSES: u32 = 10;
/// ... at most.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// A daemon's state file, which no other daemon has.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    /// To make a new name in it durable.
    directory: File,
    _lock: Flock<File>,
}

impl StateFile {
    /// Takes the file for us alone; it need not be there yet.
    ///
    /// # Errors
    /// When another daemon has it, or others can change its directory.
    pub fn lock(path: &Path) -> anyhow::Result<Self> {
        // Not through what a relative path means later on.
        let path = std::path::absolute(path).with_context(|| format!("--state {}", path.display()))?;
        let (Some(parent), Some(_)) = (path.parent(), path.file_name()) else {
            bail!("--state {}: give a file, or 'none'", path.display());
        };
        private::directory(parent, "state", "--state")?;
        let lock = private::lock(&beside(&path, ".lock")).map_err(|no_lock| match no_lock {
            NoLock::Held(pid) => anyhow::anyhow!(
                "another daemon (pid {pid}) keeps its state in {}: give each a file of its own with --state",
                path.display()
            ),
            NoLock::Failed(error) => {
                anyhow::Error::from(error).context(format!("cannot lock {}", path.display()))
            }
        })?;
        let directory = File::open(parent).with_context(|| format!("cannot open {}", parent.display()))?;
        Ok(Self { path, directory, _lock: lock.file })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was saved last; none when nothing was.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn read(&self) -> io::Result<Option<Vec<u8>>> {
        match fs::read(&self.path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The records of what has changed since.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn journal(&self) -> io::Result<Journal> {
        Journal::open(JOURNAL.map(|ending| beside(&self.path, ending)))
    }

    /// Replaces what was saved; whatever fails, and whenever we are killed, it is the old or the new text.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn write(&self, text: &[u8]) -> io::Result<()> {
        let new = beside(&self.path, ".new");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&new)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        self.directory.sync_all()
    }

    /// Forgets what was saved.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn remove(&self) -> io::Result<()> {
        let endings = [".new"].into_iter().chain(JOURNAL);
        for name in endings.map(|ending| beside(&self.path, ending)).chain([self.path.clone()]) {
            match fs::remove_file(name) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.directory.sync_all()
    }
}

/// A file's name with something behind it.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

/// What can be saved.
pub trait Text: Send + 'static {
    /// Its text.
    ///
    /// # Errors
    /// When it has none.
    fn text(&self) -> io::Result<Vec<u8>>;
}

/// The thread that saves, as its daemon sees it.
pub struct Saver<T> {
    shared: Arc<Shared<T>>,
    /// Rung when the slot is filled; dropped for the end.
    bell: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared<T> {
    file: StateFile,
    /// What is to be saved next.
    slot: Mutex<Option<T>>,
    /// Why the last save failed, if it did.
    failure: Mutex<Option<String>>,
    /// Nothing waits to be saved, nor is being saved.
    is_saved: AtomicBool,
    /// A state that comes now is saved at once.
    is_idle: AtomicBool,
}

impl<T: Text> Saver<T> {
    /// Starts the thread.
    ///
    /// # Errors
    /// EAGAIN when there may be no more threads.
    pub fn start(file: StateFile) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(file));
        let (bell, rung) = bounded(1);
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("state".into()).spawn(move || run(&theirs, &rung))?;
        Ok(Self { shared, bell: Some(bell), thread: Some(thread) })
    }

    /// Saves a state before it returns, at the start.
    ///
    /// # Errors
    /// Why it is not on the disk, in words.
    pub fn save_now(&self, state: T) -> Result<(), String> {
        *lock(&self.shared.slot) = Some(state);
        self.shared.save();
        self.failure().map_or(Ok(()), Err)
    }

    /// Has a state saved, instead of any that waits. Never blocks on the disk.
    pub fn save(&self, state: T) {
        let mut slot = lock(&self.shared.slot);
        self.shared.is_saved.store(false, Ordering::Release);
        self.shared.is_idle.store(false, Ordering::Release);
        *slot = Some(state);
        drop(slot);
        if let Some(bell) = &self.bell {
            // It is rung already, perhaps.
            let _ = bell.try_send(());
        }
    }

    /// Whether all that was to be saved is on the disk, or could not be put there.
    pub fn is_saved(&self) -> bool {
        self.shared.is_saved.load(Ordering::Acquire)
    }

    /// Whether a state that comes now is saved at once.
    pub fn is_idle(&self) -> bool {
        self.shared.is_idle.load(Ordering::Acquire)
    }

    /// Where it is saved.
    pub fn path(&self) -> &Path {
        self.shared.file.path()
    }

    /// Why the last save failed; none when it did not.
    pub fn failure(&self) -> Option<String> {
        lock(&self.shared.failure).clone()
    }

    /// Ends the thread, which saves what waits, and forgets all that was saved.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn forget(mut self) -> io::Result<()> {
        self.finish();
        self.shared.file.remove()
    }
}

impl<T> Saver<T> {
    /// Ends the thread, which saves what waits.
    fn finish(&mut self) {
        self.bell = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl<T> Drop for Saver<T> {
    fn drop(&mut self) {
        self.finish();
    }
}

impl<T: Text> Shared<T> {
    fn new(file: StateFile) -> Self {
        let [is_saved, is_idle] = [true, true].map(AtomicBool::new);
        Self { file, slot: Mutex::new(None), failure: Mutex::new(None), is_saved, is_idle }
    }

    /// Saves what waits; whether there was anything.
    fn save(&self) -> bool {
        let Some(state) = lock(&self.slot).take() else { return false };
        let saved = state.text().and_then(|text| self.file.write(&text));
        *lock(&self.failure) = saved.err().map(|error| error.to_string());
        let slot = lock(&self.slot);
        self.is_saved.store(slot.is_none(), Ordering::Release);
        true
    }
}

fn run<T: Text>(shared: &Shared<T>, rung: &Receiver<()>) {
    let mut goes_on = true;
    while goes_on {
        if lock(&shared.slot).is_none() {
            goes_on = rung.recv().is_ok();
        }
        let start = Instant::now();
        if shared.save() {
            goes_on &= pause(rung, (start.elapsed() * PAUSES).min(LONGEST_PAUSE));
            let slot = lock(&shared.slot);
            shared.is_idle.store(slot.is_none(), Ordering::Release);
        }
    }
    shared.save();
}

/// Waits; false when the daemon ends.
fn pause(rung: &Receiver<()>, time: Duration) -> bool {
    let end = Instant::now() + time;
    loop {
        match rung.recv_deadline(end) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

/// Whoever panicked with it left it whole: it is only ever replaced.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// A text that is there when somebody lets it, and that counts how often it was asked for.
    struct Slow(String, Receiver<()>, Arc<AtomicUsize>);

    impl Text for Slow {
        fn text(&self) -> io::Result<Vec<u8>> {
            self.2.fetch_add(1, Ordering::SeqCst);
            let _ = self.1.recv();
            Ok(self.0.clone().into_bytes())
        }
    }

    #[test]
    fn a_burst_is_one_save_and_the_last_one_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("own/state.json");
        let file = StateFile::lock(&path).unwrap();
        assert_eq!(file.read().unwrap(), None);
        let saver = Saver::start(file).unwrap();
        let (let_go, held) = bounded::<()>(0);
        let asked = Arc::new(AtomicUsize::new(0));
        let slow = |number: usize| Slow(number.to_string(), held.clone(), Arc::clone(&asked));
        saver.save(slow(0));
        while asked.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        (1..1000).for_each(|number| saver.save(slow(number)));
        assert!(!saver.is_saved() && !saver.is_idle());
        drop(let_go);
        while !saver.is_idle() {
            std::thread::yield_now();
        }
        assert!(saver.is_saved());
        drop(saver);
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        assert_eq!(StateFile::lock(&path).unwrap().read().unwrap().unwrap(), b"999");
        let saver = Saver::<Slow>::start(StateFile::lock(&path).unwrap()).unwrap();
        saver.forget().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn what_cannot_be_saved_is_said_until_it_can() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        let file = StateFile::lock(&path).unwrap();
        let shared = Shared::new(file);
        let (_, nothing) = bounded::<()>(0);
        let save = || {
            *lock(&shared.slot) = Some(Slow("x".into(), nothing.clone(), Arc::default()));
            assert!(shared.save());
            lock(&shared.failure).clone()
        };
        fs::create_dir(beside(&path, ".new")).unwrap();
        assert!(save().unwrap().contains("Is a directory"));
        fs::remove_dir(beside(&path, ".new")).unwrap();
        assert_eq!(save(), None);
        assert!(!shared.save(), "once");
    }

    #[test]
    fn two_daemons_never_share_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        let first = StateFile::lock(&path).unwrap();
        let refused = StateFile::lock(&path).unwrap_err().to_string();
        let said = format!("another daemon (pid {}) keeps its state in", std::process::id());
        assert!(refused.starts_with(&said), "{refused}");
        drop(first);
        StateFile::lock(&path).unwrap();
        assert!(StateFile::lock(Path::new("/")).is_err());
    }
}
