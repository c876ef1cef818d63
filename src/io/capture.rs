//! Running captures: what the loop shows to whom, and the threads that write it.
//!
//! Theory of operation. Each capture has a selection (ports, networks or all), a
//! compiled filter and a bounded queue to a thread of its own, which writes pcapng to
//! the descriptor that the client handed over. In the loop a frame is filtered first
//! and copied only when wanted. When the queue holds 8 MiB or 8192
//! records the frame is not copied but counted as lost: a reader that stalls costs the
//! switch nothing. Frames of one packet carry one id, so that the copy that was read
//! and the copies that were written can be told to be the same.

use std::io::BufWriter;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::capture::file::PcapngWriter;
use crate::capture::filter::Program;
use crate::capture::record::{self, Record};
use crate::dataplane::table::Table;
use crate::dataplane::{DropReason, Frame, NetworkId, PortId};

/// Bytes that may wait for a capture's thread.
const QUEUE_BYTES: usize = 8 << 20;
/// Records that may wait for a capture's thread.
const QUEUE_LEN: usize = 8192;

/// Where a frame was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// As it was read from a port.
    In,
    /// As it was written to a port.
    Out,
    /// Where it ended.
    Drop(DropReason),
}

/// What a capture shows.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Every port, every point.
    pub any: bool,
    /// All ports of these networks, each frame once: as it was read.
    pub networks: Vec<NetworkId>,
    /// These ports, as read and as written.
    pub ports: Vec<PortId>,
    /// Drops too, on what is selected.
    pub drops: bool,
}

impl Selection {
    fn wants(&self, point: Point, port: PortId, network: Option<NetworkId>) -> bool {
        let on_port = self.ports.contains(&port);
        let on_network = network.is_some_and(|network| self.networks.contains(&network));
        self.any
            || match point {
                Point::In => on_port || on_network,
                Point::Out => on_port,
                Point::Drop(_) => self.drops && (on_port || on_network),
            }
    }
}

/// What a capture has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct CaptureStats {
    /// Frames that passed the filter.
    pub received: u64,
    /// Of these, frames that found the queue full.
    pub dropped: u64,
}

/// The running captures.
#[derive(Default)]
pub struct Captures {
    running: Vec<Running>,
    /// Threads of captures that have ended: they write what is queued.
    ending: Vec<JoinHandle<()>>,
    names: Table<Arc<str>>,
    wall_ns: u64,
    /// The id of the current burst's first frame.
    first_id: u64,
    /// How many ids the current burst may have used.
    burst_len: u64,
}

struct Running {
    id: u64,
    selection: Selection,
    filter: Program,
    snaplen: usize,
    queue: Sender<Record>,
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

/// Counters that the loop and a capture's thread share.
#[derive(Default)]
struct Shared {
    queued_bytes: AtomicUsize,
    received: AtomicU64,
    dropped: AtomicU64,
}

impl Captures {
    /// Whether nobody captures.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Starts a capture that writes pcapng to `output` from a thread of its own.
    ///
    /// # Errors
    /// EAGAIN when there may be no more threads.
    pub fn start(
        &mut self,
        id: u64,
        selection: Selection,
        filter: Program,
        snaplen: u32,
        output: OwnedFd,
    ) -> std::io::Result<()> {
        let (queue, records) = bounded(QUEUE_LEN);
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("capture".into());
        let thread = thread.spawn(move || write_records(&records, &for_thread, snaplen, output))?;
        let snaplen = snaplen as usize;
        self.running.push(Running { id, selection, filter, snaplen, queue, shared, thread });
        Ok(())
    }

    /// Selects anew what a capture shows, as ports come and go.
    pub fn select(&mut self, id: u64, selection: Selection) {
        if let Some(capture) = self.running.iter_mut().find(|capture| capture.id == id) {
            capture.selection = selection;
        }
    }

