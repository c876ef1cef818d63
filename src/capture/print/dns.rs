//! DNS messages (RFC 1035), over UDP, TCP and multicast (RFC 6762).

use super::bytes::{Bytes, Printed, Truncated};
use super::line::{Line, put};
use super::text::{Names, V6, Visible, name_or};

const HEADER_LEN: usize = 12;
/// Names are shown up to this many characters.
const MAX_NAME: usize = 255;

const QR: u16 = 0x8000;
const AUTHORITATIVE: u16 = 0x0400;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const RECURSION_AVAILABLE: u16 = 0x0080;
const AUTHENTIC: u16 = 0x0020;
const CHECKING_DISABLED: u16 = 0x0010;
/// The bits that a query should leave at zero.
const ODD_IN_QUERY: u16 = 0x06cf;

const INVERSE_QUERY: u16 = 1;
const IN: u16 = 1;
const OPT: u16 = 41;
/// In multicast DNS, the top bit of a class: answer by unicast, or forget what was known.
const UNICAST_OR_FLUSH: u16 = 0x8000;

const OPCODES: [&str; 16] = [
    "",
    " inv_q",
    " stat",
    " op3",
    " notify",
    " update",
    " op6",
    " op7",
    " op8",
    " updateA",
    " updateD",
    " updateDA",
    " updateM",
    " updateMA",
    " zoneInit",
    " zoneRef",
];
const RCODES: [&str; 24] = [
    "",
    " FormErr",
    " ServFail",
    " NXDomain",
    " NotImp",
    " Refused",
    " YXDomain",
    " YXRRSet",
    " NXRRSet",
    " NotAuth",
    " NotZone",
    " Resp11",
    " Resp12",
    " Resp13",
    " Resp14",
    " NoChange",
    " BadVers",
    "Resp17",
    " Resp18",
    " Resp19",
    " Resp20",
    "Resp21",
    " Resp22",
    " BadCookie",
];
const CLASSES: Names = &[(1, "IN"), (3, "CHAOS"), (4, "HS"), (255, "ANY")];
const TYPES: Names = &[
    (1, "A"),
    (2, "NS"),
    (3, "MD"),
    (4, "MF"),
    (5, "CNAME"),
    (6, "SOA"),
    (7, "MB"),
    (8, "MG"),
    (9, "MR"),
    (10, "NULL"),
    (11, "WKS"),
    (12, "PTR"),
    (13, "HINFO"),
    (14, "MINFO"),
    (15, "MX"),
    (16, "TXT"),
    (17, "RP"),
    (18, "AFSDB"),
    (19, "X25"),
    (20, "ISDN"),
    (21, "RT"),
    (22, "NSAP"),
    (23, "NSAP_PTR"),
    (24, "SIG"),
    (25, "KEY"),
    (26, "PX"),
    (27, "GPOS"),
    (28, "AAAA"),
    (29, "LOC"),
    (30, "NXT"),
    (31, "EID"),
    (32, "NIMLOC"),
    (33, "SRV"),
    (34, "ATMA"),
    (35, "NAPTR"),
    (36, "KX"),
    (37, "CERT"),
    (38, "A6"),
    (39, "DNAME"),
    (40, "SINK"),
    (41, "OPT"),
    (42, "APL"),
    (43, "DS"),
    (44, "SSHFP"),
    (45, "IPSECKEY"),
    (46, "RRSIG"),
    (47, "NSEC"),
    (48, "DNSKEY"),
    (99, "SPF"),
    (100, "UINFO"),
    (101, "UID"),
    (102, "GID"),
    (103, "UNSPEC"),
    (249, "TKEY"),
    (250, "TSIG"),
    (251, "IXFR"),
    (252, "AXFR"),
    (253, "MAILB"),
    (254, "MAILA"),
    (255, "ANY"),
    (256, "URI"),
];

