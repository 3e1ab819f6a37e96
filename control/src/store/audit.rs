//! The audit log: every change by anybody, in one chain of hashes; a policy's history are its rows.

mod asked;

use serde_json::{Value, json};
use sqlx::any::AnyRow;
use tidegate_control_wire::id::is_id;

use super::chain::{Head, Verifier, canonical, entry_hash};
use super::pages::Filler;
use super::read::{bad_cursor, get};
use super::{Micros, Store, StoreError, Tx, chain, names};
use crate::model::{Actor, AuditEntry, Page, PageRequest};

use asked::{Selection, Span};

pub use asked::AuditFilter;

/// Bytes of an entry's detail at most.
const MAX_DETAIL: usize = 512 << 10;
/// Characters of a subject, of a way and of a target at most.
const MAX_WORDS: usize = 300;
/// An entry as the operation knows it; its number, time and hashes come from the transaction.
#[derive(Clone, Debug)]
pub struct AuditDraft<'a> {
    /// `policy.created` … (see [`AuditEntry::action`]).
    pub action: &'static str,
    /// Organization concerned; empty when none is.
    pub owner: &'a str,
    /// What: `policy acme/base`.
    pub target: String,
    /// The policy, by its id.
    pub policy_id: Option<&'a str>,
    /// What changed, an object without fractions. Secrets never.
    pub detail: Value,
}

impl Tx<'_> {
    /// Enters an operation in the audit log. What strangers named is stripped of control characters and cut; a detail of
    /// more than half a megabyte is left out, with its size: an entry never is the reason why an operation fails.
    pub async fn audit(&mut self, draft: AuditDraft<'_>, actor: &Actor) -> Result<(), StoreError> {
        let head = self.head().await?;
        let detail = match canonical(&draft.detail) {
            text if text.len() > MAX_DETAIL => json!({ "left_out_bytes": text.len() }),
            _ => draft.detail,
        };
        let mut entry = AuditEntry {
            seq: head.seq + 1,
            at: self.now().timestamp(),
            actor: cleaned(actor),
            action: draft.action.to_owned(),
            owner: names::clean(draft.owner, MAX_WORDS),
            target: names::clean(&draft.target, MAX_WORDS),
            policy_id: draft.policy_id.map(str::to_owned),
            detail,
            previous: head.hash,
            hash: String::new(),
        };
        entry.hash = entry_hash(&entry);
        self.append(&entry).await?;
        *self.audited() = Some(Head {
            seq: entry.seq,
            hash: entry.hash,
        });
        Ok(())
    }

    async fn append(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO audit_log (seq, at, subject, token_id, via, action, owner, target, policy_id, detail, \
             previous, hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        )
        .bind(entry.seq.cast_signed())
        .bind(Micros::from(entry.at).0)
        .bind(&entry.actor.subject)
        .bind(&entry.actor.token_id)
        .bind(&entry.actor.via)
        .bind(&entry.action)
        .bind(&entry.owner)
        .bind(&entry.target)
        .bind(&entry.policy_id)
        .bind(canonical(&entry.detail))
        .bind(&entry.previous)
        .bind(&entry.hash)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Where the chain ends: known after the transaction's first entry, else read.
    async fn head(&mut self) -> Result<Head, StoreError> {
        if let Some(head) = self.audited() {
            return Ok(head.clone());
        }
        let last = sqlx::query("SELECT seq, hash FROM audit_log ORDER BY seq DESC LIMIT 1");
        let Some(row) = last.fetch_optional(self.connection()).await? else {
            return Ok(Head::default());
        };
        Ok(Head {
            seq: get::<i64>(&row, "seq")?.cast_unsigned(),
            hash: get(&row, "hash")?,
        })
    }
}

/// Who did it, as far as it is shown on terminals and pages.
pub(super) fn cleaned(actor: &Actor) -> Actor {
    Actor {
        subject: names::clean(&actor.subject, MAX_WORDS),
        token_id: actor.token_id.as_deref().map(|id| names::clean(id, MAX_WORDS)),
        via: names::clean(&actor.via, MAX_WORDS),
    }
}

