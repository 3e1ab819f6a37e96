//! One file and its last good reading: what is refused is reported, what was good stays.

use std::path::{Path, PathBuf};

use serde::Serialize;
use tidegate_policy::document::diagnostic::{Diagnostic, Severity};
use tidegate_policy::document::render::{Style, render_all};
use tidegate_policy::document::{EndpointSet, ParseOptions};

/// A file that policies come from, as `status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// The file.
    pub file: PathBuf,
    /// Version in force, from 1; 0 when none ever was good.
    pub version: u32,
    /// Why the newest text is not in force.
    pub problem: Option<String>,
}

/// The last good reading of one file.
pub(super) struct Kept<T> {
    pub(super) text: Option<String>,
    pub(super) good: Option<T>,
    pub(super) version: u32,
    pub(super) problem: Option<String>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self {
            text: None,
            good: None,
            version: 0,
            problem: None,
        }
    }
}

impl<T> Kept<T> {
    /// Reads the file again; parses only a text that changed.
    pub(super) fn refresh(&mut self, path: &Path, limit: u64, parse: impl FnOnce(&str) -> Result<T, String>) {
        let text = match read(path, limit) {
            Ok(text) => text,
            Err(problem) => return self.refuse(path, problem),
        };
        if self.text.as_ref() == Some(&text) {
            return;
        }
        match parse(&text) {
            Ok(good) => {
                self.good = Some(good);
                self.version += 1;
                self.problem = None;
                tracing::info!(file = %path.display(), version = self.version, "read");
            }
            Err(problem) => self.refuse(path, problem),
        }
        self.text = Some(text);
    }

    pub(super) fn refuse(&mut self, path: &Path, problem: String) {
        if self.problem.as_ref() != Some(&problem) {
            let kept = if self.version > 0 {
                "its last good version stays"
            } else {
                "what needs it is refused"
            };
            tracing::error!(file = %path.display(), "refused, {kept}:\n{problem}");
        }
        self.problem = Some(problem);
        self.text = None;
    }
}

pub(super) fn read(path: &Path, limit: u64) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("can't read {}: {error}", path.display());
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > limit {
        return Err(format!(
            "{} has {size} bytes; the limit is {limit}",
            path.display()
        ));
    }
    std::fs::read_to_string(path).map_err(failed)
}

/// The rendered errors of a document, or nothing when there is none.
pub(super) fn errors_of(diagnostics: &[Diagnostic], text: &str, path: &Path) -> Option<String> {
    let errors: Vec<Diagnostic> = diagnostics
        .iter()
        .filter(|one| one.severity == Severity::Error)
        .cloned()
        .collect();
    let file = path.display().to_string();
    (!errors.is_empty()).then(|| {
        render_all(
            &errors,
            text,
            Style {
                file: &file,
                colour: false,
            },
        )
    })
}

pub(super) fn endpoint_set(text: &str, path: &Path) -> Result<EndpointSet, String> {
    let parsed = EndpointSet::parse(text, &ParseOptions::default());
    parsed.document.ok_or_else(|| {
        errors_of(&parsed.diagnostics, text, path).unwrap_or_else(|| "not an endpoint set".into())
    })
}

pub(super) fn report<T>(path: &Path, kept: &Kept<T>) -> FileReport {
    FileReport {
        file: path.to_owned(),
        version: kept.version,
        problem: kept.problem.clone(),
    }
}

/// What `status` says of a block list of which some lines were not understood; the rest is in force.
pub(super) fn lines_left_out(diagnostics: &[Diagnostic]) -> Option<String> {
    let errors = || diagnostics.iter().filter(|one| one.severity == Severity::Error);
    let first = errors().next()?;
    let (count, line) = (errors().count(), first.line);
    Some(format!(
        "{count} lines are not understood and left out, the first is line {line}: {}",
        first.message
    ))
}
