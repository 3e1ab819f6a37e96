//! The overview: what runs now, what is refused and how that changes, what was reached first, what says nothing.
//!
//! Owns which questions are asked, and that one which can't be answered takes nothing from the others. Sums that take
//! longer load after the page, each by itself ([`parts`]).

mod parts;

use askama::Template;
use axum::Router;
use axum::extract::Query;
use axum::response::Response;
use axum::routing::get;
use jiff::SignedDuration;
use serde::Deserialize;

use crate::Ui;
use crate::chart::{Chart, Column, NARROW, WIDE};
use crate::error::{Failure, Problem};
use crate::owner::Owner;
use crate::page::{Area, Page, show};
use crate::session::Session;
use crate::text::{Text, url};
use crate::time::When;

/// Spans of the chart: what stands in the address, words, hours, and hours of a bar.
const SPANS: &[(&str, &str, u32, usize)] = &[
    ("24h", "24 hours", 24, 1),
    ("7d", "7 days", 168, 6),
    ("30d", "30 days", 720, 24),
];

pub(crate) fn routes() -> Router<Ui> {
    Router::new()
        .route("/ui/", get(overview))
        .route("/ui/overview/{part}", get(parts::part))
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    owner: Owner,
    span: String,
}

impl Asked {
    fn span(&self) -> (&'static str, &'static str, u32, usize) {
        let asked = SPANS.iter().find(|(text, ..)| *text == self.span);
        asked
            .or(SPANS.first())
            .copied()
            .unwrap_or(("24h", "24 hours", 24, 1))
    }

    /// The page with another span.
    fn with(&self, span: &str) -> String {
        url(&["ui", ""], &[("owner", self.owner.said()), ("span", span)])
    }

    /// A part of the page.
    fn part(&self, part: &str) -> String {
        url(&["ui", "overview", part], &[("owner", self.owner.said())])
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Counts {
    permit: u64,
    refuse: u64,
    would_refuse: u64,
}

#[derive(Clone, Debug, Deserialize)]
struct Hour {
    hour: When,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Debug, Deserialize)]
struct Verdicts {
    items: Vec<Hour>,
    total: Counts,
    #[serde(default)]
    complete_since: Option<When>,
}

#[derive(Clone, Debug, Deserialize)]
struct Org {
    owner: Text,
    #[serde(default)]
    jobs_alive: u64,
    #[serde(default)]
    policies: u64,
}

#[derive(Debug, Deserialize)]
struct Orgs {
    items: Vec<Org>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct DetectionCounts {
    new: u64,
    new_high: u64,
}

#[derive(Debug, Deserialize)]
struct Detections {
    counters: DetectionCounts,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct GatewayCounts {
    all: u64,
    connected: u64,
    degraded: u64,
}

#[derive(Debug, Deserialize)]
struct Gateways {
    counters: GatewayCounts,
}

/// A row of the table behind the chart.
#[derive(Debug)]
struct Row {
    from: When,
    href: String,
    counts: Counts,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    page: Page,
    asked: Asked,
    orgs: Vec<Org>,
    jobs: Option<u64>,
    verdicts: Result<Verdicts, Problem>,
    /// The same, for a desk and for a phone.
    charts: [Chart; 2],
    rows: Vec<Row>,
    detections: Option<DetectionCounts>,
    gateways: Option<GatewayCounts>,
}

impl Overview {
    /// Nothing ever happened here: what to do first.
    fn is_new(&self) -> bool {
        let no_jobs = self
            .orgs
            .iter()
            .all(|org| org.policies == 0 && org.jobs_alive == 0);
        no_jobs && self.gateways.is_some_and(|counts| counts.all == 0)
    }

    fn href(&self, verdict: &str) -> String {
        let hours = self.verdicts.as_ref().map(|found| found.items.as_slice());
        let first = hours.unwrap_or_default().first();
        let since = first.map(|first| first.hour.exact()).unwrap_or_default();
        let query = [
            ("org", self.asked.owner.name()),
            ("verdict", verdict),
            ("since", since.as_str()),
        ];
        url(&["ui", "events"], &query)
    }

    /// A list, of the same organization.
    fn list(&self, list: &str, filter: &(&str, &str)) -> String {
        url(&["ui", list], &[("owner", self.asked.owner.said()), *filter])
    }

