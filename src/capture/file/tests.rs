//! Round trips, what other tools make of our files, and any bytes.

use std::path::Path;
use std::process::Command;

use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use proptest::prelude::*;

use super::*;
use crate::capture::record::{Point, Record};

const SECOND: u64 = 1_000_000_000;

fn record(number: u64, interface: &str, point: Option<Point>) -> Record {
    let data = (0..60 + number as u8).collect::<Vec<u8>>();
    Record {
        time_ns: 1_700_000_000 * SECOND + number,
        interface: interface.into(),
        point,
        wire_len: data.len() as u32,
        packet_id: point.map(|_| number / 2),
        comment: (point == Some(Point::Drop)).then(|| "icc".to_owned()),
        data,
    }
}

fn sightings() -> Vec<Record> {
    vec![
        record(1, "alice:eth0", Some(Point::In)),
        record(2, "bob:eth0", Some(Point::Out)),
        record(3, "alice:eth0", Some(Point::Drop)),
        Record { comment: None, ..record(4, "bob:eth0", Some(Point::Drop)) },
        Record { comment: Some("look here".to_owned()), ..record(5, "", None) },
    ]
}

fn pcapng(records: &[Record], snaplen: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = PcapngWriter::new(&mut bytes, snaplen).unwrap();
    records.iter().for_each(|record| writer.write(record).unwrap());
    writer.finish(records.len() as u64, 7).unwrap();
    bytes
}

fn pcap(records: &[Record], snaplen: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = PcapWriter::new(&mut bytes, snaplen).unwrap();
    records.iter().for_each(|record| writer.write(record).unwrap());
    writer.finish().unwrap();
    bytes
}

/// Every whole record, and the error that ended them.
fn read(bytes: &[u8]) -> (Vec<Record>, Option<FileError>) {
    let mut records = Vec::new();
    let mut reader = match Reader::open(bytes) {
        Ok(reader) => reader,
        Err(error) => return (records, Some(error)),
    };
    loop {
        match reader.next_record() {
            Ok(Some(record)) => records.push(record),
            Ok(None) => return (records, None),
            Err(error) => return (records, Some(error)),
        }
    }
}

/// A pcap with one packet of `aa bb`, in any of the four forms.
fn one_packet(magic: u32, frac: u32, big: bool) -> Vec<u8> {
    let number = |number: u32| if big { number.to_be_bytes() } else { number.to_le_bytes() };
    let short = |number: u16| if big { number.to_be_bytes() } else { number.to_le_bytes() };
    let mut bytes = number(magic).to_vec();
    bytes.extend([short(2), short(4)].concat());
    [0, 0, 65_535, ETHERNET, 10, frac, 2, 60].into_iter().for_each(|word| bytes.extend(number(word)));
    bytes.extend([0xaa, 0xbb]);
    bytes
}

#[test]
fn pcapng_comes_back_as_it_went() {
    let bytes = pcapng(&sightings(), 65_535);
    let reader = Reader::open(&bytes[..]).unwrap();
    assert_eq!((reader.snaplen(), reader.link_type()), (65_535, ETHERNET));
    let (records, error) = read(&bytes);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(records, sightings());
}

#[test]
fn pcap_keeps_time_lengths_and_bytes() {
    let plain = |record: &Record| Record {
        interface: "".into(),
        point: None,
        packet_id: None,
        comment: None,
        ..record.clone()
    };
    let bytes = pcap(&sightings(), 0);
    assert_eq!(Reader::open(&bytes[..]).unwrap().snaplen(), MAX_SNAPLEN);
    let expected: Vec<Record> = sightings().iter().map(plain).collect();
    assert_eq!(read(&bytes).0, expected);
}

#[test]
fn the_snapshot_length_cuts_bytes_not_lengths() {
    for bytes in [pcap(&sightings(), 14), pcapng(&sightings(), 14)] {
        let (records, _) = read(&bytes);
        assert!(records.iter().all(|record| record.data.len() == 14));
        let lengths: Vec<u32> = records.iter().map(|record| record.wire_len).collect();
        assert_eq!(lengths, [61, 62, 63, 64, 65]);
    }
}

