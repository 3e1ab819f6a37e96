//! `tidegate policy apply`: files become policies, each based on the version that was just read.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use tidegate_control::diff::Diff;
use tidegate_control::model::{Apply, DiagnosticView, Policy};
use tidegate_policy::document::MAX_BYTES;

use super::Session;
use crate::out::say;
use crate::remote::args::policy::PolicyApply;
use crate::remote::client::{Answer, CallError, Client};
use crate::remote::document::{Document, check_names, name_of};
use crate::remote::show;

#[derive(Serialize)]
struct Create<'a> {
    name: &'a str,
    yaml: &'a str,
}

#[derive(Serialize)]
struct Update<'a> {
    yaml: &'a str,
    apply: Apply,
}

#[derive(Serialize)]
struct CheckRequest<'a> {
    owner: &'a str,
    yaml: &'a str,
    kind: &'static str,
}

/// What the control plane has to say about a document.
#[derive(Debug, Deserialize)]
pub(in crate::remote) struct Checked {
    pub(in crate::remote) ok: bool,
    #[serde(default)]
    pub(in crate::remote) diagnostics: Vec<DiagnosticView>,
}

/// Applies every file in turn; the first that fails ends it.
pub(super) async fn run(session: &Session, args: &PolicyApply) -> anyhow::Result<ExitCode> {
    check_names(args.files.len(), args.name.as_deref())?;
    let mut wrong = false;
    for file in &args.files {
        wrong |= !one(session, args, file).await?;
    }
    Ok(if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Applies one file; false when a dry run found errors.
async fn one(session: &Session, args: &PolicyApply, file: &Path) -> anyhow::Result<bool> {
    let name = name_of(file, args.name.as_deref())?;
    let document = Document::read(file, MAX_BYTES)?;
    let (client, owner) = (&session.client, args.owner.owner.as_str());
    let path = ["orgs", owner, "policies", name.as_str()];
    let current = found(client.call(Method::GET, &path)?.send().await)?;
    let before: Option<Policy> = current.as_ref().map(Answer::peek).transpose()?;
    let old = before.as_ref().map_or("", |policy| policy.yaml.as_str());
    if !session.json {
        announce(&name, before.as_ref().map(|policy| policy.version), old, &document.yaml);
    }
    if args.dry_run {
        let answer = check(client, owner, "policy", &document.yaml).await?;
        if session.json {
            show::json(&answer.json);
        }
        let checked: Checked = answer.read()?;
        eprint!("{}", document.render(&checked.diagnostics));
        return Ok(checked.ok);
    }
    if let (Some(answer), true) = (&current, before.is_some() && old == document.yaml) {
        if session.json {
            show::json(&answer.json);
        }
        return Ok(true);
    }
    let call = match &current {
        None => client
            .call(Method::POST, &["orgs", owner, "policies"])?
            .json(&Create { name: &name, yaml: &document.yaml }),
        Some(current) => client.call(Method::PUT, &path)?.if_match(current.tag()?).json(&Update {
            yaml: &document.yaml,
            apply: if args.next_job { Apply::NextJob } else { Apply::Now },
        }),
    };
    let sent = call.send().await;
    let answer = explained(sent, &document).with_context(|| format!("policy {name:?} was not applied"))?;
    let policy: Policy = answer.peek()?;
    eprint!("{}", document.render(&policy.diagnostics));
    if session.json {
        show::json(&answer.json);
    } else {
        say!("policy {} is at version {}", show::cell(&policy.name), policy.version);
    }
    Ok(true)
}

/// What is about to change.
pub(in crate::remote) fn announce(name: &str, version: Option<u32>, old: &str, new: &str) {
    let name = show::cell(name);
    match version {
        None => say!("{name}: new, {}", super::count(new.lines().count() as u64, "line", "lines")),
        Some(version) if old == new => say!("{name}: unchanged, version {version}"),
        Some(version) => {
            let diff = Diff::of(old, new);
            say!("{name}: version {version} with +{} -{} lines", diff.added, diff.removed);
            show::text(&diff.unified);
            if diff.truncated {
                say!("… and more");
            }
        }
    }
}

/// What is there, or that nothing is.
pub(in crate::remote) fn found(answer: Result<Answer, CallError>) -> Result<Option<Answer>, CallError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.status() == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Shows what a refusal says about the document that was sent, with carets, as `tidegate check` does.
pub(in crate::remote) fn explained(
    answer: Result<Answer, CallError>,
    document: &Document,
) -> Result<Answer, CallError> {
    answer.inspect_err(|error| eprint!("{}", document.render(error.diagnostics())))
}

/// Asks what there is to say about a document, without storing it; `kind` is `policy` or `endpoint-set`.
pub(in crate::remote) async fn check(
    client: &Client,
    owner: &str,
    kind: &'static str,
    yaml: &str,
) -> anyhow::Result<Answer> {
    let request = CheckRequest { owner, yaml, kind };
    Ok(client.call(Method::POST, &["check"])?.json(&request).send().await?)
}
