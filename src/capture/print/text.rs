//! Words, flags, addresses and hex dumps as tcpdump spells them.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::net::Ipv6Addr;

/// Values and the words for them.
pub(super) type Names = &'static [(u16, &'static str)];

/// The word for `value`, if it has one.
pub(super) fn name(names: Names, value: impl Into<u16>) -> Option<&'static str> {
    let value = value.into();
    names.iter().find(|(known, _)| *known == value).map(|(_, word)| *word)
}

/// The word for `value`, or else what `unknown` says.
pub(super) fn name_or(names: Names, value: impl Into<u16>, unknown: fmt::Arguments<'_>) -> Cow<'static, str> {
    name(names, value).map_or_else(|| Cow::Owned(unknown.to_string()), Cow::Borrowed)
}

/// The words for the bits that are set, `none` when no known one is.
pub(super) fn flags(names: Names, bits: u16, separator: &str) -> String {
    let set: Vec<_> = names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, word)| *word).collect();
    if set.is_empty() { "none".into() } else { set.join(separator) }
}

/// An IPv6 address as BSD's inet_ntop writes it: the IPv4-compatible ones, too, end in a dotted quad.
pub(super) struct V6(pub(super) Ipv6Addr);

impl fmt::Display for V6 {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.octets() {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] if (a, b) != (0, 0) => {
                write!(out, "::{a}.{b}.{c}.{d}")
            }
            _ => self.0.fmt(out),
        }
    }
}

/// Bytes as `00:11:22`.
pub(super) struct Colons<'a>(pub(super) &'a [u8]);

impl fmt::Display for Colons<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let colon = if index == 0 { "" } else { ":" };
            write!(out, "{colon}{byte:02x}")?;
        }
        Ok(())
    }
}

/// Bytes as a terminal can bear them: `^A` for control characters, `M-a` for those above 127.
pub(super) struct Visible<'a>(pub(super) &'a [u8]);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in self.0 {
            if !byte.is_ascii() {
                out.write_str("M-")?;
            }
            let low = byte & 0x7f;
            if low.is_ascii_control() {
                write!(out, "^{}", char::from(low ^ 0x40))?;
            } else {
                out.write_char(char::from(low))?;
            }
        }
        Ok(())
    }
}

/// Sixteen bytes a line, in pairs, each line begun by `ident` and the offset; with or without the
/// characters beside them.
pub(super) struct HexDump<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) ident: &'static str,
    pub(super) ascii: bool,
}

impl fmt::Display for HexDump<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (row, bytes) in self.bytes.chunks(16).enumerate() {
            write!(out, "{}0x{:04x}: ", self.ident, row * 16)?;
            let pairs: String = bytes.chunks(2).map(pair).collect();
            if self.ascii {
                let shown = |&byte: &u8| if byte.is_ascii_graphic() { char::from(byte) } else { '.' };
                let characters: String = bytes.iter().map(shown).collect();
                write!(out, "{pairs:<40}  {characters}")?;
            } else {
                out.write_str(&pairs)?;
            }
        }
        Ok(())
    }
}

/// One or two bytes, with a space before.
fn pair(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(" {digits}")
}
