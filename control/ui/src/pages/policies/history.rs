//! What happened to a policy, a deleted one too: a timeline with differences and scopes.
//!
//! Owns what entries say. What is done with a version is [`super::versions`]'s.

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query};
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;
use serde_json::Value;

use super::parts::Diff;
use super::{Named, Policy, list_of};
use crate::Ui;
use crate::client::Api;
use crate::error::{Failure, Problem};
use crate::page::{Area, Page, show};
use crate::session::Session;
use crate::text::Text;
use crate::time::When;

/// Entries on one page, and rows of the difference of each: the whole of it may have half a megabyte.
const PAGE: &str = "10";
const ROWS: usize = 24;

pub(super) fn routes() -> Router<Ui> {
    Router::new().route("/ui/orgs/{owner}/policies/{name}/history", get(history))
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    /// Of a deleted policy.
    id: String,
    after: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Actor {
    subject: Text,
    via: Text,
}

#[derive(Debug, Deserialize)]
struct Entry {
    at: When,
    actor: Actor,
    action: String,
    #[serde(default)]
    detail: Value,
}

#[derive(Debug, Deserialize)]
struct Entries {
    items: Vec<Entry>,
    #[serde(default)]
    next: Option<String>,
}

/// A scope that came or went.
#[derive(Debug, PartialEq, Eq)]
struct ScopeChange {
    is_added: bool,
    scope: Text,
    /// From or to which policy.
    other: Option<Text>,
}

/// An entry as it is drawn.
struct Event {
    at: When,
    actor: Actor,
    icon: &'static str,
    /// The colour of the icon.
    kind: &'static str,
    title: String,
    version: Option<u32>,
    scopes: Vec<ScopeChange>,
    diff: Option<Diff>,
    /// Where its version is read, compared with the one before, gone back to, edited from, and made a policy again.
    text: String,
    compare: String,
    rollback: String,
    edit: String,
    again: String,
}

impl Event {
    fn of(entry: Entry) -> Self {
        let detail = &entry.detail;
        let number = |name: &str| detail.get(name).and_then(Value::as_u64);
        let (icon, kind, title) = match entry.action.as_str() {
            "policy.created" => ("+", "good", "Created".to_owned()),
            "policy.updated" => {
                let to = number("to").unwrap_or_default();
                match number("rollback_to") {
                    Some(old) => (
                        "↺",
                        "info",
                        format!("Rolled back to version {old}, as version {to}"),
                    ),
                    None => ("✎", "info", format!("Changed, to version {to}")),
                }
            }
            "policy.attached" => ("→", "good", "Attached".to_owned()),
            "policy.detached" => ("←", "bad", "Detached".to_owned()),
            "policy.moved" => ("⇄", "info", "Moved".to_owned()),
            "policy.deleted" => ("×", "bad", "Deleted".to_owned()),
            other => ("•", "info", Text::from(other).to_string()),
        };
        let version = match entry.action.as_str() {
            "policy.created" => Some(1),
            "policy.updated" => number("to").and_then(|to| u32::try_from(to).ok()),
            _ => None,
        };
        Self {
            scopes: scopes(&entry.action, detail),
            diff: detail.get("diff").and_then(|diff| Diff::deserialize(diff).ok()),
            at: entry.at,
            actor: entry.actor,
            icon,
            kind,
            title,
            version,
            text: String::new(),
            compare: String::new(),
            rollback: String::new(),
            edit: String::new(),
            again: String::new(),
        }
    }

    /// Fills in where it leads; `id` is that of a deleted policy.
    fn lead(&mut self, named: &Named, id: &str) {
        let version = self
            .version
            .map(|version| version.to_string())
            .unwrap_or_default();
        self.text = named.page(&["versions", &version], &[("id", id)]);
        self.compare = named.page(&["diff"], &[("id", id), ("to", &version)]);
        self.rollback = named.page(&["rollback"], &[("to", &version)]);
        self.edit = named.page(&["edit"], &[("version", &version)]);
        self.again = named.page(&["again"], &[("id", id), ("version", &version)]);
        if let Some(diff) = &mut self.diff {
            diff.truncated |= diff.side_by_side.len() > ROWS;
            diff.side_by_side.truncate(ROWS);
        }
    }
}

/// Scopes that an entry tells of.
fn scopes(action: &str, detail: &Value) -> Vec<ScopeChange> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(Text::from);
    let other = |name: &str| text(detail.get(name).and_then(|one| one.get("name")));
    let one = |is_added, other| {
        let scope = text(detail.get("scope")).map(|scope| ScopeChange {
            is_added,
            scope,
            other,
        });
        scope.into_iter().collect()
    };
    let many = |name: &str, is_added| {
        let all = detail
            .get(name)
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let scopes: Vec<ScopeChange> = all
            .iter()
            .filter_map(|scope| text(Some(scope)))
            .map(|scope| ScopeChange {
                is_added,
                scope,
                other: None,
            })
            .collect();
        scopes
    };
    match action {
        "policy.attached" => one(true, other("from")),
        "policy.detached" => one(false, other("to")),
        "policy.moved" => many("from", false).into_iter().chain(many("to", true)).collect(),
        _ => Vec::new(),
    }
}

