//! Reading either format, as far as it is whole.

use std::io::{BufReader, Read};

use pcap_file::pcap::{PcapParseError, PcapParser};
use pcap_file::pcapng::blocks::{
    ENHANCED_PACKET_BLOCK, INTERFACE_DESCRIPTION_BLOCK, INTERFACE_STATISTIC_BLOCK, PACKET_BLOCK,
    SECTION_HEADER_BLOCK, SIMPLE_PACKET_BLOCK,
};
use pcap_file::pcapng::{PcapNgParseError, PcapNgParser};

use super::{ETHERNET, FileError, MAX_SNAPLEN, pcap, pcapng};
use crate::capture::record::Record;

/// Bytes of a pcap's header, and of the header before each of its packets.
const PCAP_HEADER: usize = 24;
const PCAP_PACKET_HEADER: usize = 16;
/// Bytes of a pcapng block's type and length.
const BLOCK_HEADER: usize = 8;
/// The shortest block: its header, and its length again.
const MIN_BLOCK: u32 = 12;
/// The longest block that is read (libpcap's `INITIAL_MAX_BLOCKSIZE`).
const MAX_BLOCK: u32 = 16 << 20;

/// A capture that is being read, one record after the other. It never reads further than
/// the record asked for, so it can follow a capture that is still being written to a pipe.
pub struct Reader<R> {
    source: Source<R>,
    format: Format,
    snaplen: u32,
    counts: Option<(u64, u64)>,
}

enum Format {
    Pcap(PcapParser),
    Pcapng(PcapNgParser),
}

impl<R: Read> Reader<R> {
    /// Finds out the format and reads the header; of a pcapng, up to its first interface.
    ///
    /// # Errors
    /// [`FileError`] when it is no capture of Ethernet frames.
    pub fn open(reader: R) -> Result<Self, FileError> {
        let mut source = Source { reader: BufReader::new(reader), bytes: Vec::new(), file: "dump" };
        source.need(0, 4, "file header bytes")?;
        let is_pcapng = source.bytes == SECTION_HEADER_BLOCK.to_be_bytes();
        if is_pcapng { Self::open_pcapng(source) } else { Self::open_pcap(source) }
    }

    fn open_pcap(mut source: Source<R>) -> Result<Self, FileError> {
        let known = |magic: u32| source.bytes == magic.to_be_bytes() || source.bytes == magic.to_le_bytes();
        if ![0xa1b2_c3d4, 0xa1b2_3c4d].into_iter().any(known) {
            return Err(FileError::UnknownFormat);
        }
        source.need(0, PCAP_HEADER, "file header bytes")?;
        let (_, parser) = PcapParser::new(&source.bytes).map_err(|_| FileError::UnknownFormat)?;
        let (snaplen, link_type) = pcap::snaplen_and_link_type(&parser.header());
        check_link_type(link_type)?;
        Ok(Self { source, format: Format::Pcap(parser), snaplen: effective(snaplen), counts: None })
    }

    fn open_pcapng(mut source: Source<R>) -> Result<Self, FileError> {
        source.file = "pcapng dump";
        source.read_block(false)?;
        let (_, mut parser) = PcapNgParser::new(&source.bytes).map_err(malformed)?;
        while parser.interfaces().is_empty() {
            // A frame before the first interface does not decode.
            if !source.next_block(&parser)? || decode(&mut parser, &source.bytes, &mut None)?.is_some() {
                return Err(FileError::NoInterface);
            }
        }
        let snaplen = parser.interfaces().first().map_or(0, |interface| interface.snaplen);
        Ok(Self { source, format: Format::Pcapng(parser), snaplen: effective(snaplen), counts: None })
    }

    /// The longest part of a frame that was kept, in bytes.
    pub fn snaplen(&self) -> u32 {
        self.snaplen
    }

    /// The link type: [`ETHERNET`], for nothing else can be opened.
    pub fn link_type(&self) -> u32 {
        ETHERNET
    }

    /// How many frames were received and how many were lost, if a pcapng has said so by now.
    pub fn counts(&self) -> Option<(u64, u64)> {
        self.counts
    }

    /// What is read from.
    pub fn get_mut(&mut self) -> &mut R {
        self.source.reader.get_mut()
    }

    /// Whether bytes were taken from the source that no record has used yet.
    pub fn has_buffered(&self) -> bool {
        !self.source.reader.buffer().is_empty()
    }

    /// The next record, `None` at the end.
    ///
    /// # Errors
    /// [`FileError`] where the file breaks off or contradicts itself; nothing can be read after it.
    pub fn next_record(&mut self) -> Result<Option<Record>, FileError> {
        match &mut self.format {
            Format::Pcap(parser) => self.source.next_packet(parser, self.snaplen),
            Format::Pcapng(parser) => {
                while self.source.next_block(parser)? {
                    if let Some(record) = decode(parser, &self.source.bytes, &mut self.counts)? {
                        return Ok(Some(record));
                    }
                }
                Ok(None)
            }
        }
    }
}

/// A file, read piece by piece; `bytes` is the piece.
struct Source<R> {
    reader: BufReader<R>,
    bytes: Vec<u8>,
    /// What the file is called in messages.
    file: &'static str,
}

