//! Scopes that were seen or that something is attached to: what pickers offer, and what a pattern picks at once.
//!
//! Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tidegate_policy::job::Scope;
use utoipa::ToSchema;

use super::glob::Pattern;
use super::judge::{Judge, identity};
use super::{BaselineState, CoverageRow, Table};
use crate::model::EffectivePolicy;

/// What kind of scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ScopeKind {
    /// A whole organization.
    Org,
    /// A repository.
    Repo,
    /// A workflow file of a repository.
    Workflow,
    /// A cluster.
    Cluster,
}

/// A scope that jobs were seen in, or that a policy is attached to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct SeenScope {
    /// As it is attached to: `repo:acme/web`.
    pub(crate) scope: String,
    /// What kind.
    pub(crate) kind: ScopeKind,
    /// When a job was first seen in it; null when none was.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) first_seen: Option<Timestamp>,
    /// When one was last seen.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) last_seen: Option<Timestamp>,
    /// Jobs that registered.
    pub(crate) jobs: u64,
    /// Workflows (in as many clusters as they ran in) that lie in it.
    pub(crate) workflows: u64,
    /// The policy that is attached to it.
    pub(crate) policy: Option<EffectivePolicy>,
    /// Where its baseline stands; null without one.
    pub(crate) baseline: Option<BaselineState>,
}

/// Which scopes.
#[derive(Clone, Debug, Default)]
pub(crate) struct WhichScopes {
    /// Of these owners, in lower case; empty limits nothing. Limited, clusters are not shown: they are every owner's.
    pub(crate) owners: Vec<String>,
    /// Of a kind.
    pub(crate) kind: Option<ScopeKind>,
    /// Of an owner.
    pub(crate) owner: Option<String>,
    /// With this text in it, in lower case.
    pub(crate) search: Option<String>,
    /// Whose name matches this pattern.
    pub(crate) pattern: Option<Pattern>,
    /// Where a policy is attached, or where none is.
    pub(crate) attached: Option<bool>,
    /// Where the policy of this name is.
    pub(crate) policy: Option<String>,
}

/// A page of scopes.
pub(crate) struct FoundScopes<'t> {
    pub(crate) items: Vec<&'t SeenScope>,
    pub(crate) next: Option<String>,
    /// All that were found.
    pub(crate) total: u64,
}

impl SeenScope {
    fn new(scope: &Scope, kind: ScopeKind, judge: &Judge<'_>) -> Self {
        let text = scope.to_string();
        Self {
            baseline: judge.state_of(&text),
            policy: judge.standing(scope),
            scope: text,
            kind,
            first_seen: None,
            last_seen: None,
            jobs: 0,
            workflows: 0,
        }
    }

    fn add(&mut self, row: &CoverageRow) {
        let first = self
            .first_seen
            .map_or(row.first_seen, |first| first.min(row.first_seen));
        let last = self
            .last_seen
            .map_or(row.last_seen, |last| last.max(row.last_seen));
        (self.first_seen, self.last_seen) = (Some(first), Some(last));
        self.jobs = self.jobs.saturating_add(row.jobs);
        self.workflows += 1;
    }

    /// What stands behind the colon.
    fn name(&self) -> &str {
        self.scope.split_once(':').map_or("", |(_, name)| name)
    }

    fn owner(&self) -> Option<&str> {
        (self.kind != ScopeKind::Cluster).then(|| self.name().split('/').next().unwrap_or_default())
    }

    fn lies_in(&self, which: &WhichScopes) -> bool {
        let owned = match self.owner() {
            Some(owner) => {
                (which.owners.is_empty() || which.owners.iter().any(|one| one == owner))
                    && which.owner.as_deref().is_none_or(|wanted| wanted == owner)
            }
            None => which.owners.is_empty() && which.owner.is_none(),
        };
        let held = self.policy.as_ref();
        owned
            && which.kind.is_none_or(|kind| kind == self.kind)
            && which.attached.is_none_or(|attached| attached == held.is_some())
            && which
                .policy
                .as_ref()
                .is_none_or(|name| held.is_some_and(|held| held.name == *name))
            && which
                .search
                .as_ref()
                .is_none_or(|search| self.scope.to_lowercase().contains(search.as_str()))
            && which
                .pattern
                .as_ref()
                .is_none_or(|pattern| pattern.matches(self.name()))
    }
}

/// What kind of scope it is, of those that can be attached to.
fn kind(scope: &Scope) -> Option<ScopeKind> {
    match scope {
        Scope::Organization(_) => Some(ScopeKind::Org),
        Scope::Repository(_) => Some(ScopeKind::Repo),
        Scope::Workflow(_) => Some(ScopeKind::Workflow),
        Scope::Cluster(_) => Some(ScopeKind::Cluster),
        Scope::Network(_) | Scope::Lease(_) => None,
    }
}

/// Every scope, in order.
pub(super) fn all(rows: &[Arc<CoverageRow>], judge: &Judge<'_>) -> Vec<SeenScope> {
    let mut all: BTreeMap<Scope, SeenScope> = BTreeMap::new();
    for row in rows {
        let job = identity(&row.owner, &row.repo, &row.workflow, &row.cluster);
        for scope in job.scopes() {
            if let Some(kind) = kind(&scope) {
                let seen = all
                    .entry(scope)
                    .or_insert_with_key(|scope| SeenScope::new(scope, kind, judge));
                seen.add(row);
            }
        }
    }
    for scope in judge.policies.attached.keys() {
        if let Some(kind) = kind(scope)
            && !all.contains_key(scope)
        {
            all.insert(scope.clone(), SeenScope::new(scope, kind, judge));
        }
    }
    let mut all: Vec<SeenScope> = all.into_values().collect();
    all.sort_unstable_by(|one, other| one.scope.cmp(&other.scope));
    all
}

impl Table {
    /// Scopes behind `after`, `limit` at most, in the order of their text.
    pub(crate) fn scopes(&self, which: &WhichScopes, after: Option<&str>, limit: usize) -> FoundScopes<'_> {
        let mut total = 0;
        let mut items = Vec::new();
        let mut more = false;
        for seen in self.scopes.iter().filter(|seen| seen.lies_in(which)) {
            total += 1;
            if after.is_some_and(|after| seen.scope.as_str() <= after) {
                continue;
            }
            if items.len() < limit {
                items.push(seen);
            } else {
                more = true;
            }
        }
        let next = items.last().filter(|_| more).map(|seen| seen.scope.clone());
        FoundScopes { items, next, total }
    }
}
