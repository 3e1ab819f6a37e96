//! `tidegate baseline` and `tidegate policy create --from-baseline`: what jobs were seen to reach, shown and taken over.

use std::process::ExitCode;

use jiff::Timestamp;
use reqwest::Method;
use serde::Serialize;
use tidegate_control::baseline::model::{Baseline, BaselineEndpoint};
use tidegate_control::model::Policy;

use super::args::record::{Baseline as Args, BaselineAction, BaselineOf, PolicyCreate, Taken};
use super::client::{Call, Client};
use super::{show, when};
use crate::Usage;
use crate::out::say;

/// What the API is asked to make a policy of.
#[derive(Serialize)]
struct FromBaseline<'a> {
    scope: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_runs: Option<u32>,
    mode: &'static str,
}

#[derive(Serialize)]
struct NewPolicy<'a> {
    name: &'a str,
    from_baseline: FromBaseline<'a>,
}

/// Does what was asked.
pub(super) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.remote)?;
    match &args.action {
        BaselineAction::Show(of) => {
            let answer = asked(&client, of)?.send().await?;
            if args.remote.json {
                show::json(&answer.json);
            } else {
                baseline(&answer.read()?);
            }
        }
        BaselineAction::Export(of) => {
            let text = asked(&client, of)?.query("format", "txt").read_text().await?;
            if args.remote.json {
                show::json(&text.lines().collect());
            } else if text.is_empty() {
                eprintln!(
                    "nothing of {} would be taken; `baseline show` says why",
                    show::cell(&of.scope)
                );
            } else {
                show::text(&text);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn asked<'c>(client: &'c Client, of: &BaselineOf) -> Result<Call<'c>, Usage> {
    let mut call = client
        .call(Method::GET, &["baselines"])?
        .query("scope", &of.scope);
    if let Some(since) = since(of.taken)? {
        call = call.query("since", &since.to_string());
    }
    if let Some(runs) = of.taken.min_runs {
        call = call.query("min_runs", &runs.to_string());
    }
    Ok(call)
}

fn since(taken: Taken) -> Result<Option<Timestamp>, Usage> {
    let since = taken.since.map(|since| since.from(Timestamp::now())).transpose();
    since.map_err(|error| Usage(error.to_string()))
}

fn baseline(baseline: &Baseline) {
    let row = |one: &BaselineEndpoint| {
        let left_out: Vec<String> = one.left_out.iter().map(word).collect();
        [
            show::cell(&one.endpoint),
            format!("{}/{}", one.port, word(&one.transport)),
            when::show(one.first_seen),
            when::show(one.last_seen),
            one.calls.to_string(),
            one.runs.to_string(),
            if one.imported { "yes" } else { "no" }.to_owned(),
            show::cells(&left_out),
        ]
    };
    let header = [
        "ENDPOINT",
        "PORT",
        "FIRST SEEN",
        "LAST SEEN",
        "CALLS",
        "RUNS",
        "IMPORTED",
        "LEFT OUT AS",
    ];
    let rows = baseline.endpoints.iter().map(row).collect();
    show::table(header, rows, "no job was seen to reach anything");
    let changed = match baseline.changed_at {
        Some(at) => format!(
            ", changed {} ({} runs ago)",
            when::show(at),
            baseline.runs_since_change
        ),
        None => String::new(),
    };
    say!(
        "\n{} is {}: {}{changed}",
        show::cell(&baseline.scope),
        word(&baseline.state),
        show::count(baseline.runs, "run", "runs")
    );
    if baseline.endpoints_dropped > 0 {
        let dropped = show::count(baseline.endpoints_dropped, "endpoint", "endpoints");
        say!("{dropped} found no room in it");
    }
}

/// One of the API's words.
pub(super) fn word(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    show::cell(value.as_str().unwrap_or_default())
}

/// `tidegate policy create`.
pub(super) async fn create(client: &Client, args: &PolicyCreate, json: bool) -> anyhow::Result<()> {
    let new = NewPolicy {
        name: &args.name,
        from_baseline: FromBaseline {
            scope: &args.from_baseline,
            since: since(args.taken)?,
            min_runs: args.taken.min_runs,
            mode: args.mode.as_str(),
        },
    };
    let call = client.call(Method::POST, &["orgs", &args.owner.owner, "policies"])?;
    let answer = call.json(&new).send().await?;
    if json {
        show::json(&answer.json);
        return Ok(());
    }
    let policy: Policy = answer.read()?;
    show::text(&policy.yaml);
    say!(
        "\n{} is made with {}, attached to nothing yet; `tidegate simulate {} --scope {}` tries it",
        show::cell(&policy.name),
        show::count(policy.endpoints.into(), "endpoint", "endpoints"),
        show::cell(&policy.name),
        show::cell(&args.from_baseline)
    );
    Ok(())
}
