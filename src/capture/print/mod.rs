//! Frames as text, as `tcpdump -n` prints them.
//!
//! # Theory of operation
//!
//! A [`Printer`] writes a time stamp and hands the frame to the dissector of its outermost header
//! (`ether`), which writes its part and hands the rest to the next: one file per protocol family, one
//! function per header. All of them append to one `Line` and read through `Bytes`,
//! a window that ends where the datagram or the capture ends. A read past that end returns
//! `Truncated`, which goes up to the printer, and the line ends in `[|name]`: no dissector can be
//! made to read beyond the frame, whatever its length fields say.
//!
//! The one thing remembered from frame to frame is where the sequence numbers of a TCP connection
//! began (`Flows`, bounded).
//!
//! The yardstick is tcpdump 4.99.3 (Debian 12); `tests/print.rs` compares with the installed one.
//! Headers and payloads we do not decode are printed in tcpdump's words for unknown ones.

mod arp;
mod bytes;
mod dns;
mod ether;
mod flows;
mod icmp;
mod icmp6;
mod igmp;
mod ip;
mod ip6;
mod ip_options;
mod line;
mod llc;
mod nd_options;
mod stp;
mod tcp;
mod tcp_options;
mod text;
mod text_protocols;
mod udp;

use jiff::tz::TimeZone;

use super::record::{Point, Record};
use bytes::Bytes;
use flows::Flows;
use line::{Line, put};

/// How much of the frames is dumped in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hex {
    /// Nothing but payloads that nobody decodes.
    #[default]
    None,
    /// Everything behind the link-layer header (`-x`).
    X,
    /// The whole frame (`-xx`).
    XWithLink,
}

/// What a line shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// The link-layer header (`-e`).
    pub link: bool,
    /// Time to live, identification, checksums, options (`-v`).
    pub verbose: bool,
    /// Hex dumps (`-x`, `-xx`).
    pub hex: Hex,
    /// No time stamps (`-t`).
    pub no_time: bool,
    /// The interface and the direction before each frame, and the reason behind one that was dropped.
    pub interfaces: bool,
}

/// Turns records into lines of text.
#[derive(Debug)]
pub struct Printer {
    options: Options,
    zone: TimeZone,
    flows: Flows,
}

impl Printer {
    /// A printer whose time stamps are in `zone`.
    pub fn new(options: Options, zone: TimeZone) -> Self {
        Self { options, zone, flows: Flows::default() }
    }

    /// Appends what is to be said about `record` to `out`: one line, or several with `verbose` or `hex`.
    pub fn line(&mut self, record: &Record, out: &mut String) {
        let time = (!self.options.no_time).then(|| self.time(record.time_ns));
        let mut line = Line::new(out, self.options, &mut self.flows);
        if record.data.is_empty() {
            let no_len = if record.wire_len == 0 { ", len==0" } else { "" };
            put!(line, "[Invalid header: caplen==0{no_len}]\n");
            return;
        }
        if let Some(time) = time {
            put!(line, "{time} ");
        }
        if self.options.interfaces {
            interface(&mut line, record);
        }
        // No record's frame is shorter than what was captured of it.
        let length = record.data.len().max(usize::try_from(record.wire_len).unwrap_or(usize::MAX));
        let header = ether::frame(&mut line, Bytes::new(&record.data, "ether"), length);
        let header = header.unwrap_or_else(|truncated| {
            line.cut(truncated);
            0
        });
        if self.options.interfaces && record.point == Some(Point::Drop) {
            put!(line, " ({})", record.comment.as_deref().unwrap_or("no reason given"));
        }
        match self.options.hex {
            Hex::None => {}
            Hex::X => line.dump(record.data.get(header..).unwrap_or_default(), "\n\t", false),
            Hex::XWithLink => line.dump(&record.data, "\n\t", false),
        }
        put!(line, "\n");
    }

    /// `HH:MM:SS.ffffff`, in our zone.
    fn time(&self, time_ns: u64) -> String {
        let at = jiff::Timestamp::from_nanosecond(i128::from(time_ns)).unwrap_or(jiff::Timestamp::MAX);
        let offset = i64::from(self.zone.to_offset(at).seconds());
        let second = (at.as_second() + offset).rem_euclid(24 * 60 * 60);
        let microseconds = at.subsec_nanosecond() / 1000;
        format!("{:02}:{:02}:{:02}.{microseconds:06}", second / 3600, second / 60 % 60, second % 60)
    }
}

