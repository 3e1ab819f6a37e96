//! What a change would have done to recorded jobs: a part of the pages that confirm changes, and a page of its own for
//! who has no scripts.
//!
//! Never a part of a first page: it reads much of the record, and waits its turn.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use askama::Template;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::post;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::selected::{Deed, MOST, no_deed, of_one};
use super::{MOST_SCOPES, Mode, Named};
use crate::error::Failure;
use crate::form::Fields;
use crate::page::{Area, Page, show, show_part};
use crate::session::Session;
use crate::text::{Text, url};
use crate::{EDITOR_BODY, Ui, guard};

/// Days that are looked at when nothing is chosen.
const DAYS: i64 = 7;
/// Lines of a list that are shown.
const SHOWN: usize = 20;
/// Simulations whose lists are shown unasked.
const FEW: usize = 3;

pub(super) fn routes() -> Router<Ui> {
    Router::new()
        .route("/ui/orgs/{owner}/policies/{name}/impact", post(impact))
        .route("/ui/orgs/{owner}/selected/impact", post(of_selected))
        .layer(DefaultBodyLimit::max(EDITOR_BODY))
}

#[derive(Debug, Deserialize)]
struct Tried {
    name: Text,
    #[serde(default)]
    version: Option<u32>,
    mode: Mode,
    #[serde(default)]
    network_default: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Affected {
    newly_permitted: u64,
    newly_refused: u64,
    would_refuse: u64,
}

#[derive(Debug, Deserialize)]
struct JobOf {
    repo: Text,
    #[serde(default)]
    workflow: Text,
    #[serde(default)]
    job_id: String,
}

impl JobOf {
    fn href(&self) -> String {
        if self.job_id.is_empty() {
            String::new()
        } else {
            url(&["ui", "jobs", &self.job_id], &[])
        }
    }
}

#[derive(Debug, Deserialize)]
struct Call {
    endpoint: Text,
    port: u16,
    verdicts: u64,
    #[serde(default)]
    rule: Option<Text>,
    #[serde(default)]
    nearest: Option<Text>,
    jobs: Vec<JobOf>,
    workflows: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Completeness {
    sentences: Vec<Text>,
}

#[derive(Debug, Deserialize)]
struct Simulation {
    policy: Tried,
    scopes: Vec<Text>,
    #[serde(default)]
    clusters: Vec<Text>,
    jobs: u64,
    #[serde(default)]
    affected: Affected,
    newly_permitted: Vec<Call>,
    newly_refused: Vec<Call>,
    would_refuse: Vec<Call>,
    completeness: Completeness,
}

impl Call {
    fn told(&self) -> String {
        super::counted(
            usize::try_from(self.workflows).unwrap_or(usize::MAX),
            "workflow",
            "workflows",
        )
    }
}

/// One of the lists of a simulation.
struct Listed<'s> {
    title: &'static str,
    kind: &'static str,
    calls: &'s [Call],
}

impl Simulation {
    /// The sentence above all: "3 of 412 jobs would have been refused something: …".
    fn sentence(&self) -> String {
        if self.jobs == 0 && self.newly_refused.is_empty() && self.newly_permitted.is_empty() {
            return "No recorded job would have been under it.".to_owned();
        }
        let names = |calls: &[Call]| {
            let some: Vec<String> = calls
                .iter()
                .take(3)
                .map(|call| format!("{}:{}", call.endpoint, call.port))
                .collect();
            let more = calls.len().saturating_sub(some.len());
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            format!("{}{more}", some.join(", "))
        };
        let told = |count: u64, what: &str, calls: &[Call]| {
            format!(
                "{count} of {} would have been {what}: {}.",
                jobs(self.jobs),
                names(calls)
            )
        };
        let mut said = Vec::new();
        if !self.newly_refused.is_empty() {
            said.push(told(
                self.affected.newly_refused,
                "refused something",
                &self.newly_refused,
            ));
        }
        if !self.newly_permitted.is_empty() {
            said.push(told(
                self.affected.newly_permitted,
                "let through where they were refused",
                &self.newly_permitted,
            ));
        }
        if !self.would_refuse.is_empty() {
            said.push(told(
                self.affected.would_refuse,
                "recorded as what block mode would refuse",
                &self.would_refuse,
            ));
        }
        if said.is_empty() {
            said.push(format!(
                "Nothing would have differed for {} on record.",
                jobs(self.jobs)
            ));
        }
        said.join(" ")
    }

