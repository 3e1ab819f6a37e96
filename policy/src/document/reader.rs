//! What the readers of all documents share: lists of endpoints, words and booleans out of nodes, with a
//! diagnostic for everything that does not fit.

use super::diagnostic::{Diagnostic, Place, Severity, Sink};
use super::keys;
use super::node::{Node, Value};
use super::place::Source;
use super::{MAX_BYTES, ParseOptions, Parsed, SourcedEndpoint};
use crate::endpoint::cover::{Overlap, overlaps};
use crate::endpoint::list::{Token, split_placed};
use crate::endpoint::parse::{Role, parse_endpoint};
use crate::endpoint::problem::{Notice, quoted};

/// A document being read.
pub(super) struct Reader<'a> {
    pub(super) source: Source<'a>,
    pub(super) sink: Sink,
    options: ParseOptions,
}

impl<'a> Reader<'a> {
    /// Parses the text and hands its root to `read`; refuses what is too long, empty or not YAML.
    pub(super) fn run<T: Default>(
        text: &'a str,
        options: ParseOptions,
        read: impl FnOnce(&mut Self, &Node) -> T,
    ) -> Parsed<T> {
        let mut reader = Self {
            source: Source::new(text),
            sink: Sink::default(),
            options,
        };
        let start = Place {
            line: 1,
            column: 1,
            length: 1,
        };
        if text.len() > MAX_BYTES {
            let message = format!(
                "the document has {} bytes, at most {MAX_BYTES} are read",
                text.len()
            );
            reader.sink.push(Diagnostic::error(start, message));
            return reader.sink.finish(T::default());
        }
        let document = match super::node::read(&reader.source, super::node::MAX_DEPTH) {
            Ok(root) if root.value == Value::Null => {
                reader
                    .sink
                    .push(Diagnostic::error(start, "the document is empty"));
                T::default()
            }
            Ok(root) => read(&mut reader, &root),
            Err(diagnostic) => {
                reader.sink.push(diagnostic);
                T::default()
            }
        };
        reader.sink.finish(document)
    }

    /// Where a node begins, up to the end of its first word; a text on one line whole.
    pub(super) fn place(&self, node: &Node) -> (Place, String) {
        let (word_place, word) = self.source.word(node.line, node.column);
        let Value::Text(text) = &node.value else {
            return (word_place, word);
        };
        let characters = self.source.characters(node);
        let (Some(first), Some(last)) = (characters.first(), characters.last()) else {
            return (word_place, word);
        };
        if first.line != last.line || text.contains('\n') {
            return (word_place, word);
        }
        let length = last.column.saturating_sub(first.column) + 1;
        (
            Place {
                line: first.line,
                column: first.column,
                length,
            },
            text.clone(),
        )
    }

    /// Reports something about a node.
    pub(super) fn report(
        &mut self,
        severity: Severity,
        node: &Node,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        if self.sink.is_full(severity) {
            return self.sink.count(severity);
        }
        let (place, token) = self.place(node);
        self.sink
            .push(Diagnostic::new(severity, place, message).token(token).hint(hint));
    }

    pub(super) fn error(&mut self, node: &Node, message: impl Into<String>, hint: Option<String>) {
        self.report(Severity::Error, node, message, hint);
    }

