//! `tidegate set`: lists that an owner's policies share by `use:`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use reqwest::Method;
use serde::Serialize;
use tidegate_control::model::Set;
use tidegate_policy::document::MAX_BYTES;

use super::args::things::{Set as Args, SetAction, SetApply};
use super::client::{Answer, Client};
use super::document::{Document, check_names, name_of};
use super::policy::apply::{Checked, announce, check, explained, found};
use super::{policy, show, when};
use crate::out::say;

#[derive(Serialize)]
struct Update<'a> {
    yaml: &'a str,
}

/// Does what was asked.
pub(super) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.remote)?;
    let json = args.remote.json;
    match &args.action {
        SetAction::List { owner } => list(&client, &owner.owner, json).await?,
        SetAction::Show { name, owner, yaml } => {
            let call = client.call(Method::GET, &path(&owner.owner, name))?;
            one(call.send().await?, json, *yaml)?;
        }
        SetAction::Apply(args) => return apply(&client, args, json).await,
        SetAction::Delete { name, owner } => {
            let path = path(&owner.owner, name);
            let current = client.call(Method::GET, &path)?.send().await?;
            client.call(Method::DELETE, &path)?.if_match(current.tag()?).send().await?;
            if !json {
                say!("endpoint set {} deleted", show::cell(name));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn path<'a>(owner: &'a str, name: &'a str) -> [&'a str; 4] {
    ["orgs", owner, "endpoint-sets", name]
}

async fn list(client: &Client, owner: &str, json: bool) -> anyhow::Result<()> {
    let list = client.list(&["orgs", owner, "endpoint-sets"], &[], usize::MAX).await?;
    if json {
        show::json(&list.into_json());
        return Ok(());
    }
    let row = |set: Set| {
        [
            show::cell(&set.name),
            set.version.to_string(),
            set.endpoints.to_string(),
            show::cells(&set.used_by),
            when::show(set.updated_at),
            show::cell(&set.updated_by),
        ]
    };
    let header = ["NAME", "VERSION", "ENDPOINTS", "USED BY", "UPDATED", "BY"];
    let rows = list.read()?.into_iter().map(row).collect();
    show::table(header, rows, &format!("{owner} has no endpoint sets"));
    Ok(())
}

fn one(answer: Answer, json: bool, yaml: bool) -> anyhow::Result<()> {
    if json {
        show::json(&answer.json);
        return Ok(());
    }
    let set: Set = answer.read()?;
    if !yaml {
        show::pairs(&[
            ("set", format!("{}/{}", set.owner, set.name)),
            ("version", set.version.to_string()),
            ("endpoints", set.endpoints.to_string()),
            ("used by", set.used_by.join(" ")),
            ("updated", format!("{} by {}", when::show(set.updated_at), set.updated_by)),
        ]);
        say!("");
    }
    policy::written(&set.yaml, yaml);
    Ok(())
}

/// Applies every file in turn; the first that fails ends it.
async fn apply(client: &Client, args: &SetApply, json: bool) -> anyhow::Result<ExitCode> {
    check_names(args.files.len(), args.name.as_deref())?;
    let mut wrong = false;
    for file in &args.files {
        wrong |= !apply_one(client, args, file, json).await?;
    }
    Ok(if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Applies one file; false when a dry run found errors.
async fn apply_one(client: &Client, args: &SetApply, file: &Path, json: bool) -> anyhow::Result<bool> {
    let name = name_of(file, args.name.as_deref())?;
    let document = Document::read(file, MAX_BYTES)?;
    let owner = args.owner.owner.as_str();
    let path = path(owner, &name);
    let current = found(client.call(Method::GET, &path)?.send().await)?;
    let before: Option<Set> = current.as_ref().map(Answer::peek).transpose()?;
    let old = before.as_ref().map_or("", |set| set.yaml.as_str());
    if !json {
        announce(&name, before.as_ref().map(|set| set.version), old, &document.yaml);
    }
    if args.dry_run {
        let answer = check(client, owner, "endpoint-set", &document.yaml).await?;
        if json {
            show::json(&answer.json);
        }
        let checked: Checked = answer.read()?;
        eprint!("{}", document.render(&checked.diagnostics));
        return Ok(checked.ok);
    }
    if let (Some(answer), true) = (&current, before.is_some() && old == document.yaml) {
        if json {
            show::json(&answer.json);
        }
        return Ok(true);
    }
    let call = client.call(Method::PUT, &path)?.json(&Update { yaml: &document.yaml });
    let call = match &current {
        None => call.if_absent(),
        Some(current) => call.if_match(current.tag()?),
    };
    let answer = explained(call.send().await, &document)
        .with_context(|| format!("endpoint set {name:?} was not applied"))?;
    let set: Set = answer.peek()?;
    eprint!("{}", document.render(&set.diagnostics));
    if json {
        show::json(&answer.json);
    } else {
        say!("endpoint set {} is at version {}", show::cell(&set.name), set.version);
    }
    Ok(true)
}
