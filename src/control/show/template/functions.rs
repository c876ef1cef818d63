//! Functions of templates: Go's own, and Docker's (`json`, `join`, `lower`, …).

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::bad;
use crate::control::Refused;
use crate::control::naming::nearest;

const NAMES: [&str; 23] = [
    "and", "eq", "ge", "gt", "index", "join", "json", "le", "len", "lower", "lt", "ne", "not", "or", "pad",
    "print", "printf", "println", "slice", "split", "title", "truncate", "upper",
];
/// Fields of Docker's structs, in their order (`api/types` in docker/docker); the first one is always there.
const STRUCTS: [&[&str]; 4] = [
    &["HostIp", "HostPort"],
    &["Subnet", "IPRange", "Gateway", "AuxiliaryAddresses"],
    &["Name", "EndpointID", "MacAddress", "IPv4Address", "IPv6Address"],
    &["Driver", "Options", "Config"],
];
const MAPS: [&str; 2] = ["AuxiliaryAddresses", "Options"];
/// The widest that `pad` and `printf` make anything.
const WIDEST: usize = 1000;

/// What a function makes of its arguments.
pub(super) fn call<'v>(name: &str, arguments: &[Cow<'v, Value>]) -> Result<Cow<'v, Value>, Refused> {
    let owned = |value: Value| Ok(Cow::Owned(value));
    let wrong = |takes: &str| bad(format!("template: {name} takes {takes}"));
    let text = |text: String| Ok(Cow::Owned(Value::String(text)));
    let values = || arguments.iter().map(AsRef::as_ref);
    match (name, arguments) {
        ("and" | "or", [.., last]) => {
            let found = arguments.iter().find(|value| is_true(value) == (name == "or"));
            Ok(found.unwrap_or(last).clone())
        }
        ("not", [value]) => owned(Value::Bool(!is_true(value))),
        ("len", [value]) => {
            owned(Value::from(length(value).ok_or_else(|| wrong("a text, a list or a map"))?))
        }
        ("index", [value, keys @ ..]) => keys.iter().try_fold(value.clone(), |value, key| index(value, key)),
        ("slice", [value, ends @ ..]) if ends.len() <= 2 => slice(value, ends).map(Cow::Owned),
        ("json", [value]) => text(value.to_string()),
        ("print", _) => text(print(values())),
        ("println", _) => text(values().map(plain).collect::<Vec<_>>().join(" ") + "\n"),
        ("printf", [format, rest @ ..]) => match format.as_str() {
            Some(format) => text(printf(format, rest)?),
            None => Err(wrong("a text, and what goes into it")),
        },
        ("eq", [first, others @ ..]) if !others.is_empty() => {
            owned(Value::Bool(others.iter().any(|other| same(first, other))))
        }
        ("ne", [one, other]) => owned(Value::Bool(!same(one, other))),
        ("lt" | "le" | "gt" | "ge", [one, other]) => {
            let order = order(one, other).ok_or_else(|| wrong("two numbers, or two texts"))?;
            owned(Value::Bool(match name {
                "lt" => order.is_lt(),
                "le" => order.is_le(),
                "gt" => order.is_gt(),
                _ => order.is_ge(),
            }))
        }
        ("lower", [value]) => text(plain(value).to_lowercase()),
        ("upper", [value]) => text(plain(value).to_uppercase()),
        ("title", [value]) => text(title(&plain(value))),
        ("split", [value, separator]) => {
            let (value, separator) = (plain(value), plain(separator));
            owned(value.split(separator.as_str()).map(Value::from).collect())
        }
        ("join", [list, separator]) => {
            let items = list.as_array().ok_or_else(|| wrong("a list and what stands between"))?;
            text(items.iter().map(plain).collect::<Vec<_>>().join(&plain(separator)))
        }
        ("truncate", [value, length]) => {
            let length = size(length).ok_or_else(|| wrong("a text and how much of it"))?;
            text(plain(value).chars().take(length).collect())
        }
        ("pad", [value, before, after]) => match (size(before), size(after)) {
            (Some(before), Some(after)) if before.max(after) <= WIDEST && !plain(value).is_empty() => {
                text(format!("{}{}{}", " ".repeat(before), plain(value), " ".repeat(after)))
            }
            (Some(_), Some(_)) if plain(value).is_empty() => text(String::new()),
            _ => Err(wrong("a text, spaces before it and spaces after it, at most 1000")),
        },
        _ if NAMES.contains(&name) => {
            Err(bad(format!("template: {name} is given {} arguments", arguments.len())))
        }
        _ => Err(unknown(name)),
    }
}

