//! `capture`: frames as lines or files, as tcpdump shows and writes them.

pub mod live;
pub mod output;

use std::fs::File;
use std::io::{self, Read};

use anyhow::Context;

use crate::capture::file::{MAX_SNAPLEN, Reader};
use crate::capture::print::{self, Hex, Options};
use crate::capture::record::Record;
use crate::cli::{Global, filter, values};
use output::{Output, Place, Printer, STANDARD, Sink};

/// Show frames as tcpdump does, or write them to a file
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  tapswitch capture -i alice icmp                what alice sends and gets, like tcpdump on her interface
  tapswitch capture -i net:net1 -e               a network: each frame once, with its addresses
  tapswitch capture -i any --drops               everything, and what the switch drops, with the reason
  tapswitch capture -i web -w web.pcapng         into a file, for Wireshark; .pcap works too
  tapswitch capture -i any -w - | tshark -r -    into a pipe
  tapswitch capture -r web.pcapng -c 5 tcp       the first five TCP frames of a file

FILTER is tcpdump's language; quote what the shell would read: 'tcp[tcpflags] & tcp-syn != 0'")]
pub struct CaptureArgs {
    /// What to watch: CONTAINER, CONTAINER:IFNAME, net:NETWORK, or any (the default); may be repeated
    #[arg(short, long = "interface", value_name = "WHAT", conflicts_with = "read")]
    pub interfaces: Vec<String>,
    /// Read a pcap or pcapng file; - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub read: Option<String>,
    /// Write a capture instead of lines: pcapng if FILE ends in .pcapng, else pcap; - is standard output
    #[arg(short, long, value_name = "FILE")]
    pub write: Option<String>,
    /// Write pcapng whatever the file is called
    #[arg(long, requires = "write")]
    pub pcapng: bool,
    /// End after N frames
    #[arg(short, long, value_name = "N", value_parser = values::number::<u64>(1, u64::MAX))]
    pub count: Option<u64>,
    /// Keep the first N bytes of each frame; 0 keeps all
    #[arg(short, long = "snapshot-length", value_name = "N", default_value_t = MAX_SNAPLEN, hide_default_value = true,
          value_parser = values::number::<u32>(0, u32::MAX as u64))]
    pub snaplen: u32,
    /// Numbers instead of names; accepted for tcpdump's sake, as names are never looked up
    #[arg(short, action = clap::ArgAction::Count)]
    pub numeric: u8,
    /// Show Ethernet addresses, too
    #[arg(short = 'e')]
    pub link: bool,
    /// Show more; -vv still more
    #[arg(short, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Show bytes in hexadecimal; -xx the Ethernet header's, too
    #[arg(short = 'x', action = clap::ArgAction::Count)]
    pub hex: u8,
    /// Show no times
    #[arg(short = 't')]
    pub no_time: bool,
    /// Hand on each line at once
    #[arg(short = 'l')]
    pub line_buffered: bool,
    /// Hand on each frame at once, with -w
    #[arg(short = 'U')]
    pub packet_buffered: bool,
    /// Accepted for tcpdump's sake: a port of the switch sees what passes it, and nothing else
    #[arg(short = 'p', hide = true)]
    no_promiscuous: bool,
    /// List what can be watched, and end
    #[arg(short = 'D', long = "list-interfaces", conflicts_with_all = ["read", "write"])]
    pub list: bool,
    /// Show dropped frames, too, with their reasons
    #[arg(long, conflicts_with = "read")]
    pub drops: bool,
    /// Which frames, in tcpdump's language
    #[arg(value_name = "FILTER")]
    pub filter: Vec<String>,
}

impl CaptureArgs {
    /// The filter's words as one expression; empty means every frame.
    pub fn expression(&self) -> String {
        self.filter.join(" ")
    }

    /// Bytes of each frame to keep.
    pub fn kept(&self) -> u32 {
        if self.snaplen == 0 { MAX_SNAPLEN } else { self.snaplen.min(MAX_SNAPLEN) }
    }

    /// What makes the lines.
    fn printer(&self, interfaces: bool) -> Printer<'static> {
        let hex = match self.hex {
            0 => Hex::None,
            1 => Hex::X,
            2.. => Hex::XWithLink,
        };
        let options =
            Options { link: self.link, verbose: self.verbose > 0, hex, no_time: self.no_time, interfaces };
        let mut printer = print::Printer::new(options, jiff::tz::TimeZone::system());
        Box::new(move |record, line| printer.line(record, line))
    }

    /// Where the frames go: lines by `printer` to standard output, or the file of `-w`. `snaplen`
    /// is the longest frame of the source.
    ///
    /// # Errors
    /// A line that names the file which cannot be written.
    pub fn sink<'a>(&self, printer: Printer<'a>, snaplen: u32) -> anyhow::Result<Sink<'a>> {
        let kept = self.kept().min(snaplen);
        let name = self.write.as_deref().unwrap_or(STANDARD);
        let place: Place<'a> = output::create(name)?;
        let output = match &self.write {
            None => Output::Text(printer, place),
            Some(_) => Output::capture(place, name, self.pcapng, kept)
                .with_context(|| format!("cannot write {name}"))?,
        };
        let at_once = if self.write.is_some() { self.packet_buffered } else { self.line_buffered };
        Ok(Sink::new(output, name, kept).with_limit(self.count).unbuffered(at_once))
    }
}

