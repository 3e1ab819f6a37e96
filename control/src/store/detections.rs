//! Detections as people look at them and deal with them. How they come about is [`super::observe`]'s.
//!
//! The log of who said what stands in the other half of the store. It is written first: a status that changed without an
//! entry would be a hole, an entry whose change failed is an attempt that somebody made.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::any::AnyRow;
use utoipa::ToSchema;

use super::audit::cleaned;
use super::read::{self, get, json as read_json, page};
use super::sql::Sql;
use super::suppressions::sentence;
use super::{AuditDraft, Micros, Store, StoreError, Tx, names};
use crate::baseline::detection::Detection;
use crate::baseline::{DetectionType, Severity, Status};
use crate::model::{Actor, Page, PageRequest};

/// Longest note, in characters.
const MAX_NOTE: usize = 1_000;

/// Which detections are wanted; what is absent limits nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DetectionFilter {
    /// Of one of these owners; empty limits nothing.
    pub owners: Vec<String>,
    /// Of an owner.
    pub owner: Option<String>,
    /// Of a repository, `owner/name`.
    pub repo: Option<String>,
    /// Of a job, by the id of its lease.
    pub job: Option<String>,
    /// Of a type.
    pub kind: Option<DetectionType>,
    /// With a status.
    pub status: Option<Status>,
    /// Of a severity.
    pub severity: Option<Severity>,
    /// About an endpoint that has this in it, in any case.
    pub search: Option<String>,
    /// Whose last verdict is of this time or later.
    pub since: Option<Timestamp>,
}

/// How many detections there are, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DetectionCounters {
    /// Nobody dealt with them yet.
    pub new: u64,
    /// Suppressed, by a rule or by somebody.
    pub suppressed: u64,
    /// Resolved.
    pub resolved: u64,
    /// New ones of high severity.
    pub new_high: u64,
    /// Of medium severity.
    pub new_medium: u64,
    /// Of low severity.
    pub new_low: u64,
}

/// What somebody says of a detection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// What becomes of it.
    pub status: Status,
    /// Why.
    pub note: Option<String>,
    /// Whether its endpoint is what the scope's jobs do, and belongs to the baseline. Unsaid: when it is suppressed.
    pub expected: Option<bool>,
}

impl Store {
    /// Detections, newest first.
    pub async fn detections(
        &self,
        filter: &DetectionFilter,
        request: &PageRequest,
    ) -> Result<Page<Detection>, StoreError> {
        self.settle_counts().await;
        let lower = |text: &String| storable(&text.to_lowercase());
        let mut sql = Sql::new("SELECT * FROM detections WHERE 1 = 1");
        of_owners(&mut sql, filter)?;
        if let Some(repo) = &filter.repo {
            sql.push(" AND repo = ").text(&lower(repo)?);
        }
        if let Some(job) = &filter.job {
            sql.push(" AND job_id = ").text(&storable(job)?);
        }
        if let Some(kind) = filter.kind {
            sql.push(" AND type = ").text(kind.as_str());
        }
        if let Some(status) = filter.status {
            sql.push(" AND status = ").text(status.as_str());
        }
        if let Some(severity) = filter.severity {
            sql.push(" AND severity = ").text(severity.as_str());
        }
        if let Some(text) = &filter.search {
            // `LIKE` folds case in one database and not in the other; endpoints are in lower case.
            sql.push(" AND replace(endpoint, ")
                .text(&lower(text)?)
                .push(", '') <> endpoint");
        }
        if let Some(since) = filter.since {
            sql.push(" AND last_at >= ").number(Micros::from(since).0);
        }
        if request.after.is_some() {
            sql.push(" AND id < ").text(read::cursor(request)?);
        }
        sql.push(" ORDER BY id DESC LIMIT ")
            .number(i64::from(request.size()) + 1);
        let rows = sql.fetch_all(self.events.read()).await?;
        page(rows, request, read_detection, |one| one.id.clone())
    }

    /// How many there are of the owners that a filter names, whatever else it says.
    pub async fn count_detections(&self, filter: &DetectionFilter) -> Result<DetectionCounters, StoreError> {
        let mut sql = Sql::new(
            // By the index of states, whoever asks: an owner's own would lead to each row.
            "SELECT status, severity, COUNT(*) AS count FROM \
             (SELECT status, severity, owner || '' AS owner FROM detections) AS states WHERE 1 = 1",
        );
        of_owners(&mut sql, filter)?;
        sql.push(" GROUP BY status, severity");
        let mut all = DetectionCounters::default();
        for row in &sql.fetch_all(self.events.read()).await? {
            let count = get::<i64>(row, "count")?.unsigned_abs();
            let (status, severity): (&str, &str) = (get(row, "status")?, get(row, "severity")?);
            match (Status::parse(status), Severity::parse(severity)) {
                (Some(Status::New), severity) => {
                    all.new += count;
                    match severity {
                        Some(Severity::High) => all.new_high += count,
                        Some(Severity::Medium) => all.new_medium += count,
                        Some(Severity::Low) => all.new_low += count,
                        None => {}
                    }
                }
                (Some(Status::Suppressed), _) => all.suppressed += count,
                (Some(Status::Resolved), _) => all.resolved += count,
                (None, _) => {}
            }
        }
        Ok(all)
    }

    /// One detection.
    pub async fn detection(&self, id: &str) -> Result<Detection, StoreError> {
        self.settle_counts().await;
        read::storable(id).ok_or_else(|| missing(id))?;
        let row = sqlx::query("SELECT * FROM detections WHERE id = $1")
            .bind(id)
            .fetch_optional(self.events.read())
            .await?;
        read_detection(&row.ok_or_else(|| missing(id))?)
    }

