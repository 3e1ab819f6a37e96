//! The lease table under the rules of "Who is asking" (policy-semantics.md), row by row, and its bounds.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod asking;
mod bounds;
mod enriching;
mod links;
mod previews;
mod properties;
mod reload;
mod restoring;

use std::time::Duration;

use super::*;
use crate::effective::{Attached, Edition, Generation, NetworkPolicies, Slot};
use crate::fixture::{at, ip, job, network, policy_with};
use crate::job::Scope;
use crate::rulebook::Governing;
use crate::subject::{RunnerKind, Standing};
use crate::verdict::Reason;

const NOBODY: [IpAddr; 0] = [];
const HOUR: Duration = Duration::from_hours(1);
const MACHINE: Mac = Mac([2, 0, 0, 0, 0, 1]);
const OTHER_MACHINE: Mac = Mac([2, 0, 0, 0, 0, 2]);

/// Policies: `acme` for the organization, `web` for acme/web, `default` for the network `runners`.
fn policies() -> Arc<PolicySet> {
    let slot = |name: &str| {
        Slot::Policy(policy_with(
            name,
            &format!("allowed-endpoints: {name}.test:443"),
            &[],
        ))
    };
    let attach = |scope: Scope, name: &str| (scope, Attached::always(slot(name), None));
    let attached = [
        attach(Scope::Organization("acme".into()), "acme"),
        attach(Scope::Repository("acme/web".into()), "web"),
    ];
    let networks = [(
        "runners".into(),
        NetworkPolicies {
            default: slot("default"),
            always_allow: None,
        },
    )];
    Arc::new(PolicySet {
        attached: attached.into_iter().collect(),
        networks: networks.into_iter().collect(),
        ..PolicySet::default()
    })
}

fn runners() -> Network {
    network("runners", &["10.77.0.0/16", "fd77::/64"])
}

fn persistent() -> Network {
    Network {
        runners: RunnerKind::Persistent,
        ..runners()
    }
}

fn table_of(networks: Vec<Network>) -> LeaseTable {
    LeaseTable::new(networks, policies())
}

fn table() -> LeaseTable {
    table_of(vec![runners()])
}

fn runner_token(owners: &[&str]) -> Credential {
    let owners = owners.iter().map(|owner| CompactString::from(*owner)).collect();
    Credential::RunnerToken(TokenScope {
        owners,
        ..TokenScope::default()
    })
}

fn provisioner() -> Credential {
    Credential::Provisioner(TokenScope::default())
}

fn request(source: &str, repo: &str, run: &str, credential: Credential) -> Registration {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let serial = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    Registration {
        id: compact_str::format_compact!("lease-{serial}"),
        sources: source.split_whitespace().map(ip).collect(),
        mac: None,
        identity: job(repo, run),
        began: Generation::NEWEST,
        lifetime: HOUR,
        credential,
    }
}

/// Registers acme/web's run 1 with a runner token.
fn start(table: &LeaseTable, source: &str) -> Arc<Lease> {
    table
        .register(request(source, "acme/web", "1", runner_token(&["acme"])), at(0))
        .unwrap()
        .lease
}

/// A lease of acme/web's run 1 that was granted elsewhere.
fn granted_elsewhere(id: &str, sources: &str) -> AdoptedLease {
    AdoptedLease {
        id: id.into(),
        network: "runners".into(),
        sources: sources
            .split_whitespace()
            .map(|source| (ip(source), None))
            .collect(),
        identity: JobIdentity {
            assurance: Assurance::Declared,
            cluster: "prod".into(),
            ..job("acme/web", "1")
        },
        began: Generation::default(),
        lifetime: HOUR,
    }
}

fn neighbour(address: &str, mac: Mac) -> Neighbour {
    Neighbour {
        address: ip(address),
        mac,
        network: "runners".into(),
    }
}

fn standing(table: &LeaseTable, source: &str, seconds: u64) -> Standing {
    table.lookup(ip(source), at(seconds)).standing
}

/// Name of the policy that governs a subject, or the reason why everything is refused to it.
fn governed_by(subject: &Subject) -> Result<String, Reason> {
    match &subject.rulebook().governing {
        Governing::Policy(policy, _) => Ok(policy.meta.name.to_string()),
        Governing::DenyAll(reason) => Err(*reason),
    }
}

fn judged(table: &LeaseTable, source: &str, seconds: u64) -> Result<String, Reason> {
    governed_by(&table.lookup(ip(source), at(seconds)))
}

fn single(net: &str) -> IpNet {
    IpNet::from(ip(net))
}
