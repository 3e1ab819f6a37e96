//! The audit log: who changed what, when, by which way; filtered, paged, exported.
//!
//! Owns where its entries lead. The chain of hashes is verified by `tidegate audit verify`; an export carries it.

use askama::Template;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Query;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use serde::Deserialize;
use serde_json::Value;

use crate::Ui;
use crate::client::Api;
use crate::error::{Failure, Problem};
use crate::page::{Area, Page, show_with};
use crate::session::Session;
use crate::text::{Text, url};
use crate::time::When;

/// Entries on one page, and at once in an export. An entry has half a megabyte at most, and an answer 32.
const PAGE: &str = "50";
const PIECE: &str = "50";
/// Characters of an entry's detail that a row shows.
const SHOWN: usize = 4_000;
/// Lines of a change that a row shows, and characters of each: the whole of it may have half a megabyte.
const LINES: usize = 24;
const LINE: usize = 400;

pub(crate) fn routes() -> Router<Ui> {
    Router::new()
        .route("/ui/audit-log", get(list))
        .route("/ui/audit-log/export", get(export))
}

/// Actions that a filter offers: a beginning of several ends with `*`.
const ACTIONS: &[(&str, &str)] = &[
    ("policy.*", "Policies: anything"),
    ("policy.created", "Policy created"),
    ("policy.updated", "Policy updated"),
    ("policy.attached", "Policy attached"),
    ("policy.detached", "Policy detached"),
    ("policy.deleted", "Policy deleted"),
    ("set.*", "Endpoint sets: anything"),
    ("block.*", "Global block list: anything"),
    ("token.*", "Tokens: anything"),
    ("token.created", "Token made"),
    ("token.revoked", "Token revoked"),
    ("session.*", "Sessions: anything"),
    ("detection.*", "Detections: anything"),
    ("suppression.*", "Suppressions: anything"),
    ("issuer.*", "Issuers: anything"),
];

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    owner: String,
    actor: String,
    via: String,
    action: String,
    target: String,
    policy_id: String,
    since: String,
    until: String,
    after: String,
}

impl Asked {
    /// As the API takes it. A day is its beginning as `since` and its end as `until`.
    fn query<'q>(
        &'q self,
        since: &'q str,
        until: &'q str,
        after: &'q str,
        limit: &'q str,
    ) -> [(&'q str, &'q str); 10] {
        [
            ("owner", self.owner.trim()),
            ("actor", self.actor.trim()),
            ("via", &self.via),
            ("action", self.action.trim()),
            ("target", self.target.trim()),
            ("policy_id", self.policy_id.trim()),
            ("since", since),
            ("until", until),
            ("after", after),
            ("limit", limit),
        ]
    }

    /// The same question at another place of these pages.
    fn here(&self, path: &[&str], after: &str) -> String {
        url(path, &self.query(&self.since, &self.until, after, ""))
    }

    fn api(&self, after: &str, limit: &str) -> String {
        let (since, until) = (moment(&self.since, false), moment(&self.until, true));
        url(&["audit-log"], &self.query(&since, &until, after, limit))
    }

    fn is_filtered(&self) -> bool {
        let texts = [
            &self.owner,
            &self.actor,
            &self.via,
            &self.action,
            &self.target,
            &self.policy_id,
            &self.since,
            &self.until,
        ];
        texts.iter().any(|text| !text.is_empty())
    }
}

/// A day as a moment: its first, or, as an end, the next day's. Anything else is the API's to judge.
fn moment(text: &str, is_end: bool) -> String {
    let day = text.trim().parse::<jiff::civil::Date>();
    let day = day.and_then(|day| if is_end { day.tomorrow() } else { Ok(day) });
    match day {
        Ok(day) if text.trim().len() == "2026-11-22".len() => format!("{day}T00:00:00Z"),
        Ok(_) | Err(_) => text.trim().to_owned(),
    }
}

#[derive(Debug, Deserialize)]
struct Actor {
    subject: Text,
    token_id: Option<Text>,
    via: Text,
}