impl<R: Read> Source<R> {
    /// Reads until the piece is `len` bytes long. Memory grows with what comes, not with what a header promises.
    fn fill(&mut self, len: usize) -> Result<bool, FileError> {
        let missing = len.saturating_sub(self.bytes.len());
        (&mut self.reader).take(missing as u64).read_to_end(&mut self.bytes)?;
        Ok(self.bytes.len() >= len)
    }

    /// The same; the piece begins with `known` bytes that are not counted in the message.
    fn need(&mut self, known: usize, len: usize, part: &'static str) -> Result<(), FileError> {
        if self.fill(known + len)? {
            return Ok(());
        }
        let got = self.bytes.len().saturating_sub(known);
        Err(FileError::Truncated { file: self.file, part, wanted: len, got })
    }

    fn next_packet(&mut self, parser: &PcapParser, snaplen: u32) -> Result<Option<Record>, FileError> {
        self.bytes.clear();
        if !self.fill(1)? {
            return Ok(None);
        }
        self.need(0, PCAP_PACKET_HEADER, "header bytes")?;
        let header = parser.header();
        loop {
            match parser.next_raw_packet(&self.bytes) {
                Ok((_, packet)) => {
                    return Ok(Some(pcap::record(&packet, header.ts_resolution, snaplen)));
                }
                Err(PcapParseError::IncompleteBuffer(len, _)) => match u32::try_from(len) {
                    Ok(1..=MAX_SNAPLEN) => self.need(PCAP_PACKET_HEADER, len, "captured bytes")?,
                    Ok(len) => return Err(FileError::TooLong(len)),
                    Err(_) => return Err(FileError::TooLong(u32::MAX)),
                },
                Err(PcapParseError::Validation(error)) => {
                    return Err(FileError::Malformed(error.to_string()));
                }
            }
        }
    }

    /// Reads the next block; false at the end.
    fn next_block(&mut self, parser: &PcapNgParser) -> Result<bool, FileError> {
        self.bytes.clear();
        if !self.fill(1)? {
            return Ok(false);
        }
        let is_little = parser.section().endianness == pcap_file::Endianness::Little;
        self.read_block(is_little)?;
        Ok(true)
    }

    /// Completes the block that the piece begins with.
    fn read_block(&mut self, is_little: bool) -> Result<(), FileError> {
        self.need(0, BLOCK_HEADER, "bytes")?;
        let mut is_little = is_little;
        if self.bytes.starts_with(&SECTION_HEADER_BLOCK.to_be_bytes()) {
            // The section says how its numbers are to be read, its own length included.
            self.need(0, MIN_BLOCK as usize, "bytes")?;
            is_little = self.bytes.get(8) == Some(&0x4d);
        }
        let length: [u8; 4] = self.bytes.get(4..8).and_then(|it| it.try_into().ok()).unwrap_or_default();
        let length = if is_little { u32::from_le_bytes(length) } else { u32::from_be_bytes(length) };
        match length {
            MIN_BLOCK..=MAX_BLOCK => self.need(BLOCK_HEADER, length as usize - BLOCK_HEADER, "bytes"),
            length => Err(FileError::Malformed(format!("a block of {length} bytes"))),
        }
    }
}

/// The frame in a whole block, if it is a block with one.
fn decode(
    parser: &mut PcapNgParser,
    bytes: &[u8],
    counts: &mut Option<(u64, u64)>,
) -> Result<Option<Record>, FileError> {
    let before = parser.interfaces().len();
    let (_, raw) = parser.next_raw_block(bytes).map_err(malformed)?;
    match raw.type_ {
        INTERFACE_DESCRIPTION_BLOCK => {
            let new = parser.interfaces().get(before);
            new.map_or(Ok(()), |interface| check_link_type(interface.linktype.into()))?;
            Ok(None)
        }
        ENHANCED_PACKET_BLOCK | PACKET_BLOCK | SIMPLE_PACKET_BLOCK => {
            let block = raw.try_into_block(parser.state()).map_err(PcapNgParseError::from);
            let record = pcapng::record(block.map_err(malformed)?, parser.state());
            let len = record.as_ref().map_or(0, |record| record.data.len() as u32); // Within a block's.
            if len > MAX_SNAPLEN { Err(FileError::TooLong(len)) } else { Ok(record) }
        }
        INTERFACE_STATISTIC_BLOCK => {
            // One that makes no sense is nobody's loss.
            *counts = raw.try_into_block(parser.state()).ok().and_then(|it| pcapng::counts(&it)).or(*counts);
            Ok(None)
        }
        _ => Ok(None),
    }
}

fn check_link_type(link_type: u32) -> Result<(), FileError> {
    if link_type == ETHERNET { Ok(()) } else { Err(FileError::LinkType(link_type)) }
}

/// The snapshot length that a header means (libpcap's `pcap_adjust_snapshot`).
fn effective(snaplen: u32) -> u32 {
    if snaplen == 0 || snaplen > i32::MAX as u32 { MAX_SNAPLEN } else { snaplen }
}

/// One line out of an error and its causes.
fn malformed(error: PcapNgParseError) -> FileError {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    FileError::Malformed(text)
}
