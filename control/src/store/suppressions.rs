//! Suppression rules: people's changes, so they stand in the half of the audit log.
//!
//! Owns what a rule may say, and its way into the store and out of it. What it does to detections is [`heed`]'s.

mod heed;

use jiff::Timestamp;
use serde_json::json;
use sqlx::any::AnyRow;
use tidegate_control_wire::id::new_id;

use super::audit::cleaned;
use super::meta::MetaKey;
use super::read::{self, get, page};
use super::sql::Sql;
use super::{AuditDraft, Micros, Store, StoreError, Tx, names};
use crate::baseline::DetectionType;
use crate::baseline::rule::{Suppression, pattern};
use crate::model::{Actor, Page, PageRequest};

/// Rules at most.
pub const MAX_SUPPRESSIONS: i64 = 1_000;
/// Longest reason, in characters.
const MAX_REASON: usize = 500;
/// Longest process, in characters.
const MAX_PROCESS: usize = 255;

/// A rule as it is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SuppressionDraft {
    /// Detections of this type only.
    pub kind: Option<DetectionType>,
    /// Of this owner's jobs only.
    pub owner: Option<String>,
    /// Of this repository's (`owner/name`) only.
    pub repo: Option<String>,
    /// Of this workflow file's only; goes with a repository.
    pub workflow: Option<String>,
    /// An endpoint pattern.
    pub endpoint: String,
    /// Reached by this process only.
    pub process: Option<String>,
    /// Why.
    pub reason: String,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

impl Store {
    /// Rules, newest first: of these owners, or all.
    pub async fn suppressions(
        &self,
        owners: &[String],
        request: &PageRequest,
    ) -> Result<Page<Suppression>, StoreError> {
        let mut sql = Sql::new("SELECT * FROM detection_suppressions WHERE 1 = 1");
        if !owners.is_empty() {
            let owners = owners.iter().map(|owner| names::owner(owner));
            let owners = owners.collect::<Result<Vec<_>, _>>()?;
            sql.push(" AND owner IN ")
                .texts(owners.iter().map(String::as_str));
        }
        if request.after.is_some() {
            sql.push(" AND id < ").text(read::cursor(request)?);
        }
        sql.push(" ORDER BY id DESC LIMIT ")
            .number(i64::from(request.size()) + 1);
        let rows = sql.fetch_all(self.db.read()).await?;
        page(rows, request, read_rule, |rule| rule.id.clone())
    }

    /// One rule.
    pub async fn suppression(&self, id: &str) -> Result<Suppression, StoreError> {
        read::storable(id).ok_or_else(|| missing(id))?;
        let row = sqlx::query("SELECT * FROM detection_suppressions WHERE id = $1")
            .bind(id)
            .fetch_optional(self.db.read())
            .await?;
        read_rule(&row.ok_or_else(|| missing(id))?)
    }

    /// Makes a rule, and suppresses what it covers of the detections that are new; how many those were.
    pub async fn add_suppression(
        &self,
        draft: &SuppressionDraft,
        actor: &Actor,
    ) -> Result<(Suppression, u64), StoreError> {
        let (rule, actor) = (checked(draft, actor)?, cleaned(actor));
        let made = rule.clone();
        self.db
            .write(move |tx| Box::pin(async move { tx.add_suppression(&made, &actor).await }))
            .await?;
        // The rule stands, whatever becomes of this: what is left is looked through beside. By a task, because who asked
        // may go away meanwhile.
        let observing = self.observing.clone();
        let heeding = tokio::spawn(async move { observing.heed_rules().await });
        let covered = heeding.await.ok().and_then(Result::ok).unwrap_or_default();
        Ok((rule, covered))
    }

    /// Removes a rule. What it suppressed stays so.
    pub async fn remove_suppression(&self, id: &str, actor: &Actor) -> Result<(), StoreError> {
        read::storable(id).ok_or_else(|| missing(id))?;
        let (id, actor) = (id.to_owned(), cleaned(actor));
        self.db
            .write(move |tx| Box::pin(async move { tx.remove_suppression(&id, &actor).await }))
            .await?;
        self.observing.read_rules().await
    }
}

fn missing(id: &str) -> StoreError {
    StoreError::not_found(format!("suppression {id:?}"))
}

/// A rule that makes sense, in canonical spelling.
fn checked(draft: &SuppressionDraft, actor: &Actor) -> Result<Suppression, StoreError> {
    let endpoint = draft.endpoint.trim().to_lowercase();
    pattern(&endpoint).map_err(|error| StoreError::invalid("endpoint", error.to_string()))?;
    let (owner, repo) = place(draft)?;
    if let Some(process) = &draft.process {
        sentence("process", process, MAX_PROCESS)?;
    }
    let now = Micros::now();
    if draft.expires_at.is_some_and(|end| Micros::from(end) <= now) {
        return Err(StoreError::invalid("expires_at", "it is over"));
    }
    Ok(Suppression {
        id: new_id("sup"),
        kind: draft.kind,
        owner,
        repo,
        workflow: draft.workflow.clone(),
        endpoint,
        process: draft.process.clone(),
        reason: sentence("reason", &draft.reason, MAX_REASON)?,
        created_by: names::clean(&actor.subject, 300),
        created_at: now.timestamp(),
        expires_at: draft.expires_at,
    })
}

