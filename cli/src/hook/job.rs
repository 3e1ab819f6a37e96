//! From what the runner gives to what the gateway is told: the body of `POST /v1/jobs`.
//!
//! Pure but for reading the event's payload, which is bounded. It drops what the gateway would refuse a whole job for (a
//! run attempt that is no number, say), never what says who the job is.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::env::Given;
use crate::Usage;

/// Largest event payload that is read, in bytes: forges deliver at most 25 MiB.
const MAX_PAYLOAD: u64 = 32 << 20;

/// A job as the runner knows it. Fields as in the runner API; those that are not known are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_field_names, reason = "the names of the runner API")]
pub(super) struct Job {
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    /// `owner/name`.
    pub(super) repo: String,
    /// The caller's workflow, as `GITHUB_WORKFLOW_REF` names it. A called (reusable) workflow has a ref of its own, which is
    /// never this job's.
    #[serde(skip_serializing_if = "Option::is_none")]
    workflow: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runner_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    git_ref: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    head_repo: Option<String>,
    /// The forge's word, when it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) oidc_token: Option<String>,
}

impl Job {
    /// The job that this hook runs for.
    pub(super) fn of(given: &Given) -> Result<Self, Usage> {
        let text = |name| given.get(name).map(str::to_owned);
        let repo = text("GITHUB_REPOSITORY").ok_or_else(|| {
            Usage(
                "GITHUB_REPOSITORY is not set: this is a hook, which the Actions runner runs; \
                 `tidegate hook install` says how"
                    .into(),
            )
        })?;
        let event = text("GITHUB_EVENT_NAME");
        let is_pull_request = event
            .as_deref()
            .is_some_and(|event| event.starts_with("pull_request"));
        let payload = given.path("GITHUB_EVENT_PATH").filter(|_| is_pull_request);
        Ok(Self {
            owner: text("GITHUB_REPOSITORY_OWNER"),
            repo,
            workflow: text("GITHUB_WORKFLOW_REF"),
            job: text("GITHUB_JOB"),
            run_id: text("GITHUB_RUN_ID"),
            run_attempt: given.get("GITHUB_RUN_ATTEMPT").and_then(|text| text.parse().ok()),
            runner_name: text("RUNNER_NAME"),
            event,
            git_ref: text("GITHUB_REF"),
            actor: text("GITHUB_ACTOR"),
            head_repo: payload.and_then(|file| head_repo(&file)),
            oidc_token: None,
        })
    }
}

/// What is read of an event's payload.
#[derive(Default, Deserialize)]
struct Payload {
    #[serde(default)]
    pull_request: Option<PullRequest>,
}

#[derive(Deserialize)]
struct PullRequest {
    #[serde(default)]
    head: Option<Head>,
}

#[derive(Deserialize)]
struct Head {
    /// `null` when the fork is gone.
    #[serde(default)]
    repo: Option<Repo>,
}

#[derive(Deserialize)]
struct Repo {
    #[serde(default)]
    full_name: Option<String>,
}

/// The repository that a pull request comes from. Unknown where the payload can't be read: then the gateway takes it for a
/// fork's, which is the careful side.
fn head_repo(file: &Path) -> Option<String> {
    let payload = BufReader::new(File::open(file).ok()?.take(MAX_PAYLOAD));
    let payload: Payload = serde_json::from_reader(payload).ok()?;
    payload.pull_request?.head?.repo?.full_name
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;

    fn given(pairs: &[(&str, &str)]) -> Given {
        Given::from(|name| {
            let found = pairs.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_job_is_told_as_the_runner_names_it() {
        let job = Job::of(&given(&[
            ("GITHUB_REPOSITORY", "Acme/Web"),
            ("GITHUB_REPOSITORY_OWNER", "Acme"),
            (
                "GITHUB_WORKFLOW_REF",
                "Acme/Web/.github/workflows/ci.yml@refs/heads/main",
            ),
            ("GITHUB_JOB", "build"),
            ("GITHUB_RUN_ID", "1658821493"),
            ("GITHUB_RUN_ATTEMPT", "2"),
            ("GITHUB_EVENT_NAME", "push"),
            ("GITHUB_REF", "refs/heads/main"),
            ("GITHUB_ACTOR", "dev"),
            ("RUNNER_NAME", "vm-17"),
        ]))
        .unwrap();
        assert_eq!(
            serde_json::to_value(job).unwrap(),
            json!({
                "owner": "Acme", "repo": "Acme/Web", "job": "build", "run_id": "1658821493", "run_attempt": 2,
                "workflow": "Acme/Web/.github/workflows/ci.yml@refs/heads/main", "runner_name": "vm-17",
                "event": "push", "ref": "refs/heads/main", "actor": "dev",
            })
        );
    }

    #[test]
    fn what_is_not_given_or_makes_no_sense_is_left_out() {
        let job = Job::of(&given(&[
            ("GITHUB_REPOSITORY", "acme/web"),
            ("GITHUB_RUN_ATTEMPT", "first"),
            ("GITHUB_ACTOR", ""),
        ]));
        assert_eq!(
            serde_json::to_value(job.unwrap()).unwrap(),
            json!({"repo": "acme/web"})
        );
        let said = Job::of(&given(&[])).unwrap_err().0;
        assert!(said.contains("GITHUB_REPOSITORY"), "{said}");
    }

    #[test]
    fn a_pull_request_comes_from_the_repository_in_its_payload() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("event.json");
        let head = |event: &str, payload: &str| {
            std::fs::write(&file, payload).unwrap();
            let path = file.to_str().unwrap();
            Job::of(&given(&[
                ("GITHUB_REPOSITORY", "acme/web"),
                ("GITHUB_EVENT_NAME", event),
                ("GITHUB_EVENT_PATH", path),
            ]))
            .unwrap()
            .head_repo
        };
        let fork = r#"{"number": 7, "pull_request": {"head": {"repo": {"full_name": "mallory/web"}}}}"#;
        assert_eq!(head("pull_request", fork).as_deref(), Some("mallory/web"));
        assert_eq!(head("pull_request_target", fork).as_deref(), Some("mallory/web"));
        // Of another event it says nothing about where the code comes from.
        assert_eq!(head("push", fork), None);
        for unknown in [
            r#"{"pull_request": {"head": {"repo": null}}}"#,
            r#"{"pull_request": null}"#,
            "{}",
            "",
            "no json",
            r#"{"pull_request": []}"#,
        ] {
            assert_eq!(head("pull_request", unknown), None, "{unknown}");
        }
        std::fs::remove_file(&file).unwrap();
        let gone = given(&[
            ("GITHUB_REPOSITORY", "acme/web"),
            ("GITHUB_EVENT_NAME", "pull_request"),
            ("GITHUB_EVENT_PATH", file.to_str().unwrap()),
        ]);
        assert_eq!(Job::of(&gone).unwrap().head_repo, None);
    }
}