/// `tapswitch capture`.
///
/// # Errors
/// A line that says what cannot be watched, read, understood or written.
pub fn run(global: &Global, args: &CaptureArgs) -> anyhow::Result<u8> {
    if args.list {
        return live::list(global);
    }
    let filter = filter::resolve(&args.expression())?;
    // Lines of several ports say which they are of, as with tcpdump -i any.
    let several = args.interfaces.is_empty() || args.interfaces.iter().any(|word| word == "any");
    match &args.read {
        Some(name) => {
            let printer = args.printer(false);
            read_file(args, name, |frame, len| filter.matches(frame, len), printer)
        }
        None => live::run(global, args, filter, args.printer(several || args.drops)),
    }
}

/// Opens a capture file, or standard input for `-`, and says on standard error what it is, as tcpdump does.
///
/// # Errors
/// A line that names the file.
pub fn open(name: &str) -> anyhow::Result<Reader<Box<dyn Read>>> {
    let source: Box<dyn Read> = if name == STANDARD {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(name).with_context(|| format!("cannot read {name}"))?)
    };
    Reader::open(source).with_context(|| format!("cannot read {name}"))
}

/// tcpdump's header for a file.
fn header<R: Read>(name: &str, reader: &Reader<R>) -> String {
    let snaplen = reader.snaplen();
    format!("reading from file {name}, link-type EN10MB (Ethernet), snapshot length {snaplen}")
}

/// `capture -r`: the frames of a file that pass the filter (bytes kept, length on the way).
///
/// # Errors
/// A line that names the file: it cannot be read, or no further; or the output cannot be written.
pub fn read_file(
    args: &CaptureArgs,
    name: &str,
    mut filter: impl FnMut(&[u8], usize) -> bool,
    printer: Printer<'_>,
) -> anyhow::Result<u8> {
    let mut reader = open(name)?;
    eprintln!("{}", header(name, &reader));
    let mut sink = args.sink(printer, reader.snaplen())?;
    let copied = copy(name, &mut reader, &mut filter, &mut sink);
    let written = sink.written();
    // What was whole comes out before the complaint about what was not.
    let finished = sink.finish(written, 0);
    copied.and(finished).map(|()| 0)
}

