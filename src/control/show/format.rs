//! `inspect -f`: the part of Go's templates that picks one value.

use serde_json::Value;

use crate::control::naming::nearest;
use crate::control::{Kind, Refused};

/// Fills `{{.A.B}}` (as Go prints it) and `{{json .A.B}}` in a template from `value`.
///
/// # Errors
/// `bad_format`: anything else of Go's template language, or a key that `value` does not have.
pub fn render(template: &str, value: &Value) -> Result<String, Refused> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let unclosed = || bad(format!("template '{template}' has a '{{{{' without '}}}}': close it"));
        let (action, after) = after.split_once("}}").ok_or_else(unclosed)?;
        text.push_str(before);
        text.push_str(&run(action.trim(), value)?);
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

fn run(action: &str, value: &Value) -> Result<String, Refused> {
    match action.split_whitespace().collect::<Vec<_>>().as_slice() {
        [path] if path.starts_with('.') => Ok(plain(pick(path, value)?)),
        ["json", path] if path.starts_with('.') => Ok(pick(path, value)?.to_string()),
        _ => Err(bad(format!(
            "template '{{{{{action}}}}}' is not supported: use {{{{.A.B}}}} or {{{{json .A.B}}}}"
        ))),
    }
}

/// The value at `.A.B`; `.` is all of it.
fn pick<'v>(path: &str, value: &'v Value) -> Result<&'v Value, Refused> {
    let mut value = value;
    for key in path.split('.').skip(1).filter(|_| path != ".") {
        value = value.get(key).ok_or_else(|| missing(path, key, value))?;
    }
    Ok(value)
}

fn missing(path: &str, key: &str, value: &Value) -> Refused {
    let keys: Vec<&str> = value.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    let mend = match nearest(key, keys.iter().copied()) {
        Some(nearest) => format!("did you mean '{nearest}'?"),
        None if keys.is_empty() => "nothing is below it".to_owned(),
        None => format!("there is {}", keys.join(", ")),
    };
    bad(format!("template '{path}' finds no '{key}': {mend}"))
}

fn bad(message: String) -> Refused {
    Refused::new(Kind::BadFormat, message)
}

/// A value as Go's `fmt` prints it with `%v`.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::Bool(boolean) => boolean.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Value::Object(pairs) => {
            let mut pairs: Vec<String> =
                pairs.iter().map(|(key, value)| format!("{key}:{}", plain(value))).collect();
            pairs.sort();
            format!("map[{}]", pairs.join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_picked_as_go_prints_them() {
        let value =
            json!({"Name": "/web", "State": {"Pid": 7, "Running": true, "Error": null}, "List": ["a", 1]});
        let table = [
            ("{{.Name}}", "/web"),
            ("pid {{ .State.Pid }} of {{.Name}}!", "pid 7 of /web!"),
            ("{{json .State}}", r#"{"Pid":7,"Running":true,"Error":null}"#),
            ("{{json .Name}}", "\"/web\""),
            ("{{.State}}", "map[Error:<no value> Pid:7 Running:true]"),
            ("{{.List}}", "[a 1]"),
            ("{{.State.Error}}", "<no value>"),
            ("plain", "plain"),
            ("", ""),
        ];
        for (template, expected) in table {
            assert_eq!(render(template, &value).as_deref(), Ok(expected));
        }
        assert_eq!(render("{{json .}}", &value), Ok(value.to_string()));
    }

    #[test]
    fn the_rest_is_refused() {
        let value = json!({"Name": "web", "State": {"Pid": 7}});
        let table = [
            (
                "{{range .A}}x{{end}}",
                "template '{{range .A}}' is not supported: use {{.A.B}} or {{json .A.B}}",
            ),
            ("{{}}", "template '{{}}' is not supported: use {{.A.B}} or {{json .A.B}}"),
            ("{{.Name", "template '{{.Name' has a '{{' without '}}': close it"),
            ("{{.Nmae}}", "template '.Nmae' finds no 'Nmae': did you mean 'Name'?"),
            ("{{.Volumes}}", "template '.Volumes' finds no 'Volumes': there is Name, State"),
            ("{{.Name.X}}", "template '.Name.X' finds no 'X': nothing is below it"),
            ("{{.State..Pid}}", "template '.State..Pid' finds no '': there is Pid"),
        ];
        for (template, expected) in table {
            assert_eq!(render(template, &value), Err(Refused::new(Kind::BadFormat, expected)));
        }
    }
}
