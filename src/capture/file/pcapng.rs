//! pcapng: blocks of many kinds; frames name the interface that was described before.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption, InterfaceTsResolution,
};
use pcap_file::pcapng::blocks::interface_statistics::{InterfaceStatisticsBlock, InterfaceStatisticsOption};
use pcap_file::pcapng::blocks::opt_common::{CommonOption, UnknownOption};
use pcap_file::pcapng::blocks::section_header::SectionHeaderBlock;
use pcap_file::pcapng::{Block, PcapNgState, PcapNgWriteError, PcapNgWriter};
use pcap_file::{DataLink, Endianness};

use super::pcap::cut;
use super::{DROPPED, MAX_SNAPLEN};
use crate::capture::record::{Point, Record};

/// `epb_packetid`, which the crate does not name.
const PACKET_ID: u16 = 5;
/// The directions in the two lowest bits of `epb_flags`.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;
const DIRECTION: u32 = 0b11;
/// The longest text of an option; its length has 16 bits.
const MAX_TEXT: usize = 0xffff;

/// Writes a pcapng, little-endian on every machine: one interface block for each distinct
/// interface, before its first frame.
pub struct PcapngWriter<W: Write> {
    file: PcapNgWriter<W>,
    snaplen: u32,
    interfaces: BTreeMap<Arc<str>, u32>,
    last_ns: u64,
}

impl<W: Write> PcapngWriter<W> {
    /// Writes the file's header. Frames will be cut at `snaplen` bytes; 0 is the longest possible.
    ///
    /// # Errors
    /// The writer's.
    pub fn new(writer: W, snaplen: u32) -> io::Result<Self> {
        let snaplen = if snaplen == 0 { MAX_SNAPLEN } else { snaplen };
        let section = SectionHeaderBlock { endianness: Endianness::Little, ..SectionHeaderBlock::default() };
        let file = PcapNgWriter::with_section_header(writer, section).map_err(into_io)?;
        Ok(Self { file, snaplen, interfaces: BTreeMap::new(), last_ns: 0 })
    }

    /// Writes one frame.
    ///
    /// # Errors
    /// The writer's.
    pub fn write(&mut self, record: &Record) -> io::Result<()> {
        let interface_id = self.interface(&record.interface)?;
        let data = cut(&record.data, self.snaplen);
        let block = EnhancedPacketBlock {
            interface_id,
            timestamp: Duration::from_nanos(record.time_ns),
            original_len: record.wire_len.max(data.len() as u32), // At most `snaplen`, which is one.
            data: Cow::Borrowed(data),
            options: options(record),
        };
        self.last_ns = record.time_ns;
        self.file.write_pcapng_block(block).map(drop).map_err(into_io)
    }

    /// Hands on what is buffered.
    ///
    /// # Errors
    /// The writer's.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.get_mut().flush()
    }

    /// Ends the file with how many frames passed the filter, and how many of these it lacks.
    ///
    /// # Errors
    /// The writer's.
    pub fn finish(mut self, received: u64, dropped: u64) -> io::Result<()> {
        if self.interfaces.is_empty() {
            // Readers refuse a file without any interface; `any` is what tcpdump calls all of them.
            self.interface(&"any".into())?;
        }
        let statistics = InterfaceStatisticsBlock {
            interface_id: 0,
            timestamp: Duration::from_nanos(self.last_ns),
            options: vec![
                InterfaceStatisticsOption::IsbIfRecv(received),
                InterfaceStatisticsOption::IsbIfDrop(dropped),
            ],
        };
        self.file.write_pcapng_block(statistics).map_err(into_io)?;
        self.flush()
    }

    /// The number of the interface with this name, described when it is new.
    fn interface(&mut self, name: &Arc<str>) -> io::Result<u32> {
        if let Some(id) = self.interfaces.get(name) {
            return Ok(*id);
        }
        let id = self.interfaces.len() as u32; // There are not as many ports.
        let mut options = vec![InterfaceDescriptionOption::IfTsResol(InterfaceTsResolution::NANO)];
        if !name.is_empty() {
            options.insert(0, InterfaceDescriptionOption::IfName(Cow::Borrowed(text(name))));
        }
        let block =
            InterfaceDescriptionBlock { linktype: DataLink::ETHERNET, snaplen: self.snaplen, options };
        self.file.write_pcapng_block(block).map_err(into_io)?;
        self.interfaces.insert(Arc::clone(name), id);
        Ok(id)
    }
}

