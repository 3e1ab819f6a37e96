//! Runs the `nft` program: owns the process, its time limit and the reading back
//! of our table; never decides what a ruleset says.
//!
//! The program rather than a library of netlink messages: the ruleset is text
//! that an operator can read and diff, and the libraries are GPL.

use std::{process::Stdio, time::Duration};

use serde_json::Value;
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

use super::ruleset::TABLE;

/// Where `nft` is looked for. The gateway may be started with an empty
/// environment, whose default search path has no `sbin`.
const SEARCH_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin";

/// A run takes 5 to 30 ms; one that hangs must not hang the gateway's restore.
const RUN_LIMIT: Duration = Duration::from_secs(10);

/// Longest part of nft's own complaint that is kept.
const COMPLAINT_MAX: usize = 2_000;

/// Why nft did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The program could not be started or spoken to (not installed, say).
    #[error("cannot run nft")]
    Run(#[source] std::io::Error),
    /// It did not end in time.
    #[error("nft did not end within {} s", RUN_LIMIT.as_secs())]
    Hung,
    /// It refused the script; its first words are kept.
    #[error("nft refused: {0}")]
    Refused(String),
    /// What it printed is not the JSON that was asked for.
    #[error("nft printed something unexpected")]
    Output(#[source] serde_json::Error),
}

/// Carries out a script as one transaction: all of it or nothing.
pub(super) async fn apply(script: &str) -> Result<(), NftError> {
    run(&["-f", "-"], script).await.map(drop)
}

/// Our table as nft reads it back, without what changes by itself (handles,
/// counters) or by our own hand (set elements). `None`: there is no such table.
pub(super) async fn read_back() -> Result<Option<Value>, NftError> {
    match run(&["-j", "-s", "-t", "list", "table", "inet", TABLE], "").await {
        Ok(text) => serde_json::from_str(&text)
            .map(|listing| Some(normalise(listing)))
            .map_err(NftError::Output),
        Err(NftError::Refused(complaint)) if complaint.contains("No such file or directory") => Ok(None),
        Err(error) => Err(error),
    }
}

/// The table's named counters: (name, packets).
pub(super) async fn read_counters() -> Result<Vec<(String, u64)>, NftError> {
    let text = run(&["-j", "list", "counters", "table", "inet", TABLE], "").await?;
    let listing: Value = serde_json::from_str(&text).map_err(NftError::Output)?;
    Ok(counters_in(&listing))
}

fn counters_in(listing: &Value) -> Vec<(String, u64)> {
    let objects = listing["nftables"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    objects
        .iter()
        .filter_map(|object| {
            let counter = object.get("counter")?;
            Some((counter["name"].as_str()?.to_owned(), counter["packets"].as_u64()?))
        })
        .collect()
}

/// Drops the members that differ between two readings of an untouched table.
fn normalise(mut listing: Value) -> Value {
    if let Some(objects) = listing.get_mut("nftables").and_then(Value::as_array_mut) {
        objects.retain(|object| object.get("metainfo").is_none());
        for object in objects.iter_mut().filter_map(Value::as_object_mut) {
            for body in object.values_mut().filter_map(Value::as_object_mut) {
                for member in ["handle", "packets", "bytes", "elem"] {
                    body.remove(member);
                }
            }
        }
    }
    listing
}

async fn run(arguments: &[&str], input: &str) -> Result<String, NftError> {
    let mut child = Command::new("nft")
        .args(arguments)
        .env_clear()
        .env("PATH", SEARCH_PATH)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(NftError::Run)?;
    let stdin = child.stdin.take();
    let talk = async {
        if let Some(mut stdin) = stdin {
            // nft reads its whole input before it prints: no deadlock. A broken
            // pipe means that it ended early; its status says why.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let output = timeout(RUN_LIMIT, talk)
        .await
        .map_err(|_elapsed| NftError::Hung)?
        .map_err(NftError::Run)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(NftError::Refused(
        complaint.trim().chars().take(COMPLAINT_MAX).collect(),
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn two_readings_of_an_untouched_table_are_equal() {
        let reading = |handle: u32, packets: u32| {
            json!({"nftables": [
                {"metainfo": {"version": "1.0.6"}},
                {"counter": {"name": "closed", "handle": handle, "packets": packets, "bytes": 60}},
                {"set": {"name": "bound4", "handle": handle, "elem": [packets]}},
                {"rule": {"chain": "divert", "handle": handle, "expr": [{"drop": null}]}},
            ]})
        };
        assert_eq!(normalise(reading(1, 0)), normalise(reading(9, 77)));
        let mut touched = reading(1, 0);
        touched["nftables"][3]["rule"]["expr"] = json!([{"accept": null}]);
        assert_ne!(normalise(reading(1, 0)), normalise(touched));
    }

    #[test]
    fn counters_are_read_by_name() {
        let listing = json!({"nftables": [
            {"metainfo": {"version": "1.0.6"}},
            {"counter": {"name": "closed", "packets": 3, "bytes": 180}},
        ]});
        assert_eq!(counters_in(&listing), vec![("closed".to_owned(), 3)]);
    }
}
