//! `tidegate global-block`: what no policy can allow, and the deployment's own entries on it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use jiff::Timestamp;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use tidegate_control::model::BlockEntryView;

use super::args::things::{BlockAction, GlobalBlock as Args};
use super::client::Client;
use super::document::Document;
use super::publish::explained;
use super::when::Expiry;
use super::{show, when};
use crate::Usage;
use crate::out::say;

/// Largest list that the control plane imports, in bytes.
const MAX_LIST: usize = 4 << 20;
/// How ids of entries begin; no pattern has an underscore there.
const ID: &str = "blk_";

#[derive(Serialize)]
struct NewEntry<'a> {
    pattern: &'a str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Imported {
    added: u64,
    known: u64,
}

/// Does what was asked.
pub(super) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.remote)?;
    let json = args.remote.json;
    match &args.action {
        BlockAction::List { layer, search, most } => {
            let mut query = Vec::new();
            query.extend(layer.map(|layer| ("layer", layer.as_str())));
            query.extend(search.as_deref().map(|text| ("search", text)));
            list(&client, &query, most.limit as usize, json).await?;
        }
        BlockAction::Add {
            pattern,
            reason,
            expires,
        } => {
            let entry = NewEntry {
                pattern,
                reason,
                expires_at: end(*expires)?,
            };
            let answer = client
                .call(Method::POST, &["global-block", "entries"])?
                .json(&entry)
                .send()
                .await?;
            if json {
                show::json(&answer.json);
            } else {
                let entry: BlockEntryView = answer.read()?;
                say!(
                    "{} is blocked everywhere ({})",
                    show::cell(&entry.pattern),
                    show::cell(&entry.id)
                );
            }
        }
        BlockAction::Remove { entry } => remove(&client, entry, json).await?,
        BlockAction::Import {
            file,
            reason,
            expires,
        } => {
            import(&client, file, (reason, *expires), json).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn end(expires: Option<Expiry>) -> Result<Option<Timestamp>, Usage> {
    let at = expires.map(|expiry| expiry.from(Timestamp::now())).transpose();
    at.map_err(|error| Usage(error.to_string()))
}

async fn list(client: &Client, query: &[(&str, &str)], most: usize, json: bool) -> anyhow::Result<()> {
    let list = client.list(&["global-block", "entries"], query, most).await?;
    if json {
        show::json(&list.into_json());
        return Ok(());
    }
    let row = |entry: BlockEntryView| {
        [
            show::cell(&entry.pattern),
            entry.layer.as_str().to_owned(),
            show::cell(&entry.reason),
            when::show_or_dash(entry.expires_at),
            show::cell(&entry.created_by),
            show::cell(&entry.id),
        ]
    };
    let header = ["PATTERN", "LAYER", "REASON", "EXPIRES", "BY", "ID"];
    show::table(
        header,
        list.read()?.into_iter().map(row).collect(),
        "no such entry",
    );
    let beside = |name: &str| list.beside.get(name).cloned().unwrap_or_default();
    if let Ok(counters) = serde_json::from_value::<BTreeMap<String, u64>>(beside("counters")) {
        let counted: Vec<String> = counters
            .iter()
            .map(|(layer, count)| format!("{count} {layer}"))
            .collect();
        let checked = serde_json::from_value::<Option<Timestamp>>(beside("feed_checked_at"))
            .ok()
            .flatten();
        let feed = checked.map_or_else(
            || "no feed".to_owned(),
            |at| format!("feed current at {}", when::show(at)),
        );
        say!("\nentries: {}; {feed}", show::cell(&counted.join(", ")));
    }
    show::say_more(&list);
    Ok(())
}

/// Removes an entry by its id, or the deployment's entry that has this very pattern.
async fn remove(client: &Client, entry: &str, json: bool) -> anyhow::Result<()> {
    let id = if entry.starts_with(ID) {
        entry.to_owned()
    } else {
        let query = [("layer", "deployment"), ("search", entry)];
        let list = client
            .list(&["global-block", "entries"], &query, usize::MAX)
            .await?;
        let entries: Vec<BlockEntryView> = list.read()?;
        match entries
            .into_iter()
            .find(|one| one.pattern.eq_ignore_ascii_case(entry))
        {
            Some(found) => found.id,
            None => bail!("{entry:?} is no entry of this deployment; `global-block list` shows them"),
        }
    };
    client
        .call(Method::DELETE, &["global-block", "entries", &id])?
        .send()
        .await?;
    if !json {
        say!("{} is removed from the block list", show::cell(entry));
    }
    Ok(())
}

async fn import(client: &Client, file: &Path, why: (&str, Option<Expiry>), json: bool) -> anyhow::Result<()> {
    let document = Document::read(file, MAX_LIST)?;
    let mut call = client
        .call(Method::POST, &["global-block", "entries"])?
        .query("reason", why.0);
    if let Some(at) = end(why.1)? {
        call = call.query("expires_at", &at.to_string());
    }
    let sent = call.text(document.yaml.clone().into_bytes()).send().await;
    let answer =
        explained(sent, &document).with_context(|| format!("nothing of {} was imported", document.file))?;
    if json {
        show::json(&answer.json);
        return Ok(());
    }
    let Imported { added, known } = answer.read()?;
    say!("{added} entries added, {known} were there before");
    Ok(())
}
