//! Templates of `-f` and `--format`: the part of Go's `text/template` that people type at Docker.
//!
//! Theory of operation. A text is first parsed whole ([`parse`]): text, `{{…}}` actions, blocks. It is then
//! run over a JSON value ([`run`]), with the functions of Go and Docker ([`functions`]). There are no
//! definitions of templates within templates, so that a run ends: what it may do is limited all the same
//! (nested ranges multiply), as is how deep a template nests.
//!
//! Not taken from a crate: `gtmpl` (0.7.1), the one there is, keeps values of its own kind, which would have to
//! be made of every view, has no functions of Docker's and limits neither depth nor steps.

mod functions;
mod parse;
mod run;

use serde_json::Value;

use crate::control::{Kind, Refused};

/// A template that makes sense; what it names may still not be there.
#[derive(Debug, Clone)]
pub struct Template {
    nodes: Vec<parse::Node>,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// `bad_format`, naming the place.
    pub fn new(text: &str) -> Result<Self, Refused> {
        Ok(Self { nodes: parse::parse(text)? })
    }

    /// What it makes of a value.
    ///
    /// # Errors
    /// `bad_format`: a key that the value does not have, a function that cannot do with what it is given.
    pub fn render(&self, value: &Value) -> Result<String, Refused> {
        run::run(&self.nodes, value)
    }
}

/// Fills a template from a value.
///
/// # Errors
/// `bad_format`, as with [`Template::new`] and [`Template::render`].
pub fn render(template: &str, value: &Value) -> Result<String, Refused> {
    Template::new(template)?.render(value)
}

fn bad(message: impl Into<String>) -> Refused {
    Refused::new(Kind::BadFormat, message)
}

#[cfg(test)]
mod tests;
