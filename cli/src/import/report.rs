//! What an import did: policies that were written, and everything that was not kept.
//!
//! Pure. This is `report.json` and the answer of `--json`; [`super::markdown`] shows it to people.

use std::collections::BTreeSet;

use serde::Serialize;

use super::item::{Item, Items, Level};
use super::policy::Policy;

/// Items of one report at most; the rest is counted.
const MOST: usize = 20_000;

/// The report.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// How many repositories were looked at.
    pub(super) repositories: usize,
    /// How many workflow files.
    pub(super) workflows: usize,
    pub(super) policies: Vec<Policy>,
    /// What there is to tell, in the order of files and lines.
    pub(super) items: Vec<Item>,
    /// How many items there are besides.
    pub(super) left_out: usize,
    /// Workflow files without a Harden-Runner step: no policy comes of them.
    pub(super) without: Vec<String>,
}

impl Report {
    /// A report that begins with what was found on the way to the files.
    pub(super) fn new(items: Vec<Item>) -> Self {
        Self {
            items,
            ..Self::default()
        }
    }

    /// Takes what there is to tell of one file.
    pub(super) fn take(&mut self, mut items: Items) {
        items.kept.sort_by_key(|item| item.line);
        let room = MOST.saturating_sub(self.items.len());
        let over = items.kept.len().saturating_sub(room);
        self.left_out += items.more + over;
        self.items.extend(items.kept.into_iter().take(room));
    }

    /// How many items are of a level.
    pub(super) fn count(&self, level: Level) -> usize {
        self.items.iter().filter(|item| item.level == level).count()
    }

    /// Everybody who has a policy.
    pub(super) fn owners(&self) -> BTreeSet<&str> {
        self.policies.iter().map(|policy| policy.owner.as_str()).collect()
    }

    /// One sentence.
    pub(super) fn summary(&self) -> String {
        format!(
            "{}, {}: {}; {} not kept, {} changed, {}",
            counted(self.repositories, "repository", "repositories"),
            counted(self.workflows, "workflow file", "workflow files"),
            counted(self.policies.len(), "policy", "policies"),
            self.count(Level::Lost),
            self.count(Level::Changed),
            counted(self.count(Level::Note), "note", "notes"),
        )
    }
}

/// How things are counted.
pub(super) fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