fn unknown(name: &str) -> Refused {
    let mend = match nearest(name, NAMES) {
        Some(nearest) => format!("did you mean '{nearest}'?"),
        None => format!("the functions are {}", NAMES.join(", ")),
    };
    bad(format!("template: function '{name}' is not known: {mend}"))
}

/// A value as Go's `fmt` prints it with `%v`.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::Bool(boolean) => boolean.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Value::Object(pairs) => {
            if let Some(fields) = fields(pairs) {
                return format!("{{{}}}", fields.join(" "));
            }
            let pair = |(key, value): (&String, &Value)| match value {
                // A port that is published nowhere has an empty list of places.
                Value::Null if key.contains('/') => format!("{key}:[]"),
                value => format!("{key}:{}", plain(value)),
            };
            let mut pairs: Vec<String> = pairs.iter().map(pair).collect();
            pairs.sort();
            format!("map[{}]", pairs.join(" "))
        }
    }
}

/// What Docker has as a struct, which Go prints without its keys: the fields' texts, if `pairs` are those of one.
fn fields(pairs: &Map<String, Value>) -> Option<Vec<String>> {
    let fits = |keys: &&&[&str]| {
        keys.first().is_some_and(|first| pairs.contains_key(*first))
            && pairs.keys().all(|key| keys.contains(&key.as_str()))
    };
    let keys = STRUCTS.iter().find(fits)?;
    let text = |key: &&str| match pairs.get(*key) {
        Some(Value::Null) | None => if MAPS.contains(key) { "map[]" } else { "" }.to_owned(),
        Some(value) => plain(value),
    };
    Some(keys.iter().map(text).collect())
}

/// Whether a value counts as true: neither false, zero, nothing, nor empty.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(boolean) => *boolean,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(_) | Value::Array(_) | Value::Object(_) => length(value) != Some(0),
    }
}

/// In bytes of a text, as in Go.
fn length(value: &Value) -> Option<usize> {
    match value {
        Value::String(text) => Some(text.len()),
        Value::Array(items) => Some(items.len()),
        Value::Object(pairs) => Some(pairs.len()),
        Value::Null => Some(0),
        Value::Bool(_) | Value::Number(_) => None,
    }
}

fn size(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|number| usize::try_from(number).ok())
}

/// An element of a list, which must be there; of a map nothing, where there is none.
fn index<'v>(value: Cow<'v, Value>, key: &Value) -> Result<Cow<'v, Value>, Refused> {
    let at = |items: &[Value]| {
        let found = size(key).filter(|at| *at < items.len());
        found
            .ok_or_else(|| bad(format!("template: index {} is not in a list of {}", plain(key), items.len())))
    };
    Ok(match value {
        Cow::Borrowed(Value::Array(items)) => {
            items.get(at(items)?).map_or(Cow::Owned(Value::Null), Cow::Borrowed)
        }
        Cow::Owned(Value::Array(mut items)) => {
            let at = at(&items)?;
            Cow::Owned(items.swap_remove(at))
        }
        Cow::Borrowed(Value::Object(pairs)) => {
            pairs.get(&plain(key)).map_or(Cow::Owned(Value::Null), Cow::Borrowed)
        }
        Cow::Owned(Value::Object(mut pairs)) => {
            Cow::Owned(pairs.swap_remove(&plain(key)).unwrap_or(Value::Null))
        }
        value if value.is_null() => Cow::Owned(Value::Null),
        value => {
            return Err(bad(format!(
                "template: index looks into lists and maps, and '{}' is neither",
                plain(&value)
            )));
        }
    })
}

