//! Names: which are allowed, which are generated, which was probably meant.

use super::{Kind, Refused};

/// The longest name of a network or container; Docker sets no limit, tables and messages need one.
const LONGEST: usize = 128;

/// Checks a name as Docker does: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`. `what` is "network", "alias", ...
///
/// # Errors
/// `bad_name`.
pub fn check_name(what: &str, name: &str) -> Result<(), Refused> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let good = name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(inner);
    if good && name.len() <= LONGEST {
        return Ok(());
    }
    Err(Refused::new(
        Kind::BadName,
        format!(
            "{what} name '{name}' is not allowed: use letters, digits, '_', '.' and '-', \
             a letter or digit first, {LONGEST} at most"
        ),
    ))
}

/// Checks a host name: labels of letters, digits, '-' and '_' between dots (RFC 1123 §2.1, with the
/// underscore that Docker tolerates), 63 characters at most as the kernel's `sethostname` takes 64.
///
/// # Errors
/// `bad_name`.
pub fn check_hostname(name: &str) -> Result<(), Refused> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let label = |label: &str| !label.is_empty() && !label.starts_with('-') && label.chars().all(inner);
    if name.len() <= 63 && name.split('.').all(label) {
        return Ok(());
    }
    Err(Refused::new(
        Kind::BadName,
        format!("host name '{name}' is not allowed: use letters, digits, '-' and '.', 63 at most"),
    ))
}

/// Checks an interface name as the kernel does (`dev_valid_name` in net/core/dev.c), plus no
/// non-printable or non-ASCII bytes, and not `lo`.
///
/// # Errors
/// `bad_name`.
pub fn check_interface(name: &str) -> Result<(), Refused> {
    let inner = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '%');
    let good = !matches!(name, "" | "." | ".." | "lo") && name.len() <= 15 && name.chars().all(inner);
    if good {
        return Ok(());
    }
    Err(Refused::new(
        Kind::BadName,
        format!(
            "interface name '{name}' is not allowed: use 1 to 15 characters without '/', ':', '%' or spaces, not 'lo'"
        ),
    ))
}

/// A name for a container that was given none, as `quiet_noether`: chosen by `seed`, and another
/// one as long as it is `taken`.
pub fn generate(seed: u64, taken: impl Fn(&str) -> bool) -> String {
    let combinations = (ADJECTIVES.len() * SURNAMES.len()) as u64;
    let pick = |number: u64| {
        let number = usize::try_from(number % combinations).unwrap_or_default();
        let adjective = ADJECTIVES.get(number % ADJECTIVES.len()).unwrap_or(&"plain");
        let surname = SURNAMES.get(number / ADJECTIVES.len()).unwrap_or(&"frame");
        format!("{adjective}_{surname}")
    };
    let free = |name: &String| !taken(name);
    let plain = (0..combinations).map(|step| pick(seed.wrapping_add(step))).find(free);
    // Every combination is taken: count behind one of them, as Docker does.
    plain.or_else(|| (1u64..).map(|count| format!("{}{count}", pick(seed))).find(free)).unwrap_or_default()
}

const ADJECTIVES: [&str; 32] = [
    "agile", "bold", "brisk", "calm", "candid", "clever", "cosmic", "deft", "eager", "fond", "gentle",
    "happy", "humble", "jolly", "keen", "kind", "lively", "lucid", "merry", "modest", "nimble", "patient",
    "placid", "proud", "quick", "quiet", "serene", "steady", "tidy", "vivid", "warm", "witty",
];

/// People of networks, mathematics and science.
const SURNAMES: [&str; 32] = [
    "abramson",
    "baran",
    "boggs",
    "cerf",
    "clark",
    "curie",
    "davies",
    "deering",
    "dijkstra",
    "erlang",
    "estrin",
    "euler",
    "fourier",
    "gauss",
    "hamming",
    "hopper",
    "jacobson",
    "kahn",
    "kleinrock",
    "lamport",
    "lovelace",
    "metcalfe",
    "mockapetris",
    "noether",
    "nyquist",
    "perlman",
    "postel",
    "roberts",
    "shannon",
    "turing",
    "varghese",
    "zimmermann",
];

/// The candidate that `word` is probably a slip of: a third of its letters differ, and never all.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > LONGEST {
        // No slip of a name, and comparing takes room and time for each pair of letters.
        return None;
    }
    let distance = |candidate: &str| strsim::damerau_levenshtein(word, candidate);
    let best = candidates.into_iter().min_by_key(|candidate| distance(candidate))?;
    let letters = word.chars().count();
    let most = letters.div_ceil(3).min(3).min(letters.saturating_sub(1));
    (distance(best) <= most).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_as_docker() {
        for good in ["a", "net1", "0x", "web-1.local_x", &"a".repeat(128)] {
            assert_eq!(check_name("network", good), Ok(()));
        }
        for bad in ["", "-a", ".a", "_a", "a b", "a/b", "é", "a\n", "a:b", &"a".repeat(129)] {
            assert_eq!(check_name("network", bad).unwrap_err().kind, Kind::BadName, "{bad:?}");
        }
    }

    #[test]
    fn host_and_interface_names() {
        for good in ["a", "web-1", "web.example.org", "a_b"] {
            assert_eq!(check_hostname(good), Ok(()));
        }
        for bad in ["", "a..b", "-a", "a b", ".", &"a".repeat(64)] {
            assert!(check_hostname(bad).is_err(), "{bad:?}");
        }
        for good in ["eth0", "br-0123456789ab", "..."] {
            assert_eq!(check_interface(good), Ok(()));
        }
        for bad in ["", ".", "..", "lo", "a/b", "a:b", "eth 0", "sixteen-letters-", "eth%d", "\u{e9}"] {
            assert!(check_interface(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_longer_than_any_name_is_nobodys_slip() {
        let name = "a".repeat(LONGEST);
        assert_eq!(nearest(&name[1..], [name.as_str()]), Some(name.as_str()));
        assert_eq!(nearest(&format!("{name}a"), [name.as_str()]), None);
    }

    #[test]
    fn generated_names_are_allowed_and_never_repeat() {
        let mut names = BTreeSet::new();
        for seed in 0..1100 {
            let name = generate(seed % 5, |name| names.contains(name));
            assert_eq!(check_name("container", &name), Ok(()));
            assert!(names.insert(name));
        }
        assert_eq!(generate(7, |_| false), generate(7, |_| false));
        assert_ne!(generate(7, |_| false), generate(8, |_| false));
        assert_eq!(generate(u64::MAX, |_| false), generate(u64::MAX % 1024, |_| false));
    }

    #[test]
    fn slips_are_guessed_but_not_far_ones() {
        assert_eq!(nearest("nte1", ["net1", "bridge"]), Some("net1"));
        assert_eq!(nearest("brige", ["net1", "bridge"]), Some("bridge"));
        assert_eq!(nearest("frontend", ["net1", "bridge"]), None);
        assert_eq!(nearest("x", []), None);
        assert_eq!(nearest("x", ["u"]), None, "a letter for a letter is another name");
    }
}
