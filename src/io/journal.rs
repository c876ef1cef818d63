//! What has changed since a state was saved: records in two files, appended before anybody is answered.
//!
//! Theory of operation. A record is a line: a checksum, and a text without line breaks. It is handed to the
//! kernel in one write, without waiting for the disk: so it survives us, however we are killed, and costs
//! microseconds. The machine's own end is the saved state's business, which is synced.
//!
//! There are two files, of which one is written. When a state is about to be saved that knows all records so
//! far, and the one before it is on the disk, the file that is not written holds nothing but what that one
//! knows: it is emptied, and written from then on. So what a state that is on the disk does not know is always
//! in one of the two. Records are numbered by whoever makes them, and the reader takes those that follow his
//! state. A line that is not whole (we were killed, or the disk was full) was never answered: reading ends there.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use nix::fcntl::OFlag;

/// The most that one file holds: a state that cannot be saved for so long is in trouble anyway.
const LONGEST: u64 = 64 << 20;

/// The two files.
#[derive(Debug)]
pub struct Journal {
    written: File,
    other: File,
    /// How much of the first one is whole lines.
    len: u64,
}

impl Journal {
    /// Opens them, and makes those that are not there.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn open(paths: [PathBuf; 2]) -> io::Result<Self> {
        let open = |path: PathBuf| {
            let mut options = OpenOptions::new();
            options.read(true).append(true).create(true).mode(0o600);
            options.custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)
        };
        let [written, other] = paths;
        let (written, other) = (open(written)?, open(other)?);
        let len = written.metadata()?.len();
        Ok(Self { written, other, len })
    }

    /// The texts of all whole records, the older or the newer file's first.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn read(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let mut texts = Vec::new();
        for file in [&mut self.written, &mut self.other] {
            let mut bytes = Vec::new();
            file.rewind()?;
            file.read_to_end(&mut bytes)?;
            let lines = bytes.split_inclusive(|byte| *byte == b'\n');
            texts.extend(lines.map_while(record).map(<[u8]>::to_vec));
        }
        Ok(texts)
    }

    /// Appends a record; all of it, or nothing.
    ///
    /// # Errors
    /// What the file system refuses; `FileTooLarge` when no state was saved for too long.
    pub fn append(&mut self, text: &[u8]) -> io::Result<()> {
        let mut line = format!("{:016x} ", checksum(text)).into_bytes();
        line.extend_from_slice(text);
        line.push(b'\n');
        let len = self.len + line.len() as u64;
        if len > LONGEST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if let Err(error) = self.written.write_all(&line) {
            // Half a line would end the reading; if it stays, what follows waits for the next state.
            self.written.set_len(self.len)?;
            return Err(error);
        }
        self.len = len;
        Ok(())
    }

    /// A state is about to be saved that knows all records so far, and the one before it is on the disk.
    ///
    /// # Errors
    /// What the file system refuses; then all stays as it is.
    pub fn turn(&mut self) -> io::Result<()> {
        self.other.set_len(0)?;
        std::mem::swap(&mut self.written, &mut self.other);
        self.len = 0;
        Ok(())
    }

    /// Forgets all records: a state that is on the disk knows them.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn clear(&mut self) -> io::Result<()> {
        self.turn()?;
        self.other.set_len(0)
    }
}

/// The text of a line, if it is whole.
fn record(line: &[u8]) -> Option<&[u8]> {
    let (sum, text) = line.strip_suffix(b"\n")?.split_at_checked(17)?;
    (sum == format!("{:016x} ", checksum(text)).as_bytes()).then_some(text)
}

/// FNV-1a of 64 bits (draft-eastlake-fnv): tells a line that was cut or mixed up, by accident.
fn checksum(text: &[u8]) -> u64 {
    text.iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn open(directory: &Path) -> Journal {
        Journal::open(["0", "1"].map(|name| directory.join(name))).unwrap()
    }

    fn read(directory: &Path) -> Vec<String> {
        let texts = open(directory).read().unwrap();
        let mut texts: Vec<_> = texts.into_iter().map(|text| String::from_utf8(text).unwrap()).collect();
        texts.sort();
        texts
    }

    #[test]
    fn what_no_saved_state_knows_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let mut journal = open(path);
        journal.append(b"1").unwrap();
        journal.turn().unwrap(); // a state that knows 1 is being saved
        journal.append(b"2").unwrap();
        assert_eq!(read(path), ["1", "2"]);
        journal.turn().unwrap(); // it is saved, and the next one knows 2
        journal.append(b"3").unwrap();
        assert_eq!(read(path), ["2", "3"]);
        drop(journal);
        // Whoever opens them goes on at their ends.
        let mut journal = open(path);
        journal.append(b"4").unwrap();
        assert_eq!(read(path), ["2", "3", "4"]);
        journal.clear().unwrap();
        assert!(read(path).is_empty());
    }

    #[test]
    fn a_line_that_was_cut_anywhere_ends_the_reading() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let mut journal = open(path);
        for text in ["one", "two", "three"] {
            journal.append(text.as_bytes()).unwrap();
        }
        let whole = std::fs::read(path.join("0")).unwrap();
        let ends: Vec<usize> =
            whole.iter().enumerate().filter(|it| *it.1 == b'\n').map(|it| it.0 + 1).collect();
        for len in 0..=whole.len() {
            std::fs::write(path.join("0"), &whole[..len]).unwrap();
            assert_eq!(open(path).read().unwrap().len(), ends.iter().filter(|end| **end <= len).count());
        }
        for at in 0..ends[1] {
            let mut bent = whole.clone();
            bent[at] ^= 1;
            std::fs::write(path.join("0"), &bent).unwrap();
            assert!(open(path).read().unwrap().len() <= 1, "byte {at}");
        }
    }

    #[test]
    fn a_full_disk_leaves_whole_lines() {
        // A limit of the file's size does what a full disk does: half a line is written.
        let directory = tempfile::tempdir().unwrap();
        let mut journal = open(directory.path());
        journal.append(b"first").unwrap();
        journal.len = LONGEST - 10;
        assert_eq!(journal.append(b"too much").unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read(directory.path()), ["first"]);
    }
}