    /// Changes what became of a detection.
    pub async fn change_detection(
        &self,
        id: &str,
        said: &Said,
        actor: &Actor,
    ) -> Result<Detection, StoreError> {
        let before = self.detection(id).await?;
        let note = said.note.as_deref().filter(|note| !note.trim().is_empty());
        let note = note.map(|note| sentence("note", note, MAX_NOTE)).transpose()?;
        let expected = match (said.status, said.expected) {
            (Status::New, Some(true)) => {
                let reason = "what is expected is suppressed or resolved, not new";
                return Err(StoreError::invalid("expected", reason));
            }
            (Status::New, _) => false,
            (Status::Suppressed, said) => said.unwrap_or(true),
            // Dealt with is not the same as normal: the endpoint of an incident must not slip into a policy.
            (Status::Resolved, said) => said.unwrap_or(false),
        };
        let actor = cleaned(actor);
        self.log_change(&before, (said.status, expected, note.as_deref()), &actor)
            .await?;
        let (id, status) = (before.id.clone(), said.status);
        self.events
            .write(move |tx| {
                Box::pin(async move {
                    tx.change_detection(&id, (status, expected), note.as_deref(), &actor.subject)
                        .await
                })
            })
            .await?;
        self.detection(&before.id).await
    }

    async fn log_change(
        &self,
        before: &Detection,
        (status, expected, note): (Status, bool, Option<&str>),
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let action = match status {
            Status::New => "detection.reopened",
            Status::Suppressed => "detection.suppressed",
            Status::Resolved => "detection.resolved",
        };
        let mut detail = json!({
            "type": before.kind, "from": before.status, "to": status, "expected": expected,
            "endpoint": before.evidence["endpoint"],
        });
        if let Some(note) = note {
            detail["note"] = note.into();
        }
        let owner = before.job["owner"].as_str().unwrap_or_default().to_owned();
        let target = format!("detection {}", before.id);
        let actor = actor.clone();
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    let draft = AuditDraft {
                        action,
                        owner: &owner,
                        target,
                        policy_id: None,
                        detail,
                    };
                    tx.audit(draft, &actor).await
                })
            })
            .await
    }

    /// Adds the counts that wait here, so that who asks is told of what was stored. A store that is busy tells a little
    /// less.
    pub(super) async fn settle_counts(&self) {
        if let Err(error) = self.observing.flush().await {
            tracing::debug!(error = error.chain(), "counts wait on");
        }
    }
}

impl Tx<'_> {
    async fn change_detection(
        &mut self,
        id: &str,
        (status, expected): (Status, bool),
        note: Option<&str>,
        by: &str,
    ) -> Result<(), StoreError> {
        let changed = sqlx::query(
            "UPDATE detections SET status = $2, expected = $3, note = $4, changed_by = $5, changed_at = $6, \
             suppression = CASE WHEN status = $2 THEN suppression ELSE '' END WHERE id = $1",
        )
        .bind(id)
        .bind(status.as_str())
        .bind(i64::from(expected))
        .bind(note.unwrap_or_default())
        .bind(by)
        .bind(self.now().0)
        .execute(self.connection())
        .await?;
        if changed.rows_affected() == 0 {
            return Err(missing(id));
        }
        self.accept(id, expected).await
    }
}

/// The owners that a filter is cut down to.
fn of_owners(sql: &mut Sql, filter: &DetectionFilter) -> Result<(), StoreError> {
    let lower = |text: &String| storable(&text.to_lowercase());
    if !filter.owners.is_empty() {
        let owners: Vec<String> = filter.owners.iter().map(lower).collect::<Result<_, _>>()?;
        sql.push(" AND owner IN ")
            .texts(owners.iter().map(String::as_str));
    }
    if let Some(owner) = &filter.owner {
        sql.push(" AND owner = ").text(&lower(owner)?);
    }
    Ok(())
}

fn missing(id: &str) -> StoreError {
    StoreError::not_found(format!("detection {:?}", names::clean(id, 60)))
}

fn storable(text: &str) -> Result<String, StoreError> {
    match read::storable(text) {
        Some(text) => Ok(text.to_owned()),
        None => Err(StoreError::invalid("filter", "no text has a NUL")),
    }
}

fn read_detection(row: &AnyRow) -> Result<Detection, StoreError> {
    let unknown = |what: &str, text: &str| StoreError::Unreadable(format!("a detection's {what}: {text:?}"));
    let (kind, severity, status): (&str, &str, &str) =
        (get(row, "type")?, get(row, "severity")?, get(row, "status")?);
    let some = |column| {
        let text: String = get(row, column)?;
        Ok::<_, StoreError>((!text.is_empty()).then_some(text))
    };
    let mut evidence: Value = read_json("evidence", get(row, "evidence")?)?;
    let further: i64 = get(row, "further")?;
    if further > 0 {
        evidence["further"] = further.into();
    }
    Ok(Detection {
        id: get(row, "id")?,
        kind: DetectionType::parse(kind).ok_or_else(|| unknown("type", kind))?,
        severity: Severity::parse(severity).ok_or_else(|| unknown("severity", severity))?,
        status: Status::parse(status).ok_or_else(|| unknown("status", status))?,
        job: read_json("a detection's job", get(row, "job")?)?,
        time: Micros(get(row, "first_at")?).timestamp(),
        last_time: Micros(get(row, "last_at")?).timestamp(),
        count: get::<i64>(row, "count")?.unsigned_abs(),
        evidence,
        suppression: some("suppression")?,
        expected: get::<i64>(row, "expected")? != 0,
        note: some("note")?,
        changed_by: some("changed_by")?,
        changed_at: super::observe::stamp(get(row, "changed_at")?),
    })
}