/// A DNS message in `length` bytes of a UDP datagram.
pub(super) fn message(line: &mut Line<'_>, bytes: Bytes<'_>, length: usize, multicast: bool) -> Printed {
    if length < HEADER_LEN {
        put!(line, "domain [length {length} < {HEADER_LEN}]");
        line.invalid();
        return Ok(());
    }
    if !bytes.holds(HEADER_LEN) {
        line.cut(bytes.truncated());
        return Ok(());
    }
    let message = Message { bytes, multicast };
    let flags = bytes.u16(2)?;
    let whole = if flags & QR != 0 { message.response(line, flags)? } else { message.query(line, flags)? };
    match whole {
        Some(_) => put!(line, " ({length})"),
        None => line.cut(bytes.truncated()),
    }
    Ok(())
}

/// A DNS message in a TCP segment, after its length (RFC 1035 §4.2.2).
pub(super) fn over_tcp(line: &mut Line<'_>, bytes: Bytes<'_>, length: usize) -> Printed {
    let Some(rest) = length.checked_sub(2) else {
        put!(line, " [DNS over TCP: length {length} < 2]");
        line.invalid();
        return Ok(());
    };
    let said = bytes.u16(0)?;
    if usize::from(said) != rest {
        put!(line, " [prefix length({said}) != length({rest})]");
        line.invalid();
        return Ok(());
    }
    put!(line, " ");
    message(line, bytes.from(2), rest, false)
}

struct Message<'a> {
    bytes: Bytes<'a>,
    multicast: bool,
}

/// Where the next thing begins; `None` when the message is cut or malformed before that.
type Next = Result<Option<usize>, Truncated>;

