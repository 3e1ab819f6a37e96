//! OIDC issuers whose tokens are good, with their keys as they were last fetched: after a restart they are good at once.

use serde_json::json;
use tidegate_control_wire::oidc::Issuer;

use super::read::{get, json as read_json, to_json};
use super::{AuditDraft, ChangeKind, Store, StoreError, Tx, records};
use crate::model::Actor;

impl Store {
    /// Trusts an issuer, or takes in its new keys. False when nothing is new.
    pub async fn put_issuer(&self, issuer: &Issuer, actor: &Actor) -> Result<bool, StoreError> {
        let (issuer, actor) = (issuer.clone(), actor.clone());
        self.db
            .write(move |tx| Box::pin(async move { tx.put_issuer(&issuer, &actor).await }))
            .await
    }

    /// Trusts nobody any more but these, by their URLs.
    pub async fn remove_issuers_except(&self, kept: &[String], actor: &Actor) -> Result<(), StoreError> {
        let (kept, actor) = (kept.to_vec(), actor.clone());
        self.db
            .write(move |tx| Box::pin(async move { tx.remove_issuers_except(&kept, &actor).await }))
            .await
    }

    /// Every trusted issuer, by URL.
    pub async fn issuers(&self) -> Result<Vec<Issuer>, StoreError> {
        let mut connection = self.db.read().acquire().await?;
        records::issuers(&mut connection).await
    }
}

impl Tx<'_> {
    async fn put_issuer(&mut self, issuer: &Issuer, actor: &Actor) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT record FROM issuers WHERE issuer = $1")
            .bind(&issuer.issuer)
            .fetch_optional(&mut *self.connection())
            .await?;
        if let Some(row) = &row {
            // One that can't be read any more is written anew.
            let known: Result<Issuer, _> = read_json("an issuer", get(row, "record")?);
            if known.is_ok_and(|known| known == *issuer) {
                return Ok(false);
            }
        }
        sqlx::query(
            "INSERT INTO issuers (issuer, audience, record, updated_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (issuer) DO UPDATE SET audience = $2, record = $3, updated_at = $4",
        )
        .bind(&issuer.issuer)
        .bind(&issuer.audience)
        .bind(to_json(issuer)?)
        .bind(self.now().0)
        .execute(&mut *self.connection())
        .await?;
        self.change(ChangeKind::Issuer, &issuer.issuer).await?;
        let keys: Vec<_> = issuer.jwks.keys.iter().map(|key| &key.common.key_id).collect();
        let action = if row.is_some() {
            "issuer.updated"
        } else {
            "issuer.added"
        };
        let detail = json!({"audience": issuer.audience, "keys": keys});
        self.audit_issuer(action, &issuer.issuer, detail, actor).await?;
        Ok(true)
    }

    async fn remove_issuers_except(&mut self, kept: &[String], actor: &Actor) -> Result<(), StoreError> {
        let rows = sqlx::query("SELECT issuer FROM issuers ORDER BY issuer")
            .fetch_all(&mut *self.connection())
            .await?;
        for row in &rows {
            let url: String = get(row, "issuer")?;
            if kept.contains(&url) {
                continue;
            }
            sqlx::query("DELETE FROM issuers WHERE issuer = $1")
                .bind(&url)
                .execute(&mut *self.connection())
                .await?;
            self.change(ChangeKind::Issuer, &url).await?;
            self.audit_issuer("issuer.removed", &url, json!({}), actor)
                .await?;
        }
        Ok(())
    }

    async fn audit_issuer(
        &mut self,
        action: &'static str,
        url: &str,
        detail: serde_json::Value,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let draft = AuditDraft {
            action,
            owner: "",
            target: format!("issuer {url}"),
            policy_id: None,
            detail,
        };
        self.audit(draft, actor).await
    }
}
