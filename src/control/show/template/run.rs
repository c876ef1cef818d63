//! Running a template over a value.

use std::borrow::Cow;

use serde_json::Value;

use super::bad;
use super::functions::{call, is_true, plain};
use super::parse::{Node, Pipeline, Term};
use crate::control::Refused;
use crate::control::naming::nearest;

/// The most actions and elements that a run goes through: a hundred times what the largest lab needs.
const STEPS: usize = 1_000_000;
/// The most text that a run makes, in bytes.
const LENGTH: usize = 64 << 20;

type Seen<'v> = Cow<'v, Value>;

/// What a template makes of a value.
pub(super) fn run(nodes: &[Node], value: &Value) -> Result<String, Refused> {
    let mut run =
        Run { text: String::new(), steps: 0, variables: vec![("$".to_owned(), Cow::Borrowed(value))] };
    run.nodes(nodes, &Cow::Borrowed(value))?;
    Ok(run.text)
}

struct Run<'v> {
    text: String,
    steps: usize,
    /// The innermost last.
    variables: Vec<(String, Seen<'v>)>,
}

impl<'v> Run<'v> {
    fn nodes(&mut self, nodes: &[Node], dot: &Seen<'v>) -> Result<(), Refused> {
        let outer = self.variables.len();
        nodes.iter().try_for_each(|node| self.node(node, dot))?;
        self.variables.truncate(outer);
        Ok(())
    }

    fn node(&mut self, node: &Node, dot: &Seen<'v>) -> Result<(), Refused> {
        self.step()?;
        match node {
            Node::Text(text) => self.print(text),
            Node::Print(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.assign.is_none() { self.print(&plain(&value)) } else { Ok(()) }
            }
            Node::If(branches, otherwise) => {
                let outer = self.variables.len();
                for (condition, body) in branches {
                    if is_true(&*self.pipeline(condition, dot)?) {
                        self.nodes(body, dot)?;
                        self.variables.truncate(outer);
                        return Ok(());
                    }
                }
                self.nodes(otherwise, dot)?;
                self.variables.truncate(outer);
                Ok(())
            }
            Node::With(pipeline, body, otherwise) => {
                let outer = self.variables.len();
                let value = self.pipeline(pipeline, dot)?;
                if is_true(&value) {
                    self.nodes(body, &value)?
                } else {
                    self.nodes(otherwise, dot)?
                }
                self.variables.truncate(outer);
                Ok(())
            }
            Node::Range { names, over, body, otherwise } => {
                let elements = elements(self.pipeline(over, dot)?)?;
                if elements.is_empty() {
                    return self.nodes(otherwise, dot);
                }
                elements.into_iter().try_for_each(|(key, value)| {
                    self.step()?;
                    let outer = self.variables.len();
                    match names.as_slice() {
                        [only] => self.variables.push((only.clone(), value.clone())),
                        [first, second] => {
                            self.variables.push((first.clone(), Cow::Owned(key)));
                            self.variables.push((second.clone(), value.clone()));
                        }
                        _ => {}
                    }
                    self.nodes(body, &value)?;
                    self.variables.truncate(outer);
                    Ok(())
                })
            }
        }
    }

    fn step(&mut self) -> Result<(), Refused> {
        self.steps += 1;
        if self.steps > STEPS {
            return Err(bad(format!("template: it takes more than {STEPS} steps: nest fewer ranges")));
        }
        Ok(())
    }

    fn print(&mut self, text: &str) -> Result<(), Refused> {
        if self.text.len() + text.len() > LENGTH {
            return Err(bad(format!("template: it makes more than {} MiB of text", LENGTH >> 20)));
        }
        self.text.push_str(text);
        Ok(())
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Seen<'v>) -> Result<Seen<'v>, Refused> {
        let mut result = None;
        for command in &pipeline.commands {
            self.step()?;
            result = Some(self.command(command, result, dot)?);
        }
        let value = result.unwrap_or(Cow::Owned(Value::Null));
        match &pipeline.assign {
            Some((name, true)) => self.variables.push((name.clone(), value.clone())),
            Some((name, false)) => match self.variables.iter_mut().rev().find(|(known, _)| known == name) {
                Some((_, slot)) => *slot = value.clone(),
                None => return Err(undefined(name)),
            },
            None => {}
        }
        Ok(value)
    }

    /// One command, which takes the one before's result as its last argument.
    fn command(
        &mut self,
        terms: &[Term],
        piped: Option<Seen<'v>>,
        dot: &Seen<'v>,
    ) -> Result<Seen<'v>, Refused> {
        let Some((first, rest)) = terms.split_first() else { return Ok(Cow::Owned(Value::Null)) };
        let Term::Function(name) = first else {
            if !rest.is_empty() || piped.is_some() {
                return Err(bad(
                    "template: a value that is no function is given arguments: write a function first",
                ));
            }
            return self.term(first, dot);
        };
        let mut arguments = Vec::with_capacity(rest.len() + 1);
        for term in rest {
            arguments.push(self.term(term, dot)?);
        }
        arguments.extend(piped);
        call(name, &arguments)
    }