fn entry(row: &AnyRow) -> Result<AuditEntry, StoreError> {
    let detail: String = get(row, "detail")?;
    Ok(AuditEntry {
        seq: get::<i64>(row, "seq")?.cast_unsigned(),
        at: Micros(get(row, "at")?).timestamp(),
        actor: Actor {
            subject: get(row, "subject")?,
            token_id: get(row, "token_id")?,
            via: get(row, "via")?,
        },
        action: get(row, "action")?,
        owner: get(row, "owner")?,
        target: get(row, "target")?,
        policy_id: get(row, "policy_id")?,
        // Somebody's hand made it something else than JSON: its hash will tell.
        detail: serde_json::from_str(&detail).unwrap_or(Value::String(detail)),
        previous: get(row, "previous")?,
        hash: get(row, "hash")?,
    })
}

impl Store {
    /// What happened to a policy, newest first; of deleted ones too.
    pub async fn history(&self, policy_id: &str, page: &PageRequest) -> Result<Page<AuditEntry>, StoreError> {
        let known = sqlx::query("SELECT id FROM policies WHERE id = $1").bind(policy_id);
        if !is_id("pol", policy_id) || known.fetch_optional(self.db.read()).await?.is_none() {
            return Err(StoreError::not_found(format!("policy {policy_id:?}")));
        }
        let filter = AuditFilter {
            policy_id: Some(policy_id.to_owned()),
            ..AuditFilter::default()
        };
        self.audit_entries(&filter, page, true).await
    }

    /// What happened, to everybody or to one owner. `page.after` is the number of the entry before. A page ends early
    /// when its entries come to several megabytes.
    pub async fn audit_log(
        &self,
        owner: Option<&str>,
        page: &PageRequest,
        newest_first: bool,
    ) -> Result<Page<AuditEntry>, StoreError> {
        let filter = AuditFilter {
            owner: owner.map(str::to_owned),
            ..AuditFilter::default()
        };
        self.audit_entries(&filter, page, newest_first).await
    }

    /// The same of what the filter says.
    pub async fn audit_entries(
        &self,
        filter: &AuditFilter,
        page: &PageRequest,
        newest_first: bool,
    ) -> Result<Page<AuditEntry>, StoreError> {
        let owner = filter.owner.as_deref().map(names::owner).transpose()?;
        let filter = &AuditFilter {
            owner,
            ..filter.clone()
        };
        let span = self.span(filter).await?;
        let selection = Selection {
            filter,
            span,
            newest_first,
        };
        self.entries(&selection, page).await
    }

    /// Verifies the whole log as it is stored, also against the end that was found before. The outer error is the
    /// database's, the inner one the chain's.
    pub async fn verify_audit(
        &self,
        remembered: Option<Head>,
    ) -> Result<Result<Head, chain::Broken>, StoreError> {
        let mut verifier = Verifier::remembering(remembered.unwrap_or_default());
        let selection = Selection {
            filter: &AuditFilter::default(),
            span: Span::default(),
            newest_first: false,
        };
        let mut seq = i64::MIN;
        loop {
            let rows = selection.after(seq).fetch_all(self.db.read()).await?;
            for row in &rows {
                seq = get(row, "seq")?;
                if let Err(broken) = verifier.push(&entry(row)?) {
                    return Ok(Err(broken));
                }
            }
            if rows.is_empty() {
                return Ok(verifier.finish());
            }
        }
    }

    async fn entries(
        &self,
        selection: &Selection<'_>,
        page: &PageRequest,
    ) -> Result<Page<AuditEntry>, StoreError> {
        let mut seq = match page.after.as_deref() {
            Some(after) => after
                .parse::<i64>()
                .ok()
                .filter(|seq| *seq >= 0)
                .ok_or_else(bad_cursor)?,
            None if selection.newest_first => i64::MAX,
            None => 0,
        };
        let mut filler = Filler::new(page);
        loop {
            let rows = selection.after(seq).fetch_all(self.db.read()).await?;
            for row in &rows {
                seq = get(row, "seq")?;
                let bytes = get::<&str>(row, "detail")?.len();
                if !filler.offer(entry(row)?, bytes) {
                    return Ok(filler.page(|entry| entry.seq.to_string()));
                }
            }
            if rows.is_empty() {
                return Ok(filler.page(|entry| entry.seq.to_string()));
            }
        }
    }
}