#[test]
fn all_forms_of_pcap_are_read() {
    for (magic, frac, nanos) in [(0xa1b2_c3d4, 5, 5000), (0xa1b2_3c4d, 5, 5)] {
        for big in [false, true] {
            let (records, error) = read(&one_packet(magic, frac, big));
            assert!(error.is_none(), "{error:?}");
            let read = &records[0];
            assert_eq!(
                (read.time_ns, read.wire_len, &read.data[..]),
                (10 * SECOND + nanos, 60, &[0xaa, 0xbb][..])
            );
        }
    }
}

#[test]
fn a_truncated_file_gives_its_whole_records_first() {
    let bytes = pcap(&sightings(), 0);
    let (records, error) = read(&bytes[..bytes.len() - 10]);
    assert_eq!(records.len(), 4);
    let words = "truncated dump file; tried to read 65 captured bytes, only got 55";
    assert_eq!(error.unwrap().to_string(), words);
    let (records, error) = read(&bytes[..24 + 16 + 61 + 5]);
    assert_eq!(records.len(), 1);
    let words = "truncated dump file; tried to read 16 header bytes, only got 5";
    assert_eq!(error.unwrap().to_string(), words);
    let bytes = pcapng(&sightings(), 0);
    let (records, error) = read(&bytes[..bytes.len() - 3]);
    assert_eq!(records.len(), 5);
    let words = "truncated pcapng dump file; tried to read 44 bytes, only got 41";
    assert_eq!(error.unwrap().to_string(), words);
}

#[test]
fn what_is_no_capture_is_refused_in_one_line() {
    let refusal = |bytes: &[u8]| read(bytes).1.unwrap().to_string();
    assert_eq!(refusal(b"[network.net1]\n"), "unknown file format: neither pcap nor pcapng");
    assert_eq!(refusal(b""), "truncated dump file; tried to read 4 file header bytes, only got 0");
    let mut wifi = one_packet(0xa1b2_c3d4, 0, false);
    wifi[20] = 105;
    assert_eq!(refusal(&wifi), "link type 105 is not Ethernet, and nothing else can be read");
    let mut long = one_packet(0xa1b2_c3d4, 0, false);
    long[24 + 8..24 + 12].copy_from_slice(&262_145_u32.to_le_bytes());
    assert_eq!(refusal(&long), "invalid packet capture length 262145, bigger than maximum of 262144");
    let section_only = &pcapng(&[], 0)[..28];
    assert_eq!(refusal(section_only), "the capture file has no Interface Description Blocks");
}

#[test]
fn an_empty_pcapng_is_a_capture_too() {
    let bytes = pcapng(&[], 96);
    assert_eq!(Reader::open(&bytes[..]).unwrap().snaplen(), 96);
    assert!(matches!(read(&bytes), (records, None) if records.is_empty()));
}

#[test]
fn a_full_disk_is_the_writers_error() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let full = Some(std::io::ErrorKind::StorageFull);
    assert_eq!(PcapngWriter::new(Full, 0).err().map(|error| error.kind()), full);
    assert_eq!(PcapWriter::new(Full, 0).err().map(|error| error.kind()), full);
}

/// What a tool prints about a file with these bytes; `None`, loudly, without the tool.
fn ask(tool: &str, arguments: &[&str], name: &str, bytes: &[u8]) -> Option<String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let file = |path: &Path| path.to_str().unwrap().to_owned();
    match Command::new(tool).args(arguments).arg("-r").arg(file(&path)).env("TZ", "UTC").output() {
        Ok(output) => {
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{tool}: {errors}");
            Some(String::from_utf8(output.stdout).unwrap())
        }
        Err(error) => {
            eprintln!("SKIP: {tool} is not there: {error}");
            None
        }
    }
}

