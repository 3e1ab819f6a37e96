//! Changes of documents as the API proposes them.

use serde::Deserialize;

use crate::diff::Diff;
use crate::error::Diagnostic;
use crate::text::Text;

/// A text after a change that was asked for.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Proposal {
    pub(crate) yaml: String,
    pub(crate) changed: bool,
    pub(crate) base_version: u32,
    /// Of the stored version; none when nothing is stored.
    pub(crate) etag: Option<String>,
    pub(crate) diff: Diff,
    pub(crate) diagnostics: Vec<Diagnostic>,
    pub(crate) covered: Vec<Covered>,
}

/// An endpoint that was allowed already.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Covered {
    pub(crate) endpoint: Text,
    pub(crate) by: Text,
    pub(crate) line: u32,
    pub(crate) set: Option<Text>,
}

impl Covered {
    pub(crate) fn said(&self) -> String {
        match &self.set {
            Some(set) => format!(
                "{} is allowed already by {} of the endpoint set {set}.",
                self.endpoint, self.by
            ),
            None => format!(
                "{} is allowed already by {} on line {}.",
                self.endpoint, self.by, self.line
            ),
        }
    }
}
