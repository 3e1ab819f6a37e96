//! `tidegate status`: how a running gateway is. Exit 1 when it is degraded or can't be reached.

use std::process::ExitCode;

use comfy_table::{Table, presets};
use serde_json::Value;

use crate::args::Status;
use crate::out::say;

/// Asks the gateway and shows its answer.
pub(crate) fn run(args: &Status) -> anyhow::Result<ExitCode> {
    let config = crate::gateway::read_config(&args.config.config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let status = runtime.block_on(tidegate_gateway::status::fetch(&config.state_dir))?;
    let degraded = status["degraded"].as_array().is_none_or(|list| !list.is_empty());
    if args.json {
        say!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print(&status);
    }
    Ok(if degraded {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn print(status: &Value) {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    say!(
        "gateway {} (version {})",
        text(&status["name"]),
        text(&status["version"])
    );
    say!(
        "interception {}, restored {} times",
        text(&status["interception"]["state"]),
        status["interception"]["restored"]
    );
    say!(
        "flows open {}, events queued {}",
        status["flows_open"],
        status["events_queued"]
    );
    let control = &status["control"];
    if !control.is_null() {
        let age = control["age_seconds"].as_i64();
        say!(
            "control plane {} since {}, generation {}, {}",
            text(&control["state"]),
            text(&control["since"]),
            control["generation"],
            age.map_or_else(|| "never synced".to_owned(), |age| format!("heard {age} s ago"))
        );
    }
    spool(&status["spool"]);
    section(&status["upstreams"], &["upstream", "state"]);
    section(
        &status["leases"],
        &[
            "id", "network", "sources", "repo", "job", "policy", "mode", "tickets",
        ],
    );
    section(&status["files"], &["file", "version", "problem"]);
    let unbound = &status["unbound_sources"];
    if unbound.as_array().is_some_and(|list| !list.is_empty()) {
        say!("sources that are not bound to a lease: {unbound}");
    }
    for problem in status["degraded"].as_array().into_iter().flatten() {
        say!("degraded: {}", text(problem));
    }
}

/// What waits for the control plane; nothing where there is none.
fn spool(spool: &Value) {
    if spool.is_null() {
        return;
    }
    let age = spool["oldest_seconds"].as_u64();
    say!(
        "events spooled {} ({} of {} bytes{}), dropped {} refusals and {} permits{}",
        spool["entries"],
        spool["bytes"],
        spool["bound_bytes"],
        age.map_or_else(String::new, |age| format!(", the oldest {age} s old")),
        spool["dropped"]["refusals"],
        spool["dropped"]["permits"],
        spool["error"]
            .as_str()
            .map_or_else(String::new, |error| format!("; last error: {error}"))
    );
}

/// One table of objects with these columns; nothing when there are none.
fn section(rows: &Value, columns: &[&str]) {
    let Some(rows) = rows.as_array().filter(|rows| !rows.is_empty()) else {
        return;
    };
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(columns);
    for row in rows {
        table.add_row(columns.iter().map(|column| {
            match &row[*column] {
                Value::Null => "-".to_owned(),
                Value::String(text) => text.clone(),
                Value::Array(items) => items
                    .iter()
                    .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
                    .collect::<Vec<_>>()
                    .join(" "),
                Value::Bool(_) | Value::Number(_) | Value::Object(_) => row[*column].to_string(),
            }
        }));
    }
    say!("{table}\n");
}
