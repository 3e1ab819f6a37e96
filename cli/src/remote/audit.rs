//! `tidegate audit`: who changed what, and whether the log still is what it was.
//!
//! Owns showing entries of histories. Verifying is [`verify`]'s.

mod verify;

use std::process::ExitCode;

use serde_json::Value;
use tidegate_control::model::AuditEntry;

use super::args::things::{Audit as Args, AuditAction};
use super::client::Client;
use super::{show, when};
use crate::out::say;

/// Does what was asked.
pub(super) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.remote)?;
    let json = args.remote.json;
    match &args.action {
        AuditAction::List { owner, most } => {
            let query: Vec<_> = owner
                .as_deref()
                .map(|owner| ("owner", owner))
                .into_iter()
                .collect();
            let list = client.list(&["audit-log"], &query, most.limit as usize).await?;
            if json {
                show::json(&list.into_json());
                return Ok(ExitCode::SUCCESS);
            }
            table(&list.read()?, "nothing was changed yet");
            show::say_more(&list);
        }
        AuditAction::Verify(how) => verify::run(&client, how, json).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows entries, one a line.
pub(super) fn table(entries: &[AuditEntry], nothing: &str) {
    let row = |entry: &AuditEntry| {
        [
            entry.seq.to_string(),
            when::show(entry.at),
            show::cell(&entry.actor.subject),
            show::cell(&entry.actor.via),
            show::cell(&entry.action),
            show::cell(&entry.target),
            show::cell(&what(&entry.detail)),
        ]
    };
    let header = ["SEQ", "WHEN", "WHO", "VIA", "ACTION", "TARGET", "WHAT"];
    show::table(header, entries.iter().map(row).collect(), nothing);
}

/// Shows an entry with what changed in the text, as `diff -u` writes it.
pub(super) fn entry_with_diff(entry: &AuditEntry) {
    let who = format!("{} ({})", entry.actor.subject, entry.actor.via);
    let line = format!(
        "{}  {}  {who}  {}  {}",
        entry.seq,
        when::show(entry.at),
        entry.action,
        what(&entry.detail)
    );
    say!("{}", show::cell(&line));
    let diff = &entry.detail["diff"];
    if let Some(unified) = diff["unified"].as_str().filter(|text| !text.is_empty()) {
        show::text(unified);
        if diff["truncated"] == true {
            say!("… and more; `policy show --version` has the whole texts");
        }
    }
    say!("");
}

/// What changed, on one line: texts and their digests left out.
fn what(detail: &Value) -> String {
    let Value::Object(fields) = detail else {
        return String::new();
    };
    let shown = |(name, value): (&String, &Value)| {
        let value = match value {
            Value::Null => return None,
            Value::String(text) => text.clone(),
            Value::Object(thing) => match (thing.get("owner"), thing.get("name")) {
                (Some(Value::String(owner)), Some(Value::String(name))) => format!("{owner}/{name}"),
                _ => value.to_string(),
            },
            Value::Bool(_) | Value::Number(_) | Value::Array(_) => value.to_string(),
        };
        Some(format!("{name}={value}"))
    };
    let fields = fields
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "diff" | "sha256"));
    fields.filter_map(shown).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_detail_is_one_line_without_texts() {
        let detail = json!({
            "scope": "repo:acme/web",
            "from": {"id": "pol_1", "owner": "acme", "name": "base"},
            "to": null,
            "version": 3,
            "diff": {"unified": "@@"},
            "sha256": "00",
        });
        assert_eq!(what(&detail), "from=acme/base scope=repo:acme/web version=3");
        assert_eq!(what(&Value::Null), "");
    }
}
