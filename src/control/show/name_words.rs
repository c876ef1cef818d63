//! What a gateway would make of a question, in words.

use super::names::Names;
use crate::dataplane::dns::{Naming, Outcome};

/// What becomes of a question.
pub(super) fn name_words(naming: &Naming, names: &Names) -> String {
    let name = naming.name.as_deref().map_or_else(|| "the question".to_owned(), quoted);
    let becomes = match naming.outcome {
        Outcome::Local => "is a name of this network: its gateway answers".to_owned(),
        Outcome::Cached => "is answered from the cache".to_owned(),
        Outcome::Forwarded => match naming.upstream {
            Some((upstream, by)) => format!("is asked of {upstream}, by {}", names.network(by)),
            None => "is asked of an upstream".to_owned(),
        },
        Outcome::Joined => "is being asked already: this waits for the same answer".to_owned(),
        Outcome::Limited => "is not asked (SERVFAIL): too many questions wait for answers".to_owned(),
        Outcome::FormErr => "cannot be read (FORMERR)".to_owned(),
        Outcome::NotImp => "is no query (NOTIMP)".to_owned(),
        Outcome::Refused => "is refused (REFUSED): another class, a whole zone, or too long".to_owned(),
        Outcome::NoUpstream => {
            "is unknown here, and nobody else is asked (SERVFAIL): 'tapswitch network set NET \
                                -o dns=ADDRESS' names a server"
                .to_owned()
        }
        Outcome::Failed => "is unknown here, and no upstream can be reached (SERVFAIL)".to_owned(),
    };
    format!("{name} {becomes}")
}

/// A name on the wire as people write it; what is not printable is escaped.
fn quoted(mut wire: &[u8]) -> String {
    let mut labels = Vec::new();
    while let Some((length, rest)) = wire.split_first()
        && let Some((label, rest)) = rest.split_at_checked(usize::from(*length))
        && !label.is_empty()
    {
        labels.push(label.escape_ascii().to_string());
        wire = rest;
    }
    format!("'{}'", if labels.is_empty() { ".".to_owned() } else { labels.join(".") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_people_write_them() {
        for (wire, expected) in [
            (&b"\x03web\x07example\x00"[..], "'web.example'"),
            (b"\x00", "'.'"),
            (b"\x04a\x1b[2\x00", "'a\\x1b[2'"),
            (b"\x09cut", "'.'"),
        ] {
            assert_eq!(quoted(wire), expected);
        }
    }
}
