//! A container's log: what it writes, of bounded size.
//!
//! The container writes into a pipe, and its supervisor copies that into a file. When the file is full it is kept
//! under a second name, in place of the one that was kept before, and a new one begins: so the newest output is
//! always there, between one and two files of it. A log that cannot be written (a full disk) loses output; the
//! container never waits for it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

use super::terminal::write_all;

/// How large a file gets when nobody says: the runtime directory is memory, mostly.
pub const USUAL_SIZE: u64 = 4 << 20;

/// A log.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    len: u64,
    max: u64,
}

impl Log {
    /// Goes on where it ended, if it is there. `max` bytes a file.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn open(path: &Path, max: u64) -> io::Result<Self> {
        let file = File::options().create(true).append(true).mode(0o600).open(path)?;
        let len = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, len, max })
    }

    /// Appends what can be appended; lines stay in one file, unless they are longer than one.
    fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = usize::try_from(self.max.saturating_sub(self.len)).unwrap_or(usize::MAX);
            let fits = match bytes.get(..room) {
                None => bytes.len(),
                Some(fitting) => fitting.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1),
            };
            if fits == 0 && self.len > 0 {
                self.rotate();
                continue;
            }
            let (now, later) = bytes.split_at(if fits == 0 { room.clamp(1, bytes.len()) } else { fits });
            if self.file.write_all(now).is_err() {
                self.len = self.file.metadata().map_or(self.len, |metadata| metadata.len());
                return;
            }
            self.len += now.len() as u64;
            bytes = later;
        }
    }

    /// Begins a new file, so that there is one of this name at any time.
    fn rotate(&mut self) {
        let begin = || {
            let (older, new) = (with(&self.path, ".1"), with(&self.path, ".new"));
            // The first time there is none.
            let _ = fs::remove_file(&older);
            fs::hard_link(&self.path, &older)?;
            // One that was begun by a supervisor that was killed.
            let _ = fs::remove_file(&new);
            let mut next = Self::open(&new, self.max)?;
            fs::rename(&new, &self.path)?;
            next.path.clone_from(&self.path);
            io::Result::Ok(next)
        };
        match begin() {
            Ok(next) => *self = next,
            Err(_) => {
                // Of bounded size, whatever happens.
                let _ = self.file.set_len(0);
                self.len = 0;
            }
        }
    }
}

/// A file's name with something behind it: `.1` is the file before this one.
fn with(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

/// A log as its reader sees it: the older file, then the newer one, then what comes.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    older: Option<File>,
    newer: File,
}

impl Reader {
    /// Opens it.
    ///
    /// # Errors
    /// What the file system refuses; `NotFound` when there is no log.
    pub fn open(path: &Path) -> io::Result<Self> {
        let newer = File::open(path)?;
        let mut reader = Self { path: path.to_owned(), older: None, newer };
        reader.older = reader.older_than(None);
        Ok(reader)
    }

    /// The file before the newer one, but for one that was read already.
    fn older_than(&self, read: Option<u64>) -> Option<File> {
        let older = File::open(with(&self.path, ".1")).ok()?;
        let inode = inode(&older);
        // The newer one may have become the older one this moment.
        (inode != read && inode != self::inode(&self.newer)).then_some(older)
    }
}

impl Read for Reader {
    /// Reads on; nothing at the present end.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(older) = &mut self.older {
                match older.read(buffer)? {
                    0 => self.older = None,
                    n => return Ok(n),
                }
            }
            let n = self.newer.read(buffer)?;
            let next = File::open(&self.path).ok().filter(|next| n == 0 && inode(next) != inode(&self.newer));
            let Some(next) = next else { return Ok(n) };
            // What was written to this one was written before it lost its name.
            let n = self.newer.read(buffer)?;
            if n > 0 {
                return Ok(n);
            }
            let read = inode(&std::mem::replace(&mut self.newer, next));
            self.older = self.older_than(read);
        }
    }
}

fn inode(file: &File) -> Option<u64> {
    file.metadata().ok().map(|metadata| metadata.ino())
}

/// Where a container's output is copied to.
#[derive(Debug)]
pub(super) enum Sink {
    File(File),
    Log(Log),
}

impl Sink {
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => write_all(file, bytes),
            Self::Log(log) => {
                log.append(bytes);
                Ok(())
            }
        }
    }

    /// Copies what is there to be read, from what never blocks. Says whether more may come.
    pub(super) fn copy(&mut self, from: &mut File) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(n) => self.write(buffer.get(..n).unwrap_or_default())?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Of a terminal whose far end is closed everywhere.
                Err(_) => return Ok(false),
            }
        }
    }
}

/// The near end of a pipe that a container writes into, and where that goes.
#[derive(Debug)]
pub(super) struct Drain {
    pipe: File,
    sink: Sink,
}

impl Drain {
    /// It, and the far end. Reading never blocks, writing does.
    pub(super) fn new(log: Log) -> io::Result<(Self, OwnedFd)> {
        let (near, far) = pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&near, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok((Self { pipe: near.into(), sink: Sink::Log(log) }, far))
    }

    pub(super) fn pipe(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// Copies what is there. Says whether more may come.
    pub(super) fn copy(&mut self) -> io::Result<bool> {
        self.sink.copy(&mut self.pipe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(reader: &mut Reader) -> String {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn the_newest_is_there_and_the_oldest_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = Log::open(&path, 12).unwrap();
        let mut following = Reader::open(&path).unwrap();
        for word in ["one\n", "two\n", "three\n", "four\n"] {
            log.append(word.as_bytes());
        }
        assert_eq!(all(&mut Reader::open(&path).unwrap()), "one\ntwo\nthree\nfour\n");
        assert_eq!(all(&mut following), "one\ntwo\nthree\nfour\n", "from one file into the next");
        // Whoever comes back goes on where the log was.
        let mut log = Log::open(&path, 12).unwrap();
        log.append(b"five\n");
        assert_eq!(all(&mut following), "five\n");
        assert_eq!(all(&mut Reader::open(&path).unwrap()), "three\nfour\nfive\n");
        for number in 0..1000 {
            log.append(format!("{number}\n").as_bytes());
        }
        assert!(all(&mut Reader::open(&path).unwrap()).ends_with("997\n998\n999\n"));
        let sizes = fs::read_dir(directory.path()).unwrap().map(|it| it.unwrap().metadata().unwrap().len());
        assert!(sizes.max().unwrap() <= 12);
        log.append(b"a line that is longer than a file\n");
        assert_eq!(all(&mut Reader::open(&path).unwrap()), "is longer than a file\n");
        (1..=999).rev().for_each(|number| log.append(format!("{number}\n{number}\n").as_bytes()));
        log.append(b"999\n");
        // What follows has missed some, and has the newest.
        assert!(all(&mut following).ends_with("999\n"));
    }

    #[test]
    fn what_cannot_be_rotated_stays_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = Log::open(&path, 10).unwrap();
        fs::create_dir_all(with(&path, ".1").join("in the way")).unwrap();
        (0..100).for_each(|_| log.append(b"1234567"));
        assert_eq!(fs::read(&path).unwrap(), b"1234567");
    }
}
