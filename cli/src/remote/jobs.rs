//! `tidegate job` and `tidegate lease`: what runs where, and what a provisioner says about it.

use std::net::IpAddr;
use std::process::ExitCode;

use reqwest::Method;
use serde::{Deserialize, Serialize};
use tidegate_control::model::{Job, LeaseView};

use super::args::jobs::{Job as Args, JobAction, JobList, JobStart, Lease as LeaseArgs, LeaseAction};
use super::client::{Answer, Client};
use super::{events, show, when};
use crate::Usage;
use crate::out::say;

/// A job as it is registered. What is absent is not sent: the server's defaults hold.
#[derive(Serialize)]
struct Start<'a> {
    owner: &'a str,
    repo: &'a str,
    sources: &'a [IpAddr],
    #[serde(skip_serializing_if = "Option::is_none")]
    workflow: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runner_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    git_ref: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<&'a str>,
}

/// What is read of a registered job.
#[derive(Deserialize)]
struct Started {
    id: String,
    expires_at: jiff::Timestamp,
    policy: Option<Deciding>,
}

#[derive(Deserialize)]
struct Deciding {
    name: String,
    version: u32,
}

#[derive(Deserialize)]
struct Ended {
    id: String,
    ended: bool,
}

/// Does what was asked about jobs.
pub(super) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.remote)?;
    let json = args.remote.json;
    match &args.action {
        JobAction::List(which) => list(&client, which, json).await?,
        JobAction::Show { id } => one(client.call(Method::GET, &["jobs", id])?.send().await?, json)?,
        JobAction::Events(which) => events::of_job(&client, which, json).await?,
        JobAction::Summary { id } => events::summary(&client, id, json).await?,
        JobAction::Start(job) => start(&client, job, json).await?,
        JobAction::End { id } => {
            let call = client.call(Method::POST, &["jobs", id, "end"])?;
            ended(call.send().await?, json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Does what was asked about leases.
pub(super) async fn run_lease(args: &LeaseArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.remote)?;
    let json = args.remote.json;
    match &args.action {
        LeaseAction::List {
            source,
            network,
            group,
        } => {
            let source = source.map(|source| source.to_string());
            let mut query = Vec::new();
            query.extend(source.as_deref().map(|text| ("source", text)));
            query.extend(network.as_deref().map(|text| ("network", text)));
            query.extend(group.as_deref().map(|text| ("group", text)));
            let list = client.list(&["leases"], &query, usize::MAX).await?;
            if json {
                show::json(&list.into_json());
                return Ok(ExitCode::SUCCESS);
            }
            let row = |lease: LeaseView| {
                [
                    lease.source.to_string(),
                    show::cell(&lease.repo),
                    show::cell(&lease.network),
                    show::cell(&lease.group),
                    when::show(lease.expires_at),
                    show::cell(&lease.job_id),
                ]
            };
            let header = ["SOURCE", "REPOSITORY", "NETWORK", "GROUP", "EXPIRES", "JOB"];
            let rows = list.read()?.into_iter().map(row).collect();
            show::table(header, rows, "no such lease");
        }
        LeaseAction::End { source, network } => {
            let mut call = client
                .call(Method::DELETE, &["leases"])?
                .query("source", &source.to_string());
            if let Some(network) = network {
                call = call.query("network", network);
            }
            ended(call.send().await?, json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(client: &Client, which: &JobList, json: bool) -> anyhow::Result<()> {
    let mut query = Vec::new();
    query.extend(which.owner.as_deref().map(|text| ("owner", text)));
    query.extend(which.repo.as_deref().map(|text| ("repo", text)));
    query.extend(which.workflow.as_deref().map(|text| ("workflow", text)));
    query.extend(which.run_id.as_deref().map(|text| ("run_id", text)));
    query.extend(which.alive.then_some(("alive", "true")));
    query.extend(which.ended.then_some(("alive", "false")));
    let list = client.list(&["jobs"], &query, which.most.limit as usize).await?;
    if json {
        show::json(&list.into_json());
        return Ok(());
    }
    let row = |job: Job| {
        let sources: Vec<String> = job.lease.sources.iter().map(IpAddr::to_string).collect();
        [
            show::cell(&job.lease.id),
            show::cell(&job.lease.identity.repo),
            show::cell(&job.lease.identity.workflow),
            show::cell(&job.lease.identity.job),
            show::cells(&sources),
            job.lease.identity.assurance.as_str().to_owned(),
            when::show(job.lease.started_at),
            state(&job),
        ]
    };
    let header = [
        "JOB",
        "REPOSITORY",
        "WORKFLOW",
        "NAME",
        "SOURCES",
        "ASSURANCE",
        "STARTED",
        "STATE",
    ];
    show::table(header, list.read()?.into_iter().map(row).collect(), "no such job");
    show::say_more(&list);
    Ok(())
}

fn state(job: &Job) -> String {
    match (job.ended_at, job.ended_by) {
        (None, _) => "runs".to_owned(),
        (Some(at), Some(by)) => format!("ended {} by {}", when::show(at), by.as_str()),
        (Some(at), None) => format!("ended {}", when::show(at)),
    }
}

fn one(answer: Answer, json: bool) -> anyhow::Result<()> {
    if json {
        show::json(&answer.json);
        return Ok(());
    }
    let job: Job = answer.read()?;
    let state = state(&job);
    let lease = job.lease;
    let identity = lease.identity;
    let sources: Vec<String> = lease.sources.iter().map(IpAddr::to_string).collect();
    show::pairs(&[
        ("job", lease.id.to_string()),
        ("state", state),
        ("repository", identity.repo.to_string()),
        ("workflow", identity.workflow.to_string()),
        ("name", identity.job.to_string()),
        (
            "run",
            format!("{} attempt {}", identity.run_id, identity.run_attempt),
        ),
        ("event", identity.event.to_string()),
        ("ref", identity.git_ref.to_string()),
        ("actor", identity.actor.to_string()),
        ("runner", identity.runner_name.to_string()),
        (
            "assurance",
            format!("{} ({})", identity.assurance.as_str(), lease.credential.as_str()),
        ),
        ("sources", sources.join(" ")),
        ("network", lease.network.to_string()),
        ("cluster", identity.cluster.to_string()),
        ("gateway", lease.gateway.to_string()),
        ("group", job.group),
        ("started", when::show(lease.started_at)),
        ("expires", when::show(lease.expires_at)),
    ]);
    Ok(())
}

async fn start(client: &Client, job: &JobStart, json: bool) -> anyhow::Result<()> {
    let owner = job.repo.split_once('/').map(|(owner, _)| owner);
    let owner = owner.ok_or_else(|| Usage(format!("{:?} is no repository: write OWNER/NAME", job.repo)))?;
    let start = Start {
        owner,
        repo: &job.repo,
        sources: &job.sources,
        workflow: job.workflow.as_deref(),
        job: job.job.as_deref(),
        run_id: job.run_id.as_deref(),
        run_attempt: job.run_attempt,
        runner_name: job.runner_name.as_deref(),
        event: job.event.as_deref(),
        git_ref: job.git_ref.as_deref(),
        actor: job.actor.as_deref(),
        cluster: job.cluster.as_deref(),
    };
    let answer = client.call(Method::POST, &["jobs"])?.json(&start).send().await?;
    if json {
        show::json(&answer.json);
        return Ok(());
    }
    let started: Started = answer.read()?;
    let policy = started.policy.map_or_else(
        || "the default of its network".to_owned(),
        |policy| format!("policy {} version {}", policy.name, policy.version),
    );
    show::pairs(&[
        ("job", started.id),
        ("egress", policy),
        ("expires", when::show(started.expires_at)),
    ]);
    Ok(())
}

fn ended(answer: Answer, json: bool) -> anyhow::Result<()> {
    if json {
        show::json(&answer.json);
        return Ok(());
    }
    let Ended { id, ended } = answer.read()?;
    say!(
        "job {} {}",
        show::cell(&id),
        if ended { "ended" } else { "had ended before" }
    );
    Ok(())
}
