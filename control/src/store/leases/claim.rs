//! One claim: checked before it waits for the writer, judged and recorded in its transaction.

use std::net::IpAddr;

use compact_str::CompactString;
use tidegate_control_wire::claim::{Claim, EndedBy, OnceProof, Refusal};
use tidegate_control_wire::record::{Ending, LeaseRecord};
use tidegate_policy::lease::MAX_SOURCES;

use super::standing::{Holder, Known, Standing};
use super::{Claimed, Fate, Refused, ending_text};
use crate::store::read::{number, to_json};
use crate::store::sql::Sql;
use crate::store::{ChangeKind, Micros, StoreError, Tx};

/// Longest text in a lease, in bytes.
const MAX_TEXT: usize = 1_024;
/// Leases that one claim replaces at most: one a source, and those that its machine held elsewhere.
const MAX_REPLACED: usize = 4 * MAX_SOURCES;

/// A claim in canonical form.
pub(super) struct Prepared {
    pub(super) record: LeaseRecord,
    pub(super) group: String,
    /// The record's sources as text.
    pub(super) sources: Vec<String>,
    pub(super) proof: Option<OnceProof>,
    replaces: Vec<CompactString>,
    granted: bool,
}

impl Prepared {
    /// Checks what can be told from the claim alone.
    pub(super) fn new(claim: &Claim, group: &str, gateway: &str) -> Result<Self, String> {
        let mut record = claim.lease.clone();
        record.gateway = gateway.into();
        record.identity = record.identity.canonical();
        record
            .sources
            .iter_mut()
            .for_each(|one| *one = one.to_canonical());
        record.sources.sort_unstable();
        record.sources.dedup();
        if record.sources.is_empty() || record.sources.len() > MAX_SOURCES {
            return Err(format!(
                "sources: a lease has 1 to {MAX_SOURCES} sources, not {}",
                record.sources.len()
            ));
        }
        if record.expires_at <= record.started_at {
            return Err("expires_at: a lease ends after it begins".into());
        }
        if claim.replaces.len() > MAX_REPLACED {
            return Err(format!(
                "replaces: a lease replaces {MAX_REPLACED} others at most"
            ));
        }
        texts(&record, group, claim)?;
        Ok(Self {
            sources: record.sources.iter().map(IpAddr::to_string).collect(),
            record,
            group: group.to_owned(),
            proof: claim.proof.clone(),
            replaces: claim.replaces.clone(),
            granted: claim.granted,
        })
    }

    /// Judges and records it, in its transaction.
    pub(super) async fn record(mut self, tx: &mut Tx<'_>) -> Result<Result<Claimed, Refused>, StoreError> {
        let standing = Standing::load(tx, &self).await?;
        if let Some(known) = standing.known {
            return Ok(self.again(known));
        }
        let now = tx.now();
        if !self.granted
            && let Err(refused) = self.judge(&standing, now)
        {
            return Ok(Err(refused));
        }
        let fate = self.fate(&standing, now);
        let ended = self.make_way(tx, &standing.holders, fate.is_none()).await?;
        // After the ends of those whose sources it takes: gateways see them in this order.
        let generation = tx
            .change_in(ChangeKind::Lease, &self.record.id, &self.group)
            .await?;
        // What was granted while control was away began where its gateway stood: a version that came since is not its.
        self.record.began = if self.granted {
            generation.min(self.record.began)
        } else {
            generation
        };
        self.insert(tx, fate).await?;
        tx.see(&self.record).await?;
        if let (Some(token), Some(used)) = (&self.record.token_id, standing.token_used) {
            let shown = Micros::from(self.record.started_at);
            tx.touch_token(token, used, shown).await?;
        }
        Ok(Ok(Claimed {
            record: self.record,
            generation,
            repeated: false,
            stands: fate.is_none(),
            ended,
        }))
    }

