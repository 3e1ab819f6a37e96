//! `tidegate policy attach` and `detach`.

use reqwest::Method;
use serde::Serialize;
use tidegate_control::model::Attachment;

use super::Session;
use crate::out::say;
use crate::remote::args::policy::{PolicyAttach, PolicyDetach};
use crate::remote::client::{Answer, Client};
use crate::remote::show;

/// A change of where a policy is attached.
#[derive(Debug, Default, Serialize)]
pub(in crate::remote) struct Change<'a> {
    pub(in crate::remote) add: Vec<&'a str>,
    pub(in crate::remote) remove: Vec<&'a str>,
    pub(in crate::remote) replace: bool,
}

/// Makes a change, all of it or nothing.
pub(in crate::remote) async fn send(
    client: &Client,
    (owner, name): (&str, &str),
    change: &Change<'_>,
) -> anyhow::Result<Answer> {
    let path = ["orgs", owner, "policies", name, "attachments"];
    Ok(client.call(Method::POST, &path)?.json(change).send().await?)
}

pub(super) async fn attach(session: &Session, args: &PolicyAttach) -> anyhow::Result<()> {
    let change = Change {
        add: args.scopes.iter().map(String::as_str).collect(),
        replace: args.replace,
        ..Change::default()
    };
    shown(session, &args.owner.owner, &args.name, change).await
}

pub(super) async fn detach(session: &Session, args: &PolicyDetach) -> anyhow::Result<()> {
    let change = Change {
        remove: args.scopes.iter().map(String::as_str).collect(),
        ..Change::default()
    };
    shown(session, &args.owner.owner, &args.name, change).await
}

async fn shown(session: &Session, owner: &str, name: &str, change: Change<'_>) -> anyhow::Result<()> {
    let answer = send(&session.client, (owner, name), &change).await?;
    if session.json {
        show::json(&answer.json);
        return Ok(());
    }
    let done: Attachment = answer.read()?;
    tell(&done);
    let scopes = match done.policy.attachments.join(" ") {
        scopes if scopes.is_empty() => "nowhere".to_owned(),
        scopes => format!("to {scopes}"),
    };
    say!(
        "policy {} is attached {}",
        show::cell(&done.policy.name),
        show::cell(&scopes)
    );
    Ok(())
}

/// Says who lost what, and what somebody should know.
pub(in crate::remote) fn tell(done: &Attachment) {
    for lost in &done.displaced {
        let line = format!(
            "{} was taken from policy {}/{}",
            lost.scope, lost.owner, lost.policy
        );
        say!("{}", show::cell(&line));
    }
    for warning in &done.warnings {
        eprintln!("warning: {}", show::cell(warning));
    }
}
