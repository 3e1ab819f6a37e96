//! Events on their way into the store: each batch one transaction, each event once.
//!
//! Owns what "once" means. A spool numbers the entries of a lane, and `event_sources` keeps, in the transaction that
//! stores them, up to which number a lane is stored: what is not above it was stored before, whatever way it came again.
//! So a lane has to be sent in order, one batch at a time: of a batch that overtakes another, the slower one counts as
//! stored already. Gaps are none of the store's business; the spool says what it dropped ([`super::losses`]).
//!
//! It never reads JSON nor trusts a time: an event of the future is filed five minutes from now at the most (its body
//! says what its gateway said), one that is older than raw events are kept only counts ([`super::rollups`]).

use std::time::Duration;

use sqlx::AnyConnection;
use tidegate_control_wire::batch::{BatchHead, BatchStored, ProcessReport};
use tidegate_control_wire::event::EventRecord;
use tidegate_control_wire::text::{cut_bytes, printable};
use tidegate_policy::effective::Generation;
use tidegate_policy::verdict::Verdict;

use super::db::Backend;
use super::observe::Seen;
use super::read::{get, number};
use super::rollups::Rollups;
use super::sql::{Sql, large_lots};
use super::strangers::Strange;
use super::subjects::{Heads, Subject, body};
use super::sums::Sums;
use super::{Micros, Store, StoreError, Tx};

/// How far ahead of the store's clock an event may be.
const AHEAD: Duration = Duration::from_mins(5);
/// Longest id of a spool, in bytes.
const MAX_SPOOL: usize = 128;
/// Longest name of a report, in bytes: 255, every one escaped. All of a report stands in one index.
const MAX_NAME: usize = 4 * 255;
/// Longest id of a job, in bytes.
const MAX_ID: usize = 128;

/// An entry of a batch.
#[derive(Clone, Debug)]
pub enum Item {
    /// A network event.
    Event(Recorded),
    /// What an agent on the runner reported.
    Report(Box<ProcessReport>),
    /// What can't be read or is somebody else's: its number is used up, nothing is stored.
    Refused,
}

/// An event and the JSON that is stored of it alone; what it has in common with others is [`super::subjects`]'s.
#[derive(Clone, Debug)]
pub struct Recorded {
    event: Box<EventRecord>,
    body: String,
}

impl From<EventRecord> for Item {
    fn from(event: EventRecord) -> Self {
        Box::new(event).into()
    }
}

impl From<Box<EventRecord>> for Item {
    fn from(event: Box<EventRecord>) -> Self {
        match body(&event) {
            Ok(body) => Self::Event(Recorded { event, body }),
            // Plain data always has a JSON form.
            Err(_) => Self::Refused,
        }
    }
}

impl From<ProcessReport> for Item {
    fn from(report: ProcessReport) -> Self {
        Box::new(report).into()
    }
}

impl From<Box<ProcessReport>> for Item {
    /// Its text is escaped and cut, as an event's is when it is read.
    fn from(mut report: Box<ProcessReport>) -> Self {
        report.process.tidy();
        for (text, most) in [(&mut report.job_id, MAX_ID), (&mut report.name, MAX_NAME)] {
            *text = cut_bytes(&printable(text), most).into();
        }
        Self::Report(report)
    }
}

/// A batch without what was stored before, parted by what happens to it.
#[derive(Default)]
struct Fresh {
    /// To be stored as they are: time, event, body, in the order of sending.
    events: Vec<Filed>,
    bodies: Vec<String>,
    /// Only counted: older than raw events are kept.
    late: Vec<Filed>,
    reports: Vec<ProcessReport>,
}

impl Store {
    /// Stores what of a batch of `gateway` is not stored yet, and answers up to where its lane is stored then. `entries`
    /// are of one lane, with their numbers there (from 1).
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a spool id that is none; nothing of the batch is stored then, nor with any other error.
    pub async fn ingest(
        &self,
        gateway: &str,
        head: BatchHead,
        mut entries: Vec<(u64, Item)>,
    ) -> Result<BatchStored, StoreError> {
        check(&head)?;
        // The watermark can't tell a number that is out of its place from one that came twice.
        if !entries.is_sorted_by_key(order) {
            entries.sort_by_key(order);
        }
        entries.dedup_by_key(|(seq, _)| *seq);
        let (gateway, store) = (gateway.to_owned(), self.clone());
        self.events
            .write_rows(entries.len(), move |tx| {
                Box::pin(async move { tx.ingest(&store, &gateway, &head, entries).await })
            })
            .await
    }
}

