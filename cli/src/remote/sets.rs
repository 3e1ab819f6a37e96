//! `tidegate set`: lists that an owner's policies share by `use:`.

use std::process::ExitCode;

use reqwest::Method;
use tidegate_control::model::Set;

use super::args::things::{Set as Args, SetAction};
use super::client::{Answer, Client};
use super::publish::{Kind, Publisher};
use super::{policy, show, when};
use crate::out::say;

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
        SetAction::Apply(args) => {
            let publisher = Publisher {
                client: &client,
                owner: &args.owner.owner,
                kind: Kind::Set,
                dry_run: args.dry_run,
                json,
            };
            return publisher.files(&args.files, args.name.as_deref()).await;
        }
        SetAction::Delete { name, owner } => {
            let path = path(&owner.owner, name);
            let current = client.call(Method::GET, &path)?.send().await?;
            client
                .call(Method::DELETE, &path)?
                .if_match(current.tag()?)
                .send()
                .await?;
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
    let list = client
        .list(&["orgs", owner, "endpoint-sets"], &[], usize::MAX)
        .await?;
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
            (
                "updated",
                format!("{} by {}", when::show(set.updated_at), set.updated_by),
            ),
        ]);
        say!("");
    }
    policy::written(&set.yaml, yaml);
    Ok(())
}