#[derive(Debug, Deserialize)]
struct Entry {
    seq: u64,
    at: When,
    actor: Actor,
    action: Text,
    target: Text,
    detail: Value,
    hash: Text,
}

impl Entry {
    /// Where the thing is that it is about; empty when there is no page of it.
    fn href(&self) -> String {
        let target = self.target.raw();
        let of = |kind: &str| target.strip_prefix(kind);
        let named = |rest: &str| {
            let (owner, name) = rest.split_once('/')?;
            Some((owner.to_owned(), name.to_owned()))
        };
        if let Some((owner, name)) = of("policy ").and_then(named) {
            return url(&["ui", "orgs", &owner, "policies", &name], &[]);
        }
        if let Some((owner, name)) = of("endpoint set ").and_then(named) {
            return url(&["ui", "orgs", &owner, "endpoint-sets", &name], &[]);
        }
        if let Some(id) = of("token ") {
            return url(&["ui", "settings", "tokens"], &[("state", "all"), ("search", id)]);
        }
        if of("session ").is_some() {
            return url(&["ui", "settings", "sessions"], &[("state", "all")]);
        }
        if let Some(id) = of("detection ") {
            return url(&["ui", "detections", id], &[]);
        }
        if target.starts_with("block ") || target == "global block list" {
            return url(&["ui", "global-block"], &[]);
        }
        String::new()
    }

    /// Everything by the same name.
    fn actor_href(&self) -> String {
        url(&["ui", "audit-log"], &[("actor", self.actor.subject.raw())])
    }

    /// Everything by the same token or session.
    fn token_href(&self) -> String {
        let id = self.actor.token_id.as_ref().map(Text::raw).unwrap_or_default();
        url(&["ui", "audit-log"], &[("actor", id)])
    }

    /// Everything about the same thing.
    fn target_href(&self) -> String {
        url(&["ui", "audit-log"], &[("target", self.target.raw())])
    }

    fn unified(&self) -> &str {
        let unified = self.detail.get("diff").and_then(|diff| diff.get("unified"));
        unified.and_then(Value::as_str).unwrap_or_default()
    }

    /// A change of a text: the first lines that came and went, with their class.
    fn diff(&self) -> Vec<(&'static str, String)> {
        let class = |line: &str| match line.as_bytes().first() {
            Some(b'+') => "plus",
            Some(b'-') => "minus",
            Some(_) | None => "",
        };
        let lines = self.unified().lines().take(LINES);
        lines
            .map(|line| (class(line), Text::from(line).cut(LINE)))
            .collect()
    }

    /// Lines that a row leaves out.
    fn left_out(&self) -> usize {
        self.unified().lines().skip(LINES).count()
    }

    /// What changed besides, a line a field.
    fn facts(&self) -> Vec<(Text, String)> {
        let Some(fields) = self.detail.as_object() else {
            return vec![("detail".into(), shown(&self.detail))];
        };
        let told = |(name, value): (&String, &Value)| {
            let is_nothing = value.is_null()
                || value.as_str().is_some_and(str::is_empty)
                || value.as_array().is_some_and(Vec::is_empty);
            (name != "diff" && !is_nothing).then(|| (Text::from(name.as_str()), shown(value)))
        };
        fields.iter().filter_map(told).collect()
    }
}

/// A value of an entry's detail in words.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(", "),
        Value::Object(_) | Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    };
    Text::from(text).cut(SHOWN)
}

#[derive(Debug, Deserialize)]
struct Entries {
    items: Vec<Entry>,
    #[serde(default)]
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "audit/list.html")]
struct List {
    page: Page,
    actions: &'static [(&'static str, &'static str)],
    asked: Asked,
    items: Vec<Entry>,
    problem: Option<Problem>,
    export: String,
    older: String,
    newer: String,
}