/// The columns of `tcpdump -i any`; we have one more point.
fn interface(line: &mut Line<'_>, record: &Record) {
    let point = match record.point {
        Some(Point::In) => "In",
        Some(Point::Out) => "Out",
        Some(Point::Drop) => "Drop",
        None => "?",
    };
    put!(line, "{:<5} {point:<3} ", record.interface);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: Options =
        Options { link: false, verbose: false, hex: Hex::None, no_time: true, interfaces: false };
    const MACS: &str = "02420a000002 02420a000001";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    fn record(data: Vec<u8>) -> Record {
        let wire_len = u32::try_from(data.len()).unwrap();
        let (interface, comment) = ("web:eth0".into(), Some("egress queue full".into()));
        Record {
            time_ns: 1_700_000_000_123_456_789,
            interface,
            point: None,
            wire_len,
            packet_id: None,
            comment,
            data,
        }
    }

    fn text(options: Options, record: &Record) -> String {
        let mut out = String::new();
        Printer::new(options, TimeZone::UTC).line(record, &mut out);
        out
    }

    /// EtherType and payload of frames, and tcpdump 4.99.3's line for them.
    const LINES: &[(&str, &str)] = &[
        (
            "0806 0001 0800 06 04 0001 02420a000001 0a000001 000000000000 0a000002",
            "ARP, Request who-has 10.0.0.2 tell 10.0.0.1, length 28",
        ),
        (
            "0806 0001 0800 06 04 0002 02420a000002 0a000002 02420a000001 0a000001",
            "ARP, Reply 10.0.0.2 is-at 02:42:0a:00:00:02, length 28",
        ),
        (
            "0800 4500001c000700004001 66d8 0a000001 0a000002 0800 f7fd 0001 0001",
            "IP 10.0.0.1 > 10.0.0.2: ICMP echo request, id 1, seq 1, length 8",
        ),
        (
            "0800 4500001e000740004011 26c6 0a000001 0a000002 04d2 270f 000a 0000 6869",
            "IP 10.0.0.1.1234 > 10.0.0.2.9999: UDP, length 2",
        ),
        (
            "0800 4500002c000740004006 26c3 0a000001 0a000002 9c40 0050 000003e8 00000000 60 02 faf0 0000 0000 020405b4",
            "IP 10.0.0.1.40000 > 10.0.0.2.80: Flags [S], seq 1000, win 64240, options [mss 1460], length 0",
        ),
        ("0800 45000014000700", "IP  [|ip]"),
        (
            "86dd 60000000 0020 3a ff fd000000000000000000000000000001 ff0200000000000000000001ff000002 \
             87 00 0000 00000000 fd000000000000000000000000000002 0101 02420a000001",
            "IP6 fd00::1 > ff02::1:ff00:2: ICMP6, neighbor solicitation, who has fd00::2, length 32",
        ),
        (
            "88b5 6869",
            "02:42:0a:00:00:01 > 02:42:0a:00:00:02, ethertype Unknown (0x88b5), length 16: \n\
             \t0x0000:  6869                                     hi",
        ),
    ];

    #[test]
    fn a_line_for_a_frame() {
        for (hex, line) in LINES {
            let record = record(bytes(&format!("{MACS} {hex}")));
            assert_eq!(text(PLAIN, &record), format!("{line}\n"));
        }
    }

    #[test]
    fn options_add_to_the_line() {
        let ping = record(bytes(&format!("{MACS} {}", LINES[2].0)));
        let verbose = "IP (tos 0x0, ttl 64, id 7, offset 0, flags [none], proto ICMP (1), length 28)\n    \
                       10.0.0.1 > 10.0.0.2: ICMP echo request, id 1, seq 1, length 8\n";
        assert_eq!(text(Options { verbose: true, ..PLAIN }, &ping), verbose);
        let link = "02:42:0a:00:00:01 > 02:42:0a:00:00:02, ethertype IPv4 (0x0800), length 42: \
                    10.0.0.1 > 10.0.0.2: ICMP echo request, id 1, seq 1, length 8\n";
        assert_eq!(text(Options { link: true, ..PLAIN }, &ping), link);
        let hex = "IP 10.0.0.1 > 10.0.0.2: ICMP echo request, id 1, seq 1, length 8\n\
                   \t0x0000:  4500 001c 0007 0000 4001 66d8 0a00 0001\n\
                   \t0x0010:  0a00 0002 0800 f7fd 0001 0001\n";
        assert_eq!(text(Options { hex: Hex::X, ..PLAIN }, &ping), hex);
        let whole = text(Options { hex: Hex::XWithLink, ..PLAIN }, &ping);
        assert!(whole.contains("\n\t0x0000:  0242 0a00 0002 0242 0a00 0001 0800 4500\n"), "{whole}");
    }

    #[test]
    fn times_are_in_the_zone() {
        let record = record(bytes(&format!("{MACS} {}", LINES[0].0)));
        for (hours, time) in [(0, "22:13:20.123456 "), (2, "00:13:20.123456 "), (-9, "13:13:20.123456 ")] {
            let zone = TimeZone::fixed(jiff::tz::offset(hours));
            let mut out = String::new();
            Printer::new(Options { no_time: false, ..PLAIN }, zone).line(&record, &mut out);
            assert!(out.starts_with(time), "{out}");
        }
    }

    #[test]
    fn interfaces_have_columns_and_drops_a_reason() {
        let arp = "ARP, Request who-has 10.0.0.2 tell 10.0.0.1, length 28";
        let mut record = record(bytes(&format!("{MACS} {}", LINES[0].0)));
        let points = [
            (Some(Point::In), format!("web:eth0 In  {arp}\n")),
            (Some(Point::Out), format!("web:eth0 Out {arp}\n")),
            (Some(Point::Drop), format!("web:eth0 Drop {arp} (egress queue full)\n")),
            (None, format!("web:eth0 ?   {arp}\n")),
        ];
        for (point, line) in points {
            record.point = point;
            assert_eq!(text(Options { interfaces: true, ..PLAIN }, &record), line);
        }
    }

    #[test]
    fn sequence_numbers_are_relative_once_known() {
        let tcp = "4500 0028 0007 4000 4006 26c7 0a000001 0a000002 9c40 0050";
        let segment = |numbers| record(bytes(&format!("{MACS} 0800 {tcp} {numbers} 50 10 faf0 0000 0000")));
        let mut printer = Printer::new(PLAIN, TimeZone::UTC);
        let mut out = String::new();
        printer.line(&segment("000003e8 00001389"), &mut out);
        printer.line(&segment("000003e9 000013ed"), &mut out);
        let line = "IP 10.0.0.1.40000 > 10.0.0.2.80: Flags [.], ack";
        assert_eq!(out, format!("{line} 5001, win 64240, length 0\n{line} 101, win 64240, length 0\n"));
    }

    #[test]
    fn thousands_of_datagrams_in_one_another_are_too_many() {
        for (header, kind) in
            [("4500 ffff 0000 0000 4004 0000 0a000001 0a000002", 4), ("60000000 ffff 29 40", 6)]
        {
            let mut header = bytes(header);
            header.resize(if kind == 4 { 20 } else { 40 }, 0);
            let ethertype = if kind == 4 { "0800" } else { "86dd" };
            let mut data = bytes(&format!("{MACS} {ethertype}"));
            data.extend(header.iter().cycle().take(header.len() * 3000));
            assert!(text(PLAIN, &record(data)).contains("more than 64 datagrams"));
        }
    }

    fn options() -> impl Strategy<Value = Options> {
        let hex = prop_oneof![Just(Hex::None), Just(Hex::X), Just(Hex::XWithLink)];
        (any::<[bool; 4]>(), hex).prop_map(|([link, verbose, no_time, interfaces], hex)| Options {
            link,
            verbose,
            hex,
            no_time,
            interfaces,
        })
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(options in options(), data: Vec<u8>, wire_len: u32, time_ns: u64) {
            let record = Record { wire_len, time_ns, ..record(data) };
            prop_assert!(text(options, &record).ends_with('\n'));
        }

        /// Real headers that were tampered with reach further than random bytes.
        #[test]
        fn no_header_makes_it_panic(
            options in options(),
            line in 0..LINES.len(),
            protocol in prop_oneof![Just(None), any::<u8>().prop_map(Some)],
            changes in prop::collection::vec((14usize..100, any::<u8>()), 0..6),
            tail: Vec<u8>,
            keep in 14usize..200,
        ) {
            let mut data = bytes(&format!("{MACS} {}", LINES[line].0));
            data.extend(tail);
            if let (Some(protocol), Some(byte)) = (protocol, data.get_mut(23)) {
                *byte = protocol;
            }
            for (at, value) in changes {
                if let Some(byte) = data.get_mut(at) {
                    *byte = value;
                }
            }
            let wire_len = u32::try_from(data.len()).unwrap();
            data.truncate(keep);
            let record = Record { wire_len, ..record(data) };
            prop_assert!(text(options, &record).ends_with('\n'));
        }
    }
}
