//! `-f KEY=VALUE` of listings, as Docker's: values of one key are alternatives, keys must all hold.

use crate::control::ports::Exposed;
use crate::control::{Kind, Refused};

/// What some keys can be asked for; of others anything can be.
const VALUES: [(&str, &[&str]); 4] = [
    ("dangling", &["true", "false", "1", "0"]),
    ("scope", &["local", "global", "swarm"]),
    ("status", &["created", "restarting", "running", "removing", "paused", "exited", "dead", "lost"]),
    ("type", &["builtin", "custom"]),
];

/// What is wrong with a value, if anything.
fn mistake(key: &str, value: &str) -> Option<String> {
    let allowed = VALUES.iter().find(|(known, _)| *known == key).map(|(_, allowed)| *allowed);
    let wanted = match allowed {
        Some(allowed) if !allowed.contains(&value) => allowed.join(", "),
        None if key == "exited" && value.parse::<i32>().is_err() => "an exit code".to_owned(),
        None if matches!(key, "publish" | "expose") && value.parse::<Exposed>().is_err() => {
            "PORT[-PORT][/PROTO]".to_owned()
        }
        _ => return None,
    };
    Some(format!("invalid filter '{key}={value}': it takes {wanted}"))
}

/// What a listing is cut down to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filters(Vec<(String, String)>);

impl Filters {
    /// Reads flags.
    ///
    /// # Errors
    /// `bad_option`: no `KEY=VALUE`, another key than those `known`, or a value that it never has.
    pub fn read(flags: &[String], known: &[&str]) -> Result<Self, Refused> {
        let one = |flag: &String| {
            let bad = |message: String| Err(Refused::new(Kind::BadOption, message));
            // `label!=KEY` is a key that ends in '!'.
            match flag.split_once('=') {
                Some((key, value)) if known.contains(&key) => match mistake(key, value) {
                    None => Ok((key.to_owned(), value.to_owned())),
                    Some(mistake) => bad(mistake),
                },
                Some((key, _)) => {
                    bad(format!("invalid filter '{key}': the filters are {}", known.join(", ")))
                }
                None => bad(format!(
                    "invalid filter '{flag}': write KEY=VALUE, as {}=…",
                    known.first().unwrap_or(&"name")
                )),
            }
        };
        flags.iter().map(one).collect::<Result<_, _>>().map(Self)
    }

    /// Whether anything is asked of `key`.
    pub fn has(&self, key: &str) -> bool {
        self.values(key).next().is_some()
    }

    /// The values asked for.
    pub fn values(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// Whether one of the values asked for fits, or none is asked for.
    pub(super) fn any(&self, key: &str, fits: impl Fn(&str) -> bool) -> bool {
        !self.has(key) || self.values(key).any(fits)
    }

    /// Labels, which must all be there, and those of `label!` not: `KEY`, or `KEY=VALUE`. `has` are written
    /// `KEY=VALUE`.
    pub(super) fn labels(&self, has: &[String]) -> bool {
        let fits = |wanted: &str| {
            has.iter()
                .any(|label| label == wanted || label.split_once('=').is_some_and(|(key, _)| key == wanted))
        };
        self.values("label").all(fits) && !self.values("label!").any(fits)
    }
}

/// Whether a name holds what is looked for, at its beginning or end where that says `^` or `$`.
pub(super) fn names(name: &str, wanted: &str) -> bool {
    let (at_start, rest) = wanted.strip_prefix('^').map_or((false, wanted), |rest| (true, rest));
    let (at_end, part) = rest.strip_suffix('$').map_or((false, rest), |rest| (true, rest));
    let part = part.strip_prefix('/').filter(|_| at_start).unwrap_or(part);
    match (at_start, at_end) {
        (true, true) => name == part,
        (true, false) => name.starts_with(part),
        (false, true) => name.ends_with(part),
        (false, false) => name.contains(part),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(flags: &[&str]) -> Result<Filters, Refused> {
        Filters::read(&flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>(), &["name", "label"])
    }

    #[test]
    fn keys_must_all_hold_and_values_are_alternatives() {
        let asked = filters(&["name=web", "name=db", "label=a=1", "label=b"]).unwrap();
        assert!(asked.any("name", |name| name == "db") && !asked.any("name", |name| name == "x"));
        assert!(asked.any("status", |_| false), "nobody asked");
        let labels = |has: &[&str]| asked.labels(&has.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>());
        assert!(labels(&["a=1", "b=2"]) && labels(&["b=", "a=1"]));
        assert!(!labels(&["a=1"]) && !labels(&["a=2", "b=2"]));
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        let said = |flag: &str| filters(&[flag]).unwrap_err().message;
        assert_eq!(said("colour=red"), "invalid filter 'colour': the filters are name, label");
        assert_eq!(said("web"), "invalid filter 'web': write KEY=VALUE, as name=…");
    }

    #[test]
    fn names_hold_parts() {
        let table = [
            ("web1", "web", true),
            ("web1", "^web$", false),
            ("web1", "^/web1$", true),
            ("web1", "1$", true),
            ("web1", "^1", false),
            ("web1", "", true),
        ];
        for (name, wanted, expected) in table {
            assert_eq!(names(name, wanted), expected, "{name} {wanted}");
        }
    }
}
