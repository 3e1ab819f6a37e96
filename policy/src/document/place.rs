//! From a scalar back to the characters of the document that it was written with.
//!
//! Folding, indentation and quoting only change white space and escapes, so a scalar's other characters
//! stand in the document in the same order. Walking both in step gives every character its place, whatever
//! the style; the parser says where the scalar begins.

use std::cell::Cell;
use std::str::Chars;

use super::diagnostic::Place;
use super::node::{Node, Value};
use crate::endpoint::list::Placed;

/// A document's text, by lines.
pub(super) struct Source<'a> {
    text: &'a str,
    lines: Vec<&'a str>,
    /// Last place sought: line, column, byte offset. Nodes are asked for in order, and a list of a
    /// hundred thousand entries may stand on one line.
    sought: Cell<(u32, u32, usize)>,
}

impl<'a> Source<'a> {
    /// Splits at the line breaks that the parser knows; a byte order mark is not part of the first line.
    pub(super) fn new(text: &'a str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self {
            text,
            lines: split_lines(text).collect(),
            sought: Cell::new((0, 0, 0)),
        }
    }

    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    /// A line without its break; empty outside of the document.
    pub(super) fn line(&self, line: u32) -> &'a str {
        (line as usize)
            .checked_sub(1)
            .and_then(|at| self.lines.get(at))
            .copied()
            .unwrap_or_default()
    }

    /// The nearest place inside of the document (a column may stand right behind its line).
    pub(super) fn clamp(&self, line: u32, column: u32) -> Place {
        let line = line.clamp(1, self.lines.len().max(1) as u32);
        let width = self.line(line).chars().count() as u32;
        Place {
            line,
            column: column.clamp(1, width + 1),
            length: 1,
        }
    }

    /// The line of the mark that ends the first document.
    pub(super) fn second_document(&self) -> Option<u32> {
        let content = self.lines.iter().position(|line| {
            !line.starts_with("---") && !line.trim().is_empty() && !line.starts_with(['#', '%'])
        })?;
        let mark = self
            .lines
            .iter()
            .skip(content)
            .position(|line| line.starts_with("---"))?;
        Some((content + mark + 1) as u32)
    }

    /// The characters from a place up to white space or a closing bracket.
    pub(super) fn word(&self, line: u32, column: u32) -> (Place, String) {
        let place = self.clamp(line, column);
        let rest = self.rest(place.line, place.column);
        let word: String = rest
            .chars()
            .take_while(|c| !c.is_whitespace() && !matches!(c, ',' | ']' | '}'))
            .collect();
        let word = word
            .strip_suffix(':')
            .filter(|word| !word.is_empty())
            .map_or(word.clone(), str::to_owned);
        (
            Place {
                length: word.chars().count().max(1) as u32,
                ..place
            },
            word,
        )
    }

    /// The places of a text node's characters, in order. Should the walk lose step, all stand where the
    /// node begins.
    pub(super) fn characters(&self, node: &Node) -> Vec<Placed> {
        let Value::Text(text) = &node.value else {
            return Vec::new();
        };
        self.walk(node, text).unwrap_or_else(|| {
            let at = self.clamp(node.line, node.column);
            text.chars()
                .map(|char| Placed {
                    char,
                    line: at.line,
                    column: at.column,
                })
                .collect()
        })
    }

    fn walk(&self, node: &Node, text: &str) -> Option<Vec<Placed>> {
        let mut cursor = Cursor {
            source: self,
            line: node.line,
            column: node.column,
            rest: self.rest(node.line, node.column).chars(),
        };
        let style = cursor.enter()?;
        let mut last = (cursor.line, cursor.column);
        let mut placed = Vec::with_capacity(text.len());
        for char in text.chars() {
            if !char.is_whitespace() {
                last = cursor.find(char, style)?;
            }
            placed.push(Placed {
                char,
                line: last.0,
                column: last.1,
            });
        }
        Some(placed)
    }

    /// The rest of a line from a column on.
    fn rest(&self, line: u32, column: u32) -> &'a str {
        let text = self.line(line);
        let (last_line, last_column, last_byte) = self.sought.get();
        let (from_column, from_byte) = if last_line == line && last_column <= column {
            (last_column, last_byte)
        } else {
            (1, 0)
        };
        let tail = text.get(from_byte..).unwrap_or_default();
        let skip = column.saturating_sub(from_column) as usize;
        let byte = from_byte + tail.char_indices().nth(skip).map_or(tail.len(), |(at, _)| at);
        self.sought.set((line, column, byte));
        text.get(byte..).unwrap_or_default()
    }
}