    /// The id is known: the same claim once more, or somebody's mistake.
    fn again(&self, known: Known) -> Result<Claimed, Refused> {
        let (mine, theirs) = (&self.record, &known.record);
        let same = known.group == self.group
            && theirs.gateway == mine.gateway
            && theirs.network == mine.network
            && theirs.sources == mine.sources
            && theirs.identity == mine.identity;
        if !same {
            return Err((Refusal::Invalid, format!("id: {} is another lease's", mine.id)));
        }
        Ok(Claimed {
            generation: known.record.began,
            record: known.record,
            repeated: true,
            stands: known.alive,
            ended: Vec::new(),
        })
    }

    fn judge(&self, standing: &Standing, now: Micros) -> Result<(), Refused> {
        if self.record.token_id.is_some() && standing.token_used.is_none() {
            let detail = "the token was revoked or has expired".to_owned();
            return Err((Refusal::TokenGone, detail));
        }
        if standing.spent_for.is_some() {
            let detail = "this proof was used for another job; a job asks for one of its own".to_owned();
            return Err((Refusal::Replayed, detail));
        }
        if let Some(proof) = &self.proof
            && Micros::from(proof.expires_at) <= now
        {
            // Whether it was used is forgotten by now; a gateway whose clock is behind still takes it.
            let detail =
                "the proof's time is over; compare the clocks of gateway and control plane".to_owned();
            return Err((Refusal::TokenGone, detail));
        }
        if Micros::from(self.record.expires_at) <= now {
            return Err((
                Refusal::Invalid,
                "expires_at: the lease's time is over".to_owned(),
            ));
        }
        let held = |one: &&Holder| one.expires > now && !self.replaces.contains(&one.id);
        match standing.holders.iter().find(held) {
            None => Ok(()),
            Some(holder) => {
                let who = if holder.repo.is_empty() {
                    &holder.owner
                } else {
                    &holder.repo
                };
                let detail = format!("{} is held by job {} ({who})", holder.source, holder.id);
                Err((Refusal::Held, detail))
            }
        }
    }

    /// How it ended already; only what was granted while control was away can have.
    fn fate(&self, standing: &Standing, now: Micros) -> Option<Fate> {
        if !self.granted {
            return None;
        }
        let quarantine = |at, by| Fate {
            at,
            by,
            ending: Ending::Quarantine,
        };
        let over = Micros::from(self.record.expires_at);
        if over <= now {
            return Some(quarantine(over, EndedBy::Expiry));
        }
        // A proof is one job's, whoever could not be asked: else a slow control plane would be a way to use it twice.
        let spent = |job: &String| !self.replaces.iter().any(|replaced| replaced == job.as_str());
        if standing.spent_for.as_ref().is_some_and(spent) {
            return Some(quarantine(now, EndedBy::Replaced));
        }
        // Two gateways of a group that could not ask each other: the newer one stands. Of two that began together the
        // one with the greater id, so that it is the same whoever is heard first. But who is known less replaces nobody
        // ("Who is asking"): a job could trade its own lease for a weaker one at a gateway that does not know it.
        let mine = (Micros::from(self.record.started_at), &self.record.id);
        let assurance = self.record.identity.assurance;
        let stays = |one: &&Holder| one.expires > now && !self.replaces.contains(&one.id);
        let wins = |one: &Holder| one.assurance > assurance || (one.started, &one.id) > mine;
        let lost = standing.holders.iter().filter(stays).any(wins);
        lost.then(|| quarantine(now, EndedBy::Replaced))
    }

    /// Ends what it replaces, and what else is on its sources when it stands.
    async fn make_way(
        &self,
        tx: &mut Tx<'_>,
        holders: &[Holder],
        stands: bool,
    ) -> Result<Vec<String>, StoreError> {
        let now = tx.now();
        let mut ended = Vec::new();
        let over = |id: &CompactString| holders.iter().any(|one| one.id == *id && one.expires <= now);
        let held = holders.iter().map(|one| &one.id).filter(|_| stands);
        for id in self.replaces.iter().chain(held) {
            let by = if over(id) {
                EndedBy::Expiry
            } else {
                EndedBy::Replaced
            };
            let fate = Fate {
                at: now,
                by,
                ending: Ending::Quarantine,
            };
            if *id != self.record.id && tx.end_lease(id, &self.group, fate).await? {
                ended.push(id.to_string());
            }
        }
        Ok(ended)
    }