/// Of two with one number, what can be stored comes first.
fn order((seq, item): &(u64, Item)) -> (u64, bool) {
    (*seq, matches!(item, Item::Refused))
}

fn check(head: &BatchHead) -> Result<(), StoreError> {
    let spool = head.spool.as_str();
    if spool.is_empty() || spool.len() > MAX_SPOOL || !spool.bytes().all(|byte| byte.is_ascii_graphic()) {
        let reason = format!("a spool's id has 1 to {MAX_SPOOL} printable ASCII characters");
        return Err(StoreError::invalid("spool", reason));
    }
    Ok(())
}

impl Tx<'_> {
    async fn ingest(
        &mut self,
        store: &Store,
        gateway: &str,
        head: &BatchHead,
        entries: Vec<(u64, Item)>,
    ) -> Result<BatchStored, StoreError> {
        let source = self.source(gateway, head).await?;
        let refused = entries
            .iter()
            .filter(|(_, item)| matches!(item, Item::Refused))
            .count() as u64;
        let stored = entries
            .last()
            .map_or(0, |(seq, _)| number(Generation(*seq)))
            .max(source.stored);
        let fresh = entries
            .into_iter()
            .filter(|(seq, _)| number(Generation(*seq)) > source.stored);
        let fresh = Fresh::part(fresh.map(|(_, item)| item), self.now(), store.kept);
        let now = self.now().timestamp();
        let events = || fresh.events.iter().map(|(_, event)| event.as_ref());
        let counted = fresh.events.iter().chain(&fresh.late);
        let heads = Heads::of(&fresh.events);
        let subjects = self.subjects(&store.subjects, &heads).await?;
        // Added up and looked through while the database is busy with the first of them.
        let (inserted, (rollups, (sums, strange), seen)) = tokio::join!(
            self.insert_events(&fresh.events, &subjects, fresh.bodies),
            async {
                let rollups = Rollups::of(counted.map(|(at, event)| (&**event, *at)));
                let sums = summed(&fresh.events, &heads, &fresh.late);
                (rollups, sums, Seen::of(events(), now, &store.observing.observer))
            }
        );
        inserted?;
        self.insert_reports(&fresh.reports).await?;
        self.add_rollups(&rollups).await?;
        self.add_sums(&sums).await?;
        self.add_strangers(&store.strangers, strange).await?;
        self.note_loss(gateway, head, source.dropped).await?;
        self.observe(&store.observing.observer, seen).await?;
        self.set_source(gateway, head, stored).await?;
        if !fresh.events.is_empty() {
            self.newest_event().await?;
        }
        Ok(BatchStored {
            stored: stored.unsigned_abs(),
            refused,
        })
    }

    /// What is known of a lane. PostgreSQL's writers hold the lock of this half, SQLite has one writer: nobody changes
    /// it meanwhile.
    async fn source(&mut self, gateway: &str, head: &BatchHead) -> Result<Source, StoreError> {
        let row = sqlx::query(
            "SELECT stored, dropped FROM event_sources WHERE gateway = $1 AND spool = $2 AND lane = $3",
        )
        .bind(gateway)
        .bind(head.spool.as_str())
        .bind(head.lane.as_str())
        .fetch_optional(self.connection())
        .await?;
        let Some(row) = row else {
            return Ok(Source::default());
        };
        Ok(Source {
            stored: get(&row, "stored")?,
            dropped: get(&row, "dropped")?,
        })
    }

    async fn set_source(&mut self, gateway: &str, head: &BatchHead, stored: i64) -> Result<(), StoreError> {
        let now = self.now().0;
        sqlx::query(
            "INSERT INTO event_sources (gateway, spool, lane, stored, dropped, first_at, last_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (gateway, spool, lane) DO UPDATE SET \
             stored = excluded.stored, last_at = excluded.last_at, dropped = CASE WHEN \
             event_sources.dropped > excluded.dropped THEN event_sources.dropped ELSE excluded.dropped END",
        )
        .bind(gateway)
        .bind(head.spool.as_str())
        .bind(head.lane.as_str())
        .bind(stored)
        .bind(super::rollups::count(head.dropped))
        .bind(now)
        .bind(now)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    async fn insert_events(
        &mut self,
        events: &[Filed],
        subjects: &[Subject],
        bodies: Vec<String>,
    ) -> Result<(), StoreError> {
        self.need_days(events.iter().map(|(at, _)| *at)).await?;
        let backend = self.backend();
        let mut rows = events.iter().zip(subjects).zip(bodies);
        let mut waiting = None;
        for lot in large_lots(events.len()) {
            // Each statement is written while the database is busy with the one before.
            let (done, next) = tokio::join!(execute(waiting, self.connection()), async {
                insertion(rows.by_ref().take(lot), backend)
            });
            done?;
            waiting = Some(next);
        }
        execute(waiting, self.connection()).await
    }

    async fn insert_reports(&mut self, reports: &[ProcessReport]) -> Result<(), StoreError> {
        for report in reports {
            let address = report.address.map(|address| address.to_string());
            sqlx::query(
                "INSERT INTO process_reports (job_id, name, address, port, process, sha256, parent, at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
                 ON CONFLICT (job_id, name, address, port, process, sha256) DO UPDATE SET \
                 parent = excluded.parent, at = excluded.at",
            )
            .bind(report.job_id.as_str())
            .bind(report.name.as_str())
            .bind(address.unwrap_or_default())
            .bind(i64::from(report.port))
            .bind(report.process.name.as_str())
            .bind(report.process.sha256.as_str())
            .bind(report.process.parent.as_str())
            .bind(filed(report.time.into(), self.now()).0)
            .execute(self.connection())
            .await?;
        }
        Ok(())
    }

    /// Who waits for events is told of the last one.
    async fn newest_event(&mut self) -> Result<(), StoreError> {
        let row = sqlx::query("SELECT COALESCE(MAX(seq), 0) AS newest FROM events")
            .fetch_one(self.connection())
            .await?;
        let newest: i64 = get(&row, "newest")?;
        self.entered(Generation(newest.unsigned_abs()));
        Ok(())
    }
}

