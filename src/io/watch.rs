//! Who watches the flows come and go (`conntrack -E`), and the threads that write for them.
//!
//! Theory of operation. As with captures: the loop fetches what conntrack has noted after each burst and
//! offers it to every watcher through a bounded queue to a thread of its own, which writes to the
//! descriptor that the client handed over. When the queue is full the event is not kept but counted, and
//! the watcher reads at that place how many are missing: who does not read costs the switch nothing. What
//! conntrack itself lost is missing for all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::OwnedFd;

use crossbeam_channel::{Receiver, Sender, bounded};

/// Events that may wait for a watcher's thread.
const QUEUE_LEN: usize = 8192;

/// What a watcher is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told<E> {
    /// Something happened, at this wall-clock time (nanoseconds since the Unix epoch).
    Event(u64, E),
    /// So many events are missing here.
    Lost(u64),
}

/// What watching has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct WatchStats {
    /// Events that were queued for the watcher.
    pub told: u64,
    /// Events that are missing.
    pub lost: u64,
}

/// Picks events, in the loop's thread.
pub type Wants<E> = Box<dyn Fn(&E) -> bool + Send>;
/// Writes what a watcher is told, in the watcher's thread.
pub type WriteTold<E> = Box<dyn FnMut(&mut dyn Write, &Told<E>) -> io::Result<()> + Send>;

/// Everybody who watches events of a kind.
pub struct Watchers<E>(Vec<Watcher<E>>);

impl<E> Default for Watchers<E> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

struct Watcher<E> {
    id: u64,
    wants: Wants<E>,
    queue: Sender<Told<E>>,
    stats: WatchStats,
    /// Missing since the last event that was queued.
    missing: u64,
}

impl<E: Copy + Send + 'static> Watchers<E> {
    /// Whether nobody watches.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Starts a watcher, for whom `write` writes to `output` in a thread of its own.
    ///
    /// # Errors
    /// EAGAIN when there may be no more threads.
    pub fn start(
        &mut self,
        id: u64,
        wants: Wants<E>,
        write: WriteTold<E>,
        output: OwnedFd,
    ) -> io::Result<()> {
        let (queue, waiting) = bounded(QUEUE_LEN);
        let thread = std::thread::Builder::new().name("conntrack -E".into());
        thread.spawn(move || {
            // The reader closed its end: the client sees that itself, and the loop finds the queue closed.
            let _ = write_all(&waiting, write, output);
        })?;
        self.0.push(Watcher { id, wants, queue, stats: WatchStats::default(), missing: 0 });
        Ok(())
    }

    /// Ends a watcher; its thread writes what is queued and closes the output.
    pub fn stop(&mut self, id: u64) -> Option<WatchStats> {
        let at = self.0.iter().position(|watcher| watcher.id == id)?;
        Some(self.0.swap_remove(at).stats)
    }

    /// Tells of events that were `lost` before anybody could look at them, and then of `event`s.
    pub fn tell(&mut self, wall_ns: u64, lost: u64, events: impl Iterator<Item = E>) {
        if lost > 0 {
            self.0.iter_mut().for_each(|watcher| watcher.miss(lost));
        }
        for event in events {
            for watcher in &mut self.0 {
                if (watcher.wants)(&event) {
                    watcher.offer(Told::Event(wall_ns, event));
                }
            }
        }
    }
}

impl<E> Watcher<E> {
    fn miss(&mut self, count: u64) {
        self.missing += count;
        self.stats.lost += count;
    }

    fn offer(&mut self, told: Told<E>) {
        if self.missing > 0 && self.queue.try_send(Told::Lost(self.missing)).is_ok() {
            self.missing = 0;
        }
        // What follows a gap must not come before the word of it.
        if self.missing == 0 && self.queue.try_send(told).is_ok() {
            self.stats.told += 1;
        } else {
            self.miss(1);
        }
    }
}

