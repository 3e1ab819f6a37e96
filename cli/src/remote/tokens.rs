//! `tidegate token`: made, shown once, listed without their texts, taken back.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use jiff::Timestamp;
use reqwest::Method;
use serde::Deserialize;
use tidegate_control::model::{NewToken, Token};

use super::args::things::{Token as Args, TokenAction, TokenCreate};
use super::client::{Answer, Client};
use super::{show, when};
use crate::Usage;
use crate::out::say;

/// A token that was made.
#[derive(Deserialize)]
struct Made {
    id: String,
    token: String,
}

/// Does what was asked.
pub(super) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.remote)?;
    let json = args.remote.json;
    match &args.action {
        TokenAction::List => list(&client, json).await?,
        TokenAction::Create(wanted) => create(&client, wanted, json).await?,
        TokenAction::Revoke { id } => {
            let answer = client.call(Method::DELETE, &["tokens", id])?.send().await?;
            if json {
                show::json(&answer.json);
            } else {
                let token: Token = answer.read()?;
                say!(
                    "token {} ({}) is good nowhere any more",
                    show::cell(&token.id),
                    show::cell(&token.name)
                );
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(client: &Client, json: bool) -> anyhow::Result<()> {
    let list = client.list(&["tokens"], &[], usize::MAX).await?;
    if json {
        show::json(&list.into_json());
        return Ok(());
    }
    let now = Timestamp::now();
    let row = |token: Token| {
        let limits: Vec<String> = [&token.owners, &token.repos, &token.networks]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        let state = match (token.revoked_at, token.expires_at) {
            (Some(at), _) => format!("revoked {}", when::show(at)),
            (None, Some(at)) if at <= now => format!("expired {}", when::show(at)),
            (None, Some(at)) => format!("until {}", when::show(at)),
            (None, None) => "good".to_owned(),
        };
        [
            show::cell(&token.id),
            token.role.as_str().to_owned(),
            show::cell(&token.name),
            show::cells(&limits),
            state,
            when::show_or_dash(token.last_used_at),
            show::cell(&token.created_by),
        ]
    };
    let header = ["ID", "ROLE", "NAME", "LIMITED TO", "STATE", "LAST USED", "BY"];
    show::table(header, list.read()?.into_iter().map(row).collect(), "no tokens");
    Ok(())
}

async fn create(client: &Client, args: &TokenCreate, json: bool) -> anyhow::Result<()> {
    let expires_at = args
        .expires
        .map(|expiry| expiry.from(Timestamp::now()))
        .transpose();
    let wanted = NewToken {
        role: args.role,
        name: args.name.clone(),
        owners: args.owners.clone(),
        repos: args.repos.clone(),
        networks: args.networks.clone(),
        cluster: args.cluster.clone(),
        expires_at: expires_at.map_err(|error| Usage(error.to_string()))?,
    };
    let call = client.call(Method::POST, &["tokens"])?.json(&wanted);
    if let Some(file) = &args.out {
        // Made before the token is: a token whose text can't be kept is never made.
        let mut out = new_file(file)?;
        let made = match call.send().await {
            Ok(answer) => answer.read::<Made>()?,
            Err(error) => {
                drop(std::fs::remove_file(file));
                return Err(error.into());
            }
        };
        keep(&mut out, &made.token)
            .with_context(|| format!("the text of token {} was not written; revoke it", made.id))?;
        say!("token {} is in {}", show::cell(&made.id), file.display());
        return Ok(());
    }
    shown(call.send().await?, args.quiet, json)
}

/// The one time that the text is seen.
fn shown(answer: Answer, quiet: bool, json: bool) -> anyhow::Result<()> {
    if json {
        show::json(&answer.json);
        return Ok(());
    }
    let made: Made = answer.read()?;
    if quiet {
        say!("{}", made.token);
        return Ok(());
    }
    show::pairs(&[("id", made.id), ("token", made.token)]);
    eprintln!("this is the only time that the token's text is shown");
    Ok(())
}

/// A new file for its owner only; one that is there is never written over.
fn new_file(file: &Path) -> anyhow::Result<File> {
    let mut options = OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(0o600).open(file);
    opened.with_context(|| format!("can't make the file {}", file.display()))
}

fn keep(out: &mut File, text: &str) -> std::io::Result<()> {
    writeln!(out, "{text}")?;
    out.sync_all()
}
