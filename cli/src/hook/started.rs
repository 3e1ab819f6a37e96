//! `tidegate hook job-started`: registers the job that is about to run on this machine.
//!
//! Owns what is said about it in the job's log: one line when it went well. Whether a failure fails the job is
//! [`super::work`]'s to say.

use serde::Deserialize;
use tidegate_control_wire::claim::Member;

use super::api::{CallError, RunnerApi};
use super::env::Given;
use super::job::Job;
use super::lines::{Weight, annotation, line};
use super::oidc;
use super::settings::Reach;
use super::work::Deadline;
use crate::Usage;

/// What the gateway says of the job that it registered.
#[derive(Debug, Deserialize)]
struct Started {
    id: String,
    assurance: String,
    policy: Option<Policy>,
    #[serde(default)]
    refused: Option<String>,
    #[serde(default)]
    members: Vec<Member>,
}

/// The policy that governs it.
#[derive(Debug, Deserialize)]
struct Policy {
    name: String,
    version: u32,
    mode: String,
    scope: String,
}

/// Registers the job; lines for its log.
pub(super) async fn run(given: &Given, reach: &Reach) -> anyhow::Result<Vec<String>> {
    let mut job = Job::of(given)?;
    let api = RunnerApi::new(reach)?;
    let deadline = Deadline::after(reach.timeout, reach.api.as_str());
    let mut lines = Vec::new();
    if let Some(audience) = &reach.oidc {
        match oidc::fetch(given, audience, deadline.half()).await {
            Ok(token) => job.oidc_token = Some(token),
            Err(error) if reach.authorization.is_some() => {
                let text = format!("{error}; this machine's runner token says whose job it is");
                lines.push(annotation(Weight::Notice, "Tidegate", &text));
            }
            Err(error) => return Err(error.into()),
        }
    }
    if job.oidc_token.is_none() && reach.authorization.is_none() {
        let text = "no credential: name a runner token (token-file) or an OIDC audience (oidc) in the hooks' settings";
        return Err(Usage(text.into()).into());
    }
    // Plain data with text keys always serializes.
    let body = serde_json::to_vec(&job).unwrap_or_default();
    let started: Started = deadline
        .ask(async || {
            let answer = match &job.oidc_token {
                // By its own word alone: a runner token beside it could only take something away.
                Some(_) => api.post_bare("v1/jobs", body.clone()).await,
                None => api.post("v1/jobs", body.clone()).await,
            };
            answer?.read()
        })
        .await
        .map_err(|error| Refused::new(&job.repo, &error))?;
    lines.extend(started.lines());
    Ok(lines)
}

/// A job that is not registered, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

impl Refused {
    fn new(repo: &str, error: &CallError) -> Self {
        Self(format!(
            "this job of {repo} is not registered: {error}. {}",
            sentence(error.advice())
        ))
    }
}

/// With a capital at its beginning and a full stop at its end.
pub(super) fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), letters.as_str())
}

impl Started {
    fn lines(&self) -> Vec<String> {
        let Self { id, assurance, .. } = self;
        let mut lines = vec![match (&self.policy, &self.refused) {
            (Some(policy), _) => {
                let Policy {
                    name,
                    version,
                    mode,
                    scope,
                } = policy;
                line(&format!(
                    "policy {name} (version {version}, {mode}) of {scope} governs job {id}, known by {assurance}"
                ))
            }
            (None, reason) => {
                let reason = reason.as_deref().unwrap_or("no policy");
                annotation(
                    Weight::Warning,
                    "Tidegate",
                    &format!(
                        "no policy governs job {id}, known by {assurance}: everything is refused ({reason})"
                    ),
                )
            }
        }];
        let behind = self.members.iter().filter(|member| !member.has_it);
        let behind: Vec<&str> = behind.map(|member| member.gateway.as_str()).collect();
        if !behind.is_empty() {
            lines.push(line(&format!(
                "{} did not hear of the job in time",
                behind.join(", ")
            )));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn said(json: &str) -> Vec<String> {
        serde_json::from_str::<Started>(json).unwrap().lines()
    }

    #[test]
    fn one_line_says_which_policy_governs_the_job() {
        assert_eq!(
            said(
                r#"{"id": "job_1", "sources": [], "assurance": "declared", "expires_at": null, "members": [],
                    "policy": {"id": "p", "name": "ci", "version": 3, "mode": "block", "scope": "repo:acme/web"}}"#
            ),
            ["tidegate: policy ci (version 3, block) of repo:acme/web governs job job_1, known by declared"]
        );
    }

    #[test]
    fn a_job_without_a_policy_is_warned_and_absent_members_are_named() {
        let lines = said(
            r#"{"id": "job_1", "assurance": "signed", "policy": null, "refused": "policy-unknown",
                "members": [{"gateway": "gw-2", "has_it": false}, {"gateway": "gw-3", "has_it": true}]}"#,
        );
        assert!(
            lines[0].starts_with("::warning title=Tidegate::no policy governs job job_1"),
            "{lines:?}"
        );
        assert!(
            lines[0].ends_with("everything is refused (policy-unknown)"),
            "{lines:?}"
        );
        assert_eq!(lines[1], "tidegate: gw-2 did not hear of the job in time");
    }

    #[test]
    fn what_a_policy_is_called_is_only_text() {
        let lines = said(
            r#"{"id": "job_1", "assurance": "declared",
                "policy": {"name": "x\n::error::y##[z]", "version": 1, "mode": "audit", "scope": "org:a"}}"#,
        );
        assert_eq!(lines.len(), 1);
        assert!(!lines[0].contains('\n') && !lines[0].contains("##["), "{lines:?}");
    }
}
