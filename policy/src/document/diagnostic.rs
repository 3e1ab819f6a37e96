//! Diagnostics: what is wrong with a document, where exactly, and how to mend it.

use serde::Serialize;

pub use crate::endpoint::problem::Severity;

/// Diagnostics of one severity that are kept for one document; the rest is counted in one last line.
pub const MAX_DIAGNOSTICS: usize = 500;

/// One remark about a document. Lines and columns count from 1, in characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How loud.
    pub severity: Severity,
    /// Line.
    pub line: u32,
    /// Column of the first character that it is about.
    pub column: u32,
    /// How many characters it is about, at least 1, all on `line`.
    pub length: u32,
    /// What is wrong and what was expected.
    pub message: String,
    /// How to mend it, when that can be told.
    pub hint: Option<String>,
    /// The token that it is about, as written; may be longer than `length`.
    pub token: String,
}

/// Characters of a document that a diagnostic is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) length: u32,
}

impl Diagnostic {
    pub(crate) fn new(severity: Severity, place: Place, message: impl Into<String>) -> Self {
        Self {
            severity,
            line: place.line,
            column: place.column,
            length: place.length.max(1),
            message: message.into(),
            hint: None,
            token: String::new(),
        }
    }

    pub(crate) fn error(place: Place, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, place, message)
    }

    pub(crate) fn note(place: Place, message: impl Into<String>) -> Self {
        Self::new(Severity::Note, place, message)
    }

    pub(crate) fn warning(place: Place, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, place, message)
    }

    pub(crate) fn token(mut self, token: impl Into<String>) -> Self {
        self.token = token.into();
        self
    }

    pub(crate) fn hint(mut self, hint: Option<impl Into<String>>) -> Self {
        self.hint = hint.map(Into::into);
        self
    }
}

/// The outcome of reading a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed<T> {
    /// The document; absent when any diagnostic is an error.
    pub document: Option<T>,
    /// Everything there is to say, in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
}

impl<T> Parsed<T> {
    /// How many diagnostics have this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.diagnostics
            .iter()
            .filter(|one| one.severity == severity)
            .count()
    }

    /// The diagnostics that refuse the document.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics
            .iter()
            .filter(|one| one.severity == Severity::Error)
    }
}

/// Collects diagnostics, up to [`MAX_DIAGNOSTICS`] of each severity: a thousand notes must not hide an
/// error.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    kept: Vec<Diagnostic>,
    seen: [usize; 3],
}

impl Sink {
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        let severity = diagnostic.severity;
        if !self.is_full(severity) {
            self.kept.push(diagnostic);
        }
        self.count(severity);
    }

    /// True when further diagnostics of a severity are only counted, so that nobody needs to make them.
    pub(crate) fn is_full(&self, severity: Severity) -> bool {
        self.seen[severity as usize] >= MAX_DIAGNOSTICS
    }

    /// Counts a diagnostic that nobody made because the sink is full.
    pub(crate) fn count(&mut self, severity: Severity) {
        self.seen[severity as usize] += 1;
    }

    /// True after an error.
    pub(crate) fn failed(&self) -> bool {
        self.seen[Severity::Error as usize] > 0
    }

    /// Sorts by place, tells how many were not kept, and withholds the document after an error.
    pub(crate) fn finish<T>(self, document: T) -> Parsed<T> {
        Parsed {
            document: (!self.failed()).then_some(document),
            diagnostics: self.into_diagnostics(),
        }
    }

    /// The diagnostics alone.
    pub(crate) fn into_diagnostics(mut self) -> Vec<Diagnostic> {
        self.kept
            .sort_by_key(|one| (one.line, one.column, std::cmp::Reverse(one.severity)));
        let (line, column) = self.kept.last().map_or((1, 1), |one| (one.line, one.column));
        for severity in [Severity::Error, Severity::Warning, Severity::Note] {
            let more = self.seen[severity as usize].saturating_sub(MAX_DIAGNOSTICS);
            if more > 0 {
                let place = Place {
                    line,
                    column,
                    length: 1,
                };
                let message = format!("… and {more} more {}s", severity.as_str());
                self.kept.push(Diagnostic::new(severity, place, message));
            }
        }
        self.kept
    }
}