    /// Ends a capture; its thread writes what is queued and closes the output.
    pub fn stop(&mut self, id: u64) -> Option<CaptureStats> {
        let at = self.running.iter().position(|capture| capture.id == id)?;
        let Running { shared, thread, .. } = self.running.swap_remove(at);
        self.ending.retain(|thread| !thread.is_finished());
        self.ending.push(thread);
        let (received, dropped) =
            (shared.received.load(Ordering::Relaxed), shared.dropped.load(Ordering::Relaxed));
        Some(CaptureStats { received, dropped })
    }

    /// Ends all captures: the threads that write what is queued, and what it came to.
    pub fn end(&mut self) -> Vec<JoinHandle<()>> {
        self.ending.extend(self.running.drain(..).map(|capture| capture.thread));
        std::mem::take(&mut self.ending)
    }

    /// What a port is called in captures.
    pub fn name_port(&mut self, port: PortId, name: &str) {
        self.names.insert(port.0, name.into());
    }

    /// A new burst was read, at this wall-clock time (nanoseconds since the Unix epoch).
    pub fn begin_burst(&mut self, wall_ns: u64) {
        self.wall_ns = wall_ns;
        self.first_id += self.burst_len;
        self.burst_len = 0;
    }

    /// Shows a frame of the burst to whoever wants it.
    pub fn see(
        &mut self,
        point: Point,
        port: PortId,
        network: Option<NetworkId>,
        index: usize,
        frame: &Frame,
    ) {
        self.burst_len = self.burst_len.max(index as u64 + 1);
        let (time_ns, id) = (self.wall_ns, self.first_id + index as u64);
        let name = self.names.get(port.0);
        for capture in &self.running {
            let bytes = frame.bytes();
            if capture.selection.wants(point, port, network) && capture.filter.matches(bytes, bytes.len()) {
                capture.offer(point, time_ns, name, id, bytes);
            }
        }
    }
}

impl Running {
    /// Queues a copy, or counts it as lost.
    fn offer(&self, point: Point, time_ns: u64, name: Option<&Arc<str>>, id: u64, bytes: &[u8]) {
        self.shared.received.fetch_add(1, Ordering::Relaxed);
        let data = &bytes[..bytes.len().min(self.snaplen)];
        let room = self.shared.queued_bytes.load(Ordering::Relaxed) + data.len() <= QUEUE_BYTES;
        let record = || Record {
            time_ns,
            interface: name.cloned().unwrap_or_else(|| "?".into()),
            point: Some(match point {
                Point::In => record::Point::In,
                Point::Out => record::Point::Out,
                Point::Drop(_) => record::Point::Drop,
            }),
            wire_len: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            packet_id: Some(id),
            comment: match point {
                Point::Drop(reason) => Some(reason.name().to_owned()),
                Point::In | Point::Out => None,
            },
            data: data.to_vec(),
        };
        if room && !self.queue.is_full() {
            self.shared.queued_bytes.fetch_add(data.len(), Ordering::Relaxed);
            match self.queue.try_send(record()) {
                Ok(()) => return,
                // Only the thread takes from the queue, so this is its end: the reader has gone.
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                    self.shared.queued_bytes.fetch_sub(data.len(), Ordering::Relaxed);
                }
            }
        }
        self.shared.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// A capture's thread: writes records until the queue's end or the reader's. Whatever
/// has been read is flushed before the thread waits for more.
fn write_records(records: &Receiver<Record>, shared: &Shared, snaplen: u32, output: OwnedFd) {
    let write = || -> std::io::Result<()> {
        let mut writer =
            PcapngWriter::new(BufWriter::with_capacity(1 << 16, std::fs::File::from(output)), snaplen)?;
        writer.flush()?;
        while let Ok(record) = records.recv() {
            shared.queued_bytes.fetch_sub(record.data.len(), Ordering::Relaxed);
            writer.write(&record)?;
            if records.is_empty() {
                writer.flush()?;
            }
        }
        writer.finish(shared.received.load(Ordering::Relaxed), shared.dropped.load(Ordering::Relaxed))
    };
    // The reader closed its end: the client sees that itself, and the loop finds the queue closed.
    let _ = write();
}
