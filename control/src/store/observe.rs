//! What fresh events mean for baselines and detections, inside of the transaction that stores them.
//!
//! Nearly every event says what is stored already: that a known run reached a known endpoint again. Those are told by
//! memory ([`observer`]) and cost a look-up; their counts are added every few seconds. What is left is small: a run's
//! first word, its first way to an endpoint, a refusal. For these the runs' sightings are read ([`prior`]), the scopes'
//! baselines are advanced ([`ledger`]) and detections are made ([`detect`]).

mod batch;
mod counts;
mod detect;
mod ledger;
mod observer;
mod prior;
mod upkeep;

use std::sync::Arc;

use jiff::Timestamp;
use tidegate_control_wire::event::EventRecord;

use self::batch::{Batch, Group};
use self::detect::Drafts;
use self::ledger::{Deed, Ledgers, Outcome};
use self::observer::{Count, Fact, Learned};
use self::prior::Row;
use super::{Micros, StoreError, Tx};
use crate::baseline::sighting::{Run, scopes};
use crate::baseline::{Target, Trust, detection};

pub(super) use ledger::{read_standing, stamp};
pub(super) use observer::{Observer, Rules};
pub(super) use prior::target;
pub(super) use upkeep::{Observing, Upkeep};

/// Endpoints that a baseline can hold, of whomever.
pub(super) const MOST_ROWS: i64 = ledger::MAX_ENDPOINTS + ledger::MAX_STRANGERS;
/// Names of search suffixes that a scope keeps.
const MAX_SUFFIXES: i64 = 1_000;

/// What a batch says that is not known.
#[derive(Debug, Default)]
struct News<'e> {
    runs: Vec<Group<'e>>,
    reached: Vec<(Group<'e>, Target)>,
    refused: Vec<(Group<'e>, detection::Severity)>,
    suffixes: Vec<Group<'e>>,
}

/// What fresh events say: what is not known, and what is learned of the rest once they are stored.
#[derive(Debug)]
pub(super) struct Seen<'e> {
    news: News<'e>,
    learned: Learned,
}

impl<'e> Seen<'e> {
    /// Of events that were not stored before, in the order in which they were sent. None is taken to be later than `now`.
    pub(super) fn of(
        fresh: impl Iterator<Item = &'e EventRecord>,
        now: Timestamp,
        observer: &Observer,
    ) -> Self {
        let mut learned = Learned::default();
        let news = News::of(Batch::of(fresh, now), observer, &mut learned);
        Self { news, learned }
    }
}

impl<'e> News<'e> {
    /// Leaves out what is known, and counts it.
    fn of(batch: Batch<'e>, observer: &Observer, learned: &mut Learned) -> Self {
        let mut news = Self::default();
        for group in batch.runs {
            let fact = group.sighting(None).filter(|_| group.trust() == Trust::Trusted);
            if fact.is_some_and(|fact| !observer.knows(&fact)) {
                news.runs.push(group);
            }
        }
        for group in batch.reached {
            news.reach(group, observer, learned);
        }
        for group in batch.refused {
            news.refuse(group, observer, learned);
        }
        for group in batch.suffixes {
            // Strangers don't say what is noise.
            let fact = suffix(&group).filter(|_| group.trust() == Trust::Trusted);
            if fact.is_some_and(|fact| !observer.knows(&fact)) {
                news.suffixes.push(group);
            }
        }
        news
    }

    fn reach(&mut self, group: Group<'e>, observer: &Observer, learned: &mut Learned) {
        let target = group.target();
        let (Some(run), Some(fact)) = (Run::of(group.job), group.sighting(Some(target.clone()))) else {
            return;
        };
        if observer.knows(&fact) {
            learned.counts.call(group.call(target), count(&group));
        } else if observer.knows(&Fact::RunFull(run, group.trust())) {
            learned.counts.further(group.job.id.clone(), group.calls);
        } else {
            self.reached.push((group, target));
        }
    }

    fn refuse(&mut self, group: Group<'e>, observer: &Observer, learned: &mut Learned) {
        let target = group.target();
        let job = &group.job.id;
        let Some(severity) = detection::of_refusal(group.event) else {
            return;
        };
        if job.is_empty() || target.endpoint.is_empty() {
            return;
        }
        let kind = crate::baseline::DetectionType::DomainBlocked;
        let fact = Fact::Detected(job.clone(), kind, target.clone());
        if observer.knows(&fact) {
            learned.counts.hit((job.clone(), kind, target), count(&group));
        } else if observer.knows(&Fact::JobFull(job.clone())) {
            learned.counts.further(job.clone(), group.calls);
        } else {
            self.refused.push((group, severity));
        }
    }

    fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.reached.is_empty() && self.refused.is_empty() && self.suffixes.is_empty()
    }
}

fn count(group: &Group<'_>) -> Count {
    Count {
        times: group.calls,
        last: group.last,
    }
}

