//! The lines of a message head, gathered from a growing buffer. Owns line ends, folding and the bounds on
//! octets and lines; never looks into a line but for what can't stand in any. Driven by the request, response
//! and trailer readers.

use std::ops::Range;

use super::{Flaw, MAX_FIELDS, MAX_HEAD, MAX_START_LINE, bad};

/// What to do with a line that continues the one before (obs-fold, RFC 9112 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Folding {
    /// Refuse: no client folds, attackers do.
    Refuse,
    /// Join by a space, as RFC 9112 §5.2 lets a gateway do with a response.
    Join,
}

/// The lines of one head: their bytes without line ends, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Lines {
    /// All bytes; spans into them stay valid.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many lines there are.
    pub(crate) fn count(&self) -> usize {
        self.ends.len()
    }

    /// Where a line lies in [`Self::bytes`].
    pub(crate) fn range(&self, index: usize) -> Range<usize> {
        let end_of = |at: usize| self.ends.get(at).copied().unwrap_or(self.bytes.len());
        let start = index.checked_sub(1).map_or(0, end_of);
        start..end_of(index)
    }

    /// The bytes of a line; empty past the last.
    pub(crate) fn line(&self, index: usize) -> &[u8] {
        self.bytes.get(self.range(index)).unwrap_or_default()
    }

    fn push(&mut self, line: &[u8]) {
        self.bytes.extend_from_slice(line);
        self.ends.push(self.bytes.len());
    }

    fn join(&mut self, line: &[u8]) {
        self.bytes.push(b' ');
        self.bytes.extend_from_slice(line.trim_ascii());
        if let Some(end) = self.ends.last_mut() {
            *end = self.bytes.len();
        }
    }
}

/// What a look at the buffer led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gathered {
    /// No blank line yet.
    NeedMore,
    /// The head's lines are complete; so many octets of the buffer were the head.
    Complete(usize),
    /// The head is refused; [`LineReader::lines`] holds the lines before.
    Refused(Flaw),
}

/// Gathers lines; looks at each octet once.
#[derive(Debug)]
pub(crate) struct LineReader {
    lines: Lines,
    folding: Folding,
    /// Whether a start line comes first (not so in trailers).
    start_line: bool,
    /// Start of the present line.
    line_at: usize,
    /// Where the look stopped.
    scanned: usize,
}

impl LineReader {
    /// A reader of a head that begins with a start line.
    pub(crate) fn for_head(folding: Folding) -> Self {
        Self {
            lines: Lines::default(),
            folding,
            start_line: true,
            line_at: 0,
            scanned: 0,
        }
    }

    /// A reader of field lines alone: a trailer section.
    pub(crate) fn for_trailers() -> Self {
        Self {
            start_line: false,
            ..Self::for_head(Folding::Refuse)
        }
    }

    /// The lines gathered so far.
    pub(crate) fn lines(&self) -> &Lines {
        &self.lines
    }

    /// The lines, when gathering is over.
    pub(crate) fn take(&mut self) -> Lines {
        std::mem::take(&mut self.lines)
    }

    /// Looks at the whole buffer so far; it holds at least what it held before.
    pub(crate) fn advance(&mut self, buffer: &[u8]) -> Gathered {
        loop {
            let fresh = buffer.get(self.scanned..).unwrap_or_default();
            let Some(length) = fresh.iter().position(|byte| *byte == b'\n') else {
                self.scanned = buffer.len();
                return match self.bounds(buffer.len()) {
                    Ok(()) => Gathered::NeedMore,
                    Err(flaw) => Gathered::Refused(flaw),
                };
            };
            let end = self.scanned + length;
            let line = buffer.get(self.line_at..end).unwrap_or_default();
            // RFC 9112 §2.2 lets a recipient take a single LF; what is forwarded ends in CRLF.
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let (complete, outcome) = (line.is_empty() && !self.expects_start(), self.add(line));
            self.scanned = end + 1;
            self.line_at = self.scanned;
            if let Err(flaw) = outcome.and_then(|()| self.bounds(self.scanned)) {
                return Gathered::Refused(flaw);
            }
            if complete {
                return Gathered::Complete(self.scanned);
            }
        }
    }

    fn expects_start(&self) -> bool {
        self.start_line && self.lines.count() == 0
    }

    fn add(&mut self, line: &[u8]) -> Result<(), Flaw> {
        if line.is_empty() {
            // Before the start line: RFC 9112 §2.2 wants blank lines ignored there.
            return Ok(());
        }
        if line.iter().any(|byte| matches!(byte, b'\r' | 0)) {
            return Err(bad("a bare CR or a NUL in the head"));
        }
        if matches!(line.first(), Some(b' ' | b'\t')) {
            let after_field = self.lines.count() > usize::from(self.start_line);
            return match self.folding {
                Folding::Join if after_field => {
                    self.lines.join(line);
                    Ok(())
                }
                Folding::Join | Folding::Refuse => Err(bad("a line that begins with a blank")),
            };
        }
        self.lines.push(line);
        Ok(())
    }

    fn bounds(&self, used: usize) -> Result<(), Flaw> {
        let start_line = if self.expects_start() {
            used
        } else {
            self.lines.line(0).len()
        };
        if self.start_line && start_line > MAX_START_LINE {
            return Err(Flaw(414, "a start line over 16 KiB"));
        }
        if used > MAX_HEAD {
            return Err(Flaw(431, "a head over 64 KiB"));
        }
        if self.lines.count() > MAX_FIELDS + usize::from(self.start_line) {
            return Err(Flaw(431, "more than 256 header fields"));
        }
        Ok(())
    }
}
