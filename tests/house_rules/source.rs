//! Rust files as flat token lists: comments gone, each token knowing its line and whether it is test code.

use std::path::Path;

use proc_macro2::{Delimiter, Punct, Spacing, TokenStream, TokenTree};

/// One identifier, literal, bracket or operator character (`::` is one token).
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
    pub(crate) end_line: usize,
    /// Inside `#[cfg(test)]` or `#[test]`.
    pub(crate) test: bool,
    /// How many inline modules enclose it.
    inline_depth: usize,
}

/// A path as written, `use` groups multiplied out: `["crate", "wire", "MacAddr"]`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PathUse {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    pub(crate) test: bool,
}

/// A function with a body.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// From `fn` to the closing brace, both included.
    pub(crate) lines: usize,
    pub(crate) test: bool,
}

/// One Rust file of the package.
#[derive(Debug)]
pub(crate) struct Source {
    /// Relative to the package, with forward slashes.
    pub(crate) path: String,
    pub(crate) tokens: Vec<Token>,
}

impl Source {
    /// Takes a text apart.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let stream: TokenStream = text.parse().unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut tokens = Vec::new();
        let whole_file_is_tests = path.starts_with("tests/") || path.ends_with("/tests.rs");
        flatten(stream, Context { test: whole_file_is_tests, inline_depth: 0 }, &mut tokens);
        Self { path: path.to_owned(), tokens }
    }

    /// Reads a file of the package.
    pub(crate) fn read(root: &Path, path: &str) -> Self {
        Self::new(path, &std::fs::read_to_string(root.join(path)).unwrap())
    }

    /// The module path of the file below the crate: `["wire", "mac"]` for `src/wire/mac.rs`.
    pub(crate) fn module(&self) -> Vec<&str> {
        let Some(inside) = self.path.strip_prefix("src/").and_then(|path| path.strip_suffix(".rs")) else {
            return Vec::new();
        };
        inside.split('/').filter(|part| !["mod", "lib", "main"].contains(part)).collect()
    }

    /// The text of the token at `index`, empty outside the file.
    pub(crate) fn text(&self, index: usize) -> &str {
        self.tokens.get(index).map_or("", |token| &token.text)
    }

    /// Every path of the file. `super` chains that reach the crate's root come out as `crate::…`.
    pub(crate) fn paths(&self) -> Vec<PathUse> {
        let mut paths = Vec::new();
        for (index, token) in self.tokens.iter().enumerate() {
            let before = if index == 0 { "" } else { self.text(index - 1) };
            if is_word(&token.text) && !["::", "."].contains(&before) {
                let mut found = Vec::new();
                self.expand(index, &[], &mut found);
                let (line, test) = (token.line, token.test);
                let depth = self.module().len() + token.inline_depth;
                paths.extend(found.into_iter().map(|segments| PathUse {
                    segments: from_root(segments, depth),
                    line,
                    test,
                }));
            }
        }
        paths
    }

    /// Multiplies out the path (or `use` tree) at `index`; returns the index after it.
    fn expand(&self, mut index: usize, prefix: &[String], out: &mut Vec<Vec<String>>) -> usize {
        let mut segments = prefix.to_vec();
        loop {
            let text = self.text(index);
            if text == "{" {
                index += 1;
                while !["}", ""].contains(&self.text(index)) {
                    index = self.expand(index, &segments, out);
                    index += usize::from(self.text(index) != "}");
                }
                return index + 1;
            }
            if is_word(text) {
                segments.push(text.to_owned());
                index += 1;
            }
            if self.text(index) != "::" || !(is_word(self.text(index + 1)) || self.text(index + 1) == "{") {
                out.push(segments);
                return index;
            }
            index += 1;
        }
    }

    /// Every function that has a body.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let starts = self.tokens.iter().enumerate().filter(|(_, token)| token.text == "fn");
        starts.filter_map(|(index, token)| self.function(index, token)).collect()
    }

    fn function(&self, index: usize, token: &Token) -> Option<Function> {
        let name = self.text(index + 1);
        let mut depth = 0usize;
        for inner in self.tokens.get(index..)? {
            match inner.text.as_str() {
                "{" | "(" | "[" => depth += 1,
                "}" if depth == 1 => {
                    let lines = inner.line - token.line + 1;
                    return is_word(name).then(|| Function {
                        name: name.to_owned(),
                        lines,
                        test: token.test,
                    });
                }
                "}" | ")" | "]" => depth = depth.checked_sub(1)?,
                ";" | "," | "=" if depth == 0 => return None,
                _ => {}
            }
        }
        None
    }

    /// Lines that hold code: no blank lines, no comments, no documentation.
    pub(crate) fn code_lines(&self, test: bool) -> usize {
        let mut lines: Vec<usize> =
            self.tokens.iter().filter(|t| t.test == test).flat_map(|t| t.line..=t.end_line).collect();
        lines.sort_unstable();
        lines.dedup();
        lines.len()
    }
}