fn suffix(group: &Group<'_>) -> Option<Fact> {
    Some(Fact::Suffix {
        owner: group.job.owner.clone(),
        repo: group.job.repo.clone(),
        workflow: group.job.workflow.clone(),
        cluster: group.job.cluster.clone(),
        name: group.event.name.clone()?,
    })
}

impl Tx<'_> {
    /// Takes note of what fresh events say.
    pub(super) async fn observe(
        &mut self,
        observer: &Arc<Observer>,
        seen: Seen<'_>,
    ) -> Result<(), StoreError> {
        let Seen { news, mut learned } = seen;
        if !news.is_empty() {
            self.note(&news, &observer.rules(), &mut learned).await?;
        }
        let observer = Arc::clone(observer);
        self.after_commit(move || observer.learn(learned));
        Ok(())
    }

    async fn note(
        &mut self,
        news: &News<'_>,
        rules: &Rules,
        learned: &mut Learned,
    ) -> Result<(), StoreError> {
        let mut ledgers = Ledgers::default();
        let groups: Vec<(&Group<'_>, Target)> = news
            .reached
            .iter()
            .map(|(group, target)| (group, target.clone()))
            .collect();
        let rows = self.sift(news, &mut ledgers, learned).await?;
        self.load_ledgers(&mut ledgers, &groups).await?;
        let mut drafts = Drafts::default();
        ledgers.advance(&groups, |scope, number, outcome| {
            let (group, target) = groups.get(number)?;
            match outcome {
                Outcome::Inside => None,
                Outcome::Outside => drafts.outside(group, target, scope),
                Outcome::Told(id) => {
                    drafts.again(id, number, group);
                    None
                }
            }
        });
        for (group, severity) in &news.refused {
            drafts.refused(group, *severity);
        }
        if !drafts.is_empty() {
            let settled = self.write_detections(&drafts, rules, &mut learned.facts).await?;
            ledgers.settle(&settled);
        }
        self.write_ledgers(&ledgers).await?;
        self.insert_observations(&rows).await?;
        self.insert_suffixes(&news.suffixes, &mut learned.facts).await
    }

    /// Tells what is new of runs from what is stored, and enters it in the ledgers of its scopes.
    async fn sift<'n, 'e>(
        &mut self,
        news: &'n News<'e>,
        ledgers: &mut Ledgers,
        learned: &mut Learned,
    ) -> Result<Vec<Row<'n, 'e>>, StoreError> {
        let reached = news.reached.iter().map(|(group, _)| group);
        let runs = news
            .runs
            .iter()
            .chain(reached)
            .filter_map(|group| Run::of(group.job));
        let mut prior = self.prior(runs, &mut learned.facts).await?;
        let mut rows = Vec::new();
        for group in &news.runs {
            let sightings = Run::of(group.job).and_then(|run| prior.get_mut(&run));
            let Some(sightings) = sightings else { continue };
            let place = (&group.job.workflow, &group.job.cluster);
            if let Some(first) = sightings.note((None, group.trust()), place) {
                ledgers.enter(Deed::Run, group, 0, first);
                rows.push((group, None));
            }
            learned.facts.extend(group.sighting(None));
        }
        for (number, (group, target)) in news.reached.iter().enumerate() {
            let run = Run::of(group.job);
            let sightings = run.as_ref().and_then(|run| prior.get_mut(run));
            let (Some(run), Some(sightings)) = (run, sightings) else {
                continue;
            };
            if sightings.is_full(group.trust()) {
                ledgers.drop_one(group);
                learned.counts.further(group.job.id.clone(), group.calls);
                learned.facts.push(Fact::RunFull(run, group.trust()));
                continue;
            }
            let place = (&group.job.workflow, &group.job.cluster);
            match sightings.note((Some(target.clone()), group.trust()), place) {
                Some(first) => {
                    ledgers.enter(Deed::Reached, group, number, first);
                    rows.push((group, Some(target.clone())));
                }
                // Stored by another control plane, or before this one began.
                None => learned.counts.call(group.call(target.clone()), count(group)),
            }
            learned.facts.extend(group.sighting(Some(target.clone())));
        }
        Ok(rows)
    }

    /// Keeps names that resolvers made, as many as a scope has room for.
    async fn insert_suffixes(
        &mut self,
        groups: &[Group<'_>],
        facts: &mut Vec<Fact>,
    ) -> Result<(), StoreError> {
        for group in groups {
            let Some(name) = &group.event.name else { continue };
            for scope in scopes(group.job) {
                sqlx::query(
                    "INSERT INTO suffix_names (scope, name, at) SELECT $1, $2, CAST($3 AS BIGINT) WHERE \
                     (SELECT COUNT(*) FROM suffix_names WHERE scope = $4) < $5 \
                     ON CONFLICT (scope, name) DO NOTHING",
                )
                .bind(scope.to_string())
                .bind(name.as_str())
                .bind(Micros::from(group.first).0)
                .bind(scope.to_string())
                .bind(MAX_SUFFIXES)
                .execute(self.connection())
                .await?;
            }
            facts.extend(suffix(group));
        }
        Ok(())
    }
}
