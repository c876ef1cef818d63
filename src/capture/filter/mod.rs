//! Capture filters: tcpdump's language, compiled to classic BPF, and the machine that runs it.
//!
//! ```text
//! "tcp port 80"  lexer    words
//!                parser   syntax tree          (grammar of pcap-filter(7))
//!                lower    formula over tests   (which bytes, compared with what, in which order)
//!                graph    flow graph
//!                optimize flow graph           (libpcap's passes, because they decide about cut-off frames)
//!                emit     Program              (checked instructions)
//!                matches  yes or no for a frame
//! ```
//!
//! A part of the language is taken, and that part has exactly the meaning libpcap 1.10 gives it for
//! Ethernet: the instructions are the same one by one, which tests check. Anything else is refused with a
//! [`FilterError`] that names the word. The rest of the language comes from tcpdump itself, whose
//! `-ddd` output [`Program::from_ddd`] reads.

mod emit;
mod error;
mod graph;
mod interpreter;
mod keyword;
mod lexer;
mod listing;
mod lower;
mod names;
mod opcode;
mod optimize;
mod parser;
mod program;
mod relation;
mod syntax;

pub use error::FilterError;
pub use program::{BadProgram, Instruction, MAX_INSTRUCTIONS, Program};

use error::{Refusal, Span};
use graph::{Exit, Graph};

impl Program {
    /// Compiles `expression` for Ethernet frames; an empty one takes every frame.
    pub fn compile(expression: &str) -> Result<Self, FilterError> {
        build(expression).map_err(|refusal| refusal.explain(expression))
    }
}

fn build(expression: &str) -> Result<Program, Refusal> {
    let whole = Span { start: 0, end: expression.len() };
    let tokens = lexer::tokenize(expression)?;
    let condition = match parser::parse(&tokens, expression.len())? {
        Some(tree) => Some(lower::lower(&tree)?),
        None => None,
    };
    let graph = optimize::optimize(Graph::new(condition)).map_err(|reason| Refusal::new(whole, reason))?;
    if graph.blocks.get(graph.root).is_some_and(|root| root.exit == Exit::Return(0)) {
        return Err(Refusal::new(whole, "no frame can match"));
    }
    Program::new(emit::emit(&graph)).map_err(|error| Refusal::new(whole, error.to_string()))
}
