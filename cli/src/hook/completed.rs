//! `tidegate hook job-completed`: ends the job on this machine and shows what it reached.
//!
//! Owns the order: the job ends first, so that nothing of it is left to happen, and its summary is read then; the gateway
//! keeps it for that. A summary that can't be read stops no end, and the other way round.

use tidegate_control_wire::summary::JobSummary;

use super::api::{CallError, RunnerApi};
use super::env::Given;
use super::lines::{Weight, annotation, line};
use super::settings::Reach;
use super::started::sentence;
use super::work::Deadline;
use super::{oidc, step_summary};

/// Refusals that get an annotation each. GitHub shows ten errors of a step.
const MAX_ANNOTATIONS: usize = 9;

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Lines for the log.
    pub(super) lines: Vec<String>,
    /// What did not succeed, with what to do about it.
    pub(super) failed: Vec<String>,
}

/// Ends the job and shows its summary.
pub(super) async fn run(given: &Given, reach: &Reach) -> anyhow::Result<Done> {
    let api = RunnerApi::new(reach)?;
    let deadline = Deadline::after(reach.timeout, reach.api.as_str());
    let mut done = Done::default();
    if let Err(error) = end(given, reach, &api, &deadline).await {
        done.failed.push(format!(
            "the job is not ended: {error}. {}",
            sentence(error.advice())
        ));
    }
    match deadline
        .ask(async || api.get("v1/summary.json").await?.read())
        .await
    {
        Ok(summary) => show(&summary, given, &mut done),
        Err(error) => done
            .failed
            .push(format!("the job's summary can't be read: {error}")),
    }
    Ok(done)
}

async fn end(given: &Given, reach: &Reach, api: &RunnerApi, deadline: &Deadline) -> Result<(), CallError> {
    // A job that is known by its OIDC token is ended by another one of the same run.
    let mut body = b"{}".to_vec();
    if let Some(audience) = &reach.oidc
        && let Ok(token) = oidc::fetch(given, audience, deadline.half()).await
    {
        body = serde_json::json!({"oidc_token": token}).to_string().into_bytes();
    }
    let mut tries = 0;
    let ended = deadline.ask(async || {
        tries += 1;
        api.post("v1/jobs/current/end", body.clone()).await
    });
    match ended.await {
        Ok(_) => Ok(()),
        // The answer to an earlier try was lost.
        Err(error) if tries > 1 && error.code() == Some("no-job") => Ok(()),
        Err(error) => Err(error),
    }
}

fn show(summary: &JobSummary, given: &Given, done: &mut Done) {
    let counts = &summary.counts;
    done.lines.push(line(&format!(
        "{} permitted, {} refused, {} would be refused{}",
        counts.permit,
        counts.refuse,
        counts.would_refuse,
        match summary.policies.last() {
            Some(policy) => format!("; policy {} (version {})", policy.name, policy.version),
            None => String::new(),
        }
    )));
    done.lines.extend(annotations(summary));
    let Some(file) = given.path("GITHUB_STEP_SUMMARY") else {
        return;
    };
    if let Err(error) = step_summary::append(&file, &summary.markdown()) {
        done.failed
            .push(format!("the summary can't be appended to the job's: {error}"));
    }
}

/// An annotation for each refusal, the first few of them, and how many more there are.
fn annotations(summary: &JobSummary) -> Vec<String> {
    let mut refusals = summary.refusals();
    let mut shown: Vec<String> = refusals
        .by_ref()
        .take(MAX_ANNOTATIONS)
        .map(|one| annotation(Weight::Error, &format!("Refused: {}", one.target()), &one.told()))
        .collect();
    let more = refusals.count() as u64 + summary.unlisted.refused;
    if more > 0 {
        let text = format!("and {more} more; the job's summary lists what was refused");
        shown.push(annotation(Weight::Error, "Refused", &text));
    }
    shown
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::{Value, json};

    use super::*;

    fn summary(refused: &[Value], unlisted: u64) -> JobSummary {
        serde_json::from_value(json!({
            "job": null, "policies": [],
            "counts": {"permit": 1, "would_refuse": 0, "refuse": 2, "search_suffix": 0, "bytes_up": 0, "bytes_down": 0},
            "refused": refused, "would_refuse": [], "permitted": [],
            "unlisted": {"refused": unlisted, "would_refuse": 0, "permitted": 0},
        }))
        .unwrap()
    }

    fn refusal(endpoint: &str) -> Value {
        json!({"endpoint": endpoint, "port": 443, "kind": "tls", "verdict": "refuse", "reason": "not-allowed", "count": 1,
            "ids": ["e1"], "first": "2026-01-01T00:00:00Z", "last": "2026-01-01T00:00:00Z"})
    }

    #[test]
    fn every_refusal_is_an_error_and_there_are_ten_at_most() {
        let some: Vec<Value> = (0..3).map(|n| refusal(&format!("evil{n}.test"))).collect();
        let shown = annotations(&summary(&some, 0));
        assert_eq!(shown.len(), 3);
        assert!(
            shown[0].starts_with("::error title=Refused%3A evil0.test%3A443::evil0.test:443"),
            "{shown:?}"
        );
        let many: Vec<Value> = (0..30).map(|n| refusal(&format!("evil{n}.test"))).collect();
        let shown = annotations(&summary(&many, 100));
        assert_eq!(shown.len(), 10);
        assert!(shown[9].contains("and 121 more"), "{shown:?}");
        assert!(annotations(&summary(&[], 0)).is_empty());
    }

    #[test]
    fn hostile_endpoints_make_no_command_and_no_escape() {
        let hostile = [
            "a\n::add-mask::x",
            "\u{1b}[31mred",
            "x##[error]y",
            "%0A::warning::z",
            "a,b:c",
        ];
        let shown = annotations(&summary(&hostile.map(refusal), 0));
        assert_eq!(shown.len(), hostile.len());
        for line in shown {
            assert!(
                !line.contains(['\n', '\r', '\u{1b}']) && !line.contains("##["),
                "{line}"
            );
            assert!(line.starts_with("::error title="), "{line}");
        }
    }
}
