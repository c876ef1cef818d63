//! DNS messages as bytes (RFC 1035 §4, RFC 6891): what has to be read of a question and of an answer, and
//! the answers that need no records.
//!
//! Whatever comes from an upstream is handed on as it came. So nothing is decoded here but the header, the
//! question and OPT, and records are walked over: a name in them ends at its first pointer (RFC 1035
//! §4.1.4), which is not followed, so that there is nothing to loop on.

/// Bytes of the header.
pub const HEADER_LEN: usize = 12;
/// The largest answer for who does not say how much he takes (RFC 1035 §4.2.1).
pub const CLASSIC_LIMIT: u16 = 512;
/// The largest UDP answer that we ask for ourselves (DNS Flag Day 2020).
const OWN_LIMIT: u16 = 1232;
/// The longest name, in bytes on the wire (RFC 1035 §2.3.4).
const NAME_LIMIT: usize = 255;

/// It is an answer.
const QR: u16 = 1 << 15;
const OPCODE: u16 = 0xf << 11;
/// The answer comes from who owns the name.
const AA: u16 = 1 << 10;
/// The answer was cut.
pub const TC: u16 = 1 << 9;
/// Recursion is desired.
const RD: u16 = 1 << 8;
/// Recursion is available.
const RA: u16 = 1 << 7;
/// The answer is authentic (RFC 4035 §3.1.6), or who asks understands that.
const AD: u16 = 1 << 5;
/// Who asks verifies himself (RFC 4035 §3.1.6).
const CD: u16 = 1 << 4;
/// Who asks wants signatures (RFC 3225), in OPT's flags.
const DO: u16 = 1 << 15;

/// Record types (IANA "DNS Parameters").
pub mod kind {
    #![allow(missing_docs)] // the registry's names
    pub const A: u16 = 1;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const AAAA: u16 = 28;
    pub const OPT: u16 = 41;
    pub const IXFR: u16 = 251;
    pub const AXFR: u16 = 252;
    pub const ANY: u16 = 255;
}

/// The class of everything here (RFC 1035 §3.2.4).
pub const IN: u16 = 1;

/// Response codes (RFC 1035 §4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rcode {
    /// The question cannot be read.
    FormErr = 1,
    /// We could not find out.
    ServFail = 2,
    /// We do not know this kind of request.
    NotImp = 4,
    /// We do not answer that.
    Refused = 5,
}

/// What OPT says (RFC 6891 §6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// The largest UDP answer that the sender takes, in bytes.
    pub size: u16,
    /// Whether he wants signatures.
    pub dnssec_ok: bool,
    /// Whether there is anything else in it.
    pub has_options: bool,
}

/// A question for a name's IPv4 addresses, as a resolver sends it; none if that can be no name (RFC 1035 §2.3.4).
pub fn question(id: u16, name: &str) -> Option<Vec<u8>> {
    let mut message = header(id, RD, [1, 0, 0, 0]);
    message.extend_from_slice(&super::zone::wire(name)?);
    message.extend([kind::A, IN].iter().flat_map(|word| word.to_be_bytes()));
    Some(message)
}

/// A question that can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question<'a> {
    /// The whole message.
    pub bytes: &'a [u8],
    /// Where the question ends in it.
    end: usize,
    /// What names it to who asks.
    pub id: u16,
    flags: u16,
    /// The type of the records that are wanted.
    pub kind: u16,
    /// Their class.
    pub class: u16,
    /// What OPT says, if it is there.
    pub edns: Option<Edns>,
}

/// Why a message is not a [`Question`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// It is none, or too short to be answered: nobody is told.
    Ignored,
    /// Who asks is told, by this answer.
    Refused(Rcode, Vec<u8>),
}

