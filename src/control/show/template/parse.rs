//! Templates as trees.

use serde_json::{Number, Value};

use super::bad;
use crate::control::Refused;

/// How deep blocks and parentheses nest.
const DEPTH: usize = 50;

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// Itself.
    Text(String),
    /// `{{pipeline}}`: what it comes to.
    Print(Pipeline),
    /// `{{if …}}`, `{{else if …}}`: the first that holds; then `{{else}}`.
    If(Vec<(Pipeline, Vec<Node>)>, Vec<Node>),
    /// `{{with …}}`: its value is the dot, if it holds.
    With(Pipeline, Vec<Node>, Vec<Node>),
    /// `{{range $key, $value := …}}`: for each element, which is the dot.
    Range { names: Vec<String>, over: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
}

/// Commands, each given the last one's result.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Pipeline {
    /// The variable that gets the result, and whether it is a new one. It is then not printed.
    pub(super) assign: Option<(String, bool)>,
    pub(super) commands: Vec<Vec<Term>>,
}

/// A word of a command; the keys after it are looked up in it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Term {
    Dot(Vec<String>),
    Variable(String, Vec<String>),
    Literal(Value),
    Function(String),
    Group(Box<Pipeline>, Vec<String>),
}

/// Reads a whole template.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, Refused> {
    let mut parser = Parser { pieces: pieces(text)?.into_iter() };
    let (nodes, end) = parser.block(0)?;
    match end {
        End::Text => Ok(nodes),
        End::Else(_) => Err(bad("template: '{{else}}' belongs to no if, range or with")),
        End::Close => Err(bad("template: '{{end}}' ends nothing: take it away")),
    }
}

/// Text, or what stands between `{{` and `}}`.
#[derive(Debug)]
enum Piece<'t> {
    Text(&'t str),
    Action(&'t str),
}

/// Cuts a template up; `{{-` and `-}}` take the white space beside them away, comments are left out.
fn pieces(text: &str) -> Result<Vec<Piece<'_>>, Refused> {
    let mut found = Vec::new();
    let mut rest = text;
    let mut trim = false;
    loop {
        let (before, after) =
            rest.split_once("{{").map_or((rest, None), |(before, after)| (before, Some(after)));
        let before = if trim { before.trim_start() } else { before };
        let Some(after) = after else {
            found.push(Piece::Text(before));
            return Ok(found);
        };
        let left = after.strip_prefix('-').filter(|after| after.starts_with(char::is_whitespace));
        found.push(Piece::Text(if left.is_some() { before.trim_end() } else { before }));
        let inside = left.unwrap_or(after);
        let unclosed = || bad(format!("template '{text}' has a '{{{{' without '}}}}': close it"));
        let end = action_end(inside).ok_or_else(unclosed)?;
        let action = inside.get(..end).unwrap_or_default();
        let right = action.strip_suffix('-').filter(|action| action.ends_with(char::is_whitespace));
        let action = right.unwrap_or(action).trim();
        trim = right.is_some();
        if !action.starts_with("/*") {
            found.push(Piece::Action(action));
        }
        rest = inside.get(end + 2..).unwrap_or_default();
    }
}

/// Where the action that `text` begins with ends: at `}}` outside of quotes, of a comment behind `*/`.
fn action_end(text: &str) -> Option<usize> {
    let from = if text.trim_start().starts_with("/*") { text.find("*/")? + 2 } else { 0 };
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices().skip_while(|(at, _)| *at < from) {
        match quote {
            Some('"') if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '`' => quote = Some(c),
            None if text.get(at..).is_some_and(|rest| rest.starts_with("}}")) => return Some(at),
            None => {}
        }
    }
    None
}

/// What ends a block.
enum End {
    /// The template's end.
    Text,
    /// `{{else}}`, with what follows the word.
    Else(String),
    /// `{{end}}`.
    Close,
}

struct Parser<'t> {
    pieces: std::vec::IntoIter<Piece<'t>>,
}

