//! `docker`: every command is ours under the same name.

use super::Meaning;

pub(super) fn read(_: &str, words: &[String]) -> Result<Meaning, String> {
    Ok(Meaning::Ours(words.to_vec()))
}
