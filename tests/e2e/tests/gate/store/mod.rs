//! The policy store, end to end: what is said to the control plane is what jobs meet on the wire.
//!
//! Every test has a control plane and a gateway as processes of their own, over TLS.

mod bad_input;
mod claims;
mod durability;
mod global_block;
mod group;
mod identity;
mod next_job;
mod oidc;
mod plain;
mod policies;
mod precedence;
mod provisioner;
mod resilience;
mod scale;
mod up;

use serde_json::Value;
use tidegate_e2e::store::{Fleet, OWNER};
use tidegate_e2e::{PATIENCE, command_on};
use tidegate_lab::{Lab, Process, wait_until};

/// Every name that these tests ask for; each policy allows a few of them.
const NAMES: [&str; 4] = ["allowed.test", "cdn-a.test", "cdn-b.test", "evil.test"];

/// A lab with a control plane's machine.
fn lab() -> Lab {
    Lab::builder().control().build().unwrap()
}

/// A slow download on a runner, begun and flowing.
async fn download(lab: &Lab, runner: usize, name: &str) -> Process {
    let url = format!("https://{name}/slow/1000000?pace=600");
    let process = command_on(lab, runner, &["curl", "-sS", "-o", "got", &url])
        .spawn()
        .unwrap();
    let path = lab.runner(runner).home().join("got");
    let begun = wait_until("the first bytes", PATIENCE, async || {
        match std::fs::metadata(&path) {
            Ok(meta) if meta.len() > 0 => Ok(()),
            other => Err(format!("{other:?}; {}", process.stderr())),
        }
    });
    begun.await.unwrap();
    process
}

/// The actions in a policy's history, oldest first.
async fn history(fleet: &Fleet<'_>, name: &str) -> Vec<Value> {
    let path = format!("/orgs/{OWNER}/policies/{name}/history");
    let mut entries = fleet.api("GET", &path, None).await.expect(200).json()["items"]
        .as_array()
        .unwrap()
        .clone();
    entries.reverse();
    entries
}

/// The `code` of a problem document, beside its status; it must be one.
#[track_caller]
fn problem(answer: &tidegate_lab::Answer) -> (u16, String) {
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json"),
        "{answer}"
    );
    let document = answer.json();
    assert_eq!(document["status"], answer.status, "{answer}");
    assert!(
        document["detail"].as_str().is_some_and(|text| !text.is_empty()),
        "{answer}"
    );
    (
        answer.status,
        document["code"].as_str().unwrap_or_default().to_owned(),
    )
}

/// A time so many seconds from now, as the API writes it.
fn in_seconds(seconds: u64) -> String {
    let at = std::process::Command::new("date")
        .args(["-u", "-d", &format!("+{seconds} seconds"), "+%Y-%m-%dT%H:%M:%SZ"])
        .output()
        .unwrap();
    String::from_utf8(at.stdout).unwrap().trim().to_owned()
}
