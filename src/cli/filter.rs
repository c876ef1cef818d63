//! Where a filter expression becomes a program: our own compiler, or tcpdump's.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::programs;
use crate::capture::filter::{FilterError, Program};

/// Compiles `expression`, by ourselves if we can and else by `tcpdump -ddd`, which needs neither a device
/// nor privilege.
///
/// # Errors
/// Our own refusal when there is no tcpdump, else what tcpdump has to say about the expression.
pub fn resolve(expression: &str) -> anyhow::Result<Program> {
    resolve_with(expression, || programs::find("tcpdump"))
}

fn resolve_with(expression: &str, tcpdump: impl Fn() -> Option<PathBuf>) -> anyhow::Result<Program> {
    Program::compile(expression).or_else(|refusal| match tcpdump() {
        Some(tcpdump) => ask(&tcpdump, expression),
        None => Err(FilterError::into(refusal)),
    })
}

fn ask(tcpdump: &Path, expression: &str) -> anyhow::Result<Program> {
    let output = Command::new(tcpdump)
        .args(["-y", "EN10MB", "-ddd", "--", expression])
        .output()
        .with_context(|| format!("cannot run {}", tcpdump.display()))?;
    if !output.status.success() {
        bail!("filter: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let listing = String::from_utf8(output.stdout).context("tcpdump printed no text")?;
    Program::from_ddd(&listing).context("tcpdump printed no filter program")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether tcpdump is there; says loudly what is left out when it is not.
    fn has_tcpdump(what_is_skipped: &str) -> bool {
        let found = programs::find("tcpdump").is_some();
        if !found {
            eprintln!("SKIP: {what_is_skipped}: tcpdump is not installed (apt install tcpdump)");
        }
        found
    }

    #[test]
    fn our_part_of_the_language_needs_no_tcpdump() {
        let program = resolve_with("tcp port 80", || None).unwrap();
        assert_eq!(program, Program::compile("tcp port 80").unwrap());
    }

    #[test]
    fn without_tcpdump_our_refusal_stands() {
        let error = resolve_with("stp", || None).unwrap_err().to_string();
        assert!(error.starts_with("filter: 'stp' at column 1"), "{error}");
    }

    #[test]
    fn tcpdump_knows_the_rest() {
        if !has_tcpdump("the full filter language") {
            return;
        }
        let program = resolve("stp").unwrap();
        let mut frame = [0; 60];
        assert!(!program.matches(&frame, 60));
        frame[13] = 38;
        frame[14..16].fill(0x42);
        assert!(program.matches(&frame, 60));
    }

    #[test]
    fn what_tcpdump_refuses_is_refused_in_its_words() {
        if !has_tcpdump("tcpdump's refusals") {
            return;
        }
        let error = resolve("gateway and and").unwrap_err().to_string();
        assert!(error.contains("syntax error"), "{error}");
        // An expression is never taken for an option.
        let error = resolve("--version").unwrap_err().to_string();
        assert!(error.contains("syntax error"), "{error}");
    }
}
