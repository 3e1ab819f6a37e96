//! Jobs, scopes and how well a job's identity is known.

use std::fmt;
use std::str::FromStr;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How a job's identity was established, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Assurance {
    /// A client says so without a credential: enriches events, never decides.
    Claimed,
    /// A runner token.
    Declared,
    /// An OIDC token.
    Signed,
    /// The forge's own webhook.
    Forge,
    /// The gateway's configuration.
    Static,
}

impl Assurance {
    /// Every assurance, weakest first.
    pub const ALL: [Self; 5] = [
        Self::Claimed,
        Self::Declared,
        Self::Signed,
        Self::Forge,
        Self::Static,
    ];

    /// The spelling in configuration, events and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Declared => "declared",
            Self::Signed => "signed",
            Self::Forge => "forge",
            Self::Static => "static",
        }
    }
}

/// Who runs: one CI job. Owner and repository are lower-cased when the identity is made
/// ([`JobIdentity::canonical`]), because forges compare them without case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobIdentity {
    /// Organization or user.
    pub owner: CompactString,
    /// `owner/name`.
    pub repo: CompactString,
    /// The caller's workflow file name (`ci.yml`); empty when the workflow has no file.
    #[serde(default)]
    pub workflow: CompactString,
    /// Job id within the workflow.
    #[serde(default)]
    pub job: CompactString,
    /// The forge's run number.
    #[serde(default)]
    pub run_id: CompactString,
    /// Attempt of that run, from 1; 0 when unknown.
    #[serde(default)]
    pub run_attempt: u32,
    /// Name of the runner.
    #[serde(default)]
    pub runner_name: CompactString,
    /// The network's cluster.
    #[serde(default)]
    pub cluster: CompactString,
    /// What triggered the run (`push`, `pull_request` …).
    #[serde(default)]
    pub event: CompactString,
    /// Git ref.
    #[serde(default, rename = "ref")]
    pub git_ref: CompactString,
    /// Who triggered the run.
    #[serde(default)]
    pub actor: CompactString,
    /// For pull requests: the repository (`owner/name`) that the change comes from. Empty when the run is for none, or
    /// when nobody said.
    #[serde(default, skip_serializing_if = "CompactString::is_empty")]
    pub head_repo: CompactString,
    /// How well all this is known.
    pub assurance: Assurance,
}

impl JobIdentity {
    /// Folds the parts that forges compare without case, and completes a bare repository name with its
    /// owner.
    #[must_use]
    pub fn canonical(mut self) -> Self {
        self.owner = self.owner.to_lowercase();
        self.repo = self.repo.to_lowercase();
        self.head_repo = self.head_repo.to_lowercase();
        if !self.repo.is_empty() && !self.repo.contains('/') {
            self.repo = compact_str::format_compact!("{}/{}", self.owner, self.repo);
        }
        self
    }

    /// The scopes that may hold this job's policy, most specific first.
    pub fn scopes(&self) -> impl Iterator<Item = Scope> + '_ {
        let workflow = (!self.workflow.is_empty() && !self.repo.is_empty())
            .then(|| Scope::Workflow(compact_str::format_compact!("{}/{}", self.repo, self.workflow)));
        let repo = (!self.repo.is_empty()).then(|| Scope::Repository(self.repo.clone()));
        let owner = (!self.owner.is_empty()).then(|| Scope::Organization(self.owner.clone()));
        let cluster = (!self.cluster.is_empty()).then(|| Scope::Cluster(self.cluster.clone()));
        [workflow, repo, owner, cluster].into_iter().flatten()
    }
}

/// What a policy is attached to. One string everywhere: `workflow:acme/web/ci.yml`, `repo:acme/web`,
/// `org:acme`, `cluster:prod`; `network:runners` is what events name when a network's default decided.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// `owner/repo/file`.
    Workflow(CompactString),
    /// `owner/repo`.
    Repository(CompactString),
    /// `owner`.
    Organization(CompactString),
    /// Name of a cluster.
    Cluster(CompactString),
    /// A network's default policy (not attachable).
    Network(CompactString),
    /// A static lease that names its policy itself (not attachable).
    Lease(CompactString),
}

/// A string that is not a scope.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not a scope; write org:OWNER, repo:OWNER/REPO, workflow:OWNER/REPO/FILE or cluster:NAME")]
pub struct ScopeError(pub String);

impl Scope {
    /// What stands before the colon, and behind it.
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Workflow(name) => ("workflow", name),
            Self::Repository(name) => ("repo", name),
            Self::Organization(name) => ("org", name),
            Self::Cluster(name) => ("cluster", name),
            Self::Network(name) => ("network", name),
            Self::Lease(name) => ("lease", name),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = self.parts();
        write!(out, "{kind}:{name}")
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let refused = || ScopeError(text.to_owned());
        let (kind, name) = text.split_once(':').ok_or_else(refused)?;
        let parts: Vec<&str> = name.split('/').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return Err(refused());
        }
        match (kind, parts.as_slice()) {
            ("org", [owner]) => Ok(Self::Organization(owner.to_lowercase().into())),
            ("repo", [owner, repo]) => Ok(Self::Repository(format!("{owner}/{repo}").to_lowercase().into())),
            ("workflow", [owner, repo, file]) => Ok(Self::Workflow(compact_str::format_compact!(
                "{}/{}/{file}",
                owner.to_lowercase(),
                repo.to_lowercase()
            ))),
            ("cluster", [cluster]) => Ok(Self::Cluster((*cluster).into())),
            _ => Err(refused()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn scopes_are_one_string_and_fold_owner_and_repository() {
        for (written, canonical) in [
            ("org:Acme", "org:acme"),
            ("repo:Acme/Web", "repo:acme/web"),
            ("workflow:Acme/Web/CI.yml", "workflow:acme/web/CI.yml"),
            ("cluster:prod", "cluster:prod"),
        ] {
            assert_eq!(written.parse::<Scope>().unwrap().to_string(), canonical);
        }
        for wrong in [
            "acme",
            "repo:acme",
            "repo:/web",
            "team:x",
            "workflow:acme/web",
            "org:",
        ] {
            assert!(wrong.parse::<Scope>().is_err(), "{wrong}");
        }
    }
}
