//! What was ticked, unticked, searched and pasted on the page of attaching.
//!
//! Owns how it comes back after a refusal, so that nobody does it twice. It decides nothing.

use super::{Asked, Seen, Wanted};
use crate::form::Fields;
use crate::text::Text;

/// What was chosen, to be shown again as it was.
#[derive(Clone, Debug, Default)]
pub(super) struct Chosen {
    pub(super) asked: Asked,
    /// Ticked to attach.
    pub(super) add: Vec<String>,
    /// Unticked to detach.
    pub(super) left: Vec<String>,
    /// Every scope that is like the pattern.
    pub(super) matching: bool,
    pub(super) pasted: String,
}

impl Chosen {
    pub(super) fn of(fields: &Fields) -> Self {
        let get = |name: &str| fields.get(name).to_owned();
        Self {
            asked: Asked {
                search: get("search"),
                kind: get("kind"),
                pattern: get("pattern"),
            },
            add: list(fields, "add"),
            left: unticked(fields),
            matching: fields.has("matching"),
            pasted: fields.document("paste"),
        }
    }

    /// What a confirmation carries.
    pub(super) fn confirmed(wanted: &Wanted) -> Self {
        Self {
            add: wanted.add.clone(),
            left: wanted.remove.clone(),
            ..Self::default()
        }
    }

    /// Ticked scopes that the table does not show go to those that were pasted.
    pub(super) fn keep_all(&mut self, offered: &[Seen], held: &[Text]) {
        let shown = |scope: &String| {
            offered.iter().any(|one| one.scope.raw() == scope) || held.iter().any(|one| one.raw() == scope)
        };
        for scope in self.add.iter().filter(|scope| !shown(scope)) {
            if !self.pasted.is_empty() && !self.pasted.ends_with('\n') {
                self.pasted.push('\n');
            }
            self.pasted.push_str(scope);
        }
    }
}

/// Every value of a field.
pub(super) fn list(fields: &Fields, name: &str) -> Vec<String> {
    fields.all(name).map(str::to_owned).collect()
}

/// Scopes that the policy held and that are not ticked any more.
pub(super) fn unticked(fields: &Fields) -> Vec<String> {
    let keep: Vec<&str> = fields.all("keep").collect();
    let gone = |scope: &&str| !keep.contains(scope);
    fields.all("was").filter(gone).map(str::to_owned).collect()
}
