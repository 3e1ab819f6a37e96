//! What a runner says of its job: shape, bounds and grammar of a registration's body.
//!
//! Owns reading it and the sentences about what is wrong with it. It believes nothing: who may say so is decided by
//! [`super::proof`] and the lease table. Driven by the runner API.

use compact_str::{CompactString, format_compact};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;
use tidegate_control_wire::oidc::workflow_file_of;
use tidegate_policy::job::{Assurance, JobIdentity};

/// Longest owner, and longest repository name, in bytes.
const MAX_NAME: usize = 100;
/// Longest other text in bytes.
const MAX_TEXT: usize = 255;
/// Longest Git ref or workflow reference in bytes.
const MAX_REF: usize = 1_024;

/// A body that does not make sense.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum AskError {
    /// Not the JSON object that is expected.
    #[error("the body is not a job as JSON: {0}")]
    Json(String),
    /// A field is wrong.
    #[error("{field}: {why}")]
    Field {
        /// Which.
        field: &'static str,
        /// What is wrong, and what to write.
        why: String,
    },
}

fn wrong(field: &'static str, why: impl Into<String>) -> AskError {
    AskError::Field {
        field,
        why: why.into(),
    }
}

/// A job's start as it is written. Everything may be left out where an OIDC token says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct JobStart {
    owner: Option<String>,
    repo: Option<String>,
    workflow: Option<String>,
    job: Option<String>,
    run_id: Option<Number>,
    run_attempt: Option<u32>,
    runner_name: Option<String>,
    event: Option<String>,
    #[serde(rename = "ref")]
    git_ref: Option<String>,
    actor: Option<String>,
    head_repo: Option<String>,
    cluster: Option<String>,
    sources: Option<Value>,
    /// The job's OIDC token.
    pub(crate) oidc_token: Option<String>,
}

/// Numbers are written as strings by some.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "a number, or a string")]
enum Number {
    Number(u64),
    Text(String),
}

impl JobStart {
    /// Reads a body; an empty one says nothing, which is enough beside an OIDC token.
    pub(crate) fn read(body: &[u8]) -> Result<Self, AskError> {
        if body.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        // Read as a list, its items would be taken for the fields in their order.
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(AskError::Json("it is no object".into()));
        }
        let start: Self = serde_json::from_slice(body).map_err(|error| AskError::Json(error.to_string()))?;
        if start.sources.is_some() {
            return Err(wrong(
                "sources",
                "a runner does not name its addresses, the gateway sees them; leave it out",
            ));
        }
        Ok(start)
    }

    /// The job as the body alone says it, not yet known by any assurance.
    pub(crate) fn identity(&self) -> Result<JobIdentity, AskError> {
        let (owner, repo) = self.repository()?;
        let workflow = text("workflow", self.workflow.as_deref(), MAX_REF)?;
        let workflow = if workflow.is_empty() {
            ""
        } else {
            workflow_of(&repo, &workflow)?
        };
        let identity = JobIdentity {
            owner,
            repo,
            workflow: workflow.into(),
            job: CompactString::default(),
            run_id: self.run_id()?,
            run_attempt: self.run_attempt.unwrap_or_default(),
            runner_name: CompactString::default(),
            cluster: CompactString::default(),
            event: text("event", self.event.as_deref(), MAX_TEXT)?,
            git_ref: text("ref", self.git_ref.as_deref(), MAX_REF)?,
            actor: text("actor", self.actor.as_deref(), MAX_TEXT)?,
            head_repo: CompactString::default(),
            assurance: Assurance::Claimed,
        };
        Ok(self.complete(identity)?.canonical())
    }

    /// Adds what no OIDC token says: the job's id, the runner's name, the cluster, where a pull request comes from. What the
    /// token does say stays.
    pub(crate) fn complete(&self, signed: JobIdentity) -> Result<JobIdentity, AskError> {
        Ok(JobIdentity {
            job: text("job", self.job.as_deref(), MAX_TEXT)?,
            runner_name: text("runner_name", self.runner_name.as_deref(), MAX_TEXT)?,
            cluster: text("cluster", self.cluster.as_deref(), MAX_TEXT)?,
            head_repo: head_repo(self.head_repo.as_deref().unwrap_or_default())?,
            ..signed
        })
    }

    /// Owner, and repository as `owner/name`.
    fn repository(&self) -> Result<(CompactString, CompactString), AskError> {
        let repo = self.repo.as_deref().unwrap_or_default();
        let (in_repo, name) = match repo.split_once('/') {
            Some((owner, name)) => (Some(owner), name),
            None => (None, repo),
        };
        let owner = match (self.owner.as_deref(), in_repo) {
            (Some(owner), Some(other)) if !owner.eq_ignore_ascii_case(other) => {
                return Err(wrong("repo", "it is not one of `owner`'s; write owner/name"));
            }
            (Some(owner), _) | (None, Some(owner)) => owner,
            (None, None) => return Err(wrong("owner", "it is missing")),
        };
        let owner = forge_name("owner", owner)?;
        let name = forge_name("repo", name)?;
        let repo = format_compact!("{owner}/{name}");
        Ok((owner, repo))
    }

    fn run_id(&self) -> Result<CompactString, AskError> {
        match &self.run_id {
            None => Ok(CompactString::default()),
            Some(Number::Number(number)) => Ok(format_compact!("{number}")),
            Some(Number::Text(text)) => run_id(text),
        }
    }
}