impl Message<'_> {
    fn query(&self, line: &mut Line<'_>, flags: u16) -> Next {
        let [questions, answers, authorities, additional] = self.counts()?;
        let opcode = flags >> 11 & 0x0f;
        put!(line, "{}{}", self.bytes.u16(0)?, OPCODES[usize::from(opcode)]);
        put!(line, "{}", if flags & RECURSION_DESIRED != 0 { "+" } else { "" });
        put!(line, "{}", if flags & CHECKING_DISABLED != 0 { "%" } else { "" });
        if flags & ODD_IN_QUERY != 0 {
            put!(line, " [b2&3=0x{flags:x}]");
        }
        let usual = if opcode == INVERSE_QUERY { [0, 1] } else { [1, 0] };
        let unusual = [
            (answers, usual[1], "a", opcode != INVERSE_QUERY),
            (questions, usual[0], "q", true),
            (answers, usual[1], "a", opcode == INVERSE_QUERY),
            (authorities, 0, "n", true),
            (additional, 0, "au", true),
        ];
        for (count, _, unit, _) in unusual.iter().filter(|(count, usual, _, here)| *here && count != usual) {
            put!(line, " [{count}{unit}]");
        }
        let mut at = HEADER_LEN;
        for index in 0..questions {
            if index > 0 && at >= self.bytes.len() {
                return Ok(None);
            }
            let Some(next) = self.question(line, at)? else { return Ok(None) };
            at = next;
        }
        Ok(Some(at))
    }

    fn question(&self, line: &mut Line<'_>, name_at: usize) -> Next {
        let Some(at) = skip(self.bytes, name_at).filter(|at| self.bytes.holds(at + 4)) else {
            return Ok(None);
        };
        let (kind, class) = (self.bytes.u16(at)?, self.bytes.u16(at + 2)?);
        put!(line, " {}", name_or(TYPES, kind, format_args!("Type{kind}")));
        self.class(line, class);
        if self.multicast {
            put!(line, "{}", if class & UNICAST_OR_FLUSH != 0 { " (QU)" } else { " (QM)" });
        }
        put!(line, "? ");
        Ok(name(line, self.bytes, name_at).map(|at| at + 4))
    }

    fn response(&self, line: &mut Line<'_>, flags: u16) -> Next {
        let [questions, answers, authorities, additional] = self.counts()?;
        let rcode = flags & 0x0f | self.extended_rcode().unwrap_or(0);
        put!(line, "{}{}", self.bytes.u16(0)?, OPCODES[usize::from(flags >> 11 & 0x0f)]);
        match RCODES.get(usize::from(rcode)) {
            Some(word) => put!(line, "{word}"),
            None => put!(line, " Resp{rcode}"),
        }
        put!(line, "{}", if flags & AUTHORITATIVE != 0 { "*" } else { "" });
        put!(line, "{}", if flags & RECURSION_AVAILABLE != 0 { "" } else { "-" });
        put!(line, "{}", if flags & TRUNCATED != 0 { "|" } else { "" });
        put!(line, "{}", if flags & AUTHENTIC != 0 { "$" } else { "" });
        if questions != 1 {
            put!(line, " [{questions}q]");
        }
        let mut at = HEADER_LEN;
        for index in 0..questions {
            put!(line, "{}", if index > 0 { "," } else { "" });
            let Some(next) = skip(self.bytes, at) else { return Ok(None) };
            at = next + 4;
        }
        put!(line, " {answers}/{authorities}/{additional}");
        for index in 0..answers {
            if index > 0 {
                if at >= self.bytes.len() {
                    return Ok(None);
                }
                put!(line, ",");
            }
            let Some(next) = self.record(line, at)? else { return Ok(None) };
            at = next;
        }
        Ok(Some(at))
    }

    fn record(&self, line: &mut Line<'_>, name_at: usize) -> Next {
        let bytes = self.bytes;
        let at = if line.options.verbose {
            put!(line, " ");
            let Some(at) = name(line, bytes, name_at) else { return Ok(None) };
            Some(at)
        } else {
            skip(bytes, name_at)
        };
        let Some(at) = at.filter(|at| bytes.holds(at + 10)) else { return Ok(Some(bytes.len())) };
        let (kind, class) = (bytes.u16(at)?, bytes.u16(at + 2)?);
        if kind != OPT {
            self.class(line, class);
        }
        if self.multicast && class & UNICAST_OR_FLUSH != 0 {
            put!(line, " (Cache flush)");
        }
        put!(line, " {}", name_or(TYPES, kind, format_args!("Type{kind}")));
        let (data, len) = (at + 10, usize::from(bytes.u16(at + 8)?));
        if !bytes.holds(data + len) || self.data(line, kind, data, len)?.is_none() {
            return Ok(None);
        }
        Ok(Some(data + len))
    }

    /// The data of a record of the types that matter most.
    fn data(&self, line: &mut Line<'_>, kind: u16, at: usize, len: usize) -> Next {
        let bytes = self.bytes;
        match kind {
            1 if !bytes.holds(at + 4) => return Ok(None),
            1 => put!(line, " {}", bytes.ipv4(at)?),
            28 if !bytes.holds(at + 16) => return Ok(None),
            28 => put!(line, " {}", V6(bytes.ipv6(at)?)),
            2 | 5 | 12 | 39 => {
                put!(line, " ");
                return Ok(name(line, bytes, at));
            }
            6 if line.options.verbose => return self.authority(line, at),
            15 => {
                put!(line, " ");
                if !bytes.holds(at + 2) || name(line, bytes, at + 2).is_none() {
                    return Ok(None);
                }
                put!(line, " {}", bytes.u16(at)?);
            }
            16 => return self.texts(line, at, at + len),
            33 => {
                put!(line, " ");
                if !bytes.holds(at + 6) || name(line, bytes, at + 6).is_none() {
                    return Ok(None);
                }
                let (priority, weight, port) = (bytes.u16(at)?, bytes.u16(at + 2)?, bytes.u16(at + 4)?);
                put!(line, ":{port} {priority} {weight}");
            }
            _ => {}
        }
        Ok(Some(at))
    }

    /// The start of a zone of authority.
    fn authority(&self, line: &mut Line<'_>, mut at: usize) -> Next {
        for _ in 0..2 {
            put!(line, " ");
            let Some(next) = name(line, self.bytes, at) else { return Ok(None) };
            at = next;
        }
        if !self.bytes.holds(at + 20) {
            return Ok(None);
        }
        for number in 0..5 {
            put!(line, " {}", self.bytes.u32(at + 4 * number)?);
        }
        Ok(Some(at))
    }

    /// Strings, each after its length.
    fn texts(&self, line: &mut Line<'_>, mut at: usize, end: usize) -> Next {
        while at < end {
            put!(line, " \"");
            let Ok(len) = self.bytes.u8(at) else { return Ok(None) };
            let text = self.bytes.from(at + 1).upto(len.into());
            put!(line, "{}", Visible(text.all()));
            if !text.holds(len.into()) {
                return Ok(None);
            }
            put!(line, "\"");
            at += 1 + usize::from(len);
        }
        Ok(Some(at))
    }

    fn class(&self, line: &mut Line<'_>, class: u16) {
        let class = if self.multicast { class & !UNICAST_OR_FLUSH } else { class };
        if class != IN {
            put!(line, " {}", name_or(CLASSES, class, format_args!("(Class {class})")));
        }
    }

    /// Questions, answers, authorities, additional records.
    fn counts(&self) -> Result<[u16; 4], Truncated> {
        let at = |at| self.bytes.u16(at);
        Ok([at(4)?, at(6)?, at(8)?, at(10)?])
    }

    /// The upper bits of the response code, which stand in an OPT record (RFC 6891 §6.1.3).
    fn extended_rcode(&self) -> Option<u16> {
        let [questions, answers, authorities, additional] = self.counts().ok()?;
        let bytes = self.bytes;
        let mut at = HEADER_LEN;
        for _ in 0..questions {
            at = skip(bytes, at)? + 4;
        }
        for _ in 0..u32::from(answers) + u32::from(authorities) {
            at = skip(bytes, at)?;
            at += 10 + usize::from(bytes.u16(at + 8).ok()?);
        }
        for _ in 0..additional {
            at = skip(bytes, at)?;
            if bytes.u16(at).ok()? == OPT {
                return bytes.u8(at + 4).ok().map(|bits| u16::from(bits) << 4);
            }
            at += 10 + usize::from(bytes.u16(at + 8).ok()?);
        }
        None
    }
}

