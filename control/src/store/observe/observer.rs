//! What a process remembers of what it stored: facts that need no second look, counts that wait to be added.
//!
//! Facts only ever come true by a commit ([`Observer::learn`] runs after it) and never become untrue before they are too
//! old to be told again, so neither an undone transaction nor another control plane makes one wrong. Counts of what was
//! known already are added every few seconds: a crash loses those, and nothing else.

use std::sync::Arc;

use arc_swap::ArcSwap;
use compact_str::CompactString;
use hashbrown::HashMap;
use jiff::Timestamp;
use parking_lot::Mutex;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::baseline::rule::{Rule, Subject};
use crate::baseline::sighting::Run;
use crate::baseline::{DetectionType, Target, Trust};

/// Facts that are remembered, about; and the bytes that they may take.
const FACTS: usize = 1 << 18;
const BYTES: u64 = 96 << 20;
/// Things whose counts wait; what else is told then is not counted until the next flush.
const MAX_PENDING: usize = 100_000;

/// Something that is stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fact {
    /// A run was seen here (without a target), or reached this.
    Sighting {
        run: Run,
        workflow: CompactString,
        cluster: CompactString,
        trust: Trust,
        target: Option<Target>,
    },
    /// A run reached as much as is kept of one that is believed so far.
    RunFull(Run, Trust),
    /// A name is a search suffix's, in these scopes.
    Suffix {
        owner: CompactString,
        repo: CompactString,
        workflow: CompactString,
        cluster: CompactString,
        name: CompactString,
    },
    /// A job has a detection of this.
    Detected(CompactString, DetectionType, Target),
    /// A job has as many as it may.
    JobFull(CompactString),
}

/// Whose calls of what are counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Call {
    pub(super) owner: CompactString,
    pub(super) repo: CompactString,
    pub(super) workflow: CompactString,
    pub(super) cluster: CompactString,
    pub(super) target: Target,
}

/// How often, and when last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) times: u64,
    pub(super) last: Timestamp,
}

/// What a transaction teaches when it is committed.
#[derive(Debug, Default)]
pub(super) struct Learned {
    pub(super) facts: Vec<Fact>,
    pub(super) counts: Counts,
}

/// Counts of what is known already.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) calls: HashMap<Call, Count>,
    /// By job: refusals that are detected already.
    pub(super) hits: HashMap<(CompactString, DetectionType, Target), Count>,
    /// By job: what came after its last detection.
    pub(super) further: HashMap<CompactString, u64>,
}

impl Counts {
    pub(super) fn call(&mut self, call: Call, count: Count) {
        bounded_add(&mut self.calls, call, count);
    }

    pub(super) fn hit(&mut self, of: (CompactString, DetectionType, Target), count: Count) {
        bounded_add(&mut self.hits, of, count);
    }

    pub(super) fn further(&mut self, job: CompactString, times: u64) {
        if self.further.len() < MAX_PENDING || self.further.contains_key(&job) {
            let sum = self.further.entry(job).or_default();
            *sum = sum.saturating_add(times);
        }
    }

    fn merge(&mut self, other: Self) {
        for (call, count) in other.calls {
            self.call(call, count);
        }
        for (of, count) in other.hits {
            self.hit(of, count);
        }
        for (job, times) in other.further {
            self.further(job, times);
        }
    }

    fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.hits.is_empty() && self.further.is_empty()
    }
}

fn bounded_add<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, Count>, key: K, count: Count) {
    if counts.len() >= MAX_PENDING && !counts.contains_key(&key) {
        return;
    }
    let sum = counts.entry(key).or_insert(Count { times: 0, ..count });
    sum.times = sum.times.saturating_add(count.times);
    sum.last = sum.last.max(count.last);
}

/// Suppression rules, as they were last read.
#[derive(Debug, Default)]
pub(in crate::store) struct Rules {
    /// Which state of the table it is.
    pub(in crate::store) version: String,
    /// The rules.
    pub(in crate::store) rules: Vec<Rule>,
}

impl Rules {
    /// The first rule that covers something.
    pub(in crate::store) fn covering(&self, subject: &Subject<'_>, now: Timestamp) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.covers(subject, now))
    }

    /// Whether any rule asks for processes.
    pub(in crate::store) fn ask_processes(&self) -> bool {
        self.rules.iter().any(|rule| rule.text().process.is_some())
    }
}

