//! A job as the API tells it: who it is, what its verdicts add up to, which policy holds for it and why.

use serde::Deserialize;

use crate::event::size;
use crate::text::{Text, url};
use crate::time::When;

/// What a job says of itself, as far as it is known.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::pages) struct Identity {
    pub(in crate::pages) owner: Text,
    pub(in crate::pages) repo: Text,
    pub(in crate::pages) workflow: Text,
    pub(in crate::pages) job: Text,
    pub(in crate::pages) run_id: Text,
    pub(in crate::pages) run_attempt: u32,
    pub(in crate::pages) runner_name: Text,
    pub(in crate::pages) cluster: Text,
    pub(in crate::pages) event: Text,
    #[serde(rename = "ref")]
    pub(in crate::pages) git_ref: Text,
    pub(in crate::pages) actor: Text,
    pub(in crate::pages) head_repo: Text,
    pub(in crate::pages) assurance: Text,
}

impl Identity {
    /// Its run's page; none when it named no run.
    pub(in crate::pages) fn run(&self) -> Option<String> {
        run_href(self.repo.raw(), self.run_id.raw())
    }
}

/// A run's page.
pub(in crate::pages) fn run_href(repo: &str, run_id: &str) -> Option<String> {
    let (owner, name) = repo.split_once('/')?;
    (!run_id.is_empty()).then(|| url(&["ui", "runs", owner, name, run_id], &[]))
}

/// What the verdicts about jobs add up to.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::pages) struct Counts {
    pub(in crate::pages) permit: u64,
    pub(in crate::pages) refuse: u64,
    pub(in crate::pages) would_refuse: u64,
    pub(super) bytes_up: u64,
    pub(super) bytes_down: u64,
}

impl Counts {
    pub(super) fn up(&self) -> String {
        size(self.bytes_up)
    }

    pub(super) fn down(&self) -> String {
        size(self.bytes_down)
    }
}

/// A job.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::pages) struct Job {
    pub(in crate::pages) id: Text,
    pub(super) gateway: Text,
    pub(super) network: Text,
    #[serde(default)]
    pub(super) sources: Vec<Text>,
    pub(in crate::pages) identity: Identity,
    pub(super) credential: Text,
    pub(in crate::pages) started_at: When,
    pub(super) expires_at: When,
    pub(super) group: Text,
    pub(in crate::pages) ended_at: Option<When>,
    pub(super) ended_by: Option<Text>,
    #[serde(default)]
    pub(in crate::pages) counts: Option<Counts>,
}

impl Job {
    /// What it is called: its name within the workflow, else its id.
    pub(in crate::pages) fn title(&self) -> String {
        if self.identity.job.is_empty() {
            self.id.to_string()
        } else {
            self.identity.job.to_string()
        }
    }

    pub(in crate::pages) fn href(&self) -> String {
        url(&["ui", "jobs", self.id.raw()], &[])
    }

    pub(super) fn part(&self, part: &str, query: &[(&str, &str)]) -> String {
        url(&["ui", "jobs", self.id.raw(), part], query)
    }

    pub(in crate::pages) fn alive(&self) -> bool {
        self.ended_at.is_none()
    }
}

/// A policy that holds.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::pages) struct Held {
    #[serde(default)]
    pub(in crate::pages) owner: Text,
    pub(in crate::pages) name: Text,
    pub(in crate::pages) version: u32,
    pub(in crate::pages) mode: Text,
    #[serde(default)]
    pub(in crate::pages) unusable: bool,
}

impl Held {
    pub(in crate::pages) fn href(&self) -> String {
        url(
            &["ui", "orgs", self.owner.raw(), "policies", self.name.raw()],
            &[],
        )
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Facet {
    pub(super) policy: Option<Held>,
    pub(super) scope: Option<Text>,
}

#[derive(Clone, Debug, Deserialize)]
pub(in crate::pages) struct Considered {
    pub(in crate::pages) scope: Text,
    pub(in crate::pages) policy: Option<Held>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct InForce {
    pub(super) gateway: Text,
    pub(super) lease: bool,
    pub(super) connected: bool,
}

/// The policy that holds for the job, and why.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::pages) struct Effective {
    pub(super) egress: Facet,
    pub(super) lockdown: Facet,
    pub(in crate::pages) considered: Vec<Considered>,
    pub(super) decided_by: Text,
    pub(super) min_assurance: Option<Text>,
    pub(super) default_policy: Option<Text>,
    pub(super) in_force: Vec<InForce>,
    pub(super) why: Vec<Text>,
}

impl Effective {
    pub(super) fn is_policy(&self) -> bool {
        self.decided_by.raw() == "policy"
    }
}
