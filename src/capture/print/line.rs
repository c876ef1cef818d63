//! The line being written, and what the dissectors share while they write it.

use std::fmt::{self, Write as _};

use super::bytes::{Bytes, Truncated};
use super::flows::Flows;
use super::text::HexDump;
use super::{Hex, Options};

/// Appends formatted text to a [`Line`].
macro_rules! put {
    ($line:expr, $($text:tt)*) => { $line.put(format_args!($($text)*)) };
}
pub(super) use put;

/// A line in the making.
pub(super) struct Line<'a> {
    text: &'a mut String,
    pub(super) options: Options,
    pub(super) flows: &'a mut Flows,
    datagrams: u8,
}

/// How many datagrams in one another are shown: a frame that holds thousands shall not exhaust the stack.
const MAX_DATAGRAMS: u8 = 64;

impl<'a> Line<'a> {
    pub(super) const fn new(text: &'a mut String, options: Options, flows: &'a mut Flows) -> Self {
        Self { text, options, flows, datagrams: 0 }
    }

    /// Appends text; see [`put!`].
    pub(super) fn put(&mut self, text: fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.text.write_fmt(text);
    }

    /// Counts a datagram in the frame; false, with a word about it, when there were too many before.
    pub(super) fn nest(&mut self) -> bool {
        if self.datagrams == MAX_DATAGRAMS {
            put!(self, "[more than {MAX_DATAGRAMS} datagrams in one another]");
            return false;
        }
        self.datagrams += 1;
        true
    }

    /// Says that a header was cut, where the rest of the line still makes sense.
    pub(super) fn cut(&mut self, at: Truncated) {
        put!(self, " [|{}]", at.0);
    }

    /// Says that the fields contradict each other.
    pub(super) fn invalid(&mut self) {
        put!(self, " (invalid)");
    }

    /// Dumps what no dissector knows, unless `-x` dumps the whole frame anyway.
    pub(super) fn unknown(&mut self, bytes: Bytes<'_>) {
        if self.options.hex == Hex::None {
            self.dump(bytes.all(), "\n\t", true);
        }
    }

    /// A hex dump; every line of it begins with `ident`.
    pub(super) fn dump(&mut self, bytes: &[u8], ident: &'static str, ascii: bool) {
        put!(self, "{}", HexDump { bytes, ident, ascii });
    }
}
