//! What many events have in common: whose they are, from where, under which policy. Stored once a day and apart from
//! them, because it is more than half of an event's text and says the same thousands of times.
//!
//! Owns the parting of an event into that head and its own body, and the putting together. A head may be stored several
//! times (by two control planes, or when this process forgot it): nothing depends on its being there once. It stays as
//! long as events of its day or an older one ([`super::retention`]).

use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use compact_str::CompactString;
use hashbrown::HashMap;
use jiff::Timestamp;
use quick_cache::sync::Cache;
use serde::{Serialize, Serializer};
use tidegate_control_wire::event::{EventJob, EventRecord, Process};
use tidegate_policy::event::{Kind, NameSource};
use tidegate_policy::verdict::{Mode, Verdict};

use super::read::{get, json, to_json};
use super::rollups::day;
use super::sql::{Sql, lots};
use super::{Micros, StoreError, Tx};

/// Heads that are remembered; some hundred bytes each.
const KNOWN: usize = 1 << 16;
/// The days that heads are remembered of: today, yesterday, and tomorrow for clocks that are ahead. Those of older ones
/// may be forgotten meanwhile by another control plane, which keeps events for less long.
const RECENT: i64 = 1;

/// The first day whose heads stay whatever is forgotten, because somebody remembers that they are stored. Another day is
/// for clocks that differ.
pub(super) fn remembered_from(today: i64) -> i64 {
    today - RECENT - 1
}

/// By what an index finds the events of a job or a repository: half of what two texts would have to have in common for
/// nobody to find two with one key, which then would be found together. 0 for none.
pub(super) fn key(text: &str) -> i64 {
    let mut first = [0; 8];
    if !text.is_empty() {
        first.copy_from_slice(&digest(&SHA256, text.as_bytes()).as_ref()[..8]);
    }
    i64::from_be_bytes(first)
}

/// What an event has in common with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub(super) struct Head<'e> {
    schema: u32,
    gateway: &'e str,
    network: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) job: Option<&'e EventJob>,
    source: IpAddr,
    mode: Mode,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) policy: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) policy_version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) scope: Option<&'e str>,
}

/// The heads of some events, each once, and which of them each event has.
#[derive(Debug, Default)]
pub(super) struct Heads<'e> {
    /// The day that they are filed under, and the head.
    pub(super) heads: Vec<(i64, Head<'e>)>,
    /// By event, in their order: the place of its head.
    pub(super) of: Vec<usize>,
}

impl<'e> Heads<'e> {
    /// Of events, each with the time that it is filed under.
    pub(super) fn of(events: &'e [(Micros, Box<EventRecord>)]) -> Self {
        let mut places: HashMap<(i64, Head<'_>), usize> = HashMap::new();
        let mut heads = Vec::new();
        let mut of = Vec::with_capacity(events.len());
        for (at, event) in events {
            let head = (day(*at), part(event).0);
            of.push(*places.entry(head).or_insert_with(|| {
                heads.push(head);
                heads.len() - 1
            }));
        }
        Self { heads, of }
    }
}

/// What is an event's own. What is left out is what [`EventRecord`] reads where nothing stands.
#[derive(Debug, Serialize)]
struct Body<'e> {
    #[serde(serialize_with = "milliseconds")]
    time: Timestamp,
    id: &'e str,
    #[serde(skip_serializing_if = "is_none")]
    source_port: u16,
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'e str>,
    #[serde(skip_serializing_if = "is_none")]
    name_source: NameSource,
    #[serde(skip_serializing_if = "Option::is_none")]
    qtype: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rcode: Option<&'e str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    answers: &'e [CompactString],
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(skip_serializing_if = "is_none")]
    port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    original_address: Option<IpAddr>,
    verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_source: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nearest: Option<&'e str>,
    #[serde(skip_serializing_if = "is_none")]
    ech_present: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'e str>,
    #[serde(skip_serializing_if = "is_none")]
    bytes_up: u64,
    #[serde(skip_serializing_if = "is_none")]
    bytes_down: u64,
    #[serde(skip_serializing_if = "is_none")]
    duration_ms: u64,
    #[serde(skip_serializing_if = "is_one")]
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ja4: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<&'e Process>,
}

/// Parts an event. Every field is named, so that none that is added is lost.
fn part(event: &EventRecord) -> (Head<'_>, Body<'_>) {
    let EventRecord {
        schema,
        time,
        id,
        gateway,
        network,
        job,
        source,
        source_port,
        kind,
        name,
        name_source,
        qtype,
        rcode,
        answers,
        address,
        port,
        original_address,
        mode,
        verdict,
        reason,
        rule,
        rule_source,
        nearest,
        policy,
        policy_version,
        scope,
        ech_present,
        note,
        bytes_up,
        bytes_down,
        duration_ms,
        count,
        ja4,
        process,
    } = event;
    let head = Head {
        schema: *schema,
        gateway,
        network,
        job: job.as_ref(),
        source: *source,
        mode: *mode,
        policy: policy.as_deref(),
        policy_version: *policy_version,
        scope: scope.as_deref(),
    };
    let body = Body {
        time: *time,
        id,
        source_port: *source_port,
        kind: *kind,
        name: name.as_deref(),
        name_source: *name_source,
        qtype: qtype.as_deref(),
        rcode: rcode.as_deref(),
        answers,
        address: *address,
        port: *port,
        original_address: *original_address,
        verdict: *verdict,
        reason: reason.as_deref(),
        rule: rule.as_deref(),
        rule_source: rule_source.as_deref(),
        nearest: nearest.as_deref(),
        ech_present: *ech_present,
        note: note.as_deref(),
        bytes_up: *bytes_up,
        bytes_down: *bytes_down,
        duration_ms: *duration_ms,
        count: *count,
        ja4: ja4.as_deref(),
        process: process.as_ref(),
    };
    (head, body)
}