/// Where a name ends that begins at `at`; `None` when it is cut or malformed.
fn skip(bytes: Bytes<'_>, mut at: usize) -> Option<usize> {
    loop {
        let label = bytes.u8(at).ok()?;
        match label >> 6 {
            0 if label == 0 => return Some(at + 1),
            0 => at += 1 + usize::from(label),
            3 => return Some(at + 2),
            _ => return None,
        }
    }
}

/// Prints the name that begins at `at`, following pointers backwards only. Returns where it ends; `None`
/// when it is cut or malformed.
pub(super) fn name(line: &mut Line<'_>, bytes: Bytes<'_>, at: usize) -> Option<usize> {
    let mut here = at;
    let mut end = None;
    let mut limit = at;
    let mut characters = 0;
    loop {
        let label = bytes.u8(here).ok()?;
        let sound = matches!(label >> 6, 0 | 3) && label != 0;
        // Here tcpdump takes the end of the capture for the end of the name.
        if sound && here + 1 == bytes.len() && (here != at || label >> 6 != 3) {
            return Some(bytes.len());
        }
        match label >> 6 {
            0 if label == 0 => break,
            0 => {
                let len = usize::from(label);
                let room = MAX_NAME.saturating_sub(characters);
                let text = bytes.from(here + 1).upto(len.min(room));
                put!(line, "{}", Visible(text.all()));
                if text.len() < len.min(room) {
                    return None;
                }
                characters += len;
                if characters <= MAX_NAME {
                    put!(line, ".");
                }
                characters += 1;
                here += 1 + len;
            }
            3 => {
                let target = usize::from(bytes.u16(here).ok()? & 0x3fff);
                end = end.or(Some(here + 2));
                if target >= limit {
                    put!(line, "<BAD PTR>");
                    return None;
                }
                (limit, here) = (target, target);
            }
            1 => {
                put!(line, "<ELT {}>", label & 0x3f);
                return None;
            }
            _ => {
                put!(line, "<BAD LABEL TYPE>");
                return None;
            }
        }
    }
    if here == at {
        put!(line, ".");
    }
    if characters > MAX_NAME {
        put!(line, "<DOMAIN NAME TOO LONG>");
    }
    end.or(Some(here + 1))
}
