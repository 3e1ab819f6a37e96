//! `tidegate simulate`: a policy against what was recorded, before it is enforced.

use std::process::ExitCode;

use jiff::Timestamp;
use reqwest::Method;
use serde::Serialize;
use tidegate_control::simulate::{Change, Counted, Simulation};
use tidegate_policy::document::MAX_BYTES;

use super::args::record::Trial;
use super::client::Client;
use super::document::Document;
use super::publish::explained;
use super::when::Past;
use super::{show, when};
use crate::Usage;
use crate::out::say;

/// The policy would refuse what was let through.
const REFUSES: u8 = 4;

#[derive(Serialize)]
struct Request<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    yaml: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
}

/// Does what was asked.
pub(super) async fn run(client: &Client, trial: &Trial, json: bool) -> anyhow::Result<ExitCode> {
    let document = trial
        .file
        .as_deref()
        .map(|file| Document::read(file, MAX_BYTES))
        .transpose()?;
    let request = Request {
        yaml: document.as_ref().map(|document| document.yaml.as_str()),
        scopes: (!trial.scopes.is_empty()).then_some(trial.scopes.as_slice()),
        since: point(trial.since)?,
        until: point(trial.until)?,
    };
    let path = ["orgs", &trial.owner.owner, "policies", &trial.name, "simulate"];
    let sent = client.call(Method::POST, &path)?.json(&request).send().await;
    let answer = match &document {
        Some(document) => explained(sent, document)?,
        None => sent?,
    };
    let whole = json.then(|| answer.json.clone());
    let simulation: Simulation = answer.read()?;
    match whole {
        Some(whole) => show::json(&whole),
        None => print(&simulation),
    }
    Ok(if simulation.counts.newly_refused.calls > 0 {
        ExitCode::from(REFUSES)
    } else {
        ExitCode::SUCCESS
    })
}

fn point(past: Option<Past>) -> Result<Option<Timestamp>, Usage> {
    let at = past.map(|past| past.from(Timestamp::now())).transpose();
    at.map_err(|error| Usage(error.to_string()))
}

fn print(simulation: &Simulation) {
    let version = simulation
        .policy
        .version
        .map_or_else(String::new, |version| format!(" (version {version})"));
    say!(
        "{}{version} in {} mode at {}\n{} to {}: {}, {}\n",
        show::cell(&simulation.policy.name),
        simulation.policy.mode.as_str(),
        show::cells(&simulation.scopes),
        when::show(simulation.window.since),
        when::show(simulation.window.until),
        show::count(simulation.jobs, "job", "jobs"),
        show::count(simulation.runs, "run", "runs"),
    );
    let counts = &simulation.counts;
    section("newly refused", &simulation.newly_refused, counts.newly_refused);
    section(
        "newly permitted",
        &simulation.newly_permitted,
        counts.newly_permitted,
    );
    section(
        "would be refused if it blocked",
        &simulation.would_refuse,
        counts.would_refuse,
    );
    section("not known", &simulation.undecided, counts.undecided);
    let unchanged = &simulation.unchanged;
    say!(
        "unchanged: {} let through, {} refused",
        verdicts(unchanged.permitted),
        verdicts(unchanged.refused)
    );
    for sentence in &simulation.completeness.sentences {
        say!("note: {}", show::cell(sentence));
    }
}

fn section(title: &str, lines: &[Change], counted: Counted) {
    if lines.is_empty() {
        return;
    }
    say!("{title}: {}", verdicts(counted));
    let header = ["ENDPOINT", "PORT", "KIND", "VERDICTS", "LAST SEEN", "WHY", "JOBS"];
    show::table(header, lines.iter().map(row).collect(), "");
    if let Some(more) = counted
        .calls
        .checked_sub(lines.len() as u64)
        .filter(|more| *more > 0)
    {
        say!("… and {more} more");
    }
    say!("");
}

fn row(line: &Change) -> [String; 7] {
    let jobs: Vec<String> = line
        .jobs
        .iter()
        .map(|job| {
            let parts = [job.repo.as_str(), &job.workflow, &job.job, &job.run_id];
            let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            parts.join("/")
        })
        .collect();
    [
        show::cell(&line.endpoint),
        line.port.to_string(),
        line.kind.as_str().to_owned(),
        line.verdicts.to_string(),
        when::show(line.last_seen),
        why(line),
        show::cells(&jobs),
    ]
}

/// Why it would be decided so.
fn why(line: &Change) -> String {
    let number = line
        .line
        .map_or_else(String::new, |line| format!(" (line {line})"));
    let text = match (&line.why, &line.reason, &line.rule) {
        (Some(why), _, _) => why.clone(),
        (None, Some(reason), Some(rule)) => format!("{reason}: {rule}{number}"),
        (None, Some(reason), None) => match &line.nearest {
            Some(nearest) => format!("{reason}; nearest is {nearest}"),
            None => reason.clone(),
        },
        (None, None, Some(rule)) => format!("{rule}{number}"),
        (None, None, None) => String::new(),
    };
    show::cell(&text)
}

fn verdicts(counted: Counted) -> String {
    let calls = show::count(counted.calls, "call", "calls");
    format!(
        "{calls} ({})",
        show::count(counted.verdicts, "verdict", "verdicts")
    )
}