impl<'a> Question<'a> {
    /// Reads a message that was sent to us as a server.
    ///
    /// # Errors
    /// [`Unreadable`] when there is nothing to be looked up.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let header = Header::read(bytes).ok_or(Unreadable::Ignored)?;
        if header.flags & QR != 0 {
            return Err(Unreadable::Ignored);
        }
        let refused = |rcode| Unreadable::Refused(rcode, header.reply(rcode));
        if header.flags & OPCODE != 0 {
            return Err(refused(Rcode::NotImp));
        }
        Self::behind(bytes, &header).ok_or_else(|| refused(Rcode::FormErr))
    }

    fn behind(bytes: &'a [u8], header: &Header) -> Option<Self> {
        let [questions, answers, ..] = header.counts;
        if questions != 1 || answers != 0 {
            return None;
        }
        let (kind, class, end) = question_at(bytes)?;
        let (mut edns, mut at) = (None, end);
        for _ in 0..header.records() {
            let record = Record::at(bytes, at)?;
            at = record.end;
            if record.kind == kind::OPT && edns.replace(record.edns()).is_some() {
                return None;
            }
        }
        Some(Self { bytes, end, id: header.id, flags: header.flags, kind, class, edns })
    }

    /// The name as asked, on the wire.
    pub fn name(&self) -> &'a [u8] {
        self.bytes.get(HEADER_LEN..self.end - 4).unwrap_or_default()
    }

    /// Name, type and class as asked, on the wire.
    pub fn section(&self) -> &'a [u8] {
        self.bytes.get(HEADER_LEN..self.end).unwrap_or_default()
    }

    /// The name in lower case, on the wire. Bytes that are lengths are below `A`.
    pub fn folded(&self) -> Vec<u8> {
        self.name().to_ascii_lowercase()
    }

    /// The flags that an answer depends on: RD, AD, CD, and DO in the place of QR.
    pub fn wishes(&self) -> u16 {
        let dnssec = self.edns.is_some_and(|edns| edns.dnssec_ok);
        self.flags & (RD | AD | CD) | if dnssec { QR } else { 0 }
    }

    /// Whether who asks wants more than what we know ourselves (RFC 1035 §4.1.1).
    pub const fn wants_recursion(&self) -> bool {
        self.flags & RD != 0
    }

    /// The largest answer by UDP, in bytes (RFC 6891 §6.2.3).
    pub fn limit(&self) -> usize {
        self.edns.map_or(CLASSIC_LIMIT, |edns| edns.size.max(CLASSIC_LIMIT)).into()
    }

    /// An answer without records.
    pub fn refuse(&self, rcode: Rcode) -> Vec<u8> {
        self.empty(rcode as u16)
    }

    /// The answer that says that there is more of it, by TCP (RFC 2181 §9).
    pub fn truncated(&self) -> Vec<u8> {
        self.empty(TC)
    }

    fn empty(&self, flags: u16) -> Vec<u8> {
        let flags = QR | RA | self.flags & (RD | CD) | flags;
        let mut answer = header(self.id, flags, [1, 0, 0, 0]);
        answer.extend_from_slice(self.section());
        self.append_opt(&mut answer);
        answer
    }

    /// Ends an answer that has no OPT with one, if who asks sent one (RFC 6891 §6.1.1).
    pub fn append_opt(&self, answer: &mut Vec<u8>) {
        let Some(edns) = self.edns else { return };
        let Some(counts) = answer.get_mut(10..HEADER_LEN) else { return };
        let additional = u16::from_be_bytes([counts[0], counts[1]]).saturating_add(1);
        counts.copy_from_slice(&additional.to_be_bytes());
        let (size, flags) = (OWN_LIMIT.to_be_bytes(), if edns.dnssec_ok { DO } else { 0 }.to_be_bytes());
        answer.extend_from_slice(&[0, 0, 41, size[0], size[1], 0, 0, flags[0], flags[1], 0, 0]);
    }

    /// Whether a message is an answer to this question, asked with this id: names are compared without
    /// regard to case, for some servers do not keep it.
    pub fn is_answered_by(&self, answer: &[u8], id: u16) -> bool {
        let Some(header) = Header::read(answer) else { return false };
        let same = header.id == id && header.flags & QR != 0 && header.flags & OPCODE == 0;
        let asked = answer.get(HEADER_LEN..self.end);
        same && header.counts[0] == 1 && asked.is_some_and(|asked| asked.eq_ignore_ascii_case(self.section()))
    }
}

/// The header of a message.
struct Header {
    id: u16,
    flags: u16,
    /// Questions, answers, name servers, additional records.
    counts: [u16; 4],
}

impl Header {
    fn read(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| word(bytes, at);
        Some(Self { id: word(0)?, flags: word(2)?, counts: [word(4)?, word(6)?, word(8)?, word(10)?] })
    }

    /// Records behind the question.
    fn records(&self) -> u32 {
        self.counts[1..].iter().map(|count| u32::from(*count)).sum()
    }

    /// An answer that is nothing but a header.
    fn reply(&self, rcode: Rcode) -> Vec<u8> {
        header(self.id, QR | RA | self.flags & (OPCODE | RD) | rcode as u16, [0; 4])
    }
}