/// An event and the time that it is filed under.
type Filed = (Micros, Box<EventRecord>);

/// The sums of what is stored as it is, whose heads are known, and of what is only counted.
fn summed<'e>(events: &'e [Filed], heads: &Heads<'e>, late: &'e [Filed]) -> (Sums<'e>, Strange<'e>) {
    let (mut sums, mut strange) = (Sums::default(), Strange::default());
    sums.add(events, heads);
    strange.add(events);
    if !late.is_empty() {
        sums.add(late, &Heads::of(late));
        strange.add(late);
    }
    (sums, strange)
}

/// What is stored of an event: its time, it, its head, its body.
type Row<'e> = ((&'e Filed, &'e Subject), String);

/// The statement that stores these rows.
fn insertion<'e>(rows: impl Iterator<Item = Row<'e>>, backend: Backend) -> Sql {
    let mut sql = Sql::new("INSERT INTO events (at, subject, job, repo, endpoint, refused_id, body) VALUES ")
        .many(backend);
    for (place, (((at, event), subject), body)) in rows.enumerate() {
        sql.push(if place == 0 { "(" } else { ", (" }).number(at.0);
        for number in [subject.number, subject.job, subject.repo] {
            sql.push(", ").number(number);
        }
        sql.push(", ").text(&event.endpoint());
        let refused = event.verdict != Verdict::Permit;
        sql.push(", ").text(if refused { &event.id } else { "" });
        sql.push(", ").owned(body).push(")");
    }
    sql
}

async fn execute(sql: Option<Sql>, connection: &mut AnyConnection) -> Result<(), StoreError> {
    match sql {
        Some(sql) => sql.execute(connection).await.map(drop),
        None => Ok(()),
    }
}

/// What is known of a lane.
#[derive(Clone, Copy, Debug, Default)]
struct Source {
    stored: i64,
    dropped: i64,
}

impl Fresh {
    fn part(items: impl Iterator<Item = Item>, now: Micros, kept: super::EventRetention) -> Self {
        let (raw, counted) = (kept.events_from(now), kept.rollups_from(now));
        let mut fresh = Self::default();
        for item in items {
            match item {
                Item::Event(recorded) => {
                    let Recorded { event, body } = recorded;
                    let at = filed(event.time.into(), now);
                    if at >= raw {
                        fresh.events.push((at, event));
                        fresh.bodies.push(body);
                    } else if at >= counted {
                        fresh.late.push((at, event));
                    }
                }
                Item::Report(report) => fresh.reports.push(*report),
                Item::Refused => {}
            }
        }
        fresh
    }
}

/// The time that something is filed under.
fn filed(said: Micros, now: Micros) -> Micros {
    let ahead = i64::try_from(AHEAD.as_micros()).unwrap_or(i64::MAX);
    said.min(Micros(now.0.saturating_add(ahead)))
}
