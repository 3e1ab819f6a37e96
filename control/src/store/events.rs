//! Events as people and the API look at them: found by what is asked, newest first, oldest first, or in the order of
//! storing.
//!
//! Owns how much of the record one request looks at. Events are found by an index over one thing (a job, a repository,
//! else the time) and looked at in windows of [`WINDOW`] rows; everything else that is asked is compared with what stands
//! in a window. Whoever asks for what is hardly ever there gets few events, or none, and a cursor to go on from: no
//! request reads thirty days of a fleet. It writes nothing.

mod filter;
mod process;
mod query;

use std::time::Duration;

use jiff::Timestamp;
use sqlx::any::AnyRow;
use tidegate_control_wire::event::EventRecord;
use tidegate_policy::effective::Generation;
use tokio::sync::watch;
use tokio::time::Instant;

use super::pages::Filler;
use super::read::{bad_cursor, generation, get, number};
use super::rollups::{DAY, day};
use super::sql::Sql;
use super::subjects::{self, key};
use super::{Micros, Store, StoreError};
use crate::model::{EventLoss, Page, PageRequest};
use query::{Order, Question};

pub use filter::{EventFilter, NamePattern};

/// Rows that are looked at together.
const WINDOW: i64 = 10_000;
/// Windows of one request at most.
const WINDOWS: i64 = 20;
/// No request begins another window after this.
const ENOUGH: Duration = Duration::from_secs(2);
/// Losses that are told of.
const MAX_LOSSES: i64 = 100;

/// An event as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its number in the order of storing.
    pub seq: u64,
    /// When it is filed: when it happened, or little later than it was stored where its gateway's clock is ahead.
    pub at: Timestamp,
    /// The event, with the process that an agent reported for it.
    pub event: EventRecord,
}

/// Where an event stands in the order of times. As text: a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    at: i64,
    seq: i64,
}

/// Events in the order of times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventRun {
    /// The events; none does not say that there are no more.
    pub items: Vec<StoredEvent>,
    /// Where to go on; absent at the end.
    pub next: Option<Place>,
}

/// Events in the order of storing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventTail {
    /// The events; none does not say that there are no more.
    pub items: Vec<StoredEvent>,
    /// Everything up to this number was looked at.
    pub upto: u64,
    /// There is more behind it.
    pub more: bool,
}

impl Store {
    /// Events, the newest first. A page may have fewer than were asked for, or none, and still a next one. Where an id is
    /// asked for that a refusal has, permits with the same one are not looked for: nobody is shown theirs.
    pub async fn events(
        &self,
        filter: &EventFilter,
        request: &PageRequest,
    ) -> Result<Page<StoredEvent>, StoreError> {
        let from = request.after.as_deref().map(Place::parse).transpose()?;
        let indexed = self.refusals_are_indexed().await?;
        if let (Some(id), None, true) = (&filter.id, from, indexed) {
            let question = Question::of_refusal(filter, id, Order::NewestFirst)?;
            let run = self.walk(question, None, request).await?;
            if !run.items.is_empty() {
                return Ok(run.into());
            }
        }
        let question = Question::new(filter, Order::NewestFirst, indexed)?;
        Ok(self.walk(question, from, request).await?.into())
    }

    /// Events, the oldest first, behind a place: for reading all of them, piece by piece.
    pub async fn events_onwards(
        &self,
        filter: &EventFilter,
        from: Option<Place>,
        limit: u32,
    ) -> Result<EventRun, StoreError> {
        let indexed = self.refusals_are_indexed().await?;
        let question = Question::new(filter, Order::OldestFirst, indexed)?;
        let request = PageRequest { after: None, limit };
        self.walk(question, from, &request).await
    }

    /// Events behind a number, in the order of storing: what is stored later has a larger number and is seen later, so
    /// who goes on from [`EventTail::upto`] misses nothing. Times and [`EventFilter::upto`] are not looked at.
    pub async fn events_after(
        &self,
        filter: &EventFilter,
        after: u64,
        limit: u32,
    ) -> Result<EventTail, StoreError> {
        let request = PageRequest { after: None, limit };
        let newest = number(Generation(self.newest_event().await?));
        let mut upto = number(Generation(after));
        let mut filler = Filler::new(&request);
        let enough = Instant::now() + ENOUGH;
        for _ in 0..WINDOWS {
            // What was forgotten leaves a gap, which is not walked through.
            let Some(first) = self.first_after(upto).await? else {
                break;
            };
            let last = first.saturating_add(WINDOW - 1).min(newest.max(first));
            let room = request.size() - filler.len();
            let rows = query::between(filter, (first, last), room)?
                .fetch_all(self.events.read())
                .await?;
            match fill(&mut filler, &rows)? {
                Some(stopped) => {
                    upto = stopped.seq;
                    break;
                }
                None => upto = last,
            }
            if upto >= newest || Instant::now() >= enough {
                break;
            }
        }
        let mut items = filler.page(|_| String::new()).items;
        self.join_processes(&mut items).await?;
        Ok(EventTail {
            items,
            upto: upto.unsigned_abs(),
            more: upto < newest,
        })
    }

