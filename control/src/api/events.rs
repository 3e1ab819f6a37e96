//! Events: listed, exported, of one job. Followed in [`stream`].
//!
//! Owns how an answer is read in pieces: a page with a cursor, or lines of JSON that are made as fast as they are taken
//! and no faster. Which events answer a question is the store's. A token that is limited to owners sees events of jobs
//! of these owners and none without a job.

mod asked;
mod csv;
mod licence;
mod stream;
mod summary;

use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use futures_util::stream::try_unfold;
use jiff::Timestamp;
use serde::Serialize;
use tidegate_control_wire::event::EventRecord;
use tidegate_control_wire::summary::advice;
use utoipa::ToSchema;

use self::asked::{Format, JobEvents, WhichEvents};
use self::licence::Licence;
use super::auth::Caller;
use super::errors;
use super::extract::{Names, Params};
use super::jobs::ById;
use super::lists::{Paging, page_request};
use super::problem::Refused;
use super::state::ApiState;
use crate::model::EventLoss;
use crate::store::{EventFilter, EventRun, Place, StoreError, StoredEvent};

pub(super) use self::stream::{__path_stream_events, Streams, stream_events};
pub(super) use self::summary::{
    __path_job_summary, __path_job_summary_json, SUMMARIES, job_summary, job_summary_json, summarized,
};

/// Lines of JSON.
const NDJSON: &str = "application/x-ndjson";
/// Lines of comma-separated values.
const CSV: &str = "text/csv";
/// The number of the newest event that an answer may have: `?after=` of a stream that goes on from there.
const POSITION: HeaderName = HeaderName::from_static("tidegate-position");
/// Since when the record is complete, in an answer of lines.
const COMPLETE_SINCE: HeaderName = HeaderName::from_static("tidegate-complete-since");
/// Events that are made into lines together.
const PIECE: u32 = 200;
/// Between two pieces without an event a moment is left to others.
const BREATH: Duration = Duration::from_millis(1);

/// A page of events.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventList {
    /// The newest first, as gateways write them, with a sentence (`meaning`) beside each reason; at most as many as were asked for. Fewer, or none, may come with a next
    /// page: a request looks at a part of the record only.
    #[schema(value_type = Vec<Object>)]
    items: Vec<Told<EventRecord>>,
    /// Where the next page begins; null on the last.
    next: Option<String>,
    /// Where events before this time were asked for: they are forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    complete_since: Option<Timestamp>,
    /// On the first page: what gateways dropped in this span, of whichever jobs; the newest 100.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    losses: Vec<EventLoss>,
}

/// An event as it is shown to people.
#[derive(Debug, Serialize)]
struct Told<E> {
    #[serde(flatten)]
    event: E,
    /// What its reason means, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    meaning: Option<&'static str>,
}

impl<E: std::borrow::Borrow<EventRecord>> From<E> for Told<E> {
    fn from(event: E) -> Self {
        let reason = event.borrow().reason.as_deref().and_then(advice::reason);
        Self {
            event,
            meaning: reason.map(|reason| reason.meaning().trim()),
        }
    }
}

/// Network events: the newest first and page by page, or all of them, the oldest first, as lines.
///
/// `format=ndjson`, or `Accept: application/x-ndjson`, asks for lines of JSON, `format=csv`, or `Accept: text/csv`, for
/// comma-separated values; an export that is cut off ends without its last chunk. An unknown job, repository or name has
/// no events.
#[utoipa::path(get, path = "/events", tag = "events", params(WhichEvents),
    responses((status = 200, content((EventList = "application/json"), (String = "application/x-ndjson"), (String = "text/csv")),
        headers(("tidegate-position" = String,
            description = "the newest event's number: where a stream goes on from (`after`)")))))]
pub(super) async fn list_events(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    Params(which): Params<WhichEvents>,
) -> Result<Response, Refused> {
    answer(&state, &caller, &headers, which).await
}

/// Events of one job, like `GET /events?job=`.
#[utoipa::path(get, path = "/jobs/{id}/events", tag = "jobs", params(ById, JobEvents),
    responses((status = 200, content((EventList = "application/json"), (String = "application/x-ndjson"), (String = "text/csv")),
        headers(("tidegate-position" = String,
            description = "the newest event's number: where a stream goes on from (`after`)")))))]
pub(super) async fn job_events(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    Names(ById { id }): Names<ById>,
    Params(which): Params<JobEvents>,
) -> Result<Response, Refused> {
    answer(&state, &caller, &headers, which.of(id)).await
}