impl Parser<'_> {
    /// Nodes up to what ends the block.
    fn block(&mut self, depth: usize) -> Result<(Vec<Node>, End), Refused> {
        if depth > DEPTH {
            return Err(bad(format!("template: blocks nest deeper than {DEPTH}")));
        }
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let action = match piece {
                Piece::Text("") => continue,
                Piece::Text(text) => {
                    nodes.push(Node::Text(text.to_owned()));
                    continue;
                }
                Piece::Action(action) => action,
            };
            let (word, rest) = action.split_once(char::is_whitespace).unwrap_or((action, ""));
            match word {
                "end" => return Ok((nodes, End::Close)),
                "else" => return Ok((nodes, End::Else(rest.trim().to_owned()))),
                "if" => nodes.push(self.condition(rest, depth)?),
                "with" => {
                    let pipeline = pipeline(action, rest)?;
                    let (body, otherwise) = self.body_and_else(action, depth)?;
                    nodes.push(Node::With(pipeline, body, otherwise));
                }
                "range" => {
                    let (names, over) = range_names(rest);
                    let over = pipeline(action, over)?;
                    let (body, otherwise) = self.body_and_else(action, depth)?;
                    nodes.push(Node::Range { names, over, body, otherwise });
                }
                "define" | "template" | "block" | "break" | "continue" => {
                    return Err(bad(format!(
                        "template '{{{{{action}}}}}': '{word}' is not supported: use if, with and range"
                    )));
                }
                _ => nodes.push(Node::Print(pipeline(action, action)?)),
            }
        }
        Ok((nodes, End::Text))
    }

    fn condition(&mut self, rest: &str, depth: usize) -> Result<Node, Refused> {
        let mut branches = Vec::new();
        let mut condition = rest.to_owned();
        loop {
            let action = format!("if {condition}");
            let pipeline = pipeline(&action, &condition)?;
            let (body, end) = self.block(depth + 1)?;
            branches.push((pipeline, body));
            match end {
                End::Close => return Ok(Node::If(branches, Vec::new())),
                End::Text => return Err(unclosed(&action)),
                End::Else(rest) if rest.is_empty() => {
                    let (otherwise, end) = self.block(depth + 1)?;
                    let End::Close = end else { return Err(unclosed(&action)) };
                    return Ok(Node::If(branches, otherwise));
                }
                End::Else(rest) => match rest.strip_prefix("if ") {
                    Some(next) => condition = next.to_owned(),
                    None => {
                        return Err(bad(format!("template '{{{{else {rest}}}}}': write else, or else if …")));
                    }
                },
            }
        }
    }

    /// The rest of a `with` or `range`.
    fn body_and_else(&mut self, action: &str, depth: usize) -> Result<(Vec<Node>, Vec<Node>), Refused> {
        let (body, end) = self.block(depth + 1)?;
        match end {
            End::Close => Ok((body, Vec::new())),
            End::Else(rest) if rest.is_empty() => match self.block(depth + 1)? {
                (otherwise, End::Close) => Ok((body, otherwise)),
                _ => Err(unclosed(action)),
            },
            End::Else(_) | End::Text => Err(unclosed(action)),
        }
    }
}

fn unclosed(action: &str) -> Refused {
    bad(format!("template '{{{{{action}}}}}' has no '{{{{end}}}}': add it"))
}

/// `$value := …` or `$key, $value := …` of a range: the names, and what is behind them.
fn range_names(text: &str) -> (Vec<String>, &str) {
    let Some((names, over)) = text.split_once(":=") else { return (Vec::new(), text) };
    let names: Vec<&str> = names.split(',').map(str::trim).collect();
    if names.len() > 2 || !names.iter().all(|name| is_variable(name)) {
        return (Vec::new(), text);
    }
    (names.into_iter().map(str::to_owned).collect(), over)
}

fn is_variable(text: &str) -> bool {
    text.strip_prefix('$').is_some_and(|name| !name.is_empty() && name.chars().all(is_letter))
}

fn is_letter(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The pipeline `text` of `action`.
fn pipeline(action: &str, text: &str) -> Result<Pipeline, Refused> {
    let mut words = Words { action, rest: text };
    let (name, rest) = text.trim_start().split_once('=').unwrap_or(("", ""));
    let (name, is_new) = name.strip_suffix(':').map_or((name, false), |name| (name, true));
    let assign = is_variable(name.trim()).then(|| (name.trim().to_owned(), is_new));
    if assign.is_some() {
        words.rest = rest;
    }
    let pipeline = words.pipeline(0)?;
    if !words.rest.is_empty() {
        return Err(words.wrong(words.rest));
    }
    Ok(Pipeline { assign, ..pipeline })
}

/// What is left of an action.
struct Words<'t> {
    action: &'t str,
    rest: &'t str,
}