async fn list(session: Session, Query(mut asked): Query<Asked>) -> Result<Response, Failure> {
    // A session of several organizations sees one at a time.
    if let (true, [first, ..]) = (asked.owner.trim().is_empty(), session.who.owners.as_slice()) {
        first.raw().clone_into(&mut asked.owner);
    }
    let found = session.api.get::<Entries>(&asked.api(&asked.after, PAGE)).await;
    let (found, problem) = match found {
        Ok(found) => (found, None),
        Err(problem) => {
            let problem = Failure::problem(problem)?;
            let nothing = Entries {
                items: Vec::new(),
                next: None,
            };
            (nothing, Some(problem))
        }
    };
    let older = found
        .next
        .as_deref()
        .map(|after| asked.here(&["ui", "audit-log"], after));
    let newer = (!asked.after.is_empty()).then(|| asked.here(&["ui", "audit-log"], ""));
    let status = problem
        .as_ref()
        .map_or(axum::http::StatusCode::OK, Problem::status);
    let page = List {
        page: session.page("Audit log", Area::AuditLog),
        actions: ACTIONS,
        export: asked.here(&["ui", "audit-log", "export"], ""),
        older: older.unwrap_or_default(),
        newer: newer.unwrap_or_default(),
        items: found.items,
        asked,
        problem,
    };
    Ok(show_with(status, &page))
}

/// An export on its way: pages of the API, an entry a line.
struct Export {
    api: Api,
    asked: Asked,
    after: String,
}

#[derive(Deserialize)]
struct Whole {
    items: Vec<Value>,
    #[serde(default)]
    next: Option<String>,
}

impl Export {
    async fn piece(&self) -> Result<Whole, Problem> {
        self.api.get(&self.asked.api(&self.after, PIECE)).await
    }
}

/// The entries that the filters leave, newest first, one JSON object a line, with their hashes.
async fn export(session: Session, Query(asked): Query<Asked>) -> Result<Response, Failure> {
    let export = Export {
        api: session.api.clone(),
        after: String::new(),
        asked,
    };
    // What is refused is refused before anything is sent.
    let first = export.piece().await?;
    let rest = stream::try_unfold(Some((export, Some(first))), |state| async move {
        let Some((mut export, first)) = state else {
            return Ok(None);
        };
        let piece = match first {
            Some(piece) => piece,
            None => export.piece().await.map_err(|problem| {
                // Cut off, so that nobody takes it for whole.
                std::io::Error::other(problem.detail.to_string())
            })?,
        };
        let lines = lines(&piece.items);
        let state = piece.next.map(|next| {
            export.after = next;
            (export, None)
        });
        Ok::<_, std::io::Error>(Some((lines, state)))
    });
    let headers = [
        (CONTENT_TYPE, "application/x-ndjson"),
        (
            CONTENT_DISPOSITION,
            "attachment; filename=\"tidegate-audit-log.ndjson\"",
        ),
    ];
    Ok((headers, Body::from_stream(rest)).into_response())
}

fn lines(entries: &[Value]) -> Bytes {
    let mut lines = Vec::with_capacity(entries.len() * 512);
    for entry in entries {
        // Plain data always serializes.
        if serde_json::to_writer(&mut lines, entry).is_ok() {
            lines.push(b'\n');
        }
    }
    lines.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_taken_whole() {
        assert_eq!(moment("2026-11-22", false), "2026-11-22T00:00:00Z");
        assert_eq!(moment(" 2026-12-31 ", true), "2027-01-01T00:00:00Z");
        for other in ["", "2026-11-22T10:00:00Z", "soon", "2026-13-01"] {
            assert_eq!(moment(other, true), other);
        }
    }

    #[test]
    fn a_piece_of_the_largest_entries_can_be_read() {
        for entries in [PAGE, PIECE] {
            let entries: usize = entries.parse().unwrap_or(usize::MAX);
            assert!(entries.saturating_mul(520 << 10) < crate::client::MAX_ANSWER);
        }
    }

    #[test]
    fn what_changed_is_said_in_words() {
        let value = serde_json::json!(["acme", {"a": 1}, true, null]);
        assert_eq!(shown(&value), "acme, {\"a\":1}, true, null");
        assert_eq!(shown(&serde_json::json!("x\u{202e}y")), "x\\u{202e}y");
    }
}