async fn answer(
    state: &ApiState,
    caller: &Caller,
    headers: &HeaderMap,
    mut which: WhichEvents,
) -> Result<Response, Refused> {
    let mut filter = which.filter(caller)?;
    let kept = state.store.events_kept_since(state.now());
    let forgotten = filter.since.is_none_or(|since| since < kept);
    let complete_since = Some(kept).filter(|_| forgotten);
    let format = which.format.unwrap_or_else(|| accepted(headers));
    // What is stored meanwhile is of no page: a stream goes on with it, once.
    let position = match which.moment()? {
        Some(position) => position,
        None => state.store.newest_event().await.map_err(errors::of_query)?,
    };
    filter.upto = Some(position);
    let mut response = match format {
        Format::Json => page(state, &filter, which, complete_since).await?.into_response(),
        Format::Ndjson | Format::Csv => lines(state, caller, (filter, format), &which).await?,
    };
    let told = response.headers_mut();
    told.insert(POSITION, HeaderValue::from(position));
    if let Some(since) = complete_since
        && format != Format::Json
        && let Ok(since) = HeaderValue::from_str(&since.to_string())
    {
        told.insert(COMPLETE_SINCE, since);
    }
    Ok(response)
}

async fn page(
    state: &ApiState,
    filter: &EventFilter,
    which: WhichEvents,
    complete_since: Option<Timestamp>,
) -> Result<axum::Json<EventList>, Refused> {
    let first = which.after.is_none();
    let request = page_request(Paging {
        after: which.after,
        limit: which.limit,
    })?;
    let found = state
        .store
        .events(filter, &request)
        .await
        .map_err(errors::of_query)?;
    let losses = if first {
        let lost = state.store.event_losses(filter.since, filter.until).await;
        lost.map_err(errors::of_query)?
    } else {
        Vec::new()
    };
    let position = filter.upto.unwrap_or_default();
    Ok(axum::Json(EventList {
        items: found
            .items
            .into_iter()
            .map(|stored| stored.event.into())
            .collect(),
        next: found.next.map(|next| format!("{next}.{position}")),
        complete_since,
        losses,
    }))
}

/// Every event of a question.
async fn lines(
    state: &ApiState,
    caller: &Caller,
    (filter, format): (EventFilter, Format),
    which: &WhichEvents,
) -> Result<Response, Refused> {
    if which.after.is_some() || which.limit.is_some() {
        let field = if which.after.is_some() { "after" } else { "limit" };
        let detail = "lines have no pages: an export goes on by `since`, and ends where who reads it ends";
        return Err(Refused::bad(field, detail));
    }
    let mut export = Export {
        state: state.clone(),
        licence: Licence::of(state, caller),
        filter,
        csv: format == Format::Csv,
    };
    // The first piece is read before anything is answered: what is wrong with the question can still be said.
    let first = export.piece(None).await.map_err(errors::of_query)?;
    let (head, media) = if export.csv {
        (csv::HEAD, CSV)
    } else {
        ("", NDJSON)
    };
    let head =
        futures_util::stream::iter((!head.is_empty()).then(|| Ok(Bytes::from_static(head.as_bytes()))));
    let rest = try_unfold((export, Some(first)), |(export, run)| export.next(run));
    Ok(([(CONTENT_TYPE, media)], Body::from_stream(head.chain(rest))).into_response())
}

/// An export on its way.
struct Export {
    state: ApiState,
    licence: Licence,
    filter: EventFilter,
    /// Comma-separated values instead of JSON.
    csv: bool,
}

impl Export {
    async fn piece(&mut self, from: Option<Place>) -> Result<EventRun, StoreError> {
        self.state.store.events_onwards(&self.filter, from, PIECE).await
    }

    /// The lines of a piece and what comes behind it. An error cuts the answer off, so that nobody takes it for whole.
    async fn next(
        mut self,
        mut run: Option<EventRun>,
    ) -> io::Result<Option<(Bytes, (Self, Option<EventRun>))>> {
        while let Some(EventRun { items, next }) = run.take() {
            if !self.licence.is_good().await {
                return Err(io::Error::other("the token is good no more"));
            }
            if next.is_some() {
                run = Some(self.piece(next).await.map_err(|error| {
                    tracing::error!(error = error.chain(), "an export of events was cut off");
                    io::Error::other(error)
                })?);
            }
            if !items.is_empty() {
                return Ok(Some((written(&items, self.csv), (self, run))));
            }
            tokio::time::sleep(BREATH).await;
        }
        Ok(None)
    }
}

fn written(items: &[StoredEvent], csv: bool) -> Bytes {
    let mut lines = Vec::with_capacity(items.len() * 1_024);
    for stored in items {
        if csv {
            csv::push(&mut lines, &stored.event);
            continue;
        }
        // Plain data with text keys always serializes, and memory takes it.
        if serde_json::to_writer(&mut lines, &stored.event).is_ok() {
            lines.push(b'\n');
        }
    }
    lines.into()
}

/// Lines where they are asked for and pages are not; whoever leaves the choice gets a page.
fn accepted(headers: &HeaderMap) -> Format {
    let media = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut media = media.flat_map(|value| value.split(',')).map(|range| {
        let media = range.split(';').next().unwrap_or_default();
        media.trim().to_ascii_lowercase()
    });
    match media.find(|media| {
        matches!(
            media.as_str(),
            NDJSON | CSV | "application/json" | "application/*" | "*/*"
        )
    }) {
        Some(media) if media == NDJSON => Format::Ndjson,
        Some(media) if media == CSV => Format::Csv,
        Some(_) | None => Format::Json,
    }
}