/// How a scalar is written, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    /// Plain, literal or folded: the characters are what they are.
    Verbatim,
    Single,
    Double,
}

/// A place in the document that moves forward only.
struct Cursor<'s, 'a> {
    source: &'s Source<'a>,
    line: u32,
    column: u32,
    rest: Chars<'a>,
}

impl Cursor<'_, '_> {
    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    /// Takes a character; at the end of a line goes to the next one and gives a newline.
    fn bump(&mut self) -> Option<char> {
        if let Some(char) = self.rest.next() {
            self.column += 1;
            return Some(char);
        }
        if self.line as usize >= self.source.lines.len() {
            return None;
        }
        (self.line, self.column) = (self.line + 1, 1);
        self.rest = self.source.line(self.line).chars();
        Some('\n')
    }

    fn skip_line(&mut self) {
        self.column += self.rest.by_ref().count() as u32;
    }

    /// Goes past anchor, tag and the sign that opens the scalar.
    fn enter(&mut self) -> Option<Style> {
        while let Some('&' | '!') = self.peek() {
            while self.peek().is_some_and(|c| !c.is_whitespace()) {
                self.bump();
            }
            while self.peek().is_none_or(char::is_whitespace) {
                self.bump()?;
            }
        }
        Some(match self.peek() {
            Some('|' | '>') => {
                self.skip_line();
                Style::Verbatim
            }
            Some('\'') => {
                self.bump();
                Style::Single
            }
            Some('"') => {
                self.bump();
                Style::Double
            }
            Some(_) | None => Style::Verbatim,
        })
    }

    /// Goes past the next occurrence of `wanted`, which must be the next character that is not white
    /// space, and tells where it stands.
    fn find(&mut self, wanted: char, style: Style) -> Option<(u32, u32)> {
        loop {
            let at = (self.line, self.column);
            let char = self.bump()?;
            if char.is_whitespace() {
                continue;
            }
            let meant = match (style, char) {
                (Style::Double, '\\') => self.escaped()?,
                (Style::Single, '\'') => self.bump()?,
                (Style::Verbatim | Style::Single | Style::Double, _) => char,
            };
            if meant == wanted {
                return Some(at);
            }
            // An escaped blank or line break; the value has white space there, or nothing.
            if !meant.is_whitespace() {
                return None;
            }
        }
    }

    /// What an escape in double quotes stands for (YAML 1.1 §5.6).
    fn escaped(&mut self) -> Option<char> {
        let digits = match self.bump()? {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            '0' => return Some('\0'),
            'a' => return Some('\u{7}'),
            'b' => return Some('\u{8}'),
            'e' => return Some('\u{1b}'),
            't' | 'n' | 'v' | 'f' | 'r' | '\n' | ' ' | '\t' | 'N' | '_' | 'L' | 'P' => return Some(' '),
            same => return Some(same),
        };
        let mut code = 0;
        for _ in 0..digits {
            code = code * 16 + self.bump()?.to_digit(16)?;
        }
        char::from_u32(code)
    }
}

/// Splits at `\n`, `\r\n`, `\r`, NEL, LS and PS, as YAML 1.1 does. A text has at least one line.
pub(super) fn split_lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.find(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']) else {
            rest = None;
            return Some(text);
        };
        let (line, tail) = text.split_at(end);
        rest = tail.strip_prefix("\r\n").or_else(|| {
            let mut tail = tail.chars();
            tail.next();
            Some(tail.as_str())
        });
        Some(line)
    })
}