/// What the Harden-Runner clients say of their job, without any credential (harden-runner-wire.md). `run` is what stands
/// in the path.
pub(crate) fn claimed(owner: &str, repo: &str, run: &str, body: &[u8]) -> Result<JobIdentity, AskError> {
    /// Foreign programs write this: what is not known is left alone.
    #[derive(Default, Deserialize)]
    struct Body {
        #[serde(default)]
        job: Option<String>,
    }
    let body: Body = if body.trim_ascii().is_empty() {
        Body::default()
    } else {
        serde_json::from_slice(body).map_err(|error| AskError::Json(error.to_string()))?
    };
    let start = JobStart {
        owner: Some(forge_name("owner", owner)?.into()),
        repo: Some(forge_name("repo", repo)?.into()),
        job: body.job,
        run_id: Some(Number::Text(run.to_owned())),
        ..JobStart::default()
    };
    start.identity()
}

/// An owner's or a repository's name as forges allow them. `.` and `..` would be steps in a path.
fn forge_name(field: &'static str, name: &str) -> Result<CompactString, AskError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() {
        return Err(wrong(field, "it is missing"));
    }
    if name.len() > MAX_NAME || !name.bytes().all(plain) || name.bytes().all(|byte| byte == b'.') {
        let why = format!("write 1 to {MAX_NAME} letters, digits, `.`, `_` and `-`");
        return Err(wrong(field, why));
    }
    Ok(name.into())
}

/// The repository that a pull request comes from, `owner/name`.
fn head_repo(text: &str) -> Result<CompactString, AskError> {
    if text.is_empty() {
        return Ok(CompactString::default());
    }
    let (owner, name) = text
        .split_once('/')
        .ok_or_else(|| wrong("head_repo", "write owner/name"))?;
    let (owner, name) = (forge_name("head_repo", owner)?, forge_name("head_repo", name)?);
    Ok(format_compact!("{owner}/{name}").to_lowercase())
}

fn run_id(text: &str) -> Result<CompactString, AskError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if text.len() > MAX_NAME || !text.bytes().all(plain) {
        return Err(wrong("run_id", "write the run's number"));
    }
    Ok(text.into())
}

/// The workflow's file, from its name or from a reference. One without a file, or with another repository's, has none.
fn workflow_of<'a>(repo: &str, workflow: &'a str) -> Result<&'a str, AskError> {
    let file = workflow_file_of(repo, workflow);
    // A reference may lead to no file of this repository; a bare name that is no file is a mistake.
    let reference = workflow.contains('@') && workflow.contains('/') && !workflow.contains("..");
    match file {
        Some(file) => Ok(file),
        None if reference => Ok(""),
        None => Err(wrong(
            "workflow",
            "write the workflow's file name, such as ci.yml, or GITHUB_WORKFLOW_REF",
        )),
    }
}

