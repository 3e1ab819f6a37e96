//! Differences between two texts, as the API tells them: shown by `templates/policies/diff.html`.

use serde::Deserialize;

use crate::text::Text;

/// A difference, for two columns.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Diff {
    pub(crate) side_by_side: Vec<Row>,
    pub(crate) added: u32,
    pub(crate) removed: u32,
    pub(crate) truncated: bool,
}

/// A row of two columns.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Row {
    kind: String,
    pub(crate) old: Option<Line>,
    pub(crate) new: Option<Line>,
}

/// A line of one side.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Line {
    pub(crate) number: u32,
    pub(crate) text: Text,
}

impl Row {
    pub(crate) fn is_gap(&self) -> bool {
        self.kind == "gap"
    }

    pub(crate) fn is_same(&self) -> bool {
        self.kind == "same"
    }
}