    async fn insert(&self, tx: &mut Tx<'_>, fate: Option<Fate>) -> Result<(), StoreError> {
        let (record, identity) = (&self.record, &self.record.identity);
        sqlx::query(
            "INSERT INTO jobs (id, group_name, gateway, network, owner, repo, workflow, job, run_id, assurance, \
             record, began, started_at, expires_at, ended_at, ended_by, ending) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
        )
        .bind(record.id.as_str())
        .bind(&self.group)
        .bind(record.gateway.as_str())
        .bind(record.network.as_str())
        .bind(identity.owner.as_str())
        .bind(identity.repo.as_str())
        .bind(identity.workflow.as_str())
        .bind(identity.job.as_str())
        .bind(identity.run_id.as_str())
        .bind(identity.assurance.as_str())
        .bind(to_json(record)?)
        .bind(number(record.began))
        .bind(Micros::from(record.started_at).0)
        .bind(Micros::from(record.expires_at).0)
        .bind(fate.map(|fate| fate.at.0))
        .bind(fate.map(|fate| fate.by.as_str()))
        .bind(fate.map(|fate| ending_text(fate.ending)))
        .execute(&mut *tx.connection())
        .await?;
        if fate.is_none() {
            let mut held = Sql::new("INSERT INTO lease_sources (group_name, source, job_id) VALUES ");
            for (at, source) in self.sources.iter().enumerate() {
                held.push(if at == 0 { "(" } else { ", (" }).text(&self.group);
                held.push(", ").text(source).push(", ").text(&record.id).push(")");
            }
            held.execute(tx.connection()).await?;
        }
        if let Some(proof) = &self.proof {
            sqlx::query(
                "INSERT INTO proofs (issuer, key, job_id, expires_at) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (issuer, key) DO NOTHING",
            )
            .bind(&proof.issuer)
            .bind(&proof.key)
            .bind(record.id.as_str())
            .bind(Micros::from(proof.expires_at).0)
            .execute(&mut *tx.connection())
            .await?;
        }
        Ok(())
    }
}

/// Every text is short and can be stored: PostgreSQL has no NUL in texts.
fn texts(record: &LeaseRecord, group: &str, claim: &Claim) -> Result<(), String> {
    let identity = &record.identity;
    let needed = [
        ("id", record.id.as_str()),
        ("group", group),
        ("network", &record.network),
    ];
    if let Some((field, _)) = needed.iter().find(|(_, text)| text.is_empty()) {
        return Err(format!("{field}: it is empty"));
    }
    let told = [
        ("gateway", record.gateway.as_str()),
        ("owner", &identity.owner),
        ("repo", &identity.repo),
        ("workflow", &identity.workflow),
        ("job", &identity.job),
        ("run_id", &identity.run_id),
        ("runner_name", &identity.runner_name),
        ("cluster", &identity.cluster),
        ("event", &identity.event),
        ("ref", &identity.git_ref),
        ("actor", &identity.actor),
        ("head_repo", &identity.head_repo),
        ("token_id", record.token_id.as_deref().unwrap_or_default()),
    ];
    let replaced = claim.replaces.iter().map(|id| ("replaces", id.as_str()));
    let proof = claim
        .proof
        .iter()
        .flat_map(|proof| [("issuer", proof.issuer.as_str()), ("proof", &proof.key)]);
    let wrong = |(_, text): &(&str, &str)| text.len() > MAX_TEXT || text.chars().any(char::is_control);
    match needed
        .into_iter()
        .chain(told)
        .chain(replaced)
        .chain(proof)
        .find(wrong)
    {
        None => Ok(()),
        Some((field, _)) => Err(format!(
            "{field}: a text of {MAX_TEXT} bytes at most, without control characters"
        )),
    }
}