/// Text that ends up in events and logs.
fn text(field: &'static str, value: Option<&str>, max: usize) -> Result<CompactString, AskError> {
    let value = value.unwrap_or_default();
    if value.len() > max {
        return Err(wrong(field, format!("it has more than {max} bytes")));
    }
    if value.chars().any(char::is_control) {
        return Err(wrong(field, "it has control characters"));
    }
    Ok(value.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;

    fn read(body: &Value) -> Result<JobIdentity, AskError> {
        JobStart::read(body.to_string().as_bytes())?.identity()
    }

    fn field_of(error: &AskError) -> &str {
        match error {
            AskError::Json(_) => "",
            AskError::Field { field, .. } => field,
        }
    }

    #[test]
    fn a_job_is_read_as_interface_md_writes_it() {
        let identity = read(&json!({
            "owner": "Acme", "repo": "Acme/Web", "job": "build", "run_id": 7, "run_attempt": 2,
            "workflow": "Acme/Web/.github/workflows/ci.yml@refs/heads/main", "runner_name": "r-1",
            "event": "push", "ref": "refs/heads/main", "actor": "dependabot[bot]", "cluster": "prod"
        }))
        .unwrap();
        assert_eq!((&*identity.owner, &*identity.repo), ("acme", "acme/web"));
        assert_eq!((&*identity.workflow, &*identity.job), ("ci.yml", "build"));
        assert_eq!((&*identity.run_id, identity.run_attempt), ("7", 2));
        assert_eq!((&*identity.runner_name, &*identity.cluster), ("r-1", "prod"));
        assert_eq!(identity.assurance, Assurance::Claimed);
        let short = read(&json!({"repo": "acme/web", "workflow": "ci.yml", "run_id": "7"})).unwrap();
        assert_eq!(
            (&*short.repo, &*short.workflow, &*short.run_id),
            ("acme/web", "ci.yml", "7")
        );
        let bare = read(&json!({"owner": "acme", "repo": "web"})).unwrap();
        assert_eq!(&*bare.repo, "acme/web");
    }

    #[test]
    fn a_workflow_without_a_file_of_the_repository_has_none() {
        for workflow in [
            "dynamic/github-code-scanning/codeql@refs/heads/main",
            "acme/web/dynamic/pages/build@refs/heads/main",
            "acme/policies/.github/workflows/ci.yml@refs/heads/main",
            "",
        ] {
            let identity = read(&json!({"repo": "acme/web", "workflow": workflow})).unwrap();
            assert_eq!(identity.workflow, "", "{workflow}");
        }
    }

    #[test]
    fn odd_names_are_refused_by_field() {
        let long = "x".repeat(101);
        let wide = "é".repeat(128);
        for (field, body) in [
            ("owner", json!({"repo": "web"})),
            ("owner", json!({"owner": "", "repo": "web"})),
            ("owner", json!({"owner": "..", "repo": "web"})),
            ("owner", json!({"owner": "a b", "repo": "web"})),
            ("owner", json!({"owner": "acme\u{0}", "repo": "web"})),
            ("owner", json!({"owner": "аcme", "repo": "web"})),
            ("owner", json!({"owner": long, "repo": "web"})),
            ("repo", json!({"owner": "acme"})),
            ("repo", json!({"owner": "acme", "repo": ".."})),
            ("repo", json!({"owner": "acme", "repo": "other/web"})),
            ("repo", json!({"repo": "acme/web/../../other"})),
            ("repo", json!({"repo": "acme/we%2fb"})),
            ("repo", json!({"repo": "acme/'; DROP TABLE leases; --"})),
            ("workflow", json!({"repo": "acme/web", "workflow": "../ci.yml"})),
            ("workflow", json!({"repo": "acme/web", "workflow": "sub/ci.yml"})),
            ("workflow", json!({"repo": "acme/web", "workflow": "ci.yml\n"})),
            (
                "workflow",
                json!({"repo": "acme/web", "workflow": "../../x@refs/heads/main"}),
            ),
            (
                "workflow",
                json!({"repo": "acme/web", "workflow": format!("{}.yml", "x".repeat(252))}),
            ),
            ("run_id", json!({"repo": "acme/web", "run_id": "7/../8"})),
            ("job", json!({"repo": "acme/web", "job": "b\u{1b}[31m"})),
            ("job", json!({"repo": "acme/web", "job": wide})),
            ("ref", json!({"repo": "acme/web", "ref": "x".repeat(1_025)})),
            ("actor", json!({"repo": "acme/web", "actor": "a\tb"})),
            ("cluster", json!({"repo": "acme/web", "cluster": "\u{7f}"})),
            ("runner_name", json!({"repo": "acme/web", "runner_name": "\r"})),
            ("event", json!({"repo": "acme/web", "event": "\n"})),
            ("sources", json!({"repo": "acme/web", "sources": ["10.77.1.9"]})),
        ] {
            let error = read(&body).expect_err(&body.to_string());
            assert_eq!(field_of(&error), field, "{body}: {error}");
        }
    }

    #[test]
    fn what_is_no_job_at_all_says_where() {
        for (body, want) in [
            ("[\"acme\", \"acme/web\"]", "it is no object"),
            (
                "{\"repo\": \"a/b\", \"repository\": 1}",
                "unknown field `repository`",
            ),
            ("{\"repo\": \"a/b\", \"repo\": \"c/d\"}", "duplicate field `repo`"),
            ("{\"repo\": \"a/b\"", "EOF"),
            ("{\"run_attempt\": -1}", "line 1 column"),
            ("\u{feff}{}", "it is no object"),
        ] {
            let error = JobStart::read(body.as_bytes()).expect_err(body).to_string();
            assert!(error.contains(want), "{body}: {error}");
        }
        assert_eq!(JobStart::read(b" \n").unwrap(), JobStart::default());
    }

    #[test]
    fn a_claim_tolerates_what_foreign_clients_add() {
        let body = json!({"correlation_id": "c-1", "job": "build", "agent": {"version": 1}}).to_string();
        let identity = claimed("Acme", "Web", "42", body.as_bytes()).unwrap();
        assert_eq!(
            (&*identity.repo, &*identity.job, &*identity.run_id),
            ("acme/web", "build", "42")
        );
        assert_eq!(claimed("acme", "web", "42", b"").unwrap().job, "");
        for (field, owner, repo, run) in [
            ("owner", "..", "web", "42"),
            ("repo", "acme", "%2e%2e", "42"),
            ("run_id", "acme", "web", "4 2"),
        ] {
            let error = claimed(owner, repo, run, b"{}").expect_err(field);
            assert_eq!(field_of(&error), field);
        }
        assert!(matches!(
            claimed("acme", "web", "42", b"nope"),
            Err(AskError::Json(_))
        ));
    }
}
