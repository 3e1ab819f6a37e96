//! Source lists of the global block list: plain lists, hosts files and response policy zones (RPZ).
//!
//! Every line that is not understood is a diagnostic; none is dropped in silence. Linear, one pass, made
//! for a million lines. Matching is [`crate::compile::block`]'s business.

mod hosts;
mod plain;
mod rpz;

use thiserror::Error;

use crate::compile::block::BlockEntry;

use super::diagnostic::{Diagnostic, Place, Severity, Sink};
use super::place::split_lines;

/// How a list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A name, `*.name`, address or range a line; `#` begins a comment.
    Plain,
    /// `0.0.0.0 name …`: the hosts file that sinks names.
    Hosts,
    /// A zone file whose owners are triggers (RPZ): names, `*.names`, `rpz-ip`.
    Rpz,
}

/// An entry and the line that it was written on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcedBlock {
    /// What is refused.
    pub entry: BlockEntry,
    /// Line in its file, from 1.
    pub line: u32,
}

/// Why a text is no entry of a block list: what is wrong and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct PatternError(pub String);

/// Reads one name, `*.name`, address or range as a plain list writes it, without a comment. Its `Display` is the
/// canonical spelling, which [`crate::compile::block::BlockHit`] names too.
pub fn parse_pattern(word: &str) -> Result<BlockEntry, PatternError> {
    plain::read_word(word)
        .map(|(entry, _)| entry)
        .map_err(PatternError)
}

/// A list as read. Entries are good even when other lines are not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockList {
    /// What is refused, in order, repetitions included.
    pub entries: Vec<SourcedBlock>,
    /// What was not understood (errors), and what was left out on purpose (notes).
    pub diagnostics: Vec<Diagnostic>,
}

impl Format {
    /// Tells the format by the first lines that are no comments.
    pub fn detect(text: &str) -> Self {
        const LOOK: usize = 50;
        let lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with(['#', ';']));
        for line in lines.take(LOOK) {
            let words: Vec<&str> = line.split_whitespace().take(5).collect();
            let zone = |word: &&str| {
                ["SOA", "CNAME", "NS", "IN"]
                    .iter()
                    .any(|kind| word.eq_ignore_ascii_case(kind))
            };
            if line.starts_with('$') || words.iter().skip(1).any(zone) {
                return Self::Rpz;
            }
            if hosts::is_hosts_line(&words) {
                return Self::Hosts;
            }
        }
        Self::Plain
    }
}

impl BlockList {
    /// Reads a list in the format that it looks like.
    pub fn parse(text: &str) -> Self {
        Self::parse_as(text, Format::detect(text))
    }

    /// Reads a list in one format.
    pub fn parse_as(text: &str, format: Format) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut lines = Lines::default();
        match format {
            Format::Plain => plain::read(text, &mut lines),
            Format::Hosts => hosts::read(text, &mut lines),
            Format::Rpz => rpz::read(text, &mut lines),
        }
        Self {
            entries: lines.entries,
            diagnostics: lines.sink.into_diagnostics(),
        }
    }
}

/// What the readers of the formats fill.
#[derive(Default)]
struct Lines {
    entries: Vec<SourcedBlock>,
    sink: Sink,
}

impl Lines {
    fn entry(&mut self, entry: BlockEntry, line: usize) {
        self.entries.push(SourcedBlock {
            entry,
            line: line as u32,
        });
    }

    /// Reports a word of a line; the word must be a part of the line.
    fn report(
        &mut self,
        severity: Severity,
        (line, text): (usize, &str),
        word: &str,
        message: impl Into<String>,
    ) {
        if self.sink.is_full(severity) {
            return self.sink.count(severity);
        }
        let before = (word.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
        let column = text
            .get(..before)
            .map_or(1, |head| head.chars().count() as u32 + 1);
        let place = Place {
            line: line as u32,
            column,
            length: word.chars().count() as u32,
        };
        self.sink
            .push(Diagnostic::new(severity, place, message).token(word));
    }

    fn error(&mut self, at: (usize, &str), word: &str, message: impl Into<String>) {
        self.report(Severity::Error, at, word, message);
    }
}

/// The lines of a text with their numbers, from 1.
fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    split_lines(text).enumerate().map(|(at, line)| (at + 1, line))
}

#[cfg(test)]
mod tests;