/// What a process remembers.
pub(in crate::store) struct Observer {
    known: Cache<Fact, (), Size>,
    pending: Mutex<Counts>,
    rules: ArcSwap<Rules>,
    /// The state of the rules by which what is stored was looked through last.
    swept: Mutex<Option<String>>,
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Observer")
            .field("facts", &self.known.len())
            .finish_non_exhaustive()
    }
}

impl Default for Observer {
    fn default() -> Self {
        Self {
            known: Cache::with_weighter(FACTS, BYTES, Size),
            pending: Mutex::default(),
            rules: ArcSwap::default(),
            swept: Mutex::default(),
        }
    }
}

impl Observer {
    pub(super) fn knows(&self, fact: &Fact) -> bool {
        self.known.get(fact).is_some()
    }

    /// After the commit.
    pub(super) fn learn(&self, learned: Learned) {
        for fact in learned.facts {
            self.known.insert(fact, ());
        }
        self.pending.lock().merge(learned.counts);
    }

    /// Takes the counts that wait.
    pub(super) fn take(&self) -> Option<Counts> {
        let counts = std::mem::take(&mut *self.pending.lock());
        (!counts.is_empty()).then_some(counts)
    }

    /// Puts them back: they were not stored.
    pub(super) fn put_back(&self, counts: Counts) {
        self.pending.lock().merge(counts);
    }

    /// The rules.
    pub(in crate::store) fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// Whether what is stored was looked through by the rules as they are.
    pub(in crate::store) fn is_swept(&self) -> bool {
        self.swept.lock().as_deref() == Some(self.rules().version.as_str())
    }

    /// It was, by the rules of this state.
    pub(in crate::store) fn swept(&self, version: &str) {
        *self.swept.lock() = Some(version.to_owned());
    }

    /// Other rules are in force.
    pub(in crate::store) fn set_rules(&self, rules: Rules) {
        self.rules.store(Arc::new(rules));
    }
}

/// Bytes of a fact, about.
#[derive(Clone, Debug)]
struct Size;

impl Weighter<Fact, ()> for Size {
    fn weight(&self, fact: &Fact, (): &()) -> u64 {
        let heap = |text: &CompactString| if text.is_heap_allocated() { text.len() } else { 0 };
        let target = |target: &Target| heap(&target.endpoint);
        let run = |run: &Run| heap(&run.repo) + heap(&run.run);
        let texts = match fact {
            Fact::Sighting {
                run: of,
                workflow,
                cluster,
                target: what,
                ..
            } => run(of) + heap(workflow) + heap(cluster) + what.as_ref().map_or(0, target),
            Fact::RunFull(of, _) => run(of),
            Fact::Suffix {
                owner,
                repo,
                workflow,
                cluster,
                name,
            } => [owner, repo, workflow, cluster, name].into_iter().map(heap).sum(),
            Fact::Detected(job, _, what) => heap(job) + target(what),
            Fact::JobFull(job) => heap(job),
        };
        (size_of::<Fact>() + 64 + texts) as u64
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn job(at: usize) -> CompactString {
        compact_str::format_compact!("job_{at}")
    }

    #[test]
    fn counts_wait_until_they_are_taken_and_come_back_when_they_were_not_stored() {
        let observer = Observer::default();
        assert!(observer.take().is_none());
        let learn = || {
            let mut learned = Learned::default();
            learned.counts.further(job(1), 2);
            observer.learn(learned);
        };
        learn();
        let taken = observer.take().unwrap();
        learn();
        observer.put_back(taken);
        assert_eq!(observer.take().unwrap().further[&job(1)], 4);
        assert!(observer.take().is_none());
    }

    #[test]
    fn what_waits_and_what_is_remembered_is_bounded() {
        let mut counts = Counts::default();
        for at in 0..MAX_PENDING + 10 {
            counts.further(job(at), 1);
        }
        counts.further(job(0), 1);
        assert_eq!((counts.further.len(), counts.further[&job(0)]), (MAX_PENDING, 2));
        let observer = Observer::default();
        let long = "x".repeat(1_000);
        let facts = (0..120_000).map(|at| Fact::JobFull(compact_str::format_compact!("{at}{long}")));
        observer.learn(Learned {
            facts: facts.collect(),
            ..Learned::default()
        });
        assert!(observer.known.weight() <= BYTES, "{}", observer.known.weight());
        assert!(observer.known.len() > 10_000, "{}", observer.known.len());
    }
}