    /// The organization is none of those that were seen.
    fn is_unseen(&self) -> bool {
        let name = self.asked.owner.name();
        !name.is_empty() && self.orgs.iter().all(|org| org.owner.raw() != name)
    }
}

async fn overview(session: Session, Query(mut asked): Query<Asked>) -> Result<Response, Failure> {
    let page = session.page("Overview", Area::Overview);
    asked.owner.settle(&page.owner, false);
    let owner = asked.owner.name().to_owned();
    let (_, _, hours, of_bar) = asked.span();
    let hours = hours.to_string();
    let verdicts = url(&["stats", "verdicts"], &[("owner", &owner), ("hours", &hours)]);
    let orgs = url(&["orgs"], &[("limit", "1000")]);
    let detections = url(&["detections"], &[("owner", &owner), ("limit", "1")]);
    let gateways = url(&["gateways"], &[("limit", "1")]);
    let (verdicts, orgs, detections, gateways) = tokio::join!(
        session.api.get::<Verdicts>(&verdicts),
        session.api.get::<Orgs>(&orgs),
        session.api.get::<Detections>(&detections),
        session.api.get::<Gateways>(&gateways),
    );
    if let Err(problem) = &verdicts
        && problem.status == 401
    {
        return Err(problem.clone().into());
    }
    let (columns, rows) = match &verdicts {
        Ok(found) => columns(&found.items, of_bar, &owner),
        Err(_) => (Vec::new(), Vec::new()),
    };
    let orgs = orgs.map(|orgs| orgs.items);
    let of = |org: &&Org| owner.is_empty() || org.owner.raw().eq_ignore_ascii_case(&owner);
    let jobs = orgs
        .as_ref()
        .ok()
        .map(|orgs| orgs.iter().filter(of).map(|org| org.jobs_alive).sum());
    Ok(show(&Overview {
        page,
        asked,
        jobs,
        orgs: orgs.unwrap_or_default(),
        verdicts,
        charts: [WIDE, NARROW].map(|frame| Chart::of(&columns, frame)),
        rows,
        detections: detections.ok().map(|found| found.counters),
        gateways: gateways.ok().map(|found| found.counters),
    }))
}

/// Hours put together to bars, and the rows of the table that says the same.
fn columns(hours: &[Hour], of_bar: usize, owner: &str) -> (Vec<Column>, Vec<Row>) {
    let mut columns = Vec::new();
    let mut rows = Vec::new();
    for lot in hours.chunks(of_bar.max(1)) {
        let (Some(first), Some(last)) = (lot.first(), lot.last()) else {
            continue;
        };
        let counts = lot.iter().fold(Counts::default(), |sum, hour| Counts {
            permit: sum.permit.saturating_add(hour.counts.permit),
            refuse: sum.refuse.saturating_add(hour.counts.refuse),
            would_refuse: sum.would_refuse.saturating_add(hour.counts.would_refuse),
        });
        let end = When(
            last.hour
                .0
                .saturating_add(SignedDuration::from_hours(1))
                .unwrap_or(last.hour.0),
        );
        let (from, until) = (first.hour.exact(), end.exact());
        let query = [
            ("org", owner),
            ("verdict", "refuse,would-refuse"),
            ("since", from.as_str()),
            ("until", until.as_str()),
        ];
        let href = url(&["ui", "events"], &query);
        columns.push(Column {
            time: time(first.hour, of_bar),
            said: said(first.hour, of_bar, counts),
            href: href.clone(),
            values: [counts.refuse, counts.would_refuse],
        });
        rows.push(Row {
            from: first.hour,
            href,
            counts,
        });
    }
    (columns, rows)
}

/// The time below a bar: the hour of a day, else the day.
fn time(when: When, of_bar: usize) -> String {
    let format = if of_bar == 1 { "%H:%M" } else { "%b %-d" };
    when.0.strftime(format).to_string()
}

fn said(when: When, of_bar: usize, counts: Counts) -> String {
    let from = when.0.strftime("%b %-d %H:%M UTC");
    let hours = if of_bar == 1 { "hour" } else { "hours" };
    format!(
        "{from}, {of_bar} {hours}: {} refused, {} would be refused",
        counts.refuse, counts.would_refuse
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn hours_become_bars_that_lead_to_their_refusals() {
        let hour = |text: &str, refuse| Hour {
            hour: When(text.parse().unwrap()),
            counts: Counts {
                permit: 100,
                refuse,
                would_refuse: 1,
            },
        };
        let hours = [
            hour("2026-11-22T10:00:00Z", 1),
            hour("2026-11-22T11:00:00Z", 2),
            hour("2026-11-22T12:00:00Z", 4),
        ];
        let (columns, rows) = columns(&hours, 2, "acme");
        assert_eq!(
            columns.iter().map(|one| one.values).collect::<Vec<_>>(),
            [[3, 2], [4, 1]]
        );
        assert_eq!(
            columns[0].href,
            "/ui/events?org=acme&verdict=refuse%2Cwould-refuse&since=2026-11-22T10%3A00%3A00Z\
             &until=2026-11-22T12%3A00%3A00Z"
        );
        assert_eq!(
            columns[1].said,
            "Nov 22 12:00 UTC, 2 hours: 4 refused, 1 would be refused"
        );
        assert_eq!((rows.len(), rows[0].counts.permit), (2, 200));
    }
}