    /// How bad that is.
    fn kind(&self) -> &'static str {
        if !self.newly_refused.is_empty() {
            "bad"
        } else if !self.newly_permitted.is_empty() || !self.would_refuse.is_empty() {
            "warn"
        } else {
            "good"
        }
    }

    fn lists(&self) -> Vec<Listed<'_>> {
        let all = [
            ("Newly refused", "refuse", &self.newly_refused),
            ("Newly let through", "permit", &self.newly_permitted),
            (
                "Recorded as what block would refuse",
                "would-refuse",
                &self.would_refuse,
            ),
        ];
        all.into_iter()
            .filter(|(.., calls)| !calls.is_empty())
            .map(|(title, kind, calls)| Listed {
                title,
                kind,
                calls: calls.get(..SHOWN).unwrap_or(calls),
            })
            .collect()
    }
}

/// Everything that a part shows.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Impact {
    simulations: Vec<Simulation>,
    no_policy: Vec<Text>,
    unseen: Vec<Text>,
    left_out: Vec<Text>,
    /// That were looked at.
    #[serde(skip)]
    days: usize,
}

impl Impact {
    fn span(&self) -> String {
        super::counted(self.days, "day", "days")
    }

    /// Of several policies lists are folded.
    fn is_long(&self) -> bool {
        self.simulations.len() > FEW
    }

    fn is_empty(&self) -> bool {
        self.simulations.is_empty()
            && [&self.no_policy, &self.unseen, &self.left_out]
                .iter()
                .all(|list| list.is_empty())
    }

    /// What all simulations come to: "12 policies would decide; 2 of them would have refused something to 3 of 412 jobs."
    fn summary(&self) -> String {
        let all = &self.simulations;
        let refusing: Vec<&Simulation> = all.iter().filter(|one| !one.newly_refused.is_empty()).collect();
        let policies = super::counted(all.len(), "policy", "policies");
        if refusing.is_empty() {
            return format!("{policies} would decide; none would have refused what was let through.");
        }
        let affected: u64 = refusing.iter().map(|one| one.affected.newly_refused).sum();
        format!(
            "{policies} would decide; {} of them would have refused something to {affected} of {}.",
            refusing.len(),
            jobs(all.iter().map(|one| one.jobs).sum())
        )
    }

    /// What would hurt first, first.
    fn sort(&mut self) {
        self.simulations.sort_by_key(|one| {
            (
                Reverse(one.affected.newly_refused),
                one.newly_refused.is_empty(),
                one.newly_permitted.is_empty(),
                one.would_refuse.is_empty(),
            )
        });
    }
}

#[derive(Template)]
#[template(path = "policies/impact.html")]
struct ImpactPart {
    impact: Impact,
}

#[derive(Template)]
#[template(path = "policies/impact_page.html")]
struct ImpactPage {
    page: Page,
    impact: Impact,
}

#[derive(Debug, Serialize)]
struct TryText {
    yaml: String,
    since: String,
}

#[derive(Debug, Serialize)]
struct Other<'f> {
    owner: &'f str,
    name: &'f str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Change<'f> {
    scope: &'f str,
    policy: Option<Other<'f>>,
}

#[derive(Debug, Serialize)]
struct TryChanges<'f> {
    changes: Vec<Change<'f>>,
    since: String,
}