impl<'t> Words<'t> {
    /// Commands up to the end, or to the parenthesis that closes them.
    fn pipeline(&mut self, depth: usize) -> Result<Pipeline, Refused> {
        if depth > DEPTH {
            return Err(bad(format!("template: parentheses nest deeper than {DEPTH}")));
        }
        let mut commands = vec![Vec::new()];
        loop {
            self.rest = self.rest.trim_start();
            match self.rest.chars().next() {
                None | Some(')') => break,
                Some('|') => {
                    self.rest = self.rest.get(1..).unwrap_or_default();
                    commands.push(Vec::new());
                }
                Some(_) => {
                    let term = self.term(depth)?;
                    commands.last_mut().into_iter().for_each(|command| command.push(term.clone()));
                }
            }
        }
        if commands.iter().any(Vec::is_empty) {
            return Err(bad(format!(
                "template '{{{{{}}}}}' has a place where a value is missing",
                self.action
            )));
        }
        Ok(Pipeline { assign: None, commands })
    }

    fn term(&mut self, depth: usize) -> Result<Term, Refused> {
        let first = self.rest.chars().next().unwrap_or_default();
        match first {
            '.' => Ok(Term::Dot(self.keys()?)),
            '$' => {
                let end = self.rest.find(|c| !is_letter(c) && c != '$').unwrap_or(self.rest.len());
                let name = self.take(end).to_owned();
                Ok(Term::Variable(name, self.keys()?))
            }
            '(' => {
                self.take(1);
                let inner = self.pipeline(depth + 1)?;
                if !self.rest.starts_with(')') {
                    return Err(bad(format!(
                        "template '{{{{{}}}}}' has a '(' without ')': close it",
                        self.action
                    )));
                }
                self.take(1);
                Ok(Term::Group(Box::new(inner), self.keys()?))
            }
            '"' | '`' => self.string(first).map(|text| Term::Literal(Value::String(text))),
            '0'..='9' | '-' | '+' => self.number(),
            _ if is_letter(first) => {
                let end = self.rest.find(|c| !is_letter(c)).unwrap_or(self.rest.len());
                Ok(match self.take(end) {
                    "true" => Term::Literal(Value::Bool(true)),
                    "false" => Term::Literal(Value::Bool(false)),
                    "nil" => Term::Literal(Value::Null),
                    word => Term::Function(word.to_owned()),
                })
            }
            _ => Err(self.wrong(self.rest)),
        }
    }

    /// `.A.B`, as far as it goes; a dot alone is no key. Names with `-` inside are taken, too: networks have them.
    fn keys(&mut self) -> Result<Vec<String>, Refused> {
        let mut keys = Vec::new();
        while let Some(rest) = self.rest.strip_prefix('.') {
            let mut end = 0;
            let mut after = rest.chars();
            while let Some(c) = after.next() {
                let inside = c == '-' && end > 0 && after.clone().next().is_some_and(is_letter);
                if !is_letter(c) && !inside {
                    break;
                }
                end += c.len_utf8();
            }
            self.rest = rest;
            match self.take(end) {
                "" if self.rest.starts_with('.') || !keys.is_empty() => return Err(self.wrong(self.rest)),
                "" => break,
                key => keys.push(key.to_owned()),
            }
        }
        Ok(keys)
    }

    /// A number stands alone: `1x` is none.
    fn number(&mut self) -> Result<Term, Refused> {
        let end = self.rest.find(|c: char| c.is_whitespace() || "|()".contains(c)).unwrap_or(self.rest.len());
        let word = self.take(end);
        let whole = word.parse::<i64>().map(Number::from).ok();
        let number = whole.or_else(|| word.parse::<f64>().ok().and_then(Number::from_f64));
        number.map(|number| Term::Literal(Value::Number(number))).ok_or_else(|| self.wrong(word))
    }

    fn string(&mut self, quote: char) -> Result<String, Refused> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                _ if c == quote => {
                    self.take(at + 1);
                    return Ok(text);
                }
                '\\' if quote == '"' => match chars.next().map(|(_, c)| c) {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some(c @ ('"' | '\\')) => text.push(c),
                    _ => return Err(self.wrong(self.rest.get(at..).unwrap_or_default())),
                },
                _ => text.push(c),
            }
        }
        Err(bad(format!("template '{{{{{}}}}}' has a text without its closing {quote}", self.action)))
    }

    fn take(&mut self, bytes: usize) -> &'t str {
        let (taken, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    fn wrong(&self, at: &str) -> Refused {
        let at = if at.is_empty() { "its end" } else { at };
        bad(format!(
            "template '{{{{{}}}}}' makes no sense at {at}: use {{{{.A.B}}}} or {{{{json .A.B}}}}",
            self.action
        ))
    }
}
