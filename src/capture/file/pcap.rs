//! pcap: one header, then one record after the other.

use std::borrow::Cow;
use std::io::{self, Write};

use pcap_file::pcap::{self, PcapHeader, PcapTsResolution, RawPcapPacket};
use pcap_file::{DataLink, Endianness};

use super::MAX_SNAPLEN;
use crate::capture::record::Record;

const SECOND_NS: u64 = 1_000_000_000;

/// Writes a nanosecond pcap, little-endian on every machine. Interfaces, points and comments
/// have no place in it.
pub struct PcapWriter<W: Write> {
    file: pcap::PcapWriter<W>,
    snaplen: u32,
}

impl<W: Write> PcapWriter<W> {
    /// Writes the file's header. Frames will be cut at `snaplen` bytes; 0 is the longest possible.
    ///
    /// # Errors
    /// The writer's.
    pub fn new(writer: W, snaplen: u32) -> io::Result<Self> {
        let snaplen = if snaplen == 0 { MAX_SNAPLEN } else { snaplen };
        let header = PcapHeader {
            snaplen,
            datalink: DataLink::ETHERNET,
            ts_resolution: PcapTsResolution::NanoSecond,
            endianness: Endianness::Little,
            ..PcapHeader::default()
        };
        let file = pcap::PcapWriter::with_header(writer, header).map_err(into_io)?;
        Ok(Self { file, snaplen })
    }

    /// Writes one frame.
    ///
    /// # Errors
    /// The writer's; or a time beyond the year 2106, which pcap cannot tell.
    pub fn write(&mut self, record: &Record) -> io::Result<()> {
        let seconds = u32::try_from(record.time_ns / SECOND_NS)
            .map_err(|_| io::Error::other("pcap has no time after 2106: write a pcapng"))?;
        let data = cut(&record.data, self.snaplen);
        let packet = RawPcapPacket {
            ts_sec: seconds,
            ts_frac: (record.time_ns % SECOND_NS) as u32, // Below 10^9, so it fits.
            incl_len: data.len() as u32,                  // At most `snaplen`, which is one.
            orig_len: record.wire_len.max(data.len() as u32),
            data: Cow::Borrowed(data),
        };
        self.file.write_raw_packet(&packet).map(drop).map_err(into_io)
    }

    /// Hands on what is buffered.
    ///
    /// # Errors
    /// The writer's.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush().map_err(into_io)
    }

    /// Ends the file.
    ///
    /// # Errors
    /// The writer's.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()
    }
}

/// The part of a frame that a capture with this snapshot length keeps.
pub(super) fn cut(data: &[u8], snaplen: u32) -> &[u8] {
    data.get(..snaplen as usize).unwrap_or(data)
}

fn into_io(error: pcap::PcapWriteError) -> io::Error {
    match error {
        pcap::PcapWriteError::Io(error) | pcap::PcapWriteError::FieldWriteFailed(_, error) => error,
        pcap::PcapWriteError::Validation(error) => io::Error::other(error),
    }
}

/// What the header of a pcap tells.
pub(super) fn snaplen_and_link_type(header: &PcapHeader) -> (u32, u32) {
    // The upper bits tell of frame check sequences and are no part of the type (`LT_LINKTYPE`).
    (header.snaplen, u32::from(header.datalink) & 0x03ff_ffff)
}

/// The record that a packet stands for; the rest of a packet above `snaplen` is left out.
pub(super) fn record(packet: &RawPcapPacket<'_>, resolution: PcapTsResolution, snaplen: u32) -> Record {
    let unit_ns = if resolution == PcapTsResolution::NanoSecond { 1 } else { 1000 };
    let data = cut(&packet.data, snaplen).to_vec();
    Record {
        time_ns: u64::from(packet.ts_sec) * SECOND_NS + u64::from(packet.ts_frac) * unit_ns,
        interface: "".into(),
        point: None,
        wire_len: packet.orig_len.max(data.len() as u32), // `data` is at most MAX_SNAPLEN long.
        packet_id: None,
        comment: None,
        data,
    }
}
