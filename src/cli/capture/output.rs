//! Where captured frames go: lines of text, a pcap, a pcapng.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::ops::ControlFlow;

use anyhow::{Context, anyhow};

use crate::capture::file::{PcapWriter, PcapngWriter};
use crate::capture::record::Record;

/// The name that means standard input or output.
pub const STANDARD: &str = "-";

/// Makes the line, or lines, that show a record; each with its end.
pub type Printer<'a> = Box<dyn FnMut(&Record, &mut String) + 'a>;

/// Any place that takes bytes.
pub type Place<'a> = Box<dyn Write + 'a>;

/// One of the forms in which records are written.
pub enum Output<'a> {
    /// Lines for people.
    Text(Printer<'a>, Place<'a>),
    /// A nanosecond pcap.
    Pcap(PcapWriter<Place<'a>>),
    /// A pcapng.
    Pcapng(PcapngWriter<Place<'a>>),
}

impl<'a> Output<'a> {
    /// A capture in the form that the name asks for: pcapng if it ends in `.pcapng`, or if
    /// `pcapng` is set, else pcap.
    ///
    /// # Errors
    /// The place's.
    pub fn capture(place: Place<'a>, name: &str, pcapng: bool, snaplen: u32) -> io::Result<Self> {
        if pcapng || name.ends_with(".pcapng") {
            PcapngWriter::new(place, snaplen).map(Output::Pcapng)
        } else {
            PcapWriter::new(place, snaplen).map(Output::Pcap)
        }
    }

    fn write(&mut self, record: &Record) -> io::Result<()> {
        match self {
            Self::Text(printer, place) => {
                let mut text = String::new();
                printer(record, &mut text);
                place.write_all(text.as_bytes())
            }
            Self::Pcap(writer) => writer.write(record),
            Self::Pcapng(writer) => writer.write(record),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Text(_, place) => place.flush(),
            Self::Pcap(writer) => writer.flush(),
            Self::Pcapng(writer) => writer.flush(),
        }
    }

    fn finish(self, received: u64, dropped: u64) -> io::Result<()> {
        match self {
            Self::Text(_, mut place) => place.flush(),
            Self::Pcap(writer) => writer.finish(),
            Self::Pcapng(writer) => writer.finish(received, dropped),
        }
    }
}

/// Opens a file for writing, or standard output for `-`.
///
/// # Errors
/// A line that names the file.
pub fn create(name: &str) -> anyhow::Result<Place<'static>> {
    if name == STANDARD {
        return Ok(Box::new(BufWriter::new(io::stdout())));
    }
    let file = File::create(name).with_context(|| format!("cannot write {name}"))?;
    Ok(Box::new(BufWriter::new(file)))
}

/// An output with a name and a limit, which knows when enough was written.
pub struct Sink<'a> {
    output: Output<'a>,
    /// What messages call it.
    name: String,
    /// Bytes of each frame that are kept.
    snaplen: u32,
    /// Records after which it is done.
    limit: Option<u64>,
    /// Hand on each record at once.
    unbuffered: bool,
    written: u64,
    /// Nobody reads any more.
    closed: bool,
}

impl<'a> Sink<'a> {
    /// A sink for all records.
    pub fn new(output: Output<'a>, name: &str, snaplen: u32) -> Self {
        let name = if name == STANDARD { "standard output" } else { name }.to_owned();
        Self { output, name, snaplen, limit: None, unbuffered: false, written: 0, closed: false }
    }

    /// The same, done after `limit` records.
    pub fn with_limit(self, limit: Option<u64>) -> Self {
        Self { limit, ..self }
    }

    /// The same, each record handed on at once.
    pub fn unbuffered(self, unbuffered: bool) -> Self {
        Self { unbuffered, ..self }
    }

    /// Records written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Writes a record, cut at the snapshot length. `Break`, when it was the last: the limit is
    /// reached, or nobody reads any more, which is no mistake.
    ///
    /// # Errors
    /// A line that names the output, what went wrong, and how much was written.
    pub fn take(&mut self, mut record: Record) -> anyhow::Result<ControlFlow<()>> {
        record.data.truncate(self.snaplen as usize);
        let written = self.output.write(&record);
        let written = written.and_then(|()| if self.unbuffered { self.output.flush() } else { Ok(()) });
        let goes_on = self.check(written)?;
        self.written += u64::from(goes_on.is_continue());
        let is_full = self.limit.is_some_and(|limit| self.written >= limit);
        Ok(if is_full { ControlFlow::Break(()) } else { goes_on })
    }

    /// Hands on what is buffered, as [`take`](Self::take) does.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn flush(&mut self) -> anyhow::Result<ControlFlow<()>> {
        let flushed = self.output.flush();
        self.check(flushed)
    }

    /// Ends the output. `received` and `dropped` are a capture's statistics, for a form that keeps them.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn finish(self, received: u64, dropped: u64) -> anyhow::Result<()> {
        let Self { output, name, written, closed, .. } = self;
        match output.finish(received, dropped) {
            Err(error) if !closed && error.kind() != ErrorKind::BrokenPipe => {
                Err(failure(&name, &error, written))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn check(&mut self, result: io::Result<()>) -> anyhow::Result<ControlFlow<()>> {
        match result {
            Ok(()) => Ok(ControlFlow::Continue(())),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(ControlFlow::Break(()))
            }
            Err(error) => Err(failure(&self.name, &error, self.written)),
        }
    }
}

fn failure(name: &str, error: &io::Error, written: u64) -> anyhow::Error {
    let packets = if written == 1 { "packet" } else { "packets" };
    anyhow!("cannot write {name} any further: {error}, after {written} {packets}")
}