/// One entry for what one person did at once: the entries of a transaction have one time. Moving is told by itself.
fn timeline(entries: Vec<Entry>) -> Vec<Event> {
    let mut events: Vec<(String, Event)> = Vec::new();
    for entry in entries {
        let (action, at) = (entry.action.clone(), entry.at);
        let is_scope = matches!(action.as_str(), "policy.attached" | "policy.detached");
        let event = Event::of(entry);
        let moved = events
            .iter()
            .any(|(other, one)| other == "policy.moved" && one.at == at);
        if is_scope && moved {
            continue;
        }
        match events.last_mut() {
            Some((last, joined)) if is_scope && *last == action && joined.at == at => {
                joined.scopes.extend(event.scopes);
            }
            _ => events.push((action, event)),
        }
    }
    events.into_iter().map(|(_, event)| event).collect()
}

/// The end of a policy.
struct Gone {
    id: String,
    at: When,
    by: Actor,
    /// Its last version.
    version: u32,
    again: String,
    text: String,
}

impl Gone {
    /// `newest` is what happened last: nothing happens to a policy after it was deleted.
    fn of(named: &Named, policy: &Policy, id: &str, newest: Option<&Entry>) -> Option<Self> {
        let at = policy.deleted_at?;
        let version = policy.version.to_string();
        Some(Self {
            at,
            by: newest.map(|entry| entry.actor.clone()).unwrap_or_default(),
            version: policy.version,
            again: named.page(&["again"], &[("id", id), ("version", &version)]),
            text: named.page(&["versions", &version], &[("id", id)]),
            id: id.to_owned(),
        })
    }
}

#[derive(Template)]
#[template(path = "policies/history.html")]
struct HistoryPage {
    page: Page,
    named: Named,
    /// The newest version.
    version: u32,
    /// Of a deleted policy.
    gone: Option<Gone>,
    events: Vec<Event>,
    older: String,
    newer: String,
    list: String,
}

async fn entries(api: &Api, named: &Named, asked: &Asked, limit: &str) -> Result<Entries, Problem> {
    let query = [
        ("id", asked.id.as_str()),
        ("after", &asked.after),
        ("limit", limit),
    ];
    api.get(&named.api(&["history"], &query)).await
}

async fn history(
    session: Session,
    Path(named): Path<Named>,
    Query(mut asked): Query<Asked>,
) -> Result<Response, Failure> {
    let policy = named.load_of(&session.api, &asked.id).await?.policy;
    if policy.deleted_at.is_none() {
        // Its name says enough.
        asked.id.clear();
    }
    let found = entries(&session.api, &named, &asked, PAGE).await?;
    let gone = if policy.deleted_at.is_some() && !asked.after.is_empty() {
        let first = Asked {
            after: String::new(),
            ..asked.clone()
        };
        let newest = entries(&session.api, &named, &first, "1").await?;
        Gone::of(&named, &policy, &asked.id, newest.items.first())
    } else {
        Gone::of(&named, &policy, &asked.id, found.items.first())
    };
    let here = |after: &str| named.page(&["history"], &[("id", &asked.id), ("after", after)]);
    let mut events = timeline(found.items);
    for event in &mut events {
        event.lead(&named, &asked.id);
    }
    let title = format!("History of {}", named.name);
    Ok(show(&HistoryPage {
        page: session.page(&title, Area::Policies).of(&named.owner),
        list: list_of(&named.owner),
        older: found.next.as_deref().map(here).unwrap_or_default(),
        newer: if asked.after.is_empty() {
            String::new()
        } else {
            here("")
        },
        version: policy.version,
        gone,
        events,
        named,
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;

    fn entry(at: &str, action: &str, detail: Value) -> Entry {
        Entry {
            at: When(at.parse().unwrap()),
            actor: Actor::default(),
            action: action.into(),
            detail,
        }
    }

    #[test]
    fn what_was_done_at_once_is_one_entry() {
        let (one, two) = ("2026-11-22T10:00:00Z", "2026-11-22T09:00:00Z");
        let moved = json!({"from": ["org:acme"], "to": ["repo:acme/web"]});
        let events = timeline(vec![
            entry(one, "policy.moved", moved),
            entry(
                one,
                "policy.attached",
                json!({"scope": "repo:acme/web", "from": null}),
            ),
            entry(one, "policy.detached", json!({"scope": "org:acme", "to": null})),
            entry(
                two,
                "policy.attached",
                json!({"scope": "repo:acme/b", "from": {"name": "base"}}),
            ),
            entry(
                two,
                "policy.attached",
                json!({"scope": "repo:acme/a", "from": null}),
            ),
            entry(two, "policy.updated", json!({"to": 2, "rollback_to": 1})),
        ]);
        let told: Vec<_> = events
            .iter()
            .map(|one| (one.title.as_str(), one.scopes.len(), one.version))
            .collect();
        assert_eq!(
            told,
            [
                ("Moved", 2, None),
                ("Attached", 2, None),
                ("Rolled back to version 1, as version 2", 0, Some(2))
            ]
        );
        let taken = &events[1].scopes[0];
        assert_eq!(
            (taken.is_added, taken.other.as_ref().map(Text::raw)),
            (true, Some("base"))
        );
    }
}
