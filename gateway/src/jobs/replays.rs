//! Proofs that were used: an OIDC token registers one job at one machine, and no second one.
//!
//! The control plane remembers them for every gateway; this is what stands in for it while it is away. Bounded: at the
//! bound nothing is forgotten before its time, new proofs are refused.

use std::collections::BTreeSet;

use compact_str::CompactString;
use hashbrown::HashMap;
use jiff::Timestamp;
use tidegate_control_wire::claim::OnceProof;
use tidegate_control_wire::record::LeaseRecord;
use tidegate_policy::lease::Mac;

/// Proofs remembered.
pub(super) const MAX_PROOFS: usize = 65_536;

/// What using a proof came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// It is this lease's now.
    First,
    /// It is another lease's.
    Again,
    /// Too many are remembered; nothing was changed.
    Full,
}

/// Who issued a proof, and its key there.
type Name = (String, String);

/// What became of a proof.
#[derive(Debug, Default)]
struct Known {
    /// The lease that it is used for.
    lease: Option<CompactString>,
    /// What was claimed by it, and may have come about or not.
    tried: Option<Box<Tried>>,
}

/// A lease that was claimed, and by which machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tried {
    pub(super) lease: LeaseRecord,
    pub(super) mac: Option<Mac>,
}

/// The proofs that can still be used, and by whom they were.
#[derive(Debug)]
pub(super) struct Replays {
    capacity: usize,
    known: HashMap<Name, Known>,
    /// By expiry, to forget in that order.
    order: BTreeSet<(Timestamp, Name)>,
}

impl Replays {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            known: HashMap::new(),
            order: BTreeSet::new(),
        }
    }

    /// Uses a proof for a lease.
    pub(super) fn take(&mut self, proof: &OnceProof, lease: &str, now: Timestamp) -> Use {
        self.forget_expired(now);
        let name = name_of(proof);
        match self.known.get(&name).map(|known| known.lease.as_deref()) {
            Some(Some(owner)) if owner == lease => return Use::First,
            Some(Some(_)) => return Use::Again,
            None if self.known.len() >= self.capacity => return Use::Full,
            Some(None) | None => {}
        }
        self.order.insert((proof.expires_at, name.clone()));
        self.known.entry(name).or_default().lease = Some(lease.into());
        Use::First
    }

    /// Gives a proof back whose lease did not come about.
    pub(super) fn give_back(&mut self, proof: &OnceProof) {
        let name = name_of(proof);
        match self.known.get_mut(&name) {
            Some(known) if known.tried.is_some() => known.lease = None,
            Some(_) | None => {
                self.known.remove(&name);
                self.order.remove(&(proof.expires_at, name));
            }
        }
    }

    /// Notes of a proof in use that nobody knows whether its lease came about.
    pub(super) fn undecided(&mut self, proof: &OnceProof, tried: Tried) {
        if let Some(known) = self.known.get_mut(&name_of(proof)) {
            known.tried = Some(tried.into());
        }
    }

    /// The lease that was claimed last by a proof which is nobody's, and may have come about.
    pub(super) fn tried(&self, proof: &OnceProof) -> Option<&Tried> {
        let known = self.known.get(&name_of(proof))?;
        known.tried.as_deref().filter(|_| known.lease.is_none())
    }

    fn forget_expired(&mut self, now: Timestamp) {
        while let Some((at, _)) = self.order.first()
            && *at <= now
        {
            if let Some((_, name)) = self.order.pop_first() {
                self.known.remove(&name);
            }
        }
    }
}

fn name_of(proof: &OnceProof) -> Name {
    (proof.issuer.clone(), proof.key.clone())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::jobs::tests::fixture::record;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn proof(key: &str, second: i64) -> OnceProof {
        OnceProof {
            issuer: "https://issuer.test".into(),
            key: key.into(),
            expires_at: at(second),
        }
    }

    #[test]
    fn a_proof_is_one_leases_until_it_expires() {
        let mut replays = Replays::new(8);
        assert_eq!(replays.take(&proof("a", 10), "job_1", at(0)), Use::First);
        assert_eq!(replays.take(&proof("a", 10), "job_1", at(1)), Use::First);
        assert_eq!(replays.take(&proof("a", 10), "job_2", at(9)), Use::Again);
        let elsewhere = OnceProof {
            issuer: "https://other.test".into(),
            ..proof("a", 10)
        };
        assert_eq!(replays.take(&elsewhere, "job_2", at(9)), Use::First);
        assert_eq!(replays.take(&proof("b", 10), "job_2", at(9)), Use::First);
        assert_eq!(replays.take(&proof("c", 30), "job_3", at(10)), Use::First);
        assert_eq!(
            (replays.known.len(), replays.order.len()),
            (1, 1),
            "the expired are forgotten"
        );
    }

    #[test]
    fn a_proof_that_came_to_nothing_can_be_used_again() {
        let mut replays = Replays::new(8);
        assert_eq!(replays.take(&proof("a", 10), "job_1", at(0)), Use::First);
        replays.give_back(&proof("a", 10));
        assert_eq!(replays.take(&proof("a", 10), "job_2", at(0)), Use::First);
    }

    #[test]
    fn a_lease_that_may_have_come_about_is_known_while_its_proof_is_nobodys() {
        let mut replays = Replays::new(8);
        let used = proof("a", 10);
        assert_eq!(replays.take(&used, "job_1", at(0)), Use::First);
        let tried = Tried {
            lease: record("job_1"),
            mac: None,
        };
        replays.undecided(&used, tried.clone());
        assert_eq!(replays.tried(&used), None, "it is in use");
        replays.give_back(&used);
        assert_eq!(replays.tried(&used), Some(&tried));
        assert_eq!(replays.take(&used, "job_2", at(0)), Use::First, "it is nobody's");
        assert_eq!(replays.tried(&used), None);
        replays.give_back(&used);
        assert_eq!(replays.tried(&used), Some(&tried));
        assert_eq!(replays.take(&used, "job_1", at(0)), Use::First);
        assert_eq!(replays.take(&used, "job_2", at(0)), Use::Again);
        assert_eq!(replays.take(&proof("b", 30), "job_3", at(10)), Use::First);
        assert_eq!((replays.known.len(), replays.order.len()), (1, 1));
    }

    #[test]
    fn at_the_bound_new_proofs_are_refused_and_none_is_forgotten() {
        let mut replays = Replays::new(2);
        assert_eq!(replays.take(&proof("a", 10), "job_1", at(0)), Use::First);
        assert_eq!(replays.take(&proof("b", 20), "job_2", at(0)), Use::First);
        assert_eq!(replays.take(&proof("c", 30), "job_3", at(0)), Use::Full);
        assert_eq!(replays.take(&proof("a", 10), "job_3", at(0)), Use::Again);
        assert_eq!(replays.take(&proof("c", 30), "job_3", at(10)), Use::First);
    }
}