/// `super::super::x` at that depth of modules, as `crate::x` when the chain ends at the root.
fn from_root(segments: Vec<String>, depth: usize) -> Vec<String> {
    let supers = segments.iter().take_while(|segment| *segment == "super").count();
    if supers == 0 || supers < depth {
        return segments;
    }
    std::iter::once("crate".to_owned()).chain(segments.into_iter().skip(supers)).collect()
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

#[derive(Clone, Copy)]
struct Context {
    test: bool,
    inline_depth: usize,
}

/// Appends the stream's tokens. An attribute that marks tests counts up to the end of its item.
fn flatten(stream: TokenStream, context: Context, out: &mut Vec<Token>) {
    let trees: Vec<TokenTree> = stream.into_iter().collect();
    let mut item = context;
    let mut index = 0;
    while let Some(tree) = trees.get(index) {
        if let Some((attribute, length)) = attribute(&trees, index) {
            if attribute.starts_with("doc") {
                index += length;
                continue;
            }
            item.test |= attribute == "test" || attribute.replace(' ', "") == "cfg(test)";
        }
        if tree.to_string() == "mod" && matches!(trees.get(index + 2), Some(TokenTree::Group(_))) {
            item.inline_depth = context.inline_depth + 1;
        }
        push(tree, trees.get(index + 1), item, out);
        let item_ends = match tree {
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
            TokenTree::Punct(punct) => punct.as_char() == ';',
            TokenTree::Ident(_) | TokenTree::Literal(_) => false,
        };
        if item_ends {
            item = context;
        }
        index += 1;
    }
}

/// The content of the attribute that starts at `index`, if one does, and its length in trees.
fn attribute(trees: &[TokenTree], index: usize) -> Option<(String, usize)> {
    let hash = matches!(trees.get(index)?, TokenTree::Punct(punct) if punct.as_char() == '#');
    let inner = matches!(trees.get(index + 1)?, TokenTree::Punct(punct) if punct.as_char() == '!');
    let length = 2 + usize::from(inner);
    let TokenTree::Group(group) = trees.get(index + length - 1)? else { return None };
    (hash && group.delimiter() == Delimiter::Bracket).then(|| (group.stream().to_string(), length))
}

/// The first colon of a `::` whose second one is still to come.
const HALF_PATH: &str = ":…";

fn starts_path_separator(punct: &Punct, next: Option<&TokenTree>) -> bool {
    let next_is_colon = matches!(next, Some(TokenTree::Punct(after)) if after.as_char() == ':');
    punct.as_char() == ':' && punct.spacing() == Spacing::Joint && next_is_colon
}

fn push(tree: &TokenTree, next: Option<&TokenTree>, context: Context, out: &mut Vec<Token>) {
    let span = tree.span();
    let Context { test, inline_depth } = context;
    let token = |text: String, line: usize| Token { text, line, end_line: line, test, inline_depth };
    match tree {
        TokenTree::Group(group) => {
            let (open, close) = match group.delimiter() {
                Delimiter::Brace => ("{", "}"),
                Delimiter::Parenthesis => ("(", ")"),
                Delimiter::Bracket => ("[", "]"),
                Delimiter::None => ("", ""),
            };
            out.push(token(open.to_owned(), span.start().line));
            flatten(group.stream(), context, out);
            out.push(token(close.to_owned(), span.end().line));
        }
        TokenTree::Punct(punct) => match out.last_mut() {
            Some(last) if last.text == HALF_PATH => last.text = "::".to_owned(),
            _ if starts_path_separator(punct, next) => {
                out.push(token(HALF_PATH.to_owned(), span.start().line))
            }
            _ => out.push(token(punct.to_string(), span.start().line)),
        },
        TokenTree::Ident(_) | TokenTree::Literal(_) => {
            let end_line = span.end().line;
            out.push(Token { end_line, ..token(tree.to_string(), span.start().line) });
        }
    }
}