/// Owner and repository that belong together.
fn place(draft: &SuppressionDraft) -> Result<(Option<String>, Option<String>), StoreError> {
    let owner = draft.owner.as_deref().map(names::owner).transpose()?;
    let Some(repo) = draft.repo.as_deref().map(str::to_lowercase) else {
        return match draft.workflow {
            Some(_) => Err(StoreError::invalid("workflow", "name its `repo`, too")),
            None => Ok((owner, None)),
        };
    };
    let text = match &draft.workflow {
        Some(workflow) => format!("workflow:{repo}/{workflow}"),
        None => format!("repo:{repo}"),
    };
    let scope = text
        .parse()
        .map_err(|_| StoreError::invalid("repo", "write OWNER/NAME, and a workflow's file name"))?;
    names::scope("repo", &scope)?;
    let of = repo.split('/').next().unwrap_or_default().to_owned();
    match owner {
        Some(owner) if owner != of => {
            let reason = format!("{repo} is not a repository of {owner}");
            Err(StoreError::invalid("repo", reason))
        }
        _ => Ok((Some(of), Some(repo))),
    }
}

/// A text that is not empty, nor too long, nor more than a line.
pub(super) fn sentence(field: &'static str, text: &str, most: usize) -> Result<String, StoreError> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > most || text.chars().any(char::is_control) {
        let reason = format!("1 to {most} characters, without control characters");
        return Err(StoreError::invalid(field, reason));
    }
    Ok(text.to_owned())
}

fn read_rule(row: &AnyRow) -> Result<Suppression, StoreError> {
    let some = |column| {
        let text: String = get(row, column)?;
        Ok::<_, StoreError>((!text.is_empty()).then_some(text))
    };
    let kind = match some("type")? {
        Some(text) => Some(
            DetectionType::parse(&text)
                .ok_or_else(|| StoreError::Unreadable(format!("a rule for {text:?}")))?,
        ),
        None => None,
    };
    Ok(Suppression {
        id: get(row, "id")?,
        kind,
        owner: some("owner")?,
        repo: some("repo")?,
        workflow: some("workflow")?,
        endpoint: get(row, "endpoint")?,
        process: some("process")?,
        reason: get(row, "reason")?,
        created_by: get(row, "created_by")?,
        created_at: Micros(get(row, "created_at")?).timestamp(),
        expires_at: get::<Option<i64>>(row, "expires_at")?.map(|at| Micros(at).timestamp()),
    })
}

impl Tx<'_> {
    async fn add_suppression(&mut self, rule: &Suppression, actor: &Actor) -> Result<(), StoreError> {
        self.expire_suppressions().await?;
        let row = sqlx::query("SELECT COUNT(*) AS rules FROM detection_suppressions")
            .fetch_one(self.connection())
            .await?;
        if get::<i64>(&row, "rules")? >= MAX_SUPPRESSIONS {
            let reason = format!("there are {MAX_SUPPRESSIONS} rules; remove some, or write wider ones");
            return Err(StoreError::Conflict { reason });
        }
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        sqlx::query(
            "INSERT INTO detection_suppressions (id, type, owner, repo, workflow, endpoint, process, reason, \
             created_by, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .bind(&rule.id)
        .bind(rule.kind.map_or("", DetectionType::as_str))
        .bind(text(&rule.owner))
        .bind(text(&rule.repo))
        .bind(text(&rule.workflow))
        .bind(&rule.endpoint)
        .bind(text(&rule.process))
        .bind(&rule.reason)
        .bind(&rule.created_by)
        .bind(Micros::from(rule.created_at).0)
        .bind(rule.expires_at.map(|at| Micros::from(at).0))
        .execute(self.connection())
        .await?;
        self.rules_changed("suppression.added", rule, actor).await
    }

    async fn remove_suppression(&mut self, id: &str, actor: &Actor) -> Result<(), StoreError> {
        let row = sqlx::query("DELETE FROM detection_suppressions WHERE id = $1 RETURNING *")
            .bind(id)
            .fetch_optional(self.connection())
            .await?;
        let rule = read_rule(&row.ok_or_else(|| missing(id))?)?;
        self.rules_changed("suppression.removed", &rule, actor).await
    }

    /// Removes rules whose time is over: they cover nothing any more.
    async fn expire_suppressions(&mut self) -> Result<(), StoreError> {
        let now = self.now().0;
        let rows = sqlx::query("DELETE FROM detection_suppressions WHERE expires_at <= $1 RETURNING *")
            .bind(now)
            .fetch_all(self.connection())
            .await?;
        for row in &rows {
            self.rules_changed("suppression.expired", &read_rule(row)?, &Actor::system())
                .await?;
        }
        Ok(())
    }

    async fn rules_changed(
        &mut self,
        action: &'static str,
        rule: &Suppression,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        self.set_meta(MetaKey::Suppressions, &new_id("rules")).await?;
        let draft = AuditDraft {
            action,
            owner: rule.owner.as_deref().unwrap_or_default(),
            target: format!("suppression {}", rule.id),
            policy_id: None,
            detail: json!(rule),
        };
        self.audit(draft, actor).await
    }
}
