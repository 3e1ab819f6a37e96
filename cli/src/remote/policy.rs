//! `tidegate policy`: what there is, what happened to it, where it is attached.

pub(super) mod attach;
mod effective;
mod past;

use std::process::ExitCode;

use reqwest::Method;
use tidegate_control::model::{Apply, Counters, Policy, PolicyMode, PolicyVersion};

use super::args::policy::{Policy as Args, PolicyAction, PolicyApply, PolicyDelete, PolicyList, PolicyShow};
use super::client::Client;
use super::publish::{Kind, Publisher};
use super::{baseline, show, simulate, sync, when};
use crate::out::{print, say};

/// What every command about policies needs.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) json: bool,
}

/// Does what was asked.
pub(super) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let session = Session {
        client: Client::new(&args.remote)?,
        json: args.remote.json,
    };
    match &args.action {
        PolicyAction::List(which) => list(&session, which).await?,
        PolicyAction::Show(which) => one(&session, which).await?,
        PolicyAction::Apply(args) => return apply(&session, args).await,
        PolicyAction::Attach(scopes) => attach::attach(&session, scopes).await?,
        PolicyAction::Detach(scopes) => attach::detach(&session, scopes).await?,
        PolicyAction::History(which) => past::history(&session, which).await?,
        PolicyAction::Diff(which) => past::diff(&session, which).await?,
        PolicyAction::Rollback(which) => past::rollback(&session, which).await?,
        PolicyAction::Delete(which) => delete(&session, which).await?,
        PolicyAction::Effective(whose) => effective::run(&session, whose).await?,
        PolicyAction::Create(new) => baseline::create(&session.client, new, session.json).await?,
        PolicyAction::Simulate(trial) => return simulate::run(&session.client, trial, session.json).await,
        PolicyAction::Sync(directory) => return sync::run(&session.client, directory, session.json).await,
    }
    Ok(ExitCode::SUCCESS)
}

/// The spelling of a mode.
pub(super) fn mode(mode: PolicyMode) -> &'static str {
    match mode {
        PolicyMode::Block => "block",
        PolicyMode::Audit => "audit",
        PolicyMode::None => "none",
    }
}

async fn apply(session: &Session, args: &PolicyApply) -> anyhow::Result<ExitCode> {
    let apply = if args.next_job { Apply::NextJob } else { Apply::Now };
    let publisher = Publisher {
        client: &session.client,
        owner: &args.owner.owner,
        kind: Kind::Policy(apply),
        dry_run: args.dry_run,
        json: session.json,
    };
    publisher.files(&args.files, args.name.as_deref()).await
}

async fn list(session: &Session, which: &PolicyList) -> anyhow::Result<()> {
    let mut query = Vec::new();
    query.extend(which.search.as_deref().map(|text| ("search", text)));
    query.extend(which.mode.map(|mode| ("mode", mode.as_str())));
    query.extend(which.unattached.then_some(("attached", "false")));
    query.extend(which.endpoint.as_deref().map(|text| ("endpoint", text)));
    let path = ["orgs", which.owner.owner.as_str(), "policies"];
    let list = session.client.list(&path, &query, usize::MAX).await?;
    if session.json {
        show::json(&list.into_json());
        return Ok(());
    }
    let policies: Vec<Policy> = list.read()?;
    let row = |policy: Policy| {
        [
            show::cell(&policy.name),
            mode(policy.mode).to_owned(),
            policy.version.to_string(),
            policy.endpoints.to_string(),
            show::cells(&policy.attachments),
            when::show(policy.updated_at),
            show::cell(&policy.updated_by),
        ]
    };
    let header = [
        "NAME",
        "MODE",
        "VERSION",
        "ENDPOINTS",
        "ATTACHED TO",
        "UPDATED",
        "BY",
    ];
    show::table(header, policies.into_iter().map(row).collect(), "no such policy");
    let all = list.beside.get("counters").cloned().unwrap_or_default();
    if let Ok(all) = serde_json::from_value::<Counters>(all) {
        say!(
            "\n{} has {}: {} in block mode, {} in audit mode, {} unattached",
            show::cell(&which.owner.owner),
            show::count(all.total, "policy", "policies"),
            all.block,
            all.audit,
            all.unattached
        );
    }
    Ok(())
}

async fn one(session: &Session, which: &PolicyShow) -> anyhow::Result<()> {
    let path = [
        "orgs",
        which.owner.owner.as_str(),
        "policies",
        which.name.as_str(),
    ];
    let number = which.version.map(|version| version.to_string());
    let path = match &number {
        None => path.to_vec(),
        Some(number) => [path.as_slice(), &["versions", number]].concat(),
    };
    let answer = session.client.call(Method::GET, &path)?.send().await?;
    if session.json {
        show::json(&answer.json);
        return Ok(());
    }
    let (told, yaml) = if number.is_none() {
        about(answer.read()?)
    } else {
        about_version(which, answer.read()?)
    };
    if !which.yaml {
        show::pairs(&told);
        say!("");
    }
    written(&yaml, which.yaml);
    Ok(())
}

/// What is told of something above its text.
type Told = Vec<(&'static str, String)>;

fn about(policy: Policy) -> (Told, String) {
    let lockdown = if policy.lockdown {
        "decided here"
    } else {
        "left to the next scope"
    };
    let told = vec![
        ("policy", format!("{}/{}", policy.owner, policy.name)),
        ("id", policy.id),
        ("version", policy.version.to_string()),
        ("mode", mode(policy.mode).to_owned()),
        ("lockdown", lockdown.to_owned()),
        ("endpoints", policy.endpoints.to_string()),
        ("attached to", policy.attachments.join(" ")),
        ("created", when::show(policy.created_at)),
        (
            "updated",
            format!("{} by {}", when::show(policy.updated_at), policy.updated_by),
        ),
    ];
    (told, policy.yaml)
}

fn about_version(which: &PolicyShow, version: PolicyVersion) -> (Told, String) {
    let written = format!("{} by {}", when::show(version.created_at), version.created_by);
    let told = vec![
        ("policy", format!("{}/{}", which.owner.owner, which.name)),
        ("version", version.version.to_string()),
        ("written", written),
    ];
    (told, version.yaml)
}

/// A document: to the byte for a file, harmless for a terminal.
pub(super) fn written(yaml: &str, to_the_byte: bool) {
    if to_the_byte {
        print(format_args!("{yaml}"));
    } else {
        show::text(yaml);
    }
}

async fn delete(session: &Session, which: &PolicyDelete) -> anyhow::Result<()> {
    let path = [
        "orgs",
        which.owner.owner.as_str(),
        "policies",
        which.name.as_str(),
    ];
    let current = session.client.call(Method::GET, &path)?.send().await?;
    let deleting = session
        .client
        .call(Method::DELETE, &path)?
        .if_match(current.tag()?);
    let answer = deleting.send().await?;
    if session.json {
        show::json(&answer.json);
        return Ok(());
    }
    let detached: Vec<String> = answer.json["detached"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|scope| scope.as_str().map(str::to_owned))
        .collect();
    let place = if detached.is_empty() {
        "it was attached nowhere".to_owned()
    } else {
        format!("detached from {}", detached.join(" "))
    };
    say!(
        "policy {} deleted; {}",
        show::cell(&which.name),
        show::cell(&place)
    );
    Ok(())
}
