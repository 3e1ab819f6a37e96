//! `tidegate detection`: what somebody should look at, what became of it, and the rules that look for him.

use std::process::ExitCode;

use jiff::Timestamp;
use reqwest::Method;
use serde::Serialize;
use serde_json::Value;
use tidegate_control::baseline::detection::Detection;
use tidegate_control::baseline::rule::Suppression;

use super::args::record::{Detection as Args, DetectionAction, DetectionList, RuleAction, RuleAdd, Said};
use super::baseline::word;
use super::client::Client;
use super::{show, when};
use crate::Usage;
use crate::out::say;

/// What is null is as good as unsaid, here and in [`NewRule`].
#[derive(Serialize)]
struct Change<'a> {
    status: &'static str,
    note: Option<&'a str>,
    expected: Option<bool>,
}

#[derive(Serialize)]
struct NewRule<'a> {
    endpoint: &'a str,
    reason: &'a str,
    #[serde(rename = "type")]
    kind: Option<&'a str>,
    owner: Option<&'a str>,
    repo: Option<&'a str>,
    workflow: Option<&'a str>,
    process: Option<&'a str>,
    expires_at: Option<Timestamp>,
}

/// Does what was asked.
pub(super) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.remote)?;
    let json = args.remote.json;
    match &args.action {
        DetectionAction::List(which) => list(&client, which, json).await?,
        DetectionAction::Show { id } => {
            let answer = client.call(Method::GET, &["detections", id])?.send().await?;
            if json {
                show::json(&answer.json);
            } else {
                one(&answer.read()?);
            }
        }
        DetectionAction::Resolve(said) => change(&client, said, "resolved", json).await?,
        DetectionAction::Suppress(said) => change(&client, said, "suppressed", json).await?,
        DetectionAction::Reopen(said) => change(&client, said, "new", json).await?,
        DetectionAction::Rule { action } => rule(&client, action, json).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(client: &Client, which: &DetectionList, json: bool) -> anyhow::Result<()> {
    let asked = [
        ("owner", &which.owner),
        ("repo", &which.repo),
        ("job", &which.job),
        ("type", &which.kind),
        ("status", &which.status),
    ];
    let query: Vec<(&str, &str)> = asked
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.as_deref()?)))
        .collect();
    let list = client
        .list(&["detections"], &query, which.most.limit as usize)
        .await?;
    if json {
        show::json(&list.into_json());
        return Ok(());
    }
    let row = |one: Detection| {
        [
            show::cell(&one.id),
            when::show(one.last_time),
            word(&one.kind),
            word(&one.severity),
            word(&one.status),
            endpoint(&one.evidence),
            job(&one.job),
            one.count.to_string(),
        ]
    };
    let header = [
        "ID", "LAST", "TYPE", "SEVERITY", "STATUS", "ENDPOINT", "JOB", "COUNT",
    ];
    show::table(
        header,
        list.read()?.into_iter().map(row).collect(),
        "no such detection",
    );
    show::say_more(&list);
    Ok(())
}

/// A value's text, or its JSON.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => show::plain(text),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            show::plain(&value.to_string())
        }
    }
}

fn endpoint(evidence: &Value) -> String {
    let port = text(&evidence["port"]);
    let name = text(&evidence["endpoint"]);
    show::cell(&if port.is_empty() {
        name
    } else {
        format!("{name}:{port}")
    })
}

fn job(job: &Value) -> String {
    let parts = ["repo", "workflow", "job", "run_id"].map(|part| text(&job[part]));
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    show::cell(&parts.join("/"))
}