/// An event's own part, as it is stored.
pub(super) fn body(event: &EventRecord) -> Result<String, StoreError> {
    to_json(&part(event).1)
}

/// Puts an event together from what was stored: two objects, none of them empty.
pub(super) fn joined(head: &str, body: &str) -> Result<EventRecord, StoreError> {
    let head = head.strip_suffix('}').unwrap_or(head);
    let body = body.strip_prefix('{').unwrap_or(body);
    json("an event", &[head, ",", body].concat())
}

/// The head of a row that was read with it, and the event.
pub(super) fn read_event(row: &sqlx::any::AnyRow) -> Result<(EventRecord, usize), StoreError> {
    let (head, body): (&str, &str) = (get(row, "head")?, get(row, "body")?);
    Ok((joined(head, body)?, head.len() + body.len()))
}

fn milliseconds<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}

fn is_none<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
const fn is_one(count: &u64) -> bool {
    *count == 1
}

/// Where a head is stored, and by what its events are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) number: i64,
    pub(super) job: i64,
    pub(super) repo: i64,
}

/// A head of a day, by its digest.
type Known = (i64, [u8; 32]);

/// The heads that are known to be stored. They are by a commit, and stay so for as long as they are remembered.
pub(super) struct Subjects(Cache<Known, Subject>);

impl Default for Subjects {
    fn default() -> Self {
        Self(Cache::new(KNOWN))
    }
}

impl std::fmt::Debug for Subjects {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Subjects({})", self.0.len())
    }
}

/// A head that is stored yet again.
struct Missing<'e> {
    known: Known,
    subject: Subject,
    head: Head<'e>,
    text: String,
}

impl Tx<'_> {
    /// The head of each of these events; those that are not known are stored.
    pub(super) async fn subjects(
        &mut self,
        known: &Arc<Subjects>,
        heads: &Heads<'_>,
    ) -> Result<Vec<Subject>, StoreError> {
        let subjects = self.settle(known, &heads.heads).await?;
        let of = heads.of.iter();
        Ok(of.filter_map(|place| subjects.get(*place).copied()).collect())
    }

    /// Looks heads up; stores what is not known.
    async fn settle(
        &mut self,
        known: &Arc<Subjects>,
        heads: &[(i64, Head<'_>)],
    ) -> Result<Vec<Subject>, StoreError> {
        let today = day(self.now());
        let mut subjects = Vec::with_capacity(heads.len());
        let mut missing = Vec::new();
        let mut next = None;
        for (day, head) in heads.iter().copied() {
            let text = to_json(&head)?;
            let mut of = (day, [0; 32]);
            of.1.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
            let recent = (day - today).abs() <= RECENT;
            if let Some(subject) = recent.then(|| known.0.get(&of)).flatten() {
                subjects.push(subject);
                continue;
            }
            let number = match next {
                Some(number) => number,
                None => self.next_subject().await?,
            };
            next = Some(number + 1);
            let job = head.job;
            let subject = Subject {
                number,
                job: key(job.map_or("", |job| &job.id)),
                repo: key(job.map_or("", |job| &job.repo)),
            };
            subjects.push(subject);
            missing.push(Missing {
                known: of,
                subject,
                head,
                text,
            });
        }
        let learned: Vec<(Known, Subject)> = missing.iter().map(|one| (one.known, one.subject)).collect();
        self.insert_subjects(missing).await?;
        if !learned.is_empty() {
            let known = Arc::clone(known);
            self.after_commit(move || {
                for (of, subject) in learned {
                    known.0.insert(of, subject);
                }
            });
        }
        Ok(subjects)
    }

    /// The next number. Nobody else takes it: there is one writer at a time. The last one that was taken stays, so none
    /// comes again.
    async fn next_subject(&mut self) -> Result<i64, StoreError> {
        let row = sqlx::query("SELECT COALESCE(MAX(number), 0) AS last FROM event_subjects")
            .fetch_one(self.connection())
            .await?;
        Ok(get::<i64>(&row, "last")?.saturating_add(1))
    }

    async fn insert_subjects(&mut self, missing: Vec<Missing<'_>>) -> Result<(), StoreError> {
        let many = missing.len();
        let mut rows = missing.into_iter();
        for lot in lots(many) {
            let mut sql = Sql::new(
                "INSERT INTO event_subjects (number, day, gateway, owner, repo, workflow, job_id, run_id, head) VALUES ",
            )
            .many(self.backend());
            for (place, row) in rows.by_ref().take(lot).enumerate() {
                let job = row.head.job;
                sql.push(if place == 0 { "(" } else { ", (" })
                    .number(row.subject.number);
                sql.push(", ").number(row.known.0);
                for text in [
                    row.head.gateway,
                    job.map_or("", |job| &job.owner),
                    job.map_or("", |job| &job.repo),
                    job.map_or("", |job| &job.workflow),
                    job.map_or("", |job| &job.id),
                    job.map_or("", |job| &job.run_id),
                ] {
                    sql.push(", ").text(text);
                }
                sql.push(", ").owned(row.text).push(")");
            }
            sql.execute(self.connection()).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