fn copy<R: Read>(
    name: &str,
    reader: &mut Reader<R>,
    filter: &mut impl FnMut(&[u8], usize) -> bool,
    sink: &mut Sink<'_>,
) -> anyhow::Result<()> {
    while let Some(record) = next(name, reader)? {
        if filter(&record.data, record.wire_len as usize) && sink.take(record)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// The next record of a file.
///
/// # Errors
/// A line that names the file and where it broke off.
pub fn next<R: Read>(name: &str, reader: &mut Reader<R>) -> anyhow::Result<Option<Record>> {
    reader.next_record().with_context(|| format!("cannot read {name} any further"))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::{ErrorKind, Write};
    use std::rc::Rc;

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        capture: CaptureArgs,
    }

    fn parse(words: &str) -> Result<CaptureArgs, clap::Error> {
        let words = std::iter::once("capture").chain(words.split_whitespace());
        Cli::try_parse_from(words).map(|cli| cli.capture)
    }

    fn fixture(name: &str) -> String {
        format!("{}/captures/{name}", env!("CARGO_MANIFEST_DIR"))
    }

    /// What came out of the file, read again.
    fn records(path: &str) -> Vec<Record> {
        let mut reader = open(path).unwrap();
        std::iter::from_fn(|| reader.next_record().unwrap()).collect()
    }

    fn no_printer() -> Printer<'static> {
        Box::new(|_, _| panic!("a file is written, not lines"))
    }

    /// A place that takes so many bytes, then fails.
    struct Limited(usize, ErrorKind);

    impl Write for Limited {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::Error::from(self.1))?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A sink of lines of 10 bytes into `place`.
    fn lines<'a>(place: impl Write + 'a) -> Sink<'a> {
        let printer: Printer<'a> = Box::new(|_, line| line.push_str("123456789\n"));
        Sink::new(Output::Text(printer, Box::new(place)), "x.pcap", MAX_SNAPLEN)
    }

    #[test]
    fn flags_are_tcpdumps() {
        let args = parse("-i alice -i net:net1 -w - -c 5 -nne -vv -xx -l -U --drops tcp port 80").unwrap();
        assert_eq!(args.interfaces, ["alice", "net:net1"]);
        assert_eq!((args.write.as_deref(), args.count, args.kept()), (Some("-"), Some(5), MAX_SNAPLEN));
        assert_eq!((args.verbose, args.hex, args.link, args.drops), (2, 2, true, true));
        assert_eq!(args.expression(), "tcp port 80");
        assert_eq!(parse("icmp -c 3").unwrap().count, Some(3));
        assert_eq!(parse("-s 0").unwrap().kept(), MAX_SNAPLEN);
        for wrong in ["-c 0", "-i a -r f", "-r f --drops", "--pcapng", "-D -r f"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_file_is_copied_counted_cut_and_filtered() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["out.pcap", "out.pcapng"] {
            let out = directory.path().join(name).to_str().unwrap().to_owned();
            let args = parse(&format!("-c 2 -s 20 -w {out}")).unwrap();
            let is_icmp = |data: &[u8], _: usize| data.get(23) == Some(&1);
            assert_eq!(read_file(&args, &fixture("ping.pcap"), is_icmp, no_printer()).unwrap(), 0);
            let copied = records(&out);
            let all = records(&fixture("ping.pcap"));
            let echoes = all.iter().filter(|record| record.data[23] == 1).take(2);
            let expected = echoes.map(|record| (record.time_ns, 98, record.data[..20].to_vec()));
            let copied = copied.iter().map(|record| (record.time_ns, record.wire_len, record.data.clone()));
            assert_eq!(copied.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_whole_comes_before_the_complaint() {
        let directory = tempfile::tempdir().unwrap();
        let [cut, out] = ["cut.pcap", "out.pcap"].map(|name| directory.path().join(name));
        let bytes = std::fs::read(fixture("ping.pcap")).unwrap();
        std::fs::write(&cut, &bytes[..bytes.len() - 5]).unwrap();
        let [cut, out] = [cut, out].map(|path| path.to_str().unwrap().to_owned());
        let args = parse(&format!("-w {out}")).unwrap();
        let error = read_file(&args, &cut, |_, _| true, no_printer()).unwrap_err();
        let words = "truncated dump file; tried to read 42 captured bytes, only got 37";
        assert_eq!(format!("{error:#}"), format!("cannot read {cut} any further: {words}"));
        assert_eq!(records(&out).len(), records(&fixture("ping.pcap")).len() - 1);
        let error = read_file(&args, "Cargo.toml", |_, _| true, no_printer()).unwrap_err();
        let expected = "cannot read Cargo.toml: unknown file format: neither pcap nor pcapng";
        assert_eq!(format!("{error:#}"), expected);
    }

    #[test]
    fn the_header_is_tcpdumps() {
        let name = fixture("snaplen40.pcap");
        let ours = header(&name, &open(&name).unwrap());
        match std::process::Command::new("tcpdump").args(["-n", "-r", &name]).output() {
            Ok(output) => assert_eq!(String::from_utf8(output.stderr).unwrap().trim_end(), ours),
            Err(error) => eprintln!("SKIP: tcpdump is not there: {error}"),
        }
        assert!(ours.ends_with("link-type EN10MB (Ethernet), snapshot length 40"), "{ours}");
    }

    #[test]
    fn a_closed_pipe_ends_quietly_and_a_full_disk_does_not() {
        let record = records(&fixture("ping.pcap")).swap_remove(0);
        let mut sink = lines(Limited(25, ErrorKind::BrokenPipe));
        assert!(sink.take(record.clone()).unwrap().is_continue());
        assert!(sink.take(record.clone()).unwrap().is_continue());
        assert!(sink.take(record.clone()).unwrap().is_break());
        assert_eq!(sink.written(), 2);
        sink.finish(2, 0).unwrap();
        let mut sink = lines(Limited(15, ErrorKind::StorageFull));
        assert!(sink.take(record.clone()).unwrap().is_continue());
        let error = sink.take(record).unwrap_err().to_string();
        assert_eq!(error, "cannot write x.pcap any further: no storage space, after 1 packet");
    }

    #[test]
    fn lines_are_handed_on_at_once_only_when_asked() {
        struct Shared(Rc<RefCell<usize>>);
        impl Write for Shared {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                *self.0.borrow_mut() += 1;
                Ok(())
            }
        }
        let record = records(&fixture("ping.pcap")).swap_remove(0);
        for (at_once, expected) in [(false, 0), (true, 2)] {
            let flushes = Rc::new(RefCell::new(0));
            let mut sink = lines(Shared(Rc::clone(&flushes))).unbuffered(at_once).with_limit(Some(2));
            assert!(sink.take(record.clone()).unwrap().is_continue());
            assert!(sink.take(record.clone()).unwrap().is_break(), "the limit");
            assert_eq!(*flushes.borrow(), expected);
        }
    }
}