fn header(id: u16, flags: u16, counts: [u16; 4]) -> Vec<u8> {
    let [questions, answers, servers, additional] = counts;
    [id, flags, questions, answers, servers, additional].iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Type and class of the question, and where it ends. Its name has no pointers: there is nothing before it.
fn question_at(bytes: &[u8]) -> Option<(u16, u16, usize)> {
    let mut at = HEADER_LEN;
    loop {
        match *bytes.get(at)? {
            0 => break,
            length @ 1..=63 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
    let end = at + 1;
    if end - HEADER_LEN > NAME_LIMIT {
        return None;
    }
    Some((word(bytes, end)?, word(bytes, end + 2)?, end + 4))
}

/// A record, as far as it is looked at.
struct Record {
    kind: u16,
    /// The class; in OPT, the size.
    class: u16,
    ttl: u32,
    /// Where its time to live is.
    ttl_at: usize,
    /// Where its data is, and where it ends.
    data: usize,
    end: usize,
}

impl Record {
    fn at(bytes: &[u8], start: usize) -> Option<Self> {
        let mut at = start;
        let fixed = loop {
            match *bytes.get(at)? {
                0 => break at + 1,
                length @ 1..=63 => at += 1 + usize::from(length),
                0xc0.. => break at + 2,
                _ => return None,
            }
        };
        let data = fixed + 10;
        let end = data + usize::from(word(bytes, fixed + 8)?);
        bytes.get(data..end)?;
        let (kind, class) = (word(bytes, fixed)?, word(bytes, fixed + 2)?);
        Some(Self { kind, class, ttl: long(bytes, fixed + 4)?, ttl_at: fixed + 4, data, end })
    }

    fn edns(&self) -> Edns {
        // The lower half of OPT's time to live is its flags.
        let dnssec_ok = self.ttl as u16 & DO != 0;
        Edns { size: self.class, dnssec_ok, has_options: self.data != self.end }
    }
}

/// Names a message.
pub fn set_id(message: &mut [u8], id: u16) {
    if let Some(place) = message.first_chunk_mut() {
        *place = id.to_be_bytes();
    }
}

/// A message's response code, without what OPT adds to it.
pub fn rcode(message: &[u8]) -> Option<u16> {
    Some(word(message, 2)? & 0xf)
}

/// Whether a message says that it was cut.
pub fn is_truncated(message: &[u8]) -> bool {
    word(message, 2).is_some_and(|flags| flags & TC != 0)
}

/// An answer that may be given again: without OPT, which is between two neighbours (RFC 6891 §6.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keepsake {
    message: Vec<u8>,
    /// Where the times to live are in it.
    ttls: Vec<u16>,
    /// How long it is good, in seconds.
    pub ttl: u32,
}

impl Keepsake {
    /// Takes what can be kept of an answer: complete ones, that say what there is or that there is nothing
    /// (RFC 2308 §5: for as long as SOA says).
    pub fn of(answer: &[u8], longest: u32) -> Option<Self> {
        let header = Header::read(answer)?;
        let [questions, answers, servers, _] = header.counts;
        if header.flags & TC != 0 || !matches!(header.flags & 0xf, 0 | 3) || questions != 1 {
            return None;
        }
        let (.., mut at) = question_at(answer)?;
        let mut kept = Self { message: answer.get(..at)?.to_vec(), ttls: Vec::new(), ttl: longest };
        let (mut has_soa, mut dropped) = (false, 0);
        let records = header.records();
        for number in 0..records {
            let record = Record::at(answer, at)?;
            let is_authority =
                (u32::from(answers)..u32::from(answers) + u32::from(servers)).contains(&number);
            if record.kind == kind::OPT {
                // Pointers behind it would miss their names; so it has to be the last.
                if number + 1 != records || record.ttl >> 24 != 0 {
                    return None;
                }
                dropped = 1;
            } else {
                kept.ttls.push(u16::try_from(record.ttl_at).ok()?);
                // The uppermost bit means zero (RFC 2181 §8).
                kept.ttl = kept.ttl.min(if record.ttl >> 31 == 0 { record.ttl } else { 0 });
                kept.message.extend_from_slice(answer.get(at..record.end)?);
            }
            if record.kind == kind::SOA && is_authority {
                has_soa = true;
                kept.ttl = kept.ttl.min(long(answer, record.end.checked_sub(4)?)?);
            }
            at = record.end;
        }
        let additional = header.counts[3].checked_sub(dropped)?;
        kept.message.get_mut(10..HEADER_LEN)?.copy_from_slice(&additional.to_be_bytes());
        let flags = header.flags & !AA;
        kept.message.get_mut(2..4)?.copy_from_slice(&flags.to_be_bytes());
        (kept.ttl > 0 && (has_soa || answers > 0)).then_some(kept)
    }

    /// The answer for who asks the same again so many seconds later.
    pub fn answer(&self, question: &Question<'_>, age: u32) -> Vec<u8> {
        let mut answer = self.message.clone();
        set_id(&mut answer, question.id);
        if let Some(place) = answer.get_mut(HEADER_LEN..question.end) {
            place.copy_from_slice(question.section());
        }
        for at in self.ttls.iter().map(|at| usize::from(*at)) {
            if let (Some(ttl), Some(place)) = (long(&self.message, at), answer.get_mut(at..at + 4)) {
                place.copy_from_slice(&ttl.saturating_sub(age).to_be_bytes());
            }
        }
        question.append_opt(&mut answer);
        answer
    }

    /// Bytes that it takes.
    pub fn size(&self) -> usize {
        self.message.len() + 2 * self.ttls.len()
    }
}

#[cfg(test)]
mod tests;
