//! `tidegate coverage`: every workflow that was seen, and what holds for it.

use std::process::ExitCode;

use jiff::Timestamp;
use serde::Deserialize;

use super::args::coverage::Coverage;
use super::client::{Client, List};
use super::{show, when};
use crate::out::say;

/// A workflow, as far as a table shows it.
#[derive(Debug, Deserialize)]
struct Row {
    owner: String,
    repo: String,
    workflow: String,
    cluster: String,
    policy: Option<Held>,
    default_policy: Option<String>,
    assurance: Option<String>,
    below_min_assurance: bool,
    last_seen: Timestamp,
    counts: Counts,
    ready_to_block: bool,
}

#[derive(Debug, Deserialize)]
struct Held {
    owner: String,
    name: String,
    mode: String,
    #[serde(default)]
    unusable: bool,
}

#[derive(Debug, Deserialize)]
struct Counts {
    refuse: u64,
    would_refuse: u64,
}

/// How many there are of each kind.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Counters {
    all: u64,
    no_policy: u64,
    ready_to_block: u64,
    below_min_assurance: u64,
}

/// Does what was asked.
pub(super) async fn run(args: &Coverage) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.remote)?;
    let query: Vec<(&str, &str)> = [("owner", args.owner.as_deref()), ("filter", args.filter())]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    let list = client
        .list(&["coverage"], &query, args.most.limit as usize)
        .await?;
    if args.remote.json {
        show::json(&list.into_json());
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Row> = list.read()?;
    let header = [
        "WORKFLOW",
        "CLUSTER",
        "POLICY",
        "MODE",
        "ASSURANCE",
        "REFUSED",
        "WOULD REFUSE",
        "LAST SEEN",
        "READY",
    ];
    show::table(
        header,
        rows.iter().map(cells).collect(),
        "no such workflow was seen",
    );
    sum(&list);
    show::say_more(&list);
    Ok(ExitCode::SUCCESS)
}

fn cells(row: &Row) -> [String; 9] {
    let (policy, mode) = match &row.policy {
        Some(held) if held.unusable => (of(held, &row.owner), "refuses everything".to_owned()),
        Some(held) => (of(held, &row.owner), mode(&held.mode).to_owned()),
        None => (
            String::new(),
            row.default_policy
                .as_ref()
                .map_or_else(String::new, |policy| format!("default: {policy}")),
        ),
    };
    let assurance = row.assurance.as_deref().unwrap_or_default();
    let below = if row.below_min_assurance { " (below)" } else { "" };
    [
        workflow(row),
        show::cell(&row.cluster),
        show::cell(&policy),
        show::cell(&mode),
        show::cell(&format!("{assurance}{below}")),
        row.counts.refuse.to_string(),
        row.counts.would_refuse.to_string(),
        when::show(row.last_seen),
        if row.ready_to_block { "yes" } else { "-" }.to_owned(),
    ]
}

/// The policy, with its owner where that is another.
fn of(held: &Held, owner: &str) -> String {
    if held.owner == owner {
        held.name.clone()
    } else {
        format!("{}/{}", held.owner, held.name)
    }
}

fn mode(mode: &str) -> &str {
    match mode {
        "none" => "lockdown only",
        mode => mode,
    }
}

/// `acme/web ci.yml`; of jobs that named less, what they named.
fn workflow(row: &Row) -> String {
    let place = if row.repo.is_empty() {
        &row.owner
    } else {
        &row.repo
    };
    match row.workflow.as_str() {
        "" => show::cell(place),
        file => show::cell(&format!("{place} {file}")),
    }
}

/// How many there are, whatever kind is listed. Of an empty store the table has said it.
fn sum(list: &List) {
    let counters = list.beside.get("counters").cloned().unwrap_or_default();
    let counters = Counters::deserialize(counters).unwrap_or_default();
    if counters.all > 0 {
        say!(
            "\n{}: {} ready to block, {} without a policy, {} below the demanded assurance",
            show::count(counters.all, "workflow", "workflows"),
            counters.ready_to_block,
            counters.no_policy,
            counters.below_min_assurance
        );
    }
}