/// A text of a policy (`yaml`), or scopes that it takes (`add`) and leaves (`remove`).
async fn impact(
    session: Session,
    Path(named): Path<Named>,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Failure> {
    let (days, since) = span(&fields);
    let mut impact = if fields.has("yaml") {
        let asked = TryText {
            yaml: fields.document("yaml"),
            since,
        };
        let simulation = session
            .api
            .post(&named.api(&["simulate"], &[]), &asked)
            .await?
            .json()?;
        Impact {
            simulations: vec![simulation],
            ..Impact::default()
        }
    } else {
        let taken = fields.all("add").map(|scope| Change {
            scope,
            policy: Some(Other {
                owner: &named.owner,
                name: &named.name,
                mode: None,
            }),
        });
        let left = fields.all("remove").map(|scope| Change { scope, policy: None });
        let asked = TryChanges {
            changes: taken.chain(left).collect(),
            since,
        };
        session.api.post(&url(&["simulate"], &[]), &asked).await?.json()?
    };
    impact.days = days;
    Ok(shown(&session, &named.owner, &headers, impact))
}

/// Policies that are detached, deleted or switched together (`do`, `name`).
async fn of_selected(
    session: Session,
    Path(owner): Path<String>,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Failure> {
    let deed = Deed::of(fields.get("do")).ok_or_else(no_deed)?;
    let mut held: Vec<(String, Vec<Text>)> = Vec::new();
    let names: BTreeSet<&str> = fields.all("name").take(MOST).collect();
    for name in names {
        let named = Named {
            owner: owner.clone(),
            name: name.to_owned(),
        };
        match named.load(&session.api).await {
            Ok(stored) => held.push((named.name, stored.policy.attachments)),
            Err(problem) => drop(of_one(problem)?),
        }
    }
    let scopes = held
        .iter()
        .flat_map(|(name, scopes)| scopes.iter().map(move |scope| (name, scope)));
    let (days, since) = span(&fields);
    let mut changes: Vec<Change> = scopes
        .map(|(name, scope)| Change {
            scope: scope.raw(),
            policy: deed.mode().map(|mode| Other {
                owner: &owner,
                name,
                mode: Some(mode),
            }),
        })
        .collect();
    let beyond = changes.split_off(changes.len().min(MOST_SCOPES));
    let beyond: Vec<Text> = beyond.iter().map(|change| change.scope.into()).collect();
    let mut impact = if changes.is_empty() {
        Impact::default()
    } else {
        let asked = TryChanges { changes, since };
        session.api.post(&url(&["simulate"], &[]), &asked).await?.json()?
    };
    impact.left_out.extend(beyond);
    impact.days = days;
    impact.sort();
    Ok(shown(&session, &owner, &headers, impact))
}

/// "1 job", "2 jobs".
fn jobs(count: u64) -> String {
    super::counted(usize::try_from(count).unwrap_or(usize::MAX), "job", "jobs")
}

/// How many days of the record are looked at, and since when that is.
fn span(fields: &Fields) -> (usize, String) {
    let days: i64 = fields.get("days").parse().unwrap_or(DAYS).clamp(1, 90);
    let since = Timestamp::now()
        .checked_sub(SignedDuration::from_hours(days * 24))
        .unwrap_or(Timestamp::UNIX_EPOCH);
    (usize::try_from(days).unwrap_or_default(), since.to_string())
}

/// As a part of a page that has scripts, else as one of its own.
fn shown(session: &Session, owner: &str, headers: &HeaderMap, impact: Impact) -> Response {
    if guard::is_part(headers) {
        return show_part(&ImpactPart { impact });
    }
    let page = session.page("Effect on recorded jobs", Area::Policies).of(owner);
    show(&ImpactPage { page, impact })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn simulation(refused: &[&str], jobs: u64) -> Simulation {
        let calls: Vec<serde_json::Value> = refused
            .iter()
            .map(|name| serde_json::json!({"endpoint": name, "port": 443, "verdicts": 1, "jobs": [], "workflows": 1}))
            .collect();
        serde_json::from_value(serde_json::json!({
            "policy": {"name": "base", "mode": "block"}, "scopes": ["repo:acme/web"], "jobs": jobs,
            "affected": {"newly_permitted": 0, "newly_refused": refused.len(), "would_refuse": 0},
            "newly_permitted": [], "newly_refused": calls, "would_refuse": [], "completeness": {"sentences": []},
        }))
        .unwrap()
    }

    #[test]
    fn the_sentence_counts_jobs_and_names_a_few_endpoints() {
        let said = simulation(&["a.test", "b.test", "c.test", "d.test"], 412).sentence();
        assert_eq!(
            said,
            "4 of 412 jobs would have been refused something: a.test:443, b.test:443, c.test:443 and 1 more."
        );
        assert_eq!(
            simulation(&[], 12).sentence(),
            "Nothing would have differed for 12 jobs on record."
        );
        assert_eq!(
            simulation(&[], 0).sentence(),
            "No recorded job would have been under it."
        );
    }

    #[test]
    fn several_simulations_are_summed_up_with_the_worst_first() {
        let mut impact = Impact {
            simulations: vec![
                simulation(&[], 5),
                simulation(&["a.test"], 7),
                simulation(&["a.test", "b.test"], 9),
            ],
            ..Impact::default()
        };
        impact.sort();
        let order: Vec<u64> = impact.simulations.iter().map(|one| one.jobs).collect();
        assert_eq!(order, [9, 7, 5]);
        assert_eq!(
            impact.summary(),
            "3 policies would decide; 2 of them would have refused something to 3 of 21 jobs."
        );
        impact.simulations.drain(..2);
        assert_eq!(
            impact.summary(),
            "1 policy would decide; none would have refused what was let through."
        );
        assert!(!impact.is_empty() && Impact::default().is_empty());
    }
}
