//! What one event says about a baseline: which run it is of, what that run reached, and how far it is to be believed.
//!
//! An endpoint is kept as a policy would name it: the name, else the address, with port and transport. TLS, HTTP, other
//! TCP and judged QUIC are one transport (a plain `host:443` permits them all), so a client that turns to QUIC reaches
//! nothing new. DNS queries are no endpoints. What the platform pack or the host's own list permits is left out: it is
//! permitted whatever a policy says, and it is the runner's doing, not the job's.

use std::net::IpAddr;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use tidegate_control_wire::event::{EventJob, EventRecord};
use tidegate_policy::compile::rules::RuleSource;
use tidegate_policy::endpoint;
use tidegate_policy::event::Kind;
use tidegate_policy::job::{Assurance, Scope};
use tidegate_policy::verdict::{Reason, Verdict};
use utoipa::ToSchema;

/// How far what a job reaches is to be believed to be what its scope's jobs do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// The scope's own code, as far as is known.
    Trusted,
    /// A pull request from a fork, or one of which nobody said where it comes from.
    Fork,
    /// An identity without a credential.
    Claimed,
}

impl Trust {
    /// Of a job.
    pub fn of(job: &EventJob) -> Self {
        if job.assurance == Assurance::Claimed {
            Self::Claimed
        } else if job.event.starts_with("pull_request") && job.head_repo != job.repo {
            Self::Fork
        } else {
            Self::Trusted
        }
    }

    /// The spelling in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::Fork => "fork",
            Self::Claimed => "claimed",
        }
    }

    /// From that spelling.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Trusted, Self::Fork, Self::Claimed]
            .into_iter()
            .find(|one| one.as_str() == text)
    }
}

/// The transport of an endpoint, as policies write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// `host:443`: TCP, and judged QUIC.
    Tcp,
    /// `host:123/udp`.
    Udp,
    /// A name that was only asked for: of refusals, never of endpoints.
    Dns,
    /// Without ports: of refusals, never of endpoints.
    Ip,
}

impl Transport {
    /// Every transport.
    pub const ALL: [Self; 4] = [Self::Tcp, Self::Udp, Self::Dns, Self::Ip];

    /// The spelling in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Dns => "dns",
            Self::Ip => "ip",
        }
    }

    /// From that spelling.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }

    /// As a rule sees it; `None` where no port was reached for.
    pub const fn of_flow(self) -> Option<endpoint::Transport> {
        match self {
            Self::Tcp => Some(endpoint::Transport::Tcp),
            Self::Udp => Some(endpoint::Transport::Udp),
            Self::Dns | Self::Ip => None,
        }
    }

    const fn of(kind: Kind) -> Self {
        match kind {
            Kind::Tls | Kind::Http | Kind::Quic | Kind::Tcp => Self::Tcp,
            Kind::Udp => Self::Udp,
            Kind::Dns => Self::Dns,
            Kind::Icmp | Kind::Ip => Self::Ip,
        }
    }
}

/// What was reached for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// The name, else the address. Of strangers: printable, not necessarily an endpoint.
    pub endpoint: CompactString,
    /// The port; 0 where none was reached for.
    pub port: u16,
    /// By what.
    pub transport: Transport,
}

/// What an event says of where its job went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing.
    Nothing,
    /// The job reached something.
    Reached,
    /// The job was kept from something.
    Refused,
    /// A resolver appended a search suffix to an allowed name.
    SearchSuffix,
}

/// What an event says. Events without a job say nothing: nobody's baseline, nobody's detection.
pub fn told(event: &EventRecord) -> Told {
    if event.count == 0 || event.job.is_none() {
        return Told::Nothing;
    }
    match (event.kind, event.verdict) {
        (Kind::Dns, Verdict::Refuse | Verdict::WouldRefuse)
            if event.reason.as_deref() == Some(Reason::SearchSuffix.as_str()) =>
        {
            Told::SearchSuffix
        }
        (_, Verdict::Refuse) => Told::Refused,
        (
            Kind::Tls | Kind::Http | Kind::Quic | Kind::Tcp | Kind::Udp,
            Verdict::Permit | Verdict::WouldRefuse,
        ) if !is_runners_own(event) && has_end(event) => Told::Reached,
        (
            Kind::Dns | Kind::Tls | Kind::Http | Kind::Quic | Kind::Tcp | Kind::Udp | Kind::Icmp | Kind::Ip,
            Verdict::Permit | Verdict::WouldRefuse,
        ) => Told::Nothing,
    }
}

