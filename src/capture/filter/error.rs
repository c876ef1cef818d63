//! Why an expression was refused.

/// A filter expression that this compiler does not take.
///
/// It takes a part of tcpdump's language, and that part with exactly libpcap's meaning; whatever it
/// cannot give that meaning it refuses, so a filter is never silently different from tcpdump's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "filter: {word} at column {column}: {reason} \
     (tcpdump's full filter language works when tcpdump is installed)"
)]
pub struct FilterError {
    /// The word that was not taken, in quotes, or `the expression`, or its end.
    pub word: String,
    /// Its position, counted in characters from 1.
    pub column: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// The longest part of an expression that a message repeats, in bytes.
const MAX_QUOTED: usize = 80;

/// Where a word of the expression stands, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Span {
    /// From the start of this one to the end of `last`.
    pub(super) fn to(self, last: Self) -> Self {
        Self { start: self.start, end: last.end }
    }
}

/// An error before it is joined with the text it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) span: Span,
    pub(super) reason: String,
}

impl Refusal {
    pub(super) fn new(span: Span, reason: impl Into<String>) -> Self {
        Self { span, reason: reason.into() }
    }

    /// The error a person reads, with the word taken out of `expression`.
    pub(super) fn explain(self, expression: &str) -> FilterError {
        let word = match expression.get(self.span.start..self.span.end) {
            Some(word) if word.len() > MAX_QUOTED => "the expression".to_owned(),
            Some(word) if !word.is_empty() => format!("'{word}'"),
            _ => "end of the expression".to_owned(),
        };
        let before = expression.get(..self.span.start).unwrap_or(expression);
        FilterError { word, column: before.chars().count() + 1, reason: self.reason }
    }
}