fn one(one: &Detection) {
    let mut pairs = vec![
        ("id", one.id.clone()),
        ("type", word(&one.kind)),
        ("severity", word(&one.severity)),
        ("status", word(&one.status)),
        ("job", job(&one.job)),
        ("first", when::show(one.time)),
        ("last", when::show(one.last_time)),
        ("count", one.count.to_string()),
        ("expected", one.expected.to_string()),
    ];
    pairs.extend(one.suppression.clone().map(|rule| ("suppressed by", rule)));
    pairs.extend(one.changed_by.clone().map(|by| ("changed by", by)));
    pairs.extend(one.changed_at.map(|at| ("changed", when::show(at))));
    pairs.extend(one.note.clone().map(|note| ("note", note)));
    show::pairs(&pairs);
    say!("evidence");
    for (name, value) in one.evidence.as_object().into_iter().flatten() {
        say!("  {}: {}", show::cell(name), show::cell(&text(value)));
    }
}

async fn change(client: &Client, said: &Said, status: &'static str, json: bool) -> anyhow::Result<()> {
    let change = Change {
        status,
        note: said.note.as_deref(),
        expected: said.expected,
    };
    let call = client.call(Method::PATCH, &["detections", &said.id])?;
    let answer = call.json(&change).send().await?;
    if json {
        show::json(&answer.json);
        return Ok(());
    }
    let now: Detection = answer.read()?;
    let of = if now.expected {
        "belongs to the baseline"
    } else {
        "is none of the baseline's"
    };
    say!(
        "{} is {}; {} {of}",
        show::cell(&now.id),
        word(&now.status),
        endpoint(&now.evidence)
    );
    Ok(())
}

async fn rule(client: &Client, action: &RuleAction, json: bool) -> anyhow::Result<()> {
    match action {
        RuleAction::List { most } => {
            let list = client
                .list(&["detection-suppressions"], &[], most.limit as usize)
                .await?;
            if json {
                show::json(&list.into_json());
                return Ok(());
            }
            let header = [
                "ID", "ENDPOINT", "OF", "TYPE", "PROCESS", "REASON", "EXPIRES", "BY",
            ];
            show::table(
                header,
                list.read()?.into_iter().map(row).collect(),
                "no such rule",
            );
            show::say_more(&list);
        }
        RuleAction::Add(rule) => add(client, rule, json).await?,
        RuleAction::Remove { id } => {
            client
                .call(Method::DELETE, &["detection-suppressions", id])?
                .send()
                .await?;
            if !json {
                say!("{} is removed; what it suppressed stays so", show::cell(id));
            }
        }
    }
    Ok(())
}

fn row(rule: Suppression) -> [String; 8] {
    let whose = [rule.repo.or(rule.owner), rule.workflow];
    let whose: Vec<String> = whose.into_iter().flatten().collect();
    [
        show::cell(&rule.id),
        show::cell(&rule.endpoint),
        if whose.is_empty() {
            "everybody".into()
        } else {
            show::cell(&whose.join("/"))
        },
        rule.kind.map_or_else(|| "any".into(), |kind| word(&kind)),
        show::cell(rule.process.as_deref().unwrap_or_default()),
        show::cell(&rule.reason),
        when::show_or_dash(rule.expires_at),
        show::cell(&rule.created_by),
    ]
}

async fn add(client: &Client, rule: &RuleAdd, json: bool) -> anyhow::Result<()> {
    let expires = rule
        .expires
        .map(|expiry| expiry.from(Timestamp::now()))
        .transpose();
    let new = NewRule {
        endpoint: &rule.endpoint,
        reason: &rule.reason,
        kind: rule.kind.as_deref(),
        owner: rule.owner.as_deref(),
        repo: rule.repo.as_deref(),
        workflow: rule.workflow.as_deref(),
        process: rule.process.as_deref(),
        expires_at: expires.map_err(|error| Usage(error.to_string()))?,
    };
    let call = client.call(Method::POST, &["detection-suppressions"])?;
    let answer = call.json(&new).send().await?;
    if json {
        show::json(&answer.json);
        return Ok(());
    }
    let suppressed = answer.json["suppressed"].as_u64().unwrap_or_default();
    let made: Suppression = answer.read()?;
    say!(
        "{} suppresses {} from now on, and {} that were new",
        show::cell(&made.id),
        show::cell(&made.endpoint),
        show::count(suppressed, "detection", "detections")
    );
    Ok(())
}
