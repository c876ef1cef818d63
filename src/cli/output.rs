//! Printing: JSON for programs, and a quiet end when nobody reads.

use std::io::{self, ErrorKind, Write};

use serde::Serialize;

/// Prints rows as a JSON array and ends with success.
///
/// # Errors
/// When standard output fails.
pub fn json<T: Serialize>(rows: &[T]) -> anyhow::Result<u8> {
    let mut text = serde_json::to_string_pretty(rows)?;
    text.push('\n');
    print(&text)
}

/// Prints a text and ends with success. A reader that has closed the pipe has seen enough.
///
/// # Errors
/// When standard output fails otherwise.
pub fn print(text: &str) -> anyhow::Result<u8> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(0),
        other => Ok(other.map(|()| 0)?),
    }
}

/// Copies what is there to be read, as it is; false when nobody reads on.
///
/// # Errors
/// When reading fails, or standard output otherwise than by a reader that has gone.
pub fn copy(from: &mut impl io::Read) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    match io::copy(from, &mut out).and_then(|_| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        other => Ok(other.map(|()| true)?),
    }
}
