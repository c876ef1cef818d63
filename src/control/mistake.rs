//! Mistakes in a file of the user's, shown where they are.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use crate::control::{Kind, Refused};

/// Bytes of the file, first to one past the last.
pub(crate) type Span = Range<usize>;

/// One thing that is wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where, in bytes of the file.
    pub span: Range<usize>,
    /// What is wrong, and the mend.
    pub message: String,
    /// A word at the place itself; may be empty.
    pub label: String,
}

impl Mistake {
    pub(crate) fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), label: String::new() }
    }

    pub(crate) fn with_label(self, label: impl Into<String>) -> Self {
        Self { label: label.into(), ..self }
    }
}

/// A file with mistakes; [`fmt::Display`] shows each with its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadFile {
    /// The file, as the user named it.
    pub path: String,
    /// What it holds.
    pub text: String,
    /// What is wrong, in the file's order; never empty.
    pub mistakes: Vec<Mistake>,
}

impl BadFile {
    /// Line and column of a mistake, counted from 1 in characters.
    pub fn place(&self, mistake: &Mistake) -> (usize, usize) {
        let before = self.text.get(..mistake.span.start).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = before.get(line_start..).map_or(0, |line| line.chars().count());
        (before.matches('\n').count() + 1, column + 1)
    }

    /// `PATH:LINE:COLUMN: MESSAGE` for each mistake: for programs, and where one line must do.
    pub fn lines(&self) -> Vec<String> {
        let line = |mistake| {
            let (line, column) = self.place(mistake);
            format!("{}:{line}:{column}: {}", self.path, mistake.message)
        };
        self.mistakes.iter().map(line).collect()
    }
}

impl fmt::Display for BadFile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, mistake) in self.mistakes.iter().enumerate() {
            let mark = AnnotationKind::Primary.span(mistake.span.clone()).label(mistake.label.as_str());
            let snippet = Snippet::source(self.text.as_str()).path(self.path.as_str()).annotation(mark);
            let report = [Level::ERROR.primary_title(mistake.message.as_str()).element(snippet)];
            let gap = if number == 0 { "" } else { "\n\n" };
            write!(out, "{gap}{}", Renderer::plain().render(&report))?;
        }
        Ok(())
    }
}

impl std::error::Error for BadFile {}

impl From<BadFile> for Refused {
    /// The first mistake, and how many more there are.
    fn from(bad: BadFile) -> Self {
        let lines = bad.lines();
        let first = lines.first().cloned().unwrap_or_default();
        let more = match lines.len() {
            0 | 1 => String::new(),
            2 => " (and one more mistake)".to_owned(),
            all => format!(" (and {} more mistakes)", all - 1),
        };
        Self::new(Kind::BadLab, first + &more)
    }
}
