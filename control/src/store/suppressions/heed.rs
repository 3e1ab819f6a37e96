//! Rules at work: what stores events has them in memory, and what they cover of detections that are stored already is
//! suppressed.
//!
//! Owns that a rule which stands is heeded in the end, whoever made it and whatever failed meanwhile. Driven by
//! [`super`] where somebody changes rules, and by the store's upkeep.

use std::sync::Arc;

use jiff::Timestamp;
use sqlx::any::AnyRow;

use super::read_rule;
use crate::baseline::rule::{Rule, Subject};
use crate::baseline::{DetectionType, Status};
use crate::store::observe::{Observing, Rules, target};
use crate::store::read::{self, get};
use crate::store::{StoreError, Tx};

/// New detections that are looked at in one transaction.
const LOT: i64 = 500;

impl Observing {
    /// Has the rules as they are, and suppresses what they cover of the detections that are new; how many. What was
    /// stored while a rule was new, by a control plane that did not know it yet, is found by that one.
    pub(in crate::store) async fn heed_rules(&self) -> Result<u64, StoreError> {
        self.read_rules().await?;
        if self.observer.is_swept() {
            return Ok(0);
        }
        let rules = self.observer.rules();
        let covered = self.suppress_known(&rules).await?;
        self.observer.swept(&rules.version);
        Ok(covered)
    }

    /// Reads the rules when they are others than before.
    pub(in crate::store) async fn read_rules(&self) -> Result<(), StoreError> {
        let row = sqlx::query("SELECT value FROM meta WHERE key = 'suppressions'")
            .fetch_optional(self.policies.read())
            .await?;
        let version = row.map(|row| get::<String>(&row, "value")).transpose()?;
        let version = version.unwrap_or_default();
        if version == self.observer.rules().version {
            return Ok(());
        }
        let rows = sqlx::query("SELECT * FROM detection_suppressions ORDER BY id")
            .fetch_all(self.policies.read())
            .await?;
        let mut rules = Vec::with_capacity(rows.len());
        for row in &rows {
            let read = read_rule(row).map(Rule::new);
            // What a newer program wrote covers nothing here.
            match read {
                Ok(Ok(rule)) => rules.push(rule),
                Ok(Err(error)) => tracing::warn!(%error, "a suppression rule can't be read"),
                Err(error) => tracing::warn!(error = error.chain(), "a suppression rule can't be read"),
            }
        }
        self.observer.set_rules(Rules { version, rules });
        Ok(())
    }

    /// In lots: batches of events wait in the same line.
    async fn suppress_known(&self, rules: &Arc<Rules>) -> Result<u64, StoreError> {
        if rules.rules.is_empty() {
            return Ok(0);
        }
        let (mut after, mut all) = (String::new(), 0);
        loop {
            let rules = Arc::clone(rules);
            let from = after.clone();
            let lot = self
                .events
                .write(move |tx| Box::pin(async move { tx.suppress_lot(&rules, &from).await }));
            let (last, covered) = lot.await?;
            all += covered;
            match last {
                Some(last) => after = last,
                None => return Ok(all),
            }
        }
    }
}

impl Tx<'_> {
    /// Looks at some new detections after this id; the id of the last, when there may be more.
    async fn suppress_lot(
        &mut self,
        rules: &Rules,
        after: &str,
    ) -> Result<(Option<String>, u64), StoreError> {
        let rows = sqlx::query(
            "SELECT id, type, owner, repo, workflow, job_id, endpoint, port, transport, evidence FROM detections \
             WHERE status = 'new' AND id > $1 ORDER BY id LIMIT $2",
        )
        .bind(after)
        .bind(LOT)
        .fetch_all(self.connection())
        .await?;
        let now = self.now().timestamp();
        let (mut last, mut covered) = (None, 0);
        for row in &rows {
            let id: String = get(row, "id")?;
            if let Some(rule) = covering(rules, row, now)? {
                self.suppress(&id, &rule).await?;
                covered += 1;
            }
            last = Some(id);
        }
        Ok((last.filter(|_| rows.len() == LOT as usize), covered))
    }

    async fn suppress(&mut self, id: &str, rule: &str) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE detections SET status = $2, suppression = $3, expected = 1, changed_at = $4 WHERE id = $1",
        )
        .bind(id)
        .bind(Status::Suppressed.as_str())
        .bind(rule)
        .bind(self.now().0)
        .execute(self.connection())
        .await?;
        self.accept(id, true).await
    }

    /// What a detection tells of belongs to its baselines, or does not.
    pub(in crate::store) async fn accept(
        &mut self,
        detection: &str,
        expected: bool,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE baseline_endpoints SET accepted = $2 WHERE detection = $1 AND detection <> ''")
            .bind(detection)
            .bind(i64::from(expected))
            .execute(self.connection())
            .await?;
        Ok(())
    }
}

/// The rule that covers a stored detection.
fn covering(rules: &Rules, row: &AnyRow, now: Timestamp) -> Result<Option<String>, StoreError> {
    let (Some(kind), Some(target)) = (DetectionType::parse(get(row, "type")?), target(row)?) else {
        return Ok(None);
    };
    let evidence: serde_json::Value = read::json("evidence", get(row, "evidence")?)?;
    let subject = Subject {
        kind,
        owner: get(row, "owner")?,
        repo: get(row, "repo")?,
        workflow: get(row, "workflow")?,
        target: &target,
        process: evidence["process"]["name"].as_str(),
    };
    Ok(rules.covering(&subject, now).map(|rule| rule.text().id.clone()))
}