fn slice(value: &Value, ends: &[Cow<'_, Value>]) -> Result<Value, Refused> {
    let refused = || bad("template: slice takes a text or list, and ends that lie in it");
    let length = length(value).ok_or_else(refused)?;
    let mut sizes = ends.iter().map(|end| size(end).ok_or_else(refused));
    let first = sizes.next().unwrap_or(Ok(0))?;
    let last = sizes.next().unwrap_or(Ok(length))?;
    let part = match value {
        Value::String(text) => text.get(first..last).map(Value::from),
        Value::Array(items) => items.get(first..last).map(Value::from),
        _ => None,
    };
    part.ok_or_else(refused)
}

fn same(one: &Value, other: &Value) -> bool {
    one == other || order(one, other) == Some(Ordering::Equal)
}

fn order(one: &Value, other: &Value) -> Option<Ordering> {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64()?.partial_cmp(&other.as_f64()?),
        (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
        _ => None,
    }
}

fn title(text: &str) -> String {
    let mut start = true;
    let letter = |c: char| {
        let upper =
            if std::mem::replace(&mut start, c.is_whitespace()) { c.to_uppercase().next() } else { None };
        upper.unwrap_or(c)
    };
    text.chars().map(letter).collect()
}

/// Go's `Sprint`: spaces between operands of which neither is a text.
fn print<'a>(values: impl Iterator<Item = &'a Value>) -> String {
    let mut text = String::new();
    let mut before: Option<&Value> = None;
    for value in values {
        if before.is_some_and(|before| !before.is_string() && !value.is_string()) {
            text.push(' ');
        }
        text.push_str(&plain(value));
        before = Some(value);
    }
    text
}

/// `%v`, `%s`, `%d`, `%q`, `%t` with flags `-` and `0` and a width, and `%%`.
fn printf(format: &str, arguments: &[Cow<'_, Value>]) -> Result<String, Refused> {
    let mut text = String::new();
    let mut arguments = arguments.iter();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        let end = after.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(after.len());
        let (flags, after) = after.split_at_checked(end).unwrap_or((after, ""));
        let verb = after.chars().next();
        rest = after.get(verb.map_or(0, char::len_utf8)..).unwrap_or_default();
        if verb == Some('%') {
            text.push('%');
            continue;
        }
        let unsupported = || bad(format!("template: printf '{format}': use %s, %v, %d, %q, %t and %%"));
        let verb = verb.filter(|verb| "svdqt".contains(*verb)).ok_or_else(unsupported)?;
        let value = arguments
            .next()
            .ok_or_else(|| bad(format!("template: printf '{format}' is given too little")))?;
        if verb == 'd' && !value.is_i64() && !value.is_u64() {
            return Err(bad(format!("template: printf's %d takes a whole number, not '{}'", plain(value))));
        }
        let shown = if verb == 'q' { Value::from(plain(value)).to_string() } else { plain(value) };
        text.push_str(&padded(flags, &shown, verb == 'd').ok_or_else(unsupported)?);
    }
    text.push_str(rest);
    if arguments.next().is_some() {
        return Err(bad(format!("template: printf '{format}' is given too much")));
    }
    Ok(text)
}

fn padded(flags: &str, shown: &str, is_number: bool) -> Option<String> {
    if flags.is_empty() {
        return Some(shown.to_owned());
    }
    let (left, width) = flags.strip_prefix('-').map_or((false, flags), |width| (true, width));
    let zeros = !left && is_number && width.starts_with('0');
    let width: usize = width.parse().ok().filter(|width| *width <= WIDEST)?;
    Some(match (left, zeros, shown.strip_prefix('-')) {
        (true, ..) => format!("{shown:<width$}"),
        (false, true, Some(digits)) => format!("-{digits:0>width$}", width = width.saturating_sub(1)),
        (false, true, None) => format!("{shown:0>width$}"),
        (false, false, _) => format!("{shown:>width$}"),
    })
}
