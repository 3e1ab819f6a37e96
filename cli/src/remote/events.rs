//! `tidegate events`, `tidegate job events` and `tidegate job summary`: what jobs reached.
//!
//! Owns from where events are read: the newest by pages, all of them as one long answer, new ones from a stream. Which
//! events answer is the control plane's to say. How they are shown is [`show`]'s, and nothing of them reaches a terminal
//! raw.

mod follow;
mod lines;
mod show;

use std::process::ExitCode;

use jiff::Timestamp;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_control::model::EventLoss;

use self::lines::Lines;
use self::show::Shown;
use super::args::events::{Events as Args, What};
use super::args::jobs::JobEvents;
use super::client::{Call, CallError, Client};
use super::when;
use crate::Usage;

/// Events that are shown when nothing is said.
const USUAL: u32 = 100;
/// Events of a page.
const PAGE: u32 = 500;
/// Where a stream goes on from an answer.
const POSITION: &str = "tidegate-position";
/// Largest summary, in bytes: what a forge takes for one.
const MAX_SUMMARY: usize = 4 << 20;

/// A question, as parameters.
type Query = Vec<(&'static str, String)>;

/// A page of events.
#[derive(Deserialize)]
struct Page {
    items: Vec<Value>,
    next: Option<String>,
    #[serde(default)]
    complete_since: Option<Timestamp>,
    #[serde(default)]
    losses: Vec<EventLoss>,
}

/// Does what was asked.
pub(super) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.remote)?;
    let mut shown = Shown::new(args.remote.json, args.what.no_color);
    let now = Timestamp::now();
    let mut query = of_jobs(args);
    query.extend(what(&args.what));
    let filter = query.clone();
    let time = |past: &when::Past| past.from(now).map_err(|error| Usage(error.to_string()));
    for (name, past) in [("since", &args.since), ("until", &args.until)] {
        if let Some(past) = past {
            query.push((name, time(past)?.to_string()));
        }
    }
    let path = ["events"];
    let mut position = None;
    if args.all || (args.follow && args.since.is_some() && args.limit.is_none()) {
        position = all(&client, &path, &query, &mut shown).await?;
    } else if !args.follow || args.limit.is_some() {
        let limit = args.limit.unwrap_or(USUAL);
        position = newest(&client, &path, (&query, limit), &mut shown).await?;
    }
    if args.follow {
        follow::run(&client, &filter, position, &mut shown).await?;
    } else {
        shown.end("no such event");
    }
    Ok(ExitCode::SUCCESS)
}

/// `tidegate job events`.
pub(super) async fn of_job(client: &Client, args: &JobEvents, json: bool) -> anyhow::Result<()> {
    let mut shown = Shown::new(json, args.what.no_color);
    let (path, query) = (["jobs", args.id.as_str(), "events"], what(&args.what));
    if args.all {
        all(client, &path, &query, &mut shown).await?;
    } else {
        newest(client, &path, (&query, args.limit.unwrap_or(USUAL)), &mut shown).await?;
    }
    shown.end("no such event");
    Ok(())
}

/// `tidegate job summary`.
pub(super) async fn summary(client: &Client, id: &str, as_json: bool) -> anyhow::Result<()> {
    let response = client
        .call(Method::GET, &["jobs", id, "summary.md"])?
        .open()
        .await?;
    let text = lines::whole(response, client, MAX_SUMMARY).await?;
    if as_json {
        super::show::json(&json!({ "job": id, "markdown": text }));
    } else {
        super::show::text(&text);
    }
    Ok(())
}

fn of_jobs(args: &Args) -> Query {
    let given = [
        ("org", &args.org),
        ("repo", &args.repo),
        ("workflow", &args.workflow),
        ("job", &args.job),
        ("job_name", &args.job_name),
        ("run", &args.run),
        ("gateway", &args.gateway),
        ("id", &args.id),
    ];
    some(given)
}

fn what(what: &What) -> Query {
    let given = [
        ("name", &what.name),
        ("kind", &what.kind),
        ("reason", &what.reason),
    ];
    let mut query = some(given);
    if !what.verdict.is_empty() {
        let verdicts: Vec<&str> = what.verdict.iter().map(|verdict| verdict.as_str()).collect();
        query.push(("verdict", verdicts.join(",")));
    }
    query
}

fn some<const N: usize>(given: [(&'static str, &Option<String>); N]) -> Query {
    let given = given.into_iter();
    given
        .filter_map(|(name, value)| Some((name, value.clone()?)))
        .collect()
}

/// A request with a question's parameters.
fn asking<'c>(client: &'c Client, path: &[&str], query: &Query) -> Result<Call<'c>, Usage> {
    let call = client.call(Method::GET, path)?;
    Ok(query
        .iter()
        .fold(call, |call, (name, value)| call.query(name, value)))
}

/// Shows the newest events, the oldest of them first. Where a stream would go on.
async fn newest(
    client: &Client,
    path: &[&str],
    (query, limit): (&Query, u32),
    shown: &mut Shown,
) -> anyhow::Result<Option<u64>> {
    let since = query.iter().find(|(name, _)| *name == "since");
    let mut found: Vec<Value> = Vec::new();
    let mut after: Option<String> = None;
    let mut position = None;
    let looking = super::show::counter(false, "pages of the record were looked at");
    loop {
        let room = limit as usize - found.len();
        let mut call = asking(client, path, query)?.query("limit", &room.min(PAGE as usize).to_string());
        if let Some(after) = &after {
            call = call.query("after", after);
        }
        let answer = call.send().await?;
        position = position.or(number(answer.headers.get(POSITION)));
        let page: Page = answer.read()?;
        if after.is_none() {
            say_missing(since.is_some(), &page);
        }
        looking.inc(1);
        found.extend(page.items);
        found.truncate(limit as usize);
        if page.next.is_none() || page.next == after || found.len() == limit as usize {
            break;
        }
        after = page.next;
    }
    looking.finish_and_clear();
    let rows = found.into_iter().rev().map(|event| shown.row(event));
    let rows = rows.collect::<Vec<_>>();
    shown.together(rows);
    Ok(position)
}

/// Shows all events as they come. Where a stream would go on.
async fn all(
    client: &Client,
    path: &[&str],
    query: &Query,
    shown: &mut Shown,
) -> anyhow::Result<Option<u64>> {
    let call = asking(client, path, query)?.query("format", "ndjson");
    let response = call.open().await?;
    let position = number(response.headers().get(POSITION));
    let mut lines = Lines::new(response, client);
    while let Some(line) = lines.next().await? {
        let event = serde_json::from_str(&line).map_err(|error| client.strange(&error.to_string()))?;
        if !shown.event(event) {
            break;
        }
    }
    Ok(position)
}

/// Says on stderr what the record lacks.
fn say_missing(asked: bool, page: &Page) {
    if let Some(since) = page.complete_since.filter(|_| asked) {
        eprintln!("events before {} are forgotten", when::show(since));
    }
    for loss in &page.losses {
        let EventLoss {
            day,
            gateway,
            lane,
            dropped,
        } = loss;
        let gateway = super::show::cell(gateway);
        let (day, lane) = (super::show::cell(day), super::show::cell(lane));
        eprintln!("{gateway} dropped {dropped} verdicts ({lane}) on {day}: the record lacks them");
    }
}

fn number(value: Option<&reqwest::header::HeaderValue>) -> Option<u64> {
    value?.to_str().ok()?.parse().ok()
}

/// True for what another try does not mend.
fn is_final(error: &CallError) -> bool {
    let status = error.status();
    status.is_some_and(|status| (400..500).contains(&status) && !matches!(status, 408 | 429))
}