#[test]
fn tshark_shows_names_directions_comments_and_ids() {
    let fields =
        ["interface_name", "packet_flags_direction", "comment", "packet_id", "time_epoch", "cap_len", "len"];
    let fields = fields.map(|field| format!("frame.{field}"));
    let mut arguments = vec!["-n", "-T", "fields", "-E", "separator=|"];
    fields.iter().for_each(|field| arguments.extend(["-e", field]));
    let Some(shown) = ask("tshark", &arguments, "x.pcapng", &pcapng(&sightings(), 62)) else { return };
    let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split('|').collect()).collect();
    let direction = |text: &str| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    assert_eq!(rows.len(), 5, "{shown}");
    let names: Vec<&str> = rows.iter().map(|row| row[0]).take(4).collect();
    assert_eq!(names, ["alice:eth0", "bob:eth0", "alice:eth0", "bob:eth0"]);
    let directions: Vec<Option<u32>> = rows.iter().map(|row| direction(row[1])).collect();
    assert_eq!(directions, [Some(1), Some(2), Some(1), Some(1), None]);
    let comments: Vec<&str> = rows.iter().map(|row| row[2]).collect();
    assert_eq!(comments, ["", "", "dropped: icc", "dropped", "look here"]);
    let ids: Vec<&str> = rows.iter().map(|row| row[3]).collect();
    assert_eq!(ids, ["0", "1", "1", "2", ""]);
    assert_eq!(rows[2][4..], ["1700000000.000000003", "62", "63"]);
}

#[test]
fn tcpdump_reads_both_formats() {
    let files = [("x.pcap", pcap(&sightings(), 0)), ("x.pcapng", pcapng(&sightings(), 0))];
    for (name, bytes) in files {
        let arguments = ["-n", "--nano", "-tttt", "-e"];
        let Some(shown) = ask("tcpdump", &arguments, name, &bytes) else { return };
        let first = shown.lines().next().unwrap_or_default();
        let expected = "2023-11-14 22:13:20.000000001 06:07:08:09:0a:0b > 00:01:02:03:04:05";
        assert!(first.starts_with(expected), "{first}");
    }
}

#[test]
fn the_last_block_counts_what_was_received_and_lost() {
    let bytes = pcapng(&sightings(), 0);
    let mut reader = pcap_file::pcapng::PcapNgReader::new(&bytes[..]).unwrap();
    let mut options = Vec::new();
    while let Some(block) = reader.next_block() {
        let block = block.unwrap().0.into_owned();
        options.extend(block.into_interface_statistics().map(|statistics| statistics.options));
    }
    let counts = [InterfaceStatisticsOption::IsbIfRecv(5), InterfaceStatisticsOption::IsbIfDrop(7)];
    assert_eq!(options, [counts]);
    let mut reader = Reader::open(&bytes[..]).unwrap();
    assert_eq!(reader.counts(), None);
    while reader.next_record().unwrap().is_some() {}
    assert_eq!(reader.counts(), Some((5, 7)));
}

/// A line of tcpdump's that begins a packet begins with its time.
#[test]
fn every_committed_capture_is_read_whole() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures");
    let mut seen = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "pcap" && ending != "pcapng") {
            continue;
        }
        let (records, error) = read(&std::fs::read(&path).unwrap());
        assert!(error.is_none(), "{}: {error:?}", path.display());
        let golden = std::fs::read_to_string(path.with_extension("txt")).unwrap();
        let begins = |line: &&str| line.starts_with(|first: char| first.is_ascii_digit());
        assert_eq!(records.len(), golden.lines().filter(begins).count(), "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 14, "{seen} captures");
}

proptest! {
    /// Whatever the bytes: an error or records, and an end.
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut starts = vec![Vec::new(), one_packet(0xa1b2_c3d4, 0, false), pcapng(&sightings()[..2], 0)];
        starts.push(pcapng(&[], 0)[..28].to_vec());
        for mut start in starts {
            start.extend(&bytes);
            read(&start);
        }
    }

    /// A good file in which some bytes were changed.
    #[test]
    fn damaged_files_do_no_harm(changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6)) {
        for mut bytes in [pcap(&sightings(), 0), pcapng(&sightings(), 0)] {
            for (at, byte) in &changes {
                let at = at % bytes.len();
                bytes[at] = *byte;
            }
            read(&bytes);
        }
    }
}