    fn term(&mut self, term: &Term, dot: &Seen<'v>) -> Result<Seen<'v>, Refused> {
        match term {
            Term::Dot(keys) => pick(dot.clone(), keys),
            Term::Variable(name, keys) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                let (_, value) = known.ok_or_else(|| undefined(name))?;
                pick(value.clone(), keys)
            }
            Term::Literal(value) => Ok(Cow::Owned(value.clone())),
            Term::Function(name) => call(name, &[]),
            Term::Group(inner, keys) => {
                let value = self.pipeline(inner, dot)?;
                pick(value, keys)
            }
        }
    }
}

fn undefined(name: &str) -> Refused {
    bad(format!("template: variable '{name}' is not known: give it a value first, as {name} := .Name"))
}

/// The value behind some keys, each of which must be there: Docker sets `missingkey=error`.
fn pick<'v>(value: Seen<'v>, keys: &[String]) -> Result<Seen<'v>, Refused> {
    let mut value = value;
    for key in keys {
        value = match value {
            Cow::Borrowed(within) => {
                let found = within.get(key).or_else(|| within.get(written(key)));
                Cow::Borrowed(found.ok_or_else(|| missing(keys, key, within))?)
            }
            Cow::Owned(mut within) => match taken(&mut within, key) {
                Some(found) => Cow::Owned(found),
                None => return Err(missing(keys, key, &within)),
            },
        };
    }
    Ok(value)
}

fn taken(within: &mut Value, key: &str) -> Option<Value> {
    let key = if within.get(key).is_some() { key } else { written(key) };
    within.get_mut(key).map(Value::take)
}

/// How JSON writes what Go calls `ID`: Docker's templates find either.
fn written(key: &str) -> &str {
    if key == "ID" { "Id" } else { key }
}

fn missing(path: &[String], key: &str, within: &Value) -> Refused {
    let keys: Vec<&str> = within.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    let mend = match nearest(key, keys.iter().copied()) {
        Some(nearest) => format!("did you mean '{nearest}'?"),
        None if keys.is_empty() => "nothing is below it".to_owned(),
        None => format!("there is {}", keys.join(", ")),
    };
    bad(format!("template '.{}' finds no '{key}': {mend}", path.join(".")))
}

/// Keys and elements of what is ranged over, maps in the order of their keys.
fn elements(value: Seen<'_>) -> Result<Vec<(Value, Seen<'_>)>, Refused> {
    let number = |(at, value)| (Value::from(at), value);
    match value {
        Cow::Borrowed(Value::Array(items)) => {
            Ok(items.iter().map(Cow::Borrowed).enumerate().map(number).collect())
        }
        Cow::Owned(Value::Array(items)) => {
            Ok(items.into_iter().map(Cow::Owned).enumerate().map(number).collect())
        }
        Cow::Borrowed(Value::Object(pairs)) => {
            let mut pairs: Vec<_> = pairs.iter().collect();
            pairs.sort_by_key(|(key, _)| key.as_str());
            Ok(pairs
                .into_iter()
                .map(|(key, value)| (Value::from(key.as_str()), Cow::Borrowed(value)))
                .collect())
        }
        Cow::Owned(Value::Object(pairs)) => {
            let mut pairs: Vec<_> = pairs.into_iter().collect();
            pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
            Ok(pairs.into_iter().map(|(key, value)| (Value::from(key), Cow::Owned(value))).collect())
        }
        value if value.is_null() => Ok(Vec::new()),
        value => Err(bad(format!(
            "template: range goes through lists and maps, and '{}' is neither",
            plain(&value)
        ))),
    }
}
