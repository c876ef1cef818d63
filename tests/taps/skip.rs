//! Tests that cannot run here say so.

use std::io::Write;

/// Says why a test does not run, past the test runner's capture.
pub(crate) fn skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIP: {why}");
}

/// A namespace, or the test ends.
macro_rules! inside_or_skip {
    () => {
        match $crate::inside::Inside::new() {
            Ok(inside) => inside,
            Err(why) => return $crate::skip::skip(&why),
        }
    };
}
