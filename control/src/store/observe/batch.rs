//! A batch of events by what it says: which runs are there, what they reached, what they were kept from.
//!
//! Pure. Grouped over borrowed text, because fifty thousand events a second pass here and nearly all of them say what
//! was said before; only a group that is looked up further owns its texts.

use std::net::IpAddr;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use jiff::Timestamp;
use tidegate_control_wire::event::{EventJob, EventRecord};

use super::observer::{Call, Fact};
use crate::baseline::sighting::{self, Run, Told};
use crate::baseline::{Target, Trust};

/// Events that say the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group<'e> {
    /// The first of them.
    pub(super) event: &'e EventRecord,
    /// Its job.
    pub(super) job: &'e EventJob,
    /// How many verdicts they stand for.
    pub(super) calls: u64,
    /// The time of the first, not in the future.
    pub(super) first: Timestamp,
    /// Of the last.
    pub(super) last: Timestamp,
}

impl Group<'_> {
    /// How far its job is to be believed.
    pub(super) fn trust(&self) -> Trust {
        Trust::of(self.job)
    }

    /// What it is about.
    pub(super) fn target(&self) -> Target {
        sighting::target(self.event)
    }

    /// That its run was seen here (without a target), or reached this.
    pub(super) fn sighting(&self, target: Option<Target>) -> Option<Fact> {
        Some(Fact::Sighting {
            run: Run::of(self.job)?,
            workflow: self.job.workflow.clone(),
            cluster: self.job.cluster.clone(),
            trust: self.trust(),
            target,
        })
    }

    /// Where its calls are counted.
    pub(super) fn call(&self, target: Target) -> Call {
        Call {
            owner: self.job.owner.clone(),
            repo: self.job.repo.clone(),
            workflow: self.job.workflow.clone(),
            cluster: self.job.cluster.clone(),
            target,
        }
    }

    fn add(&mut self, event: &Self) {
        self.calls = self.calls.saturating_add(event.calls);
        self.last = self.last.max(event.last);
        if event.first < self.first {
            (self.first, self.event, self.job) = (event.first, event.event, event.job);
        }
    }
}

/// Events, grouped. Each list is in the order of first times.
#[derive(Debug, Default)]
pub(super) struct Batch<'e> {
    /// By run, and where it was seen at work.
    pub(super) runs: Vec<Group<'e>>,
    /// By run and endpoint.
    pub(super) reached: Vec<Group<'e>>,
    /// By job and what it was kept from.
    pub(super) refused: Vec<Group<'e>>,
    /// By repository and name.
    pub(super) suffixes: Vec<Group<'e>>,
}

/// Where a run was seen.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Place<'e> {
    owner: &'e str,
    repo: &'e str,
    run: &'e str,
    workflow: &'e str,
    cluster: &'e str,
    trust: Trust,
}

/// What it reached, or was kept from.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum End<'e> {
    Name(&'e str),
    Address(Option<IpAddr>),
}

impl<'e> End<'e> {
    fn of(event: &'e EventRecord) -> Self {
        match &event.name {
            Some(name) => Self::Name(name),
            None => Self::Address(event.address),
        }
    }
}

impl<'e> Batch<'e> {
    /// Groups events. None is taken to be later than `now`.
    pub(super) fn of(events: impl IntoIterator<Item = &'e EventRecord>, now: Timestamp) -> Self {
        let (mut runs, mut reached, mut refused, mut suffixes) =
            (HashMap::new(), HashMap::new(), HashMap::new(), HashMap::new());
        for event in events {
            let Some(job) = &event.job else { continue };
            let at = event.time.min(now);
            let one = Group {
                event,
                job,
                calls: event.count,
                first: at,
                last: at,
            };
            let place = Place {
                owner: &job.owner,
                repo: &job.repo,
                run: if job.run_id.is_empty() || job.repo.is_empty() {
                    &job.id
                } else {
                    &job.run_id
                },
                workflow: &job.workflow,
                cluster: &job.cluster,
                trust: Trust::of(job),
            };
            if sighting::shows_run(event) {
                add(&mut runs, place, one);
            }
            match sighting::told(event) {
                Told::Nothing => {}
                Told::Reached => {
                    let by = event.kind == tidegate_policy::event::Kind::Udp;
                    add(&mut reached, (place, End::of(event), event.port, by), one);
                }
                Told::Refused => {
                    let target = sighting::target(event);
                    let key = (job.id.as_str(), End::of(event), target.port, target.transport);
                    add(&mut refused, key, one);
                }
                Told::SearchSuffix => add(&mut suffixes, (place, End::of(event)), one),
            }
        }
        Self {
            runs: sorted(runs),
            reached: sorted(reached),
            refused: sorted(refused),
            suffixes: sorted(suffixes),
        }
    }
}

fn add<'e, K: std::hash::Hash + Eq>(groups: &mut HashMap<K, Group<'e>>, key: K, one: Group<'e>) {
    match groups.entry(key) {
        Entry::Occupied(mut group) => group.get_mut().add(&one),
        Entry::Vacant(place) => {
            place.insert(one);
        }
    }
}

/// By time; events of one moment in an order that does not depend on chance.
fn sorted<'e, K>(groups: HashMap<K, Group<'e>>) -> Vec<Group<'e>> {
    let mut groups: Vec<Group<'e>> = groups.into_values().collect();
    groups.sort_by(|one, other| {
        one.first
            .cmp(&other.first)
            .then_with(|| one.event.id.cmp(&other.event.id))
    });
    groups
}