/// What the options of a frame's block tell.
fn options(record: &Record) -> Vec<EnhancedPacketOption<'_>> {
    let mut options = Vec::new();
    match record.point {
        Some(Point::In | Point::Drop) => options.push(EnhancedPacketOption::Flags(INBOUND)),
        Some(Point::Out) => options.push(EnhancedPacketOption::Flags(OUTBOUND)),
        None => {}
    }
    if let Some(id) = record.packet_id {
        let value = Cow::Owned(id.to_le_bytes().to_vec());
        let option = UnknownOption { code: PACKET_ID, value };
        options.push(EnhancedPacketOption::Common(CommonOption::Unknown(option)));
    }
    let comment = match (record.point, record.comment.as_deref()) {
        (Some(Point::Drop), Some(reason)) => Some(Cow::Owned(format!("{DROPPED}: {}", text(reason)))),
        (Some(Point::Drop), None) => Some(Cow::Borrowed(DROPPED)),
        (_, comment) => comment.map(|comment| Cow::Borrowed(text(comment))),
    };
    options.extend(comment.map(|comment| EnhancedPacketOption::Common(CommonOption::Comment(comment))));
    options
}

/// As much of a text as an option surely holds.
fn text(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT - 2 * DROPPED.len())]
}

fn into_io(error: PcapNgWriteError) -> io::Error {
    match error {
        PcapNgWriteError::Io(error) => error,
        PcapNgWriteError::Validation { .. }
        | PcapNgWriteError::InvalidFormat(_)
        | PcapNgWriteError::StateUpdate(_) => io::Error::other(error),
    }
}

/// The frame in a block, or `None` when the block holds something else.
pub(super) fn record(block: Block<'_>, state: &PcapNgState) -> Option<Record> {
    let (interface, timestamp, original_len, data, options) = match block {
        Block::EnhancedPacket(it) => {
            (it.interface_id as usize, it.timestamp, it.original_len, it.data, it.options)
        }
        Block::Packet(it) => (it.interface_id.into(), it.timestamp, it.original_len, it.data, Vec::new()),
        Block::SimplePacket(it) => (0, Duration::ZERO, it.original_len, it.data, Vec::new()),
        Block::SectionHeader(_)
        | Block::InterfaceDescription(_)
        | Block::NameResolution(_)
        | Block::InterfaceStatistics(_)
        | Block::SystemdJournalExport(_)
        | Block::CustomCopiable(_)
        | Block::CustomNonCopiable(_)
        | Block::Unknown(_) => return None,
    };
    let mut record = Record {
        time_ns: u64::try_from(timestamp.as_nanos()).unwrap_or(u64::MAX),
        interface: state.interfaces().get(interface).map_or("", name).into(),
        point: None,
        wire_len: original_len,
        packet_id: None,
        comment: None,
        data: data.into_owned(),
    };
    take_options(&mut record, options, state.endianness());
    Some(record)
}

/// How many frames were received, and how many dropped, if the block tells.
pub(super) fn counts(block: &Block<'_>) -> Option<(u64, u64)> {
    let Block::InterfaceStatistics(statistics) = block else { return None };
    let mut counts = (0, 0);
    for option in &statistics.options {
        match option {
            InterfaceStatisticsOption::IsbIfRecv(received) => counts.0 = *received,
            InterfaceStatisticsOption::IsbIfDrop(dropped) => counts.1 = *dropped,
            _ => {}
        }
    }
    Some(counts)
}

fn name<'a>(interface: &'a InterfaceDescriptionBlock<'_>) -> &'a str {
    interface.options.iter().find_map(if_name).unwrap_or("")
}

fn if_name<'a>(option: &'a InterfaceDescriptionOption<'_>) -> Option<&'a str> {
    if let InterfaceDescriptionOption::IfName(name) = option { Some(name) } else { None }
}

/// Reads what [`options`] writes. Of several comments the first counts.
fn take_options(record: &mut Record, options: Vec<EnhancedPacketOption<'_>>, endianness: Endianness) {
    for option in options {
        match option {
            EnhancedPacketOption::Flags(flags) => {
                record.point = match flags & DIRECTION {
                    INBOUND => Some(Point::In),
                    OUTBOUND => Some(Point::Out),
                    _ => None,
                }
            }
            EnhancedPacketOption::Common(CommonOption::Comment(comment)) if record.comment.is_none() => {
                record.comment = Some(comment.into_owned());
            }
            EnhancedPacketOption::Common(CommonOption::Unknown(option)) if option.code == PACKET_ID => {
                let bytes: Option<[u8; 8]> = option.value.as_ref().try_into().ok();
                record.packet_id = bytes.map(|bytes| match endianness {
                    Endianness::Big => u64::from_be_bytes(bytes),
                    Endianness::Little => u64::from_le_bytes(bytes),
                });
            }
            EnhancedPacketOption::Common(_)
            | EnhancedPacketOption::Hash(_)
            | EnhancedPacketOption::DropCount(_) => {}
        }
    }
    if let Some((point, reason)) = drop_reason(record) {
        (record.point, record.comment) = (Some(point), reason);
    }
}

/// The reason, when the record is a drop of ours.
fn drop_reason(record: &Record) -> Option<(Point, Option<String>)> {
    let rest = record.comment.as_deref()?.strip_prefix(DROPPED)?;
    let reason = if rest.is_empty() { None } else { Some(rest.strip_prefix(": ")?.to_owned()) };
    (record.point == Some(Point::In)).then_some((Point::Drop, reason))
}