/// A watcher's thread: writes until the queue's end or the reader's. Whatever has been read is flushed
/// before the thread waits for more.
fn write_all<E>(waiting: &Receiver<Told<E>>, mut write: WriteTold<E>, output: OwnedFd) -> io::Result<()> {
    let mut output = BufWriter::new(File::from(output));
    while let Ok(told) = waiting.recv() {
        write(&mut output, &told)?;
        if waiting.is_empty() {
            output.flush()?;
        }
    }
    output.flush()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::sync::mpsc::{self, Receiver};

    use super::*;

    fn lines() -> WriteTold<u32> {
        Box::new(|out, told| match told {
            Told::Event(at, number) => writeln!(out, "{at} {number}"),
            Told::Lost(count) => writeln!(out, "lost {count}"),
        })
    }

    #[test]
    fn each_watcher_is_told_at_once_what_it_wants() {
        let mut watchers = Watchers::default();
        assert!(watchers.is_empty());
        let [(all, to_all), (even, to_even)] = [io::pipe().unwrap(), io::pipe().unwrap()];
        watchers.start(1, Box::new(|_| true), lines(), to_all.into()).unwrap();
        watchers.start(2, Box::new(|number| number % 2 == 0), lines(), to_even.into()).unwrap();
        watchers.tell(5, 0, 1..=3);
        let (mut all, mut line) = (BufReader::new(all), String::new());
        for expected in ["5 1\n", "5 2\n", "5 3\n"] {
            line.clear();
            all.read_line(&mut line).unwrap();
            assert_eq!(line, expected, "while it goes on");
        }
        watchers.tell(6, 7, [4].into_iter());
        assert_eq!(watchers.stop(1), Some(WatchStats { told: 4, lost: 7 }));
        assert_eq!(watchers.stop(2), Some(WatchStats { told: 2, lost: 7 }));
        assert_eq!((watchers.stop(2), watchers.is_empty()), (None, true));
        let (mut rest, mut evens) = (String::new(), String::new());
        all.read_to_string(&mut rest).unwrap();
        BufReader::new(even).read_to_string(&mut evens).unwrap();
        assert_eq!((rest.as_str(), evens.as_str()), ("lost 7\n6 4\n", "5 2\nlost 7\n6 4\n"));
    }

    /// A writer that waits for leave before it begins.
    fn held(leave: Receiver<()>) -> WriteTold<u32> {
        let mut write = lines();
        Box::new(move |out, told| {
            let _ = leave.recv();
            write(out, told)
        })
    }

    #[test]
    fn who_does_not_read_misses_events_and_reads_how_many() {
        const MORE: u32 = QUEUE_LEN as u32 + 1000;
        let mut watchers = Watchers::default();
        let (reader, output) = io::pipe().unwrap();
        let (let_go, leave) = mpsc::channel();
        watchers.start(1, Box::new(|_| true), held(leave), output.into()).unwrap();
        watchers.tell(0, 0, 0..MORE);
        drop(let_go);
        let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
        // The thread may have taken one from the queue before that was full.
        let told: Vec<_> = lines.by_ref().take(QUEUE_LEN).collect();
        assert_eq!((told[0].as_str(), told[QUEUE_LEN - 1].as_str()), ("0 0", "0 8191"));
        watchers.tell(1, 0, [MORE].into_iter());
        let stats = watchers.stop(1).unwrap();
        assert_eq!(stats.told + stats.lost, u64::from(MORE) + 1);
        let rest: Vec<_> = lines.collect();
        let expected = [format!("lost {}", stats.lost), format!("1 {MORE}")];
        assert_eq!(rest[rest.len() - 2..], expected);
    }

    #[test]
    fn a_watcher_whose_reader_has_gone_harms_nobody() {
        let mut watchers = Watchers::default();
        let (reader, output) = io::pipe().unwrap();
        drop(reader);
        watchers.start(1, Box::new(|_| true), lines(), output.into()).unwrap();
        while watchers.0[0].stats.lost == 0 {
            watchers.tell(0, 0, [1].into_iter());
        }
        assert!(watchers.stop(1).is_some());
    }
}