    /// The number of the newest event in the database, whichever control plane stored it; 0 when there is none.
    pub async fn newest_event(&self) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT COALESCE(MAX(seq), 0) AS newest FROM events")
            .fetch_one(self.events.read())
            .await?;
        Ok(get::<i64>(&row, "newest")?.unsigned_abs())
    }

    /// How many events a job has.
    pub async fn count_of_job(&self, job: &str) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT COUNT(*) AS count FROM events WHERE job = $1")
            .bind(key(job))
            .fetch_one(self.events.read())
            .await?;
        Ok(get::<i64>(&row, "count")?.unsigned_abs())
    }

    /// Tells of the newest event's number as soon as it is known here.
    pub fn events_news(&self) -> watch::Receiver<Generation> {
        self.events.newest()
    }

    /// Since when raw events are kept; what is older was forgotten.
    pub fn events_kept_since(&self, now: Timestamp) -> Timestamp {
        self.kept.events_from(now.into()).timestamp()
    }

    /// What gateways said in a span that they dropped, by day, the newest first: the record lacks it.
    pub async fn event_losses(
        &self,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<Vec<EventLoss>, StoreError> {
        let day = |time: Timestamp| day(time.into());
        let mut sql = Sql::new("SELECT day, gateway, lane, dropped FROM event_losses WHERE day >= ");
        sql.number(since.map_or(i64::MIN, day))
            .push(" AND day <= ")
            .number(until.map_or(i64::MAX, day))
            .push(" ORDER BY day DESC, gateway, lane LIMIT ")
            .number(MAX_LOSSES);
        let rows = sql.fetch_all(self.events.read()).await?;
        rows.iter().map(read_loss).collect()
    }

    /// Events that answer a question, window by window.
    async fn walk(
        &self,
        mut question: Question<'_>,
        from: Option<Place>,
        request: &PageRequest,
    ) -> Result<EventRun, StoreError> {
        question.behind(from);
        let mut filler = Filler::new(request);
        let mut next = None;
        let enough = Instant::now() + ENOUGH;
        for _ in 0..WINDOWS {
            let edge = self.edge(&question).await?;
            let room = request.size() - filler.len();
            let rows = question.rows(edge, room).fetch_all(self.events.read()).await?;
            let stopped = fill(&mut filler, &rows)?;
            next = stopped.or(edge);
            if stopped.is_some() || edge.is_none() || Instant::now() >= enough {
                break;
            }
            question.behind(edge);
        }
        let mut items = filler.page(|_| String::new()).items;
        self.join_processes(&mut items).await?;
        Ok(EventRun { items, next })
    }

    /// The last row of the next window; nothing when the window reaches to the end, or when every row is an answer so
    /// that a window is not needed.
    async fn edge(&self, question: &Question<'_>) -> Result<Option<Place>, StoreError> {
        let Some(sql) = question.edge(WINDOW) else {
            return Ok(None);
        };
        let rows = sql.fetch_all(self.events.read()).await?;
        rows.first().map(Place::read).transpose()
    }

    /// The first number behind another that an event has.
    async fn first_after(&self, seq: i64) -> Result<Option<i64>, StoreError> {
        let row = sqlx::query("SELECT MIN(seq) AS first FROM events WHERE seq > $1")
            .bind(seq)
            .fetch_one(self.events.read())
            .await?;
        get(&row, "first")
    }
}

impl From<EventRun> for Page<StoredEvent> {
    fn from(run: EventRun) -> Self {
        Self {
            items: run.items,
            next: run.next.map(|place| place.to_string()),
        }
    }
}

impl Place {
    /// From a cursor.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let (at, seq) = text.split_once('.').ok_or_else(bad_cursor)?;
        let part = |text: &str| text.parse().map_err(|_| bad_cursor());
        Ok(Self {
            at: part(at)?,
            seq: part(seq)?,
        })
    }

    fn of(stored: &StoredEvent) -> Self {
        Self {
            at: Micros::from(stored.at).0,
            seq: number(Generation(stored.seq)),
        }
    }

    fn read(row: &AnyRow) -> Result<Self, StoreError> {
        Ok(Self {
            at: get(row, "at")?,
            seq: get(row, "seq")?,
        })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}.{}", self.at, self.seq)
    }
}

/// Puts rows on a page. Where the page ended, when it did not take all.
fn fill(filler: &mut Filler<StoredEvent>, rows: &[AnyRow]) -> Result<Option<Place>, StoreError> {
    let mut last = None;
    for row in rows {
        let (event, bytes) = read_event(row)?;
        let place = Place::of(&event);
        if !filler.offer(event, bytes) {
            return Ok(last.or(filler.last().map(Place::of)));
        }
        last = Some(place);
    }
    Ok(None)
}

/// An event, and how long its text is.
fn read_event(row: &AnyRow) -> Result<(StoredEvent, usize), StoreError> {
    let (event, bytes) = subjects::read_event(row)?;
    let stored = StoredEvent {
        seq: generation(get(row, "seq")?).0,
        at: Micros(get(row, "at")?).timestamp(),
        event,
    };
    Ok((stored, bytes))
}

fn read_loss(row: &AnyRow) -> Result<EventLoss, StoreError> {
    let day: i64 = get(row, "day")?;
    Ok(EventLoss {
        day: Micros(day.saturating_mul(DAY))
            .timestamp()
            .strftime("%Y-%m-%d")
            .to_string(),
        gateway: get(row, "gateway")?,
        lane: get(row, "lane")?,
        dropped: get::<i64>(row, "dropped")?.unsigned_abs(),
    })
}

#[cfg(test)]
mod tests;
