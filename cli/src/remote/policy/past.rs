//! `tidegate policy history`, `diff` and `rollback`.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use tidegate_control::model::{Apply, Policy};

use super::Session;
use crate::out::say;
use crate::remote::args::policy::{PolicyDiff, PolicyHistory, PolicyRollback};
use crate::remote::{audit, show};

#[derive(Serialize)]
struct Rollback {
    to: u32,
    apply: Apply,
}

/// What is read of a difference.
#[derive(Deserialize)]
struct VersionDiff {
    from: u32,
    to: u32,
    unified: String,
    #[serde(default)]
    truncated: bool,
}

pub(super) async fn history(session: &Session, which: &PolicyHistory) -> anyhow::Result<()> {
    let path = [
        "orgs",
        which.owner.owner.as_str(),
        "policies",
        which.name.as_str(),
        "history",
    ];
    let query: Vec<_> = which.id.as_deref().map(|id| ("id", id)).into_iter().collect();
    let list = session
        .client
        .list(&path, &query, which.most.limit as usize)
        .await?;
    if session.json {
        show::json(&list.into_json());
        return Ok(());
    }
    let entries = list.read()?;
    if which.diff {
        entries.iter().for_each(audit::entry_with_diff);
    } else {
        audit::table(&entries, "nothing happened to it");
    }
    show::say_more(&list);
    Ok(())
}

pub(super) async fn diff(session: &Session, which: &PolicyDiff) -> anyhow::Result<()> {
    let path = [
        "orgs",
        which.owner.owner.as_str(),
        "policies",
        which.name.as_str(),
        "diff",
    ];
    let mut call = session.client.call(Method::GET, &path)?;
    for (name, version) in [("from", which.from), ("to", which.to)] {
        if let Some(version) = version {
            call = call.query(name, &version.to_string());
        }
    }
    let answer = call.send().await?;
    if session.json {
        show::json(&answer.json);
        return Ok(());
    }
    let diff: VersionDiff = answer.read()?;
    if diff.unified.is_empty() {
        say!("versions {} and {} have the same text", diff.from, diff.to);
        return Ok(());
    }
    show::text(&diff.unified);
    if diff.truncated {
        eprintln!("… and more; `policy show --version` has the whole texts");
    }
    Ok(())
}

pub(super) async fn rollback(session: &Session, which: &PolicyRollback) -> anyhow::Result<()> {
    let path = [
        "orgs",
        which.owner.owner.as_str(),
        "policies",
        which.name.as_str(),
    ];
    let current = session.client.call(Method::GET, &path)?.send().await?;
    let back = Rollback {
        to: which.to,
        apply: if which.next_job {
            Apply::NextJob
        } else {
            Apply::Now
        },
    };
    let rollback = [path.as_slice(), &["rollback"]].concat();
    let call = session
        .client
        .call(Method::POST, &rollback)?
        .if_match(current.tag()?)
        .json(&back);
    let answer = call.send().await?;
    if session.json {
        show::json(&answer.json);
        return Ok(());
    }
    let policy: Policy = answer.read()?;
    let name = show::cell(&policy.name);
    say!(
        "policy {name} is at version {}, with the text of version {}",
        policy.version,
        which.to
    );
    Ok(())
}
