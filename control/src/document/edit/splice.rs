//! Text with lines, and small changes of it by byte ranges.

use std::ops::Range;

/// Replaces a range of bytes; an insertion has an empty one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) range: Range<usize>,
    pub(super) with: String,
}

/// The text after changes that do not overlap; `None` when they do, or are not on character boundaries.
pub(super) fn applied(text: &str, mut changes: Vec<Change>) -> Option<String> {
    changes.sort_by_key(|change| change.range.start);
    let (mut out, mut at) = (String::with_capacity(text.len() + 64), 0);
    for change in &changes {
        out.push_str(text.get(at..change.range.start)?);
        out.push_str(&change.with);
        at = change.range.end;
    }
    out.push_str(text.get(at..)?);
    Some(out)
}

/// A document's text by lines, counted from 1 as the reader counts them. Line breaks that only YAML 1.1 knows are not
/// told apart; places behind them are wrong then, and what is made of them is refused when it is read again.
pub(super) struct Text<'a> {
    whole: &'a str,
    lines: Vec<Range<usize>>,
    /// How its lines end.
    pub(super) end: &'static str,
}

impl<'a> Text<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        // A byte order mark is no part of the first line.
        let mut start = if text.starts_with('\u{feff}') {
            '\u{feff}'.len_utf8()
        } else {
            0
        };
        let mut lines = Vec::new();
        while let Some(length) = text.get(start..).and_then(|rest| rest.find('\n')) {
            let end = start + length;
            let content = text.get(start..end).unwrap_or_default();
            lines.push(start..end - usize::from(content.ends_with('\r')));
            start = end + 1;
        }
        lines.push(start..text.len());
        let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
        Self {
            whole: text,
            lines,
            end,
        }
    }

    /// The bytes from a place on.
    pub(super) fn from(&self, at: usize) -> &'a str {
        self.whole.get(at..).unwrap_or_default()
    }

    /// The bytes before a place.
    pub(super) fn before(&self, at: usize) -> &'a str {
        self.whole.get(..at).unwrap_or_default()
    }

    /// A line without its end; empty outside of the document.
    pub(super) fn line(&self, line: u32) -> &'a str {
        self.range(line)
            .and_then(|range| self.whole.get(range))
            .unwrap_or_default()
    }

    pub(super) fn range(&self, line: u32) -> Option<Range<usize>> {
        (line as usize)
            .checked_sub(1)
            .and_then(|at| self.lines.get(at))
            .cloned()
    }

    /// Where a character stands, in bytes.
    pub(super) fn offset(&self, line: u32, column: u32) -> Option<usize> {
        let range = self.range(line)?;
        let content = self.whole.get(range.clone())?;
        let skip = (column as usize).checked_sub(1)?;
        let mut places = content.char_indices().map(|(at, _)| at).chain([content.len()]);
        places.nth(skip).map(|at| range.start + at)
    }

    /// Puts whole lines behind one.
    pub(super) fn insert_after(&self, line: u32, lines: &[String]) -> Option<Change> {
        let range = self.range(line)?;
        let at = range.end;
        let mut with = String::new();
        for line in lines {
            with.push_str(self.end);
            with.push_str(line);
        }
        Some(Change { range: at..at, with })
    }

    /// Puts whole lines before one.
    pub(super) fn insert_before(&self, line: u32, lines: &[String]) -> Option<Change> {
        let at = self.range(line)?.start;
        let mut with = String::new();
        for line in lines {
            with.push_str(line);
            with.push_str(self.end);
        }
        Some(Change { range: at..at, with })
    }

    /// Puts whole lines at the end of the document.
    pub(super) fn append(&self, lines: &[String]) -> Change {
        let mut with = String::new();
        if !self.whole.is_empty() && !self.whole.ends_with('\n') {
            with.push_str(self.end);
        }
        for line in lines {
            with.push_str(line);
            with.push_str(self.end);
        }
        let at = self.whole.len();
        Change { range: at..at, with }
    }

    /// Takes whole lines away, with the end of the last one, or with that of the line before when there is none.
    pub(super) fn without_lines(&self, first: u32, last: u32) -> Option<Change> {
        let (first, last) = (self.range(first)?, self.range(last)?);
        let next = self
            .lines
            .iter()
            .find(|line| line.start > last.end)
            .map(|line| line.start);
        let range = if let Some(next) = next {
            first.start..next
        } else {
            let before = self.before(first.start);
            let kept = before.strip_suffix('\n');
            let kept = kept.map_or(before, |kept| kept.strip_suffix('\r').unwrap_or(kept));
            kept.len()..last.end
        };
        Some(Change {
            range,
            with: String::new(),
        })
    }
}

/// The white space that a line begins with.
pub(super) fn indent(line: &str) -> &str {
    let length = line.len() - line.trim_start_matches([' ', '\t']).len();
    line.get(..length).unwrap_or_default()
}