    /// The entries of a mapping with text keys, each once; tags, other keys and repetitions are errors.
    pub(super) fn entries<'n>(&mut self, map: &'n [(Node, Node)]) -> Vec<(&'n str, &'n Node, &'n Node)> {
        let mut seen: Vec<(&'n str, &'n Node, &'n Node)> = Vec::new();
        let mut lines = hashbrown::HashMap::new();
        for (key, value) in map {
            let Value::Text(name) = &key.value else {
                let message = format!("expected a key, found {}", key.value.kind());
                self.error(key, message, None);
                continue;
            };
            if key.tagged || value.tagged {
                self.error(
                    if key.tagged { key } else { value },
                    "YAML tags have no meaning here",
                    None,
                );
            }
            if let Some(first) = lines.insert(name.as_str(), key.line) {
                self.error(
                    key,
                    format!("`{name}` is written twice, first on line {first}"),
                    None,
                );
                continue;
            }
            seen.push((name, key, value));
        }
        seen
    }

    /// A key that is not known here.
    pub(super) fn unknown_key<'k>(
        &mut self,
        key: &Node,
        name: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) {
        let hint = keys::nearest(name, known).map(|near| format!("did you mean `{near}`?"));
        self.error(key, format!("unknown key {}", quoted(name)), hint);
    }

    /// A list of words: YAML list or text with separators. `None` for a word list of another type.
    pub(super) fn words(&mut self, node: &Node, what: &str) -> Vec<Token> {
        match &node.value {
            Value::Null => Vec::new(),
            Value::Text(_) => split_placed(self.source.characters(node)),
            Value::List(items) => {
                let mut words = Vec::new();
                for item in items {
                    match &item.value {
                        Value::Text(_) if !item.tagged => {
                            words.extend(split_placed(self.source.characters(item)));
                        }
                        Value::Text(_)
                        | Value::Null
                        | Value::Bool(_)
                        | Value::Number
                        | Value::List(_)
                        | Value::Map(_) => self.wrong_item(item, what),
                    }
                }
                words
            }
            Value::Bool(_) | Value::Number | Value::Map(_) => {
                let message = format!("expected a list of {what}s, found {}", node.value.kind());
                let hint = if what == "endpoint" {
                    colon_space(node)
                } else {
                    None
                };
                self.error(node, message, hint);
                Vec::new()
            }
        }
    }

    fn wrong_item(&mut self, item: &Node, what: &str) {
        let hint = match &item.value {
            Value::Map(_) => colon_space(item),
            Value::List(_) => Some("quote entries that begin with a bracket: \"[2001:db8::1]:443\"".into()),
            Value::Number | Value::Bool(_) => Some(format!("quote it if it is {}", article(what))),
            Value::Null | Value::Text(_) => None,
        };
        let found = if item.tagged {
            "a YAML tag"
        } else {
            item.value.kind()
        };
        self.error(item, format!("expected {}, found {found}", article(what)), hint);
    }

    /// A list of endpoints with everything there is to say about them.
    pub(super) fn endpoints(&mut self, node: &Node, role: Role) -> Vec<SourcedEndpoint> {
        let tokens = self.words(node, "endpoint");
        let mut read = Vec::with_capacity(tokens.len());
        for token in tokens {
            match parse_endpoint(&token.text, role) {
                Ok((endpoint, notices)) => {
                    for notice in notices {
                        self.notice(&token, notice, role);
                    }
                    let Token { text, line, column } = token;
                    read.push(SourcedEndpoint {
                        endpoint,
                        text,
                        line,
                        column,
                    });
                }
                Err(problem) => {
                    let place = within(&token, &problem.span);
                    let diagnostic = Diagnostic::error(place, problem.to_string());
                    self.sink.push(diagnostic.token(token.text).hint(problem.hint));
                }
            }
        }
        self.overlaps(&read);
        read
    }

    fn notice(&mut self, token: &Token, notice: Notice, role: Role) {
        // A denied endpoint that is wider than meant opens nothing.
        let strict = self.options.strict && role == Role::Allowed && notice.kind.refused_when_strict();
        let severity = if strict {
            Severity::Error
        } else {
            notice.kind.severity()
        };
        let place = within(token, &notice.span);
        let diagnostic = Diagnostic::new(severity, place, notice.kind.to_string());
        self.sink
            .push(diagnostic.token(token.text.clone()).hint(notice.hint));
    }

    fn overlaps(&mut self, list: &[SourcedEndpoint]) {
        let endpoints: Vec<_> = list.iter().map(|one| one.endpoint.clone()).collect();
        for (at, overlap) in overlaps(&endpoints) {
            if self.sink.is_full(Severity::Note) {
                self.sink.count(Severity::Note);
                continue;
            }
            let other = match overlap {
                Overlap::Repeats(other) | Overlap::CoveredBy(other) => list.get(other),
            };
            let (Some(one), Some(other)) = (list.get(at), other) else {
                continue;
            };
            let message = match overlap {
                Overlap::Repeats(_) => format!("the same endpoint stands on line {} already", other.line),
                Overlap::CoveredBy(_) => format!("covered by {} on line {}", quoted(&other.text), other.line),
            };
            self.sink
                .push(Diagnostic::note(of(one), message).token(one.text.clone()));
        }
    }

    /// `true` or `false`, quoted or not: a workflow's inputs are strings.
    pub(super) fn boolean(&mut self, node: &Node, key: &str) -> bool {
        match &node.value {
            Value::Bool(value) => *value,
            Value::Text(text) if text == "true" || text == "false" => text == "true",
            Value::Null | Value::Number | Value::Text(_) | Value::List(_) | Value::Map(_) => {
                let found = match &node.value {
                    Value::Text(text) => quoted(text),
                    Value::Null | Value::Bool(_) | Value::Number | Value::List(_) | Value::Map(_) => {
                        node.value.kind().to_owned()
                    }
                };
                self.error(node, format!("`{key}` is `true` or `false`, found {found}"), None);
                false
            }
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        node: &Node,
        key: &str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let names = || choices.iter().map(|(name, _)| *name);
        let (found, hint) = match &node.value {
            Value::Text(text) => {
                if let Some((_, value)) = choices.iter().find(|(name, _)| name == text) {
                    return Some(*value);
                }
                (
                    quoted(text),
                    keys::nearest(text, names()).map(|near| format!("did you mean `{near}`?")),
                )
            }
            Value::Null | Value::Bool(_) | Value::Number | Value::List(_) | Value::Map(_) => {
                (node.value.kind().to_owned(), None)
            }
        };
        let all: Vec<String> = names().map(|name| format!("`{name}`")).collect();
        self.error(
            node,
            format!("`{key}` is {}, found {found}", all.join(" or ")),
            hint,
        );
        None
    }
}

/// Where an endpoint stands.
pub(super) fn of(endpoint: &SourcedEndpoint) -> Place {
    Place {
        line: endpoint.line,
        column: endpoint.column,
        length: endpoint.text.chars().count() as u32,
    }
}

/// The characters of a token that a byte range of it covers.
fn within(token: &Token, span: &std::ops::Range<usize>) -> Place {
    let chars =
        |range: std::ops::Range<usize>| token.text.get(range).unwrap_or_default().chars().count() as u32;
    let before = chars(0..span.start);
    Place {
        line: token.line,
        column: token.column + before,
        length: chars(span.clone()).max(1),
    }
}

/// `example.com: 443` is a mapping to YAML.
fn colon_space(node: &Node) -> Option<String> {
    let Value::Map(entries) = &node.value else {
        return None;
    };
    match entries.as_slice() {
        [
            (
                Node {
                    value: Value::Text(host),
                    ..
                },
                Node {
                    value: Value::Number | Value::Text(_),
                    ..
                },
            ),
        ] => Some(format!("write `{host}:port` without a space after the colon")),
        _ => None,
    }
}

fn article(what: &str) -> String {
    if what.starts_with(['a', 'e', 'i', 'o', 'u']) {
        format!("an {what}")
    } else {
        format!("a {what}")
    }
}
