//! What a client says about a job without a credential, on a source that holds a lease already.
//!
//! It names what the lease leaves open, for people who read events. It never decides: owner, repository, workflow,
//! cluster and assurance stay, and with them the policy.

use std::net::IpAddr;
use std::sync::Arc;

use compact_str::CompactString;

use super::state::{Place, State};
use crate::Moment;
use crate::event::JobRecord;
use crate::job::JobIdentity;

impl State {
    pub(super) fn enrich(&mut self, source: IpAddr, claim: JobIdentity, now: Moment) -> bool {
        let subject = self.resolve(source, now);
        // A machine of the configuration runs one job after another: what the last one said is not of this one. Of
        // a job's own lease what was said first stays: its later steps don't rename it.
        let granted = match self.place(source) {
            Place::Lease(key) => {
                let lease = self.leases.get(&key).map(|entry| &entry.lease);
                let fixed = lease.filter(|lease| lease.expires.is_none());
                fixed.map(|lease| Arc::clone(&lease.job))
            }
            Place::Range(key, _) => {
                let range = self.ranges.iter().find(|range| range.key == key);
                range.map(|range| Arc::new(range.job(&subject.network)))
            }
            Place::Foreign | Place::Quarantined | Place::Unbound | Place::Unleased => return false,
        };
        // None at the bound of on-demand subjects, where many sources share one.
        let Some(known) = subject.job() else {
            return true;
        };
        let base = granted.unwrap_or_else(|| Arc::clone(&known));
        let identity = filled(&base.identity, claim.canonical());
        if let Some(identity) = identity.filter(|identity| *identity != known.identity) {
            let id = known.id.clone();
            subject.enrich(Arc::new(JobRecord { id, identity }));
        }
        true
    }
}

/// An identity with what is open in it taken from a claim; `None` when the claim is of another job.
fn filled(known: &JobIdentity, claim: JobIdentity) -> Option<JobIdentity> {
    let differs =
        |one: &CompactString, other: &CompactString| !one.is_empty() && !other.is_empty() && one != other;
    if differs(&known.owner, &claim.owner)
        || differs(&known.repo, &claim.repo)
        || differs(&known.run_id, &claim.run_id)
    {
        return None;
    }
    let mut identity = known.clone();
    for (field, said) in [
        (&mut identity.job, claim.job),
        (&mut identity.run_id, claim.run_id),
        (&mut identity.runner_name, claim.runner_name),
        (&mut identity.event, claim.event),
        (&mut identity.git_ref, claim.git_ref),
        (&mut identity.actor, claim.actor),
    ] {
        if field.is_empty() {
            *field = said;
        }
    }
    if identity.run_attempt == 0 {
        identity.run_attempt = claim.run_attempt;
    }
    Some(identity)
}