/// Whether an event shows its run at work: a flow that went through, to wherever. Refusals and queries show nothing; they
/// come by another way than permits, and a hundred runs of which only those are known are no quiet runs.
pub fn shows_run(event: &EventRecord) -> bool {
    match event.kind {
        Kind::Tls | Kind::Http | Kind::Quic | Kind::Tcp | Kind::Udp => {
            event.count > 0 && event.verdict != Verdict::Refuse
        }
        Kind::Dns | Kind::Icmp | Kind::Ip => false,
    }
}

/// Permitted by a list that stands beside every policy.
fn is_runners_own(event: &EventRecord) -> bool {
    let source = event.rule_source.as_deref();
    event.verdict == Verdict::Permit
        && [RuleSource::Platform, RuleSource::Host]
            .iter()
            .any(|own| source == Some(own.kind()))
}

fn has_end(event: &EventRecord) -> bool {
    event.name.is_some() || event.address.is_some()
}

/// What an event is about.
pub fn target(event: &EventRecord) -> Target {
    let transport = Transport::of(event.kind);
    let endpoint = match (&event.name, event.address) {
        (Some(name), _) => name.clone(),
        (None, Some(address)) => compact_str::format_compact!("{}", address.to_canonical()),
        (None, None) => CompactString::default(),
    };
    Target {
        endpoint,
        // The port of a query is the asked server's.
        port: if transport.of_flow().is_some() {
            event.port
        } else {
            0
        },
        transport,
    }
}

/// A run: all attempts, all jobs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Run {
    /// `owner/name`; empty when the job says no repository.
    pub repo: CompactString,
    /// The forge's number; a job that names none is a run of its own, by the id of its lease.
    pub run: CompactString,
}

impl Run {
    /// Of a job; `None` when nothing tells it from others.
    pub fn of(job: &EventJob) -> Option<Self> {
        let run = if job.run_id.is_empty() || job.repo.is_empty() {
            &job.id
        } else {
            &job.run_id
        };
        (!run.is_empty()).then(|| Self {
            repo: job.repo.clone(),
            run: run.clone(),
        })
    }
}

/// The scopes that a job belongs to, narrowest first. A repository that is not its owner's belongs to nobody.
pub fn scopes(job: &EventJob) -> Vec<Scope> {
    scopes_of(&job.owner, &job.repo, &job.workflow, &job.cluster)
}

/// The same, of the parts that the store keeps.
pub fn scopes_of(owner: &str, repo: &str, workflow: &str, cluster: &str) -> Vec<Scope> {
    let mut scopes = Vec::with_capacity(4);
    let own = repo
        .split_once('/')
        .is_some_and(|(of, name)| of == owner && !name.is_empty());
    if own && !workflow.is_empty() {
        scopes.push(Scope::Workflow(compact_str::format_compact!("{repo}/{workflow}")));
    }
    if own {
        scopes.push(Scope::Repository(repo.into()));
    }
    if !owner.is_empty() {
        scopes.push(Scope::Organization(owner.into()));
    }
    if !cluster.is_empty() {
        scopes.push(Scope::Cluster(cluster.into()));
    }
    scopes
}

/// The owner of a scope; `None` for a cluster, which lies outside of every owner.
pub fn owner_of(scope: &Scope) -> Option<&str> {
    match scope {
        Scope::Workflow(name) | Scope::Repository(name) | Scope::Organization(name) => name.split('/').next(),
        Scope::Cluster(_) | Scope::Network(_) | Scope::Lease(_) => None,
    }
}

/// An address, when the endpoint is one.
pub fn address(endpoint: &str) -> Option<IpAddr> {
    endpoint.parse().ok()
}

#[cfg(test)]
mod tests;
